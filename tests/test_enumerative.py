"""The coder of subsets: against its slow twin, and that only one body is accepted."""

import math
import re
import time
from itertools import combinations

import numpy as np
import pytest
import slow_coder
from hypothesis import given, settings
from hypothesis import strategies as st

from mpfl import masks
from mpfl.allocate import even, power
from mpfl.nets.networks import blueprint
from mpfl.node import Plan
from mpfl.schedules import linear
from mpfl.seeds import rng_for
from mpfl.types import MPFLError
from mpfl.wire import enumerative
from mpfl.wire.range_coder import MOST_EXACT, first_interval, parts
from mpfl.wire.ranking import PATTERNS, rank, unrank
from mpfl.wire.ways import SMALL, binomial, product

each_coder = pytest.mark.parametrize("coder", [enumerative, slow_coder], ids=["fast", "slow"])
SHARES = st.sampled_from([0.0, 0.001, 0.02, 0.2, 0.5, 0.9, 0.999, 1.0])


@st.composite
def groups(draw, most=6, sizes=(3, 64, 65, 300, 2000)):
    """Subsets of several groups: drawn evenly, or the chosen things side by side."""
    rng, subsets = rng_for(draw(st.integers(0, 10**6))), []
    for _ in range(draw(st.integers(0, most))):
        subset = rng.random(draw(st.integers(0, draw(st.sampled_from(sizes))))) < draw(SHARES)
        subsets.append(np.sort(subset) if draw(st.booleans()) else subset)
    return subsets


def counts_of(subsets):
    return [len(subset) for subset in subsets], [int(subset.sum()) for subset in subsets]


def as_lists(subsets):
    return [subset.tolist() for subset in subsets]


def slow_length(sizes, counts, known):
    ways = [math.comb(size, count) for size, count in zip(sizes, counts, strict=True)]
    return slow_coder.width(ways if known else [size + 1 for size in sizes] + ways)


# --- there and back ----------------------------------------------------------------------------


def test_by_hand():
    # Pair 13 of four is 4 of 6, {2} of three is 2 of 3: 4 + 6 * 2 = 16. With the counts before,
    # 2 of 5 and 1 of 4: 2 + 5 * (1 + 4 * 16) = 327 = 71 + 256.
    subsets = [np.array([False, True, False, True]), np.array([False, False, True])]
    assert enumerative.encode(subsets, known=True) == bytes([16])
    assert enumerative.encode(subsets, known=False) == bytes([71, 1])
    # One of 65: that none of the first 64 is it stands first, as 64 * 1 // 65 = 0. Then come the
    # 64 patterns that hold it, by rank.
    last = np.arange(65) == 64
    assert enumerative.encode([last], known=True) == bytes([0])
    assert enumerative.encode([last[::-1].copy()], known=True) == bytes([1])


@settings(max_examples=200, deadline=None)
@given(groups(), st.booleans())
def test_decode_undoes_encode_in_as_many_bytes_as_the_slow_twin(subsets, known):
    sizes, counts = counts_of(subsets)
    body = enumerative.encode(subsets, known=known)
    back = enumerative.decode(body, sizes, counts if known else None)
    assert as_lists(back) == as_lists(subsets)
    assert all(subset.dtype == bool and subset.flags.writeable for subset in back)
    assert len(body) == enumerative.width(sizes, counts, known=known)
    assert len(body) == slow_length(sizes, counts, known)


@settings(max_examples=100, deadline=None)
@given(groups(sizes=(1, 5, 64)), st.booleans())
def test_up_to_64_things_the_bytes_are_those_of_the_slow_twin(subsets, known):
    slow = slow_coder.encode(as_lists(subsets), known=known)
    assert enumerative.encode(subsets, known=known) == slow


@pytest.mark.parametrize("sizes", [(20_000,), (8192, 8192, 3), (333,) * 60, (1,) * 40 + (9000,)])
@pytest.mark.parametrize("share", [0.0002, 0.2, 0.5, 0.97])
def test_long_ones_come_back_whatever_they_look_like(sizes, share):
    rng = rng_for(0, "long", *sizes[:3])
    drawn = [rng.random(size) < share for size in sizes]
    shapes = (drawn, [np.sort(subset) for subset in drawn], [np.sort(s)[::-1] for s in drawn])
    lengths = set()
    for subsets in shapes:
        sizes_, counts = counts_of(subsets)
        body = enumerative.encode(subsets, known=True)
        assert as_lists(enumerative.decode(body, sizes_, counts)) == as_lists(subsets)
        lengths.add(len(body))
    assert lengths == {slow_length(sizes_, counts, known=True)}


