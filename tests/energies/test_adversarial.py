"""Adversaries: quadrature, enumeration, automatic differentiation, SciPy and POT, simulation with error bars."""

import math
from itertools import combinations, product

import numpy as np
import ot
import pytest
import torch
from scipy import integrate, linalg, optimize, stats
from scipy.spatial import distance
from torch.nn.functional import logsigmoid, softplus

from physgen.energies import adversarial
from physgen.energies.adversarial import TOY, Game

NAN, INF = float("nan"), float("inf")
LOG2, LOG4 = math.log(2), math.log(4)
GRID = torch.linspace(-20, 21, 4101, dtype=torch.float64)
BILINEAR, DIRAC = Game("linear"), Game(variance=0.0)


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def tensor(*values):
    return torch.tensor(values, dtype=torch.float64)


def bell(mean, std=1.0, grid=GRID):
    return torch.exp(-((grid - mean) ** 2) / (2 * std * std)) / (std * math.sqrt(2 * math.pi))


def random_densities(n, seed):
    """Mixtures of two Gaussians with random weights, places and widths."""
    u = torch.rand(n, 5, generator=seeded(seed), dtype=torch.float64).tolist()
    return torch.stack(
        [w * bell(8 * a - 4, 0.5 + b) + (1 - w) * bell(8 * c - 4, 0.5 + d) for w, a, b, c, d in u]
    )


# ------------------------------------------------------------------------------------------------- the value of the game


def test_the_optimal_discriminator_maximises_the_payoff_at_each_point():
    for p, q in [(0.3, 0.3), (0.9, 0.1), (1e-3, 4.0), (2.0, 0.7)]:
        best = optimize.minimize_scalar(
            lambda d, p=p, q=q: -p * math.log(d) - q * math.log1p(-d),
            bounds=(1e-9, 1 - 1e-9),
            method="bounded",
            options={"xatol": 1e-12},
        )
        # a maximum is flat: its place is known to the root of the rounding of its height
        assert abs(float(adversarial.optimal_discriminator(tensor(p), tensor(q))) - best.x) < 1e-7


def test_the_optimal_discriminator_is_a_half_at_equilibrium_and_certain_only_off_the_other_support():
    p = tensor(0.3, 1e-320, 1e300, 0.5, 0.0, 0.0)
    assert torch.equal(adversarial.optimal_discriminator(p, p), torch.full_like(p, 0.5))
    q = tensor(0.0, 3e-320, 1e300 / 3, 0.0, 1.0, 0.0)
    # the third of a subnormal number has few digits: 1e-320 is 2024 units
    assert torch.allclose(
        adversarial.optimal_discriminator(p, q), tensor(1, 0.25, 0.75, 1, 0, 0.5), rtol=0, atol=1e-3
    )


def test_the_value_of_two_unit_gaussians_at_distance_one_is_minus_1_163451():
    p, q = bell(0), bell(1)
    value, _ = integrate.quad(
        lambda x: (
            stats.norm.pdf(x)
            * (stats.norm.logpdf(x) - np.logaddexp(stats.norm.logpdf(x), stats.norm.logpdf(x, 1)))
            + stats.norm.pdf(x, 1)
            * (stats.norm.logpdf(x, 1) - np.logaddexp(stats.norm.logpdf(x), stats.norm.logpdf(x, 1)))
        ),
        -20,
        21,
        epsabs=1e-13,
        limit=200,
    )
    found = adversarial.game_value(adversarial.optimal_discriminator(p, q), p, q, GRID)
    assert abs(float(found) - value) < 1e-12 and abs(float(found) + 1.163451) < 5e-7
    assert abs(float(adversarial.jensen_shannon(p, q, GRID)) - 0.111421) < 5e-7


def test_the_jensen_shannon_divergence_is_scipys_distance_squared():
    p, q = random_densities(6, 1), random_densities(6, 2)
    found = adversarial.jensen_shannon(p, q, GRID)
    for a, b, value in zip(p.numpy(), q.numpy(), found.tolist(), strict=True):
        # on a uniform grid, for densities that vanish at its ends, both are the same sum
        assert abs(value - distance.jensenshannon(a, b) ** 2) < 1e-12


def test_the_best_discriminator_leaves_twice_the_divergence_above_minus_log_four():
    p, q = random_densities(20, 3), random_densities(20, 4)
    value = adversarial.game_value(adversarial.optimal_discriminator(p, q), p, q, GRID)
    js = adversarial.jensen_shannon(p, q, GRID)
    assert torch.allclose(value, 2 * js - LOG4, rtol=0, atol=1e-13)
    assert torch.allclose(js, adversarial.jensen_shannon(q, p, GRID), rtol=0, atol=1e-13)
    assert bool((js > 1e-3).all()) and bool((js < LOG2).all())
    assert torch.allclose(
        adversarial.jensen_shannon(p, p, GRID), torch.zeros(20).double(), rtol=0, atol=1e-14
    )


def test_what_another_discriminator_loses_is_the_mean_relative_entropy_of_its_bets():
    p, q = bell(0), bell(1.5, 0.7)
    best = adversarial.optimal_discriminator(p, q)
    for seed in range(5):
        shift = torch.sin(GRID * (seed + 1) / 3 + seed)
        d = torch.sigmoid(torch.logit(best.clamp(1e-12, 1 - 1e-12)) + shift)
        bets = best * (best / d).log() + torch.special.xlog1py(1 - best, -best) - (1 - best) * torch.log1p(-d)
        lost = torch.trapezoid((p + q) * bets, GRID)
        value = adversarial.game_value(best, p, q, GRID) - adversarial.game_value(d, p, q, GRID)
        # the clamp of the logit at 10⁻¹² moves what lies there by so much
        assert float(value) > 0.01 and abs(float(value - lost)) < 1e-10


