"""The geometry of a score: Woodbury against inverses, Bessel against quadrature, the kernel against automatic differentiation."""

import math

import pytest
import torch
from scipy import integrate, special
from sklearn.datasets import load_digits
from sklearn.neighbors import KNeighborsRegressor, NearestNeighbors

from physgen.kernels import mixture_score
from physgen.memorization import geometry

F64 = torch.float64


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def normal(*shape, seed):
    return torch.randn(*shape, generator=seeded(seed), dtype=F64)


def time_of(sigma2):
    return math.log1p(sigma2) / 2


def empirical_score(data):
    def score(x, t):
        return mixture_score.score(x, data, math.exp(-t), -math.expm1(-2 * t))

    return score


# ------------------------------------------------------------------------------------------------- the linear manifold


@pytest.mark.parametrize("sigma2", [10.0, 0.5, 1e-3])
def test_the_linear_score_is_that_of_the_covariance_of_noised_data_and_its_spectrum_counts_sixty(sigma2):
    f, t = geometry.embedding(200, 60, seeded(0)), time_of(sigma2)
    covariance = -math.expm1(-2 * t) * torch.eye(200, dtype=F64) + math.exp(-2 * t) * f @ f.T
    inverse = torch.linalg.inv(covariance)
    jacobian = geometry.linear_jacobian(t, f)
    # The condition number is at most 2.4/0.001; times 1e-15 on entries up to 1/Δ.
    torch.testing.assert_close(jacobian[0], -inverse, rtol=0, atol=1e-11 / sigma2)
    x = normal(3, 200, seed=1)
    torch.testing.assert_close(geometry.linear_score(x, t, f), -x @ inverse, rtol=0, atol=1e-10 / sigma2)
    levels = geometry.levels(jacobian, t)
    gamma = torch.linalg.eigvalsh(f.T @ f).flip(0)
    expected = torch.cat([sigma2 / (sigma2 + gamma), torch.ones(140, dtype=F64)])
    torch.testing.assert_close(levels[0], expected, rtol=0, atol=1e-11)
    found = geometry.largest_gap(levels)
    assert int(found.dimension) == 60  # AMB-01
    assert float(found.size) == pytest.approx(float(gamma[-1] / (gamma[-1] + sigma2)), abs=1e-11)


def test_minus_sigma_squared_times_the_exploding_jacobian_has_the_same_levels():
    f, sigma2 = geometry.embedding(12, 4, seeded(2)), 0.3
    exploding = -torch.linalg.inv(f @ f.T + sigma2 * torch.eye(12, dtype=F64))
    t = time_of(sigma2)
    torch.testing.assert_close(
        geometry.levels(geometry.linear_jacobian(t, f), t)[0],
        torch.linalg.eigvalsh(-sigma2 * exploding),
        rtol=0,
        atol=1e-13,
    )


def test_automatic_differentiation_gives_the_linear_jacobian_at_a_time_for_each_point():
    f, times = geometry.embedding(9, 4, seeded(3)), torch.tensor([0.01, 0.5, 3.0], dtype=F64)
    found = geometry.score_jacobian(normal(3, 9, seed=4), lambda x, t: geometry.linear_score(x, t, f), times)
    expected = torch.cat([geometry.linear_jacobian(t, f) for t in times])
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(
        geometry.levels(found, times)[1], geometry.levels(expected[1:2], 0.5)[0], rtol=0, atol=1e-13
    )


