"""Glauber dynamics of ±1 spins: one site at a time or all at once, many replicas (the chapters of `memories`).

A spin meets its local field φ_i(s) = (Σ_j J_ij s_j + b_i) / scale, the self term J_ii s_i included, and becomes +1 with
probability g(φ_i/T) = 1 / (1 + exp(−2 φ_i/T)) (Glauber 1963; T = 0: sgn φ_i, and a tie keeps the old spin). The coin is an
integer: with a 32-bit word w of `philox`, s_i' = +1 iff w < θ(φ_i), θ = ⌊2³² g⌋, and θ = 2³² where g > 1 − 2⁻³³. Step t of
replica r uses the counters that `philox` describes, so a trajectory depends on (seed, replica, step) and on nothing else.

Integer couplings give integer fields h = φ · scale, exact in any order of summation, and θ(h) is read from one table made here
in float64: every backend then takes every decision alike, bit for bit, ties included. That is the way to run Hebb couplings:
J = ξᵀξ as integers and scale = N, or `sequential_patterns` and `parallel_patterns`, which never form J. Float couplings
are summed in float64; two backends then differ where rounding moves θ across w, with a probability of the order of the rounding
error of g (10⁻¹⁵ an update), and at T = 0 a field within the rounding error of its sum, |φ_i| ≤ N 2⁻⁵² (Σ_j |J_ij| + |b_i|) / scale,
is a tie.
"""

from __future__ import annotations

import math
from functools import partial
from operator import index
from typing import NamedTuple

import numpy as np
import torch
from numpy import int32, int64, uint32, uint64

from .dispatch import kernel, numba_function, over_rows
from .philox import LOW, checked_seed, philox, rounds

__all__ = ["parallel", "parallel_patterns", "sequential", "sequential_patterns", "thresholds"]

