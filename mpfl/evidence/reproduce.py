"""Run the cells of an evidence table that are missing, side by side, and keep each as it ends.

Killed at any moment and started again it goes on: a finished cell is a file in
``data/results/``, an unfinished one is a run folder that resumes.
"""

from __future__ import annotations

import math
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from mpfl.evidence.alike import bits_apart
from mpfl.evidence.cells import Cell
from mpfl.evidence.order import core_minutes, missing, waits_for
from mpfl.evidence.recheck import accuracies_apart, record_differences
from mpfl.runs.folder import load_tensors, save_weights
from mpfl.runs.record import consensus_of, filters_of, keep_record, read_run
from mpfl.seeds import rng_for
from mpfl.types import MPFLError, at_least


@dataclass(frozen=True)
class CellDone:
    """A cell that has ended: ``done`` of ``total``, and what was spent and may be left.

    ``minutes_spent`` and ``minutes_left`` are those of one core: of the cells that ended now, and,
    as estimated, of those that have not.
    """

    cell: Cell
    done: int
    total: int
    minutes_spent: float
    minutes_left: float


@dataclass(frozen=True)
class Repeat:
    """A recorded cell and the same run again: how far apart they are.

    ``bits`` are filters on which the last masks differ, of ``filters``; None if nobody
    voted. ``points`` are differences of accuracy in percentage points, by evaluation.
    ``differences`` says what is wrong with the record, one per line
    (:func:`~mpfl.evidence.recheck.record_differences`); it ``holds`` if there are none.
    """

    cell: Cell
    bits: int | None
    filters: int
    points: dict[str, float]
    differences: tuple[str, ...]

    @property
    def holds(self) -> bool:
        """Whether the record says what the run says."""
        return not self.differences


def reproduce(
    cells: Sequence[Cell],
    *,
    results: Path = Path("data/results"),
    runs: Path = Path("runs"),
    root: Path = Path("data"),
    workers: int = 1,
    hours: float = math.inf,
    on_step: Callable[[CellDone], None] = lambda step: None,
) -> None:
    """Run what is missing, ``workers`` cells at a time, each the command that a reader would give.

    A control that matches another cell's counts waits for it, and so does a cell whose w0 another
    one trains. After ``hours`` no cell is begun,
    and before that none that may take longer. Raises :class:`~mpfl.types.MPFLError` with
    the command of the first cell that failed, after those that had begun have ended.
    """
    at_least("workers", workers, 1)
    if not hours > 0:
        raise MPFLError(f"hours is {hours}; give a number above 0")
    todo = missing(cells, results)
    total, deadline, failed = len(todo), time.monotonic() + 3600 * hours, ""
    for folder in (results, runs) if todo else ():
        _require_writable(folder)
    minutes = core_minutes(cells, results)
    running: dict[Future[str], tuple[Cell, float]] = {}
    spent = 0.0
    with ThreadPoolExecutor(workers) as pool:
        while not failed or running:
            now = time.monotonic()
            ready = [
                cell
                for cell in todo
                if not waits_for(cell, cells, results) and now + 60 * minutes[cell.file] < deadline
            ]
            for cell in ready[: 0 if failed else workers - len(running)]:
                todo.remove(cell)
                running[pool.submit(_run, cell, results, runs, root)] = cell, now
            if not running:
                break
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                cell, began = running.pop(future)
                failed = failed or future.result()
                spent += (time.monotonic() - began) / 60
                left = [*todo, *(cell for cell, _ in running.values())]
                minutes = core_minutes(cells, results)
                expected = sum(minutes[cell.file] for cell in left)
                on_step(CellDone(cell, total - len(left), total, spent, expected))
    if failed:
        raise MPFLError(failed)
    if todo and hours == math.inf:
        raise MPFLError(
            f"{todo[0].command}: needs another result first: {waits_for(todo[0], cells, results)}"
        )


def _require_writable(folder: Path) -> None:
    """Refuse a place for files before the first run, and not after it."""
    there = next(each for each in (folder, *folder.absolute().parents) if os.path.lexists(each))
    if not (there.is_dir() and os.access(there, os.W_OK)):
        raise MPFLError(f"{folder}: cannot be written to; choose another folder")


def _run(cell: Cell, results: Path, runs: Path, root: Path) -> str:
    """Run one cell in a process of its own and keep its result; the error's text, or nothing."""
    folder = runs / cell.file.removesuffix(".json")
    words = [sys.executable, "-m", "mpfl", *cell.words, "--workers", "1"]
    words += ["--out", str(folder), "--root", str(root), "--resume"]
    process = subprocess.run(words, capture_output=True, text=True, errors="replace", check=False)
    if process.returncode:
        last = (process.stderr.strip() or "no message").splitlines()[-1]
        return f"{cell.command}: failed ({last})"
    keep_record(read_run(folder), results, over=True)
    if cell.keeps is not None:
        trained = load_tensors(folder / "central.safetensors")
        halves = {name: array.astype(np.float16) for name, array in trained.items()}
        save_weights(Path(cell.keeps), halves)
    shutil.rmtree(folder)
    return ""


def chosen(cells: Sequence[Cell], count: int, seed: int, results: Path) -> list[Cell]:
    """``count`` of the recorded cells, drawn by ``seed``; all of them if there are fewer."""
    at_least("check", count, 1)
    at_least("seed", seed, 0)
    there = [cell for cell in cells if (results / cell.file).exists()]
    order = rng_for(seed, "check").permutation(len(there))
    return [there[place] for place in order[:count]]


def repeat(cell: Cell, *, results: Path, runs: Path, root: Path) -> Repeat:
    """Run a recorded cell again, beside its record, and compare the two."""
    old, again = cell.recorded_in(results), runs / "again"
    if text := _run(replace(cell, keeps=None), again, again, root):
        raise MPFLError(text)
    new = read_run(again / cell.file)
    shutil.rmtree(again)
    wrong = tuple(record_differences(cell, old, new, root))
    bits, filters = None, 0
    if not wrong and old.rounds and old.rounds[0]["votes"] is not None:
        sizes = filters_of(old)
        bits = bits_apart(*(consensus_of(run.rounds[-1], sizes) for run in (old, new)))
        filters = sum(sizes.values())
    return Repeat(cell, bits, filters, accuracies_apart(old, new), wrong)
