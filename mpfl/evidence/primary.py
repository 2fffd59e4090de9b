"""The primary claims, decided: the protocol's differences on what is recorded.

The claims, their margins and their seeds are those of :mod:`mpfl.evidence.protocol`. Before all
seeds of a claim are recorded it is *not run yet*: looking early, and stopping when one likes what
one sees, would make the interval mean less than it says.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Literal, TypeAlias

from mpfl.evidence.exact import Place, p_of_ranks, rank_among
from mpfl.evidence.inference import Conclusion, conclude, holm, p_above
from mpfl.evidence.power import seeds_needed
from mpfl.evidence.protocol import PRIMARY, Contrast
from mpfl.evidence.samples import Row, Sample, points, rows_of
from mpfl.runs.record import Run

Alike: TypeAlias = Callable[[Run], str]


@dataclass(frozen=True)
class Decision:
    """What the runs say about one primary claim.

    ``sample`` holds a difference per seed, in points. ``answer`` is what its interval says;
    ``adjusted`` the p-value of what the claim asks, after Holm over the family (1 while it is not
    run). ``seeds_needed`` would decide it, four times in five, at the spread that was seen.
    ``places`` are the ranks of the one row among the others, seed by seed, and ``p_of_places`` the
    exact chance of ranks as high.
    """

    contrast: Contrast
    sample: Sample
    answer: Conclusion | Literal["not run yet"]
    adjusted: float
    seeds_needed: int | None
    places: tuple[Place, ...]
    p_of_places: float

    @property
    def holds(self) -> bool:
        """Whether the claim is shown, at 2.5 % one-sided over the whole family."""
        return self.adjusted < 0.025


def _beside(
    contrast: Contrast, rows: dict[str, Row], alike: Alike | None = None
) -> dict[int, tuple[float, list[float]]]:
    """The figure of the one row and those of the others, for each seed that all of them have."""
    figure = points(contrast.endpoint)
    mine = [rows[label] for label in (contrast.one, *contrast.others)]
    one, *others = (row.each(figure) for row in mine)
    seeds = sorted(one.keys() & set.intersection(*(set(each) for each in others)))
    if alike is not None:
        seeds = [seed for seed in seeds if len({alike(row.runs[seed]) for row in mine}) == 1]
    return {seed: (one[seed], [each[seed] for each in others]) for seed in seeds}


def differences(
    contrast: Contrast, rows: dict[str, Row], alike: Alike | None = None
) -> dict[int, float]:
    """The difference of a claim in points, seed by seed, as far as it is recorded.

    With ``alike``, only for those seeds whose rows agree in it.
    """
    beside = _beside(contrast, rows, alike)
    return {seed: one - fmean(others) for seed, (one, others) in beside.items()}


def decide_primary(
    results: Path = Path("data/results"), alike: Alike | None = None
) -> dict[str, Decision]:
    """Every primary claim by its name, in the protocol's order.

    The protocol takes every seed. With ``alike``, such as
    :func:`mpfl.evidence.machines.machine_of`, seeds whose rows do not agree in it are left out:
    that asks whether a verdict depends on them. A claim is still *not run yet* until all its seeds
    are recorded.
    """
    tables = {name: rows_of(name, results=results) for name in {c.table for c in PRIMARY}}
    samples, complete = {}, {}
    for contrast in PRIMARY:
        rows = tables[contrast.table]
        complete[contrast.name] = set(differences(contrast, rows)) == set(contrast.seeds)
        samples[contrast.name] = Sample(tuple(differences(contrast, rows, alike).values()))
    asked = {c.name: 0.0 if c.asks == "better" else -c.margin for c in PRIMARY}
    adjusted = holm(
        {
            name: p_above(samples[name], bar) if complete[name] else 1.0
            for name, bar in asked.items()
        }
    )
    decisions = {}
    for contrast in PRIMARY:
        name, sample = contrast.name, samples[contrast.name]
        beside = _beside(contrast, tables[contrast.table], alike).values()
        places = tuple(rank_among(one, others) for one, others in beside)
        decisions[name] = Decision(
            contrast,
            sample,
            conclude(sample, contrast.margin) if complete[name] else "not run yet",
            adjusted[name],
            seeds_needed(sample, contrast.margin, contrast.asks) if sample.n > 1 else None,
            places,
            p_of_ranks(places),
        )
    return decisions
