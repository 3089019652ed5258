"""The Hopfield model in equilibrium (the chapter `memories/hopfield`).

H = −Σ_{i<j} J_ij s_i s_j − Σ_μ h_μ Σ_i ξ_i^μ s_i with Hebb's J = ξᵀξ/N and J_ii = 0, spins ±1, k_B = 1, load α = K/N. In the
overlaps m_μ = ξ^μ·s/N this is H = −(N/2) Σ_μ m_μ² + K/2 − N Σ_μ h_μ m_μ. All free energies are per spin, f = −E log Z/(βN).

At finite load the replica-symmetric equations (Amit, Gutfreund, Sompolinsky 1985) average over a Gaussian field of width
σ = √(αr): with B = β(m + σz), m = E tanh B, q = E tanh² B, C = β(1 − q), r = q/(1 − C)². They are solved here in the variables
x = m/σ and b = βσ, in which load and temperature are explicit: with S = b E sech² b(x + z),

    σ = E tanh b(x + z) / x,    T = σ/b,    C = S/σ,    α = (σ − S)² / q,

so that nothing is subtracted from one when q → 1, T = 0 is b = ∞, and every line of the phase diagram is a root in one variable.
With n condensed patterns of the same overlap (a symmetric mixture) x + z becomes kx + z, k a sum of n signs.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from concurrent.futures import Executor, ProcessPoolExecutor
from functools import lru_cache
from itertools import product
from multiprocessing import get_context
from typing import NamedTuple

import numpy as np
import torch
from scipy.optimize import brentq, minimize_scalar
from scipy.special import erf, gammaln, logsumexp
from tqdm.auto import tqdm

from physgen.checks import count as _count
from physgen.checks import number as _number
from physgen.kernels import glauber, philox

from .hebbian import (
    _patterns,
    all_states,
    curie_weiss_magnetization,
    mattis_exact,
    mixture_overlap,
    mixture_temperature,
    overlaps,
    rademacher,
    random_patterns,
)

__all__ = [
    "RS",
    "FixedPoints",
    "GroundEnergies",
    "PartitionFunctions",
    "Retrieval",
    "Saddle",
    "Sweep",
    "almeida_thouless",
    "annealed_free_energy",
    "capacity_ags",
    "capacity_all",
    "capacity_single",
    "critical_load",
    "energy_from_overlaps",
    "enumerated_free_energy",
    "exact_two_pattern_free_energy",
    "first_order_line",
    "fixed_point_census",
    "global_minimum_load",
    "low_load_free_energy",
    "low_load_saddle",
    "mattis_second_moment",
    "mixture_spinodal",
    "phase_diagram_sweep",
    "phase_lines",
    "rbm_partition_function",
    "replica_symmetric",
    "replica_symmetric_entropy",
    "retrieval_spinodal",
    "retrieve",
    "rs_free_energy",
    "spin_glass_ground_energy",
    "spin_glass_temperature",
    "zero_temperature_energies",
    "zero_temperature_overlap",
]

FAR = 25.0  # φ(x) = 10⁻¹³⁶: beyond, the kink of the local field has no weight
NODES, WEIGHTS = np.polynomial.legendre.leggauss(20)
DYADIC = np.concatenate([-(2.0 ** np.arange(5, -1, -1)), [0.0], 2.0 ** np.arange(6)])
BRANCHES = "retrieval", "spin_glass"


class Saddle(NamedTuple):
    """A symmetric solution at low load: the overlap with each condensed pattern, and the free energy per spin."""

    m: float
    free_energy: float


class PartitionFunctions(NamedTuple):
    """log Z of the Bernoulli-Gaussian machine and of the Hopfield model that it equals."""

    log_z_rbm: float
    log_z_hopfield: float


class RS(NamedTuple):
    """A replica-symmetric solution."""

    m: float
    q: float
    r: float
    free_energy: float


class GroundEnergies(NamedTuple):
    """Replica-symmetric energies per spin at T = 0."""

    retrieval: float
    spin_glass: float


class Retrieval(NamedTuple):
    """Simulated overlap with the stored pattern."""

    mean: float
    error: float  # standard error over the replicas
    overlaps: torch.Tensor  # (replicas,) time averages


class Sweep(NamedTuple):
    """Simulated overlaps on a grid of loads and temperatures, both (len(loads), len(temperatures)), float64."""

    mean: torch.Tensor
    error: torch.Tensor


class FixedPoints(NamedTuple):
    """All strict fixed points of the zero-temperature dynamics."""

    count: int
    spurious: int  # those that are no stored pattern or its negative
    energies: torch.Tensor  # (count,) H/N
    max_overlaps: torch.Tensor  # (count,) max_μ |m_μ|


def _load(alpha) -> float:
    return _number(alpha, "alpha", 0)


def _temperature(temperature) -> float:
    return _number(temperature, "temperature", 0)


def _beta(beta) -> float:
    return _number(beta, "beta", 0, strict=True)


def _odd(n_mixed, least: int) -> int:
    if _count(n_mixed, "n_mixed", least) % 2 == 0:
        raise ValueError(f"n_mixed: got {n_mixed}; expected an odd number of patterns")
    return n_mixed


def _branch(branch) -> str:
    if branch not in BRANCHES:
        raise ValueError(f"branch: got {branch!r}; expected one of {BRANCHES}")
    return branch


def _vector(values, name: str, size: int | None = None) -> torch.Tensor:
    """A finite floating-point vector, of that size if one is given."""
    if not isinstance(values, torch.Tensor) or values.ndim != 1 or len(values) == 0:
        raise ValueError(
            f"{name}: got {getattr(values, 'shape', values)!r}; expected a tensor of shape (L,), L >= 1"
        )
    if not values.is_floating_point() or not bool(values.detach().isfinite().all()):
        raise ValueError(
            f"{name}: got {values.dtype} {values.tolist()}; expected finite floating-point numbers"
        )
    if size is not None and len(values) != size:
        raise ValueError(f"{name}: got {len(values)} numbers; expected {size}, one per pattern")
    return values.double()


# ------------------------------------------------------------------------------------------------- energy, low load


def energy_from_overlaps(
    spins: torch.Tensor, patterns: torch.Tensor, pattern_field: torch.Tensor | None = None
) -> torch.Tensor:
    """The Hamiltonian in the overlaps: H = −(N/2) Σ_μ m_μ² + K/2 − N Σ_μ h_μ m_μ; K/2 removes the diagonal.

    Parameters
    ----------
    spins : torch.Tensor, shape (..., N)
        Of ±1.
    patterns : torch.Tensor, shape (K, N)
        Of ±1.
    pattern_field : torch.Tensor, shape (K,), optional
        h_μ, a field along each pattern (site i feels Σ_μ h_μ ξ_i^μ).

    Returns
    -------
    torch.Tensor
        (...), float64: `hebbian.energy` of the Hebb couplings with zero diagonal.

    Raises
    ------
    ValueError
        If a shape does not fit, spins or patterns are not ±1, or a field is not finite.

    Notes
    -----
    Claims HEB-38, HEB-39, HEB-41.
    """
    m = overlaps(spins, patterns)
    k, n = patterns.shape
    h = torch.zeros(k) if pattern_field is None else pattern_field
    return -n / 2 * (m**2).sum(-1) + k / 2 - n * (m @ _vector(h, "pattern_field", k))


def low_load_free_energy(
    m: torch.Tensor, beta: float, pattern_field: torch.Tensor | None = None
) -> torch.Tensor:
    """The free energy of a finite number of patterns: f(m) = ½ Σ_μ m_μ² − (1/β) E_ξ log 2cosh(β Σ_μ (m_μ + h_μ) ξ^μ).

    Its minimum over m is lim −E log Z/(βN); stationarity reads m_μ = E ξ^μ tanh(β Σ_ν (m_ν + h_ν) ξ^ν).

    Parameters
    ----------
    m : torch.Tensor, shape (L,)
        Floating point; may require a gradient. L ≤ 16: the 2^L signs are enumerated.
    beta : float, > 0
    pattern_field : torch.Tensor, shape (L,), optional
        h_μ.

    Returns
    -------
    torch.Tensor
        A float64 scalar, differentiable in m and h.

    Raises
    ------
    ValueError
        If a shape does not fit, L > 16, a value is not finite or beta ≤ 0.

    Notes
    -----
    Amit, Gutfreund, Sompolinsky (1985), PRA 32, 1007, eq. 2.10; claim HEB-43.
    """
    beta, m = _beta(beta), _vector(m, "m")
    if len(m) > 16:
        raise ValueError(f"m: got {len(m)} overlaps; the enumeration of signs serves up to 16")
    h = torch.zeros(len(m)) if pattern_field is None else pattern_field
    u = (beta * (all_states(len(m)) @ (m + _vector(h, "pattern_field", len(m))))).abs()
    return (m**2).sum() / 2 - (u + torch.log1p(torch.exp(-2 * u))).mean() / beta


def low_load_saddle(beta: float, n_mixed: int = 1) -> Saddle:
    """The symmetric solution m = (m, …, m) of n condensed patterns at low load, and its f = n m²/2 − (1/β) E log 2cosh(βmk).

    Parameters
    ----------
    beta : float, > 0
    n_mixed : int, odd
        1: a stored pattern, the minimum of f for β > 1. 3, 5, …: mixtures, which lie higher.

    Returns
    -------
    Saddle
        ``m`` (0 for β ≤ 1) and ``free_energy``.

    Raises
    ------
    ValueError
        If beta ≤ 0 or `n_mixed` is not an odd positive integer.

    Notes
    -----
    Claims HEB-20, HEB-35, HEB-43.
    """
    beta, n = _beta(beta), _odd(n_mixed, 1)
    m = curie_weiss_magnetization(beta) if n == 1 else mixture_overlap(n, 1 / beta)
    entropic = sum(w * (k * m + math.log1p(math.exp(-2 * beta * k * m)) / beta) for k, w in _signs(n))
    return Saddle(m, n * m**2 / 2 - entropic)


def _log_binomials(n: int) -> tuple[np.ndarray, np.ndarray]:
    """log C(n, k) and the sums 2k − n of n spins, k of them up."""
    k = np.arange(n + 1)
    return gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1), 2.0 * k - n


def exact_two_pattern_free_energy(n_spins: int, beta: float) -> float:
    """f = −log Z/(βN) at K = 2, exactly, for two orthogonal patterns: they agree on N/2 sites and differ on N/2.

    With A, D the gauged magnetisations of the two groups, N(m_1² + m_2²)/2 = (A² + D²)/N, so Z is a double binomial sum, here
    with J_ii = 0 (the constant K/2 = 1 in H).

    Parameters
    ----------
    n_spins : int, even, ≥ 2
        The cost is (N/2)² terms.
    beta : float, > 0

    Raises
    ------
    ValueError
        If `n_spins` is not an even positive integer or beta ≤ 0.

    Notes
    -----
    Claim HEB-43. The two groups decouple: f is that of two Mattis models of N/2 spins each.
    """
    beta = _beta(beta)
    if _count(n_spins, "n_spins", 2) % 2:
        raise ValueError(f"n_spins: got {n_spins}; expected an even number (half of the sites agree)")
    log_c, total = _log_binomials(n_spins // 2)
    # e^{β(A² + D²)/N} factorises over the groups: the double sum is a square.
    log_z = 2 * logsumexp(log_c + beta * total**2 / n_spins) - beta
    return float(-log_z / (beta * n_spins))


def mattis_second_moment(n_spins: int, beta: float, double_count: bool = False) -> float:
    """⟨m²⟩ of one stored pattern, exactly: weights C(N, k) e^{βNm²/2}, m = 2k/N − 1.

    Parameters
    ----------
    n_spins : int, ≥ 1
    beta : float, > 0
    double_count : bool
        Divide Hebb's couplings by N once more, weights C(N, k) e^{βm²/2}: nothing orders, ⟨m²⟩ ≈ 1/N.

    Raises
    ------
    ValueError
        If `n_spins` < 1 or beta ≤ 0.

    Notes
    -----
    Claim HEB-38.
    """
    n, beta = _count(n_spins, "n_spins", 1), _beta(beta)
    return mattis_exact(n, beta / n if double_count else beta)[1] ** 2


def rbm_partition_function(patterns: torch.Tensor, beta: float, nodes: int = 80) -> PartitionFunctions:
    """Both sides of Σ_s Π_μ ∫Dz_μ exp(√(β/N) z_μ ξ^μ·s) = Σ_s exp((β/2N) Σ_μ (ξ^μ·s)²), self-couplings included.

    The left side is a restricted Boltzmann machine with N binary visible units, K Gaussian hidden units and weights
    √(β/N) ξ; each hidden unit is integrated by Gauss–Hermite quadrature, each state is enumerated.

    Parameters
    ----------
    patterns : torch.Tensor, shape (K, N)
        Of ±1, N ≤ 20.
    beta : float, > 0
        With βN ≤ 100, where 80 nodes are exact to rounding.
    nodes : int
        Of the quadrature, 40 to 180.

    Returns
    -------
    PartitionFunctions
        ``log_z_rbm`` and ``log_z_hopfield``.

    Raises
    ------
    ValueError
        If the patterns are not ±1, N > 20, βN > 100 or a number is out of range.

    Notes
    -----
    Barra, Bernacchia, Santucci, Contucci (2012), Neural Networks 34, 1; claim HEB-44.
    """
    xi, beta = _patterns(patterns), _beta(beta)
    n = xi.shape[1]
    if not 40 <= _count(nodes, "nodes", 1) <= 180:
        raise ValueError(f"nodes: got {nodes}; expected 40 to 180")
    if beta * n > 100:
        raise ValueError(f"beta: got {beta} at N = {n}; the quadrature serves βN <= 100")
    z, weight = np.polynomial.hermite_e.hermegauss(nodes)
    fields = math.sqrt(beta / n) * (all_states(n) @ xi.T)
    log_weight = torch.from_numpy(np.log(weight / weight.sum()))
    levels, index = fields.unique(return_inverse=True)  # a field takes N + 1 values: few integrals to do
    hidden = torch.logsumexp(levels[:, None] * torch.from_numpy(z) + log_weight, 1)
    return PartitionFunctions(
        float(torch.logsumexp(hidden[index].sum(1), 0)), float(torch.logsumexp((fields**2).sum(1) / 2, 0))
    )


# ------------------------------------------------------------------------------------------------- averages over the field


def _normal(x: float) -> float:
    return math.exp(-x * x / 2) / math.sqrt(2 * math.pi)


def _rule(x: float, b: float) -> tuple[np.ndarray, np.ndarray]:
    """Nodes d = x + z and weights φ(z) dz: panels of 20 points, refined dyadically about the kink of tanh(bd) at d = 0."""
    low, high = -10.0, 10.0
    if x <= FAR:
        low = min(low, -x - 1)
    edges = np.linspace(low, high, math.ceil((high - low) / 1.25) + 1) + x
    if x <= FAR:
        edges = np.sort(np.concatenate([edges, np.clip(DYADIC / b, x + low, x + high)]))
    half = np.diff(edges) / 2
    half, middle = half[half > 0, None], (edges[:-1] + half)[half > 0, None]
    d = (middle + half * NODES).ravel()
    return d, (half * WEIGHTS).ravel() * np.exp(-((d - x) ** 2) / 2) / math.sqrt(2 * math.pi)


def _mean_tanh(x: float, b: float) -> float:
    d, w = _rule(x, b)
    return float(w @ np.tanh(b * d))


def _tanh_moments(x: float, b: float) -> tuple[float, float, float, float]:
    """E tanh u, E tanh² u, b E sech² u, b E sech⁴ u over a standard normal z, u = b(x + z)."""
    if b == math.inf:
        return float(erf(x / math.sqrt(2))), 1.0, 2 * _normal(x), 4 / 3 * _normal(x)
    d, w = _rule(x, b)
    t, e = np.tanh(b * d), np.exp(-2 * b * np.abs(d))
    sech2 = 4 * e / (1 + e) ** 2
    return float(w @ t), float(w @ (t * t)), b * float(w @ sech2), b * float(w @ (sech2 * sech2))


def _log_moments(x: float, b: float) -> tuple[float, float]:
    """E ln(2cosh u)/b and E[ln 2cosh u − u tanh u], u = b(x + z)."""
    if b == math.inf:
        return x * float(erf(x / math.sqrt(2))) + 2 * _normal(x), 0.0
    d, w = _rule(x, b)
    u = b * np.abs(d)
    e = np.exp(-2 * u)
    return float(w @ (np.abs(d) + np.log1p(e) / b)), float(w @ (np.log1p(e) + 2 * u * e / (1 + e)))


@lru_cache
def _signs(n: int) -> tuple[tuple[int, float], ...]:
    """The positive values k of a sum of n signs (n odd), with the probability of |k|."""
    return tuple((k, math.comb(n, (n + k) // 2) / 2 ** (n - 1)) for k in range(1, n + 1, 2))


class Point(NamedTuple):
    """A solution of the replica-symmetric equations in the variables x = m/σ, b = βσ."""

    x: float
    b: float
    sigma: float
    m: float
    q: float
    s: float  # S = b E sech² B = Cσ
    s4: float  # b E sech⁴ B
    breaking: float  # b E (1 − ξ¹ξ²) sech² B: what breaks the symmetry of a mixture

    @property
    def alpha(self) -> float:
        return (self.sigma - self.s) ** 2 / self.q

    @property
    def temperature(self) -> float:
        return self.sigma / self.b

    @property
    def stable_mixture(self) -> bool:
        """Is the eigenvalue 1 − β E (1 − ξ¹ξ²) sech² B on differences of overlaps positive?"""
        return self.breaking < self.sigma

    def free_energy(self, alpha: float, temperature: float) -> float:
        return _free_energy(self.m, self.sigma, self.q, self.s / self.sigma, alpha, temperature)


def _point(x: float, b: float, n: int = 1) -> Point:
    m = q = s = s4 = breaking = 0.0
    for k, weight in _signs(n):
        t1, t2, sech2, sech4 = _tanh_moments(k * x, b)
        m, q, s, s4 = m + weight * k / n * t1, q + weight * t2, s + weight * sech2, s4 + weight * sech4
        pair = (k * k - n) / (n * (n - 1)) if n > 1 else 0.0  # E[ξ¹ξ² | k]
        breaking += weight * (1 - pair) * sech2
    return Point(x, b, m / x, m, q, s, s4, breaking)


def _isotherm(x: float, temperature: float, n: int = 1) -> Point:
    """The solution at x on the isotherm T < 1: M(x, b) = Tbx has one root in b, and M ≤ 1 bounds it."""
    if temperature == 0:
        return _point(x, math.inf, n)

    def excess(log_b: float) -> float:
        b = math.exp(log_b)
        m = sum(weight * k / n * _mean_tanh(k * x, b) for k, weight in _signs(n))
        return math.log(m / (b * x * temperature))

    # M may exceed 1 by its rounding, hence the margin.
    top = 1e-12 - math.log(x * temperature)
    return _point(x, math.exp(brentq(excess, math.log(1e-8 / max(x, 1)), top, xtol=1e-14, rtol=1e-14)), n)


@lru_cache(maxsize=4096)
def _last(temperature: float, n: int = 1) -> Point:
    """The solution of largest load on an isotherm, where the branches of large and small x meet."""

    def load(log_x: float) -> float:
        return _isotherm(math.exp(log_x), temperature, n).alpha

    low, high = math.log(0.05), math.log(8.0)
    if n > 1:  # two humps at some temperatures: start from the higher one
        grid = np.linspace(low, high, 24)
        top = int(np.argmax([load(x) for x in grid]))
        low, high = grid[max(top - 1, 0)], grid[min(top + 1, 23)]
    best = minimize_scalar(lambda x: -load(x), bounds=(low, high), method="bounded", options={"xatol": 1e-9})
    return _isotherm(math.exp(best.x), temperature, n)


@lru_cache(maxsize=4096)
def _retrieval(alpha: float, temperature: float) -> Point | None:
    """The retrieval solution at α > 0: the root of α(x) = α beyond the spinodal; None where there is none."""
    if temperature > 1 - 1e-10 or _last(temperature).alpha < alpha:
        return None
    start = math.log(_last(temperature).x)
    stop = max(-math.log(alpha) / 2, start) + 0.1  # α(x) < 1/x²

    def excess(log_x: float) -> float:
        return math.log(_isotherm(math.exp(log_x), temperature).alpha / alpha)

    if excess(start) <= 0:
        return _last(temperature)
    return _isotherm(math.exp(brentq(excess, start, stop, xtol=1e-14, rtol=1e-14)), temperature)


@lru_cache(maxsize=4096)
def _spin_glass(alpha: float, temperature: float) -> Point | None:
    """The solution m = 0 below T_g: σ = √(αq) + S and T = σ/b, which falls with b; None above T_g."""

    def at(b: float) -> Point:
        _, q, s, s4 = _tanh_moments(0.0, b)
        return Point(0.0, b, math.sqrt(alpha * q) + s, 0.0, q, s, s4, s)

    if temperature == 0:
        return at(math.inf)
    low, high = 1e-8, (math.sqrt(alpha) + math.sqrt(2 / math.pi)) / temperature
    if temperature >= at(low).temperature:
        return None
    log_b = brentq(
        lambda log_b: math.log(at(math.exp(log_b)).temperature / temperature),
        math.log(low),
        math.log(2 * high),
        xtol=1e-14,
        rtol=1e-14,
    )
    return at(math.exp(log_b))


def _solution(alpha: float, temperature: float, branch: str) -> Point | None:
    found = _retrieval(alpha, temperature) if branch == "retrieval" else None
    return _spin_glass(alpha, temperature) if found is None else found


# ------------------------------------------------------------------------------------------------- replica symmetry


def _free_energy(m: float, sigma: float, q: float, c: float, alpha: float, temperature: float) -> float:
    """f with C given, so that T = 0 is no special case: σ² = αr, (1 − C)σ = √(αq) where the equation of r holds."""
    if sigma > 0:
        b = sigma / temperature if temperature > 0 else math.inf
        field = sigma * _log_moments(abs(m) / sigma, b)[0]
    else:
        field = abs(m) + (
            temperature * math.log1p(math.exp(-2 * abs(m) / temperature)) if temperature else 0.0
        )
    noise = alpha * (1 + temperature * math.log1p(-c) - q / (1 - c)) if alpha > 0 else 0.0
    return m**2 / 2 + (noise + sigma**2 * c) / 2 - field


def rs_free_energy(m: float, q: float, r: float, alpha: float, temperature: float) -> float:
    """f(m, q, r) = m²/2 + (α/2)[1 + T ln(1 − C) − q/(1 − C) + βr(1 − q)] − T E ln 2cosh β(m + √(αr) z), C = β(1 − q).

    Stationary in m, q and r at the replica-symmetric solutions; the α/2 is the removed diagonal.

    Parameters
    ----------
    m, q, r : float
        |m| ≤ 1, 0 ≤ q ≤ 1, r ≥ 0.
    alpha, temperature : float, ≥ 0
        At T = 0, q must be 1, and C = 1 − 1/√r is what r = 1/(1 − C)² makes it (so r ≥ 1 if alpha > 0).

    Raises
    ------
    ValueError
        If an argument is out of range, or C ≥ 1 where the formula has no value.

    Notes
    -----
    Amit, Gutfreund, Sompolinsky (1985), PRL 55, 1530; (1987), Ann. Phys. 173, 30; claim HEB-45.
    """
    alpha, temperature = _load(alpha), _temperature(temperature)
    m, q, r = _number(m, "m", -1), _number(q, "q", 0), _number(r, "r", 0)
    if m > 1 or q > 1:
        raise ValueError(f"{'m' if m > 1 else 'q'}: got {max(m, q)}; expected at most 1")
    if temperature == 0:
        if q != 1 or (alpha > 0 and r < 1):
            raise ValueError(f"q, r: got {q}, {r} at temperature 0; expected q = 1 and r >= 1")
        c = 1 - 1 / math.sqrt(r) if r > 0 else 0.0
    else:
        c = (1 - q) / temperature
    if alpha > 0 and c >= 1:
        raise ValueError(f"q: got {q} at temperature {temperature}; expected C = (1 - q)/T below 1")
    return _free_energy(m, math.sqrt(alpha * r), q, c, alpha, temperature)


def replica_symmetric(alpha: float, temperature: float, branch: str = "retrieval") -> RS:
    """The replica-symmetric solution m = E tanh B, q = E tanh² B, r = q/(1 − C)², B = β(m + √(αr) z), C = β(1 − q).

    Parameters
    ----------
    alpha : float, ≥ 0
        The load K/N. At 0 the retrieval branch is the Curie–Weiss magnet; the spin-glass branch is the limit α → 0⁺, in which
        αr stays finite, so r = ∞ below T = 1.
    temperature : float, ≥ 0
    branch : "retrieval" or "spin_glass"
        "retrieval": the locally stable solution with m > 0; where there is none (above `retrieval_spinodal`) the solution with
        m = 0. "spin_glass": m = 0; above T_g = 1 + √α that is the paramagnet, q = r = 0.

    Returns
    -------
    RS
        ``(m, q, r, free_energy)``, floats, accurate to about 10⁻¹² (near the spinodal m moves as a square root, and so do
        the errors).

    Raises
    ------
    ValueError
        If alpha or temperature is negative or not finite, or `branch` is neither.

    Notes
    -----
    Amit, Gutfreund, Sompolinsky (1985), PRL 55, 1530; claims HEB-45, HEB-46.
    """
    alpha, temperature, branch = _load(alpha), _temperature(temperature), _branch(branch)
    if alpha == 0 and branch == "retrieval":
        m = curie_weiss_magnetization(1 / temperature) if temperature else 1.0
        c = (1 - m**2) / temperature if temperature else 0.0
        r = m**2 / (1 - c) ** 2 if m else 0.0
        return RS(m, m**2, r, _free_energy(m, 0.0, m**2, 0.0, 0.0, temperature))
    p = _solution(alpha, temperature, branch)
    if p is None:
        return RS(0.0, 0.0, 0.0, _free_energy(0.0, 0.0, 0.0, 1 / temperature, alpha, temperature))
    return RS(p.m, p.q, p.sigma**2 / alpha if alpha else math.inf, p.free_energy(alpha, temperature))


def replica_symmetric_entropy(alpha: float, temperature: float, branch: str = "retrieval") -> float:
    """S = −∂f/∂T = −(α/2)[ln(1 − C) + C/(1 − C)] + E[ln 2cosh B − B tanh B] per spin: negative at T = 0, where RS fails.

    Parameters
    ----------
    alpha, temperature, branch
        As in `replica_symmetric`.

    Raises
    ------
    ValueError
        As `replica_symmetric`.

    Notes
    -----
    Amit, Gutfreund, Sompolinsky (1987), Ann. Phys. 173, 30: −0.07 for the spin glass, −1.4·10⁻³ for retrieval at α_c.
    """
    alpha, temperature, branch = _load(alpha), _temperature(temperature), _branch(branch)
    if alpha == 0 and branch == "retrieval":
        m = replica_symmetric(0.0, temperature).m
        u = m / temperature if temperature else math.inf
        return math.log1p(math.exp(-2 * u)) + 2 * u / (1 + math.exp(2 * u)) if u < 300 else 0.0
    p = _solution(alpha, temperature, branch)
    c = 1 / temperature if p is None else p.s / p.sigma
    disorder = math.log(2) if p is None else _log_moments(p.x, p.b)[1]
    return disorder - (alpha / 2 * (math.log1p(-c) + c / (1 - c)) if alpha else 0.0)


# ------------------------------------------------------------------------------------------------- T = 0


@lru_cache
def critical_load() -> tuple[float, float]:
    """The largest load of the retrieval solution at T = 0, and its overlap: (α_c, m_c) = (0.1379056, 0.967417).

    With y = m/√(2αr), √(2α) = erf(y)/y − (2/√π) e^{−y²} and m = erf(y); α_c is the maximum over y, at
    erf(y) = (2/√π) y (1 + 2y²) e^{−y²}.

    Returns
    -------
    (float, float)

    Notes
    -----
    Amit, Gutfreund, Sompolinsky (1985), PRL 55, 1530: 0.138 and 0.97; claim HEB-46. Replica symmetry breaking moves α_c slightly.
    """
    c = 2 / math.sqrt(math.pi)
    y = brentq(lambda y: float(erf(y)) - c * y * (1 + 2 * y * y) * math.exp(-y * y), 1.0, 2.0, xtol=1e-15)
    return (float(erf(y)) / y - c * math.exp(-y * y)) ** 2 / 2, float(erf(y))


def zero_temperature_overlap(alpha: float) -> float:
    """The retrieval overlap at T = 0, m = erf(y) of `critical_load`; 0 above α_c. Raises ValueError if alpha is negative."""
    return replica_symmetric(alpha, 0.0).m


def spin_glass_ground_energy(alpha: float) -> float:
    """The replica-symmetric energy of the spin glass at T = 0: −1/π − √(2α/π). Raises ValueError if alpha is negative."""
    return -1 / math.pi - math.sqrt(2 * _load(alpha) / math.pi)


def zero_temperature_energies(alpha: float) -> GroundEnergies:
    """Replica-symmetric energies per spin at T = 0 of the stored pattern and of the spin glass.

    Parameters
    ----------
    alpha : float, ≥ 0
        Above α_c there is no retrieval solution, and both are the energy of the spin glass.

    Raises
    ------
    ValueError
        If alpha is negative or not finite.

    Notes
    -----
    Claim HEB-46: the pattern is the lower of the two below `global_minimum_load`.
    """
    return GroundEnergies(replica_symmetric(alpha, 0.0).free_energy, spin_glass_ground_energy(alpha))


@lru_cache
def global_minimum_load() -> float:
    """The load below which a stored pattern is the global minimum at T = 0: 0.05185 (Amit et al. 1985 quote 0.051)."""
    return brentq(lambda a: float(np.subtract(*zero_temperature_energies(a))), 1e-3, 0.13, xtol=1e-15)


# ------------------------------------------------------------------------------------------------- lines of the phase diagram


def spin_glass_temperature(alpha: float) -> float:
    """T_g = 1 + √α, where the spin glass sets in, continuously. Raises ValueError if alpha is negative."""
    return 1 + math.sqrt(_load(alpha))


@lru_cache(maxsize=1024)
def _first_order_load(temperature: float) -> float:
    """The load at which retrieval and spin glass have one free energy, on an isotherm."""

    def difference(log_x: float) -> float:
        p = _isotherm(math.exp(log_x), temperature)
        return p.free_energy(p.alpha, temperature) - _spin_glass(p.alpha, temperature).free_energy(
            p.alpha, temperature
        )

    low = high = math.log(_last(temperature).x)
    while difference(high) > 0:
        low, high = high, high + 0.7
    return _isotherm(math.exp(brentq(difference, low, high, xtol=1e-13)), temperature).alpha


@lru_cache(maxsize=1024)
def _mixture_load(temperature: float, n: int, stable: bool) -> float:
    """The largest load of a symmetric mixture on an isotherm: of any, or of a locally stable one."""
    p = _last(temperature, n)
    if not stable or p.stable_mixture:
        return p.alpha
    low = high = math.log(p.x)
    while not _isotherm(math.exp(high), temperature, n).stable_mixture:
        low, high = high, high + 0.7
        if high > 20:  # the load is below e^{−40}
            return 0.0

    def load(log_x: float) -> float:
        return _isotherm(math.exp(log_x), temperature, n).alpha

    def eigenvalue(log_x: float) -> float:
        p = _isotherm(math.exp(log_x), temperature, n)
        return p.sigma - p.breaking

    edge = brentq(eigenvalue, low, high, xtol=1e-13)
    # With two humps the load may still rise beyond the edge of stability.
    hump = minimize_scalar(lambda x: -load(x), bounds=(edge, edge + 1.5), method="bounded")
    return max(load(edge), -float(hump.fun))


@lru_cache
def _summit(load: Callable[..., float], *args) -> tuple[float, float]:
    """The temperature at which a line has its largest load, and that load: the lines turn back at low T."""
    best = minimize_scalar(
        lambda t: -load(t, *args), bounds=(0.0, 0.2), method="bounded", options={"xatol": 1e-7}
    )
    return max((-float(best.fun), float(best.x)), (load(0.0, *args), 0.0))[::-1]


def _highest(alpha: float, top: float, load: Callable[..., float], *args, margin: float = 1e-9) -> float:
    """The highest temperature at which a line, load(T) falling to 0 at `top`, has the load alpha; 0 where it never does."""
    start, largest = _summit(load, *args)
    if alpha > largest:
        return 0.0
    stop = top * (1 - margin)
    least = load(stop, *args)
    if alpha <= least or alpha == 0:  # the load falls as (top − T)²
        return top - (top - stop) * math.sqrt(alpha / least) if alpha else top
    return brentq(lambda t: math.sqrt(load(t, *args)) - math.sqrt(alpha), start, stop, xtol=1e-14)


def _retrieval_load(temperature: float) -> float:
    return _last(temperature).alpha


def retrieval_spinodal(alpha: float) -> float:
    """T_M(α), the temperature above which there is no retrieval solution.

    Parameters
    ----------
    alpha : float, ≥ 0

    Returns
    -------
    float
        T_M, 1 at alpha = 0; 0 where there is no retrieval solution at any temperature, α > 0.138189. The replica-symmetric line
        turns back: between α_c = 0.137906 and 0.138189 the solution lives in a window of temperatures, whose top this is.

    Raises
    ------
    ValueError
        If alpha is negative or not finite.

    Notes
    -----
    Amit, Gutfreund, Sompolinsky (1987), Ann. Phys. 173, 30; the turn: Naef, Canning (1992), J. Physique I 2, 247; claim HEB-47.
    """
    return _highest(_load(alpha), 1.0, _retrieval_load)


def first_order_line(alpha: float) -> float:
    """T_c(α), below which the retrieval solution has a lower free energy than the spin glass.

    Parameters
    ----------
    alpha : float, ≥ 0

    Returns
    -------
    float
        T_c, 1 at alpha = 0; 0 where the spin glass is lower at all temperatures. This line turns back too: its largest load lies
        a little above `global_minimum_load`, where it meets T = 0.

    Raises
    ------
    ValueError
        If alpha is negative or not finite.

    Notes
    -----
    Amit, Gutfreund, Sompolinsky (1987), Ann. Phys. 173, 30; claim HEB-47.
    """
    # Closer to T = 1 the two free energies agree to rounding.
    return _highest(_load(alpha), 1.0, _first_order_load, margin=1e-4)


def mixture_spinodal(alpha: float, n_mixed: int = 3, stable: bool = True) -> float:
    """The temperature below which the symmetric mixture of n patterns is a (locally stable) replica-symmetric solution.

    Stable: the Hessian of the free energy on differences of the n overlaps, 1 − β E (1 − ξ¹ξ²) sech² B, is positive (this
    direction does not mix with q and r). At α = 0 the line ends where that eigenvalue vanishes, `hebbian.mixture_temperature`,
    0.45979 for n = 3; at T = 0 it ends where the solution ceases to exist, while still stable: α = 0.02994 for n = 3.

    Parameters
    ----------
    alpha : float, ≥ 0
    n_mixed : int, odd, ≥ 3
    stable : bool
        False: only that the solution exists. That line is the same at low T and ends at T = 1 for α = 0.

    Returns
    -------
    float
        0 where there is no such temperature.

    Raises
    ------
    ValueError
        If alpha is negative or not finite, or `n_mixed` is not odd and at least 3.

    Notes
    -----
    Amit, Gutfreund, Sompolinsky (1987), Ann. Phys. 173, 30; claim HEB-36.
    """
    alpha, n = _load(alpha), _odd(n_mixed, 3)
    return _highest(alpha, mixture_temperature(n) if stable else 1.0, _mixture_load, n, bool(stable))


def _unstable(x: float) -> Point:
    """The point of the de Almeida–Thouless line at x: b² E sech⁴ b(x + z) = q."""

    def excess(log_b: float) -> float:
        _, q, _, s4 = _tanh_moments(x, math.exp(log_b))
        return log_b + math.log(s4 / q)

    return _point(x, math.exp(brentq(excess, math.log(1e-3), math.log(10 / _normal(x)), xtol=1e-14)))


@lru_cache
def _unstable_end() -> Point:
    """Where the de Almeida–Thouless line of the retrieval solution meets the spinodal."""
    x = brentq(lambda x: x - _last(_unstable(x).temperature).x, 1.9, 2.4, xtol=1e-10)
    return _unstable(x)


def almeida_thouless(alpha: float, branch: str = "retrieval") -> float:
    """The temperature below which replica symmetry is unstable: αβ² E sech⁴ B = (1 − C)² at the replica-symmetric solution.

    In x = m/σ, b = βσ this is b² E sech⁴ b(x + z) = q. For small α, T ≈ √(8α/9π) e^{−1/(2α)}.

    Parameters
    ----------
    alpha : float, ≥ 0
    branch : "retrieval" or "spin_glass"
        The spin glass is unstable as soon as it exists: T_g = 1 + √α.

    Returns
    -------
    float
        Where the whole retrieval branch is unstable (α beyond the point at which the line meets the spinodal, close to α_c):
        T_M, or 0 if there is none. 0 also where it is less than 10⁻¹³⁰ (α < 1/25²).

    Raises
    ------
    ValueError
        If alpha is negative or not finite, or `branch` is neither.

    Notes
    -----
    de Almeida, Thouless (1978), J. Phys. A 11, 983; Amit, Gutfreund, Sompolinsky (1985), PRL 55, 1530.
    """
    alpha = _load(alpha)
    if _branch(branch) == "spin_glass":
        return spin_glass_temperature(alpha)
    if alpha >= _unstable_end().alpha:
        return retrieval_spinodal(alpha)
    if alpha <= _unstable(FAR).alpha:
        return 0.0
    x = brentq(lambda x: _unstable(x).alpha - alpha, _unstable_end().x, FAR, xtol=1e-14)
    return _unstable(x).temperature


def phase_lines(n: int = 41) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """The lines of the (α, T) plane, ready to draw.

    Parameters
    ----------
    n : int, ≥ 2
        Points per line.

    Returns
    -------
    dict
        "spin_glass" (α up to 0.16), "spinodal", "first_order", "mixture" (three patterns, locally stable) and
        "almeida_thouless" (of the retrieval solution), each (alpha, temperature), float64 tensors of shape (n,), T falling from
        the left end of the line for the middle three.

    Raises
    ------
    ValueError
        If n < 2.
    """
    if _count(n, "n", 2) and n > 10_000:
        raise ValueError(f"n: got {n}; expected at most 10000 points")
    alpha = 0.16 * np.linspace(0, 1, n) ** 2  # closer where the root is steep
    lines = {"spin_glass": (alpha, 1 + np.sqrt(alpha))}
    loads = {
        "spinodal": (1.0, _retrieval_load),
        "first_order": (1.0, _first_order_load),
        "mixture": (mixture_temperature(3), lambda t: _mixture_load(t, 3, True)),
    }
    for name, (top, load) in loads.items():
        t = np.linspace(top, 0, n)
        lines[name] = np.array([0.0, *(load(float(t)) for t in t[1:])]), t
    unstable = [_unstable(x) for x in np.geomspace(FAR, _unstable_end().x, n - 1)]
    lines["almeida_thouless"] = (
        np.array([0.0, *(p.alpha for p in unstable)]),
        np.array([0.0, *(p.temperature for p in unstable)]),
    )
    return {name: (torch.from_numpy(a), torch.from_numpy(t)) for name, (a, t) in lines.items()}


# ------------------------------------------------------------------------------------------------- high temperature, enumeration


def annealed_free_energy(alpha: float, beta: float, n_spins: int | None = None) -> float:
    """f = −log E Z/(βN): −βf = ln 2 − (α/2) ln(1 − β) − αβ/2 as N → ∞ (β < 1), or exactly at finite N.

    For T > T_g the annealed average is the quenched one as N → ∞; below, it is too low.

    Parameters
    ----------
    alpha : float, ≥ 0
    beta : float, > 0
        Below 1 unless `n_spins` is given.
    n_spins : int, optional
        N, with K = αN an integer: then E Z = 2^N (E e^{βNm²/2 − β/2})^K, m a mean of N fair signs.

    Raises
    ------
    ValueError
        If a value is out of range, or αN is not an integer.

    Notes
    -----
    Claim HEB-48.
    """
    alpha, beta = _load(alpha), _beta(beta)
    if n_spins is None:
        if beta >= 1:
            raise ValueError(f"beta: got {beta}; the annealed average of an infinite system exists below 1")
        return -(math.log(2) - alpha / 2 * math.log1p(-beta) - alpha * beta / 2) / beta
    n = _count(n_spins, "n_spins", 1)
    k = round(alpha * n)
    if abs(k - alpha * n) > 1e-9 * max(1, k):
        raise ValueError(f"alpha: got {alpha} at N = {n}; expected alpha * n_spins to be an integer, K")
    log_c, total = _log_binomials(n)
    pattern = logsumexp(log_c + beta * total**2 / (2 * n)) - n * math.log(2) - beta / 2
    return float(-(math.log(2) + k / n * pattern) / beta)


def enumerated_free_energy(patterns: torch.Tensor, beta: float) -> float:
    """f = −log Z/(βN) of one set of patterns, J_ii = 0, by enumeration of the 2^N states.

    Parameters
    ----------
    patterns : torch.Tensor, shape (K, N)
        Of ±1, N ≤ 20.
    beta : float, > 0

    Raises
    ------
    ValueError
        If the patterns are not ±1, N > 20 or beta ≤ 0.

    Notes
    -----
    Claims HEB-42, HEB-48.
    """
    xi, beta = _patterns(patterns), _beta(beta)
    n = xi.shape[1]
    return float(-torch.logsumexp(-beta * energy_from_overlaps(all_states(n), xi), 0) / (beta * n))


def fixed_point_census(patterns: torch.Tensor) -> FixedPoints:
    """All strict fixed points, s_i Σ_j J_ij s_j > 0 at every site, of Hebb's couplings with J_ii = 0, by enumeration.

    Parameters
    ----------
    patterns : torch.Tensor, shape (K, N)
        Of ±1, N ≤ 20.

    Returns
    -------
    FixedPoints
        ``count``, ``spurious`` (neither a stored pattern nor its negative), ``energies`` (H/N) and ``max_overlaps``
        (max_μ |m_μ|) of each, float64.

    Raises
    ------
    ValueError
        If the patterns are not ±1 or N > 20.

    Notes
    -----
    N times a field is an integer and exact in float64, so a tie is a tie; claim HEB-49.
    """
    xi = _patterns(patterns)
    k, n = xi.shape
    found = []
    for s in all_states(n).split(2**15):
        found.append(s[(s * (s @ xi.T @ xi) - k > 0).all(1)])
    s = torch.cat(found)
    largest = overlaps(s, xi).abs().amax(1) if len(s) else torch.zeros(0, dtype=torch.float64)
    energies = energy_from_overlaps(s, xi) / n if len(s) else torch.zeros(0, dtype=torch.float64)
    return FixedPoints(len(s), int((largest < 1).sum()), energies, largest)


# ------------------------------------------------------------------------------------------------- simulation


def retrieve(
    n_spins: int,
    n_patterns: int,
    temperature: float,
    *,
    sweeps: int,
    replicas: int,
    generator: torch.Generator | None = None,
    start_overlap: float = 1.0,
    burn_in: int | None = None,
) -> Retrieval:
    """Simulate recall: sequential Glauber dynamics from a stored pattern, and the time average of its overlap m_1.

    Every replica has random patterns of its own, so the error bar contains the disorder.

    Parameters
    ----------
    n_spins, n_patterns : int, ≥ 1
    temperature : float, ≥ 0
    sweeps : int, ≥ 1
        Sweeps of N updates each.
    replicas : int, ≥ 2
    generator : torch.Generator, optional
        None draws fresh entropy.
    start_overlap : float in [−1, 1]
        p: each spin starts as ξ_i¹ times a sign of mean p.
    burn_in : int, optional
        Sweeps that are not averaged over, half of them by default.

    Returns
    -------
    Retrieval
        ``mean`` and ``error`` of m_1, ``overlaps`` (replicas,).

    Raises
    ------
    ValueError
        If a size or a value is out of range.

    Notes
    -----
    Claims HEB-46, HEB-47.
    """
    n, k = _count(n_spins, "n_spins", 1), _count(n_patterns, "n_patterns", 1)
    temperature, sweeps, replicas = (
        _temperature(temperature),
        _count(sweeps, "sweeps", 1),
        _count(replicas, "replicas", 2),
    )
    burn_in = sweeps // 2 if burn_in is None else _count(burn_in, "burn_in", 0)
    if burn_in >= sweeps:
        raise ValueError(f"burn_in: got {burn_in}; expected fewer than the {sweeps} sweeps")
    own = torch.Generator().manual_seed(philox.key(generator))
    m = torch.zeros(replicas, dtype=torch.float64)
    for replica in range(replicas):
        xi = random_patterns(k, n, generator=own)
        s, seed = xi[:1] * rademacher(start_overlap, (1, n), generator=own), philox.key(own)
        for sweep in range(sweeps):
            s = glauber.sequential_patterns(s, xi, temperature, updates=n, seed=seed, first_step=sweep * n)
            if sweep >= burn_in:
                m[replica] += (s[0].double() @ xi[0].double()) / n / (sweeps - burn_in)
    return Retrieval(float(m.mean()), float(m.std() / math.sqrt(replicas)), m)


def _grid_point(task: tuple) -> tuple[float, float]:
    """One point of the sweep, a pure function of its arguments: the order of the points does not matter."""
    (i, j), alpha, temperature, n_spins, sweeps, replicas, seed = task
    state = np.random.SeedSequence([seed, i, j]).generate_state(1, np.uint64)[0]
    generator = torch.Generator().manual_seed(int(state) >> 1)
    k = max(1, round(alpha * n_spins))
    return retrieve(n_spins, k, temperature, sweeps=sweeps, replicas=replicas, generator=generator)[:2]


def phase_diagram_sweep(
    loads: torch.Tensor,
    temperatures: torch.Tensor,
    n_spins: int,
    *,
    sweeps: int,
    replicas: int,
    seed: int,
    executor: Executor | None = None,
) -> Sweep:
    """`retrieve` on a grid of loads and temperatures, in parallel.

    Parameters
    ----------
    loads : torch.Tensor, shape (A,)
        Loads α > 0; K = max(1, round(αN)).
    temperatures : torch.Tensor, shape (B,)
        T ≥ 0.
    n_spins : int, ≥ 1
    sweeps, replicas : int
        As in `retrieve`; the first half of the sweeps is not averaged over.
    seed : int, ≥ 0
        Point (i, j) draws from (seed, i, j): the result depends neither on the executor nor on the rest of the grid.
    executor : concurrent.futures.Executor, optional
        A process pool by default (processes are spawned, so a script needs its ``if __name__ == "__main__"``). Dask's
        ``Client.get_executor()`` is one too.

    Returns
    -------
    Sweep
        ``mean`` and ``error``, each (A, B), float64.

    Raises
    ------
    ValueError
        If a value is out of range.

    Notes
    -----
    A progress bar runs unless the environment says ``PHYSGEN_QUIET=1``.
    """
    alpha, temperature = _vector(loads, "loads"), _vector(temperatures, "temperatures")
    if bool((alpha <= 0).any()) or bool((temperature < 0).any()):
        raise ValueError(
            "loads, temperatures: got a load <= 0 or a temperature < 0; expected α > 0 and T >= 0"
        )
    sizes = _count(n_spins, "n_spins", 1), _count(sweeps, "sweeps", 1), _count(replicas, "replicas", 2)
    grid = list(product(range(len(alpha)), range(len(temperature))))
    tasks = [
        (ij, float(alpha[ij[0]]), float(temperature[ij[1]]), *sizes, _count(seed, "seed", 0)) for ij in grid
    ]
    if executor is None:
        # Not forked: the threads of OpenMP do not survive it.
        with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
            values = _run(pool, tasks)
    else:
        values = _run(executor, tasks)
    mean, error = (
        torch.tensor(values, dtype=torch.float64).reshape(len(alpha), len(temperature), 2).unbind(-1)
    )
    return Sweep(mean, error)


def _run(executor: Executor, tasks: list[tuple]) -> list[tuple[float, float]]:
    quiet = os.environ.get("PHYSGEN_QUIET") == "1"
    return list(tqdm(executor.map(_grid_point, tasks), total=len(tasks), disable=quiet, desc="phase diagram"))


# ------------------------------------------------------------------------------------------------- capacities


def capacity_single(n: int) -> float:
    """N/(2 ln N): the most patterns of which a given one is exactly stable with probability → 1. ValueError if n < 2."""
    return _count(n, "n", 2) / (2 * math.log(n))


def capacity_all(n: int) -> float:
    """N/(4 ln N): the most patterns that are all exactly stable with probability → 1. ValueError if n < 2.

    Notes
    -----
    McEliece, Posner, Rodemich, Venkatesh (1987), IEEE Trans. Inf. Theory 33, 461; claim HEB-29.
    """
    return _count(n, "n", 2) / (4 * math.log(n))


def capacity_ags(n: int) -> float:
    """α_c N: the most patterns that have a retrieval state near them, with a few per cent of wrong bits. ValueError if n < 1."""
    return critical_load()[0] * _count(n, "n", 1)
