"""Interactive figures: one ES module each, the same in JupyterLab (through anywidget) and on the built page.

`recall` and `phase_diagram` serve the chapters on memories, `reverse_diffusion`, `symmetry_breaking` and
`curie_weiss` those on diffusion and its exact solutions, `plot` every figure made by `physgen.explore`. A module is `export default { render({ model, el }) }` and finds what it needs in
`common.js`, whose text stands in front of it. The parameters of a figure travel in the metadata of the
cell's output: they may differ in the last digit between machines; the text that a reader (and the
comparison of notebooks) sees does not.
"""

from __future__ import annotations

import json
import math
import re
from functools import cache
from html import escape
from importlib.resources import files

from physgen.emit import emit

__all__ = ["NAMES", "html", "show", "source", "static_script"]

NAMES = ("curie_weiss", "phase_diagram", "plot", "recall", "reverse_diffusion", "symmetry_breaking")
LINES = ("spin_glass", "spinodal", "first_order", "mixture", "almeida_thouless")
WIDGET = "application/vnd.jupyter.widget-view+json"
FALLBACK = "This figure is interactive in JupyterLab and on the built page."


def source(name: str) -> str:
    """The text of one module, the shared code in front: what anywidget runs.

    Parameters
    ----------
    name : str
        One of `NAMES`.

    Raises
    ------
    ValueError
        If there is no such module.
    """
    return f"{_text('common')}\n{_module(name)}"


def static_script(names) -> str:
    """The text of a page's ``<script type="module">``: the shared code once, each module in its own scope.

    It starts every ``<figure class="physgen-explorable" data-module=NAME>`` of the page: at once if it is in
    view, else when it comes near.

    Parameters
    ----------
    names : iterable of str
        The modules that the page needs; the order and repetitions do not matter.

    Raises
    ------
    ValueError
        If a name is no module's, or there is none.
    """
    if isinstance(names, str) or not (wanted := sorted(set(names))):
        raise ValueError(f"names: got {names!r}; expected module names out of {', '.join(NAMES)}")
    scopes = [f"{name}: (() => {{\n{_as_scope(_module(name))}\n}})()," for name in wanted]
    return "\n".join([_text("common"), "hydrate({", *scopes, "});", ""])


def html(module: str, params: dict, alt: str, caption: str) -> str:
    """The figure as the built page holds it: parameters as JSON, a stage for the module, the caption.

    Parameters
    ----------
    module : str
        One of `NAMES`.
    params : dict
        What the module takes; tensors and arrays become lists, numbers keep twelve digits.
    alt : str
        What a reader who cannot see the figure needs to know.
    caption : str
        One or two sentences under the figure; may hold ``$…$``.

    Raises
    ------
    ValueError
        If the module is unknown, `alt` or `caption` is empty, or the parameters do not fit the module.
    """
    params = _checked(module, params, alt, caption)
    # In a script element only "<" could end the text.
    data = json.dumps(params, separators=(",", ":"), ensure_ascii=False).replace("<", "\\u003c")
    return (
        f'<figure class="physgen-explorable" data-module="{module}">'
        f'<script type="application/json">{data}</script>'
        f'<div class="physgen-stage" role="group" aria-label="{escape(alt, quote=True)}">'
        f"<p>{escape(alt, quote=False)}</p></div>"
        f"<figcaption>{escape(caption, quote=False)}</figcaption></figure>"
    )