def test_a_discriminator_that_is_wrong_with_certainty_has_lost_everything():
    p, q = bell(0), bell(1)
    assert float(adversarial.game_value(torch.zeros_like(p), p, q, GRID)) == -INF


def test_densities_are_divided_by_their_integral_and_counts_are_refused():
    p, q = bell(0), bell(1)
    js = adversarial.jensen_shannon(p, q, GRID)
    assert torch.allclose(adversarial.jensen_shannon(1.1 * p, 0.9 * q, GRID), js, rtol=0, atol=1e-14)
    with pytest.raises(ValueError, match="p: got the integral"):
        adversarial.jensen_shannon(p / p.sum(), q, GRID)


def test_the_divergence_has_the_gradient_of_finite_differences_also_where_densities_vanish():
    grid = torch.linspace(0, 1, 101, dtype=torch.float64)

    def value(a):
        return adversarial.jensen_shannon(1 + a * (grid - 0.5), 2 * grid, grid)

    a = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(value(a), a)
    # central differences err by h²/6 times a third derivative of order one
    assert abs(float(slope) - float(value(tensor(0.301)) - value(tensor(0.299))) / 0.002) < 1e-6


# ------------------------------------------------------------------------------------------------- supports that do not meet


def test_boxes_apart_cost_log_two_wherever_they_are_while_the_transport_cost_grows():
    # edges halfway between points, where a trapezoidal rule on a box is exact
    h = 1e-3
    grid = torch.arange(-1000, 5000, dtype=torch.float64) * h + h / 2
    box = lambda a: ((grid > a) & (grid < a + 1)).double()  # noqa: E731
    for theta in (0.0, 0.25, 0.7, 1.0, 1.5, 3.0):
        js = adversarial.jensen_shannon(box(0), box(theta), grid)
        assert abs(float(js) - min(theta, 1) * LOG2) < 1e-12
        # F is off by at most h/2 within one step about each of four edges
        assert abs(float(adversarial.wasserstein(box(0), box(theta), grid)) - theta) < 4 * h * h


def test_the_transport_cost_on_a_line_is_that_of_scipy_and_of_pot():
    p, q = random_densities(4, 5), random_densities(4, 6)
    x = GRID.numpy()
    for a, b, value in zip(p, q, adversarial.wasserstein(p, q, GRID).tolist(), strict=True):
        a, b = (a / a.sum()).numpy(), (b / b.sum()).numpy()
        # where F_p − F_q changes sign its modulus has a kink: an error of step² times the jump of the slope, which is < 2
        assert abs(value - stats.wasserstein_distance(x, x, a, b)) < 2e-4
        assert abs(value - ot.wasserstein_1d(x, x, a, b)) < 2e-4
    width = adversarial.wasserstein(bell(0), bell(0, 2.0), GRID)
    assert abs(float(width) - math.sqrt(2 / math.pi)) < 2e-4


@pytest.mark.parametrize("delta", [0.0, 0.3, 1.0, 2.0, 5.0, 8.0])
def test_the_divergence_of_shifted_gaussians_is_that_of_the_grid(delta):
    found = adversarial.shifted_gaussians(tensor(delta))
    p = bell(0)
    assert abs(float(found.jensen_shannon - adversarial.jensen_shannon(p, bell(delta), GRID))) < 1e-13
    step = 1e-4
    up, down = (adversarial.jensen_shannon(p, bell(delta + s), GRID) for s in (step, -step))
    # central differences: step²/6 of a third derivative of order one, and rounding 10⁻¹⁶/step
    assert abs(float(found.minimax - (up - down) / step)) < 1e-8
    assert abs(float(found.wasserstein - adversarial.wasserstein(p, bell(delta), GRID))) < 1e-10


@pytest.mark.parametrize("delta", [3.0, 10.0, 40.0, 70.0])
def test_far_away_the_missing_part_and_the_gradient_keep_their_relative_accuracy(delta):
    found = adversarial.shifted_gaussians(tensor(delta))
    far = math.exp(-delta * delta / 8)

    def mean(function):  # in v = δz, where the functions are of width one
        limit = min(9 * delta, 80)
        weight = lambda v: math.exp(-v * v / (2 * delta**2)) / (delta * math.sqrt(2 * math.pi))  # noqa: E731
        return integrate.quad(lambda v: function(v) * weight(v), -limit, limit, epsabs=1e-14, limit=400)[0]

    missing = far * mean(lambda v: math.exp(-v / 2) * np.logaddexp(0, v))
    assert abs(float(found.missing) / missing - 1) < 1e-10
    assert abs(float(found.minimax) / (delta * far * mean(lambda v: 0.5 / math.cosh(v / 2))) - 1) < 1e-10
    # the law e^{−δ²/8} √(2π)/δ: the width of the Gaussian in v takes away at most M/(2δ²), M the second moment of the bridge
    m0, m2 = (
        integrate.quad(lambda v, k=k: v**k * math.exp(-v / 2) * np.logaddexp(0, v), -80, 80)[0]
        for k in (0, 2)
    )
    assert abs(m0 - 2 * math.pi) < 1e-8
    ratio = float(found.missing) / (math.sqrt(2 * math.pi) * far / delta)
    assert 0 < 1 - ratio < m2 / m0 / (2 * delta**2) and float(found.missing) <= LOG2 * far


