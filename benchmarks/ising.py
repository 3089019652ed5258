"""The Ising model: sweeps of the checkerboard heat bath beside torch, which rolls whole lattices and masks a
colour.

Ours is the whole public call, its checks, copies and packing included; the peer starts from spins that are
floats already and its masks are made outside the clock. Its smallest batch is its fastest, so every row has
the same peer, a single lattice, counted as many times as there are lattices. The floor is the random words
that no decision can do without, at the rate measured here: half a word a spin for `heat_bath`; for
`heat_bath_bits` as many planes as a word of 64 spins needs until none is open, when each plane closes half.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy import uint32

from physgen.kernels.dispatch import numba_function
from physgen.kernels.lattice.ising import heat_bath, heat_bath_bits
from physgen.kernels.philox import rounds

BETA, SIZE = 0.44, 512


def torch_sweeps(s: torch.Tensor, masks: list[torch.Tensor], sweeps: int) -> torch.Tensor:
    for _ in range(sweeps):
        for mask in masks:
            h = s.roll(1, -1) + s.roll(-1, -1) + s.roll(1, -2) + s.roll(-1, -2)
            up = torch.rand_like(s) < torch.sigmoid(2 * BETA * h)
            s = torch.where(mask, torch.where(up, 1.0, -1.0), s)
    return s


@numba_function
def draw_words(words, times):
    """Random words, (4, n) again and again: nothing else."""
    w0, w1, w2, w3 = words[0], words[1], words[2], words[3]
    for step in range(times):
        for j in range(len(w0)):
            zero = uint32(0)
            w0[j], w1[j], w2[j], w3[j] = rounds(uint32(1), zero, uint32(step), zero, zero, uint32(j))


def measure(interleaved, seed: int) -> list[dict]:
    """The rows of the table; ``interleaved(calls, repeats)`` gives the median seconds of each call."""
    generator = torch.Generator().manual_seed(seed)
    spins = (2 * torch.randint(2, (64, SIZE, SIZE), generator=generator) - 1).to(torch.int8)
    rows, columns = torch.arange(SIZE)[:, None], torch.arange(SIZE)
    masks, one = [(rows + columns) % 2 == colour for colour in (0, 1)], spins[:1].float()
    few, sweeps, words = spins[:4], 10, np.empty((4, 1024), uint32)
    seconds = interleaved(
        {
            "bytes": lambda: heat_bath(few, BETA, sweeps, 1, backend="numba"),
            "bits": lambda: heat_bath_bits(spins, BETA, sweeps, 1, backend="numba"),
            "torch": lambda: torch_sweeps(one, masks, sweeps),
            "words": lambda: draw_words(words, 256),
        },
        7,
    )
    planes = sum(1 - (1 - 0.5**plane) ** 64 for plane in range(32))  # 7.3
    flips, word = sweeps * SIZE * SIZE, seconds["words"] / (256 * words.size)
    return [
        {
            "kernel": f"Ising, {kernel}",
            "size": f"{lattices}×{SIZE}×{SIZE}, {sweeps} sweeps",
            "ours": seconds[ours],
            "peer": "torch roll and mask",
            "peer_seconds": seconds["torch"] * lattices,
            "target": target,
            "floor": flips * lattices * share * word,
            "floor_is": why,
            "operations": flips * lattices * (25 * share + 6),
            "bytes": flips * lattices * (2 if ours == "bytes" else 1 / 4),
        }
        for kernel, ours, lattices, target, share, why in (
            ("heat_bath", "bytes", 4, 25, 1 / 2, "16 random bits a spin, at the rate of the random words"),
            (
                "heat_bath_bits",
                "bits",
                64,
                60,
                planes / 32,
                "planes until no spin of a word is open, at the rate of the random words",
            ),
        )
    ]
