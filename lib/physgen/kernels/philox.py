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
"""

from __future__ import annotations

import secrets
from operator import index
from typing import TYPE_CHECKING

import torch
from numpy import uint32, uint64

from .dispatch import kernel, numba_function, triton_function

if TYPE_CHECKING:
    import triton.language as tl

__all__ = ["key", "philox", "uniform"]

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


def checked_seed(seed: int) -> int:
    """The seed as a Python integer in [0, 2⁶⁴), or ValueError."""
    try:
        number = -1 if isinstance(seed, bool) else index(seed)
    except TypeError:
        number = -1
    if not 0 <= number < 2**64:
        raise ValueError(f"seed: got {seed!r}; expected an integer in [0, 2**64)")
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
    for _ in range(10):
        # numba widens uint32 · uint32 to 64 bits: each operation is cast, or the high halves would leak.
        p0, p1 = uint64(M0) * uint64(x0), uint64(M1) * uint64(x2)
        x0, x2 = uint32(p1 >> uint64(32)) ^ x1 ^ k0, uint32(p0 >> uint64(32)) ^ x3 ^ k1
        x0, x1, x2, x3 = uint32(x0), uint32(p1), uint32(x2), uint32(p0)
        k0, k1 = uint32(k0 + uint32(W0)), uint32(k1 + uint32(W1))
    return x0, x1, x2, x3


@numba_function
def _fill(k0, k1, counters, words):  # (4, n) both
    for j in range(counters.shape[1]):
        c0, c1, c2, c3 = counters[0, j], counters[1, j], counters[2, j], counters[3, j]
        words[0, j], words[1, j], words[2, j], words[3, j] = rounds(
            uint32(k0), uint32(k1), uint32(c0), uint32(c1), uint32(c2), uint32(c3)
        )


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


@philox.backend("triton", needs=("triton",))
def _philox_triton(seed, c0, c1, c2, c3):
    counters = torch.stack([c0, c1, c2, c3])
    words, n = torch.empty_like(counters), c0.numel()
    if n:
        triton_fill[(-(-n // 256),)](seed, counters, words, n, BLOCK=256)
    return words
