"""A mask as bytes, and back: by hand, as short as promised, and what is refused."""

import math
import re
from itertools import combinations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from messages import (
    ALL,
    MESSAGES,
    ONE_EACH,
    OTHER,
    TINY,
    body_of,
    by_layer,
    cases,
    chain,
    equal,
    mask_of,
    reseal,
    slow_crc,
    together,
    together_keep,
)

from mpfl import masks, wire
from mpfl.masks import Keep
from mpfl.seeds import rng_for
from mpfl.types import MPFLError
from mpfl.wire import Kind

VGG11 = (64, 128, 256, 256, 512, 512, 512, 512)


@pytest.mark.parametrize(
    ("mask", "keep", "kind", "body"),
    [
        # Pruned: {1} of four and {2} of three, which are 1 of 4 and 2 of 3: 1 + 4 * 2 = 9.
        (("#.##", "##."), by_layer(3, 2), Kind.KNOWN, 9),
        # As one network: {1, 6} of seven, behind the six pairs 01-06 and 12, 13, 14, 15.
        (("#.##", "##."), together(5), Kind.KNOWN, 10),
        # With the counts 1 of 0-4 and 1 of 0-3 before: 1 + 5 * (1 + 4 * 9) = 186.
        (("#.##", "##."), None, Kind.NESTED, 186),
        # Counts that the mask does not hold are left aside.
        (("#.##", "##."), by_layer(4, 2), Kind.NESTED, 186),
        (("#.##", "##."), together(6), Kind.NESTED, 186),
        # 5 * 4 * 6 * 3 = 360 numbers would take two bytes, seven bits one: 1 + 4 + 16 + 32.
        (("#.#.", "##."), None, Kind.PACKED, 53),
    ],
)
def test_mask_bodies_by_hand(mask, keep, kind, body):
    mask = mask_of(TINY, *mask)
    payload = wire.encode_mask(mask, TINY, 1, reference=ALL, keep=keep)
    assert (wire.kind_of(payload), body_of(payload)) == (kind, bytes([body]))
    assert equal(wire.decode_mask(payload, TINY, 1, reference=ALL, keep=keep), mask)


def test_only_filters_still_alive_are_counted():
    # Left of #.##/##. are {0, 2, 3} and {0, 1}; the new prune is the second of the three.
    reference, mask = ONE_EACH, mask_of(TINY, "#..#", "##.")
    known = wire.encode_mask(mask, TINY, 1, reference=reference, keep=by_layer(2, 2))
    assert body_of(known) == bytes([1])
    # Counts 1 of 0-3 and 0 of 0-2, then rank 1 of 3 and 0 of 1: 1 + 4 * (0 + 3 * 1) = 13.
    nested = wire.encode_mask(mask, TINY, 1, reference=reference)
    assert body_of(nested) == bytes([13])


def test_nothing_new_costs_no_body_where_the_counts_are_known():
    payload = wire.encode_mask(ALL, TINY, 1, reference=ALL, keep=together(7))
    assert (wire.kind_of(payload), len(payload)) == (Kind.KNOWN, 14)


def test_ranks_against_the_masks_written_out():
    """The slow twin: list every mask of these counts, the first layer's turning fastest."""
    counts = by_layer(2, 1)
    bodies = []
    for second in combinations(range(3), 2):
        for first in combinations(range(4), 2):
            mask = {"c0": ~np.isin(range(4), first), "c1": ~np.isin(range(3), second)}
            bodies.append(body_of(wire.encode_mask(mask, TINY, 1, reference=ALL, keep=counts)))
    assert bodies == [bytes([place]) for place in range(18)]


def test_what_a_mask_is_written_inside_by_hand():
    plain = wire.encode_mask(ONE_EACH, TINY, 3, reference=ALL)
    assert plain[5:9] == TINY.fingerprint
    # Inside #.##/##. the bits are 1011 1100, the first the highest; then what is known.
    turned = Keep.by_layer({"c1": 1, "c0": 2})
    for keep, text in ((None, b"null"), (together(4), b"[4]"), (turned, b"[2, 1]")):
        payload = wire.encode_mask(ONE_EACH, TINY, 3, reference=ONE_EACH, keep=keep)
        expected = slow_crc(TINY.fingerprint + text + bytes([0b10111100]))
        assert payload[5:9] == expected.to_bytes(4, "little")
        assert wire.kind_of(payload) is Kind.NESTED and wire.round_of(payload) == 3


# --- there and back --------------------------------------------------------------------------


@settings(max_examples=300, deadline=None)
@given(cases(), st.integers(0, 65535))
def test_masks_come_back(case, round_):
    layout, reference, mask, keep = case
    payload = wire.encode_mask(mask, layout, round_, reference=reference, keep=keep)
    back = wire.decode_mask(payload, layout, round_, reference=reference, keep=keep)
    assert equal(back, mask)
    assert all(bits.dtype == bool and bits.flags.writeable for bits in back.values())
    assert len(payload) - len(body_of(payload)) <= 16
    assert wire.body_length(payload) == len(body_of(payload))


