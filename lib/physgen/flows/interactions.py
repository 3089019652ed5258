"""From a flow to the interactions it has learned (the chapter `flows/interactions`).

The action of a law is S(x) = ln p(x), a polynomial where the law is an interacting theory; its coefficients are the couplings (physics writes
−S). A flow T with p(x) = N(T(x); 0, I) |det J_T(x)| has the action

    S(x) = −½ |T(x)|² + log|det J_T(x)| − (d/2) log 2π,

so S is a polynomial wherever T is one and log|det J_T| is: for layers x ↦ A x + c, then x_b ↦ x_b + x_aᵀ Q_b x_a, whose
Jacobian |det A| is constant. Each quadratic layer doubles the degree of T, and L of them make an action of degree 2^{L+1}. It is read off
the weights by arithmetic with polynomials, without a sample. Coefficients are those of monomials: x_0²x_1 is (0, 0, 1), and its coefficient is
the sum of the entries of the symmetric tensor A^(3) over the permutations of that index. Points are (batch, d), float64.
"""

from __future__ import annotations

import math
from collections import Counter
from copy import deepcopy
from typing import NamedTuple

import torch
from torch import nn

from physgen.checks import count, number, stream

from .coupling import _log_normal, _points

__all__ = [
    "Action",
    "LearnedAction",
    "QuadraticFlow",
    "action_coefficients",
    "coefficient_errors",
    "cubic_map_action",
    "evaluate",
    "fit",
    "interacting_theory",
    "random_theory",
    "symmetric_tensor",
]

Index = tuple[int, ...]


class Action(dict):
    """A polynomial {index tuple, ascending: coefficient}; a monomial that is not there has the coefficient 0."""

    def __missing__(self, index: Index) -> float:
        return 0.0


class LearnedAction(NamedTuple):
    """A fitted flow, its action, and the standard error of each coefficient by the Fisher information."""

    flow: QuadraticFlow
    action: Action
    errors: Action


# ------------------------------------------------------------------------------------------------- polynomials


def _times(p: dict, q: dict, order: int) -> dict:
    """The product, without the terms of a degree above the order: exact below it, for degrees only add."""
    product: dict = {}
    for i, a in p.items():
        for j, b in q.items():
            if len(i) + len(j) <= order:
                index = tuple(sorted(i + j))
                product[index] = product.get(index, 0.0) + a * b
    return product


def _plus(*terms: tuple[torch.Tensor, dict]) -> dict:
    """Σ factor · polynomial."""
    total: dict = {}
    for factor, p in terms:
        for index, a in p.items():
            total[index] = total.get(index, 0.0) + factor * a
    return total


def evaluate(action: dict[Index, float], x: torch.Tensor) -> torch.Tensor:
    """The polynomial at points: Σ_i A_i Π_k x_{i_k}, (batch,).

    Raises
    ------
    ValueError
        If x is no (batch, d) tensor of finite numbers, or an index reaches beyond its d.
    """
    x = _points(x)
    if any(i >= x.shape[1] for index in action for i in index):
        raise ValueError(f"action: got an index beyond the d = {x.shape[1]} coordinates of x")
    terms = [a * x[:, list(index)].prod(1) for index, a in action.items()]
    return torch.stack(terms).sum(0) if terms else x.new_zeros(len(x))


def symmetric_tensor(action: dict[Index, float], order: int, d: int) -> torch.Tensor:
    """The symmetric tensor A^(k), shape (d,)^k, with Σ A_{i_1…i_k} x_{i_1} ⋯ x_{i_k} the terms of degree k of the action.

    A monomial's coefficient is shared out among the k!/(Π multiplicities!) orders of its index. A flow that is not symmetrised has
    other tensors for the same law: only these can be identified.

    Raises
    ------
    ValueError
        If order < 1, d < 1, or an index reaches beyond d.
    """
    order, d = count(order, "order"), count(d, "d")
    tensor = torch.zeros((d,) * order, dtype=torch.float64)
    for index, a in action.items():
        if len(index) != order:
            continue
        if max(index) >= d:
            raise ValueError(f"action: got the index {index}; expected coordinates below d = {d}")
        orders = math.factorial(order) / math.prod(math.factorial(m) for m in Counter(index).values())
        for permutation in _orders(index):
            tensor[permutation] = a / orders
    return tensor