def test_the_edges_are_those_of_marchenko_and_pastur_within_the_law_of_tracy_and_widom():
    # Johnstone (2001): d γ_max ~ μ + s TW₁, with TW₁ of mean −1.21 and deviation 1.27; five deviations. The lower edge is −TW₁ in
    # log γ with the scale below (Ma 2012).
    d, m = 200, 60
    gamma = torch.linalg.eigvalsh((lambda f: f.T @ f)(geometry.embedding(d, m, seeded(5))))
    plus, minus = math.sqrt(d) + math.sqrt(m), math.sqrt(d) - math.sqrt(m)
    scale = plus * (d**-0.5 + m**-0.5) ** (1 / 3) / d
    assert abs(float(gamma[-1]) - plus**2 / d + 1.21 * scale) < 5 * 1.27 * scale
    low = minus * (m**-0.5 - d**-0.5) ** (1 / 3) / d
    assert abs(float(gamma[0]) - minus**2 / d - 1.21 * low) < 5 * 1.27 * low
    assert geometry.linear_gap(time_of(0.5), 0.3) == pytest.approx(
        0.29033208, abs=5e-9
    )  # (1−√.3)²/((1−√.3)²+½)
    phases = geometry.phase_times(m / d)
    assert math.expm1(2 * phases.coverage) == pytest.approx(plus**2 / d, abs=1e-12)
    assert math.expm1(2 * phases.consolidation) == pytest.approx(minus**2 / d, abs=1e-12)


def test_the_density_of_levels_has_mass_one_and_the_mean_of_a_large_manifold():
    t, rho = time_of(0.5), 0.3
    low, high = (0.5 / (0.5 + g) for g in ((1 + math.sqrt(rho)) ** 2, (1 - math.sqrt(rho)) ** 2))

    def density(y):
        return geometry.level_density(torch.as_tensor(y, dtype=F64), t, rho)

    # y = centre + half · cos φ makes the integrand analytic and periodic, for which the trapezoid rule converges exponentially.
    phi = (torch.arange(400, dtype=F64) + 0.5) * math.pi / 400
    y = (high + low) / 2 + (high - low) / 2 * phi.cos()
    p = density(y) * (high - low) / 2 * phi.sin() * math.pi / 400
    mass, mean = float(p.sum()), float(p @ (1 - y))
    assert mass == pytest.approx(1, abs=1e-10)
    assert density(low - 1e-3) == density(high + 1e-3) == density(-0.1) == density(1.0) == 0
    f = geometry.embedding(600, 180, seeded(6))
    soft = float(geometry.soft_dimension(geometry.levels(geometry.linear_jacobian(t, f), t)))
    # A linear statistic of m eigenvalues has mean and fluctuations of order one in total: 5/m of it.
    assert soft / 180 == pytest.approx(mean, abs=5 / 180)


def test_a_wide_subspace_opens_its_gap_first():
    wide = geometry.embedding(60, 10, seeded(7))
    f = torch.cat([wide, 0.03 * geometry.embedding(60, 10, seeded(8))], 1)
    dimension = [
        int(
            geometry.largest_gap(
                geometry.levels(geometry.linear_jacobian(time_of(s2), f), time_of(s2))
            ).dimension
        )
        for s2 in (1e-2, 1e-6)
    ]
    assert dimension == [10, 20]  # variances of order 1 and 10⁻³, far from both noises


# ------------------------------------------------------------------------------------------------- the circle


@pytest.mark.parametrize("thickness", [0.0, 0.3])
@pytest.mark.parametrize("t", [0.02, 0.5, 2.0])
def test_the_score_of_the_circle_is_that_of_many_points_on_it(t, thickness):
    # A trapezoid rule on a periodic function: 4000 points resolve the width √v ≥ 0.19 of the kernel to rounding.
    theta = torch.arange(4000, dtype=F64) * 2 * math.pi / 4000
    data = torch.stack([1.7 * theta.cos(), 1.7 * theta.sin(), 0 * theta], 1)
    x = torch.cat([normal(5, 3, seed=9), torch.zeros(1, 3, dtype=F64)])
    v = -math.expm1(-2 * t) + (math.exp(-t) * thickness) ** 2
    expected = mixture_score.score(x, data, math.exp(-t), v)
    # Weights of the kernel are right to 1e-8 or better; divided by v.
    torch.testing.assert_close(geometry.circle_score(x, t, 1.7, thickness), expected, rtol=1e-9, atol=1e-8)


