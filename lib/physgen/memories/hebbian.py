"""Hebbian networks (chapter `memories/hebbian`): threshold units, noisy spins, Hebb's rule and the exact law of its mistakes.

Spins are ±1; the local field is φ_i(s) = Σ_j J_ij s_j + h_i; a spin points up with probability g(φ_i/T), g(z) = ½(1 + tanh z),
and at T = 0 follows the sign of φ_i (a tie keeps it). The energy is H(s) = −½ sᵀJs − hᵀs, Hebb's couplings are
J_ij = (1/N) Σ_μ ξ_i^μ ξ_j^μ with J_ii = 0, and m_μ = (1/N) ξ^μ·s is the overlap with pattern μ. Patterns are rows, (K, N).
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from scipy import optimize, special, stats

from physgen.checks import count as _count
from physgen.checks import number as _number
from physgen.kernels import glauber, philox

__all__ = [
    "Census",
    "Gibbs",
    "all_states",
    "bit_error",
    "bit_error_limit",
    "curie_weiss_magnetization",
    "energy",
    "evolve",
    "first_step_limit",
    "first_step_overlap",
    "gibbs",
    "gibbs_law",
    "hebb_couplings",
    "is_fixed_point",
    "load_at_bit_error",
    "local_fields",
    "mattis_exact",
    "mixture_overlap",
    "mixture_state",
    "mixture_temperature",
    "overlaps",
    "parallel_census",
    "parallel_energy",
    "peretto_law",
    "projector_couplings",
    "rademacher",
    "random_patterns",
    "recall",
    "spin_form",
    "threshold_functions",
    "transition_matrix",
    "up_probability",
]

MOST_ENUMERATED = 20


class Gibbs(NamedTuple):
    """Exact averages over the Gibbs law of a small network."""

    log_z: float
    mean: torch.Tensor  # (N,) mean spins ω(s_i)
    correlations: torch.Tensor  # (N, N) ω(s_i s_j)


class Census(NamedTuple):
    """How many of the 2^N states lie on each kind of limit cycle."""

    fixed: int
    two_cycle: int
    longer: int


# ------------------------------------------------------------------------------------------------- what comes in


def _spins(spins, name: str) -> torch.Tensor:
    if not isinstance(spins, torch.Tensor) or spins.ndim == 0 or spins.numel() == 0:
        raise ValueError(f"{name}: got {_kind(spins)}; expected a tensor of ±1, shape (..., N), N >= 1")
    if spins.dtype == torch.bool or spins.is_complex() or not bool((spins.abs() == 1).all()):
        raise ValueError(f"{name}: got values other than ±1 (dtype {spins.dtype})")
    return spins


def _patterns(patterns) -> torch.Tensor:
    if _spins(patterns, "patterns").ndim != 2:
        raise ValueError(f"patterns: got shape {tuple(patterns.shape)}; expected (K, N), one pattern a row")
    return patterns.double()


def _couplings(couplings, symmetric: bool = True) -> torch.Tensor:
    if (
        not isinstance(couplings, torch.Tensor)
        or couplings.ndim != 2
        or len(couplings) != couplings.shape[1]
        or len(couplings) == 0
    ):
        raise ValueError(f"couplings: got {_kind(couplings)}; expected a tensor of shape (N, N), N >= 1")
    couplings = couplings.double()
    if not bool(couplings.isfinite().all()):
        raise ValueError("couplings: got NaN or infinity; expected finite numbers")
    if symmetric and not torch.allclose(couplings, couplings.T, rtol=1e-10, atol=1e-12):
        raise ValueError("couplings: got a matrix that is not symmetric; an energy needs J = Jᵀ")
    return couplings


def _field(field, n: int) -> torch.Tensor:
    if field is None:
        return torch.zeros(n, dtype=torch.float64)
    if (
        not isinstance(field, torch.Tensor)
        or field.shape != (n,)
        or not bool(field.double().isfinite().all())
    ):
        raise ValueError(f"field: got {_kind(field)}; expected a finite tensor of shape ({n},)")
    return field.double()


def _kind(value) -> str:
    return f"shape {tuple(value.shape)}" if isinstance(value, torch.Tensor) else f"{value!r}"


def _same_size(spins: torch.Tensor, n: int) -> None:
    if spins.shape[-1] != n:
        raise ValueError(
            f"spins: got {spins.shape[-1]} of them; expected {n}, the size of the couplings or patterns"
        )


# ------------------------------------------------------------------------------------------------- units and noise


@lru_cache(typed=True)  # 2.0 is refused even if 2 came before
def threshold_functions(n_inputs: int) -> int:
    """The number of Boolean functions y = Θ(Σ_i J_i x_i − U*) of n inputs x ∈ {0, 1}ⁿ: 4, 14, 104, 1882 for n = 1 … 4.

    Every threshold function of up to four inputs has integer weights |J_i| ≤ 3 (Muroga 1971), so these are tried, with every
    threshold between the integers.

    Parameters
    ----------
    n_inputs : int
        1 to 4.

    Raises
    ------
    ValueError
        If `n_inputs` is not an integer from 1 to 4.
    """
    if _count(n_inputs, "n_inputs", 1) > 4:
        raise ValueError(f"n_inputs: got {n_inputs}; the enumeration serves 1 to 4")
    x = torch.cartesian_prod(*[torch.arange(2)] * n_inputs).reshape(-1, n_inputs)
    weights = torch.cartesian_prod(*[torch.arange(-3, 4)] * n_inputs).reshape(-1, n_inputs)
    levels = torch.arange(-3 * n_inputs - 1, 3 * n_inputs + 1) + 0.5
    fires = (weights @ x.T)[:, None, :] > levels[None, :, None]
    codes = (fires.long() << torch.arange(len(x))).sum(-1)
    return len(codes.unique())


def spin_form(couplings: torch.Tensor, thresholds: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Couplings and field of the spin network that does what units x = (1+s)/2 do: J/2 and h_i = ½ Σ_j J_ij − U_i*.

    Parameters
    ----------
    couplings : torch.Tensor, shape (N, N)
        Of the network x_i = Θ(Σ_j J_ij x_j − U_i*); need not be symmetric.
    thresholds : torch.Tensor, shape (N,)
        U_i*.

    Returns
    -------
    (torch.Tensor, torch.Tensor)
        Couplings (N, N) and field (N,), float64.

    Raises
    ------
    ValueError
        If a shape does not fit or a value is not finite.
    """
    couplings = _couplings(couplings, symmetric=False)
    return couplings / 2, couplings.sum(1) / 2 - _field(thresholds, len(couplings))


