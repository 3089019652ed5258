"""The chapter `scales/wavelets`: risks in closed form against simulation and quadrature, transforms against PyWavelets, signals with jumps."""

from __future__ import annotations

import math
from itertools import combinations, pairwise

import numpy as np
import pytest
import pywt
import scipy.fft
import torch
from scipy.integrate import quad
from scipy.stats import norm

from physgen.diffusion import denoisers, score
from physgen.kernels import wavelet as kernel
from physgen.scales import wavelets

NAMES = ["haar", *(f"db{p}" for p in range(2, 9))]
SIGMA = 0.3


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def orthonormal(d, seed=0):
    return torch.linalg.qr(normal(d, d, seed=seed)).Q


def covariance(d, seed=0):
    a = normal(d, d, seed=seed)
    return a @ a.T / d


def circulant(d):
    """C_{ij} = c(i − j), with eigenvalues 1/(1 + k²) at the frequencies ±k."""
    k = torch.fft.fftfreq(d, 1 / d, dtype=torch.float64)
    row = torch.fft.ifft(1 / (1 + k**2)).real
    return torch.stack([row.roll(i) for i in range(d)])


# all levels that a size allows are deeper than PyWavelets finds useful
quiet = pytest.mark.filterwarnings("ignore:Level value")


def refused(match, function, *args, **kw):
    with pytest.raises(ValueError, match=match):
        function(*args, **kw)


# ------------------------------------------------------------------------------------------------- Wiener


def test_the_error_of_wieners_filter_is_that_of_its_spectrum_and_of_its_trace():
    c, sigma = covariance(12), 0.7
    h = wavelets.wiener_filter(c, sigma)
    error = float(wavelets.wiener_mse(torch.linalg.eigvalsh(c), sigma))
    assert error == pytest.approx(sigma**2 * float(h.trace()), rel=1e-12)  # WAV-1
    assert error == pytest.approx(float(wavelets.filter_error(h, c, sigma)), rel=1e-12)
    assert error == pytest.approx(denoisers.wiener_error(sigma, c), rel=1e-12)


def test_the_error_of_a_filter_is_what_simulation_gives():
    c, sigma, n = covariance(6), 0.5, 40_000
    h = wavelets.wiener_filter(c, sigma) + 0.1 * normal(6, 6, seed=3)
    x = normal(n, 6, seed=1) @ torch.linalg.cholesky(c + 1e-12 * torch.eye(6)).T
    errors = ((x + sigma * normal(n, 6, seed=2)) @ h.T - x).square().sum(1)
    expected = float(wavelets.filter_error(h, c, sigma))
    assert abs(float(errors.mean()) - expected) < 4.5 * float(errors.std()) / math.sqrt(n)


def test_no_other_filter_has_a_smaller_error():
    c, sigma = covariance(8), 0.5
    h = wavelets.wiener_filter(c, sigma).requires_grad_()
    (slope,) = torch.autograd.grad(wavelets.filter_error(h, c, sigma), h)
    assert float(slope.abs().max()) < 1e-13
    least = wavelets.filter_error(h.detach(), c, sigma)
    for seed in range(5):  # the error is quadratic: |ΔC^½|² + σ²|Δ|² above its minimum
        change = 0.01 * normal(8, 8, seed=seed)
        above = (change @ c * change).sum() + sigma**2 * (change**2).sum()
        assert float(wavelets.filter_error(h.detach() + change, c, sigma) - least) == pytest.approx(
            float(above), rel=1e-9
        )


def test_the_error_of_wieners_filter_is_orthogonal_to_what_was_seen():
    c, sigma = covariance(10), 0.4
    h = wavelets.wiener_filter(c, sigma)
    assert (
        float((h @ (c + sigma**2 * torch.eye(10, dtype=c.dtype)) - c).abs().max()) < 1e-14
    )  # WAV-1, E[(Hy − x)yᵀ]
    y = normal(5, 10, seed=4)
    torch.testing.assert_close(y @ h.T, score.wiener(y, c, sigma), rtol=1e-12, atol=1e-13)


def test_the_eigenvalues_of_wieners_filter_are_between_zero_and_one():
    c, sigma = covariance(9), 0.3
    b = torch.linalg.eigvalsh(c)
    h = torch.linalg.eigvalsh(wavelets.wiener_filter(c, sigma))
    torch.testing.assert_close(h, b / (b + sigma**2), rtol=1e-12, atol=1e-14)
    assert 0 <= float(h.min()) and float(h.max()) < 1


def test_zero_and_huge_eigenvalues_keep_their_limits():
    b = torch.tensor([0.0, 1e-140, 1e140], dtype=torch.float64)
    assert float(wavelets.wiener_mse(b[:1], 2.0)) == 0
    assert float(wavelets.wiener_mse(b[1:2], 2.0)) == pytest.approx(1e-140, rel=1e-12)
    assert float(wavelets.wiener_mse(b[2:], 2.0)) == pytest.approx(4, rel=1e-12)