def test_the_two_losses_of_the_generator_have_the_gradients_of_two_divergences():
    # with D = D* held fixed, log D*(x) = −log(1 + e^{δx − δ²/2}); the generator's points move with it
    for delta in (0.5, 2.0, 6.0):
        x = (GRID + delta).requires_grad_(True)
        logit = delta * delta / 2 - delta * x
        found = adversarial.shifted_gaussians(tensor(delta))
        for loss, slope in (
            (logsigmoid(-logit), found.minimax),
            (-logsigmoid(logit), found.nonsaturating),
        ):
            (push,) = torch.autograd.grad(loss.sum(), x, retain_graph=True)
            assert abs(float(torch.trapezoid(push * bell(0), GRID) - slope)) < 1e-12
        # the second one is the slope of KL(q ‖ p) − 2 JSD
        step = 1e-4
        p, near = bell(0), [bell(delta + s) for s in (step, -step)]
        values = [
            adversarial.f_divergence("kl", q, p, GRID) - 2 * adversarial.jensen_shannon(p, q, GRID)
            for q in near
        ]
        assert abs(float((values[0] - values[1]) / (2 * step) - found.nonsaturating)) < 1e-8


# ------------------------------------------------------------------------------------------------- conditions


def test_a_generator_with_the_right_marginal_that_ignores_the_label_is_worth_minus_1_1918():
    p, weights = torch.stack([bell(-1), bell(1)]), tensor(0.5, 0.5)
    blind = p.mean(0).expand(2, -1)
    assert abs(float(adversarial.conditional_value(p, p, weights, GRID)) + LOG4) < 1e-12
    value = float(adversarial.conditional_value(p, blind, weights, GRID))
    assert abs(value + 1.1918) < 5e-5
    # without its label D cannot tell this generator from the data
    assert abs(float(adversarial.jensen_shannon(p.mean(0), blind[0], GRID))) < 1e-14
    # and labels that do not belong to their points are worse still
    assert float(adversarial.conditional_value(p, p.flip(0), weights, GRID)) > value + 0.1


def test_the_conditional_value_is_that_of_the_joint_law_of_points_and_labels():
    p, q, weights = random_densities(3, 7), random_densities(3, 8), tensor(0.2, 0.5, 0.3)
    grid = torch.arange(3 * len(GRID), dtype=torch.float64) * 0.01  # the classes side by side
    joint = [(weights[:, None] * x).flatten() for x in (p, q)]
    expected = 2 * adversarial.jensen_shannon(*joint, grid) - LOG4
    assert abs(float(adversarial.conditional_value(p, q, weights, GRID) - expected)) < 1e-12


# ------------------------------------------------------------------------------------------------- other divergences

GENERATORS = {
    "kl": lambda u: u * math.log(u),
    "reverse_kl": lambda u: -math.log(u),
    "pearson": lambda u: (u - 1) ** 2,
    "hellinger": lambda u: (math.sqrt(u) - 1) ** 2,
    "gan": lambda u: u * math.log(u) - (u + 1) * math.log(u + 1),
}


def test_divergences_of_shifted_gaussians_have_their_closed_forms():
    p = bell(0)
    for mu in (0.0, 0.5, 1.0, 2.0):
        expected = {
            "kl": mu**2 / 2,
            "reverse_kl": mu**2 / 2,
            "pearson": math.expm1(mu**2),
            "hellinger": -2 * math.expm1(-(mu**2) / 8),
            "gan": 2 * float(adversarial.shifted_gaussians(tensor(mu)).jensen_shannon) - LOG4,
        }
        for name, value in expected.items():
            # the integrand of χ² is about e^{μ²} wide and as high; rounding scales with it
            found = float(adversarial.f_divergence(name, p, bell(mu), GRID))
            assert abs(found - value) < 1e-13 * math.exp(mu**2)


@pytest.mark.parametrize("name", GENERATORS)
def test_the_optimal_critic_attains_its_divergence_and_no_other_critic_exceeds_it(name):
    grid = torch.linspace(-8, 9, 1701, dtype=torch.float64)
    p, q = bell(0, 1, grid), bell(1, 1, grid)
    value, best = adversarial.f_divergence(name, p, q, grid), adversarial.optimal_critic(name, p, q)
    assert abs(float(adversarial.critic_value(name, best, p, q, grid) - value)) < 1e-12
    for seed in range(4):
        other = best * (1 + 0.3 * torch.sin(grid * (seed + 1)))  # within the domain of f* by its sign
        other = other.clamp_max(0.999) if name == "hellinger" else other
        assert float(adversarial.critic_value(name, other, p, q, grid)) < float(value) - 1e-4


@pytest.mark.parametrize("name", GENERATORS)
def test_each_conjugate_is_the_supremum_of_its_definition(name):
    f = GENERATORS[name]
    flat = torch.ones(3, dtype=torch.float64)
    grid = tensor(0.0, 0.5, 1.0)
    for u in (0.3, 1.0, 2.5):
        # at constant densities p = u q the value of a constant critic is uT − f*(T); its best is f(u)
        t = float(adversarial.optimal_critic(name, flat * u, flat)[0])
        conjugate = -float(adversarial.critic_value(name, flat * t, flat, flat, grid)) + t
        best = optimize.minimize_scalar(lambda v, t=t: f(v) - v * t, bounds=(1e-6, 50), method="bounded")
        assert abs(conjugate + best.fun) < 1e-8 and abs(best.x - u) < 1e-4 * 50


