"""The one random stream of the book: Philox4x32-10, which has no state and no order.

A counter of four 32-bit words and a key of two give four random 32-bit words, by ten rounds of multiply,
exchange and xor (Salmon, Moraes, Dror, Shaw 2011, "Parallel random numbers: as easy as 1, 2, 3"). So the draw
of any replica at any step can be computed anywhere, alone, in any order, and is the same word in torch,
numba, Triton and JavaScript. Layout, for every kernel:

- key = (seed mod 2³², ⌊seed / 2³²⌋), the seed an integer in [0, 2⁶⁴);
- counter = (step mod 2³², ⌊step / 2³²⌋, replica, stream): c0, c1, c2, c3;
- stream 0 is the single-site draw of a step: word 0 chooses the site, i = ⌊word · N / 2³²⌋, word 1 decides;
- stream 1 + ⌊i/4⌋, word i mod 4, is the draw of site i when all sites move in one step.

One round, with (x0, x1, x2, x3) the counter and (k0, k1) the key, ``hi`` and ``lo`` the halves of a 64-bit
product, the key raised after each round, mod 2³²:

    (x0, x1, x2, x3) ← (hi(M1·x2) ⊕ x1 ⊕ k0,  lo(M1·x2),  hi(M0·x0) ⊕ x3 ⊕ k1,  lo(M0·x0))
    (k0, k1) ← (k0 + W0, k1 + W1)

M0 = 0xD2511F53, M1 = 0xCD9E8D57, W0 = 0x9E3779B9, W1 = 0xBB67AE85.

Normal numbers come from pairs of words, `normal`: those of the words (0, 1) and (2, 3) of stream 1 + ⌊i/4⌋ are
the draws of sites i, …, i + 3. Words are equal bit for bit on every backend; normals are defined in float64,
and the fast versions, in float32, are within 10⁻⁶ (1 + |z|) of them.
"""

from __future__ import annotations

import math
import secrets
from operator import index
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy import float32, int32, uint32, uint64

from .dispatch import kernel, numba_function, triton_function

if TYPE_CHECKING:
    import triton.language as tl

__all__ = ["key", "normal", "philox", "uniform"]

LOW = 0xFFFFFFFF
M0, M1 = 0xD2511F53, 0xCD9E8D57
W0, W1 = 0x9E3779B9, 0xBB67AE85


def key(generator: torch.Generator | None = None) -> int:
    """A 63-bit Philox key drawn from a torch generator.

    Parameters
    ----------
    generator
        Where the key comes from (it advances); None draws fresh entropy from the operating system.

    Returns
    -------
    int
        The key, in [0, 2⁶³ − 1): give it to a kernel as its ``seed``.

    Raises
    ------
    ValueError
        If `generator` is neither a `torch.Generator` nor None.
    """
    if generator is None:
        return secrets.randbelow(2**63 - 1)
    if not isinstance(generator, torch.Generator):
        raise ValueError(f"generator: got {type(generator).__name__}; expected a torch.Generator or None")
    return torch.randint(2**63 - 1, (), generator=generator, device=generator.device).item()


def _product(x: torch.Tensor, m: int) -> tuple[torch.Tensor, torch.Tensor]:
    """High and low 32 bits of x·m; halves of 16 bits, because x·m itself overflows int64."""
    low = (x & 0xFFFF) * m
    high = (x >> 16) * m + (low >> 16)
    return high >> 16, ((high << 16) | (low & 0xFFFF)) & LOW


@kernel
def philox(seed: int, c0, c1, c2, c3) -> torch.Tensor:
    """The four random words of each counter, Philox4x32-10.

    Parameters
    ----------
    seed
        The key, an integer in [0, 2⁶⁴): its low word is k0, its high word k1.
    c0, c1, c2, c3
        The words of the counter: integers, or int64 tensors that broadcast together, each in [0, 2³²).

    Returns
    -------
    torch.Tensor
        int64, shape (4, …): the words 0 … 3, each in [0, 2³²).

    Raises
    ------
    ValueError
        If the seed or a word of the counter is out of its range, or no integer.

    Notes
    -----
    Salmon, Moraes, Dror, Shaw (2011), section 4.3; the fast versions give the same words.
    """
    k0, k1 = seed & LOW, seed >> 32
    x0, x1, x2, x3 = torch.broadcast_tensors(*map(torch.as_tensor, (c0, c1, c2, c3)))
    for _ in range(10):
        (high0, low0), (high1, low1) = _product(x0, M0), _product(x2, M1)
        x0, x1, x2, x3 = high1 ^ x1 ^ k0, low1, high0 ^ x3 ^ k1, low0
        k0, k1 = (k0 + W0) & LOW, (k1 + W1) & LOW
    return torch.stack([x0, x1, x2, x3])


