"""When generation becomes copying: the score of n data (the chapter `memorization/collapse`).

Noised by dx = −x dt + √2 dW, the n data a_μ themselves become a mixture, with s = e^{−t} and Δ_t = 1 − e^{−2t},

    p_emp(x) = (1/n) Σ_μ N(x; s a_μ, Δ_t 1),    S_emp = Σ_μ w_μ (s a_μ − x)/Δ_t,    w = softmax(−|x − s a_μ|²/2Δ_t),

attention over the data set. It is the partition function of a random energy model with one planted level, the datum that x came
from. While log n exceeds the mutual information I(a; x_t) = S(t) − S_Gauss(t), with S_Gauss = (d/2) log 2πeΔ_t, many data share
the weight and p_emp looks like the true law; below, the planted one has it all. For data of variance σ² about their centres the two
meet at

    t_C = ½ log(1 + σ²/(n^{2/d} − 1)).

A bandwidth c replaces Δ_t by Δ_t + c e^{−2t}: the score of data smeared to N(a_μ, c 1), which copies no more closely than √c.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from scipy import stats
from scipy.optimize import brentq

from physgen.checks import count, number, stream
from physgen.checks import times as _times
from physgen.diffusion.denoisers import Estimate
from physgen.exact.speciation import class_information, noised_variance, signal_to_noise
from physgen.kernels import mixture_score as mixture
from physgen.kernels import philox, reverse

__all__ = [
    "Nearest",
    "Planted",
    "collapse_time",
    "collapse_time_exact",
    "condensation_point",
    "empirical_entropy",
    "empirical_score",
    "excess_entropy",
    "expected_participation",
    "gaussian_entropy",
    "generate",
    "limit_participation",
    "log_density",
    "mixture_entropy",
    "mutual_information",
    "nearest",
    "participation_ratio",
    "planted",
    "random_energy_participation",
    "rem_entropy",
    "weights",
]


class Nearest(NamedTuple):
    """For each point the datum next to it, and how far it is."""

    index: torch.Tensor  # (batch,) int64
    distance: torch.Tensor  # (batch,)


class Planted(NamedTuple):
    """Means over points x = s a_k + √Δ z that come from a datum k, with standard errors."""

    weight: Estimate  # w_k, of the datum that x comes from
    participation: Estimate  # Y₂ = Σ w²
    difference: Estimate  # w_k − Y₂, whose mean is zero; the two are correlated, so its error is its own


# ------------------------------------------------------------------------------------------------- input


def _size(n) -> float:
    """The number of data: counted, or a real number where it is e^I."""
    return number(n, "n", 1)


def _noise(t: float, bandwidth: float) -> tuple[float, float]:
    """e^{−t} and Δ_t + c e^{−2t}."""
    return math.exp(-t), bandwidth * math.exp(-2 * t) - math.expm1(-2 * t)


def _at(function, x, t, data, bandwidth) -> torch.Tensor:
    """A function of the kernel at time t; rows with times of their own are taken time by time."""
    c = number(bandwidth, "bandwidth", 0)
    if not isinstance(t, torch.Tensor) or t.ndim == 0:
        return function(x, data, *_noise(number(t, "t", 0, strict=True), c))
    times = _times(t).to(getattr(x, "device", None))
    if not isinstance(x, torch.Tensor) or times.shape != x.shape[:1]:
        raise ValueError(f"t: got shape {tuple(t.shape)}; expected a number or one time for each row of x")
    if len(times) == 0:
        return function(x, data, 1.0, 1.0)
    rows = [(times == value).nonzero()[:, 0] for value in times.unique()]
    parts = [function(x[row], data, *_noise(float(times[row[0]]), c)) for row in rows]
    return torch.cat(parts)[torch.cat(rows).argsort()]


def _data(data) -> torch.Tensor:
    """(n, d) finite floats, in float64."""
    if (
        not isinstance(data, torch.Tensor)
        or not data.is_floating_point()
        or data.ndim != 2
        or not data.numel()
    ):
        came = f"{data.dtype} {tuple(data.shape)}" if isinstance(data, torch.Tensor) else repr(data)
        raise ValueError(f"data: got {came}; expected floating-point numbers of shape (n, d), n and d >= 1")
    if not bool(data.isfinite().all()):
        raise ValueError("data: got NaN or infinity; expected finite numbers")
    return data.double()


# ----------------------------------------------------------------------------- the score of the data set


def empirical_score(x: torch.Tensor, t, data: torch.Tensor, bandwidth: float = 0.0) -> torch.Tensor:
    """Score of the noised data set, S_emp = Σ_μ w_μ (a_μ e^{−t} − x)/Δ_t: attention with query x, keys and values a_μ.

    Of all functions it has the least denoising loss on the data (1/n) Σ_μ E|φ(x_μ, t) + z/√Δ_t|², so a network that reaches the
    minimum has memorised them.

    Parameters
    ----------
    x : torch.Tensor, shape (batch, d)
        float32 or float64.
    t : float or torch.Tensor, shape (batch,)
        Times > 0. Rows are grouped by their times.
    data : torch.Tensor, shape (n, d)
        a_μ, n ≥ 1, dtype and device of x.
    bandwidth : float
        c ≥ 0: Δ_t becomes Δ_t + c e^{−2t}, that of data smeared to N(a_μ, c 1).

    Returns
    -------
    torch.Tensor
        (batch, d), dtype of x. The workspace does not grow with n.

    Raises
    ------
    ValueError
        If t ≤ 0, the bandwidth is negative, n = 0, a shape or dtype does not fit, or a number is not finite.

    Notes
    -----
    Lecture notes (7.3.22–24), whose exponent lacks its minus sign and whose normalisation has the power n/2 for d/2; claims
    SCO-7, SCO-8, SCO-9, BIR-22. Biroli, Bonnaire, de Bortoli, Mézard (2024), Nat. Commun. 15, 9957.
    """
    return _at(mixture.score, x, t, data, bandwidth)


def log_density(x: torch.Tensor, t, data: torch.Tensor, bandwidth: float = 0.0) -> torch.Tensor:
    """log p_emp(x), (batch,) nats, of which `empirical_score` is the gradient; arguments as there."""
    return _at(mixture.log_density, x, t, data, bandwidth)


def weights(x: torch.Tensor, t, data: torch.Tensor, bandwidth: float = 0.0) -> torch.Tensor:
    """w_μ(x) = softmax(−|x − a_μ e^{−t}|²/2Δ_t), (batch, n): how likely x came from each datum; arguments as in `empirical_score`.

    The one function here whose memory grows with n.
    """
    return _at(mixture.weights, x, t, data, bandwidth)


def participation_ratio(x: torch.Tensor, t, data: torch.Tensor, bandwidth: float = 0.0) -> torch.Tensor:
    """Y₂(x) = Σ_μ w_μ², (batch,): 1/n if all data share, 1 if one has it all; arguments as in `empirical_score`."""
    return _at(mixture.participation_ratio, x, t, data, bandwidth)


def nearest(x: torch.Tensor, data: torch.Tensor, t: float = 0.0) -> Nearest:
    """The datum μ* = argmin |x − a_μ e^{−t}| of each point, and that distance.

    Parameters
    ----------
    x : torch.Tensor, shape (batch, d)
    data : torch.Tensor, shape (n, d)
    t : float, ≥ 0
        What the data are scaled down to; 0 for finished samples.

    Returns
    -------
    Nearest
        The distance in float64, computed from the difference.

    Raises
    ------
    ValueError
        If t < 0, a shape does not fit or a number is not finite.

    Notes
    -----
    Biroli et al. (2024), the distance d*(x); claims BIR-19, BIR-21.
    """
    a = _data(data) * math.exp(-number(t, "t", 0))
    if (
        not isinstance(x, torch.Tensor)
        or x.ndim != 2
        or x.shape[1] != a.shape[1]
        or not bool(x.isfinite().all())
    ):
        came = tuple(x.shape) if isinstance(x, torch.Tensor) else repr(x)
        raise ValueError(
            f"x: got {came}; expected finite numbers of shape (batch, {a.shape[1]}), d that of data"
        )
    x = x.double()
    parts = [torch.cdist(rows, a).argmin(1) for rows in x.split(max(1, 2**24 // len(a)))]
    index = torch.cat(parts) if parts else torch.empty(0, dtype=torch.int64)
    return Nearest(index, (x - a[index]).norm(dim=1))


# ------------------------------------------------------------------------------- entropies and the time t_C


def gaussian_entropy(t, d: int) -> torch.Tensor:
    """S_Gauss(t) = (d/2) log 2πeΔ_t, total, nats: the volume of the noise around one datum; float64, shape of t."""
    return count(d, "d") / 2 * (math.log(2 * math.pi * math.e) + noised_variance(_times(t), 0.0).log())


def mutual_information(t, d: int, norm: float = 0.0, variance: float = 1.0) -> torch.Tensor:
    """I(a; x_t) = (d/2) log(Γ_t/Δ_t) + I(κ_t): what noisy data of two classes ±m still know of themselves, total, nats.

    So many data make the empirical score safe down to t: n > e^{I(a; x_t)}, about (σ²/2t)^{d/2} for small t.

    Parameters
    ----------
    t : float or torch.Tensor
        Times > 0.
    d : int
        Dimension.
    norm, variance : float
        |m| ≥ 0 and σ² > 0 of the data ½N(m, σ² 1) + ½N(−m, σ² 1).

    Returns
    -------
    torch.Tensor
        float64, the shape of t. It falls with t, from +∞ to 0; the part of the class, I(κ), is at most log 2.

    Raises
    ------
    ValueError
        If an argument is out of its range.

    Notes
    -----
    Claims BIR-13, BIR-20. It is S(t) − S_Gauss(t), since x_t given a has the entropy of the noise.
    """
    times, d = _times(t), count(d, "d")
    v = number(variance, "variance", 0, strict=True)
    gaussian = d / 2 * torch.log1p(v / torch.expm1(2 * times))
    return gaussian + class_information(signal_to_noise(times, norm, v))


def mixture_entropy(t, d: int, norm: float, variance: float = 1.0) -> torch.Tensor:
    """S(t) of two noised classes, (d/2) log 2πeΓ_t + I(κ_t), total, nats: one Gaussian of variance Γ_t and up to log 2 for the class.

    Parameters
    ----------
    t : float or torch.Tensor
        Times > 0.
    d : int
        Dimension.
    norm, variance : float
        |m| ≥ 0 and σ² > 0.

    Returns
    -------
    torch.Tensor
        float64, the shape of t; exact to rounding (the class enters through a one-dimensional integral).

    Raises
    ------
    ValueError
        If an argument is out of its range.

    Notes
    -----
    Claim BIR-15.
    """
    return mutual_information(t, d, norm, variance) + gaussian_entropy(t, d)


def excess_entropy(t, n: float, d: int, entropy, temperature: float = 1.0) -> torch.Tensor:
    """f(t) = (log n)/d + ½ + ½ log 2πTΔ_t − S(t)/d per dimension: positive where n data look like their law, zero at t_C.

    Parameters
    ----------
    t : float or torch.Tensor
        Times > 0.
    n : float, ≥ 1
        Number of data.
    d : int
        Dimension.
    entropy : float or torch.Tensor
        S(t), total, nats, one for each time: `mixture_entropy`, or an estimate.
    temperature : float
        T > 0 of the noise √(2T) dW; 1 everywhere else in this book.

    Returns
    -------
    torch.Tensor
        float64, the shape of t. With S of the true law it is [log n − I(a; x_t)]/d and grows with t.

    Raises
    ------
    ValueError
        If an argument is out of its range or the shapes of t and S differ.

    Notes
    -----
    Biroli et al. (2024), the criterion of the volumes n e^{S_Gauss} = e^S; claim BIR-13.
    """
    times, d, size = _times(t), count(d, "d"), _size(n)
    warmth = math.log(number(temperature, "temperature", 0, strict=True))
    s = torch.as_tensor(entropy, dtype=torch.float64)
    if s.shape != times.shape or not bool(s.isfinite().all()):
        raise ValueError(
            f"entropy: got {entropy!r}; expected finite numbers of shape {tuple(times.shape)}, as t"
        )
    return (math.log(size) + gaussian_entropy(times, d) - s) / d + warmth / 2


def collapse_time(n: float, d: int, variance: float = 1.0, temperature: float = 1.0) -> float:
    """t_C = ½ log(1 + σ²/(T(n^{2/d} − 1))), at which n data of variance σ² in d dimensions collapse.

    Parameters
    ----------
    n : float, ≥ 1
        Number of data; one datum is collapsed at all times, t_C = ∞.
    d : int
        Dimension.
    variance, temperature : float
        σ² > 0 about the centres of the classes; T > 0 of the noise.

    Returns
    -------
    float
        In terms of α = (log n)/d: ½ log(σ²/2α) for small α, (σ²/2) e^{−2α} for large.

    Raises
    ------
    ValueError
        If an argument is out of its range.

    Notes
    -----
    Biroli et al. (2024). Exact for one Gaussian; K separated classes each have n/K data: claim BIR-14.
    """
    load = 2 * math.log(_size(n)) / count(d, "d")
    v = number(variance, "variance", 0, strict=True) / number(temperature, "temperature", 0, strict=True)
    # e^{−2α}/(1 − e^{−2α}), which does not overflow as n^{2/d} does
    return math.log1p(v * math.exp(-load) / -math.expm1(-load)) / 2 if load else math.inf


def collapse_time_exact(n: float, d: int, norm: float, variance: float = 1.0) -> float:
    """The root of f(t) at finite d, I(a; x_t) = log n, for two classes ±m of variance σ².

    Parameters
    ----------
    n : float, ≥ 1
        Number of data.
    d : int
        Dimension.
    norm, variance : float
        |m| ≥ 0 and σ² > 0.

    Returns
    -------
    float
        Between `collapse_time(n, …)` (norm = 0) and `collapse_time(n/2, …)` (classes far apart); to 10⁻¹² of itself.

    Raises
    ------
    ValueError
        If an argument is out of its range.

    Notes
    -----
    Claim BIR-14.
    """
    size, d = _size(n), count(d, "d")
    v, m = number(variance, "variance", 0, strict=True), number(norm, "norm", 0)
    low = collapse_time(size, d, v)
    if not 1e-290 < low < math.inf:
        return low
    # Of all laws with this second moment the Gaussian, and of those the equally spread, knows most: I ≤ trace/(2(e^{2t} − 1)).
    high = math.log1p((d * v + m * m) / (2 * math.log(size))) / 2

    def short(log_t: float) -> float:
        return math.log(size) - float(mutual_information(math.exp(log_t), d, m, v))

    root = brentq(short, math.log(low) - 1e-6, math.log(max(high, low)) + 1e-6, xtol=1e-13, rtol=1e-14)
    return math.exp(root)


# -------------------------------------------------------------------------------- the random energy model


def _channel(t, variance) -> float:
    """r = σ² e^{−2t}/Δ_t, the power of the signal over that of the noise."""
    return number(variance, "variance", 0, strict=True) / math.expm1(2 * number(t, "t", 0, strict=True))


def rem_entropy(lam, alpha: float, t: float, variance: float = 1.0) -> torch.Tensor:
    """s(λ) per dimension: log of the number of data that carry the sum Σ_μ e^{−λ|x − s a_μ|²/2Δ_t}, of e^{αd} in all.

        s(λ) = α + ψ − λψ',    ψ = −½ log(1 + λr) − λ(1 + r)/(2(1 + λr)),    r = σ² e^{−2t}/Δ_t.

    Gaussian data; x is a new noisy point, or one of the training set with its own datum left out.

    Parameters
    ----------
    lam : float or torch.Tensor
        λ ≥ 0, the inverse temperature; the score has λ = 1.
    alpha : float
        α = (log n)/d ≥ 0.
    t, variance : float
        > 0.

    Returns
    -------
    torch.Tensor
        float64, the shape of λ. It falls from α; where it is negative no datum is left and the sum has condensed.

    Raises
    ------
    ValueError
        If an argument is out of its range.

    Notes
    -----
    Derrida (1981), Phys. Rev. B 24, 2613; Lucibello and Mézard (2024), Phys. Rev. Lett. 132, 077301; claim BIR-16.
    """
    r, a = _channel(t, variance), number(alpha, "alpha", 0)
    x = torch.as_tensor(lam, dtype=torch.float64)
    if not bool((x.isfinite() & (x >= 0)).all()):
        raise ValueError(f"lam: got {lam!r}; expected finite numbers >= 0")
    psi = -torch.log1p(x * r) / 2 - x * (1 + r) / (2 * (1 + x * r))
    slope = -r / (2 * (1 + x * r)) - (1 + r) / (2 * (1 + x * r) ** 2)
    return a + psi - x * slope


def condensation_point(alpha: float, t: float, variance: float = 1.0) -> float:
    """λ_c with s(λ_c) = 0: above 1 before the collapse, exactly 1 at t_C, below 1 after it.

    Parameters
    ----------
    alpha : float
        α = (log n)/d, in (0, 300].
    t, variance : float
        > 0.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If an argument is out of its range.
    """
    a, r = number(alpha, "alpha", 0, strict=True), _channel(t, variance)
    if a > 300:
        raise ValueError(f"alpha: got {a}; expected at most 300")
    # s ≤ α + ½ − ½ log(1 + λr), since the terms in ψ − λψ' beside the logarithm are at most ½
    top = math.log(math.expm1(2 * a + 1) / r)
    root = brentq(
        lambda u: float(rem_entropy(math.exp(u), a, t, variance)), -60 + min(0, top), top, xtol=1e-13
    )
    return math.exp(root)


def limit_participation(alpha: float, t: float, variance: float = 1.0) -> float:
    """Mean Y₂ of a new noisy point for d → ∞ at fixed α: 1 − λ_c after the collapse, 0 before; claim BIR-16."""
    return max(0.0, 1 - condensation_point(alpha, t, variance))


LATE = 6  # e^{−e⁶} is 0


def _survival(log_w: np.ndarray, p: np.ndarray, n: float, psi: np.ndarray) -> np.ndarray:
    """φ(u)^{n−1} with φ(u) = E e^{−uW}, at u = e^ψ."""
    missed = -np.expm1(-np.exp(np.minimum(log_w + psi[:, None], LATE))) @ p
    with np.errstate(divide="ignore"):
        return np.exp((n - 1) * np.log1p(-np.minimum(missed, 1))) if n > 1 else np.ones_like(psi)


def _arrivals(log_w: np.ndarray, p: np.ndarray, power: int, psi: np.ndarray) -> np.ndarray:
    """E (uW)^power e^{−uW} at u = e^ψ."""
    y = np.minimum(log_w + psi[:, None], LATE)
    return np.exp(power * y - np.exp(y)) @ p


def _grid(log_w: np.ndarray, p: np.ndarray, n: float, own: np.ndarray) -> np.ndarray:
    """ψ from where u is too small for the largest term to where a term has surely come; increasing, evenly spaced."""
    order = np.argsort(-log_w)
    many = order[min(np.searchsorted(np.cumsum(p[order]), 50 / n), len(order) - 1)]
    low = -max(own.max(), log_w[order][np.searchsorted(np.cumsum(p[order]), 1e-12 / n)]) - 16
    high = min(-log_w[many], -own.min()) + 4
    return np.linspace(low, high, int(min(2000, 64 + (high - low) / 0.1)))


def _expected_y2(log_w: np.ndarray, p: np.ndarray, n: float) -> float:
    """E Σ W_μ²/(Σ W_ν)² of n independent terms, n ∫ du u E[W² e^{−uW}] φ(u)^{n−1}; the law of log W on a grid."""
    psi = _grid(log_w, p, n, log_w)
    return n * np.trapezoid(_arrivals(log_w, p, 2, psi) * _survival(log_w, p, n, psi), psi)


def _expected_own(
    log_w: np.ndarray, p: np.ndarray, n: float, log_own: np.ndarray, p_own: np.ndarray
) -> float:
    """E W_0/(W_0 + Σ_{μ<n} W_μ), ∫ du E[W_0 e^{−uW_0}] φ(u)^{n−1}, of an independent W_0 among n − 1 terms."""
    psi = _grid(log_w, p, n, log_own)
    return np.trapezoid(_arrivals(log_own, p_own, 1, psi) * _survival(log_w, p, n, psi), psi)


def random_energy_participation(spins: int, ratio: float) -> float:
    """Mean Y₂ of the random energy model at finite size: 2^N levels from N(0, N/2) at β = `ratio` β_c, β_c = 2√(log 2).

    Parameters
    ----------
    spins : int
        N, 1 to 200.
    ratio : float
        β/β_c > 0.

    Returns
    -------
    float
        By quadrature, without drawing a level; 1 − β_c/β for N → ∞ where β > β_c, and 0 where not.

    Raises
    ------
    ValueError
        If an argument is out of its range.

    Notes
    -----
    Derrida (1981); Mézard, Parisi, Sourlas, Toulouse, Virasoro (1984), J. Physique 45, 843; claim BIR-16.
    """
    size, beta = count(spins, "spins"), 2 * math.sqrt(math.log(2)) * number(ratio, "ratio", 0, strict=True)
    if size > 200:
        raise ValueError(f"spins: got {size}; expected at most 200")
    reach = 8 + math.sqrt(2 * size * math.log(2))
    z = np.linspace(-reach, reach, 2000)
    p = stats.norm.pdf(z)
    return float(_expected_y2(beta * math.sqrt(size / 2) * z, p / p.sum(), 2.0**size))


def _distances(square: float, d: int, n: float, slope: float) -> tuple[np.ndarray, np.ndarray]:
    """Values and probabilities of |u + z|², z normal in d dimensions, |u|² = square, down to tails of 1/n and less; so fine
    that slope |u + z|²/2 moves by two at most from one to the next, as long as 20 000 of them suffice.
    """
    middle, reach = math.sqrt(square + d), 8 + math.sqrt(2 * math.log(n))
    points = min(20_000, max(1002, math.ceil(slope * middle * reach)))
    r = np.linspace(max(0.0, middle - reach), middle + reach, points)[1:]
    p = r * stats.ncx2.pdf(r * r, d, square)
    return r * r, p / p.sum()


def expected_participation(t: float, n: float, d: int, variance: float = 1.0, planted: bool = False) -> float:
    """Mean Y₂ of the empirical score at finite n and d, exactly: over Gaussian data N(0, σ² 1) and over the point x.

    Given |x|, the weights of data that x does not come from are independent, and so is that of the datum it comes from; their
    ratios are averaged through 1/Σ = ∫ du e^{−uΣ}.

    Parameters
    ----------
    t : float
        Time > 0.
    n : float, ≥ 1
        Number of data.
    d : int
        Dimension.
    variance : float
        σ² > 0.
    planted : bool
        False: x is a new point of the noised law. True: x comes from one of the n data; this is also the mean weight of that datum.

    Returns
    -------
    float
        By quadrature, to about 10⁻³ (5 · 10⁻³ for d ≤ 2).

    Raises
    ------
    ValueError
        If an argument is out of its range.

    Notes
    -----
    Claims BIR-16, BIR-17.
    """
    r, size, d = _channel(t, variance), _size(n), count(d, "d")
    middle = math.sqrt(d)
    nodes, w = np.polynomial.legendre.leggauss(10)
    low = max(0.0, middle - 3.2)
    half = (middle + 3.2 - low) / 2
    rho = low + half * (1 + nodes)  # |x|/√Γ, of the law of χ with d degrees
    w = w * stats.chi.pdf(rho, d)
    found = []
    for q in rho**2:
        # |x − s a|²/Δ = r |x/(sσ) − a/σ|², with |x|²/(s²σ²) = q (1 + r)/r
        distance, p = _distances(q * (1 + r) / r, d, size, r)
        if not planted:
            found.append(_expected_y2(-r * distance / 2, p, size))
            continue
        # z given x: mean √Δ x/Γ, variance r/(1 + r), so |z|² = r/(1 + r) |u + normal|² with |u|² = q/r
        square, p_own = _distances(q / r, d, 1.0, r / (1 + r))
        found.append(_expected_own(-r * distance / 2, p, size, -r / (1 + r) * square / 2, p_own))
    return float(min(1.0, max(1 / size, w @ np.array(found) / w.sum())))


# ------------------------------------------------------------------------------------------------ simulation


def _estimate(values: torch.Tensor) -> Estimate:
    return Estimate(float(values.mean()), float(values.std()) / math.sqrt(len(values)))


def _own_weights(
    data, t, samples, bandwidth, generator
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, float]:
    """Data in float64, points of p_emp, log w_k of the data they come from (of memory that does not grow with n), and Δ."""
    a, t, own = _data(data), number(t, "t", 0, strict=True), stream(generator)
    s, delta = _noise(t, number(bandwidth, "bandwidth", 0))
    k = torch.randint(len(a), (count(samples, "samples", 2),), generator=own).to(a.device)
    z = torch.randn(len(k), a.shape[1], dtype=torch.float64, generator=own).to(a.device)
    x = s * a[k] + math.sqrt(delta) * z
    log_joint = -z.square().sum(1) / 2 - a.shape[1] / 2 * math.log(2 * math.pi * delta) - math.log(len(a))
    return a, x, (log_joint - log_density(x, t, a, bandwidth)).clamp(max=0), delta


def empirical_entropy(
    t: float,
    data: torch.Tensor,
    samples: int = 1000,
    bandwidth: float = 0.0,
    generator: torch.Generator | None = None,
) -> Estimate:
    """S_emp(t) = −E log p_emp(x) over x from p_emp, total, nats, from draws.

    Parameters
    ----------
    t : float
        Time > 0.
    data : torch.Tensor, shape (n, d)
        Computed in float64.
    samples : int
        Draws, ≥ 2.
    bandwidth : float
        c ≥ 0, as in `empirical_score`.
    generator : torch.Generator, optional
        On the CPU; None for fresh entropy.

    Returns
    -------
    Estimate
        Its mean is at most log n + S_Gauss(t), and follows it while the data are apart; of many data it follows S(t) where t > t_C.

    Raises
    ------
    ValueError
        If an argument is out of its range or its shape.

    Notes
    -----
    Claims BIR-12, BIR-18. Computed as log n + S_Gauss + E log w_k, with k the datum that x comes from: no draw exceeds the bound.
    The error is that of the draws from these data, not that of other data.
    """
    a, _, log_own, delta = _own_weights(data, t, samples, bandwidth, generator)
    n, d = a.shape
    mean, error = _estimate(log_own)
    return Estimate(mean + math.log(n) + d / 2 * math.log(2 * math.pi * math.e * delta), error)


def planted(
    t: float,
    data: torch.Tensor,
    samples: int = 1000,
    bandwidth: float = 0.0,
    generator: torch.Generator | None = None,
) -> Planted:
    """Weight of the datum k that x = s a_k + √Δ z comes from, and Y₂(x), whose means are equal: E w_k = E Σ_μ w_μ².

    For w is the posterior of k: given x, the datum is one draw from it, and Y₂ the probability that a second one is the same.

    Parameters
    ----------
    t, data, samples, bandwidth, generator
        As in `empirical_entropy`.

    Returns
    -------
    Planted

    Raises
    ------
    ValueError
        If an argument is out of its range or its shape.

    Notes
    -----
    Nishimori (1981), Prog. Theor. Phys. 66, 1169, here for levels; claim BIR-17.
    """
    a, x, log_own, _ = _own_weights(data, t, samples, bandwidth, generator)
    own = log_own.exp()
    y2 = participation_ratio(x, t, a, bandwidth)
    return Planted(_estimate(own), _estimate(y2), _estimate(own - y2))


def generate(
    samples: int,
    data: torch.Tensor,
    times: torch.Tensor,
    eta: float = 1.0,
    bandwidth: float = 0.0,
    at: Sequence[int] = (-1,),
    generator: torch.Generator | None = None,
) -> torch.Tensor:
    """Reverse trajectories with the empirical score, dx = [x + (1 + η) S_emp] dτ + √(2η) dW, from N(0, 1).

    They end on the data: within √Δ of one of them. With a bandwidth c they end on a draw from N(a_μ, c 1).

    Parameters
    ----------
    samples : int
        Trajectories.
    data : torch.Tensor, shape (n, d)
        Few enough that samples × n × d × steps operations are affordable; the simulation is float32.
    times : torch.Tensor, shape (steps + 1,)
        float64, descending to ≥ 0; the start should be late enough for N(0, 1).
    eta : float
        η ≥ 0; 0 is the probability-flow equation.
    bandwidth : float
        c ≥ 0.
    at : sequence of int
        Places in `times` to keep, in increasing order; negative ones count from the end.
    generator : torch.Generator, optional
        On the CPU; None for fresh entropy.

    Returns
    -------
    torch.Tensor
        (len(at), samples, d), float32.

    Raises
    ------
    ValueError
        If an argument is out of its range or its shape.

    Notes
    -----
    Anderson (1982); claims BIR-19, BIR-22. For other scores or many data: `physgen.diffusion.score.reverse_sample`.
    """
    a, own, c = _data(data).float(), stream(generator), number(bandwidth, "bandwidth", 0)
    if not isinstance(times, torch.Tensor) or times.ndim != 1 or len(times) < 2:
        raise ValueError(f"times: got {times!r}; expected a tensor of at least two times")
    places = [count(i + len(times) if i < 0 else i, "at", 0) for i in at]
    if not places or any(j >= len(times) for j in places) or sorted(set(places)) != places:
        raise ValueError(f"at: got {list(at)}; expected increasing places in {len(times)} times")
    x = torch.randn(count(samples, "samples"), a.shape[1], generator=own).to(a.device)
    kept, seed, first = [], philox.key(own), 0
    for place in places:
        if place > first:
            x = reverse.gaussian_mixture(x, a, times[first : place + 1], seed, eta, None, c, first_step=first)
        kept.append(x)
        first = place
    return torch.stack(kept)
