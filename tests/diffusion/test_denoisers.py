"""Denoisers held to quadrature, finite differences, automatic differentiation and simulation (claims CNN-1 … CNN-4)."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import integrate, stats

from physgen.diffusion import denoisers as dn

EPS = 2.0**-52
NAN = math.nan
D = 32
JUMPS = dn.jump_masks(D)
PADDINGS = ["circular", "replicate", "zeros"]


def stream(seed=0):
    return torch.Generator().manual_seed(seed)


def noisy(n, sigma, masks=JUMPS, seed=0):
    """Signals and their noisy versions, (n, d)."""
    g = stream(seed)
    x = dn.draw(n, masks, generator=g)
    return x, x + sigma * torch.randn(x.shape, generator=g, dtype=x.dtype)


def best(sigma, masks=JUMPS, variance=1.0):
    return lambda y: dn.posterior_mean(y, sigma, masks, variance)


def network(seed=0, biases=False, **options):
    """Three convolutions of five taps, without residual, in float64; biases of order one half."""
    options = {"channels": 16, "dilations": (1, 1, 1), "residual": False, "dtype": torch.float64, **options}
    f = dn.ConvDenoiser(bias=biases, generator=stream(seed), **options)
    for b in f.biases:
        b.data = 0.5 * torch.randn(b.shape, generator=stream(seed + 1), dtype=b.dtype)
    return f


# ------------------------------------------------------------------------------------------------- the exact law


def test_the_signals_are_constant_on_a_block_and_on_the_rest():
    for masks in (dn.jump_masks(6), dn.arc_masks(6)):
        x = dn.draw(500, masks, generator=stream())
        assert all(len(row.unique()) == 2 for row in x)
        patterns = {tuple((row == row[0]).int().tolist()) for row in x}
        wanted = {tuple((m == m[0]).int().tolist()) for m in masks}
        assert patterns == wanted  # with 500 draws of at most 15 blocks each is seen but for 15 e^{−33}


def test_there_are_d_minus_one_jumps_and_d_choose_two_arcs_and_the_arcs_are_closed_under_shifts():
    assert dn.jump_masks(D).shape == (D - 1, D) and dn.arc_masks(7).shape == (21, 7)
    splits = {frozenset([tuple(m.tolist()), tuple((1 - m).tolist())]) for m in dn.arc_masks(7)}
    shifted = {frozenset([tuple(m.tolist()), tuple((1 - m).tolist())]) for m in dn.arc_masks(7).roll(1, 1)}
    assert len(splits) == 21 and splits == shifted


def test_the_covariance_of_one_jump_falls_linearly_and_that_of_arcs_is_circulant():
    i = torch.arange(D)
    distance = (i[:, None] - i).abs()
    line = 2 * (1 - distance / (D - 1))
    assert torch.allclose(
        dn.signal_covariance(JUMPS, 2.0), line.double(), atol=1e-6, rtol=0
    )  # line is float32
    # Two cuts of the ring part i from j when one lies between them on either way: P = 2k(d − k)/(d(d − 1)).
    ring = 1 - 2 * distance * (D - distance) / (D * (D - 1))
    assert torch.allclose(dn.signal_covariance(dn.arc_masks(D)), ring.double(), atol=1e-6, rtol=0)


def test_the_covariance_is_that_of_draws():
    n = 40_000
    x = dn.draw(n, dn.jump_masks(5), 2.0, stream())
    error = (x.T @ x) / n - dn.signal_covariance(dn.jump_masks(5), 2.0)
    assert float(error.abs().max()) < 5 * math.sqrt(2 * 2.0**2 / n)  # Var x_i x_j <= 2 v², 5 standard errors


@pytest.mark.parametrize("variance", [1.0, 0.3])
def test_density_and_posterior_mean_are_those_of_a_quadrature_over_the_two_levels(variance):
    masks, sigma, width = dn.jump_masks(4), 0.6, math.sqrt(variance)
    y = torch.tensor([[0.3, -0.8, 1.1, 0.9]], dtype=torch.float64)
    data = y[0].numpy()

    def side(block, power):
        def integrand(a):
            return a**power * stats.norm.pdf(a, 0, width) * np.prod(stats.norm.pdf(data[block], a, sigma))

        return integrate.quad(integrand, -12 * width, 12 * width, epsabs=0, epsrel=1e-12)[0]

    density, mean = 0.0, np.zeros(4)
    for m in masks.numpy().astype(bool):
        left, right = side(m, 0), side(~m, 0)
        density += left * right / 3
        mean += np.where(m, side(m, 1) * right, side(~m, 1) * left) / 3
    assert float(dn.log_density(y, sigma, masks, variance)) == pytest.approx(math.log(density), abs=1e-11)
    np.testing.assert_allclose(dn.posterior_mean(y, sigma, masks, variance)[0], mean / density, atol=1e-11)
    assert float(dn.posterior_weights(y, sigma, masks, variance).sum()) == pytest.approx(1.0, abs=4 * EPS)


@pytest.mark.parametrize("masks", [JUMPS, dn.arc_masks(8), torch.ones(1, 3, dtype=torch.float64)])
def test_the_best_denoiser_is_the_point_and_sigma_squared_times_the_gradient_of_the_log_density(masks):
    sigma = 0.4
    y = noisy(20, sigma, masks)[1].requires_grad_()
    (gradient,) = torch.autograd.grad(dn.log_density(y, sigma, masks).sum(), y)
    error = dn.posterior_mean(y, sigma, masks) - y - sigma**2 * gradient
    assert float(error.detach().abs().max()) < 1e-13  # terms of order one, sums of some 500


def test_the_score_at_time_t_is_the_gradient_of_the_log_density_of_the_scaled_signal():
    sigma = 0.7
    t = dn.noise_time(sigma)
    assert math.expm1(2 * t) == pytest.approx(sigma**2, rel=4 * EPS)
    x = (math.exp(-t) * noisy(20, sigma)[1]).requires_grad_()
    (gradient,) = torch.autograd.grad(dn.log_density(math.exp(t) * x, sigma, JUMPS).sum(), x)
    assert torch.allclose(dn.score(x, t, JUMPS), gradient, atol=1e-12, rtol=0)


@pytest.mark.parametrize("masks", [JUMPS, dn.arc_masks(8)])
def test_the_jacobian_of_the_best_denoiser_is_the_posterior_covariance_over_sigma_squared(masks):
    sigma, step = 0.3, 1e-4
    y = noisy(10, sigma, masks)[1]
    covariance = dn.posterior_covariance(y, sigma, masks) / sigma**2
    assert torch.allclose(dn.jacobian(best(sigma, masks), y), covariance, atol=1e-11, rtol=0)
    unit = step * torch.eye(masks.shape[1], dtype=y.dtype)
    columns = [(best(sigma, masks)(y + e) - best(sigma, masks)(y - e)) / (2 * step) for e in unit]
    # Central differences: h²/6 f''' with f''' of order σ^{−4}·|x|⁴ ≈ 10³ at worst is 10⁻⁵.
    assert torch.allclose(torch.stack(columns, 2), covariance, atol=1e-5, rtol=0)


def test_the_jacobian_of_the_best_denoiser_is_symmetric_and_positive_and_sums_to_the_local_error():
    sigma = 0.3
    y = noisy(200, sigma)[1]
    j = dn.jacobian(best(sigma), y)
    assert float(dn.asymmetry(j).max()) < 1e-12
    h, psi = dn.eigenbasis(j)
    assert float(h.min()) > -1e-12 and bool((h.diff(dim=1) <= 0).all())
    assert torch.allclose(psi * h[:, None] @ psi.mT, j, atol=1e-12, rtol=0)
    e = dn.mmse(sigma, JUMPS, 200, stream())
    assert sigma**2 * float(h.sum(1).mean()) == pytest.approx(e.mean, abs=1e-12)  # the same draws


def test_extremes_stay_finite_and_tend_to_what_they_must():
    y = torch.tensor([[1.0, 1.0, -2.0, -2.0]], dtype=torch.float64)
    masks = dn.jump_masks(4)
    assert torch.allclose(dn.posterior_mean(y, 1e-100, masks), y, rtol=4 * EPS)
    assert float(dn.posterior_mean(y, 1e100, masks).abs().max()) < 1e-150
    assert bool(dn.posterior_mean(1e49 * y, 1e-20, masks).isfinite().all())
    for sigma in (1e-100, 1e-8, 1.0, 1e100):
        assert bool(dn.log_density(y, sigma, masks).isfinite().all())
        assert bool(dn.posterior_covariance(y, sigma, masks).isfinite().all())
    sides = dn.posterior_covariance(y, 1e-8, masks)[0] / 1e-16
    half = torch.full((2, 2), 0.5, dtype=torch.float64)
    assert torch.allclose(sides, torch.block_diag(half, half), atol=1e-12)  # σ²/(m + σ²) on each side


def test_arcs_make_the_best_denoiser_equivariant_and_one_jump_on_a_segment_does_not():
    y = noisy(50, 0.4, dn.arc_masks(12))[1]
    assert float(dn.equivariance_error(best(0.4, dn.arc_masks(12)), y, 5).max()) < 1e-12
    assert float(dn.equivariance_error(best(0.4, dn.jump_masks(12)), y, 5).mean()) > 0.1


# ------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(("sigma", "claimed"), [(0.1, 2.36), (0.3, 2.86), (1.0, 2.99)])
def test_the_smallest_error_is_that_of_simulation_and_of_the_claim(sigma, claimed):
    e = dn.mmse(sigma, JUMPS, 4000, stream(1))
    x, y = noisy(4000, sigma, seed=2)
    squares = ((dn.posterior_mean(y, sigma, JUMPS) - x) ** 2).sum(1)
    error = math.hypot(e.error, float(squares.std()) / math.sqrt(len(squares)))
    assert abs(e.mean - float(squares.mean())) < 5 * error
    # The claimed numbers have two decimals and an error that is not stated; ours: that of 4000 raw squares.
    assert abs(e.mean / sigma**2 - claimed) < 5 * error / sigma**2


@pytest.mark.parametrize(("sigma", "claimed"), [(0.1, 0.253), (0.3, 1.158), (1.0, 4.420)])
def test_the_error_of_wiener_is_that_of_its_matrix_and_of_the_claim(sigma, claimed):
    c = dn.signal_covariance(JUMPS)
    h = c @ torch.linalg.inv(c + sigma**2 * torch.eye(D, dtype=c.dtype))
    gap = torch.eye(D, dtype=c.dtype) - h
    exact = float(torch.trace(gap @ c @ gap.T) + sigma**2 * (h**2).sum())
    assert dn.wiener_error(sigma, c) == pytest.approx(exact, rel=1e-12)
    assert dn.wiener_error(sigma, c) == pytest.approx(claimed, abs=5e-4)


@pytest.mark.parametrize("sigma", [0.03, 0.3, 1.0, 3.0])
def test_the_smallest_error_lies_between_a_known_jump_and_wiener(sigma):
    e = dn.mmse(sigma, JUMPS, 2000, stream())
    low, high = dn.oracle_error(sigma, JUMPS), dn.wiener_error(sigma, dn.signal_covariance(JUMPS))
    assert low - 5 * e.error < e.mean < high + 5 * e.error
    # One block is one Gaussian: all three are the same number.
    single = JUMPS[:1]
    exact = dn.wiener_error(sigma, dn.signal_covariance(single))
    assert dn.oracle_error(sigma, single) == pytest.approx(exact, rel=1e-12)
    assert dn.mmse(sigma, single, 10, stream()).mean == pytest.approx(exact, rel=1e-12)


def test_the_excess_is_the_error_above_the_smallest_one():
    sigma = 0.5
    c = dn.signal_covariance(JUMPS)
    h = c @ torch.linalg.inv(c + sigma**2 * torch.eye(D, dtype=c.dtype))
    excess = dn.excess_error(lambda y: y @ h, sigma, JUMPS, 4000, stream())
    least = dn.mmse(sigma, JUMPS, 4000, stream(1))
    error = math.hypot(excess.error, least.error)
    assert abs(excess.mean + least.mean - dn.wiener_error(sigma, c)) < 5 * error
    assert dn.excess_error(best(sigma), sigma, JUMPS, 50, stream()).mean == 0.0


# ------------------------------------------------------------------------------------------------- convolution


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("dilation", [1, 2])
def test_a_convolution_is_its_sum_over_channels_and_stencil(padding, dilation):
    d, taps = 7, 3
    g = stream()
    x, w, b = (torch.randn(s, generator=g, dtype=torch.float64) for s in ((2, 3, d), (4, 3, taps), (4,)))
    out = torch.zeros(2, 4, d, dtype=torch.float64)
    for i in range(d):
        for tau in (-dilation, 0, dilation):
            j = i - tau
            if padding == "zeros" and not 0 <= j < d:
                continue
            j = j % d if padding == "circular" else min(max(j, 0), d - 1)
            out[:, :, i] += x[:, :, j] @ w[:, :, 1 - tau // dilation].T
    assert torch.allclose(dn.convolution(x, w, b, dilation, padding), out + b[:, None], atol=1e-14, rtol=0)
    matrix = dn.convolution_matrix(w, d, dilation, padding)
    assert matrix.shape == (4 * d, 3 * d)
    assert torch.allclose((x.flatten(1) @ matrix.T).view(2, 4, d), out, atol=1e-14, rtol=0)


@pytest.mark.parametrize("padding", PADDINGS)
def test_the_matrix_of_a_convolution_commutes_with_shifts_only_on_a_ring(padding):
    w = torch.randn(2, 3, 5, generator=stream(), dtype=torch.float64)
    blocks = dn.convolution_matrix(w, 9, padding=padding).view(2, 9, 3, 9)
    moved = (blocks.roll(1, 1) - blocks.roll(-1, 3)).abs().max()
    assert float(moved) == 0 if padding == "circular" else float(moved) > 0.1


@pytest.mark.parametrize("biases", [False, True])
@pytest.mark.parametrize("padding", PADDINGS)
def test_a_network_is_equivariant_on_a_ring_with_or_without_biases_and_nowhere_else(biases, padding):
    error = dn.equivariance_error(network(biases=biases, padding=padding), noisy(50, 0.3)[1], 3)
    # Three layers of at most 80 products each, in float64.
    assert float(error.max()) < 1e-13 if padding == "circular" else float(error.mean()) > 0.1


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("residual", [False, True])
def test_without_biases_a_network_is_homogeneous_and_equals_its_jacobian_times_the_point(padding, residual):
    f, y = network(padding=padding, residual=residual), noisy(50, 0.3)[1]
    assert float(dn.homogeneity_error(f, y, 3.7).max()) < 1e-13
    assert float(dn.euler_error(f, y).max()) < 1e-13


def test_with_biases_a_network_is_neither_homogeneous_nor_its_jacobian_times_the_point():
    f, y = network(biases=True), noisy(50, 0.3)[1]
    assert float(dn.homogeneity_error(f, y, 3.7).mean()) > 0.1
    assert float(dn.euler_error(f, y).mean()) > 0.1


def test_homogeneous_of_positive_factors_only():
    assert float(dn.homogeneity_error(network(), noisy(50, 0.3)[1], -1.0).mean()) > 0.2


def test_the_jacobian_of_an_untrained_network_is_far_from_symmetric():
    # Independent entries give √2; the claim has 1.24 for one such net. Nets scatter by 0.13 about 1.26: ten of them by 0.04.
    y = noisy(50, 0.3)[1]
    mean = np.mean([float(dn.asymmetry(dn.jacobian(network(seed), y)).mean()) for seed in range(0, 20, 2)])
    assert abs(mean - 1.26) < 5 * 0.13 / math.sqrt(10)
    assert float(dn.asymmetry(torch.randn(1, 300, 300, generator=stream()))) == pytest.approx(
        math.sqrt(2), abs=0.02
    )


def test_all_lengths_scaled_the_best_denoiser_scales_but_not_at_fixed_noise():
    y = noisy(100, 0.3)[1]
    scaled = best(0.3 * 3.7, variance=3.7**2)(3.7 * y)
    assert torch.allclose(scaled, 3.7 * best(0.3)(y), atol=1e-12, rtol=0)
    single = best(0.3, JUMPS[:1])  # Gaussian data: linear, hence homogeneous
    assert float(dn.homogeneity_error(single, y, 3.7).max()) < 1e-13
    assert float(dn.euler_error(single, y).max()) < 1e-13
    assert float(dn.homogeneity_error(best(1.0), noisy(100, 1.0)[1], 3.7).mean()) > 0.05
    assert float(dn.euler_error(best(1.0), noisy(100, 1.0)[1]).mean()) > 0.1


def test_continued_homogeneously_the_best_denoiser_of_one_noise_is_nearly_that_of_another():
    start, sigma = 0.15, 1.0
    continued = dn.excess_error(best(sigma, variance=(sigma / start) ** 2), sigma, JUMPS, 2000, stream())
    by_scaling = dn.excess_error(
        lambda y: sigma / start * best(start)(start / sigma * y), sigma, JUMPS, 2000, stream()
    )
    plain = dn.excess_error(best(start), sigma, JUMPS, 2000, stream())
    assert continued.mean == pytest.approx(by_scaling.mean, rel=1e-10)
    assert continued.mean < 0.3 * plain.mean


def test_where_the_denoiser_is_its_symmetric_jacobian_times_the_point_the_error_is_a_sum_over_modes():
    sigma, gaussian = 0.7, JUMPS[9:10]  # one block: Gaussian data with b = (10, 22) on the sides
    x, y = noisy(20, sigma, gaussian)
    h, psi = dn.eigenbasis(dn.jacobian(best(sigma, gaussian), y))
    modes = (h * (y[:, None] @ psi)[:, 0] - (x[:, None] @ psi)[:, 0]) ** 2
    error = ((best(sigma, gaussian)(y) - x) ** 2).sum(1)
    assert torch.allclose(modes.sum(1), error, rtol=1e-11)
    b = torch.linalg.eigvalsh(dn.signal_covariance(gaussian)).flip(0)
    assert torch.allclose(h, (b / (b + sigma**2)).expand_as(h), atol=1e-13, rtol=0)


# ------------------------------------------------------------------------------------------------- the basis that follows the jump


def clear_jump(n, sigma, tau=12, seed=0):
    """Noisy versions of one signal, −1 left of τ and 1 right of it."""
    x = torch.where(torch.arange(D) < tau, -1.0, 1.0).double()
    return x + sigma * torch.randn(n, D, generator=stream(seed), dtype=torch.float64)


def test_with_a_clear_jump_the_modes_are_constants_on_both_sides_with_the_shrinkage_of_their_length():
    sigma, tau = 0.15, 12
    y = clear_jump(100, sigma, tau)
    # A jump of Δ = 13.3 σ is one site off with log weight −Δ²/2σ² ± Δ/σ = −89 ± 13: below 10⁻¹⁵ at five standard deviations.
    h, psi = dn.eigenbasis(dn.posterior_covariance(y, sigma, JUMPS) / sigma**2)
    sides = dn.side_constants(y, sigma, JUMPS)
    assert float(dn.subspace_overlap(psi[:, :, :2], sides).min()) > 1 - 1e-9
    expected = torch.tensor([m / (m + sigma**2) for m in (D - tau, tau)], dtype=torch.float64)
    assert torch.allclose(h[:, :2], expected.expand(100, 2), atol=1e-9, rtol=0)
    assert float(h[:, 2].max()) < 1e-9
    assert torch.allclose(dn.shrinkage(torch.diag_embed(h), torch.eye(D).double().expand(100, D, D)), h)


def test_with_an_uncertain_jump_the_leading_mode_beside_the_constants_is_localised_at_it_and_follows_it():
    sigma = 0.6
    for tau in (8, 16, 24):
        y = clear_jump(200, sigma, tau)
        j = dn.posterior_covariance(y, sigma, JUMPS)
        sides = dn.side_constants(y, sigma, JUMPS)
        rest = torch.eye(D, dtype=torch.float64) - sides @ sides.mT
        _, psi = dn.eigenbasis(rest @ j @ rest)
        where = sides[:, :, 0].count_nonzero(1)
        # k sites off the jump has log weight −kΔ²/2σ² ± √kΔ/σ = −5.6k ± 3.3√k: one or two sites matter. The indicator of k sites, less its
        # mean on a side of m ≥ 8, has k/m ≤ 1/4 of its energy elsewhere; a flat mode has 3/4 of it there.
        assert float(dn.jump_energy(psi[:, :, 0], where, 4).mean()) > 0.75
        flat = torch.ones(200, D, dtype=torch.float64)
        assert torch.allclose(
            dn.jump_energy(flat, where.clamp(4, D - 4), 4), torch.full((200,), 0.25).double()
        )


def test_overlap_of_subspaces_is_one_inside_and_the_share_of_dimensions_for_random_ones():
    q = torch.linalg.qr(torch.randn(400, D, 8, generator=stream(), dtype=torch.float64))[0]
    e = torch.eye(D, dtype=torch.float64).expand(400, D, D)
    assert torch.allclose(dn.subspace_overlap(q[:, :, 2:4], q), torch.ones(400).double(), atol=1e-13)
    assert torch.allclose(dn.subspace_overlap(q, e[:, :, :16]).mean(), torch.tensor(0.5).double(), atol=0.02)


# ------------------------------------------------------------------------------------------------- training


@pytest.fixture(scope="module")
def trained():
    """Networks without and with biases, from one seed, trained at noise 0.1 … 0.2."""
    networks = []
    for bias in (False, True):
        f = dn.ConvDenoiser(bias=bias, padding="replicate", generator=stream())
        losses = dn.train(f, JUMPS, generator=stream(1))
        networks.append((f, losses))
    return networks


def test_networks_with_and_without_biases_start_as_one_function():
    free, biased = (dn.ConvDenoiser(bias=b, generator=stream()) for b in (False, True))
    y = noisy(5, 0.3)[1]
    assert torch.equal(free(y), biased(y)) and len(free.biases) == 0 and len(biased.biases) == 5
    assert free(y).dtype == torch.float64 and free(y.float()).dtype == torch.float32


def test_a_run_repeats_itself_bit_for_bit_on_one_machine_and_leaves_the_global_stream_alone():
    state = torch.get_rng_state()
    runs = []
    for _ in range(2):
        f = dn.ConvDenoiser(8, (1, 2, 1), generator=stream())
        runs.append(dn.train(f, JUMPS, steps=5, generator=stream(1)))
    assert torch.equal(runs[0], runs[1])
    assert torch.equal(state, torch.get_rng_state())


def test_one_seed_is_one_run_in_both_precisions():
    losses = []
    for dtype in (torch.float32, torch.float64):
        f = dn.ConvDenoiser(8, (1, 2, 1), dtype=dtype, generator=stream())
        losses.append(dn.train(f, JUMPS, steps=5, generator=stream(1)))
        assert all(w.dtype == dtype for w in f.weights)
    # Five steps: float32's 6e-8 times what Adam, which divides by the size of a gradient, makes of it; other draws differ by a tenth.
    assert torch.allclose(*losses, rtol=1e-3) and not torch.equal(*losses)


def test_a_trained_network_beats_wiener_where_it_was_trained_and_stays_above_the_smallest_error(trained):
    sigma = 0.15
    least, wiener = dn.mmse(sigma, JUMPS, 2000, stream()), dn.wiener_error(sigma, dn.signal_covariance(JUMPS))
    for f, losses in trained:
        e = dn.excess_error(f, sigma, JUMPS, 1000, stream())
        # 6 σ² against 21 σ²: a factor that no rounding of the training changes.
        assert 0 < e.mean and e.mean + least.mean < wiener / 2
        assert float(losses[-50:].mean()) < float(losses[:20].mean()) / 4


def test_without_biases_the_trained_network_is_homogeneous_and_holds_at_ten_times_the_noise(trained):
    (free, _), (biased, _) = trained
    y = noisy(100, 0.15)[1]
    # float32: five layers of some hundred products, each rounded to 6e-8.
    assert float(dn.euler_error(free, y).max()) < 1e-5
    assert float(dn.euler_error(biased, y).mean()) > 1e-2
    # Errors in units of σ²: without biases they hardly move, with biases they grow by half at least.
    inside, outside = (
        [dn.excess_error(f, s, JUMPS, 1000, stream()).mean / s**2 for f in (free, biased)]
        for s in (0.15, 2.0)
    )
    assert outside[0] < 1.2 * inside[0] and outside[1] > 1.5 * inside[1]
    assert outside[1] > 1.5 * outside[0]


def test_the_trained_network_keeps_the_modes_of_the_best_denoiser_and_blocks_the_rest(trained):
    sigma = 0.15
    y = noisy(200, sigma)[1]
    _, psi = dn.eigenbasis(dn.posterior_covariance(y, sigma, JUMPS))
    c = dn.signal_covariance(JUMPS)
    filters = (c @ torch.linalg.inv(c + sigma**2 * torch.eye(D, dtype=c.dtype))).expand(200, D, D)
    linear = dn.shrinkage(filters, psi).mean(0)
    for f, _ in trained:
        j = dn.jacobian(f, y)
        kept = dn.shrinkage(j, psi).mean(0)
        # The linear filter must keep 0.6 of every direction, for jumps may be anywhere; the network knows where this one is.
        assert float(kept[:2].min()) > 0.9 and float(kept[5:].mean()) < 0.3 < 0.6 < float(linear[5:].mean())
        assert 0.2 < float(dn.asymmetry(j).mean()) < 1.2  # no gradient: the network is not an exact score


# ------------------------------------------------------------------------------------------------- what does not fit

Y = torch.zeros(2, D, dtype=torch.float64)
EYE = torch.eye(D, dtype=torch.float64)
REFUSED = [
    ("d:", lambda: dn.jump_masks(1)),
    ("d:", lambda: dn.arc_masks(2.0)),
    ("n:", lambda: dn.draw(0, JUMPS)),
    ("masks", lambda: dn.draw(1, 2 * JUMPS)),
    ("masks", lambda: dn.draw(1, torch.zeros(2, D))),
    ("variance", lambda: dn.draw(1, JUMPS, 0.0)),
    ("generator", lambda: dn.draw(1, JUMPS, generator=1)),
    ("masks", lambda: dn.signal_covariance(JUMPS.long())),
    ("y:", lambda: dn.posterior_mean(Y * NAN, 0.3, JUMPS)),
    ("y:", lambda: dn.posterior_mean(Y[0], 0.3, JUMPS)),
    ("y:", lambda: dn.posterior_mean(Y.long(), 0.3, JUMPS)),
    ("y:", lambda: dn.posterior_mean(Y[:0], 0.3, JUMPS)),
    ("masks", lambda: dn.posterior_mean(Y[:, 1:], 0.3, JUMPS)),
    ("sigma", lambda: dn.posterior_mean(Y, 0.0, JUMPS)),
    ("sigma", lambda: dn.posterior_covariance(Y, NAN, JUMPS)),
    ("sigma", lambda: dn.log_density(Y, -1.0, JUMPS)),
    ("variance", lambda: dn.posterior_weights(Y, 0.3, JUMPS, -1.0)),
    ("t:", lambda: dn.score(Y, 0.0, JUMPS)),
    ("x:", lambda: dn.score(Y / 0, 1.0, JUMPS)),
    ("sigma", lambda: dn.noise_time(-0.1)),
    ("n:", lambda: dn.mmse(0.3, JUMPS, 1)),
    ("sigma", lambda: dn.mmse(0.0, JUMPS)),
    (r"f\(y\)", lambda: dn.excess_error(lambda y: y[:, 1:], 0.3, JUMPS, 10)),
    ("sigma", lambda: dn.oracle_error(math.inf, JUMPS)),
    ("covariance", lambda: dn.wiener_error(0.3, EYE[1:])),
    ("covariance", lambda: dn.wiener_error(0.3, EYE.roll(1, 0))),
    ("sigma", lambda: dn.wiener_error(0.0, EYE)),
    ("x:", lambda: dn.convolution(Y, torch.ones(1, 1, 3))),
    ("weight", lambda: dn.convolution(torch.zeros(1, 2, 5), torch.ones(1, 1, 3))),
    ("weight", lambda: dn.convolution(torch.zeros(1, 1, 5), torch.ones(1, 1, 2))),
    ("weight", lambda: dn.convolution(torch.zeros(1, 1, 3), torch.ones(1, 1, 7))),
    ("bias", lambda: dn.convolution(torch.zeros(1, 1, 5), torch.ones(1, 1, 3), torch.zeros(2))),
    ("padding", lambda: dn.convolution(torch.zeros(1, 1, 5), torch.ones(1, 1, 3), padding="same")),
    ("dilation", lambda: dn.convolution(torch.zeros(1, 1, 5), torch.ones(1, 1, 3), dilation=0)),
    ("weight", lambda: dn.convolution_matrix(torch.ones(3), 5)),
    ("d:", lambda: dn.convolution_matrix(torch.ones(1, 1, 3), 0)),
    ("taps", lambda: dn.ConvDenoiser(taps=4)),
    ("channels", lambda: dn.ConvDenoiser(0)),
    ("dilations", lambda: dn.ConvDenoiser(dilations=(1,))),
    ("padding", lambda: dn.ConvDenoiser(padding="same")),
    ("y:", lambda: dn.ConvDenoiser()(Y * NAN)),
    ("y:", lambda: dn.ConvDenoiser()(Y[:, :8])),
    ("sigmas", lambda: dn.train(dn.ConvDenoiser(), JUMPS, (0.2, 0.1))),
    ("sigmas", lambda: dn.train(dn.ConvDenoiser(), JUMPS, (0.0, 0.1))),
    ("steps", lambda: dn.train(dn.ConvDenoiser(), JUMPS, steps=1)),
    ("batch", lambda: dn.train(dn.ConvDenoiser(), JUMPS, batch=0)),
    ("rate", lambda: dn.train(dn.ConvDenoiser(), JUMPS, rate=0.0)),
    ("shift", lambda: dn.equivariance_error(best(0.3), Y, 0.5)),
    ("scale", lambda: dn.homogeneity_error(best(0.3), Y, 0.0)),
    (r"f\(y\)", lambda: dn.jacobian(lambda y: y.sum(1), Y)),
    ("jacobian", lambda: dn.asymmetry(EYE)),
    ("jacobian", lambda: dn.eigenbasis(EYE[None, 1:])),
    ("phi", lambda: dn.subspace_overlap(EYE[None], EYE[None, 1:])),
    ("psi", lambda: dn.shrinkage(EYE[None], EYE)),
    ("masks", lambda: dn.side_constants(Y, 0.3, torch.ones(1, D))),
    ("jump", lambda: dn.jump_energy(Y + 1, torch.zeros(2), 1.0)),
    ("width", lambda: dn.jump_energy(Y + 1, torch.zeros(2, dtype=torch.int64), 0.0)),
]


@pytest.mark.parametrize(("name", "call"), REFUSED)
def test_what_does_not_fit_is_refused_by_its_name(name, call):
    with pytest.raises(ValueError, match=name):
        call()
