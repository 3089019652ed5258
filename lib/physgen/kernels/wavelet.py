"""Orthonormal periodic wavelets, one level and its inverse (the chapters of `scales`): Haar and Daubechies
2–8, in one and two dimensions.

A level halves a periodic signal of even size n into averages and details (p the order, 2p taps):

    a_k = Σ_i h_i x_{2k+i−p+1},   d_k = Σ_i g_i x_{2k+i−p+1},   g_i = (−1)ⁱ h_{2p−1−i},   indices mod n.

The map is orthogonal, so its inverse is its adjoint, and its gradient is the inverse transform. Order and
signs are PyWavelets' (``wavedec(…, mode="periodization")``): Haar is a = (left + right)/√2, d = (left −
right)/√2; ``"db4"`` has 8 taps. The filter h is the one of shortest delay whose transfer function satisfies
|H(ω)|² = 2 cos²ᵖ(ω/2) Σ_{k<p} C(p−1+k, k) sin²ᵏ(ω/2) (Daubechies 1988), computed here.
"""

from __future__ import annotations

import math
from functools import cache, partial
from operator import index
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.autograd.forward_ad import unpack_dual

from .dispatch import kernel, numba_function, over_rows, triton_function

if TYPE_CHECKING:
    import triton.language as tl

__all__ = ["WAVELETS", "dwt", "dwt2", "filters", "idwt", "idwt2"]

WAVELETS = ("haar", *(f"db{p}" for p in range(1, 9)))
FLOATS = torch.float32, torch.float64


# -------------------------------------------------------------------------------------------------- the filters


def filters(wavelet: str) -> tuple[torch.Tensor, torch.Tensor]:
    """The averaging and the detail filter of a wavelet: h with Σ_i h_i h_{i+2k} = δ_k, and g_i = (−1)ⁱ
    h_{2p−1−i}.

    Σ_i h_i = √2, and Σ_i iᵏ g_i = 0 for k < p: details of polynomials of degree < p vanish. PyWavelets calls
    these ``rec_lo`` and ``rec_hi``.

    Parameters
    ----------
    wavelet
        ``"haar"`` (the same as ``"db1"``) or ``"db1"`` … ``"db8"``: Daubechies' of order p, 2p taps.

    Returns
    -------
    tuple of torch.Tensor
        h and g, (2p,) float64.

    Raises
    ------
    ValueError
        If the wavelet is unknown.

    Notes
    -----
    Daubechies (1988), Comm. Pure Appl. Math. 41, 909, section 4: of the roots z, 1/z of Σ_k C(p−1+k, k)
    ((2 − z − 1/z)/4)ᵏ, the filter takes those inside the unit circle.
    """
    h, g = torch.from_numpy(_filters(_order(wavelet)).copy())
    return h, g


@cache
def _filters(p: int) -> np.ndarray:
    y = np.roots([math.comb(p - 1 + k, k) for k in reversed(range(p))]).astype(complex)
    half = 1 - 2 * y  # (z + 1/z) / 2
    z = half + np.sqrt(half**2 - 1)
    h = np.poly(np.concatenate([np.where(abs(z) < 1, z, 1 / z), -np.ones(p)])).real
    h *= math.sqrt(2) / h.sum()
    return np.stack([h, h[::-1] * (-1.0) ** np.arange(2 * p)])


def _order(wavelet: str) -> int:
    if not isinstance(wavelet, str) or wavelet not in WAVELETS:
        raise ValueError(f"wavelet: got {wavelet!r}; expected one of {', '.join(WAVELETS)}")
    return 1 if wavelet == "haar" else int(wavelet[2:])


def _bank(wavelet: str, like: torch.Tensor) -> torch.Tensor:
    """(2, 2p): h and g in the dtype and on the device of a tensor."""
    return torch.from_numpy(_filters(_order(wavelet))).to(like)


# ------------------------------------------------------------------------------------------- one level: definitions


@kernel
def analysis(x: torch.Tensor, wavelet: str) -> tuple[torch.Tensor, torch.Tensor]:
    """One level over the last axis, a_k = Σ_i h_i x_{2k+i−p+1} and d_k = Σ_i g_i x_{2k+i−p+1}: (…, n) to two
    (…, n/2).

    No check of the arguments, no gradient: `dwt` has both.
    """
    (h, g), m = _bank(wavelet, x), x.shape[-1] // 2
    p = len(h) // 2
    pairs = x.roll(p - 1, -1).unflatten(-1, (m, 2))  # (…, k, r): x_{2k+r−p+1}
    k, q = torch.arange(m, device=x.device)[:, None], torch.arange(p, device=x.device)
    windows = pairs[..., (k + q) % m, :].flatten(-2)  # (…, k, i): x_{2k+i−p+1}
    return windows @ h, windows @ g


