"""What to run next: how long the missing cells may take, and which decide most per minute."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from statistics import fmean
from typing import Any, TypeAlias

from mpfl.evidence.cells import Cell, once
from mpfl.evidence.protocol import PRIMARY
from mpfl.evidence.tables import TABLES, cells_of
from mpfl.runs.experiment import changes, config_of

_Kind: TypeAlias = tuple[tuple[str, str], ...]
_SAME_COST = ("seed", "lot", "match", "recipe")


def missing(cells: Sequence[Cell], results: Path) -> list[Cell]:
    """The cells without a recorded result, or without the w0 that they keep, in their order."""
    return [cell for cell in cells if not _is_done(cell, results)]


def _is_done(cell: Cell, results: Path) -> bool:
    kept = cell.keeps is None or Path(cell.keeps).exists()
    return kept and (results / cell.file).exists()


def waits_for(cell: Cell, cells: Sequence[Cell], results: Path) -> str:
    """The command whose result a cell needs and lacks; empty if it can be run."""
    if cell.match is not None and not (results / cell.match.file).exists():
        return cell.match.command
    # Not for the file alone: one that lies there may be of another run.
    makers = (other for other in cells if cell.w0_file and other.keeps == str(cell.w0_file))
    return next((maker.command for maker in makers if not _is_done(maker, results)), "")


def _kind(config: Mapping[str, Any]) -> _Kind:
    """What runs have in common that take equally long."""
    return tuple(sorted((k, str(v)) for k, v in changes(config).items() if k not in _SAME_COST))


@cache
def _kind_of(cell: Cell) -> _Kind:
    return _kind(config_of(cell.experiment))


@cache
def _recorded(cell: Cell, results: Path, changed: int) -> tuple[_Kind, float, bool]:
    """What kind of run a record is, its minutes, and whether a GPU helped.

    Read once, unless the file is ``changed``.
    """
    run = cell.recorded_in(results)
    minutes = sum(each or 0 for each in run.summary["seconds"].values()) / 60
    return _kind(run.config), minutes, "gpu" in run.summary["provenance"].get("machine", {})


def core_minutes(cells: Sequence[Cell], results: Path) -> dict[str, float]:
    """How many minutes of one core each cell takes, by its file: as recorded, or as estimated.

    A cell that is missing takes as long as the recorded ones that differ by their draws alone,
    else as the recorded ones of its method and budget, else as the mean of all. With nothing
    recorded nothing is known: 0. What a run took on a GPU says nothing of others here.
    """
    recorded: dict[str, float] = {}
    alike: dict[tuple[object, ...], list[float]] = {}
    for cell in cells:
        if not (results / cell.file).exists():
            continue
        written = (results / cell.file).stat().st_mtime_ns
        kind, minutes, on_gpu = _recorded(cell, results, written)
        recorded[cell.file] = minutes
        if on_gpu:
            continue
        for key in (kind, (cell.recipe, cell.budget), ()):
            alike.setdefault(key, []).append(minutes)

    def estimate(cell: Cell) -> float:
        for key in (_kind_of(cell), (cell.recipe, cell.budget), ()):
            if key in alike:
                return fmean(alike[key])
        return 0.0

    return {
        cell.file: recorded[cell.file] if cell.file in recorded else estimate(cell)
        for cell in cells
    }


def cheapest_decision_first(budget: str, results: Path) -> list[Cell]:
    """Every cell but those of the digits, whole tables in the order of what they decide per minute.

    A table decides one question, and as many more as there are primary claims on it. What counts
    against it is the time that its missing cells still take: so a table that is nearly done is
    finished before another is begun. Cells that two tables share stand in the first.
    """
    tables = {name: cells_of(name, budget) for name in TABLES if name != "digits"}
    minutes = core_minutes(once(cell for cells in tables.values() for cell in cells), results)

    def value(name: str) -> float:
        left = missing(tables[name], results)
        questions = 1 + sum(contrast.table == name for contrast in PRIMARY)
        return questions / max(sum(minutes[cell.file] for cell in left), 1e-9)

    return once(cell for name in sorted(tables, key=value, reverse=True) for cell in tables[name])
