"""The geometry that a score knows (the chapter `memorization/geometry`): dimensions, manifolds, memories.

Data near a manifold of m dimensions in ℝ^d, noised by x_t = e^{−t} a + √Δ_t z, Δ_t = 1 − e^{−2t}, have a score whose Jacobian J
tells the directions apart: −Δ_t J has eigenvalues, here *levels*, near 1 across the manifold and near 0 along it. On a linear
manifold, a = F w with w ~ N(0, I_m) and entries of F of variance 1/d, all is exact:

    −Δ_t J = I − F (FᵀF + σ² I)^{−1} Fᵀ,    levels 1 (d − m times) and σ²/(σ² + γ_k),    σ² = e^{2t} − 1,

with γ_k the eigenvalues of FᵀF, Marchenko and Pastur's law of edges γ± = (1 ± √(m/d))². The largest gap between levels counts m.
The formulas of the variance-exploding literature, y = a + σz with y = e^t x_t, hold as they stand in σ². Beside this stand the
estimators that look at neighbours (two nearest neighbours; Levina and Bickel) and the nearest-neighbour regression that cannot
replace them; and the score of data themselves, which is a modern Hopfield network at the inverse temperature 1/σ².
Exact solutions are computed in float64; a score is a callable score(x, t).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from scipy.spatial import cKDTree

from physgen.checks import count, number, stream
from physgen.diffusion.denoisers import eigenbasis, jacobian
from physgen.diffusion.processes import _finite, _points
from physgen.diffusion.score import _moments, tweedie
from physgen.exact.gaussian import marchenko_pastur, marchenko_pastur_edges
from physgen.kernels import mixture_score

__all__ = [
    "Gap",
    "Phases",
    "circle_levels",
    "circle_score",
    "coupling_action",
    "embedding",
    "empirical_jacobian",
    "flat_torus",
    "hopfield_beta",
    "hopfield_energy",
    "hopfield_retrieve",
    "hopfield_update",
    "knn_circle_error",
    "knn_error",
    "largest_gap",
    "level_density",
    "levels",
    "levina_bickel",
    "linear_gap",
    "linear_jacobian",
    "linear_score",
    "neighbour_distances",
    "phase_times",
    "score_jacobian",
    "score_retrieve",
    "soft_dimension",
    "two_nn",
]

Score = Callable[[torch.Tensor, float | torch.Tensor], torch.Tensor]
CHUNK = 2**22  # distances held at once


class Gap(NamedTuple):
    """The largest gap of each spectrum, both (batch,)."""

    dimension: torch.Tensor  # int64: how many levels lie below it
    size: torch.Tensor


class Phases(NamedTuple):
    """The times between the three phases of a linear manifold, on the way from noise to data; coverage > consolidation."""

    coverage: float  # σ² = γ₊: above it the phase is trivial, below it the manifold is being covered
    consolidation: float  # σ² = γ₋: below it all directions of the manifold are known


# ------------------------------------------------------------------------------------------------- the spectrum of a score


def score_jacobian(x: torch.Tensor, score: Score, t: float | torch.Tensor) -> torch.Tensor:
    """The Jacobian of a score, J_ij = ∂S_i/∂x_j, by d passes of automatic differentiation.

    Parameters
    ----------
    x : torch.Tensor, shape (batch, d)
    score : callable
        score(x, t), differentiable in x, one point not depending on another.
    t : float, or torch.Tensor of shape (batch,), > 0

    Returns
    -------
    torch.Tensor
        (batch, d, d), the dtype of `x`; symmetric for an exact score.

    Raises
    ------
    ValueError
        If a shape does not fit, t ≤ 0, a number is not finite, or the score has no derivative.

    Notes
    -----
    Stanczuk, Batzolis, Deveney, Schönlieb (2022); Ventura, Achilli, Silvestri, Lucibello, Ambrogioni (2024). Claim AMB-01.
    """
    _moments(t, _points(x))

    def at(y: torch.Tensor) -> torch.Tensor:
        out = score(y, t)
        if isinstance(out, torch.Tensor) and not out.requires_grad:
            raise ValueError("score: got values without a derivative in x; expected a differentiable score")
        return out

    with torch.enable_grad():
        return jacobian(at, x)


def levels(jacobian: torch.Tensor, t: float | torch.Tensor) -> torch.Tensor:
    """The levels of a score: the eigenvalues of −Δ_t (J + Jᵀ)/2, ascending; near 0 along the data, near 1 across.

    A level is one minus the share of the noise's variance that the data can explain: −Δ_t J = I − (e^{−2t}/Δ_t) Cov(a | x). It is at
    most 1 for an exact score, and below 0 where the data are further apart than the noise (between two clusters, say).

    Parameters
    ----------
    jacobian : torch.Tensor, shape (batch, d, d)
        Of a score, `score_jacobian`.
    t : float, or torch.Tensor of shape (batch,), > 0

    Returns
    -------
    torch.Tensor
        (batch, d), the dtype of the Jacobian.

    Raises
    ------
    ValueError
        If the Jacobians are not (batch, d, d) or not finite, or t ≤ 0.

    Notes
    -----
    −σ² times the Jacobian of the variance-exploding score has the same eigenvalues. Claim AMB-01.
    """
    growth = eigenbasis(jacobian).h  # descending
    _, delta = _moments(t, growth)
    return -delta * growth


def largest_gap(levels: torch.Tensor) -> Gap:
    """The largest difference of neighbouring levels, and how many levels lie below it: the dimension that the score sees.

    The answer is between 1 and d − 1 whatever the levels: read it with the size of the gap.

    Parameters
    ----------
    levels : torch.Tensor, shape (batch, d), d ≥ 2
        Ascending, as from `levels`.

    Raises
    ------
    ValueError
        If there are fewer than two levels, or they do not ascend.

    Notes
    -----
    Ventura et al. (2024); claim AMB-01.
    """
    gaps = _points(levels, "levels").diff(dim=1)
    if gaps.shape[1] == 0 or bool((gaps < 0).any()):
        raise ValueError(
            f"levels: got shape {tuple(levels.shape)}; expected at least two, ascending, in a row"
        )
    size, place = gaps.max(1)
    return Gap(place + 1, size)


def soft_dimension(levels: torch.Tensor) -> torch.Tensor:
    """Σ_k (1 − level_k) = (e^{−2t}/Δ_t) tr Cov(a | x): the dimensions in which the data are wider than the noise, counted softly; (batch,).

    It is d minus the trace of −Δ_t J, so that no threshold is needed: a function of the scale σ, not a constant of the data.
    Raises ValueError if `levels` is not a (batch, d) tensor of finite numbers.

    Notes
    -----
    Claims AMB-01, ETC-02.
    """
    return (1 - _points(levels, "levels")).sum(1)


def empirical_jacobian(x: torch.Tensor, t: float, data: torch.Tensor) -> torch.Tensor:
    """The Jacobian of the score of n noised data, (e^{−2t}/Δ_t²) Cov(a | x) − I/Δ_t, from the posterior weights.

    Parameters
    ----------
    x : torch.Tensor, shape (batch, d)
    t : float, > 0
    data : torch.Tensor, shape (n, d)
        The dtype of `x`.

    Returns
    -------
    torch.Tensor
        (batch, d, d), the dtype of `x`, computed in float64; its workspace does not grow with n. In the collapsed phase one datum has
        all the weight, Cov = 0 and all levels are 1: a data set that is remembered has dimension zero.

    Raises
    ------
    ValueError
        If a shape or dtype does not fit, t ≤ 0 or a number is not finite.

    Notes
    -----
    Claims AMB-01, ETC-04.
    """
    t = number(t, "t", 0, strict=True)
    s, delta = math.exp(-t), -math.expm1(-2 * t)
    batch, d = _points(x).shape
    one = torch.eye(d, dtype=x.dtype, device=x.device)
    columns = mixture_score.covariance_product(
        x.detach().repeat_interleave(d, 0), data, s, delta, one.repeat(batch, 1)
    )
    covariance = columns.reshape(batch, d, d)
    return (s / delta) ** 2 * (covariance + covariance.mT) / 2 - one / delta


# ------------------------------------------------------------------------------------------------- a linear manifold


def embedding(d: int, m: int, generator: torch.Generator | None = None) -> torch.Tensor:
    """F of shape (d, m) with independent entries N(0, 1/d), float64: data F w, w ~ N(0, I_m), fill m directions of ℝ^d.

    Raises ValueError if d or m is not an integer ≥ 1, or m > d.
    """
    d, m = count(d, "d"), count(m, "m")
    if m > d:
        raise ValueError(f"m: got {m}; expected at most d = {d}")
    return torch.randn(d, m, generator=stream(generator), dtype=torch.float64) / math.sqrt(d)


def _directions(f: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Orthonormal directions (d, m) of the columns of F and the variances γ of the data along them."""
    f = _finite(f, "f", "(d, m)", 2)
    if f.shape[1] > f.shape[0]:
        raise ValueError(f"f: got shape {tuple(f.shape)}; expected (d, m) with m <= d")
    u, root, _ = torch.linalg.svd(f.detach().double(), full_matrices=False)
    return u, root**2


