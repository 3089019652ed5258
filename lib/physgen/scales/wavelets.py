"""Denoising in a basis, and wavelets (the chapter `scales/wavelets`).

A signal x of dimension d is seen as y = x + σz; ⟨x, ψ_k⟩ are its coefficients in an orthonormal basis, those of z are again standard
normal. Errors are E|x̂ − x|², summed over the d coefficients, never divided by d. Five of them are at the heart of the chapter:

    Wiener, x of covariance C with eigenvalues b_k        H = C (C + σ²)^{−1},        Σ_k b_k σ²/(b_k + σ²)
    attenuation oracle, one x, best factor for each k     ε_a² = Σ_k |x_k|² σ²/(|x_k|² + σ²)
    binary oracle, best factor 0 or 1                     ε_b² = Σ_k min(|x_k|², σ²) = Mσ² + |x − x_M|²
    soft threshold at T                                   σ² Σ_k r(T/σ, x_k/σ)
    its bound at T = σ√(2 log d)                          (2 log d + 1)(σ² + ε_b²)

with ε_a² ≤ ε_b² ≤ 2ε_a², r the closed form `soft_threshold_risk`, M = #{|x_k| ≥ σ} and x_M the M largest terms of x. Wavelets make ε_b small
where x jumps: ψ_{j,n}(t) = 2^{−j/2} ψ((t − 2^j n)/2^j). `dwt`, `idwt`, `dwt2`, `idwt2` are the kernels `physgen.kernels.wavelet`: periodic,
orthonormal, averages then details coarse to fine, Haar's detail (left − right)/√2. Logarithms are natural. The network that is trained to
denoise photographs is in `physgen.scales.photographs`.
"""

from __future__ import annotations

import math
from itertools import product
from typing import NamedTuple

import numpy as np
import scipy.fft
import torch
from scipy.optimize import minimize_scalar
from torch.special import ndtr

from physgen.checks import count, number
from physgen.kernels.wavelet import WAVELETS, dwt, dwt2, idwt, idwt2

__all__ = [
    "BASES",
    "Extreme",
    "Oracles",
    "analyse",
    "approximation_errors",
    "attenuation_risk",
    "best_terms",
    "covariance_in_basis",
    "denoise",
    "dwt",
    "dwt2",
    "filter_error",
    "haar_function",
    "haar_spectrum",
    "hard_threshold",
    "hard_threshold_risk",
    "idwt",
    "idwt2",
    "largest_ratio",
    "minimax_bound",
    "oracle_risks",
    "piecewise",
    "psnr",
    "radial_spectrum",
    "smallest_ratio",
    "soft_threshold",
    "soft_threshold_risk",
    "sure",
    "sure_threshold",
    "synthesise",
    "threshold_risk",
    "universal_bound",
    "universal_threshold",
    "wiener_denoise",
    "wiener_filter",
    "wiener_mse",
]

BASES = ("fourier", "dct", *WAVELETS)
RULES = "soft", "hard"
ORACLES = "binary", "attenuation"
LIMIT = 1e150  # its square is in range


class Oracles(NamedTuple):
    """Errors of the two oracles, of the shape of the batch."""

    attenuation: torch.Tensor  # ε_a² = Σ |x|²σ²/(|x|² + σ²)
    binary: torch.Tensor  # ε_b² = Σ min(|x|², σ²)


class Extreme(NamedTuple):
    """The largest or smallest value of a curve, and where it is."""

    value: float
    at: float


# ------------------------------------------------------------------------------------------------- what comes in


def _came(x) -> str:
    return f"{x.dtype}, shape {tuple(x.shape)}" if isinstance(x, torch.Tensor) else repr(x)


def _numbers(x, name: str, dims: int = 1, real: bool = False) -> torch.Tensor:
    """Finite numbers below `LIMIT`, with `dims` axes or more, none of these empty, in double precision."""
    kind = isinstance(x, torch.Tensor) and (x.is_floating_point() or (x.is_complex() and not real))
    if not kind or x.ndim < dims or 0 in x.shape[x.ndim - dims :]:
        sort = "real" if real else "real or complex"
        raise ValueError(
            f"{name}: got {_came(x)}; expected a {sort} floating-point tensor, {dims} or more axes"
        )
    if not bool((x.detach().abs() < LIMIT).all()):
        raise ValueError(f"{name}: got NaN, infinity or a number beyond {LIMIT:g}; expected finite numbers")
    return x.to(torch.complex128 if x.is_complex() else torch.float64)


def _sigma(sigma) -> float:
    s = number(sigma, "sigma", 0, strict=True)
    if not 1e-150 < s < LIMIT:
        raise ValueError(f"sigma: got {sigma!r}; expected a number between 1e-150 and {LIMIT:g}")
    return s


def _threshold(threshold) -> float:
    t = number(threshold, "threshold", 0)
    if t > LIMIT:
        raise ValueError(f"threshold: got {threshold!r}; expected at most {LIMIT:g}")
    return t


