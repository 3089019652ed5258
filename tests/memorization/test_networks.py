"""Networks: formulas of v, training that can be interrupted, weights on disk, samplers against exact laws, and the committed networks."""

import json
import math

import pytest
import torch

from physgen.diffusion import score as diffusion
from physgen.diffusion.processes import ou_step
from physgen.exact import gaussian, speciation
from physgen.memorization import collapse, images, networks

NAN = float("nan")


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def normal(*shape, seed, dtype=torch.float32):
    return torch.randn(*shape, generator=seeded(seed), dtype=dtype)


def delta(t):
    return -math.expm1(-2 * t)


def wake(model, seed=0):
    """A network whose last layers are not zero: v depends on all of x and t."""
    stream = seeded(seed)
    for p in model.parameters():
        p.data.add_(0.1 * torch.randn(p.shape, generator=stream))
    return model.eval().requires_grad_(False)


def small(seed=0, **rest):
    return networks.UNet(8, (8, 16), generator=seeded(seed), **rest)


class Gaussian(networks.UNet):
    """The best v of data N(0, σ² 1), from E[a | x] and E[z | x]."""

    variance = 0.3

    def velocity(self, x, t):
        s, root = networks._circle(t, x)
        gamma = self.variance * s**2 + root**2
        return s * (root * x / gamma) - root * (self.variance * s * x / gamma)


DIGITS = images.load("digits")


# ------------------------------------------------------------------------------------------------- the network


def test_score_and_denoiser_of_the_best_v_are_those_of_the_law():
    model = Gaussian(8)
    x, covariance = normal(5, 64, seed=1, dtype=torch.float64), 0.3 * torch.eye(64, dtype=torch.float64)
    for t in (1e-3, 0.1, 1.0, 4.0):
        exact = gaussian.score(x, t, torch.zeros(64, dtype=torch.float64), covariance)
        # two terms of order 1/Δ cancel to leave S: rounding times 1/Δ
        assert torch.allclose(model(x, t), exact, rtol=1e-12, atol=1e-13 / delta(t))
        mean = 0.3 * math.exp(-t) / (0.3 * math.exp(-2 * t) + delta(t)) * x
        assert torch.allclose(model.denoise(x, t), mean, rtol=1e-12, atol=1e-13)


def test_the_denoiser_is_tweedies_of_the_score():
    model, x = wake(small()), normal(6, 64, seed=2)
    for t in (0.01, 0.3, 1.5):
        # S is of order v/√Δ, so in float32 e^t (x + Δ S) is good to e^t 10⁻⁶
        expected = diffusion.tweedie(x, model, t)
        assert torch.allclose(model.denoise(x, t), expected, rtol=0, atol=1e-5 * math.exp(t))


def test_an_untrained_network_is_the_score_of_noise():
    x = normal(3, 64, seed=3)
    assert torch.equal(small()(x, 0.2), -x)


def test_the_network_sees_pixels_whatever_the_data_are_centred_by():
    mean = normal(64, seed=4)
    centred, plain = wake(small(mean=mean)), wake(small())
    x, t = normal(3, 64, seed=5), 0.4
    assert torch.allclose(
        centred.velocity(x, t), plain.velocity(x + math.exp(-t) * mean, t), rtol=0, atol=1e-6
    )


def test_rows_do_not_see_each_other_and_may_have_times_of_their_own():
    model, x = wake(small()), normal(4, 64, seed=6)
    times = torch.tensor([0.05, 0.5, 1.0, 3.0])
    alone = torch.cat([model(x[i : i + 1], float(times[i])) for i in range(4)])
    assert torch.allclose(model(x, times), alone, rtol=1e-4, atol=1e-5)
    assert model(x.double(), 0.5).dtype == torch.float64
    for side, channels in (
        (14, (16, 32)),
        (28, (8,)),
        (2, (8, 8, 8)),
    ):  # 7 × 7 halves to 4 × 4, 1 × 1 to itself
        net = wake(networks.UNet(side, channels))
        assert net(normal(2, side**2, seed=7), 0.3).shape == (2, side**2)