@pytest.mark.parametrize(("sigma2", "levels"), [(1e-3, (0.0005, 0.9995, 1)), (1.0, (0.554, 0.646, 1))])
def test_the_levels_of_the_circle_are_those_of_automatic_differentiation_and_of_the_claim(sigma2, levels):
    t = time_of(sigma2)
    x = math.exp(-t) * torch.tensor([[0.6, 0.8, 0.0]], dtype=F64)
    found = geometry.levels(geometry.score_jacobian(x, geometry.circle_score, t), t)
    torch.testing.assert_close(found, geometry.circle_levels(t, 3), rtol=0, atol=1e-11)
    assert found[0].tolist() == pytest.approx(levels, abs=6e-4 if sigma2 == 1 else 6e-7)  # AMB-01


def test_the_levels_of_the_circle_join_their_series_and_its_centre_is_smooth():
    # 1 − A = 1/2κ + 1/8κ² + 1/8κ³ + …, κA' = 1/2κ + 1/4κ² + 3/8κ³ + …, on both sides of the switch at 10⁴.
    for kappa in (0.9e4, 1.1e4):
        tangent, radial = geometry.circle_levels(time_of(1 / kappa), 2)[0].tolist()
        # Above: the next term. Below: 1 − A and κA' have lost 10⁻¹⁵ and 10⁻¹⁵κ, several roundings each.
        assert 2 * kappa * tangent == pytest.approx(1 + 1 / (4 * kappa), abs=1 / kappa**2)
        assert 2 * kappa * (1 - radial) == pytest.approx(
            1 + 1 / (2 * kappa), abs=1 / kappa**2 + 2e-15 * kappa**2
        )
    centre = geometry.score_jacobian(torch.zeros(1, 3, dtype=F64), geometry.circle_score, 0.5)
    s2, delta = math.exp(-1.0), -math.expm1(-1.0)
    expected = (
        torch.diag(torch.tensor([s2 / (2 * delta**2), s2 / (2 * delta**2), 0], dtype=F64))
        - torch.eye(3, dtype=F64) / delta
    )
    torch.testing.assert_close(centre[0], expected, rtol=0, atol=1e-12)
    far = geometry.circle_score(torch.full((1, 3), 1e6, dtype=F64), 1e-4)
    assert bool(far.isfinite().all())


def test_the_dimension_depends_on_the_scale():
    # ETC-02: a circle of radius 1 and thickness 0.01 in ten dimensions, from far below its thickness to far above its radius. The
    # corrections are (σ/τ)², (τ/σ)² per dimension plus (σ/R)²/2 terms, and (R/σ)²/2.
    soft = [
        float(geometry.soft_dimension(geometry.circle_levels(time_of(s**2), 10, 1.0, 0.01)))
        for s in (1e-5, 0.1, 30)
    ]
    assert soft[0] == pytest.approx(10, abs=10 * 1e-6)
    assert soft[1] == pytest.approx(1 + 9 * 0.01, abs=0.01)
    assert soft[2] == pytest.approx(1 / 30**2, rel=0.01)


# ------------------------------------------------------------------------------------------------- data


def test_the_jacobian_of_the_empirical_score_is_its_derivative_and_its_levels_are_at_most_one():
    data, t = normal(40, 5, seed=10), 0.3
    x = normal(6, 5, seed=11)
    found = geometry.empirical_jacobian(x, t, data)
    torch.testing.assert_close(
        found, geometry.score_jacobian(x, empirical_score(data), t), rtol=1e-7, atol=1e-7
    )
    levels = geometry.levels(found, t)
    assert bool((levels <= 1 + 1e-12).all())
    p = torch.softmax(-(x[:, None] - math.exp(-t) * data).square().sum(2) / 2 / -math.expm1(-2 * t), 1)
    trace = p @ data.square().sum(1) - (p @ data).square().sum(1)
    ratio = math.exp(-2 * t) / -math.expm1(-2 * t)
    torch.testing.assert_close(geometry.soft_dimension(levels), ratio * trace, rtol=0, atol=1e-10)


