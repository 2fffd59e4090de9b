"""What crosses the wire: every message as bytes, and back.

A message is a frame round a body, 14 bytes more than the body (15 from 128 bytes on)::

    "MP" | version, kind | round     | fingerprint | length   | body | CRC-32 of all before
    2    | 4 + 4 bits    | 2, little | 4           | 1-5 LEB128 | ... | 4, little

A mask is sent in the shortest of three ways (:class:`Kind`): what it costs is close to
:func:`limit_bits`, the logarithm of the number of masks that it could have been. Law:
decode(encode(x)) == x, and decoding refuses all bytes that encoding would not write.

Where both ends say so, masks are all sent PACKED, however short they could be: messages of
one length, which a server checks (:func:`packed_rows`) and adds up without decoding any.
"""

from __future__ import annotations

import json
import math
import struct
import zlib
from collections.abc import Mapping, Sequence
from enum import IntEnum
from typing import Literal

import numpy as np
import safetensors.numpy
from jaxtyping import UInt8
from safetensors import SafetensorError

from mpfl import enumerative, filters, masks
from mpfl.filters import Layout
from mpfl.types import Mask, MPFLError, Weights, located

MAGIC, VERSION = b"MP", 1
_HEAD = struct.Struct("<2sBH4s")
_CRC = struct.Struct("<I")
_SEALED = 0x2144DF1C  # the CRC-32 of any message that ends in its own, and of no other

Keep = Mapping[str, int] | int
"""Kept counts that both sides know: one a layer, or one number for the whole network."""

Coding = Literal["shortest", "packed"]
"""How masks are written, which both sides know: in the fewest bytes, or all equally long."""


class Kind(IntEnum):
    """What a body holds."""

    SEED = 1  # u64: w0 is the random initialisation of this seed
    WEIGHTS = 2  # safetensors, perhaps with the number of samples behind them
    EMPTY = 3  # nothing new, go on from what you have
    PACKED = 4  # a mask, one bit a filter, the first filter in the lowest bit
    NESTED = 5  # a mask, as the choice of new prunes among the reference's filters
    KNOWN = 6  # the same, their counts left out: both sides know them


_FIXED = {Kind.SEED: 8, Kind.EMPTY: 0}


def _varint(number: int) -> bytes:
    """``number`` in LEB128: seven bits a byte, the lowest first, the top bit for "more"."""
    if number >> 35:
        raise MPFLError(f"a body of {number} bytes is too long to frame; send less at once")
    out = bytearray()
    while number >> 7:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])


def _frame(kind: Kind, layout: Layout, round_: int, body: bytes) -> bytes:
    if not 0 <= round_ < 1 << 16:
        raise MPFLError(f"round {round_} does not fit the frame; rounds go from 0 to 65535")
    head = _HEAD.pack(MAGIC, VERSION << 4 | kind, round_, layout.fingerprint)
    message = b"".join((head, _varint(len(body)), body))
    return message + _CRC.pack(zlib.crc32(message))


def _parse(payload: bytes) -> tuple[Kind, int, bytes, bytes]:
    """Kind, round, fingerprint and body of a frame that is whole."""
    if len(payload) < _HEAD.size + 1 + _CRC.size:
        raise MPFLError(f"payload is too short: {len(payload)} bytes; was it sent whole?")
    magic, tag, round_, fingerprint = _HEAD.unpack_from(payload)
    if magic != MAGIC:
        raise MPFLError(f"payload begins with {magic!r}, not {MAGIC!r}; it is no mpfl message")
    if tag >> 4 != VERSION:
        raise MPFLError(f"payload is of version {tag >> 4}, not {VERSION}; use equal mpfl versions")
    length, start = 0, _HEAD.size
    for place, byte in enumerate(payload[start : start + 5]):
        length |= (byte & 127) << 7 * place
        start += 1
        if byte < 128:
            break
    if payload[_HEAD.size : start] != _varint(length):
        raise MPFLError("the length field is not canonical LEB128; is the payload damaged?")
    if len(payload) != (whole := start + length + _CRC.size):
        what = "is cut short" if len(payload) < whole else "has trailing bytes"
        raise MPFLError(f"payload {what}: {len(payload)} bytes, the frame says {whole}; send again")
    if _CRC.unpack_from(payload, start + length)[0] != zlib.crc32(payload[: start + length]):
        raise MPFLError("checksum mismatch: the payload was damaged on its way; send again")
    if tag & 15 not in Kind.__members__.values():
        raise MPFLError(f"payload is of unknown kind {tag & 15}; use equal mpfl versions")
    kind, body = Kind(tag & 15), payload[start : start + length]
    if len(body) != (needed := _FIXED.get(kind, len(body))):
        raise MPFLError(f"{kind.name} body holds {len(body)} bytes, not {needed}; send again")
    return kind, round_, fingerprint, body


