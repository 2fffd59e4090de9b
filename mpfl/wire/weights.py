"""Weights as bytes, and back; and how w0 reaches the nodes."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping

import numpy as np
import safetensors.numpy
from safetensors import SafetensorError

from mpfl import filters, masks
from mpfl.filters import Layout
from mpfl.types import Mask, MPFLError, Weights, is_whole
from mpfl.wire import frame
from mpfl.wire.frame import Kind
from mpfl.wire.numbers import require_weights
from mpfl.wire.rounding import decode_rounded


def encode_seed(seed: int, layout: Layout) -> bytes:
    """The start of a run as the seed from which every party can draw ``w0``; 22 bytes.

    >>> from mpfl.filters import Layer
    >>> layout = Layout((Layer("conv", 4, "w", own=("w",)),), shapes={"w": (4, 2)})
    >>> decode_start(encode_seed(7, layout), layout)
    7
    """
    if not (is_whole(seed) and 0 <= seed < 1 << 64):
        raise MPFLError(f"seed {seed!r} does not fit 64 bits; use one from 0 to 2**64 - 1")
    return frame.write(Kind.SEED, layout.fingerprint, 0, int(seed).to_bytes(8, "little"))


def encode_empty(layout: Layout, round_: int) -> bytes:
    """A message that says: there is nothing new, go on from what you have; 14 bytes.

    >>> from mpfl.filters import Layer
    >>> layout = Layout((Layer("conv", 4, "w", own=("w",)),), shapes={"w": (4, 2)})
    >>> len(encode_empty(layout, round_=3))
    14
    """
    return frame.write(Kind.EMPTY, layout.fingerprint, round_, b"")


def decode_empty(payload: bytes, layout: Layout, round_: int) -> None:
    """Raise :class:`MPFLError` for all but the :func:`encode_empty` of this model and round.

    >>> from mpfl.filters import Layer
    >>> layout = Layout((Layer("conv", 4, "w", own=("w",)),), shapes={"w": (4, 2)})
    >>> decode_empty(encode_empty(layout, round_=3), layout, round_=4)
    Traceback (most recent call last):
    mpfl.types.MPFLError: payload is of round 3, not 4; is it late or out of turn?
    """
    frame.read(payload, layout.fingerprint, round_, Kind.EMPTY)


def _weights_body(weights: Weights, samples: int | None) -> bytes:
    if samples is not None and not (is_whole(samples) and 0 <= samples < 1 << 63):
        raise MPFLError(f"samples is {samples!r}; give how many the weights were trained on")
    # safetensors copies memory as it lies, so a transposed view would come out scrambled.
    dense = {
        name: np.asarray(array, dtype=array.dtype.newbyteorder("<"), order="C")
        for name, array in weights.items()
    }
    return safetensors.numpy.save(dense, None if samples is None else {"samples": str(samples)})


def encode_weights(
    weights: Weights,
    layout: Layout,
    round_: int,
    *,
    mask: Mask | None = None,
    samples: int | None = None,
) -> bytes:
    """All tensors in their own types; with ``mask``, only what the small network has of them.

    >>> from mpfl.filters import Layer
    >>> layout = Layout((Layer("conv", 4, "w", own=("w",)),), shapes={"w": (4, 2)})
    >>> mask = {"conv": np.array([True, False, False, True])}
    >>> weights = {"w": np.ones((4, 2), np.float32)}
    >>> message = encode_weights(weights, layout, 1, mask=mask, samples=50)
    >>> decode_weights(message, layout, 1, mask=mask)
    ({'w': array([[1., 1.],
           [1., 1.]], dtype=float32)}, 50)

    ``samples`` is how many samples they were trained on. Raises :class:`MPFLError` if names or
    shapes are not the layout's, or if a value is not finite.
    """
    require_weights(weights, layout.shapes)
    if mask is not None:
        masks.check(mask, layout)
        weights = filters.cut(weights, mask, layout)
    return frame.write(Kind.WEIGHTS, layout.fingerprint, round_, _weights_body(weights, samples))


def decode_weights(
    payload: bytes, layout: Layout, round_: int, *, mask: Mask | None = None
) -> tuple[dict[str, np.ndarray], int | None]:
    """The tensors as :func:`encode_weights` was given them, and the number of samples.

    >>> from mpfl.filters import Layer
    >>> layout = Layout((Layer("conv", 4, "w", own=("w",)),), shapes={"w": (4, 2)})
    >>> weights = {"w": np.arange(8, dtype=np.int64).reshape(4, 2)}
    >>> tensors, samples = decode_weights(encode_weights(weights, layout, 1), layout, 1)
    >>> tensors["w"].tolist(), samples
    ([[0, 1], [2, 3], [4, 5], [6, 7]], None)

    With ``mask`` they are those of the small network, and are not expanded. Raises
    :class:`MPFLError` for all bytes that :func:`encode_weights` would not write.
    """
    _, body = frame.read(payload, layout.fingerprint, round_, Kind.WEIGHTS)
    if mask is not None:
        masks.check(mask, layout)
    shapes = layout.shapes if mask is None else filters.cut_shapes(layout, mask)
    try:
        tensors = safetensors.numpy.load(body)
        # The samples are in the header: eight bytes that say how long it is, then JSON.
        header = json.loads(body[8 : 8 + int.from_bytes(body[:8], "little")])
        text = (header.get("__metadata__") or {}).get("samples")
        samples = None if text is None else int(text)
    except (SafetensorError, KeyError, ValueError) as error:
        raise MPFLError(f"weights are not readable safetensors ({error}); send again") from error
    require_weights(tensors, shapes)
    if _weights_body(tensors, samples) != body:
        raise MPFLError("weights are not canonical safetensors; encode them with encode_weights")
    return {name: tensors[name] for name in shapes}, samples


def weights_length(shapes: Mapping[str, tuple[int, ...]], samples: int | None = None) -> int:
    """How long a message of float32 tensors of these ``shapes`` is, and of its ``samples``.

    Law: ``len(encode_weights(...))`` of such tensors. The header of safetensors names
    every tensor and says between which bytes it lies, so its length depends on the sizes.
    """
    header: dict[str, object] = {}
    if samples is not None:
        header["__metadata__"] = {"samples": str(samples)}
    end = 0
    for name in sorted(shapes):
        begin, end = end, end + 4 * math.prod(shapes[name])
        header[name] = {
            "dtype": "F32",
            "shape": list(shapes[name]),
            "data_offsets": [begin, end],
        }
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False)
    padded = -(-len(text.encode()) // 8) * 8
    return frame.length(8 + padded + end)


def decode_start(payload: bytes, layout: Layout) -> int | dict[str, np.ndarray]:
    """What ``w0`` is: a seed to draw it from, or the weights, whole or rounded (round 0).

    >>> from mpfl.filters import Layer
    >>> layout = Layout((Layer("conv", 4, "w", own=("w",)),), shapes={"w": (4, 2)})
    >>> weights = {"w": np.zeros((4, 2), np.float32)}
    >>> decode_start(encode_weights(weights, layout, 0), layout)["w"].shape
    (4, 2)
    """
    starts = Kind.SEED, Kind.WEIGHTS, Kind.ROUNDED
    kind, body = frame.read(payload, layout.fingerprint, 0, *starts)
    if kind is Kind.SEED:
        return int.from_bytes(body, "little")
    if kind is Kind.ROUNDED:
        return decode_rounded(payload, layout)
    return decode_weights(payload, layout, 0)[0]
