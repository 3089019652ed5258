"""Error bars of correlated data: every simulation of the book states its means with them.

With ρ_k the autocorrelation at lag k, the integrated autocorrelation time is τ_int = ½ + Σ_{k≥1} ρ_k (½ for independent data, in
steps of the chain), n values are worth n/(2τ_int) independent ones, and the error of their mean is σ √(2τ_int/n). Blocking
finds the same error with no sum over lags, from means over ever longer blocks. All data (n,) or (chains, n), real and stationary.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

__all__ = ["MeanError", "autocorrelation_time", "blocking_error", "effective_sample_size", "mean_and_error"]

WINDOW = 10  # the sum over lags ends at this many τ_int: the usual 5 of those who define 1 + 2 Σ ρ_k
LEAST = 5  # and not before this lag, which is that of independent data: a chain that swings back at each step has τ_int < ½


class MeanError(NamedTuple):
    """A mean, its standard error and the autocorrelation time behind it: scalars, float64."""

    mean: torch.Tensor
    error: torch.Tensor
    tau: torch.Tensor


def _chains(x) -> torch.Tensor:
    if not isinstance(x, torch.Tensor) or x.ndim not in (1, 2) or x.is_complex():
        came = f"{x.dtype}, shape {tuple(x.shape)}" if isinstance(x, torch.Tensor) else type(x).__name__
        raise ValueError(f"x: got {came}; expected real numbers, one chain (n,) or several (chains, n)")
    if x.shape[-1] < 2 or x.numel() == 0:
        raise ValueError(f"x: got shape {tuple(x.shape)}; expected chains of n >= 2 values")
    x = x.detach().double()
    if not bool(x.isfinite().all()):
        raise ValueError("x: got NaN or infinity; expected finite numbers")
    return x.reshape(-1, x.shape[-1])


def autocorrelation_time(x: torch.Tensor) -> torch.Tensor:
    """The integrated autocorrelation time τ_int = ½ + Σ_{k=1}^{M} ρ_k, with Sokal's window: the first M ≥ 5 with M ≥ 10 τ_int(M).

    Where ρ_1 < −¼ the terms alternate and so do the sums, about their limit: the larger of that and the next is taken.
    Chains share one mean, and their autocovariances are averaged: chains stuck in different places have τ_int ≈ n/2, so that
    each counts as one value. Equal values have τ_int = ½. Trust it for n ≥ 100 τ_int.

    Returns
    -------
    torch.Tensor
        A scalar, float64, in steps of the chain.

    Raises
    ------
    ValueError
        If x has not the shape (n,) or (chains, n), n ≥ 2, or holds complex numbers, NaN or infinity.

    Notes
    -----
    Madras, Sokal (1988), J. Stat. Phys. 50, 109, appendix C; Sokal (1997), Monte Carlo methods in statistical mechanics.
    """
    x = _chains(x)
    n = x.shape[1]
    if bool((x == x[0, 0]).all()):
        return x.new_tensor(0.5)
    # Padding with n zeros keeps the end of a chain from meeting its beginning.
    spectrum = torch.fft.rfft(x - x.mean(), n=2 * n).abs().square().mean(0)
    covariance = torch.fft.irfft(spectrum, n=2 * n)[:n]
    tau = torch.cumsum(covariance / covariance[0], 0) - 0.5
    lags = torch.arange(n, device=x.device)
    closed = (lags >= WINDOW * tau) & (lags >= LEAST)
    end = int(closed.int().argmax()) if bool(closed.any()) else n - 1
    return tau[end : end + 2].max() if tau[1] < 0.25 else tau[end]


def effective_sample_size(x: torch.Tensor) -> torch.Tensor:
    """How many independent values fix the mean as well: (number of values)/(2τ_int); raises as `autocorrelation_time`."""
    return _chains(x).numel() / (2 * autocorrelation_time(x))


def mean_and_error(x: torch.Tensor) -> MeanError:
    """Mean of correlated data, its standard error σ √(2τ_int/n) with n the values of all chains, and τ_int.

    The error of equal values is 0, which proves nothing about a chain that is stuck. Raises ValueError as `autocorrelation_time`.
    """
    tau, x = autocorrelation_time(x), _chains(x)
    if bool((x == x[0, 0]).all()):
        return MeanError(x[0, 0], x.new_tensor(0.0), tau)
    return MeanError(x.mean(), x.std(correction=0) * torch.sqrt(2 * tau / x.numel()), tau)


def blocking_error(x: torch.Tensor) -> torch.Tensor:
    """The standard error of the mean by blocking: neighbours are averaged in pairs until the blocks are independent.

    With n_b blocks of B values ε_B² = Var(block means)/(n_b − 1); the first B = 2^l with B³ > 2n (ε_B/ε_1)⁴ is taken, where the
    bias of short blocks has fallen below the noise of few; if none is, the largest ε_B. Values that fill no block do not
    enter the variance. A scalar, float64; 0 if all values are equal. Raises ValueError as `autocorrelation_time`.

    Notes
    -----
    Flyvbjerg, Petersen (1989), J. Chem. Phys. 91, 461; the choice of B: Lee et al. (2011), PRE 83, 066706.
    """
    x = _chains(x)
    if bool((x == x[0, 0]).all()):
        return x.new_tensor(0.0)
    total, size, squares = x.numel(), 1, []
    while x.shape[1] >= 2:
        # The mean is that of all values, those in no block included.
        squares.append(x.var(correction=0) / (x.numel() - 1) * (x.numel() * size / total))
        if size**3 > 2 * total * float(squares[-1] / squares[0]) ** 2:
            return squares[-1].sqrt()
        x = x[:, : x.shape[1] // 2 * 2].unflatten(1, (-1, 2)).mean(2)
        size *= 2
    return torch.stack(squares).max().sqrt()
