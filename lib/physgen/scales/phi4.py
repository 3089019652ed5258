"""The field φ⁴, a continuous Ising model: exact rings and tori, samplers, and its couplings learnt back (the chapter `scales/phi4`).

On a ring or a torus with d = 1 or 2 bonds per site (a ring or a side of length 2 has two bonds between the same sites, and both count)

    S(x) = (β/2) Σ_⟨ij⟩ (x_i − x_j)² + Σ_i V(x_i),   p(x) = e^{−S(x)}/Z,

    A:  V = (x² − 1)²,      B:  V = x⁴ − (1 + 2β) x²,  so that on a torus  S = −β Σ_⟨ij⟩ x_i x_j + Σ_i (x_i⁴ − x_i²).

B is the default. On a ring the bonds give βx² per site and not 2βx², so that B is there S = −β Σ x_i x_{i+1} + Σ (x_i⁴ − (1 + β) x_i²).
Exact results rest on one fact: with the weight w(x) = e^{−V(x)} dx the bond is an operator on functions of one site, of eigenvalues that
fall fast. A ring is the trace of its power; a torus needs the few eigenfunctions that count, and a row of it becomes a small matrix.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from scipy.optimize import brentq
from scipy.sparse.linalg import eigsh
from tqdm.auto import tqdm

from physgen.checks import count as _count
from physgen.checks import number as _number
from physgen.checks import stream
from physgen.kernels import lattice, philox
from physgen.kernels.wavelet import dwt, dwt2, idwt, idwt2

__all__ = [
    "Chains",
    "CoarseFit",
    "CoarseTable",
    "Couplings",
    "Critical",
    "Potential",
    "RingMoments",
    "TorusMoments",
    "action",
    "coarse_features",
    "coarse_to_fine",
    "critical_beta",
    "detail_hessian",
    "field_density_torus",
    "field_variance_torus",
    "fit_coarse",
    "fit_couplings",
    "fit_scales",
    "langevin_distortion",
    "log_partition_ring",
    "log_partition_torus",
    "mala_log_acceptance",
    "moments_ring",
    "moments_torus",
    "potential",
    "power_spectrum",
    "ring_table",
    "sample",
    "sample_ring",
    "strip_correlation_length",
]

CONVENTIONS = "A", "B"
METHODS = "hmc", "mala", "langevin"
# Eigenfunctions of the bond for each width; `moments_torus` says how far they reach. Matrices of a row have at most 3125 rows.
RANKS = {2: 14, 3: 10, 4: 6, 5: 5}
CUTOFF = 40.0  # e^{−V} is kept down to e^{−40} of its maximum


class Potential(NamedTuple):
    """The coefficients of φ² and φ⁴ that the kernels of `physgen.kernels.lattice` take."""

    quadratic: float
    quartic: float


class RingMoments(NamedTuple):
    """Exact averages on a ring."""

    log_z: float
    variance: float  # ⟨x²⟩
    magnetization2: float  # ⟨M²⟩, M the mean of the sites
    correlations: torch.Tensor  # (L,) ⟨x_0 x_r⟩, float64
    correlation_length: float  # ξ of the infinite ring


class TorusMoments(NamedTuple):
    """Exact averages on a torus."""

    log_z: float
    variance: float  # ⟨x²⟩
    magnetization2: float  # ⟨M²⟩, M the mean of the sites
    bond: float  # ⟨x_i x_j⟩ of neighbours


class Critical(NamedTuple):
    """Where the correlation lengths of two strips, over their widths, cross."""

    beta: float
    ratio: float  # ξ_W/W there


class Chains(NamedTuple):
    """What a sampler leaves. The chains are independent, and so are their last fields."""

    fields: torch.Tensor  # (chains, L, L) at the end
    magnetization: torch.Tensor  # (chains, records) float64, the mean of φ
    square: torch.Tensor  # (chains, records) mean of φ²
    quartic: torch.Tensor  # (chains, records) mean of φ⁴
    bond: torch.Tensor  # (chains, records) Σ_⟨ij⟩ φ_i φ_j per site: two bonds a site
    acceptance: float  # share of proposals accepted; 1 for Langevin, which has no test
    cluster_size: float  # mean share of the sites in a cluster; NaN without clusters


class Couplings(NamedTuple):
    """Couplings learnt from samples: S = Σ_r β_r · ½ Σ (x_i − x_j)² + Σ_k v_k Σ_i x_i^k."""

    bonds: torch.Tensor  # (ranges,) β of each range of neighbours
    potential: torch.Tensor  # (powers,) coefficient of each power of the field
    error: torch.Tensor  # (ranges + powers,) standard errors, over the samples
    covariance: torch.Tensor  # of the estimates, (ranges + powers)²


class CoarseTable(NamedTuple):
    """One exact step of renormalization of the ring of four sites, on a grid; c = (left + right)/√2, f = (left − right)/√2."""

    grid: torch.Tensor  # (n,) values of c_1, and of c_2, f_1, f_2
    log_density: torch.Tensor  # (n, n) ln p_1(c_1, c_2)
    log_z: float  # of the ring
    variance: float  # ⟨x²⟩ of the ring
    beta: float
    convention: str


class CoarseFit(NamedTuple):
    """The law of largest likelihood among e^{−⟨θ, features⟩}."""

    theta: torch.Tensor
    kl: float  # of the exact marginal from the fit, nats
    condition: float  # condition number of the covariance of the features at the fit
    log_density: torch.Tensor  # (n, n) on the grid of the table


# ------------------------------------------------------------------------------------------------- the action


def _convention(convention) -> str:
    if convention not in CONVENTIONS:
        raise ValueError(f"convention: got {convention!r}; expected one of {CONVENTIONS}")
    return convention


def potential(beta: float, convention: str = "B") -> Potential:
    """The coefficients (quadratic, quartic) of V: (−2, 1) for A, (−(1 + 2β), 1) for B; A has the constant 1 per site beside.

    Parameters
    ----------
    beta : float, ≥ 0
    convention : {"B", "A"}

    Returns
    -------
    Potential
        To be unpacked into the kernels: ``lattice.hmc(phi, beta, *potential(beta), …)``.

    Raises
    ------
    ValueError
        If beta < 0 or is not finite, or the convention is unknown.

    Notes
    -----
    B is the model of Marchand, Ozawa, Biroli, Mallat (2022); claim PHI-2.
    """
    beta = _number(beta, "beta", 0)
    return Potential(-2.0 if _convention(convention) == "A" else -(1 + 2 * beta), 1.0)


def _constant(convention: str) -> float:
    """What V(x) has beside its powers: A is (x² − 1)²."""
    return 1.0 if convention == "A" else 0.0


def action(x: torch.Tensor, beta: float, convention: str = "B") -> torch.Tensor:
    """S(x) of rings (n, L) or tori (n, L1, L2), in float64, differentiable; the constants of the convention are in it.

    Raises
    ------
    ValueError
        If x is not a floating-point tensor of that shape, L ≥ 2, with finite values, or as `potential`.
    """
    x, law = _fields(x).double(), potential(beta, convention)
    sites = tuple(range(1, x.ndim))
    v = x**4 * law.quartic + x**2 * law.quadratic + _constant(convention)
    return (beta / 2 * sum((x - x.roll(-1, k)) ** 2 for k in sites) + v).sum(sites)


def _fields(x, name: str = "x") -> torch.Tensor:
    if not isinstance(x, torch.Tensor) or not x.is_floating_point() or x.ndim not in (2, 3):
        came = f"{x.dtype} {tuple(x.shape)}" if isinstance(x, torch.Tensor) else type(x).__name__
        raise ValueError(f"{name}: got {came}; expected floating-point rings (n, L) or tori (n, L1, L2)")
    if len(x) == 0 or min(x.shape[1:]) < 2:
        raise ValueError(f"{name}: got shape {tuple(x.shape)}; expected n >= 1 fields of sides >= 2")
    if not bool(x.isfinite().all()):
        raise ValueError(f"{name}: got NaN or infinity; expected finite values")
    return x


# ------------------------------------------------------------------------------------------------- exact rings


def _grid(beta: float, quadratic: float, quartic: float) -> tuple[np.ndarray, np.ndarray]:
    """Equidistant points and the weights e^{−V} dx: the trapezium rule, exact to rounding for so smooth a function.

    Its error is the Fourier transform of the integrand at 2π/dx; dx is a third of the width of a well, or of a bond.
    """
    if quadratic < 0:
        edge = math.sqrt((-quadratic + math.sqrt(4 * quartic * CUTOFF)) / (2 * quartic))
        lowest = -(quadratic**2) / (4 * quartic)
    else:
        edge = math.sqrt(2 * CUTOFF / (quadratic + math.sqrt(quadratic**2 + 4 * quartic * CUTOFF)))
        lowest = 0.0
    stiffness = max(-4 * quadratic, 2 * quadratic, 2 * math.sqrt(quartic)) + 4 * beta
    x = np.linspace(-edge, edge, 2 * math.ceil(edge * math.sqrt(stiffness) / 0.3) + 1)
    return x, (x[1] - x[0]) * np.exp(lowest - quartic * x**4 - quadratic * x**2), -lowest


def _bond(beta: float, quadratic: float, quartic: float):
    """Points, weights and the operator √w e^{−β(x−y)²/2} √w: eigenvalues (descending) and eigenfunctions; and −min V."""
    x, w, shift = _grid(beta, quadratic, quartic)
    root = np.sqrt(w)
    values, functions = np.linalg.eigh(root[:, None] * np.exp(-beta / 2 * (x[:, None] - x) ** 2) * root)
    return x, w, values[::-1].clip(min=0), functions[:, ::-1], shift


def moments_ring(L: int, beta: float, convention: str = "B") -> RingMoments:
    """Exact averages on a ring of L sites: with T = √w e^{−β(x−y)²/2} √w, Z = Tr T^L and ⟨x_0 x_r⟩ = Tr(x T^r x T^{L−r})/Z.

    Parameters
    ----------
    L : int, ≥ 2
        Two sites have two bonds.
    beta : float, ≥ 0
    convention : {"B", "A"}

    Returns
    -------
    RingMoments
        ``log_z``, ``variance``, ``magnetization2``, ``correlations`` and ``correlation_length`` 1/ln(λ_0/λ_1): 0 at β = 0, ∞ where the two agree to rounding.

    Raises
    ------
    ValueError
        If L < 2, beta < 0 or the convention is unknown.

    Notes
    -----
    Claim PHI-3. Exact but for rounding.
    """
    n, law = _count(L, "L", 2), potential(beta, convention)
    x, _, values, functions, shift = _bond(float(beta), *law)
    powers = values / values[0]
    position = (functions.T * x) @ functions
    z = (powers**n).sum()
    r = np.arange(n)[:, None]
    # 0⁰ = 1: at r = 0 the sum over eigenfunctions is complete.
    correlations = np.einsum("ri,ij,rj->r", powers ** (n - r), position**2, powers**r) / z
    length = _length(*values[:2]) if values[1] > 1e-15 * values[0] else 0.0
    return RingMoments(
        float(n * (math.log(values[0]) + shift - _constant(convention)) + math.log(z)),
        float(correlations[0]),
        float(correlations.mean()),
        torch.from_numpy(correlations),
        length,
    )


def _length(even: float, odd: float) -> float:
    """1/ln(even/odd); ∞ where the two agree to rounding, deep in the double well."""
    return 1 / math.log1p((even - odd) / odd) if even > odd else math.inf


def log_partition_ring(L: int, beta: float, convention: str = "B") -> float:
    """log Z of a ring of L ≥ 2 sites, exact: see `moments_ring`.

    Raises
    ------
    ValueError
        As `moments_ring`.
    """
    return moments_ring(L, beta, convention).log_z


# ------------------------------------------------------------------------------------------------- exact tori


def _width(width, name: str) -> int:
    if _count(width, name, 2) not in RANKS:
        raise ValueError(f"{name}: got {width}; the exact rows serve widths of {min(RANKS)} to {max(RANKS)}")
    return int(width)


def _pairs(beta: float, law: Potential, rank: int):
    """Points, √w φ_k φ_l for each pair of eigenfunctions, e^{−V} restored, and the spacing; e^{−β(x−y)²/2} = Σ_k φ_k(x) φ_k(y)."""
    x, w, values, functions, shift = _bond(beta, *law)
    rank = min(rank, len(values))
    factor = np.sqrt(values[:rank]) * functions[:, :rank]  # √w φ_k
    pairs = (factor[:, :, None] * factor[:, None]).reshape(len(x), -1) / np.sqrt(w)[:, None]
    return x, math.exp(shift / 2) * pairs, rank


def _site(beta: float, law: Potential, rank: int, *powers: int) -> list[np.ndarray]:
    """Tensors of one site with its four bonds, T_udlr = Σ_x w xᵖ φ_u φ_d φ_l φ_r."""
    x, pairs, rank = _pairs(beta, law, rank)
    return [(pairs.T @ (x[:, None] ** p * pairs)).reshape(rank, rank, rank, rank) for p in powers]


def _row(sites: list[np.ndarray]) -> np.ndarray:
    """A periodic row of sites as a matrix (r^W, r^W): the bonds inside the row are summed over."""
    rank, width = len(sites[0]), len(sites)
    row = sites[0].reshape(-1, rank, rank)
    for site in sites[1:-1]:
        row = np.tensordot(row, site, (2, 2)).transpose(0, 2, 3, 1, 4).reshape(-1, rank, rank)
    last = sites[-1].transpose(2, 3, 0, 1).reshape(rank, rank, -1)
    row = row.reshape(len(row), -1) @ last.transpose(1, 0, 2).reshape(rank * rank, -1)
    order = [*range(0, 2 * width, 2), *range(1, 2 * width, 2)]
    return row.reshape([rank] * (2 * width)).transpose(order).reshape(rank**width, rank**width)


def _odd(width: int, rank: int) -> np.ndarray:
    """Which indices of a row are odd under x → −x; eigenfunctions of the bond are even and odd in turn."""
    return np.indices([rank] * width).sum(0).ravel() % 2 == 1


def moments_torus(
    L: int, beta: float, convention: str = "B", *, rows: int | None = None, rank: int | None = None
) -> TorusMoments:
    """Exact averages on a periodic torus of `rows` rows of L sites, L = 2 to 4: traces of powers of the row.

    The bond e^{−β(x−y)²/2} = Σ_k φ_k(x) φ_k(y) is cut at the `rank` eigenfunctions of largest eigenvalue in the weight e^{−V}; a site
    becomes a tensor T_udlr = ∫ e^{−V} φ_u φ_d φ_l φ_r dx, a row a matrix R of r^L rows, and Z = Tr R^rows.

    Parameters
    ----------
    L : int, 2 to 4
        Two sites have two bonds.
    beta : float, ≥ 0
    convention : {"B", "A"}
    rows : int, ≥ 2, optional
        L unless given.
    rank : int, ≥ 2, optional
        14, 10, 6 for L = 2, 3, 4 unless given: log Z of L = 4 is good to 3·10⁻⁸ at β = 0.68, 4·10⁻⁷ at 1 and 10⁻⁴ at 2, narrower ones better.

    Returns
    -------
    TorusMoments
        ``log_z``, ``variance``, ``magnetization2`` and ``bond``, which follows from them by ⟨x ∂S/∂x⟩ = 1.

    Raises
    ------
    ValueError
        If L is not 2, 3 or 4, rows or rank < 2, beta < 0 or the convention is unknown.

    Notes
    -----
    Claims PHI-2, PHI-4. The rank that suffices grows with β.
    """
    width, law = _width(L, "L"), potential(beta, convention)
    if width > 4:
        raise ValueError(f"L: got {L}; the exact averages serve tori of 2 to 4 sites a row")
    rows = width if rows is None else _count(rows, "rows", 2)
    rank = RANKS[width] if rank is None else _count(rank, "rank", 2)
    one, x, x2, x4 = _site(float(beta), law, rank, 0, 1, 2, 4)
    odd = _odd(width, len(one))
    plain = [one] * (width - 1)
    parities = ~odd, odd
    blocks = [np.linalg.eigh(_row([one, *plain])[np.ix_(p, p)]) for p in parities]
    top = max(values.max() for values, _ in blocks)
    powers = [values.clip(min=0) / top for values, _ in blocks]
    z = sum((v**rows).sum() for v in powers)

    def diagonal(site) -> float:
        """⟨·⟩ of a site that is even: Σ_k λ_k^{rows−1} ⟨k|row with it|k⟩/Z."""
        row = _row([site, *plain]) / top
        each = [((u.T @ row[np.ix_(p, p)]) * u.T).sum(1) for p, (_, u) in zip(parities, blocks, strict=True)]
        return float(sum((v ** (rows - 1) * e).sum() for v, e in zip(powers, each, strict=True)) / z)

    variance, fourth = diagonal(x2), diagonal(x4)
    return TorusMoments(
        rows * math.log(top) + math.log(z) - width * rows * _constant(convention),
        variance,
        _magnetization2(width, rows, variance, (one, x), top, z, powers, blocks, parities),
        _neighbours(beta, law, variance, fourth),
    )


def _neighbours(beta: float, law: Potential, variance: float, fourth: float) -> float:
    """⟨x_i x_j⟩ from 1 = ⟨x ∂S/∂x⟩ = 4β(⟨x²⟩ − ⟨x_i x_j⟩) + 2 v ⟨x²⟩ + 4 u ⟨x⁴⟩, four neighbours; not fixed at β = 0: 0."""
    if beta == 0:
        return 0.0
    return variance - (1 - 2 * law.quadratic * variance - 4 * law.quartic * fourth) / (4 * beta)


def _magnetization2(width, rows, variance, tensors, top, z, powers, blocks, parities) -> float:
    """⟨M²⟩ = Σ_j ⟨x_0 x_j⟩/N: pairs in one row, then pairs k rows apart."""
    one, x = tensors
    plain = [one] * (width - 1)
    same = variance
    for j in range(1, width):
        sites = [x, *plain]
        sites[j] = x
        row = _row(sites) / top
        for v, p, (_, u) in zip(powers, parities, blocks, strict=True):
            same += float((v ** (rows - 1) * ((u.T @ row[np.ix_(p, p)]) * u.T).sum(1)).sum() / z)
    row = sum(_row([*plain[:j], x, *plain[j:]]) for j in range(width)) / top
    step = (blocks[0][1].T @ row[np.ix_(*parities)] @ blocks[1][1]) ** 2 / width
    even, odd = powers
    apart = 0.0
    for k in range(1, rows):
        apart += even ** (k - 1) @ step @ odd ** (rows - k - 1) + even ** (rows - k - 1) @ step @ odd ** (
            k - 1
        )
    return float((same + apart / z) / (width * rows))


def log_partition_torus(
    L: int, beta: float, convention: str = "B", *, rows: int | None = None, rank: int | None = None
) -> float:
    """log Z of a torus of L = 2 to 4 sites a row: see `moments_torus`.

    Raises
    ------
    ValueError
        As `moments_torus`.
    """
    return moments_torus(L, beta, convention, rows=rows, rank=rank).log_z


def field_variance_torus(
    L: int, beta: float, convention: str = "B", *, rows: int | None = None, rank: int | None = None
) -> float:
    """⟨x²⟩ on a torus of L = 2 to 4 sites a row: see `moments_torus`.

    Raises
    ------
    ValueError
        As `moments_torus`.
    """
    return moments_torus(L, beta, convention, rows=rows, rank=rank).variance


def field_density_torus(
    L: int, beta: float, convention: str = "B", *, rows: int | None = None, rank: int | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """The law of the field at one site of a torus: p(x) = e^{−V(x)} Σ E_udlr φ_u φ_d φ_l φ_r/Z, E the torus without that site.

    Parameters
    ----------
    L, beta, convention, rows, rank
        As in `moments_torus`.

    Returns
    -------
    tuple of torch.Tensor
        x, equidistant and symmetric, and p(x), float64. Sums times the spacing are integrals to rounding.

    Raises
    ------
    ValueError
        As `moments_torus`.
    """
    width, law = _width(L, "L"), potential(beta, convention)
    if width > 4:
        raise ValueError(f"L: got {L}; the exact averages serve tori of 2 to 4 sites a row")
    rows = width if rows is None else _count(rows, "rows", 2)
    rank = RANKS[width] if rank is None else _count(rank, "rank", 2)
    x, pairs, rank = _pairs(float(beta), law, rank)
    one = (pairs.T @ pairs).reshape([rank] * 4)
    row, others = _row([one] * width), one.reshape(-1, rank, rank)
    for _ in range(width - 2):
        others = np.tensordot(others, one, (2, 2)).transpose(0, 2, 3, 1, 4).reshape(-1, rank, rank)
    # What is above and below, (u_1, …, d_1, …), with the pairs (u_k, d_k) of the same site side by side.
    around = np.linalg.matrix_power(row / np.abs(row).max(), rows - 1).reshape([rank] * (2 * width))
    order = [k for j in range(width) for k in (j, width + j)]
    around = around.transpose(order).reshape(rank * rank, -1)
    weight = ((pairs @ (around @ others.reshape(-1, rank * rank))) * pairs).sum(1)
    return torch.from_numpy(x), torch.from_numpy(weight / (weight.sum() * (x[1] - x[0])))


def strip_correlation_length(
    width: int, beta: float, convention: str = "B", *, rank: int | None = None
) -> float:
    """ξ along an infinite strip of that many sites, periodic across: 1/ln(λ_even/λ_odd), the largest eigenvalues of a row by parity.

    Parameters
    ----------
    width : int, 2 to 5
    beta : float, > 0
    convention : {"B", "A"}
    rank : int, ≥ 2, optional
        As in `moments_torus`; 5 for a width of 5.

    Raises
    ------
    ValueError
        If the width is not 2 to 5, rank < 2, beta ≤ 0 or the convention is unknown.

    Notes
    -----
    Nightingale (1976), Physica A 83, 561; claim PHI-2.
    """
    width, beta = _width(width, "width"), _number(beta, "beta", 0, strict=True)
    rank = RANKS[width] if rank is None else _count(rank, "rank", 2)
    (site,) = _site(beta, potential(beta, convention), rank, 0)
    row, odd = _row([site] * width), _odd(width, len(site))
    even, other = (_largest(row[np.ix_(p, p)]) for p in (~odd, odd))
    return _length(even, other)


def _largest(matrix: np.ndarray) -> float:
    if len(matrix) < 100:
        return float(np.linalg.eigvalsh(matrix)[-1])
    return float(eigsh(matrix, 1, which="LA", v0=np.ones(len(matrix)), tol=1e-13)[0][0])


def critical_beta(
    widths: tuple[int, int] = (3, 4), convention: str = "B", *, low: float = 0.5, high: float = 1.2
) -> Critical:
    """Where ξ_W/W of two strips cross: an estimate of the critical β of the plane.

    At criticality a strip of width W has ξ = 4W/π in the universality class of the Ising model (Cardy 1984), so that the ratio at the
    crossing says in which class one is.

    Parameters
    ----------
    widths : tuple of int
        Two of 2 to 5, different; (4, 5) takes seconds.
    convention : {"B", "A"}
    low, high : float
        The crossing is sought between them.

    Returns
    -------
    Critical
        ``beta`` and ``ratio`` = ξ_W/W.

    Raises
    ------
    ValueError
        If the widths are equal or not 2 to 5, the lengths do not cross between low and high, or the convention is unknown.

    Notes
    -----
    Claim PHI-2: 0.6804, 0.6791, 0.6798 for B and 0.9405, 0.9266, 0.9243 for A, with widths (2, 3), (3, 4), (4, 5).
    """
    first, second = (_width(w, "widths") for w in widths)
    low, high = _number(low, "low", 0, strict=True), _number(high, "high", low)
    if first == second:
        raise ValueError(f"widths: got {widths}; expected two different ones")

    def gap(beta: float) -> float:
        return (
            strip_correlation_length(first, beta, convention) / first
            - strip_correlation_length(second, beta, convention) / second
        )

    if gap(low) * gap(high) > 0:
        raise ValueError(f"low, high: got {low}, {high}; the lengths do not cross between them")
    beta = brentq(gap, low, high, xtol=1e-8)
    return Critical(beta, strip_correlation_length(first, beta, convention) / first)


# ------------------------------------------------------------------------------------------------- samplers


def sample_ring(
    L: int, beta: float, samples: int, convention: str = "B", *, generator: torch.Generator | None = None
) -> torch.Tensor:
    """Independent exact samples of a ring: site after site from its law given the one before, and the first.

    A site takes the points of the grid on which the exact averages are sums; averages of smooth functions are those of the continuum to
    rounding. p(x_{i+1} | x_i, x_0) ∝ T(x_i, x_{i+1}) T^{L−i−1}(x_{i+1}, x_0).

    Parameters
    ----------
    L : int, ≥ 2
    beta : float, ≥ 0
    samples : int, ≥ 1
    convention : {"B", "A"}
    generator : torch.Generator, optional

    Returns
    -------
    torch.Tensor
        (samples, L) float64.

    Raises
    ------
    ValueError
        If L < 2, samples < 1, beta < 0 or the convention is unknown.
    """
    n, law, own = _count(L, "L", 2), potential(beta, convention), stream(generator)
    count = _count(samples, "samples")
    x, w, values, _, _ = _bond(float(beta), *law)
    x, root = torch.from_numpy(x), torch.from_numpy(np.sqrt(w))
    step = root[:, None] * torch.exp(-float(beta) / 2 * (x[:, None] - x) ** 2) * root / values[0]
    powers = [torch.eye(len(x), dtype=torch.float64)]
    for _ in range(n):
        powers.append(powers[-1] @ step)
    first = _draw(powers[n].diagonal().expand(count, -1), own)
    chain = [first]
    for i in range(1, n):
        chain.append(_draw(step[chain[-1]] * powers[n - i][:, first].T, own))
    return x[torch.stack(chain, 1)]


def _draw(weights: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """An index for each row, by its weights ≥ 0."""
    ladder = weights.cumsum(1)
    u = torch.rand(len(weights), 1, generator=generator, dtype=torch.float64)
    # u < 1: the last step of the ladder is never passed, and steps of height 0 are never taken.
    return torch.searchsorted(ladder.contiguous(), u * ladder[:, -1:], right=True)[:, 0].clamp(
        max=weights.shape[1] - 1
    )


def mala_log_acceptance(
    x: torch.Tensor, y: torch.Tensor, step: float, beta: float, convention: str = "B"
) -> torch.Tensor:
    """The logarithm of what Metropolis compares with a uniform number, for a step of Langevin dynamics from x to y.

    ln [p(y) q(x|y) / p(x) q(y|x)] with q(y|x) = N(x + εF(x), 2ε), F = −∂S/∂x: the drift of the way back is that at y. With the momentum
    of leapfrog it is −ΔH: this is hybrid Monte Carlo with one leapfrog step of √(2ε).

    Parameters
    ----------
    x, y : torch.Tensor, shape (n, L1, L2)
    step : float, > 0
        ε.
    beta : float, ≥ 0
    convention : {"B", "A"}

    Returns
    -------
    torch.Tensor
        (n,) float64.

    Raises
    ------
    ValueError
        If a shape, step ≤ 0, beta < 0 or the convention does not fit.

    Notes
    -----
    Besag (1994), J. R. Stat. Soc. B 56, 591; Roberts, Tweedie (1996), Bernoulli 2, 341.
    """
    if _fields(x).shape != _fields(y, "y").shape or x.ndim != 3:
        raise ValueError(
            f"y: got shape {tuple(y.shape)} for x {tuple(x.shape)}; expected the same (n, L1, L2)"
        )
    step, law = _number(step, "step", 0, strict=True), potential(beta, convention)
    x, y = x.double(), y.double()

    def log_proposal(end: torch.Tensor, start: torch.Tensor) -> torch.Tensor:
        drift = step * lattice.force(start.contiguous(), float(beta), *law)
        return -((end - start - drift) ** 2).sum((1, 2)) / (4 * step)

    way = log_proposal(x, y) - log_proposal(y, x)
    return action(x, beta, convention) - action(y, beta, convention) + way


def langevin_distortion(x: torch.Tensor, beta: float, convention: str = "B") -> torch.Tensor:
    """f = ¼|∇S|² − ½ΔS: Langevin dynamics in steps ε without a test has the stationary law p (1 + ε(f − ⟨f⟩)) + O(ε²).

    Averages are off by ε Cov(O, f). In mean f is half of Hyvärinen's objective, whose least value over S belongs to the true one.

    Parameters
    ----------
    x : torch.Tensor, shape (n, L) or (n, L1, L2)
    beta : float, ≥ 0
    convention : {"B", "A"}

    Returns
    -------
    torch.Tensor
        (n,) float64.

    Raises
    ------
    ValueError
        As `action`.

    Notes
    -----
    With x' = x − ε∇S + √(2ε) z the generator is L + ε(A − ½L²), A the second term of the expansion of E g(x'); under p the second part has
    the mean ½ E[∇(½|∇S|² − ΔS)·∇g], and that of f L g is −E[∇f·∇g].
    """
    x, law = _fields(x).double(), potential(beta, convention)
    shifts = RANGES[x.ndim - 1][0]
    gradient = (
        beta * (2 * len(shifts) * x - _around(x, shifts)) + 4 * law.quartic * x**3 + 2 * law.quadratic * x
    )
    curvature = 2 * len(shifts) * beta + 12 * law.quartic * x**2 + 2 * law.quadratic
    return (gradient**2 / 4 - curvature / 2).flatten(1).sum(1)


def sample(
    L: int,
    beta: float,
    method: str = "hmc",
    *,
    convention: str = "B",
    chains: int = 64,
    records: int = 200,
    thin: int = 1,
    warmup: int = 100,
    step: float | None = None,
    steps: int | None = None,
    clusters: int = 0,
    start: torch.Tensor | None = None,
    generator: torch.Generator | None = None,
    progress: bool = False,
) -> Chains:
    """Markov chains of φ⁴ fields on the torus of L × L sites, float32.

    Parameters
    ----------
    L : int, ≥ 2
    beta : float, ≥ 0
    method : {"hmc", "mala", "langevin"}
        "hmc": leapfrog trajectories, accepted or not. "mala": a step of Langevin dynamics, accepted or not (`mala_log_acceptance`).
        "langevin": steps of Euler's rule without a test; averages are off by O(step).
    convention : {"B", "A"}
    chains : int
        Independent lattices, moved side by side.
    records, thin, warmup : int
        The observables are recorded `records` times, every `thin` updates, after `warmup` updates. An update is a trajectory ("hmc") or a
        step, with its clusters.
    step : float, > 0, optional
        Of leapfrog; or the time ε of a step of Langevin dynamics. Unless given 0.4/L^½ for "hmc", 0.02·(16/L)^⅔ for "mala", 0.01.
    steps : int, optional
        Leapfrog steps of a trajectory; as many as make its length 1 unless given. For "hmc" alone.
    clusters : int, ≥ 0
        Wolff clusters after each update, whose sites all change the sign of φ: moves that MALA and HMC, which cross a barrier of the
        height of an interface, do not find.
    start : torch.Tensor, shape (chains, L, L), optional
        Where the chains begin; at uniform numbers of ±1.2 unless given.
    generator : torch.Generator, optional
    progress : bool
        Show a bar.

    Returns
    -------
    Chains
        The last fields, and of each record M, the means of φ² and φ⁴, and of the bonds; `physgen.errorbars` knows what their errors are.

    Raises
    ------
    ValueError
        If a number is out of range, the method or convention unknown, `steps` is given without "hmc", `start` has another shape, or a
        chain of Langevin dynamics has run away.

    Notes
    -----
    Duane, Kennedy, Pendleton, Roweth (1987), Phys. Lett. B 195, 216 (HMC); Brower, Tamayo (1989), Phys. Rev. Lett. 62, 1087 (clusters of
    the signs of φ⁴, a bond between equal signs open with 1 − e^{−2β φ_i φ_j}).
    """
    if method not in METHODS:
        raise ValueError(f"method: got {method!r}; expected one of {METHODS}")
    side, law, own = _count(L, "L", 2), potential(beta, convention), stream(generator)
    chains, records, thin = _count(chains, "chains"), _count(records, "records"), _count(thin, "thin")
    warmup, clusters = _count(warmup, "warmup", 0), _count(clusters, "clusters", 0)
    step, steps = _steps(method, side, step, steps)
    phi = _start(start, (chains, side, side), own)
    key, cluster_key = philox.key(own), philox.key(own)
    taken, sizes, rows = [], [], []

    def update(phi: torch.Tensor, t: int, times: int) -> torch.Tensor:
        """`times` updates in one call, or one by one with clusters between."""
        for first in range(t, t + times) if clusters else (t,):
            number = 1 if clusters else times
            if method == "langevin":
                phi = lattice.langevin(phi, float(beta), *law, step, number, key, first)
                taken.append(1.0)
            else:
                phi, share = lattice.hmc(phi, float(beta), *law, step, steps, number, key, first)
                taken.append(float(share.mean()))
            if clusters:
                phi, size = lattice.embedded(phi, float(beta), clusters, cluster_key, first * clusters)
                sizes.append(float(size.double().mean()))
        return phi

    if warmup:
        phi = update(phi, 0, warmup)
        taken.clear(), sizes.clear()
    for k in tqdm(range(records), f"φ⁴, L = {side}", disable=not progress):
        phi = update(phi, warmup + k * thin, thin)
        rows.append(_observe(phi))
    observed = torch.stack(rows, 2)
    if not bool(observed.isfinite().all()):
        raise ValueError(f"step: got {step}; the fields ran away, expected a smaller one")
    size = sum(sizes) / len(sizes) / side**2 if sizes else math.nan
    return Chains(phi, *observed, sum(taken) / len(taken), size)


def _steps(method: str, side: int, step, steps) -> tuple[float, int]:
    """Size and number of leapfrog steps; ε for Langevin dynamics. MALA with ε is one leapfrog step of √(2ε)."""
    if method != "hmc" and steps is not None:
        raise ValueError(f"steps: got {steps} with method={method!r}; only hmc has trajectories")
    usual = {"hmc": 0.4 / math.sqrt(side), "mala": 0.02 * (16 / side) ** (2 / 3), "langevin": 0.01}[method]
    step = usual if step is None else _number(step, "step", 0, strict=True)
    if method == "mala":
        return math.sqrt(2 * step), 1
    return step, math.ceil(1 / step) if steps is None else _count(steps, "steps")


def _start(start, shape: tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
    if start is None:
        return 2.4 * torch.rand(shape, generator=generator) - 1.2
    if _fields(start, "start").shape != shape:
        raise ValueError(f"start: got shape {tuple(start.shape)}; expected {shape}")
    return start.detach().float()


def _observe(phi: torch.Tensor) -> torch.Tensor:
    """(4, n) float64: mean of φ, φ², φ⁴, and the bonds per site."""
    x = phi.double()
    square = x * x
    bond = x * (x.roll(-1, 1) + x.roll(-1, 2))
    return torch.stack([v.mean((1, 2)) for v in (x, square, square * square, bond)])


# ------------------------------------------------------------------------------------------------- what fields show


def power_spectrum(fields: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The radial power spectrum of tori: mean of |φ̂_k|²/L² over the modes of each shell round |k| = 0, 1, …, L/2 in units of 2π/L.

    Parameters
    ----------
    fields : torch.Tensor, shape (n, L, L)

    Returns
    -------
    tuple of torch.Tensor
        Mean |k| of each shell and its power, averaged over the fields, (L//2 + 1,) float64 both. White noise of variance 1 has power 1.

    Raises
    ------
    ValueError
        If the fields are no squares, or not finite.
    """
    if _fields(fields, "fields").ndim != 3 or fields.shape[1] != fields.shape[2]:
        raise ValueError(f"fields: got shape {tuple(fields.shape)}; expected (n, L, L)")
    side = fields.shape[1]
    power = torch.fft.fft2(fields.double(), norm="ortho").abs().square().mean(0).flatten()
    wave = torch.fft.fftfreq(side, 1 / side, dtype=torch.float64)
    radius = (wave[:, None] ** 2 + wave**2).sqrt().flatten()
    shell = radius.round().long()
    inside = shell <= side // 2
    count = torch.bincount(shell[inside])
    radial = [torch.bincount(shell[inside], weights=v[inside]) / count for v in (radius, power)]
    return radial[0], radial[1]


