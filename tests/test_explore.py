"""Figures with sliders: what a page stores of them, and what a kernel sends when a slider moves."""

from __future__ import annotations

import base64
import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from physgen import explorables
from physgen.explore import LIMIT, Plot, band, explore, heat, hline, line, points, quantise, vline

X = torch.linspace(0, 1, 11, dtype=torch.float64)


def decode(record: dict) -> np.ndarray:
    """What plot.js makes of a stored array."""
    levels = np.frombuffer(base64.b64decode(record["data"]), dtype="<u2").astype(float)
    values = record["low"] + (record["high"] - record["low"]) * levels / 65534
    return np.where(levels == 65535, np.nan, values).reshape(record["shape"])


def array(params: dict, mark: int, name: str, frame: int) -> np.ndarray:
    ref = params["marks"][mark]["data"][name]
    return decode(params["arrays"][ref[frame] if isinstance(ref, list) else ref])


@pytest.fixture
def made(monkeypatch):
    """Explore, and get what was to be displayed: the parameters for the page and the widget for JupyterLab."""

    def run(curves, **options):
        caught = {}

        def show(name, params, *, alt, caption, view):
            explorables.html(name, params, alt, caption)
            caught.update(name=name, params=params, view=view)

        with monkeypatch.context() as patch:
            patch.setattr(explorables, "show", show)
            explore(curves, alt="what is seen", caption="A figure.", **options)
        assert caught["name"] == "plot"
        return caught["params"], caught["view"]

    return run


def slope(b):
    return Plot(line(X, b * X), x="$x$", y="$y$")


# ---- what the page stores


@settings(deadline=None, max_examples=50)
@given(arrays.arrays(np.float64, st.integers(1, 40), elements=st.floats(-1e6, 1e6) | st.just(np.nan)))
def test_a_stored_array_is_right_to_half_a_level_and_its_gaps_stay(values):
    record = quantise(values)
    restored = decode(json.loads(json.dumps(record)))
    assert np.array_equal(np.isnan(restored), np.isnan(values))
    # Half a level of 65534, and the rounding of low + (high − low)·k/65534 itself.
    tolerance = (record["high"] - record["low"]) / 131068 + 4e-16 * max(
        abs(record["high"]), abs(record["low"])
    )
    assert (np.abs(restored - values)[~np.isnan(values)] <= tolerance).all()


def test_a_grid_keeps_its_shape():
    z = torch.arange(6.0).reshape(2, 3)
    assert np.allclose(decode(quantise(z.numpy())), z, atol=5 / 131068, rtol=0)


def test_arrays_that_do_not_change_are_stored_once(made):
    params, _ = made(slope, b=[0.5, 2.0, 3.0])
    # One x, and one y for each position.
    assert len(params["arrays"]) == 4
    assert isinstance(params["marks"][0]["data"]["x"], int)
    assert len(params["marks"][0]["data"]["y"]) == 3


def test_an_array_that_follows_one_slider_is_stored_once_for_each_of_its_positions(made):
    params, _ = made(lambda a, b: Plot(line(X, a * X), line(X, b + X), x="x", y="y"), a=[2, 3], b=[3, 4, 5])
    assert len(params["arrays"]) == 1 + 2 + 3


def test_the_last_slider_moves_fastest_and_every_position_is_there(made):
    params, _ = made(lambda a, b: Plot(line(X, a * X + b), x="x", y="y"), a=[1.0, 2.0], b=[0.0, 10.0, 20.0])
    for i, a in enumerate([1.0, 2.0]):
        for j, b in enumerate([0.0, 10.0, 20.0]):
            assert np.allclose(array(params, 0, "y", 3 * i + j), a * X + b, atol=2 / 131068, rtol=0)


def test_sliders_begin_in_the_middle_or_where_they_are_told(made):
    params, _ = made(slope, b=[1, 2, 3, 4, 5])
    assert params["sliders"] == [{"label": "b", "texts": ["1", "2", "3", "4", "5"], "start": 2}]
    params, _ = made(slope, b=("$b$", torch.tensor([0.1, 0.2, 0.3])), start={"b": 0.1})
    assert params["sliders"] == [{"label": "$b$", "texts": ["0.1", "0.2", "0.3"], "start": 0}]


def test_texts_of_a_slider_have_as_many_digits_as_tell_its_values_apart(made):
    params, _ = made(slope, b=[0.10001, 0.10002, -1.0])
    assert params["sliders"][0]["texts"] == ["0.10001", "0.10002", "−1"]
    params, _ = made(lambda rule: slope(1.0 + len(rule)), rule=["Hebb", "projector"])
    assert params["sliders"][0]["texts"] == ["Hebb", "projector"]


def test_a_slider_of_a_range_calls_the_function_with_its_numbers(made):
    seen = []
    made(lambda n: seen.append(n) or slope(n), n=range(2, 5))
    assert seen == [2, 3, 4]


