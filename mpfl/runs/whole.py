"""Whether a run is whole: its files are there, can be read, and agree with each other."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mpfl.runs.experiment import slug_of
from mpfl.runs.folder import read_json, read_lines
from mpfl.runs.record import Run
from mpfl.types import MPFLError

_LINE = {
    "start_bytes": int,
    "bytes_down": int,
    "bytes_up": int,
    "payloads": list,
    "metrics": list,
    "seconds": float,
}
"""What the end of a run adds up of every line of a log, and its type."""


def bytes_in(
    rounds: Sequence[Mapping[str, Any]], final: Sequence[Mapping[str, Any]]
) -> dict[str, int]:
    """What the lines of both logs say was sent, by phase."""
    return {
        "start": _total(rounds, "start_bytes"),
        "mask_rounds_down": _total(rounds, "bytes_down"),
        "mask_rounds_up": _total(rounds, "bytes_up"),
        "final_start": _total(final, "start_bytes"),
        "final_down": _total(final, "bytes_down"),
        "final_up": _total(final, "bytes_up"),
    }


def _total(lines: Sequence[Mapping[str, Any]], key: str) -> Any:
    return sum(line[key] for line in lines)


def require_whole(run: Run) -> Run:
    """``run``, if its parts are there and belong together.

    The summary says what every run's does, of this configuration, and counts the bytes of these
    lines. Raises :class:`~mpfl.types.MPFLError` otherwise: a table would be made of what is left.
    """
    identity = slug_of(run.config).rpartition("-")[2]
    if run.summary.get("identity") != identity:
        raise MPFLError(
            f"{run.folder}: its configuration is that of {identity}, but its summary that of "
            f"{run.summary.get('identity')}; one of them was changed, so run it again"
        )
    for name in ("parameters", "parameters_dense"):
        if not _is_number(run.summary.get(name)):
            raise _damaged(run, name)
    for name in ("sparsity", "accuracy_central", "accuracy_federated"):
        value = run.summary.get(name, "")
        trained = name != "sparsity"  # or not: that of a training that was left out is None
        if not ((value is None and trained) or (_is_number(value) and 0 <= value <= 1)):
            raise _damaged(run, name)
    for name, good in (("seconds", _are_seconds), ("provenance", _is_provenance)):
        if not good(run.summary.get(name)):
            raise _damaged(run, name)
    for part, lines in (("rounds", run.rounds), ("federated", run.federated)):
        for number, line in enumerate(lines, start=1):
            _check_line(f"{run.folder}: {part} {number}", line)
    if run.summary.get("bytes") != bytes_in(run.rounds, run.federated):
        raise MPFLError(
            f"{run.folder}: its summary counts other bytes than its rounds, so some of it is lost "
            "or damaged; run it again"
        )
    for name, told in _told_at_the_end(run).items():
        if run.summary.get(name) != told:
            raise MPFLError(
                f"{run.folder}: its summary says {name} is {run.summary.get(name)!r}, but its last "
                f"round {told!r}; one of them was changed, so run it again"
            )
    return run


def _told_at_the_end(run: Run) -> dict[str, Any]:
    """What the last lines of the logs say, which the summary repeats."""
    told: dict[str, Any] = {}
    if run.federated and "accuracy" in run.federated[-1]:
        told["accuracy_federated"] = run.federated[-1]["accuracy"]
    if run.rounds and "sparsity" in run.rounds[-1]:
        told["sparsity"] = run.rounds[-1]["sparsity"]
    return told


def require_readable(folder: Path) -> None:
    """Refuse an unfinished run of which a part that is done cannot be read.

    Now, and not after the hours that the rest takes.
    """
    for name in ("rounds.jsonl", "federated.jsonl"):
        for number, line in enumerate(read_lines(folder / name), start=1):
            _check_line(f"{folder / name}: line {number}", line)
    done = folder / "central.json"
    if done.exists():
        central = read_json(done)
        said = central if isinstance(central, dict) else {}
        if not (_is_number(said.get("accuracy")) and _is_number(said.get("seconds"))):
            raise MPFLError(
                f"{done}: damaged (it holds no accuracy); remove it, and central training is done "
                "again"
            )


def _check_line(where: str, line: Mapping[str, Any]) -> None:
    for name, kind in _LINE.items():
        value = line.get(name)
        good = _is_number(value) if kind is float else type(value) is kind
        if not good:
            raise MPFLError(f"{where}: is damaged (it holds no {name}); run it again")


def _damaged(run: Run, name: str) -> MPFLError:
    return MPFLError(
        f"{run.folder}: its summary is damaged ({name} is {run.summary.get(name)!r}); run it again"
    )


def _are_seconds(value: Any) -> bool:
    """How long each phase took; None for one that was left out."""
    return isinstance(value, dict) and all(
        each is None or (_is_number(each) and each >= 0) for each in value.values()
    )


def _is_provenance(value: Any) -> bool:
    """What made a run, and on which machine."""
    return (
        isinstance(value, dict)
        and isinstance(value.get("commit"), str)
        and isinstance(value.get("machine", {}), dict)
        and isinstance(value.get("versions", {}), dict)
    )


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)
