"""The Curie–Weiss magnet as data, and its exact score (the chapter `exact/curie_weiss`).

Data are spins a ∈ {±1}^d with M = Σ a_i and, at every d, p₀(a) = e^{(β/2d) M² + (h/d) M} / Z: two classes, M > 0 and M < 0, if
β > 1. **The field h (`field`) is one for the whole magnet**, h/d per spin, so that it weighs the classes and moves nothing else;
only `magnetization`, `free_energy` and `noised_free_energy`, limits d → ∞, take a field per spin. Noise: x_t = a e^{−t} + √Δ_t z,
Δ_t = 1 − e^{−2t}. Given x the spins are again such a magnet, in the fields u_i = e^{−t} x_i/Δ_t = x_i/(2 sinh t), so that with
Z(u) = Σ_a e^{(β/2d) M² + (h/d) M + u·a}

    E[a | x] = ∇_u log Z(u),    ∇ log p_t(x) = (e^{−t} E[a | x] − x)/Δ_t.

Hubbard (1959) and Stratonovich (1957) make the magnet a mixture of independent spins: e^{(β/2d) M²} is the mean of e^{(φ − h/d) M}
over a Gaussian field φ of mean h/d and width w = √(β/d), hence

    Z(u) = E_φ Π_i 2cosh(φ + u_i),    E[a_i | x] = Σ_q π_q tanh(φ_q + u_i),    π_q ∝ g_q Π_i 2cosh(φ_q + u_i)

on equidistant φ_q. The integrand is Σ_a c_a(u) N(φ; (βM + h)/d, w²) with c_a > 0: Gaussians of one width, whose sum over points
w/1.4 apart equals their integral to a relative 2e^{−2π²·1.4²} = 3·10⁻¹⁷ (Poisson summation), whatever x, t and d are. The centres
lie within β of h/d, so 2.8 (√(βd) + 8.8) points serve every x.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from scipy.optimize import brentq

from physgen.checks import count as _count
from physgen.checks import number as _number
from physgen.checks import stream as _generator
from physgen.kernels import philox, reverse

__all__ = [
    "Estimate",
    "Mixture",
    "SectorLaw",
    "absolute_magnetization",
    "class_ratio",
    "cloning_limit",
    "cloning_probability",
    "coupling",
    "free_energy",
    "hubbard_stratonovich",
    "log_density",
    "log_partition",
    "magnetization",
    "mean_field_error",
    "mean_field_magnetization",
    "mean_field_posterior_mean",
    "noised_free_energy",
    "posterior_mean",
    "posterior_sample",
    "potential",
    "regime_one_mean",
    "reverse_sample",
    "sample",
    "score",
    "second_moment",
    "sector_law",
    "sector_posterior",
    "speciation_time",
    "tilted_covariance",
    "tilted_log_partition",
    "tilted_magnetization",
]

EXACT = 3e-17  # relative error of the integral over fields: below the rounding of float64
LARGEST_FIELD = 340.0  # up to it e^{−2|φ|} is no zero of float64
CHUNK = 2**18  # elements of a temporary: a megabyte or two, so that it stays in the cache


class SectorLaw(NamedTuple):
    """The law of M = Σ a_i."""

    values: torch.Tensor  # (d + 1,) −d, −d + 2, …, d, float64
    probabilities: torch.Tensor  # (d + 1,), or (B, d + 1) given x


class Mixture(NamedTuple):
    """The magnet as a mixture of independent spins: what `physgen.kernels.reverse.spins_in_fields` takes."""

    fields: torch.Tensor  # (Q,) φ_q
    weights: torch.Tensor  # (Q,) prior probabilities


class Estimate(NamedTuple):
    """A Monte Carlo mean over independent draws and its standard error."""

    mean: torch.Tensor
    error: torch.Tensor


# ------------------------------------------------------------------------------------------------- inputs


def _scalar(value, name: str, least: float = -math.inf) -> float:
    return _number(
        value.item() if isinstance(value, torch.Tensor) and value.ndim == 0 else value, name, least
    )


def _beta(beta) -> float:
    return _scalar(beta, "beta", 0)


def _vectors(x, name: str) -> torch.Tensor:
    """Finite (B, d) floating-point numbers, as float64."""
    if not isinstance(x, torch.Tensor) or not x.is_floating_point() or x.ndim != 2 or x.shape[1] == 0:
        came = f"{x.dtype}, shape {tuple(x.shape)}" if isinstance(x, torch.Tensor) else type(x).__name__
        raise ValueError(f"{name}: got {came}; expected a floating-point tensor of shape (B, d), d >= 1")
    if not bool(x.detach().isfinite().all()):
        raise ValueError(f"{name}: got NaN or infinity; expected finite numbers")
    return x.double()


def _time(t, x: torch.Tensor) -> torch.Tensor:
    """t > 0 as a float64 column that broadcasts against x."""
    if isinstance(t, torch.Tensor):
        if t.ndim > 1 or (t.ndim == 1 and t.shape != x.shape[:1]):
            raise ValueError(
                f"t: got shape {tuple(t.shape)}; expected a number or ({len(x)},), one per row of x"
            )
        t = t.to(x).reshape(-1, 1)
    else:
        t = torch.full((1, 1), _number(t, "t", 0, strict=True), dtype=x.dtype, device=x.device)
    if not bool(((t > 0) & t.isfinite()).all()):
        raise ValueError(f"t: got {t.flatten().tolist()}; expected finite times > 0")
    return t


def _delta(t: torch.Tensor) -> torch.Tensor:
    return -torch.expm1(-2 * t)


def _noised(a: torch.Tensor, t: float, generator: torch.Generator) -> torch.Tensor:
    z = torch.randn(a.shape, generator=generator, dtype=a.dtype, device=a.device)
    return math.exp(-t) * a + math.sqrt(-math.expm1(-2 * t)) * z


# ------------------------------------------------------------------------------------------------- the magnet without noise


def coupling(beta_j: float, pairs: str = "ordered") -> float:
    """The β of p₀ ∝ e^{(β/2d) M²} that e^{(βJ/d) Σ a_i a_j} stands for: 2βJ over all ordered pairs, βJ over i < j.

    Σ_{i,j} a_i a_j = M² and Σ_{i<j} a_i a_j = (M² − d)/2, so that the same symbols order above βJ = ½ or above βJ = 1.

    Parameters
    ----------
    beta_j : float, ≥ 0
        βJ.
    pairs : "ordered" or "distinct"
        Σ over all i, j, the diagonal included, or over i < j.

    Raises
    ------
    ValueError
        If beta_j is negative or `pairs` is neither.

    Notes
    -----
    Claim BIR-2.
    """
    factors = {"ordered": 2.0, "distinct": 1.0}
    if pairs not in factors:
        raise ValueError(f"pairs: got {pairs!r}; expected 'ordered' or 'distinct'")
    return factors[pairs] * _scalar(beta_j, "beta_j", 0)


def _root(beta: float, field: float) -> float:
    """The solution of m = tanh(βm + h) of the sign of h that is farthest from 0; the positive one if h = 0."""
    if field < 0:
        return -_root(beta, -field)
    if field == 0 and beta <= 1:
        return 0.0
    # The root at h = 0 is above √(1 − 1/β)/2, and a field moves it up.
    least = math.sqrt(1 - 1 / beta) / 2 if beta > 1 else 0.0
    return brentq(lambda m: m - math.tanh(beta * m + field), least, 1.0, xtol=1e-15)


def magnetization(beta, field=0.0) -> torch.Tensor:
    """The magnetisation per spin as d → ∞: the m = tanh(βm + h) that minimises `free_energy`.

    **The field here is intensive**: h per spin, weight e^{(β/2d) M² + hM}. The h/d per spin of a finite magnet is h → 0 here. Where
    h = 0 and β > 1 both ±m* are minima; m* > 0 is returned, 0 for β ≤ 1.

    Parameters
    ----------
    beta : float or torch.Tensor
        Any real number, negative (an antiferromagnet) included: see `noised_free_energy`.
    field : float or torch.Tensor
        Broadcasts against `beta`.

    Returns
    -------
    torch.Tensor
        float64, of the common shape.

    Raises
    ------
    ValueError
        If an argument is not finite.

    Notes
    -----
    Weiss (1907), J. Phys. Theor. Appl. 6, 661; claim CWM-1.
    """
    given = {"beta": beta, "field": field}
    for name, value in given.items():
        if not bool(torch.as_tensor(value, dtype=torch.float64).isfinite().all()):
            raise ValueError(f"{name}: got {value!r}; expected finite numbers")
    b, h = torch.broadcast_tensors(*(torch.as_tensor(v, dtype=torch.float64) for v in given.values()))
    roots = [_root(*pair) for pair in zip(b.flatten().tolist(), h.flatten().tolist(), strict=True)]
    return torch.tensor(roots, dtype=torch.float64, device=b.device).reshape(b.shape)


def free_energy(m: torch.Tensor, beta: float, field: float = 0.0) -> torch.Tensor:
    """The landscape of the magnet, per spin and in units of the temperature: f(m) = −βm²/2 − hm − S(m).

    S(m) = −Σ_± (1 ± m)/2 log (1 ± m)/2 is the entropy, and f = −lim (1/d) log Σ_{a: M = md} e^{(β/2d) M² + hM}, the field h
    being intensive as in `magnetization`.

    Parameters
    ----------
    m : torch.Tensor
        In [−1, 1].
    beta : float
    field : float
        h per spin.

    Returns
    -------
    torch.Tensor
        float64, the shape of `m`.

    Raises
    ------
    ValueError
        If an |m| > 1, or a number is not finite.

    Notes
    -----
    Claim CWM-1.
    """
    beta, field = _scalar(beta, "beta"), _scalar(field, "field")
    if not isinstance(m, torch.Tensor) or not bool((m.abs() <= 1).all()):
        raise ValueError(f"m: got {m!r}; expected a tensor of numbers in [-1, 1]")
    return _free_energy(m.double(), beta, field)


def _free_energy(m: torch.Tensor, beta, field) -> torch.Tensor:
    up, down = (1 + m) / 2, (1 - m) / 2
    return torch.xlogy(up, up) + torch.xlogy(down, down) - beta * m**2 / 2 - field * m


def _log_sectors(d: int, beta: float, field: float) -> tuple[torch.Tensor, torch.Tensor]:
    """M = −d, −d + 2, …, d and log[C(d, k) e^{(β/2d) M² + (h/d) M}]."""
    k = torch.arange(d + 1, dtype=torch.float64)
    values = 2 * k - d
    log_binomial = math.lgamma(d + 1) - torch.lgamma(k + 1) - torch.lgamma(d - k + 1)
    return values, log_binomial + beta / (2 * d) * values**2 + field / d * values


def _magnet(d, beta, field) -> tuple[int, float, float]:
    return _count(d, "d", 1), _beta(beta), _scalar(field, "field")


def log_partition(d: int, beta: float, field: float = 0.0) -> torch.Tensor:
    """log Z = log Σ_k C(d, k) e^{(β/2d) M² + (h/d) M}, M = 2k − d: the sum over 2^d states in d + 1 terms.

    Parameters
    ----------
    d : int, ≥ 1
    beta : float, ≥ 0
    field : float
        h, of the whole magnet.

    Returns
    -------
    torch.Tensor
        A float64 scalar, in nats.

    Raises
    ------
    ValueError
        If a number is out of range or not finite.

    Notes
    -----
    Claim CWM-1. The rounding of log C(d, k) is 10⁻¹⁶ d log d.
    """
    return torch.logsumexp(_log_sectors(*_magnet(d, beta, field))[1], 0)


def sector_law(d: int, beta: float, field: float = 0.0) -> SectorLaw:
    """The law of M: P(M) ∝ C(d, (d + M)/2) e^{(β/2d) M² + (h/d) M}. Arguments as in `log_partition`.

    Returns
    -------
    SectorLaw
        ``values`` and ``probabilities``, both (d + 1,) float64.

    Raises
    ------
    ValueError
        If a number is out of range or not finite.
    """
    values, log_weights = _log_sectors(*_magnet(d, beta, field))
    return SectorLaw(values, torch.softmax(log_weights, 0))


def absolute_magnetization(d: int, beta: float, field: float = 0.0) -> torch.Tensor:
    """E|M|/d, exactly: m* to order 1/d if β > 1, √(2/(πd(1 − β))) if β < 1. Arguments as in `log_partition`."""
    values, p = sector_law(d, beta, field)
    return p @ values.abs() / d


def second_moment(d: int, beta: float, field: float = 0.0) -> torch.Tensor:
    """Λ = E M²/d, exactly: the variance of the data along (1, …, 1)/√d, their first principal component if h = 0.

    Λ ≈ d m*² if β > 1 and 1/(1 − β) if β < 1. Arguments as in `log_partition`; returns a float64 scalar. Claim CWM-6.
    """
    values, p = sector_law(d, beta, field)
    return p @ values**2 / d


def class_ratio(d: int, beta: float, field: float) -> torch.Tensor:
    """P(M > 0)/P(M < 0), exactly; it tends to e^{2hm*} for β > 1. Arguments as in `log_partition`. Claim BIR-3.

    A field of order one on the whole magnet moves the magnetisation of a class by 1/d only: it chooses the weights.
    """
    values, log_weights = _log_sectors(*_magnet(d, beta, field))
    return (log_weights[values > 0].logsumexp(0) - log_weights[values < 0].logsumexp(0)).exp()


def sample(
    n: int, d: int, beta: float, field: float = 0.0, generator: torch.Generator | None = None
) -> torch.Tensor:
    """Independent exact draws from p₀: M from its law, then (d + M)/2 sites chosen uniformly to be +1.

    Parameters
    ----------
    n, d : int, ≥ 1
    beta : float, ≥ 0
    field : float
        h, of the whole magnet.
    generator : torch.Generator, optional
        None draws fresh entropy. Its device is that of the result.

    Returns
    -------
    torch.Tensor
        (n, d) of ±1, float64.

    Raises
    ------
    ValueError
        If a number is out of range or not finite.
    """
    n, g = _count(n, "n", 1), _generator(generator)
    law = sector_law(d, beta, field).probabilities.to(g.device)
    u = torch.rand(n, 1, generator=g, dtype=torch.float64, device=g.device)
    n_up = torch.searchsorted(law.cumsum(0), u).clamp_max(d)
    order = torch.rand(n, d, generator=g, dtype=torch.float64, device=g.device).argsort(1)
    return torch.where(order < n_up, 1.0, -1.0).double()


# ------------------------------------------------------------------------------------------------- Hubbard and Stratonovich


def _lattice(d: int, beta: float, field: float, tolerance: float = EXACT, device=None):
    """φ_q and log g_q, the Gaussian of mean h/d and width w = √(β/d) on points w/ρ apart; one point if β = 0.

    2e^{−2π²ρ²} is the error of the sum, 2e^{−c²/2} bounds the mass beyond c widths from the outermost centres: both are `tolerance`.
    """
    width, log_error = math.sqrt(beta / d), math.log(2 / tolerance)
    density, tail = math.sqrt(log_error / 2) / math.pi, math.sqrt(2 * log_error)  # 1.4 and 8.8 if exact
    if beta + tail * width + abs(field) / d > LARGEST_FIELD:
        raise ValueError(
            f"beta, field: got {beta:g}, {field:g} at d = {d}; expected β + |h|/d + {tail:.1f} √(β/d) <= {LARGEST_FIELD:g}"
        )
    reach = math.ceil(density * (math.sqrt(beta * d) + tail)) if beta else 0
    j = torch.arange(-reach, reach + 1, dtype=torch.float64, device=device)
    log_g = -((j / density) ** 2) / 2 - (math.log(density * math.sqrt(2 * math.pi)) if beta else 0.0)
    return field / d + j * (width / density), log_g


def hubbard_stratonovich(
    d: int, beta: float, field: float = 0.0, least: float = 0.0, tolerance: float = EXACT
) -> Mixture:
    """The magnet as a mixture over fields: p₀(a) = Σ_q w_q Π_i e^{φ_q a_i}/(2cosh φ_q), with one relative error for all states.

    Parameters
    ----------
    d, beta, field
        As in `log_partition`.
    least : float in [0, 1)
        Leave out fields of a smaller weight. At x drawn from p_t the posterior probability of a set of fields has their weight as
        its mean, so it exceeds ε with a probability of at most (left-out weight)/ε; only an x far from all noised data misses them.
    tolerance : float in (0, 0.1)
        The relative error, of each probability and of the posterior at any x.

    Returns
    -------
    Mixture
        ``fields`` φ_q and ``weights`` w_q ∝ g_q (2cosh φ_q)^d with sum 1, (Q,) float64: 2.8 (√(βd) + 8.8) of them, one if β = 0.

    Raises
    ------
    ValueError
        If a number is out of range or not finite, or fields beyond ±340 are needed.

    Notes
    -----
    Hubbard (1959), Phys. Rev. Lett. 3, 77; claim CWM-2. Given x it is the same mixture with φ_q + u_i for φ_q and weights
    π_q ∝ w_q Π_i cosh(φ_q + u_i)/cosh φ_q.
    """
    d, beta, field = _magnet(d, beta, field)
    if _scalar(least, "least", 0) >= 1:
        raise ValueError(f"least: got {least!r}; expected a weight in [0, 1)")
    if not 0 < _scalar(tolerance, "tolerance", 0) < 0.1:
        raise ValueError(f"tolerance: got {tolerance!r}; expected a relative error in (0, 0.1)")
    phi, log_g = _lattice(d, beta, field, tolerance)
    weights = torch.softmax(log_g + d * torch.logaddexp(phi, -phi), 0)
    keep = weights >= least
    return Mixture(phi[keep], weights[keep] / weights[keep].sum())


def _alone(u: torch.Tensor, phi: torch.Tensor) -> Iterator[tuple[slice, torch.Tensor, torch.Tensor]]:
    """Slices of the fields, with e^{−|φ|} (r₊ e^φ ± r₋ e^{−φ}), r± = 1/(1 + e^{∓2u}), (B, slice, d): difference and sum.

    Their quotient is tanh(φ + u) and their sum e^{−|φ|} cosh(φ + u)/cosh u: nothing overflows at any u, and r₊ + r₋ = 1 keeps
    the sum above e^{−2|φ|}/2.
    """
    up, down = torch.sigmoid(2 * u)[:, None], torch.sigmoid(-2 * u)[:, None]
    step = max(1, CHUNK // max(1, u.numel()))
    for start in range(0, len(phi), step):
        part = slice(start, start + step)
        f = phi[part, None]
        above, below = up * (f - f.abs()).exp(), down * (-f - f.abs()).exp()
        yield part, above - below, above + below


def _log_terms(u: torch.Tensor, phi: torch.Tensor, log_g: torch.Tensor) -> torch.Tensor:
    """log[g_q Π_i cosh(φ_q + u_i)/cosh u_i], (B, Q)."""
    logs = [total.log().sum(2) for _, _, total in _alone(u, phi)]
    return log_g + u.shape[1] * phi.abs() + torch.cat(logs, 1)


def _log_average(u: torch.Tensor, beta: float, field: float) -> torch.Tensor:
    """log E e^{(β/2d) M² + (h/d) M} over independent spins of means tanh u_i, (B,)."""
    return torch.logsumexp(_log_terms(u, *_lattice(u.shape[1], beta, field, device=u.device)), 1)


def tilted_log_partition(u: torch.Tensor, beta: float, field: float = 0.0) -> torch.Tensor:
    """log Z(u) = log Σ_a e^{(β/2d) M² + (h/d) M + u·a}, exactly: the free energy of a magnet with a field on each spin.

    Its gradient is `tilted_magnetization`, its Hessian `tilted_covariance`.

    Parameters
    ----------
    u : torch.Tensor, shape (B, d)
        Floating point; may require a gradient.
    beta : float, ≥ 0
    field : float
        h, of the whole magnet.

    Returns
    -------
    torch.Tensor
        (B,) float64, in nats.

    Raises
    ------
    ValueError
        If `u` is not (B, d), floating point and finite, a number is out of range, or fields beyond ±340 are needed.

    Notes
    -----
    Claims CWM-2, THS-1.
    """
    u = _vectors(u, "u")
    return torch.logaddexp(u, -u).sum(1) + _log_average(u, _beta(beta), _scalar(field, "field"))


def tilted_magnetization(u: torch.Tensor, beta: float, field: float = 0.0) -> torch.Tensor:
    """⟨a⟩ = ∇_u log Z(u) = Σ_q π_q tanh(φ_q + u_i), (B, d) in the dtype of `u`. Arguments and Raises as in `tilted_log_partition`."""
    v, beta, field = _vectors(u, "u"), _beta(beta), _scalar(field, "field")
    phi, log_g = _lattice(v.shape[1], beta, field, device=v.device)
    pi = torch.softmax(_log_terms(v, phi, log_g), 1)
    # Weights sum to 1, so a term is at most 1: plain accumulation is exact to 1e-16 per term.
    mean = sum((pi[:, part, None] * (gap / total)).sum(1) for part, gap, total in _alone(v, phi))
    return mean.to(u.dtype)


def tilted_covariance(u: torch.Tensor, beta: float, field: float = 0.0) -> torch.Tensor:
    """Cov(a) = ∇²_u log Z(u): the susceptibility, (B, d, d) in the dtype of `u`. Arguments and Raises as in `tilted_log_partition`.

    With τ_q = tanh(φ_q + u): Σ_q π_q (τ_q − ⟨a⟩)(τ_q − ⟨a⟩)ᵀ, rank one times the variance of φ for small w, plus the diagonal
    Σ_q π_q (1 − τ_q²) of independent spins.
    """
    v, beta, field = _vectors(u, "u"), _beta(beta), _scalar(field, "field")
    phi, log_g = _lattice(v.shape[1], beta, field, device=v.device)
    pi = torch.softmax(_log_terms(v, phi, log_g), 1)
    tau = torch.tanh(phi[:, None] + v[:, None])  # (B, Q, d)
    apart = tau - (pi[:, :, None] * tau).sum(1, keepdim=True)
    alone = (pi[:, :, None] / torch.cosh((phi[:, None] + v[:, None]).clamp(-350, 350)) ** 2).sum(1)
    return (torch.einsum("bq,bqi,bqj->bij", pi, apart, apart) + torch.diag_embed(alone)).to(u.dtype)


# ------------------------------------------------------------------------------------------------- the noised magnet


def _seen(x, t, beta, field) -> tuple[torch.Tensor, torch.Tensor, float, float]:
    """x and t in float64 and the checked numbers."""
    y = _vectors(x, "x")
    return y, _time(t, y), _beta(beta), _scalar(field, "field")


def _tilt(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """u = e^{−t} x/Δ_t."""
    return (-t).exp() * x / _delta(t)


def posterior_mean(x: torch.Tensor, t, beta: float, field: float = 0.0) -> torch.Tensor:
    """E[a | x_t = x], exactly at every d: the magnetisation of the magnet in the fields u = e^{−t} x/Δ_t.

    Parameters
    ----------
    x : torch.Tensor, shape (B, d)
        Floating point; may require a gradient (memory then grows as B d √(βd)).
    t : float or torch.Tensor of shape (B,), > 0
    beta : float, ≥ 0
    field : float
        h, of the whole magnet: h/d per spin.

    Returns
    -------
    torch.Tensor
        (B, d), the dtype of `x`, computed in float64.

    Raises
    ------
    ValueError
        If `x` is not (B, d), floating point and finite, t ≤ 0 or of another length, a number is out of range, or fields beyond ±340 are needed.

    Notes
    -----
    Claims CWM-2, THS-1. The cost is B d √(βd).
    """
    y, t, beta, field = _seen(x, t, beta, field)
    return tilted_magnetization(_tilt(y, t), beta, field).to(x.dtype)


def score(x: torch.Tensor, t, beta: float, field: float = 0.0) -> torch.Tensor:
    """∇ log p_t(x) = (e^{−t} E[a | x] − x)/Δ_t, exactly at every d: arguments, result and Raises as in `posterior_mean`."""
    y, t, beta, field = _seen(x, t, beta, field)
    mean = tilted_magnetization(_tilt(y, t), beta, field)
    return (((-t).exp() * mean - y) / _delta(t)).to(x.dtype)


def log_density(x: torch.Tensor, t, beta: float, field: float = 0.0) -> torch.Tensor:
    """log p_t(x) = −(|x|² + d e^{−2t})/2Δ_t − (d/2) log 2πΔ_t + log Z(u) − log Z(0): minus a free energy.

    Computed with the first and the third term joined, Σ_i log Σ_± e^{−(x_i ∓ e^{−t})²/2Δ_t}, so that small t and far x cost no digit.

    Parameters
    ----------
    x, t, beta, field
        As in `posterior_mean`.

    Returns
    -------
    torch.Tensor
        (B,) float64, in nats; differentiable in x, with `score` as its gradient.

    Raises
    ------
    ValueError
        As in `posterior_mean`.

    Notes
    -----
    Claims CWM-2, THS-1.
    """
    y, t, beta, field = _seen(x, t, beta, field)
    s, delta = (-t).exp(), _delta(t)
    pair = torch.logaddexp(-((y - s) ** 2) / (2 * delta), -((y + s) ** 2) / (2 * delta))
    alone = (pair - (2 * math.pi * delta).log() / 2).sum(1)
    average = _log_average(_tilt(y, t), beta, field)
    return alone + average - log_partition(y.shape[1], beta, field).to(y.device)


def sector_posterior(x: torch.Tensor, t, beta: float, field: float = 0.0) -> SectorLaw:
    """The exact law of M given x_t = x, with no quadrature: P(M | x) ∝ e^{(β/2d) M² + (h/d) M} P₀(M).

    P₀ is the law of the sum of independent spins of means tanh u_i (Poisson binomial), built up spin by spin in logarithms: O(d²).

    Parameters
    ----------
    x, t, beta, field
        As in `posterior_mean`.

    Returns
    -------
    SectorLaw
        ``values`` (d + 1,) and ``probabilities`` (B, d + 1), float64.

    Raises
    ------
    ValueError
        As in `posterior_mean`.

    Notes
    -----
    Claims CWM-2, CWM-6.
    """
    y, t, beta, field = _seen(x, t, beta, field)
    u, d = _tilt(y, t), y.shape[1]
    up, down = torch.nn.functional.logsigmoid(2 * u), torch.nn.functional.logsigmoid(-2 * u)
    law = torch.zeros(len(u), 1, dtype=u.dtype, device=u.device)
    edge = torch.full_like(law, -math.inf)
    for i in range(d):
        law = torch.logaddexp(
            torch.cat([law + down[:, i, None], edge], 1), torch.cat([edge, law + up[:, i, None]], 1)
        )
    values = 2 * torch.arange(d + 1, dtype=u.dtype, device=u.device) - d
    return SectorLaw(values, torch.softmax(law + beta / (2 * d) * values**2 + field / d * values, 1))


def posterior_sample(
    x: torch.Tensor, t, beta: float, field: float = 0.0, generator: torch.Generator | None = None
) -> torch.Tensor:
    """One exact draw of the data from p(a | x_t = x) for each row: a field q with probability π_q(x), then independent spins.

    It has the law of an exact reverse diffusion started at x: twice from one x, it makes two clones.

    Parameters
    ----------
    x, t, beta, field
        As in `posterior_mean`.
    generator : torch.Generator, optional
        On the device of `x`. None draws fresh entropy.

    Returns
    -------
    torch.Tensor
        (B, d) of ±1, the dtype of `x`.

    Raises
    ------
    ValueError
        As in `posterior_mean`.
    """
    y, t, beta, field = _seen(x, t, beta, field)
    g, u = _generator(generator), _tilt(y, t)
    phi, log_g = _lattice(y.shape[1], beta, field, device=y.device)
    pi = torch.softmax(_log_terms(u, phi, log_g), 1)
    chosen = phi[torch.multinomial(pi, 1, generator=g)]  # (B, 1)
    r = torch.rand(u.shape, generator=g, dtype=u.dtype, device=u.device)
    return torch.where(r < torch.sigmoid(2 * (chosen + u)), 1.0, -1.0).to(x.dtype)


def reverse_sample(
    n: int,
    d: int,
    beta: float,
    times: torch.Tensor,
    field: float = 0.0,
    eta: float = 1.0,
    start: torch.Tensor | None = None,
    generator: torch.Generator | None = None,
) -> torch.Tensor:
    """Data by the exact reverse process dx = [x + (1 + η) S] dτ + √(2η) dW: Euler–Maruyama steps with the exact score.

    Parameters
    ----------
    n, d : int, ≥ 1
        Number of trajectories, and dimension.
    beta : float, ≥ 0
    times : torch.Tensor, shape (steps + 1,)
        float64, t_0 > t_1 > … > t_steps ≥ 0. Near 0 a step of length δ contracts by 1 − δ(1 + η)/2t: let the steps shrink with t.
    field : float
        h, of the whole magnet.
    eta : float, ≥ 0
        1: the diffusion. 0: the probability-flow equation.
    start : torch.Tensor, shape (n, d), optional
        x at t_0, float32 or float64 (it sets dtype and device); None starts from N(0, 1) in float32.
    generator : torch.Generator, optional
        None draws fresh entropy.

    Returns
    -------
    torch.Tensor
        (n, d), x at t_steps.

    Raises
    ------
    ValueError
        If a number is out of range, the grid is not descending, or a shape or dtype does not fit.

    Notes
    -----
    Claim CWM-5. Fields of a weight below 10⁻²⁰ are left out, and the integral over fields is as exact as
    the dtype (see `hubbard_stratonovich`).
    """
    n, d, g = _count(n, "n", 1), _count(d, "d", 1), _generator(generator)
    if start is None:
        start = torch.randn(n, d, generator=g, device=g.device)
    elif not isinstance(start, torch.Tensor) or start.shape != (n, d) or not start.is_floating_point():
        came = (
            f"{start.dtype}, shape {tuple(start.shape)}" if isinstance(start, torch.Tensor) else repr(start)
        )
        raise ValueError(f"start: got {came}; expected a floating-point tensor of shape {(n, d)}")
    tolerance = torch.finfo(start.dtype).eps / 10  # no closer than its arithmetic
    mixture = hubbard_stratonovich(d, beta, field, least=1e-20, tolerance=tolerance)
    fields, weights = (v.to(start.device) for v in mixture)
    return reverse.spins_in_fields(start, fields, times, philox.key(g), eta, weights)


# ------------------------------------------------------------------------------------------------- large d


def mean_field_magnetization(x: torch.Tensor, t, beta: float, field: float = 0.0) -> torch.Tensor:
    """m̂(x), the saddle of the integral over φ = βm̂ + h/d: m̂ = (1/d) Σ_i tanh(βm̂ + h/d + u_i), the root of largest weight.

    Parameters
    ----------
    x, t, beta, field
        As in `posterior_mean`.

    Returns
    -------
    torch.Tensor
        (B,) float64.

    Raises
    ------
    ValueError
        As in `posterior_mean`.

    Notes
    -----
    Claim CWM-3.
    """
    y, t, beta, field = _seen(x, t, beta, field)
    return _saddle(_tilt(y, t), beta, field)[:, 0]


def _saddle(u: torch.Tensor, beta: float, field: float) -> torch.Tensor:
    d = u.shape[1]
    phi, log_g = _lattice(d, beta, field, device=u.device)
    best = phi[_log_terms(u, phi, log_g).argmax(1, keepdim=True)]
    m = torch.tanh(best + u).mean(1, keepdim=True)
    for _ in range(100):
        tau = torch.tanh(beta * m + field / d + u)
        residual = m - tau.mean(1, keepdim=True)
        slope = 1 - beta * (1 - tau**2).mean(1, keepdim=True)
        # Newton; at slope 1 it is the iteration of m̂ = …, which climbs. A flat saddle is approached in bounded steps.
        m = m - residual / slope.clamp_min(0.05)
        if not bool((residual.abs() > 1e-14).any()):
            break
    return m


def mean_field_posterior_mean(x: torch.Tensor, t, beta: float, field: float = 0.0) -> torch.Tensor:
    """tanh(βm̂ + h/d + u_i), the limit d → ∞ of `posterior_mean` (same arguments, result and Raises); its error is O(1/d).

    The limit is at fixed t, where one class dominates. At e^{−t} √d = O(1), speciation, both saddles count, and `regime_one_mean` is
    the limit. Claim CWM-3.
    """
    y, t, beta, field = _seen(x, t, beta, field)
    u = _tilt(y, t)
    return torch.tanh(beta * _saddle(u, beta, field) + field / y.shape[1] + u).to(x.dtype)


def mean_field_error(t, beta: float) -> torch.Tensor:
    """lim d · rms_i(E[a_i | x] − `mean_field_posterior_mean`) at h = 0 for x ~ p_t, fixed t: the price of one saddle.

    About its saddle the field has the variance β/(d(1 − βχ)), χ = E[1 − τ²], and the third derivative of its exponent −2d g,
    g = E[τ(1 − τ²)], moves its mean. To order 1/d

        E[a_i | x] = τ_i − (β/d(1 − βχ)) (1 − τ_i²) [τ_i + βg/(1 − βχ)],    τ = tanh(βm* + u),

    with u = e^{−t} x/Δ_t of a spin +1 with probability (1 + m*)/2 in the class M > 0; averages are over that u.

    Parameters
    ----------
    t : float or torch.Tensor, > 0
    beta : float, ≥ 0, not 1

    Returns
    -------
    torch.Tensor
        float64, the shape of `t`.

    Raises
    ------
    ValueError
        If t ≤ 0 or a number is out of range.

    Notes
    -----
    Claim CWM-3. At β = 1 and t → ∞ the saddle is flat and the error larger than 1/d.
    """
    t, beta = _positive(t)[..., None, None], _beta(beta)
    if beta == 1:
        raise ValueError("beta: got 1; expected a number apart from it, where 1 − βχ vanishes as t → ∞")
    m, s, delta = magnetization(beta), torch.exp(-t), _delta(t)
    a = torch.tensor([[1.0], [-1.0]], dtype=torch.float64)
    z = torch.linspace(-9, 9, 1441, dtype=torch.float64)
    p = (1 + a * m) / 2 * torch.softmax(-(z**2) / 2, 0)
    tau = torch.tanh(beta * m + s * (s * a + delta.sqrt() * z) / delta)

    def mean(v):
        return (p * v).sum((-2, -1), keepdim=True)

    gain = beta / (1 - beta * mean(1 - tau**2))
    shift = gain * (1 - tau**2) * (tau + gain * mean(tau * (1 - tau**2)))
    return mean(shift**2).sqrt()[..., 0, 0]


def regime_one_mean(x: torch.Tensor, t, beta: float, field: float = 0.0) -> torch.Tensor:
    """E[a_i | x] ≈ m* tanh(m* (e^{−t} Σ_j x_j + h)), the same for all i, where e^{−t} √d = O(1): speciation, β > 1.

    Its error is O(1/d) for the mean over i; a single spin feels its own x_i too, (1 − m*²) e^{−t} x_i = O(1/√d).

    Parameters
    ----------
    x, t, beta, field
        As in `posterior_mean`.

    Returns
    -------
    torch.Tensor
        (B,), the dtype of `x`.

    Raises
    ------
    ValueError
        As in `posterior_mean`.

    Notes
    -----
    Claim CWM-4.
    """
    y, t, beta, field = _seen(x, t, beta, field)
    m = magnetization(beta).to(y.device)
    return (m * torch.tanh(m * ((-t).exp()[:, 0] * y.sum(1) + field))).to(x.dtype)


def potential(q: torch.Tensor, t, d: int, beta: float, field: float = 0.0) -> torch.Tensor:
    """V(q, t) = q²/2 − 2 log cosh(m* (√d e^{−t} q + h)) of q = Σ x_i/√d in regime I: reverse time moves it by dq = −V′ dτ + √2 dW.

    Parameters
    ----------
    q : torch.Tensor
        Floating point.
    t : float or torch.Tensor, > 0
        Broadcasts against `q`.
    d : int, ≥ 1
    beta : float, ≥ 0
    field : float
        h, of the whole magnet.

    Returns
    -------
    torch.Tensor
        float64, the common shape; differentiable in q.

    Raises
    ------
    ValueError
        If q is not floating point and finite, t ≤ 0, or a number is out of range.

    Notes
    -----
    Biroli, Bonnaire, de Bortoli, Mézard (2024), Nat. Commun. 15, 9957; claim CWM-4. At h = 0
    V″(0) = 1 − 2 d m*² e^{−2t}: one well up to t = ½ log(2 d m*²) from above, two below.
    """
    d, beta, field = _magnet(d, beta, field)
    q, t = _reals(q, "q"), _positive(t)
    u = magnetization(beta) * (math.sqrt(d) * torch.exp(-t) * q + field)
    return q**2 / 2 - 2 * (torch.logaddexp(u, -u) - math.log(2))


def _reals(q, name: str) -> torch.Tensor:
    if not isinstance(q, torch.Tensor) or not q.is_floating_point() or not bool(q.detach().isfinite().all()):
        raise ValueError(f"{name}: got {q!r}; expected a tensor of finite floating-point numbers")
    return q.double()


def _positive(t) -> torch.Tensor:
    """Times of any shape, float64."""
    t = torch.as_tensor(t, dtype=torch.float64)
    if not bool(((t > 0) & t.isfinite()).all()):
        raise ValueError(f"t: got {t.tolist()}; expected finite times > 0")
    return t


def noised_free_energy(y: torch.Tensor, t, beta: float, field: float = 0.0) -> torch.Tensor:
    """The landscape of the noised magnetisation y = Σ x_i/d as d → ∞: f_t(y) = −lim (1/d) log p_t(y).

        f_t(y) = min_m [f(m) + (y − e^{−t} m)²/2Δ_t] − min f,

    whose minimiser is the posterior magnetisation of the class that y favours, m = tanh(β′m + h′): a magnet of the reduced coupling
    β′ = β − e^{−2t}/Δ_t in the field h′ = h + e^{−t} y/Δ_t. At h = 0 it has a cusp at y = 0 if β′ > 1, that is at t >
    ½ log(β/(β − 1)): the two classes compete there without a barrier between them. Field intensive as in `magnetization`.

    Parameters
    ----------
    y : torch.Tensor
        Floating point.
    t : float or torch.Tensor, > 0
        Broadcasts against `y`.
    beta : float, ≥ 0
    field : float
        h per spin.

    Returns
    -------
    torch.Tensor
        float64, the common shape, ≥ 0 and 0 at ±m* e^{−t}.

    Raises
    ------
    ValueError
        If y is not floating point and finite, t ≤ 0, or a number is out of range.
    """
    beta, field, y, t = _beta(beta), _scalar(field, "field"), _reals(y, "y"), _positive(t)
    s, delta = torch.exp(-t), _delta(t)
    m = magnetization(beta - s**2 / delta, field + s * y / delta)
    least = _free_energy(magnetization(beta, field), beta, field)
    return _free_energy(m, beta, field) + (y - s * m) ** 2 / (2 * delta) - least


# ------------------------------------------------------------------------------------------------- speciation


def speciation_time(d: int, beta: float, field: float = 0.0) -> torch.Tensor:
    """t_S = ½ log Λ with the exact `second_moment` Λ: about ½ log(d m*²) for β > 1. A float64 scalar.

    Biroli, Bonnaire, de Bortoli, Mézard (2024), Nat. Commun. 15, 9957; claim CWM-6.
    """
    return second_moment(d, beta, field).log() / 2


def cloning_probability(
    t: float,
    d: int,
    beta: float,
    field: float = 0.0,
    n: int = 2000,
    generator: torch.Generator | None = None,
) -> Estimate:
    """φ(t) = E[P(M > 0 | x)² + P(M < 0 | x)²], x ~ p_t: two reverse diffusions that part at t end in one class.

    The class probabilities are exact (`sector_posterior`), only x is drawn.

    Parameters
    ----------
    t : float, > 0
    d : int, ≥ 1
        If it is even, M = 0 belongs to no class.
    beta : float, ≥ 0
    field : float
        h, of the whole magnet.
    n : int, ≥ 2
        Number of x.
    generator : torch.Generator, optional
        None draws fresh entropy.

    Returns
    -------
    Estimate
        ``mean`` and ``error``, float64 scalars.

    Raises
    ------
    ValueError
        If a number is out of range or not finite.

    Notes
    -----
    Claim CWM-6; `cloning_limit` is its limit.
    """
    n, t, g = _count(n, "n", 2), _number(t, "t", 0, strict=True), _generator(generator)
    x = _noised(sample(n, d, beta, field, g), t, g)
    values, p = sector_posterior(x, t, beta, field)
    same = p[:, values > 0].sum(1) ** 2 + p[:, values < 0].sum(1) ** 2
    return Estimate(same.mean(), same.std() / math.sqrt(n))


def cloning_limit(t, d: int, beta: float) -> torch.Tensor:
    """f(κ) = ½ (1 + E_z tanh(κ² + κz)), the cloning probability of two Gaussian classes with the moments of the magnet at h = 0.

    κ² = (E|M|)² e^{−2t} / (d Γ_t) with Γ_t = Δ_t + e^{−2t} Var(|M|)/d: distance over width of the classes along (1, …, 1)/√d.

    Parameters
    ----------
    t : float or torch.Tensor, > 0
    d : int, ≥ 1
    beta : float, ≥ 0

    Returns
    -------
    torch.Tensor
        float64, the shape of `t`: from ½ (t → ∞) up to 1.

    Raises
    ------
    ValueError
        If t ≤ 0 or a number is out of range.

    Notes
    -----
    Claims CWM-6, BIR-8. E tanh = E tanh² here (Nishimori's identity), and f(1) = 0.775200.
    """
    t = _positive(t)
    centre = absolute_magnetization(d, beta) * math.sqrt(d)
    gamma = _delta(t) + torch.exp(-2 * t) * (second_moment(d, beta) - centre**2)
    kappa = (centre * torch.exp(-t) / gamma.sqrt())[..., None]
    # The trapezoidal rule: tanh(κ² + κz) has its poles π/2κ from the real line, or where κ is large, its step under e^{−κ²/2}.
    z = torch.linspace(-9, 9, 721, dtype=torch.float64)
    p = torch.softmax(-(z**2) / 2, 0)
    return (1 + (p * torch.tanh(kappa**2 + kappa * z)).sum(-1)) / 2
