"""Pruning-FL, the paper's baseline: average the weights, prune the average, go on.

The model on the wire stays dense, as published: a pruned filter travels as zeros.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mpfl import prune, wire
from mpfl.algorithm import Algorithm, Data, Initialise, LocalTrain, State
from mpfl.baselines.fedavg import average, broadcast_weights, decode_replies, read_weights
from mpfl.filters import Layout, apply
from mpfl.node import Plan
from mpfl.prune import Score, l2
from mpfl.seeds import Rng, rng_for
from mpfl.types import Answer, Mask, Reply, Update, Weights, as_update


def implied_mask(weights: Weights, layout: Layout) -> Mask:
    """The filters that are not all zero: how a node reads the mask off the dense weights."""
    return {
        layer.name: np.any(weights[layer.weight].reshape(layer.filters, -1) != 0, axis=1)
        for layer in layout.layers
    }


def pruning_fl(
    plan: Plan,
    initialise: Initialise,
    local_train: LocalTrain,
    *,
    score: Score = l2,
    seed: int = 0,
) -> Algorithm:
    """Federated averaging whose server prunes the average to the schedule after each round.

    The score may look only at weights, not at gradients: the server has no data. ``seed`` is for a
    score that draws.
    """
    layout = plan.layout

    def local(memory: Weights, message: bytes, data: Data, rng: Rng) -> Answer:
        weights, round_ = read_weights(memory, message, layout)
        update = as_update(local_train(weights, implied_mask(weights, layout), data, rng))
        payload = wire.encode_weights(update.weights, layout, round_, samples=len(data))
        return Answer(payload, update.remembered_in(memory), update.metrics)

    def aggregate(state: State, round_: int, replies: Sequence[Reply]) -> State:
        averaged = average(*decode_replies(replies, state.weights, layout, round_))
        rng = rng_for(seed, "pruning-fl", round_)
        scores = prune.score_layers(score, Update(averaged), layout, rng)
        mask = prune.select(scores, state.mask, plan.keep(round_, state.mask))
        return State(apply(averaged, mask, layout), mask, state.seed)

    return Algorithm.from_w0(
        "pruning-fl",
        layout,
        initialise,
        broadcast=lambda state, round_: broadcast_weights(state, round_, layout),
        local=local,
        aggregate=aggregate,
    )
