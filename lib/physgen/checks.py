"""What every chapter asks of its arguments: a number, a count, times, a source of randomness; anything else is a ValueError."""

from __future__ import annotations

import math
from numbers import Real
from operator import index

import torch

from physgen.kernels import philox

__all__ = ["count", "number", "stream", "times"]


def number(value, name: str, least: float = -math.inf, *, strict: bool = False) -> float:
    """A finite real number, or a tensor of no dimension, that is ≥ least (> least if `strict`), as a float.

    Raises
    ------
    ValueError
        If it is none.
    """
    if isinstance(value, torch.Tensor) and value.ndim == 0:
        value = value.item()
    fits = isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
    if not fits or not (value > least if strict else value >= least):
        limit = "" if least == -math.inf else f" {'>' if strict else '>='} {least:g}"
        raise ValueError(f"{name}: got {value!r}; expected a finite number{limit}")
    return float(value)


def count(value, name: str, least: int = 1) -> int:
    """An integer ≥ least.

    Raises
    ------
    ValueError
        If it is none.
    """
    try:
        whole = least - 1 if isinstance(value, bool) else index(value)
    except TypeError:
        whole = least - 1
    if whole < least:
        raise ValueError(f"{name}: got {value!r}; expected an integer >= {least}")
    return whole


def times(t) -> torch.Tensor:
    """Finite times > 0 as a float64 tensor of their shape and device; a number becomes a tensor of no dimension.

    Raises
    ------
    ValueError
        If they are none.
    """
    if not isinstance(t, torch.Tensor):
        return torch.tensor(number(t, "t", 0, strict=True), dtype=torch.float64)
    if not t.is_floating_point() or not bool((t.isfinite() & (t > 0)).all()):
        raise ValueError(f"t: got {t.dtype} {t.detach().tolist()}; expected finite times > 0")
    return t.double()


def stream(generator: torch.Generator | None, device: torch.device | str = "cpu") -> torch.Generator:
    """The generator that was given, or one of its own on the device with fresh entropy; never the global one.

    Raises
    ------
    ValueError
        If it is neither a generator nor None.
    """
    if generator is None:
        return torch.Generator(device).manual_seed(philox.key(None))
    if not isinstance(generator, torch.Generator):
        raise ValueError(f"generator: got {type(generator).__name__}; expected a torch.Generator or None")
    return generator
