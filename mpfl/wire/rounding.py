"""w0 in a few bits per weight: how it is rounded, and the message that carries it.

Only tensors of several axes are rounded, with a step size per channel. The others, biases and
what belongs to norms, are few, and are sent whole.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from jaxtyping import Float, Float32, Int8

from mpfl.filters import Layout
from mpfl.types import MPFLError, Weights
from mpfl.wire import frame
from mpfl.wire.frame import Kind
from mpfl.wire.levels import highest_level, pack_levels, unpack_levels
from mpfl.wire.numbers import pack_statistics, read_statistics, require_finite, require_weights

# A step size has 24 - 7 significant bits, so that its product with a level, of 7 bits at most, is
# exact. What is rounded then reads as the same levels and step sizes when it is rounded again. Of
# the smallest floats, which have fewer bits, that would not be true; they become 0.
_LOW = np.uint32((1 << 7) - 1)


def round_weights(weights: Weights, layout: Layout, bits: int) -> dict[str, np.ndarray]:
    """``weights`` as a node has them that was sent them in ``bits`` per weight; float32.

    In each channel (the first axis of a tensor) the largest weight is the highest level. A step
    size of less than 2**-126 is 0, and so is its channel then.
    Laws: at most half a step from what was given, and what is rounded already stays as it is.

    >>> from mpfl.filters import Layer
    >>> layout = Layout((Layer("conv", 2, "w", own=("w",)),), shapes={"w": (2, 3)})
    >>> weights = {"w": np.array([[3, 1.4, -0.2], [0, 0, 6]], np.float32)}
    >>> round_weights(weights, layout, bits=3)["w"]
    array([[3., 1., 0.],
           [0., 0., 6.]], dtype=float32)

    Raises :class:`~mpfl.types.MPFLError` for tensors that are not the layout's, and for numbers
    that are not finite, or so large that their steps are not.
    """
    highest_level(bits)
    _check(weights, layout)
    return {
        name: _restored(*_levels(weights[name], bits)).reshape(shape)
        if len(shape) > 1
        else weights[name].astype(np.float32)
        for name, shape in layout.shapes.items()
    }


def encode_rounded(weights: Weights, layout: Layout, *, bits: int) -> bytes:
    """w0 that was rounded by :func:`round_weights`, in ``bits`` per weight.

    >>> from mpfl.filters import Layer
    >>> from mpfl.wire.weights import decode_start
    >>> layout = Layout((Layer("conv", 2, "w", own=("w",)),), shapes={"w": (2, 3)})
    >>> w0 = {"w": np.array([[3, 1, 0], [0, 0, 6]], np.float32)}
    >>> message = encode_rounded(w0, layout, bits=3)
    >>> frame.body_length(message), np.array_equal(decode_start(message, layout)["w"], w0["w"])
    (12, True)

    The body: ``bits`` in a byte; then tensor by tensor the step size of each channel, in four bytes
    each; the levels of all as two's complement, the first in the lowest bits, padded to a byte; at
    last the tensors of one axis, four bytes per number. Raises :class:`~mpfl.types.MPFLError` for
    weights that are not rounded like this.
    """
    rounded = round_weights(weights, layout, bits)
    for name, array in rounded.items():
        if not np.array_equal(array, weights[name]):
            raise MPFLError(
                f"tensor {name!r} would be changed on its way: in {bits} bits if it has several "
                "axes, else in float32; send what round_weights makes of the weights"
            )
    return frame.write(Kind.ROUNDED, layout.fingerprint, 0, _body(rounded, layout, bits))


def decode_rounded(payload: bytes, layout: Layout) -> dict[str, np.ndarray]:
    """The inverse of :func:`encode_rounded`; refuses all bytes that it would not write."""
    _, body = frame.read(payload, layout.fingerprint, 0, Kind.ROUNDED)
    bits = body[0] if body else 0
    highest_level(bits)
    numbers, channels = _counts(layout.shapes)
    rest = sum(map(math.prod, layout.shapes.values())) - numbers
    packed = math.ceil(numbers * bits / 8)
    if len(body) != (needed := 1 + 4 * channels + packed + 4 * rest):
        raise MPFLError(
            f"body holds {len(body)} bytes, but {numbers} weights of {bits} bits in {channels} "
            f"channels and {rest} other numbers take {needed}; is it of another model?"
        )
    scales = np.frombuffer(body, "<f4", channels, 1).astype(np.float32)
    _require_steps(scales, bits)
    begin = 1 + 4 * channels
    levels = unpack_levels(body[begin : begin + packed], numbers, bits)
    others = read_statistics(body, begin + packed)
    # Parts of the rows, in the order in which they were put together.
    weights: dict[str, np.ndarray] = {}
    level = channel = other = 0
    for name, shape in layout.shapes.items():
        count = math.prod(shape)
        if len(shape) > 1:
            own = levels[level : level + count].reshape(shape[0], math.prod(shape[1:]))
            weights[name] = _restored(own, scales[channel : channel + shape[0]]).reshape(shape)
            level, channel = level + count, channel + shape[0]
        else:
            weights[name] = others[other : other + count].reshape(shape)
            other += count
    # The largest of a channel is its highest level, so the bytes of a w0 are these alone.
    if _body(weights, layout, bits) != body:
        raise MPFLError("ROUNDED payload is not canonical; encode it with encode_rounded")
    return weights


def rounded_length(shapes: Mapping[str, tuple[int, ...]], *, bits: int) -> int:
    """How long the message of a w0 of these ``shapes`` is; law: ``len(encode_rounded(...))``.

    >>> rounded_length({"conv.weight": (64, 3, 3, 3), "conv.bias": (64,)}, bits=4)
    1392
    """
    highest_level(bits)
    numbers, channels = _counts(shapes)
    rest = sum(map(math.prod, shapes.values())) - numbers
    return frame.length(1 + 4 * channels + math.ceil(numbers * bits / 8) + 4 * rest)


def _counts(shapes: Mapping[str, tuple[int, ...]]) -> tuple[int, int]:
    """How many numbers are rounded, and in how many channels."""
    rounded = [shape for shape in shapes.values() if len(shape) > 1]
    return sum(map(math.prod, rounded)), sum(shape[0] for shape in rounded)


def _check(weights: Weights, layout: Layout) -> None:
    require_weights(weights, layout.shapes)
    for name, array in weights.items():
        if array.dtype.kind != "f":
            raise MPFLError(f"tensor {name!r} is of type {array.dtype}; only floats are rounded")
        with np.errstate(over="ignore"):  # it is infinite then, and refused
            require_finite(f"weights {name!r}", array.astype(np.float32))


def _levels(
    array: Float[np.ndarray, "channels ..."], bits: int
) -> tuple[Int8[np.ndarray, "channels numbers"], Float32[np.ndarray, " channels"]]:
    """The nearest level of each number, and the step size of each channel."""
    rows = array.astype(np.float32).reshape(len(array), math.prod(array.shape[1:]))
    top = np.float32(highest_level(bits))
    exact = np.abs(rows).max(axis=1, initial=0) / top
    exact[exact < np.finfo(np.float32).tiny] = 0
    # Up to the next number of so few bits: so no weight is above the highest level.
    scales = ((exact.view(np.uint32) + _LOW) & ~_LOW).view(np.float32)
    _require_steps(scales, bits)
    steps = np.where(scales > 0, scales, np.float32(1))
    return np.rint(rows / steps[:, None]).astype(np.int8), scales


def _require_steps(scales: Float32[np.ndarray, " channels"], bits: int) -> None:
    """Check that the highest level of every step size is finite."""
    with np.errstate(over="ignore", invalid="ignore"):
        largest = scales * np.float32(highest_level(bits))
    if not np.isfinite(largest).all():
        raise MPFLError("a weight is too large to be rounded; did the training diverge?")


def _restored(
    levels: Int8[np.ndarray, "channels numbers"], scales: Float32[np.ndarray, " channels"]
) -> Float32[np.ndarray, "channels numbers"]:
    """What levels stand for."""
    return levels.astype(np.float32) * scales[:, None]


def _body(weights: Weights, layout: Layout, bits: int) -> bytes:
    """The bytes of weights that are rounded already."""
    apart = [
        _levels(weights[name], bits) for name, shape in layout.shapes.items() if len(shape) > 1
    ]
    others = [weights[name].ravel() for name, shape in layout.shapes.items() if len(shape) < 2]
    levels = np.concatenate([each.ravel() for each, _ in apart] or [np.zeros(0, np.int8)])
    parts = [bytes([bits]), *(scales.astype("<f4").tobytes() for _, scales in apart)]
    parts += [pack_levels(levels, bits), *map(pack_statistics, others)]
    return b"".join(parts)
