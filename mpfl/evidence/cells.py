"""Cells: the runs behind the book, each described exactly as on a command line.

Its result is one JSON file in ``data/results/``, named by the experiment's identity, so a cell
that two tables share is run once, and a file says which cell it is.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from mpfl.runs.experiment import Experiment, slug_of
from mpfl.runs.recipes import recipe
from mpfl.runs.record import Run, read_run
from mpfl.runs.text import changed
from mpfl.runs.whole import require_whole
from mpfl.types import MPFLError

PRETRAINED = "data/w0/vgg11-bn-half-imagenet100.safetensors"


@dataclass(frozen=True)
class Cell:
    """One run: a recipe, its seed and budget, and what ``--set`` changes.

    ``label`` is its row in the table: cells with one label differ only by their seed.
    ``match`` is another cell whose filter counts this control takes over, so that it must be
    recorded before. ``keeps`` is the file in which its weights, trained in one place, are kept
    in half precision: the w0 of other cells.
    """

    label: str
    recipe: str
    seed: int
    changes: tuple[str, ...] = ()
    budget: str = "laptop"
    match: Cell | None = None
    keeps: str | None = None

    @cached_property
    def experiment(self) -> Experiment:
        """What is run."""
        return changed(recipe(self.recipe, self.budget, self.seed), self._all)

    @cached_property
    def file(self) -> str:
        """The name of its result."""
        return f"{self.experiment.slug}.json"

    def recorded_in(self, results: Path) -> Run:
        """Its record in the folder ``results``.

        Raises :class:`~mpfl.types.MPFLError` for one that is damaged, or that of another run.
        """
        run = require_whole(read_run(results / self.file))
        if f"{(there := slug_of(run.config))}.json" != self.file:
            raise MPFLError(
                f"{run.folder}: is the record of {there}; move it to {there}.json, and run again: "
                f"{self.command}"
            )
        return run

    @property
    def keeps_its_counts(self) -> bool:
        """Whether the schedule alone says how many filters each layer keeps."""
        e = self.experiment
        exact = e.vote.exact or not e.method.votes
        return exact and e.quota.by_schedule and e.match is None

    @property
    def w0_file(self) -> Path | None:
        """The file from which it starts, if its changes name one."""
        named = [change.removeprefix("w0=") for change in self.changes if change[:3] == "w0="]
        return Path(named[-1]) if named else None

    @property
    def words(self) -> list[str]:
        """Its command line, after ``python -m mpfl``."""
        words = ["run", self.recipe, "--budget", self.budget, "--seed", str(self.seed)]
        return words + [word for change in self._all for word in ("--set", change)]

    @property
    def command(self) -> str:
        """The command that a reader gives for the same run."""
        return shlex.join(["python", "-m", "mpfl", *self.words])

    @property
    def _all(self) -> tuple[str, ...]:
        match = () if self.match is None else (f"match=data/results/{self.match.file}",)
        return self.changes + match


def once(cells: Iterable[Cell]) -> list[Cell]:
    """The cells in their order, each run once: the first of those that are one run."""
    found: dict[str, Cell] = {}
    for cell in cells:
        found.setdefault(cell.file, cell)
    return list(found.values())
