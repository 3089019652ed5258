"""Couplings: automatic differentiation, quadrature, SciPy's distributions, Zuko with the same weights."""

import math

import pytest
import torch
import zuko
from scipy import integrate, stats
from torch import nn

from physgen.diffusion import score
from physgen.flows import coupling

FIRST = torch.tensor([True, False])


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def tensor(*values):
    return torch.tensor(values, dtype=torch.float64)


def normal(*shape, seed=0):
    return torch.randn(shape, generator=seeded(seed), dtype=torch.float64)


def lively(d=2, layers=4, bound=0.7, seed=1, strength=0.4):
    """A flow far from the identity, with no training."""
    flow = coupling.CouplingFlow(d, layers, 12, bound, seeded(seed))
    for net in flow.conditioners:
        nn.init.normal_(net[-1].weight, std=strength, generator=seeded(seed + 1))
        nn.init.normal_(net[-1].bias, std=strength, generator=seeded(seed + 2))
    return flow.requires_grad_(False)


def of_the_claim(x0):
    return torch.tanh(1.3 * x0), x0**2 / 2


# ------------------------------------------------------------------------------------------------- change of variables


def test_a_coupling_integrates_to_one_with_its_jacobian_and_to_1260_without():
    # x_1 = (z_1 − t) e^{−s} with |s| < 1: the box holds |z| < 8; its cells are finer than half a width e^{−1}.
    grid = coupling.box([-8, -115], [8, 25], [160, 1400])
    z, log_det = coupling.couple(grid.x, of_the_claim, FIRST)
    base = coupling.normal_log_density(z)
    right, without, twice = (float((base + k * log_det).exp().sum() * grid.cell) for k in (1, 0, 2))
    assert right == pytest.approx(1, abs=1e-12)  # FLW-1
    law = stats.norm.pdf
    exact = integrate.quad(lambda z: law(z) * math.cosh(math.tanh(1.3 * z)), -12, 12, epsabs=1e-13)[0]
    assert without == pytest.approx(exact, abs=1e-12)
    assert exact == pytest.approx(1.260, abs=5e-4)
    assert twice == pytest.approx(exact, abs=1e-12)  # FLW-4: s over both coordinates is no density either


def test_a_map_that_turns_space_over_needs_the_absolute_value():
    # Three dimensions, determinant < 0: the density of a Gaussian with precision AᵀA.
    a = tensor(-1.2, 0.3, 0.0, 0.1, 0.8, -0.4, 0.5, 0.2, 1.5).reshape(3, 3)
    assert float(torch.linalg.det(a)) < -1
    x = normal(20, 3)
    law = torch.distributions.MultivariateNormal(
        torch.zeros(3, dtype=torch.float64), precision_matrix=a.T @ a
    )
    ours = coupling.change_of_variables(lambda y: y @ a.T, x)
    torch.testing.assert_close(ours, law.log_prob(x), rtol=0, atol=1e-12)
    # (6.2.15): the sign inside changes nothing.
    torch.testing.assert_close(coupling.change_of_variables(lambda y: -y @ a.T, x), ours, rtol=0, atol=1e-13)


def test_the_log_determinant_of_a_coupling_is_the_sum_over_the_coordinates_that_move():
    # FLW-4: d_0 = 3, d_1 = 2, a log-scale for each of the two.
    kept = torch.tensor([True, False, True, False, True])
    w = normal(3, 4, seed=2)

    def conditioner(x0):
        s, t = (x0 @ w).sin().chunk(2, 1)
        return s, 3 * t

    x = normal(30, 5, seed=3)
    log_det = coupling.couple(x, conditioner, kept).log_det
    j = coupling.jacobian(lambda y: coupling.couple(y, conditioner, kept).x, x)
    torch.testing.assert_close(log_det, torch.linalg.slogdet(j)[1], rtol=0, atol=1e-13)
    torch.testing.assert_close(log_det, conditioner(x[:, kept])[0].sum(1), rtol=0, atol=0)
    # Block triangular, and a diagonal block: the kept rows are those of the identity.
    torch.testing.assert_close(
        j[:, kept], torch.eye(5, dtype=torch.float64)[kept].expand(30, 3, 5), rtol=0, atol=0
    )
    off = j[:, ~kept][:, :, ~kept] - torch.diag_embed(conditioner(x[:, kept])[0].exp())
    assert float(off.abs().max()) < 1e-14
    # Finite differences, central: h² of the third derivative, about 10⁻⁸.
    h = 1e-4
    columns = []
    for e in torch.eye(5, dtype=torch.float64):
        ahead, behind = (coupling.couple(x + k * h * e, conditioner, kept).x for k in (1, -1))
        columns.append((ahead - behind) / (2 * h))
    assert float((torch.stack(columns, 2) - j).abs().max()) < 1e-6


