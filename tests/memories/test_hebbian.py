"""Hebbian networks held to enumeration, to exact laws computed another way, and to the numbers of the claims HEB-01 … HEB-42."""

from __future__ import annotations

import inspect
import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.optimize import linprog

from physgen.memories import hebbian as hb

EPS = 2.0**-52
NAN, INF = math.nan, math.inf
seeds = st.integers(0, 2**31)
sizes = st.integers(1, 6)
few = settings(max_examples=40, deadline=None, derandomize=True)


def stream(seed=0):
    return torch.Generator().manual_seed(seed)


def gaussian(*shape, seed=0):
    return torch.randn(shape, generator=stream(seed), dtype=torch.float64)


def symmetric(n, seed=0, diagonal=0.0):
    a = gaussian(n, n, seed=seed)
    return ((a + a.T) / 2).fill_diagonal_(diagonal)


def signs(*shape, seed=0):
    return (2 * torch.randint(2, shape, generator=stream(seed)) - 1).to(torch.int8)


def listed(n):
    """All states as tuples; in row r spin i is up where bit i of r is set."""
    return [tuple(1 if r >> i & 1 else -1 for i in range(n)) for r in range(2**n)]


def every_patterns(k, n):
    """All 2^{KN} sets of K patterns, (2^{KN}, K, N)."""
    return np.array(list(itertools.product((-1, 1), repeat=k * n))).reshape(-1, k, n)


def brute_energy(s, couplings, field):
    pairs = sum(couplings[i][j] * s[i] * s[j] for i, j in itertools.combinations(range(len(s)), 2))
    return -pairs - sum(h * x for h, x in zip(field, s, strict=True)) - sum(map(lambda i: couplings[i][i], range(len(s)))) / 2  # fmt: skip


def brute_field(s, couplings, field, i):
    return sum(couplings[i][j] * s[j] for j in range(len(s))) + field[i]


def brute_matrix(couplings, field, temperature, order):
    """P(s → s') from the definition, state by state and spin by spin."""
    n, states = len(field), listed(len(field))
    matrix = np.zeros((2**n, 2**n))
    for (a, s), (b, t) in itertools.product(enumerate(states), repeat=2):
        chance = [
            1 / (1 + math.exp(-2 * t[i] * brute_field(s, couplings, field, i) / temperature))
            for i in range(n)
        ]
        if order == "parallel":
            matrix[a, b] = math.prod(chance)
        else:
            alike = [all(s[j] == t[j] for j in range(n) if j != i) for i in range(n)]
            matrix[a, b] = sum(c for c, same in zip(chance, alike, strict=True) if same) / n
    return matrix


def codes(spins):
    return ((spins > 0).long() << torch.arange(spins.shape[-1])).sum(-1)


# ------------------------------------------------------------------------------------------------- units and noise


def separable(values, n):
    """Whether one unit realises the truth table: is there (J, U) with ±(J·x − U) ≥ 1 on all inputs?"""
    x = np.array(list(itertools.product((0, 1), repeat=n)))
    side = np.where(values, 1, -1)[:, None] * np.hstack([x, -np.ones((len(x), 1))])
    return linprog(np.zeros(n + 1), A_ub=-side, b_ub=-np.ones(len(x)), bounds=(None, None)).status == 0


@pytest.mark.parametrize(("n", "count"), [(1, 4), (2, 14), (3, 104)])
def test_threshold_functions_are_those_that_linear_programming_separates(n, count):
    tables = list(itertools.product((False, True), repeat=2**n))
    able = [table for table in tables if separable(table, n)]
    assert hb.threshold_functions(n) == len(able) == count
    if n == 2:
        assert {t for t in tables if t not in able} == {
            (False, True, True, False),
            (True, False, False, True),
        }


def test_four_inputs_have_1882_threshold_functions_and_no_other_is_separable():
    x = np.array(list(itertools.product((0, 1), repeat=4)))
    found = set()
    for weights in itertools.product(range(-3, 4), repeat=4):
        fields = x @ weights
        found |= {tuple(fields > level) for level in np.unique(np.r_[fields, fields.min() - 1])}
    assert hb.threshold_functions(4) == len(found) == 1882
    rng = np.random.default_rng(0)
    for index in rng.choice(1882, 40, replace=False):
        assert separable(sorted(found)[index], 4)
    others = [t for t in (tuple(rng.random(16) < 0.5) for _ in range(200)) if t not in found]
    others += [(*t[:-1], not t[-1]) for t in sorted(found)[::40]]  # next to a threshold function
    others = [t for t in others if t not in found]
    assert len(others) > 200 and not any(separable(t, 4) for t in others)


def test_spin_form_does_on_every_state_what_the_units_do():
    couplings, thresholds = gaussian(6, 6, seed=1), gaussian(6, seed=2)
    j, h = hb.spin_form(couplings, thresholds)
    states = torch.tensor(listed(6))
    fires = (states + 1).double() / 2 @ couplings.T > thresholds
    after = hb.evolve(states, j, sweeps=1, field=h, order="parallel", generator=stream())
    assert torch.equal(after > 0, fires) and j.dtype == h.dtype == torch.float64
    assert not torch.allclose(
        j, couplings
    )  # Hebb's rule in 0/1 variables is another rule: the factor 2 matters


def test_rademacher_has_mean_p_and_variance_one_minus_p_squared():
    n = 200_000
    for p in (-0.9, 0.0, 0.3):
        s = hb.rademacher(p, (n,), generator=stream(3)).double()
        sigma = math.sqrt((1 - p * p) / n)
        assert abs(float(s.mean()) - p) < 5 * sigma
        assert abs(float((s == 1).double().mean()) - (1 + p) / 2) < 2.5 * sigma
    for p in (-1, 1, 1.0):
        assert bool((hb.rademacher(p, (50,), generator=stream()) == p).all())
    patterns = hb.random_patterns(3, 1000, generator=stream())
    assert patterns.shape == (3, 1000) and patterns.dtype == torch.int8 and bool((patterns.abs() == 1).all())
    assert torch.equal(patterns, hb.random_patterns(3, 1000, generator=stream()))
    assert not torch.equal(hb.random_patterns(3, 1000), hb.random_patterns(3, 1000))


def test_random_patterns_without_a_generator_leave_the_global_stream_alone():
    before = torch.get_rng_state()
    s = hb.random_patterns(2, 9)
    hb.evolve(s, torch.zeros(9, 9), sweeps=1, temperature=1.0)
    hb.recall(9, 2, 0.5, samples=1)
    assert torch.equal(torch.get_rng_state(), before)


def test_noise_has_the_density_half_one_minus_tanh_squared_norm_one_and_variance_pi_squared_over_12():
    def density(x):
        z = torch.tensor(x, dtype=torch.float64, requires_grad=True)
        return float(torch.autograd.grad(hb.up_probability(z), z)[0])

    for z in (-2.0, 0.0, 0.7):
        assert density(z) == pytest.approx(0.5 * (1 - math.tanh(z) ** 2), rel=1e-12)
    assert quad(density, -20, 20)[0] == pytest.approx(1, abs=1e-8)  # e^{−40} is left out
    assert quad(lambda z: z * z * density(z), -20, 20)[0] == pytest.approx(math.pi**2 / 12, abs=1e-8)


def test_up_probability_is_g_and_keeps_its_relative_accuracy_far_out():
    z = torch.tensor([-300.0, -20.0, -0.3, 0.0, 0.3, 20.0], dtype=torch.float64)
    assert torch.allclose(hb.up_probability(z), torch.exp(z) / (2 * torch.cosh(z)), rtol=1e-13, atol=0)
    assert float(hb.up_probability(torch.tensor(0.3 / 0.7, dtype=torch.float64))) == pytest.approx(
        0.702063, abs=5e-7
    )


