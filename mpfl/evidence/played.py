"""Three recorded runs with every ballot, of nodes that disagree and of nodes that do not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from mpfl.evidence.samples import rows_of
from mpfl.runs.record import Run
from mpfl.types import MPFLError

_ROUNDS = 10
PLAYED: Mapping[str, tuple[str, str]] = {
    "random start": ("sparsity", "vote, 19 rounds"),
    "trained start, by size": ("pretrained", "vote, l2"),
    "trained start, by Taylor": ("improvement", "root, taylor"),
}
"""The table and the row of each. The rounds of the first go on; ten of them are the vote's own."""


def runs_to_play(results: Path = Path("data/results"), seed: int = 2) -> dict[str, Run]:
    """The first ten rounds of a run from each start, by the names of :data:`PLAYED`.

    The records of the table ``cifar10`` were made before ballots were kept. With seed 2 the first
    ten rounds of the 19-round vote are that table's vote, mask for mask. Raises
    :class:`~mpfl.types.MPFLError` for a run that is not recorded.
    """
    runs = {}
    for name, (table, label) in PLAYED.items():
        row = rows_of(table, results=results)[label]
        if seed not in row.runs:
            raise MPFLError(
                f"{name}: seed {seed} of {label!r} is not recorded in {results}; "
                f"python -m mpfl reproduce {table} makes it"
            )
        run = row.runs[seed]
        runs[name] = replace(run, rounds=run.rounds[:_ROUNDS])
    return runs
