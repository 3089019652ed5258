"""Normalizing flows made of couplings (the chapter `flows/coupling`).

A flow is a diffeomorphism T from data x to noise z = T(x) ~ N(0, I), with its inverse for generation, and an exact density:

    p(x) = N(T(x); 0, I) |det J_T(x)|,    log|det J_T(x)| = Σ_k log|det J_{T_k}(x_{k−1})|,    x_0 = x, x_k = T_k(x_{k−1}),

for T = T_L ∘ … ∘ T_1: each layer at the point that the layers before it have reached. An affine coupling keeps some coordinates x_0
and moves the others, d_1 of them, as the kept ones tell it,

    T(x_0, x_1) = (x_0, e^{s(x_0)} ⊙ x_1 + t(x_0)),    log|det J_T| = Σ_{i ≤ d_1} s_i(x_0),

so that the inverse costs what the map costs. `forward` is T, data to noise; `inverse` generates. Points are (batch, d), float64, logarithms
natural. Targets are mixtures Σ_k w_k N(m_k, v I), of which everything is known: what training misses is measured against the entropy.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import nn
from tqdm.auto import tqdm

from physgen.checks import count as _count
from physgen.checks import number as _number
from physgen.checks import stream as _stream
from physgen.energies import adversarial
from physgen.kernels import mixture_score

__all__ = [
    "CouplingFlow",
    "Frames",
    "Grid",
    "Image",
    "Target",
    "Trace",
    "around",
    "box",
    "change_of_variables",
    "couple",
    "cross_entropy",
    "descend",
    "jacobian",
    "layer_frames",
    "least_bridge",
    "least_stretch",
    "maximum_likelihood",
    "mode_masses",
    "monotone_map",
    "moons",
    "normal_log_density",
    "perceptron",
    "ring",
    "stretch",
    "target",
    "two_modes",
    "uncouple",
]

Map = Callable[[torch.Tensor], torch.Tensor]
Conditioner = Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]
FARTHEST = 1e100  # squares of coordinates, times e^{2s}, stay finite


class Image(NamedTuple):
    """A point and what the map did to volumes: `x` (batch, d), `log_det` (batch,) of |det J|."""

    x: torch.Tensor
    log_det: torch.Tensor


class Trace(NamedTuple):
    """The way through the layers: `points` (L + 1, batch, d), the first is where it starts, and `log_dets` (L, batch) of the layers."""

    points: torch.Tensor
    log_dets: torch.Tensor


class Grid(NamedTuple):
    """Nodes x (n, d) of a quadrature, each with the volume `cell`."""

    x: torch.Tensor
    cell: float


class Frames(NamedTuple):
    """What the noise becomes, layer by layer of generation: 0 is the noise, L the generated law. For pictures; float64, no gradients."""

    grid: torch.Tensor  # (L + 1, 2, lines, nodes, 2) the images of horizontal and of vertical lines
    points: torch.Tensor  # (L + 1, n, 2) the images of samples
    log_density: torch.Tensor  # (L + 1, n) of the law of that layer, at its points
    axis: torch.Tensor  # (m,) coordinates of the map
    log_map: torch.Tensor  # (L + 1, m, m) log density of the law of that layer at (x, y) = (axis[j], axis[i])


# ------------------------------------------------------------------------------------------------- what comes in


def _points(x, name: str = "x", d: int | None = None) -> torch.Tensor:
    """x as float64, if it is a (batch, d) tensor of finite numbers."""
    came = f"{x.dtype}, shape {tuple(x.shape)}" if isinstance(x, torch.Tensor) else repr(x)
    fits = isinstance(x, torch.Tensor) and x.is_floating_point() and x.ndim == 2 and x.shape[1] > 0
    if not fits or (d is not None and x.shape[1] != d):
        raise ValueError(f"{name}: got {came}; expected a floating-point tensor of shape (batch, {d or 'd'})")
    if not bool((x.detach().abs() <= FARTHEST).all()):  # NaN fails
        raise ValueError(
            f"{name}: got NaN, infinity or a number beyond {FARTHEST:g}; expected finite numbers"
        )
    return x.double()


def _mask(kept, d: int) -> torch.Tensor:
    fits = isinstance(kept, torch.Tensor) and kept.dtype == torch.bool and kept.shape == (d,)
    if not fits or bool(kept.all()) or not bool(kept.any()):
        raise ValueError(
            f"kept: got {kept!r:.80}; expected a boolean tensor of shape ({d},), true and false both in it"
        )
    return kept


# ------------------------------------------------------------------------------------------------- change of variables


def normal_log_density(z: torch.Tensor) -> torch.Tensor:
    """log N(z; 0, I) = −|z|²/2 − (d/2) log 2π, (batch,), for z of shape (batch, d).

    Raises
    ------
    ValueError
        If z is no (batch, d) tensor of finite numbers.
    """
    return _log_normal(_points(z, "z"))


def _log_normal(z: torch.Tensor) -> torch.Tensor:
    return -(z.square().sum(1) + z.shape[1] * math.log(2 * math.pi)) / 2


def jacobian(transform: Map, x: torch.Tensor) -> torch.Tensor:
    """J_ij = ∂T_i/∂x_j at each point, (batch, d, d), by d passes of automatic differentiation; rows of x must not mix in T.

    Raises
    ------
    ValueError
        If x is no (batch, d) tensor of finite numbers, or T returns another shape.
    """
    x = _points(x).detach().requires_grad_()
    with torch.enable_grad():
        out = _points(transform(x), "transform(x)", x.shape[1])
        rows = [torch.autograd.grad(column.sum(), x, retain_graph=True)[0] for column in out.unbind(1)]
    return torch.stack(rows, 1)


def change_of_variables(transform: Map, x: torch.Tensor) -> torch.Tensor:
    """log p(x) = log N(T(x); 0, I) + log|det J_T(x)| for any diffeomorphism T, (batch,): d backward passes and a determinant.

    The definition to which every flow is held; the absolute value matters as soon as T turns space over.

    Parameters
    ----------
    transform : callable
        T, from (batch, d) to (batch, d), differentiable by torch, no mixing of rows.
    x : torch.Tensor, shape (batch, d)

    Raises
    ------
    ValueError
        If a shape does not fit or a number is not finite.

    Notes
    -----
    Rezende, Mohamed (2015); claim FLW-1. The cost grows as d³: couplings are built to avoid it.
    """
    with torch.no_grad():
        return normal_log_density(transform(_points(x))) + torch.linalg.slogdet(jacobian(transform, x))[1]


def _split(kept: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Indices of the kept coordinates, of the moved ones, and what brings (kept, moved) back into order."""
    stay, move = kept.nonzero()[:, 0], (~kept).nonzero()[:, 0]
    return stay, move, torch.cat([stay, move]).argsort()