def show(name: str, params: dict, *, alt: str, caption: str, view=None) -> None:
    """Display an interactive figure: a widget where a kernel listens, a sentence where none does.

    The parameters go into the metadata of the output, from where the built page takes them (`html`).

    Parameters
    ----------
    name : str
        One of `NAMES`.
    params : dict
        `recall` takes ``side``, ``patterns`` (strings of side² bits), ``names``, and may take ``seed``,
        ``stored``, ``noise``, ``temperature``, ``couplings`` (hebb or projector), ``target`` (index) and
        ``steps`` (updates made before the reader comes).
        `phase_diagram` takes ``lines``, a table of ``{alpha, temperature}`` under names out of spin_glass,
        spinodal, first_order, mixture, almeida_thouless, and may take ``alpha``, ``temperature``,
        ``alpha_max``, ``t_max``, ``n_spins``, ``sweeps``, ``seed``.
        `reverse_diffusion` takes ``means``, 1 to 12 points of the plane, and may take ``weights`` (equal ones
        otherwise), ``variance`` (of each component in each direction), ``t_max``, ``eta``, ``steps``,
        ``particles``, ``seed``.
        `symmetry_breaking` may take ``norm`` (|m| of the classes ±m), ``variance``, ``t_max``, ``t`` (where the
        clones part; the speciation time otherwise), ``clones``, ``seed``.
        `curie_weiss` may take ``beta``, ``field`` (h of the energy −M²/(2d) − hM, at the temperature 1/β),
        ``d``, ``seed``.
    alt, caption : str
        The text alternative, and one or two sentences under the figure.
    view : ipywidgets.DOMWidget, optional
        What JupyterLab shows, if that is more than the figure alone.

    Raises
    ------
    ValueError
        As `html`.
    """
    params = _checked(name, params, alt, caption)
    view = widget(name, params, alt=alt, caption=caption) if view is None else view
    placeholder = (
        f'<figure class="physgen-explorable" data-module="{name}">'
        f"<p>{escape(alt, quote=False)} {FALLBACK}</p>"
        f"<figcaption>{escape(caption, quote=False)}</figcaption></figure>"
    )
    data = {
        WIDGET: {"version_major": 2, "version_minor": 0, "model_id": view.model_id},
        "text/html": placeholder,
        "text/plain": f"[interactive figure] {caption}",
    }
    record = {"module": name, "params": params, "alt": alt, "caption": caption}
    emit(data, record)


def widget(name: str, params: dict, *, alt: str, caption: str):
    """The figure as an anywidget; writing its `params` redraws it."""
    return _widget_class()(esm=source(name), params=params, alt=alt, caption=caption)


@cache
def _widget_class():
    import anywidget
    import traitlets

    class Explorable(anywidget.AnyWidget):
        params = traitlets.Dict().tag(sync=True)
        alt = traitlets.Unicode().tag(sync=True)
        caption = traitlets.Unicode().tag(sync=True)

        def __init__(self, esm: str, **state) -> None:
            self._esm = esm
            super().__init__(**state)

    return Explorable


@cache
def _text(name: str) -> str:
    return files(__name__).joinpath(f"{name}.js").read_text(encoding="utf-8")


def _module(name: str) -> str:
    if name not in NAMES:
        raise ValueError(f"name: got {name!r}; expected one of {', '.join(NAMES)}")
    return _text(name)


def _as_scope(text: str) -> str:
    return re.sub(r"^export default ", "return ", text, flags=re.M)


def _checked(module: str, params: dict, alt: str, caption: str) -> dict:
    """The parameters as plain JSON values that the module can draw, or ValueError."""
    _module(module)
    for name, text in (("alt", alt), ("caption", caption)):
        if not isinstance(text, str) or not text.strip():
            raise ValueError(f"{name} is empty; each figure needs a text alternative and a caption")
    if not isinstance(params, dict):
        raise ValueError(f"params: got {type(params).__name__}; expected a dict")
    plain = _plain(params, "params")
    CHECKS[module](plain)
    return plain


def _plain(value, where: str):
    """Lists, dicts, strings and finite numbers of twelve digits; anything else is refused."""
    if hasattr(value, "detach"):
        value = value.detach().cpu()
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, dict):
        return {str(key): _plain(item, f"{where}[{key!r}]") for key, item in value.items()}
    if isinstance(value, (list, tuple, range)):
        return [_plain(item, f"{where}[{i}]") for i, item in enumerate(value)]
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return float(f"{value:.12g}")
    raise ValueError(f"{where}: got {value!r}; expected text, a finite number, or lists and dicts of these")


def _check_recall(params: dict) -> None:
    side, patterns, names = (params.get(key) for key in ("side", "patterns", "names"))
    _expect(params, "side", isinstance(side, int) and 2 <= side <= 24, "an integer from 2 to 24")
    good = (
        isinstance(patterns, list)
        and 1 <= len(patterns) <= 12
        and all(_is_picture(p, side) for p in patterns)
    )
    _expect(params, "patterns", good, f"1 to 12 strings of {side * side} bits, 0 or 1")
    named = (
        isinstance(names, list)
        and len(names) == len(patterns)
        and all(isinstance(n, str) and n for n in names)
    )
    _expect(params, "names", named, f"{len(patterns)} names, one for each pattern")
    _expect_number(params, "seed", 0, 2**53 - 1, whole=True)
    _expect_number(params, "stored", 1, len(patterns), whole=True)
    _expect_number(params, "target", 0, params.get("stored", len(patterns)) - 1, whole=True)
    _expect_number(params, "steps", 0, 100_000, whole=True)
    _expect_number(params, "noise", 0, 0.5)
    _expect_number(params, "temperature", 0, 1.5)
    _expect(
        params, "couplings", params.get("couplings", "hebb") in ("hebb", "projector"), "'hebb' or 'projector'"
    )


