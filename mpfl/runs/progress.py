"""Where a run is, for whoever watches it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True)
class Progress:
    """Where a run is: ``done`` of ``total`` local epochs of a phase, and a line to show."""

    phase: str
    done: int
    total: int
    text: str


Watch: TypeAlias = Callable[[Progress], None]


class Display:
    """Turns what training and simulation call back into :class:`Progress` for a ``watch``."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self.begin("", 1, 1, 1)

    def begin(self, phase: str, rounds: int, nodes: int, epochs: int) -> None:
        """A phase of so many rounds, of ``nodes`` turns each, of ``epochs`` each."""
        self._phase, self._rounds, self._nodes, self._epochs = phase, rounds, nodes, epochs
        self._round, self._node = 1, 0

    def on_turn(self, round_: int, node: int) -> None:
        """A node's turn begins in this process; its epochs follow."""
        self._round, self._node = round_, node

    def on_remote_turn(self, round_: int, turns: int) -> None:
        """So many turns of a round have ended elsewhere; of their epochs nothing is heard."""
        self.on_turn(round_, turns)
        self.on_epoch(0)

    def on_epoch(self, epoch: int) -> None:
        """A local epoch begins."""
        turns = (self._round - 1) * self._nodes + self._node
        text = f"epoch {epoch + 1}/{self._epochs}"
        if self._rounds * self._nodes > 1:
            place = f"round {self._round}/{self._rounds}, node {self._node + 1}/{self._nodes}"
            text = f"{place}, {text}"
        total = self._rounds * self._nodes * self._epochs
        self._watch(Progress(self._phase, turns * self._epochs + epoch, total, text))
