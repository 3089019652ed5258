"""When noise decides what it becomes: two classes, exactly (the chapter `exact/speciation`).

The data are a mixture w N(m, σ² 1) + (1 − w) N(−m, σ² 1). Noised by dx = −x dt + √2 dW they stay one, with means ±m e^{−t} and
the variance Γ_t = σ² e^{−2t} + Δ_t, Δ_t = 1 − e^{−2t}, so that with h = ½ log(w/(1 − w)) the score is

    S(x, t) = [m e^{−t} tanh(m·x e^{−t}/Γ_t + h) − x] / Γ_t.

Only y = m̂·x knows of the classes. All that is exact about them is a function of one signal-to-noise ratio, κ_t = |m| e^{−t}/√Γ_t:
the probability f(κ) that two clones end in the same class, the bimodality of p_t (κ > 1), the distance from a Gaussian. The
reverse family dx = [x + (1 + η) S] dτ + √(2η) dW rolls y in a potential whose minimum splits at a time that depends on η:
its stationary points are those of a magnet, μ = tanh(Kμ + h), K = κ² (1 + η)/(1 + η − Γ_t).
"""

from __future__ import annotations

import math
import os
from typing import NamedTuple

import numpy as np
import torch
from scipy.optimize import brentq
from tqdm.auto import tqdm

from physgen.checks import count as _count
from physgen.checks import number as _number
from physgen.checks import stream as _generator
from physgen.checks import times as _times
from physgen.kernels import mixture_score as mixture
from physgen.kernels import philox, reverse

from .curie_weiss import magnetization

__all__ = [
    "Guided",
    "Moments",
    "Pairs",
    "Sample",
    "class_information",
    "class_posterior",
    "class_probability",
    "clones",
    "cloning_function",
    "cloning_probability",
    "cloning_time",
    "critical_time",
    "curvature",
    "fixed_point",
    "guidance_response",
    "guided_samples",
    "guided_score",
    "hierarchical_means",
    "late_start_kl",
    "mixture_log_density",
    "mixture_sample",
    "mixture_score",
    "noised_variance",
    "potential",
    "signal_to_noise",
    "speciation_time",
    "susceptibility",
    "tilted_moments",
    "u_turns",
]

POINTS = 801  # of a trapezoidal rule: its integrands are analytic and decay, so it converges exponentially


class Sample(NamedTuple):
    """Points and the classes that they come from."""

    x: torch.Tensor  # (n, d)
    labels: torch.Tensor  # (n,) int64


class Pairs(NamedTuple):
    """The classes, (n,) int64, of two ends that share one point x_t."""

    first: torch.Tensor
    second: torch.Tensor

    @property
    def agreement(self) -> float:
        """The share of pairs in one class; its standard error is √(φ(1 − φ)/n)."""
        return float((self.first == self.second).double().mean())


class Moments(NamedTuple):
    """Mean and variance of y = m̂·x."""

    mean: float
    variance: float


class Guided(NamedTuple):
    """Guided trajectories of y = m̂·x, W strengths w on the same noise; what they differ in from w = 0, float64."""

    shift: torch.Tensor  # (W,) of the mean, at the end
    shift_error: torch.Tensor  # (W,) its standard error
    loss: torch.Tensor  # (W,) of the variance, at the end
    loss_error: torch.Tensor  # (W,)
    times: torch.Tensor  # (steps + 1,) from the start down to 0
    path: torch.Tensor  # (steps + 1, W) the shift of the mean at these times
    y: torch.Tensor  # (W, n) float32, the ends


# ------------------------------------------------------------------------------------------------- input


def _points(x, mean, t) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """x (B, d), m (d,) and t, () or (B, 1), in float64."""
    x = _matrix(x, "x", "(batch, d)")
    if not isinstance(mean, torch.Tensor) or mean.shape != x.shape[1:] or not mean.is_floating_point():
        came = f"{mean.dtype} {tuple(mean.shape)}" if isinstance(mean, torch.Tensor) else repr(mean)
        raise ValueError(f"mean: got {came}; expected floating-point numbers of shape ({x.shape[1]},), as x")
    if not bool(mean.isfinite().all()):
        raise ValueError("mean: got NaN or infinity; expected finite numbers")
    t = _times(t).to(x.device)
    if t.ndim and t.shape != x.shape[:1]:
        raise ValueError(f"t: got shape {tuple(t.shape)}; expected a number or ({len(x)},), one time a point")
    return x.double(), mean.double(), t[:, None] if t.ndim else t


def _matrix(value, name: str, shape: str) -> torch.Tensor:
    if not isinstance(value, torch.Tensor) or value.ndim != 2 or not value.is_floating_point():
        came = f"{value.dtype} {tuple(value.shape)}" if isinstance(value, torch.Tensor) else repr(value)
        raise ValueError(f"{name}: got {came}; expected floating-point numbers of shape {shape}")
    if value.shape[1] == 0 or not bool(value.isfinite().all()):
        raise ValueError(f"{name}: got NaN, infinity or d = 0; expected finite numbers of shape {shape}")
    return value


def _half_log_odds(weight, *, inside: bool = True) -> float:
    """h = ½ log(w/(1 − w)); ±∞ at the ends, where they are allowed."""
    if isinstance(weight, bool) or not isinstance(weight, (int, float)) or not 0 <= weight <= 1:
        raise ValueError(f"weight: got {weight!r}; expected a number between 0 and 1")
    if weight in (0, 1):
        if inside:
            raise ValueError(f"weight: got {weight!r}; expected a number between 0 and 1, the ends excluded")
        return math.copysign(math.inf, weight - 0.5)
    return (math.log(weight) - math.log1p(-weight)) / 2


# ------------------------------------------------------------------------------------------------- the noised mixture