def up_probability(z: torch.Tensor) -> torch.Tensor:
    """P(s = +1) = g(z) = ½(1 + tanh z) in the reduced field z = φ/T; also the distribution function of the noise."""
    return torch.special.expit(2 * z)


def rademacher(p: float, shape, *, generator: torch.Generator | None = None) -> torch.Tensor:
    """Signs with mean p and variance 1 − p²: Rad(p), P(+1) = (1+p)/2.

    Parameters
    ----------
    p : float in [−1, 1]
        The mean, not a probability.
    shape : tuple of int
    generator : torch.Generator, optional
        None draws fresh entropy.

    Returns
    -------
    torch.Tensor
        int8, of that shape.

    Raises
    ------
    ValueError
        If p is not in [−1, 1].
    """
    if abs(_number(p, "p", -1.0)) > 1:
        raise ValueError(f"p: got {p!r}; expected a mean in [-1, 1]")
    own = generator or torch.Generator().manual_seed(philox.key(None))
    u = torch.rand(shape, generator=own, dtype=torch.float64)
    return torch.where(u < (1 + p) / 2, 1, -1).to(torch.int8)


def random_patterns(
    n_patterns: int, n_spins: int, *, generator: torch.Generator | None = None
) -> torch.Tensor:
    """K patterns of N fair signs, shape (K, N), int8. Raises ValueError if K or N is not a positive integer."""
    shape = _count(n_patterns, "n_patterns", 1), _count(n_spins, "n_spins", 1)
    return rademacher(0.0, shape, generator=generator)


# ------------------------------------------------------------------------------------------------- couplings, energy


def hebb_couplings(patterns: torch.Tensor, diagonal: bool = False) -> torch.Tensor:
    """Hebb's rule, J_ij = (1/N) Σ_μ ξ_i^μ ξ_j^μ, with J_ii = 0 unless `diagonal` keeps K/N.

    Parameters
    ----------
    patterns : torch.Tensor, shape (K, N)
        Of ±1.
    diagonal : bool
        Keep J_ii = K/N, which makes J positive semidefinite and freezes wrong bits.

    Returns
    -------
    torch.Tensor
        (N, N), float64; N J holds integers.

    Raises
    ------
    ValueError
        If `patterns` is not a (K, N) tensor of ±1.

    Notes
    -----
    Hebb (1949); Hopfield (1982), PNAS 79, 2554, eq. 2.
    """
    xi = _patterns(patterns)
    couplings = xi.T @ xi / xi.shape[1]
    return couplings if diagonal else couplings.fill_diagonal_(0)


