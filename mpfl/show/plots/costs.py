"""What a run takes: time, and bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from mpfl.analysis.ledger import Bill, Way
from mpfl.show.looks import BLUE, LOOKS, ORANGE
from mpfl.show.plots.appearance import LEAST, SPAN, decades, legend_below, style
from mpfl.show.terminal import size


def scaling(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """How the seconds of a run grow: rows ``{axis, value, seconds: [one per run]}``."""
    labels = {"nodes": "nodes", "width": "share of full width", "rounds": "rounds"}
    with style():
        figure, panels = plt.subplots(1, 3, figsize=(SPAN, 2.5), layout="constrained")
        for axes, (axis, label) in zip(panels, labels.items(), strict=True):
            mine = [row for row in rows if row["axis"] == axis]
            x = np.array([row["value"] for row in mine])
            middle = np.array([np.median(row["seconds"]) for row in mine])
            for row in mine:
                axes.plot([row["value"]] * len(row["seconds"]), row["seconds"], "o", color=BLUE)
            axes.plot(x, middle, color=BLUE)
            expected = middle[0] * (x / x[0] if axis != "nodes" else np.ones_like(x))
            axes.plot(x, expected, "--", color="#999999")
            axes.set(xlabel=label, xlim=(0, None), ylim=(0, None))
            shown = x[::-2]
            axes.set_xticks(shown, [f"{each:g}" for each in shown])
            if axis == "nodes":
                axes.set_xscale("log")
                axes.set(xlim=(0.8, 125), xticks=x, xticklabels=x)
        panels[0].set_ylabel("seconds")
    plt.close(figure)
    return figure


def traffic(bills: Mapping[str, Mapping[Way, Bill]]) -> Figure:
    """What each way to learn a model sends, by phase: a panel per network, bytes on a log scale.

    The marks are w0, the method's rounds and the final training; the total stands on the right.
    """
    rows = max(len(each) for each in bills.values())
    with style():
        figure, panels = plt.subplots(
            len(bills),
            1,
            figsize=(SPAN, 1.3 + 0.4 * rows * len(bills)),
            layout="constrained",
            sharex=True,
            squeeze=False,
        )
        for axes, (title, each) in zip(panels[:, 0], bills.items(), strict=True):
            for row, (way, sent) in enumerate(each.items()):
                w0 = sent.start or sent.final_start
                phases = (w0, sent.rounds, sent.total - w0 - sent.rounds)
                some = {phase: count for phase, count in zip(_PHASES, phases, strict=True) if count}
                ends = [min(some.values(), default=1), max(some.values(), default=1)]
                axes.plot(ends, [row, row], color="#BBBBBB", linewidth=1, zorder=1)
                for phase, count in some.items():
                    axes.plot(count, row, color=LOOKS[way][0], markeredgewidth=2, **_PHASES[phase])
                beside = axes.get_yaxis_transform()
                axes.text(
                    1.24,
                    row,
                    size(sent.total),
                    transform=beside,
                    va="center",
                    ha="right",
                    size=LEAST,
                )
            axes.set_yticks(range(len(each)), [_WAYS[way] for way in each])
            decades(axes, "B")
            axes.set(ylim=(len(each) - 0.5, -0.5))
            axes.grid(visible=False, axis="y")
            axes.set_title(title, size=11, loc="left")
        panels[0, 0].text(1.24, 1.04, "total", transform=panels[0, 0].transAxes, ha="right")
        for phase, look in _PHASES.items():
            plain: Any = {"linestyle": "", "color": "#555555", "markeredgewidth": 2, **look}
            panels[0, 0].plot([], [], label=phase, **plain)
        panels[-1, 0].set_xlabel("bytes, all nodes, both ways")
        legend_below(figure, panels[0, 0])
    plt.close(figure)
    return figure


def on_the_wire(exchanges: Mapping[str, tuple[float, float]]) -> Figure:
    """For each kind of exchange the payload and all bytes on the wire, on a log scale."""
    with style():
        figure, axes = plt.subplots(
            figsize=(SPAN, 0.9 + 0.5 * len(exchanges)), layout="constrained"
        )
        marks = {"payload": (BLUE, "o"), "on the wire": (ORANGE, "s")}
        for row, ends in enumerate(exchanges.values()):
            axes.plot(ends, [row, row], color="#BBBBBB", linewidth=2, zorder=1)
            for (what, (colour, marker)), count in zip(marks.items(), ends, strict=True):
                axes.plot(
                    count,
                    row,
                    marker,
                    color=colour,
                    markersize=8,
                    fillstyle=_FILL[what],
                    markeredgewidth=2,
                )
                if row == 0:
                    where: Any = {"xytext": (0, 9), "textcoords": "offset points", "ha": "center"}
                    axes.annotate(what, (count, row), size=10, **where)
        axes.set_yticks(range(len(exchanges)), exchanges)
        decades(axes, "B")
        axes.set(xlabel="bytes, both ways", ylim=(len(exchanges) - 0.5, -0.8))
        axes.grid(visible=False, axis="y")
    plt.close(figure)
    return figure


# Where the two are equal, one is seen inside the other.
_FILL: Mapping[str, Any] = {"payload": "full", "on the wire": "none"}

_WAYS: Mapping[Way, str] = {
    "mpfl": "MPFL",
    "lottery": "lottery",
    "w0-norms": "w0 norms",
    "one-bit": "1 bit per weight",
    "pruning-fl": "pruning-FL",
    "fedavg": "dense FedAvg",
}


# In the order in which they are sent; the square is open, as a circle may lie in it.
_PHASES: Mapping[str, Mapping[str, Any]] = {
    "w0": {"marker": "D", "markersize": 7},
    "rounds": {"marker": "o", "markersize": 6},
    "final training": {"marker": "s", "markersize": 10, "markerfacecolor": "none"},
}