def test_first_weights_come_from_the_generator_and_leave_the_global_stream_alone():
    before = torch.random.get_rng_state()
    a, b, c, fresh = small(seed=1), small(seed=1), small(seed=2), networks.UNet(8, (8, 16))
    assert torch.equal(torch.random.get_rng_state(), before)
    first = [net.enter.weight for net in (a, b, c, fresh)]
    assert torch.equal(first[0], first[1])
    assert not torch.equal(first[0], first[2]) and not torch.equal(first[2], first[3])


# ------------------------------------------------------------------------------------------------- losses


def test_the_loss_of_an_untrained_network_is_the_size_of_v():
    # v = s z − √Δ a with s² and Δ of mean ½ over the circle: ½ + ½ |a|²/d
    a = 0.6 * normal(4000, 64, seed=8)
    found = networks.velocity_loss(small(), a, seeded(9)).item()
    # an image's mean of v² lies between 0.36 and 1: standard deviation 0.23 over angles, and less than 0.2 from its 64 pixels
    assert abs(found - 0.5 - a.square().mean().item() / 2) < 4 * 0.31 / math.sqrt(4000)


def test_the_least_loss_of_gaussian_data_is_their_deviation():
    # at one time σ²/Γ, and the mean of σ²/(σ² cos² ϑ + sin² ϑ) over the circle is σ
    a = math.sqrt(0.3) * normal(4000, 64, seed=29)
    found = networks.velocity_loss(Gaussian(8), a, seeded(30)).item()
    # σ²/Γ lies between 0.3 and 1: standard deviation 0.25 over angles, and 0.18 times itself from 64 pixels
    assert abs(found - math.sqrt(0.3)) < 4 * 0.29 / math.sqrt(4000)


def test_the_held_out_loss_of_the_exact_score_is_its_minimum():
    variance, d = 0.3, 64
    a, covariance = math.sqrt(variance) * normal(2000, d, seed=10), variance * torch.eye(d)

    def exact(x, t):
        return gaussian.score(x, t, torch.zeros(d), covariance)

    for t in (0.05, 0.5, 2.0):
        gamma = variance * math.exp(-2 * t) + delta(t)
        least = networks.held_out_loss(exact, a, t, seeded(11))
        # E|a − â|²/d = σ²Δ/Γ
        assert abs(least.mean - variance / gamma) < 4 * least.error
        # any other score costs (Δ/s²) E|S_θ − S|²/d more; the same noise in both
        other = networks.held_out_loss(lambda x, t: -x, a, t, seeded(11))
        excess = delta(t) * math.exp(2 * t) * (1 / gamma - 1) ** 2 * gamma
        assert abs(other.mean - least.mean - excess) < 4 * math.hypot(other.error, least.error)


def test_the_training_loss_is_the_held_out_loss_averaged_over_the_circle():
    model, a = wake(small()), DIGITS.test[:300]
    phi = (torch.arange(24) + 0.5) / 24 * math.pi / 2
    found = [networks.held_out_loss(model, a, -math.log(math.cos(p)), seeded(12)) for p in phi]
    loss = torch.tensor([networks.velocity_loss(model, a, seeded(k)).item() for k in range(12)])
    error = math.hypot(float(loss.std()) / math.sqrt(12), sum(f.error for f in found) / 24)
    assert abs(sum(f.mean for f in found) / 24 - float(loss.mean())) < 4 * error


# ------------------------------------------------------------------------------------------------- training


def trained(tmp_path=None, stop=None, watch=None, seed=1):
    """Nine steps with an entry every three; `stop` interrupts at the entry of that step."""

    def see(model):
        out = watch(model) if watch else {}
        if stop is not None and len(seen) * 3 + 3 == stop:
            raise KeyboardInterrupt
        seen.append(out)
        return out

    seen, own = [], seeded(seed)
    path = tmp_path / "state.pt" if tmp_path else None
    return networks.train(
        small(seed), DIGITS.images, 9, 16, generator=own, checkpoint=path, every=3, watch=see
    )


