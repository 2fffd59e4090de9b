"""What the functions of the method refuse: a value of another type or range, in one line."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from mpfl import filters, masks, prune
from mpfl.algorithm import Start
from mpfl.allocate import over_network
from mpfl.analysis import ledger, privacy, replay
from mpfl.filters import Layer, Layout
from mpfl.node import Plan
from mpfl.schedules import geometric, one_shot
from mpfl.seeds import rng_for
from mpfl.server import masked_pruning
from mpfl.simulation import simulate
from mpfl.types import MPFLError, Update
from mpfl.vote import Tally, most_votes, published_percentile, relaxed, share, weighted
from mpfl.wire.masks import decode_mask, encode_mask

LAYERS = Layer("a", 4, "a.w", ("a.w",)), Layer("b", 6, "b.w", ("b.w",))
LAYOUT = Layout(LAYERS, {"a.w": (4, 2), "b.w": (6, 4)})
WHOLE = masks.full(LAYOUT)
W0 = {name: np.ones(shape, np.float32) for name, shape in LAYOUT.shapes.items()}
PLAN = Plan(LAYOUT, geometric(0.15), 3)
BALLOTS = np.ones((3, 10), bool)


def tally(**other: Any) -> Tally:
    usual = {"votes": np.array([4, 2, 1]), "voters": 4, "alive": np.ones(3, bool), "keep": 1}
    return Tally(**(usual | {"norms": np.ones(3)} | other))


def simulated(train: Any = None, *, rounds: Any = 1, seed: Any = 0, **how: Any) -> None:
    parts = {name: how.pop(name) for name in ("vote", "score") if name in how}
    train = train or (lambda weights, mask, data, rng: Update(weights))
    method = masked_pruning(PLAN, lambda seed: W0, train, **parts)
    list(simulate(method, [[1], [2]], Start(W0, 0), rounds, seed, **how))


BAD: dict[str, tuple[Callable[[], Any], str]] = {
    "a threshold in words": (lambda: share("0.5"), "tau is '0.5', but must be above 0"),
    "no threshold": (lambda: share(None), "tau is None"),
    "several thresholds": (lambda: share(np.array([0.5, 0.6])), "tau is array"),
    "one weight for all": (lambda: weighted(3.0), "weights are 3.0; give one per node"),
    "weights in words": (lambda: weighted(("a",)), "weights .* must be finite"),
    "half a filter": (lambda: most_votes(1.5), "k is 1.5, but a layer needs at least 1 filter"),
    "not a number of filters": (lambda: most_votes(math.nan), "k is nan"),
    "a target in words": (lambda: relaxed("x"), "target is 'x', but must be within 0-1"),
    "no percentile": (lambda: published_percentile(None), "p is nan, but must be within 0-1"),
    "not a number of voters": (lambda: tally(voters=math.nan), "no node voted"),
    "votes that are no numbers": (
        lambda: tally(votes=np.array([math.nan, 1, 2])),
        "counts that are not finite",
    ),
    "norms that are no numbers": (
        lambda: tally(norms=np.array([math.nan, 1, 2])),
        "norms of w0 that are NaN",
    ),
    "scores that are no numbers": (
        lambda: prune.select(
            {"a": np.array([1, math.nan, 2, 3.0])},
            {"a": np.ones(4, bool)},
            masks.Keep.by_layer({"a": 2}),
        ),
        "layer 'a' has scores that are NaN",
    ),
    "a layer too many": (
        lambda: masks.flatten(WHOLE | {"c": np.ones(2, bool)}, LAYOUT),
        "was it made for another model",
    ),
    "masks of two models": (
        lambda: masks.intersect(WHOLE, {"a": np.ones(4, bool)}),
        "give two of one model",
    ),
    "whole numbers for masks": (
        lambda: masks.intersect({"a": np.array([1, 2])}, {"a": np.array([2, 1])}),
        "mask of layer 'a' is int64",
    ),
    "the distance of whole numbers": (
        lambda: replay.jaccard(np.array([1, 2]), np.array([2, 1])),
        "Jaccard distance of int64 and int64",
    ),
    "a coding in another word": (
        lambda: encode_mask(WHOLE, LAYOUT, 1, reference=WHOLE, coding="pack"),
        "no coding 'pack'; did you mean 'packed'",
    ),
    "a coding in another word, to read": (
        lambda: decode_mask(b"", LAYOUT, 1, reference=WHOLE, coding="short"),
        "no coding 'short'",
    ),
    "votes of another layer": (lambda: tally(alive=np.ones(2, bool)), "of one layer, per filter"),
    "norms of another layer": (lambda: tally(norms=np.ones(2)), "of one layer, per filter"),
    "alive as integers": (lambda: tally(alive=np.array([1, 0, 1])), r"alive \(bool\)"),
    "votes in a list": (lambda: tally(votes=[4, 2, 1]), "of one layer, per filter"),
    "an amount in words": (lambda: geometric("a"), "amount='a' is no share of the filters"),
    "no amount": (lambda: one_shot(None), "is no share of the filters"),
    "half a warm-up": (lambda: geometric(0.1, warmup=0.5), "warmup=0.5 is negative, or not whole"),
    "a warm-up beyond the end": (
        lambda: Plan(LAYOUT, geometric(0.1, warmup=4), 3),
        "warmup is 4 rounds, but the run has 3, so nothing would be pruned; give fewer",
    ),
    "bits of more filters than there are": (
        lambda: privacy.bits_told({"a": 4}, {"a": 5}),
        "layer 'a' has 4 filters alive and cannot keep 5; give 0 to 4",
    ),
    "half a round": (lambda: geometric(0.1)(1.5, 3), "1.5 is no round; give whole numbers"),
    "a round in words": (lambda: geometric(0.1)("1", 3), "'1' is no round"),
    "a floor between": (lambda: over_network(1.5), "floor is 1.5"),
    "half a run": (lambda: Plan(LAYOUT, geometric(0.1), 2.5), "rounds is 2.5; give a whole number"),
    "a schedule's name": (lambda: Plan(LAYOUT, "geometric", 3), "schedule is 'geometric'; give a"),
    "a schedule's class": (lambda: Plan(LAYOUT, geometric, 3), "schedule is <class .*; give a val"),
    "a quota's name": (lambda: Plan(LAYOUT, geometric(0.1), 3, "even"), "quota is 'even'; give"),
    "a sparsity below 0": (lambda: masks.drawn(LAYOUT, -1, rng_for(0)), "-1 is no share; give 0"),
    "no sparsity": (lambda: masks.drawn(LAYOUT, math.nan, rng_for(0)), "nan is no share"),
    "a mask of integers": (
        lambda: masks.sparsity({"a": np.array([1, 2, 1])}),
        "'a' is int64",
    ),
    "a mask of floats": (lambda: masks.counts({"a": np.array([0.5])}), "is float64; give a bool"),
    "a mask of nothing": (lambda: masks.sparsity({}), "a mask without filters has no sparsity"),
    "no mask": (lambda: masks.check(None, LAYOUT), "not a NoneType"),
    "a mask in lists": (
        lambda: masks.check({"a": [True] * 4, "b": [True] * 6}, LAYOUT),
        "mask of layer 'a' is a list; give a bool array",
    ),
    "too few bits": (lambda: masks.unflatten(np.ones(9, bool), LAYOUT), "9 values, but .* 10 filt"),
    "too many bits": (lambda: masks.unflatten(np.ones(11, bool), LAYOUT), "11 values"),
    "half a mask": (lambda: filters.apply(W0, {"a": WHOLE["a"]}, LAYOUT), "'b' must be bool"),
    "a mask too short": (
        lambda: filters.apply(W0, WHOLE | {"a": WHOLE["a"][:2]}, LAYOUT),
        r"mask of layer 'a' must be bool\[4\]",
    ),
    "larger weights": (
        lambda: filters.cut(W0 | {"a.w": np.ones((9, 2))}, WHOLE, LAYOUT),
        r"'a.w' is \[9, 2\], but must be \[4, 2\]: it is of another model",
    ),
    "fewer than no filters": (
        lambda: prune.keep_best(np.ones(4), WHOLE["a"], -1),
        "keep is -1; give a whole number of filters",
    ),
    "a part of a filter": (lambda: prune.keep_best(np.ones(4), WHOLE["a"], 1.5), "keep is 1.5"),
    "rounds below 0": (lambda: simulated(rounds=-1), "rounds is -1; give a whole number"),
    "rounds between": (lambda: simulated(rounds=1.5), "rounds is 1.5"),
    "a seed below 0": (lambda: simulated(seed=-1), "seed is -1"),
    "a seed in words": (lambda: simulated(seed="x"), "seed is 'x'"),
    "a stranger": (lambda: simulated(behaviour={9: len}), "behaviour of node 9, but there are 2"),
    "a rule's name": (lambda: simulated(vote="share"), "vote is 'share'; give a value"),
    "a rule's class": (lambda: simulated(vote=share), "vote is <class .*; give a value"),
    "a score's name": (lambda: simulated(score="l2"), "score is 'l2'; give a function"),
    "weights for an update": (
        lambda: simulated(lambda weights, mask, data, rng: weights),
        "training gave a dict; let it return an Update",
    ),
    "ballots of others": (
        lambda: replay.mixed(BALLOTS, BALLOTS[:1], 1),
        r"ballots are \[3, 10\] and \[1, 10\]; give those of the same nodes",
    ),
    "half a faulty node": (lambda: replay.mixed(BALLOTS, BALLOTS, 1.5), "1.5 faulty nodes"),
    "ballots too short": (
        lambda: replay.consensus(PLAN, share(0.5), BALLOTS[:, :9], {}),
        "9 values, but the model has 10 filters",
    ),
    "ballots of integers": (
        lambda: replay.consensus(PLAN, share(0.5), BALLOTS * 1, {}),
        "ballots are of type int64; give bool",
    ),
    "nothing to lose": (
        lambda: replay.lost(np.zeros(3, bool), np.zeros(3, bool)),
        "the clean consensus keeps nothing",
    ),
    "images below 0": (lambda: ledger.bill("mpfl", PLAN, [-5, 5]), "hold -5; give whole numbers"),
    "half an image": (lambda: ledger.bill("mpfl", PLAN, [1.5]), "hold 1.5; give whole numbers"),
    "no round with statistics": (
        lambda: ledger.bill(
            "mpfl", PLAN, [10], final_rounds=1, voted=[next(iter(PLAN.layout.shapes))], every=0
        ),
        "every is 0; give at least 1",
    ),
    "half a final round": (
        lambda: ledger.bill("mpfl", PLAN, [10], final_rounds=1.5),
        "hold 1.5; give whole numbers",
    ),
}


@pytest.mark.parametrize("kind", BAD)
@pytest.mark.usefixtures("types_unchecked")
def test_refused_in_one_line(kind: str) -> None:
    asked, says = BAD[kind]
    with pytest.raises(MPFLError, match=says) as refused:
        asked()
    assert "\n" not in str(refused.value)