def test_one_gaussian_covers_two_modes_or_takes_one_as_its_divergence_says():
    target = (bell(-3, 0.5) + bell(3, 0.5)) / 2
    cover = adversarial.best_gaussian("kl", target, GRID)
    assert abs(cover.mean) < 1e-6 and abs(cover.std - math.sqrt(9.25)) < 1e-6
    seek = adversarial.best_gaussian("reverse_kl", target, GRID)
    # each mode feels of the other a part of order e^{−18/0.25·…} < 10⁻⁷
    assert abs(abs(seek.mean) - 3) < 1e-5 and abs(seek.std - 0.5) < 1e-5 and abs(seek.value - LOG2) < 1e-6
    game = adversarial.best_gaussian("gan", target, GRID)
    assert abs(abs(game.mean) - 3) < 1e-4 and abs(game.std - 0.5) < 1e-4
    assert abs(game.value - (2 * adversarial.lost_modes_divergence(1, 2) - LOG4)) < 1e-5
    nearer = adversarial.best_gaussian("gan", (bell(-2, 0.5) + bell(2, 0.5)) / 2, GRID)
    assert abs(nearer.mean) < 1e-5 and nearer.std > 2


# ------------------------------------------------------------------------------------------------- the smallest game


def hermite_loss(state, variance):
    """L by Gauss–Hermite quadrature, differentiable."""
    x, weight = np.polynomial.hermite_e.hermegauss(120)
    x, weight = torch.from_numpy(x) * math.sqrt(variance), torch.from_numpy(weight / weight.sum())
    theta, w = state
    return (logsigmoid(w * x) + logsigmoid(-w * (x + theta))) @ weight


@pytest.mark.parametrize("game", [TOY, DIRAC, Game(variance=2.5, penalty=0.4), Game("linear", penalty=0.3)])
def test_the_discriminator_climbs_and_the_generator_descends_one_loss(game):
    for theta, w in [(1.0, 0.0), (0.5, -0.7), (-1.2, 0.9), (0.0, 1.3)]:
        state = tensor(theta, w).requires_grad_(True)
        value = -state.prod() if game.critic == "linear" else hermite_loss(state, game.variance)
        (slope,) = torch.autograd.grad(value, state)
        # 120 nodes: σ(wx) has its poles at π/(|w|√v) ≥ 1.5, where the rule errs by less than e^{−1.5·√240}
        expected = tensor(-float(slope[0]), float(slope[1]) - game.penalty * w)
        assert abs(float(adversarial.loss(state.detach(), game)) - float(value.detach())) < 1e-9
        assert torch.allclose(adversarial.vector_field(state.detach(), game), expected, rtol=0, atol=1e-9)


def test_expectations_stay_exact_for_steep_discriminators():
    game = Game(variance=4.0)
    for w in (0.1, 5.0, 90.0):
        fooled = lambda z, w=w: stats.norm.pdf(z) / (1 + math.exp(-min(max(w * (2 * z + 1), -700), 700)))  # noqa: E731
        edges = [-0.5 + s * k / w for s in (-1, 1) for k in (20, 5, 1) if k / w < 8] + [-0.5]
        expected = w * integrate.quad(fooled, -9, 9, points=sorted(edges), epsabs=1e-14, limit=900)[0]
        found = adversarial.vector_field(tensor(1.0, w), game)[0]
        assert abs(float(found) - expected) < 1e-11 * max(1, w)


def test_the_toy_circles_its_equilibrium_as_simultaneous_steps_of_a_tenth_found():
    path = adversarial.trajectory(tensor(1, 0), TOY, 0.1, 400)
    # the notes' example after 41 and 81 updates, to its two digits
    assert torch.allclose(path[41], tensor(0.27, -0.47), rtol=0, atol=5e-3)
    assert torch.allclose(path[81], tensor(-0.17, 0.02), rtol=0, atol=5e-3)
    assert float(path[-1].norm()) < 2e-4


@pytest.mark.parametrize("game", [TOY, DIRAC, Game(variance=3.0, penalty=0.2), Game("linear", penalty=0.3)])
def test_the_radius_loses_exactly_twice_the_friction_times_w_squared(game):
    z = 4 * torch.rand(50, 2, generator=seeded(9), dtype=torch.float64) - 2
    lost = 2 * (z * adversarial.vector_field(z, game)).sum(1)
    c = adversarial.friction(z, game)
    assert bool((c >= 0).all())
    assert torch.allclose(lost, -2 * c * z[:, 1] ** 2, rtol=0, atol=1e-13)


@pytest.mark.parametrize("game", [TOY, DIRAC, Game(variance=3.0, penalty=0.2), Game("linear", penalty=0.3)])
def test_the_jacobian_is_the_derivative_of_the_field_and_its_eigenvalues_are_a_damped_rotation(game):
    step = 1e-4
    columns = [
        (adversarial.vector_field(step * e, game) - adversarial.vector_field(-step * e, game)) / (2 * step)
        for e in torch.eye(2, dtype=torch.float64)
    ]
    # |∂³ẇ/∂w³| = 2 E x⁴/8 = 3v²/4 is the largest third derivative, up to 7: step²/6 of it, and rounding 10⁻¹⁶/step
    assert torch.allclose(torch.stack(columns, 1), adversarial.jacobian(game), rtol=0, atol=1.3e-8)
    omega, c = (1, game.penalty) if game.critic == "linear" else (0.5, game.variance / 2 + game.penalty)
    root = complex(c * c / 4 - omega**2) ** 0.5
    found = sorted(torch.linalg.eigvals(adversarial.jacobian(game)).tolist(), key=lambda x: (x.real, x.imag))
    expected = sorted([-c / 2 - root, -c / 2 + root], key=lambda x: (x.real, x.imag))
    assert np.allclose(found, expected, rtol=0, atol=1e-12)


