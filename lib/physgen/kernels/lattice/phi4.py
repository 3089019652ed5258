"""The scalar field φ⁴ on a periodic square lattice: its force, Langevin dynamics, and hybrid Monte Carlo.

    S(φ) = Σ_<ij> (β/2) (φ_i − φ_j)² + Σ_i (u φ_i⁴ + v φ_i²),   u = `quartic` ≥ 0, v = `quadratic`

The bonds <ij> join each site to the next of its row and of its column; where L1 or L2 is 2 two of them join
the same sites, and both count. The distribution is P(φ) ∝ e^(−S), the force

    F_i = −∂S/∂φ_i = β Σ_{j next to i} φ_j − φ_i (4β + 2v + 4u φ_i²).

With u = 1, v = −(1 + 2β) it is S = −β Σ_<ij> φ_i φ_j + Σ_i (φ_i⁴ − φ_i²).

Fields are (B, L1, L2), B independent lattices. All random numbers are standard normals or words of `philox`:
lattice b is the replica, site i = row · L2 + column, and step t draws for it the normal number i mod 4 of
stream 1 + ⌊i/4⌋; stream 0, word 1 of step t decides whether `hmc` accepts its trajectory t. So lattice b at
step t is a function of (seed, b, t) and the field before it, and a run may be continued.

Versions differ by rounding alone: by a few units in the last place a step, and in float32 by the 10⁻⁶ (1 +
|z|) to which `philox` gives a normal z. `hmc` compares energies in float64, those of the fields as stored.
"""

from __future__ import annotations

import math
from functools import partial
from numbers import Real
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy import float64, uint32, uint64

from ..dispatch import kernel, numba_function, over_rows, triton_function
from ..philox import LOW, TILE, checked_count, checked_seed, normal, normals, philox, triton_pair, uniform

if TYPE_CHECKING:
    import triton.language as tl

__all__ = ["action", "force", "hmc", "langevin", "leapfrog"]

FLOATS = torch.float32, torch.float64


# ------------------------------------------------------------------------------------------------ definitions


def action(phi: torch.Tensor, beta: float, quadratic: float, quartic: float) -> torch.Tensor:
    """S(φ) = Σ_<ij> (β/2) (φ_i − φ_j)² + Σ_i (quartic φ_i⁴ + quadratic φ_i²) of each lattice, in float64.

    Parameters
    ----------
    phi
        The fields, (B, L1, L2) float32 or float64, L1 and L2 ≥ 2, periodic.
    beta
        β ≥ 0, the coupling of neighbours.
    quadratic, quartic
        The coefficients of φ² and φ⁴: quartic > 0, or quartic = 0 and quadratic ≥ 0.

    Returns
    -------
    torch.Tensor
        (B,) float64; differentiable.

    Raises
    ------
    ValueError
        If a shape, dtype or value does not fit, or a field is not finite.
    """
    return _action(_field("phi", phi), **_couplings(beta, quadratic, quartic))


def _action(phi: torch.Tensor, beta: float, quadratic: float, quartic: float) -> torch.Tensor:
    x = phi.double()
    bonds = (x - x.roll(-1, 1)).square() + (x - x.roll(-1, 2)).square()
    return (beta / 2 * bonds + quartic * x**4 + quadratic * x**2).sum((1, 2))


@kernel
def force(phi: torch.Tensor, beta: float, quadratic: float, quartic: float) -> torch.Tensor:
    """The force F = −∂S/∂φ: F_i = β Σ_{j next to i} φ_j − φ_i (4β + 2 quadratic + 4 quartic φ_i²).

    Parameters
    ----------
    phi, beta, quadratic, quartic
        As in `action`.

    Returns
    -------
    torch.Tensor
        The shape and dtype of `phi`. Not differentiable.

    Raises
    ------
    ValueError
        If a shape, dtype or value does not fit, or a field is not finite.
    """
    around = phi.roll(1, 1) + phi.roll(-1, 1) + phi.roll(1, 2) + phi.roll(-1, 2)
    return beta * around - phi * (4 * beta + 2 * quadratic + 4 * quartic * phi.square())


