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

The size of a cluster is an estimator: its mean over steps in equilibrium is N⟨m²⟩, m the mean spin, since a
site belongs to the cluster of another with probability ⟨s_i s_j⟩ (Wolff 1989, equation 4).
"""

from __future__ import annotations

import math
from functools import partial
from numbers import Real
from operator import index

import numpy as np
import torch
from numpy import uint8, uint32, uint64

from ..dispatch import kernel, numba_function, over_rows
from ..philox import LOW, checked_seed, philox, rounds

__all__ = ["wolff"]


def threshold(beta: float) -> int:
    """θ = ⌊2³² (1 − e^{−2β})⌋, 2³² where the probability rounds to 1: a bond is open iff its word < θ."""
    p = -math.expm1(-2 * beta)
    return 2**32 if p > 1 - 2.0**-33 else math.floor(2**32 * p)


def _open_bonds(seed: int, step: int, theta: int, spins: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(B, L1, L2) bool: the open bonds of equal spins, to the right and down."""
    (lattices, *shape), n = spins.shape, spins[0].numel()
    rows = torch.arange(lattices, device=spins.device)[:, None]
    streams = torch.arange(1, 1 + (n + 1) // 2, device=spins.device)
    words = philox.definition(seed, step & LOW, step >> 32, rows, streams)  # (4, B, ⌈N/2⌉)
    words = words.unflatten(0, (2, 2)).permute(1, 2, 3, 0).flatten(2)[:, :, :n].unflatten(2, shape)
    return tuple((words[k] < theta) & (spins == spins.roll(-1, 2 - k)) for k in range(2))


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
    (lattices, rows, columns), s, theta = spins.shape, spins, threshold(beta)
    sizes = spins.new_empty((lattices, clusters), dtype=torch.int64)
    sites = torch.arange(rows * columns, device=s.device).view(rows, columns)
    for t in range(first_step, first_step + clusters):
        words = philox.definition(seed, t & LOW, t >> 32, torch.arange(lattices, device=s.device), 0)
        right, down = _open_bonds(seed, t, theta, s)
        found, cluster = None, sites == ((words[0] * rows * columns) >> 32)[:, None, None]
        while found is None or not torch.equal(found, cluster):
            found = cluster
            cluster = found | (found & right).roll(1, 2) | (found.roll(-1, 2) & right)
            cluster = cluster | (cluster & down).roll(1, 1) | (cluster.roll(-1, 1) & down)
        s, sizes[:, t - first_step] = torch.where(cluster, -s, s), cluster.sum((1, 2))
    return s.clone(), sizes


# ----------------------------------------------------------------------------------------------------- inputs


def _count(name: str, number: int) -> int:
    try:
        value = -1 if isinstance(number, bool) else index(number)
    except TypeError:
        value = -1
    if not 0 <= value < 2**62:
        raise ValueError(f"{name}: got {number!r}; expected an integer in [0, 2**62)")
    return value


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
    counts = {"clusters": _count("clusters", clusters), "first_step": _count("first_step", first_step)}
    return {"spins": spins.contiguous(), "beta": float(beta), "seed": checked_seed(seed)} | counts


# ------------------------------------------------------------------------------------------------- CPU, numba
#
# The sites of a cluster are kept in a queue in the order in which they joined. Neighbouring bonds are drawn
# together, a strip of a row at a time in one loop, which vectorises, when the search first meets one of them:
# a word then costs a tenth of one that is drawn alone.

STRIP = 64  # sites


@numba_function
def draw(bonds, strip, k0, k1, c0, c1, c2, theta):
    """Bits of the open bonds of a strip, two sites a byte: 1 and 4 to the right, 2 and 8 down."""
    first = uint32(1 + strip * (STRIP // 2))
    part = bonds[strip * (STRIP // 2) : (strip + 1) * (STRIP // 2)]
    for j in range(len(part)):
        w0, w1, w2, w3 = rounds(k0, k1, c0, c1, c2, uint32(first + uint32(j)))
        even = uint8(uint64(w0) < theta) | (uint8(uint64(w1) < theta) << 1)
        odd = uint8(uint64(w2) < theta) | (uint8(uint64(w3) < theta) << 1)
        part[j] = uint8(even | (odd << 2))


@numba_function(inline="always")
def join(s, queue, tail, site, way, old):
    """Flip a site and put it into the queue if its way there is open (1, else 0) and its spin is the old one;
    without a branch, which would be random.
    """
    new = way & (s[site] == old)
    s[site] = s[site] - 2 * old * new
    queue[tail] = site
    return tail + new


@numba_function
def _flip(spins, sizes, columns, theta, key, first_step, start, stop):  # spins: (B, N)
    n, k0, k1, theta = spins.shape[1], uint32(key[0]), uint32(key[1]), uint64(theta)
    strips = (n + STRIP - 1) // STRIP
    bonds, queue = np.empty(strips * (STRIP // 2), np.uint8), np.empty(n + 1, np.int64)
    drawn, count = np.zeros(strips, np.int64), 0  # the number of the cluster that a strip was drawn for
    for b in range(start, stop):
        s = spins[b]
        for u in range(sizes.shape[1]):
            count += 1
            t = uint64(first_step + u)
            c0, c1, c2 = uint32(t), uint32(t >> uint64(32)), uint32(b)
            word = rounds(k0, k1, c0, c1, c2, uint32(0))[0]
            queue[0] = np.int64((uint64(word) * uint64(n)) >> uint64(32))
            old, head, tail = s[queue[0]], 0, 1
            s[queue[0]] = -old
            while head < tail:
                i = queue[head]
                head += 1
                column = i % columns
                right = i + 1 if column + 1 < columns else i + 1 - columns
                left = i - 1 if column > 0 else i - 1 + columns
                down = i + columns if i + columns < n else i + columns - n
                up = i - columns if i >= columns else i - columns + n
                for strip in (i // STRIP, left // STRIP, up // STRIP):
                    if drawn[strip] != count:
                        draw(bonds, strip, k0, k1, c0, c1, c2, theta)
                        drawn[strip] = count
                here = bonds[i >> 1] >> (2 * (i & 1))
                tail = join(s, queue, tail, right, here & 1, old)
                tail = join(s, queue, tail, left, (bonds[left >> 1] >> (2 * (left & 1))) & 1, old)
                tail = join(s, queue, tail, down, (here >> 1) & 1, old)
                tail = join(s, queue, tail, up, (bonds[up >> 1] >> (2 * (up & 1) + 1)) & 1, old)
            sizes[b, u] = tail


@wolff.backend("numba", needs=("numba",))
def _wolff_numba(spins, beta, clusters, seed, first_step):
    (lattices, rows, columns), out = spins.shape, spins.clone()
    sizes, key = torch.empty((lattices, clusters), dtype=torch.int64), (seed & LOW, seed >> 32)
    flat = out.view(lattices, rows * columns).numpy()
    run = partial(_flip, flat, sizes.numpy(), columns, threshold(beta), key, first_step)
    over_rows(run, lattices, lattices * clusters * rows * columns)
    return out, sizes