@kernel
def synthesis(a: torch.Tensor, d: torch.Tensor, wavelet: str) -> torch.Tensor:
    """The inverse of `analysis`, x_{2k+r−p+1} = Σ_q h_{2q+r} a_{k−q} + g_{2q+r} d_{k−q} with r = 0, 1: two
    (…, m) to (…, 2m).
    """
    h, g = _bank(wavelet, a).unflatten(-1, (-1, 2))  # (p, 2): taps 2q + r
    p, m = len(h), a.shape[-1]
    k, q = torch.arange(m, device=a.device)[:, None], torch.arange(p, device=a.device)
    pairs = a[..., (k - q) % m] @ h + d[..., (k - q) % m] @ g  # (…, k, r)
    return pairs.flatten(-2).roll(1 - p, -1)


@kernel
def analysis2(x: torch.Tensor, wavelet: str) -> tuple[torch.Tensor, ...]:
    """One level over the last two axes, rows then columns: (…, n, m) to averages and horizontal, vertical,
    diagonal details, (…, n/2, m/2) each.
    """
    low, high = analysis.definition(x, wavelet)
    (a, h), (v, d) = (analysis.definition(part.mT, wavelet) for part in (low, high))
    return a.mT, h.mT, v.mT, d.mT


@kernel
def synthesis2(
    a: torch.Tensor, h: torch.Tensor, v: torch.Tensor, d: torch.Tensor, wavelet: str
) -> torch.Tensor:
    """The inverse of `analysis2`."""
    low, high = (synthesis.definition(*pair, wavelet) for pair in ((a.mT, h.mT), (v.mT, d.mT)))
    return synthesis.definition(low.mT, high.mT, wavelet)


# ---------------------------------------------------------------------------------- all levels, with gradients


class Level(torch.autograd.Function):
    """A level as torch differentiates it: orthogonal, so the gradient goes through its inverse."""

    @staticmethod
    def forward(made, wavelet, backend, *tensors):
        return made(*tensors, wavelet, backend=backend)

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.level = inputs[:3]

    @staticmethod
    def backward(ctx, *gradients):
        made, *how = ctx.level
        back = Level.apply(INVERSE[made], *how, *gradients)
        return None, None, None, *(back if isinstance(back, tuple) else (back,))

    @staticmethod
    def jvp(ctx, _made, _wavelet, _backend, *tangents):
        return Level.apply(*ctx.level, *tangents)


def _level(made, wavelet: str, backend: str, *tensors: torch.Tensor):
    """The level; as a function that torch differentiates only where that is asked for: it costs 40 µs."""
    if any(t.requires_grad or unpack_dual(t).tangent is not None for t in tensors):
        return Level.apply(made, wavelet, backend, *tensors)
    return made(*tensors, wavelet, backend=backend)


INVERSE = {analysis: synthesis, synthesis: analysis, analysis2: synthesis2, synthesis2: analysis2}


def dwt(x: torch.Tensor, wavelet: str, levels: int = 1, *, backend: str = "auto") -> list[torch.Tensor]:
    """The wavelet transform over the last axis: each level halves the averages of the one before.

    a_k = Σ_i h_i x_{2k+i−p+1}, d_k = Σ_i g_i x_{2k+i−p+1}, indices mod n; then the same with a for x. The
    transform is orthogonal: Σ x² is the sum of the squares of all coefficients.

    Parameters
    ----------
    x
        (…, n) float32 or float64, finite; n ≥ 2 a multiple of ``2**levels``, shorter than the filter or not.
    wavelet
        One of `WAVELETS`: ``"haar"``, ``"db1"`` … ``"db8"``.
    levels
        J ≥ 1.
    backend
        ``"auto"``, ``"torch"``, ``"numba"`` or ``"triton"``.

    Returns
    -------
    list of torch.Tensor
        Averages of level J, (…, n/2ᴶ), then the details, coarse to fine: (…, n/2ᴶ) … (…, n/2), as
        ``pywt.wavedec(x, wavelet, mode="periodization", level=levels)``. Differentiable, any number of
        times.

    Raises
    ------
    ValueError
        If the dtype, the size, the wavelet or the number of levels does not fit, or `x` holds NaN or
        infinity, or averages leave the range of its dtype.

    Notes
    -----
    Mallat (1989), IEEE PAMI 11, 674; Daubechies (1988).
    """
    return _forward(analysis, x, wavelet, levels, backend, dims=1)


