"""A message, byte by byte."""

from __future__ import annotations

import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from mpfl.show.plots.appearance import LEAST, SPAN, legend_below, style
from mpfl.wire import frame


def bytes_of_message(message: bytes, across: int = 16) -> Figure:
    """Every byte of a message as a square with its two hex digits, coloured by what it says.

    Raises :class:`~mpfl.types.MPFLError` if the message is not whole.
    """
    kind, round_, fingerprint, body = frame.parse(message)
    length = len(message) - frame.HEAD.size - len(body) - frame.CRC.size
    fields = [
        (2, '"MP": a message of mpfl', "#9ecae8"),
        (1, f"version {frame.VERSION}, kind {kind.name}", "#f5c86b"),
        (2, f"round {round_}", "#8fd3bd"),
        (len(fingerprint), "fingerprint: model, reference, counts", "#e6b5d2"),
        (length, f"length of the body: {len(body)}", "#f2e58a"),
        (len(body), "the body", "#ffffff"),
        (frame.CRC.size, "checksum of all before", "#d0d0d0"),
    ]
    owners = [field for field in fields for _ in range(field[0])]
    lines = -(-len(message) // across)
    with style():
        figure, axes = plt.subplots(
            figsize=(SPAN, 0.3 + 0.22 * len(fields) + 0.32 * lines), layout="constrained"
        )
        for place, (byte, (_, says, colour)) in enumerate(zip(message, owners, strict=True)):
            line, column = divmod(place, across)
            first = place == 0 or owners[place - 1][1] != says
            square = Rectangle(
                (column + 0.04, line + 0.04),
                0.92,
                0.92,
                facecolor=colour,
                edgecolor="#666666",
                label=says if first else None,
            )
            axes.add_patch(square)
            middle = (column + 0.5, line + 0.5)
            text = f"{byte:02x}"
            axes.text(*middle, text, ha="center", va="center", family="monospace", color="black",
                      size=LEAST)  # fmt: skip
        axes.set(xlim=(0, across), ylim=(lines, 0), aspect="equal")
        axes.axis("off")
        legend_below(figure, axes)
    plt.close(figure)
    return figure
