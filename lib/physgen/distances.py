"""How far apart two samples are: what "the samples agree" means in every chapter, with an error.

For x ~ P and y ~ Q, points of shape (n, d) and (m, d):

    energy               2 E|x − y| − E|x − x'| − E|y − y'|,       0 only if P = Q
    sliced_wasserstein   (E_u W_2²(u·x, u·y))^{1/2} over directions u
    frechet              |μ_x − μ_y|² + tr(C_x + C_y − 2 (C_x C_y)^{1/2}), the squared W_2 of the Gaussians with those moments

All are float64 inside and return a float. The Fréchet distance is taken in the leading principal directions of y, the reference.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch

from physgen.checks import count, stream

__all__ = ["Distance", "bootstrap", "energy", "frechet", "sliced_wasserstein"]

ROWS = 1024  # distances are summed by blocks of so many rows, which keeps the matrix out of memory


class Distance(NamedTuple):
    """A distance between two samples and its standard error."""

    value: float
    error: float


def _samples(x, y, least: int) -> tuple[torch.Tensor, torch.Tensor]:
    for name, s in (("x", x), ("y", y)):
        if not isinstance(s, torch.Tensor) or s.ndim != 2 or s.is_complex() or 0 in s.shape:
            came = f"{s.dtype}, shape {tuple(s.shape)}" if isinstance(s, torch.Tensor) else type(s).__name__
            raise ValueError(f"{name}: got {came}; expected real points of shape (n, d)")
        if len(s) < least or not bool(s.isfinite().all()):
            raise ValueError(f"{name}: got {len(s)} points, or NaN; expected at least {least} finite points")
    if x.shape[1] != y.shape[1] or x.device != y.device:
        raise ValueError(
            f"x, y: got d = {x.shape[1]} on {x.device} and {y.shape[1]} on {y.device}; expected the same"
        )
    return x.detach().double(), y.detach().double()


def _sum(x: torch.Tensor, y: torch.Tensor) -> float:
    return sum(float(torch.cdist(block, y).sum()) for block in x.split(ROWS))


def energy(x: torch.Tensor, y: torch.Tensor) -> float:
    """The energy distance 2 E|x − y| − E|x − x'| − E|y − y'|, without bias: pairs of a point with itself do not count.

    Below zero by chance if the laws are equal. Parameters: x (n, d) and y (m, d), n, m ≥ 2.

    Raises
    ------
    ValueError
        If a sample is not finite, real and of two points at least, or the dimensions differ.

    Notes
    -----
    Székely, Rizzo (2013), J. Stat. Plan. Inference 143, 1249.
    """
    x, y = _samples(x, y, 2)
    n, m = len(x), len(y)
    return 2 * _sum(x, y) / (n * m) - _sum(x, x) / (n * (n - 1)) - _sum(y, y) / (m * (m - 1))


def sliced_wasserstein(
    x: torch.Tensor, y: torch.Tensor, projections: int = 128, generator: torch.Generator | None = None
) -> float:
    """The root mean square of W_2 between x and y seen along random directions; POT computes it.

    Two samples of one law have a distance of order n^{−1/2}, not 0.

    Raises
    ------
    ValueError
        As `energy`, or if `projections` is no integer ≥ 1.

    Notes
    -----
    Bonneel, Rabin, Peyré, Pfister (2015), J. Math. Imaging Vis. 51, 22.
    """
    import ot  # a second to load: only for those who ask

    x, y = _samples(x, y, 1)
    u = torch.randn(
        x.shape[1],
        count(projections, "projections"),
        dtype=torch.float64,
        generator=stream(generator, x.device),
        device=x.device,
    )
    return float(ot.sliced_wasserstein_distance(x, y, projections=u / u.norm(dim=0), p=2))


def frechet(x: torch.Tensor, y: torch.Tensor, components: int | None = None) -> float:
    """The squared 2-Wasserstein distance of two Gaussians with the means and covariances of the samples.

    Two samples of one law have a distance of order components/n: state that floor, from two halves of y, beside the value.

    Parameters
    ----------
    x, y : torch.Tensor
        Shapes (n, d), (m, d); y is the reference.
    components : int, optional
        How many leading principal directions of y are kept; all by default.

    Raises
    ------
    ValueError
        As `energy`, or if `components` is not in 1 … d.

    Notes
    -----
    Dowson, Landau (1982), J. Multivar. Anal. 12, 450; as a score of samples Heusel et al. (2017), there on features of a network.
    """
    x, y = _samples(x, y, 2)
    keep = y.shape[1] if components is None else count(components, "components")
    if keep > y.shape[1]:
        raise ValueError(f"components: got {keep}; expected at most d = {y.shape[1]}")
    _, modes = torch.linalg.eigh(torch.cov(y.T).reshape(y.shape[1], -1))
    x, y = x @ modes[:, -keep:], y @ modes[:, -keep:]
    # Centred samples A, B = Q R: C_x = RᵀR, and tr (C_x C_y)^{1/2}, the nuclear norm of A Bᵀ, needs no root of a matrix.
    a, b = ((s - s.mean(0)) / math.sqrt(len(s) - 1) for s in (x, y))
    root_a, root_b = (torch.linalg.qr(s, mode="r").R for s in (a, b))
    overlap = torch.linalg.svdvals(root_a @ root_b.T).sum()
    shift = (x.mean(0) - y.mean(0)).square().sum()
    return float(shift + a.square().sum() + b.square().sum() - 2 * overlap)


def bootstrap(
    distance: Callable[[torch.Tensor, torch.Tensor], float],
    x: torch.Tensor,
    y: torch.Tensor,
    resamples: int = 100,
    generator: torch.Generator | None = None,
) -> Distance:
    """A distance and its standard error: the scatter over samples drawn again, with replacement, from x and from y.

    Right for laws that differ; for equal ones, where `energy` is of second order, compare with the value between two halves of y.

    Raises
    ------
    ValueError
        As `distance`, or if `resamples` < 2.
    """
    rounds = count(resamples, "resamples", 2)
    generator = stream(generator)
    value = distance(x, y)
    draws = [
        distance(*(s[torch.randint(len(s), (len(s),), generator=generator).to(s.device)] for s in (x, y)))
        for _ in range(rounds)
    ]
    return Distance(value, float(torch.tensor(draws, dtype=torch.float64).std()))
