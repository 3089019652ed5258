"""Flows in continuous time: closed solutions, SciPy, torchdiffeq, Zuko, finite differences, quadrature, enumeration of signs."""

import math
from itertools import pairwise, product

import pytest
import torch
import zuko
from scipy import integrate
from torch import nn
from torchdiffeq import odeint

from physgen.diffusion import score
from physgen.flows import continuous, coupling


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def tensor(*values):
    return torch.tensor(values, dtype=torch.float64)


def normal(*shape, seed=0):
    return torch.randn(shape, generator=seeded(seed), dtype=torch.float64)


def clock(n, start=0.0, end=1.0):
    return torch.linspace(start, end, n + 1, dtype=torch.float64)


def lively(d=2, width=16, seed=1, strength=1.5):
    """A velocity far from 0, with no training."""
    net = continuous.VelocityNetwork(d, width, seeded(seed))
    nn.init.normal_(net.layers[-1].weight, std=strength / math.sqrt(width), generator=seeded(seed + 1))
    nn.init.normal_(net.layers[-1].bias, std=0.3, generator=seeded(seed + 2))
    return net.requires_grad_(False)


def sine(x, u):
    """The claim's dx/du = (1 + u) sin x: tan(x/2) grows as e^{u + u²/2}."""
    return (1 + u) * x.sin()


END = 2 * math.atan(math.tan(0.35) * math.exp(1.5))  # of the solution from 0.7
START = torch.tensor([[0.7]], dtype=torch.float64)

RULES = [("euler", 1), ("midpoint", 2), ("rk4", 4)]


# ------------------------------------------------------------------------------------------------- moving points


def test_the_error_of_euler_halves_with_the_step():
    errors = [
        abs(float(continuous.integrate(sine, START, clock(n), "euler")) - END) for n in (10, 20, 40, 80)
    ]
    assert errors == pytest.approx(
        [0.065, 0.0312, 0.0153, 0.0076], abs=5.1e-5
    )  # FLW-5, the claim's digits (0.0650)
    assert [a / b for a, b in pairwise(errors)] == pytest.approx([2, 2, 2], abs=0.1)


@pytest.mark.parametrize(("method", "order"), RULES)
def test_each_rule_has_its_order_in_points_and_in_densities(method, order):
    x, log_det = [], []
    for n in (40, 80):
        end = continuous.transport(sine, START, clock(n), method)
        x.append(abs(float(end.x) - END))
        log_det.append(abs(float(end.log_det) - math.log(math.sin(END) / math.sin(0.7))))
    # 2^order up to the next order, a relative 1/40 times a constant of order one.
    assert math.log2(x[0] / x[1]) == pytest.approx(order, abs=0.15)
    assert math.log2(log_det[0] / log_det[1]) == pytest.approx(order, abs=0.15)


@pytest.mark.parametrize(("method", "order"), RULES)
def test_the_way_back_undoes_the_way_there_up_to_the_error_of_the_rule(method, order):
    x = normal(20, 2)
    v, gaps = lively(), []
    for n in (16, 32):
        there = continuous.integrate(v, x, clock(n), method)
        gaps.append(float((continuous.integrate(v, there, clock(n, 1, 0), method) - x).abs().max()))
    assert math.log2(gaps[0] / gaps[1]) > order - 0.3


