"""What nbval cannot see: every notebook is executed in order, keeps its budget, and checks each of its claims once."""

from __future__ import annotations

import ast
import re
from collections import Counter
from pathlib import Path

import nbformat
import pytest

from paths import BOOK, EXECUTED, chapters
from physgen import ledger

CHAPTERS = chapters()
BUDGET = 600_000


def code_cells(name: str):
    notebook = nbformat.read(BOOK / f"{name}.ipynb", as_version=4)
    return [c for c in notebook.cells if c.cell_type == "code" and c.source.strip()]


def checked_ids(name: str) -> list[str]:
    """Ids given to `check` in the code of a notebook, cell by cell."""
    found = []
    for cell in code_cells(name):
        for node in ast.walk(ast.parse(cell.source)):
            if (
                isinstance(node, ast.Call)
                and getattr(node.func, "attr", getattr(node.func, "id", "")) == "check"
            ):
                found.append(ast.literal_eval(node.args[0]))
    return found


def test_every_notebook_below_book_is_in_the_table_of_contents():
    assert {
        str(p.relative_to(BOOK).with_suffix(""))
        for p in BOOK.rglob("*.ipynb")
        if ".ipynb_checkpoints" not in p.parts
    } == set(CHAPTERS)


@pytest.mark.parametrize("name", CHAPTERS)
def test_notebook_was_executed_in_order_without_error(name):
    cells = code_cells(name)
    assert [c.execution_count for c in cells] == list(range(1, len(cells) + 1))
    # Nothing printed either: warnings and raw numbers differ between machines.
    assert {o.output_type for c in cells for o in c.outputs} <= {"display_data"}


@pytest.mark.parametrize("name", CHAPTERS)
def test_notebook_keeps_its_size(name):
    assert (BOOK / f"{name}.ipynb").stat().st_size <= BUDGET


@pytest.mark.parametrize("name", CHAPTERS)
def test_cells_are_short(name):
    """A cell that a reader sees fits between two sentences; one that only draws is folded and may be longer."""
    for cell in code_cells(name):
        folded = {"hide-input", "hide-cell"} & set(cell.metadata.get("tags", []))
        assert len(cell.source.splitlines()) <= (40 if folded else 20), cell.source


@pytest.mark.parametrize("name", CHAPTERS)
def test_chapter_has_question_explorable_exercises_and_summary(name):
    text = "\n".join(c.source for c in nbformat.read(BOOK / f"{name}.ipynb", as_version=4).cells)
    assert "explorables.show(" in text or "explore.explore(" in text
    assert text.count("### Exercise") >= 4
    for heading in ("What to remember", "What comes next"):
        assert heading in text
    tags = [c.metadata.get("tags", []) for c in code_cells(name)]
    assert sum("hide-cell" in t for t in tags) >= 4


def test_each_claim_is_checked_in_exactly_one_cell_of_its_chapter():
    found = Counter((i, name) for name in CHAPTERS for i in checked_ids(name))
    claims = {(i, e["chapter"]) for i, e in ledger.claims().items() if e.get("kind") != "notation"}
    assert set(found) == claims
    assert max(found.values()) == 1


def test_every_claim_of_the_lectures_first_chapter_is_in_the_ledger():
    # HEB-18 is a remark on time scales without a number; 50 belongs to a later chapter.
    numbers = {i.rstrip("abc") for i in ledger.claims() if i.startswith("HEB-")}
    assert numbers == {f"HEB-{n:02d}" for n in range(1, 50) if n != 18}


@pytest.mark.parametrize("name", CHAPTERS)
def test_the_run_for_the_site_gave_the_stored_outputs(name):
    """That run had one thread; nbval's, under the kernel `two_threads`, has two: both must match what is stored."""
    again = nbformat.read(EXECUTED / f"{name}.ipynb", as_version=4)
    stored = nbformat.read(BOOK / f"{name}.ipynb", as_version=4)
    for a, b in zip(again.cells, stored.cells, strict=True):
        if a.cell_type == "code":
            assert [shown(o) for o in a.outputs] == [shown(o) for o in b.outputs], a.source


def shown(output) -> dict:
    """What a reader sees of an output: no metadata, no widget of a kernel that is gone."""
    data = {k: v for k, v in output.get("data", {}).items() if "widget" not in k}
    return {"type": output.output_type, "text": output.get("text"), "data": data}


def test_ledger_lives_where_the_package_looks_for_it():
    assert ledger.LEDGER == Path(BOOK / "ledger.yml")


def test_the_names_in_the_notation_table_are_names_in_the_package():
    spins = (BOOK / "notation.md").read_text(encoding="utf-8").split("## Data, noise and time")[0]
    names = re.findall(
        r"`(\w+)`", " ".join(line.rsplit("|", 2)[1] for line in spins.splitlines() if line.count("|") >= 3)
    )
    code = "\n".join(p.read_text(encoding="utf-8") for p in (BOOK.parent / "lib").rglob("*.py"))
    assert names and not [n for n in names if not re.search(rf"\b{n}\b", code)]
