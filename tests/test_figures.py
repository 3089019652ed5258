"""Figures are the same text on every machine, carry their text alternative, and turn with the theme."""

from __future__ import annotations

import re

import matplotlib.pyplot as plt
import pytest

from physgen import figures


@pytest.fixture
def curve():
    figures.use_style()
    figure, axes = plt.subplots()
    axes.plot([0, 1, 2], [0, 1 / 3, 4 / 7], label=r"$\alpha$")
    axes.legend()
    yield figure
    plt.close(figure)


def test_a_figure_is_drawn_as_the_same_text_twice(curve):
    assert figures.draw(curve) == figures.draw(curve)


def test_a_difference_in_the_last_digits_of_the_data_leaves_the_text_unchanged(curve):
    before = figures.draw(curve)
    curve.axes[0].lines[0].set_ydata([0, 1 / 3 + 1e-12, 4 / 7])
    assert figures.draw(curve) == before


def test_a_figure_without_words_is_refused(curve):
    for words in ({"alt": "", "caption": "x"}, {"alt": "x", "caption": "  "}, {"alt": None, "caption": "x"}):
        with pytest.raises(ValueError, match="empty"):
            figures.show(curve, **words)


def test_shown_output_carries_alternative_and_caption_as_metadata(curve, emitted):
    figures.show(curve, alt="a curve that rises", caption="Rise.")
    ((data, record),) = emitted
    assert record == {"alt": "a curve that rises", "caption": "Rise."}
    assert data["image/svg+xml"].startswith("<svg")


def test_on_the_page_colours_are_variables_and_ids_are_its_own(curve):
    html = figures.page_html(figures.draw(curve), 'the "rise"', "a < b", prefix="f1-")
    assert "var(--pg-1, #0969b3)" in html and "var(--pg-ink, #1f2328)" in html
    ids, references = (
        set(re.findall(r' id="([^"]+)"', html)),
        set(re.findall(r'(?:url\(#|href="#)([^)"]+)', html)),
    )
    assert ids == references and all(i.startswith("f1-") for i in ids)
    assert "the &quot;rise&quot;" in html and "a &lt; b" in html


def test_on_the_page_a_style_is_written_once_and_reaches_every_element_that_had_it(curve):
    svg = figures.draw(curve)
    before, after = (
        re.findall(r'(?:style|class)="([^"]*)"', t)
        for t in (svg, figures.page_html(svg, "a", "b", prefix="f1-"))
    )
    sheet = dict(re.findall(r"\.(f1-\d+)\{([^}]*)\}", figures.page_html(svg, "a", "b", prefix="f1-")))
    unpainted = [
        re.sub(r"var\(--pg-\w+, (#\w+)\)", r"\1", sheet.get(s, s)) for s in after if not s.startswith("pg-")
    ]
    assert unpainted == before and len(sheet) > 1 and max(map(after.count, sheet.values()), default=0) == 0