def test_the_inverse_of_a_coupling_is_exact():
    x = normal(1000, 2, seed=4)
    z, log_det = coupling.couple(x, of_the_claim, FIRST)
    back, back_log_det = coupling.uncouple(z, of_the_claim, FIRST)
    # FLW-3: a few roundings of numbers up to x²/2 ≈ 8, stretched by e.
    assert float((back - x).abs().max()) < 3e-15 * math.e * 8
    torch.testing.assert_close(back_log_det, -log_det, rtol=0, atol=0)


def test_a_split_before_d_leaves_a_block_of_size_dimension_minus_d_plus_one():
    a, kept = 1.7, torch.tensor([True, True, False, False, False])  # D = 5, split (1 : d − 1, d : D) at d = 3

    def constant(x0):
        return torch.full((len(x0), 3), math.log(a), dtype=torch.float64), torch.zeros(len(x0), 3).double()

    x = normal(4, 5)
    assert coupling.couple(x, constant, kept).log_det.exp().tolist() == pytest.approx([4.913] * 4, rel=1e-14)
    assert coupling.uncouple(x, constant, kept).log_det.exp().tolist() == pytest.approx([1 / 4.913] * 4)
    det = torch.linalg.det(coupling.jacobian(lambda y: coupling.couple(y, constant, kept).x, x))
    assert det.tolist() == pytest.approx([a ** (5 - 3 + 1)] * 4)  # KOF-4; the slide has a^{D−d} = 2.89
    # A plain linear layer a z + b: |a|^D, whatever the sign of a.
    log_p = coupling.change_of_variables(lambda y: -a * y + 0.3, x)
    expected = coupling.normal_log_density(-a * x + 0.3) + 5 * math.log(a)
    torch.testing.assert_close(log_p, expected, rtol=0, atol=1e-13)


# ------------------------------------------------------------------------------------------------- the flow


@pytest.mark.parametrize("d", [2, 3, 5])
def test_the_log_determinant_of_a_flow_adds_up_at_the_points_that_the_layers_reach(d):
    flow, x = lively(d, layers=5), normal(20, d, seed=5)
    brute = torch.linalg.slogdet(coupling.jacobian(flow.forward, x))[1]
    torch.testing.assert_close(flow.log_det(x), brute, rtol=0, atol=1e-12)  # FLW-2
    torch.testing.assert_close(flow.log_prob(x), coupling.change_of_variables(flow, x), rtol=0, atol=1e-12)
    trace = flow.trace(x)
    for k, kept in enumerate(flow.kept):
        image = coupling.couple(trace.points[k], flow.conditioner(k), kept)
        torch.testing.assert_close(image.x, trace.points[k + 1], rtol=0, atol=0)
        torch.testing.assert_close(image.log_det, trace.log_dets[k], rtol=0, atol=0)
    # All layers at x, as the notes print it, is another number.
    at_x = sum(coupling.couple(x, flow.conditioner(k), kept).log_det for k, kept in enumerate(flow.kept))
    assert float((at_x - brute).abs().mean()) > 0.1