def test_trajectories_are_those_of_torchdiffeq_and_scipy():
    v, x = lively(), normal(10, 2)
    ours = continuous.integrate(v, x, clock(64), path=True)
    peer = odeint(lambda u, y: v(y, u), x, clock(64), rtol=1e-10, atol=1e-12)
    # h⁴ = 6·10⁻⁸ times derivatives over 5!, of waves of frequency up to 3π in u: of order ten.
    torch.testing.assert_close(ours, peer, rtol=0, atol=3e-6)
    fine = continuous.integrate(v, x, clock(512))
    torch.testing.assert_close(fine, peer[-1], rtol=0, atol=2e-9)  # 8⁻⁴ of that, and the peer's tolerance

    def flat(u, y):
        return v(torch.from_numpy(y)[None], u)[0].numpy()

    one = integrate.solve_ivp(flat, (0, 1), x[0].numpy(), rtol=1e-11, atol=1e-12, method="DOP853")
    assert fine[0].numpy() == pytest.approx(one.y[:, -1], abs=2e-9)
    # The same rules, step by step: rounding. (Its rk4 is the 3/8 rule, another one of order four.)
    midpoint = odeint(lambda u, y: v(y, u), x, clock(8), method="midpoint")
    euler = odeint(lambda u, y: v(y, u), x, clock(8), method="euler")
    torch.testing.assert_close(
        continuous.integrate(v, x, clock(8), "midpoint", True), midpoint, rtol=0, atol=1e-13
    )
    torch.testing.assert_close(continuous.integrate(v, x, clock(8), "euler", True), euler, rtol=0, atol=1e-13)


# ------------------------------------------------------------------------------------------------- moving densities


def test_along_a_trajectory_the_logarithm_of_the_density_falls_by_the_divergence():
    # FLW-6: log p falls by 0.3231754 from 0.7 on: minus ln(dx_1/dx_0) = −ln(sin x_1/sin x_0).
    moved = continuous.transport(sine, START, clock(200))
    assert float(moved.log_det) == pytest.approx(0.3231754, abs=5e-8)
    h = 1e-5
    ends = continuous.integrate(sine, torch.cat([START + h, START - h]), clock(200))[:, 0]
    assert float(((ends[0] - ends[1]) / (2 * h)).log()) == pytest.approx(float(moved.log_det), abs=1e-8)


def test_the_transported_density_solves_the_equation_of_continuity():
    # In one dimension, on the whole line: ∂_u p = −∂_x (v p) by central differences, for p carried by the flow from N(0, 1).
    def carried(x, u):
        z, log_det = continuous.transport(sine, x, clock(60, u, 0.0))
        return (coupling.normal_log_density(z) + log_det).exp()

    x, u, h = torch.linspace(-2, 2, 41, dtype=torch.float64)[:, None], 0.6, 1e-3
    rate = (carried(x, u + h) - carried(x, u - h)) / (2 * h)
    flux = [carried(x + k * h, u) * sine(x + k * h, u)[:, 0] for k in (1, -1)]
    # (6.2.22): h²/6 of third derivatives, below 10².
    assert float((rate + (flux[0] - flux[1]) / (2 * h)).abs().max()) < 2e-5
    # (6.2.23): convection and compression.
    slope = (carried(x + h, u) - carried(x - h, u)) / (2 * h)
    parts = -sine(x, u)[:, 0] * slope - carried(x, u) * continuous.divergence(sine, x, u)
    assert float((rate - parts).abs().max()) < 2e-5


@pytest.mark.parametrize("d", [1, 2, 5])
def test_the_divergence_of_a_network_is_the_trace_of_its_jacobian(d):
    net, x = lively(d), normal(7, d)
    for u in (0.3, torch.rand(7, generator=seeded(2), dtype=torch.float64)):
        v, trace = net.with_divergence(x, u)
        torch.testing.assert_close(v, net(x, u), rtol=0, atol=1e-14)
        torch.testing.assert_close(trace, continuous.divergence(net, x, u), rtol=0, atol=1e-13)
    j = torch.stack([torch.autograd.functional.jacobian(lambda y: net(y[None], 0.3)[0], y) for y in x])
    expected = j.diagonal(dim1=1, dim2=2).sum(1)
    torch.testing.assert_close(continuous.divergence(net, x, 0.3), expected, rtol=0, atol=1e-13)


def test_a_velocity_that_does_not_depend_on_x_compresses_nothing():
    moved = continuous.transport(lambda x, u: torch.ones_like(x) * u, normal(3, 2), clock(4))
    assert float(moved.log_det.abs().max()) == 0
    # … nor one that rotates: ∇·v = 0 with ∇v ≠ 0.
    spin = continuous.transport(lambda x, u: torch.stack([-x[:, 1], x[:, 0]], 1), normal(3, 2), clock(4))
    assert float(spin.log_det.abs().max()) == 0


