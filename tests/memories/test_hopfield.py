"""The Hopfield model: enumeration, SciPy's quadrature, finite differences and the numbers of the literature."""

import math
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy import integrate, optimize

from physgen.memories import hebbian, hopfield

NAN = float("nan")


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def gaussian_average(f, kink=0.0, width=0.1):
    """∫ Dz f(z) by SciPy's adaptive quadrature, in pieces about the kink of f: 1e-10."""
    cuts = sorted({-10.0, 10.0, *(z for z in (kink - width, kink, kink + width) if abs(z) < 10)})
    law = math.sqrt(2 * math.pi)
    return sum(
        integrate.quad(
            lambda z: math.exp(-z * z / 2) / law * f(z), low, high, epsabs=1e-13, epsrel=1e-11, limit=400
        )[0]
        for low, high in pairwise(cuts)
    )


# ------------------------------------------------------------------------------------------------- energy, low load


def test_the_energy_in_the_overlaps_is_that_of_hebb_couplings_without_diagonal():
    xi = hebbian.random_patterns(3, 12, generator=seeded(1))
    states, h = hebbian.all_states(12), torch.tensor([0.3, -0.2, 0.7], dtype=torch.float64)
    direct = hebbian.energy(states, hebbian.hebb_couplings(xi), h @ xi.double())
    # HEB-41: sums of a hundred numbers of order one.
    torch.testing.assert_close(hopfield.energy_from_overlaps(states, xi, h), direct, rtol=0, atol=1e-13)
    torch.testing.assert_close(
        hopfield.energy_from_overlaps(states, xi),
        hebbian.energy(states, hebbian.hebb_couplings(xi)),
        atol=1e-13,
        rtol=0,
    )


def test_the_mean_overlap_is_minus_the_derivative_of_the_free_energy_in_its_field():
    xi, beta = hebbian.random_patterns(3, 12, generator=seeded(2)), 1.3
    states = hebbian.all_states(12)
    h = torch.tensor([0.1, -0.2, 0.3], dtype=torch.float64, requires_grad=True)
    free = -torch.logsumexp(-beta * hopfield.energy_from_overlaps(states, xi, h), 0) / (beta * 12)
    mean = hebbian.gibbs(hebbian.hebb_couplings(xi), h.detach() @ xi.double(), beta).mean @ xi.double().T / 12
    (slope,) = torch.autograd.grad(free, h)
    torch.testing.assert_close(-slope, mean, rtol=0, atol=1e-12)  # HEB-42


def test_an_extra_factor_one_over_n_destroys_the_order():
    assert hopfield.mattis_second_moment(1000, 2.0) == pytest.approx(0.91647, abs=5e-6)  # HEB-38
    assert hopfield.mattis_second_moment(1000, 2.0, double_count=True) == pytest.approx(0.001002, abs=5e-7)


@pytest.mark.parametrize("double", [False, True])
def test_the_second_moment_is_that_of_enumeration(double):
    n, beta = 10, 1.4
    states = hebbian.all_states(n)
    m = states.mean(1)
    p = torch.softmax(beta * n * m**2 / 2 / (n if double else 1), 0)
    assert hopfield.mattis_second_moment(n, beta, double) == pytest.approx(float(p @ m**2), abs=1e-13)


@pytest.mark.parametrize(("n", "expected"), [(10**2, -0.5418819), (10**3, -0.5391558), (10**4, -0.5389201)])
def test_two_orthogonal_patterns_approach_the_saddle(n, expected):
    assert hopfield.exact_two_pattern_free_energy(n, 1.5) == pytest.approx(expected, abs=5.1e-8)  # HEB-43


def test_two_orthogonal_patterns_by_enumeration():
    xi = torch.ones(2, 12)
    xi[1, 6:] = -1
    exact = hopfield.exact_two_pattern_free_energy(12, 1.1)
    assert exact == pytest.approx(hopfield.enumerated_free_energy(xi, 1.1), abs=1e-13)


def test_two_orthogonal_patterns_are_paramagnetic_at_high_temperature():
    assert hopfield.low_load_saddle(0.8).free_energy == pytest.approx(-0.8664340, abs=5e-8)
    assert hopfield.low_load_saddle(0.8).m == 0
    assert hopfield.exact_two_pattern_free_energy(10**4, 0.8) == pytest.approx(-0.8665350, abs=5.1e-8)


def test_the_saddle_of_a_stored_pattern_has_the_known_values():
    saddle = hopfield.low_load_saddle(1.5)
    assert saddle == pytest.approx((0.8585596, -0.5388942), abs=5.1e-8)  # HEB-20, HEB-43
    assert hopfield.low_load_saddle(2.0).m == pytest.approx(0.9575040, abs=5.1e-8)


@pytest.mark.parametrize("n", [1, 3, 5])
def test_a_symmetric_saddle_is_a_stationary_point_of_the_free_energy(n):
    beta = 1.7
    saddle = hopfield.low_load_saddle(beta, n)
    m = torch.full((n,), saddle.m, dtype=torch.float64, requires_grad=True)
    f = hopfield.low_load_free_energy(m, beta)
    (slope,) = torch.autograd.grad(f, m)
    assert saddle.m > 0.1
    assert float(slope.abs().max()) < 1e-12
    assert saddle.free_energy == pytest.approx(f.item(), abs=1e-13)


def test_a_pattern_lies_below_its_mixtures():
    f = [hopfield.low_load_saddle(4.0, n).free_energy for n in (1, 3, 5)]
    assert f == sorted(f)


