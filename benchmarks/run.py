"""Every kernel beside its peers, in one run on one core: prints one table and writes
book/data/how_fast.json, from which the page of that name is drawn.

Each script of this folder has ``measure(interleaved, seed)``, which returns rows. Times are medians of
processor time over repeats in which the calls take turns, so that a busy machine slows all alike; what counts
are the ratios. A row may say how many `operations` its formula costs and how many `bytes` it has to move:
numbers of the formula, not of the code, for the roofline.

    python benchmarks/run.py [--only NAME]
"""

from __future__ import annotations

import argparse
import importlib
import sys
import time
from pathlib import Path

import torch

from physgen import results
from physgen.stopwatch import interleaved

HERE = Path(__file__).resolve().parent
OUT = HERE.parent / "book" / "data" / "how_fast.json"
COLUMNS = ("kernel", "size", "ours", "peer", "ratio", "floor", "share of floor", "GPU")
SEED = 0


def ceilings() -> dict[str, float]:
    """What this core can do at best: bytes a second of a large copy, read and written, and operations a second
    of a large product in float32.
    """
    numbers, there = torch.ones(2**25), torch.empty(2**25)
    a, b = torch.ones(1024, 1024), torch.ones(1024, 4096)
    seconds = interleaved({"copy": lambda: there.copy_(numbers), "product": lambda: a @ b}, 9)
    return {
        "bytes": 8 * numbers.numel() / seconds["copy"],
        "operations": 2 * 1024 * 1024 * 4096 / seconds["product"],
    }


def cells(row: dict) -> tuple[str, ...]:
    target = f" (≥ {row['target']})" if row["target"] else ""
    return (
        row["kernel"],
        row["size"],
        f"{row['ours'] * 1e3:.2f} ms",
        f"{row['peer']}, {row['peer_seconds'] * 1e3:.1f} ms",
        f"{row['ratio']:.1f}×{target}",
        f"{row['floor'] * 1e3:.2f} ms",
        f"{row['share_of_floor']:.0%}",
        row["gpu"],
    )


def table(rows: list[dict]) -> str:
    lines = [COLUMNS, *map(cells, rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    lines.insert(1, tuple("-" * width for width in widths))
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines
    )


def main() -> None:
    scripts = sorted(path.stem for path in HERE.glob("*.py") if path.stem != "run")
    parser = argparse.ArgumentParser(description="Time the kernels beside their peers.")
    parser.add_argument(
        "--only", choices=scripts, help="one script; its table is printed and nothing is written"
    )
    only = parser.parse_args().only
    sys.path.insert(0, str(HERE))
    torch.set_num_threads(1)
    begun, rows = time.perf_counter(), []
    for name in [only] if only else scripts:
        print(f"{name} …", file=sys.stderr, flush=True)
        rows += importlib.import_module(name).measure(interleaved, SEED)
    for row in rows:
        row["ratio"] = row["peer_seconds"] / row["ours"]
        row["share_of_floor"] = row["floor"] / row["ours"]
        row["gpu"] = "not measured"
    print(table(rows))
    if not only:
        results.save(
            OUT,
            what="kernels beside their peers, medians of interleaved runs, processor seconds on one core",
            command="python benchmarks/run.py",
            seconds=time.perf_counter() - begun,
            seed=SEED,
            values={
                "ceilings": {name: rounded(rate) for name, rate in ceilings().items()},
                "rows": [{key: rounded(value) for key, value in row.items()} for row in rows],
                "table": [COLUMNS, *map(cells, rows)],
            },
        )


def rounded(value):
    return float(f"{value:.4g}") if isinstance(value, float) else value


if __name__ == "__main__":
    main()