# ------------------------------------------------------------------------------------------------- bases


def test_fouriers_basis_is_the_pca_basis_of_a_circulant_covariance_and_haars_is_not():
    c = circulant(64)
    fourier, haar = (wavelets.covariance_in_basis(c, basis) for basis in ("fourier", "haar"))
    k = torch.fft.fftfreq(64, 1 / 64, dtype=torch.float64)
    torch.testing.assert_close(fourier, torch.diag(1 / (1 + k**2)).to(fourier), rtol=0, atol=1e-14)  # WAV-2
    off = haar - torch.diag(haar.diagonal())
    assert float(off.abs().max()) > 0.1 * float(haar.diagonal().mean())
    assert float(haar.trace()) == pytest.approx(float(c.trace()), rel=1e-12)


def test_fouriers_basis_is_not_that_of_a_covariance_which_knows_where_it_is():
    c = denoisers.signal_covariance(denoisers.jump_masks(32))
    inside = wavelets.covariance_in_basis(c, "fourier")
    assert float((inside - torch.diag(inside.diagonal())).abs().max()) > 0.1


def test_the_covariance_in_a_basis_is_the_mean_of_the_products_of_coefficients():
    x, basis = normal(7, 16), "fourier"
    a = wavelets.analyse(x, basis)
    expected = a.mT @ a.conj() / 7
    torch.testing.assert_close(
        wavelets.covariance_in_basis(x.T @ x / 7, basis), expected, rtol=1e-12, atol=1e-13
    )


@pytest.mark.parametrize("dims", [1, 2])
@pytest.mark.parametrize("basis", wavelets.BASES)
def test_every_basis_is_orthonormal_and_returns(basis, dims):
    x = normal(2, 24, 16)
    c = wavelets.analyse(x, basis, dims)
    assert c.shape == x.shape
    torch.testing.assert_close(wavelets.synthesise(c, basis, dims), x, rtol=0, atol=1e-13)
    torch.testing.assert_close(c.abs().square().sum((-2, -1)), x.square().sum((-2, -1)), rtol=1e-13, atol=0)


@pytest.mark.parametrize("dims", [1, 2])
def test_fourier_and_cosines_are_those_of_scipy(dims):
    x, axes = normal(3, 12, 10), tuple(range(-dims, 0))
    for basis, peer in (("fourier", scipy.fft.fftn), ("dct", scipy.fft.dctn)):
        there = torch.from_numpy(peer(x.numpy(), axes=axes, norm="ortho"))
        torch.testing.assert_close(wavelets.analyse(x, basis, dims), there, rtol=0, atol=1e-13)


@quiet
@pytest.mark.parametrize("name", NAMES)
def test_the_transform_of_the_chapter_is_that_of_pywavelets(name):
    # The kernel's own tests prove all sizes and backends; here is what the chapter promises: list, order, signs.
    assert wavelets.dwt is kernel.dwt and wavelets.idwt2 is kernel.idwt2
    x, image = normal(3, 64), normal(2, 32, 16)
    for found, there in zip(wavelets.dwt(x, name, 5), pywt.wavedec(x, name, "periodization", 5), strict=True):
        torch.testing.assert_close(found, torch.from_numpy(there), rtol=0, atol=1e-12)
    a, *details = wavelets.dwt2(image, name, 3)
    first, *rest = pywt.wavedec2(image, name, "periodization", 3)
    torch.testing.assert_close(a, torch.from_numpy(first), rtol=0, atol=1e-12)
    for found, there in zip(details, rest, strict=True):
        for one, other in zip(found, there, strict=True):
            torch.testing.assert_close(one, torch.from_numpy(other), rtol=0, atol=1e-12)


@quiet
def test_coefficients_lie_in_the_order_of_scales_as_in_pywavelets():
    x, image = normal(32), normal(16, 24)
    there = np.concatenate(pywt.wavedec(x, "db2", "periodization", 5))
    torch.testing.assert_close(wavelets.analyse(x, "db2"), torch.from_numpy(there), rtol=0, atol=1e-12)
    found = wavelets.analyse(image, "db3", 2, levels=1)
    a, (h, v, d) = wavelets.dwt2(image, "db3")
    assert torch.equal(found[:8, :12], a) and torch.equal(found[:8, 12:], v)
    assert torch.equal(found[8:, :12], h) and torch.equal(found[8:, 12:], d)
    # a wave along the rows only has no details across them
    wave = torch.cos(torch.arange(24, dtype=torch.float64)).expand(16, 24)
    assert float(wavelets.analyse(wave, "haar", 2, levels=1)[8:].abs().max()) < 1e-14


# ------------------------------------------------------------------------------------------------- oracles


