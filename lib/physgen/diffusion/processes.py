"""Stochastic processes, forward in time (the chapter `diffusion/processes`).

A Langevin equation dx = b(x, t) dt + σ(x, t) dW, read in Itô's sense, moves a density by the Fokker–Planck equation

    ∂_t p = −∇·(b p) + ½ Σ_i ∂_i² (σ_i² p) = −∇·j,    j = b p − ½ ∇(σ² p).

With b = −∇V and σ² = 2T its stationary law is e^{−V/T}/Z, and there j = 0: detailed balance. The book's process is that of
Ornstein and Uhlenbeck, V = ½|x|² at T = 1, dx = −x dt + √2 dW, whose law at time t is that of

    x_t = a e^{−t} + √Δ_t z,    Δ_t = 1 − e^{−2t},    p_t = (e^{dt} p_0(e^t ·)) * N(0, Δ_t I).

Drifts and noises are callables (x, t) ↦ tensor that broadcasts to x, of shape (batch, d); a noise may also be a number. These
processes run forward, so time grids ascend here; those of the reverse processes descend.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from scipy.integrate import solve_ivp
from scipy.linalg import eigvalsh_tridiagonal, expm, solve_continuous_lyapunov, solve_discrete_lyapunov

from physgen.checks import number as _number
from physgen.checks import stream as _stream
from physgen.energies.energy_models import relative_entropy

__all__ = [
    "FokkerPlanck",
    "Moments",
    "Schedule",
    "StartCost",
    "brownian_increments",
    "contracted",
    "euler_maruyama",
    "evolve_density",
    "fokker_planck_matrix",
    "fokker_planck_terms",
    "gibbs_density",
    "kramers_rate",
    "ou_characteristic",
    "ou_moments",
    "ou_semigroup",
    "ou_step",
    "probability_current",
    "relative_entropy",
    "schedule_moments",
    "spectral_gap",
    "start_cost",
    "stationary_covariance",
    "stationary_density",
    "stratonovich_heun",
]

ROOT2 = math.sqrt(2.0)
Field = Callable[[torch.Tensor, float], torch.Tensor]


class Moments(NamedTuple):
    """The law of x_t given a: mean s·a, variance delta in each direction."""

    s: torch.Tensor
    delta: torch.Tensor


class Schedule(NamedTuple):
    """x_t = s a + s σ z, and the variance delta = s² σ² of x_t given a."""

    s: torch.Tensor
    sigma: torch.Tensor
    delta: torch.Tensor


class FokkerPlanck(NamedTuple):
    """The three terms of the Fokker–Planck equation at each point, (batch,)."""

    rate: torch.Tensor  # ∂_t p
    transport: torch.Tensor  # −∇·(b p)
    diffusion: torch.Tensor  # +½ Σ_i ∂_i² (σ_i² p)

    @property
    def residual(self) -> torch.Tensor:
        """Zero where the equation holds."""
        return self.rate - self.transport - self.diffusion


class StartCost(NamedTuple):
    """KL(p_t ‖ N(0, I)) of Gaussian data, in nats: its two parts, and their sum."""

    mean: torch.Tensor
    covariance: torch.Tensor

    @property
    def total(self) -> torch.Tensor:
        """The divergence itself."""
        return self.mean + self.covariance


# ------------------------------------------------------------------------------------------------- what comes in


def _got(value) -> str:
    return f"{value.dtype} of shape {tuple(value.shape)}" if isinstance(value, torch.Tensor) else repr(value)


def _finite(value, name: str, shape: str, ndim: int) -> torch.Tensor:
    fits = isinstance(value, torch.Tensor) and value.ndim == ndim and value.is_floating_point()
    if not fits or value.numel() == 0 or not bool(value.detach().isfinite().all()):
        raise ValueError(
            f"{name}: got {_got(value)}; expected finite floating-point numbers of shape {shape}"
        )
    return value


def _points(x, name: str = "x") -> torch.Tensor:
    return _finite(x, name, "(batch, d)", 2)


def _time(t, x: torch.Tensor | None = None) -> torch.Tensor:
    """A time > 0 as a tensor, float64 if it came as a number; with points x, one for all or one for each."""
    if isinstance(t, torch.Tensor):
        fits = t.is_floating_point() and bool((t.detach().isfinite() & (t.detach() > 0)).all())
        fits = fits and (x is None or t.ndim == 0 or t.shape == x.shape[:1])
    else:
        fits = isinstance(t, (int, float)) and not isinstance(t, bool) and 0 < t < math.inf
    if not fits:
        shape = "" if x is None else f", one or a tensor of shape ({len(x)},)"
        raise ValueError(f"t: got {_got(t)}; expected finite times > 0{shape}")
    return t if isinstance(t, torch.Tensor) else torch.tensor(float(t), dtype=torch.float64)


def _instant(t) -> float:
    """A single time > 0."""
    if isinstance(t, torch.Tensor) and t.ndim:
        raise ValueError(f"t: got {_got(t)}; expected one time")
    return float(_time(t))


def _ascending(values, name: str, least: int = 2) -> torch.Tensor:
    v = _finite(values, name, "(n,)", 1)
    if len(v) < least or not bool((v.diff() > 0).all()):
        raise ValueError(f"{name}: got {len(v)} values; expected at least {least}, strictly ascending")
    return v.double()


def _density(p, grid: torch.Tensor, name: str = "p") -> torch.Tensor:
    _finite(p, name, f"({len(grid)},)", 1)
    if len(p) != len(grid) or bool((p < 0).any()):
        raise ValueError(
            f"{name}: got {_got(p)}; expected densities >= 0, one per point of the grid ({len(grid)})"
        )
    return p.double()


def _value(field: Field | float, x: torch.Tensor, t, name: str) -> torch.Tensor:
    """A drift or noise at (x, t), expanded to the shape of x."""
    out = field(x, t) if callable(field) else field
    out = torch.as_tensor(out, dtype=x.dtype, device=x.device)
    try:
        return out.expand_as(x)
    except RuntimeError:
        raise ValueError(
            f"{name}: got values of shape {tuple(out.shape)}; expected them to broadcast to {tuple(x.shape)}"
        ) from None


def _normal(like: torch.Tensor, stream: torch.Generator) -> torch.Tensor:
    return torch.randn(like.shape, generator=stream, dtype=like.dtype, device=like.device)


# ------------------------------------------------------------------------------------------------- Ornstein–Uhlenbeck


def ou_moments(t: float | torch.Tensor, rate: float = 1.0, noise: float = ROOT2) -> Moments:
    """s = e^{−kt} and the variance σ²(1 − e^{−2kt})/(2k) of dx = −k x dt + σ dW; by default e^{−t} and Δ_t = 1 − e^{−2t}.

    Parameters
    ----------
    t : float or torch.Tensor, > 0
        Floating point, any shape. A number is taken in float64.
    rate : float, > 0
        k.
    noise : float, ≥ 0
        σ. Signal and noise are a rotation, s² + Δ = 1, only if σ² = 2k.

    Returns
    -------
    Moments
        ``s`` and ``delta``, of the shape and dtype of `t`; accurate to rounding at every t, Δ_t ≈ 2t when t is small.

    Raises
    ------
    ValueError
        If a time is not > 0 and finite, rate ≤ 0 or noise < 0.

    Notes
    -----
    Uhlenbeck, Ornstein (1930), Phys. Rev. 36, 823; claims DIF-3, DIF-4, DIF-6.
    """
    t, k = _time(t), _number(rate, "rate", 0, strict=True)
    return Moments((-k * t).exp(), -(_number(noise, "noise", 0) ** 2) / (2 * k) * torch.expm1(-2 * k * t))


def ou_step(
    x: torch.Tensor,
    t: float | torch.Tensor,
    rate: float = 1.0,
    noise: float = ROOT2,
    generator: torch.Generator | None = None,
) -> torch.Tensor:
    """x_t drawn from x_0 in one exact step, x_0 e^{−kt} + σ √((1 − e^{−2kt})/(2k)) z: no time step, no bias.

    Parameters
    ----------
    x : torch.Tensor, shape (batch, d)
        Floating point; its dtype is kept.
    t : float, or torch.Tensor of shape (batch,), > 0
    rate, noise : float
        k > 0 and σ ≥ 0.
    generator : torch.Generator, optional
        None draws fresh entropy.

    Returns
    -------
    torch.Tensor
        (batch, d).

    Raises
    ------
    ValueError
        If a shape or dtype does not fit, a number is not finite, t ≤ 0, rate ≤ 0 or noise < 0.

    Notes
    -----
    Claim DIF-3.
    """
    x = _points(x)
    s, delta = (m.to(x).reshape(-1, 1) for m in ou_moments(_time(t, x), rate, noise))
    return s * x + delta.sqrt() * _normal(x, _stream(generator, x.device))


def contracted(
    x: torch.Tensor, density: Callable[[torch.Tensor], torch.Tensor], t: float, rate: float = 1.0
) -> torch.Tensor:
    """The density of e^{−kt} a at x: e^{kdt} p(e^{kt} x), one factor e^{kt} for each dimension.

    Parameters
    ----------
    x : torch.Tensor, shape (batch, d)
    density : callable
        p, (batch, d) ↦ (batch,).
    t : float, > 0
    rate : float, > 0
        k.

    Returns
    -------
    torch.Tensor
        (batch,). Blurred by the noise it is the law of the process: p_t = this * N(0, delta I).

    Raises
    ------
    ValueError
        If `x` is no (batch, d) tensor of finite numbers, t ≤ 0 or rate ≤ 0.

    Notes
    -----
    Claim DIF-7.
    """
    x = _points(x)
    growth = 1 / ou_moments(_instant(t), rate).s
    return growth ** x.shape[1] * density(growth * x)


def ou_semigroup(density: torch.Tensor, grid: torch.Tensor, t: float) -> torch.Tensor:
    """p_t from p_0 in one dimension, by Mehler's kernel: p_t(x) = ∫ N(x; a e^{−t}, Δ_t) p_0(a) da.

    Parameters
    ----------
    density : torch.Tensor, shape (n,)
        p_0 on the grid; it should have decayed at the ends.
    grid : torch.Tensor, shape (n,)
        Ascending. The rule is trapezoidal: spectrally accurate for smooth densities on a uniform grid.
    t : float, > 0

    Returns
    -------
    torch.Tensor
        (n,), float64, p_t on the same grid.

    Raises
    ------
    ValueError
        If a shape does not fit, a density is negative, t ≤ 0, or the kernel is narrower than one and a half spacings of the grid.

    Notes
    -----
    The maps form a semigroup, P_t P_s = P_{t+s}; their inverses are unbounded (claim DIF-8).
    """
    grid = _ascending(grid, "grid")
    p = _density(density, grid, "density")
    s, delta = ou_moments(_instant(t))
    # As a function of a the kernel has width √Δ/s; the trapezoid misses e^{−2π²(width/spacing)²} of it: 10⁻¹⁹ at 1.5.
    if float(delta.sqrt() / s) < 1.5 * float(grid.diff().max()):
        raise ValueError(f"t: got {t}; on a grid of spacing {float(grid.diff().max()):.3g} it must be larger")
    kernel = (-((grid[:, None] - s * grid) ** 2) / (2 * delta)).exp() / (2 * math.pi * delta).sqrt()
    return torch.trapezoid(kernel * p, grid)


def ou_characteristic(
    w: torch.Tensor, characteristic: Callable[[torch.Tensor], torch.Tensor], t: float
) -> torch.Tensor:
    """The Fourier transform of p_t: p̂_t(w) = p̂_0(e^{−t} w) e^{−Δ_t|w|²/2}, which is p̂ = E e^{iw·x} contracted and damped.

    Parameters
    ----------
    w : torch.Tensor, shape (batch, d)
    characteristic : callable
        p̂_0, (batch, d) ↦ (batch,), real or complex.
    t : float, > 0

    Returns
    -------
    torch.Tensor
        (batch,). Going back multiplies by e^{+Δ_t|w|²/2}, which has no bound.

    Raises
    ------
    ValueError
        If `w` is no (batch, d) tensor of finite numbers or t ≤ 0.

    Notes
    -----
    Claim DIF-8.
    """
    s, delta = ou_moments(_instant(t))
    w = _points(w, "w")
    return characteristic(s * w) * (-delta * (w**2).sum(1) / 2).exp()


def schedule_moments(
    f: Callable[[float], float], g: Callable[[float], float], t: float | torch.Tensor
) -> Schedule:
    """x_t = s a + s σ z for dx = f(t) x dt + √2 g(t) dW, f and g scalar functions of time.

    s = exp ∫_0^t f and σ² = 2 ∫_0^t (g/s)²; the factor 2 is that of the noise ⟨ηη⟩ = 2δ, that is of √2 dW.

    Parameters
    ----------
    f, g : callable
        Of one float, smooth on [0, max t]. f = −1, g = 1 is the process of the book; f = 0, g = 1 is Brownian motion.
    t : float or torch.Tensor, > 0
        Any shape.

    Returns
    -------
    Schedule
        ``s``, ``sigma``, ``delta``: float64, of the shape of `t`.

    Raises
    ------
    ValueError
        If a time is not > 0, or f or g is not finite, so that the integration fails.

    Notes
    -----
    Notes (7.2.12–14); claim LAN-5. Integrated are log s, and the variance by delta' = 2 f delta + 2 g², which stays bounded
    where s decays and σ explodes.
    """
    t = _time(t).double()
    ordered, index = t.detach().reshape(-1).unique(return_inverse=True)

    def slope(now, y):
        return [f(now), 2 * f(now) * y[1] + 2 * g(now) ** 2]

    end = float(ordered[-1])
    # The variance starts at zero and is of order t: only a relative error is meaningful.
    solution = solve_ivp(
        slope, (0.0, end), [0.0, 0.0], "DOP853", ordered.numpy(), rtol=3e-13, atol=1e-15 * min(1.0, end)
    )
    log_s, delta = torch.from_numpy(np.asarray(solution.y)) if solution.success else (t * math.nan,) * 2
    if not bool(log_s.isfinite().all() & delta.isfinite().all()):
        raise ValueError(
            f"f, g: got functions that cannot be integrated to t = {end}; expected finite, smooth ones"
        )
    s, delta = log_s.exp()[index].reshape(t.shape), delta[index].reshape(t.shape)
    return Schedule(s, delta.sqrt() / s, delta)


# ------------------------------------------------------------------------------------------------- simulation


def brownian_increments(
    shape: tuple[int, ...], times: torch.Tensor, generator: torch.Generator | None = None
) -> torch.Tensor:
    """Increments of Brownian motion over a time grid, (len(times) − 1, …) with … the shape, float64: ⟨ΔW_i ΔW_j⟩ = δ_ij Δt.

    Sums over neighbouring steps are the increments of the same path on a coarser grid.

    Raises
    ------
    ValueError
        If the times do not ascend.

    Notes
    -----
    Claim LAN-1: the noise integrated over a step is η̄ = √2 ΔW, of covariance 2 δ_ij Δt.
    """
    steps = _ascending(times, "times").diff()
    z = torch.empty(len(steps), *shape, dtype=torch.float64)
    z = _normal(z, _stream(generator, z.device))
    return z * steps.sqrt().reshape(-1, *[1] * len(shape))


def _integrate(x, drift, noise, times, generator, increments, path: bool, corrected: bool) -> torch.Tensor:
    x, grid = _points(x), _ascending(times, "times").tolist()
    if increments is not None and tuple(increments.shape) != (len(grid) - 1, *x.shape):
        raise ValueError(
            f"increments: got shape {tuple(increments.shape)}; expected {(len(grid) - 1, *x.shape)}"
        )
    stream = _stream(generator, x.device)
    visited = [x]
    for k, (t, end) in enumerate(pairwise(grid)):
        h = end - t
        dw = _normal(x, stream).mul_(math.sqrt(h)) if increments is None else increments[k].to(x)
        b, sigma = _value(drift, x, t, "drift"), _value(noise, x, t, "noise")
        step = b * h + sigma * dw
        if corrected:
            ahead = x + step
            b, sigma = b + _value(drift, ahead, end, "drift"), sigma + _value(noise, ahead, end, "noise")
            step = (b * h + sigma * dw) / 2
        x = x + step
        if path:
            visited.append(x)
    if not bool(x.isfinite().all()):
        raise ValueError(
            f"times: got steps up to {max(np.diff(grid)):.3g}, with which x left the finite numbers"
        )
    return torch.stack(visited) if path else x


def euler_maruyama(
    x: torch.Tensor,
    drift: Field,
    noise: Field | float,
    times: torch.Tensor,
    generator: torch.Generator | None = None,
    increments: torch.Tensor | None = None,
    path: bool = False,
) -> torch.Tensor:
    """Itô's steps x ← x + b(x, t) h + σ(x, t) √h z: drift and noise as they are at the start of the step.

    Parameters
    ----------
    x : torch.Tensor, shape (batch, d)
        Where the trajectories start; its dtype is that of the simulation.
    drift : callable
        b(x, t), broadcasting to x.
    noise : float or callable
        σ, or σ(x, t) broadcasting to x: one amplitude per direction.
    times : torch.Tensor, shape (n + 1,)
        Ascending, both ends included.
    generator : torch.Generator, optional
        None draws fresh entropy.
    increments : torch.Tensor, shape (n, batch, d), optional
        Of Brownian motion, in place of drawing them: two integrations of one noise.
    path : bool
        Return all n + 1 positions, (n + 1, batch, d).

    Returns
    -------
    torch.Tensor
        (batch, d), the positions at the end.

    Raises
    ------
    ValueError
        If a shape does not fit, the times do not ascend, or the steps are so large that x leaves the finite numbers.

    Notes
    -----
    Maruyama (1955); weak order one, and strong order one if the noise is additive (one half otherwise). The stationary law
    has a bias of order h: on dx = −k x dt + σ dW the variance is σ²/(2k) / (1 − kh/2). Claims LAN-1, DIF-2, DIF-5.
    """
    return _integrate(x, drift, noise, times, generator, increments, path, corrected=False)


def stratonovich_heun(
    x: torch.Tensor,
    drift: Field,
    noise: Field | float,
    times: torch.Tensor,
    generator: torch.Generator | None = None,
    increments: torch.Tensor | None = None,
    path: bool = False,
) -> torch.Tensor:
    """Heun's steps: drift and noise are averages over the two ends of the step, which gives Stratonovich's solution.

    It is Itô's solution with the drift b_i + ½ σ_i ∂_i σ_i; the two agree if the noise does not depend on x. Parameters, value and
    errors are those of `euler_maruyama`.

    Notes
    -----
    Rümelin (1982), SIAM J. Numer. Anal. 19, 604; claim DIF-2.
    """
    return _integrate(x, drift, noise, times, generator, increments, path, corrected=True)


def stationary_covariance(drift: torch.Tensor, noise: float = ROOT2, step: float = 0.0) -> torch.Tensor:
    """The stationary covariance C of dx = A x dt + σ dW, or of its Itô steps of length h, exactly.

    Continuous time: A C + C Aᵀ + σ² I = 0. Steps: C = M C Mᵀ + σ² h I with M = I + hA. In one dimension, A = −k, this is
    σ²/(2k) / (1 − kh/2), stable for h < 2/k.

    Parameters
    ----------
    drift : torch.Tensor, shape (d, d)
        A, a matrix whose eigenvalues have negative real parts.
    noise : float, ≥ 0
        σ; √(2T) at temperature T.
    step : float, ≥ 0
        h; 0 is continuous time.

    Returns
    -------
    torch.Tensor
        (d, d), float64.

    Raises
    ------
    ValueError
        If A is not square, or there is no stationary state: some Re λ ≥ 0, or some |1 + hλ| ≥ 1.

    Notes
    -----
    Claims DIF-4, DIF-5, LAN-3, LAN-4.
    """
    a = _finite(drift, "drift", "(d, d)", 2).double().numpy()
    if a.shape[0] != a.shape[1]:
        raise ValueError(f"drift: got shape {a.shape}; expected a square matrix")
    sigma, h = _number(noise, "noise", 0), _number(step, "step", 0)
    eigenvalues, unit = np.linalg.eigvals(a), np.eye(len(a))
    if eigenvalues.real.max() >= 0:
        raise ValueError(
            f"drift: got eigenvalues {eigenvalues}; expected negative real parts (a stationary state)"
        )
    if h == 0:
        return torch.from_numpy(solve_continuous_lyapunov(a, -(sigma**2) * unit))
    if np.abs(1 + h * eigenvalues).max() >= 1:
        raise ValueError(f"step: got {h}; expected |1 + step λ| < 1 for the eigenvalues λ = {eigenvalues}")
    return torch.from_numpy(solve_discrete_lyapunov(unit + h * a, sigma**2 * h * unit))


# ------------------------------------------------------------------------------------------------- Fokker–Planck


def _gradient(y: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """∂y/∂x for y that does not mix the batch; zero where y does not depend on x."""
    if not y.requires_grad:
        return torch.zeros_like(x)
    out = torch.autograd.grad(y.sum(), x, create_graph=True, allow_unused=True)[0]
    return torch.zeros_like(x) if out is None else out


def _density_at(density, x, t) -> torch.Tensor:
    p = density(x, t)
    if not isinstance(p, torch.Tensor) or p.shape != x.shape[:1]:
        raise ValueError(f"density: got {_got(p)}; expected a tensor of shape ({len(x)},)")
    return p


def fokker_planck_terms(
    x: torch.Tensor,
    density: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    t: float,
    drift: Field,
    noise: Field | float = ROOT2,
) -> FokkerPlanck:
    """∂_t p, −∇·(b p) and ½ Σ_i ∂_i² (σ_i² p) at the points x, by automatic differentiation.

    Parameters
    ----------
    x : torch.Tensor, shape (batch, d)
        Taken in float64.
    density : callable
        p(x, t), (batch, d) and a scalar tensor ↦ (batch,); differentiable in both.
    t : float, > 0
    drift : callable
        b(x, t), broadcasting to x; differentiable.
    noise : float or callable
        σ(x, t) of dx = b dt + σ dW in Itô's reading: it stands inside the second derivative.

    Returns
    -------
    FokkerPlanck
        ``rate``, ``transport``, ``diffusion``, and the property ``residual`` = rate − transport − diffusion.

    Raises
    ------
    ValueError
        If a shape does not fit, a number is not finite or t ≤ 0.

    Notes
    -----
    Risken (1989), The Fokker–Planck Equation, chapter 4; claims DIF-1, DIF-9, LAN-2, LAN-3, REV-1, REV-2.
    """
    with torch.enable_grad():
        x = _points(x).detach().double().requires_grad_()
        t = torch.tensor(_instant(t), dtype=torch.float64, requires_grad=True)
        p = _density_at(density, x, t)
        flow = _value(drift, x, t, "drift") * p[:, None]
        spread = _value(noise, x, t, "noise") ** 2 * p[:, None]
        transport, diffusion = torch.zeros_like(p), torch.zeros_like(p)
        for i in range(x.shape[1]):
            transport = transport - _gradient(flow[:, i], x)[:, i]
            diffusion = diffusion + _gradient(_gradient(spread[:, i], x)[:, i], x)[:, i] / 2
        # d/dt of each density apart: the gradient of Σ_b u_b p_b in t is linear in u, and its gradient in u is ∂_t p.
        u = torch.ones_like(p, requires_grad=True)
        rate = _gradient(_gradient(u * p, t), u)
    return FokkerPlanck(rate.detach(), transport.detach(), diffusion.detach())


def probability_current(
    x: torch.Tensor,
    density: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    t: float,
    drift: Field,
    noise: Field | float = ROOT2,
) -> torch.Tensor:
    """j = b p − ½ ∂_i(σ_i² p) at the points x, (batch, d): what the Fokker–Planck equation ∂_t p = −∇·j moves.

    A stationary law has ∇·j = 0; with detailed balance j itself vanishes. Parameters and errors are those of
    `fokker_planck_terms`.

    Notes
    -----
    Claim LAN-3.
    """
    with torch.enable_grad():
        x = _points(x).detach().double().requires_grad_()
        t = torch.tensor(_instant(t), dtype=torch.float64)
        p = _density_at(density, x, t)
        spread = _value(noise, x, t, "noise") ** 2 * p[:, None]
        slope = [_gradient(spread[:, i], x)[:, i] for i in range(x.shape[1])]
        return (_value(drift, x, t, "drift") * p[:, None] - torch.stack(slope, 1) / 2).detach()


def _bernoulli(w: torch.Tensor) -> torch.Tensor:
    """w/(e^w − 1), 1 at w = 0, without cancellation or overflow."""
    small = w.abs() < 1e-5
    safe = torch.where(small, torch.ones_like(w), w)
    return torch.where(small, 1 - w / 2 + w**2 / 12, safe / torch.expm1(safe))


def fokker_planck_matrix(
    grid: torch.Tensor, drift: Field, noise: Field | float = ROOT2, t: float = 1.0
) -> torch.Tensor:
    """The Fokker–Planck operator in one dimension by finite volumes: ṗ = M p for the densities at the points of a grid.

    Between neighbours flows j = [B(−w) σ_i² p_i − B(w) σ_{i+1}² p_{i+1}]/(2h), B(w) = w/(e^w − 1), w = 2hb/σ² at the face: the flux
    that is constant when b/σ² is. Nothing flows through the ends. So the mass ∫p (by the trapezoidal rule on the grid) is conserved,
    a positive p stays positive for any spacing, and for b = −V', σ² = 2T the stationary law is e^{−V/T} up to the rule for the
    integral of V'.

    Parameters
    ----------
    grid : torch.Tensor, shape (n,), n ≥ 3
        Ascending; the spacing need not be uniform.
    drift : callable
        b(x, t), x of shape (n − 1, 1): the faces.
    noise : float or callable
        σ(x, t) > 0, Itô's reading.
    t : float
        The time at which both are taken.

    Returns
    -------
    torch.Tensor
        (n, n), float64, tridiagonal. Second order in the spacing.

    Raises
    ------
    ValueError
        If the grid does not ascend, a value is not finite or σ is not > 0.

    Notes
    -----
    Scharfetter, Gummel (1969), IEEE Trans. Electron Devices 16, 64; Chang, Cooper (1970), J. Comput. Phys. 6, 1.
    """
    grid = _ascending(grid, "grid", 3)
    spacing = grid.diff()
    faces = ((grid[1:] + grid[:-1]) / 2)[:, None]
    b = _value(drift, faces, t, "drift")[:, 0]
    at_faces = _value(noise, faces, t, "noise")[:, 0] ** 2
    at_points = _value(noise, grid[:, None], t, "noise")[:, 0] ** 2
    if not bool(b.isfinite().all()):
        raise ValueError("drift: got a value that is not finite; expected numbers on the whole grid")
    if not bool((at_faces > 0).all() & (at_points > 0).all() & at_points.isfinite().all()):
        raise ValueError("noise: got amplitudes that are not > 0; expected positive ones on the whole grid")
    w = 2 * spacing * b / at_faces
    right = _bernoulli(-w) * at_points[:-1] / (2 * spacing)  # j = right p_i − left p_{i+1}
    left = _bernoulli(w) * at_points[1:] / (2 * spacing)
    matrix = torch.diag(right, -1) + torch.diag(left, 1)
    matrix -= torch.diag(matrix.sum(0))  # columns sum to zero: what leaves a cell arrives at its neighbours
    return matrix / _widths(grid)[:, None]


def _widths(grid: torch.Tensor) -> torch.Tensor:
    """Of the cells about the points: the weights of the trapezoidal rule."""
    half = grid.diff() / 2
    zero = half.new_zeros(1)
    return torch.cat([half, zero]) + torch.cat([zero, half])


def _matrix(matrix) -> torch.Tensor:
    m = _finite(matrix, "matrix", "(n, n)", 2).double()
    if m.shape[0] != m.shape[1] or len(m) < 3:
        raise ValueError(f"matrix: got shape {tuple(m.shape)}; expected (n, n), n >= 3")
    return m


def evolve_density(p: torch.Tensor, matrix: torch.Tensor, times: torch.Tensor) -> torch.Tensor:
    """The densities e^{M(t_k − t_0)} p at the times t_k, exact in time.

    Parameters
    ----------
    p : torch.Tensor, shape (n,)
        At the time t_0.
    matrix : torch.Tensor, shape (n, n)
        M of `fokker_planck_matrix`.
    times : torch.Tensor, shape (k,)
        Ascending. Each distinct step costs one matrix exponential: equal steps cost one.

    Returns
    -------
    torch.Tensor
        (k, n), float64; the first is `p`.

    Raises
    ------
    ValueError
        If a shape does not fit, p has a negative value or the times do not ascend.
    """
    m = _matrix(matrix)
    densities = [_density(p, m)]
    moves: dict[str, torch.Tensor] = {}
    for step in _ascending(times, "times").diff().tolist():
        key = f"{step:.9e}"  # steps of a uniform grid differ by rounding
        if key not in moves:
            moves[key] = torch.from_numpy(expm(step * m.numpy()))
        densities.append((moves[key] @ densities[-1]).clamp(min=0))  # rounding may leave −10⁻¹⁷
    return torch.stack(densities)


def stationary_density(matrix: torch.Tensor, grid: torch.Tensor) -> torch.Tensor:
    """The density that a Fokker–Planck matrix leaves at rest, normalised on its grid: no flux between any two cells.

    Parameters
    ----------
    matrix : torch.Tensor, shape (n, n)
        Of `fokker_planck_matrix`.
    grid : torch.Tensor, shape (n,)
        The one that it was made for.

    Returns
    -------
    torch.Tensor
        (n,), float64.

    Raises
    ------
    ValueError
        If a shape does not fit.
    """
    grid, m = _ascending(grid, "grid", 3), _matrix(matrix)
    if len(m) != len(grid):
        raise ValueError(f"grid: got {len(grid)} points; expected {len(m)}, the size of the matrix")
    width = _widths(grid)
    ratios = (width[1:] * m.diagonal(-1)).log() - (width[:-1] * m.diagonal(1)).log()
    return _normalised(torch.cat([ratios.new_zeros(1), ratios.cumsum(0)]), grid)


def _normalised(log_p: torch.Tensor, grid: torch.Tensor) -> torch.Tensor:
    return (log_p - (log_p + _widths(grid).log()).logsumexp(0)).exp()


def gibbs_density(
    potential: Callable[[torch.Tensor], torch.Tensor], grid: torch.Tensor, temperature: float = 1.0
) -> torch.Tensor:
    """e^{−V/T}/Z on a grid, (n,), float64, normalised by the trapezoidal rule: where dx = −V' dt + √(2T) dW comes to rest.

    Raises
    ------
    ValueError
        If the grid does not ascend, V is not finite on it or T ≤ 0.

    Notes
    -----
    Claims LAN-3, LAN-4.
    """
    grid, temperature = _ascending(grid, "grid"), _number(temperature, "temperature", 0, strict=True)
    v = potential(grid)
    if v.shape != grid.shape or not bool(v.isfinite().all()):
        raise ValueError(
            f"potential: got {_got(v)}; expected a finite value at each of the {len(grid)} points"
        )
    return _normalised(-v / temperature, grid)


# ------------------------------------------------------------------------------------------------- how long it takes


def spectral_gap(matrix: torch.Tensor) -> float:
    """The slowest rate of decay to the stationary law: minus the second eigenvalue of a Fokker–Planck matrix.

    Parameters
    ----------
    matrix : torch.Tensor, shape (n, n)
        Of `fokker_planck_matrix`: tridiagonal with positive off-diagonals, hence similar to a symmetric matrix.

    Returns
    -------
    float
        The gap; p_t forgets its start like e^{−gap t}. Rounding is about 10⁻¹⁶ of the largest rate, 2σ²/spacing².

    Raises
    ------
    ValueError
        If the matrix is not of that form.

    Notes
    -----
    Claims RGR-6, RGR-7 and PRO-02. For dx = −V' dt + √2 dW it is the gap of the Schrödinger operator −∂² + V'²/4 − V''/2.
    """
    m = _matrix(matrix)
    products = m.diagonal(1) * m.diagonal(-1)
    rest = m - m.diagonal().diag() - m.diagonal(1).diag(1) - m.diagonal(-1).diag(-1)
    if bool((products <= 0).any() | (rest != 0).any()):
        raise ValueError("matrix: got one that is not tridiagonal with positive off-diagonals")
    top = eigvalsh_tridiagonal(
        m.diagonal().numpy(), products.sqrt().numpy(), select="i", select_range=(len(m) - 2, len(m) - 1)
    )
    return float(top[1] - top[0])


def kramers_rate(
    potential: Callable[[torch.Tensor], torch.Tensor],
    minimum: float,
    barrier: float,
    temperature: float = 1.0,
) -> float:
    """Kramers' rate of escape over a barrier, √(V''(a) |V''(b)|)/(2π) e^{−(V(b) − V(a))/T}, for dx = −V' dt + √(2T) dW.

    The gap of a symmetric double well is the sum of the rates of both directions, twice this.

    Parameters
    ----------
    potential : callable
        V of a float64 tensor, twice differentiable.
    minimum, barrier : float
        a and b: a minimum and the maximum next to it.
    temperature : float, > 0

    Raises
    ------
    ValueError
        If V'' is not positive at the minimum and negative at the barrier, or T ≤ 0.

    Notes
    -----
    Kramers (1940), Physica 7, 284; the limit T → 0 (claims RGR-7, PRO-02).
    """
    temperature = _number(temperature, "temperature", 0, strict=True)
    with torch.enable_grad():
        x = torch.tensor([minimum, barrier], dtype=torch.float64, requires_grad=True)
        v = potential(x)
        curvature = _gradient(_gradient(v, x), x).detach()
    if not (curvature[0] > 0 > curvature[1]):
        raise ValueError(
            f"minimum, barrier: got V'' = {curvature.tolist()} there; expected a minimum and a maximum of V"
        )
    height = float((v[1] - v[0]).detach()) / temperature
    return math.sqrt(float(-curvature[0] * curvature[1])) / (2 * math.pi) * math.exp(-height)


def start_cost(t: float | torch.Tensor, mean: torch.Tensor, covariance: torch.Tensor) -> StartCost:
    """KL(p_t ‖ N(0, I)) for Gaussian data N(m, C): what a backward process pays that starts from N(0, I) in place of p_t.

    With δ_i = e^{−2t}(λ_i − 1) over the eigenvalues of C it is ½ e^{−2t}|m|² + ½ Σ_i [δ_i − ln(1 + δ_i)]; for large t the second
    part is ¼ e^{−4t} |C − I|².

    Parameters
    ----------
    t : float or torch.Tensor, > 0
        Any shape.
    mean : torch.Tensor, shape (d,)
    covariance : torch.Tensor, shape (d, d)
        Symmetric, no negative eigenvalue.

    Returns
    -------
    StartCost
        ``mean`` and ``covariance``, of the shape of `t`, float64, and their ``total``.

    Raises
    ------
    ValueError
        If a shape does not fit, C is not symmetric and positive semidefinite, or t ≤ 0.

    Notes
    -----
    Claim REV-3.
    """
    m, c = _finite(mean, "mean", "(d,)", 1).double(), _finite(covariance, "covariance", "(d, d)", 2).double()
    if c.shape != (len(m), len(m)) or not torch.allclose(c, c.T, rtol=1e-10, atol=0):
        raise ValueError(
            f"covariance: got {_got(covariance)}; expected a symmetric matrix ({len(m)}, {len(m)})"
        )
    eigenvalues = torch.linalg.eigvalsh(c)
    if eigenvalues[0] < -1e-12 * eigenvalues[-1].abs():
        raise ValueError(f"covariance: got the eigenvalue {float(eigenvalues[0])}; expected none below zero")
    square = ou_moments(_time(t).double()).s ** 2
    excess = square[..., None] * (eigenvalues.clamp(min=0) - 1)
    return StartCost(square * (m**2).sum() / 2, _minus_log1p(excess).sum(-1) / 2)


def _minus_log1p(u: torch.Tensor) -> torch.Tensor:
    """u − ln(1 + u) without cancellation: its series where |u| is small."""
    series = sum((-1) ** n * u**n / n for n in range(2, 9))
    return torch.where(u.abs() < 0.01, series, u - torch.log1p(u))