def test_the_low_load_free_energy_is_minimal_at_a_pattern_and_its_field_enters_as_the_overlap_does():
    m = torch.tensor([hopfield.low_load_saddle(1.5).m, 0.0], dtype=torch.float64)
    least = hopfield.low_load_free_energy(m, 1.5)
    for dm in torch.randn(20, 2, generator=seeded(3), dtype=torch.float64) * 0.1:
        assert hopfield.low_load_free_energy(m + dm, 1.5) > least
    h = torch.tensor([0.2, -0.1], dtype=torch.float64)
    shifted = hopfield.low_load_free_energy(m, 1.5, h) - (m**2).sum() / 2
    alone = hopfield.low_load_free_energy(m + h, 1.5) - ((m + h) ** 2).sum() / 2
    assert float(shifted - alone) == pytest.approx(0, abs=1e-15)


def test_a_machine_with_gaussian_hidden_units_is_a_hopfield_model_with_self_couplings():
    xi, beta = hebbian.random_patterns(3, 12, generator=seeded(4)), 1.3
    z = hopfield.rbm_partition_function(xi, beta)
    assert z.log_z_rbm == pytest.approx(z.log_z_hopfield, abs=1e-12)  # HEB-44
    couplings = hebbian.hebb_couplings(xi, diagonal=True)
    assert z.log_z_hopfield == pytest.approx(hebbian.gibbs(couplings, None, beta).log_z, abs=1e-12)
    large = hopfield.rbm_partition_function(xi, 100 / 12)
    assert large.log_z_rbm == pytest.approx(large.log_z_hopfield, rel=1e-12)


# ------------------------------------------------------------------------------------------------- replica symmetry


@pytest.mark.parametrize(
    ("alpha", "temperature", "m", "q", "f"),
    [
        (0.05, 0.1, 0.99995412, 0.99992352, -0.50000265),
        (0.05, 0.3, 0.99116500, 0.98296095, -0.50123617),
        (0.05, 0.5, 0.90410608, 0.83335796, -0.51701378),
        (0.1, 0.2, 0.98908516, 0.98441706, -0.50104066),
    ],
)
def test_the_retrieval_solution_has_the_known_values(alpha, temperature, m, q, f):
    s = hopfield.replica_symmetric(alpha, temperature)
    assert (s.m, s.q, s.free_energy) == pytest.approx((m, q, f), abs=5.1e-9)  # HEB-45


def test_the_spin_glass_solution_has_the_known_values():
    s = hopfield.replica_symmetric(0.05, 0.3, branch="spin_glass")
    assert (s.m, s.q, s.free_energy) == pytest.approx((0, 0.76072664, -0.50933842), abs=5.1e-9)  # HEB-45


POINTS = [
    (0.05, 0.3, "retrieval"),
    (0.1, 0.05, "retrieval"),
    (0.001, 0.9, "retrieval"),
    (0.05, 0.3, "spin_glass"),
    (0.3, 1.2, "spin_glass"),
    (2.0, 0.1, "spin_glass"),
]


@pytest.mark.parametrize(("alpha", "temperature", "branch"), POINTS)
def test_a_solution_solves_the_equations_under_another_quadrature(alpha, temperature, branch):
    m, q, r, f = hopfield.replica_symmetric(alpha, temperature, branch)
    beta, sigma = 1 / temperature, math.sqrt(alpha * r)

    def field(z):
        return beta * (m + sigma * z)

    def average(f):
        return gaussian_average(f, -m / sigma, 5 * temperature / sigma)

    assert m == pytest.approx(average(lambda z: math.tanh(field(z))), abs=1e-9)
    assert q == pytest.approx(average(lambda z: math.tanh(field(z)) ** 2), abs=1e-9)
    c = beta * (1 - q)
    assert r == pytest.approx(q / (1 - c) ** 2, rel=1e-8)  # 1 − C amplifies the rounding of q
    entropic = average(lambda z: abs(field(z)) + math.log1p(math.exp(-2 * abs(field(z)))))
    expected = m**2 / 2 - temperature * entropic
    expected += alpha / 2 * (1 + temperature * math.log(1 - c) - q / (1 - c) + beta * r * (1 - q))
    assert f == pytest.approx(expected, abs=1e-9)
    assert hopfield.rs_free_energy(m, q, r, alpha, temperature) == pytest.approx(f, abs=1e-11)


@pytest.mark.parametrize(("alpha", "temperature", "branch"), POINTS)
def test_the_free_energy_is_stationary_at_a_solution(alpha, temperature, branch):
    s = np.array(hopfield.replica_symmetric(alpha, temperature, branch)[:3])
    size = [1e-5, 1e-5 * temperature, 1e-5 * s[2]]
    for i in range(3):
        step = np.eye(3)[i] * min(size[i], (1 - s[1]) / 10 if i == 1 else 1)
        up, down = (hopfield.rs_free_energy(*(s + k * step), alpha, temperature) for k in (1, -1))
        # The central difference: rounding 1e-16/step, and the third derivative times step².
        assert abs(up - down) / 2 < 1e-4 * step.max() * (1 if i < 2 else alpha), i


@pytest.mark.parametrize(("alpha", "temperature", "branch"), POINTS)
def test_the_entropy_is_minus_the_derivative_of_the_free_energy_in_temperature(alpha, temperature, branch):
    dt = 1e-4 * temperature
    up, down = (hopfield.replica_symmetric(alpha, temperature + k * dt, branch)[3] for k in (1, -1))
    slope = (down - up) / (2 * dt)
    # Third derivatives of f are of order 1/T³ at most: T dt² ~ 1e-8, more where 1 − C is small.
    assert hopfield.replica_symmetric_entropy(alpha, temperature, branch) == pytest.approx(slope, abs=3e-7)


