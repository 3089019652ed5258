"""Every version of Wolff's algorithm flips the same clusters, and Gibbs' law is what they leave alone."""

import itertools
import math

import numpy as np
import pytest
import torch
from lattices import assert_steps_follow, bonds_of, every_state, transition_matrix
from scipy.special import ellipk

from physgen.kernels.lattice import wolff
from physgen.kernels.philox import philox

DEVICES = ["cpu", *([pytest.param("cuda", marks=pytest.mark.cuda)] if torch.cuda.is_available() else [])]
# Widths of 2, odd numbers of sites, and more sites than the 64 whose bonds the fast version draws together.
SHAPES = [(2, 2), (2, 6), (6, 2), (5, 7), (3, 43), (16, 16)]
BETAS = [0.0, 0.1, 0.3, 0.4406868, 0.7, 2.0, 40.0, math.inf]
CRITICAL = math.log(1 + math.sqrt(2)) / 2


def signs(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return (2 * torch.randint(2, shape, generator=generator) - 1).to(torch.int8)


def energy(spins):
    """−Σ_⟨ij⟩ s_i s_j of each lattice, one bond to the right and one down a site."""
    s = spins.long()
    return -(s * (s.roll(-1, 1) + s.roll(-1, 2))).sum((1, 2))


def gibbs(states, beta):
    return torch.softmax(-beta * energy(states).double(), 0)


# ---------------------------------------------------------------------------------- all versions, bit for bit


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("shape", SHAPES)
def test_backends_agree_bit_for_bit(shape, device):
    for beta, (seed, first_step) in itertools.product(BETAS, [(5, 0), (2**64 - 1, 2**32 - 3)]):
        spins = signs(3, *shape, seed=seed % 97)
        kw = {"beta": beta, "clusters": 9, "seed": seed, "first_step": first_step}
        expected, sizes = wolff.reference(spins, **kw)
        for backend in ["torch", *(["numba"] if device == "cpu" else [])]:
            found = wolff(spins.to(device), backend=backend, **kw)
            assert [t.dtype for t in found] == [torch.int8, torch.int64]
            assert [t.device.type for t in found] == [device] * 2
            assert torch.equal(found[0].cpu(), expected), (beta, seed)
            assert torch.equal(found[1].cpu(), sizes), (beta, seed)


@pytest.mark.parametrize("device", DEVICES)
def test_backends_agree_on_no_lattices_on_no_clusters_and_on_strided_tensors(device):
    for backend in ["torch", *(["numba"] if device == "cpu" else [])]:
        spins = signs(4, 6, 3).to(device)
        before = spins.clone()
        out, sizes = wolff(spins[:0], 0.4, 3, 1, backend=backend)
        assert out.shape == (0, 6, 3) and sizes.shape == (0, 3)
        out, sizes = wolff(spins, 0.4, 0, 1, backend=backend)
        assert torch.equal(out, spins) and sizes.shape == (4, 0)
        out += 1
        found = wolff(spins.mT[::2], 0.4, 3, 1, backend=backend)
        expected = wolff(spins.mT[::2].contiguous(), torch.tensor(0.4), 3, 1, backend="torch")
        assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
        assert torch.equal(spins, before)


@pytest.mark.parametrize("backend", ["torch", "numba"])
def test_a_run_in_two_parts_is_the_run_in_one(backend):
    spins, kw = signs(3, 5, 6), {"beta": 0.4, "seed": 8, "backend": backend}
    whole, sizes = wolff(spins, clusters=11, first_step=2**32 - 4, **kw)
    half, first = wolff(spins, clusters=5, first_step=2**32 - 4, **kw)
    end, second = wolff(half, clusters=6, first_step=2**32 + 1, **kw)
    assert torch.equal(end, whole) and torch.equal(torch.cat([first, second], 1), sizes)


@pytest.mark.parametrize("backend", ["torch", "numba"])
def test_a_lattice_does_not_depend_on_how_many_others_run(backend):
    spins, kw = signs(5, 4, 6), {"beta": 0.4, "clusters": 8, "seed": 8, "backend": backend}
    many, few = wolff(spins, **kw), wolff(spins[:2], **kw)
    assert all(torch.equal(a[:2], b) for a, b in zip(many, few, strict=True))
    alike = wolff(spins[:1].expand(5, 4, 6), **kw)[1]
    assert len({tuple(row) for row in alike.tolist()}) == 5  # each lattice has random numbers of its own


def test_results_do_not_depend_on_the_number_of_threads(monkeypatch):
    spins = signs(7, 32, 32)
    alone = wolff(spins, 0.44, 1000, 3, backend="numba")
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    assert all(torch.equal(a, b) for a, b in zip(wolff(spins, 0.44, 1000, 3), alone, strict=True))


# -------------------------------------------------------------------------------------------------- the algorithm


def test_a_cluster_grows_from_the_documented_words():
    rows, columns, seed, step, beta = 5, 7, 2**40 + 9, 2**33 + 1, 0.6
    spins, n = signs(3, rows, columns), rows * columns
    theta = math.floor(2**32 * (1 - math.exp(-2 * beta)))
    for lattice in range(3):
        s = spins[lattice].flatten().tolist()
        words = philox(seed, step % 2**32, step // 2**32, lattice, torch.arange(1 + (n + 1) // 2)).tolist()
        cluster = {words[0][0] * n // 2**32}
        bonds = bonds_of(rows, columns)
        for _ in range(n):
            for k, (i, j) in enumerate(bonds):
                site, way = divmod(k, 2)
                word = words[2 * (site % 2) + way][1 + site // 2]
                if s[i] == s[j] and word < theta and (i in cluster) != (j in cluster):
                    cluster |= {i, j}
        expected = torch.tensor([-x if i in cluster else x for i, x in enumerate(s)]).view(rows, columns)
        for backend in ("torch", "numba"):
            found, sizes = wolff(spins, beta, 1, seed, step, backend=backend)
            assert torch.equal(found[lattice].long(), expected)
            assert sizes[lattice].tolist() == [len(cluster)]


def test_without_coupling_single_sites_flip_and_at_infinite_coupling_whole_domains():
    spins = signs(50, 4, 6)
    found, sizes = wolff(spins, 0.0, 1, 2)
    assert bool((sizes == 1).all()) and bool(((found != spins).sum((1, 2)) == 1).all())
    # Two stripes, each connected around the lattice: one of them flips, and then all spins are equal.
    spins = torch.ones(50, 4, 6, dtype=torch.int8)
    spins[:, :, 2:] = -1
    for beta in (math.inf, 12.0):  # 1 − e^{−24} is within 2⁻³³ of 1, and so certain
        found, sizes = wolff(spins, beta, 3, 2)
        assert bool((sizes[:, 1:] == 24).all()) and set(sizes[:, 0].tolist()) == {8, 16}
        assert bool((found.long().sum((1, 2)).abs() == 24).all())


def test_the_sites_flipped_are_counted():
    spins = signs(40, 8, 8)
    for beta in (0.2, 0.5):
        found, sizes = wolff(spins, beta, 1, 4)
        assert torch.equal((found != spins).sum((1, 2)), sizes[:, 0])


@pytest.mark.parametrize("shape", [(2, 2), (2, 3), (3, 2)])
def test_one_step_from_each_state_follows_the_transition_matrix_which_is_in_detailed_balance(shape):
    beta, repeats = 0.25, 4000
    states, p = every_state(*shape), 1 - math.exp(-2 * beta)
    matrix = transition_matrix(*shape, torch.full((2 * math.prod(shape),), p, dtype=torch.float64))
    flow = gibbs(states, beta)[:, None] * matrix
    assert torch.allclose(matrix.sum(1), torch.ones(len(states), dtype=torch.float64), atol=1e-13)
    assert torch.allclose(flow, flow.T, atol=1e-15)
    assert_steps_follow(matrix, wolff(states.repeat_interleave(repeats, 0), beta, 1, 6)[0], repeats)


@pytest.mark.parametrize("beta", [0.2, 0.4406868])
@pytest.mark.parametrize("shape", [(2, 5), (3, 3), (4, 4)])
def test_energy_magnetisation_and_cluster_size_are_those_of_all_states(shape, beta):
    n, lattices = math.prod(shape), 20_000
    states = every_state(*shape)
    weights = gibbs(states, beta)
    m2 = states.double().mean((1, 2)) ** 2
    exact_energy, exact_m2 = float(weights @ energy(states).double()), float(weights @ m2)
    # From spins at random. On lattices this small the slowest mean more than halves in 2N/⟨size⟩ < 12 steps: of
    # its first error, some σ of a lattice, 2⁻⁸ is left, below the Monte-Carlo error 5 σ/√20000.
    started, _ = wolff(signs(lattices, *shape), beta, 100, 21)
    ended, sizes = wolff(started, beta, 20, 21, 100)
    estimates = [
        (energy(ended).double(), exact_energy),
        (ended.double().mean((1, 2)) ** 2, exact_m2),
        (sizes.double().mean(1), n * exact_m2),
    ]
    for values, exact in estimates:
        assert abs(float(values.mean()) - exact) < 4.5 * float(values.std()) / math.sqrt(lattices)


@pytest.mark.parametrize(("beta", "steps"), [(0.35, 4000), (0.5, 60)])
def test_the_energy_of_a_large_lattice_is_onsagers(beta, steps):
    # Onsager (1944): u = −coth 2β (1 + (2/π) (2 tanh² 2β − 1) K(k)), k = 2 sinh 2β / cosh² 2β. The correlation
    # lengths here are below 3 sites: what 64 sites leave out is e⁻²⁰. Over 25 sweeps from all spins up.
    k = 2 * math.sinh(2 * beta) / math.cosh(2 * beta) ** 2
    bracket = 1 + 2 / math.pi * (2 * math.tanh(2 * beta) ** 2 - 1) * ellipk(k**2)
    found = energy(wolff(torch.ones(100, 64, 64, dtype=torch.int8), beta, steps, 5)[0]).double() / 64**2
    error = float(found.std()) / 10
    assert error < 3e-3
    assert abs(float(found.mean()) + bracket / math.tanh(2 * beta)) < 4.5 * error


def kaufman(size, beta):
    """ln Z of the L × L lattice (Kaufman 1949), in float64."""
    n, beta = size, torch.as_tensor(beta, dtype=torch.float64)
    r = torch.arange(1, 2 * n, dtype=torch.float64)
    gamma = torch.acosh(torch.cosh(2 * beta) / torch.tanh(2 * beta) - torch.cos(math.pi * r / n))
    gamma = torch.cat([(2 * beta + torch.tanh(beta).log())[None], gamma]) * n / 2
    odd, even = gamma[1::2], gamma[0::2]
    # 2 cosh x = eˣ (1 + e⁻²ˣ), 2 sinh x = eˣ (1 − e⁻²ˣ); the first even γ may be negative.
    terms = [
        odd.sum() + torch.log1p(torch.exp(-2 * odd)).sum(),
        odd.sum() + torch.log1p(-torch.exp(-2 * odd)).sum(),
        even.sum() + torch.log1p(torch.exp(-2 * even)).sum(),
    ]
    largest = torch.stack(terms).max()
    total = sum(torch.exp(term - largest) for term in terms)
    total = total + torch.prod(2 * torch.sinh(even[:1])) * torch.exp(
        even[1:].sum() + torch.log1p(-torch.exp(-2 * even[1:])).sum() - largest
    )
    return n * n / 2 * torch.log(2 * torch.sinh(2 * beta)) - math.log(2) + largest + total.log()


def kaufman_energy(size, beta):
    """⟨E⟩ = −∂ ln Z/∂β."""
    beta = torch.tensor(beta, dtype=torch.float64, requires_grad=True)
    return -float(torch.autograd.grad(kaufman(size, beta), beta)[0])


def test_the_energy_at_the_critical_point_is_kaufmans():
    states = every_state(4, 4)
    log_z = float(torch.logsumexp(-CRITICAL * energy(states).double(), 0))
    assert abs(float(kaufman(4, CRITICAL)) - log_z) < 1e-12  # the formula itself
    # Onsager's −√2 in the limit, approached as 1/L.
    assert abs(kaufman_energy(400, CRITICAL) / 400**2 + math.sqrt(2)) < 1 / 400
    # 100 clusters, of half the sites each, from all spins up: the algorithm forgets in a few of them.
    found = energy(wolff(torch.ones(2000, 16, 16, dtype=torch.int8), CRITICAL, 100, 13)[0]).double()
    error = float(found.std()) / math.sqrt(2000)
    assert error < 2
    assert abs(float(found.mean()) - kaufman_energy(16, CRITICAL)) < 4.5 * error


# ---------------------------------------------------------------------------------------------------------- bad input


def test_bad_input_is_refused_by_name():
    spins = signs(2, 3, 4)

    def refused(match, **wrong):
        arguments = {"spins": spins, "beta": 0.4, "clusters": 2, "seed": 1} | wrong
        with pytest.raises(ValueError, match=match):
            wolff(**arguments)

    refused(r"^spins: got torch.int64; expected", spins=spins.long())
    refused(r"^spins: got torch.float32", spins=spins.float())
    refused(r"^spins: got ndarray", spins=spins.numpy())
    refused(r"^spins: got shape \(3, 4\); expected \(B, L1, L2\)", spins=spins[0])
    refused(r"^spins: got shape \(2, 1, 4\)", spins=spins[:, :1])
    refused(r"^spins: got shape \(2, 3, 1\)", spins=spins[..., :1])
    refused(r"^spins: got shape .* < 2\*\*31", spins=signs(1, 1, 1).expand(1, 2**16, 2**15))
    for value in (0, 2, -2, -128):
        bad = spins.clone()
        bad[1, 2, 3] = value
        refused(r"^spins: got values other than \+-1", spins=bad)
    for beta in (-0.1, math.nan, -math.inf, "1", None, True, 1j, torch.ones(2), torch.tensor(math.nan)):
        refused(r"^beta: got .* expected a number >= 0", beta=beta)
    for name, value in itertools.product(("clusters", "first_step"), (-1, 1.0, 2**62, True, None)):
        refused(rf"^{name}: got .* expected an integer in \[0", **{name: value})
    for seed in (-1, 2**64, 0.5, True, None):
        refused(r"^seed: got .* expected an integer", seed=seed)


def test_integers_of_numpy_are_integers():
    spins = signs(2, 3, 4)
    found = wolff(spins, np.float64(0.4), np.int64(3), np.int64(1), np.int64(2))
    assert all(torch.equal(a, b) for a, b in zip(found, wolff(spins, 0.4, 3, 1, 2), strict=True))
