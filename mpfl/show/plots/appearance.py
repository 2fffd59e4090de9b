"""The style of every figure: white paper, a thin grid, readable sizes, legends below."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mpfl.runs.folder import write_atomically
from mpfl.types import MPFLError


@contextmanager
def style() -> Iterator[None]:
    """The look of every figure that is drawn inside the ``with`` block."""
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


def bare(axes: Axes, width: float, height: float, square: bool = True) -> None:
    """No grid, no frame, no ticks; rows and columns of one unit, the first row at the top."""
    axes.grid(visible=False)
    axes.set(xlim=(0, width), ylim=(height, 0), aspect="equal" if square else "auto")
    axes.tick_params(length=0)
    for side in axes.spines.values():
        side.set_visible(False)


def save_figure(figure: Figure, to: Path) -> None:
    """Write a figure to the file named, in the format that its ending says, whole or not at all.

    Raises :class:`~mpfl.types.MPFLError` if the ending says none that can be drawn.
    """
    formats = figure.canvas.get_supported_filetypes()
    kind = to.suffix[1:].lower()
    if kind not in formats:
        raise MPFLError(
            f"{to}: its ending says no format; let it end in one of {', '.join(formats)}"
        )
    drawn = io.BytesIO()
    figure.savefig(drawn, format=kind, bbox_inches="tight")
    write_atomically(to, drawn.getvalue())
