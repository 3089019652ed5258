"""Two players (the chapter `energies/adversarial`): a generator G, a discriminator D, and what their game converges to.

D ascends and G descends one function, and with p the law of the data, q that of the generator, it is

    L(D, G) = E_p log D + E_q log(1 − D),    D* = p/(p + q),    max_D L = −log 4 + 2 JSD(p, q),

all logarithms natural: the value of the game is −log 4, for q = p and no other q. How the players move is another matter. In the
smallest game, data N(0, v), G(z) = √v z + θ, D(x) = σ(wx), the flow θ̇ = −∂L/∂θ, ẇ = ∂L/∂w turns about its equilibrium (0, 0),

    θ̇ = w E σ(w(x + θ)),    ẇ = −E x σ(wx) − E (x + θ) σ(w(x + θ)) − γw,    d(θ² + w²)/dt = −2 c w²,

where c = γ + v [E σ′(wx) + E σ′(w(x + θ))]: the width v of the data and the penalty (γ/2) E_p |∇ log D/(1 − D)|² are friction, and
without them (Dirac-GAN) the players circle for ever. Steps of a finite length h add negative friction of their own, or none, or
positive, as they are taken. States are (θ, w), densities live on a grid, exact things are float64, trained networks float32.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from scipy.integrate import solve_ivp
from scipy.optimize import minimize
from torch.nn.functional import logsigmoid
from tqdm.auto import tqdm

from physgen.checks import count as _count
from physgen.checks import number as _number
from physgen.checks import stream as _generator

__all__ = [
    "TOY",
    "Fit",
    "Game",
    "Occupation",
    "Players",
    "Share",
    "Shift",
    "best_gaussian",
    "best_response_play",
    "conditional_value",
    "critic_value",
    "discriminate",
    "f_divergence",
    "flow",
    "friction",
    "game_value",
    "generate",
    "jacobian",
    "jensen_shannon",
    "loss",
    "lost_modes_divergence",
    "occupation",
    "optimal_critic",
    "optimal_discriminator",
    "ring",
    "ring_sample",
    "shifted_gaussians",
    "train",
    "training_share",
    "trajectory",
    "update_matrix",
    "vector_field",
    "wasserstein",
]

MASS = 0.2  # a density whose integral on its grid is farther from 1 than this is taken for something else
REACH = 200.0  # of |w|√v: beyond, D is a step on the scale of the data, and the quadrature would need thousands of nodes
CRITICS = "logistic", "linear"
RULES = "simultaneous", "alternating", "extragradient", "optimistic"


class Shift(NamedTuple):
    """What a generator feels whose Gaussian stands δ standard deviations from the data, (...), float64."""

    jensen_shannon: torch.Tensor
    missing: torch.Tensor  # log 2 − JSD, to full relative accuracy
    minimax: torch.Tensor  # slope of max_D L in δ
    nonsaturating: torch.Tensor  # slope of −E_q log D with D = D* held fixed
    wasserstein: torch.Tensor  # in units of σ; its slope is 1


class Fit(NamedTuple):
    """A Gaussian and its divergence from the target."""

    mean: float
    std: float
    value: float


class Game(NamedTuple):
    """The smallest game: data N(0, v), G(z) = √v z + θ, one weight w in D, a penalty (γ/2) w² on D."""

    critic: str = "logistic"  # D = σ(wx); "linear": the critic wx of a Wasserstein GAN, L = −wθ
    variance: float = 1.0  # v ≥ 0; 0 is the Dirac-GAN; the linear critic does not see it
    penalty: float = 0.0  # γ ≥ 0


TOY = Game()  # data N(0, 1), a logistic discriminator, no penalty


class Players(NamedTuple):
    """A trained generator and its discriminator, S replicas side by side."""

    generator: tuple[torch.Tensor, ...]  # weights (S, in, out) and biases (S, 1, out) in turn
    discriminator: tuple[torch.Tensor, ...]
    steps: torch.Tensor  # (R,) int64, when samples were taken
    samples: torch.Tensor  # (R, S, n, d) float32


class Occupation(NamedTuple):
    """How samples are spread over K modes of equal weight."""

    counts: torch.Tensor  # (K,) int64, samples nearest to each centre
    inside: torch.Tensor  # (K,) int64, those of them within three standard deviations
    modes: int  # that hold at least a quarter of their fair share inside
    coverage: float  # the share of all samples inside
    entropy: float  # of counts/n, nats
    forward: float  # KL(uniform ‖ counts/n), infinite if a mode is empty
    reverse: float  # KL(counts/n ‖ uniform) = log K − entropy


class Share(NamedTuple):
    """The share of samples whose nearest datum was trained on, and the standard error of ½ if training left no trace."""

    value: float
    error: float


# ------------------------------------------------------------------------------------------------- densities on a grid


def _nonnegative(value, name: str) -> torch.Tensor:
    if not isinstance(value, torch.Tensor) or not value.is_floating_point():
        came = value.dtype if isinstance(value, torch.Tensor) else type(value).__name__
        raise ValueError(f"{name}: got {came}; expected a tensor of floating-point numbers")
    if not bool((value.isfinite() & (value >= 0)).all()):
        raise ValueError(f"{name}: got NaN, infinity or negative numbers; expected a density")
    return value.double()


def _pair(p, q) -> tuple[torch.Tensor, torch.Tensor]:
    p, q = _nonnegative(p, "p"), _nonnegative(q, "q")
    if p.shape != q.shape:
        raise ValueError(f"q: got shape {tuple(q.shape)}; expected {tuple(p.shape)}, as p")
    return p, q


def _grid(grid) -> torch.Tensor:
    if not isinstance(grid, torch.Tensor) or grid.ndim != 1 or len(grid) < 3 or not grid.is_floating_point():
        came = f"{grid.dtype} {tuple(grid.shape)}" if isinstance(grid, torch.Tensor) else type(grid).__name__
        raise ValueError(f"grid: got {came}; expected floating-point numbers of shape (n,), n >= 3")
    if not bool(grid.isfinite().all()) or not bool((grid.diff() > 0).all()):
        raise ValueError("grid: got points that do not increase; expected finite increasing points")
    return grid.double()


def _on_grid(value: torch.Tensor, grid: torch.Tensor, name: str) -> torch.Tensor:
    """The density, divided by its integral."""
    if value.shape[-1:] != grid.shape:
        raise ValueError(
            f"{name}: got shape {tuple(value.shape)}; expected (..., {len(grid)}), one value a point"
        )
    mass = torch.trapezoid(value, grid)
    if not bool(((mass - 1).abs() <= MASS).all()):
        raise ValueError(
            f"{name}: got the integral {mass.tolist()} over the grid; expected a density, about 1"
        )
    return value / mass[..., None]


def _densities(p, q, grid) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    (p, q), grid = _pair(p, q), _grid(grid)
    return _on_grid(p, grid, "p"), _on_grid(q, grid, "q"), grid


def _xlog(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """x log y with 0 log y = 0, its gradient finite at x = 0."""
    return x * torch.where(x > 0, y, 1.0).log()


def _bet(p: torch.Tensor, d: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
    """p log d, where a d that rounds to 0 is no mistake if p is lost beside q in rounding too."""
    eps = torch.finfo(torch.float64).eps
    return _xlog(p, torch.where(p < eps * q, d.clamp_min(eps**2), d))


def optimal_discriminator(p: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
    """D*(x) = p(x)/(p(x) + q(x)), which maximises p log D + q log(1 − D) at each point: Bayes' rule for "is x a datum?".

    Parameters
    ----------
    p, q : torch.Tensor, the same shape
        Densities of the data and of the generator, at the same points.

    Returns
    -------
    torch.Tensor
        The same shape, float64. 1 where only data fall and 0 where only the generator's points do; ½ where p = q, and also where
        both vanish, of which the game says nothing.

    Raises
    ------
    ValueError
        If the shapes differ, or a number is negative or not finite.

    Notes
    -----
    Goodfellow et al. (2014), NIPS 27, proposition 1; claims GAN-1a, GAN-1b.
    """
    p, q = _pair(p, q)
    # Divided by the larger, so that neither tiny nor huge densities leave the range of floating point.
    top = torch.maximum(p, q)
    scale = torch.where(top > 0, top, 1.0)
    return torch.where(top > 0, p / scale / (p / scale + q / scale), 0.5)


def game_value(
    discriminator: torch.Tensor, p: torch.Tensor, q: torch.Tensor, grid: torch.Tensor
) -> torch.Tensor:
    """L(D, G) = ∫ [p log D + q log(1 − D)] dx for any discriminator; at D* it is −log 4 + 2 JSD(p, q).

    Parameters
    ----------
    discriminator : torch.Tensor, shape (..., n)
        D between 0 and 1. Where it is wrong with certainty, L = −∞.
    p, q, grid
        As in `jensen_shannon`.

    Returns
    -------
    torch.Tensor
        (...), float64.

    Raises
    ------
    ValueError
        If D leaves [0, 1], or as `jensen_shannon`.

    Notes
    -----
    Goodfellow et al. (2014), NIPS 27, eq. 1 and theorem 1; claims GAN-1b, GAN-2.
    """
    p, q, grid = _densities(p, q, grid)
    d = _nonnegative(discriminator, "discriminator")
    if d.shape != p.shape or not bool((d <= 1).all()):
        raise ValueError(
            f"discriminator: got shape {tuple(d.shape)}, largest {float(d.max()):g}; expected {tuple(p.shape)}, at most 1"
        )
    return torch.trapezoid(_bet(p, d, q) + _bet(q, 1 - d, p), grid)


def jensen_shannon(p: torch.Tensor, q: torch.Tensor, grid: torch.Tensor) -> torch.Tensor:
    """JSD(p, q) = ½ KL(p ‖ m) + ½ KL(q ‖ m), m = (p + q)/2, in nats: from 0 (p = q) to log 2 (disjoint supports).

    Parameters
    ----------
    p, q : torch.Tensor, shape (..., n)
        Densities on the grid. Each is divided by its trapezoidal integral, which must be 1 within a fifth.
    grid : torch.Tensor, shape (n,)
        Increasing points; on a uniform grid the trapezoidal rule is exact to rounding for smooth densities that decay.

    Returns
    -------
    torch.Tensor
        (...), float64. Differentiable where both densities are positive.

    Raises
    ------
    ValueError
        If a shape does not fit, a number is negative or not finite, or a density does not integrate to about 1.

    Notes
    -----
    Lin (1991), IEEE Trans. Inf. Theory 37, 145. It is the mutual information of a point and the label "datum or generated"; claim GAN-2.
    """
    p, q, grid = _densities(p, q, grid)
    data, fake = (
        optimal_discriminator(p, q),
        optimal_discriminator(q, p),
    )  # 1 − D* would round to 0 in the tails
    return torch.trapezoid(_xlog(p, 2 * data) + _xlog(q, 2 * fake), grid) / 2


def wasserstein(p: torch.Tensor, q: torch.Tensor, grid: torch.Tensor) -> torch.Tensor:
    """W₁(p, q) = ∫ |F_p − F_q| dx, F the distribution functions: how far mass has to travel, on a line.

    Parameters
    ----------
    p, q, grid
        As in `jensen_shannon`.

    Returns
    -------
    torch.Tensor
        (...), float64, in units of the grid.

    Raises
    ------
    ValueError
        As `jensen_shannon`.

    Notes
    -----
    Vallender (1974), Theory Probab. Appl. 18, 784; Arjovsky, Chintala, Bottou (2017), ICML; claim GAN-6.
    """
    p, q, grid = _densities(p, q, grid)
    return torch.trapezoid(torch.cumulative_trapezoid(p - q, grid).abs(), grid[1:])


def conditional_value(
    p: torch.Tensor, q: torch.Tensor, weights: torch.Tensor, grid: torch.Tensor
) -> torch.Tensor:
    """max_D of the conditional game, Σ_y w_y [E_{x|y ~ p} log D(x|y) + E_{x|y ~ q} log(1 − D(x|y))] = −log 4 + 2 Σ_y w_y JSD_y.

    The labels y of the generated points are drawn as those of the data, and D sees each point with its label. The least value,
    −log 4, is reached for q(x|y) = p(x|y) in every class; the right marginal alone does not reach it.

    Parameters
    ----------
    p, q : torch.Tensor, shape (classes, n)
        p(x|y) and q(x|y), the law of G(z|y) with z ~ N(0, 1).
    weights : torch.Tensor, shape (classes,)
        w_y of the data, which sum to 1.
    grid : torch.Tensor, shape (n,)

    Returns
    -------
    torch.Tensor
        A scalar, float64.

    Raises
    ------
    ValueError
        If the weights do not sum to 1 or do not fit, or as `jensen_shannon`.

    Notes
    -----
    Mirza, Osindero (2014), arXiv:1411.1784, eq. 2; claim GAN-4.
    """
    weights = _nonnegative(weights, "weights")
    if weights.ndim != 1 or abs(float(weights.sum()) - 1) > 1e-6:
        raise ValueError(f"weights: got {weights.tolist()}; expected probabilities of the classes")
    value = game_value(optimal_discriminator(p, q), p, q, grid)
    if value.shape != weights.shape:
        raise ValueError(f"p: got shape {tuple(p.shape)}; expected ({len(weights)}, n), a row per weight")
    return weights @ value


# ------------------------------------------------------------------------------------------------- other divergences


class _Divergence(NamedTuple):
    integrand: Callable  # q f(p/q)
    critic: Callable  # T* = f′(p/q)
    conjugate: Callable  # f*(T) = sup_u [uT − f(u)]


_DIVERGENCES = {
    "kl": _Divergence(
        lambda p, q: _xlog(p, p) - _xlog(p, q),
        lambda p, q: 1 + p.log() - q.log(),
        lambda t: (t - 1).exp(),
    ),
    "reverse_kl": _Divergence(
        lambda p, q: _xlog(q, q) - _xlog(q, p),
        lambda p, q: -q / p,
        lambda t: -1 - (-t).log(),
    ),
    "pearson": _Divergence(
        lambda p, q: torch.where(p == q, 0.0, (p - q).square() / q),
        lambda p, q: 2 * (p / q - 1),
        lambda t: t + t * t / 4,
    ),
    "hellinger": _Divergence(
        lambda p, q: (p.sqrt() - q.sqrt()).square(),
        lambda p, q: 1 - (q / p).sqrt(),
        lambda t: t / (1 - t),
    ),
    "gan": _Divergence(
        lambda p, q: _xlog(p, optimal_discriminator(p, q)) + _xlog(q, optimal_discriminator(q, p)),
        lambda p, q: p.log() - (p + q).log(),
        lambda t: -torch.log(-torch.expm1(t)),
    ),
}


def _divergence(name) -> _Divergence:
    if name not in _DIVERGENCES:
        raise ValueError(f"name: got {name!r}; expected one of {', '.join(_DIVERGENCES)}")
    return _DIVERGENCES[name]


def f_divergence(name: str, p: torch.Tensor, q: torch.Tensor, grid: torch.Tensor) -> torch.Tensor:
    """D_f(p ‖ q) = ∫ q f(p/q) dx, the best value of a game of which the GAN is one case.

    ============  =======================  ================  ==================
    name          f(u)                     T* = f′(p/q)      f*(T)
    ============  =======================  ================  ==================
    kl            u log u                  1 + log(p/q)      e^{T−1}
    reverse_kl    −log u                   −q/p              −1 − log(−T)
    pearson       (u − 1)²                 2(p/q − 1)        T + T²/4
    hellinger     (√u − 1)²                1 − √(q/p)        T/(1 − T)
    gan           u log u − (u+1)log(u+1)  log D*            −log(1 − e^T)
    ============  =======================  ================  ==================

    The last one is 2 JSD − log 4, all others vanish at p = q.

    Parameters
    ----------
    name : str
    p, q, grid
        As in `jensen_shannon`.

    Returns
    -------
    torch.Tensor
        (...), float64; infinite where a ratio is.

    Raises
    ------
    ValueError
        If there is no such name, or as `jensen_shannon`.

    Notes
    -----
    Nowozin, Cseke, Tomioka (2016), NIPS 29, table 1; claim GAN-5.
    """
    integrand = _divergence(name).integrand
    p, q, grid = _densities(p, q, grid)
    return torch.trapezoid(integrand(p, q), grid)


def optimal_critic(name: str, p: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
    """T* = f′(p/q), the critic that attains the f-divergence; log D* for "gan".

    Parameters
    ----------
    name : str
        As in `f_divergence`.
    p, q : torch.Tensor, the same shape
        Positive densities.

    Returns
    -------
    torch.Tensor
        The same shape, float64.

    Raises
    ------
    ValueError
        If there is no such name, the shapes differ or a density is not positive.

    Notes
    -----
    Nguyen, Wainwright, Jordan (2010), IEEE Trans. Inf. Theory 56, 5847, lemma 1; claim GAN-5.
    """
    critic = _divergence(name).critic
    p, q = _pair(p, q)
    for density, which in ((p, "p"), (q, "q")):
        if not bool((density > 0).all()):
            raise ValueError(
                f"{which}: got zeros; expected a positive density (the critic has no value there)"
            )
    return critic(p, q)


def critic_value(
    name: str, critic: torch.Tensor, p: torch.Tensor, q: torch.Tensor, grid: torch.Tensor
) -> torch.Tensor:
    """E_p T − E_q f*(T) ≤ D_f(p ‖ q), with equality at T* = f′(p/q): a divergence learned from samples alone.

    Parameters
    ----------
    name : str
        As in `f_divergence`.
    critic : torch.Tensor, shape (..., n)
        T on the grid, where f* is finite: T < 0 for "gan" and "reverse_kl", T < 1 for "hellinger".
    p, q, grid
        As in `jensen_shannon`.

    Returns
    -------
    torch.Tensor
        (...), float64.

    Raises
    ------
    ValueError
        If the critic leaves the domain of f*, or as `f_divergence`.

    Notes
    -----
    Nowozin, Cseke, Tomioka (2016), NIPS 29, eq. 4; claim GAN-5.
    """
    conjugate = _divergence(name).conjugate
    p, q, grid = _densities(p, q, grid)
    if not isinstance(critic, torch.Tensor) or critic.shape != p.shape or not critic.is_floating_point():
        raise ValueError(
            f"critic: got {getattr(critic, 'shape', critic)!r}; expected numbers of shape {tuple(p.shape)}"
        )
    bound = {"gan": 0.0, "reverse_kl": 0.0, "hellinger": 1.0}.get(name, math.inf)
    t = critic.double()
    if not bool((t.isfinite() & (t < bound)).all()):
        raise ValueError(f"critic: got values up to {float(t.max()):g}; expected finite ones below {bound:g}")
    return torch.trapezoid(p * t - q * conjugate(t), grid)


def best_gaussian(name: str, p: torch.Tensor, grid: torch.Tensor) -> Fit:
    """The Gaussian N(μ, s²) of least D_f(p ‖ N): what a generator with one bump makes of a density with several.

    "kl" keeps mean and variance and covers all modes, "reverse_kl" takes one mode, "gan" decides between the two.

    Parameters
    ----------
    name : str
        As in `f_divergence`.
    p : torch.Tensor, shape (n,)
    grid : torch.Tensor, shape (n,)

    Returns
    -------
    Fit
        Of several minima the lowest that descents from each maximum of p and from its mean find.

    Raises
    ------
    ValueError
        As `f_divergence`.

    Notes
    -----
    Nowozin, Cseke, Tomioka (2016), NIPS 29, fit a mixture by one Gaussian likewise; claim GAN-7.
    """
    integrand = _divergence(name).integrand
    p, _, grid = _densities(p, p, grid)
    mean = float(torch.trapezoid(grid * p, grid))
    std = math.sqrt(float(torch.trapezoid((grid - mean) ** 2 * p, grid)))
    floor = 1e-150  # below it no ratio of densities could be squared
    target = p.clamp_min(floor)

    def value(parameters):
        z = (grid - parameters[0]) / math.exp(parameters[1])
        q = torch.exp(-z * z / 2 - parameters[1]) / math.sqrt(2 * math.pi)
        return float(torch.trapezoid(integrand(target, q.clamp_min(floor)), grid))

    peaks = grid[1:-1][(p[1:-1] > p[:-2]) & (p[1:-1] >= p[2:])].tolist()
    starts = [(mean, math.log(std))] + [(peak, math.log(std / 4)) for peak in peaks]
    options = {"xatol": 1e-9, "fatol": 1e-14, "maxiter": 2000}
    fits = [minimize(value, start, method="Nelder-Mead", options=options) for start in starts]
    best = min(fits, key=lambda fit: fit.fun)
    return Fit(float(best.x[0]), math.exp(best.x[1]), float(best.fun))


# ------------------------------------------------------------------------------------------------- far from the data


def shifted_gaussians(distance: torch.Tensor) -> Shift:
    """Data N(0, 1), generator N(δ, 1): as δ grows, D becomes certain, JSD saturates at log 2, and W₁ = δ goes on growing.

    Tilted to the midpoint between the two, both integrals carry their small factor in front:

        log 2 − JSD = e^{−δ²/8} E_z [e^{−δz/2} log(1 + e^{δz})] ≤ e^{−δ²/8} log 2,
        d/dδ max_D L = δ E_q D* = δ e^{−δ²/8} E_z [1/(2 cosh(δz/2))],

    and log 2 − JSD → √(2π) e^{−δ²/8}/δ. The non-saturating loss −E_q log D has the slope δ E_q (1 − D*), that of KL(q ‖ p) − 2 JSD.

    Parameters
    ----------
    distance : torch.Tensor, any shape
        δ ≥ 0, in standard deviations, at most 70 (where e^{−δ²/8} is about to underflow).

    Returns
    -------
    Shift
        float64, the shape of `distance`.

    Raises
    ------
    ValueError
        If a distance is negative, not finite or above 70.

    Notes
    -----
    Arjovsky, Bottou (2017), ICLR, theorems 2.4 and 2.5; Goodfellow et al. (2014), NIPS 27, section 3; claims GAN-8, GAN-9.
    """
    delta = _nonnegative(distance, "distance")
    if not bool((delta <= 70).all()):
        raise ValueError(f"distance: got {float(delta.max()):g}; expected at most 70")
    # The nearest pole lies at z = iπ/δ: a trapezoid of 0.009 errs by e^{−2π²/(70·0.009)} = 10⁻¹⁴ at the far end.
    z = torch.linspace(-9, 9, 2001, dtype=torch.float64)
    weight = torch.exp(-z * z / 2)
    weight = weight / weight.sum()
    a = delta[..., None] * z.abs()
    small = torch.exp(-a).clamp_min(1e-300)
    # e^{−v/2} log(1 + e^v), averaged over v = ±a.
    bridge = torch.exp(-a / 2) * (a + torch.log1p(small) + torch.log1p(small) / small) / 2
    far = torch.exp(-delta * delta / 8)
    missing = far * (bridge @ weight)
    minimax = delta * far * ((torch.exp(-a / 2) / (1 + small)) @ weight)
    return Shift(math.log(2) - missing, missing, minimax, delta - minimax, delta.clone())


# ------------------------------------------------------------------------------------------------- the smallest game


def _game(game) -> Game:
    if not isinstance(game, Game):
        raise ValueError(f"game: got {type(game).__name__}; expected a Game")
    if game.critic not in CRITICS:
        raise ValueError(f"critic: got {game.critic!r}; expected one of {', '.join(CRITICS)}")
    return Game(game.critic, _number(game.variance, "variance", 0), _number(game.penalty, "penalty", 0))


def _state(state, name: str = "state") -> torch.Tensor:
    if not isinstance(state, torch.Tensor) or state.shape[-1:] != (2,) or not state.is_floating_point():
        came = (
            f"{state.dtype} {tuple(state.shape)}" if isinstance(state, torch.Tensor) else type(state).__name__
        )
        raise ValueError(f"{name}: got {came}; expected floating-point numbers of shape (..., 2): θ and w")
    if not bool(state.isfinite().all()):
        raise ValueError(f"{name}: got NaN or infinity; expected finite numbers")
    return state.double()


def _rule(rule) -> str:
    if rule not in RULES:
        raise ValueError(f"rule: got {rule!r}; expected one of {', '.join(RULES)}")
    return rule


def _data(w: torch.Tensor, variance: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Nodes x and weights for averages over N(0, v) of functions of wx, σ among them.

    σ(wx) has its poles at a distance of π/(|w|√v) standard deviations from the axis, so a trapezoidal rule of spacing s errs by
    e^{−2πy/s + y²/2} with that distance y: below 10⁻¹⁵.
    """
    reach = float(w.detach().abs().max()) * math.sqrt(variance) if w.numel() else 0.0
    if reach > REACH:
        raise ValueError(f"state: got |w|√v = {reach:g}; expected at most {REACH:g}")
    z = torch.linspace(-9, 9, 1 + math.ceil(18 / min(0.4, 0.5 / max(reach, 1e-3))), dtype=torch.float64)
    weight = torch.exp(-z * z / 2)
    return math.sqrt(variance) * z, weight / weight.sum()


