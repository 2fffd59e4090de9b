"""Timing that holds on a noisy machine: two things in turn, and the ratio pair by pair."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Figure:
    """One line of the table: what was measured, its value, and what it was to reach.

    ``value`` is the median of ``n`` measurements, ``low`` and ``high`` the least and the
    largest. ``bar`` begins with <= or >=. ``detail`` says what the two sides took.
    """

    name: str
    value: float
    bar: str | None
    n: int = 1
    low: float | None = None
    high: float | None = None
    detail: str = ""

    @property
    def reached(self) -> bool | None:
        """Whether the bar was reached; None where there is none."""
        if self.bar is None:
            return None
        limit = float(self.bar[2:])
        return self.value <= limit if self.bar.startswith("<=") else self.value >= limit

    def row(self) -> dict[str, Any]:
        """As JSON holds it."""
        return {**asdict(self), "reached": self.reached}


def seconds(run: Callable[[], object]) -> float:
    """How long one call takes."""
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def paired(
    name: str,
    first: Callable[[], object],
    second: Callable[[], object],
    bar: str | None,
    n: int = 5,
    names: tuple[str, str] = ("first", "second"),
) -> Figure:
    """The time of ``first`` over that of ``second``: A B A B ..., after one of each unmeasured."""
    first(), second()
    pairs = [(seconds(first), seconds(second)) for _ in range(n)]
    ratios = sorted(a / b for a, b in pairs)
    took = (statistics.median(times) for times in zip(*pairs, strict=True))
    detail = ", ".join(f"{who} {t:.3g} s" for who, t in zip(names, took, strict=True))
    return Figure(name, statistics.median(ratios), bar, n, ratios[0], ratios[-1], detail)
