"""Masks: by hand, against loops, and what is refused."""

import math
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toys import TOY, inside, layouts, mask_of, masks_for, same, written

from mpfl import masks
from mpfl.masks import Keep
from mpfl.types import MPFLError

few = settings(max_examples=40)
ALL = masks.full(TOY)
HAND = mask_of(TOY, "#.##", ".##", "##.#.")


@st.composite
def pairs(draw, count=2):
    """A layout and some masks of it."""
    layout = draw(layouts())
    return layout, [draw(masks_for(layout)) for _ in range(count)]


# --- by hand ---------------------------------------------------------------------------------


def test_everything_is_kept_at_the_beginning():
    assert written(ALL) == ["####", "###", "#####"]
    assert masks.sparsity(ALL) == 0


def test_counts_by_hand():
    assert masks.counts(HAND) == {"conv1": 3, "conv2": 2, "fc": 3}
    assert masks.sparsity(HAND) == pytest.approx(4 / 12)
    assert all(type(count) is int for count in masks.counts(HAND).values())


def test_flat_by_hand():
    flat = masks.flatten(HAND, TOY)
    assert flat.tolist() == [bit == "#" for bit in "#.##.####.#."]
    assert same(masks.unflatten(flat, TOY), HAND)


def test_flat_bits_are_in_the_order_of_the_layout():
    turned = dict(reversed(HAND.items()))
    assert masks.flatten(turned, TOY).tolist() == masks.flatten(HAND, TOY).tolist()


def test_agreement_by_hand():
    # Seven are alive. The node and the consensus differ on two of them; what has long been
    # gone does not count, though both agree on it.
    alive = mask_of(TOY, "##..", "##.", "###..")
    node = mask_of(TOY, "#...", "##.", "##...")
    consensus = mask_of(TOY, ".#..", "##.", "##...")
    assert masks.agreement(node, consensus, alive) == pytest.approx(5 / 7)


# --- laws and twins --------------------------------------------------------------------------


@few
@given(pairs())
def test_flatten_and_back(case):
    layout, (mask, _) = case
    assert same(masks.unflatten(masks.flatten(mask, layout), layout), mask)


@few
@given(pairs(count=3))
def test_intersection(case):
    _, (a, b, c) = case
    both = masks.intersect(a, b)
    assert same(both, {n: np.array([x and y for x, y in zip(a[n], b[n])], bool) for n in a})  # noqa: B905
    assert inside(both, a) and inside(both, b)
    assert same(both, masks.intersect(b, a))
    assert same(masks.intersect(a, a), a)
    assert same(masks.intersect(both, c), masks.intersect(a, masks.intersect(b, c)))


@few
@given(pairs())
def test_sparsity_and_counts(case):
    layout, (a, b) = case
    assert masks.sparsity(a) == pytest.approx(
        sum(not bit for bits in a.values() for bit in bits) / layout.filters
    )
    fewer = masks.intersect(a, b)
    assert masks.sparsity(fewer) >= masks.sparsity(a)
    assert all(masks.counts(fewer)[name] <= masks.counts(a)[name] for name in a)


@few
@given(pairs(count=3))
def test_agreement(case):
    _, (alive, a, b) = case
    a, b = masks.intersect(a, alive), masks.intersect(b, alive)
    votes = [(x, y) for n in alive for x, y, z in zip(a[n], b[n], alive[n], strict=True) if z]
    if votes:
        share = masks.agreement(a, b, alive)
        assert share == sum(x == y for x, y in votes) / len(votes)
        assert share == masks.agreement(b, a, alive)
        assert masks.agreement(a, a, alive) == 1


@few
@given(pairs())
def test_every_mask_passes_its_own_check(case):
    layout, (a, b) = case
    masks.check(a, layout)
    masks.check(masks.intersect(a, b), layout, within=a)
    if inside(b, a):
        masks.check(b, layout, within=a)
    else:
        with pytest.raises(MPFLError, match="brings back"):
            masks.check(b, layout, within=a)


