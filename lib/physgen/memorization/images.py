"""Real images, two classes, and no network: what the exact score of a training set does (the chapter `memorization/images`).

Images are rows of d = h·w pixels, noised by dx = −x dt + √2 dW to x_t = s a + √Δ_t z with s = e^{−t}, Δ_t = 1 − e^{−2t}. The reverse
process with the empirical score ends on training image μ with the probability w_μ(x_t) ∝ e^{−|x_t − s a_μ|²/2Δ_t}. So what Biroli,
Bonnaire, de Bortoli and Mézard (2024) measured with cloned trajectories are here expectations over x_t, without a trajectory:

    P(two clones in one class) = E Σ_c p_c²,  p_c = Σ_{μ in c} w_μ;        P(two clones on one image) = E Σ_μ w_μ² = E w_own.

They are held to t_S = ½ log Λ, Λ the largest eigenvalue of the covariance, and to t_C, where log n = I(a; x_t). Of real images I is
known between bounds,

    log n + E log w_own ≤ I(a; x_t) ≤ −E log q(x_t) − S_Gauss(t),        any q, x_t from images that q has not seen,

the left side over training images (on average over training sets: entropy is concave), the right with q = p_emp, or with Gaussians
of the measured moments. Pixels are in [−1, 1] and centred unless said otherwise: the noise is fixed, so the scale of the data moves
all times. The networks that learn the score of these images are in `physgen.memorization.networks`.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from physgen.checks import count, number, stream
from physgen.checks import times as _times
from physgen.diffusion import score as diffusion
from physgen.diffusion.denoisers import Estimate

from . import collapse, networks
from .networks import UNet, train

__all__ = [
    "PAPER",
    "CloneCurves",
    "Curve",
    "Distances",
    "GaussianClasses",
    "ImageSet",
    "Modes",
    "Tape",
    "TapePath",
    "UNet",
    "UTurns",
    "class_log_densities",
    "clone_curves",
    "crossing",
    "distance_curves",
    "gaussian_classes",
    "gaussian_clones",
    "gaussian_information",
    "information_bound",
    "load",
    "modes",
    "rescaled_time",
    "reverse_paths",
    "reverse_step",
    "tape",
    "train",
    "u_turns",
]

DATA = Path(__file__).resolve().parents[3] / "book" / "data"
SETS = ("mnist", "fashion", "digits", "photographs")
CONVENTIONS = ("centred", "signed", "unit")


# ------------------------------------------------------------------------------------------------- data


class ImageSet(NamedTuple):
    """Images as rows of h·w pixels, float32, in the order of their source; labels are those of the source."""

    images: torch.Tensor  # (n, d) for training
    labels: torch.Tensor  # (n,) int64
    test: torch.Tensor  # (m, d), never among the training images
    test_labels: torch.Tensor  # (m,) int64
    mean: torch.Tensor  # (d,) what was subtracted: the mean training image, or zeros
    shape: tuple[int, int]  # (h, w), d = h·w
    classes: tuple[int, ...]
    names: tuple[str, ...]  # of the classes

    def first(self, n: int) -> ImageSet:
        """The same with the first n training images, which come in the mixed order of their source."""
        n = count(n, "n")
        return self._replace(images=self.images[:n], labels=self.labels[:n])


def _read(name: str) -> tuple[dict, bytes]:
    """The record and the bytes of a set, whose hash is the recorded one."""
    if name not in SETS:
        raise ValueError(f"name: got {name!r}; expected one of {', '.join(SETS)}")
    cure = f"restore it with git checkout book/data, or make it again with tools/data.py FOLDER {name}"
    try:
        record = json.loads((DATA / f"{name}.json").read_text(encoding="utf-8"))
        content = (DATA / f"{name}.npz").read_bytes()
    except FileNotFoundError as missing:
        raise ValueError(f"{missing.filename} is missing; {cure}") from None
    except json.JSONDecodeError:
        raise ValueError(f"{DATA / name}.json is damaged; {cure}") from None
    if hashlib.sha256(content).hexdigest() != record.get("sha256"):
        raise ValueError(f"{DATA / name}.npz is damaged: it has not the SHA-256 of {name}.json; {cure}")
    return record, content


def load(
    name: str, classes: tuple[int, ...] | None = None, pixels: str = "centred", pool: int = 1
) -> ImageSet:
    """Images of the book: `mnist` (digits 1, 3, 8), `fashion` (T-shirt 0, shirt 6, ankle boot 9), `digits` (8 × 8, all ten) or
    `photographs` (256 × 256, for `physgen.scales.photographs`, each a class of its own).

    Parameters
    ----------
    name : str
        The set.
    classes : tuple of int, optional
        Labels to keep; all by default.
    pixels : str
        The convention, which moves every time: the noise has variance 1 at the end, so data twice as large are lost log 2 later.
        `"signed"` scales black to −1 and white to 1; `"centred"` subtracts from that the mean training image of the chosen
        classes (the default: the book's times are in this one); `"unit"` has black 0 and white 1, as in the table of Biroli et
        al. (2024), whose covariances are a quarter.
    pool : int
        Side of the blocks of pixels that are averaged into one; must divide height and width.

    Returns
    -------
    ImageSet
        Rows of float32 pixels, for training and for testing, in the order of their source.

    Raises
    ------
    ValueError
        If an argument is not one of those above, or a file is missing or damaged; it says what to do then.

    Notes
    -----
    Sources, licences and hashes: `book/data/README.md` and the JSON beside each set.
    """
    if pixels not in CONVENTIONS:
        raise ValueError(f"pixels: got {pixels!r}; expected one of {', '.join(CONVENTIONS)}")
    record, content = _read(name)
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        raw, labels, test = (torch.from_numpy(arrays[key]) for key in ("images", "labels", "test"))
    known = tuple(int(label) for label in record["classes"])
    chosen = known if classes is None else tuple(classes)
    if not chosen or len(set(chosen)) < len(chosen) or not set(chosen) <= set(known):
        raise ValueError(f"classes: got {classes!r}; expected different ones of {known}, those of {name}")
    kept = torch.isin(labels, torch.tensor(chosen, dtype=labels.dtype))
    values = _pooled(raw[kept].float() / record["pixels"], count(pool, "pool"))
    if pixels != "unit":
        values = 2 * values - 1
    labels, test, shape = labels[kept].long(), test[kept], tuple(values.shape[1:])
    rows = values.flatten(1)
    mean = rows[~test].mean(0) if pixels == "centred" else torch.zeros(rows.shape[1])
    return ImageSet(
        rows[~test] - mean,
        labels[~test],
        rows[test] - mean,
        labels[test],
        mean,
        shape,
        chosen,
        tuple(record["classes"][str(label)] for label in chosen),
    )


def _pooled(images: torch.Tensor, pool: int) -> torch.Tensor:
    """Means over blocks of pool × pool pixels."""
    if pool == 1:
        return images
    n, h, w = images.shape
    if h % pool or w % pool:
        raise ValueError(f"pool: got {pool}; expected a divisor of {h} and of {w}")
    return images.reshape(n, h // pool, pool, w // pool, pool).mean((2, 4))


# ------------------------------------------------------------------------------------------------- speciation: t_S


class PaperRow(NamedTuple):
    """A row of the table of Biroli et al. (2024): pixels in [0, 1], Λ of the first channel, t_S = ½ log Λ."""

    data: str
    n: int
    d: int
    top: float
    time: float


# ImageNet and LSUN may not be redistributed, and are in no package: only the first two rows can be computed again.
PAPER = (
    PaperRow("MNIST 1/8", 10_000, 1024, 7.66, 1.02),
    PaperRow("CIFAR horses/cars", 3000, 3072, 16.72, 1.41),
    PaperRow("ImageNet 16²", 2000, 768, 3.05, 0.56),
    PaperRow("ImageNet 32²", 2000, 3072, 12.11, 1.25),
    PaperRow("LSUN 64²", 40_000, 12288, 60.52, 2.05),
)


class Modes(NamedTuple):
    """The covariance of two classes of images, and how their difference lies in it."""

    spectrum: torch.Tensor  # (d,) float64, descending
    top: float  # Λ
    error: float  # of Λ, standard: the deviation of (v·a)² over √n
    time: float  # t_S = ½ log Λ
    class_square: float  # |δm/2|², half the difference of the class means, squared
    overlap: float  # |cos| between it and the first eigenvector


def modes(images: torch.Tensor, labels: torch.Tensor) -> Modes:
    """Λ, t_S = ½ log Λ, and whether Λ is the variance between the classes: if so, |δm/2|² ≈ Λ and the overlap is 1.

    Parameters
    ----------
    images : torch.Tensor, shape (n, d)
    labels : torch.Tensor, shape (n,)
        Integers, two different ones.

    Returns
    -------
    Modes
        Of the covariance (1/n) Σ (a − ā)(a − ā)ᵀ; computed in float64.

    Raises
    ------
    ValueError
        If a shape does not fit, a number is not finite, or there are not two classes.

    Notes
    -----
    Biroli et al. (2024): t_S = ½ log Λ. The rule is one for classes that Λ separates; it says nothing of a mode within a class.
    """
    a, classes = _labelled(images, labels)
    if len(classes) != 2:
        raise ValueError(f"labels: got the classes {classes.tolist()}; expected two")
    a = a.double()
    half = (a[labels == classes[1]].mean(0) - a[labels == classes[0]].mean(0)) / 2
    centred = a - a.mean(0)
    values, axes = torch.linalg.eigh(centred.T @ centred / len(a))
    first, top = axes[:, -1], float(values[-1])
    along = (centred @ first).square()
    return Modes(
        values.flip(0).clamp(min=0),
        top,
        float(along.std()) / math.sqrt(len(a)),
        math.log(top) / 2,
        float(half.square().sum()),
        float((half @ first).abs() / half.norm()),
    )


def rescaled_time(t, factor: float) -> torch.Tensor:
    """The time t' at which data c times as large are as noisy as at t: e^{2t'} − 1 = c² (e^{2t} − 1), float64, the shape of t.

    All weights w_μ at t' are those at t, so every transition moves so, exactly. With pixels in [−1, 1] for [0, 1], c = 2, that
    is by log 2 at late times and by a factor 4 at early ones. ½ log Λ moves by log 2 always, for it is ½ log(1 + Λ) at large Λ.

    Raises
    ------
    ValueError
        If t ≤ 0 or the factor is not positive.
    """
    c = number(factor, "factor", 0, strict=True)
    return torch.log1p(c * c * torch.expm1(2 * _times(t))) / 2


class Curve(NamedTuple):
    """Means at a list of times, and their standard errors; (T,) float64."""

    mean: torch.Tensor
    error: torch.Tensor


class CloneCurves(NamedTuple):
    """What clones of the exact empirical score do, at a list of times."""

    same_class: Curve  # φ(t) = E Σ_c p_c²
    same_image: Curve  # E w_own = E Σ_μ w_μ²
    same_image_of: torch.Tensor  # (T, K) the same for points that come from each class
    information: Curve  # log n + E log w_own, nats: at most log n, and a lower bound on I(a; x_t)


def class_log_densities(
    x: torch.Tensor, t: float, images: torch.Tensor, labels: torch.Tensor
) -> torch.Tensor:
    """log of (n_c/n) p_c(x), p_c the empirical density of class c at time t: (batch, K) float64, classes ascending.

    Their softmax is the exact p_c = Σ_{μ in c} w_μ; their log-sum-exp is log p_emp. The workspace does not grow with n.

    Raises
    ------
    ValueError
        If t ≤ 0, a shape or dtype does not fit, or a number is not finite.
    """
    return _class_log_densities(x, t, _split(*_labelled(images, labels), labels))


def clone_curves(
    times: torch.Tensor,
    images: torch.Tensor,
    labels: torch.Tensor,
    samples: int = 400,
    generator: torch.Generator | None = None,
) -> CloneCurves:
    """φ(t), the probability that two clones end on one image, and the information of a noisy image of its original: no trajectory.

    Parameters
    ----------
    times : torch.Tensor, shape (T,)
        > 0.
    images : torch.Tensor, shape (n, d)
        The training set.
    labels : torch.Tensor, shape (n,)
        Integers; any number of classes.
    samples : int
        Noisy images x_t, ≥ 2, the same images and noise at all times: the curves are smooth, their errors go together. One time
        takes samples × n × d multiplications, twice.
    generator : torch.Generator, optional
        On the CPU; None for fresh entropy.

    Returns
    -------
    CloneCurves

    Raises
    ------
    ValueError
        If an argument is out of its range or its shape.

    Notes
    -----
    Biroli et al. (2024), the clones of their figures 3 and 5. E w_own = E Σ w² since, given x_t, the original is a draw from w
    (`physgen.memorization.collapse.planted`).
    """
    a, classes = _labelled(images, labels)
    grid, groups, n = _grid(times), _split(a, classes, labels), len(a)
    index, z = _draws(*a.shape, samples, generator)
    of_class = (labels[index, None] == classes).double()
    rows = []
    for t in grid:
        s, delta = _noise(t)
        x = s * a[index] + math.sqrt(delta) * z
        logs = _class_log_densities(x, t, groups)
        own = _own_log_weight(x, a[index], t, n, logs)
        rows.append((logs.softmax(1).square().sum(1), own.exp(), own + math.log(n)))
    same_class, same_image, information = (torch.stack(part) for part in zip(*rows, strict=True))
    per_class = same_image @ of_class / of_class.sum(0)
    return CloneCurves(_curve(same_class), _curve(same_image), per_class, _curve(information))


def crossing(times: torch.Tensor, curve: Curve, level: float) -> Estimate:
    """When a curve crosses a level, by linear interpolation, and the error that the curve's own gives it.

    Parameters
    ----------
    times : torch.Tensor, shape (T,)
        In ascending or descending order.
    curve : Curve
        Noise may make it cross several times: the middle between the first and the last is taken.
    level : float

    Returns
    -------
    Estimate
        The time, and the curve's error there divided by its slope.

    Raises
    ------
    ValueError
        If the curve does not cross the level.
    """
    grid, level = torch.tensor(_grid(times)), number(level, "level")
    mean, error = (torch.as_tensor(part, dtype=torch.float64) for part in curve)
    if mean.shape != grid.shape or error.shape != grid.shape or not bool(mean.isfinite().all()):
        raise ValueError(f"curve: got shapes {tuple(mean.shape)}; expected finite numbers, one for each time")
    above = mean >= level
    places = (above[1:] != above[:-1]).nonzero()[:, 0]
    if not len(places):
        raise ValueError(f"level: got {level:g}; expected one between {mean.min():g} and {mean.max():g}")
    ends = []
    for k in {int(places[0]), int(places[-1])}:
        slope = (mean[k + 1] - mean[k]) / (grid[k + 1] - grid[k])
        ends.append((grid[k] + (level - mean[k]) / slope, error[k : k + 2].mean() / slope.abs()))
    time, spread = (float(sum(part)) / len(ends) for part in zip(*ends, strict=True))
    return Estimate(time, spread)


# ------------------------------------------------------------------------------------------------- theory from two moments


class GaussianClasses(NamedTuple):
    """Each class replaced by the Gaussian of its mean and covariance; float64, classes ascending."""

    shares: torch.Tensor  # (K,)
    means: torch.Tensor  # (K, d)
    variances: torch.Tensor  # (K, d) along
    axes: torch.Tensor  # (K, d, d) its columns

    def log_densities(self, x: torch.Tensor, t: float) -> torch.Tensor:
        """log of share_c N(x; s m_c, s² C_c + Δ_t 1), (batch, K) float64."""
        s, delta = _noise(number(t, "t", 0, strict=True))
        x, logs = x.double(), []
        for share, mean, variance, axes in zip(*self, strict=True):
            v = s * s * variance + delta
            square = ((x - s * mean) @ axes).square() / v
            logs.append(share.log() - (square + torch.log(2 * math.pi * v)).sum(1) / 2)
        return torch.stack(logs, 1)

    def log_density(self, x: torch.Tensor, t: float) -> torch.Tensor:
        """log q_t(x) of the mixture, (batch,) float64."""
        return self.log_densities(x, t).logsumexp(1)


def gaussian_classes(images: torch.Tensor, labels: torch.Tensor) -> GaussianClasses:
    """The mixture of Gaussians with the mean and covariance of each class: what two moments say of the images.

    Raises
    ------
    ValueError
        If a shape does not fit or a number is not finite.
    """
    groups = _split(*_labelled(images, labels), labels)
    parts = []
    for group, log_share in groups:
        a = group.double()
        centred = a - a.mean(0)
        values, axes = torch.linalg.eigh(centred.T @ centred / len(a))
        share = torch.tensor(math.exp(log_share), dtype=torch.float64)
        parts.append((share, a.mean(0), values.clamp(min=0), axes))
    return GaussianClasses(*(torch.stack(part) for part in zip(*parts, strict=True)))


def gaussian_clones(
    times: torch.Tensor, model: GaussianClasses, samples: int = 1000, generator: torch.Generator | None = None
) -> Curve:
    """φ(t) = E Σ_c p_c² of Gaussian classes, over points of their own: the theory of speciation at real moments.

    With equal covariances σ² 1 it is f(κ_t) of `physgen.exact.speciation`.

    Raises
    ------
    ValueError
        If an argument is out of its range or its shape.
    """
    grid, own = _grid(times), stream(generator)
    k = torch.multinomial(model.shares, count(samples, "samples", 2), replacement=True, generator=own)
    z = torch.randn(samples, model.means.shape[1], dtype=torch.float64, generator=own)
    # the symmetric root of a covariance, so that no choice of eigenvectors enters
    along = [z[k == c] @ axes for c, axes in enumerate(model.axes)]
    found = []
    for t in grid:
        s, delta = _noise(t)
        x = torch.empty_like(z)
        for c in range(len(model.shares)):
            spread = (s * s * model.variances[c] + delta).sqrt()
            x[k == c] = s * model.means[c] + (along[c] * spread) @ model.axes[c].T
        found.append(model.log_densities(x, t).softmax(1).square().sum(1))
    return _curve(torch.stack(found))


# ------------------------------------------------------------------------------------------------- collapse: t_C


def information_bound(
    times: torch.Tensor,
    test: torch.Tensor,
    log_density: Callable[[torch.Tensor, float], torch.Tensor],
    samples: int = 400,
    generator: torch.Generator | None = None,
) -> Curve:
    """−E log q(x_t) − S_Gauss(t) over noisy test images, nats: the held-out cross-entropy, at least I(a; x_t), equal if q = p_t.

    It exceeds I by the divergence of p_t from q. The noise's own |z|²/2 − d/2 is taken off as a control variate.

    Parameters
    ----------
    times : torch.Tensor, shape (T,)
        > 0.
    test : torch.Tensor, shape (m, d)
        Images that q was not made from: else this is no bound.
    log_density : callable
        log q(x, t), (batch,): `GaussianClasses.log_density`, or ``lambda x, t: collapse.log_density(x, t, images)``.
    samples : int
        Noisy images, ≥ 2, the same images and noise at all times.
    generator : torch.Generator, optional
        On the CPU; None for fresh entropy.

    Returns
    -------
    Curve

    Raises
    ------
    ValueError
        If an argument is out of its range or its shape, or log q is not finite.
    """
    a, grid = _rows(test, "test"), _grid(times)
    index, z = _draws(*a.shape, samples, generator)
    half_square, found = z.double().square().sum(1) / 2, []
    for t in grid:
        s, delta = _noise(t)
        log_q = log_density(s * a[index] + math.sqrt(delta) * z, t).double()
        if log_q.shape != half_square.shape or not bool(log_q.isfinite().all()):
            raise ValueError(
                f"log_density: got {log_q!r} at t = {t:g}; expected ({len(index)},) finite numbers"
            )
        found.append(-log_q - half_square - a.shape[1] / 2 * math.log(2 * math.pi * delta))
    return _curve(torch.stack(found))


def gaussian_information(times, spectrum: torch.Tensor) -> torch.Tensor:
    """½ Σ_k log(1 + λ_k/(e^{2t} − 1)), nats, float64, the shape of t: at least I(a; x_t), for of all laws the Gaussian has most entropy.

    Parameters
    ----------
    times : float or torch.Tensor
        > 0.
    spectrum : torch.Tensor, shape (d,)
        λ_k ≥ 0 of the covariance; that of few images is too poor, and the bound then too low.

    Raises
    ------
    ValueError
        If an argument is out of its range.
    """
    t, values = _times(times), spectrum.double()
    if values.ndim != 1 or not bool((values.isfinite() & (values >= 0)).all()):
        raise ValueError(f"spectrum: got shape {tuple(values.shape)}; expected (d,) numbers >= 0")
    return torch.log1p(values / torch.expm1(2 * t)[..., None]).sum(-1) / 2


class Distances(NamedTuple):
    """Squared distances d* to the nearest s a_μ in units of d Δ_t, that of the noise, and whose image that is."""

    trained: Curve  # of noisy training images: at most 1 but for fluctuations, and 1 once collapsed
    fresh: Curve  # of noisy test images
    own: Curve  # share of noisy training images whose nearest one is their own


def distance_curves(
    times: torch.Tensor,
    images: torch.Tensor,
    test: torch.Tensor,
    samples: int = 200,
    generator: torch.Generator | None = None,
) -> Distances:
    """d*(x) = min_μ |x − s a_μ|² and μ* = argmin, over noisy training and noisy test images.

    E d* = d Δ_t where each training image has its noise to itself, and less before: then the nearest is another one.

    Parameters
    ----------
    times : torch.Tensor, shape (T,)
        > 0.
    images, test : torch.Tensor, shapes (n, d) and (m, d)
    samples : int
        Noisy images of either kind, ≥ 2.
    generator : torch.Generator, optional
        On the CPU; None for fresh entropy.

    Returns
    -------
    Distances

    Raises
    ------
    ValueError
        If an argument is out of its range or its shape.

    Notes
    -----
    Biroli et al. (2024), the quantities μ*(x̃) and d*(x̃) of their collapse; claim BIR-21.
    """
    a, b, grid, own = _rows(images, "images"), _rows(test, "test"), _grid(times), stream(generator)
    index, z = _draws(*a.shape, samples, own)
    other, y = _draws(*b.shape, samples, own)
    rows = []
    for t in grid:
        s, delta = _noise(t)
        here = collapse.nearest(s * a[index] + math.sqrt(delta) * z, a, t)
        there = collapse.nearest(s * b[other] + math.sqrt(delta) * y, a, t)
        unit = a.shape[1] * delta
        near = here.index == index
        rows.append((here.distance.square() / unit, there.distance.square() / unit, near.double()))
    return Distances(*(_curve(torch.stack(part)) for part in zip(*rows, strict=True)))


# ------------------------------------------------------------------------------------------------- trajectories


def reverse_step(
    x: torch.Tensor, t: float, end: float, images: torch.Tensor, generator: torch.Generator | None = None
) -> torch.Tensor:
    """x at `end` < t given x at t, a draw of the reverse process with the empirical score: exact for a step of any length.

    Given x_t the original is image μ with probability w_μ(x_t), and given both, x_r at r = end is Gaussian (a bridge),

        mean (Δ_{t−r} e^{−r} a_μ + Δ_r e^{−(t−r)} x_t)/Δ_t,    variance Δ_r Δ_{t−r}/Δ_t.

    Parameters
    ----------
    x : torch.Tensor, shape (batch, d)
    t, end : float
        t > end ≥ 0; at end = 0 the result is a training image.
    images : torch.Tensor, shape (n, d)
        Dtype of x.
    generator : torch.Generator, optional
        On the CPU; None for fresh entropy.

    Returns
    -------
    torch.Tensor
        (batch, d), dtype of x.

    Raises
    ------
    ValueError
        If an argument is out of its range or its shape.
    """
    a, t, end = _rows(images, "images"), number(t, "t", 0, strict=True), number(end, "end", 0)
    if end >= t:
        raise ValueError(f"end: got {end}; expected less than t = {t}")
    own = stream(generator)
    w = collapse.weights(x, t, a)
    chosen = a[torch.multinomial(w, 1, generator=own)[:, 0]]
    whole, last, step = (-math.expm1(-2 * u) for u in (t, end, t - end))
    mean = (step * math.exp(-end) * chosen + last * math.exp(end - t) * x) / whole
    return mean + math.sqrt(last * step / whole) * torch.randn(x.shape, dtype=x.dtype, generator=own)


def reverse_paths(
    x: torch.Tensor, times: torch.Tensor, images: torch.Tensor, generator: torch.Generator | None = None
) -> torch.Tensor:
    """Paths from x at times[0] down the grid by `reverse_step`, (T, batch, d): draws of the exact law at every time.

    Raises
    ------
    ValueError
        If the times do not descend to ≥ 0, or as in `reverse_step`.
    """
    grid = _descending(times, least=0.0, points=1)
    own, kept = stream(generator), [x]
    for t, end in pairwise(grid):
        kept.append(reverse_step(kept[-1], t, end, images, own))
    return torch.stack(kept)


class UTurns(NamedTuple):
    """Training images noised up to t and brought back by the reverse diffusion; all (samples,)."""

    origin: torch.Tensor  # int64, the image at the start
    arrived: torch.Tensor  # int64, the nearest image at the end
    distance: torch.Tensor  # float64, to it
    same_image: torch.Tensor  # bool
    same_class: torch.Tensor  # bool
    image_weight: torch.Tensor  # float64, w of the origin at x_t: what the exact score gives `same_image`
    class_weight: torch.Tensor  # float64, p of its class at x_t: the same for `same_class`


def u_turns(
    t: float,
    images: torch.Tensor,
    labels: torch.Tensor,
    samples: int = 200,
    steps: int = 60,
    end: float = 0.02,
    generator: torch.Generator | None = None,
) -> UTurns:
    """Noise training images up to t, then integrate dx = (x + 2S) dτ + √2 dW with their empirical score S down to `end`.

    Parameters
    ----------
    t : float
        Where the path turns, t > end.
    images : torch.Tensor, shape (n, d)
        samples × n × d × steps operations must be affordable.
    labels : torch.Tensor, shape (n,)
    samples, steps : int
        Paths; Euler steps, equal in log σ with σ² = e^{2t} − 1.
    end : float
        > 0: the score diverges at 0. The noise that is left is small against the distance of two images.
    generator : torch.Generator, optional
        On the CPU; None for fresh entropy.

    Returns
    -------
    UTurns
        The means of `same_image` and `image_weight` agree, and so do those of `same_class` and `class_weight`, up to the order of
        the steps: an image keeps its class with the probability φ(t) of two clones.

    Raises
    ------
    ValueError
        If an argument is out of its range or its shape.

    Notes
    -----
    Behjoo, Chertkov (2023); Sclocchi, Favero, Wyart (2024); Biroli et al. (2024).
    """
    a, classes = _labelled(images, labels)
    grid, own = diffusion.time_grid(t, end, steps), stream(generator)
    index, z = _draws(*a.shape, samples, own)
    s, delta = _noise(t)
    x = s * a[index] + math.sqrt(delta) * z
    logs = _class_log_densities(x, t, _split(a, classes, labels))
    image_weight = _own_log_weight(x, a[index], t, len(a), logs).exp()
    class_weight = logs.softmax(1)[labels[index, None] == classes]
    back = diffusion.reverse_sample(x, lambda y, u: collapse.empirical_score(y, u, a), grid, generator=own)
    arrived, distance = collapse.nearest(back, a, end)
    same_image, same_class = arrived == index, labels[arrived] == labels[index]
    return UTurns(index, arrived, distance, same_image, same_class, image_weight, class_weight)


class TapePath(NamedTuple):
    """Frames of a path in the order of their times, and what the training set makes of each; first dimension k."""

    frames: torch.Tensor  # (k, h, w) uint8, 0 black and 255 white
    probability: torch.Tensor  # (k,) float64, of the first class, by the exact weights
    nearest: torch.Tensor  # (k,) int64, the nearest training image, a place in `Tape.training`
    distance: torch.Tensor  # (k,) float64, d*/(d Δ_t)


class Tape(NamedTuple):
    """One image on its way into noise, and from there back to the training set on paths that part."""

    times: torch.Tensor  # (K,) float64, descending
    image: torch.Tensor  # (h, w) uint8, the original
    fork: int  # frames of the trunk
    forward: TapePath  # of K frames: the image noised
    trunk: TapePath  # of `fork` frames: back from forward.frames[0]
    branches: tuple[TapePath, ...]  # of K − fork frames each, all from the end of the trunk
    training: torch.Tensor  # (U, h, w) uint8, the training images that are nearest to some frame
    indices: torch.Tensor  # (U,) int64, their places in the training set
    labels: torch.Tensor  # (U,) int64

    def params(self, names: Sequence[str]) -> dict:
        """What `explorables.show("image_tape", …)` takes, but for ``t_S`` and ``t_C``; `names` are those of the two classes."""

        def entry(path: TapePath) -> dict:
            digits = {
                "probability": [round(p, 4) for p in path.probability.tolist()],
                "distance": [round(v, 3) for v in path.distance.tolist()],
            }
            return {"frames": path.frames, "nearest": path.nearest.tolist()} | digits

        return {
            "size": list(self.image.shape),
            "times": self.times.tolist(),
            "labels": list(names),
            "training": self.training,
            "indices": self.indices.tolist(),
            "fork": self.fork,
            "trunk": entry(self.trunk),
            "branches": [entry(path) for path in self.branches],
            "forward": entry(self.forward),
        }


def tape(
    data: ImageSet,
    image: int,
    times: torch.Tensor,
    fork: int,
    branches: int = 2,
    generator: torch.Generator | None = None,
    score: networks.Score | None = None,
) -> Tape:
    """One training image's path into noise, and clones on the way back: by the exact reverse process of the training set, or by a score.

    Parameters
    ----------
    data : ImageSet
        Of two classes; `data.first(n)` keeps it small.
    image : int
        Its place in `data.images`.
    times : torch.Tensor, shape (K,)
        Descending to > 0, both ends included; the path into noise runs through them backwards.
    fork : int
        1 ≤ fork < K: the clones are one up to times[fork − 1].
    branches : int
        How many there are, ≥ 1.
    generator : torch.Generator, optional
        On the CPU; None for fresh entropy.
    score : callable, optional
        S(x, t) of a network, which takes four steps of `networks.descend` from frame to frame; what the training set makes of its
        frames is exact.

    Returns
    -------
    Tape
        In the pixels of the frames the mean image is added back, times e^{−t}; what noise pushes beyond black and white is clipped.

    Raises
    ------
    ValueError
        If an argument is out of its range or its shape.
    """
    grid, clones = _descending(times, least=1e-9), count(branches, "branches")
    if count(image, "image", 0) >= len(data.images):
        raise ValueError(f"image: got {image}; expected less than {len(data.images)}")
    if count(fork, "fork") >= len(grid):
        raise ValueError(f"fork: got {fork}; expected less than {len(grid)}, the number of times")
    if len(data.classes) != 2:
        raise ValueError(f"data: got the classes {data.classes}; expected two")
    own, a = stream(generator), data.images

    def back(x: torch.Tensor, span: torch.Tensor) -> torch.Tensor:
        return reverse_paths(x, span, a, own) if score is None else _descents(x, score, span, own)

    forward = _noising(a[image], grid, own)
    trunk = back(forward[:1], times[:fork])[:, 0]
    ends = back(trunk[-1:].repeat(clones, 1), times[fork - 1 :])[1:]
    rows = [forward, trunk, *ends.unbind(1)]
    spans = [grid, grid[:fork], *[grid[fork:]] * clones]
    near = [_nearest_along(x, span, a) for x, span in zip(rows, spans, strict=True)]
    indices, place = torch.cat([index for index, _ in near]).unique(return_inverse=True)
    develop = _developer(data)
    paths = [
        TapePath(develop(x, span), _first_class(x, span, data), at, distance)
        for x, span, at, (_, distance) in zip(
            rows, spans, place.split([len(x) for x in rows]), near, strict=True
        )
    ]
    return Tape(
        times.double(),
        develop(a[image][None], [0.0])[0],
        fork,
        paths[0],
        paths[1],
        tuple(paths[2:]),
        develop(a[indices], [0.0] * len(indices)),
        indices,
        data.labels[indices],
    )


def _descents(x: torch.Tensor, score: networks.Score, times: torch.Tensor, generator) -> torch.Tensor:
    """(T, batch, d): positions of `networks.descend` at the times, with four steps of equal angle between one and the next."""
    kept, parts = [x], torch.linspace(0, 1, 5, dtype=torch.float64)
    angles = torch.exp(-times.double()).acos()
    for (t, end), (high, low) in zip(pairwise(times.tolist()), pairwise(angles.tolist()), strict=True):
        steps = -(high + (low - high) * parts).cos().log()
        steps[0], steps[-1] = t, end
        kept.append(networks.descend(kept[-1], score, steps, generator))
    return torch.stack(kept)


def _nearest_along(x: torch.Tensor, times: list[float], a: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Index of the nearest training image and d*/(d Δ_t) at each point of a path."""
    found = [collapse.nearest(row[None], a, t) for row, t in zip(x, times, strict=True)]
    unit = torch.tensor([a.shape[1] * _noise(t)[1] for t in times], dtype=torch.float64)
    return torch.cat([f.index for f in found]), torch.cat([f.distance for f in found]).square() / unit


