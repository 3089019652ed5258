"""Stochastic processes held to closed forms, quadrature, finite differences and simulation (claims DIF-1 … 9, LAN, REV-1 … 3, PRO)."""

from __future__ import annotations

import math
from decimal import Decimal, getcontext

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.linalg import eigvalsh_tridiagonal

from physgen.diffusion import processes as pr
from physgen.kernels import mixture_score

EPS = 2.0**-52
ROOT2 = math.sqrt(2)
NAN = math.nan


def stream(seed=0):
    return torch.Generator().manual_seed(seed)


def real(values):
    return torch.as_tensor(values, dtype=torch.float64)


def line(low, high, n):
    return torch.linspace(low, high, n, dtype=torch.float64)


def gaussian(x, s, delta):
    """N(x; s·1, delta I) at points (batch, d)."""
    return (-((x - s) ** 2).sum(1) / (2 * delta)).exp() / (2 * math.pi * delta) ** (x.shape[1] / 2)


def ou_density(centre=0.0, rate=1.0, noise=ROOT2):
    """Of the process that starts at the point (c, …, c), written out: an oracle for `fokker_planck_terms` and its friends."""

    def density(x, t):
        variance = noise**2 * (1 - torch.exp(-2 * rate * t)) / (2 * rate)
        return gaussian(x, centre * torch.exp(-rate * t), variance)

    return density


def pull(x, t):
    return -x


def within(sample, expected, width=5.0, bias=0.0):
    """The mean of independent draws (n, …) lies within so many standard errors, and a known bias, of a value."""
    error = sample.std(0) / math.sqrt(len(sample))
    assert bool(((sample.mean(0) - expected).abs() <= width * error + bias).all())


def variance_within(x, expected, width=5.0):
    """For draws of a Gaussian: the standard error of a variance is √(2/n) of it."""
    error = expected * math.sqrt(2 / len(x))
    assert bool(((x.var(0) - expected).abs() <= width * error).all())


# ------------------------------------------------------------------------------------------------- Ornstein–Uhlenbeck


@pytest.mark.parametrize("t", [1e-300, 1e-16, 1e-9, 1e-3, 0.7, 5.0, 40.0, 700.0])
def test_moments_are_accurate_to_rounding_at_every_time(t):
    getcontext().prec = 60
    u = Decimal(t)
    s, delta = pr.ou_moments(t)
    assert s.dtype == delta.dtype == torch.float64
    assert float(s) == pytest.approx(float((-u).exp()), rel=4 * EPS, abs=0)
    exact = 2 * u if t < 1e-30 else 1 - (-2 * u).exp()  # 60 digits do not resolve 1 − e^{−10⁻³⁰⁰}
    assert float(delta) == pytest.approx(float(exact), rel=4 * EPS, abs=0)


def test_moments_keep_the_shape_and_dtype_of_a_tensor_of_times():
    t = torch.tensor([[1e-6, 0.5]], dtype=torch.float32)
    s, delta = pr.ou_moments(t)
    assert s.shape == delta.shape == (1, 2)
    assert s.dtype == delta.dtype == torch.float32
    assert float(delta[0, 0]) == pytest.approx(2e-6, rel=3e-6)  # Δ = 2t(1 − t …), float32


def test_moments_solve_the_equations_of_the_mean_and_variance():
    t, k, sigma = real([0.01, 0.4, 2.0]).requires_grad_(), 0.7, 1.3
    s, delta = pr.ou_moments(t, k, sigma)
    (ds,) = torch.autograd.grad(s.sum(), t, retain_graph=True)
    (dd,) = torch.autograd.grad(delta.sum(), t)
    assert torch.allclose(ds, -k * s, rtol=1e-14)
    assert torch.allclose(dd, sigma**2 - 2 * k * delta, rtol=1e-13)


def test_moments_and_the_stationary_variance_have_the_values_of_the_claims():
    s, delta = pr.ou_moments(1.0, 0.7, 1.3)
    assert 2 * float(s) == pytest.approx(0.9932, abs=5e-5)  # DIF-3, from x_0 = 2
    assert float(delta) == pytest.approx(0.9095, abs=5e-5)
    final = float(pr.ou_moments(1e3, 0.7, 1.3).delta)
    assert final == pytest.approx(1.3**2 / 1.4, rel=4 * EPS)  # DIF-4: 1.2071
    assert (1.3 / (2 * ROOT2 * 0.7)) ** 2 == pytest.approx(0.4311, abs=5e-5)  # as in the notes
    assert float(pr.stationary_covariance(real([[-0.7]]), 1.3)) == pytest.approx(final, rel=1e-14)


def test_signal_and_noise_are_a_rotation_only_if_the_noise_matches_the_rate():
    t = real([0.1, 1.0, 3.0])
    for k in (0.7, 1.0, 2.5):
        s, delta = pr.ou_moments(t, k, math.sqrt(2 * k))
        assert torch.allclose(s**2 + delta, torch.ones(3, dtype=torch.float64), rtol=0, atol=4 * EPS)  # DIF-6
    s, delta = pr.ou_moments(t, 0.7, 1.3)
    excess = (1.3**2 / 1.4 - 1) * (1 - torch.exp(-1.4 * t))
    assert torch.allclose(s**2 + delta - 1, excess, rtol=1e-13)


def test_an_exact_step_has_the_mean_and_variance_of_the_law_and_keeps_the_dtype():
    x = pr.ou_step(torch.full((40_000, 2), 2.0), 1.0, 0.7, 1.3, generator=stream(1))
    s, delta = (float(m) for m in pr.ou_moments(1.0, 0.7, 1.3))
    assert x.dtype == torch.float32
    within(x, 2 * s)
    variance_within(x, delta)
    assert (
        abs(float((x[:, 0] * x[:, 1]).mean()) - 4 * s**2) < 5 * 2 * delta / 200 * 2
    )  # the directions are independent


