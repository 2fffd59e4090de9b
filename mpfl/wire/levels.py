"""Quantised numbers as bytes, and back: a few bits per number, a step size per channel."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float32, Int8

from mpfl import masks
from mpfl.filters import Layout
from mpfl.types import Mask, MPFLError, is_whole
from mpfl.wire import frame
from mpfl.wire.frame import Kind
from mpfl.wire.masks import fingerprint_of
from mpfl.wire.numbers import (
    pack_statistics,
    read_statistics,
    require_counts,
    require_finite,
)

_SAMPLES = 4  # bytes


def highest_level(bits: int) -> int:
    """The highest level that ``bits`` hold; the lowest is its negative, and 0 is one of them.

    >>> highest_level(8), highest_level(2)
    (127, 1)
    """
    if not (is_whole(bits) and bits in range(2, 9)):
        raise MPFLError(f"bits is {bits!r}; give 2 to 8 (one bit is a vote: by_sign_votes)")
    return (1 << bits - 1) - 1


def encode_levels(
    levels: Int8[np.ndarray, " numbers"],
    scales: Float32[np.ndarray, " channels"],
    layout: Layout,
    round_: int,
    *,
    bits: int,
    mask: Mask,
    samples: int = 0,
    statistics: Float32[np.ndarray, " more"] | None = None,
) -> bytes:
    """A level for each number, in ``bits`` each, and what a level stands for in each channel.

    >>> from mpfl.filters import Layer
    >>> layout = Layout((Layer("conv", 4, "w", own=("w",)),), shapes={"w": (4, 2)})
    >>> mask = {"conv": np.array([True, False, True, True])}
    >>> levels, scales = np.array([1, -1, 0, 1], np.int8), np.array([0.5, 2], np.float32)
    >>> message = encode_levels(levels, scales, layout, 1, bits=2, mask=mask)
    >>> frame.body_length(message)
    13

    The body: ``samples`` in four bytes (0 in what the server sends); the scales in four bytes each;
    the levels as two's complement, the first in the lowest bits, padded to a byte; then, if there
    are any, ``statistics`` in four bytes each. Both sides know how many there are of each.
    Raises :class:`~mpfl.types.MPFLError` for a level that ``bits`` do not hold, and for numbers
    that are not finite.
    """
    masks.check(mask, layout)
    _check(levels, scales, bits, samples)
    parts = [int(samples).to_bytes(_SAMPLES, "little"), scales.astype("<f4").tobytes()]
    parts += [pack_levels(levels, bits), pack_statistics(statistics)]
    return frame.write(Kind.LEVELS, fingerprint_of(layout, mask), round_, b"".join(parts))


def decode_levels(
    payload: bytes,
    numbers: int,
    channels: int,
    layout: Layout,
    round_: int,
    *,
    bits: int,
    mask: Mask,
    statistics: int = 0,
) -> tuple[
    Int8[np.ndarray, " numbers"],
    Float32[np.ndarray, " channels"],
    int,
    Float32[np.ndarray, " more"],
]:
    """Levels, scales, samples and statistics: the inverse of :func:`encode_levels`.

    >>> from mpfl.filters import Layer
    >>> layout = Layout((Layer("conv", 4, "w", own=("w",)),), shapes={"w": (4, 2)})
    >>> mask = {"conv": np.array([True, False, True, True])}
    >>> levels, scales = np.array([1, -1, 0, 1], np.int8), np.array([0.5, 2], np.float32)
    >>> message = encode_levels(levels, scales, layout, 1, bits=2, mask=mask, samples=50)
    >>> decode_levels(message, 4, 2, layout, 1, bits=2, mask=mask)[:3]
    (array([ 1, -1,  0,  1], dtype=int8), array([0.5, 2. ], dtype=float32), 50)

    Raises :class:`~mpfl.types.MPFLError` for all bytes that :func:`encode_levels` would not write.
    """
    masks.check(mask, layout)
    require_counts(numbers=numbers, channels=channels, statistics=statistics)
    _, body = frame.read(payload, fingerprint_of(layout, mask), round_, Kind.LEVELS)
    packed = math.ceil(numbers * bits / 8)
    if len(body) != (needed := _SAMPLES + 4 * channels + packed + 4 * statistics):
        raise MPFLError(
            f"body holds {len(body)} bytes, but {numbers} levels of {bits} bits in {channels} "
            f"channels and {statistics} statistics take {needed}; do both sides hold the same "
            "mask, and the same number of bits?"
        )
    samples = int.from_bytes(body[:_SAMPLES], "little")
    scales = np.frombuffer(body, "<f4", channels, _SAMPLES).astype(np.float32)
    begin = _SAMPLES + 4 * channels
    levels = unpack_levels(body[begin : begin + packed], numbers, bits)
    _check(levels, scales, bits, samples)
    read = read_statistics(body, begin + packed)
    if pack_levels(levels, bits) != body[begin : begin + packed]:
        raise MPFLError("LEVELS payload is not canonical; encode it with encode_levels")
    return levels, scales, samples, read


def levels_length(numbers: int, channels: int, *, bits: int, statistics: int = 0) -> int:
    """How long a message of so many levels is; law: ``len(encode_levels(...))``.

    >>> levels_length(81_000, 1_000, bits=4)
    44520
    """
    highest_level(bits)  # refuses bits that no level has
    require_counts(numbers=numbers, channels=channels, statistics=statistics)
    return frame.length(_SAMPLES + 4 * channels + math.ceil(numbers * bits / 8) + 4 * statistics)


def _check(levels: np.ndarray, scales: np.ndarray, bits: int, samples: int) -> None:
    top = highest_level(bits)
    # Bytes of another type would be read as other levels.
    for name, array, kind in (("levels", levels, "int8"), ("scales", scales, "floats")):
        fits = isinstance(array, np.ndarray) and array.ndim == 1
        if not fits or (array.dtype != np.int8 if kind == "int8" else array.dtype.kind != "f"):
            raise MPFLError(f"{name} are not {kind} in a row; give a numpy array of such")
    if levels.size and (int(levels.min()) < -top or int(levels.max()) > top):
        raise MPFLError(f"levels of {bits} bits go from {-top} to {top}; is a level beyond?")
    require_finite("scales", scales)
    if (scales < 0).any():
        raise MPFLError("a scale is negative; give the length of a level, 0 or more")
    if (scales > np.finfo(np.float32).max / top).any():
        raise MPFLError("a scale is too long for its highest level; did the training diverge?")
    if not (is_whole(samples) and 0 <= samples < 1 << 8 * _SAMPLES):
        raise MPFLError(f"samples is {samples!r}; give how many the numbers were trained on")


def pack_levels(levels: np.ndarray, bits: int) -> bytes:
    """Each level's lowest ``bits``, one after the other."""
    rows = np.unpackbits(levels.view(np.uint8)[:, None], axis=1, bitorder="little")
    return np.packbits(rows[:, :bits], bitorder="little").tobytes()


def unpack_levels(packed: bytes, numbers: int, bits: int) -> np.ndarray:
    """The inverse of :func:`pack_levels`: the sign, its highest bit, goes up to the eighth."""
    read = np.frombuffer(packed, np.uint8)
    own = np.unpackbits(read, count=numbers * bits, bitorder="little").reshape(numbers, bits)
    rows = np.concatenate([own, np.repeat(own[:, -1:], 8 - bits, axis=1)], axis=1)
    return np.packbits(rows, axis=1, bitorder="little").reshape(numbers).view(np.int8)
