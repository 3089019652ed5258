"""Every version of the wavelet transform is PyWavelets', orthogonal, and its own inverse and gradient."""

import os
from functools import partial

import pytest
import pywt
import torch

from physgen.kernels import wavelet as module
from physgen.kernels.wavelet import WAVELETS, dwt, dwt2, filters, idwt, idwt2

# PyWavelets warns of levels at which the filter is longer than the signal: they are part of what is compared.
pytestmark = pytest.mark.filterwarnings("ignore:Level value:UserWarning")

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
CUDA = [pytest.param("cuda", marks=pytest.mark.cuda)] if torch.cuda.is_available() else []
DEVICES = ["cpu", *CUDA]
# Rounding: a coefficient is a sum of at most 2p · 2p · levels products of numbers of order one.
TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5}
# Sizes below, at and above the length of the filters; the interpreter, 0.1 ms an operation, gets few.
SIZES = [2, 6, 530] if INTERPRETED else [2, 4, 6, 10, 34, 64, 530]
SHAPES = [(2, 4)] if INTERPRETED else [(2, 2), (4, 6), (16, 2), (10, 36), (34, 80)]
NAMES = ["haar", "db2", "db3"] if INTERPRETED else WAVELETS
DTYPES = [torch.float64] if INTERPRETED else [torch.float64, torch.float32]


def most(*sizes):
    return min((size & -size).bit_length() - 1 for size in sizes)


def noise(*shape, seed=0, dtype=torch.float64, device="cpu"):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(
        device, dtype
    )


def versions(device):
    return ["triton"] if INTERPRETED else ["torch", {"cpu": "numba", "cuda": "triton"}[device]]


def flat(coefficients):
    """Tensors or arrays of a list whose levels may be tuples."""
    return [c for part in coefficients for c in (part if isinstance(part, tuple) else (part,))]


def close(found, expected, tolerance):
    return len(found) == len(expected) and all(
        f.shape == e.shape and bool((f.cpu().double() - torch.as_tensor(e).double()).abs().max() <= tolerance)
        for f, e in zip(found, expected, strict=True)
    )


# ------------------------------------------------------------------------------------- all versions, and PyWavelets


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("wavelet", NAMES)
def test_backends_agree_with_pywavelets_and_return_in_one_dimension(wavelet, dtype, device):
    for size in SIZES:
        x, levels = noise(2, 3, size, dtype=dtype, device=device), most(size)
        expected = pywt.wavedec(x.cpu().double().numpy(), wavelet, mode="periodization", level=levels)
        for backend in versions(device):
            found = dwt(x, wavelet, levels, backend=backend)
            assert close(found, expected, TOLERANCE[dtype]), (size, backend)
            assert all(c.dtype == dtype and c.device.type == device for c in found)
            back = idwt(found, wavelet, backend=backend)
            assert back.dtype == dtype and close([back], [x.cpu()], TOLERANCE[dtype]), (size, backend)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("wavelet", NAMES)
def test_backends_agree_with_pywavelets_and_return_in_two_dimensions(wavelet, dtype, device):
    for shape in SHAPES:
        x, levels = noise(2, *shape, dtype=dtype, device=device), most(*shape)
        expected = pywt.wavedec2(
            x.cpu().double().numpy(), wavelet, mode="periodization", level=levels, axes=(-2, -1)
        )
        for backend in versions(device):
            found = dwt2(x, wavelet, levels, backend=backend)
            assert [type(part) for part in found] == [torch.Tensor, *[tuple] * levels]
            assert close(flat(found), flat(expected), TOLERANCE[dtype]), (shape, backend)
            back = idwt2(found, wavelet, backend=backend)
            assert back.dtype == dtype and close([back], [x.cpu()], TOLERANCE[dtype]), (shape, backend)


@pytest.mark.parametrize("device", DEVICES)
def test_backends_agree_on_no_batch_on_empty_batches_and_on_strided_tensors(device):
    for backend in versions(device):
        for batch in ((), (0,)) if INTERPRETED else ((), (0,), (3, 0), (1,)):
            x, y = noise(*batch, 8, device=device), noise(*batch, 4, 6, device=device)
            one, two = dwt(x, "db2", 2, backend=backend), dwt2(y, "db2", backend=backend)
            assert [c.shape for c in one] == [(*batch, 2), (*batch, 2), (*batch, 4)]
            assert [c.shape for c in flat(two)] == [(*batch, 2, 3)] * 4
            assert torch.allclose(idwt(one, "db2", backend=backend), x, atol=1e-12)
            assert torch.allclose(idwt2(two, "db2", backend=backend), y, atol=1e-12)
        strided = noise(6, 20, 8, device=device).permute(2, 1, 0)[::4, ::5]  # (2, 4, 6)
        for c in zip(
            dwt(strided, "db3", backend=backend) + flat(dwt2(strided, "db3", backend=backend)),
            dwt(strided.contiguous(), "db3", backend="torch")
            + flat(dwt2(strided.contiguous(), "db3", backend="torch")),
            strict=True,
        ):
            assert torch.allclose(*c, atol=1e-12)
        turned = [c.mT for c in dwt(strided.mT.contiguous(), "db3", backend="torch")]  # along axis −2
        back = idwt([c.mT for c in turned], "db3", backend=backend)
        assert torch.allclose(back, strided.mT, atol=1e-12)


