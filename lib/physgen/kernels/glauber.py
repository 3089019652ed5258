"""Glauber dynamics of ±1 spins: one site at a time or all at once, many replicas (the chapters of
`memories`).

A spin meets its local field φ_i(s) = (Σ_j J_ij s_j + b_i) / scale, the self term J_ii s_i included, and
becomes +1 with probability g(φ_i/T) = 1 / (1 + exp(−2 φ_i/T)) (Glauber 1963; T = 0: sgn φ_i, and a tie keeps
the old spin). The coin is an integer: with a 32-bit word w of `philox`, s_i' = +1 iff w < θ(φ_i), θ = ⌊2³²
g⌋, and θ = 2³² where g > 1 − 2⁻³³. Step t of replica r uses the counters that `philox` describes, so a
trajectory depends on (seed, replica, step) and on nothing else.

Integer couplings give integer fields h = φ · scale, exact in any order of summation, and θ(h) is read from
one table made here in float64: every backend then takes every decision alike, bit for bit, ties included.
That is the way to run Hebb couplings: J = ξᵀξ as integers and scale = N, or `sequential_patterns` and
`parallel_patterns`, which never form J. Float couplings are summed in float64; two backends then differ where
rounding moves θ across w, with a probability of the order of the rounding error of g (10⁻¹⁵ an update), and
at T = 0 a field within the rounding error of its sum, |φ_i| ≤ N 2⁻⁵² (Σ_j |J_ij| + |b_i|) / scale, is a tie.
"""

from __future__ import annotations

import math
from functools import partial
from numbers import Real
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy import int32, int64, uint32, uint64

from .dispatch import kernel, numba_function, over_rows, triton_function
from .philox import LOW, checked_count, checked_seed, philox, rounds

if TYPE_CHECKING:
    import triton.language as tl

__all__ = ["parallel", "parallel_patterns", "sequential", "sequential_patterns", "thresholds"]

ONE, KEEP = 2**32, -1  # the certain threshold, and the one that says: keep the old spin
LARGEST_TABLE = 2**25
INTEGERS = torch.int32, torch.int64


def thresholds(phi: torch.Tensor, temperature: float) -> torch.Tensor:
    """The threshold of the word that decides a spin: θ(φ) = ⌊2³² / (1 + exp(−2φ/T))⌋; s' = +1 iff word < θ.

    Parameters
    ----------
    phi
        Local fields, float64, any shape.
    temperature
        T ≥ 0.

    Returns
    -------
    torch.Tensor
        int64 in [0, 2³²], the shape of `phi`; 2³² where g > 1 − 2⁻³³. At T = 0: 2³², 0, or −1 (keep the old
        spin) where φ = 0.

    Raises
    ------
    ValueError
        If `phi` is not float64 or holds NaN, or `temperature` is negative or NaN.
    """
    temperature = _temperature(temperature)
    if phi.dtype != torch.float64 or bool(phi.isnan().any()):
        raise ValueError(
            f"phi: got {phi.dtype} (NaN: {bool(phi.isnan().any())}); expected float64 without NaN"
        )
    return _thresholds(phi, temperature)


def _thresholds(phi: torch.Tensor, temperature: float) -> torch.Tensor:
    if temperature == 0:
        return torch.where(phi > 0, ONE, torch.where(phi < 0, 0, KEEP))
    g = 1 / (1 + torch.exp(-2 * phi / temperature))
    return torch.where(g > 1 - 2.0**-33, ONE, torch.floor(ONE * g).long())


class Law(NamedTuple):
    """Fields to thresholds: a table over the integers −half … half, or (no table) the formula in float64."""

    temperature: float
    scale: float
    table: torch.Tensor | None  # (2 half + 1,) int64
    half: int
    tie: torch.Tensor | None  # (N,) float64: fields not above it are zero
    reach: float  # no field h is larger

    def __call__(self, h: torch.Tensor, sites) -> torch.Tensor:
        """Thresholds of the fields h = φ · scale at the sites."""
        if self.table is not None:
            return self.table[h.clamp(-self.half, self.half) + self.half]
        return _thresholds(torch.where(h.abs() <= self.tie[sites], 0.0, h / self.scale), self.temperature)


def _table_law(bound: int, temperature: float, scale: float, device: torch.device) -> Law:
    """The law for integer fields |h| ≤ bound; beyond `half` the threshold is certain."""
    certain = 1 if temperature == 0 else temperature * scale * 33 * math.log(2) / 2 + 1
    half = math.ceil(min(bound, certain))
    if 2 * half + 1 > LARGEST_TABLE:
        raise ValueError(
            f"temperature: got {temperature:g}, at which integer fields up to {half} (scale {scale:g}) need a"
            f" table of more than {LARGEST_TABLE} thresholds; expected a lower one, or float64 couplings"
        )
    h = torch.arange(-half, half + 1, dtype=torch.float64)
    return Law(temperature, scale, _thresholds(h / scale, temperature).to(device), half, None, bound)


def _reach(couplings: torch.Tensor, field: torch.Tensor) -> torch.Tensor:
    """(N,) float64: the largest field of each site, Σ_j |J_ij| + |b_i|; in blocks, to make no copy of J."""
    return torch.cat([rows.double().abs().sum(1) for rows in couplings.split(64)]) + field.double().abs()


def _dense_law(couplings, field, temperature: float, scale: float) -> Law:
    reach = _reach(couplings, field)
    if not couplings.is_floating_point():
        return _table_law(int(reach.max()), temperature, scale, couplings.device)
    return Law(temperature, scale, None, 0, len(couplings) * 2.0**-52 * reach, float(reach.max()))


