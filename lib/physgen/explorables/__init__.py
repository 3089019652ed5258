"""Interactive figures: one ES module each, the same in JupyterLab (through anywidget) and on the built page.

`recall` and `phase_diagram` serve the chapters on memories, `reverse_diffusion`, `symmetry_breaking` and
`curie_weiss` those on diffusion and its exact solutions, `collapse_plane`, `manifold_spectrum` and `image_tape`
those on memorization, `energy_landscape`, `gan_portrait` and `flow_layers` those on energies and flows, `threshold`,
`rg_flow` and `lattice_zoom` those on scales, `plot` every figure made by `physgen.explore`. A module is `export default { render({ model, el }) }` and finds what it
needs in `common.js`, whose text stands in front of it. The parameters of a figure travel in the metadata of the
cell's output: they may differ in the last digit between machines; the text that a reader (and the comparison of
notebooks) sees does not.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import re
from functools import cache
from html import escape
from importlib.resources import files
from itertools import pairwise

import numpy as np

from physgen.emit import emit

__all__ = ["NAMES", "flow_params", "html", "show", "source", "static_script"]

NAMES = (
    "collapse_plane",
    "curie_weiss",
    "energy_landscape",
    "flow_layers",
    "gan_portrait",
    "image_tape",
    "lattice_zoom",
    "manifold_spectrum",
    "phase_diagram",
    "plot",
    "recall",
    "reverse_diffusion",
    "rg_flow",
    "symmetry_breaking",
    "threshold",
)
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
        What the module takes; tensors and arrays become lists (those of dtype uint8 their bytes in base64), numbers
        keep twelve digits.
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
        `collapse_plane` takes ``points``, 2 to 60 points of the square |x_i| ≤ 3, and may take ``t`` (0.01 to 3),
        ``probe`` (a point of that square), ``seed``.
        `manifold_spectrum` takes ``d`` and ``gammas``, for each of 1 to 4 manifolds the eigenvalues γ_k > 0 of FᵀF (as
        many as it has dimensions, fewer than d), and may take ``sigma2`` (0.001 to 100), ``manifold`` (index of the first
        to be seen).
        `image_tape` takes ``size`` = [h, w]; ``times``, K of them, falling to the data; ``labels``, the names of two
        classes; ``training``, the training images that are next to some frame, and ``indices``, their numbers in the
        training set; ``trunk``, ``branches`` (1 to 6) and, if wanted, ``forward`` (the noised image), each a dict of
        ``frames``, ``probability`` (of the first class), ``nearest`` (a place in ``training``) and ``distance``: the trunk
        of ``fork`` frames, a branch of the K − fork after it, the forward path of K, in the order of ``times``; ``t_S``, ``t_C``;
        and may take ``frame`` (place of the first to be seen, the last otherwise). Images are uint8 arrays of shape
        (number, h, w), or those bytes in base64.
        `energy_landscape` takes ``points``, 2 to 12 data with |x| ≤ 3, ``centres``, 2 to 15 ascending centres of bumps
        there, and their ``width`` (0.1 to 2), and may take ``theta`` (the weights at the start, 0 otherwise),
        ``confinement`` (of x⁴), ``rate``, ``particles``, ``negatives`` (exact, particles or nothing), ``seed``.
        `flow_layers` takes what `flow_params` makes, and may take ``layer`` and ``sample`` (the first to be seen).
        `gan_portrait` may take ``start`` (θ and w, at most 2.6), ``game`` (dirac, gaussian or linear), ``variance`` (of
        the Gaussian), ``penalty``, ``h``, ``steps`` (10 to 400), ``rule`` (simultaneous, alternating, extragradient or
        optimistic).
        `lattice_zoom` takes ``exact``, a table of ascending temperatures ``T`` with the energy per site ``u`` and the
        magnetisation ``M`` of the infinite Ising lattice (the slider has its rows, among them T_c, best), and may take ``size``
        (even, 4 to 512), ``blocks`` (three ascending divisors of it), ``model`` (ising or phi4), ``T`` (the nearest row is
        taken), ``beta`` (0.4 to 1), ``start`` (hot or cold), ``rounds`` (a cluster and a sweep each, forgotten) and then ``sweeps`` (which
        count in the averages) made before the reader comes, ``per_frame`` (sweeps, 1 to 10), ``running``, ``cut`` (whole or window), ``seed``.
        `threshold` takes ``signal`` and ``noisy``, 2^J numbers each (16 to 4096), ``sigma``, and may take ``T`` (in the units of the
        signal; σ√(2 log d) otherwise), ``rule`` (soft or hard), ``filter`` (the averaging filter, of
        `physgen.kernels.wavelet.filters`; Haar's otherwise), ``levels``.
        `rg_flow` may take ``map`` (decimation, wilson or kadanoff), ``starts`` (a dict of the first point (K, h), (K₁, K₂) or K of
        each), ``steps`` (at most, 5 to 60), ``taken`` (of them, when the reader comes) and ``paths``, measured (K₁, K₂) of blocked samples: dicts of ``K1``, ``K2`` and, if
        wanted, ``error1``, ``error2`` and ``name``.
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


def flow_params(frames) -> dict:
    """The parameters of `flow_layers`, from what `physgen.flows.coupling.layer_frames` finds, quantised.

    Coordinates and the samples' log densities keep 16 bits, coordinates no more than four times the extent of the map; the map of
    the log density keeps 8 bits of the twelve nats below its maximum.

    Parameters
    ----------
    frames : physgen.flows.coupling.Frames
        Of one layer or more. With 8 layers, 11 lines of 41 nodes, 250 samples and a map of 48 × 48 these are 90 kB.

    Returns
    -------
    dict
        ``layers``, ``lines``, ``nodes``, ``samples``, ``resolution``, ``extent`` and ``grid``, ``points``, ``log_density``, ``log_map``, each
        ``{low, high, data}``.
    """
    extent, top = float(frames.axis[-1]), float(frames.log_map.max())
    reach = min(4 * extent, max(float(frames.grid.abs().max()), float(frames.points.abs().max())))
    heights = float(frames.log_density.min()), float(frames.log_density.max())
    return {
        "layers": len(frames.points) - 1,
        "lines": frames.grid.shape[2],
        "nodes": frames.grid.shape[3],
        "samples": frames.points.shape[1],
        "resolution": len(frames.axis),
        "extent": extent,
        "grid": _packed(frames.grid, -reach, reach, 2),
        "points": _packed(frames.points, -reach, reach, 2),
        "log_density": _packed(frames.log_density, *heights, 2),
        "log_map": _packed(frames.log_map, top - 12, top, 1),
    }


def _packed(values, low: float, high: float, size: int) -> dict:
    """Numbers as unsigned integers of `size` bytes, the low byte first, between `low` and `high`."""
    top = 256**size - 1
    levels = np.rint(top * np.clip((values.detach().cpu().numpy() - low) / (high - low), 0, 1))
    return {"low": low, "high": high, "data": levels.astype(f"<u{size}").reshape(-1).view(np.uint8)}


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
    """Lists, dicts, strings and finite numbers of twelve digits; bytes as base64; anything else is refused."""
    if hasattr(value, "detach"):
        value = value.detach().cpu()
    if str(getattr(value, "dtype", "")).endswith("uint8"):
        return base64.b64encode(np.asarray(value).tobytes()).decode("ascii")
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


def _is_point(values, reach: float = 10) -> bool:
    return (
        isinstance(values, list)
        and len(values) == 2
        and all(_is_number(v) and abs(v) <= reach for v in values)
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


def _check_collapse_plane(params: dict) -> None:
    points = params.get("points")
    good = isinstance(points, list) and 2 <= len(points) <= 60 and all(_is_point(p, 3) for p in points)
    _expect(params, "points", good, "2 to 60 points [x, y] with coordinates from -3 to 3")
    _expect(params, "points", len({tuple(p) for p in points}) > 1, "points that do not all coincide")
    _expect_number(params, "t", 0.01, 3)
    _expect(
        params,
        "probe",
        _is_point(params.get("probe", [0, 0]), 3),
        "a point [x, y] with coordinates from -3 to 3",
    )
    _expect_number(params, "seed", 0, 2**53 - 1, whole=True)


def _check_manifold_spectrum(params: dict) -> None:
    d, gammas = params.get("d"), params.get("gammas")
    _expect(params, "d", isinstance(d, int) and 2 <= d <= 1000, "an integer from 2 to 1000")
    good = (
        isinstance(gammas, list)
        and 1 <= len(gammas) <= 4
        and all(
            isinstance(g, list) and 1 <= len(g) < d and all(_is_number(v) and v > 0 for v in g)
            for g in gammas
        )
    )
    _expect(params, "gammas", good, f"1 to 4 lists of numbers > 0, each shorter than d = {d}")
    _expect_number(params, "sigma2", 0.001, 100)
    _expect_number(params, "manifold", 0, len(gammas) - 1, whole=True)


def _check_image_tape(params: dict) -> None:
    size, times, labels, branches = (params.get(key) for key in ("size", "times", "labels", "branches"))
    good = (
        isinstance(size, list) and len(size) == 2 and all(isinstance(v, int) and 1 <= v <= 64 for v in size)
    )
    _expect(params, "size", good, "[h, w], integers from 1 to 64")
    area = size[0] * size[1]
    good = (
        _is_curve(times) and len(times) <= 200 and times[-1] >= 0 and all(a > b for a, b in pairwise(times))
    )
    _expect(params, "times", good, "2 to 200 falling times >= 0")
    good = isinstance(labels, list) and len(labels) == 2 and all(isinstance(v, str) and v for v in labels)
    _expect(params, "labels", good, "the names of two classes")
    indices = params.get("indices")
    good = isinstance(indices, list) and indices and all(_is_index(v, math.inf) for v in indices)
    _expect(params, "indices", good, "numbers of training images, integers >= 0")
    found = _image_bytes(params.get("training"))
    _expect_images("training", found, len(indices), area)
    frames = len(times)
    _expect(
        params,
        "fork",
        _is_index(params.get("fork", 0), frames) and params.get("fork"),
        f"an integer from 1 to {frames - 1}",
    )
    _expect(params, "branches", isinstance(branches, list) and 1 <= len(branches) <= 6, "1 to 6 paths")
    paths = {"trunk": (params.get("trunk"), params["fork"])}
    paths |= {f"branches[{b}]": (path, frames - params["fork"]) for b, path in enumerate(branches)}
    if "forward" in params:
        paths["forward"] = (params["forward"], frames)
    for name, (path, count) in paths.items():
        _check_path(name, path, count, area, len(indices))
    for key in ("t_S", "t_C"):
        _expect(params, key, _is_number(params.get(key)) and params[key] >= 0, "a time >= 0")
    _expect_number(params, "frame", 0, frames - 1, whole=True)


def _check_path(name: str, path, count: int, area: int, images: int) -> None:
    """A part of the tape: `count` frames with a probability, a nearest training image and a distance each."""
    if not isinstance(path, dict):
        raise ValueError(
            f"{name}: got {path!r:.60}; expected a dict of frames, probability, nearest and distance"
        )
    _expect_images(f"{name}: frames", _image_bytes(path.get("frames")), count, area)
    tests = {
        "probability": (lambda v: _is_number(v) and 0 <= v <= 1, "numbers from 0 to 1"),
        "nearest": (lambda v: _is_index(v, images), f"places in training, integers from 0 to {images - 1}"),
        "distance": (lambda v: _is_number(v) and v >= 0, "numbers >= 0"),
    }
    for key, (holds, expected) in tests.items():
        values = path.get(key)
        if not isinstance(values, list) or len(values) != count or not all(map(holds, values)):
            raise ValueError(f"{name}: {key}: got {values!r:.60}; expected {count} {expected}")


def _check_energy_landscape(params: dict) -> None:
    points, centres, theta = (params.get(key) for key in ("points", "centres", "theta"))
    _expect(params, "points", _is_row(points, 2, 12, 3), "2 to 12 numbers from -3 to 3")
    good = _is_row(centres, 2, 15, 3) and all(a < b for a, b in pairwise(centres))
    _expect(params, "centres", good, "2 to 15 ascending numbers from -3 to 3")
    _expect(
        params,
        "width",
        _is_number(params.get("width")) and 0.1 <= params["width"] <= 2,
        "a number from 0.1 to 2",
    )
    good = "theta" not in params or _is_row(theta, len(centres), len(centres), 20)
    _expect(params, "theta", good, f"{len(centres)} numbers from -20 to 20")
    _expect_number(params, "confinement", 0.01, 1)
    _expect_number(params, "rate", 0.1, 3)
    _expect_number(params, "particles", 10, 200, whole=True)
    _expect(
        params,
        "negatives",
        params.get("negatives", "exact") in ("exact", "particles", "nothing"),
        "'exact', 'particles' or 'nothing'",
    )
    _expect_number(params, "seed", 0, 2**53 - 1, whole=True)


def _is_row(values, least: int, most: int, reach: float) -> bool:
    return (
        isinstance(values, list)
        and least <= len(values) <= most
        and all(_is_number(v) and abs(v) <= reach for v in values)
    )


def _check_flow_layers(params: dict) -> None:
    sizes = {
        "layers": (1, 24),
        "lines": (2, 41),
        "nodes": (2, 201),
        "samples": (1, 1000),
        "resolution": (2, 96),
    }
    for key, (low, high) in sizes.items():
        value = params.get(key)
        good = isinstance(value, int) and not isinstance(value, bool) and low <= value <= high
        _expect(params, key, good, f"an integer from {low} to {high}")
    layers, lines, nodes, samples, m = (params[key] for key in sizes)
    extent = params.get("extent")
    _expect(params, "extent", _is_number(extent) and 0 < extent <= 20, "a number > 0, at most 20")
    per_layer = {
        "grid": 2 * 2 * lines * nodes * 2,
        "points": samples * 2 * 2,
        "log_density": samples * 2,
        "log_map": m * m,
    }
    for key, size in per_layer.items():
        value = params.get(key)
        good = isinstance(value, dict) and all(_is_number(value.get(end)) for end in ("low", "high"))
        if not good or not value["low"] < value["high"]:
            raise ValueError(f"{key}: got {value!r:.60}; expected a dict of low < high and data")
        found, wanted = _image_bytes(value.get("data")), (layers + 1) * size
        if found != wanted:
            came = "no bytes" if found < 0 else f"{found} bytes"
            raise ValueError(
                f"{key}: got {came}; expected {wanted} bytes, {size} for each of {layers + 1} layers"
            )
    _expect_number(params, "layer", 0, layers)
    _expect_number(params, "sample", 0, samples - 1, whole=True)


def _check_gan_portrait(params: dict) -> None:
    _expect(
        params,
        "start",
        _is_point(params.get("start", [0, 0]), 2.6),
        "a point [θ, w] with numbers from -2.6 to 2.6",
    )
    choices = {
        "game": ("dirac", "gaussian", "linear"),
        "rule": ("simultaneous", "alternating", "extragradient", "optimistic"),
    }
    _expect_choices(params, choices)
    _expect_number(params, "variance", 0.01, 4)
    _expect_number(params, "penalty", 0, 2)
    _expect_number(params, "h", 0.05, 2)
    _expect_number(params, "steps", 10, 400, whole=True)


def _check_lattice_zoom(params: dict) -> None:
    exact, blocks, size = params.get("exact"), params.get("blocks", [1, 4, 16]), params.get("size", 256)
    good = isinstance(exact, dict) and all(_is_curve(exact.get(key)) for key in ("T", "u", "M"))
    good = good and len(exact["T"]) == len(exact["u"]) == len(exact["M"])
    good = good and exact["T"][0] > 0 and all(a < b for a, b in pairwise(exact["T"]))
    _expect(params, "exact", good, "ascending T > 0, and u and M for each, at least 2")
    _expect_number(params, "size", 4, 512, whole=True)
    good = isinstance(blocks, list) and len(blocks) == 3 and all(_is_index(b, size + 1) and b for b in blocks)
    good = good and size % 2 == 0 and all(size % b == 0 for b in blocks) and blocks == sorted(set(blocks))
    _expect(params, "blocks", good, f"three ascending divisors of the even size, {size}")
    _expect_number(params, "T", exact["T"][0], exact["T"][-1])
    _expect_number(params, "beta", 0.4, 1)
    for key in ("rounds", "sweeps"):
        _expect_number(params, key, 0, 1_000_000, whole=True)
    _expect_number(params, "per_frame", 1, 10, whole=True)
    _expect_number(params, "seed", 0, 2**53 - 1, whole=True)
    _expect(params, "running", isinstance(params.get("running", True), bool), "true or false")
    choices = {"model": ("ising", "phi4"), "start": ("hot", "cold"), "cut": ("whole", "window")}
    _expect_choices(params, choices)


def _check_threshold(params: dict) -> None:
    signal, noisy, taps = (params.get(key) for key in ("signal", "noisy", "filter"))
    good = _is_curve(signal) and 16 <= len(signal) <= 4096 and len(signal) & (len(signal) - 1) == 0
    _expect(params, "signal", good, "2^J numbers, 16 to 4096")
    good = _is_curve(noisy) and len(noisy) == len(signal)
    _expect(params, "noisy", good, f"{len(signal)} numbers, one for each of the signal")
    good = _is_number(params.get("sigma")) and params["sigma"] > 0
    _expect(params, "sigma", good, "a number > 0")
    if "filter" in params:
        good = _is_curve(taps) and len(taps) % 2 == 0 and len(taps) <= 16
        good = good and all(
            abs(sum(a * b for a, b in zip(taps, taps[k:], strict=False)) - (k == 0)) < 1e-6
            for k in range(0, len(taps), 2)
        )
        _expect(params, "filter", good, "an even number of taps, orthonormal to their even shifts")
    _expect_number(params, "T", 0, 1.5 * params["sigma"] * math.sqrt(2 * math.log(len(signal))))
    _expect_number(params, "levels", 1, len(signal).bit_length() - 1, whole=True)
    _expect_choices(params, {"rule": ("soft", "hard")})


def _check_rg_flow(params: dict) -> None:
    reach = {"decimation": ((0, 2), (-1.2, 1.2)), "wilson": ((0, 0.6), (-0.1, 0.42)), "kadanoff": ((0, 1),)}
    _expect_choices(params, {"map": tuple(reach)})
    starts, paths = params.get("starts", {}), params.get("paths", [])
    good = isinstance(starts, dict) and set(starts) <= set(reach)
    for name, start in starts.items() if good else ():
        point = start if isinstance(start, list) else [start]
        good = good and len(point) == len(reach[name])
        good = good and all(
            _is_number(v) and low <= v <= high for v, (low, high) in zip(point, reach[name], strict=True)
        )
    _expect(params, "starts", good, f"points under names out of {', '.join(reach)}, within {reach}")
    good = isinstance(paths, list) and len(paths) <= 12 and all(_is_measured(path) for path in paths)
    _expect(params, "paths", good, "at most 12 dicts of K1 and K2 (and error1, error2 >= 0), of one length")
    _expect_number(params, "steps", 5, 60, whole=True)
    _expect_number(params, "taken", 0, params.get("steps", 24), whole=True)


def _is_measured(path) -> bool:
    if not isinstance(path, dict) or not isinstance(path.get("name", ""), str) or not path.get("K1"):
        return False
    given = [path.get(key) for key in ("K1", "K2", "error1", "error2") if key in ("K1", "K2") or key in path]
    errors = [v for key in ("error1", "error2") for v in path.get(key) or ()]
    rows = all(isinstance(row, list) and all(map(_is_number, row)) for row in given)
    return rows and len({len(row) for row in given}) == 1 and all(v >= 0 for v in errors)


def _image_bytes(text) -> int:
    """How many bytes the base64 text holds, −1 if it is none."""
    try:
        return len(base64.b64decode(text, validate=True)) if isinstance(text, str) else -1
    except binascii.Error:
        return -1


def _expect_images(name: str, found: int, count: int, area: int) -> None:
    if found != count * area:
        came = "no bytes" if found < 0 else f"{found} bytes"
        raise ValueError(f"{name}: got {came}; expected uint8 pixels of {count} images of {area} pixels")


def _is_index(value, end: float) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < end


def _is_curve(values) -> bool:
    return isinstance(values, list) and len(values) >= 2 and all(_is_number(v) for v in values)


CHECKS = {
    "collapse_plane": _check_collapse_plane,
    "image_tape": _check_image_tape,
    "manifold_spectrum": _check_manifold_spectrum,
    "curie_weiss": _check_curie_weiss,
    "energy_landscape": _check_energy_landscape,
    "flow_layers": _check_flow_layers,
    "gan_portrait": _check_gan_portrait,
    "lattice_zoom": _check_lattice_zoom,
    "phase_diagram": _check_phase_diagram,
    "plot": lambda _: None,
    "recall": _check_recall,
    "reverse_diffusion": _check_reverse_diffusion,
    "rg_flow": _check_rg_flow,
    "symmetry_breaking": _check_symmetry_breaking,
    "threshold": _check_threshold,
}


def _is_number(value) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _expect(params: dict, key: str, holds, expected: str) -> None:
    if not holds:
        raise ValueError(f"{key}: got {params.get(key)!r}; expected {expected}")


def _expect_choices(params: dict, choices: dict) -> None:
    """Each optional, but if it is there, one of its names."""
    for key, names in choices.items():
        _expect(params, key, params.get(key, names[0]) in names, f"one of {', '.join(names)}")


def _expect_number(params: dict, key: str, low: float, high: float, *, whole: bool = False) -> None:
    """Optional, but if it is there, in [low, high]."""
    value = params.get(key, low)
    good = _is_number(value) and low <= value <= high and (isinstance(value, int) or not whole)
    _expect(params, key, good, f"{'an integer' if whole else 'a number'} from {low} to {high}")