@kernel
def langevin(
    phi: torch.Tensor,
    beta: float,
    quadratic: float,
    quartic: float,
    step: float,
    steps: int,
    seed: int,
    first_step: int = 0,
) -> torch.Tensor:
    """Langevin dynamics by Euler's rule, all sites at once: φ ← φ + ε F(φ) + √(2ε) z, `steps` times.

    As ε → 0 the stationary law is P ∝ e^(−S); averages at a finite ε are off by O(ε). For quartic = 0 the
    variance of the Fourier mode of stiffness λ is exactly 1/(λ (1 − ελ/2)). Where ε (8β + 2 quadratic + 12
    quartic φ²) > 2 a field runs away, to NaN in the end: there is no test of acceptance.

    Parameters
    ----------
    phi, beta, quadratic, quartic
        As in `action`; `phi` is left as it is.
    step
        ε > 0, the time of a step.
    steps
        The number of steps, ≥ 0.
    seed
        The Philox key, in [0, 2⁶⁴): see `physgen.kernels.philox.key`.
    first_step
        The step that the first one counts as: a run in two parts, the second with ``first_step=steps`` of the
        first, is the run in one part.

    Returns
    -------
    torch.Tensor
        The fields after the steps, shape and dtype of `phi`. Not differentiable.

    Raises
    ------
    ValueError
        If a shape, dtype or value does not fit, or a field is not finite.

    Notes
    -----
    Parisi, Wu (1981), Sci. Sin. 24, 483. The fast versions take float32.
    """
    x = phi.clone()
    for t in range(first_step, first_step + steps):
        z = noise.definition(x, seed, t)
        x = x + step * force.definition(x, beta, quadratic, quartic) + math.sqrt(2 * step) * z
    return x


