"""How a kernel chooses the code that runs, and what it says when it cannot."""

import multiprocessing
import subprocess
import sys
import types

import pytest
import torch

from physgen.kernels import dispatch, glauber, philox
from physgen.kernels.dispatch import kernel, numba_function, over_rows


def double(x, *, shift=0):
    """Twice x, shifted."""
    return 2 * x + shift


@pytest.fixture
def doubling():
    """A kernel whose fast versions say which one ran."""
    ran = []
    made = kernel(double)

    @made.backend("numba", when=lambda x, **kw: x.numel() < 4 or "x is long")
    def fast(x, shift):
        ran.append("numba")
        return 2 * x + shift

    made.ran = ran
    return made


def test_auto_takes_the_fast_version_for_cpu_tensors_and_the_definition_where_it_cannot_run(doubling):
    assert torch.equal(doubling(torch.ones(3), shift=1), torch.full((3,), 3.0))
    assert doubling.ran == ["numba"]
    assert torch.equal(doubling(torch.ones(5)), torch.full((5,), 2.0))
    assert torch.equal(doubling.reference(torch.ones(3)), torch.full((3,), 2.0))
    assert torch.equal(doubling(torch.ones(3), backend="torch"), torch.full((3,), 2.0))
    assert doubling.ran == ["numba"]


def test_auto_takes_chunks_where_no_compiled_version_can_run_and_names_it_on_request(doubling):
    @doubling.backend("chunks", when=lambda x, **kw: x.numel() < 6 or "x is very long")
    def chunks(x, shift):
        doubling.ran.append("chunks")
        return 2 * x + shift

    for size in (3, 5, 7):  # numba's, beyond numba, beyond both
        assert torch.equal(doubling(torch.ones(size)), torch.full((size,), 2.0))
    assert doubling.ran == ["numba", "chunks"]
    doubling(torch.ones(3), backend="chunks")
    assert doubling.ran[-1] == "chunks" and "chunks" in doubling.backends()
    with pytest.raises(ValueError, match="x is very long"):
        doubling(torch.ones(7), backend="chunks")


def test_an_explicit_backend_that_cannot_run_says_why(doubling):
    with pytest.raises(ValueError, match="double: backend='numba' cannot run this call: x is long"):
        doubling(torch.ones(5), backend="numba")
    with pytest.raises(ValueError, match="'meta', and here it runs on 'cpu'"):
        doubling(torch.ones(3, device="meta"), backend="numba")
    with pytest.raises(ValueError, match=r"no such version; expected one of \['auto', 'torch', 'numba'\]"):
        doubling(torch.ones(3), backend="fortran")

    @doubling.backend("triton", needs=("a_package_that_is_not_there",))
    def absent(x, shift):
        raise AssertionError

    with pytest.raises(ValueError, match="the package 'a_package_that_is_not_there' is not installed"):
        doubling(torch.ones(3), backend="triton")
    assert doubling.backends() == ["torch", "numba"]


def test_triton_without_a_gpu_and_without_its_interpreter_is_refused(doubling, monkeypatch):
    doubling.backend("triton")(double)
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert doubling.backends() == ["torch", "numba"]
    with pytest.raises(ValueError, match="no CUDA GPU here"):
        doubling(torch.ones(3), backend="triton")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with pytest.raises(ValueError, match="on 'cpu', and here it runs on 'cuda'"):
        doubling(torch.ones(3), backend="triton")
    assert doubling(torch.ones(3)).sum() == 6 and doubling.ran == ["numba"]


def test_the_environment_variable_forces_a_backend_where_the_call_names_none(doubling, monkeypatch):
    monkeypatch.setenv("PHYSGEN_BACKEND", "torch")
    doubling(torch.ones(3))
    assert doubling.ran == []
    doubling(torch.ones(3), backend="numba")
    assert doubling.ran == ["numba"]
    monkeypatch.setenv("PHYSGEN_BACKEND", "abacus")
    with pytest.raises(ValueError, match="backend='abacus' cannot run"):
        doubling(torch.ones(3))


def test_every_backend_gets_the_checked_arguments(doubling):
    @doubling.inputs
    def checked(x, shift):
        if not isinstance(shift, int):
            raise ValueError(f"shift: got {shift!r}; expected an int")
        return {"x": x.double(), "shift": shift + 10}

    for backend in ("torch", "numba", "auto"):
        assert doubling(torch.ones(1), backend=backend).dtype == torch.float64
        assert doubling(torch.ones(1), shift=1, backend=backend).item() == 13
        with pytest.raises(ValueError, match="shift: got 'a'"):
            doubling(torch.ones(1), shift="a", backend=backend)


