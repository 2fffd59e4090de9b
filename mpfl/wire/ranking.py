"""Subsets of up to 64 things as whole numbers, many at once.

The subsets of one size, listed in alphabetical order, are numbered 0, 1, 2, ...; the place of a
subset in that list is its *rank*. Of 64 things a rank fits a machine word, so NumPy finds those of
thousands of subsets side by side.

Source: Knuth, *The Art of Computer Programming* 4A, 7.2.1.3.
"""

from __future__ import annotations

from math import comb

import numpy as np
from jaxtyping import Bool, Int64

RUN = 64
"""Of how many things at most a subset is ranked."""

PATTERNS = [[comb(size, count) for count in range(RUN + 1)] for size in range(RUN + 1)]
"""``PATTERNS[size][count]``: how many subsets of ``count`` things ``size`` things have."""

# [left, wanted]: of the subsets of `wanted` out of `left` things, how many contain the first.
_CONTAINING = np.zeros((RUN + 1, RUN + 1), np.int64)
_CONTAINING[1:, 1:] = np.array(PATTERNS)[:-1, :-1]


def rank(
    subsets: Bool[np.ndarray, "subsets 64"], sizes: Int64[np.ndarray, " subsets"]
) -> Int64[np.ndarray, " subsets"]:
    """The place of each row among all subsets of its size and count, from 0.

    Row ``i`` is a subset of ``sizes[i]`` things, filled up with False. The pairs out of four things
    are 01, 02, 03, 12, 13, 23, and 13 has four before it:

    >>> pair = np.isin(np.arange(64), [1, 3])
    >>> rank(pair[None], np.array([4]))
    array([4])

    Law: equals the index in ``list(itertools.combinations(range(size), count))``.
    """
    left, wanted = sizes.copy(), np.count_nonzero(subsets, axis=1)
    ranks = np.zeros(len(subsets), np.int64)
    for chosen in np.ascontiguousarray(subsets.T):
        # Of the subsets that agree so far, those that contain the next thing stand first in the
        # list. If it is chosen, nothing new comes before; if not, all of those do.
        ranks += np.where(chosen, 0, _CONTAINING[left, wanted])
        wanted -= chosen
        left -= left > 0
    return ranks


def unrank(
    ranks: Int64[np.ndarray, " subsets"],
    sizes: Int64[np.ndarray, " subsets"],
    counts: Int64[np.ndarray, " subsets"],
) -> Bool[np.ndarray, "subsets 64"]:
    """The subsets that have these ranks, one per row.

    >>> unrank(np.array([4]), np.array([4]), np.array([2])).nonzero()[1]
    array([1, 3])

    Law: ``unrank(rank(s, sizes), sizes, s.sum(axis=1)) == s``. Every rank is below the number of
    subsets of its size and count.
    """
    ranks, left, wanted = ranks.copy(), sizes.copy(), counts.copy()
    subsets = np.zeros((RUN, len(ranks)), bool)
    for chosen in subsets:
        # As in `rank`: is it one of the subsets that contain the next thing, which stand first?
        containing = _CONTAINING[left, wanted]
        np.less(ranks, containing, out=chosen)
        # If not, pass over those, and go on with a place among the rest.
        ranks -= np.where(chosen, 0, containing)
        wanted -= chosen
        left -= left > 0
    return subsets.T