def linear_score(x: torch.Tensor, t: float | torch.Tensor, f: torch.Tensor) -> torch.Tensor:
    """The score of noised data F w: S = −(1/Δ_t) [x − F (FᵀF + σ²)^{−1} Fᵀ x], σ² = e^{2t} − 1.

    Parameters
    ----------
    x : torch.Tensor, shape (batch, d)
    t : float, or torch.Tensor of shape (batch,), > 0
    f : torch.Tensor, shape (d, m), m ≤ d
        F, of any rank.

    Returns
    -------
    torch.Tensor
        (batch, d), the dtype of `x`, computed in float64; differentiable in x.

    Raises
    ------
    ValueError
        If a shape does not fit, t ≤ 0 or a number is not finite.

    Notes
    -----
    Ventura et al. (2024), by Woodbury's identity: Γ_t = Δ_t I + e^{−2t} F Fᵀ. Claim AMB-01.
    """
    u, gamma = _directions(f)
    if _points(x).shape[1] != len(u):
        raise ValueError(f"x: got shape {tuple(x.shape)}; expected (batch, {len(u)}), as F has rows")
    y = x.double()
    s, delta = _moments(t, y)
    inside = (y @ u) * (s**2 * gamma / (delta + s**2 * gamma)) @ u.mT
    return ((inside - y) / delta).to(x.dtype)