@pytest.mark.parametrize("order", ["sequential", "parallel"])
def test_one_spin_in_a_field_is_up_with_probability_g_of_field_over_temperature(order):
    n, exact = 200_000, 0.702063
    up = hb.evolve(torch.ones(n, 1), torch.zeros(1, 1), sweeps=1, temperature=0.7, field=torch.tensor([0.3]), order=order,
                   generator=stream(5))  # fmt: skip
    assert abs(float((up > 0).double().mean()) - exact) < 5 * math.sqrt(exact * (1 - exact) / n)


# ------------------------------------------------------------------------------------------------- couplings


@given(k=st.integers(1, 5), n=st.integers(1, 9), seed=seeds)
@few
def test_hebb_couplings_presented_one_by_one_are_the_batch(k, n, seed):
    xi, grown = signs(k, n, seed=seed), torch.zeros(n, n, dtype=torch.float64)
    for pattern in xi.double():
        grown += torch.outer(pattern, pattern) / n
    assert torch.allclose(hb.hebb_couplings(xi, diagonal=True), grown, rtol=0, atol=k * EPS)
    assert bool((hb.hebb_couplings(xi, diagonal=True).diagonal() == k / n).all())
    without = hb.hebb_couplings(xi)
    assert bool((without.diagonal() == 0).all())
    assert torch.allclose(without, grown.fill_diagonal_(0), rtol=0, atol=k * EPS)
    assert torch.equal(
        hb.hebb_couplings(torch.cat([xi, xi])), 2 * without
    )  # presented twice: twice the weight


def test_hebb_couplings_of_rows_have_the_size_of_the_network():
    xi = torch.tensor([[1, 1, -1, 1], [1, -1, -1, -1]])
    expected = [[sum(int(p[i] * p[j]) for p in xi) / 4 if i != j else 0 for j in range(4)] for i in range(4)]
    assert hb.hebb_couplings(xi).tolist() == expected


@given(k=st.integers(1, 6), n=st.integers(8, 20), seed=seeds)
@few
def test_projector_couplings_are_an_idempotent_matrix_of_trace_k_that_keeps_each_pattern(k, n, seed):
    xi = signs(k, n, seed=seed)
    if np.linalg.matrix_rank(xi.numpy()) < k:
        with pytest.raises(ValueError, match=r"^patterns: .* linearly dependent"):
            hb.projector_couplings(xi)
        return
    j, x = hb.projector_couplings(xi, diagonal=True), xi.double()
    condition = float(torch.linalg.cond(x))
    close = {"rtol": 0, "atol": 50 * n * condition * EPS}
    assert torch.allclose(x @ j, x, **close) and torch.allclose(j @ j, j, **close)
    assert torch.equal(j, j.T) and float(j.trace()) == pytest.approx(k, abs=1e-12)
    # The formula with the inverse of C = ξξᵀ/N.
    assert torch.allclose(
        j, x.T @ torch.linalg.inv(x @ x.T / n) @ x / n, rtol=0, atol=50 * n * condition**2 * EPS
    )
    bare = hb.projector_couplings(xi)
    assert bool((bare.diagonal() == 0).all())
    assert torch.allclose(x @ bare, (1 - j.diagonal()) * x, **close)


def test_at_load_one_half_the_projector_keeps_every_pattern_and_hebbs_rule_at_a_fifth_few():
    xi = hb.random_patterns(100, 200, generator=stream(1))
    bare = hb.projector_couplings(xi)
    assert bool(hb.is_fixed_point(xi, bare).all()) and bool(hb.is_fixed_point(-xi, bare).all())
    few_patterns = xi[:40]
    kept = hb.is_fixed_point(few_patterns, hb.hebb_couplings(few_patterns)).double().mean()
    # Exactly: P(bit right) ≈ 0.9873 at N = 200, K = 40, so (0.9873)^200 ≈ 0.08 of the patterns; 5 binomial deviations.
    right = (1 - sum(hb.bit_error(200, 40))) ** 200
    assert abs(float(kept) - right) < 5 * math.sqrt(right * (1 - right) / 40)
    # Ten per cent of the bits wrong: without the diagonal all comes back at α = 0.2, with it nothing does at 0.5.
    cue = (xi * hb.rademacher(0.8, xi.shape, generator=stream(2)))[:20]
    with_diagonal = hb.projector_couplings(xi, diagonal=True)
    stuck = hb.evolve(cue, with_diagonal, sweeps=20, generator=stream(3))
    assert float((hb.overlaps(stuck, xi).diagonal() == 1).double().mean()) == 0.0
    free = hb.evolve(cue, hb.projector_couplings(few_patterns), sweeps=20, generator=stream(3))
    assert bool((hb.overlaps(free, few_patterns).diagonal() == 1).all())


# ------------------------------------------------------------------------------------------------- energy, overlaps, fields


@given(n=sizes, seed=seeds)
@few
def test_energy_and_local_fields_are_the_sums_over_pairs_and_neighbours(n, seed):
    j, h, s = symmetric(n, seed, diagonal=0.3), gaussian(n, seed=seed + 1), signs(3, n, seed=seed)
    found, phi = hb.energy(s, j, h), hb.local_fields(s, j, h)
    for row, state in enumerate(s.tolist()):
        assert float(found[row]) == pytest.approx(brute_energy(state, j.tolist(), h.tolist()), abs=1e-12)
        for i in range(n):
            assert float(phi[row, i]) == pytest.approx(
                brute_field(state, j.tolist(), h.tolist(), i), abs=1e-12
            )
    asymmetric = gaussian(n, n, seed=seed)
    assert torch.allclose(hb.local_fields(s, asymmetric)[0], asymmetric @ s[0].double(), atol=1e-12)
    assert found.dtype == phi.dtype == torch.float64
    assert torch.equal(hb.energy(s[0], j), hb.energy(s[0], j, torch.zeros(n)))
    assert hb.energy(s.reshape(3, 1, n), j).shape == (3, 1)


@given(n=sizes, seed=seeds)
@few
def test_energy_and_dynamics_are_invariant_under_a_gauge_transformation(n, seed):
    j, h, g, s = (
        symmetric(n, seed),
        gaussian(n, seed=seed + 1),
        signs(n, seed=seed + 2),
        signs(4, n, seed=seed),
    )
    turned = g.double()[:, None] * j * g.double()
    assert torch.allclose(hb.energy(s * g, turned, h * g), hb.energy(s, j, h), atol=1e-12)
    assert torch.equal(hb.is_fixed_point(s * g, turned, h * g), hb.is_fixed_point(s, j, h))
    for order in ("sequential", "parallel"):
        kw = {"sweeps": 3, "order": order}
        assert torch.equal(
            hb.evolve(s * g, turned, field=h * g, generator=stream(seed), **kw),
            hb.evolve(s, j, field=h, generator=stream(seed), **kw) * g,
        )
        to = codes(hb.all_states(n) * g)
        law = hb.transition_matrix(j, h, 0.7, order)
        assert torch.allclose(hb.transition_matrix(turned, h * g, 0.7, order)[to][:, to], law, atol=1e-13)


@given(n=sizes, seed=seeds, diagonal=st.sampled_from([-2.0, 0.0, 0.4]))
@few
def test_a_flip_towards_the_field_changes_the_energy_by_minus_two_field_minus_two_self_coupling(
    n, seed, diagonal
):
    j, h, states = symmetric(n, seed, diagonal), gaussian(n, seed=seed + 1), hb.all_states(n)
    phi = hb.local_fields(states, j, h)
    for i in range(n):
        flipped = states.clone()
        flipped[:, i] *= -1
        moves = states[:, i] * phi[:, i] < 0
        change = hb.energy(flipped, j, h) - hb.energy(states, j, h)
        assert torch.allclose(change[moves], -2 * phi[moves, i].abs() - 2 * diagonal, atol=1e-12)