def test_axes_stand_still_and_hold_every_position_with_its_error_bars(made):
    def curves(b):
        return Plot(points(X, b * X, yerr=0 * X + 0.5), hline(5.0), x="x", y="y")

    params, _ = made(curves, b=[1.0, 3.0])
    low, high = params["y"]["range"]
    # From 0 − 0.5 (the lowest bar) to 5 (the line), and 4 % of 5.5 beyond both.
    assert (low, high) == pytest.approx((-0.72, 5.22))
    assert params["x"]["range"] == pytest.approx([-0.04, 1.04])
    params, _ = made(lambda b: Plot(line(X, b * X), x="x", y="y", xlim=(0, 2), ylim=(-1, 1)), b=[1.0, 3.0])
    assert (params["x"]["range"], params["y"]["range"]) == ([0, 2], [-1, 1])


def test_a_band_and_a_vertical_line_widen_the_axes(made):
    params, _ = made(lambda b: Plot(band(X, -b + 0 * X, b + X), vline(2.0), x="x", y="y"), b=[1.0, 2.0])
    assert params["x"]["range"] == [0, 2]
    assert params["y"]["range"] == pytest.approx([-2 - 0.04 * 5, 3 + 0.04 * 5])


def test_a_flat_curve_still_gets_an_axis(made):
    params, _ = made(lambda b: Plot(line(X, 0 * X), x="x", y="y"), b=[1, 2])
    assert params["y"]["range"] == pytest.approx([-0.54, 0.54])


def test_a_heat_map_fills_its_axes_to_the_borders_of_the_cells(made):
    y = torch.tensor([0.0, 1.0])
    params, _ = made(lambda b: Plot(heat(X, y, b * (X + y[:, None]), label="$z$"), x="x", y="y"), b=[1, 2])
    assert params["x"]["range"] == pytest.approx([-0.05, 1.05])
    assert params["y"]["range"] == pytest.approx([-0.5, 1.5])
    assert params["marks"][0]["range"] == [0, 4]
    assert np.allclose(array(params, 0, "z", 1), 2 * (X + y[:, None]), atol=4 / 131068, rtol=0)


def test_the_nth_points_have_the_colour_of_the_nth_line(made):
    marks = [line(X, X), line(X, -X), points(X, X), points(X, -X), points(X, X, color="pink"), vline(0.5)]
    params, _ = made(lambda b: Plot(*marks, x="x", y="y"), b=[1, 2])
    assert [mark["color"] for mark in params["marks"]] == [1, 2, 1, 2, 6, "muted"]


def test_labels_and_titles_may_follow_the_slider(made):
    def curves(b):
        return Plot(line(X, X, label=f"b = {b}"), hline(0.5, label="half"), x="x", y="y", title=f"{b}")

    params, _ = made(curves, b=[1, 2])
    assert [mark["label"] for mark in params["marks"]] == [["b = 1", "b = 2"], "half"]
    assert params["title"] == ["1", "2"]


def test_a_figure_of_at_most_150_kb_passes_and_a_heavier_one_is_refused_with_its_size(made):
    x = torch.linspace(0, 1, 1000, dtype=torch.float64)

    def curves(b):
        return Plot(line(x, torch.sin(b * x)), x="x", y="y")

    params, _ = made(curves, b=torch.linspace(1, 2, 50))
    assert 0.9 * LIMIT < len(json.dumps(params)) <= LIMIT
    with pytest.raises(
        ValueError,
        match=r"weighs 1[6-9]\d kB .* at most 150 kB: 60 slider positions, 61 arrays of up to 1000 values",
    ):
        made(curves, b=torch.linspace(1, 2, 60))


# ---- what the kernel does


def test_moving_a_slider_calls_the_function_and_redraws_in_the_same_axes(made):
    calls = []

    def curves(a, b):
        calls.append((a, b))
        return Plot(line(X, a * X + b), x="x", y="y")

    params, view = made(curves, a=[1.0, 2.0], b=[0.0, 5.0, 10.0], start={"a": 2.0})
    (first, second), figure = view.children[0].children, view.children[1]
    assert np.allclose(array(figure.params, 0, "y", 0), 2.0 * X + 5.0, atol=1e-4)
    assert figure.params["sliders"] == []
    calls.clear()
    second.index = 2
    first.index = 0
    assert calls == [(2.0, 10.0), (1.0, 10.0)]
    assert np.allclose(array(figure.params, 0, "y", 0), 1.0 * X + 10.0, atol=1e-4)
    assert all(figure.params[axis] == params[axis] for axis in ("x", "y"))
    assert [slider.description for slider in (first, second)] == ["a", "b"]


def test_the_cell_displays_the_sliders_and_keeps_the_frames_in_metadata(emitted):
    explore(slope, alt="what is seen", caption="A figure.", b=[2, 3])
    ((data, record),) = emitted
    assert record["module"] == "plot"
    assert len(record["params"]["arrays"]) == 3
    assert data["text/html"].startswith(
        '<figure class="physgen-explorable" data-module="plot"><p>what is seen'
    )
    assert record["params"]["arrays"][0]["data"] not in data["text/html"]


# ---- what is refused


