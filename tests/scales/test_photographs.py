"""Photographs, and the network that denoises them: whose they are, what the architecture promises, and what was learned."""

from __future__ import annotations

import hashlib
import io
import json
import math
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image

import data as maker
from physgen.memorization import images, networks
from physgen.scales import photographs, wavelets


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def small(seed=1):
    """A network whose last layer is not zero."""
    model = photographs.PhotographDenoiser(8, 3, seeded(seed))
    with torch.no_grad():
        model.weights[-1] += 0.1 * torch.randn(model.weights[-1].shape, generator=seeded(2))
    return model.double().requires_grad_(False)


def noisy(*shape, seed=3):
    return torch.rand(shape, generator=seeded(seed), dtype=torch.float64)


# ------------------------------------------------------------------------------------------------- the data


def test_the_photographs_are_whole_small_and_say_whose_they_are():
    record = json.loads((images.DATA / "photographs.json").read_text())
    content = (images.DATA / "photographs.npz").read_bytes()
    assert hashlib.sha256(content).hexdigest() == record["sha256"]
    assert len(content) < 5e5
    known = maker.SETS["photographs"]
    assert all(record[field] == value for field, value in known.items())
    assert "CC0" in record["licence"] and "`photographs`" in (images.DATA / "README.md").read_text()
    assert len(record["classes"]) == len(maker.PIECES) == record["training"] + record["test"]
    for (name, *_), said in zip(maker.PIECES, record["classes"].values(), strict=True):
        assert said.startswith(name) and f"{name}" in record["authors"]


def test_the_camera_is_in_the_unit_range_and_not_among_those_for_training():
    x, others = photographs.photograph("camera"), photographs.training_photographs()
    assert x.shape == (256, 256) and others.shape == (8, 256, 256)
    assert 0 <= float(x.min()) < 0.05 and 0.95 < float(x.max()) <= 1
    assert float((255 * x - (255 * x).round()).abs().max()) < 1e-4  # eight bits
    assert min(float((x - other).abs().mean()) for other in others) > 0.1
    assert torch.equal(photographs.photograph("chelsea, left"), others[2])
    pooled = photographs.photograph("camera", pool=4)
    assert pooled.shape == (64, 64) and float(pooled.mean()) == pytest.approx(float(x.mean()), abs=1e-6)


def test_pieces_are_cut_averaged_and_made_grey(monkeypatch):
    rows, columns = np.mgrid[:600, :600]
    colours = np.stack([rows % 200, columns % 200, (rows + columns) % 200], -1).astype(np.uint8)
    wheel = io.BytesIO()
    with zipfile.ZipFile(wheel, "w") as archive:
        for name in ("colour", "grey"):
            png = io.BytesIO()
            Image.fromarray(colours if name == "colour" else colours[..., 0]).save(png, "png")
            archive.writestr(f"skimage/data/{name}.png", png.getvalue())
    monkeypatch.setattr(maker, "PIECES", (("grey", 2, 0, 0), ("colour", 1, 22, 40)))
    made, labels, test = maker.photographs(wheel.getvalue())
    assert made.shape == (2, 256, 256) and labels.tolist() == [0, 1] and test.tolist() == [True, False]
    assert made[0, 3, 5] == 6  # mean of rows 6 and 7, rounded to even
    r, c = 22 + 10, 40 + 20
    assert made[1, 10, 20] == round(0.2125 * r + 0.7154 * c + 0.0721 * (r + c))


def test_a_missing_wheel_is_named_with_the_command_that_fetches_it(tmp_path):
    with pytest.raises(SystemExit, match=r"pip download .*scikit-image==0\.26\.0"):
        maker.source("photographs", tmp_path)


# ------------------------------------------------------------------------------------------------- the network


