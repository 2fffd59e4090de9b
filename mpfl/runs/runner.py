"""Run an experiment into a folder: mask rounds, then the final trainings, then a summary.

Killed at any moment and started again with ``resume=True`` it ends with the same masks
and weights: each round is checkpointed, each final training restarts from its last round.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from filelock import FileLock, Timeout

from mpfl import masks, wire
from mpfl.runs.checkpoint import load_checkpoint, save_checkpoint
from mpfl.runs.folder import append_round, read_json, read_lines, save_mask, save_weights, write_json
from mpfl.runs.provenance import provenance
from mpfl.runs.record import line_of
from mpfl.algorithm import Algorithm, Data, Start, State
from mpfl.runs.experiment import Experiment, changes, config_of
from mpfl.filters import apply, expand
from mpfl.prune import score_layers
from mpfl.seeds import rng_for
from mpfl.server import consensus_message, read_ballots
from mpfl.simulation import RoundLog, RunNodes, one_by_one, simulate
from mpfl.runs.summary import summarise
from mpfl.types import Mask, MPFLError, Update, Weights
from mpfl.runs.workbench import Workbench
from mpfl.runs.workers import OnTurn, Workers

LOCK = ".lock"


@dataclass(frozen=True)
class Progress:
    """Where a run is: ``done`` of ``total`` local epochs of a phase, and a line to show."""

    phase: str
    done: int
    total: int
    text: str


Watch = Callable[[Progress], None]


@runtime_checkable
class Elsewhere(Protocol):
    """Nodes that are not in this process: workers beside it, or other machines."""

    def run_nodes(self, mask: Mask | None, nodes: int, on_turn: OnTurn) -> RunNodes:
        """How a simulation runs them: in the mask rounds, or in training under ``mask``.

        ``on_turn`` is told the round and how many of its turns are done.
        """


def run(
    experiment: Experiment,
    folder: Path,
    *,
    resume: bool = False,
    root: Path = Path("data"),
    workers: int = 1,
    machines: Callable[[Workbench], Elsewhere] | None = None,
    watch: Watch = lambda progress: None,
    command: str = "mpfl.runs.runner.run",
    wait: float = 0.0,
) -> dict[str, Any]:
    """Run ``experiment`` and return its summary, also found in ``folder/summary.json``.

    ``workers`` processes take the nodes' turns side by side, and one of them trains
    centrally meanwhile; how many changes the time and nothing else. ``machines`` says where
    the nodes are that hold their data themselves; this process then never looks at it, but
    for central training. ``watch`` is told of every step; ``command`` is how to make the same
    run again.

    Raises :class:`~mpfl.types.MPFLError` when the folder is in use by another
    configuration, by this one without ``resume``, or by a process that is running it;
    nothing is overwritten then.
    """
    if workers < 1:
        raise MPFLError(f"workers is {workers}; give at least 1")
    config = config_of(experiment)
    if _is_finished(folder, config, resume):
        return _finished(folder)
    bench = Workbench(experiment, root)
    _rehearse(bench, remote=machines is not None)
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        stack.enter_context(_alone(folder, wait))
        if _is_finished(folder, config, resume):  # another process may have been here meanwhile
            return _finished(folder)
        voting = (folder / "rounds.jsonl").exists() and not (folder / "mask.safetensors").exists()
        if machines is not None and voting and not experiment.rewind:
            raise MPFLError(
                f"{folder}: its nodes carried their weights on (rewind=False), and nobody else has "
                "them; begin again with another --out"
            )
        made = provenance(command)  # of the code that runs, not of a later checkout
        made["machine"]["computes"] = bench.trainer.computes
        made["resumed"] = any(folder.glob("*.jsonl"))
        write_json(folder / "config.json", config)
        side_by_side = None
        if workers != 1:
            side_by_side = stack.enter_context(Workers(experiment, root, workers))
        elsewhere = side_by_side if machines is None else machines(bench)
        job = _Job(bench, folder, watch, side_by_side, elsewhere)
        state = job.mask_rounds()
        save_mask(folder / "mask.safetensors", state.mask)
        central = job.central(state.mask)
        federated = job.federated(state)
        summary = summarise(bench, folder, state.mask, central(), federated)
        summary |= {"workers": workers, "provenance": made}
        write_json(folder / "summary.json", summary)
        return _finished(folder)


@contextmanager
def _alone(folder: Path, wait: float) -> Iterator[None]:
    """Keep other processes out of ``folder``; the system lets them in when this one ends."""
    lock = FileLock(folder / LOCK, timeout=wait)
    try:
        lock.acquire()
    except Timeout:
        raise MPFLError(
            f"{folder}: another process is running it; wait, stop it, or choose another --out"
        ) from None
    try:
        yield
    finally:
        (folder / LOCK).unlink(missing_ok=True)
        lock.release()


def _is_finished(folder: Path, config: dict[str, Any], resume: bool) -> bool:
    """Whether ``folder`` holds the whole run; raises where the run may not use it."""
    if (folder / "config.json").exists():
        _check_folder(folder, config, resume)
        return (folder / "summary.json").exists()
    if folder.is_file():
        raise MPFLError(f"{folder}: is a file; choose another --out")
    if folder.exists() and {each.name for each in folder.iterdir()} - {"config.json.part", LOCK}:
        raise MPFLError(f"{folder}: is not empty and holds no run; choose another --out")
    return False


def _finished(folder: Path) -> dict[str, Any]:
    for left in folder.glob("checkpoint-*"):
        left.unlink()
    return read_json(folder / "summary.json")


def _check_folder(folder: Path, config: dict[str, Any], resume: bool) -> None:
    there, now = changes(read_json(folder / "config.json")), changes(config)
    if differ := [key for key in there | now if there.get(key) != now.get(key)]:
        old, new = (str(each.get(differ[0], "the default")) for each in (there, now))
        raise MPFLError(
            f"{folder}: holds a run of another configuration ({differ[0]}: {old} "
            f"there, {new} now); choose another --out"
        )
    if not resume:
        raise MPFLError(f"{folder}: holds this run already; add --resume, or choose another --out")


def _rehearse(bench: Workbench, *, remote: bool) -> None:
    """Build every part and score w0 once, so that bad fields are refused before a long wait."""
    experiment, w0 = bench.experiment, bench.start.w0
    if experiment.federated and not remote:
        _ = bench.nodes
    if experiment.votes:
        bench.algorithm()
        score_layers(experiment.score, Update(w0, w0), bench.layout, rng_for(experiment.seed))


@dataclass(frozen=True)
class _Job:
    """The phases of one run, each from where it stopped."""

    bench: Workbench
    folder: Path
    watch: Watch
    workers: Workers | None
    elsewhere: Elsewhere | None

    @property
    def remote(self) -> bool:
        """Whether the nodes hold their data themselves, so that this process sees none of it."""
        return self.elsewhere is not self.workers

    def mask_rounds(self) -> State:
        """The method's own rounds; dense methods have none."""
        bench, experiment = self.bench, self.bench.experiment
        if not experiment.votes:
            return State(bench.start.w0, masks.full(bench.layout), bench.start.seed)
        evaluate = None
        if experiment.method == "pruning-fl":
            evaluate = lambda state: bench.accuracy(state.weights, state.mask)  # noqa: E731
        resume = load_checkpoint(
            self.folder / "checkpoint-rounds.safetensors", bench.layout
        )
        state = resume.state if resume else None
        nodes, algorithm = self._nodes(bench.mask_nodes), bench.algorithm()
        before = masks.full(bench.layout) if state is None else state.mask
        for log in simulate(
            algorithm,
            nodes,
            bench.start,
            experiment.rounds,
            experiment.seed,
            evaluate=evaluate,
            resume=resume,
            run_nodes=self._run_nodes("mask rounds", algorithm, nodes, experiment.rounds),
        ):
            sent = zip(log.replied, log.ballots, strict=False)  # no ballots: weights were sent
            ballots = read_ballots(bench.plan, before, log.round, sent)
            self._record("rounds", log, list(ballots), wire=experiment.federated)
            state, before = log.state, log.state.mask
        assert state is not None
        return state

    def central(self, mask: Mask) -> Callable[[], dict[str, Any] | None]:
        """The network that is left, trained from w0 on all data in one place.

        It begins now where there are workers, else when the result is asked for.
        """
        experiment = self.bench.experiment
        epochs = experiment.central_epochs
        done = self.folder / "central.json"
        if epochs == 0 or experiment.method == "fedavg":
            return lambda: None
        if done.exists():
            return lambda: read_json(done)
        trained = self.workers.train_centrally(mask) if self.workers else None

        def result() -> dict[str, Any]:
            self.bench.on_epoch = lambda epoch, of: self.watch(
                Progress("central training", epoch, of, f"epoch {epoch + 1}/{of}")
            )
            weights, accuracy, seconds = trained() if trained else self.bench.train_centrally(mask)
            save_weights(self.folder / "central.safetensors", weights)
            found = {"accuracy": accuracy, "epochs": epochs, "seconds": round(seconds, 1)}
            write_json(done, found)
            return found

        return result

    def federated(self, state: State) -> dict[str, Any] | None:
        """The network that is left, trained by averaging between the nodes."""
        bench, experiment, layout = self.bench, self.bench.experiment, self.bench.layout
        rounds, mask = experiment.federated_rounds, state.mask
        if rounds == 0 or not experiment.federated:
            return None
        begin, how = _final_start(bench, state)
        algorithm, nodes = bench.final_algorithm(mask, **how), self._nodes(lambda: bench.nodes)
        resume = load_checkpoint(self.folder / "checkpoint-federated.safetensors", layout)
        weights: Weights | None = resume.state.weights if resume else None
        for log in simulate(
            algorithm,
            nodes,
            Start(apply(begin, mask, layout), bench.start.seed),
            rounds,
            experiment.seed,
            evaluate=lambda state: bench.accuracy(state.weights, mask),
            resume=resume,
            run_nodes=self._run_nodes("federated training", algorithm, nodes, rounds, mask),
        ):
            self._record("federated", log, [], wire=True)
            weights = log.state.weights
        assert weights is not None
        save_weights(self.folder / "model.safetensors", weights)
        lines = read_lines(self.folder / "federated.jsonl")
        return {
            "accuracy": lines[-1]["accuracy"],
            "rounds": rounds,
            "seconds": round(sum(line["seconds"] for line in lines), 1),
        }

    def _nodes(self, here: Callable[[], Sequence[Data]]) -> Sequence[Data]:
        """The nodes' data, or what stands for data that this process does not see."""
        return [range(1)] * self.bench.experiment.nodes if self.remote else here()

    def _run_nodes(
        self,
        phase: str,
        algorithm: Algorithm,
        nodes: Sequence[Data],
        rounds: int,
        mask: Mask | None = None,
    ) -> RunNodes:
        """The nodes' turns: here one after the other, or on the workers. Progress is shown."""
        bench, count = self.bench, len(nodes)

        def show(round_: int, node: int, epoch: int = 0, of: int = 1) -> None:
            done = ((round_ - 1) * count + node) * of + epoch
            text = f"round {round_}/{rounds}, node {node + 1}/{count}, epoch {epoch + 1}/{of}"
            self.watch(Progress(phase, done, rounds * count * of, text))

        def on_node(round_: int, node: int) -> None:
            bench.on_epoch = partial(show, round_, node)

        if self.elsewhere is not None and count:
            return self.elsewhere.run_nodes(mask, count, show)
        behaviour = bench.behaviour() if mask is None else {}
        return one_by_one(algorithm, nodes, bench.experiment.seed, behaviour, on_node)

    def _record(self, phase: str, log: RoundLog, ballots: Sequence[Mask], *, wire: bool) -> None:
        # The log first: a kill in between repeats the round and writes the same line again.
        line = line_of(log, ballots, wire=wire)
        if phase == "federated":
            unused = ("mask", "votes", "ballots", "rescued", "agreement")
            line = {k: v for k, v in line.items() if k not in unused}
        append_round(self.folder / f"{phase}.jsonl", line)
        save_checkpoint(self.folder / f"checkpoint-{phase}.safetensors", log)


def _final_start(bench: Workbench, state: State) -> tuple[Weights, dict[str, Any]]:
    """What the final federated training begins from, and how that reaches the nodes."""
    layout, mask = bench.layout, state.mask
    if bench.experiment.method == "mpfl":  # nodes hold w0 and wait for the last consensus
        w0, last = bench.start.w0, bench.experiment.rounds + 1
        everything = masks.full(layout)
        return w0, {
            "start": lambda state: consensus_message(state.mask, layout, last),
            "join": lambda message: apply(
                w0, wire.decode_mask(message, layout, last, reference=everything), layout
            ),
        }
    if bench.experiment.method == "pruning-fl":  # goes on from its own average, as it always does
        return state.weights, {
            "start": lambda state: wire.encode_weights(state.weights, layout, 0, mask=mask),
            "join": lambda message: expand(
                wire.decode_weights(message, layout, 0, mask=mask)[0], mask, layout
            ),
        }
    return bench.start.w0, {}
