"""``python -m benchmarks [NAME ...]``: measure, print one table, keep it in ``results.json``."""

from __future__ import annotations

import argparse
import json
import signal
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks import inference, scaling, training, wire
from benchmarks.engine import connections, paper, scale, traffic
from benchmarks.timing import Figure
from mpfl.runs.provenance import provenance

HERE = Path(__file__).parent
BENCHMARKS: dict[str, Callable[[Path], Iterable[Figure]]] = {
    "shrinking": training.shrinking,
    "engine": training.engine,
    "side-by-side": training.side_by_side,
    "laptop": training.laptop_rounds,
    "small-pictures": training.small_pictures,
    "masks": wire.masks_on_the_wire,
    "coder": wire.a_hundred_thousand_filters,
    "votes": wire.a_million_votes,
    "inference": inference.compact_against_dense,
}
ENGINE: dict[str, Callable[[Path], None]] = {
    "engine-bytes": traffic.main,
    "engine-scale": scale.main,
    "engine-connections": connections.main,
    "engine-paper": paper.main,
}
"""Kept in ``engine/results.json``. Long, with many processes: only by name, in this order."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    measures = f"{', '.join(BENCHMARKS)}, scaling"
    by_name = f"{measures}; default: these all. Only by name: {', '.join(ENGINE)}"
    parser.add_argument("names", nargs="*", help=by_name)
    parser.add_argument("--root", type=Path, default=Path("data"), help="where CIFAR-10 is")
    options = parser.parse_args()
    names = options.names or [*BENCHMARKS, "scaling"]
    if unknown := set(names) - {*BENCHMARKS, "scaling", *ENGINE}:
        parser.error(f"no benchmark {unknown.pop()!r}; there are {measures}, {', '.join(ENGINE)}")
    to = HERE / "results.json"
    found = json.loads(to.read_text()) if to.exists() else {}
    for name in names:
        print(f"{name} ...", flush=True)
        if name in ENGINE:
            signal.signal(signal.SIGTERM, signal.default_int_handler)  # end the processes too
            ENGINE[name](options.root)
            continue
        made = provenance(f"python -m benchmarks {name}")
        if name == "scaling":
            scaling.main(options.root, HERE / "scaling.json", made)
            continue
        rows = [figure.row() for figure in BENCHMARKS[name](options.root)]
        found[name] = {"rows": rows, "provenance": made}
        to.write_text(json.dumps(found, indent=1) + "\n")
    if not set(names) <= set(ENGINE):
        _show(found)


def _show(found: dict[str, dict[str, list[dict[str, Any]]]]) -> None:
    table = Table("figure", "median", "range (n)", "bar", "reached", "detail")
    for benchmark in found.values():
        for row in benchmark["rows"]:
            spread = "" if row["low"] is None else f"{row['low']:.3g} to {row['high']:.3g}"
            reached = {True: "yes", False: "no", None: ""}[row["reached"]]
            table.add_row(
                str(row["name"]),
                f"{row['value']:.4g}",
                f"{spread} ({row['n']})",
                str(row["bar"] or ""),
                reached,
                str(row["detail"]),
            )
    Console(width=None if sys.stdout.isatty() else 160).print(table)


if __name__ == "__main__":
    main()
