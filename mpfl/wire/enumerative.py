"""Enumerative coding: a choice of ``k`` out of ``n`` things as one whole number.

The subsets of one size, listed in alphabetical order, are numbered 0, 1, 2, ...; a
subset is sent as its place in that list (its *rank*), which takes log2 C(n, k) bits,
the fewest possible where every choice is equally likely. Several numbers travel as the
digits of one big number in mixed radix, so the rounding up to bytes is paid once.

Source: Cover, *Enumerative source encoding*, IEEE Trans. Inf. Theory 19(1), 1973;
Knuth, *The Art of Computer Programming* 4A, 7.2.1.3.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from mpfl.types import MPFLError

Subset = Sequence[bool]
"""One bool a thing, ``True`` = chosen."""


def _ways(size: int, count: int) -> int:
    """The number of subsets of ``count`` out of ``size`` things."""
    if not 0 <= count <= size:
        raise MPFLError(f"cannot choose {count} of {size}; do both sides hold the same counts?")
    return math.comb(size, count)


def rank(subset: Subset) -> int:
    """The place of ``subset`` among all subsets of its length and size, from 0.

    Law: equals the index in ``list(itertools.combinations(range(n), k))``.
    """
    wanted = sum(subset)
    ways = math.comb(len(subset), wanted)
    number = 0
    for left, chosen in zip(range(len(subset), 0, -1), subset, strict=True):
        # Of the `ways` subsets that agree so far, wanted/left contain the next thing; the
        # binomial is carried along by this ratio, never computed anew.
        containing = ways * wanted // left
        if chosen:
            ways = containing
            wanted -= 1
        else:
            ways -= containing
            number += containing
    return number


def unrank(number: int, size: int, count: int) -> list[bool]:
    """The subset of ``count`` out of ``size`` things that has this rank.

    Law: ``unrank(rank(s), len(s), sum(s)) == s``. Raises :class:`MPFLError` where there
    is no such subset.
    """
    ways = _ways(size, count)
    if not 0 <= number < ways:
        raise MPFLError(f"rank is out of range for {count} of {size}; is the payload damaged?")
    subset = []
    for left in range(size, 0, -1):
        containing = ways * count // left
        chosen = number < containing
        if chosen:
            ways = containing
            count -= 1
        else:
            ways -= containing
            number -= containing
        subset.append(chosen)
    return subset


def join(digits: Sequence[int], radices: Sequence[int]) -> int:
    """One number of the digits, the first the least significant; digit ``i`` < radix ``i``."""
    number = 0
    for digit, radix in zip(reversed(digits), reversed(radices), strict=True):
        number = number * radix + digit
    return number


def split(number: int, radices: Sequence[int]) -> tuple[list[int], int]:
    """The digits of ``number``, and what is left above them.

    Law: ``split(join(digits, radices), radices) == (digits, 0)``.
    """
    digits = []
    for radix in radices:
        number, digit = divmod(number, radix)
        digits.append(digit)
    return digits, number


def width(radices: Sequence[int]) -> int:
    """How many bytes hold every number of these radices."""
    return ((math.prod(radices) - 1).bit_length() + 7) // 8


def encode(subsets: Sequence[Subset], *, known: bool) -> bytes:
    """The subsets as bytes, little endian; ``known``: the reader knows how many are chosen.

    Where it does not, the counts come first, as digits of radix size + 1: these radices
    are the same for every message, so a reader splits them off and then knows the rest.
    """
    sizes, counts = [len(subset) for subset in subsets], [sum(subset) for subset in subsets]
    radices = [_ways(size, count) for size, count in zip(sizes, counts, strict=True)]
    digits = [rank(subset) for subset in subsets]
    if not known:
        radices = [size + 1 for size in sizes] + radices
        digits = counts + digits
    return join(digits, radices).to_bytes(width(radices), "little")


def decode(
    body: bytes, sizes: Sequence[int], counts: Sequence[int] | None = None
) -> list[list[bool]]:
    """The inverse of :func:`encode`; ``counts`` where it was written with ``known``.

    Every body is refused but the one that :func:`encode` writes: raises
    :class:`MPFLError` for a wrong length, an impossible count or a rank out of range.
    """
    # C(n, k) <= 2**n: nothing longer is turned into a number.
    if 8 * (len(body) - 1) >= sum(size + (size + 1).bit_length() for size in sizes):
        raise MPFLError(f"a body of {len(body)} bytes is too long for {sum(sizes)} filters")
    number = int.from_bytes(body, "little")
    head: list[int] = []
    if counts is None:
        head = [size + 1 for size in sizes]
        counts, number = split(number, head)
    radices = [_ways(size, count) for size, count in zip(sizes, counts, strict=True)]
    if len(body) != (needed := width(head + radices)):
        raise MPFLError(
            f"body holds {len(body)} bytes, but choosing {sum(counts)} of {sum(sizes)} filters "
            f"takes {needed}; do both sides hold the same reference and counts?"
        )
    ranks, rest = split(number, radices)
    if rest:
        raise MPFLError("rank is out of range: no such choice of filters; is the payload damaged?")
    return [
        unrank(number, size, count)
        for number, size, count in zip(ranks, sizes, counts, strict=True)
    ]
