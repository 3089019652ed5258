"""Flows that know something of their data: autoencoders and probabilistic programs as layers (the chapter `flows/structured`).

An autoencoder becomes a flow when it is given all of the data to keep (Silvestri et al. 2022). Split x = (u, v): the core u, as wide as the
latent, and the shell v. Encoder and decoder are two couplings, each moving what the other one keeps,

    z = (u − μ_e(v)) / s_e(v),    ε = (v − μ_d(z)) / s_d(z),
    log p(x) = log p(z) + log N(ε; 0, I) − Σ log s_e(v) − Σ log s_d(z):

an exact likelihood, where the variational autoencoder of the same networks has a bound. A probabilistic program, x_j ~ F_j(· | x_{<j}), is a
layer too (Silvestri et al. 2021): it turns noise into x_j = F_j^{−1}(Φ(ε_j) | x_{<j}), and a gate λ lets the noise pass it by,

    x_j = (1 − λ_j) ε_j + λ_j F_j^{−1}(Φ(ε_j) | x_{<j}),    log|det ∂x/∂ε| = Σ_j log[(1 − λ_j) + λ_j ∂F_j^{−1}(Φ(ε_j))/∂ε_j],

the last derivative being s_j(x_{<j}) for a Gaussian node. `forward` maps data to noise, `inverse` generates; points are (batch, d), float64.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import nn
from torch.distributions import Distribution, Normal

from physgen.checks import count, number, stream

from .coupling import _log_normal, _points, perceptron

__all__ = [
    "AutoencoderFlow",
    "AutoregressiveChain",
    "EmbeddedModelFlow",
    "GatedModelLayer",
    "VariationalAutoencoder",
]

Program = Callable[[torch.Tensor, int], Distribution]
BOUND = 3.0  # of the log-scales of networks
REACH = 8.0  # noise beyond has probability 1e-15; Φ is 1 there in float64


def _scale_and_mean(network: nn.Module, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """log s in [−3, 3], and μ."""
    log_s, mean = network(x).chunk(2, 1)
    return BOUND * (log_s / BOUND).tanh(), mean


class AutoencoderFlow(nn.Module):
    """An autoencoder within a flow: exact likelihood with an encoder, a decoder and a prior of one's choice.

    The first `latent` coordinates of x are the core u, the others the shell v. Noise is (z, ε), in that order.

    Parameters
    ----------
    d : int, ≥ 2
    latent : int
        1 … d − 1: how many coordinates z has.
    width : int
        Units in each of the two hidden layers of encoder and decoder.
    prior : nn.Module, optional
        A flow over z with log_prob and sample; N(0, I) by default.
    generator : torch.Generator, optional
        For the initial weights; None draws fresh entropy. Before training μ = 0 and s = 1.

    Raises
    ------
    ValueError
        If a number is out of range; by the methods if points are no (batch, d) tensor of finite numbers.

    Notes
    -----
    Silvestri, Roos, Ambrogioni (2022), Deterministic training of generative autoencoders using invertible layers. Claim AMB-07.
    """

    def __init__(
        self,
        d: int,
        latent: int = 1,
        width: int = 32,
        prior: nn.Module | None = None,
        generator: torch.Generator | None = None,
    ):
        super().__init__()
        self.d, self.latent, own = count(d, "d", 2), count(latent, "latent"), stream(generator)
        if self.latent >= self.d:
            raise ValueError(f"latent: got {latent}; expected 1 to d − 1 = {d - 1}")
        width, shell = count(width, "width"), self.d - self.latent
        self.encoder = perceptron([shell, width, width, 2 * self.latent], own)
        self.decoder = perceptron([self.latent, width, width, 2 * shell], own)
        self.prior = prior

    def encode(self, x: torch.Tensor) -> torch.Tensor:
        """z of data, (batch, latent)."""
        return self._forward(_points(x, "x", self.d))[0]

    def decode(self, z: torch.Tensor) -> torch.Tensor:
        """The point of z without noise, ε = 0, (batch, d): the manifold that the decoder has learned."""
        z = _points(z, "z", self.latent)
        return self.inverse(torch.cat([z, z.new_zeros(len(z), self.d - self.latent)], 1))

    def _forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        u, v = x[:, : self.latent], x[:, self.latent :]
        log_s, mean = _scale_and_mean(self.encoder, v)
        z = (u - mean) * torch.exp(-log_s)
        log_det = -log_s.sum(1)
        log_s, mean = _scale_and_mean(self.decoder, z)
        return z, (v - mean) * torch.exp(-log_s), log_det - log_s.sum(1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(z, ε) of data, (batch, d)."""
        return torch.cat(self._forward(_points(x, "x", self.d))[:2], 1)

    def inverse(self, noise: torch.Tensor) -> torch.Tensor:
        """x of (z, ε): the decoder makes the shell of z, and the encoder read backwards makes the core of that and of z."""
        noise = _points(noise, "noise", self.d)
        z, e = noise[:, : self.latent], noise[:, self.latent :]
        log_s, mean = _scale_and_mean(self.decoder, z)
        v = mean + torch.exp(log_s) * e
        log_s, mean = _scale_and_mean(self.encoder, v)
        return torch.cat([mean + torch.exp(log_s) * z, v], 1)

    def log_det(self, x: torch.Tensor) -> torch.Tensor:
        """log|det ∂(z, ε)/∂x|, (batch,)."""
        return self._forward(_points(x, "x", self.d))[2]

    def log_prob(self, x: torch.Tensor) -> torch.Tensor:
        """log p(x), (batch,), nats: no bound."""
        z, e, log_det = self._forward(_points(x, "x", self.d))
        return (_log_normal(z) if self.prior is None else self.prior.log_prob(z)) + _log_normal(e) + log_det

    def sample(self, n: int, generator: torch.Generator | None = None) -> torch.Tensor:
        """n independent draws, (n, d), without gradients; None draws fresh entropy."""
        n, own = count(n, "n"), stream(generator)
        with torch.no_grad():
            e = torch.randn(n, self.d, dtype=torch.float64, generator=own)
            if self.prior is not None:
                e[:, : self.latent] = self.prior.sample(n, own)
            return self.inverse(e)