ONE, KEEP = 2**32, -1  # the certain threshold, and the one that says: keep the old spin
LARGEST_TABLE = 2**25


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
        int64 in [0, 2³²], the shape of `phi`; 2³² where g > 1 − 2⁻³³. At T = 0: 2³², 0, or −1 (keep the old spin) where φ = 0.

    Raises
    ------
    ValueError
        If `phi` is not float64 or holds NaN, or `temperature` is negative or NaN.
    """
    temperature = _temperature(temperature)
    if phi.dtype != torch.float64 or bool(phi.isnan().any()):
        raise ValueError(f"phi: got {phi.dtype} (NaN: {bool(phi.isnan().any())}); expected float64 without NaN")
    return _thresholds(phi, temperature)


def _thresholds(phi: torch.Tensor, temperature: float) -> torch.Tensor:
    if temperature == 0:
        return torch.where(phi > 0, ONE, torch.where(phi < 0, 0, KEEP))
    g = 1 / (1 + torch.exp(-2 * phi / temperature))
    return torch.where(g > 1 - 2.0**-33, ONE, torch.floor(ONE * g).long())


class Law(NamedTuple):
    """Fields to thresholds: a table over the integers −half … half, or (`table` is None) the formula in float64."""

    temperature: float
    scale: float
    table: torch.Tensor | None  # (2 half + 1,) int64
    half: int
    tie: torch.Tensor | None  # (N,) float64: fields not above it are zero

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
            f"couplings: integer fields up to {half} at temperature * scale = {temperature * scale:g} need a table of more"
            f" than {LARGEST_TABLE} thresholds; expected smaller integers, or float64 couplings"
        )
    h = torch.arange(-half, half + 1, dtype=torch.float64)
    return Law(temperature, scale, _thresholds(h / scale, temperature).to(device), half, None)


def _dense_law(couplings, field, temperature: float, scale: float) -> Law:
    reach = couplings.abs().sum(1) + field.abs()
    if couplings.dtype == torch.int64:
        return _table_law(int(reach.max()), temperature, scale, couplings.device)
    # The formula decides T > 0 without a notion of ties; rounding can invent or destroy a tie only at T = 0.
    return Law(temperature, scale, None, 0, len(couplings) * 2.0**-52 * reach)


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
    return words.permute(1, 2, 0).reshape(replicas, -1)[:, :n]


# ----------------------------------------------------------------------------------------------------------- definitions


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
    """Single-site Glauber updates: P(s_i' = ±1) = g(±φ_i/T) at a random site i, φ_i = (Σ_j J_ij s_j + b_i) / scale.

    Each replica picks its own sites, uniformly and with replacement (N updates are one sweep). With J = Jᵀ and J_ii = 0 the
    stationary law is Gibbs, exp(−H/T) with H = −(½ sᵀJs + b·s) / scale; a diagonal breaks that (claim HEB-08).

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
        The step that the first update counts as: a run in two parts, the second with ``first_step=updates`` of the first, is
        the run in one part.

    Returns
    -------
    torch.Tensor
        (R, N) int8, the spins after the updates, on the device of `spins`. Not differentiable.

    Raises
    ------
    ValueError
        If a shape, dtype, device or value does not fit, or integer fields overflow 2⁵³ or the table of thresholds.

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
    """Single-site Glauber updates with Hebb couplings J = ξᵀξ/N that are never formed: N φ_i = Σ_μ ξ_i^μ M_μ − K s_i + b_i.

    M_μ = Σ_j ξ_j^μ s_j are the overlaps, integers that follow each flip in K operations; the term −K s_i removes the
    diagonal. Equal, spin by spin, to `sequential` with the integer couplings ξᵀξ (diagonal zero, or kept) and ``scale=N``.

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
    overlaps = s.double().matmul(xi.double()).long()  # exact: below 2⁵³; integer products have no CUDA version
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

    With J = Jᵀ (any diagonal) the stationary law is P(s) ∝ exp(β b·s) Π_i 2 cosh(β φ_i(s)) at scale 1, which is not Gibbs.

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
        If a shape, dtype, device or value does not fit, or integer fields overflow 2⁵³ or the table of thresholds.

    Notes
    -----
    Little (1974), Math. Biosci. 19, 101; Peretto (1984), Biol. Cybern. 50, 51; claim HEB-09.
    """
    law, (replicas, n), s = _dense_law(couplings, field, temperature, scale), spins.shape, spins
    transposed = couplings.double().T
    for t in range(first_step, first_step + steps):
        h = s.double().matmul(transposed).to(couplings.dtype) + field
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
    """All spins at once with Hebb couplings J = ξᵀξ/N that are never formed: N φ_i = Σ_μ ξ_i^μ M_μ − K s_i + b_i.

    Two products of size R × K × N a step, in place of one of size R × N × N. Equal, spin by spin, to `parallel` with the
    integer couplings ξᵀξ (diagonal zero, or kept) and ``scale=N``.

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


# ---------------------------------------------------------------------------------------------------------------- inputs


def _temperature(temperature: float) -> float:
    try:
        value = float(temperature)
    except (TypeError, ValueError):
        value = math.nan
    if not value >= 0:
        raise ValueError(f"temperature: got {temperature!r}; expected a number >= 0")
    return value


def _count(name: str, number: int) -> int:
    try:
        value = -1 if isinstance(number, bool) else index(number)
    except TypeError:
        value = -1
    if not 0 <= value < 2**62:
        raise ValueError(f"{name}: got {number!r}; expected an integer in [0, 2**62)")
    return value


def _signs(name: str, value: torch.Tensor, shape: str) -> torch.Tensor:
    """A two-dimensional int8 tensor of ±1, or ValueError."""
    if not isinstance(value, torch.Tensor) or value.dtype != torch.int8:
        raise ValueError(f"{name}: got {_kind(value)}; expected {shape} torch.int8 of +-1")
    if value.ndim != 2 or value.shape[1] == 0:
        raise ValueError(f"{name}: got shape {tuple(value.shape)}; expected {shape} with N >= 1")
    if not bool((value.abs() == 1).all()):
        raise ValueError(f"{name}: got values other than +-1; expected +-1")
    return value.contiguous()


def _kind(value) -> str:
    return str(value.dtype) if isinstance(value, torch.Tensor) else type(value).__name__


def _fits(name: str, value: torch.Tensor, shape: tuple, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """The tensor if its shape, device, and finite values fit; integers are widened to int64 where `dtype` is int64."""
    if not isinstance(value, torch.Tensor) or tuple(value.shape) != shape:
        came = tuple(value.shape) if isinstance(value, torch.Tensor) else type(value).__name__
        raise ValueError(f"{name}: got {came}; expected a tensor of shape {shape}")
    if value.device != device:
        raise ValueError(f"{name}: got device {value.device}; expected {device}, where the spins are")
    if value.dtype not in ((torch.int32, torch.int64) if dtype == torch.int64 else (dtype,)):
        expected = "int32 or int64" if dtype == torch.int64 else "float64"
        raise ValueError(f"{name}: got {value.dtype}; expected {expected}")
    if dtype == torch.float64 and not bool(value.isfinite().all()):
        raise ValueError(f"{name}: got NaN or infinite values; expected finite numbers")
    return value.to(dtype).contiguous()


def _dense_inputs(spins, couplings, field, temperature, seed, scale, first_step, **count) -> dict:
    spins = _signs("spins", spins, "(R, N)")
    n = spins.shape[1]
    if _kind(couplings) not in ("torch.int32", "torch.int64", "torch.float64"):
        raise ValueError(f"couplings: got {_kind(couplings)}; expected a tensor of int32, int64 or float64")
    dtype = torch.float64 if couplings.dtype == torch.float64 else torch.int64
    couplings = _fits("couplings", couplings, (n, n), dtype, spins.device)
    if field is None:
        field = torch.zeros(n, dtype=dtype, device=spins.device)
    field = _fits("field", field, (n,), dtype, spins.device)
    reach = float((couplings.double().abs().sum(1) + field.double().abs()).max())
    if not reach < (2**53 if dtype == torch.int64 else math.inf):
        raise ValueError(f"couplings: got fields up to {reach:g}; expected below 2**53 for integers, finite for floats")
    if not (isinstance(scale, (int, float)) and 0 < scale < math.inf):
        raise ValueError(f"scale: got {scale!r}; expected a finite number > 0")
    known = {"spins": spins, "couplings": couplings, "field": field, "scale": float(scale)}
    return known | _run_inputs(temperature, seed, first_step, count)


def _pattern_inputs(spins, patterns, temperature, seed, field, diagonal, first_step, **count) -> dict:
    spins, patterns = _signs("spins", spins, "(R, N)"), _signs("patterns", patterns, "(K, N)")
    n = spins.shape[1]
    if patterns.shape[1] != n or len(patterns) == 0:
        raise ValueError(f"patterns: got shape {tuple(patterns.shape)}; expected (K, {n}) with K >= 1")
    if patterns.device != spins.device:
        raise ValueError(f"patterns: got device {patterns.device}; expected {spins.device}, where the spins are")
    if field is None:
        field = torch.zeros(n, dtype=torch.int64, device=spins.device)
    field = _fits("field", field, (n,), torch.int64, spins.device)
    if not isinstance(diagonal, bool):
        raise ValueError(f"diagonal: got {diagonal!r}; expected True or False")
    known = {"spins": spins, "patterns": patterns, "field": field, "diagonal": diagonal}
    return known | _run_inputs(temperature, seed, first_step, count)


def _run_inputs(temperature, seed, first_step, count: dict) -> dict:
    counts = {name: _count(name, number) for name, number in (count | {"first_step": first_step}).items()}
    return counts | {"temperature": _temperature(temperature), "seed": checked_seed(seed)}


sequential.inputs(_dense_inputs)
parallel.inputs(_dense_inputs)
sequential_patterns.inputs(_pattern_inputs)
parallel_patterns.inputs(_pattern_inputs)


# -------------------------------------------------------------------------------------------------------------- CPU, numba

TILE = 256  # updates whose words are drawn in one vectorised loop


@numba_function(inline="always")
def _threshold(h, table, half, temperature, scale):
    """θ of one field; a float field on a tie comes in as 0."""
    if len(table) > 0:
        return table[min(max(int64(h), -half), half) + half]
    if temperature == 0.0:
        return int64(ONE) if h > 0 else (int64(0) if h < 0 else int64(KEEP))
    g = 1.0 / (1.0 + math.exp(-2.0 * (h / scale) / temperature))
    return int64(ONE) if g > 1.0 - 2.0**-33 else int64(math.floor(ONE * g))


@numba_function
def _draws(k0, k1, step, replica, n, sites, words):
    """Sites and deciding words of the steps from `step` on."""
    for j in range(len(sites)):
        t = uint64(step + j)
        w = rounds(uint32(k0), uint32(k1), uint32(t), uint32(t >> uint64(32)), uint32(replica), uint32(0))
        sites[j] = (uint64(w[0]) * uint64(n)) >> uint64(32)
        words[j] = w[1]


@numba_function
def _row_sum(row, s, start):
    total = start
    for j in range(len(s)):
        total += row[j] * s[j]
    return total


@numba_function
def _run_rows(spins, couplings, field, tie, law, key, step, updates, start, stop):
    """Few updates: the field of a site is summed when it is met."""
    table, half, temperature, scale = law
    n = spins.shape[1]
    sites, words = np.empty(TILE, np.int64), np.empty(TILE, np.int64)
    for r in range(start, stop):
        s = spins[r]
        for done in range(0, updates, TILE):
            m = min(TILE, updates - done)
            _draws(key[0], key[1], step + done, r, n, sites[:m], words[:m])
            for u in range(m):
                i = sites[u]
                h = _row_sum(couplings[i], s, field[i])
                theta = _threshold(h if abs(h) > tie[i] else h * 0, table, half, temperature, scale)
                if theta >= 0:
                    s[i] = 1 if words[u] < theta else -1


@numba_function
def _run_fields(spins, fields, couplings, columns, field, tie, law, key, step, updates, start, stop):
    """Many updates: all fields are kept, and follow each flip by adding a column of the couplings."""
    table, half, temperature, scale = law
    n = spins.shape[1]
    sites, words = np.empty(TILE, np.int64), np.empty(TILE, np.int64)
    for r in range(start, stop):
        s, f = spins[r], fields[r]
        for done in range(0, updates, TILE):
            m = min(TILE, updates - done)
            _draws(key[0], key[1], step + done, r, n, sites[:m], words[:m])
            for u in range(m):
                i = sites[u]
                # Float fields drift by an ε per flip: near a tie the sum is taken anew.
                if tie[i] > 0 and abs(f[i]) <= tie[i] * (2.0**22 / n):
                    f[i] = _row_sum(couplings[i], s, field[i])
                h = f[i] if abs(f[i]) > tie[i] else f[i] * 0
                theta = _threshold(h, table, half, temperature, scale)
                new = s[i] if theta < 0 else (1 if words[u] < theta else -1)
                if new != s[i]:
                    column, change = columns[i], columns.dtype.type(new - s[i])
                    s[i] = new
                    for j in range(n):
                        f[j] += column[j] * change


@numba_function
def _run_overlaps(spins, overlaps, xi, field, removed, law, key, step, updates, start, stop):
    """Hebb couplings: the K overlaps are kept, and follow each flip by adding a row of xi (N, K)."""
    table, half, temperature, scale = law
    (n, k), whole = xi.shape, overlaps.dtype.type
    sites, words = np.empty(TILE, np.int64), np.empty(TILE, np.int64)
    for r in range(start, stop):
        s, overlap = spins[r], overlaps[r]
        for done in range(0, updates, TILE):
            m = min(TILE, updates - done)
            _draws(key[0], key[1], step + done, r, n, sites[:m], words[:m])
            for u in range(m):
                i = sites[u]
                row, h = xi[i], whole(0)
                for mu in range(k):
                    h = whole(h + whole(row[mu]) * overlap[mu])
                theta = _threshold(int64(h) - removed * s[i] + field[i], table, half, temperature, scale)
                new = s[i] if theta < 0 else (1 if words[u] < theta else -1)
                if new != s[i]:
                    change = whole(new - s[i])
                    s[i] = new
                    for mu in range(k):
                        overlap[mu] += whole(row[mu]) * change


@numba_function
def _decide_all(spins, products, field, tie, removed, law, key, step, start, stop):
    """One parallel step in place, from the products Σ_j J_ij s_j (exact where they stand for integers)."""
    table, half, temperature, scale = law
    n = spins.shape[1]
    for r in range(start, stop):
        s, h = spins[r], products[r]
        for quad in range((n + 3) // 4):
            t = uint64(step)
            w = rounds(
                uint32(key[0]), uint32(key[1]), uint32(t), uint32(t >> uint64(32)), uint32(r), uint32(1 + quad)
            )
            for lane in range(min(4, n - 4 * quad)):
                i = 4 * quad + lane
                x = h[i] + (field[i] - removed * s[i])
                theta = _threshold(x if abs(x) > tie[i] else x * 0, table, half, temperature, scale)
                if theta >= 0:
                    s[i] = 1 if int64(w[lane]) < theta else -1


def _for_numba(law: Law, n: int, seed: int) -> tuple:
    """What the loops need of the law and the seed: the tie widths, the law as a tuple, the two words of the key."""
    tie = np.zeros(n) if law.tie is None else law.tie.numpy()
    table = np.empty(0, np.int64) if law.table is None else law.table.numpy()
    return tie, (table, law.half, law.temperature, law.scale), (seed & LOW, seed >> 32)


def _exact(reach: float) -> torch.dtype:
    """The cheapest float that sums integers exactly as long as no partial sum passes `reach`."""
    return torch.float32 if reach < 2**24 else torch.float64


@sequential.backend("numba", needs=("numba",))
def _sequential_numba(spins, couplings, field, temperature, updates, seed, scale, first_step):
    (replicas, n), out = spins.shape, spins.clone()
    law, whole = _dense_law(couplings, field, temperature, scale), couplings.dtype == torch.int64
    tie, law, key = _for_numba(law, n, seed)
    reach = float(couplings.abs().sum(1).max() + field.abs().max())
    if whole and reach < 2**31:  # half the memory to walk through
        couplings, field = couplings.int(), field.int()
    args = field.numpy(), tie, law, key, first_step, updates
    if updates < n:
        over_rows(partial(_run_rows, out.numpy(), couplings.numpy(), *args), replicas, replicas * updates * n / 4)
    else:
        kind = _exact(reach) if whole else torch.float64
        fields = (spins.to(kind) @ couplings.to(kind).T).to(couplings.dtype) + field
        matrices = fields.numpy(), couplings.numpy(), couplings.T.contiguous().numpy()
        over_rows(partial(_run_fields, out.numpy(), *matrices, *args), replicas, replicas * updates * 10)
    return out


@sequential_patterns.backend("numba", needs=("numba",))
def _sequential_patterns_numba(spins, patterns, temperature, updates, seed, field, diagonal, first_step):
    (replicas, n), k, out = spins.shape, len(patterns), spins.clone()
    _, law, key = _for_numba(_pattern_law(patterns, field, temperature), n, seed)
    kind = _exact(n)
    overlaps = (spins.to(kind) @ patterns.to(kind).T).to(torch.int32 if k * n < 2**31 else torch.int64)
    args = overlaps.numpy(), patterns.T.contiguous().numpy(), field.numpy(), 0 if diagonal else k
    run = partial(_run_overlaps, out.numpy(), *args, law, key, first_step, updates)
    over_rows(run, replicas, replicas * updates * (10 + k / 8))
    return out


@parallel.backend("numba", needs=("numba",))
def _parallel_numba(spins, couplings, field, temperature, steps, seed, scale, first_step):
    (replicas, n), out = spins.shape, spins.clone()
    law, whole = _dense_law(couplings, field, temperature, scale), couplings.dtype == torch.int64
    tie, law, key = _for_numba(law, n, seed)
    kind = _exact(float(couplings.abs().sum(1).max())) if whole else torch.float64
    transposed = couplings.to(kind).T
    for step in range(first_step, first_step + steps):
        args = (out.to(kind) @ transposed).numpy(), field.numpy(), tie, 0, law, key, step
        over_rows(partial(_decide_all, out.numpy(), *args), replicas, replicas * n * 4)
    return out


@parallel_patterns.backend("numba", needs=("numba",))
def _parallel_patterns_numba(spins, patterns, temperature, steps, seed, field, diagonal, first_step):
    (replicas, n), k, out = spins.shape, len(patterns), spins.clone()
    tie, law, key = _for_numba(_pattern_law(patterns, field, temperature), n, seed)
    xi = patterns.to(_exact(n))
    for step in range(first_step, first_step + steps):
        overlaps = out.to(xi.dtype) @ xi.T
        kind = _exact(float(overlaps.abs().sum(1).max()))
        args = (overlaps.to(kind) @ xi.to(kind)).numpy(), field.numpy(), tie, 0 if diagonal else k, law, key, step
        over_rows(partial(_decide_all, out.numpy(), *args), replicas, replicas * n * 4)
    return out