@given(n=st.integers(2, 12), seed=seeds, hebb=st.booleans())
@few
def test_sequential_updates_at_zero_temperature_never_raise_the_energy(n, seed, hebb):
    j = hb.hebb_couplings(signs(3, n, seed=seed)) if hebb else symmetric(n, seed, 0.2)
    s, generator = signs(5, n, seed=seed), stream(seed)
    now = hb.energy(s, j)
    low = -0.5 * float(j.abs().sum())
    for _ in range(6):
        s = hb.evolve(s, j, sweeps=1, generator=generator)
        before, now = now, hb.energy(s, j)
        assert bool((now <= before + 1e-12).all()) and float(now.min()) >= low - 1e-12


def test_a_negative_self_coupling_raises_the_energy_and_cycles():
    one, j = torch.ones(1), -torch.ones(1, 1)
    assert hb.evolve(one, j, sweeps=1).tolist() == [-1] and hb.evolve(one, j, sweeps=2).tolist() == [1]
    assert hb.parallel_census(j) == (0, 2, 0)
    j = symmetric(6, 3, -2.0)
    s, flipped = hb.all_states(6), hb.all_states(6)
    flipped[:, 0] *= -1
    moves = s[:, 0] * hb.local_fields(s, j)[:, 0] < 0
    assert float((hb.energy(flipped, j) - hb.energy(s, j))[moves].max()) > 0


def test_energies_are_bounded_below_by_half_the_sum_of_the_couplings_and_the_field():
    for seed in range(5):
        j, h = symmetric(8, seed), gaussian(8, seed=seed + 50)
        lowest = float(hb.energy(hb.all_states(8), j, h).min())
        assert lowest >= -0.5 * float(j.abs().sum()) - float(h.abs().sum())
        assert lowest >= -4 * float(torch.linalg.eigvalsh(j)[-1]) - float(h.abs().sum())


@given(k=st.integers(1, 4), n=st.integers(1, 9), seed=seeds)
@few
def test_the_hebb_energy_is_minus_half_n_times_the_squared_overlaps_plus_half_k(k, n, seed):
    xi, states = signs(k, n, seed=seed), hb.all_states(n)
    m = hb.overlaps(states, xi)
    expected = -n / 2 * (m**2).sum(1)
    assert torch.allclose(hb.energy(states, hb.hebb_couplings(xi, diagonal=True)), expected, atol=1e-12)
    assert torch.allclose(hb.energy(states, hb.hebb_couplings(xi)), expected + k / 2, atol=1e-12)
    assert float(hb.energy(xi[:1], hb.hebb_couplings(xi[:1]))) == pytest.approx(-n / 2 + 0.5, abs=1e-12)


def test_an_overlap_takes_n_plus_one_values_and_counts_the_agreeing_bits():
    xi = signs(2, 6, seed=1)
    m = hb.overlaps(hb.all_states(6), xi)
    assert sorted({round(3 * float(v)) for v in m[:, 0]}) == [-3, -2, -1, 0, 1, 2, 3]
    assert torch.equal(m[:, 0], ((hb.all_states(6) == xi[0]).sum(1).double() * 2 - 6) / 6)
    assert hb.overlaps(xi[0], xi)[0] == 1 and hb.overlaps(-xi[0], xi)[0] == -1
    assert hb.overlaps(xi.reshape(2, 1, 6), xi).shape == (2, 1, 2) and m.dtype == torch.float64


# ------------------------------------------------------------------------------------------------- enumeration


def test_all_states_are_in_the_order_of_their_bits():
    assert (
        hb.all_states(3).tolist() == [list(s) for s in listed(3)] and hb.all_states(3).dtype == torch.float64
    )


@pytest.mark.parametrize("diagonal", [0.0, 0.5])
def test_gibbs_is_the_sum_over_all_states(diagonal):
    n, beta = 5, 1.3
    j, h = symmetric(n, 1, diagonal), gaussian(n, seed=2)
    weights = [math.exp(-beta * brute_energy(s, j.tolist(), h.tolist())) for s in listed(n)]
    z, states = math.fsum(weights), np.array(listed(n))
    p = np.array(weights) / z
    found = hb.gibbs(j, h, beta)
    assert found.log_z == pytest.approx(math.log(z), abs=1e-12)
    assert np.allclose(found.mean, p @ states, atol=1e-13)
    assert np.allclose(found.correlations, np.einsum("s,si,sj->ij", p, states, states), atol=1e-13)
    assert np.allclose(hb.gibbs_law(j, h, beta), p, rtol=1e-12, atol=0)
    assert hb.gibbs(j, None, 0.0).log_z == pytest.approx(n * math.log(2))


def test_gibbs_means_are_derivatives_of_the_free_energy():
    n, beta, step = 8, 1.3, 1e-5
    j, h = hb.hebb_couplings(signs(3, n, seed=4)), gaussian(n, seed=5)
    mean = hb.gibbs(j, h, beta).mean
    for i in range(n):
        e = step * torch.eye(n, dtype=torch.float64)[i]
        slope = (hb.gibbs(j, h + e, beta).log_z - hb.gibbs(j, h - e, beta).log_z) / (2 * step * beta)
        assert slope == pytest.approx(float(mean[i]), abs=1e-9)  # h² from the step, 1e-16/1e-5 from rounding


@pytest.mark.parametrize("order", ["sequential", "parallel"])
def test_the_transition_matrix_is_the_product_or_the_choice_of_single_spin_chances(order):
    j, h = gaussian(3, 3, seed=1), gaussian(3, seed=2)  # asymmetric, with self couplings
    found = hb.transition_matrix(j, h, 0.8, order)
    assert np.allclose(found, brute_matrix(j.tolist(), h.tolist(), 0.8, order), rtol=0, atol=1e-14)


def test_gibbs_is_stationary_in_detailed_balance_without_self_couplings_and_not_with_them():
    h, beta = gaussian(6, seed=2), 1.2
    for diagonal, holds in ((0.0, True), (0.5, False)):
        j = symmetric(6, 1, diagonal)
        p, w = hb.gibbs_law(j, h, beta), hb.transition_matrix(j, h, 1 / beta)
        flow = p[:, None] * w
        if holds:
            assert float((p @ w - p).abs().sum()) < 64 * EPS and torch.allclose(flow, flow.T, atol=4 * EPS)
        else:
            assert float((p @ w - p).abs().sum()) > 1e-3 and float((flow - flow.T).abs().max()) > 1e-4


@pytest.mark.parametrize("diagonal", [0.0, 0.5, -0.7])
def test_perettos_law_is_stationary_under_parallel_updates_and_gibbs_is_not(diagonal):
    j, h, beta = symmetric(6, 1, diagonal), gaussian(6, seed=2), 1.2
    w = hb.transition_matrix(j, h, 1 / beta, "parallel")
    q, p = hb.peretto_law(j, h, beta), hb.gibbs_law(j, h, beta)
    assert float((q @ w - q).abs().sum()) < 64 * 8 * EPS and float(q.sum()) == pytest.approx(1, abs=1e-14)
    assert float((p @ w - p).abs().sum()) > 0.05
    weights = [
        math.exp(beta * sum(a * b for a, b in zip(h.tolist(), s, strict=True)))
        * math.prod(2 * math.cosh(beta * brute_field(s, j.tolist(), h.tolist(), i)) for i in range(6))
        for s in listed(6)
    ]
    assert np.allclose(q, np.array(weights) / math.fsum(weights), rtol=1e-12, atol=0)


@pytest.mark.parametrize("order", ["sequential", "parallel"])
@pytest.mark.parametrize("temperature", [1e-320, 1e-3, 0.05])
def test_transition_matrices_are_finite_at_any_low_temperature(order, temperature):
    j, h = symmetric(4, 1), gaussian(4, seed=2)
    w = hb.transition_matrix(j, h, temperature, order)
    assert torch.allclose(w.sum(1), torch.ones(16, dtype=torch.float64), atol=1e-14)
    target = codes(hb.evolve(hb.all_states(4), j, sweeps=1, field=h, order="parallel"))
    if temperature < 1e-300 and order == "parallel":
        assert bool((w[torch.arange(16), target] == 1).all())
    if temperature == 0.05:  # chances far below 2⁻⁵² keep their relative accuracy
        by_hand = brute_matrix(j.tolist(), h.tolist(), temperature, order)
        assert np.allclose(w, by_hand, rtol=1e-12, atol=0) and by_hand[by_hand > 0].min() < 1e-17