def _orders(index: Index) -> set[Index]:
    """The different orders of an index."""
    if len(index) <= 1:
        return {index}
    return {(i, *rest) for k, i in enumerate(index) for rest in _orders(index[:k] + index[k + 1 :])}


# ------------------------------------------------------------------------------------------------- the flow


class QuadraticFlow(nn.Module):
    """T = T_L ∘ … ∘ T_1 with T_k(x) = x' + (0, x'_aᵀ Q x'_a), x' = A x + c: the first ⌈d/2⌉ coordinates (a) tell the others how to move.

    That A mixes all coordinates makes the fixed split no loss. log|det J_T| = Σ_k log|det A_k| does not depend on x. Before training A = I,
    c = 0 and Q is small and random.

    Parameters
    ----------
    d : int, ≥ 2
    layers : int, ≥ 1
        L; the action has the degree 2^{L+1}.
    generator : torch.Generator, optional
        For the initial Q; None draws fresh entropy.

    Attributes
    ----------
    linear, shift, quadratic : nn.ParameterList
        Of each layer A (d, d), c (d,) and Q (d − ⌈d/2⌉, ⌈d/2⌉, ⌈d/2⌉); only the part of Q that is symmetric in its last two indices acts.

    Raises
    ------
    ValueError
        If a number is out of range; by the methods if points are no (batch, d) tensor of finite numbers.

    Notes
    -----
    Merger, René, Fischer, Bouss, Nestler, Dahmen, Honerkamp, Helias (2023), Learning interacting theories from data.
    """

    def __init__(self, d: int, layers: int = 1, generator: torch.Generator | None = None):
        super().__init__()
        self.d, self.layers, own = count(d, "d", 2), count(layers, "layers"), stream(generator)
        self.kept = (d + 1) // 2
        shape = (d - self.kept, self.kept, self.kept)

        def each(make) -> nn.ParameterList:
            return nn.ParameterList(make() for _ in range(self.layers))

        self.linear = each(lambda: torch.eye(d, dtype=torch.float64))
        self.shift = each(lambda: torch.zeros(d, dtype=torch.float64))
        self.quadratic = each(lambda: 0.01 * torch.randn(shape, dtype=torch.float64, generator=own))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """z = T(x), (batch, d): data to noise."""
        return _map(self._weights(), _points(x, "x", self.d))

    def inverse(self, z: torch.Tensor) -> torch.Tensor:
        """x = T^{−1}(z), (batch, d): noise to data."""
        z = _points(z, "z", self.d)
        for a, c, q in reversed(self._weights()):
            z = torch.linalg.solve(a, (_shifted(z, -q) - c).T).T
        return z

    def log_det(self) -> torch.Tensor:
        """log|det J_T|, the same everywhere."""
        return _volume(self._weights())

    def log_prob(self, x: torch.Tensor) -> torch.Tensor:
        """S(x) = log p(x), (batch,), nats."""
        return _log_p(self._weights(), _points(x, "x", self.d))

    def _weights(self) -> list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
        return list(zip(self.linear, self.shift, self.quadratic, strict=True))

    def sample(self, n: int, generator: torch.Generator | None = None) -> torch.Tensor:
        """n independent draws T^{−1}(z), z ~ N(0, I), (n, d), without gradients; None draws fresh entropy."""
        z = torch.randn(count(n, "n"), self.d, dtype=torch.float64, generator=stream(generator))
        with torch.no_grad():
            return self.inverse(z)