def dwt2(x: torch.Tensor, wavelet: str, levels: int = 1, *, backend: str = "auto") -> list:
    """The wavelet transform over the last two axes: each level is one of `dwt` over both.

    Parameters
    ----------
    x
        (…, n, m) float32 or float64, finite; n and m ≥ 2 multiples of ``2**levels``.
    wavelet, levels, backend
        As in `dwt`.

    Returns
    -------
    list
        Averages of level J, (…, n/2ᴶ, m/2ᴶ), then a tuple a level, coarse to fine: details horizontal (those
        of axis −2), vertical (of axis −1) and diagonal (of both), as ``pywt.wavedec2(x, wavelet,
        mode="periodization", level=levels, axes=(-2, -1))``. Differentiable, any number of times.

    Raises
    ------
    ValueError
        As `dwt`.

    Notes
    -----
    Mallat (1989), IEEE PAMI 11, 674, section IV.
    """
    return _forward(analysis2, x, wavelet, levels, backend, dims=2)


def idwt(coefficients: list[torch.Tensor], wavelet: str, *, backend: str = "auto") -> torch.Tensor:
    """The inverse of `dwt`: x_{2k+r−p+1} = Σ_q h_{2q+r} a_{k−q} + g_{2q+r} d_{k−q}, r = 0, 1, level by level.

    Parameters
    ----------
    coefficients
        As `dwt` returns them: averages (…, m), then details coarse to fine, (…, m), (…, 2m), …; float32 or
        float64, finite.
    wavelet, backend
        As in `dwt`.

    Returns
    -------
    torch.Tensor
        x, (…, m 2ᴶ), the dtype of the coefficients. Differentiable, any number of times.

    Raises
    ------
    ValueError
        If shapes, dtypes or devices do not fit each other, the wavelet is unknown, or a coefficient is NaN or
        infinite.

    Notes
    -----
    Mallat (1989), IEEE PAMI 11, 674; Daubechies (1988).
    """
    return _backward(synthesis, coefficients, wavelet, backend, dims=1)


def idwt2(coefficients: list, wavelet: str, *, backend: str = "auto") -> torch.Tensor:
    """The inverse of `dwt2`.

    Parameters
    ----------
    coefficients
        As `dwt2` returns them: averages (…, n, m), then tuples (horizontal, vertical, diagonal) coarse to
        fine; float32 or float64, finite.
    wavelet, backend
        As in `dwt`.

    Returns
    -------
    torch.Tensor
        x, (…, n 2ᴶ, m 2ᴶ), the dtype of the coefficients. Differentiable, any number of times.

    Raises
    ------
    ValueError
        As `idwt`.

    Notes
    -----
    Mallat (1989), IEEE PAMI 11, 674, section IV.
    """
    return _backward(synthesis2, coefficients, wavelet, backend, dims=2)


def _forward(made, x, wavelet: str, levels: int, backend: str, dims: int) -> list:
    _order(wavelet)
    _check_tensor("x", x, dims)
    _check_levels(levels, x.shape[-dims:])
    a, details = x, []
    for _ in range(index(levels)):
        a, *d = _level(made, wavelet, backend, a)
        details.append(tuple(d) if dims == 2 else d[0])
    # h has no zero: what is not finite in x is not finite in the averages, which are few.
    if not bool(a.isfinite().all()):
        _check_finite("x", x)
        raise ValueError(
            f"x: got values up to {x.abs().max():g}, whose averages leave the range of {x.dtype}"
        )
    return [a, *reversed(details)]


def _backward(made, coefficients, wavelet: str, backend: str, dims: int) -> torch.Tensor:
    _order(wavelet)
    if not isinstance(coefficients, list | tuple) or len(coefficients) < 2:
        raise ValueError("coefficients: expected a list of averages and the details of at least one level")
    x, *levels = coefficients
    _check_tensor("coefficients[0]", x, dims)
    for j, details in enumerate(levels, 1):
        details = details if dims == 2 else (details,)
        _check_details(f"coefficients[{j}]", details, x, dims)
        x = _level(made, wavelet, backend, x, *details)
    # A coefficient that is not finite makes values of x so, some of them in even places: no tap is zero. The sum
    # is the fast question, but may overflow.
    some = x.detach()[..., ::2, :] if dims == 2 else x.detach()[..., ::2]
    if not bool(some.sum().isfinite()) and not bool(x.isfinite().all()):
        for j, part in enumerate(coefficients):
            for values in part if isinstance(part, list | tuple) else (part,):
                _check_finite(f"coefficients[{j}]", values)
        raise ValueError(f"coefficients: the values that they stand for leave the range of {x.dtype}")
    return x


