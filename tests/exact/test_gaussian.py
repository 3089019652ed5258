"""Gaussian data: SciPy's quadrature and flows, regressions of scikit-learn, automatic differentiation and dense matrices."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy import integrate, optimize, stats
from sklearn.covariance import EmpiricalCovariance
from sklearn.linear_model import Ridge

from physgen.exact import gaussian

NAN = float("nan")
F64 = torch.float64


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def vector(*numbers):
    return torch.tensor(numbers, dtype=F64)


def identity(d):
    return torch.eye(d, dtype=F64)


def law(d=4, seed=0):
    """A mean and a covariance with eigenvalues of order one, not aligned with the axes."""
    a = torch.randn(d, d + 3, generator=seeded(seed), dtype=F64)
    return torch.randn(d, generator=seeded(seed + 1), dtype=F64), a @ a.T / d + 0.1 * identity(d)


def noised(data, t):
    """Points x and targets −z/√Δ whose averages over equal weights are those over the noise, up to second moments: z = ±√d e_k."""
    n, d = data.shape
    z = math.sqrt(d) * torch.cat([identity(d), -identity(d)])
    z = z.repeat(n, 1)
    delta = -math.expm1(-2 * t)
    x = math.exp(-t) * data.repeat_interleave(2 * d, 0) + math.sqrt(delta) * z
    return x, -z / math.sqrt(delta)


# ------------------------------------------------------------------------------------------------- the perfect score


@pytest.mark.parametrize("t", [1e-6, 0.4, 30.0, torch.tensor([1e-3, 0.1, 0.7, 2.0, 9.0], dtype=F64)])
def test_the_score_is_the_gradient_of_the_log_density(t):
    mean, covariance = law()
    x = torch.randn(5, 4, generator=seeded(1), dtype=F64).requires_grad_()
    (slope,) = torch.autograd.grad(gaussian.log_density(x, t, mean, covariance).sum(), x)
    torch.testing.assert_close(gaussian.score(x, t, mean, covariance), slope, rtol=1e-12, atol=1e-12)


def test_the_log_density_is_that_of_the_multivariate_normal_of_torch():
    mean, covariance = law()
    t = 0.3
    gamma = -math.expm1(-2 * t) * identity(4) + math.exp(-2 * t) * covariance
    peer = torch.distributions.MultivariateNormal(math.exp(-t) * mean, gamma)
    x = 3 * torch.randn(6, 4, generator=seeded(2), dtype=F64)
    torch.testing.assert_close(
        gaussian.log_density(x, t, mean, covariance), peer.log_prob(x), rtol=1e-12, atol=1e-11
    )


def test_the_joint_law_of_datum_and_noisy_point_has_the_mass_one_with_the_power_d_over_two():
    m, s, t = 0.3, 1.7, 0.4
    delta = -math.expm1(-2 * t)

    def joint(x, a):
        prior = math.exp(-((a - m) ** 2) / (2 * s)) / math.sqrt(2 * math.pi * s)
        return prior * math.exp(-((x - a * math.exp(-t)) ** 2) / (2 * delta)) / math.sqrt(2 * math.pi * delta)

    mass, _ = integrate.dblquad(joint, -12, 12, -12, 12, epsabs=1e-9)
    assert mass == pytest.approx(1, abs=1e-7)  # GAU-1
    assert mass * math.sqrt(2 * math.pi * delta) / (math.sqrt(2 * math.pi) * delta) == pytest.approx(
        1.3476, abs=5e-5
    )
    marginal, _ = integrate.quad(lambda a: joint(0.9, a), -12, 12, epsabs=1e-12)
    exact = gaussian.log_density(vector([0.9]), t, vector(m), vector([s]))
    assert float(exact) == pytest.approx(math.log(marginal), abs=1e-10)


def test_the_score_is_the_posterior_mean_of_the_datum_less_the_point_over_delta():
    mean, covariance = law(3)
    t, x = 0.6, torch.randn(7, 3, generator=seeded(3), dtype=F64)
    shrink, delta = math.exp(-t), -math.expm1(-2 * t)
    joint = shrink**2 * covariance + delta * identity(3)
    datum = mean + (x - shrink * mean) @ torch.linalg.solve(joint, shrink * covariance)
    torch.testing.assert_close(
        gaussian.score(x, t, mean, covariance), (shrink * datum - x) / delta, rtol=1e-12, atol=1e-12
    )


def test_at_small_times_the_score_is_that_of_the_data_and_at_large_times_that_of_white_noise():
    zero, covariance = torch.zeros(3, dtype=F64), torch.diag(vector(0.5, 1, 2))
    score = gaussian.score(identity(3), 1e-3, zero, covariance)
    torch.testing.assert_close(-score.diagonal(), vector(1.99601, 1, 0.50050), rtol=0, atol=6e-6)  # GAU-2
    mean, covariance = law()
    x = torch.randn(5, 4, generator=seeded(4), dtype=F64)
    inverse = torch.linalg.inv(covariance)
    second = -2 * inverse @ (identity(4) - covariance) @ inverse
    left = [
        gaussian.score(x, t, mean, covariance) + (x - math.exp(-t) * mean) @ (inverse + t * second)
        for t in (1e-4, 5e-5)
    ]
    # What is left is of second order in t: halving t divides it by 4, up to the third order, t/λ_min ≤ 10⁻³ of it.
    torch.testing.assert_close(left[0], 4 * left[1], rtol=0.01, atol=1e-10)
    assert float(left[0].abs().max()) > 1e-8
    far = gaussian.score(x, 20.0, mean, covariance)
    torch.testing.assert_close(far, -x, rtol=0, atol=2 * math.exp(-20) * float(mean.abs().max()))


def test_a_batch_of_times_is_one_time_per_row_and_float32_stays_float32():
    mean, covariance = law()
    x, t = torch.randn(3, 4, generator=seeded(5)), torch.tensor([0.01, 0.5, 3.0])
    rows = [gaussian.score(x[i : i + 1], float(t[i]), mean, covariance) for i in range(3)]
    batch = gaussian.score(x, t, mean, covariance)
    assert batch.dtype == torch.float32
    torch.testing.assert_close(batch, torch.cat(rows), rtol=1e-6, atol=1e-6)
    far = gaussian.score(torch.full((1, 4), 1e15, dtype=F64), 1e-12, mean, covariance)
    assert bool(far.isfinite().all())


def test_samples_have_the_mean_and_the_covariance_that_were_asked_for():
    mean, covariance = law(3)
    n = 40_000
    x = gaussian.sample(n, mean, covariance, seeded(6))
    fitted_mean, fitted = gaussian.fit(x)
    spread = covariance.diagonal().sqrt()
    assert bool(((fitted_mean - mean).abs() < 5 * spread / math.sqrt(n)).all())
    error = ((covariance**2 + torch.outer(spread**2, spread**2)) / n).sqrt()
    assert bool(((fitted - covariance).abs() < 5 * error).all())
    torch.testing.assert_close(x, gaussian.sample(n, mean, covariance, seeded(6)))
    flat = gaussian.sample(10, mean, torch.ones(3, 3), seeded(7)) - mean  # a singular covariance
    assert float((flat - flat[:, :1]).abs().max()) < 1e-6  # of eigenvalues 10⁻¹⁶, the root


# ------------------------------------------------------------------------------------------------- generation


def test_the_flow_is_the_solution_of_the_probability_flow_equation():
    mean, covariance = law()
    x = torch.randn(1, 4, generator=seeded(8), dtype=F64)

    def velocity(t, y):
        return -y - gaussian.score(torch.from_numpy(y)[None], t, mean, covariance)[0].numpy()

    flow = integrate.solve_ivp(velocity, (2.0, 0.05), x[0].numpy(), rtol=1e-10, atol=1e-11)
    end = gaussian.generate(x, 2.0, 0.05, mean, covariance)
    np.testing.assert_allclose(end[0], flow.y[:, -1], atol=1e-7)  # 10⁻¹⁰ per step, a few hundred steps


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0, 3.0])
def test_a_step_of_the_reverse_family_has_the_moments_of_its_linear_stochastic_equation(eta):
    variances, start, end = vector(0.2, 1.0, 3.0), 1.3, 0.2
    zero, covariance = torch.zeros(3, dtype=F64), torch.diag(variances)
    points = torch.cat([torch.zeros(1, 3, dtype=F64), torch.ones(1, 3, dtype=F64)])
    out = gaussian.generate(points[:1], start, end, zero, covariance, eta, seeded(9))
    moved = gaussian.generate(points[1:], start, end, zero, covariance, eta, seeded(9))
    z = torch.randn(1, 3, generator=seeded(9), dtype=F64)

    def moments(tau, y):  # of the mean and of the variance, in reverse time
        t = start - tau
        drift = 1 - (1 + eta) / (-math.expm1(-2 * t) + math.exp(-2 * t) * variances.numpy())
        return np.concatenate([drift * y[:3], 2 * drift * y[3:] + 2 * eta])

    exact = integrate.solve_ivp(moments, (0, start - end), [1.0] * 3 + [0.0] * 3, rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose((moved - out)[0], exact.y[:3, -1], atol=1e-8)
    np.testing.assert_allclose(((out / z) ** 2)[0], exact.y[3:, -1], atol=1e-8)


def test_noise_becomes_the_model_and_a_model_of_few_data_is_flat():
    mean, covariance = law()
    x = torch.randn(20_000, 4, generator=seeded(10), dtype=F64)
    for eta in (0.0, 1.0):
        end = gaussian.generate(x, 12.0, 0.0, mean, covariance, eta, seeded(11))
        fitted_mean, fitted = gaussian.fit(end)
        error = 5 * covariance.diagonal().max() * math.sqrt(2 / len(x))
        assert float((fitted_mean - mean).abs().max()) < error
        assert float((fitted - covariance).abs().max()) < error
    fitted_mean, fitted = gaussian.fit(x[:3])
    end = gaussian.generate(x[:50], 12.0, 0.0, fitted_mean, fitted, 1.0, seeded(12))
    singular = torch.linalg.svdvals(end - fitted_mean)
    assert int((singular > 1e-6 * singular[0]).sum()) == 2  # three data span a plane


# ------------------------------------------------------------------------------------------------- the learned score


def test_the_fit_is_that_of_scikit_learn():
    data = torch.randn(9, 4, generator=seeded(13), dtype=F64)
    for known in (False, True):
        peer = EmpiricalCovariance(assume_centered=known).fit(data.numpy())
        mean, covariance = gaussian.fit(data, known)
        np.testing.assert_allclose(covariance, peer.covariance_, atol=1e-14)
        np.testing.assert_allclose(mean, peer.location_, atol=1e-14)


@pytest.mark.parametrize("ridge", [0.0, 0.7])
@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("n", [3, 12])
def test_the_optimal_linear_score_is_the_regression_of_scikit_learn(n, known, ridge):
    data = 1 + torch.randn(n, 5, generator=seeded(14), dtype=F64)
    t = 0.4
    x, target = noised(data, t)
    peer = Ridge(alpha=ridge * len(x), fit_intercept=not known, solver="svd").fit(x.numpy(), target.numpy())
    linear = gaussian.optimal_linear_score(data, t, ridge, known)
    np.testing.assert_allclose(linear.weight, -peer.coef_, atol=1e-11)  # GAU-4; rounding times the condition
    np.testing.assert_allclose(linear.bias, -(0.0 if known else peer.intercept_) * np.ones(5), atol=1e-11)
    np.testing.assert_allclose(linear(x), peer.predict(x.numpy()), atol=1e-10)


def test_with_many_data_the_optimal_score_is_the_perfect_score_of_the_fit():
    data = gaussian.sample(30, *law(), generator=seeded(15))
    x = torch.randn(6, 4, generator=seeded(16), dtype=F64)
    perfect = gaussian.score(x, 0.2, *gaussian.fit(data))
    torch.testing.assert_close(gaussian.optimal_linear_score(data, 0.2)(x), perfect, rtol=1e-12, atol=1e-12)


def test_a_ridge_adds_to_the_covariance_that_is_learned():
    data, t, c = gaussian.sample(3, *law(), generator=seeded(17)), 0.3, 0.05
    mean, covariance = gaussian.fit(data)
    x = torch.randn(6, 4, generator=seeded(18), dtype=F64)
    learned = gaussian.score(x, t, mean, covariance + c * identity(4))
    linear = gaussian.optimal_linear_score(data, t, ridge=c * math.exp(-2 * t))
    torch.testing.assert_close(linear(x), learned, rtol=1e-12, atol=1e-12)


def test_the_denoising_loss_is_the_average_over_data_and_noise():
    data, t = 1 + torch.randn(7, 3, generator=seeded(19), dtype=F64), 0.5
    linear = gaussian.LinearScore(*(torch.randn(*s, generator=seeded(20), dtype=F64) for s in ((3, 3), (3,))))
    x, target = noised(data, t)
    direct = (linear(x) - target).square().sum(1).mean()
    mean, covariance = gaussian.fit(data)
    torch.testing.assert_close(gaussian.denoising_loss(linear, t, mean, covariance), direct)  # GAU-3
    known = gaussian.LinearScore(linear.weight, torch.zeros(3, dtype=F64))
    loss = gaussian.denoising_loss(known, t, *gaussian.fit(data, known_mean=True))
    torch.testing.assert_close(loss, (known(x) - target).square().sum(1).mean())


def test_the_optimal_score_minimises_the_denoising_loss():
    data, t, ridge = 1 + torch.randn(4, 6, generator=seeded(21), dtype=F64), 0.2, 0.3
    fit = gaussian.fit(data)
    weight, bias = (p.requires_grad_() for p in gaussian.optimal_linear_score(data, t, ridge))
    loss = (
        gaussian.denoising_loss(gaussian.LinearScore(weight, bias), t, *fit) + ridge * weight.square().sum()
    )
    for slope in torch.autograd.grad(loss, (weight, bias)):
        assert float(slope.abs().max()) < 1e-12  # sums of numbers of order 1/Δ = 3


def test_the_mean_error_of_the_weight_is_that_of_simulation():
    covariance, t, n, draws = torch.diag(vector(0.3, 1, 1, 2, 5)), 0.3, 20_000, 300
    gamma = -math.expm1(-2 * t) + math.exp(-2 * t) * covariance.diagonal()
    data = torch.randn(draws, n, 5, generator=seeded(22)) * covariance.diagonal().sqrt().float()
    fitted = torch.linalg.inv(
        -math.expm1(-2 * t) * identity(5) + math.exp(-2 * t) * (data.mT @ data / n).double()
    )
    error = (fitted - torch.diag(1 / gamma)).square().sum((1, 2))
    exact = gaussian.expected_weight_error(n, t, covariance)
    # Five standard errors of the simulation; the next order in d/n = 1/4000 and float32 are far below them.
    assert float(error.mean()) == pytest.approx(exact, abs=5 * float(error.std()) / math.sqrt(draws))


@pytest.mark.parametrize(("d", "n", "expected"), [(20, 400, 0.316), (40, 1600, 0.309)])
def test_the_mean_error_of_the_weight_for_white_data_needs_d_squared_data(d, n, expected):
    value = gaussian.expected_weight_error(n, 0.3, torch.eye(d))
    assert value == pytest.approx(math.exp(-1.2) * d * (d + 1) / n, rel=1e-12)
    assert value == pytest.approx(expected, abs=5e-4)  # GAU-4


# ------------------------------------------------------------------------------------------------- early stopping, linear diffusion


def test_gradient_flow_on_the_loss_learns_each_mode_at_its_own_rate():
    data, t, tau = 1 + torch.randn(5, 3, generator=seeded(23), dtype=F64), 0.4, 0.35
    mean, covariance = gaussian.fit(data)
    zero = torch.zeros(3, dtype=F64)

    def slope(_, w):
        w = torch.from_numpy(w).reshape(3, 3).requires_grad_()
        loss = gaussian.denoising_loss(gaussian.LinearScore(w, zero), t, zero, covariance)
        return -torch.autograd.grad(loss, w)[0].numpy().ravel()

    flow = integrate.solve_ivp(slope, (0, tau), np.zeros(9), rtol=1e-10, atol=1e-12)
    linear = gaussian.early_stopped_score(data, t, tau)
    np.testing.assert_allclose(linear.weight, flow.y[:, -1].reshape(3, 3), atol=1e-8)
    torch.testing.assert_close(linear(math.exp(-t) * mean[None]), zero[None], rtol=0, atol=1e-13)
    done = gaussian.early_stopped_score(data, t, 1e3)
    for trained, best in zip(done, gaussian.optimal_linear_score(data, t), strict=True):
        torch.testing.assert_close(trained, best, rtol=1e-12, atol=1e-12)


def test_the_learned_fraction_is_linear_at_small_times_and_one_at_large():
    fraction = gaussian.learned_fraction(vector(0, 1e-12, 0.5, 1e4), 1.5)
    torch.testing.assert_close(fraction, vector(0, 3e-12, -math.expm1(-1.5), 1), rtol=1e-11, atol=0)


@pytest.mark.parametrize("tau", [0.3, 5.0, 200.0])
def test_the_variance_of_an_early_stopped_model_is_that_of_its_flow(tau):
    variances, start = vector(1e-4, 0.02, 0.5, 1, 3), 3.0

    def growth(t, _):
        gamma = -math.expm1(-2 * t) + math.exp(-2 * t) * variances.numpy()
        return 2 * (-1 - np.expm1(-2 * tau * gamma) / gamma)  # d log v/dt of dx/dt = −x − S

    flow = integrate.solve_ivp(growth, (start, 0), np.zeros(5), rtol=1e-10, atol=1e-11, method="LSODA")
    exact = gaussian.early_stopped_variance(variances, tau, start)
    np.testing.assert_allclose(exact.log(), flow.y[:, -1], atol=1e-7)


def test_stopping_early_gives_empty_directions_a_variance_of_order_one_over_tau():
    tau = 300.0
    value = gaussian.early_stopped_variance(vector(0.0, 1e-30, 1.0, 2.0), tau, 8.0)
    # What is left out is ∫ e^{−2τΓ} 2dt ~ 1/2τ and the noise that is missing at T, e^{−2T}: both relative.
    assert float(value[0]) == pytest.approx(math.exp(-np.euler_gamma) / (2 * tau), rel=1.1 / (2 * tau))
    assert float(value[1]) == pytest.approx(float(value[0]), rel=1e-12)
    torch.testing.assert_close(value[2:], vector(1, 2), rtol=0, atol=3 * math.exp(-16))


def test_linear_ddpm_is_the_regression_of_the_noise_by_scikit_learn():
    data, t = 1 + torch.randn(4, 5, generator=seeded(24), dtype=F64), 0.3
    delta = -math.expm1(-2 * t)
    x, target = noised(data, t)
    noise = -math.sqrt(delta) * target
    peer = Ridge(alpha=0, solver="svd").fit(x.numpy(), noise.numpy())
    model = gaussian.linear_ddpm(math.exp(-2 * t), *gaussian.fit(data))
    np.testing.assert_allclose(model.weight, peer.coef_, atol=1e-11)  # MER-6
    np.testing.assert_allclose(model.weight @ model.shift, peer.intercept_, atol=1e-11)
    np.testing.assert_allclose(model(x), peer.predict(x.numpy()), atol=1e-10)
    score = gaussian.optimal_linear_score(data, t)(x)
    torch.testing.assert_close(model(x), -math.sqrt(delta) * score, rtol=1e-11, atol=1e-11)


def test_ddim_with_a_linear_model_leaves_the_variance_of_its_steps():
    mean, covariance = torch.zeros(3, dtype=F64), torch.diag(vector(0.0, 0.4, 2.5))
    times = vector(2.0, 1.1, 0.5, 0.2, 0.03)
    x = torch.ones(1, 3, dtype=F64)
    alpha = torch.exp(-2 * times).tolist()
    for now, then in pairwise(alpha):
        noise = gaussian.linear_ddpm(now, mean, covariance)(x)
        datum = (x - math.sqrt(1 - now) * noise) / math.sqrt(now)
        x = math.sqrt(then) * datum + math.sqrt(1 - then) * noise
    torch.testing.assert_close(
        gaussian.ddim_variance(covariance.diagonal(), times), x[0] ** 2, rtol=1e-12, atol=0
    )


def test_ddim_stopped_at_the_first_step_leaves_c_in_the_covariance():
    alpha = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000, dtype=F64), 0)
    variances, c = vector(0, 0.01, 0.5, 2), float((1 - alpha[0]) / alpha[0])
    generated = gaussian.ddim_variance(variances, -alpha.log().flip(0) / 2) / alpha[0]
    expected = vector(1.0001e-4, 0.00986, 0.4979, 1.9936)
    torch.testing.assert_close(generated, expected, rtol=0, atol=5.1e-5)  # MER-7
    # The noise that is missing at T, e^{−2T} = 4·10⁻⁵, and the angles of the steps.
    assert float(generated[0]) == pytest.approx(c, rel=1e-3)
    sigma = torch.logspace(2, -2, 2001, dtype=F64)  # σ² = e^{2t} − 1: tan ϑ = √λ/σ, dϑ ≤ ½ d log σ
    fine = gaussian.ddim_variance(variances, torch.log1p(sigma**2) / 2) * (1 + 1e-4)
    # 1 − Π cos² ≤ Σ (dϑ)² ≤ (π/2) max dϑ = (π/4) (log 10⁴)/2000; and N(0, 1) for Γ_T = 1 + 10⁻⁴ (λ − 1).
    assert bool(((fine / (variances + 1e-4) - 1).abs() < math.pi / 4 * math.log(1e4) / 2000 + 1e-4).all())


# ------------------------------------------------------------------------------------------------- divergences


def test_the_divergence_is_that_of_torch_and_the_sum_of_its_parts():
    p, q = law(5, 30), law(5, 40)
    peer = torch.distributions.kl_divergence(
        *(torch.distributions.MultivariateNormal(m, c) for m, c in (p, q))
    )
    torch.testing.assert_close(gaussian.kl(*p, *q), peer, rtol=1e-11, atol=1e-11)  # MER-8
    assert abs(float(gaussian.kl(*q, *p) - peer)) > 0.1
    assert float(sum(gaussian.kl_parts(*p, *q))) == pytest.approx(float(peer), rel=1e-11)
    assert 0 <= float(gaussian.kl(*p, *p)) < 1e-13
    assert gaussian.kl(*(x.float() for x in p), *q).dtype == F64


def test_the_divergence_is_the_mean_log_ratio_over_samples():
    p, q = law(3, 50), law(3, 60)
    x, t = gaussian.sample(100_000, *p, seeded(25)), 1e-9  # at t → 0 the noised law is that of the data
    ratio = gaussian.log_density(x, t, *p) - gaussian.log_density(x, t, *q)
    assert float(gaussian.kl(*p, *q)) == pytest.approx(
        float(ratio.mean()), abs=5 * float(ratio.std()) / math.sqrt(len(x))
    )


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("reverse", [False, True])
def test_the_mean_divergence_of_a_fit_is_that_of_simulation(reverse, known):
    n, d, draws = 24, 4, 4000
    z = torch.randn(draws, n, d, generator=seeded(26), dtype=F64)  # every mean and covariance has the same
    mean = torch.zeros(draws, d, dtype=F64) if known else z.mean(1)
    centred = z - mean[:, None]
    covariance = centred.mT @ centred / n
    log_det = torch.logdet(covariance)
    if reverse:
        inverse = torch.linalg.inv(covariance)
        trace = inverse.diagonal(dim1=1, dim2=2).sum(1) + torch.einsum("bi,bij,bj->b", mean, inverse, mean)
        values = (trace - d + log_det) / 2
    else:
        values = (covariance.diagonal(dim1=1, dim2=2).sum(1) + (mean**2).sum(1) - d - log_det) / 2
    one = (mean[0], covariance[0], torch.zeros(d, dtype=F64), torch.eye(d, dtype=F64))
    pair = one[2:] + one[:2] if reverse else one
    assert float(gaussian.kl(*pair)) == pytest.approx(float(values[0]), abs=1e-12)
    exact = gaussian.expected_kl(n, d, reverse, known)
    assert exact == pytest.approx(float(values.mean()), abs=5 * float(values.std()) / math.sqrt(draws))


@pytest.mark.parametrize(
    ("d", "n", "forward", "reverse"),
    [(10, 100, 0.3383, 0.4003), (10, 20, 2.078, 6.047), (20, 200, 0.5968, 0.6953)],
)
def test_the_mean_divergence_has_the_values_of_the_claim(d, n, forward, reverse):
    assert gaussian.expected_kl(n, d) == pytest.approx(forward, abs=5.1e-4 if n == 20 else 5.1e-5)  # MER-9
    assert gaussian.expected_kl(n, d, reverse=True) == pytest.approx(
        reverse, abs=5.1e-4 if n == 20 else 5.1e-5
    )


@pytest.mark.parametrize(
    ("a", "d", "expected"),
    [(1.5, 100, 2.61), (1.5, 1000, 8.00), (2, 100, 0.2534), (2, 1000, 0.2503), (2.5, 100, 0.0253)],
)
def test_the_divergence_vanishes_only_for_more_than_d_squared_data(a, d, expected):
    value = gaussian.expected_kl(round(d**a), d, known_mean=True)
    assert value == pytest.approx(expected, abs=5.1e-3 if a == 1.5 else 5.1e-5)  # GAU-7


def log_minus_digamma(x):
    """Binet: log x − ψ(x) = ∫ e^{−xu} [1/(1 − e^{−u}) − 1/u] du over u > 0, here in s = xu."""

    def bracket(u):
        return 0.5 + u / 12 - u**3 / 720 if u < 0.01 else -1 / math.expm1(-u) - 1 / u

    return (
        integrate.quad(lambda s: math.exp(-s) * bracket(s / x), 0, 60, epsabs=0, epsrel=1e-12, limit=200)[0]
        / x
    )


@pytest.mark.parametrize(("n", "d"), [(6, 3), (210, 7), (10**6, 5), (10**12, 40)])
@pytest.mark.parametrize("known", [False, True])
def test_the_mean_divergence_keeps_its_relative_accuracy_when_it_is_small(n, d, known):
    first = 0 if known else 1
    terms = sum(log_minus_digamma((n - i) / 2) - math.log1p(-i / n) for i in range(first, d + first))
    inverse = d * (d + 1) / (n - d - 1) if known else d * (d + 3) / (n - d - 2)
    # Ten times the quadrature; what is subtracted in the reverse divergence is twice the difference.
    assert gaussian.expected_kl(n, d, known_mean=known) == pytest.approx(terms / 2, rel=1e-11)
    assert gaussian.expected_kl(n, d, True, known) == pytest.approx((inverse - terms) / 2, rel=3e-11)


def test_the_mean_divergence_is_infinite_where_the_fit_is_singular_or_its_inverse_has_no_mean():
    for known, shift in ((False, 0), (True, -1)):
        finite = [math.isfinite(gaussian.expected_kl(n + shift, 5, known_mean=known)) for n in (5, 6, 7, 8)]
        assert finite == [False, True, True, True]
        finite = [math.isfinite(gaussian.expected_kl(n + shift, 5, True, known)) for n in (5, 6, 7, 8)]
        assert finite == [False, False, False, True]


@pytest.mark.parametrize("gamma", [0.004, 0.1, 0.5, 0.9])
def test_the_limit_of_the_divergence_is_an_integral_over_marchenko_pastur(gamma):
    low, high = gaussian.marchenko_pastur_edges(gamma)
    middle, half = (low + high) / 2, (high - low) / 2

    def average(f):  # x = middle − half cos θ takes away the square roots at the edges
        def integrand(theta):
            x = middle - half * math.cos(theta)
            return f(x) * float(gaussian.marchenko_pastur(vector(x), gamma)) * half * math.sin(theta)

        return integrate.quad(integrand, 0, math.pi, epsabs=1e-13)[0]

    assert average(lambda x: 1.0) == pytest.approx(1, abs=1e-10)
    assert average(lambda x: x) == pytest.approx(1, abs=1e-10)
    assert average(lambda x: 1 / x) == pytest.approx(1 / (1 - gamma), rel=1e-9)
    assert average(lambda x: -math.log(x) / 2) == pytest.approx(gaussian.kl_per_dimension(gamma), abs=1e-10)
    assert average(lambda x: (1 / x - 1 + math.log(x)) / 2) == pytest.approx(
        gaussian.kl_per_dimension(gamma, reverse=True), abs=1e-9
    )


def test_the_divergence_per_dimension_approaches_its_limit():
    assert gaussian.kl_per_dimension(0.5) == pytest.approx(0.15343, abs=5e-6)  # GAU-7
    assert gaussian.kl_per_dimension(0.5, reverse=True) == pytest.approx(0.3466, abs=5e-5)
    for d in (100, 1000, 10_000):
        for reverse, constant in ((False, 0.5), (True, 4.0)):  # corrections of order 1/d
            exact = gaussian.expected_kl(2 * d, d, reverse, known_mean=True) / d
            assert exact == pytest.approx(gaussian.kl_per_dimension(0.5, reverse), abs=constant / d)
    assert gaussian.kl_per_dimension(1.0) == 0.5
    assert gaussian.kl_per_dimension(1.0, reverse=True) == gaussian.kl_per_dimension(1.5) == math.inf
    below, above = (gaussian.kl_per_dimension(g) / g for g in (0.01 * (1 - 1e-12), 0.01))
    assert below == pytest.approx(above, rel=1e-11)  # the closed form has lost 10⁻¹⁶/γ²
    assert gaussian.kl_per_dimension(0) == 0


# ------------------------------------------------------------------------------------------------- regularisation


@pytest.mark.parametrize("n", [4, 30])
def test_the_divergence_of_a_regularised_fit_is_that_of_its_gaussian(n):
    mean, covariance = law(6, 70)
    data, c = gaussian.sample(n, mean, covariance, seeded(27)), vector(0.01, 0.3, 2)
    fitted_mean, fitted = gaussian.fit(data)
    direct = torch.stack([gaussian.kl(fitted_mean, fitted + k * identity(6), mean, covariance) for k in c])
    torch.testing.assert_close(gaussian.ridge_kl(data, c, mean, covariance), direct, rtol=1e-11, atol=1e-11)
    assert math.isinf(float(gaussian.ridge_kl(data, vector(0), mean, covariance))) == (n <= 6)


@pytest.mark.parametrize("n", [5, 12, 60])
def test_the_best_ridge_is_the_minimum_of_the_divergence(n):
    d = 12
    covariance = torch.diag(1 / torch.arange(1, d + 1, dtype=F64))
    data = gaussian.sample(n, torch.zeros(d), covariance, seeded(28))
    best = gaussian.best_ridge(data, covariance)

    def divergence(log_c):
        return float(gaussian.ridge_kl(data, vector(math.exp(log_c)), torch.zeros(d), covariance))

    found = optimize.minimize_scalar(divergence, bounds=(-12, 3), method="bounded", options={"xatol": 1e-9})
    assert math.log(best) == pytest.approx(found.x, abs=1e-6)  # a minimum is located to √ε of its curvature
    assert divergence(found.x) < min(divergence(-12), divergence(3))


def test_a_fit_that_is_broad_enough_needs_no_ridge():
    data = gaussian.sample(50, torch.zeros(3), torch.eye(3), seeded(29))
    assert gaussian.best_ridge(data, 0.1 * identity(3)) == 0


def test_the_divergence_against_the_ridge_has_the_values_of_the_claim():
    d, draws, zero = 100, 12, torch.zeros(100)
    variances = 1 / torch.arange(1, d + 1, dtype=F64)
    covariance = torch.diag(variances)
    c = vector(1e-3, 1e-2, 1e-1)
    claim = {10: (139, 57, 178), 50: (70.9, 28.4, 172.9), 400: (6.4, 8.8, 170)}
    for n, expected in claim.items():
        data = (gaussian.sample(n, zero, covariance, seeded(n + k)) for k in range(draws))
        values = torch.stack([gaussian.ridge_kl(x, c, zero, covariance) for x in data])
        # The claim is one draw or a few: five of its standard deviations, and half a digit.
        assert bool(
            ((values.mean(0) - torch.tensor(expected)).abs() < 5 * values.std(0) + 0.5).all()
        )  # MER-10


# ------------------------------------------------------------------------------------------------- random matrices


@pytest.mark.parametrize(("d", "n"), [(300, 600), (300, 150)])
def test_the_eigenvalues_of_a_fit_to_white_data_follow_marchenko_pastur(d, n):
    gamma = d / n
    values = torch.linalg.eigvalsh(
        gaussian.fit(gaussian.sample(n, torch.zeros(d), torch.eye(d), seeded(30)), known_mean=True)[1]
    )
    low, high = gaussian.marchenko_pastur_edges(gamma)
    positive = values[values > 1e-9]
    assert len(positive) == min(n, d)
    # Tracy and Widom: edges fluctuate (mean −1.2, deviation 1.3) in units of this scale, the lower edge less.
    root_n, root_d = math.sqrt(n), math.sqrt(d)
    scale = (root_n + root_d) * (1 / root_n + 1 / root_d) ** (1 / 3) / n
    assert float(positive.max()) == pytest.approx(high, abs=6 * scale)
    assert float(positive.min()) == pytest.approx(low, abs=6 * scale)
    grid = torch.linspace(low, high, 200_001, dtype=F64)
    mass = torch.cumulative_trapezoid(gaussian.marchenko_pastur(grid, gamma), grid) / min(1, 1 / gamma)
    counts = torch.searchsorted(positive.sort().values, grid[1:]) / len(positive)
    # The counting function of eigenvalues is rigid: it differs from its limit by O(log d) of them.
    assert float((counts - mass).abs().max()) < math.log(d) / len(positive)


def test_marchenko_pastur_scales_with_the_variance():
    x = torch.linspace(0.01, 20, 50, dtype=F64)
    torch.testing.assert_close(
        gaussian.marchenko_pastur(x, 2.0, 3.0),
        gaussian.marchenko_pastur(x / 3, 2.0) / 3,
        rtol=1e-12,
        atol=1e-14,
    )
    assert float(gaussian.marchenko_pastur(vector(-1.0), 0.5)) == 0


def test_the_orthogonal_ensemble_has_entries_of_variance_one_and_twice_that_on_the_diagonal():
    d = 600
    g = gaussian.goe(d, seeded(31))
    off = g[torch.triu(torch.ones(d, d), 1) > 0]
    assert float(off.var()) == pytest.approx(1, abs=5 * math.sqrt(2 / len(off)))
    assert float(g.diagonal().var()) == pytest.approx(2, abs=5 * 2 * math.sqrt(2 / d))
    assert torch.equal(g, g.mT)
    norm = float(torch.linalg.eigvalsh(g).abs().max()) / (2 * math.sqrt(d))
    assert norm == pytest.approx(1, abs=3 * d ** (-2 / 3))  # GAU-5; Tracy–Widom


@pytest.mark.parametrize("strength", [0.6, 1.8])
def test_tridiagonal_spiked_matrices_have_the_law_of_dense_ones(strength):
    d, n, draws = 12, 20, 1500
    g = torch.randn(draws, d, d, generator=seeded(32), dtype=F64)
    wigner = (g + g.mT) / math.sqrt(2 * d)
    wigner[:, 3, 3] += strength
    x = torch.randn(draws, n, d, generator=seeded(33), dtype=F64)
    x[:, :, 3] *= math.sqrt(1 + strength)
    pairs = [
        (wigner, gaussian.spiked_wigner_sample(strength, d, draws, seeded(34))),
        (x.mT @ x / n, gaussian.spiked_covariance_sample(strength, d, n, draws, seeded(35))),
    ]
    for dense, quick in pairs:
        values, vectors = torch.linalg.eigh(dense)
        # Kolmogorov and Smirnov at the level 10⁻⁴
        assert stats.ks_2samp(values[:, -1], quick.eigenvalue).pvalue > 1e-4
        assert stats.ks_2samp(vectors[:, 3, -1] ** 2, quick.overlap).pvalue > 1e-4


@pytest.mark.parametrize("strength", [0.5, 1.5, 2.0])
def test_large_spiked_matrices_approach_the_transition_of_baik_ben_arous_and_peche(strength):
    d, draws = 10_000, 16
    cases = [
        (
            gaussian.spiked_wigner_sample(strength, d, draws, seeded(36)),
            gaussian.spiked_wigner(vector(strength)),
        ),
        (
            gaussian.spiked_covariance_sample(strength, d, 2 * d, draws, seeded(37)),
            gaussian.spiked_covariance(vector(strength), 0.5),
        ),
    ]
    for sample, limit in cases:  # GAU-8
        for drawn, exact in zip(sample, limit, strict=True):
            error = 5 * float(drawn.std()) / math.sqrt(draws)
            # Above the transition the bias is O(1/d), of relative size 1/(θ − 1)² at most; below it is d^{−2/3}.
            assert float(drawn.mean()) == pytest.approx(float(exact), abs=error + 4 * d ** (-2 / 3))


def test_the_transition_has_the_values_of_the_claim():
    wigner = gaussian.spiked_wigner(vector(0.7, 1.5, 2))
    torch.testing.assert_close(wigner.eigenvalue, vector(2, 2.1667, 2.5), rtol=0, atol=5e-5)
    torch.testing.assert_close(wigner.overlap, vector(0, 0.5556, 0.75), rtol=0, atol=5e-5)
    cov = gaussian.spiked_covariance(vector(0.1, 2), 0.5)
    edge = gaussian.marchenko_pastur_edges(0.5)[1]
    torch.testing.assert_close(cov.eigenvalue, vector(edge, 3.75), rtol=1e-12, atol=0)
    torch.testing.assert_close(cov.overlap, vector(0, 0.7), rtol=0, atol=1e-12)


def test_noise_on_equal_eigenvalues_gives_a_semicircle():
    v, x = 0.3, torch.linspace(0.2, 1.8, 41, dtype=F64)
    found = gaussian.noisy_eigenvectors(x, torch.ones(7, dtype=F64), v)
    circle = (4 * v - (found.energy - 1) ** 2).clamp(min=0).sqrt() / (2 * math.pi * v)
    torch.testing.assert_close(found.density, circle, rtol=0, atol=1e-7)  # square roots of 10⁻¹⁵ at the edges
    inside = found.density > 0
    assert bool(inside.any()) and not bool(inside.all())
    torch.testing.assert_close(found.overlaps[inside], torch.full_like(found.overlaps[inside], 1 / 7))


def test_the_noisy_spectrum_solves_the_equation_of_pastur_and_has_the_mass_one():
    spectrum, v = torch.linspace(0, 1, 200, dtype=F64), 0.05
    x = torch.linspace(-0.6, 1.6, 4001, dtype=F64)
    found = gaussian.noisy_eigenvectors(x, spectrum, v)
    mass = float(torch.trapezoid(found.density, found.energy))
    assert mass == pytest.approx(
        1, abs=5e-5
    )  # h^{3/2} from the roots at the edges, h = 6·10⁻⁴ in x and less in E
    bulk = found.density > 0
    torch.testing.assert_close(found.overlaps[bulk].sum(1), torch.ones(int(bulk.sum()), dtype=F64))
    energy, lam = found.energy[bulk].numpy(), spectrum.numpy()
    shift = (found.energy - x)[bulk].numpy() / v
    g = shift - 1j * math.pi * found.density[bulk].numpy()
    for k in range(0, len(g), 200):
        assert g[k] == pytest.approx(np.mean(1 / (energy[k] - lam - v * g[k])), abs=1e-9)


@pytest.mark.parametrize(("a", "low", "high"), [(0.5, -4.5, 5.5), (1.5, -0.6, 1.6)])
def test_eigenvectors_of_a_noisy_covariance_spread_as_rosenzweig_and_porter_say(a, low, high):
    d, draws = 300, 8
    spectrum = torch.linspace(0, 1, d, dtype=F64)
    noise = torch.stack([d ** (-a / 2) * gaussian.goe(d, seeded(40 + k)) for k in range(draws)])
    vectors = torch.linalg.eigh(torch.diag(spectrum) + noise).eigenvectors
    inverse = vectors.pow(4).sum(1).mean(1)  # per draw: the mean over eigenvectors of Σ_i ⟨u_i|v⟩⁴
    x = torch.linspace(low, high, 2001, dtype=F64)
    theory = gaussian.noisy_eigenvectors(x, spectrum, d ** (1 - a))
    mean = torch.trapezoid(3 * theory.overlaps.square().sum(1) * theory.density, theory.energy)
    spread = min(
        d, math.pi * d ** (2 - a)
    )  # neighbours within a half-width; corrections are of relative order 3/spread
    error = 5 * float(inverse.std()) / math.sqrt(draws)
    assert float(inverse.mean()) == pytest.approx(float(mean), abs=error + 3 / spread * float(mean))  # GAU-6


def test_eigenvectors_are_kept_above_two_and_lost_below():
    d = 512
    spectrum = torch.rand(d, generator=seeded(50), dtype=F64).sort().values
    values, overlap = {}, {}
    for a in (0.5, 1.5, 2.5):
        moved, vectors = torch.linalg.eigh(torch.diag(spectrum) + d ** (-a / 2) * gaussian.goe(d, seeded(51)))
        values[a] = float((moved - spectrum).abs().max())
        overlap[a] = float(vectors.diagonal().square().median())
    # GAU-6: 9.0, .19, .002 and .001, .003, .72; Weyl bounds the shifts by the norm 2 d^{(1−a)/2} = 9.5, .42, .019
    assert values[0.5] > 5 and values[1.5] < 0.42 * 1.1 and values[2.5] < 0.019 * 1.1
    assert overlap[0.5] < 0.01 and overlap[1.5] < 0.01 and overlap[2.5] > 0.5


def test_participation_counts_axes():
    o = torch.tensor([[1.0, 0, 0, 0], [0.25, 0.25, 0.25, 0.25], [0.5, 0.5, 0, 0]])
    assert gaussian.participation(o).tolist() == [1, 4, 2]


# ------------------------------------------------------------------------------------------------- bad input


M, C, X = torch.zeros(2), torch.eye(2), torch.zeros(3, 2)
FLAT, SKEW = torch.ones(2, 2), torch.tensor([[1.0, 0.5], [0.0, 1.0]])


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("t", lambda: gaussian.score(X, 0.0, M, C)),
        ("t", lambda: gaussian.score(X, -1, M, C)),
        ("t", lambda: gaussian.score(X, NAN, M, C)),
        ("t", lambda: gaussian.score(X, torch.tensor([0.1, 0.2]), M, C)),
        ("t", lambda: gaussian.score(X, torch.tensor([0.1, 0.2, 0.0]), M, C)),
        ("covariance", lambda: gaussian.score(X, 0.1, M, FLAT)),
        ("covariance", lambda: gaussian.score(X, 0.1, M, SKEW)),
        ("covariance", lambda: gaussian.score(X, 0.1, M, -C)),
        ("covariance", lambda: gaussian.score(X, 0.1, M, torch.ones(2))),
        ("covariance", lambda: gaussian.score(X, 0.1, M, C * NAN)),
        ("mean", lambda: gaussian.score(X, 0.1, torch.zeros(3), C)),
        ("x", lambda: gaussian.score(torch.zeros(3, 4), 0.1, M, C)),
        ("x", lambda: gaussian.score(torch.zeros(3, 2, dtype=torch.int64), 0.1, M, C)),
        ("x", lambda: gaussian.log_density(X * NAN, 0.1, M, C)),
        ("n", lambda: gaussian.sample(0, M, C)),
        ("covariance", lambda: gaussian.sample(3, M, -C)),
        ("t_end", lambda: gaussian.generate(X, 0.1, 0.2, M, C)),
        ("eta", lambda: gaussian.generate(X, 0.2, 0.1, M, C, eta=-1.0)),
        ("data", lambda: gaussian.optimal_linear_score(X[:0], 0.1)),
        ("data", lambda: gaussian.fit(torch.zeros(3))),
        ("t", lambda: gaussian.optimal_linear_score(X, 0.0)),
        ("ridge", lambda: gaussian.optimal_linear_score(X, 0.1, ridge=-1.0)),
        ("x", lambda: gaussian.optimal_linear_score(X, 0.1)(torch.zeros(3, 3))),
        ("tau", lambda: gaussian.early_stopped_score(X, 0.1, -1.0)),
        ("tau", lambda: gaussian.early_stopped_variance(M, 0.0)),
        ("variances", lambda: gaussian.learned_fraction(-C[0], 1.0)),
        ("n", lambda: gaussian.expected_weight_error(0, 0.1, C)),
        ("alpha_bar", lambda: gaussian.linear_ddpm(1.0, M, C)),
        ("alpha_bar", lambda: gaussian.linear_ddpm(0.0, M, C)),
        ("times", lambda: gaussian.ddim_variance(M, torch.tensor([0.1, 0.2]))),
        ("cov_p", lambda: gaussian.kl(M, FLAT, M, C)),
        ("cov_q", lambda: gaussian.kl(M, C, M, SKEW)),
        ("cov_q", lambda: gaussian.kl(M, C, M, torch.eye(3))),
        ("mean_q", lambda: gaussian.kl(M, C, torch.zeros(1), C)),
        ("n", lambda: gaussian.expected_kl(0, 3)),
        ("n", lambda: gaussian.expected_kl(2.5, 3)),
        ("d", lambda: gaussian.expected_kl(5, 0)),
        ("gamma", lambda: gaussian.kl_per_dimension(-0.1)),
        ("c", lambda: gaussian.ridge_kl(X, torch.tensor([-1.0]), M, C)),
        ("covariance", lambda: gaussian.ridge_kl(X, torch.tensor([1.0]), M, torch.eye(3))),
        ("covariance", lambda: gaussian.best_ridge(X, FLAT)),
        ("gamma", lambda: gaussian.marchenko_pastur(M, 0.0)),
        ("d", lambda: gaussian.goe(0)),
        ("theta", lambda: gaussian.spiked_wigner(torch.tensor([-1.0]))),
        ("ell", lambda: gaussian.spiked_covariance(torch.tensor([NAN]), 0.5)),
        ("n", lambda: gaussian.spiked_covariance_sample(1.0, 10, 5)),
        ("noise", lambda: gaussian.noisy_eigenvectors(M, M, 0.0)),
        ("overlaps", lambda: gaussian.participation(-C)),
    ],
)
def test_bad_input_is_refused_by_name(name, call):
    with pytest.raises(ValueError, match=rf"^{name}: got .*expected"):
        call()
