"""Shares as a grid of coloured cells: for tables that the eye should read at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from mpfl.show.plots.appearance import LEAST, SPAN, style


def grids_of_shares(
    panels: Mapping[str, np.ndarray], rows: Sequence[str], columns: Sequence[str]
) -> Figure:
    """A panel per entry, ``[rows, columns]`` of shares from 0 to 1, each cell with its per cent.

    All panels have one scale, from 0 to the largest share, so that equal colours are equal shares.
    """
    largest = max((float(values.max()) for values in panels.values()), default=1.0) or 1.0
    with style():
        figure, drawn = plt.subplots(
            1,
            len(panels),
            figsize=(SPAN, 1.4 + 0.42 * len(rows)),
            layout="constrained",
            sharey=True,
            squeeze=False,
        )
        for axes, (title, values) in zip(drawn[0], panels.items(), strict=True):
            axes.imshow(values, cmap="Blues", vmin=0, vmax=largest, aspect="auto")
            for (row, column), share in np.ndenumerate(values):
                text: Any = {"ha": "center", "va": "center", "size": LEAST}
                text["color"] = "white" if share > 0.6 * largest else "black"
                axes.text(column, row, f"{100 * share:.1f}", **text)
            axes.set_xticks(
                range(len(columns)), columns, rotation=40, ha="right", rotation_mode="anchor"
            )
            axes.set_yticks(range(len(rows)), rows)
            axes.set_title(title, size=11)
            axes.grid(visible=False)
    plt.close(figure)
    return figure
