"""The score, and what it is good for (the chapter `diffusion/score`).

Noising dx = −x dt + √2 dW makes x_t = a e^{−t} + √Δ_t z of data a, Δ_t = 1 − e^{−2t}, with the density p_t and the score
S(x, t) = ∇ log p_t(x). One field S does three things. It denoises (Tweedie), it runs the noising backwards in τ = −t along any
member η ≥ 0 of one family, and its divergence gives the density:

    E[a | x_t = x] = e^t (x + Δ_t S),
    dx = [x + (1 + η) S] dτ + √(2η) dW,        η = 0 the ODE, η = 1 the reversed SDE,
    log p_0(x_0) = log p_T(x_T) − ∫_0^T (d + ∇·S) dt    along the ODE.

A score is a callable S(x, t), x of shape (batch, d) and t > 0 one number or a tensor (batch,); time grids descend and include both
ends. Every affine path α a + β z (DDPM, variance exploding, EDM, flow matching, stochastic localization) is this process in
another clock and another unit of length: t = ½ ln(1 + β²/α²) and x ↦ √(α² + β²) x, see `path`. Grids in such
a clock run from noise to data, up or down as it does.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

import torch
from scipy.integrate import quad, solve_ivp
from torch import nn
from tqdm.auto import tqdm

from physgen.checks import count as _count
from physgen.checks import number as _number
from physgen.kernels import mixture_score

from .processes import (
    FokkerPlanck,
    _ascending,
    _finite,
    _got,
    _gradient,
    _instant,
    _normal,
    _points,
    _stream,
    _time,
    fokker_planck_terms,
    ou_moments,
    relative_entropy,
)

__all__ = [
    "DDPM",
    "Budget",
    "Burgers",
    "Chain",
    "Losses",
    "MatchedChain",
    "Mixture",
    "Path",
    "ScoreNetwork",
    "burgers_residuals",
    "ddpm_mean",
    "ddpm_sample",
    "ddpm_schedule",
    "ddpm_start_mismatch",
    "denoising_losses",
    "divergence",
    "family_residual",
    "gaussian_chain",
    "gaussian_error_budget",
    "localize",
    "log_likelihood",
    "matching_error",
    "mixture",
    "mmse",
    "moment_matched_chain",
    "moons",
    "mutual_information",
    "path",
    "path_sample",
    "path_score",
    "path_velocity",
    "posterior_covariance",
    "probability_flow",
    "reverse_sample",
    "ring",
    "time_grid",
    "train_denoiser",
    "tweedie",
    "tweedie_ve",
    "two_gaussians",
    "ve_score",
    "wiener",
]

Score = Callable[[torch.Tensor, float | torch.Tensor], torch.Tensor]
VARIANCES = "beta", "posterior", "exact"
METHODS = "euler", "heun", "ddim", "exponential"


class Losses(NamedTuple):
    """What a model φ costs at one time, scalars: x = a e^{−t} + √Δ z."""

    matching: torch.Tensor  # E|φ + z/√Δ|²: the weight λ = 1
    simple: torch.Tensor  # E|√Δ φ + z|² = Δ · matching: λ = Δ, the loss of DDPM
    cross: torch.Tensor  # 2 E[φ·z]/√Δ, which is −2 E[φ·∇ log p_t]
    unscaled: torch.Tensor  # E|φ + z|², what the notes print for the first


class Burgers(NamedTuple):
    """Residuals of the equations of h = log p_t, (batch,), and of S = ∇h, (batch, d)."""

    kpz: torch.Tensor
    burgers: torch.Tensor


class Budget(NamedTuple):
    """Nats: what a wrong score costs, and the bound start + path on it."""

    kl: float  # KL(p_0 ‖ generated)
    start: float  # KL(p_T ‖ N(0, I))
    path: float  # ∫ E|S − S_θ|² dt


class DDPM(NamedTuple):
    """A schedule of T steps, k = 1 … T at index k − 1; float64."""

    beta: torch.Tensor  # variance of the noise of step k
    alpha: torch.Tensor  # 1 − β_k
    alpha_bar: torch.Tensor  # ᾱ_k, the product of alpha up to k
    posterior: torch.Tensor  # β̃_k, the variance of x_{k−1} given x_k and x_0
    times: torch.Tensor  # −½ ln ᾱ_k: diffusion time after step k


class Chain(NamedTuple):
    """A DDPM sampler of centred Gaussian data with the exact mean, per dimension."""

    generated: float  # variance of what it draws
    joint_kl: float  # KL of the whole path, nats
    marginal_kl: float  # KL of x_0, nats


class MatchedChain(NamedTuple):
    """Reverse Gaussian kernels with the exact mean and variance at each point, for data that are not Gaussian; nats."""

    kernel_kl: torch.Tensor  # (T,) E KL(p(x_{k−1}|x_k) ‖ kernel), k = 1 … T
    marginal_kl: float  # KL(p(x_0) ‖ q(x_0))
    density: torch.Tensor  # q(x_0) on the grid


class Path(NamedTuple):
    """The affine path x_u = α a + β z at its own time u, and where the book's process has the same signal-to-noise ratio."""

    alpha: float
    beta: float
    d_alpha: float  # dα/du
    d_beta: float
    time: float  # t = ½ ln(1 + β²/α²)
    scale: float  # √(α² + β²): x_u has the law of scale · x_t


# ------------------------------------------------------------------------------------------------- what comes in


