"""Build `_build/html` from the executed notebooks: stage the sources, run Jupyter Book, finish the pages.

What a notebook emits stays small and the same on every machine; here each figure becomes inline SVG, each check gets its anchor
and its measured value, each explorable its parameters, and the script of an explorable enters a page once.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from functools import cache
from html import escape
from importlib.util import find_spec
from pathlib import Path

import nbformat

from paths import BOOK, BUILD, EXECUTED, HTML, ROOT, SOURCE, chapters, files_below, fingerprint
from physgen import explorables, figures, ledger, stopwatch

STAMP = BUILD / "site.key"
SPHINX = BUILD / "sphinx"
GENERATED = "<!-- generated -->"


# ---------------------------------------------------------------- staging


def stage() -> None:
    """Fill `_build/source`; a file that did not change keeps its date, so that Sphinx reads only what did."""
    files = {Path(name): (ROOT / name).read_bytes() for name in ("_config.yml", "_toc.yml")}
    for path in files_below(BOOK):
        if path.suffix not in (".ipynb", ".yml") and BOOK / "data" not in path.parents:
            files[path.relative_to(ROOT)] = path.read_bytes()
    files[Path("book/assets/tex-svg.js")] = mathjax().read_bytes()
    notebooks = {name: nbformat.read(EXECUTED / f"{name}.ipynb", as_version=4) for name in chapters()}
    rows = collect_checks(notebooks)
    for page, content in (("ledger", ledger_tables(rows, notebooks)), ("errata", errata_table(rows))):
        text = files[Path(f"book/{page}.md")].decode()
        files[Path(f"book/{page}.md")] = text.replace(GENERATED, content).encode()
    for name, notebook in notebooks.items():
        for cell in notebook.cells:
            cell.metadata.pop("execution", None)
        files[Path(f"book/{name}.ipynb")] = nbformat.writes(page_notebook(notebook, name)).encode()
    files |= api_pages()
    write_changed(files)


def write_changed(files: dict[Path, bytes]) -> None:
    for path in files_below(SOURCE) if SOURCE.exists() else []:
        if path.relative_to(SOURCE) not in files:
            path.unlink()
    for name, content in files.items():
        path = SOURCE / name
        if not path.exists() or path.read_bytes() != content:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)


def mathjax() -> Path:
    """MathJax 3 as one file, from the package that carries it."""
    folder = Path(find_spec("sphinx-mathjax-offline").submodule_search_locations[0])
    return folder / "static" / "mathjax" / "tex-svg.js"


def page_notebook(notebook, name: str):
    """The notebook with each output in the form that the static page shows."""
    for i, cell in enumerate(notebook.cells):
        for j, output in enumerate(cell.get("outputs", [])):
            record = output.get("metadata", {}).get("physgen")
            if not record:
                continue
            if "check" in record:
                html = claim_html(record["check"], depth=name.count("/"))
            elif "times" in record:
                html = stopwatch.times_html(record["what"], record["times"])
            elif "module" in record:
                html = explorables.html(record["module"], record["params"], record["alt"], record["caption"])
            else:
                svg = "".join(output["data"]["image/svg+xml"])
                html = figures.page_html(svg, record["alt"], record["caption"], prefix=f"c{i}o{j}-")
            output["data"] = {"text/html": html}
            output["metadata"] = {}
    return notebook


# ---------------------------------------------------------------- ledger and errata


def collect_checks(notebooks) -> dict[str, dict]:
    """For each checked claim: chapter, values, and the seconds that its cell took."""
    rows = {}
    for name, notebook in notebooks.items():
        for cell in notebook.cells:
            for output in cell.get("outputs", []):
                record = output.get("metadata", {}).get("physgen", {}).get("check")
                if record:
                    rows[record["id"]] = {**record, "chapter": name, "seconds": cell_seconds(cell)}
    return rows


def cell_seconds(cell) -> float | None:
    from dateutil.parser import isoparse

    times = cell.metadata.get("execution", {})
    if "iopub.status.busy" not in times or "iopub.status.idle" not in times:
        return None
    return (isoparse(times["iopub.status.idle"]) - isoparse(times["iopub.status.busy"])).total_seconds()


def claim_html(record: dict, depth: int) -> str:
    entry = ledger.claims()[record["id"]]
    up = "../" * depth
    return (
        f'<div class="pg-claim" id="claim-{record["id"]}"><span class="pg-tick" aria-hidden="true">✓</span> '
        f'<a href="{up}ledger.html#row-{record["id"]}">{record["id"]}</a> {escape(entry["claim"], quote=False)} '
        f'<span class="pg-values">expected {ledger.format_values(record["expected"], record["tol"])}, '
        f"measured {measured_text(record)}, tolerance {record['tol']:.2g}</span></div>"
    )


def measured_text(record: dict) -> str:
    return ledger.format_values(record["measured"], record["tol"], tiny=True)


def ledger_tables(rows: dict, notebooks) -> str:
    """The table of claims with its filters, and the run time of each notebook."""
    body, options = [], {"chapter": [], "verdict": list(ledger.VERDICTS)}
    for id, entry in ledger.claims().items():
        if entry.get("kind") == "notation":
            continue
        row = rows.get(id)
        if row is None:
            continue
        if entry["chapter"] not in options["chapter"]:
            options["chapter"].append(entry["chapter"])
        seconds = "" if row["seconds"] is None else f"{row['seconds']:.2f}"
        cells = (
            f'<a href="{row["chapter"]}.html#claim-{id}">{id}</a>',
            escape(entry["claim"], quote=False),
            ledger.format_values(row["expected"], row["tol"]),
            measured_text(row),
            f"{row['tol']:.2g}",
            f'<span class="pg-verdict pg-{entry["verdict"]}">{entry["verdict"]}</span>',
            seconds,
        )
        tds = "".join(f"<td>{c}</td>" for c in cells)
        body.append(
            f'<tr id="row-{id}" data-chapter="{entry["chapter"]}" data-verdict="{entry["verdict"]}">{tds}</tr>'
        )
    filters = "".join(
        f'<label>{key} <select data-filter="{key}"><option value="">all</option>'
        + "".join(f"<option>{v}</option>" for v in values)
        + "</select></label> "
        for key, values in options.items()
    )
    heads = ("id", "claim", "expected", "measured", "tolerance", "lecture notes", "seconds")
    times = "\n".join(
        f"| [{name}]({name}) | {sum(c.cell_type == 'code' for c in nb.cells)} | {nb.metadata['physgen']['seconds']:.1f} |"
        for name, nb in notebooks.items()
    )
    return (
        f'<div class="pg-filter">{filters}<output data-count aria-live="polite">{len(body)} claims</output></div>\n'
        + table("pg-ledger", heads, body, "claims of the book")
        + f"\n\n## Run times\n\nSeconds on the machine that built this site, one thread a notebook.\n\n"
        f"| notebook | code cells | seconds |\n|---|---:|---:|\n{times}\n"
    )


def errata_table(rows: dict) -> str:
    body = []
    for id, entry in ledger.claims().items():
        if entry["verdict"] == "as-written":
            continue
        row = rows.get(id)
        shown = (
            f'<a href="{row["chapter"]}.html#claim-{id}">{id}</a>'
            if row
            else f'<a href="{entry["chapter"]}.html">{id}</a>'
        )
        cells = (
            [shown]
            + [escape(entry[k], quote=False) for k in ("source", "states", "right")]
            + [entry["verdict"]]
        )
        body.append(f'<tr id="erratum-{id}">' + "".join(f"<td>{c}</td>" for c in cells) + "</tr>")
    return table(
        "pg-errata",
        ("shown in", "place", "the notes state", "what is right", "verdict"),
        body,
        "errata of the lecture notes",
    )


def table(name: str, heads: tuple[str, ...], body: list[str], label: str) -> str:
    head = "".join(f'<th scope="col">{h}</th>' for h in heads)
    rows = "\n".join(body)
    return (
        f'<div class="pg-scroll pg-math" tabindex="0" role="group" aria-label="{label}"><table class="table pg-table {name}">'
        f"<thead><tr>{head}</tr></thead><tbody>\n{rows}\n</tbody></table></div>\n"
    )


# ---------------------------------------------------------------- reference of the package


def api_pages() -> dict[Path, bytes]:
    """A page for each module, with links to the chapters that import it."""
    modules = [m for m in sorted(module_names()) if public_names(m)]
    users = {m: [c for c in chapters() if m in imports_of(c)] for m in modules}
    lines = [
        "# Package reference",
        "",
        "One module a chapter, and what all chapters share. Each function names its formula and its source.",
        "",
    ]
    pages = {}
    for m in modules:
        used = ", ".join(f"{{doc}}`/book/{c}`" for c in users[m])
        text = (
            f"# {m}\n\n"
            + (f"Used in {used}.\n\n" if used else "")
            + f"```{{eval-rst}}\n.. automodule:: {m}\n```\n"
        )
        pages[Path(f"book/api/{m}.md")] = text.encode()
        lines.append(f"- {{doc}}`/book/api/{m}`" + (f", used in {used}" if used else ""))
    pages[Path("book/api/index.md")] = ("\n".join(lines) + "\n").encode()
    return pages


def module_names() -> list[str]:
    lib = ROOT / "lib"
    parts = [
        p.relative_to(lib).with_suffix("").parts for p in files_below(lib / "physgen") if p.suffix == ".py"
    ]
    return [".".join(p[:-1] if p[-1] == "__init__" else p) for p in parts]


@cache
def public_names(module: str) -> tuple[str, ...]:
    from importlib import import_module

    return tuple(getattr(import_module(module), "__all__", ()))


def imports_of(chapter: str) -> set[str]:
    """Modules of the package that a notebook imports or whose functions its text names."""
    notebook = nbformat.read(BOOK / f"{chapter}.ipynb", as_version=4)
    code = "\n".join(c.source for c in notebook.cells)
    found = set()
    for package, names in re.findall(r"from (physgen[\w.]*) import ([\w, ]+)", code):
        found |= {package} | {f"{package}.{n.strip()}" for n in names.split(",")}
    return (
        found
        | set(re.findall(r"import (physgen[\w.]*)", code))
        | set(re.findall(r"`~?(physgen[\w.]*)\.\w+`", code))
    )


# ---------------------------------------------------------------- Jupyter Book, and the finished pages


def build() -> None:
    """Make the site again if anything it is made from changed."""
    key = fingerprint(
        ROOT / "_config.yml",
        ROOT / "_toc.yml",
        BOOK,
        ROOT / "lib",
        ROOT / "tools",
        ROOT / "requirements.lock",
        EXECUTED,
    )
    if STAMP.exists() and STAMP.read_text() == key and (HTML / "index.html").exists():
        print("Site unchanged", flush=True)
        return
    STAMP.unlink(missing_ok=True)
    stage()
    print("Building the site", flush=True)
    command = [
        str(Path(sys.executable).with_name("jupyter-book")),
        "build",
        str(SOURCE),
        "--path-output",
        str(SPHINX),
        "-q",
        "-W",
        "--keep-going",
    ]
    version = BUILD / "site.version"
    if not version.exists() or version.read_text() != site_version():
        command.append("--all")
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        sys.exit(f"{done.stdout}\nThe site was not built: each warning above counts as an error.")
    version.write_text(site_version())
    publish(SPHINX / "_build" / "html")
    STAMP.write_text(key)


def publish(raw: Path) -> None:
    """Copy what Jupyter Book made to `_build/html`, each page finished, less what no page asks for."""
    shutil.rmtree(HTML, ignore_errors=True)
    shutil.copytree(
        raw,
        HTML,
        ignore=shutil.ignore_patterns(
            "fontawesome.js*",
            "*.map",
            "thebe*",
            "sphinx-thebe*",
            "*.ttf",
            "webpack-macros.html",
            "sbt-webpack-macros.html",
        ),
    )
    for page in HTML.rglob("*.html"):
        page.write_text(finish(page.read_text(encoding="utf-8"), page), encoding="utf-8")
    for name in chapters():
        shutil.copy(BOOK / f"{name}.ipynb", HTML / "_sources" / "book" / f"{name}.ipynb")


def site_version() -> str:
    """Changes when every page must be written again: settings, this folder, docstrings."""
    return fingerprint(
        ROOT / "_config.yml",
        ROOT / "_toc.yml",
        ROOT / "tools",
        ROOT / "lib",
        BOOK / "assets",
        ROOT / "requirements.lock",
    )


def finish(html: str, page: Path) -> str:
    """What the theme gets wrong for an offline, accessible, light page; and the explorables' script, once."""
    # 1.5 MB of icons as a script, where the style sheet brings them as a font already; live code, which needs another host.
    html = re.sub(
        r"<script[^>]*(?:fontawesome\.js|sphinx-thebe\.js)[^>]*></script>|<script>const THEBE_JS_URL.*?</script>",
        "",
        html,
    )
    html = re.sub(r"<link[^>]*sphinx-thebe\.css[^>]*>", "", html)
    # The index of the whole book's words is for the page that searches; all others only lead there.
    if page.name != "search.html":
        html = re.sub(r'<script src="[^"]*(?:searchtools|language_data|searchindex)\.js"></script>', "", html)
    # Names and roles that screen readers miss or that are out of date.
    html = re.sub(
        r"<summary>(?=\s*<span class=\"toctree-toggle)", '<summary aria-label="pages of this section">', html
    )
    html = html.replace('role="doc-biblioentry"', 'role="listitem"')
    if page.parent.name == "_modules" and page.name == "index.html":
        head, middle, tail = re.split(
            r"(?<=<h1>All modules for which code is available</h1>)|(?=</article>)", html
        )
        inner = re.sub(r"</?ul>", "", middle)
        html = f"{head}<ul>{inner}</ul>{tail}"
    modules = sorted(set(re.findall(r'class="physgen-explorable" data-module="(\w+)"', html)))
    if modules:
        script = f'<script type="module">\n{explorables.static_script(modules)}\n</script>\n'
        head, body = html.rsplit("</body>", 1)
        html = f"{head}{script}</body>{body}"
    return html


def open_hint() -> str:
    return f"Open {(HTML / 'index.html').relative_to(ROOT)} in a browser"


if __name__ == "__main__":
    build()
    print(open_hint(), json.dumps(len(list(HTML.rglob("*.html")))), "pages")