def linear_jacobian(t: float, f: torch.Tensor) -> torch.Tensor:
    """J = −(1/Δ_t) [I − F (FᵀF + σ²)^{−1} Fᵀ], the Jacobian of `linear_score` at every x, as a batch of one: (1, d, d), float64.

    Raises
    ------
    ValueError
        If F is no (d, m) matrix of finite numbers with m ≤ d, or t ≤ 0.
    """
    t = number(t, "t", 0, strict=True)
    identity = torch.eye(len(_finite(f, "f", "(d, m)", 2)), dtype=torch.float64)
    return linear_score(identity, t, f)[None]


def _sigma2(t) -> float:
    """σ² = e^{2t} − 1, in units of the signal; inf where it overflows."""
    t = number(t, "t", 0, strict=True)
    return math.expm1(2 * t) if t < 350 else math.inf


def _ratio(rho) -> float:
    rho = number(rho, "rho", 0, strict=True)
    if rho > 1:
        raise ValueError(f"rho: got {rho}; expected m/d in (0, 1]")
    return rho


def linear_gap(t: float, rho: float) -> float:
    """The gap between the manifold and the rest for d, m → ∞ at m/d = ρ: γ₋/(γ₋ + σ²), γ₋ = (1 − √ρ)².

    Raises ValueError unless t > 0 and 0 < ρ ≤ 1. The gap is 1 − max level = 1 − σ²/(σ² + γ₋); claim AMB-01.
    """
    low, _ = marchenko_pastur_edges(_ratio(rho))
    return low / (low + _sigma2(t))