def _check_tensor(name: str, x, dims: int) -> None:
    if not isinstance(x, torch.Tensor) or x.dtype not in FLOATS:
        got = x.dtype if isinstance(x, torch.Tensor) else type(x).__name__
        raise ValueError(f"{name}: got {got}; expected a float32 or float64 tensor")
    if x.ndim < dims or 0 in x.shape[-dims:]:
        raise ValueError(
            f"{name}: got shape {tuple(x.shape)}; expected {dims} or more axes, the last not empty"
        )


def _check_levels(levels, sizes: tuple[int, ...]) -> None:
    if isinstance(levels, bool) or not hasattr(levels, "__index__") or index(levels) < 1:
        raise ValueError(f"levels: got {levels!r}; expected an integer ≥ 1")
    for size in sizes:
        most = (size & -size).bit_length() - 1
        if most == 0:
            raise ValueError(f"x: got an axis of {size}; expected an even size")
        if index(levels) > most:
            raise ValueError(
                f"levels: got {levels} for an axis of {size}; expected at most {most}, one a factor 2"
            )


def _check_details(name: str, details, a: torch.Tensor, dims: int) -> None:
    if not isinstance(details, list | tuple) or len(details) != (1 if dims == 1 else 3):
        raise ValueError(f"{name}: expected a tuple of horizontal, vertical and diagonal details")
    for d in details:
        _check_tensor(name, d, dims)
        if (d.shape, d.dtype, d.device) != (a.shape, a.dtype, a.device):
            raise ValueError(
                f"{name}: got {d.dtype} {tuple(d.shape)} on {d.device}; expected {a.dtype} {tuple(a.shape)} on"
                f" {a.device}, as the averages of its level"
            )


def _check_finite(name: str, x: torch.Tensor) -> None:
    if not bool(x.isfinite().all()):
        raise ValueError(f"{name}: got NaN or infinity; expected finite values")


# ------------------------------------------------------------------------------------------------- CPU, numba
#
# In two dimensions columns go first: a row of averages and one of details are sums over 2p rows of x, and lie
# in the L1 cache when their own transform reads them. So x is read once from memory, and nothing else is.
# All sums run along rows, eight terms at a time, with one output at a time: LLVM vectorises a loop that it can
# prove free of overlaps in at most eight comparisons of addresses. Filters longer than 2 are filled up with
# zeros to 8 or 16.

PAD = 8  # of a row's even and odd samples, on both sides: more than half a filter


def _padded(pairs: np.ndarray) -> np.ndarray:
    """(2, p, 2) filters to (2, 2p'), p' = 1 or a multiple of 4."""
    p = pairs.shape[1]
    return np.pad(pairs, ((0, 0), (0, -p % 4 if p > 1 else 0), (0, 0))).reshape(2, -1)


@cache
def _taps(wavelet: str, dtype: torch.dtype) -> tuple[np.ndarray, np.ndarray, int]:
    """Filters (2, 2p') of the analysis, h and g; those of the synthesis, for r = 0 and 1, back to front; p."""
    p = _order(wavelet)
    bank = _filters(p).reshape(2, p, 2)  # (filter, q, r)
    kind = np.float32 if dtype == torch.float32 else np.float64
    forward, back = _padded(bank).astype(kind), _padded(bank.transpose(2, 1, 0)).astype(kind)
    return forward, np.ascontiguousarray(back.reshape(2, -1, 2)[:, ::-1].reshape(2, -1)), p


@numba_function(inline="always")
def wrap(rows, m):
    """Continue the periods rows[:, PAD : PAD + m] to both sides."""
    for f in range(2):
        for j in range(PAD):
            rows[f, PAD + m + j] = rows[f, PAD + j]
        for j in range(PAD):
            rows[f, PAD - 1 - j] = rows[f, PAD - 1 - j + m]


