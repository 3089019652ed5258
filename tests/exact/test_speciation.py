"""Two classes: automatic differentiation, SciPy's quadrature and roots, scikit-learn, and simulation with error bars."""

import math

import numpy as np
import pytest
import torch
from scipy import integrate, optimize, stats
from sklearn.mixture import GaussianMixture

from physgen.exact import speciation
from physgen.kernels import reverse

NAN, INF = float("nan"), float("inf")
MEAN = torch.tensor([1.1, -0.4, 0.8], dtype=torch.float64)
CLASSES = torch.tensor([[8.0], [-8.0]])


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def normal(n, d, seed):
    return torch.randn(n, d, generator=seeded(seed), dtype=torch.float64)


def gaussian_average(f):
    """∫ Dz f(z) by SciPy's adaptive quadrature, 1e-12."""
    law = math.sqrt(2 * math.pi)
    return integrate.quad(lambda z: math.exp(-z * z / 2) / law * f(z), -12, 12, epsabs=1e-14, limit=400)[0]


def gradient(f, x):
    x = x.clone().requires_grad_(True)
    return torch.autograd.grad(f(x).sum(), x)[0]


# ------------------------------------------------------------------------------------------------- the noised mixture


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_the_variance_solves_the_moment_equation_of_the_noise_and_ends_at_the_temperature(temperature):
    path = integrate.solve_ivp(
        lambda t, v: -2 * v + 2 * temperature, (0, 1.3), [0.3], rtol=1e-11, atol=1e-12
    )  # d⟨x²⟩/dt = −2⟨x²⟩ + 2T
    assert float(speciation.noised_variance(1.3, 0.3, temperature)) == pytest.approx(path.y[0, -1], abs=1e-9)
    assert float(speciation.noised_variance(20.0, 0.3, temperature)) == pytest.approx(temperature, abs=1e-15)


def test_time_reversal_with_noise_2t_takes_back_the_variance_from_n_0_t():
    temperature, v = 2.0, 0.3

    def back(s, now):  # −dy/dt = y + 2T F + noise 2T, F = −y/Γ
        return (
            2 * (1 - 2 * temperature / float(speciation.noised_variance(6 - s, v, temperature))) * now
            + 2 * temperature
        )

    end = integrate.solve_ivp(back, (0, 5.5), [temperature], rtol=1e-10, atol=1e-12).y[0, -1]
    # BIR-1: what the start forgets of Γ_6 is e^{-12}, times the contraction of the way back.
    assert end == pytest.approx(float(speciation.noised_variance(0.5, v, temperature)), abs=1e-6)


@pytest.mark.parametrize("weight", [0.5, 0.8])
def test_the_density_is_the_convolution_of_the_data_with_a_normalised_gaussian_kernel(weight):
    t, mean, v = 0.6, torch.tensor([0.9, -0.5], dtype=torch.float64), 0.3
    delta, points = 1 - math.exp(-2 * t), normal(5, 2, 1)
    found = speciation.mixture_log_density(points, t, mean, v, weight).exp()
    for x, value in zip(points.numpy(), found.tolist(), strict=True):
        sides = []
        for sign in (1, -1):
            # A product over coordinates for each class: ∫ da N(a; ±m, v) N(x; a e^{-t}, Δ).
            factors = [
                integrate.quad(
                    lambda a, i=i, sign=sign, x=x: (
                        stats.norm.pdf(a, sign * float(mean[i]), math.sqrt(v))
                        * math.exp(-((x[i] - a * math.exp(-t)) ** 2) / (2 * delta))
                        / math.sqrt(2 * math.pi * delta)
                    ),
                    -8,
                    8,
                    epsabs=1e-13,
                )[0]
                for i in range(2)
            ]
            sides.append(factors[0] * factors[1])
        assert value == pytest.approx(weight * sides[0] + (1 - weight) * sides[1], rel=1e-9)


@pytest.mark.parametrize("weight", [0.0, 0.3, 0.5, 1.0])
@pytest.mark.parametrize("t", [0.05, 1.0, torch.linspace(0.1, 3, 6, dtype=torch.float64)])
def test_the_score_is_the_gradient_of_the_log_density(weight, t):
    x = 2 * normal(6, 3, 2)
    slope = gradient(lambda y: speciation.mixture_log_density(y, t, MEAN, 0.3, weight), x)
    torch.testing.assert_close(
        speciation.mixture_score(x, t, MEAN, 0.3, weight), slope, rtol=1e-12, atol=1e-12
    )


def test_density_and_posterior_are_those_of_scikit_learn():
    t, v, w = 0.7, 0.3, 0.8
    gamma = float(speciation.noised_variance(t, v))
    peer = GaussianMixture(2, covariance_type="spherical")
    peer.weights_, peer.means_ = np.array([w, 1 - w]), np.stack([MEAN, -MEAN]) * math.exp(-t)
    peer.precisions_cholesky_ = np.full(2, gamma**-0.5)
    x = 2 * normal(50, 3, 3)
    log_p = speciation.mixture_log_density(x, t, MEAN, v, w)
    np.testing.assert_allclose(log_p, peer.score_samples(x.numpy()), rtol=1e-12)
    two, known = speciation.class_probability(x, t, MEAN, v, w), peer.predict_proba(x.numpy())
    np.testing.assert_allclose(two, known[:, 0], rtol=1e-10)
    several = speciation.class_posterior(
        x, t, torch.stack([MEAN, -MEAN]), v, torch.tensor([w, 1 - w], dtype=torch.float64)
    )
    np.testing.assert_allclose(several, known, rtol=0, atol=1e-8)  # the accuracy that the kernel states


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_small_times_far_points_and_large_dimensions_stay_finite(dtype):
    mean = torch.ones(10_000, dtype=dtype)
    for t, scale in ((1e-12, 1.0), (1e-8, 1e6), (300.0, 1e6)):
        x = scale * torch.randn(3, 10_000, generator=seeded(4), dtype=dtype)
        for v in (0.0, 1.0):
            assert speciation.mixture_score(x, t, mean, v).isfinite().all()
            assert speciation.guided_score(x, t, mean, 3.0, v).isfinite().all()
            assert speciation.mixture_log_density(x, t, mean, v).isfinite().all()
    # At t → 0 the score of a point between the classes leads to the nearer one: (m e^{-t} − x)/Δ.
    x, t = 0.9 * mean[None], 1e-6
    expected = (mean * math.exp(-t) - x) / -math.expm1(-2 * t)
    # float32 has no more digits of x than 6e-8, and x itself is the input: one rounding of the result.
    torch.testing.assert_close(speciation.mixture_score(x, t, mean, 0.0), expected, rtol=1e-6, atol=0)