def test_training_that_was_interrupted_ends_with_the_same_weights(tmp_path):
    whole = trained()
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path, stop=6)  # the checkpoint of step 3 stays: the entry of step 6 was not whole
    assert torch.load(tmp_path / "state.pt")["step"] == 3
    resumed = trained(tmp_path, seed=2)  # weights and stream come from the checkpoint
    for name, value in whole.model.state_dict().items():
        assert torch.equal(resumed.model.state_dict()[name], value), name
    assert resumed.history == whole.history and [h["step"] for h in whole.history] == [3, 6, 9]
    again = trained(tmp_path)
    assert (
        torch.equal(again.model.enter.weight, whole.model.enter.weight) and again.seconds == resumed.seconds
    )
    assert list(tmp_path.iterdir()) == [tmp_path / "state.pt"]


def test_training_is_a_function_of_its_seed_and_not_of_who_watches():
    before = torch.random.get_rng_state()
    plain, watched, other = (
        trained(),
        trained(watch=lambda m: {"x": float(m.enter.weight.sum())}),
        trained(seed=2),
    )
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(plain.model.enter.weight, watched.model.enter.weight)
    assert not torch.equal(plain.model.enter.weight, other.model.enter.weight)
    assert not plain.model.training and not any(p.requires_grad for p in plain.model.parameters())
    assert watched.history[-1]["x"] == float(plain.model.enter.weight.sum())


def test_a_checkpoint_that_does_not_fit_says_what_to_do(tmp_path):
    path = tmp_path / "state.pt"
    trained(tmp_path)
    with pytest.raises(ValueError, match=r"checkpoint: .*another training \(steps = 9 for 12\); delete it"):
        networks.train(small(), DIGITS.images, 12, 16, checkpoint=path, every=3)
    with pytest.raises(ValueError, match=r"another training \(images"):
        networks.train(small(), DIGITS.images[1:], 9, 16, checkpoint=path, every=3)
    with pytest.raises(ValueError, match=r"checkpoint: .*another network"):
        networks.train(networks.UNet(8, (8,)), DIGITS.images, 9, 16, checkpoint=path, every=3)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"checkpoint: .*damaged .*delete it"):
        trained(tmp_path)


def test_a_bar_shows_the_time_left_unless_quiet_is_asked_for(monkeypatch, capsys):
    clock = iter(range(0, 10**6, 3))  # three seconds at each look
    monkeypatch.setattr("time.time", lambda: float(next(clock)))
    monkeypatch.setattr("tqdm.std.time", lambda: float(next(clock)))
    monkeypatch.delenv("PHYSGEN_QUIET", raising=False)
    trained()
    assert "training" in capsys.readouterr().err
    monkeypatch.setenv("PHYSGEN_QUIET", "1")
    trained()
    assert capsys.readouterr().err == ""


# ------------------------------------------------------------------------------------------------- weights on disk


@pytest.fixture
def saved(tmp_path):
    model = wake(small(mean=0.5 * normal(64, seed=13)))
    network = networks.save_weights(model, tmp_path / "net.safetensors")
    (tmp_path / "net.json").write_text(json.dumps({"values": {"network": network}}))
    return model, tmp_path


def test_weights_come_back_in_half_precision(saved):
    model, folder = saved
    back = networks.load_weights("net", folder)
    for name, value in model.state_dict().items():
        assert torch.equal(back.state_dict()[name], value.half().float()), name
    assert not any(p.requires_grad for p in back.parameters()) and not back.training
    size = (folder / "net.safetensors").stat().st_size
    count = sum(v.numel() for v in model.state_dict().values())
    assert 2 * count < size < 2 * count + 10_000


def rewrite(folder, **network):
    path = folder / "net.json"
    record = json.loads(path.read_text())
    record["values"]["network"].update(network)
    path.write_text(json.dumps(record))


@pytest.mark.parametrize(
    ("harm", "told"),
    [
        (
            lambda f: (f / "net.safetensors").unlink(),
            "net.safetensors is missing; restore it .* make paper ONLY=net",
        ),
        (lambda f: (f / "net.json").unlink(), "net.json is missing; restore it .* make paper ONLY=net"),
        (lambda f: (f / "net.json").write_text("{"), "net.json is damaged.*; restore it"),
        (lambda f: (f / "net.json").write_text('{"values": {}}'), "describes no network; restore it"),
        (lambda f: (f / "net.safetensors").write_bytes(b"x"), "not the SHA-256 of net.json; restore it"),
        (
            lambda f: rewrite(f, channels=[8, 24]),
            r"does not hold the weights of UNet\(8, \(8, 24\)\); restore it",
        ),
        (lambda f: rewrite(f, channels="many"), "does not hold the weights .*; restore it"),
    ],
)
def test_weights_that_are_missing_damaged_or_of_another_network_say_what_to_do(saved, harm, told):
    harm(saved[1])
    with pytest.raises(ValueError, match=told):
        networks.load_weights("net", saved[1])


