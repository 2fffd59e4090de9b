"""Laws of every allocation, and each one by hand."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from toys import mask_of

from mpfl import masks
from mpfl.allocate import QUOTAS, Quota, even, power
from mpfl.filters import Layer, Layout
from mpfl.node import Plan
from mpfl.schedules import linear
from mpfl.types import MPFLError


def wide(*filters: int) -> Layout:
    layers = tuple(Layer(f"l{i}", n, f"w{i}", (f"w{i}",)) for i, n in enumerate(filters))
    return Layout(layers, {f"w{i}": (n, 1) for i, n in enumerate(filters)})


# One row an allocation: how hypothesis draws one. A new allocation is covered by a new row.
TABLE: dict[str, st.SearchStrategy[Quota]] = {
    "even": st.just(even()),
    "power": st.builds(power, st.floats(0, 3)),
}
layouts = st.lists(st.integers(1, 40), min_size=1, max_size=6).map(lambda n: wide(*n))


def test_the_table_covers_every_allocation() -> None:
    public = {
        name
        for name, value in vars(allocate).items()
        if isinstance(value, type) and value.__module__ == allocate.__name__
    }
    assert set(TABLE) == set(QUOTAS) == public


@pytest.mark.parametrize("name", TABLE)
@given(data=st.data(), layout=layouts)
def test_laws(name: str, data: st.DataObject, layout: Layout) -> None:
    allocation = data.draw(TABLE[name])
    least = max(1 / layer.filters for layer in layout.layers)
    shares = sorted(data.draw(st.lists(st.floats(0, 1 - least), min_size=1, max_size=6)))
    counts = [allocation(layout, share) for share in shares]
    assert list(counts[0]) == [layer.name for layer in layout.layers]
    for layer in layout.layers:
        kept = [count[layer.name] for count in counts]
        assert all(1 <= k <= layer.filters for k in kept)
        assert all(later <= earlier for earlier, later in pairwise(kept))
    assert allocation(layout, 0.0) == masks.counts(masks.full(layout))
    assert eval(repr(allocation), dict(QUOTAS)) == allocation


@given(layout=layouts, exponent=st.floats(0, 3), data=st.data())
def test_power_hands_out_every_filter_there_is(layout, exponent, data) -> None:
    keep = data.draw(st.integers(len(layout.layers), layout.filters))
    counts = power(exponent)(layout, 1 - keep / layout.filters)
    assert sum(counts.values()) == keep


@pytest.mark.parametrize(
    ("allocation", "sparsity", "counts"),
    [
        (even(), 0.5, [2, 4, 8]),
        (power(1), 0.5, [2, 4, 8]),
        (power(0), 0.5, [4, 5, 5]),  # the first has no more, the others share what is left
        (power(0.5), 0.5, [3, 5, 6]),  # 1 : 1.41 : 2, of 14
        (power(0), 0.75, [3, 2, 2]),  # a tie goes to the earlier layer
    ],
)
def test_by_hand(allocation: Quota, sparsity: float, counts: list[int]) -> None:
    assert list(allocation(wide(4, 8, 16), sparsity).values()) == counts


@pytest.mark.parametrize("exponent", [-1, float("nan"), float("inf")])
def test_an_exponent_that_is_none(exponent: float) -> None:
    with pytest.raises(MPFLError, match=r"allocation power: exponent is .*; give 0 or more"):
        power(exponent)


def test_too_much_sparsity_is_refused() -> None:
    with pytest.raises(MPFLError, match="cannot give each of 3 layers its floor of 1"):
        power(0)(wide(4, 8, 16), 0.95)


def test_a_plan_goes_by_its_allocation() -> None:
    layout = wide(4, 8)
    plan = Plan(layout, linear(0.5), 1, allocation=power(0))
    assert plan.keep(1, masks.full(layout)) == {"l0": 3, "l1": 3}
    assert plan.keep(1, mask_of(layout, "#...", "########")) == {"l0": 1, "l1": 3}


@pytest.mark.parametrize(
    "other", [{"scope": "network"}, {"share_of": "kept"}, {"required": linear(0.5)}]
)
def test_a_plan_that_counts_otherwise_has_no_allocation(other: dict) -> None:
    with pytest.raises(MPFLError, match="use it with scope layer, share_of full"):
        Plan(wide(4, 8), linear(0.5), 1, allocation=power(0), **other)
