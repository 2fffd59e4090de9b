"""Schedules: how much of each layer is to be gone after each round.

A schedule maps (round ``1..R``, ``R``) to the *target sparsity* of that round: the share
of each layer's filters that the honest masks of the round remove, counted from the full
model, 0-1 and never percent.

Laws, for every schedule: it stays within ``[0, 1)``; it never falls from one round to the
next; it is a function of its arguments alone. Those with a ``final`` end exactly there.

Each one is a frozen dataclass that is called like a function: equal parameters make equal
schedules, and the ``repr`` is what a run's configuration records.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from mpfl.types import MPFLError

Schedule: TypeAlias = Callable[[int, int], float]

# The largest float below 1: there, (1 - share)^r has vanished next to 1.
_BELOW_ONE = math.nextafter(1.0, 0.0)


def _check_share(where: str, name: str, value: float) -> None:
    if not 0 <= value < 1:
        raise MPFLError(
            f"{where}: {name}={value!r} is no share of the filters; "
            f"give 0 <= {name} < 1 (0.8 for 80 percent)"
        )


def _check_warmup(where: str, warmup: int) -> None:
    if not warmup >= 0:
        raise MPFLError(f"{where}: warmup={warmup!r} is negative; give 0 or more rounds")


def _check_round(where: str, round_: int, rounds: int) -> None:
    if not 1 <= round_ <= rounds:
        raise MPFLError(
            f"{where}: there is no round {round_} in a run of {rounds}; rounds count from 1"
        )


@dataclass(frozen=True)
class geometric:  # noqa: N801
    """The same share of the filters still kept goes each round: the published schedule.

    After round ``r`` the sparsity is ``1 - (1 - share)^max(0, r - warmup)``. The first
    ``warmup`` rounds prune nothing; the authors' code has one such round, ``warmup=1``,
    with ``share=0.1``. There the share is taken of what the last vote left, so the two
    part where a vote removes more than asked, unless an experiment says ``share_of="kept"``.

    Law: as long as it prunes, ``(1 - s_r) = (1 - share) * (1 - s_{r-1})``.
    Raises :class:`MPFLError` for a share outside ``[0, 1)``, a negative warmup, or a round
    outside ``1..R``. Source: Gez & Cohen, arXiv 2312.03889, and their released code.
    """

    share: float = 0.1
    warmup: int = 0

    def __post_init__(self) -> None:
        _check_share("geometric", "share", self.share)
        _check_warmup("geometric", self.warmup)

    def __call__(self, round_: int, rounds: int) -> float:
        _check_round("geometric", round_, rounds)
        return min(1 - (1 - self.share) ** max(0, round_ - self.warmup), _BELOW_ONE)


@dataclass(frozen=True)
class arithmetic:  # noqa: N801
    """The same share of the full model goes each round, however many rounds there are.

    After round ``r`` the sparsity is ``share * max(0, r - warmup)``. The authors' server
    requires that much before it lets unanimity decide, with ``share=0.1, warmup=1``.

    Law: as long as it prunes, ``s_r - s_{r-1} = share``.
    Raises :class:`MPFLError` for a share outside ``[0, 1)``, a negative warmup, or a round
    outside ``1..R``. Source: the released code of Gez & Cohen, arXiv 2312.03889.
    """

    share: float = 0.1
    warmup: int = 0

    def __post_init__(self) -> None:
        _check_share("arithmetic", "share", self.share)
        _check_warmup("arithmetic", self.warmup)

    def __call__(self, round_: int, rounds: int) -> float:
        _check_round("arithmetic", round_, rounds)
        return min(self.share * max(0, round_ - self.warmup), _BELOW_ONE)


@dataclass(frozen=True)
class linear:  # noqa: N801
    """The same number of filters goes each round: ``final * r / R``.

    Law: ``s_R == final``, and every step is ``final / R``.
    Raises :class:`MPFLError` for a final outside ``[0, 1)`` or a round outside ``1..R``.
    """

    final: float = 0.8

    def __post_init__(self) -> None:
        _check_share("linear", "final", self.final)

    def __call__(self, round_: int, rounds: int) -> float:
        _check_round("linear", round_, rounds)
        return self.final * (round_ / rounds)


@dataclass(frozen=True)
class cubic:  # noqa: N801
    """Fast at first, while there is much to spare, then ever slower.

    After round ``r`` the sparsity is ``final * (1 - (1 - r/R)^3)``.

    Laws: ``s_R == final``, and no step is larger than the one before.
    Raises :class:`MPFLError` for a final outside ``[0, 1)`` or a round outside ``1..R``.
    Source: Zhu & Gupta, *To prune, or not to prune*, arXiv 1710.01878, eq. 1, with an
    initial sparsity of 0 and one pruning step a round.
    """

    final: float = 0.8

    def __post_init__(self) -> None:
        _check_share("cubic", "final", self.final)

    def __call__(self, round_: int, rounds: int) -> float:
        _check_round("cubic", round_, rounds)
        return self.final * (1 - (1 - round_ / rounds) ** 3)


@dataclass(frozen=True)
class one_shot:  # noqa: N801
    """Everything goes in the first round; the control that shows what iterating is worth.

    Law: ``s_r == final`` in every round.
    Raises :class:`MPFLError` for a final outside ``[0, 1)`` or a round outside ``1..R``.
    """

    final: float = 0.8

    def __post_init__(self) -> None:
        _check_share("one_shot", "final", self.final)

    def __call__(self, round_: int, rounds: int) -> float:
        _check_round("one_shot", round_, rounds)
        return self.final


SCHEDULES = {
    schedule.__name__: schedule for schedule in (geometric, arithmetic, linear, cubic, one_shot)
}
