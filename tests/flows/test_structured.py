"""Autoencoders and programs as layers: exact densities against autograd, quadrature, Gaussian laws and variational bounds."""

from __future__ import annotations

import math

import pytest
import torch
from torch.distributions import Gumbel, Laplace, MultivariateNormal, Normal

from physgen.flows import coupling
from physgen.flows import structured as st


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=generator(seed))


def stirred(model: torch.nn.Module, size: float = 0.3, seed: int = 2) -> torch.nn.Module:
    own = generator(seed)
    with torch.no_grad():
        for p in model.parameters():
            p += size * torch.randn(p.shape, dtype=p.dtype, generator=own)
    return model


def integral(log_prob, reach: float = 14.0, points: int = 1401) -> float:
    axis = torch.linspace(-reach, reach, points, dtype=torch.float64)
    grid = torch.cartesian_prod(axis, axis)
    with torch.no_grad():
        return float(log_prob(grid).exp().sum() * (axis[1] - axis[0]) ** 2)


# ---- autoencoders


@pytest.mark.parametrize(("d", "latent"), [(2, 1), (5, 2), (4, 3)])
def test_the_autoencoder_is_invertible_and_its_log_determinant_is_autograds(d, latent):
    flow, x = stirred(st.AutoencoderFlow(d, latent, 8, generator=generator())), normal(20, d)
    assert torch.allclose(flow.inverse(flow(x)), x, atol=1e-10)
    exact = torch.linalg.slogdet(coupling.jacobian(flow, x).detach()).logabsdet
    assert torch.allclose(flow.log_det(x).detach(), exact, atol=1e-10)


def test_the_likelihood_of_an_autoencoder_is_a_density():
    flow = stirred(st.AutoencoderFlow(2, 1, 8, generator=generator()), 0.15)
    # The trapezoidal rule is exact to rounding for a smooth density on a box that holds it.
    assert integral(flow.log_prob) == pytest.approx(1, abs=1e-6)


def test_a_linear_autoencoder_is_a_gaussian_with_its_own_covariance():
    flow = st.AutoencoderFlow(3, 1, 4, generator=generator())
    a, b = torch.tensor([[0.5, -0.3]]).double(), torch.tensor([[0.8], [0.2]]).double()

    class Linear(torch.nn.Module):
        def __init__(self, matrix, log_s):
            super().__init__()
            self.matrix, self.log_s = matrix, 3 * math.atanh(log_s / 3)

        def forward(self, x):
            mean = x @ self.matrix.T
            return torch.cat([torch.full_like(mean, self.log_s), mean], 1)

    flow.encoder, flow.decoder = Linear(a, -0.7), Linear(b, 0.4)
    # v = b z + e^{0.4} ε, u = a v + e^{−0.7} z: a linear map of white noise.
    make_v = torch.cat([b, math.exp(0.4) * torch.eye(2).double()], 1)
    make = torch.cat([a @ make_v + math.exp(-0.7) * torch.tensor([[1.0, 0, 0]]).double(), make_v])
    law, x = MultivariateNormal(torch.zeros(3).double(), make @ make.T), normal(30, 3)
    assert torch.allclose(flow.log_prob(x), law.log_prob(x), atol=1e-10)
    assert torch.allclose(flow.inverse(x), x @ make.T, atol=1e-12)


def test_the_prior_of_an_autoencoder_may_be_a_flow():
    prior = stirred(coupling.CouplingFlow(2, 2, 8, generator=generator()))
    flow, x = stirred(st.AutoencoderFlow(4, 2, 8, prior=None, generator=generator())), normal(10, 4)
    plain = flow.log_prob(x)
    flow.prior = prior
    z = flow.encode(x)
    shift = prior.log_prob(z) - coupling.normal_log_density(z)
    assert torch.allclose(flow.log_prob(x), plain + shift, atol=1e-12)
    # A sample's z follows the prior: two halves of a thousand draws, means to 5/√500 of their spread.
    z = flow.encode(flow.sample(1000, generator(3))).detach()
    direct = prior.sample(1000, generator(4))
    error = (z.var(0) + direct.var(0)).div(1000).sqrt()
    assert bool(((z.mean(0) - direct.mean(0)).abs() < 5 * error).all())


def test_decoding_is_generation_without_noise():
    flow, z = stirred(st.AutoencoderFlow(3, 1, 8, generator=generator())), normal(6, 1)
    x = flow.decode(z)
    assert torch.allclose(flow(x), torch.cat([z, torch.zeros(6, 2).double()], 1), atol=1e-10)