@pytest.mark.parametrize("device", DEVICES)
def test_backends_agree_on_their_gradients(device):
    for backend in versions(device):
        if INTERPRETED:  # the derivative is the same code; the values that it needs are enough here
            x = noise(2, 4, device=device).requires_grad_()
            sum((c**2).sum() for c in flat(dwt2(x, "haar", backend=backend))).backward()
            assert torch.allclose(x.grad, 2 * x.detach(), atol=1e-12)
        else:
            gradients_are_right(partial(noise, device=device), {"wavelet": "db2", "backend": backend})


def gradients_are_right(noise, how):
    x, image = noise(2, 6).requires_grad_(), noise(2, 4).requires_grad_()
    pair = [noise(2, 3, seed=s).requires_grad_() for s in (1, 2)]
    parts = [noise(1, 2, seed=s).requires_grad_() for s in range(4)]
    check = partial(torch.autograd.gradcheck, check_forward_ad=True)
    assert check(lambda x: tuple(dwt(x, **how)), x)
    assert check(lambda *c: idwt(list(c), **how), pair)
    assert check(lambda x: tuple(flat(dwt2(x, **how))), image)
    assert check(lambda a, *d: idwt2([a, d], **how), parts)
    assert torch.autograd.gradgradcheck(lambda x: (dwt(x, **how)[1] ** 3).sum(), x)


def test_the_triton_versions_pass_these_tests_under_the_interpreter(interpreted):
    interpreted("backends_agree")


def test_the_triton_kernels_compile_ahead_of_time_for_hopper(compiled):
    code = """
from physgen.kernels import wavelet

functions = [wavelet.triton_analyse_rows, wavelet.triton_synthesise_rows]
functions += [wavelet.triton_analyse_images, wavelet.triton_synthesise_images]
# Triton makes a constant of each integer argument that is 1: every kernel has to compile so too.
for later in functions:
    for kind, p, ones in (("*fp32", 4, ()), ("*fp64", 2, ()), ("*fp64", 1, ("n", "m"))):
        function = later.ready()
        constants = {"P": p, "BLOCK": 64} | {name: 1 for name in ones if name in function.arg_names}
        types = dict.fromkeys(("n", "m"), "i32") | dict.fromkeys(constants, "constexpr")
        signature = {name: types.get(name, kind) for name in function.arg_names}
        build(function, signature, constants)
"""
    assert compiled(code) == 12


# ------------------------------------------------------------------------------------------------------ the filters


@pytest.mark.parametrize("wavelet", WAVELETS)
def test_filters_are_those_of_pywavelets(wavelet):
    h, g = filters(wavelet)
    there = pywt.Wavelet(wavelet)
    assert h.dtype == g.dtype == torch.float64
    assert close(
        [h, g],
        [torch.tensor(there.rec_lo, dtype=torch.float64), torch.tensor(there.rec_hi, dtype=torch.float64)],
        1e-12,
    )


@pytest.mark.parametrize("wavelet", WAVELETS)
def test_filters_are_orthonormal_and_of_shortest_delay(wavelet):
    h, g = filters(wavelet)
    p = len(h) // 2
    for first, second, at_zero in ((h, h, 1.0), (g, g, 1.0), (h, g, 0.0)):
        for k in range(p):
            product = float((first[: 2 * p - 2 * k] * second[2 * k :]).sum())
            assert abs(product - (at_zero if k == 0 else 0.0)) < 1e-13
    assert abs(float(h.sum()) - 2**0.5) < 1e-13
    # Of all filters with the same |H|, the one whose roots lie inside has the largest partial sums of h²: the
    # reversed filter, whose roots lie outside, has smaller ones.
    assert bool((torch.cumsum(h**2, 0) >= torch.cumsum(h.flip(0) ** 2, 0) - 1e-13).all())
    assert p == 1 or float(h[0] ** 2) > float(h[-1] ** 2)


