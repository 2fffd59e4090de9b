"""A value as Flower's command line takes it: TOML that holds no quote, escaped or not."""

from __future__ import annotations

import json


def as_toml(value: str | float) -> str:
    r"""A text, number or bool as TOML; of a text, what may need care is written by its number.

    Flower ends a text at the next quote, before TOML is read: a backslash does not keep one.

    >>> print(as_toml('a "run"'))
    "a \U00000022run\U00000022"
    """
    if not isinstance(value, str):
        return json.dumps(value).replace("Infinity", "inf")
    plain = (c if " " <= c <= "~" and c not in "\"'\\" else f"\\U{ord(c):08x}" for c in value)
    return f'"{"".join(plain)}"'
