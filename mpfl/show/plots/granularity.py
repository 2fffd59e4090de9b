"""What a bit stands for: the weights that it takes, and what a ballot costs and gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import ListedColormap, to_rgba
from matplotlib.figure import Figure

from mpfl.show.looks import BLUE, LOOKS, spoken
from mpfl.show.plots.appearance import SPAN, decades, legend_below, style


def weights_kept(panels: Mapping[str, np.ndarray]) -> Figure:
    """A conv weight as a grid of kernels, a panel per mask: kept weights dark, pruned ones light.

    ``panels[title]`` is ``bool [outputs, inputs, height, width]``; a row of kernels is a filter.
    """
    with style():
        wide = min(2.5, SPAN / len(panels))
        figure, axes = plt.subplots(
            1,
            len(panels),
            figsize=(wide * len(panels), 0.8 + wide),
            layout="constrained",
            squeeze=False,
        )
        for place, (title, kept) in zip(axes[0], panels.items(), strict=True):
            outputs, _, height, _ = kept.shape
            # A line of blank pixels between kernels.
            tiles = np.pad(kept.astype(float), ((0, 0), (0, 0), (0, 1), (0, 1)), constant_values=-1)
            grid = tiles.transpose(0, 2, 1, 3).reshape(outputs * (height + 1), -1)
            image = np.ma.masked_less(grid, 0)
            # A picture keeps its colours on a dark page: what is gone is a shade of any paper.
            colours = ListedColormap([(0.5, 0.5, 0.5, 0.27), to_rgba(BLUE)])
            place.imshow(image, cmap=colours, vmin=0, vmax=1, interpolation="nearest")
            place.set(title=title.replace(": ", ":\n"), xticks=[], yticks=[], xlabel="inputs")
            for side in place.spines.values():
                side.set_visible(False)
        axes[0][0].set_ylabel("outputs: a row is a filter")
    plt.close(figure)
    return figure


def accuracy_by_ballot(points: Mapping[str, Sequence[tuple[float, float, str]]]) -> Figure:
    """Test accuracy against the bytes of a ballot, on a logarithmic axis.

    ``points[method]`` are ``(bytes, accuracy in %, what a bit is)``; a control sends no ballot, and
    stands above that of the vote with its counts.
    """
    with style():
        figure, axes = plt.subplots(figsize=(SPAN, 3.9), layout="constrained")
        for method, rows in points.items():
            colour, marker = LOOKS[method]
            label = spoken(method)
            sent, accuracies, _ = zip(*rows, strict=True)
            axes.plot(
                sent,
                accuracies,
                linestyle="",
                marker=marker,
                color=colour,
                markersize=8,
                label=label,
            )
        for x, bit in sorted({(x, bit) for rows in points.values() for x, _, bit in rows}):
            axes.annotate(bit, (x, 1), xycoords=("data", "axes fraction"), ha="center", va="bottom")
        decades(axes)
        axes.set(xlabel="bytes per ballot", ylabel="test accuracy, %")
        axes.margins(x=0.15)
        legend_below(figure, axes)
    plt.close(figure)
    return figure