@pytest.mark.parametrize("d", [2, 3])
def test_a_flow_is_undone_by_its_inverse(d):
    flow, x = lively(d, layers=8), 3 * normal(500, d, seed=6)
    z = flow(x)
    # Each layer multiplies rounding by e^{0.7} at most and by slopes of order one: e^{8·0.7} 2⁻⁵³ ≈ 3·10⁻¹⁴, times sizes.
    assert float((flow.inverse(z) - x).abs().max()) < 1e-11
    back = flow.trace_inverse(z)
    torch.testing.assert_close(back.log_dets.sum(0), -flow.log_det(x), rtol=0, atol=1e-11)
    torch.testing.assert_close(back.points.flip(0), flow.trace(x).points, rtol=0, atol=1e-11)


def test_two_layers_move_every_coordinate_and_a_flow_starts_as_the_identity():
    x = normal(10, 5)
    flow = coupling.CouplingFlow(5, generator=seeded(1))
    assert torch.equal(flow(x), x) and torch.equal(flow.inverse(x), x)
    torch.testing.assert_close(flow.log_prob(x), coupling.normal_log_density(x), rtol=0, atol=0)
    moved = (lively(5, layers=2)(x) - x).abs().amin(0)
    assert float(moved.min()) > 0


def test_the_density_of_a_flow_integrates_to_one_and_is_that_of_its_samples():
    flow = lively()
    grid = coupling.box([-9, -9], [9, 9], [300, 300])
    p = flow.log_prob(grid.x).exp() * grid.cell
    assert float(p.sum()) == pytest.approx(1, abs=1e-6)
    x = flow.sample(20000, seeded(7))
    tests = [x[:, 0], x[:, 1], x[:, 0] * x[:, 1], (x[:, 0] > 0.5).double(), x.cos().prod(1)]
    g = grid.x
    exact = [g[:, 0], g[:, 1], g[:, 0] * g[:, 1], (g[:, 0] > 0.5).double(), g.cos().prod(1)]
    for f, h in zip(tests, exact, strict=True):
        # Five standard errors; the step of an indicator costs the grid a cell, 0.06 × density < 0.4.
        error = 5 * float(f.std()) / math.sqrt(len(x))
        assert float(f.mean()) == pytest.approx(float(p @ h), abs=error + 1e-3)


def test_without_scales_volume_and_entropy_stay_those_of_the_noise():
    flow = lively(bound=0.0)
    x = normal(50, 2, seed=8)
    assert float(flow.log_det(x).abs().max()) == 0
    grid = coupling.box([-9, -9], [9, 9], [300, 300])
    log_q = flow.log_prob(grid.x)
    q = log_q.exp() * grid.cell
    assert float(q.sum()) == pytest.approx(1, abs=1e-6)
    assert float(-(q @ log_q)) == pytest.approx(math.log(2 * math.pi * math.e), abs=1e-5)  # CPL-02
    assert float(log_q.max()) <= -math.log(2 * math.pi)


def test_zuko_with_the_same_weights_has_the_same_density():
    flow, x = lively(3, layers=4), normal(40, 3, seed=9)

    class Affine(zuko.transforms.Transform):
        domain = codomain = torch.distributions.constraints.real_vector
        bijective = True

        def __init__(self, s, t):
            super().__init__()
            self.s, self.t = s, t

        def _call(self, y):
            return y * self.s.exp() + self.t

        def _inverse(self, z):
            return (z - self.t) / self.s.exp()

        def log_abs_det_jacobian(self, y, z):
            return self.s.sum(-1)

    layers = [
        zuko.transforms.CouplingTransform(lambda y, k=k: Affine(*flow.conditioner(k)(y)), kept)
        for k, kept in enumerate(flow.kept)
    ]
    base = zuko.distributions.DiagNormal(torch.zeros(3).double(), torch.ones(3).double())
    peer = zuko.distributions.NormalizingFlow(zuko.transforms.ComposedTransform(*layers), base)
    torch.testing.assert_close(flow.log_prob(x), peer.log_prob(x), rtol=0, atol=1e-12)
    torch.testing.assert_close(flow.inverse(x), peer.transform.inv(x), rtol=0, atol=1e-12)


