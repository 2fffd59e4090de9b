"""How the time of a run grows with nodes, width and rounds: the data of the book's figure.

A local epoch of every node over one data set of 2,560 pictures, MPFL's rounds to 80 %
sparsity, no final training; one worker, so that nothing but the work is measured.
"""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.training import experiment
from mpfl.runs.experiment import Experiment
from mpfl.runs.workbench import Workbench
from mpfl.schedules import linear
from mpfl.simulation import simulate

IMAGES = 2560


def _seconds(made: Experiment, root: Path) -> list[float]:
    """Of each round of one run."""
    bench = Workbench(made, root)
    rounds = simulate(bench.algorithm(), bench.parties.nodes, bench.start, made.rounds, made.seed)
    return [round(log.seconds, 3) for log in rounds]


def scaling(root: Path, n: int = 3) -> list[dict[str, Any]]:
    """Rows ``{axis, value, seconds, rounds}``: of ``n`` runs, in all and round by round."""
    base = replace(experiment(0.5, 10, IMAGES // 10), schedule=linear(0.8), rounds=5)
    cases: list[tuple[str, float, Experiment]]
    cases = [("nodes", k, replace(base, nodes=k)) for k in (1, 3, 10, 30, 100)]
    cases += [("width", w, replace(base, width=w)) for w in (0.25, 0.5, 0.75, 1.0)]
    cases += [("rounds", r, replace(base, rounds=r)) for r in (2, 5, 10, 20)]
    _seconds(replace(base, rounds=1), root)  # a process's first run fills caches
    found = []
    for axis, value, made in cases:
        took = [_seconds(made, root) for _ in range(n)]
        found.append(
            {"axis": axis, "value": value, "seconds": [sum(run) for run in took], "rounds": took}
        )
        print(f"{axis} {value}: {[round(sum(run), 2) for run in took]} s", flush=True)
    return found


def main(root: Path, to: Path, provenance: dict[str, Any]) -> None:
    """Measure, and write the rows with their provenance."""
    began = time.perf_counter()
    content = {"images": IMAGES, "rows": scaling(root), "provenance": provenance}
    to.write_text(json.dumps(content, indent=1) + "\n")
    print(f"{to}: {time.perf_counter() - began:.0f} s")