def _one_of(value, name: str, allowed: tuple) -> str:
    if not isinstance(value, str | int) or value not in allowed:
        raise ValueError(f"{name}: got {value!r}; expected one of {', '.join(map(str, allowed))}")
    return value


def _covariance(covariance) -> torch.Tensor:
    c = _numbers(covariance, "covariance", 2, real=True)
    if (
        c.ndim != 2
        or c.shape[0] != c.shape[1]
        or not torch.allclose(c, c.T, rtol=1e-9, atol=1e-12 * float(c.abs().max()))
    ):
        raise ValueError(f"covariance: got {_came(covariance)}; expected a symmetric matrix (d, d)")
    low, high = torch.linalg.eigvalsh(c)[[0, -1]].tolist()
    if low < -1e-9 * max(high, -low):
        raise ValueError(f"covariance: got an eigenvalue {low:g}; expected a positive semidefinite matrix")
    return c


# ------------------------------------------------------------------------------------------------- Wiener: the best filter for all x


def wiener_filter(covariance: torch.Tensor, sigma: float) -> torch.Tensor:
    """H = C (C + σ²)^{−1}: of all linear x̂ = Hy the best in the mean over centred x of covariance C and noise σ.

    Necessary and sufficient is that the error is orthogonal to what was seen, E[(Hy − x) yᵀ] = H (C + σ²) − C = 0. The eigenvalues are
    b_k/(b_k + σ²), in [0, 1).

    Parameters
    ----------
    covariance : torch.Tensor, shape (d, d)
        C, symmetric positive semidefinite.
    sigma : float, > 0

    Returns
    -------
    torch.Tensor
        (d, d), float64, symmetric. `physgen.diffusion.score.wiener` applies it to points.

    Raises
    ------
    ValueError
        If C is not symmetric and positive semidefinite, or sigma ≤ 0.

    Notes
    -----
    Wiener (1949); notes (6.4.1). Claim WAV-1.
    """
    c, s = _covariance(covariance), _sigma(sigma)
    return torch.linalg.solve(c + s**2 * torch.eye(len(c), dtype=c.dtype), c)  # the two factors commute


def wiener_mse(spectrum: torch.Tensor, sigma: float) -> torch.Tensor:
    """The error of the best linear filter, Σ_k b_k σ²/(b_k + σ²) = σ² tr H.

    Parameters
    ----------
    spectrum : torch.Tensor, shape (..., d)
        b_k ≥ 0, the eigenvalues of the covariance.
    sigma : float, > 0

    Returns
    -------
    torch.Tensor
        (...), float64.

    Raises
    ------
    ValueError
        If a b_k is negative or not finite, or sigma ≤ 0.

    Notes
    -----
    Wiener (1949); notes (6.4.2). Claim WAV-1.
    """
    b, s = _numbers(spectrum, "spectrum", real=True), _sigma(sigma)
    if bool((b < 0).any()):
        raise ValueError(f"spectrum: got {float(b.min()):g}; expected eigenvalues >= 0")
    return (s**2 * (b / (b + s**2))).sum(-1)


def filter_error(filter: torch.Tensor, covariance: torch.Tensor, sigma: float) -> torch.Tensor:
    """E|Hy − x|² of any linear filter: tr (1 − H) C (1 − H)ᵀ + σ² tr HHᵀ, a float64 scalar that can be differentiated in H.

    Raises
    ------
    ValueError
        If a shape does not fit, C is not symmetric and positive semidefinite, or sigma ≤ 0.
    """
    c, s, h = _covariance(covariance), _sigma(sigma), _numbers(filter, "filter", 2, real=True)
    if h.shape != c.shape:
        raise ValueError(
            f"filter: got {_came(filter)}; expected shape {tuple(c.shape)}, that of the covariance"
        )
    left = torch.eye(len(c), dtype=c.dtype) - h
    return ((left @ c) * left).sum() + s**2 * (h**2).sum()


# ------------------------------------------------------------------------------------------------- oracles: the best factors for one x


def attenuation_risk(factors: torch.Tensor, coefficients: torch.Tensor, sigma: float) -> torch.Tensor:
    """E_z|Hy − x|² of x̂ = Σ_k h_k ⟨y, ψ_k⟩ ψ_k at fixed x: Σ_k [(1 − h_k)² |x_k|² + h_k² σ²].

    Parameters
    ----------
    factors : torch.Tensor, shape (..., d)
        h_k, real.
    coefficients : torch.Tensor, shape (..., d)
        x_k = ⟨x, ψ_k⟩ in any orthonormal basis.
    sigma : float, > 0

    Returns
    -------
    torch.Tensor
        (...), float64. Smallest at h_k = |x_k|²/(|x_k|² + σ²), where it is ``oracle_risks(…).attenuation``.

    Raises
    ------
    ValueError
        If the shapes do not fit, a number is not finite or sigma ≤ 0.

    Notes
    -----
    In place of the notes' (6.4.6–7). Claim WAV-3.
    """
    h, x, s = _numbers(factors, "factors", real=True), _numbers(coefficients, "coefficients"), _sigma(sigma)
    if h.shape[-1] != x.shape[-1]:
        raise ValueError(f"factors: got {h.shape[-1]} numbers; expected {x.shape[-1]}, one per coefficient")
    return ((1 - h) ** 2 * x.abs() ** 2 + h**2 * s**2).sum(-1)


