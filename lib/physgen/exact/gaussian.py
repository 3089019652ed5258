"""Gaussian data (the chapter `exact/gaussian`): every score is linear, and what is learned is a covariance matrix.

Data a ~ N(m, Σ) under the noise of this book, x_t = e^{−t} a + √Δ_t z with Δ_t = 1 − e^{−2t}, stay Gaussian:

    p_t = N(e^{−t} m, Γ_t),    Γ_t = Δ_t I + e^{−2t} Σ,    ∇ log p_t(x) = −Γ_t^{−1} (x − e^{−t} m).

From n data the best linear score −W x − b has C_e, the empirical covariance, in the place of Σ. All that a finite n does is then a
question about C_e: the divergence of the law that is generated from the law of the data, E KL ≈ d²/4n; its eigenvalues
(Marchenko and Pastur, γ = d/n); the directions that survive (Baik, Ben Arous and Péché for one strong direction, Rosenzweig and
Porter for a broad spectrum). Divergences are total, in nats; everything is computed in float64.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from scipy.linalg import eigh_tridiagonal
from scipy.optimize import brentq
from scipy.special import exp1, psi

from physgen.checks import count as _count
from physgen.checks import number
from physgen.checks import stream as _own
from physgen.kernels import philox

__all__ = [
    "KLParts",
    "LinearScore",
    "NoisePredictor",
    "NoisyEigenvectors",
    "Spike",
    "best_ridge",
    "ddim_variance",
    "denoising_loss",
    "early_stopped_score",
    "early_stopped_variance",
    "expected_kl",
    "expected_weight_error",
    "fit",
    "generate",
    "goe",
    "kl",
    "kl_parts",
    "kl_per_dimension",
    "learned_fraction",
    "linear_ddpm",
    "log_density",
    "marchenko_pastur",
    "marchenko_pastur_edges",
    "noisy_eigenvectors",
    "optimal_linear_score",
    "participation",
    "ridge_kl",
    "sample",
    "score",
    "spiked_covariance",
    "spiked_covariance_sample",
    "spiked_wigner",
    "spiked_wigner_sample",
]

ASYMPTOTIC = 50.0  # beyond, four terms of log x − ψ(x) are exact to rounding: the fifth is 1/(240 x⁸) < 10⁻¹⁶
NODES, WEIGHTS = np.polynomial.legendre.leggauss(20)


class LinearScore(NamedTuple):
    """The score −W x − b of one time; call it with x of shape (batch, d)."""

    weight: torch.Tensor  # W, (d, d)
    bias: torch.Tensor  # b, (d,)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """−W x − b, (batch, d), in the dtype of x."""
        x = _points(x, "x", len(self.bias))
        return (-x.double() @ self.weight.mT - self.bias).to(x.dtype)


class NoisePredictor(NamedTuple):
    """The prediction ε = W (x + b) of the noise in x at one time; call it with x of shape (batch, d)."""

    weight: torch.Tensor  # W_t, (d, d)
    shift: torch.Tensor  # b_t, (d,)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """W (x + b), (batch, d), in the dtype of x."""
        x = _points(x, "x", len(self.shift))
        return ((x.double() + self.shift) @ self.weight.mT).to(x.dtype)


class KLParts(NamedTuple):
    """The three terms whose sum is KL(p‖q), scalars, float64."""

    trace: torch.Tensor  # ½ [tr(Σ_q^{−1} Σ_p) − d]
    mean: torch.Tensor  # ½ (m_p − m_q)ᵀ Σ_q^{−1} (m_p − m_q)
    log_det: torch.Tensor  # ½ log(|Σ_q| / |Σ_p|)


class Spike(NamedTuple):
    """The largest eigenvalue, and the squared overlap of its eigenvector with the planted direction."""

    eigenvalue: torch.Tensor
    overlap: torch.Tensor


class NoisyEigenvectors(NamedTuple):
    """Where the spectrum goes under noise, and the mean squared overlaps of its eigenvectors with the old ones."""

    energy: torch.Tensor  # E, (P,)
    density: torch.Tensor  # of eigenvalues at E, (P,), normalised to one
    overlaps: torch.Tensor  # E|⟨u_i|v_E⟩|², (P, d): rows sum to one where the density is positive


# ------------------------------------------------------------------------------------------------- what comes in


def _number(value, name: str, *, strict: bool = True) -> float:
    return number(value, name, 0, strict=strict)


def _real(x, name: str, expected: str, fits) -> torch.Tensor:
    """x, if it is a tensor of finite floating-point numbers whose shape `fits`."""
    if not isinstance(x, torch.Tensor) or not x.is_floating_point() or not fits(x.shape):
        came = f"{x.dtype}, shape {tuple(x.shape)}" if isinstance(x, torch.Tensor) else repr(x)
        raise ValueError(f"{name}: got {came}; expected a floating-point tensor, {expected}")
    if not bool(x.detach().isfinite().all()):
        raise ValueError(f"{name}: got NaN or infinity; expected finite numbers")
    return x


def _points(x, name: str, d: int | None = None) -> torch.Tensor:
    shape = f"(batch, {d})" if d else "(batch, d)"
    return _real(x, name, f"shape {shape}", lambda s: len(s) == 2 and s[1] == (d or s[1]) and s[1] > 0)


def _data(data) -> torch.Tensor:
    data = _points(data, "data")
    if len(data) == 0:
        raise ValueError("data: got n = 0 of them; expected at least one")
    return data.detach().double()


def _mean(mean, name: str, d: int) -> torch.Tensor:
    return _real(mean, name, f"shape ({d},)", lambda s: s == (d,)).detach().double()


def _variances(variances, name: str) -> torch.Tensor:
    v = _real(variances, name, "shape (k,), k >= 1", lambda s: len(s) == 1 and s[0] > 0).detach().double()
    if bool((v < 0).any()):
        raise ValueError(f"{name}: got a negative number, {float(v.min())}; expected variances >= 0")
    return v


def _modes(covariance, name: str, *, definite: bool = True) -> tuple[torch.Tensor, torch.Tensor]:
    """Eigenvalues (ascending) and eigenvectors of a covariance matrix; definite: none may vanish."""
    square = "shape (d, d)"
    c = _real(covariance, name, square, lambda s: len(s) == 2 and s[0] == s[1] > 0).detach()
    largest = float(c.abs().max())
    if float((c - c.mT).abs().max()) > math.sqrt(torch.finfo(c.dtype).eps) * largest:
        raise ValueError(f"{name}: got a matrix that is not symmetric; expected a covariance")
    values, vectors = torch.linalg.eigh((c.double() + c.double().mT) / 2)
    rounding = len(c) * torch.finfo(torch.float64).eps * float(values.abs().max())
    least = float(values[0])
    if least < -rounding or (definite and least <= rounding):
        kind = "definite" if definite else "semidefinite"
        raise ValueError(f"{name}: got the eigenvalue {least:.3g}; expected a positive {kind} matrix")
    return values.clamp(min=0), vectors


def _time(t, batch: int | None = None) -> torch.Tensor:
    """t as a float64 tensor, () or, if a batch is given, (batch,)."""
    if isinstance(t, torch.Tensor) and t.ndim == 1 and batch is not None and t.is_floating_point():
        fits = t.shape == (batch,) and bool((t > 0).all()) and bool(t.isfinite().all())
        if not fits:
            raise ValueError(
                f"t: got {t.tolist()!r:.80}; expected {batch} finite times > 0, one per row of x"
            )
        return t.detach().double()
    return torch.tensor(_number(t, "t"), dtype=torch.float64)


def _gamma_t(variances: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """Γ_t of each mode: Δ_t + e^{−2t} λ, shape t.shape + (d,)."""
    return -torch.expm1(-2 * t)[..., None] + torch.exp(-2 * t)[..., None] * variances


def _spectral(vectors: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    return (vectors * values) @ vectors.mT


# ------------------------------------------------------------------------------------------------- the perfect score


def score(
    x: torch.Tensor, t: float | torch.Tensor, mean: torch.Tensor, covariance: torch.Tensor
) -> torch.Tensor:
    """The score of noised Gaussian data: ∇ log p_t(x) = −Γ_t^{−1} (x − e^{−t} m), Γ_t = Δ_t I + e^{−2t} Σ.

    Parameters
    ----------
    x : torch.Tensor, shape (batch, d)
    t : float or torch.Tensor of shape (batch,), > 0
    mean : torch.Tensor, shape (d,)
        m, of the data.
    covariance : torch.Tensor, shape (d, d)
        Σ, of the data: symmetric, positive definite.

    Returns
    -------
    torch.Tensor
        (batch, d), the dtype of x, computed in float64; differentiable in x. For t → 0 it is −Σ^{−1}(x − m), for t → ∞ it is −x.

    Raises
    ------
    ValueError
        If t ≤ 0, the covariance is not symmetric positive definite, a shape does not fit or a number is not finite.

    Notes
    -----
    Lecture notes (7.4.2), (7.4.3); claim GAU-2.
    """
    variances, vectors = _modes(covariance, "covariance")
    x = _points(x, "x", len(variances))
    m, t = _mean(mean, "mean", len(variances)), _time(t, len(x))
    centred = x.double() - torch.exp(-t)[..., None] * m
    return (-(centred @ vectors) / _gamma_t(variances, t) @ vectors.mT).to(x.dtype)


def log_density(
    x: torch.Tensor, t: float | torch.Tensor, mean: torch.Tensor, covariance: torch.Tensor
) -> torch.Tensor:
    """log p_t(x) = −½ (x − e^{−t} m)ᵀ Γ_t^{−1} (x − e^{−t} m) − ½ log |Γ_t| − (d/2) log 2π.

    Parameters, errors as in `score`.

    Returns
    -------
    torch.Tensor
        (batch,), nats, the dtype of x, computed in float64; differentiable in x.

    Notes
    -----
    Claim GAU-1: the noising kernel N(x; e^{−t} a, Δ_t I) has the normaliser (2πΔ_t)^{d/2}.
    """
    variances, vectors = _modes(covariance, "covariance")
    x = _points(x, "x", len(variances))
    m, t = _mean(mean, "mean", len(variances)), _time(t, len(x))
    gamma = _gamma_t(variances, t)
    y = (x.double() - torch.exp(-t)[..., None] * m) @ vectors
    return (-(y**2 / gamma + gamma.log() + math.log(2 * math.pi)).sum(-1) / 2).to(x.dtype)


def sample(
    n: int, mean: torch.Tensor, covariance: torch.Tensor, generator: torch.Generator | None = None
) -> torch.Tensor:
    """n data from N(m, Σ), shape (n, d), float64. Σ may be singular.

    Raises ValueError if n is not a positive integer or `mean` and `covariance` are not those of a Gaussian.
    """
    variances, vectors = _modes(covariance, "covariance", definite=False)
    m = _mean(mean, "mean", len(variances))
    z = torch.randn(_count(n, "n"), len(m), generator=_own(generator), dtype=torch.float64)
    return m + (z * variances.sqrt()) @ vectors.mT


def generate(
    x: torch.Tensor,
    t_start: float,
    t_end: float,
    mean: torch.Tensor,
    covariance: torch.Tensor,
    eta: float = 0.0,
    generator: torch.Generator | None = None,
) -> torch.Tensor:
    """The reverse process from t_start to t_end with the score of N(m, Σ), in one exact step for every member η of the family.

    A deviation y = x − e^{−t} m along a mode of variance λ obeys dy = [1 − (1+η)/Γ] y dτ + √(2η) dW, whose solution is Gaussian:

        y(t_end) = A y(t_start) + √(Γ_end − A² Γ_start) z,    A = (Γ_end/Γ_start)^{(1+η)/2} e^{−η (t_start − t_end)}.

    With η = 0 it is the flow y ∝ √Γ; no step size enters.

    Parameters
    ----------
    x : torch.Tensor, shape (batch, d)
        At t_start; N(0, I) if you start from noise.
    t_start, t_end : float
        t_start > t_end ≥ 0.
    mean, covariance : torch.Tensor
        m, Σ of the model; Σ may be singular, as that of fewer data than dimensions.
    eta : float, ≥ 0
        0: probability-flow equation, 1: reverse diffusion.
    generator : torch.Generator, optional

    Returns
    -------
    torch.Tensor
        (batch, d) at t_end, the dtype of x.

    Raises
    ------
    ValueError
        If the times do not descend, eta < 0, or x, mean or covariance do not fit.
    """
    variances, vectors = _modes(covariance, "covariance", definite=False)
    x = _points(x, "x", len(variances))
    m, eta = _mean(mean, "mean", len(variances)), _number(eta, "eta", strict=False)
    start, end = _number(t_start, "t_start"), _number(t_end, "t_end", strict=False)
    if start <= end:
        raise ValueError(f"t_end: got {end}; expected a time below t_start = {start}")
    before, after = (_gamma_t(variances, torch.tensor(t, dtype=torch.float64)) for t in (start, end))
    factor = (after / before) ** ((1 + eta) / 2) * math.exp(-eta * (start - end))
    y = (x.double() - math.exp(-start) * m) @ vectors * factor
    if eta:
        z = torch.randn(x.shape, generator=_own(generator), dtype=torch.float64).to(x.device)
        y = y + (after - factor**2 * before).clamp(min=0).sqrt() * z
    return (math.exp(-end) * m + y @ vectors.mT).to(x.dtype)


# ------------------------------------------------------------------------------------------------- the learned score


def fit(data: torch.Tensor, known_mean: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    """Maximum likelihood: the empirical mean μ_0 and covariance (1/n) Σ_μ (a^μ − μ_0)(a^μ − μ_0)ᵀ, float64.

    Parameters
    ----------
    data : torch.Tensor, shape (n, d)
    known_mean : bool
        The mean is known to be zero: μ_0 = 0 and C_e = (1/n) Σ_μ a^μ a^μᵀ, as in the lecture notes.

    Returns
    -------
    tuple of torch.Tensor
        (d,) and (d, d). The rank is min(n − 1, d) at most, or min(n, d) if the mean is known.

    Raises
    ------
    ValueError
        If the data are not a finite (n, d) tensor with n ≥ 1.
    """
    data = _data(data)
    mean = torch.zeros_like(data[0]) if known_mean else data.mean(0)
    centred = data - mean
    return mean, centred.mT @ centred / len(data)


def optimal_linear_score(
    data: torch.Tensor, t: float, ridge: float = 0.0, known_mean: bool = False
) -> LinearScore:
    """The linear score −W x − b that minimises the denoising loss on the data:

        L = (1/n) Σ_μ E_z |−W x − b + z/√Δ|² + ridge |W|²,    x = e^{−t} a^μ + √Δ z,
        W = [(Δ + ridge) I + e^{−2t} C_e]^{−1},    b = −e^{−t} W μ_0.

    Parameters
    ----------
    data : torch.Tensor, shape (n, d)
        n < d is allowed: W is finite at every t > 0.
    t : float, > 0
    ridge : float, ≥ 0
        On W alone. The law that is learned has the covariance C_e + c I with c = ridge e^{2t}; to learn the same c at all times
        take ridge = c e^{−2t}.
    known_mean : bool
        False: the mean is learned, C_e is the covariance about it. True: it is zero, b = 0 and C_e = (1/n) Σ_μ a^μ a^μᵀ.

    Returns
    -------
    LinearScore
        ``weight`` W (d, d) and ``bias`` b (d,), float64; calling it evaluates −W x − b.

    Raises
    ------
    ValueError
        If t ≤ 0, ridge < 0 or the data are not a finite (n, d) tensor with n ≥ 1.

    Notes
    -----
    Lecture notes (7.4.4)–(7.4.8); claim GAU-4.
    """
    t, ridge = _time(t), _number(ridge, "ridge", strict=False)
    mean, covariance = fit(data, known_mean)
    variances, vectors = _modes(covariance, "data", definite=False)
    weight = _spectral(vectors, 1 / (_gamma_t(variances, t) + ridge))
    return LinearScore(weight, -torch.exp(-t) * weight @ mean)


def denoising_loss(
    linear: LinearScore, t: float, mean: torch.Tensor, covariance: torch.Tensor
) -> torch.Tensor:
    """E|−W x − b + z/√Δ|² over data of this mean and covariance C, of any law, and over the noise:

        L = (1/Δ) tr[(I − ΔW)ᵀ(I − ΔW)] + e^{−2t} tr(WᵀW C) + |e^{−t} W m + b|².

    Parameters
    ----------
    linear : LinearScore
    t : float, > 0
    mean, covariance : torch.Tensor, shapes (d,), (d, d)
        Of the data: those of `fit` give the loss in training, the true ones the loss on new data.

    Returns
    -------
    torch.Tensor
        A scalar, float64.

    Raises
    ------
    ValueError
        If t ≤ 0, a shape does not fit or the covariance has a negative eigenvalue.

    Notes
    -----
    Lecture notes (7.4.7), without the 1/Δ_t before the second trace; claim GAU-3.
    """
    variances, vectors = _modes(covariance, "covariance", definite=False)
    d, t = len(variances), _time(t)
    w = _real(linear.weight, "linear", f"a weight of shape ({d}, {d})", lambda s: s == (d, d)).double()
    b = _real(linear.bias, "linear", f"a bias of shape ({d},)", lambda s: s == (d,)).double()
    m, delta = _mean(mean, "mean", d), -torch.expm1(-2 * t)
    noise = (torch.eye(d).to(w) - delta * w).square().sum() / delta
    return (
        noise
        + torch.exp(-2 * t) * ((w @ vectors).square() * variances).sum()
        + (torch.exp(-t) * w @ m + b).square().sum()
    )


def expected_weight_error(n: int, t: float, covariance: torch.Tensor) -> float:
    """E|W_opt − Γ_t^{−1}|² (Frobenius) to first order in 1/n, mean known: (e^{−4t}/n) [(Σ_i λ_i/Γ_i²)² + Σ_i λ_i²/Γ_i⁴].

    For Σ = I it is e^{−4t} d(d+1)/n: the error of one time vanishes only for n ≫ d². Corrections are of relative order d/n.
    Raises ValueError if n < 1, t ≤ 0 or the covariance is not symmetric positive definite.

    Notes
    -----
    Claim GAU-4; W_opt − Γ^{−1} ≈ −e^{−2t} Γ^{−1} (C_e − Σ) Γ^{−1} with Wishart fluctuations of C_e.
    """
    variances, _ = _modes(covariance, "covariance")
    t = _time(t)
    ratio = variances / _gamma_t(variances, t) ** 2
    return float(torch.exp(-4 * t) / _count(n, "n") * (ratio.sum() ** 2 + (ratio**2).sum()))


# ------------------------------------------------------------------------------------------------- early stopping, linear diffusion


def learned_fraction(variances: torch.Tensor, tau: float) -> torch.Tensor:
    """How much of each mode gradient flow has learned after time τ: 1 − e^{−2τΛ}.

    dW/dτ = −∇L from W = 0 on the denoising loss, whose Hessian has the eigenvalues 2Λ of the noised data, Λ = Γ_t = ᾱλ + 1 − ᾱ:
    large variances are learned first. Valid for the score (W → Γ^{−1}) and for the noise (W → √(1−ᾱ) Λ^{−1}).

    Parameters
    ----------
    variances : torch.Tensor, shape (k,), ≥ 0
        Λ, of the noised data.
    tau : float, ≥ 0

    Raises ValueError if a variance or tau is negative or not finite.

    Notes
    -----
    Merger, Goldt (2025).
    """
    return -torch.expm1(-2 * _number(tau, "tau", strict=False) * _variances(variances, "variances"))


def early_stopped_score(data: torch.Tensor, t: float, tau: float, known_mean: bool = False) -> LinearScore:
    """The linear score after training for a time τ: W = Γ^{−1} (1 − e^{−2τΓ}) in the modes of C_e, b = −e^{−t} W μ_0.

    Gradient flow from W = 0 on the denoising loss of the data, the inputs centred (else b and W would learn together).
    τ → ∞ is `optimal_linear_score`; parameters and errors as there, and tau ≥ 0.
    """
    t = _time(t)
    mean, covariance = fit(data, known_mean)
    variances, vectors = _modes(covariance, "data", definite=False)
    gamma = _gamma_t(variances, t)
    weight = _spectral(vectors, learned_fraction(gamma, tau) / gamma)
    return LinearScore(weight, -torch.exp(-t) * weight @ mean)


def early_stopped_variance(variances: torch.Tensor, tau: float, t_start: float = 5.0) -> torch.Tensor:
    """The variance that the probability-flow equation generates in a mode of variance λ, all scores trained for a time τ only.

    From N(0, 1) at T = t_start the score −(1 − e^{−2τΓ})/Γ x carries a mode to t = 0 with

        log v = F(λ) − F(Γ_T) + 2 ∫_0^T e^{−2τΓ_t} dt,    F(v) = log v + E₁(2τv).

    A direction without variance comes out with v ≈ e^{−γ_E}/(2τ) (Euler's γ_E): to stop early is to add c ≈ 0.28/τ there, while
    modes λ ≫ 1/τ are learned.

    Parameters
    ----------
    variances : torch.Tensor, shape (k,), ≥ 0
        λ, of the training data: eigenvalues of C_e.
    tau : float, > 0
        Keep T e^{−2τ} ≪ 1: the pure noise at T must have been learned too.
    t_start : float, > 0
        T.

    Returns
    -------
    torch.Tensor
        v, (k,), float64.

    Raises
    ------
    ValueError
        If a variance is negative, tau ≤ 0 or t_start ≤ 0.

    Notes
    -----
    From dt = dΓ/(2(1 − Γ)) along a mode; completes claim MER-7.
    """
    lam = _variances(variances, "variances")
    tau, start = _number(tau, "tau"), _number(t_start, "t_start")
    end = _gamma_t(lam, torch.tensor(start, dtype=torch.float64))

    def f(v: torch.Tensor) -> torch.Tensor:
        v = v.clamp(min=1e-300)  # F is constant there: −γ_E − log 2τ
        return v.log() + torch.from_numpy(np.asarray(exp1(2 * tau * v.cpu().numpy())))

    edges = start * np.concatenate(
        [[0.0], 2.0 ** np.arange(-50, 1)]
    )  # e^{−4τt} falls on the scale 1/τ: dyadic panels
    half = np.diff(edges)[:, None] / 2
    t = torch.from_numpy((edges[:-1, None] + half * (1 + NODES)).ravel())
    w = torch.from_numpy((half * WEIGHTS).ravel())
    integral = w @ torch.exp(-2 * tau * _gamma_t(lam, t))
    return torch.exp(f(lam) - f(end) + 2 * integral)


def linear_ddpm(alpha_bar: float, mean: torch.Tensor, covariance: torch.Tensor) -> NoisePredictor:
    """The best linear prediction of the noise in x_t = √ᾱ x_0 + √(1−ᾱ) ε: ε_θ = W_t (x_t + b_t),

        W_t = √(1−ᾱ) [ᾱ Σ_0 + (1−ᾱ) I]^{−1},    b_t = −√ᾱ μ_0.

    Parameters
    ----------
    alpha_bar : float, in (0, 1)
        ᾱ = e^{−2t} in the convention of this book; ε_θ = −√Δ_t × score.
    mean, covariance : torch.Tensor
        μ_0 (d,), Σ_0 (d, d), of the training data; Σ_0 may be singular.

    Returns
    -------
    NoisePredictor
        ``weight``, ``shift``, float64; calling it predicts the noise.

    Raises
    ------
    ValueError
        If alpha_bar is not between 0 and 1, or mean and covariance are not those of data.

    Notes
    -----
    Merger, Goldt (2025); claim MER-6.
    """
    alpha = _number(alpha_bar, "alpha_bar")
    if alpha >= 1:
        raise ValueError(
            f"alpha_bar: got {alpha}; expected a number below 1, where there is noise to predict"
        )
    variances, vectors = _modes(covariance, "covariance", definite=False)
    weight = _spectral(vectors, math.sqrt(1 - alpha) / (alpha * variances + 1 - alpha))
    return NoisePredictor(weight, -math.sqrt(alpha) * _mean(mean, "mean", len(variances)))


def ddim_variance(variances: torch.Tensor, times: torch.Tensor) -> torch.Tensor:
    """The variance that DDIM with the exact linear score leaves in a mode of variance λ, from N(0, 1) at the first time.

    A step t → t' multiplies the mode by (e^{−t−t'} λ + √(Δ_t Δ_t'))/Γ_t = √(Γ_t'/Γ_t) cos ϑ, with ϑ the angle between the
    vectors (e^{−t}√λ, √Δ_t) and (e^{−t'}√λ, √Δ_t'): each step loses variance by cos² ϑ, and fine grids lose none.

    Parameters
    ----------
    variances : torch.Tensor, shape (k,), ≥ 0
    times : torch.Tensor, shape (steps + 1,)
        Descending, the last ≥ 0; t = −½ log ᾱ. A grid that ends at t_1 > 0 leaves Γ_{t_1}, which after division by √ᾱ_1 is the
        variance λ + c with c = (1 − ᾱ_1)/ᾱ_1.

    Returns
    -------
    torch.Tensor
        (k,), float64, at the last time, not rescaled.

    Raises
    ------
    ValueError
        If a variance is negative or the times are not at least two, descending and ≥ 0.

    Notes
    -----
    Song, Meng, Ermon (2021), ICLR, eq. 12 with σ = 0; claim MER-7.
    """
    lam = _variances(variances, "variances")
    t = _variances(times, "times")
    if len(t) < 2 or bool((t.diff() >= 0).any()):
        raise ValueError(f"times: got {t.tolist()!r:.80}; expected at least two, descending")
    shrink, delta = torch.exp(-t), -torch.expm1(-2 * t)
    signal = (shrink[:-1] * shrink[1:])[:, None] * lam
    factor = (signal + (delta[:-1] * delta[1:]).sqrt()[:, None]) / _gamma_t(lam, t[:-1])
    return (2 * factor.log().sum(0)).exp()


# ------------------------------------------------------------------------------------------------- divergences


def kl_parts(mean_p: torch.Tensor, cov_p: torch.Tensor, mean_q: torch.Tensor, cov_q: torch.Tensor) -> KLParts:
    """The three terms of KL(p‖q), as in `kl`: trace, mean and log-determinant. The last alone may be negative."""
    v_p, u_p = _modes(cov_p, "cov_p")
    d = len(v_p)
    m_p = _mean(mean_p, "mean_p", d)
    v_q, u_q = _modes(_real(cov_q, "cov_q", f"shape ({d}, {d})", lambda s: s == (d, d)), "cov_q")
    shift = (m_p - _mean(mean_q, "mean_q", d)) @ u_q
    overlaps = (u_q.mT @ u_p).square()
    trace = (overlaps * v_p / v_q[:, None]).sum() - d
    return KLParts(trace / 2, (shift**2 / v_q).sum() / 2, (v_q.log().sum() - v_p.log().sum()) / 2)


def kl(mean_p: torch.Tensor, cov_p: torch.Tensor, mean_q: torch.Tensor, cov_q: torch.Tensor) -> torch.Tensor:
    """KL(p‖q) of two Gaussians: ½ [tr(Σ_q^{−1} Σ_p) + (m_p − m_q)ᵀ Σ_q^{−1} (m_p − m_q) − d + log(|Σ_q|/|Σ_p|)].

    Parameters
    ----------
    mean_p, mean_q : torch.Tensor, shape (d,)
    cov_p, cov_q : torch.Tensor, shape (d, d)
        Symmetric, positive definite.

    Returns
    -------
    torch.Tensor
        A scalar, float64, nats.

    Raises
    ------
    ValueError
        If a covariance is not symmetric positive definite, a shape does not fit or a number is not finite.

    Notes
    -----
    Kullback (1959), chapter 9; claim MER-8.
    """
    return sum(kl_parts(mean_p, cov_p, mean_q, cov_q)).clamp(min=0)  # −10⁻¹⁶ by rounding


def _log_minus_digamma(x: np.ndarray) -> np.ndarray:
    """log x − ψ(x) ≈ 1/2x, without the cancellation of the two at large x."""
    far = np.maximum(x, ASYMPTOTIC)
    y = 1 / far**2
    series = 1 / (2 * far) + y * (1 / 12 - y * (1 / 120 - y / 252))
    near = np.minimum(x, ASYMPTOTIC)
    return np.where(x >= ASYMPTOTIC, series, np.log(near) - psi(near))


def expected_kl(n: int, d: int, reverse: bool = False, known_mean: bool = False) -> float:
    """The mean divergence between a Gaussian law and its maximum-likelihood fit to n data, for every mean and covariance:

        E KL(fit‖true) = ½ Σ_{i=1}^d [log(n/2) − ψ((n − i)/2)] ≈ d(d+3)/4n,
        E KL(true‖fit) = ½ [d(d+3)/(n−d−2) − Σ_{i=1}^d [log(n/2) − ψ((n − i)/2)]].

    With known mean the sums run from i = 0 to d − 1 and d(d+3)/(n−d−2) becomes d(d+1)/(n−d−1): ≈ d(d+1)/4n.

    Parameters
    ----------
    n, d : int, ≥ 1
        Number of data, dimension.
    reverse : bool
        False: KL(fit‖true). True: KL(true‖fit).
    known_mean : bool
        False: the fit estimates mean and covariance. True: the covariance only.

    Returns
    -------
    float
        Nats. ``inf`` where the fit is singular (n ≤ d; n < d if the mean is known), and for the reverse divergence also where its
        mean diverges (n ≤ d + 2; n ≤ d + 1).

    Raises
    ------
    ValueError
        If n or d is not a positive integer.

    Notes
    -----
    |Σ^{−1}C_e| is a product of χ² variables and E C_e^{−1} that of Wishart (Muirhead 1982, theorems 3.2.15 and 3.2.12); claims
    GAU-7, MER-9.
    """
    n, d = _count(n, "n"), _count(d, "d")
    free = n if known_mean else n - 1  # degrees of freedom of the Wishart matrix n C_e
    if free < d or (reverse and free <= d + 1):
        return math.inf
    i = np.arange(n - free, n - free + d, dtype=np.float64)
    log_det = float((_log_minus_digamma((n - i) / 2) - np.log1p(-i / n)).sum())
    if not reverse:
        return log_det / 2
    inverse = d * (d + 1 + 2 * (n - free)) / (free - d - 1)
    return (inverse - log_det) / 2


def kl_per_dimension(gamma: float, reverse: bool = False) -> float:
    """lim E KL/d at n = d/γ: ½ S for KL(fit‖true) and ½ [γ/(1−γ) − S] for KL(true‖fit), S = 1 + ((1−γ)/γ) log(1−γ).

    S = −∫ log x over the law of Marchenko and Pastur; ½ S = γ/4 + γ²/12 + …. Infinite for γ > 1 (reverse: γ ≥ 1).
    Raises ValueError if gamma < 0.

    Notes
    -----
    Claim GAU-7.
    """
    gamma = _number(gamma, "gamma", strict=False)
    if gamma > 1 or (reverse and gamma == 1):
        return math.inf
    if gamma < 0.01:  # Σ γ^k/(k(k+1)): eight terms are exact to rounding, the closed form loses 1/γ² of them
        s = sum(gamma**k / (k * (k + 1)) for k in range(1, 9))
    else:
        s = 1 + ((1 - gamma) / gamma * math.log1p(-gamma) if gamma < 1 else 0)
    return (gamma / (1 - gamma) - s) / 2 if reverse else s / 2


def ridge_kl(
    data: torch.Tensor, c: torch.Tensor, mean: torch.Tensor, covariance: torch.Tensor
) -> torch.Tensor:
    """KL(ρ_n‖ρ) of what a regularised linear model generates, ρ_n = N(μ_0, Σ_0 + c I), from the true law ρ = N(m, Σ).

        KL = ½ [tr(Σ^{−1}(Σ_0 + c I)) + (μ_0 − m)ᵀ Σ^{−1} (μ_0 − m) − d + log(|Σ|/|Σ_0 + c I|)]

    Parameters
    ----------
    data : torch.Tensor, shape (n, d)
        What μ_0, Σ_0 are fitted to.
    c : torch.Tensor, shape (k,), ≥ 0
        Regularisations; with n ≤ d the divergence is infinite at c = 0.
    mean, covariance : torch.Tensor
        m, Σ of the true law, Σ positive definite.

    Returns
    -------
    torch.Tensor
        (k,), float64, nats: convex in c, with its minimum at `best_ridge`.

    Raises
    ------
    ValueError
        If c < 0, the covariance is not symmetric positive definite or a shape does not fit.

    Notes
    -----
    Claims MER-8, MER-10.
    """
    c, (mu, fitted) = _variances(c, "c"), fit(data)
    v, u = _modes(covariance, "covariance")
    if mu.shape != v.shape:
        raise ValueError(f"covariance: got {len(v)} dimensions; expected {len(mu)}, those of the data")
    shift = (mu - _mean(mean, "mean", len(v))) @ u
    fixed = (((u.mT @ fitted) * u.mT).sum(1) / v + shift**2 / v + v.log() - 1).sum()
    return (fixed + c * (1 / v).sum() - (_spectrum(fitted) + c[:, None]).log().sum(1)) / 2


def best_ridge(data: torch.Tensor, covariance: torch.Tensor) -> float:
    """The c ≥ 0 at which `ridge_kl` is smallest: Σ_i 1/(μ_i + c) = tr Σ^{−1}, with μ_i the eigenvalues of the fit to the data.

    It is 0 if the left side is below the right one already there. Errors as in `ridge_kl`.

    Notes
    -----
    d KL/dc = 0; the left side falls with c, so there is one root. Claim MER-10.
    """
    v, _ = _modes(covariance, "covariance")
    mu = _spectrum(fit(data)[1])
    if mu.shape != v.shape:
        raise ValueError(f"covariance: got {len(v)} dimensions; expected {len(mu)}, those of the data")
    goal, zeros = float((1 / v).sum()), int((mu == 0).sum())

    def excess(c: float) -> float:
        return float((1 / (mu + c)).sum()) / goal - 1

    low = zeros / goal  # the vanishing μ alone make up the right side there
    return brentq(excess, low, len(v) / goal, xtol=1e-300, rtol=1e-13) if excess(low) > 0 else low


def _spectrum(covariance: torch.Tensor) -> torch.Tensor:
    """Eigenvalues, those that are rounding set to zero."""
    values = torch.linalg.eigvalsh(covariance)
    return torch.where(values > len(values) * torch.finfo(torch.float64).eps * values[-1], values, 0.0)


# ------------------------------------------------------------------------------------------------- random matrices


def marchenko_pastur_edges(gamma: float, variance: float = 1.0) -> tuple[float, float]:
    """Where the eigenvalues of C_e lie for Σ = σ² I at n = d/γ: σ² (1 ± √γ)². Raises ValueError if gamma or variance ≤ 0."""
    root, variance = math.sqrt(_number(gamma, "gamma")), _number(variance, "variance")
    return variance * (1 - root) ** 2, variance * (1 + root) ** 2


def marchenko_pastur(x: torch.Tensor, gamma: float, variance: float = 1.0) -> torch.Tensor:
    """The density of eigenvalues of C_e for Σ = σ² I, d, n → ∞ at d/n = γ: √((x₊ − x)(x − x₋))/(2πγσ² x) between the edges x±.

    For γ > 1 the law has also an atom 1 − 1/γ at zero (the density then has the mass 1/γ). Means over it, at σ = 1 and γ < 1:
    ⟨x⟩ = 1, ⟨1/x⟩ = 1/(1−γ), ⟨log x⟩ = −1 − ((1−γ)/γ) log(1−γ).

    Parameters
    ----------
    x : torch.Tensor
        Floating point, any shape.
    gamma, variance : float, > 0
        γ = d/n, σ².

    Returns
    -------
    torch.Tensor
        The shape of x, float64; zero outside the edges.

    Raises
    ------
    ValueError
        If x is not finite and floating-point, or gamma or variance ≤ 0.

    Notes
    -----
    Marchenko, Pastur (1967), Math. USSR Sb. 1, 457.
    """
    low, high = marchenko_pastur_edges(gamma, variance)
    x = _real(x, "x", "any shape", lambda s: True).detach().double()
    inside = ((high - x) * (x - low)).clamp(min=0).sqrt()
    return torch.where(inside > 0, inside / (2 * math.pi * gamma * variance * x), 0.0)


def goe(d: int, generator: torch.Generator | None = None) -> torch.Tensor:
    """A matrix of the Gaussian orthogonal ensemble, (d, d), float64: entries of variance 1, on the diagonal 2.

    The eigenvalues of goe(d)/√d fill [−2, 2]. Raises ValueError if d is not a positive integer.
    """
    d = _count(d, "d")
    g = torch.randn(d, d, generator=_own(generator), dtype=torch.float64)
    return (g + g.mT) / math.sqrt(2)


def spiked_wigner(theta: torch.Tensor) -> Spike:
    """The limit of the largest eigenvalue of θ vvᵀ + G/√d, |v| = 1, and of its overlap with v.

    Above θ = 1: θ + 1/θ and ⟨u, v⟩² = 1 − 1/θ²; below: the edge 2, and 0. `theta` (k,), ≥ 0; ValueError if negative.

    Notes
    -----
    Baik, Ben Arous, Péché (2005), Ann. Probab. 33, 1643; Benaych-Georges, Nadakuditi (2011), Adv. Math. 227, 494; claim GAU-8.
    """
    strong = _variances(theta, "theta").clamp(min=1)
    return Spike(strong + 1 / strong, 1 - strong**-2)


def spiked_covariance(ell: torch.Tensor, gamma: float) -> Spike:
    """The limit of the largest eigenvalue of C_e for Σ = I + ℓ vvᵀ at d/n = γ, and of its overlap with v.

    Above ℓ = √γ: (1 + ℓ)(1 + γ/ℓ) and ⟨u, v⟩² = (1 − γ/ℓ²)/(1 + γ/ℓ); below: the edge (1 + √γ)², and 0.
    `ell` (k,), ≥ 0, gamma > 0; ValueError otherwise.

    Notes
    -----
    Baik, Ben Arous, Péché (2005), Ann. Probab. 33, 1643; Paul (2007), Stat. Sinica 17, 1617; claim GAU-8.
    """
    gamma = _number(gamma, "gamma")
    strong = _variances(ell, "ell").clamp(min=math.sqrt(gamma))
    overlap = ((1 - gamma / strong**2) / (1 + gamma / strong)).clamp(min=0)
    return Spike((1 + strong) * (1 + gamma / strong), overlap)


def _top(diagonals, off_diagonals) -> Spike:
    """The top eigenpair of each symmetric tridiagonal matrix; the overlap is with the first axis."""
    last = len(diagonals[0]) - 1
    pairs = [
        eigh_tridiagonal(a, b, select="i", select_range=(last, last))
        for a, b in zip(diagonals, off_diagonals, strict=True)
    ]
    values, vectors = zip(*pairs, strict=True)
    return Spike(torch.from_numpy(np.array(values)[:, 0]), torch.from_numpy(np.array(vectors)[:, 0, 0] ** 2))


def spiked_wigner_sample(
    theta: float, d: int, draws: int = 1, generator: torch.Generator | None = None
) -> Spike:
    """Draws of the largest eigenvalue of θ vvᵀ + G/√d and of its overlap with v, exactly at finite d and in O(d) each.

    Rotations that leave v = e_1 alone make G tridiagonal, with N(0, 2) on the diagonal and χ_{d−1}, …, χ_1 beside it.

    Parameters
    ----------
    theta : float, ≥ 0
    d : int, ≥ 2
    draws : int, ≥ 1
    generator : torch.Generator, optional

    Returns
    -------
    Spike
        ``eigenvalue`` and ``overlap``, (draws,), float64.

    Raises
    ------
    ValueError
        If a number is out of range.

    Notes
    -----
    Dumitriu, Edelman (2002), J. Math. Phys. 43, 5830; claim GAU-8.
    """
    theta, d, draws = _number(theta, "theta", strict=False), _count(d, "d", 2), _count(draws, "draws")
    rng = np.random.default_rng(philox.key(generator))
    diagonal = rng.standard_normal((draws, d)) * math.sqrt(2 / d)
    diagonal[:, 0] += theta
    return _top(diagonal, np.sqrt(rng.chisquare(np.arange(d - 1, 0, -1), (draws, d - 1)) / d))


def spiked_covariance_sample(
    ell: float, d: int, n: int, draws: int = 1, generator: torch.Generator | None = None
) -> Spike:
    """Draws of the largest eigenvalue of C_e (mean known) for n data from N(0, I + ℓ vvᵀ), and of its overlap with v, in O(d) each.

    Rotations that leave v = e_1 alone make the data bidiagonal, with χ_n, χ_{n−1}, … and below them χ_{d−1}, …, χ_1; the first
    entry carries the factor √(1 + ℓ).

    Parameters
    ----------
    ell : float, ≥ 0
    d, n : int
        n ≥ d ≥ 2.
    draws : int, ≥ 1
    generator : torch.Generator, optional

    Returns
    -------
    Spike
        ``eigenvalue`` and ``overlap``, (draws,), float64.

    Raises
    ------
    ValueError
        If a number is out of range.

    Notes
    -----
    Dumitriu, Edelman (2002), J. Math. Phys. 43, 5830; claim GAU-8.
    """
    ell, d, draws = _number(ell, "ell", strict=False), _count(d, "d", 2), _count(draws, "draws")
    n = _count(n, "n", d)
    rng = np.random.default_rng(philox.key(generator))
    chi = np.sqrt(rng.chisquare(np.arange(n, n - d, -1), (draws, d)) / n)
    chi[:, 0] *= math.sqrt(1 + ell)
    below = np.sqrt(rng.chisquare(np.arange(d - 1, 0, -1), (draws, d - 1)) / n)
    diagonal = chi**2
    diagonal[:, 1:] += below**2
    return _top(diagonal, chi[:, :-1] * below)


def noisy_eigenvectors(x: torch.Tensor, spectrum: torch.Tensor, noise: float) -> NoisyEigenvectors:
    """Eigenvalues and eigenvectors of H = Σ + √(v/d) G, G = `goe(d)`, for large d: a point x of the old axis moves to E with

        (v/d) Σ_i 1/((x − λ_i)² + y²) = 1,    E = x + (v/d) Σ_i (x − λ_i)/((x − λ_i)² + y²),    ρ(E) = y/πv,
        E|⟨u_i|v_E⟩|² = (v/d)/((x − λ_i)² + y²).

    An eigenvector at E is spread over the old ones by a Lorentzian of half-width y, the free sum of the spectrum with a semicircle.
    For n = d^a data and (7.4.9) with entries of variance one, v = d^{1−a}: in the bulk y ≈ πρv ≪ 1 for a > 1, over
    dρy ~ d^{2−a} neighbours. Valid while that number is large; at a ≥ 2 eigenvectors are kept and the law is perturbative.

    Parameters
    ----------
    x : torch.Tensor, shape (P,)
    spectrum : torch.Tensor, shape (d,), ≥ 0
        λ_i, the eigenvalues of Σ.
    noise : float, > 0
        v, the variance of the noise: its own spectrum is a semicircle of radius 2√v.

    Returns
    -------
    NoisyEigenvectors
        ``energy``, ``density`` (zero, y = 0, where x leaves the bulk), ``overlaps``.

    Raises
    ------
    ValueError
        If a shape does not fit, a variance is negative or noise ≤ 0.

    Notes
    -----
    Pastur (1972), Theor. Math. Phys. 10, 67; Biane (1997), Indiana Univ. Math. J. 46, 705; Allez, Bouchaud (2014), Random
    Matrices Theory Appl. 3, 1450010; Rosenzweig, Porter (1960), Phys. Rev. 120, 1698. Claims GAU-5, GAU-6.
    """
    x = _real(x, "x", "shape (P,)", lambda s: len(s) == 1).detach().double()
    lam, v = _variances(spectrum, "spectrum"), _number(noise, "noise")
    gap, share = x[:, None] - lam, v / len(lam)
    squares = gap**2
    low, high = torch.zeros_like(x), torch.full_like(x, math.sqrt(v))
    for _ in range(54):  # the sum falls with y, and is at most one at y = √v
        y = (low + high) / 2
        above = share * (squares + y[:, None] ** 2).reciprocal_().sum(1) > 1
        low, high = torch.where(above, y, low), torch.where(above, high, y)
    outside = share * (1 / squares).sum(1) <= 1
    y = torch.where(outside, 0.0, (low + high) / 2)
    overlaps = share / (squares + y[:, None] ** 2)
    return NoisyEigenvectors(x + (overlaps * gap).sum(1), y / (math.pi * v), overlaps)


def participation(overlaps: torch.Tensor) -> torch.Tensor:
    """On how many axes a vector stands: 1/Σ_i o_i² for squared components o_i that sum to one along the last dimension.

    1 for an axis, d for o_i = 1/d, d/3 for a random direction. An eigenvector whose components are Gaussian about mean squares
    ō_i (as those of `noisy_eigenvectors`) has 1/(3 Σ_i ō_i²).
    Raises ValueError if the overlaps are not finite, floating-point and ≥ 0.
    """
    o = _real(overlaps, "overlaps", "shape (..., d)", lambda s: len(s) >= 1 and s[-1] > 0).double()
    if bool((o < 0).any()):
        raise ValueError(f"overlaps: got {float(o.min())}; expected squared components >= 0")
    return 1 / o.square().sum(-1)
