"""Every version of the φ⁴ dynamics follows its definition, and the averages are those of the exact integrals."""

import itertools
import math
import os
from functools import partial

import pytest
import torch

from physgen.kernels.lattice.phi4 import action, force, hamiltonian, hmc, langevin, leapfrog, noise
from physgen.kernels.philox import normal, philox

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
CUDA = [pytest.param("cuda", marks=pytest.mark.cuda)] if torch.cuda.is_available() else []
DEVICES = ["cpu", *CUDA]
# Widths of 2, rows that begin inside a four of sites, more than one row and less than one row to a tile of 1024
# normals, more than one program of 256 sites; the interpreter, 0.1 ms an operation, gets few.
SHAPES = [(1, 2, 2), (3, 2, 3), (2, 5, 4), (33, 2, 31), (1, 3, 32), (2, 7, 513), (1, 3, 1030)]
SHAPES = SHAPES[:2] if INTERPRETED else SHAPES
LAWS = [(0.68, -2.36, 1.0), (0.0, 0.7, 0.0), (0.9, 0.3, 0.25)][: 1 if INTERPRETED else 3]
DTYPES = [torch.float32, torch.float64]
EPSILON = {torch.float32: 2.0**-24, torch.float64: 2.0**-53}


def fields(*shape, seed=0, dtype=torch.float64, device="cpu"):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype).to(device)


def versions(device, dtype=torch.float64, random=False):
    """The versions that a call may take: the fast ones that draw normals take float32 alone."""
    fast = "triton" if INTERPRETED or device == "cuda" else "numba"
    fast = [] if random and dtype == torch.float64 else [fast]
    return fast if INTERPRETED else ["torch", *fast]


def largest_term(x, law):
    """A bound for the terms of the force, and for the sum of their sizes divided by 3."""
    beta, quadratic, quartic = law
    top = float(x.abs().max())
    return top * (8 * beta + 2 * abs(quadratic) + 4 * quartic * top**2)


def off(found, expected):
    return float((found.cpu().double() - expected.cpu().double()).abs().max()) if expected.numel() else 0.0