def test_an_exact_step_takes_one_time_for_each_point():
    t = torch.tensor([0.01, 3.0], dtype=torch.float64).repeat(20_000)
    x = pr.ou_step(torch.ones(40_000, 1, dtype=torch.float64), t, generator=stream(2))
    for row in (0, 1):
        s, delta = (float(m) for m in pr.ou_moments(float(t[row])))
        within(x[row::2], s)
        variance_within(x[row::2], delta)


@pytest.mark.parametrize("d", [1, 2, 3])
def test_the_contracted_density_has_mass_one_with_one_factor_for_each_dimension(d):
    # Trapezoid with spacing 0.25 on a Gaussian of width e^{−½} = 0.61: error e^{−2π² (0.61/0.25)²} ≈ 10⁻⁵⁰; the ends are 8 widths off.
    x = torch.cartesian_prod(*[line(-5, 5, 41)] * d).reshape(-1, d)
    mass = pr.contracted(x, lambda a: gaussian(a, 0.0, 1.0), 0.5).sum() * 0.25**d
    assert float(mass) == pytest.approx(1, abs=1e-12)
    as_printed = math.exp(-(d - 1) * 0.5) * mass  # the notes' factor is e^{kt}, not e^{kdt}
    assert float(as_printed) == pytest.approx({1: 1, 2: 0.6065, 3: 0.3679}[d], abs=5e-5)  # DIF-7


def test_the_semigroup_of_two_gaussians_is_their_noised_mixture():
    grid, t = line(-9, 9, 361), 0.4
    s, delta = (float(m) for m in pr.ou_moments(t))
    means, v = real([[-2.0], [1.0]]), 0.3

    def law(scale, variance):
        return mixture_score.log_density(grid[:, None], means, scale, variance).exp()

    p = pr.ou_semigroup(law(1.0, v), grid, t)
    assert torch.allclose(p, law(s, v * s**2 + delta), rtol=0, atol=1e-13)


def test_two_steps_of_the_semigroup_are_one_and_the_normal_law_stays():
    grid = line(-9, 9, 361)
    p = pr.gibbs_density(lambda x: (x**2 - 1) ** 2, grid)
    twice, once = (
        pr.ou_semigroup(pr.ou_semigroup(p, grid, 0.3), grid, 0.5),
        pr.ou_semigroup(p, grid, 0.8),
    )
    assert float((twice - once).abs().max()) < 1e-13  # DIF-8: rounding, 6e-14 in the claim
    normal = gaussian(grid[:, None], 0.0, 1.0)
    assert float((pr.ou_semigroup(normal, grid, 0.3) - normal).abs().max()) < 1e-14


def laplace(w):
    return 1 / (1 + w[:, 0] ** 2)


def test_the_fourier_transform_is_contracted_and_damped():
    w = real([[1.7]])
    value = float(pr.ou_characteristic(w, laplace, 0.7))
    assert value == pytest.approx(0.196574, abs=5e-7)  # DIF-8
    grid = line(-12, 12, 1201)
    p = pr.ou_semigroup((-grid.abs()).exp() / 2, grid, 0.7)
    direct = float(torch.trapezoid(p * torch.cos(1.7 * grid), grid))
    # The kink of slope −1 costs the trapezoid h²/12 = 3.3e-5; the tails beyond 12 hold e^{−12} = 6e-6.
    assert direct == pytest.approx(value, abs=4e-5)


def test_the_fourier_transform_decays_and_its_inverse_explodes():
    w = real([[0.5], [2.0], [8.0]])
    t = 0.1
    damping = pr.ou_characteristic(w, lambda w: torch.ones(len(w), dtype=torch.float64), t)
    assert bool((damping <= 1).all() & (damping.diff() < 0).all())
    assert float(1 / damping[2]) == pytest.approx(math.exp(32 * (1 - math.exp(-0.2))), rel=1e-13)
    assert math.exp(8**2 * t) == pytest.approx(602, abs=0.5)  # DIF-8: pure heat, e^{w²t}


# ------------------------------------------------------------------------------------------------- schedules


def test_the_schedules_of_the_book_and_of_brownian_motion_have_their_closed_forms():
    t = real([[1e-8, 0.5], [2.0, 20.0]])
    s, sigma, delta = pr.schedule_moments(lambda t: -1.0, lambda t: 1.0, t)
    exact = pr.ou_moments(t)
    assert torch.allclose(s, exact.s, rtol=1e-11)
    assert torch.allclose(delta, exact.delta, rtol=1e-11)
    assert torch.allclose(sigma**2, torch.expm1(2 * t), rtol=1e-11)
    assert torch.allclose(sigma, delta.sqrt() / s, rtol=1e-14)
    brown = pr.schedule_moments(lambda t: 0.0, lambda t: 1.0, t)
    assert torch.allclose(brown.sigma**2, 2 * t, rtol=1e-12)  # LAN-5: variance 2t
    assert bool((brown.s == 1).all())


def f(t):
    return -0.5 - 0.3 * t


def g(t):
    return 0.6 + 0.4 * math.sin(3 * t)


def test_a_schedule_is_the_pair_of_integrals_of_the_notes():
    def s(t):
        return math.exp(-0.5 * t - 0.15 * t**2)

    spread, _ = quad(lambda u: 2 * (g(u) / s(u)) ** 2, 0, 1.5, epsabs=1e-13)
    out = pr.schedule_moments(f, g, 1.5)
    assert float(out.s) == pytest.approx(s(1.5), rel=1e-12)
    assert float(out.sigma) == pytest.approx(math.sqrt(spread), rel=1e-11)
    assert 1.2 * float(out.s) == pytest.approx(0.4045, abs=5e-5)  # LAN-5
    assert float(out.delta) == pytest.approx(0.4326, abs=5e-5)