@pytest.mark.parametrize("d", [2, 3])
def test_signs_estimate_a_trace_without_bias_and_with_the_variance_of_what_is_mixed(d):
    net, x = lively(d), normal(4, d)
    signs = torch.tensor(list(product([-1.0, 1.0], repeat=d)), dtype=torch.float64)
    each = torch.stack(
        [continuous.divergence(net, x, 0.2, e.expand(1, 4, d)) for e in signs]  # all 2^d of them
    )
    exact = continuous.divergence(net, x, 0.2)
    torch.testing.assert_close(each.mean(0), exact, rtol=0, atol=1e-13)  # CNF-01
    j = coupling.jacobian(lambda y: net(y, 0.2), x)
    torch.testing.assert_close(
        each.var(0, correction=0), continuous.hutchinson_variance(j), rtol=0, atol=1e-12
    )
    together = continuous.divergence(net, x, 0.2, signs[:, None].expand(-1, 4, -1))
    torch.testing.assert_close(together, exact, rtol=0, atol=1e-13)
    # Along a trajectory too: the mean over all signs is the exact integral.
    path = [continuous.transport(net, x, clock(6), probes=e.expand(1, 4, d)).log_det for e in signs]
    exact_path = continuous.transport(net, x, clock(6)).log_det
    torch.testing.assert_close(torch.stack(path).mean(0), exact_path, rtol=0, atol=1e-12)


def test_an_euler_step_is_a_residual_layer_whose_log_determinant_tends_to_the_divergence():
    v, x = lively(), normal(30, 2)
    gaps = []
    for eps in (0.02, 0.01):
        step = coupling.jacobian(
            lambda y, eps=eps: continuous.integrate(v, y, tensor(0.4, 0.4 + eps), "euler"), x
        )
        exact = torch.linalg.slogdet(step)[1]
        gaps.append(float((exact / eps - continuous.divergence(v, x, 0.4)).abs().max()))
    # CNF-06: log|det(I + εJ)| = ε tr J − ε² tr J²/2 + …
    assert gaps[0] / gaps[1] == pytest.approx(2, abs=0.1)


@pytest.mark.parametrize(("eps", "invertible"), [(0.9, True), (1.1, False)])
def test_a_residual_layer_is_invertible_below_the_inverse_of_its_lipschitz_constant(eps, invertible):
    # x + ε sin x has the least slope 1 − ε, at π.
    x = torch.linspace(-7, 7, 2001, dtype=torch.float64)[:, None]
    y = continuous.integrate(lambda x, u: x.sin(), x, tensor(0.0, eps), "euler")
    assert bool((y.diff(dim=0) > 0).all()) is invertible


# ------------------------------------------------------------------------------------------------- the flow


@pytest.mark.parametrize("d", [1, 2, 3])
def test_the_density_of_a_flow_is_that_of_its_map_up_to_the_error_of_the_solver(d):
    net, x = lively(d), normal(15, d, seed=3)
    gaps, rounds = [], []
    for steps in (16, 32):
        flow = continuous.ContinuousFlow(d, steps=steps, velocity=net)
        log_p, brute = flow.log_prob(x), coupling.change_of_variables(flow.forward, x)
        gaps.append(float((log_p - brute).abs().max()))
        rounds.append(float((flow.inverse(flow(x)) - x).abs().max()))
        expected = coupling.normal_log_density(flow(x)) + flow.log_det(x)
        torch.testing.assert_close(log_p, expected, rtol=0, atol=1e-13)
    assert gaps[1] < gaps[0] / 2**3.5 and gaps[1] < 1e-5  # FLW-6, order four: 32⁻⁴ = 10⁻⁶
    assert rounds[1] < rounds[0] / 2**3.5


