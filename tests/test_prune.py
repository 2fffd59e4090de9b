"""Laws of every score: by hand, against a loop, as laws."""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from toys import TOY, draw_weights, mask_of

from mpfl import prune
from mpfl.filters import Layer, Layout, Slices, apply
from mpfl.prune import (
    SCORES,
    bn_scale,
    filter_norms,
    l1,
    l2,
    needs_gradients,
    rms_weight,
    score_layers,
    taylor,
    uses_gradients,
)
from mpfl.seeds import rng_for
from mpfl.types import MPFLError, Update

few = settings(max_examples=30)

# --- scores ----------------------------------------------------------------------------------

# One conv of three filters, each of two inputs and one pixel. The second filter is pruned.
CONV = Layer("conv", 3, "w", ("w", "b", "g", "h"), scale="g", shift="h")
PLAIN = replace(CONV, own=("w", "b"), scale=None, shift=None)
UPDATE = Update(
    weights={
        "w": np.array([[3.0, -4.0], [0.0, 0.0], [0.0, 1.0]]).reshape(3, 2, 1, 1),
        "b": np.array([1.0, 0.0, 2.0]),
        "g": np.array([-2.0, 0.0, 0.5]),
        "h": np.array([1.0, 0.0, -3.0]),
    },
    gradients={
        "w": np.array([[1.0, 2.0], [9.0, 9.0], [9.0, 4.0]]).reshape(3, 2, 1, 1),
        "b": np.array([5.0, 9.0, -3.0]),
        "g": np.array([1.0, 9.0, 2.0]),
        "h": np.array([4.0, 9.0, 1.0]),
    },
)


def slow_taylor(rows, weights, gradients, layer):
    gates = [layer.scale, layer.shift] if layer.scale else ["w", "b"]
    return [
        sum(
            float(g) * float(v)
            for gate in gates
            for g, v in zip(np.ravel(gradients[gate][f]), np.ravel(weights[gate][f]), strict=True)
        )
        ** 2
        for f in range(layer.filters)
    ]


@dataclass(frozen=True)
class Row:
    """A score: what it gives for UPDATE (with and without batch norm), and a loop that agrees.

    ``slow(rows, weights, gradients, layer)`` gets the filters as lists of floats.
    """

    hand: Sequence[float] | None
    plain: Sequence[float] | None
    slow: Callable[..., list[float]] | None


TABLE: dict[str, Row] = {
    "l1": Row(
        hand=[7, 0, 1],
        plain=[7, 0, 1],
        slow=lambda rows, w, g, layer: [sum(abs(x) for x in row) for row in rows],
    ),
    "l2": Row(
        hand=[5, 0, 1],
        plain=[5, 0, 1],
        slow=lambda rows, w, g, layer: [math.sqrt(sum(x * x for x in row)) for row in rows],
    ),
    # Both inputs are used by some filter: a fan-in of 2.
    "rms_weight": Row(
        hand=[5 / math.sqrt(2), 0, 1 / math.sqrt(2)],
        plain=[5 / math.sqrt(2), 0, 1 / math.sqrt(2)],
        slow=lambda rows, w, g, layer: [
            math.sqrt(sum(x * x for x in row) / max(1, sum(map(any, zip(*rows, strict=True)))))
            for row in rows
        ],
    ),
    "bn_scale": Row(
        hand=[2, 0, 0.5],
        plain=None,  # refused
        slow=lambda rows, w, g, layer: [abs(float(x)) for x in w["g"]],
    ),
    # With batch norm (-2*1 + 1*4)^2 and (0.5*2 - 3*1)^2; without it
    # (3*1 - 4*2 + 1*5)^2 and (1*4 - 2*3)^2.
    "taylor": Row(hand=[4, 0, 4], plain=[0, 0, 4], slow=slow_taylor),
    "random": Row(hand=None, plain=None, slow=None),
    # A positive control: the norm upside down.
    "smallest": Row(
        hand=[-5, 0, -1],
        plain=[-5, 0, -1],
        slow=lambda rows, w, g, layer: [-math.sqrt(sum(x * x for x in row)) for row in rows],
    ),
}
every_score = pytest.mark.parametrize("name", TABLE)
looks = pytest.mark.parametrize("name", [name for name in TABLE if name != "random"])