def noised_variance(t, variance: float = 1.0, temperature: float = 1.0) -> torch.Tensor:
    """The variance of a class at time t, Γ_t = σ² e^{−2t} + T (1 − e^{−2t}).

    Parameters
    ----------
    t : float or torch.Tensor
        Times > 0.
    variance : float
        σ² ≥ 0 of the data.
    temperature : float
        T > 0: the noise is √(2T) dW and noised data end in N(0, T). It is 1 everywhere else in this book.

    Returns
    -------
    torch.Tensor
        float64, the shape of `t`.

    Raises
    ------
    ValueError
        If an argument is out of its range.

    Notes
    -----
    Ornstein-Uhlenbeck; Biroli, Bonnaire, de Bortoli, Mézard (2024), Nat. Commun. 15, 9957, has T = 1.
    """
    t, variance = _times(t), _number(variance, "variance", 0)
    temperature = _number(temperature, "temperature", 0, strict=True)
    return variance * torch.exp(-2 * t) - temperature * torch.expm1(-2 * t)


def signal_to_noise(t, norm: float, variance: float = 1.0) -> torch.Tensor:
    """κ_t = |m| e^{−t} / √Γ_t: half the distance of the two classes in units of their width.

    Parameters
    ----------
    t : float or torch.Tensor
        Times > 0.
    norm : float
        |m| ≥ 0.
    variance : float
        σ² ≥ 0.

    Returns
    -------
    torch.Tensor
        float64, the shape of `t`.

    Raises
    ------
    ValueError
        If an argument is out of its range.
    """
    t, norm = _times(t), _number(norm, "norm", 0)
    return norm * torch.exp(-t) / noised_variance(t, variance).sqrt()


def mixture_log_density(
    x: torch.Tensor, t, mean: torch.Tensor, variance: float = 1.0, weight: float = 0.5
) -> torch.Tensor:
    """log p_t(x) of w N(m e^{−t}, Γ_t 1) + (1 − w) N(−m e^{−t}, Γ_t 1).

    Parameters
    ----------
    x : torch.Tensor, shape (batch, d)
    t : float or torch.Tensor of shape (batch,)
        Times > 0.
    mean : torch.Tensor, shape (d,)
        m, of the data at t = 0.
    variance : float
        σ² ≥ 0 of each class in each direction.
    weight : float
        w of the class +m, from 0 to 1; at the ends there is one class only.

    Returns
    -------
    torch.Tensor
        (batch,), float64 inside, the dtype of `x`. Differentiable.

    Raises
    ------
    ValueError
        If a shape or value does not fit.

    Notes
    -----
    Biroli, Bonnaire, de Bortoli, Mézard (2024), Nat. Commun. 15, 9957; d normalisations √(2πΓ_t), one a coordinate.
    """
    points, m, times = _points(x, mean, t)
    _half_log_odds(weight, inside=False)
    gamma, centre = noised_variance(times, variance), m * torch.exp(-times)
    weights = torch.tensor([weight, 1 - weight], dtype=torch.float64, device=x.device).log()
    classes = [
        log_w - ((points - sign * centre).square() / (2 * gamma)).sum(1)
        for log_w, sign in zip(weights, (1, -1), strict=True)
    ]
    normalisation = (points.shape[1] / 2 * torch.log(2 * math.pi * gamma)).flatten()
    return (torch.logaddexp(*classes) - normalisation).to(x.dtype)


def mixture_score(
    x: torch.Tensor, t, mean: torch.Tensor, variance: float = 1.0, weight: float = 0.5
) -> torch.Tensor:
    """The score of the mixture, S = [m e^{−t} tanh(m·x e^{−t}/Γ_t + h) − x] / Γ_t with h = ½ log(w/(1 − w)).

    Parameters
    ----------
    x, t, mean, variance, weight
        As in `mixture_log_density`.

    Returns
    -------
    torch.Tensor
        (batch, d), float64 inside, the dtype of `x`. Differentiable.

    Raises
    ------
    ValueError
        If a shape or value does not fit.

    Notes
    -----
    Biroli, Mézard (2023), J. Stat. Mech. 093402, for two classes of equal weight.
    """
    points, m, times = _points(x, mean, t)
    h = _half_log_odds(weight, inside=False)
    gamma, centre = noised_variance(times, variance), m * torch.exp(-times)
    field = (points * centre).sum(1, keepdim=True) / gamma
    return ((centre * torch.tanh(field + h) - points) / gamma).to(x.dtype)


def class_probability(
    x: torch.Tensor, t, mean: torch.Tensor, variance: float = 1.0, weight: float = 0.5
) -> torch.Tensor:
    """P₊ = P(class +m | x_t = x) = 1 / (1 + e^{−2 (m·x e^{−t}/Γ_t + h)}).

    Parameters
    ----------
    x, t, mean, variance, weight
        As in `mixture_log_density`.

    Returns
    -------
    torch.Tensor
        (batch,), float64 inside, the dtype of `x`.

    Raises
    ------
    ValueError
        If a shape or value does not fit.

    Notes
    -----
    Bayes. Its mean over p_t is w at every t: noise hides the classes and does not change their weights.
    """
    points, m, times = _points(x, mean, t)
    h = _half_log_odds(weight, inside=False)
    field = (points * m * torch.exp(-times)).sum(1) / noised_variance(times, variance).flatten()
    return torch.sigmoid(2 * (field + h)).to(x.dtype)


# ------------------------------------------------------------------------------------------------- potential, critical times


