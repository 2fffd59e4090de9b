"""The phases of a run: mask rounds, central training, federated training.

Each goes on from where it stopped: a round is checkpointed when it ends.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeAlias, runtime_checkable

from mpfl import masks
from mpfl.algorithm import Algorithm, Data, Start, State
from mpfl.filters import apply
from mpfl.runs.checkpoint import load_checkpoint, save_checkpoint
from mpfl.runs.folder import append_round, read_json, read_lines, save_weights, write_json
from mpfl.runs.progress import Display
from mpfl.runs.record import hex_of, line_of
from mpfl.runs.workbench import Workbench
from mpfl.runs.workers import Workers
from mpfl.simulation import OnTurn, RunNodes, simulate
from mpfl.types import Mask, MPFLError

Missed: TypeAlias = Callable[[int, int], bytes]
"""``(round, since) -> message`` for a node that last took part in round ``since``."""


@runtime_checkable
class Elsewhere(Protocol):
    """Nodes that are not in this process: workers beside it, or other machines."""

    def run_nodes(
        self, mask: Mask | None, nodes: int, on_turn: OnTurn, missed: Missed | None = None
    ) -> RunNodes:
        """How a simulation runs them: in the mask rounds, or in training under ``mask``.

        ``on_turn`` is told the round and how many of its turns are done. ``missed`` is what a node
        is told that was away.
        """


@dataclass(frozen=True)
class Phases:
    """The phases of one run in ``folder``.

    ``workers`` are processes beside this one. ``machines`` are nodes that hold their data
    themselves: this process then never looks at it, but for central training.
    """

    bench: Workbench
    folder: Path
    display: Display
    workers: Workers | None = None
    machines: Elsewhere | None = None

    def mask_rounds(self) -> State:
        """The method's own rounds; dense methods have none."""
        bench, experiment = self.bench, self.bench.experiment
        if not experiment.method.has_mask_rounds:
            return State(bench.start.w0, masks.full(bench.layout), bench.start.seed)

        def test(state: State) -> float:
            return bench.accuracy(state.weights, state.mask)

        return self._simulate(
            "rounds",
            "mask rounds",
            bench.algorithm(),
            bench.start,
            experiment.rounds,
            nodes=range(experiment.nodes) if self.machines else bench.parties.trainers,
            evaluate=test if experiment.method.averages else None,
        )

    def central(self, mask: Mask) -> Callable[[], dict[str, Any] | None]:
        """The network that is left, trained from w0 on all data in one place.

        It begins now if there are workers, else when the result is asked for.
        """
        bench, epochs = self.bench, self.bench.experiment.central_epochs
        done = self.folder / "central.json"
        if epochs == 0 or not bench.experiment.method.central:
            return lambda: None
        if done.exists():
            return lambda: read_json(done)
        begun = self.workers.train_centrally(mask) if self.workers else None

        def result() -> dict[str, Any]:
            self.display.begin("central training", 1, 1, epochs)
            trained = begun() if begun else bench.train_centrally(mask)
            save_weights(self.folder / "central.safetensors", trained.weights)
            found = {
                "accuracy": trained.accuracy,
                "epochs": epochs,
                "seconds": round(trained.seconds, 1),
                "accuracies": list(trained.accuracies),
                "right": hex_of(trained.right),
            }
            write_json(done, found)
            return found

        return result

    def federated(self, state: State) -> dict[str, Any] | None:
        """The network that is left, trained by averaging between the nodes."""
        bench, experiment = self.bench, self.bench.experiment
        rounds, mask = experiment.federated_rounds, state.mask
        if rounds == 0 or not experiment.method.wire:
            return None
        begin, messages = experiment.method.final_start(bench, state)
        trained = self._simulate(
            "federated",
            "federated training",
            bench.final_algorithm(mask, **messages),
            Start(apply(begin, mask, bench.layout), bench.start.seed),
            rounds,
            nodes=range(experiment.nodes) if self.machines else bench.parties.nodes,
            mask=mask,
            evaluate=lambda state: bench.accuracy(state.weights, mask),
        )
        save_weights(self.folder / "model.safetensors", trained.weights)
        lines = read_lines(self.folder / "federated.jsonl")
        return {
            "accuracy": lines[-1]["accuracy"],
            "rounds": rounds,
            "seconds": round(sum(line["seconds"] for line in lines), 1),
            "right": hex_of(bench.right(trained.weights, mask)),
        }

    def _simulate(
        self,
        name: str,
        phase: str,
        algorithm: Algorithm,
        start: Start,
        rounds: int,
        *,
        nodes: Sequence[Data],
        mask: Mask | None = None,
        evaluate: Callable[[State], float] | None = None,
    ) -> State:
        """Run the rounds of a phase that are still to be run, and record each when it ends."""
        bench, experiment, display = self.bench, self.bench.experiment, self.display
        checkpoint = self.folder / f"checkpoint-{name}.safetensors"
        resume = load_checkpoint(checkpoint, bench.layout)
        if resume is not None:
            self._require_lines(name, resume.round)
        state = algorithm.init(start) if resume is None else resume.state
        if mask is None and self._enough(state):
            return state
        elsewhere = self.machines or self.workers
        run_nodes = None
        if elsewhere is not None and len(nodes):
            display.begin(phase, rounds, len(nodes), 1)

            def missed(round_: int, since: int) -> bytes:
                if algorithm.catch_up is None:
                    return algorithm.broadcast(state, round_)
                return algorithm.catch_up(state, round_, since)

            run_nodes = elsewhere.run_nodes(mask, len(nodes), display.on_remote_turn, missed)
        else:
            display.begin(phase, rounds, len(nodes), experiment.epochs)
        for log in simulate(
            algorithm,
            nodes,
            start,
            rounds,
            bench.seed_of(mask),
            evaluate=evaluate,
            behaviour=bench.behaviour(mask) if run_nodes is None else None,
            resume=resume,
            on_turn=display.on_turn,
            run_nodes=run_nodes,
        ):
            # The log first: a kill in between repeats the round and writes the same line again.
            line = line_of(log, wire=experiment.method.wire, votes=mask is None)
            append_round(self.folder / f"{name}.jsonl", line)
            save_checkpoint(checkpoint, log)
            state = log.state
            if mask is None and self._enough(state):
                break
        return state

    def _require_lines(self, name: str, rounds: int) -> None:
        """Refuse to go on after a round whose line is gone, and with it what was sent."""
        path = self.folder / f"{name}.jsonl"
        if (count := len(read_lines(path))) < rounds:
            raise MPFLError(
                f"{path}: holds {count} rounds, but {rounds} were run; without the others bytes "
                "would be counted wrong; start the run again elsewhere"
            )

    def _enough(self, state: State) -> bool:
        """Whether more is gone of the weights that filters are made of than ``stop_above``."""
        limit, sizes = self.bench.experiment.stop_above, self.bench.layout.filter_sizes
        if limit is None:
            return False
        left = sum(int(bits.sum()) * sizes[name] for name, bits in state.mask.items())
        every = sum(bits.size * sizes[name] for name, bits in state.mask.items())
        return every - left > limit * every