def oracle_risks(coefficients: torch.Tensor, sigma: float) -> Oracles:
    """Errors of those who know |x_k|: ε_a² with the best factors in [0, 1], ε_b² with the best of 0 and 1.

    ½ min(a, b) ≤ ab/(a + b) ≤ min(a, b) makes ε_a² ≤ ε_b² ≤ 2ε_a²: two where all |x_k| = σ, one where all are far from it.

    Parameters
    ----------
    coefficients : torch.Tensor, shape (..., d)
        x_k in any orthonormal basis, real or complex.
    sigma : float, > 0

    Returns
    -------
    Oracles
        ``attenuation`` Σ |x_k|²σ²/(|x_k|² + σ²) and ``binary`` Σ min(|x_k|², σ²), float64 of shape (...).

    Raises
    ------
    ValueError
        If a coefficient is not finite or sigma ≤ 0.

    Notes
    -----
    Donoho, Johnstone (1994), Biometrika 81, 425, section 2; notes (6.4.8–12). Claims WAV-3, WAV-4.
    """
    s = _sigma(sigma)
    power = _numbers(coefficients, "coefficients").abs() ** 2
    return Oracles(wiener_mse(power.clamp(max=1e149), s), power.clamp(max=s**2).sum(-1))


# ------------------------------------------------------------------------------------------------- thresholds: no oracle


def soft_threshold(a: torch.Tensor, threshold: float) -> torch.Tensor:
    """sth_T(a) = a − T sign a where |a| > T, else 0; complex a keep their phase. Differentiable.

    Raises
    ------
    ValueError
        If a is no floating-point tensor of finite numbers, or T < 0.
    """
    _numbers(a, "a", 0)
    return torch.sgn(a) * (a.abs() - _threshold(threshold)).clamp(min=0)


def hard_threshold(a: torch.Tensor, threshold: float) -> torch.Tensor:
    """hth_T(a) = a where |a| > T, else 0.

    Raises
    ------
    ValueError
        If a is no floating-point tensor of finite numbers, or T < 0.
    """
    _numbers(a, "a", 0)
    return a * (a.abs() > _threshold(threshold))


class _Tails(NamedTuple):
    """Of θ + z about ±T: P(|θ + z| ≤ T), P(|θ + z| > T), and the densities at the distances T − θ, T + θ."""

    inside: torch.Tensor
    outside: torch.Tensor
    near: torch.Tensor
    far: torch.Tensor


def _risk(T, theta, of_tails) -> torch.Tensor:
    """θ² P(|y| ≤ T) + what the tails beyond T contribute, for thresholds and θ that broadcast, unit noise."""
    t, u = torch.as_tensor(T, dtype=torch.float64), torch.as_tensor(theta, dtype=torch.float64)
    t, u = torch.broadcast_tensors(_numbers(t, "T", 0, True), _numbers(u, "theta", 0, True).abs())
    if bool((t < 0).any()):
        raise ValueError(f"T: got {float(t.min()):g}; expected thresholds >= 0")
    low, high = t - u, t + u
    density = [torch.exp(-(v**2) / 2) / math.sqrt(2 * math.pi) for v in (low, high)]
    # Both tails are sums of small numbers, never 1 − (almost 1): the risk of θ = 0 keeps its digits at large T.
    tails = _Tails(ndtr(low) - ndtr(-high), ndtr(-low) + ndtr(-high), *density)
    return u**2 * tails.inside + of_tails(t, low, high, tails)


def soft_threshold_risk(T, theta) -> torch.Tensor:
    """r(T, θ) = E[(sth_T(θ + z) − θ)²] for unit noise, in closed form:

        1 + T² + (θ² − T² − 1)[Φ(T − θ) − Φ(−T − θ)] − (T − θ) φ(T + θ) − (T + θ) φ(T − θ).

    It grows from r(T, 0) ≈ 4φ(T)/T³ to 1 + T², the price of the bias.

    Parameters
    ----------
    T : float or torch.Tensor, ≥ 0
        The threshold in units of σ.
    theta : float or torch.Tensor
        The coefficient in units of σ; broadcasts with T.

    Returns
    -------
    torch.Tensor
        float64.

    Raises
    ------
    ValueError
        If T < 0, or a number is not finite.

    Notes
    -----
    Donoho, Johnstone (1994), appendix 1. Claim WAV-5.
    """
    return _risk(T, theta, lambda t, low, high, p: (1 + t**2) * p.outside - low * p.far - high * p.near)