def test_the_network_is_homogeneous_and_lets_brightness_pass():
    f, y = small(), noisy(2, 12, 16)
    for scale in (0.1, 7.0):
        torch.testing.assert_close(f(scale * y), scale * f(y), rtol=1e-12, atol=1e-14)
    assert float((f(-y) + f(y)).abs().max()) > 1e-3  # but it is not odd
    torch.testing.assert_close(f(y + 3.0), f(y) + 3.0, rtol=0, atol=1e-13)


def test_the_network_is_a_linear_filter_that_the_image_chooses():
    f, y = small(), noisy(1, 8, 8)
    _, along = torch.autograd.functional.jvp(f, y, y)  # J_f(y) y
    torch.testing.assert_close(along, f(y), rtol=1e-12, atol=1e-14)


def test_the_network_moves_with_its_image_by_steps_of_two():
    f, y = small(), noisy(40, 40)
    moved = f(y.roll((2, 4), (0, 1)))
    inside = slice(14, 26)  # three layers of half resolution see 2·3 + 2 pixels around
    torch.testing.assert_close(
        moved[inside, inside], f(y).roll((2, 4), (0, 1))[inside, inside], rtol=0, atol=1e-13
    )


def test_the_untrained_network_changes_nothing_and_its_loss_is_one():
    model = photographs.PhotographDenoiser(4, 2, seeded())
    y = noisy(48, 48).float()
    assert torch.equal(model(y), y)
    rows = torch.rand(64, 64**2, generator=seeded(4))
    loss = float(photographs.denoising_loss(model, rows, seeded(5)).detach())
    # E|z|²/d over 64 · 48² numbers of variance 2; float32 subtractions cost 1e-7/0.04 each
    assert abs(loss - 1) < 4.5 * math.sqrt(2 / (64 * 48**2)) + 1e-4
    assert sum(p.numel() for p in photographs.PhotographDenoiser().parameters()) == 86_400


def test_the_loss_draws_noise_evenly_in_its_logarithm():
    rows, n = torch.full((2000, 48**2), 0.5), 2000
    found = float(photographs.denoising_loss(lambda y: 0 * y, rows, seeded(6)))
    low, high = photographs.SIGMAS
    # c² E σ^{-2} = c² (low^{-2} − high^{-2})/(2 log(high/low)); E σ^{-4} alike
    log = math.log(high / low)
    mean = 0.25 * (low**-2 - high**-2) / (2 * log)
    spread = math.sqrt(0.0625 * (low**-4 - high**-4) / (4 * log) - mean**2)
    assert abs(found - mean) < 4.5 * spread / math.sqrt(n)


def test_pieces_are_turned_and_mirrored_and_lie_anywhere():
    row = (torch.arange(64**2, dtype=torch.float32) / 64**2).expand(400, -1)
    seen = []

    def watch(y):
        seen.append(y)
        return y

    photographs.denoising_loss(watch, row, seeded(7))
    mean = seen[0].mean((1, 2))  # of the piece, for noise averages out
    slopes = torch.stack([seen[0][:, :24].mean((1, 2)) - mean, seen[0][..., :24].mean((1, 2)) - mean], 1)
    # rows of the image grow by 1/64 each: half a piece differs from it by ±12/64 along one axis, little along the other
    assert {tuple(s) for s in (slopes / (12 / 64)).round().int().tolist()} == {
        (1, 0),
        (-1, 0),
        (0, 1),
        (0, -1),
    }
    assert 0.35 < float(mean.min()) < 0.40 and 0.60 < float(mean.max()) < 0.65


def test_training_learns_and_one_seed_gives_one_network():
    rows = photographs.training_photographs()[:2, :64, :64].flatten(1)
    found = []
    for _ in range(2):
        model = photographs.PhotographDenoiser(8, 3, seeded(8))
        trained = networks.train(
            model, rows, 40, 4, rate=3e-2, generator=seeded(9), every=10, loss=photographs.denoising_loss
        )
        found.append(trained)
    # the loss of ten steps of four pieces of 48² pixels scatters by a few per mille where nothing is learned
    assert found[0].history[-1]["loss"] < 0.95 * found[0].history[0]["loss"]
    for one, other in zip(found[0].model.parameters(), found[1].model.parameters(), strict=True):
        assert torch.equal(one, other)