def linear_moments(steps, mean):
    """Of the Itô steps of dx = f x dt + √2 g dW, exactly: x ← (1 + fh) x + √(2h) g z."""
    h, variance = 1.5 / steps, 0.0
    for k in range(steps):
        a = 1 + f(k * h) * h
        mean, variance = a * mean, a**2 * variance + 2 * g(k * h) ** 2 * h
    return mean, variance


def test_simulated_schedules_have_the_moments_of_their_steps_which_tend_to_the_schedule():
    x = torch.full((40_000, 1), 1.2)
    out = pr.euler_maruyama(
        x, lambda x, t: f(t) * x, lambda x, t: ROOT2 * g(t), line(0, 1.5, 101), generator=stream(3)
    )
    mean, variance = linear_moments(100, 1.2)
    within(out, mean)
    variance_within(out, variance)
    exact = pr.schedule_moments(f, g, 1.5)
    errors = [linear_moments(n, 1.2)[1] - float(exact.delta) for n in (400, 800)]
    assert errors[0] / errors[1] == pytest.approx(2, abs=0.02)  # first order, up to h = 1/500


# ------------------------------------------------------------------------------------------------- steps


def test_the_noise_of_a_step_has_covariance_two_h_and_no_correlation_between_directions_and_steps():
    times = real([0.0, 0.1, 0.4])
    y = ROOT2 * pr.brownian_increments((50_000, 2), times, generator=stream(4))
    flat = y.permute(1, 0, 2).reshape(-1, 4)  # (draws, step and direction)
    expected = torch.diag(2 * real([0.1, 0.1, 0.3, 0.3]))
    scale = expected.diagonal().sqrt()
    # Standard error of a covariance: √((1 + δ_ij) C_ii C_jj / n); five of them.
    assert bool(
        (
            (flat.T @ flat / 50_000 - expected).abs() <= 5 * scale * scale[:, None] * math.sqrt(2 / 50_000)
        ).all()
    )


