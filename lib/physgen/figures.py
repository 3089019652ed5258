"""One look for every figure of the book: theory is a line, simulation is points with error bars, a colour keeps its meaning.

A figure is stored as a small SVG whose colours are the constants below. The site replaces each by a CSS variable, so that one
picture serves light and dark; JupyterLab shows it as it is, on white. `show` wants a text for those who cannot see the figure.
"""

from __future__ import annotations

import io
import re
from collections import Counter

from physgen.emit import emit

__all__ = ["COLORS", "INK", "MUTED", "draw", "letters", "page_html", "show", "use_style"]

INK, MUTED, GRID, PAPER = "#1f2328", "#59636e", "#d8dee4", "#ffffff"
COLORS = {
    "blue": "#0969b3",
    "orange": "#bc4c00",
    "green": "#1a7f4b",
    "purple": "#8145b5",
    "gold": "#8a6100",
    "pink": "#b02a6f",
}
# The style sheet of the site gives each variable a value for light and one for dark.
CSS_VARIABLES = {
    INK: "--pg-ink",
    MUTED: "--pg-muted",
    GRID: "--pg-grid",
    PAPER: "--pg-paper",
    **{color: f"--pg-{i}" for i, color in enumerate(COLORS.values(), 1)},
}
# matplotlib lays the text out in fonts of its own; a browser without them takes the nearest.
FALLBACKS = {
    "DejaVu Sans": "Verdana, Arial, sans-serif",
    "STIXGeneral": "'STIX Two Text', 'Times New Roman', serif",
}
STYLE = {
    "axes.axisbelow": True,
    "axes.edgecolor": MUTED,
    "axes.facecolor": PAPER,
    "axes.grid": True,
    "axes.labelcolor": INK,
    "axes.labelsize": 11,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlecolor": INK,
    "axes.titlesize": 11,
    "errorbar.capsize": 2,
    "figure.constrained_layout.use": True,
    "figure.facecolor": PAPER,
    "figure.figsize": (6.4, 3.4),
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "image.interpolation": "none",
    "legend.frameon": False,
    "legend.labelcolor": INK,
    "lines.linewidth": 1.8,
    "lines.markersize": 4.5,
    "mathtext.fontset": "stix",
    "savefig.facecolor": PAPER,
    # Text stays text: it can be read aloud and selected, and weighs half.
    "svg.fonttype": "none",
    "svg.hashsalt": "physgen",
    "text.color": INK,
    "xtick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.color": MUTED,
    "ytick.labelcolor": INK,
}


def use_style() -> None:
    """Make matplotlib draw in the style of the book from here on."""
    import matplotlib as mpl
    from cycler import cycler

    mpl.rcParams.update(STYLE)
    mpl.rcParams["axes.prop_cycle"] = cycler(color=list(COLORS.values()))


def draw(figure) -> str:
    """The figure as SVG text that is the same on every machine: fixed ids, no date, coordinates to 1/100 of a point."""
    buffer = io.StringIO()
    figure.savefig(
        buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None}
    )
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", svg, flags=re.S)
    svg = re.sub(r"\s*\n\s*", " ", svg)
    for font, others in FALLBACKS.items():
        svg = svg.replace(f"'{font}'", f"'{font}', {others}")
    # Embedded images are base64 text, in which digits around a dot cannot occur; transforms of glyphs keep their small scale.
    return re.sub(r"(?<![\w.])-?\d+\.\d{3,}(?![\w.])", _shorter, svg)


def _shorter(match: re.Match) -> str:
    number = float(match.group())
    return (
        f"{number:.2f}".rstrip("0").rstrip(".")
        if abs(number) >= 1
        else f"{number:.5f}".rstrip("0").rstrip(".")
    )


def show(figure, *, alt: str, caption: str) -> None:
    """Display a figure with its caption and its text alternative, and close it.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
    alt : str
        What a reader who cannot see the figure needs to know: the axes, the shape of the curves, the message.
    caption : str
        One or two sentences under the figure; may hold ``$…$``.

    Raises
    ------
    ValueError
        If `alt` or `caption` is empty.
    """
    import matplotlib.pyplot as plt

    for name, text in (("alt", alt), ("caption", caption)):
        if not isinstance(text, str) or not text.strip():
            raise ValueError(f"{name} is empty; each figure needs a text alternative and a caption")
    svg = draw(figure)
    plt.close(figure)
    data = {"image/svg+xml": svg, "text/plain": f"[figure] {caption}"}
    emit(data, {"alt": alt, "caption": caption})


def page_html(svg: str, alt: str, caption: str, prefix: str) -> str:
    """The figure as a page shows it: SVG in the text, colours as CSS variables, ids that are its own (`prefix`)."""
    from html import escape

    used = set(re.findall(r'(?:url\(#|href="#)([^)"]+)', svg))
    svg = re.sub(r' id="([^"]+)"', lambda m: f' id="{prefix}{m[1]}"' if m[1] in used else "", svg)
    svg = re.sub(r'(url\(#|href="#)', rf"\1{prefix}", svg)
    for color, variable in CSS_VARIABLES.items():
        svg = svg.replace(color, f"var({variable}, {color})")
    svg = _styles_once(svg, prefix)
    svg = svg.replace("<svg ", f'<svg role="img" aria-label="{escape(alt, quote=True)}" ', 1)
    return (
        f'<figure class="pg-figure"><div class="pg-scroll" tabindex="0" role="group" aria-label="figure">{svg}</div>'
        f"<figcaption>{escape(caption, quote=False)}</figcaption></figure>"
    )


def _styles_once(svg: str, prefix: str) -> str:
    """The styles that matplotlib repeats at each element, half the weight of a figure, as classes of its own style sheet."""
    counts = Counter(re.findall(r' style="([^"]*)"', svg))
    names = {style: f"{prefix}{i}" for i, (style, count) in enumerate(counts.items()) if count > 2}
    svg = re.sub(r' style="([^"]*)"', lambda m: f' class="{names[m[1]]}"' if m[1] in names else m[0], svg)
    sheet = "".join(f".{name}{{{style}}}" for style, name in names.items())
    return re.sub(r"(<svg [^>]*>)", rf"\1<style>{sheet}</style>", svg, count=1) if sheet else svg


def letters(text: str, side: int):
    """Each character of `text` as a pattern of ±1 on a side × side grid: ink is +1.

    Parameters
    ----------
    text : str
        One or more characters of the font DejaVu Sans, which comes with matplotlib.
    side : int, ≥ 5

    Returns
    -------
    torch.Tensor
        (len(text), side²), int8; row by row from the top left.

    Raises
    ------
    ValueError
        If `text` is empty or blank, or `side` < 5.
    """
    import torch
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import TextPath

    if not text or any(c.isspace() for c in text):
        raise ValueError(f"text: got {text!r}; expected one or more printing characters")
    if not isinstance(side, int) or side < 5:
        raise ValueError(f"side: got {side!r}; expected an integer >= 5")
    centre = (torch.arange(side) + 0.5) / side
    points = torch.cartesian_prod(1 - centre, centre)[:, [1, 0]].numpy()
    patterns = []
    for character in text:
        path = TextPath((0, 0), character, prop=FontProperties("DejaVu Sans", weight="bold"))
        low, high = path.vertices.min(0), path.vertices.max(0)
        # The letter fills the grid but for one cell on each side.
        margin = 1.0 / side
        inside = path.contains_points(low + (points - margin) / (1 - 2 * margin) * (high - low))
        patterns.append(torch.where(torch.from_numpy(inside), 1, -1))
    return torch.stack(patterns).to(torch.int8)
