"""When a denoiser has learned the law and not the data (the chapter `memorization/generalization`).

Noise is written y = x + σz, as in `diffusion.denoisers`; in the book's time y = e^t x_t with σ² = e^{2t} − 1. On n data the least error of
all functions is that of the softmax denoiser, which knows nothing else,

    x̂_n(y) = Σ_μ w_μ x_μ,    w = softmax(−|y − x_μ|²/2σ²),

on new data that of x̂(y) = E[x | y]. Two denoisers f₁, f₂ trained on disjoint data tell the two apart without knowing the truth. With
the truth at hand (signals of two levels, whose posterior is a finite sum) one sees what they tell: for any two functions

    ½ Σ_i |f_i − x̂|² = |½(f₁ + f₂) − x̂|² + ¼ |f₁ − f₂|²,

so two networks that agree have learned the law or share a mistake.

Training takes time, and what is private to a datum is seen n times more rarely than what all share. Gradient flow dA/dτ = −∇L of any
model that is linear in its weights, f = A φ(y), is solved by the eigenvectors of U = E φφᵀ,

    A(τ) = V U^{−1} (1 − e^{−2τU}),    V = E x φᵀ,

here with random features φ_j = sin(w_j·y)/√p, whose means over the noise are closed forms. Wide networks in high dimension act as a
line and a table, f(y) = B y + c_μ on the ball around datum μ, f(y) = B y elsewhere. Along a direction of variance b in the data

    B = 2λb (e^{−r₋τ} − e^{−r₊τ})/(r₊ − r₋),    r± the eigenvalues of 2 ((λ(b + σ²), λb), (κ²/n, κ²/n)):

the line is learned by τ_gen = 1/(2λΓ), Γ = v + σ², and given up for the table by τ_mem = nΓ/(2κ²σ²).
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import nn
from tqdm.auto import tqdm

from physgen.checks import count, number, stream
from physgen.diffusion import denoisers
from physgen.diffusion.score import probability_flow, time_grid
from physgen.kernels import mixture_score as mixture

from .networks import copied

__all__ = [
    "Clocks",
    "Curves",
    "Errors",
    "Generated",
    "LinearTest",
    "Moments",
    "Networks",
    "Strengths",
    "TrainTest",
    "clocks",
    "crossing_time",
    "data_moments",
    "flow",
    "flow_disagreement",
    "flow_error",
    "generate",
    "generation_test",
    "kernel_strengths",
    "law_moments",
    "learning_curves",
    "line_and_table",
    "linear_two_set_test",
    "measure",
    "random_features",
    "softmax_denoiser",
    "train",
]


class Errors(NamedTuple):
    """Mean square errors of R denoisers, (R,); those at 2i and 2i + 1 have disjoint data and make a pair."""

    train: torch.Tensor  # E|f(y) − x|² on the data of each
    test: torch.Tensor  # on new data: MMSE + excess
    excess: torch.Tensor  # E|f(y) − x̂(y)|² on new data
    disagreement: torch.Tensor  # (R/2,) E|f₁(y) − f₂(y)|² on new data


class Curves(NamedTuple):
    """The errors of R networks after each of T numbers of steps: fields of `Errors`, with a first axis of length T."""

    steps: torch.Tensor  # (T,) int64
    train: torch.Tensor  # (T, R)
    test: torch.Tensor
    excess: torch.Tensor
    disagreement: torch.Tensor  # (T, R/2)


class Generated(NamedTuple):
    """What R networks, and the exact denoiser, make of the same noise."""

    samples: torch.Tensor  # (R, batch, d)
    exact: torch.Tensor  # (batch, d)
    copied: torch.Tensor  # (R, batch) which samples count as copies of the data of their network, bool
    chance: torch.Tensor  # (R, batch) which of the exact ones do, which know nothing of these data


class LinearTest(NamedTuple):
    """Of the optimal linear scores −W x of n white data, for each dimension."""

    disagreement: float  # E‖W₁ − W₂‖²/d of two data sets
    bias: float  # ‖E W − Γ^{−1}‖²/d, which the two have in common


class Moments(NamedTuple):
    """All that gradient flow of f = A φ(y) sees of a law, or of a data set, of noisy signals y = x + σz."""

    second: torch.Tensor  # U = E φ φᵀ, (p, p)
    cross: torch.Tensor  # V = E x φᵀ, (d, p)
    power: float  # E|x|²


class TrainTest(NamedTuple):
    """E|f(y) − x|² on the training data and on new ones, (T,)."""

    train: torch.Tensor
    test: torch.Tensor


class Strengths(NamedTuple):
    """Of a kernel in high dimension, K(y, y') ≈ λ y·y' + κ² [y and y' belong to one datum]."""

    line: float  # λ
    table: float  # κ²


class Clocks(NamedTuple):
    """Times of training after which the line is learned, and given up for the table."""

    gen: float
    mem: float


# ------------------------------------------------------------------------------------------------- what comes in


def _array(x, name: str, shape: str, *ndims: int) -> torch.Tensor:
    """A finite floating-point tensor of so many dimensions, none of them empty."""
    if not isinstance(x, torch.Tensor) or not x.is_floating_point() or x.ndim not in ndims or not x.numel():
        came = f"{x.dtype}, shape {tuple(x.shape)}" if isinstance(x, torch.Tensor) else repr(x)
        raise ValueError(f"{name}: got {came}; expected floating-point numbers of shape {shape}")
    if not bool(x.detach().isfinite().all()):
        raise ValueError(f"{name}: got NaN or infinity; expected finite numbers")
    return x


def _positive(value, name: str) -> float:
    return number(value, name, 0, strict=True)


def _sizes(sizes, data: torch.Tensor) -> torch.Tensor:
    """How many of its data each network sees, (R,)."""
    if sizes is None:
        return torch.full(data.shape[:1], data.shape[1])
    found = torch.tensor([count(n, "sizes") for n in sizes])
    if found.shape != data.shape[:1] or int(found.max()) > data.shape[1]:
        raise ValueError(
            f"sizes: got {list(sizes)}; expected {len(data)} numbers, at most {data.shape[1]} each"
        )
    return found


def _flow_times(times) -> torch.Tensor:
    t = _array(times, "times", "(T,)", 1).double()
    if bool((t < 0).any()):
        raise ValueError(f"times: got {float(t.min())}; expected times >= 0")
    return t


# ---------------------------------------------------------------------------------------- denoisers of data sets


def softmax_denoiser(y: torch.Tensor, sigma: float, data: torch.Tensor) -> torch.Tensor:
    """x̂_n(y) = Σ_μ w_μ x_μ, w = softmax(−|y − x_μ|²/2σ²): of all functions the one with the least error on n data.

    Parameters
    ----------
    y : torch.Tensor, shape (batch, d) or (R, batch, d)
        float32 or float64.
    sigma : float
        The noise, > 0.
    data : torch.Tensor, shape (n, d) or (R, n, d)
        One data set, or one for each part of y; dtype of y.

    Returns
    -------
    torch.Tensor
        The shape and dtype of y.

    Raises
    ------
    ValueError
        If a shape or dtype does not fit, a number is not finite or sigma is not positive.

    Notes
    -----
    The empirical score of `collapse` as a denoiser, y + σ² S_emp. For σ → 0 it returns the datum next to y, on new y also; claims
    GEN-1, MER-11, SCO-9.
    """
    noise = _positive(sigma, "sigma") ** 2
    if _array(y, "y", "(batch, d) or (R, batch, d)", 2, 3).ndim == 2:
        return mixture.posterior_mean(y, data, 1.0, noise)
    _array(data, "data", f"({len(y)}, n, d), a data set for each part of y", 3)
    if len(data) != len(y):
        raise ValueError(f"data: got {len(data)} data sets; expected {len(y)}, one for each part of y")
    return torch.stack([mixture.posterior_mean(*pair, 1.0, noise) for pair in zip(y, data, strict=True)])


class Networks(nn.Module):
    """R denoisers f_r(y, σ) side by side: perceptrons with two hidden layers of ReLUs, the weights of each its own.

    Their input is y/√(1 + σ²) and ½ log σ, their output the signal itself. Weights start normal with variance 2/fan-in (He et al.
    2015), those of the last layer and all biases at 0, so that all start from f = 0.

    Parameters
    ----------
    copies : int
        R.
    d : int
        Sites of a signal.
    width : int
        Units of each hidden layer.
    dtype : torch.dtype
        Of weights and training; float64 where numbers of a run are compared.
    generator : torch.Generator, optional
        For the weights.

    Raises
    ------
    ValueError
        If a number is not positive.
    """

    def __init__(
        self,
        copies: int,
        d: int,
        width: int = 128,
        *,
        dtype: torch.dtype = torch.float32,
        generator: torch.Generator | None = None,
    ):
        super().__init__()
        copies, g = count(copies, "copies"), stream(generator)
        widths = [count(d, "d") + 1] + 2 * [count(width, "width")] + [d]
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        for fan_in, fan_out in pairwise(widths):
            # Drawn in float64 for every dtype: one seed, one network.
            start = torch.randn(copies, fan_in, fan_out, generator=g, dtype=torch.float64)
            self.weights.append(nn.Parameter((math.sqrt(2 / fan_in) * start).to(dtype)))
            self.biases.append(nn.Parameter(torch.zeros(copies, 1, fan_out, dtype=dtype)))
        nn.init.zeros_(self.weights[-1])

    def forward(self, y: torch.Tensor, sigma: float | torch.Tensor) -> torch.Tensor:
        """x̂ of each network, (R, batch, d), for noisy signals (batch, d) or (R, batch, d); σ a number, or (R, batch, 1)."""
        weight = self.weights[0]
        copies, d = len(weight), weight.shape[1] - 1
        if not isinstance(y, torch.Tensor) or y.shape[-1] != d or y.shape[:-2] not in ((), (copies,)):
            came = tuple(y.shape) if isinstance(y, torch.Tensor) else repr(y)
            raise ValueError(f"y: got {came}; expected (batch, {d}) or ({copies}, batch, {d})")
        s = sigma if isinstance(sigma, torch.Tensor) else _positive(sigma, "sigma")
        s = torch.as_tensor(s, dtype=weight.dtype)
        x = y.to(weight.dtype) / (1 + s**2).sqrt()
        x = torch.cat([x, (s.log() / 2).expand(*x.shape[:-1], 1)], -1).expand(copies, -1, -1)
        for layer, (w, b) in enumerate(zip(self.weights, self.biases, strict=True)):
            x = torch.baddbmm(b, x.relu() if layer else x, w)
        return x.to(y.dtype)


def train(
    networks: Networks,
    data: torch.Tensor,
    steps: int,
    sigmas: tuple[float, float] = (0.3, 0.3),
    *,
    sizes: Sequence[int] | None = None,
    batch: int = 64,
    rate: float = 1e-3,
    cool: float = 0.0,
    watch: Callable[[int], None] | None = None,
    generator: torch.Generator | None = None,
) -> torch.Tensor:
    """Train R networks, in place, each on its own data with fresh noise in every step. Returns the losses (steps, R).

    Adam on E|f(y, σ) − x|², for a range of σ divided by σ²/(1 + σ²) + 0.05, about the error to expect, with σ log-uniform.

    Parameters
    ----------
    networks : Networks
    data : torch.Tensor, shape (R, n, d)
    steps, batch : int
        Each step shows every network `batch` of its data, drawn with replacement.
    sigmas : pair of float
        0 < σ₀ ≤ σ₁.
    sizes : sequence of R integers, optional
        Network r sees the first sizes[r] ≤ n of its data only.
    rate : float
        Of Adam.
    cool : float
        Share of the steps, in [0, 1], over which the rate falls to zero at the end.
    watch : callable, optional
        Called with the number of steps done, after each.
    generator : torch.Generator, optional

    Raises
    ------
    ValueError
        If a shape does not fit, a number is out of range or the data are not finite.

    Notes
    -----
    Twenty networks of width 128 take 5 ms a step on one core, four of width 64 one. In float32 two machines agree only as far as they
    add numbers in the same order; in float64 a short run is the same to many digits.
    """
    weight = networks.weights[0]
    data = _array(data, "data", "(R, n, d)", 3).to(weight.dtype)
    if (len(data), data.shape[2] + 1) != weight.shape[:2]:
        raise ValueError(
            f"data: got shape {tuple(data.shape)}; expected ({len(weight)}, n, {weight.shape[1] - 1})"
        )
    n, g = _sizes(sizes, data)[:, None], stream(generator)
    low, high = (_positive(s, "sigmas") for s in sigmas)
    if low > high:
        raise ValueError(f"sigmas: got {sigmas!r}; expected the smaller one first")
    steps, shape = count(steps, "steps"), (len(data), count(batch, "batch"))
    if (cool := number(cool, "cool", 0)) > 1:
        raise ValueError(f"cool: got {cool}; expected a share in [0, 1]")
    adam = torch.optim.Adam(networks.parameters(), _positive(rate, "rate"), fused=True)
    rows, losses = torch.arange(len(data))[:, None], torch.empty(steps, len(data))
    quiet = bool(os.environ.get("PHYSGEN_QUIET"))
    for step in tqdm(range(steps), delay=2, disable=quiet, desc="training"):
        x = data[rows, (torch.rand(shape, dtype=torch.float64, generator=g) * n).long()]
        # Noise is drawn in float32 for every dtype: one seed, one run.
        sigma = low * (high / low) ** torch.rand(*shape, 1, generator=g).to(x)
        y = x + sigma * torch.randn(x.shape, generator=g).to(x)
        error = (networks(y, sigma) - x).square().sum(2)
        if high > low:
            error = error / (sigma[..., 0] ** 2 / (1 + sigma[..., 0] ** 2) + 0.05)
        loss = error.mean(1)
        adam.zero_grad()
        loss.sum().backward()
        if cool:
            adam.param_groups[0]["lr"] = rate * min(1.0, (1 - step / steps) / cool)
        adam.step()
        losses[step] = loss.detach()
        if watch:
            watch(step + 1)
    return losses


# ------------------------------------------------------------------------------------------------ the two-set test


class _Bench(NamedTuple):
    """Noisy signals on which denoisers are measured: their own, and new ones with what is known of them."""

    own: torch.Tensor  # x of each data set, (R, draws, d)
    own_noisy: torch.Tensor
    noisy: torch.Tensor  # new, (draws, d)
    best: torch.Tensor  # x̂ of those
    floor: torch.Tensor  # E|x̂ − x|² given y, (draws,)


def _bench(data, sizes, sigma: float, masks, draws: int, g: torch.Generator) -> _Bench:
    turns = torch.arange(draws) % sizes[:, None]
    own = data.double()[torch.arange(len(data))[:, None], turns]
    x = denoisers.draw(draws, masks, generator=g)
    noisy, own_noisy = (a + sigma * torch.randn(a.shape, generator=g, dtype=a.dtype) for a in (x, own))
    posterior = denoisers.posterior_covariance(noisy, sigma, masks)
    floor = posterior.diagonal(dim1=1, dim2=2).sum(1)
    return _Bench(own, own_noisy, noisy, denoisers.posterior_mean(noisy, sigma, masks), floor)


@torch.no_grad()
def _errors(f: Callable[[torch.Tensor], torch.Tensor], bench: _Bench) -> tuple[Errors, Errors]:
    """Means over the draws and their standard errors."""
    copies = len(bench.own)
    train = (f(bench.own_noisy) - bench.own).square().sum(2)
    new = f(bench.noisy.expand(copies, -1, -1))
    excess = (new - bench.best).square().sum(2)
    apart = (new[0::2] - new[1::2]).square().sum(2)
    # Given y, E|f − x|² is known: it is averaged in place of |f − x|², which has the noise of x in it.
    found = Errors(train, excess + bench.floor, excess, apart)
    mean, error = zip(*((v.mean(1), v.std(1) / math.sqrt(v.shape[1])) for v in found), strict=True)
    return Errors(*mean), Errors(*error)


def measure(
    f: Callable[[torch.Tensor], torch.Tensor],
    data: torch.Tensor,
    sigma: float,
    masks: torch.Tensor,
    draws: int = 2000,
    sizes: Sequence[int] | None = None,
    generator: torch.Generator | None = None,
) -> tuple[Errors, Errors]:
    """Errors of R denoisers on their own data and on new signals, and how far those of a pair are apart; with standard errors.

    Parameters
    ----------
    f : callable
        (R, batch, d) float64 to (R, batch, d): part r goes through the denoiser of data set r, ``lambda y: networks(y, sigma)`` or
        ``lambda y: softmax_denoiser(y, sigma, data)``.
    data : torch.Tensor, shape (R, n, d)
        R even; data sets 2i and 2i + 1 are a pair.
    sigma : float
        The noise.
    masks : torch.Tensor, shape (K, d)
        Of the signals (`denoisers.jump_masks`), which are drawn with v = 1.
    draws : int
        Noisy signals, of each data set (in turn) and new.
    sizes : sequence of R integers, optional
        As in `train`.
    generator : torch.Generator, optional

    Returns
    -------
    mean, error : Errors
        Means over the draws and their standard errors; the data sets are held fixed.

    Raises
    ------
    ValueError
        If a shape does not fit, R is odd, a number is out of range or f returns another shape.

    Notes
    -----
    Kadkhodaie, Guth, Simoncelli, Mallat (2024), who lack x̂; claims GEN-1, GEN-2. Half the disagreement of a pair is the variance of f
    over data sets (and over runs of training); the rest of the excess is bias, which the pair shares.
    """
    data, sigma = _array(data, "data", "(R, n, d)", 3), _positive(sigma, "sigma")
    if len(data) % 2:
        raise ValueError(f"data: got {len(data)} data sets; expected pairs, an even number")
    bench = _bench(data, _sizes(sizes, data), sigma, masks, count(draws, "draws", 2), stream(generator))
    out = f(bench.own_noisy[:, :1])
    if not isinstance(out, torch.Tensor) or out.shape != (len(data), 1, data.shape[2]):
        came = tuple(out.shape) if isinstance(out, torch.Tensor) else repr(out)
        raise ValueError(
            f"f: got {came} for ({len(data)}, 1, {data.shape[2]}); expected the shape of its argument"
        )
    return _errors(f, bench)


def learning_curves(
    sizes: Sequence[int],
    steps: Sequence[int],
    sigma: float = 0.3,
    d: int = 16,
    *,
    width: int = 128,
    batch: int = 64,
    rate: float = 1e-3,
    draws: int = 2000,
    dtype: torch.dtype = torch.float32,
    generator: torch.Generator | None = None,
) -> Curves:
    """Two networks for each number n of data, on disjoint sets of signals with one jump, trained side by side and measured on the way.

    Parameters
    ----------
    sizes : sequence of int
        The numbers n; network 2i and 2i + 1 have n = sizes[i].
    steps : sequence of int
        When to measure, ascending; the last one ends the training.
    sigma, d : float, int
        The noise; sites of a signal (`denoisers.jump_masks`).
    width, batch, rate, dtype
        As in `Networks` and `train`.
    draws : int
        Signals in each measurement, the same ones at all steps.
    generator : torch.Generator, optional
        Signals, first weights, noise: the same seed gives the same curves, on one machine bit for bit.

    Returns
    -------
    Curves
        float64, with R = 2 len(sizes).

    Raises
    ------
    ValueError
        If a number is out of range or the steps do not ascend.

    Notes
    -----
    Claims GEN-2, GNR-1.
    """
    g, at = stream(generator), [count(step, "steps") for step in steps]
    if not at or sorted(set(at)) != at:
        raise ValueError(f"steps: got {list(steps)}; expected ascending numbers, at least one")
    pairs = [count(n, "sizes") for n in sizes for _ in range(2)]
    if not pairs:
        raise ValueError("sizes: got none; expected at least one")
    masks, noise = denoisers.jump_masks(d), _positive(sigma, "sigma")
    data = denoisers.draw(len(pairs) * max(pairs), masks, generator=g).view(len(pairs), max(pairs), d)
    bench = _bench(data, _sizes(pairs, data), noise, masks, count(draws, "draws", 2), g)
    networks = Networks(len(pairs), d, width, dtype=dtype, generator=g)
    wanted, rows = set(at), []

    def watch(step: int) -> None:
        if step in wanted:
            rows.append(_errors(lambda y: networks(y, noise), bench)[0])

    train(
        networks, data, at[-1], (noise, noise), sizes=pairs, batch=batch, rate=rate, watch=watch, generator=g
    )
    return Curves(torch.tensor(at), *(torch.stack(field) for field in zip(*rows, strict=True)))


# ---------------------------------------------------------------------------------------------------- generation


def generate(
    f: Callable[[torch.Tensor, float], torch.Tensor],
    start: torch.Tensor,
    sigmas: tuple[float, float] = (0.03, 5.0),
    steps: int = 60,
) -> torch.Tensor:
    """Signals that R denoisers make of one and the same noise: the probability flow from σ₁ down to σ₀, then x̂.

    Parameters
    ----------
    f : callable
        f(y, σ) of shape (R, batch, d) for y of that shape: `Networks`, or an exact denoiser.
    start : torch.Tensor, shape (R, batch, d)
        Normal numbers; repeat one draw along the first axis to compare denoisers.
    sigmas : pair of float
        0 < σ₀ < σ₁, with σ₁ well above the signals.
    steps : int
        Steps of DDIM, equal in log σ.

    Returns
    -------
    torch.Tensor
        (R, batch, d), dtype of `start`.

    Raises
    ------
    ValueError
        If a shape does not fit, the noises do not ascend, or a number is not finite.

    Notes
    -----
    Kadkhodaie et al. (2024), figure 2; claim GNR-2.
    """
    shape = _array(start, "start", "(R, batch, d)", 3).shape
    low, high = (_positive(s, "sigmas") for s in sigmas)

    def score(x: torch.Tensor, t: float) -> torch.Tensor:
        best = f(math.exp(t) * x.view(shape), math.sqrt(math.expm1(2 * t)))
        return (math.exp(-t) * best.view_as(x) - x) / -math.expm1(-2 * t)

    times = time_grid(denoisers.noise_time(high), denoisers.noise_time(low), steps)
    x = probability_flow(start.flatten(0, 1), score, times, "ddim").view(shape)
    with torch.no_grad():
        return f(math.exp(float(times[-1])) * x, low)


def generation_test(
    sizes: Sequence[int],
    steps: int,
    samples: int = 500,
    sigmas: tuple[float, float] = (0.03, 5.0),
    d: int = 16,
    *,
    width: int = 128,
    batch: int = 128,
    rate: float = 1e-3,
    generator: torch.Generator | None = None,
) -> Generated:
    """Two networks for each number n of data, trained on all noises and then given the same noise to make signals of.

    Parameters
    ----------
    sizes : sequence of int
        Networks 2i and 2i + 1 have n = sizes[i] ≥ 2 signals with one jump, drawn for each.
    steps : int
        Of training; the rate falls to zero over the second half.
    samples : int
        Signals to make.
    sigmas, d, width, batch, rate
        As in `train` and `Networks`.
    generator : torch.Generator, optional

    Returns
    -------
    Generated
        float64.

    Raises
    ------
    ValueError
        If a number is out of range.

    Notes
    -----
    Kadkhodaie et al. (2024), figure 2, with the exact flow beside the networks; claims GNR-2, GNR-3.
    """
    pairs, g = [count(n, "sizes", 2) for n in sizes for _ in range(2)], stream(generator)
    if not pairs:
        raise ValueError("sizes: got none; expected at least one")
    masks = denoisers.jump_masks(d)
    data = denoisers.draw(len(pairs) * max(pairs), masks, generator=g).view(len(pairs), max(pairs), d)
    networks = Networks(len(pairs), d, width, generator=g)
    train(networks, data, steps, sigmas, sizes=pairs, batch=batch, rate=rate, cool=0.5, generator=g)
    start = torch.randn(1, count(samples, "samples"), d, dtype=torch.float64, generator=g)

    def best(y: torch.Tensor, sigma: float) -> torch.Tensor:
        return denoisers.posterior_mean(y[0], sigma, masks)[None]

    made, exact = (
        generate(networks, start.expand(len(pairs), -1, -1), sigmas),
        generate(best, start, sigmas)[0],
    )
    own = [a[:n] for a, n in zip(data, pairs, strict=True)]
    copies = torch.stack([copied(x, a) for x, a in zip(made, own, strict=True)])
    return Generated(made, exact, copies, torch.stack([copied(exact, a) for a in own]))


def crossing_time(times: torch.Tensor, values: torch.Tensor, level: float) -> torch.Tensor:
    """When curves first fall below a level, between the times by straight lines in log time and log value; NaN for those that never do.

    Parameters
    ----------
    times : torch.Tensor, shape (T,)
        Ascending, > 0; steps of training or times of a flow.
    values : torch.Tensor, shape (T,) or (T, R)
        ≥ 0.
    level : float
        > 0; the MMSE, say, below which on its training data only a memory can come.

    Returns
    -------
    torch.Tensor
        () or (R,), float64; the first time where a curve starts below the level.

    Raises
    ------
    ValueError
        If a shape does not fit, the times do not ascend, or a number is out of range.
    """
    v = _array(values, "values", "(T,) or (T, R)", 1, 2).double()
    if bool((v < 0).any()):
        raise ValueError(f"values: got {float(v.min())}; expected numbers >= 0")
    t = torch.as_tensor(times).double()
    if t.shape != v.shape[:1] or not bool((t > 0).all()) or not bool((t.diff() > 0).all()):
        raise ValueError(f"times: got {t.tolist()!r:.80}; expected {len(v)} ascending times > 0")
    u, curve = t.log(), (v / _positive(level, "level")).clamp(min=1e-300).log().view(len(v), -1)
    below = curve < 0
    after = below.int().argmax(0)
    before = (after - 1).clamp(min=0)
    high, low = curve.gather(0, before[None])[0], curve.gather(0, after[None])[0]
    share = torch.where(after > before, high / (high - low), 0.0)
    found = (u[before] + share * (u[after] - u[before])).exp()
    return torch.where(below.any(0), found, math.nan).view(v.shape[1:])


# -------------------------------------------------------------------------------------------- two linear denoisers


def linear_two_set_test(n: int, d: int, t: float, variance: float = 1.0) -> LinearTest:
    """E‖W₁ − W₂‖²/d for W = [Δ_t + e^{−2t} C_e]^{−1} of two sets of n data N(0, v 1), mean known, and what the two have in common.

    The mean over data needs one eigenvalue of C_e only, E‖W₁ − W₂‖² = 2 [E tr W² − (E tr W)²/d]. With z = Δ_t e^{2t}/v, γ = d/n,

        g(z) = ⟨1/(x + z)⟩ = 2/(z + 1 − γ + √D),    D = (z + 1 + γ)² − 4γ,

    over the law of Marchenko and Pastur, and the next order in 1/d, (1/4)[h(x₋) + h(x₊)] − ½⟨h⟩ over the arc sine law for a sum Σ h(x_k).

    Parameters
    ----------
    n, d : int
        Number of data, dimension.
    t, variance : float
        Time > 0; v > 0.

    Returns
    -------
    LinearTest
        Per dimension, up to a relative error of order 1/d²: 3·10⁻³ at its worst, n = d, for d = 20 and t = 0.2 (more for smaller t). The
        disagreement is 2 v² e^{−4t} (d + 1)/(nΓ_t⁴) for n ≫ d, Γ_t = Δ_t + e^{−2t}v; it is largest at n of order d, and falls again
        for fewer data, of which both scores know next to nothing.

    Raises
    ------
    ValueError
        If a number is out of range.

    Notes
    -----
    Denoisers differ by E|f₁ − f₂|² = Δ_t² e^{2t} Γ_t E‖W₁ − W₂‖² in the notes' scaling. The mean square error of W is the bias and half the disagreement. Marchenko,
    Pastur (1967); Dumitriu, Edelman (2006), J. Math. Phys. 47, 063302, for the second order. Claim GEN-3.
    """
    n, d, t = count(n, "n"), count(d, "d"), _positive(t, "t")
    unit = math.exp(-2 * t) * _positive(variance, "variance")  # W = 1/(unit (x + z))
    z, gamma = -math.expm1(-2 * t) / unit, d / n
    middle = z + 1 + gamma
    root = math.hypot(z + 1 - gamma, 2 * math.sqrt(gamma * z))  # √D
    below = z + 1 - gamma
    g = 2 / (below + root) if below > 0 else (root - below) / (2 * gamma * z)
    spread = gamma * g**3 / ((1 + gamma * g) * root)  # ⟨1/(x + z)²⟩ − g², without cancellation
    first = 2 * gamma / ((middle + root) * root**2)
    second = first * (2 * middle + root) / root**2
    disagreement = 2 * (spread + (second - 2 * g * first) / d - (first / d) ** 2) / unit**2
    mean = (g + first / d) / unit
    return LinearTest(disagreement, (mean - 1 / (unit * (1 + z))) ** 2)


# ------------------------------------------------------------------------------------------------- time of training


def random_features(
    p: int, d: int, frequency: float = 1.5, generator: torch.Generator | None = None
) -> torch.Tensor:
    """w_j ~ N(0, (ω²/d) 1), (p, d), float64, of the features φ_j(y) = sin(w_j·y)/√p: a network with a frozen first layer.

    Raises
    ------
    ValueError
        If a number is out of range.
    """
    shape = count(p, "p"), count(d, "d")
    scale = _positive(frequency, "frequency") / math.sqrt(d)
    return scale * torch.randn(shape, generator=stream(generator), dtype=torch.float64)


def _squares(w: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """|w_i − w_j|² and |w_i + w_j|²."""
    norm, product = w.square().sum(1), w @ w.T
    both = norm[:, None] + norm
    return both - 2 * product, both + 2 * product


def law_moments(weight: torch.Tensor, sigma: float, variance: float = 1.0) -> Moments:
    """Means of random features over the law N(0, v 1) and its noise, Γ = v + σ²:

        U_ij = (e^{−Γ|w_i − w_j|²/2} − e^{−Γ|w_i + w_j|²/2})/2p,    V_j = v w_j e^{−Γ|w_j|²/2}/√p.

    Parameters
    ----------
    weight : torch.Tensor, shape (p, d)
        `random_features`.
    sigma, variance : float
        The noise σ and v, > 0.

    Returns
    -------
    Moments

    Raises
    ------
    ValueError
        If a shape does not fit or a number is out of range.
    """
    w = _array(weight, "weight", "(p, d)", 2).double()
    v = _positive(variance, "variance")
    gamma, (minus, plus) = v + _positive(sigma, "sigma") ** 2, _squares(w)
    second = (torch.exp(-gamma / 2 * minus) - torch.exp(-gamma / 2 * plus)) / (2 * len(w))
    cross = (w * torch.exp(-gamma / 2 * w.square().sum(1, keepdim=True))).T
    return Moments(second, v * cross / math.sqrt(len(w)), v * w.shape[1])


def data_moments(data: torch.Tensor, weight: torch.Tensor, sigma: float) -> Moments:
    """Means of random features over n data and all their noise: with α_j = w_j·x_μ, averaged over μ,

        U_ij = [e^{−σ²|w_i − w_j|²/2} cos(α_i − α_j) − e^{−σ²|w_i + w_j|²/2} cos(α_i + α_j)]/2p,    V_j = x_μ sin α_j e^{−σ²|w_j|²/2}/√p.

    Parameters
    ----------
    data : torch.Tensor, shape (n, d)
    weight : torch.Tensor, shape (p, d)
        `random_features`.
    sigma : float
        The noise σ > 0.

    Returns
    -------
    Moments

    Raises
    ------
    ValueError
        If a shape does not fit or a number is out of range.
    """
    w = _array(weight, "weight", "(p, d)", 2).double()
    x = _array(data, "data", f"(n, {w.shape[1]})", 2).double()
    if x.shape[1] != w.shape[1]:
        raise ValueError(f"data: got shape {tuple(x.shape)}; expected (n, {w.shape[1]})")
    noise, (minus, plus) = _positive(sigma, "sigma") ** 2, _squares(w)
    alpha, n = x @ w.T, len(x)
    cosines, sines = alpha.cos(), alpha.sin()
    cc, ss = cosines.T @ cosines / n, sines.T @ sines / n
    second = torch.exp(-noise / 2 * minus) * (cc + ss) - torch.exp(-noise / 2 * plus) * (cc - ss)
    cross = x.T @ sines / n * torch.exp(-noise / 2 * w.square().sum(1))
    return Moments(second / (2 * len(w)), cross / math.sqrt(len(w)), float(x.square().sum() / n))


def flow(moments: Moments, times: torch.Tensor) -> torch.Tensor:
    """Weights A(τ) = V U^{−1} (1 − e^{−2τU}) of f = A φ(y) under gradient flow dA/dτ = −∇E|A φ(y) − x|² from A = 0.

    Parameters
    ----------
    moments : Moments
        Of the data trained on. Any features will do: φ(y) = y has U = C + σ², V = C.
    times : torch.Tensor, shape (T,)
        τ ≥ 0.

    Returns
    -------
    torch.Tensor
        (T, d, p), float64.

    Raises
    ------
    ValueError
        If a shape does not fit or a time is negative.
    """
    u, v = _moments(moments)
    lam, q = torch.linalg.eigh(u)
    lam, tau = lam.clamp(min=1e-300), _flow_times(times).to(u.device)  # rounding makes some of them negative
    learned = -torch.expm1(-2 * tau[:, None] * lam) / lam
    return ((v @ q) * learned[:, None]) @ q.T


def _moments(moments) -> tuple[torch.Tensor, torch.Tensor]:
    u, v = _array(moments.second, "moments", "(p, p)", 2), _array(moments.cross, "moments", "(d, p)", 2)
    if u.shape != (v.shape[1], v.shape[1]):
        raise ValueError(f"moments: got U {tuple(u.shape)} and V {tuple(v.shape)}; expected (p, p), (d, p)")
    return u.double(), v.double()


def flow_error(weights: torch.Tensor, moments: Moments) -> torch.Tensor:
    """E|A φ(y) − x|² = tr A U Aᵀ − 2 tr A Vᵀ + E|x|², (T,), for weights (T, d, p): on the data or on the law whose moments come.

    Raises
    ------
    ValueError
        If a shape does not fit.
    """
    u, v = _moments(moments)
    a = _array(weights, "weights", f"(T, {v.shape[0]}, {v.shape[1]})", 3).double()
    if a.shape[1:] != v.shape:
        raise ValueError(f"weights: got shape {tuple(a.shape)}; expected (T, {v.shape[0]}, {v.shape[1]})")
    return ((a @ u - 2 * v) * a).sum((1, 2)) + moments.power


def flow_disagreement(first: torch.Tensor, other: torch.Tensor, law: Moments) -> torch.Tensor:
    """E|f₁(y) − f₂(y)|² = tr (A₁ − A₂) U (A₁ − A₂)ᵀ over the law, (T,), for weights (T, d, p) from two data sets.

    Raises
    ------
    ValueError
        If a shape does not fit.
    """
    u, v = _moments(law)
    a, b = (_array(x, "weights", f"(T, {v.shape[0]}, {v.shape[1]})", 3).double() for x in (first, other))
    if a.shape[1:] != v.shape or a.shape != b.shape:
        raise ValueError(
            f"weights: got shapes {tuple(a.shape)} and {tuple(b.shape)}; expected two of one shape"
        )
    return (((a - b) @ u) * (a - b)).sum((1, 2))


def kernel_strengths(d: int, sigma: float, frequency: float = 1.5, variance: float = 1.0) -> Strengths:
    """The line and the table in the kernel of infinitely many random features, to leading order in 1/d, with Γ = v + σ²:

        λ = (ω²/d) e^{−ω²Γ},    κ² = e^{−ω²Γ} (sinh ω²v − ω²v).

    Data of norm² dv are nearly orthogonal, so that the kernel of two of them, averaged over their noise, is linear; that of one datum with
    itself has more, Σ_k over the higher odd powers of its Taylor series, which is the table.

    Parameters
    ----------
    d : int
        Dimension.
    sigma, frequency, variance : float
        σ, ω, v, > 0.

    Returns
    -------
    Strengths

    Raises
    ------
    ValueError
        If a number is out of range.

    Notes
    -----
    El Karoui (2010), Ann. Stat. 38, 1: kernel matrices in high dimension; for data with noise, averaged over it. Claim GNR-4.
    """
    square, v = _positive(frequency, "frequency") ** 2, _positive(variance, "variance")
    scale = math.exp(-square * (v + _positive(sigma, "sigma") ** 2))
    return Strengths(square / count(d, "d") * scale, scale * (math.sinh(square * v) - square * v))


def _rates(b, n: float, sigma: float, line: float, table: float):
    """r₋ and r₊: their product is 4λσ²κ²/n, and the smaller one would be lost in a difference."""
    rim, own = 2 * line * (b + sigma**2), 2 * table / n
    fast = (rim + own + ((rim - own) ** 2 + 8 * line * b * own) ** 0.5) / 2
    return 4 * line * sigma**2 * table / n / fast, fast


def clocks(n: int, sigma: float, line: float, table: float, variance: float = 1.0) -> Clocks:
    """The times 1/r₊ and 1/r₋ in which a line and a table learn; for n ≫ κ²/λ

        τ_gen = 1/(2λΓ), which does not depend on n,    τ_mem = nΓ/(2κ²σ²), proportional to n.

    Parameters
    ----------
    n : int
        Number of data.
    sigma, line, table, variance : float
        σ, λ, κ², v, > 0; λ and κ² of `kernel_strengths`.

    Returns
    -------
    Clocks

    Raises
    ------
    ValueError
        If a number is out of range.

    Notes
    -----
    Bonnaire, Urfin, Biroli, Mézard (2025); claims GNR-4, GNR-5.
    """
    slow, fast = _rates(
        _positive(variance, "variance"),
        count(n, "n"),
        *(_positive(x, name) for x, name in ((sigma, "sigma"), (line, "line"), (table, "table"))),
    )
    return Clocks(1 / fast, 1 / slow)


def line_and_table(
    times: torch.Tensor,
    spectrum: torch.Tensor,
    n: int,
    sigma: float,
    line: float,
    table: float,
    variance: float = 1.0,
) -> TrainTest:
    """The errors of f(y) = B y + c_μ, with c_μ for the noisy versions of datum μ and no c for new signals, under gradient flow from 0.

    Weights are √λ y for the line and κ for each entry of the table. A direction in which the data have the variance b has, with c_μ = c x_μ,

        dB/dτ = −2λ [b (B + c − 1) + σ² B],    dc/dτ = −2 (κ²/n)(B + c − 1),

        train = Σ_b [b (B + c − 1)² + σ² B²],    test = Σ_b [v (B − 1)² + σ² B²].

    Parameters
    ----------
    times : torch.Tensor, shape (T,)
        τ ≥ 0.
    spectrum : torch.Tensor, shape (d,)
        b ≥ 0, the eigenvalues of (1/n) Σ_μ x_μ x_μᵀ.
    n : int
        Number of data.
    sigma, line, table, variance : float
        σ, λ, κ² > 0; v > 0 of new data, N(0, v 1).

    Returns
    -------
    TrainTest
        float64. For n ≫ d ≫ 1 they are first MMSE = d vσ²/Γ; then train falls as e^{−2τ/τ_mem} and test rises to dv: who knows the table by
        heart answers 0 on what is not in it.

    Raises
    ------
    ValueError
        If a shape does not fit or a number is out of range.

    Notes
    -----
    What `flow` of random features tends to in many dimensions for d ≪ p and n ≪ p, d³: with n of order d³ the next features, cubic ones,
    are no longer private to a datum. With n of order d the line fits the data better than the law, so that the train error reaches a fixed
    share of the MMSE sooner than a multiple of n says. Claim GNR-5.
    """
    tau, b = _flow_times(times)[:, None], _array(spectrum, "spectrum", "(d,)", 1).double()
    if bool((b < 0).any()):
        raise ValueError(f"spectrum: got {float(b.min())}; expected variances >= 0")
    v, n = _positive(variance, "variance"), count(n, "n")
    sigma, line, table = (
        _positive(x, name) for x, name in ((sigma, "sigma"), (line, "line"), (table, "table"))
    )
    slow, fast = _rates(b, n, sigma, line, table)
    gap = (fast - slow).clamp(min=1e-300)  # no gap without variance, where B is 0
    early, late = torch.exp(-fast * tau), torch.exp(-slow * tau)
    weight = 2 * line * b / gap * (late - early)
    missing = (late * (fast - 2 * table / n) + early * (2 * table / n - slow)) / gap  # 1 − c
    train_error = b * (weight - missing).square() + sigma**2 * weight.square()
    test_error = v * (weight - 1).square() + sigma**2 * weight.square()
    return TrainTest(train_error.sum(1), test_error.sum(1))
