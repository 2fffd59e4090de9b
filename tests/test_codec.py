"""Every message: by hand, there and back, as short as promised, and nothing else accepted."""

import json
import math
import re
import zlib
from itertools import combinations

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from mpfl import filters, masks, wire
from mpfl.filters import Layer, Layout, Reader
from mpfl.seeds import rng_for
from mpfl.types import MPFLError
from mpfl.wire import Kind

VGG11 = (64, 128, 256, 256, 512, 512, 512, 512)


def chain(*counts):
    """A chain of 1x1 convs with biases and batch-norm counters, then one output of all."""
    layers, readers, shapes = [], [], {}
    for i, (inputs, outputs) in enumerate(zip((3, *counts), counts, strict=False)):
        own = (f"c{i}.weight", f"c{i}.bias")
        after = f"c{i + 1}.weight" if i + 1 < len(counts) else "head.weight"
        layers.append(Layer(f"c{i}", outputs, own[0], own))
        readers.append(Reader(after, (f"c{i}",)))
        shapes |= {own[0]: (outputs, inputs), own[1]: (outputs,), f"c{i}.batches": ()}
    return Layout(tuple(layers), shapes | {"head.weight": (2, counts[-1])}, tuple(readers))


def mask_of(layout, *texts):
    """A mask written as one text a layer, ``#`` = kept."""
    rows = [np.array([bit == "#" for bit in text]) for text in texts]
    return {layer.name: row for layer, row in zip(layout.layers, rows, strict=True)}


def equal(one, other):
    return list(one) == list(other) and all(np.array_equal(one[k], other[k]) for k in one)


def draw_weights(layout, rng):
    return {
        name: np.array(rng.integers(9), dtype=np.int64)
        if name.endswith("batches")
        else rng.standard_normal(shape).astype(np.float32)
        for name, shape in layout.shapes.items()
    }


def reseal(payload, body, kind=None):
    """The payload with another body (and kind), its length and checksum put right."""
    tag = payload[2] if kind is None else 16 | kind
    length, rest = [], len(body)
    while True:
        length.append(rest % 128 + (128 if rest >= 128 else 0))
        rest //= 128
        if not rest:
            break
    message = payload[:2] + bytes([tag]) + payload[3:9] + bytes(length) + body
    return message + zlib.crc32(message).to_bytes(4, "little")


def body_of(payload):
    length = next(i for i, byte in enumerate(payload[9:], 1) if byte < 128)
    return payload[9 + length : -4]


TINY = chain(4, 3)
ALL = masks.full(TINY)
ONE_EACH = mask_of(TINY, "#.##", "##.")
WEIGHTS = draw_weights(TINY, rng_for(0, "tiny"))
VOTES = {"c0": np.array([4, 0, 1, 3]), "c1": np.array([2, 0, 0])}


@st.composite
def cases(draw):
    """A layout, a reference, a mask inside it, and what both sides know of the counts."""
    layout = chain(*draw(st.lists(st.integers(1, 24), min_size=1, max_size=5)))
    bits = st.lists(st.booleans(), min_size=layout.filters, max_size=layout.filters)
    # A flipped share of the draws is dense, as real masks are; hypothesis prefers sparse ones.
    flip_reference, flip_mask = draw(st.booleans()), draw(st.booleans())
    reference = np.array(draw(bits)) ^ flip_reference
    mask = (np.array(draw(bits)) ^ flip_mask) & reference
    reference, mask = masks.unflatten(reference, layout), masks.unflatten(mask, layout)
    kept = masks.counts(mask)
    other = {name: 0 for name in kept}
    keep = draw(st.sampled_from([None, kept, sum(kept.values()), other, 1]))
    return layout, reference, mask, keep


# --- by hand ---------------------------------------------------------------------------------


