"""The server's side of MPFL: add the masks up, let the rule decide, keep within the consensus."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import count, islice

import numpy as np

from mpfl import masks, wire
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
from mpfl.wire import BLOCK, add_packed


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
    return wire.encode_mask(mask, layout, round_, reference=masks.full(layout))


def filter_norms(w0: Weights, layout: Layout) -> dict[str, np.ndarray]:
    """L2 norm of each filter of w0: every party can compute it without a message."""
    rng = np.random.default_rng(0)  # a score's signature has it; l2 draws nothing
    return {layer.name: l2(Update(w0), layer, rng) for layer in layout.layers}


def count_votes(
    plan: Plan, vote: Rule, state: State, round_: int, replies: Sequence[Reply]
) -> State:
    """One round of the server: payloads -> vote histogram -> rule -> next consensus.

    Masks are added up payload by payload; none is kept. Law: the plan's ``coding`` changes
    the bytes, never the next state. Raises :class:`~mpfl.types.MPFLError` without replies, or
    naming the node whose payload is bad.
    """
    require_replies(replies, round_)
    layout, alive = plan.layout, state.mask
    histogram, voters = _add_replies(plan, vote, alive, round_, replies)
    norms = filter_norms(state.weights, layout)
    mask, rescued = outcome(plan, vote, alive, round_, histogram, voters, norms)
    agreement = _measure_agreement(plan, mask, alive, round_, replies)
    return replace(state, mask=mask, votes=histogram, agreement=agreement, rescued=rescued)


def outcome(
    plan: Plan,
    vote: Rule,
    alive: Mask,
    round_: int,
    votes: Mapping[str, np.ndarray],
    voters: float,
    norms: Mapping[str, np.ndarray],
) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """The consensus that a vote histogram makes, and the layers that the rule had emptied."""
    asked = plan.asked(round_, alive)
    ballots = {
        name: Ballot(votes[name], voters, alive[name], asked[name], norms[name]) for name in alive
    }
    mask = _decide(plan, vote, ballots, plan.keep(round_, alive))
    rescued = tuple(name for name, bits in mask.items() if not bits.any())
    # A network with an empty layer computes nothing: the most-voted filters stay.
    mask |= {name: budget(plan.floor)(ballots[name]) for name in rescued}
    return mask, rescued


def add_up(
    payloads: Iterable[bytes],
    layout: Layout,
    round_: int,
    reference: Mask,
    *,
    nodes: Iterable[int] | None = None,
) -> dict[str, np.ndarray]:
    """The vote histogram of masks inside ``reference``, sent with ``coding="packed"``.

    Payloads are taken as they come, ``BLOCK`` at a time, so that memory is a matter of the
    filters, not of the nodes. Each is checked; raises :class:`~mpfl.types.MPFLError` naming
    the node of the first bad one: ``nodes`` in the payloads' order, or else 0, 1, 2, ... .
    """
    counts = np.zeros(layout.filters, np.int64)
    stream, senders = iter(payloads), count() if nodes is None else iter(nodes)
    while block := list(islice(stream, BLOCK)):
        who = list(islice(senders, len(block)))
        rows = wire.packed_rows(block, layout, round_, reference=reference, nodes=who)
        counts += add_packed(rows, layout.filters)
    return masks.unflatten(counts, layout)


def _add_replies(
    plan: Plan, vote: Rule, alive: Mask, round_: int, replies: Sequence[Reply]
) -> tuple[dict[str, np.ndarray], float]:
    """The vote histogram and how many voted: nodes, or under ``weighted`` their weight."""
    if plan.coding == "packed" and not isinstance(vote, weighted):
        payloads = (reply.payload for reply in replies)
        nodes = (reply.node for reply in replies)
        return add_up(payloads, plan.layout, round_, alive, nodes=nodes), float(len(replies))
    senders = (reply.node for reply in replies)
    cast = _ballots(plan, alive, round_, replies)
    return add_ballots(plan.layout, vote, zip(senders, cast, strict=True))


def add_ballots(
    layout: Layout, vote: Rule, ballots: Iterable[tuple[int, Mask]]
) -> tuple[dict[str, np.ndarray], float]:
    """The vote histogram of ``(node, mask)`` pairs and how many voted, as ``vote`` counts them.

    Each node counts once, or under ``weighted`` with its weight; raises where it has none.
    """
    number = np.float64 if isinstance(vote, weighted) else np.int64
    histogram: dict[str, np.ndarray] = {
        layer.name: np.zeros(layer.filters, number) for layer in layout.layers
    }
    voters = 0.0
    for node, ballot in ballots:
        weight = _weight(vote, node)
        voters += weight
        for name, bits in ballot.items():
            histogram[name][bits] += weight
    return histogram, voters


def _measure_agreement(
    plan: Plan, consensus: Mask, alive: Mask, round_: int, replies: Sequence[Reply]
) -> dict[int, float]:
    """Each node's :func:`mpfl.masks.agreement` with the consensus."""
    if plan.coding != "packed":
        return {
            reply.node: masks.agreement(ballot, consensus, alive)
            for reply, ballot in zip(replies, _ballots(plan, alive, round_, replies), strict=True)
        }
    # Votes and consensus lie within what was alive: where they differ, they differ in there.
    asked = sum(masks.kept(alive).values())
    packed = np.packbits(masks.flatten(consensus, plan.layout), bitorder="little")
    agreement: dict[int, float] = {}
    for first in range(0, len(replies), BLOCK):
        nodes = [reply.node for reply in replies[first : first + BLOCK]]
        payloads = [reply.payload for reply in replies[first : first + BLOCK]]
        rows = wire.packed_rows(payloads, plan.layout, round_, reference=alive, nodes=nodes)
        differ = np.bitwise_count(rows ^ packed).sum(axis=1)
        agreement |= zip(nodes, ((asked - differ) / asked).tolist(), strict=True)
    return agreement


def _ballots(plan: Plan, alive: Mask, round_: int, replies: Sequence[Reply]) -> Iterator[Mask]:
    return read_ballots(plan, alive, round_, ((reply.node, reply.payload) for reply in replies))


def read_ballots(
    plan: Plan, alive: Mask, round_: int, payloads: Iterable[tuple[int, bytes]]
) -> Iterator[Mask]:
    """The masks in a round's ``(node, payload)`` pairs, in their order; errors name the node."""
    keep = plan.keep(round_, alive)
    for node, payload in payloads:
        with located(f"node {node}", f"round {round_}", "decode"):
            yield wire.decode_mask(
                payload, plan.layout, round_, reference=alive, keep=keep, coding=plan.coding
            )


def _decide(
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
