"""A finding as a small picture: its interval and its seeds, against the bar of the claim."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from mpfl.evidence.verdicts import Finding

_WIDE, _HIGH = 240, 44


def shared_scale(findings: Sequence[Finding]) -> Callable[[float], float]:
    """Where a value stands in a drawing: one scale for all claims of a unit."""
    drawn = [finding for finding in findings if finding.sample.n > 1]
    ends = [end for f in drawn for end in (f.low, f.high, f.holds_from)] or [0.0]
    low, high = min(ends) - 1, max(ends) + 1
    return lambda value: 6 + (_WIDE - 12) * (value - low) / (high - low)


def drawn_interval(finding: Finding, x: Callable[[float], float]) -> str:
    """Seeds, mean and interval against the bar; nothing below two seeds."""
    sample = finding.sample
    if sample.n < 2:
        return ""
    low, high = (x(end) for end in (finding.low, finding.high))
    said = (
        f"Mean {sample.mean:+.1f}, interval {finding.low:+.1f} to {finding.high:+.1f} "
        f"{finding.unit}, bar {finding.holds_from:+g}"
    )
    ticks = [value for value in range(-30, 31, 5) if 4 <= x(value) <= _WIDE - 4]
    return _drawn(
        said,
        *(_line(x(value), 4, 30, "mpfl-zero" if value == 0 else "mpfl-grid") for value in ticks),
        _line(x(finding.holds_from), 0, 32, "mpfl-bar"),
        '<path class="mpfl-whisker" '
        f'd="M{low:.1f} 17H{high:.1f}M{low:.1f} 12v10M{high:.1f} 12v10"/>',
        *(_line(x(value), 13, 21, "mpfl-seed") for value in sample.values),
        f'<circle class="mpfl-dot" cx="{x(sample.mean):.1f}" cy="17" r="3.6"/>',
        *(_text(x(value), f"{value:+d}" if value else "0") for value in ticks if value % 10 == 0),
    )


def drawn_traffic(finding: Finding) -> str:
    """Shares of traffic against their limit, by powers of ten: the votes hollow, all filled."""
    if not (finding.votes.n and finding.sample.n):
        return ""

    def x(share: float) -> float:
        return 6 + (_WIDE - 12) * (math.log10(share) + 4) / 6.2

    votes, everything = finding.votes.mean, finding.sample.mean
    said = (
        f"Votes {votes:.2g} %, with the final training {everything:.2g} %, "
        f"limit {finding.holds_from:g} %"
    )
    powers = range(-4, 3)
    return _drawn(
        said,
        *(_line(x(10.0**power), 4, 30, "mpfl-grid") for power in powers),
        _line(x(finding.holds_from), 0, 32, "mpfl-bar"),
        f'<path class="mpfl-whisker" d="M{x(votes):.1f} 17H{x(everything):.1f}"/>',
        f'<circle class="mpfl-dot mpfl-hollow" cx="{x(votes):.1f}" cy="17" r="3.6"/>',
        f'<circle class="mpfl-dot" cx="{x(everything):.1f}" cy="17" r="3.6"/>',
        *(_text(x(10.0**power), f"{10.0**power:g} %") for power in (-3, 0, 2)),
    )


def _drawn(said: str, *parts: str) -> str:
    return (
        f'<svg viewBox="0 0 {_WIDE} {_HIGH}" role="img" aria-label="{said}">{"".join(parts)}</svg>'
    )


def _line(x: float, top: int, bottom: int, look: str) -> str:
    return f'<path class="{look}" d="M{x:.1f} {top}V{bottom}"/>'


def _text(x: float, text: str) -> str:
    return f'<text x="{min(max(x, 10), _WIDE - 14):.1f}" y="42" text-anchor="middle">{text}</text>'