def test_data_that_are_remembered_have_dimension_zero_and_before_that_the_dimension_of_their_manifold():
    data = geometry.flat_torus(2000, 1, 6, generator=seeded(12))
    # Neighbours are 2π/2000 = 0.003 apart: at σ = 0.1 there are sixty within reach, at 10⁻⁵ one.
    for sigma, expected, tolerance in ((0.1, 1.0, 0.25), (1e-5, 0.0, 1e-3)):
        t = time_of(sigma**2)
        levels = geometry.levels(geometry.empirical_jacobian(math.exp(-t) * data[:20], t, data), t)
        # The share of sixty neighbours has relative fluctuations of √(2/60) for one point, a fifth of it for the mean of twenty.
        assert float(geometry.soft_dimension(levels).mean()) == pytest.approx(expected, abs=tolerance)
        if sigma == 0.1:
            assert geometry.largest_gap(levels).dimension.tolist() == [1] * 20


def test_the_digits_lose_their_dimensions_as_the_noise_falls():
    digits = torch.tensor(load_digits().data / 16)
    soft = []
    for sigma in (1.0, 0.5, 0.2, 0.05):
        t = time_of(sigma**2)
        x = math.exp(-t) * digits[:10] + math.sqrt(-math.expm1(-2 * t)) * normal(10, 64, seed=13)
        levels = geometry.levels(geometry.empirical_jacobian(x, t, digits), t)
        soft.append(float(geometry.soft_dimension(levels).mean()))
    assert soft[1] > soft[2] > soft[3] and soft[3] < 0.1
    assert max(soft) < 10  # of 64


# ------------------------------------------------------------------------------------------------- neighbours


@pytest.mark.parametrize("dimension", [1, 2, 5])
def test_two_neighbours_and_many_see_the_dimension_of_a_flat_torus(dimension):
    x = geometry.flat_torus(3000, dimension, 30, generator=seeded(0))
    # ETC-03: 1.8 % is one deviation of independent ratios; neighbourhoods overlap, and chords are shorter than arcs at d = 5.
    assert geometry.two_nn(x) == pytest.approx(dimension, rel=0.08)
    assert float(geometry.levina_bickel(x, 10).mean()) == pytest.approx(dimension, rel=0.08)
    values = torch.linalg.eigvalsh(x.T.cov())
    assert int((values > 0.1).sum()) == 2 * dimension  # the linear dimension of the embedding


def test_the_local_estimate_has_the_moments_of_an_inverse_gamma_variable():
    # Uniform points in a disc around the origin, apart from its edge: one neighbourhood each, 1500 times.
    k, d, replicas = 10, 3, 1500
    generator, found = seeded(14), []
    for _ in range(replicas):
        radius = torch.rand(200, generator=generator, dtype=F64) ** (1 / d)
        direction = torch.nn.functional.normalize(torch.randn(200, d, generator=generator, dtype=F64), dim=1)
        near = radius.argsort()[:k]
        points = torch.cat([torch.zeros(1, d, dtype=F64), radius[near, None] * direction[near]])
        found.append(float(geometry.levina_bickel(points, k)[0]))
    found = torch.tensor(found, dtype=F64)
    variance = d**2 / (k - 3)
    assert float(found.mean()) == pytest.approx(d, abs=4 * math.sqrt(variance / replicas))
    # The kurtosis of an inverse Gamma variable of shape 9 is 3 + 6(5α − 11)/((α − 3)(α − 4)) = 9.8.
    assert float(found.var()) == pytest.approx(variance, abs=4 * variance * math.sqrt(8.8 / replicas))