def test_log_prob_is_differentiable_in_points_and_weights():
    flow, x = lively().requires_grad_(True), normal(3, 2, seed=10).requires_grad_()
    assert torch.autograd.gradcheck(flow.log_prob, (x,), atol=1e-6)
    flow.log_prob(x).sum().backward()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in flow.parameters())


def test_far_points_have_a_finite_or_vanishing_density_and_never_nan():
    log_p = lively(layers=8, bound=2.0).log_prob(tensor(1e3, -1e3, 1e50, 1e50, 1e100, 0.0).reshape(3, 2))
    assert bool((log_p < 0).all()) and not bool(log_p.isnan().any())


# ------------------------------------------------------------------------------------------------- targets and quadrature


def test_the_density_of_a_target_is_that_of_torch_and_of_the_chapter_on_scores():
    law = coupling.target(normal(5, 2), 0.3, tensor(0.1, 0.2, 0.3, 0.15, 0.25))
    x = 2 * normal(30, 2, seed=1)
    peer = torch.distributions.MixtureSameFamily(
        torch.distributions.Categorical(law.weights),
        torch.distributions.Independent(torch.distributions.Normal(law.means, math.sqrt(0.3)), 1),
    )
    torch.testing.assert_close(law.log_density(x), peer.log_prob(x), rtol=0, atol=1e-12)
    for ours, theirs in ((coupling.ring(), score.ring()), (coupling.moons(), score.moons())):
        torch.testing.assert_close(ours.log_density(x), theirs.log_density(x), rtol=0, atol=1e-10)


def test_samples_of_a_target_have_its_moments():
    law = coupling.target(tensor(-1.0, 0.0, 2.0, 1.0).reshape(2, 2), 0.5, tensor(0.3, 0.7))
    x = law.sample(20000, seeded(2))
    mean, away = tensor(1.1, 0.7), tensor(3.0, 1.0)  # between the centres: covariance vI + w(1 − w) δδᵀ
    covariance = 0.5 * torch.eye(2, dtype=torch.float64) + 0.21 * torch.outer(away, away)
    error = 5 * (covariance.diagonal() / len(x)).sqrt()
    assert bool(((x.mean(0) - mean).abs() < error).all())
    # Of a product of two numbers of variance ≤ 2.4: its variance is ≤ 3 · 2.4², kurtosis of two modes below Gaussian.
    assert float((x.mT.cov() - covariance).abs().max()) < 5 * math.sqrt(3 * 2.4**2 / len(x))


@pytest.mark.parametrize("d", [1, 2])
def test_the_cross_entropy_of_gaussians_is_the_closed_form(d):
    v, w, m = 0.3, 1.7, 0.8
    p = coupling.target(torch.full((1, d), m, dtype=torch.float64), v)
    q = coupling.target(torch.zeros(1, d, dtype=torch.float64), w)
    closed = d / 2 * (math.log(2 * math.pi * w) + (v + m**2) / w)
    assert coupling.cross_entropy(p, q.log_density) == pytest.approx(closed, abs=1e-12)
    assert coupling.cross_entropy(p) == pytest.approx(d / 2 * math.log(2 * math.pi * math.e * v), abs=1e-12)


def test_the_entropy_of_a_ring_is_a_choice_among_eight_and_a_gaussian():
    law = coupling.ring()
    exact = coupling.cross_entropy(law)
    # CPL-03: neighbours are δ = 4 sin(π/8)/0.2 = 7.65 widths apart, and overlap by at most ~ e^{−δ²/8} = 7·10⁻⁴.
    separated = math.log(8) + math.log(2 * math.pi * math.e * 0.04)
    assert 0 < separated - exact < 7e-4
    # Between the modes log p has a kink, softened over 0.04/1.5: seen by the grid, but where p is e^{−7} of its peak.
    assert coupling.cross_entropy(law, resolution=2) == pytest.approx(exact, abs=1e-9)
    log_p = law.log_density(law.sample(20000, seeded(3)))
    assert -float(log_p.mean()) == pytest.approx(exact, abs=5 * float(log_p.std()) / math.sqrt(20000))
    # Overlapping components, finer in their logarithm: the rule is right to eight digits.
    assert coupling.cross_entropy(coupling.moons()) == pytest.approx(
        coupling.cross_entropy(coupling.moons(), resolution=8), abs=1e-8
    )