def loss(state: torch.Tensor, game: Game = TOY) -> torch.Tensor:
    """L(θ, w) = E log σ(wx) + E log(1 − σ(w(x + θ))), x ~ N(0, v), which D ascends and G descends; −wθ for the linear critic.

    The penalty, which D alone pays, is not in it.

    Parameters
    ----------
    state : torch.Tensor, shape (..., 2)
        θ and w.
    game : Game

    Returns
    -------
    torch.Tensor
        (...), float64. −log 4 wherever w = 0.

    Raises
    ------
    ValueError
        If a shape does not fit, a number is not finite or out of its range, or |w|√v > 200.

    Notes
    -----
    Claim GAN-3b.
    """
    game, state = _game(game), _state(state)
    theta, w = state.unbind(-1)
    if game.critic == "linear":
        return -w * theta
    x, weight = _data(w, game.variance)
    wx = w[..., None] * x
    return (logsigmoid(wx) + logsigmoid(-wx - (w * theta)[..., None])) @ weight


def vector_field(state: torch.Tensor, game: Game = TOY) -> torch.Tensor:
    """Where the players push: (θ̇, ẇ) = (−∂L/∂θ, ∂L/∂w − γw), exactly.

    θ̇ = w E σ(w(x + θ)) and ẇ = −E x σ(wx) − E (x + θ) σ(w(x + θ)) − γw; (w, −θ − γw) for the linear critic.

    Parameters
    ----------
    state : torch.Tensor, shape (..., 2)
        θ and w, a grid of them for a phase portrait.
    game : Game

    Returns
    -------
    torch.Tensor
        (..., 2), float64.

    Raises
    ------
    ValueError
        As `loss`.

    Notes
    -----
    Mescheder, Geiger, Nowozin (2018), ICML, section 2, for v = 0; claims GAN-3b, GAN-10.
    """
    game, state = _game(game), _state(state)
    theta, w = state.unbind(-1)
    if game.critic == "linear":
        return torch.stack([w, -theta - game.penalty * w], -1)
    x, weight = _data(w, game.variance)
    wx = w[..., None] * x
    fooled = torch.sigmoid(wx + (w * theta)[..., None])
    mean = fooled @ weight
    push = -(torch.sigmoid(wx) + fooled) @ (weight * x) - theta * mean
    return torch.stack([w * mean, push - game.penalty * w], -1)


