"""Cluster flips of the signs of a field φ⁴ near its critical point, beside Python loops.

As for `wolff`: the peers' seconds are scaled to the number of signs that ours flips, one peer is the loop over
a numpy array that one writes first, the other the fastest plain Python. Peers draw a random number where the
signs are equal and pay an exponential for it; ours pays all exponentials of a call once, before its first step.
"""

from __future__ import annotations

import math
import random
import sys

import numba
import numpy as np
import torch
from wolff import neighbours

from physgen.kernels.lattice import embedded, hmc, wolff

search, ours = sys.modules[wolff.__module__], sys.modules[embedded.__module__]
BETA = 0.68
CONVENTION_B = (BETA, -(1 + 2 * BETA), 1.0)


def loop_over_array(phi: np.ndarray, clusters: int) -> int:
    """Embedded cluster flips in place; the number of signs that flip."""
    length, flipped, generator = len(phi), 0, np.random.default_rng(1)
    for _ in range(clusters):
        i, j = int(generator.integers(length)), int(generator.integers(length))
        stack = [(i, j)]
        phi[i, j] = -phi[i, j]
        while stack:
            i, j = stack.pop()
            flipped += 1
            for a, b in (
                ((i + 1) % length, j),
                ((i - 1) % length, j),
                (i, (j + 1) % length),
                (i, (j - 1) % length),
            ):
                # The site has flipped, its neighbour has not: equal signs before are unequal now.
                product = phi[i, j] * phi[a, b]
                if product < 0 and generator.random() < 1 - math.exp(2 * BETA * product):
                    phi[a, b] = -phi[a, b]
                    stack.append((a, b))
    return flipped


def loop_over_list(phi: list[float], near: list[tuple[int, ...]], clusters: int) -> int:
    """The same with lists."""
    flipped, generator, exp = 0, random.Random(1), math.exp
    uniform = generator.random
    for _ in range(clusters):
        i = generator.randrange(len(phi))
        phi[i], stack = -phi[i], [i]
        while stack:
            i = stack.pop()
            flipped += 1
            coupling = 2 * BETA * phi[i]
            for k in near[i]:
                product = coupling * phi[k]
                if product < 0 and uniform() < 1 - exp(product):
                    phi[k] = -phi[k]
                    stack.append(k)
    return flipped


@numba.njit
def draw_all(draw, sites, strips, each):
    """The bonds of all sites, strip by strip."""
    zero = np.uint32(0)
    for strip in range(strips):
        draw(sites, np.uint64(strip), zero, zero, zero, zero, zero, np.uint64(0), each)


def measure(interleaved, seed: int) -> list[dict]:
    """The rows of the table; ``interleaved(calls, repeats)`` gives the median seconds of each call."""
    length, clusters = 512, 50
    # Domains still grow, but clusters have reached the share of the lattice that they have in equilibrium at a
    # correlation length like its side.
    phi = torch.randn(1, length, length, generator=torch.Generator().manual_seed(seed))
    for t in range(300):
        phi, _ = hmc(phi, *CONVENTION_B, 0.03, 15, 1, seed, t)
        phi, _ = embedded(phi, BETA, 10, seed, 10 * t)
    flipped = int(embedded(phi, BETA, clusters, seed, 3000)[1].sum())
    array, flat, near = phi[0].double().numpy(), phi.flatten().tolist(), neighbours(length)
    # Compiled by now: the call above has put it in its place.
    draw, sites, each = (
        search.draw,
        np.zeros(length**2, np.uint8),
        ours.by_strips(ours.thresholds(phi, BETA))[0],
    )
    counts = {}

    def counted(name, loop, *args):
        counts[name] = loop(*args)

    seconds = interleaved(
        {
            "ours": lambda: embedded(phi, BETA, clusters, seed, 3000, backend="numba"),
            "Python loop, numpy": lambda: counted("Python loop, numpy", loop_over_array, array.copy(), 3),
            "Python loop, lists": lambda: counted("Python loop, lists", loop_over_list, flat.copy(), near, 3),
            "words": lambda: draw_all(draw, sites, len(sites) // search.STRIP, each),
        },
        5,
    )
    return [
        {
            "kernel": "wolff, embedded",
            "size": f"φ⁴, L={length} at β={BETA}, {clusters} clusters, {flipped / clusters / length**2:.2f} N each",
            "ours": seconds["ours"],
            "peer": peer,
            "peer_seconds": seconds[peer] * flipped / counts[peer],
            "target": target,
            "floor": seconds["words"] / len(sites) * flipped,
            "floor_is": "the words of two bonds a flipped sign, compared and stored, at the rate of a vector loop",
            # Those of `wolff`, and for each of two bonds two products and an exponential, counted as one.
            "operations": 64 * flipped,
            "bytes": 8 * flipped,
        }
        for peer, target in (("Python loop, numpy", 60), ("Python loop, lists", None))
    ]
