"""Figures, in one style that reads on light and dark pages and for colour-blind readers."""

from mpfl.show.looks import LOOKS, look
from mpfl.show.plots.appearance import legend_below, mean_and_range, save_figure, style
from mpfl.show.plots.costs import scaling, traffic
from mpfl.show.plots.faults import chances, contamination, measured_chances
from mpfl.show.plots.lines import lines_with_range, over_theory, spread
from mpfl.show.plots.runs import (
    accuracy_by_bytes,
    comparison,
    convergence,
    histogram,
    progress,
    rounds,
)

__all__ = [
    "LOOKS",
    "accuracy_by_bytes",
    "chances",
    "comparison",
    "contamination",
    "convergence",
    "histogram",
    "legend_below",
    "lines_with_range",
    "look",
    "mean_and_range",
    "measured_chances",
    "over_theory",
    "progress",
    "rounds",
    "save_figure",
    "scaling",
    "spread",
    "style",
    "traffic",
]
