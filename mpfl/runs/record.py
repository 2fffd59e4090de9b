"""A run as evidence: a line per round, read back, and kept as one small file."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from mpfl.algorithm import Outcome
from mpfl.data.store import folder_for
from mpfl.filters import Layout
from mpfl.runs.experiment import slug_of
from mpfl.runs.folder import read_json, read_lines, write_atomically
from mpfl.runs.former import current
from mpfl.runs.methods import METHODS, Method
from mpfl.scaled_votes import MUTED
from mpfl.simulation import RoundLog
from mpfl.types import MPFLError

MOST_RECORDED = 2**15
"""Of how many bits a mask may be whose ballots are recorded; masks of single weights have more."""


def hex_of(bits: np.ndarray) -> str:
    """A layer's mask as hex digits, the first filter in the lowest bit of the first byte."""
    return np.packbits(bits, bitorder="little").tobytes().hex()


def bits_of(text: str, filters: int) -> np.ndarray:
    """The inverse of :func:`hex_of`."""
    raw = np.frombuffer(bytes.fromhex(text), np.uint8)
    return np.unpackbits(raw, count=filters, bitorder="little").astype(bool)


def line_of(log: RoundLog, *, wire: bool, votes: bool = True) -> dict[str, Any]:
    """One round as a line of JSON; without a ``wire`` (one party alone) nothing was sent.

    ``votes=False`` leaves out what is about the mask, which stays in a final training. Of a mask
    of more than :data:`MOST_RECORDED` bits, the consensus alone is written: ten ballots of a
    million bits, and as many counts, would make megabytes of text.
    """
    state, outcome = log.state, log.state.outcome or Outcome({})
    if sum(bits.size for bits in state.mask.values()) > MOST_RECORDED:
        outcome = replace(outcome, votes={}, ballots=None)
    line: dict[str, Any] = {
        "round": log.round,
        "sparsity": log.sparsity,
        "start_bytes": log.start_bytes if wire else 0,
        "bytes_down": log.bytes_down if wire else 0,
        "bytes_up": log.bytes_up if wire else 0,
        "payloads": list(log.payloads) if wire else [],
        "accuracy": log.accuracy,
        "metrics": [dict(metrics) for metrics in log.metrics],
        "seconds": round(log.seconds, 3),
    }
    if votes:
        votes_by_layer = {name: counts.tolist() for name, counts in outcome.votes.items()}
        line |= {
            "agreement": {str(node): value for node, value in outcome.agreement.items()},
            "rescued": list(outcome.rescued),
            "mask": {name: hex_of(bits) for name, bits in state.mask.items()},
            "votes": votes_by_layer or None,
            "ballots": outcome.ballots.hex() if outcome.ballots is not None else [],
        }
    if log.left_out:  # only between machines
        line["left_out"] = {str(node): why for node, why in log.left_out.items()}
    if MUTED in state.kept:
        line[MUTED] = state.kept[MUTED].tolist()
    return line


def kept_counts(folder: Path, layout: Layout) -> Callable[[int], dict[str, int]]:
    """``round -> filters each layer kept`` in a run, for a control that matches it.

    ``folder`` is a run folder, or the file that :func:`keep_record` made of one.
    """
    lines = read_run(folder).rounds if folder.is_file() else read_lines(folder / "rounds.jsonl")
    try:
        return _counts_in(lines, folder, layout.sizes)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        if isinstance(error, MPFLError):
            raise
        raise MPFLError(f"match: {folder} is damaged ({error!r}); give another run") from None


def _counts_in(
    lines: Sequence[Mapping[str, Any]], folder: Path, sizes: Mapping[str, int]
) -> Callable[[int], dict[str, int]]:
    if lines and lines[0]["mask"] is None:
        raise MPFLError(
            f"match: {folder} was recorded without its masks, as they are too large; give the run "
            "folder itself"
        )
    if not lines or not _fits(lines[0], sizes):
        raise MPFLError(f"match: {folder} holds no rounds of this model; give a run folder of it")
    rounds = {
        line["round"]: {n: int(bits_of(line["mask"][n], size).sum()) for n, size in sizes.items()}
        for line in lines
    }

    def counts(round_: int) -> dict[str, int]:
        if round_ not in rounds:
            raise MPFLError(f"match: {folder} has no round {round_}; ask for at most {len(rounds)}")
        return rounds[round_]

    return counts


def _fits(line: Mapping[str, Any], sizes: Mapping[str, int]) -> bool:
    """Whether a round's line is of a model with these layers, each of this many filters."""
    if line["votes"] is not None:
        return {name: len(counts) for name, counts in line["votes"].items()} == sizes
    lengths = {name: len(bytes.fromhex(text)) for name, text in line["mask"].items()}
    return lengths == {name: math.ceil(size / 8) for name, size in sizes.items()}


@dataclass(frozen=True)
class Run:
    """A finished run, read back: its folder, configuration, summary and logs.

    The configuration is in today's words, whatever words it was recorded in.
    """

    folder: Path
    config: Mapping[str, Any]
    summary: Mapping[str, Any]
    rounds: Sequence[Mapping[str, Any]]
    federated: Sequence[Mapping[str, Any]]

    @property
    def method(self) -> Method:
        """Its method; one of a reader's own only by its name."""
        name = str(self.config["method"])
        return METHODS.get(name, Method(name))

    @property
    def name(self) -> str:
        """What to call the method in a table or legend: with its rule, if it votes."""
        rule = str(self.config["vote"]).partition("(")[0]
        return f"{self.method.name}, {rule}" if self.method.votes else self.method.name

    @property
    def label(self) -> str:
        """What to call the run: its recipe and budget, the rule if it votes, its seed."""
        config = self.config
        rule = f", {config['vote']}" if self.method.votes else ""
        return f"{config['recipe']}, {config['budget']}{rule}, seed {config['seed']}"

    @property
    def bytes_w0(self) -> int:
        """w0 to all nodes: at the beginning, or before the final training if it is needed then."""
        sent = self.summary["bytes"]
        return int(sent["start"] or sent["final_start"])

    @property
    def bytes_rounds(self) -> int:
        """The method's rounds, both ways, over all nodes, without w0."""
        sent = self.summary["bytes"]
        return int(sent["mask_rounds_down"] + sent["mask_rounds_up"])

    @property
    def bytes_final(self) -> int:
        """The final federated training, both ways, over all nodes."""
        sent = self.summary["bytes"]
        return int(sent["final_start"] + sent["final_down"] + sent["final_up"])

    @property
    def bytes_all(self) -> int:
        """Everything that was sent: w0, the rounds, the final training."""
        return int(sum(self.summary["bytes"].values()))


