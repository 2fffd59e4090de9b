"""How a range coder narrows its interval, step by step."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
from jaxtyping import Bool
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from mpfl.show.looks import ORANGE
from mpfl.show.plots.appearance import SPAN, style
from mpfl.wire.range_coder import first_interval, parts
from mpfl.wire.ranking import PATTERNS, RUN, rank


def narrowing_interval(chosen: Bool[np.ndarray, " things"], run: int) -> Figure:
    """The interval of :mod:`mpfl.wire.range_coder` for one choice, ``run`` things per step.

    A row per step. Each part is a pattern that the run can have; the part of the run that is
    there is coloured, and is the whole interval of the next step.
    """
    sizes, counts = (len(chosen),), (int(chosen.sum()),)
    whole, _ = first_interval(sizes, counts)
    begin, ways, left, wanted = 0, whole, *sizes, *counts
    starts: Sequence[int] = range(0, left, run)
    with style():
        figure, axes = plt.subplots(figsize=(SPAN, 0.9 + 0.62 * len(starts)), layout="constrained")
        names = []
        for step, start in enumerate(starts):
            now = chosen[start : start + run]
            size, count = len(now), int(now.sum())
            row = np.zeros((1, RUN), bool)
            row[0, :size] = now
            place = int(rank(row, np.array([size]))[0])
            at, found = begin, (begin, ways)
            for other, each in parts(ways, 0, left, wanted, size):
                for pattern in range(PATTERNS[size][other]):
                    if each == 0:
                        continue
                    ours = (other, pattern) == (count, place)
                    if ours:
                        found = (at, each)
                    colour = ORANGE if ours else "#e8eef4"
                    axes.add_patch(
                        Rectangle((at, step), each, 0.8, facecolor=colour, edgecolor="#555555")
                    )
                    middle = (at + each / 2, step + 0.4)
                    axes.text(*middle, str(each), ha="center", va="center", color="black")
                    at += each
            (begin, ways), left, wanted = found, left - size, wanted - count
            names.append("".join("X" if bit else "·" for bit in now))
        axes.set(xlim=(0, whole), ylim=(len(starts), -0.1), xlabel="number that the message holds")
        axes.set_yticks(np.arange(len(starts)) + 0.4, names)
        axes.set_xticks(range(0, whole + 1, max(1, whole // 10)))
        axes.grid(visible=False)
        axes.tick_params(axis="y", left=False)
    plt.close(figure)
    return figure