def test_frame_by_hand():
    payload = wire.encode_mask(ONE_EACH, TINY, 258, reference=ALL)
    assert payload[:2] == b"MP"
    assert payload[2] == 0x15  # version 1, kind 5
    assert payload[3:5] == bytes([2, 1])  # 258 = 2 + 256
    assert payload[5:9] == TINY.fingerprint
    assert payload[9] == 1  # one byte of body
    assert len(payload) == 15
    assert payload[-4:] == slow_crc(payload[:-4]).to_bytes(4, "little")


def slow_crc(data):
    """CRC-32 as a division of polynomials, one bit at a time."""
    rest = 0xFFFFFFFF
    for byte in data:
        for place in range(8):
            odd = (rest ^ byte >> place) & 1
            rest = rest >> 1 ^ (0xEDB88320 if odd else 0)
    return rest ^ 0xFFFFFFFF


@pytest.mark.parametrize(
    ("mask", "keep", "kind", "body"),
    [
        # Pruned: {1} of four and {2} of three, which are 1 of 4 and 2 of 3: 1 + 4 * 2 = 9.
        (("#.##", "##."), {"c0": 3, "c1": 2}, Kind.KNOWN, 9),
        # As one network: {1, 6} of seven, behind the six pairs 01-06 and 12, 13, 14, 15.
        (("#.##", "##."), 5, Kind.KNOWN, 10),
        # With the counts 1 of 0-4 and 1 of 0-3 before: 1 + 5 * (1 + 4 * 9) = 186.
        (("#.##", "##."), None, Kind.NESTED, 186),
        # Counts that the mask does not hold are left aside.
        (("#.##", "##."), {"c0": 4, "c1": 2}, Kind.NESTED, 186),
        (("#.##", "##."), 6, Kind.NESTED, 186),
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
    known = wire.encode_mask(mask, TINY, 1, reference=reference, keep={"c0": 2, "c1": 2})
    assert body_of(known) == bytes([1])
    # Counts 1 of 0-3 and 0 of 0-2, then rank 1 of 3 and 0 of 1: 1 + 4 * (0 + 3 * 1) = 13.
    nested = wire.encode_mask(mask, TINY, 1, reference=reference)
    assert body_of(nested) == bytes([13])


def test_nothing_new_costs_no_body_where_the_counts_are_known():
    payload = wire.encode_mask(ALL, TINY, 1, reference=ALL, keep=7)
    assert (wire.kind_of(payload), len(payload)) == (Kind.KNOWN, 14)


def test_ranks_against_the_masks_written_out():
    """The slow twin: list every mask of these counts, the first layer's turning fastest."""
    counts = {"c0": 2, "c1": 1}
    bodies = []
    for second in combinations(range(3), 2):
        for first in combinations(range(4), 2):
            mask = {"c0": ~np.isin(range(4), first), "c1": ~np.isin(range(3), second)}
            bodies.append(body_of(wire.encode_mask(mask, TINY, 1, reference=ALL, keep=counts)))
    assert bodies == [bytes([place]) for place in range(18)]


def test_counts_by_hand():
    # 4 voters take three bits each. Alive are #.##/##.: 4, 1, 3, 2, 0, from the lowest bit:
    # 001 100 110 010 000 and a bit of padding, so 0b11001100 of the bits 0-7, then 0b00000100.
    payload = wire.encode_counts(VOTES, 4, TINY, 3, reference=ONE_EACH)
    assert payload[2:5] == b"\x17\3\0" and payload[5:9] != TINY.fingerprint
    bits = "001 100 110 010 000 0".replace(" ", "")
    number = int(bits[::-1], 2)
    assert body_of(payload) == bytes([4]) + number.to_bytes(2, "little")


def test_what_a_mask_is_written_inside_by_hand():
    plain = wire.encode_mask(ONE_EACH, TINY, 3, reference=ALL)
    assert plain[5:9] == TINY.fingerprint
    # Inside #.##/##. the bits are 1011 1100, the first the highest; then what is known.
    for keep, text in ((None, b"null"), (4, b"4"), ({"c1": 1, "c0": 2}, b"[2, 1]")):
        payload = wire.encode_mask(ONE_EACH, TINY, 3, reference=ONE_EACH, keep=keep)
        expected = slow_crc(TINY.fingerprint + text + bytes([0b10111100]))
        assert payload[5:9] == expected.to_bytes(4, "little")
        assert wire.kind_of(payload) is Kind.NESTED and wire.round_of(payload) == 3


def test_seed_and_empty_by_hand():
    seed = wire.encode_seed(1 + 2 * 256, TINY)
    assert seed[2:5] == b"\x11\0\0" and body_of(seed) == bytes([1, 2, 0, 0, 0, 0, 0, 0])
    empty = wire.encode_empty(TINY, 3)
    assert empty[2:5] == b"\x13\3\0" and body_of(empty) == b"" and len(empty) == 14


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
    if keep == kept:
        bits.append(limit)
    if keep == sum(kept.values()):
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
    wrong = other[3] if not isinstance(other[3], dict) else {n: 9 for n in mask}
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


@st.composite
def histograms(draw):
    """A layout, a reference, and counts that some number of voters can make inside it."""
    layout, reference, *_ = draw(cases())
    voters = draw(st.integers(1, 9) | st.integers(1, 2**20))
    counts = st.lists(st.integers(0, voters), min_size=layout.filters, max_size=layout.filters)
    votes = np.array(draw(counts)) * masks.flatten(reference, layout)
    return layout, reference, masks.unflatten(votes, layout), voters


@settings(max_examples=200, deadline=None)
@given(histograms(), st.integers(0, 65535))
def test_counts_come_back(case, round_):
    layout, reference, votes, voters = case
    payload = wire.encode_counts(votes, voters, layout, round_, reference=reference)
    back, said = wire.decode_counts(payload, layout, round_, reference=reference)
    assert equal(back, votes) and said == voters
    assert all(counts.dtype == np.int64 for counts in back.values())
    # The formula, as a check: ceil(log2(n + 1)) bits a filter alive, behind the voters.
    bits = math.ceil(math.log2(voters + 1)) * sum(masks.counts(reference).values())
    assert len(body_of(payload)) == -(-voters.bit_length() // 7) + math.ceil(bits / 8)


@settings(deadline=None)
@given(st.integers(0, 2**64 - 1))
def test_seeds_come_back(seed):
    assert wire.decode_start(wire.encode_seed(seed, TINY), TINY) == seed


@settings(max_examples=40, deadline=None)
@given(cases(), st.none() | st.integers(0, 2**63 - 1), st.booleans(), st.integers(0, 65535))
def test_weights_come_back(case, samples, small, round_):
    layout, _, mask, _ = case
    weights = draw_weights(layout, rng_for(0, "weights"))
    mask = mask if small else None
    payload = wire.encode_weights(weights, layout, round_, mask=mask, samples=samples)
    back, said = wire.decode_weights(payload, layout, round_, mask=mask)
    sent = filters.cut(weights, mask, layout) if small else weights
    assert equal(back, sent) and said == samples
    assert all(back[name].dtype == sent[name].dtype for name in sent)


def test_weights_as_a_start():
    assert equal(wire.decode_start(wire.encode_weights(WEIGHTS, TINY, 0), TINY), WEIGHTS)


@pytest.mark.parametrize("dtype", ["<f4", ">f4", "<f8", "<f2"])
def test_weights_come_back_however_they_lie_in_memory(dtype):
    lying = {name: np.asarray(array, order="F") for name, array in WEIGHTS.items()}
    lying["c0.weight"] = np.arange(12, dtype=dtype).reshape(3, 4).T
    lying["c1.bias"] = np.arange(6, dtype=dtype)[::2]
    back, _ = wire.decode_weights(wire.encode_weights(lying, TINY, 1), TINY, 1)
    assert equal(back, {name: lying[name] for name in TINY.shapes})
    assert back["c0.weight"].dtype == np.dtype(dtype).newbyteorder("<")


def test_empty_comes_back():
    assert wire.decode_empty(wire.encode_empty(TINY, 9), TINY, 9) is None


# --- as short as promised --------------------------------------------------------------------


def test_nine_rounds_of_vgg11_take_at_most_1300_bytes():
    layout = chain(*VGG11)
    reference, total = masks.full(layout), 0
    for round_ in range(1, 10):
        counts, rng = layout.keep_counts(round_ / 10), rng_for(0, "vgg11", round_)
        mask = {
            name: np.isin(
                np.arange(bits.size), rng.permutation(np.flatnonzero(bits))[: counts[name]]
            )
            for name, bits in reference.items()
        }
        payload = wire.encode_mask(mask, layout, round_, reference=reference, keep=counts)
        assert wire.kind_of(payload) is Kind.KNOWN
        assert len(body_of(payload)) <= math.ceil(wire.limit_bits(mask, reference) / 8) + 1
        back = wire.decode_mask(payload, layout, round_, reference=reference, keep=counts)
        assert equal(back, mask)
        reference, total = mask, total + len(payload)
    assert 1000 < total <= 1300


def test_a_network_of_4800_as_one_group():
    layout = chain(*[300] * 16)
    bits = rng_for(0, "wide").random(4800) < 0.5
    mask, keep, full = masks.unflatten(bits, layout), int(bits.sum()), masks.full(layout)
    payload = wire.encode_mask(mask, layout, 1, reference=full, keep=keep)
    assert wire.kind_of(payload) is Kind.KNOWN and len(payload) <= 4800 / 8 + 16
    assert equal(wire.decode_mask(payload, layout, 1, reference=full, keep=keep), mask)


def test_limit_by_hand():
    # Two of four are 6, one of three is 3; of filters already gone nothing is counted.
    assert wire.limit_bits(mask_of(TINY, "#.#.", "##."), ALL) == pytest.approx(math.log2(18))
    assert wire.limit_bits(mask_of(TINY, "#..#", "##."), ONE_EACH) == pytest.approx(math.log2(3))
    assert wire.limit_bits(ALL, ALL) == wire.limit_bits(ALL, ALL, 7) == 0


def test_limit_of_one_count_for_the_whole_network_by_hand():
    # Three of seven are 35, two of five 10; counts a layer are no such count.
    mask = mask_of(TINY, "#.#.", "##.")
    assert wire.limit_bits(mask, ALL, 4) == pytest.approx(math.log2(35))
    assert wire.limit_bits(mask_of(TINY, "#..#", "#.."), ONE_EACH, 3) == pytest.approx(
        math.log2(10)
    )
    by_layer = wire.limit_bits(mask, ALL, {"c0": 2, "c1": 2})
    assert by_layer == wire.limit_bits(mask, ALL) == pytest.approx(math.log2(18))


# --- nothing else accepted -------------------------------------------------------------------

MESSAGES = {
    "seed": (wire.encode_seed(77, TINY), lambda p: wire.decode_start(p, TINY)),
    "empty": (wire.encode_empty(TINY, 3), lambda p: wire.decode_empty(p, TINY, 3)),
    "weights": (
        wire.encode_weights(WEIGHTS, TINY, 3, mask=ONE_EACH, samples=50),
        lambda p: wire.decode_weights(p, TINY, 3, mask=ONE_EACH),
    ),
    "packed": (
        wire.encode_mask(mask_of(TINY, "#.#.", "##."), TINY, 3, reference=ALL),
        lambda p: wire.decode_mask(p, TINY, 3, reference=ALL),
    ),
    "nested": (
        wire.encode_mask(ONE_EACH, TINY, 3, reference=ALL),
        lambda p: wire.decode_mask(p, TINY, 3, reference=ALL),
    ),
    "known": (
        wire.encode_mask(ONE_EACH, TINY, 3, reference=ALL, keep=5),
        lambda p: wire.decode_mask(p, TINY, 3, reference=ALL, keep=5),
    ),
    "counts": (
        wire.encode_counts(VOTES, 4, TINY, 3, reference=ONE_EACH),
        lambda p: wire.decode_counts(p, TINY, 3, reference=ONE_EACH),
    ),
}
NAMES = pytest.mark.parametrize("name", MESSAGES)


@NAMES
def test_every_damaged_message_is_refused(name):
    payload, decode = MESSAGES[name]
    decode(payload)
    # Weights are longer: every 7th bit reaches each byte, in all its places.
    for bit in range(0, 8 * len(payload), 7 if name == "weights" else 1):
        flipped = bytearray(payload)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(MPFLError):
            decode(bytes(flipped))
    for end in range(len(payload)):
        with pytest.raises(MPFLError):
            decode(payload[:end])
    for tail in (b"\0", b"\xff", payload):
        with pytest.raises(MPFLError, match="trailing bytes"):
            decode(payload + tail)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200) | st.binary(max_size=40).map(lambda tail: b"MP\x15" + tail))
def test_any_bytes_are_refused(noise):
    for _, decode in MESSAGES.values():
        with pytest.raises(MPFLError):
            decode(noise)
    with pytest.raises(MPFLError):
        wire.kind_of(noise)


@NAMES
@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_a_sealed_message_is_refused_or_canonical(name, data):
    """Bodies that no encoder wrote, but with the right length and checksum."""
    payload, decode = MESSAGES[name]
    body = bytearray(body_of(payload))
    if data.draw(st.booleans()) and body:
        for _ in range(data.draw(st.integers(1, 3))):
            body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    else:
        body = data.draw(st.binary(max_size=20))
    sealed = reseal(payload, bytes(body))
    try:
        value = decode(sealed)
    except MPFLError:
        return
    if name == "weights":
        weights, samples = value
        tensors = filters.expand(weights, ONE_EACH, TINY)
        assert wire.encode_weights(tensors, TINY, 3, mask=ONE_EACH, samples=samples) == sealed
    elif name == "seed":
        assert wire.encode_seed(value, TINY) == sealed
    elif name == "empty":
        assert sealed == payload
    elif name == "counts":
        assert wire.encode_counts(*value, TINY, 3, reference=ONE_EACH) == sealed
    else:
        keep = 5 if name == "known" else None
        assert wire.encode_mask(value, TINY, 3, reference=ALL, keep=keep) == sealed


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


def safetensors_body(header, data):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def test_foreign_safetensors_are_refused():
    payload = wire.encode_weights(WEIGHTS, TINY, 3)
    body = body_of(payload)
    size = int.from_bytes(body[:8], "little")
    header, data = json.loads(body[8 : 8 + size]), body[8 + size :]
    one = {"shape": [0], "data_offsets": [0, 0]}
    bodies = {
        "not canonical": [
            safetensors_body({**header, "__metadata__": None}, data),
            safetensors_body({**header, "__metadata__": {"by": "me"}}, data),
            safetensors_body({**header, "__metadata__": {"samples": "+5"}}, data),
            safetensors_body(json.dumps(header).encode() + b" " * 8, data),
        ],
        "samples is -5": [safetensors_body({**header, "__metadata__": {"samples": "-5"}}, data)],
        "not readable": [
            b"",
            bytes(8),
            b"\xff" * 30,
            safetensors_body(b"[" * 100_000, b""),
            safetensors_body({"a": one | {"dtype": "BF16"}}, b""),
            safetensors_body({"a": one | {"dtype": "F32", "shape": [0, 2**62]}}, b""),
            safetensors_body({**header, "__metadata__": {"samples": "many"}}, data),
            safetensors_body({**header, "__metadata__": {"samples": "9" * 5000}}, data),
        ],
        "lack tensors": [safetensors_body({"a": one | {"dtype": "F32"}}, b"")],
        "hold unknown tensors": [safetensors.numpy.save({**WEIGHTS, "a": np.zeros(1)})],
        "holds NaN": [safetensors.numpy.save({**WEIGHTS, "c0.bias": np.full(4, np.nan)})],
        "of type bool": [safetensors.numpy.save({**WEIGHTS, "c0.bias": np.ones(4, bool)})],
        "of shape [5], not [4]": [safetensors.numpy.save({**WEIGHTS, "c0.bias": np.zeros(5)})],
    }
    for message, each in bodies.items():
        for body in each:
            with pytest.raises(MPFLError, match=re.escape(message)):
                wire.decode_weights(reseal(payload, body), TINY, 3)


# --- errors say what is wrong ----------------------------------------------------------------

NESTED = MESSAGES["nested"][0]
INSIDE = wire.encode_mask(ONE_EACH, TINY, 3, reference=ONE_EACH)
EIGHT = wire.encode_mask(ONE_EACH, TINY, 3, reference=ALL, keep=8)  # more than there are
COUNTED = MESSAGES["counts"][0]
OTHER = chain(4, 3, 2)


def changed(payload, at, value):
    return payload[:at] + value + payload[at + len(value) :]


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        (b"", "too short: 0 bytes"),
        (NESTED[:13], "too short: 13 bytes"),
        (NESTED[:-1], "is cut short: 14 bytes, the frame says 15"),
        (NESTED + b"\0", "has trailing bytes: 16 bytes, the frame says 15"),
        (changed(NESTED, 9, b"\xff\xff\xff\xff\x7f"), f"the frame says {2**35 - 1 + 18}"),
        (changed(NESTED, 0, b"PK"), "begins with b'PK'"),
        (changed(NESTED, 2, b"\x25"), "of version 2, not 1"),
        (changed(NESTED, 9, b"\x81\0"), "not canonical LEB128"),
        (changed(NESTED, 9, b"\xff\xff\xff\xff\xff"), "not canonical LEB128"),
        (changed(NESTED, 10, b"\0"), "checksum mismatch"),
        (reseal(NESTED, b"", kind=0), "unknown kind 0"),
        (reseal(NESTED, b"", kind=8), "unknown kind 8"),
        (wire.encode_seed(1, TINY), "of kind SEED, but KNOWN or NESTED or PACKED is due"),
        (reseal(NESTED, b"\0" * 7, kind=1), "SEED body holds 7 bytes, not 8"),
        (reseal(NESTED, b"\0", kind=3), "EMPTY body holds 1 bytes, not 0"),
        (
            wire.encode_mask(masks.full(OTHER), OTHER, 3, reference=masks.full(OTHER)),
            f"payload is for {OTHER.fingerprint.hex()}, not {TINY.fingerprint.hex()}; was it enc",
        ),
        (wire.encode_mask(ONE_EACH, TINY, 2, reference=ALL), "of round 2, not 3"),
        (reseal(NESTED, b""), "body holds 0 bytes"),
        (reseal(NESTED, b"\0\0\0"), "too long for 7 filters"),
        (reseal(NESTED, b"\xff"), "rank is out of range"),
        (reseal(NESTED, b"\x7f\0", kind=4), "body holds 2 bytes, but 7 filters take 1"),
        (reseal(NESTED, b"\xb5", kind=4), "PACKED payload is not canonical"),  # a padding bit
        (reseal(NESTED, b"\x3d", kind=4), "PACKED payload is not canonical"),  # NESTED ties
        (MESSAGES["known"][0], "KNOWN payload leaves the kept counts out"),
    ],
)
def test_mask_errors(payload, message):
    with pytest.raises(MPFLError, match=re.escape(message)):
        wire.decode_mask(payload, TINY, 3, reference=ALL)


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
            lambda: wire.decode_mask(reseal(EIGHT, b"\0", kind=6), TINY, 3, reference=ALL, keep=8),
            "cannot choose -1 of 7",
        ),
        (
            lambda: wire.decode_mask(MESSAGES["known"][0], TINY, 3, reference=ALL, keep={"c0": 2}),
            "keep names layers ['c0'], but the model has ['c0', 'c1']",
        ),
        (
            lambda: wire.decode_mask(
                reseal(MESSAGES["known"][0], b"\xba", kind=5), TINY, 3, reference=ALL, keep=5
            ),
            "NESTED payload is not canonical",
        ),
        (
            lambda: wire.encode_counts(VOTES, 3, TINY, 3, reference=ONE_EACH),
            "counts of layer 'c0' go beyond the 3 voters, or bring back",
        ),
        (lambda: wire.encode_counts(VOTES, 0, TINY, 3, reference=ONE_EACH), "counts of 0 voters"),
        (
            lambda: wire.encode_counts(
                {**VOTES, "c1": np.array([2, 0, 1])}, 4, TINY, 3, reference=ONE_EACH
            ),
            "counts of layer 'c1' go beyond the 4 voters, or bring back",
        ),
        (
            lambda: wire.encode_counts({"c0": VOTES["c0"]}, 4, TINY, 3, reference=ONE_EACH),
            "counts of layer 'c1' are not int[3]",
        ),
        (
            lambda: wire.decode_counts(
                reseal(COUNTED, b"\4" + body_of(COUNTED)[1:] + b"\0"), TINY, 3, reference=ONE_EACH
            ),
            "body holds 3 bytes of counts, but those of 4 voters and 5 filters take 2",
        ),
        (
            lambda: wire.decode_counts(reseal(COUNTED, b"\4\xff\xff"), TINY, 3, reference=ONE_EACH),
            "go beyond the 4 voters",
        ),
        (
            lambda: wire.decode_counts(
                reseal(COUNTED, body_of(COUNTED)[:2] + bytes([body_of(COUNTED)[2] | 128])),
                TINY,
                3,
                reference=ONE_EACH,
            ),
            "COUNTS payload is not canonical",  # a padding bit
        ),
        (
            lambda: wire.decode_counts(reseal(COUNTED, b"\x84\0\0\0"), TINY, 3, reference=ONE_EACH),
            "the voters field is not canonical LEB128",
        ),
        (
            lambda: wire.decode_counts(reseal(COUNTED, b"\0"), TINY, 3, reference=ONE_EACH),
            "counts of 0 voters",
        ),
        (
            lambda: wire.decode_counts(NESTED, TINY, 3, reference=ALL),
            "kind NESTED, but COUNTS is due",
        ),
        (lambda: wire.encode_seed(-1, TINY), "seed -1 does not fit"),
        (lambda: wire.encode_seed(2**64, TINY), "does not fit 64 bits"),
        (lambda: wire.encode_empty(TINY, 65536), "round 65536 does not fit"),
        (lambda: wire.encode_empty(TINY, -1), "round -1 does not fit"),
        (lambda: wire.encode_weights(WEIGHTS, TINY, 0, samples=-1), "samples is -1"),
        (
            lambda: wire.encode_weights(
                {**WEIGHTS, "c0.bias": np.array([0, 1, np.inf, 0])}, TINY, 0
            ),
            "tensor 'c0.bias' holds NaN or infinity",
        ),
        (
            lambda: wire.encode_weights({"c0.bias": WEIGHTS["c0.bias"]}, TINY, 0),
            "lack tensors ['c0.batches', 'c0.weight', 'c1.batches']",
        ),
        (
            lambda: wire.encode_weights({**WEIGHTS, "c0.bias": np.zeros(4, complex)}, TINY, 0),
            "of type complex128",
        ),
        (
            lambda: wire.decode_weights(MESSAGES["weights"][0], TINY, 3),
            "tensor 'c0.weight' is of shape [3, 3], not [4, 3]",
        ),
        (
            lambda: wire.decode_start(wire.encode_weights(WEIGHTS, TINY, 1), TINY),
            "of round 1, not 0",
        ),
        (lambda: wire.decode_start(NESTED, TINY), "kind NESTED, but SEED or WEIGHTS is due"),
        (lambda: wire.kind_of(NESTED[:-1]), "is cut short"),
    ],
)
def test_other_errors(call, message):
    with pytest.raises(MPFLError, match=re.escape(message)):
        call()
