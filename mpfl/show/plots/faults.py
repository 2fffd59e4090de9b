"""What faulty nodes do to a vote."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from mpfl.analysis.theory import chance_pruned, chance_pruned_of, votes_needed
from mpfl.show.looks import BLUE, GREEN, ORANGE, PURPLE, SKY_BLUE, VERMILLION
from mpfl.show.plots.appearance import SPAN, legend_below, style


def chances(nodes: int, faulty: Sequence[int], taus: Sequence[float], q: float = 0.0) -> Figure:
    """The chance that a filter is pruned, against ``p``; a line per number of faulty nodes."""
    p = np.linspace(0, 1, 201)
    with style():
        figure, panels = plt.subplots(
            1, len(taus), figsize=(SPAN, 3.4), layout="constrained", sharey=True, squeeze=False
        )
        for axes, tau in zip(panels[0], taus, strict=True):
            for colour, f in zip(_steps(len(faulty)), faulty, strict=True):
                axes.plot(p, chance_pruned(p, q, nodes, f, tau), color=colour, label=str(f))
            axes.set_title(f"{votes_needed(tau, nodes)} of {nodes} votes needed")
            axes.set(xticks=[0, 0.5, 1], xlabel="p: an honest node\nkeeps the filter")
        panels[0, 0].set_ylabel("chance that it is pruned")
        legend_below(figure, panels[0, 0], title="faulty nodes")
    plt.close(figure)
    return figure


def measured_chances(
    shares: Mapping[str, Mapping[tuple[float, int, int], tuple[float, int]]], nodes: int, q: float
) -> Figure:
    """Share of the filters pruned, against how many honest votes they had; a row per fault.

    ``shares[fault][tau, faulty, honest votes]`` is a share and of how many filters it is: a dot.
    The lines are the theory for faulty nodes that keep a filter with probability ``q``. A bar is
    two standard errors to each side, if the line is right: so it reaches the line, or it does not.
    """
    every = [key for of in shares.values() for key in of]
    taus, faulty = sorted({key[0] for key in every}), sorted({key[1] for key in every})
    votes = np.arange(nodes + 1)
    with style():
        figure, panels = plt.subplots(
            len(shares),
            len(taus),
            figsize=(SPAN, 1.1 + 2.6 * len(shares)),
            layout="constrained",
            sharex=True,
            sharey=True,
            squeeze=False,
        )
        for row, (fault, found) in zip(panels, shares.items(), strict=True):
            for axes, tau in zip(row, taus, strict=True):
                for colour, marker, f in zip(
                    _steps(len(faulty)), cycle("osD^v<"), faulty, strict=False
                ):
                    theory = np.array([chance_pruned_of(int(c), q, nodes, f, tau) for c in votes])
                    axes.plot(votes, theory, color=colour, linewidth=1.2)
                    mine = {c: y for (t, g, c), y in found.items() if (t, g) == (tau, f)}
                    at = np.array([*mine], int)
                    share, size = np.array([*mine.values()]).reshape(-1, 2).T
                    bar = 2 * np.sqrt(theory[at] * (1 - theory[at]) / size)
                    dots: Any = {"fmt": marker, "markersize": 6, "markerfacecolor": "none"}
                    axes.errorbar(
                        at, share, bar, color=colour, capsize=3, elinewidth=1, label=str(f), **dots
                    )
                axes.set_title(
                    f"{fault},\n{votes_needed(tau, nodes)} of {nodes} votes needed", size=11
                )
                axes.set_xticks(votes[::2])
        for axes in panels[-1]:
            axes.set_xlabel(f"votes when all {nodes}\nare honest")
        for axes in panels[:, 0]:
            axes.set_ylabel("share pruned")
        legend_below(figure, panels[0, 0], title="faulty nodes")
    plt.close(figure)
    return figure


def contamination(rows: Sequence[Mapping[str, Any]], random: float) -> Figure:
    """What faulty nodes do to the consensus under each rule: how far it moves, how much it prunes.

    ``rows`` are ``{rule, fault, faulty, distance, sparsity}``, one per seed; lines are means
    over seeds. Each fault has its look. ``random`` is the distance of two random masks.
    """
    rules = list(dict.fromkeys(row["rule"] for row in rows))
    faults = list(dict.fromkeys(row["fault"] for row in rows))
    with style():
        figure, panels = plt.subplots(
            2, len(rules), figsize=(SPAN, 5.4), layout="constrained", sharex=True, sharey="row"
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
        legend_below(figure, panels[0, 0])
    plt.close(figure)
    return figure


# What goes wrong at a node: nothing, drawn heavily; its data; its vote, dashed.
_FAULTS: Mapping[str, Mapping[str, Any]] = {
    "another honest node": {"color": "#111111", "marker": "o", "linewidth": 2.2},
    "permuted labels": {"color": BLUE, "marker": "s"},
    "shuffled pixels": {"color": GREEN, "marker": "^"},
    "gaussian": {"color": SKY_BLUE, "marker": "v"},
    "random mask": {"color": ORANGE, "marker": "X", "linestyle": "--"},
    "inverted mask": {"color": VERMILLION, "marker": "D", "linestyle": "--"},
    "colluding veto": {"color": PURPLE, "marker": "P", "linestyle": "--"},
}


def _steps(count: int) -> list[Any]:
    """Colours from dark to light for an ordered number of lines."""
    return list(plt.get_cmap("viridis")(np.linspace(0, 0.88, count)))
