"""Tests whose chances are counted, not approximated: a rank among lotteries, pairs of pictures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from scipy import stats

from mpfl.types import MPFLError


@dataclass(frozen=True)
class Place:
    """The ``rank`` of a value among ``of`` values, itself included: 1 is the largest."""

    rank: int
    of: int

    def __post_init__(self) -> None:
        """Refuse a rank that is not among them."""
        if not 1 <= self.rank <= self.of:
            raise MPFLError(f"rank {self.rank} of {self.of}; give one from 1 to {self.of}")


def rank_among(value: float, others: Sequence[float]) -> Place:
    """Where a vote's figure stands among those of lotteries with the same counts, larger first.

    Ties count against the value, so that its p-value is never too small.

    >>> rank_among(72.6, [71.0, 72.9, 71.7])
    Place(rank=2, of=4)
    """
    if not np.isfinite([value, *others]).all():
        raise MPFLError("a figure to be ranked is not a finite number; leave unfinished runs out")
    return Place(1 + sum(bool(other >= value) for other in others), len(others) + 1)


def p_of_ranks(places: Sequence[Place]) -> float:
    """How often lotteries alone would stand as high: the exact chance of such a sum of ranks.

    If a vote is worth no more than a lottery, it is one more draw, and its rank any of them alike.
    One place has p = rank / of: first among nineteen lotteries is 1/20, the least that nineteen can
    show. Places of several seeds are taken as independent, and each seed needs lotteries of its
    own; no place at all has p = 1.

    >>> p_of_ranks([Place(1, 20)])
    0.05
    >>> p_of_ranks([Place(1, 20), Place(3, 20)])  # (1, 1) (1, 2) (2, 1) (1, 3) (2, 2) (3, 1)
    0.015
    """
    ways = {0: 1}  # of reaching each sum
    for place in places:
        longer: dict[int, int] = {}
        for total, count in ways.items():
            for rank in range(1, place.of + 1):
                longer[total + rank] = longer.get(total + rank, 0) + count
        ways = longer
    reached = sum(place.rank for place in places)
    as_high = sum(count for total, count in ways.items() if total <= reached)
    return float(Fraction(as_high, math.prod(place.of for place in places)))


@dataclass(frozen=True)
class PicturesApart:
    """Two networks on the same test pictures: ``points`` of accuracy apart, one minus the other.

    ``error`` is the standard error of ``points``, over draws of the pictures; ``p`` is exact
    (McNemar), two-sided. ``one_alone`` and ``other_alone`` count pictures that a single one has
    right.
    """

    points: float
    error: float
    p: float
    one_alone: int
    other_alone: int


def pictures_apart(one: np.ndarray, other: np.ndarray) -> PicturesApart:
    """Compare two networks picture by picture: a bool per picture, True if a network has it right.

    It speaks of these two networks on more pictures of the kind, not of the methods that made
    them: how a method's networks differ among themselves, seeds alone can say. Pictures that both
    have right, or both wrong, tell nothing apart: if all are so, p is 1 and the error 0.

    >>> both, one, other = np.array([True] * 6), np.array([True] * 8), np.array([False] * 8)
    >>> pictures_apart(np.concatenate([both, one]), np.concatenate([both, other])).p
    0.0078125
    """
    for bits in (one, other):
        if bits.dtype != bool or bits.ndim != 1:
            raise MPFLError(
                f"bits of pictures are {bits.dtype} of shape {bits.shape}; give a line of bools"
            )
    if one.size != other.size or not one.size:
        raise MPFLError(
            f"{one.size} pictures beside {other.size}; give the same test pictures, in one order"
        )
    pictures = one.size
    one_alone, other_alone = int((one & ~other).sum()), int((other & ~one).sum())
    apart, gap = one_alone + other_alone, one_alone - other_alone
    variance = apart / pictures - (gap / pictures) ** 2  # of a picture's difference: -1, 0 or 1
    p = float(stats.binomtest(one_alone, apart).pvalue) if apart else 1.0
    return PicturesApart(
        points=100 * gap / pictures,
        error=100 * math.sqrt(max(variance, 0.0) / pictures),
        p=p,
        one_alone=one_alone,
        other_alone=other_alone,
    )