# --- what is refused -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (
            {"conv1": HAND["conv1"], "conv2": HAND["conv2"]},
            "mask names layers ['conv1', 'conv2'], but the model has ['conv1', 'conv2', 'fc']",
        ),
        ({**HAND, "extra": HAND["fc"]}, "'fc', 'extra'], but the model has"),
        (dict(reversed(HAND.items())), "mask names layers ['fc', 'conv2', 'conv1']"),
        (
            {**HAND, "conv2": HAND["conv2"].astype(np.uint8)},
            "mask of layer 'conv2' is uint8[3], but the layer needs bool[3]",
        ),
        (
            {**HAND, "conv2": HAND["conv1"]},
            "mask of layer 'conv2' is bool[4], but the layer needs bool[3]",
        ),
        (
            {**HAND, "conv2": HAND["conv2"][None]},
            "mask of layer 'conv2' is bool[1, 3], but the layer needs bool[3]",
        ),
    ],
)
def test_a_mask_of_another_model_is_refused(mask, message):
    with pytest.raises(MPFLError, match=re.escape(message)):
        masks.check(mask, TOY)


def test_a_filter_that_is_gone_does_not_come_back():
    with pytest.raises(MPFLError, match="mask of layer 'fc' brings back 2 pruned filters"):
        masks.check(ALL | {"conv1": HAND["conv1"], "conv2": HAND["conv2"]}, TOY, within=HAND)


# --- how many are kept -----------------------------------------------------------------------


def test_what_is_kept_by_hand():
    by_layer = Keep.by_layer({"conv1": 3, "conv2": 2, "fc": 0})
    assert by_layer == Keep({("conv1",): 3, ("conv2",): 2, ("fc",): 0})
    assert by_layer.total == 5 and by_layer.floor == 1
    assert by_layer.of(2) == Keep.by_layer(dict.fromkeys(TOY.sizes, 2))
    grouped = Keep({("fc", "conv1"): 6, ("conv2",): 1}, floor=2)
    assert grouped.total == 7
    assert grouped.of(4) == Keep({("fc", "conv1"): 4, ("conv2",): 4}, floor=2)


def test_what_a_group_leaves_each_layer_by_hand():
    # Of each layer its own number; of the group's nine filters six stay, of each layer two thirds.
    assert Keep.by_layer({"conv1": 3, "conv2": 0, "fc": 9}).for_layers(TOY.sizes) == {
        "conv1": 3,
        "conv2": 0,
        "fc": 9,
    }
    grouped = Keep({("fc", "conv1"): 6, ("conv2",): 1})
    assert list(grouped.for_layers(TOY.sizes).items()) == [("conv1", 2), ("conv2", 1), ("fc", 3)]
    # A sixth of twelve would be less than a filter of each, but one stays.
    assert Keep({tuple(TOY.sizes): 2}).for_layers(TOY.sizes) == dict.fromkeys(TOY.sizes, 1)


@few
@given(layouts(), st.data())
def test_laws_of_what_a_group_leaves_each_layer(layout, data):
    group = tuple(data.draw(st.permutations(list(layout.sizes))))
    count = data.draw(st.integers(0, layout.filters))
    kept = Keep({group: count}).for_layers(layout.sizes)
    assert list(kept) == list(layout.sizes)
    if len(group) == 1:
        assert kept == {group[0]: count}
        return
    for name, size in layout.sizes.items():
        even = count * size / layout.filters  # what the layer would have, were filters divisible
        assert kept[name] == max(1, math.floor(even + 1e-9))
        assert 1 <= kept[name] <= size
    more = Keep({group: min(count + 1, layout.filters)}).for_layers(layout.sizes)
    assert all(kept[name] <= more[name] for name in kept)
    assert Keep({group: layout.filters}).for_layers(layout.sizes) == layout.sizes


@pytest.mark.parametrize(
    ("groups", "named"),
    [
        ([("conv1",), ("conv2",)], "['conv1', 'conv2']"),
        ([("conv1", "conv2", "fc"), ("fc",)], "['conv1', 'conv2', 'fc', 'fc']"),
        ([("conv1", "conv1", "conv2")], "['conv1', 'conv1', 'conv2']"),
        ([("conv1", "conv2", "head")], "['conv1', 'conv2', 'head']"),
        ([], "[]"),
    ],
)
def test_groups_that_do_not_name_each_layer_once_are_refused(groups, named):
    message = f"keep names layers {named}, but the model has ['conv1', 'conv2', 'fc']; name each"
    with pytest.raises(MPFLError, match=re.escape(message)):
        Keep(dict.fromkeys(groups, 1)).require_layers(TOY)


@pytest.mark.parametrize("groups", [[("fc",), ("conv1",), ("conv2",)], [("fc", "conv1", "conv2")]])
def test_groups_may_come_in_any_order(groups):
    Keep(dict.fromkeys(groups, 1)).require_layers(TOY)
