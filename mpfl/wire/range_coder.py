"""A range coder: choices of ``k`` out of ``n`` things as one whole number, and back.

It holds an interval of whole numbers, at first all that the message can be. Thing by thing it
would cut the interval in two, wanted / left for the choices that take the thing and the rest for
those that do not, and go on in one of the parts. Here a step takes a *run* of 64 things at once:

- If c things of a run are chosen, the rest of the group can be chosen in C(left - 64, wanted - c)
  ways. So each of the C(64, c) patterns has a part of the interval in that proportion. All parts
  fill it, as C(left, wanted) is the sum of C(64, c) * C(left - 64, wanted - c) (Vandermonde).
- The parts stand by count, the most likely one first, then by :func:`~mpfl.wire.ranking.rank`.

The groups follow one another in the same interval, the last one first. So short groups are the
digits of a number in mixed radix, the first the least significant.

Up to 2**13 bits every number is exact. Beyond, the length of the interval is held to its leading
bits, so that the time grows with the number of things and not with its square. The first interval
is longer by its 2**64th part, which is more than all rounding takes. It makes a message longer, by
a byte, if the number of choices lies that close below a power of 256. All arithmetic is on whole
numbers, the same on every machine, and how long a message is depends on the counts alone.

Source: Cover, *Enumerative source encoding*, IEEE Trans. Inf. Theory 19(1), 1973; Martin, *Range
encoding*, Video & Data Recording Conference, 1979.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache

import numpy as np

from mpfl.types import MPFLError
from mpfl.wire.ranking import PATTERNS, RUN
from mpfl.wire.ways import binomial, product

MOST_EXACT = 2**13
"""Up to how many bits a message is an exact number."""

WORD = 64
"""By how many bits an interval that has become short is drawn out."""

OUT_OF_RANGE = "rank is out of range: no such choice of filters; is the payload damaged?"

_falling = lru_cache(maxsize=2**12)(math.perm)  # left * (left - 1) * ...: the same for every mask


@lru_cache(maxsize=64)
def first_interval(sizes: tuple[int, ...], counts: tuple[int, ...]) -> tuple[int, int]:
    """``(ways, words)``: the numbers below ``ways * 2**(64 * words)``, at least one per choice.

    They are just as many as there are choices if ``words`` is 0.

    >>> first_interval((4, 3), (2, 1))  # 6 * 3
    (18, 0)

    Raises :class:`MPFLError` for an impossible count.
    """
    for size, count in zip(sizes, counts, strict=True):
        if not 0 <= count <= size:
            raise MPFLError(f"cannot choose {count} of {size}; do both sides hold the same counts?")
    ways = product([binomial(size, count) for size, count in zip(sizes, counts, strict=True)])
    if ways.bit_length() <= MOST_EXACT:
        return ways, 0
    words = (ways.bit_length() - _precision(sizes)) // WORD + 1
    ways = (ways >> WORD * words) + 1
    return ways + (ways >> 64) + 1, words


def _precision(sizes: Sequence[int]) -> int:
    """To how many bits the length of an interval is held, if it is rounded.

    It has up to 64 fewer just before it is drawn out. No pattern of 64 things has less than one
    part in C(size, 64) of it, so 128 bits are left of the shortest part.
    """
    return math.comb(max(*sizes, 2 * RUN), RUN).bit_length() + 128 + WORD


def parts(ways: int, words: int, left: int, wanted: int, size: int) -> Iterator[tuple[int, int]]:
    """Each count that a run of ``size`` things can have, and how long a part each pattern has.

    The most likely count comes first, then its neighbours, outwards. Law: all parts together are
    at most ``ways`` long, and just as long if that is a multiple of C(left, wanted).

    >>> list(parts(ways=20, words=0, left=6, wanted=3, size=2))  # 2 * 6 + 1 * 4 + 1 * 4
    [(1, 6), (2, 4), (0, 4)]
    """
    after = left - size  # how many things come behind this run
    low = high = size * wanted // left
    # A pattern's share of the choices: wanted / left if the first thing is chosen, and so on.
    share, of = math.perm(wanted, low) * math.perm(left - wanted, size - low), _falling(left, size)
    if words:  # the interval is rounded: 192 bits of the share will do
        share, of = (share << 192) // of, 1 << 192
    up = down = ways * share // of
    yield low, up
    # C(after, wanted - count) of the next counts, as neighbours in a row of Pascal's triangle.
    least, most = max(0, wanted - after), min(size, wanted)
    while low > least or high < most:
        if high < most:
            high += 1
            up = up * (wanted - high + 1) // (after - wanted + high)
            yield high, up
        if low > least:
            low -= 1
            down = down * (after - wanted + low + 1) // (wanted - low)
            yield low, down


def run_sizes(size: int) -> list[int]:
    """How many things each run of a group has: 64, and the last one what is left.

    >>> run_sizes(130)
    [64, 64, 2]
    """
    return [min(RUN, size - first) for first in range(0, size, RUN)]


def number_of(sizes: Sequence[int], counts: Sequence[int], runs: Iterable[tuple[int, int]]) -> int:
    """The first number of the part that all runs lead to.

    ``runs`` are the count and the rank of each run, those of the last group first.

    >>> number_of([4, 3], [2, 1], [(1, 2), (2, 4)])  # rank 2 of 3, then 4 of 6
    16
    """
    ways, words = first_interval(tuple(sizes), tuple(counts))
    short = _precision(sizes) - WORD if words else 0
    begins, run = [0] * (words + 1), iter(runs)  # what is passed over, in units of 2**(64 * place)
    for left, wanted in zip(reversed(sizes), reversed(counts), strict=True):
        for size in run_sizes(left):
            count, rank = next(run)
            if wanted not in (0, left):  # else all that is left is alike
                for other, each in parts(ways, words, left, wanted, size):
                    if other == count:  # pass over the patterns of lower rank
                        begins[words] += rank * each
                        ways = each
                        break
                    begins[words] += PATTERNS[size][other] * each
                while words and ways.bit_length() <= short:
                    ways, words = ways << WORD, words - 1
            left, wanted = left - size, wanted - count
    # The sum. What is passed over may be longer than a word, so there are carries.
    carry, whole = 0, []
    for begin in begins:
        carry += begin
        whole.append(carry % 2**WORD)
        carry >>= WORD
    return (carry << WORD * len(whole)) + int.from_bytes(np.array(whole, "<u8").tobytes(), "little")


def runs_of(
    number: int, sizes: Sequence[int], counts: Sequence[int]
) -> tuple[list[int], list[int]]:
    """The counts and ranks of the runs whose number this is: the inverse of :func:`number_of`.

    >>> runs_of(16, [4, 3], [2, 1])
    ([1, 2], [2, 4])

    Raises :class:`MPFLError` if it is the number of no choice.
    """
    ways, words = first_interval(tuple(sizes), tuple(counts))
    short = _precision(sizes) - WORD if words else 0
    # Where in the interval it lies, and the words of the number that are still to come.
    place, tail = number >> WORD * words, number % (1 << WORD * words)
    to_come = np.frombuffer(tail.to_bytes(8 * words, "little"), "<u8").tolist()
    found: tuple[list[int], list[int]] = [], []
    for left, wanted in zip(reversed(sizes), reversed(counts), strict=True):
        for size in run_sizes(left):
            count, rank = size if wanted else 0, 0
            if wanted not in (0, left):  # else all that is left is alike
                for count, each in parts(ways, words, left, wanted, size):
                    if place < (all_of_them := PATTERNS[size][count] * each):
                        break
                    place -= all_of_them
                else:
                    raise MPFLError(OUT_OF_RANGE)
                (rank, place), ways = divmod(place, each), each
                while words and ways.bit_length() <= short:
                    ways, words = ways << WORD, words - 1
                    place = place << WORD | to_come.pop()
            found[0].append(count)
            found[1].append(rank)
            left, wanted = left - size, wanted - count
    if place or words:  # whole bytes can hold more than all choices
        raise MPFLError(OUT_OF_RANGE)
    return found