def hard_threshold_risk(T, theta) -> torch.Tensor:
    """E[(hth_T(θ + z) − θ)²] for unit noise: θ² P + (1 − P) + (T − θ) φ(T − θ) + (T + θ) φ(T + θ), P = Φ(T − θ) − Φ(−T − θ).

    No bias at large θ, where it tends to 1; near θ = T it is larger than that of the soft threshold.

    Parameters, Returns and Raises as `soft_threshold_risk`.
    """
    return _risk(T, theta, lambda t, low, high, p: p.outside + low * p.near + high * p.far)


def universal_threshold(d: float, sigma: float = 1.0) -> float:
    """T = σ√(2 log d): the size of the largest of d noises.

    Raises
    ------
    ValueError
        If d < 1 or sigma ≤ 0.
    """
    return _sigma(sigma) * math.sqrt(2 * math.log(number(d, "d", 1)))


def threshold_risk(
    coefficients: torch.Tensor, sigma: float, threshold: float | None = None, rule: str = "soft"
) -> torch.Tensor:
    """E|x̂ − x|² when every coefficient of y is thresholded: σ² Σ_k r(T/σ, x_k/σ).

    Parameters
    ----------
    coefficients : torch.Tensor, shape (..., d)
        Of the clean signal in a real orthonormal basis.
    sigma : float, > 0
    threshold : float, optional
        T; σ√(2 log d) by default.
    rule : str
        ``"soft"`` or ``"hard"``.

    Returns
    -------
    torch.Tensor
        (...), float64.

    Raises
    ------
    ValueError
        If a number is out of its range or the rule is another.
    """
    x, s = _numbers(coefficients, "coefficients", real=True), _sigma(sigma)
    t = universal_threshold(x.shape[-1], s) if threshold is None else _threshold(threshold)
    risk = soft_threshold_risk if _one_of(rule, "rule", RULES) == "soft" else hard_threshold_risk
    return s**2 * risk(t / s, x / s).sum(-1)


def universal_bound(coefficients: torch.Tensor, sigma: float) -> torch.Tensor:
    """(2 log d + 1)(σ² + ε_b²): above the risk of the soft threshold at σ√(2 log d) for every x. With ε_a for ε_b it would be wrong.

    Raises
    ------
    ValueError
        As `oracle_risks`.

    Notes
    -----
    Donoho, Johnstone (1994), theorem 1. Claim WAV-6.
    """
    binary = oracle_risks(coefficients, sigma).binary
    return (2 * math.log(coefficients.shape[-1]) + 1) * (_sigma(sigma) ** 2 + binary)


def _unit_oracle(theta: np.ndarray, oracle: str) -> np.ndarray:
    return (
        np.minimum(theta**2, 1)
        if _one_of(oracle, "oracle", ORACLES) == "binary"
        else theta**2 / (1 + theta**2)
    )


def _least(curve, high: float) -> Extreme:
    """The minimum of a curve over θ in [0, high]: a scan, then a search between the neighbours of its best point."""
    grid = np.union1d(np.linspace(0, high, 4001), [1.0])  # the binary oracle has a kink at 1
    k = int(np.argmin(curve(grid)))
    low, top = grid[max(k - 1, 0)], grid[min(k + 1, len(grid) - 1)]
    found = minimize_scalar(
        lambda u: float(curve(np.array([u]))[0]),
        (low, top),
        bounds=(low, top),
        method="bounded",
        options={"xatol": 1e-10},
    )
    at = min((float(found.x), float(grid[k])), key=lambda u: float(curve(np.array([u]))[0]))
    return Extreme(float(curve(np.array([at]))[0]), at)


def largest_ratio(d: float, oracle: str = "binary") -> Extreme:
    """sup_θ r(T, θ)/(1/d + oracle(θ)) at T = √(2 log d): how near the bound 2 log d + 1 is, for the worst of all x.

    x with all |x_k| = σθ attains it. With the binary oracle min(θ², 1) it stays below 2 log d + 1; with the attenuation oracle
    θ²/(1 + θ²) it does not, and 2 log d + 2.4 would be needed.

    Raises
    ------
    ValueError
        If d < 2 or the oracle is another.

    Notes
    -----
    Donoho, Johnstone (1994), theorem 1. Claim WAV-6.
    """
    t = universal_threshold(number(d, "d", 2))

    def curve(u: np.ndarray) -> np.ndarray:
        return -soft_threshold_risk(t, u).numpy() / (1 / d + _unit_oracle(u, oracle))

    value, at = _least(curve, t + 12)
    return Extreme(-value, at)


def smallest_ratio(d: float, oracle: str = "attenuation") -> Extreme:
    """inf_θ r(T, θ)/oracle(θ) at T = √(2 log d): at least 1 for the attenuation oracle, which no threshold can beat; not for the binary one.

    Raises
    ------
    ValueError
        If d < 2 or the oracle is another.

    Notes
    -----
    Claim WAV-7.
    """
    t = universal_threshold(number(d, "d", 2))

    def curve(u: np.ndarray) -> np.ndarray:
        u = np.maximum(u, 1e-6)  # r(T, 0) > 0: the ratio is infinite at 0
        return soft_threshold_risk(t, u).numpy() / _unit_oracle(u, oracle)

    return _least(curve, t + 12)


