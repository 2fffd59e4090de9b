"""Adding up votes as they come off the wire: packed, 64 filters to a machine word.

A bit cannot count beyond 1, so the sum is kept as rows of bits of weight 1, 2, 4 and so on.
Three rows of one weight are replaced by two with the same sum: their parity, of that weight,
and their majority, the carry, of twice that weight. That takes five operations on whole words,
where the bits, added up one by one, would take one for each filter of each vote.

Source: the carry-save adders of Harley and Seal; Warren, *Hacker's Delight*, 2nd edition,
Addison-Wesley 2013, chapter 5.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Int64, UInt8, UInt64

from mpfl.types import MPFLError

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


def pack_counts(counts: Int64[np.ndarray, " filters"], bits: int) -> bytes:
    """Whole numbers below ``2**bits``, ``bits`` each, the lowest first, padded to a byte."""
    digits = counts[:, None] >> np.arange(bits) & 1
    return np.packbits(digits.astype(np.uint8), bitorder="little").tobytes()


def unpack_counts(body: bytes, bits: int, filters: int) -> Int64[np.ndarray, " filters"]:
    """The inverse of :func:`pack_counts`; padding is not looked at."""
    packed = np.frombuffer(body, np.uint8)
    digits = np.unpackbits(packed, count=bits * filters, bitorder="little").reshape(filters, bits)
    return digits.astype(np.int64) @ (1 << np.arange(bits))


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
