"""What crosses the wire: every message as bytes, and back.

A message is a body in a frame (:mod:`mpfl.frame`) of 14 or 15 bytes. A mask is sent in the
shortest of three ways (:class:`Kind`): what it costs is close to :func:`limit_bits`, the
logarithm of the number of masks that it could have been. Law: decode(encode(x)) == x, and
decoding refuses all bytes that encoding would not write.

The places in a list mean nothing without the list. So a mask's frame names what it is written
inside, at no byte more: its fingerprint is that of the model, its ``reference`` and what both
ends know of its counts. A reader who holds another one refuses it.

Where both ends say so, masks are all sent PACKED, however short they could be: messages of
one length, which a server checks (:func:`packed_rows`) and adds up without decoding any.
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import safetensors.numpy
from jaxtyping import UInt8
from safetensors import SafetensorError

from mpfl import enumerative, filters, frame, masks, tally
from mpfl.filters import Layout
from mpfl.frame import Kind as Kind
from mpfl.frame import body_length as body_length
from mpfl.frame import kind_of as kind_of
from mpfl.frame import round_of as round_of
from mpfl.types import Mask, MPFLError, Weights, located

Keep = Mapping[str, int] | int
"""Kept counts that both sides know: one a layer, or one number for the whole network."""

Coding = Literal["shortest", "packed"]
"""How masks are written, which both sides know: in the fewest bytes, or all equally long."""


def encode_seed(seed: int, layout: Layout) -> bytes:
    """The start, as the seed that every party can draw ``w0`` from; 22 bytes."""
    if not 0 <= seed < 1 << 64:
        raise MPFLError(f"seed {seed} does not fit 64 bits; use one from 0 to 2**64 - 1")
    return frame.write(Kind.SEED, layout.fingerprint, 0, seed.to_bytes(8, "little"))


def encode_empty(layout: Layout, round_: int) -> bytes:
    """Say that there is nothing new, go on from what you have; 14 bytes."""
    return frame.write(Kind.EMPTY, layout.fingerprint, round_, b"")


def decode_empty(payload: bytes, layout: Layout, round_: int) -> None:
    """Refuse all but the :func:`encode_empty` of this model and round."""
    frame.read(payload, layout.fingerprint, round_, Kind.EMPTY)


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
    return frame.write(Kind.WEIGHTS, layout.fingerprint, round_, _weights_body(weights, samples))


def decode_weights(
    payload: bytes, layout: Layout, round_: int, *, mask: Mask | None = None
) -> tuple[dict[str, np.ndarray], int | None]:
    """The tensors as sent (``mask``: of the small network, not expanded) and the samples."""
    _, body = frame.read(payload, layout.fingerprint, round_, Kind.WEIGHTS)
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
    kind, body = frame.read(payload, layout.fingerprint, 0, Kind.SEED, Kind.WEIGHTS)
    if kind is Kind.SEED:
        return int.from_bytes(body, "little")
    return decode_weights(payload, layout, 0)[0]


def _inside(layout: Layout, reference: Mask, keep: Keep | None = None) -> bytes:
    """Four bytes that name what a mask or counts are written inside.

    The model's fingerprint where that is all: nothing pruned, no counts known. Else a CRC-32,
    which tells references apart that differ in up to three filters, or within 32 neighbours,
    for certain, and any others but for one chance in 2**32.
    """
    bits = masks.flatten(reference, layout)
    if keep is None and bits.all():
        return layout.fingerprint
    counts = [keep[name] for name in reference] if isinstance(keep, Mapping) else keep
    known = json.dumps(np.asarray(counts).tolist()).encode()
    return frame.CRC.pack(zlib.crc32(layout.fingerprint + known + np.packbits(bits).tobytes()))


def _groups(layout: Layout, reference: Mask, keep: Keep | None = None) -> list[np.ndarray]:
    """Where the alive filters are among all: a group a layer, but one in all for one count."""
    alive = np.flatnonzero(masks.flatten(reference, layout))
    ends = np.cumsum([layer.filters for layer in layout.layers])[:-1]
    by_layer = keep is None or isinstance(keep, Mapping)
    return np.split(alive, np.searchsorted(alive, ends)) if by_layer else [alive]


def _check(layout: Layout, reference: Mask, keep: Keep | None) -> None:
    masks.check(reference, layout)
    names = [layer.name for layer in layout.layers]
    if isinstance(keep, Mapping) and set(keep) != set(names):
        raise MPFLError(f"keep names layers {list(keep)}, but the model has {names}; name each")


def _prunes(layout: Layout, groups: list[np.ndarray], keep: Keep) -> list[int]:
    """How many filters of each group go when ``keep`` stay."""
    names = [layer.name for layer in layout.layers]
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
    _check(layout, reference, keep)
    masks.check(mask, layout, within=reference)
    bits = masks.flatten(mask, layout)
    packed = np.packbits(bits, bitorder="little").tobytes()
    if coding == "packed":
        return frame.write(Kind.PACKED, _inside(layout, reference), round_, packed)
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
    return frame.write(kind, _inside(layout, reference, keep), round_, bodies[kind])


def decode_mask(
    payload: bytes,
    layout: Layout,
    round_: int,
    *,
    reference: Mask,
    keep: Keep | None = None,
    coding: Coding = "shortest",
) -> dict[str, np.ndarray]:
    """The inverse of :func:`encode_mask`, given the same ``reference``, ``keep`` and ``coding``.

    Raises :class:`MPFLError` where it was written inside another reference, for another
    ``keep`` (which a packed mask does not know) or another model, or in another round.
    """
    _check(layout, reference, keep)
    kind = kind_of(payload)
    if coding == "packed" and kind in (Kind.KNOWN, Kind.NESTED):
        raise MPFLError(
            f"{kind.name} payload is not canonical where the coding is 'packed'; "
            "do both sides hold the same coding?"
        )
    if kind is Kind.KNOWN and keep is None:
        raise MPFLError("KNOWN payload leaves the kept counts out; give them as keep")
    fingerprint = _inside(layout, reference, None if coding == "packed" else keep)
    kind, body = frame.read(payload, fingerprint, round_, Kind.KNOWN, Kind.NESTED, Kind.PACKED)
    if kind is Kind.PACKED:
        if len(body) != (needed := (layout.filters + 7) // 8):
            raise MPFLError(
                f"body holds {len(body)} bytes, but {layout.filters} filters take {needed}; "
                "was it encoded for another model?"
            )
        packed = np.frombuffer(body, dtype=np.uint8)
        bits = np.unpackbits(packed, count=layout.filters, bitorder="little").astype(bool)
    else:
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
    fingerprint = _inside(layout, reference)
    expected = frame.write(Kind.PACKED, fingerprint, round_, alive.tobytes())
    end = len(expected) - frame.CRC.size
    start = end - alive.size

    def refuse_the_first_bad() -> None:
        senders = range(len(payloads)) if nodes is None else nodes
        for node, payload in zip(senders, payloads, strict=True):
            with located(f"node {node}", f"round {round_}", "decode"):
                decode_mask(payload, layout, round_, reference=reference, coding="packed")

    equally_long = set(map(len, payloads)) <= {len(expected)}
    if not (equally_long and set(map(zlib.crc32, payloads)) <= {frame.SEALED}):
        refuse_the_first_bad()
    frames = np.frombuffer(b"".join(payloads), np.uint8).reshape(len(payloads), len(expected))
    heads, rows = frames[:, :start], frames[:, start:end]
    # The padding behind the last filter is set in no reference either.
    back = np.bitwise_or.reduce(rows, axis=0) & ~alive
    if (heads != np.frombuffer(expected, np.uint8, start)).any() or back.any():
        refuse_the_first_bad()
    return rows


def encode_counts(
    votes: Mapping[str, np.ndarray], voters: int, layout: Layout, round_: int, *, reference: Mask
) -> bytes:
    """A vote histogram inside ``reference``: how many of ``voters`` keep each filter.

    The body is the number of voters in LEB128, then ceil(log2(voters + 1)) bits for each filter
    alive; of the others nothing is said, as nobody may vote for them. Raises
    :class:`MPFLError` for counts that the votes of so many cannot make.
    """
    masks.check(reference, layout)
    if voters < 1:
        raise MPFLError(f"counts of {voters} voters; wait for at least one")
    for layer in layout.layers:
        counts = votes.get(layer.name)
        if counts is None or counts.shape != (layer.filters,) or counts.dtype.kind not in "iu":
            raise MPFLError(f"counts of layer {layer.name!r} are not int[{layer.filters}]")
        if ((counts < 0) | (counts > voters * reference[layer.name])).any():
            raise MPFLError(
                f"counts of layer {layer.name!r} go beyond the {voters} voters, or bring back "
                "pruned filters; were the masks added up twice?"
            )
    alive = masks.flatten(votes, layout)[masks.flatten(reference, layout)]
    body = frame.write_varint(voters) + tally.pack_counts(alive, voters.bit_length())
    return frame.write(Kind.COUNTS, _inside(layout, reference), round_, body)


def decode_counts(
    payload: bytes, layout: Layout, round_: int, *, reference: Mask
) -> tuple[dict[str, np.ndarray], int]:
    """The inverse of :func:`encode_counts`: ``int64 [filters]`` by layer, and the voters.

    Refuses all that it would not write, as :func:`decode_mask` does.
    """
    masks.check(reference, layout)
    _, body = frame.read(payload, _inside(layout, reference), round_, Kind.COUNTS)
    voters, size = frame.read_varint(body[:5], "voters")
    alive = masks.flatten(reference, layout)
    bits, filters_alive = voters.bit_length(), int(alive.sum())
    if len(body) - size != (needed := (bits * filters_alive + 7) // 8):
        raise MPFLError(
            f"body holds {len(body) - size} bytes of counts, but those of {voters} voters and "
            f"{filters_alive} filters take {needed}; send again"
        )
    counts = np.zeros(layout.filters, np.int64)
    counts[alive] = tally.unpack_counts(body[size:], bits, filters_alive)
    votes = masks.unflatten(counts, layout)
    if encode_counts(votes, voters, layout, round_, reference=reference) != payload:
        raise MPFLError("COUNTS payload is not canonical; encode it with encode_counts")
    return votes, voters


def limit_bits(mask: Mask, reference: Mask, keep: Keep | None = None) -> float:
    """The combinatorial limit: sum over layers of log2 C(alive, pruned), in bits.

    Where ``keep`` is one count for the whole network all layers are one choice. It is what a
    mask takes on average where any other is as likely; a lucky one may take less.
    """
    alive, stay = masks.kept(reference), masks.kept(mask)
    if isinstance(keep, int):
        return math.log2(math.comb(sum(alive.values()), sum(stay.values())))
    return sum(math.log2(math.comb(alive[name], stay[name])) for name in alive)
