"""The slow twin of the coder of subsets, as it was in version 1 of the frame: exact everywhere.

The subsets of one size, listed in alphabetical order, are numbered 0, 1, 2, ...; a
subset is sent as its place in that list (its *rank*). That takes log2 C(n, k) bits, the
fewest possible if every choice is equally likely. Several numbers travel as the digits of
one big number in mixed radix, so the rounding up to bytes is paid once.

Its time is quadratic in the things. How long its messages are holds for the fast one too.

Source: Cover, *Enumerative source encoding*, IEEE Trans. Inf. Theory 19(1), 1973;
Knuth, *The Art of Computer Programming* 4A, 7.2.1.3.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from mpfl.types import MPFLError

Subset = Sequence[bool]
"""One bool per thing, ``True`` = chosen."""


def _ways(size: int, count: int) -> int:
    """The number of subsets of ``count`` out of ``size`` things."""
    if not 0 <= count <= size:
        raise MPFLError(f"cannot choose {count} of {size}; do both sides hold the same counts?")
    return math.comb(size, count)


def rank(subset: Subset) -> int:
    """The place of ``subset`` among all subsets of its length and size, from 0.

    The pairs out of four things are 01, 02, 03, 12, 13, 23, and 13 has four before it:

    >>> rank([False, True, False, True])
    4

    Law: equals the index in ``list(itertools.combinations(range(n), k))``.
    """
    wanted = sum(subset)  # how many things are still to be chosen
    if wanted in (0, len(subset)):  # the only one; there may be millions of things
        return 0
    ways = math.comb(len(subset), wanted)  # how many subsets agree with this one so far
    number = 0  # how many subsets come before all of those
    for left, chosen in zip(range(len(subset), 0, -1), subset, strict=True):
        # Of these subsets, the fraction wanted / left contain the next thing: the binomials
        # C(left - 1, wanted - 1) and C(left, wanted) have that ratio, and it divides evenly.
        containing = ways * wanted // left
        if chosen:
            # They stand first in the list, so nothing new comes before.
            ways = containing
            wanted -= 1
        else:
            # They stand first in the list, and this subset is none of them: pass over all.
            ways -= containing
            number += containing
    return number


def unrank(number: int, size: int, count: int) -> list[bool]:
    """The subset of ``count`` out of ``size`` things that has this rank.

    >>> unrank(4, size=4, count=2)
    [False, True, False, True]

    Law: ``unrank(rank(s), len(s), sum(s)) == s``. Raises :class:`MPFLError` if there is no such
    subset.
    """
    ways = _ways(size, count)  # how many subsets agree with what is chosen so far
    if not 0 <= number < ways:
        raise MPFLError(f"rank is out of range for {count} of {size}; is the payload damaged?")
    if ways == 1:  # the only one; there may be millions of things
        return [count > 0] * size
    subset = []
    for left in range(size, 0, -1):
        # As in `rank`: so many of these subsets contain the next thing, and they stand first.
        containing = ways * count // left
        # `number` is a place among the `ways` subsets: is it one of the first?
        chosen = number < containing
        if chosen:
            ways = containing
            count -= 1
        else:
            # Pass over those, and go on with a place among the rest.
            ways -= containing
            number -= containing
        subset.append(chosen)
    return subset


def join(digits: Sequence[int], radices: Sequence[int]) -> int:
    """The digits as one number in mixed radix, the first the least significant.

    Each digit is below its radix. Two hours, 30 minutes and 15 seconds in seconds:

    >>> join([15, 30, 2], [60, 60, 24])
    9015
    """
    number = 0
    for digit, radix in zip(reversed(digits), reversed(radices), strict=True):
        number = number * radix + digit
    return number


def split(number: int, radices: Sequence[int]) -> tuple[list[int], int]:
    """The digits of ``number``, and what is left above them.

    >>> split(9015, [60, 60, 24])
    ([15, 30, 2], 0)

    Law: ``split(join(digits, radices), radices) == (digits, 0)``.
    """
    digits = []
    for radix in radices:
        number, digit = divmod(number, radix)
        digits.append(digit)
    return digits, number


def width(radices: Sequence[int]) -> int:
    """How many bytes hold every number of these radices.

    >>> width([60, 60, 24])  # 86,400 numbers: more than two bytes hold
    3
    """
    return ((math.prod(radices) - 1).bit_length() + 7) // 8


def encode(subsets: Sequence[Subset], *, known: bool) -> bytes:
    r"""The subsets as bytes, little endian; ``known``: the reader knows how many are chosen.

    >>> encode([[False, True, False, True], [False, False, True]], known=True)
    b'\x10'

    That is rank 4 of 6 and rank 2 of 3: ``4 + 6 * 2 = 16``. If the reader does not know how many
    are chosen, the counts come first.
    """
    # One digit per subset: its rank, below the number of subsets of that size.
    sizes, counts = [len(subset) for subset in subsets], [sum(subset) for subset in subsets]
    radices = [_ways(size, count) for size, count in zip(sizes, counts, strict=True)]
    digits = [rank(subset) for subset in subsets]
    if not known:
        # The counts come first, as digits from 0 to size. These radices follow from the sizes
        # alone, so a reader can split the counts off, and then knows the radices of the ranks.
        radices = [size + 1 for size in sizes] + radices
        digits = counts + digits
    return join(digits, radices).to_bytes(width(radices), "little")


def decode(
    body: bytes, sizes: Sequence[int], counts: Sequence[int] | None = None
) -> list[list[bool]]:
    r"""The inverse of :func:`encode`; give ``counts`` if it was written with ``known``.

    >>> decode(b"\x10", sizes=[4, 3], counts=[2, 1])
    [[False, True, False, True], [False, False, True]]

    Only what :func:`encode` writes is accepted: raises :class:`MPFLError` for a wrong length, an
    impossible count or a rank out of range.
    """
    # A rank takes at most `size` bits, as C(n, k) <= 2**n. A longer body is refused before it
    # becomes a number, which would take time quadratic in its length.
    if 8 * (len(body) - 1) >= sum(size + (size + 1).bit_length() for size in sizes):
        raise MPFLError(f"a body of {len(body)} bytes is too long for {sum(sizes)} filters")
    number = int.from_bytes(body, "little")
    # The counts, unless they are known: they give the radices of the ranks.
    head: list[int] = []
    if counts is None:
        head = [size + 1 for size in sizes]
        counts, number = split(number, head)
    radices = [_ways(size, count) for size, count in zip(sizes, counts, strict=True)]
    # One length per choice of counts, so that no two bodies mean the same.
    if len(body) != (needed := width(head + radices)):
        raise MPFLError(
            f"body holds {len(body)} bytes, but choosing {sum(counts)} of {sum(sizes)} filters "
            f"takes {needed}; do both sides hold the same reference and counts?"
        )
    # The ranks. Whole bytes can hold more than all choices: nothing may be left above them.
    ranks, rest = split(number, radices)
    if rest:
        raise MPFLError("rank is out of range: no such choice of filters; is the payload damaged?")
    return [
        unrank(place, size, count) for place, size, count in zip(ranks, sizes, counts, strict=True)
    ]