@given(n=st.integers(2, 5), seed=seeds, temperature=st.floats(0.2, 3.0))
@few
def test_the_kullback_leibler_divergence_to_gibbs_never_increases(n, seed, temperature):
    j, h = symmetric(n, seed), gaussian(n, seed=seed + 1)
    target, w = hb.gibbs_law(j, h, 1 / temperature), hb.transition_matrix(j, h, temperature)
    p = torch.zeros(2**n, dtype=torch.float64)
    p[int(target.argmin())] = 1
    last = INF
    for _ in range(30):
        divergence = float(torch.special.xlogy(p, p / target).sum())
        assert divergence <= last + 1e-13
        last, p = divergence, p @ w


def test_at_positive_temperature_the_mean_energy_rises_from_the_ground_state():
    j, h = symmetric(6, 1), gaussian(6, seed=2)
    e = hb.energy(hb.all_states(6), j, h)
    after = hb.transition_matrix(j, h, 1.0)[int(e.argmin())]
    assert float(after @ e) > float(e.min()) + 1e-3


# ------------------------------------------------------------------------------------------------- parallel updates at T = 0


def census_by_hand(j, h):
    """Follow each state until it comes back to where it has been."""
    n, states = len(h), listed(len(h))

    def step(s):
        phi = [brute_field(s, j, h, i) for i in range(n)]
        return tuple(x if abs(f) < 1e-12 else (1 if f > 0 else -1) for x, f in zip(s, phi, strict=True))

    after, counts = {s: step(s) for s in states}, [0, 0, 0]
    cyclic = {}
    for s in states:
        t, length = after[s], 1
        while t != s and length <= 2**n:
            t, length = after[t], length + 1
        if t == s:
            cyclic[s] = length
    for length in cyclic.values():
        counts[min(length, 3) - 1] += 1
    return tuple(counts)


@pytest.mark.parametrize("seed", range(4))
def test_the_census_counts_the_states_on_cycles(seed):
    for j in (symmetric(5, seed, 0.1), gaussian(5, 5, seed=seed), hb.hebb_couplings(signs(2, 5, seed=seed))):
        h = gaussian(5, seed=seed + 9) * 0.2
        assert hb.parallel_census(j, h) == census_by_hand(j.tolist(), h.tolist())


@given(n=st.integers(2, 8), seed=seeds, diagonal=st.sampled_from([-1.0, 0.0, 0.7]))
@few
def test_parallel_updates_of_symmetric_couplings_end_in_fixed_points_or_two_cycles(n, seed, diagonal):
    census = hb.parallel_census(symmetric(n, seed, diagonal), gaussian(n, seed=seed + 1))
    assert census.longer == 0 and census.fixed + census.two_cycle > 0


def test_fifty_symmetric_gaussian_networks_have_seven_fixed_points_and_65_states_on_two_cycles():
    fixed = [hb.parallel_census(symmetric(10, seed)) for seed in range(50)]
    assert all(c.longer == 0 for c in fixed)
    # Another set of 50 networks (HEB-12) gave 7.56 and 64.9; both means scatter by less than 1/√50 of the spread: 5 deviations.
    for found, stated in (([c.fixed for c in fixed], 7.56), ([c.two_cycle for c in fixed], 64.9)):
        assert abs(np.mean(found) - stated) < 5 * np.std(found) * math.sqrt(2 / 50)
    longer = sum(hb.parallel_census(gaussian(10, 10, seed=s).fill_diagonal_(0)).longer > 0 for s in range(50))
    assert longer >= 40


@given(n=st.integers(2, 12), seed=seeds, diagonal=st.sampled_from([-1.0, 0.0, 0.7]))
@few
def test_the_parallel_energy_never_rises_and_is_the_sum_over_pairs(n, seed, diagonal):
    j, h, before = symmetric(n, seed, diagonal), gaussian(n, seed=seed + 1), signs(4, n, seed=seed)
    now, last = before, torch.full((4,), INF, dtype=torch.float64)
    for _ in range(6):
        before, now = now, hb.evolve(now, j, sweeps=1, field=h, order="parallel")
        e = hb.parallel_energy(now, before, j, h)
        assert bool((e <= last + 1e-12).all())
        last = e
    s, r = now.double(), before.double()
    by_hand = -torch.einsum("bi,ij,bj->b", s, j, r) - (h * (s + r)).sum(1)
    assert torch.allclose(e, by_hand, atol=1e-12)
    assert torch.allclose(hb.parallel_energy(s, s, j, h), 2 * hb.energy(s, j, h), atol=1e-12)


def test_the_energy_itself_does_rise_in_parallel_steps():
    risen = 0
    for seed in range(50):
        j, s = symmetric(20, seed), signs(1, 20, seed=seed)
        after = hb.evolve(s, j, sweeps=1, order="parallel")
        risen += bool((hb.energy(after, j) > hb.energy(s, j)).any())
    # HEB-12: 91 of 200; two binomial samples, five deviations.
    assert abs(risen / 50 - 91 / 200) < 5 * math.sqrt(0.25 * (1 / 50 + 1 / 200))


@given(k=st.integers(1, 4), n=st.integers(2, 10), seed=seeds)
@few
def test_parallel_updates_of_positive_semidefinite_couplings_never_cycle(k, n, seed):
    j = hb.hebb_couplings(signs(k, n, seed=seed), diagonal=True)
    census = hb.parallel_census(j)
    assert census.two_cycle == census.longer == 0
    s = hb.all_states(n)
    assert bool((hb.energy(hb.evolve(s, j, sweeps=1, order="parallel"), j) <= hb.energy(s, j) + 1e-12).all())


def test_one_pattern_without_diagonal_flips_a_state_of_zero_overlap_for_ever():
    xi = signs(1, 8, seed=1)
    s = xi[0] * torch.tensor([1, -1] * 4, dtype=torch.int8)
    j = hb.hebb_couplings(xi)
    assert torch.equal(hb.evolve(s, j, sweeps=1, order="parallel"), -s)
    assert torch.equal(hb.evolve(s, j, sweeps=7, order="parallel"), -s)
    assert torch.equal(hb.evolve(s, hb.hebb_couplings(xi, diagonal=True), sweeps=1, order="parallel"), s)


def test_a_negative_eigenvalue_makes_a_pattern_a_two_cycle():
    xi = signs(1, 6, seed=1)
    j = -hb.hebb_couplings(xi, diagonal=True)
    assert torch.equal(hb.evolve(xi, j, sweeps=1, order="parallel"), -xi)
    assert not bool(hb.is_fixed_point(xi, j).any())


# ------------------------------------------------------------------------------------------------- evolve


def test_ties_of_hebb_couplings_keep_the_old_spin_exactly():
    ties = 0
    for n, k, diagonal in ((6, 2, False), (6, 3, True), (7, 2, False), (10, 4, False), (12, 5, True)):
        xi, states = signs(k, n, seed=n).long(), torch.tensor(listed(n))
        whole = xi.T @ xi
        whole = whole if diagonal else whole.fill_diagonal_(0)
        phi = states @ whole.T
        ties += int((phi == 0).sum())
        expected = torch.where(phi == 0, states, phi.sign())
        assert torch.equal(
            hb.evolve(states, hb.hebb_couplings(xi, diagonal), sweeps=1, order="parallel"), expected
        )
        assert torch.equal(
            hb.is_fixed_point(states, hb.hebb_couplings(xi, diagonal)), (phi * states > 0).all(1)
        )
    assert ties > 1000