def _first_class(x: torch.Tensor, times: list[float], data: ImageSet) -> torch.Tensor:
    """The exact weight of data.classes[0] at each point of a path."""
    a, classes = _labelled(data.images, data.labels)
    groups = _split(a, classes, data.labels)
    logs = [_class_log_densities(row[None], t, groups) for row, t in zip(x, times, strict=True)]
    return torch.cat(logs).softmax(1)[:, classes == data.classes[0]].sum(1)


def _noising(a: torch.Tensor, grid: list[float], generator: torch.Generator) -> torch.Tensor:
    """(T, d) one path x_t from a, at the descending times: drawn upwards from the last."""
    x, now, path = a, 0.0, []
    for t in reversed(grid):
        s, delta = _noise(t - now)
        x, now = s * x + math.sqrt(delta) * torch.randn(a.shape, generator=generator), t
        path.append(x)
    return torch.stack(path[::-1])


def _developer(data: ImageSet) -> Callable[[torch.Tensor, list[float]], torch.Tensor]:
    """From rows at their times to frames of uint8."""
    pixels = data.images + data.mean
    low, high = float(pixels.min()), float(pixels.max())

    def develop(rows: torch.Tensor, times: list[float]) -> torch.Tensor:
        s = torch.tensor([math.exp(-t) for t in times])[:, None]
        values = (rows + s * data.mean - low) / (high - low)
        return (255 * values.clamp(0, 1)).round().to(torch.uint8).view(-1, *data.shape)

    return develop


