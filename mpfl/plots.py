"""Figures, in one style that reads on light and dark pages and for colour-blind readers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from mpfl.console import size
from mpfl.ledger import Bill, Way
from mpfl.records import Run
from mpfl.simulation import RoundLog, agreement_table
from mpfl.theory import chance_pruned, chance_pruned_of, votes_needed

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
# What goes wrong at a node: nothing, drawn heavily; its data; its vote, dashed.
_FAULTS: Mapping[str, Mapping[str, Any]] = {
    "another honest node": {"color": "#111111", "marker": "o", "linewidth": 2.2},
    "permuted labels": {"color": "#0072B2", "marker": "s"},
    "shuffled pixels": {"color": "#009E73", "marker": "^"},
    "gaussian": {"color": "#56B4E9", "marker": "v"},
    "random mask": {"color": "#E69F00", "marker": "X", "linestyle": "--"},
    "inverted mask": {"color": "#D55E00", "marker": "D", "linestyle": "--"},
    "colluding veto": {"color": "#CC79A7", "marker": "P", "linestyle": "--"},
}
# Rows without a look of their own, in their order.
_ROWS = [*LOOKS.values()]


def look(run: Run) -> tuple[str, str]:
    """A run's colour and marker: those of its method, but a vote's marker is its rule's."""
    colour, marker = LOOKS[run.config["method"]]
    if run.config["method"] == "mpfl":
        rule = run.config["vote"].partition("(")[0]
        marker = {"budget": "o", "relaxed": "v", "published_threshold": "<"}.get(rule, "p")
    return colour, marker


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


def histogram(log: RoundLog, nodes: int, layer: str) -> Figure:
    """How many filters of a layer got 0, 1, ... N votes, and which of them stay."""
    state = log.state
    assert state.votes is not None
    votes, kept = state.votes[layer], state.mask[layer]
    steps = np.arange(nodes + 1)
    with style():
        figure, axes = plt.subplots(figsize=(6.4, 3.0), layout="constrained")
        stay = np.array([int((kept & (votes == step)).sum()) for step in steps])
        drop = np.array([int((~kept & (votes == step)).sum()) for step in steps])
        axes.bar(steps, stay, color="#0072B2", label="stays")
        axes.bar(steps, drop, bottom=stay, color="#E69F00", hatch="//", label="pruned")
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
        figure, (left, middle, right) = plt.subplots(1, 3, figsize=(8.4, 2.9), layout="constrained")
        left.plot(numbers, [log.sparsity for log in logs], "o-", color="#0072B2")
        left.set(title="sparsity", ylim=(0, 1))
        middle.plot(numbers, agreement, color="#999999", linewidth=1)
        middle.plot(numbers, agreement.mean(axis=1), "o-", color="#D55E00", label="mean")
        middle.set(title="agreement", ylim=(0, 1.03))
        middle.legend(frameon=False, loc="lower left")
        right.plot(numbers, [np.mean(log.payloads) for log in logs], "o-", color="#009E73")
        right.set(title="a mask, bytes", ylim=(0, None))
        for axes in (left, middle, right):
            axes.set(xlabel="round", xticks=numbers)
    plt.close(figure)
    return figure


def comparison(runs: Sequence[Run]) -> Figure:
    """Accuracy of each run: trained centrally against sparsity, federated against bytes.

    The two trainings are different measurements and never share a panel.
    """
    with style():
        figure, (central, federated) = plt.subplots(
            1, 2, figsize=(8.0, 4.4), layout="constrained", sharey=True
        )
        for run in runs:
            s = run.summary
            sent = run.bytes_all / 1e6
            _point(central, run, s["sparsity"], s["accuracy_central"])
            _point(federated, run, sent, s["accuracy_federated"])
        central.set(xlabel="share of filters removed", ylabel="test accuracy, %", xlim=(-0.05, 1))
        central.set_title("trained centrally")
        federated.set(xlabel="all traffic, MB", title="trained by FedAvg")
        if federated.collections:
            federated.set_xscale("log")
        seen = [axes.get_legend_handles_labels() for axes in (central, federated)]
        marks = {t: m for marks, texts in seen for m, t in zip(marks, texts, strict=True)}
        figure.legend(
            handles=list(marks.values()), loc="outside lower center", ncols=3, frameon=False
        )
    plt.close(figure)
    return figure