def projector_couplings(patterns: torch.Tensor, diagonal: bool = False) -> torch.Tensor:
    """The projector rule, J = ξᵀ C⁻¹ ξ / N with C = ξξᵀ/N: every pattern is an eigenvector, J ξ^μ = ξ^μ.

    Parameters
    ----------
    patterns : torch.Tensor, shape (K, N)
        Of ±1, linearly independent (so K ≤ N).
    diagonal : bool
        Keep J_ii. Without it Jξ^μ = (1 − J_ii) ξ^μ site by site: the patterns stay fixed, and get basins.

    Returns
    -------
    torch.Tensor
        (N, N), float64, symmetric.

    Raises
    ------
    ValueError
        If `patterns` is not a (K, N) tensor of ±1, or its rows are linearly dependent.

    Notes
    -----
    Kohonen (1984); Personnaz, Guyon, Dreyfus (1985), J. Physique Lett. 46, 359; Kanter, Sompolinsky (1987), PRA 35, 380.
    """
    xi = _patterns(patterns)
    k, n = xi.shape
    # Singular values decide: an orthonormal basis of the row space is also the most accurate way to its projector.
    _, size, basis = torch.linalg.svd(xi, full_matrices=False)
    if k > n or bool(size[-1] < 1e-9 * size[0]):
        raise ValueError(
            f"patterns: the {k} rows are linearly dependent; the projector rule needs independent patterns"
        )
    couplings = basis.T @ basis
    couplings = (couplings + couplings.T) / 2
    return couplings if diagonal else couplings.fill_diagonal_(0)


def energy(spins: torch.Tensor, couplings: torch.Tensor, field: torch.Tensor | None = None) -> torch.Tensor:
    """H(s) = −½ sᵀJs − hᵀs of each state.

    Parameters
    ----------
    spins : torch.Tensor, shape (..., N)
        Of ±1.
    couplings : torch.Tensor, shape (N, N)
        Symmetric; a diagonal adds the constant −½ tr J.
    field : torch.Tensor, shape (N,), optional

    Returns
    -------
    torch.Tensor
        (...), float64.

    Raises
    ------
    ValueError
        If a shape does not fit, spins are not ±1, or the couplings are not symmetric or not finite.
    """
    couplings = _couplings(couplings)
    s, h = _spins(spins, "spins").double(), _field(field, len(couplings))
    _same_size(s, len(couplings))
    return -0.5 * ((s @ couplings) * s).sum(-1) - s @ h


def parallel_energy(
    now: torch.Tensor, before: torch.Tensor, couplings: torch.Tensor, field: torch.Tensor | None = None
) -> torch.Tensor:
    """What parallel updates at T = 0 never raise: E_t = −s(t)ᵀJ s(t−1) − h·(s(t) + s(t−1)).

    Parameters
    ----------
    now, before : torch.Tensor, shape (..., N)
        Two states in a row.
    couplings : torch.Tensor, shape (N, N)
        Symmetric, any diagonal.
    field : torch.Tensor, shape (N,), optional

    Raises
    ------
    ValueError
        As `energy`.

    Notes
    -----
    Goles, Fogelman-Soulié, Pellegrin (1985), Discrete Appl. Math. 12, 261.
    """
    couplings = _couplings(couplings)
    s, r, h = _spins(now, "now").double(), _spins(before, "before").double(), _field(field, len(couplings))
    _same_size(s, len(couplings))
    _same_size(r, len(couplings))
    return -((s @ couplings) * r).sum(-1) - (s + r) @ h


def overlaps(spins: torch.Tensor, patterns: torch.Tensor) -> torch.Tensor:
    """Mattis overlaps m_μ = (1/N) Σ_i ξ_i^μ s_i with each pattern, shape (..., K), float64.

    Raises
    ------
    ValueError
        If spins (..., N) or patterns (K, N) are not ±1 or differ in N.
    """
    xi, s = _patterns(patterns), _spins(spins, "spins").double()
    _same_size(s, xi.shape[1])
    return s @ xi.T / xi.shape[1]