def potential(
    q: torch.Tensor,
    t,
    norm: float,
    d: float | None = None,
    variance: float = 1.0,
    weight: float = 0.5,
) -> torch.Tensor:
    """The potential in which q = m·x/√d rolls, V = (2/Γ_t − 1) q²/2 − 2 (|m|²/d) log[cosh(q e^{−t}√d/Γ_t + h)/cosh h].

    It belongs to the reverse diffusion (η = 1) and to time that runs backwards, dq = −V′ dτ + √(2|m|²/d) dW: the noise has
    variance 2 (|m|²/d) dτ. Without `d` the coordinate is y = m̂·x, which is q with d = |m|²: V = (2/Γ_t − 1) y²/2 −
    2 log cosh(|m| e^{−t} y/Γ_t), noise 2 dτ.

    Parameters
    ----------
    q : torch.Tensor, any shape
        q = m·x/√d, or y = m̂·x if there is no `d`.
    t : float or torch.Tensor
        Times > 0 that broadcast with `q`.
    norm : float
        |m| > 0.
    d : float, optional
        The dimension, > 0; default |m|².
    variance : float
        σ² ≥ 0; at σ² = 1, Γ_t = 1 and V has the form of late times at all times.
    weight : float
        w of the class +m, 0 < w < 1.

    Returns
    -------
    torch.Tensor
        V with V(0) = 0, float64. Differentiable.

    Raises
    ------
    ValueError
        If an argument is out of its range.

    Notes
    -----
    Biroli, Bonnaire, de Bortoli, Mézard (2024), Nat. Commun. 15, 9957, at leading order; exact here.
    """
    if not isinstance(q, torch.Tensor) or not q.is_floating_point() or not bool(q.isfinite().all()):
        raise ValueError(f"q: got {q!r}; expected a tensor of finite floating-point numbers")
    norm, h = _number(norm, "norm", 0, strict=True), _half_log_odds(weight)
    d = norm**2 if d is None else _number(d, "d", 0, strict=True)
    times = _times(t).to(q.device)
    gamma = noised_variance(times, variance)
    z = q.double() * torch.exp(-times) * math.sqrt(d) / gamma
    well = _log_cosh(z + h) - _log_cosh(torch.tensor(h, dtype=torch.float64))
    return (2 / gamma - 1) * q.double().square() / 2 - 2 * norm**2 / d * well


def _log_cosh(z: torch.Tensor) -> torch.Tensor:
    # Smooth at 0, unlike |z|, so that V″(0) is right by automatic differentiation.
    return z + torch.nn.functional.softplus(-2 * z, threshold=40) - math.log(2)


def speciation_time(top_eigenvalue) -> torch.Tensor:
    """t_S = ½ log Λ, Λ the largest eigenvalue of the covariance of the data.

    Λ e^{−2t} is the variance that the data still have in their widest direction; at t_S it is that of the noise. For two classes
    Λ = |m|² + σ². No symmetry need break at t_S: the formula knows of one variance, not of classes.

    Parameters
    ----------
    top_eigenvalue : float or torch.Tensor
        Λ ≥ 1. At Λ = 1, of data no wider than the noise, t_S = 0; below there is no such time.

    Returns
    -------
    torch.Tensor
        float64, the shape of Λ.

    Raises
    ------
    ValueError
        If Λ < 1 or is not finite.

    Notes
    -----
    Biroli, Bonnaire, de Bortoli, Mézard (2024), Nat. Commun. 15, 9957.
    """
    if not isinstance(top_eigenvalue, torch.Tensor):
        top_eigenvalue = torch.tensor(_number(top_eigenvalue, "top_eigenvalue"), dtype=torch.float64)
    if top_eigenvalue.is_complex() or not bool((top_eigenvalue.isfinite() & (top_eigenvalue >= 1)).all()):
        raise ValueError(
            f"top_eigenvalue: got {top_eigenvalue.tolist()}; expected finite numbers >= 1, since t_S >= 0"
        )
    return top_eigenvalue.double().log() / 2


def critical_time(norm: float, variance: float = 1.0, eta: float = 1.0) -> float:
    """When x = 0 stops to be stable for the reverse family: the largest t with 1 + (1 + η) S′(0, t) = 0 along m.

    With u = 1 − σ² and b = (1 + η)|m|² − (1 − η)u it solves u² e^{−4t} + b e^{−2t} = η. Three members have names:

    - η = 1, the reverse diffusion, V″(0) = 0: e^{2t} = |m|² + √(|m|⁴ + (1 − σ²)²), which is 2|m|² at σ² = 1;
    - η = ∞, Langevin dynamics in log p_t: p_t becomes bimodal, κ_t = 1, e^{2t} = |m|² + 1 − σ²;
    - η = 0, the probability-flow equation: never stable if |m|² + σ² ≥ 1, so t = ∞.

    Parameters
    ----------
    norm : float
        |m| > 0.
    variance : float
        σ² ≥ 0.
    eta : float
        η ≥ 0; ``math.inf`` is allowed.

    Returns
    -------
    float
        The time, > 0, or ∞.

    Raises
    ------
    ValueError
        If an argument is out of its range, or x = 0 is stable at all t > 0.

    Notes
    -----
    η = 1 and two points at ±1: Raya, Ambrogioni (2023), NeurIPS, √2 − 1; η = ∞: Ambrogioni (2025), Entropy 27, 291.
    """
    square = _number(norm, "norm", 0, strict=True) ** 2
    u, c = 1 - _number(variance, "variance", 0), _family(eta)
    # Divided by 1 + η, with c = η/(1 + η): (1 − c) u² g² + b g − c = 0 for g = e^{−2t}; its one positive root.
    b = square - (1 - 2 * c) * u
    root = math.sqrt(b * b + 4 * c * (1 - c) * u * u)
    if b >= 0:
        growth = (b + root) / (2 * c) if c else math.inf
    else:
        growth = 2 * (1 - c) * u * u / (root - b)
    if growth <= 1:
        raise ValueError(
            f"norm: got {norm}; expected classes apart enough, since x = 0 is stable at every t > 0"
        )
    return math.log(growth) / 2


def _family(eta) -> float:
    """c = η/(1 + η), from 0 (the equation) over ½ (the diffusion) to 1 (Langevin dynamics at fixed t)."""
    if eta == math.inf:
        return 1.0
    eta = _number(eta, "eta", 0)
    return eta / (1 + eta)