# ------------------------------------------------------------------------------------------------- descent


def test_the_grid_has_equal_angles():
    times = networks.circle_grid(3.0, 12)
    angles = torch.acos((-times).exp())
    assert torch.allclose(angles, torch.linspace(float(angles[0]), 0, 13, dtype=torch.float64), atol=1e-8)
    assert times[0] == 3.0 and times[-1] == 0
    for start in (1e-12, 30.0):  # no cosine of either is far from 1 or 0
        assert bool((networks.circle_grid(start, 10).diff() < 0).all())


def test_the_descent_is_the_sampler_of_ddpm():
    law = diffusion.ring()
    times, x = networks.circle_grid(2.0, 20), normal(50, 2, seed=14, dtype=torch.float64)
    schedule = diffusion.ddpm_schedule(-torch.expm1(-2 * times.flip(0).diff()))
    expected = diffusion.ddpm_sample(x, law.score, schedule, "posterior", seeded(15))
    found = networks.descend(x, law.score, times, seeded(15), path=True)
    assert torch.allclose(found[-1], expected, rtol=0, atol=1e-9)
    # and it can stop on the way
    stopped = networks.descend(x, law.score, times[:8], seeded(15))
    assert torch.equal(stopped, found[7])


def test_a_descent_to_one_image_is_exact_for_any_step():
    a = normal(1, 16, seed=16, dtype=torch.float64)

    def score(x, t):
        return (math.exp(-t) * a - x) / delta(t)

    start, end = 2.0, 0.3
    x = math.exp(-start) * a + math.sqrt(delta(start)) * normal(20_000, 16, seed=17, dtype=torch.float64)
    x = networks.descend(x, score, torch.tensor([start, 1.2, end], dtype=torch.float64), seeded(18))
    each = (x - math.exp(-end) * a).flatten() / math.sqrt(delta(end))
    assert abs(each.mean()) < 4 / math.sqrt(len(each))
    assert abs(each.var() - 1) < 4 * math.sqrt(2 / len(each))


def test_clones_of_two_gaussians_agree_as_the_exact_probability():
    m, variance, n = 3.0, 0.2, 5000
    law = diffusion.mixture(torch.tensor([[m], [-m]], dtype=torch.float64), variance)
    grid = torch.linspace(-8, 8, 801, dtype=torch.float64)

    def chance(times):
        """Of agreement, of the sampler with its finite steps: its kernel pulls P(x_0 > 0 | x) back from 0 to each time."""
        h = torch.special.expit(1e3 * grid)
        for u, t in zip(times.flip(0)[:-1].tolist(), times.flip(0)[1:].tolist(), strict=True):
            beta = -math.expm1(-2 * (t - u))
            mean = math.exp(t - u) * (grid + beta * law.score(grid[:, None], t)[:, 0])
            width = max(math.sqrt(beta * delta(u) / delta(t)), 0.02)  # of a step on the grid, at least
            kernel = torch.exp(-(mean[:, None] - grid).square() / (2 * width**2))
            h = kernel @ h / kernel.sum(1)
        p = law.log_density(grid[:, None], float(times[0])).exp()
        return float(p @ (h**2 + (1 - h) ** 2) / p.sum())

    t = 0.9
    x = ou_step(law.sample(n, seeded(19)), t, generator=seeded(20))
    coarse, fine = networks.circle_grid(t, 15), networks.circle_grid(t, 30)
    pairs = networks.clones(x, law.score, coarse, lambda x: (x[:, 0] > 0).long(), seeded(21))
    exact = float(speciation.cloning_probability(t, m, variance))
    # the classes are 6.7 deviations from the border; draws only
    assert abs(pairs.agreement - chance(coarse)) < 4 * math.sqrt(exact * (1 - exact) / n)
    # the steps make clones agree too often, by an error of first order: half of it at half the step, but for the next order
    missed = chance(coarse) - exact
    assert 0.4 * missed < chance(fine) - exact < 0.6 * missed < 0.02


