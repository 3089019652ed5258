"""Energy-based models: inference, free energies, likelihood and log Z (the chapter `energies/energy_models`).

An energy f says what goes with what: low for what is seen, high elsewhere. Inference is argmin_y f(x, y); the Gibbs law e^{−βf}/Z makes
it a density. A latent z with prior p(z) is averaged out by the free energy, which is also a minimum over all q(z),

    F_β(y) = −(1/β) log ∫ p(z) e^{−βE(y,z)} dz = min_q { ∫ q E dz + (1/β) KL(q‖p) },    F_∞(y) = min_z E(y, z),

reached at q* = p e^{−βE}/∫p e^{−βE}: the prior stays. For E = |y − Wz|² and z ~ N(0, I) everything is Gaussian, and −βF_β is
log N(y; 0, WWᵀ + I/2β) + const. The likelihood of p_θ = e^{−U_θ}/Z_θ has the gradient E_data ∇U − E_model ∇U and, for U = ⟨θ, φ⟩,
the Hessian Cov_θ φ; Z itself comes from annealing, E e^{−W} = Z_1/Z_0 (Jarzynski). Logarithms are natural, θ is paired with −log p.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from scipy.integrate import solve_ivp
from scipy.optimize import minimize

from physgen.checks import count as _count
from physgen.checks import number as _number
from physgen.checks import stream as _stream
from physgen.memories import hebbian

__all__ = [
    "Annealed",
    "Answer",
    "Descent",
    "Likelihood",
    "LinearModel",
    "LogPartition",
    "Posterior",
    "Projection",
    "RateDistortion",
    "anneal",
    "annealed_ising",
    "annealed_log_z",
    "autoregressive_log_density",
    "descent_steps",
    "diffusion_bound",
    "exponential_family",
    "free_energy",
    "gaussian_bound",
    "gaussian_free_energy",
    "gaussian_posterior",
    "gaussian_projection",
    "gibbs",
    "gradient_descent",
    "langevin",
    "likelihood_gradient",
    "log_partition",
    "mean_field_gap",
    "optimal_descent",
    "probabilistic_pca",
    "probability_flow_log_density",
    "quadratic_energy",
    "rate_distortion",
    "relative_entropy",
    "reverse_water_filling",
    "three_families",
    "variational_free_energy",
    "whitening_log_density",
]

LOG_2PI = math.log(2 * math.pi)
NOTHING = 1e-32  # of its peak: what a density below weighs is lost in rounding, even times the logarithm of an underflow
Energy = Callable[[torch.Tensor], torch.Tensor]


class Descent(NamedTuple):
    """The best constants of gradient descent on a quadratic, and what an error keeps of itself in a step."""

    rate: float
    momentum: float
    contraction: float


class Posterior(NamedTuple):
    """A Gaussian law of the latent z: mean (..., k), covariance (k, k), the same for all y."""

    mean: torch.Tensor
    covariance: torch.Tensor


class LinearModel(NamedTuple):
    """y = Wz + noise of variance 1/(2β) in each direction, z ~ N(0, I)."""

    decoder: torch.Tensor  # W, (m, k)
    beta: float


class RateDistortion(NamedTuple):
    """What the latent knows of y, and what it gets wrong, in the mean over y."""

    rate: float  # E KL(q(z|y) ‖ p(z)), nats
    distortion: float  # E |y − Wz|²


class Likelihood(NamedTuple):
    """−E log p_θ of an exponential family with its derivatives in θ."""

    value: torch.Tensor  # θ·E_data φ + log Z
    gradient: torch.Tensor  # (p,) E_data φ − E_θ φ
    hessian: torch.Tensor  # (p, p) Cov_θ φ
    log_z: torch.Tensor


class Projection(NamedTuple):
    """The Gaussian nearest to a law, and how far it is, in nats."""

    mean: float
    std: float
    divergence: float


class Annealed(NamedTuple):
    """Where annealed chains end, and log w = −(work) of each, float64."""

    log_weights: torch.Tensor  # (chains,)
    states: torch.Tensor  # (chains, d)


class LogPartition(NamedTuple):
    """log Z from weights: e^value is unbiased for Z, and the mean of `bound` is on one side of log Z."""

    value: float
    error: float  # one standard error
    bound: float  # mean log weight
    bound_error: float
    effective: float  # (Σw)²/Σw²: how many chains carry the mean


class Answer(NamedTuple):
    """What one family of models says about the density of data."""

    family: str
    model: str
    gives: str  # "exact", "lower bound", "estimate" or "nothing"
    log_density: torch.Tensor | None  # (n,) nats
    error: float  # one standard error of the estimate, common to all data; 0 where nothing is drawn


# ------------------------------------------------------------------------------------------------- what comes in


def _got(value) -> str:
    return f"{value.dtype} of shape {tuple(value.shape)}" if isinstance(value, torch.Tensor) else repr(value)


def _real(value, name: str, shape: str, least: int, most: int | None = None) -> torch.Tensor:
    """Finite floating-point numbers with that many dimensions, as float64."""
    fits = isinstance(value, torch.Tensor) and value.is_floating_point() and value.numel() > 0
    fits = fits and least <= value.ndim <= (least if most is None else most)
    if not fits or not bool(value.detach().isfinite().all()):
        raise ValueError(
            f"{name}: got {_got(value)}; expected finite floating-point numbers of shape {shape}"
        )
    return value.double()


def _grid(grid) -> torch.Tensor:
    grid = _real(grid, "grid", "(n,)", 1)
    if len(grid) < 2 or not bool((grid.diff() > 0).all()):
        raise ValueError(f"grid: got {_got(grid)}; expected at least two ascending points")
    return grid


def _on(grid: torch.Tensor, values, name: str, infinite: float) -> torch.Tensor:
    """Values at the points of the grid, or a function of them; finite but for one infinity, not everywhere."""
    values = values(grid) if callable(values) else values
    fits = isinstance(values, torch.Tensor) and values.is_floating_point() and values.shape[-1:] == grid.shape
    if fits:
        finite = values.detach().isfinite()
        fits = bool((finite | (values.detach() == infinite)).all()) and bool(finite.any(-1).all())
    if not fits:
        raise ValueError(
            f"{name}: got {_got(values)}; expected floating-point numbers at the {len(grid)} points of the grid, "
            f"finite or {infinite}, shape (..., {len(grid)})"
        )
    return values.double()


def _density(values, grid: torch.Tensor, name: str) -> torch.Tensor:
    values = _on(grid, values, name, 0.0)
    if bool((values.detach() < 0).any()):
        raise ValueError(f"{name}: got negative values; expected a density on the grid")
    return values


def _where_it_lives(q: torch.Tensor) -> torch.Tensor:
    """The density, 0 where it is nothing: so a tail that meets an underflow of p is not an infinite divergence."""
    return torch.where(q > NOTHING * q.amax(-1, keepdim=True), q, 0.0)


def _beta(beta, *, zero_temperature: bool = False) -> float:
    if zero_temperature and isinstance(beta, (float, torch.Tensor)) and beta == math.inf:
        return math.inf
    return _number(beta, "beta", 0, strict=True)


def _decoder(decoder) -> torch.Tensor:
    return _real(decoder, "decoder", "(m, k)", 2)


def _data(y, size: int, name: str = "y") -> torch.Tensor:
    """Vectors of the given size, with any shape in front."""
    y = _real(y, name, f"(..., {size})", 1, 99)
    if y.shape[-1] != size:
        raise ValueError(f"{name}: got shape {tuple(y.shape)}; expected (..., {size})")
    return y


def _covariance(covariance, name: str = "covariance") -> torch.Tensor:
    c = _real(covariance, name, "(m, m)", 2)
    if c.shape[0] != c.shape[1] or not torch.allclose(c, c.T, rtol=1e-10, atol=1e-12 * float(c.abs().max())):
        raise ValueError(f"{name}: got {_got(covariance)}; expected a symmetric matrix")
    if int(torch.linalg.cholesky_ex(c).info):
        raise ValueError(f"{name}: got a matrix that is not positive definite")
    return (c + c.T) / 2


# ------------------------------------------------------------------------------------------------- inference


def gradient_descent(
    gradient: Energy, start: torch.Tensor, *, rate: float, steps: int, momentum: float = 0.0
) -> torch.Tensor:
    """y_{k+1} = y_k − rate ∇f(y_k) + momentum (y_k − y_{k−1}), y_{−1} = y_0: inference, or learning, as a descent.

    Parameters
    ----------
    gradient : callable
        y ↦ ∇f(y), of the shape of y.
    start : torch.Tensor
        y_0, any shape.
    rate : float, > 0
    steps : int, ≥ 1
    momentum : float in [0, 1)
        0 is plain descent; with momentum it is Polyak's heavy ball.

    Returns
    -------
    torch.Tensor
        (steps + 1, ...), the path, float64; its first row is the start.

    Raises
    ------
    ValueError
        If a number does not fit, or the descent leaves the finite numbers (the rate is too large).

    Notes
    -----
    Polyak (1964), USSR Comput. Math. Math. Phys. 4, 1.
    """
    y = _real(start, "start", "(...)", 0, 99)
    rate, steps = _number(rate, "rate", 0, strict=True), _count(steps, "steps")
    if _number(momentum, "momentum", 0) >= 1:
        raise ValueError(f"momentum: got {momentum!r}; expected a number in [0, 1)")
    path = torch.empty(steps + 1, *y.shape, dtype=torch.float64)
    path[0], before = y, y
    for k in range(steps):
        y, before = y - rate * gradient(y) + momentum * (y - before), y
        path[k + 1] = y
    if not bool(path.isfinite().all()):
        raise ValueError(f"rate: got {rate}; the descent diverges")
    return path


def optimal_descent(least: float, greatest: float, accelerated: bool = False) -> Descent:
    """The best constants for a quadratic with curvatures between `least` and `greatest`, condition number κ their ratio.

    Plain: rate 2/(λ₋ + λ₊), contraction (κ − 1)/(κ + 1). Heavy ball: rate (2/(√λ₋ + √λ₊))², contraction r = (√κ − 1)/(√κ + 1),
    momentum r².

    Raises
    ------
    ValueError
        Unless 0 < least ≤ greatest.

    Notes
    -----
    Polyak (1964). The error of the heavy ball is r^k times a factor that grows like k.
    """
    low, high = _number(least, "least", 0, strict=True), _number(greatest, "greatest")
    if high < low:
        raise ValueError(f"greatest: got {greatest!r}; expected at least {least!r}")
    if not accelerated:
        return Descent(2 / (low + high), 0.0, (high - low) / (high + low))
    low, high = math.sqrt(low), math.sqrt(high)
    contraction = (high - low) / (high + low)
    return Descent((2 / (low + high)) ** 2, contraction**2, contraction)


def descent_steps(condition: float, accuracy: float, accelerated: bool = False) -> float:
    """Steps to an error `accuracy` times the first: log(1/accuracy)/log(1/contraction) ≈ ½ κ log(1/accuracy), or ½ √κ log(…).

    Parameters
    ----------
    condition : float, > 1
        κ.
    accuracy : float in (0, 1)
    accelerated : bool
        The asymptotic rate of the heavy ball.

    Raises
    ------
    ValueError
        If a number is out of its range.
    """
    _number(condition, "condition", 1, strict=True)
    if _number(accuracy, "accuracy", 0, strict=True) >= 1:
        raise ValueError(f"accuracy: got {accuracy!r}; expected a number in (0, 1)")
    return math.log(accuracy) / math.log(optimal_descent(1.0, condition, accelerated).contraction)


# ------------------------------------------------------------------------------------------------- free energies


def _widths(grid: torch.Tensor) -> torch.Tensor:
    """dz of the trapezoidal rule."""
    return torch.cat([grid.diff()[:1], grid[2:] - grid[:-2], grid.diff()[-1:]]) / 2


def _log_weights(energy, grid, beta: float, log_prior) -> torch.Tensor:
    """log p(z) − βE(z) + log dz at the points of the grid."""
    log_w = _widths(grid).log() - beta * _on(grid, energy, "energy", math.inf)
    return log_w if log_prior is None else log_w + _on(grid, log_prior, "log_prior", -math.inf)


def _some(log_w: torch.Tensor) -> torch.Tensor:
    if not bool((log_w.detach().amax(-1) > -math.inf).all()):
        raise ValueError("log_prior: got no weight where the energy is finite; expected some")
    return log_w


def free_energy(energy, grid: torch.Tensor, beta: float, log_prior=None) -> torch.Tensor:
    """F_β = −(1/β) log ∫ p(z) e^{−βE(z)} dz by the trapezoidal rule; without a prior −(1/β) log Z.

    Parameters
    ----------
    energy : torch.Tensor, shape (..., n), or callable
        E at the points of the grid, or z ↦ E(z); +∞ is a wall.
    grid : torch.Tensor, shape (n,)
        Ascending. It is the space: what lies outside does not count, so it must reach to where p e^{−βE} is gone.
    beta : float, > 0
        Inverse temperature; ∞ gives min_z E over the points where p > 0.
    log_prior : torch.Tensor, shape (n,) or (..., n), or callable, optional
        log p at the points, taken as it is (−∞ where there is none); None is p = 1.

    Returns
    -------
    torch.Tensor
        (...), float64; derivatives in the energies pass through it: they are the averages over the Gibbs law.

    Raises
    ------
    ValueError
        If the grid does not ascend, a shape does not fit, a value is NaN, β ≤ 0, or no point has weight.

    Notes
    -----
    Claims LEC-05, LEC-12, LEC-25. Between β and ∞: F_β − min E ≈ (1/2β) log(βE''/2π) − (1/β) log p at the minimum.
    """
    grid, beta = _grid(grid), _beta(beta, zero_temperature=True)
    if beta == math.inf:
        e = _on(grid, energy, "energy", math.inf)
        log_w = torch.zeros_like(grid) if log_prior is None else _on(grid, log_prior, "log_prior", -math.inf)
        return -_some(torch.where(log_w == -math.inf, -math.inf, -e)).amax(-1)
    return -torch.logsumexp(_some(_log_weights(energy, grid, beta, log_prior)), -1) / beta


def gibbs(energy, grid: torch.Tensor, beta: float, log_prior=None) -> torch.Tensor:
    """q* = p e^{−βE}/∫ p e^{−βE}: the density on the grid, (..., n), normalised by the trapezoidal rule.

    It is the Gibbs law of an energy, and with a prior the posterior of a latent: the law that minimises `variational_free_energy`.
    Arguments and errors as in `free_energy`, but β is finite.
    """
    grid, beta = _grid(grid), _beta(beta)
    log_w = _some(_log_weights(energy, grid, beta, log_prior))
    return torch.softmax(log_w, -1) / _widths(grid)


def relative_entropy(q: torch.Tensor, p: torch.Tensor, grid: torch.Tensor) -> torch.Tensor:
    """KL(q‖p) = ∫ q log(q/p) in nats: what is learned when the belief p becomes q. Trapezoidal rule; ∞ if p = 0 where q is not.

    Parameters
    ----------
    q : torch.Tensor, shape (..., n)
        The new law.
    p : torch.Tensor, shape (..., n)
        The old one; p = 1 gives minus the entropy of q.
    grid : torch.Tensor, shape (n,)

    Raises
    ------
    ValueError
        If the grid does not ascend, a shape does not fit or a density is negative.

    Notes
    -----
    Claim LEC-23: the information gained. Claim PRO-01: along a Fokker–Planck equation with stationary law p it falls at the rate
    T ∫ q |∇ ln(q/p)|².
    """
    grid = _grid(grid)
    q, p = _where_it_lives(_density(q, grid, "q")), _density(p, grid, "p")
    return torch.trapezoid(torch.special.xlogy(q, q) - torch.special.xlogy(q, p), grid)


def variational_free_energy(
    q: torch.Tensor, energy, grid: torch.Tensor, beta: float, log_prior=None
) -> torch.Tensor:
    """L(q) = ∫ q E dz + (1/β) ∫ q log(q/p) dz ≥ F_β, with L(q) − F_β = (1/β) KL(q‖q*).

    Parameters
    ----------
    q : torch.Tensor, shape (..., n)
        A density on the grid. Other arguments and errors as in `free_energy`, but β is finite; +∞ where q > 0 and p = 0.

    Returns
    -------
    torch.Tensor
        (...), float64. −βL is the evidence lower bound (ELBO) of a decoder e^{−βE}.
    """
    grid, beta = _grid(grid), _beta(beta)
    q, e = _where_it_lives(_density(q, grid, "q")), _on(grid, energy, "energy", math.inf)
    log_p = torch.zeros_like(grid) if log_prior is None else _on(grid, log_prior, "log_prior", -math.inf)
    cost = torch.where(q > 0, q * (e - log_p / beta), 0.0)  # where nothing is, nothing is paid
    return torch.trapezoid(cost + torch.special.xlogy(q, q) / beta, grid)


# ------------------------------------------------------------------------------------------------- a linear decoder


def _precision(decoder: torch.Tensor, beta: float) -> torch.Tensor:
    """M = I + 2βWᵀW, the inverse of the posterior covariance of z."""
    return torch.eye(decoder.shape[1], dtype=torch.float64) + 2 * beta * decoder.T @ decoder


def gaussian_free_energy(y: torch.Tensor, decoder: torch.Tensor, beta: float) -> torch.Tensor:
    """F_β(y) = yᵀ(I + 2βWWᵀ)^{−1}y + (1/2β) log det(I + 2βWᵀW), for E = |y − Wz|² and z ~ N(0, I).

    The first term is computed as min_z {|y − Wz|² + |z|²/2β}, a least-squares problem: nothing is lost when β is large.

    Parameters
    ----------
    y : torch.Tensor, shape (..., m)
    decoder : torch.Tensor, shape (m, k)
        W. With orthonormal columns and β = ∞ this is the energy of PCA, |y − UUᵀy|².
    beta : float, > 0
        ∞ gives min_z E = |(I − WW⁺)y|², which is 0 for all y if W has full row rank.

    Returns
    -------
    torch.Tensor
        (...), float64, differentiable.

    Raises
    ------
    ValueError
        If a shape does not fit, a number is not finite or β ≤ 0.

    Notes
    -----
    Claims LEC-21, LEC-22, LEC-09. log N(y; 0, WWᵀ + I/2β) = −βF_β(y) − (m/2) log(π/β): probabilistic PCA (Tipping, Bishop 1999).
    """
    w, beta = _decoder(decoder), _beta(beta, zero_temperature=True)
    m, k = w.shape
    y = _data(y, m)
    target = y.reshape(-1, m).T
    if beta == math.inf:
        residual, entropy = target - w @ (torch.linalg.pinv(w) @ target), 0.0
    else:
        tall = torch.cat([w, torch.eye(k, dtype=torch.float64) / math.sqrt(2 * beta)])
        wide = torch.cat([target, target.new_zeros(k, target.shape[1])])
        residual = wide - tall @ torch.linalg.lstsq(tall, wide).solution
        entropy = torch.logdet(_precision(w, beta)) / (2 * beta)
    return residual.square().sum(0).reshape(y.shape[:-1]) + entropy


def gaussian_posterior(
    y: torch.Tensor, decoder: torch.Tensor, beta: float, factorised: bool = False
) -> Posterior:
    """q*(z|y) = N(2βM^{−1}Wᵀy, M^{−1}), M = I + 2βWᵀW; factorised, the nearest Π_i q_i(z_i): the same mean, variances 1/M_ii.

    Parameters
    ----------
    y : torch.Tensor, shape (..., m)
    decoder : torch.Tensor, shape (m, k)
    beta : float, > 0
    factorised : bool
        The mean-field answer, minimal in KL(q‖q*).

    Raises
    ------
    ValueError
        If a shape does not fit, a number is not finite or β ≤ 0.

    Notes
    -----
    Bishop (2006), Pattern recognition and machine learning, section 10.1.2 for the factorised law.
    """
    w, beta = _decoder(decoder), _beta(beta)
    y, precision = _data(y, len(w)), _precision(w, beta)
    full = torch.linalg.inv(precision)
    mean = 2 * beta * y @ w @ full
    return Posterior(mean, torch.diag(1 / precision.diagonal()) if factorised else full)


def gaussian_bound(y: torch.Tensor, decoder: torch.Tensor, beta: float, posterior: Posterior) -> torch.Tensor:
    """L(q) of a Gaussian q = N(μ, S): |y − Wμ|² + tr(WSWᵀ) + (1/2β)[tr S + |μ|² − k − log det S], (...), ≥ F_β(y).

    Parameters
    ----------
    y : torch.Tensor, shape (..., m)
    decoder : torch.Tensor, shape (m, k)
    beta : float, > 0
    posterior : (mean, covariance), shapes (..., k) and (k, k)

    Raises
    ------
    ValueError
        If a shape does not fit, a number is not finite, S is not positive definite or β ≤ 0.

    Notes
    -----
    −βL(q) − (m/2) log(π/β) is the ELBO of a variational autoencoder with a linear decoder of noise 1/2β (Kingma, Welling 2014).
    """
    w, beta = _decoder(decoder), _beta(beta)
    m, k = w.shape
    y, mean, s = _data(y, m), _data(posterior[0], k, "posterior"), _covariance(posterior[1], "posterior")
    if len(s) != k:
        raise ValueError(f"posterior: got {_got(s)}; expected a covariance of shape ({k}, {k})")
    kl = 0.5 * (s.trace() + mean.square().sum(-1) - k - torch.logdet(s))
    return (y - mean @ w.T).square().sum(-1) + ((w @ s) * w).sum() + kl / beta


def mean_field_gap(decoder: torch.Tensor, beta: float) -> float:
    """min KL(Π_i q_i ‖ q*) = ½[Σ_i log M_ii − log det M], M = I + 2βWᵀW, in nats: what a factorised posterior costs, for every y.

    It is β(L − F_β), and 0 if and only if the columns of W are orthogonal. Raises ValueError as `gaussian_posterior`.
    """
    precision = _precision(_decoder(decoder), _beta(beta))
    return float(0.5 * (precision.diagonal().log().sum() - torch.logdet(precision)))


def probabilistic_pca(covariance: torch.Tensor, rank: int, beta: float | None = None) -> LinearModel:
    """The likeliest linear decoder of `rank` latents: W = U(Λ − I/2β)₊^{1/2} with the leading eigenvectors U of the covariance.

    Parameters
    ----------
    covariance : torch.Tensor, shape (m, m)
        Of the data, which have mean 0.
    rank : int
        k ≤ m.
    beta : float, optional
        Noise 1/2β. None (only for k < m) takes the likeliest: the mean of the discarded eigenvalues.

    Raises
    ------
    ValueError
        If the covariance is not symmetric positive definite, or the rank or β does not fit.

    Notes
    -----
    Tipping, Bishop (1999), J. R. Stat. Soc. B 61, 611, eqs. (7), (8).
    """
    c = _covariance(covariance)
    if not _count(rank, "rank") <= len(c) - (beta is None):
        raise ValueError(
            f"rank: got {rank}; expected at most {len(c)}, and less if the noise is to be found too"
        )
    values, vectors = torch.linalg.eigh(c)
    noise = float(values[:-rank].mean()) if beta is None else 1 / (2 * _beta(beta))
    lead = vectors[:, -rank:].flip(1), values[-rank:].flip(0)
    return LinearModel(lead[0] * (lead[1] - noise).clamp(min=0).sqrt(), 1 / (2 * noise))


def rate_distortion(covariance: torch.Tensor, decoder: torch.Tensor, beta: float) -> RateDistortion:
    """Rate E KL(q*(z|y)‖p(z)) and distortion E |y − Wz|² of the exact posterior, for y ~ N(0, C): E F_β = D + R/β.

    Raises
    ------
    ValueError
        If C is not symmetric positive definite, a shape does not fit or β ≤ 0.

    Notes
    -----
    Claim LEC-24. With the decoder of `probabilistic_pca` at full rank it is Shannon's curve, `reverse_water_filling`; Alemi et al. (2018).
    """
    w, beta = _decoder(decoder), _beta(beta)
    c, inverse = _covariance(covariance), torch.linalg.inv(_precision(w, beta))
    if len(c) != len(w):
        raise ValueError(f"covariance: got {_got(covariance)}; expected ({len(w)}, {len(w)}), the rows of W")
    gain = 2 * beta * inverse @ w.T  # the posterior mean is gain @ y
    means = gain @ c @ gain.T
    rest = torch.eye(len(w), dtype=torch.float64) - w @ gain
    distortion = (rest @ c @ rest.T).trace() + (w @ inverse @ w.T).trace()
    rate = 0.5 * (inverse.trace() + means.trace() - w.shape[1] - torch.logdet(inverse))
    return RateDistortion(float(rate), float(distortion))


def reverse_water_filling(variances: torch.Tensor, level: float) -> RateDistortion:
    """Shannon's least rate of a Gaussian source: D = Σ min(λ_i, θ), R = Σ ½ log⁺(λ_i/θ), θ the level of the water.

    Raises
    ------
    ValueError
        If a variance or the level is not positive.

    Notes
    -----
    Cover, Thomas (2006), Elements of information theory, theorem 10.3.3. At β the level is 1/2β.
    """
    v, level = _real(variances, "variances", "(m,)", 1), _number(level, "level", 0, strict=True)
    if bool((v <= 0).any()):
        raise ValueError(f"variances: got {v.tolist()}; expected positive numbers")
    return RateDistortion(float((v / level).log().clamp(min=0).sum() / 2), float(v.clamp(max=level).sum()))


# ------------------------------------------------------------------------------------------------- likelihood


def exponential_family(
    theta: torch.Tensor, data_mean: torch.Tensor, features: torch.Tensor, grid: torch.Tensor
) -> Likelihood:
    """ℓ(θ) = −E_data log p_θ = θ·E_data φ + log Z for p_θ = e^{−θ·φ}/Z, with gradient E_data φ − E_θ φ and Hessian Cov_θ φ.

    Parameters
    ----------
    theta : torch.Tensor, shape (p,)
    data_mean : torch.Tensor, shape (p,)
        E_data φ: all that the model ever sees of the data.
    features : torch.Tensor, shape (n, p)
        φ at the points of the grid.
    grid : torch.Tensor, shape (n,)

    Returns
    -------
    Likelihood
        float64 tensors. ℓ is convex, strictly if the features and 1 are linearly independent.

    Raises
    ------
    ValueError
        If a shape does not fit, a number is not finite or the grid does not ascend. That e^{−θ·φ} is gone at the ends of the grid
        is not checked.

    Notes
    -----
    Claims EBM-1 … EBM-5.
    """
    grid, theta = _grid(grid), _real(theta, "theta", "(p,)", 1)
    phi = _real(features, "features", "(n, p)", 2)
    if phi.shape != (len(grid), len(theta)):
        raise ValueError(f"features: got {_got(phi)}; expected ({len(grid)}, {len(theta)})")
    wanted = _real(data_mean, "data_mean", "(p,)", 1)
    if wanted.shape != theta.shape:
        raise ValueError(f"data_mean: got {_got(wanted)}; expected ({len(theta)},), as theta")
    log_w = _log_weights(phi @ theta, grid, 1.0, None)
    log_z = torch.logsumexp(log_w, 0)
    weight = torch.exp(log_w - log_z)
    mean = weight @ phi
    centred = phi - mean
    return Likelihood(theta @ wanted + log_z, wanted - mean, centred.T @ (weight[:, None] * centred), log_z)


def likelihood_gradient(
    energy: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    theta: torch.Tensor,
    data: torch.Tensor,
    model: torch.Tensor,
    weights: torch.Tensor | None = None,
) -> torch.Tensor:
    """∇_θ ℓ = E_data ∇_θ U_θ − E_model ∇_θ U_θ for any energy: lower what was seen, raise what the model dreams.

    Parameters
    ----------
    energy : callable
        (θ, x) ↦ U_θ(x), of shape (len(x),).
    theta : torch.Tensor
    data : torch.Tensor, shape (n, ...)
    model : torch.Tensor, shape (m, ...)
        Draws from e^{−U_θ}/Z_θ, or the points of a quadrature.
    weights : torch.Tensor, shape (m,), optional
        Of the model's points, made to sum to one: density × spacing on a grid, or importance weights. None: all equal.

    Returns
    -------
    torch.Tensor
        Of the shape of θ, float64. Multiplied by β it is the gradient at inverse temperature β, if the draws are from e^{−βU}.

    Raises
    ------
    ValueError
        If θ is not finite, a shape does not fit or the weights are not those of a mean.

    Notes
    -----
    Claims LEC-13, EBM-4. Draws from any other law give the gradient of something else.
    """
    theta = _real(theta, "theta", "(...)", 0, 99).detach().requires_grad_()
    weights = torch.ones(len(model), dtype=torch.float64) if weights is None else weights
    weights = _real(weights, "weights", "(m,)", 1)
    if weights.shape != (len(model),) or bool((weights < 0).any()) or not bool(weights.sum() > 0):
        raise ValueError(f"weights: got {_got(weights)}; expected {len(model)} numbers >= 0, not all 0")
    seen, dreamt = energy(theta, data), energy(theta, model)
    if seen.shape != (len(data),) or dreamt.shape != (len(model),):
        raise ValueError(
            f"energy: got shapes {tuple(seen.shape)}, {tuple(dreamt.shape)}; expected one a point"
        )
    (gradient,) = torch.autograd.grad(seen.mean() - (weights / weights.sum()) @ dreamt.double(), theta)
    return gradient


def gaussian_projection(log_density: torch.Tensor, grid: torch.Tensor, reverse: bool = False) -> Projection:
    """The Gaussian q nearest to p: argmin KL(p‖q), which covers all modes, or in reverse argmin KL(q‖p), which takes one.

    Parameters
    ----------
    log_density : torch.Tensor, shape (n,)
        log p on the grid, up to a constant; −∞ where p vanishes (then KL(q‖p) is infinite for every Gaussian: not in reverse).
    grid : torch.Tensor, shape (n,)
    reverse : bool

    Returns
    -------
    Projection
        KL(p‖q) is minimal at the mean and variance of p. KL(q‖p) has a minimum at each mode; the lowest is taken.

    Raises
    ------
    ValueError
        If a shape does not fit or a value is NaN.

    Notes
    -----
    Claim KOF-5; Bishop (2006), section 10.1.2. In reverse the grid must reach beyond the modes by several of their widths.
    """
    grid = _grid(grid).detach()
    energy = -_on(grid, log_density, "log_density", -math.inf).detach()
    if energy.ndim != 1 or (reverse and not bool(energy.isfinite().all())):
        raise ValueError(f"log_density: got {_got(log_density)}; expected ({len(grid)},), finite in reverse")
    p, log_z = gibbs(energy, grid, 1.0), -free_energy(energy, grid, 1.0)
    mean = torch.trapezoid(p * grid, grid)
    std = torch.trapezoid(p * (grid - mean).square(), grid).sqrt()
    if not reverse:
        entropy = -relative_entropy(p, torch.ones_like(p), grid)
        return Projection(float(mean), float(std), float(0.5 * (LOG_2PI + 1) + std.log() - entropy))
    x, u = grid.numpy(), (energy + log_z).numpy()
    width = _widths(grid).numpy()

    def divergence(at: np.ndarray) -> float:
        q = np.exp(-0.5 * ((x - at[0]) / math.exp(at[1])) ** 2) * width
        return float(q @ u / q.sum() - at[1] - 0.5 * (LOG_2PI + 1))

    bottoms = [i for i in range(1, len(x) - 1) if u[i - 1] >= u[i] < u[i + 1]] or [int(u.argmin())]
    starts = [(x[i], math.log(float(std) * scale)) for i in bottoms for scale in (0.2, 1.0)]
    options = {"xatol": 1e-10, "fatol": 1e-14, "maxiter": 4000}
    found = [minimize(divergence, at, method="Nelder-Mead", options=options) for at in starts]
    best = min(found, key=lambda result: result.fun)
    return Projection(float(best.x[0]), math.exp(best.x[1]), float(best.fun))


# ------------------------------------------------------------------------------------------------- log Z by annealing


def quadratic_energy(x: torch.Tensor, covariance: torch.Tensor) -> torch.Tensor:
    """U = ½ xᵀΣ^{−1}x, the energy of N(0, Σ), with log Z = ½ log det 2πΣ; without the ½ it is that of N(0, Σ/2).

    Parameters
    ----------
    x : torch.Tensor, shape (..., d)
    covariance : torch.Tensor, shape (d, d)

    Returns
    -------
    torch.Tensor
        (...), float64.

    Raises
    ------
    ValueError
        If Σ is not symmetric positive definite or a shape does not fit.
    """
    c = _covariance(covariance)
    x = _data(x, len(c), "x")
    return 0.5 * (x @ torch.linalg.inv(c) * x).sum(-1)


def langevin(
    x: torch.Tensor,
    energy: Energy,
    step: float,
    *,
    metropolis: bool = True,
    generator: torch.Generator | None = None,
) -> tuple[torch.Tensor, float]:
    """One step y = x − h∇U + √(2h) z for each point, kept or refused by Metropolis so that e^{−U}/Z is stationary exactly.

    Parameters
    ----------
    x : torch.Tensor, shape (batch, d)
    energy : callable
        x ↦ U(x), shape (batch,), differentiable.
    step : float, > 0
        h.
    metropolis : bool
        False keeps every proposal: the law is then off by O(h).
    generator : torch.Generator, optional
        None draws fresh entropy.

    Returns
    -------
    (torch.Tensor, float)
        The new points, dtype of x, and the share of proposals that were kept. A proposal with an infinite energy is refused.

    Raises
    ------
    ValueError
        If x is not finite of shape (batch, d), the energies have another shape than (batch,), or the step is not positive.

    Notes
    -----
    Roberts, Tweedie (1996), Bernoulli 2, 341; Rossky, Doll, Friedman (1978), J. Chem. Phys. 69, 4628.
    """
    _real(x, "x", "(batch, d)", 2)
    h, own = _number(step, "step", 0, strict=True), _stream(generator, x.device)
    z = torch.randn(x.shape, generator=own, dtype=x.dtype, device=x.device)
    u, slope = _value_and_slope(energy, x)
    y = x - h * slope + math.sqrt(2 * h) * z
    if not metropolis:
        return y, 1.0
    v, back = _value_and_slope(energy, y)
    # log of N(x; y − h∇U(y), 2h)/N(y; x − h∇U(x), 2h)
    detour = (z.square().sum(1) / 2) - (x - y + h * back).square().sum(1) / (4 * h)
    uniform = torch.rand(len(x), generator=own, dtype=x.dtype, device=x.device)
    kept = uniform.log() < u - v + detour  # NaN, from infinite energies, compares false: refused
    return torch.where(kept[:, None], y, x), float(kept.double().mean())


def _value_and_slope(energy: Energy, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    x = x.detach().requires_grad_()
    u = energy(x)
    if not isinstance(u, torch.Tensor) or u.shape != x.shape[:1]:
        raise ValueError(f"energy: got {_got(u)}; expected one number a point, shape ({len(x)},)")
    (slope,) = torch.autograd.grad(u.sum(), x)
    return u.detach(), slope


def anneal(
    start: torch.Tensor,
    difference: Energy,
    move: Callable[[torch.Tensor, float], torch.Tensor],
    schedule: torch.Tensor,
) -> Annealed:
    """Draws from e^{−U_0} are led along U_λ = U_0 + λ(U_1 − U_0); E w = Z_end/Z_start for any schedule and any moves.

    At each change of λ, log w falls by (λ' − λ)(U_1 − U_0)(x): the work; then one move at λ' that leaves e^{−U_λ'} invariant.

    Parameters
    ----------
    start : torch.Tensor, shape (chains, d)
        Exact independent draws at the first λ of the schedule.
    difference : callable
        x ↦ U_1(x) − U_0(x), shape (chains,).
    move : callable
        (x, λ) ↦ new x.
    schedule : torch.Tensor, shape (K + 1,)
        λ from 0 to 1, or from 1 to 0 (then the start is drawn from e^{−U_1}, and E w = Z_0/Z_1).

    Returns
    -------
    Annealed

    Raises
    ------
    ValueError
        If the schedule does not run monotonically between 0 and 1, or the differences are not finite, one a chain.

    Notes
    -----
    Neal (2001), Stat. Comput. 11, 125; Jarzynski (1997), Phys. Rev. Lett. 78, 2690: log w is minus the work, E log w ≤ log E w.
    """
    lam = _real(schedule, "schedule", "(K + 1,)", 1)
    ends = {float(lam[0]), float(lam[-1])}
    if ends != {0.0, 1.0} or not bool((lam.diff() * (lam[-1] - lam[0]) > 0).all()):
        raise ValueError(f"schedule: got {_got(lam)}; expected a monotone path from 0 to 1, or from 1 to 0")
    x, log_w = start, torch.zeros(len(start), dtype=torch.float64)
    for before, after in pairwise(lam.tolist()):
        d = difference(x)
        if d.shape != log_w.shape or not bool(d.isfinite().all()):
            raise ValueError(f"difference: got {_got(d)}; expected one finite number a chain")
        log_w = log_w - (after - before) * d.double()
        x = move(x, after)
    return Annealed(log_w, x)


def log_partition(log_weights: torch.Tensor, log_start: float = 0.0) -> LogPartition:
    """log Z_end = log Z_start + log mean w, its error sd(w)/(w̄ √n), and the bound log Z_start + mean log w ≤ log Z_end.

    Parameters
    ----------
    log_weights : torch.Tensor, shape (n,)
        Of `anneal`.
    log_start : float
        log Z at the start.

    Raises
    ------
    ValueError
        If there are fewer than two weights, or one is not finite.

    Notes
    -----
    The error is that of the logarithm to first order, and trustworthy where `effective` is large; log mean w itself lies low by ½ error².
    """
    log_w, log_start = _real(log_weights, "log_weights", "(n,)", 1), _number(log_start, "log_start")
    if len(log_w) < 2:
        raise ValueError(f"log_weights: got {_got(log_w)}; expected at least two")
    n, peak = len(log_w), log_w.max()
    w = torch.exp(log_w - peak)
    return LogPartition(
        value=float(log_start + peak + w.mean().log()),
        error=float(w.std() / w.mean() / math.sqrt(n)),
        bound=float(log_start + log_w.mean()),
        bound_error=float(log_w.std() / math.sqrt(n)),
        effective=float(w.sum().square() / w.square().sum()),
    )


def _backwards(estimate: LogPartition) -> LogPartition:
    """log Z from chains that were run to a known Z: signs turn, and the bound becomes an upper one."""
    return estimate._replace(value=-estimate.value, bound=-estimate.bound)


def annealed_log_z(
    energy: Energy,
    dimension: int,
    schedule: torch.Tensor,
    *,
    chains: int = 1000,
    step: float = 0.1,
    moves: int = 1,
    samples: torch.Tensor | None = None,
    generator: torch.Generator | None = None,
) -> LogPartition:
    """log ∫ e^{−U(x)} dx over R^d by annealing from N(0, I), log Z_0 = (d/2) log 2π, with Langevin–Metropolis moves.

    Parameters
    ----------
    energy : callable
        x ↦ U(x) of points (chains, d), shape (chains,), differentiable.
    dimension : int
        d.
    schedule : torch.Tensor, shape (K + 1,)
        λ from 0 to 1.
    chains : int
        Independent paths, float64.
    step : float, > 0
        Of `langevin`; `moves` of them at each λ.
    samples : torch.Tensor, shape (chains, d), optional
        Exact draws from e^{−U}/Z. The path is then run backwards, and `bound` lies above log Z instead of below. Trust it more
        than `value` there: weights that grow with the energy rest on draws that are rarely seen.
    generator : torch.Generator, optional
        None draws fresh entropy.

    Returns
    -------
    LogPartition

    Raises
    ------
    ValueError
        If a number, a shape or the schedule does not fit, or the energy of a point is not finite.
    """
    d, own = _count(dimension, "dimension"), _stream(generator)
    chains, moves = _count(chains, "chains", 2), _count(moves, "moves")
    schedule = _real(schedule, "schedule", "(K + 1,)", 1)
    if samples is None:
        start = torch.randn(chains, d, generator=own, dtype=torch.float64)
    else:
        start, schedule = _data(_real(samples, "samples", f"(n, {d})", 2), d, "samples"), schedule.flip(0)

    def base(x: torch.Tensor) -> torch.Tensor:
        return x.square().sum(1) / 2

    def move(x: torch.Tensor, lam: float) -> torch.Tensor:
        for _ in range(moves):
            x, _ = langevin(x, lambda y: (1 - lam) * base(y) + lam * energy(y), step, generator=own)
        return x

    log_start = d / 2 * LOG_2PI
    log_w = anneal(start, lambda x: (energy(x) - base(x)).detach(), move, schedule).log_weights
    return (
        log_partition(log_w, log_start) if samples is None else _backwards(log_partition(log_w, -log_start))
    )


def annealed_ising(
    couplings: torch.Tensor,
    field: torch.Tensor | None,
    beta: float,
    schedule: torch.Tensor,
    *,
    chains: int = 1000,
    sweeps: int = 1,
    samples: torch.Tensor | None = None,
    generator: torch.Generator | None = None,
) -> LogPartition:
    """log Σ_s e^{−βH(s)}, H = −½ sᵀJs − h·s, by heating down from β = 0, where Z_0 = 2^N, with heat-bath moves.

    Parameters
    ----------
    couplings : torch.Tensor, shape (N, N)
        Symmetric, zero diagonal.
    field : torch.Tensor, shape (N,), or None
    beta : float, > 0
    schedule : torch.Tensor, shape (K + 1,)
        λ from 0 to 1; the inverse temperature on the way is λβ.
    chains : int
    sweeps : int
        At each λ; a sweep is N updates at random sites.
    samples : torch.Tensor, shape (chains, N), optional
        Exact draws at β; the path then runs backwards, and `bound` lies above log Z (see `annealed_log_z`).
    generator : torch.Generator, optional

    Returns
    -------
    LogPartition

    Raises
    ------
    ValueError
        If a number, a shape or the schedule does not fit, or the couplings have a diagonal (updates would not keep the Gibbs law).
    """
    beta, own = _beta(beta), _stream(generator)
    couplings = _real(couplings, "couplings", "(N, N)", 2)
    n = len(couplings)
    if couplings.shape != (n, n) or bool((couplings.diagonal() != 0).any()):
        raise ValueError(f"couplings: got {_got(couplings)}; expected a square matrix with zero diagonal")
    schedule = _real(schedule, "schedule", "(K + 1,)", 1)
    if samples is None:
        start = hebbian.rademacher(0.0, (_count(chains, "chains", 2), n), generator=own)
    else:
        start, schedule = samples, schedule.flip(0)

    def difference(spins: torch.Tensor) -> torch.Tensor:
        return beta * hebbian.energy(spins, couplings, field)

    def move(spins: torch.Tensor, lam: float) -> torch.Tensor:
        if lam == 0:  # infinite temperature: the last weight is in, and where the chains go does not matter
            return spins
        return hebbian.evolve(
            spins, couplings, sweeps=sweeps, temperature=1 / (lam * beta), field=field, generator=own
        )

    log_w = anneal(start, difference, move, schedule).log_weights
    log_start = n * math.log(2)
    return (
        log_partition(log_w, log_start) if samples is None else _backwards(log_partition(log_w, -log_start))
    )


# ------------------------------------------------------------------------------------------------- three families


def autoregressive_log_density(y: torch.Tensor, covariance: torch.Tensor) -> torch.Tensor:
    """log N(y; 0, C) as Σ_i log p(y_i | y_{<i}): each coordinate regressed on those before it. (...), exact.

    Raises
    ------
    ValueError
        If C is not symmetric positive definite or a shape does not fit.
    """
    c = _covariance(covariance)
    y = _data(y, len(c))
    total = torch.zeros(y.shape[:-1], dtype=torch.float64)
    for i in range(len(c)):
        weights = torch.linalg.solve(c[:i, :i], c[:i, i])
        variance = c[i, i] - c[:i, i] @ weights
        error = y[..., i] - y[..., :i] @ weights
        total = total - 0.5 * (error.square() / variance + variance.log() + LOG_2PI)
    return total


def whitening_log_density(y: torch.Tensor, covariance: torch.Tensor) -> torch.Tensor:
    """log N(y; 0, C) by a linear flow: u = C^{−1/2}y is white, and log p(y) = log N(u; 0, I) + log|det C^{−1/2}|. (...), exact.

    Raises
    ------
    ValueError
        If C is not symmetric positive definite or a shape does not fit.
    """
    values, vectors = torch.linalg.eigh(_covariance(covariance))
    y = _data(y, len(values))
    u = (y @ vectors) / values.sqrt() @ vectors.T
    return -0.5 * (u.square().sum(-1) + len(values) * LOG_2PI + values.log().sum())


def probability_flow_log_density(
    y: torch.Tensor, covariance: torch.Tensor, horizon: float = 6.0, tolerance: float = 1e-10
) -> torch.Tensor:
    """log p(y) of a diffusion model by its ODE dx/dt = −x − S(x, t): log N(x_T; 0, I) + ∫_0^T ∇·(−x − S) dt, S the exact score.

    Parameters
    ----------
    y : torch.Tensor, shape (n, m)
    covariance : torch.Tensor, shape (m, m)
        C of the data; at time t the law is N(0, Γ_t), Γ_t = Ce^{−2t} + Δ_t, and S = −Γ_t^{−1}x.
    horizon : float, > 0
        T. What is left of the data there, (λ − 1)e^{−2T} per mode, is the only error in principle.
    tolerance : float, > 0
        Of the solver.

    Returns
    -------
    torch.Tensor
        (n,), float64.

    Raises
    ------
    ValueError
        If C is not symmetric positive definite, or a shape or number does not fit.

    Notes
    -----
    Song et al. (2021), section 4.3. Held here to the Gaussian: the general solver is in `diffusion.score`.
    """
    values, vectors = torch.linalg.eigh(_covariance(covariance))
    y = _data(_real(y, "y", "(n, m)", 2), len(values))
    horizon = _number(horizon, "horizon", 0, strict=True)
    tolerance = _number(tolerance, "tolerance", 0, strict=True)
    v, shape = values.numpy(), y.shape

    def velocity(t: float, state: np.ndarray) -> np.ndarray:
        gain = 1 / (1 + (v - 1) * math.exp(-2 * t)) - 1  # dx/dt = gain x in each mode, ∇·v = Σ gain
        return np.append((state[:-1].reshape(shape) * gain).ravel(), gain.sum())

    start = np.append((y @ vectors).numpy().ravel(), 0.0)
    end = solve_ivp(velocity, (0, horizon), start, method="DOP853", rtol=tolerance, atol=tolerance).y[:, -1]
    x, volume = torch.from_numpy(end[:-1].copy()).reshape(shape), end[-1]
    return -0.5 * (x.square().sum(1) + len(values) * LOG_2PI) + volume


def diffusion_bound(
    y: torch.Tensor, covariance: torch.Tensor, steps: int, horizon: float = 6.0
) -> torch.Tensor:
    """The ELBO of a chain of `steps` Gaussian kernels with the exact means and the variance β = 1 − e^{−2T/K} of the forward step.

    ELBO(y) = E[log N(x_K; 0, I)] + Σ_k ½(1 − E r_k²/β) in each mode, r_k = x_{k−1} − E[x_{k−1}|x_k], the averages over the forward
    chain from y; below log p(y), in the mean over the data by Σ_k KL of the kernels + KL of the start, → 0 for K → ∞.

    Parameters
    ----------
    y : torch.Tensor, shape (..., m)
    covariance : torch.Tensor, shape (m, m)
    steps : int
        K, of length T/K each.
    horizon : float, > 0
        T.

    Returns
    -------
    torch.Tensor
        (...), float64, no noise: every average is closed.

    Raises
    ------
    ValueError
        If C is not symmetric positive definite, or a shape or number does not fit.

    Notes
    -----
    Ho, Jain, Abbeel (2020), eq. (5), with their larger variance; Sohl-Dickstein et al. (2015).
    """
    values, vectors = torch.linalg.eigh(_covariance(covariance))
    u = _data(y, len(values)) @ vectors
    steps, horizon = _count(steps, "steps"), _number(horizon, "horizon", 0, strict=True)
    t = torch.linspace(0, horizon, steps + 1, dtype=torch.float64)[:, None]
    kept, delta = torch.exp(-t), -torch.expm1(-2 * t)
    gamma = values * kept.square() + delta  # (K + 1, m)
    root, noise = math.exp(-horizon / steps), -math.expm1(-2 * horizon / steps)
    pull = root * gamma[:-1] / gamma[1:]  # E[x_{k−1}|x_k] = pull x_k
    # r_k given y: mean (s_{k−1} − pull s_k) u, variance that of x_{k−1}(1 − pull √α) − pull √β z
    bias = kept[:-1] - pull * kept[1:]
    spread = delta[:-1] * (1 - pull * root).square() + pull.square() * noise
    start = -0.5 * (kept[-1].square() * u.square() + delta[-1] + LOG_2PI)
    kernels = 0.5 * (1 - spread / noise).sum(0) - 0.5 * (bias.square() / noise).sum(0) * u.square()
    return (start + kernels).sum(-1)


def three_families(
    y: torch.Tensor,
    decoder: torch.Tensor,
    beta: float,
    *,
    steps: int = 100,
    rungs: int = 200,
    chains: int = 1000,
    generator: torch.Generator | None = None,
) -> list[Answer]:
    """One law, N(0, WWᵀ + I/2β), as each family of models would tell it: who gives log p(y), a bound, an estimate, nothing.

    Parameters
    ----------
    y : torch.Tensor, shape (n, m)
        Data.
    decoder : torch.Tensor, shape (m, k)
    beta : float, > 0
    steps : int
        Kernels of the diffusion chain.
    rungs, chains : int
        Temperatures and paths of the annealing that finds log Z of the energy model.
    generator : torch.Generator, optional
        For the annealing.

    Returns
    -------
    list of Answer
        Each model knows its parameters exactly, so that what differs is only what its family can compute.

    Raises
    ------
    ValueError
        If a shape or a number does not fit.

    Notes
    -----
    Claim KOF-2.
    """
    w, beta = _decoder(decoder), _beta(beta)
    m = len(w)
    y = _data(_real(y, "y", "(n, m)", 2), m)
    c = w @ w.T + torch.eye(m, dtype=torch.float64) / (2 * beta)
    constant = -m / 2 * math.log(math.pi / beta)
    precision = torch.linalg.inv(c)

    def energy(x: torch.Tensor) -> torch.Tensor:
        return 0.5 * (x @ precision * x).sum(-1)

    # The stiffest mode, of variance at least 1/2β, limits the step.
    stiff = min(1.0, float(torch.linalg.eigvalsh(c)[0]))
    schedule = torch.linspace(0, 1, _count(rungs, "rungs") + 1, dtype=torch.float64)
    log_z = annealed_log_z(energy, m, schedule, chains=chains, step=0.5 * stiff, generator=generator)

    def elbo(factorised: bool) -> torch.Tensor:
        q = gaussian_posterior(y, w, beta, factorised)
        return constant - beta * gaussian_bound(y, w, beta, q)

    return [
        Answer("normalised by design", "autoregressive", "exact", autoregressive_log_density(y, c), 0.0),
        Answer("normalised by design", "normalizing flow", "exact", whitening_log_density(y, c), 0.0),
        Answer("normalised by design", "autoencoder, full posterior", "lower bound", elbo(False), 0.0),
        Answer("normalised by design", "autoencoder, factorised", "lower bound", elbo(True), 0.0),
        Answer("normalised afterwards", "energy", "estimate", -energy(y) - log_z.value, log_z.error),
        Answer("generating only", "diffusion, ODE", "exact", probability_flow_log_density(y, c), 0.0),
        Answer("generating only", "diffusion, chain", "lower bound", diffusion_bound(y, c, steps), 0.0),
        Answer("generating only", "adversarial", "nothing", None, 0.0),
    ]