def test_the_modes_of_the_target_itself_have_its_weights():
    law = coupling.target(coupling.ring(5).means, 0.04, tensor(0.1, 0.3, 0.2, 0.25, 0.15))
    assert coupling.mode_masses(law, law.log_density).tolist() == pytest.approx(
        law.weights.tolist(), abs=1e-12
    )


def test_a_mode_that_is_short_of_mass_costs_its_likelihood():
    # CPL-04: half the mass of one mode of eight, the rest shared; the modes are 7.65 widths apart, their overlap below 10⁻³.
    law, masses = coupling.ring(), torch.full((8,), 15 / 112, dtype=torch.float64)
    masses[0] = 1 / 16
    q = coupling.target(law.means, law.variance, masses)
    kl = coupling.cross_entropy(law, q.log_density) - coupling.cross_entropy(law)
    bound = math.log(2) / 8 + 7 / 8 * math.log(14 / 15)
    assert kl == pytest.approx(bound, abs=1e-4)
    assert coupling.mode_masses(law, q.log_density).tolist() == pytest.approx(masses.tolist(), abs=1e-3)
    # Of any q: what the components lose is no more than what the points lose.
    for flow in (lively(), lively(seed=5)):
        found = coupling.mode_masses(law, flow.log_prob)
        kl = coupling.cross_entropy(law, flow.log_prob) - coupling.cross_entropy(law)
        assert float((law.weights * (law.weights / found).log()).sum()) < kl


# ------------------------------------------------------------------------------------------------- two modes and the bridge


def test_the_monotone_map_carries_the_normal_law_to_two_modes():
    law, z = coupling.two_modes(), torch.linspace(-6, 6, 121, dtype=torch.float64)
    x = coupling.monotone_map(z, law)
    cdf = sum(stats.norm.cdf(x.numpy(), m, 0.5) / 2 for m in (-2, 2))
    assert cdf == pytest.approx(stats.norm.cdf(z.numpy()), rel=1e-12, abs=1e-14)
    assert bool((x.diff() > 0).all())
    # KOF-3: the density by the change of variables is the target's, at z = 1.1 as everywhere.
    at = tensor(1.1)
    slope = (coupling.monotone_map(at + 1e-5, law) - coupling.monotone_map(at - 1e-5, law)) / 2e-5
    p = law.log_density(coupling.monotone_map(at, law)[:, None]).exp()
    assert float(p) == pytest.approx(0.331459, abs=5e-7)
    # Central differences: h² f''' ~ 10⁻¹⁰, rounding 10⁻¹⁶/10⁻⁵.
    assert float(stats.norm.pdf(1.1) / slope) == pytest.approx(float(p), abs=1e-8)


def test_the_monotone_map_keeps_its_digits_in_the_tails():
    law = coupling.two_modes()
    x = coupling.monotone_map(tensor(-35.0, -20.0, 20.0, 35.0), law)
    torch.testing.assert_close(x, -x.flip(0), rtol=1e-14, atol=0)
    # Far out one mode is alone: Φ(z) = ½ Φ((x − 2)/σ) in the tail, the other beyond reach.
    for z, y in ((20.0, x[2]), (35.0, x[3])):
        assert stats.norm.logsf((float(y) - 2) / 0.5) - math.log(2) == pytest.approx(
            stats.norm.logsf(z), rel=1e-12
        )


