"""Interactions read off a flow: against SymPy, the flow's own density, cumulants, and theories learned from their samples."""

from __future__ import annotations

import itertools
import math

import pytest
import sympy
import torch

from physgen.flows import coupling
from physgen.flows import interactions as it


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random_flow(d: int, layers: int, seed: int = 1, size: float = 0.3) -> it.QuadraticFlow:
    own = generator(seed)
    flow = it.QuadraticFlow(d, layers, own)
    with torch.no_grad():
        for p in flow.parameters():
            p += size * torch.randn(p.shape, dtype=p.dtype, generator=own)
    return flow


def normal(*shape: int, seed: int = 2) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=generator(seed))


@pytest.mark.parametrize(("d", "layers"), [(2, 1), (2, 2), (2, 3), (3, 1), (3, 2), (5, 1)])
def test_the_polynomial_is_the_log_density(d, layers):
    flow, x = random_flow(d, layers), normal(50, d)
    action = it.action_coefficients(flow, 2 ** (layers + 1))
    exact = flow.log_prob(x).detach()
    # Some hundred terms of the size of their sum, rounded.
    assert torch.allclose(it.evaluate(action, x), exact, rtol=1e-11, atol=1e-11)
    assert max(len(index) for index in action) == 2 ** (layers + 1)


def test_sympy_expands_two_layers_to_the_same_coefficients():
    flow = random_flow(3, 2, seed=3)
    symbols = sympy.symbols("x0:3")
    x = list(symbols)
    for a, c, q in zip(
        *([p.detach() for p in ps] for ps in (flow.linear, flow.shift, flow.quadratic)), strict=True
    ):
        x = [sum(float(a[i, j]) * x[j] for j in range(3)) + float(c[i]) for i in range(3)]
        x[2] += sum(float(q[0, i, j]) * x[i] * x[j] for i in range(2) for j in range(2))
    theirs = sympy.Poly(sympy.expand(-sum(y**2 for y in x) / 2), *symbols)
    ours = it.action_coefficients(flow, 8)
    for powers, value in theirs.terms():
        index = tuple(i for i, m in enumerate(powers) for _ in range(m))
        if index:  # the constant also has the normalisation
            assert ours[index] == pytest.approx(float(value), rel=1e-9, abs=1e-12)
    constant = -0.5 * float(flow(torch.zeros(1, 3, dtype=torch.float64)).detach().square().sum())
    volume = sum(math.log(abs(float(torch.linalg.det(a.detach())))) for a in flow.linear)
    assert ours[()] == pytest.approx(constant + volume - 1.5 * math.log(2 * math.pi), rel=1e-12)


def test_coefficients_below_an_order_do_not_need_those_above():
    flow = random_flow(3, 2)
    whole, part = it.action_coefficients(flow, 8), it.action_coefficients(flow, 3)
    assert set(part) == {index for index in whole if len(index) <= 3}
    assert all(part[index] == pytest.approx(whole[index], rel=1e-13) for index in part)


def test_one_quadratic_layer_makes_three_and_four_point_couplings():
    b, chi = 0.7, 0.4
    action = it.action_coefficients(it.interacting_theory(chi, b), 4)
    # Merger et al. (2023): −½ x_0² − ½ (x_1 + b x_0 + χ x_0²)², multiplied out.
    expected = {
        (): -math.log(2 * math.pi),
        (0, 0): -0.5 - b**2 / 2,
        (0, 1): -b,
        (1, 1): -0.5,
        (0, 0, 0): -b * chi,
        (0, 0, 1): -chi,
        (0, 0, 0, 0): -(chi**2) / 2,
    }
    assert set(action) == set(expected)
    assert all(action[index] == pytest.approx(value, abs=1e-15) for index, value in expected.items())
    assert action[(0, 1, 1)] == 0.0


def test_the_symmetric_tensor_shares_a_coefficient_among_its_orders():
    b = 0.4
    action = it.action_coefficients(it.interacting_theory(b), 4)
    third = it.symmetric_tensor(action, 3, 2)
    assert float(third[0, 0, 1]) == pytest.approx(-b / 3)
    assert float(it.symmetric_tensor(action, 4, 2)[0, 0, 0, 0]) == pytest.approx(-(b**2) / 2)
    flow = random_flow(3, 1)
    action, x = it.action_coefficients(flow, 4), normal(3, seed=4)
    for k in (1, 2, 3, 4):
        tensor = it.symmetric_tensor(action, k, 3)
        assert all(torch.equal(tensor, tensor.permute(p)) for p in itertools.permutations(range(k)))
        value = tensor
        for _ in range(k):
            value = value @ x
        terms = {index: a for index, a in action.items() if len(index) == k}
        assert float(value) == pytest.approx(float(it.evaluate(terms, x[None])), rel=1e-12)


