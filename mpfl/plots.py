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

from mpfl.records import Run
from mpfl.simulation import RoundLog, agreement_table

# Okabe & Ito's colours; each method keeps its own colour and marker in every figure.
_LOOKS: Mapping[str, tuple[str, str]] = {
    "mpfl": ("#0072B2", "o"),
    "random-masks": ("#E69F00", "X"),
    "w0-norms": ("#CC79A7", "D"),
    "pruning-fl": ("#009E73", "s"),
    "lth": ("#D55E00", "^"),
    "fedavg": ("#555555", "P"),
    "central": ("#111111", "*"),
}


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


def _point(axes: Axes, run: Run, x: float, accuracy: float | None) -> None:
    if accuracy is None:
        return
    method = run.config["method"]
    colour, marker = _LOOKS[method]
    if method == "mpfl":  # one colour for the method, a shape for each rule
        rule = run.config["vote"].partition("(")[0]
        marker = {"budget": "o", "relaxed": "v", "published_threshold": "<"}.get(rule, "p")
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
