"""A run, or runs side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from mpfl.evidence.curves import learning_curve
from mpfl.runs.record import Run
from mpfl.show.looks import BLUE, GREEN, ORANGE, VERMILLION, look, looks_of
from mpfl.show.plots.appearance import SPAN, decades, legend_below, mean_and_range, style
from mpfl.simulation import RoundLog, agreement_table
from mpfl.types import MPFLError


def histogram(log: RoundLog, nodes: int, layer: str) -> Figure:
    """How many filters of a layer got 0, 1, ... N votes, and which of them stay."""
    state = log.state
    assert state.outcome is not None
    votes, kept = state.outcome.votes[layer], state.mask[layer]
    steps = np.arange(nodes + 1)
    with style():
        figure, axes = plt.subplots(figsize=(SPAN, 3.0), layout="constrained")
        stay = np.array([int((kept & (votes == step)).sum()) for step in steps])
        drop = np.array([int((~kept & (votes == step)).sum()) for step in steps])
        axes.bar(steps, stay, color=BLUE, label="stays")
        axes.bar(steps, drop, bottom=stay, color=ORANGE, hatch="//", label="pruned")
        axes.set(xlabel="votes to keep a filter", ylabel="filters", xticks=steps)
        axes.set_title(f"{layer}, round {log.round}")
        axes.legend(frameon=False)
    plt.close(figure)
    return figure


def rounds(logs: Sequence[RoundLog]) -> Figure:
    """A run, round by round: sparsity, agreement of the nodes, bytes of a node's mask."""
    numbers = [log.round for log in logs]
    agreement = agreement_table(logs)
    with style():
        figure, (left, middle, right) = plt.subplots(
            1, 3, figsize=(SPAN, 2.3), layout="constrained"
        )
        left.plot(numbers, [log.sparsity for log in logs], "o-", color=BLUE)
        left.set(title="sparsity", ylim=(0, 1))
        middle.plot(numbers, agreement, color="#999999", linewidth=1)
        middle.plot(numbers, agreement.mean(axis=1), "o-", color=VERMILLION, label="mean")
        middle.set(title="agreement", ylim=(0, 1.03))
        middle.legend(frameon=False, loc="lower left")
        right.plot(numbers, [np.mean(log.payloads) for log in logs], "o-", color=GREEN)
        right.set(title="a mask, bytes", ylim=(0, None))
        for axes in (left, middle, right):
            axes.set(xlabel="round")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    plt.close(figure)
    return figure


def comparison(runs: Sequence[Run]) -> Figure:
    """Accuracy of each run: trained centrally against sparsity, federated against bytes.

    The two trainings are different measurements and never share a panel.
    """
    with style():
        figure, (central, federated) = plt.subplots(
            1, 2, figsize=(SPAN, 4.4), layout="constrained", sharey=True
        )
        for run in runs:
            s = run.summary
            sent = run.bytes_all / 1e6
            _point(central, run, s["sparsity"], s["accuracy_central"])
            _point(federated, run, sent, s["accuracy_federated"])
        central.set(xlabel="share of filters removed", ylabel="test accuracy, %", xlim=(-0.05, 1))
        central.set_title("trained centrally")
        federated.set(xlabel="all traffic, MB", title="trained between the nodes")
        if federated.collections:
            decades(federated)
        legend_below(figure, central, federated)
    plt.close(figure)
    return figure


def convergence(rows: Mapping[str, Sequence[Run]]) -> Figure:
    """Federated accuracy on the way, against local epochs and against bytes sent until then.

    A line per row of runs that differ by their seed: their mean, and the range behind it. Its name
    stands at its end, on the left.
    """
    sizes = {"local epochs per node": (1, "epochs"), "sent until then, MB": (1e6, "sent")}
    ways = {name: [learning_curve(run) for run in runs] for name, runs in rows.items()}
    with style():
        figure, panels = plt.subplots(
            1, len(sizes), figsize=(SPAN, 4.0), layout="constrained", sharey=True
        )
        for axes, (label, (unit, size)) in zip(panels, sizes.items(), strict=True):
            for name, mine in ways.items():
                x = np.mean([[getattr(step, size) / unit for step in way] for way in mine], axis=0)
                each = np.array([[step.accuracy for step in way] for way in mine])
                colour, marker = look(rows[name][0])
                mean_and_range(axes, x, each, color=colour, marker=marker, markersize=5)
                if axes is panels[0]:
                    where: Any = {"xytext": (-6, 7), "textcoords": "offset points", "ha": "right"}
                    axes.annotate(name, (x[-1], each[:, -1].mean()), **where)
            axes.set(xlabel=label)
        panels[0].set(ylabel="test accuracy, %", xlim=(0, None), ylim=(0, None))
        panels[0].xaxis.set_major_locator(MaxNLocator(integer=True))
        decades(panels[1])
    plt.close(figure)
    return figure


