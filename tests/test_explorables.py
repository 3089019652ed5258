"""Interactive figures, the Python side: what the modules are made of, what a cell displays, what the page receives.

What the modules do (their numbers against Python's, mouse and keyboard) is proved in a browser, in tests/site.
"""

from __future__ import annotations

import base64
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
import torch

from physgen import explorables, figures
from physgen.flows import coupling

COMMON = explorables._text("common")
MODULES = {name: explorables._text(name) for name in explorables.NAMES}
WIDGET = "application/vnd.jupyter.widget-view+json"
RECALL = {"side": 2, "patterns": ["1100", "1010"], "names": ["A", "B"]}
PHASES = {"lines": {"spin_glass": {"alpha": [0.0, 0.16], "temperature": [1.0, 1.4]}}}
REVERSE = {"means": [[-1.5, 0.0], [1.5, 0.0]]}
SPECTRUM = {"d": 4, "gammas": [[0.5], [0.2, 1.5]]}


def path(count: int) -> dict:
    """A part of a tape, of 1 × 2 pixels."""
    return {
        "frames": base64.b64encode(bytes(range(2 * count))).decode(),
        "probability": [0.5] * count,
        "nearest": [i % 2 for i in range(count)],
        "distance": [1.5] * count,
    }


TAPE = {
    "size": [1, 2],
    "times": [2.0, 1.0, 0.5, 0.0],
    "labels": ["one", "eight"],
    "training": base64.b64encode(bytes(4)).decode(),
    "indices": [17, 203],
    "fork": 1,
    "trunk": path(1),
    "branches": [path(3), path(3)],
    "forward": path(4),
    "t_S": 1.2,
    "t_C": 0.3,
}
LANDSCAPE = {"points": [-1.0, 1.0], "centres": [-1.0, 0.0, 1.0], "width": 0.5}


def packed(size: int, low: float = -3.0, high: float = 3.0) -> dict:
    return {"low": low, "high": high, "data": base64.b64encode(bytes(size)).decode()}


LAYERS = {
    "layers": 2,
    "lines": 2,
    "nodes": 3,
    "samples": 4,
    "resolution": 2,
    "extent": 3.0,
    "grid": packed(3 * 2 * 2 * 3 * 2 * 2),
    "points": packed(3 * 4 * 2 * 2),
    "log_density": packed(3 * 4 * 2),
    "log_map": packed(3 * 2 * 2),
}
ZOOM = {"exact": {"T": [2.0, 2.4], "u": [-1.7456, -1.2], "M": [0.9113, 0.0]}, "size": 16, "blocks": [1, 2, 4]}
DENOISE = {"signal": [0.0] * 8 + [1.0] * 8, "noisy": [0.1, -0.1] * 8, "sigma": 0.1}
MEASURED = {"K1": [0.4, 0.3], "K2": [0.0, 0.1], "error1": [0.01, 0.01], "name": "$T = 2.5$"}
PARAMS = {
    "collapse_plane": {"points": [[-1.5, 0.0], [1.5, 0.0], [0.5, 2.5]]},
    "energy_landscape": LANDSCAPE,
    "flow_layers": LAYERS,
    "gan_portrait": {"game": "gaussian", "rule": "optimistic"},
    "image_tape": TAPE,
    "manifold_spectrum": SPECTRUM,
    "recall": RECALL,
    "phase_diagram": PHASES,
    "plot": {},
    "reverse_diffusion": REVERSE,
    "symmetry_breaking": {"norm": 4, "variance": 0.25},
    "curie_weiss": {"beta": 1.2, "d": 50},
    "lattice_zoom": ZOOM,
    "rg_flow": {"map": "wilson", "starts": {"wilson": [0.38, 0.0], "kadanoff": 0.5}, "paths": [MEASURED]},
    "threshold": DENOISE,
}


