"""The style of every figure: white paper, a thin grid, readable sizes, legends below."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Close to seaborn's "whitegrid", which would load pandas and scipy for fifteen settings.
_STYLE: Any = {
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "figure.dpi": 110,
    "font.size": 11,
    "font.sans-serif": [
        "Arial",
        "DejaVu Sans",
        "Liberation Sans",
        "Bitstream Vera Sans",
        "sans-serif",
    ],
    "text.color": ".15",
    "axes.labelcolor": ".15",
    "axes.edgecolor": ".8",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": ".8",
    "xtick.color": ".15",
    "ytick.color": ".15",
    "xtick.bottom": False,
    "ytick.left": False,
    "lines.solid_capstyle": "round",
    "patch.edgecolor": "w",
    "patch.force_edgecolor": True,
}


@contextmanager
def style() -> Iterator[None]:
    """The look of every figure that is drawn inside the ``with`` block."""
    with plt.rc_context(_STYLE):
        yield


def legend_below(figure: Figure, axes: Axes, columns: int) -> None:
    """One legend for all panels, under them: the entries of one of them, ``axes``."""
    figure.legend(
        *axes.get_legend_handles_labels(),
        loc="outside lower center",
        ncols=columns,
        frameon=False,
    )


def mean_and_range(axes: Axes, x: Any, values: np.ndarray, **look: Any) -> None:
    """A line, the mean of ``values`` ``[seeds, x]``, and their range behind it."""
    axes.plot(x, values.mean(axis=0), **look)
    if len(values) > 1:
        low, high = values.min(axis=0), values.max(axis=0)
        axes.fill_between(x, low, high, color=look["color"], alpha=0.15, linewidth=0)