def test_the_entropy_of_the_paramagnet_and_of_the_magnet_are_derivatives_too():
    for alpha, temperature, branch in (
        (0.5, 2.5, "retrieval"),
        (0.0, 0.6, "retrieval"),
        (0.0, 1.4, "retrieval"),
    ):
        up, down = (hopfield.replica_symmetric(alpha, temperature + k * 1e-4, branch)[3] for k in (1, -1))
        slope = (down - up) / 2e-4
        assert hopfield.replica_symmetric_entropy(alpha, temperature, branch) == pytest.approx(
            slope, abs=1e-7
        )


def test_the_entropy_is_negative_at_zero_temperature_as_replica_symmetry_makes_it():
    assert hopfield.replica_symmetric_entropy(0.138, 0.0, "spin_glass") == pytest.approx(-0.07, abs=0.005)
    assert hopfield.replica_symmetric_entropy(0.1379, 0.0) == pytest.approx(-1.4e-3, abs=5e-5)
    assert hopfield.replica_symmetric_entropy(0.0, 0.0) == 0
    r = hopfield.replica_symmetric(0.1, 0.0).r
    c = 1 - 1 / math.sqrt(r)
    assert hopfield.replica_symmetric_entropy(0.1, 0.0) == pytest.approx(
        -0.05 * (math.log(1 - c) + c / (1 - c)), abs=1e-14
    )


@pytest.mark.parametrize("branch", ["retrieval", "spin_glass"])
def test_zero_temperature_is_the_limit_of_low_temperature(branch):
    cold, frozen = (hopfield.replica_symmetric(0.1, t, branch) for t in (1e-7, 0.0))
    # m and r move linearly in T, f by T times the entropy.
    assert cold[:3] == pytest.approx(frozen[:3], rel=3e-6)
    assert cold.free_energy == pytest.approx(frozen.free_energy, abs=1e-8)
    assert hopfield.rs_free_energy(*frozen[:3], 0.1, 0.0) == pytest.approx(frozen.free_energy, abs=1e-14)


def test_no_load_is_the_curie_weiss_magnet():
    for temperature in (0.0, 0.2, 0.7, 1.3):
        s = hopfield.replica_symmetric(0.0, temperature)
        near = hopfield.replica_symmetric(1e-13, temperature)
        assert near == pytest.approx(s, abs=1e-10)
        assert s.m == pytest.approx(hopfield.low_load_saddle(1 / max(temperature, 1e-3)).m, abs=1e-12)
    assert hopfield.replica_symmetric(0.0, 0.5).free_energy == pytest.approx(
        hopfield.low_load_saddle(2.0).free_energy, abs=1e-14
    )
    glass = hopfield.replica_symmetric(0.0, 0.0, "spin_glass")
    assert glass == pytest.approx((0, 1, math.inf, -1 / math.pi), abs=1e-15)


def test_above_its_spinodal_the_retrieval_branch_is_the_spin_glass():
    line = hopfield.retrieval_spinodal(0.05)
    assert hopfield.replica_symmetric(0.05, line - 1e-4).m > 0.7
    above = hopfield.replica_symmetric(0.05, line + 1e-4)
    assert above == hopfield.replica_symmetric(0.05, line + 1e-4, "spin_glass")
    assert above.m == 0 and above.q > 0.4


def test_above_the_spin_glass_temperature_both_branches_are_the_paramagnet():
    for branch in ("retrieval", "spin_glass"):
        s = hopfield.replica_symmetric(0.5, 2.0, branch)
        assert s[:3] == (0, 0, 0)
        assert s.free_energy == pytest.approx(hopfield.annealed_free_energy(0.5, 0.5), abs=1e-14)  # HEB-48
        assert hopfield.replica_symmetric(0.5, 1.7, branch).q > 0
    assert hopfield.spin_glass_temperature(0.5) == pytest.approx(1.7071067811865475)


def test_near_the_spin_glass_temperature_q_grows_from_zero():
    t = hopfield.spin_glass_temperature(0.1)
    assert hopfield.replica_symmetric(0.1, t + 1e-9, "spin_glass").q == 0
    assert 0 < hopfield.replica_symmetric(0.1, t - 1e-3, "spin_glass").q < 0.01


# ------------------------------------------------------------------------------------------------- T = 0


def test_the_critical_load_is_that_of_amit_gutfreund_and_sompolinsky():
    assert hopfield.critical_load() == pytest.approx((0.1379056, 0.967417), abs=5.1e-7)  # HEB-46
    alpha, m = hopfield.critical_load()
    assert hopfield.zero_temperature_overlap(alpha - 1e-9) == pytest.approx(m, abs=1e-3)
    assert hopfield.zero_temperature_overlap(alpha + 1e-7) == 0


@pytest.mark.parametrize(("alpha", "m"), [(0.05, 0.999992), (0.10, 0.997999), (0.13, 0.987212)])
def test_the_overlap_at_zero_temperature_has_the_known_values(alpha, m):
    assert hopfield.zero_temperature_overlap(alpha) == pytest.approx(m, abs=5.1e-7)  # HEB-46


def test_the_energies_cross_where_the_pattern_stops_being_the_global_minimum():
    assert hopfield.global_minimum_load() == pytest.approx(0.05185, abs=5.1e-6)  # HEB-46
    low, high = hopfield.zero_temperature_energies(0.04), hopfield.zero_temperature_energies(0.06)
    assert low.retrieval < low.spin_glass and high.retrieval > high.spin_glass


def test_the_ground_energy_of_the_spin_glass_is_that_of_the_equations():
    for alpha in (0.0, 0.05, 0.3, 5.0):
        energy = hopfield.replica_symmetric(alpha, 0.0, "spin_glass").free_energy
        assert hopfield.spin_glass_ground_energy(alpha) == pytest.approx(energy, abs=1e-14)
    assert hopfield.spin_glass_ground_energy(0.05) == pytest.approx(-1 / math.pi - math.sqrt(0.1 / math.pi))
    assert hopfield.zero_temperature_energies(0.2) == pytest.approx(
        [hopfield.spin_glass_ground_energy(0.2)] * 2
    )


