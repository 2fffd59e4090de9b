"""Helpers for the notebooks: show what mpfl itself runs, so that text and code cannot part."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from IPython.display import HTML, Code
from scipy import stats

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


def mean_and_deviation(values: Sequence[float]) -> str:
    """Mean ± sample standard deviation; of a single value, the value."""
    if len(values) < 2:
        return f"{values[0]:.2f}"
    return f"{np.mean(values):.2f} ± {np.std(values, ddof=1):.2f}"


def half_interval(values: Sequence[float]) -> float:
    """Half the width of Student's 95 % interval of the mean; without end for one value."""
    if len(values) < 2:
        return np.inf
    n = len(values)
    return float(stats.t.ppf(0.975, n - 1) * np.std(values, ddof=1) / np.sqrt(n))


def _cell(value: Any) -> str:
    text = f"{value:,}" if isinstance(value, int) else str(value)
    number = text.lstrip("+-")[:1].isdigit() or text == "-"
    look = "text-align:right;white-space:nowrap" if number else "text-align:left"
    return f'<td style="{look}">{text}</td>'


def dots(mask: Mask, width: int = 50) -> str:
    """A mask as text, ``width`` filters a line: ``#`` is a filter that stays, ``.`` one gone."""
    indent = 2 + max(map(len, mask))
    lines = []
    for name, bits in mask.items():
        text = "".join("#" if bit else "." for bit in bits)
        parts = [text[start : start + width] for start in range(0, len(text), width)]
        lines.append(name.ljust(indent) + ("\n" + " " * indent).join(parts))
    return "\n".join(lines)
