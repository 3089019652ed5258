"""The noising process run backwards with an exact score: mixtures of Gaussians, and spins (the chapters of
`dynamics`).

Noising dx = −x dt + √2 dW makes x_t = s a + √Δ z of data a, with s = e⁻ᵗ and Δ = 1 − e⁻²ᵗ. With the score S =
∇ log p_t, one family of processes leads back through the same laws p_t (Anderson 1982; Song et al. 2021): in
reverse time τ = −t,

    dx = [x + (1 + η) S(x, t)] dτ + √(2η) dW,

the probability-flow equation at η = 0 and the reverse diffusion at η = 1. On a grid t_0 > t_1 > … > t_n ≥ 0 a
step of Euler and Maruyama with δ_k = t_k − t_{k+1} is

    x ← x + δ_k [x + (1 + η) S(x, t_k)] + √(2ηδ_k) z.

Both scores here are S = (s E[a | x_t = x] − x) / Γ, so a step is A x + C E[a | x] + √(2ηδ) z with three numbers
of the step, A = 1 + δ (1 − (1 + η)/Γ) and C = δ (1 + η) s/Γ.

Random numbers: z of row r, column c in step k is the normal number of site i = r d + c at step ``first_step +
k``, replica 0 (see `philox`): row r is moved alike in every batch that holds it. The definitions are exact up
to the rounding of the input's dtype; the fast versions take float32. Their step differs from the definition's
in float64 by the rounding of its terms and by 10⁻⁶ (1 + |z|) √(2ηδ); and where Γ is small, a point between two
data takes the posterior weights of a point a few units of x's last place away, because the exponents are
formed in float32.
"""

from __future__ import annotations

import math
from numbers import Real
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy import float32, int32, uint32

from .dispatch import kernel, numba_function, over_rows, triton_function
from .philox import (
    LOW,
    checked_count,
    checked_seed,
    logarithm_of_tile,
    normal,
    pairs_of_tile,
    philox,
    rounds,
    triton_pair,
)

if TYPE_CHECKING:
    import triton.language as tl

__all__ = ["gaussian_mixture", "spins_in_fields"]

FLOATS = torch.float32, torch.float64


# ------------------------------------------------------------------------------------------------ definitions


@kernel
def gaussian_mixture(
    x: torch.Tensor,
    means: torch.Tensor,
    times: torch.Tensor,
    seed: int,
    eta: float = 1.0,
    weights: torch.Tensor | None = None,
    variance: float = 0.0,
    first_step: int = 0,
) -> torch.Tensor:
    """From noise at t_0 to the data Σ_k w_k N(m_k, v 1) at t_n: S = (s Σ_k p_k m_k − x) / Γ with p_k ∝ w_k
    exp(−|x − s m_k|²/2Γ) and Γ = v s² + Δ.

    The score here is (s E[m | x] − x)/Γ with the centre m of the component that x comes from. With v = 0 the
    data are the K points m_k themselves.

    Parameters
    ----------
    x
        (B, d) float32 or float64, the trajectories at time t_0; left as they are. B may be 0.
    means
        m_k, (K, d), the dtype of `x`.
    times
        (n + 1,) float64, n ≥ 1: t_0 > t_1 > … > t_n ≥ 0, both ends of the run included.
    seed
        The Philox key, in [0, 2⁶⁴): see `physgen.kernels.philox.key`.
    eta
        η ≥ 0: 0 the probability-flow equation, 1 the reverse diffusion.
    weights
        w_k, (K,) float64, none negative, sum 1; None makes them equal.
    variance
        v ≥ 0, of each component in each direction.
    first_step
        The step that the first one counts as: a run over ``times[:k + 1]`` and then, with ``first_step=k``,
        over ``times[k:]`` is the run in one part.

    Returns
    -------
    torch.Tensor
        (B, d), the dtype of `x`: the trajectories at time t_n. Not differentiable.

    Raises
    ------
    ValueError
        If a shape, dtype, device or value does not fit, or B d ≥ 2³⁴.

    Notes
    -----
    Anderson (1982), Stoch. Proc. Appl. 12, 313; Song et al. (2021), ICLR, section 4.
    """
    for k, (t, delta) in enumerate(_steps(times)):
        s, gamma = math.exp(-t), variance * math.exp(-2 * t) - math.expm1(-2 * t)
        squares = (x[:, None] - s * means).square().sum(2)  # (B, K)
        p = (weights.log().to(x) - squares / (2 * gamma)).softmax(1)
        score = (s * p @ means - x) / gamma
        z = _normals(seed, first_step + k, x) if eta else 0
        x = x + delta * (x + (1 + eta) * score) + math.sqrt(2 * eta * delta) * z
    return x


