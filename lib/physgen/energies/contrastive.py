"""Contrastive learning (the chapter `energies/contrastive`): lower the energy of the data, raise that of something else.

A Boltzmann machine is Q_w(s) = exp(Σ_{i<j} w_ij s_i s_j)/Z = exp(½ sᵀws)/Z with spins ±1, w = wᵀ, w_ii = 0, so its energy is
−½ sᵀws at β = 1. Against data of law P

    ∂KL(P ‖ Q_w)/∂w_ij = ⟨s_i s_j⟩_Q − ⟨s_i s_j⟩_P :

learning lowers the energy of the data (wake, Hebbian) and raises that of the model's own states (sleep, anti-Hebbian). The rules
of this chapter differ in what stands in for Q. Contrastive divergence takes P T_w^k, the data after k heat-bath updates
T_w of one random spin; k = 1 is the gradient of the pseudolikelihood over N and k = ∞ the likelihood. Score matching is the same
with one small Langevin step, noise-contrastive estimation takes any law that can be drawn and normalised, and
margin losses take any state, which costs them the probabilities.

Matrices over pairs have their rows and columns in the order of `pairs`; a derivative by w_ij moves w_ji with it. There is no field:
a field h_i is the coupling w_0i to a ghost spin s_0 = +1, so a column of ones in the data fits it. Models of real vectors are
exp(−U)/Z, their score is ψ = −∇U, a callable ψ(x) on x of shape (batch, d), and score losses are without ½.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from scipy.integrate import quad
from scipy.optimize import minimize, root
from torch.nn.functional import softplus

from physgen.checks import count as _count
from physgen.checks import number as _number
from physgen.checks import stream as _stream
from physgen.kernels import glauber, mixture_score, philox
from physgen.memories.hebbian import all_states, transition_matrix

__all__ = [
    "RBM",
    "Boltzmann",
    "Contrast",
    "DeBruijn",
    "Denoising",
    "Divergence",
    "HebbianDescent",
    "IsingFit",
    "Modes",
    "NoiseFit",
    "Phases",
    "ScoreFit",
    "ScoreLosses",
    "WeightVariances",
    "after_updates",
    "asymptotic_covariance",
    "boltzmann_exact",
    "boltzmann_law",
    "contrastive_divergence",
    "contrastive_fixed_point",
    "de_bruijn",
    "denoising_score_matching",
    "expected_learning",
    "expected_update",
    "fisher_information",
    "fit_ising",
    "hebbian_descent",
    "implicit_score_matching",
    "langevin_gradient",
    "margin_loss",
    "mode_weight_variances",
    "noise_contrastive",
    "noise_covariance",
    "pair_correlations",
    "pair_values",
    "pairs",
    "rbm_exact",
    "rbm_expected_update",
    "rbm_phases",
    "relative_entropy",
    "sample_ising",
    "score_matching_equations",
    "score_matching_fit",
    "score_matching_losses",
    "separated_modes",
    "slowest_mode",
    "train_ising",
]

MOST_ENUMERATED = 20
MOST_IN_A_CHAIN = 16  # spins of a law that is moved by updates
ORDERS = "random", "sweep"
METHODS = "likelihood", "pseudolikelihood", "ratio"
MOST_NUMBERS = 2**24  # of a block of features: 128 MB

Score = Callable[[torch.Tensor], torch.Tensor]


class Boltzmann(NamedTuple):
    """Exact averages of a Boltzmann machine, float64, differentiable in the couplings."""

    log_z: torch.Tensor  # scalar
    correlations: torch.Tensor  # (N, N) ⟨s_i s_j⟩, 1 on the diagonal


class Divergence(NamedTuple):
    """A relative entropy in nats, and its derivative by w_ij (w_ji moves along), zero on the diagonal."""

    value: torch.Tensor
    gradient: torch.Tensor  # (N, N)


class HebbianDescent(NamedTuple):
    """What the plain descent w = tC of the energy of the data does; C_ij = ⟨s_i s_j⟩_P."""

    energy: torch.Tensor  # (T,) mean energy of the data
    divergence: torch.Tensor  # (T,) KL(P ‖ Q_{tC}), nats
    slope: float  # what dKL/dt tends to, max_s Σ C_ij s_i s_j − Σ C_ij² over pairs


class Contrast(NamedTuple):
    """One estimate of contrastive divergence."""

    update: torch.Tensor  # (N, N) ⟨ss⟩ of the data − ⟨ss⟩ of the chains: add it to the couplings
    chains: torch.Tensor  # (R, N) int8, where the chains have come to: give them back for persistence


class IsingFit(NamedTuple):
    """Couplings learned from samples, and their standard errors, both (N, N), float64, zero on the diagonal."""

    couplings: torch.Tensor
    errors: torch.Tensor


class NoiseFit(NamedTuple):
    """Couplings and normaliser learned against noise, each with its standard error."""

    couplings: torch.Tensor  # (N, N)
    errors: torch.Tensor  # (N, N)
    log_z: float
    log_z_error: float


class RBM(NamedTuple):
    """A restricted Boltzmann machine, exactly."""

    log_z: torch.Tensor  # scalar, of visible and hidden spins
    law: torch.Tensor  # (2^N,) of the visible spins, on the rows of `all_states`


class Phases(NamedTuple):
    """The two averages ⟨h_a v_i⟩ whose difference is the gradient of the likelihood, both (M, N)."""

    clamped: torch.Tensor  # visible spins from the data
    free: torch.Tensor  # visible spins from the model


class ScoreLosses(NamedTuple):
    """Scalars, float64: explicit = implicit + constant."""

    explicit: torch.Tensor  # E|ψ − ∇log p|²
    implicit: torch.Tensor  # E[|ψ|² + 2 ∇·ψ]
    constant: torch.Tensor  # E|∇log p|²


class ScoreFit(NamedTuple):
    """Parameters of U = Σ θ_k φ_k by score matching, and their standard errors, both (K,)."""

    theta: torch.Tensor
    errors: torch.Tensor


class Denoising(NamedTuple):
    """Scalars, float64: denoising = explicit + constant, whatever the model."""

    denoising: torch.Tensor  # E|ψ(x̃) + (x̃ − x)/σ²|²
    explicit: torch.Tensor  # E|ψ − ∇log p_σ|²
    constant: torch.Tensor  # d/σ² − E|∇log p_σ|²


class Modes(NamedTuple):
    """How far apart two mixtures are that differ in the weight of a mode."""

    kl: float  # nats
    fisher: float  # E|∇log p − ∇log q|²


class DeBruijn(NamedTuple):
    """Two sides of KL(p ‖ q) = ½ ∫ Fisher divergence dσ²."""

    kl: float
    integral: float


class WeightVariances(NamedTuple):
    """n times the variance of half the log odds of a mode, as n → ∞."""

    likelihood: float
    score_matching: float


# ------------------------------------------------------------------------------------------------- what comes in


def _got(value) -> str:
    return f"{value.dtype}, shape {tuple(value.shape)}" if isinstance(value, torch.Tensor) else repr(value)


def _couplings(couplings, most: int | None = None) -> torch.Tensor:
    """Couplings of a Boltzmann machine, float64; `most` is the largest N."""
    fits = isinstance(couplings, torch.Tensor) and couplings.is_floating_point() and couplings.ndim == 2
    if not fits or len(couplings) != couplings.shape[1] or len(couplings) == 0:
        raise ValueError(f"couplings: got {_got(couplings)}; expected floating point of shape (N, N), N >= 1")
    if not bool(couplings.isfinite().all()):
        raise ValueError("couplings: got NaN or infinity; expected finite numbers")
    couplings = couplings.cpu().double()
    if not torch.allclose(couplings, couplings.T, rtol=1e-10, atol=1e-12):
        raise ValueError("couplings: got a matrix that is not symmetric; expected w = wᵀ")
    if bool(couplings.diagonal().any()):
        raise ValueError("couplings: got self couplings; expected a diagonal of zeros")
    if most is not None and len(couplings) > most:
        raise ValueError(f"couplings: got N = {len(couplings)}; enumeration serves N <= {most}")
    return couplings


def _spins(samples, name: str = "samples") -> torch.Tensor:
    """(n, N) of ±1."""
    if not isinstance(samples, torch.Tensor) or samples.ndim != 2 or samples.numel() == 0:
        raise ValueError(f"{name}: got {_got(samples)}; expected ±1 of shape (n, N), n >= 1")
    if samples.dtype == torch.bool or samples.is_complex() or not bool((samples.abs() == 1).all()):
        raise ValueError(f"{name}: got values other than ±1 ({samples.dtype}); expected ±1")
    return samples.detach().cpu()


def _weights(weights, rows: torch.Tensor) -> torch.Tensor:
    """(n,) of numbers ≥ 0 that sum to 1, float64, one per row and where these are; None is 1/n each."""
    masses = torch.ones(len(rows)) if weights is None else _masses(weights, len(rows), "weights")
    masses = masses.to(rows.device, torch.float64)
    return masses / masses.sum()


def _masses(masses, n: int, name: str) -> torch.Tensor:
    if not isinstance(masses, torch.Tensor) or masses.shape != (n,) or masses.is_complex():
        raise ValueError(f"{name}: got {_got(masses)}; expected numbers >= 0 of shape ({n},)")
    masses = masses.double()
    if not bool((masses.isfinite() & (masses >= 0)).all()) or not bool(masses.sum() > 0):
        raise ValueError(
            f"{name}: got NaN, infinity, a number below 0, or nothing but 0; expected numbers >= 0"
        )
    return masses


def _law(law, n: int | None = None) -> torch.Tensor:
    """(2^N,) probabilities."""
    if not isinstance(law, torch.Tensor) or law.ndim != 1 or len(law) < 2 or len(law) & (len(law) - 1):
        raise ValueError(f"law: got {_got(law)}; expected the 2^N probabilities of the rows of all_states(N)")
    if n is not None and len(law) != 2**n:
        raise ValueError(f"law: got {len(law)} probabilities; expected 2^{n}, as the couplings have N = {n}")
    law = _masses(law, len(law), "law").detach().cpu()
    # 2^20 probabilities in float32 sum to 1 within 1e-5.
    if abs(float(law.sum()) - 1) > 1e-5:
        raise ValueError(f"law: got probabilities that sum to {float(law.sum())}; expected 1")
    return law / law.sum()


def _size(law: torch.Tensor) -> int:
    return len(law).bit_length() - 1


def _order(order) -> str:
    if order not in ORDERS:
        raise ValueError(f"order: got {order!r}; expected one of {ORDERS}")
    return order


def _points(x, name: str = "x") -> torch.Tensor:
    """(n, d) finite floating-point numbers, as float64."""
    fits = isinstance(x, torch.Tensor) and x.is_floating_point() and x.ndim == 2 and x.numel() > 0
    if not fits or not bool(x.isfinite().all()):
        raise ValueError(f"{name}: got {_got(x)}; expected finite floating-point numbers of shape (n, d)")
    return x.detach().double()


# ------------------------------------------------------------------------------------------------- pairs


def pairs(n_spins: int) -> torch.Tensor:
    """The pairs i < j in the order (0, 1), (0, 2), …, (1, 2), …: indices of shape (2, N(N−1)/2). ValueError if N < 1."""
    n = _count(n_spins, "n_spins", 1)
    return torch.triu_indices(n, n, 1)


def pair_values(matrix: torch.Tensor) -> torch.Tensor:
    """The entries w_ij, i < j, of matrices (..., N, N) in the order of `pairs`, shape (..., N(N−1)/2)."""
    if not isinstance(matrix, torch.Tensor) or matrix.ndim < 2 or matrix.shape[-1] != matrix.shape[-2]:
        raise ValueError(f"matrix: got {_got(matrix)}; expected shape (..., N, N)")
    i, j = pairs(matrix.shape[-1])
    return matrix[..., i, j]


def _matrix(values: torch.Tensor, n: int) -> torch.Tensor:
    """The symmetric (N, N) matrix with these values over the pairs, zero on the diagonal."""
    i, j = pairs(n)
    matrix = values.new_zeros(n, n)
    matrix[i, j] = values
    return matrix + matrix.T


def _features(spins: torch.Tensor) -> torch.Tensor:
    """(n, N(N−1)/2): the products s_i s_j."""
    i, j = pairs(spins.shape[1])
    return spins[:, i] * spins[:, j]


def pair_correlations(spins: torch.Tensor, weights: torch.Tensor | None = None) -> torch.Tensor:
    """⟨s_i s_j⟩ of samples, or of the states of a law with their probabilities as weights.

    Parameters
    ----------
    spins : torch.Tensor, shape (n, N)
        Of ±1, any dtype.
    weights : torch.Tensor, shape (n,), optional
        Numbers ≥ 0, divided by their sum; None is the plain mean.

    Returns
    -------
    torch.Tensor
        (N, N), float64, 1 on the diagonal.

    Raises
    ------
    ValueError
        If spins are not ±1, or a weight is negative or not finite.
    """
    s = _spins(spins, "spins").double()
    correlations = s.T @ (s * _weights(weights, s)[:, None])
    return correlations.fill_diagonal_(1)


# ------------------------------------------------------------------------------------------------- Boltzmann machines, exactly


def _halves(couplings: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """States a of the first spins, b of the others, and ½ sᵀws as a table over (a, b): memory of 2^N, not of N 2^N."""
    n = len(couplings)
    k = (n + 1) // 2
    a, b = all_states(k), all_states(n - k) if n > k else torch.zeros(1, 0, dtype=torch.float64)
    inside = [((s @ w) * s).sum(1) / 2 for s, w in ((a, couplings[:k, :k]), (b, couplings[k:, k:]))]
    return a, b, inside[0][:, None] + inside[1] + a @ couplings[:k, k:] @ b.T


def boltzmann_exact(couplings: torch.Tensor) -> Boltzmann:
    """log Z = log Σ_s exp(Σ_{i<j} w_ij s_i s_j) and ⟨s_i s_j⟩ = ∂ log Z/∂w_ij, by enumeration of the 2^N states.

    Parameters
    ----------
    couplings : torch.Tensor, shape (N, N)
        Symmetric, zero diagonal, floating point, N ≤ 20; may require a gradient.

    Returns
    -------
    Boltzmann
        ``log_z``, a scalar in nats, and ``correlations`` (N, N) with 1 on the diagonal; float64.

    Raises
    ------
    ValueError
        If the couplings are not a finite symmetric floating-point matrix with zero diagonal, or N > 20.

    Notes
    -----
    Ackley, Hinton, Sejnowski (1985), Cognitive Science 9, 147. A field is the coupling to one more spin: it doubles Z.
    """
    a, b, exponent = _halves(_couplings(couplings, MOST_ENUMERATED))
    log_z = torch.logsumexp(exponent.flatten(), 0)
    p = torch.softmax(exponent.flatten(), 0).view_as(exponent)
    within_a, within_b, across = a.T @ (a * p.sum(1)[:, None]), b.T @ (b * p.sum(0)[:, None]), a.T @ p @ b
    rows = torch.cat([within_a, across], 1), torch.cat([across.T, within_b], 1)
    off = 1 - torch.eye(len(couplings), dtype=torch.float64)
    return Boltzmann(log_z, torch.cat(rows) * off + (1 - off))


def _log_law(couplings: torch.Tensor) -> torch.Tensor:
    _, _, exponent = _halves(_couplings(couplings, MOST_ENUMERATED))
    # The first spins are the low bits of the row number.
    return torch.log_softmax(exponent.T.flatten(), 0)


def boltzmann_law(couplings: torch.Tensor) -> torch.Tensor:
    """Q_w(s) on the rows of `all_states(N)`: (2^N,), float64, differentiable. Raises ValueError as `boltzmann_exact`."""
    return _log_law(couplings).exp()


def relative_entropy(law: torch.Tensor, couplings: torch.Tensor, reverse: bool = False) -> Divergence:
    """KL(P ‖ Q_w) with ∂/∂w_ij = ⟨s_i s_j⟩_Q − ⟨s_i s_j⟩_P, or KL(Q_w ‖ P) with ∂/∂w_ij = Cov_Q(s_i s_j, log Q/P).

    Maximum likelihood descends the first: Δw = η(⟨ss⟩_P − ⟨ss⟩_Q), P clamped (wake) and Q running free (sleep).

    Parameters
    ----------
    law : torch.Tensor, shape (2^N,)
        P on the rows of `all_states(N)`; for the reverse it must be positive everywhere.
    couplings : torch.Tensor, shape (N, N)
        Of Q_w, as in `boltzmann_exact`.
    reverse : bool
        KL(Q_w ‖ P).

    Returns
    -------
    Divergence
        ``value`` in nats and ``gradient`` (N, N).

    Raises
    ------
    ValueError
        If the law does not fit the couplings, or has a zero where the reverse divergence would be infinite.

    Notes
    -----
    Ackley, Hinton, Sejnowski (1985), Cognitive Science 9, 147. Claim MUR-13.
    """
    log_q = _log_law(couplings)
    p, q, states = _law(law, len(couplings)), log_q.exp(), all_states(len(couplings))
    if not reverse:
        gradient = states.T @ (states * (q - p)[:, None])
        return Divergence(torch.xlogy(p, p).sum() - p @ log_q, gradient.fill_diagonal_(0))
    if bool((p == 0).any()):
        raise ValueError("law: got a probability of 0, where KL(Q ‖ P) is infinite; expected all > 0")
    log_ratio = log_q - p.log()
    value = q @ log_ratio
    gradient = states.T @ (states * (q * (log_ratio - value))[:, None])
    return Divergence(value, gradient.fill_diagonal_(0))


def hebbian_descent(law: torch.Tensor, times: torch.Tensor) -> HebbianDescent:
    """Lower the energy of the data and nothing else: ẇ_ij = ⟨s_i s_j⟩_P, so w = tC, which is Hebb's rule without an end.

    The energy of the data is −t Σ C_ij² over pairs. KL(P ‖ Q_{tC}) falls at first, at the rate Σ C_ij², and then grows
    as t (max_s Σ C_ij s_i s_j − Σ C_ij²): the model collapses on the ground states of −½ sᵀCs.

    Parameters
    ----------
    law : torch.Tensor, shape (2^N,)
        P on the rows of `all_states(N)`.
    times : torch.Tensor, shape (T,)
        t ≥ 0.

    Returns
    -------
    HebbianDescent
        ``energy`` (T,), ``divergence`` (T,) in nats, and ``slope``, the rate at which KL ends up growing.

    Raises
    ------
    ValueError
        If the law is none, or a time is negative or not finite.

    Notes
    -----
    Hebb (1949). Claim CON-01.
    """
    fits = isinstance(times, torch.Tensor) and times.ndim == 1 and times.is_floating_point()
    if not fits or not bool((times.isfinite() & (times >= 0)).all()):
        raise ValueError(
            f"times: got {_got(times)}; expected finite floating-point numbers >= 0 of shape (T,)"
        )
    p, t = _law(law), times.double()
    c = pair_correlations(all_states(_size(p)), p).fill_diagonal_(0)
    _, _, exponent = _halves(c)
    lowered = pair_values(c).square().sum()
    log_z = torch.logsumexp(t[:, None] * exponent.flatten(), 1)
    divergence = torch.xlogy(p, p).sum() - t * lowered + log_z
    return HebbianDescent(-t * lowered, divergence, float(exponent.max() - lowered))


# ------------------------------------------------------------------------------------------------- contrastive divergence


def _wrong(spins: torch.Tensor, couplings: torch.Tensor) -> torch.Tensor:
    """(n, N): Q(−s_i | the others) = 1/(1 + exp(2 s_i φ_i)), the probability that a heat-bath update of s_i turns it."""
    return torch.special.expit(-2 * spins * (spins @ couplings))


def _turned(n: int) -> torch.Tensor:
    """(2^N, N): the row of `all_states` in which spin i of this row is turned."""
    return torch.arange(2**n)[:, None] ^ (1 << torch.arange(n))


def _updates(updates, n: int) -> int | float:
    """How many single-spin updates: None is N, one sweep; ∞ is equilibrium."""
    if updates is None:
        return n
    return math.inf if updates == math.inf else _count(updates, "updates", 1)


def _moved(p: torch.Tensor, couplings: torch.Tensor, updates: int | float, order: str) -> torch.Tensor:
    """P T^k: a state is left with the probability to turn, and entered from the states one spin away."""
    if updates == math.inf:
        return boltzmann_law(couplings)
    n = len(couplings)
    turned, leave = _turned(n), _wrong(all_states(n), couplings)
    enter = leave.gather(0, turned)
    for t in range(updates):
        if order == "random":
            p = p + ((p[turned] * enter).sum(1) - p * leave.sum(1)) / n
        else:
            i = t % n
            p = p * (1 - leave[:, i]) + p[turned[:, i]] * enter[:, i]
    return p


def _contrast(p: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
    """⟨ss⟩_p − ⟨ss⟩_q from the difference of the laws, which keeps small contrasts accurate."""
    states = all_states(_size(p))
    return (states.T @ (states * (p - q)[:, None])).fill_diagonal_(0)


def after_updates(
    law: torch.Tensor, couplings: torch.Tensor, updates: int | float | None = None, order: str = "random"
) -> torch.Tensor:
    """P T_w^k: the law P after k heat-bath updates of one spin each, exactly.

    Parameters
    ----------
    law : torch.Tensor, shape (2^N,)
        P on the rows of `all_states(N)`, N ≤ 16.
    couplings : torch.Tensor, shape (N, N)
    updates : int ≥ 1, math.inf, or None
        k; None is N, one sweep; math.inf gives Q_w.
    order : "random" or "sweep"
        A random site each time, T = (1/N) Σ_i T_i, or the sites 0, 1, … in turn, always from site 0.

    Returns
    -------
    torch.Tensor
        (2^N,), float64.

    Raises
    ------
    ValueError
        If the law does not fit the couplings, N > 16, updates < 1 or `order` is unknown.
    """
    couplings = _couplings(couplings, MOST_IN_A_CHAIN).detach()
    n = len(couplings)
    return _moved(_law(law, n), couplings, _updates(updates, n), _order(order))


def expected_update(
    law: torch.Tensor, couplings: torch.Tensor, updates: int | float | None = None, order: str = "random"
) -> torch.Tensor:
    """What contrastive divergence adds to the couplings on average, exactly: ⟨s_i s_j⟩_P − ⟨s_i s_j⟩_{P T_w^k}.

    It vanishes where P = Q_w, for any k. With k = 1 random update it is the gradient of the mean log pseudolikelihood over N, for
    any P; with k = ∞ it is −∇KL(P ‖ Q_w). Where Q_w only has the correlations of P (the maximum of the likelihood) it is
    the bias: it falls as λ^k, λ of `slowest_mode`, but is not zero, unless N ≤ 4. There P − Q_w has nothing left, besides
    odd functions, but a multiple of s_1 s_2 s_3 s_4, and a heat-bath update averages over its spin, which kills that at once.

    Parameters
    ----------
    law, couplings, updates, order
        As in `after_updates`.

    Returns
    -------
    torch.Tensor
        (N, N), float64, zero on the diagonal.

    Raises
    ------
    ValueError
        As `after_updates`.

    Notes
    -----
    Hinton (2002), Neural Computation 14, 1771; Hyvärinen (2006), Neural Computation 18, 2283, for k = 1. Claims
    LEC-08, CON-02 to CON-04.
    """
    couplings = _couplings(couplings, MOST_IN_A_CHAIN).detach()
    n = len(couplings)
    p = _law(law, n)
    return _contrast(p, _moved(p, couplings, _updates(updates, n), _order(order)))


def contrastive_fixed_point(
    law: torch.Tensor, updates: int | float | None = None, order: str = "random"
) -> torch.Tensor:
    """The couplings where contrastive divergence stops on average, `expected_update` = 0: the root next to maximum likelihood.

    Parameters
    ----------
    law, updates, order
        As in `after_updates`. math.inf is maximum likelihood, ⟨ss⟩_Q = ⟨ss⟩_P; 1 random update is maximum pseudolikelihood.

    Returns
    -------
    torch.Tensor
        (N, N), float64.

    Raises
    ------
    ValueError
        If the law is none, has no finite couplings of maximum likelihood, or the root is not found.

    Notes
    -----
    Carreira-Perpiñán, Hinton (2005), AISTATS, on the size of the bias. Claim LEC-08.
    """
    p = _law(law)
    n = _size(p)
    k, order = _updates(updates, n), _order(order)
    start = fit_ising(all_states(n), "likelihood", counts=p).couplings
    if k == math.inf:
        return start

    def mismatch(w):
        w = _matrix(torch.from_numpy(w), n)
        return pair_values(_contrast(p, _moved(p, w, k, order))).numpy()

    found = root(mismatch, pair_values(start).numpy(), tol=1e-13)
    if not float(abs(found.fun).max()) < 1e-11:
        raise ValueError(f"law: no couplings found where contrastive divergence stops ({found.message})")
    return _matrix(torch.from_numpy(found.x), n)


def _learn(n: int, steps, rate, start, contrast: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
    """The path of Δw = rate · contrast(w), (steps + 1, N, N)."""
    steps, rate = _count(steps, "steps", 0), _number(rate, "rate", 0, strict=True)
    w = torch.zeros(n, n, dtype=torch.float64) if start is None else _couplings(start).detach()
    if len(w) != n:
        raise ValueError(f"start: got N = {len(w)}; expected {n}, that of the data")
    path = [w]
    for _ in range(steps):
        w = w + rate * contrast(w)
        if not float(w.abs().max()) < 1e3:
            raise ValueError(f"rate: got {rate}, at which the couplings diverge; expected a smaller one")
        path.append(w)
    return torch.stack(path)


def expected_learning(
    law: torch.Tensor,
    *,
    steps: int,
    rate: float,
    updates: int | float | None = None,
    order: str = "random",
    persistent: bool = False,
    start: torch.Tensor | None = None,
) -> torch.Tensor:
    """Learning with infinitely many chains, exactly: Δw = rate (⟨ss⟩_P − ⟨ss⟩ of the chains), no noise.

    Contrastive divergence starts the chains at P every time. Persistent chains go on from where they are: where the
    couplings stand still so do the chains, their law is Q_w, and the only fixed point is maximum likelihood, for any k.

    Parameters
    ----------
    law, updates, order
        As in `after_updates`; math.inf is gradient descent of KL(P ‖ Q_w).
    steps : int
        Updates of the couplings.
    rate : float, > 0
    persistent : bool
        The chains start at P once, and then go on.
    start : torch.Tensor, shape (N, N), optional
        First couplings; None is zero.

    Returns
    -------
    torch.Tensor
        (steps + 1, N, N), the couplings from first to last.

    Raises
    ------
    ValueError
        If the law does not fit, N > 16, a number is out of range, or the couplings diverge (the rate is too large).

    Notes
    -----
    Younes (1989), Probab. Theory Relat. Fields 82, 625; Tieleman (2008), ICML. Claim CON-05.
    """
    p, order = _law(law), _order(order)
    n = _size(p)
    if n > MOST_IN_A_CHAIN:
        raise ValueError(f"law: got N = {n}; a law is moved up to N = {MOST_IN_A_CHAIN}")
    k, chains = _updates(updates, n), p

    def contrast(w):
        nonlocal chains
        chains = _moved(chains if persistent else p, w, k, order)
        return _contrast(p, chains)

    return _learn(n, steps, rate, start, contrast)


def slowest_mode(couplings: torch.Tensor) -> float:
    """λ, the largest eigenvalue below 1 of one random heat-bath update, among the functions that a flip of all spins leaves alone.

    Correlations ⟨s_i s_j⟩ are such functions: the bias of contrastive divergence falls as λ^k, and the chains forget pairs in
    −1/log λ updates. The update is reversible with respect to Q_w, so its spectrum is real.

    Parameters
    ----------
    couplings : torch.Tensor, shape (N, N)
        2 ≤ N ≤ 10.

    Raises
    ------
    ValueError
        As `boltzmann_exact`, or if N is 1 or above 10.
    """
    couplings = _couplings(couplings, 10).detach()
    if len(couplings) == 1:
        raise ValueError("couplings: got N = 1, which has no pairs; expected 2 to 10")
    amplitude = boltzmann_law(couplings).sqrt()
    symmetric = amplitude[:, None] * transition_matrix(couplings, None, 1.0) / amplitude
    half = len(amplitude) // 2  # a state and its flip are rows r and 2^N − 1 − r
    even = symmetric[:half, :half] + symmetric[:half, half:].flip(1)
    return float(torch.linalg.eigvalsh((even + even.T) / 2)[-2])


def _heat_bath(spins: torch.Tensor, couplings: torch.Tensor, updates: int, generator) -> torch.Tensor:
    seed = philox.key(generator)
    return glauber.sequential(spins.to(torch.int8), couplings.detach(), None, 1.0, updates=updates, seed=seed)


def contrastive_divergence(
    samples: torch.Tensor,
    couplings: torch.Tensor,
    *,
    updates: int | None = None,
    chains: torch.Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Contrast:
    """One estimate of the update, ⟨s_i s_j⟩_data − ⟨s_i s_j⟩_chains, the chains having made k heat-bath updates of random spins.

    CD-k starts the chains at the samples; persistent contrastive divergence gives back the ``chains`` of the call before.
    Add ``rate * update`` to the couplings: samples are lowered, chains are raised.

    Parameters
    ----------
    samples : torch.Tensor, shape (n, N)
        Of ±1.
    couplings : torch.Tensor, shape (N, N)
        Of the model, any N.
    updates : int, optional
        k single-spin updates of each chain; None is N, one sweep (the literature's CD-1).
    chains : torch.Tensor, shape (R, N), optional
        Where the chains start; None is at the samples.
    generator : torch.Generator, optional

    Returns
    -------
    Contrast
        ``update`` (N, N), float64, and ``chains`` (R, N), int8.

    Raises
    ------
    ValueError
        If samples or chains are not ±1, a size does not fit, or updates < 1.

    Notes
    -----
    Hinton (2002), Neural Computation 14, 1771; Tieleman (2008), ICML. `expected_update` is its mean.
    """
    couplings, data = _couplings(couplings), _spins(samples)
    rows, n = data if chains is None else _spins(chains, "chains"), len(couplings)
    for name, s in (("samples", data), ("chains", rows)):
        if s.shape[1] != n:
            raise ValueError(f"{name}: got {s.shape[1]} spins; expected {n}, the size of the couplings")
    moved = _heat_bath(rows, couplings, _count(n if updates is None else updates, "updates", 1), generator)
    return Contrast(pair_correlations(data) - pair_correlations(moved), moved)


def train_ising(
    samples: torch.Tensor,
    *,
    steps: int,
    rate: float,
    updates: int | None = None,
    persistent: bool = False,
    start: torch.Tensor | None = None,
    generator: torch.Generator | None = None,
) -> torch.Tensor:
    """Couplings learned by contrastive divergence, one chain per sample: Δw = rate (⟨ss⟩_data − ⟨ss⟩_chains).

    Parameters
    ----------
    samples : torch.Tensor, shape (n, N)
        Of ±1.
    steps : int
        Updates of the couplings.
    rate : float, > 0
        The noise of the chains stays: average over late steps.
    updates : int, optional
        k single-spin updates of each chain a step; None is N, one sweep.
    persistent : bool
        The chains start at the samples once, and then go on; else they start there every time.
    start : torch.Tensor, shape (N, N), optional
        First couplings; None is zero.
    generator : torch.Generator, optional

    Returns
    -------
    torch.Tensor
        (steps + 1, N, N), float64, the couplings from first to last.

    Raises
    ------
    ValueError
        As `contrastive_divergence`, or if a number is out of range or the couplings diverge (the rate is too large).
    """
    data, own = _spins(samples).to(torch.int8), _stream(generator)
    chains = data

    def contrast(w):
        nonlocal chains
        update, moved = contrastive_divergence(data, w, updates=updates, chains=chains, generator=own)
        chains = moved if persistent else data
        return update

    return _learn(data.shape[1], steps, rate, start, contrast)


# ------------------------------------------------------------------------------------------------- couplings from samples


def sample_ising(
    couplings: torch.Tensor,
    n_samples: int,
    *,
    sweeps: int | None = None,
    generator: torch.Generator | None = None,
) -> torch.Tensor:
    """Independent draws from Q_w: exact by enumeration, or heat-bath chains, one for each sample.

    Parameters
    ----------
    couplings : torch.Tensor, shape (N, N)
        N ≤ 20 if `sweeps` is None.
    n_samples : int
    sweeps : int, optional
        Sweeps (N updates of random spins) of each chain from a random state: enough of them for equilibrium. None
        enumerates the states.
    generator : torch.Generator, optional

    Returns
    -------
    torch.Tensor
        (n_samples, N), int8.

    Raises
    ------
    ValueError
        If the couplings are none, N > 20 without sweeps, or a count is below 1.
    """
    couplings, n, own = _couplings(couplings), _count(n_samples, "n_samples", 1), _stream(generator)
    if sweeps is None:
        rows = torch.multinomial(boltzmann_law(couplings).detach(), n, replacement=True, generator=own)
        return all_states(len(couplings))[rows].to(torch.int8)
    start = 2 * torch.randint(2, (n, len(couplings)), generator=own, dtype=torch.int8) - 1
    return _heat_bath(start, couplings, _count(sweeps, "sweeps", 1) * len(couplings), own)


def _conditional(method: str, u: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """ℓ, ℓ′, ℓ″ at u = 2 s_i φ_i, where Q(s_i | the others) = 1/(1 + e^{−u}): ℓ is −log Q, or (1 − Q)² for ratio matching."""
    r = torch.special.expit(-u)
    if method == "pseudolikelihood":
        return softplus(-u), -r, r * (1 - r)
    return r**2, -2 * r**2 * (1 - r), r**2 * (1 - r) * (4 - 6 * r)


def _objective(method: str, s: torch.Tensor, p: torch.Tensor):
    """What the method minimises, a mean over samples s of weights p, with its gradient over pairs: a function of w."""
    if method == "likelihood":
        wanted = pair_values(pair_correlations(s, p))

        def likelihood(w):
            log_z, correlations = boltzmann_exact(w)
            return log_z - pair_values(w) @ wanted, pair_values(correlations) - wanted

        return likelihood

    def conditionals(w):
        value, slope, _ = _conditional(method, 2 * s * (s @ w))
        moment = (slope * s * p[:, None]).T @ s  # E ℓ′_i s_i s_j; w_ij stands in u_i and in u_j
        return p @ value.sum(1), 2 * pair_values(moment + moment.T)

    return conditionals


def _hessian(method: str, s: torch.Tensor, p: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    if method == "likelihood":
        return fisher_information(w)
    n = len(w)
    size = n * (n - 1) // 2
    number = _matrix(torch.arange(size), n)  # of the pair (i, j)
    curvature = 4 * _conditional(method, 2 * s * (s @ w))[2] * p[:, None]
    hessian = torch.zeros(size, size, dtype=torch.float64)
    for i in range(n):  # two pairs share a term if they share its spin i: 4 E ℓ″_i s_j s_k
        others = torch.arange(n) != i
        at, rest = number[i, others], s[:, others]
        hessian[at[:, None], at] += rest.T @ (rest * curvature[:, i : i + 1])
    return hessian


def _gradient_covariance(method: str, s: torch.Tensor, p: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    """Covariance over the samples of what one of them adds to the gradient, in blocks of rows."""
    i, j = pairs(s.shape[1])
    mean, second = torch.zeros(len(i), dtype=torch.float64), torch.zeros(len(i), len(i), dtype=torch.float64)
    block = max(1, MOST_NUMBERS // max(1, len(i)))
    for rows, weight in zip(s.split(block), p.split(block), strict=True):
        g = rows[:, i] * rows[:, j]
        if method != "likelihood":
            slope = _conditional(method, 2 * rows * (rows @ w))[1]
            g *= 2 * (slope[:, i] + slope[:, j])
        mean += weight @ g
        second += g.T @ (g * weight[:, None])
    return second - torch.outer(mean, mean)


def fisher_information(couplings: torch.Tensor) -> torch.Tensor:
    """I = Cov_Q(s_i s_j, s_k s_l) over pairs, the Hessian of log Z: no unbiased estimate from n samples beats I⁻¹/n.

    Parameters
    ----------
    couplings : torch.Tensor, shape (N, N)
        N ≤ 20 (seconds at N = 20).

    Returns
    -------
    torch.Tensor
        (P, P), P = N(N−1)/2 in the order of `pairs`, float64.

    Raises
    ------
    ValueError
        As `boltzmann_exact`.

    Notes
    -----
    The bound of Rao (1945) and Cramér (1946). Claim CON-07.
    """
    w = _couplings(couplings, MOST_ENUMERATED).detach()
    return _gradient_covariance("likelihood", all_states(len(w)), boltzmann_law(w), w)


def _inverse(hessian: torch.Tensor, problem: str) -> torch.Tensor:
    """The inverse of a positive matrix; ValueError if rounding can not tell it from a singular one."""
    factor, failed = torch.linalg.cholesky_ex(hessian)
    if bool(failed) or bool((factor.diagonal().square() < 1e-13 * hessian.diagonal().amax()).any()):
        raise ValueError(problem)
    return torch.cholesky_inverse(factor)


UNFIXED = "samples: they do not fix finite couplings; expected more of them, or spins that are less alike"
FROZEN = "couplings: got some so strong that pairs never vary, to rounding; expected weaker ones"


def _minimise(objective, hessian, start: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The minimum of a smooth function and the inverse Hessian there: SciPy's L-BFGS, then Newton's steps to rounding."""

    def flat(x):
        value, gradient = objective(torch.from_numpy(x))
        return float(value), gradient.numpy()

    options = {"maxiter": 5000, "maxfun": 10000, "ftol": 1e-15, "gtol": 1e-8, "maxcor": 20}
    x = torch.from_numpy(minimize(flat, start.numpy(), jac=True, method="L-BFGS-B", options=options).x)
    inverse = _inverse(hessian(x), UNFIXED)
    for _ in range(10):
        step = inverse @ objective(x)[1]
        x = x - step
        if float(step.abs().max()) < 1e-11:
            break
    if not float(step.abs().max()) < 1e-7:  # towards a minimum at infinity every step is of order one
        raise ValueError(UNFIXED)
    return x, inverse


def fit_ising(
    samples: torch.Tensor, method: str | None = None, *, counts: torch.Tensor | None = None
) -> IsingFit:
    """Couplings of exp(½ sᵀws)/Z from independent samples, with standard errors.

    - ``likelihood``: the mean of log Z(w) − ½ sᵀws; needs Z, so N ≤ 20 (seconds there).
    - ``pseudolikelihood``: the mean of −Σ_i log Q(s_i | the others), any N.
    - ``ratio``: the mean of Σ_i (1 − Q(s_i | the others))², ratio matching, any N.

    All three find the truth as n → ∞. With H the Hessian and V the covariance of what one sample adds to the gradient, the errors are
    those of H⁻¹VH⁻¹/n, which holds as well for data that no Boltzmann machine makes.

    Parameters
    ----------
    samples : torch.Tensor, shape (n, N)
        Of ±1, independent (thin a chain first). A column of ones fits fields: the couplings to it are the h_i.
    method : str, optional
        None is the likelihood up to N = 16, and the pseudolikelihood beyond.
    counts : torch.Tensor, shape (n,), optional
        How often each row came; the errors are for Σ counts samples. With all states and their probabilities the couplings are
        those of infinitely many samples, and the errors those of one.

    Returns
    -------
    IsingFit
        ``couplings`` and ``errors``, (N, N), float64, zero on the diagonal.

    Raises
    ------
    ValueError
        If samples are not ±1, N = 1, the method is unknown, N > 20 for the likelihood, counts do not fit, or the samples
        do not fix finite couplings.

    Notes
    -----
    Besag (1975), The Statistician 24, 179, for the pseudolikelihood; Hyvärinen (2007), Comput. Stat. Data Anal. 51, 2499, for ratio
    matching; Godambe (1960), Ann. Math. Stat. 31, 1208, for the errors. Claims LEC-08, CON-07 to CON-10.
    """
    s = _spins(samples).double()
    n = s.shape[1]
    if n == 1:
        raise ValueError("samples: got N = 1, which has no pairs; expected N >= 2")
    if method is None:
        method = "likelihood" if n <= 16 else "pseudolikelihood"
    if method not in METHODS:
        raise ValueError(f"method: got {method!r}; expected one of {METHODS}")
    if method == "likelihood" and n > MOST_ENUMERATED:
        raise ValueError(f"samples: got N = {n}; the likelihood is enumerated up to N = {MOST_ENUMERATED}")
    masses = torch.ones(len(s), dtype=torch.float64) if counts is None else _masses(counts, len(s), "counts")
    total = masses.sum()
    p = masses / total
    objective = _objective(method, s, p)
    x, inverse = _minimise(
        lambda x: objective(_matrix(x, n)),
        lambda x: _hessian(method, s, p, _matrix(x, n)),
        torch.zeros(n * (n - 1) // 2, dtype=torch.float64),
    )
    w = _matrix(x, n)
    variance = ((inverse @ _gradient_covariance(method, s, p, w)) * inverse).sum(1) / total
    return IsingFit(w, _matrix(variance.clamp(min=0).sqrt(), n))


def _backward(f: torch.Tensor, s: torch.Tensor, w: torch.Tensor, updates: int) -> torch.Tensor:
    """(T^k f)(s): the mean of f after k random heat-bath updates from s."""
    leave, turned = _wrong(s, w), _turned(len(w))
    for _ in range(updates):
        f = f + sum(leave[:, i : i + 1] * (f[turned[:, i]] - f) for i in range(len(w))) / len(w)
    return f


def asymptotic_covariance(
    couplings: torch.Tensor, method: str, *, updates: int | None = None
) -> torch.Tensor:
    """n times the covariance of the couplings that a method learns from n → ∞ samples of Q_w itself, exactly.

    The likelihood reaches I⁻¹, the bound of Cramér and Rao. Pseudolikelihood and ratio matching have H⁻¹VH⁻¹ of `fit_ising`, and so
    has contrastive divergence of k random updates and infinitely many chains per sample, with f = s_i s_j,
    H = Cov(f, (1 − T^k) f) and V = Cov((1 − T^k) f): the pseudolikelihood's at k = 1, the likelihood's at k = ∞.

    Parameters
    ----------
    couplings : torch.Tensor, shape (N, N)
        The truth, N ≤ 12.
    method : str
        ``likelihood``, ``pseudolikelihood``, ``ratio`` or ``contrastive``.
    updates : int, optional
        k of ``contrastive``; None is N, one sweep.

    Returns
    -------
    torch.Tensor
        (P, P) over pairs, float64.

    Raises
    ------
    ValueError
        If the couplings are none, N > 12, or the method is unknown.

    Notes
    -----
    Godambe (1960), Ann. Math. Stat. 31, 1208; Jiang, Wu, Jin, Wong (2018), Ann. Stat. 46, 3067, for contrastive divergence. Claims
    CON-06, CON-08, CON-10.
    """
    w = _couplings(couplings, 12).detach()
    s, q = all_states(len(w)), boltzmann_law(w)
    if method == "contrastive":
        k = _count(len(w) if updates is None else updates, "updates", 1)
        f = _features(s)
        f = f - q @ f
        change = f - _backward(f, s, w, k)
        hessian, spread = f.T @ (change * q[:, None]), change.T @ (change * q[:, None])
    elif method in METHODS:
        hessian, spread = _hessian(method, s, q, w), _gradient_covariance(method, s, q, w)
    else:
        raise ValueError(f"method: got {method!r}; expected one of {(*METHODS, 'contrastive')}")
    inverse = _inverse(hessian, FROZEN)
    return inverse @ spread @ inverse


# ------------------------------------------------------------------------------------------------- noise as the contrast


def _log_noise(log_noise, spins: torch.Tensor) -> torch.Tensor:
    """(n,) log probabilities under the noise; None is fair signs."""
    if log_noise is None:
        return torch.full((len(spins),), -spins.shape[1] * math.log(2), dtype=torch.float64)
    value = log_noise(spins)
    if (
        not isinstance(value, torch.Tensor)
        or value.shape != (len(spins),)
        or not bool(value.isfinite().all())
    ):
        raise ValueError(f"log_noise: got {_got(value)}; expected finite log probabilities ({len(spins)},)")
    return value.detach().double()


def _rows(spins: torch.Tensor) -> torch.Tensor:
    """(s_i s_j, −1): what multiplies (w, log Z) in log Q."""
    return torch.cat([_features(spins), -torch.ones(len(spins), 1, dtype=torch.float64)], 1)


def noise_contrastive(
    samples: torch.Tensor,
    noise: torch.Tensor,
    log_noise: Callable[[torch.Tensor], torch.Tensor] | None = None,
) -> NoiseFit:
    """Couplings and log Z from telling samples and noise apart, by logistic regression: no sum over states.

    With ν noise samples per sample and G(s) = ½ sᵀws − log Z − log p_noise(s) − log ν, the log odds for a sample, it minimises

        E_data log(1 + e^{−G}) + ν E_noise log(1 + e^{G}),

    log Z being one more parameter. As n → ∞ the minimum is at the truth, log Z included, if no state is impossible for the noise.

    Parameters
    ----------
    samples : torch.Tensor, shape (n, N)
        Of ±1, independent.
    noise : torch.Tensor, shape (m, N)
        Of ±1, independent; ν = m/n.
    log_noise : callable, optional
        From s of shape (·, N), float64, to log p_noise(s), (·,). None: the noise is fair signs.

    Returns
    -------
    NoiseFit
        ``couplings``, ``errors`` (N, N), ``log_z`` and ``log_z_error``; the errors by the sandwich of `fit_ising`.

    Raises
    ------
    ValueError
        If samples or noise are not ±1 or differ in N, N = 1, `log_noise` is not finite, or no finite couplings fit.

    Notes
    -----
    Gutmann, Hyvärinen (2012), J. Mach. Learn. Res. 13, 307. Claims CON-11, CON-12.
    """
    data, fake = _spins(samples).double(), _spins(noise, "noise").double()
    n, count = data.shape[1], len(data)
    if fake.shape[1] != n:
        raise ValueError(f"noise: got {fake.shape[1]} spins; expected {n}, as in the samples")
    if n == 1:
        raise ValueError("samples: got N = 1, which has no pairs; expected N >= 2")
    rows, both = torch.cat([_rows(data), _rows(fake)]), torch.cat([data, fake])
    offset = _log_noise(log_noise, both) + math.log(len(fake) / count)
    sign = torch.where(torch.arange(len(both)) < count, 1.0, -1.0).double()

    def mistaken(x):  # log odds against what the row is
        return -sign * (rows @ x - offset)

    def objective(x):
        u = mistaken(x)
        return softplus(u).sum() / count, -(sign * torch.special.expit(u)) @ rows / count

    def hessian(x):
        r = torch.special.expit(mistaken(x))
        return rows.T @ (rows * (r * (1 - r))[:, None]) / count

    start = torch.zeros(rows.shape[1], dtype=torch.float64)
    start[-1] = n * math.log(2)
    x, inverse = _minimise(objective, hessian, start)
    pull = rows * torch.special.expit(mistaken(x))[:, None]
    spread = sum(torch.cov(part.T, correction=0) * len(part) for part in (pull[:count], pull[count:])) / count
    error = (inverse @ spread @ inverse / count).diagonal().clamp(min=0).sqrt()
    return NoiseFit(_matrix(x[:-1], n), _matrix(error[:-1], n), float(x[-1]), float(error[-1]))


def noise_covariance(
    couplings: torch.Tensor,
    ratio: float,
    log_noise: Callable[[torch.Tensor], torch.Tensor] | None = None,
) -> torch.Tensor:
    """n times the covariance of (w, log Z) by noise-contrastive estimation from n → ∞ samples of Q_w, exactly.

    With g = (s_i s_j, −1) and I = E_Q[ν p_noise/(Q + ν p_noise) g gᵀ] it is I⁻¹, less 1 + 1/ν for log Z alone. Noise with the law of
    the data costs the couplings 1 + 1/ν times the bound of Cramér and Rao, and any noise reaches the bound as ν → ∞.

    Parameters
    ----------
    couplings : torch.Tensor, shape (N, N)
        The truth, N ≤ 12.
    ratio : float, > 0
        ν, noise samples per sample.
    log_noise : callable, optional
        As in `noise_contrastive`.

    Returns
    -------
    torch.Tensor
        (P + 1, P + 1), the pairs first and log Z last, float64.

    Raises
    ------
    ValueError
        If the couplings are none, N > 12, or ratio ≤ 0.

    Notes
    -----
    Gutmann, Hyvärinen (2012), J. Mach. Learn. Res. 13, 307, theorem 3; Chehab, Gramfort, Hyvärinen (2022), UAI, on the best noise.
    Claims CON-12, CON-13.
    """
    w, nu = _couplings(couplings, 12).detach(), _number(ratio, "ratio", 0, strict=True)
    s, q = all_states(len(w)), boltzmann_law(w)
    share = torch.special.expit(math.log(nu) + _log_noise(log_noise, s) - q.log())
    g = _rows(s)
    covariance = _inverse(g.T @ (g * (q * share)[:, None]), FROZEN)
    covariance[-1, -1] -= 1 + 1 / nu
    return covariance


# ------------------------------------------------------------------------------------------------- hidden spins


def _rbm(weights, most: int) -> torch.Tensor:
    fits = isinstance(weights, torch.Tensor) and weights.is_floating_point() and weights.ndim == 2
    if not fits or weights.numel() == 0 or not bool(weights.isfinite().all()):
        raise ValueError(
            f"weights: got {_got(weights)}; expected finite floating-point numbers, shape (M, N)"
        )
    if weights.shape[1] > most:
        raise ValueError(f"weights: got {weights.shape[1]} visible spins; enumeration serves up to {most}")
    return weights.double()


def rbm_exact(weights: torch.Tensor) -> RBM:
    """A restricted Boltzmann machine of hidden spins h and visible spins v, exp(Σ_ai W_ai h_a v_i)/Z, the hidden ones summed.

    Q(v) = Π_a 2 cosh(Σ_i W_ai v_i)/Z: interactions of every even order between the visible spins.

    Parameters
    ----------
    weights : torch.Tensor, shape (M, N)
        W, hidden × visible, floating point, N ≤ 16; may require a gradient.

    Returns
    -------
    RBM
        ``log_z`` in nats and ``law`` (2^N,) on the rows of `all_states(N)`.

    Raises
    ------
    ValueError
        If the weights are not a finite floating-point matrix or N > 16.

    Notes
    -----
    Smolensky (1986), in Parallel Distributed Processing 1, 194.
    """
    w = _rbm(weights, 16)
    x = all_states(w.shape[1]) @ w.T
    exponent = torch.logaddexp(x, -x).sum(1)
    return RBM(torch.logsumexp(exponent, 0), torch.softmax(exponent, 0))


def rbm_phases(weights: torch.Tensor, law: torch.Tensor) -> Phases:
    """The two phases of learning with hidden spins: −∂KL(P ‖ Q)/∂W_ai = ⟨h_a v_i⟩_clamped − ⟨h_a v_i⟩_free.

    Clamped (wake): v from P, h from Q(h | v) with mean tanh(Σ_i W_ai v_i), which is the E step of expectation maximisation; with
    no hidden spins there is none. Free (sleep): v from Q as well.

    Parameters
    ----------
    weights : torch.Tensor, shape (M, N)
    law : torch.Tensor, shape (2^N,)
        P of the visible spins on the rows of `all_states(N)`, N ≤ 16.

    Returns
    -------
    Phases
        ``clamped`` and ``free``, (M, N).

    Raises
    ------
    ValueError
        If the weights are none, N > 16, or the law does not fit.

    Notes
    -----
    Ackley, Hinton, Sejnowski (1985), Cognitive Science 9, 147. Claims MUR-12, CON-15.
    """
    w = _rbm(weights, 16).detach()
    p, v = _law(law, w.shape[1]), all_states(w.shape[1])
    h = torch.tanh(v @ w.T)
    return Phases(*(h.T @ (v * q[:, None]) for q in (p, rbm_exact(w).law)))


def rbm_expected_update(weights: torch.Tensor, law: torch.Tensor, rounds: int | float = 1) -> torch.Tensor:
    """What CD-k adds to the weights on average: ⟨h_a v_i⟩ at P minus ⟨h_a v_i⟩ after k rounds v → h → v from P.

    Parameters
    ----------
    weights : torch.Tensor, shape (M, N)
        M, N ≤ 10.
    law : torch.Tensor, shape (2^N,)
    rounds : int ≥ 1 or math.inf
        k; math.inf is the gradient of the likelihood.

    Returns
    -------
    torch.Tensor
        (M, N), float64.

    Raises
    ------
    ValueError
        If M or N is above 10, the law does not fit, or rounds < 1.

    Notes
    -----
    Hinton (2002), Neural Computation 14, 1771. Claim CON-14.
    """
    w = _rbm(weights, 10).detach()
    if len(w) > 10:
        raise ValueError(f"weights: got {len(w)} hidden spins; the sum over them serves up to 10")
    p, v = _law(law, w.shape[1]), all_states(w.shape[1])
    if rounds == math.inf:
        moved = rbm_exact(w).law
    else:
        exponent, moved = v @ w.T @ all_states(len(w)).T, p
        down, up = torch.softmax(exponent, 1), torch.softmax(exponent, 0).T  # Q(h | v) and Q(v | h)
        for _ in range(_count(rounds, "rounds", 1)):
            moved = moved @ down @ up
    return torch.tanh(v @ w.T).T @ (v * (p - moved)[:, None])


# ------------------------------------------------------------------------------------------------- scores as the contrast


def _divergence(x: torch.Tensor, field: torch.Tensor, name: str = "score") -> torch.Tensor:
    """∇·ψ at each point, (n,); ψ must depend on x through torch."""
    if not field.requires_grad:
        raise ValueError(f"{name}: torch can not differentiate it in x, and its divergence is wanted")
    columns = (
        torch.autograd.grad(field[:, i].sum(), x, create_graph=True, materialize_grads=True)[0][:, i]
        for i in range(x.shape[1])
    )
    return sum(columns)


def _at(score: Score, x: torch.Tensor, name: str = "score") -> torch.Tensor:
    value = score(x)
    if not isinstance(value, torch.Tensor) or value.shape != x.shape:
        raise ValueError(
            f"{name}: got {_got(value)} from {name}(x); expected shape {tuple(x.shape)}, that of x"
        )
    return value


def implicit_score_matching(
    x: torch.Tensor, score: Score, weights: torch.Tensor | None = None
) -> torch.Tensor:
    """E[|ψ|² + 2 ∇·ψ]: the mismatch E|ψ − ∇log p|² of a score but for the constant E|∇log p|², from data alone.

    On a smooth law p it is never below −E|∇log p|². On finitely many data it has no least value: the score of spikes of
    width ε on the data gives −2d/ε².

    Parameters
    ----------
    x : torch.Tensor, shape (n, d)
        Data, or nodes of a quadrature.
    score : callable
        ψ(x) of shape (n, d), float64 in, that torch can differentiate.
    weights : torch.Tensor, shape (n,), optional
        Of the data, divided by their sum; None is the plain mean.

    Returns
    -------
    torch.Tensor
        A scalar, float64, differentiable in the parameters of the score (detach it to print it).

    Raises
    ------
    ValueError
        If x is not finite, or the score has a wrong shape or can not be differentiated.

    Notes
    -----
    Hyvärinen (2005), J. Mach. Learn. Res. 6, 695, twice his objective. Claims CON-16, CON-23.
    """
    at = _points(x).requires_grad_()
    psi = _at(score, at)
    return _weights(weights, at) @ (psi.square().sum(1) + 2 * _divergence(at, psi)).double()


def score_matching_losses(
    x: torch.Tensor, score: Score, target: Score, weights: torch.Tensor | None = None
) -> ScoreLosses:
    """Explicit score matching E|ψ − ∇log p|², implicit E[|ψ|² + 2∇·ψ], and E|∇log p|², by which they differ.

    Parameters
    ----------
    x : torch.Tensor, shape (n, d)
        Points of the law p: samples, or nodes of a quadrature, with whose accuracy the identity then holds.
    score, target : callable
        ψ and ∇log p, (n, d) to (n, d).
    weights : torch.Tensor, shape (n,), optional
        Of the points, divided by their sum.

    Returns
    -------
    ScoreLosses

    Raises
    ------
    ValueError
        As `implicit_score_matching`.

    Notes
    -----
    Hyvärinen (2005), J. Mach. Learn. Res. 6, 695, theorem 1: E ψ·∇log p = −E ∇·ψ by parts, if p ψ vanishes far out. Claim CON-16.
    """
    at, p = _points(x), _weights(weights, x)
    psi, true = _at(score, at).detach().double(), _at(target, at, "target").detach().double()
    implicit = implicit_score_matching(at, score, weights).detach()
    return ScoreLosses(p @ (psi - true).square().sum(1), implicit, p @ true.square().sum(1))


def _feature_derivatives(x: torch.Tensor, features) -> tuple[torch.Tensor, torch.Tensor]:
    """∇φ_k (n, K, d) and Δφ_k (n, K) at the points."""
    at = x.detach().requires_grad_()
    phi = features(at)
    if not isinstance(phi, torch.Tensor) or phi.ndim != 2 or len(phi) != len(x) or not phi.requires_grad:
        raise ValueError(f"features: got {_got(phi)} from features(x); expected differentiable ({len(x)}, K)")
    gradients, laplacians = [], []
    for column in phi.unbind(1):
        (gradient,) = torch.autograd.grad(column.sum(), at, create_graph=True)
        gradients.append(gradient.detach())
        # The gradient of a linear feature is a constant, with nothing to differentiate.
        curved = gradient.requires_grad
        laplacians.append(_divergence(at, gradient).detach() if curved else torch.zeros_like(gradient[:, 0]))
    return torch.stack(gradients, 1), torch.stack(laplacians, 1)


def score_matching_equations(
    x: torch.Tensor, features: Callable[[torch.Tensor], torch.Tensor], weights: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """A and b of the implicit loss θᵀAθ − 2 bᵀθ of exp(−Σ θ_k φ_k)/Z: A_kl = E ∇φ_k·∇φ_l, b_k = E Δφ_k.

    Parameters
    ----------
    x : torch.Tensor, shape (n, d)
    features : callable
        φ(x) of shape (n, K), twice differentiable by torch.
    weights : torch.Tensor, shape (n,), optional

    Returns
    -------
    (torch.Tensor, torch.Tensor)
        A (K, K) and b (K,), float64: the loss is least at θ = A⁻¹ b.

    Raises
    ------
    ValueError
        If x is not finite, or the features have a wrong shape or can not be differentiated.

    Notes
    -----
    Hyvärinen (2007), Comput. Stat. Data Anal. 51, 2499, for exponential families.
    """
    at = _points(x)
    p = _weights(weights, at)
    gradients, laplacians = _feature_derivatives(at, features)
    return torch.einsum("n,nkd,nld->kl", p, gradients, gradients), p @ laplacians


def score_matching_fit(samples: torch.Tensor, features: Callable[[torch.Tensor], torch.Tensor]) -> ScoreFit:
    """θ of p ∝ exp(−Σ θ_k φ_k) by score matching, A θ = b: one linear system, no normaliser, no sampling.

    For φ = (x_i, x_i x_j) it is the Gaussian with the mean and the covariance (1/n) of the data, as maximum likelihood.

    Parameters
    ----------
    samples : torch.Tensor, shape (n, d)
        Independent.
    features : callable
        φ(x) of shape (n, K), twice differentiable by torch.

    Returns
    -------
    ScoreFit
        ``theta`` (K,) and ``errors`` (K,) by the sandwich A⁻¹ Cov(∇φ·∇φ θ − Δφ) A⁻¹/n.

    Raises
    ------
    ValueError
        As `score_matching_equations`, or if the gradients of the features are linearly dependent on the samples.

    Notes
    -----
    Hyvärinen (2005), J. Mach. Learn. Res. 6, 695, section 3; (2007), Comput. Stat. Data Anal. 51, 2499. Claims CON-17, CON-18.
    """
    x = _points(samples)
    gradients, laplacians = _feature_derivatives(x, features)
    a = torch.einsum("nkd,nld->kl", gradients, gradients) / len(x)
    unit = a.diagonal().sqrt()  # features may have any unit: the matrix is judged with ones on its diagonal
    if not bool((unit > 0).all()) or float(torch.linalg.eigvalsh(a / torch.outer(unit, unit))[0]) < 1e-12:
        raise ValueError("features: got gradients that are linearly dependent on the samples; expected none")
    theta = torch.linalg.solve(a, laplacians.mean(0))
    mismatch = torch.einsum("nkd,nld,l->nk", gradients, gradients, theta) - laplacians
    influence = torch.linalg.solve(a, mismatch.T) / len(x)
    return ScoreFit(theta, influence.square().sum(1).sqrt())


def _gaussian_rule(x: torch.Tensor, nodes: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Nodes (nodes^d, d) and weights of the standard normal law in the dimension of x, where x is."""
    d = x.shape[1]
    if d > 3:
        raise ValueError(f"x: got d = {d}; the quadrature over the noise serves d <= 3")
    if not 2 <= _count(nodes, "nodes", 1) <= 180:
        raise ValueError(f"nodes: got {nodes}; expected 2 to 180")
    z, w = (torch.from_numpy(v).to(x.device) for v in np.polynomial.hermite_e.hermegauss(nodes))
    grid = torch.cartesian_prod(*[z] * d).reshape(-1, d)
    return grid, torch.cartesian_prod(*[w / w.sum()] * d).reshape(-1, d).prod(1)


def langevin_gradient(
    x: torch.Tensor,
    features: Callable[[torch.Tensor], torch.Tensor],
    theta: torch.Tensor,
    step: float,
    weights: torch.Tensor | None = None,
    nodes: int = 24,
) -> torch.Tensor:
    """What contrastive divergence with one Langevin step takes for ∂KL/∂θ: E φ(x) − E φ(x′), x′ = x − ε∇U + √(2ε) z.

    For ε → 0 it is ε (A θ − b) of `score_matching_equations`, half ε times the gradient of the implicit loss: score matching
    is contrastive divergence with the smallest step, as the pseudolikelihood is with a single spin.

    Parameters
    ----------
    x : torch.Tensor, shape (n, d)
        Data, or nodes of a quadrature with `weights`; d ≤ 3.
    features : callable
        φ(x) of shape (n, K); U = Σ θ_k φ_k.
    theta : torch.Tensor, shape (K,)
    step : float, > 0
        ε.
    weights : torch.Tensor, shape (n,), optional
    nodes : int
        Of the Gauss–Hermite rule over z, per dimension: exact for polynomial φ of degree below 2 nodes.

    Returns
    -------
    torch.Tensor
        (K,), float64.

    Raises
    ------
    ValueError
        As `score_matching_equations`, or if d > 3 or a number is out of range.

    Notes
    -----
    Hyvärinen (2007), IEEE Trans. Neural Networks 18, 1529. Claim CON-22.
    """
    at, epsilon = _points(x), _number(step, "step", 0, strict=True)
    p, (z, mass) = _weights(weights, at), _gaussian_rule(at, nodes)
    gradients, _ = _feature_derivatives(at, features)
    if not isinstance(theta, torch.Tensor) or theta.shape != (gradients.shape[1],):
        raise ValueError(f"theta: got {_got(theta)}; expected shape ({gradients.shape[1]},), one per feature")
    force = torch.einsum("nkd,k->nd", gradients, theta.detach().double())
    moved = (at - epsilon * force)[:, None] + math.sqrt(2 * epsilon) * z
    after = features(moved.flatten(0, 1)).detach().unflatten(0, moved.shape[:2])
    return p @ (features(at).detach() - torch.einsum("z,nzk->nk", mass, after))


def denoising_score_matching(
    data: torch.Tensor, score: Score, sigma: float, weights: torch.Tensor | None = None, nodes: int = 40
) -> Denoising:
    """Data against their noised copies x̃ = x + σz: E|ψ(x̃) + (x̃ − x)/σ²|² = E|ψ − ∇log p_σ|² + d/σ² − E|∇log p_σ|².

    The noise is integrated by a Gauss–Hermite rule and the data are summed, so p_σ is their mixture of Gaussians.

    Parameters
    ----------
    data : torch.Tensor, shape (n, d)
        d ≤ 3.
    score : callable
        ψ(x̃), (·, d) to (·, d), float64 in.
    sigma : float, > 0
    weights : torch.Tensor, shape (n,), optional
        Of the data, divided by their sum; None is 1/n each.
    nodes : int
        Per dimension.

    Returns
    -------
    Denoising

    Raises
    ------
    ValueError
        If data are not finite, d > 3, the score has a wrong shape, or a number is out of range.

    Notes
    -----
    Vincent (2011), Neural Computation 23, 1661. Claim LEC-14.
    """
    x, sigma = _points(data, "data"), _number(sigma, "sigma", 0, strict=True)
    p, (z, mass) = _weights(weights, x), _gaussian_rule(x, nodes)
    x, p = x[p > 0], p[p > 0]
    noised, joint = (x[:, None] + sigma * z).flatten(0, 1), torch.outer(p, mass).flatten()
    psi, pull = _at(score, noised).detach().double(), (z / sigma).repeat(len(x), 1)
    true = mixture_score.score(noised, x, 1.0, sigma**2, p)
    explicit, size = joint @ (psi - true).square().sum(1), joint @ true.square().sum(1)
    return Denoising(joint @ (psi + pull).square().sum(1), explicit, x.shape[1] / sigma**2 - size)


# ------------------------------------------------------------------------------------------------- separated modes


def _sech(z: np.ndarray) -> np.ndarray:
    e = np.exp(-np.abs(z))
    return 2 * e / (1 + e * e)


def _half_odds(weight, name: str) -> float:
    """½ log(w/(1 − w))."""
    if not 0 < _number(weight, name) < 1:
        raise ValueError(f"{name}: got {weight}; expected a weight in (0, 1)")
    return 0.5 * math.log(weight / (1 - weight))


def _mode_nodes(half_distance, variance) -> tuple[float, float, np.ndarray]:
    """m, v and the nodes of a trapezoid rule that is exact to rounding for what follows."""
    m, v = _number(half_distance, "half_distance", 0), _number(variance, "variance", 0, strict=True)
    # tanh(mx/v) has its poles at πv/2m from the real axis: with a quarter of v/m as spacing the error is e^{−4π²}.
    step = min(math.sqrt(v), v / m if m else math.inf) / 4
    reach = math.ceil((m + 12 * math.sqrt(v)) / step)
    return m, v, step * np.arange(-reach, reach + 1)


def _mode_masses(x: np.ndarray, a: float, m: float, v: float) -> np.ndarray:
    """w N(x; m, v) + (1 − w) N(x; −m, v) at the nodes, times their spacing; a = ½ log(w/(1 − w))."""
    log_p = np.logaddexp(a + m * x / v, -a - m * x / v) - np.logaddexp(a, -a) - (x * x + m * m) / (2 * v)
    return np.exp(log_p) * (x[1] - x[0]) / math.sqrt(2 * math.pi * v)


def separated_modes(weight: float, other: float, half_distance: float, variance: float = 1.0) -> Modes:
    """p = w N(m, v) + (1 − w) N(−m, v) against q with another weight: KL is of order one, the Fisher divergence dies as e^{−m²/2v}.

    The score −x/v + (m/v) tanh(mx/v + ½ log(w/(1 − w))) knows the weight only where the modes meet, within v/m of the middle.

    Parameters
    ----------
    weight, other : float in (0, 1)
        Of the mode at +m, in p and in q.
    half_distance : float, ≥ 0
        m.
    variance : float, > 0
        v of each mode.

    Returns
    -------
    Modes
        ``kl`` = KL(p ‖ q) in nats and ``fisher`` = E_p|∇log p − ∇log q|², to 1e-10 of their size.

    Raises
    ------
    ValueError
        If a weight is not in (0, 1) or a number is out of range.

    Notes
    -----
    Wenliang, Kanagawa (2020), arXiv 2008.10087. Claims CON-19, CON-21.
    """
    a, b = _half_odds(weight, "weight"), _half_odds(other, "other")
    m, v, x = _mode_nodes(half_distance, variance)
    p, u = _mode_masses(x, a, m, v), m * x / v
    log_ratio = (
        np.logaddexp(u + a, -u - a) - np.logaddexp(u + b, -u - b) - np.logaddexp(a, -a) + np.logaddexp(b, -b)
    )
    # tanh(u + a) − tanh(u + b), without subtracting what is nearly equal.
    difference = m / v * math.sinh(a - b) * _sech(u + a) * _sech(u + b)
    return Modes(float(p @ log_ratio), float(p @ difference**2))


def mode_weight_variances(weight: float, half_distance: float, variance: float = 1.0) -> WeightVariances:
    """What the balance of two modes costs to learn: n Var of ½ log(w/(1 − w)) from n → ∞ samples, by likelihood and by score matching.

    Once the modes are apart the likelihood has 1/(4w(1 − w)); score matching sees only what lies between, and its grows as e^{m²/2v}.

    Parameters
    ----------
    weight, half_distance, variance
        As in `separated_modes`, half_distance > 0.

    Returns
    -------
    WeightVariances

    Raises
    ------
    ValueError
        As `separated_modes`, or if the distance is 0, where the weight means nothing.

    Notes
    -----
    The sandwich of Godambe (1960), Ann. Math. Stat. 31, 1208; Koehler, Heckett, Risteski (2023), ICLR, for the comparison. Claim CON-20.
    """
    a, (m, v, x) = _half_odds(weight, "weight"), _mode_nodes(half_distance, variance)
    if m == 0:
        raise ValueError("half_distance: got 0, where the two modes are one; expected > 0")
    p, u, g = _mode_masses(x, a, m, v), m * x / v + a, m / v
    t, s2 = np.tanh(u), _sech(u) ** 2
    # Derivatives by a: of log p, and of the implicit loss ψ² + 2ψ′ with ψ = −x/v + g tanh u and ψ′ = −1/v + g² sech² u.
    log_p, loss = t - math.tanh(a), 2 * g * s2 * (g * t - x / v) - 4 * g**2 * s2 * t
    curvature = 2 * g**2 * float(p @ s2**2)
    return WeightVariances(1 / float(p @ log_p**2), float(p @ loss**2) / curvature**2)


def de_bruijn(weight: float, other: float, half_distance: float) -> DeBruijn:
    """KL(p ‖ q) = ½ ∫_0^∞ E|∇log p_σ − ∇log q_σ|² dσ²: what score matching misses at one level of noise it sees over all.

    Parameters
    ----------
    weight, other, half_distance
        Of `separated_modes` with variance 1; p_σ and q_σ have 1 + σ².

    Returns
    -------
    DeBruijn
        ``kl`` and ``integral``, equal to 1e-8.

    Raises
    ------
    ValueError
        As `separated_modes`.

    Notes
    -----
    De Bruijn's identity in Stam (1959), Information and Control 2, 101; Lyu (2009), UAI, for score matching. Claim CON-21.
    """
    kl = separated_modes(weight, other, half_distance).kl

    def density(y):
        return separated_modes(weight, other, half_distance, math.exp(y)).fisher * math.exp(y) / 2

    # The variance 1 + σ² is e^y; the integrand decays as e^{−y} once the noise exceeds the distance.
    far = math.log(1 + half_distance**2)
    pieces = (0, far), (far, far + 4), (far + 4, far + 28)
    return DeBruijn(kl, sum(quad(density, *piece, epsabs=1e-12, epsrel=1e-10)[0] for piece in pieces))


# ------------------------------------------------------------------------------------------------- margins


def margin_loss(
    positive: torch.Tensor,
    negative: torch.Tensor,
    margin: float | torch.Tensor = 1.0,
    kind: str = "triplet",
    hinge: bool = True,
) -> torch.Tensor:
    """Losses with a margin: triplet [f − f̂ + m]_+, pairwise f + [m − f̂]_+; [u]_+ = max(0, u), f of the data, f̂ of the contrast.

    The slope in f̂ is −1 until the margin is met and 0 after. Without the hinge it stays −1, and descent has no end. What is
    learned is an order and not a law (claim CON-24).

    Parameters
    ----------
    positive, negative : torch.Tensor
        f(x, y) and f(x, ŷ), floating point, shapes that broadcast.
    margin : float or torch.Tensor, ≥ 0
        m, or m(y, ŷ).
    kind : "triplet" or "pairwise"
    hinge : bool
        False is the printed form of the lecture notes, unbounded below.

    Returns
    -------
    torch.Tensor
        The loss of each pair.

    Raises
    ------
    ValueError
        If the energies are no floating-point tensors or hold NaN, the margin is negative or not finite, or `kind` is unknown.

    Notes
    -----
    Hadsell, Chopra, LeCun (2006), CVPR, for pairs; Weinberger, Saul (2009), J. Mach. Learn. Res. 10, 207, for triplets. Claim LEC-11.
    """
    for name, value in (("positive", positive), ("negative", negative)):
        if not isinstance(value, torch.Tensor) or not value.is_floating_point() or bool(value.isnan().any()):
            raise ValueError(f"{name}: got {_got(value)}; expected a floating-point tensor without NaN")
    m = (
        margin
        if isinstance(margin, torch.Tensor)
        else torch.tensor(_number(margin, "margin", 0)).to(positive)
    )
    if not bool((m.isfinite() & (m >= 0)).all()):
        raise ValueError(f"margin: got {_got(margin)}; expected finite numbers >= 0")
    if kind not in ("triplet", "pairwise"):
        raise ValueError(f"kind: got {kind!r}; expected 'triplet' or 'pairwise'")
    gap = (positive if kind == "triplet" else 0) - negative + m
    gap = gap.clamp(min=0) if hinge else gap
    return gap if kind == "triplet" else positive + gap
