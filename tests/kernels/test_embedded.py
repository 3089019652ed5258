"""Every version of the embedded clusters flips the same signs, and the law of the field is what they leave alone."""

import decimal
import itertools
import math

import numpy as np
import pytest
import torch
from lattices import assert_steps_follow, bonds_of, every_state, transition_matrix

from physgen import errorbars
from physgen.kernels.lattice import embedded, hmc, wolff
from physgen.kernels.lattice.embedded import thresholds
from physgen.kernels.philox import philox

DEVICES = ["cpu", *([pytest.param("cuda", marks=pytest.mark.cuda)] if torch.cuda.is_available() else [])]
FLOATS = [torch.float32, torch.float64]
# Widths of 2, odd numbers of sites, and more sites than the 64 whose bonds the fast version draws together.
SHAPES = [(2, 2), (2, 6), (6, 2), (5, 7), (3, 43), (16, 16)]
BETAS = [0.0, 0.1, 0.3, 0.68, 2.0, 40.0]
BETA = 0.68
CONVENTION_B = (BETA, -(1 + 2 * BETA), 1.0)


def fields(*shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def law_of_signs(phi, beta):
    """P(s | |φ|) ∝ exp(β Σ_⟨ij⟩ φ_i φ_j) of fields with one |φ|, each bond counted."""
    bonds = torch.tensor(bonds_of(*phi.shape[1:]))
    return torch.softmax(beta * phi.flatten(1)[:, bonds].prod(2).sum(1), 0)


def same(found, expected):
    """Equal bit for bit, the signs of zeros included."""
    signs = torch.equal(found[0].cpu().signbit(), expected[0].signbit())
    return signs and all(torch.equal(a.cpu(), b) for a, b in zip(found, expected, strict=True))


# ---------------------------------------------------------------------------------- all versions, bit for bit


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("shape", SHAPES)
def test_backends_agree_bit_for_bit(shape, dtype, device):
    for beta, (seed, first_step) in itertools.product(BETAS, [(5, 0), (2**64 - 1, 2**32 - 3)]):
        phi = fields(3, *shape, seed=seed % 97, dtype=dtype)
        phi[0, 0, 0], phi[1, 1, 1] = 0.0, -0.0
        kw = {"beta": beta, "clusters": 9, "seed": seed, "first_step": first_step}
        expected = embedded.reference(phi, **kw)
        assert torch.equal(expected[0].abs(), phi.abs())
        for backend in ["torch", *(["numba"] if device == "cpu" else [])]:
            found = embedded(phi.to(device), backend=backend, **kw)
            assert [t.dtype for t in found] == [dtype, torch.int64]
            assert [t.device.type for t in found] == [device] * 2
            assert same(found, expected), (beta, seed)


@pytest.mark.parametrize("device", DEVICES)
def test_backends_agree_on_no_lattices_on_no_clusters_and_on_strided_tensors(device):
    for backend in ["torch", *(["numba"] if device == "cpu" else [])]:
        phi = fields(4, 6, 3).to(device)
        before = phi.clone()
        out, sizes = embedded(phi[:0], 0.4, 3, 1, backend=backend)
        assert out.shape == (0, 6, 3) and sizes.shape == (0, 3)
        out, sizes = embedded(phi, 0.4, 0, 1, backend=backend)
        assert torch.equal(out, phi) and sizes.shape == (4, 0)
        out += 1
        found = embedded(phi.mT[::2], 0.4, 3, 1, backend=backend)
        assert same(found, embedded(phi.cpu().mT[::2].contiguous(), 0.4, 3, 1, backend="torch"))
        assert torch.equal(phi, before)
        assert not embedded(phi.requires_grad_(), 0.4, 3, 1, backend=backend)[0].requires_grad


@pytest.mark.parametrize("backend", ["torch", "numba"])
def test_a_run_in_two_parts_is_the_run_in_one(backend):
    phi, kw = fields(3, 5, 6), {"beta": 0.6, "seed": 8, "backend": backend}
    whole, sizes = embedded(phi, clusters=11, first_step=2**32 - 4, **kw)
    half, first = embedded(phi, clusters=5, first_step=2**32 - 4, **kw)
    end, second = embedded(half, clusters=6, first_step=2**32 + 1, **kw)
    assert torch.equal(end, whole) and torch.equal(torch.cat([first, second], 1), sizes)


@pytest.mark.parametrize("backend", ["torch", "numba"])
def test_a_lattice_does_not_depend_on_how_many_others_run(backend):
    phi, kw = fields(5, 4, 6), {"beta": 0.6, "clusters": 8, "seed": 8, "backend": backend}
    assert same([t[:2] for t in embedded(phi, **kw)], embedded(phi[:2], **kw))
    alike = embedded(phi[:1].expand(5, 4, 6), **kw)[1]
    assert len({tuple(row) for row in alike.tolist()}) == 5  # each lattice has random numbers of its own


def test_results_do_not_depend_on_the_number_of_threads(monkeypatch):
    phi = fields(7, 32, 32)
    alone = embedded(phi, BETA, 1000, 3, backend="numba")
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    assert same(embedded(phi, BETA, 1000, 3), alone)


def test_a_field_in_float32_is_flipped_as_its_copy_in_float64():
    phi = fields(3, 9, 11, dtype=torch.float32)
    assert torch.equal(thresholds(phi, 0.6), thresholds(phi.double(), 0.6))
    single, double = embedded(phi, 0.6, 20, 3), embedded(phi.double(), 0.6, 20, 3)
    assert same((single[0].double(), single[1]), double)


# -------------------------------------------------------------------------------------------------- the algorithm


@pytest.mark.parametrize("backend", ["torch", "numba"])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_field_of_signs_is_wolffs_ising_model_bit_for_bit(shape, backend):
    phi = fields(3, *shape).sign()
    for beta in (0.0, 0.1, 0.3, 0.4406868, 0.7, 2.0, 11.4, 11.5, 40.0):  # at 11.5 an open bond is certain
        for dtype in FLOATS:
            spins, sizes = wolff(phi.to(torch.int8), beta, 15, 6, 2**32 - 7)
            assert same(
                embedded(phi.to(dtype), beta, 15, 6, 2**32 - 7, backend=backend), (spins.to(dtype), sizes)
            )


@pytest.mark.parametrize("dtype", FLOATS)
def test_thresholds_are_the_formula_in_forty_digits(dtype):
    rows, columns, beta = 5, 6, 0.68
    phi = fields(40, rows, columns, dtype=dtype)
    phi[0] *= 1e-6  # where e^{−x} is within rounding of 1
    phi[1] *= 5  # where p is within rounding of 1
    phi[2, 0] = 0
    found = thresholds(phi, beta).flatten(2).permute(1, 2, 0).flatten(1)  # (B, 2N), bonds as in bonds_of
    with decimal.localcontext() as context:
        context.prec = 40
        for lattice, row in zip(phi.flatten(1).tolist(), found.tolist(), strict=True):
            for (i, j), theta in zip(bonds_of(rows, columns), row, strict=True):
                p = (
                    1
                    - (
                        -2
                        * decimal.Decimal(beta)
                        * abs(decimal.Decimal(lattice[i]) * decimal.Decimal(lattice[j]))
                    ).exp()
                )
                assert theta == (2**32 if p > 1 - decimal.Decimal(2) ** -33 else math.floor(2**32 * p))
    assert int(found.min()) == 0 and int(found.max()) == 2**32


def test_a_cluster_grows_from_the_documented_words():
    rows, columns, seed, step, beta = 5, 7, 2**40 + 9, 2**33 + 1, 0.8
    phi, n = fields(3, rows, columns), rows * columns
    for lattice in range(3):
        x = phi[lattice].flatten().tolist()
        words = philox(seed, step % 2**32, step // 2**32, lattice, torch.arange(1 + (n + 1) // 2)).tolist()
        cluster = {words[0][0] * n // 2**32}
        for _ in range(n):
            for k, (i, j) in enumerate(bonds_of(rows, columns)):
                site, way = divmod(k, 2)
                word = words[2 * (site % 2) + way][1 + site // 2]
                theta = math.floor(2**32 * (1 - math.exp(-2 * beta * max(0, x[i] * x[j]))))
                if word < theta and (i in cluster) != (j in cluster):
                    cluster |= {i, j}
        expected = [-value if i in cluster else value for i, value in enumerate(x)]
        for backend in ("torch", "numba"):
            found, sizes = embedded(phi, beta, 1, seed, step, backend=backend)
            assert found[lattice].flatten().tolist() == expected
            assert sizes[lattice].tolist() == [len(cluster)]


@pytest.mark.parametrize("backend", ["torch", "numba"])
def test_without_coupling_single_sites_flip_and_at_strong_coupling_whole_domains(backend):
    phi = fields(50, 4, 6)
    found, sizes = embedded(phi, 0.0, 1, 2, backend=backend)
    assert bool((sizes == 1).all()) and bool(((found != phi).sum((1, 2)) == 1).all())
    # Two stripes, each connected around the lattice: one of them flips, and then all signs are equal; but at a
    # site where the field is 0 all bonds are closed.
    phi = fields(50, 4, 6).abs().clamp(min=0.5)
    phi[:, :, 2:] *= -1
    found, sizes = embedded(phi, 1e3, 3, 2, backend=backend)
    assert bool((sizes[:, 1:] == 24).all()) and set(sizes[:, 0].tolist()) == {8, 16}
    assert bool((found.sign().sum((1, 2)).abs() == 24).all())
    phi[:, 1, 3] = 0
    assert set(embedded(phi, 1e3, 1, 2, backend=backend)[1].flatten().tolist()) == {1, 8, 15}
    # φ² = 9 · 10⁷⁶ and β = 10⁻⁷⁸ are numbers in float64 alone.
    sizes = embedded(torch.full((50, 3, 3), 3e38), 1e-78, 1, 2, backend=backend)[1]
    assert 1 < float(sizes.double().mean()) < 9


@pytest.mark.parametrize("shape", [(2, 2), (2, 3), (3, 2)])
def test_one_step_from_each_state_follows_the_transition_matrix_which_is_in_detailed_balance(shape):
    beta, repeats, size = 1.0, 1000, fields(*shape, seed=3).abs()
    states, bonds = every_state(*shape), torch.tensor(bonds_of(*shape))
    matrix = transition_matrix(*shape, 1 - torch.exp(-2 * beta * size.flatten()[bonds].prod(1)))
    law = law_of_signs(states * size, beta)
    flow = law[:, None] * matrix
    assert float(law.max() / law.min()) > 3  # not the flat law
    assert torch.allclose(matrix.sum(1), torch.ones(len(states), dtype=torch.float64), atol=1e-13)
    assert torch.allclose(flow, flow.T, atol=1e-15)
    assert torch.allclose(law @ matrix, law, atol=1e-14)
    assert_steps_follow(
        matrix, embedded((states * size).repeat_interleave(repeats, 0), beta, 1, 6)[0], repeats
    )


@pytest.mark.parametrize("shape", [(2, 5), (3, 3), (4, 4)])
def test_signs_drawn_from_their_law_keep_it_and_sizes_estimate_it(shape):
    n, lattices, size = math.prod(shape), 20_000, fields(*shape, seed=4).abs()
    phi = every_state(*shape) * size
    law = law_of_signs(phi, BETA)
    drawn = torch.multinomial(law, lattices, replacement=True, generator=torch.Generator().manual_seed(5))
    ended, sizes = embedded(phi[drawn], BETA, 3, 21)
    for values, of_all in (
        (ended.mean((1, 2)) ** 2, phi.mean((1, 2)) ** 2),
        (ended.sign().mean((1, 2)) ** 2, phi.sign().mean((1, 2)) ** 2),
        ((ended * ended.roll(-1, 2)).mean((1, 2)), (phi * phi.roll(-1, 2)).mean((1, 2))),
        (sizes.double().mean(1) / n, phi.sign().mean((1, 2)) ** 2),
    ):
        assert abs(float(values.mean() - law @ of_all)) < 4.5 * float(values.std()) / math.sqrt(lattices)


# --------------------------------------------------------------------------------- with hybrid Monte Carlo


def mixed(size, lattices, rounds, clusters, step, steps, *, drop):
    """(lattices, rounds): M and the mean of φ² after each round, a trajectory and some clusters."""
    phi, values = fields(lattices, size, size, seed=1, dtype=torch.float32), []
    for t in range(rounds):
        phi, _ = hmc(phi, *CONVENTION_B, step, steps, 1, 5, t)
        phi, _ = embedded(phi, BETA, clusters, 6, clusters * t)
        values.append(torch.stack([phi.double().mean((1, 2)), phi.double().square().mean((1, 2))]))
    return torch.stack(values, 2)[:, :, drop:]


def test_mixed_with_hybrid_monte_carlo_they_give_the_exact_moments_of_the_4_by_4_torus():
    # By transfer matrix: ⟨M²⟩ = 0.616436, ⟨φ²⟩ = 0.863978.
    mean, square = mixed(4, 500, 220, 3, 0.12, 8, drop=20)
    for values, exact in ((mean.square(), 0.616436), (square, 0.863978)):
        found = errorbars.mean_and_error(values)
        assert float(found.error) < 2e-3
        assert abs(float(found.mean) - exact) < 4 * float(found.error)


def test_clusters_shorten_the_memory_of_the_magnetisation():
    # At L = 32, near the critical point: alone the chains are not even long enough to tell the time, a lower bound.
    alone, _ = mixed(32, 4, 500, 0, 0.1, 10, drop=100)
    with_clusters, _ = mixed(32, 4, 500, 4, 0.1, 10, drop=100)
    for power in (1, 2):  # M changes its sign with a large cluster; M² has to change for another reason
        slow, fast = (float(errorbars.autocorrelation_time(m**power)) for m in (alone, with_clusters))
        assert fast < 6 and slow > 8 * fast


# ---------------------------------------------------------------------------------------------------------- bad input


def test_bad_input_is_refused_by_name():
    phi = fields(2, 3, 4)

    def refused(match, **wrong):
        arguments = {"phi": phi, "beta": 0.4, "clusters": 2, "seed": 1} | wrong
        with pytest.raises(ValueError, match=match):
            embedded(**arguments)

    refused(r"^phi: got torch.int8; expected", phi=phi.to(torch.int8))
    refused(r"^phi: got torch.float16", phi=phi.half())
    refused(r"^phi: got ndarray", phi=phi.numpy())
    refused(r"^phi: got shape \(3, 4\); expected \(B, L1, L2\)", phi=phi[0])
    refused(r"^phi: got shape \(2, 1, 4\)", phi=phi[:, :1])
    refused(r"^phi: got shape \(2, 3, 1\)", phi=phi[..., :1])
    refused(r"^phi: got shape .* < 2\*\*31", phi=fields(1, 1, 1).expand(0, 2**16, 2**15))
    for value in (math.nan, math.inf, -math.inf):
        bad = phi.clone()
        bad[1, 2, 3] = value
        refused(r"^phi: got NaN or infinity", phi=bad)
    refused(r"^phi: got \|phi\| up to 1e\+200 .* finite beta phi\*\*2", phi=1e200 * phi.sign())
    for beta in (-0.1, math.nan, math.inf, -math.inf, "1", None, True, 1j, torch.ones(2)):
        refused(r"^beta: got .* expected a finite number >= 0", beta=beta)
    for name, value in itertools.product(("clusters", "first_step"), (-1, 1.0, 2**62, True, None)):
        refused(rf"^{name}: got .* expected an integer in \[0", **{name: value})
    for seed in (-1, 2**64, 0.5, True, None):
        refused(r"^seed: got .* expected an integer", seed=seed)


def test_integers_of_numpy_are_integers():
    phi = fields(2, 3, 4)
    found = embedded(phi, np.float64(0.4), np.int64(3), np.int64(1), np.int64(2))
    assert same(found, embedded(phi, 0.4, 3, 1, 2))