def test_the_risk_of_factors_at_a_fixed_signal_is_what_simulation_gives_in_any_basis():
    d, sigma, n = 8, 0.6, 200_000
    basis, x, h = (
        orthonormal(d),
        3 * normal(d, seed=1),
        torch.rand(d, generator=torch.Generator().manual_seed(2)).double(),
    )
    y = x + sigma * normal(n, d, seed=3)
    errors = ((y @ basis.T * h) @ basis - x).square().sum(1)
    expected = float(wavelets.attenuation_risk(h, basis @ x, sigma))
    assert abs(float(errors.mean()) - expected) < 4.5 * float(errors.std()) / math.sqrt(n)  # WAV-3
    # the notes' Σ [(h_k + 1) x_k + h_k σ²]² is another number
    assert float(((1 + h) * (basis @ x) + h * sigma**2).square().sum()) > 5 * expected


def test_the_oracles_are_the_minima_over_factors():
    x, sigma = 2 * normal(20), 0.8
    found = wavelets.oracle_risks(x, sigma)
    h = (x**2 / (x**2 + sigma**2)).requires_grad_()
    risk = wavelets.attenuation_risk(h, x, sigma)
    assert risk.item() == pytest.approx(float(found.attenuation), rel=1e-13)  # WAV-3
    assert float(torch.autograd.grad(risk, h)[0].abs().max()) < 1e-14
    binary = wavelets.attenuation_risk((x.abs() >= sigma).double(), x, sigma)
    assert float(binary) == pytest.approx(float(found.binary), rel=1e-13)  # WAV-4
    few = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 6).double()  # all 64 choices for six of them
    least = wavelets.attenuation_risk(few, x[:6].expand(64, 6), sigma).min()
    assert float(least) == pytest.approx(float(wavelets.oracle_risks(x[:6], sigma).binary), rel=1e-13)


def test_the_binary_oracle_is_between_the_attenuation_oracle_and_twice_it():
    found = wavelets.oracle_risks(3 * normal(1000, 7) ** 3, 0.7)
    ratio = found.binary / found.attenuation  # WAV-4
    assert 1 <= float(ratio.min()) and float(ratio.max()) <= 2
    equal, apart = (
        wavelets.oracle_risks(torch.tensor(v, dtype=torch.float64), 1.0) for v in ([1.0, -1.0], [1e-4, 1e4])
    )
    assert float(equal.binary / equal.attenuation) == pytest.approx(2, rel=1e-15)
    assert float(apart.binary / apart.attenuation) == pytest.approx(1, abs=1e-7)


def test_oracles_take_complex_coefficients_and_huge_ones():
    x, sigma = normal(2, 16), 0.5
    c = wavelets.analyse(x, "fourier")
    found = wavelets.oracle_risks(c, sigma)
    torch.testing.assert_close(found.binary, (c.abs() ** 2).clamp(max=sigma**2).sum(-1))
    huge = wavelets.oracle_risks(torch.tensor([1e149, 1e-160], dtype=torch.float64), 1.0)
    assert float(huge.attenuation) == float(huge.binary) == 1


# ------------------------------------------------------------------------------------------------- thresholds


def by_quadrature(estimate, T, theta):
    def inside(z):
        return (estimate(theta + z, T) - theta) ** 2 * norm.pdf(z)

    cuts = sorted(c for c in (-T - theta, T - theta) if abs(c) < 12)
    edges = [-12.0, *cuts, 12.0]
    return sum(quad(inside, a, b, epsabs=1e-13, epsrel=1e-12)[0] for a, b in pairwise(edges))


@pytest.mark.parametrize(
    ("T", "theta"), [(2.0, 1.0), (3.0, 0.0), (1.5, 4.0), (0.0, 2.0), (1.0, -1.0), (4.0, 6.0)]
)
def test_the_risks_of_both_thresholds_are_their_integrals(T, theta):
    soft = by_quadrature(lambda y, t: math.copysign(max(abs(y) - t, 0), y), T, theta)
    hard = by_quadrature(lambda y, t: y if abs(y) > t else 0.0, T, theta)
    assert float(wavelets.soft_threshold_risk(T, theta)) == pytest.approx(soft, rel=1e-10)
    assert float(wavelets.hard_threshold_risk(T, theta)) == pytest.approx(hard, rel=1e-10)


@pytest.mark.parametrize(("T", "theta", "r"), [(2, 1, 0.90968), (3, 0, 4.0687e-4), (1.5, 4, 3.23277)])
def test_the_risk_of_the_soft_threshold_has_the_known_values(T, theta, r):
    assert float(wavelets.soft_threshold_risk(T, theta)) == pytest.approx(r, rel=1.2e-5)  # WAV-5, five digits


