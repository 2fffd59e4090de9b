"""What a unit is in different networks: which rows and columns of which weights go with it."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from mpfl.filters import Layout, apply
from mpfl.masks import full
from mpfl.show.looks import BLUE, ORANGE
from mpfl.show.plots.appearance import LEAST, SPAN, style

_COLOURS = ("#e4e4e4", BLUE, ORANGE)
_MEANING = ("stays", "the unit's own", "reads the unit")


def taken_by(layout: Layout, layer: str, unit: int) -> dict[str, np.ndarray]:
    """What goes with one unit of every weight: ``[outputs, inputs]`` of 0, 1 and 2.

    0 stays, 1 is the unit's own, 2 reads it. Of a conv, a whole kernel is one of them. Tensors
    that the unit leaves alone, and those of one axis, are left out.
    """
    mask = full(layout)
    mask[layer][unit] = False
    own = Layout(layout.layers, layout.shapes)
    ones = {name: np.ones(shape) for name, shape in layout.shapes.items()}
    taken = {}
    for name, left in apply(ones, mask, layout).items():
        if left.ndim > 1 and not left.all():
            gone = np.where(apply(ones, mask, own)[name] == 0, 1, np.where(left == 0, 2, 0))
            taken[name] = gone.reshape(*gone.shape[:2], -1).max(axis=2)
    return taken


def slices_of_a_unit(panels: Mapping[str, Mapping[str, np.ndarray]]) -> Figure:
    """A panel for each kind of unit: its weights from top to bottom, as :func:`taken_by` gives."""
    across = min(len(panels), 3)
    lines = [list(panels)[start : start + across] for start in range(0, len(panels), across)]
    widest = max(8, *(array.shape[1] for each in panels.values() for array in each.values()))
    wide = SPAN / across - 0.15  # inches, as is a square
    square = min(0.12, wide / widest)
    name_room = 0.24 / square
    tallest = [max(_height(panels[title], name_room) for title in line) for line in lines]
    with style():
        figure, places = plt.subplots(
            len(lines), across, figsize=(SPAN, 0.5 + sum(square * each + 0.45 for each in tallest)),
            layout="constrained", squeeze=False, height_ratios=tallest,
        )  # fmt: skip
        for place in places.flat:
            place.axis("off")
        for row, line in enumerate(lines):
            for place, title in zip(places[row], line, strict=False):
                top = 0.0
                for name, array in panels[title].items():
                    top += name_room
                    place.text(0, top - 0.05 / square, name, fontsize=LEAST)
                    for (output, read), kind in np.ndenumerate(array):
                        place.add_patch(
                            Rectangle(
                                (float(read), top + output), 0.9, 0.9,
                                color=_COLOURS[kind], linewidth=0,
                            )
                        )  # fmt: skip
                    top += len(array)
                place.set(xlim=(-0.2, wide / square), ylim=(tallest[row] + 0.2, 0), aspect="equal")
                place.set_title(title, fontsize=LEAST, loc="left")
        handles = [Patch(color=c, label=m) for c, m in zip(_COLOURS, _MEANING, strict=True)]
        figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False)
    plt.close(figure)
    return figure


def _height(weights: Mapping[str, np.ndarray], name_room: float) -> float:
    return sum(len(array) + name_room for array in weights.values())