@kernel
def spins_in_fields(
    x: torch.Tensor,
    fields: torch.Tensor,
    times: torch.Tensor,
    seed: int,
    eta: float = 1.0,
    weights: torch.Tensor | None = None,
    first_step: int = 0,
) -> torch.Tensor:
    """From noise at t_0 to spins a ∈ {±1}ᵈ at t_n with the law Σ_q w_q Π_i e^{φ_q a_i}/(2 cosh φ_q): S = (s
    E[a|x] − x) / Δ.

    With u = s x/Δ: E[a_i|x] = Σ_q π_q tanh(φ_q + u_i), π_q ∝ w_q Π_i cosh(φ_q + u_i)/cosh φ_q. One field makes
    independent spins, each moving alone; the Curie–Weiss magnet at any finite d is such a mixture, by the
    transformation of Hubbard and Stratonovich.

    Parameters
    ----------
    x
        (B, d) float32 or float64, the trajectories at time t_0; left as they are. B may be 0.
    fields
        φ_q, (Q,) float64, Q ≥ 1: a spin in field φ is +1 with probability 1 / (1 + e^{−2φ}).
    times, seed, eta, first_step
        As in `gaussian_mixture`.
    weights
        w_q, (Q,) float64, none negative, sum 1; None makes them equal.

    Returns
    -------
    torch.Tensor
        (B, d), the dtype of `x`: the trajectories at time t_n. Not differentiable.

    Raises
    ------
    ValueError
        If a shape, dtype, device or value does not fit, or B d ≥ 2³⁴.

    Notes
    -----
    Hubbard (1959), Phys. Rev. Lett. 3, 77; the score as in `gaussian_mixture`.
    """
    phi = fields.to(x)[:, None]
    for k, (t, delta) in enumerate(_steps(times)):
        s, gamma = math.exp(-t), -math.expm1(-2 * t)
        y = phi + s / gamma * x[:, None]  # (B, Q, d)
        posterior = (weights.log().to(x) + (_log_cosh(y) - _log_cosh(phi)).sum(2)).softmax(1)
        score = (s * (posterior[:, :, None] * y.tanh()).sum(1) - x) / gamma
        z = _normals(seed, first_step + k, x) if eta else 0
        x = x + delta * (x + (1 + eta) * score) + math.sqrt(2 * eta * delta) * z
    return x


def _steps(times: torch.Tensor) -> list[tuple[float, float]]:
    """The start and the length of each step."""
    return list(zip(times[:-1].tolist(), (times[:-1] - times[1:]).tolist(), strict=True))