def test_the_samples_have_the_moments_of_the_mixture():
    weights = torch.tensor([0.7, 0.3], dtype=torch.float64)
    n, t, v = 100_000, 0.4, 0.3
    x, labels = speciation.mixture_sample(n, t, torch.stack([MEAN, -MEAN]), v, weights, seeded(5))
    gamma, signal = float(speciation.noised_variance(t, v)), MEAN * math.exp(-t)
    assert float((labels == 0).double().mean()) == pytest.approx(0.7, abs=4.5 * math.sqrt(0.21 / n))
    first = x[labels == 0]
    assert float((first.mean(0) - signal).abs().max()) < 4.5 * math.sqrt(gamma / len(first))
    assert float((first.var(0) / gamma - 1).abs().max()) < 4.5 * math.sqrt(2 / len(first))


# ------------------------------------------------------------------------------------------------- potential


@pytest.mark.parametrize(("v", "weight"), [(1.0, 0.5), (0.3, 0.5), (0.3, 0.8), (4.0, 0.5)])
def test_minus_the_slope_of_the_potential_is_the_drift_of_the_projected_reverse_diffusion(v, weight):
    x, d, norm = normal(7, 3, 6), 3, float(MEAN.norm())
    drift = (x + 2 * speciation.mixture_score(x, 1.1, MEAN, v, weight)) @ MEAN
    for size, scale in ((d, math.sqrt(d)), (None, norm)):
        slope = gradient(
            lambda q, size=size: speciation.potential(q, 1.1, norm, size, v, weight), x @ MEAN / scale
        )
        torch.testing.assert_close(-slope, drift / scale, rtol=1e-12, atol=1e-12)
    assert float(speciation.potential(torch.zeros(1), 1.1, norm, d, v, weight)) == pytest.approx(0, abs=1e-15)


def test_the_potential_has_the_numbers_of_the_claim_and_the_slide_has_not():
    d, t, q = 50, 2.1, torch.tensor([0.4], dtype=torch.float64)
    norm, squared = math.sqrt(1.7 * d), 1.7
    drift = -gradient(lambda y: speciation.potential(y, t, norm, d), q)
    assert float(drift) == pytest.approx(0.58079, abs=5e-6)  # BIR-4

    def slide(y):  # q²/2 − 2μ̃² log cosh(q e^{-t} √d) with |v|² = μ̃ d
        return y**2 / 2 - 2 * squared**2 * torch.log(torch.cosh(y * math.exp(-t) * math.sqrt(d)))

    assert float(-gradient(slide, q)) == pytest.approx(1.26734, abs=5e-6)
    narrow = -gradient(lambda y: speciation.potential(y, t, norm, d, 0.3), q)
    assert float(narrow) == pytest.approx(0.59241, abs=5e-6)  # BIR-5


def test_the_noise_of_q_has_the_variance_two_norm_squared_over_d():
    n, d, t, h = (
        50_000,
        5,
        1.5,
        1.0,
    )  # in one step of Euler the mean and the variance are linear in h, however long
    mean = torch.tensor([2.0, 1.0, -1.0, 0.5, 0.0])
    norm, start = float(mean.norm()), torch.tensor([[0.6, 0.1, 0.2, -0.1, 0.4]])
    times, classes = torch.tensor([t, t - h], dtype=torch.float64), torch.stack([mean, -mean])
    after = reverse.gaussian_mixture(start.repeat(n, 1), classes, times, 7, 1.0, None, 1.0)
    step = ((after - start) @ mean / math.sqrt(d)).double()
    noise = 2 * norm**2 / d * h
    assert float(step.var()) == pytest.approx(noise, rel=4.5 * math.sqrt(2 / n))  # BIR-4: not 2h
    q = (start @ mean / math.sqrt(d)).double()
    slope = float(gradient(lambda y: speciation.potential(y, t, norm, d), q))
    assert float(step.mean()) == pytest.approx(-slope * h, abs=4.5 * math.sqrt(noise / n))
    assert abs(slope) > 9 * math.sqrt(noise / n)


# ------------------------------------------------------------------------------------------------- critical times