def friction(state: torch.Tensor, game: Game = TOY) -> torch.Tensor:
    """c(θ, w) = γ + v [E σ′(wx) + E σ′(w(x + θ))] ≥ 0 in d(θ² + w²)/dt = −2 c w²; c = γ for the linear critic.

    θ² + w² is a Lyapunov function of the flow: with c > 0 the players reach (0, 0) from everywhere, and with c = 0 they circle.

    Parameters
    ----------
    state : torch.Tensor, shape (..., 2)
        θ and w.
    game : Game

    Returns
    -------
    torch.Tensor
        (...), float64; γ + v/2 at the equilibrium.

    Raises
    ------
    ValueError
        As `loss`.

    Notes
    -----
    Stein's lemma, E x g(x) = v E g′(x), turns what is left of θθ̇ + wẇ into this; claim GAN-11.
    """
    game, state = _game(game), _state(state)
    theta, w = state.unbind(-1)
    if game.critic == "linear":
        return torch.full_like(w, game.penalty)
    x, weight = _data(w, game.variance)
    wx = w[..., None] * x
    bells = [s * (1 - s) for s in (torch.sigmoid(wx), torch.sigmoid(wx + (w * theta)[..., None]))]
    return game.penalty + game.variance * ((bells[0] + bells[1]) @ weight)