def phase_times(rho: float) -> Phases:
    """Where a linear manifold changes phase: σ² = γ± = (1 ± √ρ)², that is t = ½ log(1 + γ±).

    Trivial for σ² ≫ γ₊ (the score knows no direction), coverage for γ₋ < σ² < γ₊ (the widest directions emerge first), consolidation
    for σ² ≪ γ₋ (the score projects onto the manifold and has forgotten how the data lie in it). They are crossovers, not singularities.

    Raises
    ------
    ValueError
        Unless 0 < ρ ≤ 1.

    Notes
    -----
    Ventura et al. (2024), whose F has entries of variance σ_F²/m, so that γ± = σ_F² (1 ± ρ^{−1/2})²; here 1/d. Claim AMB-01.
    """
    low, high = marchenko_pastur_edges(_ratio(rho))
    return Phases(math.log1p(high) / 2, math.log1p(low) / 2)


def level_density(y: torch.Tensor, t: float, rho: float) -> torch.Tensor:
    """The density of the m levels along a linear manifold for d, m → ∞: Marchenko and Pastur's law of γ, seen in y = σ²/(σ² + γ).

    Parameters
    ----------
    y : torch.Tensor
        Floating point, any shape.
    t : float, > 0
    rho : float in (0, 1]
        m/d.

    Returns
    -------
    torch.Tensor
        The shape of y, float64, of integral 1; zero outside the edges σ²/(σ² + γ±). The other d − m levels are 1.

    Raises
    ------
    ValueError
        If y is not finite and floating-point, t ≤ 0, or ρ is not in (0, 1].

    Notes
    -----
    Claim AMB-01.
    """
    _finite(y.reshape(-1) if isinstance(y, torch.Tensor) else y, "y", "(...)", 1)
    sigma2, rho = _sigma2(t), _ratio(rho)
    inside = (y > 0) & (y < 1)
    level = torch.where(inside, y.double(), 0.5)
    density = marchenko_pastur(sigma2 * (1 / level - 1), rho) * sigma2 / level**2
    return torch.where(inside, density, 0.0)


# ------------------------------------------------------------------------------------------------- a circle


def _bessel_ratio(kappa: torch.Tensor) -> torch.Tensor:
    """A(κ)/κ = I₁(κ)/(κ I₀(κ)), even and smooth: ½ − κ²/16 + κ⁴/96 near zero, where the quotient would be 0/0."""
    small = kappa < 1e-3  # the next term, 11κ⁶/6144, is below rounding
    k = torch.where(small, 1.0, kappa)
    quotient = torch.special.i1e(k) / (torch.special.i0e(k) * k)
    return torch.where(small, 0.5 - kappa**2 / 16 + kappa**4 / 96, quotient)


def circle_score(
    x: torch.Tensor, t: float | torch.Tensor, radius: float = 1.0, thickness: float = 0.0
) -> torch.Tensor:
    """The score of a noised circle: data uniform on |(a₁, a₂)| = R, other coordinates 0, plus isotropic noise of deviation τ.

    With v = Δ_t + e^{−2t}τ² and κ = e^{−t} R r/v, r = |(x₁, x₂)|, it is S = −x/v + (e^{−t}R/v) A(κ) r̂, A = I₁/I₀, r̂ in the plane.

    Parameters
    ----------
    x : torch.Tensor, shape (batch, d), d ≥ 2
    t : float, or torch.Tensor of shape (batch,), > 0
    radius : float, > 0
        R.
    thickness : float, ≥ 0
        τ.

    Returns
    -------
    torch.Tensor
        (batch, d), the dtype of `x`, computed in float64; differentiable in x, at r = 0 too.

    Raises
    ------
    ValueError
        If a shape does not fit, t ≤ 0, R ≤ 0, τ < 0 or a number is not finite.

    Notes
    -----
    A von Mises law of the angle given x; claims AMB-01, ETC-02.
    """
    if _points(x).shape[1] < 2:
        raise ValueError(f"x: got shape {tuple(x.shape)}; expected (batch, d) with d >= 2")
    radius, thickness = number(radius, "radius", 0, strict=True), number(thickness, "thickness", 0)
    y = x.double()
    s, delta = _moments(t, y)
    v = delta + (s * thickness) ** 2
    pull = s * radius / v
    plane = y[:, :2]
    # The square is kept away from zero: there the gradient of its root would not be finite.
    kappa = pull * plane.square().sum(1, keepdim=True).clamp(min=1e-200).sqrt()
    inside = torch.cat([pull**2 * _bessel_ratio(kappa) * plane, torch.zeros_like(y[:, 2:])], 1)
    score = inside - y / v
    if not bool(score.detach().isfinite().all()):
        raise ValueError(
            f"x: got coordinates up to {float(y.detach().abs().max()):g}; expected none that overflows"
        )
    return score.to(x.dtype)


