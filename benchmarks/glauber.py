"""Spin dynamics: what a step costs beside a Python loop, torch over replicas and torch with the couplings as
a matrix.

The peers do no more than they must: the loop and torch draw their sites outside the clock, torch moves one
common site in all replicas (ours: one of its own in each), the couplings are formed outside the clock. Ours
is the whole public call, its checks and random numbers included.
"""

from __future__ import annotations

import numpy as np
import torch

from physgen.kernels.glauber import parallel_patterns, sequential, sequential_patterns


def signs(*shape: int, generator: torch.Generator) -> torch.Tensor:
    return (2 * torch.randint(2, shape, generator=generator) - 1).to(torch.int8)


def started(patterns: torch.Tensor, replicas: int, generator: torch.Generator) -> torch.Tensor:
    """Replicas that start at patterns with a fifth of the spins flipped."""
    flipped = torch.rand((replicas, patterns.shape[1]), generator=generator) < 0.2
    return patterns[torch.arange(replicas) % len(patterns)] * torch.where(flipped, -1, 1).to(torch.int8)


def python_loop(couplings: np.ndarray, spins: np.ndarray, sites: np.ndarray) -> np.ndarray:
    """Zero-temperature updates, replica by replica: one row of the couplings times the spins each."""
    s = spins.copy()
    for r in range(len(s)):
        for i in sites:
            h = couplings[i] @ s[r]
            if h != 0:
                s[r, i] = 1.0 if h > 0 else -1.0
    return s


def torch_over_replicas(patterns: torch.Tensor, spins: torch.Tensor, sites: list[int]) -> torch.Tensor:
    """Zero-temperature updates of one site in all replicas at once, the overlaps maintained."""
    s, k = spins.clone(), len(patterns)
    overlaps = patterns @ s
    for i in sites:
        h = patterns[:, i] @ overlaps - k * s[i]
        new = torch.where(h == 0, s[i], torch.sign(h))
        overlaps.addr_(patterns[:, i], new - s[i])
        s[i] = new
    return s


def product_rate(interleaved, generator: torch.Generator) -> float:
    """Float operations a second of a float32 matrix product, measured here: the floors count in it."""
    a, b = (torch.randn(shape, generator=generator) for shape in ((64, 1000), (1000, 10000)))
    return 2 * 64 * 1000 * 10000 / interleaved({"product": lambda: a @ b}, 9)["product"]


def one_by_one(interleaved, rate: float, generator: torch.Generator) -> list[dict]:
    n, k, replicas = 1000, 100, 100
    patterns = signs(k, n, generator=generator)
    spins, updates = started(patterns, replicas, generator), 10 * n
    floats, columns = patterns.float(), spins.float().T.contiguous()
    whole = (floats.T @ floats).long().fill_diagonal_(0)
    sites = torch.randint(n, (updates,), generator=generator)
    couplings, rows = whole.double().numpy() / n, spins.double().numpy()
    kw = {"updates": updates, "seed": 1, "backend": "numba"}
    seconds = interleaved(
        {
            "patterns": lambda: sequential_patterns(spins, patterns, 0.0, **kw),
            "couplings": lambda: sequential(spins, whole, None, 0.0, scale=float(n), **kw),
            "Python loop": lambda: python_loop(couplings, rows, sites.numpy()),
            "torch over replicas": lambda: torch_over_replicas(floats, columns, sites.tolist()),
        },
        5,
    )
    size, floor = f"N={n} K={k} R={replicas}, 10 sweeps at T=0", replicas * updates * 2 * k / rate
    why = "K multiply-adds an update, at the rate of a float32 product"
    return [
        {
            "kernel": f"sequential, {ours}",
            "size": size,
            "ours": seconds[ours],
            "peer": peer,
            "peer_seconds": seconds[peer],
            "target": target if ours == "patterns" else None,
            "floor": floor,
            "floor_is": why,
            "operations": replicas * updates * 2 * k,
            "bytes": replicas * updates * k,
        }
        for ours in ("patterns", "couplings")
        for peer, target in (("Python loop", 80), ("torch over replicas", 10))
    ]


def all_at_once(interleaved, rate: float, generator: torch.Generator) -> list[dict]:
    n, k, replicas, steps = 10000, 1000, 64, 10
    patterns = signs(k, n, generator=generator)
    spins = started(patterns, replicas, generator)
    floats, columns = patterns.float(), spins.float().T.contiguous()
    couplings = (floats.T @ floats).fill_diagonal_(0)

    def repeated(field):
        s = columns
        for _ in range(steps):
            h = field(s)
            s = torch.where(h == 0, s, torch.sign(h))
        return s

    seconds = interleaved(
        {
            "patterns": lambda: parallel_patterns(spins, patterns, 0.0, steps=steps, seed=1, backend="numba"),
            "torch J@S": lambda: repeated(lambda s: couplings @ s),
            "torch ξᵀ(ξS)": lambda: repeated(lambda s: (floats.T @ (floats @ s)).sub_(s, alpha=k)),
        },
        5,
    )
    size, floor = f"N={n} K={k} R={replicas}, {steps} steps at T=0", steps * 2 * replicas * k * n / rate
    why = "the second product, R × K × N, in float32; the first is a count of bits"
    return [
        {
            "kernel": "parallel, patterns",
            "size": size,
            "ours": seconds["patterns"],
            "peer": peer,
            "peer_seconds": seconds[peer],
            "target": target,
            "floor": floor,
            "floor_is": why,
            "operations": steps * 4 * replicas * k * n,
            "bytes": steps * k * n,
        }
        for peer, target in (("torch J@S", 5), ("torch ξᵀ(ξS)", None))
    ]


def measure(interleaved, seed: int) -> list[dict]:
    """The rows of the table; ``interleaved(calls, repeats)`` gives the median seconds of each call."""
    generator = torch.Generator().manual_seed(seed)
    rate = product_rate(interleaved, generator)
    return one_by_one(interleaved, rate, generator) + all_at_once(interleaved, rate, generator)