def uniform(words: torch.Tensor) -> torch.Tensor:
    """Uniform numbers in (0, 1) from random words: u = (word + ½) / 2³².

    Parameters
    ----------
    words
        Integers in [0, 2³²), of any shape.

    Returns
    -------
    torch.Tensor
        float64, the shape of `words`; exact, never 0 or 1, mean ½.

    Raises
    ------
    ValueError
        If `words` is not an integer tensor, or a word is out of range.
    """
    return (_words("words", words).double() + 0.5) / 2**32


def normal(words: torch.Tensor) -> torch.Tensor:
    """Standard normal numbers from pairs of random words: √(−2 ln u₀) cos 2πu₁ and √(−2 ln u₀) sin 2πu₁.

    Parameters
    ----------
    words
        Integers in [0, 2³²), shape (2k, …), as `philox` gives them: rows 2j and 2j + 1 are a pair, and u = (word
        + ½) / 2³² are their uniform numbers.

    Returns
    -------
    torch.Tensor
        float64, the shape of `words`: rows 2j and 2j + 1 are independent; none is beyond 6.8.

    Raises
    ------
    ValueError
        If `words` is not an integer tensor with an even number of rows, or a word is out of range.

    Notes
    -----
    Box and Muller (1958), Ann. Math. Stat. 29, 610.
    """
    u = uniform(words)
    if u.ndim == 0 or len(u) % 2:
        raise ValueError(f"words: got shape {tuple(u.shape)}; expected an even number of rows")
    radius, angle = (-2 * u[0::2].log()).sqrt(), 2 * math.pi * u[1::2]
    return torch.stack([radius * angle.cos(), radius * angle.sin()], 1).flatten(0, 1)


def checked_seed(seed: int) -> int:
    """The seed as a Python integer in [0, 2⁶⁴), or ValueError."""
    try:
        number = -1 if isinstance(seed, bool) else index(seed)
    except TypeError:
        number = -1
    if not 0 <= number < 2**64:
        raise ValueError(f"seed: got {seed!r}; expected an integer in [0, 2**64)")
    return number


def checked_count(name: str, value: int, least: int = 0) -> int:
    """A number of steps, or the first of them, as a Python integer in [least, 2⁶²), or ValueError."""
    try:
        number = -1 if isinstance(value, bool) else index(value)
    except TypeError:
        number = -1
    if not least <= number < 2**62:
        raise ValueError(f"{name}: got {value!r}; expected an integer in [{least}, 2**62)")
    return number


def _words(name: str, value) -> torch.Tensor:
    tensor = torch.as_tensor(value)
    if tensor.dtype.is_floating_point or tensor.dtype.is_complex or tensor.dtype == torch.bool:
        raise ValueError(f"{name}: got {tensor.dtype}; expected integers in [0, 2**32)")
    if tensor.numel() and not 0 <= int(tensor.min()) <= int(tensor.max()) <= LOW:
        raise ValueError(f"{name}: got values from {tensor.min()} to {tensor.max()}; expected [0, 2**32)")
    return tensor.long()


@philox.inputs
def _inputs(seed, **counter) -> dict:
    words = [_words(name, word) for name, word in counter.items()]
    device = next((word.device for word in words if word.ndim), torch.device("cpu"))
    words = torch.broadcast_tensors(*(word.to(device) for word in words))
    return {"seed": checked_seed(seed)} | dict(zip(counter, words, strict=True))


# ------------------------------------------------------------------------------------------------- CPU, numba


@numba_function(inline="always")
def rounds(k0, k1, x0, x1, x2, x3):
    """The four words of one counter, for use in numba loops; all arguments and results are uint32."""
    a, b, c, d = uint64(x0), uint64(x1), uint64(x2), uint64(x3)
    key0, key1, low = uint64(k0), uint64(k1), uint64(LOW)
    for _ in range(10):
        # 64-bit lanes: a vector unit multiplies their low halves in one instruction, and the high halves of a
        # to d may hold anything, since they are dropped there and at the end.
        p0, p1 = uint64(M0) * (a & low), uint64(M1) * (c & low)
        a, b, c, d = (p1 >> uint64(32)) ^ b ^ key0, p1, (p0 >> uint64(32)) ^ d ^ key1, p0
        key0, key1 = key0 + uint64(W0), key1 + uint64(W1)
    return uint32(a), uint32(b), uint32(c), uint32(d)