def curvature(t, norm: float, variance: float = 1.0, truncated: bool = False) -> torch.Tensor:
    """∂² log p_t at x = 0 along m: −1/Γ_t + |m|² e^{−2t}/Γ_t², or to second order in e^{−t}: −(1 − Λe^{−2t}/Δ_t)/Δ_t.

    The truncated form, with Λ = |m|² + σ², is the "Landau" expansion that gives t = ½ log(1 + Λ). It is the same for every law
    of variance Λ, so for a Gaussian too, whose log density is concave at all times, −1/(Δ_t + Λe^{−2t}).

    Parameters
    ----------
    t : float or torch.Tensor
        Times > 0.
    norm, variance : float
        |m| ≥ 0 and σ² ≥ 0.
    truncated : bool
        To second order in e^{−t}.

    Returns
    -------
    torch.Tensor
        float64, the shape of `t`.

    Raises
    ------
    ValueError
        If an argument is out of its range.

    Notes
    -----
    Biroli, Bonnaire, de Bortoli, Mézard (2024), Nat. Commun. 15, 9957, section on the speciation time.
    """
    times, norm = _times(t), _number(norm, "norm", 0)
    gamma, signal = noised_variance(times, variance), torch.exp(-2 * times)
    if not truncated:
        return (norm**2 * signal / gamma - 1) / gamma
    delta = -torch.expm1(-2 * times)
    return ((norm**2 + variance) * signal / delta - 1) / delta


def fixed_point(
    t: float, norm: float = 1.0, variance: float = 0.0, eta: float = math.inf, log_odds: float = 0.0
) -> float:
    """Where the drift of the reverse family vanishes: y = A|m|e^{−t} μ with μ = tanh(Kμ + h), K = Aκ_t².

    Here A = (1 + η)/(1 + η − Γ_t). This is the Curie–Weiss magnet at β = K in the field h (`curie_weiss.magnetization`), so K = 1
    is `critical_time`, with the exponents of mean field: y ~ (K − 1)^½, χ ~ |K − 1|^{−1} (`susceptibility`), y ~ h^⅓ at K = 1.
    With η = ∞ (the default) y is a zero of the score; for data ±1, θ = e^{−t}, Δ = 1 − θ²: y = θ tanh(θy/Δ + h).

    Parameters
    ----------
    t : float
        Time > 0.
    norm, variance : float
        |m| > 0 and σ² ≥ 0; the defaults are two points at ±1.
    eta : float
        η ≥ 0, ∞ for the score alone.
    log_odds : float
        h = ½ log(w/(1 − w)), the field.

    Returns
    -------
    float
        y = m̂·x on the side of h; at h = 0 the one that is ≥ 0.

    Raises
    ------
    ValueError
        If an argument is out of its range, or Γ_t ≥ 1 + η, where the drift leads to infinity.

    Notes
    -----
    Ambrogioni (2025), Entropy 27, 291, for η = ∞; Raya, Ambrogioni (2023), NeurIPS, for η = 1.
    """
    scale, coupling = _magnet(t, norm, variance, eta)
    return scale * float(magnetization(coupling, _number(log_odds, "log_odds")))


def susceptibility(
    t: float, norm: float = 1.0, variance: float = 0.0, eta: float = math.inf, log_odds: float = 0.0
) -> float:
    """∂y/∂h of `fixed_point`: χ = A |m| e^{−t} (1 − μ²)/(1 − K(1 − μ²)), what a change of the class weights does to it.

    Parameters
    ----------
    t, norm, variance, eta, log_odds
        As in `fixed_point`.

    Returns
    -------
    float
        χ > 0; for two points at ±1, η = ∞, e^{−2t} < ½ and h = 0: χ = θ(1 − θ²)/(1 − 2θ²).

    Raises
    ------
    ValueError
        As `fixed_point`.
    """
    scale, coupling = _magnet(t, norm, variance, eta)
    mu = float(magnetization(coupling, _number(log_odds, "log_odds")))
    slack = 1 - coupling * (1 - mu * mu)
    return scale * (1 - mu * mu) / slack if slack else math.inf


def _magnet(t, norm, variance, eta) -> tuple[float, float]:
    """A |m| e^{−t} and K."""
    t, norm = _number(t, "t", 0, strict=True), _number(norm, "norm", 0, strict=True)
    gamma, signal = float(noised_variance(t, variance)), norm * math.exp(-t)
    room = 1 - (1 - _family(eta)) * gamma
    if room <= 0:
        raise ValueError(
            f"eta: got {eta}; expected more than Γ_t − 1 = {gamma - 1:g}, else there is no fixed point"
        )
    return signal / room, signal**2 / gamma / room


# ------------------------------------------------------------------------------------------------- cloning


def cloning_function(kappa, weight: float = 0.5) -> torch.Tensor:
    """f(κ) = E[P₊² + P₋²], with which probability two clones end in the same class: 1 − √(w(1 − w)) e^{−κ²/2} E_u sech(κu + h).

    This is ∫ du (w² G₊² + (1 − w)² G₋²)/(w G₊ + (1 − w) G₋) with G± = N(u; ±κ, 1), written so that 1 − f keeps its digits. At
    w = ½ it is also ½(1 + E tanh(κ² + κz)). It rises from w² + (1 − w)² at κ = 0 to 1; f(1) = 0.7752 at w = ½.

    Parameters
    ----------
    kappa : float or torch.Tensor
        κ ≥ 0.
    weight : float
        w, 0 < w < 1.

    Returns
    -------
    torch.Tensor
        float64, the shape of κ; to 10⁻¹⁴.

    Raises
    ------
    ValueError
        If an argument is out of its range.

    Notes
    -----
    Biroli, Bonnaire, de Bortoli, Mézard (2024), Nat. Commun. 15, 9957, the integral at w = ½.
    """
    h = _half_log_odds(weight)
    return 1 - math.sqrt(weight * (1 - weight)) * _overlap(_ratio(kappa), h)


def _ratio(kappa) -> torch.Tensor:
    if not isinstance(kappa, torch.Tensor):
        return torch.tensor(_number(kappa, "kappa", 0), dtype=torch.float64)
    if not kappa.is_floating_point() or not bool((kappa.isfinite() & (kappa >= 0)).all()):
        raise ValueError(f"kappa: got {kappa.dtype} {kappa.tolist()}; expected finite numbers >= 0")
    return kappa.double()