def _shifted(x: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
    """The coordinates after the kept ones, moved by the quadratic forms of these."""
    kept, moved = x[:, : q.shape[1]], x[:, q.shape[1] :]
    return torch.cat([kept, moved + torch.einsum("bij,ni,nj->nb", q, kept, kept)], 1)


def _map(weights, x: torch.Tensor) -> torch.Tensor:
    for a, c, q in weights:
        x = _shifted(x @ a.T + c, q)
    return x


def _volume(weights) -> torch.Tensor:
    return sum(torch.linalg.slogdet(a).logabsdet for a, _, _ in weights)


def _log_p(weights, x: torch.Tensor) -> torch.Tensor:
    return _log_normal(_map(weights, x)) + _volume(weights)


def _action(flow: QuadraticFlow, order: int) -> dict:
    """The action up to an order, with coefficients that know their gradients."""
    x = [{(i,): torch.ones((), dtype=torch.float64)} for i in range(flow.d)]
    for a, c, q in flow._weights():
        x = [_plus((c[i], {(): 1.0}), *((a[i, j], x[j]) for j in range(flow.d))) for i in range(flow.d)]
        pairs = [(i, j) for i in range(flow.kept) for j in range(flow.kept)]
        squares = {ij: _times(x[ij[0]], x[ij[1]], order) for ij in pairs}
        for b in range(flow.d - flow.kept):
            moved = flow.kept + b
            x[moved] = _plus((1.0, x[moved]), *((q[b, i, j], squares[i, j]) for i, j in pairs))
    constant = flow.log_det() - flow.d / 2 * math.log(2 * math.pi)
    return _plus((constant, {(): 1.0}), *((-0.5, _times(p, p, order)) for p in x))


def action_coefficients(flow: QuadraticFlow, order: int) -> Action:
    """The coefficients of S = ln p up to an order, exactly, read off the weights: {(): S(0), (0,): …, (0, 0, 1): that of x_0²x_1, …}.

    Terms of a higher degree, which the flow has up to 2^{L+1}, are left out; those below are exact all the same. The work grows as the number of
    monomials, (d + order)!/(d! order!), squared.

    Parameters
    ----------
    flow : QuadraticFlow
    order : int, ≥ 0

    Returns
    -------
    Action
        A dict of floats by ascending index tuple; a monomial that does not occur has the coefficient 0.

    Raises
    ------
    ValueError
        If flow is no `QuadraticFlow`, or order is no integer ≥ 0.

    Notes
    -----
    Merger et al. (2023). Claims MER-1 to MER-3.
    """
    if not isinstance(flow, QuadraticFlow):
        raise ValueError(
            f"flow: got {type(flow).__name__}; expected a QuadraticFlow, whose log-determinant is constant"
        )
    with torch.no_grad():
        terms = _action(flow, count(order, "order", 0))
    return Action(
        {index: float(a) for index, a in sorted(terms.items(), key=lambda t: (len(t[0]), t[0])) if a != 0}
    )


def interacting_theory(b: float = 0.4, linear: float = 0.0, second: float = 0.0) -> QuadraticFlow:
    """The smallest interacting theory: T = (x_0, x_1 + linear · x_0 + b x_0²), with a three-point coupling −b and a four-point coupling −b²/2.

    With a second layer, z = (y_1, y_0 + second · y_1²) of that y, it has couplings up to the eighth order.

    Raises
    ------
    ValueError
        If a number is not finite.
    """
    second = number(second, "second")
    flow = QuadraticFlow(2, 2 if second else 1)
    with torch.no_grad():
        flow.linear[0][1, 0] = number(linear, "linear")
        flow.quadratic[0][:] = number(b, "b")
        if second:
            flow.linear[1].copy_(torch.eye(2).flip(0))
            flow.quadratic[1][:] = second
    return flow


def random_theory(
    d: int, layers: int = 1, strength: float = 0.3, generator: torch.Generator | None = None
) -> QuadraticFlow:
    """A theory in which all couplings of the flow's degree occur: A = I + strength G/√d, c and Q strength G, with G of normal entries.

    Raises
    ------
    ValueError
        If d < 2, layers < 1, or strength is not positive.
    """
    own, strength = stream(generator), number(strength, "strength", 0, strict=True)
    flow = QuadraticFlow(d, layers, own)
    with torch.no_grad():
        for a, c, q in flow._weights():
            for w, scale in ((a, strength / math.sqrt(d)), (c, strength), (q, strength)):
                g = torch.randn(w.shape, dtype=torch.float64, generator=own)
                w.copy_(scale * g + (torch.eye(d) if w is a else 0))
    return flow


# ------------------------------------------------------------------------------------------------- learning


def fit(
    data: torch.Tensor,
    layers: int = 1,
    generator: torch.Generator | None = None,
    order: int = 4,
    start: QuadraticFlow | None = None,
) -> LearnedAction:
    """An interacting theory learned from samples: the flow of greatest likelihood, its action, and what the errors of that must be.

    The mean of −log p is minimised on all data by L-BFGS until its gradient is below 1e-7, so that nothing but the finite sample is left.

    Parameters
    ----------
    data : torch.Tensor, shape (n, d)
    layers : int
    generator : torch.Generator, optional
        For the initial weights.
    order : int
        Up to which coefficients are returned.
    start : QuadraticFlow, optional
        Where the descent begins, which is left as it is; then layers and generator do not matter.

    Raises
    ------
    ValueError
        If data are no (n, d) tensor of finite numbers with n ≥ 10 d, a number is out of range, or the likelihood has no maximum that is found.

    Notes
    -----
    Weights are not unique (a rotation of T(x) changes no density), coefficients are.
    """
    data = _points(data, "data")
    if len(data) < 10 * data.shape[1]:
        raise ValueError(f"data: got n = {len(data)} in d = {data.shape[1]}; expected n >= 10 d")
    flow = QuadraticFlow(data.shape[1], layers, generator) if start is None else deepcopy(start)
    _points(data, "data", flow.d)
    descent = torch.optim.LBFGS(
        flow.parameters(),
        max_iter=2000,
        tolerance_grad=1e-7,
        tolerance_change=0,
        history_size=20,
        line_search_fn="strong_wolfe",
    )

    def loss() -> torch.Tensor:
        descent.zero_grad()
        value = -flow.log_prob(data).mean()
        value.backward()
        return value

    descent.step(loss)
    steepest = max(float(p.grad.abs().max()) for p in flow.parameters())
    if not steepest < 1e-4:
        raise ValueError(
            f"data: the likelihood has no maximum near; the gradient is {steepest:.1e} after 2000 steps"
        )
    return LearnedAction(flow, action_coefficients(flow, order), coefficient_errors(flow, data, order))


def coefficient_errors(flow: QuadraticFlow, data: torch.Tensor, order: int = 4) -> Action:
    """Standard errors of the coefficients, √(∇Aᵀ I^+ ∇A / n), with I = E ∇log p ∇log pᵀ over the data the Fisher information of the weights.

    The pseudo-inverse leaves out the directions that change no density; the coefficients do not change along them either. This is the bound of
    Cramér and Rao, which maximum likelihood reaches for many data of the flow's own law.

    Raises
    ------
    ValueError
        As `action_coefficients`, or if data are no (n, d) tensor of finite numbers.
    """
    data = _points(data, "data", flow.d)
    weights = flow._weights()
    flat = [w for layer in weights for w in layer]

    def log_p(values: tuple[torch.Tensor, ...], x: torch.Tensor) -> torch.Tensor:
        return _log_p([values[k : k + 3] for k in range(0, len(values), 3)], x[None])[0]

    slopes = torch.func.vmap(torch.func.grad(log_p), (None, 0))(tuple(w.detach() for w in flat), data)
    scores = torch.cat([s.flatten(1) for s in slopes], 1)
    inverse = torch.linalg.pinv(scores.T @ scores / len(data), rtol=1e-9, hermitian=True)
    errors = Action()
    for index, a in _action(flow, count(order, "order", 0)).items():
        gradient = torch.autograd.grad(a, flat, retain_graph=True, materialize_grads=True)
        slope = torch.cat([g.flatten() for g in gradient])
        errors[index] = math.sqrt(max(0.0, float(slope @ inverse @ slope)) / len(data))
    return errors


# ------------------------------------------------------------------------------------------------- where it ends


def cubic_map_action(epsilon: float, order: int) -> Action:
    """The action of T(x) = x + ε x³ in one dimension: −½ (x + εx³)² + log(1 + 3εx²) − ½ log 2π, as a power series up to an order.

    The determinant is not constant, and its logarithm no polynomial: the series never ends, and converges for |x| < (3ε)^{−1/2} only. Couplings read
    off a flow that stretches are those of an expansion about the origin, not of the law.

    Raises
    ------
    ValueError
        If ε is not positive, or order no integer ≥ 0.

    Notes
    -----
    Claim MER-4: x²: 3ε − ½, x⁴: −ε − 9ε²/2, x⁶: 9ε³ − ε²/2, x⁸: −81ε⁴/4.
    """
    epsilon, order = number(epsilon, "epsilon", 0, strict=True), count(order, "order", 0)
    polynomial = {0: -0.5 * math.log(2 * math.pi), 2: -0.5, 4: -epsilon, 6: -(epsilon**2) / 2}
    logarithm = {2 * k: -((-3 * epsilon) ** k) / k for k in range(1, order // 2 + 1)}
    degrees = [k for k in range(0, order + 1, 2)]
    return Action({(0,) * k: polynomial.get(k, 0.0) + logarithm.get(k, 0.0) for k in degrees})