def jacobian(game: Game = TOY) -> torch.Tensor:
    """The derivative of the vector field at (0, 0): ((0, ω), (−ω, −c)), ω = ½ and c = v/2 + γ; ω = 1, c = γ for the linear critic.

    Its eigenvalues are −c/2 ± √(c²/4 − ω²): a rotation, damped by the width of the data and by the penalty; critical at c = 2ω.

    Parameters
    ----------
    game : Game

    Returns
    -------
    torch.Tensor
        (2, 2), float64.

    Raises
    ------
    ValueError
        If a number is out of its range.

    Notes
    -----
    Mescheder, Geiger, Nowozin (2018), ICML, sections 2 and 4, for v = 0; claim GAN-13.
    """
    game = _game(game)
    omega, c = (1.0, game.penalty) if game.critic == "linear" else (0.5, game.variance / 2 + game.penalty)
    return torch.tensor([[0.0, omega], [-omega, -c]], dtype=torch.float64)


def update_matrix(game: Game, h: float, rule: str = "simultaneous") -> torch.Tensor:
    """One step of length h near (0, 0), as a matrix on (θ, w); its largest |eigenvalue| is the factor per step.

    With J the Jacobian: 1 + hJ simultaneous; first D, then G against the new D, alternating; 1 + hJ + h²J² extragradient; and
    for optimistic steps, on (θ, w) and its predecessor, ((1 + 2hJ, −hJ), (1, 0)).

    Parameters
    ----------
    game : Game
    h : float, > 0
    rule : {"simultaneous", "alternating", "extragradient", "optimistic"}

    Returns
    -------
    torch.Tensor
        (2, 2), float64; (4, 4) for optimistic steps.

    Raises
    ------
    ValueError
        If a number is out of its range or there is no such rule.

    Notes
    -----
    For the linear critic without penalty (bilinear game) the factors are √(1 + h²), 1 for h ≤ 2, √(1 − h² + h⁴), and below 1 for
    h < 1/√3. With friction c and frequency ω: simultaneous steps converge for h < c/ω² (if c < 2ω), alternating ones for
    2hc + h²ω² < 4. Gidel et al. (2019), AISTATS; Daskalakis et al. (2018), ICLR; claims GAN-12 to GAN-14b.
    """
    h, one = _number(h, "h", 0, strict=True), torch.eye(2, dtype=torch.float64)
    j = jacobian(game)
    if _rule(rule) == "simultaneous":
        return one + h * j
    if rule == "extragradient":
        return one + h * j @ (one + h * j)
    if rule == "optimistic":
        return torch.cat([torch.cat([one + 2 * h * j, -h * j], 1), torch.cat([one, 0 * one], 1)])
    critic, generator = one.clone(), one.clone()
    critic[1] += h * j[1]
    generator[0] += h * j[0]
    return generator @ critic


