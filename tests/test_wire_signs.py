"""Directions as bytes: by hand, as laws, and what is refused."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from messages import ONE_EACH, TINY, body_of, reseal

from mpfl import wire
from mpfl.seeds import rng_for
from mpfl.types import MPFLError
from mpfl.wire.frame import Kind


def test_signs_by_hand():
    # Nine signs, the first in the lowest bit: 1101 0000 | 1, then a float32 of 1.
    signs = np.array([[1, 1, 0, 1, 0, 0, 0, 0, 1]], bool)
    told = np.array([1.0], np.float32)
    payload = wire.encode_signs(signs, TINY, 3, mask=ONE_EACH, statistics=told)
    assert body_of(payload) == bytes([0b1011, 1]) + bytes([0, 0, 0x80, 0x3F])
    assert wire.kind_of(payload) is Kind.SIGNS and wire.round_of(payload) == 3


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 200), st.integers(1, 4), st.integers(0, 5), st.integers(0, 65535))
def test_signs_come_back_and_their_length_is_known(numbers, rounds, more, round_):
    rng = rng_for(numbers, "signs", rounds)
    signs = rng.random((rounds, numbers)) < 0.5
    told = rng.standard_normal(rounds * more).astype(np.float32)
    payload = wire.encode_signs(signs, TINY, round_, mask=ONE_EACH, statistics=told)
    assert len(payload) == wire.signs_length(numbers, rounds=rounds, statistics=more)
    for asked in (rounds, None):
        back, said = wire.decode_signs(
            payload, numbers, TINY, round_, mask=ONE_EACH, rounds=asked, statistics=more
        )
        assert np.array_equal(back, signs) and np.array_equal(said, told)


def test_statistics_are_as_many_for_every_round():
    signs, told = np.ones((2, 9), bool), np.ones(3, np.float32)
    with pytest.raises(MPFLError, match="3 statistics for 2 rounds; give as many for every round"):
        wire.encode_signs(signs, TINY, 3, mask=ONE_EACH, statistics=told)


GOOD = wire.encode_signs(np.ones((1, 9), bool), TINY, 3, mask=ONE_EACH)
FULL = {"c0": np.ones(4, bool), "c1": np.ones(3, bool)}


@pytest.mark.parametrize(
    ("payload", "how", "message"),
    [
        (GOOD, {"numbers": 17}, "body holds 2 bytes, but 1 rounds of 17 signs and 0 statistics"),
        (GOOD, {"statistics": 1}, "and 1 statistics take 6; do both sides hold the same mask"),
        (GOOD, {"rounds": 2}, "body holds 2 bytes, but 2 rounds"),
        (reseal(GOOD, b"\xff\x03"), {}, "SIGNS payload is not canonical"),
        (reseal(GOOD, b""), {"rounds": None}, "body holds 0 bytes"),
        (reseal(GOOD, b"\xff\x01" + b"\xff" * 4), {"statistics": 1}, "NaN or infinity"),
        (reseal(GOOD, b"\xff\x01", Kind.PACKED), {}, "PACKED, but SIGNS is due"),
    ],
)
def test_other_bytes_are_refused(payload, how, message):
    with pytest.raises(MPFLError, match=message):
        wire.decode_signs(
            payload, **{"numbers": 9, "layout": TINY, "round_": 3} | how, mask=ONE_EACH
        )


def test_signs_of_another_mask_or_round_are_refused():
    with pytest.raises(MPFLError, match="was it encoded for another"):
        wire.decode_signs(GOOD, 9, TINY, 3, mask=FULL)
    with pytest.raises(MPFLError, match="of round 3, not 4"):
        wire.decode_signs(GOOD, 9, TINY, 4, mask=ONE_EACH)


def test_every_flipped_bit_is_noticed():
    for place in range(8 * len(GOOD)):
        bad = bytearray(GOOD)
        bad[place // 8] ^= 1 << place % 8
        with pytest.raises(MPFLError):
            wire.decode_signs(bytes(bad), 9, TINY, 3, mask=ONE_EACH)


@pytest.mark.parametrize(
    ("signs", "told", "message"),
    [
        (np.ones((0, 9), bool), None, "signs of no round"),
        (np.ones((1, 9), bool), np.array([np.nan], np.float32), "NaN or infinity"),
    ],
)
def test_what_cannot_be_sent_is_refused(signs, told, message):
    with pytest.raises(MPFLError, match=message):
        wire.encode_signs(signs, TINY, 1, mask=ONE_EACH, statistics=told)
