"""Every page, light and dark, over file:// with the network off: it loads, is quiet, accessible, light, and described."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe

HTML = Path(__file__).resolve().parents[2] / "_build" / "html"
PAGES = sorted(
    str(p.relative_to(HTML))
    for p in HTML.rglob("*.html")
    if "_static" not in p.parts and p != HTML / "index.html"
)
CHAPTERS = [p for p in PAGES if re.fullmatch(r"book/\w+/\w+\.html", p) and "/api/" not in p]
AXE = Axe().axe_script
LEVELS = {
    "runOnly": {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]},
    "preload": False,
}
MEGABYTE = 1_000_000
# The contrast of a word of code depends on its class alone: twenty of each will do, and spare axe ten thousand more.
FEWER_WORDS = """() => {
  const seen = {};
  for (const word of document.querySelectorAll(".highlight pre span[class]")) {
    seen[word.className] = (seen[word.className] ?? 0) + 1;
    if (seen[word.className] > 20 && !word.children.length) word.replaceWith(word.textContent);
  }
}"""


def test_the_site_was_built():
    assert len(CHAPTERS) >= 2, f"no built chapters in {HTML}; run: make book"


def test_the_front_door_leads_to_the_landing_page(visit):
    page = visit().page
    page.goto((HTML / "index.html").as_uri())
    page.wait_for_url("**/book/index.html")


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("name", PAGES)
def test_page_is_quiet_offline_and_accessible(visit, name, theme):
    v = visit(theme)
    page = v.open(name)
    page.wait_for_load_state("networkidle")
    page.evaluate(FEWER_WORDS)
    page.evaluate(AXE)
    violations = page.evaluate("(options) => axe.run(document, options)", LEVELS)["violations"]
    found = [f"{x['id']}: {n['target']} {n['html'][:160]}" for x in violations for n in x["nodes"]]
    assert not found, "\n".join(found)
    assert not v.trouble, "\n".join(v.trouble)
    abroad = [u for u in v.requests if not u.startswith(("file://", "data:", "blob:"))]
    assert not abroad, abroad


@pytest.mark.parametrize("name", PAGES)
def test_page_is_light_and_names_no_other_host(name):
    html = (HTML / name).read_text(encoding="utf-8")
    loaded = re.findall(r'<(?:script|link|img|iframe)\b[^>]*?(?:src|href)="([^"#]+)"', html)
    assert not [u for u in loaded if u.startswith(("http:", "https:", "//"))]
    files = {((HTML / name).parent / u.split("?")[0]).resolve() for u in loaded}
    weight = len(re.sub(r'<script type="(?:module|application/json)">.*?</script>', "", html, flags=re.S))
    weight += sum(
        f.stat().st_size
        for f in files
        if f.suffix in (".js", ".css", ".svg", ".png") and f.name != "tex-svg.js" and f.exists()
    )
    fonts = (HTML / "_static/vendor/fontawesome/webfonts/fa-solid-900.woff2").stat().st_size
    assert weight + fonts <= 1.5 * MEGABYTE, f"{weight + fonts} bytes"


@pytest.mark.parametrize("name", CHAPTERS)
def test_figures_have_text_alternative_and_caption(visit, name):
    page = visit().open(name)
    figures = page.locator("figure").all()
    assert figures
    for figure in figures:
        assert figure.locator("figcaption").text_content().strip()  # also where an exercise is folded
        label = figure.locator("[role=img], .physgen-stage").first.get_attribute("aria-label")
        assert label and len(label) > 20
    for image in page.locator("article img").all():
        assert image.get_attribute("alt")


@pytest.mark.parametrize("name", CHAPTERS)
def test_chapter_fits_a_narrow_screen(visit, name):
    page = visit(width=400).open(name)
    assert page.evaluate("document.documentElement.scrollWidth") <= 400


@pytest.mark.parametrize("name", CHAPTERS)
def test_the_notebook_can_be_downloaded(name):
    html = (HTML / name).read_text(encoding="utf-8")
    target = re.search(r'href="([^"]+\.ipynb)"', html)
    assert target and ((HTML / name).parent / target[1]).resolve().exists()


def test_ledger_filters_by_chapter_and_verdict_and_links_to_the_cell(visit):
    v = visit()
    page = v.open("book/ledger.html")
    rows = page.locator("table.pg-ledger tbody tr")
    everything = rows.count()
    page.get_by_label("verdict").select_option("corrects")
    shown = page.locator("table.pg-ledger tbody tr:visible")
    assert 0 < shown.count() < everything
    assert set(shown.locator(".pg-verdict").all_inner_texts()) == {"corrects"}
    assert page.locator("[data-count]").inner_text() == f"{shown.count()} claims"
    link = shown.first.locator("a").first.get_attribute("href")
    claim = link.split("#")[1]
    page.goto((HTML / "book" / link.split("#")[0]).as_uri() + "#" + claim)
    assert page.locator(f"#{claim}").is_visible()


def test_the_search_of_any_page_finds_a_chapter(visit):
    v = visit()
    page = v.open("book/memories/hebbian.html")
    page.keyboard.press("Control+k")
    page.keyboard.type("speciation")
    page.keyboard.press("Enter")
    page.wait_for_selector("#search-results li a[href*='exact/speciation']")
    assert not v.trouble, v.trouble