@pytest.mark.parametrize("eta", [0.3, 1.0, 4.0, INF])
@pytest.mark.parametrize(("norm", "v"), [(1.0, 0.0), (2.0, 0.5), (3.0, 1.0), (2.0, 3.0), (0.4, 0.01)])
def test_the_critical_time_is_where_the_drift_at_the_origin_loses_its_sign(norm, v, eta):
    t = speciation.critical_time(norm, v, eta)

    def slope(s):
        bend = speciation.curvature(s, norm, v)
        return bend if eta == INF else 1 + (1 + eta) * bend

    times = torch.linspace(1e-3, t + 5, 4000, dtype=torch.float64)
    last = float(times[slope(times) > 0].max())
    found = optimize.brentq(lambda s: float(slope(s)), last, last + float(times[1] - times[0]))
    assert t == pytest.approx(found, abs=1e-10)


def test_the_three_times_have_the_numbers_of_the_claims():
    norm = math.sqrt(85)
    assert speciation.critical_time(norm) == pytest.approx(2.5679, abs=5e-5)  # BIR-6
    assert speciation.critical_time(norm, eta=INF) == pytest.approx(2.2213, abs=5e-5)
    assert speciation.critical_time(norm, 0.5, INF) == pytest.approx(2.22426, abs=5e-6)
    assert math.exp(-2 * speciation.critical_time(1, 0)) == pytest.approx(
        math.sqrt(2) - 1, abs=1e-15
    )  # AMB-06
    assert math.exp(-2 * speciation.critical_time(1, 0, INF)) == pytest.approx(0.5, abs=1e-15)  # AMB-03
    assert math.exp(-speciation.critical_time(1, 0)) == pytest.approx(0.643594, abs=5e-7)
    theta = {size: math.sqrt(math.sqrt(1 + size**4) - size**2) for size in (1, 2, 5)}
    for size, expected in theta.items():  # θ_c² = √(1 + Λ²) − Λ for two points with Λ = |m|²
        assert math.exp(-speciation.critical_time(size, 0)) == pytest.approx(expected, rel=1e-12)


def test_the_probability_flow_equation_has_no_critical_time_and_its_slope_is_known():
    for norm, v in ((1.0, 0.0), (2.0, 0.5), (3.0, 1.0), (1.0, 5.0)):
        assert speciation.critical_time(norm, v, 0.0) == INF
    for q in (0.1, 0.5, 0.9):  # ±1: 1 + S′(0) = q²/(1 − q)²
        slope = 1 + float(speciation.curvature(-math.log(q) / 2, 1.0, 0.0))
        assert slope == pytest.approx(
            q**2 / (1 - q) ** 2, rel=1e-11
        )  # AMB-06, which has half of it for half the drift


def test_the_density_has_two_peaks_before_the_time_of_eta_infinity_and_one_after():
    for norm, v in ((2.0, 0.5), (3.0, 1.0), (1.5, 2.0)):
        t = speciation.critical_time(norm, v, INF)
        y = torch.linspace(-1, 1, 2001, dtype=torch.float64)[:, None]
        for shift, peaks in ((-0.01, 2), (0.01, 1)):
            p = speciation.mixture_log_density(y, t + shift, torch.tensor([norm], dtype=torch.float64), v)
            assert int(((p[1:-1] > p[:-2]) & (p[1:-1] > p[2:])).sum()) == peaks
        assert float(speciation.signal_to_noise(t, norm, v)) == pytest.approx(1, abs=1e-14)


def test_the_curvature_is_the_second_derivative_and_the_truncated_one_its_expansion():
    mean = torch.tensor([8.0], dtype=torch.float64)
    for t, exact, truncated in ((3, -0.8422, -0.8418), (3.5, -0.94204, -0.94199), (4.5, -0.99216, -0.99216)):
        t = float(t)
        second = torch.autograd.functional.hessian(
            lambda x, t=t: speciation.mixture_log_density(x[None], t, mean, 0.5)[0],
            torch.zeros(1, dtype=torch.float64),
        )
        assert float(speciation.curvature(t, 8, 0.5)) == pytest.approx(float(second), abs=1e-12)
        digits = 5e-5 if t == 3 else 5e-6
        assert float(speciation.curvature(t, 8, 0.5)) == pytest.approx(exact, abs=digits)  # BIR-9
        assert float(speciation.curvature(t, 8, 0.5, truncated=True)) == pytest.approx(truncated, abs=digits)
    late = float(speciation.speciation_time(1 + 64.5))
    assert float(speciation.curvature(late, 8, 0.5, truncated=True)) == pytest.approx(0, abs=1e-14)


def test_a_gaussian_of_the_same_variance_has_a_speciation_time_and_never_an_instability():
    times = torch.linspace(0.01, 5, 200, dtype=torch.float64)
    assert float(speciation.speciation_time(65.0)) == pytest.approx(math.log(65) / 2)
    assert (speciation.curvature(times, 0.0, 65.0) < 0).all()
    with pytest.raises(ValueError, match="norm"):
        speciation.critical_time(0.3, 65.0, INF)


def test_the_speciation_times_are_those_of_the_paper():
    table = torch.tensor([7.66, 16.72, 3.05, 12.11, 60.52], dtype=torch.float64)
    expected = torch.tensor([1.02, 1.41, 0.56, 1.25, 2.05], dtype=torch.float64)
    torch.testing.assert_close(speciation.speciation_time(table), expected, rtol=0, atol=0.005001)
    assert float(speciation.speciation_time(1.0)) == 0


# ------------------------------------------------------------------------------------------------- the magnet


