"""A check that cannot fail is no check: what `ledger.check` accepts, refuses and shows."""

from __future__ import annotations

import math

import pytest
import torch

from physgen import ledger


@pytest.fixture
def book(monkeypatch, tmp_path):
    """A ledger of two entries, so that these tests need not know the book's."""
    path = tmp_path / "ledger.yml"
    path.write_text(
        "- {id: A-1, chapter: part/one, claim: Two and two are four., source: Euclid, verdict: as-written}\n"
        "- {id: A-2, chapter: part/one, kind: notation, claim: A name., source: Euclid, verdict: corrects, states: x, right: y}\n"
    )
    monkeypatch.setattr(ledger, "LEDGER", path)
    ledger.claims.cache_clear()
    yield path
    ledger.claims.cache_clear()


def test_a_claim_within_tolerance_passes_and_one_beyond_it_raises(book):
    ledger.check("A-1", measured=4.009, expected=4, tol=0.01)
    with pytest.raises(AssertionError, match="A-1 does not hold"):
        ledger.check("A-1", measured=4.011, expected=4, tol=0.01)


@pytest.mark.parametrize(
    "measured, expected", [(math.nan, 4), (4, math.nan), (math.inf, 4), (math.inf, math.inf)]
)
def test_nan_and_infinity_fail(book, measured, expected):
    with pytest.raises(AssertionError):
        ledger.check("A-1", measured=measured, expected=expected, tol=1e300)


def test_each_component_of_an_array_is_held(book):
    ledger.check("A-1", measured=torch.tensor([1.0, 2.0]), expected=[1, 2], tol=0)
    with pytest.raises(AssertionError):
        ledger.check("A-1", measured=torch.tensor([1.0, 2.1]), expected=[1, 2], tol=0.05)
    with pytest.raises(ValueError, match="2 values"):
        ledger.check("A-1", measured=[1.0, 2.0], expected=1.0, tol=1)


@pytest.mark.parametrize(
    "words",
    [
        {"id": "Z-9", "measured": 1, "expected": 1, "tol": 0},
        {"id": "A-2", "measured": 1, "expected": 1, "tol": 0},
        {"id": "A-1", "measured": 1, "expected": 1, "tol": -1},
        {"id": "A-1", "measured": 1, "expected": 1, "tol": math.nan},
        {"id": "A-1", "measured": 1, "expected": 1, "tol": math.inf},
        {"id": "A-1", "measured": "1", "expected": 1, "tol": 0},
        {"id": "A-1", "measured": [], "expected": [], "tol": 0},
        {"id": "A-1", "measured": 1j, "expected": 1j, "tol": 0},
    ],
)
def test_bad_input_is_refused(book, words):
    with pytest.raises(ValueError):
        ledger.check(words.pop("id"), **words)


def test_what_is_shown_does_not_depend_on_the_measured_value(book, emitted):
    for measured in (4.001, 4.002):
        ledger.check("A-1", measured=measured, expected=4, tol=0.01)
    (one, first), (two, second) = emitted
    assert one == two and "A-1" in one["text/plain"] and "0.01" in one["text/plain"]
    assert (first["check"]["measured"], second["check"]["measured"]) == ([4.001], [4.002])


def test_outside_a_notebook_the_line_is_printed(book, capsys):
    ledger.check("A-1", measured=4, expected=4, tol=0)
    assert capsys.readouterr().out.startswith("✓ A-1")


@pytest.mark.parametrize(
    "entry, reason",
    [
        ("- {id: B, chapter: c, claim: x, source: s}", "lacks verdict"),
        ("- {id: B, chapter: c, claim: x, source: s, verdict: maybe}", "maybe"),
        ("- {id: B, chapter: c, claim: x, source: s, verdict: corrects}", "states"),
        ("- {id: B, chapter: c, claim: x, source: s, verdict: as-written}\n" * 2, "twice"),
    ],
)
def test_a_ledger_with_a_bad_entry_is_refused(book, entry, reason):
    book.write_text(entry)
    ledger.claims.cache_clear()
    with pytest.raises(ValueError, match=reason):
        ledger.claims()


def test_a_missing_ledger_says_where_it_was_looked_for(book):
    book.unlink()
    with pytest.raises(ValueError, match=r"ledger\.yml"):
        ledger.claims()


def test_values_are_written_to_the_digit_that_the_tolerance_resolves():
    assert ledger.format_values([0.1379056], 2e-6) == "0.1379056"
    assert ledger.format_values([0.98, -5.5, 130.0], 0.05) == "0.98, -5.5, 130"
    assert ledger.format_values([-0.0, 2.3e-16], 1e-12) == "0, 0"
    assert ledger.format_values([-0.0, 2.3e-16], 1e-12, tiny=True) == "0, 2e-16"
    assert ledger.format_values([14, 104, 1882], 0) == "14, 104, 1882"
    assert ledger.format_values(list(range(8)), 0) == "0, 1, 2, 3, 4, 5, … (8 values)"