def test_the_risk_of_the_soft_threshold_is_the_closed_form_and_what_simulation_gives():
    T, theta, n = 1.7, torch.tensor([0.0, 0.5, 2.0, 5.0]).double(), 200_000
    p = norm.cdf(T - theta) - norm.cdf(-T - theta)
    known = (
        1 + T**2 + (theta.numpy() ** 2 - T**2 - 1) * p
        - (T - theta.numpy()) * norm.pdf(T + theta) - (T + theta.numpy()) * norm.pdf(T - theta)
    )  # fmt: skip
    found = wavelets.soft_threshold_risk(T, theta)
    torch.testing.assert_close(found, torch.from_numpy(known), rtol=1e-12, atol=1e-14)
    for rule, risk in (
        (wavelets.soft_threshold, found),
        (wavelets.hard_threshold, wavelets.hard_threshold_risk(T, theta)),
    ):
        errors = (rule(theta + normal(n, 4), T) - theta).square()
        assert bool(((errors.mean(0) - risk).abs() < 4.5 * errors.std(0) / math.sqrt(n)).all())


def test_risks_keep_their_digits_far_out():
    # Asymptotic series of Mills' ratio: 2[(1 + T²) Q(T) − T φ(T)] = 4 φ(T)/T³ (1 − 6/T² + 45/T⁴ − …), next term 420/T⁶
    for T in (30.0, 37.0):
        expected = 4 * norm.pdf(T) / T**3 * (1 - 6 / T**2 + 45 / T**4)
        assert float(wavelets.soft_threshold_risk(T, 0.0)) == pytest.approx(
            expected, rel=2 * 420 / T**6 + 2e-10
        )
    assert float(wavelets.soft_threshold_risk(3.0, 1e100)) == 10
    assert float(wavelets.hard_threshold_risk(3.0, -1e100)) == 1
    assert (
        float(wavelets.soft_threshold_risk(1e100, 2.0))
        == float(wavelets.hard_threshold_risk(1e100, 2.0))
        == 4
    )
    assert float(wavelets.soft_threshold_risk(0.0, 2.0)) == pytest.approx(1, rel=1e-15)


def test_the_risk_of_the_soft_threshold_grows_with_the_coefficient_and_is_even():
    theta = torch.linspace(-8, 8, 401, dtype=torch.float64)
    risk = wavelets.soft_threshold_risk(2.5, theta)
    torch.testing.assert_close(risk, risk.flip(0), rtol=1e-12, atol=0)
    assert bool((risk[200:].diff() > 0).all())
    hard = wavelets.hard_threshold_risk(2.5, theta)  # no bias far out, and worse than soft near the threshold
    assert float(hard[-1]) == pytest.approx(1, abs=1e-5)
    assert float(hard.max()) > float(risk.max()) - 4


def test_thresholds_do_what_they_say():
    a = torch.tensor([-3.0, -1.0, 0.0, 0.5, 2.0, 3.0])
    assert wavelets.soft_threshold(a, 2.0).tolist() == [-1, 0, 0, 0, 0, 1]
    assert wavelets.hard_threshold(a, 2.0).tolist() == [-3, 0, 0, 0, 0, 3]
    z = torch.tensor([3 + 4j, 0.1j])
    torch.testing.assert_close(wavelets.soft_threshold(z, 1.0), torch.tensor([2.4 + 3.2j, 0j]))
    assert wavelets.universal_threshold(256, 2.0) == pytest.approx(2 * math.sqrt(2 * math.log(256)))
    assert wavelets.universal_threshold(1) == 0


@pytest.mark.parametrize(
    ("d", "binary", "attenuation"),
    [(16, 6.160, None), (256, 12.043, 12.377), (4096, 17.631, None), (1e6, 28.631, 29.075)],
)
def test_the_universal_bound_holds_with_the_binary_oracle_and_only_with_it(d, binary, attenuation):
    bound = 2 * math.log(d) + 1
    found, other = (wavelets.largest_ratio(d, oracle) for oracle in ("binary", "attenuation"))
    assert found.value == pytest.approx(binary, abs=6e-4)  # WAV-6
    assert found.value < bound
    if attenuation:
        assert other.value == pytest.approx(attenuation, abs=6e-4)
        assert bound < other.value < 2 * math.log(d) + 2.4


def test_the_bound_holds_for_small_dimensions_and_is_tight_for_large_ones():
    slack = {d: 2 * math.log(d) + 1 - wavelets.largest_ratio(d).value for d in (2, 3, 4, 8, 64, 1e6)}
    assert min(slack.values()) > 0
    assert slack[1e6] == pytest.approx(2.9e-5, abs=6e-7)
    assert 1 - slack[64] / (2 * math.log(64) + 1) == pytest.approx(0.985, abs=6e-4)


@pytest.mark.parametrize(("d", "least"), [(2, 1.354), (16, 1.107), (256, 1.020)])
def test_no_threshold_beats_the_attenuation_oracle_and_the_binary_one_is_beaten(d, least):
    assert wavelets.smallest_ratio(d).value == pytest.approx(least, abs=6e-4)  # WAV-7
    assert wavelets.smallest_ratio(d, "binary").value < 1


