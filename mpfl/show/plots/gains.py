"""What votes gain over lotteries, a line for every network and every kind of unit."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from mpfl.evidence.gains import Gain
from mpfl.show.looks import LOOKS, spoken
from mpfl.show.plots.appearance import SPAN, legend_below, style


def gains_over_lotteries(gains: Mapping[str, Gain]) -> Figure:
    """Points of accuracy over lotteries of the same counts, with 95 % intervals over the seeds.

    A line for each of ``gains``, by its name. A line without a recorded pair says so; a point of
    one seed has no interval.
    """
    with style():
        figure, axes = plt.subplots(figsize=(SPAN, 1.3 + 0.42 * len(gains)), layout="constrained")
        names = []
        for place, (name, gain) in enumerate(reversed(list(gains.items()))):
            done = gain.vote.n
            names.append(
                name if done == gain.planned else f"{name}\n{done} of {gain.planned} seeds"
            )
            for method, sample, shift in (
                ("mpfl", gain.vote, 0.13),
                ("iterated-norms", gain.norms, -0.13),
            ):
                colour, marker = LOOKS[method]
                axes.errorbar(
                    [sample.mean],
                    [place + shift],
                    xerr=[sample.half] if sample.n > 1 else None,
                    fmt=marker,
                    color=colour,
                    markerfacecolor=colour if sample.n > 1 else "white",
                    capsize=3,
                )
            if not done:
                axes.annotate(
                    "not run yet",
                    (0.02, place),
                    xycoords=("axes fraction", "data"),
                    va="center",
                    color="#555555",
                    backgroundcolor="white",
                )
        for method in ("mpfl", "iterated-norms"):  # what the legend shows
            colour, marker = LOOKS[method]
            label = spoken(method)
            axes.plot([], [], marker, color=colour, label=label)
        axes.axvline(0, color="black", linewidth=1, zorder=0)
        if not any(gain.vote.n for gain in gains.values()):
            axes.set_xlim(-2, 2)
        axes.set(
            yticks=range(len(names)),
            yticklabels=names,
            ylim=(-0.6, len(names) - 0.4),
            xlabel="points of test accuracy over lotteries",
        )
        axes.grid(axis="y", visible=False)
        legend_below(figure, axes)
    plt.close(figure)
    return figure
