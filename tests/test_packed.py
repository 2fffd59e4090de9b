"""A server that scales: packed votes added up a block at a time, each of them checked."""

import re
import tracemalloc
import zlib
from itertools import cycle, islice

import numpy as np
import pytest
from federation import RULE_EXAMPLES, WIDE, fresh
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from toys import TOY, chain, layouts, mask_of, masks_for, same

from mpfl import masks, wire
from mpfl.masks import Keep
from mpfl.node import Plan
from mpfl.schedules import linear
from mpfl.seeds import rng_for
from mpfl.server import count_votes
from mpfl.types import MPFLError, Reply
from mpfl.wire import BLOCK, Ballots, Kind, add_packed, tally_stream

ALL = masks.full(TOY)
VGG11 = chain([64, 128, 256, 256, 512, 512, 512, 512], norm=False)


def one_by_one(rows, filters):
    """The slow twin."""
    return np.unpackbits(rows, axis=1, count=filters, bitorder="little").sum(axis=0)


def packed(mask, layout=TOY, round_=2, reference=None):
    reference = masks.full(layout) if reference is None else reference
    return wire.encode_mask(mask, layout, round_, reference=reference, coding="packed")


def draw_votes(layout, votes, seed=0):
    """Masks as one array, ``[votes, filters]``, and each as a payload of round 2."""
    bits = rng_for(seed, "votes").random((votes, layout.filters)) < 0.6
    return bits, [packed(masks.unflatten(row, layout), layout) for row in bits]


def sealed(payload, body, kind=None):
    """The payload with another body of its length (or another kind), its checksum put right."""
    tag = payload[2] if kind is None else 32 | kind
    message = payload[:2] + bytes([tag]) + payload[3 : -4 - len(body)] + body
    return message + zlib.crc32(message).to_bytes(4, "little")


# --- adding up rows of bits --------------------------------------------------------------------


def test_by_hand():
    rows = np.array([[0b101, 1], [0b110, 0], [0b100, 1]], np.uint8)
    assert add_packed(rows, 9).tolist() == [1, 1, 3, 0, 0, 0, 0, 0, 2]
    assert rows.tolist() == [[5, 1], [6, 0], [4, 1]], "the votes themselves were changed"


