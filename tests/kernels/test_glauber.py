"""Every version of the spin dynamics takes the same decisions, and they follow Glauber's law."""

import itertools
import math
import os
from decimal import Decimal, getcontext
from functools import partial

import pytest
import torch

from physgen.kernels import glauber
from physgen.kernels.glauber import parallel, parallel_patterns, sequential, sequential_patterns, thresholds
from physgen.kernels.philox import philox

DEVICES = ["cpu", *([pytest.param("cuda", marks=pytest.mark.cuda)] if torch.cuda.is_available() else [])]
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
# The interpreter needs 15 ms for an update of a replica: it gets few of both.
MANY, LONG = (2, 2) if INTERPRETED else (5, 40)
SIZES = [
    (1, 1, 1),
    (2, 3, MANY),
    (7, 2, 1),
    (33, 5, MANY),
]  # N, K, R: ragged, no multiple of 4 or 64 among the N
TEMPERATURES = [0.0, 0.3, 5.0]


def signs(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return (2 * torch.randint(2, shape, generator=generator) - 1).to(torch.int8)


def hebb(patterns, diagonal=False):
    """ξᵀξ, integers: N times the Hebb couplings."""
    product = patterns.long().T @ patterns.long()
    return product if diagonal else product.fill_diagonal_(0)


def integers(n, seed=0, reach=3):
    """Asymmetric integers, self couplings of both signs included."""
    return torch.randint(-reach, reach + 1, (n, n), generator=torch.Generator().manual_seed(seed))


def agree(made, device, *args, **kw):
    """Each version that can run gives what the definition gives on the CPU, bit for bit."""
    expected = made.reference(*args, **kw)
    there = [value.to(device) if isinstance(value, torch.Tensor) else value for value in args]
    kw = {name: value.to(device) if isinstance(value, torch.Tensor) else value for name, value in kw.items()}
    for backend in ["triton"] if INTERPRETED else ["torch", {"cpu": "numba", "cuda": "triton"}[device]]:
        found = made(*there, backend=backend, **kw)
        assert found.dtype == torch.int8 and found.device.type == device
        assert torch.equal(found.cpu(), expected), (backend, args[0].shape, kw)
    return expected


def field_or_none(n, given, seed=3, reach=4):
    return (
        torch.randint(-reach, reach + 1, (n,), generator=torch.Generator().manual_seed(seed))
        if given
        else None
    )


# ---------------------------------------------------------------------------------- all versions, bit for bit


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("temperature", TEMPERATURES)
@pytest.mark.parametrize("given", [False, True])
def test_backends_agree_on_hebb_couplings_and_patterns_equal_couplings(given, temperature, device):
    for (n, k, replicas), diagonal in itertools.product(SIZES, [False, True]):
        spins, patterns, field = signs(replicas, n), signs(k, n, seed=1), field_or_none(n, given)
        couplings, low_rank = hebb(patterns, diagonal), {"field": field, "diagonal": diagonal}
        # Fewer updates than sites, and more: the sums are taken when needed, or kept.
        for updates in {0, LONG} if INTERPRETED else {0, 1, n - 1, LONG}:
            kw = {"updates": updates, "seed": 11}
            dense = agree(sequential, device, spins, couplings, field, temperature, scale=float(n), **kw)
            assert torch.equal(
                agree(sequential_patterns, device, spins, patterns, temperature, **low_rank, **kw), dense
            )
        for steps in {0, min(4, LONG)}:
            kw = {"steps": steps, "seed": 12}
            dense = agree(parallel, device, spins, couplings, field, temperature, scale=float(n), **kw)
            assert torch.equal(
                agree(parallel_patterns, device, spins, patterns, temperature, **low_rank, **kw), dense
            )


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_backends_agree_on_asymmetric_integers_with_self_couplings(temperature, device):
    for n, dtype in itertools.product((1, 2, 7, 33), (torch.int32, torch.int64)):
        spins, couplings, field = signs(MANY, n), integers(n).to(dtype), field_or_none(n, n > 2)
        for updates in {min(3, LONG), LONG}:
            agree(
                sequential,
                device,
                spins,
                couplings,
                field,
                temperature,
                updates=updates,
                seed=2**63 + 5,
                scale=1.5,
            )
        agree(
            parallel,
            device,
            spins,
            couplings,
            field,
            temperature,
            steps=min(5, LONG),
            seed=2**64 - 1,
            scale=0.7,
        )


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_backends_agree_on_float_couplings_ties_at_zero_temperature_included(temperature, device):
    # At T > 0 two versions differ where rounding moves a threshold across the word: below 1e-14 an update,
    # never here.
    for n in (1, 2, 7, 33):
        generator, spins = torch.Generator().manual_seed(n), signs(MANY, n)
        gaussian = torch.randn(n, n, generator=generator, dtype=torch.float64)
        field = torch.randn(n, generator=generator, dtype=torch.float64)
        tied = hebb(signs(4, n, seed=1)).double() / n
        for couplings, b in ((gaussian, field), (gaussian, None), (tied, None)):
            for updates in {min(3, LONG), LONG}:
                agree(
                    sequential, device, spins, couplings, b, temperature, updates=updates, seed=3, scale=2.0
                )
            agree(parallel, device, spins, couplings, b, temperature, steps=min(5, LONG), seed=3)


@pytest.mark.parametrize("device", DEVICES)
def test_backends_agree_where_sums_pass_the_range_of_int32_and_of_float32(device):
    spins, large = signs(4, 9), integers(9, reach=2**30)
    for dtype in (torch.int32, torch.int64):
        for updates in {min(3, LONG), LONG}:
            agree(sequential, device, spins, large.to(dtype), None, 0.0, updates=updates, seed=1)
        agree(parallel, device, spins, large.to(dtype), None, 0.0, steps=3, seed=1)
    agree(sequential, device, spins, integers(9, reach=2**48), None, 0.0, updates=20, seed=1)
    agree(parallel, device, spins, integers(9, reach=2**48), None, 0.0, steps=3, seed=1)


@pytest.mark.parametrize("device", DEVICES)
def test_backends_agree_on_steps_whose_number_needs_more_than_32_bits(device):
    spins, patterns, first = signs(2, 5), signs(2, 5, seed=1), 2**32 - 3
    agree(sequential_patterns, device, spins, patterns, 1.0, updates=6, seed=4, first_step=first)
    agree(
        sequential, device, spins, hebb(patterns), None, 1.0, updates=6, seed=4, scale=5.0, first_step=first
    )
    agree(parallel, device, spins, hebb(patterns), None, 1.0, steps=6, seed=4, scale=5.0, first_step=first)
    early = parallel_patterns(spins, patterns, 1.0, steps=3, seed=4, first_step=0)
    assert not torch.equal(
        agree(parallel_patterns, device, spins, patterns, 1.0, steps=3, seed=4, first_step=2**32), early
    )


@pytest.mark.parametrize("device", DEVICES)
def test_backends_agree_beyond_the_first_tile_of_sites_and_of_updates(device):
    n = 530
    spins, patterns = signs(2, n), signs(3, n, seed=1)
    agree(parallel_patterns, device, spins, patterns, 1.0, steps=2, seed=5)
    agree(parallel, device, spins, hebb(patterns), None, 1.0, steps=2, seed=5, scale=float(n))
    updates = LONG if INTERPRETED else 600
    few, pattern = signs(2, 7), signs(2, 7, seed=1)
    agree(sequential_patterns, device, few, pattern, 1.0, updates=updates, seed=5)
    agree(sequential, device, few, hebb(pattern), None, 1.0, updates=updates, seed=5, scale=7.0)
    agree(
        sequential,
        device,
        spins,
        hebb(patterns),
        None,
        1.0,
        updates=updates - 100 * (not INTERPRETED),
        seed=5,
        scale=float(n),
    )


def test_a_float_tie_that_rounding_hides_is_a_tie():
    # 0.1 + 0.2 − 0.3 = 5.6e-17 in float64: the spin keeps its value, up or down, in every version and both
    # orders.
    couplings = torch.zeros(4, 4, dtype=torch.float64)
    couplings[0, 1:] = torch.tensor([0.1, 0.2, -0.3], dtype=torch.float64)
    for first in (-1, 1):
        spins = torch.tensor([[first, 1, 1, 1]], dtype=torch.int8)
        for updates in (3, 40):
            assert torch.equal(
                agree(sequential, "cpu", spins, couplings, None, 0.0, updates=updates, seed=0), spins
            )
        assert torch.equal(agree(parallel, "cpu", spins, couplings, None, 0.0, steps=2, seed=0), spins)
        couplings[0, 0] = -1e-13  # far above the rounding error: the spin opposes its field and flips
        assert torch.equal(
            agree(parallel, "cpu", spins, couplings, None, 0.0, steps=1, seed=0)[0, 0], -spins[0, 0]
        )
        couplings[0, 0] = 0


def test_float_fields_kept_over_many_flips_still_know_their_ties():
    # Nine spins that never rest at T = 0 and tie often: the kept fields drift by an ε a flip, 10⁶ of them
    # pass the width of a tie many times over, and one tie missed changes all that follows. The integers say
    # what is right.
    couplings, spins = integers(9, seed=5).fill_diagonal_(-4), signs(4, 9)
    exact = sequential(spins, couplings, None, 0.0, updates=10**6, seed=6)
    assert not torch.equal(exact, sequential(spins, couplings, None, 0.0, updates=10**6 - 50, seed=6))
    assert torch.equal(sequential(spins, couplings.double() / 10, None, 0.0, updates=10**6, seed=6), exact)


def test_overlaps_beyond_int16_and_sums_beyond_float32_stay_exact():
    n = 2**15 + 9
    spins, patterns = signs(1, n), signs(2, n, seed=1)
    spins[:] = patterns[0]
    kw = {"updates": 60, "seed": 0}
    expected = sequential_patterns.reference(spins, patterns, 0.4, **kw)
    assert torch.equal(sequential_patterns(spins, patterns, 0.4, backend="numba", **kw), expected)
    # Every overlap is N: Σ_μ ξ M = K N = 4097², odd and above 2²⁴, so float32 would miss it by one and break
    # this tie.
    ones = torch.ones(4097, 4097, dtype=torch.int8)
    field = torch.full((4097,), -(4097**2))
    run = partial(parallel_patterns, ones[:1], ones, 0.0, steps=1, seed=0, diagonal=True, backend="numba")
    assert torch.equal(run(field=field), ones[:1])
    assert torch.equal(run(field=field - 1), -ones[:1])


def test_the_triton_versions_pass_these_tests_under_the_interpreter(interpreted):
    interpreted("backends_agree")


def test_the_triton_kernels_compile_ahead_of_time_for_hopper(compiled):
    code = """
from physgen.kernels import glauber, philox

integers = ("half", "seed", "first_step", "step", "updates", "n", "k", "removed", "replicas", "depth")
types = dict.fromkeys(integers, "i32") | dict.fromkeys(("seed", "first_step", "step"), "i64")
types |= dict.fromkeys(("spins", "xi", "left", "right"), "*i8") | {"overlaps": "*i32", "floats": "*fp64"}
types |= {"tie": "*fp64"} | dict.fromkeys(("counters", "words", "out", "table"), "*i64")
blocks = {"BLOCK_R": 32, "BLOCK_N": 64, "BLOCK_D": 64}
cases = [(philox.triton_fill, {}, {"BLOCK": 256})]
cases += [(glauber.triton_sequential_patterns, {"field": "*i64"}, {"BLOCK_N": 1024, "BLOCK_K": 128})]
cases += [(glauber.triton_products, {}, blocks | {"LEFT": a, "RIGHT": b}) for a, b in ((1, 1), (2, 1), (1, 3))]
for kind, wide, exact in (("*i32", "*i64", True), ("*i64", "*i64", True), ("*fp64", "*fp64", False)):
    dense = {"couplings": kind, "products": wide, "field": wide}
    cases.append((glauber.triton_sequential, dense, {"EXACT": exact, "BLOCK": 1024}))
    cases.append((glauber.triton_decide_all, dense, {"EXACT": exact, "QUADS": 128}))
# Triton makes a constant of each integer argument that is 1: every kernel has to compile so too.
for ones in ({}, dict.fromkeys(integers, 1)):
    for later, own, constants in cases:
        function = later.ready()
        constants = constants | {name: 1 for name in ones if name in function.arg_names}
        known = types | own | dict.fromkeys(constants, "constexpr")
        signature = {name: known[name] for name in function.arg_names}
        build(function, signature, constants)
"""
    assert compiled(code) == 2 * (1 + 1 + 3 + 6)


def test_rows_too_long_for_a_gpu_program_and_no_replicas_are_left_to_torch():
    when = {
        name: made._fast["triton"][2]
        for name, made in vars(glauber).items()
        if hasattr(made, "_fast") and name[0] != "_"
    }
    long, empty, one = (torch.ones(r, n, dtype=torch.int8) for r, n in ((1, 2**14 + 1), (0, 4), (1, 4)))
    for name in ("sequential", "sequential_patterns"):
        assert (
            when[name](spins=long, patterns=long) == "N or K = 16385 exceeds the 16384 that one program holds"
        )
    for name in ("sequential", "sequential_patterns", "parallel", "parallel_patterns"):
        assert when[name](spins=empty, patterns=one) == "there are no replicas"
        assert when[name](spins=one, patterns=one) is True


# ---------------------------------------------------------------------------------------------------- the law


def test_thresholds_are_the_floor_of_glaubers_probability():
    getcontext().prec = 60
    for temperature, phi in itertools.product(
        (0.1, 0.7, 3.0), (-2.0, -0.31, -1e-9, 0.0, 1e-9, 0.2, 1.0, 1.7)
    ):
        exact = 2**32 / (1 + (-2 * Decimal(phi) / Decimal(temperature)).exp())
        if exact > 2**32 - Decimal("0.5"):
            exact = Decimal(2**32)
        found = thresholds(torch.tensor([phi], dtype=torch.float64), temperature).item()
        # g has a relative error of a few 2⁻⁵², θ of a few 2⁻²⁰: more than that from an integer, the floor is
        # exact.
        if abs(exact - round(exact)) > 1e-4 or exact in (0, 2**31, 2**32):
            assert found == math.floor(exact), (temperature, phi)
        else:
            assert abs(found - exact) <= 1


def test_thresholds_are_certain_far_out_and_keep_ties_at_zero_temperature():
    far = torch.tensor([-1e308, -40.0, 0.0, 40.0, 1e308], dtype=torch.float64)
    assert thresholds(far, 1.0).tolist() == [0, 0, 2**31, 2**32, 2**32]
    assert thresholds(far, 0.0).tolist() == [0, 0, -1, 2**32, 2**32]
    assert thresholds(far, 1e-300).tolist() == [0, 0, 2**31, 2**32, 2**32]
    assert thresholds(far[1:4], math.inf).tolist() == [2**31] * 3
    edge = 33 * math.log(2) / 2
    around = torch.tensor([edge - 1e-6, edge + 1e-6], dtype=torch.float64)
    assert thresholds(around, 1.0).tolist() == [2**32 - 1, 2**32]
    assert thresholds(-around, 1.0).tolist() == [0, 0]


def test_the_table_beyond_its_end_is_what_the_formula_says():
    for temperature, scale in ((0.3, 10.0), (0.0, 7.0), (1e-3, 1.0), (2.0, 0.01)):
        law = glauber._table_law(10**6, temperature, scale, torch.device("cpu"))
        h = torch.arange(-3 * law.half - 3, 3 * law.half + 4)
        assert torch.equal(law(h, None), thresholds(h.double() / scale, temperature))
        assert law.half < 10**6 and len(law.table) == 2 * law.half + 1


def states(n):
    """(2^N, N) int8: all states; state c has spin i up iff bit i of c is set."""
    return torch.tensor([[1 if c >> i & 1 else -1 for i in range(n)] for c in range(2**n)], dtype=torch.int8)


def codes(spins):
    return ((spins > 0).long() << torch.arange(spins.shape[1])).sum(1)


def up_probability(couplings, field, temperature, spins):
    """g(φ_i/T) of each site, from sums over j alone."""
    phi = torch.stack(
        [sum(couplings[i, j] * spins[:, j].double() for j in range(len(field))) for i in range(len(field))], 1
    )
    return torch.special.expit(2 * (phi + field) / temperature)


def sequential_matrix(couplings, field, temperature):
    n, all_states = len(field), states(len(field))
    up, matrix = (
        up_probability(couplings, field, temperature, all_states),
        torch.zeros(2**n, 2**n, dtype=torch.float64),
    )
    for c, i in itertools.product(range(2**n), range(n)):
        matrix[c, c | 1 << i] += up[c, i] / n
        matrix[c, c & ~(1 << i)] += (1 - up[c, i]) / n
    return matrix


def parallel_matrix(couplings, field, temperature):
    all_states = states(len(field))
    up = up_probability(couplings, field, temperature, all_states)
    return torch.where(all_states[None] > 0, up[:, None], 1 - up[:, None]).prod(2)


def within_five_sigma(counts, probability):
    """Counts of independent draws: each of at most 16 cells within five binomial deviations (p < 1e-5)."""
    total = counts.sum()
    sigma = (total * probability * (1 - probability)).sqrt()
    assert bool((counts[probability == 0] == 0).all())
    assert bool(((counts - total * probability).abs() <= 5 * sigma + 1e-9).all()), (
        counts,
        total * probability,
    )


COUPLINGS = torch.tensor(
    [[0.4, 0.7, -0.3], [-0.5, -0.9, 0.8], [0.6, 0.2, 0.1]], dtype=torch.float64
)  # no symmetry
FIELD = torch.tensor([0.2, -0.1, 0.3], dtype=torch.float64)


@pytest.mark.parametrize(
    ("made", "matrix", "count"),
    [(sequential, sequential_matrix, "updates"), (parallel, parallel_matrix, "steps")],
)
def test_one_step_from_each_state_follows_the_transition_matrix(made, matrix, count):
    law = matrix(COUPLINGS / 2, FIELD / 2, 0.8)
    assert torch.allclose(law.sum(1), torch.ones(8, dtype=torch.float64), atol=1e-14)
    for c, state in enumerate(states(3)):
        found = made(state.expand(20000, 3), COUPLINGS, FIELD, 0.8, seed=c, scale=2.0, **{count: 1})
        within_five_sigma(torch.bincount(codes(found), minlength=8).double(), law[c])


@pytest.mark.parametrize(
    ("made", "matrix", "count"),
    [(sequential, sequential_matrix, "updates"), (parallel, parallel_matrix, "steps")],
)
def test_many_steps_follow_the_power_of_the_transition_matrix(made, matrix, count):
    law = torch.linalg.matrix_power(matrix(COUPLINGS, FIELD, 1.1), 7)[5]
    found = made(states(3)[5].expand(20000, 3), COUPLINGS, FIELD, 1.1, seed=1, **{count: 7})
    within_five_sigma(torch.bincount(codes(found), minlength=8).double(), law)


def test_sequential_updates_of_symmetric_couplings_end_in_the_gibbs_law_and_parallel_ones_in_perettos():
    patterns, n, temperature = signs(2, 4, seed=8), 4, 0.9
    couplings, field = hebb(patterns), torch.tensor([1, 0, -1, 2])
    start, all_states = signs(20000, n), states(n).double()
    fields = all_states @ couplings.double() + field
    gibbs = torch.softmax(
        ((all_states @ couplings.double() * all_states).sum(1) / 2 + all_states @ field.double())
        / n
        / temperature,
        0,
    )
    peretto = (all_states @ field.double() / n / temperature).exp() * torch.cosh(
        fields / n / temperature
    ).prod(1)
    kw = {"scale": float(n), "seed": 9}
    # The slowest mode of either matrix decays faster than e^{−t/20} in updates (e^{−t/5} in steps): 400 and
    # 100 leave nothing.
    found = sequential(start, couplings, field, temperature, updates=400, **kw)
    within_five_sigma(torch.bincount(codes(found), minlength=16).double(), gibbs)
    found = parallel(start, couplings, field, temperature, steps=100, **kw)
    within_five_sigma(torch.bincount(codes(found), minlength=16).double(), peretto / peretto.sum())


def test_each_step_takes_its_site_and_its_coin_from_the_documented_words():
    n, seed, first = 6, 77, 2**32 - 2
    spins, couplings = signs(3, n), integers(n)
    expected = spins.clone()
    for t, r in itertools.product(range(first, first + 9), range(3)):
        word = philox(seed, t % 2**32, t >> 32, r, 0).tolist()
        i = word[0] * n >> 32
        phi = float(couplings[i].double() @ expected[r].double())
        expected[r, i] = 1 if word[1] < math.floor(2**32 / (1 + math.exp(-2 * phi / 3.0))) else -1
    assert torch.equal(
        sequential(spins, couplings, None, 3.0, updates=9, seed=seed, first_step=first), expected
    )
    fields, once = spins.long() @ couplings.T, torch.empty_like(spins)
    for r, i in itertools.product(range(3), range(n)):
        word = philox(seed, 5, 0, r, 1 + i // 4).tolist()[i % 4]
        once[r, i] = 1 if word < math.floor(2**32 / (1 + math.exp(-2 * int(fields[r, i]) / 3.0))) else -1
    assert torch.equal(parallel(spins, couplings, None, 3.0, steps=1, seed=seed, first_step=5), once)


# -------------------------------------------------------------------------------------- ties, cycles, streams


def test_a_tie_at_zero_temperature_keeps_the_spin_and_the_removed_diagonal_flips_it():
    patterns = torch.ones(1, 8, dtype=torch.int8)
    tied = torch.tensor([[1, -1] * 4], dtype=torch.int8)  # overlap zero
    kw = {"steps": 1, "seed": 0}
    assert torch.equal(agree(parallel_patterns, "cpu", tied, patterns, 0.0, diagonal=True, **kw), tied)
    assert torch.equal(
        agree(parallel_patterns, "cpu", tied, patterns, 0.0, **kw), -tied
    )  # φ_i = −s_i / N: claim HEB-13
    zero = torch.zeros(8, 8, dtype=torch.int64)
    assert torch.equal(agree(sequential, "cpu", tied, zero, None, 0.0, updates=50, seed=0), tied)


def test_the_self_coupling_is_part_of_the_field():
    lone = torch.ones(2, 1, dtype=torch.int8)
    negative = torch.full((1, 1), -1)
    for count in range(4):  # N = 1, J = −1 cycles: claim HEB-10
        expected = lone * (-1) ** count
        assert torch.equal(sequential(lone, negative, None, 0.0, updates=count, seed=0), expected)
        assert torch.equal(parallel(lone, negative, None, 0.0, steps=count, seed=0), expected)


@pytest.mark.parametrize("backend", ["torch", "numba"])
def test_a_run_in_two_parts_is_the_run_in_one(backend):
    spins, patterns = signs(4, 21), signs(3, 21, seed=1)
    couplings, field = hebb(patterns), field_or_none(21, True)
    runs = (
        ("updates", partial(sequential, couplings=couplings, field=field, temperature=0.6, scale=21.0)),
        (
            "updates",
            partial(
                sequential, couplings=couplings / 21.0 * torch.ones(1).double(), field=None, temperature=0.6
            ),
        ),
        ("updates", partial(sequential_patterns, patterns=patterns, temperature=0.6, field=field)),
        ("steps", partial(parallel, couplings=couplings, field=field, temperature=0.6, scale=21.0)),
        ("steps", partial(parallel_patterns, patterns=patterns, temperature=0.6, field=field)),
    )
    for name, run in runs:
        whole = run(spins, seed=1, backend=backend, **{name: 90})
        for cut in (1, 40, 89):
            part = run(spins, seed=1, backend=backend, **{name: cut})
            rest = run(part, seed=1, backend=backend, first_step=cut, **{name: 90 - cut})
            assert torch.equal(rest, whole)
        assert not torch.equal(run(spins, seed=2, backend=backend, **{name: 90}), whole)


@pytest.mark.parametrize("backend", ["torch", "numba"])
def test_a_replica_does_not_depend_on_how_many_others_run(backend):
    patterns = signs(3, 21, seed=1)
    start = signs(1, 21).expand(9, 21)
    for run in (
        lambda spins: sequential_patterns(spins, patterns, 0.9, updates=60, seed=1, backend=backend),
        lambda spins: parallel_patterns(spins, patterns, 0.9, steps=6, seed=1, backend=backend),
        lambda spins: sequential(
            spins, hebb(patterns), None, 0.9, updates=60, seed=1, scale=21.0, backend=backend
        ),
        lambda spins: parallel(
            spins, hebb(patterns), None, 0.9, steps=6, seed=1, scale=21.0, backend=backend
        ),
    ):
        many = run(start)
        assert torch.equal(run(start[:4]), many[:4])
        assert len(torch.unique(many, dim=0)) > 5  # the same start, different coins


def test_results_do_not_depend_on_the_number_of_threads(monkeypatch):
    patterns, spins = signs(10, 200, seed=1), signs(8, 200)
    couplings, found = hebb(patterns), []
    ranges = []
    original = glauber.over_rows
    monkeypatch.setattr(
        glauber,
        "over_rows",
        lambda f, rows, work: original(lambda a, b: (ranges.append((a, b)), f(a, b)), rows, 1e9),
    )
    for threads in (1, 2, 3):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        found.append(
            [
                sequential_patterns(spins, patterns, 0.7, updates=2000, seed=1),
                sequential(spins, couplings, None, 0.7, updates=2000, seed=1, scale=200.0),
                sequential(spins, couplings, None, 0.7, updates=100, seed=1, scale=200.0),
                parallel(spins, couplings, None, 0.7, steps=5, seed=1, scale=200.0),
                parallel_patterns(spins, patterns, 0.7, steps=5, seed=1),
            ]
        )
    assert (0, 8) in ranges and (4, 8) in ranges and (2, 5) in ranges
    for others in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], others, strict=True))


