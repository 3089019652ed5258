"""Clusters of the signs of a field φ⁴: Wolff's algorithm, embedded (the chapters of `scales`).

    S(φ) = (β/2) Σ_⟨ij⟩ (φ_i − φ_j)² + Σ_i V(φ_i),   V even,   P(φ) ∝ e^{−S}

Write φ_i = s_i |φ_i|. At fixed |φ| the signs are an Ising model with the law exp(Σ_⟨ij⟩ β|φ_i||φ_j| s_i s_j), whose
couplings are positive, whatever V; so a step is that of `wolff` with a probability of its own for each bond:

    p_ij = 1 − e^{−2β|φ_i||φ_j|},   a bond of unequal signs is closed

(Brower, Tamayo 1989). P is stationary and detailed balance holds, but |φ| never changes: steps that move it, such
as those of `hmc`, must be mixed in. The lattice, the counters and the words are those of `wolff`.

A bond is open iff its word < θ_ij = ⌊2³² p_ij⌋, and θ_ij = 2³² where p_ij > 1 − 2⁻³³. Since |φ| stays, all θ of a
call are computed before its first step, and in one place: in float64 on the CPU, whatever the backend and the
device. What is left for the steps are comparisons of integers, so every version flips the same clusters bit for
bit. Two machines, or two versions of torch, may round e^x differently in the last place, 2⁻⁵² or so of p: then a θ
may differ by 1, and its bond, with a probability of some 2⁻⁵² a step. At |φ| = 1 it is `wolff`, up to the same chance.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F

from ..dispatch import kernel
from ..philox import checked_count, checked_seed
from .phi4 import _field, _number
from .wolff import STRIP, cluster_of_step, search

__all__ = ["embedded"]


def thresholds(phi: torch.Tensor, beta: float) -> torch.Tensor:
    """θ = ⌊2³² (1 − e^{−2β|φ_i||φ_j|})⌋, 2³² where that rounds to 1: (2, B, L1, L2) int64 of the bonds to the right
    and down, on the CPU.
    """
    size = phi.cpu().double().abs()
    p = torch.stack([-torch.expm1(-(2 * beta * size) * size.roll(-1, axis)) for axis in (2, 1)])
    return torch.where(p > 1 - 2.0**-33, 2**32, (2**32 * p).floor().long())


@kernel
def embedded(
    phi: torch.Tensor, beta: float, clusters: int, seed: int, first_step: int = 0
) -> tuple[torch.Tensor, torch.Tensor]:
    """Flip the sign of φ on the Wolff cluster of a random site, `clusters` times in each lattice: bonds of equal
    signs are open with p = 1 − e^{−2βφ_iφ_j}.

    Parameters
    ----------
    phi
        (B, L1, L2) float32 or float64, L1 and L2 ≥ 2, periodic, L1 L2 < 2³¹, 2β max φ² finite; left as it is.
    beta
        β ≥ 0, the coupling of neighbours in (β/2) Σ_⟨ij⟩ (φ_i − φ_j)². The potential does not matter if it is even.
    clusters
        Cluster flips of each lattice.
    seed
        The Philox key, in [0, 2⁶⁴): see `physgen.kernels.philox.key`.
    first_step
        The step that the first flip counts as: a run in two parts, the second with ``first_step=clusters`` of
        the first, is the run in one part.

    Returns
    -------
    phi : torch.Tensor
        The field after the flips, shape, dtype and device of `phi`; |φ| is as before, bit for bit. Not
        differentiable.
    sizes : torch.Tensor
        (B, clusters) int64, the number of sites of each cluster; in equilibrium their mean is N⟨m²⟩, m the mean sign.

    Raises
    ------
    ValueError
        If a shape, dtype or value does not fit, or a field is not finite.

    Notes
    -----
    Brower, Tamayo (1989), Phys. Rev. Lett. 62, 1087. The fast version is the search of `wolff` on the CPU, one
    lattice a thread; on a GPU the definition runs.
    """
    x, theta = phi, thresholds(phi, beta).to(phi.device)
    sizes = phi.new_empty((len(phi), clusters), dtype=torch.int64)
    for t in range(first_step, first_step + clusters):
        cluster = cluster_of_step(seed, t, theta, x.signbit())
        x, sizes[:, t - first_step] = torch.where(cluster, -x, x), cluster.sum((1, 2))
    return x.clone(), sizes


# ----------------------------------------------------------------------------------------------------- inputs


@embedded.inputs
def _inputs(phi, beta, clusters, seed, first_step) -> dict:
    phi, number = _field("phi", phi).detach(), _number("beta", beta, "a finite number >= 0")
    if number < 0:
        raise ValueError(f"beta: got {beta!r}; expected a finite number >= 0")
    if math.prod(phi.shape[1:]) >= 2**31:
        raise ValueError(f"phi: got shape {tuple(phi.shape)}; expected (B, L1, L2) with L1 L2 < 2**31")
    # The largest |φ| bounds all products: where it gives a number, none is 0 · ∞.
    size = float(phi.abs().max()) if phi.numel() else 0.0
    if not math.isfinite(2 * number * size * size):
        raise ValueError(f"phi: got |phi| up to {size:g} at beta = {number:g}; expected finite beta phi**2")
    counts = {
        "clusters": checked_count("clusters", clusters),
        "first_step": checked_count("first_step", first_step),
    }
    return {"phi": phi, "beta": number, "seed": checked_seed(seed)} | counts


# ------------------------------------------------------------------------------------------------- CPU, numba


def by_strips(theta: torch.Tensor) -> np.ndarray:
    """(B, strips, 4, STRIP / 2) uint64: thresholds in the order in which `wolff.draw` meets the words."""
    theta = theta.flatten(2)
    theta = F.pad(theta, (0, -theta.shape[2] % STRIP)).unflatten(2, (-1, STRIP // 2, 2))
    # Now (right or down, lattice, strip, stream, even or odd site); word 2 (i mod 2) + (1 if down).
    return theta.permute(1, 2, 4, 0, 3).flatten(2, 3).contiguous().numpy().view(np.uint64)


@embedded.backend("numba", needs=("numba",))
def _embedded_numba(phi, beta, clusters, seed, first_step):
    negative = phi.signbit()
    up, sizes = search(~negative, 0, by_strips(thresholds(phi, beta)), clusters, seed, first_step)
    return torch.where(up.bool() == negative, -phi, phi), sizes