def local_fields(
    spins: torch.Tensor, couplings: torch.Tensor, field: torch.Tensor | None = None
) -> torch.Tensor:
    """φ_i(s) = Σ_j J_ij s_j + h_i, shape (..., N), float64; the self term is included, J need not be symmetric.

    Raises
    ------
    ValueError
        If a shape does not fit, spins are not ±1, or a coupling is not finite.
    """
    couplings = _couplings(couplings, symmetric=False)
    s = _spins(spins, "spins").double()
    _same_size(s, len(couplings))
    return s @ couplings.T + _field(field, len(couplings))


def is_fixed_point(
    spins: torch.Tensor, couplings: torch.Tensor, field: torch.Tensor | None = None
) -> torch.Tensor:
    """Whether s_i φ_i(s) > 0 for every i: a strict fixed point of either update order at T = 0.

    A field below the rounding error of its sum, N 2⁻⁵² (Σ_j |J_ij| + |h_i|), counts as a tie and so as not strict.

    Returns
    -------
    torch.Tensor
        bool, shape (...).

    Raises
    ------
    ValueError
        As `local_fields`.
    """
    phi = local_fields(spins, couplings, field)
    reach = couplings.double().abs().sum(1) + _field(field, len(couplings)).abs()
    return (spins * phi > len(couplings) * 2.0**-52 * reach).all(-1)


# ------------------------------------------------------------------------------------------------- dynamics


def evolve(
    spins: torch.Tensor,
    couplings: torch.Tensor,
    *,
    sweeps: int,
    temperature: float = 0.0,
    field: torch.Tensor | None = None,
    order: str = "sequential",
    generator: torch.Generator | None = None,
) -> torch.Tensor:
    """Glauber dynamics: s_i' = ±1 with probability g(±φ_i(s)/T); at T = 0, s_i' = sgn φ_i and a tie keeps the old spin.

    Couplings that are integers, or integers over N as Hebb's, are run with exact integer fields, so that ties are ties.

    Parameters
    ----------
    spins : torch.Tensor, shape (..., N)
        Of ±1, any dtype; every state in front is a replica with its own noise. Left as it is.
    couplings : torch.Tensor, shape (N, N)
        Need not be symmetric; a diagonal enters the local field.
    sweeps : int
        Sequential: a sweep is N updates at sites drawn uniformly with replacement. Parallel: one update of all sites.
    temperature : float, ≥ 0
    field : torch.Tensor, shape (N,), optional
    order : "sequential" or "parallel"
    generator : torch.Generator, optional
        Keys the noise and the order of sites; None draws fresh entropy.

    Returns
    -------
    torch.Tensor
        The states after the sweeps; shape and dtype of `spins`.

    Raises
    ------
    ValueError
        If a shape or value does not fit, sweeps or temperature is negative, or `order` is unknown.

    Notes
    -----
    Glauber (1963), J. Math. Phys. 4, 294; Little (1974), Math. Biosci. 19, 101, for the parallel order.
    """
    couplings = _couplings(couplings, symmetric=False)
    n = len(couplings)
    h = _field(field, n)
    _same_size(_spins(spins, "spins"), n)
    _count(sweeps, "sweeps", 0)
    _number(temperature, "temperature", 0)
    rows = spins.reshape(-1, n).to("cpu", torch.int8)
    seed = philox.key(generator)
    couplings, h, scale = _exact_form(couplings.cpu(), h.cpu())
    if order == "sequential":
        rows = glauber.sequential(rows, couplings, h, temperature, updates=sweeps * n, seed=seed, scale=scale)
    elif order == "parallel":
        rows = glauber.parallel(rows, couplings, h, temperature, steps=sweeps, seed=seed, scale=scale)
    else:
        raise ValueError(f"order: got {order!r}; expected 'sequential' or 'parallel'")
    return rows.reshape(spins.shape).to(spins.device, spins.dtype)


def _exact_form(couplings: torch.Tensor, field: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, float]:
    """Couplings and field as integers with their common divisor, where they are such; else as they are."""
    n = len(couplings)
    both = torch.cat([couplings, field[None]])
    # What rounding leaves of an integer, and no more: small couplings are not zero.
    near = n * 2.0**-52 * both.abs().max()
    for scale in (1, n):
        whole = (both * scale).round()
        if bool(((both * scale - whole).abs() <= scale * near).all()) and bool(whole.abs().max() < 2**20):
            return whole[:-1].to(torch.int32), whole[-1].to(torch.int32), float(scale)
    return couplings, field, 1.0