def test_the_distances_and_estimates_are_those_of_scikit_learn():
    x = normal(300, 4, seed=15)
    peer = torch.from_numpy(NearestNeighbors(n_neighbors=8).fit(x.numpy()).kneighbors()[0])
    torch.testing.assert_close(geometry.neighbour_distances(x, 8), peer, rtol=1e-12, atol=0)
    assert geometry.two_nn(x) == pytest.approx(299 / float((peer[:, 1] / peer[:, 0]).log().sum()), rel=1e-10)
    torch.testing.assert_close(
        geometry.levina_bickel(x, 8), 6 / (peer[:, 7:] / peer[:, :7]).log().sum(1), rtol=1e-10, atol=0
    )


def test_the_errors_of_regression_for_all_k_are_those_of_scikit_learn():
    x, y, x_test, y_test = (
        normal(80, 3, seed=16),
        normal(80, seed=17),
        normal(30, 3, seed=18),
        normal(30, seed=19),
    )
    found = geometry.knn_error(x, y, x_test, y_test)
    for k in (1, 7, 80):
        peer = KNeighborsRegressor(k).fit(x.numpy(), y.numpy()).predict(x_test.numpy())
        assert float(found[k - 1]) == pytest.approx(float(((peer - y_test.numpy()) ** 2).mean()), rel=1e-12)


def test_the_error_of_regression_on_a_circle_is_its_expectation():
    n, noise, k = 60, 0.5, torch.arange(1, 61)
    expected, runs = geometry.knn_circle_error(k, n, noise), []
    for seed in range(300):
        x, test = (
            geometry.flat_torus(n, 1, 2, generator=seeded(seed)),
            geometry.flat_torus(50, 1, 2, generator=seeded(10**6 + seed)),
        )
        y = x[:, 0] + noise * normal(n, seed=2 * 10**6 + seed)
        runs.append(geometry.knn_error(x, y, test, test[:, 0]))
    runs = torch.stack(runs)
    error = runs.std(0) / math.sqrt(len(runs))
    assert bool(((runs.mean(0) - expected).abs() < 4.5 * error).all())  # ETC-03: sixty numbers, correlated


def test_the_expectation_is_that_of_quadrature():
    n, noise = 40, 0.3
    for k in (1, 5, 39):

        def integrand(u, k=k):
            sinc = math.sin(math.pi * u) / (math.pi * u)
            weight = special.beta(k + 1, n - k)
            value = (1 - sinc) ** 2 / 2 + ((1 - sinc**2) / 2 + noise**2) / k
            return u**k * (1 - u) ** (n - k - 1) / weight * value

        expected = integrate.quad(integrand, 0, 1, epsabs=1e-13, limit=200)[0]
        assert float(geometry.knn_circle_error(torch.tensor(k), n, noise)) == pytest.approx(
            expected, abs=1e-11
        )


def test_the_best_k_is_not_the_dimension_and_grows_with_noise_and_data():
    best = {
        (n, noise): int(geometry.knn_circle_error(torch.arange(1, n + 1), n, noise).argmin()) + 1
        for n in (500, 4000)
        for noise in (0.1, 1.0)
    }
    assert best[500, 0.1] < best[500, 1.0] < best[4000, 1.0] and best[500, 0.1] < best[4000, 0.1]
    # The scaling n^{4/5} noise^{2/5}; the position of neighbours adds a few per cent, falling with n.
    assert best[4000, 1.0] == pytest.approx((18 * 4000**4 / math.pi**4) ** 0.2, rel=0.05)


# ------------------------------------------------------------------------------------------------- memories


def signs(k, n, seed):
    return torch.randint(0, 2, (k, n), generator=seeded(seed)).to(F64) * 2 - 1


