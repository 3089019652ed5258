"""Flows in continuous time (the chapter `flows/continuous`).

Noise becomes data along dx/du = v(x, u), u from 0 to 1: x_0 = z ~ N(0, I), x_1 is generated. (u is the clock of the path; t stays the
diffusion time.) Mass is conserved, ∂_u p = −∇·(v p), so that along a trajectory

    d/du log p_u(x_u) = −∇·v(x_u, u),    log p_1(x_1) = log N(x_0; 0, I) − ∫_0^1 ∇·v(x_u, u) du:

a trace where a coupling had a sum, and no restriction on v but smoothness. One Euler step x + ε v is a residual layer, with log|det| = ε ∇·v + O(ε²).

The velocity is learned by maximum likelihood, back through the solver, or by flow matching: on the straight paths x_u = u a + (1 − u) z between a datum
and a noise, regress the slope a − z. The minimiser is the mean slope v(x, u) = E[a − z | x_u = x], whose flow has the law of x_u at every u; for a mixture
Σ_k w_k N(m_k, s² I) it is explicit: with Γ_u = u² s² + (1 − u)² and p_k(x) ∝ w_k N(x; u m_k, Γ_u I),

    v(x, u) = Σ_k p_k(x) [m_k + (u s² − (1 − u)) (x − u m_k)/Γ_u].
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from physgen.checks import count as _count
from physgen.checks import stream as _stream

from .coupling import Target, _log_normal, _points, around, descend, perceptron

__all__ = [
    "ContinuousFlow",
    "Transport",
    "VelocityNetwork",
    "divergence",
    "flow_matching",
    "hutchinson_variance",
    "integrate",
    "marginal_velocity",
    "matching_error",
    "matching_floor",
    "transport",
]

Velocity = Callable[[torch.Tensor, float | torch.Tensor], torch.Tensor]
METHODS = "euler", "midpoint", "rk4"


class Transport(NamedTuple):
    """Points that have moved, (batch, d), or all of their path, (n + 1, batch, d), and ∫ ∇·v du up to there, (batch,) or (n + 1, batch)."""

    x: torch.Tensor
    log_det: torch.Tensor


# ------------------------------------------------------------------------------------------------- moving points


def _clock(times) -> list[float]:
    fits = (
        isinstance(times, torch.Tensor) and times.ndim == 1 and times.is_floating_point() and len(times) > 1
    )
    steps = times.diff() if fits else torch.zeros(1)
    if not bool((steps > 0).all() or (steps < 0).all()):  # NaN fails
        raise ValueError(f"times: got {times!r:.80}; expected a tensor (n + 1,), ascending or descending")
    return times.double().tolist()


def _increment(slope, state: tuple, u: float, h: float, method: str) -> tuple:
    """What one step adds to a state, a tuple of tensors with du(state)/du = slope(state, u)."""

    def moved(k: tuple, by: float) -> tuple:
        return tuple(y + by * dy for y, dy in zip(state, k, strict=True))

    k1 = slope(state, u)
    if method == "euler":
        return tuple(h * a for a in k1)
    k2 = slope(moved(k1, h / 2), u + h / 2)
    if method == "midpoint":
        return tuple(h * a for a in k2)
    k3 = slope(moved(k2, h / 2), u + h / 2)
    k4 = slope(moved(k3, h), u + h)
    return tuple(h / 6 * (a + 2 * b + 2 * c + d) for a, b, c, d in zip(k1, k2, k3, k4, strict=True))


def _run(slope, state: tuple, times, method: str, path: bool) -> tuple:
    if method not in METHODS:
        raise ValueError(f"method: got {method!r}; expected one of {METHODS}")
    clock, visited = _clock(times), [state]
    for u, end in pairwise(clock):
        state = tuple(
            y + dy for y, dy in zip(state, _increment(slope, state, u, end - u, method), strict=True)
        )
        if path:
            visited.append(state)
    _points(state[0], "velocity: where it leads")
    return tuple(torch.stack(values) for values in zip(*visited, strict=True)) if path else state


def integrate(
    velocity: Velocity, x: torch.Tensor, times: torch.Tensor, method: str = "rk4", path: bool = False
) -> torch.Tensor:
    """Solve dx/du = v(x, u) in fixed steps; differentiable in x and in whatever v depends on.

    - ``"euler"``: x + h v(x, u), a residual layer; the error at the end is O(h).
    - ``"midpoint"``: x + h v(x + (h/2) v, u + h/2); O(h²).
    - ``"rk4"``: Runge and Kutta's classical rule, four slopes a step; O(h⁴).

    Parameters
    ----------
    velocity : callable
        v(x, u) for x of shape (batch, d) and a float u. Lipschitz in x: otherwise a solution need be neither unique nor lasting.
    x : torch.Tensor, shape (batch, d)
        At ``times[0]``.
    times : torch.Tensor, shape (n + 1,)
        Both ends included; ascending from noise to data, descending the other way.
    method : str
    path : bool
        Return all n + 1 positions, (n + 1, batch, d).

    Returns
    -------
    torch.Tensor
        (batch, d), float64, at ``times[-1]``.

    Raises
    ------
    ValueError
        If a shape does not fit, the times turn back, the method is unknown, or x leaves the finite numbers.

    Notes
    -----
    Notes (6.2.20), (6.2.21); Chen et al. (2018). Claim FLW-5.
    """
    (x,) = _run(lambda state, u: (velocity(state[0], u),), (_points(x),), times, method, path)
    return x


# ------------------------------------------------------------------------------------------------- moving densities


def divergence(
    velocity: Velocity, x: torch.Tensor, u: float | torch.Tensor, probes: torch.Tensor | None = None
) -> torch.Tensor:
    """∇·v(x, u), (batch,), by automatic differentiation: d backward passes, or one for each of Hutchinson's probes.

    Parameters
    ----------
    velocity : callable
        v(x, u), differentiable by torch; rows of x must not mix.
    x : torch.Tensor, shape (batch, d)
    u : float, or what v takes
    probes : torch.Tensor, shape (m, batch, d), optional
        Vectors e of covariance I, for instance signs: the mean over them of eᵀ (∇v) e is unbiased.

    Returns
    -------
    torch.Tensor
        (batch,), float64, without gradients.

    Raises
    ------
    ValueError
        If a shape does not fit.

    Notes
    -----
    Hutchinson (1989); Grathwohl et al. (2019). Claims FLW-6, CNF-01.
    """
    x = _points(x)
    return _velocity_and_trace(velocity, x, u, *_probes(probes, x))[1]


def _probes(probes, x: torch.Tensor) -> tuple[torch.Tensor, float]:
    """Vectors e, (m, batch, d), and the factor of Σ_e eᵀ (∇v) e: the unit vectors and 1, or the given ones and 1/m."""
    if probes is None:
        return torch.eye(x.shape[1], dtype=x.dtype)[:, None].expand(-1, len(x), -1), 1.0
    if (
        not isinstance(probes, torch.Tensor)
        or probes.ndim != 3
        or probes.shape[1:] != x.shape
        or len(probes) == 0
    ):
        raise ValueError(
            f"probes: got {getattr(probes, 'shape', probes)!r}; expected shape (m, {len(x)}, {x.shape[1]})"
        )
    return probes.to(x), 1 / len(probes)


def _velocity_and_trace(velocity, x, u, probes, share: float) -> tuple[torch.Tensor, torch.Tensor]:
    """v and Σ_e eᵀ (∇v) e · share, without gradients."""
    with torch.enable_grad():
        y = x.detach().requires_grad_()
        v = velocity(y, u)
        if v.shape != x.shape:
            raise ValueError(f"velocity: got shape {tuple(v.shape)}; expected {tuple(x.shape)}")
        total = x.new_zeros(len(x))
        if v.requires_grad:  # else v does not depend on x
            for e in probes:
                (pull,) = torch.autograd.grad(v, y, e, retain_graph=True, materialize_grads=True)
                total += share * (pull * e).sum(1)
    return v.detach(), total


def hutchinson_variance(jacobian: torch.Tensor) -> torch.Tensor:
    """The variance of eᵀ J e over random signs e, 2 Σ_{i≠j} S_ij² with S = (J + Jᵀ)/2, (batch,), for J of shape (batch, d, d).

    A diagonal costs nothing, nor does a rotation: only what S mixes. With Gaussian probes it would be 2 Σ_{ij} S_ij².

    Raises
    ------
    ValueError
        If J is no (batch, d, d) tensor of finite numbers.

    Notes
    -----
    Hutchinson (1989). Claim CNF-01.
    """
    if not isinstance(jacobian, torch.Tensor) or jacobian.ndim != 3 or jacobian.shape[1] != jacobian.shape[2]:
        raise ValueError(
            f"jacobian: got {getattr(jacobian, 'shape', jacobian)!r}; expected shape (batch, d, d)"
        )
    j = _points(jacobian.flatten(1), "jacobian").view(jacobian.shape)
    s = (j + j.mT) / 2
    return 2 * (s.square().sum((1, 2)) - s.diagonal(dim1=1, dim2=2).square().sum(1))


def transport(
    velocity: Velocity,
    x: torch.Tensor,
    times: torch.Tensor,
    method: str = "rk4",
    path: bool = False,
    probes: torch.Tensor | None = None,
) -> Transport:
    """Move points and the density they carry: x_u and ∫ ∇·v du, so that log p(x_end) = log p(x_start) − ∫ ∇·v du.

    The divergence is exact, and the integral shares the steps of the points. A velocity with a method `with_divergence(x, u)` (a `VelocityNetwork`) is
    asked for both, and gradients flow; any other is differentiated, and they do not.

    Parameters
    ----------
    velocity, x, times, method, path
        As in `integrate`.
    probes : torch.Tensor, shape (m, batch, d), optional
        Estimate the divergence by these vectors, the same all along a trajectory (see `divergence`): the integral is unbiased.

    Returns
    -------
    Transport
        ``x`` and ``log_det`` = ∫ ∇·v du = log|det ∂x_end/∂x_start| up to the error of the method.

    Raises
    ------
    ValueError
        As `integrate`, and if v has no derivative.

    Notes
    -----
    Notes (6.2.22), (6.2.23); Chen et al. (2018), theorem 1. Claim FLW-6.
    """
    x = _points(x)
    both = getattr(velocity, "with_divergence", None)
    if both is None or probes is not None:
        vectors, share = _probes(probes, x)

        def both(y, u):
            return _velocity_and_trace(velocity, y, u, vectors, share)

    state = (x, x.new_zeros(len(x)))
    return Transport(*_run(lambda state, u: both(state[0], u), state, times, method, path))


# ------------------------------------------------------------------------------------------------- the flow


class VelocityNetwork(nn.Module):
    """v_θ(x, u) = W_3 tanh(W_2 tanh(W_1 x + A f(u) + b_1) + b_2) + b_3 with f(u) = (u, cos πu, cos 2πu, cos 3πu); float64. It starts as v = 0.

    Its divergence costs one more product of matrices, in any dimension: with σ_l = 1 − tanh² of the hidden layers, ∇·v_θ = σ_1ᵀ [W_2ᵀ ∘ (W_1 W_3)] σ_2, ∘ entry by entry.

    Parameters
    ----------
    d : int, ≥ 1
    width : int
        Units in each of the two hidden layers.
    generator : torch.Generator, optional
        For the initial weights; None draws fresh entropy.

    Raises
    ------
    ValueError
        If a number is not positive.
    """

    def __init__(self, d: int, width: int = 48, generator: torch.Generator | None = None):
        super().__init__()
        self.d, width = _count(d, "d"), _count(width, "width")
        self.layers = perceptron([d + 4, width, width, d], generator)

    def _hidden(self, x, u) -> tuple[torch.Tensor, torch.Tensor]:
        """The two hidden layers, (batch, width) each, for a number u or one per point, (batch,)."""
        u = torch.as_tensor(u, dtype=x.dtype)[..., None]
        waves = torch.cat([u, (math.pi * u * torch.arange(1, 4)).cos()], -1)
        first, middle = self.layers[0], self.layers[2]
        of_u = functional.linear(waves, first.weight[:, self.d :], first.bias)
        y1 = (x @ first.weight[:, : self.d].mT + of_u).tanh()
        return y1, middle(y1).tanh()

    def forward(self, x: torch.Tensor, u: float | torch.Tensor) -> torch.Tensor:
        """v_θ(x, u), (batch, d), for a number u or one per point, (batch,)."""
        return self.layers[4](self._hidden(x, u)[1])

    def with_divergence(self, x: torch.Tensor, u: float | torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """v_θ and ∇·v_θ, (batch, d) and (batch,): exact, and differentiable in the weights."""
        y1, y2 = self._hidden(x, u)
        first, middle, last = (self.layers[k].weight for k in (0, 2, 4))
        # ∂v_i/∂x_i summed over i: the sum over i can be done in the weights, before any point is seen.
        through = middle.mT * (first[:, : self.d] @ last)
        return self.layers[4](y2), (((1 - y1.square()) @ through) * (1 - y2.square())).sum(1)


class ContinuousFlow(nn.Module):
    """The flow of dx/du = v(x, u) from noise, u = 0, to data, u = 1: `inverse` follows it, `forward` goes back, the density comes along.

    Parameters
    ----------
    d : int, ≥ 1
    width : int
        Of the `VelocityNetwork`.
    steps : int
        Of Runge and Kutta's rule in either direction: maps and densities are those of the ODE up to O(steps⁻⁴).
    velocity : callable, optional
        Any v(x, u) in place of the network, for instance an exact one.
    generator : torch.Generator, optional
        For the initial weights; None draws fresh entropy.

    Raises
    ------
    ValueError
        If a number is not positive. The methods raise it if points are no (batch, d) tensor of finite numbers.

    Notes
    -----
    Chen et al. (2018); Grathwohl et al. (2019); Lipman et al. (2023). As in `coupling.CouplingFlow` T is `forward`, from data to noise, and `log_prob` is
    differentiable in x and in the weights (of a network). Claims FLW-5, FLW-6.

    Training by likelihood finds whatever error the solver makes: with two or three steps it claims less than the entropy of the data. What is claimed must
    stay when `steps` is raised, and ∫ e^{log_prob} dx must be 1 (claim CNF-07).
    """

    def __init__(
        self,
        d: int,
        width: int = 48,
        steps: int = 8,
        velocity: Velocity | None = None,
        generator: torch.Generator | None = None,
    ):
        super().__init__()
        self.d, self.steps = _count(d, "d"), _count(steps, "steps")
        self.velocity = VelocityNetwork(d, width, generator) if velocity is None else velocity

    def times(self, back: bool = False) -> torch.Tensor:
        """The grid u = 0, …, 1, descending if back."""
        grid = torch.linspace(0, 1, self.steps + 1, dtype=torch.float64)
        return grid.flip(0) if back else grid

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """z = T(x), (batch, d): data to noise, u from 1 to 0."""
        return integrate(self.velocity, _points(x, "x", self.d), self.times(back=True))

    def inverse(self, z: torch.Tensor) -> torch.Tensor:
        """x = T^{−1}(z), (batch, d): noise to data, u from 0 to 1. It undoes `forward` up to the error of the solver."""
        return integrate(self.velocity, _points(z, "z", self.d), self.times())

    def log_det(self, x: torch.Tensor) -> torch.Tensor:
        """log|det J_T(x)| = −∫_0^1 ∇·v du along the trajectory that ends in x, (batch,)."""
        return transport(self.velocity, _points(x, "x", self.d), self.times(back=True)).log_det

    def log_prob(self, x: torch.Tensor) -> torch.Tensor:
        """log p(x) = log N(T(x); 0, I) − ∫_0^1 ∇·v du, (batch,), nats."""
        z, log_det = transport(self.velocity, _points(x, "x", self.d), self.times(back=True))
        return _log_normal(z) + log_det

    def sample(self, n: int, generator: torch.Generator | None = None) -> torch.Tensor:
        """n independent draws T^{−1}(z), z ~ N(0, I), (n, d), without gradients; None draws fresh entropy."""
        z = torch.randn(_count(n, "n"), self.d, dtype=torch.float64, generator=_stream(generator))
        with torch.no_grad():
            return self.inverse(z)


# ------------------------------------------------------------------------------------------------- flow matching


def flow_matching(
    flow: ContinuousFlow,
    data: torch.Tensor,
    steps: int = 2000,
    batch: int = 256,
    rate: float = 1e-2,
    generator: torch.Generator | None = None,
) -> torch.Tensor:
    """Train the velocity of a flow, in place, by regression: E|v_θ(x_u, u) − (a − z)|², x_u = u a + (1 − u) z, u uniform. Losses (steps,).

    No ODE is solved. The loss is E|v_θ − v|² plus what no velocity can remove, `matching_floor`.

    Parameters
    ----------
    flow : ContinuousFlow
    data : torch.Tensor, shape (n, d)
        The rows a.
    steps, batch : int
    rate : float, > 0
        The highest learning rate; see `coupling.maximum_likelihood`.
    generator : torch.Generator, optional
        Draws a, z and u; None draws fresh entropy.

    Raises
    ------
    ValueError
        If a shape does not fit, a number is out of range, or the loss leaves the finite numbers.

    Notes
    -----
    Lipman et al. (2023), straight paths with σ_min = 0; Albergo, Vanden-Eijnden (2023); Liu, Gong, Liu (2023). Claims CNF-02, CNF-03.
    """
    data, stream = _points(data, "data", flow.d), _stream(generator)
    steps, batch = _count(steps, "steps", 2), _count(batch, "batch")
    if len(data) == 0:
        raise ValueError("data: got no rows; expected at least one")

    def loss() -> torch.Tensor:
        a = data[torch.randint(len(data), (batch,), generator=stream)]
        z = torch.randn(a.shape, dtype=a.dtype, generator=stream)
        u = torch.rand(batch, dtype=a.dtype, generator=stream)
        x = u[:, None] * a + (1 - u[:, None]) * z
        return (flow.velocity(x, u) - (a - z)).square().sum(1).mean()

    return descend(flow, loss, steps, rate)


def _components(law: Target, x: torch.Tensor, u) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Of the law of x_u: p_k(x), (batch, K), E[a − z | x, k], (batch, K, d), and Γ_u, (batch, 1)."""
    x = _points(x, "x", law.means.shape[1])
    u = torch.as_tensor(u, dtype=x.dtype).expand(len(x))[:, None]
    if not bool(((u >= 0) & (u <= 1)).all()):
        raise ValueError(f"u: got {u.flatten().tolist()[:4]}; expected numbers in [0, 1]")
    gamma = u**2 * law.variance + (1 - u) ** 2
    away = x[:, None] - u[:, None] * law.means
    logits = law.weights.log() - away.square().sum(2) / (2 * gamma)
    slope = (u * law.variance - (1 - u)) / gamma
    return logits.softmax(1), law.means + slope[:, None] * away, gamma