def recall(
    n_spins: int,
    n_patterns: int,
    start_overlap: float,
    *,
    samples: int,
    sweeps: int = 20,
    temperature: float = 0.0,
    generator: torch.Generator | None = None,
) -> torch.Tensor:
    """Final overlaps of `samples` networks with Hebb couplings, each with patterns of its own, started at ξ¹ ⊙ Rad(p).

    Parameters
    ----------
    n_spins, n_patterns : int
    start_overlap : float
        p, the mean overlap of the cue.
    samples, sweeps : int
        Sequential sweeps. At T = 0, 20 decide whether m_1 > 0.9 but for a few samples in a hundred at the edge of the basin; the
        overlaps of those that fail there drift for up to 100 (a test compares with 200).
    temperature : float, ≥ 0
    generator : torch.Generator, optional

    Returns
    -------
    torch.Tensor
        (samples,), m_1 after the sweeps.

    Raises
    ------
    ValueError
        If a size or a value does not fit.
    """
    seed = philox.key(generator)
    own = torch.Generator().manual_seed(seed)
    final = []
    for sample in range(_count(samples, "samples", 1)):
        xi = random_patterns(n_patterns, n_spins, generator=own)
        cue = xi[:1] * rademacher(start_overlap, (1, n_spins), generator=own)
        updates = _count(sweeps, "sweeps", 0) * n_spins
        s = glauber.sequential_patterns(cue, xi, temperature, updates=updates, seed=(seed + sample) % 2**63)
        final.append(overlaps(s[0], xi[:1])[0])
    return torch.stack(final)


# ------------------------------------------------------------------------------------------------- exact: small networks


def all_states(n_spins: int) -> torch.Tensor:
    """The 2^N states, shape (2^N, N), float64; bit i of the row number is 1 where s_i = +1. N ≤ 20, else ValueError."""
    if _count(n_spins, "n_spins", 1) > MOST_ENUMERATED:
        raise ValueError(f"n_spins: got {n_spins}; enumeration serves up to {MOST_ENUMERATED}")
    bits = torch.arange(2**n_spins)[:, None] >> torch.arange(n_spins) & 1
    return 2.0 * bits.double() - 1


def gibbs_law(couplings: torch.Tensor, field: torch.Tensor | None, beta: float) -> torch.Tensor:
    """Gibbs probabilities exp(−βH(s))/Z of the rows of `all_states`, shape (2^N,). Raises ValueError as `gibbs`."""
    beta = _number(beta, "beta", 0)
    states = all_states(len(_couplings(couplings)))
    return torch.softmax(-beta * energy(states, couplings, field), 0)


def gibbs(couplings: torch.Tensor, field: torch.Tensor | None, beta: float) -> Gibbs:
    """Exact averages over exp(−βH(s))/Z, H = −½ sᵀJs − hᵀs, by enumeration of the 2^N states.

    Parameters
    ----------
    couplings : torch.Tensor, shape (N, N)
        Symmetric; N ≤ 20.
    field : torch.Tensor, shape (N,), or None
    beta : float, ≥ 0
        Inverse temperature.

    Returns
    -------
    Gibbs
        ``log_z``, ``mean`` (N,) and ``correlations`` (N, N).

    Raises
    ------
    ValueError
        If N > 20, the couplings are not symmetric, a shape does not fit or beta is negative.
    """
    beta = _number(beta, "beta", 0)
    states = all_states(len(_couplings(couplings)))
    log_weight = -beta * energy(states, couplings, field)
    log_z = torch.logsumexp(log_weight, 0)
    p = torch.exp(log_weight - log_z)
    return Gibbs(float(log_z), p @ states, (states * p[:, None]).T @ states)


def peretto_law(couplings: torch.Tensor, field: torch.Tensor | None, beta: float) -> torch.Tensor:
    """Stationary law of parallel updates: P(s) ∝ e^{βh·s} Π_i 2 cosh βφ_i(s), on the rows of `all_states`.

    Raises
    ------
    ValueError
        If N > 20, the couplings are not symmetric (any diagonal), a shape does not fit or beta is negative.

    Notes
    -----
    Peretto (1984), Biol. Cybern. 50, 51; Little (1974), Math. Biosci. 19, 101.
    """
    beta, couplings = _number(beta, "beta", 0), _couplings(couplings)
    states = all_states(len(couplings))
    x = beta * local_fields(states, couplings, field)
    return torch.softmax(beta * states @ _field(field, len(couplings)) + torch.logaddexp(x, -x).sum(1), 0)