# ------------------------------------------------------------------------------------------------- lines


@pytest.mark.parametrize(("alpha", "t"), [(0.02, 0.71648), (0.05, 0.54226), (0.10, 0.31543), (0.12, 0.21509)])
def test_the_retrieval_spinodal_has_the_known_values(alpha, t):
    assert hopfield.retrieval_spinodal(alpha) == pytest.approx(t, abs=5.1e-6)  # HEB-47


def test_the_retrieval_spinodal_turns_back_above_the_critical_load():
    alpha = hopfield.critical_load()[0]
    assert hopfield.retrieval_spinodal(alpha + 1e-4) > 0.03
    assert hopfield.replica_symmetric(alpha + 1e-4, 0.0).m == 0
    assert hopfield.replica_symmetric(alpha + 1e-4, 0.025).m > 0.9
    assert hopfield.retrieval_spinodal(0.1382) == 0
    assert hopfield.replica_symmetric(0.1382, 0.0229).m == 0
    assert hopfield.retrieval_spinodal(0.0) == 1


@pytest.mark.parametrize("line", [hopfield.retrieval_spinodal, hopfield.first_order_line])
def test_a_line_is_continuous_where_the_load_vanishes(line):
    # Near T = 1 both lines have 1 − T ∝ √α; below α ~ 1e-9 the law replaces the root.
    slope = [(1 - line(alpha)) / math.sqrt(alpha) for alpha in (1e-7, 1e-9, 1e-11, 1e-19)]
    assert slope == pytest.approx([slope[0]] * 4, rel=2e-3)


@pytest.mark.parametrize(("alpha", "t"), [(0.02, 0.5913), (0.03, 0.4788), (0.04, 0.3652)])
def test_the_first_order_line_has_the_known_values_and_crosses_the_free_energies(alpha, t):
    line = hopfield.first_order_line(alpha)
    assert line == pytest.approx(t, abs=5.1e-5)  # HEB-47
    gap = [
        hopfield.replica_symmetric(alpha, line + dt)[3]
        - hopfield.replica_symmetric(alpha, line + dt, "spin_glass")[3]
        for dt in (-1e-3, 0, 1e-3)
    ]
    assert gap[0] < -1e-5 and abs(gap[1]) < 1e-11 and gap[2] > 1e-5


def test_the_first_order_line_meets_zero_temperature_at_the_global_minimum_load():
    alpha = hopfield.global_minimum_load()
    assert hopfield.first_order_line(alpha) > 0.1  # it turns back, so the load is met once more
    assert hopfield.first_order_line(0.054) == 0
    assert hopfield.phase_lines(2)["first_order"][0][-1] == pytest.approx(alpha, abs=1e-10)


def test_the_mixture_line_ends_at_0_46_and_at_0_03():
    assert hopfield.mixture_spinodal(0.0) == pytest.approx(0.45979, abs=5.1e-6)  # HEB-36
    assert hopfield.mixture_spinodal(0.0, 5) == pytest.approx(0.38474, abs=5.1e-6)
    assert hopfield.mixture_spinodal(1e-6) == pytest.approx(0.45979, abs=1e-4)
    # T = 0: α < 0.02994; the line turns back a little, to 0.029952 at T = 0.004.
    assert hopfield.phase_lines(2)["mixture"][0][-1] == pytest.approx(0.02994, abs=5.1e-6)
    assert 0 < hopfield.mixture_spinodal(0.0299) < 0.02
    assert hopfield.mixture_spinodal(0.03) == 0


def test_a_stable_mixture_is_one_that_exists_and_existence_ends_at_temperature_one():
    for alpha in (0.001, 0.01):
        assert hopfield.mixture_spinodal(alpha) <= hopfield.mixture_spinodal(alpha, stable=False) + 1e-9
    assert hopfield.mixture_spinodal(0.01) == pytest.approx(
        hopfield.mixture_spinodal(0.01, stable=False), abs=1e-9
    )
    assert hopfield.mixture_spinodal(0.001) < 0.5 < hopfield.mixture_spinodal(0.001, stable=False)
    assert hopfield.mixture_spinodal(0.0, stable=False) == 1


def mixture_hessian(alpha, temperature):
    """∂²f/∂m_μ∂m_ν at the symmetric solution of three patterns: the eight signs one by one, Gauss–Hermite in z."""
    z, w = np.polynomial.hermite_e.hermegauss(120)
    w, xi = w / w.sum(), hebbian.all_states(3).numpy()

    def tanh(m, r):
        return np.tanh((m * xi.sum(1)[:, None] + math.sqrt(alpha * r) * z) / temperature)

    def equations(v):
        m, q, r = v
        t = tanh(m, r)
        c = (1 - q) / temperature
        return [m - np.mean(xi[:, :1] * t, 0) @ w, q - np.mean(t**2, 0) @ w, r - q / (1 - c) ** 2]

    m, q, r = optimize.fsolve(equations, (0.45, 0.7, 3.0), xtol=1e-13)
    assert np.abs(equations((m, q, r))).max() < 1e-11 and m > 0.2
    sech2 = (1 - tanh(m, r) ** 2) @ w
    return np.eye(3) - (xi.T * sech2) @ xi / 8 / temperature