@pytest.mark.parametrize(("m", "v"), [(1.0, 0.25), (2.0, 0.25)])
def test_between_the_modes_the_exact_map_is_exponentially_steep(m, v):
    # KOF-3: φ(0)/p(0) = √v e^{m²/2v}; 1490 for ±2 and ¼. f is odd: the difference quotient errs by h²/6 f'''/f', f' ≤ its value at 0.
    h = 1e-7
    slope = float(coupling.monotone_map(tensor(h), coupling.two_modes(m, v)) / h)
    assert slope == pytest.approx(math.sqrt(v) * math.exp(m**2 / (2 * v)), rel=1e-6)


def test_a_map_that_hardly_stretches_leaves_a_bridge_and_the_bound_is_sharp():
    # CPL-01. Among increasing maps equality is reached by the one of slope L between the sets: f(z) = Lz for |Lz| < r/2, flatter beyond.
    gap, lipschitz = 2.0, 5.0
    left = stats.norm.cdf(-gap / 2 / lipschitz)
    bridge = 1 - 2 * left
    assert coupling.least_bridge(gap, lipschitz) == pytest.approx(bridge, rel=1e-13)
    assert coupling.least_stretch(left, left, gap) == pytest.approx(lipschitz, rel=1e-12)
    # Sides of different mass: slope L from a to b, Φ(a) = left, 1 − Φ(b) = right, b − a = r/L.
    assert coupling.least_stretch(stats.norm.cdf(-0.2), stats.norm.sf(0.5), 2.1) == pytest.approx(
        3, rel=1e-12
    )
    # The exact map of the two modes obeys it: its mean slope over the bridge is the bound, its slope at 0 more.
    law = coupling.two_modes()
    side = stats.norm.cdf(-1, -2, 0.5) / 2 + stats.norm.cdf(-1, 2, 0.5) / 2
    bound = coupling.least_stretch(side, side, 2.0)
    f = coupling.monotone_map(tensor(-1.0 / bound, 1.0 / bound), law)
    assert float(f[1] - f[0]) == pytest.approx(2.0, rel=1e-9)
    assert bound < 0.5 * math.exp(8)


def test_no_set_grows_less_than_a_half_line():
    # The inequality behind the bound, γ(A_r) ≥ Φ(Φ⁻¹(γ(A)) + r), on unions of three intervals.
    g = torch.rand(200, 6, generator=seeded(4), dtype=torch.float64)
    for ends in (6 * g - 3).sort(1).values.numpy():
        a, b, r = ends[::2], ends[1::2], 0.3
        mass = (stats.norm.cdf(b) - stats.norm.cdf(a)).sum()
        low, high = a - r, b + r
        pieces, total = list(zip(low, high, strict=True)), 0.0
        merged = [list(pieces[0])]
        for lo, hi in pieces[1:]:
            if lo <= merged[-1][1]:
                merged[-1][1] = max(hi, merged[-1][1])
            else:
                merged.append([lo, hi])
        total = sum(stats.norm.cdf(hi) - stats.norm.cdf(lo) for lo, hi in merged)
        assert total >= stats.norm.cdf(stats.norm.ppf(mass) + r) - 1e-12


def test_stretch_is_the_largest_singular_value():
    flow, z = lively(3), normal(10, 3, seed=11)
    j = torch.stack([torch.autograd.functional.jacobian(lambda y: flow.inverse(y[None])[0], y) for y in z])
    torch.testing.assert_close(coupling.stretch(flow, z), torch.linalg.svdvals(j)[:, 0], rtol=0, atol=1e-12)


# ------------------------------------------------------------------------------------------------- training


@pytest.fixture(scope="module")
def trained():
    law = coupling.two_modes(2.0, 0.0625, d=2)
    flow = coupling.CouplingFlow(2, layers=4, generator=seeded(2))
    losses = coupling.maximum_likelihood(flow, law.sample(10000, seeded(1)), 250, 128, generator=seeded(3))
    return law, flow.requires_grad_(False), losses