def test_the_binary_oracle_is_beaten_where_coefficients_equal_the_noise():
    for d, gap in ((4, -0.148), (16, -0.048)):
        risk = float(wavelets.soft_threshold_risk(wavelets.universal_threshold(d), 1.0))
        assert risk - 1 == pytest.approx(gap, abs=6e-4)
        assert wavelets.smallest_ratio(d, "binary").at == pytest.approx(1, abs=1e-6)


def test_the_bound_of_the_signal_is_above_its_risk():
    for seed in range(20):
        c = normal(64, seed=seed) * torch.logspace(1, -2, 64, dtype=torch.float64)
        risk, bound = wavelets.threshold_risk(c, SIGMA), wavelets.universal_bound(c, SIGMA)
        assert float(wavelets.oracle_risks(c, SIGMA).attenuation) < float(risk) < float(bound)


@pytest.mark.parametrize("mu", [0.5, 1.0, 2.0, 4.0])
def test_the_weight_of_the_own_place_of_two_is_a_mean_of_a_sigmoid(mu):
    def inside(z):
        return norm.pdf(z) / (1 + math.exp(-(mu**2 + math.sqrt(2) * mu * z)))

    assert wavelets._own_weight(2, mu) == pytest.approx(quad(inside, -12, 12, epsabs=1e-14)[0], abs=1e-12)


@pytest.mark.parametrize(("n", "mu"), [(64, 2.5), (300, 3.5)])
def test_the_error_for_a_spike_is_that_of_its_best_estimator(n, mu):
    draws = 20_000
    y = normal(draws, n)
    y[:, 0] += mu
    w = (mu * y).softmax(1)
    truth = torch.zeros(n, dtype=torch.float64)
    truth[0] = mu
    errors = (mu * w - truth).square().sum(1)
    expected = mu**2 * (1 - wavelets._own_weight(n, mu))
    assert abs(float(errors.mean()) - expected) < 4.5 * float(errors.std()) / math.sqrt(draws)


def test_no_estimator_does_better_than_two_log_d_in_the_end():
    shares = []
    for d, blocks in ((256, 2), (4096, 4), (1e6, 8), (1e20, 32), (1e100, 128), (1e300, 1024)):
        found = wavelets.minimax_bound(d, blocks)
        assert (
            1 <= found.at and found.value < wavelets.largest_ratio(d).value
        )  # below what a threshold attains
        shares.append(found.value / (2 * math.log(d)))
    assert shares == pytest.approx([0.2626, 0.3236, 0.4091, 0.6067, 0.7902, 0.8673], abs=6e-5)  # WAV-8
    assert shares == sorted(shares)


def test_steins_estimate_is_unbiased_and_its_threshold_is_its_minimum():
    x, sigma, n = torch.tensor([0.0, 0.2, 1.0, 3.0, -2.0]).double(), 0.8, 200_000
    y = x + sigma * normal(n, 5)
    for T in (0.0, 0.7, 2.0):
        found = wavelets.sure(T, y, sigma)
        expected = float(wavelets.threshold_risk(x, sigma, T))
        assert abs(float(found.mean()) - expected) < 4.5 * float(found.std()) / math.sqrt(n) + 1e-12
    c = normal(50, seed=7) * 2
    T = wavelets.sure_threshold(c, 1.0)
    grid = torch.linspace(0, wavelets.universal_threshold(50), 2001).tolist()
    assert float(wavelets.sure(T, c, 1.0)) <= min(float(wavelets.sure(t, c, 1.0)) for t in grid) + 1e-12
    assert wavelets.sure_threshold(torch.zeros(9), 1.0) == 0  # nothing to cut, whatever T


# ------------------------------------------------------------------------------------------------- compression


def test_the_binary_oracle_is_the_price_of_the_best_terms():
    x = wavelets.piecewise(256)
    for basis, value in (("haar", 1.350), ("fourier", 15.648)):
        c = wavelets.analyse(x, basis)
        terms = int((c.abs() >= SIGMA).sum())
        error = float((c - wavelets.best_terms(c, terms)).abs().square().sum())
        found = float(wavelets.oracle_risks(c, SIGMA).binary)
        assert found == pytest.approx(terms * SIGMA**2 + error, rel=1e-12)  # WAV-9
        assert found == pytest.approx(value, abs=6e-4)
        assert error == pytest.approx(float(wavelets.approximation_errors(c)[terms]), rel=1e-12, abs=1e-25)


def test_the_largest_terms_are_the_best_of_all_choices():
    c = normal(8)
    for terms in range(9):
        errors = [
            float(c.square().sum() - c[list(kept)].square().sum()) for kept in combinations(range(8), terms)
        ]
        assert float(wavelets.approximation_errors(c)[terms]) == pytest.approx(min(errors), abs=1e-13)
        assert int((wavelets.best_terms(c, terms) != 0).sum()) == terms