# ------------------------------------------------------------------------------------------------- input, and what is shared


def _rows(value, name: str) -> torch.Tensor:
    if not isinstance(value, torch.Tensor) or value.ndim != 2 or not value.is_floating_point():
        came = f"{value.dtype} {tuple(value.shape)}" if isinstance(value, torch.Tensor) else repr(value)
        raise ValueError(f"{name}: got {came}; expected floating-point numbers of shape (n, d)")
    if not value.numel() or not bool(value.isfinite().all()):
        raise ValueError(f"{name}: got no number, NaN or infinity; expected finite numbers, n >= 1")
    return value


def _labelled(images, labels) -> tuple[torch.Tensor, torch.Tensor]:
    """The images, and the classes that there are, ascending."""
    a = _rows(images, "images")
    if not isinstance(labels, torch.Tensor) or labels.shape != a.shape[:1] or labels.is_floating_point():
        came = f"{labels.dtype} {tuple(labels.shape)}" if isinstance(labels, torch.Tensor) else repr(labels)
        raise ValueError(f"labels: got {came}; expected integers of shape ({len(a)},), one for each image")
    return a, labels.unique()


def _split(images, classes, labels) -> list[tuple[torch.Tensor, float]]:
    """The images of each class, and the logarithm of their share."""
    return [(group := images[labels == c], math.log(len(group) / len(images))) for c in classes]