def test_clones_and_turns_of_the_empirical_score_have_the_probability_of_the_posterior():
    data = images.load("digits", (1, 8))
    own = seeded(22)

    def score(x, t):
        return collapse.empirical_score(x, t, data.images)

    times = networks.circle_grid(4.0, 60)
    k = int((times - 0.9).abs().argmin())
    chosen = torch.randint(len(data.images), (1500,), generator=own)
    x = ou_step(data.images[chosen], float(times[k]), generator=own)
    p = collapse.weights(x, float(times[k]), data.images)[:, data.labels == 1].sum(1)
    exact = (p**2 + (1 - p) ** 2).mean().item()
    assert 0.6 < exact < 0.95  # between one half and certainty
    pairs = networks.clones(x, score, times[k:], networks.nearest_class(data.images, data.labels), own)
    turn = speciation.Pairs(data.labels[chosen], pairs.first)
    for found in (pairs, turn):
        # draws, and steps of 1/40 radian, which cost 0.01 in the test above
        assert abs(found.agreement - exact) < 0.01 + 4 * math.sqrt(exact * (1 - exact) / 1500)
    ends = networks.descend(x[:200], score, times[k:], own)
    assert bool(networks.copied(ends, data.images).all())


def test_the_nearest_image_tells_the_class():
    for name, classes in (("mnist", (1, 8)), ("fashion", (0, 9))):
        data = images.load(name, classes)
        classify = networks.nearest_class(data.images, data.labels)
        right = classify(data.test[:300]) == data.test_labels[:300]
        assert float(right.double().mean()) >= 0.99


def test_a_copy_is_much_nearer_to_one_datum_than_to_the_next():
    data = torch.tensor([[0.0, 0.0], [4.0, 0.0], [0.0, 10.0]])
    x = torch.tensor([[0.9, 0.0], [1.1, 0.0], [2.0, 0.0], [0.0, 8.0]])
    assert networks.copied(x, data).tolist() == [True, False, False, True]  # ratios 0.29, 0.38, 1 and 0.25
    assert networks.copied(x, data, 0.28).tolist() == [False, False, False, True]
    assert not networks.copied(DIGITS.test, DIGITS.images).any()


# ------------------------------------------------------------------------------------------------- the smallest network, again


def test_the_smallest_network_learns_eight_digits_by_heart():
    few, own = DIGITS.images[:8], seeded(0)
    model = networks.UNet(8, (16,), DIGITS.mean, own)
    found = networks.train(model, few, 300, 32, 1e-2, generator=own, every=100)
    # five seeds have 0.203 ± 0.006 as mean loss of the last hundred steps, and 0.49 ± 0.10 of their samples are copies
    assert abs(found.history[-1]["loss"] - 0.203) < 0.03
    samples = networks.descend(
        normal(200, 64, seed=23), found.model, networks.circle_grid(4.6, 30), seeded(24)
    )
    assert 0.1 < networks.copied(samples, few).double().mean() < 0.9
    # it knows these eight, 0.13, better than all others, 0.52
    old, new = (
        networks.held_out_loss(found.model, a, 0.3, seeded(25)) for a in (few.repeat(40, 1), DIGITS.test)
    )
    assert new.mean > 3 * old.mean


# ------------------------------------------------------------------------------------------------- the committed networks

COMMITTED = {"unet_mnist": ("mnist", (1, 8)), "unet_fashion": ("fashion", (0, 9))}


@pytest.mark.parametrize("name", COMMITTED)
def test_the_committed_networks_have_their_recorded_loss_and_know_more_than_two_moments_or_the_data(name):
    net, data = networks.load_weights(name), images.load(*COMMITTED[name])
    recorded = json.loads((networks.DATA / f"{name}.json").read_text())["values"]["history"][-1]["test"]
    found = networks.velocity_loss(net, data.test[:1000], seeded(2)).item()
    # weights rounded to 11 bits shift v by 10⁻³, its square error, which is near a minimum, by less
    assert abs(found - recorded) < 1e-3 * recorded
    mean, covariance = gaussian.fit(data.images)
    covariance += 1e-6 * torch.eye(784)  # pixels that never change
    others = {
        "gaussian": lambda x, t: gaussian.score(x, t, mean, covariance),
        "empirical": lambda x, t: collapse.empirical_score(x, t, data.images),
    }
    t, a = 0.2, data.test[-200:]
    own = networks.held_out_loss(net, a, t, seeded(26))
    for score in others.values():
        other = networks.held_out_loss(score, a, t, seeded(26))
        assert other.mean - own.mean > 4 * math.hypot(other.error, own.error)


