"""How every figure looks: on light and dark pages, and for colour-blind readers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mpfl.runs.record import Run

# Okabe & Ito's colours; each method keeps its own colour and marker in every figure.
LOOKS: Mapping[str, tuple[str, str]] = {
    "mpfl": ("#0072B2", "o"),
    "random-masks": ("#E69F00", "X"),
    "w0-norms": ("#CC79A7", "D"),
    "pruning-fl": ("#009E73", "s"),
    "lth": ("#D55E00", "^"),
    "fedavg": ("#555555", "P"),
    "central": ("#111111", "*"),
    "one-bit": ("#56B4E9", "h"),
}


def look(run: Run) -> tuple[str, str]:
    """A run's colour and marker: those of its method, but a vote's marker is its rule's."""
    colour, marker = LOOKS[run.config["method"]]
    if run.config["method"] == "mpfl":
        rule = run.config["vote"].partition("(")[0]
        marker = {"budget": "o", "relaxed": "v", "published_threshold": "<"}.get(rule, "p")
    return colour, marker


def legend_below(figure: Figure, axes: Axes, columns: int) -> None:
    """One legend for all panels, under them: the entries of one of them, ``axes``."""
    figure.legend(
        *axes.get_legend_handles_labels(),
        loc="outside lower center",
        ncols=columns,
        frameon=False,
    )


def mean_and_range(axes: Axes, x: Any, each: np.ndarray, **look: Any) -> None:
    """A line, the mean of ``each`` ``[seeds, x]``, and their range behind it."""
    axes.plot(x, each.mean(axis=0), **look)
    if len(each) > 1:
        low, high = each.min(axis=0), each.max(axis=0)
        axes.fill_between(x, low, high, color=look["color"], alpha=0.15, linewidth=0)


@contextmanager
def style() -> Iterator[None]:
    """The look of every figure: white paper, thin grid, readable sizes."""
    look: Any = sns.axes_style("whitegrid") | {
        "figure.facecolor": "white",
        "savefig.facecolor": "white",
        "figure.dpi": 110,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "font.size": 11,
    }
    with plt.rc_context(look):
        yield