# ------------------------------------------------------------------------------------------------- couplings from samples

# Neighbours in the order of their distance: the shifts of a range, by dimension.
RANGES = {1: [[(1,)], [(2,)], [(3,)]], 2: [[(0, 1), (1, 0)], [(1, 1), (1, -1)], [(0, 2), (2, 0)]]}


def fit_couplings(
    samples: torch.Tensor,
    method: str = "score",
    *,
    ranges: int = 1,
    powers: tuple[int, ...] = (2, 4),
    wavelet: str | None = None,
) -> Couplings:
    """The couplings of S = Σ_r β_r ½Σ(x_i − x_j)² + Σ_k v_k Σ x_i^k learnt back from independent samples.

    S = ⟨θ, φ(x)⟩ is an exponential family: its sufficient statistics are two-point sums, one for each range of neighbours, and the sums of
    the powers of the field. Three estimators, all consistent:

    - "score" (Hyvärinen): E[½|∇S|² − ΔS] is quadratic in θ, so that θ = E[∇φ·∇φᵀ]⁻¹ E[Δφ]; no partition function is needed.
    - "pseudolikelihood" (Besag): the product of the laws p(x_i | all others), each normalised by an integral over one site.
    - "likelihood", for rings: exact, with log Z of the transfer matrix. ∇ℓ = E[φ] − ⟨φ⟩_θ, ∇²ℓ = Cov_θ[φ].

    With a wavelet the score is that of the details of the finest scale given the averages, p(x̄_1 | x_1): derivatives are taken along the
    details alone. At the scale of the pixels that law has the same couplings; `fit_scales` goes on to coarser ones.

    Parameters
    ----------
    samples : torch.Tensor, shape (n, L) or (n, L1, L2)
        Rings or tori, n ≥ 2; their independence is assumed in the errors alone.
    method : {"score", "pseudolikelihood", "likelihood"}
    ranges : int, 0 to 3
        1: nearest neighbours. 2, 3: also diagonals, and neighbours at distance 2 (on a ring distances 2, 3). 0: none.
    powers : tuple of int
        Even powers of the field in V.
    wavelet : str, optional
        As in `physgen.kernels.wavelet`; "score" alone.

    Returns
    -------
    Couplings
        ``bonds``, ``potential``, their ``error`` and ``covariance``: (β), (quadratic, quartic) of `potential` for the defaults.

    Raises
    ------
    ValueError
        If a shape, a name or a number does not fit, the statistics are linearly dependent on the samples, or an iteration fails.

    Notes
    -----
    Hyvärinen (2005), J. Mach. Learn. Res. 6, 695; Besag (1975), The Statistician 24, 179; the conditional fits: Marchand, Ozawa, Biroli,
    Mallat (2022). Claims PHI-1, RGR-12. Errors are those of the estimating equations (sandwich).
    """
    x = _fields(samples, "samples").detach().double()
    ranges, powers = _ansatz(x, ranges, powers)
    if method not in ("score", "pseudolikelihood", "likelihood"):
        raise ValueError(f"method: got {method!r}; expected 'score', 'pseudolikelihood' or 'likelihood'")
    if wavelet is not None and method != "score":
        raise ValueError(f"wavelet: got {wavelet!r} with method={method!r}; expected method='score'")
    if method == "likelihood" and (x.ndim != 2 or ranges > 1):
        raise ValueError(
            f"method: got 'likelihood' for shape {tuple(x.shape)}, ranges={ranges}; it serves rings, ranges <= 1"
        )
    theta, slope, residuals = _score_matching(x, ranges, powers, wavelet)
    if method == "pseudolikelihood":
        theta, slope, residuals = _newton(theta, lambda th: _pseudolikelihood(th, x, ranges, powers))
    if method == "likelihood":
        theta, slope, residuals = _newton(theta, lambda th: _ring_likelihood(th, x, ranges, powers))
    inverse = torch.linalg.inv(slope)
    covariance = inverse @ torch.cov(residuals.T).view(slope.shape) @ inverse / len(x)
    return Couplings(theta[:ranges], theta[ranges:], covariance.diagonal().sqrt(), covariance)