def marginal_velocity(law: Target) -> Velocity:
    """The velocity that flow matching learns, exactly: v(x, u) = E[a − z | x_u = x] for data a from a mixture; a callable (x, u).

    Each component k contributes m_k + (u s² − (1 − u))(x − u m_k)/Γ_u, with its posterior weight. v(x, 0) = E[a] − x and v(x, 1) = x. u is
    a number in [0, 1] or one per point; differentiable in x.

    Raises
    ------
    ValueError
        When called, if a shape does not fit or u is not in [0, 1].

    Notes
    -----
    Albergo, Vanden-Eijnden (2023); it is the probability-flow ODE of diffusion in another clock, x_u = r x_t with r² = u² + (1 − u)² and e^{−t} = u/r. Claims
    CNF-02, CNF-05.
    """

    def velocity(x: torch.Tensor, u: float | torch.Tensor) -> torch.Tensor:
        p, v, _ = _components(law, x, u)
        return (p[..., None] * v).sum(1)

    return velocity


def _over_the_path(law: Target, integrand, nodes: int) -> float:
    """∫_0^1 du ∫ dx p_u(x) f(x, u), by Gauss and Legendre in u and midpoints in x (one or two dimensions)."""
    total = 0.0
    for node, weight in zip(*np.polynomial.legendre.leggauss(_count(nodes, "nodes")), strict=True):
        u = (1 + float(node)) / 2
        level = Target(u * law.means, u**2 * law.variance + (1 - u) ** 2, law.weights)
        grid = around(level)
        p = level.log_density(grid.x).exp()
        seen = p > 1e-17 * p.max()
        with torch.no_grad():
            total += weight / 2 * grid.cell * float(p[seen] @ integrand(grid.x[seen], u))
    return total