@settings(max_examples=300, deadline=None)
@given(cases())
def test_no_mask_costs_more_than_a_byte_over_the_limit_of_its_kind(case):
    layout, reference, mask, keep = case
    payload = wire.encode_mask(mask, layout, 1, reference=reference, keep=keep)
    kept, alive = masks.counts(mask), masks.counts(reference)
    limit = wire.limit_bits(mask, reference)
    bits = [layout.filters, limit + sum(math.log2(n + 1) for n in alive.values())]
    if keep == Keep.by_layer(kept):
        bits.append(limit)
    if keep == together_keep(layout, sum(kept.values())):
        bits.append(wire.limit_bits(mask, reference, keep))
    assert min(bits) / 8 - 1e-6 <= len(body_of(payload)) < min(bits) / 8 + 1 + 1e-6


@settings(max_examples=300, deadline=None)
@given(cases(), st.data(), st.sampled_from(["shortest", "packed"]))
def test_another_reference_is_refused_also_with_equal_counts(case, data, coding):
    layout, reference, mask, keep = case
    payload = wire.encode_mask(mask, layout, 3, reference=reference, keep=keep, coding=coding)
    shuffled = {n: np.array(data.draw(st.permutations(list(b)))) for n, b in reference.items()}
    assume(not equal(shuffled, reference))
    assert masks.counts(shuffled) == masks.counts(reference)
    assert wire.kind_of(payload) is not Kind.KNOWN or keep is not None
    with pytest.raises(MPFLError, match="for another model, reference, keep or coding"):
        wire.decode_mask(payload, layout, 3, reference=shuffled, keep=keep, coding=coding)
    if coding == "packed":
        with pytest.raises(MPFLError, match="for another model, reference, keep or coding"):
            wire.packed_rows([payload], layout, 3, reference=shuffled)
    votes = {name: bits.astype(int) for name, bits in mask.items()}
    with pytest.raises(MPFLError, match="for another model, reference, keep or coding"):
        counts = wire.encode_counts(votes, 1, layout, 3, reference=reference)
        wire.decode_counts(counts, layout, 3, reference=shuffled)


@settings(max_examples=100, deadline=None)
@given(cases(), cases())
def test_other_known_counts_are_refused_unless_packed(case, other):
    layout, reference, mask, keep = case
    wrong = other[3]
    if wrong is not None:
        one_group = len(wrong.counts) == 1
        by_layer = Keep.by_layer(dict.fromkeys(mask, 9))
        wrong = together_keep(layout, wrong.total) if one_group else by_layer
    assume(wrong != keep)
    both = {"reference": reference, "keep": keep}
    payload = wire.encode_mask(mask, layout, 3, **both)
    with pytest.raises(
        MPFLError, match=r"another model, reference, keep or coding|leaves the kept"
    ):
        wire.decode_mask(payload, layout, 3, **both | {"keep": wrong})
    packed = wire.encode_mask(mask, layout, 3, **both, coding="packed")
    known = both | {"keep": wrong}
    assert packed == wire.encode_mask(mask, layout, 3, **known, coding="packed")
    assert equal(wire.decode_mask(packed, layout, 3, **known, coding="packed"), mask)


@settings(max_examples=100, deadline=None)
@given(cases(), st.data())
def test_the_order_in_which_what_is_kept_is_told_changes_nothing(case, data):
    layout, reference, mask, keep = case
    assume(keep is not None)
    groups = data.draw(st.permutations(list(keep.counts)))
    turned = Keep(
        {tuple(data.draw(st.permutations(group))): keep.counts[group] for group in groups}
    )
    payload = wire.encode_mask(mask, layout, 3, reference=reference, keep=keep)
    assert payload == wire.encode_mask(mask, layout, 3, reference=reference, keep=turned)
    assert equal(wire.decode_mask(payload, layout, 3, reference=reference, keep=turned), mask)


@settings(max_examples=100, deadline=None)
@given(cases(), st.data())
def test_groups_of_any_layers_come_back_and_cost_their_limit(case, data):
    layout, reference, mask, _ = case
    names = list(layout.sizes)
    cut = data.draw(st.integers(0, len(names)))
    kept = masks.counts(mask)
    keep = Keep({g: sum(kept[n] for n in g) for g in (tuple(names[:cut]), tuple(names[cut:])) if g})
    both = {"reference": reference, "keep": keep}
    payload = wire.encode_mask(mask, layout, 1, **both)
    assert equal(wire.decode_mask(payload, layout, 1, **both), mask)
    alive = masks.counts(reference)
    ways = [math.comb(sum(alive[n] for n in group), count) for group, count in keep.counts.items()]
    assert wire.limit_bits(mask, reference, keep) == pytest.approx(sum(map(math.log2, ways)))
    assert len(body_of(payload)) <= math.ceil(sum(map(math.log2, ways)) / 8 + 1e-9) + 1


# --- as short as promised --------------------------------------------------------------------


