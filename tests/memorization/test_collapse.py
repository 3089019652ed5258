"""Collapse: automatic differentiation, quadrature, direct sums over many data sets, and simulation with error bars."""

import math
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from scipy import integrate, stats

from physgen.diffusion import score as diffusion
from physgen.exact import gaussian, speciation
from physgen.memorization import collapse

NAN, INF = float("nan"), float("inf")


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def normal(*shape, seed, dtype=torch.float64):
    return torch.randn(*shape, generator=seeded(seed), dtype=dtype)


def two_classes(n, d, seed, variance=1.0):
    m = torch.ones(1, d, dtype=torch.float64)
    return speciation.mixture_sample(n, 0.0, torch.cat([m, -m]), variance, generator=seeded(seed)).x


def delta(t):
    return -math.expm1(-2 * t)


# ------------------------------------------------------------------------------------------------- the empirical score


def test_the_empirical_density_is_normalised():
    # the minus sign and the power d/2, not n/2: with n = 5 data in one dimension the printed power would give (2πΔ)^{−2}
    data = normal(5, 1, seed=1)
    for t in (0.05, 0.5, 2.0):
        x = torch.linspace(-12, 12, 24001, dtype=torch.float64)[:, None]
        # a trapezoid of step 10⁻³ on Gaussians of width ≥ 0.3 is exact to rounding
        assert abs(torch.trapezoid(collapse.log_density(x, t, data).exp(), x[:, 0]) - 1) < 1e-12


@pytest.mark.parametrize("bandwidth", [0.0, 0.2])
def test_the_empirical_score_is_the_gradient_of_the_log_density(bandwidth):
    data, x, t = normal(7, 3, seed=2), normal(5, 3, seed=3), 0.4
    x.requires_grad_(True)
    square = (x[:, None] - math.exp(-t) * data).square().sum(2)
    log_p = torch.logsumexp(-square / (2 * (delta(t) + bandwidth * math.exp(-2 * t))), 1)
    expected = torch.autograd.grad(log_p.sum(), x)[0]
    found = collapse.empirical_score(x.detach(), t, data, bandwidth)
    assert torch.allclose(found, expected, rtol=0, atol=1e-12 * float(expected.abs().max()))


def test_the_empirical_score_is_attention_over_the_data():
    # keys a_μ with the bias −s²|a|²/2Δ, scale s/Δ: torch's own attention gives the denoiser
    data, x, t = normal(40, 6, seed=4), normal(9, 6, seed=5), 0.3
    s = math.exp(-t)
    bias = (-s * s * data.square().sum(1) / (2 * delta(t))).expand(9, 40)
    mean = torch.nn.functional.scaled_dot_product_attention(
        x[None], data[None], data[None], attn_mask=bias[None], scale=s / delta(t)
    )[0]
    assert torch.allclose(collapse.empirical_score(x, t, data), (s * mean - x) / delta(t), rtol=0, atol=1e-11)
    w = collapse.weights(x, t, data)
    assert torch.allclose(w @ data, mean, rtol=0, atol=1e-11)
    assert torch.allclose(collapse.participation_ratio(x, t, data), w.square().sum(1), rtol=1e-10, atol=0)


def test_rows_may_have_times_of_their_own():
    data, x = normal(20, 4, seed=6), normal(6, 4, seed=7)
    times = torch.tensor([0.3, 1.0, 0.3, 0.05, 1.0, 0.3], dtype=torch.float64)
    for function in (
        collapse.empirical_score,
        collapse.log_density,
        collapse.weights,
        collapse.participation_ratio,
    ):
        alone = torch.cat([function(x[i : i + 1], float(times[i]), data) for i in range(6)])
        assert torch.allclose(function(x, times, data), alone, rtol=1e-12, atol=1e-12)


def test_weights_of_float32_twins_at_a_tiny_time_are_right_to_1e_4():
    t, data = 1e-4, normal(3, 16, seed=8, dtype=torch.float32)
    data[1] = data[0]
    data[1, 0] += 0.01  # a distance of 0.7 √Δ
    x = (math.exp(-t) * (data[0] + data[1]) / 2 + 0.003).repeat(1, 1)
    exponents = -(x.double() - math.exp(-t) * data.double()).square().sum(1) / (2 * delta(t))
    expected = exponents.softmax(0)
    found = collapse.weights(x, t, data)[0].double()
    assert 0.1 < float(expected[0]) < 0.9
    assert (found - expected).abs().max() < 1e-4


