"""Laws of every quota, and each one by hand."""

import math
from itertools import pairwise

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from toys import mask_of, masks_for

from mpfl import allocate, masks, schedules
from mpfl.allocate import (
    QUOTAS,
    LayerQuota,
    Quota,
    even,
    of_what_is_left,
    over_network,
    power,
)
from mpfl.filters import Layer, Layout
from mpfl.masks import Keep
from mpfl.node import Plan
from mpfl.schedules import Schedule, cubic, geometric, linear, one_shot
from mpfl.types import Mask, MPFLError


def wide(*filters: int) -> Layout:
    layers = tuple(Layer(f"l{i}", n, f"w{i}", (f"w{i}",)) for i, n in enumerate(filters))
    return Layout(layers, {f"w{i}": (n, 1) for i, n in enumerate(filters)})


# One row a quota: how hypothesis draws one. A new quota is covered by a new row.
REQUIRED = st.none() | st.sampled_from([linear(0.5), geometric(0.1), one_shot(0.0)])
TABLE: dict[str, st.SearchStrategy[Quota]] = {
    "even": st.builds(even, REQUIRED),
    "power": st.builds(power, st.floats(0, 3)),
    "of_what_is_left": st.builds(of_what_is_left, REQUIRED),
    "over_network": st.builds(over_network, st.integers(1, 3)),
}
every_quota = pytest.mark.parametrize("name", TABLE)
layouts = st.lists(st.integers(1, 40), min_size=1, max_size=6).map(lambda n: wide(*n))


@st.composite
def rounds_of(draw: st.DrawFn, quota: Quota) -> tuple[Layout, Schedule, int, int, Mask]:
    """A round for which a quota can speak: layout, schedule, round, rounds, what is alive."""
    smallest = 2 if getattr(quota, "required", None) else 1  # of which half may be required
    sizes = draw(st.lists(st.integers(smallest, 40), min_size=1, max_size=6))
    layout, rounds = wide(*sizes), draw(st.integers(1, 9))
    floor = getattr(quota, "floor", 1)
    deepest = 1 - max(min(floor, size) / size for size in sizes)
    final = draw(st.floats(0, deepest)) if deepest else 0.0
    schedule = draw(st.sampled_from([linear, one_shot, cubic]))(final)
    return layout, schedule, draw(st.integers(1, rounds)), rounds, draw(masks_for(layout))


def test_the_table_covers_every_quota() -> None:
    public = {
        name
        for name, value in vars(allocate).items()
        if isinstance(value, type) and value.__module__ == allocate.__name__
    }
    assert set(TABLE) == set(QUOTAS) == public - {"Quota", "LayerQuota"}


@every_quota
@given(data=st.data())
def test_laws_of_every_quota(name: str, data: st.DataObject) -> None:
    quota = data.draw(TABLE[name])
    layout, schedule, round_, rounds, alive = data.draw(rounds_of(quota))
    keep = quota.keep(layout, schedule, round_, rounds, alive)
    asked = quota.asked(layout, schedule, round_, rounds, alive)
    left = masks.counts(alive)
    for said in (keep, asked):
        said.require_layers(layout)
    for group, count in keep.counts.items():
        there = sum(left[layer] for layer in group)
        assert count <= there, "more than is alive"
        assert count >= min(1, there), "nothing is left"
    for group, count in asked.counts.items():
        assert count >= min(1, sum(left[layer] for layer in group)), "nothing is left"
    # What is asked is what nodes keep, unless the quota says otherwise.
    if getattr(quota, "required", None) is None:
        assert asked == keep
    # What the quota says it says again, and of nothing but its arguments.
    assert quota.keep(layout, schedule, round_, rounds, alive) == keep
    assert eval(repr(quota), dict(vars(schedules)) | dict(QUOTAS)) == quota


@every_quota
@given(data=st.data())
def test_a_schedule_that_prunes_nothing_keeps_everything_alive(name, data) -> None:
    quota = data.draw(TABLE[name])
    layout, _, round_, rounds, alive = data.draw(rounds_of(quota))
    keep = quota.keep(layout, one_shot(0.0), round_, rounds, alive)
    left = masks.counts(alive)
    assert dict(keep.counts) == {group: sum(left[n] for n in group) for group in keep.counts}


@pytest.mark.parametrize("quota", [even, of_what_is_left])
@given(data=st.data())
def test_required_changes_what_is_asked_alone(quota, data) -> None:
    required = data.draw(st.sampled_from([linear(0.5), geometric(0.1), one_shot(0.0)]))
    one, other = quota(), quota(required=required)
    said = data.draw(rounds_of(other))
    layout, _, round_, rounds, _ = said
    assume(required(round_, rounds) <= 0.5)  # else it asks for a layer of two with none left
    assert one.keep(*said) == other.keep(*said)
    assert one.asked(*said) == one.keep(*said)
    counts = layout.keep_counts(required(round_, rounds))
    assert other.asked(*said) == Keep.by_layer(counts)