def _overlap(kappa: torch.Tensor, h: float) -> torch.Tensor:
    """e^{−κ²/2} E sech(κu + h) by the trapezoidal rule where neither factor is below 10⁻¹⁷."""
    k = kappa[..., None].clamp(min=1e-300)
    low, high = ((end - h) / k for end in (-40, 40))
    low, high = low.clamp(-9, 9), high.clamp(-9, 9)
    u = low + (high - low) * torch.linspace(0, 1, POINTS, dtype=k.dtype, device=k.device)
    values = torch.exp(-u.square() / 2 - k.square() / 2 - _log_cosh(k * u + h)) / math.sqrt(2 * math.pi)
    return torch.trapezoid(values, u)


def cloning_probability(t, norm: float, variance: float = 1.0, weight: float = 0.5) -> torch.Tensor:
    """φ(t) = f(κ_t): two reverse diffusions that part at time t end in the same class, exactly.

    Also of a point that is noised up to t and denoised again (a U-turn): it keeps its class with probability φ(t).

    Parameters
    ----------
    t : float or torch.Tensor
        Times > 0.
    norm : float
        |m| ≥ 0.
    variance : float
        σ² ≥ 0.
    weight : float
        w of the class +m, 0 < w < 1.

    Returns
    -------
    torch.Tensor
        float64, the shape of `t`.

    Raises
    ------
    ValueError
        If an argument is out of its range.

    Notes
    -----
    Biroli, Bonnaire, de Bortoli, Mézard (2024), Nat. Commun. 15, 9957; see `cloning_function`.
    """
    return cloning_function(signal_to_noise(t, norm, variance), weight)


def cloning_time(probability: float, norm: float, variance: float = 1.0) -> float:
    """When clones agree with the given probability: e^{2t} = |m|²/κ² + 1 − σ² with f(κ) = φ, classes of equal weight.

    Parameters
    ----------
    probability : float
        φ, ½ < φ < 1.
    norm : float
        |m| > 0.
    variance : float
        σ² ≥ 0.

    Returns
    -------
    float
        t > 0; for large |m|, log|m| plus a number that depends on φ only.

    Raises
    ------
    ValueError
        If an argument is out of its range, or φ is not reached at any t > 0.
    """
    norm, variance = _number(norm, "norm", 0, strict=True), _number(variance, "variance", 0)
    probability = _number(probability, "probability", 0.5, strict=True)
    if probability > 1 - 1e-12:
        raise ValueError(f"probability: got {probability}; expected less than 1")
    kappa = brentq(lambda k: float(cloning_function(k)) - probability, 0.0, 10.0, xtol=1e-14)
    growth = norm**2 / kappa**2 + 1 - variance
    if growth <= 1:
        raise ValueError(f"probability: got {probability}; expected less than its limit at t = 0, {norm=}")
    return math.log(growth) / 2


def class_information(kappa) -> torch.Tensor:
    """What x_t knows of its class, I(κ) = κ² − E log cosh(κ² + κz) in nats: from κ²/2 at small κ to log 2.

    Parameters
    ----------
    kappa : float or torch.Tensor
        κ ≥ 0; classes of equal weight.

    Returns
    -------
    torch.Tensor
        The mutual information of class and point, float64, the shape of κ; to 10⁻¹⁵.

    Raises
    ------
    ValueError
        If κ is negative or not finite.

    Notes
    -----
    A sign in a Gaussian channel: Guo, Shamai, Verdú (2005), IEEE Trans. Inf. Theory 51, 1261.
    """
    k = _ratio(kappa).clamp(max=10)[..., None]  # log 2 − I(10) < 10⁻²²
    z = torch.linspace(-9, 9, POINTS, dtype=torch.float64, device=k.device)
    doubt = torch.nn.functional.softplus(-2 * k * (k + z), threshold=40)
    return math.log(2) - torch.trapezoid(torch.exp(-z.square() / 2) * doubt, z) / math.sqrt(2 * math.pi)


