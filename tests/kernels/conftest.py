"""Triton without a GPU: each in a process of its own, since it decides on import whether it interprets or compiles."""

import os
import subprocess
import sys

import pytest

HOPPER = """
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

count = 0


def build(function, signature, constants):
    global count
    source = ASTSource(fn=function, signature=signature, constexprs=constants)
    assert len(triton.compile(source, target=GPUTarget("cuda", 90, 32)).asm["cubin"]) > 0
    count += 1

"""


@pytest.fixture
def interpreted(request):
    """Run the tests of this file whose names hold the keyword, with Triton under its interpreter."""

    def run(keyword: str) -> None:
        options = ["-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-k", keyword]
        command = [sys.executable, "-m", "pytest", *options, str(request.path)]
        found = subprocess.run(
            command, env=os.environ | {"TRITON_INTERPRET": "1"}, capture_output=True, text=True
        )
        assert found.returncode == 0 and "passed" in found.stdout, found.stdout + found.stderr

    return run


@pytest.fixture
def compiled():
    """Run code that calls ``build(function, signature, constants)``: how many kernels it compiled for sm_90."""

    def run(code: str) -> int:
        environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
        command = [sys.executable, "-c", HOPPER + code + "\nprint(count)"]
        found = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert found.returncode == 0, found.stdout + found.stderr
        return int(found.stdout)

    return run