@pytest.mark.parametrize("filters", [1, 7, 8, 9, 63, 64, 65, 2752])
@pytest.mark.parametrize("votes", [0, 1, 2, 3, 4, 7, 8, 255, 1000, BLOCK + 1])
def test_equals_the_slow_twin(votes, filters):
    rows = rng_for(0, "rows", votes, filters).integers(
        0, 256, (votes, (filters + 7) // 8), np.uint8
    )
    counts = add_packed(rows, filters)
    assert counts.dtype == np.int64 and counts.shape == (filters,)
    assert np.array_equal(counts, one_by_one(rows, filters))


@pytest.mark.parametrize("votes", [1, 3, 7, 8, 1023, 1024, 2 * BLOCK, 2 * BLOCK + 5])
def test_where_all_say_the_same(votes):
    assert (add_packed(np.full((votes, 3), 255, np.uint8), 21) == votes).all()
    assert (add_packed(np.zeros((votes, 3), np.uint8), 21) == 0).all()


@given(st.integers(1, 200), st.integers(0, 40), st.data())
def test_any_rows_equal_the_slow_twin(filters, votes, data):
    rows = data.draw(arrays(np.uint8, (votes, (filters + 7) // 8)))
    assert np.array_equal(add_packed(rows, filters), one_by_one(rows, filters))


def test_rows_of_a_frame_need_not_lie_densely():
    wide = rng_for(0, "wide").integers(0, 256, (50, 31), np.uint8)
    assert np.array_equal(add_packed(wide[::2, 3:14], 85), one_by_one(wide[::2, 3:14], 85))


@pytest.mark.parametrize("filters", [8, 17])
def test_rows_of_another_length_are_refused(filters):
    with pytest.raises(MPFLError, match=f"rows are of 2 bytes, but {filters} filters take"):
        add_packed(np.zeros((3, 2), np.uint8), filters)


# --- the packed coding -------------------------------------------------------------------------


def test_packed_by_hand():
    mask = mask_of(TOY, "#.##", "##.", "....#")  # from the lowest bit: 1011 110 0, 0001
    payload = packed(mask)
    assert payload[2] == 0x24 and payload[9:-4] == bytes([2, 0b00111101, 0b00001000])
    assert same(wire.decode_mask(payload, TOY, 2, reference=ALL, coding="packed"), mask)


@given(st.data(), layouts())
def test_packed_masks_come_back_all_equally_long(data, layout):
    reference = data.draw(masks_for(layout))
    mask = masks.intersect(data.draw(masks_for(layout)), reference)
    payload = packed(mask, layout, reference=reference)
    assert wire.kind_of(payload) is Kind.PACKED
    assert len(payload) == len(packed(reference, layout, reference=reference))
    back = wire.decode_mask(payload, layout, 2, reference=reference, coding="packed")
    assert same(back, mask)
    row = wire.packed_rows([payload], layout, 2, reference=reference)
    assert np.array_equal(one_by_one(row, layout.filters), masks.flatten(mask, layout))


def test_one_coding_refuses_the_other():
    mask = mask_of(TOY, "#.##", "###", "#####")
    keep = Keep.by_layer(masks.counts(mask))
    for known, kind in ((keep, "KNOWN"), (None, "NESTED")):
        short = wire.encode_mask(mask, TOY, 2, reference=ALL, keep=known)
        with pytest.raises(MPFLError, match=f"^{kind} payload is not canonical .*'packed'"):
            wire.decode_mask(short, TOY, 2, reference=ALL, keep=known, coding="packed")
    with pytest.raises(MPFLError, match=r"^PACKED payload is not canonical: .*coding\?$"):
        wire.decode_mask(packed(mask), TOY, 2, reference=ALL)
    with pytest.raises(MPFLError, match=r"another model, reference, keep or coding\?$"):
        wire.decode_mask(packed(mask), TOY, 2, reference=ALL, keep=keep)


# --- a stream of payloads ----------------------------------------------------------------------


def test_a_stream_is_added_up_and_never_held():
    bits, payloads = draw_votes(WIDE, 300)
    whole = 3 * BLOCK + 17
    stream = islice(cycle(payloads), whole)
    expected = bits[np.arange(whole) % len(bits)].sum(axis=0)
    votes, voters = tally_stream(enumerate(stream), WIDE, 2, alive=masks.full(WIDE))
    assert next(stream, None) is None
    assert same(votes, masks.unflatten(expected, WIDE)) and voters == whole


def test_no_payload_is_no_vote():
    votes, voters = tally_stream([], TOY, 2, alive=ALL)
    assert voters == 0
    assert same(votes, {n: np.zeros(b.size, np.int64) for n, b in ALL.items()})
    assert wire.packed_rows([], TOY, 2, reference=ALL).shape == (0, 2)


@given(st.data(), layouts(), st.integers(0, 9))
def test_a_stream_equals_one_decoded_by_one(data, layout, votes):
    reference = data.draw(masks_for(layout))
    sent = [masks.intersect(data.draw(masks_for(layout)), reference) for _ in range(votes)]
    payloads = (packed(mask, layout, reference=reference) for mask in sent)
    counted, voters = tally_stream(enumerate(payloads), layout, 2, alive=reference)
    assert voters == votes
    for name, counts in counted.items():
        assert np.array_equal(counts, sum((mask[name].astype(int) for mask in sent), 0 * counts))


def peak(votes, payloads):
    tracemalloc.start()
    try:
        tally_stream(enumerate(islice(cycle(payloads), votes)), VGG11, 2, alive=masks.full(VGG11))
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_memory_is_a_matter_of_the_filters_not_of_the_votes():
    _, payloads = draw_votes(VGG11, 100)
    assert VGG11.filters == 2752
    few, many = peak(2 * BLOCK, payloads), peak(20_000, payloads)
    assert many < 16e6 and many < 1.1 * few


# --- one bad payload among good ones -----------------------------------------------------------

REFERENCE = mask_of(TOY, "###.", "###", "####.")
SAID = packed(mask_of(TOY, "#.#.", "##.", "##.#."), reference=REFERENCE)
OTHER = chain([4, 3, 5])
BAD = {
    "damaged": (SAID[:11] + bytes([SAID[11] ^ 1]) + SAID[12:], "checksum mismatch"),
    "damaged head": (b"X" + SAID[1:], "payload begins with b'XP'"),
    "cut short": (SAID[:-1], "payload is cut short"),
    "trailing": (SAID + b"\0", "has trailing bytes"),
    "empty": (b"", "payload is too short"),
    "late": (packed(ALL, round_=1), "payload is of round 1, not 2"),
    "other model": (packed(masks.full(OTHER), OTHER), "was it encoded for another model, ref"),
    "older version": (SAID[:2] + b"\x14" + SAID[3:], "payload is of version 1, not 2"),
    "newer version": (SAID[:2] + b"\x34" + SAID[3:], "payload is of version 3, not 2"),
    "other kind": (sealed(SAID, SAID[10:-4], Kind.NESTED), "NESTED payload is not canonical"),
    "unknown kind": (sealed(SAID, SAID[10:-4], 11), "payload is of unknown kind 11"),
    "not a mask": (wire.encode_empty(TOY, 2), "payload is of kind EMPTY"),
    "shortest": (
        wire.encode_mask(REFERENCE, TOY, 2, reference=REFERENCE),
        "NESTED payload is not canonical",
    ),
    "other reference": (packed(mask_of(TOY, "#.#.", "##.", "##.#.")), "for another model, refer"),
    "outside": (
        sealed(
            SAID,
            np.packbits(
                masks.flatten(mask_of(TOY, "#..#", "##.", "##..."), TOY), bitorder="little"
            ).tobytes(),
        ),
        "brings back 1 pruned filters",
    ),
    "padding": (sealed(SAID, bytes([SAID[10], SAID[11] | 16])), "PACKED payload is not canonical"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_payload_in_a_block_is_refused_in_the_usual_words(name):
    payload, message = BAD[name]
    with pytest.raises(MPFLError, match=re.escape(message)) as alone:
        wire.decode_mask(payload, TOY, 2, reference=REFERENCE, coding="packed")
    usual = re.escape(f"round 2, decode: {alone.value}")
    # In the middle, with a second bad one behind it; and behind a whole good block.
    for place in (20, BLOCK + 20):
        sent = [SAID] * (place + 20)
        sent[place], sent[place + 5] = payload, b""
        with pytest.raises(MPFLError, match=f"^node {place}, {usual}$"):
            tally_stream(enumerate(sent), TOY, 2, alive=REFERENCE)
        with pytest.raises(MPFLError, match=f"^node {1000 + place}, {usual}$"):
            tally_stream(enumerate(sent, 1000), TOY, 2, alive=REFERENCE)
    sent = [SAID, SAID, payload, b""]
    with pytest.raises(MPFLError, match=f"^node 1002, {usual}$"):
        Ballots.open(enumerate(sent, 1000), TOY, 2, alive=REFERENCE, coding="packed")
    with pytest.raises(MPFLError, match=f"^node 2, {usual}$"):
        wire.packed_rows(sent, TOY, 2, reference=REFERENCE)


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("rule", RULE_EXAMPLES, ids=str)
def test_a_round_with_a_bad_payload_names_its_node(rule, name):
    payload, message = BAD[name]
    replies = [Reply(2, SAID), Reply(3, payload), Reply(0, SAID)]
    state = fresh(TOY, REFERENCE)
    plan = Plan(TOY, linear(0.5), rounds=3, coding="packed")
    with pytest.raises(MPFLError, match=f"^node 3, round 2, decode: .*{re.escape(message)}"):
        count_votes(plan, rule, state, 2, replies)


@given(st.integers(0, 8 * len(SAID) - 1))
def test_no_flipped_bit_is_counted(bit):
    flipped = bytearray(SAID)
    flipped[bit // 8] ^= 1 << bit % 8
    with pytest.raises(MPFLError, match=r"^node 1, round 2, decode: "):
        tally_stream(enumerate([SAID, bytes(flipped), SAID]), TOY, 2, alive=REFERENCE)


@given(st.lists(st.binary(min_size=2, max_size=2), min_size=1, max_size=4))
def test_a_block_is_refused_exactly_where_one_of_its_masks_is(bodies):
    """Bodies that no encoder wrote, but with the right checksum."""
    payloads = [sealed(SAID, body) for body in bodies]

    def refused(read):
        try:
            read()
        except MPFLError:
            return True
        return False

    alone = [
        refused(lambda p=p: wire.decode_mask(p, TOY, 2, reference=REFERENCE, coding="packed"))
        for p in payloads
    ]
    block = list(enumerate(payloads))
    assert refused(lambda: tally_stream(block, TOY, 2, alive=REFERENCE)) == any(alone)
