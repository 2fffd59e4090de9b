"""Helpers for the notebooks: show what mpfl itself runs, so that text and code cannot part."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from IPython.display import HTML, Code

from mpfl.types import Mask


def show(thing: Callable[..., Any]) -> Code:
    """The source of a function or class of mpfl, as it runs."""
    return Code(inspect.getsource(thing), language="python")


def table(
    rows: Sequence[Mapping[str, Any]], caption: str = "", none: str = "Nothing to show."
) -> HTML:
    """Rows as a table, a column per key, those of numbers to the right; without rows, a sentence.

    >>> table([], none="Planned, and not run yet.").data
    '<p><em>Planned, and not run yet.</em></p>'
    """
    if not rows:
        return HTML(f"<p><em>{none}</em></p>")
    keys = dict.fromkeys(key for row in rows for key in row)
    columns = {key: [_text(row.get(key, "")) for row in rows] for key in keys}
    sides = [
        "right" if _are_numbers(column, names_rows=place == 0) else "left"
        for place, column in enumerate(columns.values())
    ]
    head = _line("th", columns, [f'scope="col" style="text-align:{side}"' for side in sides])
    whole = {"right": ";white-space:nowrap", "left": ""}
    looks = [f'style="text-align:{side}{whole[side]}"' for side in sides]
    body = "".join(_line("td", line, looks) for line in zip(*columns.values(), strict=True))
    title = f"<caption>{caption}</caption>" if caption else ""
    return HTML(f'<table class="table">{title}<thead>{head}</thead><tbody>{body}</tbody></table>')


def _text(value: Any) -> str:
    counted = isinstance(value, int) and not isinstance(value, bool)
    text = f"{value:,}" if counted else str(value)
    return re.sub(r"(?<![^\s(\[])-(?=\d)", "−", text)  # a minus, as it is set in the text


def _are_numbers(column: Sequence[str], names_rows: bool) -> bool:
    """Whether a column is read as numbers; one that names its rows holds nothing but numbers then.

    ``3 inverted`` names a row, ``3 seeds`` further right is a number.
    """
    number = re.compile(r"[+−]?[\d.,]+( ?%)?" if names_rows else r"[+−±]?\d.{0,28}|[-–—]|nan|")
    return all(map(number.fullmatch, column)) and any(column)


def _line(tag: str, texts: Iterable[str], looks: Sequence[str]) -> str:
    cells = zip(texts, looks, strict=True)
    return f"<tr>{''.join(f'<{tag} {look}>{text}</{tag}>' for text, look in cells)}</tr>"


def dots(mask: Mask, width: int = 50) -> str:
    """A mask as text, ``width`` filters per line: ``#`` is a filter that stays, ``.`` one gone."""
    indent = 2 + max(map(len, mask))
    lines = []
    for name, bits in mask.items():
        text = "".join("#" if bit else "." for bit in bits)
        parts = [text[start : start + width] for start in range(0, len(text), width)]
        lines.append(name.ljust(indent) + ("\n" + " " * indent).join(parts))
    return "\n".join(lines)