@pytest.mark.parametrize(("t", "norm", "v", "eta", "h"), [
    (0.2, 1.0, 0.0, INF, 0.0), (0.3, 1.0, 0.0, 1.0, 0.1), (0.9, 3.0, 1.0, 1.0, -0.3), (1.5, 1.2, 0.4, 0.5, 0.2),
    (0.5, 2.0, 3.0, 4.0, 0.0),
])  # fmt: skip
def test_the_drift_vanishes_at_the_fixed_point_and_the_susceptibility_is_its_slope(t, norm, v, eta, h):
    y, w = speciation.fixed_point(t, norm, v, eta, h), 1 / (1 + math.exp(-2 * h))
    score = speciation.mixture_score(
        torch.tensor([[y]], dtype=torch.float64), t, torch.tensor([norm], dtype=torch.float64), v, w
    )
    drift = float(score) if eta == INF else y + (1 + eta) * float(score)
    assert drift == pytest.approx(0, abs=1e-12) and abs(y) > 0.1
    e = 1e-5
    slope = (
        speciation.fixed_point(t, norm, v, eta, h + e) - speciation.fixed_point(t, norm, v, eta, h - e)
    ) / (2 * e)
    if h:  # at h = 0 the branch changes sides
        assert speciation.susceptibility(t, norm, v, eta, h) == pytest.approx(slope, rel=1e-6)


def test_two_points_have_the_exponents_of_mean_field():
    def at(theta_squared):
        return -math.log(theta_squared) / 2

    e = 1e-6
    # Corrections are of relative order e to the squares and the susceptibility, e^{1/3} to the isotherm.
    y = [speciation.fixed_point(at(0.5 + k * e)) for k in (1, 4)]
    assert y[0] ** 2 / e == pytest.approx(6, abs=1e-3)  # AMB-03
    assert math.log(y[1] / y[0]) / math.log(4) == pytest.approx(0.5, abs=1e-4)
    assert speciation.susceptibility(at(0.499)) * 0.001 == pytest.approx(0.17695, abs=5e-6)
    assert speciation.susceptibility(at(0.5 - e)) * e == pytest.approx(math.sqrt(2) / 8, abs=1e-6)
    h = [speciation.fixed_point(at(0.5), log_odds=k * 1e-12) for k in (1, 8)]
    assert math.log(8) / math.log(h[1] / h[0]) == pytest.approx(3, abs=1e-3)
    critical = math.exp(-speciation.critical_time(1, 0))
    y = speciation.fixed_point(-math.log(critical + e), eta=1.0)
    assert y / math.sqrt(e) == pytest.approx(3.305, abs=5e-4)
    assert speciation.fixed_point(at(0.49)) == 0


# ------------------------------------------------------------------------------------------------- cloning


def test_the_cloning_function_has_the_numbers_of_the_claim():
    kappa = torch.tensor([0.25, 0.5, 1, 1.5, 2, 3], dtype=torch.float64)
    known = torch.tensor([0.52947, 0.60203, 0.77520, 0.90138, 0.96570, 0.99792], dtype=torch.float64)
    torch.testing.assert_close(speciation.cloning_function(kappa), known, rtol=0, atol=5e-6)  # BIR-8
    assert float(speciation.cloning_function(1.0, 0.8)) == pytest.approx(0.8368, abs=5e-5)  # BIR-10
    assert float(speciation.cloning_function(0.0, 0.8)) == pytest.approx(0.68, abs=1e-15)
    for size, expected in ((1, 0.675), (4, 0.741), (64, 0.7727)):  # at ½ log(|m|² + 1)
        found = speciation.cloning_probability(speciation.speciation_time(size + 1.0), math.sqrt(size))
        assert float(found) == pytest.approx(expected, abs=5e-4)


@pytest.mark.parametrize("weight", [0.5, 0.8, 1e-6])
@pytest.mark.parametrize("kappa", [1e-3, 0.3, 1.0, 2.5, 6.0])
def test_the_cloning_function_is_the_integral_of_squared_posteriors_and_obeys_nishimori(kappa, weight):
    def squares(u):
        plus, minus = weight * stats.norm.pdf(u, kappa), (1 - weight) * stats.norm.pdf(u, -kappa)
        return (plus**2 + minus**2) / (plus + minus)

    direct = integrate.quad(squares, -kappa - 9, kappa + 9, epsabs=1e-13, limit=400, points=[0.0])[0]
    found = float(speciation.cloning_function(kappa, weight))
    assert found == pytest.approx(direct, abs=1e-11)
    if weight == 0.5:
        odd = gaussian_average(lambda z: math.tanh(kappa**2 + kappa * z))
        even = gaussian_average(lambda z: math.tanh(kappa**2 + kappa * z) ** 2)
        assert odd == pytest.approx(even, abs=1e-11)  # E tanh = E tanh²
        assert found == pytest.approx((1 + odd) / 2, abs=1e-11)


def test_the_class_function_stays_exact_at_the_ends():
    kappa = torch.tensor([0.0, 5e-324, 1e-160, 1e3, 1e200], dtype=torch.float64)
    for w in (1e-300, 0.2, 0.5):
        f = speciation.cloning_function(kappa, w)
        assert f.isfinite().all() and float(f[-1]) == 1
        torch.testing.assert_close(f[:3], torch.full((3,), w**2 + (1 - w) ** 2, dtype=torch.float64))


@pytest.mark.parametrize("d", [10**2, 10**4, 10**8])
def test_clones_agree_with_probability_0775_at_half_log_d_for_unit_norm_per_dimension(d):
    t = speciation.cloning_time(0.7752002453966645, math.sqrt(d))
    assert t == pytest.approx(math.log(d) / 2, abs=1e-9)  # BIR-7: κ = 1 at σ² = 1
    width = speciation.cloning_time(0.6, math.sqrt(d)) - speciation.cloning_time(0.95, math.sqrt(d))
    kappa = [
        optimize.brentq(lambda k, p=p: float(speciation.cloning_function(k)) - p, 0, 5) for p in (0.95, 0.6)
    ]
    # The crossover has a width that does not grow; σ² = 1 has no correction in 1/d.
    assert width == pytest.approx(math.log(kappa[0] / kappa[1]), abs=1e-9)
    again = speciation.cloning_probability(speciation.cloning_time(0.9, math.sqrt(d), 0.3), math.sqrt(d), 0.3)
    assert float(again) == pytest.approx(0.9, abs=1e-12)