def _couple(x, conditioner: Conditioner, split, back: bool) -> Image:
    stay, move, order = split
    x0, x1 = x[:, stay], x[:, move]
    s, t = conditioner(x0)
    x1 = (x1 - t) * (-s).exp() if back else x1 * s.exp() + t
    return Image(torch.cat([x0, x1], 1)[:, order], (-s if back else s).sum(1))


def _checked_coupling(x, conditioner: Conditioner, kept, back: bool) -> Image:
    x = _points(x)
    split = _split(_mask(kept, x.shape[1]))
    for values, name in zip(conditioner(x[:, split[0]]), ("log-scale", "shift"), strict=True):
        if values.shape != (len(x), len(split[1])):
            raise ValueError(
                f"conditioner: got a {name} of shape {tuple(values.shape)}; expected one number for each moved "
                f"coordinate, {(len(x), len(split[1]))}"
            )
        _points(values, f"conditioner: {name}")
    return _couple(x, conditioner, split, back)


def couple(x: torch.Tensor, conditioner: Conditioner, kept: torch.Tensor) -> Image:
    """An affine coupling, T(x_0, x_1) = (x_0, e^{s(x_0)} ⊙ x_1 + t(x_0)), and log|det J_T| = Σ_i s_i(x_0), over the moved coordinates.

    J_T is block triangular, with the identity and diag e^{s} on its diagonal: s and t may be anything.

    Parameters
    ----------
    x : torch.Tensor, shape (batch, d)
    conditioner : callable
        From x_0, (batch, d_0), to the pair (s, t), each (batch, d − d_0): one log-scale and one shift for each moved coordinate.
    kept : torch.Tensor, shape (d,), bool
        True for the coordinates of x_0, at least one and not all.

    Returns
    -------
    Image
        T(x), its coordinates in their old order, and log|det J_T(x)|.

    Raises
    ------
    ValueError
        If a shape does not fit or a number is not finite.

    Notes
    -----
    Dinh, Sohl-Dickstein, Bengio (2017), eqs. 4 to 6; notes (6.2.16), (6.2.18). Claims FLW-3, FLW-4, KOF-4.
    """
    return _checked_coupling(x, conditioner, kept, False)


