"""Representations, planning and backpropagation: autograd, finite differences, SciPy, quadrature, enumeration."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy import integrate, linalg, optimize, stats

from physgen.energies import selfsupervised as ss

NAN = float("nan")


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def tensor(*values):
    return torch.tensor(values, dtype=torch.float64)


def normal(*shape, seed):
    return torch.randn(shape, generator=seeded(seed), dtype=torch.float64)


def close(a, b, tol=1e-12):
    torch.testing.assert_close(
        torch.as_tensor(a, dtype=torch.float64), torch.as_tensor(b, dtype=torch.float64), rtol=tol, atol=tol
    )


# ------------------------------------------------------------------------------------------------- information


def test_the_entropies_of_the_components_exceed_that_of_the_whole_by_the_total_correlation():
    factor = normal(3, 5, seed=1)
    covariance = factor @ factor.T
    apart = sum(stats.norm(scale=math.sqrt(v)).entropy() for v in covariance.diagonal().tolist())
    whole = stats.multivariate_normal(cov=covariance.numpy()).entropy()
    close(ss.total_correlation(covariance), apart - whole)  # LEC-18a
    close(ss.total_correlation(tensor(2.0, 3.0).diag()), 0)


def test_uncorrelated_components_may_know_all_but_the_sign_of_each_other():
    values = [-2.0, -1.0, 1.0, 2.0]
    joint = tensor(*[[0.125 if abs(a) == abs(b) else 0.0 for b in values] for a in values])
    a = tensor(*values)
    assert float(a @ joint @ a) == 0
    close(ss.mutual_information(joint), math.log(2))  # LEC-18b


def test_vicreg_is_its_definition_term_by_term():
    z, z2 = 0.6 * normal(7, 3, seed=2), 0.5 * normal(7, 3, seed=3)
    v, c = 0.0, 0.0
    for view in (z.numpy(), z2.numpy()):
        cov = np.cov(view.T)  # NumPy divides by n − 1
        v += sum(max(0, 1 - math.sqrt(cov[j, j] + 1e-4)) for j in range(3)) / 3
        c += sum(cov[i, j] ** 2 for i in range(3) for j in range(3) if i != j) / 3
    s = sum(float((z[i] - z2[i]) @ (z[i] - z2[i])) for i in range(7)) / 7
    close(torch.stack(ss.vicreg(z, z2)), tensor(s, v, c))  # LEC-19b
    wide = ss.vicreg(9 * z, 9 * z)
    assert (float(wide[0]), float(wide[1])) == (0, 0)  # the hinge: wider than 1 costs nothing


def test_a_collapsed_batch_has_the_largest_variance_term_and_no_covariance():
    one = torch.full((16, 4), 3.0)
    invariance, variance, covariance = ss.vicreg(one, one)
    assert (float(invariance), float(covariance)) == (0, 0)
    close(variance, 2 * 0.99)  # LEC-19a: 0.99 in each view


def test_vicreg_has_a_finite_gradient_where_it_collapses():
    z = torch.ones(6, 3, dtype=torch.float64, requires_grad=True)
    sum(ss.vicreg(z, z)).backward()
    assert bool(z.grad.isfinite().all())


def test_nt_xent_is_its_definition_pair_by_pair():
    z, z2, tau = normal(4, 3, seed=4), normal(4, 3, seed=5), 0.3
    rows = [r / np.linalg.norm(r) for r in torch.cat([z, z2]).numpy()]
    terms = []
    for i in range(8):
        partner = (i + 4) % 8
        others = sum(math.exp(rows[i] @ rows[j] / tau) for j in range(8) if j != i)
        terms.append(-rows[i] @ rows[partner] / tau + math.log(others))
    close(ss.nt_xent(z, z2, tau), sum(terms) / 8)


def test_nt_xent_of_a_collapse_is_the_logarithm_of_the_number_of_the_others():
    one = torch.ones(16, 4)
    close(ss.nt_xent(one, one, 0.1), math.log(31))  # LEC-20a
    close(ss.nt_xent(0 * one, 0 * one, 0.1), math.log(31))
    close(ss.nt_xent(1e-200 * one.double(), 1e200 * one.double(), 0.1), math.log(31))


def test_nt_xent_of_orthonormal_pairs():
    e = torch.eye(8)
    close(ss.nt_xent(e, e, 0.5), math.log(1 + 14 * math.exp(-2)))  # LEC-20b: 1.0628794
    assert float(ss.nt_xent(e, e, 1e-3)) == pytest.approx(0, abs=1e-300)  # cold: e^{−1000}


def test_the_contrastive_bound_with_the_best_critic_is_below_the_information_and_below_log_n():
    information = -math.log(1 - 0.9**2) / 2
    small, large = ss.infonce_gaussian(0.9, 16, 4000, seeded(6)), ss.infonce_gaussian(0.9, 2, 4000, seeded(7))
    assert small.value + 5 * small.error < information < math.log(16)  # LEC-20c
    assert large.value + 5 * large.error < math.log(2) < information
    # never above log N, whatever the scores
    assert bool((ss.infonce_bound(50 * normal(100, 5, 5, seed=8)) <= math.log(5)).all())


def test_the_contrastive_bound_of_two_pairs_is_that_of_quadrature():
    rho, (nodes, weights) = 0.6, np.polynomial.hermite_e.hermegauss(40)
    weights = weights / weights.sum()
    x, u, y2 = np.meshgrid(nodes, nodes, nodes, indexing="ij")

    def critic(x, y):
        law = stats.norm(rho * x, math.sqrt(1 - rho**2))
        return law.logpdf(y) - stats.norm.logpdf(y)

    f1, f2 = critic(x, rho * x + math.sqrt(1 - rho**2) * u), critic(x, y2)
    exact = np.einsum("ijk,i,j,k", f1 - np.logaddexp(f1, f2), weights, weights, weights) + math.log(2)
    found = ss.infonce_gaussian(rho, 2, 20000, seeded(9))
    # the rule has 40 nodes for a function analytic about the axis: far below the error bar of 20 000 batches
    assert abs(found.value - exact) < 4.5 * found.error


@pytest.mark.parametrize("shape", [(9, 4), (3, 6)])
def test_the_rate_is_the_logarithm_of_a_determinant(shape):
    z, (n, d) = normal(*shape, seed=10), shape
    matrix = np.eye(d) + d / (n * 0.5**2) * z.numpy().T @ z.numpy()
    close(ss.rate(z, 0.5), np.log(linalg.det(matrix)) / 2)  # LEC-20d
    assert float(ss.rate(0 * z, 0.5)) == 0


def test_a_label_saves_most_for_orthogonal_classes_and_nothing_in_a_collapse():
    z, labels = torch.eye(4)[:3].repeat(5, 1), torch.arange(3).repeat(5)
    expected = 1.5 * math.log(1 + 4 / (3 * 0.25)) - math.log(1 + 4 / 0.25) / 2
    close(ss.rate_reduction(z, labels, 0.5), expected)  # LEC-20e
    close(ss.rate_reduction(torch.ones(15, 4), labels, 0.5), 0.0)
    random = torch.nn.functional.normalize(normal(15, 4, seed=11), dim=1)
    random = random[:3].repeat(5, 1)  # as compact, but not orthogonal
    assert float(ss.rate_reduction(random, labels, 0.5)) < expected


def test_mmcr_of_a_collapse_of_a_basis_and_of_views_that_cancel():
    one, frame = torch.ones(2, 9, 3), torch.eye(3).repeat(3, 1).repeat(2, 1, 1)
    close(ss.mmcr(one), -3.0)  # LEC-20f: −√n
    close(ss.mmcr(5 * torch.eye(4)[None]), -4.0)  # −n
    close(ss.mmcr(frame), -math.sqrt(27))  # −√(nd), n > d: a tight frame
    assert float(ss.mmcr(torch.stack([one[0], -one[0]]))) == 0


def test_barlow_twins_counts_correlations():
    z, z2 = normal(8, 3, seed=12), normal(8, 3, seed=13)
    c = np.corrcoef(z.T.numpy(), z2.T.numpy())[:3, 3:]
    on, off = ss.barlow_twins(z, z2)
    close(on, sum((1 - c[i, i]) ** 2 for i in range(3)))
    close(off, sum(c[i, j] ** 2 for i in range(3) for j in range(3) if i != j))
    white = torch.linalg.qr(z - z.mean(0)).Q
    close(torch.stack(ss.barlow_twins(white, 3 * white + 1)), tensor(0, 0))
    close(torch.stack(ss.barlow_twins(torch.full((8, 3), 0.1), z)), tensor(3, 0))  # LEC-20g: collapse


# ------------------------------------------------------------------------------------------------- linear JEPA

CORRELATIONS = tensor(0.95, 0.8, 0.6, 0.3, 0.9)
SIGNED = tensor(0.95, 0.8, 0.6, 0.3, -0.9)
START = 0.5 * normal(3, 5, seed=14)


def jepa_loss(w, a, price, eps):
    p = w @ a @ w.T @ torch.linalg.inv(w @ w.T)
    cost = torch.trace(p @ w @ w.T @ p.T - 2 * p @ w @ a @ w.T + w @ w.T)
    gram = torch.eye(len(w), dtype=torch.float64) + len(w) / eps**2 * w @ w.T
    return cost, torch.logdet(gram) / 2, cost + price * torch.logdet(gram)


@pytest.mark.parametrize("price", [-0.3, 0.0, 0.2])
def test_a_step_of_the_jepa_is_down_the_gradient_of_its_loss(price):
    turn = torch.linalg.qr(normal(5, 5, seed=15)).Q
    a = turn @ CORRELATIONS.diag() @ turn.T
    w = START.clone().requires_grad_()
    cost, information, loss = jepa_loss(w, a, price, 0.7)
    (slope,) = torch.autograd.grad(loss, w)
    found = ss.train_jepa(START, a, price, 0.7, 1e-2, 1)
    close(found.encoder, START - 1e-2 * slope)
    close(found.cost[0], cost.detach())
    close(found.information[0], information.detach())


def test_the_information_of_the_jepa_is_the_rate_of_its_embeddings():
    white = torch.linalg.qr(normal(20, 5, seed=16)).Q * math.sqrt(20)  # xᵀx/n = 1
    found = ss.train_jepa(START, CORRELATIONS.diag(), 0.0, 0.7, 1e-2, 0)
    close(found.information[0], ss.rate(white @ START.T, 0.7))


@pytest.mark.parametrize("price", [0.0, 0.2])
def test_the_sign_of_the_notes_collapses_and_so_does_no_price(price):
    found = ss.train_jepa(START, CORRELATIONS.diag(), price, 1.0, 0.05, 600)
    slowest = (1 - 0.95**2) + 3 * price  # α = r + λc, towards s = 0: s ~ e^{−4αt}
    # The slowest mode sets the end, from a power below 2; steps of gradient descent are ahead of the flow.
    assert float(found.powers[-1].sum()) < 5 * math.exp(-4 * slowest * 0.05 * 600)  # LEC-16a
    assert bool((found.cost.diff() <= 0).all())


def test_the_right_sign_keeps_the_most_predictable_modes_at_the_powers_of_water_filling():
    found = ss.train_jepa(START, CORRELATIONS.diag(), -0.5, 1.0, 0.05, 1000)
    expected = ss.jepa_optimum(CORRELATIONS, 3, -0.5, 1.0)
    # |λ|c = 1.5; the modes 0.95, 0.9, 0.8; slowest rate 4r(1 − r/|λ|c) = 0.36, over t = 50: e^{−18}
    close(expected, 0.5 / tensor(0.0975, 0.19, 0.36) - 1 / 3)
    close(found.powers[-1], expected, 1e-5)  # LEC-16b
    kept = found.encoder.T @ found.encoder
    assert float(kept[2:4].abs().max()) < 1e-5  # the modes 0.6 and 0.3 are not in it


def test_descent_misses_a_mode_of_the_opposite_correlation():
    # between 0.6 and −0.9 lies a direction of no correlation at all: a barrier
    found = ss.train_jepa(START, SIGNED.diag(), -0.5, 1.0, 0.05, 1000)
    close(found.powers[-1], 0.5 / (1 - SIGNED[:3] ** 2) - 1 / 3, 1e-5)  # LEC-16d


def test_no_encoder_is_better_than_water_filling():
    price, eps, a = -0.2, 0.8, SIGNED.diag()

    def loss(flat):
        w = torch.tensor(flat, dtype=torch.float64).reshape(2, 5).requires_grad_()
        value = jepa_loss(w, a, price, eps)[2]
        return float(value.detach()), torch.autograd.grad(value, w)[0].flatten().numpy()

    s, r = ss.jepa_optimum(SIGNED, 2, price, eps), tensor(1 - 0.95**2, 1 - 0.9**2)
    least = float((s * r + price * torch.log1p(2 / eps**2 * s)).sum())
    found = [
        optimize.minimize(loss, normal(10, seed=seed).numpy(), jac=True, options={"gtol": 1e-9}).fun
        for seed in range(5)
    ]
    assert min(found) == pytest.approx(least, abs=1e-9)


def test_a_mode_that_does_not_pay_for_its_error_is_dropped():
    # |λ|k/ε² = 0.6: r = 0.0975, 0.19, 0.36 are kept, 0.64 and 0.91 are not
    s = ss.jepa_optimum(CORRELATIONS, 5, -0.2, math.sqrt(5 / 3))
    assert [bool(x > 0) for x in s] == [True, True, True, False, False]
    assert float(ss.jepa_optimum(CORRELATIONS, 5, 0.2, 1.0).abs().max()) == 0


def test_a_constant_encoder_predicts_without_error():
    found = ss.train_jepa(0 * START, CORRELATIONS.diag(), 0.0, 1.0, 0.05, 1)
    assert float(found.cost.abs().max()) == float(found.information.abs().max()) == 0  # LEC-17


@pytest.mark.parametrize("price", [0.3, 0.0, -0.05, -0.4])
def test_the_time_to_a_power_is_that_of_its_equation(price):
    a, c, s0 = 0.7, 4.0, 0.5
    r = 1 - a * a

    def flow(t, s):
        return -4 * r * s - 4 * price * c * s / (1 + c * s)

    path = integrate.solve_ivp(flow, (0, 1), [s0], rtol=1e-11, atol=1e-13, dense_output=True)
    times = tensor(0.1, 0.4, 1.0)
    close(
        ss.jepa_time(torch.tensor(path.sol(times)[0]), s0, a, price, c), times, 1e-8
    )  # dense output: fewer digits


@pytest.mark.parametrize("a", [0.95, 0.8, 0.3])
def test_a_power_is_at_its_start_at_time_zero(a):
    assert float(ss.jepa_time(tensor(0.5), 0.5, a, 0.25, 3.0)) == 0  # and no rounding below, as for 0.95


def test_the_critical_mode_decays_as_a_power_of_time():
    r, c = 1 - 0.7**2, 4.0
    s = tensor(0.4, 1e-3)
    near = (ss.jepa_time(s, 0.5, 0.7, -r / c + 1e-7, c) + ss.jepa_time(s, 0.5, 0.7, -r / c - 1e-7, c)) / 2
    close(ss.jepa_time(s, 0.5, 0.7, -r / c, c), near, 1e-5)


def test_encoders_descend_as_their_modes():
    # one mode, Euler steps: s after a step is s₀ + h ds/dt + O(h²), and t(s) has slope 1/(ds/dt)
    errors = []
    for h in (1e-3, 5e-4):
        found = ss.train_jepa(tensor([0.7]), tensor([0.6]), -0.4, 0.5, h, round(0.2 / h))
        errors.append(float(ss.jepa_time(found.powers[-1], 0.49, 0.6, -0.4, 4.0)) - 0.2)
    assert errors[0] / errors[1] == pytest.approx(2, rel=0.02)
    assert abs(2 * errors[1] - errors[0]) < 1e-5


def test_the_sign_of_the_notes_collapses_in_a_finite_time_if_information_is_differential():
    r, lam, s0 = 1 - 0.8**2, 0.2, 1.0
    t = [float(ss.jepa_time(tensor(1e-12), s0, 0.8, lam, c)) for c in (1e8, 1e10)]
    limit = math.log(1 + r * s0 / lam) / (4 * r)
    # LEC-16c: what is left is (log s₀/s)/(4λc) and the like, below 28/(0.8 × 1e10) = 4e-9
    assert t[1] == pytest.approx(limit, abs=1e-8)
    assert abs(t[0] - limit) < 1e-6


# ------------------------------------------------------------------------------------------------- planning

A, B = tensor([1, 0.1], [0, 1]), tensor([0], [0.1])
Q, R, S0 = torch.eye(2, dtype=torch.float64), tensor([0.1]), tensor(1, 0)


def test_riccati_finds_the_least_cost_that_least_squares_finds():
    h = 20
    cost, actions = ss.lqr(A, B, Q, R, h, S0)
    # all states are linear in all actions: one system of equations for the whole plan
    powers = [np.linalg.matrix_power(A.numpy(), k) for k in range(h + 1)]
    free = np.concatenate([p @ S0.numpy() for p in powers])
    response = np.zeros((2 * (h + 1), h))
    for t in range(1, h + 1):
        for j in range(t):
            response[2 * t : 2 * t + 2, j] = (powers[t - 1 - j] @ B.numpy())[:, 0]
    system = np.vstack([response, math.sqrt(0.1) * np.eye(h)])
    best, *_ = np.linalg.lstsq(system, -np.concatenate([free, np.zeros(h)]), rcond=None)
    rest = system @ best + np.concatenate([free, np.zeros(h)])
    close(cost, rest @ rest)
    close(actions[:, 0], torch.from_numpy(best), 1e-11)
    assert float(cost) == pytest.approx(13.230565205311, abs=1e-12)  # LEC-15a


def test_the_gradient_of_a_plan_is_that_of_autograd():
    a = normal(6, 1, seed=17).requires_grad_()
    s, cost = S0, 0.0
    for action in a:
        cost = cost + s @ Q @ s + action @ R @ action
        s = A @ s + B @ action
    cost = cost + s @ Q @ s
    found = ss.plan_gradient(a.detach(), A, B, Q, R, S0)
    close(found[0], cost.detach())
    close(found[1], torch.autograd.grad(cost, a)[0])


def test_descent_on_a_plan_ends_at_riccati():
    cost, actions = ss.lqr(A, B, Q, R, 20, S0)
    found = ss.plan(A, B, Q, R, 20, S0)
    # LEC-15b: the gradient is below 1e-6 and the curvature above 2R = 0.2, so the cost is within g²/(2·0.2) of the least
    assert float(ss.plan_gradient(found[1], A, B, Q, R, S0)[1].norm()) < 1e-6
    close(found[0], cost, 1e-11)
    close(found[1], actions, 1e-5)


def test_transitions_identify_a_linear_world():
    states, actions = normal(200, 2, seed=18), normal(200, 1, seed=19)
    found = ss.identify(states, actions, states @ A.T + actions @ B.T)
    close(found[0], A, 1e-13)  # LEC-15c
    close(found[1], B, 1e-13)


def test_replanning_far_ahead_is_the_stationary_regulator():
    P = linalg.solve_discrete_are(A.numpy(), B.numpy(), Q.numpy(), R.numpy())
    cost, _, states = ss.mpc(A, B, Q, R, 200, S0, 400)
    assert float(cost) == pytest.approx(
        S0.numpy() @ P @ S0.numpy(), abs=1e-9
    )  # LEC-15d: both to e^{−2·200·0.1}
    close(states[1], A @ S0 + B @ ss.lqr(A, B, Q, R, 200, S0)[1][0])


def test_replanning_with_a_short_view_or_a_wrong_model_costs_more_than_the_best():
    least = float(ss.mpc(A, B, Q, R, 200, S0, 400)[0])  # the stationary regulator
    assert least == pytest.approx(13.827049, abs=5e-7)
    assert least < float(ss.mpc(A, B / 2, Q, R, 200, S0, 400, world=(A, B))[0])
    found = [float(ss.mpc(A, B, Q, R, h, S0, 20)[0]) for h in (2, 5, 10, 20)]
    assert found == pytest.approx([19.857436, 16.324777, 13.764035, 13.422487], abs=1e-6)
    assert float(ss.lqr(A, B, Q, R, 20, S0)[0]) < min(found)


# ------------------------------------------------------------------------------------------------- backpropagation

SIZES = 3, 5, 4, 4, 2
WEIGHTS = [normal(n, m, seed=20 + m) / math.sqrt(m) for m, n in pairwise(SIZES)]


@pytest.mark.parametrize("batch", [(), (6,)])
def test_the_adjoint_is_autograd(batch):
    x, target = normal(*batch, 3, seed=30), normal(*batch, 2, seed=31)
    weights = [w.clone().requires_grad_() for w in WEIGHTS]
    z = x
    for w in weights:
        z = torch.tanh(z @ w.T)
    cost = (z - target).square().sum() / 2
    found = ss.adjoint(WEIGHTS, x, target)
    close(found[0], cost.detach())
    for mine, theirs in zip(found[1], torch.autograd.grad(cost, weights), strict=True):
        close(mine, theirs, 1e-14)  # LEC-28


def test_the_adjoint_is_finite_differences():
    x, target, h = normal(3, seed=32), normal(2, seed=33), 1e-5
    gradients = ss.adjoint(WEIGHTS, x, target)[1]
    for k, (i, j) in enumerate([(4, 2), (3, 1), (0, 3), (1, 0)]):
        costs = []
        for sign in (1, -1):
            moved = [w.clone() for w in WEIGHTS]
            moved[k][i, j] += sign * h
            costs.append(float(ss.adjoint(moved, x, target)[0]))
        # h² times a third derivative of order one, and rounding ε/h
        assert float(gradients[k][i, j]) == pytest.approx((costs[0] - costs[1]) / (2 * h), abs=1e-9)


def test_the_multipliers_are_minus_the_derivative_of_the_cost_by_the_state():
    x, target = normal(3, seed=34), normal(2, seed=35)
    states, momenta = ss.trajectory(WEIGHTS, x, target)
    for k, (z, momentum) in enumerate(zip(states, momenta, strict=True)):
        z = end = z.clone().requires_grad_()
        for w in WEIGHTS[k:]:
            end = torch.tanh(w @ end)
        (slope,) = torch.autograd.grad((end - target).square().sum() / 2, z)
        close(momentum, -slope, 1e-14)  # LEC-26, LEC-27


def test_the_pairing_of_a_momentum_and_a_displacement_is_the_same_at_all_layers():
    x, target, direction = (normal(n, seed=36 + n) for n in (3, 2, 3))
    values = ss.pairing(WEIGHTS, x, target, direction)
    close(values, values[0].expand(5), 1e-14)  # LEC-29a
    moved = [ss.adjoint(WEIGHTS, x + h * direction, target)[0] for h in (1e-5, -1e-5)]
    assert float(values[0]) == pytest.approx(float(moved[1] - moved[0]) / 2e-5, abs=1e-9)


DEPTH = tensor([0.3, -1.2], [1.5, 0.1]), tensor(0.8, -0.3), tensor(0.4, 0.7), tensor(-0.2, 0.5)


@pytest.mark.parametrize("method", ss.METHODS)
def test_continuous_depth_conserves_the_hamiltonian_and_steps_do_to_first_order(method):
    w, z, momentum, _ = (v.numpy() for v in DEPTH)

    def flow(t, y):
        f = np.tanh(w @ y[:2])
        return np.concatenate([f, -w.T @ ((1 - f * f) * y[2:])])

    path = integrate.solve_ivp(
        flow, (0, 3), np.concatenate([z, momentum]), method="DOP853", rtol=1e-11, atol=1e-12
    )
    energies = [y[2:] @ np.tanh(w @ y[:2]) for y in path.y.T]
    assert np.ptp(energies) < 1e-9  # LEC-29b
    errors = []
    for steps in (400, 800):
        found = ss.depth_motion(*DEPTH, 3.0, steps, method)
        errors.append(float(found.energy[-1]) - energies[0])
        assert np.abs(found.states[-1].numpy() - path.y[:2, -1]).max() < 10 / steps
        assert np.abs(found.momenta[-1].numpy() - path.y[2:, -1]).max() < 20 / steps
    assert errors[0] / errors[1] == pytest.approx(2, rel=0.1)


def test_backpropagation_is_symplectic_and_the_explicit_method_is_not():
    found = ss.depth_motion(*DEPTH, 3.0, 300)
    close(found.pairing, found.pairing[0].expand(301), 1e-13)  # LEC-29c
    explicit = [ss.depth_motion(*DEPTH, 3.0, steps, "explicit") for steps in (1, 300, 600)]
    w, z, momentum, direction = DEPTH
    jacobian = (1 - torch.tanh(w @ z) ** 2)[:, None] * w
    # one step: (1 − hJᵀ)λ · (1 + hJ)δz = λδz − h² λJ²δz
    lost = explicit[0].pairing[0] - explicit[0].pairing[1]
    close(lost, 9 * momentum @ jacobian @ jacobian @ direction)
    drift = [float(m.pairing[-1] - m.pairing[0]) for m in explicit[1:]]
    assert drift[0] / drift[1] == pytest.approx(2, rel=0.05)
    assert abs(drift[0]) > 1e-3


def test_the_steps_of_backpropagation_are_those_of_autograd_through_a_residual_network():
    w, z, momentum, direction = DEPTH
    found = ss.depth_motion(w, z, momentum, direction, 1.0, 10)
    start = end = z.clone().requires_grad_()
    for _ in range(10):
        end = end + 0.1 * torch.tanh(w @ end)
    close(end.detach(), found.states[-1])
    close(torch.autograd.grad(end @ found.momenta[-1], start)[0], momentum)


def test_a_child_has_seen_as_much_as_a_language_model_has_read():
    seen, read = ss.data_volume()
    assert seen == pytest.approx(1.152e14)  # LEC-31
    assert read == pytest.approx(9e13)


# ------------------------------------------------------------------------------------------------- bad input

Z = torch.ones(3, 2)


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: ss.total_correlation(tensor([1, 2], [2, 1])), "covariance"),
        (lambda: ss.mutual_information(tensor([0.5, 0.6])), "joint"),
        (lambda: ss.vicreg(Z[:1], Z[:1]), "z"),
        (lambda: ss.vicreg(Z, Z[:2]), "z2"),
        (lambda: ss.vicreg(Z, NAN * Z), "z2"),
        (lambda: ss.nt_xent(Z.long(), Z, 1.0), "z"),
        (lambda: ss.nt_xent(Z, Z, 0.0), "temperature"),
        (lambda: ss.infonce_bound(Z), "scores"),
        (lambda: ss.infonce_gaussian(1.0, 4, 4), "1 - correlation²"),
        (lambda: ss.rate(Z, 0.0), "eps"),
        (lambda: ss.rate_reduction(Z, torch.ones(2, dtype=torch.int64), 1.0), "labels"),
        (lambda: ss.mmcr(Z), "views"),
        (lambda: ss.train_jepa(START, 2 * CORRELATIONS.diag(), 0.0, 1.0, 0.1, 1), "correlation"),
        (lambda: ss.train_jepa(START, CORRELATIONS.diag(), 0.0, 1.0, 1e9, 99), "step"),
        (lambda: ss.train_jepa(START.T, CORRELATIONS.diag(), 0.0, 1.0, 0.1, 1), "encoder"),
        (lambda: ss.jepa_optimum(CORRELATIONS, 6, 0.0, 1.0), "size"),
        (lambda: ss.jepa_time(tensor(2.0), 1.0, 0.5, 0.0, 1.0), "power"),
        (lambda: ss.lqr(A, B, Q, 0 * R, 3, S0), "R"),
        (lambda: ss.lqr(A, B, -Q, R, 3, S0), "Q"),
        (lambda: ss.lqr(A, B, Q, R, 0, S0), "horizon"),
        (lambda: ss.lqr(A, B, Q, R, 3, tensor(1.0)), "s0"),
        (lambda: ss.identify(Z, Z, Z), "states"),
        (lambda: ss.adjoint([], Z, Z), "weights"),
        (lambda: ss.adjoint(WEIGHTS, Z, Z), "x"),
        (lambda: ss.adjoint(WEIGHTS, torch.ones(3), torch.ones(3)), "target"),
        (lambda: ss.pairing(WEIGHTS, torch.ones(3), torch.ones(2), torch.ones(2)), "direction"),
        (lambda: ss.depth_motion(*DEPTH, 1.0, 3, "implicit"), "method"),
        (lambda: ss.data_volume(hours=-1), "hours"),
    ],
)
def test_bad_input_is_named(call, name):
    with pytest.raises(ValueError) as caught:
        call()
    assert str(caught.value).startswith(f"{name}: ")
