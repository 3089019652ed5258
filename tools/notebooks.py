"""Execute the notebooks side by side, one thread each; run again only those whose inputs changed.

`python tools/notebooks.py` fills `_build/executed`; `--store` runs all (or the named ones) and writes the outputs into `book/`.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass

import nbformat

from paths import BOOK, EXECUTED, QUIET, ROOT, chapters, fingerprint

CELL_SECONDS = 600
WIDGET = "application/vnd.jupyter.widget-view+json"
ANSI = re.compile(r"\x1b\[[0-9;]*m")


@dataclass
class Outcome:
    name: str
    seconds: float
    error: str = ""


def inputs_key(name: str) -> str:
    """Fingerprint of all that the outputs of a notebook depend on: its cells (not its outputs), the library, data, ledger, lock."""
    notebook = nbformat.read(BOOK / f"{name}.ipynb", as_version=4)
    cells = json.dumps([(c.cell_type, c.source) for c in notebook.cells])
    shared = (ROOT / "lib", BOOK / "data", BOOK / "ledger.yml", ROOT / "requirements.lock")
    settings = "".join(os.environ.get(v, "") for v in ("PHYSGEN_SCALE", "PHYSGEN_DEVICE"))
    return fingerprint(cells, settings, *(p for p in shared if p.exists()))


def is_fresh(name: str) -> bool:
    stamp = EXECUTED / f"{name}.key"
    return stamp.exists() and (EXECUTED / f"{name}.ipynb").exists() and stamp.read_text() == inputs_key(name)


def execute(name: str) -> Outcome:
    """Run one notebook into `_build/executed`; what it computed before an error is kept."""
    import nbclient

    for variable, value in QUIET.items():
        os.environ.setdefault(variable, value)
    key, start = inputs_key(name), time.perf_counter()
    notebook = nbformat.read(BOOK / f"{name}.ipynb", as_version=4)
    client = nbclient.NotebookClient(
        notebook,
        timeout=CELL_SECONDS,
        kernel_name="python3",
        store_widget_state=False,
        extra_arguments=["--IPKernelApp.log_level=40"],  # errors only: its advice is not for this use
        resources={"metadata": {"path": str((BOOK / name).parent)}},
    )
    error = ""
    try:
        client.execute()
    except nbclient.exceptions.CellExecutionError as e:
        error = describe_failure(notebook, str(e))
    except nbclient.exceptions.CellTimeoutError:
        error = f"a cell ran longer than {CELL_SECONDS} s"
    except nbclient.exceptions.DeadKernelError:
        error = "the kernel died (out of memory?)"
    seconds = time.perf_counter() - start
    notebook.metadata["physgen"] = {"seconds": round(seconds, 1)}
    target = EXECUTED / f"{name}.ipynb"
    target.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, target)
    if not error:
        (EXECUTED / f"{name}.key").write_text(key)
    return Outcome(name, seconds, error)


def describe_failure(notebook, traceback: str) -> str:
    failed = [
        i for i, c in enumerate(notebook.cells) if any(o.output_type == "error" for o in c.get("outputs", []))
    ]
    where = f"cell {failed[0] + 1} of {len(notebook.cells)}" if failed else "a cell"
    return f"{where}\n{ANSI.sub('', traceback).strip()}"


def run(names: list[str], *, force: bool = False) -> list[str]:
    """Execute the notebooks that are not fresh, with a line for each; the names of those that failed."""
    todo = names if force else [n for n in names if not is_fresh(n)]
    if len(todo) < len(names):
        print(f"{len(names) - len(todo)} of {len(names)} notebooks unchanged since they last ran", flush=True)
    if not todo:
        return []
    EXECUTED.mkdir(parents=True, exist_ok=True)
    workers = min(len(todo), os.cpu_count() or 1)
    failures = []
    print(f"Running {len(todo)} notebook{'s' * (len(todo) > 1)}, {workers} at a time", flush=True)
    with ProcessPoolExecutor(workers) as pool:
        jobs = [pool.submit(execute, name) for name in todo]
        for done, job in enumerate(as_completed(jobs), 1):
            o = job.result()
            print(
                f"  [{done}/{len(todo)}] {o.name:28s} {o.seconds:6.1f} s  {'FAILED' if o.error else 'ok'}",
                flush=True,
            )
            failures += [o] if o.error else []
    for o in failures:
        print(f"\n{o.name}.ipynb, {o.error}\n\nRun only it again:  make book ONLY={o.name}", file=sys.stderr)
    return [o.name for o in failures]


def store(name: str) -> None:
    """Write the outputs of the last run into `book/`, less what differs from run to run."""
    notebook = nbformat.read(EXECUTED / f"{name}.ipynb", as_version=4)
    notebook.metadata.pop("physgen", None)
    notebook.metadata.pop("widgets", None)
    # The kernel's patch version is the machine's, not the book's.
    notebook.metadata["language_info"] = {"name": "python"}
    notebook.metadata["kernelspec"] = {"display_name": "Python 3", "language": "python", "name": "python3"}
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        for output in cell.get("outputs", []):
            # A widget lives only as long as its kernel; the stored page shows its text/html.
            output.get("data", {}).pop(WIDGET, None)
    path = BOOK / f"{name}.ipynb"
    scratch = path.with_suffix(".tmp")
    nbformat.write(notebook, scratch)
    scratch.replace(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", action="store_true", help="run again and write the outputs into book/")
    parser.add_argument("names", nargs="*", help="part/chapter; all if none is named")
    options = parser.parse_args()
    names = check_names(options.names)
    failed = run(names, force=options.store)
    if options.store:
        for name in names:
            if name not in failed:
                store(name)
    sys.exit(1 if failed else 0)


def check_names(names: list[str]) -> list[str]:
    """The chapters asked for, or all; a name that is none ends the command with those that are."""
    known = chapters()
    unknown = [n for n in names if n not in known]
    if unknown:
        sys.exit(f"no chapter {', '.join(unknown)}; there are: {', '.join(known)}")
    return names or known


if __name__ == "__main__":
    main()
