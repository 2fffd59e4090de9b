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

import numpy as np
from jaxtyping import Int64, UInt8, UInt64

from mpfl import masks
from mpfl.filters import Layout
from mpfl.types import Mask, MPFLError, located
from mpfl.wire import frame
from mpfl.wire.frame import Kind
from mpfl.wire.masks import _inside, decode_mask


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


BLOCK = 4096
"""How many votes are added up at once: enough to keep numpy busy, few enough for its caches."""


def add_packed(
    rows: UInt8[np.ndarray, "votes bytes"], filters: int
) -> Int64[np.ndarray, " filters"]:
    """For each filter, in how many rows its bit is set; the first is the lowest of byte 0.

    Law: equals ``np.unpackbits(rows, axis=1, count=filters, bitorder="little").sum(axis=0)``.
    ``rows`` is left as it is, and beside it no more memory is taken than for ``BLOCK`` rows.
    Raises :class:`~mpfl.types.MPFLError` where a row is not as long as ``filters`` bits are.
    """
    votes, length = rows.shape
    if length != (needed := (filters + 7) // 8):
        raise MPFLError(
            f"rows are of {length} bytes, but {filters} filters take {needed}; "
            "were they packed for another model?"
        )
    counts = np.zeros(filters, np.int64)
    for first in range(0, votes, BLOCK):
        block = rows[first : first + BLOCK]
        words = np.zeros((len(block), (length + 7) // 8), np.uint64)
        words.view(np.uint8)[:, :length] = block
        weight = 1
        while len(words):
            left, words = _add_by_threes(words)
            bits = np.unpackbits(left.view(np.uint8), axis=1, count=filters, bitorder="little")
            counts += weight * bits.sum(axis=0, dtype=np.int64)
            weight *= 2
    return counts


def _add_by_threes(
    words: UInt64[np.ndarray, "votes words"],
) -> tuple[UInt64[np.ndarray, "left words"], UInt64[np.ndarray, "carries words"]]:
    """At most two rows of the same weight, and the carries, of twice of it; spoils ``words``.

    The thirds of the block are added at once: a row of each to one sum and one carry.
    """
    carries = np.empty((len(words) // 2, words.shape[1]), np.uint64)
    carried = 0
    while third := len(words) // 3:
        a, b, c = (words[i * third : (i + 1) * third] for i in range(3))
        one_of_two = a ^ b
        a &= b
        np.bitwise_and(one_of_two, c, out=b)
        np.bitwise_or(a, b, out=carries[carried : carried + third])
        c ^= one_of_two
        carried += third
        words = words[2 * third :]
    return words, carries[:carried]