def test_noised_patterns_are_the_gibbs_law_of_the_network_and_its_update_is_the_denoiser():
    xi = torch.nn.functional.normalize(normal(5, 8, seed=20), dim=1) * 2
    for t in (0.05, 0.4, 1.5):
        s, delta, beta = math.exp(-t), -math.expm1(-2 * t), geometry.hopfield_beta(t)
        u = normal(6, 8, seed=21)
        energy = -mixture_score.log_density(s * u, xi, s, delta) / beta
        found = geometry.hopfield_energy(u, xi, beta)
        torch.testing.assert_close(found - found[0], energy - energy[0], rtol=0, atol=1e-9)  # AMB-05
        update = geometry.hopfield_update(u, xi, beta)
        torch.testing.assert_close(
            update, mixture_score.posterior_mean(s * u, xi, s, delta), rtol=0, atol=1e-8
        )
        v = u.clone().requires_grad_()
        (slope,) = torch.autograd.grad(geometry.hopfield_energy(v, xi, beta).sum(), v)
        torch.testing.assert_close(slope, u - update, rtol=0, atol=1e-12)
        assert bool((geometry.hopfield_energy(update, xi, beta) <= found + 1e-12).all())


def test_patterns_of_different_lengths_are_not_remembered_alike():
    xi = torch.tensor([[1.0, 0.0], [0.0, 3.0]], dtype=F64)
    t, u = 0.3, torch.tensor([[1.0, 1.0]], dtype=F64)
    s, delta = math.exp(-t), -math.expm1(-2 * t)
    denoised = mixture_score.posterior_mean(s * u, xi, s, delta)
    assert float((geometry.hopfield_update(u, xi, 1 / math.expm1(2 * t)) - denoised).abs().max()) > 1


def test_the_score_and_the_network_retrieve_the_same_pattern_bit_for_bit():
    xi = signs(2000, 40, 22)  # fifty times more patterns than coordinates
    flips = torch.rand(200, 40, generator=seeded(23), dtype=F64) < 0.1
    cue = torch.where(flips, -xi[:200], xi[:200])
    best = (cue @ xi.T).topk(2, dim=1)
    # Two patterns at one distance leave the bits in which they differ at zero, undecided.
    clear = best.values[:, 0] > best.values[:, 1]
    assert int(clear.sum()) > 180
    cue, nearest = cue[clear], xi[best.indices[clear, 0]]
    for sigma2 in (0.1, 1.0, 4.0):
        t = time_of(sigma2)
        network = geometry.hopfield_retrieve(cue, xi, geometry.hopfield_beta(t), 20)
        score = geometry.score_retrieve(cue, empirical_score(xi), t, 20)
        # The two differ by rounding: no bit is as small as that.
        assert float(network.abs().min()) > 1e-6
        assert torch.equal(network.sign(), score.sign())  # AMB-05
        if sigma2 == 0.1:  # overlaps differ by 2: the others weigh 2000 e^{−20} together
            assert torch.equal(network.sign(), nearest)
    assert float((nearest == xi[:200][clear]).all(1).double().mean()) > 0.9


def test_the_action_of_a_quadratic_flow_is_its_density():
    a = 0.4
    grid = torch.linspace(-7, 7, 561, dtype=F64), torch.linspace(-9, 30, 1561, dtype=F64)
    x = torch.cartesian_prod(*grid)
    p = torch.exp(-geometry.coupling_action(x, a)) / (2 * math.pi) * 0.025**2
    moments = [
        float(p @ v) for v in (torch.ones(len(x), dtype=F64), x[:, 1], x[:, 0] ** 2 * x[:, 1], x[:, 1] ** 2)
    ]
    # The trapezoid rule of an analytic function; what is cut off is below 1e-9. ETC-01: E x₁² E x₂ = a is subtracted below.
    assert moments[0] == pytest.approx(1, abs=1e-8)
    assert moments[1] == pytest.approx(a, abs=1e-7)
    assert moments[2] - a == pytest.approx(2 * a, abs=1e-6)
    assert moments[3] - a**2 == pytest.approx(1 + 2 * a**2, abs=1e-6)


# ------------------------------------------------------------------------------------------------- what comes in