def minimax_bound(d: float, blocks: int = 1) -> Extreme:
    """A lower bound on inf over all estimators of sup_x E|x̂ − x|²/(σ² + ε_b²), at finite d; `at` is the height μ/σ that gives it.

    A spike of height μ at a uniformly random place in each of k blocks of n = d/k sites is a law of x with ε_b² = kσ² for every draw.
    The best of all estimators puts μ w_i there, with weights w_i ∝ e^{μ y_i/σ²}: its error kμ²(1 − E w_own) over (1 + k)σ² is a bound from
    below for every μ ≥ σ. E w_own rises from 0 to 1 as μ²/2σ² crosses log n: the condensation of a random energy model. As
    d → ∞ with k growing slowly the bound is 2 log d, to leading order what the threshold at σ√(2 log d) attains; the approach is slow.

    Parameters
    ----------
    d : float
        Up to 1e300.
    blocks : int
        k ≤ d/2.

    Raises
    ------
    ValueError
        If a number is out of its range.

    Notes
    -----
    The statement is theorem 3 of Donoho, Johnstone (1994); the spikes are ours. Claim WAV-8.
    """
    k = count(blocks, "blocks")
    if number(d, "d", 2) > 1e300 or d < 2 * k:
        raise ValueError(f"d: got {d!r}; expected a number in [2 blocks, 1e300]")
    n = d / k
    found = minimize_scalar(
        lambda mu: -(mu**2) * (1 - _own_weight(n, mu)),
        bounds=(1.0, math.sqrt(2 * math.log(n)) + 2),
        method="bounded",
        options={"xatol": 1e-4},
    )
    return Extreme(-float(found.fun) * k / (1 + k), float(found.x))


def _own_weight(n: float, mu: float) -> float:
    """E w_own = E 1/(1 + X), X = Σ_{j<n} exp(μ(z_j − z) − μ²), as ∫ds e^{−s} E e^{−sX}: the mean of (1 − h(a))^{n−1} over

        a = log s − μz − μ²,        h(a) = E_v[1 − exp(−e^{a + μv})].

    Sums on lattices of one step in log s, μz and μv, in which all integrands are smooth: the trapezoidal rule is exact to rounding.
    """
    step = 0.2
    log_s = np.arange(-200, 20) * step
    reach = math.ceil(9 * mu / step)
    weight = np.convolve(step * np.exp(log_s - np.exp(log_s)), _lattice_normal(-reach, reach, step / mu))
    first, far = -200 - reach, math.ceil((mu + 12) * mu / step)  # h needs v up to √(2 log n), which μ is near
    sums = (first - reach + np.arange(len(weight) + reach + far)) * step - mu**2  # all a + μv
    kept = -np.expm1(-np.exp(np.minimum(sums, 50.0)))
    h = np.correlate(kept, _lattice_normal(-reach, far, step / mu), "valid")
    return float(weight @ np.exp((n - 1) * np.log1p(-np.minimum(h, 1 - 1e-16))))


def _lattice_normal(first: int, last: int, step: float) -> np.ndarray:
    """Weights of the trapezoidal rule for a standard normal, at first·step … last·step."""
    return step * np.exp(-((np.arange(first, last + 1) * step) ** 2) / 2) / math.sqrt(2 * math.pi)


def sure(threshold: float, coefficients: torch.Tensor, sigma: float) -> torch.Tensor:
    """Stein's unbiased estimate of the error of a soft threshold from noisy coefficients: σ²(d − 2 #{|y_k| ≤ T}) + Σ_k min(y_k², T²).

    Returns
    -------
    torch.Tensor
        (...), float64; its mean over the noise is `threshold_risk`.

    Raises
    ------
    ValueError
        If a number is out of its range.

    Notes
    -----
    Stein (1981), Ann. Statist. 9, 1135; Donoho, Johnstone (1995), JASA 90, 1200, eq. 11.
    """
    y, s, t = _numbers(coefficients, "coefficients", real=True).abs(), _sigma(sigma), _threshold(threshold)
    return s**2 * (y.shape[-1] - 2 * (y <= t).double().sum(-1)) + y.clamp(max=t).square().sum(-1)


def sure_threshold(coefficients: torch.Tensor, sigma: float) -> float:
    """The threshold at which `sure` is least, of 0 and all |y_k| up to σ√(2 log d).

    Parameters
    ----------
    coefficients : torch.Tensor
        Noisy, real, of any shape: all share the threshold.
    sigma : float, > 0

    Raises
    ------
    ValueError
        If a number is out of its range.

    Notes
    -----
    Donoho, Johnstone (1995).
    """
    y, s = _numbers(coefficients, "coefficients", real=True).abs().flatten().sort().values, _sigma(sigma)
    y = torch.cat([y.new_zeros(1), y])
    k = torch.arange(len(y), dtype=y.dtype)  # T = y_k keeps d − k of d
    d = len(y) - 1
    risk = s**2 * (d - 2 * k) + (y**2).cumsum(0) + (d - k) * y**2
    return float(y[risk.masked_fill(y > universal_threshold(d, s), torch.inf).argmin()])


