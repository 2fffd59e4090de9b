"""Run an experiment into a folder: mask rounds, then the final trainings, then a summary.

Killed at any moment and started again with ``resume=True`` it ends with the same masks
and weights: each round is checkpointed, each final training restarts from its last round.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from mpfl import codec, masks, records
from mpfl.algorithm import Start, State
from mpfl.experiment import Experiment, changes, config_of, identity
from mpfl.filters import apply, cut_shapes, expand
from mpfl.prune import score_layers
from mpfl.seeds import rng_for
from mpfl.server import consensus_message
from mpfl.simulation import RoundLog, simulate
from mpfl.types import Mask, MPFLError, Update, Weights
from mpfl.workbench import Workbench


@dataclass(frozen=True)
class Progress:
    """Where a run is: ``done`` of ``total`` local epochs of a phase, and a line to show."""

    phase: str
    done: int
    total: int
    text: str


Watch = Callable[[Progress], None]


def run(
    experiment: Experiment,
    folder: Path,
    *,
    resume: bool = False,
    root: Path = Path("data"),
    watch: Watch = lambda progress: None,
    command: str = "mpfl.runner.run",
) -> dict[str, Any]:
    """Run ``experiment`` and return its summary, also found in ``folder/summary.json``.

    ``watch`` is told of every local epoch; ``command`` is how to make the same run again.

    Raises :class:`~mpfl.types.MPFLError` when the folder is in use by another
    configuration, or by this one without ``resume``; nothing is overwritten then.
    """
    config = config_of(experiment)
    if (folder / "config.json").exists():
        _check_folder(folder, config, resume)
        if (folder / "summary.json").exists():
            return _finished(folder)
    elif folder.is_file():
        raise MPFLError(f"{folder}: is a file; choose another --out")
    elif folder.exists() and {each.name for each in folder.iterdir()} - {"config.json.part"}:
        raise MPFLError(f"{folder}: is not empty and holds no run; choose another --out")
    bench = Workbench(experiment, root)
    _rehearse(bench)
    folder.mkdir(parents=True, exist_ok=True)
    records.write_json(folder / "config.json", config)

    state = _mask_rounds(bench, folder, watch)
    records.save_mask(folder / "mask.safetensors", state.mask)
    central = _central(bench, folder, state.mask, watch)
    federated = _federated(bench, folder, state, watch)
    summary = _summary(bench, folder, state.mask, central, federated)
    summary["provenance"] = records.provenance(command)
    records.write_json(folder / "summary.json", summary)
    return _finished(folder)


def _finished(folder: Path) -> dict[str, Any]:
    for left in folder.glob("checkpoint-*"):
        left.unlink()
    return records.read_json(folder / "summary.json")


def _check_folder(folder: Path, config: dict[str, Any], resume: bool) -> None:
    there, now = changes(records.read_json(folder / "config.json")), changes(config)
    if differ := [key for key in there | now if there.get(key) != now.get(key)]:
        old, new = (str(each.get(differ[0], "the default")) for each in (there, now))
        raise MPFLError(
            f"{folder}: holds a run of another configuration ({differ[0]}: {old} "
            f"there, {new} now); choose another --out"
        )
    if not resume:
        raise MPFLError(f"{folder}: holds this run already; add --resume, or choose another --out")


def _rehearse(bench: Workbench) -> None:
    """Build every part and score w0 once, so that bad fields are refused before a long wait."""
    experiment, w0 = bench.experiment, bench.start.w0
    if experiment.federated:
        _ = bench.nodes
    if experiment.votes:
        bench.algorithm()
        score_layers(experiment.score, Update(w0, w0), bench.layout, rng_for(experiment.seed))


def _mask_rounds(bench: Workbench, folder: Path, watch: Watch) -> State:
    """The method's own rounds, from where they stopped; dense methods have none."""
    experiment = bench.experiment
    if not experiment.votes:
        return State(bench.start.w0, masks.full(bench.layout), bench.start.seed)
    evaluate = None
    if experiment.method == "pruning-fl":
        evaluate = lambda state: bench.accuracy(state.weights, state.mask)  # noqa: E731
    resume = records.load_checkpoint(folder / "checkpoint-rounds.safetensors", bench.layout)
    state = resume.state if resume else None
    nodes = bench.mask_nodes()
    for log in simulate(
        bench.algorithm(),
        nodes,
        bench.start,
        experiment.rounds,
        experiment.seed,
        evaluate=evaluate,
        behaviour=bench.behaviour(),
        on_node=_watcher(bench, watch, "mask rounds", experiment.rounds, len(nodes)),
        resume=resume,
    ):
        _record(folder, "rounds", log, wire=experiment.federated)
        state = log.state
    assert state is not None
    return state


def _central(bench: Workbench, folder: Path, mask: Mask, watch: Watch) -> dict[str, Any] | None:
    """The network that is left, trained from w0 on all data in one place."""
    experiment = bench.experiment
    epochs = experiment.central_epochs
    if epochs == 0 or experiment.method == "fedavg":
        return None
    done = folder / "central.json"
    if done.exists():
        return records.read_json(done)
    began = time.perf_counter()
    bench.on_epoch = lambda epoch, of: watch(
        Progress("central training", epoch, of, f"epoch {epoch + 1}/{of}")
    )
    update = bench.train_small(
        apply(bench.start.w0, mask, bench.layout),
        mask,
        bench.pooled,
        rng_for(experiment.seed, "central"),
        settings=experiment.final,
        epochs=epochs,
    )
    result = {
        "accuracy": bench.accuracy(update.weights, mask),
        "epochs": epochs,
        "seconds": round(time.perf_counter() - began, 1),
    }
    records.save_weights(folder / "central.safetensors", update.weights)
    records.write_json(done, result)
    return result


