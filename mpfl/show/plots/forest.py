"""A forest plot: differences with their intervals, each beside the margin that matters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from mpfl.evidence.samples import Sample
from mpfl.show.looks import BLUE, GREEN
from mpfl.show.plots.appearance import SPAN, legend_below, style

# The marker says the same as the colour.
_MARKS: Mapping[str, tuple[str, str]] = {
    "shown": (GREEN, "o"),
    "not shown": ("#555555", "s"),
    "exploratory": (BLUE, "D"),
}
_MARGIN = "#dddddd"


@dataclass(frozen=True)
class ForestLine:
    """One difference, in points; an empty ``sample`` is drawn as *not run yet*.

    ``margin`` is the largest difference, on either side, that counts as none.
    """

    name: str
    sample: Sample
    margin: float
    kind: Literal["shown", "not shown", "exploratory"]


def forest(groups: Mapping[str, Sequence[ForestLine]]) -> Figure:
    """Means and 95 % intervals from top to bottom, under the name of their group.

    The margin is a band behind its line.
    """
    # A group's name takes a place of its own.
    places: list[tuple[str, ForestLine | None]] = []
    for group, lines in groups.items():
        places += [(group, None), *((line.name, line) for line in lines)]
    with style():
        figure, axes = plt.subplots(figsize=(SPAN, 1.2 + 0.3 * len(places)), layout="constrained")
        for place, (_, line) in enumerate(reversed(places)):
            if line is None:
                continue
            axes.add_patch(
                Rectangle((-line.margin, place - 0.42), 2 * line.margin, 0.84, color=_MARGIN)
            )
            if not line.sample.n:
                axes.text(0.06, place, "not run yet", va="center", color="#555555")
                continue
            colour, marker = _MARKS[line.kind]
            axes.errorbar(
                [line.sample.mean],
                [place],
                xerr=[line.sample.half] if line.sample.n > 1 else None,
                fmt=marker,
                color=colour,
                capsize=3,
            )
        for kind, (colour, marker) in _MARKS.items():
            if any(line and line.sample.n and line.kind == kind for _, line in places):
                axes.plot([], [], marker, color=colour, label=kind)
        axes.fill_between([], [], [], color=_MARGIN, label="within the margin")
        axes.axvline(0, color="black", linewidth=1, zorder=0.9)
        axes.autoscale_view()
        axes.set(
            yticks=range(len(places)),
            yticklabels=[name for name, _ in reversed(places)],
            ylim=(-0.6, len(places) - 0.4),
            xlabel="difference in test accuracy, points",
        )
        for text, (_, line) in zip(axes.get_yticklabels(), reversed(places), strict=True):
            text.set_fontweight("normal" if line else "bold")
        axes.grid(axis="y", visible=False)
        legend_below(figure, axes)
    plt.close(figure)
    return figure