@pytest.mark.parametrize("alpha", [0.0005, 0.001])
def test_the_mixture_line_is_where_an_eigenvalue_on_differences_of_overlaps_vanishes(alpha):
    line = hopfield.mixture_spinodal(alpha)
    low, high = (np.linalg.eigvalsh(mixture_hessian(alpha, line + dt)) for dt in (-0.005, 0.005))
    assert low[0] > 1e-3 and high[0] < -1e-3
    # The field has width σ/T < 1 here, so that 120 nodes are exact to 1e-10.
    at = np.linalg.eigvalsh(mixture_hessian(alpha, line))
    assert at[:2] == pytest.approx([0, 0], abs=1e-8) and at[2] > 0.1


@pytest.mark.parametrize("alpha", [0.005, 0.01, 0.015])
def test_the_almeida_thouless_line_follows_its_asymptote_at_small_load(alpha):
    asymptote = math.sqrt(8 * alpha / (9 * math.pi)) * math.exp(-1 / (2 * alpha))
    # Corrections are of the order of e^{−1/(2α)}/α: below 1e-11 here.
    assert hopfield.almeida_thouless(alpha) == pytest.approx(asymptote, rel=1e-9, abs=0)


def test_the_almeida_thouless_condition_holds_on_its_line_and_changes_sign_there():
    alpha = 0.12
    line = hopfield.almeida_thouless(alpha)
    excess = []
    for t in (0.9 * line, line, 1.1 * line):
        m, q, r, _ = hopfield.replica_symmetric(alpha, t)
        sigma = math.sqrt(alpha * r)

        def sech4(z, m=m, sigma=sigma, t=t):
            e = math.exp(-2 * abs(m + sigma * z) / t)
            return (4 * e / (1 + e) ** 2) ** 2

        quartic = gaussian_average(sech4, -m / sigma, 5 * t / sigma)
        excess.append(alpha / t**2 * quartic / (1 - (1 - q) / t) ** 2 - 1)
    assert excess[0] > 0.01 and abs(excess[1]) < 1e-7 and excess[2] < -0.01


def test_the_almeida_thouless_line_ends_on_the_spinodal():
    assert 0 < hopfield.almeida_thouless(0.1) < hopfield.retrieval_spinodal(0.1)
    assert hopfield.almeida_thouless(0.138187) == hopfield.retrieval_spinodal(0.138187) > 0.02
    assert hopfield.almeida_thouless(0.15) == 0
    assert hopfield.almeida_thouless(0.001) == 0
    assert hopfield.almeida_thouless(0.1, "spin_glass") == hopfield.spin_glass_temperature(0.1)


def test_the_lines_of_the_phase_diagram_are_the_functions_one_by_one():
    lines = hopfield.phase_lines(9)
    of = {
        "spin_glass": hopfield.spin_glass_temperature,
        "spinodal": hopfield.retrieval_spinodal,
        "first_order": hopfield.first_order_line,
        "mixture": hopfield.mixture_spinodal,
        "almeida_thouless": hopfield.almeida_thouless,
    }
    assert lines.keys() == of.keys()
    for name, (alpha, t) in lines.items():
        assert alpha.shape == t.shape == (9,) and alpha.dtype == t.dtype == torch.float64
        for i in (0, 4):
            assert float(t[i]) == pytest.approx(of[name](float(alpha[i])), rel=1e-6), (name, i)


def test_the_averages_at_zero_temperature_are_the_limit_of_those_at_low_temperature():
    for x in (0.0, 1.3, 4.0):
        # Corrections are of relative order 1/b².
        assert hopfield._tanh_moments(x, 1e6) == pytest.approx(hopfield._tanh_moments(x, math.inf), abs=2e-6)
        assert hopfield._tanh_moments(x, 1e6)[2:] == pytest.approx(
            hopfield._tanh_moments(x, math.inf)[2:], rel=1e-9
        )
        assert hopfield._log_moments(x, 1e6) == pytest.approx(hopfield._log_moments(x, math.inf), abs=2e-6)


# ------------------------------------------------------------------------------------------------- enumeration


@pytest.mark.parametrize(("n", "expected"), [(12, 0.73271), (16, 0.73464), (18, 0.73531)])
def test_the_annealed_average_at_finite_size_has_the_known_values(n, expected):
    assert -0.5 * hopfield.annealed_free_energy(0.5, 0.5, n) == pytest.approx(expected, abs=5.1e-6)  # HEB-48


def test_the_annealed_average_is_the_mean_of_z_over_all_patterns():
    n, beta = 4, 0.7
    states = hebbian.all_states(n)
    z = [
        math.exp(-beta * n * hopfield.enumerated_free_energy(torch.stack([a, b]), beta))
        for a in states
        for b in states
    ]
    expected = -math.log(sum(z) / len(z)) / (beta * n)
    assert hopfield.annealed_free_energy(0.5, beta, n) == pytest.approx(expected, abs=1e-13)


def test_the_annealed_average_of_an_infinite_system():
    assert -0.5 * hopfield.annealed_free_energy(0.5, 0.5) == pytest.approx(0.74143, abs=5.1e-6)  # HEB-48
    # Corrections are of order 1/N.
    assert hopfield.annealed_free_energy(0.5, 0.5, 100_000) == pytest.approx(
        hopfield.annealed_free_energy(0.5, 0.5), abs=1e-5
    )


def test_at_high_temperature_quenched_and_annealed_agree():
    generator = seeded(5)
    log_z = torch.tensor(
        [
            -0.5 * hopfield.enumerated_free_energy(hebbian.random_patterns(6, 12, generator=generator), 0.5)
            for _ in range(100)
        ]
    )
    # Jensen's gap is half the variance of log Z, over N: well below the error of the mean, of which four are allowed.
    gap = 12 * float(log_z.var()) / 2
    error = float(log_z.std()) / 10
    assert float(log_z.mean()) + gap == pytest.approx(0.73271, abs=4 * error)
    assert error < 0.003


