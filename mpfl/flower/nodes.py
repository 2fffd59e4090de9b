"""The nodes of a run as the server sees them: asked through Flower, waited for until a deadline.

A round closes when every node has answered, when those that may still answer could not make a
quorum, or at its deadline. The others are left out by name, with the reason.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from logging import INFO, WARNING
from typing import Any

from flwr.app import Message
from flwr.common.constant import ErrorCode
from flwr.common.logger import log
from flwr.serverapp import Grid

from mpfl import masks
from mpfl.algorithm import start_message, state_under
from mpfl.flower import messages
from mpfl.flower.checks import Check, ballot_check, training_check
from mpfl.runs.phases import Missed
from mpfl.runs.workbench import Workbench
from mpfl.simulation import OnTurn, RunNodes
from mpfl.types import Absent, Mask, MPFLError, Reply, Weights
from mpfl.wire import encode_consensus

POLL = 0.2
"""Seconds between two looks at what has come."""

Tell = Callable[[str, int | None, int, str], None]
"""Told of what :class:`~mpfl.flower.answers.Heard` holds, when it comes."""


@dataclass
class Answers:
    """What came in a round: ``good`` by node, and ``why`` others do not count.

    ``strange`` is what went wrong at nodes that never said which they are. ``lost`` are nodes
    that the engine lost, and that may come back.
    """

    good: dict[int, dict[str, Any]] = field(default_factory=dict)
    why: dict[int, str] = field(default_factory=dict)
    strange: list[str] = field(default_factory=list)
    lost: set[int | None] = field(default_factory=set)

    def at_most(self, nodes: int) -> int:
        """How many of ``nodes`` may count once those that have not answered yet have done so."""
        return nodes - len(self.why.keys() - self.lost) - len(self.strange)


class FlowerNodes:
    """Nodes behind a Flower ``grid``; see :class:`mpfl.runs.phases.Elsewhere`.

    ``deadline`` and ``patience`` are in seconds: how long a round may take, and how long the
    first one waits for all nodes to connect. ``quorum`` replies close a round; 0 asks for a
    majority. ``tell`` is told of each answer as it comes.
    """

    def __init__(
        self,
        grid: Grid,
        bench: Workbench,
        *,
        deadline: float,
        patience: float,
        quorum: int,
        tell: Tell = lambda group, node, length, why: None,
    ) -> None:
        count = bench.experiment.nodes
        if not 0 <= quorum <= count:
            raise MPFLError(f"quorum is {quorum}, but there are {count} nodes; 0 is a majority")
        self._grid, self._bench, self._deadline, self._tell = grid, bench, deadline, tell
        self._quorum = quorum or count // 2 + 1
        self._numbers: dict[int, int] = {}  # Flower's id of a node -> ours
        self._told: set[tuple[int, str]] = set()  # who was sent what is sent once
        self._wait_for_all(count, patience)

    def run_nodes(
        self, mask: Mask | None, nodes: int, on_turn: OnTurn, missed: Missed | None = None
    ) -> RunNodes:
        """How a simulation runs them: in the mask rounds, or in training under ``mask``."""
        bench = self._bench
        layout, experiment = bench.layout, bench.experiment
        w0 = state_under(masks.full(layout), layout, bench.start)
        once = {"w0": start_message(w0, layout)}
        if mask is not None and experiment.method.has_mask_rounds:
            once["mask"] = encode_consensus(mask, layout, experiment.rounds + 1)

        def run(round_: int, down: bytes, memories: Sequence[Weights]) -> Iterator[Reply | Absent]:
            content = {"down": down, "final": mask is not None}
            if mask is None:
                group, check = f"masks {round_}", ballot_check(bench.plan, down)
            else:
                group = f"final {round_}"
                check = training_check(bench, mask, round_)

            def behind(since: int) -> dict[str, Any]:
                return {"down": down if missed is None else missed(round_, since)}

            heard = self.ask(
                messages.TURN, group, content, once, check,
                lambda done: on_turn(round_, done), behind,
            )  # fmt: skip
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
        behind: Callable[[int], Mapping[str, Any]] = lambda since: {},
    ) -> Answers:
        """Send ``content`` to every node that is there or comes; take answers until the deadline.

        ``once`` goes with the first message to a node, and once again if it lost it. A node that
        missed rounds says since when, and is told what is ``behind`` that. Of two answers of a
        node the first counts.
        """
        grid, count = self._grid, self._bench.experiment.nodes
        until = time.monotonic() + self._deadline
        asked: set[int] = set()
        again: set[int] = set()  # who lost what is sent once
        away: set[int] = set()  # who missed rounds
        waiting: dict[str, int] = {}
        heard = Answers()
        self._tell(group, None, 0, "")

        def send(nodes: Sequence[int], more: Mapping[str, Any] = {}) -> None:
            left = max(until - time.monotonic(), 1.0)
            for node in nodes:
                told = self._told if node not in again else ()
                new = {k: v for k, v in once.items() if (node, k) not in told}
                self._told |= {(node, name) for name in new}
                made = messages.request(kind, node, group, left, {**content, **new, **more})
                waiting.update(dict.fromkeys(grid.push_messages([made]), node))  # none: it has left
            asked.update(nodes)

        while time.monotonic() < until and len(heard.good) < count:
            new = [node for node in grid.get_node_ids() if node not in asked]
            closes = len(heard.good) >= self._quorum or heard.at_most(count) < self._quorum
            if closes and not (new or waiting):
                break  # whoever is there has answered
            send(new)
            for message in grid.pull_messages(list(waiting)):
                node = waiting.pop(message.metadata.reply_to_message_id)
                told = messages.content(message)
                since = told.get("since")
                if told.get("lacks") and since is None and node not in again:
                    again.add(node)
                    send([node])
                elif told.get("lacks") and type(since) is int and node not in away:
                    away.add(node)
                    send([node], behind(max(since, 0)))
                else:
                    self._hear(message, node, group, check, heard)
                    if _is_lost(message):
                        asked.discard(node)
                    on_answer(min(len(heard.good), count - 1))
            if waiting or len(heard.good) < self._quorum:
                time.sleep(POLL)
        silent = {self._numbers.get(node) for node in waiting.values()}
        for number in set(range(count)) - heard.good.keys() - heard.why.keys():
            strange = number not in self._numbers.values()  # which node is which, it says itself
            late = number in silent or (strange and None in silent)
            said = f"no answer within {self._deadline:g} s" if late else "not connected"
            if strange and heard.strange:
                said += f", or one that failed: {'; '.join(dict.fromkeys(heard.strange))}"
            heard.why[number] = said
        return heard

    def _hear(self, message: Message, node: int, group: str, check: Check, heard: Answers) -> None:
        told = messages.content(message)
        number = told.get("node", self._numbers.get(node))
        if number is not None and (
            type(number) is not int or not 0 <= number < self._bench.experiment.nodes
        ):
            return  # nobody of ours; who is missing is said by name
        said = _failure(message, told)
        if number is None:
            if said:
                self._left_out(group, -1, 0, said)
                heard.strange.append(said)
            return
        if not message.has_error():
            self._numbers[node] = number
        if number in heard.good:
            return
        up = told.get("up")
        length = len(up) if isinstance(up, bytes) else 0
        try:
            if said:
                raise MPFLError(said)
            check(number, told)
        except MPFLError as error:
            self._left_out(group, number, length, str(error))
            heard.why[number] = str(error)
            (heard.lost.add if _is_lost(message) else heard.lost.discard)(number)
        else:
            self._tell(group, number, length, "")
            heard.good[number] = told
            heard.why.pop(number, None)

    def _left_out(self, group: str, number: int, length: int, why: str) -> None:
        log(WARNING, "node %s: %s", "?" if number < 0 else number, why)
        self._tell(group, number, length, why)

    def _wait_for_all(self, count: int, patience: float) -> None:
        until = time.monotonic() + patience
        while len(list(self._grid.get_node_ids())) < count and time.monotonic() < until:
            time.sleep(POLL)

    def _require_quorum(self, round_: int, heard: Answers) -> None:
        if len(heard.good) < self._quorum:
            reasons = "; ".join(f"node {node}: {why}" for node, why in sorted(heard.why.items()))
            raise MPFLError(
                f"round {round_}: {len(heard.good)} valid replies, the quorum is {self._quorum} "
                f"({reasons}). Mend that, and start the run again: it goes on from round {round_}"
            )


def _failure(message: Message, told: Mapping[str, Any]) -> str:
    """What went wrong at a node that made no answer; empty if it made one."""
    if message.has_error():
        return f"the engine: {message.error.reason}"
    if "failed" in told:
        return str(told["failed"])
    return "it keeps losing what it is sent once" if "lacks" in told else ""


def _is_lost(message: Message) -> bool:
    return message.has_error() and message.error.code == ErrorCode.NODE_UNAVAILABLE