def test_ties_of_hebb_couplings_and_a_field_of_multiples_of_one_over_n_are_exact():
    n, xi = 6, signs(3, 6, seed=2).long()
    whole, b, states = xi.T @ xi, torch.tensor([1, 3, -1, 5, -3, 1]), torch.tensor(listed(6))
    phi = states @ whole.fill_diagonal_(0) + b
    assert int((phi == 0).sum()) > 20
    found = hb.evolve(states, hb.hebb_couplings(xi), sweeps=1, field=b.double() / n, order="parallel")
    assert torch.equal(found, torch.where(phi == 0, states, phi.sign()))


@pytest.mark.parametrize("order", ["sequential", "parallel"])
def test_dynamics_depend_on_couplings_over_temperature_and_small_couplings_are_not_zero(order):
    j, h, s = gaussian(5, 5, seed=1), gaussian(5, seed=2), signs(200, 5)
    for temperature in (0.0, 0.7):
        expected = hb.evolve(
            s, j, sweeps=4, temperature=temperature, field=h, order=order, generator=stream(2)
        )
        for unit in (2.0**-40, 2.0**-300, 2.0**30):
            found = hb.evolve(s, unit * j, sweeps=4, temperature=unit * temperature, field=unit * h, order=order,
                              generator=stream(2))  # fmt: skip
            assert torch.equal(found, expected)
    mixed = torch.tensor([[0, 1e-10], [1.0, 0]], dtype=torch.float64)  # an integer beside a small number
    assert hb.evolve(torch.tensor([1, -1]), mixed, sweeps=1, order="parallel").tolist() == [-1, 1]


@pytest.mark.parametrize("couplings", ["floats", "hebb"])
@pytest.mark.parametrize("order", ["sequential", "parallel"])
def test_one_sweep_from_each_state_follows_the_transition_matrix_within_five_deviations(order, couplings):
    n, draws, temperature = 3, 20000, 0.8
    j = gaussian(n, n, seed=1) if couplings == "floats" else hb.hebb_couplings(signs(2, n, seed=3))
    h = gaussian(n, seed=2) if couplings == "floats" else torch.tensor([1, -1, 1]) / 3
    law = torch.tensor(brute_matrix(j.tolist(), h.tolist(), temperature, order))
    law = torch.linalg.matrix_power(law, n) if order == "sequential" else law
    for row, state in enumerate(hb.all_states(n)):
        found = hb.evolve(state.expand(draws, n), j, sweeps=1, temperature=temperature, field=h, order=order,
                          generator=stream(row))  # fmt: skip
        counts = torch.bincount(codes(found), minlength=8).double()
        assert bool(
            ((counts - draws * law[row]).abs() <= 5 * (draws * law[row] * (1 - law[row])).sqrt()).all()
        )


@pytest.mark.parametrize("dtype", [torch.int8, torch.int64, torch.float32, torch.float64])
@pytest.mark.parametrize("order", ["sequential", "parallel"])
def test_evolve_keeps_shape_and_dtype_leaves_its_input_and_repeats_with_the_generator(dtype, order):
    j = hb.hebb_couplings(signs(2, 7, seed=1))
    for shape in ((7,), (1, 7), (2, 3, 7)):
        s = signs(*shape, seed=2).to(dtype)
        before = s.clone()
        kw = {"sweeps": 2, "temperature": 1.5, "order": order}
        found = hb.evolve(s, j, generator=stream(1), **kw)
        assert found.shape == s.shape and found.dtype == dtype and torch.equal(s, before)
        assert bool((found.abs() == 1).all()) and found.data_ptr() != s.data_ptr()
        assert torch.equal(found, hb.evolve(s, j, generator=stream(1), **kw))
        assert torch.equal(hb.evolve(s, j, sweeps=0, order=order), s)
    many = signs(40, 7).to(dtype)
    assert not torch.equal(
        hb.evolve(many, j, generator=stream(1), **kw), hb.evolve(many, j, generator=stream(2), **kw)
    )
    assert not torch.equal(hb.evolve(many, j, **kw), hb.evolve(many, j, **kw))  # fresh entropy
    generator = stream(1)
    first, second = (hb.evolve(many, j, generator=generator, **kw) for _ in range(2))
    assert not torch.equal(first, second)  # the stream moves on


def test_a_strict_fixed_point_stays_under_both_orders_and_so_does_its_mirror_image():
    xi = signs(2, 40, seed=1)
    j = hb.hebb_couplings(xi)
    for s in (xi, -xi):
        assert bool(hb.is_fixed_point(s, j).all())
        for order in ("sequential", "parallel"):
            assert torch.equal(hb.evolve(s, j, sweeps=5, order=order), s)
    spoiled = xi[0].clone()
    spoiled[3] *= -1
    assert not bool(hb.is_fixed_point(spoiled, j))
    assert not bool(hb.is_fixed_point(xi[0], torch.zeros(40, 40)))  # ties are not strict
    assert bool(hb.is_fixed_point(xi[0], torch.zeros(40, 40), xi[0].double()))  # a field alone suffices
    assert not bool(hb.is_fixed_point(xi[0], j, -5 * xi[0].double()))


@pytest.mark.parametrize("n", [2, 3, 8, 50])
def test_one_pattern_alone_is_a_fixed_point(n):
    xi = signs(1, n, seed=n)
    assert bool(hb.is_fixed_point(xi, hb.hebb_couplings(xi)).all())


def test_one_parallel_step_of_one_pattern_has_the_mean_tanh_of_beta_m():
    n, beta, p, replicas = 1000, 1.5, 0.2, 200
    xi = signs(1, n, seed=1)
    start = xi * hb.rademacher(p, (1, n), generator=stream(2))
    m = float(hb.overlaps(start, xi))
    found = hb.overlaps(
        hb.evolve(start.expand(replicas, n), hb.hebb_couplings(xi), sweeps=1, temperature=1 / beta, order="parallel",
                  generator=stream(3)), xi)  # fmt: skip
    # A site that is right meets m − 1/N, one that is wrong m + 1/N: exact.
    right = (1 + m) / 2
    exact = right * math.tanh(beta * (m - 1 / n)) + (1 - right) * math.tanh(beta * (m + 1 / n))
    assert abs(exact - math.tanh(beta * m)) < 2 * beta / n
    assert abs(float(found.mean()) - exact) < 5 / math.sqrt(n * replicas)


# ------------------------------------------------------------------------------------------------- recall


def test_twenty_sweeps_reach_the_fixed_point_deep_in_the_basin():
    for n, k, p in ((200, 5, 0.4), (1000, 50, 0.4)):
        twenty, long = (
            hb.recall(n, k, p, samples=20, sweeps=sweeps, generator=stream(1)) for sweeps in (20, 100)
        )
        assert torch.equal(twenty, long)


def test_at_the_edge_of_the_basin_twenty_sweeps_decide_recall_but_lost_overlaps_still_drift():
    twenty, long = (
        hb.recall(1000, 50, 0.2, samples=60, sweeps=sweeps, generator=stream(7)) for sweeps in (20, 200)
    )
    # Three of 120 were still on their way in another run: ten of 60 are beyond five deviations of a Poisson number of mean 1.5.
    assert int(((twenty > 0.9) != (long > 0.9)).sum()) <= 10
    lost = long < 0.9
    assert int((twenty != long)[lost].sum()) > 5 and float(twenty[lost].mean()) > float(long[lost].mean())


@pytest.mark.parametrize(
    ("patterns", "p", "stated"),
    [(50, 0.1, 0), (50, 0.2, 8), (50, 0.3, 15), (100, 0.3, 3), (100, 0.4, 11), (100, 0.5, 15)],
)
def test_the_fraction_recalled_at_a_thousand_spins_is_that_of_the_claim(patterns, p, stated):
    draws = 30
    recalled = float((hb.recall(1000, patterns, p, samples=draws, generator=stream(3)) > 0.9).double().sum())
    pooled = (recalled + stated) / (draws + 15)
    # Two binomial samples of one law, 30 and 15 runs (HEB-16): four deviations of their difference.
    assert abs(recalled / draws - stated / 15) <= 4 * math.sqrt(pooled * (1 - pooled) * (1 / draws + 1 / 15))