@pytest.mark.parametrize("backend", ["torch", "numba"])
def test_inputs_stay_as_they_are_and_nothing_to_do_gives_a_copy(backend):
    spins, patterns = signs(3, 10), signs(2, 10, seed=1)
    couplings, before = hebb(patterns), spins.clone()
    for updates in (0, 200):
        for found in (
            sequential(spins, couplings, None, 1.0, updates=updates, seed=0, scale=10.0, backend=backend),
            sequential_patterns(spins, patterns, 1.0, updates=updates, seed=0, backend=backend),
            parallel(spins, couplings, None, 1.0, steps=updates, seed=0, scale=10.0, backend=backend),
            parallel_patterns(spins, patterns, 1.0, steps=updates, seed=0, backend=backend),
        ):
            assert torch.equal(spins, before) and found.data_ptr() != spins.data_ptr()
            assert torch.equal(found, before) == (updates == 0)
    none = spins[:0]
    assert sequential(none, couplings, None, 1.0, updates=5, seed=0, backend=backend).shape == (0, 10)
    assert parallel_patterns(none, patterns, 1.0, steps=5, seed=0, backend=backend).shape == (0, 10)
    strided = signs(10, 3, seed=4).T
    expected = sequential(strided.contiguous(), couplings, None, 1.0, updates=50, seed=0, backend=backend)
    assert torch.equal(
        sequential(strided, couplings.T, None, 1.0, updates=50, seed=0, backend=backend), expected
    )


