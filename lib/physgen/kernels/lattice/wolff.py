"""Wolff's cluster flips of the two-dimensional Ising model (the chapters of `scales`).

The lattice is periodic, E = −Σ_⟨ij⟩ s_i s_j, every site has one bond to the right and one down (on a width of
2 two sites share two bonds, and both count). A step chooses a site uniformly; a bond between equal spins is
open with probability p = 1 − e^{−2β}; the sites that open bonds connect with the chosen one are its cluster,
and all of them flip (Wolff 1989). Gibbs' law e^{−βE} is stationary, and detailed balance holds.

Random numbers belong to bonds, not to the order in which sites are visited, so every search finds the same
cluster, bit for bit. With the key and the counter (step mod 2³², ⌊step / 2³²⌋, lattice, stream) of `philox`:

- stream 0, word 0 chooses the site, i = ⌊word · N / 2³²⌋, sites numbered along rows;
- stream 1 + ⌊i/2⌋ has the bonds of two sites: word 2 (i mod 2) is the one from i to the right, the next word
  the one down. A bond is open iff its word < θ = ⌊2³² p⌋, and θ = 2³² where p > 1 − 2⁻³³.

The size of a cluster is an estimator: its mean over steps in equilibrium is N⟨m²⟩, m the mean spin, since
site j belongs to the cluster of site i with probability ⟨s_i s_j⟩.
"""

from __future__ import annotations

import math
from functools import partial
from numbers import Real

import numpy as np
import torch
import torch.nn.functional as F
from numpy import uint8, uint32, uint64

from ..dispatch import kernel, numba_function, over_rows
from ..philox import LOW, checked_count, checked_seed, philox, rounds

__all__ = ["wolff"]


def threshold(beta: float) -> int:
    """θ = ⌊2³² (1 − e^{−2β})⌋, 2³² where the probability rounds to 1: a bond is open iff its word < θ."""
    p = -math.expm1(-2 * beta)
    return 2**32 if p > 1 - 2.0**-33 else math.floor(2**32 * p)