def test_the_flow_of_the_dirac_gan_keeps_its_radius_whatever_its_discriminator():
    times = torch.linspace(0, 30, 61, dtype=torch.float64)
    for game in (BILINEAR, DIRAC):
        path = adversarial.flow(tensor([1.0, 0.5], [0.1, 2.0]), game, times)
        radius = path.square().sum(-1)
        # 30 units of time at a relative tolerance of 10⁻¹¹ a step
        assert torch.allclose(radius, radius[0].expand_as(radius), rtol=1e-8, atol=0)
        assert float(path[:, 0, 0].min()) < -1  # it does go round


def test_the_flow_of_a_linear_critic_is_the_exponential_of_its_jacobian():
    game, times = Game("linear", penalty=0.3), torch.linspace(0, 20, 11, dtype=torch.float64)
    path = adversarial.flow(tensor(1, -0.5), game, times)
    for t, z in zip(times.tolist(), path, strict=True):
        exact = linalg.expm(t * adversarial.jacobian(game).numpy()) @ [1, -0.5]
        assert np.allclose(z, exact, rtol=0, atol=1e-9)


def test_with_any_friction_the_flow_comes_home_from_afar_and_its_radius_never_grows():
    for game in (TOY, Game(variance=0.0, penalty=0.5)):
        path = adversarial.flow(tensor([5.0, 0.0], [-3.0, 4.0]), game, torch.linspace(0, 80, 161).double())
        radius = path.square().sum(-1)
        assert bool((radius.diff(dim=0) < 1e-10).all()) and float(radius[-1].max()) < 1e-3


@pytest.mark.parametrize("rule", adversarial.RULES)
@pytest.mark.parametrize("game", [TOY, Game("linear", penalty=0.3)])
def test_the_update_matrix_is_one_step_of_the_trajectory_near_the_equilibrium(rule, game):
    h, tiny = 0.4, 1e-5
    matrix = adversarial.update_matrix(game, h, rule)
    if rule == "optimistic":
        # two steps: the predecessor of the start is the start
        z = tiny * tensor(0.6, -0.8)
        path = adversarial.trajectory(z, game, h, 2, rule)
        state = torch.cat([z, z])
        for k in (1, 2):
            state = matrix @ state
            assert torch.allclose(path[k] / tiny, state[:2] / tiny, rtol=0, atol=1e-8)
    else:
        step = adversarial.trajectory(tiny * torch.eye(2, dtype=torch.float64), game, h, 1, rule)[1]
        # the field is odd up to terms of third order: tiny² relative
        assert torch.allclose(step.T / tiny, matrix, rtol=0, atol=1e-8)


def growth(game, h, rule):
    return float(torch.linalg.eigvals(adversarial.update_matrix(game, h, rule)).abs().max())


def test_simultaneous_steps_spiral_outwards_by_a_factor_that_is_exact():
    for h in (0.05, 0.3, 1.0):
        path = adversarial.trajectory(tensor(1, 0), BILINEAR, h, 40)
        expected = torch.arange(41, dtype=torch.float64) * 0.5 * math.log1p(h * h)
        assert torch.allclose(path.norm(dim=1).log(), expected, rtol=0, atol=1e-12)
    # the Dirac-GAN with a logistic discriminator: outwards too, by 1 + h²σ(wθ)² in the square
    path = adversarial.trajectory(tensor(1, 0), DIRAC, 0.3, 40)
    ratio = path.square().sum(1)[1:] / path.square().sum(1)[:-1]
    assert torch.allclose(ratio, 1 + 0.09 * torch.sigmoid(path.prod(1))[:-1] ** 2, rtol=0, atol=1e-13)


def test_alternating_steps_keep_area_and_an_ellipse():
    for h in (0.1, 1.0, 1.9):
        matrix = adversarial.update_matrix(BILINEAR, h, "alternating")
        assert (
            abs(float(torch.linalg.det(matrix)) - 1) < 1e-14
            and abs(growth(BILINEAR, h, "alternating") - 1) < 1e-12
        )
        theta, w = adversarial.trajectory(tensor(1, 0.4), BILINEAR, h, 500, "alternating").unbind(-1)
        # rounding at each of 500 steps
        invariant = theta**2 + w**2 - h * theta * w
        assert torch.allclose(invariant, invariant[0].expand_as(invariant), rtol=1e-11, atol=0)
    assert growth(BILINEAR, 2.1, "alternating") > 1.3


def test_extragradient_and_optimistic_steps_contract_where_they_should():
    for h in (0.1, 0.5, 0.9):
        assert abs(growth(BILINEAR, h, "extragradient") - math.sqrt(1 - h**2 + h**4)) < 1e-12
    edge = 1 / math.sqrt(3)
    assert abs(growth(BILINEAR, edge, "optimistic") - 1) < 1e-12
    assert growth(BILINEAR, edge - 0.01, "optimistic") < 1 < growth(BILINEAR, edge + 0.01, "optimistic")
    for rule in ("extragradient", "optimistic"):
        path = adversarial.trajectory(tensor(1, 1), BILINEAR, 0.3, 300, rule)
        assert (
            abs(
                math.log(float(path[300].norm() / path[200].norm())) / 100
                - math.log(growth(BILINEAR, 0.3, rule))
            )
            < 0.01
        )