def _ansatz(x: torch.Tensor, ranges, powers) -> tuple[int, tuple[int, ...]]:
    if len(x) < 2:
        raise ValueError(f"samples: got {len(x)}; expected at least 2")
    if _count(ranges, "ranges", 0) > 3:
        raise ValueError(f"ranges: got {ranges}; expected 0 to 3")
    powers = tuple(_count(k, "powers", 2) for k in powers)
    if not powers or any(k % 2 for k in powers) or len(set(powers)) < len(powers):
        raise ValueError(f"powers: got {powers}; expected different even numbers")
    return ranges, powers


def _around(x: torch.Tensor, shifts: list[tuple[int, ...]]) -> torch.Tensor:
    """The sum over the neighbours at ± each shift."""
    sites = tuple(range(1, x.ndim))
    return sum(x.roll(tuple(sign * k for k in s), sites) for s in shifts for sign in (1, -1))


def _gradients(x: torch.Tensor, ranges: int, powers: tuple[int, ...]) -> torch.Tensor:
    """(features, n, …): ∇φ of ½Σ(x_i − x_j)² for each range, and of Σ x_i^k."""
    shifts = RANGES[x.ndim - 1][:ranges]
    bonds = [2 * len(s) * x - _around(x, s) for s in shifts]
    return torch.stack(bonds + [k * x ** (k - 1) for k in powers])