def hierarchical_means(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """The four centres ±m₁ ± m₂ of classes with subclasses, in the order ++, +−, −+, −−.

    If m₁ ⊥ m₂, the coordinates along them are independent, so clones agree in both with probability f(κ₁) f(κ₂).

    Parameters
    ----------
    first, second : torch.Tensor, shape (d,)
        m₁ and m₂.

    Returns
    -------
    torch.Tensor
        (4, d): row k has the sign of m₁ by k // 2 and that of m₂ by k % 2, 0 for +.

    Raises
    ------
    ValueError
        If the shapes differ or a number is not finite.
    """
    if not isinstance(first, torch.Tensor) or not isinstance(second, torch.Tensor) or first.ndim != 1:
        raise ValueError("first, second: got no vectors; expected tensors of shape (d,)")
    if first.shape != second.shape:
        raise ValueError(f"second: got shape {tuple(second.shape)}; expected {tuple(first.shape)}, as first")
    return _matrix(
        torch.stack([first + second, first - second, second - first, -first - second]), "first", "(d,)"
    )


# ------------------------------------------------------------------------------------------------- simulation: clones


def mixture_sample(
    n: int,
    t: float,
    means: torch.Tensor,
    variance: float = 1.0,
    weights: torch.Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Sample:
    """n points of Σ_k w_k N(m_k e^{−t}, Γ_t 1), each with its class.

    Parameters
    ----------
    n : int
        ≥ 1.
    t : float
        Time ≥ 0; 0 is the data.
    means : torch.Tensor, shape (K, d)
        m_k; two classes are ``torch.stack([m, -m])``.
    variance : float
        σ² ≥ 0.
    weights : torch.Tensor, shape (K,), optional
        w_k, float64, sum 1; default 1/K each.
    generator : torch.Generator, optional
        On the CPU; None for fresh entropy.

    Returns
    -------
    Sample

    Raises
    ------
    ValueError
        If a shape or value does not fit.
    """
    n, t, variance = _count(n, "n"), _number(t, "t", 0), _number(variance, "variance", 0)
    means, own = _matrix(means, "means", "(K, d)"), _generator(generator)
    chosen = torch.multinomial(_class_weights(weights, means), n, replacement=True, generator=own)
    z = torch.randn(n, means.shape[1], dtype=means.dtype, generator=own).to(means.device)
    gamma = variance * math.exp(-2 * t) - math.expm1(-2 * t)
    labels = chosen.to(means.device)
    return Sample(math.exp(-t) * means[labels] + math.sqrt(gamma) * z, labels)


def _class_weights(weights, means: torch.Tensor) -> torch.Tensor:
    """On the CPU, where the generator draws."""
    if weights is None:
        return torch.full((len(means),), 1 / len(means), dtype=torch.float64)
    if not isinstance(weights, torch.Tensor) or weights.shape != means.shape[:1]:
        raise ValueError(f"weights: got {weights!r}; expected a tensor of shape ({len(means)},)")
    weights = weights.double().cpu()
    if not bool((weights >= 0).all()) or not abs(float(weights.sum()) - 1) < 1e-9:
        raise ValueError(f"weights: got {weights.tolist()}; expected none below 0 and the sum 1")
    return weights


def class_posterior(
    x: torch.Tensor,
    t: float,
    means: torch.Tensor,
    variance: float = 1.0,
    weights: torch.Tensor | None = None,
) -> torch.Tensor:
    """P(k | x_t = x) ∝ w_k exp(−|x − m_k e^{−t}|²/2Γ_t), of any number of classes.

    The mean over p_t of Σ_k P(k|x)² is the probability that two clones end in the same class.

    Parameters
    ----------
    x : torch.Tensor, shape (batch, d)
    t : float
        Time ≥ 0, > 0 if σ² = 0.
    means, variance, weights
        As in `mixture_sample`.

    Returns
    -------
    torch.Tensor
        (batch, K), float64, rows of sum 1.

    Raises
    ------
    ValueError
        If a shape or value does not fit.
    """
    t, variance = _number(t, "t", 0), _number(variance, "variance", 0)
    means = _matrix(means, "means", "(K, d)")
    gamma = variance * math.exp(-2 * t) - math.expm1(-2 * t)
    if gamma == 0:
        raise ValueError("t: got 0 with variance 0; expected t > 0, or classes of a width > 0")
    known = _class_weights(weights, means).to(means.device)
    x = _matrix(x, "x", "(batch, d)").double()
    return mixture.weights(x, means.double(), math.exp(-t), gamma, known)


def clones(
    t: float,
    means: torch.Tensor,
    variance: float = 1.0,
    weights: torch.Tensor | None = None,
    n: int = 10_000,
    step: float = 0.01,
    eta: float = 1.0,
    generator: torch.Generator | None = None,
) -> Pairs:
    """Cloning trajectories: from noise down to t, there each is doubled, and both run on to t = 0 with noise of their own.

    They start at ½ log(1 + max|m_k|²) + 5 from N(0, 1) and are integrated by Euler and Maruyama in float32. The class of an end
    x is drawn from P(k|x), so that with η = 1 and no step error two clones agree with probability E Σ_k P(k|x_t)² exactly,
    also where the classes overlap; the step changes that by about `step`/10.

    Parameters
    ----------
    t : float
        Where they part, between 0 and the start.
    means : torch.Tensor, shape (K, d)
        m_k. Only the space that they span matters: two classes may be simulated in d = 1, with ±|m|.
    variance : float
        σ² > 0.
    weights : torch.Tensor, shape (K,), optional
        w_k, float64, sum 1; default 1/K each.
    n : int
        Pairs.
    step : float
        Of time, > 0 and below half of min(1, σ²).
    eta : float
        η ≥ 0 of the reverse family; 0 makes the ends of both the same.
    generator : torch.Generator, optional
        None for fresh entropy.

    Returns
    -------
    Pairs

    Raises
    ------
    ValueError
        If a shape or value does not fit.

    Notes
    -----
    Biroli, Bonnaire, de Bortoli, Mézard (2024), Nat. Commun. 15, 9957, the cloning experiment.
    """
    t, means = _number(t, "t", 0, strict=True), _matrix(means, "means", "(K, d)").float()
    start = math.log1p(float(means.square().sum(1).max())) / 2 + 5
    if t >= start:
        raise ValueError(f"t: got {t}; expected less than {start:.4g}, where the trajectories start")
    own = _generator(generator)
    x = torch.randn(_count(n, "n"), means.shape[1], generator=own).to(means.device)
    x = _reverse(x, start, t, means, variance, weights, step, eta, own)
    return Pairs(*(_ends(x, t, means, variance, weights, step, eta, own) for _ in range(2)))


def u_turns(
    t: float,
    means: torch.Tensor,
    variance: float = 1.0,
    weights: torch.Tensor | None = None,
    n: int = 10_000,
    step: float = 0.01,
    eta: float = 1.0,
    generator: torch.Generator | None = None,
) -> Pairs:
    """Data noised up to t and denoised again: their classes before and after.

    Parameters
    ----------
    t, means, variance, weights, n, step, eta, generator
        As in `clones`; t has no upper limit.

    Returns
    -------
    Pairs

    Raises
    ------
    ValueError
        If a shape or value does not fit.

    Notes
    -----
    Behjoo, Chertkov (2025), Entropy 27, 343; Sclocchi, Favero, Wyart (2025), PNAS 122, e2408799121.
    """
    t, means = _number(t, "t", 0, strict=True), _matrix(means, "means", "(K, d)").float()
    own = _generator(generator)
    x, labels = mixture_sample(n, t, means, variance, weights, own)
    return Pairs(labels, _ends(x, t, means, variance, weights, step, eta, own))


def _reverse(x, high, low, means, variance, weights, step, eta, own) -> torch.Tensor:
    known = _class_weights(weights, means).to(means.device)
    return reverse.gaussian_mixture(
        x, means, _grid(high, low, step, variance), philox.key(own), eta, known, float(variance)
    )


def _grid(high: float, low: float, step, variance) -> torch.Tensor:
    """Equal steps down from one time to another, none above the given one."""
    step, variance = _number(step, "step", 0, strict=True), _number(variance, "variance", 0, strict=True)
    if 2 * step >= min(1, variance):
        raise ValueError(f"step: got {step}; expected less than half of min(1, σ²), else Euler is unstable")
    return torch.linspace(high, low, math.ceil((high - low) / step) + 1, dtype=torch.float64)


def _ends(x, t, means, variance, weights, step, eta, own) -> torch.Tensor:
    """The classes of the trajectories from x at time t, once they are at 0."""
    x = _reverse(x, t, 0.0, means, variance, weights, step, eta, own)
    posterior = class_posterior(x, 0.0, means, variance, weights).cpu()
    return torch.multinomial(posterior, 1, generator=own)[:, 0].to(means.device)


# ------------------------------------------------------------------------------------------------- late start


def late_start_kl(t, norm: float = 1.0, variance: float = 0.0) -> torch.Tensor:
    """KL(p_t ‖ Gaussian of the same covariance), what it costs to start the reverse diffusion late, at t; about r⁴/12.

    Only y = m̂·x is not Gaussian, so d does not matter; in units of Γ_t it is ½ log(1 + κ²) − I(κ) with `class_information`, small as
    r⁴/12 with r = κ²/(1 + κ²), the share of the classes in the variance of y. For two points at ±1 the Gaussian is N(0, 1) and
    r = e^{−2t}. Whatever the reverse process does, the KL of its samples is not more (data processing).

    Parameters
    ----------
    t : float or torch.Tensor
        Times > 0.
    norm, variance : float
        |m| ≥ 0 and σ² ≥ 0; the defaults are two points at ±1. Equal weights.

    Returns
    -------
    torch.Tensor
        In nats, float64, the shape of `t`; without cancellation where it is small.

    Raises
    ------
    ValueError
        If an argument is out of its range.

    Notes
    -----
    The Gaussian late initialisation of Raya, Ambrogioni (2023), NeurIPS; the law q⁴/12 is the Gram-Charlier term κ₄²/48.
    """
    kappa = signal_to_noise(t, norm, variance)
    difference = kappa.square().log1p() / 2 - class_information(kappa)
    return torch.where(kappa > 1, difference, _small_kl(kappa.clamp(max=1)))


def _small_kl(kappa: torch.Tensor) -> torch.Tensor:
    """∫ g (ρ log ρ − ρ + 1), ρ = p/g, whose integrand is small where p is near g."""
    k = kappa[..., None]
    width = (1 + k.square()).sqrt()
    u = (k + 9 * width) * torch.linspace(
        0, 1, POINTS, dtype=torch.float64, device=k.device
    )  # all is even in u
    log_gauss = -(u / width).square() / 2 - torch.log(width * math.sqrt(2 * math.pi))
    # Each term of log ρ is O(κ²), so it keeps its digits.
    ratio = _log_cosh(k * u) - (k * u / width).square() / 2 - k.square() / 2 + k.square().log1p() / 2
    return 2 * torch.trapezoid(torch.exp(log_gauss) * _bregman(ratio), u)


def _bregman(x: torch.Tensor) -> torch.Tensor:
    """ρ log ρ − ρ + 1 at ρ = e^x, ≥ 0."""
    series = x.square() * (1 / 2 + x * (1 / 3 + x * (1 / 8 + x / 30)))
    return torch.where(x.abs() < 1e-3, series, x * torch.exp(x) - torch.expm1(x))


# ------------------------------------------------------------------------------------------------- guidance


def guided_score(
    x: torch.Tensor, t, mean: torch.Tensor, guidance: float, variance: float = 1.0, weight: float = 0.5
) -> torch.Tensor:
    """Classifier-free guidance towards the class +m: (1 + w) S(x|+) − w S(x), with w the `guidance`.

    S(x|+) − S(x) = (m e^{−t}/Γ_t)(1 − tanh(m·x e^{−t}/Γ_t + h)) = ∇ log P₊: it points along m and vanishes once the class is
    decided, so guidance acts before speciation and only on y = m̂·x. At each t this is the score of p_t(x|+) P₊(x, t)^w,
    but these laws are not one law noised, so what comes out is not p(x|+) P₊(x)^w (`tilted_moments`).

    Parameters
    ----------
    x, t, mean, variance, weight
        As in `mixture_log_density`; the class −m is ``guided_score(x, t, -mean, guidance, variance, 1 - weight)``.
    guidance : float
        w ≥ 0; 0 is the class alone.

    Returns
    -------
    torch.Tensor
        (batch, d), float64 inside, the dtype of `x`. Differentiable.

    Raises
    ------
    ValueError
        If a shape or value does not fit.

    Notes
    -----
    Ho, Salimans (2022), arXiv 2207.12598; Pavasovic, Verbeek, Biroli, Mézard (2025), arXiv 2502.07849.
    """
    w = _number(guidance, "guidance", 0)
    conditional = mixture_score(x, t, mean, variance, weight=1)
    return (1 + w) * conditional - w * mixture_score(x, t, mean, variance, weight)


def guided_samples(
    norm: float,
    guidance: torch.Tensor,
    n: int = 20_000,
    variance: float = 1.0,
    weight: float = 0.5,
    step: float = 0.005,
    generator: torch.Generator | None = None,
) -> Guided:
    """The guided reverse diffusion of y = m̂·x for several strengths on the same noise, from log(max(|m|, 1)) + 5 to 0.

    The other d − 1 coordinates do not feel the guidance. Mean and variance are compared with those of w = 0 on the same noise,
    path by path, which removes most of their statistical error and of the error of the step.

    Parameters
    ----------
    norm : float
        |m| > 0.
    guidance : torch.Tensor, shape (W,)
        Strengths w ≥ 0.
    n : int
        Paths, ≥ 2.
    variance : float
        σ² > 0.
    weight : float
        Of the class +m in the unconditional law, 0 < weight < 1.
    step : float
        Of Euler and Maruyama, > 0 and below half of min(1, σ²).
    generator : torch.Generator, optional
        None for fresh entropy.

    Returns
    -------
    Guided
        At equal weights the shift of the mean goes like 1/|m|, the loss of variance like 1/|m|².

    Raises
    ------
    ValueError
        If an argument is out of its range.

    Notes
    -----
    Pavasovic, Verbeek, Biroli, Mézard (2025), arXiv 2502.07849: guidance is harmless in high dimension, where |m|² ~ d.
    """
    norm, h = _number(norm, "norm", 0, strict=True), _half_log_odds(weight)
    if not isinstance(guidance, torch.Tensor) or guidance.ndim != 1 or not bool((guidance >= 0).all()):
        raise ValueError(f"guidance: got {guidance!r}; expected a tensor (W,) of strengths >= 0")
    if _count(n, "n") < 2:
        raise ValueError(f"n: got {n}; expected at least 2 paths")
    own, times = _generator(generator), _grid(math.log(max(norm, 1)) + 5, 0.0, step, variance)
    w = torch.cat([torch.zeros(1), _matrix(guidance[None].float(), "guidance", "(W,)")[0]])[:, None]
    y, shifts = torch.randn(n, generator=own).repeat(len(w), 1), []
    steps = zip(times[:-1].tolist(), (times[:-1] - times[1:]).tolist(), strict=True)
    quiet = os.environ.get("PHYSGEN_QUIET") == "1"
    for t, delta in tqdm(steps, total=len(times) - 1, delay=2, disable=quiet, desc="guidance"):
        gamma = variance * math.exp(-2 * t) - math.expm1(-2 * t)
        a = norm * math.exp(-t) / gamma
        shifts.append(_mean_shift(y))
        pull = 1 + w * (1 - torch.tanh(a * y + h))
        noise = math.sqrt(2 * delta) * torch.randn(n, generator=own)
        y = (1 + delta * (1 - 2 / gamma)) * y + 2 * delta * a * pull + noise
    return _compared(y, times, torch.stack([*shifts, _mean_shift(y)]))


def _mean_shift(y: torch.Tensor) -> torch.Tensor:
    return (y[1:] - y[:1]).mean(1, dtype=torch.float64)


def _compared(y: torch.Tensor, times: torch.Tensor, path: torch.Tensor) -> Guided:
    ends = y.double()
    centred = (ends - ends.mean(1, keepdim=True)).square()
    shift, loss = ends[1:] - ends[:1], centred[:1] - centred[1:]
    root = math.sqrt(ends.shape[1])
    return Guided(shift.mean(1), shift.std(1) / root, loss.mean(1), loss.std(1) / root, times, path, y[1:])


def guidance_response(norm: float, variance: float = 1.0) -> float:
    """How much guidance shifts the mean of y, to first order in its strength: 2σ² I/|m|, with I = `class_information` of a datum.

    The push at time t is 2w (|m|e^{−t}/Γ_t)(1 − tanh), and its mean over p_t(·|+) is 1 − E tanh = 2 (1 − f(κ_t)), the odds that
    clones disagree; the drift of one Gaussian class leaves σ² e^{−t}/Γ_t of it at t = 0. Together (4σ²/|m|) ∫ κ (1 − f) dκ from 0 to
    |m|/σ, and 2(1 − f) is the error with which x_t tells a class ±1, whose integral over κ² is 2I (Guo, Shamai, Verdú 2005).

    Parameters
    ----------
    norm : float
        |m| > 0.
    variance : float
        σ² > 0.

    Returns
    -------
    float
        d(mean)/dw at w = 0 of the reverse diffusion, classes of equal weight; (2 log 2) σ²/|m| for |m| ≫ σ.

    Raises
    ------
    ValueError
        If an argument is out of its range.

    Notes
    -----
    Guo, Shamai, Verdú (2005), IEEE Trans. Inf. Theory 51, 1261, for dI/dκ² = ½ E(s − E[s|x])².
    """
    norm, variance = _number(norm, "norm", 0, strict=True), _number(variance, "variance", 0, strict=True)
    return 2 * variance / norm * float(class_information(norm / math.sqrt(variance)))


def tilted_moments(norm: float, guidance: float, variance: float = 1.0, weight: float = 0.5) -> Moments:
    """Mean and variance of y in the tilted law p(x|+) P₊(x)^w, which guidance is said to sample and does not.

    Parameters
    ----------
    norm : float
        |m| > 0.
    guidance : float
        w ≥ 0.
    variance : float
        σ² > 0.
    weight : float
        Of the class +m, 0 < weight < 1.

    Returns
    -------
    Moments
        By quadrature.

    Raises
    ------
    ValueError
        If an argument is out of its range.

    Notes
    -----
    The reading of Ho, Salimans (2022), arXiv 2207.12598, section 3; Bradley, Nakkiran (2024), arXiv 2408.09000, show it wrong.
    """
    norm, w = _number(norm, "norm", 0, strict=True), _number(guidance, "guidance", 0)
    sigma, h = math.sqrt(_number(variance, "variance", 0, strict=True)), _half_log_odds(weight)
    k = norm / sigma
    # z = (y − |m|)/σ; log P₊ has slopes from 0 to 2k, so the peak is at 0 ≤ z ≤ 2wk, with a width of at most one.
    peak = brentq(
        lambda z: z - 2 * w * k / (1 + math.exp(min(2 * (k * (k + z) + h), 700))), 0, 2 * w * k + 1e-9
    )
    z = np.linspace(peak - 12, peak + 12, 24 * math.ceil(50 + 20 * k) + 1)
    log_p = -(z**2) / 2 - w * np.logaddexp(0, -2 * (k * (k + z) + h))
    p = np.exp(log_p - log_p.max())
    p /= p.sum()
    mean = float(p @ z)
    return Moments(norm + sigma * mean, sigma**2 * float(p @ (z - mean) ** 2))
