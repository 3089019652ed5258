"""Networks that learn the score of images (second half of the chapter `memorization/images`).

Noised images x_t = s a + √Δ_t z, with s = e^{−t} = cos ϑ and √Δ_t = sin ϑ, move on a quarter circle from the image a to the noise z.
The network predicts the velocity along it, v = dx/dϑ = s z − √Δ_t a, a target of order one at every noise; from E[v | x_t = x]
follow the denoiser and the score

    E[a | x] = s x − √Δ_t v,        S(x, t) = −x − s v/√Δ_t.

The loss E|v_θ − v|²/d averages over ϑ uniform in (0, π/2); at one time it is E|a − â|²/(Δ_t d). Images are rows (batch, d), centred:
the network adds back s times their mean, and so sees pixels. A score is a callable S(x, t), as in all of the book.
"""

from __future__ import annotations

import copy
import hashlib
import json
import math
import os
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import safetensors.torch
import torch
from torch import nn
from torch.nn import functional as F
from tqdm.auto import tqdm

from physgen.checks import count, number, stream
from physgen.checks import times as _times
from physgen.diffusion.denoisers import Estimate
from physgen.exact.speciation import Pairs
from physgen.kernels import philox

from . import collapse

__all__ = [
    "Training",
    "UNet",
    "circle_grid",
    "clones",
    "copied",
    "descend",
    "held_out_loss",
    "load_weights",
    "nearest_class",
    "save_weights",
    "train",
    "velocity_loss",
]

Score = Callable[[torch.Tensor, float], torch.Tensor]
DATA = Path(__file__).resolve().parents[3] / "book" / "data"


# ------------------------------------------------------------------------------------------------- the network


class Block(nn.Module):
    """Two convolutions around a residual; the noise level scales and shifts between them."""

    def __init__(self, before: int, after: int, level: int):
        super().__init__()
        self.first = nn.Sequential(nn.GroupNorm(8, before), nn.SiLU(), nn.Conv2d(before, after, 3, padding=1))
        self.norm, self.modulate = nn.GroupNorm(8, after), nn.Linear(level, 2 * after)
        self.second = nn.Conv2d(after, after, 3, padding=1)
        self.skip = nn.Conv2d(before, after, 1) if before != after else nn.Identity()
        nn.init.zeros_(self.second.weight)
        nn.init.zeros_(self.second.bias)

    def forward(self, h: torch.Tensor, level: torch.Tensor) -> torch.Tensor:
        scale, shift = self.modulate(level)[:, :, None, None].chunk(2, dim=1)
        inner = self.norm(self.first(h)) * (1 + scale) + shift
        return self.skip(h) + self.second(F.silu(inner))


