"""What a sample of differences says: an interval's answer, p-values, and seeds still needed.

Everything here is Student's: seeds are taken as draws from a bell curve. Values must be numbers;
otherwise :class:`~mpfl.types.MPFLError`. Two cases lie at the edge of the formulas:

- Fewer than two values have no spread: the interval is the whole line, every p-value is 1.
- Equal values have no width: the interval is a point, a p-value 0 or 1. Figures that come in steps
  can be equal by rounding, so widen them by a step first.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

from scipy import stats

from mpfl.evidence.samples import Sample
from mpfl.types import MPFLError, is_number

Conclusion = Literal["equivalent", "better", "worse", "no worse", "undecided"]


def _between(what: str, value: float, low: float, high: float) -> None:
    """Refuse a number that does not lie strictly between the two."""
    if not low < value < high:
        raise MPFLError(f"{what} is {value!r}; give a number between {low:g} and {high:g}")


def _mean_and_error(sample: Sample) -> tuple[float, float]:
    """The mean and its standard error: no end below two values, exactly 0 if all are equal."""
    if wrong := [value for value in sample.values if not math.isfinite(value)]:
        raise MPFLError(f"a sample holds {wrong[0]!r}; give finite numbers only")
    if sample.n < 2:
        return sample.mean, math.inf
    if len(set(sample.values)) == 1:  # their sum may be rounded
        return float(sample.values[0]), 0.0
    return sample.mean, sample.deviation / math.sqrt(sample.n)


def interval(sample: Sample, level: float = 0.95) -> tuple[float, float]:
    """Student's interval of the mean, at any level; at 95 % it is the sample's own.

    >>> low, high = interval(Sample((1.0, 2.0, 3.0)), 0.90)
    >>> f"{low:.2f} to {high:.2f}"
    '0.31 to 3.69'
    """
    _between("level", level, 0, 1)
    mean, error = _mean_and_error(sample)
    if math.isinf(error):
        return -math.inf, math.inf
    half = float(stats.t.ppf((1 + level) / 2, sample.n - 1)) * error
    return mean - half, mean + half


def conclude(sample: Sample, margin: float, level: float = 0.95) -> Conclusion:
    """The most informative answer about a difference, larger being better: one per interval.

    ``margin`` is the largest difference that does not matter, in the sample's unit.

    ============  =================================================  ==========================
    answer        the interval                                       so the true difference
    ============  =================================================  ==========================
    equivalent    within ±margin                                     is too small to matter
    better        above 0, and reaches margin                        is a gain; it may matter
    worse         below 0, and reaches -margin                       is a loss; it may matter
    no worse      above -margin, holds 0 and reaches margin          is no loss that matters
    undecided     reaches -margin and 0, or further                  may be a loss that matters
    ============  =================================================  ==========================

    Every interval is in exactly one row. A small difference whose interval leaves 0 out is real
    and still *equivalent*: an interval that lies within the margin says more than the sign does.
    *Equivalent* is the TOST at half of ``1 - level`` on either side: :func:`p_equivalent` is less
    than 0.025. *Undecided* looks at losses alone: turn the difference round to ask about gains.

    >>> conclude(Sample((0.3, 0.5, 0.4)), margin=2)
    'equivalent'
    >>> conclude(Sample((3.1, 2.8, 3.5)), margin=2)
    'better'
    >>> conclude(Sample((-0.5, 2.0, 2.4)), margin=2)
    'undecided'
    """
    _between("margin", margin, 0, math.inf)
    low, high = interval(sample, level)
    if -margin < low and high < margin:
        return "equivalent"
    if low > 0:
        return "better"
    if high < 0:
        return "worse"
    return "no worse" if low > -margin else "undecided"


def gap_between(one: Sample, other: Sample, level: float = 0.95) -> tuple[float, float]:
    """Welch's interval of the difference of two means, of samples that nothing pairs.

    A sample of fewer than two values leaves the whole line.

    >>> low, high = gap_between(Sample((2.0, 3.0, 4.0)), Sample((1.0, 2.0, 3.0)))
    >>> f"{low:.2f} to {high:.2f}"
    '-1.27 to 3.27'
    """
    _between("level", level, 0, 1)
    (mean, error), (other_mean, other_error) = _mean_and_error(one), _mean_and_error(other)
    spread = math.hypot(error, other_error)
    if not math.isfinite(spread):
        return -math.inf, math.inf
    if spread == 0:
        return mean - other_mean, mean - other_mean
    parts = error**4 / (one.n - 1) + other_error**4 / (other.n - 1)
    half = float(stats.t.ppf((1 + level) / 2, spread**4 / parts)) * spread
    return mean - other_mean - half, mean - other_mean + half


def p_above(sample: Sample, bar: float = 0.0) -> float:
    """The one-sided p-value against "the true mean is at most ``bar``".

    >>> f"{p_above(Sample((1.0, 2.0, 3.0))):.3f}"
    '0.037'
    """
    if math.isnan(bar):
        raise MPFLError(f"bar is {bar!r}; give a number")
    mean, error = _mean_and_error(sample)
    if math.isinf(error):
        return 1.0
    if error == 0:
        return 0.0 if mean > bar else 1.0
    return float(stats.t.sf((mean - bar) / error, sample.n - 1))


def p_below(sample: Sample, bar: float = 0.0) -> float:
    """The one-sided p-value against "the true mean is at least ``bar``".

    >>> f"{p_below(Sample((1.0, 2.0, 3.0)), 5.0):.3f}"
    '0.018'
    """
    return p_above(Sample(tuple(-value for value in sample.values)), -bar)


def p_differs(sample: Sample, bar: float = 0.0) -> float:
    """The two-sided p-value against "the true mean is ``bar``".

    >>> f"{p_differs(Sample((1.0, 2.0, 3.0))):.3f}"
    '0.074'
    """
    return min(1.0, 2 * min(p_above(sample, bar), p_below(sample, bar)))


def p_equivalent(sample: Sample, margin: float) -> float:
    """The p-value of two one-sided tests (TOST) against "it is ``margin`` or more, either way".

    >>> f"{p_equivalent(Sample((0.3, 0.5, 0.4)), 2):.4f}"
    '0.0006'
    """
    _between("margin", margin, 0, math.inf)
    return max(p_above(sample, -margin), p_below(sample, margin))


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Holm's adjusted p-values, under the same names in the same order.

    The chance that any true null hypothesis among them falls below 5 % is at most 5 %, however
    they depend on each other. The family is what is passed: name every test that was made.

    >>> holm({"a": 0.01, "b": 0.04, "c": 0.03})
    {'a': 0.03, 'b': 0.06, 'c': 0.06}
    """
    if wrong := [name for name, p in p_values.items() if not (is_number(p) and 0 <= p <= 1)]:
        raise MPFLError(f"{wrong[0]}: {p_values[wrong[0]]!r} is no p-value; give one from 0 to 1")
    adjusted, largest = {}, 0.0
    for rank, name in enumerate(sorted(p_values, key=p_values.__getitem__)):
        # The smallest counts once per test, the next once less; none may overtake the one before.
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[name]))
        adjusted[name] = largest
    return {name: adjusted[name] for name in p_values}
