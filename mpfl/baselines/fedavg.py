"""Federated averaging (McMahan et al. 2017): weights both ways, every round.

Also the federated training of MPFL's final model: the same algorithm with the last mask
held, where only the weights of the small network travel.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from mpfl import masks, wire
from mpfl.algorithm import (
    Algorithm,
    Data,
    Initialise,
    LocalTrain,
    State,
    require_replies,
    state_under,
)
from mpfl.baselines.server_steps import ServerStep, mean_step
from mpfl.filters import Layout, apply, expand
from mpfl.seeds import Rng
from mpfl.types import Answer, Mask, MPFLError, Reply, Weights, as_update, carried_in, located


def average(states: Sequence[Weights], samples: Sequence[int]) -> dict[str, np.ndarray]:
    """The mean of the nodes' weights, each counted by its number of images.

    Summed in float64 in the order given; integers are rounded to the nearest. Law: equal
    weights average to themselves.

    >>> average([{"w": np.array([1.0, 5.0])}, {"w": np.array([3.0, 5.0])}], samples=[3, 1])
    {'w': array([1.5, 5. ])}
    """
    total = sum(samples)
    if total <= 0:
        raise MPFLError("average: the nodes hold no data between them")
    means: dict[str, np.ndarray] = {}
    for name, first in states[0].items():
        parts = (
            np.float64(n / total) * np.asarray(weights[name], np.float64)
            for weights, n in zip(states, samples, strict=True)
        )
        mean = sum(parts)
        rounded = np.rint(mean) if first.dtype.kind in "iu" else mean
        means[name] = np.asarray(rounded, dtype=first.dtype)
    return means


def decode_replies(
    replies: Sequence[Reply], like: Weights, layout: Layout, round_: int, mask: Mask | None = None
) -> tuple[list[Weights], list[int]]:
    """Every node's weights and number of images; raises naming the node whose payload is bad.

    They come in the types of ``like``, the server's own. With ``mask`` only the kept slices
    were sent; they are put back in full shapes.
    """
    require_replies(replies, round_)
    states: list[Weights] = []
    samples: list[int] = []
    for reply in replies:
        with located(f"node {reply.node}", f"round {round_}", "decode"):
            weights, count = wire.decode_weights(reply.payload, layout, round_, mask=mask)
            if count is None:
                raise MPFLError("weights came without their number of images")
            for name, array in weights.items():
                if array.dtype != like[name].dtype:  # else one node would set everybody's type
                    raise MPFLError(f"tensor {name!r} is {array.dtype}, not {like[name].dtype}")
        states.append(weights if mask is None else expand(weights, mask, layout))
        samples.append(count)
    return states, samples


def broadcast_weights(state: State, round_: int, layout: Layout, mask: Mask | None = None) -> bytes:
    """The weights down; in the first round nothing, as nodes hold w0 already."""
    if round_ == 1:
        return wire.encode_empty(layout, round_)
    return wire.encode_weights(state.weights, layout, round_, mask=mask)


def read_weights(
    memory: Weights, message: bytes, layout: Layout, mask: Mask | None = None
) -> tuple[Weights, int]:
    """What a node starts the round from, in full shapes, and which round it is."""
    round_ = wire.round_of(message)
    if wire.kind_of(message) == wire.Kind.EMPTY:
        wire.decode_empty(message, layout, round_)
        return (memory if mask is None else apply(memory, mask, layout)), round_
    weights, _ = wire.decode_weights(message, layout, round_, mask=mask)
    full = weights if mask is None else expand(weights, mask, layout)
    return {**full, **carried_in(memory)}, round_


def fedavg(
    layout: Layout,
    initialise: Initialise,
    local_train: LocalTrain,
    *,
    mask: Mask | None = None,
    server: ServerStep = mean_step,
    start: Callable[[State], bytes] | None = None,
    join: Callable[[bytes], Weights] | None = None,
) -> Algorithm:
    """Average the nodes' weights, round after round.

    With ``mask`` the nodes train the network that is left, and only its weights travel. ``server``
    is what the server makes of the mean (:mod:`mpfl.baselines.server_steps`). It begins with what
    ``mask`` leaves of w0, as the nodes do: else its first move would be the pruning.
    ``start`` and ``join`` replace how w0 reaches the nodes: the final training of MPFL
    sends the last consensus, as the nodes hold w0 already.
    """
    held = masks.full(layout) if mask is None else mask

    def local(memory: Weights, message: bytes, data: Data, rng: Rng) -> Answer:
        weights, round_ = read_weights(memory, message, layout, mask)
        update = as_update(local_train(weights, held, data, rng))
        payload = wire.encode_weights(update.weights, layout, round_, mask=mask, samples=len(data))
        return Answer(payload, update.remembered_in(memory), update.metrics)

    def aggregate(state: State, round_: int, replies: Sequence[Reply]) -> State:
        states, samples = decode_replies(replies, state.weights, layout, round_, mask)
        mean = average(states, samples)
        weights, kept = server(state.weights, mean, state.kept, round_)
        return replace(state, weights=weights, kept=kept)

    algorithm = Algorithm.from_w0(
        "fedavg",
        layout,
        initialise,
        broadcast=lambda state, round_: broadcast_weights(state, round_, layout, mask),
        local=local,
        aggregate=aggregate,
    )
    return replace(
        algorithm,
        init=partial(state_under, held, layout),
        start=start or algorithm.start,
        join=join or algorithm.join,
    )
