"""The score held to closed forms, quadrature, automatic differentiation, SciPy's and torchdiffeq's integrators, and simulation."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import pytest
import torch
import torchdiffeq
from scipy import integrate, stats

from physgen.diffusion import score as sc
from physgen.diffusion.processes import ou_moments, ou_step, start_cost
from physgen.kernels import mixture_score
from physgen.kernels import reverse as fused

NAN = math.nan
G1 = sc.two_gaussians()


def stream(seed=0):
    return torch.Generator().manual_seed(seed)


def real(values):
    return torch.as_tensor(values, dtype=torch.float64)


def line(low, high, n):
    return torch.linspace(low, high, n, dtype=torch.float64)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=stream(seed), dtype=torch.float64)


GRID = line(-9, 9, 3601)  # trapezoidal sums of smooth densities that vanish at the ends: rounding


def law_weights(law, t):
    """p_t on GRID times the spacing: E f = weights @ f."""
    return law.log_density(GRID[:, None], t).exp() * (GRID[1] - GRID[0])


def posterior(law, x, s, delta):
    """Mean and covariance of a given s·a + √delta z = x, component by component: no score enters."""
    v, m, w = law.variances, law.means, law.weights
    total = v * s**2 + delta
    log_p = w.log() - ((x[:, None] - s * m) ** 2).sum(2) / (2 * total) - x.shape[1] / 2 * total.log()
    p = (log_p - log_p.logsumexp(1, keepdim=True)).exp()
    centre = m + (v * s / total)[:, None] * (x[:, None] - s * m)  # E[a|x, k]
    mean = (p[..., None] * centre).sum(1)
    off = centre - mean[:, None]
    inner = (p * (v * delta / total)).sum(1)[:, None, None] * torch.eye(x.shape[1], dtype=x.dtype)
    return mean, torch.einsum("bk,bki,bkj->bij", p, off, off) + inner


def agree(a, b, atol, rtol=0.0):
    torch.testing.assert_close(a, torch.as_tensor(b, dtype=a.dtype).expand_as(a), atol=atol, rtol=rtol)


# ------------------------------------------------------------------------------------------------- laws


@pytest.mark.parametrize("law", [G1, sc.ring(), sc.moons()])
@pytest.mark.parametrize("t", [0.0, 1e-3, 0.4, 3.0])
def test_the_score_of_a_mixture_is_the_gradient_of_its_log_density(law, t):
    x = normal(40, law.means.shape[1]).mul(3).requires_grad_()
    (gradient,) = torch.autograd.grad(law.log_density(x, t).sum(), x)
    # Both are sums of numbers up to |x|/Γ = 10³: a thousand roundings.
    agree(law.score(x, t).detach(), gradient, 1e-11, 1e-12)
    agree(law.score(x.detach(), t), gradient, 1e-9, 1e-10)  # by the kernel where variances are equal


def test_the_noised_density_of_components_of_variance_v_is_that_of_the_kernel_with_gamma():
    law, x = sc.ring(), normal(50, 2)
    s, delta = ou_moments(0.3)
    expected = mixture_score.log_density(x, law.means, float(s), float(0.04 * s**2 + delta), law.weights)
    agree(law.log_density(x, 0.3), expected, 1e-12)
    each = torch.cat([law.score(x[i : i + 1], t) for i, t in enumerate((0.1, 2.0))])
    agree(law.score(x[:2], real([0.1, 2.0])), each, 1e-11)


def test_the_lopsided_law_has_the_moments_that_it_says():
    w, x = law_weights(G1, 0.0), GRID
    assert float(w.sum()) == pytest.approx(1, abs=1e-12)
    assert float(w @ x) == pytest.approx(0.45, abs=1e-12)
    assert float(w @ (x - 0.45) ** 2) == pytest.approx(2.7745, abs=1e-12)
    below = 0.3 * stats.norm.cdf(0, -2, 0.3) + 0.7 * stats.norm.cdf(0, 1.5, 0.5)
    assert below == pytest.approx(0.300944, abs=1e-6)
    draws = G1.sample(20000, stream())
    assert float((draws < 0).double().mean()) == pytest.approx(below, abs=5 * math.sqrt(0.21 / 20000))


def test_far_points_and_small_times_stay_finite():
    x = real([[1e6, -1e6], [0.0, 0.0]])
    for t in (1e-12, 1e-3, 50.0):
        assert bool(sc.ring().score(x, t).isfinite().all())
        assert bool(sc.ring().log_density(x, t).isfinite().all())
        assert bool(sc.ring().score(x.float(), t).isfinite().all())


# ------------------------------------------------------------------------------------------------- the reverse family


@pytest.mark.parametrize("eta", [0.0, 1.0, 3.0])
def test_every_member_of_the_reverse_family_solves_its_fokker_planck_equation_and_the_printed_sign_does_not(
    eta,
):
    x = line(-4, 4, 401)[:, None]
    # DIF-10: q'' is of order one, its rounding a few 10⁻¹⁶.
    assert float(sc.family_residual(x, G1.log_density, 0.4, eta).abs().max()) < 1e-13
    wrong = sc.family_residual(x, G1.log_density, 0.4, eta, sign=-1)
    assert float(wrong.abs().max()) == pytest.approx({0: 0.99, 1: 1.99, 3: 3.98}[int(eta)], abs=0.01)
    h = 1e-3
    p = [G1.log_density(x + k * h, 0.4).exp() for k in (-1, 0, 1)]
    # −2(1 + η) q'' by second differences: error h²/12 q'''' (≲ 10).
    agree(wrong, -2 * (1 + eta) * (p[0] - 2 * p[1] + p[2]) / h**2, 1e-5 * (1 + eta))


def test_the_residual_vanishes_in_the_plane_too():
    x = normal(30, 2)
    assert float(sc.family_residual(x, sc.ring().log_density, 0.4, 0.7).abs().max()) < 1e-13


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0, 2.0])
def test_reverse_samples_of_every_member_have_the_law_of_the_data(eta):
    n = 4000
    start = ou_step(G1.sample(n, stream(1)), 5.0, generator=stream(2)).float()
    x = sc.reverse_sample(start, G1.score, sc.time_grid(5.0, 1e-3, 300), eta, stream(3)).double()[:, 0]
    # DIF-11: five standard errors, and 0.02 for steps of 0.03 in ln σ, whose effect is of their order.
    assert float(x.mean()) == pytest.approx(0.45, abs=5 * math.sqrt(2.7745 / n) + 0.02)
    fourth = 0.3 * (2.45**4 + 6 * 2.45**2 * 0.09 + 3 * 0.09**2) + 0.7 * (
        1.05**4 + 6 * 1.05**2 * 0.25 + 3 * 0.25**2
    )
    assert float(x.var()) == pytest.approx(2.7745, abs=5 * math.sqrt((fourth - 2.7745**2) / n) + 0.04)
    assert float((x < 0).double().mean()) == pytest.approx(0.301, abs=5 * math.sqrt(0.21 / n) + 0.005)


def test_one_euler_step_is_its_formula_and_the_noise_has_variance_two_eta_h():
    x, times = normal(20000, 1), real([0.5, 0.4])
    still = sc.reverse_sample(x, G1.score, times, 0.0)
    agree(still, x + 0.1 * (x + G1.score(x, 0.5)), 1e-12)
    moved = sc.reverse_sample(x, G1.score, times, 2.0, stream())
    noise = moved - x - 0.1 * (x + 3 * G1.score(x, 0.5))
    assert float(noise.var()) == pytest.approx(0.4, rel=5 * math.sqrt(2 / 20000))


def test_the_deterministic_member_is_that_of_the_fused_kernel():
    law, x = sc.ring(), normal(100, 2)
    times = sc.time_grid(4.0, 0.01, 60)
    expected = fused.gaussian_mixture(x, law.means, times, 7, eta=0.0, weights=law.weights, variance=0.04)
    agree(sc.reverse_sample(x, law.score, times, 0.0), expected, 1e-8)


def test_the_same_seed_gives_the_same_samples_and_a_path_ends_in_them():
    x, times = normal(10, 2).float(), sc.time_grid(3.0, 0.1, 5)
    once = sc.reverse_sample(x, sc.ring().score, times, generator=stream(4))
    path = sc.reverse_sample(x, sc.ring().score, times, generator=stream(4), path=True)
    assert path.shape == (6, 10, 2) and once.dtype == torch.float32
    assert torch.equal(path[-1], once) and torch.equal(path[0], x)
    assert not torch.equal(once, sc.reverse_sample(x, sc.ring().score, times))


def test_the_global_random_stream_is_left_alone():
    before = torch.random.get_rng_state()
    sc.reverse_sample(normal(4, 2), sc.ring().score, real([1.0, 0.5]))
    sc.train_denoiser(normal(50, 2), steps=2, batch=8, width=4)
    assert torch.equal(before, torch.random.get_rng_state())


def test_a_bar_appears_after_two_seconds_and_not_where_quiet_is_asked_for(monkeypatch, capsys):
    clock = iter(range(0, 10**6, 3))  # three seconds at each look

    def slow():
        sc.reverse_sample(normal(2, 1), G1.score, line(1.0, 0.1, 10))
        return capsys.readouterr().err

    monkeypatch.delenv("PHYSGEN_QUIET", raising=False)
    assert slow() == ""
    monkeypatch.setattr("time.time", lambda: float(next(clock)))
    monkeypatch.setattr("tqdm.std.time", lambda: float(next(clock)))
    assert "reverse" in slow()
    monkeypatch.setenv("PHYSGEN_QUIET", "1")
    assert slow() == ""


def test_log_density_and_score_solve_kpz_and_burgers():
    # SCO-6: third derivatives of a density with structure at scale 0.4: rounding times a hundred.
    for law in (G1, sc.ring()):
        out = sc.burgers_residuals(normal(40, law.means.shape[1]), law.log_density, 0.4)
        assert float(out.kpz.abs().max()) < 1e-12 and float(out.burgers.abs().max()) < 1e-11


def test_a_score_of_another_process_leaves_a_residual_in_burgers_equation():
    frozen = lambda x, t: G1.log_density(x, 0.4) + 0 * t  # noqa: E731
    assert float(sc.burgers_residuals(normal(40, 1), frozen, 0.4).kpz.abs().max()) > 0.1


# ------------------------------------------------------------------------------------------------- Tweedie


@pytest.mark.parametrize("law", [G1, sc.ring()])
@pytest.mark.parametrize("t", [0.01, 0.4, 3.0])
def test_tweedie_is_the_mean_of_the_posterior_and_its_second_order_the_covariance(law, t):
    x = normal(40, law.means.shape[1])
    s, delta = (float(v) for v in ou_moments(t))
    mean, covariance = posterior(law, x, s, delta)
    # DIF-14, DIF-16: a rounding of S ≲ 100 is multiplied by e^t Δ, one of ∇S by e^{2t} Δ².
    agree(sc.tweedie(x, law.score, t), mean, 1e-12 * math.exp(t))
    agree(sc.posterior_covariance(x, law.score, t), covariance, 1e-11 * math.exp(2 * t))
    agree(law.score(x, t), -x / delta + s * mean / delta, 1e-10)  # SCO-1


def test_tweedie_takes_one_time_for_each_point():
    x, t = normal(3, 2), real([0.1, 0.5, 2.0])
    each = torch.cat([sc.tweedie(x[i : i + 1], sc.ring().score, float(t[i])) for i in range(3)])
    agree(sc.tweedie(x, sc.ring().score, t), each, 1e-12)


def test_tweedie_without_rescaling_and_the_map_between_the_scores():
    y, sigma = normal(40, 1) * 2, 0.8
    mean, covariance = posterior(G1, y, 1.0, sigma**2)
    score = sc.ve_score(G1.score)
    agree(sc.tweedie_ve(y, score, sigma), mean, 1e-13)  # DIF-13
    law = sc.mixture(G1.means, G1.variances + sigma**2, G1.weights)
    agree(score(y, sigma), law.score(y, 0.0), 1e-13)  # DIF-12
    z = y.clone().requires_grad_()
    (slope,) = torch.autograd.grad(sc.tweedie_ve(z, score, sigma).sum(), z)
    agree(slope, covariance[:, :, 0] / sigma**2, 1e-13)  # DIF-16


def test_the_signed_identity_of_the_proof_holds_with_the_minus_only():
    # DIF-15: ∇p = −σ^{−2} ∫ (x_σ − a) g p, three atoms, σ = 0.7.
    a, w, sigma, y = (
        real([-1.0, 0.4, 2.0]),
        real([0.2, 0.5, 0.3]),
        0.7,
        torch.tensor(0.3, dtype=torch.float64),
    )
    density = lambda u: (w * torch.exp(-((u - a) ** 2) / (2 * sigma**2))).sum()  # noqa: E731
    gradient = torch.autograd.functional.jacobian(density, y)
    right = -(w * (y - a) * torch.exp(-((y - a) ** 2) / (2 * sigma**2))).sum() / sigma**2
    assert float(gradient) == pytest.approx(float(right), abs=1e-15)
    assert abs(float(gradient) + float(right)) > 0.01 * abs(float(right))


def test_the_error_of_the_best_denoiser_three_ways_and_its_integral_is_information():
    # At σ = 0.8 in units of the data, t = ½ ln(1 + σ²); quadrature is exact to rounding.
    t = math.log1p(0.64) / 2
    x, w = GRID[:, None], law_weights(G1, t)
    s, delta = (float(v) for v in ou_moments(t))
    error = float(sc.mmse(x, G1.score, t, w))
    assert error == pytest.approx(0.285223, abs=5e-7)
    assert float(w @ posterior(G1, x, s, delta)[1][:, 0, 0]) == pytest.approx(error, abs=1e-12)
    information = lambda u: float(sc.mutual_information(x, G1.log_density, u, law_weights(G1, u)))  # noqa: E731
    h = 1e-4
    slope = (information(t + h) - information(t - h)) / (2 * h)
    assert slope == pytest.approx(-(s**2) / delta**2 * error, abs=1e-6)  # second differences, h² I''' = 10⁻⁷
    # In the signal-to-noise ratio the slope is MMSE/2 = 0.142611: d snr/dt = −2 e^{−2t}/Δ².
    assert slope / (-2 * s**2 / delta**2) == pytest.approx(0.142611, abs=1e-6)


def test_the_information_of_two_narrow_classes_falls_at_the_rate_of_the_claim():
    law, t, h = sc.mixture(torch.tensor([[-2.0], [2.0]]), 0.3), 0.6, 1e-4
    x = GRID[:, None]
    information = lambda u: float(sc.mutual_information(x, law.log_density, u, law_weights(law, u)))  # noqa: E731
    assert (information(t + h) - information(t - h)) / (2 * h) == pytest.approx(-0.771436, abs=2e-6)


def test_wiener_is_tweedie_with_a_gaussian_score_and_needs_sigma_squared():
    root = normal(4, 4, seed=5)
    c, m, y, sigma = root @ root.T, normal(4), normal(30, 4, seed=2), 0.6
    spread = c + sigma**2 * torch.eye(4, dtype=torch.float64)

    def score(u, _):
        return -torch.linalg.solve(spread, (u - m).T).T

    agree(sc.wiener(y, c, sigma, m), sc.tweedie_ve(y, score, sigma), 1e-13)  # DIF-18
    printed = y - sigma * torch.linalg.solve(spread, y.T).T
    assert float((sc.wiener(y, c, sigma) - printed).abs().max()) > 0.1
    agree(sc.wiener(y, torch.zeros(4, 4, dtype=torch.float64), sigma, m), m, 1e-15)  # no signal: the mean


# ------------------------------------------------------------------------------------------------- learning the score


def joint_nodes(law, t, n=240):
    """Nodes and weights for (a, z): Gauss–Hermite in both for each component."""
    u, w = np.polynomial.hermite_e.hermegauss(n)
    u, w = real(u), real(w / w.sum())
    a = torch.cat([m + v.sqrt() * u for m, v in zip(law.means[:, 0], law.variances, strict=True)])
    wa = torch.cat([p * w for p in law.weights])
    keep = wa > 1e-17
    a, wa = a[keep], wa[keep]
    z, wz = u[w > 1e-17], w[w > 1e-17]
    return (
        a.repeat_interleave(len(z))[:, None],
        z.repeat(len(a))[:, None],
        (wa[:, None] * wz[None]).reshape(-1),
    )


@pytest.mark.parametrize("slope", [-0.7, -1.0, 0.3])
def test_denoising_exceeds_explicit_matching_by_a_constant_that_is_the_posterior_variance(slope):
    t, model = 0.5, lambda x, t: slope * x
    s, delta = (float(v) for v in ou_moments(t))
    a, z, w = joint_nodes(G1, t)
    x, p = GRID[:, None], law_weights(G1, t)
    losses = sc.denoising_losses(model, a, z, t, w)
    explicit = sc.matching_error(model, G1.score, x, t, p)
    floor = s**2 / delta**2 * sc.mmse(x, G1.score, t, p)
    # SCO-4: polynomials are exact in Gauss–Hermite nodes.
    assert float(losses.matching - explicit) == pytest.approx(float(floor), abs=1e-10)
    assert float(floor) == pytest.approx(1 / delta - float(p @ G1.score(x, t)[:, 0] ** 2), abs=1e-12)
    # SCO-3: −2E[φ·∇log p] = 2E[φ·z]/√Δ; for φ = κx it is −2κE[x·∇log p] = 2κ.
    assert float(losses.cross) == pytest.approx(2 * slope, abs=1e-10)
    assert float(-2 * p @ (slope * x * G1.score(x, t))[:, 0]) == pytest.approx(2 * slope, abs=1e-10)


def test_the_weights_of_the_losses():
    t, model = 0.5, lambda x, t: -0.7 * x
    s, delta = (float(v) for v in ou_moments(t))
    a, z, w = joint_nodes(G1, t)
    losses = sc.denoising_losses(model, a, z, t, w)
    square = 2.7745 + 0.45**2
    second = s**2 * square + delta
    # SCO-5 in closed form: E|κx + cz|² = κ²E x² + 2κc√Δ + c².
    closed = lambda k, c: k**2 * second + 2 * k * c * math.sqrt(delta) + c**2  # noqa: E731
    assert float(losses.matching) == pytest.approx(closed(-0.7, 1 / math.sqrt(delta)), abs=1e-10)
    assert float(losses.simple) == pytest.approx(closed(-0.7 * math.sqrt(delta), 1), abs=1e-10)
    assert float(losses.simple) == pytest.approx(delta * float(losses.matching), abs=1e-12)
    assert float(losses.unscaled) == pytest.approx(closed(-0.7, 1), abs=1e-10)
    target = sc.denoising_losses(lambda x, t: 0 * x, a, z, t, w).matching
    assert float(target) == pytest.approx(1 / delta, abs=1e-10)


def test_even_the_exact_score_pays_the_constant():
    t = 0.5
    a, z, w = joint_nodes(G1, t, 80)
    s, delta = (float(v) for v in ou_moments(t))
    floor = s**2 / delta**2 * float(sc.mmse(GRID[:, None], G1.score, t, law_weights(G1, t)))
    # The score is no polynomial: 80 nodes leave some 10⁻⁶.
    assert float(sc.denoising_losses(G1.score, a, z, t, w).matching) == pytest.approx(floor, abs=1e-4)


@pytest.mark.parametrize("weighting", ["likelihood", "simple"])
def test_a_small_network_learns_the_score_in_space(weighting):
    law = sc.ring()
    data = law.sample(8000, stream(1))
    net = sc.train_denoiser(data, steps=500, batch=256, weighting=weighting, generator=stream(0))
    # SCO-2. Untrained, S_θ = −x. One thousand draws give its relative error to a few percent of itself; what is asked is that
    # nine tenths of what −x misses be learned.
    for t in (0.2, 0.5):
        x = ou_step(data[:1000], t, generator=stream(2))
        learned = sc.matching_error(net, law.score, x, t)
        untrained = sc.matching_error(lambda x, t: -x, law.score, x, t)
        assert float(learned) < 0.1 * float(untrained)


def test_training_is_reproducible_from_its_seed():
    data = normal(200, 2)
    nets = [sc.train_denoiser(data, steps=5, batch=16, width=8, generator=stream(s)) for s in (0, 0, 1)]
    x = normal(5, 2)
    assert torch.equal(nets[0](x, 0.3), nets[1](x, 0.3))
    assert not torch.equal(nets[0](x, 0.3), nets[2](x, 0.3))
    assert nets[0](x, 0.3).dtype == torch.float64 and nets[0](x.float(), 0.3).dtype == torch.float32
    agree(nets[0](x, torch.full((5,), 0.3, dtype=torch.float64)), nets[0](x, 0.3), 1e-6)


def test_an_untrained_network_is_the_score_of_the_normal_law():
    x = normal(5, 3)
    agree(sc.ScoreNetwork(3, generator=stream())(x, 0.2), -x, 1e-6)


# ------------------------------------------------------------------------------------------------- DDPM


def test_the_variance_of_the_forward_chain_is_one_minus_alpha_bar_and_not_one_minus_its_root():
    schedule = sc.ddpm_schedule(line(1e-3, 0.2, 50))
    variance = 0.0
    for beta in schedule.beta[:10].tolist():
        variance = (1 - beta) * variance + beta
    assert float(1 - schedule.alpha_bar[9]) == pytest.approx(variance, abs=1e-15)
    assert variance == pytest.approx(0.17745, abs=5e-6)  # KOF-6
    assert float(1 - schedule.alpha_bar[9].sqrt()) == pytest.approx(0.0931, abs=5e-5)
    assert float((1 - schedule.alpha_bar[9].sqrt()) ** 2) == pytest.approx(0.0087, abs=5e-5)
    s, delta = ou_moments(schedule.times)
    agree(schedule.alpha_bar, s**2, 1e-15)
    agree(1 - schedule.alpha_bar, delta, 1e-15)


def test_the_start_from_noise_costs_half_alpha_bar_times_the_square():
    x0 = torch.full((1, 5), math.sqrt(0.6), dtype=torch.float64)
    cost = float(sc.ddpm_start_mismatch(1e-3, x0))
    assert cost == pytest.approx(1.5013e-3, abs=5e-8)  # KOF-7
    t = -math.log(1e-3) / 2
    zero = torch.zeros(5, 5, dtype=torch.float64)
    assert cost == pytest.approx(float(start_cost(t, x0[0], zero).total), abs=1e-15)


def test_the_mean_of_the_reverse_step_is_exact_at_any_size_of_step():
    # REV-4: ᾱ_{k−1} = 0.7, α_k = 0.8, at x = 0.37.
    schedule = sc.ddpm_schedule(real([0.3, 0.2]))
    x = real([[0.37]])
    before = -math.log(0.7) / 2
    y = GRID[:, None]
    weight = G1.log_density(y, before).exp() * torch.exp(-((0.37 - math.sqrt(0.8) * GRID) ** 2) / 0.4)
    quadrature = float(weight @ GRID / weight.sum())
    assert quadrature == pytest.approx(0.6794822, abs=5e-8)
    assert float(sc.ddpm_mean(x, G1.score, schedule, 2)) == pytest.approx(quadrature, abs=1e-12)
    epsilon = -math.sqrt(1 - 0.56) * float(G1.score(x, float(schedule.times[1])))
    assert (0.37 - 0.2 / math.sqrt(0.44) * epsilon) / math.sqrt(0.8) == pytest.approx(quadrature, abs=1e-12)


def test_three_variances_of_the_reverse_step_on_gaussian_data():
    # KOF-8: v = 0.25, β from 0.1/T to 20/T.
    for steps, beta, posterior_ in ((50, 0.2682, 0.1965), (1000, 0.25085, 0.24612)):
        schedule = sc.ddpm_schedule(line(0.1 / steps, 20 / steps, steps))
        assert sc.gaussian_chain(schedule, 0.25, "beta").generated == pytest.approx(beta, abs=1e-4)
        assert sc.gaussian_chain(schedule, 0.25, "posterior").generated == pytest.approx(posterior_, abs=1e-4)
        # Exact kernels, a start of N(0, 1): the error is ᾱ_T² (v − 1).
        assert sc.gaussian_chain(schedule, 0.25, "exact").generated == pytest.approx(0.25, abs=1e-8)


@pytest.mark.parametrize(("choice", "matching"), [("beta", 1.0), ("posterior", 1e-9)])
def test_beta_is_right_for_unit_variance_and_its_posterior_form_for_a_point(choice, matching):
    schedule = sc.ddpm_schedule(line(0.002, 0.4, 50))
    assert sc.gaussian_chain(schedule, matching, choice).generated == pytest.approx(matching, abs=1e-8)


def test_the_sampler_draws_the_variance_that_the_chain_predicts():
    schedule, law, n = sc.ddpm_schedule(line(0.002, 0.4, 50)), sc.mixture(torch.zeros(1, 1), 0.25), 20000
    for choice in ("beta", "posterior"):
        x = sc.ddpm_sample(normal(n, 1), law.score, schedule, choice, stream(3))
        expected = sc.gaussian_chain(schedule, 0.25, choice).generated
        assert float(x.var()) == pytest.approx(expected, rel=5 * math.sqrt(2 / n))


def test_the_joint_kl_bounds_the_marginal_one_and_they_fall_as_one_over_t_and_its_square():
    # KOF-9 for β from 0.1/T to 20/T, which is DDPM's own schedule at T = 1000: ten times, or a hundred times, up to a share 1/T.
    chains = [
        sc.gaussian_chain(sc.ddpm_schedule(line(0.1 / n, 20 / n, n)), 0.25, "beta") for n in (50, 100, 1000)
    ]
    assert [c.joint_kl for c in chains] == pytest.approx([0.02204, 0.01096, 0.00109], abs=5e-6)
    assert [c.marginal_kl for c in chains] == pytest.approx([0.0012, 0.0003, 2.9e-6], rel=0.03)
    assert all(c.marginal_kl < c.joint_kl for c in chains)
    assert chains[1].joint_kl / chains[2].joint_kl == pytest.approx(10, rel=0.01)
    assert chains[1].marginal_kl / chains[2].marginal_kl == pytest.approx(100, rel=0.05)
    assert sc.gaussian_chain(sc.ddpm_schedule(real([0.1, 0.2])), 0.25, "posterior").joint_kl == math.inf


def test_the_joint_kl_of_a_chain_is_that_of_its_gaussian_law():
    # Both paths (x_0, …, x_3) are Gaussian vectors: their covariances, built by propagation, give KL by one formula.
    schedule, v = sc.ddpm_schedule(real([0.1, 0.3, 0.5])), 0.25
    forward = torch.eye(4, dtype=torch.float64)  # x = F ξ, ξ independent
    noise = [v, *schedule.beta.tolist()]
    for k in range(1, 4):
        forward[k] = forward[k - 1] * schedule.alpha[k - 1].sqrt()
        forward[k, k] = 1.0
    true = forward @ torch.diag(real(noise)) @ forward.T
    law = sc.mixture(torch.zeros(1, 1), v)
    backward = torch.eye(4, dtype=torch.float64)
    for k in range(3, 0, -1):
        gain = float(sc.ddpm_mean(torch.ones(1, 1, dtype=torch.float64), law.score, schedule, k))
        backward[k - 1] = backward[k] * gain
        backward[k - 1, k - 1] = 1.0
    model = backward @ torch.diag(real([*schedule.beta.tolist(), 1.0])) @ backward.T
    kl = (torch.linalg.solve(model, true).trace() - 4 + torch.logdet(model) - torch.logdet(true)) / 2
    assert sc.gaussian_chain(schedule, v, "beta").joint_kl == pytest.approx(float(kl), abs=1e-12)


def test_moment_matched_kernels_are_exact_for_gaussian_data():
    out = sc.moment_matched_chain(sc.mixture(torch.zeros(1, 1), 0.3), line(2.0, 0.0, 4), line(-9, 9, 901))
    assert float(out.kernel_kl.abs().max()) < 1e-12 and abs(out.marginal_kl) < 1e-12


def test_the_kl_of_gaussian_kernels_falls_with_their_number_for_data_that_are_not_gaussian():
    # KOF-10: two narrow Gaussians, times 3 (k/T)².
    law, grid = sc.mixture(torch.tensor([[-1.5], [1.5]]), 0.05), line(-9, 9, 901)
    chains = [sc.moment_matched_chain(law, 3 * line(1, 0, n + 1) ** 2, grid) for n in (4, 8, 16)]
    sums = [float(c.kernel_kl.sum()) for c in chains]
    assert sums == pytest.approx([0.314, 0.126, 0.0431], rel=4e-3)
    assert [c.marginal_kl for c in chains] == pytest.approx([0.157, 0.0139, 0.0017], rel=0.03)
    assert all(float(torch.trapezoid(c.density, grid)) == pytest.approx(1, abs=1e-9) for c in chains)


def test_the_kl_of_a_moment_matched_kernel_is_its_integral():
    # One step from t to t' = 0, directly: ∫ p(x, x') ln [p(x'|x)/N(x'; mean, variance)] on a square.
    law, t, grid = sc.mixture(torch.tensor([[-1.5], [1.5]]), 0.05), 0.4, line(-8, 8, 801)
    beta = -math.expm1(-2 * t)
    joint = (
        law.log_density(grid[:, None]).exp()
        * torch.exp(-((grid[:, None] - math.exp(-t) * grid) ** 2) / (2 * beta))
        / math.sqrt(2 * math.pi * beta)
    )
    marginal = torch.trapezoid(joint, grid)
    mean = torch.trapezoid(joint * grid, grid) / marginal
    variance = torch.trapezoid(joint * (grid - mean[:, None]) ** 2, grid) / marginal
    log_kernel = (
        -((grid - mean[:, None]) ** 2) / (2 * variance[:, None]) - (2 * math.pi * variance[:, None]).log() / 2
    )
    inner = torch.xlogy(joint, joint / marginal[:, None]) - joint * log_kernel
    expected = float(torch.trapezoid(torch.trapezoid(inner, grid), grid))
    out = sc.moment_matched_chain(law, real([t, 0.0]), grid)
    assert float(out.kernel_kl[0]) == pytest.approx(expected, abs=1e-9)


# ------------------------------------------------------------------------------------------------- likelihood, error


def test_the_likelihood_is_the_density_of_the_mixture():
    x = real([[0.6], [-2.0], [1.5], [-0.4], [3.0]])
    out = sc.log_likelihood(x, G1.score)
    # e^{−10} m·x = 10⁻⁴ is left of the start, steps of 0.13 in ln σ leave less.
    agree(out, G1.log_density(x, 1e-3), 2e-4)
    assert float(out[0]) == pytest.approx(-2.190441, abs=1e-4)  # DIF-11
    y = sc.ring().sample(50, stream())
    agree(sc.log_likelihood(y, sc.ring().score), sc.ring().log_density(y, 1e-3), 2e-4)  # centred: e^{−20}
    single = sc.log_likelihood(y.float(), sc.ring().score, steps=32)
    assert single.dtype == torch.float32


def test_the_likelihood_has_order_four():
    x = sc.ring().sample(20, stream())
    truth = sc.ring().log_density(x, 0.01)
    errors = [
        float((sc.log_likelihood(x, sc.ring().score, 0.01, 12.0, n) - truth).abs().max())
        for n in (32, 64, 128)
    ]
    # Near its asymptote a halved step divides the error by 16.
    assert errors[1] / errors[2] == pytest.approx(16, rel=0.4)


def test_the_likelihood_of_normal_data_is_exact():
    x = normal(20, 3)
    expected = -(x**2).sum(1) / 2 - 1.5 * math.log(2 * math.pi)
    agree(sc.log_likelihood(x, lambda y, t: -y, steps=3), expected, 1e-13)


def test_hutchinson_is_unbiased_and_exact_in_one_dimension():
    x = sc.ring().sample(20, stream())
    exact = sc.divergence(x, sc.ring().score, 0.3)
    signs = real([[1, 1], [1, -1]])[:, None].expand(2, 20, 2)
    agree(sc.divergence(x, sc.ring().score, 0.3, signs), exact, 1e-11)  # the mean over all signs
    one = G1.sample(5, stream())
    agree(
        sc.log_likelihood(one, G1.score, steps=16, probes=1),
        sc.log_likelihood(one, G1.score, steps=16),
        1e-12,
    )
    draws = torch.stack(
        [sc.log_likelihood(x[:1].repeat(2000, 1), sc.ring().score, steps=24, probes=1, generator=stream(5))]
    )[0]
    truth = float(sc.log_likelihood(x[:1], sc.ring().score, steps=24))
    assert float(draws.mean()) == pytest.approx(truth, abs=5 * float(draws.std()) / math.sqrt(2000) + 1e-12)


def test_the_likelihood_agrees_with_torchdiffeq():
    x, law = sc.ring().sample(8, stream()), sc.ring()

    def slope(t, state):
        y = state[0]
        return -y - law.score(y, float(t)), -2 - sc.divergence(y, law.score, float(t))

    ends = real([1e-3, 10.0])
    y, change = torchdiffeq.odeint(
        slope, (x, torch.zeros(8, dtype=torch.float64)), ends, rtol=1e-9, atol=1e-10
    )
    # d log p/dt = d + ∇·S along the path, hence log p(x) = log N(y) − ∫ (d + ∇·S).
    expected = -(y[-1] ** 2).sum(1) / 2 - math.log(2 * math.pi) + change[-1]
    agree(sc.log_likelihood(x, law.score, steps=256), expected, 1e-5)


def test_the_bound_of_girsanov_on_gaussian_data():
    budget = sc.gaussian_error_budget(2.0, 1.1, 5.0)
    assert budget.kl == pytest.approx(0.00884, abs=5e-6)  # DIF-17
    assert budget.start + budget.path == pytest.approx(0.04653, abs=5e-6)
    for v in (0.2, 1.0, 4.0):
        for c in (0.5, 0.9, 1.0, 1.5):
            out = sc.gaussian_error_budget(v, c, 2.0)
            assert out.kl <= out.start + out.path + 1e-12
    assert sc.gaussian_error_budget(2.0, 1.0, 2.0).kl < sc.gaussian_error_budget(2.0, 1.0, 2.0).start


def test_the_generated_variance_behind_the_budget_is_that_of_a_simulation():
    law, n = sc.mixture(torch.zeros(1, 1), 2.0), 8000
    wrong = lambda x, t: 1.1 * law.score(x, t)  # noqa: E731
    x = sc.reverse_sample(normal(n, 1), wrong, line(5.0, 0.0, 401)[:-1], generator=stream())
    solution = integrate.solve_ivp(
        lambda tau, w: 2 * (1 - 2.2 / (1 + math.exp(-2 * (5 - tau)))) * w + 2, (0, 4.9875), [1.0], rtol=1e-10
    )
    # Steps of 0.0125: a bias of that order times the rate 2.2.
    assert float(x.var()) == pytest.approx(float(solution.y[0, -1]), rel=5 * math.sqrt(2 / n) + 0.03)


def test_the_kl_from_the_normal_law_is_the_integral_of_the_error_of_minus_x():
    # DIF-17, de Bruijn: data N(0, 3).
    law = sc.mixture(torch.zeros(1, 1), 3.0)
    grid = line(-30, 30, 4001)

    def rate(t):
        p = law.log_density(grid[:, None], t).exp() * (grid[1] - grid[0])
        return float(sc.matching_error(lambda x, t: -x, law.score, grid[:, None], t, p))

    total, _ = integrate.quad(rate, 1e-12, 20, epsabs=1e-9)
    assert total == pytest.approx((3 - 1 - math.log(3)) / 2, abs=1e-7)
    assert total == pytest.approx(0.450694, abs=5e-7)


# ------------------------------------------------------------------------------------------------- one object, many names


@pytest.mark.parametrize(
    ("name", "u"),
    [("vp", 0.4), ("ddpm", 0.3), ("ve", 0.7), ("edm", 0.8), ("flow", 0.35), ("localization", 2.0)],
)
def test_every_path_is_the_same_process_in_another_clock(name, u):
    at, x = sc.path(name, u), normal(40, 1)
    # The law of α a + β z, written out.
    law = sc.mixture(at.alpha * G1.means, at.alpha**2 * G1.variances + at.beta**2, G1.weights)
    agree(sc.path_score(x, G1.score, at), law.score(x, 0.0), 1e-12)
    mean, _ = posterior(G1, x, at.alpha, at.beta**2)
    noise = (x - at.alpha * mean) / at.beta  # E[z|x]
    agree(noise, -at.beta * sc.path_score(x, G1.score, at), 1e-12)
    agree(sc.path_velocity(x, G1.score, at), at.d_alpha * mean + at.d_beta * noise, 1e-12)  # INT-1
    agree(sc.path_score(x, G1.score, at), -x / at.beta**2 + at.alpha / at.beta**2 * mean, 1e-12)  # SCO-10
    h = 1e-5
    above, below = sc.path(name, u + h), sc.path(name, u - h)
    assert at.d_alpha == pytest.approx((above.alpha - below.alpha) / (2 * h), abs=1e-8)
    assert at.d_beta == pytest.approx((above.beta - below.beta) / (2 * h), abs=1e-8)
    # The velocity carries the density: ∂_u p + (v p)' = 0 by differences.
    p = lambda at, y: (  # noqa: E731
        sc.mixture(at.alpha * G1.means, at.alpha**2 * G1.variances + at.beta**2, G1.weights)
        .log_density(y)
        .exp()
    )
    flow = [p(at, x + k * h) * sc.path_velocity(x + k * h, G1.score, at)[:, 0] for k in (-1, 1)]
    agree((p(above, x) - p(below, x)) / (2 * h), -(flow[1] - flow[0]) / (2 * h), 1e-7)


def test_the_time_maps_of_the_dictionary():
    assert sc.path("localization", 1 / math.expm1(2 * 0.7)).time == pytest.approx(0.7, abs=1e-14)  # INT-2
    assert sc.path("edm", math.sqrt(math.expm1(1.4))).time == pytest.approx(0.7, abs=1e-14)
    assert sc.path("ve", math.expm1(1.4)).time == pytest.approx(0.7, abs=1e-14)
    assert sc.path("ddpm", math.exp(-1.4)).time == pytest.approx(0.7, abs=1e-14)
    s, delta = (float(v) for v in ou_moments(0.7))
    assert sc.path("flow", s / (s + math.sqrt(delta))).time == pytest.approx(0.7, abs=1e-14)
    assert sc.path("localization", 3.0).scale == pytest.approx(math.sqrt(12), abs=1e-14)
    # For flow matching v = x/u + ((1 − u)/u) ∇ log p.
    at, x = sc.path("flow", 0.3), normal(9, 1)
    agree(sc.path_velocity(x, G1.score, at), (x + 0.7 * sc.path_score(x, G1.score, at)) / 0.3, 1e-13)


def moments_of_g1(x, n, bias):
    x = x.double()[:, 0]
    assert float(x.mean()) == pytest.approx(0.45, abs=5 * math.sqrt(2.7745 / n) + bias)
    assert float(x.var()) == pytest.approx(2.7745, abs=5 * math.sqrt(2.52 / n) + 2 * bias)
    assert float((x < 0).double().mean()) == pytest.approx(0.301, abs=5 * math.sqrt(0.21 / n) + bias)


@pytest.mark.parametrize("diffusion", [0.0, lambda u: 1 - u])
def test_flow_matching_and_its_sde_end_in_the_data(diffusion):
    n = 4000
    u = line(1e-3, 1 - 1e-3, 300)
    x = sc.path_sample(normal(n, 1).float(), G1.score, "flow", u, diffusion, stream(1))
    moments_of_g1(x, n, 0.02)  # INT-1; steps of 1/300 with slopes up to ten


def test_a_path_run_with_epsilon_eta_is_the_reverse_family():
    x, times = normal(50, 2), sc.time_grid(3.0, 0.1, 20)
    agree(
        sc.path_sample(x, sc.ring().score, "vp", times, 0.7, stream(2)),
        sc.reverse_sample(x, sc.ring().score, times, 0.7, stream(2)),
        1e-10,
    )


def test_stochastic_localization_ends_in_the_data():
    n, u = 4000, torch.logspace(-3, 3, 400, dtype=torch.float64)
    y = sc.localize(math.sqrt(1e-3) * normal(n, 1).float(), G1.score, u, stream(3))
    moments_of_g1(y / u[-1].float(), n, 0.03)  # INT-2; noise of variance 10⁻³, steps of 0.035 in ln u


def test_along_localization_the_mean_covariance_falls_at_the_rate_of_its_square():
    # INT-2: d/du E Cov = −E Cov² at u = 2, by quadrature over y_u.
    y = line(-40, 40, 8001)

    def covariance(u):
        law = sc.mixture(u * G1.means, u**2 * G1.variances + u, G1.weights)
        return law.log_density(y[:, None]).exp() * (y[1] - y[0]), posterior(G1, y[:, None], u, u)[1][:, 0, 0]

    (above, c1), (here, c), (below, c0) = (covariance(u) for u in (2.001, 2.0, 1.999))
    slope = float(above @ c1 - below @ c0) / 0.002
    assert slope == pytest.approx(-float(here @ c**2), abs=1e-6)
    assert slope == pytest.approx(-0.115497, abs=1e-6)
    at = sc.path("localization", 2.0)
    error = sc.mmse(GRID[:, None], G1.score, at.time, law_weights(G1, at.time))
    assert float(error) == pytest.approx(float(here @ c), abs=1e-9)
    assert float(error) == pytest.approx(0.2163, abs=5e-5)


# ------------------------------------------------------------------------------------------------- samplers


@lru_cache
def flow_of_the_ring():
    """Where 20 points at t = 4 arrive at t = 0.02, by SciPy: errors of 10⁻⁹."""
    law, x = sc.ring(), normal(20, 2)

    def slope(t, y):
        u = torch.from_numpy(y).reshape(x.shape)
        return -(u + law.score(u, float(t))).reshape(-1).numpy()

    out = integrate.solve_ivp(slope, (4.0, 0.02), x.reshape(-1).numpy(), "DOP853", rtol=1e-10, atol=1e-12)
    return law, x, torch.from_numpy(out.y[:, -1]).reshape(x.shape)


@pytest.mark.parametrize(("method", "order"), [("euler", 1), ("heun", 2), ("ddim", 1), ("exponential", 1)])
def test_the_order_of_each_sampler(method, order):
    law, x, exact = flow_of_the_ring()
    errors = [
        float((sc.probability_flow(x, law.score, sc.time_grid(4.0, 0.02, n), method) - exact).abs().mean())
        for n in (100, 200, 400)
    ]
    # log₂ of the ratio of errors: the order, up to the share of the next one, ten or so times 8/200.
    assert math.log2(errors[1] / errors[2]) == pytest.approx(order, abs=0.25)
    assert math.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.5)


def test_the_flow_is_that_of_torchdiffeq():
    law, x, exact = flow_of_the_ring()
    peer = torchdiffeq.odeint(
        lambda t, y: -(y + law.score(y, float(t))),
        x,
        real([4.0, 0.02]),
        rtol=1e-8,
        atol=1e-9,
        options={"first_step": 0.01},
    )[-1]
    agree(peer, exact, 1e-5)


def test_ddim_is_exact_for_a_single_datum_at_any_number_of_steps():
    a = real([[0.7, -1.2]])
    score = lambda x, t: (math.exp(-t) * a - x) / -math.expm1(-2 * t)  # noqa: E731
    z = normal(10, 2)
    start = math.exp(-3.0) * a + math.sqrt(-math.expm1(-6.0)) * z
    end = sc.probability_flow(start, score, real([3.0, 0.5]), "ddim")
    agree(end, math.exp(-0.5) * a + math.sqrt(-math.expm1(-1.0)) * z, 1e-12)
    agree(sc.probability_flow(start, score, real([3.0, 0.0]), "ddim"), a.expand(10, 2), 1e-12)


def test_ddim_is_euler_in_the_noise_of_the_exploding_frame():
    x, (t, end) = normal(10, 2), (1.0, 0.6)
    sigma, sigma_end = math.sqrt(math.expm1(2 * t)), math.sqrt(math.expm1(2 * end))
    y = math.exp(t) * x
    y = y + (sigma_end - sigma) * -sigma * sc.ve_score(sc.ring().score)(y, sigma)
    agree(sc.probability_flow(x, sc.ring().score, real([t, end]), "ddim"), math.exp(-end) * y, 1e-12)


def test_the_exponential_integrator_is_exact_for_a_constant_score():
    score = lambda x, t: torch.ones_like(x)  # noqa: E731
    out = sc.probability_flow(torch.zeros(1, 1), score, real([1.0, 0.0]), "exponential")
    assert float(out) == pytest.approx(math.e - 1, rel=1e-6)


@pytest.mark.parametrize("kind", ["uniform", "log", "edm"])
def test_time_grids_descend_between_their_ends_with_equal_steps(kind):
    t = sc.time_grid(8.0, 1e-4, 50, kind)
    assert float(t[0]) == 8.0 and float(t[-1]) == 1e-4 and len(t) == 51 and bool((t.diff() < 0).all())
    sigma = torch.expm1(2 * t).sqrt()
    steps = {"uniform": t, "log": sigma.log(), "edm": sigma ** (1 / 7)}[kind].diff()
    agree(steps / steps.mean(), torch.ones(50), 1e-8)


# ------------------------------------------------------------------------------------------------- what is refused


X = torch.zeros(3, 2, dtype=torch.float64)
S = sc.ring().score


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: sc.tweedie(X, S, 0.0), "t"),
        (lambda: sc.tweedie(X, S, NAN), "t"),
        (lambda: sc.tweedie(X, S, torch.ones(2)), "t"),
        (lambda: sc.tweedie(X.long(), S, 1.0), "x"),
        (lambda: sc.tweedie(X[0], S, 1.0), "x"),
        (lambda: sc.tweedie(X * NAN, S, 1.0), "x"),
        (lambda: sc.tweedie(X, lambda x, t: x[:, :1], 1.0), "score"),
        (lambda: sc.tweedie_ve(X, S, -1.0), "t"),
        (lambda: sc.reverse_sample(X, S, real([0.1, 1.0])), "times"),
        (lambda: sc.reverse_sample(X, S, real([1.0])), "times"),
        (lambda: sc.reverse_sample(X, S, real([1.0, -0.1])), "times"),
        (lambda: sc.reverse_sample(X, S, [1.0, 0.1]), "times"),
        (lambda: sc.reverse_sample(X, S, real([1.0, 0.1]), eta=-1.0), "eta"),
        (lambda: sc.reverse_sample(X, S, real([1.0, 0.1]), eta=NAN), "eta"),
        (lambda: sc.reverse_sample(X, lambda x, t: x * NAN, real([1.0, 0.1])), "score"),
        (lambda: sc.reverse_sample(X[:0], S, real([1.0, 0.1])), "x_start"),
        (lambda: sc.log_likelihood(X, S, t_min=0.0), "t_min"),
        (lambda: sc.log_likelihood(X, S, t_min=2.0, t_max=1.0), "t_min"),
        (lambda: sc.log_likelihood(X, S, steps=0), "steps"),
        (lambda: sc.log_likelihood(X, S, probes=0), "probes"),
        (lambda: sc.log_likelihood(X, lambda x, t: x.detach()), "score"),
        (lambda: sc.posterior_covariance(X, lambda x, t: x.detach(), 1.0), "score"),
        (lambda: sc.train_denoiser(X[:0]), "data"),
        (lambda: sc.train_denoiser(X, steps=0), "steps"),
        (lambda: sc.train_denoiser(X, weighting="ddpm"), "weighting"),
        (lambda: sc.train_denoiser(X, t_min=6.0), "t_min"),
        (lambda: sc.mixture(X, 0.0), "variances"),
        (lambda: sc.mixture(X, 1.0, real([1.0, 0.0, 0.0])), "weights"),
        (lambda: sc.ring(0), "n"),
        (lambda: sc.ring().score(X[:, :1], 1.0), "x"),
        (lambda: sc.ring().sample(0), "n"),
        (lambda: sc.ddpm_schedule(real([0.1, 1.0])), "betas"),
        (lambda: sc.ddpm_mean(X, S, sc.ddpm_schedule(real([0.1])), 2), "k"),
        (lambda: sc.ddpm_sample(X, S, sc.ddpm_schedule(real([0.1])), "exact"), "variance"),
        (lambda: sc.gaussian_chain(sc.ddpm_schedule(real([0.1])), -1.0), "variance"),
        (lambda: sc.gaussian_chain(sc.ddpm_schedule(real([0.1])), 1.0, "both"), "choice"),
        (lambda: sc.ddpm_start_mismatch(1.0, X), "alpha_bar"),
        (lambda: sc.moment_matched_chain(sc.ring(), real([1.0, 0.0]), GRID), "law"),
        (lambda: sc.moment_matched_chain(G1, real([1e-5, 0.0]), line(-5, 5, 11)), "grid"),
        (lambda: sc.path("song", 0.5), "name"),
        (lambda: sc.path("flow", 1.0), "u"),
        (lambda: sc.path_sample(X, S, "flow", real([0.9, 0.1])), "times"),
        (lambda: sc.path_sample(X, S, "vp", real([0.9, 0.1]), -1.0), "diffusion"),
        (lambda: sc.localize(X, S, real([0.0, 1.0])), "u"),
        (lambda: sc.probability_flow(X, S, real([1.0, 0.1]), "rk4"), "method"),
        (lambda: sc.time_grid(1.0, 2.0, 5), "t_min"),
        (lambda: sc.time_grid(1.0, 0.5, 5, "cosine"), "kind"),
        (lambda: sc.wiener(X, real([[1.0, 0.5], [0.0, 1.0]]), 1.0), "covariance"),
        (lambda: sc.wiener(X, real([[1.0, 2.0], [2.0, 1.0]]), 1.0), "covariance"),
        (lambda: sc.denoising_losses(S, X, X[:2], 1.0), "z"),
        (lambda: sc.gaussian_error_budget(0.0, 1.0), "variance"),
    ],
)
def test_bad_input_is_refused_by_name(call, name):
    with pytest.raises(ValueError, match=f"^{name}"):
        call()
