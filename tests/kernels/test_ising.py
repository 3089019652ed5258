"""Every version of the heat bath takes the same decisions, and they sample the Ising model."""

import itertools
import math
import os
from decimal import Decimal, getcontext

import pytest
import torch

from physgen.kernels.lattice import ising
from physgen.kernels.lattice.ising import energy, heat_bath, heat_bath_bits, magnetization

DEVICES = ["cpu", *([pytest.param("cuda", marks=pytest.mark.cuda)] if torch.cuda.is_available() else [])]
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
BOTH = pytest.mark.parametrize("made", [heat_bath, heat_bath_bits])
# Batch, rows, columns: ragged blocks, strips and vectors; one block and many; rows shorter and longer than a
# vector. The interpreter, 0.1 ms an operation, gets few.
SIZES = [
    (1, 2, 2), (3, 2, 4), (2, 4, 2), (65, 2, 2), (5, 4, 4), (2, 6, 10), (1, 34, 34), (1, 50, 72), (130, 4, 6),
    (2, 6, 514),
]  # fmt: skip
SIZES = [(1, 2, 4), (1, 34, 34)] if INTERPRETED else SIZES

# Steps, and decisions, of the two tests of rare numbers.
TIES, OPEN = ((107, True), (3184, False)), ((15, False), (338, True))