X, F = normal(4, 3, seed=30), geometry.embedding(3, 2, seeded(31))
NAN = torch.full((4, 3), math.nan, dtype=F64)


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: geometry.score_jacobian(NAN, geometry.circle_score, 0.5), "x"),
        (lambda: geometry.score_jacobian(X, geometry.circle_score, 0.0), "t"),
        (lambda: geometry.score_jacobian(X, lambda x, t: x.detach(), 0.5), "score"),
        (lambda: geometry.score_jacobian(X, lambda x, t: x[:, :1], 0.5), ""),
        (lambda: geometry.levels(X, 0.5), "jacobian"),
        (lambda: geometry.levels(torch.eye(3, dtype=F64)[None], -1.0), "t"),
        (lambda: geometry.largest_gap(X[:, :1]), "levels"),
        (lambda: geometry.largest_gap(X), "levels"),
        (lambda: geometry.soft_dimension(NAN), "levels"),
        (lambda: geometry.empirical_jacobian(X, 0.0, X), "t"),
        (lambda: geometry.empirical_jacobian(X, 0.5, X[:, :2]), "data"),
        (lambda: geometry.empirical_jacobian(X, 0.5, X[:0]), "data"),
        (lambda: geometry.embedding(3, 4), "m"),
        (lambda: geometry.embedding(3, 0), "m"),
        (lambda: geometry.linear_score(X, 0.5, F[:2]), "x"),
        (lambda: geometry.linear_score(X, 0.5, F.T), "f"),
        (lambda: geometry.linear_score(X, -0.5, F), "t"),
        (lambda: geometry.linear_jacobian(0.0, F), "t"),
        (lambda: geometry.linear_gap(0.5, 1.5), "rho"),
        (lambda: geometry.phase_times(0.0), "rho"),
        (lambda: geometry.level_density(torch.arange(3), 0.5, 0.3), "y"),
        (lambda: geometry.circle_score(X[:, :1], 0.5), "x"),
        (lambda: geometry.circle_score(X, 0.5, radius=0.0), "radius"),
        (lambda: geometry.circle_score(X * 1e200, 0.5), "x"),
        (lambda: geometry.circle_score(X, 0.5, thickness=-1.0), "thickness"),
        (lambda: geometry.circle_levels(0.5, 1), "d"),
        (lambda: geometry.flat_torus(0, 1, 2), "n"),
        (lambda: geometry.flat_torus(5, 2, 3), "ambient"),
        (lambda: geometry.neighbour_distances(X, 4), "x"),
        (lambda: geometry.two_nn(torch.zeros(5, 2)), "x"),
        (lambda: geometry.two_nn(torch.arange(6.0)[:, None][1:5] * 0 + 1), "x"),
        (lambda: geometry.levina_bickel(X, 2), "k"),
        (lambda: geometry.knn_error(X, X[:3, 0], X, X[:, 0]), "y"),
        (lambda: geometry.knn_error(X, X[:, 0], X[:, :2], X[:, 0]), "x_test"),
        (lambda: geometry.knn_circle_error(torch.tensor([0, 1]), 5, 0.1), "k"),
        (lambda: geometry.knn_circle_error(torch.tensor([1.0]), 5, 0.1), "k"),
        (lambda: geometry.hopfield_beta(0.0), "t"),
        (lambda: geometry.hopfield_update(X, X[:, :2], 1.0), "u"),
        (lambda: geometry.hopfield_energy(X, X, 0.0), "beta"),
        (lambda: geometry.hopfield_retrieve(X, X, 1.0, 0), "steps"),
        (lambda: geometry.score_retrieve(X, geometry.circle_score, 0.0), "t"),
        (lambda: geometry.coupling_action(X, 0.4), "x"),
    ],
)
def test_bad_input_is_named(call, name):
    with pytest.raises(ValueError, match=f"^{name}"):
        call()


def test_draws_repeat_with_their_generator_and_differ_without_one():
    assert torch.equal(geometry.embedding(5, 2, seeded(1)), geometry.embedding(5, 2, seeded(1)))
    assert not torch.equal(geometry.embedding(5, 2), geometry.embedding(5, 2))
    assert not torch.equal(geometry.flat_torus(5, 1, 2), geometry.flat_torus(5, 1, 2))
    assert geometry.linear_score(X.float(), 0.5, F).dtype == torch.float32