def test_the_evidence_bound_is_below_the_log_density_and_importance_sampling_closes_in():
    vae = stirred(st.VariationalAutoencoder(2, 1, 8, generator()), 0.3)
    x = normal(40, 2)
    # log p by quadrature over z, on a line that holds the prior.
    z = torch.linspace(-9, 9, 4001, dtype=torch.float64)[:, None]
    with torch.no_grad():
        log_s, mean = st._scale_and_mean(vae.decoder, z)
        logs = coupling.normal_log_density(z)[:, None] - log_s.sum(1)[:, None]
        pulls = (x[None] - mean[:, None]) * torch.exp(-log_s)[:, None]
        logs = logs - 0.5 * pulls.square().sum(2) - math.log(2 * math.pi)
        exact = (logs.logsumexp(0) + math.log(18 / 4000)).mean()
        bounds = torch.stack([vae.elbo(x, generator(k)).mean() for k in range(400)])
        close = vae.log_prob(x, 4000, generator(5)).mean()
    error = float(bounds.std()) / math.sqrt(len(bounds))
    assert float(bounds.mean()) + 4 * error < float(exact)
    # The bias of K draws is Var w/2K per point, and their noise as much as its root over 40 points: a few 10⁻² at most here.
    assert abs(float(close - exact)) < 0.1 * float(exact - bounds.mean())


def test_on_a_grid_joint_and_encoder_are_the_laws_they_say():
    vae, x = stirred(st.VariationalAutoencoder(2, 1, 8, generator()), 0.3), normal(3, 2)
    z = torch.linspace(-9, 9, 4001, dtype=torch.float64)[:, None]
    with torch.no_grad():
        joint, q = vae.on_grid(x, z)
        log_p = (joint.logsumexp(1) + math.log(18 / 4000))[:, None]
        log_s, mean = st._scale_and_mean(vae.decoder, z[:1])
        law = MultivariateNormal(mean[0], torch.diag(torch.exp(2 * log_s[0])))
        bound = (q.exp() * (joint - q)).sum(1) * (18 / 4000)
        draws = torch.stack([vae.elbo(x, generator(k)) for k in range(3000)])
    exact = law.log_prob(x) + Normal(0.0, 1.0).log_prob(z[0])
    assert torch.allclose(joint[:, 0], exact, atol=1e-10)
    assert torch.allclose(q.exp().sum(1) * (18 / 4000), torch.ones(3).double(), atol=1e-8)
    assert bool((bound[:, None] <= log_p).all())
    assert bool(((draws.mean(0) - bound).abs() < 5 * draws.std(0) / math.sqrt(3000)).all())


def test_exact_likelihood_beats_the_bound_of_the_same_networks_on_an_arc():
    own, n = generator(6), 2000
    angle = math.pi * torch.rand(n, dtype=torch.float64, generator=own)
    data = torch.stack([2 * angle.cos(), 2 * angle.sin() - 1], 1) + 0.2 * torch.randn(
        n, 2, dtype=torch.float64, generator=own
    )
    train, test = data[:1000], data[1000:]
    flow = st.AutoencoderFlow(2, 1, 16, generator=generator(7))
    coupling.maximum_likelihood(flow, train, 400, 128, 1e-2, generator(8))
    vae = st.VariationalAutoencoder(2, 1, 16, generator(7))

    def loss():
        rows = torch.randint(len(train), (128,), generator=own)
        return -vae.elbo(train[rows], own).mean()

    coupling.descend(vae, loss, 400, 1e-2)
    with torch.no_grad():
        gain = flow.log_prob(test) - vae.log_prob(test, 300, generator(9))
    assert float(gain.mean()) > 3 * float(gain.std()) / math.sqrt(len(test))


# ---- programs


def test_a_layer_that_is_all_program_has_the_density_of_the_program():
    chain = st.AutoregressiveChain(0.8, 0.5, 1.3)
    layer, x = st.GatedModelLayer(chain, 6, 1.0), normal(20, 6)
    lag = torch.eye(6).double() - 0.8 * torch.diag(torch.ones(5).double(), -1)
    scales = torch.tensor([1.3] + 5 * [0.5]).double()
    covariance = torch.linalg.inv(lag) @ torch.diag(scales**2) @ torch.linalg.inv(lag).T
    exact = MultivariateNormal(torch.zeros(6).double(), covariance).log_prob(x)
    assert torch.allclose(layer.log_prob(x), exact, atol=1e-11)


def test_the_gate_adds_one_minus_lambda_to_the_slope_of_a_gaussian_node():
    x = normal(4, 6)
    # AR(1) with s_0 = 1 and s = ½: five nodes give log[(1 − λ) + λ/2] each.
    for gate, exact in ((0.0, 0.0), (0.3, -0.81259465), (0.7, -2.15391458)):
        layer = st.GatedModelLayer(st.AutoregressiveChain(0.8, 0.5), 6, gate)
        assert torch.allclose(-layer.log_det(x).detach(), torch.full((4,), exact).double(), atol=1e-8)