def strong_errors(noise, steps):
    """E|x_h − x_fine| at T = 1 on one Brownian path, for several numbers of steps."""
    fine = 1024
    x = torch.full((2000, 1), 1.0, dtype=torch.float64)
    dw = pr.brownian_increments(x.shape, line(0, 1, fine + 1), generator=stream(5))
    solution = pr.euler_maruyama(x, pull, noise, line(0, 1, fine + 1), increments=dw)
    out = []
    for n in steps:
        coarse = dw.reshape(n, fine // n, *x.shape).sum(1)
        out.append(
            float(
                (pr.euler_maruyama(x, pull, noise, line(0, 1, n + 1), increments=coarse) - solution)
                .abs()
                .mean()
            )
        )
    return out


def test_ito_steps_have_strong_order_one_with_additive_and_one_half_with_multiplicative_noise():
    coarse, fine = strong_errors(ROOT2, (8, 32))
    # error ∝ h − h_fine: (1/8 − 1/1024)/(1/32 − 1/1024) = 4.10 at order one, next order in h: 10 %
    assert coarse / fine == pytest.approx(4.10, rel=0.15)
    coarse, fine = strong_errors(lambda x, t: x, (8, 32))
    assert (
        coarse / fine < 2.6
    )  # order one half: 2, and √(127/31) = 2.02 against this reference; Monte Carlo 2 %


@pytest.mark.parametrize("h", [0.1, 0.2, 0.5])
def test_ito_steps_of_ornstein_uhlenbeck_rest_at_the_biased_variance(h):
    variance = float(pr.stationary_covariance(real([[-0.7]]), 1.3, step=h))
    assert variance == pytest.approx(1.3**2 / 1.4 / (1 - 0.35 * h), rel=1e-13)  # DIF-5
    assert variance == pytest.approx({0.1: 1.2509, 0.2: 1.2980, 0.5: 1.4632}[h], abs=5e-5)
    times = h * torch.arange(
        round(12 / h) + 1, dtype=torch.float64
    )  # the start is forgotten to e^{−2·0.7·12} = 5e-8
    x = pr.euler_maruyama(torch.zeros(40_000, 1), lambda x, t: -0.7 * x, 1.3, times, generator=stream(6))
    variance_within(x, variance)


def test_steps_beyond_two_over_the_rate_have_no_stationary_law_and_diverge():
    with pytest.raises(ValueError, match="step"):
        pr.stationary_covariance(real([[-0.7]]), 1.3, step=2 / 0.7)
    with pytest.raises(ValueError, match="times"):
        pr.euler_maruyama(torch.ones(10, 1), pull, 1.0, 4 * torch.arange(200.0), generator=stream(7))


def test_a_path_holds_every_position_and_ends_where_the_run_does():
    args = torch.zeros(3, 2), pull, ROOT2, line(0, 1, 6)
    path = pr.euler_maruyama(*args, generator=stream(8), path=True)
    assert path.shape == (6, 3, 2)
    assert bool((path[0] == 0).all())
    assert torch.equal(path[-1], pr.euler_maruyama(*args, generator=stream(8)))


def test_ito_and_stratonovich_agree_with_additive_and_differ_with_multiplicative_noise():
    def spread(x, t):
        return (1 + x**2).sqrt()

    n, h = 20_000, 0.02
    times = h * torch.arange(251, dtype=torch.float64)
    x = torch.zeros(n, 1)
    ito = pr.euler_maruyama(x, pull, spread, times, generator=stream(9))
    stratonovich = pr.stratonovich_heun(x, pull, spread, times, generator=stream(9))
    for sample, exact in ((ito, 0.5 + 1 / math.pi), (stratonovich, 1 / ROOT2)):  # DIF-2
        # Weak order one: the bias is of order h (0.0013 at h = 0.005 in the claim); five standard errors are 0.016.
        within((sample.abs() < 1).float(), exact, bias=h / 2)
    a, b = (
        run(x, pull, 1.0, times, generator=stream(9)) for run in (pr.euler_maruyama, pr.stratonovich_heun)
    )
    assert float((a - b).abs().max()) < 5 * h  # one solution: strong order one for both


def root(x, t):
    return (1 + x**2).sqrt()


def test_the_stationary_laws_of_both_readings_have_their_closed_forms():
    grid = torch.sinh(9 * line(-1, 1, 2001)) / math.sinh(
        2.25
    )  # heavy tails: to ±860, and ±1 are points of it
    inner = slice(750, 1251)
    for drift, exponent, inside in ((pull, 2.0, 0.5 + 1 / math.pi), (lambda x, t: -x / 2, 1.5, 1 / ROOT2)):
        # Stratonovich's drift is −x + ½σσ' = −x/2 in Itô's reading.
        p = pr.stationary_density(pr.fokker_planck_matrix(grid, drift, root), grid)
        norm, _ = quad(lambda u, a=exponent: (1 + u * u) ** -a, -math.inf, math.inf)
        # Midpoint rule for ln p: h² /24 of a second derivative of order one, h ≤ 0.013 within |x| < 1 (and in all ∫h² ≲ 10⁻⁴).
        assert float((p - (1 + grid**2) ** -exponent / norm).abs().max()) < 1e-4
        assert float(torch.trapezoid(p[inner], grid[inner])) == pytest.approx(inside, abs=1e-4)  # DIF-2


# ------------------------------------------------------------------------------------------------- Fokker–Planck


def test_the_terms_are_those_of_finite_differences_where_no_equation_holds():
    def density(x, t):
        return torch.exp(-(x[:, 0] ** 2) * t - x[:, 1] ** 2 + torch.sin(x[:, 0] * x[:, 1]))

    def drift(x, t):
        return torch.stack([x[:, 1] * x[:, 0] + t, -(x[:, 1] ** 3)], 1)

    def noise(x, t):
        return torch.stack([1 + x[:, 1] ** 2, t * torch.cos(x[:, 1])], 1)

    x, t, h = torch.randn(6, 2, generator=stream(10), dtype=torch.float64), 0.6, 1e-3
    terms = pr.fokker_planck_terms(x, density, t, drift, noise)
    transport = diffusion = 0
    for i in (0, 1):
        e = h * torch.eye(2, dtype=torch.float64)[i]

        def flow(y, i=i):
            return drift(y, t)[:, i] * density(y, t)

        def spread(y, i=i):
            return noise(y, real(t))[:, i] ** 2 * density(y, t) / 2

        transport = transport - (flow(x + e) - flow(x - e)) / (2 * h)
        diffusion = diffusion + (spread(x + e) - 2 * spread(x) + spread(x - e)) / h**2
    rate = (density(x, t + h) - density(x, t - h)) / (2 * h)
    for exact, difference in zip(terms, (rate, transport, diffusion), strict=True):
        # Central differences: h² = 10⁻⁶ times fourth derivatives, which reach 10² here.
        assert torch.allclose(exact, difference, rtol=1e-4, atol=2e-4)
    assert torch.equal(terms.residual, terms.rate - terms.transport - terms.diffusion)


@pytest.mark.parametrize("d", [1, 3])
@pytest.mark.parametrize(("rate", "noise"), [(1.0, ROOT2), (0.7, 1.3)])
def test_the_gaussian_of_ornstein_uhlenbeck_solves_the_fokker_planck_equation(d, rate, noise):
    x = torch.randn(20, d, generator=stream(11), dtype=torch.float64)
    terms = pr.fokker_planck_terms(x, ou_density(0.8, rate, noise), 0.5, lambda x, t: -rate * x, noise)
    assert float(terms.residual.abs().max()) < 1e-14  # DIF-1, LAN-2, REV-1: rounding
    assert float(terms.rate.abs().max()) > 0.01


def test_the_sign_of_the_notes_leaves_a_residual_of_order_one():
    terms = pr.fokker_planck_terms(real([[0.3]]), ou_density(), 0.5, pull)
    as_printed = float(terms.rate - terms.transport + terms.diffusion)
    delta = 1 - math.exp(-1.0)
    p = math.exp(-0.09 / (2 * delta)) / math.sqrt(2 * math.pi * delta)
    assert as_printed == pytest.approx(2 * p * (0.09 / delta**2 - 1 / delta), rel=1e-13)  # 2 p'' = −1.268
    assert as_printed == pytest.approx(-1.268, abs=5e-4)


def test_the_law_of_a_mixture_solves_the_equation_and_its_reversal_diffuses_backwards():
    means, final = real([[-1.5, 0.0], [1.0, 1.0]]), 1.2

    def p(x, t):
        s, delta = torch.exp(-t), 1 - torch.exp(-2 * t)
        return sum(gaussian(x - s * m, 0.0, 0.3 * s**2 + delta) for m in means) / 2

    x = torch.randn(10, 2, generator=stream(12), dtype=torch.float64)
    assert float(pr.fokker_planck_terms(x, p, 0.5, pull).residual.abs().max()) < 1e-15

    def q(x, t):
        return p(x, final - t)

    back = pr.fokker_planck_terms(x, q, final - 0.5, lambda x, t: x)
    assert (
        float((back.rate - back.transport + back.diffusion).abs().max()) < 1e-15
    )  # REV-2: ∂q = −Δq − ∇·(yq)

    def reverse(x, t):
        with torch.enable_grad():
            y = x if x.requires_grad else x.detach().requires_grad_()
            return y + 2 * torch.autograd.grad(q(y, t).log().sum(), y, create_graph=True)[0]

    assert float(pr.fokker_planck_terms(x, q, final - 0.5, reverse).residual.abs().max()) < 1e-14


def test_the_noise_stands_inside_the_second_derivative():
    def p(x, t):
        return (1 + x[:, 0] ** 2) ** -2

    x = line(-2, 2, 9)[:, None]
    assert float(pr.fokker_planck_terms(x, p, 1.0, pull, root).residual.abs().max()) < 1e-14
    outside = pr.fokker_planck_terms(x, p, 1.0, pull, 1.0)  # ½ p'' in place of ½ (σ²p)''
    assert float((outside.transport + (1 + x[:, 0] ** 2) * outside.diffusion).abs().max()) > 0.5


def well(x):
    return 2 * (x**2 - 1) ** 2


def force(x, t):
    return -8 * x * (x**2 - 1)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_a_gradient_force_rests_at_gibbs_law_without_any_current(temperature):
    noise = math.sqrt(2 * temperature)

    def p(x, t):
        return torch.exp(-(well(x[:, 0]) + well(x[:, 1]) + x[:, 0] * x[:, 1]) / temperature)

    def drift(x, t):
        return force(x, t) - x.flip(1)

    x = torch.randn(20, 2, generator=stream(13), dtype=torch.float64)
    terms = pr.fokker_planck_terms(x, p, 1.0, drift, noise)
    scale = float(terms.transport.abs().max())
    assert float(terms.residual.abs().max()) < 1e-13 * scale  # LAN-3, LAN-4
    assert float(pr.probability_current(x, p, 1.0, drift, noise).abs().max()) < 1e-13 * scale


def turn(x, t):
    return -x + 3 * torch.stack([x[:, 1], -x[:, 0]], 1)


def test_a_rotation_keeps_the_law_and_breaks_detailed_balance():
    x = torch.randn(20, 2, generator=stream(14), dtype=torch.float64)

    def p(x, t):
        return gaussian(x, 0.0, 1.0)

    assert float(pr.fokker_planck_terms(x, p, 1.0, turn).residual.abs().max()) < 1e-15
    current = pr.probability_current(x, p, 1.0, turn)
    swirl = (turn(x, 1.0) + x) * p(x, 1.0)[:, None]
    assert torch.allclose(current, swirl, rtol=0, atol=1e-15)  # LAN-3: j = c p


def test_the_steps_of_a_rotation_rest_at_a_wider_gaussian_that_turns():
    a, h = real([[-1.0, 3.0], [-3.0, -1.0]]), 0.02
    assert torch.allclose(pr.stationary_covariance(a), torch.eye(2, dtype=torch.float64), atol=1e-14)
    covariance = pr.stationary_covariance(a, step=h)
    exact = 2 * h / (1 - abs(1 - h + 3j * h) ** 2)
    assert torch.allclose(covariance, exact * torch.eye(2, dtype=torch.float64), atol=1e-13)
    assert exact == pytest.approx(1.111, abs=5e-4)  # LAN-3
    start = math.sqrt(exact) * torch.randn(20_000, 2, generator=stream(15))
    path = pr.euler_maruyama(start, turn, ROOT2, h * torch.arange(101.0), generator=stream(16), path=True)
    variance_within(path[-1], exact)
    turned = (path[-2, :, 0] * path[-1, :, 1] - path[-2, :, 1] * path[-1, :, 0]) / h
    within(turned, -3 * 2 * exact)  # x ∧ c = −3|x|²


def test_the_covariance_of_steps_is_the_fixed_point_of_their_recursion():
    a = torch.randn(4, 4, generator=stream(17), dtype=torch.float64) - 4 * torch.eye(4, dtype=torch.float64)
    c, m = torch.zeros(4, 4, dtype=torch.float64), torch.eye(4, dtype=torch.float64) + 0.05 * a
    for _ in range(1000):
        c = m @ c @ m.T + 0.05 * 0.81 * torch.eye(4, dtype=torch.float64)
    assert torch.allclose(pr.stationary_covariance(a, 0.9, 0.05), c, rtol=1e-12)
    c = pr.stationary_covariance(a, 0.9)
    assert torch.allclose(a @ c + c @ a.T, -0.81 * torch.eye(4, dtype=torch.float64), rtol=0, atol=1e-14)


def test_steps_of_one_over_the_stiffest_curvature_double_its_variance():
    for kappa in (10.0, 100.0, 1000.0):  # RGR-6
        c = pr.stationary_covariance(torch.diag(real([-1.0, -kappa])), step=1 / kappa)
        assert float(c[1, 1] * kappa) == pytest.approx(2, rel=1e-12)
        assert float(c[0, 0]) == pytest.approx(1 / (1 - 0.5 / kappa), rel=1e-12)


# ------------------------------------------------------------------------------------------------- finite volumes


def test_finite_volumes_conserve_mass_and_positivity_at_any_spacing():
    grid = torch.cumsum(0.02 + torch.rand(60, generator=stream(18), dtype=torch.float64), 0) - 15
    m = pr.fokker_planck_matrix(grid, lambda x, t: -(x**3), root)
    off = m - m.diagonal().diag()
    assert bool((off >= 0).all())
    p = torch.zeros(60, dtype=torch.float64)
    p[7] = 1.0
    path = pr.evolve_density(p, m, real([0.0, 1e-4, 0.1, 5.0]))
    assert torch.equal(path[0], p)
    mass = torch.trapezoid(path, grid)
    assert torch.allclose(mass, mass[:1], rtol=1e-11)
    assert bool((path >= 0).all())
    assert bool((torch.linalg.matrix_exp(0.1 * m) > -1e-12).all())  # and not by the clamp alone


def test_the_solver_tends_to_the_exact_law_at_second_order():
    errors = []
    for n in (101, 201):
        grid = line(-7, 7, n)
        p = gaussian(grid[:, None], 1.5, 0.25)
        path = pr.evolve_density(p, pr.fokker_planck_matrix(grid, pull), line(0, 0.6, 4))
        s, delta = (float(m) for m in pr.ou_moments(0.6))
        errors.append(float((path[-1] - gaussian(grid[:, None], 1.5 * s, 0.25 * s**2 + delta)).abs().max()))
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.1)
    assert errors[1] < 0.07**2  # h² times a fourth derivative of order one


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_finite_volumes_rest_at_gibbs_law(temperature):
    grid = line(-2.5, 2.5, 1001)
    m = pr.fokker_planck_matrix(grid, force, math.sqrt(2 * temperature))
    p, exact = pr.stationary_density(m, grid), pr.gibbs_density(well, grid, temperature)
    # The midpoint sum of V' misses V by (h²/24) [V''], and V'' = 8(3x² − 1) varies by 54 over |x| < 1.5.
    assert float((p / exact - 1)[grid.abs() < 1.5].abs().max()) < 0.005**2 / 24 * 54 / temperature
    assert float(torch.trapezoid(p, grid)) == pytest.approx(1, abs=1e-13)
    assert float((m @ p).abs().max()) < 1e-9  # rounding: 10⁻¹⁶ of 2σ²/h² = 10⁵ and more


