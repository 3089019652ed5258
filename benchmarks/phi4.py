"""The field φ⁴: ten steps of Langevin dynamics and of leapfrog beside numpy and torch.

Ours is the whole public call, its checks, random numbers and new memory included. The peers write the force
with rolls, in the fewest operations; torch in place reuses its memory, and "φ**3" is numpy as the formula is
mostly typed, where the power alone takes most of the time. The floors count what no version with this random
stream can avoid: the normal numbers, or one reading and writing of field and momentum a step.
"""

from __future__ import annotations

import math

import numpy as np
import torch

from physgen.kernels.lattice.phi4 import langevin, leapfrog
from physgen.kernels.philox import TILE, normals

BETA, QUADRATIC, QUARTIC = 0.68, -2.36, 1.0
MASS, CUBE, STEP, STEPS = 4 * BETA + 2 * QUADRATIC, 4 * QUARTIC, 0.01, 10


def numpy_langevin(x: np.ndarray, generator: np.random.Generator, power: bool) -> np.ndarray:
    for _ in range(STEPS):
        around = np.roll(x, 1, 0) + np.roll(x, -1, 0) + np.roll(x, 1, 1) + np.roll(x, -1, 1)
        force = BETA * around - (MASS * x + CUBE * x**3 if power else x * (MASS + CUBE * x * x))
        x = x + STEP * force + math.sqrt(2 * STEP) * generator.standard_normal(x.shape)
    return x


def torch_force(x: torch.Tensor) -> torch.Tensor:
    return BETA * (x.roll(1, 0) + x.roll(-1, 0) + x.roll(1, 1) + x.roll(-1, 1)) - x * (MASS + CUBE * x * x)


def torch_langevin(x: torch.Tensor) -> torch.Tensor:
    for _ in range(STEPS):
        x = x + STEP * torch_force(x) + math.sqrt(2 * STEP) * torch.randn_like(x)
    return x


def torch_langevin_in_place(x: torch.Tensor) -> torch.Tensor:
    x, force, z = x.clone(), torch.empty_like(x), torch.empty_like(x)
    for _ in range(STEPS):
        torch.mul(x, x, out=force).mul_(-CUBE / BETA).sub_(MASS / BETA).mul_(x)
        force.add_(x.roll(1, 0)).add_(x.roll(-1, 0)).add_(x.roll(1, 1)).add_(x.roll(-1, 1))
        x.add_(force, alpha=STEP * BETA).add_(z.normal_(), alpha=math.sqrt(2 * STEP))
    return x


def torch_leapfrog(x: torch.Tensor, p: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    p = p + STEP / 2 * torch_force(x)
    for t in range(STEPS):
        x = x + STEP * p
        p = p + (STEP if t < STEPS - 1 else STEP / 2) * torch_force(x)
    return x, p


def measure(interleaved, seed: int) -> list[dict]:
    """The rows of the table; ``interleaved(calls, repeats)`` gives the median seconds of each call."""
    side, generator = 512, torch.Generator().manual_seed(seed)
    x, p = (torch.randn((1, side, side), generator=generator) for _ in range(2))
    array, source, law = x[0].double().numpy(), np.random.default_rng(seed), (BETA, QUADRATIC, QUARTIC)
    copy = torch.empty_like(x), torch.empty_like(p)
    z, scratch = np.empty(side * side, np.float32), np.empty((10, TILE), np.uint32)

    def copies():
        for _ in range(STEPS):
            copy[0].copy_(x)
            copy[1].copy_(p)

    seconds = interleaved(
        {
            "langevin": lambda: langevin(x, *law, STEP, STEPS, 1, backend="numba"),
            "torch": lambda: torch_langevin(x[0]),
            "torch in place": lambda: torch_langevin_in_place(x[0]),
            "numpy float64": lambda: numpy_langevin(array, source, False),
            "numpy float64, φ**3": lambda: numpy_langevin(array, source, True),
            "normals": lambda: [normals(z, scratch, 1, 0, t, 0, 0, 0) for t in range(STEPS)],
            "leapfrog": lambda: leapfrog(x, p, *law, STEP, STEPS, backend="numba"),
            "torch leapfrog": lambda: torch_leapfrog(x[0], p[0]),
            "copies": copies,
        },
        9,
    )
    drawn, moved = "the normal numbers alone", "a copy of field and momentum a step"
    cases = [
        ("langevin", "torch", 4, "normals", drawn),
        ("langevin", "torch in place", None, "normals", drawn),
        ("langevin", "numpy float64, φ**3", 50, "normals", drawn),
        ("langevin", "numpy float64", None, "normals", drawn),
        ("leapfrog", "torch leapfrog", 3, "copies", moved),
    ]
    return [
        {
            "kernel": f"φ⁴, {ours}",
            "size": f"{side}×{side} float32, {STEPS} steps",
            "ours": seconds[ours],
            "peer": peer,
            "peer_seconds": seconds[peer],
            "target": target,
            "floor": seconds[floor],
            "floor_is": why,
            # Langevin: 12 for the force, 45 for a normal number. Leapfrog: force, kick and drift.
            "operations": (57 if ours == "langevin" else 16) * STEPS * side**2,
            "bytes": (8 if ours == "langevin" else 16) * STEPS * side**2,
        }
        for ours, peer, target, floor, why in cases
    ]