def heavy(x: torch.Tensor, j: int):
    if j == 0:
        return Laplace(x.new_zeros(len(x)), 1.0)
    if j == 1:
        return Gumbel(x[:, 0], 0.7)
    return Normal(x[:, j - 1] * x[:, 0], 0.5 + x[:, j - 2].square())


@pytest.mark.parametrize("gate", [0.0, 0.35, 1.0])
def test_nodes_of_any_law_are_inverted_and_their_log_determinant_is_autograds(gate):
    layer = st.GatedModelLayer(heavy, 4, gate)
    e = 1.5 * torch.tanh(normal(12, 4))
    x = layer.inverse(e)
    # Bisection over 16 in 60 steps, and values of order ten: a few roundings.
    assert torch.allclose(layer(x), e, atol=1e-9)
    exact = torch.linalg.slogdet(coupling.jacobian(layer, x).detach()).logabsdet
    assert torch.allclose(layer.log_det(x), exact, atol=1e-7)


def test_a_gated_layer_has_a_density_and_samples_follow_it():
    layer = st.GatedModelLayer(
        lambda x, j: Laplace(x.new_zeros(len(x)) if j == 0 else 0.5 * x[:, 0], 0.6), 2, 0.6
    )
    # The density of a Laplace law has a kink: the error of the rule is of second order in its step of 0.02.
    assert integral(lambda x: layer.log_prob(x), 6.0, 601) == pytest.approx(1, abs=2e-3)
    e = layer(layer.sample(3000, generator(3)))
    assert float(e.mean(0).abs().max()) < 4.5 / math.sqrt(3000)
    assert float((torch.cov(e.T) - torch.eye(2)).abs().max()) < 4.5 * math.sqrt(2 / 3000)


def test_gradients_pass_through_the_solved_noise():
    scale = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    x = normal(5, 1)

    def total(s):
        layer = st.GatedModelLayer(lambda x, j: Laplace(x.new_zeros(len(x)), s), 1, 0.4)
        return layer.log_prob(x).sum()

    (slope,) = torch.autograd.grad(total(scale), scale)
    h = 1e-5
    difference = (total(scale.detach() + h) - total(scale.detach() - h)) / (2 * h)
    assert float(slope) == pytest.approx(float(difference), rel=1e-5)


def test_a_program_that_is_right_makes_few_data_enough_and_one_that_is_wrong_is_gated_away():
    d, own = 8, generator(11)
    walk = st.GatedModelLayer(st.AutoregressiveChain(0.95, 0.3), d, 1.0)
    train, test = walk.sample(60, own), walk.sample(2000, own)
    white = torch.randn(1000, d, dtype=torch.float64, generator=own)

    def learned(data, gate, a):
        flow = coupling.CouplingFlow(d, 2, 8, generator=generator(12))
        model = st.EmbeddedModelFlow(st.GatedModelLayer(st.AutoregressiveChain(a, 0.8), d, gate), flow)
        coupling.maximum_likelihood(model, data, 120, 60, 1e-2, generator(13))
        return model

    exact = walk.log_prob(test).detach()
    with_program, without = (learned(train, gate, 0.5).log_prob(test).detach() for gate in (None, 0.0))
    gain = with_program - without
    assert float(gain.mean()) > 4 * float(gain.std()) / math.sqrt(len(test))
    assert float((exact - with_program).mean()) > 0
    # White data, and a program that believes in steps of fixed size: gates and program let the noise through.
    model = learned(white, None, 0.9)
    loss = -model.log_prob(white).detach().mean()
    assert float(loss) < d / 2 * math.log(2 * math.pi * math.e) + 0.1


def test_bad_input_is_refused():
    layer, chain = st.GatedModelLayer(st.AutoregressiveChain(), 3, 0.5), st.AutoregressiveChain()
    laplace = st.GatedModelLayer(lambda x, j: Laplace(x.new_zeros(len(x)), 1.0), 1, 1.0)
    for call in (
        lambda: st.AutoencoderFlow(2, 2),
        lambda: st.AutoencoderFlow(1, 1),
        lambda: st.AutoencoderFlow(3, 1).log_prob(normal(2, 4)),
        lambda: st.VariationalAutoencoder(2).log_prob(normal(2, 2), 0),
        lambda: st.GatedModelLayer(chain, 3, 1.5),
        lambda: st.GatedModelLayer(chain, 0),
        lambda: st.AutoregressiveChain(scale=0.0),
        lambda: layer(torch.full((1, 3), math.nan).double()),
        lambda: st.GatedModelLayer(lambda x, j: x, 2, 0.5)(normal(2, 2)),
        lambda: laplace(torch.tensor([[1e4]]).double()),
        lambda: st.EmbeddedModelFlow(layer, coupling.CouplingFlow(2)),
        lambda: st.EmbeddedModelFlow(chain, coupling.CouplingFlow(2)),
    ):
        with pytest.raises(ValueError):
            call()
