"""The federated curve of the authors' released code, as it is: the average is made, but not used.

In the snapshot b547310 the nodes' weights are averaged and loaded into the centre's network. The
mask is then taken from the weights that the centre trained itself, as the pruning hook scores a
tensor that loading does not refresh. So the averages cost bytes and decide nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from mpfl import filters, prune, wire
from mpfl.algorithm import Algorithm, Data, Initialise, LocalTrain, State
from mpfl.baselines.fedavg import average, decode_replies
from mpfl.node import Plan
from mpfl.prune import Score, l2
from mpfl.seeds import Rng, rng_for
from mpfl.types import Answer, Mask, Reply, Update, Weights, as_update, carried_in

CentreTrain: TypeAlias = Callable[[Weights, Mask, Rng], Update]
"""``(weights, mask, rng) -> update``: the training of one party that has all the data."""


def released_fl(
    plan: Plan,
    initialise: Initialise,
    local_train: LocalTrain,
    centre_train: CentreTrain,
    w0: Weights,
    *,
    score: Score = l2,
    seed: int = 0,
) -> Algorithm:
    """Weights are averaged, but the mask is that of the centre's own, earlier weights.

    Nodes and centre begin every round from ``w0`` under the last mask. The consensus goes down,
    dense weights come up; the state holds their average under the new mask, for whoever wants to
    test it. Law: the masks are the same whatever the nodes send.
    """
    layout = plan.layout

    def local(memory: Weights, message: bytes, data: Data, rng: Rng) -> Answer:
        round_, alive = wire.decode_consensus(message, layout)
        update = as_update(local_train(filters.apply(memory, alive, layout), alive, data, rng))
        payload = wire.encode_weights(update.weights, layout, round_, samples=len(data))
        return Answer(payload, update.remembered_in(memory), update.metrics)

    def aggregate(state: State, round_: int, replies: Sequence[Reply]) -> State:
        # 1. The average of what the nodes sent.
        averaged = average(*decode_replies(replies, w0, layout, round_))
        # 2. What the centre trained under the same mask, before the average was loaded.
        begin = {**filters.apply(w0, state.mask, layout), **carried_in(state.weights)}
        stale = centre_train(begin, state.mask, rng_for(seed, "centre", round_))
        # 3. The mask, by the centre's weights.
        rng = rng_for(seed, "released-fl", round_)
        scores = prune.score_layers(score, stale, layout, rng)
        mask = prune.select(scores, state.mask, plan.keep(round_, state.mask))
        weights = stale.remembered_in(filters.apply(averaged, mask, layout))
        return State(weights, mask, state.seed)

    return Algorithm.from_w0(
        "released-fl",
        layout,
        initialise,
        broadcast=lambda state, round_: wire.encode_consensus(state.mask, layout, round_),
        local=local,
        aggregate=aggregate,
    )