def test_nine_rounds_of_vgg11_take_at_most_1300_bytes():
    layout = chain(*VGG11)
    reference, total = masks.full(layout), 0
    for round_ in range(1, 10):
        counts, rng = layout.keep_counts(round_ / 10), rng_for(0, "vgg11", round_)
        keep = Keep.by_layer(counts)
        mask = {
            name: np.isin(
                np.arange(bits.size), rng.permutation(np.flatnonzero(bits))[: counts[name]]
            )
            for name, bits in reference.items()
        }
        payload = wire.encode_mask(mask, layout, round_, reference=reference, keep=keep)
        assert wire.kind_of(payload) is Kind.KNOWN
        assert len(body_of(payload)) <= math.ceil(wire.limit_bits(mask, reference) / 8) + 1
        back = wire.decode_mask(payload, layout, round_, reference=reference, keep=keep)
        assert equal(back, mask)
        reference, total = mask, total + len(payload)
    assert 1000 < total <= 1300


def test_a_network_of_4800_as_one_group():
    layout = chain(*[300] * 16)
    bits = rng_for(0, "wide").random(4800) < 0.5
    mask, full = masks.unflatten(bits, layout), masks.full(layout)
    keep = together_keep(layout, int(bits.sum()))
    payload = wire.encode_mask(mask, layout, 1, reference=full, keep=keep)
    assert wire.kind_of(payload) is Kind.KNOWN and len(payload) <= 4800 / 8 + 16
    assert equal(wire.decode_mask(payload, layout, 1, reference=full, keep=keep), mask)


def test_limit_by_hand():
    # Two of four are 6, one of three is 3; of filters already gone nothing is counted.
    assert wire.limit_bits(mask_of(TINY, "#.#.", "##."), ALL) == pytest.approx(math.log2(18))
    assert wire.limit_bits(mask_of(TINY, "#..#", "##."), ONE_EACH) == pytest.approx(math.log2(3))
    assert wire.limit_bits(ALL, ALL) == wire.limit_bits(ALL, ALL, together(7)) == 0


def test_limit_of_one_count_for_the_whole_network_by_hand():
    # Three of seven are 35, two of five 10; counts a layer are no such count.
    mask = mask_of(TINY, "#.#.", "##.")
    assert wire.limit_bits(mask, ALL, together(4)) == pytest.approx(math.log2(35))
    assert wire.limit_bits(mask_of(TINY, "#..#", "#.."), ONE_EACH, together(3)) == pytest.approx(
        math.log2(10)
    )
    counted = wire.limit_bits(mask, ALL, by_layer(2, 2))
    assert counted == wire.limit_bits(mask, ALL) == pytest.approx(math.log2(18))


# --- nothing else accepted -------------------------------------------------------------------


@settings(deadline=None)
@given(cases(), st.binary(max_size=20), st.sampled_from([Kind.PACKED, Kind.NESTED, Kind.KNOWN]))
def test_a_sealed_mask_of_any_layout_is_refused_or_canonical(case, body, kind):
    layout, reference, mask, keep = case
    frame = wire.encode_mask(mask, layout, 1, reference=reference, keep=keep)
    sealed = reseal(frame, body, kind)
    try:
        back = wire.decode_mask(sealed, layout, 1, reference=reference, keep=keep)
    except MPFLError:
        return
    assert wire.encode_mask(back, layout, 1, reference=reference, keep=keep) == sealed


KNOWN = MESSAGES["known"][0]
INSIDE = wire.encode_mask(ONE_EACH, TINY, 3, reference=ONE_EACH)
EIGHT = wire.encode_mask(ONE_EACH, TINY, 3, reference=ALL, keep=together(8))  # more than there are


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: wire.encode_mask(ALL, TINY, 3, reference=ONE_EACH), "brings back 1 pruned"),
        (
            lambda: wire.decode_mask(reseal(INSIDE, b"\x7f", kind=4), TINY, 3, reference=ONE_EACH),
            "brings back 1 pruned",
        ),
        (
            lambda: wire.encode_mask(ALL, OTHER, 3, reference=masks.full(OTHER)),
            "made for another model",
        ),
        (
            lambda: wire.decode_mask(
                reseal(EIGHT, b"\0", kind=6), TINY, 3, reference=ALL, keep=together(8)
            ),
            "cannot choose -1 of 7",
        ),
        (
            lambda: wire.decode_mask(
                MESSAGES["known"][0], TINY, 3, reference=ALL, keep=Keep.by_layer({"c0": 2})
            ),
            "keep names layers ['c0'], but the model has ['c0', 'c1']",
        ),
        (
            lambda: wire.decode_mask(
                reseal(MESSAGES["known"][0], b"\xba", kind=5),
                TINY,
                3,
                reference=ALL,
                keep=together(5),
            ),
            "NESTED payload is not canonical",
        ),
    ],
)
def test_what_is_refused(call, message):
    with pytest.raises(MPFLError, match=re.escape(message)):
        call()