# -------------------------------------------------------------------------------------------------- bad input

GOOD = {"spins": signs(2, 4), "field": None, "temperature": 1.0, "seed": 0, "first_step": 0}
DENSE = {"couplings": torch.zeros(4, 4, dtype=torch.float64), "scale": 1.0}
WHOLE = torch.zeros(4, 4, dtype=torch.int64)
NAN, INF = math.nan, math.inf
BAD = {
    "spins": [
        [[1, 1, 1, 1]],
        torch.ones(2, 4),
        torch.ones(4, dtype=torch.int8),
        torch.zeros(2, 4, dtype=torch.int8),
        torch.full((2, 4), 3, dtype=torch.int8),
        torch.full((2, 4), -128, dtype=torch.int8),
        torch.ones(2, 0, dtype=torch.int8),
        torch.ones(2, 5, dtype=torch.int8),
        torch.ones(1, 2, 4, dtype=torch.int8),
    ],
    "temperature": [-1.0, NAN, "1", None, torch.ones(2), torch.tensor(-1.0)],
    "seed": [-1, 2**64, 0.5, None],
    "first_step": [-1, 0.5, 2**62, True],
}
BAD_DENSE = {
    "couplings": [
        [[0.0]],
        torch.zeros(4, 3).double(),
        torch.zeros(4, 4),
        torch.zeros(4, 4, dtype=torch.int8),
        WHOLE.bool(),
        torch.full((4, 4), NAN).double(),
        torch.full((4, 4), INF).double(),
        torch.full((4, 4), 1.7e308, dtype=torch.float64),
        torch.full((4, 4), 2**52),
        torch.full((4, 4), -(2**63)),
        torch.zeros(4, 4, device="meta").double(),
        torch.zeros(16).double(),
    ],
    "field": [
        0.0,
        torch.zeros(3).double(),
        torch.zeros(4),
        torch.full((4,), NAN).double(),
        torch.zeros(4, dtype=torch.int64),
    ],
    "scale": [0.0, -1.0, NAN, INF, "1", None],
}
BAD_PATTERNS = {
    "patterns": [
        signs(3, 5),
        signs(4),
        signs(0, 4),
        torch.ones(3, 4),
        torch.zeros(3, 4, dtype=torch.int8),
        None,
        torch.ones(3, 4, dtype=torch.int8, device="meta"),
    ],
    "field": [
        0.0,
        torch.zeros(4),
        torch.zeros(3, dtype=torch.int64),
        torch.zeros(4).double(),
        torch.tensor([2**61] * 4),
    ],
    "diagonal": [1, None],
}


