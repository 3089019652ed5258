"""Wavelets: a batch of images, there and back, beside PyWavelets.

Ours is the whole public call, its checks and new memory included; so is the peer's. The floor counts what no
transform can avoid: each level reads its input and writes as much, 4/3 of the images in all, at the rate of a
copy measured here.
"""

from __future__ import annotations

import pywt
import torch

from physgen.kernels.wavelet import dwt2, idwt2


def there_and_back(interleaved, x: torch.Tensor, wavelet: str, levels: int, target: float) -> list[dict]:
    taps = pywt.Wavelet(wavelet).dec_len
    images, copy, how = x.numpy(), torch.empty_like(x), {"mode": "periodization", "axes": (-2, -1)}
    ours = dwt2(x, wavelet, levels, backend="numba")
    theirs = pywt.wavedec2(images, wavelet, level=levels, **how)
    seconds = interleaved(
        {
            "forward": lambda: dwt2(x, wavelet, levels, backend="numba"),
            "PyWavelets forward": lambda: pywt.wavedec2(images, wavelet, level=levels, **how),
            "inverse": lambda: idwt2(ours, wavelet, backend="numba"),
            "PyWavelets inverse": lambda: pywt.waverec2(theirs, wavelet, **how),
            "copy": lambda: copy.copy_(x),
        },
        15,
    )
    return [
        {
            "kernel": f"wavelet, {wavelet} {way}",
            "size": f"64×256×256 float32, {levels} levels",
            "ours": seconds[way],
            "peer": "PyWavelets",
            "peer_seconds": seconds[f"PyWavelets {way}"],
            "target": target,
            "floor": seconds["copy"] * 4 / 3,
            "floor_is": "4/3 of a copy of the images: each level reads its input and writes as much",
            "operations": 4 * taps * x.numel() * 4 / 3,
            "bytes": 8 * x.numel() * 4 / 3,
        }
        for way in ("forward", "inverse")
    ]


def measure(interleaved, seed: int) -> list[dict]:
    """The rows of the table; ``interleaved(calls, repeats)`` gives the median seconds of each call."""
    x = torch.randn((64, 256, 256), generator=torch.Generator().manual_seed(seed))
    return there_and_back(interleaved, x, "haar", 8, 5) + there_and_back(interleaved, x, "db4", 5, 3.5)
