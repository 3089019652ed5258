"""Representations that do not collapse, and the mechanics of learning them (the chapter `energies/selfsupervised`).

Two views x, y of one thing are encoded, s = Enc(·), and s_y is predicted from s_x. The error C of the prediction alone is least for
a constant encoder. What a representation s holds has to be paid for with the right sign,

    L = C(ŝ_y, s_y) + λ [I(s_x) + I(s_y)],    λ < 0,    I = R = ½ log det(1 + c Cov s),    c = k/ε²,

where the lecture notes have λ > 0. For a linear encoder and white views, E xxᵀ = E yyᵀ = 1, E yxᵀ = A symmetric, it is solved
exactly: modes of correlation a have power s, ds/dt = −4 r s − 4 λ c s/(1 + c s), r = 1 − a², and rest at s = (|λ|/r − 1/c)₊ or at 0.

Planning and backpropagation are one calculation: states obey z_{k+1} = f_k(z_k), and the multipliers of this constraint in
C(z_T) + Σ_k λ_{k+1}ᵀ(z_{k+1} − f_k(z_k)) run backwards with the transpose, λ_k = (∂f_k/∂z_k)ᵀ λ_{k+1}, from λ_T = −∂C/∂z_T; they
are Hamilton's equations of H_k = λ_{k+1}ᵀ f_k(z_k), and ∂L/∂W_k = −λ_{k+1}ᵀ ∂f_k/∂W_k is the gradient. Batches are (n, d),
logarithms natural, everything in float64.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import NamedTuple

import torch
from scipy.optimize import minimize

from physgen.checks import count as _count
from physgen.checks import number as _number
from physgen.checks import stream as _generator

__all__ = [
    "Estimate",
    "Jepa",
    "Motion",
    "Trajectory",
    "adjoint",
    "barlow_twins",
    "data_volume",
    "depth_motion",
    "identify",
    "infonce_bound",
    "infonce_gaussian",
    "jepa_optimum",
    "jepa_time",
    "lqr",
    "mmcr",
    "mpc",
    "mutual_information",
    "nt_xent",
    "pairing",
    "plan",
    "plan_gradient",
    "rate",
    "rate_reduction",
    "total_correlation",
    "train_jepa",
    "trajectory",
    "vicreg",
]

METHODS = "backprop", "explicit"


class Jepa(NamedTuple):
    """Descent of a linear JEPA, entry 0 being the start: float64."""

    encoder: torch.Tensor  # (k, d), the last one
    cost: torch.Tensor  # (steps + 1,) C, with the best predictor
    information: torch.Tensor  # (steps + 1,) I(s_x) = I(s_y), nats
    powers: torch.Tensor  # (steps + 1, k) eigenvalues of Cov s, descending


class Estimate(NamedTuple):
    """A mean over batches and its standard error."""

    value: float
    error: float


class Trajectory(NamedTuple):
    """What a network does: z_0 … z_T, and the multipliers λ_0 … λ_T, each of the shape of its state."""

    states: tuple[torch.Tensor, ...]
    momenta: tuple[torch.Tensor, ...]


class Motion(NamedTuple):
    """A motion through continuous depth, at steps + 1 times."""

    states: torch.Tensor  # (steps + 1, d)
    momenta: torch.Tensor  # (steps + 1, d)
    energy: torch.Tensor  # (steps + 1,) H = λᵀ f(z)
    pairing: torch.Tensor  # (steps + 1,) λᵀ δz


# ------------------------------------------------------------------------------------------------- what comes in


def _real(value, name: str, shape: str, *dims: int) -> torch.Tensor:
    """Finite floating-point numbers with one of these numbers of dimensions, as float64; gradients pass."""
    if not isinstance(value, torch.Tensor) or not value.is_floating_point():
        came = value.dtype if isinstance(value, torch.Tensor) else type(value).__name__
        raise ValueError(f"{name}: got {came}; expected a tensor of floating-point numbers, {shape}")
    if value.ndim not in dims or value.numel() == 0:
        raise ValueError(f"{name}: got shape {tuple(value.shape)}; expected {shape}")
    if not bool(value.detach().isfinite().all()):
        raise ValueError(f"{name}: got NaN or infinity; expected finite numbers")
    return value.double()


def _shaped(value, name: str, *shape: int) -> torch.Tensor:
    value = _real(value, name, f"shape {shape}", len(shape))
    if value.shape != shape:
        raise ValueError(f"{name}: got shape {tuple(value.shape)}; expected {shape}")
    return value


def _batch(z, name: str = "z", least: int = 1) -> torch.Tensor:
    z = _real(z, name, "shape (n, d)", 2)
    if len(z) < least:
        raise ValueError(f"{name}: got {len(z)} embeddings; expected at least {least}")
    return z


def _views(z, z2, least: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    z = _batch(z, "z", least)
    return z, _shaped(z2, "z2", *z.shape)


def _symmetric(value, name: str, size: int | None = None, floor: float = -math.inf) -> torch.Tensor:
    """A symmetric matrix whose eigenvalues are at least `floor`, up to rounding; floor 0+ (tiny) makes it strict."""
    value = _real(value, name, "a square matrix", 2)
    n = len(value) if size is None else size
    value, top = _shaped(value, name, n, n), float(value.detach().abs().max())
    if not torch.allclose(value, value.T, rtol=0, atol=1e-10 * top):
        raise ValueError(f"{name}: got a matrix that is not symmetric; expected a symmetric one")
    least = float(torch.linalg.eigvalsh(value.detach()).min())
    if least < floor - 1e-12 * top or (floor > 0 and least < floor):
        raise ValueError(f"{name}: got the eigenvalue {least:g}; expected at least {floor:g}")
    return (value + value.T) / 2


def _unit(z: torch.Tensor) -> torch.Tensor:
    """Directions; an embedding that is zero has none and stays zero."""
    z = z / z.detach().abs().amax(-1, keepdim=True).clamp_min(1e-300)  # so that no square under- or overflows
    return torch.nn.functional.normalize(z, dim=-1)


def _covariance(z: torch.Tensor) -> torch.Tensor:
    centred = z - z.mean(0)
    return centred.T @ centred / (len(z) - 1)


# ------------------------------------------------------------------------------------------------- information


def total_correlation(covariance: torch.Tensor) -> torch.Tensor:
    """Σ_i H(s_i) − H(s) = KL(p ‖ Π p_i) = −½ log det R of a Gaussian law, R its matrix of correlations, nats.

    The sum of the entropies of the components overestimates the entropy, and this is by how much.

    Parameters
    ----------
    covariance : torch.Tensor, shape (d, d)
        Positive definite.

    Raises ValueError if it is not.

    Watanabe (1960), IBM J. 4, 66; claim LEC-18a.
    """
    covariance = _symmetric(covariance, "covariance", floor=torch.finfo(torch.float64).tiny)
    scale = covariance.diagonal().sqrt()
    return -torch.linalg.slogdet(covariance / scale / scale[:, None]).logabsdet / 2


def mutual_information(joint: torch.Tensor) -> torch.Tensor:
    """I = Σ p(i, j) log p(i, j)/(p(i) p(j)) of a table of probabilities (rows, columns), nats.

    Raises ValueError if an entry is negative or they do not sum to 1.

    Shannon (1948); what uncorrelated components may still know of each other: claim LEC-18b.
    """
    joint = _real(joint, "joint", "shape (rows, columns)", 2)
    if not bool((joint >= 0).all()) or abs(float(joint.sum()) - 1) > 1e-9:
        raise ValueError(
            f"joint: got the sum {float(joint.sum()):g}, least {float(joint.min()):g}; expected probabilities"
        )
    apart = joint.sum(1, keepdim=True) * joint.sum(0)
    return torch.special.xlogy(joint, joint / torch.where(joint > 0, apart, 1.0)).sum()


def vicreg(z: torch.Tensor, z2: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The three terms of VICReg, without their weights (25, 25 and 1 in the paper): a deficit of information, to be minimised.

    invariance = (1/n) Σ_i |z_i − z2_i|²; variance = v(z) + v(z2), v = (1/d) Σ_j max(0, 1 − √(Var z_j + 10⁻⁴));
    covariance = c(z) + c(z2), c = (1/d) Σ_{i≠j} Cov_ij². Variances and covariances have 1/(n − 1). A collapsed batch has v = 0.99 in
    each view, the most there is, and c = 0.

    Parameters
    ----------
    z, z2 : torch.Tensor, shape (n, d)
        Embeddings of two views, n ≥ 2.

    Returns
    -------
    tuple of torch.Tensor
        (invariance, variance, covariance), float64, differentiable.

    Raises ValueError if a shape does not fit or a number is not finite.

    Bardes, Ponce, LeCun (2022), ICLR, eqs. 1–6; claims LEC-19a, LEC-19b.
    """
    z, z2 = _views(z, z2)
    covariances = [_covariance(view) for view in (z, z2)]
    variance = sum((1 - (c.diagonal() + 1e-4).sqrt()).clamp_min(0).mean() for c in covariances)
    covariance = sum((c - c.diagonal().diag()).square().sum() / len(c) for c in covariances)
    return (z - z2).square().sum(1).mean(), variance, covariance


