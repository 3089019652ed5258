"""Photographs and the network that is trained to denoise them (second half of the chapter `scales/wavelets`).

Pixels x are in [0, 1], the noise is y = x + σz with σ from 0.04 to 0.3. The network is convolutional and has no bias,

    f(y) = y − net(y),        f(λy) = λ f(y) for λ > 0,

so that f(y) = J_f(y) y: a linear filter that the image chooses, where Wiener's is one for all images and a threshold one of the binary ones
in a fixed basis (Mohan, Kadkhodaie, Simoncelli, Fernandez-Granda 2020). It is blind: nobody tells it σ. The loss E|f(y) − x|²/dσ² weighs
all noises alike.
"""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

from physgen.checks import count, stream
from physgen.memorization import images, networks

__all__ = [
    "SIGMAS",
    "PhotographDenoiser",
    "denoising_loss",
    "load_denoiser",
    "photograph",
    "training_photographs",
]

DATA = Path(__file__).resolve().parents[3] / "book" / "data"
SIGMAS = 0.04, 0.3  # of training
PATCH = 48


def photograph(name: str = "camera", pool: int = 1) -> torch.Tensor:
    """A grey photograph, (256, 256) float32 of pixels in [0, 1]; `"camera"` is the one that no network was trained on.

    Parameters
    ----------
    name : str
        ``"camera"``, ``"astronaut"``, ``"astronaut's face"``, ``"chelsea, left"``, ``"chelsea, right"``, ``"coffee, left"``, ``"coffee, right"``,
        ``"brick"`` or ``"gravel"``.
    pool : int
        Side of the blocks of pixels that are averaged into one; a power of 2.

    Raises
    ------
    ValueError
        If there is no such photograph, `pool` does not divide 256, or the file is missing or damaged.

    Notes
    -----
    Sources and licences (CC0, public domain): `book/data/photographs.json`.
    """
    found = images.load("photographs", pixels="unit", pool=pool)
    if name not in found.names:
        raise ValueError(f"name: got {name!r}; expected one of {', '.join(found.names)}")
    label = found.classes[found.names.index(name)]
    rows, labels = torch.cat([found.images, found.test]), torch.cat([found.labels, found.test_labels])
    return rows[labels == label][0].view(found.shape)


def training_photographs() -> torch.Tensor:
    """The eight others, (8, 256, 256) float32 of pixels in [0, 1]."""
    found = images.load("photographs", pixels="unit")
    return found.images.view(-1, *found.shape)


class PhotographDenoiser(nn.Module):
    """f(y) = y − net(y) for images (batch, h, w) or (h, w) with even h and w, in their dtype: 3 × 3 convolutions and ReLUs, no bias.

    The net works at half the resolution: 2 × 2 pixels become four channels (Zhang, Zuo, Zhang 2018), which makes it four times as fast and
    sees 2(2·depth + 1) pixels across. The filters of the first layer have mean zero: net(y + c) = net(y), brightness passes unseen. Beyond the
    edge the image is mirrored. Untrained, f(y) = y.

    Parameters
    ----------
    channels : int
    depth : int
        Number of convolutions, ≥ 2.
    generator : torch.Generator, optional
        For the first weights: normal with variance 2/fan-in, the last layer zero.

    Raises
    ------
    ValueError
        If a number is out of range.
    """

    def __init__(self, channels: int = 48, depth: int = 6, generator: torch.Generator | None = None):
        super().__init__()
        self.channels, self.depth, own = (
            count(channels, "channels"),
            count(depth, "depth", 2),
            stream(generator),
        )
        widths = [4] + [self.channels] * (self.depth - 1) + [4]
        self.weights = nn.ParameterList()
        for layer in range(self.depth):
            size = math.sqrt(2 / (9 * widths[layer])) if layer < self.depth - 1 else 0.0
            self.weights.append(
                nn.Parameter(size * torch.randn(widths[layer + 1], widths[layer], 3, 3, generator=own))
            )

    def forward(self, y: torch.Tensor) -> torch.Tensor:
        """x̂ for noisy images."""
        h = F.pixel_unshuffle(_batch(y).to(self.weights[0].dtype)[:, None], 2)
        for layer, weight in enumerate(self.weights):
            if layer == 0:
                weight = weight - weight.mean((1, 2, 3), keepdim=True)
            h = F.conv2d(F.pad(h.relu() if layer else h, (1, 1, 1, 1), mode="reflect"), weight)
        return y - F.pixel_shuffle(h, 2).reshape(y.shape).to(y.dtype)


def _batch(y) -> torch.Tensor:
    """(batch, h, w) of finite numbers, h and w even."""
    if not isinstance(y, torch.Tensor) or not y.is_floating_point() or y.ndim not in (2, 3):
        came = f"{y.dtype}, shape {tuple(y.shape)}" if isinstance(y, torch.Tensor) else type(y).__name__
        raise ValueError(f"y: got {came}; expected a floating-point tensor of shape (h, w) or (batch, h, w)")
    if min(y.shape) < 1 or min(y.shape[-2:]) < 4 or y.shape[-1] % 2 or y.shape[-2] % 2:
        raise ValueError(f"y: got shape {tuple(y.shape)}; expected even sides ≥ 4")
    if not bool(y.detach().isfinite().all()):
        raise ValueError("y: got NaN or infinity; expected finite numbers")
    return y if y.ndim == 3 else y[None]


def denoising_loss(
    model: nn.Module, rows: torch.Tensor, generator: torch.Generator | None = None
) -> torch.Tensor:
    """E|f(y) − x|²/dσ² over one piece of 48 × 48 pixels of each image, turned and mirrored at random, σ log-uniform in `SIGMAS`; a scalar.

    For `physgen.memorization.networks.train`: it tells how images are given, as rows (batch, side²).

    Raises
    ------
    ValueError
        If the rows are no squares of at least 48 × 48 pixels.
    """
    side, own = math.isqrt(rows.shape[-1]), stream(generator)
    if rows.ndim != 2 or side**2 != rows.shape[1] or side < PATCH:
        raise ValueError(f"rows: got shape {tuple(rows.shape)}; expected (batch, side²) with side >= {PATCH}")
    corners = torch.randint(side - PATCH + 1, (len(rows), 2), generator=own).tolist()
    turns = torch.randint(8, (len(rows),), generator=own).tolist()
    pieces = []
    for image, (top, left), turn in zip(rows.view(-1, side, side), corners, turns, strict=True):
        piece = image[top : top + PATCH, left : left + PATCH].rot90(turn % 4)
        pieces.append(piece.T if turn < 4 else piece)
    x, (low, high) = torch.stack(pieces), SIGMAS
    sigma = low * (high / low) ** torch.rand(len(x), 1, 1, generator=own)
    y = x + sigma * torch.randn(x.shape, generator=own)
    return (((model(y) - x) / sigma) ** 2).mean()


def load_denoiser(folder: Path | str = DATA) -> PhotographDenoiser:
    """The committed network, trained on `training_photographs` by ``make paper ONLY=denoiser_photographs``; its weights are without gradients.

    Raises
    ------
    ValueError
        If one of its two files is missing or damaged; it says what to do then.
    """
    return networks.read_weights("denoiser_photographs", folder, PhotographDenoiser, ("channels", "depth"))