@pytest.mark.parametrize("v", [1.0, 0.25])
def test_simulated_clones_agree_as_often_as_the_exact_function_says(v):
    n, step = 20_000, 0.01
    for shift in (0.6, 0.0, -0.6):
        t = speciation.critical_time(8, v, INF) + shift
        phi = float(speciation.cloning_probability(t, 8, v))
        pairs = speciation.clones(t, CLASSES, v, n=n, step=step, generator=seeded(8))
        # BIR-8; the step costs less than step/10, as runs of 4·10⁵ pairs at steps 0.1, 0.05, 0.02 show.
        assert pairs.agreement == pytest.approx(phi, abs=4.5 * math.sqrt(phi * (1 - phi) / n) + step / 10)


def test_clones_of_overlapping_classes_and_u_turns_agree_as_often_too():
    n, step, t = 20_000, 0.01, 0.3
    phi = float(speciation.cloning_probability(t, 1.0, 0.5))
    means = torch.tensor([[0.6, 0.8], [-0.6, -0.8]])
    for run in (speciation.clones, speciation.u_turns):
        pairs = run(t, means, 0.5, n=n, step=step, generator=seeded(9))
        assert pairs.agreement == pytest.approx(phi, abs=4.5 * math.sqrt(phi * (1 - phi) / n) + step / 10)


def test_class_weights_are_kept_at_every_time_and_clones_feel_them():
    n, w = 20_000, 0.8
    weights = torch.tensor([w, 1 - w], dtype=torch.float64)
    for t in (1.6, 2.0, 4.0):  # the mean of P₊ over p_t is w: noise hides classes, it does not reweight them
        x, _ = speciation.mixture_sample(n, t, CLASSES.double(), 1.0, weights, seeded(10))
        plus = speciation.class_probability(x, t, CLASSES[0].double(), 1.0, w)
        assert float(plus.mean()) == pytest.approx(w, abs=4.5 * float(plus.std()) / math.sqrt(n) + 1e-12)
        agreement = plus**2 + (1 - plus) ** 2
        phi = float(speciation.cloning_probability(t, 8, 1.0, w))
        assert float(agreement.mean()) == pytest.approx(
            phi, abs=4.5 * float(agreement.std()) / math.sqrt(n) + 1e-9
        )
    t = speciation.critical_time(8, 1.0, INF)
    pairs = speciation.clones(t, CLASSES, 1.0, weights, n=n, generator=seeded(11))
    assert pairs.agreement == pytest.approx(0.8368, abs=4.5 * math.sqrt(0.8368 * 0.1632 / n) + 1e-3)
    # They start from N(0, 1) at |m|e^{-t} = e^{-5}, which moves the mean of P₊ by less than e^{-5}.
    plus = float((pairs.first == 0).double().mean())
    assert plus == pytest.approx(w, abs=4.5 * math.sqrt(w * (1 - w) / n) + math.exp(-5))


