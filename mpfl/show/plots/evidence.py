"""The figures of the evidence: verdicts, accuracy against size, the trade-off of improvements."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from textwrap import fill
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter

from mpfl.evidence.claims import CLAIMS
from mpfl.evidence.samples import TRAININGS, Row, Training, rows_of
from mpfl.evidence.verdicts import Finding, Verdict
from mpfl.prune import needs_gradients
from mpfl.runs.record import Run
from mpfl.show.looks import GREEN, SKY_BLUE, VERMILLION, look_of
from mpfl.show.plots.appearance import LEAST, SPAN, legend_below, style

# Those of a difference in points; the marker says the same as the colour.
_VERDICTS: Mapping[Verdict, tuple[str, str]] = {
    "reproduced": (GREEN, "o"),
    "undecided": ("#777777", "s"),
    "refuted here": (VERMILLION, "X"),
}

_SIZES: Mapping[str, Callable[[Run], float]] = {
    "share of filters removed": lambda run: run.summary["sparsity"],
    "parameters": lambda run: run.summary["parameters"],
    "multiply-accumulates\nper picture": lambda run: run.summary["macs"],
}
# Training in one place sends nothing: there the bytes are w0 and the masks alone.
_BYTES: Mapping[Training, Callable[[Run], float]] = {
    "central": lambda run: run.summary["bytes"]["start"] + run.bytes_rounds,
    "federated": lambda run: run.bytes_all,
}


def verdicts(findings: Mapping[str, Finding]) -> Figure:
    """Every difference in points with its interval, and the value from which its claim holds.

    Claims are numbered in the order of ``mpfl.evidence.claims.CLAIMS``.
    """
    decided = [
        (f"{number}. {claim.name.replace('-', ' ')}", finding)
        for number, claim in enumerate(CLAIMS, start=1)
        if (finding := findings[claim.name]).verdict in _VERDICTS and finding.unit == "points"
    ]
    with style():
        figure, axes = plt.subplots(figsize=(SPAN, 1.2 + 0.42 * len(decided)), layout="constrained")
        for place, (_, finding) in enumerate(reversed(decided)):
            colour, marker = _VERDICTS[finding.verdict]
            sample = finding.sample
            axes.plot([finding.low, finding.high], [place, place], color=colour, linewidth=2)
            axes.plot(sample.values, [place] * sample.n, "|", color=colour, markersize=11)
            axes.plot([sample.mean], [place], marker, color=colour, markersize=8)
            axes.plot([finding.holds_from] * 2, [place - 0.4, place + 0.4], ":", color="black")
        axes.set(yticks=range(len(decided)), xlabel="points of accuracy")
        axes.set_ylim(-0.7, len(decided) - 0.3)
        axes.set_yticklabels([name for name, _ in reversed(decided)])
        axes.axvline(0, color="#999999", linewidth=1)
        axes.grid(axis="y", visible=False)
        for verdict, (colour, marker) in _VERDICTS.items():
            if any(finding.verdict == verdict for _, finding in decided):
                axes.plot([], [], marker, color=colour, label=verdict)
        axes.plot([], [], "|", color="#777777", markersize=11, label="a seed")
        axes.plot([], [], ":", color="black", label="the claim holds to the right")
        legend_below(figure, axes)
    plt.close(figure)
    return figure


def sparsity_curves(series: Mapping[str, Sequence[Row]]) -> Figure:
    """Accuracy against sparsity, parameters, MACs and bytes; a column per training.

    ``series`` holds the rows of each method, one per sparsity, and gives one line: a point is the
    mean over the seeds, a bar their standard deviation.
    """
    with style():
        figure, panels = plt.subplots(
            len(_SIZES) + 1, len(TRAININGS), figsize=(SPAN, 8.4), layout="constrained", sharey=True
        )
        for training, column in zip(TRAININGS, panels.T, strict=True):
            sizes = {**_SIZES, "all traffic, bytes": _BYTES[training]}
            for (label, size), axes in zip(sizes.items(), column, strict=True):
                for method, rows in series.items():
                    trained = [row for row in rows if row.accuracy(training).n]
                    samples = [row.accuracy(training) for row in trained]
                    x = np.array([row.sample(size).mean for row in trained])
                    colour, marker = look_of(trained[0].cells[0].experiment.method)
                    order = np.argsort(x)
                    axes.errorbar(
                        x[order],
                        np.array([sample.mean for sample in samples])[order],
                        np.nan_to_num([sample.deviation for sample in samples])[order],
                        color=colour,
                        marker=marker,
                        label=method,
                        capsize=3,
                    )
                if label != "share of filters removed":
                    _counts(axes)
                axes.set(xlabel=label)
            column[0].set(title=f"{training} training")
        figure.supylabel("test accuracy, %", fontsize=11)
        legend_below(figure, panels[0, 0])
    plt.close(figure)
    return figure


def _counts(axes: Axes) -> None:
    """Counts over decades; from zero on if a method sends nothing."""
    low, high = axes.dataLim.intervalx
    if low > 0:
        axes.set_xscale("log")
        axes.set_xlim(low / 1.6, high * 1.6)  # a narrow range has ticks, too
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 3)))
        axes.xaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))  # last, as a new scale brings its own


def accuracies(rows: Sequence[Row]) -> Figure:
    """Test accuracy in %, a line per row and a panel per training: a mark per seed, a bar as mean.

    Dashed is the mean of the first row. A row without a training has no marks in its panel.
    """
    with style():
        figure, panels = plt.subplots(
            1, len(TRAININGS), figsize=(SPAN, 1.0 + 0.34 * len(rows)), layout="constrained",
            sharey=True,
        )  # fmt: skip
        for training, axes in zip(TRAININGS, panels, strict=True):
            for place, row in enumerate(rows):
                sample = row.accuracy(training)
                colour, marker = look_of(row.cells[0].experiment.method)
                look: Any = {"color": colour, "marker": marker, "alpha": 0.75, "markersize": 8}
                axes.plot(sample.values, [place] * sample.n, linestyle="none", **look)
                axes.plot([sample.mean], [place], "|", color="black", markersize=17)
            axes.axvline(rows[0].accuracy(training).mean, color="#777777", linestyle="--", zorder=0)
            axes.set(xlabel="test accuracy, %", title=f"{training} training")
            axes.grid(axis="y", visible=False)
        panels[0].set_yticks(range(len(rows)), [row.label for row in rows])
        panels[0].set_ylim(len(rows) - 0.5, -0.5)
    plt.close(figure)
    return figure


def trade_off(rows: Sequence[Row]) -> Figure:
    """Accuracy against parameters and against MACs, a mark per row, a line per training.

    The colour says who chose the filters, the shape how many each layer keeps. A mark has its name
    in the panel on the left, and the same height in the one on the right.
    """
    sizes = {"parameters": (1e3, "thousand parameters"), "macs": (1e6, "million MACs\nper picture")}
    with style():
        figure, panels = plt.subplots(
            len(TRAININGS), 2, figsize=(SPAN, 6.6), layout="constrained", sharey="row",
            sharex="col", width_ratios=[2.3, 1],
        )  # fmt: skip
        for training, line in zip(TRAININGS, panels, strict=True):
            samples = [row.accuracy(training) for row in rows]
            for (size, (unit, label)), axes in zip(sizes.items(), line, strict=True):
                means = [
                    float(np.mean([run.summary[size] for run in row.runs.values()])) / unit
                    for row in rows
                ]
                for row, x, sample in zip(rows, means, samples, strict=True):
                    spread = np.nan_to_num(sample.deviation)
                    axes.errorbar(
                        x, sample.mean, spread, linestyle="", markersize=9, capsize=3, **_look(row)
                    )
                axes.set_xlim(0, 1.15 * axes.dataLim.x1)
                if training == TRAININGS[-1]:
                    axes.set(xlabel=label)
                if axes is line[0]:
                    marks = zip(means, (sample.mean for sample in samples), strict=True)
                    _name_marks(axes, dict(zip((row.label for row in rows), marks, strict=True)))
            line[0].set(ylabel=f"test accuracy, %\n{training} training")
    plt.close(figure)
    return figure


def _name_marks(axes: Axes, marks: Mapping[str, tuple[float, float]]) -> None:
    """Each mark's name beside it, on the side with more room; names never overlap."""
    low, high = axes.get_ylim()
    height, last, before = 0.075 * (high - low), -np.inf, 0.0
    for name, (x, y) in sorted(marks.items(), key=lambda mark: mark[1][1]):
        right = x > 0.6 * axes.get_xlim()[1]
        parts = name.replace(", ", ",\n") if len(name) > 16 else name  # two lines, if it is long
        lines = fill(name, 10) if right else parts  # narrow, if it goes towards the other marks
        room = height * (1 + 0.8 * lines.count("\n"))
        last = max(y, last + (before + room) / 2)
        before = room
        axes.annotate(
            lines,
            (x, y),
            xytext=(-16 if right else 16, last),
            textcoords=("offset points", "data"),
            ha="right" if right else "left",
            va="center",
            size=LEAST,
            arrowprops={"arrowstyle": "-", "color": "#999999"},
        )
    axes.set_ylim(low, max(high, last + height))


def _look(row: Row) -> dict[str, Any]:
    experiment = row.cells[0].experiment
    colour, _ = look_of(experiment.method)
    shapes = {"root": "^", "equal MACs": "s", "": "o"}
    return {
        "color": SKY_BLUE if needs_gradients(experiment.score) else colour,
        "marker": next(shape for part, shape in shapes.items() if part in row.label),
        "markerfacecolor": "white" if row.label == "published" else None,
    }


def by_sparsity(results: Path) -> dict[str, list[Row]]:
    """The rows of tables ``cifar10`` and ``sparsity`` that lie on one curve, by method."""
    ten, others = rows_of("cifar10", results=results), rows_of("sparsity", results=results)
    rows = [*(ten[name] for name in ("vote", "lottery", "w0 norms")), *others.values()]
    series: dict[str, list[Row]] = {}
    for row in rows:
        if row.runs:
            series.setdefault(row.label.partition(",")[0], []).append(row)
    return series