@numba_function
def _fill(k0, k1, counters, words):  # (4, n) both
    for j in range(counters.shape[1]):
        c0, c1, c2, c3 = counters[0, j], counters[1, j], counters[2, j], counters[3, j]
        words[0, j], words[1, j], words[2, j], words[3, j] = rounds(
            uint32(k0), uint32(k1), uint32(c0), uint32(c1), uint32(c2), uint32(c3)
        )


TILE = 256  # counters whose normals are made together: their words and intermediate numbers stay in the cache


@numba_function(fastmath=True)
def words_of_tile(k0, k1, c0, c1, c2, first, w0, w1, w2, w3):
    for j in range(len(w0)):
        w0[j], w1[j], w2[j], w3[j] = rounds(k0, k1, c0, c1, c2, uint32(first + uint32(j)))


@numba_function(fastmath=True)
def logarithm_of_tile(words, bits, y, exponent):
    """Splits words = 2^(exponent + 32) y with y in [1/√2, √2); `bits` is the memory of y, as integers."""
    for j in range(len(words)):
        y[j] = float32(words[j]) + float32(0.5)
    for j in range(len(words)):
        b = bits[j] - int32(0x3F3504F3)
        exponent[j] = float32((b >> int32(23)) - int32(32))
        bits[j] = (b & int32(0x7FFFFF)) + int32(0x3F3504F3)


@numba_function(fastmath=True)
def pairs_of_tile(first, second, y, exponent, even, odd):
    """even, odd = √(−2 ln u₀) (cos, sin)(2π u₁) by the polynomials of Cephes (Moshier 1989)."""
    for j in range(len(first)):
        # Where u₀ > 1/√2 the argument ln(1 − v) of a small v is formed from the complement of the word, exact.
        near_one = first[j] >= uint32(0xB504F334)
        v = (
            -(float32(uint32(~first[j])) + float32(0.5)) * float32(2.0**-32)
            if near_one
            else y[j] - float32(1)
        )
        e = float32(0) if near_one else exponent[j]
        p = float32(7.0376836292e-2)
        p = p * v - float32(1.1514610310e-1)
        p = p * v + float32(1.1676998740e-1)
        p = p * v - float32(1.2420140846e-1)
        p = p * v + float32(1.4249322787e-1)
        p = p * v - float32(1.6668057665e-1)
        p = p * v + float32(2.0000714765e-1)
        p = p * v - float32(2.4999993993e-1)
        p = p * v + float32(3.3333331174e-1)
        v2 = v * v
        log = v + (v2 * v * p - float32(0.5) * v2) + e * float32(math.log(2))
        radius = np.sqrt(float32(-2) * log)
        # u₁ is a quarter turn q and a rest a in [−π/4, π/4].
        word = second[j]
        q = uint32(uint32(word + uint32(2**29)) >> uint32(30))
        a = float32(int32(uint32(word - uint32(q << uint32(30))))) * float32(math.pi / 2**31)
        a2 = a * a
        s = float32(-1.9515295891e-4) * a2 + float32(8.3321608736e-3)
        s = a + a * a2 * (s * a2 - float32(1.6666654611e-1))
        c = float32(2.443315711809948e-5) * a2 - float32(1.388731625493765e-3)
        c = float32(1) - float32(0.5) * a2 + a2 * a2 * (c * a2 + float32(4.166664568298827e-2))
        odd_quarter, half_turn = (q & uint32(1)) != 0, (q & uint32(2)) != 0
        radius = -radius if half_turn else radius
        even[j] = radius * (-s if odd_quarter else c)
        odd[j] = radius * (c if odd_quarter else s)