def test_samples_of_a_committed_network_are_of_both_classes_and_no_copies():
    net, data = networks.load_weights("unet_mnist"), images.load("mnist", (1, 8))
    x = networks.descend(normal(40, 784, seed=27), net, networks.circle_grid(4.6, 30), seeded(28))
    share = (networks.nearest_class(data.images, data.labels)(x) == 8).double().mean()
    assert abs(share - 0.46) < 4 * math.sqrt(0.46 * 0.54 / 40)
    assert not networks.copied(x, data.images).any()
    # as far from the nearest training image as test images are: 4.9 ± 1.7
    near, test = (collapse.nearest(y, data.images).distance for y in (x, data.test[:200]))
    assert abs(near.mean() - test.mean()) < 4 * math.hypot(near.std() / 40**0.5, test.std() / 200**0.5)


def test_what_is_committed_is_small():
    files = [networks.DATA / f"{name}.{end}" for name in COMMITTED for end in ("safetensors", "json")]
    assert sum(f.stat().st_size for f in files) < 2e6


# ------------------------------------------------------------------------------------------------- what comes in


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: networks.UNet(7), "side"),
        (lambda: networks.UNet(8, (12,)), "channels"),
        (lambda: networks.UNet(8, ()), "channels"),
        (lambda: networks.UNet(8, mean=torch.zeros(63)), "mean"),
        (lambda: networks.UNet(8, generator=1), "generator"),
        (lambda: small()(torch.zeros(2, 63), 0.1), "x"),
        (lambda: small()(torch.full((2, 64), NAN), 0.1), "x"),
        (lambda: small()(torch.zeros(2, 64, dtype=torch.int64), 0.1), "x"),
        (lambda: small()(torch.zeros(2, 64), 0.0), "t"),
        (lambda: small()(torch.zeros(2, 64), torch.ones(3)), "t"),
        (lambda: small().denoise(torch.zeros(2, 64), -1.0), "t"),
        (lambda: networks.velocity_loss(small(), torch.zeros(0, 64)), "a"),
        (lambda: networks.train(small(), torch.zeros(2, 63), 1), "images"),
        (lambda: networks.train(small(), torch.zeros(2, 64), 0), "steps"),
        (lambda: networks.train(small(), torch.zeros(2, 64), 1, 0), "batch"),
        (lambda: networks.train(small(), torch.zeros(2, 64), 1, rate=0.0), "rate"),
        (lambda: networks.train(small(), torch.zeros(2, 64), 1, every=0), "every"),
        (lambda: networks.circle_grid(0.0, 5), "start"),
        (lambda: networks.circle_grid(1.0, 0), "steps"),
        (lambda: networks.descend(torch.zeros(2), small(), networks.circle_grid(1.0, 2)), "x_start"),
        (
            lambda: networks.descend(torch.zeros(2, 64), small(), networks.circle_grid(1.0, 2).flip(0)),
            "times",
        ),
        (lambda: networks.descend(torch.zeros(2, 64), small(), torch.ones(1)), "times"),
        (
            lambda: networks.descend(torch.zeros(2, 64), lambda x, t: x / 0, networks.circle_grid(1.0, 2)),
            "score",
        ),
        (lambda: networks.nearest_class(DIGITS.images, DIGITS.labels[1:]), "labels"),
        (lambda: networks.copied(torch.zeros(2, 64), DIGITS.images[:1]), "data"),
        (lambda: networks.copied(torch.zeros(2, 3), DIGITS.images), "x"),
        (lambda: networks.held_out_loss(small(), DIGITS.images, 0.0), "t"),
        (lambda: networks.held_out_loss(small(), DIGITS.images[:1], 0.1), "a"),
    ],
)
def test_bad_input_is_named(call, name):
    with pytest.raises(ValueError, match=rf"^{name}: "):
        call()