def test_classes_of_classes_speciate_one_after_the_other():
    means = torch.zeros(2, 3, dtype=torch.float64)
    means[0, 0], means[1, 2] = 16.0, 4.0
    centres, n = speciation.hierarchical_means(*means), 40_000
    for t in (2.0, math.log(16)):
        x, _ = speciation.mixture_sample(n, t, centres, generator=seeded(12))
        p = speciation.class_posterior(x, t, centres)
        one, two = (float(speciation.cloning_probability(t, size)) for size in (16.0, 4.0))
        pairs = p.reshape(n, 2, 2)
        for agree, phi in ((pairs.sum(2), one), (pairs.sum(1), two), (p, one * two)):
            value = agree.square().sum(1)
            # BIR-11
            assert float(value.mean()) == pytest.approx(phi, abs=4.5 * float(value.std()) / math.sqrt(n))
    assert (
        one == pytest.approx(0.77520, abs=5e-6) and two < 0.53
    )  # at log 16 the coarse class only is being chosen
    pairs = speciation.clones(2.0, centres.float(), n=20_000, step=0.02, generator=seeded(13))
    coarse = float((pairs.first // 2 == pairs.second // 2).double().mean())
    fine = float((pairs.first % 2 == pairs.second % 2).double().mean())
    assert coarse == pytest.approx(0.97701, abs=4.5 * math.sqrt(0.977 * 0.023 / 2e4) + 0.002)
    assert fine == pytest.approx(0.61619, abs=4.5 * math.sqrt(0.616 * 0.384 / 2e4) + 0.002)


def test_clones_of_the_equation_without_noise_always_agree():
    pairs = speciation.clones(3.0, CLASSES, n=500, step=0.02, eta=0.0, generator=seeded(14))
    assert pairs.agreement == 1 and 0.4 < float((pairs.first == 0).double().mean()) < 0.6


# ------------------------------------------------------------------------------------------------- information, late start


@pytest.mark.parametrize("kappa", [0.01, 0.4, 0.99, 1.01, 3.0, 8.0, 40.0])
def test_class_information_and_late_start_are_entropies_of_the_mixture(kappa):
    def log_p(u):
        return np.logaddexp(stats.norm.logpdf(u, kappa), stats.norm.logpdf(u, -kappa)) - math.log(2)

    entropy = (
        2
        * integrate.quad(
            lambda u: -math.exp(log_p(u)) * log_p(u),
            max(0.0, kappa - 12),
            kappa + 12,
            epsabs=1e-13,
            limit=400,
        )[0]
    )
    gauss = 0.5 * math.log(2 * math.pi * math.e)
    assert float(speciation.class_information(kappa)) == pytest.approx(entropy - gauss, abs=1e-11)
    norm, t = kappa * math.e, 1.0  # σ² = 1: κ = |m|e^{-t}
    kl = float(speciation.late_start_kl(t, norm, 1.0))
    assert kl == pytest.approx(gauss + 0.5 * math.log(1 + kappa**2) - entropy, abs=1e-11)


def test_the_late_start_costs_a_twelfth_of_the_fourth_power():
    def kl(q):
        return float(speciation.late_start_kl(-math.log(q) / 2))

    for q, known in ((0.1, 8.62e-6), (0.2, 1.50e-4), (math.sqrt(2) - 1, 3.8e-3), (0.8, 0.172)):
        assert kl(q) == pytest.approx(known, rel=0.006)  # AMB-06, three digits, two for the third
    assert kl(0.05) / 0.05**4 == pytest.approx(0.0841, abs=5e-5)
    # The next term is of relative order q², and the digits hold down to 10⁻²⁰ nats.
    assert kl(1e-3) / 1e-12 == pytest.approx(1 / 12, rel=1e-5)
    assert kl(1e-5) / 1e-20 == pytest.approx(1 / 12, rel=1e-3)
    # With a width of their own, r = κ²/(1 + κ²) takes the place of q.
    r = (kappa := float(speciation.signal_to_noise(3.0, 2.0, 0.3)) ** 2) / (1 + kappa)
    assert float(speciation.late_start_kl(3.0, 2.0, 0.3)) / r**4 == pytest.approx(1 / 12, rel=r)


def test_a_late_start_from_the_gaussian_keeps_mean_variance_and_classes():
    n, norm, t = (
        50_000,
        2.0,
        1.1,
    )  # r = 0.31, KL = 10⁻³: Pinsker bounds every probability within √(KL/2) = 0.021
    kl = float(speciation.late_start_kl(t, norm, 1.0))
    kappa = float(speciation.signal_to_noise(t, norm))
    x = math.sqrt(1 + kappa**2) * torch.randn(n, 1, generator=seeded(15))
    times = torch.linspace(t, 0, 111, dtype=torch.float64)
    ends = reverse.gaussian_mixture(x, torch.tensor([[norm], [-norm]]), times, 16, 1.0, None, 1.0).double()
    # Steps of 0.01 inflate the variance of a class by 0.5 %, which moves less than 0.002 of its probability.
    for low, high in ((-1.0, 1.0), (1.0, 3.0)):
        p = sum(stats.norm.cdf(high, s * norm) - stats.norm.cdf(low, s * norm) for s in (1, -1)) / 2
        found = float(((ends > low) & (ends < high)).double().mean())
        assert found == pytest.approx(p, abs=math.sqrt(kl / 2) + 4.5 * math.sqrt(p * (1 - p) / n) + 0.002)


# ------------------------------------------------------------------------------------------------- guidance


def test_the_guided_score_adds_the_slope_of_the_class_probability_along_the_mean_only():
    x, t, v, w = 2 * normal(6, 3, 17), 0.7, 0.4, 3.0
    both = (speciation.mixture_score(x, t, MEAN, v, 1.0), speciation.mixture_score(x, t, MEAN, v))
    torch.testing.assert_close(
        speciation.guided_score(x, t, MEAN, w, v), (1 + w) * both[0] - w * both[1], rtol=1e-12, atol=1e-12
    )
    slope = gradient(lambda y: speciation.class_probability(y, t, MEAN, v).log(), x)
    torch.testing.assert_close(both[0] - both[1], slope, rtol=1e-11, atol=1e-11)  # CFG-1
    gamma, a = float(speciation.noised_variance(t, v)), MEAN * math.exp(-t)
    formula = a / gamma * (1 - torch.tanh(x @ a / gamma))[:, None]
    torch.testing.assert_close(both[0] - both[1], formula, rtol=1e-11, atol=1e-11)
    across = torch.linalg.cross(both[0] - both[1], MEAN.expand_as(x))
    assert float(across.abs().max()) < 1e-12
    other = speciation.guided_score(x, t, -MEAN, w, v, 0.2)
    mirror = -speciation.guided_score(-x, t, MEAN, w, v, 0.2)
    torch.testing.assert_close(other, mirror, rtol=1e-12, atol=1e-12)


def test_the_guided_score_is_at_each_time_that_of_the_tilted_law():
    x, t, v, w = 2 * normal(6, 3, 18), 0.9, 0.4, 2.0

    def tilted(y):
        log_class = speciation.class_probability(y, t, MEAN, v, 0.3).log()
        return speciation.mixture_log_density(y, t, MEAN, v, 1.0) + w * log_class

    found = speciation.guided_score(x, t, MEAN, w, v, 0.3)
    torch.testing.assert_close(found, gradient(tilted, x), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(("norm", "shift"), [(1.0, 0.290), (2.0, 0.0710), (4.0, 0.000196)])
def test_the_tilted_law_has_the_moments_of_quadrature(norm, shift):
    for w, v, weight in ((1.0, 1.0, 0.5), (3.0, 0.6, 0.3), (0.0, 0.6, 0.5)):
        h = math.log(weight / (1 - weight)) / 2

        def law(y, power, w=w, v=v, h=h):
            log_p = -((y - norm) ** 2) / (2 * v) - w * np.logaddexp(0, -2 * (norm * y / v + h))
            return y**power * math.exp(log_p)

        sums = [integrate.quad(law, norm - 9, norm + 9, (k,), epsabs=1e-14, limit=300)[0] for k in range(3)]
        mean = sums[1] / sums[0]
        found = speciation.tilted_moments(norm, w, v, weight)
        assert found.mean == pytest.approx(mean, abs=1e-9)
        assert found.variance == pytest.approx(sums[2] / sums[0] - mean**2, abs=1e-8)
    assert speciation.tilted_moments(norm, 1.0).mean - norm == pytest.approx(shift, rel=0.003)  # CFG-3


def euler_chain(norm, w, step, v=1.0):
    """Mean and variance of the guided Euler chain in y, its density carried by the exact matrix of each step."""
    y = np.linspace(-7, norm + 7, 500)
    start = math.log(max(norm, 1)) + 5
    times = np.linspace(start, 0, math.ceil(start / step) + 1)
    p = stats.norm.pdf(y)
    for t, delta in zip(times[:-1], times[:-1] - times[1:], strict=True):
        gamma = v * math.exp(-2 * t) - math.expm1(-2 * t)
        a = norm * math.exp(-t) / gamma
        drift = y * (1 - 2 / gamma) + 2 * a * (1 + w * (1 - np.tanh(a * y)))
        p = np.exp(-((y[:, None] - y - delta * drift) ** 2) / (4 * delta)) @ p
        p /= p.sum()
    return p @ y, p @ y**2 - (p @ y) ** 2


@pytest.mark.parametrize(("norm", "shift", "variance"), [(1.0, 0.486, 0.671), (4.0, 0.689 / 4, 0.943)])
def test_guided_paths_have_the_moments_of_their_transition_matrices(norm, shift, variance):
    n, step, w = 10_000, 0.02, 1.0
    found = speciation.guided_samples(norm, torch.tensor([w]), n, step=step, generator=seeded(19))
    (mean, var), (mean_0, var_0) = euler_chain(norm, w, step), euler_chain(norm, 0.0, step)
    # A grid of a fifth of the step's noise makes the trapezoidal rule exact to 1e-9.
    assert float(found.shift) == pytest.approx(mean - mean_0, abs=4.5 * float(found.shift_error))
    assert float(found.loss) == pytest.approx(var_0 - var, abs=4.5 * float(found.loss_error))
    # CFG-2: the claim has an error of 2·10⁴ paths (0.007 for the variance) and a step of its own.
    assert mean - mean_0 == pytest.approx(shift, abs=0.006)
    assert 1 - (var_0 - var) == pytest.approx(variance, abs=0.03)


def test_guidance_in_high_dimension_shifts_the_mean_by_one_over_the_norm_and_the_variance_by_its_square():
    g = torch.tensor([1.0, 3.0, 4.0])
    a, b = (speciation.guided_samples(m, g, 4000, step=0.02, generator=seeded(20)) for m in (8.0, 16.0))
    # CFG-2: by transition matrices at |m| = 8, extrapolated to step 0; corrections are of order e^{−|m|²/2}.
    known = torch.tensor([0.6817, 1.1597, 1.2982], dtype=torch.float64)
    # The step 0.02 changes them by less than 0.004.
    assert float((16 * b.shift - known).abs().max()) < 4.5 * float((16 * b.shift_error).max()) + 0.004
    ratio, error = a.shift / b.shift, (a.shift_error / a.shift).square() + (b.shift_error / b.shift).square()
    assert bool(((ratio / 2 - 1).abs() < 4.5 * error.sqrt() + 0.01).all())  # slope −1
    ratio, error = a.loss / b.loss, (a.loss_error / a.loss).square() + (b.loss_error / b.loss).square()
    assert bool(((ratio / 4 - 1).abs() < 4.5 * error.sqrt() + 0.02).all())  # slope −2
    tilted = speciation.tilted_moments(8.0, 1.0).mean - 8
    assert float(a.shift[0]) > 1e3 * tilted  # CFG-3: not the tilted law


def test_after_speciation_the_excess_contracts_as_e_to_the_minus_the_time_that_passed():
    found = speciation.guided_samples(16.0, torch.tensor([1.0, 3.0]), 2000, step=0.02, generator=seeded(21))
    late = found.times < math.log(16) - 1.5  # κ > 4.4: one path in 10⁵ still feels the guidance
    path = found.path[late]
    passed = found.times[late][0] - found.times[late][-1]
    # Per step a factor 1 − δ: it differs from e^{−δ} by δ²/2.
    expected = torch.full((2,), -float(passed), dtype=torch.float64)
    torch.testing.assert_close((path[-1] / path[0]).log(), expected, rtol=0.02 / 2 + 0.01, atol=0)


@pytest.mark.parametrize(("norm", "v"), [(0.7, 1.0), (2.0, 0.5), (6.0, 2.0)])
def test_the_first_order_of_guidance_is_the_information_of_a_datum_on_its_class(norm, v):
    kappa = norm / math.sqrt(v)
    disagree = integrate.quad(
        lambda k: k * (1 - float(speciation.cloning_function(k))), 0, kappa, epsabs=1e-13
    )[0]
    found = speciation.guidance_response(norm, v)
    assert found == pytest.approx(
        4 * v / norm * disagree, rel=1e-10
    )  # mutual information and error of a channel
    assert speciation.guidance_response(1e3) * 1e3 == pytest.approx(2 * math.log(2), abs=1e-12)


def test_weak_guidance_shifts_the_mean_by_its_response():
    weak = torch.tensor([0.05, 0.1])
    found = speciation.guided_samples(2.0, weak, 20_000, 0.8, step=0.02, generator=seeded(22))
    slopes, error = found.shift / weak.double(), float(found.shift_error[0]) / 0.05
    # Extrapolated to w = 0; both slopes are of the same paths. The step costs about one per cent.
    expected = speciation.guidance_response(2.0, 0.8)
    assert float(2 * slopes[0] - slopes[1]) == pytest.approx(expected, abs=4.5 * error + 0.015 * expected)


# ------------------------------------------------------------------------------------------------- input


X, M = torch.zeros(2, 3), torch.ones(3)


@pytest.mark.parametrize(("name", "call"), [
    ("t", lambda: speciation.mixture_score(X, 0.0, M)),
    ("t", lambda: speciation.mixture_score(X, NAN, M)),
    ("t", lambda: speciation.mixture_score(X, torch.tensor([1.0, -1.0]), M)),
    ("t", lambda: speciation.mixture_score(X, torch.ones(3), M)),
    ("t", lambda: speciation.cloning_probability(-1.0, 2.0)),
    ("t", lambda: speciation.clones(0.0, CLASSES)),
    ("t", lambda: speciation.clones(20.0, CLASSES)),
    ("t", lambda: speciation.class_posterior(X[:, :1], 0.0, CLASSES, 0.0)),
    ("x", lambda: speciation.mixture_score(X[0], 1.0, M)),
    ("x", lambda: speciation.mixture_score(X.long(), 1.0, M)),
    ("x", lambda: speciation.mixture_log_density(X + NAN, 1.0, M)),
    ("x", lambda: speciation.guided_score([[0.0]], 1.0, M, 1.0)),
    ("mean", lambda: speciation.mixture_score(X, 1.0, M[:2])),
    ("mean", lambda: speciation.mixture_score(X, 1.0, M * NAN)),
    ("mean", lambda: speciation.class_probability(X, 1.0, M.long())),
    ("variance", lambda: speciation.mixture_score(X, 1.0, M, -0.1)),
    ("variance", lambda: speciation.clones(1.0, CLASSES, 0.0)),
    ("temperature", lambda: speciation.noised_variance(1.0, 1.0, 0.0)),
    ("weight", lambda: speciation.mixture_score(X, 1.0, M, 1.0, 1.1)),
    ("weight", lambda: speciation.cloning_function(1.0, 1.0)),
    ("weight", lambda: speciation.potential(torch.zeros(1), 1.0, 1.0, weight=NAN)),
    ("weights", lambda: speciation.clones(1.0, CLASSES, weights=torch.tensor([0.5, 0.6]))),
    ("means", lambda: speciation.clones(1.0, CLASSES[:, 0])),
    ("n", lambda: speciation.clones(1.0, CLASSES, n=0)),
    ("n", lambda: speciation.mixture_sample(0, 1.0, CLASSES)),
    ("n", lambda: speciation.guided_samples(1.0, torch.ones(1), 1)),
    ("step", lambda: speciation.clones(1.0, CLASSES, 0.1, step=0.05)),
    ("eta", lambda: speciation.critical_time(1.0, 0.0, -1.0)),
    ("eta", lambda: speciation.fixed_point(1.0, 1.0, 2.0, 0.0)),
    ("eta", lambda: speciation.clones(1.0, CLASSES, eta=-1.0)),
    ("norm", lambda: speciation.critical_time(0.5, 1.0)),
    ("norm", lambda: speciation.potential(torch.zeros(1), 1.0, 0.0)),
    ("q", lambda: speciation.potential(torch.tensor([NAN]), 1.0, 1.0)),
    ("d", lambda: speciation.potential(torch.zeros(1), 1.0, 1.0, 0)),
    ("kappa", lambda: speciation.cloning_function(torch.tensor([-1.0]))),
    ("kappa", lambda: speciation.class_information(NAN)),
    ("probability", lambda: speciation.cloning_time(0.5, 2.0)),
    ("probability", lambda: speciation.cloning_time(0.99, 1.0)),
    ("top_eigenvalue", lambda: speciation.speciation_time(0.9)),
    ("top_eigenvalue", lambda: speciation.speciation_time(torch.tensor([2.0, NAN]))),
    ("guidance", lambda: speciation.guided_score(X, 1.0, M, -1.0)),
    ("guidance", lambda: speciation.guided_samples(1.0, torch.tensor([-1.0]))),
    ("guidance", lambda: speciation.tilted_moments(1.0, NAN)),
    ("log_odds", lambda: speciation.fixed_point(1.0, log_odds=INF)),
    ("second", lambda: speciation.hierarchical_means(M, M[:2])),
])  # fmt: skip
def test_bad_input_is_named(name, call):
    with pytest.raises(ValueError, match=rf"^{name}\b"):
        call()


def test_the_same_generator_gives_the_same_clones_and_the_global_stream_is_left_alone():
    state = torch.get_rng_state()
    a, b = (speciation.clones(1.0, CLASSES, n=50, step=0.1, generator=seeded(23)) for _ in range(2))
    assert torch.equal(a.first, b.first) and torch.equal(a.second, b.second)
    speciation.guided_samples(1.0, torch.ones(1), 10, step=0.1)
    assert torch.equal(state, torch.get_rng_state())
    for x in (X, X.double()):
        assert speciation.mixture_score(x, 1.0, M).dtype == x.dtype
        assert speciation.mixture_score(x[:0], 1.0, M).shape == (0, 3)
