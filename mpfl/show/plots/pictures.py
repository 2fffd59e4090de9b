"""Pictures from a data set, side by side."""

from __future__ import annotations

from collections.abc import Mapping
from textwrap import fill

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from mpfl.show.plots.appearance import LEAST, SPAN, style


def pictures_with_labels(panels: Mapping[str, tuple[np.ndarray, int]]) -> Figure:
    """A panel per entry: a picture ``[channels, height, width]`` from 0 to 1, and its label below.

    One channel is drawn in grey, three in colour.
    """
    with style():
        figure, drawn = plt.subplots(
            1,
            len(panels),
            figsize=(min(SPAN, 1.4 * len(panels)), 0.75 + min(1.4, SPAN / len(panels))),
            layout="constrained",
            squeeze=False,
        )
        for axes, (name, (picture, label)) in zip(drawn[0], panels.items(), strict=True):
            pixels = np.clip(picture, 0, 1).transpose(1, 2, 0)
            axes.imshow(pixels.squeeze(), cmap="gray", vmin=0, vmax=1)
            axes.set_title(fill(name, 9), size=LEAST)
            axes.set_xlabel(f"label {label}", size=LEAST)
            axes.set(xticks=[], yticks=[])
    plt.close(figure)
    return figure
