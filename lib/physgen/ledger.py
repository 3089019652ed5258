"""The ledger of claims: each statement of the book stands once in `book/ledger.yml` and is checked once, in its chapter.

`check` raises unless ``abs(measured - expected) <= tol``. What it prints is the same on every machine; the measured value travels in the
metadata of the cell's output, from where the site builds its Ledger page.
"""

from __future__ import annotations

import math
from functools import cache
from html import escape
from pathlib import Path

from physgen.emit import emit

__all__ = ["LEDGER", "VERDICTS", "check", "claims"]

LEDGER = Path(__file__).resolve().parents[2] / "book" / "ledger.yml"
VERDICTS = {
    "as-written": "the lecture notes are right",
    "corrects": "the lecture notes are wrong here",
    "completes": "the lecture notes stop short here",
}


@cache
def claims() -> dict[str, dict]:
    """All entries of `book/ledger.yml` by id.

    Raises
    ------
    ValueError
        If the ledger is missing, or an entry lacks a field, repeats an id or bears an unknown verdict.
    """
    import yaml

    if not LEDGER.exists():
        raise ValueError(
            f"no ledger at {LEDGER}; check() works in a checkout of the book, installed with pip install -e ."
        )
    table = {}
    for entry in yaml.safe_load(LEDGER.read_text(encoding="utf-8")):
        missing = {"id", "chapter", "claim", "source", "verdict"} - entry.keys()
        if missing:
            raise ValueError(f"ledger entry {entry.get('id', entry)} lacks {', '.join(sorted(missing))}")
        if entry["verdict"] not in VERDICTS:
            raise ValueError(
                f"ledger entry {entry['id']}: verdict {entry['verdict']!r} is none of {', '.join(VERDICTS)}"
            )
        if entry["verdict"] != "as-written" and not {"states", "right"} <= entry.keys():
            raise ValueError(
                f"ledger entry {entry['id']} {entry['verdict']} the notes, so it needs `states` and `right`"
            )
        if entry["id"] in table:
            raise ValueError(f"ledger id {entry['id']} occurs twice")
        table[entry["id"]] = entry
    return table


def check(id: str, *, measured, expected, tol) -> None:
    """Hold a claim to its number: ``abs(measured - expected) <= tol`` for each component; NaN fails.

    Parameters
    ----------
    id : str
        The claim in `book/ledger.yml`.
    measured, expected : float, or array_like of one shape
        What was computed on this page, and the exact or published value.
    tol : float, ≥ 0
        Absolute; derived (Monte-Carlo error, order of the discretisation, rounding), which the line above the check explains.

    Raises
    ------
    AssertionError
        If the claim does not hold.
    ValueError
        If the id is not in the ledger, is of kind `notation`, the shapes differ, or tol is negative or not finite.
    """
    entry = claims().get(id)
    if entry is None:
        raise ValueError(f"{id!r} is not in book/ledger.yml")
    if entry.get("kind") == "notation":
        raise ValueError(f"{id} is of kind notation: it has no number to check")
    if not (isinstance(tol, (int, float)) and 0 <= tol < math.inf):
        raise ValueError(f"tol must be a finite number >= 0, got {tol!r}")
    measured_values, expected_values = _numbers(measured, "measured"), _numbers(expected, "expected")
    if len(measured_values) != len(expected_values):
        raise ValueError(
            f"{id}: measured has {len(measured_values)} values, expected has {len(expected_values)}"
        )
    for m, e in zip(measured_values, expected_values, strict=True):
        if not abs(m - e) <= tol:
            raise AssertionError(
                f"{id} does not hold: measured {m!r}, expected {e!r}, tolerance {tol!r}\n{entry['claim']}"
            )
    _show(id, entry, measured_values, expected_values, tol)


def _numbers(value, name: str) -> list[float]:
    import numpy as np

    array = np.atleast_1d(np.asarray(value.detach().cpu() if hasattr(value, "detach") else value))
    if array.size == 0 or array.dtype.kind not in "biuf":
        raise ValueError(f"{name} must be a real number or a non-empty array of them, got {value!r}")
    return [float(v) for v in array.ravel()]


def _show(id: str, entry: dict, measured: list[float], expected: list[float], tol: float) -> None:
    goal = f"expected {format_values(expected, tol)}, tolerance {tol:.2g}"
    data = {
        "text/plain": f"✓ {id}  {entry['claim']}  ({goal})",
        "text/html": f'<div class="pg-claim"><b>✓ {id}</b> {escape(entry["claim"], quote=False)} <i>({goal})</i></div>',
    }
    record = {"id": id, "measured": measured, "expected": expected, "tol": tol}
    emit(data, {"check": record})


def format_values(values: list[float], tol: float, tiny: bool = False) -> str:
    """Values to the digit that the tolerance resolves, at most six of them; rounding errors are 0, or `tiny` gives their size."""
    texts = [_format(0.0 if abs(v) < min(tol, 1e-9) and not tiny else v, tol) for v in values]
    return ", ".join(texts[:6]) + (f", … ({len(texts)} values)" if len(texts) > 6 else "")


def _format(value: float, tol: float) -> str:
    if value == 0 or tol == 0:
        return f"{value + 0.0:.15g}"  # + 0.0 turns −0 into 0
    if abs(value) < min(tol, 1e-3):
        return f"{value:.1g}"
    if abs(value) >= 1e6:
        return f"{value:.8g}"
    decimals = min(max(0, 1 - math.floor(math.log10(tol))), 15)
    text = f"{value:.{decimals}f}"
    return text.rstrip("0").rstrip(".") if decimals else text