def test_equal_coefficients_are_kept_from_the_first():
    assert wavelets.best_terms(torch.tensor([1.0, -1.0, 1.0]), 2).tolist() == [1, -1, 0]
    c = normal(3, 4)
    assert torch.equal(wavelets.best_terms(c, 4), c) and float(wavelets.best_terms(c, 0).abs().max()) == 0


def test_a_good_basis_for_compression_is_a_good_one_for_denoising():
    x = wavelets.piecewise(256)
    haar, cosines = (wavelets.analyse(x, basis) for basis in ("haar", "dct"))
    assert int((haar.abs() > 1e-9).sum()) == 15  # WAV-10
    oracles = wavelets.oracle_risks(haar, SIGMA)
    assert (float(oracles.attenuation), float(oracles.binary)) == pytest.approx((1.302, 1.350), abs=6e-4)
    assert float(wavelets.oracle_risks(cosines, SIGMA).binary) == pytest.approx(13.14, abs=6e-3)
    soft, hard = (
        [float(wavelets.threshold_risk(c, SIGMA, rule=r)) for c in (haar, cosines)] for r in ("soft", "hard")
    )
    assert soft == pytest.approx([14.70, 50.0], abs=0.06)
    assert hard == pytest.approx([2.70, 27.7], abs=0.06)
    assert float(wavelets.universal_bound(haar, SIGMA)) == pytest.approx(17.41, abs=6e-3)


def test_the_error_of_denoising_is_the_sum_of_the_risks():
    x, n = wavelets.piecewise(256), 1000
    y = x + SIGMA * normal(n, 256)
    for rule in ("soft", "hard"):
        errors = (wavelets.denoise(y, SIGMA, "haar", rule) - x).square().sum(1)
        expected = float(wavelets.threshold_risk(wavelets.analyse(x, "haar"), SIGMA, rule=rule))
        assert abs(float(errors.mean()) - expected) < 4.5 * float(errors.std()) / math.sqrt(n)


def test_one_jump_takes_few_wavelets_and_many_waves():
    x = wavelets.piecewise(4096, (1.0, 0.0), (1 / 3,))
    fourier, haar = (
        wavelets.approximation_errors(wavelets.analyse(x, b)) / 4096 for b in ("fourier", "haar")
    )
    terms = (8, 16, 64, 256)
    assert [m * float(fourier[m]) for m in terms] == pytest.approx(
        [0.158, 0.145, 0.137, 0.135], abs=6e-4
    )  # WAV-11
    # Σ over |k| > K, 3 ∤ k, of sin²(πk/3)/(πk)² = 3/4/(πk)², with M = 4K/3 terms: 4/(3π²M)
    assert 256 * float(fourier[256]) == pytest.approx(4 / (3 * math.pi**2), rel=2e-3)
    assert [float(haar[m]) for m in (4, 8)] == pytest.approx([0.0277, 0.00168], rel=2e-3)
    assert float(haar[12]) < 1e-30


# ------------------------------------------------------------------------------------------------- Haar


def test_haars_functions_are_orthonormal_and_are_what_the_transform_projects_on():
    d, levels = 256, 8
    middle = torch.arange(d, dtype=torch.float64) + 0.5
    rows = [torch.full((d,), d**-0.5, dtype=torch.float64)]
    for j in range(levels, 0, -1):
        rows += [wavelets.haar_function(middle, j, n) for n in range(d >> j)]
    basis = torch.stack(rows)
    assert float((basis @ basis.T - torch.eye(d)).abs().max()) < 1e-14  # WAV-12
    x = normal(d)
    torch.testing.assert_close(basis @ x, wavelets.analyse(x, "haar"), rtol=0, atol=1e-13)


def test_with_the_factor_of_the_notes_the_norm_is_two_to_the_j_over_two_j():
    middle = (torch.arange(64, dtype=torch.float64) + 0.5) / 4
    for j, norm_there in ((1, 1.0), (2, 1.0), (3, 4 / 3), (4, 2.0)):
        square = float(wavelets.haar_function(middle, j).square().sum()) / 4
        assert square == pytest.approx(1, abs=1e-14)
        assert square * 2**j / (2 * j) == pytest.approx(norm_there, abs=1e-13)


def test_the_detail_of_a_pair_is_left_minus_right():
    a, d = wavelets.dwt(torch.tensor([5.0, 3.0], dtype=torch.float64), "haar")
    assert (float(a), float(d)) == pytest.approx((8 / math.sqrt(2), 2 / math.sqrt(2)))
    assert wavelets.haar_function(torch.tensor([-0.1, 0.0, 0.4, 0.5, 0.9, 1.0])).tolist() == [
        0,
        1,
        1,
        -1,
        -1,
        0,
    ]