def _open(payload: bytes, layout: Layout, round_: int, *kinds: Kind) -> tuple[Kind, bytes]:
    """Kind and body of a message that is of these kinds, this model and this round."""
    kind, sent, fingerprint, body = _parse(payload)
    if kind not in kinds:
        names = " or ".join(each.name for each in kinds)
        raise MPFLError(f"payload is of kind {kind.name}, but {names} is due; is it out of turn?")
    if fingerprint != layout.fingerprint:
        raise MPFLError(
            f"payload is for model {fingerprint.hex()}, not {layout.fingerprint.hex()}; "
            "was it encoded for another model?"
        )
    if sent != round_:
        raise MPFLError(f"payload is of round {sent}, not {round_}; is it late or out of turn?")
    return kind, body


def kind_of(payload: bytes) -> Kind:
    """What a message holds. Raises :class:`MPFLError` where the frame is not whole."""
    return _parse(payload)[0]


def round_of(payload: bytes) -> int:
    """Which round a message belongs to. Raises :class:`MPFLError` where it is not whole."""
    return _parse(payload)[1]


def encode_seed(seed: int, layout: Layout) -> bytes:
    """The start, as the seed that every party can draw ``w0`` from; 22 bytes."""
    if not 0 <= seed < 1 << 64:
        raise MPFLError(f"seed {seed} does not fit 64 bits; use one from 0 to 2**64 - 1")
    return _frame(Kind.SEED, layout, 0, seed.to_bytes(8, "little"))


def encode_empty(layout: Layout, round_: int) -> bytes:
    """Say that there is nothing new, go on from what you have; 14 bytes."""
    return _frame(Kind.EMPTY, layout, round_, b"")


def decode_empty(payload: bytes, layout: Layout, round_: int) -> None:
    """Refuse all but the :func:`encode_empty` of this model and round."""
    _open(payload, layout, round_, Kind.EMPTY)


def _check_weights(weights: Weights, shapes: Mapping[str, tuple[int, ...]]) -> None:
    if missing := sorted(shapes.keys() - weights.keys()):
        raise MPFLError(f"weights lack tensors {missing[:3]}; are they of another model?")
    if extra := sorted(weights.keys() - shapes.keys()):
        raise MPFLError(f"weights hold unknown tensors {extra[:3]}; are they of another model?")
    for name, shape in shapes.items():
        array = weights[name]
        if array.shape != tuple(shape):
            raise MPFLError(
                f"tensor {name!r} is of shape {list(array.shape)}, not {list(shape)}; "
                "do both sides hold the same mask?"
            )
        if array.dtype.kind not in "fiu" or array.dtype.itemsize > 8:
            raise MPFLError(f"tensor {name!r} is of type {array.dtype}; send floats or integers")
        if not np.isfinite(array).all():
            raise MPFLError(f"tensor {name!r} holds NaN or infinity; did the training diverge?")


def _weights_body(weights: Weights, samples: int | None) -> bytes:
    if samples is not None and not 0 <= samples < 1 << 63:
        raise MPFLError(f"samples is {samples}; give how many the weights were trained on")
    # safetensors reads the memory as it lies: transposed views would come out scrambled.
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
    """All tensors in their own types, or with ``mask`` those of the small network only.

    ``samples`` is how many samples they were trained on. Raises :class:`MPFLError` where
    names or shapes are not the layout's, or a value is not finite.
    """
    _check_weights(weights, layout.shapes)
    if mask is not None:
        masks.check(mask, layout)
        weights = filters.cut(weights, mask, layout)
    return _frame(Kind.WEIGHTS, layout, round_, _weights_body(weights, samples))