# ------------------------------------------------------------------------------------------------- bases


def _depth(shape: tuple[int, ...]) -> int:
    """How often all sides can be halved."""
    return min((n & -n).bit_length() - 1 for n in shape)


def analyse(x: torch.Tensor, basis: str, dims: int = 1, levels: int | None = None) -> torch.Tensor:
    """All coefficients ⟨x, ψ_k⟩ in an orthonormal basis, in the shape of x.

    Parameters
    ----------
    x : torch.Tensor, shape (..., d) or (..., h, w)
        Real.
    basis : str
        ``"fourier"``, e^{2πi nk/d}/√d, complex; ``"dct"``, cosines about the middle between sites (type 2); or one of `WAVELETS`.
    dims : int
        1 or 2: the last axis, or the last two.
    levels : int, optional
        Of a wavelet; as many as the sides can be halved by default.

    Returns
    -------
    torch.Tensor
        The shape of x, its dtype or the complex one of it, differentiable but for cosines. Frequencies, or positions of a wavelet, run as the axes do: averages first, then details
        coarse to fine, in two dimensions with horizontal details below the averages, vertical ones to their right, diagonal ones between.

    Raises
    ------
    ValueError
        If the basis is unknown, `dims` is not 1 or 2, or x does not fit.
    """
    _one_of(basis, "basis", BASES), _one_of(dims, "dims", (1, 2))
    _numbers(x, "x", dims, real=True)
    if basis == "fourier":
        return torch.fft.fftn(x, dim=_axes(dims), norm="ortho")
    if basis == "dct":
        return torch.from_numpy(scipy.fft.dctn(x.detach().cpu().numpy(), axes=_axes(dims), norm="ortho")).to(
            x
        )
    depth = _levels(levels, x.shape[-dims:])
    if depth == 0:
        return x
    if dims == 1:
        return torch.cat(dwt(x, basis, depth), -1)
    a, *details = dwt2(x, basis, depth)
    for h, v, d in details:
        a = torch.cat([torch.cat([a, v], -1), torch.cat([h, d], -1)], -2)
    return a


def synthesise(
    coefficients: torch.Tensor, basis: str, dims: int = 1, levels: int | None = None
) -> torch.Tensor:
    """The inverse of `analyse`, x = Σ_k c_k ψ_k; real (of Fourier's sum the real part).

    Raises
    ------
    ValueError
        As `analyse`.
    """
    _one_of(basis, "basis", BASES), _one_of(dims, "dims", (1, 2))
    c = coefficients
    _numbers(c, "coefficients", dims, real=basis != "fourier")
    if basis == "fourier":
        return torch.fft.ifftn(c, dim=_axes(dims), norm="ortho").real
    if basis == "dct":
        return torch.from_numpy(scipy.fft.idctn(c.detach().cpu().numpy(), axes=_axes(dims), norm="ortho")).to(
            c
        )
    depth = _levels(levels, c.shape[-dims:])
    if depth == 0:
        return c
    sizes = [tuple(n >> j for n in c.shape[-dims:]) for j in range(depth, 0, -1)]
    if dims == 1:
        return idwt([c[..., : sizes[0][0]], *(c[..., n : 2 * n] for (n,) in sizes)], basis)
    n, m = sizes[0]
    details = [(c[..., n : 2 * n, :m], c[..., :n, m : 2 * m], c[..., n : 2 * n, m : 2 * m]) for n, m in sizes]
    return idwt2([c[..., :n, :m], *details], basis)


def _axes(dims: int) -> tuple[int, ...]:
    return tuple(range(-dims, 0))


def _levels(levels, shape: tuple[int, ...]) -> int:
    most = _depth(shape)
    if levels is None:
        return most
    if count(levels, "levels", 0) > most:
        raise ValueError(
            f"levels: got {levels} for sides {tuple(shape)}; expected at most {most}, one a factor 2"
        )
    return levels


def covariance_in_basis(covariance: torch.Tensor, basis: str) -> torch.Tensor:
    """⟨Cψ_k', ψ_k⟩ = E⟨x, ψ_k⟩⟨x, ψ_k'⟩* as a matrix (d, d): diagonal iff the basis is a PCA basis of C, then with the eigenvalues b_k.

    Raises
    ------
    ValueError
        If C is not symmetric and positive semidefinite, or the basis is unknown.

    Notes
    -----
    Notes (6.4.4). Fourier's basis is a PCA basis iff C is circulant. Claim WAV-2.
    """
    rows = analyse(torch.eye(len(_covariance(covariance)), dtype=torch.float64), basis).mT  # rows ψ_k*
    return rows @ _covariance(covariance).to(rows) @ rows.mH