def uncouple(z: torch.Tensor, conditioner: Conditioner, kept: torch.Tensor) -> Image:
    """The inverse of `couple`, (z_0, (z_1 − t(z_0)) ⊙ e^{−s(z_0)}), and its log|det J| = −Σ_i s_i(z_0). s and t are not inverted.

    Arguments and errors are those of `couple`.

    Notes
    -----
    Notes (6.2.17); claims FLW-3, KOF-4.
    """
    return _checked_coupling(z, conditioner, kept, True)


# ------------------------------------------------------------------------------------------------- the flow


def perceptron(sizes: list[int], generator: torch.Generator | None = None) -> nn.Sequential:
    """Linear layers with tanh between them, float64; the last one starts at zero, so that what is built on it starts as the identity.

    Raises
    ------
    ValueError
        If there are fewer than two sizes, or one is no positive integer.
    """
    sizes, stream = [_count(n, "sizes", 1) for n in sizes], _stream(generator)
    if len(sizes) < 2:
        raise ValueError(f"sizes: got {sizes}; expected at least two")
    layers: list[nn.Module] = []
    for fan_in, fan_out in pairwise(sizes):
        # skip_init leaves the global random stream alone.
        layer = nn.utils.skip_init(nn.Linear, fan_in, fan_out, dtype=torch.float64)
        nn.init.normal_(layer.weight, std=1.5 / math.sqrt(fan_in), generator=stream)
        nn.init.normal_(layer.bias, std=1.0, generator=stream)
        layers += [layer, nn.Tanh()]
    nn.init.zeros_(layers[-2].weight)
    nn.init.zeros_(layers[-2].bias)
    return nn.Sequential(*layers[:-1])


