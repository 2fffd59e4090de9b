"""A federated run in one process: a plain loop that yields one log per round.

Progress bars, plots, files and early stopping are consumers of this generator. A run can
go on from any log it has yielded: every random draw is keyed on (seed, round, node).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np

from mpfl import masks
from mpfl.algorithm import Algorithm, Data, Local, Outcome, Start, State
from mpfl.seeds import rng_for
from mpfl.types import Absent, MPFLError, Reply, Weights, located


@dataclass(frozen=True)
class RoundLog:
    """Everything observed in one round. Bytes are lengths of messages, summed over nodes.

    What goes down is counted for every node, once, whether it was there or lost it and was
    sent it again; what goes up is that of the replies that count.

    ``start_bytes`` carried w0 (round 1 only); ``bytes_down`` and ``bytes_up`` the round's
    messages; ``payloads`` the bytes of each reply, in the order of ``replied``; ``left_out`` says
    of the other nodes why they do not count. ``accuracy`` is that of the state's own weights,
    0-1, if an ``evaluate`` was given and they can be tested; ``seconds`` is wall time.
    """

    round: int
    state: State
    memories: tuple[Weights, ...]
    start_bytes: int
    bytes_down: int
    bytes_up: int
    payloads: tuple[int, ...]
    metrics: tuple[Mapping[str, float], ...]
    accuracy: float | None
    seconds: float
    replied: tuple[int, ...] = ()
    left_out: Mapping[int, str] = field(default_factory=dict)

    @property
    def sparsity(self) -> float:
        """Share of all filters removed, 0-1."""
        return masks.sparsity(self.state.mask)

    @property
    def outcome(self) -> Outcome:
        """What the round's vote came to; raises if nobody votes in this method."""
        if self.state.outcome is None:
            raise MPFLError(f"round {self.round}: nobody voted; ask a log of a method that votes")
        return self.state.outcome


@dataclass(frozen=True)
class Resume:
    """Where a run goes on: after ``round``, with the server's state and the nodes' memories."""

    round: int
    state: State
    memories: Sequence[Weights]


RunNodes: TypeAlias = Callable[[int, bytes, Sequence[Weights]], Iterable[Reply | Absent]]
"""``(round, message down, memories) -> replies``: every node's turn, in the nodes' order."""

OnTurn: TypeAlias = Callable[[int, int], None]
"""``(round, node)``, before a node's turn: for whoever shows progress."""


def take_turn(
    local: Local, data: Data, seed: int, round_: int, node: int, memory: Weights, message: bytes
) -> Reply:
    """One node's turn: a function of its arguments alone, wherever and whenever it runs."""
    with located(f"node {node}", f"round {round_}"):
        answer = local(memory, message, data, rng_for(seed, "node", round_, node))
    return Reply(node, answer.payload, answer.memory, answer.metrics)


def simulate(
    algorithm: Algorithm,
    nodes: Sequence[Data],
    start: Start,
    rounds: int,
    seed: int,
    *,
    evaluate: Callable[[State], float] | None = None,
    behaviour: Mapping[int, Local] | None = None,
    resume: Resume | None = None,
    on_turn: OnTurn = lambda round_, node: None,
    run_nodes: RunNodes | None = None,
) -> Iterator[RoundLog]:
    """Run ``rounds`` rounds of ``algorithm`` over the nodes' data, yielding a log per round.

    The nodes take their turns one after the other, in this process, unless ``run_nodes`` runs
    them elsewhere. ``behaviour`` gives a node its own ``local`` (a node that misbehaves). Raises
    :class:`~mpfl.types.MPFLError` for a node without data.
    """
    for node, data in enumerate(nodes if run_nodes is None else ()):
        if len(data) == 0:
            raise MPFLError(f"node {node} has no data; use fewer nodes or another partition")
    behaviour = behaviour or {}
    if strangers := sorted(set(behaviour) - set(range(len(nodes)))):
        raise MPFLError(f"behaviour of node {strangers[0]}, but there are {len(nodes)} nodes")
    for name, value in (("rounds", rounds), ("seed", seed)):
        if not isinstance(value, int | np.integer) or value < 0:
            raise MPFLError(f"{name} is {value!r}; give a whole number, 0 or more")

    # Before the first round: w0 goes to every node, unless the run goes on from where it was.
    message = b""
    if resume is None:
        state = algorithm.init(start)
        message = algorithm.start(state)
        # Every node is sent the same, so what one of them reads in it does for all.
        memories = [algorithm.join(message)] * len(nodes) if nodes else []
        first = 1
    else:
        state, memories, first = resume.state, list(resume.memories), resume.round + 1
        if len(memories) != len(nodes):
            raise MPFLError(
                f"the run to go on with has {len(memories)} nodes, but there are {len(nodes)}; "
                "give the nodes that it was begun with"
            )

    for round_ in range(first, rounds + 1):
        began = time.perf_counter()
        # 1. Down: one message, the same for all.
        down = algorithm.broadcast(state, round_)
        # 2. Every node's turn.
        turns: list[Reply | Absent] = []
        if run_nodes is not None:
            turns = list(run_nodes(round_, down, memories))
        else:
            for node, (data, memory) in enumerate(zip(nodes, memories, strict=True)):
                on_turn(round_, node)
                local = behaviour.get(node, algorithm.local)
                turns.append(take_turn(local, data, seed, round_, node, memory, down))
        # 3. Up: the replies make the next state.
        replies = [turn for turn in turns if isinstance(turn, Reply)]
        state = algorithm.aggregate(state, round_, replies)
        for reply in replies:
            memories[reply.node] = reply.memory
        yield RoundLog(
            round=round_,
            state=state,
            memories=tuple(memories),
            start_bytes=len(message) * len(nodes) if round_ == 1 else 0,
            bytes_down=len(down) * len(nodes),
            bytes_up=sum(len(reply.payload) for reply in replies),
            payloads=tuple(len(reply.payload) for reply in replies),
            metrics=tuple(reply.metrics for reply in replies),
            accuracy=evaluate(state) if evaluate and state.testable else None,
            seconds=time.perf_counter() - began,
            replied=tuple(reply.node for reply in replies),
            left_out={turn.node: turn.why for turn in turns if isinstance(turn, Absent)},
        )


def agreement_table(logs: Sequence[RoundLog]) -> np.ndarray:
    """Agreement of every node with the consensus, ``[rounds, nodes]``, 0-1."""
    return np.array([list(log.outcome.agreement.values()) for log in logs])
