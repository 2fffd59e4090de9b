"""Votes through a tree: relays add masks up and send counts, and the server adds counts up.

A rule sees only the sum of the masks, and a sum can be made in parts. So a *relay* between
nodes and server reads the ballots of those below it and sends on one message: how many voted,
and for each filter how many of them keep it (:func:`mpfl.wire.counts.encode_counts`). Counts add up
like ballots do, so relays can stand behind relays.

Law: any tree gives the votes, and so the consensus, of all nodes sending to the server at once,
bit for bit. Relays and server hold one histogram each; what they need does not grow with the
nodes, and no link carries more than ceil(log2(n + 1)) bits per filter for the n voters behind it.

A relay is trusted: if it lies, it speaks for all behind it. Counts tell nobody apart, so a
node that reaches two relays counts twice. It is not known either how far each node agrees with the
consensus.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from mpfl import masks, wire
from mpfl.algorithm import Outcome, State
from mpfl.node import Plan
from mpfl.prune import filter_norms, select
from mpfl.server import decide
from mpfl.types import Mask, MPFLError, located
from mpfl.vote import Rule


def gather(
    plan: Plan, alive: Mask, round_: int, payloads: Iterable[tuple[int, bytes]]
) -> tuple[dict[str, np.ndarray], int]:
    """The vote histogram of ``(sender, payload)`` pairs, masks and counts mixed, and the voters.

    ``int64 [filters]`` by layer. Payloads are taken as they come and none is kept. Raises
    :class:`~mpfl.types.MPFLError` naming the first sender whose payload is bad, and if
    there is none at all.
    """
    total = {layer.name: np.zeros(layer.filters, np.int64) for layer in plan.layout.layers}
    voters = 0
    for sender, payload in payloads:
        with located(f"sender {sender}", f"round {round_}", "decode"):
            votes, behind = _read(plan, alive, round_, payload)
        voters += behind
        for name, counts in votes.items():
            total[name] += counts
    if not voters:
        raise MPFLError(f"round {round_}: nobody voted; check that nodes are running, try again")
    return total, voters


def _read(
    plan: Plan, alive: Mask, round_: int, payload: bytes
) -> tuple[Mapping[str, np.ndarray], int]:
    """What one message adds: a node's mask, or the counts of a relay and its voters."""
    layout = plan.layout
    if wire.kind_of(payload) is wire.Kind.COUNTS:
        return wire.decode_counts(payload, layout, round_, reference=alive)
    keep = plan.keep(round_, alive)
    mask = wire.decode_mask(payload, layout, round_, reference=alive, keep=keep, coding=plan.coding)
    return mask, 1


def relay(plan: Plan, alive: Mask, round_: int, payloads: Iterable[tuple[int, bytes]]) -> bytes:
    """The one message that stands for all of ``payloads``, which are those of :func:`gather`.

    Law: gathering what relays say equals gathering what they were sent.
    """
    votes, voters = gather(plan, alive, round_, payloads)
    return wire.encode_counts(votes, voters, plan.layout, round_, reference=alive)


def count_relayed(
    plan: Plan, vote: Rule, state: State, round_: int, payloads: Iterable[tuple[int, bytes]]
) -> State:
    """One round of a server behind relays: messages -> vote histogram -> rule -> next consensus.

    Law: the state of :func:`mpfl.server.count_votes` from all the nodes' own replies, but that
    the outcome holds neither ballots nor agreement. Raises :class:`~mpfl.types.MPFLError` as
    :func:`gather` does, and for a rule that weighs nodes differently: it has to know who sent
    which ballot.
    """
    if vote.weights is not None:
        raise MPFLError(
            f"vote rule {vote} needs every node's own ballot, but relays send their sum; "
            "use another rule, or let all nodes send to the server"
        )
    votes, voters = gather(plan, state.mask, round_, payloads)
    norms = filter_norms(state.weights, plan.layout)
    mask, rescued = decide(plan, vote, state.mask, round_, votes, voters, norms)
    return replace(state, mask=mask, outcome=Outcome(votes, rescued=rescued))


@dataclass(frozen=True)
class Level:
    """All links of one level of a tree, each with ``voters`` nodes behind it; bytes are of one."""

    links: int
    voters: int
    bytes_up: int
    bytes_down: int


def link_bytes(plan: Plan, alive: Mask, round_: int, fans: Sequence[int]) -> list[Level]:
    """What a round costs on every link of an even tree, from the nodes' level to the server's.

    ``fans[0]`` senders reach the server, ``fans[1]`` each of those, and so on down to the nodes;
    ``fans=[n]`` is ``n`` nodes without a relay. Sizes are those of messages that are made: a
    ballot that the plan asks for and, as their length depends on nothing but the voters, counts
    of zero. Raises :class:`~mpfl.types.MPFLError` for a fan below 1.
    """
    if not fans or min(fans) < 1:
        raise MPFLError(f"a tree of fans {list(fans)} has no nodes; give at least 1 for each level")
    return list(_levels(plan, alive, round_, fans))


def _levels(plan: Plan, alive: Mask, round_: int, fans: Sequence[int]) -> Iterator[Level]:
    layout, keep = plan.layout, plan.keep(round_, alive)
    down = len(wire.encode_consensus(alive, layout, round_))
    ranks = {name: np.arange(bits.size, 0.0, -1) for name, bits in alive.items()}
    ballot = select(ranks, alive, keep)
    sent = wire.encode_mask(ballot, layout, round_, reference=alive, keep=keep, coding=plan.coding)
    voters = 1
    for depth in range(len(fans), 0, -1):
        yield Level(int(np.prod(fans[:depth])), voters, len(sent), down)
        voters *= fans[depth - 1]
        nothing = masks.unflatten(np.zeros(layout.filters, np.int64), layout)
        sent = wire.encode_counts(nothing, voters, layout, round_, reference=alive)
