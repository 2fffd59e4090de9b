"""The server's side of MPFL: add the masks up, let the rule decide, keep within the consensus."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from mpfl import codec, masks
from mpfl.algorithm import (
    Algorithm,
    Initialise,
    LocalTrain,
    State,
    joiner,
    require_replies,
    start_message,
)
from mpfl.filters import Layout
from mpfl.node import Plan, voter
from mpfl.prune import Score, l2
from mpfl.types import Mask, MPFLError, Reply, Update, Weights, located
from mpfl.vote import Ballot, Rule, budget, weighted


def masked_pruning(
    plan: Plan,
    initialise: Initialise,
    local_train: LocalTrain,
    *,
    score: Score = l2,
    vote: Rule = budget(),
    rewind: bool = True,
) -> Algorithm:
    """Masked Pruning over Federated Learning (Gez & Cohen, arXiv 2312.03889).

    Law: the consensus of a round lies within the one before, and no layer is ever empty.
    """
    layout = plan.layout
    return Algorithm(
        name="mpfl",
        init=lambda start: State(start.w0, masks.full(layout), start.seed),
        start=lambda state: start_message(state, layout),
        join=joiner(layout, initialise),
        broadcast=lambda state, round_: consensus_message(state.mask, layout, round_),
        local=voter(plan, local_train, score, rewind=rewind),
        aggregate=lambda state, round_, replies: count_votes(plan, vote, state, round_, replies),
    )


def consensus_message(mask: Mask, layout: Layout, round_: int) -> bytes:
    """The consensus on the wire, readable by a node that missed every round before."""
    return codec.encode_mask(mask, layout, round_, reference=masks.full(layout))


def filter_norms(w0: Weights, layout: Layout) -> dict[str, np.ndarray]:
    """L2 norm of each filter of w0: every party can compute it without a message."""
    rng = np.random.default_rng(0)  # a score's signature has it; l2 draws nothing
    return {layer.name: l2(Update(w0), layer, rng) for layer in layout.layers}


def count_votes(
    plan: Plan, vote: Rule, state: State, round_: int, replies: Sequence[Reply]
) -> State:
    """One round of the server: payloads -> vote histogram -> rule -> next consensus.

    Masks are added up payload by payload; none is kept. Raises
    :class:`~mpfl.types.MPFLError` without replies, or naming the node whose payload is bad.
    """
    require_replies(replies, round_)
    layout, alive = plan.layout, state.mask
    keep = plan.keep(round_, alive)

    def read(reply: Reply) -> Mask:
        with located(f"node {reply.node}", f"round {round_}", "decode"):
            return codec.decode_mask(reply.payload, layout, round_, reference=alive, keep=keep)

    number = np.float64 if isinstance(vote, weighted) else np.int64
    histogram: dict[str, np.ndarray] = {
        layer.name: np.zeros(layer.filters, number) for layer in layout.layers
    }
    voters = 0.0
    for reply in replies:
        weight = _weight(vote, reply.node)
        voters += weight
        for name, bits in read(reply).items():
            histogram[name][bits] += weight

    norms = filter_norms(state.weights, layout)
    asked = layout.keep_counts(plan.sparsity(round_)) if isinstance(keep, int) else keep
    ballots = {
        name: Ballot(histogram[name], voters, alive[name], asked[name], norms[name])
        for name in alive
    }
    mask = decide(plan, vote, ballots, keep)
    rescued = tuple(name for name, bits in mask.items() if not bits.any())
    # A network with an empty layer computes nothing: the most-voted filters stay.
    mask |= {name: budget(plan.floor)(ballots[name]) for name in rescued}
    agreement = {r.node: masks.agreement(read(r), mask, alive) for r in replies}
    return replace(state, mask=mask, votes=histogram, agreement=agreement, rescued=rescued)


def decide(
    plan: Plan, vote: Rule, ballots: Mapping[str, Ballot], keep: Mapping[str, int] | int
) -> dict[str, np.ndarray]:
    """Ask the rule, layer by layer; always inside the last consensus.

    ``budget`` over the whole network takes all layers together, with the plan's floor; there
    its ``k`` counts the filters of the network.
    """
    if isinstance(keep, int) and isinstance(vote, budget):
        # Votes decide; norms, scaled below one vote, break ties as within a layer.
        largest = max(float(ballot.norms.max()) for ballot in ballots.values())
        scores = {
            name: ballot.votes + 0.5 * ballot.norms / max(largest, 1e-300)
            for name, ballot in ballots.items()
        }
        alive = {name: ballot.alive for name, ballot in ballots.items()}
        return dict(plan.select(scores, alive, keep if vote.k is None else vote.k))
    return {name: vote(ballot) & ballot.alive for name, ballot in ballots.items()}


def _weight(vote: Rule, node: int) -> float:
    if not isinstance(vote, weighted):
        return 1
    if node >= len(vote.weights):
        raise MPFLError(
            f"vote rule weighted: node {node} has no weight, there are {len(vote.weights)}; "
            "give one weight a node"
        )
    return vote.weights[node]