def scaling(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """How the seconds of a run grow: rows ``{axis, value, seconds: [one a run]}``."""
    labels = {"nodes": "nodes", "width": "share of full width", "rounds": "rounds"}
    with style():
        figure, panels = plt.subplots(1, 3, figsize=(8.4, 3.0), layout="constrained")
        for axes, (axis, label) in zip(panels, labels.items(), strict=True):
            mine = [row for row in rows if row["axis"] == axis]
            x = np.array([row["value"] for row in mine])
            middle = np.array([np.median(row["seconds"]) for row in mine])
            for row in mine:
                axes.plot(
                    [row["value"]] * len(row["seconds"]), row["seconds"], "o", color="#0072B2"
                )
            axes.plot(x, middle, color="#0072B2")
            expected = middle[0] * (x / x[0] if axis != "nodes" else np.ones_like(x))
            axes.plot(x, expected, "--", color="#999999")
            axes.set(xlabel=label, xticks=x, xlim=(0, None), ylim=(0, None))
            if axis == "nodes":
                axes.set_xscale("log")
                axes.set(xlim=(0.8, 125), xticks=x, xticklabels=x)
        panels[0].set_ylabel("seconds")
    plt.close(figure)
    return figure


def traffic(bills: Mapping[str, Mapping[Way, Bill]]) -> Figure:
    """What each way to learn a model sends, by phase: a panel a network, bytes on a log scale.

    The marks are w0, the method's rounds and the final training; beside them the total.
    """
    rows = max(len(each) for each in bills.values())
    with style():
        figure, panels = plt.subplots(
            len(bills),
            1,
            figsize=(8.0, 0.9 + 0.42 * rows * len(bills)),
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
                    if row == 0:
                        where = {"xytext": (0, 8), "textcoords": "offset points", "ha": "center"}
                        axes.annotate(phase, (count, row), size=9, color="#333333", **where)
                beside = axes.get_yaxis_transform()
                axes.text(
                    1.13, row, size(sent.total), transform=beside, va="center", ha="right", size=10
                )
            axes.set_yticks(range(len(each)), [_WAYS[way] for way in each])
            axes.set(xscale="log", ylim=(len(each) - 0.5, -0.9))
            axes.grid(visible=False, axis="y")
            axes.set_title(title, size=11, loc="left")
        panels[0, 0].text(1.13, 1.04, "total", transform=panels[0, 0].transAxes, ha="right")
        panels[-1, 0].set_xlabel("bytes, all nodes, both ways")
    plt.close(figure)
    return figure


_WAYS: Mapping[Way, str] = {
    "mpfl": "MPFL",
    "random-masks": "random masks",
    "w0-norms": "w0 norms",
    "one-bit": "1 bit a weight",
    "pruning-fl": "pruning-FL",
    "fedavg": "dense FedAvg",
}
# In the order in which they are sent; the square is open, as a circle may lie in it.
_PHASES: Mapping[str, Mapping[str, Any]] = {
    "w0": {"marker": "D", "markersize": 7},
    "rounds": {"marker": "o", "markersize": 6},
    "final training": {"marker": "s", "markersize": 10, "markerfacecolor": "none"},
}


def chances(nodes: int, faulty: Sequence[int], taus: Sequence[float], q: float = 0.0) -> Figure:
    """The chance that a filter is pruned, against ``p``; a line a number of faulty nodes."""
    p = np.linspace(0, 1, 201)
    with style():
        figure, panels = plt.subplots(
            1, len(taus), figsize=(8.4, 3.4), layout="constrained", sharey=True, squeeze=False
        )
        for axes, tau in zip(panels[0], taus, strict=True):
            for colour, f in zip(_steps(len(faulty)), faulty, strict=True):
                axes.plot(p, chance_pruned(p, q, nodes, f, tau), color=colour, label=str(f))
            axes.set_title(f"{votes_needed(tau, nodes)} of {nodes} votes needed")
            axes.set_xlabel("an honest node keeps the filter, p")
        panels[0, 0].set_ylabel("chance that it is pruned")
        panels[0, -1].legend(title="faulty", frameon=False, loc="lower left")
    plt.close(figure)
    return figure


def measured_chances(
    shares: Mapping[str, Mapping[tuple[float, int, int], float]], nodes: int, q: float
) -> Figure:
    """Share of the filters pruned, against how many honest votes they had; a row a fault.

    ``shares[fault][tau, faulty, honest votes]`` are the dots. The lines are the theory for
    faulty nodes that keep a filter with probability ``q``.
    """
    every = [key for of in shares.values() for key in of]
    taus, faulty = sorted({key[0] for key in every}), sorted({key[1] for key in every})
    votes = np.arange(nodes + 1)
    with style():
        figure, panels = plt.subplots(
            len(shares),
            len(taus),
            figsize=(8.4, 0.7 + 2.6 * len(shares)),
            layout="constrained",
            sharex=True,
            sharey=True,
            squeeze=False,
        )
        for row, (fault, found) in zip(panels, shares.items(), strict=True):
            for axes, tau in zip(row, taus, strict=True):
                for place, (colour, f) in enumerate(zip(_steps(len(faulty)), faulty, strict=True)):
                    theory = [chance_pruned_of(int(c), q, nodes, f, tau) for c in votes]
                    axes.plot(votes, theory, color=colour, linewidth=1.2)
                    mine = {c: y for (t, g, c), y in found.items() if (t, g) == (tau, f)}
                    beside = np.array([*mine]) + 0.2 * (place - (len(faulty) - 1) / 2)
                    axes.plot(beside, mine.values(), "o", color=colour, markersize=5, label=str(f))
                axes.set_title(f"{fault}, {votes_needed(tau, nodes)} of {nodes} needed", size=11)
                axes.set_xticks(votes)
        for axes in panels[-1]:
            axes.set_xlabel(f"votes when all {nodes} are honest")
        for axes in panels[:, 0]:
            axes.set_ylabel("share pruned")
        panels[0, 0].legend(title="faulty", frameon=False, loc="lower left")
    plt.close(figure)
    return figure


def contamination(rows: Sequence[Mapping[str, Any]], random: float) -> Figure:
    """What faulty nodes do to the consensus under each rule: how far it moves, how much it prunes.

    ``rows`` are ``{rule, fault, faulty, distance, sparsity}``, one a seed; lines are means
    over seeds. Each fault has its look. ``random`` is the distance of two masks drawn by lot.
    """
    rules = list(dict.fromkeys(row["rule"] for row in rows))
    faults = list(dict.fromkeys(row["fault"] for row in rows))
    with style():
        figure, panels = plt.subplots(
            2, len(rules), figsize=(9.2, 5.6), layout="constrained", sharex=True, sharey="row"
        )
        for column, rule in enumerate(rules):
            for fault in faults:
                mine = [row for row in rows if (row["rule"], row["fault"]) == (rule, fault)]
                counts = sorted({row["faulty"] for row in mine})
                for axes, figure_of in zip(
                    panels[:, column], ("distance", "sparsity"), strict=True
                ):
                    means = [
                        np.mean([row[figure_of] for row in mine if row["faulty"] == count])
                        for count in counts
                    ]
                    axes.plot(counts, means, label=fault, **_FAULTS[fault])
            between = {"color": "#555555", "linestyle": ":", "label": "two random masks"}
            panels[0, column].axhline(random, **between)
            panels[0, column].set_title(rule, size=11)
            panels[1, column].set_xlabel("faulty of ten")
            panels[1, column].set_xticks(sorted({row["faulty"] for row in rows}))
        panels[0, 0].set(ylim=(-0.03, 1.03), ylabel="Jaccard distance")
        panels[1, 0].set(ylim=(-0.03, 1.03), ylabel="sparsity")
        handles, labels = panels[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)
    plt.close(figure)
    return figure


def curves(
    x: Sequence[float],
    lines: Mapping[str, Any],
    xlabel: str,
    ylabel: str,
    levels: Mapping[str, float] | None = None,
) -> Figure:
    """A line a row of ``lines``: ``[x]``, or ``[seeds, x]`` as the mean with the range behind it.

    ``levels`` are drawn across, dashed, with their names.
    """
    with style():
        figure, axes = plt.subplots(figsize=(7.4, 3.6), layout="constrained")
        for (name, values), (colour, marker) in zip(
            lines.items(), _ROWS[: len(lines)], strict=True
        ):
            each = np.atleast_2d(values)
            look: Any = {"color": colour, "marker": marker, "markersize": 5}
            axes.plot(x, each.mean(axis=0), label=name, **look)
            if len(each) > 1:
                low, high = each.min(axis=0), each.max(axis=0)
                axes.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)
        for name, level in (levels or {}).items():
            axes.axhline(level, color="#555555", linestyle="--", linewidth=1.2, label=name)
        axes.set(xlabel=xlabel, ylabel=ylabel, ylim=(0, None))
        if all(float(each).is_integer() for each in x):
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        figure.legend(loc="outside right upper", frameon=False)
    plt.close(figure)
    return figure


def spread(rows: Mapping[str, Sequence[float]], xlabel: str) -> Figure:
    """A row a name: a dot a seed, and the mean with one standard deviation to each side."""
    with style():
        figure, axes = plt.subplots(figsize=(7.4, 0.9 + 0.42 * len(rows)), layout="constrained")
        for place, values in enumerate(rows.values()):
            axes.plot(values, [place] * len(values), "o", color="#0072B2", alpha=0.7)
            deviation = np.std(values, ddof=1) if len(values) > 1 else 0.0
            look: Any = {"color": "#D55E00", "fmt": "D", "capsize": 4}
            axes.errorbar(np.mean(values), place + 0.25, xerr=deviation, **look)
        axes.set_yticks(range(len(rows)), list(rows))
        axes.set(xlabel=xlabel, ylim=(len(rows) - 0.4, -0.5))
        axes.grid(visible=False, axis="y")
    plt.close(figure)
    return figure


def _steps(count: int) -> list[Any]:
    """Colours from dark to light for an ordered number of lines."""
    return list(plt.get_cmap("viridis")(np.linspace(0, 0.88, count)))


def progress(runs: Mapping[str, Run]) -> Figure:
    """Runs side by side: accuracy in the final training, agreement in the mask rounds."""
    with style():
        figure, (left, right) = plt.subplots(1, 2, figsize=(8.0, 3.2), layout="constrained")
        for (name, run), (colour, marker) in zip(runs.items(), LOOKS.values(), strict=False):
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
        left.legend(frameon=False)
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
