"""Every version of the mixture score gives what the definition gives, and the definition is right."""

import math
import os

import numpy as np
import pytest
import torch
from torch.autograd import gradcheck
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from physgen.kernels import mixture_score as ms
from physgen.kernels.mixture_score import (
    covariance_product,
    log_density,
    participation_ratio,
    posterior_mean,
    score,
    weights,
)

DEVICES = ["cpu", *([pytest.param("cuda", marks=pytest.mark.cuda)] if torch.cuda.is_available() else [])]
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DTYPES = [torch.float32, torch.float64]
KERNELS = [score, log_density, posterior_mean, participation_ratio, covariance_product, weights]
FUSED = KERNELS[:4]  # those that have a Triton version
REGIMES = [
    (torch.float32, 0.5),
    (torch.float64, 0.5),
    (torch.float64, 1e-10),
]  # dtype, t: float32, expanded, direct


def times(t):
    return {"s": math.exp(-t), "delta": -math.expm1(-2 * t)}


def randn(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def noised(data, batch, t, seed=77):
    """Rows of the data, noised up to time t."""
    k = times(t)
    rows = data[torch.arange(batch) % len(data)]
    return k["s"] * rows + math.sqrt(k["delta"]) * randn(batch, data.shape[1], seed=seed)


def twins(n, d, t, seed=0):
    """Pixel-like data in pairs at |δa|² = 2Δ: both share the posterior of a noised one."""
    base = 0.5 + 0.25 * randn(n // 2, d, seed=seed)
    return torch.cat([base, base + math.sqrt(2 * times(t)["delta"] / d) * randn(n // 2, d, seed=seed + 1)])


def uneven(n, zeros, seed=5):
    """Weights of very different size, the first `zeros` of them zero."""
    w = torch.exp(5 * randn(n, seed=seed))
    w[:zeros] = 0
    return w / w.sum()


def problem(x, data, t, weights=None):
    return {"x": x, "data": data, "weights": weights} | times(t)


def sized(n, d, batch, t=0.3):
    return problem(noised(randn(n, d), batch, t), randn(n, d), t)


CASES = {
    "one datum": sized(1, 1, 1),
    "one datum in three dimensions": sized(1, 3, 5),
    "ragged": sized(37, 5, 7),
    "as large as the tiles": sized(64, 16, 64),
    "beyond the tiles": sized(130, 17, 65),
    "empty batch": sized(9, 3, 0),
    "offset mean": problem(noised(randn(40, 6) + 1000, 9, 0.3), randn(40, 6) + 1000, 0.3),
    "near twins, t = 1e-2": problem(noised(twins(20, 40, 1e-2), 6, 1e-2), twins(20, 40, 1e-2), 1e-2),
    "near twins, t = 1e-4": problem(noised(twins(20, 40, 1e-4), 6, 1e-4), twins(20, 40, 1e-4), 1e-4),
    "t to 0": problem(noised(twins(20, 8, 1e-10), 6, 1e-10), twins(20, 8, 1e-10), 1e-10),
    "t to infinity": problem(noised(randn(30, 4), 6, 40.0), randn(30, 4), 40.0),
    "s = 0": sized(30, 4, 6) | {"s": 0.0, "delta": 1.0},
    "huge exponents": problem(300 * randn(5, 4, seed=3), randn(30, 4), 1e-2),
    "uneven weights, a zero": sized(30, 4, 6, 1.0) | {"weights": uneven(30, 1)},
    "the first tiles weightless": sized(150, 4, 6, 1.0) | {"weights": uneven(150, 140)},
    "one has all the weight": sized(30, 4, 6, 1.0) | {"weights": uneven(30, 29)},
}


def typed(case, dtype, device="cpu"):
    made = {k: v.to(device, dtype) if isinstance(v, torch.Tensor) else v for k, v in case.items()}
    if made["weights"] is not None:
        made["weights"] = (case["weights"] / case["weights"].sum()).to(device, dtype)
    return made


def largest_exponent(case):
    """M = (max|x| + s max|a|)²/2Δ about the mean of the data."""
    x, data, s, delta = (case[name] for name in ("x", "data", "s", "delta"))
    rows = x - s * data.mean(0), s * (data - data.mean(0))
    reach = sum(float(torch.linalg.vector_norm(m, dim=1).max()) if len(m) else 0.0 for m in rows)
    return reach**2 / (2 * delta)


def relative_error(case, dtype):
    """What the module promises for a weight, by the largest exponent; and the rounding of s a, x − s a."""
    x, data, s, delta = (case[name] for name in ("x", "data", "s", "delta"))
    largest = largest_exponent(case)
    if dtype == torch.float32 and largest <= 3000:
        return 1e-6 + 1e-3 * largest / 3000
    least = float(-ms._exponents(x, data, s, delta, torch.ones(len(data))).amax(1).min()) if len(x) else 0.0
    # |x − s a| of what matters, if differences are taken, and of all, if not.
    far = math.sqrt(2 * (largest if largest <= 1e7 else least + x.shape[1]) / delta)
    entries = float(data.abs().max()) * math.sqrt(x.shape[1])
    error = 5 * largest if largest <= 1e7 else 16 * (least + x.shape[1])
    return 1e-13 + 2**-53 * (error + 4 * s * entries * far)


def tolerances(case, dtype):
    """Absolute errors: a weight that is off by a factor 1 ± δ, and the rounding of the result."""
    error = relative_error(case, dtype)
    wide = float((case["data"] - case["data"].mean(0)).abs().max())
    last = torch.finfo(dtype).eps
    return {
        "score": 2 * error * wide * case["s"] / case["delta"],
        "log_density": error,
        "posterior_mean": 2 * error * wide,
        "participation_ratio": 4 * error,
        # These two are computed in float64 whatever the dtype.
        "covariance_product": 8 * relative_error(case, torch.float64) * wide * wide * case["x"].shape[1] * 4,
        "weights": 2 * relative_error(case, torch.float64),
    }, last


def backends(made, device):
    if INTERPRETED:
        return ["triton"] if made in FUSED else []
    return ["torch", "chunks", *(["triton"] if device == "cuda" and made in FUSED else [])]


def arguments(made, case):
    vector = (
        {"v": randn(*case["x"].shape, seed=8).float().to(case["x"])} if made is covariance_product else {}
    )
    return case | vector


# ------------------------------------------------------------------------------- all versions, one definition


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", CASES)
def test_versions_agree_with_the_definition_in_float64(name, dtype, device):
    case = typed(CASES[name], dtype)
    exact = typed(case, torch.float64)
    allowed, last = tolerances(exact, dtype)
    for made in KERNELS:
        expected = made.reference(**arguments(made, exact))
        for backend in backends(made, device):
            if backend == "triton" and len(case["x"]) == 0:
                continue
            found = made(**arguments(made, typed(case, dtype, device)), backend=backend)
            assert found.dtype == dtype and found.device.type == device and found.shape == expected.shape
            off = (found.cpu().double() - expected).abs()
            assert bool((off <= allowed[made.__name__] + 4 * last * expected.abs()).all()), (
                made,
                backend,
                off.max(),
            )


@pytest.mark.parametrize("dtype", DTYPES)
def test_versions_agree_over_many_chunks_and_blocks_of_rows(dtype, monkeypatch):
    monkeypatch.setattr(ms, "ELEMENTS", 1)  # chunks of 512
    monkeypatch.setattr(ms, "ROWS", 4)
    monkeypatch.setattr(ms, "PROGRAMS", 3)  # of several tiles each
    n = 300 if INTERPRETED else 1300
    rising = randn(n, 2)[
        randn(n, 2)[:, 0].argsort()
    ]  # what matters to the last row comes last, to the first first
    for t, w in ((0.5, None), (0.05, uneven(n, n // 2)), (1e-9, None)):
        x = noised(rising, n, t)[[0, 1, n // 2, n - 2, n - 1]]
        case = typed(problem(x, rising, t, w), dtype)
        exact = typed(case, torch.float64)
        allowed, last = tolerances(exact, dtype)
        for made in KERNELS:
            expected = made.reference(**arguments(made, exact))
            for backend in set(backends(made, "cpu")) - {"torch"}:
                off = (made(**arguments(made, case), backend=backend).double() - expected).abs()
                assert bool((off <= allowed[made.__name__] + 4 * last * expected.abs()).all()), (
                    made,
                    t,
                    off.max(),
                )


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("t", [0.3, 1e-3, 1e-9])
def test_versions_agree_on_derivatives_in_x_and_data(t, device, monkeypatch):
    monkeypatch.setattr(ms, "ROWS", 2)
    data = twins(12, 3, t)
    case = problem(noised(data, 5, t), data, t, uneven(12, 2))
    for made in (score, log_density, posterior_mean):
        grads = {}
        for backend in ["torch", *backends(made, device)]:
            there = typed(case, torch.float64, device)
            x, a = there["x"].requires_grad_(), there["data"].requires_grad_()
            found = made(**there | {"x": x, "data": a}, backend=backend)
            out = randn(*found.shape, seed=9).to(device)
            grads[backend] = torch.autograd.grad(found, [x, a], out)
        for backend, pair in grads.items():
            for g, expected in zip(pair, grads["torch"], strict=True):
                assert torch.allclose(g, expected, rtol=0, atol=1e-6 * float(expected.abs().max())), (
                    made,
                    backend,
                )


def test_the_triton_versions_pass_these_tests_under_the_interpreter(interpreted):
    interpreted("versions_agree")


def test_the_triton_kernel_compiles_ahead_of_time_for_hopper(compiled):
    code = """
from physgen.kernels import mixture_score

function = mixture_score.triton_log_sums.ready()
integers = "batch", "n", "d", "share", "stride"
for kind, data, direct, wide in (
    ("*fp32", "*fp32", False, 16), ("*fp64", "*fp32", False, 16), ("*fp64", "*fp64", False, 32),
    ("*fp64", "*fp32", True, 16),
):
    for ones in ((), integers) if kind == "*fp32" or direct else ((),):
        blocks = {"BLOCK_B": 32, "BLOCK_N": 32, "BLOCK_D": wide}
        constants = blocks | {"DIRECT": direct} | dict.fromkeys(ones, 1)
        types = dict.fromkeys(("x", "centre", "floats", "out_log", "out_mean"), kind)
        types |= {"data": data, "weights": data} | dict.fromkeys(integers, "i32")
        types |= dict.fromkeys(constants, "constexpr")
        signature = {name: types[name] for name in function.arg_names}
        build(function, signature, constants)
"""
    assert compiled(code) == 6


# --------------------------------------------------------------------------------------------------- accuracy


def long_weights(x, data, s, delta):
    """Posterior weights from differences in extended precision."""
    x, data, s = x.numpy().astype(np.longdouble), data.numpy().astype(np.longdouble), np.longdouble(s)
    exponents = -np.stack([((row - s * data) ** 2).sum(1) for row in x]) / (2 * np.longdouble(delta))
    p = np.exp(exponents - exponents.max(1, keepdims=True))
    return torch.from_numpy((p / p.sum(1, keepdims=True)).astype(np.float64))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("t", [1e-2, 1e-4, 1e-8])
def test_weights_of_near_twins_in_many_dimensions_are_right_to_a_millionth(t, dtype):
    data = twins(32, 3072, t).to(dtype)
    x, k = noised(data.double(), 8, t).to(dtype), times(t)
    exact = long_weights(x, data, **k)
    assert (
        0.1 < float(exact.max(1).values.min()) and float(exact.amax(1).min()) < 0.99
    )  # twins share the weight
    found = weights(x, data, **k).double()
    assert float((found - exact).abs().max()) < 1e-6
    ratio = participation_ratio(x, data, **k).double()
    assert torch.allclose(ratio, exact.square().sum(1), rtol=0, atol=1e-6)
    # E[a|x] is one twin plus a share of the difference: the share is the weight.
    mean, pair = posterior_mean(x, data, **k).double(), (data[16:24] - data[:8]).double()
    share = ((mean - data[:8].double()) * pair).sum(1) / pair.square().sum(1)
    rounding = 2 * torch.finfo(dtype).eps * 2 * math.sqrt(3072) / pair.norm(dim=1)  # of the result
    assert bool(((share - exact[torch.arange(8), 16 + torch.arange(8)]).abs() < 1e-6 + rounding).all())


def test_float32_is_used_where_it_is_right_to_a_thousandth_and_float64_above():
    t, directions = 0.1, randn(60, 256, seed=2)
    for radius, dtype in ((16.5, torch.float32), (18.0, torch.float64)):
        near = radius * directions / directions.norm(dim=1, keepdim=True)
        near[30:] = near[:30] + 0.05 * randn(30, 256, seed=3)
        case = typed(problem(noised(near, 60, t), near, t), torch.float32)
        exact = typed(case, torch.float64)
        assert 2500 < largest_exponent(exact) < 3500
        known = {name: case[name] for name in ("x", "data", "s", "delta")}
        assert ms._plan(**known, precision=None).dtype == dtype
        for precision in DTYPES:
            assert ms._plan(**known, precision=precision).dtype == precision
        p = weights.reference(**exact)
        assert float(p.amax(1).min()) < 0.6  # the twins compete
        allowed = 1e-3 if dtype == torch.float32 else 1e-6
        found, expected = participation_ratio(**case).double(), p.square().sum(1)
        assert float((found - expected).abs().max()) < 4 * allowed
        found, expected = log_density(**case).double(), log_density.reference(**exact)
        assert bool(((found - expected).abs() < allowed + 1e-7 * expected.abs()).all())


def test_an_offset_costs_no_accuracy_and_no_speed():
    data, t = (randn(50, 8) * 16).round() / 16, 0.5  # sums with 1024 are exact in float32
    x = (noised(data, 9, t) * 16).round() / 16
    here = typed(problem(x, data, t), torch.float32)
    s = 0.5  # so is the offset of x
    moved = here | {"s": s, "x": here["x"] + s * 1024, "data": here["data"] + 1024}
    here = here | {"s": s}
    assert ms._plan(*(moved[k] for k in ("x", "data", "s", "delta")), None).dtype == torch.float32
    assert torch.allclose(log_density(**moved), log_density(**here), rtol=0, atol=1e-5)
    assert torch.allclose(score(**moved), score(**here), rtol=0, atol=1e-4)


class Largest(TorchDispatchMode):
    """The largest tensor that any operation makes, in bytes."""

    def __init__(self, known):
        super().__init__()
        self.known, self.bytes = {t.untyped_storage().data_ptr() for t in known}, 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, torch.Tensor) and tensor.untyped_storage().data_ptr() not in self.known:
                self.bytes = max(self.bytes, tensor.untyped_storage().nbytes())
        return out


@pytest.mark.parametrize(("dtype", "t"), REGIMES)
def test_the_workspace_does_not_grow_with_the_number_of_data(dtype, t, monkeypatch):
    monkeypatch.setattr(ms, "ELEMENTS", 2**12)
    for made in KERNELS[:5]:
        found = []
        for n in (2000, 8000):
            data = randn(n, 4).to(dtype)
            case = typed(problem(noised(data.double(), 6, t), data.double(), t), dtype) | {"data": data}
            with Largest([data]) as largest:
                made(**arguments(made, case))
            found.append(largest.bytes)
        assert found[0] == found[1] <= 2**12 * 8, (made, found)


# ------------------------------------------------------------------------------------------------------- laws


@pytest.mark.parametrize(("dtype", "t"), REGIMES)
def test_the_log_density_is_that_of_a_mixture_of_gaussians(dtype, t):
    data, w, k = randn(30, 4).to(dtype), uneven(30, 0).to(dtype), times(t)
    x = noised(data.double(), 8, t).to(dtype)
    centres = torch.distributions.Normal(k["s"] * data.double(), math.sqrt(k["delta"]))
    parts = torch.distributions.Independent(centres, 1)
    mixture = torch.distributions.MixtureSameFamily(torch.distributions.Categorical(w.double()), parts)
    found = log_density(x, data, **k, weights=w).double()
    assert torch.allclose(
        found,
        mixture.log_prob(x.double()),
        rtol=4 * torch.finfo(dtype).eps,
        atol=2e-5 if t == 0.5 and dtype == torch.float32 else 1e-9,
    )


def test_two_opposite_data_follow_the_hyperbolic_tangent():
    a, k = randn(1, 3), times(0.4)
    x, v = randn(7, 3, seed=1), randn(7, 3, seed=2)
    for backend in ("torch", "chunks"):
        case = {"x": x, "data": torch.cat([a, -a]), "backend": backend} | k
        m = torch.tanh(k["s"] * x @ a[0] / k["delta"])
        assert torch.allclose(posterior_mean(**case), m[:, None] * a, atol=1e-14)
        assert torch.allclose(score(**case), (k["s"] * m[:, None] * a - x) / k["delta"], atol=1e-13)
        assert torch.allclose(participation_ratio(**case), (1 + m * m) / 2, atol=1e-14)
        product = (1 - m * m)[:, None] * a * (v @ a[0])[:, None]
        assert torch.allclose(covariance_product(**case, v=v), product, atol=1e-14)
        assert torch.allclose(weights(**case), torch.stack([1 + m, 1 - m], 1) / 2, atol=1e-14)


@pytest.mark.parametrize("backend", ["torch", "chunks"])
def test_a_datum_given_twice_is_one_of_twice_the_weight_and_one_of_no_weight_is_absent(backend):
    data, k, kw = randn(6, 3), times(0.5), {"backend": backend}
    x = noised(data, 5, 0.5)
    w = torch.tensor([2.0, 1, 1, 1, 1, 1], dtype=torch.float64) / 7
    absent = torch.cat([w, torch.zeros(1).double()])
    for made in (score, log_density, posterior_mean):
        twice = made(x, torch.cat([data, data[:1]]), **k, **kw)
        assert torch.allclose(made(x, data, **k, weights=w, **kw), twice, atol=1e-13)
        assert torch.allclose(made(x, torch.cat([data, x[:1]]), **k, weights=absent, **kw), twice, atol=1e-13)
    assert bool((weights(x, torch.cat([data, x[:1]]), **k, weights=absent, **kw)[:, -1] == 0).all())


def test_limits_of_time_are_the_nearest_datum_and_the_prior():
    data, w = randn(20, 5), uneven(20, 0)
    for backend in ("torch", "chunks"):
        kw = {"weights": w, "backend": backend}
        x = noised(data, 20, 1e-12)
        assert torch.equal(posterior_mean(x, data, **times(1e-12), **kw), data)
        assert torch.equal(participation_ratio(x, data, **times(1e-12), **kw), torch.ones(20).double())
        late = randn(3, 5, seed=4)
        assert torch.allclose(weights(late, data, 0.0, 1.0, **kw), w.expand(3, -1), atol=1e-15)
        assert torch.allclose(score(late, data, 0.0, 1.0, **kw), -late, atol=1e-15)
        assert torch.allclose(participation_ratio(late, data, 0.0, 1.0, **kw), w.square().sum(), atol=1e-14)


# ------------------------------------------------------------------------------------------------ derivatives


@pytest.mark.parametrize("backend", ["torch", "chunks"])
@pytest.mark.parametrize("made", [score, log_density, posterior_mean])
def test_derivatives_are_those_of_finite_differences(made, backend):
    data, k = randn(7, 2), times(0.4)
    x = noised(data, 4, 0.4)
    assert gradcheck(
        lambda x, a: made(x, a, **k, weights=uneven(7, 1), backend=backend),
        (x.requires_grad_(), data.requires_grad_()),
    )


def test_the_gradient_of_the_log_density_is_the_score_and_its_jacobian_the_covariance():
    data, k = randn(15, 3), times(0.6)
    x, v = noised(data, 6, 0.6).requires_grad_(), randn(6, 3, seed=7)
    (gradient,) = torch.autograd.grad(log_density(x, data, **k).sum(), x)
    assert torch.allclose(gradient, score(x, data, **k), atol=1e-13)
    (pulled,) = torch.autograd.grad(score(x, data, **k), x, v)
    s, delta = k["s"], k["delta"]
    product = covariance_product(x.detach(), data, **k, v=v)
    assert torch.allclose(pulled, (s / delta) ** 2 * product - v / delta, atol=1e-12)


def test_a_derivative_that_a_fast_version_lacks_is_left_to_the_definition():
    data, k = randn(5, 2), times(0.5)
    x, w = randn(3, 2, seed=1), torch.full((5,), 0.2, dtype=torch.float64, requires_grad=True)
    for made in (score, log_density, posterior_mean, participation_ratio, weights):
        made(x, data, **k, weights=w).sum().backward()
        with pytest.raises(
            ValueError, match=r"backend='chunks' cannot run .* only the definition has derivatives"
        ):
            made(x, data, **k, weights=w, backend="chunks")
    assert w.grad is not None and bool(w.grad.isfinite().all())
    for made in (participation_ratio, covariance_product, weights):
        free = x.clone().requires_grad_()
        made(**arguments(made, {"x": free, "data": data} | k)).square().sum().backward()
        assert float(free.grad.abs().max()) > 1e-3
        with torch.no_grad():
            assert not made(**arguments(made, {"x": free, "data": data} | k), backend="chunks").requires_grad


def test_a_float32_call_has_float32_derivatives():
    x, data = randn(3, 2).float().requires_grad_(), randn(5, 2).float().requires_grad_()
    score(x, data, **times(0.5)).sum().backward()
    assert x.grad.dtype == data.grad.dtype == torch.float32


def test_what_no_version_can_do_is_said_and_wide_data_are_left_to_chunks():
    when = score._fast["triton"][2]
    assert (
        when(x=torch.zeros(1, 129), weights=torch.ones(1)) == "d = 129 exceeds the 128 that one program holds"
    )
    assert when(x=torch.zeros(0, 2), weights=torch.ones(1)) == "there are no rows"
    assert when(x=torch.zeros(1, 128), weights=torch.ones(1)) is True
    assert [made.backends()[:2] for made in KERNELS] == [["torch", "chunks"]] * 6


# -------------------------------------------------------------------------------------------------- bad input

GOOD = {"x": randn(2, 3), "data": randn(4, 3), "s": 0.5, "delta": 0.75, "weights": None}
NAN, INF = math.nan, math.inf
BAD = {
    "x": [
        [[0.0]],
        torch.zeros(2, 3, dtype=torch.int64),
        torch.zeros(2, 3, dtype=torch.float16),
        torch.zeros(3).double(),
        torch.zeros(1, 2, 3).double(),
        torch.zeros(2, 0).double(),
        torch.full((2, 3), NAN).double(),
        torch.full((2, 3), -INF).double(),
        torch.full((2, 3), 1e200, dtype=torch.float64),
    ],
    "data": [
        None,
        torch.zeros(4, 3),
        torch.zeros(4, 3, dtype=torch.int8),
        torch.zeros(4, 2).double(),
        torch.zeros(0, 3).double(),
        torch.zeros(3).double(),
        torch.full((4, 3), NAN).double(),
        torch.full((4, 3), INF).double(),
        torch.zeros(4, 3, device="meta").double(),
    ],
    "s": [-0.1, NAN, INF, "1", None, torch.ones(2)],
    "delta": [0.0, -1.0, NAN, INF, "1", None, torch.ones(2)],
    "weights": [
        [0.25] * 4,
        torch.full((3,), 1 / 3).double(),
        torch.full((4, 1), 0.25).double(),
        torch.full((4,), 0.25),
        torch.full((4,), 0.3).double(),
        torch.tensor([0.75, 0.75, -0.25, -0.25]).double(),
        torch.tensor([0.5, 0.5, 0, NAN]).double(),
        torch.zeros(4).double(),
        torch.full((4,), 0.25, device="meta").double(),
    ],
}


@pytest.mark.parametrize("made", KERNELS)
def test_bad_input_is_refused_by_name(made):
    good, bad = arguments(made, GOOD), dict(BAD)
    if made is covariance_product:
        wrong = [None, torch.zeros(2, 2).double(), torch.zeros(2, 3), torch.full((2, 3), NAN).double()]
        bad |= {"v": [*wrong, torch.zeros(3).double(), torch.zeros(1, 3).double()]}
    elif made is not weights:
        bad |= {"precision": [torch.float16, torch.int64, "double", 32]}
    assert len(made(**good)) == 2
    for name, values in bad.items():
        for value in values:
            for backend in ("torch", "auto"):
                with pytest.raises(ValueError, match=f"^{name}: got .* expected"):
                    made(**good | {name: value}, backend=backend)


def test_inputs_stay_as_they_are_and_may_be_strided_or_tensors():
    x, data, w = randn(3, 5).T, randn(3, 7).T, uneven(7, 1)
    before = x.clone(), data.clone(), w.clone()
    number = torch.tensor(0.5)
    for made in KERNELS:
        for backend in ("torch", "chunks"):
            case = {"x": x, "data": data, "weights": w, "s": number, "delta": number}
            plain = case | {"x": x.contiguous(), "data": data.contiguous(), "s": 0.5, "delta": 0.5}
            found = made(**arguments(made, case), backend=backend)
            assert torch.equal(found, made(**arguments(made, plain), backend=backend))
    assert all(torch.equal(a, b) for a, b in zip((x, data, w), before, strict=True))
