"""Figures with sliders: `explore(curves, beta=[…])` asks `curves(beta=…)` for a `Plot`.

In JupyterLab the sliders call the function. The built page has no kernel: there the curves of all slider
positions, computed when the notebook ran, are drawn by the same `plot.js`. An array of range R is stored in
16 bits, so to R/131068; arrays that do not change between positions are stored once. Theory is a line,
simulation is points with error bars.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch

from physgen import explorables
from physgen.figures import COLORS

__all__ = ["Plot", "band", "explore", "heat", "hline", "line", "points", "vline"]

LIMIT = 150_000  # bytes a figure may weigh on the built page
LEVELS = 65534  # level 65535 means that there is no value
COLOR_NAMES = {**{name: i for i, name in enumerate(COLORS, 1)}, "ink": "ink", "muted": "muted"}


@dataclass(frozen=True)
class Mark:
    """One thing drawn: its kind, its arrays (float64), its label in the legend, its colour."""

    kind: str
    data: dict[str, np.ndarray]
    label: str | None
    color: str | None


def line(x, y, label: str | None = None, color: str | None = None) -> Mark:
    """A curve, for what theory says.

    Parameters
    ----------
    x, y : torch.Tensor or array_like, shape (n,), n ≥ 2
        NaN in y leaves a gap: there is no solution there.
    label : str, optional
        Its entry in the legend; may hold simple TeX, ``$\\beta$``.
    color : str, optional
        A name in `physgen.figures.COLORS`, or ink or muted; by default each mark takes the next colour.

    Raises
    ------
    ValueError
        If shapes differ or are not (n,), x is not finite, y is infinite, or the colour is unknown.
    """
    return _curve("line", {"x": _values("x", x), "y": _values("y", y, gaps=True)}, label, color, least=2)


def points(x, y, yerr=None, label: str | None = None, color: str | None = None) -> Mark:
    """Points with error bars y ± yerr, for what was simulated.

    Parameters
    ----------
    x, y, yerr : torch.Tensor or array_like, shape (n,)
        NaN in y leaves a point out; yerr ≥ 0, one standard error.
    label, color : str, optional
        As in `line`.

    Raises
    ------
    ValueError
        As in `line`; also if yerr is negative or not finite.
    """
    data = {"x": _values("x", x), "y": _values("y", y, gaps=True)}
    if yerr is not None:
        data["yerr"] = _values("yerr", yerr)
        if (data["yerr"] < 0).any():
            raise ValueError(f"yerr: got {data['yerr'].min()}; expected error bars >= 0")
    return _curve("points", data, label, color, least=1)


def band(x, low, high, label: str | None = None, color: str | None = None) -> Mark:
    """The region low(x) ≤ y ≤ high(x).

    Parameters
    ----------
    x, low, high : torch.Tensor or array_like, shape (n,), n ≥ 2
    label, color : str, optional
        As in `line`.

    Raises
    ------
    ValueError
        If shapes differ or are not (n,), a value is not finite, or low > high somewhere.
    """
    data = {"x": _values("x", x), "low": _values("low", low), "high": _values("high", high)}
    mark = _curve("band", data, label, color, least=2)
    if (data["low"] > data["high"]).any():
        raise ValueError("band: low is above high somewhere; expected low <= high")
    return mark


def heat(x, y, z, label: str | None = None) -> Mark:
    """A heat map of z over the grid of x and y.

    Parameters
    ----------
    x, y : torch.Tensor or array_like, shapes (n,), (m,), increasing
    z : torch.Tensor or array_like, shape (m, n)
        Row i belongs to y[i]; NaN is left blank.
    label : str, optional
        Stands beside the colour scale.

    Raises
    ------
    ValueError
        If the shapes do not fit, x or y does not increase, or a value is infinite.
    """
    data = {"x": _values("x", x), "y": _values("y", y), "z": _values("z", z, gaps=True, ndim=2)}
    for name in ("x", "y"):
        if data[name].size < 2 or (np.diff(data[name]) <= 0).any():
            raise ValueError(f"{name}: expected at least 2 increasing values")
    if data["z"].shape != (data["y"].size, data["x"].size):
        raise ValueError(
            f"z: got shape {data['z'].shape}; expected {(data['y'].size, data['x'].size)}, a row for each y"
        )
    return Mark("heat", data, label, None)


def vline(x: float, label: str | None = None, color: str | None = None) -> Mark:
    """A dashed vertical line at x. Raises ValueError if x is not a finite number."""
    return _curve("vline", {"at": _values("x", [x])}, label, color, least=1)


def hline(y: float, label: str | None = None, color: str | None = None) -> Mark:
    """A dashed horizontal line at y. Raises ValueError if y is not a finite number."""
    return _curve("hline", {"at": _values("y", [y])}, label, color, least=1)


class Plot:
    """Marks in one pair of axes.

    Parameters
    ----------
    *marks : Mark
        From `line`, `points`, `band`, `heat`, `vline`, `hline`; drawn in this order.
    x, y : str
        The labels of the axes; may hold simple TeX, ``$\\alpha$``.
    xlim, ylim : (float, float), optional
        By default what all slider positions need, so that the axes stand still.
    title : str, optional

    Raises
    ------
    ValueError
        If there is no mark or something that is none, a label is empty, or limits are not an increasing pair.
    """

    def __init__(self, *marks: Mark, x: str, y: str, xlim=None, ylim=None, title: str | None = None) -> None:
        if not marks or not all(isinstance(mark, Mark) for mark in marks):
            raise ValueError("marks: expected at least one of line, points, band, heat, vline, hline")
        if sum(mark.kind == "heat" for mark in marks) > 1:
            raise ValueError("marks: got two heat maps; one would hide the other")
        for name, text in (("x", x), ("y", y)):
            if not isinstance(text, str) or not text.strip():
                raise ValueError(f"{name}: got {text!r}; expected the label of the axis")
        self.marks, self.x, self.y, self.title = marks, x, y, title
        self.xlim, self.ylim = _limits("xlim", xlim), _limits("ylim", ylim)


def explore(
    curves: Callable[..., Plot], /, *, alt: str, caption: str, start: dict | None = None, **sliders: Iterable
) -> None:
    """Display a figure with one or two sliders: ``explore(curves, alt=…, caption=…, beta=[0.5, 1, 2])``.

    Parameters
    ----------
    curves : callable
        ``curves(beta=…)`` returns a `Plot`; the same marks in the same order at each position.
    alt : str
        What a reader who cannot see the figure needs to know: the axes, the curves, what the slider changes.
    caption : str
        One or two sentences under the figure.
    start : dict, optional
        The value of each slider in the first picture; by default the middle one.
    **sliders : sequence, 1-D tensor, range, or (label, values)
        One or two; numbers or texts. The label may hold simple TeX.

    Raises
    ------
    ValueError
        If there are no or more than two sliders, one is empty, `curves` returns something else than a `Plot`
        or other marks at another position, a start is none of the values, `alt` or `caption` is empty, or the
        figure weighs more than 150 kB.
    """
    scales = [_scale(name, values) for name, values in sliders.items()]
    if not 1 <= len(scales) <= 2:
        raise ValueError(f"sliders: got {len(scales)}; expected one or two, name=values")
    for scale in scales:
        scale.begin(start or {})
    if unknown := set(start or {}) - set(sliders):
        raise ValueError(f"start: {', '.join(sorted(unknown))} is no slider")
    plots = [_call(curves, scales, values) for values in product(*(scale.values for scale in scales))]
    axes = ranges(plots)
    params = encode(plots, axes) | {
        "sliders": [{"label": s.label, "texts": s.texts, "start": s.start} for s in scales]
    }
    _weigh(params, scales)
    first = np.ravel_multi_index([s.start for s in scales], [len(s.values) for s in scales])
    view = _live(curves, scales, axes, plots[first], alt, caption)
    explorables.show("plot", params, alt=alt, caption=caption, view=view)


# ---- sliders


@dataclass
class Scale:
    """A slider: its name in Python, its label, its values and their texts, where it begins."""

    name: str
    label: str
    values: list
    texts: list[str]
    start: int = 0

    def begin(self, start: dict) -> None:
        if self.name not in start:
            self.start = (len(self.values) - 1) // 2
            return
        near = [i for i, value in enumerate(self.values) if _same(value, start[self.name])]
        if not near:
            raise ValueError(
                f"start[{self.name!r}]: got {start[self.name]!r}; expected one of {', '.join(self.texts)}"
            )
        self.start = near[0]


def _same(a, b) -> bool:
    if isinstance(a, str) or isinstance(b, str):
        return a == b
    # A float32 tensor gives 0.1 as 0.10000000149.
    return math.isclose(a, b, rel_tol=1e-6, abs_tol=1e-12)


def _scale(name: str, given) -> Scale:
    label, values = name, given
    if (
        isinstance(given, tuple)
        and len(given) == 2
        and isinstance(given[0], str)
        and not isinstance(given[1], str)
    ):
        label, values = given
    if hasattr(values, "tolist"):
        if values.ndim != 1:
            raise ValueError(
                f"{name}: got shape {tuple(values.shape)}; expected a slider's values, shape (n,)"
            )
        values = values.tolist()
    if isinstance(values, str) or not isinstance(values, (Sequence, range)):
        raise ValueError(
            f"{name}: got {type(given).__name__}; expected a list, tensor, range, or (label, values)"
        )
    values = list(values)
    if len(values) < 2:
        raise ValueError(f"{name}: got {len(values)} values; a slider needs at least 2")
    for value in values:
        if not (isinstance(value, str) or (isinstance(value, (int, float)) and math.isfinite(value))):
            raise ValueError(f"{name}: got {value!r}; expected finite numbers or texts")
    return Scale(name, label, values, _texts(values))


def _texts(values: list) -> list[str]:
    """Numbers with as few digits as tell them apart."""
    numbers = [v for v in values if not isinstance(v, str)]
    for digits in range(3, 17):
        short = {f"{v:.{digits}g}" for v in numbers}
        if len(short) == len(set(numbers)):
            break
    return [v if isinstance(v, str) else f"{v:.{digits}g}".replace("-", "−") for v in values]


def _call(curves: Callable[..., Plot], scales: list[Scale], values: tuple) -> Plot:
    made = curves(**{scale.name: value for scale, value in zip(scales, values, strict=True)})
    if not isinstance(made, Plot):
        raise ValueError(f"curves: returned {type(made).__name__}; expected a Plot")
    return made


# ---- marks and their arrays


def _values(name: str, given, *, gaps: bool = False, ndim: int = 1) -> np.ndarray:
    try:
        tensor = torch.as_tensor(given)
    except (TypeError, ValueError, RuntimeError):
        raise ValueError(f"{name}: got {given!r}; expected numbers") from None
    if tensor.ndim != ndim or tensor.numel() == 0:
        raise ValueError(
            f"{name}: got shape {tuple(tensor.shape)}; expected {ndim} dimension{'s' * (ndim > 1)}, not empty"
        )
    if tensor.dtype == torch.bool or tensor.is_complex():
        raise ValueError(f"{name}: got dtype {tensor.dtype}; expected real numbers")
    array = tensor.detach().cpu().to(torch.float64).numpy()
    bad = np.isinf(array) if gaps else ~np.isfinite(array)
    if bad.any():
        raise ValueError(
            f"{name}: got {array[bad][0]}; expected finite values{' (NaN leaves a gap)' if gaps else ''}"
        )
    return array


def _curve(kind: str, data: dict, label: str | None, color: str | None, *, least: int) -> Mark:
    sizes = {name: array.size for name, array in data.items()}
    if len(set(sizes.values())) > 1:
        raise ValueError(f"{kind}: got lengths {sizes}; expected one length")
    if min(sizes.values()) < least:
        raise ValueError(f"{kind}: got {min(sizes.values())} values; expected at least {least}")
    if color is not None and color not in COLOR_NAMES:
        raise ValueError(f"color: got {color!r}; expected one of {', '.join(COLOR_NAMES)}")
    return Mark(kind, data, label, color)


def _limits(name: str, pair) -> tuple[float, float] | None:
    if pair is None:
        return None
    low, high = (float(v) for v in pair)
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ValueError(f"{name}: got {pair!r}; expected an increasing pair of finite numbers")
    return low, high


# ---- what the page stores


def encode(plots: list[Plot], axes: dict) -> dict:
    """The parameters of `plot.js` for these slider positions; what stays the same stands once."""
    first = plots[0]
    outline = _outline(first)
    if any(_outline(plot) != outline for plot in plots):
        raise ValueError(
            "curves: marks or axis labels differ between positions; expected the same kinds and colours"
        )
    arrays: dict[str, int] = {}

    def store(array: np.ndarray) -> int:
        return arrays.setdefault(json.dumps(quantise(array)), len(arrays))

    marks, used = [], {}
    for i, mark in enumerate(first.marks):
        frames = [plot.marks[i] for plot in plots]
        data = {name: _once([store(frame.data[name]) for frame in frames]) for name in mark.data}
        record = {"kind": mark.kind, "data": data, "label": _once([frame.label for frame in frames])}
        marks.append(
            record | {"color": _color(mark, used), "range": axes["z"] if mark.kind == "heat" else None}
        )
    return {
        "x": {"label": first.x, "range": axes["x"]},
        "y": {"label": first.y, "range": axes["y"]},
        "title": _once([plot.title for plot in plots]),
        "marks": marks,
        "arrays": [json.loads(record) for record in arrays],
        "sliders": [],
    }


def _outline(plot: Plot) -> tuple:
    return plot.x, plot.y, [(mark.kind, mark.color, tuple(mark.data)) for mark in plot.marks]


def _color(mark: Mark, used: dict) -> int | str:
    """Each kind counts its own colours, so the n-th points lie on the n-th line in its colour."""
    if mark.color:
        return COLOR_NAMES[mark.color]
    if mark.kind in ("vline", "hline", "heat"):
        return "muted"
    used[mark.kind] = used.get(mark.kind, 0) + 1
    return (used[mark.kind] - 1) % len(COLORS) + 1


def quantise(array: np.ndarray) -> dict:
    """An array as levels 0 … 65534 of its range, little-endian base64; the error is at most range/131068."""
    here = ~np.isnan(array)
    low, high = (float(array[here].min()), float(array[here].max())) if here.any() else (0.0, 0.0)
    levels = np.full(array.shape, LEVELS + 1, dtype="<u2")
    levels[here] = np.rint((array[here] - low) / (high - low) * LEVELS) if high > low else 0
    return {
        "low": low,
        "high": high,
        "shape": list(array.shape),
        "data": base64.b64encode(levels.tobytes()).decode(),
    }


def _once(values: list):
    """The value if it is the same at each position, else all of them."""
    return values[0] if all(value == values[0] for value in values) else values


def ranges(plots: list[Plot]) -> dict:
    """The limits of x, y and the colour scale that serve every slider position."""
    marks = [mark for plot in plots for mark in plot.marks]
    heats = [mark for mark in marks if mark.kind == "heat"]
    out = {"z": _span([mark.data["z"] for mark in heats]) if heats else None}
    for axis in ("x", "y"):
        fixed = [limits for plot in plots if (limits := getattr(plot, f"{axis}lim"))]
        low, high = _span([extent for mark in marks for extent in _extents(mark, axis)])
        margin = (
            0
            if heats
            else 0.04 * (high - low) * (axis == "y" or any(mark.kind == "points" for mark in marks))
        )
        out[axis] = (
            [min(f[0] for f in fixed), max(f[1] for f in fixed)] if fixed else [low - margin, high + margin]
        )
    return out


def _extents(mark: Mark, axis: str) -> list[np.ndarray]:
    """All coordinates on one axis that a mark reaches."""
    data = mark.data
    if mark.kind in ("vline", "hline"):
        return [data["at"]] if mark.kind[0] == {"x": "v", "y": "h"}[axis] else []
    if mark.kind == "heat":
        half = np.diff(data[axis]) / 2
        return [data[axis], data[axis][:1] - half[0], data[axis][-1:] + half[-1]]
    if axis == "x":
        return [data["x"]]
    if mark.kind == "band":
        return [data["low"], data["high"]]
    bar = data.get("yerr", np.zeros(1))
    return [data["y"] - bar, data["y"] + bar]


def _span(arrays: list[np.ndarray]) -> list[float]:
    values = np.concatenate([array[~np.isnan(array)] for array in arrays]) if arrays else np.zeros(0)
    if not values.size:
        return [0.0, 1.0]
    low, high = float(values.min()), float(values.max())
    return [low, high] if high > low else [low - 0.5, high + 0.5]


def _weigh(params: dict, scales: list[Scale]) -> None:
    size = len(json.dumps(params))
    if size <= LIMIT:
        return
    longest = max(math.prod(record["shape"]) for record in params["arrays"])
    positions = " × ".join(str(len(scale.values)) for scale in scales)
    raise ValueError(
        f"the figure weighs {size / 1000:.0f} kB on the page, at most {LIMIT // 1000} kB: "
        f"{positions} slider positions, {len(params['arrays'])} arrays of up to {longest} values; use fewer "
        "positions, shorter arrays (200 points make a smooth curve), or x that is the same at each position, "
        "which is stored once"
    )


# ---- JupyterLab


def _live(curves: Callable[..., Plot], scales: list[Scale], axes: dict, first: Plot, alt: str, caption: str):
    """Sliders that call the function, above the figure that draws what it returns."""
    import ipywidgets

    def state(plot: Plot) -> dict:
        return encode([plot], axes)

    figure = explorables.widget("plot", state(first), alt=alt, caption=caption)
    sliders = [
        ipywidgets.SelectionSlider(
            options=list(zip(scale.texts, range(len(scale.values)), strict=True)),
            index=scale.start,
            description=scale.label,
            style={"description_width": "initial"},
        )
        for scale in scales
    ]

    def update(_) -> None:
        values = tuple(scale.values[slider.index] for scale, slider in zip(scales, sliders, strict=True))
        figure.params = state(_call(curves, scales, values))

    for slider in sliders:
        slider.observe(update, names="index")
    return ipywidgets.VBox([ipywidgets.HBox(sliders, layout={"flex_flow": "row wrap"}), figure])
