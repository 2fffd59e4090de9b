"""A sum of masks as bytes, and back: by hand, as laws, and what is refused."""

import math
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from messages import ALL, MESSAGES, ONE_EACH, TINY, VOTES, body_of, cases, equal, reseal

from mpfl import masks, wire
from mpfl.types import MPFLError


def test_counts_by_hand():
    # 4 voters take three bits each. Alive are #.##/##.: 4, 1, 3, 2, 0, from the lowest bit:
    # 001 100 110 010 000 and a bit of padding, so 0b11001100 of the bits 0-7, then 0b00000100.
    payload = wire.encode_counts(VOTES, 4, TINY, 3, reference=ONE_EACH)
    assert payload[2:5] == b"\x27\3\0" and payload[5:9] != TINY.fingerprint
    bits = "001 100 110 010 000 0".replace(" ", "")
    number = int(bits[::-1], 2)
    assert body_of(payload) == bytes([4]) + number.to_bytes(2, "little")


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
    # The formula, as a check: ceil(log2(n + 1)) bits per filter alive, behind the voters.
    bits = math.ceil(math.log2(voters + 1)) * sum(masks.counts(reference).values())
    assert len(body_of(payload)) == -(-voters.bit_length() // 7) + math.ceil(bits / 8)


COUNTED = MESSAGES["counts"][0]


@pytest.mark.parametrize(
    ("call", "message"),
    [
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
            lambda: wire.decode_counts(MESSAGES["nested"][0], TINY, 3, reference=ALL),
            "kind NESTED, but COUNTS is due",
        ),
    ],
)
def test_what_is_refused(call, message):
    with pytest.raises(MPFLError, match=re.escape(message)):
        call()