@numba_function(fastmath=True)
def normals(z, scratch, k0, k1, c0, c1, c2, first):
    """Fills z, float32 of any length, with the normals of the sites first, first + 1, … (first a multiple of
    4) of step (c0, c1) and replica c2; scratch: (10, TILE) uint32.
    """
    k0, k1, c0, c1, c2 = uint32(k0), uint32(k1), uint32(c0), uint32(c1), uint32(c2)
    numbers = scratch.view(np.float32)
    for start in range(0, len(z), 4 * TILE):
        # Whole vectors: a multiple of 16 counters. Row by row, since numba takes a row for contiguous, not a block.
        whole = min(TILE, (len(z) - start) // 4)
        n, stream = min(TILE, (whole // 16 + 1) * 16), uint32(1 + (first + start) // 4)
        w0, w1, w2, w3 = scratch[0, :n], scratch[1, :n], scratch[2, :n], scratch[3, :n]
        y, exponent, bits = numbers[4, :n], numbers[5, :n], scratch[4, :n].view(np.int32)
        z0, z1, z2, z3 = numbers[6, :n], numbers[7, :n], numbers[8, :n], numbers[9, :n]
        words_of_tile(k0, k1, c0, c1, c2, stream, w0, w1, w2, w3)
        logarithm_of_tile(w0, bits, y, exponent)
        pairs_of_tile(w0, w1, y, exponent, z0, z1)
        logarithm_of_tile(w2, bits, y, exponent)
        pairs_of_tile(w2, w3, y, exponent, z2, z3)
        part = z[start : start + 4 * whole].reshape(whole, 4)
        for j in range(whole):
            part[j, 0], part[j, 1], part[j, 2], part[j, 3] = z0[j], z1[j], z2[j], z3[j]
        for i in range(start + 4 * whole, min(len(z), start + 4 * TILE)):
            z[i] = numbers[6 + (i - start) % 4, whole % TILE]


@philox.backend("numba", needs=("numba",))
def _philox_numba(seed, c0, c1, c2, c3):
    counters = torch.stack([c0, c1, c2, c3])
    words = torch.empty_like(counters)
    _fill(seed & LOW, seed >> 32, counters.view(4, -1).numpy(), words.view(4, -1).numpy())
    return words


# ------------------------------------------------------------------------------------------------ GPU, Triton


@triton_function
def triton_fill(seed, counters, words, n, BLOCK: tl.constexpr):
    """The words (4, n) of the counters (4, n), both int64."""
    j = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    at = j.to(tl.int64)
    c0 = tl.load(counters + at, mask=j < n, other=0).to(tl.uint32)
    c1 = tl.load(counters + n + at, mask=j < n, other=0).to(tl.uint32)
    c2 = tl.load(counters + 2 * n + at, mask=j < n, other=0).to(tl.uint32)
    c3 = tl.load(counters + 3 * n + at, mask=j < n, other=0).to(tl.uint32)
    w0, w1, w2, w3 = tl.philox(seed, c0, c1, c2, c3)
    tl.store(words + at, w0.to(tl.int64), mask=j < n)
    tl.store(words + n + at, w1.to(tl.int64), mask=j < n)
    tl.store(words + 2 * n + at, w2.to(tl.int64), mask=j < n)
    tl.store(words + 3 * n + at, w3.to(tl.int64), mask=j < n)


@triton_function
def triton_pair(first, second):
    """The two standard normals, float32, of two uint32 words."""
    # Where u₀ > 1/2 its logarithm is ln(1 + x) of the exact small x = −(2³² − word − ½) / 2³².
    near_one = first >= 2147483648
    x = -((~first).to(tl.float32) + 0.5) * (1.0 / 4294967296)
    y = 1.0 + x
    far = tl.log((first.to(tl.float32) + 0.5) * (1.0 / 4294967296))
    near = tl.where(y == 1.0, x, tl.log(y) * (x / tl.where(y == 1.0, 1.0, y - 1.0)))
    radius = tl.sqrt(-2.0 * tl.where(near_one, near, far))
    # The angle is formed in (−π, π]: a signed word has its rounding error where the angle is large.
    angle = second.to(tl.int32, bitcast=True).to(tl.float32) * 1.4629180792671596e-09
    return radius * tl.cos(angle), radius * tl.sin(angle)


@philox.backend("triton", needs=("triton",))
def _philox_triton(seed, c0, c1, c2, c3):
    counters = torch.stack([c0, c1, c2, c3])
    words, n = torch.empty_like(counters), c0.numel()
    if n:
        triton_fill[(-(-n // 256),)](seed, counters, words, n, BLOCK=256)
    return words