def test_training_lowers_the_likelihood_loss_towards_the_entropy_and_not_below(trained):
    law, flow, losses = trained
    floor, reached = coupling.cross_entropy(law), coupling.cross_entropy(law, flow.log_prob)
    started = coupling.cross_entropy(law, coupling.normal_log_density)
    assert floor < reached < floor + 0.25 * (started - floor)
    # Losses scatter about the cross-entropy of the moment: the last ones, 50 · 128 draws, by five standard errors, and 0.05 for what was still learned.
    x = law.sample(20000, seeded(4))
    log_q = flow.log_prob(x)
    assert -float(log_q.mean()) == pytest.approx(reached, abs=5 * float(log_q.std()) / math.sqrt(20000))
    error = 5 * float(log_q.std()) / math.sqrt(50 * 128)
    assert float(losses[-50:].mean()) == pytest.approx(reached, abs=error + 0.05)


def test_a_trained_flow_covers_both_modes_and_leaves_a_bridge(trained):
    law, flow, _ = trained
    assert coupling.mode_masses(law, flow.log_prob).tolist() == pytest.approx([0.5, 0.5], abs=0.05)
    grid = coupling.box([-5, -4], [5, 4], [400, 320])
    q = flow.log_prob(grid.x).exp() * grid.cell
    assert float(q.sum()) == pytest.approx(1, abs=0.01)
    left, right = (float(q[side * grid.x[:, 0] > 1].sum()) for side in (-1, 1))
    bridge = float(q[grid.x[:, 0].abs() <= 1].sum())
    exact = 2 * stats.norm.cdf(-4) / 2  # of the target: four widths from either centre
    assert bridge > 100 * exact
    # What it stretches is more than what its bridge asks for (the grid may miss the maximum, and only helps the other side).
    steepest = float(coupling.stretch(flow, coupling.box([-3, -3], [3, 3], [60, 60]).x).max())
    assert steepest > coupling.least_stretch(left, right, 2.0)


def test_one_seed_is_one_run():
    data, runs = coupling.ring().sample(1000, seeded(1)), []
    for _ in range(2):
        flow = coupling.CouplingFlow(2, layers=2, generator=seeded(2))
        losses = coupling.maximum_likelihood(flow, data, 10, 32, generator=seeded(3))
        runs.append((losses, flow.sample(5, seeded(4))))
    assert torch.equal(runs[0][0], runs[1][0]) and torch.equal(runs[0][1], runs[1][1])


def test_training_draws_from_its_generator_alone():
    state = torch.get_rng_state()
    flow = coupling.CouplingFlow(2, layers=2, generator=seeded(2))
    coupling.maximum_likelihood(flow, coupling.ring().sample(100, seeded(1)), 3, 8, generator=seeded(3))
    flow.sample(3, seeded(1)), flow.sample(3)
    assert torch.equal(state, torch.get_rng_state())


# ------------------------------------------------------------------------------------------------- pictures


def test_the_frames_lead_from_the_noise_to_the_model():
    flow = lively(layers=3)
    frames = coupling.layer_frames(flow, n=50, lines=5, nodes=7, resolution=9, generator=seeded(5))
    assert frames.grid.shape == (4, 2, 5, 7, 2) and frames.points.shape == (4, 50, 2)
    assert frames.log_density.shape == (4, 50) and frames.log_map.shape == (4, 9, 9)
    # The same sums in batches of another size: rounding.
    torch.testing.assert_close(flow.inverse(frames.points[0]), frames.points[3], rtol=0, atol=1e-13)
    torch.testing.assert_close(flow.log_prob(frames.points[3]), frames.log_density[3], rtol=0, atol=1e-12)
    flat = frames.grid.reshape(4, -1, 2)
    torch.testing.assert_close(flow.inverse(flat[0]), flat[3], rtol=0, atol=1e-13)
    y, x = torch.meshgrid(frames.axis, frames.axis, indexing="ij")
    lattice = torch.stack([x.flatten(), y.flatten()], 1)
    torch.testing.assert_close(
        frames.log_map[0].flatten(), coupling.normal_log_density(lattice), rtol=0, atol=0
    )
    torch.testing.assert_close(frames.log_map[3].flatten(), flow.log_prob(lattice), rtol=0, atol=0)
    # Half way: the density that the samples carry is that of the map there.
    part = coupling.change_of_variables(
        lambda p: coupling.couple(p, flow.conditioner(2), flow.kept[2]).x, frames.points[1]
    )
    torch.testing.assert_close(part, frames.log_density[1], rtol=0, atol=1e-12)
    torch.testing.assert_close(
        coupling._partial_log_prob(flow, frames.points[2], 2), frames.log_density[2], rtol=0, atol=1e-12
    )