def test_a_kernel_keeps_the_name_and_the_signature_of_its_definition(doubling):
    assert (
        doubling.__name__ == "double"
        and doubling.__doc__ == "Twice x, shifted."
        and doubling.__wrapped__ is double
    )
    with pytest.raises(TypeError, match="unexpected keyword argument 'shfit'"):
        doubling(torch.ones(1), shfit=1)
    with pytest.raises(TypeError, match="missing a required argument: 'x'"):
        doubling()


def test_importing_the_kernels_imports_no_compiler():
    code = (
        "import sys, torch; before = set(sys.modules)\n"
        "import physgen, physgen.kernels.dispatch, physgen.kernels.philox, physgen.kernels.glauber\n"
        "new = set(sys.modules) - before\n"
        "print(sorted(m for m in new if m.split('.')[0] in ('numba', 'llvmlite', 'triton')))\n"
        "print(sorted({m.split('.')[0] for m in new} - {'physgen'} - set(sys.stdlib_module_names)))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split("\n")[:2] == ["[]", "[]"], run.stdout


def test_the_book_kernels_have_their_three_versions():
    signs = torch.ones(1, 2, dtype=torch.int8)
    for made, args, kw in (
        (philox.philox, (0, 0, 0, 0, 0), {}),
        (glauber.sequential, (signs, torch.zeros(2, 2).double(), None, 1.0), {"updates": 0, "seed": 0}),
        (glauber.sequential_patterns, (signs, signs, 1.0), {"updates": 0, "seed": 0}),
        (glauber.parallel, (signs, torch.zeros(2, 2).double(), None, 1.0), {"steps": 0, "seed": 0}),
        (glauber.parallel_patterns, (signs, signs, 1.0), {"steps": 0, "seed": 0}),
    ):
        assert made.backends()[:2] == ["torch", "numba"]
        with pytest.raises(ValueError, match=r"expected one of \['auto', 'torch', 'numba', 'triton'\]"):
            made(*args, backend="none", **kw)


@pytest.mark.parametrize("threads", [1, 2, 3, 7])
@pytest.mark.parametrize("rows", [0, 1, 2, 5, 100])
def test_ranges_cover_each_row_once_on_any_number_of_threads(rows, threads, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    for work in (0, 1e9):
        seen = []
        over_rows(lambda start, stop, seen=seen: seen.extend(range(start, stop)), rows, work)
        assert sorted(seen) == list(range(rows))


def test_an_error_in_a_thread_reaches_the_caller(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)

    def broken(start, stop):
        raise ArithmeticError(start)

    with pytest.raises(ArithmeticError):
        over_rows(broken, 4, 1e9)


def test_functions_compiled_late_find_each_other_across_modules():
    first, second = types.ModuleType("first"), types.ModuleType("second")
    exec("def inner(x):\n    return x + 1\ndef unused(x):\n    return x", first.__dict__)
    exec(
        "def middle(x):\n    return 2 * inner(x)\ndef outer(x):\n    return middle(x) + inner(x)",
        second.__dict__,
    )
    options = {"cache": False}
    for module, names in ((first, ("inner", "unused")), (second, ("middle", "outer"))):
        for name in names:
            setattr(module, name, dispatch.Later(getattr(module, name), "numba", options))
    second.inner = first.inner
    assert second.outer(3) == 12
    assert not any(isinstance(value, dispatch.Later) for value in vars(second).values())
    assert not isinstance(first.inner, dispatch.Later)


def test_numba_function_takes_options_or_none():
    plain = numba_function(lambda x: x)
    assert isinstance(plain, dispatch.Later) and plain.options == {}
    assert numba_function(fastmath=True)(lambda x: x).options == {"fastmath": True}


def forked(queue):
    signs = torch.ones(64, 50, dtype=torch.int8)
    queue.put(
        glauber.sequential_patterns(signs, signs[:3], 1.0, updates=20000, seed=1, backend="numba").tolist()
    )


def test_kernels_run_in_a_forked_process_after_they_ran_in_its_parent(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    forked(queue)
    expected = queue.get(timeout=60)
    child = context.Process(target=forked, args=(queue,))
    child.start()
    assert queue.get(timeout=60) == expected
    child.join(timeout=60)
    assert child.exitcode == 0