class Page(HTMLParser):
    """Tags with their attributes and the text of each, for a page that must not depend on how quotes are written."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.texts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.texts.append(data)


def palette(theme: str) -> dict[str, str]:
    body = re.search(rf"^  {theme}: \{{(.*?)\}},$", COMMON, flags=re.M)[1]
    return dict(re.findall(r"(\w+): \"(#[0-9a-f]{6})\"", body))


def luminance(color: str) -> float:
    channels = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


# ---- the modules


@pytest.mark.parametrize("name", explorables.NAMES)
def test_a_module_has_one_export_and_no_import(name):
    assert len(re.findall(r"^export default ", MODULES[name], flags=re.M)) == 1
    assert not re.search(r"^\s*import\b|\bimport\(", MODULES[name], flags=re.M)


def test_the_shared_code_has_neither_import_nor_export():
    assert not re.search(r"^\s*(import|export)\b|\bimport\(", COMMON, flags=re.M)


@pytest.mark.parametrize("text", [COMMON, *MODULES.values()], ids=["common", *MODULES])
def test_no_module_asks_a_host_or_evaluates_text(text):
    hosts = set(re.findall(r"\w+://[^\"'`\s]+", text))
    assert hosts <= {
        "http://www.w3.org/2000/svg"
    }  # the name of the SVG elements, not an address that is read
    assert not re.search(
        r"\beval\(|new Function|fetch\(|XMLHttpRequest|WebSocket|sendBeacon|@import|url\(", text
    )
    assert "Math.random" not in text.replace("Math.random().toString(36)", "")  # only names of radio groups


def test_source_is_the_shared_code_and_then_the_module():
    assert explorables.source("recall") == f"{COMMON}\n{MODULES['recall']}"


def test_a_page_holds_the_shared_code_once_and_each_module_once():
    script = explorables.static_script(["recall", "plot", "recall"])
    assert script.count("function hydrate(") == 1
    assert [script.count(f"\n{name}: (() => {{\n") for name in ("recall", "plot", "phase_diagram")] == [
        1,
        1,
        0,
    ]
    assert not re.search(r"^\s*(import|export)\b", script, flags=re.M)
    assert script.count("\nreturn { render };") == 2
    assert "</script" not in script.lower()


@pytest.mark.parametrize("names", [[], "recall", ["recall", "nothing"]])
def test_a_page_without_known_modules_is_refused(names):
    with pytest.raises(ValueError, match="name"):
        explorables.static_script(names)


def test_a_module_that_does_not_exist_is_refused():
    with pytest.raises(
        ValueError, match="got 'common'; expected one of collapse_plane, curie_weiss, energy_landscape"
    ):
        explorables.source("common")


# ---- colours


def test_the_light_palette_is_that_of_the_other_figures():
    expected = {str(i): color for i, color in enumerate(figures.COLORS.values(), 1)}
    expected |= {"ink": figures.INK, "muted": figures.MUTED, "grid": figures.GRID, "paper": figures.PAPER}
    assert palette("light") == expected


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_colour_of_text_has_contrast_of_level_aa(theme):
    colors = palette(theme)
    paper = luminance(colors["paper"])
    assert len(colors) == 10
    for name in (*"123456", "ink", "muted"):
        light, dark = sorted((luminance(colors[name]), paper), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5, name


# ---- what the page receives


@pytest.mark.parametrize("name", explorables.NAMES)
def test_the_page_holds_parameters_stage_and_caption(name):
    page = Page(explorables.html(name, PARAMS[name], 'says "all" & more', "a < b"))
    tags = dict(page.tags)
    assert tags["figure"] == {"class": "physgen-explorable", "data-module": name}
    assert json.loads(page.texts[0]) == PARAMS[name]
    assert tags["script"] == {"type": "application/json"}
    assert tags["div"] == {"class": "physgen-stage", "role": "group", "aria-label": 'says "all" & more'}
    assert "".join(page.texts).endswith("a < b")


def test_no_parameter_can_end_the_script_that_holds_it():
    params = RECALL | {"names": ["</script><b>", "B"]}
    text = explorables.html("recall", params, "alt", "caption")
    assert text.count("</script>") == 1
    assert json.loads(Page(text).texts[0]) == params


def test_tensors_become_lists_of_twelve_digits():
    line = {"alpha": torch.tensor([0, 1 / 3], dtype=torch.float64), "temperature": torch.tensor([1.0, 1.5])}
    text = explorables.html("phase_diagram", {"lines": {"mixture": line}}, "alt", "caption")
    assert json.loads(Page(text).texts[0])["lines"]["mixture"] == {
        "alpha": [0, 0.333333333333],
        "temperature": [1, 1.5],
    }


def test_pixels_become_their_bytes_and_other_whole_numbers_stay_a_list():
    images = torch.tensor([[[0, 255]], [[7, 8]]], dtype=torch.uint8)
    for form in (images, images.numpy(), base64.b64encode(bytes([0, 255, 7, 8])).decode()):
        text = explorables.html("image_tape", TAPE | {"training": form}, "alt", "caption")
        assert json.loads(Page(text).texts[0])["training"] == "AP8HCA=="
    text = explorables.html("image_tape", TAPE | {"indices": torch.tensor([17, 203])}, "alt", "caption")
    assert json.loads(Page(text).texts[0])["indices"] == [17, 203]


def test_the_frames_of_a_flow_become_levels_of_sixteen_and_eight_bits():
    generator = torch.Generator().manual_seed(1)
    flow = coupling.CouplingFlow(2, 3, 8, generator=generator)
    for parameter in flow.parameters():
        torch.nn.init.normal_(parameter, std=0.3, generator=generator)
    frames = coupling.layer_frames(flow, n=7, lines=4, nodes=5, resolution=6, extent=2.5, generator=generator)
    params = explorables.flow_params(frames)
    page = json.loads(Page(explorables.html("flow_layers", params, "alt", "caption")).texts[0])
    sizes = {key: page[key] for key in ("layers", "lines", "nodes", "samples", "resolution", "extent")}
    assert sizes == {"layers": 3, "lines": 4, "nodes": 5, "samples": 7, "resolution": 6, "extent": 2.5}
    lowest = float(frames.log_map.max()) - 12
    wanted = {"log_map": frames.log_map.clamp(min=lowest)}
    wanted |= {key: getattr(frames, key) for key in ("grid", "points", "log_density")}
    for key, values in wanted.items():
        low, high, data = (page[key][name] for name in ("low", "high", "data"))
        levels = np.frombuffer(base64.b64decode(data), dtype="u1" if key == "log_map" else "<u2")
        step = (high - low) / (255 if key == "log_map" else 65535)
        found = low + step * torch.tensor(levels.astype(float)).reshape(values.shape)
        torch.testing.assert_close(found, values, rtol=0, atol=0.501 * step)


def test_a_grid_that_flies_apart_is_cut_at_four_times_the_extent_of_the_map():
    frames = coupling.layer_frames(
        coupling.CouplingFlow(2, 2), n=3, lines=2, nodes=2, resolution=2, extent=1.0
    )
    far = frames._replace(grid=50 * frames.grid)
    params = explorables.flow_params(far)
    assert (params["grid"]["low"], params["grid"]["high"]) == (-4, 4)
    assert set(params["grid"]["data"].tolist()) == {0, 255}
    assert json.dumps(explorables._plain(params, "params")).count('"low"') == 4


# ---- what a cell displays


def test_a_cell_displays_the_same_text_on_every_machine_and_keeps_parameters_in_metadata(emitted):
    explorables.show("recall", RECALL, alt="A <grid>.", caption="One & all.")
    explorables.show("recall", RECALL | {"noise": 0.3}, alt="A <grid>.", caption="One & all.")
    (data, record), (other, _) = emitted
    assert set(data) == {WIDGET, "text/html", "text/plain"}
    assert data["text/html"] == other["text/html"]
    assert data["text/html"] == (
        '<figure class="physgen-explorable" data-module="recall"><p>A &lt;grid&gt;. This figure is interactive in '
        "JupyterLab and on the built page.</p><figcaption>One &amp; all.</figcaption></figure>"
    )
    assert data["text/plain"] == other["text/plain"] == "[interactive figure] One & all."
    assert record == {"module": "recall", "params": RECALL, "alt": "A <grid>.", "caption": "One & all."}


def test_the_widget_runs_the_source_with_the_parameters():
    widget = explorables.widget("phase_diagram", PHASES, alt="alt", caption="caption")
    assert widget._esm == explorables.source("phase_diagram")
    assert (widget.params, widget.alt, widget.caption) == (PHASES, "alt", "caption")


def test_a_cell_displays_the_given_view_instead_of_the_figure_alone(emitted):
    view = explorables.widget("recall", RECALL, alt="alt", caption="caption")
    explorables.show("recall", RECALL, alt="alt", caption="caption", view=view)
    assert emitted[0][0][WIDGET]["model_id"] == view.model_id


# ---- what is refused


@pytest.mark.parametrize(
    ("alt", "caption", "named"),
    [("", "c", "alt"), (" \n", "c", "alt"), (None, "c", "alt"), ("a", "", "caption")],
)
def test_a_figure_without_text_alternative_or_caption_is_refused(emitted, alt, caption, named):
    with pytest.raises(ValueError, match=f"{named} is empty"):
        explorables.html("recall", RECALL, alt, caption)
    with pytest.raises(ValueError, match=f"{named} is empty"):
        explorables.show("recall", RECALL, alt=alt, caption=caption)
    assert not emitted


BAD_RECALL = {
    "side": [1, 25, 2.0, None],
    "patterns": [[], ["1100", "10"], ["1100", "12ab"], "1100", ["1100"] * 13],
    "names": [["A"], ["A", ""], None],
    "seed": [-1, 2**53, 1.5, True],
    "stored": [0, 3, 1.5],
    "target": [-1, 2],
    "steps": [-1, 0.5],
    "noise": [-0.1, 0.6, "0.1"],
    "temperature": [-0.1, 2],
    "couplings": ["hebbian", None],
}
BAD_PHASES = {
    "lines": [{}, {"unknown": PHASES["lines"]["spin_glass"]}, None],
    "alpha_max": [0, 2],
    "t_max": [0, 6],
    "alpha": [-0.01, 0.2],
    "temperature": [0, 1.6],
    "n_spins": [4, 10_000, 100.0],
    "sweeps": [1, 0.5],
    "seed": [-1],
}


@pytest.mark.parametrize(("key", "value"), [(k, v) for k, values in BAD_RECALL.items() for v in values])
def test_recall_refuses_a_parameter_out_of_range_by_name(key, value):
    with pytest.raises(ValueError, match=f"^{key}: got .*; expected"):
        explorables.html("recall", RECALL | {key: value}, "alt", "caption")


def test_recall_refuses_to_start_from_a_pattern_that_is_not_stored():
    explorables.html("recall", RECALL | {"stored": 2, "target": 1}, "alt", "caption")
    with pytest.raises(ValueError, match=r"^target: got 1; expected an integer from 0 to 0"):
        explorables.html("recall", RECALL | {"stored": 1, "target": 1}, "alt", "caption")


@pytest.mark.parametrize(("key", "value"), [(k, v) for k, values in BAD_PHASES.items() for v in values])
def test_the_phase_diagram_refuses_a_parameter_out_of_range_by_name(key, value):
    with pytest.raises(ValueError, match=f"^{key}: got .*; expected"):
        explorables.html("phase_diagram", PHASES | {key: value}, "alt", "caption")


@pytest.mark.parametrize(
    "line",
    [None, {"alpha": [0, 1]}, {"alpha": [0, 1], "temperature": [1]}, {"alpha": [0], "temperature": [1]}],
)
def test_a_phase_line_needs_two_lists_of_one_length(line):
    with pytest.raises(ValueError, match=r"mixture.*expected alpha and temperature"):
        explorables.html("phase_diagram", {"lines": {"mixture": line}}, "alt", "caption")


BAD_EXACT = {
    "reverse_diffusion": {
        "means": [[], None, [[0, 0, 0]], [[0, 11]], [[0, "1"]], [[0, 0]] * 13],
        "weights": [[1], [0.5, 0.6], [1.5, -0.5], [1, 0], "equal"],
        "variance": [0, 5],
        "t_max": [0, 11],
        "eta": [-0.1, 2.1],
        "steps": [4, 201, 50.0],
        "particles": [9, 601],
        "seed": [-1, 2**53, True],
    },
    "symmetry_breaking": {
        "norm": [0.5, 21],
        "variance": [0, 5],
        "t_max": [0, 11],
        "t": [-0.1, 3.5],
        "clones": [1, 201, 20.0],
        "seed": [-1],
    },
    "curie_weiss": {
        "beta": [0, 3],
        "field": [-0.6, 0.6],
        "d": [1, 401, 10.0],
        "seed": [-1],
    },
}


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [(name, k, v) for name, bad in BAD_EXACT.items() for k, values in bad.items() for v in values],
)
def test_the_figures_of_diffusion_refuse_a_parameter_out_of_range_by_name(name, key, value):
    with pytest.raises(ValueError, match=f"^{key}: got .*; expected"):
        explorables.html(name, PARAMS[name] | {key: value}, "alt", "caption")


BAD_MEMORIES = {
    "collapse_plane": {
        "points": [
            None,
            [[0, 0]],
            [[1, 1], [1, 1]],
            [[0, 0], [0, 3.1]],
            [[0, 0], [1]],
            [[i / 50, 0] for i in range(61)],
        ],
        "t": [0, 0.001, 4],
        "probe": [[0], [0, 4], "centre", None],
        "seed": [-1, 1.5],
    },
    "manifold_spectrum": {
        "d": [1, 4.0, 1001, None],
        "gammas": [[], [[]], [[0.5, 0.5, 0.5, 0.5]], [[0.0]], [[-1.0]], [0.5], [[0.5]] * 5, None],
        "sigma2": [0, 101],
        "manifold": [-1, 2, 0.5],
    },
    "image_tape": {
        "size": [[2], [0, 2], [1, 65], [1.0, 2.0], None],
        "times": [[1.0], [1.0, 1.0, 0.5, 0.0], [0.0, 0.5, 1.0, 2.0], [2.0, 1.0, 0.5, -0.1]],
        "labels": [["one"], ["one", ""], "one, eight"],
        "indices": [[], [-1, 3], [0.5, 1], None],
        "training": [base64.b64encode(bytes(6)).decode(), "no base64!", None, [0, 0, 0, 0]],
        "fork": [0, 4, 1.0, None],
        "branches": [[], [path(3)] * 7, None],
        "t_S": [None, -1],
        "t_C": [None, "soon"],
        "frame": [-1, 4],
    },
}


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [(name, k, v) for name, bad in BAD_MEMORIES.items() for k, values in bad.items() for v in values],
)
def test_the_figures_of_memorization_refuse_a_parameter_out_of_range_by_name(name, key, value):
    with pytest.raises(ValueError, match=f"^{key}: got .*; expected"):
        explorables.html(name, PARAMS[name] | {key: value}, "alt", "caption")


BAD_ENERGIES = {
    "energy_landscape": {
        "points": [None, [0.5], [0.0, 3.1], [0.1] * 13, [[0, 1], [1, 0]]],
        "centres": [None, [0.0], [1.0, -1.0], [0.0, 0.0], [-4.0, 0.0], [i / 10 for i in range(16)]],
        "width": [None, 0.05, 3, "1"],
        "theta": [None, [0, 0], [0, 0, 21]],
        "confinement": [0, 2],
        "rate": [0, 4],
        "particles": [5, 201, 20.0],
        "negatives": ["none", None],
        "seed": [-1, 0.5],
    },
    "flow_layers": {
        "layers": [0, 25, 1.0, True, 3],
        "lines": [1, 42, None, 3],
        "nodes": [1, 202, None, 4],
        "samples": [0, 1001, None, 5],
        "resolution": [1, 97, None, 3],
        "extent": [0, 21, None],
        "grid": [None, packed(10), packed(144, 3.0, 3.0), {"low": 0, "high": 1}],
        "points": [packed(47), {"data": packed(48)["data"]}],
        "log_density": [packed(25)],
        "log_map": [packed(24), packed(12, 1.0, -1.0)],
        "layer": [-1, 2.5],
        "sample": [-1, 4, 0.5],
    },
    "gan_portrait": {
        "start": [None, [0], [0, 2.7]],
        "game": ["logistic", None],
        "rule": ["penalised", None],
        "variance": [0, 5],
        "penalty": [-0.1, 2.1],
        "h": [0, 2.5],
        "steps": [5, 401, 50.0],
    },
}


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [(name, k, v) for name, bad in BAD_ENERGIES.items() for k, values in bad.items() for v in values],
)
def test_the_figures_of_energies_and_flows_refuse_a_parameter_out_of_range_by_name(name, key, value):
    # A size that does not fit what is packed is told where bytes are missing.
    named = {"layers": "grid", "lines": "grid", "nodes": "grid", "samples": "points", "resolution": "log_map"}
    where = named[key] if isinstance(value, int) and value in (3, 4, 5) and key in named else key
    with pytest.raises(ValueError, match=f"^{where}: got .*; expected"):
        explorables.html(name, PARAMS[name] | {key: value}, "alt", "caption")


BAD_SCALES = {
    "lattice_zoom": {
        "exact": [
            None,
            {"T": [2.0, 2.4]},
            {"T": [2.4, 2.0], "u": [-1.0, -1.2], "M": [0.0, 0.0]},
            {"T": [0.0, 2.0], "u": [-2.0, -1.2], "M": [1.0, 0.0]},
            {"T": [2.0, 2.4], "u": [-1.7], "M": [0.9, 0.0]},
        ],
        "size": [2, 514, 16.0],
        "blocks": [[1, 2], [1, 2, 3], [2, 1, 4], [1, 2, 32], [0, 1, 2], [1.0, 2.0, 4.0], None],
        "model": ["potts", None],
        "T": [1.9, 2.5],
        "beta": [0.3, 1.1],
        "start": ["warm", None],
        "cut": ["none"],
        "rounds": [-1, 0.5],
        "sweeps": [-1, 0.5],
        "per_frame": [0, 11, 2.0],
        "running": [1, None],
        "seed": [-1, 2**53],
    },
    "rg_flow": {
        "map": ["exact", None],
        "starts": [None, {"ising": 0.4}, {"kadanoff": 1.1}, {"wilson": [0.3]}, {"wilson": [0.7, 0.0]}],
        "paths": [
            None,
            [{"K1": [0.4]}],
            [{"K1": [0.4], "K2": [0.0, 0.1]}],
            [{"K1": [], "K2": []}],
            [MEASURED | {"error1": [0.01, -0.01]}],
            [MEASURED | {"error2": [0.01]}],
            [MEASURED | {"error1": None}],
            [MEASURED | {"name": 2.5}],
            [MEASURED] * 13,
        ],
        "steps": [4, 61, 10.0],
        "taken": [-1, 25, 1.5],
    },
    "threshold": {
        "signal": [None, [0.0] * 8, [0.0] * 24, [[0.0] * 16]],
        "noisy": [None, [0.0] * 32],
        "sigma": [0, -1, None],
        "filter": [None, [1.0], [1.0, 1.0], [0.7, 0.7, 0.1, 0.1]],
        "T": [-0.1, 0.4],
        "rule": ["firm", None],
        "levels": [0, 5, 1.5],
    },
}


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [(name, k, v) for name, bad in BAD_SCALES.items() for k, values in bad.items() for v in values],
)
def test_the_figures_of_scales_refuse_a_parameter_out_of_range_by_name(name, key, value):
    with pytest.raises(ValueError, match=f"^{key}: got .*; expected"):
        explorables.html(name, PARAMS[name] | {key: value}, "alt", "caption")


@pytest.mark.parametrize("name", ["trunk", "branches", "forward"])
@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("frames", base64.b64encode(bytes(5)).decode()),
        ("frames", None),
        ("probability", [1.5]),
        ("probability", []),
        ("nearest", [2]),
        ("nearest", [-1]),
        ("distance", [-0.1]),
        ("distance", 3.0),
    ],
)
def test_each_part_of_a_tape_has_as_many_frames_as_its_place_asks_for(name, key, value):
    count = {"trunk": 1, "branches": 3, "forward": 4}[name]
    wrong = path(count) | {key: value * count if isinstance(value, list) else value}
    params = TAPE | {name: [path(3), wrong] if name == "branches" else wrong}
    where = r"branches\[1\]" if name == "branches" else name
    with pytest.raises(ValueError, match=rf"^{where}: {key}: got .*; expected"):
        explorables.html("image_tape", params, "alt", "caption")


def test_a_tape_may_lack_the_forward_path_and_moves_its_fork():
    params = {k: v for k, v in TAPE.items() if k != "forward"}
    explorables.html("image_tape", params, "alt", "caption")
    explorables.html(
        "image_tape", params | {"fork": 3, "trunk": path(3), "branches": [path(1)]}, "alt", "caption"
    )
    with pytest.raises(ValueError, match=r"^trunk: frames: got 2 bytes; expected uint8 pixels of 3 images"):
        explorables.html("image_tape", params | {"fork": 3, "branches": [path(1)]}, "alt", "caption")
    with pytest.raises(ValueError, match=r"^trunk: got None; expected a dict of frames"):
        explorables.html("image_tape", params | {"trunk": None}, "alt", "caption")


def test_clones_part_no_earlier_than_they_start():
    explorables.html("symmetry_breaking", {"t": 3.5, "t_max": 4}, "alt", "caption")
    with pytest.raises(ValueError, match=r"^t: got 1\.5; expected a number from 0 to 1"):
        explorables.html("symmetry_breaking", {"t": 1.5, "t_max": 1}, "alt", "caption")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1j, object(), {1, 2}])
def test_what_json_cannot_hold_is_refused_with_its_place(value):
    with pytest.raises(ValueError, match=r"params\['deep'\]\[1\]"):
        explorables.html("plot", {"deep": [0, value]}, "alt", "caption")


def test_parameters_that_are_no_dict_are_refused():
    with pytest.raises(ValueError, match="params: got list"):
        explorables.html("plot", [], "alt", "caption")