# ------------------------------------------------------------------------------------------------- all versions


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_backends_agree_on_the_force_to_rounding(dtype, device):
    for shape, law in itertools.product(SHAPES, LAWS):
        x = fields(*shape, dtype=dtype, device=device)
        expected = force.reference(x.double(), *law)
        for backend in versions(device):
            found = force(x, *law, backend=backend)
            assert found.dtype == dtype and found.device.type == device and found.shape == x.shape
            # Ten roundings, each of at most ½ ulp of a partial sum, which the sizes of all terms bound.
            assert off(found, expected) <= 10 * EPSILON[dtype] * largest_term(x, law), (shape, law, backend)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_backends_agree_on_leapfrog_to_rounding(dtype, device):
    for shape, law, steps in itertools.product(SHAPES, LAWS, (0, 1, 2) if INTERPRETED else (0, 1, 2, 7)):
        x, p = (fields(*shape, dtype=dtype, device=device, seed=s) for s in (1, 2))
        expected = leapfrog.reference(x.double(), p.double(), *law, 0.03, steps)
        for backend in versions(device):
            found = leapfrog(x, p, *law, 0.03, steps, backend=backend)
            # A step of ε rounds φ and π, and adds ε times the error of a force; the time ε · steps is short,
            # and the largest stiffness 12 φ² ≈ 200 spreads an error at most tenfold in it.
            bound = 10 * EPSILON[dtype] * steps * (8 + 0.03 * 10 * largest_term(x, law))
            for a, b in zip(found, expected, strict=True):
                assert a.dtype == dtype and a.device.type == device
                assert off(a, b) <= bound, (shape, law, steps, backend)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_backends_agree_on_the_normal_numbers_of_all_sites(dtype, device):
    for shape, (seed, step) in itertools.product(
        SHAPES, ((3, 0), (2**64 - 1, 2**31 + 5), (2**63 + 1, 2**32 + 1))
    ):
        x = fields(*shape, dtype=dtype, device=device)
        sites = x[0].numel()
        lattices, streams = torch.arange(shape[0])[:, None], 1 + torch.arange(sites) // 4
        z = normal(philox(seed, step % 2**32, step // 2**32, lattices, streams))  # (4, B, sites): word, site
        expected = z[torch.arange(sites) % 4, :, torch.arange(sites)].T.reshape(shape)
        for backend in versions(device, dtype, random=True):
            found = noise(x, seed, step, backend=backend)
            assert found.dtype == dtype and found.shape == x.shape
            error = (found.cpu().double() - expected).abs() / (1 + expected.abs())
            assert float(error.max()) <= (1e-6 if dtype == torch.float32 else 0), (shape, seed, step, backend)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_backends_agree_on_langevin_to_rounding(dtype, device):
    first = 2**32 - 1  # the steps pass the first word of the counter
    for shape, law, steps in itertools.product(SHAPES, LAWS, (0, 2) if INTERPRETED else (0, 1, 2, 5)):
        x = fields(*shape, dtype=dtype, device=device)
        expected = langevin.reference(x.double(), *law, 0.01, steps, 2**63 + 3, first)
        for backend in versions(device, dtype, random=True):
            found = langevin(x, *law, 0.01, steps, 2**63 + 3, first, backend=backend)
            assert found.dtype == dtype and found.device.type == device
            # A step rounds φ, adds ε times the error of a force and √(2ε) (here 0.14) that of a normal number
            # |z| < 6.8, 10⁻⁶ (1 + |z|) in float32; the force draws errors together.
            normals = 0.15 * 8 * (1e-6 if dtype == torch.float32 else 0)
            bound = steps * (normals + EPSILON[dtype] * (8 + 0.01 * 10 * largest_term(x, law)))
            assert off(found, expected) <= bound, (shape, law, steps, backend)


@pytest.mark.parametrize("device", DEVICES)
def test_backends_agree_on_hmc_and_its_decisions(device):
    law, shape = LAWS[0], SHAPES[1]
    x = fields(*shape, device=device)
    count = 2 if INTERPRETED else 6
    expected, rate = hmc(x.double(), *law, 0.25, 3, count, 5, backend="torch")
    for backend in versions(device, torch.float32, random=True):
        found, share = hmc(x.float(), *law, 0.25, 3, count, 5, backend=backend)
        # The decisions are those of float64; rounding, 10⁻⁶ a trajectory, grows a few times over in each.
        assert found.dtype == torch.float32 and torch.equal(share, rate), backend
        assert off(found, expected) <= 1e-6 * 10**2 * count
    if not INTERPRETED:
        found, share = hmc(x, *law, 0.25, 3, count, 5)
        assert found.dtype == torch.float64 and torch.equal(share, rate) and off(found, expected) < 1e-9


@pytest.mark.parametrize("device", DEVICES)
def test_backends_agree_on_no_lattices_and_on_strided_fields(device):
    law, empty = LAWS[0], torch.empty(0, 3, 4, device=device)
    assert force(empty, *law).shape == langevin(empty, *law, 0.1, 2, 0).shape == (0, 3, 4)
    assert [part.shape for part in leapfrog(empty, empty, *law, 0.1, 2)] == [(0, 3, 4)] * 2
    assert [part.shape for part in hmc(empty, *law, 0.1, 2, 2, 0)] == [(0, 3, 4), (0,)]
    wide = fields(4, 3, 2, dtype=torch.float32, device=device)
    strided, plain = wide.permute(2, 1, 0), wide.permute(2, 1, 0).contiguous()
    for backend in versions(device):
        same = partial(torch.allclose, atol=1e-5)
        assert same(force(strided, *law, backend=backend), force(plain, *law, backend="torch"))
        run = partial(langevin, beta=0.68, quadratic=-2.36, quartic=1.0, step=0.01, steps=2, seed=1)
        assert same(run(strided, backend=backend), run(plain, backend="torch"))
        moved = leapfrog(strided, strided, *law, 0.01, 2, backend=backend)
        assert all(map(same, moved, leapfrog(plain, plain, *law, 0.01, 2, backend="torch")))


def test_the_energy_of_the_fast_version_is_the_definition():
    for shape, law, dtype in itertools.product(SHAPES, LAWS, DTYPES):
        x, p = (fields(*shape, dtype=dtype, seed=s) for s in (1, 2))
        found, expected = hamiltonian(x, p, *law, backend="numba"), hamiltonian.reference(x, p, *law)
        assert found.dtype == expected.dtype == torch.float64
        # Sums of up to 4 · 10³ positive and negative numbers, whose sizes sum up to 10⁵ at most: float64 either way.
        assert off(found, expected) < 1e-9
        assert torch.allclose(expected, action(x, *law) + p.double().square().sum((1, 2)) / 2, rtol=1e-13)
    x, p = torch.full((2, 2, 2), 1e30), torch.zeros(2, 2, 2)
    x[1] = torch.nan
    found = hamiltonian(x, p, *LAWS[0], backend="numba")
    assert float(found[0]) > 1e119 and bool(found[1].isnan())


def test_double_precision_draws_are_left_to_torch():
    x = fields(1, 2, 2)
    for made, args in ((langevin, (*LAWS[0], 0.1, 1, 0)), (noise, (0, 0))):
        assert torch.equal(made(x, *args), made.reference(x, *args))
        with pytest.raises(ValueError, match=r"backend='numba' cannot run .* phi is torch.float64"):
            made(x, *args, backend="numba")
        assert list(made._fast) == ["numba", "triton"]


def test_many_threads_give_what_one_gives(monkeypatch):
    x, p, law = *(fields(7, 64, 65, dtype=torch.float32, seed=s) for s in (1, 2)), LAWS[0]
    run = partial(langevin, x, *law, 0.01, 100, 1), partial(leapfrog, x, p, *law, 0.01, 200)
    alone = [run[0](), *run[1]()]
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    assert all(map(torch.equal, [run[0](), *run[1]()], alone))


def test_a_run_in_two_parts_is_the_run_in_one():
    for dtype in DTYPES:
        x, law = fields(3, 4, 5, dtype=dtype), LAWS[0]
        middle = langevin(x, *law, 0.02, 3, 9, 4)
        assert torch.equal(langevin(middle, *law, 0.02, 4, 9, 7), langevin(x, *law, 0.02, 7, 9, 4))
        first, rate = hmc(x, *law, 0.2, 4, 2, 9, 4)
        second, later = hmc(first, *law, 0.2, 4, 3, 9, 6)
        whole, mean = hmc(x, *law, 0.2, 4, 5, 9, 4)
        assert torch.equal(second, whole) and torch.allclose((2 * rate + 3 * later) / 5, mean, rtol=1e-15)
        assert not torch.equal(hmc(first, *law, 0.2, 4, 3, 9, 7)[0], second)


def test_a_lattice_does_not_depend_on_those_after_it():
    x, law = fields(5, 4, 5, dtype=torch.float32), LAWS[0]
    assert torch.equal(langevin(x, *law, 0.02, 3, 9)[:2], langevin(x[:2], *law, 0.02, 3, 9))
    assert torch.equal(hmc(x, *law, 0.2, 4, 2, 9)[0][:2], hmc(x[:2], *law, 0.2, 4, 2, 9)[0])
    # Without random numbers it depends on no other lattice, and small ones move side by side.
    x = fields(70, 4, 5, dtype=torch.float32)
    whole, part = leapfrog(x, x, *law, 0.1, 5), leapfrog(x[29:66], x[29:66], *law, 0.1, 5)
    assert all(torch.equal(a[29:66], b) for a, b in zip(whole, part, strict=True))


def test_the_arguments_stay_as_they_are():
    for dtype in DTYPES:
        x, p, law = fields(2, 4, 4, dtype=dtype), fields(2, 4, 4, dtype=dtype, seed=1), LAWS[0]
        kept = x.clone(), p.clone()
        (
            langevin(x, *law, 0.01, 2, 0),
            leapfrog(x, p, *law, 0.1, 2),
            hmc(x, *law, 0.1, 2, 2, 0),
            force(x, *law),
        )
        for same in (langevin(x, *law, 0.01, 0, 0), *leapfrog(x, p, *law, 0.1, 0)):
            same.zero_()
        assert torch.equal(x, kept[0]) and torch.equal(p, kept[1])


def test_the_triton_versions_pass_these_tests_under_the_interpreter(interpreted):
    interpreted("backends_agree")


def test_the_triton_kernels_compile_ahead_of_time_for_hopper(compiled):
    code = """
from physgen.kernels.lattice import phi4

integers = {"seed": "i64", "low": "i64"} | dict.fromkeys(("high", "m", "n", "sites"), "i32")
# Triton makes a constant of each integer argument that is 1: the random kernels have to compile so too.
for later, kind, ones in (
    (phi4.triton_forces, "*fp64", ()), (phi4.triton_noises, "*fp32", ()),
    (phi4.triton_leapfrog, "*fp32", ()), (phi4.triton_leapfrog, "*fp64", ()),
    (phi4.triton_langevin, "*fp32", ()), (phi4.triton_langevin, "*fp32", ("seed", "low", "high")),
):
    function = later.ready()
    constants = {"BLOCK": 256, "QUADS": 64} | dict.fromkeys(ones, 1)
    constants = {name: value for name, value in constants.items() if name in function.arg_names}
    types = integers | dict.fromkeys(constants, "constexpr")
    signature = {name: types.get(name, kind) for name in function.arg_names}
    build(function, signature, constants)
"""
    assert compiled(code) == 6


# ------------------------------------------------------------------------------------------------------- the law


def test_the_action_is_the_sum_over_bonds_and_sites():
    for rows, columns in ((2, 2), (2, 3), (4, 5)):
        x, (beta, quadratic, quartic) = fields(1, rows, columns), LAWS[0]
        total = 0.0
        for i, j in itertools.product(range(rows), range(columns)):
            here = float(x[0, i, j])
            total += quartic * here**4 + quadratic * here**2
            for there in (x[0, (i + 1) % rows, j], x[0, i, (j + 1) % columns]):
                total += beta / 2 * (here - float(there)) ** 2
        assert math.isclose(float(action(x, *LAWS[0])), total, rel_tol=1e-12)
    assert action(fields(3, 2, 2, dtype=torch.float32), *LAWS[0]).dtype == torch.float64


def test_with_one_and_minus_one_minus_two_beta_the_action_is_that_of_products():
    x, beta = fields(2, 4, 3), 0.68
    products = beta * (x * x.roll(1, 1) + x * x.roll(1, 2)).sum((1, 2))
    assert torch.allclose(
        action(x, beta, -(1 + 2 * beta), 1.0), (x**4 - x**2).sum((1, 2)) - products, rtol=1e-12
    )


def test_the_force_is_minus_the_gradient_of_the_action():
    for shape, law in itertools.product([(2, 2, 2), (1, 2, 3), (2, 4, 5)], LAWS):
        x = fields(*shape).requires_grad_()
        (gradient,) = torch.autograd.grad(action(x, *law).sum(), x)
        for backend in versions("cpu"):
            assert torch.allclose(force(x, *law, backend=backend), -gradient, rtol=1e-12, atol=1e-12)
        assert not force(x, *law).requires_grad


def test_leapfrog_is_its_own_inverse_with_the_momenta_reversed():
    for dtype, bound in ((torch.float64, 1e-11), (torch.float32, 1e-3)):
        x, p = (fields(3, 6, 5, dtype=dtype, seed=s) for s in (1, 2))
        y, q = leapfrog(x, p, *LAWS[0], 0.05, 20)
        back, reverse = leapfrog(y, -q, *LAWS[0], 0.05, 20)
        # Forty steps of rounding, which the motion in a double well magnifies some hundred times; without
        # the rounding both vanish.
        assert off(y, x) > 0.1 and off(back, x) < bound and off(-reverse, p) < bound


def test_leapfrog_keeps_volume():
    x, p = fields(1, 2, 3), fields(1, 2, 3, seed=1)
    move = lambda z: torch.cat(leapfrog.definition(*z.split(1), *LAWS[0], 0.1, 5))  # noqa: E731
    jacobian = torch.autograd.functional.jacobian(move, torch.cat([x, p])).reshape(12, 12)
    assert abs(float(torch.linalg.det(jacobian)) - 1) < 1e-12


def test_the_energy_error_of_leapfrog_is_of_second_order():
    x, p = fields(50, 4, 4) * 0.7, fields(50, 4, 4, seed=1)
    start, errors = hamiltonian(x, p, *LAWS[0]), []
    for halvings in range(3):
        steps = 25 * 2**halvings
        errors.append(hamiltonian(*leapfrog(x, p, *LAWS[0], 1 / steps, steps), *LAWS[0]) - start)
    for coarse, fine in itertools.pairwise(errors):
        # Errors c ε² + O(ε⁴): four times smaller, the correction (largest frequency 6, ε = 1/25) below a tenth.
        ratio = float(coarse.square().mean().sqrt() / fine.square().mean().sqrt())
        assert abs(ratio - 4) < 0.4


def test_langevin_of_a_free_field_has_the_variances_of_eulers_rule():
    beta, quadratic, epsilon, shape = 0.5, 0.5, 0.15, (20_000, 6, 5)
    x = langevin(torch.zeros(shape), beta, quadratic, 0.0, epsilon, 50, seed=1)
    power = torch.fft.fft2(x.double(), norm="ortho").abs().square().mean(0)
    turns = [2 * math.pi * torch.arange(n, dtype=torch.float64) / n for n in shape[1:]]
    stiffness = 2 * quadratic + 2 * beta * (2 - turns[0].cos()[:, None] - turns[1].cos())
    # From zero the variance is 1/(λ(1 − ελ/2)) but for a factor 1 − (1 − ελ)¹⁰⁰, 10⁻⁷ from 1. |φ_k|² of real
    # modes has the relative variance 2, of complex ones 1; 30 modes: 4.5 standard errors. The mean over modes
    # is the mean of 30 · 20000 squares of normals.
    ratio = power * stiffness * (1 - epsilon * stiffness / 2)
    assert float((ratio - 1).abs().max()) < 4.5 * math.sqrt(2 / shape[0])
    assert abs(float(ratio.mean()) - 1) < 4 * math.sqrt(2 / (30 * shape[0]))
    # Without the factor 1 − ελ/2 the largest mode would be off by 30 %.
    assert float((power * stiffness).max()) > 1.25


def exact_on_two_by_two(law):
    """⟨φ²⟩ and ⟨M²⟩ on the 2 × 2 torus: the trapezium rule in four dimensions, with h = 0.25 exact to 10⁻⁸."""
    points = torch.arange(-3, 3.001, 0.25, dtype=torch.float64)
    x = torch.cartesian_prod(points, points, points, points).view(-1, 2, 2)
    weight = torch.softmax(-action(x, *law), 0)
    return [float(weight @ value) for value in (x.square().mean((1, 2)), x.mean((1, 2)).square())]


@pytest.mark.parametrize(
    "side, lattices, law, expected",
    [
        (2, 10_000, (0.5, -2.0, 1.0), None),
        (3, 10_000, (0.68, -2.36, 1.0), (0.87572525, 0.66782885)),
        (3, 10_000, (0.5, -2.0, 1.0), (0.64940565, 0.30630902)),
        (4, 20_000, (0.68, -2.36, 1.0), (0.863978, 0.616436)),
    ],
)
def test_hmc_has_the_exact_averages_on_small_tori(side, lattices, law, expected):
    # The mean field changes its sign slowly, but both averages are even: a start in one well is as good as one in
    # both. Thirty trajectories, of the time 1.6, forget it.
    x, sums, measured = torch.full((lattices, side, side), 0.85), 0, 70
    for t in range(30 + measured):
        x, _ = hmc(x, *law, 0.2, 8, 1, seed=2, first_step=t)
        if t >= 30:
            sums = sums + torch.stack([x.double().square().mean((1, 2)), x.double().mean((1, 2)).square()])
    # The lattices are independent: the spread of their time averages gives the standard error.
    means = sums / measured
    error = means.std(1) / math.sqrt(lattices)
    assert float(error[0]) < 5e-4 and float(error[1]) < 1e-3
    for found, exact, sigma in zip(means.mean(1), expected or exact_on_two_by_two(law), error, strict=True):
        assert abs(float(found) - exact) < 4 * float(sigma), (float(found), exact, float(sigma))


def test_hmc_accepts_with_the_probability_of_metropolis():
    law, lattices = LAWS[0], 4000
    x, _ = hmc(torch.full((lattices, 4, 4), 0.85), *law, 0.2, 8, 30, seed=3)
    p = noise(x, 4, 5)
    y, q = leapfrog(x, p, *law, 0.3, 5)
    change = hamiltonian(y, q, *law) - hamiltonian(x, p, *law)
    after, accepted = hmc(x, *law, 0.3, 5, 1, seed=4, first_step=5)
    word = philox(4, 5, 0, torch.arange(lattices), 0)[1]
    accept = (word + 0.5) / 2**32 < torch.exp(-change)
    assert torch.equal(accepted, accept.double()) and 0.3 < float(accepted.mean()) < 0.9
    assert torch.equal(after, torch.where(accept[:, None, None], y, x))
    # In equilibrium ⟨e^(−ΔH)⟩ = 1 (Creutz 1988), as volume is kept: a standard error from the spread.
    ratio = torch.exp(-change)
    assert abs(float(ratio.mean()) - 1) < 4 * float(ratio.std()) / math.sqrt(lattices)


def test_a_trajectory_that_overflows_is_rejected():
    x = fields(3, 4, 4, dtype=torch.float32)
    for backend in ("auto", "torch"):
        after, accepted = hmc(x, *LAWS[0], 5.0, 20, 2, seed=0, backend=backend)
        assert torch.equal(after, x) and float(accepted.sum()) == 0


# ----------------------------------------------------------------------------------------------------- bad input


def refused(match, function, *args, **kw):
    with pytest.raises(ValueError, match=match):
        function(*args, **kw)


def test_bad_fields_and_couplings_are_refused_by_name():
    x, rest = fields(2, 3, 4), {"beta": 0.5, "quadratic": 0.1, "quartic": 1.0}
    runs = {
        action: {},
        force: {},
        langevin: {"step": 0.1, "steps": 2, "seed": 0},
        hmc: {"step": 0.1, "steps": 2, "trajectories": 1, "seed": 0},
    }
    calls = [partial(made, **rest | more) for made, more in runs.items()]
    calls.append(lambda phi, **kw: leapfrog(phi, phi, **rest | {"step": 0.1, "steps": 2} | kw))
    for call in calls:
        call(x)
        refused(r"^phi: got ndarray; expected a float32 or float64 tensor", call, x.numpy())
        refused(r"^phi: got torch.int64; expected", call, x.long())
        refused(r"^phi: got torch.float16; expected", call, x.half())
        refused(r"^phi: got shape \(3, 4\); expected \(B, L1, L2\)", call, x[0])
        refused(r"^phi: got shape \(2, 1, 4\); expected .* >= 2", call, x[:, :1])
        refused(r"^phi: got shape \(2, 3, 0\); expected", call, x[:, :, :0])
        for value in (torch.nan, torch.inf, -torch.inf):
            bad = x.clone()
            bad[1, 2, 3] = value
            refused(r"^phi: got NaN or infinity; expected finite", call, bad)
        for name in ("beta", "quadratic", "quartic"):
            for value in (math.nan, math.inf, "1", None, True, torch.ones(1)):
                refused(rf"^{name}: got .* expected a finite number", call, x, **{name: value})
        refused(r"^beta: got -0.5; expected a number >= 0", call, x, beta=-0.5)
        refused(r"^quartic: got -1; expected a number >= 0", call, x, quartic=-1)
        refused(
            r"^quadratic: got -0.1; expected a number >= 0 where quartic is 0",
            call,
            x,
            quartic=0,
            quadratic=-0.1,
        )


def test_bad_steps_momenta_and_seeds_are_refused_by_name():
    x, law = fields(2, 3, 4), LAWS[0]
    good = {
        langevin: {"step": 0.1, "steps": 2, "seed": 0},
        leapfrog: {"momentum": x, "step": 0.1, "steps": 2},
        hmc: {"step": 0.1, "steps": 2, "trajectories": 1, "seed": 0},
    }
    couplings = dict(zip(("beta", "quadratic", "quartic"), law, strict=True))
    for made, more in good.items():
        call = partial(made, x, **couplings | more)
        for value in (0, -0.1, math.nan, math.inf, None, "0.1", True):
            refused(r"^step: got .* expected a finite number > 0", call, step=value)
        for name in {"steps", "trajectories", "first_step"} & {
            *more,
            *(["first_step"] if "seed" in more else []),
        }:
            for value in (-1, 1.5, True, None, 2**62):
                refused(rf"^{name}: got .* expected an integer in", call, **{name: value})
        if "seed" in more:
            for value in (-1, 2**64, 0.5, None):
                refused(r"^seed: got .* expected an integer in \[0, 2\*\*64\)", call, seed=value)
        refused(r"backend='cuda' cannot run", call, backend="cuda")
    for name in ("steps", "trajectories"):
        refused(
            rf"^{name}: got 0; expected an integer in \[1, ", partial(hmc, x, *law, **good[hmc] | {name: 0})
        )
    for bad, why in (
        (x[:1], r"torch.float64 \(1, 3, 4\)"),
        (x.float(), "torch.float32"),
        (x.to("meta"), ".* on meta"),
    ):
        refused(
            rf"^momentum: got {why}.*; expected torch.float64 \(2, 3, 4\) on cpu",
            leapfrog,
            x,
            bad,
            *law,
            0.1,
            2,
        )
    refused(r"^momentum: got NaN", leapfrog, x, x * math.nan, *law, 0.1, 2)


def test_finite_fields_whose_sum_overflows_are_taken():
    x = torch.full((1, 8, 8), 2.0**127)
    assert not bool(x.sum().isfinite())
    assert float(action(x, 0.0, 0.25, 0.0)) == 2.0**258