def _moments(t, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """s and Δ to multiply x with: (1, 1) or (batch, 1), the dtype of x."""
    s, delta = ou_moments(_time(t, x))
    return s.to(x).reshape(-1, 1), delta.to(x).reshape(-1, 1)


def _at(score: Score, x: torch.Tensor, t, name: str = "score") -> torch.Tensor:
    out = score(x, t)
    if not isinstance(out, torch.Tensor) or out.shape != x.shape:
        raise ValueError(
            f"{name}: got {_got(out)} from {name}(x, t); expected a tensor of shape {tuple(x.shape)}, that of x"
        )
    return out


def _descending(times) -> list[float]:
    v = _finite(times, "times", "(n + 1,)", 1).double()
    if len(v) < 2 or not bool((v.diff() < 0).all()) or v[-1] < 0:
        raise ValueError(
            f"times: got {len(v)} values from {float(v[0])} to {float(v[-1])}; expected at least 2, strictly "
            "descending, none below 0"
        )
    return v.tolist()


def _checked(x: torch.Tensor, name: str = "score") -> torch.Tensor:
    if not bool(x.isfinite().all()):
        raise ValueError(f"{name}: x left the finite numbers; expected finite values and steps small enough")
    return x


def _steps(grid: list[float], what: str):
    """The steps of an integration; a bar appears once it has taken two seconds, unless PHYSGEN_QUIET is set."""
    quiet = bool(os.environ.get("PHYSGEN_QUIET"))
    return tqdm(list(pairwise(grid)), delay=2, disable=quiet, desc=what)


def _mean(values: torch.Tensor, weights: torch.Tensor | None) -> torch.Tensor:
    """Over draws, or with the weights of a quadrature."""
    if weights is None:
        return values.mean()
    if weights.shape != values.shape:
        raise ValueError(
            f"weights: got {_got(weights)}; expected shape {tuple(values.shape)}, one for each point"
        )
    return weights.to(values) @ values


# ------------------------------------------------------------------------------------------------- laws with exact scores


class Mixture(NamedTuple):
    """Data Σ_k w_k N(m_k, v_k I), with density and score at any noise; make it with `mixture`."""

    means: torch.Tensor  # (K, d)
    variances: torch.Tensor  # (K,)
    weights: torch.Tensor  # (K,)

    def _level(self, x: torch.Tensor, t) -> tuple[torch.Tensor, torch.Tensor]:
        """s, (1, 1) or (batch, 1), and Γ_k = v_k s² + Δ, (1, K) or (batch, K)."""
        still = isinstance(t, (int, float)) and t == 0
        s, delta = (x.new_ones(1, 1), x.new_zeros(1, 1)) if still else _moments(t, x)
        return s, self.variances.to(x) * s**2 + delta

    def _inputs(self, x) -> torch.Tensor:
        d = self.means.shape[1]
        if _points(x).shape[1] != d:
            raise ValueError(f"x: got shape {tuple(x.shape)}; expected (batch, {d})")
        return x

    def _logits(self, x, s, gamma) -> torch.Tensor:
        squares = (x[:, None] - s[..., None] * self.means.to(x)).square().sum(2)
        return self.weights.log().to(x) - (squares / gamma + x.shape[1] * (2 * math.pi * gamma).log()) / 2

    def log_density(self, x: torch.Tensor, t: float | torch.Tensor = 0.0) -> torch.Tensor:
        """log p_t(x), (batch,), in the dtype of x; t ≥ 0, one or one for each point. Differentiable in x and t."""
        x = self._inputs(x)
        return self._logits(x, *self._level(x, t)).logsumexp(1)

    def score(self, x: torch.Tensor, t: float | torch.Tensor = 0.0) -> torch.Tensor:
        """∇ log p_t(x), (batch, d), in the dtype of x; t ≥ 0, one or one for each point. Differentiable in x and t."""
        x = self._inputs(x)
        s, gamma = self._level(x, t)
        plain = not (torch.is_grad_enabled() and x.requires_grad) and len(gamma) == 1
        if plain and bool((self.variances == self.variances[0]).all()):
            return mixture_score.score(x, self.means.to(x), float(s), float(gamma[0, 0]), self.weights.to(x))
        pull = self._logits(x, s, gamma).softmax(1) / gamma
        return s * (pull @ self.means.to(x)) - pull.sum(1, keepdim=True) * x

    def sample(
        self, n: int, generator: torch.Generator | None = None, dtype: torch.dtype = torch.float64
    ) -> torch.Tensor:
        """n data, (n, d)."""
        stream = _stream(generator, self.means.device)
        k = torch.multinomial(self.weights, _count(n, "n", 1), True, generator=stream)
        z = _normal(self.means[k], stream)
        return (self.means[k] + self.variances[k].sqrt()[:, None] * z).to(dtype)


def mixture(
    means: torch.Tensor, variances: torch.Tensor | float, weights: torch.Tensor | None = None
) -> Mixture:
    """Data Σ_k w_k N(m_k, v_k I), float64, whose noised laws Σ_k w_k N(e^{−t} m_k, (v_k e^{−2t} + Δ_t) I) are exact.

    Parameters
    ----------
    means : torch.Tensor, shape (K, d)
    variances : float, or torch.Tensor of shape (K,)
        v_k > 0.
    weights : torch.Tensor, shape (K,), optional
        w_k > 0, sum 1; None makes them equal.

    Raises
    ------
    ValueError
        If a shape does not fit, a variance or weight is not > 0, or the weights do not sum to 1.
    """
    m = _finite(means, "means", "(K, d)", 2).double()
    v = torch.as_tensor(variances, dtype=torch.float64)
    v = v.expand(len(m)) if v.ndim == 0 else v
    w = (
        m.new_full((len(m),), 1 / len(m))
        if weights is None
        else _finite(weights, "weights", "(K,)", 1).double()
    )
    if v.shape != (len(m),) or not bool((v.isfinite() & (v > 0)).all()):
        raise ValueError(f"variances: got {variances!r}; expected {len(m)} finite numbers > 0, or one")
    if w.shape != (len(m),) or not bool((w > 0).all()) or abs(float(w.sum()) - 1) > 1e-6:
        raise ValueError(f"weights: got {weights!r}; expected {len(m)} numbers > 0 with sum 1")
    return Mixture(m, v.clone(), w / w.sum())


def two_gaussians() -> Mixture:
    """The lopsided law of one dimension on which this chapter tests all it says: 0.3 N(−2, 0.3²) + 0.7 N(1.5, 0.5²).

    Mean 0.45, variance 2.7745, P(x < 0) = 0.300.
    """
    return mixture(
        torch.tensor([[-2.0], [1.5]]),
        torch.tensor([0.09, 0.25], dtype=torch.float64),
        torch.tensor([0.3, 0.7], dtype=torch.float64),
    )


def ring(n: int = 8, radius: float = 2.0, variance: float = 0.04) -> Mixture:
    """n Gaussians of one variance on a circle in the plane, the first at (radius, 0)."""
    angle = 2 * math.pi * torch.arange(_count(n, "n", 1), dtype=torch.float64) / n
    radius = _number(radius, "radius", 0)
    return mixture(
        radius * torch.stack([angle.cos(), angle.sin()], 1), _number(variance, "variance", 0, strict=True)
    )


def moons(n: int = 24, variance: float = 0.02) -> Mixture:
    """Two interleaved half circles in the plane, of n Gaussians each, centred and of about unit variance in both directions."""
    angle = torch.linspace(0, math.pi, _count(n, "n", 2), dtype=torch.float64)
    upper = torch.stack([angle.cos() - 0.5, angle.sin() - 0.25], 1)
    return mixture(
        torch.cat([upper, -upper]) * torch.tensor([1.15, 1.9], dtype=torch.float64),
        _number(variance, "variance", 0, strict=True),
    )


# ------------------------------------------------------------------------------------------------- the reverse family


def reverse_sample(
    x_start: torch.Tensor,
    score: Score,
    times: torch.Tensor,
    eta: float = 1.0,
    generator: torch.Generator | None = None,
    path: bool = False,
) -> torch.Tensor:
    """From noise to data by Euler–Maruyama steps of the reverse family, dx = [x + (1 + η) S] dτ + √(2η) dW with dτ = −dt.

    Parameters
    ----------
    x_start : torch.Tensor, shape (batch, d)
        At the time ``times[0]``, for instance normal numbers; its dtype is that of the simulation.
    score : callable
        S(x, t), t a float: `Mixture.score`, a trained network, anything. It is not called at ``times[-1]``.
    times : torch.Tensor, shape (n + 1,)
        Descending to ≥ 0, both ends included.
    eta : float, ≥ 0
        0 is the probability-flow ODE, 1 the time-reversed SDE; in all cases the density at time t is p_t, if it was at the start.
    generator : torch.Generator, optional
        None draws fresh entropy.
    path : bool
        Return all n + 1 positions, (n + 1, batch, d).

    Returns
    -------
    torch.Tensor
        (batch, d), at the time ``times[-1]``. Weak order one in the step. A progress bar appears after two seconds, unless the
        environment variable PHYSGEN_QUIET is set.

    Raises
    ------
    ValueError
        If a shape does not fit, the times do not descend, η < 0, or x leaves the finite numbers.

    Notes
    -----
    Anderson (1982); Song et al. (2021), section 4; claims DIF-10, DIF-11, REV-2. `physgen.kernels.reverse` does the same in one
    kernel for mixtures of Gaussians and for spins.
    """
    x, grid, eta = _points(x_start, "x_start"), _descending(times), _number(eta, "eta", 0)
    stream = _stream(generator, x.device)
    visited = [x]
    with torch.no_grad():
        for t, end in _steps(grid, "reverse"):
            h = t - end
            x = x + h * (x + (1 + eta) * _at(score, x, t))
            if eta:
                x = x + math.sqrt(2 * eta * h) * _normal(x, stream)
            if path:
                visited.append(x)
    _checked(x)
    return torch.stack(visited) if path else x


def family_residual(
    x: torch.Tensor,
    log_density: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    t: float,
    eta: float = 1.0,
    sign: float = 1.0,
) -> torch.Tensor:
    """∂_τ q + ∇·(q x + sign (1 + η) q ∇ log q) − η Δq at the points x, for q = p at the time t: zero with sign = +1, every η.

    Parameters
    ----------
    x : torch.Tensor, shape (batch, d)
    log_density : callable
        log p(x, t), twice differentiable in x and once in t: `Mixture.log_density`.
    t : float, > 0
    eta : float, ≥ 0
    sign : float
        −1 is (6.3.10) as the notes print it; the residual then is −2 (1 + η) Δq.

    Returns
    -------
    torch.Tensor
        (batch,), float64.

    Raises
    ------
    ValueError
        If a shape does not fit, t ≤ 0 or η < 0.

    Notes
    -----
    Claim DIF-10, with (6.3.9), Δq = ∇·(q ∇ log q), as its reason.
    """
    t, eta = _instant(t), _number(eta, "eta", 0)

    def drift(y, _):
        return y + sign * (1 + eta) * _gradient(log_density(y, torch.tensor(t, dtype=torch.float64)), y)

    def density(y, tau):
        return log_density(y, 2 * t - tau).exp()  # the backward clock, read at τ = t

    terms: FokkerPlanck = fokker_planck_terms(x, density, t, drift, math.sqrt(2 * eta))
    return terms.residual


def burgers_residuals(
    x: torch.Tensor, log_density: Callable[[torch.Tensor, torch.Tensor], torch.Tensor], t: float
) -> Burgers:
    """Residuals of ∂_t h = Δh + |∇h|² + x·∇h + d for h = log p_t, and of ∂_t S = ΔS + 2(S·∇)S + S + (x·∇)S for S = ∇h.

    The first is the KPZ equation without noise, in the frame of the process; the second is viscous Burgers for −2S.

    Parameters
    ----------
    x : torch.Tensor, shape (batch, d)
    log_density : callable
        log p(x, t), three times differentiable in x and once in t.
    t : float, > 0

    Returns
    -------
    Burgers
        ``kpz`` (batch,) and ``burgers`` (batch, d), float64: zero up to rounding.

    Raises
    ------
    ValueError
        If `x` is no (batch, d) tensor of finite numbers or t ≤ 0.

    Notes
    -----
    Kardar, Parisi, Zhang (1986); Hopf (1950), Cole (1951). Claim SCO-6.
    """
    with torch.enable_grad():
        x = _points(x).detach().double().requires_grad_()
        clock = torch.full((len(x),), _instant(t), dtype=torch.float64, requires_grad=True)
        h = log_density(x, clock)
        s = _gradient(h, x)
        rows = [_gradient(s[:, i], x) for i in range(x.shape[1])]  # rows[i]_j = ∂_j S_i
        laplace = sum(rows[i][:, i] for i in range(x.shape[1]))
        kpz = _gradient(h, clock) - laplace - (s**2).sum(1) - (x * s).sum(1) - x.shape[1]
        burgers = []
        for i, row in enumerate(rows):
            spread = sum(_gradient(row[:, j], x)[:, j] for j in range(x.shape[1]))
            transport = ((2 * s + x) * row).sum(1)
            burgers.append(_gradient(s[:, i], clock) - spread - transport - s[:, i])
    return Burgers(kpz.detach(), torch.stack(burgers, 1).detach())


# ------------------------------------------------------------------------------------------------- Tweedie


def tweedie(x: torch.Tensor, score: Score, t: float | torch.Tensor) -> torch.Tensor:
    """E[a | x_t = x] = e^t (x + Δ_t S(x, t)): the best denoiser in mean square.

    Parameters
    ----------
    x : torch.Tensor, shape (batch, d)
    score : callable
        S(x, t) of the law of x_t.
    t : float, or torch.Tensor of shape (batch,), > 0

    Returns
    -------
    torch.Tensor
        (batch, d), the dtype of `x`. For large t it is a small difference times e^t: an error of S is multiplied by e^t Δ_t.

    Raises
    ------
    ValueError
        If a shape does not fit, a number is not finite or t ≤ 0.

    Notes
    -----
    Robbins (1956), Efron (2011); the same as S = −x/Δ + e^{−t} E[a|x]/Δ, (7.3.14). Claims DIF-14, SCO-1.
    """
    s, delta = _moments(t, _points(x))
    return (x + delta * _at(score, x, t)) / s


def ve_score(score: Score) -> Callable[[torch.Tensor, float | torch.Tensor], torch.Tensor]:
    """The score of y = a + σz as a function of (y, σ): e^{−t} S(e^{−t} y, t) at the time σ² = e^{2t} − 1.

    Notes
    -----
    Claims DIF-12 and DIF-14: e^t x_t = a + √(e^{2t} − 1) z.
    """

    def exploding(y: torch.Tensor, sigma: float | torch.Tensor) -> torch.Tensor:
        t = torch.log1p(_time(sigma, _points(y, "y")) ** 2) / 2
        s, _ = _moments(t, y)
        return s * _at(score, s * y, t if t.ndim else float(t))

    return exploding


def tweedie_ve(y: torch.Tensor, score: Score, sigma: float | torch.Tensor) -> torch.Tensor:
    """E[a | a + σz = y] = y + σ² S_σ(y), where `score` is a callable S_σ(y) of (y, σ), such as `ve_score` makes.

    Raises
    ------
    ValueError
        If a shape does not fit, a number is not finite or σ ≤ 0.

    Notes
    -----
    Notes (6.3.16), Theorem 3: the minimiser over all estimators, if E|a|² is finite. Claims DIF-13, DIF-15.
    """
    noise = _time(sigma, _points(y, "y")).to(y).reshape(-1, 1)
    return y + noise**2 * _at(score, y, sigma)


def _jacobian(x: torch.Tensor, score: Score, t) -> tuple[torch.Tensor, torch.Tensor]:
    """x, and ∂_j S_i as (batch, d, d)."""
    with torch.enable_grad():
        x = _points(x).detach().requires_grad_()
        s = _at(score, x, t)
        if not s.requires_grad:
            raise ValueError("score: got values without a derivative in x; expected a differentiable score")
        rows = [torch.autograd.grad(s[:, i].sum(), x, retain_graph=True)[0] for i in range(x.shape[1])]
    return x.detach(), torch.stack(rows, 1)


def posterior_covariance(x: torch.Tensor, score: Score, t: float | torch.Tensor) -> torch.Tensor:
    """Cov(a | x_t = x) = e^{2t} Δ_t (I + Δ_t ∇S): Tweedie's formula of second order, by automatic differentiation.

    Parameters
    ----------
    x, score, t
        As in `tweedie`; S must be differentiable in x.

    Returns
    -------
    torch.Tensor
        (batch, d, d), symmetric and positive semidefinite for an exact score: ∇E[a|x] = (e^{−t}/Δ_t) Cov(a|x).

    Raises
    ------
    ValueError
        If a shape does not fit, t ≤ 0, or S has no derivative.

    Notes
    -----
    Claim DIF-16; the trace, averaged, is the error of the best denoiser, `mmse`.
    """
    x, jacobian = _jacobian(x, score, t)
    s, delta = (m[..., None] for m in _moments(t, x))
    return delta / s**2 * (torch.eye(x.shape[1], dtype=x.dtype, device=x.device) + delta * jacobian)


def mmse(x: torch.Tensor, score: Score, t: float, weights: torch.Tensor | None = None) -> torch.Tensor:
    """E|a − E[a|x_t]|² = e^{2t} Δ_t (d − Δ_t E|S|²): the error of the best denoiser, from the length of the score.

    Parameters
    ----------
    x : torch.Tensor, shape (batch, d)
        Draws of x_t; or the nodes of a quadrature, with
    weights : torch.Tensor, shape (batch,), optional
        p_t times the weights of its rule.
    score, t
        As in `tweedie`, one time.

    Returns
    -------
    torch.Tensor
        A scalar. Times e^{−2t}/Δ² it is the constant by which denoising score matching exceeds explicit score matching.

    Raises
    ------
    ValueError
        As `tweedie`; or if the weights have another shape.

    Notes
    -----
    Claims DIF-16, SCO-4.
    """
    s, delta = ou_moments(_instant(t))
    square = _mean((_at(score, _points(x), t) ** 2).sum(1), weights)
    return delta / s**2 * (x.shape[1] - delta * square)


def mutual_information(
    x: torch.Tensor,
    log_density: Callable[[torch.Tensor, float], torch.Tensor],
    t: float,
    weights: torch.Tensor | None = None,
) -> torch.Tensor:
    """I(a; x_t) = −E log p_t − (d/2) ln(2πe Δ_t), nats; its slope is dI/dt = −(e^{−2t}/Δ_t²) MMSE.

    Parameters as in `mmse`, with log p_t(x) in place of the score.

    Notes
    -----
    Guo, Shamai, Verdú (2005); claim DIF-16.
    """
    _, delta = ou_moments(_instant(t))
    entropy = -_mean(log_density(_points(x), t), weights)
    return entropy - x.shape[1] / 2 * (2 * math.pi * math.e * delta).log()


def wiener(
    y: torch.Tensor, covariance: torch.Tensor, sigma: float, mean: torch.Tensor | None = None
) -> torch.Tensor:
    """The best linear denoiser of y = a + σz, μ + C (C + σ² I)^{−1} (y − μ): Tweedie with the score of the Gaussian N(μ, C).

    Parameters
    ----------
    y : torch.Tensor, shape (batch, d)
    covariance : torch.Tensor, shape (d, d)
        C of the data, symmetric positive semidefinite.
    sigma : float, > 0
    mean : torch.Tensor, shape (d,), optional
        μ of the data; None is zero.

    Returns
    -------
    torch.Tensor
        (batch, d), the dtype of `y`.

    Raises
    ------
    ValueError
        If a shape does not fit, C is not symmetric and positive semidefinite, or σ ≤ 0.

    Notes
    -----
    Wiener (1949); notes (6.3.22–24), where σ² must stand for σ. Claim DIF-18.
    """
    d, sigma = _points(y, "y").shape[1], _number(sigma, "sigma", 0, strict=True)
    c = _finite(covariance, "covariance", f"({d}, {d})", 2).to(y)
    if c.shape != (d, d) or not torch.allclose(c, c.mT, rtol=1e-5):
        raise ValueError(f"covariance: got shape {tuple(c.shape)}; expected a symmetric matrix ({d}, {d})")
    eigenvalues, vectors = torch.linalg.eigh(c)
    if eigenvalues[0] < -1e-6 * eigenvalues[-1].abs():
        raise ValueError(f"covariance: got the eigenvalue {float(eigenvalues[0])}; expected none below 0")
    m = y.new_zeros(d) if mean is None else _finite(mean, "mean", f"({d},)", 1).to(y)
    gains = eigenvalues.clamp(min=0) / (eigenvalues.clamp(min=0) + sigma**2)
    return m + ((y - m) @ vectors * gains) @ vectors.mT


# ------------------------------------------------------------------------------------------------- learning the score


def matching_error(
    model: Score, score: Score, x: torch.Tensor, t: float, weights: torch.Tensor | None = None
) -> torch.Tensor:
    """E|φ(x, t) − S(x, t)|² over p_t: explicit score matching, and the rate at which a wrong score costs likelihood.

    Parameters
    ----------
    model, score : callable
        φ and S.
    x : torch.Tensor, shape (batch, d)
        Draws of x_t, or nodes with `weights` (batch,), p_t times those of a quadrature.
    t : float, > 0

    Returns
    -------
    torch.Tensor
        A scalar.

    Raises
    ------
    ValueError
        If a shape does not fit.

    Notes
    -----
    Hyvärinen (2005); notes (7.3.15), whose weight λ(t) = 1 is that of the bound of claim DIF-17 (SCO-2). With φ = −x its integral
    over all times is KL(p_0 ‖ N(0, I)).
    """
    _points(x)
    return _mean((_at(model, x, t, "model") - _at(score, x, t)).square().sum(1), weights)


def denoising_losses(
    model: Score, a: torch.Tensor, z: torch.Tensor, t: float, weights: torch.Tensor | None = None
) -> Losses:
    """Denoising score matching at one time: E|φ(x, t) + z/√Δ|² for x = a e^{−t} + √Δ z, in its several weights.

    It exceeds the explicit loss of `matching_error` by a number that the model cannot change, d/Δ − E|S|² = (e^{−2t}/Δ²) MMSE, and
    is never zero. A network that predicts z is ε_θ = −√Δ φ.

    Parameters
    ----------
    model : callable
        φ(x, t).
    a, z : torch.Tensor, shape (batch, d)
        Data and standard normal noise: draws, or nodes with `weights` (batch,).
    t : float, > 0

    Returns
    -------
    Losses
        ``matching`` (λ = 1), ``simple`` (λ = Δ), ``cross`` and ``unscaled``.

    Raises
    ------
    ValueError
        If a shape does not fit, a number is not finite or t ≤ 0.

    Notes
    -----
    Vincent (2011); Ho, Jain, Abbeel (2020), equation 14; claims SCO-3, SCO-4, SCO-5.
    """
    if _points(a, "a").shape != _points(z, "z").shape:
        raise ValueError(f"z: got shape {tuple(z.shape)}; expected {tuple(a.shape)}, that of a")
    s, delta = _moments(_instant(t), a)
    root = delta.sqrt()
    phi = _at(model, s * a + root * z, t, "model")
    return Losses(
        _mean((phi + z / root).square().sum(1), weights),
        _mean((root * phi + z).square().sum(1), weights),
        _mean(2 * (phi * z / root).sum(1), weights),
        _mean((phi + z).square().sum(1), weights),
    )


class ScoreNetwork(nn.Module):
    """A score S_θ(x, t) = −x − f_θ(x, t)/√Δ_t: that of the normal law, and a perceptron f for the rest; call it (x, t).

    The time enters through u = ln σ = ½ ln(e^{2t} − 1) and sines of it. Weights are float32; the output has the dtype of x.
    """

    def __init__(self, d: int, width: int = 64, generator: torch.Generator | None = None):
        super().__init__()
        self.register_buffer("waves", 2.0 ** torch.arange(-2, 2))
        sizes = [d + 1 + 2 * len(self.waves), width, width, width, d]
        stream = _stream(generator, torch.device("cpu"))
        layers: list[nn.Module] = []
        for fan_in, fan_out in pairwise(sizes):
            # skip_init leaves the global random stream alone.
            layer = nn.utils.skip_init(nn.Linear, fan_in, fan_out)
            nn.init.normal_(layer.weight, std=math.sqrt(2 / fan_in), generator=stream)
            nn.init.zeros_(layer.bias)
            layers += [layer, nn.SiLU()]
        nn.init.zeros_(layers[-2].weight)  # the untrained score is −x
        self.layers = nn.Sequential(*layers[:-1])

    def forward(self, x: torch.Tensor, t: float | torch.Tensor) -> torch.Tensor:
        """S_θ(x, t), (batch, d)."""
        dtype, x = x.dtype, _points(x).float()
        t = _time(t, x).to(x).expand(len(x))[:, None]
        root = (-torch.expm1(-2 * t)).sqrt()
        u = root.log() + t
        phase = u * self.waves
        f = self.layers(torch.cat([x, u / 4, phase.sin(), phase.cos()], 1))
        return (-x - f / root).to(dtype)


def train_denoiser(
    data: torch.Tensor,
    steps: int = 2000,
    batch: int = 512,
    width: int = 64,
    rate: float = 5e-3,
    weighting: str = "likelihood",
    t_min: float = 0.01,
    t_max: float = 5.0,
    generator: torch.Generator | None = None,
) -> ScoreNetwork:
    """Teach a small network to predict the noise, and return its score S_θ(x, t): the loss is always E|ε_θ − z|², ε_θ = −√Δ S_θ.

    What differs is how often each time is seen. ``"likelihood"`` draws t with density ∝ 1/Δ_t, that is ln σ almost uniformly: then the
    loss is ∫ E|S_θ − S|² dt + const, the weight λ = 1 that bounds the likelihood. ``"simple"`` draws t uniformly, λ = Δ_t: the loss of DDPM.

    Parameters
    ----------
    data : torch.Tensor, shape (n, d)
        A few thousand points of a density in few dimensions, of order one.
    steps, batch, width : int
        Steps of Adam, draws in each, and units in each of three hidden layers. 2000 steps in the plane take three seconds of one core.
    rate : float, > 0
        The largest learning rate; it rises over the first tenth and falls as a cosine.
    weighting : {"likelihood", "simple"}
    t_min, t_max : float
        The times it learns; outside it extrapolates.
    generator : torch.Generator, optional
        On the CPU. Initial weights, data, times and noise all come from it: the same seed and number of threads give the same network
        (the book uses seed 0). None draws fresh entropy.

    Returns
    -------
    ScoreNetwork
        A callable S_θ(x, t), in evaluation mode, without gradients in its weights and differentiable in x.

    Raises
    ------
    ValueError
        If `data` is no (n, d) tensor of finite numbers, a size is not positive, the times are not 0 < t_min < t_max, or the
        weighting is unknown.

    Notes
    -----
    Vincent (2011); Ho, Jain, Abbeel (2020); Song et al. (2021b) for the likelihood weighting. Claims SCO-2, SCO-5.
    """
    data = _points(data, "data").float()
    steps, batch, width = (
        _count(value, name, 1) for value, name in ((steps, "steps"), (batch, "batch"), (width, "width"))
    )
    if weighting not in ("likelihood", "simple"):
        raise ValueError(f"weighting: got {weighting!r}; expected 'likelihood' or 'simple'")
    low, high = _number(t_min, "t_min", 0, strict=True), _number(t_max, "t_max", 0, strict=True)
    if low >= high:
        raise ValueError(f"t_min: got {low}; expected less than t_max = {high}")
    stream = _stream(generator, torch.device("cpu"))
    net = ScoreNetwork(data.shape[1], width, stream)
    adam = torch.optim.Adam(net.parameters(), lr=rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(adam, rate, steps, pct_start=0.1)
    ends = [_log_sigma(low), _log_sigma(high)]
    quiet = bool(os.environ.get("PHYSGEN_QUIET"))
    for _ in tqdm(range(steps), delay=2, disable=quiet, desc="training"):
        a = data[torch.randint(len(data), (batch,), generator=stream)]
        draw = torch.rand(batch, generator=stream)
        if weighting == "simple":
            t = low + (high - low) * draw
        else:  # dt/Δ = d ln σ
            t = nn.functional.softplus(2 * (ends[0] + (ends[1] - ends[0]) * draw)) / 2
        s, delta = ou_moments(t[:, None])
        z = torch.randn(a.shape, generator=stream)
        loss = (delta.sqrt() * net(s * a + delta.sqrt() * z, t) + z).square().sum(1).mean()
        adam.zero_grad()
        loss.backward()
        adam.step()
        schedule.step()
    return net.eval().requires_grad_(False)


# ------------------------------------------------------------------------------------------------- DDPM


def ddpm_schedule(betas: torch.Tensor) -> DDPM:
    """Of the chain x_k = √α_k x_{k−1} + √β_k z, α_k = 1 − β_k: ᾱ_k = α_1 ⋯ α_k, β̃_k = β_k (1 − ᾱ_{k−1})/(1 − ᾱ_k), times −½ ln ᾱ_k.

    Parameters
    ----------
    betas : torch.Tensor, shape (T,)
        Each in (0, 1). A grid of diffusion times 0 = t_0 < t_1 < … is the schedule β_k = 1 − e^{−2(t_k − t_{k−1})}.

    Raises
    ------
    ValueError
        If a β is not in (0, 1).

    Notes
    -----
    Ho, Jain, Abbeel (2020); x_k given x_0 is N(√ᾱ_k x_0, (1 − ᾱ_k) I), and not 1 − √ᾱ_k. Claims KOF-6, KOF-7.
    """
    beta = _finite(betas, "betas", "(T,)", 1).double()
    if not bool(((beta > 0) & (beta < 1)).all()):
        raise ValueError(
            f"betas: got values from {float(beta.min())} to {float(beta.max())}; expected 0 < β < 1"
        )
    times = -torch.log1p(-beta).cumsum(0) / 2
    noise = -torch.expm1(-2 * times)  # 1 − ᾱ without cancellation
    before = torch.cat([noise.new_zeros(1), noise[:-1]])
    return DDPM(beta, 1 - beta, (-2 * times).exp(), beta * before / noise, times)


def ddpm_start_mismatch(alpha_bar: float, x0: torch.Tensor) -> torch.Tensor:
    """KL(p(x_T | x_0) ‖ N(0, I)) = ½[ᾱ|x_0|² − dᾱ − d ln(1 − ᾱ)], (batch,): ½ ᾱ|x_0|² for small ᾱ.

    Raises
    ------
    ValueError
        If x0 is no (batch, d) tensor of finite numbers or ᾱ is not in (0, 1).

    Notes
    -----
    Claim KOF-7.
    """
    if not 0 < _number(alpha_bar, "alpha_bar", 0, strict=True) < 1:
        raise ValueError(f"alpha_bar: got {alpha_bar}; expected 0 < alpha_bar < 1")
    d = _points(x0, "x0").shape[1]
    return (alpha_bar * (x0**2).sum(1) - d * (alpha_bar + math.log1p(-alpha_bar))) / 2


def ddpm_mean(x: torch.Tensor, score: Score, schedule: DDPM, k: int) -> torch.Tensor:
    """E[x_{k−1} | x_k = x] = (x + β_k S(x, t_k))/√α_k, exact for every size of the step; k = 1 … T.

    In terms of the noise it is (x − β_k ε/√(1 − ᾱ_k))/√α_k with ε = −√(1 − ᾱ_k) S.

    Raises
    ------
    ValueError
        If a shape does not fit or k is not in 1 … T.

    Notes
    -----
    Claim REV-4: it is Tweedie's formula for one step. Only that the reverse kernel be Gaussian needs small steps.
    """
    if not 1 <= _count(k, "k", 1) <= len(schedule.beta):
        raise ValueError(f"k: got {k}; expected 1 <= k <= {len(schedule.beta)}")
    beta, alpha = float(schedule.beta[k - 1]), float(schedule.alpha[k - 1])
    return (_points(x) + beta * _at(score, x, float(schedule.times[k - 1]))) / math.sqrt(alpha)


def ddpm_sample(
    x_start: torch.Tensor,
    score: Score,
    schedule: DDPM,
    variance: str = "beta",
    generator: torch.Generator | None = None,
) -> torch.Tensor:
    """DDPM's ancestral sampler: x_{k−1} = E[x_{k−1}|x_k] + √v_k z, k = T … 1, with v_k = β_k or β̃_k.

    Parameters
    ----------
    x_start : torch.Tensor, shape (batch, d)
        x_T, for instance normal numbers.
    score : callable
        S(x, t), called at the times of the schedule.
    schedule : DDPM
    variance : {"beta", "posterior"}
        Right for data of unit variance, and for a single datum; what the data need lies between if their variance does.
    generator : torch.Generator, optional

    Returns
    -------
    torch.Tensor
        (batch, d), x_0.

    Raises
    ------
    ValueError
        If a shape does not fit, or the variance has another name.

    Notes
    -----
    Ho, Jain, Abbeel (2020), algorithm 2; claims REV-4, KOF-8.
    """
    if variance not in VARIANCES[:2]:
        raise ValueError(f"variance: got {variance!r}; expected one of {VARIANCES[:2]}")
    x = _points(x_start, "x_start")
    values = (schedule.beta if variance == "beta" else schedule.posterior).tolist()
    stream = _stream(generator, x.device)
    with torch.no_grad():
        for k in range(len(values), 0, -1):
            x = ddpm_mean(x, score, schedule, k) + math.sqrt(values[k - 1]) * _normal(x, stream)
    return _checked(x)


def _gaussian_kl(p: float, q: float) -> float:
    """KL(N(0, p) ‖ N(0, q)); infinite for q = 0."""
    if q == 0:
        return math.inf
    excess = p / q - 1
    return (excess - math.log1p(excess)) / 2


def gaussian_chain(schedule: DDPM, variance: float, choice: str = "beta") -> Chain:
    """DDPM on data N(0, v), exactly: the variance of what it draws, and its KL over the whole path and at x_0, per dimension.

    With v_k = ᾱ_k v + 1 − ᾱ_k the true reverse kernel is N(√α_k (v_{k−1}/v_k) x, β_k v_{k−1}/v_k). The sampler has its mean and the
    variance of `choice`, and starts from N(0, 1).

    Parameters
    ----------
    schedule : DDPM
    variance : float, > 0
        v of the data.
    choice : {"beta", "posterior", "exact"}
        β_k ≥ β_k v_{k−1}/v_k ≥ β̃_k if 0 ≤ v ≤ 1.

    Returns
    -------
    Chain
        ``joint_kl`` = KL(p(x_T) ‖ N(0, 1)) + Σ_k KL of the kernels ≥ ``marginal_kl``; infinite with β̃, whose last kernel is a point.

    Raises
    ------
    ValueError
        If v ≤ 0 or the choice is unknown.

    Notes
    -----
    Claims KOF-8, KOF-9: at fixed total time the joint KL falls as 1/T, the marginal one as 1/T².
    """
    if choice not in VARIANCES:
        raise ValueError(f"choice: got {choice!r}; expected one of {VARIANCES}")
    v = _number(variance, "variance", 0, strict=True)
    levels = torch.cat([schedule.times.new_tensor([v]), 1 + schedule.alpha_bar * (v - 1)])
    exact = schedule.beta * levels[:-1] / levels[1:]
    used = {"beta": schedule.beta, "posterior": schedule.posterior, "exact": exact}[choice].tolist()
    gains = (schedule.alpha.sqrt() * levels[:-1] / levels[1:]).tolist()
    joint, drawn = _gaussian_kl(float(levels[-1]), 1.0), 1.0
    for k in range(len(used) - 1, -1, -1):
        joint += _gaussian_kl(float(exact[k]), used[k])
        drawn = gains[k] ** 2 * drawn + used[k]
    return Chain(drawn, joint, _gaussian_kl(v, drawn))


def moment_matched_chain(law: Mixture, times: torch.Tensor, grid: torch.Tensor) -> MatchedChain:
    """Reverse kernels N(E[x_{k−1}|x_k], Var(x_{k−1}|x_k)) for a law of one dimension that is not Gaussian, on a grid.

    The kernels have the exact mean and variance at every x_k, and q starts from p(x_T): all that is wrong is that they are Gaussian.

    Parameters
    ----------
    law : Mixture
        In one dimension.
    times : torch.Tensor, shape (T + 1,)
        Descending to 0: t_T, …, t_1, 0, the diffusion times of the chain.
    grid : torch.Tensor, shape (n,)
        Ascending; its spacing must resolve √β_k, its ends lie where p_t and q have decayed.

    Returns
    -------
    MatchedChain
        ``kernel_kl`` (T,), whose sum is the KL of the joint laws, and ``marginal_kl`` ≤ that sum.

    Raises
    ------
    ValueError
        If the law is not of one dimension, the times do not descend to 0, or the grid is too coarse.

    Notes
    -----
    Claim KOF-10: the joint density of a DDPM is exact for every T; what is approximate is the Gaussian kernel. The entropy of
    x_{k−1} given x_k is h(x_{k−1}) + ½ ln 2πeβ_k − h(x_k), so the KL of the kernels needs only densities on the grid.
    """
    grid, steps = _ascending(grid, "grid", 3), _descending(times)[::-1]
    if law.means.shape[1] != 1 or steps[0] != 0:
        raise ValueError(
            f"law, times: got d = {law.means.shape[1]}, times to {steps[0]}; expected one dimension and 0"
        )
    x = grid[:, None]
    logs = [law.log_density(x, t) for t in steps]
    entropies = [-torch.trapezoid(p.exp() * p, grid) for p in logs]
    q, kernel_kl = logs[-1].exp(), []
    for k in range(len(steps) - 1, 0, -1):
        t = steps[k]
        beta = -math.expm1(-2 * (t - steps[k - 1]))
        score, slope = law.score(x, t), _jacobian(x, law.score, t)[1][:, :, 0]
        mean = (x + beta * score) / math.sqrt(1 - beta)
        variance = beta * (1 + beta * slope) / (1 - beta)  # Tweedie of second order, for one step
        if float(variance.min().sqrt()) < float(grid.diff().max()):
            raise ValueError(
                f"grid: got spacing {float(grid.diff().max()):.3g}; expected less than √β = {beta**0.5:.3g}"
            )
        conditional = entropies[k - 1] + math.log(2 * math.pi * math.e * beta) / 2 - entropies[k]
        gaussian = (2 * math.pi * math.e * variance[:, 0]).log() / 2
        kernel_kl.append(torch.trapezoid(logs[k].exp() * gaussian, grid) - conditional)
        kernel = (-((grid - mean) ** 2) / (2 * variance)).exp() / (2 * math.pi * variance).sqrt()
        q = torch.trapezoid(q[:, None] * kernel, grid, dim=0)
    kl = float(relative_entropy(logs[0].exp(), q, grid))
    return MatchedChain(torch.stack(kernel_kl[::-1]), kl, q)


# ------------------------------------------------------------------------------------------------- likelihood and error


def divergence(
    x: torch.Tensor, score: Score, t: float | torch.Tensor, probes: torch.Tensor | None = None
) -> torch.Tensor:
    """∇·S(x, t), (batch,), by automatic differentiation: d backward passes, or one for each of Hutchinson's probes.

    Parameters
    ----------
    x, score, t
        As in `tweedie`; S must be differentiable.
    probes : torch.Tensor, shape (m, batch, d), optional
        Vectors v of covariance I, for instance signs: the mean of vᵀ(∇S)v is unbiased.

    Raises
    ------
    ValueError
        If a shape does not fit or S has no derivative.

    Notes
    -----
    Hutchinson (1989).
    """
    if probes is None:
        return torch.diagonal(_jacobian(x, score, t)[1], dim1=1, dim2=2).sum(1)
    return _score_and_divergence(_points(x), score, t, probes)[1]


def _score_and_divergence(x, score, t, probes) -> tuple[torch.Tensor, torch.Tensor]:
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        s = _at(score, x, t)
        if not s.requires_grad:
            raise ValueError("score: got values without a derivative in x; expected a differentiable score")
        if probes is None:
            columns = torch.eye(x.shape[1], dtype=x.dtype, device=x.device)[:, None].expand(-1, len(x), -1)
        elif probes.shape[1:] != x.shape:
            raise ValueError(f"probes: got shape {tuple(probes.shape)}; expected (m, {len(x)}, {x.shape[1]})")
        else:
            columns = probes.to(x)
        traces = [(torch.autograd.grad(s, x, v, retain_graph=True)[0] * v).sum(1) for v in columns]
    total = torch.stack(traces)
    return s.detach(), total.sum(0) if probes is None else total.mean(0)


def _log_sigma(t: float) -> float:
    """u = ½ ln(e^{2t} − 1); dt = Δ du."""
    return t + math.log(-math.expm1(-2 * t)) / 2


def log_likelihood(
    x: torch.Tensor,
    score: Score,
    t_min: float = 1e-3,
    t_max: float = 10.0,
    steps: int = 128,
    probes: int | None = None,
    generator: torch.Generator | None = None,
) -> torch.Tensor:
    """log p(x) at the time t_min, by the probability-flow ODE up to t_max, where the law is taken to be N(0, I).

    Along dx/dt = −x − S(x, t) the density changes by d log p/dt = d + ∇·S, so that log p_{t_min}(x) = log N(x_{t_max}; 0, I)
    − ∫ (d + ∇·S) dt. Steps of Runge and Kutta's fourth order, equal in ln σ = ½ ln(e^{2t} − 1).

    Parameters
    ----------
    x : torch.Tensor, shape (batch, d)
        Use float64 for more than four digits.
    score : callable
        S(x, t), differentiable in x by torch.
    t_min, t_max : float, 0 < t_min < t_max
        Data have no noise, but p at t_min has: for data of bounded density the difference is of order t_min. Taking N(0, I) at t_max
        changes log p by about e^{−t_max} m·x_{t_max}, m the mean of the data. For a trained score stay within its times.
    steps : int
        The error falls as steps⁻⁴.
    probes : int, optional
        None computes the divergence exactly, with d backward passes; a number m estimates it with m random sign vectors, drawn once for
        each trajectory. The estimate of log p is unbiased.
    generator : torch.Generator, optional
        For the probes; None draws fresh entropy.

    Returns
    -------
    torch.Tensor
        (batch,), nats, the dtype of `x`.

    Raises
    ------
    ValueError
        If a shape does not fit, 0 < t_min < t_max does not hold, S has no derivative, or x leaves the finite numbers.

    Notes
    -----
    Chen et al. (2018), Song et al. (2021), appendix D.2; claims DIF-11 and INT-1.
    """
    x, steps = _points(x), _count(steps, "steps", 1)
    low, high = _number(t_min, "t_min", 0, strict=True), _number(t_max, "t_max", 0, strict=True)
    if low >= high:
        raise ValueError(f"t_min: got {low}; expected less than t_max = {high}")
    if probes is not None:
        stream = _stream(generator, x.device)
        shape = (_count(probes, "probes", 1), *x.shape)
        probes = 2.0 * torch.randint(2, shape, generator=stream, device=x.device).to(x.dtype) - 1

    def slope(u: float, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        t = (math.log1p(math.exp(-2 * u)) + 2 * u) / 2 if u > 0 else math.log1p(math.exp(2 * u)) / 2
        delta = -math.expm1(-2 * t)
        s, trace = _score_and_divergence(y, score, t, probes)
        return delta * (-y - s), -delta * (y.shape[1] + trace)

    grid = torch.linspace(_log_sigma(low), _log_sigma(high), steps + 1, dtype=torch.float64).tolist()
    y, total = x.detach(), x.new_zeros(len(x))
    for u, end in _steps(grid, "likelihood"):
        h = end - u
        k1, l1 = slope(u, y)
        k2, l2 = slope(u + h / 2, y + h / 2 * k1)
        k3, l3 = slope(u + h / 2, y + h / 2 * k2)
        k4, l4 = slope(end, y + h * k3)
        y = y + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
        total = total + h / 6 * (l1 + 2 * l2 + 2 * l3 + l4)
    _checked(y)
    return total - (y.square().sum(1) + y.shape[1] * math.log(2 * math.pi)) / 2


def gaussian_error_budget(variance: float, factor: float, t_max: float = 5.0) -> Budget:
    """Data N(0, v) generated by the SDE (η = 1) from N(0, 1) with the wrong score c·S, exactly: KL(p_0 ‖ generated), and its bound.

    Parameters
    ----------
    variance : float, > 0
        v of the data; per dimension.
    factor : float
        c, 1 for the exact score.
    t_max : float, > 0
        T, where the reverse process starts.

    Returns
    -------
    Budget
        ``kl`` ≤ ``start`` + ``path``, with path = ∫_0^T E|S − S_θ|² dt = (c − 1)² ∫ dt/Γ_t.

    Raises
    ------
    ValueError
        If v ≤ 0, T ≤ 0, or c is not finite.

    Notes
    -----
    Song et al. (2021b), theorem 1, by Girsanov's theorem; claim DIF-17.
    """
    v, c = _number(variance, "variance", 0, strict=True), _number(factor, "factor", -math.inf)
    end = _number(t_max, "t_max", 0, strict=True)

    def gamma(t):
        return 1 + (v - 1) * math.exp(-2 * t)

    def spread(tau, w):
        return 2 * (1 - 2 * c / gamma(end - tau)) * w + 2

    drawn = solve_ivp(spread, (0.0, end), [1.0], "DOP853", rtol=1e-12, atol=1e-14).y[0, -1]
    rate, _ = quad(lambda t: 1 / gamma(t), 0, end, epsabs=1e-13, epsrel=1e-12)
    return Budget(_gaussian_kl(v, float(drawn)), _gaussian_kl(gamma(end), 1.0), (c - 1) ** 2 * rate)


# ------------------------------------------------------------------------------------------------- one object, many names

PATHS: dict[str, Callable[[float], tuple[float, float, float, float]]] = {
    # α, β, dα/du, dβ/du at the path's own time u.
    "vp": lambda u: _vp(u),
    "ddpm": lambda u: (u**0.5, (1 - u) ** 0.5, 0.5 / u**0.5, -0.5 / (1 - u) ** 0.5),  # u = ᾱ
    "ve": lambda u: (1.0, u**0.5, 0.0, 0.5 / u**0.5),  # u = σ², the time of a Brownian motion
    "edm": lambda u: (1.0, u, 0.0, 1.0),  # u = σ
    "flow": lambda u: (u, 1 - u, 1.0, -1.0),
    "localization": lambda u: (u, u**0.5, 1.0, 0.5 / u**0.5),  # u = signal-to-noise ratio
}


def _vp(u: float) -> tuple[float, float, float, float]:
    s, root = math.exp(-u), math.sqrt(-math.expm1(-2 * u))
    return s, root, -s, s * s / root


def path(name: str, u: float) -> Path:
    """The dictionary: x_u = α a + β z in the conventions of the literature, and the diffusion time t that it corresponds to.

    =================  ============  ==============  ===========================================
    name               α             β               u, and its range
    =================  ============  ==============  ===========================================
    ``vp``             e^{−u}        √(1 − e^{−2u})  diffusion time t, u > 0: the book's
    ``ddpm``           √u            √(1 − u)        ᾱ, 0 < u < 1
    ``ve``             1             √u              variance of a Brownian motion, u > 0
    ``edm``            1             u               noise σ, u > 0
    ``flow``           u             1 − u           flow matching from noise to data, 0 < u < 1
    ``localization``   u             √u              signal-to-noise ratio, u > 0
    =================  ============  ==============  ===========================================

    Since x_u/√(α² + β²) has the law of x_t at t = ½ ln(1 + β²/α²), one score serves all.

    Raises
    ------
    ValueError
        If the name is unknown or u is not inside its range.

    Notes
    -----
    Song et al. (2021); Karras et al. (2022); Albergo, Boffi, Vanden-Eijnden (2023); Montanari (2023). Claims INT-1, INT-2, KOF-7, SCO-10.
    """
    if name not in PATHS:
        raise ValueError(f"name: got {name!r}; expected one of {tuple(PATHS)}")
    u, top = _number(u, "u", 0, strict=True), 1.0 if name in ("flow", "ddpm") else math.inf
    if u >= top:
        raise ValueError(f"u: got {u}; expected 0 < u < {top} for the path {name!r}")
    alpha, beta, d_alpha, d_beta = PATHS[name](u)
    time = u if name == "vp" else math.log1p((beta / alpha) ** 2) / 2
    return Path(alpha, beta, d_alpha, d_beta, time, math.hypot(alpha, beta))


def path_score(x: torch.Tensor, score: Score, at: Path) -> torch.Tensor:
    """∇ log of the density of α a + β z at x, from the score of the book's process: S(x/r, t)/r, r = √(α² + β²).

    With α = s and β = sσ it is −x/(s²σ²) + E[a|x]/(sσ²), (7.3.29).

    Raises
    ------
    ValueError
        If a shape does not fit.

    Notes
    -----
    Claims SCO-10, INT-1.
    """
    return _at(score, _points(x) / at.scale, at.time) / at.scale


def path_velocity(x: torch.Tensor, score: Score, at: Path) -> torch.Tensor:
    """v = E[dx_u/du | x_u = x] = α' E[a|x] + β' E[z|x], what flow matching learns: (α'/α) x + (α'β²/α − β'β) ∇log p_u.

    The ODE dx/du = v carries the law of the path. For flow matching, (u, 1 − u), it is x/u + ((1 − u)/u) ∇log p_u.

    Raises
    ------
    ValueError
        If a shape does not fit.

    Notes
    -----
    Lipman et al. (2023); Albergo, Boffi, Vanden-Eijnden (2023). Claim INT-1.
    """
    s = path_score(x, score, at)
    growth = at.d_alpha / at.alpha
    return growth * x + (growth * at.beta**2 - at.d_beta * at.beta) * s


def path_sample(
    x_start: torch.Tensor,
    score: Score,
    name: str,
    times: torch.Tensor,
    diffusion: Callable[[float], float] | float = 0.0,
    generator: torch.Generator | None = None,
) -> torch.Tensor:
    """From noise to data along a path, dx = (± v + ε ∇log p) du + √(2ε) dW, Euler–Maruyama, for any ε(u) ≥ 0.

    Parameters
    ----------
    x_start : torch.Tensor, shape (batch, d)
        From the law of the path at ``times[0]``, where it is nearly noise.
    score : callable
        S(x, t) of the book's process.
    name : str
        Of the path, see `path`.
    times : torch.Tensor, shape (n + 1,)
        The path's own u from noise to data: ascending for ``flow``, ``localization`` and ``ddpm``, else descending (the sign is then −).
    diffusion : float or callable
        ε ≥ 0, or ε(u).
    generator : torch.Generator, optional

    Returns
    -------
    torch.Tensor
        (batch, d), at ``times[-1]``.

    Raises
    ------
    ValueError
        If a shape does not fit, the times run the wrong way or out of range, or ε < 0.

    Notes
    -----
    Albergo, Boffi, Vanden-Eijnden (2023), stochastic interpolants; claim INT-1. For ``vp``, ε = η is `reverse_sample`.
    """
    x, u = _points(x_start, "x_start"), _finite(times, "times", "(n + 1,)", 1).double()
    forward = name in ("flow", "localization", "ddpm")
    if len(u) < 2 or not bool((u.diff() * (1 if forward else -1) > 0).all()):
        way = "ascending" if forward else "descending"
        raise ValueError(f"times: got {u.tolist()[:4]} …; expected at least 2, {way} for the path {name!r}")
    stream = _stream(generator, x.device)
    with torch.no_grad():
        for now, end in _steps(u.tolist(), name):
            at, h = path(name, now), end - now
            epsilon = _number(float(diffusion(now) if callable(diffusion) else diffusion), "diffusion", 0)
            move = h * path_velocity(x, score, at)
            if epsilon:
                move = move + abs(h) * epsilon * path_score(x, score, at)
                move = move + math.sqrt(2 * epsilon * abs(h)) * _normal(x, stream)
            x = x + move
    return _checked(x)


def localize(
    y_start: torch.Tensor, score: Score, times: torch.Tensor, generator: torch.Generator | None = None
) -> torch.Tensor:
    """Stochastic localization: dy = E[a|y_u] du + dW, of which y_u has the law of u a + B_u, and y_u/u → a.

    Parameters
    ----------
    y_start : torch.Tensor, shape (batch, d)
        y at ``times[0]``; √u z for a small first u.
    score : callable
        S(x, t) of the book's process: y_u has the law of √(u(1 + u)) x_t at e^{−2t} = u/(1 + u).
    times : torch.Tensor, shape (n + 1,)
        Ascending, > 0.
    generator : torch.Generator, optional

    Returns
    -------
    torch.Tensor
        (batch, d), y at ``times[-1]``; divide by it to have data with noise of variance 1/u.

    Raises
    ------
    ValueError
        If a shape does not fit, the times do not ascend or the first is not > 0.

    Notes
    -----
    Eldan (2013); El Alaoui, Montanari, Sellke (2022); Montanari (2023). Claim INT-2.
    """
    y, u = _points(y_start, "y_start"), _ascending(times, "times")
    stream = _stream(generator, y.device)
    with torch.no_grad():
        for now, end in _steps(u.tolist(), "localization"):
            at, h = path("localization", now), end - now
            mean = (y + at.beta**2 * path_score(y, score, at)) / at.alpha  # Tweedie
            y = y + h * mean + math.sqrt(h) * _normal(y, stream)
    return _checked(y)


# ------------------------------------------------------------------------------------------------- samplers of the ODE


def time_grid(t_max: float, t_min: float, steps: int, kind: str = "log") -> torch.Tensor:
    """Times from t_max down to t_min, (steps + 1,), float64, equal steps in a function of t.

    ``"uniform"``: t; ``"log"``: ln σ, with σ² = e^{2t} − 1; ``"edm"``: σ^{1/7} (Karras et al. 2022).

    Raises
    ------
    ValueError
        If not 0 < t_min < t_max, steps < 1, or the kind is unknown.
    """
    high, low = _number(t_max, "t_max", 0, strict=True), _number(t_min, "t_min", 0, strict=True)
    if low >= high:
        raise ValueError(f"t_min: got {low}; expected less than t_max = {high}")
    if kind not in ("uniform", "log", "edm"):
        raise ValueError(f"kind: got {kind!r}; expected 'uniform', 'log' or 'edm'")
    f = torch.linspace(0, 1, _count(steps, "steps", 1) + 1, dtype=torch.float64)
    if kind == "uniform":
        times = high + f * (low - high)
    else:
        ends = _log_sigma(high), _log_sigma(low)
        if kind == "log":
            u = ends[0] + f * (ends[1] - ends[0])
        else:
            u = 7 * (math.exp(ends[0] / 7) + f * (math.exp(ends[1] / 7) - math.exp(ends[0] / 7))).log()
        times = torch.nn.functional.softplus(2 * u, threshold=700) / 2
    times[0], times[-1] = high, low
    return times


def _step(x, score, t: float, end: float, method: str) -> torch.Tensor:
    h, s = t - end, _at(score, x, t)
    if method == "exponential":
        return math.exp(h) * x + math.expm1(h) * s
    if method == "ddim":
        root, root_end = math.sqrt(-math.expm1(-2 * t)), math.sqrt(-math.expm1(-2 * end))
        # e^{−t'} E[a|x] + √Δ' E[z|x]
        return math.exp(h) * (x + root**2 * s) - root_end * root * s
    ahead = x + h * (x + s)
    if method == "euler" or end == 0:
        return ahead
    return x + h / 2 * (x + s + ahead + _at(score, ahead, end))


def probability_flow(
    x_start: torch.Tensor, score: Score, times: torch.Tensor, method: str = "heun", path: bool = False
) -> torch.Tensor:
    """The ODE dx/dτ = x + S(x, t), τ = −t, from noise to data by one of four methods.

    - ``"euler"``: x + h (x + S); order 1.
    - ``"heun"``: the mean of the slopes at both ends, two scores a step; order 2. A step that ends at t = 0 is Euler's.
    - ``"exponential"``: the linear part exactly, S held: e^h x + (e^h − 1) S; order 1.
    - ``"ddim"``: E[z|x] = −√Δ S held: e^{−t'} E[a|x] + √Δ' E[z|x]; order 1, and exact for a single datum.

    Parameters
    ----------
    x_start : torch.Tensor, shape (batch, d)
    score : callable
    times : torch.Tensor, shape (n + 1,)
        Descending, ≥ 0; see `time_grid`.
    method : str
    path : bool
        Return all n + 1 positions, (n + 1, batch, d).

    Returns
    -------
    torch.Tensor
        (batch, d), at ``times[-1]``.

    Raises
    ------
    ValueError
        If a shape does not fit, the times do not descend, the method is unknown, or x leaves the finite numbers.

    Notes
    -----
    Song, Meng, Ermon (2021), Denoising diffusion implicit models; Karras et al. (2022), Heun; Zhang, Chen (2023), exponential integrators. Claim INT-1.
    """
    if method not in METHODS:
        raise ValueError(f"method: got {method!r}; expected one of {METHODS}")
    x = _points(x_start, "x_start")
    visited = [x]
    with torch.no_grad():
        for t, end in _steps(_descending(times), method):
            x = _step(x, score, t, end, method)
            if path:
                visited.append(x)
    _checked(x)
    return torch.stack(visited) if path else x
