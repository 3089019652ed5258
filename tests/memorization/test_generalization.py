"""Generalization: softmax denoisers by hand, networks by autograd and by their own parts, random matrices by draws, gradient flow by its
equation, random features by sums over noise, and the committed run by a network trained again."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.linalg import expm

from physgen import results
from physgen.diffusion import denoisers
from physgen.exact import gaussian
from physgen.memorization import collapse
from physgen.memorization import generalization as learning
from physgen.memorization.networks import copied

NAN, INF = float("nan"), float("inf")
MASKS = denoisers.jump_masks(16)
SIGMA = 0.3


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def normal(*shape, seed, dtype=torch.float64):
    return torch.randn(*shape, generator=seeded(seed), dtype=dtype)


def signals(*shape, seed):
    return denoisers.draw(math.prod(shape), MASKS, generator=seeded(seed)).view(*shape, 16)


def softmax(data):
    return lambda y: learning.softmax_denoiser(y, SIGMA, data)


# ------------------------------------------------------------------------------------------------- the softmax denoiser


def test_the_softmax_denoiser_is_a_weighted_mean_of_the_data_and_the_empirical_score_in_another_guise():
    data, y = normal(9, 4, seed=1), normal(7, 4, seed=2)
    square = (y[:, None] - data).square().sum(2)
    expected = (-square / (2 * SIGMA**2)).softmax(1) @ data
    found = learning.softmax_denoiser(y, SIGMA, data)
    assert torch.allclose(found, expected, rtol=0, atol=1e-12)
    t = denoisers.noise_time(SIGMA)
    s = math.exp(-t)
    tweedie = (s * y - math.expm1(-2 * t) * collapse.empirical_score(s * y, t, data)) / s
    assert torch.allclose(found, tweedie, rtol=0, atol=1e-12)
    both = learning.softmax_denoiser(torch.stack([y, -y]), SIGMA, torch.stack([data, data + 1]))
    assert torch.equal(both[0], found)
    assert torch.equal(both[1], learning.softmax_denoiser(-y, SIGMA, data + 1))


def test_no_network_has_less_error_on_its_data_than_the_softmax_denoiser():
    # E|f − x|² − E|x̂_n − x|² = E|f − x̂_n|² over the data and their noise: the cross term has mean zero
    data, g = signals(2, 6, seed=3), seeded(4)
    networks = learning.Networks(2, 16, 32, generator=g)
    learning.train(networks, data, 100, generator=g)
    x = data.repeat(1, 1000, 1)
    y = x + SIGMA * normal(*x.shape, seed=5)
    with torch.no_grad():
        f, best = networks(y, SIGMA), learning.softmax_denoiser(y, SIGMA, data)
    for r in range(2):
        cross = ((f[r] - best[r]) * (best[r] - x[r])).sum(1)
        assert abs(cross.mean()) < 5 * cross.std() / math.sqrt(len(cross))
        assert (f[r] - x[r]).square().sum(1).mean() > (best[r] - x[r]).square().sum(1).mean()


def test_without_noise_the_softmax_denoiser_answers_with_the_nearest_datum_also_to_new_signals():
    data, x, sigma = signals(8, seed=6), signals(400, seed=7), 1e-3
    z = normal(400, 16, seed=8)
    found = (learning.softmax_denoiser(x + sigma * z, sigma, data) - x).norm(dim=1)
    nearest = collapse.nearest(x, data).distance
    # the datum nearest to y is at most 2σ|z| further from x than the one nearest to x, and a mean of data enters only at ties
    clear = torch.cdist(x + sigma * z, data).topk(2, largest=False).values.square().diff(dim=1)[:, 0] > 1e-3
    assert clear.double().mean() > 0.9
    assert bool((found >= nearest - 1e-9)[clear].all())
    assert bool((found <= nearest + 2 * sigma * z.norm(dim=1) + 1e-9)[clear].all())
    # which is an error of order one, where the best denoiser has 3σ² or so
    assert found.square().mean() > 1 > 1e5 * denoisers.mmse(sigma, MASKS, generator=seeded(9)).mean


def test_of_one_datum_everything_is_known():
    # f = a: no error on it, |a|² + E|x|² = |a|² + d on new signals, |a₁ − a₂|² between two
    data = signals(2, 1, seed=10)
    mean, error = learning.measure(softmax(data), data, SIGMA, MASKS, 4000, generator=seeded(11))
    assert torch.equal(mean.train, torch.zeros(2, dtype=torch.float64))
    expected = data[:, 0].square().sum(1) + 16
    assert bool(((mean.test - expected).abs() < 5 * error.test).all())
    assert abs(mean.disagreement - (data[0] - data[1]).square().sum()) < 1e-9


@pytest.mark.parametrize(("n", "train", "test"), [(8, 0.002, 7.39), (64, 0.048, 2.85), (1024, 0.16, 0.72)])
def test_softmax_denoisers_have_the_errors_of_the_claim(n, train, test):
    data = signals(20, n, seed=12)
    mean, _ = learning.measure(softmax(data), data, SIGMA, MASKS, 500, generator=seeded(13))
    # the claim was read off one data set, or two: they scatter
    for found, claim in ((mean.train, train), (mean.test, test)):
        assert abs(found.mean() - claim) < 4 * found.std()
    # and all have less error on their data than a denoiser of new signals can have
    assert bool((mean.train < denoisers.mmse(SIGMA, MASKS, generator=seeded(14)).mean).all())


# ------------------------------------------------------------------------------------------------- what is measured


def test_the_test_error_is_that_of_fresh_signals_with_less_noise():
    data = signals(2, 32, seed=15)
    mean, error = learning.measure(softmax(data), data, SIGMA, MASKS, 4000, generator=seeded(16))
    x = signals(20_000, seed=17)
    y = x + SIGMA * normal(*x.shape, seed=18)
    plain = (learning.softmax_denoiser(y, SIGMA, data[0]) - x).square().sum(1)
    spread = math.hypot(float(plain.std()) / math.sqrt(len(plain)), float(error.test[0]))
    assert abs(plain.mean() - mean.test[0]) < 5 * spread
    excess = denoisers.excess_error(
        lambda y: learning.softmax_denoiser(y, SIGMA, data[0]), SIGMA, MASKS, 4000, seeded(19)
    )
    assert abs(excess.mean - mean.excess[0]) < 5 * math.hypot(excess.error, float(error.excess[0]))
    floor = denoisers.mmse(SIGMA, MASKS, 4000, seeded(20))
    assert abs(float(mean.test[0] - mean.excess[0]) - floor.mean) < 5 * math.sqrt(2) * floor.error


def test_what_two_denoisers_differ_by_and_what_they_share_make_up_their_errors():
    # ½ Σ|f_i − x̂|² = |½(f₁ + f₂) − x̂|² + ¼|f₁ − f₂|² at every point, so it holds for the means over the same draws
    data = signals(2, 16, seed=21)
    f = softmax(data)
    apart, _ = learning.measure(f, data, SIGMA, MASKS, 300, generator=seeded(22))
    common, _ = learning.measure(
        lambda y: f(y).mean(0).expand(2, -1, -1), data, SIGMA, MASKS, 300, generator=seeded(22)
    )
    assert abs(apart.excess.mean() - common.excess[0] - apart.disagreement[0] / 4) < 1e-12
    assert common.disagreement[0] == 0


def test_sizes_hide_the_rest_of_the_data():
    data = signals(2, 8, seed=23)
    few, _ = learning.measure(softmax(data[:, :3]), data, SIGMA, MASKS, 30, [3, 3], seeded(24))
    same, _ = learning.measure(softmax(data[:, :3]), data[:, :3], SIGMA, MASKS, 30, generator=seeded(24))
    for one, other in zip(few, same, strict=True):
        assert torch.equal(one, other)


def test_crossing_times_of_powers_are_exact_and_there_may_be_none():
    times = torch.logspace(0, 4, 9, dtype=torch.float64)
    values = torch.stack([8 / times, 100 / times**2, times, torch.full_like(times, 0.1)], 1)
    found = learning.crossing_time(times, values, 0.5)
    assert torch.allclose(found[:2], torch.tensor([16, math.sqrt(200)], dtype=torch.float64), rtol=1e-12)
    assert bool(found[2].isnan()) and found[3] == 1
    assert float(learning.crossing_time(times.round().long(), values[:, 0], 0.5)) == pytest.approx(
        16, rel=0.02
    )


# ------------------------------------------------------------------------------------------------- networks side by side


def test_each_network_is_a_perceptron_of_its_own_that_starts_from_zero():
    networks = learning.Networks(3, 5, 7, dtype=torch.float64, generator=seeded(25))
    y = normal(4, 5, seed=26)
    assert torch.equal(networks(y, 0.5), torch.zeros(3, 4, 5, dtype=torch.float64))
    with torch.no_grad():
        for parameter in networks.parameters():
            parameter.copy_(normal(*parameter.shape, seed=27))
    sigma = 0.5
    for r in range(3):
        x = torch.cat(
            [y / math.sqrt(1 + sigma**2), torch.full((4, 1), math.log(sigma) / 2, dtype=torch.float64)], 1
        )
        for layer in range(3):
            x = (x.relu() if layer else x) @ networks.weights[layer][r] + networks.biases[layer][r]
        assert torch.allclose(networks(y, sigma)[r], x, rtol=0, atol=1e-12)
    each = networks(y.expand(3, -1, -1), torch.full((3, 4, 1), sigma, dtype=torch.float64))
    assert torch.allclose(each, networks(y, sigma), rtol=0, atol=1e-13)


def test_weights_have_the_variance_of_he_and_a_seed_is_a_network():
    one, other = (learning.Networks(8, 16, 128, generator=seeded(28)) for _ in range(2))
    for w, fan_in in zip(one.weights[:2], (17, 128), strict=True):
        # the variance of N normal numbers is known to √(2/N)
        assert abs(float(w.detach().var()) * fan_in / 2 - 1) < 5 * math.sqrt(2 / w.numel())
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def test_networks_that_learn_side_by_side_do_not_see_each_other_nor_data_beyond_their_sizes():
    data = signals(2, 8, seed=29)
    other = data.clone()
    other[1] *= -3
    other[0, 4:] = 100.0
    found = []
    for x in (data, other):
        networks = learning.Networks(2, 16, 16, dtype=torch.float64, generator=seeded(30))
        losses = learning.train(networks, x, 20, sizes=[4, 8], generator=seeded(31))
        found.append((losses[:, 0], networks.weights[1][0].detach()))
    assert torch.equal(found[0][0], found[1][0])
    # batched products may add in another order
    assert torch.allclose(found[0][1], found[1][1], rtol=0, atol=1e-12)


def test_the_first_loss_is_the_power_of_the_signals_and_training_leaves_the_global_stream_alone():
    data, before = signals(2, 4000, seed=32), torch.random.get_rng_state()
    networks = learning.Networks(2, 16, 8, generator=seeded(33))
    steps = []
    losses = learning.train(
        networks, data, 20, batch=4000, rate=0.01, watch=steps.append, generator=seeded(34)
    )
    assert torch.equal(torch.random.get_rng_state(), before) and steps == list(range(1, 21))
    # f = 0: E|x|² = d, over 4000 draws; |x|² has a standard deviation of √(2(m² + (d − m)²)) < √2 d
    assert abs(losses[0].mean() - 16) < 5 * math.sqrt(2) * 16 / math.sqrt(8000)
    assert bool((losses[-1] < losses[0] - 1).all())
    # for a range of noises the loss is divided by σ²/(1 + σ²) + 0.05, so that from f = 0 it is d E 1/(…)
    networks = learning.Networks(2, 16, 8, generator=seeded(33))
    ranged = learning.train(networks, data, 1, (0.1, 1.0), batch=4000, generator=seeded(34))
    s2 = torch.exp(torch.linspace(math.log(0.1), 0, 10_001, dtype=torch.float64)) ** 2
    weight = float((1 / (s2 / (1 + s2) + 0.05)).mean())
    # the weight is at most 17, its product with |x|² has a standard deviation below 17 · √3 d
    assert abs(float(ranged.mean()) - 16 * weight) < 5 * 17 * math.sqrt(3) * 16 / math.sqrt(8000)


def test_cooling_ends_in_the_same_direction_with_smaller_steps():
    data, ends = signals(2, 16, seed=35), []
    for cool in (0.0, 1.0):
        networks = learning.Networks(2, 16, 8, dtype=torch.float64, generator=seeded(36))
        moves = []

        def watch(step, networks=networks, moves=moves):
            moves.append(networks.biases[2].detach().clone())

        learning.train(networks, data, 10, cool=cool, watch=watch, generator=seeded(37))
        ends.append([float((b - a).abs().max()) for a, b in pairwise(moves)])
    # the rate of step k is 1 − k/10 of the first one; the directions of Adam are of order one in both
    assert ends[1][-1] < 0.2 * ends[0][-1]


def test_learning_curves_are_those_of_networks_trained_by_hand():
    curves = learning.learning_curves([4, 30], [2, 5], d=16, width=8, draws=50, generator=seeded(38))
    again = learning.learning_curves([4, 30], [2, 5], d=16, width=8, draws=50, generator=seeded(38))
    assert all(torch.equal(a, b) for a, b in zip(curves, again, strict=True))
    assert curves.steps.tolist() == [2, 5] and curves.train.shape == (2, 4)
    assert curves.disagreement.shape == (2, 2)
    floor = curves.test - curves.excess
    assert torch.allclose(floor, floor[0, 0].expand(2, 4), rtol=0, atol=1e-12)  # one set of new signals
    g = seeded(38)
    data = denoisers.draw(4 * 30, MASKS, generator=g).view(4, 30, 16)
    fresh = learning._bench(data, torch.tensor([4, 4, 30, 30]), 0.3, MASKS, 50, g)
    networks = learning.Networks(4, 16, 8, generator=g)
    learning.train(networks, data, 5, (0.3, 0.3), sizes=[4, 4, 30, 30], generator=g)
    expected, _ = learning._errors(lambda y: networks(y, 0.3), fresh)
    assert torch.allclose(curves.train[1], expected.train, rtol=1e-12, atol=0)
    assert torch.allclose(curves.disagreement[1], expected.disagreement, rtol=1e-12, atol=0)


# ------------------------------------------------------------------------------------------------- generation


def test_the_flow_of_a_linear_denoiser_is_ddim_of_a_gaussian():
    # x̂ = λ y/(λ + σ²) for N(0, λ): the variance after DDIM is known in closed form on any grid
    lam = torch.tensor([0.3, 1.0, 2.5], dtype=torch.float64)
    start = normal(1, 4, 3, seed=39)
    found = learning.generate(lambda y, s: y * lam / (lam + s**2), start, (0.03, 5.0), 40)
    times = learning.time_grid(denoisers.noise_time(5.0), denoisers.noise_time(0.03), 40)
    root = gaussian.ddim_variance(lam, times).sqrt()
    expected = start * root * math.exp(float(times[-1])) * lam / (lam + 0.03**2)
    assert torch.allclose(found, expected, rtol=1e-10, atol=0)


def test_the_flow_of_the_softmax_denoiser_ends_on_its_data():
    data = signals(2, 5, seed=40)
    start = normal(1, 30, 16, seed=41).expand(2, -1, -1)
    made = learning.generate(lambda y, s: learning.softmax_denoiser(y, s, data), start, (0.01, 5.0))
    for r in range(2):
        # at σ = 0.01 the weight of the next datum is e^{−|δ|²/2σ²}
        assert bool((collapse.nearest(made[r], data[r]).distance < 1e-6).all())
        assert bool(copied(made[r], data[r]).all())
    assert (made[0] - made[1]).square().sum(1).mean() > 1  # the same noise, other data


def test_the_generation_test_compares_networks_on_the_same_noise_with_the_exact_flow():
    made = learning.generation_test([3, 40], 5, 20, width=8, batch=16, generator=seeded(42))
    assert made.samples.shape == (4, 20, 16) and made.exact.shape == (20, 16)
    assert made.copied.shape == made.chance.shape == (4, 20)
    # the exact flow makes signals with one jump: two levels fit them
    sides = torch.stack([MASKS, 1 - MASKS], 1)
    means = torch.einsum("kjd,sd->skj", sides, made.exact) / sides.sum(2)
    fitted = torch.einsum("skj,kjd->skd", means, sides)
    off = (fitted - made.exact[:, None]).square().sum(2).min(1).values
    assert off.median() < 16 * 0.03**2


@pytest.mark.parametrize("m", [1, 2, 4])
def test_a_new_point_counts_as_a_copy_with_probability_three_to_minus_its_dimension(m):
    # d₁/d₂ < r in a uniform law: (d₁/d₂)^m is uniform; points stay in the middle half, away from the edges
    n = 4000
    data = torch.rand(n, m, generator=seeded(43), dtype=torch.float64)
    x = 0.25 + 0.5 * torch.rand(n, m, generator=seeded(44), dtype=torch.float64)
    p = 3.0**-m
    # neighbours of two points overlap: the error is at most that of n/2 independent ones
    assert abs(copied(x, data).double().mean() - p) < 5 * math.sqrt(p * (1 - p) / (n / 2))


# ------------------------------------------------------------------------------------------------- two linear denoisers


def drawn_linear_test(n, d, t, variance, draws, seed):
    """Two-set test and bias of linear scores from draws of C_e, each with its standard error."""
    rng, unit = np.random.default_rng(seed), math.exp(-2 * t) * variance
    if n < d:
        x = rng.standard_normal((draws, n, d))
        c = np.swapaxes(x, 1, 2) @ x / n
    else:  # Bartlett's triangular factor
        low = np.zeros((draws, d, d))
        for i in range(d):
            low[:, i, i] = np.sqrt(rng.chisquare(n - i, draws))
            low[:, i, :i] = rng.standard_normal((draws, i))
        c = low @ np.swapaxes(low, 1, 2) / n
    w = 1 / (-math.expm1(-2 * t) + unit * np.linalg.eigvalsh(c))
    trace, square = w.sum(1), (w**2).sum(1)
    mean = trace.mean()
    each = 2 * (square - 2 * mean / d * trace + mean**2 / d) / d
    return each.mean(), each.std() / math.sqrt(draws), mean / d, trace.std() / d / math.sqrt(draws)


@pytest.mark.parametrize(
    ("n", "d", "t", "variance"),
    [
        (5, 20, 0.2, 1),
        (20, 20, 0.2, 1),
        (40, 20, 0.2, 1),
        (1280, 20, 0.2, 1),
        (60, 30, 0.5, 3),
        (15, 30, 1, 0.5),
    ],
)
def test_two_linear_denoisers_differ_as_random_matrices_say(n, d, t, variance):
    found, error, mean, mean_error = drawn_linear_test(n, d, t, variance, 4000, seed=45)
    exact = learning.linear_two_set_test(n, d, t, variance)
    # two orders of 1/d are in the formula; the third is 3·10⁻³ at its worst for d = 20
    assert abs(exact.disagreement - found) < 5 * error + 3e-3 * found
    bias = (mean - 1 / (-math.expm1(-2 * t) + math.exp(-2 * t) * variance)) ** 2
    slope = 2 * math.sqrt(exact.bias)
    assert abs(exact.bias - bias) < 5 * slope * mean_error + (5 * mean_error) ** 2 + 3e-3 * bias


def test_the_two_set_test_of_linear_denoisers_goes_as_d_plus_one_over_n():
    d, t = 20, 0.2
    limit = 2 * math.exp(-4 * t) * (d + 1) / d
    scaled = [
        learning.linear_two_set_test(n, d, t).disagreement * n / d for n in (10, 20, 40, 80, 320, 1280, 5120)
    ]
    claim = [1.30, 1.59, 1.39, 1.18, 1.00, 0.945, 0.978]  # draws, with errors of three per cent
    assert all(abs(a / b - 1) < 0.04 for a, b in zip(scaled, claim, strict=True))
    assert abs(limit - 0.944) < 1e-3
    for n in (10**5, 10**7, 10**9):  # corrections of relative order d/n, and 1/d² of the third order
        assert abs(learning.linear_two_set_test(n, d, t).disagreement * n / d / limit - 1) < 10 * d / n + 1e-9
    # half of it is the mean square error of W, to first order in 1/n
    n, v = 10**7, 2.5
    error = gaussian.expected_weight_error(n, t, v * torch.eye(d, dtype=torch.float64)) / d
    assert learning.linear_two_set_test(n, d, t, v).disagreement / 2 == pytest.approx(error, rel=1e-4)
    # two scores that know nothing agree; the most that they differ is at n of order d
    values = [learning.linear_two_set_test(n, d, t).disagreement for n in range(1, 200)]
    assert 5 < int(np.argmax(values)) < 20


def test_a_linear_denoiser_cannot_memorise():
    # its least error on n data is σ² Σ b/(b + σ²), gradient flow ends there, and the softmax denoiser is far below
    data = signals(64, seed=46)
    c = data.T @ data / 64
    moments = learning.Moments(c + SIGMA**2 * torch.eye(16, dtype=torch.float64), c, float(c.trace()))
    end = learning.flow(moments, torch.tensor([1e6], dtype=torch.float64))
    least = float(learning.flow_error(end, moments))
    assert least == pytest.approx(denoisers.wiener_error(SIGMA, c), rel=1e-10)
    for k in range(5):
        assert float(learning.flow_error(end + 0.01 * normal(1, 16, 16, seed=k), moments)) > least
    noisy = data.repeat(100, 1)
    noisy = noisy + SIGMA * normal(*noisy.shape, seed=47)
    own = (learning.softmax_denoiser(noisy, SIGMA, data) - data.repeat(100, 1)).square().sum(1).mean()
    assert own < 0.1 * least


# ------------------------------------------------------------------------------------------------- gradient flow


def features(y, w):
    return (y @ w.T).sin() / math.sqrt(len(w))


def sampled(x, y, w):
    """Means of φφᵀ and xφᵀ and their standard errors."""
    phi = features(y, w)
    out = []
    for a, b in ((phi, phi), (x, phi)):
        product = a[:, :, None] * b[:, None]
        out.append((product.mean(0), product.std(0) / math.sqrt(len(y))))
    return out


def test_moments_of_random_features_are_means_over_signals_and_noise():
    w, sigma, v, draws = learning.random_features(6, 3, 1.5, seeded(48)), 0.7, 1.7, 200_000
    x = math.sqrt(v) * normal(draws, 3, seed=49)
    y = x + sigma * normal(draws, 3, seed=50)
    law = learning.law_moments(w, sigma, v)
    for (mean, error), exact in zip(sampled(x, y, w), law[:2], strict=True):
        assert bool(((mean - exact).abs() < 5 * error + 1e-12).all())
    assert law.power == pytest.approx(3 * v)
    data = normal(4, 3, seed=51)
    x = data.repeat(draws // 4, 1)
    seen = learning.data_moments(data, w, sigma)
    for (mean, error), exact in zip(
        sampled(x, x + (y - x) * 0 + sigma * normal(draws, 3, seed=52), w), seen[:2], strict=True
    ):
        assert bool(((mean - exact).abs() < 5 * error + 1e-12).all())
    assert seen.power == pytest.approx(float(data.square().sum()) / 4)


def test_moments_of_many_data_are_those_of_their_law():
    w = learning.random_features(20, 3, 1.5, seeded(53))
    law = learning.law_moments(w, 0.5, 2.0)
    # entries of pU are below one, those of √p V below |x|: errors of order 1/√n
    many = learning.data_moments(math.sqrt(2) * normal(100_000, 3, seed=54), w, 0.5)
    assert float((many.second - law.second).abs().max()) * 20 < 5 / math.sqrt(100_000)
    assert float((many.cross - law.cross).abs().max()) * math.sqrt(20) < 5 * math.sqrt(2 / 100_000)


def test_frequencies_have_their_variance():
    w = learning.random_features(4000, 25, 2.0, seeded(55))
    assert abs(float(w.square().mean()) * 25 / 4 - 1) < 5 * math.sqrt(2 / w.numel())


def test_gradient_flow_solves_its_equation():
    # against Euler's steps along the gradient that autograd takes of the loss; an error of order the step
    data, w = normal(3, 2, seed=56), learning.random_features(5, 2, 1.5, seeded(57))
    moments = learning.data_moments(data, w, 0.4)
    ends = []
    for step in (0.02, 0.01):
        a = torch.zeros(1, 2, 5, dtype=torch.float64)
        for _ in range(round(8 / step)):
            a.requires_grad_(True)
            slope = torch.autograd.grad(learning.flow_error(a, moments).sum(), a)[0]
            a = a.detach() - step * slope
        ends.append(a)
    extrapolated = 2 * ends[1] - ends[0]
    found = learning.flow(moments, torch.tensor([0.0, 8.0], dtype=torch.float64))
    assert torch.equal(found[0], torch.zeros(2, 5, dtype=torch.float64))
    # what extrapolation leaves is of order step² times a rate² that is below one
    assert float((found[1] - extrapolated[0]).abs().max()) < 8 * 0.02**2


def test_gradient_flow_of_a_linear_model_learns_each_mode_at_twice_its_variance():
    lam, sigma = torch.tensor([0.2, 1.0, 3.0], dtype=torch.float64), 0.5
    moments = learning.Moments((lam + sigma**2).diag(), lam.diag(), float(lam.sum()))
    for tau in (0.1, 1.0, 10.0):
        found = learning.flow(moments, torch.tensor([tau], dtype=torch.float64))[0]
        expected = lam / (lam + sigma**2) * gaussian.learned_fraction(lam + sigma**2, tau)
        assert torch.allclose(found, expected.diag(), rtol=1e-12, atol=1e-14)


def test_errors_and_disagreement_of_a_flow_are_means_over_draws():
    w, sigma, draws = learning.random_features(40, 3, 1.5, seeded(58)), 0.4, 100_000
    sets = [learning.data_moments(normal(6, 3, seed=seed), w, sigma) for seed in (59, 60)]
    a, b = (learning.flow(m, torch.tensor([30.0, 3000.0], dtype=torch.float64)) for m in sets)
    law = learning.law_moments(w, sigma)
    x = normal(draws, 3, seed=61)
    phi = features(x + sigma * normal(draws, 3, seed=62), w)
    for k in range(2):
        f, other = phi @ a[k].T, phi @ b[k].T
        for exact, each in (
            (learning.flow_error(a, law)[k], (f - x).square().sum(1)),
            (learning.flow_disagreement(a, b, law)[k], (f - other).square().sum(1)),
        ):
            assert abs(each.mean() - exact) < 5 * each.std() / math.sqrt(draws)


# ------------------------------------------------------------------------------------------------- a line and a table


def noised_kernel(a, b, d, sigma, frequency):
    """E K(a + σz, b + σz') of infinitely many sines, exactly: E_w e^{−σ²|w|²} sin(w·a) sin(w·b)."""
    c = 1 + 2 * sigma**2 * frequency**2 / d
    near, far = ((a - s * b).square().sum() for s in (1, -1))
    scale = frequency**2 / (2 * d * c)
    return c ** (-d / 2) * (math.exp(-scale * near) - math.exp(-scale * far)) / 2


@pytest.mark.parametrize(("sigma", "frequency", "variance"), [(0.3, 1.4, 1.0), (0.7, 1.0, 2.0)])
def test_in_high_dimension_the_kernel_of_noisy_data_is_a_line_and_a_table(sigma, frequency, variance):
    off = []
    for d in (100, 1000, 10_000):
        # two data of norm² dv with an overlap that is typical, x·x' = v√d
        a, b = torch.zeros(2, d, dtype=torch.float64)
        a[0], b[0] = math.sqrt(d * variance), math.sqrt(variance)
        b[1] = math.sqrt(variance * (d - 1))
        line, table = learning.kernel_strengths(d, sigma, frequency, variance)
        other = noised_kernel(a, b, d, sigma, frequency) / (line * float(a @ b))
        own = (noised_kernel(a, a, d, sigma, frequency) - line * d * variance) / table
        off.append((abs(other - 1), abs(own - 1)))
    # both to leading order: the rest falls as 1/d
    for before, after in pairwise(off):
        assert 8 < before[0] / after[0] < 12 and 8 < before[1] / after[1] < 12
    assert off[-1][0] < 1e-3 and off[-1][1] < 2e-3


@pytest.mark.parametrize("n", [1, 20, 3000])
def test_errors_of_line_and_table_solve_their_equation(n):
    sigma, line, table, v = 0.4, 0.07, 0.6, 1.3
    spectrum = torch.tensor([0.0, 0.5, 2.2], dtype=torch.float64)
    times = torch.tensor([0.0, 0.3, 5.0, 100.0, 3e4], dtype=torch.float64)
    found = learning.line_and_table(times, spectrum, n, sigma, line, table, v)
    for tau, train, test in zip(*(x.tolist() for x in (times, *found)), strict=True):
        own = new = 0.0
        for b in spectrum.tolist():
            m = 2 * np.array([[line * (b + sigma**2), line * b], [table / n, table / n]])
            weight, c = (np.eye(2) - expm(-tau * m)) @ np.array([0.0, 1.0])
            own += b * (weight + c - 1) ** 2 + sigma**2 * weight**2
            new += v * (weight - 1) ** 2 + sigma**2 * weight**2
        assert train == pytest.approx(own, rel=1e-9, abs=1e-12)
        assert test == pytest.approx(new, rel=1e-9, abs=1e-12)


def test_a_line_and_a_table_learn_from_samples_as_the_equation_says():
    # steps along the gradient of fresh noise; y looks up the datum within whose ball it lies, new signals find none
    n, d, sigma, line, table, step, end = 12, 24, 0.3, 0.05, 1.0, 0.02, 40.0
    g = seeded(63)
    data = torch.randn(n, d, generator=g, dtype=torch.float64)
    radius = 4.0  # σ√d = 1.5; data are about √(2d) = 7 apart
    slopes, entries = torch.zeros(d, d, dtype=torch.float64), torch.zeros(n, d, dtype=torch.float64)

    def lookup(y):
        distance, index = torch.cdist(y, data).min(1)
        return index, (distance < radius).double()[:, None]

    def answer(y):
        index, inside = lookup(y)
        return y @ slopes.T + inside * entries[index]

    for _ in range(round(end / step)):
        y = data + sigma * torch.randn(n, d, generator=g, dtype=torch.float64)
        residual = 2 * step / n * (answer(y) - data)
        index, inside = lookup(y)
        slopes -= line * residual.T @ y
        entries.index_add_(0, index, -table * inside * residual)
    times = torch.tensor([end], dtype=torch.float64)
    exact = learning.line_and_table(
        times, torch.linalg.eigvalsh(data.T @ data / n).clamp(min=0), n, sigma, line, table
    )
    x = data.repeat(2000, 1)
    own = (answer(x + sigma * torch.randn(*x.shape, generator=g, dtype=torch.float64)) - x).square().sum(1)
    x = torch.randn(20_000, d, generator=g, dtype=torch.float64)
    new = (answer(x + sigma * torch.randn(*x.shape, generator=g, dtype=torch.float64)) - x).square().sum(1)
    # the fastest rate is 2λ(b + σ²) ≈ 0.5, so Euler is off by half a rate times the step, 0.5 %, in each weight; the noise of the
    # gradients leaves a random part of relative size √step as small. Both enter the errors twice
    for found, expected in ((own, exact.train), (new, exact.test)):
        assert abs(found.mean() - float(expected)) < 5 * found.std() / math.sqrt(len(found)) + 0.02 * float(
            expected
        )


def test_clocks_are_the_eigenvalues_and_only_the_memory_waits_for_n():
    sigma, line, table, v = 0.3, 0.007, 0.18, 1.0
    gamma = v + sigma**2
    m = 2 * np.array([[line * gamma, line * v], [table / 64, table / 64]])
    fast, slow = sorted(np.linalg.eigvals(m), reverse=True)
    found = learning.clocks(64, sigma, line, table, v)
    assert found.gen == pytest.approx(1 / fast, rel=1e-12) and found.mem == pytest.approx(1 / slow, rel=1e-10)
    for n in (10**4, 10**6):
        gen, mem = learning.clocks(n, sigma, line, table, v)
        # corrections of relative order κ²/(nλΓ)
        assert gen * 2 * line * gamma == pytest.approx(1, abs=table / (n * line * gamma))
        assert mem * 2 * table * sigma**2 / (n * gamma) == pytest.approx(
            1, abs=2 * table / (n * line * gamma)
        )


def test_in_between_the_clocks_both_errors_are_the_mmse_and_after_them_memory_has_taken_over():
    d, n, sigma = 32, 10**6, 0.3
    line, table = learning.kernel_strengths(d, sigma, 1.4)
    gen, mem = learning.clocks(n, sigma, line, table)
    times = torch.tensor([30 * gen, mem / 2, 100 * mem], dtype=torch.float64)
    train, test = learning.line_and_table(times, torch.ones(d, dtype=torch.float64), n, sigma, line, table)
    floor = d * sigma**2 / (1 + sigma**2)
    assert float(train[0]) == pytest.approx(floor, rel=0.01) and float(test[0]) == pytest.approx(
        floor, rel=0.01
    )
    assert float(train[1]) == pytest.approx(floor / math.e, rel=0.01)
    assert float(train[2]) < 1e-9 and float(test[2]) == pytest.approx(d, rel=1e-6)


def test_a_threshold_is_crossed_in_proportion_to_n_only_for_many_data_in_each_dimension():
    # with n of order d the line already fits the data better than their law: fewer data, sooner
    d, sigma = 32, 0.3
    strengths, times = (
        learning.kernel_strengths(d, sigma, 1.4),
        torch.logspace(0, 8, 321, dtype=torch.float64),
    )
    half, found = d * sigma**2 / (1 + sigma**2) / 2, []
    for n in (32, 128, 2048, 8192):
        data = normal(n, d, seed=73)
        spectrum = torch.linalg.eigvalsh(data.T @ data / n).clamp(min=0)
        curve = learning.line_and_table(times, spectrum, n, sigma, *strengths)
        found.append(float(learning.crossing_time(times, curve.train, half)))
    assert found[1] / found[0] > 6
    # e^{−2τ/τ_mem} = ½, with corrections of relative order d/n in the MMSE and κ²/(nλΓ) in the clock, 1 % each
    assert abs(found[3] / found[2] / 4 - 1) < 0.05
    assert abs(found[3] / (learning.clocks(8192, sigma, *strengths).mem * math.log(2) / 2) - 1) < 0.02


def test_random_features_come_to_the_line_and_the_table_as_they_grow_in_number():
    d, n, sigma, frequency = 32, 64, 0.3, math.sqrt(2)
    data, times = normal(n, d, seed=64), torch.logspace(0, 5, 11, dtype=torch.float64)
    strengths = learning.kernel_strengths(d, sigma, frequency)
    spectrum = torch.linalg.eigvalsh(data.T @ data / n).clamp(min=0)
    limit = learning.line_and_table(times, spectrum, n, sigma, *strengths)
    off, leftover, memory = [], [], []
    for p in (128, 512, 1024):
        w = learning.random_features(p, d, frequency, seeded(65))
        seen = learning.data_moments(data, w, sigma)
        a = learning.flow(seen, times)
        train = learning.flow_error(a, seen) / d
        test = learning.flow_error(a, learning.law_moments(w, sigma)) / d
        off.append(float(torch.stack([train - limit.train / d, test - limit.test / d])[:, :7].abs().max()))
        leftover.append(float(train[-1]))
        memory.append(float(torch.linalg.eigvalsh(seen.second).flip(0)[d:n].mean()))
    # n data and d lines among p features: √(d/p) of random overlap, up to τ = 1000
    assert off[0] > off[1] > off[2] and off[2] < math.sqrt(d / 1024)
    # what is left of the error on the data falls as 1/p, the sooner the more features
    assert 1.5 < leftover[1] / leftover[2] < 2.5
    # the n − d eigenvalues after the first d are those of the table, κ²/n, to √(n/p)
    assert abs(memory[2] * n / strengths.table - 1) < math.sqrt(n / 1024)


def test_eigenvalues_of_the_table_fall_as_one_over_n_and_those_of_the_line_do_not():
    d, p, sigma, frequency = 16, 800, 0.3, math.sqrt(2)
    w = learning.random_features(p, d, frequency, seeded(66))
    line, table = [], []
    for n in (32, 64, 128):
        values = torch.linalg.eigvalsh(learning.data_moments(normal(n, d, seed=67), w, sigma).second).flip(0)
        line.append(float(values[:d].mean()))
        table.append(float(values[d:n].mean()))
    # means over n − d ≥ 16 eigenvalues of a spread of √(n/p) ≤ 0.4 about κ²/n: a factor of two to 0.4 · √2/√16 = 14 %, three of them
    for before, after in pairwise(table):
        assert abs(before / after / 2 - 1) < 0.42
    # C_e has the mean 1 and √(2/(nd)) of noise; the table adds κ²/n to λΓ, the more the smaller n
    assert 1 <= line[0] / line[2] < 1.5


# ------------------------------------------------------------------------------------------------- the committed run


@pytest.fixture(scope="module")
def run():
    return results.load("generalization")["values"]


def test_the_smallest_networks_learn_again_what_the_committed_run_says(run):
    small = run["smallest"]
    again = learning.learning_curves(
        small["sizes"],
        small["steps"],
        width=32,
        dtype=torch.float64,
        draws=500,
        generator=seeded(small["seed"]),
    )
    # float64 and few steps: machines differ by rounding, which training has made a thousand times larger at most
    for name in ("train", "test", "disagreement"):
        found, stored = getattr(again, name), torch.tensor(small[name], dtype=torch.float64)
        assert torch.allclose(found, stored, rtol=1e-6, atol=0), name


def test_committed_networks_memorise_few_data_and_agree_on_many(run):
    last = {
        k: dict(zip(run["sizes"], zip(run[k]["mean"][-1], run[k]["error"][-1], strict=True), strict=True))
        for k in ("train", "excess", "disagreement")
    }
    floor = denoisers.mmse(SIGMA, MASKS, 20_000, seeded(68))
    # few data: below the floor on them, which only a memory can be; far above it on others; two networks share little
    for n in (8, 16, 32):
        assert last["train"][n][0] + 5 * last["train"][n][1] < floor.mean / 2
        assert last["excess"][n][0] > 1 and last["disagreement"][n][0] > 1
    # many: what is lost on the floor and between two networks is a fraction of it, and less for more data
    many = run["sizes"][-1]
    assert last["excess"][many][0] < 0.25 * floor.mean and last["disagreement"][many][0] < 0.3 * floor.mean
    assert last["train"][many][0] > floor.mean
    # half the disagreement is variance: it is part of the excess
    for n in run["sizes"]:
        assert last["disagreement"][n][0] / 2 < last["excess"][n][0] + 5 * last["excess"][n][1]
    order = [last["disagreement"][n][0] for n in run["sizes"][3:]]
    assert order == sorted(order, reverse=True)


def test_all_networks_learn_at_one_pace_and_the_time_to_memorise_grows_at_least_in_proportion_to_the_data(
    run,
):
    floor = denoisers.mmse(SIGMA, MASKS, 20_000, seeded(68)).mean
    steps = torch.tensor(run["steps"], dtype=torch.float64)
    sizes = torch.tensor(run["sizes"], dtype=torch.float64)
    train, test = (torch.tensor(run[k]["mean"], dtype=torch.float64) for k in ("train", "excess"))
    # an eighth of the power is left to learn at the same step, for all n ≥ 64: between measurements there are 33 %
    first = learning.crossing_time(steps, test + floor, 2.0)[3:]
    assert float(first.max() / first.min()) < 1.33
    # the error on the data is below what can be reached without knowing them; for many data it never is
    below = learning.crossing_time(steps, train, floor)
    assert not bool(below[:6].isnan().any()) and bool(below[-1].isnan())
    (slope, _), spread = np.polyfit(sizes[:6].log(), below[:6].log(), 1, cov=True)
    assert slope - 3 * math.sqrt(spread[0, 0]) > 1
    # the best moment to stop moves the same way
    best = steps[test.argmin(0)[:7]]
    assert bool((best.diff() > 0).all())
    assert np.polyfit(sizes[:7].log(), best.log(), 1)[0] > 1


def test_committed_networks_make_the_same_signals_of_the_same_noise_once_they_have_many_data(run):
    made = {k: [v[0] for v in run["generated"][k]] for k in ("disagreement", "distance", "copied", "chance")}
    assert made["disagreement"] == sorted(made["disagreement"], reverse=True)
    assert made["distance"] == sorted(made["distance"], reverse=True)
    assert made["copied"][0] > 0.5 and made["copied"][-1] < 2 * made["chance"][-1]
    # the chance tends to 3^{−2}: for many data two levels are the dimension of what is near
    assert made["chance"][0] < made["chance"][-1] < 1 / 9 + 0.02
    samples, exact = torch.tensor(run["generated"]["samples"]), torch.tensor(run["generated"]["exact"])
    assert samples.shape == (2 * len(run["generated"]["sizes"]), 4, 16) and exact.shape == (4, 16)


def test_committed_random_features_follow_the_line_and_the_table(run):
    for part in run["features"]:
        strengths = learning.kernel_strengths(part["d"], part["sigma"], part["frequency"])
        times = torch.tensor(part["times"], dtype=torch.float64)
        spectrum = torch.tensor(part["spectrum"], dtype=torch.float64)
        limit = learning.line_and_table(times, spectrum, part["n"], part["sigma"], *strengths)
        early, n, p = times <= 1000, part["n"], part["p"]
        for name in ("train", "test"):
            off = torch.tensor(part[name], dtype=torch.float64) - getattr(limit, name) / part["d"]
            assert float(off[early].abs().max()) < math.sqrt(max(part["d"], n) / p)
        if part["table"]:
            # κ²/n: off by 1/d in κ², and by the mean over n − d numbers that scatter by √(n/p)
            tolerance = 3 / part["d"] + 5 * math.sqrt(n / p / (n - part["d"]))
            assert abs(part["table"][0] * n / strengths.table - 1) < tolerance


# ------------------------------------------------------------------------------------------------- bad input


W = learning.random_features(4, 3, generator=seeded(69))
X3 = normal(5, 3, seed=70)
SETS = normal(2, 5, 16, seed=71)
NETS = learning.Networks(2, 16, 4, generator=seeded(72))
T1 = torch.tensor([1.0], dtype=torch.float64)
GOOD = learning.law_moments(W, 0.5)


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: learning.softmax_denoiser(X3, 0.0, X3), "sigma"),
        (lambda: learning.softmax_denoiser(X3, NAN, X3), "sigma"),
        (lambda: learning.softmax_denoiser(X3[0], 0.3, X3), "y"),
        (lambda: learning.softmax_denoiser(X3, 0.3, X3[:, :2]), "data"),
        (lambda: learning.softmax_denoiser(SETS, 0.3, SETS[0]), "data"),
        (lambda: learning.softmax_denoiser(SETS, 0.3, SETS[:1]), "data"),
        (lambda: learning.softmax_denoiser(X3, 0.3, torch.empty(0, 3, dtype=torch.float64)), "data"),
        (lambda: learning.Networks(0, 16), "copies"),
        (lambda: learning.Networks(2, 0), "d"),
        (lambda: learning.Networks(2, 16, 2.5), "width"),
        (lambda: NETS(X3, 0.3), "y"),
        (lambda: NETS(SETS[:1], 0.3), "y"),
        (lambda: NETS(SETS, -1.0), "sigma"),
        (lambda: learning.train(NETS, SETS[:1], 3), "data"),
        (lambda: learning.train(NETS, SETS * NAN, 3), "data"),
        (lambda: learning.train(NETS, SETS.long(), 3), "data"),
        (lambda: learning.train(NETS, SETS, 0), "steps"),
        (lambda: learning.train(NETS, SETS, 3, batch=0), "batch"),
        (lambda: learning.train(NETS, SETS, 3, (0.4, 0.3)), "sigmas"),
        (lambda: learning.train(NETS, SETS, 3, (0.0, 0.3)), "sigmas"),
        (lambda: learning.train(NETS, SETS, 3, rate=0.0), "rate"),
        (lambda: learning.train(NETS, SETS, 3, cool=1.5), "cool"),
        (lambda: learning.train(NETS, SETS, 3, sizes=[5, 6]), "sizes"),
        (lambda: learning.train(NETS, SETS, 3, sizes=[5]), "sizes"),
        (lambda: learning.train(NETS, SETS, 3, generator=1), "generator"),
        (lambda: learning.measure(lambda y: y, SETS[:1], 0.3, MASKS), "data"),
        (lambda: learning.measure(lambda y: y, SETS, 0.0, MASKS), "sigma"),
        (lambda: learning.measure(lambda y: y[:1], SETS, 0.3, MASKS), "f"),
        (lambda: learning.measure(lambda y: y, SETS, 0.3, MASKS, 1), "draws"),
        (lambda: learning.measure(lambda y: y, SETS, 0.3, 2 * MASKS), "masks"),
        (lambda: learning.learning_curves([], [3]), "sizes"),
        (lambda: learning.learning_curves([0], [3]), "sizes"),
        (lambda: learning.learning_curves([2], []), "steps"),
        (lambda: learning.learning_curves([2], [3, 2]), "steps"),
        (lambda: learning.learning_curves([2], [2], sigma=0), "sigma"),
        (lambda: learning.generate(lambda y, s: y, X3), "start"),
        (lambda: learning.generate(lambda y, s: y, SETS, (0.3, 0.1)), "t_min"),
        (lambda: learning.generate(lambda y, s: y, SETS, (0.0, 1.0)), "sigmas"),
        (lambda: learning.generation_test([1], 3), "sizes"),
        (lambda: learning.generation_test([], 3), "sizes"),
        (lambda: learning.generation_test([2], 3, 0), "samples"),
        (lambda: learning.crossing_time(T1, X3[:, 0].abs(), 1.0), "times"),
        (lambda: learning.crossing_time(torch.arange(5), X3[:, 0].exp(), 1.0), "times"),
        (lambda: learning.crossing_time(T1, T1, 0.0), "level"),
        (lambda: learning.crossing_time(T1, -T1, 1.0), "values"),
        (lambda: learning.linear_two_set_test(0, 2, 0.3), "n"),
        (lambda: learning.linear_two_set_test(2, 0, 0.3), "d"),
        (lambda: learning.linear_two_set_test(2, 2, 0.0), "t"),
        (lambda: learning.linear_two_set_test(2, 2, 0.3, -1.0), "variance"),
        (lambda: learning.random_features(0, 3), "p"),
        (lambda: learning.random_features(4, 3, INF), "frequency"),
        (lambda: learning.law_moments(W, 0.0), "sigma"),
        (lambda: learning.law_moments(W[0], 0.3), "weight"),
        (lambda: learning.law_moments(W, 0.3, 0.0), "variance"),
        (lambda: learning.data_moments(SETS[0], W, 0.3), "data"),
        (lambda: learning.data_moments(X3 * INF, W, 0.3), "data"),
        (lambda: learning.flow(GOOD, -T1), "times"),
        (lambda: learning.flow(GOOD._replace(cross=X3.T), T1), "moments"),
        (lambda: learning.flow_error(X3, GOOD), "weights"),
        (lambda: learning.flow_error(SETS, GOOD), "weights"),
        (lambda: learning.flow_disagreement(torch.ones(1, 3, 4), torch.ones(2, 3, 4), GOOD), "weights"),
        (lambda: learning.kernel_strengths(0, 0.3), "d"),
        (lambda: learning.kernel_strengths(3, 0.3, 0.0), "frequency"),
        (lambda: learning.clocks(0, 0.3, 1.0, 1.0), "n"),
        (lambda: learning.clocks(3, 0.3, 0.0, 1.0), "line"),
        (lambda: learning.clocks(3, 0.3, 1.0, NAN), "table"),
        (lambda: learning.line_and_table(T1, -T1, 3, 0.3, 1.0, 1.0), "spectrum"),
        (lambda: learning.line_and_table(T1 * NAN, T1, 3, 0.3, 1.0, 1.0), "times"),
        (lambda: learning.line_and_table(T1, T1, 3, 0.3, 1.0, 1.0, 0.0), "variance"),
    ],
)
def test_bad_input_is_named(call, name):
    with pytest.raises(ValueError, match=rf"\b{name}\b"):
        call()