def nt_xent(z: torch.Tensor, z2: torch.Tensor, temperature: float) -> torch.Tensor:
    """NT-Xent of SimCLR: which of the other 2N − 1 embeddings is the second view? The mean of −log of the softmax's answer, nats.

    ℓ_i = −u_i·u_{i′}/τ + log Σ_{j≠i} e^{u_i·u_j/τ}, u = z/|z|, i′ the other view of i. All embeddings alike: log(2N − 1).

    Parameters
    ----------
    z, z2 : torch.Tensor, shape (N, d)
        Embeddings of two views; one that is zero is as far from all others as an orthogonal one.
    temperature : float
        τ > 0.

    Returns
    -------
    torch.Tensor
        The mean over the 2N embeddings, float64, differentiable.

    Raises ValueError if a shape does not fit, a number is not finite, or τ ≤ 0.

    Chen, Kornblith, Norouzi, Hinton (2020), ICML, eq. 1; claims LEC-20a, LEC-20b.
    """
    z, z2 = _views(z, z2, 1)
    u, n = _unit(torch.cat([z, z2])), len(z)
    scores = u @ u.T / _number(temperature, "temperature", 0, strict=True)
    scores = scores.masked_fill(torch.eye(2 * n, dtype=torch.bool, device=z.device), -math.inf)
    partner = torch.arange(2 * n, device=z.device).roll(n)
    return torch.nn.functional.cross_entropy(scores, partner)


