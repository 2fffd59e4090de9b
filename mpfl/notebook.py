"""Helpers for the notebooks: show what mpfl itself runs, so that text and code cannot part."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from IPython.display import HTML, Code

from mpfl.types import Mask


def show(thing: Callable[..., Any]) -> Code:
    """The source of a function or class of mpfl, as it runs."""
    return Code(inspect.getsource(thing), language="python")


def table(rows: Sequence[Mapping[str, Any]], caption: str = "") -> HTML:
    """Rows with equal keys as a table; numbers are set to the right."""
    head = "".join(f'<th scope="col">{key}</th>' for key in rows[0])
    body = "".join(
        "<tr>" + "".join(_cell(value) for value in row.values()) + "</tr>" for row in rows
    )
    title = f"<caption>{caption}</caption>" if caption else ""
    return HTML(
        f'<table class="table">{title}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'
    )


def _cell(value: Any) -> str:
    number = isinstance(value, int | float | np.number)
    text = f"{value:,}" if isinstance(value, int) else str(value)
    return f'<td style="text-align:{"right" if number else "left"}">{text}</td>'


def dots(mask: Mask) -> str:
    """A mask as a line of text a layer: a filled dot is a filter that stays."""
    width = max(map(len, mask))
    return "\n".join(
        f"{name:<{width}}  {''.join('●' if bit else '·' for bit in bits)}"
        for name, bits in mask.items()
    )
