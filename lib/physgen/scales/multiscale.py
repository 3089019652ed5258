"""Sampling scale by scale (the chapter `scales/multiscale`): Langevin dynamics, reverse diffusion, coarse-to-fine generation.

A field x_0 is split by a level of an orthonormal wavelet transform into a coarse field and details, x_{j−1} ↔ (x_j, x̄_j), and its
law into p_0(x_0) = p_J(x_J) Π_j p̄_j(x̄_j | x_j). Three samplers are held against this split:

- Langevin dynamics, dx = −∇U dt + √2 dW, takes κ = k_max/k_min steps h ≲ 1/k_max to forget its start;
- reverse diffusion, dx = [x + (1 + η) S] dτ + √(2η) dW with S = −x/Γ_t, Γ_t = λ e^{−2t} + Δ_t, leaves in steps δ the relative
  error δ r(λ) in the variance λ of a mode, r = 1/λ − λ ln λ/(2(λ − 1)) for η = 1;
- a learned energy E_θ(x_{j−1}) = Σ_m θ_m f_m is read as a function of x̄_j at fixed x_j: its score is linear in θ, so score
  matching is one linear system, E[∇f ∇fᵀ] θ = E[Δf], all derivatives along x̄_j.

Gaussian fields whose precision matrix K commutes with shifts are solved exactly: a level of the transform is then a small matrix at
each coarse wave number. A spectrum is K(k) (or the variances 1/K(k)) on the grid of the FFT, (L,) or (L, L). Simulated fields are
(B, L, L); φ⁴ is in convention B, S = −β Σ_<ij> φ_i φ_j + Σ_i (φ_i⁴ − φ_i²). Exact solutions are computed in float64.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

import torch
from scipy.optimize import brentq

from physgen.checks import count, number, stream
from physgen.diffusion.processes import fokker_planck_matrix, spectral_gap
from physgen.errorbars import autocorrelation_time
from physgen.kernels import wavelet

from . import phi4

__all__ = [
    "Band",
    "Chain",
    "Generated",
    "Langevin",
    "Scale",
    "band_correlation",
    "band_variances",
    "bands",
    "conditional_score",
    "detail_autocorrelation",
    "diagonal_condition",
    "diffuse",
    "energy",
    "euler_error",
    "exact_scale",
    "fit_scales",
    "free_field",
    "langevin",
    "langevin_steps",
    "match_moments",
    "pixel_autocorrelation",
    "relaxation_rate",
    "resample",
    "reveal_time",
    "reverse_variance",
    "sample",
    "start_error",
    "steps_needed",
    "time_grid",
]

FAR = 1e3  # standard deviations: a trajectory that gets there has run away, and is refused


class Langevin(NamedTuple):
    """Langevin dynamics of a Gaussian law in Itô steps."""

    autocorrelation: float  # steps in which the slowest mode forgets a factor e, −1/log(1 − h k_min)
    bias: torch.Tensor  # stationary variance over the true one, 1/(1 − hk/2), of each mode


class Band(NamedTuple):
    """One level of the transform, at each coarse wave number q: the energy ½ x̄*K̄x̄ + Re x̄*Cx_j + …, integrated over x̄ to ½ x_j*K_jx_j."""

    precision: torch.Tensor  # K̄_j, (…, m, m) Hermitian, m = 1 detail in one dimension, 3 in two
    cross: torch.Tensor  # C, (…, m): the mean of x̄ given x_j is −K̄⁻¹ C x_j
    coarse: torch.Tensor  # K_j, the spectrum of the coarse field, (n,) or (n, n)


class Scale(NamedTuple):
    """An energy E_θ(x_{j−1}), read as the conditional law p̄_j(x̄_j | x_j) of the details, or as the law of a whole coarsest field."""

    size: int  # L of the field
    law: phi4.Couplings  # of E_θ = Σ_r β_r ½ Σ (x_i − x_j)² + Σ_k v_k Σ_i x_i^k
    powers: tuple[int, ...]  # the k
    widths: torch.Tensor  # standard deviations: of the three details, (3,), or of a site, (1,)
    wavelet: str  # "" for the whole law of a coarsest field


class Chain(NamedTuple):
    """Autocorrelation of a Markov chain: the integrated time τ_int (½ for independent draws), in steps, and the share accepted."""

    tau: torch.Tensor
    acceptance: float


class Generated(NamedTuple):
    """Fields made from coarse to fine."""

    fields: tuple[torch.Tensor, ...]  # (n, L_J, L_J) … (n, L, L)
    acceptance: tuple[float, ...]  # of the last half of the moves, at each scale


def _real(x, name: str, shape: str, *dims: int) -> torch.Tensor:
    """A finite floating-point tensor of that many axes."""
    if not isinstance(x, torch.Tensor) or x.ndim not in dims or not x.is_floating_point() or x.numel() == 0:
        came = f"{x.dtype} {tuple(x.shape)}" if isinstance(x, torch.Tensor) else type(x).__name__
        raise ValueError(f"{name}: got {came}; expected floating-point numbers of shape {shape}")
    if not bool(x.isfinite().all()):
        raise ValueError(f"{name}: got NaN or infinity; expected finite numbers")
    return x.detach()


def _positive(x, name: str, shape: str = "(k,), (L,) or (L, L)", *dims: int) -> torch.Tensor:
    x = _real(x, name, shape, *(dims or (0, 1, 2))).double()
    if bool((x <= 0).any()):
        raise ValueError(f"{name}: got a smallest value of {float(x.min()):g}; expected numbers > 0")
    return x


def _spectrum(precision) -> torch.Tensor:
    """K(k) > 0 on a square grid of the FFT, even in k."""
    k = _positive(precision, "precision", "(L,) or (L, L)", 1, 2)
    if len(set(k.shape)) > 1:
        raise ValueError(f"precision: got shape {tuple(k.shape)}; expected (L,) or (L, L)")
    axes = tuple(range(k.ndim))
    if not torch.allclose(k, k.flip(axes).roll((1,) * k.ndim, axes), rtol=1e-9, atol=0):
        raise ValueError("precision: got K(k) ≠ K(−k); expected the spectrum of a real symmetric matrix")
    return k


# ------------------------------------------------------------------------------------------------- Langevin, exactly


def free_field(L: int, eta: float = 2.0, dim: int = 2, mass: float | None = None) -> torch.Tensor:
    """The spectrum of a free field, K(k) = (Σ_a |2 sin(k_a/2)|²)^{η/2} + m², k_a = 2πn_a/L.

    Parameters
    ----------
    L : int, ≥ 2
        Sites on a side, periodic.
    eta : float, > 0
        The exponent: K ∼ |k|^η, 2 for the lattice Laplacian.
    dim : int
        1 or 2.
    mass : float, > 0, optional
        m². None: no mass, and the zero mode, which has no law of its own then, takes the value of the lowest mode.

    Returns
    -------
    torch.Tensor
        (L,) or (L, L), float64.

    Raises
    ------
    ValueError
        If a number is out of its range.

    Notes
    -----
    Marchand, Ozawa, Biroli, Mallat (2022); the rule for the zero mode is that of claim RGR-8.
    """
    L, eta = count(L, "L", 2), number(eta, "eta", 0, strict=True)
    if count(dim, "dim", 1) > 2:
        raise ValueError(f"dim: got {dim}; expected 1 or 2")
    line = (2 * torch.sin(math.pi * torch.arange(L, dtype=torch.float64) / L)).square()
    line = torch.minimum(line, line.flip(0).roll(1))  # even to the last bit
    k = (line if dim == 1 else line[:, None] + line) ** (eta / 2)
    if mass is not None:
        return k + number(mass, "mass", 0, strict=True)
    k.view(-1)[0] = k.view(-1)[1:].min()
    return k


def langevin(precision: torch.Tensor, step: float | None = None) -> Langevin:
    """Unadjusted Langevin steps x ← x − hKx + √(2h) z of a Gaussian law: how slow, and how wrong.

    A mode k has the autocorrelation (1 − hk)^n after n steps and the stationary variance (1/k)/(1 − hk/2). At h = 1/k_max the
    slowest mode takes −1/log(1 − 1/κ) ≈ κ steps, and the stiffest has twice its variance.

    Parameters
    ----------
    precision : torch.Tensor, > 0
        The eigenvalues of K, of any shape up to two axes.
    step : float, > 0, optional
        h < 2/k_max; None: 1/k_max.

    Returns
    -------
    Langevin
        ``autocorrelation`` and ``bias``.

    Raises
    ------
    ValueError
        If an eigenvalue or the step is not positive, or the step is not stable.

    Notes
    -----
    Claims RGR-5, RGR-6. τ_int = 1/(h k_min) − ½ is the integrated time of `physgen.errorbars`.
    """
    k = _positive(precision, "precision")
    h = 1 / float(k.max()) if step is None else number(step, "step", 0, strict=True)
    if h * float(k.max()) >= 2:
        raise ValueError(
            f"step: got {h:g}; expected less than 2/k_max = {2 / float(k.max()):g}, else it diverges"
        )
    kept = (1 - h * k).abs().max()
    slow = -1 / math.log(kept) if 0 < kept < 1 else 0.0
    return Langevin(slow, 1 / (1 - h * k / 2))


def langevin_steps(precision: torch.Tensor, error: float) -> int:
    """Steps of unadjusted Langevin dynamics from x = 0 until each mode has its variance up to the relative error ε.

    Half of ε pays for the bias of the stiffest mode, h k_max/2 = (ε/2)/(1 + ε/2), half for what the slowest has not yet reached,
    (1 − h k_min)^{2n} = ε/2: n ≈ κ log(2/ε)/(2ε).

    Parameters
    ----------
    precision : torch.Tensor, > 0
        The eigenvalues of K.
    error : float in (0, 1)
        ε.

    Raises
    ------
    ValueError
        If a number is out of its range.

    Notes
    -----
    Claims RGR-6, PHI-5.
    """
    k, half = _positive(precision, "precision"), _error(error) / 2
    h = 2 / float(k.max()) * half / (1 + half)
    return math.ceil(math.log(half) / (2 * math.log1p(-h * float(k.min()))))


def _error(error) -> float:
    if number(error, "error", 0, strict=True) >= 1:
        raise ValueError(f"error: got {error!r}; expected a number in (0, 1)")
    return float(error)


def relaxation_rate(
    potential: Callable[[torch.Tensor], torch.Tensor], reach: float, points: int = 801
) -> float:
    """The rate at which dx = −U'(x) dt + √2 dW in one dimension forgets its start: the gap of its Fokker–Planck operator.

    It is at least m where U'' ≥ m; over a barrier it is exponentially small: for B(x² − 1)² it tends to (B√32/π) e^{−B}.

    Parameters
    ----------
    potential : callable
        U of a float64 tensor, differentiable.
    reach : float, > 0
        The interval is [−reach, reach]: e^{−U} must be negligible at its ends.
    points : int, ≥ 3
        Of the grid; the error is of second order in the spacing.

    Raises
    ------
    ValueError
        If a number is out of its range or U' is not finite.

    Notes
    -----
    Claims RGR-6, RGR-7; Kramers (1940), Physica 7, 284. `physgen.diffusion.processes` holds the operator.
    """
    end = number(reach, "reach", 0, strict=True)
    grid = torch.linspace(-end, end, count(points, "points", 3), dtype=torch.float64)

    def force(x, _t):
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            return -torch.autograd.grad(potential(x).sum(), x)[0]

    return spectral_gap(fokker_planck_matrix(grid, force))


# ------------------------------------------------------------------------------------------------- one level, exactly


def bands(precision: torch.Tensor, name: str, levels: int | None = None) -> list[Band]:
    """The exact factorisation of a Gaussian field scale by scale, fine to coarse.

    Shifts by two sites of the fine field are shifts by one of its parts, so in the wavelet basis K is a matrix of 2 × 2 (in two
    dimensions 4 × 4) at each coarse wave number, found here from its columns: an impulse in each part, sent to the field, times K,
    and back. Its block of details is the precision K̄_j of x̄_j given x_j, and the Schur complement of that block is K_j.

    Parameters
    ----------
    precision : torch.Tensor, shape (L,) or (L, L)
        K(k) > 0 on the grid of the FFT; L a multiple of 2^levels.
    name : str
        The wavelet, of `physgen.kernels.wavelet.WAVELETS`.
    levels : int, optional
        None: as many as L has factors of two.

    Returns
    -------
    list of Band
        Level 1 (the finest details) first.

    Raises
    ------
    ValueError
        If the spectrum is not positive and even, the wavelet is unknown or L has too few factors of two.

    Notes
    -----
    Claims RGR-4, RGR-8 (dense matrices: `physgen.scales.renormalization`). Marchand, Ozawa, Biroli, Mallat (2022).
    """
    k, out = _spectrum(precision), []
    most = (len(k) & -len(k)).bit_length() - 1
    levels = most if levels is None else count(levels, "levels", 1)
    if not 1 <= levels <= most:
        raise ValueError(f"levels: got {levels} for L = {len(k)}; expected at most {most}, one a factor 2")
    for _ in range(levels):
        out.append(_band(k, name))
        k = out[-1].coarse
    return out


def _band(k: torch.Tensor, name: str) -> Band:
    dim, n = k.ndim, len(k) // 2
    axes = tuple(range(1, dim + 1))
    parts = torch.zeros(2**dim, 2**dim, *[n] * dim, dtype=torch.float64)  # (part, impulse in which part, …)
    for a in range(2**dim):
        parts[a, a].view(-1)[0] = 1
    columns = torch.fft.ifftn(torch.fft.fftn(_join(parts, name), dim=axes) * k, dim=axes).real
    symbol = torch.fft.fftn(_split(columns, name), dim=tuple(range(2, dim + 2))).movedim((0, 1), (-2, -1))
    details, cross = symbol[..., 1:, 1:], symbol[..., 1:, 0]
    gained = (cross.conj() * torch.linalg.solve(details, cross)).sum(-1)
    return Band(details, cross, (symbol[..., 0, 0] - gained).real)


def _split(x: torch.Tensor, name: str) -> torch.Tensor:
    """Fields (B, …) to their parts (2^d, B, …), averages first; d = 1 or 2 axes behind the first."""
    if x.ndim == 2:
        return torch.stack(wavelet.dwt(x, name))
    a, d = wavelet.dwt2(x, name)
    return torch.stack((a, *d))


def _join(parts: torch.Tensor, name: str) -> torch.Tensor:
    """The inverse of `_split`."""
    if parts.ndim == 3:
        return wavelet.idwt(list(parts), name)
    return wavelet.idwt2([parts[0], tuple(parts[1:])], name)


def band_variances(band: Band, normalise: bool = True) -> torch.Tensor:
    """The variances of the modes of x̄_j given x_j, ascending: the eigenvalues of K̄_j^{−1}, each detail in units of its own variance.

    Parameters
    ----------
    band : Band
    normalise : bool
        True: each of the m details has unit variance, D^{−1/2} K̄^{−1} D^{−1/2} with D the diagonal of K̄^{−1}; one number a band is
        what the normalisation of scales can do, and it is a diagonal preconditioner.

    Returns
    -------
    torch.Tensor
        (number of details,), float64; the mean is 1 if normalised.

    Notes
    -----
    Claim RGR-10.
    """
    precision = band.precision
    if normalise:
        width = torch.linalg.inv(precision).diagonal(dim1=-2, dim2=-1).real.flatten(0, -2).mean(0).sqrt()
        precision = precision * width[:, None] * width
    return (1 / torch.linalg.eigvalsh(precision)).flatten().sort().values


def band_correlation(band: Band) -> torch.Tensor:
    """How far details know of each other once the coarse field is given: Corr(x̄(0), x̄(r) | x_j) of each kind of detail.

    Parameters
    ----------
    band : Band

    Returns
    -------
    torch.Tensor
        (m, n) or (m, n, n), float64, 1 at r = 0; r counts sites of the coarse grid.

    Notes
    -----
    Claim MSD-5; the locality on which Kadkhodaie, Guth, Mallat, Simoncelli (2023) build.
    """
    own = torch.linalg.inv(band.precision).diagonal(dim1=-2, dim2=-1).real.movedim(-1, 0)
    covariance = torch.fft.ifftn(own, dim=tuple(range(1, own.ndim))).real
    return covariance / covariance.flatten(1)[:, :1].reshape(-1, *[1] * (own.ndim - 1))


def diagonal_condition(precision: torch.Tensor, name: str, levels: int | None = None) -> float:
    """The condition number of K in the wavelet basis, every coefficient divided by its standard deviation.

    What normalising all scales at once does for the whole field, no scale conditioned on another.

    Parameters
    ----------
    precision, name, levels
        As in `bands`; a dense matrix of L^d sites is diagonalised, up to 4096.

    Raises
    ------
    ValueError
        As `bands`, or if there are more than 4096 sites.

    Notes
    -----
    Claim RGR-10.
    """
    k = _spectrum(precision)
    if k.numel() > 4096:
        raise ValueError(f"precision: got {k.numel()} sites; the dense matrix serves up to 4096")
    unit, axes = torch.eye(k.numel(), dtype=torch.float64).reshape(-1, *k.shape), tuple(range(1, k.ndim + 1))
    levels = (len(k) & -len(k)).bit_length() - 1 if levels is None else levels
    basis = _coefficients(unit, name, levels)  # rows: sites, columns: coefficients
    matrix, covariance = (
        basis.T
        @ _coefficients(torch.fft.ifftn(torch.fft.fftn(unit, dim=axes) * s, dim=axes).real, name, levels)
        for s in (k, 1 / k)
    )
    width = covariance.diagonal().sqrt()
    values = torch.linalg.eigvalsh(matrix * width[:, None] * width)
    return float(values[-1] / values[0])


def _coefficients(x: torch.Tensor, name: str, levels: int) -> torch.Tensor:
    """All wavelet coefficients of each field, (B, sites)."""
    if x.ndim == 2:
        return torch.cat(wavelet.dwt(x, name, levels), -1)
    a, *details = wavelet.dwt2(x, name, levels)
    return torch.cat([a.flatten(1), *(d.flatten(1) for level in details for d in level)], -1)


# ------------------------------------------------------------------------------------------------- reverse diffusion, exactly


def reveal_time(variances: torch.Tensor) -> torch.Tensor:
    """t = ½ log(1 + λ): when the noise Δ_t has as much variance as what is left of the mode, λ e^{−2t}.

    Backwards in time a mode emerges from the noise there, the widest first: from coarse to fine where λ falls with |k|.

    Parameters
    ----------
    variances : torch.Tensor, > 0
        λ.

    Returns
    -------
    torch.Tensor
        The shape of λ, float64.

    Raises
    ------
    ValueError
        If a variance is not positive.

    Notes
    -----
    Claim OVW-5. The signal to noise ratio is λ/(e^{2t} − 1); `exact.speciation.speciation_time` is ½ log λ, for a wide mode.
    """
    return torch.log1p(_positive(variances, "variances")) / 2


def _law(eta) -> float:
    if number(eta, "eta") not in (0.0, 1.0):
        raise ValueError(
            f"eta: got {eta!r}; expected 0 (the equation of probability flow) or 1 (the reverse diffusion)"
        )
    return float(eta)


def euler_error(variances: torch.Tensor, eta: float = 1.0) -> torch.Tensor:
    """r(λ): a reverse process in equal Euler steps δ, begun at t → ∞, makes a mode of variance λ with λ (1 + δ r(λ) + O(δ²)).

    η = 1: r = 1/λ − λ ln λ/(2(λ − 1)), ½ at λ = 1: the bias of Langevin steps. η = 0: r = (1/λ − 1 − ln λ)/2. Stiff modes cost
    most, r → 1/λ and 1/(2λ) for λ → 0; wide ones −½ ln λ.

    Parameters
    ----------
    variances : torch.Tensor, > 0
        λ.
    eta : 0 or 1

    Returns
    -------
    torch.Tensor
        The shape of λ, float64.

    Raises
    ------
    ValueError
        If a variance is not positive or η is neither 0 nor 1.

    Notes
    -----
    With e the error of the variance and Γ' = 2(Γ − 1) along the way back, e' = 2(1 − (1+η)/Γ) e + δ [(1 − (1+η)/Γ)² Γ − 2(Γ − 1)],
    which integrates in Γ. Claims MSD-1, MSD-2; the spectrum's share of Guth, Coste, De Bortoli, Mallat (2022).
    """
    lam = _positive(variances, "variances")
    if _law(eta) == 0:
        return (1 / lam - 1 - lam.log()) / 2
    x = lam - 1
    near = x.abs() < 1e-5  # ln λ/(λ − 1) = 1 − x/2 + x²/3 − …
    slope = torch.where(near, 1 - x / 2 + x.square() / 3, lam.log() / torch.where(near, 1.0, x))
    return 1 / lam - lam * slope / 2


def start_error(variances: torch.Tensor, start: float, eta: float = 1.0) -> torch.Tensor:
    """The relative error of the variance that is left of beginning with N(0, 1) in place of p_T, T = `start`; no steps, exact.

    (1/Γ_T − 1) (λ e^{−2T}/Γ_T)^η: about −λ(λ − 1) e^{−4T} for the reverse diffusion, −(λ − 1) e^{−2T} for the flow.

    Parameters
    ----------
    variances : torch.Tensor, > 0
        λ.
    start : float, > 0
        T.
    eta : 0 or 1

    Raises
    ------
    ValueError
        If a number is out of its range.

    Notes
    -----
    Claim MSD-1.
    """
    lam, t = _positive(variances, "variances"), number(start, "start", 0, strict=True)
    gamma = 1 + (lam - 1) * math.exp(-2 * t)
    return (1 / gamma - 1) * (lam * math.exp(-2 * t) / gamma) ** _law(eta)


def reverse_variance(variances: torch.Tensor, times: torch.Tensor, eta: float = 1.0) -> torch.Tensor:
    """The variance that Euler's steps of the reverse process leave in a mode of variance λ, from N(0, 1) at the first time, exactly.

    A step δ from t multiplies the mode by 1 + δ (1 − (1 + η)/Γ_t) and adds noise of variance 2ηδ: v ← (…)² v + 2ηδ.

    Parameters
    ----------
    variances : torch.Tensor, > 0
        λ.
    times : torch.Tensor, shape (steps + 1,)
        Descending, the last ≥ 0.
    eta : 0 or 1

    Returns
    -------
    torch.Tensor
        The shape of λ, float64, at the last time.

    Raises
    ------
    ValueError
        If a variance is not positive or the times are not at least two, descending and ≥ 0.

    Notes
    -----
    Claims MSD-1 to MSD-4.
    """
    lam, grid = _positive(variances, "variances"), _grid(times)
    eta, v = _law(eta), torch.ones_like(lam)
    for t, delta in zip(grid[:-1].tolist(), (-grid.diff()).tolist(), strict=True):
        gamma = 1 + (lam - 1) * math.exp(-2 * t)
        v = (1 + delta * (1 - (1 + eta) / gamma)).square() * v + 2 * eta * delta
    return v


def time_grid(start: float, steps: int, least: float | None = None) -> torch.Tensor:
    """A descending grid from T to 0: equal steps, or steps in proportion to Γ_t of the stiffest mode, δ ∝ 1 + (λ − 1) e^{−2t}.

    The second are equal steps in s = ½ log(e^{2t} + λ − 1), ds = dt/Γ_t: geometric near the data, ∼ log(1/λ) of them for a given
    error where equal steps need ∼ 1/λ.

    Parameters
    ----------
    start : float, > 0
        T.
    steps : int, ≥ 1
    least : float, > 0, optional
        λ of the stiffest mode; None: equal steps.

    Returns
    -------
    torch.Tensor
        (steps + 1,), float64.

    Raises
    ------
    ValueError
        If a number is out of its range.

    Notes
    -----
    Claim MSD-4.
    """
    t, n = number(start, "start", 0, strict=True), count(steps, "steps", 1)
    if least is None:
        return torch.linspace(t, 0, n + 1, dtype=torch.float64)
    lam = number(least, "least", 0, strict=True)
    s = torch.linspace((t + math.log1p((lam - 1) * math.exp(-2 * t)) / 2), math.log(lam) / 2, n + 1)
    grid = torch.log((2 * s.double()).exp() + 1 - lam) / 2
    grid[0], grid[-1] = t, 0
    return grid


def steps_needed(variances: torch.Tensor, error: float, eta: float = 1.0, adapted: bool = False) -> int:
    """The least number of Euler steps with which the reverse process makes every variance between the smallest and the largest λ up to ε.

    It starts from N(0, 1) at the first time T whose `start_error` is at most ε/10, and ends at t = 0, with `time_grid`.

    Parameters
    ----------
    variances : torch.Tensor, > 0
        λ of the modes, in the units in which they are noised: the field (or each band) divided by its standard deviation.
    error : float in (0, 1)
        ε, relative, of the worst mode.
    eta : 0 or 1
    adapted : bool
        Steps in proportion to Γ_t of the stiffest mode, in place of equal ones.

    Raises
    ------
    ValueError
        If a number is out of its range.

    Notes
    -----
    Claims MSD-3, MSD-4, PHI-5. Equal steps: about T max|r(λ)|/ε.
    """
    lam, eps, eta = _positive(variances, "variances"), _error(error), _law(eta)
    least, most = float(lam.min()), float(lam.max())
    worst = torch.logspace(math.log10(least), math.log10(most), 65, dtype=torch.float64)

    def missed(t: float) -> float:
        return float(start_error(worst, t, eta).abs().max()) - eps / 10

    high = 0.5
    while missed(high) > 0:
        high *= 2
    start = brentq(missed, 1e-6, high) if missed(1e-6) > 0 else 1e-6

    def fits(steps: int) -> bool:
        grid = time_grid(start, steps, least if adapted else None)
        return float((reverse_variance(worst, grid, eta) / worst - 1).abs().max()) <= eps

    high = 1
    while not fits(high):
        high *= 2
    low = high // 2  # does not fit, or 0
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if fits(middle) else (middle, high)
    return high


def diffuse(
    precision: torch.Tensor,
    name: str,
    times: torch.Tensor,
    n: int,
    *,
    generator: torch.Generator | None = None,
) -> torch.Tensor:
    """Gaussian fields made from coarse to fine by reverse diffusion (η = 1): the same few Euler steps for each band of details.

    Given x_j, and in units of their standard deviations, the modes of x̄_j have means μ and variances λ; noised they are
    N(e^{−t} μ, Γ_t), and S = −(y − e^{−t} μ)/Γ_t. The coarsest field is drawn without error.

    Parameters
    ----------
    precision, name
        As in `bands`; all levels are taken.
    times : torch.Tensor, shape (steps + 1,)
        As in `reverse_variance`, to which the variances given the coarse field are equal.
    n : int, ≥ 1
        Fields.
    generator : torch.Generator, optional

    Returns
    -------
    torch.Tensor
        (n, L) or (n, L, L), float64.

    Raises
    ------
    ValueError
        As `bands` and `reverse_variance`, or if n < 1.

    Notes
    -----
    Claim PHI-5; Guth, Coste, De Bortoli, Mallat (2022), with exact scores.
    """
    levels, grid = bands(precision, name), _grid(times)
    n, own, coarse = count(n, "n", 1), stream(generator), levels[-1].coarse
    axes = tuple(range(1, coarse.ndim + 1))
    x = torch.fft.ifftn(_white((n, *coarse.shape), axes, own) / coarse.sqrt(), dim=axes, norm="ortho").real
    for band in reversed(levels):
        x = _join(torch.cat([x[None], _diffused(band, x, grid, own)]), name)
    return x


def _white(shape: tuple[int, ...], axes: tuple[int, ...], own: torch.Generator) -> torch.Tensor:
    """The Fourier transform of real white noise."""
    return torch.fft.fftn(torch.randn(shape, generator=own, dtype=torch.float64), dim=axes, norm="ortho")


def _diffused(band: Band, x: torch.Tensor, grid: torch.Tensor, own: torch.Generator) -> torch.Tensor:
    """Details (m, n, …) given the coarse fields x, in the eigenbasis of K̄ at each wave number."""
    axes = tuple(range(1, x.ndim))
    width = torch.linalg.inv(band.precision).diagonal(dim1=-2, dim2=-1).real.flatten(0, -2).mean(0).sqrt()
    rate, basis = torch.linalg.eigh(band.precision * width[:, None] * width)
    pull = -torch.linalg.solve(band.precision, band.cross) / width
    mean = pull * torch.fft.fftn(x, dim=axes, norm="ortho")[..., None]
    mean = (basis.mH @ mean[..., None])[..., 0]
    shape = *x.shape, len(width)
    y = (basis.mH @ _white(shape, axes, own)[..., None])[..., 0]
    for t, delta in zip(grid[:-1].tolist(), (-grid.diff()).tolist(), strict=True):
        gamma = math.exp(-2 * t) / rate - math.expm1(-2 * t)
        z = (basis.mH @ _white(shape, axes, own)[..., None])[..., 0]
        y = y + delta * (y - 2 * (y - math.exp(-t) * mean) / gamma) + math.sqrt(2 * delta) * z
    details = (basis @ y[..., None])[..., 0] * width
    return torch.fft.ifftn(details, dim=axes, norm="ortho").real.movedim(-1, 0)


def _grid(times) -> torch.Tensor:
    grid = _real(times, "times", "(steps + 1,)", 1).double()
    if len(grid) < 2 or bool((grid.diff() >= 0).any()) or grid[-1] < 0:
        raise ValueError(f"times: got {grid.tolist()!r:.80}; expected at least two, descending and >= 0")
    return grid


# ------------------------------------------------------------------------------------------------- details, given what is coarse


def _fields(x, name: str = "fields", size: int | None = None) -> torch.Tensor:
    x = _real(x, name, "(B, L, L)", 3)
    if x.shape[1] != x.shape[2] or x.shape[1] < 2 or size not in (None, x.shape[1]):
        raise ValueError(
            f"{name}: got shape {tuple(x.shape)}; expected (B, L, L) with L {f'= {size}' if size else '>= 2'}"
        )
    return x


def fit_scales(
    fields: torch.Tensor,
    levels: int,
    name: str = "haar",
    *,
    ranges: int = 3,
    powers: tuple[int, ...] = (2, 4, 6),
) -> list[Scale]:
    """Learn p̄_1(x̄_1 | x_1) … p̄_J(x̄_J | x_J) and p_J(x_J) from fields: the conditional score of the details, one linear system a scale.

    Parameters
    ----------
    fields : torch.Tensor, shape (n, L, L)
        Independent samples; L a multiple of 2^levels.
    levels : int, ≥ 1
        J.
    name : str
        The wavelet.
    ranges, powers
        The terms of every energy, those of `physgen.scales.phi4.fit_couplings`: neighbours of that many ranges, and even powers.

    Returns
    -------
    list of Scale
        Fine to coarse, the unconditional law of x_J last.

    Raises
    ------
    ValueError
        If a shape, the wavelet or a number does not fit.

    Notes
    -----
    Marchand, Ozawa, Biroli, Mallat (2022), where the fit is by likelihood; score matching: Hyvärinen (2005). Claim MSD-6.
    """
    x, scales = _fields(fields).double(), []
    couplings = phi4.fit_scales(x, count(levels, "levels", 1), name, ranges=ranges, powers=powers)
    for law in couplings[:-1]:
        parts = _split(x, name)
        scales.append(Scale(x.shape[1], law, tuple(powers), parts[1:].flatten(1).std(1), name))
        x = parts[0]
    scales.append(Scale(x.shape[1], couplings[-1], tuple(powers), x.std().reshape(1), ""))
    return scales


def exact_scale(fields: torch.Tensor, beta: float, name: str = "haar") -> Scale:
    """The finest conditional law of the field φ⁴, p̄_1(x̄_1 | x_1): exactly its action, read as a function of the details.

    Parameters
    ----------
    fields : torch.Tensor, shape (n, L, L)
        Some of its fields: the standard deviations of the details are theirs, which set the steps of the sampler and nothing else.
    beta : float, ≥ 0
        Convention B: S = −β Σ_<ij> φ_i φ_j + Σ_i (φ_i⁴ − φ_i²).
    name : str
        The wavelet; "" for the whole law, no detail conditioned on anything.

    Raises
    ------
    ValueError
        If a shape, the wavelet or a number does not fit.
    """
    x, zero = _fields(fields).double(), torch.zeros(3, dtype=torch.float64)
    bond = torch.tensor([number(beta, "beta", 0)], dtype=torch.float64)
    law = phi4.Couplings(
        bond, torch.tensor([*phi4.potential(float(beta))], dtype=torch.float64), zero, zero.diag()
    )
    width = _split(x, name)[1:].flatten(1).std(1) if name else x.std().reshape(1)
    return Scale(x.shape[1], law, (2, 4), width, name)


def energy(fields: torch.Tensor, scale: Scale) -> torch.Tensor:
    """E_θ(x) = Σ_r β_r ½ Σ (x_i − x_j)² + Σ_k v_k Σ_i x_i^k of each field, (B,) float64: −log p̄(x̄ | x_j) up to a function of x_j.

    Raises
    ------
    ValueError
        If the fields are not (B, L, L) with the L of the scale.
    """
    return _energy_and_force(_fields(fields, size=scale.size), scale)[0]


def _energy_and_force(x: torch.Tensor, scale: Scale) -> tuple[torch.Tensor, torch.Tensor]:
    """E_θ, (B,) float64, and −∂E_θ/∂x."""
    bonds = scale.law.bonds.tolist()
    shifts = phi4.RANGES[2][: len(bonds)]
    pull = 2 * sum(beta * len(s) for beta, s in zip(bonds, shifts, strict=True)) * x
    for beta, s in zip(bonds, shifts, strict=True):
        pull -= beta * phi4._around(x, s)
    square, value, slope = x * x, 0.0, 0.0
    for k in range(max(scale.powers), 0, -2):  # Horner's rule in x²: V = x² · value, V' = x · slope
        v = float(scale.law.potential[scale.powers.index(k)]) if k in scale.powers else 0.0
        value, slope = value * square + v, slope * square + k * v
    level = (x * pull / 2 + square * value).sum((1, 2), dtype=torch.float64)
    return level, -(pull + x * slope)


def conditional_score(fields: torch.Tensor, scale: Scale) -> torch.Tensor:
    """∇_x̄ log p̄(x̄ | x_j) = −∂E_θ/∂x̄ at the details of each field: the details of the force on the whole field, coarse part included.

    Parameters
    ----------
    fields : torch.Tensor, shape (B, L, L)
        x_{j−1}, made of x̄_j and x_j.
    scale : Scale

    Returns
    -------
    torch.Tensor
        (3, B, L/2, L/2): horizontal, vertical and diagonal details. For a coarsest scale (1, B, L, L): the whole force.

    Raises
    ------
    ValueError
        If the fields are not (B, L, L) with the L of the scale.
    """
    return _moved(_energy_and_force(_fields(fields, size=scale.size), scale)[1], scale)


def _moved(x: torch.Tensor, scale: Scale) -> torch.Tensor:
    """The coordinates that a scale moves: details, or (no wavelet) all sites."""
    return _split(x, scale.wavelet)[1:] if scale.wavelet else x[None]


def _rebuilt(moved: torch.Tensor, coarse: torch.Tensor, scale: Scale) -> torch.Tensor:
    return _join(torch.cat([coarse[None], moved]), scale.wavelet) if scale.wavelet else moved[0]


def resample(
    fields: torch.Tensor,
    scale: Scale,
    *,
    moves: int = 60,
    step: float = 0.5,
    leapfrogs: int = 4,
    warmup: int = 0,
    generator: torch.Generator | None = None,
    watch: Callable[[torch.Tensor], None] | None = None,
) -> tuple[torch.Tensor, float]:
    """Move the details of fields at fixed coarse fields, by hybrid Monte Carlo of their conditional law.

    In units of their standard deviations the details are well conditioned at every scale, and one step serves all. One leapfrog step
    is a step of MALA, h = step²/2 in those units. The chain leaves e^{−E_θ} invariant, apart from `warmup`.

    Parameters
    ----------
    fields : torch.Tensor, shape (B, L, L)
        Where the chains begin; their coarse parts stay. Floating point, and so are the moves.
    scale : Scale
        Of L. A coarsest one moves all sites.
    moves : int, ≥ 1
        Trajectories.
    step : float, > 0
        ε, in units of the standard deviations.
    leapfrogs : int, ≥ 1
        Steps of a trajectory.
    warmup : int, ≥ 0
        Moves beforehand during which the step adapts to an acceptance of about 0.7, starting from `step`.
    generator : torch.Generator, optional
    watch : callable, optional
        Shown the moved coordinates, divided by their standard deviations, after every move: (3, B, L/2, L/2), or (1, B, L, L).

    Returns
    -------
    (torch.Tensor, float)
        The fields, dtype of the input, and the share of moves accepted, `warmup` not counted.

    Raises
    ------
    ValueError
        If a shape or a number does not fit.

    Notes
    -----
    Duane, Kennedy, Pendleton, Roweth (1987); Marchand, Ozawa, Biroli, Mallat (2022). Claims MSD-7, MSD-8.
    """
    x, own = _fields(fields, size=scale.size), stream(generator, fields.device)
    step, warmup = number(step, "step", 0, strict=True), count(warmup, "warmup", 0)
    moves, leapfrogs = count(moves, "moves", 1), count(leapfrogs, "leapfrogs", 1)
    parts = _split(x, scale.wavelet) if scale.wavelet else None
    coarse = parts[0] if parts is not None else x
    width = scale.widths.to(x)[:, None, None, None]
    y = _moved(x, scale) / width

    def energy_and_push(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        level, force = _energy_and_force(x, scale)
        return level, _moved(force, scale) * width

    def half(z: torch.Tensor) -> torch.Tensor:
        return z.square().sum((0, 2, 3), dtype=torch.float64) / 2

    (level, push), accepted = energy_and_push(x), 0.0
    for move in range(warmup + moves):
        p = torch.randn(y.shape, generator=own, dtype=y.dtype, device=y.device)
        begin, z, f, inside = half(p), y, push, torch.ones(len(x), dtype=torch.bool, device=x.device)
        for _ in range(leapfrogs):
            p = p + step / 2 * f
            z = z + step * p
            inside &= z.abs().amax((0, 2, 3)) < FAR
            z = torch.where(inside[:, None, None], z, y)
            new = _rebuilt(z * width, coarse, scale)
            after, f = energy_and_push(new)
            p = p + step / 2 * f
        uniform = torch.rand(len(x), generator=own, dtype=torch.float64, device=x.device)
        kept = inside & (uniform.log() < level + begin - after - half(p))
        y, push = (torch.where(kept[:, None, None], a, b) for a, b in ((z, y), (f, push)))
        x, level = torch.where(kept[:, None, None], new, x), torch.where(kept, after, level)
        share = float(kept.double().mean())
        if move < warmup:
            step *= math.exp(0.3 * (share - 0.7))
        else:
            accepted += share / moves
        if watch is not None:
            watch(y)
    return x, accepted


def sample(
    scales: list[Scale],
    n: int,
    *,
    coarsest: torch.Tensor | None = None,
    moves: int = 60,
    leapfrogs: int = 4,
    coarse_moves: int = 400,
    dtype: torch.dtype = torch.float32,
    generator: torch.Generator | None = None,
) -> Generated:
    """Fields from coarse to fine: x_J from p_J, then at each scale details from p̄_j(x̄_j | x_j), and x_{j−1} from both.

    Every chain begins at independent normal details of half the right width and takes the same number of moves at every scale, half of them
    to find its step.

    Parameters
    ----------
    scales : list of Scale
        Fine to coarse, as `fit_scales` returns them; `exact_scale` may stand for the first.
    n : int, ≥ 1
        Fields.
    coarsest : torch.Tensor, shape (n, L_J, L_J), optional
        x_J; None draws them from the last scale, which then is a whole law, each with a random sign.
    moves, leapfrogs : int
        Trajectories at each scale, and their leapfrog steps.
    coarse_moves : int
        Trajectories at the coarsest scale.
    dtype : torch.dtype
        float32 or float64.
    generator : torch.Generator, optional

    Returns
    -------
    Generated
        ``fields`` of all sizes, coarse to fine, and the ``acceptance`` at each.

    Raises
    ------
    ValueError
        If the scales do not follow each other by a factor of two, or a shape or number does not fit.

    Notes
    -----
    Marchand, Ozawa, Biroli, Mallat (2022). Claims PHI-5, MSD-8.
    """
    *finer, last = scales
    sizes = [scale.size for scale in scales]
    if last.wavelet or any(a != 2 * b for a, b in pairwise(sizes)) or not all(s.wavelet for s in finer):
        raise ValueError(
            f"scales: got sizes {sizes}; expected each twice the next, and the whole law of the coarsest last"
        )
    n, moves, own = count(n, "n", 1), count(moves, "moves", 2), stream(generator)
    if coarsest is None:
        x = torch.randn(n, last.size, last.size, generator=own, dtype=dtype) * (float(last.widths) / 2)
        x, share = _settled(x, last, count(coarse_moves, "coarse_moves", 2), leapfrogs, own)
        x = x * (2 * torch.randint(2, (n, 1, 1), generator=own) - 1).to(dtype)
    else:
        x, share = _fields(coarsest, "coarsest", last.size).to(dtype), 1.0
        if len(x) != n:
            raise ValueError(f"coarsest: got {len(x)} fields; expected n = {n}")
    fields, shares = [x], [share]
    for scale in reversed(finer):
        noise = torch.randn(3, *x.shape, generator=own, dtype=dtype) / 2  # further out the energy is steep
        start = _rebuilt(noise * scale.widths.to(dtype)[:, None, None, None], x, scale)
        x, share = _settled(start, scale, moves, leapfrogs, own)
        fields.append(x)
        shares.append(share)
    return Generated(tuple(fields), tuple(shares))


def _settled(x, scale: Scale, moves: int, leapfrogs: int, own: torch.Generator) -> tuple[torch.Tensor, float]:
    return resample(x, scale, moves=moves - moves // 2, warmup=moves // 2, leapfrogs=leapfrogs, generator=own)


def match_moments(
    scale: Scale,
    fields: torch.Tensor,
    *,
    rounds: int = 8,
    chains: int = 2000,
    moves: int = 40,
    generator: torch.Generator | None = None,
) -> Scale:
    """Maximum likelihood of a coarsest law, from where score matching left it: ⟨f⟩_θ = E_data f for every term f.

    ∇ℓ = E_data f − ⟨f⟩_θ and ∇²ℓ = Cov_θ f for E_θ = ⟨θ, f⟩, so Newton's step is θ ← θ + Cov_θ(f)^{−1} (⟨f⟩_θ − E_data f), with the
    averages over chains that go on from one round to the next. The score is local and knows little of the weights of two wells;
    the likelihood knows them.

    Parameters
    ----------
    scale : Scale
        A coarsest one, of a few sites.
    fields : torch.Tensor, shape (n, L, L)
        Samples of it.
    rounds, chains, moves : int
        Newton's steps, chains and their trajectories between two steps.
    generator : torch.Generator, optional

    Returns
    -------
    Scale
        With new coefficients, and their standard errors, those of the likelihood: Cov^{−1}/n.

    Raises
    ------
    ValueError
        If a shape or a number does not fit, or the scale is a conditional law.

    Notes
    -----
    Notes 6.6 (6.6.10–11). Claim MSD-6.
    """
    if scale.wavelet:
        raise ValueError(
            "scale: got the conditional law of details; expected the whole law of a coarsest field"
        )
    data, own = _fields(fields, size=scale.size).double(), stream(generator)
    target, ranges = _statistics(data, scale).mean(0), len(scale.law.bonds)
    x = torch.randn(count(chains, "chains", 2), scale.size, scale.size, generator=own, dtype=torch.float64)
    x, _ = resample(x * (scale.widths / 2), scale, moves=5 * moves, warmup=5 * moves, generator=own)
    for _ in range(count(rounds, "rounds", 1)):
        f = _statistics(x, scale)
        inverse = torch.linalg.inv(torch.cov(f.T))
        theta = torch.cat([scale.law.bonds, scale.law.potential]) + inverse @ (f.mean(0) - target)
        law = (theta[:ranges], theta[ranges:], (inverse.diagonal() / len(data)).sqrt(), inverse / len(data))
        scale = scale._replace(law=phi4.Couplings(*law))
        x, _ = resample(x, scale, moves=moves, warmup=moves // 4, generator=own)
    return scale


def _statistics(x: torch.Tensor, scale: Scale) -> torch.Tensor:
    """f of each field, (B, terms): a homogeneous term of degree p is x·∇f/p."""
    degrees = torch.tensor([2] * len(scale.law.bonds) + list(scale.powers), dtype=x.dtype)
    slopes = phi4._gradients(x, len(scale.law.bonds), scale.powers)
    return torch.einsum("bij,mbij->bm", x, slopes) / degrees


# ------------------------------------------------------------------------------------------------- autocorrelation, measured


def pixel_autocorrelation(
    L: int,
    beta: float,
    *,
    moves: int = 4000,
    chains: int = 16,
    step: float = 0.15,
    thin: int = 5,
    start: torch.Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Chain:
    """τ_int of the mean of φ in steps of MALA on the whole field φ⁴ (convention B): what is coarse moves slowest.

    Parameters
    ----------
    L : int, ≥ 2
    beta : float, ≥ 0
    moves : int
        Steps of each chain, after a fifth as many to begin with; trust τ_int below moves/50.
    chains : int
    thin : int, ≥ 1
        The mean is recorded every `thin` steps, which is to be short against τ_int.
    step : float, > 0
        ε; h = ε²/2 is the time of a step of Langevin dynamics.
    start : torch.Tensor, shape (chains, L, L), optional
        Fields in equilibrium, if the chain cannot find it.
    generator : torch.Generator, optional

    Returns
    -------
    Chain
        ``tau`` and ``acceptance``.

    Raises
    ------
    ValueError
        If a shape or a number is out of its range.

    Notes
    -----
    Claim MSD-7. At the critical point τ ∼ L^z, z ≈ 2.17.
    """
    h = number(step, "step", 0, strict=True) ** 2 / 2
    thin = count(thin, "thin", 1)
    warmup = 0 if start is not None else count(moves, "moves", 5) // 5
    how = {"chains": chains, "records": count(moves, "moves", 2 * thin) // thin, "thin": thin}
    made = phi4.sample(L, beta, "mala", **how, warmup=warmup, step=h, start=start, generator=generator)
    return Chain(thin * autocorrelation_time(made.magnetization), made.acceptance)


def detail_autocorrelation(
    fields: torch.Tensor,
    scale: Scale,
    *,
    moves: int = 1000,
    step: float | None = None,
    leapfrogs: int = 1,
    generator: torch.Generator | None = None,
) -> Chain:
    """τ_int of details at fixed coarse fields, in steps of MALA, for each kind of detail.

    Two chains with the same coarse field differ by something whose mean is zero and whose autocorrelation is that of either, so that no
    conditional mean need be known. Unless given, the step is found in the moves beforehand, for an acceptance of 0.7.

    Parameters
    ----------
    fields : torch.Tensor, shape (B, L, L)
        In equilibrium; their coarse parts are kept.
    scale : Scale
    moves : int
        Steps of each chain, after a fifth as many in which the two part.
    step : float, > 0, optional
        ε, in units of the standard deviations of the details.
    leapfrogs : int
        1: MALA.
    generator : torch.Generator, optional

    Returns
    -------
    Chain
        ``tau``, of each kind of detail (for a coarsest scale, of a site), and ``acceptance``.

    Raises
    ------
    ValueError
        If a shape or a number does not fit.

    Notes
    -----
    Claims PHI-5, MSD-7.
    """
    x, rows = _fields(fields, size=scale.size), []
    moves = count(moves, "moves", 2)
    twice, half, own = torch.cat([x, x]), len(x), stream(generator, x.device)
    if step is not None:  # the two chains must part before they are compared
        before = {"moves": max(1, moves // 5), "step": step, "leapfrogs": leapfrogs}
        twice, _ = resample(twice, scale, **before, generator=own)
    _, share = resample(
        twice,
        scale,
        moves=moves,
        step=0.5 if step is None else step,
        leapfrogs=leapfrogs,
        warmup=moves // 5 if step is None else 0,
        generator=own,
        watch=lambda y: rows.append(y[:, :half] - y[:, half:]),
    )
    series = torch.stack(rows[-moves:], -1).flatten(1, -2)
    return Chain(torch.stack([autocorrelation_time(s) for s in series]), share)