@given(data=st.data(), floor=st.integers(1, 3))
def test_over_the_network_the_sum_is_exact(data, floor) -> None:
    quota = over_network(floor)
    layout, schedule, round_, rounds, alive = data.draw(rounds_of(quota))
    keep = quota.keep(layout, schedule, round_, rounds, alive)
    removed = math.ceil(schedule(round_, rounds) * layout.filters - 1e-9)
    left = sum(masks.counts(alive).values())
    assert keep == Keep({tuple(layout.sizes): min(layout.filters - removed, left)}, floor)
    assert quota.asked(layout, schedule, round_, rounds, alive) == keep


@given(data=st.data())
def test_what_is_left_loses_what_the_schedule_takes_off_in_a_round(data) -> None:
    layout, schedule, round_, rounds, alive = data.draw(rounds_of(of_what_is_left()))
    keep = of_what_is_left().keep(layout, schedule, round_, rounds, alive)
    before = schedule(round_ - 1, rounds) if round_ > 1 else 0.0
    amount = (schedule(round_, rounds) - before) / (1 - before)
    for layer, bits in alive.items():
        there = int(bits.sum())
        expected = max(min(there, 1), there - round(round(amount, 12) * there))
        assert keep.counts[layer,] == expected


LAYER_QUOTAS = [name for name, quota in QUOTAS.items() if issubclass(quota, LayerQuota)]


@pytest.mark.parametrize("name", LAYER_QUOTAS)
@given(data=st.data(), layout=layouts)
def test_laws(name: str, data: st.DataObject, layout: Layout) -> None:
    quota = data.draw(TABLE[name])
    least = max(1 / layer.filters for layer in layout.layers)
    shares = sorted(data.draw(st.lists(st.floats(0, 1 - least), min_size=1, max_size=6)))
    counts = [quota.counts(layout, share) for share in shares]
    assert list(counts[0]) == [layer.name for layer in layout.layers]
    for layer in layout.layers:
        kept = [count[layer.name] for count in counts]
        assert all(1 <= k <= layer.filters for k in kept)
        assert all(later <= earlier for earlier, later in pairwise(kept))
    assert quota.counts(layout, 0.0) == masks.counts(masks.full(layout))
    assert eval(repr(quota), dict(vars(schedules)) | dict(QUOTAS)) == quota


@given(layout=layouts, exponent=st.floats(0, 3), data=st.data())
def test_power_hands_out_every_filter_there_is(layout, exponent, data) -> None:
    keep = data.draw(st.integers(len(layout.layers), layout.filters))
    counts = power(exponent).counts(layout, 1 - keep / layout.filters)
    assert sum(counts.values()) == keep


@pytest.mark.parametrize(
    ("quota", "sparsity", "counts"),
    [
        (even(), 0.5, [2, 4, 8]),
        (power(1), 0.5, [2, 4, 8]),
        (power(0), 0.5, [4, 5, 5]),  # the first has no more, the others share what is left
        (power(0.5), 0.5, [3, 5, 6]),  # 1 : 1.41 : 2, of 14
        (power(0), 0.75, [3, 2, 2]),  # a tie goes to the earlier layer
    ],
)
def test_by_hand(quota: LayerQuota, sparsity: float, counts: list[int]) -> None:
    assert list(quota.counts(wide(4, 8, 16), sparsity).values()) == counts


@pytest.mark.parametrize("exponent", [-1, float("nan"), float("inf")])
def test_an_exponent_that_is_none(exponent: float) -> None:
    with pytest.raises(MPFLError, match=r"quota power: exponent is .*; give 0 or more"):
        power(exponent)


def test_too_much_sparsity_is_refused() -> None:
    with pytest.raises(MPFLError, match="cannot give each of 3 layers its floor of 1"):
        power(0).counts(wide(4, 8, 16), 0.95)


def test_a_plan_goes_by_its_quota() -> None:
    layout = wide(4, 8)
    plan = Plan(layout, linear(0.5), 1, power(0))
    assert plan.keep(1, masks.full(layout)) == Keep.by_layer({"l0": 3, "l1": 3})
    alive = mask_of(layout, "#...", "########")
    assert plan.keep(1, alive) == Keep.by_layer({"l0": 1, "l1": 3})


@pytest.mark.parametrize(
    "quota",
    [
        lambda: power(0, required=linear(0.5)),
        lambda: power(0, floor=2),
        lambda: over_network(required=linear(0.5)),
        lambda: of_what_is_left(exponent=0),
        lambda: even(floor=2),
    ],
)
def test_what_cannot_go_together_cannot_be_written(quota) -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument"):
        quota()


def test_only_over_the_network_the_votes_set_the_numbers() -> None:
    assert [name for name, quota in QUOTAS.items() if not quota.by_schedule] == ["over_network"]
