"""The nodes of a run as the server sees them: asked through Flower, heard until a deadline.

A round closes when every node has answered, or at its deadline with the valid replies, if they
are a quorum. The others are left out by name, with the reason.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from logging import INFO, WARNING
from typing import Any

from flwr.app import Message
from flwr.common.logger import log
from flwr.serverapp import Grid

from mpfl import masks, wire
from mpfl.algorithm import State, start_message
from mpfl.baselines.fedavg import decode_replies
from mpfl.filters import Layout, cut_shapes
from mpfl.flower import messages
from mpfl.node import Plan
from mpfl.runs.workbench import Workbench
from mpfl.simulation import OnTurn, RunNodes
from mpfl.types import Absent, Mask, MPFLError, Reply, Weights
from mpfl.wire import Ballots, decode_consensus, encode_consensus

POLL = 0.2
"""Seconds between two looks at what has come."""

Check = Callable[[int, Mapping[str, Any]], None]
"""Raises :class:`~mpfl.types.MPFLError` if a node's answer does not count."""


@dataclass
class Answers:
    """What came in a round: ``good`` by node, and ``why`` others do not count.

    ``strange`` is what went wrong at nodes that never said which they are.
    """

    good: dict[int, dict[str, Any]] = field(default_factory=dict)
    why: dict[int, str] = field(default_factory=dict)
    strange: list[str] = field(default_factory=list)