def test_the_density_integrates_to_one_and_is_that_of_the_samples():
    flow = continuous.ContinuousFlow(2, steps=16, velocity=lively(strength=1.0))
    grid = coupling.box([-8, -8], [8, 8], [80, 80])
    p = flow.log_prob(grid.x).exp() * grid.cell
    assert float(p.sum()) == pytest.approx(1, abs=2e-5)  # the solver's h⁴ = 1.5·10⁻⁵
    x = flow.sample(10000, seeded(4))
    for f, h in (
        (x[:, 0], grid.x[:, 0]),
        (x.prod(1), grid.x.prod(1)),
        (x.cos().prod(1), grid.x.cos().prod(1)),
    ):
        error = 5 * float(f.std()) / math.sqrt(len(x))
        assert float(f.mean()) == pytest.approx(float(p @ h), abs=error)


def test_zuko_with_the_same_velocity_has_the_same_density():
    net, x = lively(), normal(12, 2, seed=5)
    flow = continuous.ContinuousFlow(2, steps=128, velocity=net)
    back = zuko.transforms.FreeFormJacobianTransform(
        lambda u, y: net(y, u), t0=1.0, t1=0.0, atol=1e-9, rtol=1e-8
    )
    base = zuko.distributions.DiagNormal(torch.zeros(2).double(), torch.ones(2).double())
    peer = zuko.distributions.NormalizingFlow(back, base)
    # Ours 128⁻⁴ = 4·10⁻⁹ times numbers of order ten; the peer's tolerance, 10⁻⁸ a step.
    torch.testing.assert_close(flow.log_prob(x), peer.log_prob(x), rtol=0, atol=1e-6)
    torch.testing.assert_close(flow.inverse(x), back.inv(x), rtol=0, atol=1e-6)


def test_log_prob_is_differentiable_in_points_and_weights():
    flow = continuous.ContinuousFlow(2, 6, steps=2, velocity=lively(width=6).requires_grad_(True))
    x = normal(3, 2, seed=6).requires_grad_()
    assert torch.autograd.gradcheck(flow.log_prob, (x,), atol=1e-6)
    (weight,) = [p for name, p in flow.named_parameters() if name.endswith("layers.2.weight")]
    flow.log_prob(x).sum().backward()
    with torch.no_grad():
        h, values = 1e-5, []
        for sign in (1, -2):
            weight[2, 3] += sign * h
            values.append(float(flow.log_prob(x).sum()))
        weight[2, 3] += h
    assert float(weight.grad[2, 3]) == pytest.approx((values[0] - values[1]) / (2 * h), abs=1e-6)


def test_a_flow_starts_as_the_identity_and_far_points_stay_finite():
    flow, x = continuous.ContinuousFlow(3, generator=seeded(1)), normal(5, 3)
    torch.testing.assert_close(flow(x), x, rtol=0, atol=0)
    torch.testing.assert_close(flow.log_prob(x), coupling.normal_log_density(x), rtol=0, atol=0)
    far = continuous.ContinuousFlow(2, velocity=lively()).log_prob(tensor(1e3, -1e5, 1e50, 0.0).reshape(2, 2))
    assert bool(far.isfinite().all()) and bool((far < -1e5).all())


# ------------------------------------------------------------------------------------------------- flow matching, exactly

LAW = coupling.target(tensor(-1.5, 0.3, 1.2, -0.4, 0.1, 1.3).reshape(3, 2), 0.09, tensor(0.2, 0.5, 0.3))


def test_the_marginal_velocity_is_the_mean_slope_of_the_lines_through_a_place():
    # The regression itself: lines from z to a that pass near x at u, and the mean of a − z over them.
    u, x, n = 0.4, tensor(0.2, 0.1)[None], 400000
    a, z = LAW.sample(n, seeded(6)), normal(n, 2, seed=7)
    near = ((u * a + (1 - u) * z - x).abs() < 0.06).all(1)
    slopes = (a - z)[near]
    exact = continuous.marginal_velocity(LAW)(x, u)[0]
    error = 5 * slopes.std(0) / math.sqrt(len(slopes))
    # The cell's width costs h²/6 of second derivatives: below 0.01.
    assert bool(((slopes.mean(0) - exact).abs() < error + 0.01).all()) and len(slopes) > 1000


