"""physgen: the statistical physics of generative models, as exact solutions and fast kernels.

A chapter of the book is `physgen.PART.CHAPTER`; `physgen.kernels` holds the hot loops. Two functions live here because every
notebook asks them first: where to compute (`device`) and how large (`scale`).
"""

from __future__ import annotations

import os

__all__ = ["device", "scale"]
__version__ = "0.1.0"


def device():
    """The best `torch.device` here: CUDA if there is one, else the CPU; `PHYSGEN_DEVICE` overrides it.

    Raises
    ------
    ValueError
        If `PHYSGEN_DEVICE` names no device of torch, or a GPU that this machine lacks.
    """
    import torch

    name = os.environ.get("PHYSGEN_DEVICE") or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(name)
    except RuntimeError:
        raise ValueError(f"PHYSGEN_DEVICE={name!r} is not a torch device; use 'cpu' or 'cuda'") from None
    if chosen.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"PHYSGEN_DEVICE={name!r}, but torch sees no CUDA GPU here; unset it or use 'cpu'")
    return chosen


def scale(*, laptop, paper):
    """One notebook, two sizes: `laptop` by default, `paper` when `PHYSGEN_SCALE=paper`.

    Raises
    ------
    ValueError
        If `PHYSGEN_SCALE` is neither `laptop` nor `paper`.
    """
    sizes = {"laptop": laptop, "paper": paper}
    name = os.environ.get("PHYSGEN_SCALE") or "laptop"
    if name not in sizes:
        raise ValueError(f"PHYSGEN_SCALE={name!r}; expected 'laptop' or 'paper'")
    return sizes[name]
