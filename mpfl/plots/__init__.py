"""Figures, in one style that reads on light and dark pages and for colour-blind readers."""

from mpfl.plots.appearance import LOOKS, legend_below, look, mean_and_range, style
from mpfl.plots.costs import scaling, traffic
from mpfl.plots.faults import chances, contamination, measured_chances
from mpfl.plots.lines import curves, over_theory, spread
from mpfl.plots.runs import comparison, convergence, histogram, progress, rounds

__all__ = [
    "LOOKS",
    "chances",
    "comparison",
    "contamination",
    "convergence",
    "curves",
    "histogram",
    "legend_below",
    "look",
    "mean_and_range",
    "measured_chances",
    "over_theory",
    "progress",
    "rounds",
    "scaling",
    "spread",
    "style",
    "traffic",
]