def test_the_cumulants_of_the_theory_are_those_of_its_couplings():
    b, n = 0.4, 400_000
    x = it.interacting_theory(b).sample(n, generator(5))
    # x_0 = z_0, x_1 = z_1 − b z_0²: moments of normal variables. Four standard errors, by the scatter of the products.
    cubes = x[:, 0] ** 2 * x[:, 1]
    centred = x[:, 0] ** 2 * (x[:, 1] - x[:, 1].mean())
    for values, exact in ((x[:, 1], -b), (cubes, -3 * b), (centred, -2 * b)):
        assert abs(float(values.mean()) - exact) < 4 * float(values.std()) / math.sqrt(n)


def test_a_layer_doubles_the_degree_and_the_leading_term_is_that_of_the_last():
    b, c = 0.4, 0.3
    flow = it.interacting_theory(b, 0.2, c)
    x = normal(9, 2)
    moved = x[:, 1] + 0.2 * x[:, 0] + b * x[:, 0] ** 2
    by_hand = torch.stack([moved, x[:, 0] + c * moved**2], 1)
    assert torch.allclose(flow(x), by_hand, atol=1e-14)
    action = it.action_coefficients(flow, 8)
    # The second layer adds c (x_1 + b x_0²)² to x_0; its square has c² b⁴ x_0⁸.
    assert action[(0,) * 8] == pytest.approx(-(c**2) * b**4 / 2, rel=1e-13)
    assert it.action_coefficients(flow, 20) == action


def test_the_inverse_undoes_the_flow_and_samples_follow_its_density():
    flow = random_flow(3, 2)
    x = normal(200, 3, seed=6)
    assert torch.allclose(flow.inverse(flow(x)), x, atol=1e-11)
    samples = flow.sample(4000, generator(7))
    z = flow(samples).detach()
    # Back at the noise: means 0 ± 1/√n, covariances 1 ± √(2/n).
    assert float(z.mean(0).abs().max()) < 4.5 / math.sqrt(4000)
    assert float((torch.cov(z.T) - torch.eye(3)).abs().max()) < 4.5 * math.sqrt(2 / 4000)


def test_the_log_determinant_is_that_of_autograd():
    flow, x = random_flow(4, 2), normal(5, 4, seed=8)
    jacobian = coupling.jacobian(flow, x).detach()
    assert torch.allclose(
        torch.linalg.slogdet(jacobian).logabsdet, flow.log_det().detach().expand(5), rtol=1e-10
    )


def test_a_rotation_of_the_noise_changes_weights_and_no_coupling():
    flow = random_flow(2, 1)
    turned = it.QuadraticFlow(2, 2, generator())
    angle = torch.tensor(0.7, dtype=torch.float64)
    rotation = torch.stack(
        [torch.stack([angle.cos(), -angle.sin()]), torch.stack([angle.sin(), angle.cos()])]
    )
    with torch.no_grad():
        turned.linear[0].copy_(flow.linear[0])
        turned.shift[0].copy_(flow.shift[0])
        turned.quadratic[0].copy_(flow.quadratic[0])
        turned.linear[1].copy_(rotation)
        turned.quadratic[1].zero_()
    a, b = it.action_coefficients(flow, 4), it.action_coefficients(turned, 4)
    assert all(b[index] == pytest.approx(value, abs=1e-12) for index, value in a.items())


def test_a_theory_is_learned_back_from_its_samples_within_the_fisher_error():
    truth = it.interacting_theory(0.4, 0.3)
    exact, pulls = it.action_coefficients(truth, 4), []
    for seed in range(8):
        learned = it.fit(truth.sample(2000, generator(10 + seed)), 1, generator(seed))
        pulls += [
            (learned.action[index] - exact[index]) / learned.errors[index]
            for index in ((0,), (1,), (0, 0), (0, 1), (1, 1), (0, 0, 0), (0, 0, 1), (0, 0, 0, 0))
        ]
    pulls = torch.tensor(pulls)
    # At worst the eight coefficients of a set are one number: eight squares of mean 1 and variance 2, four errors of their mean.
    assert float(pulls.square().mean()) < 1 + 4 * math.sqrt(2 / 8)
    assert float(pulls.abs().max()) < 4.5


def test_another_start_finds_other_weights_and_the_same_couplings():
    data = it.random_theory(4, 1, 0.4, generator(1)).sample(1000, generator(2))
    start = it.random_theory(4, 1, 0.4, generator(3))
    before = start.linear[0].detach().clone()
    one, two = it.fit(data, 1, generator()), it.fit(data, start=start)
    assert torch.equal(start.linear[0], before)
    assert float((one.flow.linear[0] - two.flow.linear[0]).detach().abs().max()) > 0.05
    # Gradients below 1e-7 and curvatures of order one and less: couplings to 1e-4, a hundredth of their error.
    assert all(two.action[index] == pytest.approx(a, abs=1e-4) for index, a in one.action.items())
    with pytest.raises(ValueError):
        it.fit(data[:, :3], start=start)


