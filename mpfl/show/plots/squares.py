"""Small pictures of masks and of who holds what: a square per filter, a circle per class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from mpfl.show.looks import BLUE, ORANGE, VERMILLION
from mpfl.show.plots.appearance import LEAST, SPAN, bare, style
from mpfl.types import Mask

_GONE = "#b8b8b8"


def ballots(votes: np.ndarray, outcomes: Mapping[str, np.ndarray]) -> Figure:
    """A vote, ``bool [nodes, filters]``: a row per node, the counts, what each rule keeps.

    ``outcomes[rule]`` is ``bool [filters]``. A full square stays, an empty one goes.
    """
    nodes, filters = votes.shape
    lines = nodes + 1 + len(outcomes)
    with style():
        figure, axes = plt.subplots(
            figsize=(2.9 + 0.42 * filters, 0.5 + 0.4 * (lines + 0.5)), layout="constrained"
        )
        for node, line in enumerate(votes):
            _row(axes, line, node, BLUE)
        for place, count in enumerate(votes.sum(axis=0)):
            axes.text(
                place + 0.5, nodes + 0.75, str(count), ha="center", va="center", weight="bold"
            )
        for below, kept in enumerate(outcomes.values()):
            _row(axes, kept, nodes + 1.5 + below, ORANGE)
        names = [*(f"node {node}" for node in range(nodes)), "votes", *outcomes]
        heights = [
            *(node + 0.5 for node in range(nodes)),
            nodes + 0.75,
            *(nodes + 2 + below for below in range(len(outcomes))),
        ]
        axes.set_yticks(heights, names)
        axes.set_xticks(np.arange(filters) + 0.5, [str(place) for place in range(filters)])
        axes.xaxis.tick_top()
        bare(axes, filters, lines + 0.5)
    plt.close(figure)
    return figure


def thinning(masks: Mapping[str, Mask]) -> Figure:
    """Masks below each other, a panel per layer: what is left of a network, step by step."""
    sizes = {name: bits.size for name, bits in next(iter(masks.values())).items()}
    with style():
        figure, panels = plt.subplots(
            len(sizes), 1, figsize=(SPAN, len(sizes) * (0.45 + 0.2 * len(masks))),
            layout="constrained", sharex=True, squeeze=False,
        )  # fmt: skip
        for axes, (name, size) in zip(panels[:, 0], sizes.items(), strict=True):
            for line, mask in enumerate(masks.values()):
                _row(axes, mask[name], line, BLUE)
            axes.set_title(f"{name}, {size} filters", size=LEAST, loc="left")
            axes.set_yticks(np.arange(len(masks)) + 0.5, list(masks), size=LEAST)
            axes.set_xticks([])
            bare(axes, max(sizes.values()), len(masks), square=False)
    plt.close(figure)
    return figure


def to_a_mask(filters: np.ndarray, scores: np.ndarray, mask: np.ndarray) -> Figure:
    """A layer's weights ``[filters, weights]``, their scores, and the mask made of them."""
    rows, columns = filters.shape
    centres = np.arange(rows) + 0.5
    with style():
        figure, (left, middle, right) = plt.subplots(
            1, 3, figsize=(SPAN, 0.8 + 0.4 * rows), layout="constrained", sharey=True,
            width_ratios=[columns, 5, 1.6],
        )  # fmt: skip
        for (row, column), weight in np.ndenumerate(filters):
            left.text(column + 0.5, row + 0.5, f"{weight:g}", ha="center", va="center")
            left.add_patch(_square(column, row, "#f2f2f2", "none"))
        colours = [BLUE if bit else _GONE for bit in mask]
        middle.barh(centres, scores, height=0.7, color=colours)
        for place, score in zip(centres, scores, strict=True):
            middle.text(score + 0.15, place, f"{score:.3g}", va="center")
        for row, bit in enumerate(mask):
            _row(right, np.array([bit]), row, BLUE)
            right.text(0.5, row + 0.5, str(int(bit)), ha="center", va="center",
                       color="white" if bit else "#333333")  # fmt: skip
        widths = {left: columns, middle: 1.25 * float(scores.max()), right: 1}
        titles = ("weights", "score", "mask")
        for (axes, width), title in zip(widths.items(), titles, strict=True):
            axes.set_title(title, size=11)
            axes.set_xticks([])
            bare(axes, width, rows, square=axes is not middle)
        left.set_yticks(centres, [f"filter {row}" for row in range(rows)])
    plt.close(figure)
    return figure