def _pattern_law(patterns, field, temperature: float) -> Law:
    k, n = patterns.shape
    return _table_law(k * n + int(field.abs().max()), temperature, float(n), patterns.device)


def _decide(threshold: torch.Tensor, word: torch.Tensor, old: torch.Tensor) -> torch.Tensor:
    return torch.where(threshold == KEEP, old, torch.where(word < threshold, 1, -1).to(old.dtype))


def _site_words(seed: int, step: int, replicas: int, n: int, device: torch.device) -> torch.Tensor:
    """(R, N): the words of all sites in one step; stream 1 + i//4, word i % 4."""
    rows = torch.arange(replicas, device=device)[:, None]
    streams = torch.arange(1, 1 + (n + 3) // 4, device=device)
    words = philox.definition(seed, step & LOW, step >> 32, rows, streams)
    return words.permute(1, 2, 0).flatten(1)[:, :n]


# ------------------------------------------------------------------------------------------------ definitions


@kernel
def sequential(
    spins: torch.Tensor,
    couplings: torch.Tensor,
    field: torch.Tensor | None,
    temperature: float,
    *,
    updates: int,
    seed: int,
    scale: float = 1.0,
    first_step: int = 0,
) -> torch.Tensor:
    """Single-site Glauber updates: P(s_i' = ±1) = g(±φ_i/T) at a random site i, φ_i = (Σ_j J_ij s_j + b_i) /
    scale.

    Each replica picks its own sites, uniformly and with replacement (N updates are one sweep). With J = Jᵀ
    and J_ii = 0 the stationary law is Gibbs, exp(−H/T) with H = −(½ sᵀJs + b·s) / scale; a diagonal breaks
    that (claim HEB-08).

    Parameters
    ----------
    spins
        (R, N) int8 of ±1, one replica a row; left as it is.
    couplings
        (N, N), int32 or int64 (exact fields, the same decisions on every backend) or float64.
    field
        (N,) b, an integer tensor if `couplings` is one, else float64; or None. It is divided by `scale` too.
    temperature
        T ≥ 0; at 0 a spin follows the sign of its field and a tie keeps it.
    updates
        Single-site updates per replica.
    seed
        The Philox key, in [0, 2⁶⁴): see `physgen.kernels.philox.key`.
    scale
        What the sum is divided by: N for Hebb couplings kept as integers.
    first_step
        The step that the first update counts as: a run in two parts, the second with ``first_step=updates``
        of the first, is the run in one part.

    Returns
    -------
    torch.Tensor
        (R, N) int8, the spins after the updates, on the device of `spins`. Not differentiable.

    Raises
    ------
    ValueError
        If a shape, dtype, device or value does not fit, or integer fields overflow 2⁵³ or the table of
        thresholds.

    Notes
    -----
    Glauber (1963), J. Math. Phys. 4, 294; claim HEB-08.
    """
    law, (replicas, n) = _dense_law(couplings, field, temperature, scale), spins.shape
    rows, s = torch.arange(replicas, device=spins.device), spins.to(couplings.dtype)
    for t in range(first_step, first_step + updates):
        words = philox.definition(seed, t & LOW, t >> 32, rows, 0)
        i = (words[0] * n) >> 32
        h = (couplings[i] * s).sum(1) + field[i]
        s[rows, i] = _decide(law(h, i), words[1], s[rows, i])
    return s.to(torch.int8)


@kernel
def sequential_patterns(
    spins: torch.Tensor,
    patterns: torch.Tensor,
    temperature: float,
    *,
    updates: int,
    seed: int,
    field: torch.Tensor | None = None,
    diagonal: bool = False,
    first_step: int = 0,
) -> torch.Tensor:
    """Single-site Glauber updates with Hebb couplings J = ξᵀξ/N that are never formed: N φ_i = Σ_μ ξ_i^μ M_μ
    − K s_i + b_i.

    M_μ = Σ_j ξ_j^μ s_j are the overlaps, integers that follow each flip in K operations; the term −K s_i
    removes the diagonal. Equal, spin by spin, to `sequential` with the integer couplings ξᵀξ (diagonal zero,
    or kept) and ``scale=N``.

    Parameters
    ----------
    spins
        (R, N) int8 of ±1; left as it is.
    patterns
        ξ, (K, N) int8 of ±1, K ≥ 1.
    temperature
        T ≥ 0; at 0 a tie keeps the spin.
    updates, seed, first_step
        As in `sequential`.
    field
        (N,) b, integers: N times the field per spin; or None.
    diagonal
        Keep the self couplings J_ii = K/N.

    Returns
    -------
    torch.Tensor
        (R, N) int8, the spins after the updates. Not differentiable.

    Raises
    ------
    ValueError
        If a shape, dtype, device or value does not fit.

    Notes
    -----
    Hopfield (1982), PNAS 79, 2554; claims HEB-08 and HEB-17.
    """
    law, (replicas, n) = _pattern_law(patterns, field, temperature), spins.shape
    rows, s, xi = torch.arange(replicas, device=spins.device), spins.long(), patterns.long().T.contiguous()
    overlaps = (
        s.double().matmul(xi.double()).long()
    )  # exact: below 2⁵³; integer products have no CUDA version
    for t in range(first_step, first_step + updates):
        words = philox.definition(seed, t & LOW, t >> 32, rows, 0)
        i = (words[0] * n) >> 32
        old = s[rows, i]
        h = (xi[i] * overlaps).sum(1) - (0 if diagonal else len(patterns)) * old + field[i]
        s[rows, i] = _decide(law(h, i), words[1], old)
        overlaps += xi[i] * (s[rows, i] - old)[:, None]
    return s.to(torch.int8)


@kernel
def parallel(
    spins: torch.Tensor,
    couplings: torch.Tensor,
    field: torch.Tensor | None,
    temperature: float,
    *,
    steps: int,
    seed: int,
    scale: float = 1.0,
    first_step: int = 0,
) -> torch.Tensor:
    """All spins at once: W(s' | s) = Π_i g(s_i' φ_i(s)/T), φ_i = (Σ_j J_ij s_j + b_i) / scale, `steps` times.

    With J = Jᵀ (any diagonal) the stationary law is P(s) ∝ exp(β b·s) Π_i 2 cosh(β φ_i(s)) at scale 1, which
    is not Gibbs.

    Parameters
    ----------
    spins, couplings, field, temperature, seed, scale, first_step
        As in `sequential`.
    steps
        Updates of the whole configuration.

    Returns
    -------
    torch.Tensor
        (R, N) int8, the spins after the steps. Not differentiable.

    Raises
    ------
    ValueError
        If a shape, dtype, device or value does not fit, or integer fields overflow 2⁵³ or the table of
        thresholds.

    Notes
    -----
    Little (1974), Math. Biosci. 19, 101; Peretto (1984), Biol. Cybern. 50, 51; claim HEB-09.
    """
    law, (replicas, n), s = _dense_law(couplings, field, temperature, scale), spins.shape, spins
    transposed = couplings.double().T
    for t in range(first_step, first_step + steps):
        h = s.double().matmul(transposed).to(field.dtype) + field
        s = _decide(law(h, slice(None)), _site_words(seed, t, replicas, n, s.device), s)
    return s.clone()


@kernel
def parallel_patterns(
    spins: torch.Tensor,
    patterns: torch.Tensor,
    temperature: float,
    *,
    steps: int,
    seed: int,
    field: torch.Tensor | None = None,
    diagonal: bool = False,
    first_step: int = 0,
) -> torch.Tensor:
    """All spins at once with Hebb couplings J = ξᵀξ/N that are never formed: N φ_i = Σ_μ ξ_i^μ M_μ − K s_i +
    b_i.

    Two products of size R × K × N a step, in place of one of size R × N × N. Equal, spin by spin, to
    `parallel` with the integer couplings ξᵀξ (diagonal zero, or kept) and ``scale=N``.

    Parameters
    ----------
    spins, patterns, temperature, seed, field, diagonal, first_step
        As in `sequential_patterns`.
    steps
        Updates of the whole configuration.

    Returns
    -------
    torch.Tensor
        (R, N) int8, the spins after the steps. Not differentiable.

    Raises
    ------
    ValueError
        If a shape, dtype, device or value does not fit.

    Notes
    -----
    Little (1974), Math. Biosci. 19, 101; claims HEB-09 and HEB-32.
    """
    law, (replicas, n), s = _pattern_law(patterns, field, temperature), spins.shape, spins
    xi, removed = patterns.double(), 0 if diagonal else len(patterns)
    for t in range(first_step, first_step + steps):
        h = s.double().matmul(xi.T).matmul(xi).long() - removed * s.long() + field
        s = _decide(law(h, slice(None)), _site_words(seed, t, replicas, n, s.device), s)
    return s.clone()


# ----------------------------------------------------------------------------------------------------- inputs


def _temperature(temperature: float) -> float:
    number = isinstance(temperature, Real) or (
        isinstance(temperature, torch.Tensor) and temperature.ndim == 0
    )
    if not number or not float(temperature) >= 0:
        raise ValueError(f"temperature: got {temperature!r}; expected a number >= 0")
    return float(temperature)


def _signs(name: str, value: torch.Tensor, shape: str, device: torch.device | None = None) -> torch.Tensor:
    """A two-dimensional int8 tensor of ±1, or ValueError."""
    if not isinstance(value, torch.Tensor) or value.dtype != torch.int8:
        raise ValueError(f"{name}: got {_kind(value)}; expected {shape} torch.int8 of +-1")
    if value.ndim != 2 or value.shape[1] == 0:
        raise ValueError(f"{name}: got shape {tuple(value.shape)}; expected {shape} with N >= 1")
    if device is not None and value.device != device:
        raise ValueError(f"{name}: got device {value.device}; expected {device}, where the spins are")
    size = value.abs()
    if value.numel() and not int(size.min()) == int(size.max()) == 1:
        raise ValueError(f"{name}: got values other than +-1; expected +-1")
    return value.contiguous()


def _kind(value) -> str:
    return str(value.dtype) if isinstance(value, torch.Tensor) else type(value).__name__


def _placed(name: str, value, shape: tuple, dtypes: tuple, device: torch.device) -> torch.Tensor:
    """The tensor, contiguous, if its shape, dtype and device fit."""
    if not isinstance(value, torch.Tensor) or tuple(value.shape) != shape:
        came = tuple(value.shape) if isinstance(value, torch.Tensor) else type(value).__name__
        raise ValueError(f"{name}: got {came}; expected a tensor of shape {shape}")
    if value.dtype not in dtypes:
        raise ValueError(f"{name}: got {value.dtype}; expected {' or '.join(map(str, dtypes))}")
    if value.device != device:
        raise ValueError(f"{name}: got device {value.device}; expected {device}, where the spins are")
    return value.detach().contiguous()


def _field(field, n: int, whole: bool, device: torch.device) -> torch.Tensor:
    """(N,) int64 or float64: the field, zeros for None."""
    if field is None:
        return torch.zeros(n, dtype=torch.int64 if whole else torch.float64, device=device)
    field = _placed("field", field, (n,), INTEGERS if whole else (torch.float64,), device)
    if not bool(field.isfinite().all()):
        raise ValueError("field: got NaN or infinite values; expected finite numbers")
    if whole and bool((field.double().abs() >= 2**53).any()):
        raise ValueError("field: got integers of 2**53 or more in size; expected smaller ones")
    return field.long() if whole else field


def _dense_inputs(spins, couplings, field, temperature, seed, scale, first_step, **count) -> dict:
    spins = _signs("spins", spins, "(R, N)")
    n = spins.shape[1]
    couplings = _placed("couplings", couplings, (n, n), (*INTEGERS, torch.float64), spins.device)
    whole = not couplings.is_floating_point()
    field = _field(field, n, whole, spins.device)
    reach = float(_reach(couplings, field).max())
    if not reach < (2**53 if whole else math.inf):
        raise ValueError(
            f"couplings: got fields up to {reach:g}; expected below 2**53 for integers, finite for floats"
        )
    if not (isinstance(scale, Real) and 0 < scale < math.inf):
        raise ValueError(f"scale: got {scale!r}; expected a finite number > 0")
    known = {"spins": spins, "couplings": couplings, "field": field, "scale": float(scale)}
    return known | _run_inputs(temperature, seed, first_step, count)


def _pattern_inputs(spins, patterns, temperature, seed, field, diagonal, first_step, **count) -> dict:
    spins = _signs("spins", spins, "(R, N)")
    n, patterns = spins.shape[1], _signs("patterns", patterns, "(K, N)", spins.device)
    if len(patterns) == 0 or patterns.shape[1] != n:
        raise ValueError(f"patterns: got shape {tuple(patterns.shape)}; expected (K, {n}) with K >= 1")
    field = _field(field, n, True, spins.device)
    if not isinstance(diagonal, bool):
        raise ValueError(f"diagonal: got {diagonal!r}; expected True or False")
    known = {"spins": spins, "patterns": patterns, "field": field, "diagonal": diagonal}
    return known | _run_inputs(temperature, seed, first_step, count)


def _run_inputs(temperature, seed, first_step, count: dict) -> dict:
    counts = {
        name: checked_count(name, number) for name, number in (count | {"first_step": first_step}).items()
    }
    return counts | {"temperature": _temperature(temperature), "seed": checked_seed(seed)}


sequential.inputs(_dense_inputs)
parallel.inputs(_dense_inputs)
sequential_patterns.inputs(_pattern_inputs)
parallel_patterns.inputs(_pattern_inputs)


# ------------------------------------------------------------------------------------------------- CPU, numba

TILE = 256  # updates whose words are drawn in one loop, which vectorises


@numba_function
def _threshold(h, i, floats, table, half, temperature, scale, tie):
    """θ of the field h at site i; integers come with floats=None and compile without the formula."""
    if floats is None:
        # The clamp min(max(h, −half), half), written so that no compiler makes a branch of it: at T = 0 its
        # side is random.
        x = int64(h)
        return table[((abs(x + half) - abs(x - half)) >> 1) + half]
    phi = h / scale if abs(h) > tie[i] else 0.0
    if temperature == 0.0:
        return int64(ONE) if phi > 0.0 else (int64(0) if phi < 0.0 else int64(KEEP))
    g = 1.0 / (1.0 + math.exp(-2.0 * phi / temperature))
    return int64(ONE) if g > 1.0 - 2.0**-33 else int64(math.floor(ONE * g))


@numba_function
def _draws(key, step, replica, n, sites, words):
    """Sites and deciding words of the steps from `step` on."""
    k0, k1 = uint32(key[0]), uint32(key[1])
    for u in range(len(sites)):
        t = uint64(step + u)
        w = rounds(k0, k1, uint32(t), uint32(t >> uint64(32)), uint32(replica), uint32(0))
        sites[u] = (uint64(w[0]) * uint64(n)) >> uint64(32)
        words[u] = w[1]


@numba_function(fastmath={"reassoc"})
def _row_sum(row, s, start):
    kind = row.dtype.type
    for j in range(len(s)):
        start = kind(start + kind(row[j] * kind(s[j])))
    return start


@numba_function
def _settled(f, i, row, s, start, floats, tie):
    """The field kept for site i; a float that has drifted, an ε per flip, close to a tie is summed anew."""
    if floats is None:
        return f[i]
    if abs(f[i]) <= tie[i] * (2.0**22 / len(s)):
        f[i] = _row_sum(row, s, start)
    return f[i]


@numba_function
def _run_rows(spins, couplings, field, law, key, step, updates, start, stop):
    """Few updates: the field of a site is summed when the site is met."""
    floats, table, half, temperature, scale, tie = law
    n = spins.shape[1]
    sites, words = np.empty(TILE, np.uint64), np.empty(TILE, np.int64)
    for r in range(start, stop):
        s = spins[r]
        for done in range(0, updates, TILE):
            m = min(TILE, updates - done)
            _draws(key, step + done, r, n, sites[:m], words[:m])
            for u in range(m):
                i = sites[u]
                h = _row_sum(couplings[i], s, field[i])
                theta = _threshold(h, i, floats, table, half, temperature, scale, tie)
                if theta >= 0:
                    s[i] = 1 if words[u] < theta else -1


@numba_function
def _run_fields(spins, fields, couplings, columns, field, law, key, step, updates, start, stop):
    """Many updates: all fields are kept, and follow each flip by adding a column of the couplings."""
    floats, table, half, temperature, scale, tie = law
    n = spins.shape[1]
    sites, words = np.empty(TILE, np.uint64), np.empty(TILE, np.int64)
    for r in range(start, stop):
        s, f = spins[r], fields[r]
        for done in range(0, updates, TILE):
            m = min(TILE, updates - done)
            _draws(key, step + done, r, n, sites[:m], words[:m])
            for u in range(m):
                i = sites[u]
                h = _settled(f, i, couplings[i], s, field[i], floats, tie)
                theta = _threshold(h, i, floats, table, half, temperature, scale, tie)
                new = s[i] if theta < 0 else (1 if words[u] < theta else -1)
                if new != s[i]:
                    column, change = columns[i], columns.dtype.type(new - s[i])
                    s[i] = new
                    for j in range(n):
                        f[j] += column[j] * change


@numba_function
def _run_overlaps(spins, overlaps, xi, field, removed, law, key, step, updates, start, stop):
    """Hebb couplings: the overlaps are kept, and follow each flip by adding a row of xi (N, K)."""
    floats, table, half, temperature, scale, tie = law
    n, k = xi.shape
    whole = overlaps.dtype.type
    sites, words = np.empty(TILE, np.uint64), np.empty(TILE, np.int64)
    for r in range(start, stop):
        s, overlap = spins[r], overlaps[r]
        for done in range(0, updates, TILE):
            m = min(TILE, updates - done)
            _draws(key, step + done, r, n, sites[:m], words[:m])
            for u in range(m):
                i = sites[u]
                row, h = xi[i], int32(0)
                for mu in range(k):
                    # int16 times int16 added to int32 is one vector instruction; int32(…) stops numba's
                    # widening.
                    h = int32(h + int32(row[mu]) * int32(overlap[mu]))
                x = int64(h) - removed * s[i] + field[i]
                theta = _threshold(x, i, floats, table, half, temperature, scale, tie)
                new = s[i] if theta < 0 else (1 if words[u] < theta else -1)
                if new != s[i]:
                    change = whole(new - s[i])
                    s[i] = new
                    for mu in range(k):
                        overlap[mu] += whole(row[mu]) * change


@numba_function
def _count_overlaps(spins, patterns, n, overlaps, start, stop):
    """Σ_i ξ_i s_i = N − 2 · (number of unequal bits), 64 sites a word."""
    for r in range(start, stop):
        for mu in range(len(patterns)):
            unequal = uint64(0)
            for j in range(spins.shape[1]):
                # The compiler knows these lines as one instruction, the population count.
                x = spins[r, j] ^ patterns[mu, j]
                x = x - ((x >> uint64(1)) & uint64(0x5555555555555555))
                x = (x & uint64(0x3333333333333333)) + ((x >> uint64(2)) & uint64(0x3333333333333333))
                x = (x + (x >> uint64(4))) & uint64(0x0F0F0F0F0F0F0F0F)
                unequal += (x * uint64(0x0101010101010101)) >> uint64(56)
            overlaps[r, mu] = n - 2 * int64(unequal)


@numba_function
def _site_draws(key, step, replica, first, words):
    """The words of the sites from `first`, a multiple of 4, on."""
    k0, k1, t = uint32(key[0]), uint32(key[1]), uint64(step)
    for quad in range(len(words) // 4):
        stream = uint32(1 + first // 4 + quad)
        w = rounds(k0, k1, uint32(t), uint32(t >> uint64(32)), uint32(replica), stream)
        words[4 * quad], words[4 * quad + 1], words[4 * quad + 2], words[4 * quad + 3] = w


@numba_function
def _decide_all(spins, products, field, removed, law, key, step, start, stop):
    """One parallel step in place, from the sums Σ_j J_ij s_j (floats, exact where they mean integers)."""
    floats, table, half, temperature, scale, tie = law
    n, words = spins.shape[1], np.empty(TILE, np.uint32)
    for r in range(start, stop):
        for first in range(0, n, TILE):
            _site_draws(key, step, r, first, words)
            s, h = spins[r, first : first + TILE], products[r, first : first + TILE]
            for j in range(len(s)):
                i = first + j
                x = field.dtype.type(h[j]) - removed * s[j] + field[i]
                theta = _threshold(x, i, floats, table, half, temperature, scale, tie)
                s[j] = s[j] if theta < 0 else (1 if int64(words[j]) < theta else -1)


def _for_numba(law: Law, seed: int) -> tuple[tuple, tuple]:
    """The law as the loops take it, and the two words of the key."""
    if law.table is not None:
        flat = None, law.table.numpy(), law.half, law.temperature, law.scale, np.empty(0)
    else:
        flat = 1, np.empty(0, np.int64), 0, law.temperature, law.scale, law.tie.numpy()
    return flat, (seed & LOW, seed >> 32)


def _exact(reach: float) -> torch.dtype:
    """The cheapest float that sums integers exactly as long as no partial sum passes `reach`."""
    return torch.float32 if reach < 2**24 else torch.float64


def _narrow(values: torch.Tensor, reach: float) -> torch.Tensor:
    """Integers as int32 if their sums fit (half the memory), else int64; floats as they are."""
    if values.is_floating_point():
        return values
    return values.int() if reach < 2**31 else values.long()


def _bits(signs: torch.Tensor) -> np.ndarray:
    """(…, ⌈N/64⌉) uint64: the signs as bits."""
    packed = np.packbits(signs.numpy() > 0, axis=1, bitorder="little")
    return np.pad(packed, ((0, 0), (0, -packed.shape[1] % 8))).view(np.uint64)


def _overlaps(spins: torch.Tensor, bits: np.ndarray) -> torch.Tensor:
    """(R, K) int32: the overlaps Σ_i ξ_i^μ s_i with the patterns whose bits are given."""
    overlaps = np.empty((len(spins), len(bits)), np.int32)
    run = partial(_count_overlaps, _bits(spins), bits, spins.shape[1], overlaps)
    over_rows(run, len(spins), overlaps.size * bits.shape[1] / 4)
    return torch.from_numpy(overlaps)


@sequential.backend("numba", needs=("numba",))
def _sequential_numba(spins, couplings, field, temperature, updates, seed, scale, first_step):
    (replicas, n), out, exact = spins.shape, spins.clone(), _dense_law(couplings, field, temperature, scale)
    law, key = _for_numba(exact, seed)
    couplings, field = _narrow(couplings, exact.reach), _narrow(field, exact.reach)
    if updates < n:
        run = partial(_run_rows, out.numpy(), couplings.numpy(), field.numpy(), law, key, first_step, updates)
        over_rows(run, replicas, replicas * updates * n / 4)
    else:
        kind = torch.float64 if couplings.is_floating_point() else _exact(exact.reach)
        fields = (spins.to(kind) @ couplings.to(kind).T).to(couplings.dtype) + field
        matrices = [m.numpy() for m in (fields, couplings, couplings.T.contiguous(), field)]
        run = partial(_run_fields, out.numpy(), *matrices, law, key, first_step, updates)
        over_rows(run, replicas, replicas * updates * 10)
    return out


@sequential_patterns.backend("numba", needs=("numba",), when=lambda patterns, **_: _fits_int32(patterns))
def _sequential_patterns_numba(spins, patterns, temperature, updates, seed, field, diagonal, first_step):
    (replicas, n), k, out = spins.shape, len(patterns), spins.clone()
    law, key = _for_numba(_pattern_law(patterns, field, temperature), seed)
    kind = torch.int16 if n < 2**15 else torch.int32
    # Patterns of zeros fill the last vector: the loop then has no scalar rest.
    filled = [
        F.pad(m, (0, -k % 64)).to(kind).numpy() for m in (_overlaps(spins, _bits(patterns)), patterns.T)
    ]
    args = *filled, field.numpy(), 0 if diagonal else k
    run = partial(_run_overlaps, out.numpy(), *args, law, key, first_step, updates)
    over_rows(run, replicas, replicas * updates * (10 + k / 8))
    return out


def _fits_int32(patterns: torch.Tensor) -> bool | str:
    return patterns.numel() < 2**31 or f"K * N = {patterns.numel()} is not below 2**31"


@parallel.backend("numba", needs=("numba",))
def _parallel_numba(spins, couplings, field, temperature, steps, seed, scale, first_step):
    (replicas, n), out, exact = spins.shape, spins.clone(), _dense_law(couplings, field, temperature, scale)
    law, key = _for_numba(exact, seed)
    kind = torch.float64 if couplings.is_floating_point() else _exact(exact.reach)
    transposed = couplings.to(kind).T
    for step in range(first_step, first_step + steps):
        args = (out.to(kind) @ transposed).numpy(), field.numpy(), 0, law, key, step
        over_rows(partial(_decide_all, out.numpy(), *args), replicas, replicas * n * 4)
    return out


@parallel_patterns.backend("numba", needs=("numba",))
def _parallel_patterns_numba(spins, patterns, temperature, steps, seed, field, diagonal, first_step):
    (replicas, n), k, out = spins.shape, len(patterns), spins.clone()
    law, key = _for_numba(_pattern_law(patterns, field, temperature), seed)
    bits, xi = _bits(patterns), patterns.float()
    for step in range(first_step, first_step + steps):
        overlaps = _overlaps(out, bits)
        kind = _exact(max(overlaps.abs().sum(1).tolist(), default=0))
        args = (overlaps.to(kind) @ xi.to(kind)).numpy(), field.numpy(), 0 if diagonal else k, law, key, step
        over_rows(partial(_decide_all, out.numpy(), *args), replicas, replicas * n * 4)
    return out


# ------------------------------------------------------------------------------------------------ GPU, Triton

LARGEST_ROW = 2**14  # spins that one program keeps in its registers


@triton_function
def triton_theta(h, table, half, floats, tie, EXACT: tl.constexpr):
    """θ of the fields h: from the table, or (float64) from the formula; floats = (temperature, scale)."""
    if EXACT:
        return tl.load(table + tl.minimum(tl.maximum(h.to(tl.int64), -half), half) + half)
    else:
        temperature, scale = tl.load(floats), tl.load(floats + 1)
        phi = tl.where(tl.abs(h) > tie, h / scale, 0.0)
        g = 1.0 / (1.0 + tl.exp(-2.0 * phi / tl.where(temperature == 0.0, 1.0, temperature)))
        warm = tl.where(g > 1.0 - 1.0 / 8589934592, 4294967296, tl.floor(4294967296.0 * g).to(tl.int64))
        cold = tl.where(phi > 0.0, 4294967296, tl.where(phi < 0.0, 0, -1).to(tl.int64))
        return tl.where(temperature == 0.0, cold, warm)


@triton_function
def triton_site(seed, step, replica, n):
    """The site of a single update, and the word that decides it."""
    t = tl.to_tensor(step).to(tl.int64)
    c0, c1 = t.to(tl.uint32), (t >> 32).to(tl.uint32)
    w0, w1, _w2, _w3 = tl.philox(seed, c0, c1, replica.to(tl.uint32), c0 * 0)
    return ((w0.to(tl.uint64) * n) >> 32).to(tl.int64), w1.to(tl.int64)


@triton_function
def triton_decide(theta, word, old):
    return tl.where(theta < 0, old, tl.where(word < theta, 1, -1).to(old.dtype))


@triton_function
def triton_sequential(
    spins, couplings, field, table, half, floats, tie, seed, first_step, updates, n,
    EXACT: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """One program a replica: its spins stay in registers, a row of couplings is read each update."""
    r = tl.program_id(0).to(tl.int64)
    j = tl.arange(0, BLOCK)
    s = tl.load(spins + r * n + j, mask=j < n, other=0).to(tl.int32)
    for u in range(updates):
        i, word = triton_site(seed, tl.to_tensor(first_step).to(tl.int64) + u, r, n)
        row = tl.load(couplings + i * n + j, mask=j < n, other=0)
        h = tl.sum(row * s.to(row.dtype)) + tl.load(field + i)
        theta = triton_theta(h, table, half, floats, tl.load(tie + i), EXACT)
        s = tl.where(j == i, triton_decide(theta, word, s), s)
    tl.store(spins + r * n + j, s.to(tl.int8), mask=j < n)


@triton_function
def triton_sequential_patterns(
    spins, overlaps, xi, field, table, half, seed, first_step, updates, n, k, removed,
    BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """One program a replica: spins and overlaps stay in registers, a row of xi (N, K) is read each update."""
    r = tl.program_id(0).to(tl.int64)
    j, mu = tl.arange(0, BLOCK_N), tl.arange(0, BLOCK_K)
    s = tl.load(spins + r * n + j, mask=j < n, other=0).to(tl.int32)
    m = tl.load(overlaps + r * k + mu, mask=mu < k, other=0)
    for u in range(updates):
        i, word = triton_site(seed, tl.to_tensor(first_step).to(tl.int64) + u, r, n)
        row = tl.load(xi + i * k + mu, mask=mu < k, other=0).to(tl.int32)
        old = tl.sum(tl.where(j == i, s, 0))
        h = tl.sum(row * m).to(tl.int64) - removed * old + tl.load(field + i)
        theta = triton_theta(h, table, half, table, 0, True)
        new = triton_decide(theta, word, old)
        s = tl.where(j == i, new, s)
        m += row * (new - old)
    tl.store(spins + r * n + j, s.to(tl.int8), mask=j < n)


@triton_function
def triton_products(
    left, right, out, replicas, n, depth,
    LEFT: tl.constexpr, RIGHT: tl.constexpr,
    BLOCK_R: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """out[r, i] = Σ_d left[r, d] right[i, d], exact: int8 planes of base-128 digits (planes, …, D)."""
    rows = tl.program_id(0).to(tl.int64) * BLOCK_R + tl.arange(0, BLOCK_R)
    cols = tl.program_id(1).to(tl.int64) * BLOCK_N + tl.arange(0, BLOCK_N)
    h = tl.zeros([BLOCK_R, BLOCK_N], tl.int64)
    for p in tl.static_range(LEFT):
        for q in tl.static_range(RIGHT):
            a_rows, b_rows = (p * replicas + rows) * depth, (q * n + cols) * depth
            total = tl.zeros([BLOCK_R, BLOCK_N], tl.int32)
            for start in range(0, depth, BLOCK_D):
                d = start + tl.arange(0, BLOCK_D)
                a_in, b_in = (
                    (rows < replicas)[:, None] & (d < depth)[None, :],
                    (cols < n)[None, :] & (d < depth)[:, None],
                )
                a = tl.load(left + a_rows[:, None] + d[None, :], mask=a_in, other=0)
                b = tl.load(right + b_rows[None, :] + d[:, None], mask=b_in, other=0)
                total = tl.dot(a, b, total, out_dtype=tl.int32)
            h += total.to(tl.int64) << (7 * (p + q))
    tl.store(
        out + rows[:, None] * n + cols[None, :], h, mask=(rows < replicas)[:, None] & (cols < n)[None, :]
    )


@triton_function
def triton_decide_all(
    spins, products, field, table, half, floats, tie, seed, step, n, removed,
    EXACT: tl.constexpr, QUADS: tl.constexpr,
):  # fmt: skip
    """One parallel step in place: 4 QUADS sites of one replica a program."""
    r = tl.program_id(0).to(tl.int64)
    quad = tl.program_id(1) * QUADS + tl.arange(0, QUADS)
    t, zero = tl.to_tensor(step).to(tl.int64), (quad * 0).to(tl.uint32)
    c0, c1, c2 = zero + t.to(tl.uint32), zero + (t >> 32).to(tl.uint32), zero + r.to(tl.uint32)
    w0, w1, w2, w3 = tl.philox(seed, c0, c1, c2, (quad + 1).to(tl.uint32))
    word = tl.join(tl.join(w0, w2), tl.join(w1, w3)).reshape(4 * QUADS).to(tl.int64)
    i = tl.program_id(1) * 4 * QUADS + tl.arange(0, 4 * QUADS)
    s = tl.load(spins + r * n + i, mask=i < n, other=1)
    h = tl.load(products + r * n + i, mask=i < n, other=0) + tl.load(field + i, mask=i < n, other=0)
    h -= (removed * s.to(tl.int32)).to(h.dtype)
    theta = triton_theta(h, table, half, floats, tl.load(tie + i, mask=i < n, other=0.0), EXACT)
    tl.store(spins + r * n + i, triton_decide(theta, word, s), mask=i < n)


def _for_triton(law: Law, n: int, device: torch.device) -> tuple[dict, bool]:
    """The law as the kernels take it, and whether its fields are integers."""
    one = torch.zeros(1, dtype=torch.int64, device=device)
    floats = torch.tensor([law.temperature, law.scale], dtype=torch.float64, device=device)
    tie = torch.zeros(n, dtype=torch.float64, device=device) if law.tie is None else law.tie
    table = one if law.table is None else law.table
    return {"table": table, "half": law.half, "floats": floats, "tie": tie}, law.table is not None


def _block(n: int) -> int:
    return max(16, 1 << (n - 1).bit_length())


def _warps(n: int) -> int:
    return min(16, max(1, _block(n) // 256))


def _fits_gpu(spins: torch.Tensor, *sizes: int) -> bool | str:
    """Whether one program can hold rows of the sizes, or why not."""
    if len(spins) == 0:
        return "there are no replicas"
    return (
        max(sizes, default=0) <= LARGEST_ROW
        or f"N or K = {max(sizes)} exceeds the {LARGEST_ROW} that one program holds"
    )


def _digits(values: torch.Tensor, reach: int) -> torch.Tensor:
    """(planes, …) int8 in −64 … 63 with Σ_p 128^p digit_p = values, for integers up to `reach`."""
    planes, rest = [], values
    while True:
        planes.append(((rest + 64) & 127) - 64)
        rest, reach = (rest - planes[-1]) >> 7, (reach + 64) >> 7
        if reach == 0:
            return torch.stack(planes).to(torch.int8)


def _products(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """(R, N) int64 from planes (L, R, D) and (M, N, D)."""
    (planes, replicas, depth), n = left.shape, right.shape[1]
    out = torch.empty((replicas, n), dtype=torch.int64, device=left.device)
    grid = -(-replicas // 32), -(-n // 64)
    sizes = {"LEFT": planes, "RIGHT": len(right), "BLOCK_R": 32, "BLOCK_N": 64, "BLOCK_D": 64}
    triton_products[grid](left.contiguous(), right.contiguous(), out, replicas, n, depth, **sizes)
    return out


def _decide_on_gpu(
    spins, products, field, arguments: dict, exact: bool, seed: int, step: int, removed: int
) -> None:
    replicas, n = spins.shape
    grid = replicas, -(-n // 512)
    triton_decide_all[grid](
        spins,
        products,
        field,
        seed=seed,
        step=step,
        n=n,
        removed=removed,
        EXACT=exact,
        QUADS=128,
        **arguments,
    )


@sequential.backend("triton", needs=("triton",), when=lambda spins, **_: _fits_gpu(spins, spins.shape[1]))
def _sequential_triton(spins, couplings, field, temperature, updates, seed, scale, first_step):
    (replicas, n), out, law = spins.shape, spins.clone(), _dense_law(couplings, field, temperature, scale)
    couplings = _narrow(couplings, law.reach)
    law, exact = _for_triton(law, n, spins.device)
    triton_sequential[(replicas,)](
        out, couplings, field, seed=seed, first_step=first_step, updates=updates, n=n,
        EXACT=exact, BLOCK=_block(n), num_warps=_warps(n), **law,
    )  # fmt: skip
    return out


@sequential_patterns.backend(
    "triton", needs=("triton",), when=lambda spins, patterns, **_: _fits_gpu(spins, *patterns.shape)
)
def _sequential_patterns_triton(spins, patterns, temperature, updates, seed, field, diagonal, first_step):
    (replicas, n), k, out = spins.shape, len(patterns), spins.clone()
    law = _pattern_law(patterns, field, temperature)
    overlaps = _products(spins[None], patterns[None]).int()
    triton_sequential_patterns[(replicas,)](
        out, overlaps, patterns.T.contiguous(), field, law.table, law.half, seed, first_step, updates, n, k,
        0 if diagonal else k, BLOCK_N=_block(n), BLOCK_K=_block(k), num_warps=_warps(n),
    )  # fmt: skip
    return out


@parallel.backend("triton", needs=("triton",), when=lambda spins, **_: _fits_gpu(spins))
def _parallel_triton(spins, couplings, field, temperature, steps, seed, scale, first_step):
    out, n = spins.clone(), spins.shape[1]
    law, exact = _for_triton(_dense_law(couplings, field, temperature, scale), n, spins.device)
    right = _digits(couplings, int(couplings.abs().max())) if exact else couplings.T
    for step in range(first_step, first_step + steps):
        products = _products(out[None], right) if exact else out.double() @ right
        _decide_on_gpu(out, products, field, law, exact, seed, step, 0)
    return out


@parallel_patterns.backend("triton", needs=("triton",), when=lambda spins, **_: _fits_gpu(spins))
def _parallel_patterns_triton(spins, patterns, temperature, steps, seed, field, diagonal, first_step):
    (k, n), out = patterns.shape, spins.clone()
    law, exact = _for_triton(_pattern_law(patterns, field, temperature), n, spins.device)
    rows, removed = patterns.T.contiguous()[None], 0 if diagonal else k
    for step in range(first_step, first_step + steps):
        products = _products(_digits(_products(out[None], patterns[None]), n), rows)
        _decide_on_gpu(out, products, field, law, exact, seed, step, removed)
    return out