class FlowerNodes:
    """Nodes behind a Flower ``grid``; see :class:`mpfl.runs.phases.Elsewhere`.

    ``deadline`` and ``patience`` are in seconds: how long a round may take, and how long the
    first one waits for all nodes to connect. ``quorum`` replies close a round; 0 asks for a
    majority.
    """

    def __init__(
        self, grid: Grid, bench: Workbench, *, deadline: float, patience: float, quorum: int
    ) -> None:
        count = bench.experiment.nodes
        if not 0 <= quorum <= count:
            raise MPFLError(f"quorum is {quorum}, but there are {count} nodes; 0 is a majority")
        self._grid, self._bench, self._deadline = grid, bench, deadline
        self._quorum = quorum or count // 2 + 1
        self._numbers: dict[int, int] = {}  # Flower's id of a node -> ours
        self._told: set[tuple[int, str]] = set()  # who was sent what is sent once
        self._wait_for_all(count, patience)

    def run_nodes(self, mask: Mask | None, nodes: int, on_turn: OnTurn) -> RunNodes:
        """How a simulation runs them: in the mask rounds, or in training under ``mask``."""
        bench = self._bench
        layout, experiment = bench.layout, bench.experiment
        w0 = State(bench.start.w0, masks.full(layout), bench.start.seed)
        once = {"w0": start_message(w0, layout)}
        if mask is not None and experiment.method.has_mask_rounds:
            once["mask"] = encode_consensus(mask, layout, experiment.rounds + 1)

        def run(round_: int, down: bytes, memories: Sequence[Weights]) -> Iterator[Reply | Absent]:
            content = {"down": down, "final": mask is not None}
            if mask is None:
                group, check = f"masks {round_}", _ballot_check(bench.plan, down)
            else:
                group = f"final {round_}"
                check = _weights_check(bench.start.w0, layout, round_, mask)
            heard = self.ask(
                messages.TURN, group, content, once, check, lambda done: on_turn(round_, done)
            )
            log(INFO, "%s: %d of %d nodes count", group, len(heard.good), nodes)
            self._require_quorum(round_, heard)
            for node in range(nodes):
                if node in heard.good:
                    yield Reply(node, heard.good[node]["up"], memories[node])
                else:
                    yield Absent(node, heard.why[node])

        return run

    def ask(
        self,
        kind: str,
        group: str,
        content: Mapping[str, Any],
        once: Mapping[str, bytes],
        check: Check,
        on_answer: Callable[[int], None] = lambda done: None,
    ) -> Answers:
        """Send ``content`` to every node that is or comes, and hear them until the deadline.

        ``once`` goes with the first message to a node, and once again if it lost it. Of
        two answers of a node the first counts.
        """
        grid, count = self._grid, self._bench.experiment.nodes
        until = time.monotonic() + self._deadline
        asked: set[int] = set()
        again: set[int] = set()  # who lost what is sent once
        waiting: dict[str, int] = {}
        heard = Answers()

        def send(nodes: Sequence[int]) -> None:
            left = max(until - time.monotonic(), 1.0)
            for node in nodes:
                told = self._told if node not in again else ()
                new = {k: v for k, v in once.items() if (node, k) not in told}
                self._told |= {(node, name) for name in new}
                made = messages.request(kind, node, group, left, {**content, **new})
                waiting.update(dict.fromkeys(grid.push_messages([made]), node))  # none: it has left
            asked.update(nodes)

        while time.monotonic() < until and len(heard.good) < count:
            new = [node for node in grid.get_node_ids() if node not in asked]
            if not (new or waiting) and len(heard.good) >= self._quorum:
                break  # whoever is there has answered
            send(new)
            for message in grid.pull_messages(list(waiting)):
                node = waiting.pop(message.metadata.reply_to_message_id)
                if messages.content(message).get("lacks") and node not in again:
                    again.add(node)
                    send([node])
                else:
                    self._hear(message, node, check, heard)
                    on_answer(min(len(heard.good), count - 1))
            if waiting or len(heard.good) < self._quorum:
                time.sleep(POLL)
        silent = {self._numbers.get(node) for node in waiting.values()}
        for number in set(range(count)) - heard.good.keys() - heard.why.keys():
            strange = number not in self._numbers.values()  # which node is which, it says itself
            late = number in silent or (strange and None in silent)
            said = f"no answer within {self._deadline:g} s" if late else "not connected"
            if strange and heard.strange:
                said += f", or one that failed: {heard.strange[0]}"
            heard.why[number] = said
        return heard

    def _hear(self, message: Message, node: int, check: Check, heard: Answers) -> None:
        told = messages.content(message)
        number = told.get("node", self._numbers.get(node))
        if message.has_error():
            said = f"the engine: {message.error.reason}"
            log(WARNING, "node %s: %s", "?" if number is None else number, said)
            if number is None:
                heard.strange.append(said)
            else:
                heard.why.setdefault(number, said)
            return
        if type(number) is not int or not 0 <= number < self._bench.experiment.nodes:
            return  # nobody of ours; who is missing is said by name
        self._numbers[node] = number
        if number in heard.good:
            return
        try:
            if "failed" in told:
                raise MPFLError(str(told["failed"]))
            if "lacks" in told:
                raise MPFLError("it keeps losing what it is sent once")
            check(number, told)
        except MPFLError as error:
            heard.why[number] = str(error)
            log(WARNING, "node %d: %s", number, error)
        else:
            heard.good[number] = told
            heard.why.pop(number, None)

    def _wait_for_all(self, count: int, patience: float) -> None:
        until = time.monotonic() + patience
        while len(list(self._grid.get_node_ids())) < count and time.monotonic() < until:
            time.sleep(POLL)

    def _require_quorum(self, round_: int, heard: Answers) -> None:
        if len(heard.good) < self._quorum:
            reasons = "; ".join(f"node {node}: {why}" for node, why in sorted(heard.why.items()))
            raise MPFLError(
                f"round {round_}: {len(heard.good)} valid replies, the quorum is {self._quorum} "
                f"({reasons}). Start the run again to go on from round {round_}"
            )


def _ballot_check(plan: Plan, down: bytes) -> Check:
    round_, alive = decode_consensus(down, plan.layout)
    longest = len(wire.encode_mask(alive, plan.layout, round_, reference=alive, coding="packed"))

    def check(node: int, told: Mapping[str, Any]) -> None:
        sent, keep = [(node, _payload(told, longest))], plan.keep(round_, alive)
        Ballots.open(sent, plan.layout, round_, alive=alive, keep=keep, coding=plan.coding)

    return check


def _weights_check(w0: Weights, layout: Layout, round_: int, mask: Mask) -> Check:
    longest = wire.weights_length(cut_shapes(layout, mask), samples=2**63 - 1)

    def check(node: int, told: Mapping[str, Any]) -> None:
        decode_replies([Reply(node, _payload(told, longest))], w0, layout, round_, mask)

    return check


def _payload(told: Mapping[str, Any], longest: int) -> bytes:
    payload = told.get("up")
    if not isinstance(payload, bytes):
        raise MPFLError("the answer holds no payload; do both sides run equal mpfl versions?")
    if len(payload) > longest:
        raise MPFLError(
            f"payload holds {len(payload):,} bytes, but such a one takes at most {longest:,}; was "
            "it encoded for another model?"
        )
    return payload