def test_the_enumerated_free_energy_is_that_of_the_gibbs_law():
    xi = hebbian.random_patterns(4, 10, generator=seeded(6))
    log_z = hebbian.gibbs(hebbian.hebb_couplings(xi), None, 0.9).log_z
    assert hopfield.enumerated_free_energy(xi, 0.9) == pytest.approx(-log_z / 9, abs=1e-13)


@pytest.mark.parametrize(("k", "count", "spurious"), [(1, 2.0, 0.0), (3, 8.28, 2.4), (4, 8.2, 2.04)])
def test_the_census_of_fixed_points_has_the_known_means(k, count, spurious):
    generator, draws = seeded(8), 200
    found = [
        hopfield.fixed_point_census(hebbian.random_patterns(k, 14, generator=generator)) for _ in range(draws)
    ]
    for values, known in (([c.count for c in found], count), ([c.spurious for c in found], spurious)):
        # HEB-49 is a mean over 50 draws, this one over 200: four errors of the difference.
        error = np.std(values) * math.sqrt(1 / 50 + 1 / draws)
        assert abs(np.mean(values) - known) <= 4 * error + 1e-12


def test_the_census_finds_exactly_the_fixed_points():
    xi = hebbian.random_patterns(3, 10, generator=seeded(9))
    found, couplings = hopfield.fixed_point_census(xi), hebbian.hebb_couplings(xi)
    states = hebbian.all_states(10)
    strict = states[((states * (states @ couplings)) > 1e-9).all(1)]
    assert found.count == len(strict) == len(found.energies) == len(found.max_overlaps)
    torch.testing.assert_close(found.energies, hebbian.energy(strict, couplings) / 10)
    torch.testing.assert_close(found.max_overlaps, hebbian.overlaps(strict, xi).abs().amax(1))
    assert found.spurious == int((found.max_overlaps < 1 - 1e-9).sum())


@pytest.mark.parametrize(("differing", "count"), [(0, 2), (1, 0), (2, 4), (7, 4), (13, 0), (14, 2)])
def test_two_patterns_are_two_groups_of_sites_and_a_tie_is_no_strict_fixed_point(differing, count):
    # N times the field of a site in a group of magnetisation G is 2(G − s): each group of two or more is ordered, up or down;
    # a group of one has a tie. The mean over draws, 4 − 116/2^14, is HEB-49's 3.92 of 50 draws if one of them has a group of one.
    xi = torch.ones(2, 14)
    xi[1, :differing] = -1
    found = hopfield.fixed_point_census(xi)
    assert (found.count, found.spurious) == (count, 0)
    assert found.energies.shape == found.max_overlaps.shape == (count,)


# ------------------------------------------------------------------------------------------------- simulation


def test_a_simulation_agrees_with_replica_symmetry_at_low_temperature_and_load():
    run = hopfield.retrieve(800, 40, 0.3, sweeps=120, replicas=8, generator=seeded(11))
    assert run.error < 0.003
    assert run.mean == pytest.approx(hopfield.replica_symmetric(0.05, 0.3).m, abs=0.01)  # HEB-47


def test_the_overlap_at_zero_temperature_falls_across_the_critical_load():
    runs = {
        k: hopfield.retrieve(1000, k, 0.0, sweeps=40, burn_in=39, replicas=8, generator=seeded(7))
        for k in (50, 100, 200)
    }
    assert runs[50].mean > 0.999
    assert runs[100].mean == pytest.approx(0.998, abs=0.005)  # HEB-46: 0.997(1) of 12 runs
    assert 0.2 < runs[200].mean < 0.7  # a remanent overlap, not zero
    assert runs[100].overlaps.shape == (8,)
    assert runs[200].mean == pytest.approx(float(runs[200].overlaps.mean()))
    assert runs[200].error == pytest.approx(float(runs[200].overlaps.std()) / math.sqrt(8))


def test_a_network_recalls_from_a_noisy_cue_and_remembers_how_it_was_cued_before_any_sweep():
    run = hopfield.retrieve(
        500, 10, 0.0, sweeps=10, burn_in=9, replicas=4, start_overlap=0.6, generator=seeded(12)
    )
    assert run.mean > 0.999
    # At infinite temperature one spin in e^{-1} is not yet updated after a sweep: m = p/e, 4 errors of 1/√(NR).
    hot = hopfield.retrieve(
        2000, 1, 1e6, sweeps=1, burn_in=0, replicas=20, start_overlap=0.6, generator=seeded(13)
    )
    assert hot.mean == pytest.approx(0.6 / math.e, abs=4 / math.sqrt(2000 * 20))


def test_a_time_average_covers_the_sweeps_after_the_burn_in():
    # The overlap decays as e^{−t}: the mean over sweeps 1…4, and over 3 and 4 only.
    for burn_in, times in ((0, (1, 2, 3, 4)), (None, (3, 4))):
        run = hopfield.retrieve(2000, 1, 1e6, sweeps=4, burn_in=burn_in, replicas=20, generator=seeded(14))
        expected = np.mean([math.exp(-t) for t in times])
        assert run.mean == pytest.approx(expected, abs=4 / math.sqrt(2000 * 20))


def test_a_simulation_is_repeated_by_its_generator_only():
    runs = [
        hopfield.retrieve(60, 6, 0.5, sweeps=4, replicas=3, generator=g)
        for g in (seeded(1), seeded(1), None, None)
    ]
    assert torch.equal(runs[0].overlaps, runs[1].overlaps)
    assert not torch.equal(runs[2].overlaps, runs[3].overlaps)


GRID = dict(n_spins=100, sweeps=6, replicas=3, seed=5)
LOADS, TEMPERATURES = torch.tensor([0.05, 0.2]), torch.tensor([0.0, 0.4, 1.5])


