"""Energy-based models: quadrature, enumeration, autograd, torch.distributions, scikit-learn and exact averages over paths."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from numpy.polynomial import hermite_e
from scipy import integrate, optimize
from sklearn.decomposition import PCA

from physgen.energies import energy_models as em
from physgen.memories import hebbian

NAN, INF = float("nan"), float("inf")
D = torch.float64


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def normal(*shape, seed):
    return torch.randn(*shape, generator=seeded(seed), dtype=D)


def spd(d, seed):
    a = normal(d, 2 * d, seed=seed)
    return a @ a.T / (2 * d)


def line(reach, n):
    return torch.linspace(-reach, reach, n, dtype=D)


def log_normal(x, mean=0.0, std=1.0):
    return -0.5 * ((x - mean) / std) ** 2 - math.log(std) - 0.5 * math.log(2 * math.pi)


def example():
    """The decoder and the datum of LEC-22."""
    rng = np.random.default_rng(0)
    return torch.tensor(rng.standard_normal((4, 2))), torch.tensor(rng.standard_normal(4))


def gaussian(covariance):
    return torch.distributions.MultivariateNormal(torch.zeros(len(covariance), dtype=D), covariance)


# ------------------------------------------------------------------------------------------------- inference


@pytest.mark.parametrize(("kappa", "steps", "formula"), [(10, 69, 68.85), (100, 691, 690.75)])
def test_descent_on_a_quadratic_takes_the_steps_of_its_condition_number(kappa, steps, formula):
    curvature = torch.tensor([1.0, kappa], dtype=D)
    best = em.optimal_descent(1, kappa)
    path = em.gradient_descent(lambda y: curvature * y, torch.ones(2, dtype=D), rate=best.rate, steps=800)
    error = path.norm(dim=1) / path[0].norm()
    assert int((error > 1e-6).sum()) == steps  # LEC-02
    assert em.descent_steps(kappa, 1e-6) == pytest.approx(formula, abs=5e-3)


def test_every_mode_of_a_plain_descent_shrinks_by_one_minus_rate_times_curvature():
    curvature = torch.tensor([0.3, 1.0, 2.5], dtype=D)
    path = em.gradient_descent(lambda y: curvature * y, torch.ones(3, dtype=D), rate=0.6, steps=30)
    k = torch.arange(31, dtype=D)[:, None]
    torch.testing.assert_close(path, (1 - 0.6 * curvature) ** k, rtol=1e-12, atol=0)


def test_the_heavy_ball_follows_its_double_roots_and_needs_the_root_of_the_condition_number():
    kappa, curvature = 100.0, torch.tensor([1.0, 100.0], dtype=D)
    rate, momentum, r = em.optimal_descent(1, kappa, accelerated=True)
    path = em.gradient_descent(
        lambda y: curvature * y, torch.ones(2, dtype=D), rate=rate, steps=60, momentum=momentum
    )
    # At the two ends of the spectrum both roots of x² − (1 + r² − rate λ)x + r² are ±r: x_k = (1 + k(1 ∓ r))(±r)^k.
    k = torch.arange(61, dtype=D)
    expected = torch.stack([(1 + k * (1 - r)) * r**k, (1 + k * (1 + r)) * (-r) ** k], 1)
    torch.testing.assert_close(path, expected, rtol=1e-9, atol=1e-15)
    assert em.descent_steps(kappa, 1e-6, accelerated=True) == pytest.approx(
        math.log(1e6) / math.log(11 / 9), rel=1e-12
    )


@pytest.mark.parametrize("accelerated", [False, True])
def test_no_other_constants_contract_faster(accelerated):
    low, high = 0.7, 9.0

    def slowest(rate, momentum):
        worst = 0.0
        for curvature in (low, high):
            worst = max(worst, *map(abs, np.roots([1, -(1 + momentum - rate * curvature), momentum])))
        return worst

    best = em.optimal_descent(low, high, accelerated)
    # Near a double root the modulus of the roots is only accurate to the root of the rounding.
    assert slowest(best.rate, best.momentum) == pytest.approx(best.contraction, abs=1e-7)
    for shift in (-0.01, 0.01):
        assert slowest(best.rate * (1 + shift), best.momentum) > best.contraction + 1e-4
        if accelerated:
            assert slowest(best.rate, best.momentum * (1 + shift)) > best.contraction + 1e-4


def test_a_descent_that_diverges_says_so():
    with pytest.raises(ValueError, match="rate: got 3"):
        em.gradient_descent(lambda y: y, torch.ones(1, dtype=D), rate=3.0, steps=2000)


# ------------------------------------------------------------------------------------------------- free energies


def test_the_free_energy_is_adaptive_quadrature_with_and_without_a_prior():
    z, beta = line(9, 1801), 2.0

    def f(u):
        return 0.2 * u**4 - 0.7 * u**2 + 0.3 * u

    # The trapezoidal rule on an analytic function that is gone at the ends: as good as its arithmetic.
    exact = -math.log(integrate.quad(lambda u: math.exp(-beta * f(u)), -9, 9, epsabs=1e-13)[0]) / beta
    assert float(em.free_energy(f(z), z, beta)) == pytest.approx(exact, abs=1e-12)
    weighted = integrate.quad(lambda u: math.exp(log_normal(u, 0.5, 0.8) - beta * f(u)), -9, 9, epsabs=1e-13)[
        0
    ]
    found = em.free_energy(f, z, beta, lambda u: log_normal(u, 0.5, 0.8))
    assert float(found) == pytest.approx(-math.log(weighted) / beta, abs=1e-12)


def test_the_grid_may_be_uneven_and_energies_come_in_batches():
    z = torch.cat([line(6, 1201), torch.linspace(6.1, 9, 30, dtype=D)])
    centres = torch.tensor([[0.0], [0.4]], dtype=D)
    free = em.free_energy((z - centres) ** 2, z, 3.0)
    # ∫ e^{−β(z − c)²} dz = √(π/β)
    torch.testing.assert_close(
        free, torch.full((2,), -0.5 * math.log(math.pi / 3) / 3, dtype=D), rtol=1e-12, atol=0
    )


def test_a_cold_free_energy_is_the_minimum_with_laplaces_correction():
    z, log_p = line(6, 24001), log_normal(line(6, 24001))

    def f(u):
        return (u - 1) ** 2 * (u + 2) ** 2 + 0.5 * (u - 1) ** 2

    assert float(em.free_energy(f(z), z, INF, log_p)) == pytest.approx(0, abs=1e-15)  # LEC-05
    beta, curvature = 2000.0, 19.0
    laplace = math.log(beta * curvature / (2 * math.pi)) / (2 * beta) - log_normal(1.0) / beta
    # The next order is O(1/β²), with a constant of order one.
    assert float(em.free_energy(f(z), z, beta, log_p)) == pytest.approx(laplace, abs=5 / beta**2)
    walled = torch.where(z > 0, -INF, log_p)
    assert float(em.free_energy(f(z), z, INF, walled)) == pytest.approx(float(f(z[z <= 0]).min()), abs=1e-15)


def test_a_wall_takes_its_half_of_the_space():
    z = line(8, 3201)
    whole, half = em.free_energy(z**2 / 2, z, 1.0), em.free_energy(torch.where(z < 0, INF, z**2 / 2), z, 1.0)
    # At the wall itself the rule counts a full spacing in place of half: 0.0025/√(2π)/½ of the whole.
    assert float(half - whole) == pytest.approx(math.log(2), abs=2.1e-3)


def test_the_derivative_of_the_free_energy_is_the_average_over_the_gibbs_law():
    z, beta = line(6, 1201), 2.5
    a = torch.tensor([0.5, 0.3], dtype=D, requires_grad=True)
    free = em.free_energy(a[0] * z**4 - a[1] * z, z, beta, log_normal(z))
    (slope,) = torch.autograd.grad(free, a)
    q = em.gibbs((a[0] * z**4 - a[1] * z).detach(), z, beta, log_normal(z))
    average = torch.stack([torch.trapezoid(q * z**4, z), -torch.trapezoid(q * z, z)])
    torch.testing.assert_close(slope, average, rtol=1e-12, atol=0)


def test_the_gibbs_law_is_normalised_and_concentrates_on_the_minimum_when_cold():
    z = line(4, 8001)
    energy = (z**2 - 1) ** 2 + 0.3 * z
    for beta in (0.1, 1.0, 100.0):
        assert float(torch.trapezoid(em.gibbs(energy, z, beta), z)) == pytest.approx(1, abs=1e-12)
    cold = em.gibbs(energy, z, 100.0)
    lowest = z[energy.argmin()]
    # LEC-04: a Gaussian of variance 1/βf''; its mean is off by the anharmonicity, of the order of 1/β.
    assert float(torch.trapezoid(cold * z, z)) == pytest.approx(float(lowest), abs=0.01)
    spread = torch.trapezoid(cold * (z - lowest) ** 2, z)
    assert float(spread) == pytest.approx(1 / (100 * (12 * float(lowest) ** 2 - 4)), rel=0.05)


def test_the_partition_function_of_a_conditional_model_depends_on_the_condition():
    y, beta = line(6, 2401), 2.5
    log_z = [-beta * float(em.free_energy(y**4 / 8 - x * y - y**2 / 2, y, beta)) for x in (0.0, 0.7)]
    assert log_z[1] - log_z[0] > 0.5  # LEC-04
    bounded = [em.free_energy(torch.tanh(line(r, 20 * r + 1)), line(r, 20 * r + 1), 1.0) for r in (400, 800)]
    # An energy that is bounded has no Z: it doubles with the box, up to the two ends.
    assert float(bounded[0] - bounded[1]) == pytest.approx(math.log(2), abs=5e-3)


def test_an_energy_of_slope_l_gives_no_density_above_beta_l_over_two():
    y, beta, slope = line(40, 80001), 1.7, 1.3
    highest = float(em.gibbs(slope * y.abs(), y, beta).max())
    # LEC-03: Laplace's law has the bound; the kink costs the trapezoidal rule (βL dz)²/12.
    assert highest == pytest.approx(beta * slope / 2, rel=(beta * slope * 1e-3) ** 2)
    for seed in range(5):
        kinks = normal(6, seed=seed) * 5
        f = slope * torch.stack([(y - c).abs() for c in kinks]).amin(0)  # slope L again, six wells
        assert float(em.gibbs(f, y, beta).max()) < beta * slope / 2


def test_the_gap_of_the_bound_is_the_divergence_from_the_posterior_and_the_prior_stays():
    z, beta = line(5, 401), 3.0
    energy, log_p = (1.2 - z.sin()) ** 2, log_normal(z)
    free, q = em.free_energy(energy, z, beta, log_p), em.gibbs(energy, z, beta, log_p)
    assert float(free) == pytest.approx(0.5308339, abs=3e-7)  # LEC-25, to what ±5 cuts off
    assert float(em.variational_free_energy(q, energy, z, beta, log_p)) == pytest.approx(
        float(free), abs=1e-13
    )
    for other in (em.gibbs(energy, z, beta), log_normal(z, 0.3, 0.7).exp(), em.gibbs(energy, z, 1.0, log_p)):
        other = other / torch.trapezoid(other, z)
        bound = em.variational_free_energy(other, energy, z, beta, log_p)
        gap = em.relative_entropy(other, q, z) / beta
        assert float(bound - free) == pytest.approx(float(gap), abs=1e-13)
        assert float(gap) > 1e-3


def test_without_the_prior_the_printed_minimiser_is_worse_on_every_wider_box():
    beta, excess = 3.0, []
    for reach in (5, 8, 11):
        z = line(reach, 1601)
        energy, log_p = (1.2 - z.sin()) ** 2, log_normal(z)
        printed = em.variational_free_energy(em.gibbs(energy, z, beta), energy, z, beta, log_p)
        excess.append(float(printed - em.free_energy(energy, z, beta, log_p)))
    # LEC-25: e^{−βE} of a periodic energy has no normaliser on the line; the notes' law depends on the box.
    assert 1.0 < excess[0] < excess[1] < excess[2]
    flat = em.variational_free_energy(em.gibbs(energy, z, beta), energy, z, beta)
    assert float(flat) == pytest.approx(float(em.free_energy(energy, z, beta)), abs=1e-12)


def test_the_variational_free_energy_is_infinite_where_the_prior_forbids():
    z = line(3, 301)
    half = torch.where(z > 0, -INF, 0.0)
    q = log_normal(z).exp()
    assert float(em.variational_free_energy(q, z**2, z, 1.0, half)) == INF
    allowed = em.gibbs(z**2, z, 1.0, half)
    assert math.isfinite(float(em.variational_free_energy(allowed, z**2, z, 1.0, half)))


def test_the_information_gain_of_gaussians_is_closed_and_has_a_direction():
    z = line(14, 14001)
    narrow, wide = log_normal(z, 1, 0.5).exp(), log_normal(z).exp()
    for q, p, expected in ((narrow, wide, 0.818147), (wide, narrow, 2.806853)):
        assert float(em.relative_entropy(q, p, z)) == pytest.approx(expected, abs=5e-7)  # LEC-23
    divergence = torch.distributions.kl_divergence(
        torch.distributions.Normal(1.0, 0.5), torch.distributions.Normal(0.0, 1.0)
    )
    assert float(em.relative_entropy(narrow, wide, z)) == pytest.approx(float(divergence), abs=1e-6)
    entropy = -float(em.relative_entropy(narrow, torch.ones_like(z), z))
    assert entropy == pytest.approx(0.5 * math.log(2 * math.pi * math.e / 4), abs=1e-12)
    assert float(em.relative_entropy(wide, torch.where(z < 0, wide, 0.0), z)) == INF


# ------------------------------------------------------------------------------------------------- a linear decoder


@pytest.mark.parametrize(
    ("beta", "expected", "tolerance"),
    [(1, 3.692349227, 5e-10), (10, 2.7015795, 5e-8), (1000, 2.38619, 5e-6), (INF, 2.37841, 5e-6)],
)
def test_the_gaussian_free_energy_has_the_values_of_the_claim(beta, expected, tolerance):
    w, y = example()
    assert float(em.gaussian_free_energy(y, w, beta)) == pytest.approx(expected, abs=tolerance)  # LEC-22


@pytest.mark.parametrize("beta", [0.3, 1.0, 3.0])
def test_the_gaussian_free_energy_is_a_two_dimensional_quadrature(beta):
    w, y = example()
    nodes, weights = hermite_e.hermegauss(80)
    z = torch.tensor(np.stack(np.meshgrid(nodes, nodes), -1).reshape(-1, 2))
    log_p = torch.tensor(np.log(np.outer(weights, weights).ravel() / (2 * math.pi)))
    energy = (y - z @ w.T).square().sum(1)
    free = -torch.logsumexp(log_p - beta * energy, 0) / beta
    # A Gaussian e^{−βs²z²} against Hermite polynomials: the error falls like (2βs²/(1 + 2βs²))^80 with s² ≤ 1.9.
    assert float(em.gaussian_free_energy(y, w, beta)) == pytest.approx(float(free), abs=3e-4 * beta**3 + 1e-9)


@pytest.mark.parametrize(("m", "k"), [(4, 2), (3, 3), (2, 5), (6, 1)])
def test_minus_beta_f_is_the_log_density_of_probabilistic_pca(m, k):
    w, y, beta = normal(m, k, seed=m), normal(7, m, seed=k), 1.7
    log_p = gaussian(w @ w.T + torch.eye(m, dtype=D) / (2 * beta)).log_prob(y)
    constant = -m / 2 * math.log(math.pi / beta)
    torch.testing.assert_close(
        -beta * em.gaussian_free_energy(y, w, beta) + constant, log_p, rtol=0, atol=1e-12
    )


def test_the_free_energy_falls_to_its_minimum_over_z_without_loss_of_digits():
    w, y = example()
    limit = float((y - w @ torch.linalg.lstsq(w, y[:, None]).solution[:, 0]).square().sum())
    assert float(em.gaussian_free_energy(y, w, INF)) == pytest.approx(limit, rel=1e-14)
    for beta in (1e8, 1e12, 1e16):
        # F_β − F = (1/2β) log det(I + 2βWᵀW) + O(1/β), and det(WᵀW) < 100.
        assert (
            0 < float(em.gaussian_free_energy(y, w, beta)) - limit < (math.log(2 * beta) + 4) / beta + 1e-14
        )
    inside = w @ torch.tensor([1.0, -2.0], dtype=D)
    assert float(em.gaussian_free_energy(inside, w, 1e16)) < 1e-13


def test_a_decoder_of_full_row_rank_explains_everything_and_one_of_low_rank_its_span():
    y = normal(5, 3, seed=1)
    assert float(em.gaussian_free_energy(y, normal(3, 6, seed=2), INF).max()) < 1e-28  # LEC-21
    column = normal(3, 1, seed=3)
    lame = torch.cat([column, 2 * column], 1)
    direction = column[:, 0] / column.norm()
    expected = y.square().sum(1) - (y @ direction).square()
    torch.testing.assert_close(em.gaussian_free_energy(y, lame, INF), expected, rtol=0, atol=1e-13)
    assert bool(em.gaussian_free_energy(y, lame, 1e12).isfinite().all())


@pytest.mark.parametrize("beta", [0.8, 1e4, INF])
def test_the_gaussian_free_energy_can_be_learned_from(beta):
    w, y = example()
    w, y = w.clone().requires_grad_(), torch.stack([y, -0.3 * y + 1]).requires_grad_()
    assert torch.autograd.gradcheck(lambda a, b: em.gaussian_free_energy(a, b, beta), (y, w))


def test_the_mean_energy_of_pca_is_the_sum_of_the_discarded_variances():
    data = normal(500, 4, seed=4) @ normal(4, 4, seed=5)
    pca = PCA(4).fit(data.numpy())
    basis = torch.tensor(pca.components_[:2].T.copy())
    mean = em.gaussian_free_energy(data - data.mean(0), basis, INF).mean()
    # LEC-09; scikit-learn divides by n − 1.
    assert float(mean) == pytest.approx(pca.explained_variance_[2:].sum() * 499 / 500, rel=1e-12)


def test_the_posterior_is_the_conditional_law_of_the_joint_gaussian():
    w, y = example()
    beta = 1.3
    joint = w @ w.T + torch.eye(4, dtype=D) / (2 * beta)
    gain = torch.linalg.solve(joint, w).T
    posterior = em.gaussian_posterior(y, w, beta)
    torch.testing.assert_close(posterior.mean, gain @ y, rtol=1e-12, atol=0)
    torch.testing.assert_close(posterior.covariance, torch.eye(2, dtype=D) - gain @ w, rtol=0, atol=1e-14)


def test_the_bound_is_tight_at_the_posterior_and_above_by_the_divergence_elsewhere():
    w, y = example()
    y, beta = torch.stack([y, 2 * y]), 1.3
    posterior = em.gaussian_posterior(y, w, beta)
    free = em.gaussian_free_energy(y, w, beta)
    torch.testing.assert_close(em.gaussian_bound(y, w, beta, posterior), free, rtol=0, atol=1e-13)
    other = em.Posterior(posterior.mean + torch.tensor([0.1, -0.3], dtype=D), spd(2, seed=6))
    divergence = torch.distributions.kl_divergence(
        torch.distributions.MultivariateNormal(other.mean, other.covariance),
        torch.distributions.MultivariateNormal(posterior.mean, posterior.covariance),
    )
    torch.testing.assert_close(
        em.gaussian_bound(y, w, beta, other) - free, divergence / beta, rtol=0, atol=1e-13
    )


def test_the_bound_is_that_of_the_quadrature_in_one_latent_dimension():
    w, y, beta = normal(3, 1, seed=7), normal(3, seed=8), 0.9
    z = line(12, 4801)
    energy = (y - z[:, None] * w[:, 0]).square().sum(1)
    q = em.Posterior(torch.tensor([0.4], dtype=D), torch.tensor([[0.49]], dtype=D))
    by_grid = em.variational_free_energy(log_normal(z, 0.4, 0.7).exp(), energy, z, beta, log_normal(z))
    assert float(em.gaussian_bound(y, w, beta, q)) == pytest.approx(float(by_grid), abs=1e-12)
    assert float(em.gaussian_free_energy(y, w, beta)) == pytest.approx(
        float(em.free_energy(energy, z, beta, log_normal(z))), abs=1e-12
    )


def test_no_factorised_posterior_does_better_than_the_mean_field_one():
    w, y = example()
    beta = 2.0

    def excess(at):
        q = em.Posterior(torch.tensor(at[:2]), torch.diag(torch.tensor(np.exp(at[2:]))))
        return beta * float(em.gaussian_bound(y, w, beta, q) - em.gaussian_free_energy(y, w, beta))

    best = optimize.minimize(excess, np.zeros(4), method="BFGS", options={"gtol": 1e-8})
    assert em.mean_field_gap(w, beta) == pytest.approx(best.fun, abs=1e-9)
    mean_field = em.gaussian_posterior(y, w, beta, factorised=True)
    np.testing.assert_allclose(mean_field.mean, best.x[:2], atol=1e-5)
    np.testing.assert_allclose(mean_field.covariance.diagonal(), np.exp(best.x[2:]), rtol=1e-5)
    bound = em.gaussian_bound(y, w, beta, mean_field) - em.gaussian_free_energy(y, w, beta)
    assert beta * float(bound) == pytest.approx(em.mean_field_gap(w, beta), abs=1e-12)
    orthogonal = torch.linalg.qr(w).Q * torch.tensor([1.0, 3.0], dtype=D)
    assert em.mean_field_gap(orthogonal, beta) == pytest.approx(0, abs=1e-14)


def test_probabilistic_pca_is_scikit_learns():
    data = normal(400, 5, seed=9) @ normal(5, 5, seed=10)
    data = data - data.mean(0)
    covariance = data.T @ data / 399
    peer = PCA(2).fit(data.numpy())
    w, beta = em.probabilistic_pca(covariance, 2)
    assert 1 / (2 * beta) == pytest.approx(peer.noise_variance_, rel=1e-12)
    np.testing.assert_allclose(w @ w.T + torch.eye(5) / (2 * beta), peer.get_covariance(), atol=1e-11)
    ours = -beta * em.gaussian_free_energy(data, w, beta) - 5 / 2 * math.log(math.pi / beta)
    np.testing.assert_allclose(ours, peer.score_samples(data.numpy()), atol=1e-11)


@pytest.mark.parametrize(("rank", "beta"), [(2, 3.0), (4, 0.4), (4, 50.0)])
def test_the_decoder_of_probabilistic_pca_minimises_the_mean_free_energy(rank, beta):
    covariance = spd(4, seed=11)
    w = em.probabilistic_pca(covariance, rank, beta).decoder

    def mean_free_energy(decoder):
        rate, distortion = em.rate_distortion(covariance, decoder, beta)
        return distortion + rate / beta

    best = mean_free_energy(w)
    for seed in range(20):
        # Second order in a step of 10⁻³; rotations of the latent cost nothing.
        assert mean_free_energy(w + 1e-3 * normal(4, rank, seed=seed)) >= best - 1e-12
        assert mean_free_energy(normal(4, rank, seed=seed)) > best


def test_rate_and_distortion_are_averages_over_the_data():
    w, beta, covariance = normal(4, 2, seed=12), 1.5, spd(4, seed=13)
    found = em.rate_distortion(covariance, w, beta)
    # All is quadratic in y: averages are exact over any points with this covariance, here ±√4 the columns of its root.
    root = torch.linalg.cholesky(covariance)
    y = 2 * torch.cat([root.T, -root.T])
    posterior = em.gaussian_posterior(y, w, beta)
    prior = torch.distributions.MultivariateNormal(torch.zeros(2, dtype=D), torch.eye(2, dtype=D))
    law = torch.distributions.MultivariateNormal(posterior.mean, posterior.covariance)
    assert found.rate == pytest.approx(float(torch.distributions.kl_divergence(law, prior).mean()), rel=1e-12)
    free = em.gaussian_free_energy(y, w, beta).mean()
    assert found.distortion + found.rate / beta == pytest.approx(float(free), rel=1e-12)


@pytest.mark.parametrize("beta", [0.1, 0.5, 3.0, 40.0])
def test_the_best_linear_decoder_is_on_shannons_curve(beta):
    covariance = spd(4, seed=14)
    w = em.probabilistic_pca(covariance, 4, beta).decoder
    ours = em.rate_distortion(covariance, w, beta)
    shannon = em.reverse_water_filling(torch.linalg.eigvalsh(covariance), 1 / (2 * beta))
    assert ours == pytest.approx(shannon, rel=1e-10, abs=1e-13)  # LEC-24


def test_reverse_water_filling_divides_the_distortion_best():
    v, level = np.array([2.0, 0.9, 0.2, 0.05]), 0.35
    rate, distortion = em.reverse_water_filling(torch.tensor(v), level)
    best = optimize.minimize(
        lambda d: 0.5 * np.log(v / d).sum(),
        np.full(4, distortion / 8),
        bounds=[(1e-6, x) for x in v],
        constraints={"type": "ineq", "fun": lambda d: distortion - d.sum()},
        method="SLSQP",
        options={"ftol": 1e-13, "maxiter": 500},
    )
    assert rate == pytest.approx(best.fun, abs=1e-6)


# ------------------------------------------------------------------------------------------------- likelihood


def polynomials():
    """The quartic family of EBM-3 and the two Gaussians that it is held to."""
    x = line(10, 8001)
    p = (log_normal(x, 1, 0.5).exp() + log_normal(x, -1, 0.5).exp()) / 2
    features = torch.stack([x**2 / 2, x**4], 1)
    return x, p, features, torch.trapezoid(p[:, None] * features, x, dim=0)


def test_the_likelihood_and_its_derivatives_have_the_values_of_the_claims():
    x, p, features, seen = polynomials()
    found = em.exponential_family(torch.tensor([0.3, 0.2], dtype=D), seen, features, x)
    assert float(found.value) == pytest.approx(1.616045, abs=5e-7)  # EBM-3
    model = em.gibbs(features @ torch.tensor([0.3, 0.2], dtype=D), x, 1.0)
    divergence, entropy = em.relative_entropy(p, model, x), -em.relative_entropy(p, torch.ones_like(p), x)
    assert float(divergence) == pytest.approx(0.257533, abs=5e-7)
    assert float(divergence + entropy) == pytest.approx(float(found.value), abs=1e-12)
    np.testing.assert_allclose(found.gradient, [0.2934871, 1.6861347], atol=5e-8)  # EBM-4
    np.testing.assert_allclose(
        found.hessian, [[0.140441, 0.723452], [0.723452, 4.464238]], atol=5e-7
    )  # EBM-5
    assert np.linalg.cond(found.hessian) == pytest.approx(203, abs=0.5)


def test_gradient_and_hessian_are_finite_differences_of_the_likelihood():
    x, _, features, seen = polynomials()
    theta = torch.tensor([0.3, 0.2], dtype=D, requires_grad=True)

    def value(t):
        # The definition: ⟨θ, E φ⟩ + log ∫ e^{−⟨θ, φ⟩}.
        return t @ seen + torch.trapezoid(torch.exp(-features @ t), x).log()

    found = em.exponential_family(theta.detach(), seen, features, x)
    (slope,) = torch.autograd.grad(value(theta), theta)
    torch.testing.assert_close(found.gradient, slope, rtol=1e-11, atol=0)
    torch.testing.assert_close(
        found.hessian, torch.autograd.functional.hessian(value, theta.detach()), rtol=1e-10, atol=0
    )
    step = 1e-5
    for i in range(2):
        shift = step * torch.eye(2, dtype=D)[i]
        difference = value(theta.detach() + shift) - value(theta.detach() - shift)
        # Central differences: h² in truncation, 10⁻¹⁶/h in rounding.
        assert float(difference / (2 * step)) == pytest.approx(float(found.gradient[i]), abs=1e-8)


def test_the_likelihood_is_convex_between_any_two_models():
    x, _, features, seen = polynomials()
    for seed in range(10):
        a, b = normal(2, 2, seed=seed).exp()
        ends = [em.exponential_family(t, seen, features, x).value for t in (a, b)]
        middle = em.exponential_family((a + b) / 2, seen, features, x)
        assert float(middle.value) < float(ends[0] + ends[1]) / 2
        assert float(torch.linalg.eigvalsh(middle.hessian)[0]) > 0


def test_the_gradient_of_a_conditional_model_is_that_of_the_claim():
    y, beta, x, seen = line(6, 4801), 2.5, 0.7, torch.tensor([0.4], dtype=D)
    theta = torch.tensor([0.5, 1.0, -1.0], dtype=D)

    def f(t, u):
        return t[0] * u**4 / 4 - t[1] * x * u + t[2] * u**2 / 2

    weights = em.gibbs(f(theta, y), y, beta)
    gradient = em.likelihood_gradient(f, theta, seen, y, weights)
    np.testing.assert_allclose(gradient, [-2.01147524, 0.78538289, -1.20518379], atol=1e-8)  # LEC-13
    t = theta.clone().requires_grad_()
    loss = f(t, seen)[0] - em.free_energy(f(t, y), y, beta)  # (5.1.9)
    (slope,) = torch.autograd.grad(loss, t)
    torch.testing.assert_close(gradient, slope, rtol=1e-11, atol=0)
    log_p = em.gibbs(f(theta, y), y, beta)[(y - 0.4).abs().argmin()].log()
    assert float(loss.detach()) == pytest.approx(float(-log_p) / beta, abs=1e-12)  # LEC-12


def test_the_gradient_serves_energies_that_are_not_linear_in_their_parameters():
    x = line(7, 2801)
    theta = torch.tensor([0.8, -0.3], dtype=D)

    def u(t, z):
        return torch.cosh(t[0] * z) + torch.sin(t[1] * z)

    data = normal(50, seed=15)
    gradient = em.likelihood_gradient(u, theta, data, x, em.gibbs(u(theta, x), x, 1.0))
    t = theta.clone().requires_grad_()
    (slope,) = torch.autograd.grad(u(t, data).mean() - em.free_energy(u(t, x), x, 1.0), t)
    torch.testing.assert_close(gradient, slope, rtol=1e-10, atol=0)


def test_features_are_learned_in_the_order_of_the_eigenvalues_not_of_their_degree():
    x = line(6, 1201)
    truth = torch.tensor([-0.4, -0.6, 0.25], dtype=D)
    monomials = torch.stack([x, x**2, x**4], 1)
    p = em.gibbs(monomials @ truth, x, 1.0)
    hermite = torch.stack([x, (x**2 - 1) / 2, (x**4 - 6 * x**2 + 3) / 24], 1)
    degrees = []
    for features in (monomials, hermite):
        mean = torch.trapezoid(p[:, None] * features, x, dim=0)
        # log p in the second basis: x⁴ = 24 h₄ + 12 h₂ + const, x² = 2 h₂ + const.
        theta = (
            truth if features is monomials else torch.tensor([-0.4, 2 * -0.6 + 12 * 0.25, 24 * 0.25], dtype=D)
        )
        best = em.exponential_family(theta, mean, features, x)
        assert float(best.gradient.abs().max()) < 1e-12
        eigenvalues, modes = torch.linalg.eigh(best.hessian)
        rate = 1 / float(eigenvalues[-1])
        start = theta + 1e-7 * modes.sum(1)
        path = em.gradient_descent(
            lambda t, m=mean, f=features: em.exponential_family(t, m, f, x).gradient,
            start,
            rate=rate,
            steps=40,
        )
        left = (path[-1] - theta) @ modes / 1e-7
        # MER-5: mode i keeps (1 − rate λ_i)^k; what is not linear is of the order of the start, 10⁻⁷ times a third cumulant.
        torch.testing.assert_close(left, (1 - rate * eigenvalues) ** 40, rtol=0, atol=1e-4)
        degrees.append([(1, 2, 4)[int(mode.abs().argmax())] for mode in modes.T.flip(0)])
        if features is monomials:
            np.testing.assert_allclose(eigenvalues, [0.136972, 0.914707, 17.012138], rtol=5e-6)
    assert degrees == [[4, 1, 2], [1, 2, 4]]


def test_forward_divergence_covers_both_modes_and_reverse_divergence_takes_one():
    x = line(9, 7201)
    log_p = torch.logaddexp(math.log(0.3) + log_normal(x, -2, 0.3), math.log(0.7) + log_normal(x, 1.5, 0.5))
    forward, reverse = em.gaussian_projection(log_p, x), em.gaussian_projection(log_p + 3, x, reverse=True)
    assert forward[:2] == pytest.approx((0.45, math.sqrt(2.7745)), abs=1e-10)  # KOF-5
    p = log_p.exp()

    def kl(mean, std):
        return float(em.relative_entropy(p, log_normal(x, mean, std).exp(), x))

    assert forward.divergence == pytest.approx(kl(*forward[:2]), abs=1e-10)
    for mean, std in ((0.0, 1.01), (0.01, 1.0), (0.0, 0.99)):
        assert kl(forward.mean + mean, forward.std * std) > forward.divergence
    # In reverse the heavier mode alone: its weight is what is lost, log(1/0.7), and a little of its tail.
    assert reverse[:2] == pytest.approx((1.5, 0.5), abs=2e-4)
    assert reverse.divergence == pytest.approx(-math.log(0.7), abs=1e-4)
    q = log_normal(x, reverse.mean, reverse.std).exp()
    assert reverse.divergence == pytest.approx(float(em.relative_entropy(q, p, x)), abs=1e-9)
    one = em.gaussian_projection(log_normal(x, 0.7, 0.6), x, reverse=True)
    assert one == pytest.approx((0.7, 0.6, 0.0), abs=1e-7)


# ------------------------------------------------------------------------------------------------- what the notes say of Ising


def test_naive_descent_is_hebbs_rule_and_its_energy_falls_without_end():
    n, rate = 8, 0.1
    y = hebbian.random_patterns(1, n, generator=seeded(16)).double()[0]
    w = torch.zeros(n, n, dtype=D, requires_grad=True)
    energies = []
    for _ in range(5):
        energy = -(w.triu(1) * torch.outer(y, y)).sum()  # each bond once
        (slope,) = torch.autograd.grad(energy, w)
        torch.testing.assert_close(slope, -torch.outer(y, y).triu(1))  # LEC-06
        w = (w - rate * slope).detach().requires_grad_()
        energies.append(energy.item())
    assert np.diff(energies) == pytest.approx(-rate * n * (n - 1) / 2)
    symmetric = (w + w.T).detach()
    torch.testing.assert_close(symmetric / (5 * rate), n * hebbian.hebb_couplings(y[None]))


def test_the_mean_energy_over_all_states_of_an_ising_model_is_zero_whatever_is_learned():
    couplings = normal(10, 10, seed=17)
    couplings = (couplings + couplings.T).fill_diagonal_(0)
    mean = hebbian.energy(hebbian.all_states(10), couplings).mean()
    assert float(mean) == pytest.approx(0, abs=1e-13)  # LEC-07


# ------------------------------------------------------------------------------------------------- log Z by annealing


def test_without_its_half_a_quadratic_energy_has_half_the_covariance():
    covariance = torch.tensor([[2.0, 0.5], [0.5, 1.0]], dtype=D)
    side = line(9, 361)
    x = torch.stack(torch.meshgrid(side, side, indexing="ij"), -1).reshape(-1, 2)
    for factor, expected in ((1, covariance), (2, torch.tensor([[1.0, 0.25], [0.25, 0.5]], dtype=D))):
        energy = factor * em.quadratic_energy(x, covariance)
        weight = torch.softmax(-energy, 0)
        # EBM-2: the trapezoidal rule on a Gaussian, its tail at 9/√2 standard deviations.
        torch.testing.assert_close(x.T @ (weight[:, None] * x), expected, rtol=0, atol=1e-7)
    area = (side[1] - side[0]) ** 2
    log_z = torch.logsumexp(-em.quadratic_energy(x, covariance), 0) + area.log()
    assert float(log_z) == pytest.approx(float(0.5 * torch.logdet(2 * math.pi * covariance)), abs=1e-8)


@pytest.mark.parametrize(("metropolis", "variance"), [(True, 1.0), (False, 2.0)])
def test_metropolis_takes_the_bias_of_the_step_out_of_langevin(metropolis, variance):
    own, n = seeded(18), 20000
    x = math.sqrt(variance) * torch.randn(n, 1, generator=own, dtype=D)
    for _ in range(5):
        x, kept = em.langevin(x, lambda y: y.square().sum(1) / 2, 1.0, metropolis=metropolis, generator=own)
    # Unadjusted: x' = (1 − h)x + √(2h)z rests at variance 1/(1 − h/2). Var of x² is 2σ⁴, or less in n draws: 4.5 errors.
    assert float(x.square().mean()) == pytest.approx(variance, abs=4.5 * math.sqrt(2 / n) * variance)
    assert float(x.mean()) == pytest.approx(0, abs=4.5 * math.sqrt(variance / n))
    # At h = 1 the proposal is √2 z whatever x is: the share kept is E min(1, e^{(x² − y²)/4}) with y² ~ 2x'².
    a, b = torch.randn(2, 10**6, generator=own, dtype=D)
    expected = torch.exp((a**2 - 2 * b**2) / 4).clamp(max=1).mean() if metropolis else 1.0
    assert kept == pytest.approx(float(expected), abs=4.5 * 0.5 / math.sqrt(n))


def test_langevin_keeps_a_law_that_is_not_gaussian_and_refuses_walls():
    own, n = seeded(19), 20000
    grid = line(3, 6001)
    law = em.gibbs(2 * (grid**2 - 1) ** 2, grid, 1.0)
    cumulative = torch.cumulative_trapezoid(law, grid)
    x = grid[torch.searchsorted(cumulative, torch.rand(n, generator=own, dtype=D)).clamp(max=6000)][:, None]
    for _ in range(10):
        x, kept = em.langevin(x, lambda y: (2 * (y**2 - 1) ** 2).sum(1), 0.15, generator=own)
    assert 0.5 < kept < 0.95
    for power in (2, 4):
        exact = float(torch.trapezoid(law * grid**power, grid))
        spread = math.sqrt(float(torch.trapezoid(law * grid ** (2 * power), grid)) - exact**2)
        assert float((x**power).mean()) == pytest.approx(exact, abs=4.5 * spread / math.sqrt(n) + 1e-3)
    walled = torch.full((100, 1), 0.5, dtype=torch.float32)
    moved, _ = em.langevin(
        walled, lambda y: torch.where(y > 0, y**2 / 2, INF).sum(1), 0.5, generator=seeded(20)
    )
    assert moved.dtype == torch.float32 and bool((moved > 0).all())


def moments_over_paths(start, difference, transition, schedule):
    """E w^k, k = 1 … 4, and E log w, E (log w)² over all paths of an annealing of finitely many states, exactly."""
    powers = torch.arange(1, 5, dtype=D)[:, None]
    w, p = start.repeat(4, 1), start.clone()
    log1, log2 = torch.zeros_like(start), torch.zeros_like(start)
    for before, after in pairwise(schedule.tolist()):
        gain = -(after - before) * difference
        log2 = log2 + 2 * gain * log1 + gain**2 * p
        log1 = log1 + gain * p
        t = transition(after)
        w, p, log1, log2 = (w * (powers * gain).exp()) @ t, p @ t, log1 @ t, log2 @ t
    return w.sum(1).tolist(), float(log1.sum()), float(log2.sum())


def frustrated(n=5):
    couplings = normal(n, n, seed=21).triu(1)
    return couplings + couplings.T, 0.3 * normal(n, seed=22)


@pytest.mark.parametrize(("backwards", "beta"), [(False, 1.2), (True, 0.4)])
def test_annealed_weights_have_the_exact_moments_of_their_paths(backwards, beta):
    # Backwards the weights are e^{+work}: rare high energies carry their moments, so that it is tried at a milder temperature.
    couplings, field = frustrated()
    states, n, chains = hebbian.all_states(5), 5, 20000
    exact = hebbian.gibbs(couplings, field, beta).log_z
    schedule = torch.tensor([0.0, 0.1, 0.25, 0.45, 0.7, 1.0], dtype=D)

    def sweep(lam):
        if lam == 0:
            return torch.eye(32, dtype=D)
        one = hebbian.transition_matrix(couplings, field, 1 / (lam * beta))
        return torch.linalg.matrix_power(one, n)

    start = hebbian.gibbs_law(couplings, field, beta) if backwards else torch.full((32,), 1 / 32, dtype=D)
    ladder = schedule.flip(0) if backwards else schedule
    (w, w2, w3, w4), log1, log2 = moments_over_paths(
        start, beta * hebbian.energy(states, couplings, field), sweep, ladder
    )
    ratio = (n * math.log(2) - exact) * (1 if backwards else -1)
    assert math.log(w) == pytest.approx(ratio, abs=1e-12)  # unbiased, though five steps are far too fast
    own = seeded(23)
    drawn = states[torch.multinomial(start, chains, replacement=True, generator=own)] if backwards else None
    found = em.annealed_ising(couplings, field, beta, schedule, chains=chains, samples=drawn, generator=own)
    error = math.sqrt((w2 - w**2) / chains) / w
    assert found.value == pytest.approx(exact, abs=4.5 * error)
    # The variance of an estimated variance is (μ₄ − σ⁴)/n, with μ₄ the fourth central moment of w: exact here too.
    variance, fourth = w2 - w**2, w4 - 4 * w * w3 + 6 * w**2 * w2 - 3 * w**4
    doubt = 4.5 * math.sqrt((fourth / variance**2 - 1) / chains) / 2
    assert doubt < 0.2
    assert found.error == pytest.approx(error, rel=doubt)
    bound = n * math.log(2) + log1 if not backwards else n * math.log(2) - log1
    bound_error = math.sqrt((log2 - log1**2) / chains)
    assert found.bound == pytest.approx(bound, abs=4.5 * bound_error)
    assert found.bound_error == pytest.approx(bound_error, rel=0.05)
    assert bound > exact if backwards else bound < exact
    assert found.effective == pytest.approx(chains * w**2 / w2, rel=2 * doubt)


@pytest.mark.parametrize("height", [1.0, 5.0])
def test_annealing_finds_log_z_of_a_double_well_from_both_sides(height):
    x = line(4, 4001)

    def energy(u):
        return height * (u**2 - 1) ** 2

    exact = -float(em.free_energy(energy(x), x, 1.0))
    schedule, own = torch.linspace(0, 1, 41, dtype=D), seeded(24)
    up = em.annealed_log_z(lambda u: energy(u).sum(1), 1, schedule, step=0.05, chains=2000, generator=own)
    law = em.gibbs(energy(x), x, 1.0)
    drawn = x[torch.multinomial(law, 2000, replacement=True, generator=own)][:, None]
    down = em.annealed_log_z(lambda u: energy(u).sum(1), 1, schedule, step=0.05, samples=drawn, generator=own)
    for estimate in (up, down):
        assert estimate.value == pytest.approx(exact, abs=4.5 * estimate.error)
        assert estimate.error < 0.05
    assert up.bound + 4.5 * up.bound_error < exact < down.bound - 4.5 * down.bound_error


@pytest.mark.parametrize("d", [2, 10])
def test_annealing_finds_the_determinant_of_a_gaussian(d):
    covariance = spd(d, seed=25)
    exact = 0.5 * float(torch.logdet(2 * math.pi * covariance))
    found = em.annealed_log_z(
        lambda x: em.quadratic_energy(x, covariance),
        d,
        torch.linspace(0, 1, 81, dtype=D),
        step=0.05,
        generator=seeded(26),
    )
    assert found.value == pytest.approx(exact, abs=4.5 * found.error)
    assert found.error < 0.05
    assert found.bound < exact
    slow = em.annealed_log_z(
        lambda x: em.quadratic_energy(x, covariance),
        d,
        torch.linspace(0, 1, 81, dtype=D),
        step=0.05,
        moves=3,
        generator=seeded(26),
    )
    assert found.bound < slow.bound < exact + 4.5 * slow.bound_error  # less work is wasted


def test_without_moves_the_weights_are_those_of_importance_sampling():
    own = seeded(27)
    start = torch.randn(1000, 2, generator=own, dtype=D)
    found = em.anneal(
        start, lambda x: x.square().sum(1) * 3 / 2, lambda x, lam: x, torch.linspace(0, 1, 8, dtype=D)
    )
    torch.testing.assert_close(found.log_weights, -start.square().sum(1) * 1.5, rtol=1e-12, atol=0)
    assert found.states is start


def test_the_estimate_of_log_z_is_a_mean_of_exponentials_that_cannot_overflow():
    log_w = normal(500, seed=28)
    w = log_w.exp()
    found = em.log_partition(log_w + 2000, log_start=-2000.0)
    assert found.value == pytest.approx(float(w.mean().log()), abs=1e-11)
    assert found.error == pytest.approx(float(w.std() / w.mean()) / math.sqrt(500), rel=1e-11)
    assert found.bound == pytest.approx(float(log_w.mean()), abs=1e-11)
    assert found.bound_error == pytest.approx(float(log_w.std()) / math.sqrt(500), rel=1e-11)
    assert found.effective == pytest.approx(float(w.sum() ** 2 / (w**2).sum()), rel=1e-11)
    assert em.log_partition(torch.zeros(9, dtype=D)) == (0.0, 0.0, 0.0, 0.0, 9.0)


def test_the_error_bar_of_log_z_is_the_scatter_of_repetitions():
    log_w = 0.7 * normal(400, 2000, seed=29)
    estimates = [em.log_partition(row) for row in log_w]
    scatter = np.std([e.value for e in estimates], ddof=1)
    # Four hundred repetitions know their scatter to 1/√800 = 3.5 %.
    assert np.mean([e.error for e in estimates]) == pytest.approx(scatter, rel=4.5 / math.sqrt(800))
    assert math.sqrt((math.exp(0.49) - 1) / 2000) == pytest.approx(scatter, rel=4.5 / math.sqrt(800))


# ------------------------------------------------------------------------------------------------- three families


def test_autoregression_and_whitening_give_the_density_of_a_gaussian():
    covariance, y = spd(5, seed=30), normal(6, 5, seed=31)
    exact = gaussian(covariance).log_prob(y)
    torch.testing.assert_close(em.autoregressive_log_density(y, covariance), exact, rtol=0, atol=1e-11)
    torch.testing.assert_close(em.whitening_log_density(y, covariance), exact, rtol=0, atol=1e-11)


def test_the_probability_flow_gives_the_density_up_to_its_horizon():
    covariance, y = spd(4, seed=32), normal(6, 4, seed=33)
    exact = gaussian(covariance).log_prob(y)
    late = em.probability_flow_log_density(y, covariance, horizon=12.0)
    # What is left of the data: (λ − 1)e^{−24} of order 10⁻¹⁰; the solver's tolerance is 10⁻¹⁰ too.
    torch.testing.assert_close(late, exact, rtol=0, atol=1e-7)
    # The density that the reverse ODE makes of N(0, I) at T: variance λ/Γ_T in each mode.
    values, vectors = torch.linalg.eigh(covariance)
    made = values / (1 + (values - 1) * math.exp(-2.0))
    early = em.probability_flow_log_density(y, covariance, horizon=1.0)
    torch.testing.assert_close(early, gaussian((vectors * made) @ vectors.T).log_prob(y), rtol=0, atol=1e-7)


def test_the_diffusion_bound_is_the_average_over_forward_chains():
    covariance, y = spd(2, seed=34), normal(2, seed=35)
    steps, horizon, n = 6, 2.0, 40000
    root, beta = math.exp(-horizon / steps), 1 - math.exp(-2 * horizon / steps)
    own, eye = seeded(36), torch.eye(2, dtype=D)
    x, total, gamma = y.expand(n, 2), torch.zeros(n, dtype=D), covariance
    for _ in range(steps):
        after = root * x + math.sqrt(beta) * torch.randn(n, 2, generator=own, dtype=D)
        later = root**2 * gamma + beta * eye
        mean = after @ (root * torch.linalg.solve(later, gamma))
        forward = torch.distributions.Normal(root * x, math.sqrt(beta)).log_prob(after).sum(1)
        reverse = torch.distributions.Normal(mean, math.sqrt(beta)).log_prob(x).sum(1)
        total = total + reverse - forward
        x, gamma = after, later
    total = total + torch.distributions.Normal(0.0, 1.0).log_prob(x).sum(1)
    error = float(total.std()) / math.sqrt(n)
    assert float(em.diffusion_bound(y, covariance, steps, horizon)) == pytest.approx(
        float(total.mean()), abs=4.5 * error
    )


@pytest.mark.parametrize("steps", [5, 50, 500])
def test_the_diffusion_bound_lies_below_by_the_divergences_of_its_kernels(steps):
    values = torch.tensor([0.2, 1.0, 4.0], dtype=D)
    horizon = 3.0
    alpha = math.exp(-2 * horizon / steps)
    gamma, gap = values, torch.zeros(())
    for _ in range(steps):
        later = alpha * gamma + 1 - alpha
        # Var(x_{k−1}|x_k) by the rule of parallel resistors, against the model's 1 − α.
        ratio = 1 / (alpha / (1 - alpha) + 1 / gamma) / (1 - alpha)
        gap = gap + 0.5 * (ratio - 1 - ratio.log()).sum()
        gamma = later
    gap = gap + 0.5 * (gamma - 1 - gamma.log()).sum()
    # The bound is quadratic in y, so that its mean over the data is its value at y_i² = λ_i.
    y = values.sqrt()
    bound = em.diffusion_bound(y, torch.diag(values), steps, horizon)
    exact = gaussian(torch.diag(values)).log_prob(y)
    assert float(exact - bound) == pytest.approx(float(gap), rel=1e-9)


def test_three_families_answer_alike_where_they_can():
    w, _ = example()
    beta = 2.0
    law = gaussian(w @ w.T + torch.eye(4, dtype=D) / (2 * beta))
    y = normal(300, 4, seed=37) @ law.scale_tril.T
    exact = law.log_prob(y)
    answers = {a.model: a for a in em.three_families(y, w, beta, generator=seeded(38))}
    for model in ("autoregressive", "normalizing flow", "autoencoder, full posterior"):
        torch.testing.assert_close(answers[model].log_density, exact, rtol=0, atol=1e-11)
    short = exact - answers["autoencoder, factorised"].log_density
    torch.testing.assert_close(short, torch.full_like(short, em.mean_field_gap(w, beta)), rtol=0, atol=1e-11)
    energy = answers["energy"]
    wrong = exact - energy.log_density
    assert float(wrong.max() - wrong.min()) < 1e-11  # an energy knows all but one number
    assert float(wrong.mean()) == pytest.approx(0, abs=4.5 * energy.error)
    assert 0 < energy.error < 0.03
    # Left of the data at T = 6: (λ − 1)e^{−12} y²/2λ, with λ below 10 and y²/λ below 30.
    torch.testing.assert_close(
        answers["diffusion, ODE"].log_density, exact, rtol=0, atol=9 * 15 * math.exp(-12)
    )
    assert float((exact - answers["diffusion, chain"].log_density).mean()) > 0.05
    assert answers["adversarial"].log_density is None
    assert [a.gives for a in answers.values()] == [
        "exact",
        "exact",
        "lower bound",
        "lower bound",
        "estimate",
        "exact",
        "lower bound",
        "nothing",
    ]


# ------------------------------------------------------------------------------------------------- what is refused

Z = torch.linspace(-3, 3, 31, dtype=D)
W = torch.eye(3, 2, dtype=D)
EYE = torch.eye(2, dtype=D)


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("grid", lambda: em.free_energy(Z**2, Z.flip(0), 1.0)),
        ("grid", lambda: em.free_energy(Z[:1], Z[:1], 1.0)),
        ("energy", lambda: em.free_energy(Z[:-1], Z, 1.0)),
        ("energy", lambda: em.free_energy(Z * NAN, Z, 1.0)),
        ("energy", lambda: em.free_energy(Z - INF, Z, 1.0)),
        ("energy", lambda: em.free_energy(Z + INF, Z, 1.0)),
        ("energy", lambda: em.free_energy(torch.ones(31, dtype=torch.int64), Z, 1.0)),
        ("beta", lambda: em.free_energy(Z, Z, 0.0)),
        ("beta", lambda: em.free_energy(Z, Z, NAN)),
        ("beta", lambda: em.gibbs(Z, Z, INF)),
        ("log_prior", lambda: em.free_energy(Z, Z, 1.0, torch.full((31,), -INF, dtype=D))),
        (
            "log_prior",
            lambda: em.free_energy(torch.where(Z > 0, INF, Z), Z, 1.0, torch.where(Z > 0, 0.0, -INF)),
        ),
        (
            "log_prior",
            lambda: em.free_energy(torch.where(Z > 0, INF, Z), Z, INF, torch.where(Z > 0, 0.0, -INF)),
        ),
        ("q", lambda: em.relative_entropy(-Z.abs(), Z.abs(), Z)),
        ("p", lambda: em.relative_entropy(Z.abs(), Z, Z)),
        ("q", lambda: em.variational_free_energy(Z, Z, Z, 1.0)),
        ("y", lambda: em.gaussian_free_energy(torch.ones(2, dtype=D), W, 1.0)),
        ("y", lambda: em.gaussian_free_energy(torch.tensor([1.0, NAN, 1.0]), W, 1.0)),
        ("decoder", lambda: em.gaussian_free_energy(torch.ones(3), W[0], 1.0)),
        ("decoder", lambda: em.mean_field_gap(W.int(), 1.0)),
        ("beta", lambda: em.gaussian_free_energy(torch.ones(3), W, -1.0)),
        ("beta", lambda: em.gaussian_posterior(torch.ones(3), W, INF)),
        (
            "posterior",
            lambda: em.gaussian_bound(torch.ones(3), W, 1.0, em.Posterior(torch.ones(2), -EYE)),
        ),
        (
            "posterior",
            lambda: em.gaussian_bound(torch.ones(3), W, 1.0, em.Posterior(torch.ones(2), torch.eye(3))),
        ),
        ("rank", lambda: em.probabilistic_pca(EYE, 2)),
        ("rank", lambda: em.probabilistic_pca(EYE, 3, 1.0)),
        ("covariance", lambda: em.probabilistic_pca(-EYE, 1)),
        ("covariance", lambda: em.probabilistic_pca(torch.tensor([[1.0, 2.0], [0.0, 1.0]]), 1)),
        ("covariance", lambda: em.rate_distortion(EYE, W, 1.0)),
        ("level", lambda: em.reverse_water_filling(torch.ones(2), 0.0)),
        ("variances", lambda: em.reverse_water_filling(torch.zeros(2), 1.0)),
        ("start", lambda: em.gradient_descent(lambda y: y, torch.tensor([NAN]), rate=1.0, steps=1)),
        (
            "momentum",
            lambda: em.gradient_descent(lambda y: y, torch.ones(1), rate=1.0, steps=1, momentum=1.0),
        ),
        ("steps", lambda: em.gradient_descent(lambda y: y, torch.ones(1), rate=1.0, steps=0)),
        ("greatest", lambda: em.optimal_descent(2.0, 1.0)),
        ("condition", lambda: em.descent_steps(1.0, 0.1)),
        ("accuracy", lambda: em.descent_steps(2.0, 1.0)),
        ("features", lambda: em.exponential_family(torch.ones(2), torch.ones(2), torch.ones(31, 3), Z)),
        ("data_mean", lambda: em.exponential_family(torch.ones(2), torch.ones(3), torch.ones(31, 2), Z)),
        (
            "weights",
            lambda: em.likelihood_gradient(lambda t, x: t * x, torch.ones(()), Z, Z, torch.zeros(31)),
        ),
        ("energy", lambda: em.likelihood_gradient(lambda t, x: t, torch.ones(()), Z, Z)),
        ("log_density", lambda: em.gaussian_projection(torch.where(Z > 0, 0.0, -INF), Z, reverse=True)),
        ("covariance", lambda: em.quadratic_energy(torch.ones(2), torch.zeros(2, 2))),
        ("x", lambda: em.quadratic_energy(torch.ones(3), EYE)),
        ("x", lambda: em.langevin(torch.ones(3), lambda x: x, 0.1)),
        ("energy", lambda: em.langevin(torch.ones(3, 1), lambda x: x, 0.1)),
        ("step", lambda: em.langevin(torch.ones(3, 1), lambda x: x.sum(1), 0.0)),
        ("generator", lambda: em.langevin(torch.ones(3, 1), lambda x: x.sum(1), 0.1, generator=1)),
        (
            "schedule",
            lambda: em.anneal(torch.ones(3, 1), lambda x: x[:, 0], lambda x, lam: x, torch.ones(2)),
        ),
        (
            "schedule",
            lambda: em.anneal(
                torch.ones(3, 1), lambda x: x[:, 0], lambda x, lam: x, torch.tensor([0.0, 0.7, 0.5, 1.0])
            ),
        ),
        (
            "difference",
            lambda: em.anneal(torch.ones(3, 1), lambda x: x, lambda x, lam: x, torch.tensor([0.0, 1.0])),
        ),
        ("log_weights", lambda: em.log_partition(torch.ones(1))),
        ("log_weights", lambda: em.log_partition(torch.tensor([1.0, -INF]))),
        ("couplings", lambda: em.annealed_ising(EYE, None, 1.0, torch.tensor([0.0, 1.0]))),
        ("chains", lambda: em.annealed_ising(0 * EYE, None, 1.0, torch.tensor([0.0, 1.0]), chains=1)),
        ("dimension", lambda: em.annealed_log_z(lambda x: x.sum(1), 0, torch.tensor([0.0, 1.0]))),
        (
            "samples",
            lambda: em.annealed_log_z(
                lambda x: x.sum(1), 2, torch.tensor([0.0, 1.0]), samples=torch.ones(4, 3)
            ),
        ),
        ("y", lambda: em.autoregressive_log_density(torch.ones(3), EYE)),
        ("y", lambda: em.whitening_log_density(torch.ones(3), EYE)),
        ("y", lambda: em.probability_flow_log_density(torch.ones(2), EYE)),
        ("horizon", lambda: em.probability_flow_log_density(torch.ones(1, 2), EYE, horizon=0.0)),
        ("steps", lambda: em.diffusion_bound(torch.ones(1, 2), EYE, 0)),
        ("y", lambda: em.three_families(torch.ones(2, 2), W, 1.0)),
    ],
)
def test_bad_input_is_refused_by_name(name, call):
    with pytest.raises(ValueError, match=rf"^{name}: got"):
        call()


def test_draws_repeat_with_their_generator_and_leave_the_global_stream_alone():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    schedule = torch.tensor([0.0, 0.5, 1.0], dtype=D)
    couplings, field = frustrated()

    def both(seed):
        generator = None if seed is None else seeded(seed)
        a = em.annealed_log_z(lambda x: x.square().sum(1), 2, schedule, chains=5, generator=generator)
        b = em.annealed_ising(couplings, field, 1.2, schedule, chains=5, generator=generator)
        return a, b

    assert both(1) == both(1)
    assert both(None) != both(None)
    assert torch.equal(before, torch.get_rng_state())