def _federated(bench: Workbench, folder: Path, state: State, watch: Watch) -> dict[str, Any] | None:
    """The network that is left, trained by averaging between the nodes."""
    experiment, layout, mask = bench.experiment, bench.layout, state.mask
    rounds = experiment.federated_rounds
    if rounds == 0 or not experiment.federated:
        return None
    begin = bench.start.w0
    how: dict[str, Any] = {}
    if experiment.method == "mpfl":  # the nodes hold w0 already and wait for the last consensus
        last = experiment.rounds + 1
        everything = masks.full(layout)
        how["start"] = lambda state: consensus_message(state.mask, layout, last)
        how["join"] = lambda message: apply(
            begin, codec.decode_mask(message, layout, last, reference=everything), layout
        )
    elif experiment.method == "pruning-fl":  # goes on from its own average, as it always does
        begin = state.weights
        how["start"] = lambda state: codec.encode_weights(state.weights, layout, 0, mask=mask)
        how["join"] = lambda message: expand(
            codec.decode_weights(message, layout, 0, mask=mask)[0], mask, layout
        )
    start = Start(apply(begin, mask, layout), bench.start.seed)
    resume = records.load_checkpoint(folder / "checkpoint-federated.safetensors", layout)
    weights: Weights | None = resume.state.weights if resume else None
    for log in simulate(
        bench.final_algorithm(mask, **how),
        bench.nodes,
        start,
        rounds,
        experiment.seed,
        evaluate=lambda state: bench.accuracy(state.weights, mask),
        on_node=_watcher(bench, watch, "federated training", rounds, experiment.nodes),
        resume=resume,
    ):
        _record(folder, "federated", log, wire=True)
        weights = log.state.weights
    assert weights is not None
    records.save_weights(folder / "model.safetensors", weights)
    lines = records.read_lines(folder / "federated.jsonl")
    return {
        "accuracy": lines[-1]["accuracy"],
        "rounds": rounds,
        "seconds": round(sum(line["seconds"] for line in lines), 1),
    }


def _record(folder: Path, phase: str, log: RoundLog, *, wire: bool) -> None:
    # The log first: a kill in between repeats the round and writes the same line again.
    line = records.line_of(log, wire=wire)
    if phase == "federated":
        line = {k: v for k, v in line.items() if k not in ("mask", "votes", "rescued", "agreement")}
    records.append_round(folder / f"{phase}.jsonl", line)
    records.save_checkpoint(folder / f"checkpoint-{phase}.safetensors", log)


def _watcher(
    bench: Workbench, watch: Watch, phase: str, rounds: int, nodes: int
) -> Callable[[int, int], None]:
    def on_node(round_: int, node: int) -> None:
        def on_epoch(epoch: int, of: int) -> None:
            done = ((round_ - 1) * nodes + node) * of + epoch
            text = f"round {round_}/{rounds}, node {node + 1}/{nodes}, epoch {epoch + 1}/{of}"
            watch(Progress(phase, done, rounds * nodes * of, text))

        bench.on_epoch = on_epoch

    return on_node


def _summary(
    bench: Workbench,
    folder: Path,
    mask: Mask,
    central: dict[str, Any] | None,
    federated: dict[str, Any] | None,
) -> dict[str, Any]:
    """The result of a run: accuracy, size and bytes, with where they come from."""
    experiment, layout = bench.experiment, bench.layout
    rounds = records.read_lines(folder / "rounds.jsonl")
    final = records.read_lines(folder / "federated.jsonl")

    def total(lines: list[dict[str, Any]], key: str) -> float:
        return sum(line[key] for line in lines)

    def size(shapes: dict[str, tuple[int, ...]]) -> int:
        return sum(int(torch.Size(shape).numel()) for shape in shapes.values())

    return {
        "recipe": experiment.recipe,
        "budget": experiment.budget,
        "method": experiment.method,
        "seed": experiment.seed,
        "identity": identity(experiment),
        "sparsity": masks.sparsity(mask),
        "kept": masks.kept(mask),
        "parameters": size(cut_shapes(layout, mask)),
        "parameters_dense": size(dict(layout.shapes)),
        "accuracy_central": None if central is None else central["accuracy"],
        "accuracy_federated": None if federated is None else federated["accuracy"],
        "bytes": {
            "start": total(rounds, "start_bytes"),
            "mask_rounds_down": total(rounds, "bytes_down"),
            "mask_rounds_up": total(rounds, "bytes_up"),
            "final_start": total(final, "start_bytes"),
            "final_down": total(final, "bytes_down"),
            "final_up": total(final, "bytes_up"),
        },
        "seconds": {
            "mask_rounds": round(total(rounds, "seconds"), 1),
            "central": None if central is None else central["seconds"],
            "federated": None if federated is None else federated["seconds"],
        },
        "threads": torch.get_num_threads(),
    }
