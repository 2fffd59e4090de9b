"""How wide a network's layers are, at a share of their full width."""

from __future__ import annotations


def scaled(units: int, width: float) -> int:
    """``units`` times ``width``, rounded; at least one.

    >>> scaled(64, 0.5), scaled(64, 0.001)
    (32, 1)
    """
    return max(1, round(units * width))
