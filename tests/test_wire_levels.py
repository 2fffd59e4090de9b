"""Quantised numbers as bytes: by hand, as laws, and what is refused."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from messages import ONE_EACH, TINY, body_of, reseal

from mpfl import wire
from mpfl.seeds import rng_for
from mpfl.types import MPFLError
from mpfl.wire.frame import Kind

ONE = np.array([1.0], np.float32)


def test_levels_by_hand():
    # 1, -1, 0 in three bits each: 001, 111, 000, so 00 111 001 in the first byte.
    payload = wire.encode_levels(
        np.array([1, -1, 0], np.int8), ONE, TINY, 3, bits=3, mask=ONE_EACH, samples=258
    )
    assert body_of(payload) == bytes([2, 1, 0, 0]) + bytes([0, 0, 0x80, 0x3F]) + bytes([0x39, 0])
    assert wire.kind_of(payload) is Kind.LEVELS and wire.round_of(payload) == 3


@settings(max_examples=100, deadline=None)
@given(st.integers(2, 8), st.integers(0, 70), st.integers(0, 9), st.integers(0, 5))
def test_levels_come_back_and_their_length_is_known(bits, numbers, channels, more):
    rng = rng_for(numbers, "levels", bits)
    top = wire.highest_level(bits)
    levels = rng.integers(-top, top + 1, numbers).astype(np.int8)
    scales = rng.random(channels).astype(np.float32)
    told = rng.standard_normal(more).astype(np.float32)
    how = {"bits": bits, "mask": ONE_EACH}
    payload = wire.encode_levels(levels, scales, TINY, 9, **how, samples=7, statistics=told)
    assert len(payload) == wire.levels_length(numbers, channels, bits=bits, statistics=more)
    back = wire.decode_levels(payload, numbers, channels, TINY, 9, **how, statistics=more)
    assert back[2] == 7
    for one, other in zip((back[0], back[1], back[3]), (levels, scales, told), strict=True):
        assert np.array_equal(one, other) and one.dtype == other.dtype


GOOD = wire.encode_levels(np.ones(9, np.int8), ONE, TINY, 3, bits=2, mask=ONE_EACH, samples=5)
HEAD = bytes([5, 0, 0, 0])
SCALE = bytes([0, 0, 0x80, 0x3F])


@pytest.mark.parametrize(
    ("payload", "how", "message"),
    [
        (GOOD, {"numbers": 17}, "body holds 11 bytes, but 17 levels of 2 bits in 1 channels"),
        (GOOD, {"bits": 4}, "9 levels of 4 bits .* and the same number of bits"),
        (GOOD, {"channels": 2}, "in 2 channels and 0 statistics take 15"),
        (reseal(GOOD, HEAD + SCALE + b"\x55\x55\x05"), {}, "is not canonical"),
        (reseal(GOOD, HEAD + SCALE + b"\x02\0\0"), {}, "levels of 2 bits go from -1 to 1"),
        (reseal(GOOD, HEAD + b"\0\0\x80\xbf" + b"\0\0\0"), {}, "a scale is negative"),
        (reseal(GOOD, HEAD + b"\xff" * 4 + b"\0\0\0"), {}, "scales hold NaN or infinity"),
        (
            reseal(GOOD, HEAD + SCALE + b"\0\0\0" + b"\xff" * 4),
            {"statistics": 1},
            "statistics hold NaN or infinity",
        ),
        (reseal(GOOD, body_of(GOOD), Kind.SIGNS), {}, "SIGNS, but LEVELS is due"),
    ],
)
def test_other_bytes_are_refused(payload, how, message):
    with pytest.raises(MPFLError, match=message):
        wire.decode_levels(
            payload,
            **{"numbers": 9, "channels": 1, "layout": TINY, "round_": 3, "bits": 2} | how,
            mask=ONE_EACH,
        )


def test_every_flipped_bit_is_noticed():
    for place in range(8 * len(GOOD)):
        bad = bytearray(GOOD)
        bad[place // 8] ^= 1 << place % 8
        with pytest.raises(MPFLError):
            wire.decode_levels(bytes(bad), 9, 1, TINY, 3, bits=2, mask=ONE_EACH)


@pytest.mark.parametrize(
    ("levels", "scales", "how", "message"),
    [
        ([2], [1], {}, "levels of 2 bits go from -1 to 1"),
        ([-128], [1], {"bits": 8}, "levels of 8 bits go from -127 to 127"),
        ([1], [np.inf], {}, "scales hold NaN or infinity"),
        ([1], [3e38], {"bits": 3}, "a scale is too long for its highest level"),
        ([1], [1], {"statistics": np.array([np.nan], np.float32)}, "statistics hold NaN"),
        ([1], [1], {"samples": -1}, "samples is -1"),
        ([1], [1], {"samples": 1 << 32}, "samples is 4294967296"),
        ([1], [1], {"bits": 1}, "bits is 1; give 2 to 8"),
        ([1], [1], {"bits": 9}, "bits is 9; give 2 to 8"),
    ],
)
def test_what_cannot_be_sent_is_refused(levels, scales, how, message):
    with pytest.raises(MPFLError, match=message):
        wire.encode_levels(
            np.array(levels, np.int8),
            np.array(scales, np.float32),
            TINY,
            1,
            **{"bits": 2, "mask": ONE_EACH} | how,
        )