def _is_picture(bits, side: int) -> bool:
    return isinstance(bits, str) and len(bits) == side * side and set(bits) <= {"0", "1"}


def _check_phase_diagram(params: dict) -> None:
    lines = params.get("lines")
    _expect(
        params,
        "lines",
        isinstance(lines, dict) and lines and set(lines) <= set(LINES),
        f"lines named {', '.join(LINES)}",
    )
    for name, line in lines.items():
        good = isinstance(line, dict) and all(_is_curve(line.get(key)) for key in ("alpha", "temperature"))
        good = good and len(line["alpha"]) == len(line["temperature"])
        if not good:
            raise ValueError(
                f"lines[{name!r}]: expected alpha and temperature, lists of numbers of one length, at least 2"
            )
    _expect_number(params, "alpha_max", 0.01, 1)
    _expect_number(params, "t_max", 0.1, 5)
    _expect_number(params, "alpha", 0, params.get("alpha_max", 0.16))
    _expect_number(params, "temperature", 0.02, params.get("t_max", 1.5))
    _expect_number(params, "n_spins", 16, 1600, whole=True)
    _expect_number(params, "sweeps", 2, 1000, whole=True)
    _expect_number(params, "seed", 0, 2**53 - 1, whole=True)


def _check_reverse_diffusion(params: dict) -> None:
    means, weights = params.get("means"), params.get("weights")
    good = isinstance(means, list) and 1 <= len(means) <= 12 and all(_is_point(m) for m in means)
    _expect(params, "means", good, "1 to 12 points [x, y] with coordinates from -10 to 10")
    good = weights is None or (
        isinstance(weights, list)
        and len(weights) == len(means)
        and all(_is_number(w) and w > 0 for w in weights)
        and abs(sum(weights) - 1) <= 1e-9
    )
    _expect(params, "weights", good, f"{len(means)} numbers > 0 with sum 1")
    _expect_number(params, "variance", 0.0001, 4)
    _expect_number(params, "t_max", 0.5, 10)
    _expect_number(params, "eta", 0, 2)
    _expect_number(params, "steps", 5, 200, whole=True)
    _expect_number(params, "particles", 10, 600, whole=True)
    _expect_number(params, "seed", 0, 2**53 - 1, whole=True)


def _is_point(values) -> bool:
    return (
        isinstance(values, list) and len(values) == 2 and all(_is_number(v) and abs(v) <= 10 for v in values)
    )


def _check_symmetry_breaking(params: dict) -> None:
    _expect_number(params, "norm", 1, 20)
    _expect_number(params, "variance", 0.01, 4)
    _expect_number(params, "t_max", 0.5, 10)
    _expect_number(params, "t", 0, params.get("t_max", 3))
    _expect_number(params, "clones", 2, 200, whole=True)
    # The seeds of "New noise" follow it.
    _expect_number(params, "seed", 0, 2**52, whole=True)


def _check_curie_weiss(params: dict) -> None:
    _expect_number(params, "beta", 0.2, 2.5)
    _expect_number(params, "field", -0.5, 0.5)
    _expect_number(params, "d", 2, 400, whole=True)
    _expect_number(params, "seed", 0, 2**53 - 1, whole=True)


def _is_curve(values) -> bool:
    return isinstance(values, list) and len(values) >= 2 and all(_is_number(v) for v in values)


CHECKS = {
    "curie_weiss": _check_curie_weiss,
    "phase_diagram": _check_phase_diagram,
    "plot": lambda _: None,
    "recall": _check_recall,
    "reverse_diffusion": _check_reverse_diffusion,
    "symmetry_breaking": _check_symmetry_breaking,
}


def _is_number(value) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _expect(params: dict, key: str, holds, expected: str) -> None:
    if not holds:
        raise ValueError(f"{key}: got {params.get(key)!r}; expected {expected}")


def _expect_number(params: dict, key: str, low: float, high: float, *, whole: bool = False) -> None:
    """Optional, but if it is there, in [low, high]."""
    value = params.get(key, low)
    good = _is_number(value) and low <= value <= high and (isinstance(value, int) or not whole)
    _expect(params, key, good, f"{'an integer' if whole else 'a number'} from {low} to {high}")
