"""A run folder: what it holds, how it is written so that a kill loses nothing, how it is read.

``config.json``      every field of the experiment
``rounds.jsonl``     one line a mask round, ``federated.jsonl`` one a final training round
``summary.json``     the result, written last: a run without it is unfinished
``mask.safetensors`` the last consensus; ``model.safetensors`` the final weights
``checkpoint-*``     where an unfinished phase goes on
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
from safetensors import SafetensorError, safe_open

from mpfl.algorithm import State
from mpfl.filters import Layout
from mpfl.simulation import Resume, RoundLog
from mpfl.types import Mask, MPFLError, Weights


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that a reader, or a kill, sees the old one or the new one whole."""
    scratch = path.with_name(path.name + ".part")
    with open(scratch, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(scratch, path)


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as indented JSON, atomically."""
    write_atomically(path, (json.dumps(value, indent=1) + "\n").encode())


def read_json(path: Path) -> Any:
    """Read a JSON file of a run folder; raises where it is missing or damaged."""
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise MPFLError(f"{path.parent}: no {path.name}; is it a finished run folder?") from None
    except ValueError as error:
        raise MPFLError(f"{path}: damaged ({error}); run it again") from None


def hex_of(bits: np.ndarray) -> str:
    """A layer's mask as hex digits, the first filter in the lowest bit of the first byte."""
    return np.packbits(bits, bitorder="little").tobytes().hex()


def bits_of(text: str, filters: int) -> np.ndarray:
    """The inverse of :func:`hex_of`."""
    raw = np.frombuffer(bytes.fromhex(text), np.uint8)
    return np.unpackbits(raw, count=filters, bitorder="little").astype(bool)


def line_of(log: RoundLog, ballots: Sequence[Mask] = (), *, wire: bool) -> dict[str, Any]:
    """One round as a line of JSON; without a ``wire`` (one party alone) nothing was sent.

    ``ballots`` are the masks that the nodes sent, where they voted.
    """
    state = log.state
    line: dict[str, Any] = {
        "round": log.round,
        "sparsity": log.sparsity,
        "start_bytes": log.start_bytes if wire else 0,
        "bytes_down": log.bytes_down if wire else 0,
        "bytes_up": log.bytes_up if wire else 0,
        "payloads": list(log.payloads) if wire else [],
        "accuracy": log.accuracy,
        "agreement": {str(node): value for node, value in state.agreement.items()},
        "rescued": list(state.rescued),
        "metrics": [dict(each) for each in log.metrics],
        "seconds": round(log.seconds, 3),
        "mask": {name: hex_of(bits) for name, bits in state.mask.items()},
        "votes": None
        if state.votes is None
        else {name: counts.tolist() for name, counts in state.votes.items()},
        "ballots": [hex_of(np.concatenate([*mask.values()])) for mask in ballots],
    }
    if log.left_out:  # only between machines
        line["left_out"] = {str(node): why for node, why in log.left_out.items()}
    return line


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The lines of a log; a last line cut off by a kill is left out."""
    if not path.exists():
        return []
    lines = []
    for text in path.read_text().splitlines():
        try:
            lines.append(json.loads(text))
        except ValueError:
            break
    return lines


def append_round(path: Path, line: Mapping[str, Any]) -> None:
    """Add a round to a log, in place of any line from that round on (after a kill)."""
    kept = [old for old in read_lines(path) if old["round"] < line["round"]]
    content = "".join(json.dumps(each) + "\n" for each in [*kept, line])
    write_atomically(path, content.encode())


def save_checkpoint(path: Path, log: RoundLog) -> None:
    """Everything that the next round needs; equal memories (w0, as a rule) are written once."""
    state = log.state
    arrays = {f"mask/{name}": bits for name, bits in state.mask.items()}
    held: list[Weights] = [state.weights]
    which = []
    for memory in log.memories:
        equal = (i for i, other in enumerate(held) if _equal(memory, other))
        which.append(next(equal, len(held)))
        held += [memory] if which[-1] == len(held) else []
    for i, weights in enumerate(held):
        arrays |= {f"weights/{i}/{name}": array for name, array in weights.items()}
    meta = {
        "round": str(log.round),
        "seed": "" if state.seed is None else str(state.seed),
        "memories": " ".join(map(str, which)),
    }
    dense = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    write_atomically(path, safetensors.numpy.save(dense, meta))


def _equal(one: Weights, other: Weights) -> bool:
    return all(one[name] is other[name] or np.array_equal(one[name], other[name]) for name in one)


def load_checkpoint(path: Path, layout: Layout) -> Resume | None:
    """Where a phase goes on, or None where it has not begun; raises for a damaged file."""
    if not path.exists():
        return None
    try:
        with safe_open(path, "numpy") as file:
            meta = file.metadata()
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise MPFLError(f"{path}: damaged ({error}); start the run again elsewhere") from None
    which = [int(i) for i in meta["memories"].split()]
    held = [_under(arrays, f"weights/{i}/") for i in range(1 + max(which, default=0))]
    mask = {layer.name: arrays[f"mask/{layer.name}"] for layer in layout.layers}
    seed = int(meta["seed"]) if meta["seed"] else None
    return Resume(int(meta["round"]), State(held[0], mask, seed), [held[i] for i in which])


def _under(arrays: Mapping[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    return {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}


def save_weights(path: Path, weights: Weights) -> None:
    """Weights as a safetensors file."""
    dense = {name: np.ascontiguousarray(array) for name, array in weights.items()}
    write_atomically(path, safetensors.numpy.save(dense))


def save_mask(path: Path, mask: Mask) -> None:
    """A mask as a safetensors file, one bool tensor a layer."""
    write_atomically(path, safetensors.numpy.save(dict(mask)))


def load_mask(path: Path, layout: Layout) -> dict[str, np.ndarray]:
    """What :func:`save_mask` wrote, its layers in the model's order, which the file loses."""
    stored = load_tensors(path)
    return {layer.name: stored[layer.name] for layer in layout.layers}


def load_tensors(path: Path) -> dict[str, np.ndarray]:
    """What :func:`save_weights` or :func:`save_mask` wrote; raises where it is damaged."""
    try:
        return safetensors.numpy.load_file(path)
    except SafetensorError as error:
        raise MPFLError(f"{path}: damaged ({error}); run it again") from None


def kept_counts(folder: Path, layout: Layout) -> Callable[[int], dict[str, int]]:
    """``round -> filters each layer kept`` in a run, for a control that matches it.

    ``folder`` is a run folder, or the file that :func:`record` made of one.
    """
    lines = read_run(folder).rounds if folder.is_file() else read_lines(folder / "rounds.jsonl")
    sizes = {layer.name: layer.filters for layer in layout.layers}
    if not lines or list(lines[0]["mask"]) != list(sizes):
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


def provenance(command: str) -> dict[str, Any]:
    """What made a result: command, commit, versions, machine."""
    found = {}
    for package in ("mpfl", "torch", "torchvision", "numpy", "safetensors"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return {
        "command": command,
        "commit": _commit(),
        "python": platform.python_version(),
        "versions": found,
        "machine": {"cpu": _cpu(), "cores": os.cpu_count(), "system": platform.system()},
    }


def _commit() -> str:
    """The checkout's commit, with ``+`` where tracked files of the package differ from it."""

    def ask(*words: str) -> str:
        git = ["git", "-C", str(Path(__file__).parent), *words]
        return subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return ask("rev-parse", "--short=12", "HEAD") + ("+" if ask("diff", "HEAD", ".") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


@dataclass(frozen=True)
class Run:
    """A finished run, read back: its folder, configuration, summary and logs."""

    folder: Path
    config: Mapping[str, Any]
    summary: Mapping[str, Any]
    rounds: Sequence[Mapping[str, Any]]
    federated: Sequence[Mapping[str, Any]]

    @property
    def name(self) -> str:
        """What to call the method in a table or legend: with its rule, where it votes."""
        rule = self.config["vote"].partition("(")[0]
        method = str(self.config["method"])
        return f"{method}, {rule}" if method == "mpfl" else method

    @property
    def label(self) -> str:
        """What to call the run: its recipe and budget, the rule where it votes, its seed."""
        rule = f", {self.config['vote']}" if self.config["method"] == "mpfl" else ""
        config = self.config
        return f"{config['recipe']}, {config['budget']}{rule}, seed {config['seed']}"

    @property
    def bytes_rounds(self) -> int:
        """The method's rounds, both ways, over all nodes; w0 apart."""
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
        raise MPFLError(f"{run.folder}: holds no ballots of round {round_}; run it again")
    size = sum(filters_of(run).values())
    return np.array([bits_of(text, size) for text in line["ballots"]])


def consensus_of(line: Mapping[str, Any], sizes: Mapping[str, int]) -> np.ndarray:
    """The consensus that a round's line holds, ``bool [filters]``, the layers as in ``sizes``."""
    return np.concatenate([bits_of(line["mask"][name], size) for name, size in sizes.items()])


def filters_of(run: Run) -> dict[str, int]:
    """How many filters each layer had before pruning, for a run whose nodes voted."""
    return {name: len(counts) for name, counts in run.rounds[0]["votes"].items()}


def read_run(path: Path) -> Run:
    """Read a finished run: its folder, or the one file that :func:`record` made of it."""
    if path.is_file():
        whole = read_json(path)
        if not isinstance(whole, dict) or set(whole) != set(_PARTS):
            raise MPFLError(f"{path}: is no recorded run; python -m mpfl record makes one")
        return Run(path, *(whole[part] for part in _PARTS))
    if not path.is_dir():
        raise MPFLError(f"{path}: no such run; python -m mpfl run makes one")
    return Run(
        path,
        read_json(path / "config.json"),
        read_json(path / "summary.json"),
        read_lines(path / "rounds.jsonl"),
        read_lines(path / "federated.jsonl"),
    )


_PARTS = ("config", "summary", "rounds", "federated")


def record(run: Run, folder: Path) -> Path:
    """Write a run as one small JSON file, without its weights: evidence that fits in git."""
    name = f"{run.config['recipe']}-{run.config['budget']}-{run.summary['identity']}.json"
    folder.mkdir(parents=True, exist_ok=True)
    lines = [f'"{part}": {json.dumps(getattr(run, part))}' for part in _PARTS[:2]]
    for part in _PARTS[2:]:
        rows = ",\n".join(json.dumps(line) for line in getattr(run, part))
        lines.append(f'"{part}": [\n{rows}\n]')
    write_atomically(folder / name, ("{\n" + ",\n".join(lines) + "\n}\n").encode())
    return folder / name