def test_no_function_has_less_denoising_loss_on_the_data_than_the_empirical_score():
    # L(φ) − L(S_emp) = E|φ − S_emp|² for any φ, and L(S_emp) = d/Δ − E|S_emp|²; both have the same draws, 4·10⁵ of them
    n, d, t, draws = 6, 3, 0.3, 400_000
    data = normal(n, d, seed=9)
    a, z = data.repeat(draws // n, 1), normal(draws // n * n, d, seed=10)
    x = math.exp(-t) * a + math.sqrt(delta(t)) * z

    def emp(x, t):
        return collapse.empirical_score(x, t, data)

    mean, covariance = gaussian.fit(data)
    linear = gaussian.optimal_linear_score(data, t)

    def phi(x, t):
        return -x @ linear.weight.T - linear.bias

    least = float(diffusion.denoising_losses(emp, a, z, t).matching)
    other = float(diffusion.denoising_losses(phi, a, z, t).matching)
    score = emp(x, t)
    floor = d / delta(t) - float(score.square().sum(1).mean())
    error = float((2 * ((score + z / math.sqrt(delta(t))) * score).sum(1)).std()) / math.sqrt(len(x))
    assert abs(least - floor) < 5 * error
    gap = float((phi(x, t) - score).square().sum(1).mean())
    cross = 2 * ((phi(x, t) - score) * (score + z / math.sqrt(delta(t)))).sum(1)
    assert abs(other - least - gap) < 5 * float(cross.std()) / math.sqrt(len(x))
    assert gap > 0.1  # the best linear score cannot reach the minimum
    exact = float(gaussian.denoising_loss(linear, t, mean, covariance))
    terms = (phi(x, t) + z / math.sqrt(delta(t))).square().sum(1)
    assert abs(other - exact) < 5 * float(terms.std()) / math.sqrt(len(x))


# ------------------------------------------------------------------------------------------------- entropies, t_C


@pytest.mark.parametrize(
    ("norm", "variance", "t"), [(3.0, 0.25, 0.4), (1.0, 1.0, 0.1), (0.0, 2.0, 1.0), (8.0, 0.5, 0.02)]
)
def test_the_entropy_of_two_classes_is_that_of_a_quadrature(norm, variance, t):
    gamma, centre = variance * math.exp(-2 * t) + delta(t), norm * math.exp(-t)

    def density(y):
        return (
            stats.norm.pdf(y, centre, math.sqrt(gamma)) + stats.norm.pdf(y, -centre, math.sqrt(gamma))
        ) / 2

    reach = centre + 14 * math.sqrt(gamma)
    line = integrate.quad(
        lambda y: -(p := density(y)) * math.log(max(p, 1e-300)),
        -reach,
        reach,
        points=(-centre, centre),
        epsabs=1e-12,
    )[0]
    for d in (1, 5):
        expected = line + (d - 1) / 2 * math.log(2 * math.pi * math.e * gamma)
        found = float(collapse.mixture_entropy(t, d, norm, variance))
        assert abs(found - expected) < 1e-9
        gauss = float(collapse.gaussian_entropy(t, d))
        assert abs(gauss - d / 2 * math.log(2 * math.pi * math.e * delta(t))) < 1e-12
        assert abs(float(collapse.mutual_information(t, d, norm, variance)) - (found - gauss)) < 1e-9


def test_one_class_has_the_entropy_of_a_gaussian_and_two_far_apart_have_log_2_more():
    # BIR-15: Γ = 1 at σ² = 1 for all times
    assert abs(float(collapse.mixture_entropy(0.7, 1, 0.0)) - 1.4189385332) < 1e-9
    far = collapse.mixture_entropy(0.7, 1, 60.0) - collapse.mixture_entropy(0.7, 1, 0.0)
    assert abs(float(far) - math.log(2)) < 1e-12


@pytest.mark.parametrize(
    ("d", "n", "variance", "formula", "exact", "half"),
    [
        (20, 1000, 1.0, 0.34776, 0.38499, 0.38519),
        (20, 1000, 0.25, 0.11205, 0.12738, 0.12738),
        (100, 20_000, 1.0, 0.85827, 0.89119, 0.89119),
    ],
)
def test_collapse_times_of_the_claims(d, n, variance, formula, exact, half):
    assert abs(collapse.collapse_time(n, d, variance) - formula) < 5.1e-6
    assert abs(collapse.collapse_time_exact(n, d, math.sqrt(d), variance) - exact) < 5.1e-6
    assert abs(collapse.collapse_time(n / 2, d, variance) - half) < 5.1e-6


@pytest.mark.parametrize(
    ("n", "d", "norm"), [(50, 3, 1.0), (2, 1, 5.0), (1.01, 4, 2.0), (1e20, 20, 4.0), (10, 1, 0.3)]
)
def test_the_exact_collapse_time_is_the_root_of_the_excess_entropy(n, d, norm):
    t = collapse.collapse_time_exact(n, d, norm, 0.5)
    excess = [
        float(collapse.excess_entropy(u, n, d, collapse.mixture_entropy(u, d, norm, 0.5)))
        for u in (0.99 * t, t, 1.01 * t)
    ]
    assert excess[0] < 0 < excess[2]
    assert abs(excess[1]) < 1e-9 * max(1, math.log(n) / d)
    assert collapse.collapse_time(n, d, 0.5) * (1 - 1e-9) <= t
    if n > 2:
        assert t <= collapse.collapse_time(n / 2, d, 0.5) * (1 + 1e-9)


def test_one_gaussian_collapses_at_the_closed_form_at_any_temperature():
    for temperature in (1.0, 2.0):
        t = collapse.collapse_time(300, 8, 0.7, temperature)
        gamma = float(speciation.noised_variance(t, 0.7, temperature))
        entropy = 4 * math.log(2 * math.pi * math.e * gamma)
        assert abs(float(collapse.excess_entropy(t, 300, 8, entropy, temperature))) < 1e-14
    assert (
        abs(collapse.collapse_time_exact(300, 8, 0.0, 0.7) / collapse.collapse_time(300, 8, 0.7) - 1) < 1e-11
    )


def test_collapse_times_at_few_and_at_many_data():
    # α → 0: ½ log(σ²/2α) up to O(α); α → ∞: (σ²/2) e^{−2α} up to a relative (1 + σ²/2) e^{−2α}
    assert abs(collapse.collapse_time(math.exp(1e-4 * 50), 50, 3.0) - math.log(3 / 2e-4) / 2) < 1e-4
    alpha = 3.0
    limit = math.exp(-2 * alpha) / 2
    assert abs(limit - 0.00123938) < 1e-8
    assert abs(collapse.collapse_time(math.exp(alpha * 10), 10) / limit - 1) < 1.5 * math.exp(-2 * alpha)
    assert collapse.collapse_time(1, 10) == INF == collapse.collapse_time_exact(1, 10, 2.0)
    assert collapse.collapse_time(1e300, 1) == 0.0 == collapse.collapse_time_exact(1e300, 1, 2.0)


def test_so_many_data_keep_the_collapse_below_a_time():
    # BIR-20: I = 46.10 nats at t = 0.005, (d/2) log(1 + σ²/2t) = 46.15
    information = float(collapse.mutual_information(0.005, 20))
    assert abs(information - 46.10) < 0.005
    assert abs(10 * math.log(1 + 1 / 0.01) - 46.15) < 0.005
    assert abs(collapse.collapse_time_exact(math.exp(information), 20, 0.0) / 0.005 - 1) < 1e-9


# ------------------------------------------------------------------------------------------------- random energies


def test_the_entropy_of_the_levels_is_the_legendre_transform_of_an_average():
    t, variance, alpha = 0.3, 0.6, 0.4
    s, noise = math.exp(-t), delta(t)
    gamma = variance * s * s + noise
    nodes, w = np.polynomial.hermite_e.hermegauss(40)
    w = w / w.sum()

    def psi(
        lam,
    ):  # E_x log E_a exp(−λ(x − sa)²/2Δ), inner by adaptive quadrature, outer exact: the log is quadratic in x
        def inner(x):
            return math.log(
                integrate.quad(
                    lambda a: stats.norm.pdf(a, 0, math.sqrt(variance)) * math.exp(-lam * (x - s * a) ** 2 / (2 * noise)),
                    -8, 8, points=(x / s,) if abs(x / s) < 8 else None, epsabs=0, epsrel=1e-11, limit=200,
                )[0]
            )  # fmt: skip

        centre, one = inner(0.0), inner(1.0)
        return centre + (one - centre) * float((w * nodes**2).sum()) * gamma

    h = 1e-3
    for lam in (0.4, 1.0, 2.0):
        slope = (psi(lam + h) - psi(lam - h)) / (2 * h)
        expected = alpha + psi(lam) - lam * slope
        assert abs(float(collapse.rem_entropy(lam, alpha, t, variance)) - expected) < 1e-5  # h² ψ'''/6


def test_condensation_and_takeover_come_at_the_same_time():
    # BIR-16: s(1) = α − ½ log(1 + r) vanishes at t_C, where log n = I
    n, d, variance = 4000, 20, 0.7
    alpha, t = math.log(n) / d, collapse.collapse_time(n, d, variance)
    for u in (0.5 * t, t, 2 * t):
        r = variance * math.exp(-2 * u) / delta(u)
        assert abs(float(collapse.rem_entropy(1.0, alpha, u, variance)) - (alpha - math.log1p(r) / 2)) < 1e-12
    assert abs(collapse.condensation_point(alpha, t, variance) - 1) < 1e-10
    assert (
        collapse.condensation_point(alpha, 0.9 * t, variance)
        < 1
        < collapse.condensation_point(alpha, 1.1 * t, variance)
    )
    assert collapse.limit_participation(alpha, 1.1 * t, variance) == 0
    late = [collapse.limit_participation(alpha, f * t, variance) for f in (0.9, 0.5, 0.1, 0.001)]
    assert 0 < late[0] < late[1] < late[2] < late[3] < 1


def test_random_energies_at_finite_size_agree_with_levels_that_are_drawn():
    # BIR-16: N = 16: 0.405 and 0.598, whose limits are 1/3 and 0.6
    energies = normal(600, 2**12, seed=11) * math.sqrt(6)
    for ratio in (0.8, 1.5, 2.5):
        y2 = (energies * ratio * 2 * math.sqrt(math.log(2))).softmax(1).square().sum(1)
        found = collapse.random_energy_participation(12, ratio)
        assert abs(found - float(y2.mean())) < 4.5 * float(y2.std()) / math.sqrt(600)
    # the claim's own simulation has errors near 0.01
    assert abs(collapse.random_energy_participation(16, 1.5) - 0.405) < 0.03
    assert abs(collapse.random_energy_participation(16, 2.5) - 0.598) < 0.06
    # the limit is approached as (log N)/N
    gaps = [collapse.random_energy_participation(size, 1.5) - 1 / 3 for size in (20, 60, 180)]
    assert gaps[0] > gaps[1] > gaps[2] > 0
    assert gaps[2] < 0.3 * gaps[0]


@pytest.mark.parametrize(
    ("n", "d", "t", "variance"),
    [(40, 4, 0.15, 1.0), (40, 4, 0.6, 0.5), (200, 12, 0.3, 1.0), (1, 3, 0.2, 1.0)],
)
@pytest.mark.parametrize("planted", [False, True])
def test_the_participation_at_finite_size_is_that_of_many_data_sets(n, d, t, variance, planted):
    # independent data sets and one point each, direct softmax; 10⁻³ is the accuracy of the quadrature
    sets = 4000
    data = normal(sets, n, d, seed=12) * math.sqrt(variance)
    origin = data[:, 0] if planted else normal(sets, d, seed=13) * math.sqrt(variance)
    x = math.exp(-t) * origin + math.sqrt(delta(t)) * normal(sets, d, seed=14)
    w = (-(x[:, None] - math.exp(-t) * data).square().sum(2) / (2 * delta(t))).softmax(1)
    y2 = w.square().sum(1)
    found = collapse.expected_participation(t, n, d, variance, planted)
    assert abs(found - float(y2.mean())) < 4.5 * float(y2.std()) / math.sqrt(sets) + 1e-3
    if planted:  # and the weight of the datum that x comes from has the same mean
        assert abs(found - float(w[:, 0].mean())) < 4.5 * float(w[:, 0].std()) / math.sqrt(sets) + 1e-3


def test_the_numbers_of_the_claim_belong_to_two_classes_of_half_the_data():
    # BIR-17, one data set of 2000 points in two classes that do not see each other; its errors are near 0.01
    t = collapse.collapse_time(2000, 20)
    claimed = {0.25: 0.999, 0.5: 0.979, 1.0: 0.646, 1.25: 0.452, 2.0: 0.120}
    for f, value in claimed.items():
        assert abs(collapse.expected_participation(f * t, 1000, 20, planted=True) - value) < 0.02
    steeper = collapse.collapse_time(2000, 40)
    for f, value in {0.5: 0.999, 2.0: 0.044}.items():
        assert abs(collapse.expected_participation(f * steeper, 1000, 40, planted=True) - value) < 0.01


def test_the_planted_weight_and_the_participation_have_one_mean():
    data = two_classes(600, 10, seed=15)
    for f in (0.5, 1.0, 2.0):
        found = collapse.planted(f * collapse.collapse_time(600, 10), data, 3000, generator=seeded(16))
        assert abs(found.difference.mean) < 4.5 * found.difference.error
        assert found.difference.error < found.weight.error
        assert abs(found.weight.mean - found.participation.mean - found.difference.mean) < 1e-12


@pytest.mark.parametrize("bandwidth", [0.0, 0.3])
def test_planted_means_and_the_empirical_entropy_agree_with_a_quadrature_in_one_dimension(bandwidth):
    data, t = torch.tensor([[-1.2], [0.1], [0.5], [2.0]], dtype=torch.float64), 0.2
    x = torch.linspace(-9, 9, 9001, dtype=torch.float64)[:, None]
    width = delta(t) + bandwidth * math.exp(-2 * t)
    p = torch.exp(-((x - math.exp(-t) * data[:, 0]) ** 2) / (2 * width)) / math.sqrt(2 * math.pi * width) / 4
    total = p.sum(1)
    y2 = float(torch.trapezoid(p.square().sum(1) / total.clamp(min=1e-300), x[:, 0]))
    entropy = float(torch.trapezoid(-torch.xlogy(total, total), x[:, 0]))
    found = collapse.planted(t, data, 40_000, bandwidth, generator=seeded(17))
    assert abs(found.participation.mean - y2) < 4.5 * found.participation.error
    assert abs(found.weight.mean - y2) < 4.5 * found.weight.error
    estimate = collapse.empirical_entropy(t, data, 40_000, bandwidth, generator=seeded(18))
    assert abs(estimate.mean - entropy) < 4.5 * estimate.error


# ------------------------------------------------------------------------------------------------- the crossing


def test_the_empirical_entropy_crosses_from_the_law_to_the_data():
    # BIR-18, BIR-12 at d = 20, n = 1000, per dimension. Far from t_C the data fluctuate by √(2/nd) e^{−2t}/2 ~ 10⁻³ at t = 1
    d, n = 20, 1000
    data = two_classes(n, d, seed=19)
    for t in (0.05, 0.1, 0.385, 1.0, 1.5):
        found = collapse.empirical_entropy(t, data, 3000, generator=seeded(20))
        bound = math.log(n) + float(collapse.gaussian_entropy(t, d))
        law = float(collapse.mixture_entropy(t, d, math.sqrt(d)))
        assert found.mean <= bound
        if t <= 0.1:
            assert bound - found.mean < 0.005 * d
        elif t >= 1:
            # the data lack some of the entropy of the law: the excess ½ E[(p_emp − p)²/p] is (e^I − 1)/2n, below 0.1 nats at t ≥ 1
            assert abs(found.mean - law) < 4.5 * found.error + 0.1
        else:  # the corner is round: 1.3886 for 1.4534
            assert abs(found.mean / d - 1.389) < 0.02


def test_at_finite_dimension_the_measured_criterion_is_right_away_from_the_collapse_only():
    # NUMBERS: d = 10, n = 2·10⁴: f agrees with theory for t ≥ 0.2 and not at t_C = 0.074
    d, n = 10, 20_000
    data = two_classes(n, d, seed=21)

    def excess(t):
        found = collapse.empirical_entropy(t, data, 500, generator=seeded(22))
        exact = collapse.excess_entropy(t, n, d, collapse.mixture_entropy(t, d, math.sqrt(d)))
        return float(collapse.excess_entropy(t, n, d, found.mean)) - float(exact), found.error / d

    for t in (0.25, 0.5):
        gap, error = excess(t)
        assert abs(gap) < 4.5 * error + 0.01
    gap, error = excess(collapse.collapse_time(n, d))
    assert gap > 0.1 > 10 * error


# ------------------------------------------------------------------------------------------------- generation


def test_generation_with_the_empirical_score_ends_on_the_data():
    # BIR-19 at d = 20; the distance left is √Δ, to 1/√(2·paths·d) and the last step's error
    n, d, paths = 300, 20, 100
    data = two_classes(n, d, seed=23)
    times = diffusion.time_grid(5.0, 1e-4, 300, "log")
    at = [int((times - t).abs().argmin()) for t in (1.0, 0.25, 0.1)] + [300]
    x = collapse.generate(paths, data, times, at=at, generator=seeded(24))
    assert x.shape == (4, paths, d)
    end = collapse.nearest(x[-1], data)
    rms = float(end.distance.square().mean().sqrt()) / math.sqrt(d)
    assert 0.95 < rms / math.sqrt(delta(1e-4)) < 1.15
    kept = [
        float((collapse.nearest(x[i], data, float(times[at[i]])).index == end.index).double().mean())
        for i in range(3)
    ]
    assert kept[0] < kept[1] <= kept[2]
    assert kept[0] < 0.6
    assert kept[2] > 0.97
    fresh = collapse.nearest(two_classes(200, d, seed=25), data).distance.mean() / math.sqrt(d)
    assert float(fresh) > 0.8
    # all data alike: no datum has more than chance gives it
    assert int(torch.bincount(end.index, minlength=n).max()) <= 6


def test_a_run_in_parts_is_the_run_in_one():
    data, times = two_classes(50, 4, seed=26), diffusion.time_grid(4.0, 1e-3, 40, "log")
    parts = collapse.generate(9, data, times, at=(0, 10, -1), generator=seeded(27))
    whole = collapse.generate(9, data, times, generator=seeded(27))
    assert torch.equal(parts[-1], whole[0])
    assert abs(float(parts[0].std()) - 1) < 0.4  # 36 normal numbers
    assert not torch.equal(collapse.generate(9, data, times), whole)


def test_a_bandwidth_c_generates_the_smeared_data():
    # BIR-22: distance to the data near √c (0.314, 0.540 √d), classes as trained, variance within a class that of the data plus c
    n, d, paths = 400, 20, 150
    data = two_classes(n, d, seed=28)
    times = diffusion.time_grid(5.0, 1e-3, 150, "log")

    def within(x):
        return (x - x.sum(1).sign()[:, None]).square().mean(1)

    for c, claimed in ((0.1, 0.314), (0.3, 0.540)):
        x = collapse.generate(paths, data, times, bandwidth=c, generator=seeded(29))[0].double()
        near = collapse.nearest(x, data).distance / math.sqrt(d)
        assert abs(float(near.mean()) - claimed) < 0.02
        share = float((x.sum(1) > 0).double().mean())
        trained = float((data.sum(1) > 0).double().mean())
        assert abs(share - trained) < 4.5 * 0.5 / math.sqrt(paths)
        spread = within(x)
        error = float(spread.std()) / math.sqrt(paths)
        assert abs(float(spread.mean()) - float(within(data).mean()) - c) < 4.5 * error + 0.01


def test_the_nearest_datum_is_that_of_all_pairs():
    data, x = normal(33, 5, seed=30), normal(8, 5, seed=31)
    pairs = (x[:, None] - math.exp(-0.2) * data).norm(dim=2)
    found = collapse.nearest(x, data, 0.2)
    assert torch.equal(found.index, pairs.argmin(1))
    assert torch.allclose(found.distance, pairs.amin(1), rtol=1e-12, atol=0)


MEMORY = """
import resource
import sys
import torch
from physgen.memorization import collapse

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)

data = torch.empty(120_000, 784)
for rows in data.split(20_000):
    rows.uniform_(-1, 1)
before, x = peak(), data[:16] / 2
for n in (1000, 30_000, 120_000):
    for function in (collapse.empirical_score, collapse.log_density, collapse.participation_ratio):
        function(x, 0.5, data[:n])
    print(peak() - before)
"""


def test_the_workspace_does_not_grow_with_the_data():
    # 380 MB of them here. At n = 10⁶, 3.1 GB, it was 118 MB, in 8 s a function: the data are read in chunks of a few MB, and what
    # is left is torch's own workspace and the heap's slack, which varies by some 30 MB.
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", MEMORY], capture_output=True, text=True, check=True, env=environment
    )
    _, few, many = (int(line) for line in done.stdout.split())
    assert many < 500e6
    # from 30,000 to 120,000 the input grows by 280 MB
    assert many - few < 80e6