def pictures_held(nodes: Sequence[np.ndarray], rows: int = 3, columns: int = 4) -> Figure:
    """The first pictures of each node, grey, ``[pictures, height, width]``."""
    with style():
        figure, panels = plt.subplots(
            1, len(nodes), figsize=(SPAN, 0.5 + SPAN / len(nodes) * rows / columns),
            layout="constrained", squeeze=False,
        )  # fmt: skip
        for node, (axes, pictures) in enumerate(zip(panels[0], nodes, strict=True)):
            some = np.asarray(pictures[: rows * columns], dtype=float)
            some = np.pad(some, ((0, 0), (1, 1), (1, 1)))  # room between two pictures
            some = some.reshape(rows, columns, *some.shape[-2:])
            axes.imshow(
                np.hstack([np.vstack(list(line)) for line in some.swapaxes(0, 1)]), cmap="Greys"
            )
            axes.set_title(f"node {node}:\n{len(pictures)} pictures", size=LEAST)
            axes.axis("off")
    plt.close(figure)
    return figure


def held(deals: Mapping[str, np.ndarray]) -> Figure:
    """Who holds what, ``int [nodes, classes]``, a panel per deal: a circle grows with its count."""
    nodes, classes = next(iter(deals.values())).shape
    largest = max(int(counts.max()) for counts in deals.values())
    with style():
        figure, panels = plt.subplots(
            1, len(deals), figsize=(SPAN, 0.9 + 0.42 * nodes), layout="constrained", sharey=True,
            squeeze=False,
        )  # fmt: skip
        for axes, (name, counts) in zip(panels[0], deals.items(), strict=True):
            for (node, label), count in np.ndenumerate(counts):
                if count:
                    axes.scatter(label, node, s=90 * count / largest, color=BLUE)
            axes.set_title(name, size=11)
            axes.set(xticks=range(0, classes, 3), xlabel="class", xlim=(-0.7, classes - 0.3))
            axes.set(ylim=(nodes - 0.4, -0.6))
        panels[0][0].set_yticks(range(nodes), [f"node {node}" for node in range(nodes)])
    plt.close(figure)
    return figure


def directions(said: np.ndarray, up: np.ndarray) -> Figure:
    """Votes on directions, ``bool [nodes, weights]``, and the majority's below: up or down."""
    nodes, weights = said.shape
    with style():
        figure, axes = plt.subplots(
            figsize=(min(SPAN, 2.4 + 0.6 * weights), 0.7 + 0.36 * nodes), layout="constrained"
        )
        for line, row in enumerate([*said, up]):
            height = line + 0.5 if line < nodes else nodes + 0.9
            for place, bit in enumerate(row):
                colour = (BLUE if bit else VERMILLION) if line < nodes else "black"
                mark = "^" if bit else "v"
                axes.plot(place + 0.5, height, mark, color=colour, markersize=11)
        axes.set_yticks(
            [*(np.arange(nodes) + 0.5), nodes + 0.9],
            [*(f"node {node}" for node in range(nodes)), "the majority"],
        )
        axes.set_xticks(np.arange(weights) + 0.5, [f"weight {place}" for place in range(weights)])
        axes.xaxis.tick_top()
        bare(axes, weights, nodes + 1.4, square=False)
    plt.close(figure)
    return figure


def _row(axes: Axes, bits: np.ndarray, top: float, colour: str) -> None:
    for place, bit in enumerate(bits):
        axes.add_patch(_square(place, top, colour if bit else "white", colour if bit else _GONE))


def _square(left: float, top: float, face: str, edge: str) -> Rectangle:
    return Rectangle((left + 0.08, top + 0.08), 0.84, 0.84, facecolor=face, edgecolor=edge)
