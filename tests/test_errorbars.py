"""Error bars against exact laws of AR(1) chains, against emcee, and against the scatter of repeated runs."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from emcee.autocorr import integrated_time
from scipy.signal import lfilter

from physgen.errorbars import autocorrelation_time, blocking_error, effective_sample_size, mean_and_error


def ar1(rho: float, chains: int, n: int, seed: int = 0) -> torch.Tensor:
    """Stationary x_t = ρ x_{t−1} + √(1−ρ²) z_t, of variance 1: τ_int = ½ (1+ρ)/(1−ρ)."""
    rng = np.random.default_rng(seed)
    noise = math.sqrt(1 - rho**2) * rng.standard_normal((chains, n))
    noise[:, 0] = rng.standard_normal(chains)
    return torch.from_numpy(lfilter([1], [1, -rho], noise, axis=1))


def tau_exact(rho: float) -> float:
    return 0.5 * (1 + rho) / (1 - rho)


def error_of_mean(rho: float, n: int) -> float:
    """Exactly: Var(mean) = (1/n)[1 + 2 Σ_{k<n} (1 − k/n) ρ^k]."""
    k = np.arange(1, n)
    return math.sqrt((1 + 2 * ((1 - k / n) * rho**k).sum()) / n)


@pytest.mark.parametrize("rho", [0.0, 0.5, 0.9, 0.98])
def test_the_autocorrelation_time_is_half_of_emcees(rho):
    for n in (4001, 30000):
        x = ar1(rho, 1, n, seed=n)[0]
        theirs = integrated_time(x.numpy(), c=5, quiet=True)[0]
        # Both sum the same numbers of order 1 after an FFT each: rounding only.
        assert float(autocorrelation_time(x)) == pytest.approx(theirs / 2, rel=1e-10)


@pytest.mark.parametrize("rho", [0.0, 0.5, 0.9])
def test_the_autocorrelation_time_of_ar1_is_half_of_one_plus_rho_over_one_minus_rho(rho):
    chains, n, tau = 16, 20000, tau_exact(rho)
    found = float(autocorrelation_time(ar1(rho, chains, n)))
    # Madras and Sokal: relative variance 2 (2M + 1)/n with M = 10 τ; the window leaves out e^{−20} of the sum, the mean 2τ/n of it.
    sigma = tau * math.sqrt(2 * (20 * tau + 1) / (chains * n))
    assert abs(found - tau) <= 5 * sigma


@pytest.mark.parametrize("rho", [-0.3, -0.5, -0.7, -0.9])
def test_a_chain_that_swings_back_has_a_short_time_and_an_error_that_is_not_too_small(rho):
    chains, n, tau = 16, 20000, tau_exact(rho)
    found = mean_and_error(ar1(rho, chains, n))
    # Sums that end at an even lag M are above the limit, by |ρ|^{M+1}/(1 − ρ); each of M = 6 terms has the noise 1/√n.
    noise = 5 * math.sqrt(6 / (chains * n))
    assert -noise < float(found.tau) - tau < noise + abs(rho) ** 7 / (1 - rho)
    assert float(found.error) > 0.8 * error_of_mean(rho, chains * n)
    swing = torch.tensor([1.0, -1.0]).repeat(50)
    assert 0 < float(autocorrelation_time(swing)) < 1


def test_independent_data_have_time_one_half_and_all_their_values_count():
    x = ar1(0.0, 1, 10**5)[0]
    assert abs(float(autocorrelation_time(x)) - 0.5) < 5 * 0.5 * math.sqrt(2 * 11 / 1e5)
    assert float(effective_sample_size(x)) == pytest.approx(1e5 / (2 * float(autocorrelation_time(x))))


@pytest.mark.parametrize("rho", [0.0, 0.8, 0.95])
def test_both_errors_are_those_of_ar1_and_the_scatter_of_repeated_means_agrees(rho):
    runs, n = 200, 8192
    x, exact = ar1(rho, runs, n, seed=3), error_of_mean(rho, n)
    scatter = float(x.mean(1).std())
    assert abs(scatter / exact - 1) < 5 / math.sqrt(2 * runs)
    # One run knows its error to √((2M + 1)/2n) by the window, M = 10 τ; 200 of them to 1/√200 of that, and the bias is of order 2τ/n.
    tau = tau_exact(rho)
    by_window = torch.stack([mean_and_error(row).error for row in x]).mean()
    assert abs(float(by_window) / exact - 1) < 5 * math.sqrt((20 * tau + 1) / (2 * n * runs)) + 20 * tau / n
    # Blocks of B ≥ (2n)^{1/3} (2τ)^{2/3} values, twice that at most: bias τ/B at most (variance of means misses 2τ·½/B), noise √(B/n).
    block = (2 * n) ** (1 / 3) * (2 * tau) ** (2 / 3)
    by_blocks = torch.stack([blocking_error(row) for row in x]).mean()
    assert abs(float(by_blocks) / exact - 1) < 5 * math.sqrt(2 * block / (2 * n * runs)) + tau / block


def test_a_mean_deviates_by_its_error():
    runs = [mean_and_error(row) for row in ar1(0.9, 400, 4000, seed=5)]
    pulls = torch.stack([r.mean / r.error for r in runs])
    # A normal variable: variance 1 ± √(2/400); the error itself fluctuates by 7 %, which adds 3 · 0.07² ≈ 0.015.
    assert abs(float(pulls.var()) - 1) < 5 * math.sqrt(2 / 400) + 0.02


def test_several_chains_are_one_long_one():
    x = ar1(0.9, 50, 4000, seed=7)
    result = mean_and_error(x)
    assert float(result.mean) == pytest.approx(float(x.mean()), abs=1e-15)
    assert float(result.error) == pytest.approx(
        float(x.std(correction=0)) * math.sqrt(2 * float(result.tau) / x.numel()), rel=1e-12
    )
    exact = error_of_mean(0.9, 4000) / math.sqrt(50)
    # τ to 5 · √(2 · 191 / 2·10⁵) = 22 %, so its root to 11 %; the blocks of B = 1024 values,
    # the first power of two with B³ > 4·10⁵ (2τ)², 150 of them) to 5/√300 = 29 %.
    assert abs(float(result.error) / exact - 1) < 0.11
    assert abs(float(blocking_error(x)) / exact - 1) < 0.29
    assert float(effective_sample_size(x)) == pytest.approx(x.numel() / (2 * float(result.tau)), rel=1e-12)


def test_chains_stuck_in_different_places_count_as_one_value_each():
    places = torch.tensor([1.0, -1.0, 1.0, 1.0, -1.0])
    x = places[:, None].expand(5, 1000)
    assert float(autocorrelation_time(x)) == pytest.approx(500, rel=1e-12)  # ½ + Σ_{k≥1} (1 − k/n) = n/2
    assert float(effective_sample_size(x)) == pytest.approx(5, rel=1e-12)
    assert float(mean_and_error(x).error) == pytest.approx(float(places.std(correction=0)) / math.sqrt(5))


def test_values_that_fill_no_block_do_not_change_the_error():
    # 3 blocks of 1024 in each chain of 4000: the error is that of the mean of 4000, not of 3072, which is 14 % larger.
    found = torch.stack([blocking_error(ar1(0.9, 50, 4000, seed=s)) for s in range(100, 200)]).mean()
    exact = error_of_mean(0.9, 4000) / math.sqrt(50)
    assert abs(float(found) / exact - 1) < 5 / math.sqrt(300 * 100) + 9.5 / 1024


def test_without_a_block_long_enough_blocking_gives_the_largest_error():
    x = torch.arange(8.0)  # a trend: blocks of 1, 2, 4 values have variances 21/4, 5, 4 and 8, 4, 2 members
    assert float(blocking_error(x)) == pytest.approx(2.0)


@pytest.mark.parametrize("value", [0.0, 0.1, -1e9 / 3])
def test_equal_values_have_no_error_and_time_one_half(value):
    for shape in ((1001,), (3, 7)):
        x = torch.full(shape, value, dtype=torch.float64)
        result = mean_and_error(x)
        assert (float(result.mean), float(result.error), float(result.tau)) == (value, 0.0, 0.5)
        assert float(blocking_error(x)) == 0.0 and float(effective_sample_size(x)) == x.numel()


def test_results_do_not_depend_on_the_unit_and_integers_and_float32_are_taken_in_float64():
    spins = torch.where(ar1(0.7, 2, 500) > 0, 1, -1)
    tau = autocorrelation_time(spins.double())
    for x in (spins, spins.to(torch.int8), spins.float(), 1e-9 * spins.double()):
        assert autocorrelation_time(x).dtype == blocking_error(x).dtype == torch.float64
        assert float(autocorrelation_time(x)) == pytest.approx(float(tau), rel=1e-9)
    assert all(v.dtype == torch.float64 and v.ndim == 0 for v in mean_and_error(spins))
    assert float(mean_and_error(3.0 * spins).error) == pytest.approx(3 * float(mean_and_error(spins).error))


@pytest.mark.parametrize(
    "x",
    [
        [1.0, 2.0], 1.0, None, torch.tensor(1.0), torch.ones(1), torch.ones(0), torch.ones(3, 1), torch.ones(0, 5),
        torch.ones(2, 3, 4), torch.tensor([1.0, math.nan, 2.0]), torch.tensor([1.0, math.inf, 2.0]), torch.ones(4, dtype=torch.cfloat),
    ],
)  # fmt: skip
@pytest.mark.parametrize(
    "measure", [autocorrelation_time, effective_sample_size, mean_and_error, blocking_error]
)
def test_bad_data_are_refused(measure, x):
    with pytest.raises(ValueError, match=r"^x: got .* expected"):
        measure(x)