class UNet(nn.Module):
    """S_θ(x, t) of square images, (batch, side²): a call gives the score, `velocity` what the network predicts.

    Pixels are unshuffled to 4 channels at half the side; each further entry of `channels` halves the side once more. What goes down
    is handed across to what comes up. Untrained, v = 0 and S = −x. Weights and computation are float32; the output has the dtype of x.

    Parameters
    ----------
    side : int
        Even; d = side².
    channels : tuple of int
        Multiples of 8, one for each resolution.
    mean : torch.Tensor, shape (d,), optional
        Of the images, which are centred by it; None is zero.
    generator : torch.Generator, optional
        Of the first weights; None draws fresh entropy.

    Raises
    ------
    ValueError
        If an argument is out of its range or its shape.

    Notes
    -----
    Ronneberger, Fischer, Brox (2015); Salimans, Ho (2022) for v. Claim NET-01a.
    """

    def __init__(
        self,
        side: int,
        channels: tuple[int, ...] = (32, 64),
        mean: torch.Tensor | None = None,
        generator: torch.Generator | None = None,
    ):
        super().__init__()
        if count(side, "side", 2) % 2:
            raise ValueError(f"side: got {side}; expected an even number")
        self.side, self.channels = side, tuple(count(c, "channels", 8) for c in channels)
        if not self.channels or any(c % 8 for c in self.channels):
            raise ValueError(f"channels: got {channels}; expected multiples of 8, at least one")
        self.register_buffer("mean", torch.zeros(side**2))
        if mean is not None:
            self.mean += _images(mean[None], "mean", side**2)[0]
        self.register_buffer("waves", torch.logspace(0, math.log10(50), 16), persistent=False)
        # torch draws first weights from its global stream: lend it a seed, then put it back
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(philox.key(generator))
            self._build(level=64)

    def _build(self, level: int) -> None:
        widths = self.channels
        self.level = nn.Sequential(nn.Linear(2 * len(self.waves), level), nn.SiLU(), nn.Linear(level, level))
        self.enter = nn.Conv2d(4, widths[0], 3, padding=1)
        self.down = nn.ModuleList(Block(*pair, level) for pair in pairwise((widths[0], *widths)))
        self.halve = nn.ModuleList(nn.Conv2d(c, c, 3, stride=2, padding=1) for c in widths[:-1])
        self.middle = Block(widths[-1], widths[-1], level)
        up = widths[::-1]
        self.up = nn.ModuleList(Block(a + b, b, level) for a, b in pairwise((up[0], *up)))
        self.leave = nn.Sequential(
            nn.GroupNorm(8, widths[0]), nn.SiLU(), nn.Conv2d(widths[0], 4, 3, padding=1)
        )
        nn.init.zeros_(self.leave[-1].weight)
        nn.init.zeros_(self.leave[-1].bias)

    def velocity(self, x: torch.Tensor, t: float | torch.Tensor) -> torch.Tensor:
        """v_θ(x, t), (batch, d), the estimate of E[s z − √Δ_t a | x_t = x]."""
        y = _images(x, "x", self.side**2)
        s, root = _circle(t, y)
        pixels = (y + s * self.mean).view(-1, 1, self.side, self.side)
        phase = torch.atan2(root, s).expand(len(y), 1) * self.waves
        level = F.silu(self.level(torch.cat([phase.sin(), phase.cos()], 1)))
        h, across = self.enter(F.pixel_unshuffle(pixels, 2)), []
        for i, block in enumerate(self.down):
            h = block(self.halve[i - 1](h) if i else h, level)
            across.append(h)
        h = self.middle(h, level)
        for block in self.up:
            side = across.pop()
            h = block(torch.cat([F.interpolate(h, side.shape[-2:]), side], 1), level)
        return F.pixel_shuffle(self.leave(h), 2).reshape(x.shape).to(x.dtype)

    def forward(self, x: torch.Tensor, t: float | torch.Tensor) -> torch.Tensor:
        """S_θ(x, t) = −x − s v_θ/√Δ_t, (batch, d)."""
        s, root = _circle(t, x)
        return -x - s / root * self.velocity(x, t)

    def denoise(self, x: torch.Tensor, t: float | torch.Tensor) -> torch.Tensor:
        """â(x, t) = s x − √Δ_t v_θ, (batch, d): the same as Tweedie's formula of the score, without its e^t."""
        s, root = _circle(t, x)
        return s * x - root * self.velocity(x, t)


def _images(x, name: str, d: int | None = None) -> torch.Tensor:
    """(batch, d) of finite numbers, as float32."""
    shape = "(batch, d)" if d is None else f"(batch, {d})"
    if not isinstance(x, torch.Tensor) or not x.is_floating_point():
        raise ValueError(f"{name}: got {type(x).__name__}; expected a floating tensor of shape {shape}")
    if x.ndim != 2 or not len(x) or (d is not None and x.shape[1] != d):
        raise ValueError(f"{name}: got shape {tuple(x.shape)}; expected {shape}")
    if not bool(x.isfinite().all()):
        raise ValueError(f"{name}: got NaN or infinity; expected finite numbers")
    return x.float()


