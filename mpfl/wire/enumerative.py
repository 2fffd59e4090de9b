"""Choices of ``k`` out of ``n`` things as bytes: as few as their number asks for.

If every choice is equally likely, log2 C(n, k) bits are the fewest. :mod:`mpfl.wire.range_coder`
makes one number of all groups of things, so the rounding up to bytes is paid once. Here that number
gets the counts of a reader who does not know them, and its length.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from jaxtyping import Bool

from mpfl.types import MPFLError
from mpfl.wire.range_coder import WORD, first_interval, number_of, run_sizes, runs_of
from mpfl.wire.ranking import RUN, rank, unrank

Subset: TypeAlias = Bool[np.ndarray, " _"]
"""One bool per thing, ``True`` = chosen."""


def width(sizes: Sequence[int], counts: Sequence[int], *, known: bool) -> int:
    """How many bytes :func:`encode` makes of choices of so many things.

    >>> width([4, 3], [2, 1], known=True)  # 6 * 3 choices
    1

    Raises :class:`MPFLError` for an impossible count.
    """
    ways, words = first_interval(tuple(sizes), tuple(counts))
    numbers = (ways << WORD * words) * (1 if known else _all_counts(sizes))
    return ((numbers - 1).bit_length() + 7) // 8


def encode(subsets: Sequence[Subset], *, known: bool) -> bytes:
    r"""The subsets as bytes, little endian; ``known``: the reader knows how many are chosen.

    >>> subsets = [np.array([False, True, False, True]), np.array([False, False, True])]
    >>> encode(subsets, known=True)
    b'\x10'

    That is rank 4 of 6 and rank 2 of 3: ``4 + 6 * 2 = 16``. If the reader does not know how many
    are chosen, the counts are the digits before, each from 0 to the size.
    """
    sizes = [len(subset) for subset in subsets]
    counts = [int(np.count_nonzero(subset)) for subset in subsets]
    # All runs of all groups, a row each. Where all things are alike there is nothing to say.
    open_ = _open(sizes, counts)
    rows = [_rows(subsets[group]) for group in reversed(open_)]
    runs = np.concatenate([np.zeros((0, RUN), bool), *rows])
    ranks = rank(runs, _row_sizes([sizes[group] for group in open_])).tolist()
    number = number_of(
        [sizes[group] for group in open_],
        [counts[group] for group in open_],
        zip(np.count_nonzero(runs, axis=1).tolist(), ranks, strict=True),
    )
    if not known:
        for size, count in zip(reversed(sizes), reversed(counts), strict=True):
            number = number * (size + 1) + count
    return number.to_bytes(width(sizes, counts, known=known), "little")


def decode(body: bytes, sizes: Sequence[int], counts: Sequence[int] | None = None) -> list[Subset]:
    r"""The inverse of :func:`encode`; give ``counts`` if it was written with ``known``.

    >>> decode(b"\x10", sizes=[4, 3], counts=[2, 1])
    [array([False,  True, False,  True]), array([False, False,  True])]

    Only what :func:`encode` writes is accepted: raises :class:`MPFLError` for a wrong length, an
    impossible count or a number that stands for no choice.
    """
    # A choice takes at most `size` bits, as C(n, k) <= 2**n, and its count some more. A longer
    # body is refused before it becomes a number.
    if 8 * (len(body) - 1) >= sum(size + (size + 1).bit_length() for size in sizes):
        raise MPFLError(f"a body of {len(body)} bytes is too long for {sum(sizes)} filters")
    number, known = int.from_bytes(body, "little"), counts is not None
    if counts is None:
        number, digits = divmod(number, _all_counts(sizes))
        counts = []
        for size in sizes:
            digits, count = divmod(digits, size + 1)
            counts.append(count)
    # One length per choice of counts, so that no two bodies mean the same.
    if len(body) != (needed := width(sizes, counts, known=known)):
        raise MPFLError(
            f"body holds {len(body)} bytes, but choosing {sum(counts)} of {sum(sizes)} filters "
            f"takes {needed}; do both sides hold the same reference and counts?"
        )
    # The runs, a row each, and the groups that they make up.
    open_ = _open(sizes, counts)
    of_runs = runs_of(number, [sizes[group] for group in open_], [counts[group] for group in open_])
    run_counts, ranks = (np.array(numbers, np.int64) for numbers in of_runs)
    rows = unrank(ranks, _row_sizes([sizes[group] for group in open_]), run_counts)
    subsets = [np.full(size, count > 0) for size, count in zip(sizes, counts, strict=True)]
    first = 0
    for group in reversed(open_):
        height = -(-sizes[group] // RUN)
        subsets[group] = rows[first : first + height].reshape(-1)[: sizes[group]]
        first += height
    return subsets


def _open(sizes: Sequence[int], counts: Sequence[int]) -> list[int]:
    """The groups in which there is something to choose: neither all things nor none."""
    return [group for group, size in enumerate(sizes) if counts[group] not in (0, size)]


def _rows(subset: Subset) -> Bool[np.ndarray, "runs 64"]:
    """A subset in runs of 64 things, the last one filled up with False."""
    rows = np.zeros((-(-len(subset) // RUN), RUN), bool)
    rows.reshape(-1)[: len(subset)] = subset
    return rows


def _row_sizes(sizes: Sequence[int]) -> np.ndarray:
    """How many things the row of each run has, those of the last group first."""
    return np.array([run for size in reversed(sizes) for run in run_sizes(size)], np.int64)


def _all_counts(sizes: Sequence[int]) -> int:
    """How many possible counts there are, of all groups together."""
    return math.prod(size + 1 for size in sizes)