def matching_floor(law: Target, nodes: int = 32) -> float:
    """What is left of the loss of flow matching at its minimum: ∫_0^1 E tr Cov(a − z | x_u) du, by quadrature. For one Gaussian of width s it is dπs/2.

    It is the variance of slopes at one place, and says nothing of the quality of a model: compare the excess, `matching_error`.

    Raises
    ------
    ValueError
        If the law has more than two dimensions, or nodes < 1.

    Notes
    -----
    Claim CNF-03. For one Gaussian Var(a − z | x_u) = s²/Γ_u in each direction.
    """

    def variance(x, u):
        p, v, gamma = _components(law, x, u)
        mean = (p[..., None] * v).sum(1)
        return x.shape[1] * law.variance / gamma[:, 0] + (p * v.square().sum(2)).sum(1) - mean.square().sum(1)

    return _over_the_path(law, variance, nodes)


def matching_error(velocity: Velocity, law: Target, nodes: int = 32) -> float:
    """∫_0^1 E|v_θ(x_u, u) − v(x_u, u)|² du by quadrature: by how much the loss of flow matching lies above its floor.

    Raises
    ------
    ValueError
        If the law has more than two dimensions, or nodes < 1.

    Notes
    -----
    Claim CNF-03.
    """
    exact = marginal_velocity(law)
    return _over_the_path(law, lambda x, u: (velocity(x, u) - exact(x, u)).square().sum(1), nodes)