def test_gibbs_law_is_normalised_and_far_potentials_underflow_to_zero():
    grid = line(-40, 40, 2001)
    p = pr.gibbs_density(lambda x: x**2 / 2 + 1e4, grid)
    assert torch.allclose(p, gaussian(grid[:, None], 0.0, 1.0), rtol=1e-9, atol=1e-300)
    assert bool(pr.gibbs_density(lambda x: 1e3 * x**4, grid).isfinite().all())


def test_the_relative_entropy_falls_at_the_rate_of_the_fisher_divergence():
    grid = line(-2.6, 2.6, 401)
    m = pr.fokker_planck_matrix(grid, force)
    rest = pr.stationary_density(m, grid)
    p0 = (-((grid - 0.8) ** 2) / 0.1).exp()
    h = 1e-3
    path = pr.evolve_density(p0 / torch.trapezoid(p0, grid), m, real([0, 0.2 - h, 0.2, 0.2 + h, 1, 3]))
    kl = [float(pr.relative_entropy(p, rest, grid)) for p in path]
    assert kl == sorted(kl, reverse=True)
    (slope,) = torch.gradient((path[2] / rest).log(), spacing=(grid,))
    fisher = float(torch.trapezoid(path[2] * slope**2, grid))
    # PRO-01. Differences: h² in time; in space (0.013)² times third derivatives of ln p, of order 10: 0.2 %.
    assert -(kl[3] - kl[1]) / (2 * h) == pytest.approx(fisher, rel=2e-3)
    assert float(pr.relative_entropy(rest, rest, grid)) == 0


