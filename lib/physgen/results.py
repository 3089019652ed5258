"""Results that took too long for a page: written once with where they come from, read by notebooks and benchmarks.

A result is a JSON file ``{what, command, device, versions, date, seconds, seed, values}``.
"""

from __future__ import annotations

import json
import platform
from datetime import date
from importlib.metadata import version
from pathlib import Path

__all__ = ["FIELDS", "load", "save"]

FIELDS = ("what", "command", "device", "versions", "date", "seconds", "seed", "values")
DATA = Path(__file__).resolve().parents[2] / "book" / "data"


def save(path: Path, *, what: str, command: str, seconds: float, seed: int, values: dict) -> None:
    """Write a result with the machine, the versions and the date; an older file stays until the new one is whole."""
    import torch

    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    record = {
        "what": what,
        "command": command,
        "device": gpu or f"CPU {platform.machine()}, {torch.get_num_threads()} threads",
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("numpy", "torch", "numba")},
        },
        "date": date.today().isoformat(),
        "seconds": round(seconds, 1),
        "seed": seed,
        "values": values,
    }
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_suffix(".tmp")
    scratch.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    scratch.replace(path)


def load(name: str) -> dict:
    """The committed result `book/data/NAME.json`.

    Raises
    ------
    ValueError
        If there is no such file, or one of its fields is missing.
    """
    path = DATA / f"{name}.json"
    if not path.exists():
        raise ValueError(
            f"no result {name!r} in {DATA}; make it with make paper ONLY={name} (how_fast: make bench)"
        )
    record = json.loads(path.read_text(encoding="utf-8"))
    if missing := set(FIELDS) - record.keys():
        raise ValueError(f"{path} lacks {', '.join(sorted(missing))}")
    return record
