"""Votes on directions in which the nodes also say how far: a length per tensor or per channel.

In :mod:`mpfl.sign_votes` every weight moves as far as every other. Here a node sends with its
directions how far it went on average in each tensor, or in each channel of it, in four bytes. The
server takes the median of what the nodes say. So steps are long where training is, and get shorter
as it ends, with no schedule; and fewer than half of the nodes cannot make a step longer than an
honest node says.

With *error feedback* (Seide et al. 2014; Karimireddy et al., arXiv 1901.09847) a node remembers
what a bit and a length could not say, and adds it to what it says in the next round.

The server sees thousands of bits from every node, and so may *mute* those that contradict the
others more often than not (:func:`standings`). That helps against nodes that each make their own
mistakes, and harms against nodes that conspire: these may have honest ones muted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Bool, Float, Float32

from mpfl import wire
from mpfl.algorithm import Algorithm, Data, Initialise, LocalTrain, State
from mpfl.filters import Layout
from mpfl.seeds import Rng
from mpfl.sign_votes import (
    LOST,
    LOST_BEFORE,
    Directions,
    Per,
    brought_up,
    by_steps,
    count_up,
    decode_directions,
    kept_ups,
    last_ups,
    lost_in,
    majority,
    rounds_kept,
    signs_of,
    steps_or_weights,
    with_row,
)
from mpfl.types import Answer, Mask, MPFLError, Reply, Weights, as_update, located, require_bool
from mpfl.wire.numbers import require_parts


def mean_lengths(
    moved: Float32[np.ndarray, " numbers"], sizes: Sequence[int]
) -> Float32[np.ndarray, " parts"]:
    """How far the numbers of each part, a tensor or a channel, moved on average, whichever way.

    ``sizes`` are how many numbers each part has, one after the other.

    >>> mean_lengths(np.array([1, -3, 0.5], np.float32), [2, 1])
    array([2. , 0.5], dtype=float32)
    """
    require_parts("moves", moved, sizes)
    parts = np.split(np.abs(moved), np.cumsum(sizes)[:-1])
    means = [part.mean(dtype=np.float64) if part.size else 0 for part in parts[: len(sizes)]]
    return np.array(means, np.float32)


def scaled_step(
    up: Bool[np.ndarray, " numbers"],
    lengths: Float32[np.ndarray, " parts"],
    sizes: Sequence[int],
) -> Float32[np.ndarray, " numbers"]:
    """The step in these directions, as long in each part as ``lengths`` say.

    >>> scaled_step(np.array([True, False, False]), np.array([2, 0.5], np.float32), [2, 1])
    array([ 2. , -2. , -0.5], dtype=float32)
    """
    require_parts("directions", up, sizes, "b")
    require_parts("lengths", lengths, [1] * len(sizes))
    far = np.repeat(lengths, sizes)
    return np.where(up, far, -far)


LENGTHS = "step_lengths"
"""Under what name the server keeps the lengths of its last steps, a row per round."""

MUTED, JUDGED, STANDING = "muted", "judged", "standing"
"""Under what names the server keeps which nodes it muted in its last round, which have
ever replied, and how these stand."""


def correlation_with_others(
    signs: Bool[np.ndarray, "nodes numbers"],
) -> Float[np.ndarray, " nodes"]:
    """How often each node says the same as another, less how often the opposite: from -1 to 1.

    Over all other nodes and all numbers; 0 for a node alone.

    Law: if honest nodes are each right with one chance above 1/2, independently, and the others, at
    least two fewer, each say the opposite of what such a node would, then over many numbers exactly
    those are below 0. Nodes that agree to send the same wrong bits need not be: each has the others
    on its side, and with enough of them honest nodes are below 0.

    >>> up, down = True, False
    >>> correlation_with_others(np.array([[up, up], [up, up], [up, up], [down, down]]))
    array([ 0.33333333,  0.33333333,  0.33333333, -1.        ])
    """
    margins = 2 * count_up(signs) - len(signs)
    nodes, numbers = signs.shape
    ups = np.array([margins[row].sum() for row in signs])
    same_less_opposite = 2 * ups - margins.sum() - numbers
    return same_less_opposite / max((nodes - 1) * numbers, 1)


def standings(
    past: Mapping[int, float], nodes: Sequence[int], signs: Bool[np.ndarray, "nodes numbers"]
) -> dict[int, float]:
    """How every node stands after a round in which these ``nodes`` sent ``signs``.

    As it stood in the ``past``, and the round's correlation with the others on top: late in a
    training, bits are too near to chance to judge by, and what was seen before has to do. So a node
    that turns bad late is found late, or never. A node without a ``past`` stands at 0, and one that
    is away stands as it stood. signSGD-FD (Park & Lee 2024) weights votes by how often a node
    agrees. Raises :class:`~mpfl.types.MPFLError` unless there is one row for each node.

    >>> ups = np.array([[True], [True], [True], [False]])
    >>> standings({3: 0.5, 7: 0.5}, [0, 1, 2, 3], ups)[3]
    -0.5
    """
    found = correlation_with_others(signs).tolist()
    if not len(nodes) == len(set(nodes)) == len(found):
        raise MPFLError(f"signs of {len(found)} nodes, but nodes are {nodes}; name each once")
    now = zip(nodes, found, strict=True)
    return {**past, **{node: past.get(node, 0.0) + far for node, far in now}}


def scaled_votes(
    layout: Layout,
    initialise: Initialise,
    local_train: LocalTrain,
    *,
    mask: Mask,
    voted: Sequence[str],
    feedback: bool,
    averages: Callable[[int], bool],
    per: Per = "tensor",
    mute: bool = False,
    start: Callable[[State], bytes] | None = None,
    join: Callable[[bytes], Weights] | None = None,
) -> Algorithm:
    """Train what ``mask`` leaves by votes on the direction of every weight of ``voted``.

    The step in a tensor is the median of the lengths that the nodes send for it; or each channel
    has a length of its own, as ``per`` says. ``feedback`` adds to a round what the round before
    could not say. ``mute`` counts only the bits and statistics of nodes that stand at 0 or above
    (:func:`standings`), or all if those are not more than half. ``averages``, ``start`` and
    ``join`` are as in :func:`~mpfl.sign_votes.sign_votes`, and so is what a node is sent that
    missed some rounds.
    """
    require_bool("feedback", feedback)
    require_bool("mute", mute)
    them = Directions(layout, mask, tuple(voted))
    sizes = them.sizes(per)

    def local(memory: Weights, message: bytes, data: Data, rng: Rng) -> Answer:
        # 1. The weights that all hold: the node's own, after the step that the server sends.
        weights = brought_up_by_lengths(memory, message, them, per)
        round_ = wire.round_of(message)
        # 2. Where this node would go, and what it could not say before.
        update = as_update(local_train(weights, mask, data, rng))
        wanted = them.flat(update.weights, them.voted) - them.flat(weights, them.voted)
        before = lost_in(memory, round_, them.numbers)
        if feedback:
            wanted = wanted + before
        # 3. Which way and how far, and the statistics if they are due.
        signs, lengths = signs_of(wanted, round_), mean_lengths(wanted, sizes)
        others = them.averaged(weights)
        more = them.flat(update.weights, others) if averages(round_) else lengths[:0]
        told = np.concatenate([lengths, more])
        payload = wire.encode_signs(signs[None], layout, round_, mask=mask, statistics=told)
        kept = them.remembered(weights, update, round_)
        if feedback:
            kept |= {LOST: wanted - scaled_step(signs, lengths, sizes), LOST_BEFORE: before}
        return Answer(payload, kept, update.metrics)

    def aggregate(state: State, round_: int, replies: Sequence[Reply]) -> State:
        signs, lengths, told = decode_lengths(replies, state.weights, them, per, round_, averages)
        kept: dict[str, np.ndarray] = {}
        heard = np.ones(len(replies), bool)
        if mute:
            heard, kept = _heard(state.kept, [reply.node for reply in replies], signs)
        up = majority(signs[heard], round_)
        far = np.median(lengths, axis=0).astype(np.float32)  # of all: muting makes no step longer
        weights = them.moved(state.weights, scaled_step(up, far, sizes))
        if averages(round_):
            weights = them.with_statistics(weights, told[heard])
        kept |= kept_ups(state, up) | {LENGTHS: with_row(state, LENGTHS, far)}
        return replace(state, weights=weights, kept=kept, testable=averages(round_))

    def catch_up(state: State, round_: int, since: int) -> bytes:
        def last(rows: int) -> bytes:
            ups, far = last_ups(state, rows, them), state.kept[LENGTHS][-rows:].ravel()
            return wire.encode_signs(ups, layout, round_, mask=mask, statistics=far)

        return steps_or_weights(state, round_, them, since, rounds_kept(state), last)

    return by_steps(
        "scaled_votes",
        them,
        initialise,
        local=local,
        aggregate=aggregate,
        catch_up=catch_up,
        start=start,
        join=join,
    )


def _heard(
    kept: Weights, nodes: Sequence[int], signs: Bool[np.ndarray, "nodes numbers"]
) -> tuple[Bool[np.ndarray, " nodes"], dict[str, np.ndarray]]:
    """Which nodes count in a round, and what the server keeps of how they stand."""
    judged, standing = (kept[name].tolist() if name in kept else [] for name in (JUDGED, STANDING))
    stand = standings(dict(zip(judged, standing, strict=True)), nodes, signs)
    heard = np.array([stand[node] >= 0 for node in nodes])
    if 2 * heard.sum() <= len(nodes):  # a minority is not to decide alone
        heard = np.ones(len(nodes), bool)
    known = sorted(stand)
    now = {JUDGED: known, STANDING: [stand[n] for n in known], MUTED: np.array(nodes)[~heard]}
    return heard, {name: np.asarray(each) for name, each in now.items()}


def brought_up_by_lengths(
    memory: Weights, message: bytes, them: Directions, per: Per
) -> dict[str, np.ndarray]:
    """The weights that all hold at the beginning of a message's round, and what a node carries."""
    sizes = them.sizes(per)

    def ways(round_: int) -> list[np.ndarray]:
        ups, told = wire.decode_signs(
            message,
            them.numbers,
            them.layout,
            round_,
            mask=them.mask,
            rounds=None,
            statistics=len(sizes),
        )
        lengths = _checked(told).reshape(len(ups), len(sizes))
        return [scaled_step(up, far, sizes) for up, far in zip(ups, lengths, strict=True)]

    return brought_up(memory, message, them, ways)


def decode_lengths(
    replies: Sequence[Reply],
    weights: Weights,
    them: Directions,
    per: Per,
    round_: int,
    averages: Callable[[int], bool],
) -> tuple[
    Bool[np.ndarray, "nodes numbers"],
    Float32[np.ndarray, "nodes parts"],
    Float32[np.ndarray, "nodes more"],
]:
    """Every node's directions, lengths and statistics; raises naming a node that sent bad ones."""
    parts = len(them.sizes(per))
    signs, told = decode_directions(replies, weights, them, round_, averages, parts)
    for reply, numbers in zip(replies, told, strict=True):
        with located(f"node {reply.node}", f"round {round_}", "decode"):
            _checked(numbers[:parts])
    return signs, told[:, :parts], told[:, parts:]


def _checked(lengths: Float32[np.ndarray, " parts"]) -> Float32[np.ndarray, " parts"]:
    if (lengths < 0).any():
        raise MPFLError("a length is negative; give how far the numbers moved on average")
    return lengths
