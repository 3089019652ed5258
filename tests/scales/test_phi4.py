"""φ⁴: rings and tori against brute-force quadrature, samplers against exact tori, learnt couplings against those of the samples."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.sparse.linalg import LinearOperator, eigsh

from physgen.errorbars import mean_and_error
from physgen.kernels import lattice
from physgen.kernels.wavelet import dwt2, idwt2
from physgen.scales import phi4, renormalization

BETA = 0.68
BOTH = pytest.mark.parametrize("convention", ["A", "B"])


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def quadrature(shape, beta, convention, step):
    """log Z and the averages of M², x², x⁴ and the bonds by the trapezium rule over all sites."""
    line = torch.arange(-2.8, 2.8001, step, dtype=torch.float64)
    x = torch.cartesian_prod(*[line] * math.prod(shape)).view(-1, *shape)
    log_weight = -phi4.action(x, beta, convention)
    p = torch.softmax(log_weight, 0)
    log_z = float(torch.logsumexp(log_weight, 0)) + math.prod(shape) * math.log(step)
    sites = tuple(range(1, x.ndim))
    bond = sum((x * x.roll(-1, k)).mean(sites) for k in sites) / len(sites)
    return log_z, *(float(p @ v) for v in (x.mean(sites) ** 2, (x**2).mean(sites), bond))


# ------------------------------------------------------------------------------------------------- conventions


@BOTH
def test_the_action_is_that_of_the_kernels_and_their_force_is_its_gradient(convention):
    x = torch.randn(3, 4, 6, generator=seeded(1), dtype=torch.float64).requires_grad_()
    found, law = phi4.action(x, BETA, convention), phi4.potential(BETA, convention)
    constant = 24 if convention == "A" else 0
    assert torch.allclose(found, lattice.action(x, BETA, *law) + constant, rtol=1e-13)
    (gradient,) = torch.autograd.grad(found.sum(), x)
    assert torch.allclose(lattice.force(x.detach(), BETA, *law), -gradient, rtol=1e-12, atol=1e-12)


def test_convention_b_is_a_sum_of_products_with_its_own_mass_on_rings_and_tori():
    x = torch.randn(5, 4, 6, generator=seeded(2), dtype=torch.float64)
    products = (x * x.roll(1, 1) + x * x.roll(1, 2)).sum((1, 2))
    torus = (x**4 - x**2).sum((1, 2)) - BETA * products
    assert torch.allclose(phi4.action(x, BETA), torus, rtol=1e-12)
    ring = x[:, 0]
    expected = (ring**4 - (1 + BETA) * ring**2 - BETA * ring * ring.roll(1, 1)).sum(1)
    assert torch.allclose(phi4.action(ring, BETA), expected, rtol=1e-12)


def test_convention_a_is_the_double_well_with_minima_at_plus_and_minus_one():
    x = torch.full((2, 3, 3), 1.0, dtype=torch.float64)
    x[1] = -1
    assert phi4.action(x, 0.9, "A").tolist() == [0, 0]
    assert phi4.action(0 * x, 0.9, "A").tolist() == [9, 9]


def test_the_conventions_agree_at_one_half_only_up_to_one_per_site():
    x = torch.randn(50, 3, 4, generator=seeded(3), dtype=torch.float64)
    gap = phi4.action(x, 0.5, "A") - phi4.action(x, 0.5, "B")
    assert torch.allclose(gap, torch.full_like(gap, 12), rtol=1e-12)  # PHI-2
    other = phi4.action(x, 0.6, "A") - phi4.action(x, 0.6, "B")
    # 0.2 Σ x² of twelve normal numbers: a spread of 0.2 √24.
    assert float(other.std()) > 0.5


def test_the_conventions_have_one_partition_function_at_one_half():
    for sites, found in ((4, phi4.log_partition_ring), (9, lambda L, *a: phi4.log_partition_torus(3, *a))):
        assert found(4, 0.5, "B") == pytest.approx(found(4, 0.5, "A") + sites, abs=1e-9)


# ------------------------------------------------------------------------------------------------- exact rings and tori


@BOTH
@pytest.mark.parametrize("L", [2, 3])
def test_a_ring_is_what_quadrature_over_all_sites_gives(L, convention):
    exact = phi4.moments_ring(L, 0.9, convention)
    found = quadrature((L,), 0.9, convention, 0.08)
    # Both are trapezium rules of entire functions that fall as e^{−x⁴}: their Fourier transforms at 2π/0.08 are below 10⁻³⁰.
    assert (exact.log_z, exact.magnetization2, exact.variance) == pytest.approx(found[:3], abs=1e-12)
    assert float(exact.correlations[1]) == pytest.approx(found[3], abs=1e-12)


@pytest.mark.parametrize(
    ("beta", "log_z", "variance"),
    [(0.5, 1.472014, 0.716492), (1.0, 0.758102, 0.698772), (2.0, 0.000642, 0.739325)],
)
def test_the_ring_of_four_has_the_values_of_the_claim(beta, log_z, variance):
    exact = phi4.moments_ring(4, beta, "A")
    assert exact[:2] == pytest.approx((log_z, variance), abs=5.1e-7)  # PHI-3


def test_rings_have_the_correlations_and_the_correlation_length_of_the_claim():
    ring = phi4.moments_ring(4, 1.0, "A")
    expected = [0.698772, 0.424031, 0.347188, 0.424031]
    assert ring.correlations.tolist() == pytest.approx(expected, abs=5.1e-7)  # PHI-3
    assert ring.correlation_length == pytest.approx(1.56304, abs=5.1e-6)
    assert phi4.log_partition_ring(16, 1.0, "A") == pytest.approx(2.733814, abs=5.1e-7)


def test_correlations_of_a_long_ring_fall_by_its_correlation_length():
    ring = phi4.moments_ring(60, 0.8)
    fall = math.log(ring.correlations[14] / ring.correlations[15])
    # The next odd level is λ_3: its share has fallen by (λ_3/λ_1)^14 < 10⁻¹⁰, and what comes round by e^{−30/ξ} at ξ = 1.8.
    assert 1 / fall == pytest.approx(ring.correlation_length, rel=1e-6)


def test_free_sites_have_no_correlation():
    ring = phi4.moments_ring(5, 0.0)
    assert ring.correlation_length == 0
    assert ring.correlations[1:].abs().max() < 1e-15
    assert ring.log_z == pytest.approx(5 / 3 * phi4.log_partition_ring(3, 0.0), abs=1e-12)
    torus = phi4.moments_torus(3, 0.0)
    assert (torus.log_z / 9, torus.variance) == pytest.approx((ring.log_z / 5, ring.variance), abs=1e-12)


def test_a_stiff_ring_is_one_spin():
    ring = phi4.moments_ring(6, 30.0)
    # Wells at x² = (1 + 2β)/2, less the fluctuations, and a barrier of 900 a site: λ_0 and λ_1 agree to rounding.
    assert ring.correlation_length > 1e10
    assert ring.magnetization2 == pytest.approx(30.5, rel=1e-3)
    assert torch.allclose(ring.correlations, ring.correlations[:1], rtol=1e-3)


def test_bonds_of_a_torus_of_two_by_two_count_twice_as_a_ring_at_double_coupling():
    assert phi4.log_partition_torus(2, 0.5, "A") == pytest.approx(0.758102, abs=5.1e-7)  # PHI-3
    for beta in (0.3, 0.7):
        torus, ring = phi4.moments_torus(2, beta, "A"), phi4.moments_ring(4, 2 * beta, "A")
        found = (torus.log_z, torus.variance, torus.magnetization2, torus.bond)
        expected = (ring.log_z, ring.variance, ring.magnetization2, float(ring.correlations[1]))
        # What is left of the bond beyond 14 eigenfunctions: λ_14/λ_0 < 10⁻¹⁰ of it.
        assert found == pytest.approx(expected, abs=1e-10)


@BOTH
def test_a_small_torus_is_what_quadrature_over_all_sites_gives(convention):
    exact = phi4.moments_torus(2, BETA, convention)
    found = quadrature((2, 2), BETA, convention, 0.16)
    expected = (exact.log_z, exact.magnetization2, exact.variance, exact.bond)
    # The Fourier transform of e^{−x⁴} falls as e^{−(3/8) k (k/4)^⅓}: 10⁻¹⁶ at k = 2π/0.16.
    assert expected == pytest.approx(found, abs=1e-9)


@pytest.mark.parametrize(
    ("L", "beta", "convention", "expected"),
    [
        (3, 0.5, "A", (1.08992195, 0.64940565, 0.30630902)),
        (3, 0.68, "A", (0.12366355, 0.66415804, 0.41526629)),
        (3, 0.68, "B", (11.60539381, 0.87572525, 0.66782885)),
        (4, 0.68, "B", (20.089925, 0.863978, 0.616436)),
    ],
)
def test_tori_of_three_and_four_have_the_values_of_the_claim(L, beta, convention, expected):
    exact = phi4.moments_torus(L, beta, convention)
    assert exact[:3] == pytest.approx(expected, abs=5.1e-9 if L == 3 else 5.1e-7)  # PHI-4
    assert phi4.log_partition_torus(L, beta, convention) == exact.log_z
    assert phi4.field_variance_torus(L, beta, convention) == exact.variance


def test_eigenfunctions_beyond_the_default_change_nothing():
    for L, bound in ((2, 1e-10), (3, 1e-8)):
        rank = phi4.RANKS[L]
        few, more = phi4.moments_torus(L, BETA), phi4.moments_torus(L, BETA, rank=rank + 1)
        assert few == pytest.approx(more, abs=bound)
    # Four: each eigenfunction takes the error down by ten or more, and from five to six it falls by 2.4·10⁻⁷.
    few, more = (phi4.moments_torus(4, BETA, rank=rank) for rank in (5, 6))
    assert abs(more.log_z - few.log_z) < 1e-6 and abs(more.variance - few.variance) < 1e-6


@BOTH
def test_the_derivative_of_log_z_in_the_coupling_is_the_bond_sum(convention):
    h = 1e-3
    ends = [phi4.log_partition_torus(2, BETA + k * h, convention, rows=3) for k in (-2, -1, 1, 2)]
    slope = (ends[0] - 8 * ends[1] + 8 * ends[2] - ends[3]) / (12 * h)
    exact = phi4.moments_torus(2, BETA, convention, rows=3)
    # A: −½ Σ (x_i − x_j)² = −12 (⟨x²⟩ − ⟨x_i x_j⟩). B: Σ x_i x_j over 12 bonds.
    expected = 12 * (exact.bond - exact.variance) if convention == "A" else 12 * exact.bond
    # Five points: h⁴/30 of the fifth derivative of log Z, some 10³; and 10⁻¹⁴ · 12/h of rounding.
    assert slope == pytest.approx(expected, abs=1e-9)


def test_a_rectangle_lies_down():
    upright, lying = phi4.moments_torus(2, BETA, rows=3, rank=10), phi4.moments_torus(3, BETA, rows=2)
    assert upright == pytest.approx(lying, abs=1e-10)


@BOTH
@pytest.mark.parametrize(("L", "rows"), [(2, 2), (2, 3), (3, 3), (4, 2)])
def test_the_law_of_one_site_of_a_torus_has_its_moments(L, rows, convention):
    x, p = phi4.field_density_torus(L, BETA, convention, rows=rows)
    exact, dx = phi4.moments_torus(L, BETA, convention, rows=rows), float(x[1] - x[0])
    fourth = float((p * x**4).sum()) * dx
    assert (float(p.sum()) * dx, float((p * x**2).sum()) * dx) == pytest.approx(
        (1, exact.variance), abs=1e-10
    )
    assert torch.allclose(p, p.flip(0), atol=1e-12) and float(p.min()) > -1e-12
    # The equation of motion, whose bond is that of the torus.
    found = phi4._neighbours(BETA, phi4.potential(BETA, convention), exact.variance, fourth)
    assert found == pytest.approx(exact.bond, abs=1e-9)


def test_the_law_of_one_site_of_two_by_two_is_an_integral_over_the_others():
    x, p = phi4.field_density_torus(2, BETA)
    line = torch.arange(-2.8, 2.8001, 0.16, dtype=torch.float64)
    others = torch.cartesian_prod(line, line, line)
    for k in (20, 32, 40):
        sites = torch.cat([x[k].expand(len(others), 1), others], 1).view(-1, 2, 2)
        log_p = torch.logsumexp(-phi4.action(sites, BETA), 0) + 3 * math.log(0.16)
        assert float(p[k]) == pytest.approx(math.exp(log_p - phi4.log_partition_torus(2, BETA)), abs=1e-9)


# ------------------------------------------------------------------------------------------------- strips


@pytest.mark.parametrize("width", [2, 3])
@BOTH
def test_the_correlation_length_of_a_strip_is_that_of_its_transfer_matrix_on_a_grid(width, convention):
    beta, step = 0.8, 0.16
    x = np.arange(-18, 19) * step  # up to 2.88
    law = phi4.potential(beta, convention)
    rows = np.stack(np.meshgrid(*[x] * width, indexing="ij"))
    bonds = beta / 2 * sum((rows[k] - rows[k - 1]) ** 2 for k in range(width))
    root = np.exp(-(bonds + (rows**4 * law.quartic + rows**2 * law.quadratic).sum(0)) / 2)
    kernel = np.exp(-beta / 2 * (x[:, None] - x) ** 2)

    def apply(v):
        v = v.reshape(root.shape) * root
        for k in range(width):
            v = np.moveaxis(np.tensordot(kernel, v, (1, k)), 0, k)
        return (v * root).ravel()

    matrix = LinearOperator((root.size, root.size), apply, dtype=float)
    start = np.ones(root.size) + 0.1 * rows[0].ravel()
    second, first = np.sort(eigsh(matrix, 2, which="LA", tol=1e-12, v0=start)[0])
    # The ranks leave 10⁻⁸ of ξ, the grid less.
    assert phi4.strip_correlation_length(width, beta, convention) == pytest.approx(
        1 / math.log(first / second), rel=1e-7
    )


def test_strips_cross_at_the_critical_coupling_with_a_ratio_near_that_of_ising():
    near, far = phi4.critical_beta((2, 3)), phi4.critical_beta((3, 4))
    assert near == pytest.approx((0.6803, 1.259), abs=5e-4)  # PHI-2
    assert far == pytest.approx((0.6791, 1.248), abs=1e-3)
    # Cardy's 4/π; the crossings of so narrow strips come within 2 %.
    assert far.ratio == pytest.approx(4 / math.pi, rel=0.03)


def test_convention_a_is_critical_elsewhere():
    assert phi4.critical_beta((2, 3), "A") == pytest.approx((0.9405, 1.346), abs=6e-4)  # PHI-2
    assert phi4.critical_beta((3, 4), "A") == pytest.approx((0.9269, 1.300), abs=1e-3)


# ------------------------------------------------------------------------------------------------- samplers


def away(found, exact):
    """How many standard errors a chain is from an exact mean."""
    estimate = mean_and_error(found)
    return float((estimate.mean - exact) / estimate.error)


@BOTH
def test_exact_samples_of_a_ring_have_its_correlations(convention):
    exact, n = phi4.moments_ring(6, 0.9, convention), 20_000
    x = phi4.sample_ring(6, 0.9, n, convention, generator=seeded(4))
    for r in range(4):
        products = (x * x.roll(r, 1)).mean(1)
        # Independent samples; 4.5 standard errors for eight comparisons.
        assert abs(float(products.mean() - exact.correlations[r])) < 4.5 * float(products.std()) / math.sqrt(
            n
        )


def test_mala_is_hybrid_monte_carlo_with_one_leapfrog_step():
    epsilon = 0.03
    x, p = (torch.randn(7, 4, 6, generator=seeded(s), dtype=torch.float64) for s in (5, 6))
    y, q = lattice.leapfrog(x, p, BETA, *phi4.potential(BETA), math.sqrt(2 * epsilon), 1)
    drift = epsilon * lattice.force(x, BETA, *phi4.potential(BETA))
    assert torch.allclose(y, x + drift + math.sqrt(2 * epsilon) * p, rtol=1e-12, atol=1e-12)
    energies = [phi4.action(a, BETA) + (b**2).sum((1, 2)) / 2 for a, b in ((x, p), (y, q))]
    found = phi4.mala_log_acceptance(x, y, epsilon, BETA)
    assert torch.allclose(found, energies[0] - energies[1], rtol=1e-9, atol=1e-9)
    assert torch.allclose(phi4.mala_log_acceptance(y, x, epsilon, BETA), -found, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("L", "convention", "options"),
    [
        (3, "A", {"method": "hmc"}),
        (4, "B", {"method": "hmc", "clusters": 2}),
        (2, "B", {"method": "hmc", "clusters": 1}),
        (3, "B", {"method": "mala", "thin": 4, "step": 0.05, "warmup": 200}),
    ],
)
def test_samplers_have_the_averages_of_the_exact_tori(L, convention, options):
    exact = phi4.moments_torus(L, BETA, convention)
    chains = phi4.sample(
        L, BETA, convention=convention, chains=200, records=100, generator=seeded(7), **options
    )
    assert 0.3 < chains.acceptance < 0.99
    # 100 updates to forget the start are ten autocorrelation times or more. 4.5 standard errors for 16 comparisons.
    assert abs(away(chains.square, exact.variance)) < 4.5
    assert abs(away(chains.magnetization**2, exact.magnetization2)) < 4.5
    assert abs(away(chains.bond / 2, exact.bond)) < 4.5
    last = chains.magnetization[:, -1]  # of independent chains; in time large clusters make M alternate
    assert abs(float(last.mean())) < 4.5 * float(last.std()) / math.sqrt(200)
    assert chains.magnetization.shape == (200, 100) and chains.fields.shape == (200, L, L)


def test_records_are_those_of_the_fields():
    chains = phi4.sample(4, BETA, chains=3, records=2, warmup=5, generator=seeded(8))
    x = chains.fields.double()
    assert torch.allclose(chains.magnetization[:, -1], x.mean((1, 2)))
    assert torch.allclose(chains.square[:, -1], (x**2).mean((1, 2)))
    s = phi4.action(x, BETA) / 16
    assert torch.allclose(s, chains.quartic[:, -1] - chains.square[:, -1] - BETA * chains.bond[:, -1])


def test_langevin_dynamics_without_a_test_is_off_in_proportion_to_its_step():
    exact, off, errors = phi4.moments_torus(3, BETA).variance, [], []
    for epsilon in (0.04, 0.02):
        options = {"step": epsilon, "thin": round(0.4 / epsilon), "warmup": round(6 / epsilon)}
        chains = phi4.sample(3, BETA, "langevin", chains=600, records=100, generator=seeded(9), **options)
        estimate = mean_and_error(chains.square)
        off.append(float(estimate.mean) - exact)
        errors.append(float(estimate.error))
    assert chains.acceptance == 1
    assert off[1] < -4.5 * errors[1]
    # Twice the step, twice the bias; the next order is ε times the stiffness, 16, smaller by half.
    assert 1.5 < off[0] / off[1] < 3


@pytest.mark.parametrize("shape", [(5,), (3, 4)])
def test_what_a_step_of_langevin_distorts_is_made_of_slope_and_curvature(shape):
    x = torch.randn(1, *shape, generator=seeded(30), dtype=torch.float64)
    s = lambda y: phi4.action(y.view(1, *shape), BETA)[0]  # noqa: E731
    slope = torch.autograd.functional.jacobian(s, x.flatten())
    curvature = torch.autograd.functional.hessian(s, x.flatten()).trace()
    expected = float((slope**2).sum() / 4 - curvature / 2)
    assert float(phi4.langevin_distortion(x, BETA)) == pytest.approx(expected, rel=1e-12)


def test_langevin_dynamics_is_off_by_its_step_times_a_covariance():
    # In A the torus of 2 × 2 is the ring of four at twice the coupling, of which there are exact samples.
    ring = phi4.sample_ring(4, 2 * BETA, 40_000, "A", generator=seeded(31))
    square, f = (ring**2).mean(1), phi4.langevin_distortion(ring, 2 * BETA, "A")
    both = (square - square.mean()) * (f - f.mean())
    slope, spread = float(both.mean()), float(both.std()) / 200
    exact, epsilon = phi4.moments_torus(2, BETA, "A").variance, 0.02
    options = {"step": epsilon, "thin": 20, "warmup": 200, "convention": "A", "generator": seeded(32)}
    chains = phi4.sample(2, BETA, "langevin", chains=4000, records=40, **options)
    found = mean_and_error(chains.square)
    # 4.5 errors of both; beyond, the next order: ε times the stiffness, 12, halved.
    bound = 4.5 * math.hypot(float(found.error) / epsilon, spread) + 6 * epsilon * abs(slope)
    assert float(found.mean - exact) / epsilon == pytest.approx(slope, abs=bound)
    assert bound < 0.5 * abs(slope)


def test_the_same_generator_gives_the_same_chains():
    first, second = (
        phi4.sample(4, BETA, chains=2, records=3, warmup=2, clusters=1, generator=seeded(10))
        for _ in range(2)
    )
    assert torch.equal(first.fields, second.fields)
    fresh = phi4.sample(4, BETA, chains=2, records=3, warmup=2)
    assert not torch.equal(first.fields, fresh.fields)


def test_clusters_make_the_magnetization_forget():
    tau = [
        float(
            mean_and_error(
                phi4.sample(
                    6, 0.8, chains=40, records=120, warmup=60, clusters=k, generator=seeded(11)
                ).magnetization
            ).tau
        )
        for k in (0, 2)
    ]
    # Below the critical point of the plane M changes its sign by an interface through the whole lattice, or by one cluster.
    assert tau[0] > 10 * tau[1]


# ------------------------------------------------------------------------------------------------- what fields show


def test_the_binder_cumulant_of_the_field_rises_with_order():
    found = []
    for beta in (0.3, 0.68, 1.2):
        chains = phi4.sample(4, beta, chains=50, records=60, clusters=1, generator=seeded(12))
        found.append(renormalization.binder(chains.magnetization))
    # Errors below 0.02; disorder is near 0 but for N = 16, order near 2/3.
    assert found[0].value < 0.35 < found[1].value < found[2].value < 2 / 3
    assert found[2].value > 0.6


def test_white_noise_has_a_flat_spectrum_and_a_wave_has_one_shell():
    noise = torch.randn(500, 16, 16, generator=seeded(15), dtype=torch.float64)
    k, power = phi4.power_spectrum(noise)
    # The shell of k = 0 is the mean of 500 squares, relative error √(2/500); others have more.
    assert len(k) == 9 and float((power - 1).abs().max()) < 4.5 * math.sqrt(2 / 500)
    wave = torch.cos(2 * math.pi * 3 * torch.arange(16, dtype=torch.float64) / 16).expand(1, 16, 16)
    k, power = phi4.power_spectrum(wave)
    assert int(power.argmax()) == 3 and float(power.sum()) == pytest.approx(float(power[3]), rel=1e-12)


def test_the_zero_mode_of_the_spectrum_is_the_magnetization():
    x = torch.randn(20, 8, 8, generator=seeded(16), dtype=torch.float64)
    assert float(phi4.power_spectrum(x)[1][0]) == pytest.approx(64 * float((x.mean((1, 2)) ** 2).mean()))


# ------------------------------------------------------------------------------------------------- couplings from samples


METHODS = pytest.mark.parametrize("method", ["score", "pseudolikelihood", "likelihood"])
TRUTH = torch.tensor([BETA, -(1 + 2 * BETA), 1.0], dtype=torch.float64)


def theta(fit):
    return torch.cat([fit.bonds, fit.potential])


@METHODS
def test_couplings_come_back_from_exact_samples(method):
    x = phi4.sample_ring(6, BETA, 3000, generator=seeded(17))
    fit = phi4.fit_couplings(x, method)
    # Estimates are normal for so many samples; 4.5 errors for nine comparisons.
    assert float(((theta(fit) - TRUTH) / fit.error).abs().max()) < 4.5
    assert float(fit.error.max()) < 0.08


@METHODS
def test_the_errors_of_couplings_are_their_spread(method):
    fits = [
        phi4.fit_couplings(phi4.sample_ring(4, BETA, 200, generator=seeded(s)), method) for s in range(60)
    ]
    pulls = torch.stack([(theta(fit) - TRUTH) / fit.error for fit in fits])
    # 30 pulls: their root mean square is 1 ± 0.13, and the errors themselves, from moments of 200 samples, know 10 %.
    assert torch.allclose(pulls.square().mean(0).sqrt(), torch.ones(3, dtype=torch.float64), atol=0.5)


def test_no_estimator_is_better_than_the_likelihood():
    x = phi4.sample_ring(8, BETA, 4000, generator=seeded(18))
    least, *others = (phi4.fit_couplings(x, m).error for m in ("likelihood", "pseudolikelihood", "score"))
    # Cramér and Rao; errors from 4000 samples are known to 2 or 3 %.
    assert all(bool((least <= 1.05 * other).all()) for other in others)


def test_couplings_come_back_from_fields_on_a_torus():
    x = phi4.sample(6, 0.5, chains=1500, records=1, warmup=60, clusters=1, generator=seeded(19)).fields
    truth = torch.tensor([0.5, -2.0, 1.0], dtype=torch.float64)
    for fit in (
        phi4.fit_couplings(x),
        phi4.fit_couplings(x, "pseudolikelihood"),
        phi4.fit_couplings(x, wavelet="haar"),
        phi4.fit_couplings(x, wavelet="db2"),
    ):
        # The law of the details given the averages has the same couplings.
        assert float(((theta(fit) - truth) / fit.error).abs().max()) < 4.5


def test_couplings_that_are_not_there_are_not_found():
    x = phi4.sample(6, 0.5, chains=1500, records=1, warmup=60, clusters=1, generator=seeded(20)).fields
    for method in ("score", "pseudolikelihood"):
        fit = phi4.fit_couplings(x, method, ranges=3, powers=(2, 4, 6))
        truth = torch.tensor([0.5, 0, 0, -2, 1, 0], dtype=torch.float64)
        assert float(((theta(fit) - truth) / fit.error).abs().max()) < 4.5
        assert float(fit.error[1:3].max()) < 0.05


def test_score_matching_minimises_hyvarinens_objective():
    x = torch.randn(6, 4, 4, generator=seeded(21), dtype=torch.float64)

    def objective(theta):
        beta, quadratic, quartic = theta

        def s(field):
            bonds = sum((field - field.roll(-1, k)) ** 2 for k in (0, 1)) / 2
            return (beta * bonds + quadratic * field**2 + quartic * field**4).sum()

        total = 0.0
        for field in x:
            gradient = torch.autograd.functional.jacobian(s, field, create_graph=True)
            hessian = torch.autograd.functional.hessian(s, field, create_graph=True).view(16, 16)
            total = total + (gradient**2).sum() / 2 - hessian.trace()
        return total

    found = theta(phi4.fit_couplings(x)).requires_grad_()
    (slope,) = torch.autograd.grad(objective(found), found)
    scale = torch.autograd.functional.hessian(objective, found.detach()).diagonal()
    assert float((slope / scale).abs().max()) < 1e-10


def test_the_pseudolikelihood_is_at_its_maximum():
    x = phi4.sample_ring(5, BETA, 40, generator=seeded(22))
    line = torch.linspace(-4, 4, 801, dtype=torch.float64)

    def objective(theta):
        beta, quadratic, quartic = theta
        near = x.roll(1, 1) + x.roll(-1, 1)
        energy = lambda y, n: beta * (y**2 - y * n) + quadratic * y**2 + quartic * y**4  # noqa: E731
        log_z = torch.logsumexp(-energy(line, near[:, :, None]), 2)
        return (energy(x, near) + log_z).sum()

    found = theta(phi4.fit_couplings(x, "pseudolikelihood")).requires_grad_()
    (slope,) = torch.autograd.grad(objective(found), found)
    assert float(slope.abs().max()) < 1e-6


def test_the_mass_alone_knows_nothing_of_neighbours():
    x = phi4.sample_ring(4, BETA, 4000, generator=seeded(23))
    fit = phi4.fit_couplings(x, "likelihood", ranges=0)
    assert len(fit.bonds) == 0
    line = torch.linspace(-3, 3, 601, dtype=torch.float64)
    p = torch.softmax(-(fit.potential[0] * line**2 + fit.potential[1] * line**4), 0)
    # ⟨x²⟩ and ⟨x⁴⟩ of a site are those of the samples: the likelihood is at its maximum. All that couples sites is lost.
    assert float(p @ line**2) == pytest.approx(float((x**2).mean()), abs=1e-8)
    assert float(p @ line**4) == pytest.approx(float((x**4).mean()), abs=1e-8)
    assert float((x * x.roll(1, 1)).mean()) == pytest.approx(0.4710, abs=0.05)  # PHI-1


@pytest.mark.parametrize("wavelet", ["haar", "db4"])
def test_the_trace_over_details_is_that_of_their_hessian(wavelet):
    x = torch.randn(8, 6, generator=seeded(24), dtype=torch.float64)
    here, (bonds,) = phi4._detail_traces(x.shape, wavelet, phi4.RANGES[2][:1])
    law = phi4.potential(BETA)
    found = BETA * bonds + (here * (12 * law.quartic * x**2 + 2 * law.quadratic)).sum()
    assert float(found) == pytest.approx(
        float(phi4.detail_hessian(x, BETA, wavelet=wavelet).trace()), rel=1e-11
    )


def test_scales_are_fitted_from_fine_to_coarse():
    x = phi4.sample(8, 0.5, chains=800, records=1, warmup=60, clusters=1, generator=seeded(25)).fields
    fits = phi4.fit_scales(x, 2)
    assert len(fits) == 3
    assert torch.equal(theta(fits[0]), theta(phi4.fit_couplings(x, wavelet="haar")))
    coarse = dwt2(dwt2(x.double(), "haar", 1)[0], "haar", 1)[0]
    assert torch.equal(theta(fits[2]), theta(phi4.fit_couplings(coarse)))
    # Orthonormal averages of four sites: the quartic coupling of a Gaussian-like field falls by more than half a scale.
    assert fits[0].potential[1] > 2 * fits[1].potential[1] > 4 * fits[2].potential[1] > 0


# ------------------------------------------------------------------------------------------------- one exact step


GAUSSIAN = ((2, 0), (1, 1))
ANSATZ = {
    "Gaussian": GAUSSIAN,
    "quartic": (*GAUSSIAN, (4, 0)),
    "product": (*GAUSSIAN, (4, 0), (2, 2)),
    "sixth": (*GAUSSIAN, (4, 0), (2, 2), (6, 0), (3, 1)),
}


@pytest.fixture(scope="module")
def table():
    return phi4.ring_table(BETA)


def test_log_z_over_averages_and_details_is_that_of_the_transfer_matrix(table):
    ring = phi4.moments_ring(4, BETA)
    assert table.log_z == pytest.approx(6.2911179, abs=5.1e-8)  # RGR-12
    assert (table.log_z, table.variance) == pytest.approx((ring.log_z, ring.variance), abs=1e-12)
    assert table.variance == pytest.approx(0.857973, abs=5.1e-7)
    other, expected = phi4.ring_table(1.3, "A"), phi4.moments_ring(4, 1.3, "A")
    assert (other.log_z, other.variance) == pytest.approx((expected.log_z, expected.variance), abs=1e-12)


def test_the_marginal_of_the_averages_is_an_integral_over_the_details(table):
    line = torch.arange(-5, 5.001, 0.1, dtype=torch.float64)
    f1, f2 = torch.meshgrid(line, line, indexing="ij")
    for i, j in ((80, 80), (90, 95), (70, 100)):
        c1, c2 = table.grid[i], table.grid[j]
        x = torch.stack([c1 + f1, c1 - f1, c2 + f2, c2 - f2], -1).view(-1, 4) / math.sqrt(2)
        expected = torch.logsumexp(-phi4.action(x, BETA), 0) + 2 * math.log(0.1) - table.log_z
        assert float(table.log_density[i, j]) == pytest.approx(float(expected), abs=1e-10)


def test_fits_of_the_marginal_have_the_divergences_and_the_conditioning_of_the_claim(table):
    fits = {name: phi4.fit_coarse(table, monomials) for name, monomials in ANSATZ.items()}
    # RGR-12; its Gaussian, 0.3455 and 26, is cut at the edges of a short grid: the law on the whole line has 0.3555.
    found = [fits[name].kl for name in ("quartic", "product", "sixth")]
    assert found == pytest.approx([0.0276, 0.0273, 0.0065], abs=5.1e-5)
    found = [fits[name].condition for name in ("quartic", "product", "sixth")]
    assert found == pytest.approx([181, 212, 15422], abs=0.51)
    assert fits["Gaussian"].kl == pytest.approx(0.3555, abs=5.1e-5)


def test_the_gaussian_fit_is_the_one_with_the_same_covariance(table):
    fit, cell = phi4.fit_coarse(table, GAUSSIAN), float(table.grid[1] - table.grid[0]) ** 2
    p = table.log_density.exp() * cell
    same, across = float(p.sum(1) @ table.grid**2), float(table.grid @ p @ table.grid)
    entropy = -float((p * table.log_density).sum())
    closed = math.log(2 * math.pi * math.e) + math.log(same**2 - across**2) / 2 - entropy
    # The Gaussian beyond the grid: seven standard deviations.
    assert fit.kl == pytest.approx(closed, abs=1e-9)
    precision = [same / (same**2 - across**2) / 2, -across / (same**2 - across**2)]
    assert fit.theta.tolist() == pytest.approx(precision, abs=1e-8)


def test_a_fit_has_the_features_of_the_marginal_and_is_a_law(table):
    fit, c = phi4.fit_coarse(table, ANSATZ["product"]), table.grid
    cell = float(c[1] - c[0]) ** 2
    features = phi4.coarse_features(c[:, None], c[None], ANSATZ["product"])
    p, q = table.log_density.exp() * cell, fit.log_density.exp() * cell
    assert (float(p.sum()), float(q.sum())) == pytest.approx((1, 1), abs=1e-12)
    means = [torch.einsum("ij,ijk->k", w, features) for w in (p, q)]
    assert torch.allclose(*means, rtol=1e-9)
    assert fit.kl == pytest.approx(float((p * (table.log_density - fit.log_density)).sum()), abs=1e-12)


def test_sampling_from_coarse_to_fine_gives_the_ring(table):
    n, exact = 20_000, phi4.moments_ring(4, BETA)
    x = phi4.coarse_to_fine(table, n, generator=seeded(26))
    for k, r in itertools.product(range(4), (0, 1, 2)):
        products = x[:, k] * x[:, k - r]
        # 4.5 standard errors for twelve comparisons: bonds inside a pair and across pairs alike.
        assert abs(float(products.mean() - exact.correlations[r])) < 4.5 * float(products.std()) / math.sqrt(
            n
        )


def test_a_poor_law_of_the_averages_is_seen_in_the_samples(table):
    fit = phi4.fit_coarse(table, GAUSSIAN)
    x = phi4.coarse_to_fine(table, 20_000, log_density=fit.log_density, generator=seeded(27))
    y = phi4.coarse_to_fine(table, 20_000, generator=seeded(28))
    # Fourth moments of the averages: three times a variance squared for the Gaussian, far less for two wells.
    kurtosis = [float((c**4).mean() / (c**2).mean() ** 2) for c in ((z[:, 0] + z[:, 1]) for z in (x, y))]
    assert kurtosis[0] == pytest.approx(3, abs=0.15) and kurtosis[1] < 2.5


# ------------------------------------------------------------------------------------------------- convexity of details


def test_the_hessian_of_details_is_that_of_the_action_in_wavelets():
    x = torch.randn(4, 6, generator=seeded(29), dtype=torch.float64) * 0.7
    average, details = dwt2(x, "haar", 1)
    shapes = details[0].shape

    def s(flat):
        parts = tuple(flat.view(3, *shapes))
        return phi4.action(idwt2([average, parts], "haar")[None], BETA)[0]

    expected = torch.autograd.functional.hessian(s, torch.stack(details).flatten())
    assert torch.allclose(phi4.detail_hessian(x, BETA), expected, rtol=1e-10, atol=1e-10)


def test_the_law_of_haars_details_is_not_convex_at_the_flat_field():
    flat = torch.zeros(8, 8, dtype=torch.float64)
    eigenvalues = torch.linalg.eigvalsh(phi4.detail_hessian(flat, BETA))
    assert float(eigenvalues[0]) == pytest.approx(-3.36, abs=1e-12)  # RGR-9: 2β − 2(1 + 2β)
    assert float(eigenvalues[-1]) == pytest.approx(0.72, abs=1e-12)  # 8β − 2(1 + 2β), the chequerboard
    bonds = torch.linalg.eigvalsh(phi4.detail_hessian(flat, 1.0, "A")) + 4
    assert (float(bonds[0]), float(bonds[-1])) == pytest.approx((2, 8), abs=1e-12)


# ------------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: phi4.potential(-0.1), "beta"),
        (lambda: phi4.potential(0.5, "C"), "convention"),
        (lambda: phi4.action(torch.zeros(4), 0.5), "x"),
        (lambda: phi4.action(torch.full((1, 4), math.nan), 0.5), "x"),
        (lambda: phi4.log_partition_ring(1, 0.5), "L"),
        (lambda: phi4.log_partition_ring(4, math.nan), "beta"),
        (lambda: phi4.log_partition_torus(5, 0.5), "L"),
        (lambda: phi4.moments_torus(3, 0.5, rows=1), "rows"),
        (lambda: phi4.field_variance_torus(3, 0.5, rank=1), "rank"),
        (lambda: phi4.strip_correlation_length(6, 0.5), "width"),
        (lambda: phi4.strip_correlation_length(3, 0.0), "beta"),
        (lambda: phi4.critical_beta((3, 3)), "widths"),
        (lambda: phi4.critical_beta((2, 3), low=0.1, high=0.2), "low, high"),
        (lambda: phi4.sample_ring(4, 0.5, 0), "samples"),
        (lambda: phi4.sample(4, 0.5, "gibbs"), "method"),
        (lambda: phi4.sample(4, 0.5, "mala", steps=3), "steps"),
        (lambda: phi4.sample(4, 0.5, step=0.0), "step"),
        (lambda: phi4.sample(4, 0.5, clusters=-1), "clusters"),
        (lambda: phi4.sample(4, 0.5, chains=2, start=torch.zeros(2, 4, 5)), "start"),
        (lambda: phi4.sample(4, 0.5, "langevin", step=0.5, warmup=50, generator=seeded(1)), "step|phi"),
        (lambda: phi4.mala_log_acceptance(torch.zeros(1, 4, 4), torch.zeros(1, 4, 2), 0.1, 0.5), "y"),
        (lambda: phi4.power_spectrum(torch.zeros(1, 4, 6)), "fields"),
        (lambda: phi4.fit_couplings(torch.zeros(1, 4)), "samples"),
        (lambda: phi4.fit_couplings(torch.zeros(3, 4)), "samples"),
        (lambda: phi4.fit_couplings(torch.ones(3, 4), "moments"), "method"),
        (lambda: phi4.fit_couplings(torch.ones(3, 4, 4), "likelihood"), "method"),
        (lambda: phi4.fit_couplings(torch.ones(3, 4), powers=(3,)), "powers"),
        (lambda: phi4.fit_couplings(torch.ones(3, 4), ranges=4), "ranges"),
        (lambda: phi4.fit_couplings(torch.ones(3, 4), "likelihood", wavelet="haar"), "wavelet"),
        (lambda: phi4.fit_couplings(torch.randn(3, 5), wavelet="haar"), "samples"),
        (lambda: phi4.fit_scales(torch.randn(3, 8, 8), 3), "levels"),
        (lambda: phi4.ring_table(0.5, points=20), "points"),
        (lambda: phi4.fit_coarse(phi4.ring_table(0.5), ((1, 0),)), "monomials"),
        (lambda: phi4.coarse_to_fine(phi4.ring_table(0.5), 3, log_density=torch.zeros(2, 2)), "log_density"),
        (lambda: phi4.detail_hessian(torch.zeros(2, 2, 2, 2), 0.5), "field"),
    ],
)
def test_what_does_not_fit_is_named(call, name):
    with pytest.raises(ValueError, match=f"^({name})"):
        call()