def test_the_marginal_velocity_moves_the_law_of_the_path():
    # CNF-02: ∂_u p = −∇·(p v) for p_u = Σ w N(u m, Γ_u I), by differences in u and automatic ones in x.
    def log_p(x, u):
        level = coupling.Target(u * LAW.means, u**2 * LAW.variance + (1 - u) ** 2, LAW.weights)
        return level.log_density(x)

    v, h = continuous.marginal_velocity(LAW), 1e-5
    for u in (0.05, 0.5, 0.9):
        x = (u * LAW.sample(50, seeded(8)) + (1 - u) * normal(50, 2, seed=9)).requires_grad_()
        (slope,) = torch.autograd.grad(log_p(x, u).sum(), x)
        x = x.detach()
        rate = (log_p(x, u + h) - log_p(x, u - h)) / (2 * h)
        balance = rate + continuous.divergence(v, x, u) + (v(x, u) * slope).sum(1)
        assert float(balance.abs().max()) < 1e-6  # h² = 10⁻¹⁰ of third derivatives, below 10⁴ at u = 0.9


def test_the_exact_velocity_carries_noise_to_the_target():
    x = LAW.sample(60, seeded(10))
    gaps = []
    for steps in (32, 64):
        flow = continuous.ContinuousFlow(2, steps=steps, velocity=continuous.marginal_velocity(LAW))
        gaps.append(float((flow.log_prob(x) - LAW.log_density(x)).abs().max()))
    assert gaps[1] < 1e-5 and gaps[1] < gaps[0] / 2**3.5  # CNF-02: order four


def test_the_ends_of_the_marginal_velocity_are_known():
    v, x = continuous.marginal_velocity(LAW), normal(6, 2)
    torch.testing.assert_close(v(x, 0.0), LAW.weights @ LAW.means - x, rtol=0, atol=1e-13)
    torch.testing.assert_close(v(x, 1.0), x, rtol=0, atol=1e-13)
    u = torch.rand(6, generator=seeded(1), dtype=torch.float64)
    each = torch.cat([v(x[i : i + 1], float(u[i])) for i in range(6)])
    torch.testing.assert_close(v(x, u), each, rtol=0, atol=1e-14)


def test_it_is_the_probability_flow_of_diffusion_in_another_clock():
    law = score.mixture(LAW.means, LAW.variance, LAW.weights)
    v, x = continuous.marginal_velocity(LAW), normal(20, 2, seed=11)
    for u in (0.01, 0.3, 0.7, 0.99):
        peer = score.path_velocity(x, law.score, score.path("flow", u))
        # CNF-05. The peer divides by u: rounding / u.
        torch.testing.assert_close(v(x, u), peer, rtol=0, atol=1e-11)
    # The trajectories: x_u = r x_t with r² = u² + (1 − u)², e^{−t} = u/r.
    gaps = []
    for n in (100, 200):
        clocks = clock(n, 0.05, 0.9)
        r = (clocks**2 + (1 - clocks) ** 2).sqrt()
        diffusion = score.probability_flow(x / r[0], law.score, (r / clocks).log(), "heun")
        gaps.append(float((continuous.integrate(v, x, clocks) - r[-1] * diffusion).abs().max()))
    # Heun's h²: 2·10⁻⁵ times numbers of order one.
    assert gaps[1] < 2e-4 and gaps[0] / gaps[1] == pytest.approx(4, abs=0.4)


@pytest.mark.parametrize("z", [-2.0, 0.3, 1.1])
def test_in_one_dimension_every_such_flow_is_the_monotone_map(z):
    law = coupling.two_modes()
    flow = continuous.ContinuousFlow(1, steps=100, velocity=continuous.marginal_velocity(law))
    exact = float(coupling.monotone_map(tensor(z), law))
    assert float(flow.inverse(tensor(z)[None])) == pytest.approx(exact, abs=1e-7)  # CNF-04: 100⁻⁴ = 10⁻⁸


