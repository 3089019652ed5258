"""The renormalization group, exact where it can be and measured where not (the chapter `scales/renormalization`).

An orthonormal change of variables splits x_{j−1} into what is kept and what is integrated out, x_{j−1} = (x_j, x̄_j). Bayes' rule
is p_{j−1} = p_j(x_j) p̄_j(x̄_j | x_j), and with p̄_j = e^{−Ū_j}/Z̄_j the energies obey

    U_{j−1}(x_{j−1}) = U_j(x_j) + Ū_j(x̄_j, x_j) + log Z̄_j(x_j),    U_j(x_j) = −log ∫ e^{−U_{j−1}} dx̄_j :

the free energy −log Z̄_j depends on x_j and is what generates new couplings. For Gaussians, U = ½ xᵀKx, it is quadratic, so that
K_j = K_cc − K_cf K_ff⁻¹ K_fc, a Schur complement, and Ū_j has the Hessian K̄_j = K_ff, which wavelets keep well conditioned at all
scales (Marchand, Ozawa, Biroli, Mallat 2022).

Ising spins s = ±1 on periodic lattices have p(s) ∝ e^{−E/T}, E = −Σ_⟨ij⟩ s_i s_j, k_B = 1, K = 1/T; on an axis of size 2 the two
bonds of neighbours both count. Energies and magnetisations are per site. What the plane does (Onsager 1944, Yang 1952) and what a
torus of any size does (Kaufman 1949) is exact; on samples couplings are *measured*, before and after blocking, by maximum
pseudo-likelihood (Besag 1975). Exact solutions are float64.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import reduce
from itertools import product
from typing import NamedTuple

import numpy as np
import torch
from scipy.optimize import minimize
from scipy.spatial import cKDTree
from scipy.special import ellipkm1, expit, gammaln
from torch.nn.functional import logsigmoid

from physgen.checks import count, number, stream
from physgen.diffusion.processes import _finite
from physgen.kernels import philox
from physgen.kernels.lattice import energy, heat_bath, magnetization, wolff
from physgen.kernels.wavelet import dwt, dwt2, filters

__all__ = [
    "CRITICAL_TEMPERATURE",
    "TERMS",
    "ChainLogs",
    "Couplings",
    "Estimate",
    "IsingSample",
    "Scale",
    "binder",
    "block",
    "chain_log_joint",
    "chain_rule",
    "circulant",
    "conditional_condition_numbers",
    "conditional_energy",
    "correlation_length",
    "critical_coupling",
    "crossing",
    "cumulant_flow",
    "decimation",
    "decimation2",
    "decimation_constant",
    "decimation_couplings",
    "effective_energy",
    "fit_couplings",
    "flow_exponent",
    "ising_sample",
    "lipschitz_cells",
    "log_normalizer",
    "nearest_neighbour_distance",
    "onsager_energy",
    "onsager_free_energy",
    "onsager_magnetization",
    "power_law_spectrum",
    "scale_log_densities",
    "scales",
    "schur",
    "small_torus",
    "spectral_condition_numbers",
    "torus_binder",
    "torus_distances",
    "torus_energy",
    "torus_log_partition",
    "torus_specific_heat",
    "total_correlation",
]

CRITICAL_TEMPERATURE = 2 / math.log1p(math.sqrt(2))
LOG_2PI = math.log(2 * math.pi)


class ChainLogs(NamedTuple):
    """Log-densities of whole paths of a Markov chain, each (batch,)."""

    forward: torch.Tensor  # log p(x_0) + Σ_t log p(x_t | x_{t−1})
    reverse: torch.Tensor  # log p(x_T) + Σ_t log p(x_{t−1} | x_t)
    ansatz: torch.Tensor  # the reverse one with N(0, 1) in place of p(x_T)


class Scale(NamedTuple):
    """One step of the Gaussian renormalization group, from n variables to those that are kept."""

    coarse: torch.Tensor  # K_j, the precision of what is kept
    fine: torch.Tensor  # K̄_j = K_ff, the precision of the details given what is kept
    coupling: torch.Tensor  # K_fc, (details, kept)


class Estimate(NamedTuple):
    """A number from samples and its standard error."""

    value: float
    error: float


class IsingSample(NamedTuple):
    """Lattices in equilibrium, and what was measured on the way."""

    spins: torch.Tensor  # (chains · keep, L, L) int8, those of a chain in a row
    energy: torch.Tensor  # (chains, measurements) float64, per site
    magnetization: torch.Tensor  # (chains, measurements) float64, per site, with its sign


class Couplings(NamedTuple):
    """Couplings K_a of −E/T = Σ_a K_a S_a and their standard errors, float64, in the order of the terms asked for."""

    values: torch.Tensor
    errors: torch.Tensor


# ------------------------------------------------------------------------------------- the curse, and what factorises it


def lipschitz_cells(d: int, constant: float, eps: float) -> float:
    """Cells of a partition of [0, 1]^d on which a density of Lipschitz constant K is constant within ε: ⌈K√d/(2ε)⌉^d.

    A cube of side a has its corners at a√d/2 from its centre, where the density may differ by K a √d/2 ≤ ε.

    Parameters
    ----------
    d : int, ≥ 1
    constant : float, > 0
        K in |p(x) − p(x')| ≤ K |x − x'| for x, x' in [0, 1]^d.
    eps : float, > 0

    Returns
    -------
    float
        A float, since it soon exceeds every integer type; ∞ beyond 10³⁰⁸.

    Raises
    ------
    ValueError
        If a number is not positive.

    Notes
    -----
    Claim OVW-1.
    """
    d = count(d, "d")
    constant, eps = number(constant, "constant", 0, strict=True), number(eps, "eps", 0, strict=True)
    side = math.ceil(constant * math.sqrt(d) / (2 * eps) * (1 - 1e-12))  # 1.0000000000000002 is one cell
    return math.exp(d * math.log(side)) if d * math.log(side) < 709 else math.inf


def nearest_neighbour_distance(n: int, d: int) -> float:
    """E r = Γ(1 + 1/d) (n V_d)^{−1/d}: from a point to the nearest of n uniform points, V_d the volume of the unit ball.

    The inverse, n ≈ (Γ(1 + 1/d)/ε)^d / V_d, is the number of data at which each has one within ε. Exact for a Poisson process
    of density n; on the unit torus a good approximation as long as the ball of radius r hardly meets itself.

    Raises
    ------
    ValueError
        If n or d is not an integer ≥ 1.

    Notes
    -----
    Claim OVW-2.
    """
    n, d = count(n, "n"), count(d, "d")
    log_volume = d / 2 * math.log(math.pi) - gammaln(d / 2 + 1)
    return math.exp(gammaln(1 + 1 / d) - (math.log(n) + log_volume) / d)


def torus_distances(
    n: int, d: int, queries: int | None = None, generator: torch.Generator | None = None
) -> torch.Tensor:
    """Distances to the nearest other one of n uniform points of the unit torus, from the first `queries` of them; float64.

    Raises
    ------
    ValueError
        If n < 2, d < 1 or there are not between 1 and n queries.
    """
    n, d = count(n, "n", 2), count(d, "d")
    queries = n if queries is None else count(queries, "queries")
    if queries > n:
        raise ValueError(f"queries: got {queries}; expected at most n = {n}")
    points = torch.rand(n, d, generator=stream(generator), dtype=torch.float64).numpy()
    distance, _ = cKDTree(points, boxsize=1).query(points[:queries], 2)  # the first is the point itself
    return torch.from_numpy(distance[:, 1].copy())


def chain_rule(p: torch.Tensor) -> list[torch.Tensor]:
    """The factors p(x_k | x_0 … x_{k−1}) of a table of probabilities: their product is p, whatever p is.

    Parameters
    ----------
    p : torch.Tensor
        (q_0, …, q_{m−1}), nonnegative, sum 1: p[x_0, …, x_{m−1}].

    Returns
    -------
    list of torch.Tensor
        Factor k has the shape (q_0, …, q_k, 1, …, 1), so that all broadcast together. 0 where p(x_0 … x_{k−1}) = 0.

    Raises
    ------
    ValueError
        If p is no table of probabilities.

    Notes
    -----
    Claim OVW-3a. The assumption ∏_k p(x_k) is another thing: `total_correlation`.
    """
    p = _finite(p, "p", "(q_0, ..., q_m), at least one axis", max(getattr(p, "ndim", 0), 1)).double()
    if bool((p < 0).any()) or abs(float(p.sum()) - 1) > 1e-9:
        raise ValueError(f"p: got a sum of {float(p.sum())}; expected nonnegative probabilities of sum 1")
    factors, given = [], p.sum().expand([1] * p.ndim)
    for k in range(p.ndim):
        known = p.sum(tuple(range(k + 1, p.ndim)), keepdim=True) if k + 1 < p.ndim else p
        factors.append(torch.where(given > 0, known / given.clamp(min=1e-300), 0.0))
        given = known
    return factors


def chain_log_joint(x: torch.Tensor, decay: float, mean: float = 0.0, variance: float = 1.0) -> ChainLogs:
    """The joint law of a noising chain, forward and in reverse: p(x_0) ∏ p(x_t | x_{t−1}) = p(x_T) ∏ p(x_{t−1} | x_t).

    x_0 ~ N(mean, variance), x_t = c x_{t−1} + √(1 − c²) z: a step of the book's process with c = e^{−Δt}. The kernels of the
    reverse chain are Bayes' p(x_{t−1} | x_t), with the posterior precision 1/v_{t−1} + c²/(1 − c²).

    Parameters
    ----------
    x : torch.Tensor, shape (batch, T + 1), T ≥ 1
        Paths x_0 … x_T.
    decay : float
        c, in (0, 1).
    mean : float
    variance : float, > 0

    Raises
    ------
    ValueError
        If a shape or value does not fit.

    Notes
    -----
    Claim OVW-4.
    """
    x = _finite(x, "x", "(batch, T + 1)", 2).double()
    c, m, v = number(decay, "decay", 0, strict=True), number(mean, "mean"), number(variance, "variance", 0)
    if x.shape[1] < 2 or c >= 1 or v == 0:
        raise ValueError(
            f"x, decay, variance: got {tuple(x.shape)}, {c}, {v}; expected T >= 1, 0 < decay < 1, variance > 0"
        )
    noise = 1 - c**2
    forward, reverse = _log_normal(x[:, 0], m, v), torch.zeros_like(x[:, 0])
    for before, after in zip(x[:, :-1].T, x[:, 1:].T, strict=True):
        forward = forward + _log_normal(after, c * before, noise)
        posterior = 1 / (1 / v + c**2 / noise)
        reverse = reverse + _log_normal(before, posterior * (m / v + c * after / noise), posterior)
        m, v = c * m, c**2 * v + noise
    last = x[:, -1]
    return ChainLogs(forward, reverse + _log_normal(last, m, v), reverse + _log_normal(last, 0.0, 1.0))


def _log_normal(x: torch.Tensor, mean, variance: float) -> torch.Tensor:
    return -((x - mean) ** 2) / (2 * variance) - (math.log(variance) + LOG_2PI) / 2


# ------------------------------------------------------------------------------------------------------- the Gaussian case


def _precision(K) -> torch.Tensor:
    """A symmetric positive definite matrix, float64."""
    K = _finite(K, "K", "(n, n)", 2).detach().double()
    if K.shape[0] != K.shape[1] or not torch.allclose(K, K.T, rtol=0, atol=1e-6 * float(K.abs().max())):
        raise ValueError(f"K: got shape {tuple(K.shape)}; expected a symmetric (n, n) matrix")
    root, info = torch.linalg.cholesky_ex(K)
    # A singular matrix may pass by rounding: its last pivot is then some units of 1e-16.
    if int(info) or float(root.diagonal().min()) ** 2 < 1e-15 * len(K) * float(K.abs().max()):
        raise ValueError("K: got a matrix that is not positive definite; expected a precision matrix")
    return (K + K.T) / 2


def _sides(keep, n: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The indices that are kept, in their order, and the others, ascending."""
    keep = torch.as_tensor(keep)
    if keep.dtype == torch.bool and keep.shape == (n,):
        keep = keep.nonzero()[:, 0]
    whole = keep.ndim == 1 and not keep.is_floating_point() and keep.dtype != torch.bool
    if not whole or not 0 < len(keep) < n or len(set(keep.tolist())) < len(keep):
        raise ValueError(
            f"keep: got {keep.tolist()}; expected some, not all, of {n} indices, or as many booleans"
        )
    if not 0 <= int(keep.min()) <= int(keep.max()) < n:
        raise ValueError(f"keep: got {keep.tolist()}; expected indices in [0, {n})")
    rest = torch.ones(n, dtype=torch.bool)
    rest[keep] = False
    return keep, rest.nonzero()[:, 0]


def schur(K: torch.Tensor, keep) -> torch.Tensor:
    """The precision of the variables that are kept, the others integrated out: K_j = K_cc − K_cf K_ff⁻¹ K_fc.

    It is the inverse of the block of K⁻¹ (the covariance) that belongs to them.

    Parameters
    ----------
    K : torch.Tensor, shape (n, n)
        A precision matrix: p(x) ∝ exp(−½ xᵀKx).
    keep : torch.Tensor or sequence
        The indices c that are kept, in the order wanted, or n booleans; some, not all.

    Returns
    -------
    torch.Tensor
        (len(c), len(c)), float64, symmetric.

    Raises
    ------
    ValueError
        If K is not symmetric and positive definite, or `keep` does not fit.

    Notes
    -----
    Claim RGR-4.
    """
    K = _precision(K)
    return _scale(K, *_sides(keep, len(K))).coarse


def _scale(K: torch.Tensor, c: torch.Tensor, f: torch.Tensor) -> Scale:
    fine, coupling = K[f][:, f], K[f][:, c]
    half = torch.linalg.solve_triangular(torch.linalg.cholesky(fine), coupling, upper=False)
    return Scale(K[c][:, c] - half.T @ half, fine, coupling)


def _kept(x, size: int, name: str) -> torch.Tensor:
    if getattr(_finite(x, name, "(..., n)", max(getattr(x, "ndim", 0), 1)), "shape", (0,))[-1] != size:
        raise ValueError(f"{name}: got shape {tuple(x.shape)}; expected (..., {size})")
    return x.double()


def effective_energy(coarse: torch.Tensor, K: torch.Tensor, keep) -> torch.Tensor:
    """U_j(x_j) = −log ∫ e^{−½xᵀKx} dx̄_j = ½ x_jᵀ K_j x_j + ½ log det K_ff − (n_f/2) log 2π, with its constant.

    Parameters
    ----------
    coarse : torch.Tensor, shape (..., n_c)
        The variables that are kept, x_j.
    K, keep
        As in `schur`.

    Returns
    -------
    torch.Tensor
        (...), float64.

    Raises
    ------
    ValueError
        If a shape does not fit, or as in `schur`.

    Notes
    -----
    Claim RGR-3.
    """
    K = _precision(K)
    c, f = _sides(keep, len(K))
    x, step = _kept(coarse, len(c), "coarse"), _scale(K, c, f)
    return ((x @ step.coarse) * x).sum(-1) / 2 - _log_volume(step.fine)


def _log_volume(fine: torch.Tensor) -> torch.Tensor:
    """log ∫ e^{−½ x̄ᵀ K_ff x̄} dx̄."""
    return len(fine) / 2 * LOG_2PI - torch.linalg.cholesky(fine).diagonal().log().sum()


def conditional_energy(fine: torch.Tensor, coarse: torch.Tensor, K: torch.Tensor, keep) -> torch.Tensor:
    """Ū_j(x̄_j, x_j) = ½ x̄ᵀ K_ff x̄ + x̄ᵀ K_fc x_j: all terms of the energy in which the details take part.

    Its Hessian in x̄ is K_ff, whatever x_j. Shapes (..., n_f) and (..., n_c); raises as `effective_energy`. Claim RGR-3.
    """
    K = _precision(K)
    c, f = _sides(keep, len(K))
    x, y, step = _kept(coarse, len(c), "coarse"), _kept(fine, len(f), "fine"), _scale(K, c, f)
    return ((y @ step.fine) * y).sum(-1) / 2 + ((y @ step.coupling) * x).sum(-1)


def log_normalizer(coarse: torch.Tensor, K: torch.Tensor, keep) -> torch.Tensor:
    """log Z̄_j(x_j) = log ∫ e^{−Ū_j} dx̄_j = ½ x_jᵀ K_cf K_ff⁻¹ K_fc x_j − ½ log det K_ff + (n_f/2) log 2π.

    What the notes drop: U_{j−1} = U_j + Ū_j + log Z̄_j holds with it for every x, and without it for none but K_fc x_j = 0. Shape
    (..., n_c); raises as `effective_energy`. Claim RGR-3.
    """
    K = _precision(K)
    c, f = _sides(keep, len(K))
    x, step = _kept(coarse, len(c), "coarse"), _scale(K, c, f)
    half = torch.linalg.solve_triangular(
        torch.linalg.cholesky(step.fine), step.coupling @ x[..., None], upper=False
    )
    return (half**2).sum((-2, -1)) / 2 + _log_volume(step.fine)


def _analysed(columns: torch.Tensor, wavelet: str, dims: int) -> torch.Tensor:
    """One level of the transform of each row, averages first: (m, n) to (m, n)."""
    if dims == 1:
        return torch.cat(dwt(columns, wavelet, 1), -1)
    side = math.isqrt(columns.shape[1])
    averages, details = dwt2(columns.reshape(-1, side, side), wavelet, 1)
    return torch.cat([part.flatten(1) for part in (averages, *details)], 1)


def _levels(side: int, levels: int | None) -> int:
    most = (side & -side).bit_length() - 1  # how often 2 divides it
    levels = most if levels is None else count(levels, "levels")
    if not 1 <= levels <= most:
        raise ValueError(
            f"K: got a side of {side}; expected a multiple of 2^levels, levels = {max(levels, 1)}"
        )
    return levels


def scales(K: torch.Tensor, wavelet: str, levels: int | None = None, dims: int = 1) -> list[Scale]:
    """The Gaussian renormalization group in a wavelet basis: x_{j−1} → averages x_j and details x̄_j, again and again.

    Parameters
    ----------
    K : torch.Tensor, shape (n, n)
        The precision of a periodic signal of n sites, or (`dims` = 2) of an L × L torus, n = L², sites numbered along rows.
    wavelet : str
        ``"haar"``, ``"db1"`` … ``"db8"``.
    levels : int, optional
        As many as 2 divides the side, if not given.
    dims : 1 or 2
        In two dimensions the details of a level are its three bands, in the order of `physgen.kernels.wavelet.dwt2`.

    Returns
    -------
    list of Scale
        Fine to coarse.

    Raises
    ------
    ValueError
        If K is no precision matrix, or its size, the wavelet, `levels` or `dims` does not fit.

    Notes
    -----
    Claims RGR-2b, RGR-4, RGR-8a.
    """
    K = _precision(K)
    if dims not in (1, 2):
        raise ValueError(f"dims: got {dims!r}; expected 1 or 2")
    side = len(K) if dims == 1 else math.isqrt(len(K))
    if side**dims != len(K):
        raise ValueError(f"K: got {len(K)} variables; expected L^{dims}")
    out = []
    for _ in range(_levels(side, levels)):
        K = _analysed(_analysed(K, wavelet, dims).T.contiguous(), wavelet, dims)
        index = torch.arange(len(K))
        kept = len(K) // 2**dims
        out.append(_scale(K, index[:kept], index[kept:]))
        K = out[-1].coarse
    return out


def scale_log_densities(x: torch.Tensor, K: torch.Tensor, wavelet: str, levels: int | None = None) -> list:
    """log p_J(x_J), log p̄_J(x̄_J | x_J), …, log p̄_1(x̄_1 | x_1) of N(0, K⁻¹): their sum is log p_0(x_0).

    Parameters
    ----------
    x : torch.Tensor, shape (..., n)
        Periodic signals.
    K, wavelet, levels
        As in `scales`, `dims` = 1.

    Returns
    -------
    list of torch.Tensor
        levels + 1 of shape (...), float64, coarse to fine.

    Raises
    ------
    ValueError
        As `scales`, or if x does not fit K.

    Notes
    -----
    Claim RGR-2b.
    """
    steps = scales(K, wavelet, levels)
    coarse, out = _kept(x, len(K), "x"), []
    for step in steps:
        coarse, fine = dwt(coarse, wavelet, 1)
        root = torch.linalg.cholesky(step.fine)
        centre = -torch.cholesky_solve(step.coupling @ coarse[..., None], root)[..., 0]
        out.append(_log_gaussian(fine - centre, root))
    return [_log_gaussian(coarse, torch.linalg.cholesky(steps[-1].coarse)), *reversed(out)]


def _log_gaussian(x: torch.Tensor, root: torch.Tensor) -> torch.Tensor:
    """log N(x; 0, (root rootᵀ)⁻¹)."""
    return ((root.diagonal().log().sum() - len(root) / 2 * LOG_2PI) - ((x @ root) ** 2).sum(-1) / 2).reshape(
        x.shape[:-1]
    )


def conditional_condition_numbers(
    K: torch.Tensor, wavelet: str, dims: int = 1, levels: int | None = None
) -> torch.Tensor:
    """κ(K̄_j) of the details given the averages, fine to coarse: bounded, where κ(K) grows like L^η for a spectrum ~ |ω|^η.

    Parameters
    ----------
    K, wavelet, dims, levels
        As in `scales`. The cost is that of dense matrices, n³; `spectral_condition_numbers` needs the spectrum only.

    Returns
    -------
    torch.Tensor
        (levels,), float64.

    Raises
    ------
    ValueError
        As `scales`.

    Notes
    -----
    Claims RGR-8a to RGR-8d. Marchand, Ozawa, Biroli, Mallat (2022), arXiv 2207.04941.
    """
    eigenvalues = [torch.linalg.eigvalsh(step.fine) for step in scales(K, wavelet, levels, dims)]
    return torch.stack([e[-1] / e[0] for e in eigenvalues])


def spectral_condition_numbers(
    spectrum: torch.Tensor, wavelet: str, levels: int | None = None
) -> torch.Tensor:
    """`conditional_condition_numbers` of a translation-invariant precision, from its eigenvalues λ(ω): a sum over aliases.

    A level of the transform mixes a frequency ω of the coarse lattice with its 2^dims aliases on the finer one only. With F the
    (bands, aliases) matrix of the filters there, K is F diag(λ) F* at ω: its block of details is K̄_j(ω), of size 1 (one
    dimension) or 3 (two), and the spectrum of K_j is 1/Σ_a |F_0a|²/λ_a.

    Parameters
    ----------
    spectrum : torch.Tensor, shape (L,) or (L, L)
        λ > 0 at ω = 2πk/L, k = 0 … L − 1 on each axis; even in ω, so that the precision is real.
    wavelet, levels
        As in `scales`.

    Returns
    -------
    torch.Tensor
        (levels,), float64, fine to coarse.

    Raises
    ------
    ValueError
        If the spectrum is not positive, even and of such a shape, or the wavelet or `levels` does not fit.

    Notes
    -----
    Claims RGR-8a to RGR-8d.
    """
    out, values = [], _spectrum(spectrum)
    bank = torch.stack(filters(wavelet)).to(torch.complex128) / math.sqrt(2)
    for _ in range(_levels(len(values), levels)):
        n, dims = len(values), values.ndim
        turns = torch.outer(torch.arange(bank.shape[1]), torch.arange(n)).double() % n * (2 * math.pi / n)
        f = (
            (bank @ torch.polar(torch.ones_like(turns), -turns)).unflatten(1, (2, n // 2)).permute(2, 0, 1)
        )  # (coarse ω, band, alias)
        if dims == 2:
            f = torch.einsum("xba,ycd->xybcad", f, f).flatten(4, 5).flatten(2, 3)
            values = values.unflatten(1, (2, -1)).unflatten(0, (2, -1)).permute(1, 3, 0, 2).flatten(2)
        else:
            values = values.unflatten(0, (2, -1)).T
        fine = f[..., 1:, :]
        eigenvalues = torch.linalg.eigvalsh((fine * values[..., None, :]) @ fine.mH)
        out.append(eigenvalues.max() / eigenvalues.min())
        values = 1 / (f[..., 0, :].abs().square() / values).sum(-1)
    return torch.stack(out)


def _spectrum(spectrum) -> torch.Tensor:
    dims = getattr(spectrum, "ndim", 0)
    s = _finite(spectrum, "spectrum", "(L,) or (L, L)", dims if dims in (1, 2) else 1).detach().double()
    axes = tuple(range(s.ndim))
    mirrored = s.flip(axes).roll([1] * s.ndim, axes)
    if len(set(s.shape)) > 1 or bool((s <= 0).any()) or not torch.allclose(s, mirrored, rtol=1e-9, atol=0):
        raise ValueError(
            f"spectrum: got shape {tuple(s.shape)}, least {float(s.min()):g}; expected (L,) or (L, L), "
            "positive and even in the frequency"
        )
    return s


def power_law_spectrum(
    size: int, eta: float = 2.0, dims: int = 1, mass2: float | None = None
) -> torch.Tensor:
    """λ(ω) = (Σ_axes 4 sin²(ω/2))^{η/2} + m²: the eigenvalues of (−Δ)^{η/2} + m² on a ring or torus; η = 2 is the free field.

    Parameters
    ----------
    size : int, ≥ 2
        L.
    eta : float, > 0
    dims : 1 or 2
    mass2 : float, > 0, optional
        m². Without it there is no mass, and the mode ω = 0 gets the value of the lowest other one.

    Returns
    -------
    torch.Tensor
        (L,) or (L, L), float64, ω = 2πk/L.

    Raises
    ------
    ValueError
        If a value does not fit.
    """
    size, eta = count(size, "size", 2), number(eta, "eta", 0, strict=True)
    if dims not in (1, 2):
        raise ValueError(f"dims: got {dims!r}; expected 1 or 2")
    # sin² of the nearer end: exactly even in ω.
    k = torch.arange(size, dtype=torch.float64)
    line = (2 * torch.sin(torch.minimum(k, size - k) * math.pi / size)) ** 2
    power = (line if dims == 1 else line[:, None] + line) ** (eta / 2)
    if mass2 is not None:
        return power + number(mass2, "mass2", 0, strict=True)
    power[(0,) * dims] = power[(0,) * (dims - 1) + (1,)]
    return power


def circulant(spectrum: torch.Tensor) -> torch.Tensor:
    """The precision matrix with these eigenvalues: K(i, k) depends on i − k; (L, L) from (L,), (L², L²) from (L, L).

    Raises
    ------
    ValueError
        If the spectrum is not positive, even and of shape (L,) or (L, L).
    """
    s = _spectrum(spectrum)
    first = torch.fft.ifftn(s).real
    shift = torch.arange(len(s))
    shift = (shift[:, None] - shift) % len(s)
    if s.ndim == 1:
        return first[shift]
    return first[shift[:, None, :, None], shift[None, :, None, :]].reshape(s.numel(), s.numel())


def correlation_length(mass2: float) -> float:
    """ξ of the free field on a line, ⟨x_0 x_r⟩ ∝ e^{−r/ξ}: cosh(1/ξ) = 1 + m²/2, near 1/m for a small mass.

    The smallest eigenvalue of the Hessian −Δ + m² is m²: long correlations are small eigenvalues, and a singular Hessian would be
    no law at all. Raises ValueError unless m² > 0. Claim RGR-1a.
    """
    return 1 / math.acosh(1 + number(mass2, "mass2", 0, strict=True) / 2)


# ---------------------------------------------------------------------------------------------- the Ising model, exactly


def _temperatures(T) -> torch.Tensor:
    if isinstance(T, torch.Tensor):
        if not T.is_floating_point() or not bool((T.isfinite() & (T > 0)).all()):
            raise ValueError(f"T: got {T.dtype} {T.tolist()}; expected finite temperatures > 0")
        return T.detach().double()
    return torch.tensor(number(T, "T", 0, strict=True), dtype=torch.float64)


def onsager_energy(T: float | torch.Tensor) -> torch.Tensor:
    """Energy per site of the infinite square lattice, −coth 2K [1 + (2/π)(2 tanh² 2K − 1) 𝐊(k)], K = 1/T; −√2 at T_c.

    The modulus is k = 2 sinh 2K/cosh² 2K and 1 − k² = (2 tanh² 2K − 1)²: the elliptic integral is taken at 1 − k², so that its
    logarithm at T_c, where the factor before it vanishes, does no harm.

    Parameters
    ----------
    T : float or torch.Tensor, > 0

    Returns
    -------
    torch.Tensor
        float64, the shape of T (no dimension for a number); in (−2, 0).

    Raises
    ------
    ValueError
        If a temperature is not positive and finite.

    Notes
    -----
    Onsager (1944), Phys. Rev. 65, 117; claims ISI-1a, ISI-1b.
    """
    T = _temperatures(T)
    tanh = torch.tanh(2 / T)
    factor, v = 2 * tanh**2 - 1, torch.tanh(1 / T)
    # The least positive number in place of 0: 0 · log is then 0, not NaN.
    elliptic = torch.from_numpy(np.asarray(ellipkm1((factor**2).clamp(min=1e-300).numpy())))
    near = -(1 + 2 / math.pi * factor * elliptic) / tanh
    # Hot, the bracket is a small difference: there from −F/T = log 2 + 2 log cosh K + v⁴ + 2v⁶ + …, v = tanh K.
    hot = -(2 * v + (1 - v**2) * (4 * v**3 + 12 * v**5 + 36 * v**7))
    return torch.where(T < 100, near, hot)


def onsager_magnetization(T: float | torch.Tensor) -> torch.Tensor:
    """Spontaneous magnetisation of the infinite square lattice: (1 − sinh(2/T)^{−4})^{1/8} below T_c, 0 from there on.

    Parameters, what is returned and raised as in `onsager_energy`.

    Notes
    -----
    Yang (1952), Phys. Rev. 85, 808 (announced by Onsager in 1948); claim ISI-2.
    """
    T = _temperatures(T)
    power = torch.sinh((2 / T).clamp(max=300.0)) ** -4
    return (1 - power).clamp(min=0) ** 0.125


def onsager_free_energy(T: float | torch.Tensor) -> torch.Tensor:
    """Free energy per site, −T [½ log 2 + (1/2π) ∫_0^π log(cosh² 2K + √(sinh⁴ 2K + 1 − 2 sinh² 2K cos θ)) dθ].

    By the midpoint rule, which converges exponentially away from T_c and like 1/n² there: below 10⁻⁷ everywhere. Parameters, what
    is returned and raised as in `onsager_energy`.

    Notes
    -----
    Onsager (1944).
    """
    T = _temperatures(T)
    K, n = 1 / T[..., None], 4096
    theta = (torch.arange(n, dtype=torch.float64) + 0.5) * (math.pi / n)
    # All over e^{4K}/4, which never overflows: cosh 2K → 1 + e^{−4K}, sinh 2K → 1 − e^{−4K}.
    small = torch.exp(-4 * K)
    c2, s2, unit = (1 + small) ** 2, (1 - small) ** 2, 4 * small
    root = torch.sqrt((s2 - unit) ** 2 + 2 * s2 * unit * (1 - torch.cos(theta)))
    logs = torch.log(c2 + root).mean(-1) + (4 * K[..., 0] - math.log(4))
    return -T * (math.log(2) / 2 + logs / 2)


def torus_log_partition(T: float | torch.Tensor, rows: int, columns: int | None = None) -> torch.Tensor:
    """log Z of a torus of any size, exactly: Z = ½ (2 sinh 2K)^{mn/2} (Z_1 + Z_2 + Z_3 + Z_4).

    With cosh γ_l = cosh² 2K/sinh 2K − cos(πl/n) and γ_0 = 2K + log tanh K,

        Z_1, Z_2 = ∏_{r<n} 2 cosh, 2 sinh (m γ_{2r+1}/2),    Z_3, Z_4 = ∏_{r<n} 2 cosh, 2 sinh (m γ_{2r}/2).

    γ_0 changes its sign at T_c, and Z_4 with it.

    Parameters
    ----------
    T : float or torch.Tensor, ≥ 0.01
    rows, columns : int, ≥ 2
        m and n; a square if only one is given. On an axis of size 2 both bonds of neighbours count.

    Returns
    -------
    torch.Tensor
        float64, the shape of T.

    Raises
    ------
    ValueError
        If a temperature or a size does not fit.

    Notes
    -----
    Kaufman (1949), Phys. Rev. 76, 1232, eq. 42; Ferdinand, Fisher (1969), Phys. Rev. 185, 832. Claim ISI-3a.
    """
    return _log_partition(*_torus(T, rows, columns))


def _torus(T, rows, columns) -> tuple[torch.Tensor, int, int]:
    """K = 1/T and the sizes."""
    T, m = _temperatures(T), count(rows, "rows", 2)
    if bool((T < 0.01).any()):
        raise ValueError(f"T: got {T.tolist()}; expected T >= 0.01 (sinh 2/T leaves float64)")
    return 1 / T, m, m if columns is None else count(columns, "columns", 2)


def _log_partition(K: torch.Tensor, m: int, n: int) -> torch.Tensor:
    """log Z, differentiable in K = 1/T."""
    k = K[..., None]
    # cosh γ − 1 = u/2 with u = 2 (c − 1) + 4 sin²(πl/2n), c = cosh² 2K/sinh 2K − 1 = 1 + (1 − sinh 2K)²/sinh 2K, and
    # γ = 2 asinh(√u/2): nothing is subtracted that is close, and sinh 2K does not overflow.
    log_sinh = 2 * k + torch.log(-torch.expm1(-4 * k) / 2)
    c = torch.exp(log_sinh) - 2 + torch.exp(-log_sinh)
    l = torch.arange(2 * n, dtype=torch.float64)  # noqa: E741
    u = 2 * c + 4 * torch.sin(math.pi * l / (2 * n)) ** 2
    gamma = 2 * torch.asinh(torch.sqrt(u[..., 1:]) / 2)  # γ_1 … γ_{2n−1}; γ_0 has a sign and stands apart
    odd, even = m / 2 * gamma[..., 0::2], m / 2 * gamma[..., 1::2]
    a = m / 2 * (2 * k + torch.log(torch.tanh(k)))[..., 0]
    # log ∏ 2 cosh and ∏ tanh, and 1 − ∏ tanh with its small difference kept.
    log_odd, log_even = ((x + torch.log1p(torch.exp(-2 * x))).sum(-1) for x in (odd, even))
    tanh_odd, tanh_even = (
        torch.log1p(-2 / (1 + torch.exp(-2 * x)) * torch.exp(-2 * x)).sum(-1) for x in (odd, even)
    )
    # Z_3 + Z_4 = ∏ 2 cosh · [e^a (1 + t) + e^{−a} (1 − t)]: smooth through a = 0.
    top = torch.maximum(log_odd, log_even + a.abs()).detach()
    total = (
        torch.exp(log_odd - top) * (1 + torch.exp(tanh_odd))
        + torch.exp(log_even + a - top) * (1 + torch.exp(tanh_even))
        - torch.exp(log_even - a - top) * torch.expm1(tanh_even)
    )
    return m * n / 2 * (math.log(2) + log_sinh[..., 0]) - math.log(2) + top + torch.log(total)


def _derivatives(T, rows: int, columns: int | None) -> tuple[torch.Tensor, torch.Tensor]:
    """∂ log Z/∂K and ∂² log Z/∂K² per site."""
    K, m, n = _torus(T, rows, columns)
    with torch.enable_grad():
        K.requires_grad_()
        (first,) = torch.autograd.grad(_log_partition(K, m, n).sum(), K, create_graph=True)
        (second,) = torch.autograd.grad(first.sum(), K)
    return first.detach() / (m * n), second / (m * n)


def torus_energy(T: float | torch.Tensor, rows: int, columns: int | None = None) -> torch.Tensor:
    """Mean energy per site of a torus, exactly: −∂ log Z/∂K / (mn). Parameters, what is raised as in `torus_log_partition`."""
    return -_derivatives(T, rows, columns)[0]


def torus_specific_heat(T: float | torch.Tensor, rows: int, columns: int | None = None) -> torch.Tensor:
    """Specific heat per site of a torus, exactly: mn Var(energy per site)/T², K² ∂² log Z/∂K² / (mn); as `torus_energy`."""
    return _derivatives(T, rows, columns)[1] / _temperatures(T) ** 2


def total_correlation(T: float | torch.Tensor, rows: int, columns: int | None = None) -> torch.Tensor:
    """KL(p ‖ ∏_i p_i) of the spins of a torus, in nats: N log 2 − S with S = log Z + ⟨E⟩/T; what independent factors lose.

    Each spin alone is a fair coin. Parameters, what is raised as in `torus_log_partition`. Claim OVW-3a.
    """
    sites = rows * (rows if columns is None else columns)
    entropy = torus_log_partition(T, rows, columns) + sites * torus_energy(T, rows, columns) / _temperatures(
        T
    )
    return sites * math.log(2) - entropy


def torus_binder(T: float | torch.Tensor, rows: int, columns: int | None = None) -> torch.Tensor:
    """Binder's cumulant 1 − ⟨m⁴⟩/(3⟨m²⟩²) of a small torus, exactly: the trace of transfer matrices, to fourth order in a field.

    With a field h each row gets the factor e^{hM} of its sum M; the coefficients of Z(h) = tr 𝐓(h)^m are the moments ⟨M^k⟩/k!.

    Parameters
    ----------
    T : float or torch.Tensor, ≥ 0.01
    rows, columns : int, ≥ 2
        A square if only one is given. Matrices have 2^columns rows: columns ≤ 10 (8 takes a tenth of a second, 10 ten seconds).

    Returns
    -------
    torch.Tensor
        float64, the shape of T.

    Raises
    ------
    ValueError
        If a temperature or a size does not fit.

    Notes
    -----
    Claims ISI-4a, ISI-4b.
    """
    K, m, n = _torus(T, rows, columns)
    if n > 10:
        raise ValueError(f"columns: got {n}; expected at most 10")
    row = torch.tensor(list(product((-1.0, 1.0), repeat=n)), dtype=torch.float64)
    along, powers = (row * row.roll(1, 1)).sum(1), [row.sum(1) ** k / math.factorial(k) for k in range(5)]
    out = []
    for k in K.flatten():
        log_transfer = k * (row @ row.T + (along[:, None] + along) / 2)
        transfer = torch.exp(log_transfer - log_transfer.max())
        series = reduce(_series_product, [[transfer * p for p in powers]] * m)
        z = [c.trace() for c in series]
        out.append(1 - 4 * 3 * 2 * z[4] * z[0] / (3 * (2 * z[2]) ** 2))
    return torch.stack(out).view(K.shape)


def _series_product(a: list[torch.Tensor], b: list[torch.Tensor]) -> list[torch.Tensor]:
    """The product of two power series of matrices, to the same order; scaled, which no ratio sees."""
    c = [sum(a[i] @ b[k - i] for i in range(k + 1)) for k in range(len(a))]
    return [x / c[0].max() for x in c]


def small_torus(T: float, rows: int, columns: int) -> tuple[torch.Tensor, torch.Tensor]:
    """All states of a torus of at most 16 sites and their probabilities.

    Returns
    -------
    states : torch.Tensor
        (2^N, rows, columns) int8.
    p : torch.Tensor
        (2^N,) float64, e^{−E/T}/Z.

    Raises
    ------
    ValueError
        If T ≤ 0, a size is odd or below 2, or there are more than 16 sites.
    """
    T, m, n = number(T, "T", 0, strict=True), count(rows, "rows", 2), count(columns, "columns", 2)
    if m * n > 16 or m % 2 or n % 2:
        raise ValueError(f"rows, columns: got {m} x {n}; expected even sizes, at most 16 sites")
    bits = torch.arange(2 ** (m * n))[:, None] >> torch.arange(m * n) & 1
    states = (2 * bits - 1).to(torch.int8).view(-1, m, n)
    return states, torch.softmax(-m * n * energy(states) / T, 0)


# ---------------------------------------------------------------------------------------------- flows that can be written


def _logcosh(x: float) -> float:
    return abs(x) + math.log1p(math.exp(-2 * abs(x))) - math.log(2)


def decimation(K: float, h: float = 0.0) -> tuple[float, float]:
    """Every second spin of a chain summed out, exactly: K' = ¼ log[cosh(2K + h) cosh(2K − h)/cosh² h], h' = h + ½ log[cosh(2K + h)/cosh(2K − h)].

    Without a field K' = ½ log cosh 2K, tanh K' = tanh² K. The weights are exp(K Σ s_i s_{i+1} + h Σ s_i), temperature included; the
    new transfer matrix is the square of the old one, up to e^g, `decimation_constant`.

    Parameters
    ----------
    K, h : float

    Returns
    -------
    tuple of float
        K' and h'.

    Raises
    ------
    ValueError
        If a number is not finite.

    Notes
    -----
    Nelson, Fisher (1975), Ann. Phys. 91, 226. Claim RGR-11.
    """
    K, h = number(K, "K"), number(h, "h")
    plus, minus = _logcosh(2 * K + h), _logcosh(2 * K - h)
    return (plus + minus) / 4 - _logcosh(h) / 2, h + (plus - minus) / 2


def decimation_constant(K: float, h: float = 0.0) -> float:
    """g, by which each spin that was summed out enters log Z: Z_N(K, h) = e^{Ng/2} Z_{N/2}(K', h').

    g = log 2 + ¼ log[cosh(2K + h) cosh(2K − h)] + ½ log cosh h. Raises as `decimation`. Claim RGR-11.
    """
    K, h = number(K, "K"), number(h, "h")
    return math.log(2) + (_logcosh(2 * K + h) + _logcosh(2 * K - h)) / 4 + _logcosh(h) / 2


def decimation_couplings(K: float) -> tuple[float, float, float]:
    """One spin of the square lattice summed out, exactly: what its four neighbours s_1 … s_4 (in cyclic order) get in return.

    2 cosh K(s_1 + s_2 + s_3 + s_4) = A exp[½K_1 (s_1s_2 + s_2s_3 + s_3s_4 + s_4s_1) + K_2 (s_1s_3 + s_2s_4) + K_4 s_1s_2s_3s_4] with
    K_1 = ¼ log cosh 4K, K_2 = ⅛ log cosh 4K, K_4 = ⅛ log cosh 4K − ½ log cosh 2K. With half the sites gone, each pair of nearest
    neighbours of the new lattice is shared by two that went: K_1 is what it gets from both.

    Returns
    -------
    tuple of float
        K_1 (nearest on the new lattice), K_2 (diagonal), K_4 (four around a site): no longer one coupling.

    Raises
    ------
    ValueError
        If K is not finite.

    Notes
    -----
    Wilson (1975), Rev. Mod. Phys. 47, 773; Maris, Kadanoff (1978), Am. J. Phys. 46, 652. Claim ISI-6.
    """
    two, four = _logcosh(2 * number(K, "K")), _logcosh(4 * number(K, "K"))
    return four / 4, four / 8, four / 8 - two / 2


def cumulant_flow(K1: float, K2: float) -> tuple[float, float]:
    """Decimation of the square lattice cut at second order: K_1' = 2K_1² + K_2, K_2' = K_1², lengths by √2.

    The first orders of `decimation_couplings`; a diagonal coupling of the old lattice joins nearest neighbours of the new one. Its
    fixed points are 0, ∞ and (1/3, 1/9); from K_2 = 0 it is reached at K_1 = 0.3921 (exact: 0.4407).

    Parameters
    ----------
    K1, K2 : float
        Nearest neighbours, diagonal neighbours.

    Raises
    ------
    ValueError
        If a number is not finite.

    Notes
    -----
    Wilson (1975), Rev. Mod. Phys. 47, 773. Claim ISI-6.
    """
    K1, K2 = number(K1, "K1"), number(K2, "K2")
    return 2 * K1**2 + K2, K1**2


def decimation2(K: float) -> float:
    """Decimation of the square lattice with one coupling kept: K' = (3/8) log cosh 4K; fixed point 0.50698, lengths by √2.

    The diagonal coupling of `decimation_couplings` is added to that of nearest neighbours, K_1 + K_2, and K_4 is dropped. Raises
    ValueError if K is not finite.

    Notes
    -----
    Maris, Kadanoff (1978), Am. J. Phys. 46, 652. Claim ISI-7.
    """
    nearest, diagonal, _ = decimation_couplings(K)
    return nearest + diagonal


def critical_coupling(
    flow: Callable[[float, float], tuple[float, float]], lower: float = 0.1, upper: float = 1.0
) -> float:
    """The K_1 at which the flow of (K_1, 0) changes from falling to 0 to growing without bound, by bisection.

    Parameters
    ----------
    flow : callable
        (K_1, K_2) → (K_1', K_2'), such as `cumulant_flow`.
    lower, upper : float
        From `lower` the flow falls to 0, from `upper` it grows.

    Raises
    ------
    ValueError
        If it does not.
    """

    def grows(start: float) -> bool:
        K = start, 0.0
        for _ in range(10_000):
            K = flow(*K)
            if not max(abs(K[0]), abs(K[1])) < 10:
                return True
            if max(abs(K[0]), abs(K[1])) < 1e-3:
                return False
        return False

    lower, upper = number(lower, "lower"), number(upper, "upper")
    if grows(lower) or not grows(upper):
        raise ValueError(f"lower, upper: got {lower}, {upper}; expected a flow to 0 and one without bound")
    while upper - lower > 1e-14:
        middle = (lower + upper) / 2
        lower, upper = (lower, middle) if grows(middle) else (middle, upper)
    return (lower + upper) / 2


# ------------------------------------------------------------------------------------------------------------ simulation


def ising_sample(
    L: int,
    T: float,
    *,
    chains: int = 16,
    measurements: int = 100,
    keep: int = 1,
    method: str = "wolff",
    spacing: int | None = None,
    equilibration: int | None = None,
    start: torch.Tensor | None = None,
    generator: torch.Generator | None = None,
) -> IsingSample:
    """Ising lattices in equilibrium: independent chains of Wolff clusters or heat-bath sweeps, measured as they go.

    Parameters
    ----------
    L : int, even, ≥ 2
        Side of the torus.
    T : float, > 0
    chains : int
        Independent lattices.
    measurements : int
        Of energy and magnetisation, in each chain.
    keep : int, ≤ measurements
        Lattices returned from each chain, evenly spaced, the last one among them.
    method : "wolff" or "heat_bath"
        Wolff's clusters hardly slow down at T_c; the heat bath needs about L^2.2 sweeps there.
    spacing : int, optional
        Clusters or sweeps between measurements. By default one sweep, or as many clusters as flip N spins on average (measured
        while the chains equilibrate, and fixed before the first measurement).
    equilibration : int, optional
        Measurements' worth of steps before the first one: 100 with Wolff, L² with the heat bath by default.
    start : torch.Tensor, shape (chains, L, L) int8, optional
        By default all up to T_c and random above: a quench would leave stripes.
    generator : torch.Generator, optional

    Raises
    ------
    ValueError
        If an argument does not fit.
    """
    L, T = count(L, "L", 2), number(T, "T", 0, strict=True)
    chains, measurements = count(chains, "chains"), count(measurements, "measurements")
    keep = count(keep, "keep")
    if L % 2 or keep > measurements or method not in ("wolff", "heat_bath"):
        raise ValueError(
            f"L, keep, method: got {L}, {keep}, {method!r}; expected an even L, keep <= measurements = "
            f"{measurements} and 'wolff' or 'heat_bath'"
        )
    step = count(1 if spacing is None else spacing, "spacing")
    warm = (
        (100 if method == "wolff" else L**2)
        if equilibration is None
        else count(equilibration, "equilibration", 0)
    )
    own = stream(generator)
    spins, key, done = _start(L, T, chains, start, own), philox.key(own), 0

    def move(spins: torch.Tensor, steps: int) -> tuple[torch.Tensor, float]:
        nonlocal done
        done += steps
        if method == "heat_bath":
            return heat_bath(spins, 1 / T, steps, key, first_step=done - steps), 1.0
        spins, sizes = wolff(spins, 1 / T, steps, key, first_step=done - steps)
        return spins, float(sizes.double().mean()) / L**2 if steps else 1.0

    shares = []
    for _ in range(warm):
        spins, share = move(spins, step)
        shares = [*shares[len(shares) > warm // 2 :], share]  # forgets how the lattices began
        if method == "wolff" and spacing is None:
            step = max(1, round(len(shares) / sum(shares)))
    kept = {((k + 1) * measurements) // keep - 1 for k in range(keep)}
    energies, magnetizations, lattices = [], [], []
    for i in range(measurements):
        spins, _ = move(spins, step)
        energies.append(energy(spins))
        magnetizations.append(magnetization(spins))
        if i in kept:
            lattices.append(spins)
    return IsingSample(
        torch.stack(lattices, 1).flatten(0, 1), torch.stack(energies, 1), torch.stack(magnetizations, 1)
    )


def _start(L: int, T: float, chains: int, start, own: torch.Generator) -> torch.Tensor:
    if start is None:
        if T <= CRITICAL_TEMPERATURE:
            return torch.ones(chains, L, L, dtype=torch.int8)
        return (2 * torch.randint(2, (chains, L, L), generator=own) - 1).to(torch.int8)
    if not isinstance(start, torch.Tensor) or start.shape != (chains, L, L):
        raise ValueError(f"start: got {getattr(start, 'shape', start)!r}; expected ({chains}, {L}, {L})")
    return start


def binder(m: torch.Tensor) -> Estimate:
    """Binder's cumulant U = 1 − ⟨m⁴⟩/(3⟨m²⟩²), its error by the jackknife over chains.

    0 for a Gaussian m, 2/3 for ±m_0; at T_c of the square Ising torus 0.61069 for every large L.

    Parameters
    ----------
    m : torch.Tensor, shape (chains, n), chains ≥ 2
        Magnetisations with their sign; chains independent of each other, values in a chain need not be.

    Raises
    ------
    ValueError
        If the shape does not fit, or all values are 0 or not finite.

    Notes
    -----
    Binder (1981), Z. Phys. B 43, 119. Claims ISI-4a, ISI-4b.
    """
    m = _finite(m, "m", "(chains, n)", 2).detach().double()
    if len(m) < 2 or not bool((m != 0).any()):
        raise ValueError(f"m: got shape {tuple(m.shape)}; expected at least two chains, not all values 0")
    second, fourth = (m**2).mean(1), (m**4).mean(1)
    value, error = _jackknife(torch.stack([second, fourth], 1), lambda s: 1 - s[1] / (3 * s[0] ** 2))
    return Estimate(float(value), float(error))


def _jackknife(rows: torch.Tensor, statistic) -> tuple[torch.Tensor, torch.Tensor]:
    """A statistic of the mean of independent rows, and its standard error."""
    n, total = len(rows), rows.sum(0)
    left = torch.stack([statistic((total - row) / (n - 1)) for row in rows])
    return statistic(total / n), ((n - 1) / n * ((left - left.mean(0)) ** 2).sum(0)).sqrt()


def crossing(
    temperatures: torch.Tensor, small: Sequence[Estimate], large: Sequence[Estimate], degree: int = 2
) -> Estimate:
    """Where two curves cross, those of Binder's cumulant on two sizes say: the root of a polynomial fitted to large − small.

    Parameters
    ----------
    temperatures : torch.Tensor, shape (n,)
        Ascending.
    small, large : sequences of Estimate
        n each, with errors > 0.
    degree : int
        Of the polynomial, below n. On T_c ± 0.5/L a straight line through the cumulants of L and 2L is off by 0.1/L.

    Returns
    -------
    Estimate
        The error is that of the points, carried through the fit.

    Raises
    ------
    ValueError
        If shapes do not fit, an error is not positive, or the fit has no root between the temperatures, or several.
    """
    T = _finite(temperatures, "temperatures", "(n,)", 1).double().numpy()
    degree = count(degree, "degree")
    if not len(small) == len(large) == len(T) > degree or np.any(np.diff(T) <= 0):
        raise ValueError(
            f"temperatures: got {len(T)}, and {len(small)}, {len(large)} values; expected as many each, ascending, "
            f"more than {degree}"
        )
    values = np.array([b.value - a.value for a, b in zip(small, large, strict=True)])
    errors = np.array([math.hypot(a.error, b.error) for a, b in zip(small, large, strict=True)])
    if not np.all(errors > 0):
        raise ValueError("small, large: got errors that are not positive; expected errors > 0")
    centre, width = T.mean(), (T[-1] - T[0]) / 2
    design = np.vander((T - centre) / width, degree + 1) / errors[:, None]
    coefficients, covariance = (
        np.linalg.lstsq(design, values / errors, rcond=None)[0],
        np.linalg.inv(design.T @ design),
    )
    roots = np.roots(coefficients)
    roots = roots[(abs(roots.imag) < 1e-12) & (abs(roots.real) <= 1)].real
    if len(roots) != 1:
        raise ValueError(f"small, large: got {len(roots)} crossings in [{T[0]}, {T[-1]}]; expected one")
    # dx = −Σ_k δc_k x^k / p'(x).
    powers, slope = np.vander(roots, degree + 1)[0], np.polyval(np.polyder(coefficients), roots[0])
    error = math.sqrt(powers @ covariance @ powers) / abs(slope)
    return Estimate(float(centre + width * roots[0]), float(width * error))


# ------------------------------------------------------------------------------------------------ blocking and its flow


def block(
    spins: torch.Tensor, size: int = 2, rule: str = "majority", generator: torch.Generator | None = None
) -> torch.Tensor:
    """Kadanoff's block spins: one spin for size × size, by majority (ties drawn) or by decimation (the first one stays).

    Parameters
    ----------
    spins : torch.Tensor, shape (B, L1, L2) int8 of ±1
        L1 and L2 multiples of `size`.
    size : int, ≥ 2
    rule : "majority" or "decimation"
    generator : torch.Generator, optional
        Draws the ties of the majority.

    Returns
    -------
    torch.Tensor
        (B, L1/size, L2/size) int8 of ±1.

    Raises
    ------
    ValueError
        If an argument does not fit.

    Notes
    -----
    Kadanoff (1966), Physics 2, 263.
    """
    s, size = _lattices(spins), count(size, "size", 2)
    if s.shape[1] % size or s.shape[2] % size or rule not in ("majority", "decimation"):
        raise ValueError(
            f"spins, rule: got {tuple(s.shape)}, {rule!r}; expected sides that are multiples of {size}, "
            "'majority' or 'decimation'"
        )
    if rule == "decimation":
        return s[:, ::size, ::size].contiguous()
    total = s.unflatten(2, (-1, size)).unflatten(1, (-1, size)).sum((2, 4), dtype=torch.int16)
    own = stream(generator, s.device)
    coin = 2 * torch.randint(2, total.shape, generator=own, device=s.device, dtype=torch.int16) - 1
    return torch.where(total == 0, coin, total.sign()).to(torch.int8)


def _lattices(spins) -> torch.Tensor:
    fits = isinstance(spins, torch.Tensor) and spins.dtype == torch.int8 and spins.ndim == 3 and spins.numel()
    if not fits or not bool((spins.abs() == 1).all()):
        came = (
            f"{spins.dtype}, {tuple(spins.shape)}"
            if isinstance(spins, torch.Tensor)
            else type(spins).__name__
        )
        raise ValueError(f"spins: got {came}; expected (B, L1, L2) torch.int8 of +-1")
    return spins


# The products of which each term is the sum: displacements of the other spins from a first one, once for each product.
TERMS = {
    "nearest": (((0, 1),), ((1, 0),)),
    "diagonal": (((1, 1),), ((1, -1),)),
    "straight": (((0, 2),), ((2, 0),)),
    "plaquette": (((0, 1), (1, 0), (1, 1)),),
}


def _terms(terms) -> tuple[str, ...]:
    terms = (terms,) if isinstance(terms, str) else tuple(terms)
    if not terms or len(set(terms)) < len(terms) or not set(terms) <= TERMS.keys():
        raise ValueError(f"terms: got {terms}; expected some of {tuple(TERMS)}, none twice")
    return terms


def _shifted(s: torch.Tensor, displacement: tuple[int, int]) -> torch.Tensor:
    """s at the place displaced: s_{i + d}."""
    return s.roll((-displacement[0], -displacement[1]), (1, 2))


def _pulls(s: torch.Tensor, term: str) -> torch.Tensor:
    """s_i ∂S/∂s_i: the sum of all products of the term in which site i takes part."""
    total = torch.zeros_like(s)
    for others in TERMS[term]:
        products = reduce(torch.mul, (_shifted(s, d) for d in others), s)
        for dr, dc in ((0, 0), *others):
            total += _shifted(products, (-dr, -dc))
    return total


def fit_couplings(
    spins: torch.Tensor,
    terms: Sequence[str] = ("nearest", "diagonal", "straight"),
    groups: int = 16,
) -> Couplings:
    """Couplings K_a of −E/T = Σ_a K_a S_a from lattices, by maximum pseudo-likelihood: P(s_i | rest) = 1/(1 + e^{−2 s_i h_i}).

    The sum of log P(s_i | rest) over all sites is concave in K and its maximum is consistent (Besag 1975); Z is not needed. Since
    s_i h_i = Σ_a K_a (sum of the products of S_a at i) takes few values, the data are reduced to how often each occurs.
    Errors are by the jackknife over groups of lattices in a row: with the lattices of `ising_sample`, over chains.

    Parameters
    ----------
    spins : torch.Tensor, shape (B, L1, L2) int8 of ±1
        Lattices in equilibrium, blocked or not.
    terms : sequence of str
        Of `TERMS`: sums over the pairs of nearest, diagonal and straight second neighbours, and over plaquettes of four.
    groups : int, from 2 to B

    Returns
    -------
    Couplings
        ``values`` and ``errors``, (len(terms),). The energy of blocked spins has more terms than any list: these are the couplings
        of the model of this form that fits best.

    Raises
    ------
    ValueError
        If an argument does not fit, or the maximum is at infinity, as for lattices that are all ordered.

    Notes
    -----
    Besag (1975), The Statistician 24, 179. Claims ISI-5, ISI-8a, ISI-8b, ISI-8c.
    """
    s, terms, groups = _lattices(spins), _terms(terms), count(groups, "groups", 2)
    if groups > len(s):
        raise ValueError(f"groups: got {groups}; expected at most {len(s)}, the number of lattices")
    features, counts = _census(s, terms, groups)
    whole = _most_likely(features, counts.sum(0), np.zeros(len(terms)))
    left = np.stack([_most_likely(features, counts.sum(0) - c, whole) for c in counts])
    errors = np.sqrt((groups - 1) / groups * ((left - left.mean(0)) ** 2).sum(0))
    return Couplings(torch.from_numpy(whole), torch.from_numpy(errors))


def _census(
    s: torch.Tensor, terms: tuple[str, ...], groups: int, weights: torch.Tensor | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The values that (s_i h_i)/K takes, (m, terms), and how often in each group of lattices, (groups, m)."""
    code = torch.zeros(s.shape, dtype=torch.int64)
    for term in terms:
        code = 5 * code + (_pulls(s, term).long() + 4) // 2  # of four products each: −4, −2, 0, 2, 4
    code += 5 ** len(terms) * (torch.arange(len(s)) * groups // len(s))[:, None, None]
    w = None if weights is None else weights[:, None, None].expand(s.shape).flatten()
    counts = torch.bincount(code.flatten(), w, minlength=groups * 5 ** len(terms)).view(groups, -1).double()
    seen = counts.sum(0) > 0
    values = torch.tensor(list(product((-4.0, -2.0, 0.0, 2.0, 4.0), repeat=len(terms))))
    return values[seen].double().numpy(), counts[:, seen].numpy()


def _most_likely(features: np.ndarray, counts: np.ndarray, start: np.ndarray) -> np.ndarray:
    p = counts / counts.sum()

    def value(K):
        return -p @ logsigmoid(torch.from_numpy(2 * features @ K)).numpy()

    def slope(K):
        return -2 * features.T @ (p * expit(-2 * features @ K))

    def curvature(K):
        q = expit(-2 * features @ K)
        return 4 * features.T @ (features * (p * q * (1 - q))[:, None])

    found = minimize(value, start, jac=slope, hess=curvature, method="trust-exact", options={"gtol": 1e-11})
    if np.linalg.eigvalsh(curvature(found.x))[0] < 1e-9 or np.abs(slope(found.x)).max() > 1e-7:
        raise ValueError("spins: got lattices whose pseudo-likelihood has no maximum; expected more disorder")
    return found.x


def flow_exponent(
    spins: torch.Tensor,
    blocked: torch.Tensor,
    terms: Sequence[str] = ("nearest", "diagonal", "straight", "plaquette"),
    odd: bool = False,
    groups: int = 16,
) -> Estimate:
    """y = log λ/log b, λ the leading eigenvalue of the linearised flow ∂K'/∂K = Cov(S', S')⁻¹ Cov(S', S) at T_c.

    Exact for the plane: y = 1/ν = 1 for the even terms, and y_h = 15/8 for the magnetisation, the odd one.

    Parameters
    ----------
    spins : torch.Tensor, shape (B, L, L) int8
        Lattices in equilibrium at T_c.
    blocked : torch.Tensor, shape (B, L/b, L/b) int8
        What `block` makes of them, or of them after some blocking in both.
    terms : sequence of str
        Of `TERMS`; not used if `odd`.
    odd : bool
        The flow of the field: S = Σ s_i.
    groups : int
        Of lattices in a row, for the jackknife, 2 ≤ groups ≤ B.

    Raises
    ------
    ValueError
        If an argument does not fit.

    Notes
    -----
    Swendsen (1979), Phys. Rev. Lett. 42, 859. Claims ISI-9, ISI-10.
    """
    fine, coarse, terms = _lattices(spins), _lattices(blocked), _terms(terms)
    groups, ratio = count(groups, "groups", 2), fine.shape[1] / coarse.shape[1]
    if len(fine) != len(coarse) or ratio <= 1 or groups > len(fine):
        raise ValueError(
            f"spins, blocked: got {tuple(fine.shape)}, {tuple(coarse.shape)}; expected as many, the blocked ones smaller, "
            f"and at least {groups}"
        )
    a, b = (_sums(s, terms, odd) for s in (coarse, fine))
    moments = torch.cat(
        [torch.ones(len(a), 1), a, b, (a[:, :, None] * torch.cat([a, b], 1)[:, None]).flatten(1)], 1
    )
    k = a.shape[1]

    def exponent(m: torch.Tensor) -> torch.Tensor:
        # Means over the groups may weigh them unequally; m[0] is their common norm.
        mean, second = m[1 : 2 * k + 1] / m[0], m[2 * k + 1 :].view(k, 2 * k) / m[0]
        covariance = second - mean[:k, None] * mean
        flow = torch.linalg.solve(covariance[:, :k], covariance[:, k:])
        return torch.linalg.eigvals(flow).real.max().log() / math.log(ratio)

    rows = torch.stack([moments[g].sum(0) for g in torch.arange(len(a)).tensor_split(groups)])
    value, error = _jackknife(rows, exponent)
    return Estimate(float(value), float(error))


def _sums(s: torch.Tensor, terms: tuple[str, ...], odd: bool) -> torch.Tensor:
    """S_a of each lattice, (B, terms), float64."""
    if odd:
        columns = [s.sum((1, 2), dtype=torch.int64)]
    else:
        columns = [
            sum(
                reduce(torch.mul, (_shifted(s, d) for d in others), s).sum((1, 2), dtype=torch.int64)
                for others in TERMS[t]
            )
            for t in terms
        ]
    return torch.stack(columns, 1).double()
