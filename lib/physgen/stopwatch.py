"""What a call costs, beside another: times on the machine that runs the page, shown but never compared.

The calls take turns, so that a busy machine slows all alike; what a reader takes along are the ratios.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable
from html import escape

from physgen.emit import emit

__all__ = ["interleaved", "race", "times_html"]

WIDGET = "application/vnd.jupyter.widget-view+json"


def interleaved(calls: dict[str, Callable], repeats: int) -> dict[str, float]:
    """Median processor seconds of each call, the calls taking turns, after one round that compiles.

    Parameters
    ----------
    calls : dict
        Functions without arguments, by name.
    repeats : int
        Rounds that count, at least 1.

    Returns
    -------
    dict
        Seconds by name: processor time of all threads of this process.

    Raises
    ------
    ValueError
        If there is no call, or `repeats` < 1.
    """
    if not calls or repeats < 1:
        raise ValueError(f"got {len(calls)} calls and repeats={repeats}; expected at least one of each")
    for call in calls.values():
        call()
    times = {name: [] for name in calls}
    for _ in range(repeats):
        for name, call in calls.items():
            start = time.process_time()
            call()
            times[name].append(time.process_time() - start)
    return {name: statistics.median(values) for name, values in times.items()}


def race(what: str, calls: dict[str, Callable], repeats: int = 5) -> None:
    """Time the calls and show a small table: each name, its time, and how many times the last one's that is.

    Parameters
    ----------
    what : str
        The task and its size, the caption of the table.
    calls : dict
        Functions without arguments, by name; the last is what the others are compared with.
    repeats : int
        As in `interleaved`.

    Raises
    ------
    ValueError
        As `interleaved`.
    """
    import ipywidgets

    seconds = interleaved(calls, repeats)
    view = ipywidgets.HTML(times_html(what, seconds.items()))
    names = ", ".join(calls)
    # What nbval compares has no times in it; JupyterLab shows the widget, the built page the record.
    data = {
        WIDGET: {"version_major": 2, "version_minor": 0, "model_id": view.model_id},
        "text/html": f'<p class="pg-times">{escape(what, quote=False)}: {escape(names, quote=False)}.</p>',
        "text/plain": f"[times] {what}: {names}",
    }
    # A list, for the keys of a notebook's metadata are sorted when it is written.
    emit(data, {"times": list(seconds.items()), "what": what})


def times_html(what: str, times: Iterable[tuple[str, float]]) -> str:
    """The table of `race`: names and seconds, each beside the last."""
    times = list(times)
    least = times[-1][1]
    rows = "".join(
        f'<tr><th scope="row">{escape(name, quote=False)}</th><td>{_readable(value)}</td>'
        f"<td>{_ratio(value / least)}×</td></tr>"
        for name, value in times
    )
    return (
        f'<table class="pg-times"><caption>{escape(what, quote=False)}. Processor time on the machine that made this '
        f'page.</caption><tr><th scope="col">version</th><th scope="col">time</th><th scope="col">ratio</th></tr>'
        f"{rows}</table>"
    )


def _ratio(value: float) -> str:
    return f"{value:.2g}" if value < 99.5 else f"{value:.0f}"


def _readable(seconds: float) -> str:
    unit, factor = next(((u, f) for u, f in (("s", 1), ("ms", 1e3)) if seconds * f >= 1), ("µs", 1e6))
    return f"{seconds * factor:.3g} {unit}"