def transition_matrix(
    couplings: torch.Tensor, field: torch.Tensor | None, temperature: float, order: str = "sequential"
) -> torch.Tensor:
    """W[s, s'] = P(s → s') between the rows of `all_states`, for one update at a random site, or of all sites at once.

    Parameters
    ----------
    couplings : torch.Tensor, shape (N, N)
        N ≤ 12; need not be symmetric, the self term is in the field.
    field : torch.Tensor, shape (N,), or None
    temperature : float, > 0
    order : "sequential" or "parallel"

    Returns
    -------
    torch.Tensor
        (2^N, 2^N), float64, rows sum to 1.

    Raises
    ------
    ValueError
        If N > 12, temperature ≤ 0, `order` is unknown or a shape does not fit.
    """
    couplings = _couplings(couplings, symmetric=False)
    n = len(couplings)
    if n > 12:
        raise ValueError(f"couplings: got N = {n}; a transition matrix over all states serves N <= 12")
    _number(temperature, "temperature", 0, strict=True)
    states = all_states(n)
    z = local_fields(states, couplings, field) / temperature
    up, down = up_probability(z), up_probability(-z)
    if order == "parallel":
        # Where g rounds to 1 its complement still has a logarithm; beyond e^{−1500} a probability is 0.
        log_up, log_down = (torch.nn.functional.logsigmoid(x.clamp(-1500, 1500)) for x in (2 * z, -2 * z))
        plus = (states + 1) / 2
        return torch.exp(log_up @ plus.T + log_down @ (1 - plus).T)
    if order != "sequential":
        raise ValueError(f"order: got {order!r}; expected 'sequential' or 'parallel'")
    w = torch.zeros(2**n, 2**n, dtype=torch.float64)
    row = torch.arange(2**n)
    for i in range(n):
        w[row, row | 1 << i] += up[:, i] / n
        w[row, row & ~(1 << i)] += down[:, i] / n
    return w


def parallel_census(couplings: torch.Tensor, field: torch.Tensor | None = None) -> Census:
    """Follow every state under parallel updates at T = 0 and count the states on fixed points, 2-cycles and longer cycles.

    Parameters
    ----------
    couplings : torch.Tensor, shape (N, N)
        N ≤ 16; need not be symmetric.
    field : torch.Tensor, shape (N,), optional

    Raises
    ------
    ValueError
        If N > 16 or a shape does not fit.
    """
    couplings = _couplings(couplings, symmetric=False)
    n = len(couplings)
    if n > 16:
        raise ValueError(f"couplings: got N = {n}; a census of all states serves N <= 16")
    states = all_states(n)
    after = evolve(states, couplings, sweeps=1, field=field, order="parallel", generator=torch.Generator())
    successor = ((after > 0).long() << torch.arange(n)).sum(1)
    # 2^N steps put every state on its limit cycle: square the map N times.
    limit = successor
    for _ in range(n):
        limit = limit[limit]
    on_cycle = limit.unique()
    fixed = successor[on_cycle] == on_cycle
    back = successor[successor[on_cycle]] == on_cycle
    return Census(int(fixed.sum()), int((back & ~fixed).sum()), int((~back).sum()))


# ------------------------------------------------------------------------------------------------- exact: one pattern


def curie_weiss_magnetization(beta: float) -> float:
    """The largest solution m of m = tanh βm; 0 for β ≤ 1. Raises ValueError if beta is negative."""
    if _number(beta, "beta", 0) <= 1:
        return 0.0
    return optimize.brentq(lambda m: m - math.tanh(beta * m), math.sqrt(1 - 1 / beta) / 2, 1.0, xtol=1e-15)


