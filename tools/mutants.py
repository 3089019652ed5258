"""`make mutants`: plant each error of tests/mutants.yml in a copy of the project and see the test that must catch it fail.

`make mutants ONLY=TEXT` takes those in files whose path holds the text.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import yaml

from paths import ROOT, quiet_environment

COPIED = ("lib", "tests", "book", "tools", "pyproject.toml", "_toc.yml")


def kills(mutant: dict) -> str:
    """'' if the test passes without the error and fails with it, else what went wrong."""
    with tempfile.TemporaryDirectory() as folder:
        for name in COPIED:
            source, target = ROOT / name, Path(folder) / name
            shutil.copytree(
                source, target, ignore=shutil.ignore_patterns("__pycache__")
            ) if source.is_dir() else shutil.copy(source, target)
        path = Path(folder) / mutant["file"]
        text = path.read_text(encoding="utf-8")
        if text.count(mutant["old"]) != 1:
            return f"the text to change occurs {text.count(mutant['old'])} times in {mutant['file']}"
        if not passes(folder, mutant["test"]):
            return "the test fails without the error"
        path.write_text(text.replace(mutant["old"], mutant["new"]), encoding="utf-8")
        return "SURVIVES" if passes(folder, mutant["test"]) else ""


def passes(folder: str, test: str) -> bool:
    # A site-packages link to this checkout must not win over the copy, nor a cached kernel over the changed one.
    environment = {
        **quiet_environment(),
        "PYTHONPATH": str(Path(folder) / "lib"),
        "NUMBA_CACHE_DIR": tempfile.mkdtemp(dir=folder),
    }
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", test]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    if done.returncode not in (0, 1):
        raise SystemExit(f"{test} could not be run:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.returncode == 0


def main() -> None:
    known = yaml.safe_load((ROOT / "tests" / "mutants.yml").read_text(encoding="utf-8"))
    mutants = [m for m in known if all(text in m["file"] for text in sys.argv[1:])]
    if not mutants:
        sys.exit(f"no planted error in a file whose path holds {' and '.join(sys.argv[1:])}")
    survivors = 0
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for mutant, problem in zip(mutants, pool.map(kills, mutants), strict=True):
            survivors += bool(problem)
            print(
                f"{'killed ' if not problem else problem:9s} {mutant['why']}  [{mutant['test'].rsplit('::', 1)[-1]}]",
                flush=True,
            )
    print(f"{len(mutants) - survivors} of {len(mutants)} planted errors were caught")
    sys.exit(1 if survivors else 0)


if __name__ == "__main__":
    main()
