"""The seam: an algorithm is six pure functions, cut where the wire is; some have a seventh.

The same object runs in the simulation and between real machines. Only ``bytes`` cross,
so every size that mpfl reports is the length of a message.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeAlias

import numpy as np

from mpfl import masks, wire
from mpfl.filters import Layout, apply
from mpfl.seeds import Rng
from mpfl.types import Answer, Mask, MPFLError, Reply, Update, Weights
from mpfl.wire import Ballots

Data: TypeAlias = Any
"""A node's own data: opaque to the method, understood by the training it is given."""

LocalTrain: TypeAlias = Callable[[Weights, Mask, Data, Rng], Update]
"""``(weights, mask, data, rng) -> update``: pruned filters are exactly zero, before and after.

Beside the network's tensors, ``weights`` hold what the node's last update carries on.
"""

Initialise: TypeAlias = Callable[[int], Weights]
"""``seed -> w0``: every party draws the same random initialisation from a seed."""

Local: TypeAlias = Callable[[Weights, bytes, Data, Rng], Answer]
"""What a node does in a round: its memory, the message down, its data -> the answer up."""


@dataclass(frozen=True)
class Start:
    """Where training starts: ``w0``, and the seed it was drawn from (None: not random).

    ``bits``: w0 was rounded (:func:`mpfl.wire.rounding.round_weights`), and is sent in so many bits
    per weight; None: whole.
    """

    w0: Weights
    seed: int | None = None
    bits: int | None = None


@dataclass(frozen=True)
class Outcome:
    """What a round of votes came to.

    ``votes`` is how many nodes keep each filter, by layer; ``ballots`` are their masks, if the
    server saw them one by one; ``agreement`` is each node's with the consensus, 0-1; ``rescued``
    names the layers that the rule had emptied and that got filters back.
    """

    votes: Mapping[str, np.ndarray]
    ballots: Ballots | None = None
    agreement: Mapping[int, float] = field(default_factory=dict)
    rescued: tuple[str, ...] = ()


@dataclass(frozen=True)
class State:
    """What the server holds between rounds.

    ``weights`` are those that the next round starts from: w0 if nodes rewind, the average if
    weights are averaged. ``outcome`` is that of the last round's vote, if there was one. ``kept``
    is whatever else a method hands on to its next round. ``testable``: the weights are a whole
    model; not while the statistics that belong to them have still to be sent. ``bits`` is how w0 is
    sent, as in :class:`Start`.
    """

    weights: Weights
    mask: Mask
    seed: int | None = None
    outcome: Outcome | None = None
    kept: Weights = field(default_factory=dict)
    testable: bool = True
    bits: int | None = None


def state_under(mask: Mask, layout: Layout, begin: Start) -> State:
    """What a server begins with that trains what ``mask`` leaves of w0.

    Raises :class:`~mpfl.types.MPFLError` for a rounded w0 of which a mask takes something: what is
    left is not rounded any more, and cannot be sent in so few bits.
    """
    if begin.bits is not None and not all(bits.all() for bits in mask.values()):
        raise MPFLError(
            f"start: w0 is sent in {begin.bits} bits per weight, but not what a mask leaves of it; "
            "give Start without bits, and a start that sends all of w0"
        )
    return State(apply(begin.w0, mask, layout), mask, begin.seed, bits=begin.bits)


@dataclass(frozen=True)
class Algorithm:
    """A federated method.

    ``start`` makes the one message that carries w0, and ``join`` turns it into a node's
    first memory; then each round is ``broadcast`` -> ``local`` on every node -> ``aggregate``.
    Nodes keep nothing but the memory that their caller holds. ``catch_up(state, round_, since)`` is
    what a round tells a node that last took part in round ``since`` (0: in none), instead of the
    broadcast; None: a node needs no more than that.
    """

    name: str
    init: Callable[[Start], State]
    start: Callable[[State], bytes]
    join: Callable[[bytes], Weights]
    broadcast: Callable[[State, int], bytes]
    local: Local
    aggregate: Callable[[State, int, Sequence[Reply]], State]
    catch_up: Callable[[State, int, int], bytes] | None = None

    @classmethod
    def from_w0(
        cls,
        name: str,
        layout: Layout,
        initialise: Initialise,
        *,
        broadcast: Callable[[State, int], bytes],
        local: Local,
        aggregate: Callable[[State, int, Sequence[Reply]], State],
    ) -> Algorithm:
        """A method that begins as all here do: everybody holds w0, and nothing is pruned."""

        def start(state: State) -> bytes:
            _require_drawn(state, layout, initialise)
            return start_message(state, layout)

        return cls(
            name=name,
            init=partial(state_under, masks.full(layout), layout),
            start=start,
            join=joiner(layout, initialise),
            broadcast=broadcast,
            local=local,
            aggregate=aggregate,
        )


def _require_drawn(state: State, layout: Layout, initialise: Initialise) -> None:
    """Refuse a seed that does not draw the server's weights: the nodes would begin with others."""
    if state.seed is None:
        return
    drawn, held = (
        apply(weights, state.mask, layout) for weights in (initialise(state.seed), state.weights)
    )
    if not all(np.array_equal(drawn[name], held[name]) for name in held):
        raise MPFLError(
            f"start: the seed {state.seed} does not draw this w0, so nodes would begin "
            "with another; give Start(w0) without a seed, and the weights are sent"
        )


def start_message(state: State, layout: Layout) -> bytes:
    """w0 on the wire: its seed if it is a random initialisation, else the weights."""
    if state.seed is not None:
        return wire.encode_seed(state.seed, layout)
    if state.bits is not None:
        return wire.encode_rounded(state.weights, layout, bits=state.bits)
    return wire.encode_weights(state.weights, layout, 0)


def joiner(layout: Layout, initialise: Initialise) -> Callable[[bytes], Weights]:
    """How a node turns :func:`start_message` back into w0."""

    def join(message: bytes) -> Weights:
        content = wire.decode_start(message, layout)
        return initialise(content) if isinstance(content, int) else content

    return join


def require_replies(replies: Sequence[Reply], round_: int) -> None:
    """Refuse a round in which no node answered, or one of them twice."""
    if not replies:
        raise MPFLError(f"round {round_}: no node replied; check that nodes are running, try again")
    for node, count in Counter(reply.node for reply in replies).items():
        if count > 1:
            raise MPFLError(f"round {round_}: node {node} replied {count} times; count it once")