def mattis_exact(n_spins: int, beta: float) -> tuple[float, float]:
    """One stored pattern, exactly: (f, √⟨m²⟩) from Z = Σ_k C(N, k) exp(β(N m² − 1)/2), m = 2k/N − 1 (J_ii = 0).

    Parameters
    ----------
    n_spins : int, ≥ 1
    beta : float, > 0

    Returns
    -------
    (float, float)
        Free energy per spin −(1/βN) log Z, and the root mean square overlap.

    Raises
    ------
    ValueError
        If `n_spins` < 1 or beta ≤ 0.

    Notes
    -----
    Mattis (1976), Phys. Lett. A 56, 421. The saddle point is ½m² − T log 2cosh βm at m = tanh βm.
    """
    n, beta = _count(n_spins, "n_spins", 1), _number(beta, "beta", 0, strict=True)
    k = np.arange(n + 1)
    m = 2 * k / n - 1
    log_weight = (
        special.gammaln(n + 1) - special.gammaln(k + 1) - special.gammaln(n - k + 1) + beta * n * m**2 / 2
    )
    log_z = special.logsumexp(log_weight)
    return float(1 / (2 * n) - log_z / (beta * n)), math.sqrt(np.exp(log_weight - log_z) @ m**2)


# ------------------------------------------------------------------------------------------------- exact: crosstalk


def bit_error(n_spins: int, n_patterns: int, diagonal: bool = False) -> tuple[float, float]:
    """P(ξ_i φ_i < 0) and P(ξ_i φ_i = 0) at a stored random pattern, exactly.

    N ξ_i φ_i = (N−1) + S, with S a sum of (K−1)(N−1) independent fair signs; a kept diagonal adds K.

    Parameters
    ----------
    n_spins : int, ≥ 2
    n_patterns : int, ≥ 1
    diagonal : bool
        Keep J_ii = K/N.

    Returns
    -------
    (p_error, p_tie)

    Raises
    ------
    ValueError
        If `n_spins` < 2 or `n_patterns` < 1.
    """
    n, k = _count(n_spins, "n_spins", 2), _count(n_patterns, "n_patterns", 1)
    signs, signal = (k - 1) * (n - 1), n - 1 + (k if diagonal else 0)
    below, tie = _sum_of_signs(signs, np.array([-signal]))
    return float(below[0]), float(tie[0])