def circle_levels(t: float, d: int, radius: float = 1.0, thickness: float = 0.0) -> torch.Tensor:
    """The levels of `circle_score` on the circle itself, r = e^{−t} R: one tangent, one radial, d − 2 normal; ascending, (1, d), float64.

    They are (Δ/v) [1 − A(κ)], (Δ/v) [1 − κ A'(κ)] and Δ/v with κ = e^{−2t} R²/v, A' = 1 − A/κ − A². For a thin circle and κ ≫ 1 they
    are 1/(2κ), 1 − 1/(2κ) and 1: curvature makes the tangent level of order (σ/R)², and the noise sees d dimensions below τ.

    Raises
    ------
    ValueError
        If t ≤ 0, d < 2, R ≤ 0 or τ < 0.

    Notes
    -----
    Claims AMB-01, ETC-02.
    """
    t, d = number(t, "t", 0, strict=True), count(d, "d", 2)
    radius, thickness = number(radius, "radius", 0, strict=True), number(thickness, "thickness", 0)
    s2, delta = math.exp(-2 * t), -math.expm1(-2 * t)
    v = delta + s2 * thickness**2
    kappa = s2 * radius**2 / v
    a = kappa * float(_bessel_ratio(torch.tensor(kappa, dtype=torch.float64)))
    # κA' is a small difference of large numbers: its relative rounding κ² 10⁻¹⁶ exceeds the error κ⁻² of the series beyond 10⁴.
    slope = kappa * (1 - a**2) - a if kappa < 1e4 else 1 / (2 * kappa) + 1 / (4 * kappa**2)
    tangent = 1 - a if kappa < 1e4 else 1 / (2 * kappa) + 1 / (8 * kappa**2)
    found = torch.tensor([tangent, 1 - slope] + [1.0] * (d - 2), dtype=torch.float64)
    return (delta / v * found)[None].sort(1).values


def flat_torus(
    n: int, dimension: int, ambient: int, thickness: float = 0.0, generator: torch.Generator | None = None
) -> torch.Tensor:
    """n points on a product of unit circles, uniform: (cos θ_1, sin θ_1, …, 0, …) + τ z; a circle for dimension 1. (n, ambient), float64.

    Its intrinsic dimension is `dimension`, its linear one twice that. Raises ValueError if a size is not an integer ≥ 1,
    ambient < 2 · dimension or thickness < 0.
    """
    n, m, d = count(n, "n"), count(dimension, "dimension"), count(ambient, "ambient")
    if d < 2 * m:
        raise ValueError(f"ambient: got {d}; expected at least {2 * m}, twice the dimension")
    own, thickness = stream(generator), number(thickness, "thickness", 0)
    theta = 2 * math.pi * torch.rand(n, m, generator=own, dtype=torch.float64)
    points = torch.zeros(n, d, dtype=torch.float64)
    points[:, : 2 * m] = torch.stack([theta.cos(), theta.sin()], 2).reshape(n, 2 * m)
    if thickness:
        points += thickness * torch.randn(n, d, generator=own, dtype=torch.float64)
    return points


# ------------------------------------------------------------------------------------------------- neighbours


