"""How far it goes: virtual nodes on Flower's simulation and in one process.

Every node has four pictures, so that next to nothing but the engine is measured. Times depend
on what else the machine does; processor seconds hardly do.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.engine import record
from benchmarks.engine.processes import Watch
from benchmarks.engine.record import row
from mpfl.flower import launch
from mpfl.runs.folder import read_lines
from mpfl.types import MPFLError

ROUNDS = {10: 6, 100: 4, 1000: 2}
"""Virtual nodes, and how many rounds they vote."""

PATIENCE = 900.0
"""Seconds that a run on Flower may take before it is given up."""


def changes(nodes: int, rounds: int) -> list[str]:
    """To the toy budget of VGG11 on CIFAR-10, width 1/8: mask rounds only."""
    only = ["central_epochs=0", "federated_rounds=0", f"rounds={rounds}", "schedule=linear(0.6)"]
    return [f"nodes={nodes}", f"images={4 * nodes}", *only]


def in_one_process(nodes: int, rounds: int, folder: Path, root: Path) -> Watch:
    """The run as a plain loop."""
    words = [sys.executable, "-m", "mpfl", "run", "cifar10-vgg11", "--budget", "toy"]
    words += ["--root", str(root), "--out", str(folder), "--workers", "1"]
    for change in changes(nodes, rounds):
        words += ["--set", change]
    with subprocess.Popen(words, stdout=subprocess.DEVNULL) as process, Watch(process.pid) as seen:
        process.wait()
    return seen


def on_flower(nodes: int, rounds: int, folder: Path, root: Path) -> Watch:
    """The run with virtual nodes on Ray; given up after PATIENCE."""
    config = {"recipe": "cifar10-vgg11", "budget": "toy", "seed": 0, "command": "benchmark"}
    config |= {"set": ";".join(changes(nodes, rounds)), "root": str(root), "out": str(folder)}
    config |= {"patience": 300, "deadline": PATIENCE}
    with (
        launch.superlink(folder.with_suffix(".engine"), simulation=True) as served,
        Watch(served.processes["superlink"].pid) as seen,
    ):
        run = launch.submit(served, config, nodes=nodes)
        try:
            launch.wait(served, run, seconds=PATIENCE)
        except MPFLError as error:
            print(f"  {nodes} nodes on Flower: {error}", flush=True)
    return seen


def virtual(root: Path) -> Iterator[dict[str, Any]]:
    """Rows of both kinds of run, for each number of nodes."""
    for nodes, rounds in ROUNDS.items():
        times = {}
        for what, run in (("one process", in_one_process), ("Flower", on_flower)):
            with tempfile.TemporaryDirectory() as scratch:
                folder, began = Path(scratch) / "run", time.time()
                seen = run(nodes, rounds, folder, root)
                took = [line["seconds"] for line in read_lines(folder / "rounds.jsonl")]
            print(f"  {nodes} nodes, {what}: rounds of {took} s", flush=True)
            name = f"{nodes:,} virtual nodes, {what}"
            detail = f"{len(took)} of {rounds} rounds"
            yield row(f"{name}: whole run", "s", time.time() - began, f"{detail}, with its start")
            yield row(f"{name}: processor time", "s", seen.seconds, f"{detail}, whole run")
            yield row(f"{name}: peak memory", "MB", seen.peak / 1e6, "all its processes")
            if took:
                yield row(f"{name}: first round", "s", took[0])
            if took[1:]:
                times[what] = took[1:]
                yield row(f"{name}: a later round", "s", took[1:])
        if len(times) == 2:
            ratios = [b / a for a, b in zip(*times.values(), strict=False)]
            name = f"{nodes:,} virtual nodes, Flower over one process: a later round"
            yield row(name, "ratio", ratios, "round by round")


def main(root: Path) -> None:
    """Measure and keep it: about ten minutes on two busy cores."""
    made = record.made_by("engine-scale")
    record.keep("engine-scale", list(virtual(root.resolve())), made)
