"""What the functions of the method refuse: a value of another type or range, in one line."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from mpfl import filters, masks, prune
from mpfl.algorithm import Start
from mpfl.allocate import over_network
from mpfl.analysis import ledger, privacy, replay
from mpfl.baselines.fedavg import fedavg
from mpfl.baselines.quantised import dequantise, quantise, quantised_average
from mpfl.evidence.alike import bits_apart, share_kept
from mpfl.evidence.power import chance_beyond
from mpfl.filters import Layer, Layout
from mpfl.nets.cutting import compact
from mpfl.nets.tracing import layout_of
from mpfl.node import Plan
from mpfl.scaled_votes import (
    correlation_with_others,
    mean_lengths,
    scaled_step,
    scaled_votes,
    standings,
)
from mpfl.schedules import geometric, one_shot
from mpfl.seeds import rng_for
from mpfl.server import masked_pruning
from mpfl.sign_votes import Directions, majority, sign_votes, signs_of, statistics_due
from mpfl.simulation import simulate
from mpfl.types import MPFLError, Update
from mpfl.vote import Tally, most_votes, published_percentile, relaxed, share, weighted
from mpfl.wire import (
    Ballots,
    decode_consensus,
    encode_counts,
    encode_empty,
    encode_levels,
    encode_seed,
    encode_signs,
    encode_weights,
    levels_length,
    limit_bits,
    signs_length,
)
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


def levels(levels: Any = np.array([1, -1], np.int8), **other: Any) -> bytes:
    scales = other.pop("scales", np.array([0.5], np.float32))
    return encode_levels(levels, scales, LAYOUT, 1, **({"bits": 2, "mask": WHOLE} | other))


def counted(voters: Any) -> bytes:
    votes = {name: bits * 1 for name, bits in WHOLE.items()}
    return encode_counts(votes, voters, LAYOUT, 1, reference=WHOLE)


THEM = Directions(LAYOUT, WHOLE, ("a.w", "b.w"))
MOVES = np.linspace(-1, 1, 32, dtype=np.float32)
SIZES = [8, 24]
UP = np.ones(32, bool)
LENGTHS = np.ones(2, np.float32)


def by_steps(
    kind: Any, train: Any = lambda weights, *others: Update(weights), **other: Any
) -> None:
    named = "sent" if kind is quantised_average else "voted"
    usual: dict[str, Any] = {named: ("a.w",), "mask": WHOLE, "averages": lambda round_: False}
    if kind is sign_votes:
        usual["length"] = lambda round_: 0.1
    else:
        usual["feedback"] = True
    if kind is quantised_average:
        usual["bits"] = 4
    method = kind(LAYOUT, lambda seed: W0, train, **(usual | other))
    list(simulate(method, [[1], [2]], Start(W0, 0), 2, 0))


def diverged(weights: Any, *others: Any) -> Update:
    return Update({**weights, "a.w": weights["a.w"] * np.float32(np.nan)})


NETWORK = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3), torch.nn.Flatten())


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
    "a bool for a threshold": (lambda: share(True), "tau is True"),
    "a bool for a number of filters": (lambda: most_votes(True), "k is True"),
    "counts between": (lambda: masks.Keep.by_layer({"a": 1.5}), "keep: 1.5 of a; give a whole"),
    "counts below 0": (lambda: masks.Keep.by_layer({"a": -1}), "keep: -1 of a"),
    "counts in words": (lambda: masks.Keep.by_layer({"a": "1"}), "keep: '1' of a"),
    "half a floor": (lambda: masks.Keep({("a",): 1}, 0.5), "keep: 0.5 of the floor"),
    "a group that is a name": (lambda: masks.Keep({"a": 1}), "'a' is no group; give a tuple"),
    "counts of no Keep": (
        lambda: most_votes().decide({"a": tally()}, {"a": 1}),
        r"keep is {'a': 1}; give a Keep, such as Keep.by_layer\(counts\)",
    ),
    "counts of another layer": (
        lambda: most_votes().decide({"a": tally()}, masks.Keep.by_layer({"z": 1})),
        r"keep names layers \['z'\], but alive are \['a'\]",
    ),
    "votes that are complex": (lambda: tally(votes=np.array([1j, 2, 1])), "complex128 and float64"),
    "votes in words": (lambda: tally(votes=np.array(["a", "b", "c"])), "<U1 and float64"),
    "voters without end": (lambda: tally(voters=math.inf), "no node voted"),
    "no number to keep": (lambda: tally(keep=None), "keep is None; give a whole number from 0"),
    "filters without weights": (lambda: tally(filter_size=0), "filter_size is 0; give a whole"),
    "votes by two axes": (
        lambda: Tally(np.ones((2, 2)), 4, np.ones((2, 2), bool), 1, np.ones((2, 2))),
        "of one layer, per filter",
    ),
    "signs that are numbers": (
        lambda: majority(np.array([[1, -1], [1, -1]]), 1),
        r"signs are bool\[nodes, numbers\]",
    ),
    "signs of nobody": (lambda: majority(np.zeros((0, 4), bool), 1), "signs of no node"),
    "half a round of signs": (lambda: majority(np.ones((2, 4), bool), 0.5), "round is 0.5"),
    "signs to send that are numbers": (
        lambda: encode_signs(np.array([[1, -1]]), LAYOUT, 1, mask=WHOLE),
        r"signs are bool\[rounds, numbers\]",
    ),
    "statistics beyond four bytes": (
        lambda: encode_signs(BALLOTS, LAYOUT, 1, mask=WHOLE, statistics=np.array([1e300])),
        "statistics hold NaN or infinity",
    ),
    "levels' statistics beyond four bytes": (
        lambda: levels(statistics=np.array([1e300])),
        "statistics hold NaN or infinity",
    ),
    "levels of eight bytes": (lambda: levels(np.array([1, -1])), "levels are not int8 in a row"),
    "levels by two axes": (lambda: levels(np.ones((2, 2), np.int8)), "levels are not int8 in a"),
    "scales in a list": (lambda: levels(scales=[0.5]), "scales are not floats in a row"),
    "half a bit": (lambda: levels(bits=2.5), "bits is 2.5; give 2 to 8"),
    "a sample that is a bool": (lambda: levels(samples=True), "samples is True"),
    "half a sample": (lambda: encode_weights(W0, LAYOUT, 1, samples=1.5), "samples is 1.5"),
    "weights of torch": (
        lambda: encode_weights({n: torch.ones(a.shape) for n, a in W0.items()}, LAYOUT, 1),
        "tensor 'a.w' is a Tensor; send numpy arrays",
    ),
    "no weights": (lambda: encode_weights(None, LAYOUT, 1), "weights are a NoneType"),
    "half a seed": (lambda: encode_seed(1.5, LAYOUT), "seed 1.5 does not fit"),
    "a message of no round": (lambda: encode_empty(LAYOUT, None), "round None does not fit"),
    "no payload": (lambda: decode_consensus(None, LAYOUT), "payload is a NoneType; give the bytes"),
    "no payload among packed ones": (
        lambda: Ballots.open([(7, None)], LAYOUT, 1, alive=WHOLE, coding="packed"),
        "node 7, round 1, decode: payload is a NoneType",
    ),
    "half a voter": (lambda: counted(3.5), "counts of 3.5 voters; wait for at least one"),
    "a mask of another shape for signs": (
        lambda: encode_signs(BALLOTS, LAYOUT, 1, mask=WHOLE | {"a": WHOLE["a"][:2]}),
        r"mask of layer 'a' is bool\[2\], but the layer needs bool\[4\]",
    ),
    "signs of fewer than no numbers": (lambda: signs_length(-1), "numbers is -1; give at least 0"),
    "levels of fewer than no numbers": (
        lambda: levels_length(-1, 1, bits=4),
        "numbers is -1; give at least 0",
    ),
    "a flat mask of fewer filters": (
        lambda: masks.flatten(WHOLE | {"a": WHOLE["a"][:2]}, LAYOUT),
        r"layer 'a' has \[2\] values, but the model has 4 filters there",
    ),
    "an array for a mask": (lambda: masks.counts(np.ones(4, bool)), "by layer, not a ndarray"),
    "masks of other sizes": (
        lambda: masks.intersect(WHOLE, WHOLE | {"a": WHOLE["a"][:2]}),
        r"masks of layer 'a' are \[4\] and \[2\]; give two of one model",
    ),
    "directions of a training that diverged": (
        lambda: by_steps(sign_votes, diverged),
        "round 1: moves hold NaN or infinity; did the training diverge",
    ),
    "directions of NaN": (lambda: signs_of(MOVES * np.nan, 1), "moves hold NaN"),
    "directions of whole numbers": (lambda: signs_of(np.ones(3, int), 1), "no floats in a row"),
    "directions of a list": (lambda: signs_of([1.0], 1), "no floats in a row"),
    "directions of complex numbers": (lambda: signs_of(np.ones(3) * 1j, 1), "no floats in a row"),
    "a lie that is no number": (lambda: by_steps(sign_votes, lie=math.nan), "lie is nan"),
    "a lie above 1": (lambda: by_steps(sign_votes, lie=2), "lie is 2; give a chance from 0"),
    "a lie below 0": (lambda: by_steps(sign_votes, lie=-0.1), "lie is -0.1"),
    "a step that is no number": (
        lambda: by_steps(sign_votes, length=lambda round_: math.nan),
        "length is nan; give a number from 0",
    ),
    "a step back": (lambda: by_steps(sign_votes, length=lambda round_: -1), "length is -1"),
    "feedback in words": (lambda: by_steps(scaled_votes, feedback="no"), "feedback is 'no'"),
    "a correlation of plus and minus ones": (
        lambda: correlation_with_others(np.array([[1, 1], [1, -1]])),
        r"signs are bool\[nodes, numbers\]",
    ),
    "a correlation of a list": (lambda: correlation_with_others([[True]]), "give such an array"),
    "a correlation of nobody": (
        lambda: correlation_with_others(np.ones((0, 4), bool)),
        "signs of no node",
    ),
    "standings of other nodes": (
        lambda: standings({}, [0], np.ones((2, 4), bool)),
        r"signs of 2 nodes, but nodes are \[0\]; name each once",
    ),
    "standings of a node twice": (
        lambda: standings({}, [0, 0], np.ones((2, 4), bool)),
        r"nodes are \[0, 0\]; name each once",
    ),
    "mute in words": (
        lambda: by_steps(scaled_votes, feedback=True, mute="no"),
        "mute is 'no'",
    ),
    "feedback of averages in words": (
        lambda: by_steps(quantised_average, feedback="no"),
        "feedback is 'no'; give True or False",
    ),
    **{
        f"{kind.__name__} by {train}": (
            lambda kind=kind, train=train: by_steps(kind, lambda *args: train),
            f"training gave a {type(train).__name__}; let it return an Update",
        )
        for kind in (sign_votes, scaled_votes, quantised_average)
        for train in ({}, None)
    },
    "averages of None": (
        lambda: list(
            simulate(fedavg(LAYOUT, lambda seed: W0, lambda *all: None), [[1]], Start(W0, 0), 1, 0)
        ),
        "training gave a NoneType",
    ),
    "a training that lost a tensor": (
        lambda: by_steps(sign_votes, lambda weights, *others: Update({"b.w": weights["b.w"]})),
        "weights lack tensor 'a.w'",
    ),
    "a vote on no tensor of the network": (
        lambda: by_steps(sign_votes, voted=("a.v",)),
        "no tensor 'a.v'; did you mean 'a.w'",
    ),
    "a vote on the letters of a name": (lambda: by_steps(sign_votes, voted="a.w"), "tensor 'a'"),
    "a vote on one twice": (
        lambda: by_steps(quantised_average, sent=("a.w", "a.w")),
        "give a tuple, each tensor once",
    ),
    "tensors that can be read once": (
        lambda: Directions(LAYOUT, WHOLE, (name for name in ("a.w",))),
        "give a tuple, each tensor once",
    ),
    "one direction for all": (lambda: THEM.step(W0, UP[:1], 0.1), r"1 numbers for parts of \[32\]"),
    "directions as 1 and -1": (lambda: THEM.step(W0, UP * 1, 0.1), "no bools in a row"),
    "an endless step": (lambda: THEM.step(W0, UP, math.inf), "length is inf"),
    "one move for all": (lambda: THEM.moved(W0, MOVES[:1]), "1 numbers for parts"),
    "lengths of whole numbers": (
        lambda: mean_lengths(np.full(32, -128, np.int8), SIZES),
        "moves are no floats in a row",
    ),
    "lengths of other tensors": (lambda: mean_lengths(MOVES, [8, 8]), "32 numbers for parts of"),
    "lengths of negative parts": (lambda: mean_lengths(MOVES, [-8, 40]), "for parts of"),
    "lengths of no part": (lambda: mean_lengths(MOVES, []), r"for parts of \[\]"),
    "lengths of two axes": (lambda: mean_lengths(MOVES.reshape(8, 4), SIZES), "in a row"),
    "parts that can be read once": (
        lambda: mean_lengths(MOVES, (size for size in SIZES)),
        "for parts of <generator",
    ),
    "a scaled step of 1 and -1": (lambda: scaled_step(UP * 1, LENGTHS, SIZES), "no bools in a"),
    "a scaled step of one bit": (lambda: scaled_step(UP[:1], LENGTHS, SIZES), "1 numbers for"),
    "a scaled step of one length": (lambda: scaled_step(UP, LENGTHS[:1], SIZES), "1 numbers for"),
    "levels of numbers beyond four bytes": (
        lambda: quantise(np.full(32, 1e300), SIZES, 4),
        "scales hold NaN or infinity",
    ),
    "levels of complex numbers": (lambda: quantise(MOVES * 1j, SIZES, 4), "no floats in a row"),
    "levels of two axes to be": (lambda: quantise(MOVES.reshape(8, 4), SIZES, 4), "in a row"),
    "one level for all": (lambda: dequantise(np.ones(1, np.int8), LENGTHS, SIZES), "1 numbers for"),
    "half a level": (lambda: dequantise(MOVES, LENGTHS, SIZES), "no whole numbers in a row"),
    "one scale for two channels": (
        lambda: dequantise(np.ones(32, np.int8), LENGTHS[:1], SIZES),
        "1 numbers for parts",
    ),
    "statistics in no round": (lambda: statistics_due(1, 3, 0), "every is 0; give at least 1"),
    "statistics that are complex": (
        lambda: encode_signs(BALLOTS, LAYOUT, 1, mask=WHOLE, statistics=np.array([1j])),
        "statistics are complex128; give floats",
    ),
    "bits of one filter beside three": (
        lambda: bits_apart(np.ones(3, bool), np.ones(1, bool)),
        r"masks are bool\[3\] and bool\[1\]; give the bits of two of one model",
    ),
    "bits that are numbers": (
        lambda: share_kept(np.array([1, 2]), np.array([2, 2])),
        "masks are int64",
    ),
    "a share of nothing": (
        lambda: share_kept(np.zeros(3, bool), np.ones(3, bool)),
        "a mask that keeps no filter has no share",
    ),
    "one seed to be sure": (lambda: chance_beyond(1, 1, 1), "seeds is 1; give at least 2"),
    "no deviation between seeds": (lambda: chance_beyond(1, 0, 3), "deviation is 0; give a number"),
    "no filter to agree on": (
        lambda: masks.agreement(WHOLE, WHOLE, {n: ~bits for n, bits in WHOLE.items()}),
        "no filter is alive, so there is nothing to agree on",
    ),
    "a limit of what is not inside": (
        lambda: limit_bits(WHOLE, WHOLE | {"a": np.zeros(4, bool)}),
        "a mask that keeps what its reference has not",
    ),
    "a ballot outside": (
        lambda: Ballots.of({0: WHOLE}, LAYOUT, alive=WHOLE | {"a": np.zeros(4, bool)}),
        "a ballot brings back pruned filters",
    ),
    "a ballot of integers": (
        lambda: Ballots.of({0: {n: bits * 2 for n, bits in WHOLE.items()}}, LAYOUT, alive=WHOLE),
        "a ballot is of type int64; give bool",
    ),
    "a weight below 0": (
        lambda: Ballots.of({0: WHOLE}, LAYOUT, alive=WHOLE).tally((-1.0,)),
        "a node's weight is -1.0; give finite numbers",
    ),
    "small weights of another mask": (  # one value would be repeated
        lambda: filters.expand({"a.w": np.ones((1, 2))}, WHOLE, LAYOUT),
        r"'a.w' is \[1, 2\], but must be \[4, 2\]: it is of another model or mask",
    ),
    "weights in lists": (
        lambda: filters.apply({n: a.tolist() for n, a in W0.items()}, WHOLE, LAYOUT),
        "is a list; give an array",
    ),
    "a mask of more layers": (
        lambda: filters.apply(W0, WHOLE | {"z": WHOLE["a"]}, LAYOUT),
        "mask of layer 'z', which the model does not have",
    ),
    "no mask to cut by": (lambda: filters.cut(W0, None, LAYOUT), "by layer, not a NoneType"),
    "a number for units": (lambda: layout_of(NETWORK, units=3), "units is 3; give text"),
    "a unit without a name": (lambda: layout_of(NETWORK, units=[None]), r"units is \[None\]; give"),
    "no network": (lambda: compact(None, WHOLE, LAYOUT), "NoneType"),
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


@pytest.mark.usefixtures("types_unchecked")
def test_numbers_of_numpy_are_as_good() -> None:
    """A sum of masks counts in them."""
    assert counted(np.int64(3)) == counted(3)
    assert levels(samples=np.int64(3)) == levels(samples=3)
    assert encode_seed(np.uint64(7), LAYOUT) == encode_seed(7, LAYOUT)
    assert encode_empty(LAYOUT, np.int64(3)) == encode_empty(LAYOUT, 3)
    assert encode_signs(BALLOTS, LAYOUT, 1, mask=WHOLE, statistics=[1.0] * 3) == encode_signs(
        BALLOTS, LAYOUT, 1, mask=WHOLE, statistics=np.ones(3, np.float32)
    )