def decode_weights(
    payload: bytes, layout: Layout, round_: int, *, mask: Mask | None = None
) -> tuple[dict[str, np.ndarray], int | None]:
    """The tensors as sent (``mask``: of the small network, not expanded) and the samples."""
    _, body = _open(payload, layout, round_, Kind.WEIGHTS)
    if mask is not None:
        masks.check(mask, layout)
    shapes = layout.shapes if mask is None else filters.cut_shapes(layout, mask)
    try:
        tensors = safetensors.numpy.load(body)
        header = json.loads(body[8 : 8 + int.from_bytes(body[:8], "little")])
        text = (header.get("__metadata__") or {}).get("samples")
        samples = None if text is None else int(text)
    except (SafetensorError, KeyError, ValueError) as error:
        raise MPFLError(f"weights are not readable safetensors ({error}); send again") from error
    _check_weights(tensors, shapes)
    if _weights_body(tensors, samples) != body:
        raise MPFLError("weights are not canonical safetensors; encode them with encode_weights")
    return {name: tensors[name] for name in shapes}, samples


def decode_start(payload: bytes, layout: Layout) -> int | dict[str, np.ndarray]:
    """What ``w0`` is: a seed to draw it from, or the weights themselves (round 0)."""
    kind, body = _open(payload, layout, 0, Kind.SEED, Kind.WEIGHTS)
    if kind is Kind.SEED:
        return int.from_bytes(body, "little")
    return decode_weights(payload, layout, 0)[0]


def _groups(layout: Layout, reference: Mask, keep: Keep | None = None) -> list[np.ndarray]:
    """Where the alive filters are among all: a group a layer, but one in all for one count."""
    alive = np.flatnonzero(masks.flatten(reference, layout))
    ends = np.cumsum([layer.filters for layer in layout.layers])[:-1]
    by_layer = keep is None or isinstance(keep, Mapping)
    return np.split(alive, np.searchsorted(alive, ends)) if by_layer else [alive]


def _prunes(layout: Layout, groups: list[np.ndarray], keep: Keep) -> list[int]:
    """How many filters of each group go when ``keep`` stay."""
    names = [layer.name for layer in layout.layers]
    if isinstance(keep, Mapping) and set(keep) != set(names):
        raise MPFLError(f"keep names layers {list(keep)}, but the model has {names}; name each")
    stay = [keep[name] for name in names] if isinstance(keep, Mapping) else [keep]
    return [len(group) - int(count) for group, count in zip(groups, stay, strict=True)]


def encode_mask(
    mask: Mask,
    layout: Layout,
    round_: int,
    *,
    reference: Mask,
    keep: Keep | None = None,
    coding: Coding = "shortest",
) -> bytes:
    """A mask inside ``reference``, the shortest of PACKED, NESTED and KNOWN.

    KNOWN takes part where ``mask`` holds exactly the counts of ``keep``. Of equally short
    ones KNOWN goes first, then NESTED. ``coding="packed"`` always writes PACKED. Raises
    :class:`MPFLError` where the mask does not fit the layout or brings a filter back.
    """
    masks.check(reference, layout)
    masks.check(mask, layout, within=reference)
    bits = masks.flatten(mask, layout)
    packed = np.packbits(bits, bitorder="little").tobytes()
    if coding == "packed":
        return _frame(Kind.PACKED, layout, round_, packed)
    bodies = {}
    if keep is not None:
        groups = _groups(layout, reference, keep)
        subsets = [(~bits[group]).tolist() for group in groups]
        if [sum(subset) for subset in subsets] == _prunes(layout, groups, keep):
            bodies[Kind.KNOWN] = enumerative.encode(subsets, known=True)
    subsets = [(~bits[group]).tolist() for group in _groups(layout, reference)]
    bodies[Kind.NESTED] = enumerative.encode(subsets, known=False)
    bodies[Kind.PACKED] = packed
    kind = min(bodies, key=lambda kind: len(bodies[kind]))
    return _frame(kind, layout, round_, bodies[kind])


