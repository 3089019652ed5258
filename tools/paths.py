"""Where things are, and fingerprints of what a result was made from: shared by the commands in this folder."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BOOK = ROOT / "book"
BUILD = ROOT / "_build"
EXECUTED = BUILD / "executed"
SOURCE = BUILD / "source"
HTML = BUILD / "html"

# One thread a process (notebooks and tests run side by side), no progress bars, no settings of the user's own.
QUIET = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "NUMBA_NUM_THREADS": "1",
    "PHYSGEN_QUIET": "1",
    "PYDEVD_DISABLE_FILE_VALIDATION": "1",
    "JUPYTER_PLATFORM_DIRS": "1",
    "IPYTHONDIR": str(BUILD / "ipython"),
}


def quiet_environment() -> dict[str, str]:
    """This process's environment with `QUIET` in it; a thread count that the user chose stays."""
    return {**QUIET, **{k: v for k, v in os.environ.items() if k not in ("PHYSGEN_QUIET", "IPYTHONDIR")}}


def chapters() -> list[str]:
    """Names `part/chapter` of all notebooks, in the order of the table of contents."""
    import yaml

    toc = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    files = [c["file"] for part in toc["parts"] for c in part["chapters"]]
    return [f.removeprefix("book/") for f in files if (ROOT / f"{f}.ipynb").exists()]


def files_below(*places: Path) -> list[Path]:
    """Every file below the places that git would not call rubbish, sorted."""
    found = []
    for place in places:
        found += [place] if place.is_file() else place.rglob("*")
    rubbish = {"__pycache__", ".ipynb_checkpoints"}
    return sorted(
        p for p in found if p.is_file() and not rubbish & set(p.parts) and ".egg-info" not in str(p)
    )


def fingerprint(*things: Path | str) -> str:
    """SHA-256 over file names and contents, folders whole, and over plain strings."""
    h = hashlib.sha256()
    for thing in things:
        if isinstance(thing, str):
            h.update(thing.encode())
            continue
        for path in files_below(thing):
            h.update(str(path.relative_to(ROOT)).encode())
            h.update(path.read_bytes())
    return h.hexdigest()