@pytest.mark.parametrize(("d", "width"), [(1, 0.5), (2, 1.3)])
def test_the_floor_of_flow_matching_on_a_gaussian_is_half_pi_its_width(d, width):
    law = coupling.target(torch.full((1, d), 0.7, dtype=torch.float64), width**2)
    assert continuous.matching_floor(law) == pytest.approx(d * math.pi * width / 2, abs=1e-9)  # CNF-03
    # With a single datum and no noise left, nothing is left: the floor vanishes with the width.
    assert continuous.matching_floor(coupling.target(torch.zeros(1, 1).double(), 1e-4), 200) < 0.02


def test_the_loss_is_the_floor_plus_the_excess():
    net, n = lively(), 200000
    a, z = LAW.sample(n, seeded(12)), normal(n, 2, seed=13)
    u = torch.rand(n, generator=seeded(14), dtype=torch.float64)
    x = u[:, None] * a + (1 - u[:, None]) * z
    losses = (net(x, u) - (a - z)).square().sum(1)
    expected = continuous.matching_floor(LAW) + continuous.matching_error(net, LAW)
    assert float(losses.mean()) == pytest.approx(expected, abs=5 * float(losses.std()) / math.sqrt(n))
    assert continuous.matching_error(continuous.marginal_velocity(LAW), LAW) == 0
    assert continuous.matching_floor(LAW, 32) == pytest.approx(continuous.matching_floor(LAW, 64), abs=1e-6)


# ------------------------------------------------------------------------------------------------- training


@pytest.fixture(scope="module")
def trained():
    """The ring, learned in two ways with the same number of evaluations of the network: 60 · 4 · 5 · 96 = 450 · 256."""
    law = coupling.ring()
    data, flows = law.sample(10000, seeded(1)), {}
    for name in ("likelihood", "matching"):
        flow = continuous.ContinuousFlow(2, 32, steps=5, generator=seeded(2))
        if name == "likelihood":
            losses = coupling.maximum_likelihood(flow, data, 60, 96, 1e-2, seeded(3))
        else:
            losses = continuous.flow_matching(flow, data, 450, 256, 2e-2, seeded(3))
        flow.requires_grad_(False).steps = 16
        flows[name] = flow, losses
    return law, flows


def test_both_ways_of_training_approach_the_entropy_from_above(trained):
    law, flows = trained
    floor = coupling.cross_entropy(law)
    started = coupling.cross_entropy(law, coupling.normal_log_density)
    x = law.sample(2000, seeded(5))
    for flow, _ in flows.values():
        reached = coupling.cross_entropy(law, flow.log_prob, resolution=2)
        assert floor < reached < floor + 0.6 * (started - floor)
        log_q = flow.log_prob(x)
        assert -float(log_q.mean()) == pytest.approx(reached, abs=5 * float(log_q.std()) / math.sqrt(len(x)))


def test_matching_learns_the_marginal_velocity_and_likelihood_need_not(trained):
    law, flows = trained
    error = {name: continuous.matching_error(flow.velocity, law, 16) for name, (flow, _) in flows.items()}
    resting = continuous.matching_error(lambda x, u: torch.zeros_like(x), law, 16)
    assert error["matching"] < 0.1 * resting
    assert error["likelihood"] > 3 * error["matching"]
    # The training loss stands on its floor, within the scatter of 100 steps of 256 draws and what is still being learned.
    losses = flows["matching"][1][-100:]
    expected = continuous.matching_floor(law, 16) + error["matching"]
    assert float(losses.mean()) == pytest.approx(expected, abs=5 * float(losses.std()) / 10 + 0.05)