def decode_mask(
    payload: bytes,
    layout: Layout,
    round_: int,
    *,
    reference: Mask,
    keep: Keep | None = None,
    coding: Coding = "shortest",
) -> dict[str, np.ndarray]:
    """The inverse of :func:`encode_mask`, given the same ``reference``, ``keep`` and ``coding``."""
    masks.check(reference, layout)
    kind, body = _open(payload, layout, round_, Kind.KNOWN, Kind.NESTED, Kind.PACKED)
    if coding == "packed" and kind is not Kind.PACKED:
        raise MPFLError(
            f"{kind.name} payload is not canonical where the coding is 'packed'; "
            "do both sides hold the same coding?"
        )
    if kind is Kind.PACKED:
        if len(body) != (needed := (layout.filters + 7) // 8):
            raise MPFLError(
                f"body holds {len(body)} bytes, but {layout.filters} filters take {needed}; "
                "was it encoded for another model?"
            )
        packed = np.frombuffer(body, dtype=np.uint8)
        bits = np.unpackbits(packed, count=layout.filters, bitorder="little").astype(bool)
    else:
        if kind is Kind.KNOWN and keep is None:
            raise MPFLError("KNOWN payload leaves the kept counts out; give them as keep")
        known = keep if kind is Kind.KNOWN else None
        groups = _groups(layout, reference, known)
        counts = None if known is None else _prunes(layout, groups, known)
        subsets = enumerative.decode(body, [len(group) for group in groups], counts)
        bits = np.zeros(layout.filters, dtype=bool)
        for group, subset in zip(groups, subsets, strict=True):
            bits[group] = ~np.array(subset, dtype=bool)
    mask = masks.unflatten(bits, layout)
    again = encode_mask(mask, layout, round_, reference=reference, keep=keep, coding=coding)
    if again != payload:
        raise MPFLError(
            f"{kind.name} payload is not canonical: encode_mask writes this mask otherwise; "
            "do both sides hold the same reference, keep and coding?"
        )
    return mask


def packed_rows(
    payloads: Sequence[bytes],
    layout: Layout,
    round_: int,
    *,
    reference: Mask,
    nodes: Sequence[int] | None = None,
) -> UInt8[np.ndarray, "votes bytes"]:
    """The bodies of masks written with ``coding="packed"``, one a row, checked all at once.

    Law: refused is exactly what :func:`decode_mask` refuses, in its words; row ``i`` packs
    the mask that it reads in ``payloads[i]``. The error names the node of the first bad
    payload, ``nodes[i]`` or else ``i``.
    """
    masks.check(reference, layout)
    alive = np.packbits(masks.flatten(reference, layout), bitorder="little")
    expected = _frame(Kind.PACKED, layout, round_, alive.tobytes())
    end = len(expected) - _CRC.size
    start = end - alive.size

    def refuse_the_first_bad() -> None:
        senders = range(len(payloads)) if nodes is None else nodes
        for node, payload in zip(senders, payloads, strict=True):
            with located(f"node {node}", f"round {round_}", "decode"):
                decode_mask(payload, layout, round_, reference=reference, coding="packed")

    equally_long = set(map(len, payloads)) <= {len(expected)}
    if not (equally_long and set(map(zlib.crc32, payloads)) <= {_SEALED}):
        refuse_the_first_bad()
    frames = np.frombuffer(b"".join(payloads), np.uint8).reshape(len(payloads), len(expected))
    heads, rows = frames[:, :start], frames[:, start:end]
    # The padding behind the last filter is set in no reference either.
    back = np.bitwise_or.reduce(rows, axis=0) & ~alive
    if (heads != np.frombuffer(expected, np.uint8, start)).any() or back.any():
        refuse_the_first_bad()
    return rows


def limit_bits(mask: Mask, reference: Mask, keep: Keep | None = None) -> float:
    """The combinatorial limit: sum over layers of log2 C(alive, pruned), in bits.

    Where ``keep`` is one count for the whole network all layers are one choice. It is what a
    mask takes on average where any other is as likely; a lucky one may take less.
    """
    alive, stay = masks.kept(reference), masks.kept(mask)
    if isinstance(keep, int):
        return math.log2(math.comb(sum(alive.values()), sum(stay.values())))
    return sum(math.log2(math.comb(alive[name], stay[name])) for name in alive)


def body_length(payload: bytes) -> int:
    """How many bytes of a message are its body; the others are the frame."""
    return len(_parse(payload)[3])