def test_the_table_covers_every_score():
    public = {
        name
        for name, value in vars(prune).items()
        if callable(value) and getattr(value, "__module__", "") == prune.__name__
    }
    others = {"score_layers", "filter_norms", "uses_gradients", "needs_gradients"}
    others |= {"keep_best", "select", "_rows", "_l2"}
    assert set(TABLE) == set(SCORES) == public - others


def test_only_taylor_asks_for_gradients():
    assert [name for name, score in SCORES.items() if needs_gradients(score)] == ["taylor"]


def test_a_score_says_for_itself_that_it_needs_gradients():
    def steep(update, layer, rng):
        return np.zeros(layer.filters)

    assert not needs_gradients(steep)
    assert uses_gradients(steep) is steep and needs_gradients(steep)


@looks
def test_scores_by_hand(name):
    score, row = SCORES[name], TABLE[name]
    assert score(UPDATE, CONV, rng_for(0)).tolist() == pytest.approx(row.hand)
    if row.plain is not None:
        assert score(UPDATE, PLAIN, rng_for(0)).tolist() == pytest.approx(row.plain)


@st.composite
def updates(draw):
    """Any weights and gradients of CONV; some inputs are read by nobody."""
    values = st.floats(-4, 4, width=32)
    shapes = {"w": (3, 2, 1, 1), "b": (3,), "g": (3,), "h": (3,)}
    weights, gradients = (
        {name: draw(arrays(np.float32, shape, elements=values)) for name, shape in shapes.items()}
        for _ in range(2)
    )
    weights["w"][:, ~draw(arrays(bool, 2))] = 0
    return Update(weights, gradients)


@every_score
@few
@given(update=updates(), seed=st.integers(0, 9), order=st.permutations(range(3)))
def test_laws_of_scores(name, update, seed, order):
    score, row = SCORES[name], TABLE[name]
    before = [array.tobytes() for array in (*update.weights.values(), *update.gradients.values())]
    scores = score(update, CONV, rng_for(seed))
    assert scores.shape == (3,) and scores.dtype == np.float64
    assert np.isfinite(scores).all() and ((scores >= 0).all() or name == "smallest")
    assert np.array_equal(scores, score(update, CONV, rng_for(seed)))
    after = [array.tobytes() for array in (*update.weights.values(), *update.gradients.values())]
    assert before == after
    if row.slow is not None:
        rows = [[float(x) for x in f.ravel()] for f in update.weights["w"]]
        slow = row.slow(rows, update.weights, update.gradients, CONV)
        assert scores.tolist() == pytest.approx(slow, rel=1e-5, abs=1e-9)
        # A score knows what a filter holds, not where it stands.
        turned = Update(
            {n: a[list(order)] for n, a in update.weights.items()},
            {n: a[list(order)] for n, a in update.gradients.items()},
        )
        assert score(turned, CONV, rng_for(seed)) == pytest.approx(scores[list(order)])


@looks
def test_a_pruned_filter_scores_nothing(name):
    weights = apply(draw_weights(TOY), mask_of(TOY, "#.##", ".##", "##.#."), TOY)
    scores = SCORES[name](Update(weights, draw_weights(TOY, 1)), TOY.layers[0], rng_for(0))
    assert scores[1] == 0 and (scores[[0, 2, 3]] * (-1 if name == "smallest" else 1) > 0).all()