def accuracy_by_bytes(
    panels: Mapping[str, Mapping[str, Sequence[Run]]], levels: Mapping[str, float]
) -> Figure:
    """Federated accuracy on the way, against all bytes that were sent until then, w0 apart.

    A panel per group of rows, and a line per row of runs that differ by their seed: their mean, and
    the range behind it. A row looks alike in all panels. Below each panel its upper end stands once
    more, from the lowest end of a line upwards. ``levels`` are numbers of bytes with their names,
    each a dashed line upwards.
    """
    looks = looks_of(name for rows in panels.values() for name in rows)
    if not looks:
        raise MPFLError("there are no rows to draw; give some in one panel at least")
    ends: list[float] = []
    with style():
        figure, grid = plt.subplots(
            2,
            len(panels),
            figsize=(SPAN, 6.2),
            layout="constrained",
            sharex=True,
            sharey="row",
            squeeze=False,
        )
        for column, (title, rows) in zip(grid.T, panels.items(), strict=True):
            for name, runs in rows.items():
                ways = [(run.bytes_w0, learning_curve(run)) for run in runs]
                x = np.mean([[(step.sent - w0) / 1e6 for step in way] for w0, way in ways], axis=0)
                each = np.array([[step.accuracy for step in way] for _, way in ways])
                ends += [each[:, -1].mean(), each.max()]
                marked = range(each.shape[1])[:: -10 if each.shape[1] > 20 else -1]
                colour, marker = looks[name]
                line: Any = {
                    "color": colour,
                    "marker": marker,
                    "markersize": 5,
                    "markevery": [*marked],
                }
                for axes in column:
                    mean_and_range(axes, x, each, label=name, **line)
            for axes in column:
                for name, level in levels.items():
                    axes.axvline(
                        level / 1e6, color="#555555", linestyle="--", linewidth=1.2, label=name
                    )
            column[0].set(title=title, ylim=(0, None))
            column[1].set(xlabel="sent until then by all, MB")
            decades(column[1])
        grid[1][0].set_ylim(min(ends) - 1, max(ends) + 1)
        grid[1][0].yaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=3))
        figure.supylabel("test accuracy, %", fontsize=11)
        legend_below(figure, *grid[0])
    plt.close(figure)
    return figure


def progress(runs: Mapping[str, Run]) -> Figure:
    """Runs side by side: accuracy in the final training, agreement in the mask rounds."""
    with style():
        figure, (left, right) = plt.subplots(1, 2, figsize=(SPAN, 3.4), layout="constrained")
        looks = looks_of(runs)
        for name, run in runs.items():
            colour, marker = looks[name]
            look: Any = {"color": colour, "marker": marker, "label": name}
            lines = run.federated
            left.plot(
                [line["round"] for line in lines],
                [100 * line["accuracy"] for line in lines],
                **look,
            )
            agreed = [np.mean([*line["agreement"].values()]) for line in run.rounds]
            right.plot([line["round"] for line in run.rounds], agreed, **look)
        left.set(xlabel="round of the final training", ylabel="test accuracy, %", ylim=(0, 100))
        right.set(xlabel="mask round", ylabel="agreement, mean", ylim=(0, 1.03))
        for axes in (left, right):
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        legend_below(figure, left)
    plt.close(figure)
    return figure


def _point(axes: Axes, run: Run, x: float, accuracy: float | None) -> None:
    if accuracy is None:
        return
    colour, marker = look(run)
    axes.scatter(
        [x],
        [100 * accuracy],
        s=75,
        color=colour,
        marker=marker,
        label=run.name,
        zorder=3,
        alpha=0.85,
    )