@pytest.mark.parametrize("size", [*range(9), 65, 66])
def test_every_small_subset_has_a_number_of_its_own(size):
    for count in range(size + 1) if size < 9 else (1, 2, size - 1):
        subsets = [np.isin(np.arange(size), c) for c in combinations(range(size), count)]
        numbers = [int.from_bytes(enumerative.encode([s], known=True), "little") for s in subsets]
        assert sorted(numbers) == list(range(math.comb(size, count)))


# --- how long ----------------------------------------------------------------------------------


@pytest.mark.slow
def test_no_longer_than_the_slow_twin_at_any_size_of_the_book():
    """VGG11 and ResNet18 at every width of the recipes, round by round, counts known and not."""
    layouts = [
        blueprint(model, 10, width=width)
        for model in ("vgg11-bn", "resnet18")
        for width in (0.125, 0.25, 0.5, 1.0)
    ]
    checked = set()
    for layout in layouts:
        for quota in (even(), power(0.5)):
            plan, alive = Plan(layout, linear(0.8), 8, quota), masks.full(layout)
            for round_ in range(1, 9):
                keep = plan.keep(round_, alive).for_layers(layout.sizes)
                left = masks.counts(alive)
                alive = {name: np.arange(bits.size) < keep[name] for name, bits in alive.items()}
                for whole in (left, layout.sizes):
                    sizes = tuple(whole.values())
                    goes = tuple(whole[name] - keep[name] for name in whole)
                    checked.add((sizes, goes))
    assert len(checked) > 100
    for sizes, goes in checked:
        together = (sum(sizes),), (sum(goes),)
        for sizes_, counts in ((sizes, goes), together):
            slow = slow_length(sizes_, counts, known=True)
            assert enumerative.width(sizes_, counts, known=True) == slow
            slow = slow_length(sizes_, counts, known=False)
            assert enumerative.width(sizes_, counts, known=False) == slow


@pytest.mark.parametrize("size", [256, 65536, 2**24])
def test_a_number_of_choices_that_just_fills_its_bytes_costs_none_more(size):
    for counts in ((1,), (size - 1,)):
        assert enumerative.width([size], counts, known=True) == (size.bit_length() - 1) // 8
    assert enumerative.width([256] * 40, [255] * 40, known=True) == 40


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 3 * SMALL), st.data())
def test_a_binomial_is_that_of_the_library(size, data):
    count = data.draw(st.integers(0, size))
    assert binomial(size, count) == math.comb(size, count)


def test_products_and_large_binomials():
    assert product([]) == 1 and product(range(1, 101)) == math.factorial(100)
    assert binomial(20_011, 7_000) == math.comb(20_011, 7_000)


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 400), st.data())
def test_the_parts_fill_an_exact_interval_and_never_overfill_a_rounded_one(left, data):
    wanted, size = data.draw(st.integers(0, left)), min(64, left)
    exact = 3 * math.comb(left, wanted)
    found = dict(parts(exact, 0, left, wanted, size))
    assert sum(PATTERNS[size][count] * each for count, each in found.items()) == exact
    assert found == {
        count: 3 * math.comb(left - size, wanted - count)
        for count in range(max(0, wanted - left + size), min(size, wanted) + 1)
    }
    rounded = data.draw(st.integers(2**900, 2**950))
    found = list(parts(rounded, 1, left, wanted, size))
    assert sum(PATTERNS[size][count] * each for count, each in found) <= rounded
    assert min(each for _, each in found) >= 2**128


def test_ranks_of_runs_against_the_list_written_out():
    for size in (0, 1, 5, 8):
        for count in range(size + 1):
            rows = [np.isin(np.arange(64), c) for c in combinations(range(size), count)]
            sizes = np.full(len(rows), size)
            ranks = rank(np.array(rows), sizes)
            assert ranks.tolist() == list(range(len(rows)))
            assert (unrank(ranks, sizes, np.full(len(rows), count)) == rows).all()
    rows = rng_for(0).random((500, 64)) < rng_for(1).random((500, 1))
    ranks = rank(rows, np.full(500, 64))
    assert ranks.tolist() == [slow_coder.rank(row.tolist()) for row in rows]
    assert (unrank(ranks, np.full(500, 64), rows.sum(axis=1)) == rows).all()


# --- nothing else accepted ---------------------------------------------------------------------


