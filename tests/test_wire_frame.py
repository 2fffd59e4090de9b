"""The frame of every message: by hand, and nothing accepted that no encoder wrote."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from messages import (
    ALL,
    MESSAGES,
    OF_FLOATS,
    ONE_EACH,
    OTHER,
    TINY,
    body_of,
    reseal,
    slow_crc,
    together,
)

from mpfl import filters, masks, wire
from mpfl.types import MPFLError


def test_frame_by_hand():
    payload = wire.encode_mask(ONE_EACH, TINY, 258, reference=ALL)
    assert payload[:2] == b"MP"
    assert payload[2] == 0x25  # version 2, kind 5
    assert payload[3:5] == bytes([2, 1])  # 258 = 2 + 256
    assert payload[5:9] == TINY.fingerprint
    assert payload[9] == 1  # one byte of body
    assert len(payload) == 15
    assert payload[-4:] == slow_crc(payload[:-4]).to_bytes(4, "little")


def test_seed_and_empty_by_hand():
    seed = wire.encode_seed(1 + 2 * 256, TINY)
    assert seed[2:5] == b"\x21\0\0" and body_of(seed) == bytes([1, 2, 0, 0, 0, 0, 0, 0])
    empty = wire.encode_empty(TINY, 3)
    assert empty[2:5] == b"\x23\3\0" and body_of(empty) == b"" and len(empty) == 14


# --- nothing else accepted -------------------------------------------------------------------

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
@given(st.binary(max_size=200) | st.binary(max_size=40).map(lambda tail: b"MP\x25" + tail))
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
    elif name == "rounded":
        assert wire.encode_rounded(value, OF_FLOATS, bits=body[0]) == sealed
    elif name == "empty":
        assert sealed == payload
    elif name == "counts":
        assert wire.encode_counts(*value, TINY, 3, reference=ONE_EACH) == sealed
    else:
        keep = together(5) if name == "known" else None
        assert wire.encode_mask(value, TINY, 3, reference=ALL, keep=keep) == sealed


# --- errors say what is wrong ----------------------------------------------------------------

NESTED = MESSAGES["nested"][0]


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
        (
            changed(NESTED, 2, b"\x15"),
            "of version 1, not 2: an older mpfl wrote it; update",
        ),
        (
            changed(NESTED, 2, b"\x35"),
            "of version 3, not 2: a newer mpfl wrote it; update",
        ),
        (changed(NESTED, 9, b"\x81\0"), "not canonical LEB128"),
        (changed(NESTED, 9, b"\xff\xff\xff\xff\xff"), "not canonical LEB128"),
        (changed(NESTED, 10, b"\0"), "checksum mismatch"),
        (reseal(NESTED, b"", kind=0), "unknown kind 0"),
        (reseal(NESTED, b"", kind=11), "unknown kind 11"),
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


def test_a_kind_is_read_of_a_whole_message_only():
    with pytest.raises(MPFLError, match="is cut short"):
        wire.kind_of(NESTED[:-1])
