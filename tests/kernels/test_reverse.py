"""Every version of the reverse process takes the same steps, and the steps lead from noise to the law of the
data."""

import itertools
import math
import os

import pytest
import torch

from physgen.kernels import reverse
from physgen.kernels.philox import normal, philox
from physgen.kernels.reverse import gaussian_mixture, spins_in_fields

DEVICES = ["cpu", *([pytest.param("cuda", marks=pytest.mark.cuda)] if torch.cuda.is_available() else [])]
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
# Ragged batches, below and above a tile of 1024 numbers; columns that fill a power of two, and that do not.
SHAPES = (
    [(3, 1), (5, 2), (2, 3)] if INTERPRETED else [(1, 1), (2050, 1), (1027, 2), (519, 3), (70, 5), (9, 33)]
)
UNIT = 2.0**-24  # the rounding error of float32


def noise(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def grid(*times):
    return torch.tensor(times, dtype=torch.float64)


def shares(count, seed=0):
    w = torch.rand(count, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return w / w.sum()


def mixture(rows, d, count, t, seed=0):
    """Points of a mixture at time t, float32, and its means and weights, one of them 0 if there are three."""
    means, w = 2 * noise(count, d, seed=seed + 1).float(), shares(count, seed)
    if count > 2:
        w[1] = 0
        w /= w.sum()
    chosen = torch.multinomial(w, rows, True, generator=torch.Generator().manual_seed(seed))
    x = math.exp(-t) * means[chosen] + math.sqrt(-math.expm1(-2 * t)) * noise(rows, d, seed=seed + 2)
    return x.float(), means, w


def versions(device):
    return ["triton"] if INTERPRETED else [{"cpu": "numba", "cuda": "triton"}[device]]


def fast(made, device, x, parameters, times, *args, **kw):
    """What the fast version gives, in float64 on the CPU."""
    kw = {name: value.to(device) if isinstance(value, torch.Tensor) else value for name, value in kw.items()}
    for backend in versions(device):
        found = made(x.to(device), parameters.to(device), times, *args, backend=backend, **kw)
        assert found.dtype == torch.float32 and found.device.type == device and found.shape == x.shape
        return found.cpu().double()


def tolerance(x, data, times, eta, variance=0.0, wobble=0.0):
    """What the rounding of float32 and the error of its normals make of one step, with |z| ≤ 6.8.

    The three terms A x, C E[a|x] and √(2ηδ) z have products, sums and coefficients rounded: eight units. The
    exponents, sums of d products of size (s/Γ)|m − c||x| and a constant, are `wobble` units off; the posterior
    mean moves by no more than its spread (at most twice the largest datum) for each unit of that, and not
    beyond the data.
    """
    (t, delta), *_ = reverse._steps(times)
    s, gamma = math.exp(-t), variance * math.exp(-2 * t) - math.expm1(-2 * t)
    kept, pull = abs(1 + delta - delta * (1 + eta) / gamma), delta * (1 + eta) * s / gamma
    size, largest = float(x.abs().max()), float(data.abs().max())
    terms = (1 + delta + kept) * size + 2 * pull * largest + 6.8 * math.sqrt(2 * eta * delta)
    return (
        8 * UNIT * terms
        + 1e-6 * 7.8 * math.sqrt(2 * eta * delta)
        + pull * 2 * largest * min(1, wobble * UNIT)
    )


def wobble(x, means, t, variance=0.0):
    """Units of rounding in the exponents of a mixture: d products, their sum, the constant."""
    slope = math.exp(-t) / (variance * math.exp(-2 * t) - math.expm1(-2 * t))
    return (x.shape[1] + 2) * slope * 2 * float(means.norm(dim=1).max()) * float(x.norm(dim=1).max())


# ------------------------------------------------------------------------------- all versions, step by step


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("count", [1, 2, 3, 8])
def test_backends_agree_on_a_step_of_a_mixture(count, device):
    settings = [(1.0, 1.0, 0.0), (0.05, 0.5, 0.3), (0.01, 0.0, 0.0)]
    for (rows, d), (t, eta, v) in itertools.product(SHAPES, settings[:1] if INTERPRETED else settings):
        (x, means, w), times = mixture(rows, d, count, t), grid(t, 0.7 * t)
        kw = {"eta": eta, "weights": w, "variance": v, "first_step": 2**32 - 1}
        found = fast(gaussian_mixture, device, x, means, times, 2**63 + 5, **kw)
        expected = gaussian_mixture.reference(x.double(), means.double(), times, 2**63 + 5, **kw)
        allowed = tolerance(x, means, times, eta, v, wobble(x, means, t, v))
        assert float((found - expected).abs().max()) <= allowed, (rows, d, t)
        assert t < 0.1 or allowed < 2e-3


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("count", [1, 2, 5])
def test_backends_agree_on_a_step_of_spins(count, device):
    settings = [(1.0, 1.0), (0.05, 0.5), (0.01, 0.0)]
    for (rows, d), (t, eta) in itertools.product(SHAPES, settings[:1] if INTERPRETED else settings):
        fields, w, times = 1.5 * noise(count, seed=3), shares(count), grid(t, 0.7 * t)
        s, spins = math.exp(-t), noise(rows, d, seed=4).sign()
        x = (s * spins + math.sqrt(1 - s * s) * noise(rows, d)).float()
        kw = {"eta": eta, "weights": w, "first_step": 7}
        found = fast(spins_in_fields, device, x, fields, times, 3, **kw)
        expected = spins_in_fields.reference(x.double(), fields, times, 3, **kw)
        # d factors and their product are rounded; tanh(φ + u) changes by no more than 4·10⁻⁷ where its
        # argument is rounded, since |y| (1 − tanh² y) < ½, and that is within eight units of C.
        allowed = tolerance(x, torch.ones(1), times, eta, wobble=8 * d)
        assert float((found - expected).abs().max()) <= allowed < 3e-5 * math.sqrt(d), (rows, d, t)


@pytest.mark.parametrize("device", DEVICES)
def test_backends_agree_near_the_data_and_far_from_them(device):
    # Γ = 2·10⁻⁶: exponents reach 10⁷ and fields u reach 10⁶; x lies at data, between them, and far away.
    x = torch.tensor([[1.0], [-1.0], [0.3], [-0.02], [50.0], [-3e3], [0.0]])
    times, spread = grid(1e-6, 0.0), torch.tensor([[-1.0], [1.0], [0.5]])
    for eta in (0.0, 1.0):
        for made, data in (
            (gaussian_mixture, spread),
            (gaussian_mixture, spread[:2]),
            (spins_in_fields, grid(0.4)),
            (spins_in_fields, grid(0.4, -19.0, 3.0)),
        ):
            found = fast(made, device, x, data, times, 3, eta=eta)
            wide = data.double()
            expected = made.reference(x.double(), wide, times, 3, eta=eta)
            # No x is within 10⁻³ of a point where two data weigh the same, but for 0, where rounding decides
            # nothing: both weigh exactly the same, or tanh 0.4. The exponents are then ±100 and more.
            assert torch.allclose(found, expected, rtol=8 * UNIT, atol=2e-6), (made.__name__, eta)


def growth(made, x, data, times, **kw):
    """By how much the flow lets a small error at the start, or at one of four later times, grow."""
    end, found, h = made(x, data, times, 0, 0.0, **kw), 1.0, 1e-6
    for k in range(0, len(times) - 1, max(1, len(times) // 5)):
        middle = made(x, data, times[: k + 1], 0, 0.0, **kw) if k else x
        for e in torch.eye(x.shape[1], dtype=torch.float64):
            moved = made(middle + h * e, data, times[k:], 0, 0.0, **kw)
            found = max(found, float((moved - end).norm(dim=1).max()) / h)
    return found


@pytest.mark.parametrize("device", DEVICES)
def test_backends_agree_on_the_probability_flow_over_many_steps(device):
    n, v = 3 if INTERPRETED else 40, 0.2
    times = torch.linspace(2, 0.1, n + 1, dtype=torch.float64)
    for d, count in ((1, 2),) if INTERPRETED else ((1, 2), (2, 3), (3, 8)):
        x, means, w = mixture(6 if INTERPRETED else 300, d, count, 2.0)
        for made, data, width in (
            (gaussian_mixture, means, {"variance": v}),
            (spins_in_fields, noise(count, seed=3), {}),
        ):
            found = fast(made, device, x, data, times, 0, 0.0, weights=w, **width)
            expected = made.reference(x.double(), data.double(), times, 0, 0.0, weights=w, **width)
            # Each step is off by no more than its tolerance, here with all numbers as large as the largest,
            # and the steps after it let that grow: by 110 near the border of two data in three dimensions.
            ends = torch.cat([x.double(), expected])
            size, largest = (means, v) if width else (torch.ones(1, d), 0.0)
            step = max(
                tolerance(ends, size, times[k : k + 2], 0.0, largest, wobble(ends, size, times[k], largest))
                for k in range(n)
            )
            allowed = (
                n
                * d**0.5
                * growth(made.reference, x.double(), data.double(), times, weights=w, **width)
                * step
            )
            assert float((found - expected).abs().max()) <= allowed


def test_the_triton_versions_pass_these_tests_under_the_interpreter(interpreted):
    interpreted("backends_agree")


def test_the_triton_kernels_compile_ahead_of_time_for_hopper(compiled):
    code = """
from physgen.kernels import reverse

# Triton makes a constant of each integer argument that is 1: every kernel has to compile so too.
for later in (reverse.triton_spins, reverse.triton_mixture, reverse.triton_fields):
    for d, filled, noise, ones in ((1, 1, True, ("n", "components", "fields", "rows")), (3, 4, True, ())):
        function = later.ready()
        constants = {"QUADS": 32, "NOISE": noise, "d": d, "D": filled, "ROWS": 64} | {name: 1 for name in ones}
        constants = {name: value for name, value in constants.items() if name in function.arg_names}
        types = {"seed": "u64", "first_step": "i64"}
        types |= dict.fromkeys(("n", "count", "rows", "components", "fields"), "i32")
        types |= dict.fromkeys(constants, "constexpr")
        signature = {name: types.get(name, "*fp32") for name in function.arg_names}
        build(function, signature, constants)
"""
    assert compiled(code) == 6


# ------------------------------------------------------------------------------------------------ the numbers


def test_the_noise_of_row_and_column_is_the_normal_of_its_site():
    rows, d, step = 7, 3, 2**32 + 4
    # One component at 0 and x = 0: what is left of a step is √(2ηδ) z.
    x, times = torch.zeros(rows, d, dtype=torch.float64), grid(1.0, 0.75)
    z = gaussian_mixture(x, torch.zeros(1, d).double(), times, 9, 0.5, first_step=step) / 0.5
    for row, column in itertools.product(range(rows), range(d)):
        site = row * d + column
        words = philox(9, 4, 1, 0, 1 + site // 4)
        assert float(z[row, column]) == pytest.approx(float(normal(words)[site % 4]), abs=1e-14)


@pytest.mark.parametrize("backend", ["torch", "numba"])
def test_a_row_moves_alike_in_every_batch_and_a_run_in_two_parts_is_the_run(backend):
    times = torch.linspace(2, 0.05, 12, dtype=torch.float64)
    for d, count in ((1, 1), (1, 3), (2, 2), (3, 8), (6, 4)):
        x, means, w = mixture(2500 if backend == "numba" else 300, d, count, 2.0)
        for made, data in ((gaussian_mixture, means), (spins_in_fields, noise(count))):
            kw = {"weights": w, "backend": backend}
            whole = made(x, data, times, 5, **kw)
            for part in (1, 6, 257, 1024):
                found = made(x[:part], data, times, 5, **kw)
                if backend == "numba":
                    assert torch.equal(found, whole[:part]), (d, count, part)
                else:  # torch sums in an order that depends on the size, and the steps let that grow
                    assert torch.allclose(found, whole[:part], atol=1e-4), (d, count, part)
            half = made(x, data, times[:5], 5, first_step=3, **kw)
            both = made(half, data, times[4:], 5, first_step=7, **kw)
            assert torch.equal(both, made(x, data, times, 5, first_step=3, **kw)), (d, count)
            assert not torch.equal(both, whole)


def test_many_threads_give_what_one_gives(monkeypatch):
    times = torch.linspace(2, 0.05, 12, dtype=torch.float64)
    x, means, w = mixture(200_000, 2, 3, 2.0)
    calls = [
        lambda: gaussian_mixture(x, means, times, 1, weights=w, backend="numba"),
        lambda: spins_in_fields(x, grid(0.3), times, 1, backend="numba"),
        lambda: spins_in_fields(x, grid(0.3, 1.0), times, 1, backend="numba"),
    ]
    alone = [call() for call in calls]
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    assert all(torch.equal(call(), one) for call, one in zip(calls, alone, strict=True))


def test_seeds_and_steps_draw_different_numbers_and_the_flow_draws_none():
    (x, means, w), times = mixture(64, 2, 3, 1.0), grid(1.0, 0.9)
    for made, data in ((gaussian_mixture, means), (spins_in_fields, noise(3))):
        runs = [made(x, data, times, *how, weights=w) for how in ((1,), (2,), (1 + 2**32,))]
        runs += [made(x, data, times, 1, weights=w, first_step=step) for step in (1, 2**32)]
        for first, second in itertools.combinations(runs, 2):
            assert float((first - second).abs().min()) > 0
        assert torch.equal(made(x, data, times, 1, 0.0), made(x, data, times, 2, 0.0))


def test_the_arguments_stay_as_they_are_and_strided_ones_are_taken():
    wide, means, times = noise(6, 40).float(), noise(3, 2).float(), grid(1.0, 0.5)
    x = wide.T[::4, ::3]  # (10, 2), its columns far apart
    kept = x.clone()
    for made, data in ((gaussian_mixture, means), (spins_in_fields, noise(2))):
        found = made(x, data, times, 0)
        assert torch.equal(x, kept) and torch.equal(found, made(kept, data, times, 0))


# ------------------------------------------------------------------------------------------------- the scores


def score(made, x, data, t, **kw):
    """S from a step of the flow: x' = x + δ (x + S), in float64."""
    delta = t / 2
    return (made(x, data, grid(t, t - delta), 0, 0.0, **kw) - x) / delta - x


def test_the_score_of_a_mixture_is_the_gradient_of_its_logarithm():
    for d, count, v, t in itertools.product((1, 3), (1, 2, 5), (0.0, 0.4), (0.1, 1.0)):
        x, means, w = noise(20, d).requires_grad_(), noise(count, d, seed=1), shares(count)
        s, gamma = math.exp(-t), v * math.exp(-2 * t) + 1 - math.exp(-2 * t)
        square = (x[:, None] - s * means).square().sum(2)
        logarithm = (w.log() - square / (2 * gamma) - d / 2 * math.log(gamma)).logsumexp(1)
        (gradient,) = torch.autograd.grad(logarithm.sum(), x)
        found = score(gaussian_mixture, x, means, t, weights=w, variance=v)
        assert torch.allclose(found, gradient, rtol=1e-10, atol=1e-10)


def test_the_score_of_spins_is_that_of_all_their_states():
    d = 4
    states = torch.tensor(list(itertools.product((-1.0, 1.0), repeat=d)), dtype=torch.float64)
    for count, t in itertools.product((1, 2, 4), (0.05, 0.3, 2.0)):
        fields, w, x = 1.5 * noise(count, seed=2), shares(count), noise(20, d).requires_grad_()
        s, delta = math.exp(-t), 1 - math.exp(-2 * t)
        each = torch.exp(fields * states.sum(1, keepdim=True)) / (2 * fields.cosh()) ** d  # (2ᵈ, Q)
        square = (x[:, None] - s * states).square().sum(2)
        logarithm = ((each @ w).log() - square / (2 * delta)).logsumexp(1)
        (gradient,) = torch.autograd.grad(logarithm.sum(), x)
        assert torch.allclose(score(spins_in_fields, x, fields, t, weights=w), gradient, rtol=1e-9, atol=1e-9)


def test_huge_fields_and_tiny_times_stay_finite_and_saturate():
    x, times = grid(30.0, -30.0, 0.0)[:, None], grid(0.02, 0.0)
    for fields in (grid(900.0), grid(900.0, 800.0)):
        for given in (x, x.float()):
            end = spins_in_fields(given, fields, times, 0, 0.0)
            # Spins that are all up: x' = x + δ (x + (s − x)/Δ).
            s, delta = math.exp(-0.02), -math.expm1(-0.04)
            assert torch.allclose(end.double(), x + 0.02 * (x + (s - x) / delta), rtol=1e-5)
    tiny = grid(1e-200, 0.0)
    near = torch.tensor([[1.0], [-1.0]])
    for made, data in (
        (gaussian_mixture, near),
        (spins_in_fields, grid(0.1)),
        (spins_in_fields, grid(1.0, 0.1)),
    ):
        assert torch.allclose(made(near.double(), data.double(), tiny, 0), near.double())


def test_what_float32_cannot_hold_goes_to_the_definition():
    x, times = noise(4, 1).float(), grid(1.0, 0.5)
    for made, data in ((gaussian_mixture, noise(2, 1).float()), (spins_in_fields, noise(2))):
        other = data.double()
        with pytest.raises(ValueError, match=r"x is torch.float64, and this version takes torch.float32"):
            made(x.double(), other, times, 0, backend="numba")
        assert made(x.double(), other, times, 0).dtype == torch.float64
        with pytest.raises(ValueError, match=r"a coefficient of 5e\+19 leaves no room in float32"):
            made(x, data, grid(1e-20, 0.0), 0, backend="numba")
    with pytest.raises(ValueError, match=r"among several fields one is beyond ±20"):
        spins_in_fields(x, grid(1.0, 21.0), times, 0, backend="numba")


# --------------------------------------------------------------------------------------------------- the laws


def noised(data, t, seed=11):
    """Data at time t, float32."""
    return (math.exp(-t) * data + math.sqrt(-math.expm1(-2 * t)) * noise(*data.shape, seed=seed)).float()


def late_and_dense(n, start=4.0):
    """A grid whose steps become short where the data appear, down to t = 0."""
    return torch.linspace(start**0.5, 0, n + 1, dtype=torch.float64) ** 2


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_one_gaussian_follows_the_recursion_of_mean_and_variance(eta):
    rows, v, centre, times = 200_000, 0.3, torch.tensor([1.5, -0.5]), late_and_dense(30)
    x = (0.7 + 1.3 * noise(rows, 2)).float()
    mean, variance = torch.full((2,), 0.7, dtype=torch.float64), 1.3**2
    for t, delta in reverse._steps(times):
        s = math.exp(-t)
        gamma = v * s * s + 1 - s * s
        # x' = (1 + δ − δ(1 + η)/Γ) x + δ(1 + η) s m/Γ + √(2ηδ) z is linear: its law stays Gaussian.
        kept = 1 + delta - delta * (1 + eta) / gamma
        mean = kept * mean + delta * (1 + eta) * s / gamma * centre.double()
        variance = kept**2 * variance + 2 * eta * delta
    end = gaussian_mixture(x, centre[None], times, 17, eta, variance=v).double()
    # Five standard errors: √(V/B) of a mean, V √(2/B) of a variance, of independent Gaussian trajectories.
    assert float((end.mean(0) - mean).abs().max()) < 5 * (variance / rows) ** 0.5
    assert float((end.var(0) - variance).abs().max()) < 5 * variance * (2 / rows) ** 0.5
    product = float(((end - end.mean(0)).prod(1)).mean())
    assert abs(product) < 5 * variance / rows**0.5  # the columns are independent


def extrapolated(run, n):
    """Averages and standard errors without their first-order error in the step: 2 r(2n) − r(n)."""
    (coarse, first), (fine, second) = (
        (values.mean(0), values.std(0) / len(values) ** 0.5) for values in (run(n, 1), run(2 * n, 2))
    )
    return 2 * fine - coarse, (first**2 + 4 * second**2).sqrt()


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_two_gaussians_come_back_with_their_weights_and_moments(eta):
    rows, v, w = 100_000, 0.1, grid(0.3, 0.7)
    means = torch.tensor([[1.5, 0.0], [-1.0, 1.0]])
    chosen = (torch.rand(rows, generator=torch.Generator().manual_seed(5)) > 0.3).long()
    data = means[chosen].double() + v**0.5 * noise(rows, 2, seed=6)

    def run(n, seed):
        end = gaussian_mixture(noised(data, 3.0), means, late_and_dense(n, 3.0), seed, eta, w, v).double()
        first = (end - means[0]).square().sum(1) < (end - means[1]).square().sum(1)
        return torch.stack([first.double(), *end.T, *end.square().T, end.prod(1)], 1)

    found, error = extrapolated(run, 40)
    # The bisector of the centres is 2.7 / 2 / √0.1 = 4.3 standard deviations from either: 10⁻⁵ are beyond.
    m, w = means.double(), w
    exact = [w[0], *(w @ m), *(w @ m.square() + v), w @ m.prod(1)]
    # Five standard errors, and the second order in the step of moments of order one: (3/80)² = 1.4·10⁻³.
    assert bool(((found - torch.stack(exact)).abs() < 5 * error + 1.5e-3).all()), (found, exact, error)


@pytest.mark.parametrize("d", [1, 3])
def test_spins_come_back_with_their_magnetisation_and_correlation(d):
    rows, t = 100_000, 3.0
    for fields, w in ((grid(0.4), grid(1.0)), (grid(0.8, -0.8), grid(0.3, 0.7))):
        generator = torch.Generator().manual_seed(8)
        phi = fields[torch.multinomial(w, rows, True, generator=generator)][:, None]
        up = torch.rand(rows, d, generator=generator, dtype=torch.float64) < torch.sigmoid(2 * phi)

        def run(n, seed, up=up, fields=fields, w=w):
            end = spins_in_fields(
                noised(2 * up.double() - 1, t), fields, late_and_dense(n, t), seed, weights=w
            ).double()
            # The last step has δ = 3/n²: A is nearly 0 there, and x is at ±1 but for √(2δ) z.
            assert float((end.abs() - 1).abs().mean()) < 2 * math.sqrt(2 * t / n**2)
            return torch.stack([end.sign()[:, 0], end.sign()[:, 0] * end.sign()[:, -1]], 1)

        found, error = extrapolated(run, 40)
        exact = torch.stack([w @ fields.tanh(), w @ fields.tanh() ** (2 if d > 1 else 0)])
        assert bool(((found - exact).abs() < 5 * error + 1.5e-3).all()), (fields, found, exact)


def test_equal_weights_are_the_default_and_no_weight_is_no_component():
    x, means, times = noise(50, 2), noise(2, 2, seed=1), grid(1.0, 0.3)
    for given in (x, x.float()):
        for made, data in ((gaussian_mixture, means.to(given)), (spins_in_fields, grid(0.3, -1.0))):
            assert torch.equal(
                made(given, data, times, 0), made(given, data, times, 0, weights=grid(0.5, 0.5))
            )
            alone = made(given, data[:1], times, 0)
            assert torch.allclose(made(given, data, times, 0, weights=grid(1.0, 0.0)), alone, atol=1e-6)


# ------------------------------------------------------------------------------------------------- bad input


def refused(match, made, *args, **kw):
    with pytest.raises(ValueError, match=match):
        made(*args, **kw)


def test_empty_batches_are_taken():
    for dtype in (torch.float32, torch.float64):
        x = torch.zeros(0, 3, dtype=dtype)
        for made, data in (
            (gaussian_mixture, torch.ones(2, 3, dtype=dtype)),
            (spins_in_fields, grid(1.0, 2.0)),
        ):
            for fields in (data, data[:1]):
                assert made(x, fields, grid(1.0, 0.5), 0).shape == (0, 3)


def test_bad_arguments_are_refused_by_name():
    times = grid(1.0, 0.5, 0.0)
    for made, data in ((gaussian_mixture, noise(2, 3)), (spins_in_fields, noise(2))):
        x, name = noise(4, 3), "means" if made is gaussian_mixture else "fields"
        refused(r"^x: got torch.int64; expected a float32 or float64", made, x.long(), data, times, 0)
        refused(r"^x: got ndarray", made, x.numpy(), data, times, 0)
        for shape in ((12,), (2, 2, 3), (4, 0)):
            refused(r"^x: got shape .* expected \(B, d\)", made, torch.zeros(shape), data, times, 0)
        huge = torch.zeros(1).expand(2**32, 4)
        refused(r"^x: got shape .* expected fewer than 2\*\*34", made, huge, data, times, 0)
        for value in (math.nan, math.inf, -math.inf):
            bad = x.clone()
            bad[2, 1] = value
            refused(r"^x: got NaN or infinity", made, bad, data, times, 0)
            bad = data.clone()
            bad[1] = value
            refused(rf"^{name}: got NaN or infinity", made, x, bad, times, 0)
            refused(r"^times: got NaN or infinity", made, x, data, grid(1.0, value), 0)
            refused(r"^weights: got NaN or infinity", made, x, data, times, 0, weights=grid(1.0, value))
            refused(r"^eta: got .* expected a finite number >= 0", made, x, data, times, 0, value)
        refused(r"^times: got a grid that rises", made, x, data, grid(0.5, 1.0), 0)
        refused(r"^times: got a grid that rises, rests", made, x, data, grid(1.0, 1.0, 0.5), 0)
        refused(r"^times: got .* ends below 0", made, x, data, grid(1.0, -0.5), 0)
        refused(r"^times: got a grid", made, x, data, grid(0.0, -1.0), 0)
        refused(r"^times: got shape \(1,\)", made, x, data, grid(1.0), 0)
        refused(r"^times: got shape \(1, 3\)", made, x, data, times[None], 0)
        refused(r"^times: got torch.float32", made, x, data, times.float(), 0)
        refused(r"^times: got list", made, x, data, [1.0, 0.5], 0)
        for seed in (-1, 2**64, 1.5, None, True):
            refused(r"^seed: got .* expected an integer in \[0, 2\*\*64\)", made, x, data, times, seed)
        for eta in (-0.1, "1", None, True):
            refused(r"^eta: got .* expected a finite number >= 0", made, x, data, times, 0, eta)
        for step in (-1, 2**62, 0.5, True):
            refused(r"^first_step: got .* expected an integer", made, x, data, times, 0, first_step=step)
        refused(r"^weights: got a least one of -0.5", made, x, data, times, 0, weights=grid(-0.5, 1.5))
        refused(r"^weights: got .* a sum of 1.1", made, x, data, times, 0, weights=grid(0.5, 0.6))
        refused(r"^weights: got shape \(3,\); expected \(2,\)", made, x, data, times, 0, weights=shares(3))
        refused(r"^weights: got torch.float32", made, x, data, times, 0, weights=shares(2).float())
        refused(r"^weights: got list", made, x, data, times, 0, weights=[0.5, 0.5])
        refused(r"backend='cuda' cannot run", made, x, data, times, 0, backend="cuda")
    x = noise(4, 3)
    refused(
        r"^means: got torch.float32; expected torch.float64",
        gaussian_mixture,
        x,
        noise(2, 3).float(),
        times,
        0,
    )
    for shape in ((2, 2), (0, 3), (3,)):
        refused(r"^means: got shape .* expected \(K, 3\)", gaussian_mixture, x, noise(*shape), times, 0)
    for v in (-1.0, math.nan, math.inf, None):
        refused(r"^variance: got .* expected", gaussian_mixture, x, noise(2, 3), times, 0, variance=v)
    refused(r"^fields: got torch.float32; expected a float64", spins_in_fields, x, noise(2).float(), times, 0)
    for shape in ((0,), (2, 1), ()):
        refused(r"^fields: got shape .* expected \(Q >= 1,\)", spins_in_fields, x, noise(*shape), times, 0)