def ballots_of(run: Run, round_: int) -> np.ndarray:
    """What each node voted for in a round, ``bool [nodes, filters]``, the layers in their order.

    Raises :class:`~mpfl.types.MPFLError` for a run that was recorded without its ballots.
    """
    line = run.rounds[round_ - 1]
    if not line.get("ballots"):
        raise MPFLError(
            f"{run.folder}: holds no ballots of round {round_}; run it again, or ask a run whose "
            f"masks have at most {MOST_RECORDED} bits"
        )
    size = sum(filters_of(run).values())
    return np.array([bits_of(text, size) for text in line["ballots"]])


def consensus_of(line: Mapping[str, Any], sizes: Mapping[str, int]) -> np.ndarray:
    """The consensus that a round's line holds, ``bool [filters]``, the layers as in ``sizes``.

    Raises :class:`~mpfl.types.MPFLError` for a mask that was too large to be kept.
    """
    if line["mask"] is None:
        raise MPFLError(
            f"round {line['round']}: its mask of more than {MOST_RECORDED} bits was not kept; "
            "run it again, and read the run folder"
        )
    return np.concatenate([bits_of(line["mask"][name], size) for name, size in sizes.items()])


def filters_of(run: Run) -> dict[str, int]:
    """How many filters each layer had before pruning, for a run whose nodes voted."""
    if not (votes := run.rounds[0]["votes"]):
        raise MPFLError(
            f"{run.folder}: holds no votes; ask a run whose nodes vote, with masks of at most "
            f"{MOST_RECORDED} bits"
        )
    return {name: len(counts) for name, counts in votes.items()}


def read_run(path: Path) -> Run:
    """Read a finished run: its folder, or the one file that :func:`keep_record` made of it."""
    if path.is_file():
        whole = read_json(path)
        if not isinstance(whole, dict) or set(whole) != set(_PARTS):
            raise MPFLError(f"{path}: is no recorded run; python -m mpfl record makes one")
        if not all(
            isinstance(whole[part], list)
            and all(isinstance(line, dict) and "round" in line for line in whole[part])
            for part in _PARTS[2:]
        ):
            raise MPFLError(f"{path}: damaged (its rounds are no list of them); record it again")
        return _run_of(path, *(whole[part] for part in _PARTS))
    if not path.is_dir():
        seen = "" if path.is_absolute() else f", seen from {Path.cwd()}"
        raise MPFLError(f"{path}: no such run{seen}; python -m mpfl run makes one")
    return _run_of(
        path,
        read_json(path / "config.json"),
        read_json(path / "summary.json"),
        read_lines(path / "rounds.jsonl"),
        read_lines(path / "federated.jsonl"),
    )


def _run_of(folder: Path, config: Any, summary: Any, rounds: Any, federated: Any) -> Run:
    if not (isinstance(config, dict) and isinstance(summary, dict)):
        raise MPFLError(f"{folder}: damaged (it holds no fields, or no results); run it again")
    now = current(config)
    if missing := [name for name in _FIELDS if name not in now]:
        raise MPFLError(
            f"{folder}: damaged (its configuration has no {missing[0]!r}); run it again"
        )
    names: dict[str, Any] = {key: now[key] for key in ("recipe", "method") if key in summary}
    return Run(folder, now, {**summary, **names}, rounds, federated)


_FIELDS = ("recipe", "budget", "method", "seed", "vote")
"""Without these nobody knows what was run."""
_PARTS = ("config", "summary", "rounds", "federated")


def keep_record(run: Run, folder: Path, *, over: bool = False) -> Path:
    """Write a run as one small JSON file, without its weights: evidence that fits in git.

    Masks of more than :data:`MOST_RECORDED` bits are left out as well; how many bits each layer
    keeps is in the summary. Raises :class:`~mpfl.types.MPFLError` if there is another record of
    the same experiment, unless it is to be written ``over``.
    """
    path = folder / f"{slug_of(run.config)}.json"
    lines = [f'"{part}": {json.dumps(getattr(run, part))}' for part in _PARTS[:2]]
    for part in _PARTS[2:]:
        rows = ",\n".join(json.dumps(_kept(line)) for line in getattr(run, part))
        lines.append(f'"{part}": [\n{rows}\n]')
    content = ("{\n" + ",\n".join(lines) + "\n}\n").encode()
    if path.exists() and not over and path.read_bytes() != content:
        raise MPFLError(
            f"{path}: holds another run of this experiment; remove it, or choose another --to"
        )
    with folder_for(folder):
        write_atomically(path, content)
    return path


def _kept(line: Mapping[str, Any]) -> Mapping[str, Any]:
    """A line as a record keeps it: without a mask that is too large."""
    digits = sum(map(len, (line.get("mask") or {}).values()))
    return {**line, "mask": None} if 4 * digits > MOST_RECORDED else line
