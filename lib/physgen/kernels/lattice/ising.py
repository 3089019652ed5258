"""The two-dimensional Ising model on a torus, by checkerboard heat bath (the chapters of `scales`): one byte a
spin, or 64 lattices in a word.

E = −Σ_⟨ij⟩ s_i s_j over the bonds of an L₁ × L₂ torus, both sizes even, J = k_B = 1; along an axis of size 2
the two bonds between neighbours both count. A sweep draws all sites with row + column even (colour 0), then
all odd ones (colour 1), each from its law given the sum h of its four neighbours, which have the other colour:

    P(s = +1 | h) = 1 / (1 + exp(−2βh)),   h ∈ {−4, −2, 0, 2, 4}.

Every decision compares a random integer with a threshold made once, in float64, so it is the same on every
backend, bit for bit. Sweep t of a call is step ``first_step + t`` of the counters of `philox`. In a row of
colour c, site k = ⌊column/2⌋, and n = row · L₂/2 + k numbers the N = L₁L₂/2 sites of a colour.

`heat_bath`: s = +1 iff u < ⌊2⁴⁸ P⌋, u a number of 48 bits. Replica = the index of the lattice.

- The upper 16 bits of u are a half of a word of stream 2³⁰c + q. Blocks of H = min(128, 2^⌈log₂(N/8)⌉)
  counters q serve 8H sites: those of block B = ⌊n/8H⌋, with m = n mod 8H, take q = BH + ⌊m/2⌋ mod H, word
  ⌊m/2H⌋, the lower half for even m.
- The lower 32 bits are word n mod 4 of stream 2³⁰(2 + c) + ⌊n/4⌋. They matter with probability 2⁻¹⁶, and only
  then do the fast versions compute them.

`heat_bath_bits`: s = sgn h (+1 for h = 0), and −sgn h iff u < ⌊2³² / (1 + exp(2β|h|))⌋, u a number of 32 bits.
Lattice 64g + b is bit b of group g, and replica = g. Bits p = 2i and 2i + 1 of u, counted from the most
significant, are those of the 64-bit numbers that words (0, 1) and (2, 3), low word first, of stream 2²⁷(2i +
c) + n make. The fast versions draw planes only while a spin is undecided, about half of them after each.
"""

from __future__ import annotations

import math
from functools import partial
from numbers import Real
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy import int8, int64, uint8, uint16, uint32, uint64

from ..dispatch import kernel, numba_function, over_rows, triton_function
from ..philox import LOW, checked_count, checked_seed, philox, rounds

if TYPE_CHECKING:
    import triton.language as tl

__all__ = ["energy", "heat_bath", "heat_bath_bits", "magnetization"]

LARGEST = {"heat_bath": 2**32, "heat_bath_bits": 2**28}  # sites of a lattice that have counters of their own
BLOCK = 128  # counters, at most, that serve a block of sites


def _thresholds(beta: float) -> torch.Tensor:
    """(5,) int64: ⌊2⁴⁸ P(+1 | h)⌋ for h = −4, −2, 0, 2, 4; below 2⁴⁸, so that it has 48 bits."""
    g = [1 / (1 + math.exp(min(-2 * beta * h, 700.0))) for h in (-4, -2, 0, 2, 4)]
    return torch.tensor([min(math.floor(2**48 * p), 2**48 - 1) for p in g])


def _chances(beta: float) -> torch.Tensor:
    """(3,) int64: ⌊2³² P(−sgn h)⌋ for |h| = 0, 2, 4."""
    return torch.tensor([math.floor(2**32 / (1 + math.exp(min(2 * beta * h, 700.0)))) for h in (0, 2, 4)])


