"""The reverse process: many trajectories over many steps, beside loops over steps in torch and in numpy.

The peers do no more than they must: independent spins as x ← A x + C tanh(D x + φ) + E z with numbers of the
step, the mixture by a matrix product, a softmax and a matrix product; a process of 10⁶ trajectories is in
their case 10⁶ wide in every operation. Ours is the whole public call, checks included. The floor is the normal
numbers alone, made tile by tile and not kept.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy import float32

from physgen.kernels.dispatch import numba_function
from physgen.kernels.reverse import draw_tile, gaussian_mixture, spins_in_fields

TILE = 256


@numba_function
def normals_alone(count):
    z, scratch = np.empty((4, TILE), float32), np.empty((6, TILE), np.uint32)
    for start in range(0, count // (4 * TILE)):
        draw_tile(z, scratch, (1, 2), 0, 1 + TILE * start, 1)


def grid(steps: int) -> torch.Tensor:
    return torch.linspace(4, 1e-3, steps + 1, dtype=torch.float64)


def numbers(times: torch.Tensor) -> list[tuple[float, ...]]:
    """A, C, E, s/Γ and s²/2Γ of each step, for the reverse diffusion to data without width."""
    found = []
    for t, after in zip(times[:-1].tolist(), times[1:].tolist(), strict=True):
        s, gamma, delta = math.exp(-t), -math.expm1(-2 * t), t - after
        found.append(
            (
                1 + delta * (1 - 2 / gamma),
                2 * delta * s / gamma,
                math.sqrt(2 * delta),
                s / gamma,
                s * s / 2 / gamma,
            )
        )
    return found


def spins_in_torch(x, phi: float, steps) -> torch.Tensor:
    for kept, pull, noise, slope, _ in steps:
        x = kept * x + pull * torch.tanh(slope * x + phi) + noise * torch.randn_like(x)
    return x


def spins_in_numpy(x, phi: float, steps, rng) -> np.ndarray:
    for kept, pull, noise, slope, _ in steps:
        x = kept * x + pull * np.tanh(slope * x + phi) + noise * rng.standard_normal(x.shape)
    return x


def mixture_in_torch(x, means, steps) -> torch.Tensor:
    squares = means.square().sum(1)
    for kept, pull, noise, slope, half in steps:
        p = torch.softmax(torch.addmm(squares, x, means.T, beta=-half, alpha=slope), 1)
        x = kept * x + pull * (p @ means) + noise * torch.randn_like(x)
    return x


def mixture_in_numpy(x, means, steps, rng) -> np.ndarray:
    squares = (means**2).sum(1)
    for kept, pull, noise, slope, half in steps:
        exponents = slope * (x @ means.T) - half * squares
        p = np.exp(exponents - exponents.max(1, keepdims=True))
        p /= p.sum(1, keepdims=True)
        x = kept * x + pull * (p @ means) + noise * rng.standard_normal(x.shape)
    return x


def compared(
    interleaved, kernel: str, size: str, calls: dict, targets: tuple, normals: int, each: float, moved: int
):
    """Rows of ours beside both peers; each: operations beside a normal number's 45, moved: bytes."""
    calls["floor"] = lambda: normals_alone(normals)
    seconds = interleaved(calls, 5)
    return [
        {
            "kernel": kernel,
            "size": size,
            "ours": seconds["ours"],
            "peer": peer,
            "peer_seconds": seconds[peer],
            "target": target,
            "floor": seconds["floor"],
            "floor_is": "the normal numbers alone, made tile by tile and not kept",
            "operations": (45 + each) * normals,
            "bytes": moved,
        }
        for peer, target in zip(("torch float32", "numpy float64"), targets, strict=True)
    ]


def measure(interleaved, seed: int) -> list[dict]:
    """The rows of the table; ``interleaved(calls, repeats)`` gives the median seconds of each call."""
    generator, rng = torch.Generator().manual_seed(seed), np.random.default_rng(seed)
    count, n = 10**6, 50
    x, phi, times = torch.randn((count, 1), generator=generator), torch.tensor([0.4]).double(), grid(n)
    steps, wide = numbers(times), x.double().numpy()
    rows = compared(
        interleaved,
        "reverse process, independent spins",
        f"10⁶ × {n} steps",
        {
            "ours": lambda: spins_in_fields(x, phi, times, seed, backend="numba"),
            "torch float32": lambda: spins_in_torch(x, 0.4, steps),
            "numpy float64": lambda: spins_in_numpy(wide, 0.4, steps, rng),
        },
        (6, 20),
        count * n,
        15,  # a tanh and the step
        8 * count,
    )
    few, pairs = 10, torch.randn((count, 2), generator=generator)
    means, short = 2 * torch.randn((8, 2), generator=generator), grid(few)
    coarse, wide_pairs, wide_means = numbers(short), pairs.double().numpy(), means.double().numpy()
    return rows + compared(
        interleaved,
        "reverse process, 8 points in the plane",
        f"10⁶ × {few} steps",
        {
            "ours": lambda: gaussian_mixture(pairs, means, short, seed, backend="numba"),
            "torch float32": lambda: mixture_in_torch(pairs, means, coarse),
            "numpy float64": lambda: mixture_in_numpy(wide_pairs, wide_means, coarse, rng),
        },
        (None, None),
        2 * count * few,
        80,  # half of 8 exponentials, 8 products of each kind, and the step
        16 * count,
    )
