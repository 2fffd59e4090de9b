"""Helpers for the notebooks: show what mpfl itself runs, so that text and code cannot part."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from IPython.display import HTML, Code

from mpfl.types import Mask


def show(thing: Callable[..., Any]) -> Code:
    """The source of a function or class of mpfl, as it runs."""
    return Code(inspect.getsource(thing), language="python")


def table(
    rows: Sequence[Mapping[str, Any]], caption: str = "", none: str = "Nothing to show."
) -> HTML:
    """Rows with equal keys as a table, numbers to the right; if there are none, a sentence.

    >>> table([], none="Planned, and not run yet.").data
    '<p><em>Planned, and not run yet.</em></p>'
    """
    if not rows:
        return HTML(f"<p><em>{none}</em></p>")
    head = "".join(f'<th scope="col">{key}</th>' for key in rows[0])
    body = "".join(
        "<tr>" + "".join(_cell(value) for value in row.values()) + "</tr>" for row in rows
    )
    title = f"<caption>{caption}</caption>" if caption else ""
    return HTML(
        f'<table class="table">{title}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'
    )


def _cell(value: Any) -> str:
    text = f"{value:,}" if isinstance(value, int) else str(value)
    text = re.sub(r"(?<![^\s(])-(?=\d)", "−", text)  # a minus, as it is set in the text
    number = len(text) < 30 and (text.lstrip("+−")[:1].isdigit() or text == "-")
    look = "text-align:right;white-space:nowrap" if number else "text-align:left"
    return f'<td style="{look}">{text}</td>'


def dots(mask: Mask, width: int = 50) -> str:
    """A mask as text, ``width`` filters per line: ``#`` is a filter that stays, ``.`` one gone."""
    indent = 2 + max(map(len, mask))
    lines = []
    for name, bits in mask.items():
        text = "".join("#" if bit else "." for bit in bits)
        parts = [text[start : start + width] for start in range(0, len(text), width)]
        lines.append(name.ljust(indent) + ("\n" + " " * indent).join(parts))
    return "\n".join(lines)