def trajectory(
    start: torch.Tensor, game: Game = TOY, h: float = 0.1, steps: int = 100, rule: str = "simultaneous"
) -> torch.Tensor:
    """The players' steps z = (θ, w) along F = (θ̇, ẇ).

    simultaneous   z ← z + hF(z)
    alternating    w ← w + h ẇ(θ, w), then θ ← θ + h θ̇(θ, w) with the new w
    extragradient  z ← z + hF(z + hF(z))
    optimistic     z_{k+1} = z_k + 2hF(z_k) − hF(z_{k−1}), the first step simultaneous

    Parameters
    ----------
    start : torch.Tensor, shape (..., 2)
    game : Game
    h : float, > 0
    steps : int, ≥ 1
    rule : {"simultaneous", "alternating", "extragradient", "optimistic"}

    Returns
    -------
    torch.Tensor
        (steps + 1, ..., 2), float64, the start included.

    Raises
    ------
    ValueError
        As `loss` (a trajectory may run away), or if a number is out of its range or there is no such rule.

    Notes
    -----
    Korpelevich (1976), Ekonomika i Mat. Metody 12, 747 (extragradient); Popov (1980), Mat. Zametki 28, 777 and Daskalakis et al.
    (2018), ICLR (optimistic); claims GAN-3b, GAN-12, GAN-14a, GAN-14b.
    """
    game, z = _game(game), _state(start, "start")
    h, steps, rule = _number(h, "h", 0, strict=True), _count(steps, "steps", 1), _rule(rule)
    path, before = [z], vector_field(z, game)
    for _ in range(steps):
        push = vector_field(z, game)
        if rule == "alternating":
            w = z[..., 1] + h * push[..., 1]
            half = torch.stack([z[..., 0], w], -1)
            z = torch.stack([z[..., 0] + h * vector_field(half, game)[..., 0], w], -1)
        elif rule == "extragradient":
            z = z + h * vector_field(z + h * push, game)
        elif rule == "optimistic":
            z = z + h * (2 * push - before)
        else:
            z = z + h * push
        before = push
        path.append(z)
    return torch.stack(path)