def test_filters_do_not_share_memory_with_later_calls():
    filters("db3")[0].zero_()
    assert float(filters("db3")[0].sum()) > 1


def test_haar_is_the_half_sum_and_the_half_difference():
    a, d = dwt(torch.tensor([3.0, 1.0, 5.0, 9.0], dtype=torch.float64), "haar")
    root = 2**0.5
    assert torch.allclose(a, torch.tensor([4 / root, 14 / root], dtype=torch.float64))
    assert torch.allclose(d, torch.tensor([2 / root, -4 / root], dtype=torch.float64))  # left − right
    x = torch.tensor([[1.0, 2.0], [4.0, 8.0]], dtype=torch.float64)
    a, (h, v, d) = dwt2(x, "haar")
    assert [float(c) for c in (a, h, v, d)] == pytest.approx([7.5, -4.5, -2.5, 1.5])  # h along axis −2


# ---------------------------------------------------------------------------------------------------- the transform


@pytest.mark.parametrize("wavelet", WAVELETS)
def test_the_energy_is_that_of_the_coefficients(wavelet):
    x = noise(3, 48)
    assert torch.allclose(sum((c**2).sum(-1) for c in dwt(x, wavelet, 4)), (x**2).sum(-1), rtol=1e-13)
    x = noise(3, 12, 40)
    total = sum((c**2).sum((-2, -1)) for c in flat(dwt2(x, wavelet, 2)))
    assert torch.allclose(total, (x**2).sum((-2, -1)), rtol=1e-13)