def _counters(sites: int) -> int:
    """H: counters of a block, for this many sites of a colour."""
    return min(BLOCK, 1 << (-(-sites // 8) - 1).bit_length())


def _neighbours(s: torch.Tensor) -> torch.Tensor:
    return s.roll(1, -1) + s.roll(-1, -1) + s.roll(1, -2) + s.roll(-1, -2)


def _on_lattice(numbers: torch.Tensor, s: torch.Tensor) -> torch.Tensor:
    """Numbers (B, N) of the sites of a colour, on the sites 2k and 2k + 1 of a row of (B, L₁, L₂)."""
    return numbers.unflatten(-1, (s.shape[-2], -1)).repeat_interleave(2, -1)


def _colours(s: torch.Tensor) -> torch.Tensor:
    rows, columns = (torch.arange(size, device=s.device) for size in s.shape[-2:])
    return (rows[:, None] + columns) % 2


# ------------------------------------------------------------------------------------------------ definitions


@kernel
def heat_bath(spins: torch.Tensor, beta: float, sweeps: int, seed: int, first_step: int = 0) -> torch.Tensor:
    """Checkerboard sweeps, each spin drawn from its law given its neighbours: P(+1 | h) = 1 / (1 + exp(−2βh)).

    A probability is right to 2⁻⁴⁸. The stationary law is Gibbs, exp(−βE).

    Parameters
    ----------
    spins
        (B, L₁, L₂) int8 of ±1: B tori, L₁ and L₂ even; left as it is.
    beta
        The inverse temperature β ≥ 0, finite.
    sweeps
        Sweeps over all sites: first those with row + column even, then the odd ones.
    seed
        The Philox key, in [0, 2⁶⁴): see `physgen.kernels.philox.key`.
    first_step
        The step that the first sweep counts as: k sweeps, then m more with ``first_step=k`` added, are k + m
        sweeps.

    Returns
    -------
    torch.Tensor
        (B, L₁, L₂) int8, the spins after the sweeps, on the device of `spins`. Not differentiable.

    Raises
    ------
    ValueError
        If a shape, dtype or value does not fit.

    Notes
    -----
    Creutz (1980), Phys. Rev. D 21, 2308. The decision of a lattice depends on its index in the batch and on
    no other lattice.
    """
    s, thresholds, colours = spins.clone(), _thresholds(beta).to(spins.device), _colours(spins)
    for t in range(first_step, first_step + sweeps):
        for colour in (0, 1):
            u = _on_lattice(_numbers48(seed, t, colour, s), s)
            drawn = torch.where(u < thresholds[(_neighbours(s).long() + 4) // 2], 1, -1).to(s.dtype)
            s = torch.where(colours == colour, drawn, s)
    return s


def _numbers48(seed: int, t: int, colour: int, s: torch.Tensor) -> torch.Tensor:
    """(B, N): the 48-bit numbers u of the sites of a colour."""
    lattices, sites = torch.arange(len(s), device=s.device)[:, None], s.shape[-2] * s.shape[-1] // 2
    each = _counters(sites)
    blocks = -(-sites // (8 * each))
    q, n = torch.arange(blocks * each, device=s.device), torch.arange(-(-sites // 4), device=s.device)
    words = philox.definition(seed, t & LOW, t >> 32, lattices, 2**30 * colour + q)  # (4, B, blocks · H)
    words = words.unflatten(-1, (blocks, each)).permute(1, 2, 0, 3)
    high = torch.stack([words & 0xFFFF, words >> 16], -1).flatten(1)[:, :sites]
    words = philox.definition(seed, t & LOW, t >> 32, lattices, 2**30 * (2 + colour) + n)
    return high << 32 | words.permute(1, 2, 0).flatten(1)[:, :sites]


@kernel
def heat_bath_bits(
    spins: torch.Tensor, beta: float, sweeps: int, seed: int, first_step: int = 0
) -> torch.Tensor:
    """`heat_bath` for many lattices, 64 of them in a word; another stream of the same Markov chain.

    A probability is right to 2⁻³². Lattices share no random number. Work is done for whole groups of 64
    lattices: a batch of 65 costs as much as one of 128.

    Parameters
    ----------
    spins, beta, sweeps, seed, first_step
        As in `heat_bath`.

    Returns
    -------
    torch.Tensor
        (B, L₁, L₂) int8, the spins after the sweeps, on the device of `spins`. Not differentiable.

    Raises
    ------
    ValueError
        If a shape, dtype or value does not fit.

    Notes
    -----
    Creutz, Jacobs, Rebbi (1979), Phys. Rev. Lett. 42, 1390: many spins in a word.
    """
    s, chances, colours = spins.clone(), _chances(beta).to(spins.device), _colours(spins)
    for t in range(first_step, first_step + sweeps):
        for colour in (0, 1):
            h, u = _neighbours(s), _on_lattice(_numbers32(seed, t, colour, s), s)
            aligned = torch.where(h >= 0, 1, -1).to(s.dtype)
            drawn = torch.where(u < chances[h.long().abs() // 2], -aligned, aligned)
            s = torch.where(colours == colour, drawn, s)
    return s


def _numbers32(seed: int, t: int, colour: int, s: torch.Tensor) -> torch.Tensor:
    """(B, N): the 32-bit numbers u of the sites of a colour, assembled from the bit planes of the groups."""
    lattices = torch.arange(len(s), device=s.device)
    groups, n = lattices[::64, None] // 64, torch.arange(s.shape[-2] * s.shape[-1] // 2, device=s.device)
    u = torch.zeros((len(s), len(n)), dtype=torch.int64, device=s.device)
    for i in range(16):
        words = philox.definition(seed, t & LOW, t >> 32, groups, 2**27 * (2 * i + colour) + n)  # (4, G, N)
        for plane in words.unflatten(0, (2, 2)):  # low words, high words of 64 lattices
            bit = lattices % 64
            u = 2 * u + (plane[bit // 32, lattices // 64] >> (bit % 32)[:, None] & 1)
    return u


def energy(spins: torch.Tensor) -> torch.Tensor:
    """Energy per site of each lattice: −(1/L₁L₂) Σ_⟨ij⟩ s_i s_j.

    Parameters
    ----------
    spins
        (B, L₁, L₂) int8 of ±1, L₁ and L₂ even.

    Returns
    -------
    torch.Tensor
        (B,) float64, in [−2, 2].

    Raises
    ------
    ValueError
        If the shape, dtype or a value does not fit.
    """
    s = _spins(spins)
    bonds = (s * (s.roll(1, -1) + s.roll(1, -2))).sum((-2, -1), dtype=torch.int64)
    return -bonds.double() / (s.shape[1] * s.shape[2])


def magnetization(spins: torch.Tensor) -> torch.Tensor:
    """Magnetisation per site of each lattice, with its sign: (1/L₁L₂) Σ_i s_i.

    Parameters
    ----------
    spins
        (B, L₁, L₂) int8 of ±1, L₁ and L₂ even.

    Returns
    -------
    torch.Tensor
        (B,) float64, in [−1, 1].

    Raises
    ------
    ValueError
        If the shape, dtype or a value does not fit.
    """
    s = _spins(spins)
    return s.sum((-2, -1), dtype=torch.int64).double() / (s.shape[1] * s.shape[2])


# ----------------------------------------------------------------------------------------------------- inputs


def _spins(spins, largest: int | None = None) -> torch.Tensor:
    """Contiguous (B, L₁, L₂) int8 of ±1, or ValueError."""
    if not isinstance(spins, torch.Tensor) or spins.dtype != torch.int8:
        got = spins.dtype if isinstance(spins, torch.Tensor) else type(spins).__name__
        raise ValueError(f"spins: got {got}; expected (B, L1, L2) torch.int8 of +-1")
    if spins.ndim != 3 or 0 in spins.shape[1:] or spins.shape[1] % 2 or spins.shape[2] % 2:
        raise ValueError(f"spins: got shape {tuple(spins.shape)}; expected (B, L1, L2), L1 and L2 even")
    if largest is not None and spins.shape[1] * spins.shape[2] > largest:
        raise ValueError(f"spins: got shape {tuple(spins.shape)}; expected at most {largest} sites a lattice")
    size = spins.abs()
    if spins.numel() and not int(size.min()) == int(size.max()) == 1:
        raise ValueError("spins: got values other than +-1; expected +-1")
    return spins.contiguous()


def _beta(beta: float) -> float:
    number = isinstance(beta, Real) and not isinstance(beta, bool)
    number = number or (isinstance(beta, torch.Tensor) and beta.ndim == 0)
    if not number or not 0 <= float(beta) < math.inf:
        raise ValueError(f"beta: got {beta!r}; expected a finite number >= 0")
    return float(beta)


def _inputs(name: str, spins, beta, sweeps, seed, first_step) -> dict:
    return {
        "spins": _spins(spins, LARGEST[name]),
        "beta": _beta(beta),
        "sweeps": checked_count("sweeps", sweeps),
        "seed": checked_seed(seed),
        "first_step": checked_count("first_step", first_step),
    }


heat_bath.inputs(partial(_inputs, "heat_bath"))
heat_bath_bits.inputs(partial(_inputs, "heat_bath_bits"))


# ------------------------------------------------------------------------------------------------- CPU, numba
#
# The sites of even and of odd columns lie apart, (2, L₁, L₂/2 + 1): then the sites of one colour in a row, and
# their neighbours, are contiguous. The one more is a copy for the wrap: before the first odd column and after
# the last even one. So the site k of column parity p is at [p, row, p + k], and its left and right neighbours
# at [1 − p, row, k] and [1 − p, row, k + 1].


@numba_function
def _wrap(lattice, r, p):
    """The copy that closes row r of column parity p."""
    m = lattice.shape[2] - 1
    lattice[p, r, m * (1 - p)] = lattice[p, r, m * p]


@numba_function
def _split(spins, lattice):
    """Spins (L₁, L₂) of ±1 to lattice (2, L₁, L₂/2 + 1) of 0 and 1."""
    m = lattice.shape[2] - 1
    for r in range(spins.shape[0]):
        row, even, odd = spins[r], lattice[0, r][:m], lattice[1, r][1:]
        for k in range(m):
            even[k] = uint8(row[2 * k] > 0)
            odd[k] = uint8(row[2 * k + 1] > 0)
        _wrap(lattice, r, 0)
        _wrap(lattice, r, 1)


@numba_function
def _join(lattice, spins):
    m = lattice.shape[2] - 1
    for r in range(spins.shape[0]):
        row, even, odd = spins[r], lattice[0, r][:m], lattice[1, r][1:]
        for k in range(m):
            row[2 * k] = int8(2 * int8(even[k]) - 1)
            row[2 * k + 1] = int8(2 * int8(odd[k]) - 1)


@numba_function
def _fill_block(words, at, each, k0, k1, c0, c1, replica, stream):
    """Words of the counters stream … stream + each − 1, from `at` on: all words 0, then all words 1, …"""
    w0, w1 = words[at : at + each], words[at + each : at + 2 * each]
    w2, w3 = words[at + 2 * each : at + 3 * each], words[at + 3 * each : at + 4 * each]
    for q in range(each):
        w0[q], w1[q], w2[q], w3[q] = rounds(k0, k1, c0, c1, replica, uint32(stream + uint32(q)))


@numba_function
def _decide_row(lattice, halves, r, p, first, t0, t1, t2, t3, t4):
    """The sites of row r, column parity p: [u < threshold of the number of neighbours that are up]; whether a
    u equals its threshold. u begins at `first`.
    """
    # Slices are taken here, not in the caller: there, each would cost two atomic counts of its references.
    height, m = lattice.shape[1], lattice.shape[2] - 1
    own, left, right = lattice[p, r][p : p + m], lattice[1 - p, r][:m], lattice[1 - p, r][1:]
    up = lattice[p, r - 1 if r else height - 1][p : p + m]
    down = lattice[p, r + 1 if r < height - 1 else 0][p : p + m]
    u, tie = halves[first : first + m], uint16(0)
    for k in range(m):
        count = uint8(uint8(up[k] + down[k]) + uint8(left[k] + right[k]))
        below = t0 if count == 0 else t1
        above = t3 if count == 3 else t4
        t = t2 if count == 2 else (below if count < 2 else above)
        own[k] = uint8(u[k] < t)
        tie = uint16(tie | uint16(u[k] == t))
    return tie != 0


@numba_function
def _settle_row(lattice, halves, r, p, first, thresholds, k0, k1, c0, c1, replica, colour):
    """The sites whose upper 16 bits equal those of the threshold, by the lower 32."""
    height, m = lattice.shape[1], lattice.shape[2] - 1
    up, down = lattice[p, r - 1 if r else height - 1], lattice[p, r + 1 if r < height - 1 else 0]
    own, other = lattice[p, r], lattice[1 - p, r]
    for k in range(m):
        count = int64(up[p + k]) + int64(down[p + k]) + int64(other[k]) + int64(other[k + 1])
        t = thresholds[count]
        if uint64(halves[first + k]) == t >> uint64(32):
            n = r * m + k
            stream = uint32(uint64(2**30) * uint64(2 + colour) + uint64(n // 4))
            w0, w1, w2, w3 = rounds(k0, k1, c0, c1, replica, stream)
            w = (w0 if n % 4 == 0 else w1) if n % 4 < 2 else (w2 if n % 4 == 2 else w3)
            own[p + k] = uint8(uint64(w) < (t & uint64(LOW)))


@numba_function
def _sweep_bytes(out, thresholds, each, k0, k1, first_step, sweeps, start, stop):
    """All sweeps of lattice after lattice; `each` is H, thresholds (5,) uint64."""
    height, m = out.shape[1], out.shape[2] // 2
    k0, k1 = uint32(k0), uint32(k1)
    # Numbers are made for strips of rows that end where a block ends, so that they stay in the cache.
    strip = 1
    while strip * m % (8 * each) and strip < height:
        strip += 1
    words = np.empty(-(-strip * m // (8 * each)) * 4 * each, uint32)
    halves = words.view(uint16)  # of a word, the lower half first
    lattice = np.empty((2, height, m + 1), uint8)
    upper = (thresholds >> uint64(32)).astype(uint16)
    t0, t1, t2, t3, t4 = upper[0], upper[1], upper[2], upper[3], upper[4]
    for b in range(start, stop):
        _split(out[b], lattice)
        for step in range(first_step, first_step + sweeps):
            c0, c1, c2 = uint32(step & LOW), uint32(step >> 32), uint32(b)
            for colour in range(2):
                for top in range(0, height, strip):
                    rows = min(strip, height - top)
                    stream = 2**30 * colour + top * m // 8
                    for at in range(0, -(-rows * m // (8 * each)) * 4 * each, 4 * each):
                        _fill_block(words, at, each, k0, k1, c0, c1, c2, uint32(stream + at // 4))
                    for r in range(top, top + rows):
                        p = (r + colour) & 1
                        first = (r - top) * m
                        if _decide_row(lattice, halves, r, p, first, t0, t1, t2, t3, t4):
                            _settle_row(lattice, halves, r, p, first, thresholds, k0, k1, c0, c1, c2, colour)
                        _wrap(lattice, r, p)
        _join(lattice, out[b])


@heat_bath.backend("numba", needs=("numba",))
def _heat_bath_numba(spins, beta, sweeps, seed, first_step):
    out = spins.clone()
    thresholds, each = (
        _thresholds(beta).numpy().view(np.uint64),
        _counters(spins.shape[1] * spins.shape[2] // 2),
    )
    run = partial(_sweep_bytes, out.numpy(), thresholds, each, seed & LOW, seed >> 32, first_step, sweeps)
    over_rows(run, len(out), out.numel() * (sweeps + 1) / 4)
    return out


@numba_function
def _pack(spins, words):
    """Bit b of words (L₁, L₂): whether lattice b of spins (≤ 64, L₁, L₂) is up. Eight lattices fill a byte."""
    part = np.empty(spins.shape[2], uint8)
    for r in range(spins.shape[1]):
        word = words[r]
        word[:] = uint64(0)
        for byte in range(-(-spins.shape[0] // 8)):
            part[:] = uint8(0)
            for bit in range(min(8, spins.shape[0] - 8 * byte)):
                row = spins[8 * byte + bit, r]
                for j in range(len(row)):
                    part[j] |= uint8(uint8(row[j] > 0) << uint8(bit))
            shift = uint64(8 * byte)
            for j in range(len(word)):
                word[j] |= uint64(part[j]) << shift


@numba_function
def _unpack(words, spins):
    part = np.empty(spins.shape[2], uint8)
    for r in range(spins.shape[1]):
        word = words[r]
        for byte in range(-(-spins.shape[0] // 8)):
            shift = uint64(8 * byte)
            for j in range(len(word)):
                part[j] = uint8(word[j] >> shift)
            for bit in range(min(8, spins.shape[0] - 8 * byte)):
                row = spins[8 * byte + bit, r]
                for j in range(len(row)):
                    row[j] = int8(int8(2 * (uint8(part[j] >> uint8(bit)) & uint8(1))) - int8(1))


@numba_function
def _columns_apart(words, lattice):
    """Words (L₁, L₂) to lattice (2, L₁, ≥ L₂/2 + 1), even and odd columns apart."""
    for r in range(words.shape[0]):
        row, even, odd = words[r], lattice[0, r], lattice[1, r][1:]
        for k in range(len(row) // 2):
            even[k], odd[k] = row[2 * k], row[2 * k + 1]


@numba_function
def _columns_together(lattice, words):
    for r in range(words.shape[0]):
        row, even, odd = words[r], lattice[0, r], lattice[1, r][1:]
        for k in range(len(row) // 2):
            row[2 * k], row[2 * k + 1] = even[k], odd[k]


@numba_function(inline="always")
def _plane(less, open_, u, odd, every, q2, q4, p):
    """One more bit of u, compared with that of the chance where the spins have |h| = 2 (odd) or 4 (every)."""
    one = uint64(1)
    t2 = uint64(0) - ((q2 >> uint64(31 - p)) & one)
    t4 = uint64(0) - ((q4 >> uint64(31 - p)) & one)
    t = (odd & t2) | (every & t4)
    return less | (open_ & t & ~u), open_ & ~(t ^ u)


@numba_function(inline="always")
def _two_planes(less, open_, odd, every, q2, q4, i, k0, k1, c0, c1, group, stream):
    w0, w1, w2, w3 = rounds(k0, k1, c0, c1, group, stream)
    less, open_ = _plane(less, open_, uint64(w0) | (uint64(w1) << uint64(32)), odd, every, q2, q4, 2 * i)
    return _plane(less, open_, uint64(w2) | (uint64(w3) << uint64(32)), odd, every, q2, q4, 2 * i + 1)


@numba_function(inline="always")
def _count_up(a, b, c, d):
    """Where one or three of four are up, where all or none are, and where at least two are."""
    ab, cd = a ^ b, c ^ d
    most = (a & b) | (c & d) | (ab & cd)
    return ab ^ cd, ~(ab | cd | (a ^ c)), most


@numba_function
def _decide_words(lattice, pending, r, p, m, q2, q4, k0, k1, c0, c1, group, colour):
    """The first eight planes of row r, column parity p; pending: the spins that they leave open, which stand as
    if they were to stay aligned.
    """
    height, whole = lattice.shape[1], len(pending)
    own, other = lattice[p, r][p : p + whole], lattice[1 - p, r]
    up = lattice[p, r - 1 if r else height - 1][p : p + whole]
    down = lattice[p, r + 1 if r < height - 1 else 0][p : p + whole]
    stream = uint32(uint32(2**27) * uint32(colour) + uint32(r * m))
    for k in range(len(pending)):
        odd, every, most = _count_up(up[k], down[k], other[k], other[k + 1])
        # At |h| = 0 the chance is one half: the first bit decides, and the others need not be looked at.
        at = uint32(stream + uint32(k))
        w0, w1, w2, w3 = rounds(k0, k1, c0, c1, group, at)
        even, u = ~(odd | every), uint64(w0) | (uint64(w1) << uint64(32))
        less, open_ = _plane(even & ~u, odd | every, u, odd, every, q2, q4, 0)
        less, open_ = _plane(less, open_, uint64(w2) | (uint64(w3) << uint64(32)), odd, every, q2, q4, 1)
        at = uint32(at + uint32(2**28))
        less, open_ = _two_planes(less, open_, odd, every, q2, q4, 1, k0, k1, c0, c1, group, at)
        at = uint32(at + uint32(2**28))
        less, open_ = _two_planes(less, open_, odd, every, q2, q4, 2, k0, k1, c0, c1, group, at)
        at = uint32(at + uint32(2**28))
        less, open_ = _two_planes(less, open_, odd, every, q2, q4, 3, k0, k1, c0, c1, group, at)
        own[k] = most ^ less
        pending[k] = open_


@numba_function
def _list_pending(lattice, pending, r, p, m, work, n):
    """Appends to the list of n words those of row r that have an open spin; returns its length."""
    height = lattice.shape[1]
    up, down = lattice[p, r - 1 if r else height - 1][p:], lattice[p, r + 1 if r < height - 1 else 0][p:]
    other, open_, odd, every, site = lattice[1 - p, r], work[1], work[2], work[3], work[4]
    for k in range(m):
        open_[n], site[n] = pending[k], uint64(r * m + k)
        odd[n], every[n], _ = _count_up(up[k], down[k], other[k], other[k + 1])
        n += pending[k] != 0
    return n


@numba_function
def _decide_list(less, open_, odd, every, site, q2, q4, i, k0, k1, c0, c1, group, colour):
    """Planes 2i and 2i + 1 of listed words."""
    stream = uint32(uint32(2**28) * uint32(i)) + uint32(uint32(2**27) * uint32(colour))
    for j in range(len(less)):
        at = uint32(stream + uint32(site[j]))
        less[j], open_[j] = _two_planes(
            uint64(0), open_[j], odd[j], every[j], q2, q4, i, k0, k1, c0, c1, group, at
        )


@numba_function
def _settle_list(lattice, m, work, n, q2, q4, k0, k1, c0, c1, group, colour):
    """The other planes of the n listed words, as long as a spin is open; work: (5, capacity)."""
    less, open_, odd, every, site = work[0], work[1], work[2], work[3], work[4]
    for i in range(4, 16):
        if n == 0:
            break
        whole = -(-n // 8) * 8  # whole vectors: the words beyond n are not read
        _decide_list(
            less[:whole], open_[:whole], odd[:whole], every[:whole], site[:whole],
            q2, q4, i, k0, k1, c0, c1, group, colour,
        )  # fmt: skip
        kept = 0
        for j in range(n):
            if less[j]:
                r, k = divmod(int64(site[j]), m)
                p = (r + colour) & 1
                lattice[p, r, p + k] ^= less[j]
                if k == (m - 1 if p else 0):
                    lattice[p, r, m * (1 - p)] ^= less[j]
            open_[kept], odd[kept], every[kept], site[kept] = open_[j], odd[j], every[j], site[j]
            kept += open_[kept] != 0
        n = kept


@numba_function
def _sweep_words(spins, out, q2, q4, k0, k1, first_step, sweeps, start, stop):
    """All sweeps of group after group of 64 lattices."""
    height, width = out.shape[1], out.shape[2]
    m = width // 2
    whole = -(-m // 8) * 8  # rows are filled up to whole vectors, with words that nothing reads
    k0, k1, q2, q4 = uint32(k0), uint32(k1), uint64(q2), uint64(q4)
    words, lattice = np.empty((height, width), uint64), np.zeros((2, height, whole + 1), uint64)
    pending, work = np.empty(whole, uint64), np.zeros((5, 1024 + whole), uint64)
    for g in range(start, stop):
        _pack(spins[64 * g : 64 * g + 64], words)
        _columns_apart(words, lattice)
        for r in range(height):
            lattice[0, r, m], lattice[1, r, 0] = lattice[0, r, 0], lattice[1, r, m]
        for step in range(first_step, first_step + sweeps):
            c0, c1, c2 = uint32(step & LOW), uint32(step >> 32), uint32(g)
            for colour in range(2):
                n = 0
                for r in range(height):
                    p = (r + colour) & 1
                    _decide_words(lattice, pending, r, p, m, q2, q4, k0, k1, c0, c1, c2, colour)
                    lattice[p, r, m * (1 - p)] = lattice[p, r, m * p]
                    n = _list_pending(lattice, pending, r, p, m, work, n)
                    if n >= 1024:
                        _settle_list(lattice, m, work, n, q2, q4, k0, k1, c0, c1, c2, colour)
                        n = 0
                _settle_list(lattice, m, work, n, q2, q4, k0, k1, c0, c1, c2, colour)
        _columns_together(lattice, words)
        _unpack(words, out[64 * g : 64 * g + 64])


@heat_bath_bits.backend("numba", needs=("numba",))
def _heat_bath_bits_numba(spins, beta, sweeps, seed, first_step):
    out = torch.empty_like(spins)
    _, q2, q4 = _chances(beta).tolist()
    run = partial(
        _sweep_words, spins.numpy(), out.numpy(), q2, q4, seed & LOW, seed >> 32, first_step, sweeps
    )
    over_rows(run, -(-len(out) // 64), out.numel() * (sweeps + 1) / 6)
    return out


# ------------------------------------------------------------------------------------------------ GPU, Triton
#
# One launch a colour, in place: a site that is written is read by no other program. Lattices and groups lie
# along the second axis of the grid, in slices of its largest length.

LARGEST_AXIS = 2**15


@triton_function
def triton_sum(spins, base, n, colour, height, width, inside):
    """Where in memory the sites n of a colour are, and their four neighbours: up, down, left, right."""
    half = width // 2
    r, k = n // half, n % half
    j = 2 * k + (r + colour) % 2
    up, down = tl.where(r == 0, height - 1, r - 1), tl.where(r == height - 1, 0, r + 1)
    left, right = tl.where(j == 0, width - 1, j - 1), tl.where(j == width - 1, 0, j + 1)
    a = tl.load(spins + base + up * width + j, mask=inside, other=0)
    b = tl.load(spins + base + down * width + j, mask=inside, other=0)
    c = tl.load(spins + base + r * width + left, mask=inside, other=0)
    d = tl.load(spins + base + r * width + right, mask=inside, other=0)
    return base + r * width + j, a, b, c, d


@triton_function
def triton_bytes(
    spins, thresholds, seed, step, step_high, first_lattice, colour, height, width, each, BLOCK: tl.constexpr
):
    """BLOCK counters of one lattice: the 8 BLOCK sites that they decide."""
    lattice = first_lattice + tl.program_id(1).to(tl.int64)
    base, sites = lattice * height * width, tl.cast(height, tl.int64) * width // 2
    q = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    zero = (q * 0).to(tl.uint32)
    c0, c1 = zero + tl.to_tensor(step).to(tl.uint32), zero + tl.to_tensor(step_high).to(tl.uint32)
    c2 = zero + lattice.to(tl.uint32)
    w0, w1, w2, w3 = tl.philox(seed, c0, c1, c2, (q + colour * 1073741824).to(tl.uint32))
    for part in tl.static_range(8):
        word = w0 if part < 2 else w1 if part < 4 else w2 if part < 6 else w3
        u = ((word >> (16 * (part % 2))) & 65535).to(tl.int64)
        n = q // each * (8 * each) + (part // 2) * 2 * each + q % each * 2 + part % 2
        own, a, b, c, d = triton_sum(spins, base, n, colour, height, width, n < sites)
        theta = tl.load(thresholds + (a.to(tl.int32) + b + c + d + 4) // 2, mask=n < sites, other=-1)
        upper = theta >> 32
        up = u < upper
        if tl.max((u == upper).to(tl.int32), 0) == 1:
            stream = n // 4 + (2 + colour) * tl.full([BLOCK], 1073741824, tl.int64)
            v0, v1, v2, v3 = tl.philox(seed, c0, c1, c2, stream.to(tl.uint32))
            low = tl.where(n % 4 < 2, tl.where(n % 4 == 0, v0, v1), tl.where(n % 4 == 2, v2, v3))
            up = up | ((u == upper) & (low.to(tl.int64) < (theta & 4294967295)))
        tl.store(spins + own, tl.where(up, 1, -1).to(tl.int8), mask=n < sites)


@triton_function
def triton_words(
    words, q2, q4, seed, step, step_high, first_group, colour, height, width, BLOCK: tl.constexpr
):
    """BLOCK sites of a group of 64 lattices."""
    group = first_group + tl.program_id(1).to(tl.int64)
    base, sites = group * height * width, tl.cast(height, tl.int64) * width // 2
    n = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = n < sites
    zero = (n * 0).to(tl.uint32)
    c0, c1 = zero + tl.to_tensor(step).to(tl.uint32), zero + tl.to_tensor(step_high).to(tl.uint32)
    c2 = zero + group.to(tl.uint32)
    own, a, b, c, d = triton_sum(words, base, n, colour, height, width, inside)
    odd, every = a ^ b ^ c ^ d, ~((a ^ b) | (c ^ d) | (a ^ c))
    most = (a & b) | (c & d) | ((a ^ b) & (c ^ d))
    even = ~(odd | every)
    less, undecided = a * 0, tl.where(inside, ~(a * 0), 0)
    pair = 0
    while (pair < 16) & (tl.max((undecided != 0).to(tl.int32), 0) == 1):
        stream = n + (2 * pair + colour) * tl.full([BLOCK], 134217728, tl.int64)
        w0, w1, w2, w3 = tl.philox(seed, c0, c1, c2, stream.to(tl.uint32))
        for second in tl.static_range(2):
            low, high = (w2, w3) if second else (w0, w1)
            u = low.to(tl.int64) | (high.to(tl.int64) << 32)
            shift = 31 - second - 2 * pair
            one2, one4 = (tl.cast(q2, tl.int64) >> shift) & 1, (tl.cast(q4, tl.int64) >> shift) & 1
            chance = (odd & -one2) | (every & -one4)
            if second == 0:
                chance = chance | tl.where(pair == 0, even, 0)
            less = less | (undecided & chance & ~u)
            undecided = undecided & ~(chance ^ u)
        pair += 1
    tl.store(words + own, most ^ less, mask=inside)


def _slices(count: int) -> list[tuple[int, int]]:
    """(first, how many) in slices of the grid's second axis."""
    return [(first, min(LARGEST_AXIS, count - first)) for first in range(0, count, LARGEST_AXIS)]


@heat_bath.backend("triton", needs=("triton",))
def _heat_bath_triton(spins, beta, sweeps, seed, first_step):
    out, (height, width) = spins.clone(), spins.shape[1:]
    thresholds, sites = _thresholds(beta).to(spins.device), height * width // 2
    each = _counters(sites)
    for step in range(first_step, first_step + sweeps):
        for colour in (0, 1):
            for first, count in _slices(len(out)):
                grid = -(-(-(-sites // (8 * each)) * each) // BLOCK), count
                triton_bytes[grid](
                    out, thresholds, seed, step & LOW, step >> 32, first, colour, height, width, each,
                    BLOCK=BLOCK,
                )  # fmt: skip
    return out


@heat_bath_bits.backend("triton", needs=("triton",))
def _heat_bath_bits_triton(spins, beta, sweeps, seed, first_step):
    height, width = spins.shape[1:]
    words = torch.zeros((-(-len(spins) // 64), height, width), dtype=torch.int64, device=spins.device)
    for bit in range(min(64, len(spins))):
        words[: len(spins[bit::64])] |= (spins[bit::64] > 0).long() << bit
    _, q2, q4 = _chances(beta).tolist()
    for step in range(first_step, first_step + sweeps):
        for colour in (0, 1):
            for first, count in _slices(len(words)):
                grid = -(-height * width // (2 * BLOCK)), count
                triton_words[grid](
                    words, q2, q4, seed, step & LOW, step >> 32, first, colour, height, width, BLOCK=BLOCK
                )
    out = torch.empty_like(spins)
    for bit in range(min(64, len(spins))):
        out[bit::64] = (words[: len(out[bit::64])] >> bit & 1).to(torch.int8) * 2 - 1
    return out