def flow(start: torch.Tensor, game: Game = TOY, times: torch.Tensor | None = None) -> torch.Tensor:
    """The limit of infinitely short steps: the solution of (θ̇, ẇ) = F(θ, w), to ten digits.

    Parameters
    ----------
    start : torch.Tensor, shape (..., 2)
    game : Game
    times : torch.Tensor, shape (n,), optional
        Increasing, the first ≥ 0. 201 times from 0 to 40 unless given.

    Returns
    -------
    torch.Tensor
        (n, ..., 2), float64.

    Raises
    ------
    ValueError
        As `loss`, or if the times do not increase.

    Notes
    -----
    The eighth-order method of Dormand and Prince; claims GAN-10, GAN-11.
    """
    game, z = _game(game), _state(start, "start")
    times = torch.linspace(0, 40, 201, dtype=torch.float64) if times is None else times
    fits = (
        isinstance(times, torch.Tensor) and times.ndim == 1 and len(times) > 0 and times.is_floating_point()
    )
    if (
        not fits
        or not bool((times.diff() > 0).all())
        or not 0 <= float(times[0]) <= float(times[-1]) < math.inf
    ):
        raise ValueError(f"times: got {times!r}; expected increasing floating-point numbers >= 0")

    def push(_, flat):
        return vector_field(torch.from_numpy(flat).reshape(z.shape), game).numpy().ravel()

    grid = times.double().numpy()
    done = solve_ivp(
        push, (0.0, max(grid[-1], 1e-12)), z.numpy().ravel(), "DOP853", grid, rtol=1e-11, atol=1e-12
    )
    return torch.from_numpy(np.ascontiguousarray(done.y.T)).reshape(len(grid), *z.shape)


# ------------------------------------------------------------------------------------------------- modes


def best_response_play(
    weights: torch.Tensor,
    rounds: int,
    *,
    memory: bool = False,
    generator: torch.Generator | None = None,
) -> torch.Tensor:
    """A game over K modes in which each player is perfect in turn: the modes that the generator stands on, round by round.

    Against a fixed D the generator's payoff E_q log D is linear in q, so its best response is one point: argmax D. With
    D* = p/(p + q) that is any mode where it was not (D = 1), and so it hops for ever. With `memory` D is trained on all rounds so
    far (fictitious play, replay): argmax p_k/(p_k + q̄_k) is the mode most below its share, and q̄ → p.

    Parameters
    ----------
    weights : torch.Tensor, shape (K,)
        p_k > 0, K ≥ 2, which sum to 1.
    rounds : int, ≥ 1
    memory : bool
    generator : torch.Generator, optional
        It breaks ties between modes of equal D.

    Returns
    -------
    torch.Tensor
        (rounds,) int64.

    Raises
    ------
    ValueError
        If the weights are no positive probabilities of two modes or more, or `rounds` < 1.

    Notes
    -----
    Brown (1951), in Activity Analysis of Production and Allocation, and Robinson (1951), Ann. Math. 54, 296: fictitious play; claims GAN-15a, GAN-15b.
    """
    p, rounds = _nonnegative(weights, "weights"), _count(rounds, "rounds", 1)
    if p.ndim != 1 or len(p) < 2 or not bool((p > 0).all()) or abs(float(p.sum()) - 1) > 1e-6:
        raise ValueError(f"weights: got {p.tolist()}; expected K >= 2 positive probabilities")
    stream = _generator(generator)
    q, seen = torch.zeros_like(p), []
    for k in range(rounds):
        d = optimal_discriminator(p, q)
        best = (d >= d.max() - 1e-12).nonzero()[:, 0]
        mode = int(best[torch.randint(len(best), (1,), generator=stream)])
        one = torch.nn.functional.one_hot(torch.tensor(mode), len(p)).double()
        q = (k * q + one) / (k + 1) if memory else one
        seen.append(mode)
    return torch.tensor(seen)


def lost_modes_divergence(kept: int, modes: int, pack: int = 1) -> float:
    """JSD between K equal modes and a generator that has K′ of them, as seen by a D that judges m points at once.

    With r = (K′/K)^m, the probability that m data all fall on kept modes,

        JSD = ½ [(1 − r) log 2 + r log(2r/(1 + r))] + ½ log(2/(1 + r)).

    Parameters
    ----------
    kept : int
        K′, from 1 to K.
    modes : int
        K.
    pack : int, ≥ 1
        m; 1 is an ordinary GAN.

    Raises
    ------
    ValueError
        If a number is out of its range.

    Notes
    -----
    Lin, Khetan, Fanti, Oh (2018), NeurIPS (PacGAN), who do it for the total variation 1 − r; claim GAN-16.
    """
    modes, kept, pack = _count(modes, "modes"), _count(kept, "kept"), _count(pack, "pack")
    if kept > modes:
        raise ValueError(f"kept: got {kept} of {modes} modes; expected at most all")
    r = (kept / modes) ** pack
    data = (1 - r) * math.log(2) + (r * math.log(2 * r / (1 + r)) if r > 0 else 0.0)
    return data / 2 + math.log(2 / (1 + r)) / 2


def ring(modes: int = 8, radius: float = 2.0) -> torch.Tensor:
    """Centres of K Gaussians on a circle.

    Parameters
    ----------
    modes : int, ≥ 1
    radius : float, > 0

    Returns
    -------
    torch.Tensor
        (K, 2), float64.

    Raises
    ------
    ValueError
        If a number is out of its range.
    """
    radius = _number(radius, "radius", 0, strict=True)
    angle = 2 * math.pi / _count(modes, "modes") * torch.arange(modes, dtype=torch.float64)
    return radius * torch.stack([angle.cos(), angle.sin()], 1)