def _circle(t, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """cos ϑ = e^{−t} and sin ϑ = √Δ_t to multiply x with: (1, 1) or (batch, 1)."""
    t = _times(t)
    if t.ndim > 1 or (t.ndim == 1 and len(t) != len(x)):
        raise ValueError(f"t: got shape {tuple(t.shape)}; expected one number, or ({len(x)},)")
    t = t.reshape(-1, 1)
    return (-t).exp().to(x), (-torch.expm1(-2 * t)).sqrt().to(x)


# ------------------------------------------------------------------------------------------------- training


class Training(NamedTuple):
    """What training leaves: the network of averaged weights, ready for use, and how it got there."""

    model: UNet
    history: list[dict]  # step, loss of the steps since the last entry, and what `watch` saw
    seconds: float  # of all sittings


def velocity_loss(model: UNet, a: torch.Tensor, generator: torch.Generator | None = None) -> torch.Tensor:
    """E|v_θ − v|²/d over one draw of angle and noise for each image, ϑ uniform in (0, π/2): a scalar.

    Raises
    ------
    ValueError
        If `a` is no (batch, d) tensor of finite numbers.
    """
    a, own = _images(a, "a"), stream(generator)
    share = torch.rand(len(a), 1, generator=own, dtype=torch.float64)
    angle = (math.pi / 2 * share).clamp(1e-3, math.pi / 2 - 1e-3)
    z = torch.randn(a.shape, generator=own).to(a)
    t = -angle.cos().log()[:, 0].to(a.device)
    s, root = _circle(t, a)
    return F.mse_loss(model.velocity(s * a + root * z, t), s * z - root * a)


def train(
    model: UNet,
    images: torch.Tensor,
    steps: int,
    batch: int = 64,
    rate: float = 2e-3,
    decay: bool = True,
    generator: torch.Generator | None = None,
    checkpoint: Path | str | None = None,
    every: int = 250,
    watch: Callable[[UNet], dict] | None = None,
    loss: Callable[[nn.Module, torch.Tensor, torch.Generator], torch.Tensor] = velocity_loss,
) -> Training:
    """Teach the network to predict v, by Adam, and average its weights over the last steps.

    The rate rises over the first hundred steps, and falls as a cosine to nothing. The average reaches back over the last tenth of the
    steps, at most a thousand. A bar shows the time left, unless the environment variable PHYSGEN_QUIET is set.

    Parameters
    ----------
    model : UNet
        Trained in place; the averaged copy is what to use.
    images : torch.Tensor, shape (n, side²)
        Centred as the model's `mean` says; on the device where to train.
    steps, batch : int
    rate : float, > 0
        The largest.
    decay : bool
        False keeps the rate once it has risen: for what is watched as training goes on.
    generator : torch.Generator, optional
        Of batches, times and noise, on the CPU: the same seed and number of threads give the same weights. None draws fresh entropy.
    checkpoint : path, optional
        A file that is written anew every `every` steps, whole or not at all. If it is there, training goes on from it, with the state of the
        generator in it: the weights at the end are those of a training without interruption, bit for bit. It stays when all is done.
    every : int
        Steps between entries of the history and checkpoints.
    watch : callable, optional
        Called with the averaged network for each entry; the dictionary of numbers that it gives becomes part of it. It must draw from
        generators of its own.
    loss : callable
        loss(model, rows of a batch, generator), a scalar; another one trains another kind of network.

    Returns
    -------
    Training

    Raises
    ------
    ValueError
        If an argument is out of its range, or the checkpoint is damaged or of another training.

    Notes
    -----
    Ho, Jain, Abbeel (2020); Salimans, Ho (2022). Claims NET-03, NET-07.
    """
    images = _images(images, "images", model.side**2 if isinstance(model, UNet) else None)
    steps, batch, every = count(steps, "steps"), count(batch, "batch"), count(every, "every")
    rate, own = number(rate, "rate", 0, strict=True), stream(generator)
    average = copy.deepcopy(model).requires_grad_(False)
    adam = torch.optim.Adam(model.parameters(), betas=(0.9, 0.99))
    task = {"steps": steps, "batch": batch, "rate": rate, "decay": decay, "every": every}
    task["images"] = _fingerprint(images)
    state = _resume(checkpoint, task)
    if state:
        _restore(state, model, average, adam, own, checkpoint)
    done, history, seconds = (state[k] for k in ("step", "history", "seconds")) if state else (0, [], 0.0)
    start, total = time.perf_counter() - seconds, 0.0
    quiet, ahead = bool(os.environ.get("PHYSGEN_QUIET")), range(done + 1, steps + 1)
    for step in tqdm(ahead, "training", steps, delay=2, disable=quiet, initial=done):
        fall = (1 + math.cos(math.pi * step / steps)) / 2 if decay else 1
        adam.param_groups[0]["lr"] = rate * min(1, step / 100) * fall
        total += _adam_step(model, adam, images, batch, own, loss)
        with torch.no_grad():
            torch._foreach_lerp_([*average.parameters()], [*model.parameters()], max(1e-3, 10 / (step + 100)))
        if step % every == 0 or step == steps:
            entry = {"step": step, "loss": total / (step - (history[-1]["step"] if history else 0))}
            history.append({**entry, **(watch(average) if watch else {})})
            total, seconds = 0.0, time.perf_counter() - start
            if checkpoint:
                _keep(checkpoint, task, step, history, seconds, model, average, adam, own)
    return Training(average.eval(), history, seconds)


def _adam_step(model, adam: torch.optim.Adam, images: torch.Tensor, batch: int, own, loss) -> float:
    chosen = torch.randint(len(images), (batch,), generator=own)
    value = loss(model, images[chosen.to(images.device)], own)
    adam.zero_grad()
    value.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    adam.step()
    return value.item()


def _fingerprint(x: torch.Tensor) -> str:
    return hashlib.sha256(x.detach().cpu().contiguous().numpy().tobytes()).hexdigest()


def _keep(path, task, step, history, seconds, model, average, adam, own) -> None:
    """A checkpoint, whole or not at all."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(path.name + ".tmp")
    torch.save(
        {
            "task": task,
            "step": step,
            "history": history,
            "seconds": seconds,
            "model": model.state_dict(),
            "average": average.state_dict(),
            "adam": adam.state_dict(),
            "generator": own.get_state(),
        },
        scratch,
    )
    scratch.replace(path)


def _resume(path, task: dict) -> dict | None:
    """What the checkpoint holds; None if there is none."""
    if path is None or not Path(path).exists():
        return None
    again = "delete it to start anew"
    try:
        state = torch.load(path, weights_only=True)
        found = state["task"]
    except Exception as error:  # unpickling raises anything
        raise ValueError(f"checkpoint: {path} is damaged ({type(error).__name__}); {again}") from error
    if found != task:
        wrong = ", ".join(f"{k} = {found.get(k)} for {v}" for k, v in task.items() if found.get(k) != v)
        raise ValueError(
            f"checkpoint: {path} is of another training ({wrong}); {again}, or choose another file"
        )
    return state


def _restore(state: dict, model, average, adam, own, path) -> None:
    try:
        model.load_state_dict(state["model"])
        average.load_state_dict(state["average"])
        adam.load_state_dict(state["adam"])
        own.set_state(state["generator"])
    except (KeyError, RuntimeError, ValueError) as error:
        raise ValueError(
            f"checkpoint: {path} is of another network ({error}); delete it to start anew, or choose another file"
        ) from error


# ------------------------------------------------------------------------------------------------- experiments


def circle_grid(start: float, steps: int) -> torch.Tensor:
    """Times from `start` down to 0, (steps + 1,), float64, at equal steps of the angle ϑ = arccos e^{−t}.

    The start is at a distance π/2 − ϑ from pure noise; 4.6 leaves 1 % of the image. Near 0 the steps shrink as t^{1/2} does.

    Raises
    ------
    ValueError
        If start ≤ 0 or steps < 1.
    """
    sine = math.sqrt(-math.expm1(-2 * number(start, "start", 0, strict=True)))
    parts = torch.arange(count(steps, "steps"), -1, -1, dtype=torch.float64) / steps
    angle = math.atan2(sine, math.exp(-start)) * parts
    times = -torch.log1p(-angle.sin().square()) / 2
    times[0], times[-1] = start, 0
    return times


def descend(
    x_start: torch.Tensor,
    score: Score,
    times: torch.Tensor,
    generator: torch.Generator | None = None,
    path: bool = False,
) -> torch.Tensor:
    """From noise to data by DDPM's ancestral steps, from each time t of a grid to the next, u:

        x_u = e^{t − u} [x_t + β S(x_t, t)] + √(β Δ_u/Δ_t) z,        β = 1 − e^{−2(t − u)}.

    The mean is exact for every size of the step, and so is the variance given the image; what it leaves out is the doubt about the
    image, which a small step makes small. Forty steps of `circle_grid` make clean images.

    Parameters
    ----------
    x_start : torch.Tensor, shape (batch, d)
        At the time ``times[0]``.
    score : callable
        S(x, t).
    times : torch.Tensor, shape (n + 1,)
        Descending to ≥ 0.
    generator : torch.Generator, optional
    path : bool
        Return all n + 1 positions, (n + 1, batch, d).

    Returns
    -------
    torch.Tensor
        (batch, d), at ``times[-1]``. A progress bar appears after two seconds, unless PHYSGEN_QUIET is set.

    Raises
    ------
    ValueError
        If a shape does not fit, the times do not descend, or x leaves the finite numbers.

    Notes
    -----
    Ho, Jain, Abbeel (2020), algorithm 2; `physgen.diffusion.score.ddpm_sample` with the posterior variance, but between any two times. Claim NET-02.
    """
    if not isinstance(x_start, torch.Tensor) or x_start.ndim != 2 or not bool(x_start.isfinite().all()):
        came = tuple(x_start.shape) if isinstance(x_start, torch.Tensor) else type(x_start).__name__
        raise ValueError(f"x_start: got {came}; expected finite numbers of shape (batch, d)")
    if not isinstance(times, torch.Tensor) or times.ndim != 1 or len(times) < 2:
        raise ValueError(f"times: got {times!r}; expected a tensor of at least two times")
    if not bool((times.diff() < 0).all() and times[-1] >= 0 and times[0].isfinite()):
        raise ValueError(f"times: got {times.tolist()}; expected finite times that descend to >= 0")
    x, own = x_start, stream(generator, x_start.device)
    visited, quiet = [x], bool(os.environ.get("PHYSGEN_QUIET"))
    with torch.no_grad():
        for t, u in tqdm(list(pairwise(times.tolist())), "descending", delay=2, disable=quiet):
            beta = -math.expm1(-2 * (t - u))
            noise = math.sqrt(beta * math.expm1(-2 * u) / math.expm1(-2 * t))
            z = torch.randn(x.shape, generator=own, device=own.device, dtype=x.dtype).to(x.device)
            x = math.exp(t - u) * (x + beta * score(x, t)) + noise * z
            if path:
                visited.append(x)
    if not bool(x.isfinite().all()):
        raise ValueError("score: x left the finite numbers; expected a score that is finite along the way")
    return torch.stack(visited) if path else x


def clones(
    x: torch.Tensor,
    score: Score,
    times: torch.Tensor,
    classify: Callable[[torch.Tensor], torch.Tensor],
    generator: torch.Generator | None = None,
) -> Pairs:
    """Two descents from each point x at ``times[0]``, with noise of their own, and the classes of their ends.

    If x has the law p_t and the score is that of p_t, the agreement estimates φ(t) = E Σ_c P(c | x_t)². For x = s a + √Δ z of an image
    a of known class, that class beside ``first`` makes a U-turn, with the same φ(t).

    Parameters
    ----------
    x, score, times, generator
        As in `descend`; the times end at 0.
    classify : callable
        (batch, d) to the classes, (batch,) int64: see `nearest_class`.

    Returns
    -------
    Pairs

    Raises
    ------
    ValueError
        As `descend`.

    Notes
    -----
    Biroli, Bonnaire, de Bortoli, Mézard (2024), Nat. Commun. 15, 9957, the cloning experiment. Claims NET-05, NET-06.
    """
    return Pairs(*classify(descend(torch.cat([x, x]), score, times, generator)).chunk(2))


def nearest_class(images: torch.Tensor, labels: torch.Tensor) -> Callable[[torch.Tensor], torch.Tensor]:
    """A classifier: the label of the nearest of the images. Of digits 1 and 8 it errs in one out of a thousand.

    Raises
    ------
    ValueError
        If there is not one label for each image.

    Notes
    -----
    Claim NET-10.
    """
    if _images(images, "images").shape[:1] != labels.shape:
        raise ValueError(
            f"labels: got shape {tuple(labels.shape)}; expected ({len(images)},), one for each image"
        )
    return lambda x: labels[collapse.nearest(x, images).index]


def copied(x: torch.Tensor, data: torch.Tensor, ratio: float = 1 / 3) -> torch.Tensor:
    """Which points are copies of a datum: the nearest is less than `ratio` times as far as the second; (batch,) bool.

    Raises
    ------
    ValueError
        If a shape does not fit, a number is not finite, or there are less than two data.

    Notes
    -----
    Yoon et al. (2023); Bonnaire et al. (2025), with the same third. Claims NET-07, NET-08.
    """
    data = _images(data, "data").double()
    x = _images(x, "x", data.shape[1]).double()
    if len(data) < 2:
        raise ValueError("data: got one point; expected at least two")
    first, second = torch.cdist(x, data).topk(2, largest=False).values.T
    return first < number(ratio, "ratio", 0) * second


def held_out_loss(
    score: Score, a: torch.Tensor, t: float, generator: torch.Generator | None = None
) -> Estimate:
    """E|v_S − v|²/d = E|a − â|²/(Δ_t d) at one time, of any score, with its standard error over the images `a`.

    It exceeds the least possible, that of the law of the images, by (Δ_t/s²) E|S_θ − S|²/d. Images that the score has not seen
    make it an honest measure; with equal generators several scores meet the same noise.

    Raises
    ------
    ValueError
        If `a` is no (batch, d) tensor of two finite points at least, or t ≤ 0.

    Notes
    -----
    Vincent (2011). Claims NET-01b, NET-03, NET-04, NET-11.
    """
    if len(_images(a, "a")) < 2:
        raise ValueError("a: got one image; expected at least two")
    s, root = _circle(number(t, "t", 0, strict=True), a)
    own = stream(generator, a.device)
    z = torch.randn(a.shape, generator=own, device=own.device, dtype=a.dtype).to(a.device)
    with torch.no_grad():
        missed = (z + root * score(s * a + root * z, t)) / s  # v − v_S, by v_S = −(√Δ/s)(S + x)
    each = missed.square().mean(1)
    return Estimate(float(each.mean()), float(each.std()) / math.sqrt(len(a)))


# ------------------------------------------------------------------------------------------------- committed weights


def save_weights(model: UNet, path: Path | str) -> dict:
    """Write the weights in half precision, as safetensors, whole or not at all.

    Returns
    -------
    dict
        Shape of the network, number of its parameters, and the hash of the file: what `load_weights` looks for in the JSON beside it,
        under ``values`` and there ``network``, with the provenance that `physgen.results.save` gives it.
    """
    return {"side": model.side, "channels": list(model.channels), **write_weights(model, path)}


def write_weights(model: nn.Module, path: Path | str) -> dict:
    """The part of `save_weights` that any network needs: writes the file, returns the number of parameters and the hash."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    content = safetensors.torch.save({k: v.half().contiguous().cpu() for k, v in model.state_dict().items()})
    scratch = path.with_name(path.name + ".tmp")
    scratch.write_bytes(content)
    scratch.replace(path)
    return {
        "parameters": sum(p.numel() for p in model.parameters()),
        "sha256": hashlib.sha256(content).hexdigest(),
    }


def load_weights(name: str, folder: Path | str = DATA) -> UNet:
    """The committed network `"unet_mnist"` (digits 1 and 8) or `"unet_fashion"` (T-shirt 0, ankle boot 9), for centred images.

    Its weights are without gradients. `NAME.json` beside `NAME.safetensors` says when, how and from which seed it was trained.

    Raises
    ------
    ValueError
        If one of the two files is missing or damaged, or they do not belong together; it says what to do then.
    """
    return read_weights(name, folder, UNet, ("side", "channels"))


def read_weights(name: str, folder: Path | str, build: Callable[..., nn.Module], shape: tuple[str, ...]):
    """The part of `load_weights` that any network needs: ``build(*record)``, the entries `shape` of its record, with the weights of the file."""
    path = Path(folder) / f"{name}.safetensors"
    cure = f"restore it with git checkout book/data, or make it again with make paper ONLY={name}"
    try:
        network = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))["values"]["network"]
        sizes, expected = [network[k] for k in shape], network["sha256"]
        content = path.read_bytes()
    except FileNotFoundError as missing:
        raise ValueError(f"{missing.filename} is missing; {cure}") from None
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path.with_suffix('.json')} is damaged, or describes no network; {cure}"
        ) from error
    if hashlib.sha256(content).hexdigest() != expected:
        raise ValueError(
            f"{path} is damaged, or of another training: it has not the SHA-256 of {name}.json; {cure}"
        )
    sizes = [tuple(s) if isinstance(s, list | str) else s for s in sizes]
    try:
        model = build(*sizes)
        model.load_state_dict({k: v.float() for k, v in safetensors.torch.load(content).items()})
    except (RuntimeError, ValueError, safetensors.SafetensorError) as error:
        told = ", ".join(map(str, sizes))
        raise ValueError(f"{path} does not hold the weights of {build.__name__}({told}); {cure}") from error
    return model.eval().requires_grad_(False)