def _sum_of_signs(signs: int, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """P(S < x) and P(S = x) for S a sum of fair signs: S = 2B − n with B binomial."""
    b = (x + signs) / 2
    if signs == 0:
        return (x > 0).astype(float), (x == 0).astype(float)
    law = stats.binom(signs, 0.5)
    return law.cdf(np.ceil(b) - 1), np.where(b == np.floor(b), law.pmf(b), 0.0)


def bit_error_limit(alpha: float, diagonal: bool = False) -> float:
    """The error of one bit for N → ∞ at load α: ½ erfc(1/√(2α)), or ½ erfc((1+α)/√(2α)) with the diagonal kept.

    Raises
    ------
    ValueError
        If alpha is negative.
    """
    if _number(alpha, "alpha", 0) == 0:
        return 0.0
    return 0.5 * float(special.erfc((1 + alpha * diagonal) / math.sqrt(2 * alpha)))


def load_at_bit_error(p_error: float) -> float:
    """The load α at which ½ erfc(1/√(2α)) = p_error. Raises ValueError unless 0 < p_error < ½."""
    if not 0 < _number(p_error, "p_error", 0) < 0.5:
        raise ValueError(f"p_error: got {p_error!r}; expected a number between 0 and 1/2")
    return 1 / (2 * float(special.erfcinv(2 * p_error)) ** 2)


def first_step_overlap(n_spins: int, n_patterns: int, p: float) -> float:
    """The mean overlap after one parallel step from s = ξ ⊙ Rad(p), exactly; ties count 0.

    N ξ_i φ_i = A + S, with A a sum of N−1 signs Rad(p) and S of (K−1)(N−1) fair ones, all independent (J_ii = 0):
    m(1) = P(A + S > 0) − P(A + S < 0).

    Parameters
    ----------
    n_spins : int, ≥ 2
    n_patterns : int, ≥ 1
    p : float in [−1, 1]

    Raises
    ------
    ValueError
        If a size is too small or p is not in [−1, 1].
    """
    n, k = _count(n_spins, "n_spins", 2), _count(n_patterns, "n_patterns", 1)
    if abs(_number(p, "p", -1)) > 1:
        raise ValueError(f"p: got {p!r}; expected an overlap in [-1, 1]")
    plus = np.arange(n)
    weight = stats.binom(n - 1, (1 + p) / 2).pmf(plus)
    a = 2 * plus - (n - 1)
    below, tie = _sum_of_signs((k - 1) * (n - 1), -a)
    return float(weight @ (1 - tie - 2 * below))


def first_step_limit(alpha: float, p: float) -> float:
    """The same for N → ∞ at load α: m(1) = erf(p/√(2α)). Raises ValueError if alpha ≤ 0 or p is not in [−1, 1]."""
    if abs(_number(p, "p", -1)) > 1:
        raise ValueError(f"p: got {p!r}; expected an overlap in [-1, 1]")
    return math.erf(p / math.sqrt(2 * _number(alpha, "alpha", 0, strict=True)))


# ------------------------------------------------------------------------------------------------- mixtures


def mixture_state(patterns: torch.Tensor) -> torch.Tensor:
    """sgn(Σ_μ ξ^μ) of an odd number of patterns, shape (N,), the dtype of the patterns.

    Raises
    ------
    ValueError
        If the number of patterns is even: then the sum vanishes on a finite fraction of the sites.
    """
    if len(_patterns(patterns)) % 2 == 0:
        raise ValueError(
            f"patterns: got {len(patterns)} of them; a mixture needs an odd number, or its sign is undefined"
        )
    return torch.sign(patterns.sum(0)).to(patterns.dtype)


def mixture_overlap(n_mixed: int, temperature: float = 0.0) -> float:
    """The overlap m of the symmetric mixture of L patterns with each of them, at low load.

    m = E[ξ¹ tanh(m Σ_μ ξ^μ / T)]; at T = 0, m = 2^{−(L−1)} C(L−1, (L−1)/2).

    Parameters
    ----------
    n_mixed : int, odd
        L.
    temperature : float, ≥ 0

    Returns
    -------
    float
        The solution reached from m at T = 0; 0 for T ≥ 1.

    Raises
    ------
    ValueError
        If `n_mixed` is even or temperature is negative.

    Notes
    -----
    Amit, Gutfreund, Sompolinsky (1985), PRA 32, 1007.
    """
    z, weight = _sum_of_mixed(n_mixed)
    start = float(weight @ np.abs(z)) / n_mixed
    if _number(temperature, "temperature", 0) == 0:
        return start
    if temperature >= 1:
        return 0.0
    # E[ξ¹ tanh] = E[z tanh]/L by symmetry. The map is concave in m > 0, so its non-zero root is bracketed.
    return optimize.brentq(
        lambda m: weight @ (z * np.tanh(m * z / temperature)) / n_mixed - m, 1e-9, 1.0, xtol=1e-15
    )


def _sum_of_mixed(n_mixed: int) -> tuple[np.ndarray, np.ndarray]:
    """Values and probabilities of z = Σ_μ ξ^μ over L fair signs."""
    if _count(n_mixed, "n_mixed", 1) % 2 == 0:
        raise ValueError(f"n_mixed: got {n_mixed}; expected an odd number of patterns")
    k = np.arange(n_mixed + 1)
    return 2.0 * k - n_mixed, stats.binom(n_mixed, 0.5).pmf(k)


def mixture_temperature(n_mixed: int) -> float:
    """The temperature at which the symmetric mixture of L ≥ 3 patterns loses its local stability, at low load.

    The Hessian of the free energy has the eigenvalue 1 − β(1 − q + Q) on differences of overlaps, with q = E tanh²(βmz) and
    Q = E ξ¹ξ² tanh²(βmz), z = Σ_μ ξ^μ; it is positive below 0.45979, 0.38474, 0.34393 for L = 3, 5, 7.

    Raises
    ------
    ValueError
        If `n_mixed` is even or less than 3.

    Notes
    -----
    Amit, Gutfreund, Sompolinsky (1985), PRA 32, 1007.
    """
    _count(n_mixed, "n_mixed", 3)
    z, weight = _sum_of_mixed(n_mixed)
    pair = (z**2 - n_mixed) / (n_mixed * (n_mixed - 1))  # E[ξ¹ξ² | z]

    def eigenvalue(temperature: float) -> float:
        tanh2 = np.tanh(mixture_overlap(n_mixed, temperature) * z / temperature) ** 2
        return temperature - (1 - weight @ tanh2 + weight @ (pair * tanh2))

    return optimize.brentq(eigenvalue, 0.1 * mixture_overlap(n_mixed), 0.9, xtol=1e-14)