# ------------------------------------------------------------------------------------------------- how long it takes


def double_well_gap(b, n=1601):
    grid = line(-2.4, 2.4, n)
    return pr.spectral_gap(pr.fokker_planck_matrix(grid, lambda x, t: -4 * b * x * (x**2 - 1)))


def sharp_gap(b):
    """Without the h² of the spacing."""
    coarse, fine = double_well_gap(b, 801), double_well_gap(b, 1601)
    return fine + (fine - coarse) / 3


def test_the_gap_of_ornstein_uhlenbeck_is_its_rate_at_any_temperature():
    for noise in (0.8, ROOT2):
        grid = line(-8, 8, 801)
        gap = pr.spectral_gap(pr.fokker_planck_matrix(grid, lambda x, t: -0.7 * x, noise))
        assert gap == pytest.approx(0.7, rel=0.02**2)


@pytest.mark.parametrize(
    ("b", "known", "kramers"),
    [(2.0, 0.4545, 0.4874), (4.0, 0.1191, 0.1319), (6.0, 0.02485, 0.02678), (8.0, 0.004575, 0.004832)],
)
def test_the_gap_of_the_double_well_is_that_of_its_schroedinger_operator(b, known, kramers):
    x = np.linspace(-2.4, 2.4, 4801)
    h = x[1] - x[0]
    slope, curve = 4 * b * x * (x**2 - 1), 4 * b * (3 * x**2 - 1)
    levels = eigvalsh_tridiagonal(
        2 / h**2 + slope**2 / 4 - curve / 2, np.full(4800, -1 / h**2), select="i", select_range=(0, 1)
    )
    gap = sharp_gap(b)
    # Their errors are h² of the fourth derivatives, (8B)² h²/24 ≤ 2e-4, which the difference of the two levels mostly cancels.
    assert gap == pytest.approx(levels[1] - levels[0], rel=1e-4)
    assert gap == pytest.approx(known, rel=2e-4)  # RGR-7: four digits
    rate = pr.kramers_rate(lambda x: b * (x**2 - 1) ** 2, 1.0, 0.0)
    assert 2 * rate == pytest.approx(b * math.sqrt(32) / math.pi * math.exp(-b), rel=1e-13)
    assert 2 * rate == pytest.approx(kramers, rel=2e-4)


@pytest.mark.parametrize("b", [8.0, 10.0, 12.0, 14.0])
def test_kramers_is_the_leading_term_of_an_expansion_in_temperature_over_the_barrier(b):
    """gap = 1/τ with τ = ∫_0^∞ e^{−V} times the integral of e^V over the barrier, up to e^{−B}: both have the series
    1 + 3/(16B) + 105/(512B²) + 3465/(8192B³) …"""
    ratio = sharp_gap(b) / (2 * pr.kramers_rate(lambda x: b * (x**2 - 1) ** 2, 1.0, 0.0))
    next_order = b**3 * (1 - 3 / (8 * b) - 39 / (128 * b**2) - ratio)  # PRO-02
    # (1 + αu + βu² + γu³ + δu⁴)^{−2} at order u³: 4α³ − 6αβ + 2γ = 0.6416, and at order u⁴ about 2.
    assert 0.6416 < next_order < 0.6416 + 5 / b