def test_the_errors_are_those_of_the_scatter_of_repeated_fits():
    truth, n = it.interacting_theory(0.4), 1000
    fits = [it.fit(truth.sample(n, generator(30 + k)), 1, generator(k)) for k in range(24)]
    for index in ((0, 0, 1), (1, 1), (0, 0, 0, 0)):
        scatter = float(torch.tensor([f.action[index] for f in fits], dtype=torch.float64).std())
        stated = sum(f.errors[index] for f in fits) / len(fits)
        # A standard deviation of 24 values is known to 1/√46.
        assert abs(scatter / stated - 1) < 4 / math.sqrt(46)


def test_the_error_of_gaussian_couplings_is_the_textbook_one():
    # For data N(0, v) along x_1 alone the coefficient −1/2v has the relative error √(2/n) of a variance.
    flow = it.QuadraticFlow(2, 1)
    with torch.no_grad():
        flow.quadratic[0].zero_()
    n = 20_000
    errors = it.coefficient_errors(flow, normal(n, 2, seed=9), 2)
    # The information is an average over the data: √(var/n) of a fourth power, a few percent at most.
    assert errors[(1, 1)] == pytest.approx(0.5 * math.sqrt(2 / n), rel=0.05)
    assert errors[(0, 1)] == pytest.approx(1 / math.sqrt(n), rel=0.05)


def test_a_flow_that_stretches_has_no_polynomial_action():
    epsilon, x = 0.05, sympy.symbols("x")
    series = sympy.series(
        -((x + epsilon * x**3) ** 2) / 2 + sympy.log(1 + 3 * epsilon * x**2), x, 0, 14
    ).removeO()
    ours = it.cubic_map_action(epsilon, 12)
    for k in range(2, 13, 2):
        assert ours[(0,) * k] == pytest.approx(float(series.coeff(x, k)), rel=1e-12)
    e = epsilon
    assert ours[(0, 0)] == pytest.approx(3 * e - 0.5)
    assert ours[(0,) * 4] == pytest.approx(-e - 9 * e**2 / 2)
    assert ours[(0,) * 6] == pytest.approx(9 * e**3 - e**2 / 2)
    assert ours[(0,) * 8] == pytest.approx(-81 * e**4 / 4)
    exact = lambda y: (  # noqa: E731
        -((y + e * y**3) ** 2) / 2 + math.log(1 + 3 * e * y**2) - 0.5 * math.log(2 * math.pi)
    )
    errors = {
        y: [
            abs(float(it.evaluate(it.cubic_map_action(e, k), torch.tensor([[y]]).double())) - exact(y))
            for k in (8, 16, 32)
        ]
        for y in (1.5, 3.5)
    }
    # Radius 1/√0.15 = 2.58: terms fall as (1.5/2.58)^k inside, and grow outside.
    assert errors[1.5][0] > errors[1.5][1] > errors[1.5][2]
    assert errors[3.5][0] < errors[3.5][1] < errors[3.5][2]


def test_a_random_theory_has_all_couplings_of_its_degree_and_can_be_repeated():
    flow = it.random_theory(4, 1, 0.3, generator(11))
    action = it.action_coefficients(flow, 4)
    # C(4 + 4, 4) monomials of four variables up to the fourth degree.
    assert len(action) == math.comb(8, 4)
    assert action == it.action_coefficients(it.random_theory(4, 1, 0.3, generator(11)), 4)
    other = it.random_theory(4, 1, 0.6, generator(11))
    # Twice the strength, twice the weights.
    assert torch.allclose(other.quadratic[0], 2 * flow.quadratic[0])
    eye = torch.eye(4, dtype=torch.float64)
    assert torch.allclose(other.linear[0] - eye, 2 * (flow.linear[0] - eye))
    # 16 entries of variance 0.09/4: their mean square is known to √(2/16).
    assert float((flow.linear[0].detach() - eye).square().mean()) == pytest.approx(
        0.0225, rel=4 * math.sqrt(2 / 16)
    )


def test_bad_input_is_refused():
    flow = it.QuadraticFlow(2)
    for call in (
        lambda: it.QuadraticFlow(1),
        lambda: it.QuadraticFlow(2, 0),
        lambda: it.action_coefficients(flow, -1),
        lambda: it.action_coefficients(torch.nn.Linear(2, 2), 2),
        lambda: flow.log_prob(torch.zeros(3, 3).double()),
        lambda: flow.log_prob(torch.full((1, 2), math.nan).double()),
        lambda: flow.sample(0),
        lambda: it.fit(normal(10, 2)),
        lambda: it.evaluate({(0, 2): 1.0}, normal(3, 2)),
        lambda: it.symmetric_tensor({(0, 2): 1.0}, 2, 2),
        lambda: it.cubic_map_action(0.0, 4),
        lambda: it.interacting_theory(math.inf),
        lambda: it.random_theory(1),
        lambda: it.random_theory(2, 1, 0.0),
    ):
        with pytest.raises(ValueError):
            call()
