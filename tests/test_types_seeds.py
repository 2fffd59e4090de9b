"""The error a user sees, the values that travel, and where every random draw comes from."""

import doctest
import hashlib
import pickle
from dataclasses import FrozenInstanceError

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpfl import types
from mpfl.seeds import rng_for
from mpfl.types import MPFLError, Reply, Update, located

parts = st.text("abcnode-_ 0123", max_size=6) | st.integers(-3, 40)
paths = st.lists(parts, max_size=4).map(tuple)


# --- errors ----------------------------------------------------------------------------------


def test_an_error_says_where_from_the_outside_in():
    with pytest.raises(MPFLError) as caught, located("node 3", "round 4"), located("decode"):
        raise MPFLError("payload is empty")
    assert str(caught.value) == "node 3, round 4: decode: payload is empty"
    assert str(caught.value.__cause__) == "decode: payload is empty"


def test_an_error_is_one_line_whatever_it_names():
    error = MPFLError("folder a\nb\x1b[31m, and naïve\udcff")
    assert str(error) == r"folder a\nb\x1b[31m, and naïve\udcff"
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


def test_only_errors_of_the_user_are_located():
    with pytest.raises(ZeroDivisionError, match=r"^division by zero$"), located("node 3"):
        1 / 0  # noqa: B018
    with located("node 3"):
        pass
    assert issubclass(MPFLError, ValueError)


def test_the_example_in_the_documentation_holds():
    assert doctest.testmod(types) == (0, 9)


@pytest.mark.parametrize("value", [Update({}), Reply(0, b"")], ids=["Update", "Reply"])
def test_values_that_travel_do_not_change(value):
    with pytest.raises(FrozenInstanceError):
        value.metrics = {}
    assert dict(value.metrics) == {}


# --- seeds -----------------------------------------------------------------------------------


def slow_rng(seed, *path):
    """The recipe of a stream, spelt out: what is hashed, and what the hash seeds."""
    label = "/".join(("str:" if isinstance(p, str) else "int:") + str(p) for p in path)
    digest = hashlib.blake2b(label.encode(), digest_size=16).digest()
    words = [int.from_bytes(digest[i : i + 4], "little") for i in (0, 4, 8, 12)]
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, *words])))


def first(rng):
    return rng.bit_generator.random_raw(2).tolist()


@given(st.integers(0, 2**70), paths)
def test_a_stream_is_its_recipe(seed, path):
    assert first(rng_for(seed, *path)) == first(slow_rng(seed, *path))


def test_streams_never_move():
    # Written down once: were these to change, no recorded run could be run again.
    assert first(rng_for(0, "node", 1, 0)) == [3982764360714650315, 10527543996466684726]
    assert first(rng_for(7)) == [11039787102500398034, 15037088892522161279]


@given(st.integers(0, 99), st.integers(0, 99), paths, paths)
def test_other_arguments_give_another_stream(seed, other_seed, path, other_path):
    equal = (seed, path) == (other_seed, other_path)
    assert (first(rng_for(seed, *path)) == first(rng_for(other_seed, *other_path))) == equal


@pytest.mark.parametrize(
    ("one", "other"),
    [((1,), ("1",)), (("node", 12), ("node", 1, 2)), ((1, 2), (2, 1)), ((), ("",)), ((), (0,))],
)
def test_paths_that_look_alike(one, other):
    assert first(rng_for(0, *one)) != first(rng_for(0, *other))


def test_streams_do_not_depend_on_the_order_of_calls():
    early, late = rng_for(0, "a"), rng_for(0, "b")
    apart = [late.random(), early.random()]
    assert apart == [rng_for(0, "b").random(), rng_for(0, "a").random()]