def _score_matching(x, ranges, powers, wavelet):
    """θ, E[∇φ·∇φᵀ], and ∇φ·∇φᵀθ − Δφ of each sample; along the details alone if a wavelet is given."""
    gradients = _gradients(x, ranges, powers)
    shifts = RANGES[x.ndim - 1][:ranges]
    if wavelet is None:
        here, traces = torch.ones(x.shape[1:], dtype=x.dtype), [2 * len(s) * x[0].numel() for s in shifts]
    else:
        here, traces = _detail_traces(x.shape[1:], wavelet, shifts)
        gradients = _details(gradients, wavelet, x.ndim - 1)
    flat = gradients.flatten(2)
    products = torch.einsum("kni,lni->nkl", flat, flat)
    curvature = [x.new_full((len(x),), float(t)) for t in traces]
    curvature += [(here * k * (k - 1) * x ** (k - 2)).flatten(1).sum(1) for k in powers]
    laplacians = torch.stack(curvature, 1)
    slope = products.mean(0)
    if torch.linalg.matrix_rank(slope, hermitian=True) < len(slope):
        raise ValueError(
            "samples: got statistics that are linearly dependent; expected fields that vary more, or fewer couplings"
        )
    theta = torch.linalg.solve(slope, laplacians.mean(0))
    return theta, slope, products @ theta - laplacians