def neighbour_distances(x: torch.Tensor, k: int) -> torch.Tensor:
    """T_1 ≤ … ≤ T_k, the distances of each point to its k nearest others; (n, k), float64.

    Raises
    ------
    ValueError
        If x is no (n, d) tensor of finite numbers, k is not an integer ≥ 1, or n ≤ k.
    """
    x, k = _points(x).detach(), count(k, "k")
    if len(x) <= k:
        raise ValueError(f"x: got n = {len(x)} points; expected more than k = {k}")
    points = x.double().cpu().numpy()
    distance, _ = cKDTree(points).query(points, k + 1)  # the first is the point itself, or a copy of it
    return torch.from_numpy(distance[:, 1:])


def _log_ratios(x: torch.Tensor, k: int) -> torch.Tensor:
    """log T_k/T_j for j < k, (n, k − 1)."""
    distance = neighbour_distances(x, k)
    if not bool((distance[:, 0] > 0).all()):
        raise ValueError("x: got points that coincide; expected distinct points (remove the copies)")
    return (distance[:, -1:] / distance[:, :-1]).log()


def two_nn(x: torch.Tensor) -> float:
    """Intrinsic dimension from two nearest neighbours: μ = T_2/T_1 has density d μ^{−d−1}, so d̂ = (n − 1)/Σ log μ.

    Where the density is constant over two neighbours it does not enter. The deviation is about d̂/√n (a little more: neighbours share
    their neighbours).

    Parameters
    ----------
    x : torch.Tensor, shape (n, d), n ≥ 3
        Distinct points.

    Raises
    ------
    ValueError
        If x is no (n, d) tensor of finite numbers, n < 3, points coincide, or all ratios are 1 (a lattice).

    Notes
    -----
    Facco, d'Errico, Rodriguez, Laio (2017), Sci. Rep. 7, 12140; their (n − 1)-corrected maximum likelihood. Claim ETC-03.
    """
    total = float(_log_ratios(x, 2).sum())
    if not total > 0:
        raise ValueError("x: got two nearest neighbours at one distance everywhere; expected no lattice")
    return (len(x) - 1) / total


def levina_bickel(x: torch.Tensor, k: int) -> torch.Tensor:
    """Intrinsic dimension around each point from k neighbours: d̂(x) = [(1/(k − 2)) Σ_{j<k} log(T_k/T_j)]^{−1}.

    Under a constant density Σ_j log(T_k/T_j) is a Gamma variable of shape k − 1 and rate d: d̂ has the mean d and the variance d²/(k − 3).

    Parameters
    ----------
    x : torch.Tensor, shape (n, d), n > k
        Distinct points.
    k : int, ≥ 3

    Returns
    -------
    torch.Tensor
        (n,), float64; its mean is the estimate for all of x.

    Raises
    ------
    ValueError
        If x is no (n, d) tensor of finite numbers, k < 3, n ≤ k, points coincide, or k neighbours are all at one distance.

    Notes
    -----
    Levina, Bickel (2004), NeurIPS 17, with the unbiased k − 2. Claim ETC-03.
    """
    k = count(k, "k", 3)
    total = _log_ratios(x, k).sum(1)
    if not bool((total > 0).all()):
        raise ValueError(f"x: got a point with {k} neighbours at one distance; expected no lattice")
    return (k - 2) / total


