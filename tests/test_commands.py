"""What the commands do when something is wrong: one sentence, nothing lost."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

import bootstrap
import browser
import notebooks
import paths

ROOT = Path(__file__).resolve().parents[1]


def write(path: Path, *sources: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(s) for s in sources])
    nbformat.write(notebook, path)


@pytest.fixture
def shelf(monkeypatch, tmp_path):
    """A book of its own in a temporary folder."""
    monkeypatch.setattr(notebooks, "BOOK", tmp_path / "book")
    monkeypatch.setattr(notebooks, "EXECUTED", tmp_path / "executed")
    return tmp_path


def test_a_failing_cell_names_notebook_cell_and_cause_and_keeps_what_was_done(shelf, capsys, monkeypatch):
    write(shelf / "book/part/one.ipynb", "x = 6 * 7\nx", "1 / 0", "'never'")
    outcome = notebooks.execute("part/one")
    assert "cell 2 of 3" in outcome.error and "ZeroDivisionError" in outcome.error
    kept = nbformat.read(shelf / "executed/part/one.ipynb", as_version=4)
    assert kept.cells[0].outputs[0].data["text/plain"] == "42"
    assert not notebooks.is_fresh("part/one")


def test_a_notebook_runs_again_only_when_its_cells_change(shelf):
    write(shelf / "book/part/one.ipynb", "1 + 1")
    assert not notebooks.is_fresh("part/one")
    assert not notebooks.execute("part/one").error
    assert notebooks.is_fresh("part/one")
    write(shelf / "book/part/one.ipynb", "1 + 2")
    assert not notebooks.is_fresh("part/one")


def test_a_change_in_the_library_changes_the_fingerprint_and_rubbish_does_not(monkeypatch, tmp_path):
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "a.py").write_text("1")
    before = paths.fingerprint(tmp_path / "lib")
    (tmp_path / "lib" / "__pycache__").mkdir()
    (tmp_path / "lib" / "__pycache__" / "a.pyc").write_text("rubbish")
    assert paths.fingerprint(tmp_path / "lib") == before
    (tmp_path / "lib" / "a.py").write_text("2")
    assert paths.fingerprint(tmp_path / "lib") != before


def test_stored_notebooks_lose_widgets_and_times(shelf):
    write(shelf / "book/part/one.ipynb", "import ipywidgets\nipywidgets.IntSlider()")
    assert not notebooks.execute("part/one").error
    notebooks.store("part/one")
    stored = nbformat.read(shelf / "book/part/one.ipynb", as_version=4)
    assert "execution" not in stored.cells[0].metadata
    assert notebooks.WIDGET not in stored.cells[0].outputs[0].data
    assert "widgets" not in stored.metadata


def test_an_unknown_chapter_is_refused_with_the_names_that_exist():
    with pytest.raises(SystemExit, match="memories/hebbian"):
        notebooks.check_names(["memories/hebian"])


def test_a_wrong_python_is_told_in_one_sentence(monkeypatch):
    monkeypatch.setattr(bootstrap.sys, "version_info", (3, 9, 1))
    monkeypatch.setenv("PATH", "")
    with pytest.raises(SystemExit, match=r"this is Python 3\.9, and the project needs 3\.11, 3\.12 or 3\.13"):
        bootstrap.right_python()


def test_the_bootstrap_parses_under_a_python_too_old_to_run_the_rest():
    # No f-strings with nested quotes, no match, no walrus: an old python3 must live to say that it is old.
    import ast

    ast.parse((ROOT / "tools/bootstrap.py").read_text(), feature_version=(3, 7))


@pytest.mark.parametrize(
    "words, told",
    [
        ("OSError: [Errno 28] No space left on device", "disk is full"),
        ("NewConnectionError: Failed to establish a new connection: [Errno -3]", "no network"),
        ("unable to execute 'gcc': No such file", "no compiler"),
        ("ERROR: something new", "something new"),
    ],
)
def test_a_failed_installation_is_told_in_one_sentence(monkeypatch, tmp_path, words, told):
    fake = tmp_path / "python"
    fake.write_text(f'#!/bin/sh\necho "{words}"\nexit 1\n')
    fake.chmod(0o755)
    monkeypatch.setattr(bootstrap, "venv_python", lambda: str(fake))
    monkeypatch.setattr(bootstrap, "LOG", str(tmp_path / "log"))
    with pytest.raises(SystemExit, match=told) as stop:
        bootstrap.pip("-r", "requirements.lock")
    assert "\n" not in str(stop.value)


def test_a_python_without_venv_is_told_what_to_install(monkeypatch, tmp_path):
    fake = tmp_path / "python3"
    fake.write_text("#!/bin/sh\necho 'ensurepip is not available'\nexit 1\n")
    fake.chmod(0o755)
    monkeypatch.setattr(bootstrap.sys, "executable", str(fake))
    monkeypatch.setattr(bootstrap, "VENV", str(tmp_path / "venv"))
    with pytest.raises(SystemExit, match=r"apt-get install python3\.\d+-venv"):
        bootstrap.make_venv()


def test_without_a_browser_the_command_to_type_is_told(monkeypatch):
    monkeypatch.setattr(browser, "find", lambda: None)
    monkeypatch.setattr(browser, "attempt", lambda command: False)
    with pytest.raises(SystemExit, match="apt-get install chromium"):
        browser.obtain()


def test_make_help_lists_the_commands():
    text = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in ("book", "test", "lab", "notebooks", "bench", "paper", "mutants", "clean"):
        assert re.search(rf"make {name}\s", text)


def test_workflows_only_call_make():
    for path in (ROOT / ".github/workflows").glob("*.yml"):
        commands = re.findall(r"- run: (.*)", path.read_text())
        assert commands and all(c.startswith("make ") for c in commands)


def test_the_ci_script_calls_make_test():
    script = ROOT / ".ci/run"
    assert os.access(script, os.X_OK) and script.read_text().rstrip().endswith("make test")
    assert sys.version_info[:2] in bootstrap.VERSIONS