def _details(fields: torch.Tensor, wavelet: str, dimension: int) -> torch.Tensor:
    """The details of the finest scale, flattened behind the leading axes."""
    if dimension == 1:
        return dwt(fields, wavelet, 1)[1]
    return torch.cat([d.flatten(-2) for d in dwt2(fields, wavelet, 1)[1]], -1)


def _detail_traces(shape, wavelet: str, shifts) -> tuple[torch.Tensor, list[float]]:
    """The diagonal of the projector on details, and the trace over them of the Hessian of each bond sum.

    Both repeat with period 2, so that the details at one position are enough.
    """
    cells = [n // 2 for n in shape]
    if any(n % 2 for n in shape):
        raise ValueError(f"samples: got sides {tuple(shape)}; expected even ones for a wavelet")
    zero = torch.zeros(cells, dtype=torch.float64)
    unit = zero.clone()
    unit[(0,) * len(shape)] = 1
    if len(shape) == 1:
        atoms = [idwt([zero, unit], wavelet)]
    else:
        atoms = [idwt2([zero, tuple(unit if k == j else zero for k in range(3))], wavelet) for j in range(3)]
    atoms = torch.stack(atoms)
    bonds = [(2 * len(s) * atoms - _around(atoms, s)).mul(atoms).sum() * math.prod(cells) for s in shifts]
    folded = atoms.square().sum(0)
    for k, n in enumerate(cells):
        folded = folded.unflatten(2 * k, (n, 2)) if k == 0 else folded.unflatten(k + 1, (n, 2))
    folded = folded.sum(tuple(range(0, 2 * len(cells), 2)))
    return folded.repeat(cells), [float(b) for b in bonds]


def _newton(theta: torch.Tensor, evaluate: Callable):
    """Newton's iteration for E[residual] = 0 with the slope that goes with it, as `evaluate` gives them."""
    for _ in range(50):
        slope, residuals = evaluate(theta)
        change = torch.linalg.solve(slope, residuals.mean(0))
        theta = theta + change
        if not bool(theta.isfinite().all()):
            break
        if float(change.abs().max()) <= 1e-10 * (1 + float(theta.abs().max())):
            return theta, slope, residuals
    raise ValueError("samples: the iteration did not converge; expected more samples, or fewer couplings")


def _pseudolikelihood(theta, x, ranges, powers, block: int = 1 << 14):
    """Slope and residuals ⟨f⟩_θ − f of the laws of one site: E(x_i) = Σ_r β_r (d_r x_i² − x_i n_ri) + Σ_k v_k x_i^k, summed over sites."""
    shifts = RANGES[x.ndim - 1][:ranges]
    points = _points(x)
    even = torch.stack([points**k for k in powers], 1)
    around = (
        torch.stack([_around(x, s) for s in shifts], -1).flatten(0, -2)
        if shifts
        else x.new_empty(x.numel(), 0)
    )
    degrees = x.new_tensor([len(s) for s in shifts])
    sites, slope, residuals = x.flatten(), 0.0, []
    for first in range(0, len(sites), block):
        near, own = around[first : first + block], sites[first : first + block]
        # f of bonds at the points y: d_r y² − y n_ri. Their part linear in y is all that differs from site to site.
        weight = torch.softmax(
            (near @ theta[:ranges])[:, None] * points
            - (degrees @ theta[:ranges]) * points**2
            - even @ theta[ranges:],
            1,
        )
        basis = torch.cat([points[:, None], points[:, None] ** 2, even], 1)
        mean = weight @ basis
        second = (weight @ (basis[:, :, None] * basis[:, None]).flatten(1)).unflatten(
            1, (basis.shape[1],) * 2
        )
        covariance = second - mean[:, :, None] * mean[:, None]
        # From (y, y², powers) to the features of each site.
        to = x.new_zeros(len(own), len(theta), basis.shape[1])
        to[:, :ranges, 0], to[:, :ranges, 1] = -near, degrees
        to[:, ranges:, 2:] = torch.eye(len(powers), dtype=x.dtype)
        at = torch.stack([own, own**2, *(own**k for k in powers)], 1)
        slope = slope + (to @ covariance @ to.transpose(1, 2)).sum(0)
        residuals.append((to @ (mean - at)[:, :, None])[:, :, 0])
    residuals = torch.cat(residuals).unflatten(0, (len(x), -1)).sum(1)
    return slope / len(x), residuals


def _points(x: torch.Tensor) -> torch.Tensor:
    """A grid that reaches one beyond the samples, in steps of a tenth or less."""
    edge = float(x.abs().max()) + 1
    return torch.linspace(-edge, edge, 2 * math.ceil(10 * edge) + 1, dtype=torch.float64)


def _ring_likelihood(theta, x, ranges, powers):
    """Slope Cov_θ[φ] and residuals ⟨φ⟩_θ − φ, from the first two derivatives of log Z = log Tr T^L."""
    points, n = _points(x), x.shape[1]
    even = torch.stack([points**k for k in powers])

    def log_z(theta: torch.Tensor) -> torch.Tensor:
        bond = (points[:, None] - points) ** 2 / 2 * theta[:ranges].sum()
        site = theta[ranges:] @ even
        log_t = -bond - (site[:, None] + site) / 2
        top = log_t.max().detach()
        return n * top + torch.linalg.matrix_power((log_t - top).exp(), n).trace().log()

    mean = -torch.autograd.functional.jacobian(log_z, theta)
    slope = torch.autograd.functional.hessian(log_z, theta)
    bonds = [((x - x.roll(-1, 1)) ** 2).sum(1) / 2] * ranges
    features = torch.stack([*bonds, *((x**k).sum(1) for k in powers)], 1)
    return slope, mean - features


def fit_scales(
    samples: torch.Tensor,
    levels: int,
    wavelet: str = "haar",
    *,
    ranges: int = 1,
    powers: tuple[int, ...] = (2, 4),
) -> list[Couplings]:
    """Wavelet conditional renormalization: couplings of p̄_j(x̄_j | x_j) for j = 1 … levels, and of p_J(x_J) at last.

    x_j are the orthonormal averages of x_{j−1}, x̄_j its details; each conditional law has the ansatz of `fit_couplings` in the pixels of
    x_{j−1}, fitted by score matching along its details. For j = 1 this is exact; coarser fields carry couplings that the ansatz leaves out
    (the free energy log Z̄_j of what is integrated out).

    Parameters
    ----------
    samples : torch.Tensor, shape (n, L) or (n, L1, L2)
        Sides divisible by 2^levels, and ≥ 2^(levels+1).
    levels : int, ≥ 1
    wavelet, ranges, powers
        As in `fit_couplings`.

    Returns
    -------
    list of Couplings
        levels + 1, fine to coarse.

    Raises
    ------
    ValueError
        As `fit_couplings`, or if the sides do not fit the levels.

    Notes
    -----
    Marchand, Ozawa, Biroli, Mallat (2022), arXiv 2207.04941, section IV; claims RGR-2, RGR-12.
    """
    x, fits = _fields(samples, "samples").detach().double(), []
    levels = _count(levels, "levels")
    if any(n % 2**levels or n < 2 ** (levels + 1) for n in x.shape[1:]):
        raise ValueError(
            f"levels: got {levels} for sides {tuple(x.shape[1:])}; expected sides divisible by 2**levels, at least twice it"
        )
    for _ in range(levels):
        fits.append(fit_couplings(x, ranges=ranges, powers=powers, wavelet=wavelet))
        x = dwt(x, wavelet, 1)[0] if x.ndim == 2 else dwt2(x, wavelet, 1)[0]
    return [*fits, fit_couplings(x, ranges=ranges, powers=powers)]


# ------------------------------------------------------------------------------------------------- one exact step of renormalization


def ring_table(beta: float, convention: str = "B", points: int = 161) -> CoarseTable:
    """The marginal p_1(c_1, c_2) of the ring of four sites: Haar's averages c of two pairs of neighbours, their details f integrated out.

    With x_1,2 = (c_1 ± f_1)/√2 and x_3,4 = (c_2 ± f_2)/√2 the action is S = a(c_1, f_1) + a(c_2, f_2) − β(c_1 c_2 − f_1 f_2), where
    a(c, f) = V(x_1) + V(x_2) + β(c² + 3f²)/2: averages attract, details repel, and

        p_1(c_1, c_2) = e^{β c_1 c_2} Z̄(c_1, c_2)/Z,   Z̄ = ∫ e^{−a(c_1, f_1) − β f_1 f_2 − a(c_2, f_2)} df_1 df_2,

    on a grid, where the trapezium rule is exact to rounding, a product of three matrices.

    Parameters
    ----------
    beta : float, ≥ 0
    convention : {"B", "A"}
    points : int, ≥ 101
        Of c, and of f.

    Returns
    -------
    CoarseTable

    Raises
    ------
    ValueError
        If beta < 0, points < 101 or the convention is unknown.

    Notes
    -----
    Claims RGR-2, RGR-3, RGR-12.
    """
    law, n = potential(beta, convention), _count(points, "points", 101)
    beta = float(beta)
    well = -law.quadratic / (2 * law.quartic)
    # Both sites of a pair at edge/√2 cost 40 together; Gaussians that are fitted to the table reach out farther.
    edge = 2.4 * math.sqrt(2 * (well + math.sqrt(CUTOFF / (2 * law.quartic))))
    grid = torch.linspace(-edge, edge, n, dtype=torch.float64)
    log_pair, log_bond = _pair(grid, beta, convention), beta * torch.outer(grid, grid)
    # The largest term of each row is divided out: far out e^{−a} is no floating-point number.
    top = log_pair.amax(1, keepdim=True)
    pair, repel = (log_pair - top).exp(), (-log_bond).exp()
    weight = pair @ repel @ pair.T
    log_weight = log_bond + top + top.T + weight.log()
    cell = 2 * math.log(float(grid[1] - grid[0]))
    log_z = float(torch.logsumexp(log_weight.flatten(), 0)) + 2 * cell
    log_density = log_weight + cell - log_z
    # ⟨x²⟩ = ⟨c_1² + f_1²⟩/2.
    both = (pair * grid**2) @ repel @ pair.T / weight + grid[:, None] ** 2
    variance = float(((log_density + cell).exp() * both).sum()) / 2
    return CoarseTable(grid, log_density, log_z, variance, beta, convention)


def _pair(grid: torch.Tensor, beta: float, convention: str) -> torch.Tensor:
    """−a(c, f) of one pair, (n, n)."""
    law, c, f = potential(beta, convention), grid[:, None], grid
    x2 = torch.stack([c + f, c - f]) ** 2 / 2
    v = (law.quartic * x2**2 + law.quadratic * x2 + _constant(convention)).sum(0)
    return -v - beta * (c**2 + 3 * f**2) / 2


def coarse_features(
    first: torch.Tensor, second: torch.Tensor, monomials: tuple[tuple[int, int], ...]
) -> torch.Tensor:
    """Sums of monomials of the two averages, symmetric in them: c_1^a c_2^b + c_1^b c_2^a, or c_1^a c_2^a; on a last axis.

    Raises
    ------
    ValueError
        If there is none, or one is no pair of integers ≥ 0 with an even sum > 0.
    """
    pairs = [tuple(_count(k, "monomials", 0) for k in pair) for pair in monomials]
    if not pairs or any(len(p) != 2 or sum(p) % 2 or sum(p) == 0 for p in pairs):
        raise ValueError(f"monomials: got {monomials}; expected pairs of integers >= 0 of even sum > 0")
    both = [first**a * second**b + (first**b * second**a if a != b else 0) for a, b in pairs]
    return torch.stack(both, -1)


def fit_coarse(
    table: CoarseTable, monomials: tuple[tuple[int, int], ...] = ((2, 0), (1, 1), (4, 0))
) -> CoarseFit:
    """The law e^{−⟨θ, φ(c)⟩}/Z(θ) of largest likelihood under the exact marginal, by Newton's method.

    ℓ(θ) = KL(p_1 ‖ p_θ) has ∇ℓ = E[φ] − ⟨φ⟩_θ and ∇²ℓ = Cov_θ[φ] ≥ 0: it is convex, and its speed of learning is set by the condition
    number of that covariance.

    Parameters
    ----------
    table : CoarseTable
    monomials : tuple of pairs of int
        As in `coarse_features`: ((2, 0), (1, 1)) is Gaussian, (4, 0) makes it a φ⁴ field of two sites.

    Returns
    -------
    CoarseFit
        ``theta``, ``kl`` in nats, ``condition`` (of Cov[φ] at the fit) and ``log_density`` on the grid.

    Raises
    ------
    ValueError
        If the monomials do not fit, or the iteration does not converge.

    Notes
    -----
    Notes 6.6 (6.6.10–11); claim RGR-12.
    """
    c = table.grid
    features = coarse_features(c[:, None], c[None], monomials).flatten(0, 1)
    exact, cell = table.log_density.flatten().exp(), 2 * math.log(float(c[1] - c[0]))
    exact = exact * math.exp(cell)
    target = exact @ features
    # On a grid every θ has its sum: begin with equal weights, and halve steps that go too far.
    theta = torch.zeros(features.shape[1], dtype=torch.float64)
    scale = (exact @ (features - target) ** 2).sqrt()
    value, log_p = _dual(theta, features, target)
    for _ in range(200):
        p = log_p.exp()
        mean = p @ features
        covariance = (features - mean).T @ (p[:, None] * (features - mean))
        change = torch.linalg.solve(covariance, mean - target)
        size = 1.0
        while True:
            new, log_q = _dual(theta + size * change, features, target)
            if float(new) <= float(value) + 1e-12 or size < 1e-6:
                break
            size /= 2
        theta, value, log_p = theta + size * change, new, log_q
        if float((mean - target).abs().div(scale).max()) < 1e-11:
            entropy = float((exact * table.log_density.flatten()).sum())
            kl = entropy - float(exact @ log_p) + cell
            eigenvalues = torch.linalg.eigvalsh(covariance)
            condition = float(eigenvalues[-1] / eigenvalues[0])
            return CoarseFit(theta, kl, condition, (log_p - cell).view_as(table.log_density))
    raise ValueError(f"monomials: got {monomials}; the iteration did not converge")


def _dual(theta: torch.Tensor, features: torch.Tensor, target: torch.Tensor):
    """ℓ(θ) = ⟨θ, E φ⟩ + log Σ e^{−⟨θ, φ⟩} over the grid, and the logarithms of the weights."""
    energy = features @ theta
    log_z = torch.logsumexp(-energy, 0)
    return theta @ target + log_z, -energy - log_z


def coarse_to_fine(
    table: CoarseTable,
    samples: int,
    *,
    log_density: torch.Tensor | None = None,
    generator: torch.Generator | None = None,
) -> torch.Tensor:
    """Samples of the ring of four, from coarse to fine: (c_1, c_2) from the table, then f_1, and f_2, from their exact conditional laws.

    Parameters
    ----------
    table : CoarseTable
    samples : int, ≥ 1
    log_density : torch.Tensor, optional
        Another law of the averages on the same grid, such as that of a `CoarseFit`; what it misses is missed by the samples.
    generator : torch.Generator, optional

    Returns
    -------
    torch.Tensor
        (samples, 4) float64, on the points of a grid.

    Raises
    ------
    ValueError
        If samples < 1 or `log_density` has another shape.

    Notes
    -----
    Claims RGR-2, RGR-12.
    """
    count, own = _count(samples, "samples"), stream(generator)
    density = table.log_density if log_density is None else log_density
    if density.shape != table.log_density.shape:
        raise ValueError(
            f"log_density: got shape {tuple(density.shape)}; expected {tuple(table.log_density.shape)}"
        )
    grid, n = table.grid, len(table.grid)
    cells = density.double().flatten().softmax(0).cumsum(0)
    u = torch.rand(count, generator=own, dtype=torch.float64) * cells[-1]
    first = torch.searchsorted(cells, u, right=True).clamp(max=n * n - 1)
    i, j = first // n, first % n
    pair = _pair(grid, table.beta, table.convention)
    pair = (pair - pair.amax(1, keepdim=True)).exp()
    repel = torch.exp(-table.beta * torch.outer(grid, grid))
    k = _draw(pair[i] * (pair[j] @ repel), own)
    m = _draw(repel[k] * pair[j], own)
    c, f = grid[torch.stack([i, j], 1)], grid[torch.stack([k, m], 1)]
    return torch.stack([c + f, c - f], 2).flatten(1) / math.sqrt(2)


def detail_hessian(
    field: torch.Tensor, beta: float, convention: str = "B", *, wavelet: str = "haar"
) -> torch.Tensor:
    """The Hessian of S at a field, on the details of the finest scale: convex laws p̄_1(x̄_1 | x_1) have no negative eigenvalue anywhere.

    At φ = 0 it is V''(0) plus β times the bonds', which on Haar's details of a torus have eigenvalues between 2 and 8: for B the least is
    2β − 2(1 + 2β) < 0, so that p̄_1 is not log-concave in general.

    Parameters
    ----------
    field : torch.Tensor, shape (L,) or (L1, L2)
        Even sides.
    beta : float, ≥ 0
    convention : {"B", "A"}
    wavelet : str
        As in `physgen.kernels.wavelet`.

    Returns
    -------
    torch.Tensor
        (D, D) float64, symmetric; D = L/2 or 3 L1 L2/4.

    Raises
    ------
    ValueError
        If the field has another shape, or as `potential`.

    Notes
    -----
    Claim RGR-9.
    """
    x, law = (
        _fields(field[None] if isinstance(field, torch.Tensor) else field, "field").double(),
        potential(beta, convention),
    )
    n, dimension = x[0].numel(), x.ndim - 1
    sites = torch.eye(n, dtype=torch.float64).view(n, *x.shape[1:])
    shifts = RANGES[dimension][0]
    hessian = float(beta) * (2 * len(shifts) * sites - _around(sites, shifts))
    hessian = hessian + sites * (12 * law.quartic * x**2 + 2 * law.quadratic)
    half = _details(hessian, wavelet, dimension)
    return _details(half.T.reshape(-1, *x.shape[1:]).contiguous(), wavelet, dimension)