@pytest.fixture(scope="module")
def serial():
    with ThreadPoolExecutor(1) as executor, pytest.MonkeyPatch.context() as patch:
        patch.setenv("PHYSGEN_QUIET", "1")
        return hopfield.phase_diagram_sweep(LOADS, TEMPERATURES, **GRID, executor=executor)


def test_a_sweep_is_ordered_by_load_and_temperature(serial):
    assert serial.mean.shape == serial.error.shape == (2, 3)
    assert serial.mean[0, 0] > 0.97 and serial.mean[0, 1] > 0.9 > serial.mean[1, 1]
    assert bool((serial.mean[:, 2] < 0.5).all()) and bool((serial.error >= 0).all())


def test_a_point_of_a_sweep_does_not_depend_on_the_rest_of_the_grid(serial):
    with ThreadPoolExecutor(2) as executor:
        part = hopfield.phase_diagram_sweep(LOADS[:1], TEMPERATURES[:2], **GRID, executor=executor)
    assert torch.equal(part.mean, serial.mean[:1, :2]) and torch.equal(part.error, serial.error[:1, :2])


def test_points_of_a_sweep_and_seeds_draw_different_numbers():
    same = torch.full((2,), 0.1), torch.full((2,), 0.8)
    with ThreadPoolExecutor(1) as executor:
        runs = [
            hopfield.phase_diagram_sweep(*same, **{**GRID, "seed": s}, executor=executor).mean for s in (5, 6)
        ]
    assert len(torch.cat(runs).flatten().unique()) == 8


def test_the_same_sweep_runs_on_a_dask_cluster_unchanged(serial):
    distributed = pytest.importorskip("distributed")
    cluster = distributed.LocalCluster(
        processes=False, n_workers=1, threads_per_worker=2, dashboard_address=None
    )
    with cluster, distributed.Client(cluster) as client:
        sweep = hopfield.phase_diagram_sweep(LOADS, TEMPERATURES, **GRID, executor=client.get_executor())
    assert torch.equal(sweep.mean, serial.mean) and torch.equal(sweep.error, serial.error)


def test_the_default_executor_is_a_pool_of_processes_with_the_same_result(serial):
    sweep = hopfield.phase_diagram_sweep(LOADS[:1], TEMPERATURES[:2], **GRID)
    assert torch.equal(sweep.mean, serial.mean[:1, :2])


def test_the_progress_bar_is_silent_when_told_so(capsys, monkeypatch):
    for quiet in ("1", "0"):
        monkeypatch.setenv("PHYSGEN_QUIET", quiet)
        with ThreadPoolExecutor(1) as executor:
            hopfield.phase_diagram_sweep(LOADS[:1], TEMPERATURES[:1], **GRID, executor=executor)
        assert ("phase diagram" in capsys.readouterr().err) == (quiet == "0")


def test_the_capacities_are_ordered():
    assert hopfield.capacity_ags(1000) == pytest.approx(137.9056, abs=1e-4)
    assert hopfield.capacity_single(1000) == pytest.approx(1000 / (2 * math.log(1000)))
    assert hopfield.capacity_all(1000) == pytest.approx(hopfield.capacity_single(1000) / 2)


# ------------------------------------------------------------------------------------------------- bad input

