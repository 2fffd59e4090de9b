"""How the numbers of secure aggregation cancel in the sum."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import cycle

import matplotlib.pyplot as plt
import numpy as np
from jaxtyping import Bool, Int64
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from mpfl.show.plots.appearance import SPAN, bare, style

_PAIRS = ("#9ecae8", "#f5c86b", "#8fd3bd", "#e6b5d2", "#f2e58a", "#f0a58c")
_PLAIN = "#ffffff"
_SENT = "#d0d0d0"


def masks_that_cancel(
    ballots: Bool[np.ndarray, "nodes filters"],
    shared: Mapping[tuple[int, int], Int64[np.ndarray, " filters"]],
    modulus: int,
) -> Figure:
    """What each node adds to its ballot and sends, and what is left of it in the sum.

    ``shared[one, other]``, ``one < other``, are the numbers of a pair: ``one`` adds them, ``other``
    subtracts them. Both have the colour of the pair. All sums are modulo ``modulus``.
    """
    colours = dict(zip(shared, cycle(_PAIRS), strict=False))
    rows, total = [], np.zeros(ballots.shape[1], np.int64)
    for node, ballot in enumerate(ballots):
        sent = ballot.astype(np.int64)
        rows.append((f"node {node}: its ballot", sent, _PLAIN))
        for pair, drawn in shared.items():
            if node in pair:
                added = node == pair[0]
                sign, with_ = "+" if added else "−", pair[1] if added else pair[0]
                rows.append((f"{sign} shared with node {with_}", drawn, colours[pair]))
                sent = sent + drawn if added else sent - drawn
        rows.append(("= what it sends", sent % modulus, _SENT))
        total += sent
    rows.append((f"sum of all {len(ballots)}: the votes", total % modulus, _PLAIN))
    with style():
        figure, axes = plt.subplots(
            figsize=(min(SPAN, 2.6 + 0.3 * ballots.shape[1]), 0.4 + 0.3 * len(rows)),
            layout="constrained",
        )
        for line, (_, numbers, colour) in enumerate(rows):
            for column, number in enumerate(numbers):
                axes.add_patch(Rectangle((column, line), 1, 1, facecolor=colour, edgecolor="#888"))
                middle = (column + 0.5, line + 0.5)
                axes.text(*middle, str(number), ha="center", va="center", size=10, color="black")
        axes.set_yticks(np.arange(len(rows)) + 0.5, [name for name, *_ in rows])
        for label, (name, *_) in zip(axes.get_yticklabels(), rows, strict=True):
            label.set_fontweight("bold" if name.startswith(("=", "sum")) else "normal")
        axes.set(xticks=[], xlabel="one column per filter")
        bare(axes, ballots.shape[1], len(rows), square=False)
    plt.close(figure)
    return figure
