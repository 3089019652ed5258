"""One definition, several speeds: how every kernel of the book chooses the code that runs.

A kernel is a plain torch function, its definition and its documentation, decorated with `@kernel`. Faster
versions of it are registered beside it with `@name.backend("numba")` or `@name.backend("triton")`; they take
the same arguments and return the same values (integer results bit for bit). A third kind, `"chunks"`, is
torch again, on any device, with a workspace that does not grow with the problem. A call picks one: Triton for
CUDA tensors or numba for CPU tensors, else chunks, else the definition; `backend=` or the environment
variable `PHYSGEN_BACKEND` names one instead, and what cannot run says why. numba and Triton cost seconds to
import, so `numba_function` and `triton_function` put them off until a fast version is called.
"""

from __future__ import annotations

import functools
import importlib.util
import inspect
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext

import torch

__all__ = ["kernel", "numba_function", "over_rows", "triton_function"]

LOCK = threading.RLock()


def kernel(definition: Callable) -> Kernel:
    """Make a kernel of the torch function that defines it.

    Parameters
    ----------
    definition
        The torch function: readable, exact, and right on every device that torch knows.

    Returns
    -------
    Kernel
        Called like the definition, with one more keyword, ``backend="auto" | "torch" | "numba" | "triton" |
        "chunks"``.
    """
    return Kernel(definition)


class Kernel:
    """A torch definition and the fast versions of it that `backend` registers."""

    def __init__(self, definition: Callable):
        self.definition = definition
        self._signature = inspect.signature(definition)
        self._check: Callable = dict
        self._fast: dict[str, tuple[Callable, tuple[str, ...], Callable]] = {}
        functools.update_wrapper(self, definition)

    def inputs(self, check: Callable) -> Callable:
        """Register what the arguments of every call pass through, whatever the backend.

        Parameters
        ----------
        check
            Takes the arguments by name, defaults filled in, and returns a dict of them in the one form that
            the versions expect, or raises ValueError.
        """
        self._check = check
        return check

    def backend(self, name: str, needs: tuple[str, ...] = (), when: Callable = lambda *args, **kw: True):
        """Register the decorated function as the fast version `name`.

        Parameters
        ----------
        name
            ``"numba"`` (CPU tensors), ``"triton"`` (CUDA tensors, or CPU tensors under
            ``TRITON_INTERPRET=1``) or ``"chunks"`` (torch, any device).
        needs
            The packages that it imports.
        when
            Called with the arguments of a call: True if the version can take them, else the reason as a
            string.
        """

        def register(function: Callable) -> Callable:
            self._fast[name] = (function, needs, when)
            return function

        return register

    def backends(self) -> list[str]:
        """The backends of this kernel that can run on this machine, the definition (``"torch"``) first."""
        return ["torch", *(name for name in self._fast if self._missing(name) is None)]

    def reference(self, *args, **kw):
        """The torch definition, on any device: what every other version must equal."""
        return self(*args, backend="torch", **kw)

    def __call__(self, *args, backend: str = "auto", **kw):
        bound = self._signature.bind(*args, **kw)
        bound.apply_defaults()
        arguments = self._check(**bound.arguments)
        if backend == "auto":
            backend = os.environ.get("PHYSGEN_BACKEND") or "auto"
        if backend == "auto":
            order = "triton" if _device(arguments).type == "cuda" else "numba", "chunks"
            able = (name for name in order if name in self._fast and not self._refusal(name, arguments))
            backend = next(able, "torch")
        elif reason := self._refusal(backend, arguments):
            raise ValueError(f"{self.__name__}: backend={backend!r} cannot run this call: {reason}")
        function = self.definition if backend == "torch" else self._fast[backend][0]
        with torch.cuda.device(device) if (device := _device(arguments)).type == "cuda" else nullcontext():
            return function(**arguments)

    def _refusal(self, name: str, arguments: dict) -> str | None:
        """Why the backend cannot run this call; None if it can."""
        if name == "torch":
            return None
        if name not in self._fast:
            return f"it has no such version; expected one of {['auto', 'torch', *self._fast]}"
        if reason := self._missing(name):
            return reason
        device, wanted = _device(arguments).type, "cuda" if name == "triton" and not _interpreted() else "cpu"
        if device != wanted and name != "chunks":
            return f"the tensors are on {device!r}, and here it runs on {wanted!r}"
        answer = self._fast[name][2](**arguments)
        return None if answer is True else str(answer)

    def _missing(self, name: str) -> str | None:
        """What this machine lacks to run the backend; None if nothing."""
        for package in self._fast[name][1]:
            if importlib.util.find_spec(package) is None:
                return f"the package {package!r} is not installed"
        if name == "triton" and not (_interpreted() or torch.cuda.is_available()):
            return "torch sees no CUDA GPU here (TRITON_INTERPRET=1 runs Triton on the CPU, slowly)"
        return None


def _device(arguments: dict) -> torch.device:
    tensors = (value for value in arguments.values() if isinstance(value, torch.Tensor))
    return next((tensor.device for tensor in tensors), torch.device("cpu"))


def _interpreted() -> bool:
    return os.environ.get("TRITON_INTERPRET") == "1"


class Later:
    """A function to be compiled, whose compiler is imported when it is first called.

    A compiler looks up the functions that this one calls among its globals; so the first call puts, in every
    module that is involved, the compiled functions in the place of these stand-ins.
    """

    def __init__(self, function: Callable, package: str, options: dict):
        self.function, self.package, self.options = function, package, options
        functools.update_wrapper(self, function)

    @functools.cached_property
    def compiled(self):
        if self.package == "numba":
            import numba

            return numba.njit(**({"cache": True, "nogil": True} | self.options))(self.function)
        import triton

        self.function.__globals__["tl"] = triton.language
        return triton.jit(self.function, **self.options)

    def ready(self):
        """The compiled function, its module's stand-ins replaced."""
        _replace(self.function.__globals__, self.package)
        return self.compiled

    def __call__(self, *args, **kw):
        return self.ready()(*args, **kw)

    def __getitem__(self, grid):
        return self.ready()[grid]


def _replace(names: dict, package: str) -> None:
    with LOCK:
        for name, value in list(names.items()):
            if isinstance(value, Later) and value.package == package:
                names[name] = value.compiled
                _replace(value.function.__globals__, package)


def numba_function(function: Callable | None = None, **options):
    """`numba.njit(cache=True, nogil=True, **options)`, put off until the first call."""
    return Later(function, "numba", options) if function else (lambda later: Later(later, "numba", options))


def triton_function(function: Callable | None = None, **options):
    """`triton.jit(**options)`, put off until the first launch, when the module's `tl` is set, too."""
    return Later(function, "triton", options) if function else (lambda later: Later(later, "triton", options))


def over_rows(function: Callable, rows: int, work: float) -> None:
    """Call ``function(start, stop)`` on ranges that cover the rows, on as many threads as torch uses.

    Threads of Python, not of numba: those cannot be forked, and set the number of torch's threads. `work` is
    the number of elementary operations, about a nanosecond each; below 5 ms there is one range.
    """
    parts = 1 if work < 5e6 else max(1, min(rows, torch.get_num_threads()))
    edges = [rows * part // parts for part in range(parts + 1)]
    if parts == 1:
        return function(0, rows)
    with ThreadPoolExecutor(parts) as pool:
        list(pool.map(function, edges[:-1], edges[1:]))