@each_coder
@pytest.mark.parametrize(("sizes", "known"), [([4, 3], False), ([4, 3], True), ([5], False)])
def test_no_two_bodies_mean_the_same(coder, sizes, known):
    """Every body of up to two bytes is refused, or is the one that encode writes."""
    accepted = set()
    bodies = [i.to_bytes(width, "little") for width in (0, 1, 2) for i in range(256**width)]
    for body in bodies:
        try:
            subsets = coder.decode(body, sizes, [2, 1] if known else None)
        except MPFLError:
            continue
        assert coder.encode(subsets, known=known) == body
        accepted.add(str([list(map(bool, subset)) for subset in subsets]))
    assert len(accepted) == (math.comb(4, 2) * 3 if known else 2 ** sum(sizes))


@each_coder
@settings(max_examples=200, deadline=None)
@given(
    body=st.binary(max_size=300),
    sizes=st.lists(st.integers(0, 64), min_size=1, max_size=5),
    known=st.booleans(),
)
def test_any_bytes_are_refused_or_canonical(coder, body, sizes, known):
    counts = [size // 3 for size in sizes] if known else None
    try:
        subsets = coder.decode(body, sizes, counts)
    except MPFLError:
        return
    assert coder.encode(subsets, known=known) == body


@settings(max_examples=100, deadline=None)
@given(st.data(), st.sampled_from([(130,), (70, 3, 100), (10_000,), (5000, 5000), (20_000, 10)]))
def test_what_is_damaged_is_refused_or_is_what_encode_writes(data, sizes):
    """Also where intervals are rounded: a part may hold more numbers than its first."""
    counts = [max(1, size // 5) for size in sizes]
    subsets = [rng_for(0, "damage", size).permutation(size) < count
               for size, count in zip(sizes, counts, strict=True)]  # fmt: skip
    body = enumerative.encode(subsets, known=True)
    bit = data.draw(st.integers(0, 8 * len(body) - 1))
    damaged = bytearray(body)
    damaged[bit // 8] ^= 1 << bit % 8
    for other in (bytes(damaged), data.draw(st.binary(min_size=len(body), max_size=len(body)))):
        try:
            back = enumerative.decode(other, sizes, counts)
        except MPFLError:
            continue
        assert enumerative.encode(back, known=True) == other
        assert [int(subset.sum()) for subset in back] == counts
    for wrong in (body[:-1], body + b"\0", body + b"\1", b""):
        with pytest.raises(MPFLError, match="body holds"):
            enumerative.decode(wrong, sizes, counts)
    full = b"\xff" * len(body)
    ways, words = first_interval(sizes, tuple(counts))
    if (ways << 64 * words) <= int.from_bytes(full, "little"):
        with pytest.raises(MPFLError, match="rank is out of range"):
            enumerative.decode(full, sizes, counts)


def test_numbers_that_rounding_leaves_over_are_refused():
    sizes, counts = [20_000], [4000]
    ways, words = first_interval((20_000,), (4000,))
    assert words and math.comb(20_000, 4000) < ways << 64 * words
    body = ((ways << 64 * words) - 1).to_bytes(
        enumerative.width(sizes, counts, known=True), "little"
    )
    with pytest.raises(MPFLError, match="rank is out of range"):
        enumerative.decode(body, sizes, counts)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: enumerative.decode(b"\0", [4], [5]), "cannot choose 5 of 4"),
        (lambda: enumerative.decode(b"\0", [4], [-1]), "cannot choose -1 of 4"),
        (lambda: enumerative.decode(b"\x06", [4], [2]), "rank is out of range"),
        (lambda: enumerative.decode(b"\5\0", [9], [2]), "body holds 2 bytes, but choosing 2 of 9"),
        (lambda: enumerative.decode(b"", [4], [2]), "takes 1; do both sides hold the same"),
        (lambda: enumerative.decode(bytes(10**6), [4]), "a body of 1000000 bytes is too long"),
    ],
)
def test_errors_say_what_is_wrong(call, message):
    with pytest.raises(MPFLError, match=re.escape(message)):
        call()


# --- how fast ----------------------------------------------------------------------------------


@pytest.mark.parametrize("sizes", [(100_000,), (8192,) * 12, (333,) * 300], ids=len)
def test_a_hundred_thousand_things_take_a_fraction_of_a_second(sizes):
    subsets = [rng_for(0, "time", group).random(size) < 0.5 for group, size in enumerate(sizes)]
    began = time.process_time()
    body = enumerative.encode(subsets, known=True)
    enumerative.decode(body, *counts_of(subsets))
    assert time.process_time() - began < 1  # a twentieth, on a machine that does nothing else
    assert 8 * len(body) > MOST_EXACT
