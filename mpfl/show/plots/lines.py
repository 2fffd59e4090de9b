"""Lines and dots with their spread, for anything that is measured at several settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from mpfl.show.looks import BLUE, VERMILLION, looks_of
from mpfl.show.plots.appearance import SPAN, legend_below, mean_and_range, style


def lines_with_range(
    x: Sequence[float],
    lines: Mapping[str, Any],
    xlabel: str,
    ylabel: str,
    levels: Mapping[str, float] | None = None,
) -> Figure:
    """A line per entry of ``lines``: ``[x]``, or ``[seeds, x]`` as the mean, the range behind it.

    ``levels`` are drawn across, dashed, with their names.
    """
    with style():
        figure, axes = plt.subplots(figsize=(SPAN, 3.9), layout="constrained")
        looks = looks_of(lines)
        for name, values in lines.items():
            colour, marker = looks[name]
            look: Any = {"color": colour, "marker": marker, "markersize": 5, "label": name}
            mean_and_range(axes, x, np.atleast_2d(values), **look)
        for name, level in (levels or {}).items():
            axes.axhline(level, color="#555555", linestyle="--", linewidth=1.2, label=name)
        axes.set(xlabel=xlabel, ylabel=ylabel, ylim=(0, None))
        if all(float(each).is_integer() for each in x):
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        legend_below(figure, axes)
    plt.close(figure)
    return figure


def over_theory(
    x: Sequence[float],
    measured: Mapping[str, Any],
    theory: Mapping[str, Any],
    xlabel: str,
    ylabel: str,
) -> Figure:
    """Dots that were measured, ``[seeds, x]``, over lines ``[x]`` of the same names.

    A dot is the mean over the seeds, its bar the standard deviation to each side; a name
    without a theory is dots on a dotted line. Each step of ``x`` is a doubling.
    """
    with style():
        figure, axes = plt.subplots(figsize=(SPAN, 3.9), layout="constrained")
        looks = looks_of(measured)
        for name, values in measured.items():
            colour, marker = looks[name]
            each, deviation = np.atleast_2d(values), 0.0
            if len(each) > 1:
                deviation = each.std(axis=0, ddof=1)
            if name in theory:
                axes.plot(x, theory[name], color=colour, linewidth=1.2)
            look: Any = {"color": colour, "marker": marker, "markersize": 6, "capsize": 3}
            line = "" if name in theory else ":"
            axes.errorbar(x, each.mean(axis=0), deviation, linestyle=line, label=name, **look)
        axes.set_xscale("log", base=2)
        axes.set_xticks(x, [f"{each:g}" for each in x])
        axes.set(xlabel=xlabel, ylabel=ylabel, ylim=(0, None))
        legend_below(figure, axes)
    plt.close(figure)
    return figure


def spread(rows: Mapping[str, Sequence[float]], xlabel: str) -> Figure:
    """A row per name: a dot per seed, and the mean with one standard deviation to each side."""
    with style():
        figure, axes = plt.subplots(figsize=(SPAN, 0.9 + 0.42 * len(rows)), layout="constrained")
        for place, values in enumerate(rows.values()):
            axes.plot(values, [place] * len(values), "o", color=BLUE, alpha=0.7)
            deviation = np.std(values, ddof=1) if len(values) > 1 else 0.0
            look: Any = {"color": VERMILLION, "fmt": "D", "capsize": 4}
            axes.errorbar(np.mean(values), place + 0.25, xerr=deviation, **look)
        axes.set_yticks(range(len(rows)), list(rows))
        axes.set(xlabel=xlabel, ylim=(len(rows) - 0.4, -0.5))
        axes.grid(visible=False, axis="y")
    plt.close(figure)
    return figure