XI = torch.tensor([[1, 1, -1], [1, -1, 1]])
REFUSED = [
    ("spins", lambda: hopfield.energy_from_overlaps(torch.zeros(3), XI)),
    ("spins", lambda: hopfield.energy_from_overlaps(torch.ones(4), XI)),
    ("patterns", lambda: hopfield.energy_from_overlaps(torch.ones(3), XI[0])),
    ("pattern_field", lambda: hopfield.energy_from_overlaps(torch.ones(3), XI, torch.zeros(3))),
    ("pattern_field", lambda: hopfield.energy_from_overlaps(torch.ones(3), XI, torch.tensor([1, 2]))),
    ("m:", lambda: hopfield.low_load_free_energy(torch.tensor([NAN]), 1.0)),
    ("m:", lambda: hopfield.low_load_free_energy(torch.tensor([1]), 1.0)),
    ("m:", lambda: hopfield.low_load_free_energy(torch.zeros(17), 1.0)),
    ("m:", lambda: hopfield.low_load_free_energy(torch.zeros(0), 1.0)),
    ("m:", lambda: hopfield.low_load_free_energy(0.5, 1.0)),
    ("beta", lambda: hopfield.low_load_free_energy(torch.zeros(2), 0.0)),
    ("pattern_field", lambda: hopfield.low_load_free_energy(torch.zeros(2), 1.0, torch.zeros(3))),
    ("beta", lambda: hopfield.low_load_saddle(-1.0)),
    ("n_mixed", lambda: hopfield.low_load_saddle(2.0, 2)),
    ("n_spins", lambda: hopfield.exact_two_pattern_free_energy(0, 1.0)),
    ("n_spins", lambda: hopfield.exact_two_pattern_free_energy(11, 1.0)),
    ("beta", lambda: hopfield.exact_two_pattern_free_energy(10, NAN)),
    ("n_spins", lambda: hopfield.mattis_second_moment(0, 1.0)),
    ("beta", lambda: hopfield.mattis_second_moment(10, 0.0)),
    ("patterns", lambda: hopfield.rbm_partition_function(torch.zeros(2, 3), 1.0)),
    ("beta", lambda: hopfield.rbm_partition_function(XI, 40.0)),
    ("nodes", lambda: hopfield.rbm_partition_function(XI, 1.0, 10)),
    ("n_spins", lambda: hopfield.rbm_partition_function(torch.ones(1, 21), 1.0)),
    ("alpha", lambda: hopfield.replica_symmetric(-0.1, 0.1)),
    ("alpha", lambda: hopfield.replica_symmetric(NAN, 0.1)),
    ("temperature", lambda: hopfield.replica_symmetric(0.1, -0.1)),
    ("temperature", lambda: hopfield.replica_symmetric(0.1, math.inf)),
    ("branch", lambda: hopfield.replica_symmetric(0.1, 0.1, "glass")),
    ("branch", lambda: hopfield.replica_symmetric_entropy(0.1, 0.1, "glass")),
    ("alpha", lambda: hopfield.replica_symmetric_entropy(-1.0, 0.1)),
    ("m:", lambda: hopfield.rs_free_energy(1.5, 0.5, 1.0, 0.1, 0.5)),
    ("q:", lambda: hopfield.rs_free_energy(0.5, 1.5, 1.0, 0.1, 0.5)),
    ("q:", lambda: hopfield.rs_free_energy(0.5, 0.1, 1.0, 0.1, 0.5)),
    ("q, r", lambda: hopfield.rs_free_energy(0.5, 0.9, 1.0, 0.1, 0.0)),
    ("q, r", lambda: hopfield.rs_free_energy(0.5, 1.0, 0.5, 0.1, 0.0)),
    ("r:", lambda: hopfield.rs_free_energy(0.5, 0.9, -1.0, 0.1, 0.5)),
    ("alpha", lambda: hopfield.zero_temperature_overlap(-0.1)),
    ("alpha", lambda: hopfield.zero_temperature_energies(NAN)),
    ("alpha", lambda: hopfield.spin_glass_ground_energy(-0.1)),
    ("alpha", lambda: hopfield.spin_glass_temperature(-0.1)),
    ("alpha", lambda: hopfield.retrieval_spinodal(-0.1)),
    ("alpha", lambda: hopfield.first_order_line("a")),
    ("alpha", lambda: hopfield.mixture_spinodal(-0.1)),
    ("n_mixed", lambda: hopfield.mixture_spinodal(0.01, 4)),
    ("n_mixed", lambda: hopfield.mixture_spinodal(0.01, 1)),
    ("alpha", lambda: hopfield.almeida_thouless(-0.1)),
    ("branch", lambda: hopfield.almeida_thouless(0.1, "mixture")),
    ("n:", lambda: hopfield.phase_lines(1)),
    ("n:", lambda: hopfield.phase_lines(20_000)),
    ("beta", lambda: hopfield.annealed_free_energy(0.5, 1.0)),
    ("alpha", lambda: hopfield.annealed_free_energy(0.3, 0.5, 12)),
    ("alpha", lambda: hopfield.annealed_free_energy(-0.5, 0.5)),
    ("n_spins", lambda: hopfield.annealed_free_energy(0.5, 0.5, 0)),
    ("beta", lambda: hopfield.enumerated_free_energy(XI, 0.0)),
    ("n_spins", lambda: hopfield.enumerated_free_energy(torch.ones(1, 21), 1.0)),
    ("patterns", lambda: hopfield.fixed_point_census(torch.zeros(2, 3))),
    ("n_spins", lambda: hopfield.fixed_point_census(torch.ones(1, 21))),
    ("n_spins", lambda: hopfield.retrieve(0, 1, 0.1, sweeps=1, replicas=2)),
    ("n_patterns", lambda: hopfield.retrieve(10, 0, 0.1, sweeps=1, replicas=2)),
    ("temperature", lambda: hopfield.retrieve(10, 1, -0.1, sweeps=1, replicas=2)),
    ("sweeps", lambda: hopfield.retrieve(10, 1, 0.1, sweeps=0, replicas=2)),
    ("replicas", lambda: hopfield.retrieve(10, 1, 0.1, sweeps=1, replicas=1)),
    ("burn_in", lambda: hopfield.retrieve(10, 1, 0.1, sweeps=2, replicas=2, burn_in=2)),
    ("p:", lambda: hopfield.retrieve(10, 1, 0.1, sweeps=2, replicas=2, start_overlap=2.0)),
    ("generator", lambda: hopfield.retrieve(10, 1, 0.1, sweeps=2, replicas=2, generator=1)),
    ("loads", lambda: hopfield.phase_diagram_sweep(torch.tensor([0.0]), TEMPERATURES, **GRID)),
    ("loads", lambda: hopfield.phase_diagram_sweep([0.1], TEMPERATURES, **GRID)),
    ("temperature", lambda: hopfield.phase_diagram_sweep(LOADS, torch.tensor([-1.0]), **GRID)),
    ("temperatures", lambda: hopfield.phase_diagram_sweep(LOADS, torch.tensor([1]), **GRID)),
    ("seed", lambda: hopfield.phase_diagram_sweep(LOADS, TEMPERATURES, **{**GRID, "seed": -1})),
    ("replicas", lambda: hopfield.phase_diagram_sweep(LOADS, TEMPERATURES, **{**GRID, "replicas": 1})),
    ("n:", lambda: hopfield.capacity_single(1)),
    ("n:", lambda: hopfield.capacity_all(1)),
    ("n:", lambda: hopfield.capacity_ags(0)),
]


@pytest.mark.parametrize(("name", "call"), REFUSED)
def test_what_does_not_fit_is_refused_by_its_name(name, call):
    with pytest.raises(ValueError, match=name):
        call()


@pytest.mark.parametrize("alpha", [0.01, 0.13])
def test_the_retrieval_branch_joins_its_zero_temperature_limit_without_a_gap(alpha):
    cold = hopfield.replica_symmetric(alpha, 0.0)
    for temperature in (1e-3, 0.02, 0.1):
        warm = hopfield.replica_symmetric(alpha, temperature)
        # dm/dT and df/dT are bounded by the entropy and the slope at the spinodal, well below 1 here.
        assert abs(warm.m - cold.m) < temperature and abs(warm.free_energy - cold.free_energy) < temperature