def test_simultaneous_steps_converge_below_the_friction_and_alternating_ones_far_beyond():
    for gamma in (0.1, 0.5, 1.5):
        game = Game("linear", penalty=gamma)
        assert growth(game, gamma - 1e-3, "simultaneous") < 1 < growth(game, gamma + 1e-3, "simultaneous")
        edge = math.sqrt(gamma**2 + 4) - gamma  # 2hγ + h² = 4
        assert growth(game, edge - 1e-3, "alternating") < 1 < growth(game, edge + 1e-3, "alternating")
    for variance, gamma in ((1.0, 0.0), (0.5, 0.1)):
        game = Game(variance=variance, penalty=gamma)
        edge = 2 * variance + 4 * gamma  # c/ω²
        assert growth(game, edge - 1e-3, "simultaneous") < 1 < growth(game, edge + 1e-3, "simultaneous")
    assert abs(growth(TOY, 0.1, "simultaneous") - math.sqrt(1 - 0.1 / 2 + 0.01 / 4)) < 1e-14


# ------------------------------------------------------------------------------------------------- modes


def test_against_a_fixed_discriminator_no_law_pays_more_than_its_best_point():
    d = torch.rand(12, generator=seeded(10), dtype=torch.float64)
    laws = torch.distributions.Dirichlet(torch.ones(12).double()).sample((1000,))
    assert bool((laws @ d.log() <= d.log().max()).all())


def test_perfect_players_without_memory_hop_for_ever_and_forget_the_weights():
    weights, rounds = tensor(0.7, 0.2, 0.05, 0.05), 2000
    modes = adversarial.best_response_play(weights, rounds, generator=seeded(11))
    assert bool((modes.diff() != 0).all())
    # a walk on the complete graph of four has the uniform law; the eigenvalue −1/3 leaves (1 − 1/3)/(1 + 1/3) of the variance
    error = math.sqrt(3 / 16 / rounds / 2)
    assert bool((torch.bincount(modes, minlength=4) / rounds - 0.25).abs().max() < 4.5 * error)


def test_memory_of_all_rounds_leads_to_the_weights_of_the_data():
    uniform = adversarial.best_response_play(torch.full((8,), 0.125), 80, memory=True, generator=seeded(12))
    assert all(len(set(block.tolist())) == 8 for block in uniform.split(8))
    weights = tensor(0.5, 0.3, 0.15, 0.05)
    counts = torch.bincount(adversarial.best_response_play(weights, 1000, memory=True, generator=seeded(13)))
    # always the mode most below its share: no count leaves its share by the number of modes
    assert bool((counts - 1000 * weights).abs().max() < 4)


def test_packs_punish_a_lost_mode_as_enumeration_says():
    for modes, kept, pack in [(4, 3, 1), (4, 3, 2), (4, 1, 3), (3, 2, 4), (5, 5, 2)]:
        p, q = (
            [math.prod(x) for x in product([1 / k] * k + [0] * (modes - k), repeat=pack)]
            for k in (modes, kept)
        )
        expected = distance.jensenshannon(p, q) ** 2 if modes != kept else 0.0
        assert abs(adversarial.lost_modes_divergence(kept, modes, pack) - expected) < 1e-12
    values = [adversarial.lost_modes_divergence(7, 8, m) for m in (1, 2, 4, 64)]
    assert values == sorted(values) and values[1] > 1.9 * values[0] and values[3] > 0.99 * LOG2


def test_a_perfect_generator_covers_1_minus_e_to_the_minus_nine_halves():
    n, centres = 200_000, adversarial.ring()
    seen = adversarial.occupation(
        adversarial.ring_sample(n, centres, 0.1, generator=seeded(14)), centres, 0.1
    )
    exact = -math.expm1(-4.5)
    assert abs(seen.coverage - exact) < 4.5 * math.sqrt(exact * (1 - exact) / n)
    assert seen.modes == 8 and abs(seen.counts / n - 0.125).max() < 4.5 * math.sqrt(0.125 * 0.875 / n)
    # 2n(log K − H) is χ² with K − 1 degrees of freedom
    assert stats.chi2(7).ppf(1e-6) < 2 * n * seen.reverse < stats.chi2(7).ppf(1 - 1e-6)


def test_occupation_counts_by_hand():
    centres = adversarial.ring(4, 1.0)
    samples = torch.cat([centres[[0, 0, 0, 1]], centres[[1]] * 1.5, centres[[2]] * 1.31])
    seen = adversarial.occupation(samples, centres, 0.1)
    assert seen.counts.tolist() == [3, 2, 1, 0] and seen.inside.tolist() == [3, 1, 0, 0]
    assert seen.modes == 2 and abs(seen.coverage - 4 / 6) < 1e-12 and seen.forward == INF
    assert abs(seen.entropy - stats.entropy([3, 2, 1])) < 1e-12
    assert abs(seen.reverse - stats.entropy([3, 2, 1, 0], [1] * 4)) < 1e-12
    even = adversarial.occupation(torch.cat([samples, centres[[3]]]), centres, 0.1)
    assert abs(even.forward - stats.entropy([1] * 4, [3, 2, 1, 1])) < 1e-12