@numba_function(inline="always")
def filter_pair(u, v, s, t, c, n):
    """u_j = Σ_q c_{0,2q} s_{j+q} + c_{0,2q+1} t_{j+q}, v_j with c_1, for j < n."""
    for q in range(0, c.shape[1] // 2, 4):
        c0, c1, c2, c3 = c[0, 2 * q], c[0, 2 * q + 1], c[0, 2 * q + 2], c[0, 2 * q + 3]
        c4, c5, c6, c7 = c[0, 2 * q + 4], c[0, 2 * q + 5], c[0, 2 * q + 6], c[0, 2 * q + 7]
        d0, d1, d2, d3 = c[1, 2 * q], c[1, 2 * q + 1], c[1, 2 * q + 2], c[1, 2 * q + 3]
        d4, d5, d6, d7 = c[1, 2 * q + 4], c[1, 2 * q + 5], c[1, 2 * q + 6], c[1, 2 * q + 7]
        s0, t0 = s[q:], t[q:]
        if q == 0:
            for j in range(n):
                u[j] = 0
                v[j] = 0
        for j in range(n):
            u[j] += (
                c0 * s0[j] + c1 * t0[j] + c2 * s0[j + 1] + c3 * t0[j + 1]
                + c4 * s0[j + 2] + c5 * t0[j + 2] + c6 * s0[j + 3] + c7 * t0[j + 3]
            )  # fmt: skip
            v[j] += (
                d0 * s0[j] + d1 * t0[j] + d2 * s0[j + 1] + d3 * t0[j + 1]
                + d4 * s0[j + 2] + d5 * t0[j + 2] + d6 * s0[j + 3] + d7 * t0[j + 3]
            )  # fmt: skip


@numba_function(inline="always")
def combine(out, x, y, first, second, step, size, base, c):
    """out_{f,j} = Σ_q c_{f,2q} x_{first+q·step, j} + c_{f,2q+1} y_{second+q·step, j}, f = 0, 1; the rows base …
    base + size are periodic.
    """
    n = out.shape[1]
    if c.shape[1] == 2:
        c0, c1, d0, d1 = c[0, 0], c[0, 1], c[1, 0], c[1, 1]
        i0, j0 = base + first % size, base + second % size
        for j in range(n):
            out[0, j] = c0 * x[i0, j] + c1 * y[j0, j]
            out[1, j] = d0 * x[i0, j] + d1 * y[j0, j]
        return
    for q in range(0, c.shape[1] // 2, 4):
        i0, i1 = base + (first + q * step) % size, base + (first + (q + 1) * step) % size
        i2, i3 = base + (first + (q + 2) * step) % size, base + (first + (q + 3) * step) % size
        j0, j1 = base + (second + q * step) % size, base + (second + (q + 1) * step) % size
        j2, j3 = base + (second + (q + 2) * step) % size, base + (second + (q + 3) * step) % size
        for f in range(2):
            c0, c1, c2, c3 = c[f, 2 * q], c[f, 2 * q + 1], c[f, 2 * q + 2], c[f, 2 * q + 3]
            c4, c5, c6, c7 = c[f, 2 * q + 4], c[f, 2 * q + 5], c[f, 2 * q + 6], c[f, 2 * q + 7]
            for j in range(n):
                terms = (
                    c0 * x[i0, j] + c1 * y[j0, j] + c2 * x[i1, j] + c3 * y[j1, j]
                    + c4 * x[i2, j] + c5 * y[j2, j] + c6 * x[i3, j] + c7 * y[j3, j]
                )  # fmt: skip
                out[f, j] = terms if q == 0 else out[f, j] + terms


@numba_function(inline="always")
def analyse_row(x, i, a, d, k, c, p, both):
    """Row i, (m, 2), to row k, (m,), of a and of d; both: (2, m + 2 PAD), its even and odd samples."""
    m, late = a.shape[1], (p - 1) % 2
    if p == 1:
        c0, c1, d0, d1 = c[0, 0], c[0, 1], c[1, 0], c[1, 1]
        for j in range(m):
            a[k, j] = c0 * x[i, j, 0] + c1 * x[i, j, 1]
            d[k, j] = d0 * x[i, j, 0] + d1 * x[i, j, 1]
        return
    for j in range(m):
        both[0, PAD + j] = x[i, j, 0]
        both[1, PAD + j] = x[i, j, 1]
    wrap(both, m)
    # x_{2k−p+1} and x_{2k−p+2}: the even and the odd samples, or (p even) the odd and the next even ones.
    first, second = both[late, PAD - p // 2 :], both[1 - late, PAD - (p - 1) // 2 :]
    filter_pair(a[k], d[k], first, second, c, m)


@numba_function(inline="always")
def synthesise_row(a, d, k, x, i, c, p, both, out):
    """Row k, (m,), of a and of d to row i, (m, 2), of x; both: (2, m + 2 PAD), a and d; out: the same,
    x_{2k−p+1} and x_{2k−p+2}.
    """
    m, late = x.shape[1], (p - 1) % 2
    if p == 1:
        c0, c1, d0, d1 = c[0, 0], c[0, 1], c[1, 0], c[1, 1]
        for j in range(m):
            x[i, j, 0] = c0 * a[k, j] + c1 * d[k, j]
            x[i, j, 1] = d0 * a[k, j] + d1 * d[k, j]
        return
    for j in range(m):
        both[0, PAD + j] = a[k, j]
        both[1, PAD + j] = d[k, j]
    wrap(both, m)
    start = PAD + 1 - c.shape[1] // 2
    filter_pair(out[0], out[1], both[0, start:], both[1, start:], c, m + p // 2)
    even, odd = out[late, (p - 1) // 2 :], out[1 - late, p // 2 :]
    for j in range(m):
        x[i, j, 0] = even[j]
        x[i, j, 1] = odd[j]


@numba_function(fastmath={"contract"})
def _analyse_rows(x, a, d, c, p, start, stop):  # (R, m, 2) to (R, m) twice
    both = np.empty((2, a.shape[1] + 2 * PAD), x.dtype)
    for r in range(start, stop):
        analyse_row(x, r, a, d, r, c, p, both)


@numba_function(fastmath={"contract"})
def _synthesise_rows(a, d, x, c, p, start, stop):  # (R, m) twice to (R, m, 2)
    both = np.empty((2, a.shape[1] + 2 * PAD), x.dtype)
    out = np.empty_like(both)
    for r in range(start, stop):
        synthesise_row(a, d, r, x, r, c, p, both, out)


@numba_function(inline="always")
def analyse_squares(x, i, a, h, v, d, k, c):
    """The Haar level of the rows i and i + 1, (2m,), to row k, (m,), of all parts, at once: read back soon after
    it is written, with other vectors, a row of averages is waited for.
    """
    x0, x1, a, h, v, d = x[i], x[i + 1], a[k], h[k], v[k], d[k]
    c0, c1, d0, d1 = c[0, 0], c[0, 1], c[1, 0], c[1, 1]
    for j in range(len(a)):
        low0, high0 = c0 * x0[2 * j] + c1 * x1[2 * j], d0 * x0[2 * j] + d1 * x1[2 * j]
        low1, high1 = c0 * x0[2 * j + 1] + c1 * x1[2 * j + 1], d0 * x0[2 * j + 1] + d1 * x1[2 * j + 1]
        a[j], v[j] = c0 * low0 + c1 * low1, d0 * low0 + d1 * low1
        h[j], d[j] = c0 * high0 + c1 * high1, d0 * high0 + d1 * high1


@numba_function(fastmath={"contract"})
def _analyse_images(x, a, h, v, d, c, p, n, start, stop):  # (B 2n, 2m) to (B n, m) four times
    m = a.shape[1]
    halves, both = np.empty((2, 2 * m), x.dtype), np.empty((2, m + 2 * PAD), x.dtype)
    pairs = halves.reshape(2, m, 2)
    for row in range(start, stop):
        k, base = row % n, row // n * 2 * n
        if p == 1:
            analyse_squares(x, 2 * row, a, h, v, d, row, c)
            continue
        combine(halves, x, x, 2 * k - p + 1, 2 * k - p + 2, 2, 2 * n, base, c)
        analyse_row(pairs, 0, a, v, row, c, p, both)
        analyse_row(pairs, 1, h, d, row, c, p, both)


@numba_function(fastmath={"contract"})
def _synthesise_images(a, h, v, d, x, c, p, n, start, stop):  # (B n, m) four times to (B 2n, m, 2)
    m, late = a.shape[1], c.shape[1] // 2 - 1
    low, high = np.empty((2, m), x.dtype), np.empty((2, m), x.dtype)
    both = np.empty((2, m + 2 * PAD), x.dtype)
    out = np.empty_like(both)
    for row in range(start, stop):
        k, base = row % n, row // n * n
        combine(low, a, h, k - late, k - late, 1, n, base, c)
        combine(high, v, d, k - late, k - late, 1, n, base, c)
        for r in range(2):
            to = 2 * base + (2 * k + r - p + 1) % (2 * n)
            synthesise_row(low, high, r, x, to, c, p, both, out)


def _run(function, arrays: list[torch.Tensor], *how, rows: int) -> None:
    work = sum(array.numel() for array in arrays) * how[1]
    over_rows(partial(function, *(array.contiguous().numpy() for array in arrays), *how), rows, work)


HUGE = 2**21  # bytes of a huge page


def _outputs(count: int, shape: tuple[int, ...], like: torch.Tensor) -> list[torch.Tensor]:
    """New tensors, in memory of numpy, which asks for huge pages where there are 4 MB or more; aligned, so that
    it gets them: a page fault each 4 kB would cost as much time as the transform.
    """
    kind = np.dtype(np.float32 if like.dtype == torch.float32 else np.float64)
    size = count * math.prod(shape) * kind.itemsize
    memory = np.empty(size + HUGE * (size >= 2 * HUGE), np.uint8)
    start = -memory.ctypes.data % HUGE if len(memory) > size else 0
    return [*map(torch.from_numpy, memory[start : start + size].view(kind).reshape(count, *shape))]


@analysis.backend("numba", needs=("numba",))
def _analysis_numba(x, wavelet):
    (forward, _, p), (*batch, n) = _taps(wavelet, x.dtype), x.shape
    parts, rows = _outputs(2, (*batch, n // 2), x), math.prod(batch)
    arrays = [x.reshape(rows, n // 2, 2), *(part.view(rows, n // 2) for part in parts)]
    _run(_analyse_rows, arrays, forward, p, rows=rows)
    return tuple(parts)


@synthesis.backend("numba", needs=("numba",))
def _synthesis_numba(a, d, wavelet):
    (_, back, p), (*batch, m) = _taps(wavelet, a.dtype), a.shape
    (x,), rows = _outputs(1, (*batch, 2 * m), a), math.prod(batch)
    _run(_synthesise_rows, [*(t.reshape(rows, m) for t in (a, d)), x.view(rows, m, 2)], back, p, rows=rows)
    return x


@analysis2.backend("numba", needs=("numba",))
def _analysis2_numba(x, wavelet):
    (forward, _, p), (*batch, n, m) = _taps(wavelet, x.dtype), x.shape
    parts, rows = _outputs(4, (*batch, n // 2, m // 2), x), math.prod(batch) * n // 2
    arrays = [x.reshape(2 * rows, m), *(part.view(rows, m // 2) for part in parts)]
    _run(_analyse_images, arrays, forward, p, n // 2, rows=rows)
    return tuple(parts)


@synthesis2.backend("numba", needs=("numba",))
def _synthesis2_numba(a, h, v, d, wavelet):
    (_, back, p), (*batch, n, m) = _taps(wavelet, a.dtype), a.shape
    (x,), rows = _outputs(1, (*batch, 2 * n, 2 * m), a), math.prod(batch) * n
    arrays = [*(t.reshape(rows, m) for t in (a, h, v, d)), x.view(2 * rows, m, 2)]
    _run(_synthesise_images, arrays, back, p, n, rows=rows)
    return x


# ------------------------------------------------------------------------------------------------ GPU, Triton
#
# A program makes BLOCK neighbouring outputs of one row, in two dimensions of all parts: each value of x is
# read from memory once, and 2p (in two dimensions p²) times from the cache.


@triton_function
def triton_analyse_rows(x, a, d, bank, m, P: tl.constexpr, BLOCK: tl.constexpr):
    """(R, 2m) to (R, m) twice; bank: (2, 2P)."""
    r = tl.program_id(0).to(tl.int64)
    k = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    low = tl.zeros([BLOCK], x.dtype.element_ty)
    high = tl.zeros([BLOCK], x.dtype.element_ty)
    for i in tl.static_range(2 * P):
        at = (2 * k + i + 2 * m * P - P + 1) % (2 * m)
        value = tl.load(x + r * 2 * m + at, mask=k < m, other=0.0)
        low += tl.load(bank + i) * value
        high += tl.load(bank + 2 * P + i) * value
    tl.store(a + r * m + k, low, mask=k < m)
    tl.store(d + r * m + k, high, mask=k < m)


@triton_function
def triton_synthesise_rows(a, d, x, bank, m, P: tl.constexpr, BLOCK: tl.constexpr):
    """(R, m) twice to (R, 2m); bank: (2, 2P)."""
    r = tl.program_id(0).to(tl.int64)
    k = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    left = tl.zeros([BLOCK], x.dtype.element_ty)
    right = tl.zeros([BLOCK], x.dtype.element_ty)
    for q in tl.static_range(P):
        at = r * m + (k + m * P - q) % m
        low, high = tl.load(a + at, mask=k < m, other=0.0), tl.load(d + at, mask=k < m, other=0.0)
        left += tl.load(bank + 2 * q) * low + tl.load(bank + 2 * P + 2 * q) * high
        right += tl.load(bank + 2 * q + 1) * low + tl.load(bank + 2 * P + 2 * q + 1) * high
    to = 2 * k + 2 * m * P - P + 1
    tl.store(x + r * 2 * m + to % (2 * m), left, mask=k < m)
    tl.store(x + r * 2 * m + (to + 1) % (2 * m), right, mask=k < m)


@triton_function
def triton_analyse_images(x, a, h, v, d, bank, n, m, P: tl.constexpr, BLOCK: tl.constexpr):
    """(B 2n, 2m) to (B n, m) four times, one row of them a program; bank: (2, 2P)."""
    row = tl.program_id(0).to(tl.int64)
    base, k = row // n * 2 * n, row % n
    j = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    aa = tl.zeros([BLOCK], x.dtype.element_ty)
    hh = tl.zeros([BLOCK], x.dtype.element_ty)
    vv = tl.zeros([BLOCK], x.dtype.element_ty)
    dd = tl.zeros([BLOCK], x.dtype.element_ty)
    for i in tl.static_range(2 * P):
        column = (2 * j + i + 2 * m * P - P + 1) % (2 * m)
        low = tl.zeros([BLOCK], x.dtype.element_ty)
        high = tl.zeros([BLOCK], x.dtype.element_ty)
        for t in tl.static_range(2 * P):
            line = base + (2 * k + t + 2 * n * P - P + 1) % (2 * n)
            value = tl.load(x + line * 2 * m + column, mask=j < m, other=0.0)
            low += tl.load(bank + t) * value
            high += tl.load(bank + 2 * P + t) * value
        average, detail = tl.load(bank + i), tl.load(bank + 2 * P + i)
        aa += average * low
        hh += average * high
        vv += detail * low
        dd += detail * high
    tl.store(a + row * m + j, aa, mask=j < m)
    tl.store(h + row * m + j, hh, mask=j < m)
    tl.store(v + row * m + j, vv, mask=j < m)
    tl.store(d + row * m + j, dd, mask=j < m)


@triton_function
def triton_synthesise_images(a, h, v, d, x, bank, n, m, P: tl.constexpr, BLOCK: tl.constexpr):
    """(B n, m) four times to (B 2n, 2m), two rows of it a program; bank: (2, 2P)."""
    row = tl.program_id(0).to(tl.int64)
    base, k = row // n * n, row % n
    j = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    column = 2 * j + 2 * m * P - P + 1
    for s in tl.static_range(2):
        left = tl.zeros([BLOCK], x.dtype.element_ty)
        right = tl.zeros([BLOCK], x.dtype.element_ty)
        for q in tl.static_range(P):
            low = tl.zeros([BLOCK], x.dtype.element_ty)
            high = tl.zeros([BLOCK], x.dtype.element_ty)
            for t in tl.static_range(P):
                at = (base + (k + n * P - t) % n) * m + (j + m * P - q) % m
                average, detail = tl.load(bank + 2 * t + s), tl.load(bank + 2 * P + 2 * t + s)
                low += average * tl.load(a + at, mask=j < m, other=0.0)
                low += detail * tl.load(h + at, mask=j < m, other=0.0)
                high += average * tl.load(v + at, mask=j < m, other=0.0)
                high += detail * tl.load(d + at, mask=j < m, other=0.0)
            left += tl.load(bank + 2 * q) * low + tl.load(bank + 2 * P + 2 * q) * high
            right += tl.load(bank + 2 * q + 1) * low + tl.load(bank + 2 * P + 2 * q + 1) * high
        line = (2 * base + (2 * k + s + 2 * n * P - P + 1) % (2 * n)) * 2 * m
        tl.store(x + line + column % (2 * m), left, mask=j < m)
        tl.store(x + line + (column + 1) % (2 * m), right, mask=j < m)


def _launch(function, inputs: list, outputs: list, wavelet: str, rows: int, *sizes: int) -> None:
    if rows:
        block = min(256, 1 << (sizes[-1] - 1).bit_length())
        tensors = [*(t.contiguous() for t in inputs), *outputs, _bank(wavelet, inputs[0])]
        function[rows, -(-sizes[-1] // block)](*tensors, *sizes, P=_order(wavelet), BLOCK=block)


@analysis.backend("triton", needs=("triton",))
def _analysis_triton(x, wavelet):
    *batch, n = x.shape
    parts = [x.new_empty((*batch, n // 2)) for _ in range(2)]
    _launch(triton_analyse_rows, [x], parts, wavelet, math.prod(batch), n // 2)
    return tuple(parts)


@synthesis.backend("triton", needs=("triton",))
def _synthesis_triton(a, d, wavelet):
    *batch, m = a.shape
    x = a.new_empty((*batch, 2 * m))
    _launch(triton_synthesise_rows, [a, d], [x], wavelet, math.prod(batch), m)
    return x


@analysis2.backend("triton", needs=("triton",))
def _analysis2_triton(x, wavelet):
    *batch, n, m = x.shape
    parts = [x.new_empty((*batch, n // 2, m // 2)) for _ in range(4)]
    _launch(triton_analyse_images, [x], parts, wavelet, math.prod(batch) * n // 2, n // 2, m // 2)
    return tuple(parts)


@synthesis2.backend("triton", needs=("triton",))
def _synthesis2_triton(a, h, v, d, wavelet):
    *batch, n, m = a.shape
    x = a.new_empty((*batch, 2 * n, 2 * m))
    _launch(triton_synthesise_images, [a, h, v, d], [x], wavelet, math.prod(batch) * n, n, m)
    return x