def signs(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return (2 * torch.randint(2, shape, generator=generator) - 1).to(torch.int8)


def agree(made, device, spins, *args):
    """Each version that can run gives what the definition gives on the CPU, bit for bit."""
    expected = made.reference(spins, *args)
    for backend in ["triton"] if INTERPRETED else {"cpu": ["numba"], "cuda": ["torch", "triton"]}[device]:
        found = made(spins.to(device), *args, backend=backend)
        assert found.dtype == torch.int8 and found.device.type == device
        assert torch.equal(found.cpu(), expected), (backend, spins.shape, args)
    return expected


# ---------------------------------------------------------------------------------- all versions, bit for bit


@BOTH
@pytest.mark.parametrize("device", DEVICES)
def test_backends_agree_on_ragged_sizes(made, device):
    for shape, beta in itertools.product(SIZES, [0.44] if INTERPRETED else [0.0, 0.44, 3.0]):
        agree(made, device, signs(*shape), beta, 2, 2**63 + 5)


@BOTH
@pytest.mark.parametrize("device", DEVICES)
def test_backends_agree_at_zero_and_at_huge_beta(made, device):
    spins = signs(1, 4, 6)
    agree(made, device, spins, 0.0, 2, 1)
    ordered = torch.ones_like(spins)
    assert torch.equal(agree(made, device, ordered, 1e300, 1, 1), ordered)
    assert torch.equal(agree(made, device, -ordered, 1e300, 1, 1), -ordered)


@BOTH
@pytest.mark.parametrize("device", DEVICES)
def test_backends_agree_on_steps_whose_number_needs_more_than_32_bits(made, device):
    spins = signs(1, 4, 4)
    agree(made, device, spins, 0.3, 2, 4, 2**32 - 1)
    early, late = (agree(made, device, spins, 0.0, 1, 4, step) for step in (0, 2**32))
    assert not torch.equal(early, late)


@pytest.mark.parametrize("device", DEVICES)
def test_backends_agree_on_ties_that_the_lower_bits_settle(device):
    # Found by search: in these steps the upper 16 bits of a u equal those of its threshold, and the lower 32
    # bits say once that u < threshold, once that it is not.
    beta, spins, thresholds = 0.44, torch.ones(1, 16, 16, dtype=torch.int8), ising._thresholds(0.44)
    for step, less in TIES:
        u = ising._numbers48(1, step, 0, spins)[0]  # every spin of colour 0 has h = 4
        tied = u >> 32 == thresholds[4] >> 32
        assert (u[tied] < thresholds[4]).tolist() == [less]
        agree(heat_bath, device, spins, beta, 1, 1, step)


@pytest.mark.parametrize("device", DEVICES)
def test_backends_agree_on_numbers_that_many_planes_leave_open(device):
    # Found by search: in these steps a u and the chance at |h| = 4 have their first 18 bits or more in common.
    beta, spins, q4 = 0.44, torch.ones(64, 16, 16, dtype=torch.int8), int(ising._chances(0.44)[2])
    for step, less in OPEN:
        u = ising._numbers32(1, step, 0, spins)
        close = u >> 14 == q4 >> 14
        assert (u[close] < q4).tolist() == [less]
        agree(heat_bath_bits, device, spins, beta, 1, 1, step)


@BOTH
@pytest.mark.parametrize("device", DEVICES)
def test_backends_agree_on_no_lattices_and_on_no_sweeps(made, device):
    assert agree(made, device, signs(0, 4, 6), 0.4, 1, 0).shape == (0, 4, 6)
    spins = signs(1, 4, 6)
    assert torch.equal(agree(made, device, spins, 0.4, 0, 0), spins)


def test_the_triton_versions_pass_these_tests_under_the_interpreter(interpreted):
    interpreted("backends_agree")


def test_the_triton_kernels_compile_ahead_of_time_for_hopper(compiled):
    code = """
from physgen.kernels.lattice import ising

types = {"spins": "*i8", "words": "*i64", "thresholds": "*i64", "seed": "i64", "BLOCK": "constexpr"}
integers = ("q2", "q4", "step", "step_high", "first_lattice", "first_group", "colour", "height", "width", "each")
types |= dict.fromkeys(integers, "i32")
functions = [later.ready() for later in [ising.triton_bytes, ising.triton_words]]
# Triton makes a constant of each integer argument that is 1, and takes 2^31 and more as unsigned.
for changed in ({}, dict.fromkeys(integers + ("seed",), 1) | dict.fromkeys(("q2", "step"), "u32")):
    for function in functions:
        constants = {name: 1 for name in function.arg_names if changed.get(name) == 1} | {"BLOCK": 128}
        known = types | changed | dict.fromkeys(constants, "constexpr")
        signature = {name: known[name] for name in function.arg_names}
        build(function, signature, constants)
"""
    assert compiled(code) == 4


# ---------------------------------------------------------------------------------------------------- the law


def test_thresholds_are_the_floors_of_the_probabilities():
    getcontext().prec = 60
    for beta in (0.0, 0.1, 0.44, 1.0, 3.0):
        exact = [1 / (1 + (-2 * Decimal(beta) * h).exp()) for h in (-4, -2, 0, 2, 4)]
        # A floor loses less than one; the probability in float64, a few 2⁻⁵³, less than another.
        for found, p in zip(ising._thresholds(beta).tolist(), exact, strict=True):
            assert abs(found - 2**48 * p) <= Decimal("1.5")
        for found, p in zip(ising._chances(beta).tolist(), exact[2::-1], strict=True):
            assert found == math.floor(2**32 * p)
    assert ising._thresholds(1e300).tolist() == [0, 0, 2**47, 2**48 - 1, 2**48 - 1]
    assert ising._chances(1e300).tolist() == [2**31, 0, 0]


@BOTH
def test_the_even_sites_of_a_first_sweep_follow_the_law_of_their_neighbours(made):
    beta, spins = 0.3, signs(1, 64, 64).expand(512, -1, -1)
    drawn = made(spins, beta, 1, 2)
    h, even = ising._neighbours(spins[0]), ising._colours(spins) == 0
    for value in (-4, -2, 0, 2, 4):
        chosen = drawn[:, even & (h == value)] > 0
        p, n = 1 / (1 + math.exp(-2 * beta * value)), chosen.numel()
        # n independent draws, n > 60 000: five standard deviations.
        assert n > 60_000 and abs(float(chosen.double().mean()) - p) < 5 * math.sqrt(p * (1 - p) / n)
        # Sites are independent over the lattices: the spread of their means is that of draws.
        spread = float(chosen.double().mean(0).var()) / (p * (1 - p) / len(drawn))
        assert abs(spread - 1) < 5 * math.sqrt(2 / (chosen.shape[1] - 1))


def states(rows, columns):
    """All configurations of a torus."""
    bits = torch.arange(2 ** (rows * columns))[:, None] >> torch.arange(rows * columns) & 1
    return (2 * bits - 1).to(torch.int8).view(-1, rows, columns)


@BOTH
@pytest.mark.parametrize("size", [(2, 2), (2, 4), (4, 2), (4, 4)])
def test_energies_and_magnetisations_of_small_tori_have_the_law_of_gibbs(made, size):
    beta, lattices, n = 0.35, 2**15, size[0] * size[1]
    every = states(*size)
    weights = torch.exp(-beta * n * energy(every))
    # Cells of the joint law of E and |M|, both integers: 8 (−E) + … made one number.
    cell = {}
    for spins, weight in ((every, weights), (made(signs(lattices, *size), beta, 60, 3), None)):
        pair = torch.stack([n * energy(spins), (n * magnetization(spins)).abs()], 1).round().long()
        key = pair[:, 0] * 1000 + pair[:, 1]
        for value in key.unique().tolist():
            part = weights[key == value].sum() / weights.sum() if weight is not None else (key == value).sum()
            cell.setdefault(value, []).append(float(part))
    expected = torch.tensor([c[0] * lattices for c in cell.values()])
    found = torch.tensor([c[1] if len(c) > 1 else 0.0 for c in cell.values()])
    rare = expected < 10  # joined to one cell
    expected, found = (torch.cat([x[~rare], x[rare].sum()[None]]) for x in (expected, found))
    expected, found = expected[expected > 10], found[expected > 10]
    assert int(found.sum()) > 0.999 * lattices
    # 60 sweeps are many relaxation times of so small a lattice; lattices are independent: χ² has mean k and
    # variance 2k (to a few per cent with 10 counts a cell).
    chi2, k = float(((found - expected) ** 2 / expected).sum()), len(found) - 1
    assert chi2 < k + 5 * math.sqrt(2 * k)


def agm(a, b):
    while abs(a - b) > 1e-15 * a:
        a, b = (a + b) / 2, math.sqrt(a * b)
    return a


def onsager(beta):
    """Energy per site of the infinite lattice."""
    k = 2 * math.sinh(2 * beta) / math.cosh(2 * beta) ** 2
    elliptic = math.pi / (2 * agm(1.0, math.sqrt(1 - k * k)))
    return -(1 + 2 / math.pi * (2 * math.tanh(2 * beta) ** 2 - 1) * elliptic) / math.tanh(2 * beta)


@BOTH
@pytest.mark.parametrize("temperature", [2.0, 2.1, 2.6])
def test_energy_is_onsagers_and_magnetisation_yangs(made, temperature):
    beta, spins = 1 / temperature, torch.ones(64, 64, 64, dtype=torch.int8)
    # Correlations decay as exp(−r/ξ) with ξ < 4 at these temperatures, so L = 64 is off by less than 10⁻⁶;
    # they live for about ξ² < 20 sweeps, and the ordered start is forgotten after 300.
    spins = made(spins, beta, 300, 6)
    u, m = [], []
    for part in range(60):
        spins = made(spins, beta, 8, 6, 300 + 8 * part)
        u.append(energy(spins))
        m.append(magnetization(spins))
    u, m = torch.stack(u).mean(0), torch.stack(m).mean(0)
    exact = (1 - math.sinh(2 * beta) ** -4) ** 0.125 if temperature < 2.269 else 0.0
    for found, expected, largest in ((u, onsager(beta), 8e-4), (m, exact, 6e-3)):
        # 64 independent lattices: their spread is the error, 4.5 of it the tolerance.
        error = float(found.std()) / 8
        assert error < largest and abs(float(found.mean()) - expected) < 4.5 * error


@BOTH
def test_lattices_share_no_random_numbers(made):
    # From one start, at high temperature: overlaps (1/N) Σ s_a s_b of all pairs go to zero. With shared
    # numbers they would stay one.
    final = made(torch.ones(128, 32, 32, dtype=torch.int8), 0.2, 60, 7).flatten(1).float()
    overlaps = (final @ final.T / 1024).fill_diagonal_(0)
    # Of a pair: variance χ₂/N, with χ₂ = Σ_r ⟨s_0 s_r⟩² < 1.5 at β = 0.2; 8128 pairs: six deviations at most.
    assert float(overlaps.abs().max()) < 6 * math.sqrt(1.5 / 1024)
    assert abs(float(overlaps.sum()) / (128 * 127)) < 5 * math.sqrt(1.5 / 1024 / 8128)


@BOTH
def test_a_lattice_in_a_batch_is_the_same_whatever_the_others_are(made):
    spins = signs(70, 6, 8)
    expected = made(spins, 0.4, 5, 1)
    assert torch.equal(made(spins[:7], 0.4, 5, 1), expected[:7])
    others = spins.clone()
    others[::2] = -1
    assert torch.equal(made(others, 0.4, 5, 1)[1::2], expected[1::2])


@BOTH
def test_two_runs_are_one_and_another_seed_is_another_run(made):
    spins = signs(66, 8, 10)
    whole = made(spins, 0.4, 7, 9, 5)
    assert torch.equal(made(made(spins, 0.4, 3, 9, 5), 0.4, 4, 9, 8), whole)
    assert not torch.equal(made(spins, 0.4, 7, 10, 5), whole)
    assert not torch.equal(made(spins, 0.4, 7, 9 + 2**32, 5), whole)


@BOTH
def test_many_threads_give_what_one_gives(made, monkeypatch):
    spins = signs(200, 64, 64)
    alone = made(spins, 0.44, 50, 3, backend="numba")
    ranges, run = [], ising.over_rows
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    monkeypatch.setattr(ising, "over_rows", lambda f, *a: run(lambda *r: (ranges.append(r), f(*r)), *a))
    assert torch.equal(made(spins, 0.44, 50, 3, backend="numba"), alone)
    assert len(ranges) == 3


def test_energy_and_magnetisation_are_sums_over_bonds_and_sites():
    for shape in ((2, 2, 2), (2, 2, 4), (3, 4, 6)):
        spins = signs(*shape, seed=2)
        for s, e, m in zip(
            spins.tolist(), energy(spins).tolist(), magnetization(spins).tolist(), strict=True
        ):
            rows, columns = shape[1:]
            bonds = sum(
                s[i][j] * (s[(i + 1) % rows][j] + s[i][(j + 1) % columns])
                for i in range(rows)
                for j in range(columns)
            )
            assert e == -bonds / (rows * columns) and m == sum(map(sum, s)) / (rows * columns)
    large = torch.ones(1, 64, 64, dtype=torch.int8)
    assert energy(large).tolist() == [-2.0] and magnetization(-large).tolist() == [-1.0]
    assert energy(large).dtype == magnetization(large).dtype == torch.float64
    assert energy(signs(0, 2, 2)).shape == magnetization(signs(0, 2, 2)).shape == (0,)


@BOTH
def test_the_argument_stays_as_it_is_and_may_be_strided(made):
    spins = signs(3, 8, 10)
    kept = spins.clone()
    for backend in ("torch", "numba"):
        found = made(spins, torch.tensor(0.4), 0, 0, backend=backend)
        assert torch.equal(found, kept) and found.data_ptr() != spins.data_ptr()
        made(spins, 0.4, 2, 0, backend=backend)
        assert torch.equal(spins, kept)
        expected = made(spins.mT.contiguous(), 0.4, 2, 0, backend=backend)
        assert torch.equal(made(spins.mT, 0.4, 2, 0, backend=backend), expected)


# -------------------------------------------------------------------------------------------------- bad input

GOOD = {"spins": signs(2, 4, 6), "beta": 0.4, "sweeps": 1, "seed": 0, "first_step": 0}
BAD = {
    "spins": [
        [[[1, 1], [1, 1]]],
        torch.ones(2, 4, 6),
        signs(4, 6),
        signs(2, 3, 6),
        signs(2, 4, 5),
        signs(2, 0, 6),
        signs(1, 2, 4, 6),
        torch.zeros(2, 4, 6, dtype=torch.int8),
        torch.full((2, 4, 6), 3, dtype=torch.int8),
        torch.full((2, 4, 6), -128, dtype=torch.int8),
    ],
    "beta": [-0.1, math.nan, math.inf, "1", None, True, 1j, torch.ones(2), torch.tensor(-1.0)],
    "sweeps": [-1, 0.5, None, True, 2**62],
    "seed": [-1, 2**64, 0.5, None],
    "first_step": [-1, 0.5, None, True, 2**62],
}


@BOTH
def test_bad_input_is_refused_by_name(made):
    assert made(**GOOD).shape == (2, 4, 6)
    for name, values in BAD.items():
        for value in values:
            with pytest.raises(ValueError, match=f"^{name}: got .* expected"):
                made(**GOOD | {name: value})
    huge = torch.ones(1, 1, 1, dtype=torch.int8).expand(1, 2**17, 2**16)
    with pytest.raises(ValueError, match=r"^spins: got .* expected at most"):
        made(huge, 0.4, 1, 0)


def test_bad_spins_have_no_energy_and_no_magnetisation():
    for function, value in itertools.product((energy, magnetization), BAD["spins"]):
        with pytest.raises(ValueError, match=r"^spins: got .* expected"):
            function(value)


def test_each_heat_bath_has_its_two_fast_versions():
    for made in (heat_bath, heat_bath_bits):
        assert list(made._fast) == ["numba", "triton"]