class CouplingFlow(nn.Module):
    """T = T_L ∘ … ∘ T_1 of affine couplings that keep the even and the odd coordinates in turn; the identity before training.

    Layer k = 1 … L keeps the coordinates i with i ≡ k + 1 modulo 2 (0, 2, … first), and its log-scale and shift are a perceptron of the kept ones,
    with s = b tanh(…) bounded: no layer stretches a direction by more than e^b.

    Parameters
    ----------
    d : int, ≥ 2
    layers : int, ≥ 0
        L. Two of them move every coordinate once.
    width : int
        Units in each of the two hidden layers of a conditioner.
    bound : float, ≥ 0
        b. At b = 0 the flow is NICE: it moves volume and never changes it.
    generator : torch.Generator, optional
        For the initial weights; None draws fresh entropy.

    Raises
    ------
    ValueError
        If a number is out of range. The methods raise it if points are no (batch, d) tensor of finite numbers.

    Notes
    -----
    Dinh, Krueger, Bengio (2015), NICE; Dinh, Sohl-Dickstein, Bengio (2017), Real NVP. Everything is float64, and `log_prob` is
    differentiable in x and in the weights. Claims FLW-1 to FLW-4.
    """

    def __init__(
        self,
        d: int,
        layers: int = 8,
        width: int = 32,
        bound: float = 2.0,
        generator: torch.Generator | None = None,
    ):
        super().__init__()
        self.d, self.bound, stream = _count(d, "d", 2), _number(bound, "bound", 0), _stream(generator)
        even = torch.arange(d) % 2 == 0
        self.kept = [even if k % 2 == 0 else ~even for k in range(_count(layers, "layers", 0))]
        self._splits = [_split(kept) for kept in self.kept]
        sizes, width = [(int(kept.sum()), int((~kept).sum())) for kept in self.kept], _count(width, "width")
        self.conditioners = nn.ModuleList(perceptron([d0, width, width, 2 * d1], stream) for d0, d1 in sizes)

    def conditioner(self, k: int) -> Conditioner:
        """x_0 ↦ (s, t) of the layer k = 0 … L − 1."""

        def scale_and_shift(x0: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            s, t = self.conditioners[k](x0).chunk(2, 1)
            return self.bound * s.tanh(), t

        return scale_and_shift

    def trace(self, x: torch.Tensor) -> Trace:
        """x_0 = x, x_1 = T_1(x_0), …, x_L = T(x), and log|det J_{T_k}(x_{k−1})| of each layer."""
        return self._trace(_points(x, "x", self.d), range(len(self.kept)), False)

    def trace_inverse(self, z: torch.Tensor) -> Trace:
        """The way back, as generation goes it: z, T_L^{−1}(z), …, T^{−1}(z), and log|det J| of each of these maps."""
        return self._trace(_points(z, "z", self.d), reversed(range(len(self.kept))), True)

    def _trace(self, x: torch.Tensor, order, back: bool) -> Trace:
        points, log_dets = [x], []
        for k in order:
            x, log_det = _couple(x, self.conditioner(k), self._splits[k], back)
            points.append(x)
            log_dets.append(log_det)
        return Trace(torch.stack(points), torch.stack(log_dets) if log_dets else x.new_zeros(0, len(x)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """z = T(x), (batch, d): data to noise."""
        return self.trace(x).points[-1]

    def inverse(self, z: torch.Tensor) -> torch.Tensor:
        """x = T^{−1}(z), (batch, d): noise to data."""
        return self.trace_inverse(z).points[-1]

    def log_det(self, x: torch.Tensor) -> torch.Tensor:
        """log|det J_T(x)|, (batch,)."""
        return self.trace(x).log_dets.sum(0)

    def log_prob(self, x: torch.Tensor) -> torch.Tensor:
        """log p(x) = log N(T(x); 0, I) + log|det J_T(x)|, (batch,), nats."""
        trace = self.trace(x)
        return _log_normal(trace.points[-1]) + trace.log_dets.sum(0)

    def sample(self, n: int, generator: torch.Generator | None = None) -> torch.Tensor:
        """n independent draws T^{−1}(z), z ~ N(0, I), (n, d), without gradients; None draws fresh entropy."""
        z = torch.randn(_count(n, "n", 1), self.d, dtype=torch.float64, generator=_stream(generator))
        with torch.no_grad():
            return self.inverse(z)


def maximum_likelihood(
    flow: nn.Module,
    data: torch.Tensor,
    steps: int = 800,
    batch: int = 128,
    rate: float = 1e-2,
    generator: torch.Generator | None = None,
) -> torch.Tensor:
    """Train a flow, in place, to make data likely: the loss −E log p_θ(x) = KL(p ‖ p_θ) + H[p] is an entropy at best. Losses (steps,).

    Adam, with the rate raised over the first fifth and lowered over the rest (Smith, Topin 2019), on rows drawn with replacement.

    Parameters
    ----------
    flow : nn.Module
        With a method log_prob(x): a `CouplingFlow` or a `ContinuousFlow`.
    data : torch.Tensor, shape (n, d)
    steps, batch : int
    rate : float, > 0
        The highest learning rate.
    generator : torch.Generator, optional
        Draws the rows; None draws fresh entropy.

    Raises
    ------
    ValueError
        If a shape does not fit, a number is out of range, or the loss leaves the finite numbers.

    Notes
    -----
    Notes (6.2.15), (6.2.19). 800 steps of the default coupling flow in the plane take three seconds of one core. In float64 two runs from one seed agree to
    many digits whatever the number of threads.
    """
    data, stream = _points(data, "data"), _stream(generator)
    steps, batch = _count(steps, "steps", 2), _count(batch, "batch", 1)
    if len(data) == 0:
        raise ValueError("data: got no rows; expected at least one")

    def loss() -> torch.Tensor:
        rows = torch.randint(len(data), (batch,), generator=stream)
        return -flow.log_prob(data[rows]).mean()

    return descend(flow, loss, steps, rate)


def descend(model: nn.Module, loss: Callable[[], torch.Tensor], steps: int, rate: float) -> torch.Tensor:
    """Minimise a random loss over the parameters of a model by Adam, the rate raised over a fifth and lowered as a cosine; the losses (steps,).

    Raises
    ------
    ValueError
        If the rate is not positive, or a loss is not finite.
    """
    rate = _number(rate, "rate", 0, strict=True)
    adam = torch.optim.Adam(model.parameters(), rate, fused=True)
    losses = torch.empty(steps, dtype=torch.float64)
    for step in tqdm(range(steps), delay=2, disable=bool(os.environ.get("PHYSGEN_QUIET")), desc="training"):
        warm, cool = min(1.0, 5 * (step + 1) / steps), (1 + math.cos(math.pi * step / steps)) / 2
        adam.param_groups[0]["lr"] = rate * warm * cool
        adam.zero_grad()
        value = loss()
        value.backward()
        adam.step()
        losses[step] = value.detach()
    if not bool(losses.isfinite().all()):
        raise ValueError(f"rate: got {rate}; the loss left the finite numbers, a smaller rate is needed")
    return losses


# ------------------------------------------------------------------------------------------------- targets, known exactly


class Target(NamedTuple):
    """The law Σ_k w_k N(m_k, v I); make it with `target`."""

    means: torch.Tensor  # (K, d)
    variance: float
    weights: torch.Tensor  # (K,)

    def log_density(self, x: torch.Tensor) -> torch.Tensor:
        """log p(x), (batch,), nats."""
        x = _points(x, "x", self.means.shape[1])
        return mixture_score.log_density(x, self.means, 1.0, self.variance, self.weights)

    def sample(self, n: int, generator: torch.Generator | None = None) -> torch.Tensor:
        """n independent draws, (n, d), float64."""
        stream = _stream(generator)
        k = torch.multinomial(self.weights, _count(n, "n", 1), True, generator=stream)
        z = torch.randn(n, self.means.shape[1], dtype=torch.float64, generator=stream)
        return self.means[k] + math.sqrt(self.variance) * z


def target(means: torch.Tensor, variance: float, weights: torch.Tensor | None = None) -> Target:
    """The mixture Σ_k w_k N(m_k, v I), float64.

    Parameters
    ----------
    means : torch.Tensor, shape (K, d)
    variance : float, > 0
        v.
    weights : torch.Tensor, shape (K,), optional
        w_k > 0 with sum 1; None makes them equal.

    Raises
    ------
    ValueError
        If a shape does not fit, v or a weight is not > 0, or the weights do not sum to 1.
    """
    m, v = _points(means, "means").detach(), _number(variance, "variance", 0, strict=True)
    if len(m) == 0:
        raise ValueError("means: got none; expected at least one")
    if weights is None:
        return Target(m, v, m.new_full((len(m),), 1 / len(m)))
    row = weights[None] if isinstance(weights, torch.Tensor) else weights
    w = _points(row, "weights", len(m))[0]
    if not bool((w > 0).all()) or abs(float(w.sum()) - 1) > 1e-9:
        raise ValueError(f"weights: got {w.tolist()}; expected positive numbers with sum 1")
    return Target(m, v, w)


def two_modes(m: float = 2.0, variance: float = 0.25, d: int = 1) -> Target:
    """½ N(−m e, v I) + ½ N(m e, v I), e the first axis of d dimensions. ValueError as `target`, or if d < 1."""
    means = torch.zeros(2, _count(d, "d", 1), dtype=torch.float64)
    means[:, 0] = torch.tensor([-1.0, 1.0]) * _number(m, "m", 0)
    return target(means, variance)


def ring(modes: int = 8, radius: float = 2.0, variance: float = 0.04) -> Target:
    """Gaussians of one variance on a circle in the plane, the first at (radius, 0). ValueError as `target`, or if modes < 1 or radius ≤ 0."""
    return target(adversarial.ring(modes, radius), variance)


def moons(n: int = 24, variance: float = 0.02) -> Target:
    """Two interleaved half circles in the plane, n Gaussians on each, of about unit variance in both directions. ValueError as `target`, or if n < 2."""
    angle = torch.linspace(0, math.pi, _count(n, "n", 2), dtype=torch.float64)
    upper = torch.stack([angle.cos() - 0.5, angle.sin() - 0.25], 1)
    return target(torch.cat([upper, -upper]) * torch.tensor([1.15, 1.9], dtype=torch.float64), variance)


# ------------------------------------------------------------------------------------------------- quadrature


def box(low: list[float], high: list[float], points: list[int]) -> Grid:
    """The midpoints of `points` cells along each axis of the box [low, high]: ∫ f ≈ cell · Σ f(x), exact to all orders for what decays inside.

    Raises
    ------
    ValueError
        If the lists differ in length or are empty, low < high does not hold, or a number of points is not positive.
    """
    if not (len(low) == len(high) == len(points) >= 1):
        raise ValueError(
            f"low, high, points: got {len(low)}, {len(high)}, {len(points)} values; expected one each per axis"
        )
    axes, cell = [], 1.0
    for a, b, n in zip(low, high, points, strict=True):
        a, b, n = _number(a, "low"), _number(b, "high"), _count(n, "points", 1)
        if a >= b:
            raise ValueError(f"low: got {a}; expected less than high = {b}")
        axes.append(a + (b - a) * (torch.arange(n, dtype=torch.float64) + 0.5) / n)
        cell *= (b - a) / n
    return Grid(torch.cartesian_prod(*axes).reshape(-1, len(axes)), cell)


def around(law: Target, reach: float = 8.0, resolution: float = 2.0) -> Grid:
    """A grid over all centres and `reach` widths √v about them, `resolution` nodes to a width; in one or two dimensions.

    Raises
    ------
    ValueError
        If the law has more dimensions, or a number is not positive.
    """
    reach, resolution = (
        _number(reach, "reach", 0, strict=True),
        _number(resolution, "resolution", 0, strict=True),
    )
    if law.means.shape[1] > 2:
        raise ValueError(f"law: got d = {law.means.shape[1]}; quadrature serves one or two dimensions")
    width = math.sqrt(law.variance)
    low, high = law.means.amin(0) - reach * width, law.means.amax(0) + reach * width
    points = ((high - low) / width * resolution).ceil().long()
    return box(low.tolist(), high.tolist(), points.tolist())


def cross_entropy(law: Target, log_density: Map | None = None, resolution: float = 4.0) -> float:
    """−∫ p log q by quadrature, nats, for log q = `log_density`; without it the entropy of p, the floor under every likelihood.

    The difference of the two is KL(p ‖ q), free of sampling errors.

    Parameters
    ----------
    law : Target
        p, in one or two dimensions.
    log_density : callable, optional
        From (batch, d) to (batch,), for instance the log_prob of a trained flow. Smooth on the scale of the components of p.
    resolution : float
        Nodes to a width √v of a component.

    Raises
    ------
    ValueError
        If d > 2, or log q is not finite where p has mass.

    Notes
    -----
    Claim CPL-03. For Gaussians two nodes to a width are exact to e^{−8π²}, below rounding; trained couplings bend faster than their target, and
    need four for four digits. A `ContinuousFlow` is smooth, and content with two.
    """
    grid = around(law, resolution=resolution)
    log_p = law.log_density(grid.x)
    seen = log_p > log_p.max() - 36  # e^{−36}: what is left out weighs nothing
    log_p = log_p[seen]
    if log_density is None:
        log_q = log_p
    else:
        with torch.no_grad():
            log_q = torch.cat([log_density(x) for x in grid.x[seen].split(2**14)])
    if log_q.shape != log_p.shape or not bool(log_q.isfinite().all()):
        raise ValueError(
            f"log_density: got shape {tuple(log_q.shape)}; expected {tuple(log_p.shape)} finite numbers"
        )
    return -float((log_p.exp() * log_q).sum()) * grid.cell


def mode_masses(law: Target, log_density: Map) -> torch.Tensor:
    """∫ q(x) P(k|x) dx by quadrature, (K,): how much mass the law q has given to each component k of the target.

    P(k|x) is the probability that the target would have drawn x from component k, so that q = p gives w_k. What q puts farther than 8 widths from the box of all
    centres is not counted.

    Raises
    ------
    ValueError
        If d > 2.

    Notes
    -----
    Claim CPL-04: KL(p ‖ q) ≥ Σ_k w_k log(w_k/Q_k), since asking for the component can only lose information. Likelihood covers: a mode without mass costs infinity.
    """
    grid = around(law, resolution=4.0)
    with torch.no_grad():
        q = torch.cat([log_density(x) for x in grid.x.split(2**14)]).exp()
    owner = mixture_score.weights(grid.x, law.means, 1.0, law.variance, law.weights)
    return grid.cell * (q @ owner)


# ------------------------------------------------------------------------------------------------- one dimension, two modes


def monotone_map(z: torch.Tensor, law: Target) -> torch.Tensor:
    """f = F^{−1} ∘ Φ, (n,): the increasing map that carries N(0, 1) to a law of one dimension, F its distribution function.

    It is the only increasing one, and its slope φ(z)/p(f(z)) is large where the target is thin.

    Parameters
    ----------
    z : torch.Tensor, shape (n,)
        |z| ≤ 35.
    law : Target
        In one dimension.

    Raises
    ------
    ValueError
        If z is no (n,) tensor of such numbers, or d > 1.

    Notes
    -----
    Talk on flows and DDPM, the Gaussian with two modes; claim KOF-3. Bisection of log F, of log(1 − F) in the right half: both tails keep their digits.
    """
    if law.means.shape[1] != 1:
        raise ValueError(f"law: got d = {law.means.shape[1]}; expected one dimension")
    if not isinstance(z, torch.Tensor) or z.ndim != 1:
        raise ValueError(f"z: got {getattr(z, 'shape', z)!r}; expected a tensor of shape (n,)")
    z = _points(z[:, None], "z")
    if bool((z.abs() > 35).any()):
        raise ValueError(f"z: got {float(z.abs().max())}; expected |z| <= 35")
    width, log_w = math.sqrt(law.variance), law.weights.log()
    side = torch.where(z > 0, -1.0, 1.0)  # work in the tail that is small

    def log_tail(x):
        return torch.special.log_ndtr(side * (x - law.means.T) / width).add(log_w).logsumexp(1, keepdim=True)

    wanted = torch.special.log_ndtr(side * z)
    low, high = law.means.amin() + width * z, law.means.amax() + width * z  # where all components agree
    for _ in range(80):
        middle = (low + high) / 2
        above = side * (log_tail(middle) - wanted) > 0
        low, high = torch.where(above, low, middle), torch.where(above, middle, high)
    return ((low + high) / 2)[:, 0]


def _share(value, name: str) -> float:
    if not 0 < _number(value, name) < 1:
        raise ValueError(f"{name}: got {value!r}; expected a number in (0, 1)")
    return float(value)


def least_stretch(left: float, right: float, gap: float) -> float:
    """The Lipschitz constant that generation needs: a map of N(0, I) that puts masses `left` and `right` on two sets at the distance `gap` has
    L ≥ gap / [Φ^{−1}(1 − right) − Φ^{−1}(left)].

    With the same mass (1 − ε)/2 on both sides that is gap / 2Φ^{−1}((1 + ε)/2); it grows without bound as the bridge ε thins out.

    Raises
    ------
    ValueError
        If a mass is not in (0, 1), their sum is ≥ 1 (a continuous map cannot leave nothing between), or gap ≤ 0.

    Notes
    -----
    The Gaussian isoperimetric inequality (Borell 1975), γ(A_r) ≥ Φ(Φ^{−1}(γ(A)) + r), for the preimages, which lie gap/L apart; Salmona et al. (2022). It is sharp:
    maps that depend on one coordinate reach it. Claim CPL-01.
    """
    left, right, gap = _share(left, "left"), _share(right, "right"), _number(gap, "gap", 0, strict=True)
    if left + right >= 1:
        raise ValueError(f"left, right: got {left} + {right}; expected a sum < 1, some mass lies between")
    tails = torch.special.ndtri(torch.tensor([left, right], dtype=torch.float64))
    return gap / -float(tails.sum())  # Φ^{−1}(1 − right) = −Φ^{−1}(right)


def least_bridge(gap: float, lipschitz: float) -> float:
    """The mass that a map of N(0, I) with Lipschitz constant L leaves between two modes of equal mass at the distance r: ε ≥ erf(r/(2√2 L)).

    Raises
    ------
    ValueError
        If gap or L is not positive.

    Notes
    -----
    `least_stretch` solved for ε; claim CPL-01.
    """
    gap, lipschitz = _number(gap, "gap", 0, strict=True), _number(lipschitz, "lipschitz", 0, strict=True)
    return math.erf(gap / (2 * math.sqrt(2) * lipschitz))


def stretch(flow, z: torch.Tensor) -> torch.Tensor:
    """The largest singular value of ∂T^{−1}/∂z, (batch,): how much generation stretches space at z. Its supremum is the Lipschitz constant.

    Of couplings that supremum is infinite as soon as s varies, since the slope of z_1 e^{−s(z_0)} in z_0 grows with z_1: what counts is the stretch where the noise is.

    Raises
    ------
    ValueError
        If z is no (batch, d) tensor of finite numbers.
    """
    return torch.linalg.matrix_norm(jacobian(flow.inverse, z), 2)


# ------------------------------------------------------------------------------------------------- pictures


def layer_frames(
    flow: CouplingFlow,
    n: int = 400,
    lines: int = 15,
    extent: float = 3.0,
    nodes: int = 61,
    resolution: int = 64,
    generator: torch.Generator | None = None,
) -> Frames:
    """Generation layer by layer in the plane: the images of a grid of lines and of samples of the noise, and the density of each law.

    After k layers the law is that of T_{L−k+1}^{−1} ∘ … ∘ T_L^{−1}(z); k = 0 is N(0, I), k = L the model.

    Parameters
    ----------
    flow : CouplingFlow
        With d = 2.
    n : int
        Samples.
    lines, nodes : int
        Lines in each direction of the square [−extent, extent]², and nodes on each.
    extent : float, > 0
        Also of the map of the density.
    resolution : int
        m, of that map.
    generator : torch.Generator, optional
        For the samples; None draws fresh entropy.

    Raises
    ------
    ValueError
        If d is not 2 or a number is out of range.
    """
    if flow.d != 2:
        raise ValueError(f"flow: got d = {flow.d}; expected 2")
    n, lines, nodes = _count(n, "n", 1), _count(lines, "lines", 2), _count(nodes, "nodes", 2)
    extent, m = _number(extent, "extent", 0, strict=True), _count(resolution, "resolution", 2)
    across = torch.linspace(-extent, extent, lines, dtype=torch.float64)
    along = torch.linspace(-extent, extent, nodes, dtype=torch.float64)
    level, run = torch.meshgrid(across, along, indexing="ij")
    grid = torch.stack([torch.stack([run, level], -1), torch.stack([level, run], -1)])
    z = torch.randn(n, 2, dtype=torch.float64, generator=_stream(generator))
    axis = torch.linspace(-extent, extent, m, dtype=torch.float64)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    lattice = torch.stack([x.flatten(), y.flatten()], 1)
    with torch.no_grad():
        moved = flow.trace_inverse(torch.cat([grid.reshape(-1, 2), z]))
        log_dets = torch.cat([moved.log_dets.new_zeros(1, n), moved.log_dets[:, -n:].cumsum(0)])
        maps = [_partial_log_prob(flow, lattice, k) for k in range(len(flow.kept) + 1)]
    layers = len(moved.points)
    return Frames(
        moved.points[:, :-n].reshape(layers, *grid.shape),
        moved.points[:, -n:],
        normal_log_density(z) - log_dets,
        axis,
        torch.stack(maps).reshape(layers, m, m),
    )


def _partial_log_prob(flow: CouplingFlow, x: torch.Tensor, k: int) -> torch.Tensor:
    """log density at x of the law after k layers of generation: only the last k layers of T lead back to the noise."""
    total = len(flow.kept)
    trace = flow._trace(x, range(total - k, total), False)
    return _log_normal(trace.points[-1]) + trace.log_dets.sum(0)
