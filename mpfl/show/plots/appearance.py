"""The style of every figure: white paper, a thin grid, readable sizes, legends below.

A figure is at most ``SPAN`` and has no type below ``LEAST``: so it is read on a telephone as it is.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, NullFormatter

from mpfl.runs.folder import write_atomically
from mpfl.types import MPFLError

SPAN = 5.1  # inches: on a page of 340 pixels, type of 10 points is 9 pixels high
LEAST = 10  # points


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
        "axes.titlesize": 11.5,
        "xtick.labelsize": LEAST,
        "ytick.labelsize": LEAST,
        "legend.fontsize": 10.5,
    }
    with plt.rc_context(look):
        yield


def legend_below(figure: Figure, *panels: Axes, title: str | None = None) -> None:
    """One legend under all panels: the entries of ``panels``, each name once.

    It has as many columns as the figure has room for, and no more lines than they need.
    """
    each: dict[str, Any] = {}
    for axes in panels:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            each.setdefault(label, handle)
    for columns in range(len(each), 0, -1):
        lines = -(-len(each) // columns)
        legend = figure.legend(
            each.values(),
            each.keys(),
            loc="outside lower center",
            ncols=-(-len(each) // lines),
            frameon=False,
            title=title,
            columnspacing=1.4,
            handletextpad=0.5,
        )
        if legend.get_window_extent().width <= figure.bbox.width or columns == 1:
            return
        legend.remove()


def decades(axes: Axes, unit: str = "") -> None:
    """A log scale along x, with numbers that are read at their size: 10 kB, not a power of ten."""
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(EngFormatter(unit) if unit else "{x:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())


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

    Raises :class:`~mpfl.types.MPFLError` if the ending says none that can be drawn, and for a
    SOURCE_DATE_EPOCH, which dates the file, that is no number of seconds.
    """
    formats = figure.canvas.get_supported_filetypes()
    kind = to.suffix[1:].lower()
    if kind not in formats:
        raise MPFLError(
            f"{to}: its ending says no format; let it end in one of {', '.join(formats)}"
        )
    when = os.environ.get("SOURCE_DATE_EPOCH", "0")
    if not (when.isascii() and when.isdigit() and len(when) < 12):
        raise MPFLError(
            f"SOURCE_DATE_EPOCH is {when!r}; give whole seconds since 1970, or unset it"
        )
    drawn = io.BytesIO()
    figure.savefig(drawn, format=kind, bbox_inches="tight")
    write_atomically(to, drawn.getvalue())
