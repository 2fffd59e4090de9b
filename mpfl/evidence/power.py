"""How many seeds would decide a question that these could not."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

from scipy import stats

from mpfl.evidence.samples import Sample
from mpfl.types import MPFLError, at_least, one_of

MOST_SEEDS = 10_000
Aim = Literal["better", "worse", "no worse", "equivalent"]
AIMS: tuple[Aim, ...] = ("better", "worse", "no worse", "equivalent")


def chance_beyond(gap: float, deviation: float, seeds: int) -> float:
    """How often a 95 % interval ends beyond a bar that the true mean is ``gap`` away from.

    Exact, by the noncentral t. ``deviation`` is that of one seed, in the unit of ``gap``.

    >>> f"{chance_beyond(gap=1.0, deviation=0.5, seeds=5):.2f}"
    '0.91'
    """
    at_least("seeds", seeds, 2)
    if not deviation > 0:
        raise MPFLError(f"deviation is {deviation!r}; give a number above 0")
    edge = float(stats.t.ppf(0.975, seeds - 1))
    return float(stats.nct.sf(edge, seeds - 1, math.sqrt(seeds) * gap / deviation))


def seeds_beyond(gap: float, deviation: float, power: float = 0.8) -> int | None:
    """The fewest seeds whose 95 % interval ends beyond a bar ``gap`` away, as often as ``power``.

    None if no number up to ``MOST_SEEDS`` is enough, as for a ``gap`` that is not positive, or if
    the deviation is not known. A deviation of 0 needs two seeds, as every interval does.

    >>> seeds_beyond(gap=1.0, deviation=0.5)
    5
    """
    return _fewest(lambda seeds: chance_beyond(gap, deviation, seeds), gap, deviation, power)


def seeds_needed(sample: Sample, margin: float, aim: Aim, power: float = 0.8) -> int | None:
    """The fewest seeds that would decide a difference with this deviation, as often as ``power``.

    What is true is assumed, not measured: *better* and *worse* find a true difference of
    ``margin``; *no worse* and *equivalent* find that a true difference of 0 is within ``margin``.
    Of the sample only the deviation is used, which a few seeds estimate badly. The first three are
    exact; *equivalent* takes the sum of both sides' misses for the chance to miss, which
    is never too few seeds. None as in :func:`seeds_beyond`, and below two values.

    >>> seeds = Sample((0.2, 1.9, 0.6))
    >>> seeds_needed(seeds, margin=1, aim="better"), seeds_needed(seeds, margin=2, aim="equivalent")
    (9, 5)
    """
    one_of("aim", aim, AIMS)
    if not 0 < margin < math.inf:
        raise MPFLError(f"margin is {margin!r}; give a number above 0")

    def chance(seeds: int) -> float:
        one_side = chance_beyond(margin, sample.deviation, seeds)
        return 2 * one_side - 1 if aim == "equivalent" else one_side

    return _fewest(chance, margin, sample.deviation, power)


def _fewest(
    chance: Callable[[int], float], gap: float, deviation: float, power: float
) -> int | None:
    """The smallest number of seeds whose ``chance``, which grows with them, reaches ``power``."""
    if not 0 < power < 1:
        raise MPFLError(f"power is {power!r}; give a number between 0 and 1")
    if not gap > 0 or math.isnan(deviation):
        return None
    if deviation == 0:
        return 2
    low, high = 1, 2  # too few, and not yet tried
    while chance(high) < power:
        if high == MOST_SEEDS:
            return None
        low, high = high, min(2 * high, MOST_SEEDS)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if chance(middle) >= power else (middle, high)
    return high
