"""How a run is doing, from its folder alone: its rounds, and each node's last answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from mpfl.flower.answers import Heard, read_answers
from mpfl.runs.folder import read_config, read_lines
from mpfl.runs.runner import LOCK
from mpfl.runs.whole import require_readable
from mpfl.types import MPFLError

PHASES = (
    ("rounds", "rounds", "masks", "mask rounds"),
    ("federated", "federated_rounds", "final", "final training"),
)
"""Of each phase its log, the field of its number of rounds, its name in ``answers.jsonl``, and
in words."""

RUNNING = "running"

LISTED = 1000
"""How many nodes are listed that have not answered: a damaged configuration may claim millions."""


def overview(folder: Path, now: float) -> list[str]:
    """The run in ``folder`` in a few lines; ``now`` is in seconds since 1970.

    Raises :class:`~mpfl.types.MPFLError` if there is no run.
    """
    config, answers = config_in(folder), read_answers(folder)
    state = state_of(folder)
    said = [f"{folder}: {state}"]
    closed = set()
    for name, field, group, words in PHASES:
        lines, due = read_lines(folder / f"{name}.jsonl"), config[field]
        closed |= {f"{group} {line['round']}" for line in lines}
        if lines or due:
            said.append(f"{words}: {len(lines)} of {due} closed{_bytes_of(lines)}")
    begun = [each for each in answers if each.node is None]
    if begun and begun[-1].group not in closed and state == RUNNING:
        last = begun[-1]
        since = answers[answers.index(last) + 1 :]
        counting = {each.node for each in since if not each.why}
        said.append(
            f"open: {last.group}, asked {_ago(last, now)}, "
            f"{len(counting)} of {config['nodes']} nodes count"
        )
    heard = by_node(config["nodes"], answers)
    said += [f"node {node}: {_last_heard(own, now)}" for node, own in heard.items()]
    if silent := config["nodes"] - len(heard):
        said.append(f"the other {silent:,} nodes: no answer yet")
    if strange := [each for each in answers if each.node == -1]:
        said.append(f"node ?: {_last_heard(strange, now)}")
    return said


def by_node(nodes: int, answers: Sequence[Heard]) -> dict[int, list[Heard]]:
    """The answers of each of ``nodes``; of those beyond :data:`LISTED` only if there are any."""
    found: dict[int, list[Heard]] = {node: [] for node in range(min(nodes, LISTED))}
    for each in answers:
        if each.node is not None and 0 <= each.node < nodes:
            found.setdefault(each.node, []).append(each)
    return dict(sorted(found.items()))


def config_in(folder: Path) -> dict[str, Any]:
    """The configuration of the run in ``folder``; refuses one that is damaged, or has not begun."""
    file = folder / "config.json"
    if not file.exists():
        raise MPFLError(f"{folder}: no run has begun here; give the folder of a run")
    config = read_config(file)
    require_readable(folder)
    for field in ("nodes", *(field for _, field, _, _ in PHASES)):
        if type(config.get(field)) is not int:
            raise MPFLError(f"{file}: damaged (no number of {field}); run it again")
    return config


def state_of(folder: Path) -> str:
    """Whether it is finished, or somebody is at it."""
    if (folder / LOCK).exists():
        try:
            FileLock(folder / LOCK, timeout=0).acquire().lock.release()
        except Timeout:
            return RUNNING
    if (folder / "summary.json").exists():
        return "finished"
    return "not running; the same command goes on"


def _bytes_of(lines: Sequence[Mapping[str, Any]]) -> str:
    if not lines:
        return ""
    down, up = (sum(line[key] for line in lines) for key in ("bytes_down", "bytes_up"))
    return f", {down:,} bytes down, {up:,} bytes up"


def _last_heard(own: Sequence[Heard], now: float) -> str:
    """Its last answer that counted, and the last that did not."""
    good, bad = ([each for each in own if bool(each.why) is wrong] for wrong in (False, True))
    said = [f"{each.length:,} bytes for {each.group}, {_ago(each, now)}" for each in good[-1:]]
    said += [f"left out of {each.group}, {_ago(each, now)}: {each.why}" for each in bad[-1:]]
    return "; ".join(said) or "no answer yet"


def _ago(heard: Heard, now: float) -> str:
    return f"{max(now - heard.at, 0):.0f} s ago"
