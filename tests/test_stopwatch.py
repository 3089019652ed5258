"""Times are shown beside each other and never compared: what nbval sees of a race has no number in it."""

from __future__ import annotations

import json
import time

import pytest

from physgen import stopwatch


def busy(seconds: float):
    def call():
        end = time.process_time() + seconds
        while time.process_time() < end:
            pass

    return call


def test_calls_take_turns_after_a_first_round_that_does_not_count():
    order = []
    seconds = stopwatch.interleaved({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, 3)
    assert order == ["a", "b"] * 4 and set(seconds) == {"a", "b"}


def test_time_is_that_of_the_processor_and_not_of_the_clock():
    seconds = stopwatch.interleaved({"sleeps": lambda: time.sleep(0.05), "works": busy(0.05)}, 1)
    assert seconds["sleeps"] < 0.02 and 0.05 <= seconds["works"] < 0.5


def test_a_race_shows_names_to_nbval_and_times_to_the_page(emitted):
    stopwatch.race("doing nothing & all", {"slow": busy(0.01), "fast": busy(0.001)}, repeats=3)
    ((data, record),) = emitted
    assert data["text/plain"] == "[times] doing nothing & all: slow, fast"
    assert "doing nothing &amp; all" in data["text/html"] and not any(c.isdigit() for c in data["text/html"])
    record = json.loads(json.dumps(record, sort_keys=True))  # as a notebook stores it
    html = stopwatch.times_html(record["what"], record["times"])
    assert html.count("<tr>") == 3 and html.index("slow") < html.index("fast") < html.rindex("1×")


def test_times_are_read_in_the_unit_that_fits_and_beside_the_last():
    html = stopwatch.times_html("x", [("a", 2.5), ("b", 0.05), ("c", 2e-5)])
    for text in ("2.5 s", "125000×", "50 ms", "2500×", "20 µs", "1×"):
        assert text in html


def test_a_race_without_runners_or_rounds_is_refused():
    for calls, repeats in (({}, 3), ({"a": int}, 0)):
        with pytest.raises(ValueError, match="expected at least one of each"):
            stopwatch.interleaved(calls, repeats)