def knn_error(x: torch.Tensor, y: torch.Tensor, x_test: torch.Tensor, y_test: torch.Tensor) -> torch.Tensor:
    """Mean squared error on a test set of the regression that averages over k neighbours, for all k = 1 … n at once.

    The recipe of the notes, the best k is the dimension, is this curve's minimum; see `knn_circle_error` for what it is in truth.

    Shapes (n, d) and (n,), tests (m, d) and (m,); returns (n,), float64, whose entry k − 1 belongs to k. Raises ValueError if a shape
    does not fit or a number is not finite. Claim ETC-03.
    """
    x, x_test = _points(x).detach(), _points(x_test, "x_test").detach()
    if x_test.shape[1] != x.shape[1]:
        raise ValueError(f"x_test: got shape {tuple(x_test.shape)}; expected (m, {x.shape[1]})")
    y, y_test = _finite(y, "y", "(n,)", 1).double(), _finite(y_test, "y_test", "(m,)", 1).double()
    if len(y) != len(x) or len(y_test) != len(x_test):
        raise ValueError(f"y, y_test: got {len(y)}, {len(y_test)}; expected {len(x)}, {len(x_test)} values")
    total, k = torch.zeros(len(x), dtype=torch.float64), torch.arange(1, len(x) + 1)
    rows = max(1, CHUNK // len(x))
    for some, value in zip(x_test.double().split(rows), y_test.split(rows), strict=True):
        distance = torch.cdist(some, x.double(), compute_mode="donot_use_mm_for_euclid_dist")
        order = distance.argsort(dim=1, stable=True)
        total += ((y[order].cumsum(1) / k) - value[:, None]).square().sum(0)
    return total / len(x_test)


def knn_circle_error(k: torch.Tensor, n: int, noise: float) -> torch.Tensor:
    """The exact error of k-neighbour regression of cos θ + noise from n uniform points on a circle, without the noise of the test point.

    Given the distance h of neighbour k + 1, the k nearer ones are uniform within ±h, and h/π ~ Beta(k + 1, n − k):

        error = E [½ (1 − sinc h)² + (½ (1 − sinc² h) + noise²)/k],    sinc h = sin h / h.

    For 1 ≪ k ≪ n it is noise²/k + (πk/n)⁴/72, least at k⁵ = 18 noise² n⁴/π⁴: the best k grows with n and with the noise on a manifold
    whose dimension is one.

    Parameters
    ----------
    k : torch.Tensor
        Integers in 1 … n, any shape.
    n : int, ≥ 1
    noise : float, ≥ 0
        Standard deviation of the noise on the values.

    Returns
    -------
    torch.Tensor
        float64, the shape of k.

    Raises
    ------
    ValueError
        If k is no tensor of integers from 1 to n, n < 1 or noise < 0.

    Notes
    -----
    The expectations are sums over moments of the Beta law; claim ETC-03.
    """
    n, noise = count(n, "n"), number(noise, "noise", 0)
    whole = (
        isinstance(k, torch.Tensor)
        and not k.is_floating_point()
        and k.dtype != torch.bool
        and not k.is_complex()
    )
    if not whole or bool(((k < 1) | (k > n)).any()):
        raise ValueError(f"k: got {k!r:.80}; expected a tensor of integers from 1 to n = {n}")
    k = k.double()
    moment, first, second = torch.ones_like(k), torch.zeros_like(k), torch.zeros_like(k)
    for j in range(32):  # (2π)^64/66! < 10⁻⁴¹: h ≤ π
        sign, even = (-1) ** j, 2 * j
        first += sign * moment / float(math.factorial(even + 1))  # E sinc h
        second += sign * moment * 2.0 ** (even + 1) / float(math.factorial(even + 2))  # E sinc² h
        for i in (even, even + 1):
            moment = moment * math.pi * (k + 1 + i) / (n + 1 + i)  # E h^{i+1}
    return 0.5 - first + second / 2 + ((1 - second) / 2 + noise**2) / k


# ------------------------------------------------------------------------------------------------- memories


def hopfield_beta(t: float) -> float:
    """1/σ² = 1/(e^{2t} − 1): the inverse temperature of the Hopfield network that the score of data is at time t. t > 0, or ValueError."""
    return 1 / _sigma2(t)


def _memory(u, patterns, beta) -> tuple[torch.Tensor, torch.Tensor, float]:
    u, patterns = _points(u, "u"), _points(patterns, "patterns")
    if u.shape[1] != patterns.shape[1]:
        raise ValueError(f"u: got shape {tuple(u.shape)}; expected (batch, {patterns.shape[1]})")
    return u.double(), patterns.double(), number(beta, "beta", 0, strict=True)


def hopfield_energy(u: torch.Tensor, patterns: torch.Tensor, beta: float) -> torch.Tensor:
    """The energy of the modern Hopfield network, E(u) = ½|u|² − (1/β) log Σ_μ e^{β ξ^μ·u}.

    For patterns of one length, −log p_t(x) = β E(u) + const with u = e^t x and β from `hopfield_beta`: the noised data are its Gibbs law.

    Parameters
    ----------
    u : torch.Tensor, shape (batch, d)
    patterns : torch.Tensor, shape (K, d)
        ξ^μ.
    beta : float, > 0

    Returns
    -------
    torch.Tensor
        (batch,), the dtype of `u`, computed in float64.

    Raises
    ------
    ValueError
        If a shape does not fit, a number is not finite or beta ≤ 0.

    Notes
    -----
    Ramsauer et al. (2021), up to a constant; Ambrogioni (2024), arXiv 2309.17290. Claim AMB-05.
    """
    v, xi, beta = _memory(u, patterns, beta)
    return (v.square().sum(1) / 2 - torch.logsumexp(beta * v @ xi.mT, 1) / beta).to(u.dtype)


def hopfield_update(u: torch.Tensor, patterns: torch.Tensor, beta: float) -> torch.Tensor:
    """One step of retrieval, u ↦ Σ_μ ξ^μ softmax_μ(β ξ^μ·u), attention of u to the patterns; never raises the energy.

    Parameters, errors as in `hopfield_energy`.

    Returns
    -------
    torch.Tensor
        (batch, d), the dtype of `u`, computed in float64. For patterns of one length it is E[a | a + σz = u] at σ² = 1/β.

    Notes
    -----
    Ramsauer et al. (2021), the update of their equation (3). Claim AMB-05.
    """
    v, xi, beta = _memory(u, patterns, beta)
    return (torch.softmax(beta * v @ xi.mT, 1) @ xi).to(u.dtype)


def hopfield_retrieve(u: torch.Tensor, patterns: torch.Tensor, beta: float, steps: int = 20) -> torch.Tensor:
    """`hopfield_update` again and again, `steps` ≥ 1 times; (batch, d). The bits of what is remembered are its signs."""
    for _ in range(count(steps, "steps")):
        u = hopfield_update(u, patterns, beta)
    return u


def score_retrieve(u: torch.Tensor, score: Score, t: float, steps: int = 20) -> torch.Tensor:
    """The same by a score alone: u ↦ E[a | a + σz = u] = e^t (x + Δ_t S(x, t)) at x = e^{−t} u, `steps` ≥ 1 times at one t.

    With the score of the patterns themselves this is `hopfield_retrieve` at β = 1/σ²; with a trained score, what that network remembers.

    Parameters
    ----------
    u : torch.Tensor, shape (batch, d)
    score : callable
        score(x, t).
    t : float, > 0
    steps : int, ≥ 1

    Raises
    ------
    ValueError
        If a shape does not fit, a number is not finite, t ≤ 0 or steps < 1.

    Notes
    -----
    Ambrogioni (2024), arXiv 2309.17290; claim AMB-05.
    """
    t = number(t, "t", 0, strict=True)
    for _ in range(count(steps, "steps")):
        u = tweedie(math.exp(-t) * _points(u, "u"), score, t)
    return u


# ------------------------------------------------------------------------------------------------- a flow as a field theory


def coupling_action(x: torch.Tensor, a: float) -> torch.Tensor:
    """S = ½x₁² + ½(x₂ − a x₁²)², the action of the flow x₁ = z₁, x₂ = z₂ + a z₁² of two normal variables; e^{−S}/2π is its density.

    The Jacobian is one, so a quadratic flow is a theory with the vertices −a x₁²x₂ and (a²/2) x₁⁴: E x₂ = a, Var x₂ = 1 + 2a²,
    Cov(x₁², x₂) = 2a. x is (batch, 2); (batch,) comes back. Raises ValueError if x has another shape or a number is not finite.

    Notes
    -----
    Claim ETC-01.
    """
    if _points(x).shape[1] != 2:
        raise ValueError(f"x: got shape {tuple(x.shape)}; expected (batch, 2)")
    return (x[:, 0] ** 2 + (x[:, 1] - number(a, "a") * x[:, 0] ** 2) ** 2) / 2
