"""The Gaussian mixture that noise makes of data, and its posterior (the chapters of `diffusion` and
`memorization`).

Noise at time t turns data a_μ of weights w_μ into p(x) = Σ_μ w_μ N(x; s a_μ, Δ I), with s = e^{−t} and Δ =
1 − e^{−2t} in the convention of this book; uniform weights give the empirical density. All that is computed
here follows from the posterior p_μ(x) = w_μ e^{−|x − s a_μ|²/2Δ} / Σ_ν w_ν e^{−|x − s a_ν|²/2Δ}, for instance
∇ log p = (s E[a|x] − x) / Δ.

The fast versions read the data in chunks and keep a running log-sum: their workspace does not depend on n.
Accuracy is what costs. Expanded, |x − s a|² is a difference of numbers as large as (|x| + s|a|)², whose
rounding is divided by 2Δ and lands in the exponents. So the data are centred, and the largest exponent M =
(max|x| + s max|a|)²/2Δ decides: float32 inputs are computed in float32 up to M = 3000 (relative errors of a
weight up to 10⁻³, since 5 · 2⁻²⁴ M is about what a product of rows loses), in float64 above, and beyond M =
10⁷ from the differences x − s a themselves. Weights from float64 are right to 10⁻⁸ or better as long as x
stays within reach of the data. `precision` overrides the choice.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from numbers import Real
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch.autograd.function import once_differentiable

from .dispatch import kernel, triton_function

if TYPE_CHECKING:
    import triton.language as tl

__all__ = ["covariance_product", "log_density", "participation_ratio", "posterior_mean", "score", "weights"]

LARGEST_FLOAT32, LARGEST_EXPANDED = 3e3, 1e7  # the exponents M up to which each is accurate
ELEMENTS, ROWS = 2**22, 4096  # of a chunk; of the batch that meets it
NEVER = -1e30  # stands for log 0 where −∞ − (−∞) must not occur


# ------------------------------------------------------------------------------------------------ definitions


def _exponents(x, data, s: float, delta: float, weights) -> torch.Tensor:
    """(B, n) float64: log w_μ − |x − s a_μ|²/2Δ, from the differences."""
    exact = "donot_use_mm_for_euclid_dist"
    distance = torch.cdist(x.double(), s * data.double(), compute_mode=exact)
    return weights.double().log() - distance.square() / (2 * delta)


@kernel
def score(
    x: torch.Tensor,
    data: torch.Tensor,
    s: float,
    delta: float,
    weights: torch.Tensor | None = None,
    precision: torch.dtype | None = None,
) -> torch.Tensor:
    """Score of the mixture: ∇ log p(x) = (s E[a|x] − x) / Δ, for p(x) = Σ_μ w_μ N(x; s a_μ, Δ I).

    Parameters
    ----------
    x
        (B, d), float32 or float64; B = 0 is allowed.
    data
        (n, d) the centres a_μ, n ≥ 1, of the dtype and on the device of `x`.
    s
        What the data are multiplied by, s ≥ 0: e^{−t} for data noised up to time t.
    delta
        The variance of the noise, Δ > 0: 1 − e^{−2t}.
    weights
        (n,) w_μ ≥ 0 (not their logarithms) with sum 1 to 10⁻⁵, of the dtype of `x`; None for 1/n each.
    precision
        torch.float32 or torch.float64: what the fast versions compute in; None (default) chooses by the
        largest exponent, as this module says. float64 inputs are always computed in float64, and so is the
        definition, and so are chunks on a GPU (d > 128).

    Returns
    -------
    torch.Tensor
        (B, d), dtype and device of `x`. Once differentiable with respect to `x` and `data`, in float64.

    Raises
    ------
    ValueError
        If a shape, dtype, device or value does not fit, or |x − s a|²/2Δ overflows.

    Notes
    -----
    Biroli, Bonnaire, de Bortoli and Mézard (2024), Nat. Commun. 15, 9957, the empirical score; Robbins
    (1956), Tweedie's formula.
    """
    p = torch.softmax(_exponents(x, data, s, delta, weights), dim=1)
    return ((s * p @ data.double() - x.double()) / delta).to(x.dtype)


@kernel
def log_density(
    x: torch.Tensor,
    data: torch.Tensor,
    s: float,
    delta: float,
    weights: torch.Tensor | None = None,
    precision: torch.dtype | None = None,
) -> torch.Tensor:
    """Log density of the mixture: log p(x) = log Σ_μ w_μ e^{−|x − s a_μ|²/2Δ} − (d/2) log 2πΔ.

    Parameters
    ----------
    x, data, s, delta, weights, precision
        As in `score`.

    Returns
    -------
    torch.Tensor
        (B,), nats, dtype and device of `x`. Once differentiable with respect to `x` and `data`, in float64.

    Raises
    ------
    ValueError
        As in `score`.
    """
    constant = x.shape[1] / 2 * math.log(2 * math.pi * delta)
    return (torch.logsumexp(_exponents(x, data, s, delta, weights), dim=1) - constant).to(x.dtype)


@kernel
def posterior_mean(
    x: torch.Tensor,
    data: torch.Tensor,
    s: float,
    delta: float,
    weights: torch.Tensor | None = None,
    precision: torch.dtype | None = None,
) -> torch.Tensor:
    """Mean of the datum behind a noisy x: E[a|x] = Σ_μ p_μ(x) a_μ, the best denoiser in mean square.

    Parameters
    ----------
    x, data, s, delta, weights, precision
        As in `score`.

    Returns
    -------
    torch.Tensor
        (B, d), dtype and device of `x`. Once differentiable with respect to `x` and `data`, in float64.

    Raises
    ------
    ValueError
        As in `score`.
    """
    p = torch.softmax(_exponents(x, data, s, delta, weights), dim=1)
    return (p @ data.double()).to(x.dtype)


@kernel
def participation_ratio(
    x: torch.Tensor,
    data: torch.Tensor,
    s: float,
    delta: float,
    weights: torch.Tensor | None = None,
    precision: torch.dtype | None = None,
) -> torch.Tensor:
    """Participation ratio of the posterior, Y₂ = Σ_μ p_μ(x)²: 1 if one datum has it all, 1/n if all share.

    It is the probability that two draws from the posterior are the same datum; its inverse 1/Y₂ counts the
    data that matter.

    Parameters
    ----------
    x, data, s, delta, weights, precision
        As in `score`.

    Returns
    -------
    torch.Tensor
        (B,) in [1/n, 1], dtype and device of `x`. Its fast versions have no derivative: a call that needs one
        is left to the definition.

    Raises
    ------
    ValueError
        As in `score`.

    Notes
    -----
    Mézard, Parisi, Sourlas, Toulouse and Virasoro (1984), J. Physique 45, 843.
    """
    p = torch.softmax(_exponents(x, data, s, delta, weights), dim=1)
    return p.square().sum(1).to(x.dtype)


@kernel
def covariance_product(
    x: torch.Tensor,
    data: torch.Tensor,
    s: float,
    delta: float,
    v: torch.Tensor,
    weights: torch.Tensor | None = None,
) -> torch.Tensor:
    """Posterior covariance times a vector, Cov(a|x) v = Σ_μ p_μ (a_μ − E[a|x]) ((a_μ − E[a|x])·v).

    The Jacobian of the score is (s²/Δ²) Cov(a|x) − 1/Δ, of E[a|x] it is (s/Δ) Cov(a|x).

    Parameters
    ----------
    x, data, s, delta, weights
        As in `score`. Computed in float64 whatever the dtype.
    v
        (B, d), one vector for each row of `x`, of its dtype.

    Returns
    -------
    torch.Tensor
        (B, d), dtype and device of `x`. Its fast version has no derivative: a call that needs one is left to
        the definition.

    Raises
    ------
    ValueError
        As in `score`.
    """
    p = torch.softmax(_exponents(x, data, s, delta, weights), dim=1)
    mean = p @ data.double()
    along = v.double() @ data.double().T - (v * mean).sum(1, keepdim=True)
    return ((p * along) @ data.double() - mean * (p * along).sum(1, keepdim=True)).to(x.dtype)


@kernel
def weights(
    x: torch.Tensor,
    data: torch.Tensor,
    s: float,
    delta: float,
    weights: torch.Tensor | None = None,
) -> torch.Tensor:
    """Posterior weights p_μ(x) = w_μ e^{−|x − s a_μ|²/2Δ} / Σ_ν w_ν e^{−|x − s a_ν|²/2Δ}, as a matrix.

    Parameters
    ----------
    x, data, s, delta, weights
        As in `score`. Computed in float64 whatever the dtype.

    Returns
    -------
    torch.Tensor
        (B, n), rows of sum 1, dtype and device of `x`: the one function here that needs the memory. Its fast
        version has no derivative: a call that needs one is left to the definition.

    Raises
    ------
    ValueError
        As in `score`.
    """
    return torch.softmax(_exponents(x, data, s, delta, weights), dim=1).to(x.dtype)


# ----------------------------------------------------------------------------------------------------- inputs

FLOATS = torch.float32, torch.float64


def _matrix(name: str, value, shape: str, like: torch.Tensor | None = None) -> torch.Tensor:
    """A two-dimensional finite tensor of floats, of the dtype and on the device of `like`, or ValueError."""
    if not isinstance(value, torch.Tensor) or value.dtype not in FLOATS:
        came = value.dtype if isinstance(value, torch.Tensor) else type(value).__name__
        raise ValueError(f"{name}: got {came}; expected {shape} torch.float32 or torch.float64")
    if value.ndim != 2 or value.shape[1] == 0:
        raise ValueError(f"{name}: got shape {tuple(value.shape)}; expected {shape} with d >= 1")
    if like is not None and (value.dtype, value.device) != (like.dtype, like.device):
        raise ValueError(
            f"{name}: got {value.dtype} on {value.device}; expected {like.dtype} on {like.device}, like x"
        )
    return value.contiguous()


def _largest(name: str, value: torch.Tensor) -> float:
    """max |value|; ValueError if it is not finite (extremes carry a NaN and need no array of booleans)."""
    extremes = torch.stack(value.detach().aminmax()).tolist() if value.numel() else [0.0]
    if not all(map(math.isfinite, extremes)):
        raise ValueError(f"{name}: got NaN or infinite values; expected finite numbers")
    return max(map(abs, extremes))


def _number(name: str, value, least: str) -> float:
    number = isinstance(value, Real) or (isinstance(value, torch.Tensor) and value.ndim == 0)
    low = number and (float(value) >= 0 if least == ">= 0" else float(value) > 0)
    if not low or not math.isfinite(value):
        raise ValueError(f"{name}: got {value!r}; expected a finite number {least}")
    return float(value)


def _probabilities(value, n: int, x: torch.Tensor) -> torch.Tensor:
    if value is None:
        return torch.full((1,), 1 / n, dtype=x.dtype, device=x.device).expand(n)
    if not isinstance(value, torch.Tensor) or tuple(value.shape) != (n,):
        came = tuple(value.shape) if isinstance(value, torch.Tensor) else type(value).__name__
        raise ValueError(f"weights: got {came}; expected a tensor of shape {(n,)} or None")
    if (value.dtype, value.device) != (x.dtype, x.device):
        raise ValueError(
            f"weights: got {value.dtype} on {value.device}; expected {x.dtype} on {x.device}, like x"
        )
    _largest("weights", value)
    least, total = float(value.detach().min()), float(value.detach().double().sum())
    if least < 0 or abs(total - 1) > 1e-5:
        raise ValueError(f"weights: got minimum {least:g} and sum {total:.9g}; expected >= 0 and sum 1")
    return value


def _inputs(x, data, s, delta, weights, **rest) -> dict:
    x = _matrix("x", x, "(B, d)")
    data = _matrix("data", data, "(n, d)", x)
    if len(data) == 0 or data.shape[1] != x.shape[1]:
        raise ValueError(f"data: got shape {tuple(data.shape)}; expected (n, {x.shape[1]}) with n >= 1")
    s, delta = _number("s", s, ">= 0"), _number("delta", delta, "> 0")
    largest = _largest("x", x) + s * _largest("data", data)
    if not math.isfinite(x.shape[1] * largest * largest / delta):
        raise ValueError(f"x: got |x - s a| up to {largest:g} at delta {delta:g}; expected no overflow")
    known = {"x": x, "data": data, "s": s, "delta": delta, "weights": _probabilities(weights, len(data), x)}
    if "precision" in rest and rest["precision"] not in (None, *FLOATS):
        raise ValueError(
            f"precision: got {rest['precision']!r}; expected torch.float32, torch.float64 or None"
        )
    return known | rest


def _product_inputs(v, **rest) -> dict:
    known, like = _inputs(**rest), rest["x"]
    v = _matrix("v", v, "(B, d)", like)
    if v.shape != like.shape:
        raise ValueError(f"v: got shape {tuple(v.shape)}; expected {tuple(like.shape)}, like x")
    _largest("v", v)
    return known | {"v": v}


score.inputs(_inputs)
log_density.inputs(_inputs)
posterior_mean.inputs(_inputs)
participation_ratio.inputs(_inputs)
weights.inputs(_inputs)
covariance_product.inputs(_product_inputs)


# -------------------------------------------------------------------------------- the pass over chunks, torch


class Plan(NamedTuple):
    """How the exponents are computed: in which dtype, from differences or expanded, about which centre."""

    dtype: torch.dtype
    direct: bool
    centre: torch.Tensor  # (d,), dtype of the data; zeros for differences


def _plan(x, data, s: float, delta: float, precision: torch.dtype | None) -> Plan:
    x, data = x.detach(), data.detach()
    # On the CPU chunks that stay in its cache: the passes read and add, no more.
    chunks = data.split(_length(data.shape[1] * (16 if x.device.type == "cpu" else 1)))
    centre = (sum(rows.sum(0).double() for rows in chunks) / len(data)).to(data.dtype)
    norms = data.new_empty(len(chunks))  # one tensor: small ones kept between large ones hold the heap open
    for k, rows in enumerate(chunks):
        norms[k] = torch.linalg.vector_norm(rows - centre, dim=1).max()
    reach = s * float(norms.max())
    if len(x):
        reach += float(torch.linalg.vector_norm(x.double() - s * centre.double(), dim=1).max())
    largest = reach * reach / (2 * delta)
    if x.dtype == torch.float64 or (precision is None and largest > LARGEST_FLOAT32):
        precision = torch.float64
    if precision == torch.float64 and largest > LARGEST_EXPANDED:
        return Plan(torch.float64, True, torch.zeros_like(centre))
    return Plan(precision or torch.float32, False, centre)


def _length(width: int) -> int:
    """Data in a chunk: a multiple of the 512 keys that torch's attention takes at once."""
    return max(512, ELEMENTS // width // 512 * 512)


def _log_sums(
    x, data, s, delta, weights, plan: Plan, power: float = 1.0
) -> tuple[torch.Tensor, torch.Tensor]:
    """(B,) log Σ_μ (w_μ e^{−|x − s a_μ|²/2Δ})^power and (B, d) the mean of a under these terms; float64."""
    if len(x) == 0:
        return x.new_empty(0, dtype=torch.float64), x.new_empty(x.shape, dtype=torch.float64)
    one = _attention_sums if x.device.type == "cpu" and not plan.direct else _running_sums
    found = [one(rows, data, s, delta, weights, plan, power) for rows in x.split(ROWS)]
    return torch.cat([log for log, _ in found]), torch.cat([mean for _, mean in found])


def _attention_sums(x, data, s, delta, weights, plan: Plan, power: float):
    """Chunk by chunk with torch's attention, whose bias is log w − s²|a|²/2Δ; log-sums merge the chunks."""
    # The public function keeps its log-sum-exp to itself.
    attention = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    q = (x.double() - s * plan.centre.double()).to(plan.dtype)
    log = x.new_full((len(x),), -math.inf, dtype=torch.float64)
    mean = torch.zeros_like(x, dtype=torch.float64)
    for rows, w in zip(*(t.split(_length(x.shape[1])) for t in (data, weights)), strict=True):
        k = (rows.to(plan.dtype) - plan.centre.to(plan.dtype))[None, None]
        bias = (w.to(plan.dtype).log() - s * s / (2 * delta) * k.square().sum(-1)).clamp(min=NEVER)
        bias = (power * bias)[:, :, None].expand(1, 1, len(x), -1)
        part, part_log = attention(q[None, None], k, k, attn_mask=bias, scale=power * s / delta)
        total = torch.logaddexp(log, part_log[0, 0].double())
        mean.mul_((log - total).exp()[:, None])
        mean += part[0, 0].double() * (part_log[0, 0].double() - total).exp()[:, None]
        log = total
    return log - power * q.double().square().sum(1) / (2 * delta), mean + plan.centre.double()


def _chunks(x, data, s, delta, weights, plan: Plan) -> Iterator[tuple[slice, torch.Tensor, torch.Tensor]]:
    """Places, data about the centre (c, d) and exponents (B, c) of one chunk after the other, in float64."""
    q = x.double() - s * plan.centre.double()
    own = q.square().sum(1, keepdim=True) / (2 * delta)
    length = _length(max(x.shape) * (4 if x.device.type == "cpu" else 1))
    for start in range(0, len(data), length):
        place = slice(start, min(start + length, len(data)))
        rows = data[place].double() - plan.centre.double()
        if plan.direct:
            yield place, rows, _exponents(q, rows, s, delta, weights[place])
        else:
            bias = weights[place].double().log() - s * s / (2 * delta) * rows.square().sum(1)
            yield place, rows, torch.addmm(bias, q, rows.T, alpha=s / delta).sub_(own)


def _running_sums(x, data, s, delta, weights, plan: Plan, power: float):
    """The same where attention does not serve: float64, any device, exponents from differences or not."""
    top = x.new_full((len(x), 1), torch.finfo(torch.float64).min, dtype=torch.float64)
    z, mean = torch.zeros_like(top), 0.0
    for _, rows, exponents in _chunks(x, data, s, delta, weights, plan):
        higher = torch.maximum(top, power * exponents.amax(1, keepdim=True))
        p, kept = exponents.mul_(power).sub_(higher).exp_(), (top - higher).exp()
        z, mean, top = z * kept + p.sum(1, keepdim=True), mean * kept + p @ rows, higher
    return (top + z.log())[:, 0], mean / z + plan.centre.double()


class Moments(torch.autograd.Function):
    """log Σ_μ w_μ e^{−|x − s a_μ|²/2Δ} and E[a|x], with the derivatives in x and a that keep no matrix."""

    @staticmethod
    def forward(ctx, x, data, s, delta, weights, plan, sums):
        ctx.save_for_backward(x, data, weights, plan.centre)
        ctx.known = s, delta, plan
        return sums(x, data, s, delta, weights, plan)

    @staticmethod
    @once_differentiable
    def backward(ctx, g_log, g_mean):
        x, data, weights, _ = ctx.saved_tensors
        s, delta, plan = ctx.known
        plan, g_x = _plan(x, data, s, delta, torch.float64), torch.zeros_like(x, dtype=torch.float64)
        g_data = torch.zeros_like(data) if ctx.needs_input_grad[1] else None
        for part in torch.arange(len(x), device=x.device).split(ROWS):
            _pull_back(x[part], data, s, delta, weights, plan, g_log[part], g_mean[part], part, g_x, g_data)
        return g_x.to(x.dtype), g_data, None, None, None, None, None


def _pull_back(x, data, s, delta, weights, plan, g_log, g_mean, part, g_x, g_data) -> None:
    """Add to g_x and g_data; exponent μ pulls back p_μ c_μ, with c_μ = g_log + g_mean · (a_μ − E[a|x])."""
    log, mean = _log_sums(x, data, s, delta, weights, plan)
    shift = (g_log - (g_mean * (mean - plan.centre.double())).sum(1))[:, None]
    for place, rows, exponents in _chunks(x, data, s, delta, weights, plan):
        p = exponents.sub_(log[:, None]).exp_()
        pc = p * torch.addmm(shift, g_mean, rows.T)
        total, q = pc.sum(1, keepdim=True), x.double() - s * plan.centre.double()
        g_x[part] += (s * pc @ rows - q * total) / delta
        if g_data is not None:
            pull = p.T @ g_mean + s / delta * (pc.T @ q - s * pc.sum(0)[:, None] * rows)
            g_data[place] += pull.to(data.dtype)


def _moments(x, data, s, delta, weights, precision, sums=_log_sums) -> tuple[torch.Tensor, torch.Tensor]:
    return Moments.apply(x, data, s, delta, weights, _plan(x, data, s, delta, precision), sums)


def _differentiated(*tensors: torch.Tensor) -> bool:
    return torch.is_grad_enabled() and any(t.requires_grad for t in tensors)


def _known_weights(weights, **_) -> bool | str:
    return not _differentiated(weights) or "only the definition has derivatives with respect to the weights"


def _no_derivative(**arguments) -> bool | str:
    tensors = (value for value in arguments.values() if isinstance(value, torch.Tensor))
    return not _differentiated(*tensors) or "only the definition has derivatives here"


@score.backend("chunks", when=_known_weights)
def _score_chunks(x, data, s, delta, weights, precision, sums=_log_sums):
    mean = _moments(x, data, s, delta, weights, precision, sums)[1]
    return ((s * mean - x.double()) / delta).to(x.dtype)


@log_density.backend("chunks", when=_known_weights)
def _log_density_chunks(x, data, s, delta, weights, precision, sums=_log_sums):
    log = _moments(x, data, s, delta, weights, precision, sums)[0]
    return (log - x.shape[1] / 2 * math.log(2 * math.pi * delta)).to(x.dtype)


@posterior_mean.backend("chunks", when=_known_weights)
def _posterior_mean_chunks(x, data, s, delta, weights, precision, sums=_log_sums):
    return _moments(x, data, s, delta, weights, precision, sums)[1].to(x.dtype)


@participation_ratio.backend("chunks", when=_no_derivative)
def _participation_ratio_chunks(x, data, s, delta, weights, precision, sums=_log_sums):
    plan = _plan(x, data, s, delta, precision)
    log, log_squares = (sums(x, data, s, delta, weights, plan, power)[0] for power in (1.0, 2.0))
    return (log_squares - 2 * log).exp().clamp(1 / len(data), 1).to(x.dtype)


@covariance_product.backend("chunks", when=_no_derivative)
def _covariance_product_chunks(x, data, s, delta, v, weights):
    plan, out = _plan(x, data, s, delta, torch.float64), torch.empty_like(x)
    for part in torch.arange(len(x), device=x.device).split(ROWS):
        log, mean = _log_sums(x[part], data, s, delta, weights, plan)
        mean, v_part, found = mean - plan.centre.double(), v[part].double(), torch.zeros_like(mean)
        shift = -(v_part * mean).sum(1, keepdim=True)
        for _, rows, exponents in _chunks(x[part], data, s, delta, weights, plan):
            pc = exponents.sub_(log[:, None]).exp_() * torch.addmm(shift, v_part, rows.T)
            found += pc @ rows - mean * pc.sum(1, keepdim=True)
        out[part] = found.to(x.dtype)
    return out


@weights.backend("chunks", when=_no_derivative)
def _weights_chunks(x, data, s, delta, weights):
    plan, out = _plan(x, data, s, delta, torch.float64), x.new_empty((len(x), len(data)))
    for part in torch.arange(len(x), device=x.device).split(ROWS):
        log, _ = _log_sums(x[part], data, s, delta, weights, plan)
        for place, _, exponents in _chunks(x[part], data, s, delta, weights, plan):
            out[part, place] = exponents.sub_(log[:, None]).exp_().to(x.dtype)
    return out


# ------------------------------------------------------------------------------------------------ GPU, Triton

LARGEST_ROW = 128  # coordinates that one program holds; wider data go through cuBLAS, as chunks
PROGRAMS = 1024  # about this many share the work: the data are split among them when x has few rows


@triton_function
def triton_log_sums(
    x, data, centre, weights, floats, out_log, out_mean, batch, n, d, share, stride,
    DIRECT: tl.constexpr, BLOCK_B: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """One program: the sums of BLOCK_B rows of x over its share of the data, by an online softmax."""
    kind = x.dtype.element_ty
    s, inverse, power = tl.load(floats), tl.load(floats + 1), tl.load(floats + 2)
    b = tl.program_id(0).to(tl.int64) * BLOCK_B + tl.arange(0, BLOCK_B)
    k = tl.arange(0, BLOCK_D)
    inside = (b < batch)[:, None] & (k < d)[None, :]
    q = tl.load(x + b[:, None] * d + k[None, :], mask=inside, other=0.0)
    c = tl.load(centre + k, mask=k < d, other=0.0)
    top = tl.full([BLOCK_B], -1e30, kind)
    z = tl.zeros([BLOCK_B], kind)
    mean = tl.zeros([BLOCK_B, BLOCK_D], kind)
    first = tl.program_id(1).to(tl.int64) * share
    last = tl.minimum(first + share, n)
    for start in range(first, last, BLOCK_N):
        mu = start + tl.arange(0, BLOCK_N)
        there = (mu < last)[:, None] & (k < d)[None, :]
        a = tl.load(data + mu[:, None] * d + k[None, :], mask=there, other=0.0).to(kind) - c[None, :]
        a = tl.where(there, a, 0.0)
        w = tl.load(weights + mu * stride, mask=mu < last, other=0.0).to(kind)
        if DIRECT:
            e = tl.zeros([BLOCK_B, BLOCK_N], kind)
            for j in range(d):
                x_j = tl.load(x + b * d + j, mask=b < batch, other=0.0)
                a_j = tl.load(data + mu * d + j, mask=mu < last, other=0.0).to(kind) - tl.load(centre + j)
                e -= (x_j[:, None] - s * a_j[None, :]) * (x_j[:, None] - s * a_j[None, :])
            e = e * (0.5 * inverse)
        else:
            e = tl.dot(q, tl.trans(a), input_precision="ieee", out_dtype=kind) * (s * inverse)
            e -= (0.5 * s * s * inverse) * tl.sum(a * a, 1)[None, :]
        e = tl.where((w > 0.0)[None, :], power * (e + tl.log(tl.where(w > 0.0, w, 1.0))[None, :]), -1e30)
        higher = tl.maximum(top, tl.max(e, 1))
        p = tl.where((w > 0.0)[None, :], tl.exp(e - higher[:, None]), 0.0)
        kept = tl.exp(top - higher)
        z = z * kept + tl.sum(p, 1)
        mean = mean * kept[:, None] + tl.dot(p, a, input_precision="ieee", out_dtype=kind)
        top = higher
    full = z > 0.0
    z = tl.where(full, z, 1.0)
    row = tl.program_id(1).to(tl.int64) * batch + b
    tl.store(out_log + row, tl.where(full, top + tl.log(z), -1e30), mask=b < batch)
    tl.store(out_mean + row[:, None] * d + k[None, :], mean / z[:, None], mask=inside)


def _triton_sums(x, data, s, delta, weights, plan: Plan, power: float = 1.0):
    """`_log_sums` by Triton: a share of the data a program, the shares merged here."""
    (batch, d), n, kind = x.shape, len(data), plan.dtype
    q = (x.double() - s * plan.centre.double()).to(kind)
    block = 64 if kind == torch.float32 else 32
    shares = max(1, min(-(-n // block), PROGRAMS // -(-batch // block)))
    share = -(-n // shares)
    floats = torch.tensor([s, 1 / delta, power], dtype=kind, device=x.device)
    logs, means = q.new_empty(shares, batch), q.new_empty(shares, batch, d)
    triton_log_sums[(-(-batch // block), shares)](
        q, data, plan.centre.to(kind), weights, floats, logs, means, batch, n, d, share, weights.stride(0),
        DIRECT=plan.direct, BLOCK_B=block, BLOCK_N=block, BLOCK_D=max(16, 1 << (d - 1).bit_length()),
    )  # fmt: skip
    log = torch.logsumexp(logs.double(), 0)
    mean = ((logs.double() - log).exp()[:, :, None] * means.double()).sum(0) + plan.centre.double()
    return (log if plan.direct else log - power * q.double().square().sum(1) / (2 * delta)), mean


def _fits_gpu(x, weights, **_) -> bool | str:
    if len(x) == 0:
        return "there are no rows"
    if x.shape[1] > LARGEST_ROW:
        return f"d = {x.shape[1]} exceeds the {LARGEST_ROW} that one program holds"
    return _known_weights(weights)


@score.backend("triton", needs=("triton",), when=_fits_gpu)
def _score_triton(**arguments):
    return _score_chunks(**arguments, sums=_triton_sums)


@log_density.backend("triton", needs=("triton",), when=_fits_gpu)
def _log_density_triton(**arguments):
    return _log_density_chunks(**arguments, sums=_triton_sums)


@posterior_mean.backend("triton", needs=("triton",), when=_fits_gpu)
def _posterior_mean_triton(**arguments):
    return _posterior_mean_chunks(**arguments, sums=_triton_sums)


@participation_ratio.backend(
    "triton",
    needs=("triton",),
    when=lambda x, weights, **rest: (
        _fits_gpu(x, weights) if _no_derivative(x=x, **rest) is True else _no_derivative(x=x, **rest)
    ),
)
def _participation_ratio_triton(**arguments):
    return _participation_ratio_chunks(**arguments, sums=_triton_sums)
