"""The slow twin of the coder, by hand and listed; test_enumerative asks the rest of both."""

import math
import re
from itertools import combinations

import pytest
import slow_coder
from hypothesis import given, settings
from hypothesis import strategies as st

from mpfl.types import MPFLError

SUBSETS = st.lists(st.lists(st.booleans(), max_size=40), min_size=1, max_size=6)


def listed(size, count):
    """The slow twin: all subsets in alphabetical order, so that a rank is a place in a list."""
    return [[i in chosen for i in range(size)] for chosen in combinations(range(size), count)]


def test_by_hand():
    # The six pairs out of {0, 1, 2, 3} are 01, 02, 03, 12, 13, 23.
    assert slow_coder.rank([True, True, False, False]) == 0
    assert slow_coder.rank([False, True, False, True]) == 4
    assert slow_coder.unrank(2, 4, 2) == [True, False, False, True]
    # Digits 1 of 5, 3 of 4 and 2 of 6: 1 + 5 * (3 + 4 * 2) = 56; 120 numbers fit one byte.
    assert slow_coder.join([1, 3, 2], [5, 4, 6]) == 56
    assert slow_coder.split(56, [5, 4, 6]) == ([1, 3, 2], 0)
    assert slow_coder.width([5, 4, 6]) == 1
    assert [slow_coder.width([n]) for n in (1, 2, 256, 257, 65536, 65537)] == [0, 1, 1, 2, 2, 3]
    # Pair 13 of four is 4 of 6, {2} of three is 2 of 3: 4 + 6 * 2 = 16. With the counts before,
    # 2 of 5 and 1 of 4: 2 + 5 * (1 + 4 * 16) = 327 = 71 + 256.
    subsets = [[False, True, False, True], [False, False, True]]
    assert slow_coder.encode(subsets, known=True) == bytes([16])
    assert slow_coder.encode(subsets, known=False) == bytes([71, 1])


@pytest.mark.parametrize("size", range(11))
def test_every_small_subset_is_its_place_in_the_list(size):
    for count in range(size + 1):
        subsets = listed(size, count)
        assert [slow_coder.rank(subset) for subset in subsets] == list(range(len(subsets)))
        assert [slow_coder.unrank(i, size, count) for i in range(len(subsets))] == subsets


@settings(deadline=None)
@given(st.lists(st.booleans(), max_size=600))
def test_unrank_undoes_rank(subset):
    number = slow_coder.rank(subset)
    assert 0 <= number < math.comb(len(subset), sum(subset))
    assert slow_coder.unrank(number, len(subset), sum(subset)) == subset


@settings(deadline=None)
@given(st.data(), st.lists(st.integers(1, 10**9), max_size=8))
def test_split_undoes_join(data, radices):
    digits = [data.draw(st.integers(0, radix - 1)) for radix in radices]
    number = slow_coder.join(digits, radices)
    assert slow_coder.split(number, radices) == (digits, 0)
    assert number < 256 ** slow_coder.width(radices)


@settings(deadline=None)
@given(SUBSETS, st.booleans())
def test_decode_undoes_encode_within_a_byte_of_the_limit(subsets, known):
    sizes, counts = [len(s) for s in subsets], [sum(s) for s in subsets]
    body = slow_coder.encode(subsets, known=known)
    assert slow_coder.decode(body, sizes, counts if known else None) == subsets
    bits = sum(math.log2(math.comb(n, k)) for n, k in zip(sizes, counts, strict=True))
    if not known:
        bits += sum(math.log2(n + 1) for n in sizes)
    assert bits / 8 - 1e-6 <= len(body) < bits / 8 + 1 + 1e-6


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: slow_coder.unrank(6, 4, 2), "rank is out of range for 2 of 4"),
        (lambda: slow_coder.unrank(-1, 4, 2), "rank is out of range for 2 of 4"),
        (lambda: slow_coder.unrank(0, 4, 5), "cannot choose 5 of 4"),
        (lambda: slow_coder.decode(b"\0", [4], [-1]), "cannot choose -1 of 4"),
        (lambda: slow_coder.decode(b"\x06", [4], [2]), "rank is out of range"),
        (lambda: slow_coder.decode(b"\5\0", [9], [2]), "body holds 2 bytes, but choosing 2 of 9"),
        (lambda: slow_coder.decode(b"", [4], [2]), "takes 1; do both sides hold the same"),
        (lambda: slow_coder.decode(bytes(10**6), [4]), "a body of 1000000 bytes is too long"),
    ],
)
def test_errors_say_what_is_wrong(call, message):
    with pytest.raises(MPFLError, match=re.escape(message)):
        call()
