"""w0 in a few bits per weight: by hand, as laws, what is refused, and in a run."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from messages import FLOATS, OF_FLOATS, ONE_EACH, TINY, body_of, reseal

from mpfl import masks, wire
from mpfl.algorithm import Start
from mpfl.baselines.fedavg import fedavg
from mpfl.filters import Layer, Layout
from mpfl.nets.networks import build
from mpfl.nets.start import initial_weights
from mpfl.runs.experiment import Experiment
from mpfl.runs.folder import load_tensors, save_weights
from mpfl.runs.runner import run
from mpfl.sign_votes import sign_votes
from mpfl.types import MPFLError
from mpfl.wire.frame import Kind

SMALL = Layout((Layer("a", 2, "a.w", own=("a.w", "a.b")),), {"a.w": (2, 2), "a.b": (2,)})
W0 = {"a.w": np.array([[1, -0.75], [0, 6]], np.float32), "a.b": np.array([0.1, 2], np.float32)}


def test_a_rounded_start_by_hand():
    # Three bits: levels up to 3. Steps 1/3 and 2; 1/3 has 17 bits, so that it is a little more.
    rounded = wire.round_weights(W0, SMALL, 3)
    third = np.array(0x3EAAAB00, np.uint32).view(np.float32)
    assert third > np.float32(1 / 3)
    assert np.array_equal(rounded["a.w"], [[3 * third, -2 * third], [0, 6]])
    assert np.array_equal(rounded["a.b"], W0["a.b"])
    body = body_of(wire.encode_rounded(rounded, SMALL, bits=3))
    # Levels 3, -2, 0, 3 are 011, 110, 000, 011 from the lowest bit on.
    levels = (0b011 | 0b110 << 3 | 0b011 << 9).to_bytes(2, "little")
    steps = np.array([third, 2], "<f4").tobytes()
    assert body == bytes([3]) + steps + levels + W0["a.b"].astype("<f4").tobytes()


NUMBERS = st.floats(-(2.0**100), 2.0**100, width=32)


@settings(max_examples=200, deadline=None)
@example((np.array([[16160, 384]]) * 2.0**-149).astype(np.float32), 7)
@given(
    arrays(np.float32, array_shapes(min_dims=1, max_dims=4, max_side=4), elements=NUMBERS),
    st.integers(2, 8),
)
def test_what_is_rounded_is_near_stays_and_comes_back(array, bits):
    layout = Layout((), {"w": array.shape})
    once = wire.round_weights({"w": array}, layout, bits)
    again = wire.round_weights(once, layout, bits)
    assert np.array_equal(once["w"], again["w"])
    back = wire.decode_start(wire.encode_rounded(once, layout, bits=bits), layout)
    assert back["w"].dtype == np.float32 and np.array_equal(back["w"], once["w"])
    if array.ndim == 1:
        assert np.array_equal(once["w"], array)
        return
    rows, near = (each.reshape(len(each), -1).astype(float) for each in (array, once["w"]))
    step = np.abs(rows).max(axis=1, keepdims=True) / wire.highest_level(bits)
    # Half a step, which is up to 2**-16 longer; a step below 2**-126 is 0.
    assert (np.abs(rows - near) <= step * np.where(step < 2.0**-126, 128, 0.5 + 2.0**-15)).all()


def test_a_channel_of_zeros_and_more_bits_than_needed():
    zeros = {"a.w": np.zeros((2, 2), np.float32), "a.b": np.zeros(2, np.float32)}
    assert not wire.round_weights(zeros, SMALL, 2)["a.w"].any()
    rounded = [wire.round_weights(FLOATS, OF_FLOATS, bits)["c0.weight"] for bits in (2, 4, 8)]
    errors = [float(np.abs(each - FLOATS["c0.weight"]).max()) for each in rounded]
    assert errors[0] > errors[1] > errors[2] > 0


GOOD = wire.encode_rounded(wire.round_weights(W0, SMALL, 3), SMALL, bits=3)
BODY = body_of(GOOD)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", r"bits is 0; give 2 to 8"),
        (b"\x09" + BODY[1:], r"bits is 9; give 2 to 8"),
        (BODY + b"\0", r"body holds 20 bytes, but 4 weights of 3 bits in 2 channels .* take 19"),
        (BODY[:1] + b"\xff" * 4 + BODY[5:], r"a weight is too large to be rounded"),
        (BODY[:1] + b"\xff\xff\xff\x7e" + BODY[5:], r"a weight is too large to be rounded"),
        (BODY[:1] + b"\0\0\x80\xbf" + BODY[5:], r"ROUNDED payload is not canonical"),
        (BODY[:10] + bytes([BODY[10] | 0xF0]) + BODY[11:], r"ROUNDED payload is not canonical"),
        (BODY[:9] + b"\0\0" + BODY[11:], r"ROUNDED payload is not canonical"),
        (BODY[:11] + b"\xff" * 8, r"statistics hold NaN or infinity"),
    ],
)
def test_other_bytes_are_refused(body, message):
    with pytest.raises(MPFLError, match=message):
        wire.decode_start(reseal(GOOD, body), SMALL)


def test_another_model_or_kind_is_refused():
    with pytest.raises(MPFLError, match=r"payload is for model .* another model"):
        wire.decode_start(GOOD, TINY)
    with pytest.raises(MPFLError, match=r"ROUNDED, but WEIGHTS is due"):
        wire.decode_weights(reseal(GOOD, BODY, Kind.ROUNDED), SMALL, 0)


@pytest.mark.parametrize(
    ("weights", "bits", "message"),
    [
        (W0, 1, r"bits is 1; give 2 to 8"),
        ({"a.w": W0["a.w"]}, 4, r"weights lack tensors \['a.b'\]"),
        (W0 | {"a.w": W0["a.w"].astype(np.int64)}, 4, r"'a.w' is of type int64; only floats"),
        (W0 | {"a.w": W0["a.w"] * np.float32(np.nan)}, 4, r"'a.w' holds NaN or infinity"),
        (W0 | {"a.b": np.array([1e300, 0])}, 4, r"weights 'a.b' hold NaN or infinity"),
        (
            W0 | {"a.w": np.full((2, 2), np.finfo(np.float32).max)},
            4,
            r"a weight is too large to be rounded",
        ),
    ],
)
def test_what_cannot_be_rounded_is_refused(weights, bits, message):
    with pytest.raises(MPFLError, match=message):
        wire.round_weights(weights, SMALL, bits)


def test_weights_that_are_not_rounded_are_not_sent_as_if_they_were():
    with pytest.raises(MPFLError, match=r"'a.w' would be changed on its way: in 4 bits"):
        wire.encode_rounded(W0, SMALL, bits=4)


@pytest.mark.parametrize("method", ["mpfl", "lottery", "fedavg"])
def test_a_run_from_a_rounded_w0_is_a_run_from_a_file_that_was_rounded(quick, tmp_path, method):
    """The same to the bit, but for the bytes of the start."""
    module = build("digits-cnn", 10)
    whole = initial_weights(module, 3)
    layout = Layout((), {name: array.shape for name, array in whole.items()})
    save_weights(tmp_path / "whole.safetensors", whole)
    save_weights(tmp_path / "rounded.safetensors", wire.round_weights(whole, layout, 4))
    runs = {}
    for name, changes in {"whole": {"w0_bits": 4}, "rounded": {}, "plain": {}}.items():
        file = "rounded" if name == "rounded" else "whole"
        e = quick(method, width=1.0, nodes=3, w0=str(tmp_path / f"{file}.safetensors"), **changes)
        runs[name] = run(e, tmp_path / name)
    ends = {name: load_tensors(tmp_path / name / "model.safetensors") for name in runs}
    for tensor, array in ends["whole"].items():
        assert np.array_equal(array, ends["rounded"][tensor])
    assert any(not np.array_equal(array, ends["plain"][t]) for t, array in ends["whole"].items())
    sent, other = (runs[name]["bytes"] for name in ("whole", "rounded"))
    begins = {"start", "final_start"} if method != "mpfl" else {"start"}
    assert {key for key in sent if sent[key] != other[key]} <= begins
    assert sum(sent.values()) < sum(other.values())


@pytest.mark.usefixtures("types_unchecked")
def test_a_random_w0_is_not_rounded():
    with pytest.raises(MPFLError, match=r"a random w0 is sent as its seed"):
        Experiment(w0_bits=4)
    with pytest.raises(MPFLError, match=r"w0_bits is 9; give 2 to 8"):
        Experiment(w0="a.safetensors", w0_bits=9)
    with pytest.raises(MPFLError, match=r"w0_bits is 4.0; give a whole number"):
        Experiment(w0="a.safetensors", w0_bits=4.0)


def no_draw(*given):
    raise AssertionError("nothing is drawn and nothing trained here")


def test_what_a_mask_leaves_is_not_sent_in_few_bits():
    w0 = wire.round_weights(FLOATS, OF_FLOATS, 4)
    begin = Start(w0, bits=4)
    methods = (
        lambda mask: fedavg(OF_FLOATS, no_draw, no_draw, mask=mask),
        lambda mask: sign_votes(
            OF_FLOATS, no_draw, no_draw, mask=mask, voted=["c0.weight"],
            length=lambda round_: 0.1, averages=lambda round_: False,
        ),
    )  # fmt: skip
    for method in methods:
        whole = method(masks.full(OF_FLOATS))
        sent = whole.start(whole.init(begin))
        assert len(sent) == wire.rounded_length(OF_FLOATS.shapes, bits=4)
        assert all(np.array_equal(whole.join(sent)[name], w0[name]) for name in w0)
        with pytest.raises(MPFLError, match=r"not what a mask leaves of it"):
            method(ONE_EACH).init(begin)