@pytest.mark.parametrize(
    ("sliders", "message"),
    [
        ({}, "got 0; expected one or two"),
        ({"a": [1, 2], "b": [1, 2], "c": [1, 2]}, "got 3; expected one or two"),
        ({"b": [1]}, "b: got 1 values; a slider needs at least 2"),
        ({"b": 3}, "b: got int"),
        ({"b": "abc"}, "b: got str"),
        ({"b": ("$b$", 3)}, "b: got tuple"),
        ({"b": [1, float("nan")]}, "b: got nan"),
        ({"b": [1, None]}, "b: got None"),
        ({"b": torch.ones(2, 2)}, r"b: got shape \(2, 2\)"),
        ({"b": [1, 2], "start": {"b": 3}}, r"start\['b'\]: got 3; expected one of 1, 2"),
        ({"b": [1, 2], "start": {"c": 1}}, "start: c is no slider"),
    ],
)
def test_bad_sliders_are_refused(made, sliders, message):
    with pytest.raises(ValueError, match=message):
        made(lambda **_: slope(1.0), **sliders)


@pytest.mark.parametrize(("alt", "caption"), [("", "c"), ("a", " ")])
def test_a_figure_without_text_alternative_or_caption_is_refused(alt, caption):
    with pytest.raises(ValueError, match="is empty"):
        explore(slope, alt=alt, caption=caption, b=[1, 2])


@pytest.mark.parametrize(
    "curves",
    [
        lambda b: Plot(*[line(X, X)] * b, x="x", y="y"),
        lambda b: Plot(line(X, X) if b == 1 else points(X, X), x="x", y="y"),
        lambda b: Plot(points(X, X, yerr=X if b == 1 else None), x="x", y="y"),
        lambda b: Plot(line(X, X, color="blue" if b == 1 else "gold"), x="x", y="y"),
        lambda b: Plot(line(X, X), x="x" * b, y="y"),
    ],
    ids=["number", "kind", "error bars", "colour", "axis"],
)
def test_marks_must_be_the_same_at_each_position(made, curves):
    with pytest.raises(ValueError, match="curves: marks or axis labels differ"):
        made(curves, b=[1, 2])


def test_a_function_that_returns_no_plot_is_refused(made):
    with pytest.raises(ValueError, match="curves: returned Mark; expected a Plot"):
        made(lambda b: line(X, X), b=[1, 2])


NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: line(X, X[:-1]), "line: got lengths"),
        (lambda: line([1.0], [1.0]), "line: got 1 values; expected at least 2"),
        (lambda: line(X[None], X[None]), r"x: got shape \(1, 11\)"),
        (lambda: line([], []), r"x: got shape \(0,\)"),
        (lambda: line([0.0, NAN], [0.0, 1.0]), "x: got nan"),
        (lambda: line([0.0, 1.0], [0.0, INF]), "y: got inf"),
        (lambda: line(X, X > 0), "y: got dtype torch.bool"),
        (lambda: line(X, X + 0j), "y: got dtype torch.complex128"),
        (lambda: line(X, ["a"] * 11), "y: got .*; expected numbers"),
        (lambda: line(X, X, color="red"), "color: got 'red'; expected one of blue"),
        (lambda: points(X, X, yerr=-X), "yerr: got -1.0; expected error bars >= 0"),
        (lambda: points(X, X, yerr=X * NAN), "yerr: got nan"),
        (lambda: band(X, X, X - 1), "band: low is above high"),
        (lambda: band(X, X * NAN, X), "low: got nan"),
        (lambda: heat(X, X, torch.zeros(11, 10)), r"z: got shape \(11, 10\); expected \(11, 11\)"),
        (lambda: heat(X.flip(0), X, torch.zeros(11, 11)), "x: expected at least 2 increasing"),
        (lambda: vline(NAN), "x: got nan"),
        (lambda: hline(INF), "y: got inf"),
        (lambda: Plot(x="x", y="y"), "marks: expected at least one"),
        (lambda: Plot(X, x="x", y="y"), "marks: expected at least one"),
        (lambda: Plot(line(X, X), x="", y="y"), "x: got ''; expected the label"),
        (lambda: Plot(line(X, X), x="x", y=None), "y: got None; expected the label"),
        (lambda: Plot(line(X, X), x="x", y="y", xlim=(1, 1)), "xlim: got"),
        (lambda: Plot(line(X, X), x="x", y="y", ylim=(0, INF)), "ylim: got"),
        (lambda: Plot(*[heat(X, X, torch.zeros(11, 11))] * 2, x="x", y="y"), "marks: got two heat maps"),
    ],
)
def test_bad_marks_are_refused_by_name(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_gap_in_a_curve_and_a_missing_point_are_allowed(made):
    y = torch.where(X > 0.5, NAN, X)
    params, _ = made(lambda b: Plot(line(X, b * y), points(X, b * y), x="x", y="y"), b=[1, 2])
    assert np.isnan(array(params, 0, "y", 1)).sum() == 5
    assert params["y"]["range"] == pytest.approx([-0.04, 1.04])