def _open_bonds(seed: int, step: int, theta, spins: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(B, L1, L2) bool: the open bonds of equal spins, to the right and down; theta is a pair, too."""
    (lattices, *shape), n = spins.shape, math.prod(spins.shape[1:])
    rows = torch.arange(lattices, device=spins.device)[:, None]
    streams = torch.arange(1, 1 + (n + 1) // 2, device=spins.device)
    words = philox.definition(seed, step & LOW, step >> 32, rows, streams)  # (4, B, ⌈N/2⌉)
    words = words.unflatten(0, (2, 2)).permute(1, 2, 3, 0).flatten(2)[:, :, :n].unflatten(2, shape)
    return tuple((words[k] < theta[k]) & (spins == spins.roll(-1, 2 - k)) for k in range(2))


def cluster_of_step(seed: int, step: int, theta, spins: torch.Tensor) -> torch.Tensor:
    """(B, L1, L2) bool: the cluster of a step. `spins` may be of any dtype; theta = (right, down) are thresholds
    of the bonds, numbers or (B, L1, L2).
    """
    lattices, rows, columns = spins.shape
    sites = torch.arange(rows * columns, device=spins.device).view(rows, columns)
    words = philox.definition(seed, step & LOW, step >> 32, torch.arange(lattices, device=spins.device), 0)
    right, down = _open_bonds(seed, step, theta, spins)
    found, cluster = None, sites == ((words[0] * rows * columns) >> 32)[:, None, None]
    while found is None or not torch.equal(found, cluster):
        found = cluster
        cluster = found | (found & right).roll(1, 2) | (found.roll(-1, 2) & right)
        cluster = cluster | (cluster & down).roll(1, 1) | (cluster.roll(-1, 1) & down)
    return cluster


@kernel
def wolff(
    spins: torch.Tensor, beta: float, clusters: int, seed: int, first_step: int = 0
) -> tuple[torch.Tensor, torch.Tensor]:
    """Flip the Wolff cluster of a random site, `clusters` times in each lattice: bonds of equal spins are open
    with p = 1 − e^{−2β}.

    Parameters
    ----------
    spins
        (B, L1, L2) int8 of ±1, L1 and L2 ≥ 2, periodic, L1 L2 < 2³¹; left as they are.
    beta
        β ≥ 0, inverse temperature with E = −Σ_⟨ij⟩ s_i s_j; ∞ opens every bond of equal spins.
    clusters
        Cluster flips of each lattice.
    seed
        The Philox key, in [0, 2⁶⁴): see `physgen.kernels.philox.key`.
    first_step
        The step that the first flip counts as: a run in two parts, the second with ``first_step=clusters`` of
        the first, is the run in one part.

    Returns
    -------
    spins : torch.Tensor
        (B, L1, L2) int8, after the flips, on the device of `spins`. Not differentiable.
    sizes : torch.Tensor
        (B, clusters) int64, the number of sites of each cluster; in equilibrium their mean is N⟨m²⟩.

    Raises
    ------
    ValueError
        If a shape, dtype or value does not fit.

    Notes
    -----
    Wolff (1989), Phys. Rev. Lett. 62, 361. A cluster grows from site to site: the fast version is a search on
    the CPU, one lattice a thread. On a GPU the definition runs, which spreads the clusters of all lattices by
    a site at a time.
    """
    s, theta = spins, threshold(beta)
    sizes = spins.new_empty((len(spins), clusters), dtype=torch.int64)
    for t in range(first_step, first_step + clusters):
        cluster = cluster_of_step(seed, t, (theta, theta), s)
        s, sizes[:, t - first_step] = torch.where(cluster, -s, s), cluster.sum((1, 2))
    return s.clone(), sizes


# ----------------------------------------------------------------------------------------------------- inputs


@wolff.inputs
def _inputs(spins, beta, clusters, seed, first_step) -> dict:
    if not isinstance(spins, torch.Tensor) or spins.dtype != torch.int8:
        came = spins.dtype if isinstance(spins, torch.Tensor) else type(spins).__name__
        raise ValueError(f"spins: got {came}; expected (B, L1, L2) torch.int8 of +-1")
    if spins.ndim != 3 or min(spins.shape[1:]) < 2 or math.prod(spins.shape[1:]) >= 2**31:
        raise ValueError(
            f"spins: got shape {tuple(spins.shape)}; expected (B, L1, L2) with L1, L2 >= 2, L1 L2 < 2**31"
        )
    size = spins.abs()
    if spins.numel() and not int(size.min()) == int(size.max()) == 1:
        raise ValueError("spins: got values other than +-1; expected +-1")
    number = isinstance(beta, Real) or (isinstance(beta, torch.Tensor) and beta.ndim == 0)
    if not number or isinstance(beta, bool) or not float(beta) >= 0:
        raise ValueError(f"beta: got {beta!r}; expected a number >= 0")
    counts = {
        "clusters": checked_count("clusters", clusters),
        "first_step": checked_count("first_step", first_step),
    }
    return {"spins": spins.contiguous(), "beta": float(beta), "seed": checked_seed(seed)} | counts


# ------------------------------------------------------------------------------------------------- CPU, numba
#
# The sites of a cluster stand in a queue, in the order in which they joined: unlike on a stack, the next ones
# are known early, and the processor works on several at once. A byte holds all that the search asks of a site.
# Its bonds are drawn with those of a strip of neighbours in one loop, which vectorises, when the search first
# needs one of them: words drawn alone would cost more than the search.
#
# Where bonds have thresholds of their own, those stand as the words come: `each`, (lattices, strips, 4, STRIP / 2),
# the thresholds of words k of the streams in row k. Else `each` is None, for which numba compiles a search that never
# asks: loading equal thresholds from a table costs a tenth of the time.

UP, RIGHT, DOWN, FIRST, LAST = 1, 2, 4, 8, 16  # bits: the spin is +1; open bonds; first and last of its row
STRIP = 64  # sites


@numba_function
def draw(sites, strip, k0, k1, c0, c1, c2, theta, each=None):
    """Set the bits of the open bonds of a strip; each: (strips, 4, STRIP / 2) or None."""
    start, first = strip * uint64(STRIP), uint32(strip * uint64(STRIP // 2)) + uint32(1)
    part = sites[start : start + uint64(STRIP)]
    right, down, closed, kept = uint8(RIGHT), uint8(DOWN), uint8(0), uint8(UP | FIRST | LAST)
    for j in range(STRIP // 2):
        w0, w1, w2, w3 = rounds(k0, k1, c0, c1, c2, uint32(first + uint32(j)))
        t0, t1, t2, t3 = theta, theta, theta, theta
        if each is not None:
            t0, t1, t2, t3 = each[strip, 0, j], each[strip, 1, j], each[strip, 2, j], each[strip, 3, j]
        even = (right if w0 < t0 else closed) | (down if w1 < t1 else closed)
        odd = (right if w2 < t2 else closed) | (down if w3 < t3 else closed)
        part[2 * j], part[2 * j + 1] = (part[2 * j] & kept) | even, (part[2 * j + 1] & kept) | odd


@numba_function(inline="always")
def join(sites, queue, tail, i, bond, other):
    """If the bond is open (the lowest bit) and the spin of site i is the old one, flip it and put it into the
    queue; without a branch, which would be random. `other` is 1 if the old spin is −1.
    """
    new = (sites[i] ^ other) & bond & uint8(1)
    sites[i] ^= new
    queue[tail] = i
    return tail + uint64(new)


@numba_function
def _flip(lattices, n, columns, sizes, theta, each, key, first_step, start, stop):
    # lattices: (B, N + padding), bytes
    n, columns, theta = uint64(n), uint64(columns), uint64(theta)
    k0, k1, one, width = uint32(key[0]), uint32(key[1]), uint64(1), uint64(STRIP)
    queue = np.empty(n + one, np.uint32)
    drawn, count = np.zeros(lattices.shape[1] // STRIP, np.int64), 0  # for which cluster a strip was drawn
    for b in range(start, stop):
        sites, own = lattices[b], None if each is None else each[b]
        for u in range(sizes.shape[1]):
            count += 1
            t = uint64(first_step + u)
            c0, c1, c2 = uint32(t), uint32(t >> uint64(32)), uint32(b)
            seed = (uint64(rounds(k0, k1, c0, c1, c2, uint32(0))[0]) * n) >> uint64(32)
            other = uint8(~sites[seed] & UP)
            sites[seed] ^= uint8(UP)
            queue[0] = seed
            head, tail = uint64(0), one
            while head < tail:
                i = uint64(queue[head])
                head += one
                edge = sites[i]
                left = i - one + (columns if edge & FIRST else uint64(0))
                right = i + one - (columns if edge & LAST else uint64(0))
                up = i - columns + (n if i < columns else uint64(0))
                down = i + columns - (n if i + columns >= n else uint64(0))
                for strip in (i // width, left // width, up // width):
                    if drawn[strip] != count:
                        draw(sites, strip, k0, k1, c0, c1, c2, theta, own)
                        drawn[strip] = count
                here = sites[i]
                tail = join(sites, queue, tail, right, here >> uint8(1), other)
                tail = join(sites, queue, tail, left, sites[left] >> uint8(1), other)
                tail = join(sites, queue, tail, down, here >> uint8(2), other)
                tail = join(sites, queue, tail, up, sites[up] >> uint8(2), other)
            sizes[b, u] = tail


def search(up, theta: int, each, clusters: int, seed: int, first_step: int) -> tuple:
    """Flip clusters of `up`, (B, L1, L2) bool, true where the spin is +1, in numba: `up` as uint8, and the sizes.
    each: the thresholds of all bonds, uint64 (B, strips, 4, STRIP / 2), or None, and all are theta.
    """
    lattices, rows, columns = up.shape
    n, key = rows * columns, (seed & LOW, seed >> 32)
    sizes = torch.empty((lattices, clusters), dtype=torch.int64)
    sites = up.to(torch.uint8)
    sites[:, :, 0] |= FIRST
    sites[:, :, -1] |= LAST
    sites = F.pad(sites.view(lattices, n), (0, -n % STRIP))
    run = partial(_flip, sites.numpy(), n, columns, sizes.numpy(), theta, each, key, first_step)
    over_rows(run, lattices, sizes.numel() * n)
    return (sites[:, :n] & UP).view(up.shape), sizes


@wolff.backend("numba", needs=("numba",))
def _wolff_numba(spins, beta, clusters, seed, first_step):
    up, sizes = search(spins > 0, threshold(beta), None, clusters, seed, first_step)
    return 2 * up.to(torch.int8) - 1, sizes
