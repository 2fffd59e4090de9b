"""What a chosen mask gains over lotteries of its own counts, for every vote of a table."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from mpfl.evidence.samples import Endpoint, Row, Sample, mean_by_seed, paired, points, rows_of


@dataclass(frozen=True)
class Gain:
    """One vote of a table, and what is recorded of it.

    ``vote`` and ``norms`` are test accuracies minus the mean of the lotteries, in points, for each
    seed that has them all: of the vote, and of iterated norms. ``planned`` is how many seeds there
    will be, ``missing`` how many runs are not recorded yet.
    """

    name: str
    vote: Sample
    norms: Sample
    planned: int
    missing: int


def gains_of(
    table: str,
    endpoint: Endpoint = "central",
    budget: str = "laptop",
    results: Path = Path("data/results"),
) -> list[Gain]:
    """The gain of every vote of an evidence table, in its order.

    A row ``vote, X`` is compared with the rows ``lottery 1, X``, ``lottery 2, X`` and so on; its
    name is then ``X``, or empty if the label is ``vote``.
    """
    rows = rows_of(table, budget, results)
    votes = [label for label in rows if label.partition(",")[0] == "vote"]
    return [_gain(rows, label.removeprefix("vote"), endpoint) for label in votes]


def _gain(rows: dict[str, Row], suffix: str, endpoint: Endpoint) -> Gain:
    lot, figure = re.compile(rf"lottery \d+{re.escape(suffix)}"), points(endpoint)
    vote, norms = rows[f"vote{suffix}"], rows[f"iterated norms{suffix}"]
    lotteries = [row for label, row in rows.items() if lot.fullmatch(label)]
    drawn = mean_by_seed(lotteries, figure)
    above, norms_above = (
        Sample(tuple(paired(row.each(figure), drawn).values())) for row in (vote, norms)
    )
    missing = sum(len(row.missing) for row in (vote, norms, *lotteries))
    return Gain(suffix.removeprefix(", "), above, norms_above, len(vote.cells), missing)