def test_kramers_rate_depends_on_the_barrier_over_the_temperature():
    low, high = (pr.kramers_rate(well, -1.0, 0.0, temperature=t) for t in (0.25, 0.5))
    assert math.log(high / low) == pytest.approx(2 * (1 / 0.25 - 1 / 0.5), rel=1e-13)  # barrier 2
    assert pr.kramers_rate(lambda x: 3 * well(x), 1.0, 0.0, 3.0) == pytest.approx(
        3 * pr.kramers_rate(well, 1.0, 0.0)
    )


def test_a_convex_potential_relaxes_faster_than_its_least_curvature():
    gaps = [
        pr.spectral_gap(pr.fokker_planck_matrix(line(-5, 5, n), lambda x, t: -x - x**3)) for n in (501, 1001)
    ]
    assert gaps[1] + (gaps[1] - gaps[0]) / 3 == pytest.approx(2.068, abs=5e-4)  # RGR-6: ≥ 1


def test_particles_cross_the_barrier_as_the_density_does():
    grid, h = line(-2.4, 2.4, 401), 0.005
    matrix = pr.fokker_planck_matrix(grid, force)
    p0 = (-((grid - 1) ** 2) / 0.02).exp()
    path = pr.evolve_density(p0 / torch.trapezoid(p0, grid), matrix, real([0.0, 1.0, 4.0, 5.0]))
    odd = torch.trapezoid(path * torch.tanh(4 * grid), grid)
    assert float((odd[2] / odd[3]).log()) == pytest.approx(
        pr.spectral_gap(matrix), rel=1e-3
    )  # e^{−(λ₂−λ₁)4} is left
    n = 20_000
    x = 1 + 0.1 * torch.randn(n, 1, generator=stream(19))
    x = pr.euler_maruyama(x, force, ROOT2, h * torch.arange(201, dtype=torch.float64), generator=stream(20))
    # Weak order one: curvatures up to 16 make the bias of order 16 h/2 · 10 %; five standard errors are 0.02.
    within(torch.tanh(4 * x[:, 0]), float(odd[1]), bias=0.005)


# ------------------------------------------------------------------------------------------------- the start of the way back


def test_the_cost_of_the_normal_start_has_the_value_of_the_claim_and_is_the_divergence_of_two_gaussians():
    mean, covariance = real([1.0, -2.0]), torch.diag(real([3.0, 0.5]))
    cost = pr.start_cost(2.5, mean, covariance)
    assert float(cost.mean) == pytest.approx(0.0168449, abs=5e-8)  # REV-3
    assert float(cost.covariance) == pytest.approx(4.784e-5, abs=5e-9)
    assert math.exp(-10) / 4 * (4 + 0.25) == pytest.approx(4.824e-5, abs=5e-9)  # its leading order
    a = torch.randn(3, 3, generator=stream(21), dtype=torch.float64)
    mean, covariance = real([0.3, 0.0, -1.0]), a @ a.T
    for t in (0.1, 1.0):
        s, delta = pr.ou_moments(t)
        unit = torch.eye(3, dtype=torch.float64)
        law = torch.distributions.MultivariateNormal(s * mean, s**2 * covariance + delta * unit)
        peer = torch.distributions.kl_divergence(law, torch.distributions.MultivariateNormal(0 * mean, unit))
        assert float(pr.start_cost(t, mean, covariance).total) == pytest.approx(float(peer), rel=1e-12)


def test_the_cost_of_the_start_keeps_its_accuracy_at_late_times():
    t = real([5.0, 12.0, 100.0])
    cost = pr.start_cost(t, real([0.0]), real([[3.0]]))
    leading = torch.exp(-4 * t) / 4 * 4
    # The next order is −(4/3) e^{−2t}: 6e-5 at t = 5.
    assert torch.allclose(cost.covariance / leading, 1 - 4 / 3 * torch.exp(-2 * t), rtol=0, atol=1e-8)
    near, far = (pr._minus_log1p(real(u)) for u in (0.01 - 1e-9, 0.01 + 1e-9))
    assert float(far - near) == pytest.approx(
        0.01 / 1.01 * 2e-9, rel=1e-6, abs=0
    )  # the series meets the formula


def test_the_cost_of_the_start_falls_at_the_rate_of_its_fisher_divergence_and_is_that_of_densities():
    mean, covariance = real([0.7]), real([[0.4]])
    t = real(0.6).requires_grad_()
    (slope,) = torch.autograd.grad(pr.start_cost(t, mean, covariance).total, t)
    square = math.exp(-1.2)
    excess = square * (0.4 - 1)
    assert float(slope) == pytest.approx(-(square * 0.49 + excess**2 / (1 + excess)), rel=1e-12)  # PRO-01
    grid = line(-9, 9, 721)
    p, q = gaussian(grid[:, None], 0.7 * math.exp(-0.6), 1 + excess), gaussian(grid[:, None], 0.0, 1.0)
    assert float(pr.relative_entropy(p, q, grid)) == pytest.approx(
        float(pr.start_cost(0.6, mean, covariance).total), rel=1e-10
    )


def test_late_scores_tend_to_minus_x_and_so_does_the_force_of_the_way_back():
    data, x = real([[3.0, -1.0], [0.5, 2.0]]), torch.randn(50, 2, generator=stream(22), dtype=torch.float64)
    for t in (3.0, 6.0, 9.0):
        s, delta = (float(m) for m in pr.ou_moments(t))
        gap = mixture_score.score(x, data, s, delta) + x  # = (s⟨a⟩ − x e^{−2t})/Δ, and |⟨a⟩| ≤ √10
        bound = (s * math.sqrt(10) + s**2 * x.norm(dim=1)) / delta
        assert bool((gap.norm(dim=1) <= bound).all())  # REV-3: F + x = 2(score + x)
        assert float(gap.norm(dim=1).max()) > 0.3 * s