def infonce_bound(scores: torch.Tensor) -> torch.Tensor:
    """log N − InfoNCE = (1/N) Σ_i [f_ii − log (1/N) Σ_j e^{f_ij}]: on average at most I(x; y), and always at most log N.

    Parameters
    ----------
    scores : torch.Tensor, shape (..., N, N)
        f_ij = f(x_i, y_j) of a critic; the best is log p(y|x)/p(y).

    Raises ValueError if they are not finite or not square.

    Van den Oord, Li, Vinyals (2018); Poole et al. (2019), ICML, eq. 10; claim LEC-20c.
    """
    scores = _real(scores, "scores", "shape (..., N, N)", 2, 3, 4)
    if scores.shape[-1] != scores.shape[-2]:
        raise ValueError(f"scores: got shape {tuple(scores.shape)}; expected (..., N, N)")
    n = scores.shape[-1]
    return math.log(n) + (scores.diagonal(dim1=-2, dim2=-1) - scores.logsumexp(-1)).mean(-1)


def infonce_gaussian(
    correlation: float, n: int, batches: int, generator: torch.Generator | None = None
) -> Estimate:
    """`infonce_bound` with the best critic for two standard normal variables; their information is −½ log(1 − ρ²).

    Parameters
    ----------
    correlation : float
        ρ, between −1 and 1.
    n, batches : int
        Pairs in a batch, and batches (at least 2).

    Raises ValueError if |ρ| ≥ 1 or a count is too small.

    Claim LEC-20c.
    """
    rho = _number(correlation, "correlation", -1, strict=True)
    residual = _number(1 - rho * rho, "1 - correlation²", 0, strict=True)
    shape = _count(batches, "batches", 2), _count(n, "n"), 1
    generator = _generator(generator)
    x = torch.randn(shape, generator=generator, dtype=torch.float64)
    y = rho * x + math.sqrt(residual) * torch.randn(shape, generator=generator, dtype=torch.float64)
    y = y.mT
    bound = infonce_bound((y.square() - (y - rho * x).square() / residual - math.log(residual)) / 2)
    return Estimate(float(bound.mean()), float(bound.std()) / math.sqrt(batches))


def _rate(power: torch.Tensor, size: int, eps: float) -> torch.Tensor:
    return torch.log1p(size / eps**2 * power).sum(-1) / 2


def rate(z: torch.Tensor, eps: float) -> torch.Tensor:
    """R(z, ε) = ½ log det(1 + (d/nε²) zᵀz): the nats that tell an embedding to within ε, of Gaussian z; 0 for a collapse at 0.

    Parameters
    ----------
    z : torch.Tensor, shape (n, d)
        Embeddings, not centred.
    eps : float
        ε > 0, the error |ẑ − z| that is allowed.

    Returns
    -------
    torch.Tensor
        float64, differentiable.

    Raises ValueError if a shape does not fit, a number is not finite, or ε ≤ 0.

    Yu et al. (2020), NeurIPS 33, eq. 7; claim LEC-20d.
    """
    z, eps = _batch(z), _number(eps, "eps", 0, strict=True)
    gram = z.T @ z if z.shape[1] <= len(z) else z @ z.T  # the same determinant, the smaller matrix
    one = torch.eye(len(gram), dtype=torch.float64, device=z.device)
    return torch.linalg.slogdet(one + z.shape[1] / (len(z) * eps**2) * gram).logabsdet / 2


