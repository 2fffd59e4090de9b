"""Masks compared with each other, and accuracies with those of lotteries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from mpfl.show.looks import LOOKS, spoken
from mpfl.show.plots.appearance import SPAN, legend_below, mean_and_range, style


def shared_by_round(panels: Mapping[str, Mapping[str, np.ndarray]], chance: np.ndarray) -> Figure:
    """How many of the vote's filters a control keeps as well, round by round; a panel per start.

    ``panels[start][control]`` is ``[seeds, rounds]``, 0-1; the control's name is that of its
    method. ``chance``, ``[rounds]``, is what a lottery would share: as much as is left.
    """
    with style():
        figure, axes = plt.subplots(
            1, len(panels), figsize=(SPAN, 3.5), sharey=True, layout="constrained",
            squeeze=False,
        )  # fmt: skip
        rounds = np.arange(1, len(chance) + 1)
        for place, (start, controls) in zip(axes[0], panels.items(), strict=True):
            for name, shares in controls.items():
                colour, marker = LOOKS[name]
                mean_and_range(
                    place, rounds, 100 * shares, color=colour, marker=marker, markersize=5,
                    label=spoken(name),
                )  # fmt: skip
            place.plot(rounds, 100 * chance, ":", color="black", label="a lottery, on average")
            place.set(title=start, xlabel="round", ylim=(0, 103), xticks=rounds)
        axes[0][0].set_ylabel("of the vote's filters, %")
        legend_below(figure, axes[0][0])
    plt.close(figure)
    return figure


def among_lotteries(rows: Sequence[tuple[str, Mapping[str, float], Sequence[float]]]) -> Figure:
    """Accuracies of chosen masks among those of lotteries with the same counts, a line per seed.

    A row is its name, the chosen masks' figures by method, and the lotteries'.
    """
    with style():
        figure, axes = plt.subplots(figsize=(SPAN, 1.3 + 0.38 * len(rows)), layout="constrained")
        for place, (_, chosen, lotteries) in enumerate(reversed(rows)):
            colour, _ = LOOKS["lottery"]
            line = [place] * len(lotteries)
            axes.plot(lotteries, line, "|", color=colour, markersize=13, label="a lottery")
            for name, value in chosen.items():
                colour, marker = LOOKS[name]
                label = spoken(name)
                axes.plot([value], [place], marker, color=colour, markersize=8, label=label)
        axes.set(yticks=range(len(rows)), xlabel="test accuracy, %")
        axes.set_yticklabels([name for name, _, _ in reversed(rows)])
        axes.grid(axis="y", visible=False)
        legend_below(figure, axes)
    plt.close(figure)
    return figure