def ring_sample(
    n: int,
    centres: torch.Tensor,
    std: float = 0.1,
    *,
    replicas: int | None = None,
    generator: torch.Generator | None = None,
) -> torch.Tensor:
    """Points of the mixture (1/K) Σ_k N(μ_k, s² 1).

    Parameters
    ----------
    n : int, ≥ 1
    centres : torch.Tensor, shape (K, d)
    std : float, ≥ 0
        s.
    replicas : int, ≥ 1, optional
        So many data sets at once.
    generator : torch.Generator, optional

    Returns
    -------
    torch.Tensor
        (n, d) or (replicas, n, d), float32.

    Raises
    ------
    ValueError
        If a shape does not fit or a number is out of its range.
    """
    centres, std = _points(centres, "centres"), _number(std, "std", 0)
    shape = (_count(n, "n"),) if replicas is None else (_count(replicas, "replicas"), _count(n, "n"))
    stream = _generator(generator)
    mode = torch.randint(len(centres), shape, generator=stream, device=stream.device)
    noise = torch.randn(*shape, centres.shape[1], generator=stream, device=stream.device)
    return centres.float()[mode.to(centres.device)] + std * noise.to(centres.device)


def _points(value, name: str) -> torch.Tensor:
    if not isinstance(value, torch.Tensor) or value.ndim != 2 or not value.is_floating_point():
        came = (
            f"{value.dtype} {tuple(value.shape)}" if isinstance(value, torch.Tensor) else type(value).__name__
        )
        raise ValueError(f"{name}: got {came}; expected floating-point numbers of shape (n, d)")
    if value.numel() == 0 or not bool(value.isfinite().all()):
        raise ValueError(f"{name}: got no numbers, NaN or infinity; expected finite points (n, d)")
    return value


def occupation(samples: torch.Tensor, centres: torch.Tensor, std: float) -> Occupation:
    """Modes found, coverage, and how evenly the modes are held.

    Each sample belongs to its nearest centre; it is *inside* within three standard deviations, which in two dimensions a perfect
    generator is with probability 1 − e^{−9/2} = 0.98889. A mode is found if it holds a quarter of its fair share n/K inside.
    The entropy says nothing about coverage (a blob in the middle of the ring has log K), so read both.

    Parameters
    ----------
    samples : torch.Tensor, shape (n, d)
    centres : torch.Tensor, shape (K, d)
    std : float, > 0

    Returns
    -------
    Occupation
        Of equal weights 1/K: ``reverse`` ≤ log K is blind to a lost mode where ``forward`` is infinite.

    Raises
    ------
    ValueError
        If a shape does not fit or a number is out of its range.

    Notes
    -----
    The measures of Metz et al. (2017), ICLR, and Srivastava et al. (2017), NIPS 30 (VEEGAN); claims GAN-17, GAN-18.
    """
    samples, centres = _points(samples, "samples").double(), _points(centres, "centres").double()
    std = _number(std, "std", 0, strict=True)
    if samples.shape[1] != centres.shape[1]:
        raise ValueError(
            f"centres: got {centres.shape[1]} coordinates; expected {samples.shape[1]}, as samples"
        )
    distance, nearest = torch.cdist(samples, centres.to(samples.device)).min(1)
    (n, _), modes = samples.shape, len(centres)
    counts = torch.bincount(nearest, minlength=modes)
    inside = torch.bincount(nearest[distance <= 3 * std], minlength=modes)
    share = counts.double() / n
    entropy = float(-torch.special.xlogy(share, share).sum())
    return Occupation(
        counts,
        inside,
        int((inside >= n / (4 * modes)).sum()),
        int(inside.sum()) / n,
        entropy,
        float(-(modes * share).log().mean()),
        math.log(modes) - entropy,
    )


def training_share(samples: torch.Tensor, train: torch.Tensor, held_out: torch.Tensor) -> Share:
    """How many samples lie nearer to a training point than to every held-out one: 1 for a copier, ½ if training left no trace.

    Parameters
    ----------
    samples : torch.Tensor, shape (m, d)
    train, held_out : torch.Tensor, shape (n, d)
        Two halves of one data set, n ≥ 1.

    Returns
    -------
    Share
        ``error`` is exact over the ways to label the 2n points: with f_i the share of samples nearest to point i,
        (2n/(2n − 1)) (Σ f_i² − 1/(2n))/4 is the variance of the value if samples do not know which half was trained on.

    Raises
    ------
    ValueError
        If the shapes do not fit.

    Notes
    -----
    The nearest-neighbour test of Schilling (1986), JASA 81, 799, in the form of a permutation test; claim GAN-3a.
    """
    samples, train, held_out = (
        _points(x, name).double()
        for x, name in ((samples, "samples"), (train, "train"), (held_out, "held_out"))
    )
    if train.shape != held_out.shape or samples.shape[1] != train.shape[1]:
        raise ValueError(
            f"held_out: got {tuple(held_out.shape)} beside train {tuple(train.shape)}; expected equal, d = {samples.shape[1]}"
        )
    n = len(train)
    nearest = torch.cdist(samples, torch.cat([train, held_out])).argmin(1)
    share = torch.bincount(nearest, minlength=2 * n).double() / len(samples)
    variance = 2 * n / (2 * n - 1) * (float(share.square().sum()) - 1 / (2 * n)) / 4
    return Share(float(share[:n].sum()), math.sqrt(max(variance, 0.0)))


# ------------------------------------------------------------------------------------------------- networks


def _network(sizes: list[int], replicas: int, stream: torch.Generator, device) -> tuple[torch.Tensor, ...]:
    """Weights of variance 2/fan-in and no biases, S networks at once."""
    layers = []
    for fan_in, fan_out in pairwise(sizes):
        weight = torch.randn(replicas, fan_in, fan_out, generator=stream, device=stream.device)
        layers.append((weight * math.sqrt(2 / fan_in)).to(device).requires_grad_(True))
        layers.append(torch.zeros(replicas, 1, fan_out, device=device, requires_grad=True))
    return tuple(layers)


def _apply(layers, x: torch.Tensor) -> torch.Tensor:
    """Linear layers with max(0, ·) between them, (S, n, in) → (S, n, out)."""
    for weight, bias in zip(layers[:-2:2], layers[1:-2:2], strict=True):
        x = torch.relu(torch.baddbmm(bias, x, weight))
    return torch.baddbmm(layers[-1], x, layers[-2])


def _judge(layers, x: torch.Tensor) -> torch.Tensor:
    """Logits (S, n/m) of points (S, n, d), m of them at once: the width of the first layer says how many."""
    return _apply(layers, x.reshape(len(x), -1, layers[0].shape[1]))[..., 0]


def _cost_of_judging(judge, real: torch.Tensor, fake: torch.Tensor, penalty: float) -> torch.Tensor:
    """−E log σ(D(x)) − E log σ(−D(G(z))) + (γ/2) E|∇D(x)|², summed over the replicas."""
    logit = _judge(judge, real)
    value = -logsigmoid(logit).mean(1).sum() - logsigmoid(-_judge(judge, fake)).mean(1).sum()
    if penalty == 0:
        return value
    slope = torch.autograd.grad(logit.sum(), real, create_graph=True)[0]
    # One gradient per judgement, with respect to all points of its pack.
    return value + penalty / 2 * slope.square().sum((1, 2)).sum() / logit.shape[1]


