"""Cluster flips of the Ising model at its critical point, beside Python loops.

Clusters differ in size, so the peers' seconds are scaled to the number of spins that ours flips. Both peers
do no more than they must: one is the loop over a numpy array that textbooks print, the other the fastest
plain Python, lists and a table of neighbours made outside the clock. Ours is the whole public call, its
checks, a copy of the lattice and a reproducible word for each bond included.
"""

from __future__ import annotations

import math
import random
import sys

import numba
import numpy as np
import torch

from physgen.kernels.lattice import wolff

module = sys.modules[wolff.__module__]
BETA = math.log(1 + math.sqrt(2)) / 2


def loop_over_array(spins: np.ndarray, clusters: int) -> int:
    """Wolff flips in place; the number of spins that flip."""
    length, p, flipped, generator = len(spins), 1 - math.exp(-2 * BETA), 0, np.random.default_rng(1)
    for _ in range(clusters):
        i, j = int(generator.integers(length)), int(generator.integers(length))
        old, stack = spins[i, j], [(i, j)]
        spins[i, j] = -old
        while stack:
            i, j = stack.pop()
            flipped += 1
            for a, b in (
                ((i + 1) % length, j),
                ((i - 1) % length, j),
                (i, (j + 1) % length),
                (i, (j - 1) % length),
            ):
                if spins[a, b] == old and generator.random() < p:
                    spins[a, b] = -old
                    stack.append((a, b))
    return flipped


def loop_over_list(spins: list[int], near: list[tuple[int, ...]], clusters: int) -> int:
    """The same with lists."""
    p, flipped, generator = 1 - math.exp(-2 * BETA), 0, random.Random(1)
    uniform = generator.random
    for _ in range(clusters):
        i = generator.randrange(len(spins))
        old, stack = spins[i], [i]
        spins[i] = -old
        while stack:
            flipped += 1
            for k in near[stack.pop()]:
                if spins[k] == old and uniform() < p:
                    spins[k] = -old
                    stack.append(k)
    return flipped


def neighbours(length: int) -> list[tuple[int, ...]]:
    sites = np.arange(length**2).reshape(length, length)
    return list(
        zip(*(np.roll(sites, k, axis).ravel().tolist() for axis in (0, 1) for k in (1, -1)), strict=True)
    )


@numba.njit
def draw_all(draw, sites, strips, theta):
    """The bonds of all sites, strip by strip."""
    zero = np.uint32(0)
    for strip in range(strips):
        draw(sites, np.uint64(strip), zero, zero, zero, zero, zero, theta)


def measure(interleaved, seed: int) -> list[dict]:
    """The rows of the table; ``interleaved(calls, repeats)`` gives the median seconds of each call."""
    length, clusters = 512, 50
    spins, _ = wolff(torch.ones(1, length, length, dtype=torch.int8), BETA, 400, seed)
    flipped = int(wolff(spins, BETA, clusters, seed, 400)[1].sum())
    array, flat, near = spins[0].numpy().astype(np.int64), spins.flatten().tolist(), neighbours(length)
    # Compiled by now: the call above has put it in its place.
    draw, sites, theta = module.draw, np.zeros(length**2, np.uint8), np.uint64(module.threshold(BETA))
    counts = {}

    def counted(name, loop, *args):
        counts[name] = loop(*args)

    seconds = interleaved(
        {
            "ours": lambda: wolff(spins, BETA, clusters, seed, 400, backend="numba"),
            "Python loop, numpy": lambda: counted("Python loop, numpy", loop_over_array, array.copy(), 3),
            "Python loop, lists": lambda: counted("Python loop, lists", loop_over_list, flat.copy(), near, 3),
            "words": lambda: draw_all(draw, sites, len(sites) // module.STRIP, theta),
        },
        5,
    )
    return [
        {
            "kernel": "wolff",
            "size": f"L={length} at T_c, {clusters} clusters, {flipped / clusters / length**2:.2f} N each",
            "ours": seconds["ours"],
            "peer": peer,
            "peer_seconds": seconds[peer] * flipped / counts[peer],
            "target": target,
            "floor": seconds["words"] / len(sites) * flipped,
            "floor_is": "the words of two bonds a flipped spin, compared and stored, at the rate of a vector loop",
            "operations": 58 * flipped,
            "bytes": 2 * flipped,
        }
        for peer, target in (("Python loop, numpy", 60), ("Python loop, lists", None))
    ]
