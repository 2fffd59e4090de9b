"""Cutting filters out and putting them back: by hand, against loops, and as laws."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toys import TOY, chain, draw_weights, layouts, mask_of, masks_for, same

from mpfl import masks
from mpfl.filters import (
    Layer,
    Layout,
    Reader,
    apply,
    channels,
    cut,
    cut_shapes,
    expand,
    rescaled,
)
from mpfl.types import MPFLError

few = settings(max_examples=25)


@st.composite
def cases(draw):
    """A layout, its weights, and a mask."""
    layout = draw(layouts())
    return layout, draw_weights(layout, draw(st.integers(0, 9))), draw(masks_for(layout))


# --- by hand ---------------------------------------------------------------------------------

#               conv1   conv2  fc
HAND = mask_of(TOY, "#.##", ".##", "##.#.")


def test_shapes_by_hand():
    assert cut_shapes(TOY, HAND) == {
        "conv1.weight": (3, 1, 2, 2),
        "conv1.bias": (3,),
        "bn1.weight": (3,),
        "bn1.bias": (3,),
        "bn1.mean": (3,),
        "bn1.var": (3,),
        "conv2.weight": (2, 3, 1, 2),
        "conv2.bias": (2,),
        "fc.weight": (3, 4),
        "fc.bias": (3,),
        "temperature": (2,),
        "steps": (),
    }


def test_apply_by_hand():
    # The first channel of conv2 is gone: two columns of fc, as each channel has two pixels.
    weights = draw_weights(TOY) | {"fc.weight": np.arange(1.0, 31).reshape(5, 6)}
    masked = apply(weights, HAND, TOY)
    assert masked["fc.weight"].tolist() == [
        [0, 0, 3, 4, 5, 6],
        [0, 0, 9, 10, 11, 12],
        [0, 0, 0, 0, 0, 0],
        [0, 0, 21, 22, 23, 24],
        [0, 0, 0, 0, 0, 0],
    ]
    assert cut(weights, HAND, TOY)["fc.weight"].tolist() == [
        [3, 4, 5, 6],
        [9, 10, 11, 12],
        [21, 22, 23, 24],
    ]
    for name in ("conv1.bias", "bn1.weight", "bn1.bias", "bn1.mean", "bn1.var"):
        assert (masked[name] != 0).tolist() == [True, False, True, True]
    assert (masked["conv2.weight"][:, 1] == 0).all() and (masked["conv2.weight"][0] == 0).all()
    assert (masked["conv2.weight"][1:, [0, 2, 3]] != 0).all()


def test_rescaled_by_hand():
    # Three of conv1's four channels are left to conv2, and two of conv2's three to fc.
    weights, factors = draw_weights(TOY), {"conv2.weight": 4 / 3, "fc.weight": 3 / 2}
    larger = rescaled(weights, HAND, TOY)
    assert larger.keys() == weights.keys()
    for name, array in weights.items():
        assert larger[name].dtype == array.dtype
        np.testing.assert_allclose(larger[name], array * factors.get(name, 1) ** 0.5, rtol=1e-6)
    assert same(rescaled(weights, masks.full(TOY), TOY), weights)
    assert rescaled({}, HAND, TOY) == {}
    with pytest.raises(MPFLError, match="layer 'conv9', which the model does not have"):
        rescaled(weights, HAND | {"conv9": np.ones(2, bool)}, TOY)
    with pytest.raises(MPFLError, match=r"'fc.weight' is \[2, 6\], but must be \[5, 6\]"):
        rescaled(weights | {"fc.weight": np.ones((2, 6))}, HAND, TOY)


@pytest.mark.parametrize(
    "reader", [Reader("b", ("a", "more")), Reader("b", ("a",), axis=0)], ids=["a sum", "axis 0"]
)
def test_what_is_no_chain_is_not_rescaled(reader):
    layers = tuple(Layer(name, 2, name, (name,)) for name in ("a", "more"))
    layout = Layout(layers, {"a": (2, 1), "more": (2, 1), "b": (2, 2)}, (reader,))
    with pytest.raises(MPFLError, match=r"'b' follows axis .* leave rescaled at False"):
        rescaled({"b": np.ones((2, 2))}, masks.full(layout), layout)


def test_what_a_rescaled_layer_sums_up_keeps_its_size():
    rng = np.random.default_rng(0)
    layer = Layer("a", 500, "a", ("a",))
    layout = Layout((layer,), {"a": (500, 3), "b": (400, 500)}, (Reader("b", ("a",)),))
    weights = {"a": rng.normal(size=(500, 3)), "b": rng.normal(size=(400, 500))}
    signal = rng.normal(size=(500, 200))
    mask = {"a": rng.permutation(500) < 100}
    sizes = [
        np.std(apply(each, mask, layout)["b"] @ signal)
        for each in (weights, rescaled(weights, mask, layout))
    ]
    whole = np.std(weights["b"] @ signal)
    assert sizes[0] < 0.6 * whole and sizes[1] == pytest.approx(whole, rel=0.1)


def test_a_sum_is_read_until_all_of_its_layers_have_pruned_a_channel():
    # Two layers of four filters are added up, and each channel of the sum has two pixels.
    layout = chain([4], blocks=[2], norm=False, join=True)
    mask = mask_of(layout, "##..", "#.#.")
    assert channels(mask, layout.readers[0]).tolist() == [True, True, True, False]
    masked = apply({"head.weight": np.ones((2, 8))}, mask, layout)
    assert masked["head.weight"].tolist() == [[1, 1, 1, 1, 1, 1, 0, 0]] * 2
    assert cut_shapes(layout, mask) == {
        "steps": (),
        "layer0.weight": (2, 3),
        "layer0.bias": (2,),
        "side.weight": (2, 3),
        "side.bias": (2,),
        "head.weight": (2, 6),
    }


def test_a_channel_that_each_mask_takes_from_one_side_of_a_sum_goes_by_both_at_once_only():
    layout = chain([1], norm=False, join=True)
    one, other = mask_of(layout, "#", "."), mask_of(layout, ".", "#")
    weights = {"head.weight": np.ones((2, 1))}
    assert apply(apply(weights, one, layout), other, layout)["head.weight"].all()
    assert not apply(weights, masks.intersect(one, other), layout)["head.weight"].any()


def test_tensors_of_no_filter_are_left_alone():
    weights = draw_weights(TOY)
    for result in (cut(weights, HAND, TOY), apply(weights, HAND, TOY)):
        assert result["temperature"] is weights["temperature"]
        assert result["steps"] is weights["steps"]


# --- slow twins: one filter at a time --------------------------------------------------------


def silent(mask, layout):
    """Each reader with each channel that none of its layers writes any more."""
    return [
        (reader, channel)
        for reader in layout.readers
        for channel in range(len(mask[reader.layers[0]]))
        if not any(mask[name][channel] for name in reader.layers)
    ]


def slow_apply(weights, mask, layout):
    masked = {name: array.copy() for name, array in weights.items()}
    for layer in layout.layers:
        for f in range(layer.filters):
            if not mask[layer.name][f]:
                for tensor in layer.own:
                    masked[tensor][f] = 0
    for reader, channel in silent(mask, layout):
        for i in range(reader.block):
            masked[reader.tensor][:, channel * reader.block + i] = 0
    return masked


def slow_cut(weights, mask, layout):
    small = dict(weights)
    for layer in layout.layers:
        for f in reversed(range(layer.filters)):  # from the end: the places before stay valid
            if not mask[layer.name][f]:
                for tensor in layer.own:
                    small[tensor] = np.delete(small[tensor], f, axis=0)
    for reader, channel in reversed(silent(mask, layout)):
        for _ in range(reader.block):
            small[reader.tensor] = np.delete(small[reader.tensor], channel * reader.block, axis=1)
    return small


def slow_expand(small, mask, layout):
    full = dict(small)
    for layer in layout.layers:
        for f in range(layer.filters):
            if not mask[layer.name][f]:
                for tensor in layer.own:
                    full[tensor] = np.insert(full[tensor], f, 0, axis=0)
    for reader, channel in silent(mask, layout):
        for _ in range(reader.block):
            full[reader.tensor] = np.insert(full[reader.tensor], channel * reader.block, 0, axis=1)
    return full


@few
@given(cases())
def test_equal_to_the_slow_twins(case):
    layout, weights, mask = case
    assert same(apply(weights, mask, layout), slow_apply(weights, mask, layout))
    small = cut(weights, mask, layout)
    assert same(small, slow_cut(weights, mask, layout))
    assert same(expand(small, mask, layout), slow_expand(small, mask, layout))
    assert cut_shapes(layout, mask) == {name: array.shape for name, array in small.items()}


# --- laws ------------------------------------------------------------------------------------


@few
@given(cases(), st.data())
def test_laws(case, data):
    layout, weights, mask = case
    other = data.draw(masks_for(layout))
    before = {name: array.copy() for name, array in weights.items()}
    masked = apply(weights, mask, layout)
    small = cut(weights, mask, layout)
    assert same(expand(small, mask, layout), masked)
    assert same(cut(masked, mask, layout), small)
    assert same(apply(masked, mask, layout), masked)
    both = masks.intersect(mask, other)
    assert same(apply(masked, both, layout), apply(weights, both, layout))
    if all(len(reader.layers) == 1 for reader in layout.readers):
        assert same(apply(masked, other, layout), apply(weights, both, layout))
    assert same(apply(weights, masks.full(layout), layout), weights)
    assert same(cut(weights, masks.full(layout), layout), weights)
    assert same(weights, before)
    assert all(array.flags.c_contiguous for array in small.values())


def forward(weights, layout, x):
    """A dense chain by hand: weights, bias, batch norm, ReLU, and ``block`` pixels a channel."""
    pixels = {reader.layers[0]: reader.block for reader in layout.readers}
    for layer in layout.layers:
        x = weights[layer.weight] @ x + weights[f"{layer.name}.bias"]
        x = weights[f"{layer.name}.scale"] * (x - weights[f"{layer.name}.mean"])
        x = np.maximum(x + weights[f"{layer.name}.shift"], 0)
        x = np.repeat(x, pixels[layer.name])
    return weights["head.weight"] @ x


@few
@given(st.data())
def test_the_small_network_computes_what_the_masked_one_computes(data):
    counts = data.draw(st.lists(st.integers(1, 5), min_size=1, max_size=3))
    layout = chain(counts, blocks=[2] * len(counts))
    mask, x = data.draw(masks_for(layout)), np.array([1.0, -2, 3])
    # Whole numbers: both sums are exact, in whatever order they are taken.
    weights = {name: a.astype(np.float64) for name, a in draw_weights(layout).items()}
    masked = forward(apply(weights, mask, layout), layout, x)
    assert np.array_equal(masked, forward(cut(weights, mask, layout), layout, x))


def test_without_its_shift_a_pruned_channel_would_still_speak():
    layout = chain([2])
    weights = {name: a.astype(np.float64) for name, a in draw_weights(layout).items()}
    weights["layer0.shift"] = np.array([5.0, 5.0])
    masked = apply(weights, mask_of(layout, "#."), layout)
    x = np.zeros(3)
    quiet = forward(masked, layout, x)
    spoken = forward(masked | {"layer0.shift": weights["layer0.shift"]}, layout, x)
    # The reader's column is zero as well, so even then nobody hears it.
    assert np.array_equal(quiet, spoken)
    reread = masked | {"head.weight": weights["head.weight"]}
    assert np.array_equal(quiet, forward(reread, layout, x))
    both = reread | {"layer0.shift": weights["layer0.shift"]}
    assert not np.array_equal(quiet, forward(both, layout, x))


# --- the layout's name -----------------------------------------------------------------------

BASE = Layout((Layer("a", 4, "a.w", ("a.w",)), Layer("b", 3, "b.w", ("b.w",))), {"a.w": (4, 2)})
OTHERS = {
    "layer renamed": replace(BASE, layers=(replace(BASE.layers[0], name="c"), BASE.layers[1])),
    "count": replace(BASE, layers=(replace(BASE.layers[0], filters=5), BASE.layers[1])),
    "order": replace(BASE, layers=BASE.layers[::-1]),
    "layer gone": replace(BASE, layers=BASE.layers[:1]),
    "tensor renamed": replace(BASE, shapes={"a.v": (4, 2)}),
    "tensor added": replace(BASE, shapes={"a.w": (4, 2), "n": ()}),
    "shape": replace(BASE, shapes={"a.w": (2, 4)}),
    "rank": replace(BASE, shapes={"a.w": (4, 2, 1)}),
}


def test_every_change_of_the_model_changes_the_fingerprint():
    prints = [BASE.fingerprint, *(other.fingerprint for other in OTHERS.values())]
    assert len(set(prints)) == len(prints)
    assert all(len(each) == 4 for each in prints)


def test_equal_models_have_equal_fingerprints():
    turned = replace(TOY, shapes=dict(reversed(TOY.shapes.items())))
    assert turned.fingerprint == replace(TOY).fingerprint == TOY.fingerprint
    # Written down once: messages and files of older runs name their model by it.
    assert TOY.fingerprint.hex() == "2c9a3221"


# --- how many filters a sparsity leaves ------------------------------------------------------


@pytest.mark.parametrize(
    ("sparsity", "kept"),
    [
        (0.0, [4, 3, 5]),
        (0.01, [3, 2, 4]),  # at least the share goes: the first filter of each layer
        (0.25, [3, 2, 3]),  # 1 of 4; 0.75 of 3, so 1; 1.25 of 5, so 2
        (1 / 3, [2, 2, 3]),  # 1.33, so 2; 1 of 3; 1.67, so 2
        (0.6, [1, 1, 2]),
    ],
)
def test_keep_counts_by_hand(sparsity, kept):
    assert TOY.keep_counts(sparsity) == dict(zip(["conv1", "conv2", "fc"], kept, strict=True))
    assert TOY.filters == 12


@given(st.integers(0, 999), st.integers(1000, 1000), st.integers(1, 600))
def test_no_fewer_go_than_asked_and_not_one_more(numerator, denominator, filters):
    layout = Layout((Layer("a", filters, "a.w", ("a.w",)),), {"a.w": (filters,)})
    share = Fraction(numerator, denominator)
    gone = next(n for n in range(filters + 1) if n >= share * filters)
    if gone < filters:
        assert layout.keep_counts(numerator / denominator) == {"a": filters - gone}
    else:
        with pytest.raises(MPFLError, match="leaves layer 'a' with none"):
            layout.keep_counts(numerator / denominator)


def test_a_sparsity_that_empties_a_layer_is_refused_by_name():
    message = (
        "a sparsity of 0.7 leaves layer 'conv2' with none of its 3 filters; "
        "ask for less than 0.666667"
    )
    with pytest.raises(MPFLError) as caught:
        TOY.keep_counts(0.7)
    assert str(caught.value) == message
    assert TOY.keep_counts(0.6666)["conv2"] == 1


def test_a_reader_reads_one_input_a_channel_unless_told_otherwise():
    assert Reader("x", ("a",)).block == 1
