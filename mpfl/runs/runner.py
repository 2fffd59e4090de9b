"""Run an experiment into a folder: mask rounds, then the final trainings, then a summary.

Killed at any moment and started again with ``resume=True`` it ends with the same masks
and weights: each round is checkpointed, each final training restarts from its last round.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout

from mpfl.prune import score_layers
from mpfl.runs.experiment import Experiment, changes, config_of
from mpfl.runs.folder import read_config, read_json, save_mask, write_json
from mpfl.runs.phases import Elsewhere, Phases
from mpfl.runs.portable import require_portable
from mpfl.runs.progress import Display, Watch
from mpfl.runs.provenance import provenance
from mpfl.runs.summary import summarise
from mpfl.runs.whole import require_readable
from mpfl.runs.workbench import Workbench
from mpfl.runs.workers import Workers
from mpfl.seeds import rng_for
from mpfl.types import MPFLError, Update, at_least

LOCK = ".lock"

CODE = "checkpoint-code.json"
"""By what code an unfinished run was begun."""


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
    at_least("workers", workers, 1)
    config = config_of(experiment)
    if _is_finished(folder, config, resume):
        return _finished(folder)
    if workers != 1:
        require_portable(experiment)
    display = Display(watch)
    bench = Workbench(experiment, root, on_epoch=display.on_epoch)
    _rehearse(bench, remote=machines is not None)
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        stack.enter_context(_alone(folder, wait))
        # Looked at again: another process may have been here before the lock was ours.
        if _is_finished(folder, config, resume):
            return _finished(folder)
        require_readable(folder)
        if machines is not None:
            _require_memories(folder, experiment)
        made = provenance(command)  # of the code that runs, not of a later checkout
        made["machine"]["computes"] = bench.trainer.computes
        if bench.trainer.device.type == "cuda":
            made["machine"]["gpu"] = torch.cuda.get_device_name(bench.trainer.device)
        made["resumed"] = any(folder.glob("*.jsonl"))
        if made["resumed"]:
            made |= _begun(folder, made)
        write_json(folder / "config.json", config)
        if not made["resumed"]:
            write_json(folder / CODE, _code_of(made))
        beside = None
        if workers != 1:
            beside = stack.enter_context(Workers(experiment, root, workers))
        there = None if machines is None else machines(bench)
        phases = Phases(bench, folder, display, beside, there)
        state = phases.mask_rounds()
        save_mask(folder / "mask.safetensors", state.mask)
        central = phases.central(state.mask)
        federated = phases.federated(state)
        summary = summarise(bench, folder, state.mask, central(), federated)
        summary |= {"workers": workers, "provenance": made}
        write_json(folder / "summary.json", summary)
        return _finished(folder)


def _code_of(made: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "edition": made["edition"],
        "torch": made["versions"]["torch"],
        "commit": made["commit"],
    }


def _begun(folder: Path, made: Mapping[str, Any]) -> dict[str, str]:
    """The commit at which a run was begun, if it now goes on at another.

    Raises :class:`~mpfl.types.MPFLError` if it would go on with other digits: half of it would be
    one run, and half another.
    """
    path, now = folder / CODE, _code_of(made)
    then = read_config(path) if path.exists() else {**now, "commit": "unknown"}
    for name in ("edition", "torch"):
        if then.get(name) != now[name]:
            raise MPFLError(
                f"{folder}: was begun by {name} {then.get(name)}, and this is {name} {now[name]}, "
                "with which the rounds that are there may end otherwise; go on with the one that "
                "it was begun by, or begin again with another --out"
            )
    return {} if then.get("commit") == now["commit"] else {"begun": str(then.get("commit"))}


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
    """Whether ``folder`` holds the whole run; raises if the run may not use it."""
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


def _require_memories(folder: Path, experiment: Experiment) -> None:
    """Refuse to go on if what nodes carried on from turn to turn was lost with their machines."""
    voting = (folder / "rounds.jsonl").exists() and not (folder / "mask.safetensors").exists()
    ever = experiment.local.keep == "best-ever" and experiment.epochs > 1
    if voting and (ever or not experiment.rewind):
        what = "best accuracy (local.keep=best-ever)" if ever else "weights on (rewind=False)"
        raise MPFLError(
            f"{folder}: its nodes carried their {what}, and nobody else has "
            "them; begin again with another --out"
        )


def _check_folder(folder: Path, config: dict[str, Any], resume: bool) -> None:
    there, now = changes(read_config(folder / "config.json")), changes(config)
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
    if experiment.method.wire and not remote:
        _require_steps(experiment, max(map(len, bench.parties.nodes)))
    if experiment.method.has_mask_rounds:
        bench.algorithm()
        score_layers(experiment.score, Update(w0, w0), bench.layout, rng_for(experiment.seed))


def _require_steps(experiment: Experiment, images: int) -> None:
    """Refuse more steps than a pass over ``images``, those of the largest node, can have."""
    steps, batch = experiment.federated_steps or 0, experiment.local.batch
    if steps > (most := -(-images // batch)):
        raise MPFLError(
            f"federated_steps is {steps}, but no node has more than {most} in a pass over its "
            f"{images} images, {batch} at a time; give at most {most}, or a smaller local.batch"
        )