def test_recall_starts_at_the_cue_and_each_sample_has_patterns_of_its_own():
    m = hb.recall(500, 3, 0.3, samples=200, sweeps=0, generator=stream(1))
    assert m.shape == (200,) and m.dtype == torch.float64
    assert abs(float(m.mean()) - 0.3) < 5 * math.sqrt(0.91 / (500 * 200))
    assert abs(float(m.var()) * 500 / 0.91 - 1) < 5 * math.sqrt(2 / 200)
    assert torch.equal(m, hb.recall(500, 3, 0.3, samples=200, sweeps=0, generator=stream(1)))
    # Both ±ξ attract: a cue of overlap −0.9 ends at −1; at high temperature all is lost.
    assert float(hb.recall(300, 2, -0.9, samples=5, generator=stream(1)).max()) == -1
    hot = hb.recall(300, 1, 1.0, samples=50, temperature=100.0, generator=stream(1))
    # Far above T_c = 1 the spins are free but for 1 %: variance 1/N (1 + 2/T).
    assert abs(float(hot.mean())) < 5 * math.sqrt(1.02 / (300 * 50))


# ------------------------------------------------------------------------------------------------- one pattern, exactly


def test_the_curie_weiss_magnetization_solves_its_equation():
    assert hb.curie_weiss_magnetization(1.5) == pytest.approx(0.8585596, abs=5e-8)
    assert hb.curie_weiss_magnetization(2.0) == pytest.approx(0.9575040, abs=5e-8)
    for beta in (1.001, 1.2, 3.0, 30.0):
        m = hb.curie_weiss_magnetization(beta)
        assert m > 0 and m == pytest.approx(math.tanh(beta * m), abs=1e-14)
    assert hb.curie_weiss_magnetization(1 + 1e-6) == pytest.approx(math.sqrt(3e-6), rel=1e-4)
    assert hb.curie_weiss_magnetization(1.0) == hb.curie_weiss_magnetization(0.0) == 0.0


@given(n=st.integers(1, 9), seed=seeds, beta=st.floats(0.1, 3.0))
@few
def test_one_pattern_has_the_free_energy_and_overlap_of_the_enumeration(n, seed, beta):
    xi = signs(1, n, seed=seed)
    exact = hb.gibbs(hb.hebb_couplings(xi), None, beta)
    f, rms = hb.mattis_exact(n, beta)
    assert f == pytest.approx(-exact.log_z / (beta * n), rel=1e-12)
    square = float(xi[0].double() @ exact.correlations @ xi[0].double()) / n**2
    assert rms == pytest.approx(math.sqrt(square), rel=1e-12)


def test_one_pattern_tends_to_its_saddle_point_and_to_the_quartic_law_at_the_critical_point():
    for n, f, rms in ((100, -0.5402713, 0.85119), (1000, -0.5390242, 0.85788), (10000, -0.5389072, 0.85849)):
        found = hb.mattis_exact(n, 1.5)
        assert found[0] == pytest.approx(f, abs=5e-8) and found[1] == pytest.approx(rms, abs=5e-6)
    m = hb.curie_weiss_magnetization(1.5)
    saddle = m * m / 2 - math.log(2 * math.cosh(1.5 * m)) / 1.5
    assert saddle == pytest.approx(-0.5388942, abs=5e-8)
    assert abs(hb.mattis_exact(10**5, 1.5)[0] - saddle) < 2e-5  # the error is of order 1/N: 1.3e-6 here
    for n, scaled in ((100, 1.0700), (1000, 1.0781), (10000, 1.0808)):
        assert n**0.25 * hb.mattis_exact(n, 1.0)[1] == pytest.approx(scaled, abs=5e-5)


def test_with_one_over_n_twice_nothing_orders():
    assert hb.mattis_exact(1000, 2.0)[1] ** 2 == pytest.approx(0.91647, abs=5e-6)
    assert hb.mattis_exact(1000, 2.0 / 1000)[1] ** 2 == pytest.approx(0.001002, abs=5e-7)


# ------------------------------------------------------------------------------------------------- crosstalk, exactly


@pytest.mark.parametrize(("n", "k"), [(2, 1), (2, 3), (3, 2), (4, 2), (5, 2), (4, 3), (5, 3), (3, 4), (2, 6)])
@pytest.mark.parametrize("diagonal", [False, True])
def test_the_bit_error_is_the_count_over_all_patterns(n, k, diagonal):
    xi = every_patterns(k, n)
    couplings = np.einsum("smi,smj->sij", xi, xi)
    if not diagonal:
        couplings[:, np.arange(n), np.arange(n)] = 0
    aligned = xi[:, 0, 0] * np.einsum("sj,sj->s", couplings[:, 0], xi[:, 0])
    error, tie = hb.bit_error(n, k, diagonal)
    assert error == pytest.approx(Fraction(int((aligned < 0).sum()), len(xi)), rel=1e-12, abs=1e-300)
    assert tie == pytest.approx(Fraction(int((aligned == 0).sum()), len(xi)), rel=1e-12, abs=1e-300)
    if not diagonal:  # the noise has mean 0 and deviation √((K−1)(N−1))
        noise = aligned - (n - 1)
        assert noise.sum() == 0 and (noise**2).sum() == len(xi) * (k - 1) * (n - 1)


