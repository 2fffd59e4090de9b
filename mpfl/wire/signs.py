"""Directions as bytes, and back: one bit per number, up or down, and at times statistics."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Bool, Float32

from mpfl import masks
from mpfl.filters import Layout
from mpfl.types import Mask, MPFLError
from mpfl.wire import frame
from mpfl.wire.frame import Kind
from mpfl.wire.masks import fingerprint_of
from mpfl.wire.numbers import pack_statistics, read_statistics, require_counts


def encode_signs(
    signs: Bool[np.ndarray, "rounds numbers"],
    layout: Layout,
    round_: int,
    *,
    mask: Mask,
    statistics: Float32[np.ndarray, " more"] | None = None,
) -> bytes:
    """One direction for each number, ``True`` is up; a row per round, the latest last.

    >>> from mpfl.filters import Layer
    >>> layout = Layout((Layer("conv", 4, "w", own=("w",)),), shapes={"w": (4, 2)})
    >>> mask = {"conv": np.array([True, False, True, True])}
    >>> message = encode_signs(np.array([[True, False, True]]), layout, 1, mask=mask)
    >>> frame.body_length(message)
    1

    The body is one row after the other, each packed with its first sign in the lowest bit and
    padded to a byte; then, if there are any, ``statistics`` in four bytes each, as many for every
    round. How many there are of all of them, both sides know. Raises :class:`MPFLError` for no row
    at all, and for statistics that are not finite or not as many for every round.
    """
    masks.check(mask, layout)
    if not (isinstance(signs, np.ndarray) and signs.dtype == np.bool_ and signs.ndim == 2):
        raise MPFLError("signs are bool[rounds, numbers], True is up; give such an array")
    if not len(signs):
        raise MPFLError("signs of no round; send at least one row")
    more = pack_statistics(statistics)
    if len(more) % (4 * len(signs)):
        raise MPFLError(
            f"{len(more) // 4} statistics for {len(signs)} rounds; give as many for every round"
        )
    packed = np.packbits(signs, axis=1, bitorder="little").tobytes()
    return frame.write(Kind.SIGNS, fingerprint_of(layout, mask), round_, packed + more)


def decode_signs(
    payload: bytes,
    numbers: int,
    layout: Layout,
    round_: int,
    *,
    mask: Mask,
    rounds: int | None = 1,
    statistics: int = 0,
) -> tuple[Bool[np.ndarray, "rounds numbers"], Float32[np.ndarray, " more"]]:
    """The inverse of :func:`encode_signs`, of so many ``numbers`` and ``statistics`` per round.

    >>> from mpfl.filters import Layer
    >>> layout = Layout((Layer("conv", 4, "w", own=("w",)),), shapes={"w": (4, 2)})
    >>> mask = {"conv": np.array([True, False, True, True])}
    >>> message = encode_signs(np.array([[True, False, True]]), layout, 1, mask=mask)
    >>> decode_signs(message, 3, layout, 1, mask=mask)[0]
    array([[ True, False,  True]])

    ``rounds=None`` takes as many rows as there are. Raises :class:`MPFLError` for all bytes that
    :func:`encode_signs` would not write.
    """
    masks.check(mask, layout)
    require_counts(numbers=numbers, statistics=statistics)
    _, body = frame.read(payload, fingerprint_of(layout, mask), round_, Kind.SIGNS)
    row = math.ceil(numbers / 8)
    each = row + 4 * statistics
    due = len(body) // max(each, 1) if rounds is None else rounds
    if due < 1 or len(body) != due * each:
        raise MPFLError(
            f"body holds {len(body)} bytes, but {max(due, 1)} rounds of {numbers} signs and "
            f"{statistics} statistics take {max(due, 1) * each}; do both sides hold the same mask?"
        )
    rows = np.frombuffer(body, np.uint8, due * row).reshape(due, row)
    if numbers % 8 and (rows[:, -1] >> numbers % 8).any():
        raise MPFLError("SIGNS payload is not canonical; encode it with encode_signs")
    read = read_statistics(body, due * row)
    return np.unpackbits(rows, axis=1, count=numbers, bitorder="little").astype(bool), read


def signs_length(numbers: int, *, rounds: int = 1, statistics: int = 0) -> int:
    """How long a message of so many signs is; law: ``len(encode_signs(...))``.

    >>> signs_length(81_000)
    10140
    """
    require_counts(numbers=numbers, rounds=rounds, statistics=statistics)
    return frame.length(rounds * (math.ceil(numbers / 8) + 4 * statistics))