@pytest.mark.parametrize(("made", "count"), [(sequential, "updates"), (parallel, "steps")])
def test_bad_input_to_dense_dynamics_is_refused_by_name(made, count):
    good = GOOD | DENSE | {count: 1}
    assert made(**good).shape == (2, 4)
    for name, values in (BAD | BAD_DENSE | {count: [-1, 0.5, None, True]}).items():
        for value in values:
            blamed = "couplings" if name == "spins" and getattr(value, "shape", None) == (2, 5) else name
            with pytest.raises(ValueError, match=f"^{blamed}: got .* expected"):
                made(**good | {name: value})
    for field in (torch.zeros(4).double(), torch.full((4,), 0.5)):
        with pytest.raises(ValueError, match=r"^field: got .* expected torch.int32 or torch.int64"):
            made(**good | {"couplings": WHOLE, "field": field})
    assert made(**good | {"temperature": torch.tensor(0.5), "scale": 2}).shape == (2, 4)


@pytest.mark.parametrize(("made", "count"), [(sequential_patterns, "updates"), (parallel_patterns, "steps")])
def test_bad_input_to_dynamics_of_patterns_is_refused_by_name(made, count):
    good = GOOD | {"patterns": signs(3, 4), "diagonal": False, count: 1}
    assert made(**good).shape == (2, 4)
    for name, values in (BAD | BAD_PATTERNS | {count: [-1, 0.5, None, True]}).items():
        for value in values:
            blamed = "patterns" if name == "spins" and getattr(value, "shape", None) == (2, 5) else name
            with pytest.raises(ValueError, match=f"^{blamed}: got .* expected"):
                made(**good | {name: value})


def test_integer_fields_too_many_for_a_table_and_bad_fields_for_thresholds_are_refused():
    wide = torch.full((4, 4), 2**40)
    assert sequential(GOOD["spins"], wide, None, 0.0, updates=3, seed=0).shape == (2, 4)
    for made, count in ((sequential, "updates"), (parallel, "steps")):
        with pytest.raises(ValueError, match=r"temperature: got .* need a table of more than"):
            made(GOOD["spins"], wide, None, 1e9, seed=0, **{count: 1})
    for phi in (torch.zeros(2), torch.tensor([NAN]).double()):
        with pytest.raises(ValueError, match="phi: got"):
            thresholds(phi, 1.0)
    with pytest.raises(ValueError, match="temperature: got"):
        thresholds(torch.zeros(2).double(), -1.0)