# ------------------------------------------------------------------------------------------------- what was learned


def test_the_committed_network_is_the_recorded_one_and_beats_wiener_and_the_thresholds():
    record = json.loads((images.DATA / "denoiser_photographs.json").read_text())["values"]
    x, net = photographs.photograph("camera"), photographs.load_denoiser()
    assert record["network"]["parameters"] == sum(p.numel() for p in net.parameters()) < 100_000
    noise = torch.randn(256, 256, generator=seeded(2))
    b = wavelets.radial_spectrum(x)
    for sigma, recorded in zip((0.05, 0.1, 0.2), record["history"][-1]["test"], strict=True):
        y = x + sigma * noise
        found = wavelets.psnr(net(y), x)
        assert found == pytest.approx(recorded, abs=0.03)  # weights in half precision since
        others = [wavelets.wiener_denoise(y, b, sigma)]
        others += [wavelets.denoise(y, sigma, "haar", rule, dims=2) for rule in ("soft", "hard")]
        others += [wavelets.denoise(y, sigma, "haar", "hard", 3 * sigma, dims=2, shifts=4)]
        assert found > max(wavelets.psnr(other, x) for other in others)


def test_bases_come_in_one_order_for_the_oracle_for_compression_and_for_the_threshold():
    x, sigma = photographs.photograph("camera").double(), 0.1
    y = x + sigma * torch.randn(x.shape, generator=seeded(5), dtype=torch.float64)
    rows = []
    for basis in ("haar", "db4", "db2", "db8", "dct", "fourier"):
        c = wavelets.analyse(x, basis, 2).flatten()
        left = wavelets.approximation_errors(c)[len(c) // 20]
        cut = (wavelets.denoise(y, sigma, basis, "hard", dims=2) - x).square().sum()
        rows.append([float(wavelets.oracle_risks(c, sigma).binary), float(left), float(cut)])
    for errors in zip(*rows, strict=True):  # WAV-10
        assert list(errors) == sorted(errors)
        assert errors[-2] > 10**0.16 * errors[0]  # cosines are 1.6 to 3.6 dB behind Haar


def test_weights_that_are_missing_or_damaged_say_what_to_do(tmp_path):
    for end in ("json", "safetensors"):
        content = (images.DATA / f"denoiser_photographs.{end}").read_bytes()
        (tmp_path / f"denoiser_photographs.{end}").write_bytes(content)
    photographs.load_denoiser(tmp_path)
    path = tmp_path / "denoiser_photographs.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(ValueError, match=r"damaged.*make paper ONLY=denoiser_photographs"):
        photographs.load_denoiser(tmp_path)
    path.unlink()
    with pytest.raises(ValueError, match=r"missing.*git checkout book/data"):
        photographs.load_denoiser(tmp_path)


def test_bad_input_is_refused_by_name():
    model = photographs.PhotographDenoiser(4, 2, seeded())
    for bad in (
        torch.zeros(5, 6),
        torch.zeros(6),
        torch.zeros(2, 2),
        torch.zeros(8, 8).long(),
        torch.full((8, 8), torch.nan),
        None,
    ):
        with pytest.raises(ValueError, match=r"^y"):
            model(bad)
    for call, name in (
        (lambda: photographs.photograph("lena"), "name"),
        (lambda: photographs.photograph(pool=3), "pool"),
        (lambda: photographs.PhotographDenoiser(0), "channels"),
        (lambda: photographs.PhotographDenoiser(4, 1), "depth"),
        (lambda: photographs.denoising_loss(model, torch.zeros(2, 40**2)), "rows"),
        (lambda: photographs.denoising_loss(model, torch.zeros(2, 5000)), "rows"),
    ):
        with pytest.raises(ValueError, match=f"^{name}"):
            call()
