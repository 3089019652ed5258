"""The score of noised data beside what one writes first: cdist and softmax in torch, a loop over the batch in
numpy.

Ours is the whole public call: checks, centring and the choice of the precision included. The peers know the
data to be sound, and keep the type of the row: cdist in float32 beside ours in float32, in float64 beside
ours in float64; the loop is in float64, as numpy is, and timed on 16 rows of the batch (its cost is
proportional to them).
"""

from __future__ import annotations

import math

import numpy as np
import torch

from physgen.kernels.mixture_score import score

BATCH, LOOPED = 1024, 16


def loop(x: np.ndarray, data: np.ndarray, s: float, delta: float) -> np.ndarray:
    """Row by row: distances, weights, average."""
    out = np.empty_like(x)
    for b in range(len(x)):
        difference = x[b] - s * data
        exponents = -(difference**2).sum(1) / (2 * delta)
        p = np.exp(exponents - exponents.max())
        out[b] = -(p[:, None] * difference).sum(0) / (delta * p.sum())
    return out


def cdist(x: torch.Tensor, data: torch.Tensor, s: float, delta: float) -> torch.Tensor:
    """The matrix of distances and its softmax."""
    p = torch.softmax(-(torch.cdist(x, s * data) ** 2) / (2 * delta), 1)
    return (s * (p @ data) - x) / delta


def product_rate(interleaved, dtype: torch.dtype, generator: torch.Generator) -> float:
    """Float operations a second of a matrix product, measured here: the floors count in them."""
    a, b = (torch.randn(m, 1024, generator=generator).to(dtype) for m in (1024, 4096))
    return 2 * 1024 * 1024 * 4096 / interleaved({"product": lambda: a @ b.T}, 9)["product"]


def rows(interleaved, n: int, d: int, t: float, rates: dict, targets: dict, generator) -> list[dict]:
    s, delta = math.exp(-t), -math.expm1(-2 * t)
    data = torch.randn(n, d, generator=generator)
    x = s * data[:BATCH] + math.sqrt(delta) * torch.randn(BATCH, d, generator=generator)
    single, double = (x, data, s, delta), (x.double(), data.double(), s, delta)
    arrays = double[0][:LOOPED].numpy(), double[1].numpy(), s, delta
    seconds = interleaved(
        {
            ("ours", "float32"): lambda: score(*single, precision=torch.float32, backend="chunks"),
            ("ours", "float64"): lambda: score(*double, backend="chunks"),
            ("cdist + softmax", "float32"): lambda: cdist(*single),
            ("cdist + softmax", "float64"): lambda: cdist(*double),
            ("numpy loop", "float64"): lambda: loop(*arrays),
        },
        3,
    )
    seconds["numpy loop", "float64"] *= BATCH / LOOPED
    found = []
    for kind in ("float32", "float64"):
        for peer, of in (("cdist + softmax", kind), ("numpy loop", "float64")):
            found.append(
                {
                    "kernel": f"mixture score, {kind}",
                    "size": f"n={n} d={d} B={BATCH}, t={t}",
                    "ours": seconds["ours", kind],
                    "peer": f"{peer}, {of}",
                    "peer_seconds": seconds[peer, of],
                    "target": targets[peer] if kind == "float32" else None,
                    "floor": 4 * BATCH * n * d / rates[kind],
                    "floor_is": "two products of B × n × d at the rate of large ones, no exponentials",
                    "operations": 4 * BATCH * n * d,
                    "bytes": n * d * (4 if kind == "float32" else 8),
                }
            )
    return found


def measure(interleaved, seed: int) -> list[dict]:
    """The rows of the table; ``interleaved(calls, repeats)`` gives the median seconds of each call."""
    generator = torch.Generator().manual_seed(seed)
    kinds = {"float32": torch.float32, "float64": torch.float64}
    rates = {name: product_rate(interleaved, dtype, generator) for name, dtype in kinds.items()}
    # The times at which float32 is what the kernel chooses by itself, too.
    return [
        *rows(interleaved, 10**5, 16, 0.1, rates, {"cdist + softmax": 8, "numpy loop": 40}, generator),
        *rows(interleaved, 10**4, 784, 0.5, rates, {"cdist + softmax": 1.2, "numpy loop": 40}, generator),
    ]