@pytest.mark.parametrize("j", [-2, 0, 3])
def test_the_spectrum_of_haars_function_is_its_fourier_transform(j):
    omega, scale = torch.tensor([0.0, 0.1, 1.0, 2 * math.pi, 20.0]).double() / 2**j, 2.0**j
    for w, found in zip(omega.tolist(), wavelets.haar_spectrum(omega, j).tolist(), strict=True):
        parts = [
            quad(lambda t, f=f, w=w: f(w * t), 0, scale / 2, limit=200)[0]
            - quad(lambda t, f=f, w=w: f(w * t), scale / 2, scale, limit=200)[0]
            for f in (math.cos, math.sin)
        ]
        assert found == pytest.approx(sum(p**2 for p in parts) / scale, abs=1e-10 * scale)


def test_the_band_of_haars_function_narrows_as_its_support_widens_and_its_tail_is_slow():
    omega = torch.linspace(-4000, 4000, 800_001, dtype=torch.float64)
    # Parseval: ∫|ψ̂|² dω = 2π; the mean of 16 sin⁴ is 6, so that 12/4000 lies beyond
    power = wavelets.haar_spectrum(omega)
    assert float(torch.trapezoid(power, omega)) == pytest.approx(2 * math.pi - 12 / 4000, abs=1e-5)
    torch.testing.assert_close(wavelets.haar_spectrum(omega / 8, 3), 8 * power, rtol=1e-9, atol=1e-20)


# ------------------------------------------------------------------------------------------------- signals and images


def test_pieces_are_where_they_should_be():
    x = wavelets.piecewise(256)
    assert x.unique().tolist() == [-2, 1, 3]
    assert [int((x == v).sum()) for v in (1, -2, 3)] == [95, 87, 74]  # i/256 < 0.37, < 0.71
    assert int(wavelets.piecewise(4096, (1.0, 0.0), (1 / 3,)).sum()) == 1366


@pytest.mark.parametrize(("basis", "dims"), [("haar", 1), ("db4", 2), ("dct", 2), ("fourier", 1)])
def test_with_a_threshold_of_zero_nothing_is_lost(basis, dims):
    y = normal(2, 16, 16)
    torch.testing.assert_close(
        wavelets.denoise(y, 1.0, basis, threshold=0.0, dims=dims, shifts=3), y, rtol=0, atol=1e-12
    )


def test_the_mean_over_all_shifts_does_not_know_where_the_grid_is():
    y = normal(16, 8)
    for dims, shift in ((1, (0, 3)), (2, (5, 3))):
        moved = wavelets.denoise(y.roll(shift, (0, 1)), 0.4, "haar", "hard", dims=dims, shifts=16)
        stayed = wavelets.denoise(y, 0.4, "haar", "hard", dims=dims, shifts=16)
        torch.testing.assert_close(moved, stayed.roll(shift, (0, 1)), rtol=0, atol=1e-12)
    one = wavelets.denoise(y.roll(1, 1), 0.4, "haar", "hard")
    assert float((one - wavelets.denoise(y, 0.4, "haar", "hard").roll(1, 1)).abs().max()) > 0.1


def test_averaging_over_shifts_lowers_the_error_of_a_jump_which_the_exact_denoiser_bounds_from_below():
    d, sigma, n = 64, 0.5, 400
    masks = denoisers.jump_masks(d)
    x = denoisers.draw(n, masks, generator=torch.Generator().manual_seed(1))
    y = x + sigma * normal(n, d, seed=2)
    one, all_shifts = (wavelets.denoise(y, sigma, "haar", "hard", shifts=k) for k in (1, d))
    best, wiener = (
        denoisers.posterior_mean(y, sigma, masks),
        score.wiener(y, denoisers.signal_covariance(masks), sigma),
    )
    errors = [(e - x).square().sum(1) for e in (best, all_shifts, one)]
    for better, worse in pairwise(errors):  # paired: the same noise
        gap = worse - better
        assert float(gap.mean()) > 4.5 * float(gap.std()) / math.sqrt(n)
    wiener_errors = (wiener - x).square().sum(1)
    expected = float(
        wavelets.wiener_mse(torch.linalg.eigvalsh(denoisers.signal_covariance(masks)).clamp(min=0), sigma)
    )
    assert abs(float(wiener_errors.mean()) - expected) < 4.5 * float(wiener_errors.std()) / math.sqrt(n)


def test_the_wiener_filter_in_fourier_is_that_of_a_circulant_covariance():
    c, y = circulant(32), normal(3, 32)
    b = 1 / (1 + torch.fft.fftfreq(32, 1 / 32, dtype=torch.float64) ** 2)
    found = wavelets.wiener_denoise(y, b, 0.4)
    torch.testing.assert_close(found, y @ wavelets.wiener_filter(c, 0.4), rtol=0, atol=1e-13)


