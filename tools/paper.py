"""`make paper`: the runs that a page cannot wait for, at the size of the papers; `make paper ONLY=NAME` runs one.

Each writes `book/data/NAME.json` when it is whole. What is done is kept in `_build/paper`, and an interrupted run goes on there.
"""

from __future__ import annotations

import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import torch

from paths import BOOK, BUILD
from physgen import results
from physgen.memories import hopfield


def hopfield_phase_diagram() -> None:
    """Overlap after 100 sweeps from a stored pattern, N = 10⁴, four networks a point."""
    loads = [0.01, 0.03, 0.05, 0.07, 0.09, 0.11, 0.13, 0.15, 0.17]
    temperatures = [0.05, 0.15, 0.25, 0.35, 0.45, 0.55, 0.65, 0.75, 0.85]
    n_spins, sweeps, replicas, seed = 10_000, 100, 4, 1
    rows, seconds = checkpoint("hopfield_phase_diagram")
    with ThreadPoolExecutor() as pool:
        for i in range(len(rows), len(loads)):
            start = time.perf_counter()
            row = hopfield.phase_diagram_sweep(
                torch.tensor(loads[i : i + 1]),
                torch.tensor(temperatures),
                n_spins,
                sweeps=sweeps,
                replicas=replicas,
                seed=seed + i,
                executor=pool,
            )
            rows.append([row.mean[0].tolist(), row.error[0].tolist()])
            seconds += time.perf_counter() - start
            keep("hopfield_phase_diagram", rows, seconds)
    results.save(
        BOOK / "data" / "hopfield_phase_diagram.json",
        what="mean overlap with the stored pattern and its standard error, on a grid of loads and temperatures",
        command="make paper ONLY=hopfield_phase_diagram",
        seconds=seconds,
        seed=seed,
        values={
            "n_spins": n_spins,
            "sweeps": sweeps,
            "replicas": replicas,
            "loads": loads,
            "temperatures": temperatures,
            "mean": [[round(x, 6) for x in row[0]] for row in rows],
            "error": [[round(x, 6) for x in row[1]] for row in rows],
        },
    )


RUNS = {run.__name__: run for run in (hopfield_phase_diagram,)}


def checkpoint(name: str) -> tuple[list, float]:
    """What an interrupted run has done: its finished parts, and the seconds they took."""
    path = BUILD / "paper" / f"{name}.json"
    if not path.exists():
        return [], 0.0
    state = json.loads(path.read_text())
    print(f"{name}: going on after {len(state['parts'])} finished parts", flush=True)
    return state["parts"], state["seconds"]


def keep(name: str, parts: list, seconds: float) -> None:
    path = BUILD / "paper" / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_suffix(".tmp")
    scratch.write_text(json.dumps({"parts": parts, "seconds": seconds}))
    scratch.replace(path)


def main() -> None:
    names = sys.argv[1:] or list(RUNS)
    if unknown := set(names) - RUNS.keys():
        sys.exit(f"no run {', '.join(sorted(unknown))}; there are: {', '.join(RUNS)}")
    for name in names:
        RUNS[name]()
        (BUILD / "paper" / f"{name}.json").unlink(missing_ok=True)
        print(f"{name}: written to book/data/{name}.json", flush=True)


if __name__ == "__main__":
    main()