# ------------------------------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: coupling.CouplingFlow(1), "d"),
        (lambda: coupling.CouplingFlow(2, layers=-1), "layers"),
        (lambda: coupling.CouplingFlow(2, bound=-0.1), "bound"),
        (lambda: coupling.CouplingFlow(2, width=0), "width"),
        (lambda: coupling.CouplingFlow(2, generator=3), "generator"),
        (lambda: lively().log_prob(torch.zeros(3, 3)), "x"),
        (lambda: lively().log_prob(torch.zeros(3)), "x"),
        (lambda: lively().log_prob(torch.zeros(3, 2, dtype=torch.int64)), "x"),
        (lambda: lively().forward(tensor([math.nan, 0.0])), "x"),
        (lambda: lively().inverse(tensor([math.inf, 0.0])), "z"),
        (lambda: lively().sample(0), "n"),
        (lambda: coupling.couple(torch.zeros(3, 2), of_the_claim, torch.tensor([True, True])), "kept"),
        (lambda: coupling.couple(torch.zeros(3, 2), of_the_claim, torch.tensor([1, 0])), "kept"),
        (lambda: coupling.couple(torch.zeros(3, 4), of_the_claim, torch.arange(4) < 1), "conditioner"),
        (lambda: coupling.jacobian(lambda x: x[:, :1], torch.zeros(3, 2)), "transform"),
        (lambda: coupling.perceptron([3]), "sizes"),
        (lambda: coupling.target(torch.zeros(2, 2), 0.0), "variance"),
        (lambda: coupling.target(torch.zeros(0, 2), 1.0), "means"),
        (lambda: coupling.target(torch.zeros(2, 2), 1.0, tensor(0.5, 0.6)), "weights"),
        (lambda: coupling.target(torch.zeros(2, 2), 1.0, [0.5, 0.5]), "weights"),
        (lambda: coupling.ring(0), "modes"),
        (lambda: coupling.moons(1), "n"),
        (lambda: coupling.two_modes(d=0), "d"),
        (lambda: coupling.box([0], [1], [3, 3]), "low, high, points"),
        (lambda: coupling.box([1], [0], [3]), "low"),
        (lambda: coupling.cross_entropy(coupling.two_modes(d=3)), "law"),
        (lambda: coupling.cross_entropy(coupling.ring(), lambda x: x[:, 0] * math.nan), "log_density"),
        (lambda: coupling.monotone_map(tensor(0.0), coupling.ring()), "law"),
        (lambda: coupling.monotone_map(tensor(40.0), coupling.two_modes()), "z"),
        (lambda: coupling.monotone_map(tensor([0.0]), coupling.two_modes()), "z"),
        (lambda: coupling.least_stretch(0.5, 0.5, 1.0), "left, right"),
        (lambda: coupling.least_stretch(0.0, 0.5, 1.0), "left"),
        (lambda: coupling.least_bridge(1.0, 0.0), "lipschitz"),
        (lambda: coupling.layer_frames(lively(3)), "flow"),
        (lambda: coupling.maximum_likelihood(lively(), torch.zeros(0, 2)), "data"),
        (lambda: coupling.maximum_likelihood(lively(), torch.zeros(4, 2), steps=1), "steps"),
        (lambda: coupling.maximum_likelihood(lively(), torch.zeros(4, 2), rate=0.0), "rate"),
    ],
)
def test_bad_input_is_refused_by_name(call, name):
    with pytest.raises(ValueError, match=rf"^{name}"):
        call()