def _class_log_densities(x, t: float, groups) -> torch.Tensor:
    return torch.stack([collapse.log_density(x, t, a).double() + share for a, share in groups], 1)


def _own_log_weight(x, origin, t: float, n: int, logs: torch.Tensor) -> torch.Tensor:
    """log w of the image that x comes from, given the class densities at x; from x as it was rounded."""
    s, delta = _noise(t)
    square = (x.double() - s * origin.double()).square().sum(1) / (2 * delta)
    log_joint = -square - x.shape[1] / 2 * math.log(2 * math.pi * delta) - math.log(n)
    return (log_joint - logs.logsumexp(1)).clamp(max=0)


def _grid(times) -> list[float]:
    """Times > 0, one after the other in either direction."""
    t = _times(times)
    if t.ndim != 1 or len(t) < 1 or not bool((t.diff() > 0).all() or (t.diff() < 0).all()):
        raise ValueError(f"times: got {t.tolist()}; expected a list that rises or falls")
    return t.tolist()


def _descending(times, least: float, points: int = 2) -> list[float]:
    fits = isinstance(times, torch.Tensor) and times.ndim == 1 and len(times) >= points
    if not fits or not bool((times.diff() < 0).all()) or not float(times[-1]) >= least:
        raise ValueError(f"times: got {times!r}; expected at least {points}, descending to >= {least:g}")
    return times.double().tolist()


def _noise(t: float) -> tuple[float, float]:
    return math.exp(-t), -math.expm1(-2 * t)


def _draws(n: int, d: int, samples, generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Images to noise, and float32 noise for them."""
    own = stream(generator)
    index = torch.randint(n, (count(samples, "samples", 2),), generator=own)
    return index, torch.randn(len(index), d, generator=own)


def _curve(values: torch.Tensor) -> Curve:
    """Mean and standard error over draws; (T, samples)."""
    return Curve(values.mean(1), values.std(1) / math.sqrt(values.shape[1]))
