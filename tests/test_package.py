"""The package at its door: device, size, results, versions, style, and imports that only point down."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import torch
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import lock
import physgen
from physgen import results
from physgen.memorization import images

ROOT = Path(__file__).resolve().parents[1]


def run(*command: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, text=True)


def test_device_is_the_best_one_unless_the_environment_says_otherwise(monkeypatch):
    monkeypatch.delenv("PHYSGEN_DEVICE", raising=False)
    assert physgen.device().type == ("cuda" if torch.cuda.is_available() else "cpu")
    monkeypatch.setenv("PHYSGEN_DEVICE", "cpu")
    assert physgen.device() == torch.device("cpu")
    monkeypatch.setenv("PHYSGEN_DEVICE", "abacus")
    with pytest.raises(ValueError, match="abacus"):
        physgen.device()


def test_asking_for_a_gpu_that_is_not_there_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setenv("PHYSGEN_DEVICE", "cuda")
    with pytest.raises(ValueError, match="no CUDA GPU"):
        physgen.device()


def test_scale_picks_the_size(monkeypatch):
    monkeypatch.delenv("PHYSGEN_SCALE", raising=False)
    assert physgen.scale(laptop=1, paper=2) == 1
    monkeypatch.setenv("PHYSGEN_SCALE", "paper")
    assert physgen.scale(laptop=1, paper=2) == 2
    monkeypatch.setenv("PHYSGEN_SCALE", "huge")
    with pytest.raises(ValueError, match="huge"):
        physgen.scale(laptop=1, paper=2)


def test_a_result_bears_its_provenance_and_comes_back(monkeypatch, tmp_path):
    monkeypatch.setattr(results, "DATA", tmp_path)
    results.save(tmp_path / "x.json", what="w", command="c", seconds=1.23, seed=7, values={"a": [1.5]})
    record = results.load("x")
    assert (
        record["values"] == {"a": [1.5]}
        and record["versions"]["torch"].startswith("2.")
        and record["seed"] == 7
    )


def test_a_result_that_is_missing_or_incomplete_is_refused(monkeypatch, tmp_path):
    monkeypatch.setattr(results, "DATA", tmp_path)
    with pytest.raises(ValueError, match="make paper ONLY=y"):
        results.load("y")
    (tmp_path / "y.json").write_text(json.dumps({"what": "w"}))
    with pytest.raises(ValueError, match="lacks"):
        results.load("y")


def test_committed_results_and_images_are_whole():
    for path in (ROOT / "book" / "data").glob("*.json"):
        (images if path.with_suffix(".npz").exists() else results).load(path.stem)


def test_lock_and_environment_agree_with_the_project():
    versions = lock.locked()
    for requirement in lock.direct():
        assert requirement.specifier.contains(versions[canonicalize_name(requirement.name)]), requirement
    assert (ROOT / "environment.yml").read_text() == lock.environment()
    python = yaml.safe_load(lock.environment())["dependencies"][0]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert Requirement(python).specifier == Requirement("python" + project["requires-python"]).specifier


def test_torch_is_pinned_exactly():
    # A range would let pip bring a CUDA build of several gigabytes on Linux.
    (torch_requirement,) = (r for r in lock.direct() if r.name == "torch")
    assert str(torch_requirement.specifier).startswith("==")


@pytest.mark.parametrize("command", [["ruff", "check"], ["ruff", "format", "--check"]])
def test_code_is_clean(command):
    done = run("-m", *command, "--no-cache", ".")
    assert done.returncode == 0, done.stdout + done.stderr


def test_imports_only_point_down():
    done = subprocess.run(
        [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_dependency_is_used():
    used = "\n".join(
        p.read_text(encoding="utf-8")
        for d in ("lib", "tests", "tools", "benchmarks", "book")
        for p in (ROOT / d).rglob("*")
        if p.suffix in (".py", ".ipynb")
    )
    used += (
        (ROOT / "_config.yml").read_text()
        + (ROOT / "Makefile").read_text()
        + (ROOT / "pyproject.toml").read_text().split("[tool.")[1]
    )
    modules = {
        "pyyaml": "yaml",
        "scikit-learn": "sklearn",
        "jupyter-book": "jupyter-book",
        "pytest-xdist": '"-n"',
        "import-linter": "lint-imports",
    }
    for requirement in lock.direct():
        name = modules.get(requirement.name, requirement.name.replace("-", "_"))
        assert name in used or requirement.name in used, requirement


def test_importing_the_package_brings_no_heavy_library():
    code = "import sys, physgen; print([m for m in ('numba', 'triton', 'matplotlib', 'scipy', 'torch') if m in sys.modules])"
    assert run("-c", code).stdout.strip() == "[]"
