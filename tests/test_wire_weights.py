"""Weights, seeds and empty messages as bytes, and back; and foreign files that are refused."""

import json
import re

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st
from messages import MESSAGES, TINY, WEIGHTS, body_of, cases, draw_weights, equal, reseal

from mpfl import filters, wire
from mpfl.seeds import rng_for
from mpfl.types import MPFLError


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


@pytest.mark.parametrize(
    ("call", "message"),
    [
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
        (
            lambda: wire.decode_start(MESSAGES["nested"][0], TINY),
            "kind NESTED, but SEED or WEIGHTS or ROUNDED is due",
        ),
    ],
)
def test_what_is_refused(call, message):
    with pytest.raises(MPFLError, match=re.escape(message)):
        call()