def test_random_is_uniform_noise_of_its_generator():
    many = Layer("many", 20_000, "w", ("w",))
    scores = prune.random(UPDATE, many, rng_for(0))
    assert 0 <= scores.min() < 0.001 and 0.999 < scores.max() < 1
    assert np.histogram(scores, 10)[0] == pytest.approx([2000] * 10, abs=200)
    assert not np.array_equal(scores, prune.random(UPDATE, many, rng_for(1)))


def test_rms_weight_compares_layers_of_any_size():
    # The same typical weight, 2, in a layer of one input and in a layer of nine.
    small = Update({"w": np.full((1, 1), 2.0)})
    large = Update({"w": np.full((1, 9), 2.0)})
    one = Layer("one", 1, "w", ("w",))
    assert rms_weight(small, one, rng_for(0)) == rms_weight(large, one, rng_for(0)) == [2]
    assert l2(small, one, rng_for(0)) < l2(large, one, rng_for(0))


def test_rms_weight_does_not_count_inputs_that_are_gone():
    rows = np.array([[3.0, 0, 4, 0], [0, 0, 1, 0]])  # two of four inputs are pruned
    layer = Layer("two", 2, "w", ("w",))
    scores = rms_weight(Update({"w": rows}), layer, rng_for(0))
    assert scores == pytest.approx([5 / math.sqrt(2), 1 / math.sqrt(2)])


def test_taylor_of_units_with_slices_of_their_own_order_is_taken_over_all_of_them():
    """As attention heads have them: the rows of a fused weight, in three places, and its bias."""
    units = (0, 0, 1, 1) * 3
    layer = Layer("heads", 2, "w", (), more=(Slices("w", 0, units), Slices("b", 0, units)))
    rng = rng_for(0, "heads")
    weights, gradients = (
        {"w": rng.standard_normal((12, 5)), "b": rng.standard_normal(12)} for _ in range(2)
    )
    expected = [
        sum(
            float(weights[name][row].ravel() @ gradients[name][row].ravel())
            for name in ("w", "b")
            for row in range(12)
            if units[row] == unit
        )
        ** 2
        for unit in range(2)
    ]
    assert min(expected) > 0
    found = taylor(Update(weights, gradients), layer, rng)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_taylor_without_batch_norm_takes_only_what_has_a_gradient():
    gradients = {"w": UPDATE.gradients["w"]}
    scores = taylor(Update(UPDATE.weights, gradients), PLAIN, rng_for(0))
    assert scores.tolist() == [25, 0, 16]  # (3 - 8)^2 and 4^2


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: bn_scale(UPDATE, PLAIN, rng_for(0)), "layer 'conv' has no batch norm"),
        (
            lambda: taylor(Update(UPDATE.weights), CONV, rng_for(0)),
            "score 'taylor' needs gradients; train with gradients=True",
        ),
        (
            lambda: score_layers(
                l1, Update({"w": np.array([[1.0], [np.nan], [np.inf]])}), LAYOUT, rng_for(0)
            ),
            "score: layer 'conv' has 2 scores that are not finite; training diverged",
        ),
    ],
)
def test_what_scores_refuse(call, message):
    with pytest.raises(MPFLError, match=re.escape(message)):
        call()


LAYOUT = Layout((replace(PLAIN, own=("w",)),), {"w": (3, 1)})


def test_every_layer_is_scored():
    scores = score_layers(l1, Update(draw_weights(TOY)), TOY, rng_for(0))
    assert {name: values.size for name, values in scores.items()} == {
        "conv1": 4,
        "conv2": 3,
        "fc": 5,
    }
    assert np.array_equal(scores["fc"], l1(Update(draw_weights(TOY)), TOY.layers[2], rng_for(0)))


def test_norms_are_those_of_w0():
    weights = draw_weights(TOY)
    norms = filter_norms(weights, TOY)
    for layer in TOY.layers:
        for f in range(layer.filters):
            slow = sum(float(x) ** 2 for x in weights[layer.weight][f].ravel()) ** 0.5
            assert norms[layer.name][f] == pytest.approx(slow)
