"""What the architecture of a denoiser does (the chapter `diffusion/denoisers`).

Noise is written here as the notes write it, y = x + σz: in the book's time y = e^t x_t with σ² = e^{2t} − 1 (`noise_time`). A denoiser
is a callable y ↦ x̂ on points of shape (batch, d). The best one, and its Jacobian, are those of the posterior,

    x̂(y) = E[x | y] = y + σ² ∇log p_σ(y),    J_x̂ = I + σ² ∇²log p_σ = Cov(x | y)/σ²,

so J is symmetric, its eigenvalues h_k are ≥ 0 and σ² Σ_k h_k is the error to expect at y. A bias-free network of convolutions and
ReLUs has another law: f(λy) = λ f(y) for λ > 0, hence f(y) = J_f(y) y.

The signals on which both are compared take two levels: x = a on a block of sites, b on the rest, a, b ~ N(0, v), and the block is
drawn uniformly from the rows of `masks`, (K, d) of 0 and 1. `jump_masks(d)` are signals with one jump on a segment, `arc_masks(d)` the
arcs of a ring, whose law does not change under shifts. Given the block, everything is Gaussian: with S the sum of y over its m sites,

    p(y | block) ∝ Π_sides (1 + mv/σ²)^{−1/2} exp[v S²/(2σ²(σ² + mv))],    level | y, block ~ N(v S/(σ² + mv), vσ²/(σ² + mv)),

and sums over the K blocks are exact.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from itertools import pairwise
from numbers import Real
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional
from tqdm.auto import tqdm

from physgen.checks import count as _count
from physgen.checks import stream as _own

__all__ = [
    "Basis",
    "ConvDenoiser",
    "Estimate",
    "arc_masks",
    "asymmetry",
    "convolution",
    "convolution_matrix",
    "draw",
    "eigenbasis",
    "equivariance_error",
    "euler_error",
    "excess_error",
    "homogeneity_error",
    "jacobian",
    "jump_energy",
    "jump_masks",
    "log_density",
    "mmse",
    "noise_time",
    "oracle_error",
    "posterior_covariance",
    "posterior_mean",
    "posterior_weights",
    "score",
    "shrinkage",
    "side_constants",
    "signal_covariance",
    "subspace_overlap",
    "train",
    "wiener_error",
]

Denoiser = Callable[[torch.Tensor], torch.Tensor]
PADDINGS = {"circular": "circular", "replicate": "replicate", "zeros": "constant"}
BLOCK = 2**22  # numbers in one piece of a sum over blocks: 32 MB


class Estimate(NamedTuple):
    """A mean over independent draws, and its standard error."""

    mean: float
    error: float


class Basis(NamedTuple):
    """Eigenvalues, descending, (batch, d), and eigenvectors as columns, (batch, d, d)."""

    h: torch.Tensor
    psi: torch.Tensor


class Posterior(NamedTuple):
    """Of the signal given y: over blocks, then over the two levels of each (block first, then the rest)."""

    weights: torch.Tensor  # (batch, K)
    levels: torch.Tensor  # (batch, K, 2)
    spread: torch.Tensor  # (K, 2) variances of the levels
    log_evidence: torch.Tensor  # (batch, K) of log p(y | block), less its value for pure noise


# ------------------------------------------------------------------------------------------------- what comes in


def _number(value, name: str, low: float = 1e-100, high: float = 1e100) -> float:
    fits = isinstance(value, Real) and not isinstance(value, bool)
    if not fits or not low <= value <= high:  # NaN fails
        raise ValueError(f"{name}: got {value!r}; expected a number in [{low:g}, {high:g}]")
    return float(value)


def _real(x, name: str, shape: tuple[int | None, ...], limit: float = 1e50) -> torch.Tensor:
    """x, if it is a floating-point tensor of that shape (None: any length) and |x| stays below the limit."""
    came = f"{x.dtype}, shape {tuple(x.shape)}" if isinstance(x, torch.Tensor) else repr(x)
    wanted = "(" + ", ".join("·" if n is None else str(n) for n in shape) + ")"
    fits = isinstance(x, torch.Tensor) and x.is_floating_point() and x.ndim == len(shape) and x.numel() > 0
    if not fits or any(n not in (None, m) for n, m in zip(shape, x.shape, strict=True)):
        raise ValueError(f"{name}: got {came}; expected a floating-point tensor of shape {wanted}")
    if not bool((x.detach().abs() <= limit).all()):
        raise ValueError(f"{name}: got NaN, infinity or a number beyond {limit:g}; expected finite numbers")
    return x


def _points(y, name: str = "y") -> torch.Tensor:
    return _real(y, name, (None, None))


def _square(a, name: str) -> torch.Tensor:
    """A batch of square matrices (batch, d, d)."""
    d = a.shape[-1] if isinstance(a, torch.Tensor) and a.ndim else None
    return _real(a, name, (None, d, d))


def _masks(masks, d: int | None = None) -> torch.Tensor:
    m = _real(masks, "masks", (None, d))
    if not bool(((m == 0) | (m == 1)).all()) or not bool(m.any(1).all()):
        raise ValueError("masks: got numbers other than 0 and 1, or an empty block; expected indicators")
    return m.double()


def _covariance(covariance) -> torch.Tensor:
    """A symmetric positive semidefinite matrix, float64."""
    c = _square(covariance[None] if isinstance(covariance, torch.Tensor) else covariance, "covariance")[0]
    c = c.double()
    if float((c - c.mT).abs().max()) > 1e-6 * float(c.abs().max()):
        raise ValueError("covariance: got a matrix that is not symmetric")
    return (c + c.mT) / 2


def noise_time(sigma: float) -> float:
    """The time of the book's process at which data carry the noise σ: σ² = e^{2t} − 1, t = ½ log(1 + σ²).

    Raises
    ------
    ValueError
        If sigma is no number in [1e-100, 1e100].
    """
    return math.log1p(_number(sigma, "sigma") ** 2) / 2


# ------------------------------------------------------------------------------------------------- signals of two levels


def jump_masks(d: int) -> torch.Tensor:
    """The left sides {i < τ}, τ = 1 … d − 1, of signals with one jump: (d − 1, d), float64 of 0 and 1.

    Raises
    ------
    ValueError
        If d is no integer ≥ 2.
    """
    d = _count(d, "d", 2)
    return torch.ones(d, d, dtype=torch.float64).tril()[:-1]


def arc_masks(d: int) -> torch.Tensor:
    """The arcs of a ring of d sites, one for each pair of cuts: (d(d − 1)/2, d), float64 of 0 and 1.

    The law of the signals is invariant under shifts, so their covariance is circulant and the best denoiser is equivariant.

    Raises
    ------
    ValueError
        If d is no integer ≥ 2.
    """
    d = _count(d, "d", 2)
    first, last = torch.combinations(torch.arange(d)).T
    site = torch.arange(d)
    return ((site >= first[:, None]) & (site < last[:, None])).double()


def draw(
    n: int, masks: torch.Tensor, variance: float = 1.0, generator: torch.Generator | None = None
) -> torch.Tensor:
    """n signals: a block drawn uniformly from `masks`, level a on it, b elsewhere, a, b ~ N(0, variance); (n, d), float64.

    Raises
    ------
    ValueError
        If n < 1, the masks are not indicators of non-empty blocks, the variance is not in [1e-100, 1e100] or the generator is none.
    """
    m, g = _masks(masks), _own(generator)
    n, width = _count(n, "n"), math.sqrt(_number(variance, "variance"))
    block = m[torch.randint(len(m), (n,), generator=g)]
    a, b = width * torch.randn(2, n, 1, generator=g, dtype=torch.float64)
    return a * block + b * (1 - block)


def signal_covariance(masks: torch.Tensor, variance: float = 1.0) -> torch.Tensor:
    """C_ij = v P(i and j on the same side), (d, d), float64; for one jump on a segment v(1 − |i − j|/(d − 1)).

    Raises
    ------
    ValueError
        If the masks are not indicators of non-empty blocks or the variance is not in [1e-100, 1e100].
    """
    m = _masks(masks)
    return _number(variance, "variance") * (m.T @ m + (1 - m).T @ (1 - m)) / len(m)


def _posterior(y: torch.Tensor, sigma: float, masks: torch.Tensor, variance: float) -> Posterior:
    y = _points(y).double()
    m = _masks(masks, y.shape[1])
    s, v = _number(sigma, "sigma"), _number(variance, "variance")
    size = torch.stack([m.sum(1), (1 - m).sum(1)], 1)  # (K, 2) sites on each side
    total = torch.stack([y @ m.T, y @ (1 - m).T], 2)  # (batch, K, 2) sums of y
    shrink = v / (s**2 + size * v)
    # S/σ is squared, not S²/σ²: at σ = 1e-100 the ratio is in range and σ² alone is close to its end.
    evidence = ((total / s) ** 2 * shrink - torch.log1p(size * v / s**2)).sum(2) / 2
    return Posterior(evidence.softmax(1), total * shrink, s**2 * shrink, evidence)


def posterior_weights(
    y: torch.Tensor, sigma: float, masks: torch.Tensor, variance: float = 1.0
) -> torch.Tensor:
    """P(block | y) under the uniform prior, (batch, K), float64.

    Parameters
    ----------
    y : torch.Tensor, shape (batch, d)
        Noisy signals, y = x + σz.
    sigma : float
        The noise, in [1e-100, 1e100].
    masks : torch.Tensor, shape (K, d)
        The blocks, of 0 and 1.
    variance : float
        v of the two levels.

    Raises
    ------
    ValueError
        If a shape does not fit, y is not finite, sigma or the variance is out of range.
    """
    return _posterior(y, sigma, masks, variance).weights


def log_density(y: torch.Tensor, sigma: float, masks: torch.Tensor, variance: float = 1.0) -> torch.Tensor:
    """log p_σ(y), the log density of noisy signals, (batch,), float64 and differentiable.

    Parameters and errors are those of `posterior_weights`.
    """
    evidence = _posterior(y, sigma, masks, variance).log_evidence
    noise = -((y.double() / sigma) ** 2).sum(1) / 2 - y.shape[1] * math.log(math.sqrt(2 * math.pi) * sigma)
    return torch.logsumexp(evidence, 1) - math.log(len(masks)) + noise


def posterior_mean(y: torch.Tensor, sigma: float, masks: torch.Tensor, variance: float = 1.0) -> torch.Tensor:
    """The best denoiser x̂(y) = E[x | y], (batch, d), float64 and differentiable.

    Parameters and errors are those of `posterior_weights`.

    Notes
    -----
    Exactly homogeneous once all lengths are scaled, x̂_{λ²v}(λy, λσ) = λ x̂_v(y, σ), but not in y at fixed σ: p_σ is analytic, and
    x̂(λy) = λ x̂(y) for all λ > 0 makes x̂ linear, hence the data Gaussian. Claims CNN-2, CNN-4.
    """
    p, m = _posterior(y, sigma, masks, variance), _masks(masks)
    inside, outside = (p.weights[..., None] * p.levels).unbind(2)
    return inside @ m + outside @ (1 - m)


def posterior_covariance(
    y: torch.Tensor, sigma: float, masks: torch.Tensor, variance: float = 1.0
) -> torch.Tensor:
    """Cov(x | y), (batch, d, d), float64: σ² times the Jacobian of `posterior_mean`; its trace is the error to expect at y.

    Parameters and errors are those of `posterior_weights`.

    Notes
    -----
    The variance of the levels given the block, and that of the means over blocks; the second is the uncertainty of the jump. Claim CNN-4.
    """
    p, m = _posterior(y, sigma, masks, variance), _masks(masks)
    inside, outside = (p.weights[..., None] * p.spread).unbind(2)
    sides = [torch.einsum("ki,kj->kij", side, side).flatten(1) for side in (m, 1 - m)]
    within = (inside @ sides[0] + outside @ sides[1]).view(-1, m.shape[1], m.shape[1])
    centred = _centred(p, m)
    return within + centred.mT @ (p.weights[..., None] * centred)


def _centred(p: Posterior, m: torch.Tensor) -> torch.Tensor:
    """E[x | y, block] − E[x | y], (batch, K, d): subtracted before it is squared, or digits are lost at small σ."""
    means = p.levels[..., :1] * m + p.levels[..., 1:] * (1 - m)
    return means - (p.weights[..., None] * means).sum(1, keepdim=True)


def _local_error(y: torch.Tensor, sigma: float, m: torch.Tensor) -> torch.Tensor:
    """tr Cov(x | y), (batch,), without the matrix."""
    p = _posterior(y, sigma, m, 1.0)
    size = torch.stack([m.sum(1), (1 - m).sum(1)], 1)
    return p.weights @ (p.spread * size).sum(1) + (p.weights * (_centred(p, m) ** 2).sum(2)).sum(1)


def score(x: torch.Tensor, t: float, masks: torch.Tensor, variance: float = 1.0) -> torch.Tensor:
    """The score of the signals in the book's process, S(x, t) = (e^{−t} x̂ − x)/Δ_t with x̂ = E[x_0 | x_t = x]; (batch, d), float64.

    Parameters
    ----------
    x : torch.Tensor, shape (batch, d)
    t : float, > 0
        In [1e-12, 100]; one time for all points.
    masks, variance
        As in `posterior_weights`.

    Raises
    ------
    ValueError
        If t is out of range or a shape does not fit.
    """
    t = _number(t, "t", 1e-12, 100.0)
    mean = posterior_mean(math.exp(t) * _points(x, "x"), math.sqrt(math.expm1(2 * t)), masks, variance)
    return (math.exp(-t) * mean - x) / -math.expm1(-2 * t)


# ------------------------------------------------------------------------------------------------- errors


def _noisy(n: int, sigma: float, masks: torch.Tensor, generator: torch.Generator | None) -> torch.Tensor:
    """n noisy signals, in pieces that a sum over blocks can hold."""
    g, s = _own(generator), _number(sigma, "sigma")
    x = draw(_count(n, "n", 2), masks, generator=g)
    y = x + s * torch.randn(x.shape, generator=g, dtype=x.dtype)
    return y.split(max(1, BLOCK // masks.numel()))


def _estimate(values: list[torch.Tensor]) -> Estimate:
    v = torch.cat(values)
    return Estimate(float(v.mean()), float(v.std()) / math.sqrt(len(v)))


def mmse(
    sigma: float, masks: torch.Tensor, n: int = 2000, generator: torch.Generator | None = None
) -> Estimate:
    """The smallest error that any denoiser can have, E|x̂ − x|² = E tr Cov(x | y), as a mean over n noisy signals (v = 1).

    Averaging the trace and not |x̂ − x|² takes the noise of the levels out of the estimate.

    Raises
    ------
    ValueError
        If sigma is out of range, n < 2 or the masks are not indicators.
    """
    m = _masks(masks)
    return _estimate([_local_error(y, sigma, m) for y in _noisy(n, sigma, m, generator)])


def excess_error(
    f: Denoiser,
    sigma: float,
    masks: torch.Tensor,
    n: int = 2000,
    generator: torch.Generator | None = None,
) -> Estimate:
    """What a denoiser loses to the best one: E|f(y) − x̂(y)|² = E|f(y) − x|² − MMSE, as a mean over n noisy signals (v = 1).

    Parameters
    ----------
    f : callable
        y of shape (batch, d) to (batch, d); it is given float64, a network `ConvDenoiser` casts to its own precision.

    Raises
    ------
    ValueError
        If sigma is out of range, n < 2, the masks are not indicators or f returns another shape.
    """
    with torch.no_grad():
        return _estimate(
            [
                ((_real(f(y), "f(y)", y.shape) - posterior_mean(y, sigma, masks)) ** 2).sum(1)
                for y in _noisy(n, sigma, masks, generator)
            ]
        )


def oracle_error(sigma: float, masks: torch.Tensor, variance: float = 1.0) -> float:
    """The error if the block were known: the mean over blocks of Σ_sides mvσ²/(σ² + mv), which tends to 2σ². A bound below the MMSE.

    Raises
    ------
    ValueError
        If sigma or the variance is out of range or the masks are not indicators.
    """
    m, s, v = _masks(masks), _number(sigma, "sigma"), _number(variance, "variance")
    size = torch.stack([m.sum(1), (1 - m).sum(1)], 1)
    return float((s**2 * size * v / (s**2 + size * v)).sum(1).mean())


def wiener_error(sigma: float, covariance: torch.Tensor) -> float:
    """The error of the best linear denoiser (`score.wiener`), Σ_k b_k σ²/(b_k + σ²), with b_k the eigenvalues of the covariance.

    Raises
    ------
    ValueError
        If the covariance is not symmetric or sigma is out of range.
    """
    b, s = torch.linalg.eigvalsh(_covariance(covariance)).clamp(min=0), _number(sigma, "sigma")
    return float((b * s**2 / (b + s**2)).sum())


# ------------------------------------------------------------------------------------------------- convolutional networks


def convolution(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    dilation: int = 1,
    padding: str = "circular",
) -> torch.Tensor:
    """The linear part of a convolutional layer, x'(i, c') = Σ_c Σ_τ W(c', c, τ) x(i − τ, c) + b(c').

    Parameters
    ----------
    x : torch.Tensor, shape (batch, c, d)
        c channels on d sites.
    weight : torch.Tensor, shape (c', c, 2r + 1)
        W(c', c, τ) is ``weight[c', c, r − τ/dilation]``, τ = −r·dilation … r·dilation.
    bias : torch.Tensor, shape (c',), optional
    dilation : int
        The distance of neighbouring τ, with r·dilation < d.
    padding : str
        What stands beyond the ends: 'circular' (a ring), 'zeros', or 'replicate' (the last value).

    Returns
    -------
    torch.Tensor
        (batch, c', d).

    Raises
    ------
    ValueError
        If a shape does not fit, the stencil is even or longer than the signal, or the padding is another.

    Notes
    -----
    The notes' (6.3.25) with the stencil centred and the bias inside the activation; claim CNN-1.
    """
    _real(x, "x", (None, None, None))
    _real(weight, "weight", (None, x.shape[1], None))
    if bias is not None:
        _real(bias, "bias", (len(weight),))
    reach = weight.shape[2] // 2 * _count(dilation, "dilation")
    if weight.shape[2] % 2 == 0 or reach >= x.shape[2]:
        raise ValueError(
            f"weight: got {weight.shape[2]} taps at dilation {dilation} on {x.shape[2]} sites; expected an odd number that fits"
        )
    if padding not in PADDINGS:
        raise ValueError(f"padding: got {padding!r}; expected one of {sorted(PADDINGS)}")
    return _convolve(x, weight, bias, dilation, padding)


def _convolve(x, weight, bias, dilation: int, padding: str) -> torch.Tensor:
    """`convolution` without its checks, which would take a third of the time of training."""
    reach = weight.shape[2] // 2 * dilation
    wide = functional.pad(x, (reach, reach), mode=PADDINGS[padding])
    return functional.conv1d(wide, weight, bias, dilation=dilation)


def convolution_matrix(
    weight: torch.Tensor, d: int, dilation: int = 1, padding: str = "circular"
) -> torch.Tensor:
    """The matrix (c'·d, c·d) of `convolution` without bias: one linear operator, which commutes with shifts if the padding is circular.

    Rows and columns run over channels, then sites. Errors are those of `convolution`.
    """
    _real(weight, "weight", (None, None, None))
    channels = weight.shape[1]
    units = torch.eye(channels * _count(d, "d"), dtype=weight.dtype).view(-1, channels, d)
    return convolution(units, weight, None, dilation, padding).flatten(1).T


class ConvDenoiser(nn.Module):
    """A denoiser of convolutions and ReLUs, f: (batch, d) → (batch, d), in the shape of its input and its own precision.

    x_{l+1} = ReLU(W_l * x_l + b_l), without ReLU at the end; if ``residual`` the network estimates the noise and f(y) = y − net(y).
    With ``bias=False`` all b_l are absent and f(λy) = λ f(y) for λ > 0. Weights start normal with variance 2/fan-in (He et al. 2015),
    the last layer a tenth of it in a residual network; biases start at 0, so that with one seed the networks with and without them start as the
    same function.

    Parameters
    ----------
    channels : int
    dilations : tuple of int
        One per layer; the default sees 41 sites with 5 taps.
    taps : int, odd
        Width of each stencil.
    bias, residual : bool
    padding : str
        As in `convolution`: 'circular' makes f equivariant, 'replicate' suits a segment.
    dtype : torch.dtype
    generator : torch.Generator, optional
        For the weights.

    Raises
    ------
    ValueError
        If a number is out of range, taps is even, or the padding is another.

    Notes
    -----
    Mohan, Kadkhodaie, Simoncelli, Fernandez-Granda (2020); claims CNN-1 … CNN-4.
    """

    def __init__(
        self,
        channels: int = 24,
        dilations: tuple[int, ...] = (1, 2, 4, 2, 1),
        taps: int = 5,
        *,
        bias: bool = False,
        residual: bool = True,
        padding: str = "circular",
        dtype: torch.dtype = torch.float32,
        generator: torch.Generator | None = None,
    ):
        super().__init__()
        if _count(taps, "taps") % 2 == 0:
            raise ValueError(f"taps: got {taps}; expected an odd number")
        if padding not in PADDINGS:
            raise ValueError(f"padding: got {padding!r}; expected one of {sorted(PADDINGS)}")
        self.dilations = tuple(_count(q, "dilations") for q in dilations)
        if len(self.dilations) < 2:
            raise ValueError(f"dilations: got {dilations!r}; expected at least two layers")
        self.padding, self.residual, g = padding, residual, _own(generator)
        widths = [1] + [_count(channels, "channels")] * (len(self.dilations) - 1) + [1]
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        for layer, (c, c_next) in enumerate(pairwise(widths)):
            size = math.sqrt(2 / (c * taps)) * (0.1 if residual and layer == len(self.dilations) - 1 else 1.0)
            # Drawn in float64 for every dtype: one seed, one network.
            weight = size * torch.randn(c_next, c, taps, generator=g, dtype=torch.float64)
            self.weights.append(nn.Parameter(weight.to(dtype)))
            if bias:
                self.biases.append(nn.Parameter(torch.zeros(c_next, dtype=dtype)))

    def forward(self, y: torch.Tensor) -> torch.Tensor:
        """x̂ for noisy signals (batch, d)."""
        reach = max(self.dilations) * (self.weights[0].shape[2] // 2)
        if _points(y).shape[1] <= reach:
            raise ValueError(f"y: got {y.shape[1]} sites; expected more than {reach}, the reach of a stencil")
        x = y.to(self.weights[0].dtype)[:, None]
        biases = list(self.biases) or [None] * len(self.weights)
        for layer, (weight, bias, q) in enumerate(zip(self.weights, biases, self.dilations, strict=True)):
            x = _convolve(x.relu() if layer else x, weight, bias, q, self.padding)
        return y - x[:, 0].to(y.dtype) if self.residual else x[:, 0].to(y.dtype)


def train(
    network: nn.Module,
    masks: torch.Tensor,
    sigmas: tuple[float, float] = (0.1, 0.2),
    steps: int = 500,
    batch: int = 32,
    rate: float = 1e-2,
    generator: torch.Generator | None = None,
) -> torch.Tensor:
    """Train a denoiser, in place, on fresh signals with noise log-uniform in [σ₀, σ₁], blind: it is not told σ. Returns the losses (steps,).

    The loss is E|f(y) − x|²/σ², at best the mean of MMSE/σ². Adam, with the rate raised and lowered over the run (Smith, Topin 2019).

    Parameters
    ----------
    network : nn.Module
        A `ConvDenoiser`, or any module (batch, d) → (batch, d).
    masks : torch.Tensor, shape (K, d)
        Of the signals, at v = 1.
    sigmas : pair of float
        0 < σ₀ ≤ σ₁.
    steps, batch : int
    rate : float
        The highest learning rate.
    generator : torch.Generator, optional

    Raises
    ------
    ValueError
        If a number is out of range, or the masks are not indicators.

    Notes
    -----
    500 steps of the default network take two to three seconds of one core, four in float64. The network's precision is that of the run. In
    float32 two runs from one seed agree only as long as sums are taken in the same order: with another number of threads or another machine
    errors drift apart in the third digit. In float64 they stay together to ten digits and more: take it where numbers are compared.
    """
    m, g = _masks(masks), _own(generator)
    low, high = (_number(s, "sigmas") for s in sigmas)
    if low > high:
        raise ValueError(f"sigmas: got {sigmas!r}; expected the smaller one first")
    steps, batch = _count(steps, "steps", 2), _count(batch, "batch")
    optimizer = torch.optim.Adam(network.parameters(), _number(rate, "rate", 1e-10, 10.0))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, steps, pct_start=0.15)
    losses, dtype = torch.empty(steps), next(network.parameters()).dtype
    quiet = bool(os.environ.get("PHYSGEN_QUIET"))
    for step in tqdm(range(steps), delay=2, disable=quiet, desc="training"):
        x = draw(batch, m, generator=g).to(dtype)
        # Drawn in float32 for every dtype: one seed, one run.
        sigma = low * (high / low) ** torch.rand(batch, 1, generator=g).to(dtype)
        z = torch.randn(x.shape, generator=g).to(dtype)
        loss = (((network(x + sigma * z) - x) / sigma) ** 2).sum(1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        losses[step] = loss.detach()
    return losses


# ------------------------------------------------------------------------------------------------- looking into a denoiser


def _relative(error: torch.Tensor, size: torch.Tensor) -> torch.Tensor:
    return torch.linalg.vector_norm(error, dim=1) / torch.linalg.vector_norm(size, dim=1)


def equivariance_error(f: Denoiser, y: torch.Tensor, shift: int = 1) -> torch.Tensor:
    """|f(Ty) − T f(y)| / |f(y)| for the cyclic shift T, one per point, (batch,). Zero with circular padding and stride 1.

    Raises
    ------
    ValueError
        If y is no (batch, d) tensor of finite numbers or the shift is no integer.
    """
    y, shift = _points(y), _count(shift, "shift", -(2**31))
    out = f(y).detach()
    return _relative(f(y.roll(shift, 1)).detach() - out.roll(shift, 1), out)


def homogeneity_error(f: Denoiser, y: torch.Tensor, scale: float) -> torch.Tensor:
    """|f(λy) − λ f(y)| / |λ f(y)| at λ = `scale` ≠ 0, one per point, (batch,). λ > 0 is homogeneity, λ = −1 oddness, which ReLUs lack.

    Raises
    ------
    ValueError
        If y is no (batch, d) tensor of finite numbers or the scale is 0 or not finite.
    """
    y = _points(y)
    if _number(scale, "scale", -1e10, 1e10) == 0:
        raise ValueError("scale: got 0; expected another number")
    out = scale * f(y).detach()
    return _relative(f(scale * y).detach() - out, out)


def jacobian(f: Denoiser, y: torch.Tensor) -> torch.Tensor:
    """J_ij = ∂f_i/∂y_j at each point, (batch, d, d), by d passes of automatic differentiation; rows of y must not mix in f.

    Raises
    ------
    ValueError
        If y is no (batch, d) tensor of finite numbers or f returns another shape.
    """
    y = _points(y).detach().requires_grad_()
    out = _real(f(y), "f(y)", y.shape)
    rows = [torch.autograd.grad(column.sum(), y, retain_graph=True)[0] for column in out.unbind(1)]
    return torch.stack(rows, 1)


def euler_error(f: Denoiser, y: torch.Tensor) -> torch.Tensor:
    """|f(y) − J_f(y) y| / |f(y)|, one per point, (batch,): zero for a homogeneous f (Euler), which is then a filter that adapts to y.

    Errors are those of `jacobian`.
    """
    j = jacobian(f, y)
    out = f(y).detach()
    return _relative(out - (j @ y[..., None])[..., 0], out)


def asymmetry(jacobian: torch.Tensor) -> torch.Tensor:
    """‖J − Jᵀ‖ / ‖J‖ in the Frobenius norm, (batch,): 0 for the Jacobian of any gradient, √2 for independent entries, 2 at most.

    Raises
    ------
    ValueError
        If the Jacobians are not (batch, d, d), or not finite.
    """
    j = _square(jacobian, "jacobian")
    return torch.linalg.matrix_norm(j - j.mT) / torch.linalg.matrix_norm(j)


def eigenbasis(jacobian: torch.Tensor) -> Basis:
    """Shrinkages h_k, descending, and orthonormal ψ_k of the symmetric part (J + Jᵀ)/2 of Jacobians (batch, d, d).

    For an exact denoiser nothing is lost: J is symmetric. For a network `asymmetry` says what is left out.

    Raises
    ------
    ValueError
        If the Jacobians are not (batch, d, d), or not finite.
    """
    j = _square(jacobian, "jacobian")
    h, psi = torch.linalg.eigh((j + j.mT) / 2)
    return Basis(h.flip(1), psi.flip(2))


def subspace_overlap(psi: torch.Tensor, phi: torch.Tensor) -> torch.Tensor:
    """The share of span ψ that lies in span φ, ‖φᵀψ‖²/m, for m and m' orthonormal columns (batch, d, m), (batch, d, m'); (batch,).

    1 if φ spans all of ψ, m'/d for random directions.

    Raises
    ------
    ValueError
        If the shapes are not (batch, d, m) and (batch, d, m').
    """
    _real(psi, "psi", (None, None, None))
    _real(phi, "phi", (*psi.shape[:2], None))
    return ((psi.mT @ phi) ** 2).sum((1, 2)) / psi.shape[2]


def shrinkage(jacobian: torch.Tensor, psi: torch.Tensor) -> torch.Tensor:
    """What a denoiser keeps of each direction, ⟨ψ_k, J ψ_k⟩, (batch, m), for J of shape (batch, d, d) and columns ψ of (batch, d, m).

    Raises
    ------
    ValueError
        If a shape does not fit.
    """
    j = _square(jacobian, "jacobian")
    _real(psi, "psi", (*j.shape[:2], None))
    return (psi * (j @ psi)).sum(1)


def side_constants(y: torch.Tensor, sigma: float, masks: torch.Tensor) -> torch.Tensor:
    """Constants on the two sides of the most probable jump, orthonormal columns (batch, d, 2): the basis that geometry suggests at y.

    Raises
    ------
    ValueError
        As `posterior_weights`, and if a block leaves no site outside.
    """
    block = _masks(masks)[posterior_weights(y, sigma, masks).argmax(1)]
    sides = torch.stack([block, 1 - block], 2)
    if not bool(sides.any(1).all()):
        raise ValueError("masks: got a block that is everything; expected two sides")
    return sides / torch.linalg.vector_norm(sides, dim=1, keepdim=True)


def jump_energy(mode: torch.Tensor, jump: torch.Tensor, width: float) -> torch.Tensor:
    """The share of |ψ|² within `width` of the jump that lies between the sites τ − 1 and τ, (batch,); 2·width/d for a flat mode.

    Parameters
    ----------
    mode : torch.Tensor, shape (batch, d)
    jump : torch.Tensor, shape (batch,), integers
        τ, the number of sites on its left.
    width : float, > 0

    Raises
    ------
    ValueError
        If a shape does not fit or the width is not positive.
    """
    _points(mode, "mode")
    if not isinstance(jump, torch.Tensor) or jump.shape != mode.shape[:1] or jump.is_floating_point():
        raise ValueError(f"jump: got {jump!r:.60}; expected integers of shape ({len(mode)},)")
    distance = (torch.arange(mode.shape[1]) + 0.5 - jump[:, None]).abs()
    near = distance < _number(width, "width", 1e-6)
    return ((mode * near) ** 2).sum(1) / (mode**2).sum(1)