# ------------------------------------------------------------------------------------------------- input

X, DATA = normal(4, 3, seed=32), normal(6, 3, seed=33)


@pytest.mark.parametrize("name", ["empirical_score", "log_density", "weights", "participation_ratio"])
def test_bad_data_are_named(name):
    function = getattr(collapse, name)
    with pytest.raises(ValueError, match="data"):
        function(X, 0.5, DATA[:0])
    with pytest.raises(ValueError, match="data"):
        function(X, 0.5, DATA[:, :2])
    with pytest.raises(ValueError, match="data"):
        function(X, 0.5, DATA.float())
    with pytest.raises(ValueError, match="data"):
        function(X, 0.5, torch.where(DATA == DATA.max(), NAN, DATA))
    with pytest.raises(ValueError, match="data"):
        function(X, 0.5, DATA.long())
    with pytest.raises(ValueError, match="x"):
        function(X * INF, 0.5, DATA)
    for t in (0.0, -1.0, NAN, "1", torch.ones(3), torch.tensor([1.0, 1.0, 0.0, 1.0])):
        with pytest.raises(ValueError, match="t: got"):
            function(X, t, DATA)
    with pytest.raises(ValueError, match="bandwidth"):
        function(X, 0.5, DATA, bandwidth=-0.1)


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("n", lambda: collapse.collapse_time(0, 3)),
        ("d", lambda: collapse.collapse_time(10, 0)),
        ("variance", lambda: collapse.collapse_time(10, 3, 0.0)),
        ("temperature", lambda: collapse.collapse_time(10, 3, 1.0, -1.0)),
        ("n", lambda: collapse.collapse_time_exact(0.5, 3, 1.0)),
        ("norm", lambda: collapse.collapse_time_exact(10, 3, -1.0)),
        ("t", lambda: collapse.mixture_entropy(0.0, 3, 1.0)),
        ("d", lambda: collapse.mixture_entropy(0.1, 2.5, 1.0)),
        ("variance", lambda: collapse.mutual_information(0.1, 3, 1.0, NAN)),
        ("entropy", lambda: collapse.excess_entropy(torch.tensor([0.1, 0.2]), 10, 3, 1.0)),
        ("entropy", lambda: collapse.excess_entropy(0.1, 10, 3, NAN)),
        ("n", lambda: collapse.excess_entropy(0.1, 0, 3, 1.0)),
        ("lam", lambda: collapse.rem_entropy(-1.0, 0.1, 0.1)),
        ("alpha", lambda: collapse.condensation_point(0.0, 0.1)),
        ("alpha", lambda: collapse.condensation_point(301, 0.1)),
        ("spins", lambda: collapse.random_energy_participation(201, 1.0)),
        ("ratio", lambda: collapse.random_energy_participation(10, 0.0)),
        ("n", lambda: collapse.expected_participation(0.1, 0, 3)),
        ("data", lambda: collapse.empirical_entropy(0.1, DATA[:0])),
        ("samples", lambda: collapse.planted(0.1, DATA, 1)),
        ("generator", lambda: collapse.planted(0.1, DATA, generator=3)),
        ("times", lambda: collapse.generate(3, DATA, torch.tensor([0.1, 1.0], dtype=torch.float64))),
        ("times", lambda: collapse.generate(3, DATA, 1.0)),
        ("at", lambda: collapse.generate(3, DATA, diffusion.time_grid(1.0, 0.1, 5), at=(3, 2))),
        ("at", lambda: collapse.generate(3, DATA, diffusion.time_grid(1.0, 0.1, 5), at=())),
        ("x", lambda: collapse.nearest(X[:, :2], DATA)),
        ("t", lambda: collapse.nearest(X, DATA, -1.0)),
    ],
)
def test_bad_arguments_are_named(name, call):
    with pytest.raises(ValueError, match=f"^{name}: got"):
        call()


def test_no_point_gives_no_answer_and_far_points_stay_finite():
    empty = X[:0]
    assert collapse.empirical_score(empty, 0.5, DATA).shape == (0, 3)
    assert collapse.empirical_score(empty, torch.ones(0), DATA).shape == (0, 3)
    assert collapse.nearest(empty, DATA).index.shape == (0,)
    far = 1e6 * X
    assert collapse.empirical_score(far, 1e-6, DATA).isfinite().all()
    assert collapse.participation_ratio(far, 1e-6, DATA).isfinite().all()