def test_half_of_the_samples_lie_nearest_to_training_data_if_it_left_no_trace_exactly():
    # over all ways to split eight points into halves: the mean is ½ and the variance that of `error`
    points = torch.randn(8, 2, generator=seeded(15), dtype=torch.float64)
    samples = torch.randn(50, 2, generator=seeded(16), dtype=torch.float64)
    values, errors = [], []
    for half in combinations(range(8), 4):
        rest = [i for i in range(8) if i not in half]
        share = adversarial.training_share(samples, points[list(half)], points[rest])
        values.append(share.value)
        errors.append(share.error)
    assert abs(np.mean(values) - 0.5) < 1e-12
    assert np.allclose(np.var(values), np.square(errors), rtol=1e-10, atol=0)
    copies = points[[0, 1, 2, 3, 0]] + 1e-6
    assert adversarial.training_share(copies, points[:4], points[4:]).value == 1


# ------------------------------------------------------------------------------------------------- networks


def test_networks_side_by_side_are_networks_one_by_one():
    data = adversarial.ring_sample(64, adversarial.ring(), generator=seeded(17))
    players = adversarial.train(
        data, 3, replicas=3, hidden=8, batch=16, records=3, shown=5, generator=seeded(18)
    )
    assert players.samples.shape == (3, 3, 5, 2) and players.steps.tolist() == [1, 2, 3]
    x = torch.randn(7, 2, generator=seeded(19))
    for s in range(3):
        layers = []
        for weight, bias in zip(players.discriminator[::2], players.discriminator[1::2], strict=True):
            linear = torch.nn.Linear(*weight.shape[1:])
            linear.weight.data, linear.bias.data = weight[s].T, bias[s, 0]
            layers += [linear, torch.nn.ReLU()]
        expected = torch.sigmoid(torch.nn.Sequential(*layers[:-1])(x))[:, 0]
        assert torch.allclose(adversarial.discriminate(players, x)[s], expected, rtol=0, atol=1e-6)
    again = adversarial.train(
        data, 3, replicas=3, hidden=8, batch=16, records=3, shown=5, generator=seeded(18)
    )
    assert torch.equal(players.samples, again.samples)
    assert not torch.equal(players.samples[-1, 0], players.samples[-1, 1])


def test_the_first_step_descends_the_loss_that_is_stated_with_packs_and_penalty():
    # Adam's first step is −rate · sign(gradient): signs of an independent gradient, from the same draws
    data = adversarial.ring_sample(32, adversarial.ring(), generator=seeded(20))
    sizes = {"hidden": 4, "batch": 6, "latent": 3, "shown": 1}
    players = adversarial.train(data, 1, pack=2, penalty=5.0, rate=1e-3, generator=seeded(21), **sizes)
    own = seeded(21)
    shapes = [(4, 4), (4, 4), (4, 1), (3, 4), (4, 4), (4, 2)]
    start = [torch.randn(1, *shape, generator=own)[0] * math.sqrt(2 / shape[0]) for shape in shapes]
    index = torch.randint(32, (1, 6), generator=own)[0]
    z = torch.randn(1, 6, 3, generator=own)[0]

    def network(weights, x):
        return torch.relu(torch.relu(x @ weights[0]) @ weights[1]) @ weights[2]

    judge = [w.clone().requires_grad_(True) for w in start[:3]]
    real = data[index].reshape(3, 4).requires_grad_(True)
    loss = softplus(-network(judge, real)).mean()
    loss = loss + softplus(network(judge, network(start[3:], z).reshape(3, 4))).mean()
    slopes = [torch.autograd.grad(network(judge, row).sum(), row, create_graph=True)[0] for row in real]
    loss = loss + 2.5 * torch.stack([slope.square().sum() for slope in slopes]).mean()
    for before, after, slope in zip(
        start, players.discriminator[::2], torch.autograd.grad(loss, judge), strict=False
    ):
        seen = slope.abs() > 1e-5
        assert torch.allclose((after[0] - before)[seen], -1e-3 * slope.sign()[seen], rtol=0, atol=2e-5)


def test_a_penalised_game_learns_mean_and_width_of_a_gaussian():
    data = 1 + 0.5 * torch.randn(4096, 1, generator=seeded(22))
    players = adversarial.train(data, 700, penalty=0.3, replicas=4, latent=2, generator=seeded(23))
    points = adversarial.generate(players, 4000, generator=seeded(24))
    # no theorem says how near: a tenth of the width of the data, ten times the error of 4000 points, and D near ½
    assert float((points.mean((0, 1)) - 1).abs()) < 0.1 and abs(float(points.std(1).mean()) - 0.5) < 0.1
    assert float((adversarial.discriminate(players, data[:500]) - 0.5).abs().mean()) < 0.1


def test_a_plain_game_on_the_ring_loses_most_modes_and_a_penalty_keeps_them():
    centres = adversarial.ring()
    data = adversarial.ring_sample(4096, centres, generator=seeded(25))
    modes, entropy = {}, {}
    for gamma in (0.0, 0.1):
        players = adversarial.train(data, 1600, penalty=gamma, replicas=4, generator=seeded(26))
        seen = [adversarial.occupation(x, centres, 0.1) for x in players.samples[-1]]
        modes[gamma], entropy[gamma] = (np.mean([getattr(s, k) for s in seen]) for k in ("modes", "entropy"))
    # means of four, whose spread is about 0.5 modes and 0.15 nats: 2.5 and 1.4 without a penalty, 7 and 2.05 with it
    assert modes[0.0] < 4.5 < modes[0.1]
    assert entropy[0.0] < math.log(7) < entropy[0.1]


# ------------------------------------------------------------------------------------------------- input

