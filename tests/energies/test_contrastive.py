"""Contrastive learning: enumeration, transfer matrices, finite differences, quadrature, SciPy, scikit-learn, simulation."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy import integrate, stats
from sklearn.linear_model import LogisticRegression

from physgen.energies import contrastive as c
from physgen.memories import hebbian

INF, NAN = math.inf, math.nan
ROUNDING = 1e-13  # sums of at most a thousand numbers of order one


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def couplings(n, size, seed):
    w = torch.randn(n, n, generator=seeded(seed), dtype=torch.float64) * size
    return ((w + w.T) / math.sqrt(2)).fill_diagonal_(0)


def ring(n, strength):
    w = torch.zeros(n, n, dtype=torch.float64)
    for i in range(n):
        w[i, (i + 1) % n] = w[(i + 1) % n, i] = strength
    return w


def lattice(side, strength, periodic):
    w = torch.zeros(side**2, side**2, dtype=torch.float64)
    for a, b in itertools.product(range(side), repeat=2):
        for x, y in ((a + 1, b), (a, b + 1)):
            if periodic or max(x, y) < side:
                i, j = a * side + b, x % side * side + y % side
                w[i, j] = w[j, i] = strength
    return w


def four_spin_law(n):
    """A ring of bonds ½ and the interaction s_0 s_1 s_2 s_3 that no pairs can make."""
    s = hebbian.all_states(n)
    bonds = sum(s[:, i] * s[:, (i + 1) % n] for i in range(n))
    return torch.softmax(bonds / 2 + s[:, :4].prod(1), 0)


def random_law(n, seed):
    return torch.from_numpy(np.random.default_rng(seed).dirichlet(np.ones(2**n)))


def turned(n, i):
    return torch.arange(2**n) ^ (1 << i)


def close(a, b, tol):
    torch.testing.assert_close(a, b, rtol=0, atol=tol)


def slopes(f, w, step=1e-5):
    """∂f/∂w_ij by central differences, w_ij and w_ji together."""
    out = torch.zeros_like(w)
    for i, j in c.pairs(len(w)).T.tolist():
        move = torch.zeros_like(w)
        move[i, j] = move[j, i] = step
        out[i, j] = out[j, i] = (f(w + move) - f(w - move)) / (2 * step)
    return out


# ------------------------------------------------------------------------------------------------- Boltzmann machines


def test_the_normaliser_and_correlations_are_sums_over_all_states():
    w = couplings(4, 0.8, 1)
    weights = {
        s: math.exp(sum(float(w[i, j]) * s[i] * s[j] for i in range(4) for j in range(i)))
        for s in itertools.product((-1, 1), repeat=4)
    }
    z = sum(weights.values())
    log_z, correlations = c.boltzmann_exact(w)
    assert float(log_z) == pytest.approx(math.log(z), abs=ROUNDING)
    for i, j in itertools.product(range(4), repeat=2):
        direct = sum(v * s[i] * s[j] for s, v in weights.items()) / z
        assert float(correlations[i, j]) == pytest.approx(direct, abs=ROUNDING)


def test_two_spins_have_the_normaliser_4_cosh_w_and_the_correlation_tanh_w():
    w = torch.tensor([[0.0, 0.7], [0.7, 0.0]], dtype=torch.float64)
    log_z, correlations = c.boltzmann_exact(w)
    assert float(log_z) == pytest.approx(math.log(4 * math.cosh(0.7)), abs=ROUNDING)
    assert float(correlations[0, 1]) == pytest.approx(math.tanh(0.7), abs=ROUNDING)
    assert c.boltzmann_exact(torch.zeros(1, 1)).log_z.item() == pytest.approx(math.log(2), abs=ROUNDING)


@pytest.mark.parametrize("n", [3, 9, 20])
def test_a_ring_has_the_values_of_its_transfer_matrix(n):
    log_z, correlations = c.boltzmann_exact(ring(n, 0.6))
    t = math.tanh(0.6)
    assert float(log_z) == pytest.approx(n * math.log(2 * math.cosh(0.6)) + math.log1p(t**n), abs=1e-12)
    exact = torch.tensor([(t**r + t ** (n - r)) / (1 + t**n) for r in range(1, n)], dtype=torch.float64)
    close(correlations[0, 1:], exact, 1e-12)


def test_the_halves_agree_with_the_enumeration_of_the_hebbian_chapter():
    for n in (2, 5, 6):
        w = couplings(n, 0.7, n)
        exact = hebbian.gibbs(w, None, 1.0)
        assert float(c.boltzmann_exact(w).log_z) == pytest.approx(exact.log_z, abs=ROUNDING)
        close(c.boltzmann_exact(w).correlations, exact.correlations, ROUNDING)
        close(c.boltzmann_law(w), hebbian.gibbs_law(w, None, 1.0), ROUNDING)


def test_correlations_are_the_derivative_of_log_z_and_large_couplings_stay_finite():
    w = couplings(5, 0.6, 2).requires_grad_()
    log_z, correlations = c.boltzmann_exact(w)
    (slope,) = torch.autograd.grad(log_z, w)
    # Each of w_ij and w_ji carries half of the derivative by both.
    close(c.pair_values(slope + slope.T), c.pair_values(correlations.detach()), ROUNDING)
    frozen = c.boltzmann_exact(ring(6, 1e4))
    assert float(frozen.log_z) == pytest.approx(6e4 + math.log(2), abs=1e-9)
    close(frozen.correlations, torch.ones(6, 6, dtype=torch.float64), 1e-15)


def test_a_field_is_the_coupling_to_a_ghost_spin():
    w, h = couplings(4, 0.6, 3), torch.tensor([0.3, -0.5, 0.1, 0.8], dtype=torch.float64)
    exact = hebbian.gibbs(w, h, 1.0)
    ghost = torch.zeros(5, 5, dtype=torch.float64)
    ghost[:4, :4], ghost[4, :4], ghost[:4, 4] = w, h, h
    log_z, correlations = c.boltzmann_exact(ghost)
    assert float(log_z) - math.log(2) == pytest.approx(exact.log_z, abs=ROUNDING)
    close(correlations[4, :4], exact.mean, ROUNDING)
    close(correlations[:4, :4], exact.correlations, ROUNDING)


def test_the_gradients_of_both_divergences_are_those_of_finite_differences():
    w, p = couplings(5, 0.5, 4), random_law(5, 4)  # MUR-13
    for reverse in (False, True):
        exact = c.relative_entropy(p, w, reverse)
        q = c.boltzmann_law(w)
        a, b = (q, p) if reverse else (p, q)
        assert float(exact.value) == pytest.approx(float((a * (a / b).log()).sum()), abs=ROUNDING)
        # Central differences: step² = 1e-10, rounding 1e-16/1e-5.
        close(exact.gradient, slopes(lambda v, r=reverse: float(c.relative_entropy(p, v, r).value), w), 1e-9)
    forward, backward = c.relative_entropy(p, w).gradient, c.relative_entropy(p, w, True).gradient
    printed = -forward  # ⟨ss⟩_P − ⟨ss⟩_Q, which the notes give for the gradient of KL(Q ‖ P)
    assert float((printed - backward).abs().max()) > 0.5
    close(
        forward,
        hebbian.gibbs(w, None, 1.0).correlations - c.pair_correlations(hebbian.all_states(5), p),
        ROUNDING,
    )


def test_the_contrastive_rule_with_negatives_from_the_model_is_the_gradient_of_the_likelihood_on_average():
    w, data = couplings(4, 0.5, 5), c.sample_ising(couplings(4, 0.8, 6), 50, generator=seeded(1))
    negatives = c.sample_ising(w, 40000, generator=seeded(2))
    rule = c.pair_correlations(data) - c.pair_correlations(negatives)

    def nll(v):
        return float(c.boltzmann_exact(v).log_z - ((data.double() @ v) * data).sum(1).mean() / 2)

    # Each negative correlation has the standard error sqrt(1 − c²)/200; LEC-08.
    error = (1 - c.boltzmann_exact(w).correlations ** 2).sqrt() / 200
    off = ~torch.eye(4, dtype=torch.bool)
    assert float(((rule + slopes(nll, w)) / error)[off].abs().max()) < 4.5


def test_the_energy_of_the_data_falls_without_end_and_the_model_collapses():
    p = four_spin_law(5)
    states = hebbian.all_states(5)
    hebb = c.pair_correlations(states, p).fill_diagonal_(0)
    t = torch.tensor([0.0, 0.1, 0.5, 5.0, 200.0, 201.0], dtype=torch.float64)
    path = c.hebbian_descent(p, t)
    for k, time in enumerate(t):
        assert float(path.divergence[k]) == pytest.approx(
            float(c.relative_entropy(p, time * hebb).value), abs=1e-10
        )
        assert float(path.energy[k]) == pytest.approx(
            float(p @ hebbian.energy(states, time * hebb)), abs=1e-10
        )
    assert float(path.divergence.argmin()) == 2
    # At t = 200 what is not a ground state weighs e^{−200 gap}, and the last step has the final slope.
    assert float(path.divergence[5] - path.divergence[4]) == pytest.approx(path.slope, abs=1e-9)
    ground = hebbian.energy(states, hebb)
    law = c.boltzmann_law(200 * hebb)
    assert float(law[ground <= ground.min() + 1e-12].sum()) == pytest.approx(1, abs=1e-9)
    assert path.slope == pytest.approx(2.366931842823389, abs=1e-12)  # CON-01


# ------------------------------------------------------------------------------------------------- contrastive divergence


def site_matrix(w, i):
    """T_i on laws as row vectors, from the ratio of two Gibbs weights."""
    n, q = len(w), hebbian.gibbs_law(w, None, 1.0)
    m, rows = torch.zeros(2**n, 2**n, dtype=torch.float64), torch.arange(2**n)
    other = turned(n, i)
    m[rows, rows], m[rows, other] = q / (q + q[other]), q[other] / (q + q[other])
    return m


def test_updates_of_a_law_are_products_of_transition_matrices():
    w, p = couplings(4, 0.7, 7), random_law(4, 7)
    single = hebbian.transition_matrix(w, None, 1.0)
    close(single, sum(site_matrix(w, i) for i in range(4)) / 4, ROUNDING)
    for k in (1, 3, 10):
        close(c.after_updates(p, w, k), p @ torch.linalg.matrix_power(single, k), ROUNDING)
    swept = p
    for i in (0, 1, 2, 3, 0, 1):
        swept = swept @ site_matrix(w, i)
    close(c.after_updates(p, w, 6, "sweep"), swept, ROUNDING)
    close(c.after_updates(p, w), p @ torch.linalg.matrix_power(single, 4), ROUNDING)
    close(c.after_updates(p, w, INF), hebbian.gibbs_law(w, None, 1.0), ROUNDING)


@pytest.mark.parametrize("order", ["random", "sweep"])
@pytest.mark.parametrize("n", [2, 4, 5, 6])
def test_the_mean_update_vanishes_at_the_truth(n, order):
    w = couplings(n, 0.6, n)
    for k in (1, n, 3 * n):  # LEC-08
        assert float(c.expected_update(c.boltzmann_law(w), w, k, order).abs().max()) < 1e-15 * k + 1e-15


def log_pseudolikelihood(p, w):
    """Σ_i E log Q(s_i | the others), from the ratios of Gibbs weights."""
    q = hebbian.gibbs_law(w, None, 1.0)
    return sum(p @ (q / (q + q[turned(len(w), i)])).log() for i in range(len(w)))


def test_one_random_update_is_the_gradient_of_the_pseudolikelihood_over_n():
    w, p = couplings(5, 0.6, 8), random_law(5, 8)  # CON-02
    close(c.expected_update(p, w, 1), slopes(lambda v: float(log_pseudolikelihood(p, v)), w) / 5, 1e-9)
    # … so that contrastive divergence of one update stops where maximum pseudolikelihood does.
    fit = c.fit_ising(hebbian.all_states(5), "pseudolikelihood", counts=p)
    close(c.contrastive_fixed_point(p, 1), fit.couplings, 1e-10)


@pytest.mark.parametrize("law", [four_spin_law(4), random_law(4, 1), random_law(3, 2), random_law(2, 3)])
def test_four_spins_have_no_bias_whatever_the_data(law):
    best = c.contrastive_fixed_point(law, INF)
    n = len(best)
    close(
        c.pair_correlations(hebbian.all_states(n), law), hebbian.gibbs(best, None, 1.0).correlations, ROUNDING
    )
    for k, order in ((1, "random"), (n, "random"), (1, "sweep"), (n, "sweep"), (3 * n, "sweep")):
        assert float(c.expected_update(law, best, k, order).abs().max()) < 1e-14
        if (k, order) != (1, "sweep"):  # which updates one site only, and leaves other pairs undecided
            close(c.contrastive_fixed_point(law, k, order), best, 1e-10)
    for method in ("pseudolikelihood", "likelihood"):  # CON-03
        close(c.fit_ising(hebbian.all_states(n), method, counts=law).couplings, best, 1e-10)


def test_three_spins_in_fields_have_no_bias_and_four_have():
    for n, biased in ((3, False), (4, True)):
        p = random_law(n, 5)
        # The ghost spin: states with s_n = −1 are impossible.
        law = torch.cat([torch.zeros_like(p), p])
        best = c.contrastive_fixed_point(law, INF)
        size = float(c.expected_update(law, best, n + 1).abs().max())
        assert size > 1e-5 if biased else size < 1e-14


def test_five_spins_have_the_bias_of_the_claim():
    p = four_spin_law(5)  # LEC-08
    best = c.contrastive_fixed_point(p, INF)
    assert float(c.relative_entropy(p, best).gradient.abs().max()) < 1e-14
    for k, order, shift in (
        (1, "random", 0.027724379),
        (5, "random", 0.002617018),
        (5, "sweep", 0.013733962),
        (10, "random", 0.000316743),
    ):
        found = c.contrastive_fixed_point(p, k, order)
        assert float(c.expected_update(p, found, k, order).abs().max()) < 1e-11
        assert float((found - best).abs().max()) == pytest.approx(shift, abs=5.1e-10)


def test_what_the_likelihood_leaves_at_four_spins_is_one_product_and_no_update_keeps_it():
    p = four_spin_law(4)
    states = hebbian.all_states(4)
    rest = p - c.boltzmann_law(c.contrastive_fixed_point(p, INF))
    product = states.prod(1)
    close(rest, (rest @ product) / 16 * product, 1e-14)
    w = couplings(4, 0.9, 9)
    for i in range(4):
        assert float((rest @ site_matrix(w, i)).abs().max()) < 1e-15


def test_the_bias_falls_by_the_slowest_even_mode_per_update():
    p = four_spin_law(5)
    best = c.contrastive_fixed_point(p, INF)
    values, vectors = torch.linalg.eig(hebbian.transition_matrix(best, None, 1.0))
    flip = torch.arange(31, -1, -1)
    even = (vectors - vectors[flip]).abs().amax(0) < 1e-8
    expected = values.real[even].sort().values[-2]
    assert c.slowest_mode(best) == pytest.approx(float(expected), abs=1e-12)
    bias = [c.expected_update(p, best, k).norm() for k in (150, 151)]
    # At k = 150 the next mode has (0.907/0.915)^150 … of its share; the bias itself is 1e-9 and known to 1e-17.
    assert float(bias[1] / bias[0]) == pytest.approx(c.slowest_mode(best), abs=1e-6)  # CON-04


def test_persistent_chains_end_at_maximum_likelihood_and_others_do_not():
    p = four_spin_law(5)
    best = c.contrastive_fixed_point(p, INF)
    for order in ("random", "sweep"):
        words = {"steps": 600, "rate": 0.5, "updates": 5, "order": order}
        path = c.expected_learning(p, persistent=True, **words)
        assert path.shape == (601, 5, 5) and not bool(path[0].any())
        # The slowest direction shrinks by 1 − rate · 0.08 a step: e^{−24}.
        close(path[-1], best, 1e-8)  # CON-05
        stopped = c.expected_learning(p, start=best, **words)[-1]
        close(stopped, c.contrastive_fixed_point(p, 5, order), 1e-8)
        assert float((stopped - best).abs().max()) > 2e-3
    exact = c.expected_learning(p, steps=700, rate=0.5, updates=INF)
    values = torch.stack([c.relative_entropy(p, w).value for w in exact])
    assert bool((values.diff() < 1e-15).all())
    close(exact[-1], best, 1e-7)


def test_one_estimate_has_the_mean_update_and_the_chains_go_on_from_where_they_are():
    w, truth = couplings(5, 0.7, 10), couplings(5, 0.7, 11)
    data = c.sample_ising(truth, 4000, generator=seeded(3))
    law = torch.zeros(32, dtype=torch.float64)
    rows = ((data + 1) // 2).long() @ (1 << torch.arange(5))
    law.index_add_(0, rows, torch.full((4000,), 1 / 4000, dtype=torch.float64))
    generator = seeded(4)
    draws = torch.stack(
        [c.contrastive_divergence(data, w, updates=3, generator=generator).update for _ in range(200)]
    )
    error = draws.std(0) / math.sqrt(200) + 1e-12
    off = ~torch.eye(5, dtype=torch.bool)
    assert float(((draws.mean(0) - c.expected_update(law, w, 3)) / error)[off].abs().max()) < 4.5
    one = c.contrastive_divergence(data, w, generator=seeded(5))
    close(one.update, c.pair_correlations(data) - c.pair_correlations(one.chains), ROUNDING)
    chains = one.chains[:7]
    two = c.contrastive_divergence(data, w, updates=1, chains=chains, generator=seeded(6))
    assert two.chains.shape == (7, 5) and int((two.chains != chains).sum(1).max()) <= 1


def test_chains_from_the_data_go_to_the_pseudolikelihood_and_persistent_ones_to_the_likelihood():
    states, p = hebbian.all_states(5), four_spin_law(5)
    data = states[torch.multinomial(p, 4000, replacement=True, generator=seeded(7))]
    ends = [c.fit_ising(data, method).couplings for method in ("likelihood", "pseudolikelihood")]
    way = ends[1] - ends[0]
    for persistent, rate, updates in ((False, 1.5, 1), (True, 0.3, 5)):
        path = c.train_ising(
            data,
            steps=250,
            rate=rate,
            updates=updates,
            persistent=persistent,
            start=ends[int(persistent)],  # each begins at the end of the other
            generator=seeded(8),
        )
        assert path.shape == (251, 5, 5)
        # The mean of 150 steps of 4000 chains: couplings known to √(N/(4000 · 150)) = 0.003 or so, along a way of 0.056.
        along = float((way * (path[101:].mean(0) - ends[0])).sum() / (way**2).sum())
        assert abs(along - (not persistent)) < 0.4


# ------------------------------------------------------------------------------------------------- couplings from samples


def test_exact_draws_have_the_law_and_chains_come_to_it():
    w = couplings(4, 0.6, 12)
    for sweeps in (None, 30):
        s = c.sample_ising(w, 20000, sweeps=sweeps, generator=seeded(9))
        assert s.dtype == torch.int8
        counts = torch.bincount(((s + 1) // 2).long() @ (1 << torch.arange(4)), minlength=16)
        expected = hebbian.gibbs_law(w, None, 1.0) * 20000
        # χ² with 15 degrees of freedom: beyond 44.3 with probability 1e-4. 30 sweeps are 20 times 1/(1 − λ).
        assert float(((counts - expected) ** 2 / expected).sum()) < 44.3


@pytest.mark.parametrize("method", c.METHODS)
def test_infinitely_many_samples_give_back_the_couplings(method):
    w = couplings(6, 0.5, 13)
    fit = c.fit_ising(hebbian.all_states(6), method, counts=c.boltzmann_law(w))
    close(fit.couplings, w, 1e-10)
    exact = c.asymptotic_covariance(w, method).diagonal().sqrt()
    close(c.pair_values(fit.errors), exact, 1e-6 * float(exact.max()))


def test_the_fit_is_a_stationary_point_of_what_it_minimises():
    p, w = random_law(5, 14), couplings(5, 0.5, 14)

    def ratio(
        v,
    ):  # Hyvärinen (2007): E_P Σ_i [(g(P/P̄) − g(Q/Q̄))² + (g(P̄/P) − g(Q̄/Q))²], g(u) = 1/(1 + u)
        q, total = hebbian.gibbs_law(v, None, 1.0), 0.0
        for i in range(5):
            q_i, p_i = q[turned(5, i)], p[turned(5, i)]
            total += p @ ((p_i / (p + p_i) - q_i / (q + q_i)) ** 2 + (p / (p + p_i) - q / (q + q_i)) ** 2)
        return float(total)

    for method, f in (
        ("likelihood", lambda v: float(c.relative_entropy(p, v).value)),
        ("pseudolikelihood", lambda v: -float(log_pseudolikelihood(p, v))),
        ("ratio", ratio),
    ):
        fit = c.fit_ising(hebbian.all_states(5), method, counts=p)
        assert float(slopes(f, fit.couplings).abs().max()) < 1e-9
        assert all(f(fit.couplings) <= f(fit.couplings + 0.1 * couplings(5, 1, k)) for k in range(5))
    assert float(slopes(ratio, w).abs().max()) > 1e-3


def pseudo_hessian_and_covariance(p, w):
    """Of the pseudolikelihood, by automatic differentiation of its definition."""
    n = len(w)
    s = hebbian.all_states(n)

    def terms(x):
        v = torch.zeros(n, n, dtype=torch.float64)
        i, j = c.pairs(n)
        v = v.index_put((i, j), x)
        phi = s @ (v + v.T)
        return torch.nn.functional.softplus(-2 * s * phi).sum(1)

    x = c.pair_values(w)
    hessian = torch.autograd.functional.hessian(lambda y: p @ terms(y), x)
    g = torch.autograd.functional.jacobian(terms, x)
    mean = p @ g
    return hessian, (g * p[:, None]).T @ g - torch.outer(mean, mean)


def test_error_bars_are_the_sandwich_for_data_that_no_machine_makes():
    p = random_law(4, 15)
    fit = c.fit_ising(hebbian.all_states(4), "pseudolikelihood", counts=300 * p)
    h, v = pseudo_hessian_and_covariance(p, fit.couplings)
    inverse = torch.linalg.inv(h)
    close(c.pair_values(fit.errors), (inverse @ v @ inverse / 300).diagonal().sqrt(), 1e-8)
    fit = c.fit_ising(hebbian.all_states(4), "likelihood", counts=300 * p)
    f = c.pair_values(hebbian.all_states(4)[:, :, None] * hebbian.all_states(4)[:, None, :])
    h = torch.cov(f.T, correction=0, aweights=hebbian.gibbs_law(fit.couplings, None, 1.0))
    inverse = torch.linalg.inv(h)
    v = torch.cov(f.T, correction=0, aweights=p)
    close(c.pair_values(fit.errors), (inverse @ v @ inverse / 300).diagonal().sqrt(), 1e-8)


def test_fisher_information_is_the_hessian_of_log_z():
    w = couplings(5, 0.6, 16)
    information = c.fisher_information(w)
    for k, (i, j) in enumerate(c.pairs(5).T.tolist()):
        column = slopes(lambda v, i=i, j=j: float(c.boltzmann_exact(v).correlations[i, j]), w)
        close(information[k], c.pair_values(column), 1e-9)


def test_the_likelihood_reaches_the_bound_of_cramer_and_rao():
    w, n, runs = couplings(5, 0.4, 17), 2000, 60
    information, states = c.fisher_information(w), hebbian.all_states(5)
    generator, law = seeded(18), c.boltzmann_law(w)
    square, scaled = [], []
    for _ in range(runs):
        rows = torch.multinomial(law, n, replacement=True, generator=generator)
        fit = c.fit_ising(states, counts=torch.bincount(rows, minlength=32).double())
        off = c.pair_values(fit.couplings - w)
        square.append(float(n * off @ information @ off))
        scaled.append(c.pair_values(fit.errors) ** 2 * n / torch.linalg.inv(information).diagonal())
    # CON-07: n δᵀIδ is χ² with 10 degrees of freedom, mean 10 and standard deviation √20 (1 ± O(1/n) left aside).
    assert abs(np.mean(square) - 10) < 4.5 * math.sqrt(20 / runs) + 0.1
    assert stats.kstest(square, stats.chi2(10).cdf).pvalue > 1e-4
    # The stated errors squared scatter by some √(20/n) about the bound.
    assert float((torch.stack(scaled).mean(0) - 1).abs().max()) < 0.05


@pytest.mark.parametrize(
    "w",
    [
        couplings(4, 0.7, 19),
        ring(6, 0.9),
        torch.diag(torch.tensor([0.4, -1.2, 0.8, 0.1], dtype=torch.float64), 1)
        + torch.diag(torch.tensor([0.4, -1.2, 0.8, 0.1], dtype=torch.float64), -1),
    ],
    ids=["four spins", "ring", "chain"],
)
def test_with_two_neighbours_or_four_spins_the_pseudolikelihood_reaches_the_bound(w):
    bound = torch.linalg.inv(c.fisher_information(w))  # CON-08
    for method, k in (("pseudolikelihood", None), ("contrastive", 1), ("contrastive", 7)):
        cost = c.asymptotic_covariance(w, method, updates=k)
        close(cost, bound, 1e-11 * float(bound.abs().max()))


def test_on_a_square_of_nine_spins_the_methods_cost_what_is_claimed():
    w = lattice(3, 0.6, periodic=False)
    bound = torch.linalg.inv(c.fisher_information(w))
    close(c.asymptotic_covariance(w, "likelihood"), bound, 1e-10)
    cost = {m: float(c.asymptotic_covariance(w, m).trace() / bound.trace()) for m in c.METHODS}
    assert cost["pseudolikelihood"] == pytest.approx(1.00986056, abs=5.1e-9)  # CON-08
    assert cost["ratio"] == pytest.approx(1.1004721, abs=5.1e-8)  # CON-10
    for method in c.METHODS:  # no unbiased estimate is better in any direction
        excess = c.asymptotic_covariance(w, method) - bound
        assert float(torch.linalg.eigvalsh(excess)[0]) > -1e-9


def test_contrastive_divergence_goes_from_the_pseudolikelihood_to_the_likelihood():
    w = lattice(3, 0.6, periodic=False)
    bound = torch.linalg.inv(c.fisher_information(w))
    one = c.asymptotic_covariance(w, "contrastive", updates=1)
    close(one, c.asymptotic_covariance(w, "pseudolikelihood"), 1e-9)  # CON-06
    traces = [
        float(c.asymptotic_covariance(w, "contrastive", updates=k).trace()) for k in (1, 2, 4, 9, 30, 90)
    ]
    assert all(a > b - 1e-9 for a, b in itertools.pairwise(traces))
    assert traces[3] / float(bound.trace()) == pytest.approx(1.00038818, abs=5.1e-9)
    close(c.asymptotic_covariance(w, "contrastive", updates=400), bound, 1e-6)


def test_the_variance_of_contrastive_divergence_is_that_of_its_estimating_equation():
    """H by finite differences of the mean update, V by the transition matrix: no formula for either."""
    w, k = couplings(5, 0.8, 20), 2
    q, states = c.boltzmann_law(w), hebbian.all_states(5)
    h = -torch.stack(
        [
            c.pair_values(slopes(lambda v, i=i, j=j: float(c.expected_update(q, v, k)[i, j]), w))
            for i, j in c.pairs(5).T.tolist()
        ]
    )
    f = c.pair_values(states[:, :, None] * states[:, None, :])
    g = f - torch.linalg.matrix_power(hebbian.transition_matrix(w, None, 1.0), k) @ f
    inverse = torch.linalg.inv(h)
    direct = inverse @ torch.cov(g.T, correction=0, aweights=q) @ inverse.T
    exact = c.asymptotic_covariance(w, "contrastive", updates=k)
    close(exact, direct, 1e-7 * float(exact.abs().max()))


def test_a_lattice_of_36_spins_is_recovered_with_honest_error_bars():
    truth = lattice(6, 0.3, periodic=True)
    s = c.sample_ising(truth, 5000, sweeps=40, generator=seeded(21))
    fit = c.fit_ising(s)
    z = c.pair_values(fit.couplings - truth) / c.pair_values(fit.errors)
    bonds = c.pair_values(truth) > 0
    found = c.pair_values(fit.couplings)
    # CON-09. The bonds are 0.3 with errors of 0.02, the others 0; 630 values of z² of mean 1, their scatter
    # √(2/630) = 0.06, larger by neighbours that share their noise.
    assert float(found[bonds].min()) > 0.2 and float(found[~bonds].abs().max()) < 0.1
    assert abs(float((z**2).mean()) - 1) < 0.3
    assert abs(float(z.mean())) < 4.5 / math.sqrt(630) * 1.5
    assert stats.kstest(z.numpy(), "norm").pvalue > 1e-4


def test_a_column_of_ones_fits_fields():
    w, h = couplings(3, 0.5, 22), torch.tensor([0.4, -0.3, 0.2], dtype=torch.float64)
    law, states = hebbian.gibbs_law(w, h, 1.0), hebbian.all_states(3)
    with_ghost = torch.cat([states, torch.ones(8, 1)], 1)
    for method in c.METHODS:
        fit = c.fit_ising(with_ghost, method, counts=law)
        close(fit.couplings[:3, :3], w, 1e-9)
        close(fit.couplings[3, :3], h, 1e-9)


def test_samples_that_fix_no_couplings_are_refused():
    s = c.sample_ising(couplings(4, 0.4, 23), 200, generator=seeded(24))
    s[:, 1] = s[:, 0]
    for method in c.METHODS:
        with pytest.raises(ValueError, match="samples"):
            c.fit_ising(s, method)
    with pytest.raises(ValueError, match="samples"):
        c.fit_ising(torch.ones(5, 3))


# ------------------------------------------------------------------------------------------------- noise


def test_noise_contrast_is_logistic_regression():
    w = couplings(4, 0.5, 25)
    data, noise = (
        c.sample_ising(w, 1500, generator=seeded(26)),
        c.sample_ising(0 * w, 4000, generator=seeded(27)),
    )
    fit = c.noise_contrastive(data, noise)
    both = torch.cat([data, noise]).double()
    f = c.pair_values(both[:, :, None] * both[:, None, :]).numpy()
    peer = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(f, np.arange(5500) < 1500)
    close(c.pair_values(fit.couplings), torch.from_numpy(peer.coef_[0]), 1e-6)
    # The intercept is −log Z − log p_noise − log ν.
    assert fit.log_z == pytest.approx(-peer.intercept_[0] + 4 * math.log(2) - math.log(4000 / 1500), abs=1e-6)


def repeated(law, total):
    """Every state as often as the law says, to whole numbers."""
    return hebbian.all_states(len(law).bit_length() - 1).repeat_interleave((law * total).round().long(), 0)


@pytest.mark.parametrize("ratio", [1, 3])
def test_noise_contrast_finds_the_couplings_and_log_z_of_infinitely_many_samples(ratio):
    w = torch.tensor([[0, 0.5, 0], [0.5, 0, -0.4], [0, -0.4, 0]], dtype=torch.float64)
    noise_w = torch.tensor([[0, 0.2, 0], [0.2, 0, 0.3], [0, 0.3, 0]], dtype=torch.float64)
    log_z = float(c.boltzmann_exact(noise_w).log_z)

    def log_noise(s):
        return ((s @ noise_w) * s).sum(1) / 2 - log_z

    data = repeated(c.boltzmann_law(w), 2 * 10**4)
    noise = repeated(c.boltzmann_law(noise_w), ratio * 2 * 10**4)
    fit = c.noise_contrastive(data, noise, log_noise)
    # CON-11a. Whole numbers of 1000 and more move the frequencies by 5e-4 of themselves.
    close(fit.couplings, w, 1e-3)
    assert fit.log_z == pytest.approx(float(c.boltzmann_exact(w).log_z), abs=1e-3)
    # CON-11b. What the noise is multiplied with comes out in log Z, to the digit.
    nu = len(noise) / len(data)
    without = c.noise_contrastive(data, noise, lambda s: log_noise(s) - math.log(nu))
    close(without.couplings, fit.couplings, 1e-9)
    assert without.log_z - fit.log_z == pytest.approx(math.log(nu), abs=1e-9)


def test_the_cost_of_noise_contrast_is_the_sandwich_of_its_loss():
    w, ratio = couplings(4, 0.6, 28), 2.5

    def noise(s):  # one bond of 0.7
        return 0.7 * s[:, 0] * s[:, 1] - math.log(16 * math.cosh(0.7))

    states, q = hebbian.all_states(4), c.boltzmann_law(w)
    p_n = noise(states).exp()
    assert float(p_n.sum()) == pytest.approx(1, abs=ROUNDING)
    f = c.pair_values(states[:, :, None] * states[:, None, :])
    rows = torch.cat([f, -torch.ones(16, 1, dtype=torch.float64)], 1)
    truth = torch.cat([c.pair_values(w), c.boltzmann_exact(w).log_z[None]])

    def odds(x):
        return rows @ x - noise(states) - math.log(ratio)

    softplus = torch.nn.functional.softplus

    def loss(x):
        return q @ softplus(-odds(x)) + ratio * p_n @ softplus(odds(x))

    close(torch.autograd.functional.jacobian(loss, truth), torch.zeros(7, dtype=torch.float64), ROUNDING)
    h = torch.linalg.inv(torch.autograd.functional.hessian(loss, truth))
    g_data = torch.autograd.functional.jacobian(lambda x: softplus(-odds(x)), truth)
    g_noise = torch.autograd.functional.jacobian(lambda x: softplus(odds(x)), truth)
    v = torch.cov(g_data.T, correction=0, aweights=q) + ratio * torch.cov(
        g_noise.T, correction=0, aweights=p_n
    )
    close(c.noise_covariance(w, ratio, noise), h @ v @ h, 1e-9)  # CON-12


def test_noise_like_the_data_costs_one_plus_one_over_nu_and_is_not_the_best():
    w = ring(6, 1.0)
    bound, log_z = torch.linalg.inv(c.fisher_information(w)), c.boltzmann_exact(w).log_z

    def own(s):
        return ((s @ w) * s).sum(1) / 2 - log_z

    for ratio in (0.5, 1.0, 8.0):  # CON-12
        cost = c.noise_covariance(w, ratio, own)
        close(cost[:-1, :-1], (1 + 1 / ratio) * bound, 1e-10 * float(bound.abs().max()))
    fair = c.noise_covariance(w, 1.0)[:-1, :-1]
    assert float(fair.trace() / bound.trace()) == pytest.approx(1.38469939, abs=5.1e-9)  # CON-13
    assert float(c.noise_covariance(w, 1e6)[:-1, :-1].trace() / bound.trace()) == pytest.approx(1, abs=1e-5)


def test_stated_errors_of_noise_contrast_are_those_of_repeated_fits():
    w, n = couplings(4, 0.5, 29), 1500
    exact, truth = c.noise_covariance(w, 2.0), float(c.boltzmann_exact(w).log_z)
    inverse, generator, square = torch.linalg.inv(exact), seeded(30), []
    for _ in range(60):
        data = c.sample_ising(w, n, generator=generator)
        fit = c.noise_contrastive(data, c.sample_ising(0 * w, 2 * n, generator=generator))
        off = torch.cat([c.pair_values(fit.couplings - w), torch.tensor([fit.log_z - truth]).double()])
        square.append(float(n * off @ inverse @ off))
    stated = torch.cat([c.pair_values(fit.errors), torch.tensor([fit.log_z_error]).double()])
    close(stated * math.sqrt(n) / exact.diagonal().sqrt(), torch.ones(7, dtype=torch.float64), 0.15)
    assert abs(np.mean(square) - 7) < 4.5 * math.sqrt(14 / 60) + 0.1  # χ² with 7 degrees of freedom


# ------------------------------------------------------------------------------------------------- hidden spins


def joint_law(weights):
    """exp(hᵀWv)/Z on (h, v), by brute force."""
    exponent = hebbian.all_states(len(weights)) @ weights @ hebbian.all_states(weights.shape[1]).T
    return torch.softmax(exponent.flatten(), 0).view(exponent.shape), torch.logsumexp(exponent.flatten(), 0)


def test_a_machine_with_hidden_spins_is_the_marginal_of_the_joint_law():
    weights = torch.randn(3, 4, generator=seeded(31), dtype=torch.float64)
    joint, log_z = joint_law(weights)
    exact = c.rbm_exact(weights)
    close(exact.law, joint.sum(0), ROUNDING)
    assert float(exact.log_z) == pytest.approx(float(log_z), abs=ROUNDING)
    # One hidden spin links two visible ones with tanh w_1 tanh w_2.
    pair = c.pair_correlations(
        hebbian.all_states(2), c.rbm_exact(torch.tensor([[0.7, 1.1]], dtype=torch.float64)).law
    )
    assert float(pair[0, 1]) == pytest.approx(math.tanh(0.7) * math.tanh(1.1), abs=ROUNDING)


def test_the_gradient_with_hidden_spins_is_clamped_minus_free_and_the_clamped_phase_is_the_e_step():
    weights, p = torch.randn(2, 4, generator=seeded(32), dtype=torch.float64), random_law(4, 32)
    phases = c.rbm_phases(weights, p)  # MUR-12
    moved = weights.clone().requires_grad_()
    loss = (p * (p.log() - c.rbm_exact(moved).law.log())).sum()
    (slope,) = torch.autograd.grad(loss, moved)
    close(phases.clamped - phases.free, -slope, ROUNDING)
    joint, _ = joint_law(weights)
    posterior = joint / joint.sum(0)  # Q(h | v): the E step
    h, v = hebbian.all_states(2), hebbian.all_states(4)
    close(phases.clamped, h.T @ (posterior * p) @ v, ROUNDING)
    close(phases.free, h.T @ joint @ v, ROUNDING)


def test_rounds_of_block_updates_are_products_of_the_conditionals():
    weights, p = torch.randn(2, 3, generator=seeded(33), dtype=torch.float64), random_law(3, 33)
    joint, _ = joint_law(weights)
    down, up = (joint / joint.sum(0)).T, joint / joint.sum(1, keepdim=True)
    h, v = hebbian.all_states(2), hebbian.all_states(3)
    for k in (1, 4):
        law = p @ torch.linalg.matrix_power(down @ up, k)
        direct = h.T @ (joint / joint.sum(0) * (p - law)) @ v
        close(c.rbm_expected_update(weights, p, k), direct, ROUNDING)
    phases = c.rbm_phases(weights, p)
    close(c.rbm_expected_update(weights, p, INF), phases.clamped - phases.free, ROUNDING)
    close(c.rbm_expected_update(weights, p, 400), phases.clamped - phases.free, 1e-10)
    assert float(c.rbm_expected_update(weights, c.rbm_exact(weights).law, 3).abs().max()) < ROUNDING


def test_one_hidden_spin_has_no_bias_and_two_have():
    p = random_law(4, 34)  # CON-14
    for m, biased in ((1, False), (2, True)):
        weights = torch.randn(m, 4, generator=seeded(37), dtype=torch.float64)
        gap = float(
            (c.rbm_expected_update(weights, p, 1) - c.rbm_expected_update(weights, p, INF)).abs().max()
        )
        assert gap > 0.01 if biased else gap < ROUNDING


def test_small_weights_grow_along_the_principal_directions_at_the_rate_of_their_eigenvalue_less_one():
    p = four_spin_law(5)
    correlations = c.pair_correlations(hebbian.all_states(5), p)
    values, vectors = torch.linalg.eigh(correlations)
    for value, u in zip(values, vectors.T, strict=True):  # CON-15
        weights = 1e-4 * torch.outer(torch.tensor([1.0, -2.0]).double(), u)
        # Cubic terms are 1e-8 of the linear one.
        close(c.rbm_expected_update(weights, p, INF), (value - 1) * weights, 2e-11)
    assert not bool(c.rbm_expected_update(torch.zeros(2, 5).double(), p, INF).any())


# ------------------------------------------------------------------------------------------------- scores


def double_well(x):
    return 0.3 * x**4 / 4 - 0.5 * x**2 / 2


def well_features(x):
    return torch.stack([x[:, 0] ** 2 / 2, x[:, 0] ** 4 / 4], 1)


def well_nodes():
    """The law e^{−U}/Z on a grid that ends where it is e^{−88}: sums are exact to rounding."""
    x = torch.linspace(-6, 6, 1201, dtype=torch.float64)[:, None]
    return x, torch.exp(-double_well(x[:, 0]))


def test_explicit_score_matching_is_implicit_plus_the_constant():
    x, weights = well_nodes()
    for score in (lambda y: -y, lambda y: torch.sin(3 * y), lambda y: -(y**3) + 0.2):  # CON-16
        losses = c.score_matching_losses(x, score, lambda y: -0.3 * y**3 + 0.5 * y, weights)
        assert float(losses.explicit) == pytest.approx(float(losses.implicit + losses.constant), abs=1e-10)
    # By SciPy's quadrature, for one of them.
    z = integrate.quad(lambda y: math.exp(-double_well(y)), -8, 8, epsabs=1e-13)[0]
    direct = integrate.quad(
        lambda y: (math.sin(3 * y) ** 2 + 6 * math.cos(3 * y)) * math.exp(-double_well(y)) / z, -8, 8
    )[0]
    implicit = c.implicit_score_matching(x, lambda y: torch.sin(3 * y), weights)
    assert float(implicit.detach()) == pytest.approx(direct, abs=1e-9)


def test_in_two_dimensions_the_divergence_is_the_trace_of_the_jacobian():
    x = torch.randn(7, 2, generator=seeded(36), dtype=torch.float64)
    m = torch.tensor([[1.0, 2.0], [-3.0, 0.5]], dtype=torch.float64)
    value = c.implicit_score_matching(x, lambda y: y @ m.T)
    assert float(value.detach()) == pytest.approx(float(((x @ m.T) ** 2).sum(1).mean() + 3.0), abs=ROUNDING)
    theta = torch.tensor(1.5, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(c.implicit_score_matching(x, lambda y: -theta * y), theta)
    assert float(slope) == pytest.approx(float(3.0 * (x**2).sum(1).mean() - 4.0), abs=1e-12)


def test_score_matching_fits_a_gaussian_as_maximum_likelihood_does():
    x = (
        torch.randn(400, 2, generator=seeded(37), dtype=torch.float64)
        @ torch.tensor([[1.0, 0.5], [0, 2]]).double()
    )
    x = x + torch.tensor([1.0, -2.0])

    def features(y):
        return torch.stack([y[:, 0], y[:, 1], y[:, 0] ** 2 / 2, y[:, 1] ** 2 / 2, y[:, 0] * y[:, 1]], 1)

    fit = c.score_matching_fit(x, features)
    k = torch.linalg.inv(torch.cov(x.T, correction=0))
    expected = torch.cat([-k @ x.mean(0), torch.stack([k[0, 0], k[1, 1], k[0, 1]])])
    close(fit.theta, expected, 1e-11)  # CON-17
    # In one dimension K = 1/s², and Var K̂ = 2K²/n.
    one = c.score_matching_fit(x[:, :1] - x[:, :1].mean(), lambda y: y**2 / 2)
    kurtosis = float((x[:, 0] - x[:, 0].mean()).pow(4).mean() / x[:, 0].var(correction=0) ** 2)
    assert float(one.errors[0] / one.theta[0]) == pytest.approx(math.sqrt((kurtosis - 1) / 400), abs=1e-12)


def test_score_matching_recovers_a_double_well_without_its_normaliser():
    x, weights = well_nodes()
    a, b = c.score_matching_equations(x, well_features, weights)
    close(torch.linalg.solve(a, b), torch.tensor([-0.5, 0.3], dtype=torch.float64), 1e-10)  # CON-18
    generator, square = seeded(38), []
    for _ in range(80):
        s = x[torch.multinomial(weights, 4000, replacement=True, generator=generator)]
        fit = c.score_matching_fit(s, well_features)
        square.append((((fit.theta - torch.tensor([-0.5, 0.3])) / fit.errors) ** 2).tolist())
    # z² has mean 1 and standard deviation √2; a few hundredths are the O(1/n) of a finite sample.
    assert np.abs(np.mean(square, 0) - 1).max() < 4.5 * math.sqrt(2 / 80) + 0.05


def test_implicit_score_matching_has_no_minimum_on_finitely_many_data():
    data = torch.tensor([[0.0, 0.0], [1.0, 2.0], [-1.0, 0.5]], dtype=torch.float64)
    for width in (0.1, 0.03):  # CON-23

        def score(x, width=width):
            log_p = torch.logsumexp(-((x[:, None] - data) ** 2).sum(-1) / (2 * width**2), 1)
            return torch.autograd.grad(log_p.sum(), x, create_graph=True)[0]

        # −2d/ε², d = 2; neighbours at a distance above 1 weigh e^{−50} and less.
        assert float(c.implicit_score_matching(data, score).detach()) == pytest.approx(
            -4 / width**2, rel=1e-9
        )


def test_denoising_exceeds_explicit_score_matching_by_a_constant_with_the_value_of_the_claim():
    z, weights = (torch.from_numpy(v) for v in np.polynomial.hermite_e.hermegauss(100))
    data = (z * math.sqrt(1.5))[:, None]
    for a in (0.2, 0.5, 0.9):  # LEC-14
        losses = c.denoising_score_matching(data, lambda x, a=a: -a * x, 0.8, weights)
        assert float(losses.denoising - losses.explicit) == pytest.approx(1.09521028, abs=5.1e-9)
        assert float(losses.constant) == pytest.approx(1 / 0.64 - 1 / 2.14, abs=1e-10)
        # Directly: E(−a x̃ + z/σ)² = a² 2.14 − 2a + 1/σ².
        assert float(losses.denoising) == pytest.approx(a**2 * 2.14 - 2 * a + 1 / 0.64, abs=1e-10)


def test_denoising_of_a_few_points_in_two_dimensions_has_the_same_identity():
    data = torch.tensor([[0.0, 0.0], [1.0, 2.0], [-1.0, 0.5]], dtype=torch.float64)
    weights = torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64)
    for score in (lambda x: torch.sin(x), lambda x: -x.flip(1)):
        losses = c.denoising_score_matching(data, score, 0.7, weights, nodes=60)
        # Gauss–Hermite with 60 nodes on a smooth integrand of scale 0.7: 1e-8.
        assert float(losses.denoising) == pytest.approx(float(losses.explicit + losses.constant), abs=1e-7)


def test_one_small_langevin_step_is_score_matching():
    x, weights = well_nodes()
    theta = torch.tensor([0.4, 0.2], dtype=torch.float64)
    a, b = c.score_matching_equations(x, well_features, weights)
    ends = [c.langevin_gradient(x, well_features, theta, e, weights) / e for e in (2e-4, 1e-4)]
    # CON-22. The error is linear in ε: Richardson leaves ε² times numbers of order 100.
    close(2 * ends[1] - ends[0], a @ theta - b, 1e-5)
    # … and half the gradient of the implicit loss.
    t = theta.clone().requires_grad_()
    loss = c.implicit_score_matching(x, lambda y: -t[0] * y - t[1] * y**3, weights)
    close(a @ theta - b, torch.autograd.grad(loss, t)[0] / 2, 1e-11)


def test_score_matching_and_likelihood_disagree_about_separated_modes():
    for m, w in ((0.7, 0.8), (2.0, 0.8), (3.0, 0.3)):

        def densities(x, m=m, w=w):
            up, down = stats.norm.pdf(x, m, 1.1), stats.norm.pdf(x, -m, 1.1)
            return w * up + (1 - w) * down, 0.5 * up + 0.5 * down

        def kl(x):
            p, q = densities(x)
            return p * math.log(p / q)

        def fisher(x, h=1e-4):
            (p1, q1), (p0, q0) = densities(x + h), densities(x - h)
            return densities(x)[0] * (math.log(p1 / q1 * q0 / p0) / (2 * h)) ** 2

        exact = c.separated_modes(w, 0.5, m, 1.1**2)
        assert exact.kl == pytest.approx(integrate.quad(kl, -13, 13, points=[-m, 0, m])[0], abs=1e-10)
        assert exact.fisher == pytest.approx(integrate.quad(fisher, -13, 13, points=[-m, 0, m])[0], abs=1e-6)
    values = {m: c.separated_modes(0.8, 0.5, m) for m in (4.0, 10.0)}
    assert values[4.0].kl == pytest.approx(0.192725155, abs=5.1e-10)  # CON-19
    assert values[4.0].fisher == pytest.approx(3.30785554e-4, abs=5.1e-13)
    # Far apart: KL of the weights, and m e^{−m²/2} times an integral over u = mx (a = ln 2, b = 0).
    assert values[10.0].kl == pytest.approx(0.8 * math.log(1.6) + 0.2 * math.log(0.4), abs=1e-12)
    inside = integrate.quad(lambda u: math.cosh(u) ** -2 / math.cosh(u + math.log(2)), -40, 40)[0]
    limit = math.sinh(math.log(2)) ** 2 / math.cosh(math.log(2)) / math.sqrt(2 * math.pi) * inside
    assert values[10.0].fisher == pytest.approx(10 * math.exp(-50) * limit, rel=2e-2)
    assert c.separated_modes(0.3, 0.3, 2.0) == pytest.approx((0, 0), abs=1e-15)


def test_the_balance_of_two_modes_costs_score_matching_exponentially_more():
    m, w = 1.5, 0.7
    a = 0.5 * math.log(w / (1 - w))
    x = torch.linspace(-12, 12, 4001, dtype=torch.float64)
    p = w * torch.exp(-((x - m) ** 2) / 2) + (1 - w) * torch.exp(-((x + m) ** 2) / 2)
    p = p / p.sum()

    def loss(b, kind):
        u = m * x + b
        if kind == "likelihood":
            return -(torch.logaddexp(u, -u) - torch.logaddexp(b, -b))
        return (-x + m * torch.tanh(u)) ** 2 + 2 * (m**2 / torch.cosh(u) ** 2 - 1)

    found, h = c.mode_weight_variances(w, m), 1e-4
    for kind, value in (("likelihood", found.likelihood), ("score", found.score_matching)):
        below, here, above = (loss(torch.tensor(a + k * h, dtype=torch.float64), kind) for k in (-1, 0, 1))
        slope, curvature = (above - below) / (2 * h), p @ (above - 2 * here + below) / h**2
        # Differences: h² and, in the curvature, 1e-16/h².
        assert value == pytest.approx(float(p @ slope**2 / curvature**2), rel=1e-6)
    far = c.mode_weight_variances(0.8, 6.0)
    assert far.likelihood == pytest.approx(1 / (4 * 0.16), abs=1e-8)
    assert far.score_matching == pytest.approx(2.12171646e8, rel=1e-8)  # CON-20


def test_over_all_levels_of_noise_the_fisher_divergence_adds_up_to_kl():
    for w, v, m in ((0.8, 0.5, 4.0), (0.2, 0.6, 1.0), (0.9, 0.3, 0.0)):  # CON-21
        both = c.de_bruijn(w, v, m)
        assert both.integral == pytest.approx(both.kl, abs=1e-9)


# ------------------------------------------------------------------------------------------------- margins


def test_the_hinge_pushes_the_contrast_until_the_margin_is_met_and_no_further():
    negative = torch.tensor([0.3, 1.9, 5.0], dtype=torch.float64, requires_grad=True)
    positive = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    for kind, own in (("triplet", [1.0, 1.0, 0.0]), ("pairwise", [1.0, 1.0, 1.0])):  # LEC-11
        loss = c.margin_loss(positive, negative, 2.0, kind)
        ours, theirs = torch.autograd.grad(loss.sum(), (positive, negative))
        assert ours.tolist() == own and theirs.tolist() == [-1, -1, 0]
        assert bool((loss >= 0).all())
        printed = c.margin_loss(positive, negative, 2.0, kind, hinge=False)
        (free,) = torch.autograd.grad(printed.sum(), negative)
        assert free.tolist() == [-1, -1, -1] and float(printed[2].detach()) < 0
    close(
        c.margin_loss(torch.tensor([0.5]), torch.tensor([1.0]), torch.tensor([0.7])),
        torch.tensor([0.2]),
        1e-6,
    )
    close(c.margin_loss(torch.tensor([0.5]), torch.tensor([1.0]), 1.7, "pairwise"), torch.tensor([1.2]), 1e-6)


def test_without_the_hinge_descent_never_ends_and_with_it_it_stops_at_the_margin():
    for hinge in (True, False):
        f = torch.zeros(2, dtype=torch.float64, requires_grad=True)
        for _ in range(400):
            (slope,) = torch.autograd.grad(c.margin_loss(f[0], f[1], 1.0, hinge=hinge), f)
            f = (f - 0.01 * slope).detach().requires_grad_()
        gap = float((f[1] - f[0]).detach())
        assert gap == pytest.approx(1.0, abs=0.021) if hinge else gap == pytest.approx(8.0, abs=1e-9)


@pytest.mark.parametrize("p", [0.55, 0.7, 0.95])
def test_a_margin_learns_which_is_likelier_and_not_by_how_much(p):
    gaps = torch.linspace(-6, 6, 1201, dtype=torch.float64)  # Δ = f_2 − f_1, spacing 0.01
    law = (p, 1 - p)
    for margin in (1.0, 2.0):  # CON-24: data from (p, 1 − p), negatives fair
        loss = sum(
            law[y] / 2 * c.margin_loss(y * gaps, z * gaps, margin)
            for y, z in itertools.product(range(2), repeat=2)
        )
        assert float(gaps[loss.argmin()]) == pytest.approx(margin, abs=1e-9)
    nll = p * torch.log1p(torch.exp(-gaps)) + (1 - p) * torch.log1p(torch.exp(gaps))
    assert float(gaps[nll.argmin()]) == pytest.approx(math.log(p / (1 - p)), abs=0.006)


# ------------------------------------------------------------------------------------------------- what is refused

W4 = couplings(4, 0.5, 40)
LAW4 = c.boltzmann_law(W4)
S4 = c.sample_ising(W4, 30, generator=seeded(41))
X = torch.randn(5, 1, generator=seeded(42), dtype=torch.float64)


@pytest.mark.parametrize(
    "call, name",
    [
        (lambda: c.boltzmann_exact(torch.eye(3)), "couplings"),
        (lambda: c.boltzmann_exact(torch.tensor([[0.0, 1.0], [2.0, 0.0]])), "couplings"),
        (lambda: c.boltzmann_exact(torch.zeros(3, 3, dtype=torch.int64)), "couplings"),
        (lambda: c.boltzmann_exact(torch.full((2, 2), NAN)), "couplings"),
        (lambda: c.boltzmann_exact(torch.zeros(21, 21)), "couplings"),
        (lambda: c.boltzmann_exact(torch.zeros(2, 3)), "couplings"),
        (lambda: c.boltzmann_exact([[0.0]]), "couplings"),
        (lambda: c.pairs(0), "n_spins"),
        (lambda: c.pair_values(torch.zeros(3)), "matrix"),
        (lambda: c.pair_correlations(torch.zeros(3, 2)), "spins"),
        (lambda: c.pair_correlations(S4, torch.full((30,), -1.0)), "weights"),
        (lambda: c.relative_entropy(torch.ones(16), W4), "law"),
        (lambda: c.relative_entropy(torch.ones(8) / 8, W4), "law"),
        (lambda: c.relative_entropy(torch.ones(7) / 7, W4), "law"),
        (lambda: c.relative_entropy(torch.eye(16)[0], W4, reverse=True), "law"),
        (lambda: c.hebbian_descent(LAW4, torch.tensor([-1.0])), "times"),
        (lambda: c.hebbian_descent(LAW4, 1.0), "times"),
        (lambda: c.after_updates(LAW4, W4, 0), "updates"),
        (lambda: c.after_updates(LAW4, W4, 1, "parallel"), "order"),
        (lambda: c.expected_update(LAW4, torch.zeros(17, 17)), "couplings"),
        (lambda: c.contrastive_fixed_point(torch.eye(16)[0]), "samples"),
        (lambda: c.expected_learning(LAW4, steps=5, rate=0.0), "rate"),
        (lambda: c.expected_learning(LAW4, steps=-1, rate=1.0), "steps"),
        (lambda: c.expected_learning(LAW4, steps=5, rate=1e5), "rate"),
        (lambda: c.expected_learning(LAW4, steps=5, rate=0.1, start=torch.zeros(3, 3)), "start"),
        (lambda: c.slowest_mode(torch.zeros(1, 1)), "couplings"),
        (lambda: c.contrastive_divergence(S4, torch.zeros(3, 3)), "samples"),
        (lambda: c.contrastive_divergence(S4, W4, chains=S4[:, :2]), "chains"),
        (lambda: c.contrastive_divergence(S4, W4, updates=0), "updates"),
        (lambda: c.contrastive_divergence(S4, W4, generator=3), "generator"),
        (lambda: c.train_ising(S4, steps=1, rate=NAN), "rate"),
        (lambda: c.sample_ising(W4, 0), "n_samples"),
        (lambda: c.sample_ising(torch.zeros(30, 30), 5), "couplings"),
        (lambda: c.sample_ising(W4, 5, sweeps=0), "sweeps"),
        (lambda: c.fit_ising(S4, "moments"), "method"),
        (lambda: c.fit_ising(S4[0]), "samples"),
        (lambda: c.fit_ising(torch.zeros(5, 3)), "samples"),
        (lambda: c.fit_ising(torch.ones(5, 1)), "samples"),
        (lambda: c.fit_ising(torch.ones(5, 21), "likelihood"), "samples"),
        (lambda: c.fit_ising(S4, counts=torch.zeros(30)), "counts"),
        (lambda: c.fisher_information(torch.zeros(21, 21)), "couplings"),
        (lambda: c.asymptotic_covariance(W4, "moments"), "method"),
        (lambda: c.asymptotic_covariance(torch.zeros(13, 13), "ratio"), "couplings"),
        (lambda: c.asymptotic_covariance(W4, "contrastive", updates=0), "updates"),
        (lambda: c.asymptotic_covariance(ring(4, 400.0), "pseudolikelihood"), "couplings"),
        (lambda: c.noise_contrastive(S4, S4[:, :3]), "noise"),
        (lambda: c.noise_contrastive(S4, S4, lambda s: s), "log_noise"),
        (lambda: c.noise_covariance(W4, 0.0), "ratio"),
        (lambda: c.rbm_exact(torch.zeros(3)), "weights"),
        (lambda: c.rbm_exact(torch.zeros(1, 17)), "weights"),
        (lambda: c.rbm_phases(torch.zeros(2, 3), LAW4), "law"),
        (lambda: c.rbm_expected_update(torch.zeros(11, 4), LAW4), "weights"),
        (lambda: c.rbm_expected_update(torch.zeros(2, 4), LAW4, 0), "rounds"),
        (lambda: c.implicit_score_matching(X[:, 0], torch.sin), "x"),
        (lambda: c.implicit_score_matching(X, lambda x: x[:, 0]), "score"),
        (lambda: c.implicit_score_matching(X, lambda x: x.detach()), "score"),
        (lambda: c.implicit_score_matching(X * NAN, torch.sin), "x"),
        (lambda: c.score_matching_losses(X, torch.sin, lambda x: x[:2]), "target"),
        (lambda: c.score_matching_equations(X, lambda x: x[:, 0]), "features"),
        (lambda: c.score_matching_fit(X, lambda x: torch.cat([x**2, 3 * x**2], 1)), "features"),
        (lambda: c.score_matching_fit(X, lambda x: torch.cat([x**2, 0 * x], 1)), "features"),
        (lambda: c.langevin_gradient(X, well_features, torch.zeros(3), 0.1), "theta"),
        (lambda: c.langevin_gradient(X, well_features, torch.zeros(2), 0.0), "step"),
        (lambda: c.denoising_score_matching(torch.zeros(2, 4), torch.sin, 1.0), "x"),
        (lambda: c.denoising_score_matching(X, torch.sin, 0.0), "sigma"),
        (lambda: c.denoising_score_matching(X, torch.sin, 1.0, nodes=1), "nodes"),
        (lambda: c.separated_modes(1.0, 0.5, 1.0), "weight"),
        (lambda: c.separated_modes(0.5, 0.0, 1.0), "other"),
        (lambda: c.separated_modes(0.5, 0.4, -1.0), "half_distance"),
        (lambda: c.separated_modes(0.5, 0.4, 1.0, 0.0), "variance"),
        (lambda: c.mode_weight_variances(0.5, 0.0), "half_distance"),
        (lambda: c.margin_loss(1.0, X), "positive"),
        (lambda: c.margin_loss(X, X * NAN), "negative"),
        (lambda: c.margin_loss(X, X, -1.0), "margin"),
        (lambda: c.margin_loss(X, X, 1.0, "quadruplet"), "kind"),
    ],
)
def test_bad_input_is_named(call, name):
    with pytest.raises(ValueError, match=f"^{name}: "):
        call()
