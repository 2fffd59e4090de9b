"""A sum of masks as bytes, and back: what a relay sends."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from jaxtyping import Int64

from mpfl import masks
from mpfl.filters import Layout
from mpfl.types import Mask, MPFLError, is_whole
from mpfl.wire import frame
from mpfl.wire.frame import Kind
from mpfl.wire.masks import fingerprint_of


def encode_counts(
    votes: Mapping[str, np.ndarray], voters: int, layout: Layout, round_: int, *, reference: Mask
) -> bytes:
    """A vote histogram inside ``reference``: how many of ``voters`` keep each filter.

    >>> from mpfl.filters import Layer
    >>> layout = Layout((Layer("conv", 4, "w", own=("w",)),), shapes={"w": (4, 2)})
    >>> alive = {"conv": np.array([True, False, True, True])}
    >>> message = encode_counts({"conv": np.array([3, 0, 2, 1])}, 3, layout, 1, reference=alive)
    >>> frame.body_length(message)  # a byte for the voters, two bits per filter alive
    2

    The body is the number of voters in LEB128, then ceil(log2(voters + 1)) bits for each filter
    alive; it says nothing of the others, as nobody may vote for them. Raises
    :class:`MPFLError` for counts that the votes of so many cannot make.
    """
    masks.check(reference, layout)
    if not (is_whole(voters) and voters >= 1):
        raise MPFLError(f"counts of {voters!r} voters; wait for at least one")
    if not isinstance(votes, Mapping):
        raise MPFLError(f"counts are a {type(votes).__name__}; give an int array by layer")
    for layer in layout.layers:
        counts = votes.get(layer.name)
        if (
            not isinstance(counts, np.ndarray)
            or counts.shape != (layer.filters,)
            or counts.dtype.kind not in "iu"
        ):
            raise MPFLError(f"counts of layer {layer.name!r} are not int[{layer.filters}]")
        if ((counts < 0) | (counts > voters * reference[layer.name])).any():
            raise MPFLError(
                f"counts of layer {layer.name!r} go beyond the {voters} voters, or bring back "
                "pruned filters; were the masks added up twice?"
            )
    alive = masks.flatten(votes, layout)[masks.flatten(reference, layout)]
    body = frame.write_varint(int(voters)) + pack_counts(alive, int(voters).bit_length())
    return frame.write(Kind.COUNTS, fingerprint_of(layout, reference), round_, body)


def decode_counts(
    payload: bytes, layout: Layout, round_: int, *, reference: Mask
) -> tuple[dict[str, np.ndarray], int]:
    """The inverse of :func:`encode_counts`: ``int64 [filters]`` by layer, and the voters.

    >>> from mpfl.filters import Layer
    >>> layout = Layout((Layer("conv", 4, "w", own=("w",)),), shapes={"w": (4, 2)})
    >>> alive = {"conv": np.array([True, False, True, True])}
    >>> message = encode_counts({"conv": np.array([3, 0, 2, 1])}, 3, layout, 1, reference=alive)
    >>> decode_counts(message, layout, 1, reference=alive)
    ({'conv': array([3, 0, 2, 1])}, 3)

    Raises :class:`MPFLError` for all bytes that :func:`encode_counts` would not write.
    """
    masks.check(reference, layout)
    _, body = frame.read(payload, fingerprint_of(layout, reference), round_, Kind.COUNTS)
    voters, size = frame.read_varint(body[:5], "voters")
    alive = masks.flatten(reference, layout)
    bits, filters_alive = voters.bit_length(), int(alive.sum())
    if len(body) - size != (needed := (bits * filters_alive + 7) // 8):
        raise MPFLError(
            f"body holds {len(body) - size} bytes of counts, but those of {voters} voters and "
            f"{filters_alive} filters take {needed}; send again"
        )
    counts = np.zeros(layout.filters, np.int64)
    counts[alive] = unpack_counts(body[size:], bits, filters_alive)
    votes = masks.unflatten(counts, layout)
    if encode_counts(votes, voters, layout, round_, reference=reference) != payload:
        raise MPFLError("COUNTS payload is not canonical; encode it with encode_counts")
    return votes, voters


def pack_counts(counts: Int64[np.ndarray, " filters"], bits: int) -> bytes:
    """Whole numbers below ``2**bits`` in ``bits`` bits each, the lowest first, padded to a byte.

    >>> pack_counts(np.array([3, 0, 2]), bits=2).hex()  # 3 + 0 * 4 + 2 * 16 = 35 = 0x23
    '23'
    """
    digits = counts[:, None] >> np.arange(bits) & 1
    return np.packbits(digits.astype(np.uint8), bitorder="little").tobytes()


def unpack_counts(body: bytes, bits: int, filters: int) -> Int64[np.ndarray, " filters"]:
    """The inverse of :func:`pack_counts`; what the padding holds makes no difference.

    >>> unpack_counts(bytes.fromhex("23"), bits=2, filters=3).tolist()
    [3, 0, 2]
    """
    packed = np.frombuffer(body, np.uint8)
    digits = np.unpackbits(packed, count=bits * filters, bitorder="little").reshape(filters, bits)
    return digits.astype(np.int64) @ (1 << np.arange(bits))