# ------------------------------------------------------------------------------------------------- randomness and bad input


def draws():
    x = torch.zeros(4, 2)
    return {
        "ou_step": lambda g: pr.ou_step(x, 0.5, generator=g),
        "brownian_increments": lambda g: pr.brownian_increments((4, 2), line(0, 1, 3), g),
        "euler_maruyama": lambda g: pr.euler_maruyama(x, pull, 1.0, line(0, 1, 3), g),
        "stratonovich_heun": lambda g: pr.stratonovich_heun(x, pull, 1.0, line(0, 1, 3), g),
    }


@pytest.mark.parametrize("name", sorted(draws()))
def test_a_generator_fixes_the_draw_and_none_takes_fresh_entropy_and_leaves_the_global_stream(name):
    draw = draws()[name]
    before = torch.get_rng_state()
    assert torch.equal(draw(stream(1)), draw(stream(1)))
    assert not torch.equal(draw(None), draw(None))
    assert torch.equal(before, torch.get_rng_state())


GRID, X = line(-1, 1, 5), torch.zeros(3, 2)
UNIT = torch.eye(2, dtype=torch.float64)
M = pr.fokker_planck_matrix(GRID, pull)
FLAT = torch.full((5,), 0.5, dtype=torch.float64)


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("t", lambda: pr.ou_moments(0.0)),
        ("t", lambda: pr.ou_moments(-1)),
        ("t", lambda: pr.ou_moments(NAN)),
        ("t", lambda: pr.ou_moments(torch.tensor([1, 2]))),
        ("t", lambda: pr.ou_moments(torch.tensor([1.0, 0.0]))),
        ("t", lambda: pr.ou_moments("1")),
        ("rate", lambda: pr.ou_moments(1.0, 0.0)),
        ("noise", lambda: pr.ou_moments(1.0, 1.0, -1.0)),
        ("x", lambda: pr.ou_step(torch.zeros(3), 1.0)),
        ("x", lambda: pr.ou_step(torch.zeros(3, 2, dtype=torch.int64), 1.0)),
        ("x", lambda: pr.ou_step(X * NAN, 1.0)),
        ("x", lambda: pr.ou_step(torch.zeros(0, 2), 1.0)),
        ("t", lambda: pr.ou_step(X, torch.ones(2))),
        ("t", lambda: pr.contracted(X, lambda x: x.sum(1), torch.ones(3))),
        ("t", lambda: pr.ou_semigroup(FLAT, GRID, 0.05)),
        ("density", lambda: pr.ou_semigroup(-FLAT, GRID, 1.0)),
        ("grid", lambda: pr.ou_semigroup(FLAT, GRID.flip(0), 1.0)),
        ("w", lambda: pr.ou_characteristic(GRID, laplace, 1.0)),
        ("f, g", lambda: pr.schedule_moments(lambda t: NAN, lambda t: 1.0, 1.0)),
        ("t", lambda: pr.schedule_moments(f, g, 0.0)),
        ("times", lambda: pr.brownian_increments((2,), real([0.0, 0.0]))),
        ("times", lambda: pr.euler_maruyama(X, pull, 1.0, line(1, 0, 3))),
        ("drift", lambda: pr.euler_maruyama(X, lambda x, t: torch.zeros(3), 1.0, GRID)),
        ("noise", lambda: pr.euler_maruyama(X, pull, lambda x, t: torch.zeros(2, 2), GRID)),
        ("increments", lambda: pr.euler_maruyama(X, pull, 1.0, GRID, increments=torch.zeros(5, 3, 2))),
        ("drift", lambda: pr.stationary_covariance(torch.ones(2, 3))),
        ("drift", lambda: pr.stationary_covariance(UNIT)),
        ("step", lambda: pr.stationary_covariance(-UNIT, step=-0.1)),
        ("density", lambda: pr.fokker_planck_terms(X, lambda x, t: x, 1.0, pull)),
        ("t", lambda: pr.fokker_planck_terms(X, ou_density(), 0.0, pull)),
        ("density", lambda: pr.probability_current(X, lambda x, t: 1.0, 1.0, pull)),
        ("grid", lambda: pr.fokker_planck_matrix(GRID[:2], pull)),
        ("drift", lambda: pr.fokker_planck_matrix(GRID, lambda x, t: x / 0)),
        ("noise", lambda: pr.fokker_planck_matrix(GRID, pull, 0.0)),
        ("p", lambda: pr.evolve_density(FLAT[:3], M, GRID)),
        ("matrix", lambda: pr.evolve_density(FLAT, M[:3], GRID)),
        ("times", lambda: pr.evolve_density(FLAT, M, GRID.flip(0))),
        ("grid", lambda: pr.stationary_density(M, GRID[:4])),
        ("temperature", lambda: pr.gibbs_density(well, GRID, 0.0)),
        ("potential", lambda: pr.gibbs_density(lambda x: x * NAN, GRID)),
        ("matrix", lambda: pr.spectral_gap(torch.ones(4, 4))),
        ("minimum", lambda: pr.kramers_rate(well, 0.0, 1.0)),
        ("temperature", lambda: pr.kramers_rate(well, 1.0, 0.0, -1.0)),
        ("covariance", lambda: pr.start_cost(1.0, torch.zeros(2), -UNIT)),
        ("covariance", lambda: pr.start_cost(1.0, torch.zeros(2), torch.tensor([[1.0, 0.5], [0.0, 1.0]]))),
        ("mean", lambda: pr.start_cost(1.0, torch.zeros(2, 2), UNIT)),
    ],
)
def test_bad_input_is_named(name, call):
    with pytest.raises(ValueError, match=f"^{name}"):
        call()
