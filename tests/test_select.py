"""Which filters a node keeps: by hand, against sorting, as laws."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from toys import inside, written

from mpfl import masks
from mpfl.masks import Keep
from mpfl.prune import keep_best, select
from mpfl.types import MPFLError

few = settings(max_examples=30)

# --- selecting, one layer --------------------------------------------------------------------


def slow_keep_best(scores, alive, keep):
    ranked = sorted((f for f in range(len(scores)) if alive[f]), key=lambda f: (-scores[f], f))
    return [f in ranked[:keep] for f in range(len(scores))]


@st.composite
def choices(draw):
    """Scores with many ties, and what is alive."""
    filters = draw(st.integers(1, 8))
    scores = draw(arrays(np.float64, filters, elements=st.integers(-1, 3).map(float)))
    return scores, draw(arrays(bool, filters))


@pytest.mark.parametrize(
    ("keep", "kept"),
    [(0, "....."), (1, "..#.."), (2, "#.#.."), (3, "#.##."), (4, "#.###"), (9, "#.###")],
)
def test_keep_best_by_hand(keep, kept):
    # The second is gone, whatever its score. The first and the fourth tie.
    scores, alive = np.array([2.0, 9, 3, 2, 1]), np.array([True, False, True, True, True])
    assert written({"": keep_best(scores, alive, keep)}) == [kept]


@given(choices(), st.integers(0, 9))
def test_keep_best_is_sorting(case, keep):
    scores, alive = case
    before = scores.copy(), alive.copy()
    kept = keep_best(scores, alive, keep)
    assert kept.tolist() == slow_keep_best(scores, alive, keep)
    assert not (kept & ~alive).any()
    assert kept.sum() == min(keep, alive.sum())
    assert not (kept & ~keep_best(scores, alive, keep + 1)).any()
    assert np.array_equal(scores, before[0]) and np.array_equal(alive, before[1])


# --- selecting, all layers -------------------------------------------------------------------

SCORED = {
    "a": np.array([5.0, 6, 7]),
    "b": np.array([1.0, 2, 3, 4]),
    "c": np.array([8.0]),
}
ALIVE = {"a": np.array([True, True, False]), "b": np.ones(4, bool), "c": np.ones(1, bool)}


def over_network(keep, floor=1, layers=("a", "b", "c")):
    """One group of all layers."""
    return Keep({tuple(layers): keep}, floor)


def test_select_by_layer_by_hand():
    chosen = select(SCORED, ALIVE, Keep.by_layer({"a": 1, "b": 3, "c": 1}))
    assert written(chosen) == [".#.", ".###", "#"]


@pytest.mark.parametrize(
    ("keep", "floor", "kept"),
    [
        (7, 1, ["##.", "####", "#"]),
        (5, 1, ["##.", "..##", "#"]),  # 8, 6, 5 and 4, 3: the filter of 7 is gone
        (3, 1, [".#.", "...#", "#"]),  # the floors alone
        (5, 2, ["##.", "..##", "#"]),  # two per layer, one where there is no more
        (2, 0, [".#.", "....", "#"]),  # without a floor a layer may go
        (99, 1, ["##.", "####", "#"]),
    ],
)
def test_select_over_network_by_hand(keep, floor, kept):
    assert written(select(SCORED, ALIVE, over_network(keep, floor))) == kept


def test_a_floor_that_does_not_fit_is_refused():
    message = "2 filters cannot give each of 3 layers its floor of 1; ask for less sparsity"
    with pytest.raises(MPFLError, match=message):
        select(SCORED, ALIVE, over_network(2))


def slow_select_over_network(scores, alive, keep, floor):
    """Each layer's best first; then the best of what is left, wherever it is."""
    ranked = {
        name: sorted(np.flatnonzero(alive[name]).tolist(), key=lambda f: (-scores[name][f], f))
        for name in alive
    }
    chosen = {(name, f) for name in alive for f in ranked[name][:floor]}
    rest = [(name, f) for name in alive for f in sorted(ranked[name][floor:])]
    rest.sort(key=lambda place: -scores[place[0]][place[1]])
    chosen |= set(rest[: keep - len(chosen)])
    return {name: [(name, f) in chosen for f in range(len(alive[name]))] for name in alive}


def slow_select_by_layer(scores, alive, counts):
    return {name: slow_keep_best(scores[name], alive[name], counts[name]) for name in alive}


def listed(mask):
    return {name: bits.tolist() for name, bits in mask.items()}


@st.composite
def networks(draw, least=1):
    """Scores of up to four layers, and what is alive."""
    layers = draw(st.lists(choices(), min_size=least, max_size=4))
    return (
        {f"layer{i}": scores for i, (scores, _) in enumerate(layers)},
        {f"layer{i}": alive for i, (_, alive) in enumerate(layers)},
    )


@few
@given(networks(least=2), st.integers(1, 3), st.integers(0, 30))
def test_select_over_network(case, floor, more):
    scores, alive = case
    floors = {name: min(floor, int(bits.sum())) for name, bits in alive.items()}
    keep = sum(floors.values()) + more
    chosen = select(scores, alive, over_network(keep, floor, alive))
    assert listed(chosen) == slow_select_over_network(scores, alive, keep, floor)
    assert inside(chosen, alive)
    kept = masks.counts(chosen)
    assert sum(kept.values()) == min(keep, sum(masks.counts(alive).values()))
    assert all(kept[name] >= floors[name] for name in alive)
    assert inside(chosen, select(scores, alive, over_network(keep + 1, floor, alive)))
    if sum(floors.values()) > 0:
        with pytest.raises(MPFLError, match="floor"):
            select(scores, alive, over_network(sum(floors.values()) - 1, floor, alive))


@few
@given(networks(), st.data())
def test_select_by_layer(case, data):
    scores, alive = case
    counts = {name: data.draw(st.integers(0, 9)) for name in alive}
    chosen = select(scores, alive, Keep.by_layer(counts))
    assert list(chosen) == list(alive)
    assert listed(chosen) == slow_select_by_layer(scores, alive, counts)


@few
@given(networks(), st.data())
def test_a_network_of_one_layer_has_no_competitors(case, data):
    scores, alive = ({"layer0": values["layer0"]} for values in case)
    count = data.draw(st.integers(0, 9))
    for floor in (0, 1, 3):
        chosen = select(scores, alive, over_network(count, floor, ["layer0"]))
        assert listed(chosen) == slow_select_by_layer(scores, alive, {"layer0": count})


@few
@given(networks(), st.data())
def test_groups_do_not_see_one_another(case, data):
    scores, alive = case
    names = data.draw(st.permutations(list(alive)))
    cuts = data.draw(st.integers(0, len(names)))
    keep, expected = {}, {}
    for group in filter(None, (tuple(names[:cuts]), tuple(names[cuts:]))):
        own = {name: alive[name] for name in group}
        keep[group] = data.draw(st.integers(len(group), 30))
        if len(group) == 1:
            expected |= slow_select_by_layer(scores, own, {group[0]: keep[group]})
        else:
            expected |= slow_select_over_network(scores, own, keep[group], 1)
    chosen = select(scores, alive, Keep(keep))
    assert list(chosen) == list(alive), "a mask has its layers in the order of the model"
    assert listed(chosen) == expected