@pytest.mark.parametrize("wavelet", WAVELETS)
def test_the_adjoint_is_the_inverse(wavelet):
    x, y = noise(40), noise(40, seed=1)
    coefficients = [noise(*c.shape, seed=s) for s, c in enumerate(dwt(y, wavelet, 3))]
    left = sum((a * b).sum() for a, b in zip(dwt(x, wavelet, 3), coefficients, strict=True))
    assert torch.allclose(left, x @ idwt(coefficients, wavelet), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("wavelet", WAVELETS)
def test_details_of_polynomials_below_the_order_vanish_away_from_the_wrap_and_those_of_the_order_do_not(
    wavelet,
):
    p, n = len(filters(wavelet)[0]) // 2, 64
    t = torch.linspace(-1, 1, n, dtype=torch.float64)
    inside = slice(p // 2 + 1, n // 2 - p // 2 - 1)  # windows 2k − p + 1 … 2k + p without the ends
    for degree in range(p):
        assert float(dwt(t**degree, wavelet)[1][inside].abs().max()) < 1e-12
    # The next degree does not vanish: Σ iᵖ g_i is p! times a number of order one, and t has steps of 2/63.
    assert float(dwt(t**p, wavelet)[1][inside].abs().min()) > (2 / 63) ** p * 1e-2


@pytest.mark.parametrize("wavelet", WAVELETS)
def test_a_constant_has_one_average_and_no_detail(wavelet):
    a, (h, v, d) = dwt2(torch.full((8, 12), 3.0, dtype=torch.float64), wavelet)
    assert torch.allclose(a, torch.full_like(a, 6.0), atol=1e-12)
    assert max(float(c.abs().max()) for c in (h, v, d)) < 1e-12


@pytest.mark.parametrize("wavelet", WAVELETS)
def test_a_shift_by_two_to_the_levels_shifts_the_coefficients(wavelet):
    x = noise(56)
    for c, shifted, by in zip(dwt(x, wavelet, 3), dwt(x.roll(8), wavelet, 3), (1, 1, 2, 4), strict=True):
        assert torch.allclose(c.roll(by), shifted, atol=1e-13)
    y = noise(8, 12)
    for c, shifted in zip(flat(dwt2(y, wavelet)), flat(dwt2(y.roll((2, 4), (0, 1)), wavelet)), strict=True):
        assert torch.allclose(c.roll((1, 2), (0, 1)), shifted, atol=1e-13)


def test_two_dimensions_are_one_after_the_other():
    x = noise(8, 10)
    low, high = dwt(x, "db3")
    (a, h), (v, d) = ([c.mT for c in dwt(part.mT, "db3")] for part in (low, high))
    assert close(flat(dwt2(x, "db3")), [a, h, v, d], 1e-13)


def test_many_threads_give_what_one_gives(monkeypatch):
    x = noise(70, 256, 256, dtype=torch.float32)
    alone = flat(dwt2(x, "db4"))
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    assert all(torch.equal(a, b) for a, b in zip(flat(dwt2(x, "db4")), alone, strict=True))
    assert torch.allclose(idwt2([alone[0], tuple(alone[1:])], "db4"), x, atol=1e-5)


# ---------------------------------------------------------------------------------------------------------- bad input


def refused(match, function, *args, **kw):
    with pytest.raises(ValueError, match=match):
        function(*args, **kw)


def test_bad_signals_are_refused_by_name():
    x = noise(8)
    for function, good in ((dwt, x), (dwt2, noise(8, 8))):
        refused(r"^wavelet: got 'db9'; expected one of haar", function, good, "db9")
        refused(r"^wavelet: got None", function, good, None)
        refused(r"^x: got torch.int64; expected a float32 or float64", function, good.long(), "haar")
        refused(r"^x: got torch.float16", function, good.half(), "haar")
        refused(r"^x: got ndarray", function, good.numpy(), "haar")
        refused(r"^x: got an axis of 7; expected an even", function, good[..., :7], "haar")
        refused(r"^x: got shape .* expected", function, good[..., :0], "haar")
        refused(r"^levels: got 4 for an axis of 8; expected at most 3", function, good, "haar", 4)
        for levels in (0, -1, 1.5, True, None):
            refused(r"^levels: got .* expected an integer ≥ 1", function, good, "haar", levels)
        for value in (torch.nan, torch.inf, -torch.inf):
            bad = good.clone()
            bad[..., 5] = value
            for wavelet in WAVELETS:
                refused(r"^x: got NaN or infinity", function, bad, wavelet, 3)
        refused(r"^x: got values up to 3e\+38", function, torch.full_like(good, 3e38).float(), "haar")
        refused(r"backend='cuda' cannot run", function, good, "haar", backend="cuda")
    refused(r"^x: got shape \(\); expected 1", dwt, torch.tensor(1.0), "haar")
    refused(r"^x: got shape \(8,\); expected 2", dwt2, x, "haar")
    refused(r"^x: got an axis of 5; expected an even", dwt2, noise(5, 8), "haar")


def test_bad_coefficients_are_refused_by_name():
    a, d = dwt(noise(8), "haar")
    refused(r"^wavelet", idwt, [a, d], "sym4")
    for few in ([a], [], a, None):
        refused(r"^coefficients: expected a list", idwt, few, "haar")
    refused(r"^coefficients\[1\]: got torch.float64 \(3,\)", idwt, [a, d[:3]], "haar")
    refused(r"^coefficients\[1\]: got torch.float32", idwt, [a, d.float()], "haar")
    refused(r"^coefficients\[2\]: got torch.float64 \(4,\)", idwt, [a, d, d], "haar")
    refused(r"^coefficients\[0\]: got torch.int64", idwt, [a.long(), d], "haar")
    refused(r"^coefficients\[0\]: got shape \(0,\)", idwt, [a[:0], d[:0]], "haar")
    a, (h, v, d) = dwt2(noise(8, 8), "haar")
    for details in (h, (h, v), [h, v, d, d]):
        refused(r"^coefficients\[1\]: expected a tuple of horizontal", idwt2, [a, details], "haar")
    refused(r"^coefficients\[1\]: got torch.float64 \(4, 3\)", idwt2, [a, (h, v[:, :3], d)], "haar")
    for value in (torch.nan, torch.inf):
        bad = d.clone()
        bad[0, 0] = value
        for wavelet in WAVELETS:
            refused(r"^coefficients\[1\]: got NaN or infinity", idwt2, [a, (h, v, bad)], wavelet)
            refused(r"^coefficients\[0\]: got NaN or infinity", idwt, [bad, d], wavelet)
    huge = torch.full((4,), 3e38)
    refused(r"^coefficients: the values .* leave the range of torch.float32", idwt, [huge, huge], "haar")


def test_finite_values_whose_sum_overflows_are_taken():
    large = torch.full((64,), 2e37)
    assert torch.allclose(idwt(dwt(large, "db2"), "db2"), large)
    assert not bool(large.sum().isfinite())


def test_the_arguments_stay_as_they_are():
    x = noise(2, 8, 8)
    kept = x.clone()
    coefficients = dwt2(x, "db2", 2)
    before = [c.clone() for c in flat(coefficients)]
    idwt2(coefficients, "db2")
    assert torch.equal(x, kept) and all(map(torch.equal, flat(coefficients), before))


def test_each_level_has_its_three_versions():
    for name in ("analysis", "synthesis", "analysis2", "synthesis2"):
        assert list(getattr(module, name)._fast) == ["numba", "triton"]
