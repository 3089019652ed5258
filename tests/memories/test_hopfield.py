"""The Hopfield model: enumeration, SciPy's quadrature, finite differences and the numbers of the literature."""

import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from scipy import integrate

from physgen.memories import hebbian, hopfield

NAN = float("nan")


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def gaussian_average(f):
    """∫ Dz f(z) by SciPy's adaptive quadrature: 1e-10."""
    value, _ = integrate.quad(
        lambda z: math.exp(-z * z / 2) / math.sqrt(2 * math.pi) * f(z), -10, 10, epsabs=1e-12, limit=400
    )
    return value


# ------------------------------------------------------------------------------------------------- energy, low load


def test_the_energy_in_the_overlaps_is_that_of_hebb_couplings_without_diagonal():
    xi = hebbian.random_patterns(3, 12, generator=seeded(1))
    states, h = hebbian.all_states(12), torch.tensor([0.3, -0.2, 0.7], dtype=torch.float64)
    direct = hebbian.energy(states, hebbian.hebb_couplings(xi), h @ xi.double())
    # HEB-41: sums of a hundred numbers of order one.
    torch.testing.assert_close(hopfield.energy_from_overlaps(states, xi, h), direct, rtol=0, atol=1e-13)
    torch.testing.assert_close(
        hopfield.energy_from_overlaps(states, xi), hebbian.energy(states, hebbian.hebb_couplings(xi)), atol=1e-13, rtol=0
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
    assert saddle.free_energy == pytest.approx(float(f), abs=1e-13)


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

    assert m == pytest.approx(gaussian_average(lambda z: math.tanh(field(z))), abs=1e-9)
    assert q == pytest.approx(gaussian_average(lambda z: math.tanh(field(z)) ** 2), abs=1e-9)
    c = beta * (1 - q)
    assert r == pytest.approx(q / (1 - c) ** 2, rel=1e-8)  # 1 − C amplifies the rounding of q
    entropic = gaussian_average(lambda z: abs(field(z)) + math.log1p(math.exp(-2 * abs(field(z)))))
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
    for alpha, temperature, branch in ((0.5, 2.5, "retrieval"), (0.0, 0.6, "retrieval"), (0.0, 1.4, "retrieval")):
        up, down = (hopfield.replica_symmetric(alpha, temperature + k * 1e-4, branch)[3] for k in (1, -1))
        slope = (down - up) / 2e-4
        assert hopfield.replica_symmetric_entropy(alpha, temperature, branch) == pytest.approx(slope, abs=1e-7)


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
    assert hopfield.zero_temperature_energies(0.2) == pytest.approx([hopfield.spin_glass_ground_energy(0.2)] * 2)


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
        hopfield.replica_symmetric(alpha, line + dt)[3] - hopfield.replica_symmetric(alpha, line + dt, "spin_glass")[3]
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
    assert hopfield.mixture_spinodal(0.01) == pytest.approx(hopfield.mixture_spinodal(0.01, stable=False), abs=1e-9)
    assert hopfield.mixture_spinodal(0.001) < 0.5 < hopfield.mixture_spinodal(0.001, stable=False)
    assert hopfield.mixture_spinodal(0.0, stable=False) == 1


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
        quartic = gaussian_average(lambda z, m=m, sigma=sigma, t=t: np.cosh(np.clip((m + sigma * z) / t, -300, 300)) ** -4)
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