def train(
    data: torch.Tensor,
    steps: int,
    *,
    penalty: float = 0.0,
    pack: int = 1,
    replicas: int = 1,
    latent: int = 16,
    hidden: int = 32,
    batch: int = 64,
    rate: float = 3e-3,
    records: int = 1,
    shown: int = 1000,
    generator: torch.Generator | None = None,
) -> Players:
    """Two small networks against each other, S pairs side by side: alternating Adam steps, first D, then G.

    D (layers dm → hidden → hidden → 1) descends −E log σ(D(x)) − E log σ(−D(G(z))) + (γ/2) E|∇D(x)|², D its logit; G (latent
    → hidden → hidden → d) descends the non-saturating −E log σ(D(G(z))). Two cures for lost modes: the penalty γ on the
    slope of D at the data, and packs of m points that D judges at once, so that a set without variety gives itself away.

    Parameters
    ----------
    data : torch.Tensor, shape (n, d) or (S, n, d), float32
        The training set of all replicas, or one for each. Its device is used.
    steps : int, ≥ 1
    penalty : float, ≥ 0
        γ. 0 and `pack` = 1 is the plain GAN.
    pack : int, ≥ 1
        m, a divisor of `batch`.
    replicas : int, ≥ 1
        S; each has its own start and draws.
    latent, hidden, batch : int, ≥ 1
    rate : float, > 0
        Of Adam with β = (0.5, 0.999).
    records : int, ≥ 1
        How often samples are kept, at equal distances, the last at the end.
    shown : int, ≥ 1
        Samples kept of each replica.
    generator : torch.Generator, optional

    Returns
    -------
    Players

    Raises
    ------
    ValueError
        If a shape or number does not fit.

    Notes
    -----
    Goodfellow et al. (2014), NIPS 27; the penalty R₁: Mescheder, Geiger, Nowozin (2018), ICML; packs: Lin et al. (2018), NeurIPS.
    One pair of these networks takes about 1.5 ms a step, four take 2.5 ms. Claims GAN-3a, GAN-18.
    """
    replicas = _count(replicas, "replicas")
    data = _training_set(data, replicas)
    steps, records, shown = _count(steps, "steps"), _count(records, "records"), _count(shown, "shown")
    batch, pack = _count(batch, "batch"), _count(pack, "pack")
    if batch % pack or records > steps:
        raise ValueError(
            f"pack, records: got {pack}, {records}; expected a divisor of {batch}, at most {steps}"
        )
    penalty, rate = _number(penalty, "penalty", 0), _number(rate, "rate", 0, strict=True)
    latent, hidden, (_, n, d) = _count(latent, "latent"), _count(hidden, "hidden"), data.shape
    stream = _generator(generator)
    judge = _network([d * pack, hidden, hidden, 1], replicas, stream, data.device)
    maker = _network([latent, hidden, hidden, d], replicas, stream, data.device)
    adam = [torch.optim.Adam(net, rate, betas=(0.5, 0.999), fused=True) for net in (judge, maker)]
    rows = torch.arange(replicas, device=data.device)[:, None]

    def noise(points):
        return torch.randn(replicas, points, latent, generator=stream, device=stream.device).to(data.device)

    def step(optimiser, cost, net):
        optimiser.zero_grad()
        cost.backward(inputs=net)
        optimiser.step()

    kept, when = [], [round((r + 1) * steps / records) for r in range(records)]
    quiet = bool(os.environ.get("PHYSGEN_QUIET"))
    for k in tqdm(range(1, steps + 1), delay=2, disable=quiet, desc="two players"):
        index = torch.randint(n, (replicas, batch), generator=stream, device=stream.device).to(data.device)
        real = data[rows, index].requires_grad_(penalty > 0)
        with torch.no_grad():
            fake = _apply(maker, noise(batch))
        step(adam[0], _cost_of_judging(judge, real, fake, penalty), judge)
        step(adam[1], -logsigmoid(_judge(judge, _apply(maker, noise(batch)))).mean(1).sum(), maker)
        if k == when[len(kept)]:
            with torch.no_grad():
                kept.append(_apply(maker, noise(shown)))
    detached = [tuple(layer.detach() for layer in net) for net in (maker, judge)]
    return Players(*detached, torch.tensor(when), torch.stack(kept))


def _training_set(data, replicas: int) -> torch.Tensor:
    """(replicas, n, d)."""
    fits = isinstance(data, torch.Tensor) and data.ndim in (2, 3) and data.dtype == torch.float32
    if not fits or data.numel() == 0 or not bool(data.isfinite().all()):
        came = f"{data.dtype} {tuple(data.shape)}" if isinstance(data, torch.Tensor) else type(data).__name__
        raise ValueError(f"data: got {came}; expected finite float32 of shape (n, d) or (replicas, n, d)")
    if data.ndim == 3 and len(data) != replicas:
        raise ValueError(f"data: got {len(data)} sets; expected one, or one for each of {replicas} replicas")
    return data if data.ndim == 3 else data.expand(replicas, *data.shape)


def generate(players: Players, n: int, *, generator: torch.Generator | None = None) -> torch.Tensor:
    """n new points G(z), z ~ N(0, 1), of each replica.

    Returns
    -------
    torch.Tensor
        (S, n, d), float32.

    Raises
    ------
    ValueError
        If n < 1.
    """
    first = players.generator[0]
    stream = _generator(generator)
    shape = (first.shape[0], _count(n, "n"), first.shape[1])
    return _apply(
        players.generator, torch.randn(*shape, generator=stream, device=stream.device).to(first.device)
    )


def discriminate(players: Players, x: torch.Tensor) -> torch.Tensor:
    """D(x) between 0 and 1 of each replica, for points one by one (a discriminator of packs sees m copies of x).

    Parameters
    ----------
    players : Players
    x : torch.Tensor, shape (n, d)

    Returns
    -------
    torch.Tensor
        (S, n), float32.

    Raises
    ------
    ValueError
        If a shape does not fit.
    """
    width, d = players.discriminator[0].shape[1], players.samples.shape[-1]
    if _points(x, "x").shape[1] != d:
        raise ValueError(f"x: got {x.shape[1]} coordinates; expected {d}")
    packs = x.float().repeat(1, width // d).expand(len(players.discriminator[0]), len(x), width)
    return torch.sigmoid(_apply(players.discriminator, packs)[..., 0])
