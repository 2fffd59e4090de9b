"""Schedules: how much of each layer is to be gone after each round.

A schedule maps (round ``1..R``, ``R``) to the *target sparsity* of that round: the fraction
of each layer's filters that the honest masks of the round remove, counted from the full
model, 0-1 and never percent.

Laws, for every schedule: it stays within ``[0, 1)``; it never falls from one round to the
next; it is a function of its arguments alone. Those with a ``final`` end exactly there.

Each one is a frozen dataclass that is called like a function: equal parameters make equal
schedules, and the ``repr`` is what a run's configuration records. Every schedule raises
:class:`~mpfl.types.MPFLError` for an ``amount`` or ``final`` outside ``[0, 1)``, a negative
``warmup``, and a round outside ``1..R``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from mpfl.types import MPFLError, is_number

Schedule: TypeAlias = Callable[[int, int], float]

# A sparsity of 1 would leave layers with no filters. In exact numbers `geometric` never reaches
# it, but in floats 1 - (1 - amount)^r is 1.0 as soon as (1 - amount)^r is below 2^-54; and
# `arithmetic` goes beyond 1 if there are enough rounds. Both stop at the largest float below 1.
_BELOW_ONE = math.nextafter(1.0, 0.0)


def _check_fraction(where: str, name: str, value: float) -> None:
    if not (is_number(value) and 0 <= value < 1):
        raise MPFLError(
            f"{where}: {name}={value!r} is no share of the filters; "
            f"give 0 <= {name} < 1 (0.8 for 80 percent)"
        )


def _check_warmup(where: str, warmup: int) -> None:
    if not (isinstance(warmup, int) and warmup >= 0):
        raise MPFLError(
            f"{where}: warmup={warmup!r} is negative, or not whole; give 0 or more rounds"
        )


def _check_round(where: str, round_: int, rounds: int) -> None:
    for value in (round_, rounds):
        if not isinstance(value, int | np.integer):
            raise MPFLError(f"{where}: {value!r} is no round; give whole numbers")
    if not 1 <= round_ <= rounds:
        raise MPFLError(
            f"{where}: there is no round {round_} in a run of {rounds}; rounds count from 1"
        )


@dataclass(frozen=True)
class geometric:
    """Each round removes the same fraction of the filters still kept: the published schedule.

    >>> halves = geometric(amount=0.5)
    >>> [halves(round_, 3) for round_ in (1, 2, 3)]
    [0.5, 0.75, 0.875]

    After round ``r`` the sparsity is ``1 - (1 - amount)^max(0, r - warmup)``. The first
    ``warmup`` rounds prune nothing; the authors' code has one such round, ``warmup=1``,
    with ``amount=0.1``. Their code takes the amount of what the last vote left, so it differs
    from this schedule if a vote removes more than was asked.

    Law: as long as it prunes, ``(1 - s_r) = (1 - amount) * (1 - s_{r-1})``.
    Source: Gez & Cohen, arXiv 2312.03889, and their released code.
    """

    amount: float = 0.1
    warmup: int = 0

    def __post_init__(self) -> None:
        _check_fraction("geometric", "amount", self.amount)
        _check_warmup("geometric", self.warmup)

    def __call__(self, round_: int, rounds: int) -> float:
        _check_round("geometric", round_, rounds)
        return min(1 - (1 - self.amount) ** max(0, round_ - self.warmup), _BELOW_ONE)


@dataclass(frozen=True)
class arithmetic:
    """Each round removes the same fraction of the full model, however many rounds there are.

    >>> quarters = arithmetic(amount=0.25, warmup=1)
    >>> [quarters(round_, 4) for round_ in (1, 2, 3, 4)]
    [0.0, 0.25, 0.5, 0.75]

    After round ``r`` the sparsity is ``amount * max(0, r - warmup)``. The authors' server
    requires that much before it lets unanimity decide, with ``amount=0.1, warmup=1``.

    Law: as long as it prunes, ``s_r - s_{r-1} = amount``.
    Source: the released code of Gez & Cohen, arXiv 2312.03889.
    """

    amount: float = 0.1
    warmup: int = 0

    def __post_init__(self) -> None:
        _check_fraction("arithmetic", "amount", self.amount)
        _check_warmup("arithmetic", self.warmup)

    def __call__(self, round_: int, rounds: int) -> float:
        _check_round("arithmetic", round_, rounds)
        return min(self.amount * max(0, round_ - self.warmup), _BELOW_ONE)


@dataclass(frozen=True)
class linear:
    """Each round removes the same number of filters: ``final * r / R``.

    >>> [linear(final=0.5)(round_, 4) for round_ in (1, 2, 3, 4)]
    [0.125, 0.25, 0.375, 0.5]

    Law: ``s_R == final``, and every step is ``final / R``.
    """

    final: float = 0.8

    def __post_init__(self) -> None:
        _check_fraction("linear", "final", self.final)

    def __call__(self, round_: int, rounds: int) -> float:
        _check_round("linear", round_, rounds)
        return self.final * (round_ / rounds)


@dataclass(frozen=True)
class cubic:
    """Fast at first, while there is much to spare, then ever slower.

    >>> [cubic(final=0.5)(round_, 4) for round_ in (1, 2, 3, 4)]
    [0.2890625, 0.4375, 0.4921875, 0.5]

    After round ``r`` the sparsity is ``final * (1 - (1 - r/R)^3)``.

    Laws: ``s_R == final``, and no step is larger than the one before.
    Source: Zhu & Gupta, *To prune, or not to prune*, arXiv 1710.01878, eq. 1, with an
    initial sparsity of 0 and one pruning step per round.
    """

    final: float = 0.8

    def __post_init__(self) -> None:
        _check_fraction("cubic", "final", self.final)

    def __call__(self, round_: int, rounds: int) -> float:
        _check_round("cubic", round_, rounds)
        return self.final * (1 - (1 - round_ / rounds) ** 3)


@dataclass(frozen=True)
class one_shot:
    """Everything goes in the first round: the control that shows what iterating is worth.

    >>> [one_shot(final=0.5)(round_, 4) for round_ in (1, 2, 3, 4)]
    [0.5, 0.5, 0.5, 0.5]

    Law: ``s_r == final`` in every round.
    """

    final: float = 0.8

    def __post_init__(self) -> None:
        _check_fraction("one_shot", "final", self.final)

    def __call__(self, round_: int, rounds: int) -> float:
        _check_round("one_shot", round_, rounds)
        return self.final


SCHEDULES = {
    schedule.__name__: schedule for schedule in (geometric, arithmetic, linear, cubic, one_shot)
}
