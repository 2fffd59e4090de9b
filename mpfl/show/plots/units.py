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
from mpfl.show.plots.appearance import style

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
    with style():
        figure, axes = plt.subplots(
            1, len(panels), figsize=(1.9 * len(panels), 5.4), layout="constrained", squeeze=False
        )
        tallest = max(_height(weights) for weights in panels.values())
        for place, (title, weights) in zip(axes[0], panels.items(), strict=True):
            top, widest = 0.0, max(array.shape[1] for array in weights.values())
            for name, array in weights.items():
                place.text(0, top + 1.6, name, fontsize=8)
                top += 2.1
                for (row, column), kind in np.ndenumerate(array):
                    corner = (float(column), top + row)
                    place.add_patch(Rectangle(corner, 0.9, 0.9, color=_COLOURS[kind], linewidth=0))
                top += len(array)
            place.set(xlim=(-0.2, max(widest, 8)), ylim=(tallest + 0.2, 0), aspect="equal")
            place.set_title(title, fontsize=10, loc="left")
            place.axis("off")
        handles = [Patch(color=c, label=m) for c, m in zip(_COLOURS, _MEANING, strict=True)]
        figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False)
    plt.close(figure)
    return figure


def _height(weights: Mapping[str, np.ndarray]) -> float:
    return sum(len(array) + 2.1 for array in weights.values())