def test_a_likelihood_through_a_coarse_solver_can_beat_the_entropy_and_an_invertible_map_cannot():
    # CNF-07. Generation along dx/du = −κx makes the density e^κ times as large, and the divergence says so whatever the steps.
    kappa, law = 3.0, coupling.target(torch.zeros(1, 1).double(), math.exp(-6.0))
    coarse = continuous.ContinuousFlow(1, steps=1, velocity=lambda x, u: -kappa * x)
    entropy = coupling.cross_entropy(law)
    claimed = coupling.cross_entropy(law, coarse.log_prob)
    honest = coupling.cross_entropy(law, lambda x: coupling.change_of_variables(coarse.forward, x))
    # One step of RK4 on the way back is z = R x with R = 1 + κ + κ²/2 + κ³/6 + κ⁴/24 = 16.375 < e^κ = 20.09.
    growth = 1 + kappa + kappa**2 / 2 + kappa**3 / 6 + kappa**4 / 24
    second_moment = (growth * math.exp(-3)) ** 2
    assert claimed == pytest.approx((math.log(2 * math.pi) + second_moment) / 2 - kappa, abs=1e-12)
    assert honest == pytest.approx((math.log(2 * math.pi) + second_moment) / 2 - math.log(growth), abs=1e-12)
    assert claimed < entropy < honest
    grid = coupling.box([-20 / growth], [20 / growth], [400])
    mass = float(coarse.log_prob(grid.x).exp().sum() * grid.cell)
    assert mass == pytest.approx(math.exp(kappa) / growth, abs=1e-12)  # 1.2266: no density


def test_one_seed_is_one_run_and_the_global_stream_is_left_alone():
    state, data, runs = torch.get_rng_state(), coupling.ring().sample(500, seeded(1)), []
    for _ in range(2):
        flow = continuous.ContinuousFlow(2, 8, steps=2, generator=seeded(2))
        losses = continuous.flow_matching(flow, data, 5, 16, generator=seeded(3))
        runs.append((losses, flow.sample(4, seeded(4))))
    assert torch.equal(runs[0][0], runs[1][0]) and torch.equal(runs[0][1], runs[1][1])
    assert torch.equal(state, torch.get_rng_state())


# ------------------------------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: continuous.ContinuousFlow(0), "d"),
        (lambda: continuous.ContinuousFlow(2, width=0), "width"),
        (lambda: continuous.ContinuousFlow(2, steps=0), "steps"),
        (lambda: continuous.ContinuousFlow(2).log_prob(torch.zeros(3, 3)), "x"),
        (lambda: continuous.ContinuousFlow(2).forward(tensor([math.nan, 0.0])), "x"),
        (lambda: continuous.ContinuousFlow(2).inverse(torch.zeros(3)), "z"),
        (lambda: continuous.ContinuousFlow(2).sample(0), "n"),
        (lambda: continuous.integrate(sine, START, tensor(0.0)), "times"),
        (lambda: continuous.integrate(sine, START, tensor(0.0, 1.0, 0.5)), "times"),
        (lambda: continuous.integrate(sine, START, tensor(0.0, math.nan)), "times"),
        (lambda: continuous.integrate(sine, START, clock(3), "heun"), "method"),
        (lambda: continuous.integrate(lambda x, u: x**2, 1e3 * START, clock(9)), "velocity"),
        (lambda: continuous.divergence(lambda x, u: x[:, :0], START, 0.0), "velocity"),
        (lambda: continuous.divergence(sine, START, 0.0, torch.ones(1, 2, 1)), "probes"),
        (lambda: continuous.hutchinson_variance(torch.zeros(2, 2)), "jacobian"),
        (lambda: continuous.marginal_velocity(LAW)(torch.zeros(3, 3), 0.5), "x"),
        (lambda: continuous.marginal_velocity(LAW)(torch.zeros(3, 2), 1.5), "u"),
        (lambda: continuous.matching_floor(coupling.two_modes(d=3)), "law"),
        (lambda: continuous.matching_floor(LAW, 0), "nodes"),
        (lambda: continuous.flow_matching(continuous.ContinuousFlow(2), torch.zeros(3, 3)), "data"),
        (lambda: continuous.flow_matching(continuous.ContinuousFlow(2), torch.zeros(0, 2)), "data"),
        (
            lambda: continuous.flow_matching(continuous.ContinuousFlow(2), torch.zeros(3, 2), rate=-1.0),
            "rate",
        ),
    ],
)
def test_bad_input_is_refused_by_name(call, name):
    with pytest.raises(ValueError, match=rf"^{name}"):
        call()