def _normals(seed: int, step: int, x: torch.Tensor) -> torch.Tensor:
    """The normal numbers of one step, in the shape and dtype of x: site i has stream 1 + ⌊i/4⌋, word i mod 4."""
    streams = torch.arange(1, 1 + (x.numel() + 3) // 4, device=x.device)
    z = normal(philox.definition(seed, step & LOW, step >> 32, 0, streams))
    return z.T.flatten()[: x.numel()].view(x.shape).to(x)


def _log_cosh(y: torch.Tensor) -> torch.Tensor:
    return y.abs() + torch.log1p(torch.exp(-2 * y.abs())) - math.log(2)


# ----------------------------------------------------------------------------------------------------- inputs


def _kind(value) -> str:
    return str(value.dtype) if isinstance(value, torch.Tensor) else type(value).__name__


def _finite(name: str, value: torch.Tensor) -> torch.Tensor:
    # The sum is the fast question, but may overflow.
    if not bool(value.sum().isfinite()) and not bool(value.isfinite().all()):
        raise ValueError(f"{name}: got NaN or infinity; expected finite values")
    return value.detach().contiguous()


def _number(name: str, value) -> float:
    if isinstance(value, bool) or not isinstance(value, Real) or not 0 <= value < math.inf:
        raise ValueError(f"{name}: got {value!r}; expected a finite number >= 0")
    return float(value)


def _trajectories(x) -> torch.Tensor:
    if not isinstance(x, torch.Tensor) or x.dtype not in FLOATS:
        raise ValueError(f"x: got {_kind(x)}; expected a float32 or float64 tensor")
    if x.ndim != 2 or x.shape[1] == 0:
        raise ValueError(f"x: got shape {tuple(x.shape)}; expected (B, d) with d >= 1")
    if x.numel() >= 2**34:
        raise ValueError(f"x: got shape {tuple(x.shape)}; expected fewer than 2**34 numbers, 4 a stream")
    return _finite("x", x)


def _times(times) -> torch.Tensor:
    """The grid, on the CPU."""
    if not isinstance(times, torch.Tensor) or times.dtype != torch.float64:
        raise ValueError(f"times: got {_kind(times)}; expected a float64 tensor")
    if times.ndim != 1 or len(times) < 2:
        raise ValueError(f"times: got shape {tuple(times.shape)}; expected (n + 1,) with n >= 1")
    times = _finite("times", times).cpu()
    if not bool((times[1:] < times[:-1]).all()) or times[-1] < 0:
        raise ValueError("times: got a grid that rises, rests or ends below 0; expected t_0 > … > t_n >= 0")
    return times


def _list(name: str, value, count: int | None, device: torch.device) -> torch.Tensor:
    """A finite float64 vector of a given length, or of any but 0."""
    if not isinstance(value, torch.Tensor) or value.dtype != torch.float64:
        raise ValueError(f"{name}: got {_kind(value)}; expected a float64 tensor")
    if value.ndim != 1 or len(value) != (count or max(1, len(value))):
        raise ValueError(f"{name}: got shape {tuple(value.shape)}; expected ({count or 'Q >= 1'},)")
    if value.device != device:
        raise ValueError(f"{name}: got device {value.device}; expected {device}, where x is")
    return _finite(name, value)


def _weights(weights, count: int, device: torch.device) -> torch.Tensor:
    if weights is None:
        return torch.full((count,), 1 / count, dtype=torch.float64, device=device)
    weights = _list("weights", weights, count, device)
    if bool((weights < 0).any()) or abs(float(weights.sum()) - 1) > 1e-9:
        raise ValueError(
            f"weights: got a least one of {float(weights.min()):g} and a sum of {float(weights.sum()):.12g};"
            " expected none below 0 and the sum 1"
        )
    return weights


def _run(times, seed, eta, first_step) -> dict:
    """What both processes take."""
    return {
        "times": _times(times),
        "seed": checked_seed(seed),
        "eta": _number("eta", eta),
        "first_step": checked_count("first_step", first_step),
    }


@gaussian_mixture.inputs
def _mixture_inputs(x, means, times, seed, eta, weights, variance, first_step) -> dict:
    x = _trajectories(x)
    if not isinstance(means, torch.Tensor) or (means.dtype, means.device) != (x.dtype, x.device):
        raise ValueError(f"means: got {_kind(means)}; expected {x.dtype} on {x.device}, as x")
    if means.ndim != 2 or len(means) == 0 or means.shape[1] != x.shape[1]:
        raise ValueError(f"means: got shape {tuple(means.shape)}; expected (K, {x.shape[1]}) with K >= 1")
    known = {"x": x, "means": _finite("means", means), "variance": _number("variance", variance)}
    return known | _run(times, seed, eta, first_step) | {"weights": _weights(weights, len(means), x.device)}


@spins_in_fields.inputs
def _spin_inputs(x, fields, times, seed, eta, weights, first_step) -> dict:
    x = _trajectories(x)
    fields = _list("fields", fields, None, x.device)
    known = {"x": x, "fields": fields, "weights": _weights(weights, len(fields), x.device)}
    return known | _run(times, seed, eta, first_step)


# ------------------------------------------------------------------------------------------------- CPU, numba
#
# Four rows of d numbers have d streams of four words. So a tile holds GROUPS groups of four rows, as 4d lanes
# of GROUPS numbers: lane r = 4q + l of group g is number 4dg + r of the tile, and word l of stream q of that
# group. All loops run along lanes, and a tile stays in the cache for all steps. A tile is always whole, rows
# that do not exist included: then the place of a row in the batch fixes the instructions that move it, and
# its bits.


def _table(times: torch.Tensor, eta: float, variance: float) -> torch.Tensor:
    """(n, 4) float64: A, C and √(2ηδ) of each step, and the slope s/Γ of its exponents."""
    rows = []
    for t, delta in _steps(times):  # one by one: a step has the same numbers in every grid that holds it
        s, gamma = math.exp(-t), variance * math.exp(-2 * t) - math.expm1(-2 * t)
        pull = delta * (1 + eta) / gamma
        rows.append((1 + delta - pull, pull * s, math.sqrt(2 * eta * delta), s / gamma))
    return torch.tensor(rows, dtype=torch.float64)


def _mixture_tables(means, times, eta, weights, variance) -> tuple[torch.Tensor, ...]:
    """Float64 tables of the components whose weight is not 0: centres (K, d), the same less their mean, (n, K)
    constant terms of the exponents log w_k + (s/Γ) m_k·x − s²|m_k|²/2Γ, and (n, 4) as `_table` gives.

    What all components share is taken off the exponents: less is left to be rounded.
    """
    m, w = means[weights > 0].cpu().double(), weights[weights > 0].cpu()
    c, steps = m.mean(0), _table(times, eta, variance)
    half_s_slope = steps[:, 3:] * torch.exp(-times[:-1, None]) / 2
    constant = w.log() - half_s_slope * ((m - c) * (m + c)).sum(1)
    return m, m - c, constant, steps


LARGEST = 1e15  # slopes and constants of exponents beyond it leave float32 no room


def _mixture_fits(x, means, times, eta, weights, variance, **_) -> bool | str:
    m, _centred, constant, steps = _mixture_tables(means, times, eta, weights, variance)
    return _float32(x, max(float(table.abs().max()) for table in (m, constant, steps)))


def _float32(x, largest: float) -> bool | str:
    if x.dtype != torch.float32:
        return f"x is {x.dtype}, and this version takes torch.float32"
    return largest < LARGEST or f"a coefficient of {largest:g} leaves no room in float32"


SATURATED = 20.0  # fields to this size leave e^{±2φ} and its products in the range of float32


def _spins_fit(x, fields, times, eta, **_) -> bool | str:
    if len(fields) > 1 and float(fields.abs().max()) > SATURATED:
        return f"among several fields one is beyond ±{SATURATED:g}"
    return _float32(x, max(float(table.abs().max()) for table in (fields, _table(times, eta, 0.0))))


def _groups(d: int) -> int:
    """Groups of four rows in a tile: whole vectors, and at most 1024 groups times columns where d allows it."""
    return max(16, 256 >> max(0, (d - 1).bit_length() - 2))


@numba_function
def _load(x, tile, first):
    """Lanes from the flat numbers, from number `first` on; zeros where there are none."""
    lanes, groups = tile.shape
    part = x[first : first + lanes * groups]
    if len(part) == lanes * groups:
        block = part.reshape(groups, lanes)
        for r in range(lanes):
            for g in range(groups):
                tile[r, g] = block[g, r]
    else:
        tile[:] = float32(0)
        for i in range(len(part)):
            tile[i % lanes, i // lanes] = part[i]


@numba_function
def _store(x, tile, first):
    """The way back."""
    lanes, groups = tile.shape
    part = x[first : first + lanes * groups]
    if len(part) == lanes * groups:
        block = part.reshape(groups, lanes)
        for g in range(groups):
            for r in range(lanes):
                block[g, r] = tile[r, g]
    else:
        for i in range(len(part)):
            part[i] = tile[i % lanes, i // lanes]


@numba_function(fastmath=True, error_model="numpy")
def draw_tile(z, scratch, key, step, first, stride):
    """z (4, G): the normals of words 0 … 3 of the streams first, first + stride, …; scratch: (6, G) uint32."""
    numbers = scratch.view(np.float32)
    k0, k1, c0, c1 = uint32(key[0]), uint32(key[1]), uint32(step), uint32(step >> 32)
    w0, w1, w2, w3 = scratch[0], scratch[1], scratch[2], scratch[3]
    y, exponent, bits = numbers[4], numbers[5], scratch[4].view(np.int32)
    first, stride = uint32(first), uint32(stride)
    for j in range(len(w0)):
        stream = uint32(first + uint32(stride * uint32(j)))
        w0[j], w1[j], w2[j], w3[j] = rounds(k0, k1, c0, c1, uint32(0), stream)
    logarithm_of_tile(w0, bits, y, exponent)
    pairs_of_tile(w0, w1, y, exponent, z[0], z[1])
    logarithm_of_tile(w2, bits, y, exponent)
    pairs_of_tile(w2, w3, y, exponent, z[2], z[3])


@numba_function(inline="always", error_model="numpy")
def _tanh(y):
    """tanh of a float32 as a quotient of polynomials, within 4·10⁻⁷; ±1 beyond ±7.9 (Eigen 3.3)."""
    y = min(max(y, float32(-7.90531110763549805)), float32(7.90531110763549805))
    v = y * y
    p = float32(-2.76076847742355e-16) * v + float32(2.00018790482477e-13)
    p = p * v - float32(8.60467152213735e-11)
    p = p * v + float32(5.12229709037114e-08)
    p = p * v + float32(1.48572235717979e-05)
    p = p * v + float32(6.37261928875436e-04)
    p = p * v + float32(4.89352455891786e-03)
    q = float32(1.19825839466702e-06) * v + float32(1.18534705686654e-04)
    q = q * v + float32(2.26843463243900e-03)
    q = q * v + float32(4.89352518554385e-03)
    return y * p / q


@numba_function(inline="always", error_model="numpy")
def _power(u):
    """2^f and the bits of 2^k, k the integer next to u, f = u − k: 2^u is their product; |u| ≤ 126."""
    k = np.floor(u + float32(0.5))
    f = u - k
    p = float32(1.535336188319500e-4) * f + float32(1.339887440266574e-3)
    p = p * f + float32(9.618437357674640e-3)
    p = p * f + float32(5.550332471162809e-2)
    p = p * f + float32(2.402264791363012e-1)
    p = p * f + float32(6.931472028550421e-1)
    return p * f + float32(1), int32((int32(k) + int32(127)) << int32(23))


@numba_function(fastmath=True, error_model="numpy")
def _move(x, mean, z, kept, pull, noise):
    for j in range(len(x)):
        x[j] = kept * x[j] + pull * mean[j] + noise * z[j]


@numba_function(fastmath=True, error_model="numpy")
def _move_spins(x, z, phi, kept, pull, noise, slope):
    for j in range(len(x)):
        x[j] = kept * x[j] + pull * _tanh(phi + slope * x[j]) + noise * z[j]


@numba_function
def _run_spins(x, phi, steps, key, first_step, groups, start, stop):
    """One field: numbers are independent, so x is a list of them."""
    tile, z = np.empty((4, groups), np.float32), np.zeros((4, groups), np.float32)
    scratch = np.empty((6, groups), np.uint32)
    flat, flat_z = tile.reshape(-1), z.reshape(-1)
    for block in range(start, stop):
        _load(x, tile, 4 * groups * block)
        for k in range(len(steps)):
            kept, pull, noise, slope = steps[k]
            if noise != 0:
                draw_tile(z, scratch, key, first_step + k, 1 + groups * block, 1)
            _move_spins(flat, flat_z, phi, kept, pull, noise, slope)
        _store(x, tile, 4 * groups * block)


@numba_function(fastmath=True, error_model="numpy")
def _exponents(x, row, slope, constant, out):
    """out = constant + slope (row · x), x (d, G); two columns go in one pass."""
    last = len(x) - 1
    a, b, v, w = float32(slope * row[0]), float32(slope * row[last]), x[0], x[last]
    if last == 0:
        for j in range(len(out)):
            out[j] = constant + a * v[j]
    else:
        for j in range(len(out)):
            out[j] = constant + a * v[j] + b * w[j]
    for c in range(1, last):
        a, v = float32(slope * row[c]), x[c]
        for j in range(len(out)):
            out[j] += a * v[j]


@numba_function(fastmath=True, error_model="numpy")
def _mean_of_two(x, mean, m, centred, slope, constant, p):
    """(m_0 + m_1)/2 + (m_1 − m_0)/2 tanh((E_1 − E_0)/2), half of E_1 − E_0 being an exponent like the others."""
    _exponents(x, centred[1], slope, float32(0.5) * (constant[1] - constant[0]), p)
    for j in range(len(p)):
        p[j] = _tanh(p[j])
    for c in range(len(x)):
        middle, half, out = float32(0.5) * (m[0, c] + m[1, c]), float32(0.5) * (m[1, c] - m[0, c]), mean[c]
        for j in range(len(out)):
            out[j] = middle + half * p[j]


@numba_function(fastmath=True, error_model="numpy")
def _mean_of_many(x, mean, m, centred, slope, constant, p, top, total, whole):
    """Σ_k p_k m_k; p: (K, G), whole: (G,) int32."""
    scales = whole.view(np.float32)
    top[:] = float32(-3e38)
    for k in range(len(m)):
        pk = p[k]
        _exponents(x, centred[k], slope, constant[k], pk)
        for j in range(len(top)):
            top[j] = max(top[j], pk[j])
    mean[:] = float32(0)
    total[:] = float32(0)
    for k in range(len(m)):
        pk = p[k]
        for j in range(len(top)):
            u = max(float32(1 / math.log(2)) * (pk[j] - top[j]), float32(-126))
            pk[j], whole[j] = _power(u)
        a, out = m[k, 0], mean[0]
        for j in range(len(top)):
            weight = pk[j] * scales[j]
            pk[j] = weight
            total[j] += weight
            out[j] += a * weight
        for c in range(1, len(x)):
            a, out = m[k, c], mean[c]
            for j in range(len(out)):
                out[j] += a * pk[j]
    for j in range(len(total)):
        total[j] = float32(1) / total[j]
    for c in range(len(x)):
        out = mean[c]
        for j in range(len(out)):
            out[j] *= total[j]


@numba_function
def _run_mixture(x, d, m, centred, constants, steps, key, first_step, groups, start, stop):
    tile, mean = np.empty((4 * d, groups), np.float32), np.empty((4 * d, groups), np.float32)
    z, scratch = np.zeros((4, groups), np.float32), np.empty((6, groups), np.uint32)
    p, top, total = (
        np.empty((len(m), groups), np.float32),
        np.empty(groups, np.float32),
        np.empty(groups, np.float32),
    )
    whole = np.empty(groups, np.int32)
    if len(m) == 1:
        for r in range(4 * d):
            mean[r] = m[0, r % d]
    for block in range(start, stop):
        _load(x, tile, 4 * d * groups * block)
        for k in range(len(steps)):
            kept, pull, noise, slope = steps[k]
            for a in range(0, 4 * d, d):
                rows, means = tile[a : a + d], mean[a : a + d]
                if len(m) == 2:
                    _mean_of_two(rows, means, m, centred, slope, constants[k], p[0])
                elif len(m) > 2:
                    _mean_of_many(rows, means, m, centred, slope, constants[k], p, top, total, whole)
            for q in range(d):
                if noise != 0:
                    draw_tile(z, scratch, key, first_step + k, 1 + d * groups * block + q, d)
                for r in range(4):
                    _move(tile[4 * q + r], mean[4 * q + r], z[r], kept, pull, noise)
        _store(x, tile, 4 * d * groups * block)


@numba_function(fastmath=True, error_model="numpy")
def _up_and_down(x, slope, up, down, whole):
    """up = 1/(1 + e^{−2u}) and down = 1/(1 + e^{2u}), u = slope · x, both to full relative precision.

    Beyond ±40 they stay: what they then weigh against e^{2φ} is below float32's rounding."""
    scales = whole.view(np.float32)
    for j in range(len(x)):
        u = min(max(slope * x[j], float32(-40)), float32(40))
        down[j], whole[j] = _power(float32(-2 / math.log(2)) * u)
    for j in range(len(x)):
        e = down[j] * scales[j]
        up[j] = float32(1) / (float32(1) + e)
        down[j] = e * up[j]


@numba_function(fastmath=True, error_model="numpy")
def _normalise(product, bits, exponent):
    """product = mantissa in [1, 2) times a power of two, which goes to `exponent`; `bits`: product's memory."""
    for j in range(len(bits)):
        exponent[j] += int32((bits[j] >> int32(23)) - int32(127))
        bits[j] = (bits[j] & int32(0x7FFFFF)) | int32(0x3F800000)


@numba_function(fastmath=True, error_model="numpy")
def _mean_in_fields(up, down, mean, law, products, exponents, top, total, whole):
    """E[a|x] of one row (d, G): cosh(φ+u)/(cosh φ cosh u) = 2 (P p + N n) and tanh(φ+u) = (P p − N n)/(P p + N
    n), with P, N = 1/(1 + e^{∓2φ}) and p, n those of u: sums of positive numbers, which lose no precision.
    """
    plus, minus, mantissas, powers = law
    scales = whole.view(np.float32)
    top[:] = int32(-(2**30))
    for q in range(len(plus)):
        product, exponent, a, b = products[q], exponents[q], plus[q], minus[q]
        bits = product.view(np.int32)
        product[:] = mantissas[q]
        exponent[:] = powers[q]
        for c in range(len(up)):
            p, n = up[c], down[c]
            for j in range(len(product)):
                product[j] *= a * p[j] + b * n[j]
            # A factor is above 2⁻⁵⁸: two of them keep the product of mantissas in range.
            if c % 2 or c == len(up) - 1:
                _normalise(product, bits, exponent)
        for j in range(len(top)):
            top[j] = max(top[j], exponent[j])
    mean[:] = float32(0)
    total[:] = float32(0)
    for q in range(len(plus)):
        product, exponent, a, b = products[q], exponents[q], plus[q], minus[q]
        for j in range(len(top)):
            whole[j] = int32((max(int32(exponent[j] - top[j]), int32(-126)) + int32(127)) << int32(23))
        for j in range(len(top)):
            product[j] *= scales[j]
            total[j] += product[j]
        for c in range(len(up)):
            p, n, out = up[c], down[c], mean[c]
            for j in range(len(out)):
                above, below = a * p[j], b * n[j]
                out[j] += product[j] * (above - below) / (above + below)
    for c in range(len(up)):
        out = mean[c]
        for j in range(len(out)):
            out[j] /= total[j]


@numba_function
def _run_fields(x, d, law, steps, key, first_step, groups, start, stop):
    shape, count = (4 * d, groups), len(law[0])
    tile, mean, up, down = (
        np.empty(shape, np.float32),
        np.empty(shape, np.float32),
        np.empty(shape, np.float32),
        np.empty(shape, np.float32),
    )
    z, scratch = np.zeros((4, groups), np.float32), np.empty((6, groups), np.uint32)
    products, exponents = np.empty((count, groups), np.float32), np.empty((count, groups), np.int32)
    top, total, whole = np.empty(groups, np.int32), np.empty(groups, np.float32), np.empty(groups, np.int32)
    for block in range(start, stop):
        _load(x, tile, 4 * d * groups * block)
        for k in range(len(steps)):
            kept, pull, noise, slope = steps[k]
            for r in range(4 * d):
                _up_and_down(tile[r], slope, up[r], down[r], whole)
            for a in range(0, 4 * d, d):
                rows = up[a : a + d], down[a : a + d], mean[a : a + d]
                _mean_in_fields(rows[0], rows[1], rows[2], law, products, exponents, top, total, whole)
            for q in range(d):
                if noise != 0:
                    draw_tile(z, scratch, key, first_step + k, 1 + d * groups * block + q, d)
                for r in range(4):
                    _move(tile[4 * q + r], mean[4 * q + r], z[r], kept, pull, noise)
        _store(x, tile, 4 * d * groups * block)


def _array(table: torch.Tensor) -> np.ndarray:
    return table.float().contiguous().numpy()


@gaussian_mixture.backend("numba", needs=("numba",), when=_mixture_fits)
def _mixture_numba(x, means, times, seed, eta, weights, variance, first_step):
    (rows, d), out = x.shape, x.clone()
    m, centred, constant, steps = _mixture_tables(means, times, eta, weights, variance)
    if (
        len(m) == 2
    ):  # the mean is now the middle: ± the half difference, whose exponent is half the difference
        centred[1] = (m[1] - m[0]) / 2
    tables, groups = tuple(map(_array, (m, centred, constant, steps))), _groups(d)
    flat, key = out.view(-1).numpy(), (seed & LOW, seed >> 32)

    def run(start, stop):
        _run_mixture(flat, d, *tables, key, first_step, groups, start, stop)

    over_rows(run, -(-rows // (4 * groups)), rows * len(steps) * (d + len(m)))
    return out


@spins_in_fields.backend("numba", needs=("numba",), when=_spins_fit)
def _spins_numba(x, fields, times, seed, eta, weights, first_step):
    (rows, d), out, steps = x.shape, x.clone(), _array(_table(times, eta, 0.0))
    flat, key, fields = out.view(-1).numpy(), (seed & LOW, seed >> 32), fields[weights > 0]
    if len(fields) == 1:
        groups, phi, blocks = _groups(1), float32(float(fields)), -(-len(flat) // (4 * _groups(1)))

        def run(start, stop):
            _run_spins(flat, phi, steps, key, first_step, groups, start, stop)
    else:
        groups, blocks = _groups(d), -(-rows // (4 * _groups(d)))
        mantissas, powers = torch.frexp(weights[weights > 0])
        plus, minus = torch.sigmoid(2 * fields), torch.sigmoid(-2 * fields)
        law = _array(plus), _array(minus), _array(mantissas), powers.int().numpy()

        def run(start, stop):
            _run_fields(flat, d, law, steps, key, first_step, groups, start, stop)

    over_rows(run, blocks, len(flat) * len(steps) * len(fields))
    return out


# ------------------------------------------------------------------------------------------------ GPU, Triton
#
# A program holds ROWS rows, d columns filled up to D, a power of two, and moves them through all steps.


@triton_function
def triton_normals(seed, step, quads, COUNT: tl.constexpr):
    """The normals of the sites 4i, …, 4i + 3 of the consecutive i in `quads`, in order: (COUNT,)."""
    t, zero = tl.to_tensor(step).to(tl.int64), (quads * 0).to(tl.uint32)
    c0, c1 = zero + t.to(tl.uint32), zero + (t >> 32).to(tl.uint32)
    w0, w1, w2, w3 = tl.philox(seed, c0, c1, zero, (quads + 1).to(tl.uint32))
    z0, z1 = triton_pair(w0, w1)
    z2, z3 = triton_pair(w2, w3)
    return tl.join(tl.join(z0, z2), tl.join(z1, z3)).reshape(COUNT)


@triton_function
def triton_normals_at(seed, step, site):
    """The normals of any sites."""
    t, zero = tl.to_tensor(step).to(tl.int64), (site * 0).to(tl.uint32)
    c0, c1 = zero + t.to(tl.uint32), zero + (t >> 32).to(tl.uint32)
    w0, w1, w2, w3 = tl.philox(seed, c0, c1, zero, ((site >> 2) + 1).to(tl.uint32))
    second = (site & 2) != 0
    even, odd = triton_pair(tl.where(second, w2, w0), tl.where(second, w3, w1))
    return tl.where((site & 1) != 0, odd, even)


@triton_function
def triton_noise(seed, step, site, d: tl.constexpr, D: tl.constexpr, ROWS: tl.constexpr):
    """The normals of a block of rows, (ROWS, D): where no column is added, its sites follow each other."""
    if d == D:
        quads = tl.program_id(0).to(tl.int64) * (ROWS * D // 4) + tl.arange(0, ROWS * D // 4)
        z = triton_normals(seed, step, quads, ROWS * D).reshape(ROWS, D)
    else:
        z = triton_normals_at(seed, step, site)
    return z


@triton_function
def triton_spins(x, phi, steps, seed, first_step, n, count, NOISE: tl.constexpr, QUADS: tl.constexpr):
    """One field: x is a list of independent numbers."""
    quads = tl.program_id(0).to(tl.int64) * QUADS + tl.arange(0, QUADS)
    at = tl.program_id(0).to(tl.int64) * (4 * QUADS) + tl.arange(0, 4 * QUADS)
    v, field = tl.load(x + at, mask=at < count, other=0.0), tl.load(phi)
    for k in range(n):
        y = field + tl.load(steps + 4 * k + 3) * v
        e = tl.exp(-2.0 * tl.abs(y))
        tanh = tl.where(y < 0, e - 1.0, 1.0 - e) / (1.0 + e)
        v = tl.load(steps + 4 * k) * v + tl.load(steps + 4 * k + 1) * tanh
        if NOISE:
            v += tl.load(steps + 4 * k + 2) * triton_normals(seed, first_step + k, quads, 4 * QUADS)
    tl.store(x + at, v, mask=at < count)


@triton_function
def triton_mixture(
    x, m, centred, constant, steps, seed, first_step, n, rows, components,
    NOISE: tl.constexpr, d: tl.constexpr, D: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    column = tl.arange(0, D)
    site, real = row[:, None] * d + column[None, :], column < d
    inside = (row < rows)[:, None] & real[None, :]
    v = tl.load(x + site, mask=inside, other=0.0)
    for k in range(n):
        slope = tl.load(steps + 4 * k + 3)
        top = tl.full([ROWS], float("-inf"), tl.float32)
        total, mean = tl.zeros([ROWS], tl.float32), tl.zeros([ROWS, D], tl.float32)
        for j in range(components):
            w = tl.load(centred + j * d + column, mask=real, other=0.0)
            exponent = tl.load(constant + k * components + j) + slope * tl.sum(v * w[None, :], 1)
            higher = tl.maximum(top, exponent)
            kept, new = tl.exp(top - higher), tl.exp(exponent - higher)
            w = tl.load(m + j * d + column, mask=real, other=0.0)
            total = total * kept + new
            mean = mean * kept[:, None] + new[:, None] * w[None, :]
            top = higher
        v = tl.load(steps + 4 * k) * v + tl.load(steps + 4 * k + 1) * (mean / total[:, None])
        if NOISE:
            v += tl.load(steps + 4 * k + 2) * triton_noise(seed, first_step + k, site, d, D, ROWS)
    tl.store(x + site, v, mask=inside)


@triton_function
def triton_fields(
    x, plus, minus, log_weights, steps, seed, first_step, n, rows, fields,
    NOISE: tl.constexpr, d: tl.constexpr, D: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """Several fields; the formulas of `_mean_in_fields`, with logarithms."""
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    column = tl.arange(0, D)
    site, real = row[:, None] * d + column[None, :], column < d
    inside = (row < rows)[:, None] & real[None, :]
    v = tl.load(x + site, mask=inside, other=0.0)
    for k in range(n):
        u = tl.minimum(tl.maximum(tl.load(steps + 4 * k + 3) * v, -40.0), 40.0)
        e = tl.exp(-2.0 * u)
        up = 1.0 / (1.0 + e)
        down = e * up
        top = tl.full([ROWS], float("-inf"), tl.float32)
        total, mean = tl.zeros([ROWS], tl.float32), tl.zeros([ROWS, D], tl.float32)
        for q in range(fields):
            above, below = tl.load(plus + q) * up, tl.load(minus + q) * down
            both = above + below
            exponent = tl.load(log_weights + q) + tl.sum(tl.where(real[None, :], tl.log(2.0 * both), 0.0), 1)
            higher = tl.maximum(top, exponent)
            kept, new = tl.exp(top - higher), tl.exp(exponent - higher)
            total = total * kept + new
            mean = mean * kept[:, None] + new[:, None] * ((above - below) / both)
            top = higher
        v = tl.load(steps + 4 * k) * v + tl.load(steps + 4 * k + 1) * (mean / total[:, None])
        if NOISE:
            v += tl.load(steps + 4 * k + 2) * triton_noise(seed, first_step + k, site, d, D, ROWS)
    tl.store(x + site, v, mask=inside)


LARGEST_ROW, QUADS = 64, 128  # columns that a program holds; quads of a program of independent spins


def _block(d: int) -> dict:
    """The sizes of a program: about 4 QUADS numbers."""
    filled = 1 << (d - 1).bit_length()
    return {"d": d, "D": filled, "ROWS": 4 * QUADS // filled}


def _fits_gpu(x, fits: bool | str) -> bool | str:
    if len(x) == 0:
        return "there are no trajectories"
    return fits if x.shape[1] <= LARGEST_ROW else f"d = {x.shape[1]} exceeds the {LARGEST_ROW} of a program"


@gaussian_mixture.backend(
    "triton", needs=("triton",), when=lambda x, **kw: _fits_gpu(x, _mixture_fits(x, **kw))
)
def _mixture_triton(x, means, times, seed, eta, weights, variance, first_step):
    (rows, d), out = x.shape, x.clone()
    tables = _mixture_tables(means, times, eta, weights, variance)
    m, centred, constant, steps = (table.float().contiguous().to(x.device) for table in tables)
    block = _block(d)
    triton_mixture[(-(-rows // block["ROWS"]),)](
        out, m, centred, constant, steps, seed, first_step, len(steps), rows, len(m), NOISE=eta > 0, **block
    )
    return out


@spins_in_fields.backend("triton", needs=("triton",), when=lambda x, **kw: _fits_gpu(x, _spins_fit(x, **kw)))
def _spins_triton(x, fields, times, seed, eta, weights, first_step):
    (rows, d), out, fields = x.shape, x.clone(), fields[weights > 0]
    steps = _table(times, eta, 0.0).float().to(x.device)
    common = {"seed": seed, "first_step": first_step, "n": len(steps), "NOISE": eta > 0}
    if len(fields) == 1:
        grid = (-(-x.numel() // (4 * QUADS)),)
        triton_spins[grid](out, fields.float(), steps, count=x.numel(), QUADS=QUADS, **common)
        return out
    law = torch.sigmoid(2 * fields), torch.sigmoid(-2 * fields), weights[weights > 0].log()
    block = _block(d)
    triton_fields[(-(-rows // block["ROWS"]),)](
        out, *(values.float() for values in law), steps, rows=rows, fields=len(fields), **block, **common
    )
    return out
