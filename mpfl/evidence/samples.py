"""What the recorded cells say: rows of a table, their spread, and differences seed by seed."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from scipy import stats

from mpfl import masks
from mpfl.evidence.cells import Cell
from mpfl.evidence.tables import cells_of
from mpfl.node import Plan
from mpfl.runs.record import Run, consensus_of, filters_of
from mpfl.server import decide
from mpfl.types import MPFLError, is_number
from mpfl.vote import Rule

Training = Literal["central", "federated"]
TRAININGS: tuple[Training, ...] = ("central", "federated")
Endpoint = Literal["central", "federated", "last five"]
LAST = 5


@dataclass(frozen=True)
class Sample:
    """One figure, measured once per seed.

    Raises :class:`~mpfl.types.MPFLError` if ``values`` are no tuple of numbers.
    """

    values: tuple[float, ...]

    def __post_init__(self) -> None:
        if not (isinstance(self.values, tuple) and all(map(is_number, self.values))):
            raise MPFLError(f"a sample is {self.values!r}; give a tuple of numbers, one per seed")

    @property
    def n(self) -> int:
        """How many seeds."""
        return len(self.values)

    @property
    def mean(self) -> float:
        """The mean; not a number if nothing was measured."""
        return float(np.mean(self.values)) if self.values else math.nan

    @property
    def deviation(self) -> float:
        """The sample standard deviation; not a number below two values."""
        return float(np.std(self.values, ddof=1)) if self.n > 1 else math.nan

    @property
    def half(self) -> float:
        """Half the width of Student's 95 % interval of the mean; infinite below two values."""
        if self.n < 2:
            return math.inf
        return float(stats.t.ppf(0.975, self.n - 1)) * self.deviation / math.sqrt(self.n)

    @property
    def low(self) -> float:
        """The lower end of that interval."""
        return self.mean - self.half

    @property
    def high(self) -> float:
        """The upper end of that interval."""
        return self.mean + self.half

    def __str__(self) -> str:
        """Mean ± standard deviation; of a single value, the value; of none, a dash."""
        if not self.n:
            return "-"
        return f"{self.mean:.2f}" + (f" ± {self.deviation:.2f}" if self.n > 1 else "")


@dataclass(frozen=True)
class Row:
    """The cells of one label, and the runs that are recorded of them, by seed."""

    label: str
    cells: tuple[Cell, ...]
    runs: Mapping[int, Run]

    @property
    def missing(self) -> list[Cell]:
        """The cells that were not run yet."""
        return [cell for cell in self.cells if cell.seed not in self.runs]

    def each(self, figure: Callable[[Run], float | None]) -> dict[int, float]:
        """``figure`` of every recorded run that has it, by seed."""
        found = {seed: figure(run) for seed, run in self.runs.items()}
        return {seed: value for seed, value in found.items() if value is not None}

    def sample(self, figure: Callable[[Run], float | None]) -> Sample:
        """``figure`` over the seeds."""
        return Sample(tuple(self.each(figure).values()))

    def accuracy(self, endpoint: Endpoint) -> Sample:
        """Test accuracy in per cent after one of the final trainings."""
        return self.sample(points(endpoint))


def points(endpoint: Endpoint) -> Callable[[Run], float | None]:
    """The figure that a run's accuracy in per cent is; None if it has not been trained so.

    ``"last five"`` is the mean after each of the last five rounds of federated training: a single
    round's moves by about a point from one to the next.
    """

    def figure(run: Run) -> float | None:
        if endpoint == "last five":
            tested = [a for line in run.federated if (a := line["accuracy"]) is not None]
            last = tested[-LAST:]
            return 100 * float(np.mean(last)) if len(last) == LAST else None
        found = run.summary[f"accuracy_{endpoint}"]
        return None if found is None else 100 * found

    return figure


def rows_of(
    table: str, budget: str = "laptop", results: Path = Path("data/results")
) -> dict[str, Row]:
    """The rows of an evidence table by label, in its order, with what is recorded of them.

    Raises :class:`~mpfl.types.MPFLError` if the folder ``results`` is not there.
    """
    if not results.is_dir():
        raise MPFLError(
            f"{results}: no such folder of results, seen from {Path.cwd()}; give its path from "
            "there, or change the working folder"
        )
    cells: dict[str, list[Cell]] = {}
    for cell in cells_of(table, budget):
        cells.setdefault(cell.label, []).append(cell)
    return {
        label: Row(
            label,
            tuple(mine),
            {c.seed: c.recorded_in(results) for c in mine if (results / c.file).exists()},
        )
        for label, mine in cells.items()
    }


def difference(one: Row, other: Row, figure: Callable[[Run], float | None]) -> Sample:
    """``figure`` of ``one`` minus that of ``other``, for each seed that both have.

    Paired by seed if that pairs something: one seed is one partition of the data, one
    order of the pictures and, if w0 is drawn, one w0 in both. If w0 is a file, all
    seeds share it, and the spread says nothing about other starts. Raises for a row compared
    with itself.
    """
    if one.label == other.label:
        raise MPFLError(f"row {one.label!r} cannot be compared with itself")
    return Sample(tuple(paired(one.each(figure), other.each(figure)).values()))


def mean_by_seed(rows: Sequence[Row], figure: Callable[[Run], float | None]) -> dict[int, float]:
    """The mean of ``figure`` over several rows, for each seed that all of them have."""
    figures = [row.each(figure) for row in rows]
    seeds = sorted(set.intersection(*(set(each) for each in figures)))
    return {seed: float(np.mean([each[seed] for each in figures])) for seed in seeds}


def paired(
    one: Mapping[int, float],
    other: Mapping[int, float],
    how: Callable[[float, float], float] = operator.sub,
) -> dict[int, float]:
    """``how`` of two figures, by seed, for each seed that both have."""
    return {seed: how(one[seed], other[seed]) for seed in sorted(one.keys() & other.keys())}


def rounds_alike(run: Run, plan: Plan, vote: Rule, norms: Mapping[str, np.ndarray]) -> int:
    """For how many rounds, from the first, ``vote`` decides on a run's votes as its own rule did.

    If it is all of them, a run under ``vote`` by the same code on such a machine would be this
    one, bit for bit: what the nodes are sent decides what they answer. ``run`` is one of method
    ``mpfl``, ``plan`` its own, ``norms`` those of the filters of its w0, by layer
    (:func:`mpfl.prune.filter_norms`). A node counts as one vote, so ``weighted`` is beyond it.
    Raises :class:`~mpfl.types.MPFLError` for a run in which nobody voted.
    """
    if not run.method.votes:
        raise MPFLError(f"{run.folder}: nobody voted in it; give a run whose nodes vote")
    layout, alive = plan.layout, masks.full(plan.layout)
    sizes = filters_of(run)
    for before, line in enumerate(run.rounds):
        votes = {name: np.array(counts) for name, counts in line["votes"].items()}
        voters = len(line["payloads"])
        answer, _ = decide(plan, vote, alive, line["round"], votes, voters, norms)
        told = consensus_of(line, sizes)
        if (masks.flatten(answer, layout) != told).any():
            return before
        alive = masks.unflatten(told, layout)
    return len(run.rounds)
