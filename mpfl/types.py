"""The values that travel through mpfl, and the one error a user sees.

A *weights* value maps a tensor's name to its array. A *mask* maps a layer's name to
one bool a filter, ``True`` = kept. *Scores* map a layer's name to one float a filter.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np

Weights: TypeAlias = Mapping[str, np.ndarray]
Mask: TypeAlias = Mapping[str, np.ndarray]
Scores: TypeAlias = Mapping[str, np.ndarray]


class MPFLError(ValueError):
    """Bad input, said in one line: what is wrong, where, and what to do."""


@contextmanager
def located(*where: str) -> Iterator[None]:
    """Put ``where`` in front of an :class:`MPFLError` raised inside.

    >>> with located("node 'n3'", "round 4", "decode"):
    ...     raise MPFLError("payload is empty")
    Traceback (most recent call last):
    mpfl.types.MPFLError: node 'n3', round 4, decode: payload is empty
    """
    try:
        yield
    except MPFLError as error:
        raise MPFLError(f"{', '.join(where)}: {error}") from error


@dataclass(frozen=True)
class Update:
    """What a node holds after its local training.

    ``gradients`` is the mean gradient of the loss over the node's own data; only
    scores that look at it (Taylor) ask for it.
    """

    weights: Weights
    gradients: Weights | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Reply:
    """What a node sends up: only ``payload`` crosses the wire.

    ``memory`` is what the node keeps for the next round (its caller holds it);
    ``metrics`` are local observations for the log, never sent.
    """

    node: int
    payload: bytes
    memory: Any = None
    metrics: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Absent:
    """A node whose reply does not count in this round, and why."""

    node: int
    why: str