def haar_function(t: torch.Tensor, j: int = 0, n: int = 0) -> torch.Tensor:
    """ψ_{j,n}(t) = 2^{−j/2} ψ((t − 2^j n)/2^j) with ψ = 1 on [0, ½), −1 on [½, 1), 0 elsewhere: scale 2^j, place 2^j n, norm 1.

    At the middle of pixels, t = i + ½, it is the basis vector of detail n of level j of `dwt`.

    Raises
    ------
    ValueError
        If t is not real and finite, or j and n are no integers.

    Notes
    -----
    Haar (1910); in place of the notes' (6.5.1), whose factor 1/√(2j) makes the squared norm 2^j/2j. Claim WAV-12.
    """
    scale, place = 2.0 ** count(j, "j", -500), count(n, "n", -(2**53))
    u = _numbers(t, "t", 0, real=True) / scale - place
    return (((u >= 0) & (u < 0.5)).double() - ((u >= 0.5) & (u < 1)).double()) / math.sqrt(scale)


def haar_spectrum(omega: torch.Tensor, j: int = 0) -> torch.Tensor:
    """|ψ̂_{j,n}(ω)|² of ∫ψ e^{−iωt} dt: 2^j 16 sin⁴(u/4)/u² with u = 2^j ω. Its band is of width 2^{−j}, its tail falls only as 1/ω².

    Raises
    ------
    ValueError
        If omega is not real and finite, or j is no integer.
    """
    scale = 2.0 ** count(j, "j", -500)
    u = scale * _numbers(omega, "omega", 0, real=True)
    # sin²(u/4)/u = (u/16) sinc²: finite at 0
    return scale * (u / 4 * torch.sinc(u / (4 * math.pi)) ** 2) ** 2


# ------------------------------------------------------------------------------------------------- compression


def best_terms(coefficients: torch.Tensor, terms: int) -> torch.Tensor:
    """x_M: the M coefficients of largest modulus, the others zero, along the last axis (of equal ones the first).

    Raises
    ------
    ValueError
        If the coefficients are not finite, or M is not in 0 … d.

    Notes
    -----
    Notes (6.4.18–19): with M = #{|x_k| ≥ σ}, |x − x_M|² + Mσ² = ε_b². Claim WAV-9.
    """
    size = _numbers(coefficients, "coefficients").abs()
    if count(terms, "terms", 0) > size.shape[-1]:
        raise ValueError(f"terms: got {terms}; expected at most {size.shape[-1]}")
    kept = size.argsort(dim=-1, descending=True, stable=True)[..., :terms]
    return coefficients * torch.zeros_like(size, dtype=torch.bool).scatter(-1, kept, True)


def approximation_errors(coefficients: torch.Tensor) -> torch.Tensor:
    """|x − x_M|² for M = 0 … d: the sums of all but the M largest |x_k|², (..., d + 1), float64.

    Raises
    ------
    ValueError
        If the coefficients are not finite.
    """
    power = _numbers(coefficients, "coefficients").abs() ** 2
    tails = power.sort(-1).values.cumsum(-1)  # from the smallest: no digits are lost in small errors
    return torch.cat([torch.zeros_like(tails[..., :1]), tails], -1).flip(-1)


# ------------------------------------------------------------------------------------------------- signals and images


def piecewise(
    d: int, levels: tuple[float, ...] = (1.0, -2.0, 3.0), jumps: tuple[float, ...] = (0.37, 0.71)
) -> torch.Tensor:
    """x_i = levels[k] while jumps[k − 1] ≤ i/d < jumps[k]: a signal of a few constant pieces, (d,), float64.

    Raises
    ------
    ValueError
        If jumps do not ascend in (0, 1) or are not one fewer than the levels.
    """
    values = torch.tensor([number(v, "levels") for v in levels], dtype=torch.float64)
    places = torch.tensor([number(v, "jumps") for v in jumps], dtype=torch.float64)
    inside = bool(((places > 0) & (places < 1)).all()) and bool((places.diff() > 0).all())
    if len(places) != len(values) - 1 or not inside:
        raise ValueError(f"jumps: got {jumps!r}; expected {len(values) - 1} ascending numbers in (0, 1)")
    site = torch.arange(count(d, "d", 2), dtype=torch.float64) / d
    return values[torch.bucketize(site, places, right=True)]


