"""A headless Chromium over `file://` with no network, as a reader without one has it."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HTML = ROOT / "_build" / "html"
sys.path.insert(0, str(ROOT / "tools"))


@pytest.fixture(scope="session")
def chromium():
    from playwright.sync_api import sync_playwright

    import browser

    with sync_playwright() as p:
        yield (
            running := p.chromium.launch(
                executable_path=os.environ.get("PHYSGEN_BROWSER") or browser.obtain(), args=browser.FLAGS
            )
        )
        running.close()


class Visit:
    """One page, with all that went wrong while it was open."""

    def __init__(self, context):
        self.page = context.new_page()
        self.trouble: list[str] = []
        self.requests: list[str] = []
        self.page.on("request", lambda r: self.requests.append(r.url))
        self.page.on("requestfailed", lambda r: self.trouble.append(f"request failed: {r.url}"))
        self.page.on(
            "console",
            lambda m: self.trouble.append(f"{m.type}: {m.text}") if m.type in ("error", "warning") else None,
        )
        self.page.on("pageerror", lambda e: self.trouble.append(f"page error: {e}"))

    def open(self, name: str):
        self.page.goto((HTML / name).as_uri(), wait_until="load")
        self.page.evaluate(
            "async () => { await window.MathJax?.startup?.promise; await new Promise(requestAnimationFrame); }"
        )
        return self.page


@pytest.fixture
def visit(chromium):
    """Call `visit(theme="light", width=1280)` for a fresh page."""
    contexts = []

    def make(theme: str = "light", width: int = 1280, height: int = 900) -> Visit:
        context = chromium.new_context(
            viewport={"width": width, "height": height},
            offline=True,
            color_scheme=theme,
            reduced_motion="no-preference",
        )
        context.add_init_script(
            f"localStorage.setItem('mode', '{theme}'); localStorage.setItem('theme', '{theme}')"
        )
        contexts.append(context)
        return Visit(context)

    yield make
    for context in contexts:
        context.close()


@pytest.fixture
def figure(visit):
    """Call `figure(part, chapter, module)` for (page, figure, its drawn root, its parameters), once it is ready."""
    visits = []

    def make(part: str, chapter: str, module: str, **kind):
        v = visit(**kind)
        visits.append(v)
        page = v.open(f"book/{part}/{chapter}.html")
        found = page.locator(f'figure[data-module="{module}"]').first
        found.scroll_into_view_if_needed()
        page.wait_for_function("(figure) => 'ready' in figure.dataset", arg=found.element_handle())
        params = json.loads(found.locator('script[type="application/json"]').inner_text())
        return page, found, found.locator(".pgx > div").first, params

    yield make
    for v in visits:
        assert not v.trouble, v.trouble


@pytest.fixture
def staged(visit, tmp_path):
    """Call `staged(module, params)` for (page, figure, its drawn root) on a page of this figure alone."""
    from physgen import explorables

    visits = []

    def make(module: str, params: dict, **kind):
        v = visit(**kind)
        visits.append(v)
        body = explorables.html(
            module, params, "An interactive figure that stands alone on this page.", "A caption."
        )
        script = f'<script type="module">{explorables.static_script([module])}</script>'
        path = tmp_path / f"{module}.html"
        head = '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        path.write_text(f"{head}<title>One figure</title><body>{body}{script}", encoding="utf-8")
        v.page.goto(path.as_uri())
        v.page.wait_for_selector("figure[data-ready]", state="attached")
        return v.page, v.page.locator("figure").first, v.page.locator(".pgx > div").first

    yield make
    for v in visits:
        assert not v.trouble, v.trouble