class VariationalAutoencoder(nn.Module):
    """The peer: z ~ N(0, I), x = μ_d(z) + s_d(z) ε, trained by the bound E_q[log p(x, z) − log q(z | x)] ≤ log p(x).

    Encoder and decoder are the networks of `AutoencoderFlow` with inputs and outputs of the other sizes; parameters and errors as there.

    Notes
    -----
    Kingma, Welling (2014). The bound is loose by KL(q ‖ p(z | x)); `log_prob` tightens it by importance sampling (Burda et al. 2016).
    """

    def __init__(self, d: int, latent: int = 1, width: int = 32, generator: torch.Generator | None = None):
        super().__init__()
        self.d, self.latent, own = count(d, "d"), count(latent, "latent"), stream(generator)
        width = count(width, "width")
        self.encoder = perceptron([self.d, width, width, 2 * self.latent], own)
        self.decoder = perceptron([self.latent, width, width, 2 * self.d], own)

    def _log_weight(self, x: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """log p(x, z) − log q(z | x) at z = μ_e(x) + s_e(x) · noise."""
        log_s, mean = _scale_and_mean(self.encoder, x)
        z = mean + torch.exp(log_s) * noise
        log_q = _log_normal(noise) - log_s.sum(1)
        log_s, mean = _scale_and_mean(self.decoder, z)
        return _log_normal(z) + _log_normal((x - mean) * torch.exp(-log_s)) - log_s.sum(1) - log_q

    def on_grid(self, x: torch.Tensor, z: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """log p(x, z) and log q(z | x) for every datum and every z, (batch, m) each: for sums over a grid of z, (m, latent), where there is one."""
        x, z = _points(x, "x", self.d), _points(z, "z", self.latent)

        def log_normal(pulls):
            return _log_normal(pulls.flatten(0, 1)).unflatten(0, pulls.shape[:2])

        log_s, mean = _scale_and_mean(self.decoder, z)
        joint = _log_normal(z) - log_s.sum(1) + log_normal((x[:, None] - mean) * torch.exp(-log_s))
        log_s, mean = _scale_and_mean(self.encoder, x)
        q = log_normal((z - mean[:, None]) * torch.exp(-log_s)[:, None]) - log_s.sum(1, keepdim=True)
        return joint, q

    def elbo(self, x: torch.Tensor, generator: torch.Generator | None = None) -> torch.Tensor:
        """One draw per point of the evidence lower bound, (batch,), nats."""
        x = _points(x, "x", self.d)
        noise = torch.randn(len(x), self.latent, dtype=torch.float64, generator=stream(generator))
        return self._log_weight(x, noise)

    def log_prob(
        self, x: torch.Tensor, draws: int = 1000, generator: torch.Generator | None = None
    ) -> torch.Tensor:
        """log (1/K) Σ_k p(x, z_k)/q(z_k | x), (batch,): below log p(x) in the mean, and nearer with more draws K."""
        x, own, draws = _points(x, "x", self.d), stream(generator), count(draws, "draws")
        shape = (len(x), self.latent)
        with torch.no_grad():
            logs = [
                self._log_weight(x, torch.randn(shape, dtype=torch.float64, generator=own))
                for _ in range(draws)
            ]
        return torch.stack(logs).logsumexp(0) - math.log(draws)


# ------------------------------------------------------------------------------------------------- programs as layers


class AutoregressiveChain(nn.Module):
    """The program x_0 ~ N(0, s_0²), x_j ~ N(a x_{j−1}, s²): a belief in continuity, with three numbers to learn (a, log s, log s_0).

    Raises
    ------
    ValueError
        If a number is not finite, or a scale not positive.
    """

    def __init__(self, a: float = 0.5, scale: float = 1.0, start: float = 1.0):
        super().__init__()
        values = [
            number(a, "a"),
            math.log(number(scale, "scale", 0, strict=True)),
            math.log(number(start, "start", 0, strict=True)),
        ]
        self.a, self.log_scale, self.log_start = (
            nn.Parameter(torch.tensor(v, dtype=torch.float64)) for v in values
        )

    def forward(self, x: torch.Tensor, j: int) -> Normal:
        """The law of x_j given x[:, :j]."""
        if j == 0:
            return Normal(x.new_zeros(len(x)), self.log_start.exp())
        return Normal(self.a * x[:, j - 1], self.log_scale.exp())


class GatedModelLayer(nn.Module):
    """A probabilistic program as an invertible layer, and a gate that lets noise pass by where the program is wrong.

    Parameters
    ----------
    program : callable
        program(x, j) gives the law of x_j, a `torch.distributions.Distribution` of batch shape (batch,) with cdf, icdf and log_prob, and may look at
        x[:, :j] only. If it is an `nn.Module` its parameters are trained with the layer.
    d : int
        Number of nodes.
    gate : float or None
        λ in [0, 1], the same for all nodes and fixed: at 0 noise passes, at 1 the program has all its say. None: one λ_j for each node, trained,
        ½ at first.

    Raises
    ------
    ValueError
        If a number is out of range; by the methods if points are no (batch, d) tensor of finite numbers, or a program does not give what is said above.

    Notes
    -----
    Silvestri, Fertig, Moore, Ambrogioni (2021), Embedded-model flows. The parents of a gated node are the gated values, so that `forward` finds all
    noise at once, node by node in any order, and `inverse` runs the program once. A Gaussian node is inverted in closed form, another one by
    bisection and a step of Newton's method, which also carries the gradient. Claim AMB-08.
    """

    def __init__(self, program: Program, d: int, gate: float | None = None):
        super().__init__()
        self.program, self.d = program, count(d, "d")
        if gate is None:
            self.logit = nn.Parameter(torch.zeros(self.d, dtype=torch.float64))
        elif number(gate, "gate", 0) > 1:
            raise ValueError(f"gate: got {gate}; expected a number in [0, 1], or None for trained gates")
        else:
            self.register_buffer("fixed", torch.full((self.d,), float(gate), dtype=torch.float64))

    @property
    def gate(self) -> torch.Tensor:
        """λ, (d,)."""
        return self.logit.sigmoid() if hasattr(self, "logit") else self.fixed

    def _law(self, x: torch.Tensor, j: int) -> Distribution:
        law = self.program(x, j)
        if (
            not isinstance(law, Distribution)
            or law.event_shape
            or law.batch_shape not in (torch.Size([len(x)]), torch.Size([]))
        ):
            raise ValueError(
                f"program: gave {law!r} for node {j}; expected a distribution of batch shape ({len(x)},)"
            )
        return law

    def inverse(self, noise: torch.Tensor) -> torch.Tensor:
        """x of ε, (batch, d): runs the program."""
        noise = _points(noise, "noise", self.d)
        x = noise.new_zeros(len(noise), 0)
        for j in range(self.d):
            # The columns still to come are noise: a program that looked at them would not be one.
            law = self._law(torch.cat([x, noise.new_full((len(noise), self.d - j), math.nan)], 1), j)
            x = torch.cat([x, _node(law, noise[:, j], self.gate[j])[:, None]], 1)
        return x

    def _noise(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        pairs = [_solve(self._law(x, j), x[:, j], self.gate[j]) for j in range(self.d)]
        return torch.stack([e for e, _ in pairs], 1), torch.stack([slope for _, slope in pairs], 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """ε of x, (batch, d)."""
        return self._noise(_points(x, "x", self.d))[0]

    def log_det(self, x: torch.Tensor) -> torch.Tensor:
        """log|det ∂ε/∂x| = −Σ_j log(∂x_j/∂ε_j), (batch,)."""
        return -self._noise(_points(x, "x", self.d))[1].log().sum(1)

    def log_prob(self, x: torch.Tensor) -> torch.Tensor:
        """log p(x) of the layer on standard normal noise, (batch,), nats: at λ = 1 the program's own density."""
        e, slope = self._noise(_points(x, "x", self.d))
        return _log_normal(e) - slope.log().sum(1)

    def sample(self, n: int, generator: torch.Generator | None = None) -> torch.Tensor:
        """n independent draws, (n, d), without gradients; None draws fresh entropy."""
        e = torch.randn(count(n, "n"), self.d, dtype=torch.float64, generator=stream(generator))
        with torch.no_grad():
            return self.inverse(e)


def _node(law: Distribution, e: torch.Tensor, gate: torch.Tensor) -> torch.Tensor:
    """(1 − λ) ε + λ F^{−1}(Φ(ε))."""
    if isinstance(law, Normal):
        return (1 - gate) * e + gate * (law.loc + law.scale * e)
    return (1 - gate) * e + gate * law.icdf(torch.special.ndtr(e))


def _slope(law: Distribution, e: torch.Tensor, gate: torch.Tensor) -> torch.Tensor:
    """∂x/∂ε = (1 − λ) + λ φ(ε)/f(F^{−1}(Φ(ε))), f the density of the law."""
    log_normal = -0.5 * e.square() - 0.5 * math.log(2 * math.pi)
    return (1 - gate) + gate * torch.exp(log_normal - law.log_prob(law.icdf(torch.special.ndtr(e))))


def _solve(law: Distribution, x: torch.Tensor, gate: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The noise of a node and its slope there."""
    if isinstance(law, Normal):
        slope = ((1 - gate) + gate * law.scale).expand_as(x)
        return (x - gate * law.loc) / slope, slope
    with torch.no_grad():
        low, high = torch.full_like(x, -REACH), torch.full_like(x, REACH)
        for _ in range(60):
            middle = (low + high) / 2
            above = _node(law, middle, gate) > x
            low, high = torch.where(above, low, middle), torch.where(above, middle, high)
        e = (low + high) / 2
        if bool((e.abs() > REACH - 1e-9).any()):
            raise ValueError("x: got a value that the program gives a probability below 1e-15")
    # One step of Newton: nothing for the value, the implicit function's derivative for the gradient.
    slope = _slope(law, e, gate).detach()
    e = e - (_node(law, e, gate) - x) / slope
    return e, _slope(law, e, gate)


class EmbeddedModelFlow(nn.Module):
    """A flow whose noise goes through a program: x ↦ layer ↦ flow ↦ N(0, I).

    Parameters
    ----------
    layer : GatedModelLayer
    flow : nn.Module
        With forward, inverse, log_prob and sample, over as many coordinates: a `CouplingFlow`. It learns what the program leaves over.

    Raises
    ------
    ValueError
        If the layer is none, or the dimensions differ.
    """

    def __init__(self, layer: GatedModelLayer, flow: nn.Module):
        super().__init__()
        if not isinstance(layer, GatedModelLayer) or getattr(flow, "d", None) != layer.d:
            raise ValueError("layer, flow: expected a GatedModelLayer and a flow over as many coordinates")
        self.layer, self.flow, self.d = layer, flow, layer.d

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Noise of data, (batch, d)."""
        return self.flow(self.layer(x))

    def inverse(self, z: torch.Tensor) -> torch.Tensor:
        """Data of noise, (batch, d)."""
        return self.layer.inverse(self.flow.inverse(z))

    def log_prob(self, x: torch.Tensor) -> torch.Tensor:
        """log p(x), (batch,), nats."""
        e, slope = self.layer._noise(_points(x, "x", self.d))
        return self.flow.log_prob(e) - slope.log().sum(1)

    def sample(self, n: int, generator: torch.Generator | None = None) -> torch.Tensor:
        """n independent draws, (n, d), without gradients; None draws fresh entropy."""
        with torch.no_grad():
            return self.layer.inverse(self.flow.sample(n, generator))