FLAT = torch.ones(3, dtype=torch.float64)
UNIT = tensor(0.0, 0.5, 1.0)
START, POINTS = tensor(1.0, 0.0), torch.zeros(4, 2)
REFUSED = [
    ("p:", lambda: adversarial.optimal_discriminator(torch.ones(3, dtype=torch.int64), FLAT)),
    ("p:", lambda: adversarial.optimal_discriminator(-FLAT, FLAT)),
    ("q:", lambda: adversarial.optimal_discriminator(FLAT, FLAT * NAN)),
    ("q:", lambda: adversarial.optimal_discriminator(FLAT, FLAT[:2])),
    ("p:", lambda: adversarial.optimal_discriminator(0.5, FLAT)),
    ("grid", lambda: adversarial.jensen_shannon(FLAT, FLAT, UNIT.flip(0))),
    ("grid", lambda: adversarial.jensen_shannon(FLAT, FLAT, UNIT[:2])),
    ("p:", lambda: adversarial.jensen_shannon(FLAT[:2], FLAT[:2], UNIT)),
    ("q:", lambda: adversarial.jensen_shannon(FLAT, 2 * FLAT, UNIT)),
    ("q:", lambda: adversarial.wasserstein(FLAT, 0 * FLAT, UNIT)),
    ("discriminator", lambda: adversarial.game_value(2 * FLAT, FLAT, FLAT, UNIT)),
    ("discriminator", lambda: adversarial.game_value(FLAT[:2], FLAT, FLAT, UNIT)),
    ("weights", lambda: adversarial.conditional_value(FLAT[None], FLAT[None], tensor(0.5), UNIT)),
    ("p:", lambda: adversarial.conditional_value(FLAT[None], FLAT[None], tensor(0.5, 0.5), UNIT)),
    ("name", lambda: adversarial.f_divergence("js", FLAT, FLAT, UNIT)),
    ("q:", lambda: adversarial.optimal_critic("kl", FLAT, tensor(0.0, 1.0, 1.0))),
    ("critic", lambda: adversarial.critic_value("gan", FLAT, FLAT, FLAT, UNIT)),
    ("critic", lambda: adversarial.critic_value("kl", FLAT[:2], FLAT, FLAT, UNIT)),
    ("name", lambda: adversarial.best_gaussian("js", FLAT, UNIT)),
    ("distance", lambda: adversarial.shifted_gaussians(tensor(-1.0))),
    ("distance", lambda: adversarial.shifted_gaussians(tensor(71.0))),
    ("critic", lambda: adversarial.loss(START, Game("sigmoid"))),
    ("variance", lambda: adversarial.jacobian(Game(variance=-1.0))),
    ("penalty", lambda: adversarial.jacobian(Game(penalty=NAN))),
    ("game", lambda: adversarial.jacobian("logistic")),
    ("state", lambda: adversarial.vector_field(tensor(1.0, 2.0, 3.0))),
    ("state", lambda: adversarial.vector_field(tensor(NAN, 0.0))),
    ("state", lambda: adversarial.friction(tensor(0.0, 201.0))),
    ("h:", lambda: adversarial.update_matrix(TOY, 0.0)),
    ("rule", lambda: adversarial.update_matrix(TOY, 0.1, "sequential")),
    ("start", lambda: adversarial.trajectory([1.0, 0.0])),
    ("steps", lambda: adversarial.trajectory(START, steps=0)),
    ("rule", lambda: adversarial.trajectory(START, rule="both")),
    ("times", lambda: adversarial.flow(START, times=tensor(1.0, 0.0))),
    ("times", lambda: adversarial.flow(START, times=tensor(-1.0, 0.0))),
    ("weights", lambda: adversarial.best_response_play(tensor(1.0), 3)),
    ("weights", lambda: adversarial.best_response_play(tensor(1.0, 0.0), 3)),
    ("rounds", lambda: adversarial.best_response_play(tensor(0.5, 0.5), 0)),
    ("kept", lambda: adversarial.lost_modes_divergence(9, 8)),
    ("pack", lambda: adversarial.lost_modes_divergence(1, 8, 0)),
    ("modes", lambda: adversarial.ring(0)),
    ("radius", lambda: adversarial.ring(8, 0.0)),
    ("centres", lambda: adversarial.ring_sample(3, torch.zeros(0, 2))),
    ("std", lambda: adversarial.ring_sample(3, POINTS, -0.1)),
    ("n:", lambda: adversarial.ring_sample(0, POINTS)),
    ("generator", lambda: adversarial.ring_sample(3, POINTS, generator=1)),
    ("samples", lambda: adversarial.occupation(POINTS * NAN, POINTS, 0.1)),
    ("centres", lambda: adversarial.occupation(POINTS, torch.zeros(4, 3), 0.1)),
    ("std", lambda: adversarial.occupation(POINTS, POINTS, 0.0)),
    ("held_out", lambda: adversarial.training_share(POINTS, POINTS, POINTS[:3])),
    ("data", lambda: adversarial.train(POINTS.double(), 1)),
    ("data", lambda: adversarial.train(POINTS.expand(2, 4, 2), 1)),
    ("steps", lambda: adversarial.train(POINTS, 0)),
    ("pack", lambda: adversarial.train(POINTS, 1, pack=3)),
    ("records", lambda: adversarial.train(POINTS, 1, records=2)),
    ("penalty", lambda: adversarial.train(POINTS, 1, penalty=-1.0)),
    ("rate", lambda: adversarial.train(POINTS, 1, rate=0.0)),
]


@pytest.mark.parametrize(("name", "call"), REFUSED)
def test_what_does_not_fit_is_refused_by_its_name(name, call):
    with pytest.raises(ValueError, match=name):
        call()
