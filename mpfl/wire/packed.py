"""Votes that are all equally long: checked all at once, added up 64 filters to a machine word.

A bit cannot count beyond 1, so the sum is kept as rows of bits of weight 1, 2, 4 and so on.
Three rows of one weight are replaced by two with the same sum: their parity, of that weight,
and their majority, the carry, of twice that weight. That takes five operations on whole words,
where the bits, added up one by one, would take one for each filter of each vote.

Source: the carry-save adders of Harley and Seal; Warren, *Hacker's Delight*, 2nd edition,
Addison-Wesley 2013, chapter 5.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import NoReturn

import numpy as np
from jaxtyping import Int64, UInt8, UInt64

from mpfl import masks
from mpfl.filters import Layout
from mpfl.types import Mask, MPFLError, located
from mpfl.wire import frame
from mpfl.wire.frame import Kind
from mpfl.wire.masks import decode_mask, fingerprint_of

BLOCK = 4096
"""How many votes are added up at once: enough to keep numpy busy, few enough for its caches."""


def packed_rows(
    payloads: Sequence[bytes],
    layout: Layout,
    round_: int,
    *,
    reference: Mask,
    nodes: Sequence[int] | None = None,
) -> UInt8[np.ndarray, "votes bytes"]:
    """The bodies of masks written with ``coding="packed"``, one per row, checked all at once.

    Law: it refuses exactly what :func:`~mpfl.wire.masks.decode_mask` refuses, in its words; row
    ``i`` packs the mask that it reads in ``payloads[i]``. The error names the node of the first
    bad payload, ``nodes[i]`` or else ``i``.

    >>> from mpfl.filters import Layer, Layout
    >>> from mpfl.wire.masks import encode_mask
    >>> layout = Layout((Layer("conv", 3, "w", ("w",)),), {"w": (3, 1, 3, 3)})
    >>> reference = masks.full(layout)
    >>> votes = [{"conv": np.array(bits, bool)} for bits in ([1, 0, 1], [1, 1, 0])]
    >>> inside = {"reference": reference, "coding": "packed"}
    >>> sent = [encode_mask(vote, layout, 1, **inside) for vote in votes]
    >>> packed_rows(sent, layout, 1, reference=reference)
    array([[5],
           [3]], dtype=uint8)
    """
    masks.check(reference, layout)
    # All good payloads of a round are alike but for their bodies and their checksums.
    alive = np.packbits(masks.flatten(reference, layout), bitorder="little")
    fingerprint = fingerprint_of(layout, reference)
    expected = frame.write(Kind.PACKED, fingerprint, round_, alive.tobytes())
    end = len(expected) - frame.CRC.size
    start = end - alive.size

    def refuse_the_first_bad() -> NoReturn:
        senders = range(len(payloads)) if nodes is None else nodes
        for node, payload in zip(senders, payloads, strict=True):
            with located(f"node {node}", f"round {round_}", "decode"):
                decode_mask(payload, layout, round_, reference=reference, coding="packed")
        raise AssertionError("a payload was found bad that decode_mask reads")

    sent = set(map(type, payloads)) <= {bytes, bytearray, memoryview}
    equally_long = sent and set(map(len, payloads)) <= {len(expected)}
    if not (equally_long and set(map(zlib.crc32, payloads)) <= {frame.SEALED}):
        refuse_the_first_bad()
    frames = np.frombuffer(b"".join(payloads), np.uint8).reshape(len(payloads), len(expected))
    heads, rows = frames[:, :start], frames[:, start:end]
    # A bit that no reference has: a filter brought back, or padding behind the last filter.
    back = np.bitwise_or.reduce(rows, axis=0) & ~alive
    if (heads != np.frombuffer(expected, np.uint8, start)).any() or back.any():
        refuse_the_first_bad()
    return rows


def add_packed(
    rows: UInt8[np.ndarray, "votes bytes"], filters: int
) -> Int64[np.ndarray, " filters"]:
    """For each filter, in how many rows its bit is set; the first is the lowest of byte 0.

    Law: equals ``np.unpackbits(rows, axis=1, count=filters, bitorder="little").sum(axis=0)``.
    ``rows`` is left as it is, and beside it no more memory is taken than for ``BLOCK`` rows.
    Raises :class:`~mpfl.types.MPFLError` if a row is not as long as ``filters`` bits are.

    >>> add_packed(np.array([[5], [3], [1]], np.uint8), 3)  # 101, 110 and 100, lowest bit first
    array([3, 1, 1])
    """
    if getattr(rows, "dtype", None) != np.uint8 or rows.ndim != 2:
        raise MPFLError("rows are not uint8[votes, bytes]; pack them by np.packbits")
    votes, length = rows.shape
    if length != (needed := (filters + 7) // 8):
        raise MPFLError(
            f"rows are of {length} bytes, but {filters} filters take {needed}; "
            "were they packed for another model?"
        )
    counts = np.zeros(filters, np.int64)
    for first in range(0, votes, BLOCK):
        block = rows[first : first + BLOCK]
        # Eight bytes to a machine word; the last word is filled up with zeros.
        words = np.zeros((len(block), (length + 7) // 8), np.uint64)
        words.view(np.uint8)[:, :length] = block
        weight = 1
        while len(words):
            # One or two rows of this weight are counted bit by bit, the carries count twice.
            left, words = _add_by_threes(words)
            bits = np.unpackbits(left.view(np.uint8), axis=1, count=filters, bitorder="little")
            counts += weight * bits.sum(axis=0, dtype=np.int64)
            weight *= 2
    return counts


def _add_by_threes(
    words: UInt64[np.ndarray, "votes words"],
) -> tuple[UInt64[np.ndarray, "left words"], UInt64[np.ndarray, "carries words"]]:
    """At most two rows of the same weight, and the carries, of twice that weight.

    Overwrites ``words``. Law: for each bit, left rows + 2 x carries = rows given.
    """
    carries = np.empty((len(words) // 2, words.shape[1]), np.uint64)
    carried = 0
    while third := len(words) // 3:
        # Row i of a, b and c are added, for all i at once: three bits make a sum and a carry.
        a, b, c = (words[i * third : (i + 1) * third] for i in range(3))
        one_of_two = a ^ b
        # The carry is the majority: both a and b, or one of them and c. It is worked out in the
        # places of a and b, which are not needed any more.
        a &= b
        np.bitwise_and(one_of_two, c, out=b)
        np.bitwise_or(a, b, out=carries[carried : carried + third])
        # The sum is the parity. It stays in the place of c, in front of rows not added yet.
        c ^= one_of_two
        carried += third
        words = words[2 * third :]
    return words, carries[:carried]