def test_the_radial_spectrum_keeps_the_power_and_is_the_same_in_all_directions():
    image = normal(16, 16) + 3
    b = wavelets.radial_spectrum(image)
    assert float(b.sum()) == pytest.approx(float(image.square().sum()), rel=1e-12)
    torch.testing.assert_close(b, b.T)
    assert float(b[0, 0]) == pytest.approx(16**2 * float(image.mean()) ** 2, rel=1e-12)
    # white noise of variance one, less itself: 0 ± √(1/number in the ring), cut at 0
    rest = wavelets.radial_spectrum(normal(128, 128, seed=3), 1.0)
    assert 0 <= float(rest[30:34, 30:34].max()) < 4.5 / math.sqrt(2 * math.pi * 42 / 2)


def test_wieners_factors_from_the_powers_of_the_signal_are_the_attenuation_oracle():
    x, sigma, n = wavelets.piecewise(64), 0.5, 20_000
    c = wavelets.analyse(x, "fourier")
    errors = (wavelets.wiener_denoise(x + sigma * normal(n, 64), c.abs() ** 2, sigma) - x).square().sum(1)
    expected = float(wavelets.oracle_risks(c, sigma).attenuation)
    assert abs(float(errors.mean()) - expected) < 4.5 * float(errors.std()) / math.sqrt(n)


def test_the_peak_signal_to_noise_ratio_is_in_decibels():
    x = torch.rand(20, 30, generator=torch.Generator().manual_seed(0))
    assert wavelets.psnr(x + 0.1, x) == pytest.approx(20, abs=1e-5)
    assert wavelets.psnr(255 * x + 25.5, 255 * x, 255.0) == pytest.approx(20, abs=1e-4)
    assert wavelets.psnr(x, x) == math.inf


# ------------------------------------------------------------------------------------------------- bad input


def test_bad_input_is_refused_by_name():
    x, nan = normal(8), torch.full((8,), torch.nan)
    c = covariance(4)
    for sigma in (0, -1.0, math.nan, math.inf, "a", 1e-200):
        refused("^sigma", wavelets.wiener_mse, x.abs(), sigma)
        refused("^sigma", wavelets.oracle_risks, x, sigma)
        refused("^sigma", wavelets.denoise, x, sigma)
    for bad in (nan, x.long(), [1.0], x[:0], x * 1e160):
        refused("^coefficients", wavelets.oracle_risks, bad, 1.0)
        refused("^coefficients", wavelets.approximation_errors, bad)
        refused("^y", wavelets.denoise, bad, 1.0)
        refused("^x", wavelets.analyse, bad, "dct")
    refused("^spectrum", wavelets.wiener_mse, -x.abs(), 1.0)
    refused("^covariance", wavelets.wiener_filter, normal(4, 4), 1.0)
    refused("^covariance: got an eigenvalue", wavelets.wiener_filter, -c, 1.0)
    refused("^filter", wavelets.filter_error, c[:3, :3], c, 1.0)
    refused("^factors", wavelets.attenuation_risk, x[:7], x, 1.0)
    refused("^T", wavelets.soft_threshold_risk, -1.0, 0.0)
    refused("^theta", wavelets.hard_threshold_risk, 1.0, nan)
    refused("^threshold", wavelets.soft_threshold, x, -1.0)
    refused("^threshold", wavelets.hard_threshold, x, math.nan)
    refused("^a:", wavelets.soft_threshold, nan, 1.0)
    refused("^d:", wavelets.universal_threshold, 0.5)
    refused("^d:", wavelets.largest_ratio, 1)
    refused("^d:", wavelets.minimax_bound, 16, 9)
    refused("^blocks", wavelets.minimax_bound, 16, 0)
    refused("^oracle", wavelets.largest_ratio, 16, "none")
    refused("^rule", wavelets.denoise, x, 1.0, rule="firm")
    refused("^basis", wavelets.analyse, x, "sym4")
    refused("^dims", wavelets.analyse, normal(8, 8), "haar", 3)
    refused("^levels: got 4", wavelets.analyse, x, "haar", 1, 4)
    refused("^coefficients", wavelets.synthesise, wavelets.analyse(x, "fourier"), "haar")
    refused("^shifts", wavelets.denoise, x, 1.0, shifts=0)
    refused("^terms", wavelets.best_terms, x, 9)
    refused("^jumps", wavelets.piecewise, 8, (1.0, 2.0), (0.5, 0.6))
    refused("^jumps", wavelets.piecewise, 8, (1.0, 2.0, 3.0), (0.6, 0.5))
    refused("^j:", wavelets.haar_function, x, 0.5)
    refused("^image", wavelets.radial_spectrum, normal(2, 8, 8))
    refused("^spectrum", wavelets.wiener_denoise, x, -x.abs(), 1.0)
    refused("^y", wavelets.wiener_denoise, x, x[:4].abs(), 1.0)
    refused("^estimate", wavelets.psnr, x, x[:4])
    refused("^peak", wavelets.psnr, x, x, 0)