def rate_reduction(z: torch.Tensor, labels: torch.Tensor, eps: float) -> torch.Tensor:
    """MCR²: ΔR = R(z) − Σ_c (n_c/n) R(z_c): how much a label saves; K classes on K orthonormal directions save most.

    Parameters
    ----------
    z : torch.Tensor, shape (n, d)
    labels : torch.Tensor, shape (n,)
        Of integers.
    eps : float
        ε > 0.

    Raises ValueError if a shape does not fit, the labels are no integers, or as `rate`.

    Yu et al. (2020), NeurIPS 33, eq. 8; claim LEC-20e. K classes of equal size, each one unit vector, the vectors orthogonal:
    ΔR = (K/2) log(1 + d/Kε²) − ½ log(1 + d/ε²).
    """
    z = _batch(z)
    if not isinstance(labels, torch.Tensor) or labels.is_floating_point() or labels.shape != z.shape[:1]:
        raise ValueError(
            f"labels: got {getattr(labels, 'shape', labels)!r}; expected {len(z)} integers, one per embedding"
        )
    classes = [z[labels == c] for c in labels.unique()]
    return rate(z, eps) - sum(len(part) / len(z) * rate(part, eps) for part in classes)


def barlow_twins(z: torch.Tensor, z2: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(Σ_i (1 − C_ii)², Σ_{i≠j} C_ij²), C the correlations between the components of two views; no weights.

    Parameters
    ----------
    z, z2 : torch.Tensor, shape (n, d)
        n ≥ 2. A component that does not vary has correlation 0: collapse costs (d, 0).

    Raises ValueError if a shape does not fit or a number is not finite.

    Zbontar et al. (2021), ICML, eqs. 1–2; claim LEC-20g.
    """
    units = []
    for view in _views(z, z2):
        centred = view - view.mean(0)
        spread = centred.square().sum(0)
        # what rounding leaves of a constant is no variation
        varies = spread > len(view) * (1e-15 * view.detach().abs().amax(0)).square()
        units.append(torch.where(varies, centred / torch.where(varies, spread, 1.0).sqrt(), 0.0))
    c = units[0].T @ units[1]
    return (1 - c.diagonal()).square().sum(), (c - c.diagonal().diag()).square().sum()


def mmcr(views: torch.Tensor) -> torch.Tensor:
    """MMCR: minus the nuclear norm of the centroids (1/V) Σ_v z_iv/|z_iv|; between −√(n min(n, d)) and 0, −√n if all are alike.

    Parameters
    ----------
    views : torch.Tensor, shape (V, n, d)

    Raises ValueError if the shape does not fit or a number is not finite.

    Yerxa, Kuang, Simoncelli, Chung (2023), NeurIPS 36; claim LEC-20f.
    """
    return -torch.linalg.svdvals(_unit(_real(views, "views", "shape (V, n, d)", 3)).mean(0)).sum()


# ------------------------------------------------------------------------------------------------- linear JEPA


def _correlation(matrix) -> torch.Tensor:
    matrix = _symmetric(matrix, "correlation")
    if float(torch.linalg.eigvalsh(matrix).abs().max()) > 1 + 1e-12:
        raise ValueError("correlation: got an eigenvalue above 1 in magnitude; expected E yxᵀ of white views")
    return matrix


def train_jepa(
    encoder: torch.Tensor, correlation: torch.Tensor, price: float, eps: float, step: float, steps: int
) -> Jepa:
    """Gradient descent on L(W) = min_P E|PWx − Wy|² + λ [I(Wx) + I(Wy)], the expectation taken exactly.

    The views are white, E xxᵀ = E yyᵀ = 1, E yxᵀ = A; the predictor is at its best, P = WAW⁺; I = ½ log det(1 + (k/ε²) WWᵀ) is
    `rate`. Of the two signs of λ the notes have λ > 0, which collapses, as λ = 0 does. If A has no negative eigenvalue and −λ k/ε² > 1, the
    descent ends at `jepa_optimum`; a mode of negative correlation can be missed, behind a direction of none.

    Parameters
    ----------
    encoder : torch.Tensor, shape (k, d)
        W at the start, k ≤ d.
    correlation : torch.Tensor, shape (d, d)
        A, symmetric, eigenvalues between −1 and 1.
    price : float
        λ.
    eps : float
        ε > 0, the resolution of I.
    step : float
        Length of a step; stable below about 1/(2 + 2|λ|k/ε²).
    steps : int

    Returns
    -------
    Jepa

    Raises ValueError if a shape or a number does not fit, or the descent diverges.

    Notes 5.2.2 (5.2.9); LeCun (2022); claims LEC-16a, LEC-16b, LEC-16d, LEC-17.
    """
    a = _correlation(correlation)
    w = _real(encoder, "encoder", "shape (k, d)", 2).detach().clone()
    if w.shape[1] != len(a) or len(w) > len(a):
        raise ValueError(f"encoder: got shape {tuple(w.shape)}; expected (k, {len(a)}), k <= {len(a)}")
    price, eps = _number(price, "price"), _number(eps, "eps", 0, strict=True)
    step, steps = _number(step, "step", 0, strict=True), _count(steps, "steps", 0)
    one, c = torch.eye(len(w), dtype=torch.float64), len(w) / eps**2
    costs, grams = [], []
    for k in range(steps + 1):
        p = w @ a @ torch.linalg.pinv(w)
        error = p @ w - w @ a  # of the prediction, against x
        costs.append((p @ w * error).sum() + (w * (w - p @ w @ a)).sum())
        grams.append(w @ w.T)
        if not bool(costs[-1].isfinite()):
            raise ValueError(f"step: got {step:g}, with which the descent diverges; expected a smaller one")
        if k < steps:
            # ∂C/∂W at fixed P: P is at its minimum, so its own motion adds nothing
            slope = 2 * (p.T @ error + w - p @ w @ a) + 2 * price * c * torch.linalg.solve(
                one + c * w @ w.T, w
            )
            w = w - step * slope
    powers = torch.linalg.eigvalsh(torch.stack(grams)).flip(-1).clamp_min(0)
    return Jepa(w, torch.stack(costs), _rate(powers, len(w), eps), powers)


def _residual(correlations) -> torch.Tensor:
    a = _real(correlations, "correlations", "shape (d,)", 1)
    if not bool((a.abs() < 1).all()):
        raise ValueError(f"correlations: got {a.tolist()}; expected numbers between -1 and 1")
    return 1 - a.square()


def jepa_optimum(correlations: torch.Tensor, size: int, price: float, eps: float) -> torch.Tensor:
    """Eigenvalues of Cov s where L is least: s_j = (|λ|/r_j − ε²/k)₊ on the k most predictable modes, r = 1 − a², and 0 if λ ≥ 0.

    A mode is kept if the nats it brings pay for its error, |λ| k/ε² > r: water-filling, as in the theory of rate and distortion.

    Parameters
    ----------
    correlations : torch.Tensor, shape (d,)
        Eigenvalues of A = E yxᵀ, |a| < 1.
    size : int
        k ≤ d, the dimension of s.
    price, eps : float
        λ and ε > 0, as in `train_jepa`.

    Returns
    -------
    torch.Tensor
        (k,), descending, float64.

    Raises ValueError if a number is out of range.

    With W = U √s V (V the orthonormal rows), C = tr s − tr s (VAVᵀ)², least for V along the largest |a|; claim LEC-16b.
    """
    r = _residual(correlations).sort().values
    if _count(size, "size") > len(r):
        raise ValueError(f"size: got {size}; expected at most {len(r)}, the number of modes")
    price, eps = _number(price, "price"), _number(eps, "eps", 0, strict=True)
    return (-price / r[:size] - eps**2 / size).clamp_min(0)


def jepa_time(
    power: torch.Tensor, start: float, correlation: float, price: float, resolution: float
) -> torch.Tensor:
    """When a mode that started with power s₀ has power s, under the gradient flow of L (`train_jepa`: t = steps × step).

    ds/dt = −4 r s − 4 λ c s/(1 + c s), r = 1 − a², c = `resolution` = k/ε², so that, with α = r + λc,

        t = (1/4α) log(s₀/s) + (λc/4αr) log[(α + rcs₀)/(α + rcs)].

    Without λ, or with the sign of the notes, s → 0; as c → ∞ the latter happens at the finite time log(1 + r s₀/λ)/(4r).

    Parameters
    ----------
    power : torch.Tensor, any shape
        s > 0, each between s₀ and the fixed point that attracts it.
    start : float
        s₀ > 0.
    correlation, price, resolution : float
        a with |a| < 1, λ, and c > 0.

    Returns
    -------
    torch.Tensor
        The shape of `power`, ≥ 0.

    Raises ValueError if a number is out of range, or a power is never reached.

    The mode of an encoder along an eigenvector of A, the predictor at its best; claims LEC-16a, LEC-16c.
    """
    s = _real(power, "power", "any shape", *range(9))
    s0, lam = _number(start, "start", 0, strict=True), _number(price, "price")
    c = _number(resolution, "resolution", 0, strict=True)
    r = float(_residual(torch.tensor([_number(correlation, "correlation")], dtype=torch.float64)))
    alpha = r + lam * c
    if alpha == 0:  # the mode is just not kept: 1/s grows as t
        t = ((1 / s - 1 / s0) / c + torch.log(s0 / s)) / (4 * r)
    else:
        ratio = (alpha + r * c * s0) / (alpha + r * c * s)
        t = (torch.log(s0 / s) + lam * c / r * torch.log(ratio)) / (4 * alpha)
    t = torch.where(s == s0, 0.0, t)  # not a rounding below
    if not bool((s > 0).all()) or not bool((t >= 0).all()) or not bool(t.isfinite().all()):
        raise ValueError(f"power: got {s.tolist()}; expected powers that the flow from {s0:g} reaches")
    return t


# ------------------------------------------------------------------------------------------------- planning


def _problem(A, B, Q, R) -> tuple[torch.Tensor, ...]:
    A = _real(A, "A", "shape (n, n)", 2)
    n = len(A)
    A, B = _shaped(A, "A", n, n), _real(B, "B", f"shape ({n}, m)", 2)
    B = _shaped(B, "B", n, B.shape[1])
    tiny = torch.finfo(torch.float64).tiny
    return A, B, _symmetric(Q, "Q", n, 0), _symmetric(R, "R", B.shape[1], tiny)


def _riccati(A, B, Q, R, horizon: int) -> tuple[list[torch.Tensor], torch.Tensor]:
    """Gains K_0 … K_{H−1} of a_t = −K_t s_t, and P_0 of the cost s₀ᵀ P_0 s₀."""
    gains, P = [], Q
    for _ in range(_count(horizon, "horizon")):
        K = torch.linalg.solve(R + B.T @ P @ B, B.T @ P @ A)
        P = Q + A.T @ P @ (A - B @ K)
        P = (P + P.T) / 2
        gains.append(K)
    return gains[::-1], P


def lqr(A, B, Q, R, horizon: int, s0) -> tuple[torch.Tensor, torch.Tensor]:
    """The best actions in a linear world with quadratic costs, by Riccati's recursion: dynamic programming, exact.

    min over a_0 … a_{H−1} of Σ_{t<H} (s_tᵀQs_t + a_tᵀRa_t) + s_HᵀQs_H subject to s_{t+1} = As_t + Ba_t; the cost to go from s is sᵀPs,
    P_H = Q, P_t = Q + Aᵀ P_{t+1} (A − BK_t), K_t = (R + BᵀP_{t+1}B)⁻¹ BᵀP_{t+1}A, and a_t = −K_t s_t.

    Parameters
    ----------
    A, B : torch.Tensor, shapes (n, n) and (n, m)
    Q, R : torch.Tensor, shapes (n, n) and (m, m)
        Symmetric; Q positive semidefinite, R positive definite. Q is also the terminal cost.
    horizon : int
        H ≥ 1.
    s0 : torch.Tensor, shape (n,)

    Returns
    -------
    tuple of torch.Tensor
        (cost, actions): a number and (H, m), float64.

    Raises ValueError if a shape does not fit, a number is not finite, or Q or R is not as said.

    Kalman (1960), Bol. Soc. Mat. Mex. 5, 102; the Hamilton–Jacobi–Bellman equation of this problem. Claim LEC-15a.
    """
    A, B, Q, R = _problem(A, B, Q, R)
    s = _shaped(s0, "s0", len(A))
    gains, P = _riccati(A, B, Q, R, horizon)
    cost, actions = s @ P @ s, []
    for K in gains:
        actions.append(-K @ s)
        s = A @ s + B @ actions[-1]
    return cost, torch.stack(actions)


def plan_gradient(actions, A, B, Q, R, s0) -> tuple[torch.Tensor, torch.Tensor]:
    """Cost of a plan and its gradient by the adjoint: p_H = 2Qs_H, p_t = 2Qs_t + Aᵀp_{t+1}, ∂cost/∂a_t = 2Ra_t + Bᵀp_{t+1}.

    Parameters
    ----------
    actions : torch.Tensor, shape (H, m)
    A, B, Q, R, s0
        As in `lqr`; the result is (cost, gradient).

    Claim LEC-15b.
    """
    A, B, Q, R = _problem(A, B, Q, R)
    states = [_shaped(s0, "s0", len(A))]
    a = _real(actions, "actions", f"shape (H, {len(R)})", 2)
    a = _shaped(a, "actions", len(a), len(R))
    for action in a:
        states.append(A @ states[-1] + B @ action)
    s = torch.stack(states)
    p, gradient = 2 * Q @ s[-1], torch.empty_like(a)
    for t in reversed(range(len(a))):
        gradient[t] = 2 * R @ a[t] + B.T @ p
        p = 2 * Q @ s[t] + A.T @ p
    return ((s @ Q) * s).sum() + ((a @ R) * a).sum(), gradient


def plan(A, B, Q, R, horizon: int, s0) -> tuple[torch.Tensor, torch.Tensor]:
    """The best actions by descent on the plan: L-BFGS with the gradient of `plan_gradient`, from no action at all.

    Unlike `lqr` it asks of the world model no more than its Jacobians.

    Parameters
    ----------
    A, B, Q, R, horizon, s0
        As in `lqr`, and so is the result.

    Claim LEC-15b.
    """
    _, B, _, _ = _problem(A, B, Q, R)
    shape = _count(horizon, "horizon"), B.shape[1]

    def objective(flat):
        cost, gradient = plan_gradient(torch.from_numpy(flat).reshape(shape), A, B, Q, R, s0)
        return float(cost), gradient.flatten().numpy()

    found = minimize(
        objective,
        torch.zeros(shape, dtype=torch.float64).flatten().numpy(),
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": 1000, "maxcor": 20, "ftol": 1e-16, "gtol": 1e-10},
    )
    return torch.tensor(found.fun, dtype=torch.float64), torch.from_numpy(found.x).reshape(shape)


def identify(states, actions, following) -> tuple[torch.Tensor, torch.Tensor]:
    """A, B of a linear world model by least squares on transitions: following ≈ As + Ba.

    Parameters
    ----------
    states, actions, following : torch.Tensor, shapes (n, p), (n, m), (n, p)

    Returns
    -------
    tuple of torch.Tensor
        (A, B), float64.

    Raises ValueError if a shape does not fit, or the transitions do not determine A and B.

    Claim LEC-15c.
    """
    s = _batch(states, "states")
    after, a = _shaped(following, "following", *s.shape), _batch(actions, "actions")
    x = torch.cat([s, _shaped(a, "actions", len(s), a.shape[1])], 1)
    if int(torch.linalg.matrix_rank(x)) < x.shape[1]:
        raise ValueError(
            f"states: got transitions that span less than {x.shape[1]} dimensions; expected more"
        )
    both = torch.linalg.lstsq(x, after).solution.T
    return both[:, : s.shape[1]].contiguous(), both[:, s.shape[1] :].contiguous()


def mpc(
    A, B, Q, R, horizon: int, s0, steps: int, world=None
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Model-predictive control: plan `horizon` actions with the model (A, B), take the first one in the world, look, plan again.

    Parameters
    ----------
    A, B, Q, R, horizon, s0
        As in `lqr`.
    steps : int
        Actions that are taken.
    world : tuple of torch.Tensor, optional
        A and B of the world, if they are not those of the model.

    Returns
    -------
    tuple of torch.Tensor
        (cost, actions, states): what it cost in the world, Q also at the end, (steps, m), (steps + 1, n).

    Claim LEC-15d.
    """
    A, B, Q, R = _problem(A, B, Q, R)
    gain = _riccati(A, B, Q, R, horizon)[0][0]  # a linear world: the first action of each plan is −K_0 s
    A, B = (A, B) if world is None else _problem(*world, Q, R)[:2]
    states, actions = [_shaped(s0, "s0", len(A))], []
    for _ in range(_count(steps, "steps")):
        actions.append(-gain @ states[-1])
        states.append(A @ states[-1] + B @ actions[-1])
    s, a = torch.stack(states), torch.stack(actions)
    return ((s @ Q) * s).sum() + ((a @ R) * a).sum(), a, s


# ------------------------------------------------------------------------------------------------- backpropagation


def _network(weights, x) -> tuple[list[torch.Tensor], torch.Tensor]:
    if not isinstance(weights, (list, tuple)) or not weights:
        raise ValueError(
            f"weights: got {type(weights).__name__}; expected a sequence of matrices, at least one"
        )
    weights = [_real(w, f"weights[{k}]", "shape (out, in)", 2) for k, w in enumerate(weights)]
    for k, (w, v) in enumerate(pairwise(weights)):
        _shaped(v, f"weights[{k + 1}]", len(v), len(w))
    x = _real(x, "x", f"shape (..., {weights[0].shape[1]})", 1, 2)
    return weights, _shaped(x, "x", *x.shape[:-1], weights[0].shape[1])


def trajectory(weights, x, target) -> Trajectory:
    """States z_0 = x, z_{k+1} = tanh(W_k z_k), and multipliers λ_T = −(z_T − y), λ_k = W_kᵀ [(1 − z²_{k+1}) λ_{k+1}].

    λ_k = −∂C/∂z_k, C = ½|z_T − y|²: minus what is called delta in backpropagation. The sign is that of the Lagrangian of the notes.

    Parameters
    ----------
    weights : sequence of torch.Tensor, shapes (d_{k+1}, d_k)
        W_0 … W_{T−1}.
    x, target : torch.Tensor, shapes (d_0,) and (d_T,), or batches (n, d_0) and (n, d_T)

    Returns
    -------
    Trajectory
        T + 1 states and momenta, float64.

    Raises ValueError if a shape does not fit or a number is not finite.

    LeCun (1988); notes 5.2.1 (5.2.5)–(5.2.7); claims LEC-26, LEC-27.
    """
    weights, z = _network(weights, x)
    states = [z]
    for w in weights:
        states.append(torch.tanh(states[-1] @ w.T))
    momenta = [_shaped(target, "target", *states[-1].shape) - states[-1]]
    for w, z in zip(reversed(weights), reversed(states), strict=False):
        momenta.append((momenta[-1] * (1 - z * z)) @ w)
    return Trajectory(tuple(states), tuple(reversed(momenta)))


def adjoint(weights, x, target) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """C = ½|z_T − y|² of a network of tanh layers, and ∂C/∂W_k = −λ_{k+1}ᵀ ∂f_k/∂W_k = −[(1 − z²_{k+1}) λ_{k+1}] z_kᵀ.

    Parameters
    ----------
    weights, x, target
        As in `trajectory`; over a batch costs and gradients are summed.

    Returns
    -------
    tuple
        (cost, gradients): a number, and a list of the shapes of `weights`, float64.

    Rumelhart, Hinton, Williams (1986); notes 5.2.1 (5.2.8); claim LEC-28.
    """
    states, momenta = trajectory(weights, x, target)
    gradients = []
    for (z, after), momentum in zip(pairwise(states), momenta[1:], strict=True):
        pull = momentum * (1 - after * after)
        gradients.append(
            -(pull[..., :, None] * z[..., None, :]).reshape(-1, after.shape[-1], z.shape[-1]).sum(0)
        )
    return momenta[-1].square().sum() / 2, gradients


def pairing(weights, x, target, direction) -> torch.Tensor:
    """λ_kᵀ δz_k at k = 0 … T, δz_{k+1} = (∂f_k/∂z_k) δz_k: one number at all layers, minus the derivative of C along δz_0.

    Parameters
    ----------
    weights, x, target
        As in `trajectory`, x and target vectors.
    direction : torch.Tensor, shape (d_0,)
        δz_0.

    Returns
    -------
    torch.Tensor
        (T + 1,), float64.

    It is why λ lives in the dual space, and what a map that is symplectic in (z, λ) conserves; claim LEC-29a.
    """
    states, momenta = trajectory(weights, x, target)
    d = _shaped(direction, "direction", *_shaped(x, "x", len(states[0])).shape)
    values = [momenta[0] @ d]
    for w, z, momentum in zip(weights, states[1:], momenta[1:], strict=True):
        d = (1 - z * z) * (w.double() @ d)
        values.append(momentum @ d)
    return torch.stack(values)


def depth_motion(weight, z, momentum, direction, time: float, steps: int, method: str = "backprop") -> Motion:
    """Continuous depth, ż = f(z) = tanh(Wz): Hamilton's equations of H = λᵀf(z), λ̇ = −(∂f/∂z)ᵀλ, in steps of h = time/steps.

    Both methods step z_{k+1} = z_k + hf(z_k), a residual network. "backprop" takes its multipliers, λ_k = (1 + hJ(z_k))ᵀ λ_{k+1}: the
    symplectic Euler method, which conserves λᵀδz exactly and H to O(h). "explicit" steps λ_{k+1} = (1 − hJ(z_k))ᵀ λ_k, and
    loses λᵀδz at a rate h λᵀJ²δz.

    Parameters
    ----------
    weight : torch.Tensor, shape (d, d)
    z, momentum, direction : torch.Tensor, shape (d,)
        z, λ and δz at depth 0.
    time : float
        The depth, > 0.
    steps : int
    method : str
        One of METHODS.

    Returns
    -------
    Motion

    Raises ValueError if a shape or a number does not fit, or the step is so long that 1 + hJ cannot be inverted.

    Pontryagin et al. (1962); Chen et al. (2018), NeurIPS 31; Hairer, Lubich, Wanner (2006), VI.3; claims LEC-29b, LEC-29c.
    """
    z = _real(z, "z", "shape (d,)", 1)
    n = len(z)
    w = _shaped(weight, "weight", n, n)
    lam, d = _shaped(momentum, "momentum", n), _shaped(direction, "direction", n)
    h = _number(time, "time", 0, strict=True) / _count(steps, "steps")
    if method not in METHODS:
        raise ValueError(f"method: got {method!r}; expected one of {METHODS}")
    one, rows = torch.eye(n, dtype=torch.float64), [(z, lam, d)]
    for _ in range(steps):
        f = torch.tanh(w @ z)
        jacobian = (1 - f * f)[:, None] * w
        if method == "backprop":
            lam, trouble = torch.linalg.solve_ex((one + h * jacobian).T, lam)
            if int(trouble):
                raise ValueError(f"steps: got {steps}, too few: 1 + hJ is singular; expected more")
        else:
            lam = lam - h * jacobian.T @ lam
        z, d = z + h * f, d + h * jacobian @ d
        rows.append((z, lam, d))
    states, momenta, tangents = (torch.stack(column) for column in zip(*rows, strict=True))
    energy = (momenta * torch.tanh(states @ w.T)).sum(1)
    return Motion(states, momenta, energy, (momenta * tangents).sum(1))


# ------------------------------------------------------------------------------------------------- how much a child sees


def data_volume(
    hours: float = 16e3, bytes_per_second: float = 2e6, tokens: float = 3e13, bytes_per_token: float = 3
) -> tuple[float, float]:
    """Bytes that a child of four has seen, and bytes of the text that a language model is trained on: both about 10¹⁴.

    Parameters
    ----------
    hours, bytes_per_second, tokens, bytes_per_token : float
        ≥ 0. Assumptions, all of them: waking hours, what passes the optic nerves, and the size of a large corpus.

    Raises ValueError if a number is negative or not finite.

    Claim LEC-31.
    """
    seen = _number(hours, "hours", 0) * 3600 * _number(bytes_per_second, "bytes_per_second", 0)
    return seen, _number(tokens, "tokens", 0) * _number(bytes_per_token, "bytes_per_token", 0)