def denoise(
    y: torch.Tensor,
    sigma: float,
    basis: str = "db4",
    rule: str = "soft",
    threshold: float | None = None,
    dims: int = 1,
    shifts: int = 1,
) -> torch.Tensor:
    """x̂ = Σ_k th_T(⟨y, ψ_k⟩) ψ_k: every coefficient thresholded; with `shifts` the mean of that over shifted copies of the basis.

    Parameters
    ----------
    y : torch.Tensor, shape (..., d) or (..., h, w)
        Noisy, real.
    sigma : float, > 0
    basis : str
        One of `BASES`; a wavelet at full depth.
    rule : str
        ``"soft"`` or ``"hard"``.
    threshold : float, optional
        σ√(2 log d) by default, d the number of pixels.
    dims : int
        1 or 2.
    shifts : int
        The transform is done for this many shifts of each axis, 0, 1, …, and the results are averaged: no edge is then at a lucky or unlucky place.

    Returns
    -------
    torch.Tensor
        The shape and dtype of y.

    Raises
    ------
    ValueError
        If an argument is out of its range.

    Notes
    -----
    Donoho, Johnstone (1994); Coifman, Donoho (1995) for the shifts ("cycle spinning"). Notes (6.4.13–15).
    """
    _one_of(dims, "dims", (1, 2))
    d = math.prod(_numbers(y, "y", dims, real=True).shape[-dims:])
    t = universal_threshold(d, sigma) if threshold is None else _threshold(threshold)
    cut = soft_threshold if _one_of(rule, "rule", RULES) == "soft" else hard_threshold
    total, axes = torch.zeros_like(y), _axes(dims)
    for shift in product(range(count(shifts, "shifts")), repeat=dims):
        back = tuple(-s for s in shift)
        total += synthesise(cut(analyse(y.roll(back, axes), basis, dims), t), basis, dims).roll(shift, axes)
    return total / shifts**dims


def radial_spectrum(image: torch.Tensor, sigma: float = 0.0) -> torch.Tensor:
    """The power |x_k|² of an image, averaged over rings of equal frequency ⌊|k| + ½⌋, on the grid of ``analyse(image, "fourier", 2)``.

    It is the spectrum of a stationary and isotropic law with the image's own second moments: what a Wiener filter can know. From a noisy image
    the noise is subtracted, max(⟨|y_k|²⟩ − σ², 0).

    Parameters
    ----------
    image : torch.Tensor, shape (h, w)
    sigma : float
        Noise in the image; 0 if it is clean.

    Returns
    -------
    torch.Tensor
        (h, w), float64.

    Raises
    ------
    ValueError
        If the image is not real and finite of shape (h, w), or sigma < 0.
    """
    x, s = _numbers(image, "image", 2, real=True), number(sigma, "sigma", 0)
    if x.ndim != 2:
        raise ValueError(f"image: got {_came(image)}; expected shape (h, w)")
    sides = [torch.fft.fftfreq(n, 1 / n, dtype=torch.float64) for n in x.shape]
    ring = (torch.hypot(sides[0][:, None], sides[1]) + 0.5).long().flatten()
    power = analyse(x, "fourier", 2).abs().square().flatten()
    mean = torch.bincount(ring, power) / torch.bincount(ring)
    return (mean - s**2).clamp(min=0)[ring].view(x.shape)


def wiener_denoise(y: torch.Tensor, spectrum: torch.Tensor, sigma: float) -> torch.Tensor:
    """x̂_k = b_k/(b_k + σ²) y_k in Fourier's basis: `wiener_filter` of a stationary law with the spectrum b, on the last one or two axes.

    Parameters
    ----------
    y : torch.Tensor, shape (..., d) or (..., h, w)
    spectrum : torch.Tensor, shape (d,) or (h, w)
        b_k ≥ 0, in the order of ``torch.fft``; `radial_spectrum` of an image. Powers |x_k|² of the clean signal make the attenuation oracle.
    sigma : float, > 0

    Returns
    -------
    torch.Tensor
        The shape and dtype of y.

    Raises
    ------
    ValueError
        If a shape does not fit, a b_k is negative, or sigma ≤ 0.

    Notes
    -----
    Wiener (1949); notes (6.4.1–4).
    """
    b, s = _numbers(spectrum, "spectrum", 1, real=True), _sigma(sigma)
    if b.ndim > 2 or bool((b < 0).any()):
        raise ValueError(f"spectrum: got {_came(spectrum)}; expected numbers >= 0 of shape (d,) or (h, w)")
    if _numbers(y, "y", b.ndim, real=True).shape[-b.ndim :] != b.shape:
        raise ValueError(f"y: got {_came(y)}; expected last axes {tuple(b.shape)}, those of the spectrum")
    return synthesise(b / (b + s**2) * analyse(y.double(), "fourier", b.ndim), "fourier", b.ndim).to(y)


def psnr(estimate: torch.Tensor, truth: torch.Tensor, peak: float = 1.0) -> float:
    """Peak signal to noise ratio in decibels, 10 log₁₀(peak²/mean |x̂ − x|²), over all entries; infinite if nothing differs.

    Raises
    ------
    ValueError
        If the shapes differ, a number is not finite or peak ≤ 0.
    """
    a, x = _numbers(estimate, "estimate", 0, real=True), _numbers(truth, "truth", 0, real=True)
    if a.shape != x.shape:
        raise ValueError(
            f"estimate: got shape {tuple(a.shape)}; expected {tuple(x.shape)}, that of the truth"
        )
    top, error = number(peak, "peak", 0, strict=True), float((a - x).square().mean())
    return 20 * math.log10(top) - 10 * math.log10(error) if error else math.inf