def exact_bit_error(n, k, diagonal=False):
    signs_, signal = (k - 1) * (n - 1), n - 1 + k * diagonal
    below = sum(math.comb(signs_, b) for b in range(signs_ + 1) if 2 * b - signs_ < -signal)
    tie = math.comb(signs_, (signs_ - signal) // 2) if (signs_ - signal) % 2 == 0 and signal <= signs_ else 0
    return float(Fraction(below, 2**signs_)), float(Fraction(tie, 2**signs_))


@pytest.mark.parametrize(("n", "k"), [(100, 14), (101, 14), (100, 15), (60, 40), (30, 2), (200, 5)])
@pytest.mark.parametrize("diagonal", [False, True])
def test_the_bit_error_is_a_binomial_sum_in_integers(n, k, diagonal):
    found, exact = hb.bit_error(n, k, diagonal), exact_bit_error(n, k, diagonal)
    assert found == pytest.approx(exact, rel=1e-10, abs=1e-300)


def test_bit_errors_have_the_values_of_the_claims():
    assert hb.bit_error(100, 14) == pytest.approx((0.0026460, 0.0004932), abs=5e-8)
    assert hb.bit_error(100, 14, diagonal=True)[0] == pytest.approx(0.00073740, abs=5e-9)
    assert hb.bit_error(1000, 138)[0] == pytest.approx(0.0034350, abs=5e-8)
    assert hb.bit_error_limit(0.138) == pytest.approx(0.0035522, abs=5e-8)
    assert hb.bit_error_limit(0.37) == pytest.approx(0.0501, abs=5e-5)
    for error, load in ((0.001, 0.1047), (0.0036, 0.1385), (0.01, 0.1848), (0.05, 0.3696), (0.1, 0.6089)):
        assert hb.load_at_bit_error(error) == pytest.approx(load, abs=5e-5)
        assert hb.bit_error_limit(hb.load_at_bit_error(error)) == pytest.approx(error, rel=1e-12)


@pytest.mark.parametrize("diagonal", [False, True])
def test_the_limit_of_the_bit_error_is_a_gaussian_tail_that_large_networks_approach(diagonal):
    for load in (0.14, 0.5, 2.0):
        tail = quad(lambda z: math.exp(-z * z / 2) / math.sqrt(2 * math.pi), -40, -(1 + load * diagonal) / math.sqrt(load), epsabs=1e-14)  # fmt: skip
        assert hb.bit_error_limit(load, diagonal) == pytest.approx(tail[0], rel=1e-8)
        error, tie = hb.bit_error(20000, round(20000 * load), diagonal)
        # K − 1 for K moves ln P by (d ln P / d ln α)/K, at most 5/K here; the lattice and the fourth cumulant by order 1/N.
        assert error + tie / 2 == pytest.approx(hb.bit_error_limit(load, diagonal), rel=5 / (20000 * load))
    assert hb.bit_error_limit(0.0, diagonal) == 0.0


def test_vanishing_load_makes_bits_right_and_not_patterns():
    for n, expected in ((100, 1.30), (400, 2.60), (1600, 5.08), (6400, 9.74)):
        assert n * hb.bit_error(n, int(n / math.log(n)))[0] == pytest.approx(expected, abs=0.005)
    errors = [n * hb.bit_error(n, int(n / (4 * math.log(n))))[0] for n in (400, 1600, 6400)]
    assert errors == sorted(errors, reverse=True) and errors[-1] < 1e-3


@pytest.mark.parametrize(("n", "k"), [(2, 1), (3, 1), (2, 3), (4, 2), (3, 3), (4, 3)])
@pytest.mark.parametrize("p", [-1.0, -0.3, 0.0, 0.4, 1.0])
def test_the_first_step_is_the_mean_over_all_patterns_and_all_cues(n, k, p):
    xi = every_patterns(k, n)
    couplings = np.einsum("smi,smj->sij", xi, xi)
    couplings[:, np.arange(n), np.arange(n)] = 0
    expected = 0.0
    for chi in itertools.product((-1, 1), repeat=n):
        weight = math.prod((1 + c * p) / 2 for c in chi)
        step = np.sign(np.einsum("sij,sj->si", couplings, xi[:, 0] * np.array(chi)))
        expected += weight * (step * xi[:, 0]).mean()
    assert hb.first_step_overlap(n, k, p) == pytest.approx(expected, abs=1e-13)


def test_the_first_step_is_a_convolution_of_two_binomials_with_the_values_of_the_claim():
    for n, k, p, stated in ((200, 20, 0.4, 0.794710), (200, 20, 0.2, 0.472252), (500, 25, 0.3, 0.820630)):
        assert hb.first_step_overlap(n, k, p) == pytest.approx(stated, abs=5e-7)
    n, k, p = 24, 5, 0.35
    law = np.ones(1)
    for up in [(1 + p) / 2] * (n - 1) + [0.5] * ((k - 1) * (n - 1)):
        law = np.convolve(law, [1 - up, up])
    sums = 2 * np.arange(len(law)) - (len(law) - 1)
    assert hb.first_step_overlap(n, k, p) == pytest.approx(float(law @ np.sign(sums)), abs=1e-13)
    assert hb.first_step_limit(0.1, 0.4) == pytest.approx(0.794097, abs=5e-7)
    mass = quad(lambda z: math.exp(-z * z / 2) / math.sqrt(2 * math.pi), -0.4 / math.sqrt(0.1), 0.4 / math.sqrt(0.1))  # fmt: skip
    assert hb.first_step_limit(0.1, 0.4) == pytest.approx(mass[0], rel=1e-10)


def test_one_simulated_parallel_step_has_the_exact_mean_overlap():
    n, k, p, samples = 101, 10, 0.3, 150
    found = []
    for sample in range(samples):
        generator = stream(sample)
        xi = hb.random_patterns(k, n, generator=generator)
        cue = xi[:1] * hb.rademacher(p, (1, n), generator=generator)
        found.append(hb.overlaps(hb.evolve(cue, hb.hebb_couplings(xi), sweeps=1, order="parallel"), xi)[0, 0])
    found = torch.stack(found)
    # K (N − 1) is even, so ties occur and keep the cue's spin: at most P(tie) p ≈ 0.01 above the law where they count 0.
    error = float(found.std()) / math.sqrt(samples)
    assert -5 * error < float(found.mean()) - hb.first_step_overlap(n, k, p) < 5 * error + 0.03 * p


# ------------------------------------------------------------------------------------------------- mixtures


@pytest.mark.parametrize("mixed", [1, 3, 5, 7, 9])
def test_the_overlap_of_a_mixture_is_the_mean_over_all_signs(mixed):
    states = list(itertools.product((-1, 1), repeat=mixed))
    zero = Fraction(sum(s[0] * (1 if sum(s) > 0 else -1) for s in states), len(states))
    closed = Fraction(math.comb(mixed - 1, (mixed - 1) // 2), 2 ** (mixed - 1))
    assert zero == closed and hb.mixture_overlap(mixed) == pytest.approx(float(closed), rel=1e-13)
    for temperature in (0.05, 0.3, 0.7, 0.95):
        m = hb.mixture_overlap(mixed, temperature)
        mean = sum(s[0] * math.tanh(m * sum(s) / temperature) for s in states) / len(states)
        assert m > 0 and m == pytest.approx(mean, abs=1e-13)
    assert hb.mixture_overlap(mixed, 1.0) == hb.mixture_overlap(mixed, 3.0) == 0.0
    assert hb.mixture_overlap(mixed, 1e-6) == pytest.approx(float(closed), abs=1e-12)


def test_mixture_overlaps_and_energies_have_the_values_of_the_claim():
    m = [hb.mixture_overlap(mixed) for mixed in (1, 3, 5, 7, 9)]
    assert m == pytest.approx([1, 1 / 2, 3 / 8, 5 / 16, 35 / 128], rel=1e-13)
    energies = [-mixed * x**2 / 2 for mixed, x in zip((1, 3, 5, 7, 9), m, strict=True)]
    assert energies == pytest.approx([-0.5, -0.375, -0.35156, -0.34180, -0.33646], abs=5e-6)
    assert -1001 / 2 * hb.mixture_overlap(1001) ** 2 == pytest.approx(-1 / math.pi, abs=2e-4)
    beta = 1 / 0.4
    x = hb.mixture_overlap(3, 0.4)
    assert x == pytest.approx((math.tanh(3 * beta * x) + math.tanh(beta * x)) / 4, abs=1e-13)
    assert hb.mixture_overlap(1, 0.5) == pytest.approx(hb.curie_weiss_magnetization(2.0), abs=1e-13)


@pytest.mark.parametrize(("mixed", "stated"), [(3, 0.45979), (5, 0.38474), (7, 0.34393)])
def test_a_mixture_loses_its_stability_where_the_hessian_of_the_free_energy_does(mixed, stated):
    states = torch.tensor(list(itertools.product((-1.0, 1.0), repeat=mixed)), dtype=torch.float64)

    def lowest(temperature):
        def f(m):
            return (m**2).sum() / 2 - temperature * torch.log(2 * torch.cosh(states @ m / temperature)).mean()

        m = torch.full((mixed,), hb.mixture_overlap(mixed, temperature), dtype=torch.float64)
        assert float(torch.autograd.functional.jacobian(f, m).abs().max()) < 1e-12
        return float(torch.linalg.eigvalsh(torch.autograd.functional.hessian(f, m))[0])

    end = hb.mixture_temperature(mixed)
    assert end == pytest.approx(stated, abs=5e-6)
    assert lowest(end) == pytest.approx(0, abs=1e-9)
    assert lowest(end - 1e-3) > 1e-4 and lowest(end + 1e-3) < -1e-4


def test_mixtures_of_many_patterns_lose_their_stability_at_ever_lower_temperatures():
    ends = [hb.mixture_temperature(mixed) for mixed in (3, 9, 101, 2001)]
    assert ends == sorted(ends, reverse=True) and ends[-1] > 0.01


def test_odd_mixtures_are_fixed_points_at_low_load_and_lose_bits_at_high_load():
    n, signed = 3000, torch.tensor([[1], [-1], [1]], dtype=torch.int8)
    for k in (3, 30, 90):
        right = []
        xi = hb.random_patterns(k, n, generator=stream(1))
        j = hb.hebb_couplings(xi)
        for mixed in (xi[:3], xi[:3] * signed):
            s = hb.mixture_state(mixed)
            assert s.dtype == xi.dtype and torch.equal(s.long(), mixed.long().sum(0).sign())
            if k <= 30:
                assert bool(hb.is_fixed_point(s, j))
            right.append(float((s * hb.local_fields(s, j) > 0).double().mean()))
    # k = 90: three quarters of the sites meet ½ against noise √(87/N): 0.99875 are right; HEB-34 measured 99.87 %.
    assert abs(np.mean(right) - 0.9987) < 5 * math.sqrt(0.0013 / (2 * n))


def test_overlaps_of_a_mixture_are_those_of_the_law():
    n = 20001
    xi = hb.random_patterns(5, n, generator=stream(1))
    m = hb.overlaps(hb.mixture_state(xi), xi)
    assert bool(((m - 3 / 8).abs() < 5 / math.sqrt(n)).all())


# ------------------------------------------------------------------------------------------------- bad input

S, J, XI = torch.ones(2, 4), torch.zeros(4, 4), torch.ones(2, 4, dtype=torch.int8)
LOPSIDED = torch.arange(16.0).reshape(4, 4)
BAD_SPINS = [None, [1, 1, 1, 1], torch.tensor(1.0), torch.ones(0), torch.zeros(4), torch.full((4,), 0.5), torch.full((4,), NAN),
             torch.ones(4, dtype=torch.bool), torch.ones(4, dtype=torch.cfloat), torch.ones(2, 5)]  # fmt: skip
BAD_COUPLINGS = [None, [[0.0]], torch.zeros(4), torch.zeros(4, 3), torch.zeros(0, 0), torch.full((4, 4), NAN), torch.full((4, 4), INF)]  # fmt: skip
BAD_FIELD = [0.0, torch.zeros(3), torch.zeros(4, 1), torch.full((4,), NAN), torch.full((4,), INF)]
BAD_PATTERNS = [
    None,
    torch.ones(4),
    torch.ones(0, 4),
    torch.zeros(2, 4),
    torch.full((2, 4), NAN),
    torch.ones(2, 2, 4),
]
BAD_SIZE = [0, -1, 1.0, True, None, "4"]
BAD_NUMBER = [NAN, INF, None, "1", -1.5, torch.ones(2)]
GOOD = {
    hb.threshold_functions: {"n_inputs": 2},
    hb.spin_form: {"couplings": J, "thresholds": torch.zeros(4)},
    hb.rademacher: {"p": 0.2, "shape": (3,)},
    hb.random_patterns: {"n_patterns": 2, "n_spins": 3},
    hb.hebb_couplings: {"patterns": XI},
    hb.projector_couplings: {"patterns": XI[:1]},
    hb.energy: {"spins": S, "couplings": J, "field": None},
    hb.parallel_energy: {"now": S, "before": S, "couplings": J, "field": None},
    hb.overlaps: {"spins": S, "patterns": XI},
    hb.local_fields: {"spins": S, "couplings": J, "field": None},
    hb.is_fixed_point: {"spins": S, "couplings": J, "field": None},
    hb.evolve: {"spins": S, "couplings": J, "sweeps": 1, "temperature": 0.0, "field": None, "order": "parallel", "generator": None},
    hb.recall: {"n_spins": 4, "n_patterns": 2, "start_overlap": 0.5, "samples": 1, "sweeps": 1, "temperature": 0.0},
    hb.all_states: {"n_spins": 2},
    hb.gibbs_law: {"couplings": J, "field": None, "beta": 1.0},
    hb.gibbs: {"couplings": J, "field": None, "beta": 1.0},
    hb.peretto_law: {"couplings": J, "field": None, "beta": 1.0},
    hb.transition_matrix: {"couplings": J, "field": None, "temperature": 1.0, "order": "parallel"},
    hb.parallel_census: {"couplings": J, "field": None},
    hb.curie_weiss_magnetization: {"beta": 1.0},
    hb.mattis_exact: {"n_spins": 4, "beta": 1.0},
    hb.bit_error: {"n_spins": 4, "n_patterns": 2},
    hb.bit_error_limit: {"alpha": 0.1},
    hb.load_at_bit_error: {"p_error": 0.1},
    hb.first_step_overlap: {"n_spins": 4, "n_patterns": 2, "p": 0.1},
    hb.first_step_limit: {"alpha": 0.1, "p": 0.1},
    hb.mixture_state: {"patterns": torch.ones(3, 4)},
    hb.mixture_overlap: {"n_mixed": 3, "temperature": 0.1},
    hb.mixture_temperature: {"n_mixed": 3},
}  # fmt: skip
BAD = {
    "spins": BAD_SPINS, "now": BAD_SPINS[:-1], "before": BAD_SPINS[:-1], "couplings": BAD_COUPLINGS, "field": BAD_FIELD,
    "thresholds": BAD_FIELD[1:], "patterns": BAD_PATTERNS, "sweeps": [-1, *BAD_SIZE[1:]], "samples": BAD_SIZE, "n_spins": BAD_SIZE,
    "n_patterns": BAD_SIZE, "n_inputs": [*BAD_SIZE, 5, 2.0], "n_mixed": [*BAD_SIZE, 2, 4], "temperature": [-0.1, NAN, None, "1"],
    "beta": BAD_NUMBER, "alpha": BAD_NUMBER, "p": [1.5, *BAD_NUMBER], "start_overlap": [1.5, *BAD_NUMBER],
    "p_error": [0, 0.5, 0.7, *BAD_NUMBER], "order": ["both", None], "generator": [0, "seed"],
}  # fmt: skip
CASES = [(f, name, value) for f, good in GOOD.items() for name in good if name in BAD for value in BAD[name]]
SYMMETRIC = [hb.energy, hb.parallel_energy, hb.gibbs, hb.gibbs_law, hb.peretto_law]
CASES += [(f, "couplings", LOPSIDED) for f in SYMMETRIC]
CASES += [(f, "couplings", torch.zeros(13, 13)) for f in (hb.transition_matrix,)]
CASES += [(hb.parallel_census, "couplings", torch.zeros(17, 17))]
CASES += [(hb.all_states, "n_spins", 21), (hb.gibbs, "couplings", torch.zeros(21, 21))]
CASES += [
    (hb.bit_error, "n_spins", 1),
    (hb.first_step_overlap, "n_spins", 1),
    (hb.mixture_temperature, "n_mixed", 1),
]
CASES += [(hb.transition_matrix, "temperature", 0.0), (hb.mattis_exact, "beta", 0.0), (hb.first_step_limit, "alpha", 0.0)]  # fmt: skip
CASES += [
    (hb.projector_couplings, "patterns", x)
    for x in (XI, torch.cat([torch.eye(4) * 2 - 1, -torch.ones(1, 4)]))
]
CASES += [(hb.mixture_state, "patterns", torch.ones(2, 4)), (hb.mixture_overlap, "temperature", INF)]
CASES += [(hb.evolve, "temperature", INF), (hb.evolve, "temperature", torch.ones(2))]
BLAMED = {(hb.gibbs, 21): "n_spins"}


def label(value):
    if isinstance(value, torch.Tensor):
        return f"{value.dtype}{tuple(value.shape)}".removeprefix("torch.")
    return value.__name__ if callable(value) else repr(value)


@pytest.mark.parametrize(("function", "name", "value"), CASES, ids=label)
def test_bad_input_is_refused_by_name(function, name, value):
    good = GOOD[function]
    known = inspect.signature(inspect.unwrap(function)).parameters
    assert set(good) <= set(known)
    function(**good)
    blamed = "n_spins" if function is hb.gibbs and label(value) == "float32(21, 21)" else name
    blamed = {"thresholds": "field", "start_overlap": "p"}.get(blamed, blamed)
    with pytest.raises(ValueError, match=f"^{blamed}: |^{name}: "):
        function(**good | {name: value})


def test_every_public_function_has_its_bad_input_tested():
    classes = {"Census", "Gibbs", "up_probability"}  # a formula of any real number
    assert {f.__name__ for f in GOOD} == set(hb.__all__) - classes