@kernel
def leapfrog(
    phi: torch.Tensor,
    momentum: torch.Tensor,
    beta: float,
    quadratic: float,
    quartic: float,
    step: float,
    steps: int,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Hamilton's equations of H = S(φ) + ½ Σ π², by leapfrog: half a kick, drifts and kicks in turn, half a kick.

    A kick is π ← π + ε F(φ), a drift φ ← φ + ε π. The map keeps volume, is its own inverse when π changes its
    sign before and after, and conserves H up to O(ε²) at a fixed time ε · steps.

    Parameters
    ----------
    phi, beta, quadratic, quartic
        As in `action`; `phi` is left as it is.
    momentum
        π, shape, dtype and device of `phi`; left as it is.
    step
        ε > 0.
    steps
        The number of drifts, ≥ 0; for 0 the arguments come back.

    Returns
    -------
    tuple of torch.Tensor
        φ and π at the end. Not differentiable.

    Raises
    ------
    ValueError
        If a shape, dtype or value does not fit, or a field is not finite.

    Notes
    -----
    Duane, Kennedy, Pendleton, Roweth (1987), Phys. Lett. B 195, 216.
    """
    push = partial(force.definition, beta=beta, quadratic=quadratic, quartic=quartic)
    x, p = phi.clone(), momentum.clone()
    for t in range(steps):
        p = p + (step if t else step / 2) * push(x)
        x = x + step * p
    return x, p + step / 2 * push(x) if steps else p


def hmc(
    phi: torch.Tensor,
    beta: float,
    quadratic: float,
    quartic: float,
    step: float,
    steps: int,
    trajectories: int,
    seed: int,
    first_step: int = 0,
    *,
    backend: str = "auto",
) -> tuple[torch.Tensor, torch.Tensor]:
    """Hybrid Monte Carlo: normal momenta, `leapfrog`, and the end accepted with probability min(1, e^(−ΔH)).

    Exact for P ∝ e^(−S) at any ε, apart from the rounding of the leapfrog (in float32 it is reversible to
    10⁻⁶ or so); ΔH is a difference of energies in float64. Trajectory t draws its momenta at step t; it is
    accepted iff ln u < −ΔH with u from word 1 of stream 0 of that step, so never where ΔH is NaN.

    Parameters
    ----------
    phi, beta, quadratic, quartic
        As in `action`; `phi` is left as it is.
    step, steps
        Size (> 0) and number (≥ 1) of the steps of a trajectory, as in `leapfrog`.
    trajectories
        The number of trajectories, ≥ 1.
    seed
        The Philox key, in [0, 2⁶⁴): see `physgen.kernels.philox.key`.
    first_step
        The step that the first trajectory counts as: a run in two parts, the second with
        ``first_step=trajectories`` of the first, is the run in one part.
    backend
        Of the kernels inside: see `physgen.kernels.dispatch`.

    Returns
    -------
    tuple of torch.Tensor
        The fields at the end, shape and dtype of `phi`, and the share of trajectories accepted in each
        lattice, (B,) float64. Not differentiable.

    Raises
    ------
    ValueError
        If a shape, dtype or value does not fit, or a field is not finite.

    Notes
    -----
    Duane, Kennedy, Pendleton, Roweth (1987), Phys. Lett. B 195, 216.
    """
    x = _field("phi", phi).detach()
    couplings, step = _couplings(beta, quadratic, quartic), _positive("step", step)
    steps, trajectories = checked_count("steps", steps, 1), checked_count("trajectories", trajectories, 1)
    seed, first = checked_seed(seed), checked_count("first_step", first_step)
    replicas, accepted = torch.arange(len(x), device=x.device), x.new_zeros(len(x), dtype=torch.float64)
    energy = partial(hamiltonian, **couplings, backend="torch" if backend == "torch" else "auto")
    times = torch.arange(first, first + trajectories, device=x.device)[:, None]
    # (trajectories, B), all at once; the words are the same on every backend.
    allowed = uniform(philox(seed, times & LOW, times >> 32, replicas, 0)[1]).log()
    for t, most in enumerate(allowed, first):
        start = noise(x, seed, t, backend=backend)
        y, end = leapfrog(x, start, **couplings, step=step, steps=steps, backend=backend)
        accept = most < energy(x, start) - energy(y, end)
        x, accepted = torch.where(accept[:, None, None], y, x), accepted + accept
    return x, accepted / trajectories


@kernel
def hamiltonian(
    phi: torch.Tensor, momentum: torch.Tensor, beta: float, quadratic: float, quartic: float
) -> torch.Tensor:
    """H = S(φ) + ½ Σ_i π_i² of each lattice, (B,) float64; no check of the arguments, NaN and all."""
    return _action(phi, beta, quadratic, quartic) + momentum.double().square().sum((1, 2)) / 2


@kernel
def noise(phi: torch.Tensor, seed: int, step: int) -> torch.Tensor:
    """The normal numbers of all sites at a step, in the shape and dtype of `phi`; no check of the arguments."""
    sites, replicas = phi[0].numel() if len(phi) else 0, torch.arange(len(phi), device=phi.device)[:, None]
    streams = torch.arange(1, 1 + (sites + 3) // 4, device=phi.device)
    z = normal(philox.definition(seed, step & LOW, step >> 32, replicas, streams))
    return z.permute(1, 2, 0).flatten(1)[:, :sites].reshape(phi.shape).to(phi.dtype)


# ----------------------------------------------------------------------------------------------------- inputs


def _number(name: str, value, expected: str = "a finite number") -> float:
    if not isinstance(value, Real) or isinstance(value, bool) or not math.isfinite(value):
        raise ValueError(f"{name}: got {value!r}; expected {expected}")
    return float(value)


def _positive(name: str, value) -> float:
    if not (number := _number(name, value, "a finite number > 0")) > 0:
        raise ValueError(f"{name}: got {value!r}; expected a finite number > 0")
    return number


def _couplings(beta, quadratic, quartic) -> dict:
    names = {"beta": beta, "quadratic": quadratic, "quartic": quartic}
    found = {name: _number(name, value) for name, value in names.items()}
    for name in ("beta", "quartic"):
        if found[name] < 0:
            raise ValueError(f"{name}: got {names[name]!r}; expected a number >= 0")
    if found["quartic"] == 0 and found["quadratic"] < 0:
        raise ValueError(f"quadratic: got {quadratic!r}; expected a number >= 0 where quartic is 0")
    return found


def _field(name: str, value, like: torch.Tensor | None = None) -> torch.Tensor:
    """The tensor, contiguous, if it is a batch of finite fields (of the kind of `like`)."""
    if not isinstance(value, torch.Tensor) or value.dtype not in FLOATS:
        came = value.dtype if isinstance(value, torch.Tensor) else type(value).__name__
        raise ValueError(f"{name}: got {came}; expected a float32 or float64 tensor of shape (B, L1, L2)")
    if value.ndim != 3 or min(value.shape[1:]) < 2:
        raise ValueError(f"{name}: got shape {tuple(value.shape)}; expected (B, L1, L2) with L1, L2 >= 2")
    if like is not None and (value.shape, value.dtype, value.device) != (like.shape, like.dtype, like.device):
        raise ValueError(
            f"{name}: got {value.dtype} {tuple(value.shape)} on {value.device}; expected {like.dtype}"
            f" {tuple(like.shape)} on {like.device}, as phi"
        )
    # A finite sum, the fast question, has finite terms; that of finite terms may overflow.
    if not bool(value.detach().sum().isfinite()) and not bool(value.isfinite().all()):
        raise ValueError(f"{name}: got NaN or infinity; expected finite values")
    return value.contiguous()


@force.inputs
def _force_inputs(phi, **couplings) -> dict:
    return {"phi": _field("phi", phi).detach()} | _couplings(**couplings)


@langevin.inputs
def _langevin_inputs(phi, beta, quadratic, quartic, step, steps, seed, first_step) -> dict:
    known = _force_inputs(phi, beta=beta, quadratic=quadratic, quartic=quartic)
    counts = {"steps": checked_count("steps", steps), "first_step": checked_count("first_step", first_step)}
    return known | {"step": _positive("step", step), "seed": checked_seed(seed)} | counts


@leapfrog.inputs
def _leapfrog_inputs(phi, momentum, beta, quadratic, quartic, step, steps) -> dict:
    known = _force_inputs(phi, beta=beta, quadratic=quadratic, quartic=quartic)
    known["momentum"] = _field("momentum", momentum, known["phi"]).detach()
    return known | {"step": _positive("step", step), "steps": checked_count("steps", steps)}


def _float32_only(phi, **rest) -> bool | str:
    return phi.dtype == torch.float32 or f"fast normals are float32, and phi is {phi.dtype}"


# ------------------------------------------------------------------------------------------------- CPU, numba
#
# Threads share out lattices; each lattice goes through all its steps on one. A step passes once over the field,
# row by row: Langevin keeps the old values of the row above, and leapfrog drifts a row just before the kick of the
# one above it, the first to need it.


@numba_function(inline="always")
def add_pull(out, here, up, down, left, right, size, law):
    """out += size F for sites side by side; law = β, 4β + 2 quadratic, 4 quartic in the dtype of the fields."""
    beta, mass, cube = law
    for j in range(len(here)):
        x = here[j]
        around = (up[j] + down[j]) + (left[j] + right[j])
        out[j] += size * (beta * around - x * (mass + cube * (x * x)))


@numba_function(fastmath={"contract", "reassoc"})
def add_force(out, up, row, down, size, law):
    """out += size F of one row, its two ends apart."""
    n = len(row)
    inner, last = slice(1, n - 1), n - 1
    add_pull(out[inner], row[inner], up[inner], down[inner], row[: n - 2], row[2:], size, law)
    add_pull(out[:1], row[:1], up[:1], down[:1], row[last:], row[1:2], size, law)
    add_pull(out[last:], row[last:], up[last:], down[last:], row[last - 1 : last], row[:1], size, law)


@numba_function
def _forces(phi, out, law, start, stop):  # (B, L1, L2) both, the output zero
    rows = phi.shape[1]
    for b in range(start, stop):
        for i in range(rows):
            up, down = phi[b, i - 1 if i else rows - 1], phi[b, i + 1 if i < rows - 1 else 0]
            add_force(out[b, i], up, phi[b, i], down, phi.dtype.type(1), law)


@numba_function
def _noises(out, key, step, start, stop):  # (B, sites)
    scratch, t = np.empty((10, TILE), np.uint32), uint64(step)
    for b in range(start, stop):
        normals(out[b], scratch, key[0], key[1], uint32(t), uint32(t >> uint64(32)), b, 0)


@numba_function(fastmath={"contract", "reassoc"})
def _move_row(row, z, above, here, down, step, spread, law):
    """row += √(2ε) z + ε F; above, the old row above with its ends continued, is given, and here is kept so."""
    n = len(row)
    kept = here[1 : n + 1]
    for j in range(n):
        x = row[j]
        kept[j] = x
        row[j] = x + spread * z[j]
    here[0], here[n + 1] = here[n], here[1]
    add_pull(row, kept, above[1 : n + 1], down, here[:n], here[2:], step, law)


@numba_function
def _move_langevin(phi, law, step, spread, key, first_step, steps, start, stop):
    m, n = phi.shape[1], phi.shape[2]
    # Whole tiles of normals: those of a group of rows at once, from a multiple of 4 on.
    group = min(m, max(1, 4 * TILE // n))
    z, scratch = np.empty(group * n + 3, np.float32), np.empty((10, TILE), np.uint32)
    top, above, here = np.empty(n, np.float32), np.empty(n + 2, np.float32), np.empty(n + 2, np.float32)
    for b in range(start, stop):
        for u in range(steps):
            t = uint64(first_step + u)
            c0, c1 = uint32(t), uint32(t >> uint64(32))
            top[:], above[1 : n + 1] = phi[b, 0], phi[b, m - 1]
            for i in range(0, m, group):
                first, end = i * n // 4 * 4, min(m, i + group)
                normals(z[: end * n - first], scratch, key[0], key[1], c0, c1, b, first)
                for k in range(i, end):
                    at, down = k * n - first, phi[b, k + 1] if k < m - 1 else top
                    _move_row(phi[b, k], z[at : at + n], above, here, down, step, spread, law)
                    above, here = here, above


@numba_function(fastmath={"contract"})
def _drift(row, momentum, step):
    for j in range(len(row)):
        row[j] += step * momentum[j]


@numba_function
def _move_leapfrog(phi, momentum, law, half, step, steps, start, stop):
    m = phi.shape[1]
    for b in range(start, stop):
        x, p = phi[b], momentum[b]
        for i in range(m):
            add_force(p[i], x[i - 1 if i else m - 1], x[i], x[i + 1 if i < m - 1 else 0], half, law)
        for u in range(steps):
            kick = step if u < steps - 1 else half
            _drift(x[m - 1], p[m - 1], step)
            _drift(x[0], p[0], step)
            for i in range(m):
                if i < m - 2:
                    _drift(x[i + 1], p[i + 1], step)
                add_force(p[i], x[i - 1 if i else m - 1], x[i], x[i + 1 if i < m - 1 else 0], kick, law)


LANES = 32  # small lattices that move side by side: a row of theirs is too short for a vector unit


@numba_function(fastmath={"contract", "reassoc"})
def _kick_side_by_side(p, x, size, law):  # (L1, L2, LANES)
    m, n = x.shape[0], x.shape[1]
    for i in range(m):
        up, here, down = x[i - 1 if i else m - 1], x[i], x[i + 1 if i < m - 1 else 0]
        for j in range(n):
            left, right = here[j - 1 if j else n - 1], here[j + 1 if j < n - 1 else 0]
            add_pull(p[i, j], here[j], up[j], down[j], left, right, size, law)


@numba_function
def _move_side_by_side(phi, momentum, law, half, step, steps, start, stop):
    m, n = phi.shape[1], phi.shape[2]
    x, p = np.zeros((m, n, LANES), phi.dtype), np.zeros((m, n, LANES), phi.dtype)
    x_sites, p_sites = x.reshape(m * n, LANES), p.reshape(m * n, LANES)
    for first in range(start, stop, LANES):
        count = min(LANES, stop - first)
        for b in range(count):
            x[:, :, b], p[:, :, b] = phi[first + b], momentum[first + b]
        _kick_side_by_side(p, x, half, law)
        for u in range(steps):
            for i in range(m * n):
                _drift(x_sites[i], p_sites[i], step)
            _kick_side_by_side(p, x, step if u < steps - 1 else half, law)
        for b in range(count):
            phi[first + b], momentum[first + b] = x[:, :, b], p[:, :, b]


@numba_function(fastmath={"contract", "reassoc"})
def _row_energy(row, down, momentum, beta, quadratic, quartic):
    n, total = len(row), 0.0
    next_one = row[1:]
    for j in range(n - 1):
        x, p = float64(row[j]), float64(momentum[j])
        dx, dy = float64(next_one[j]) - x, float64(down[j]) - x
        total += 0.5 * (beta * (dx * dx + dy * dy) + p * p) + x * x * (quadratic + quartic * (x * x))
    x, p = float64(row[n - 1]), float64(momentum[n - 1])
    dx, dy = float64(row[0]) - x, float64(down[n - 1]) - x
    return total + 0.5 * (beta * (dx * dx + dy * dy) + p * p) + x * x * (quadratic + quartic * (x * x))


@numba_function
def _energies(phi, momentum, beta, quadratic, quartic, out, start, stop):
    m = phi.shape[1]
    for b in range(start, stop):
        total = 0.0
        for i in range(m):
            down = phi[b, i + 1 if i < m - 1 else 0]
            total += _row_energy(phi[b, i], down, momentum[b, i], beta, quadratic, quartic)
        out[b] = total


def _law(beta: float, quadratic: float, quartic: float) -> tuple[float, float, float]:
    return beta, 4 * beta + 2 * quadratic, 4 * quartic


def _typed(phi: torch.Tensor, *numbers: float) -> tuple:
    """The numbers in the dtype of the field, for numba."""
    kind = np.float32 if phi.dtype == torch.float32 else np.float64
    return tuple(map(kind, numbers))


@force.backend("numba", needs=("numba",))
def _force_numba(phi, **couplings):
    out = torch.zeros_like(phi)
    run = partial(_forces, phi.numpy(), out.numpy(), _typed(phi, *_law(**couplings)))
    over_rows(run, len(phi), phi.numel())
    return out


@noise.backend("numba", needs=("numba",), when=_float32_only)
def _noise_numba(phi, seed, step):
    out = torch.empty_like(phi)
    run = partial(_noises, out.flatten(1).numpy(), (seed & LOW, seed >> 32), step)
    over_rows(run, len(phi), phi.numel())
    return out


@langevin.backend("numba", needs=("numba",), when=_float32_only)
def _langevin_numba(phi, step, steps, seed, first_step, **couplings):
    out, key = phi.clone(), (seed & LOW, seed >> 32)
    law, sizes = _typed(phi, *_law(**couplings)), _typed(phi, step, math.sqrt(2 * step))
    run = partial(_move_langevin, out.numpy(), law, *sizes, key, first_step, steps)
    over_rows(run, len(phi), 2 * phi.numel() * steps)
    return out


@leapfrog.backend("numba", needs=("numba",))
def _leapfrog_numba(phi, momentum, step, steps, **couplings):
    x, p = phi.clone(), momentum.clone()
    law, (half, size) = _typed(phi, *_law(**couplings)), _typed(phi, step / 2, step)
    if steps:
        # By the shape alone, so that a lattice moves alike in every batch.
        small = phi.shape[2] < LANES and phi.shape[1] * phi.shape[2] <= 1024
        move = _move_side_by_side if small else _move_leapfrog
        run = partial(move, x.numpy(), p.numpy(), law, half, size, steps)
        over_rows(run, len(phi), phi.numel() * steps)
    return x, p


@hamiltonian.backend("numba", needs=("numba",))
def _hamiltonian_numba(phi, momentum, **couplings):
    out = torch.empty(len(phi), dtype=torch.float64)
    run = partial(_energies, phi.numpy(), momentum.numpy(), *couplings.values(), out.numpy())
    over_rows(run, len(phi), phi.numel())
    return out


# ------------------------------------------------------------------------------------------------ GPU, Triton
#
# A program moves a block of consecutive sites of one lattice, from one field in memory to another: whole fours
# of sites, so that each has its four normals at hand, in whatever row they lie.


@triton_function
def triton_noise(seed, low, high, lattice, block, QUADS: tl.constexpr):
    """The normals of 4 QUADS sites, those of the block; low and high: the words of the step."""
    quad = block * QUADS + tl.arange(0, QUADS)
    zero = (quad * 0).to(tl.uint32)
    c0, c1 = zero + tl.to_tensor(low).to(tl.uint32), zero + tl.to_tensor(high).to(tl.uint32)
    c2 = zero + lattice.to(tl.uint32)
    w0, w1, w2, w3 = tl.philox(seed, c0, c1, c2, (quad + 1).to(tl.uint32))
    z0, z1 = triton_pair(w0, w1)
    z2, z3 = triton_pair(w2, w3)
    return tl.join(tl.join(z0, z2), tl.join(z1, z3)).reshape(4 * QUADS)


@triton_function
def triton_around(phi, i, m, n):
    """The sum over the four neighbours of the sites i < m n of a lattice."""
    row, column, inside = i // n, i % n, i < m * n
    up, down = tl.where(row == 0, i + (m - 1) * n, i - n), tl.where(row == m - 1, column, i + n)
    left, right = tl.where(column == 0, i + n - 1, i - 1), tl.where(column == n - 1, i - n + 1, i + 1)
    rows = tl.load(phi + up, mask=inside, other=0.0) + tl.load(phi + down, mask=inside, other=0.0)
    return rows + tl.load(phi + left, mask=inside, other=0.0) + tl.load(phi + right, mask=inside, other=0.0)


@triton_function
def triton_force(x, around, law):
    beta, mass, cube = tl.load(law), tl.load(law + 1), tl.load(law + 2)
    return beta * around - x * (mass + cube * x * x)


@triton_function
def triton_forces(phi, out, law, m, n, BLOCK: tl.constexpr):
    at = tl.program_id(0).to(tl.int64) * m * n
    i = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(phi + at + i, mask=i < m * n, other=0.0)
    tl.store(out + at + i, triton_force(x, triton_around(phi + at, i, m, n), law), mask=i < m * n)


@triton_function
def triton_noises(out, seed, low, high, sites, QUADS: tl.constexpr):
    b = tl.program_id(0).to(tl.int64)
    i = tl.program_id(1) * 4 * QUADS + tl.arange(0, 4 * QUADS)
    z = triton_noise(seed, low, high, b, tl.program_id(1), QUADS)
    tl.store(out + b * sites + i, z, mask=i < sites)


@triton_function
def triton_langevin(phi, out, law, seed, low, high, m, n, QUADS: tl.constexpr):
    """One step, from phi to out; law[3:] = ε, √(2ε)."""
    b = tl.program_id(0).to(tl.int64)
    at, i = b * m * n, tl.program_id(1) * 4 * QUADS + tl.arange(0, 4 * QUADS)
    x = tl.load(phi + at + i, mask=i < m * n, other=0.0)
    pull = triton_force(x, triton_around(phi + at, i, m, n), law)
    z = triton_noise(seed, low, high, b, tl.program_id(1), QUADS)
    tl.store(out + at + i, x + tl.load(law + 3) * pull + tl.load(law + 4) * z, mask=i < m * n)


@triton_function
def triton_leapfrog(phi, momentum, out, end, law, m, n, BLOCK: tl.constexpr):
    """A drift of law[3] and a kick of law[4]; the neighbours drift here too, which saves a pass."""
    at = tl.program_id(0).to(tl.int64) * m * n
    i = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    drift = tl.load(law + 3)
    p = tl.load(momentum + at + i, mask=i < m * n, other=0.0)
    x = tl.load(phi + at + i, mask=i < m * n, other=0.0) + drift * p
    around = triton_around(phi + at, i, m, n) + drift * triton_around(momentum + at, i, m, n)
    tl.store(out + at + i, x, mask=i < m * n)
    tl.store(end + at + i, p + tl.load(law + 4) * triton_force(x, around, law), mask=i < m * n)


QUADS = 64  # fours of sites a program


def _grid(phi: torch.Tensor) -> tuple[int, int]:
    return len(phi), -(-phi[0].numel() // (4 * QUADS))


def _some_lattices(phi, **rest) -> bool | str:
    return len(phi) > 0 or "there are no lattices"


def _some_float32(phi, **rest) -> bool | str:
    able = _some_lattices(phi)
    return _float32_only(phi) if able is True else able


@force.backend("triton", needs=("triton",), when=_some_lattices)
def _force_triton(phi, **couplings):
    out, law = torch.empty_like(phi), phi.new_tensor(_law(**couplings))
    triton_forces[_grid(phi)](phi, out, law, *phi.shape[1:], BLOCK=4 * QUADS)
    return out


@noise.backend("triton", needs=("triton",), when=_some_float32)
def _noise_triton(phi, seed, step):
    out = torch.empty_like(phi)
    triton_noises[_grid(phi)](out, seed, step & LOW, step >> 32, phi[0].numel(), QUADS=QUADS)
    return out


@langevin.backend("triton", needs=("triton",), when=_some_float32)
def _langevin_triton(phi, step, steps, seed, first_step, **couplings):
    x, y, law = (
        phi.clone(),
        torch.empty_like(phi),
        phi.new_tensor([*_law(**couplings), step, math.sqrt(2 * step)]),
    )
    for t in range(first_step, first_step + steps):
        triton_langevin[_grid(phi)](x, y, law, seed, t & LOW, t >> 32, *phi.shape[1:], QUADS=QUADS)
        x, y = y, x
    return x


@leapfrog.backend("triton", needs=("triton",), when=_some_lattices)
def _leapfrog_triton(phi, momentum, step, steps, **couplings):
    now, after = (phi.clone(), momentum.clone()), (torch.empty_like(phi), torch.empty_like(phi))
    moves = [(0, step / 2), *[(step, step)] * (steps - 1), (step, step / 2)] if steps else []
    laws = {move: phi.new_tensor([*_law(**couplings), *move]) for move in moves}
    for move in moves:
        triton_leapfrog[_grid(phi)](*now, *after, laws[move], *phi.shape[1:], BLOCK=4 * QUADS)
        now, after = after, now
    return now
