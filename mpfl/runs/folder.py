"""A run folder: what it holds, how it is written so that a kill loses nothing, how it is read.

``config.json``      every field of the experiment
``rounds.jsonl``     one line per mask round, ``federated.jsonl`` one per final round
``summary.json``     the result, written last: a run without it is unfinished
``mask.safetensors`` the last consensus; ``model.safetensors`` the final weights
``checkpoint-*``     where an unfinished phase goes on
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
from safetensors import SafetensorError, safe_open

from mpfl import masks
from mpfl.filters import Layout
from mpfl.types import Mask, MPFLError, Weights, located


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that a reader, or a kill, sees the old one or the new one whole.

    Where it cannot be written, nothing of it is left.
    """
    scratch = path.with_name(path.name + ".part")
    try:
        with open(scratch, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(scratch, path)
    except OSError as error:
        with suppress(OSError):
            scratch.unlink()
        if error.filename is None:  # as of a full disk
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as indented JSON, atomically."""
    write_atomically(path, (json.dumps(value, indent=1) + "\n").encode())


def read_json(path: Path) -> Any:
    """Read a JSON file of a run folder; raises if it is missing or damaged."""
    _require_file(path)
    try:
        return json.loads(path.read_text(), object_pairs_hook=_once)
    except (FileNotFoundError, NotADirectoryError):
        raise MPFLError(f"{path.parent}: no {path.name}; is it a finished run folder?") from None
    except (ValueError, RecursionError) as error:
        raise MPFLError(f"{path}: damaged ({error}); run it again") from None


def _require_file(path: Path) -> None:
    """Refuse a pipe or a device, which would be read for ever."""
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise MPFLError(f"{path}: is no file; put the run's own there, or run it again")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The fields of a JSON object; of one that stands twice, nobody knows which is meant."""
    fields = dict(pairs)
    if len(fields) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(name for name in names if names.count(name) > 1)!r} stands twice")
    return fields


def read_config(path: Path) -> dict[str, Any]:
    """The configuration in a run folder; raises if it is no table of fields."""
    config = read_json(path)
    if not isinstance(config, dict):
        raise MPFLError(f"{path}: damaged (it holds no fields); run it again")
    return config


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The lines of a log, one per round; a last line cut off by a kill is left out.

    Raises :class:`~mpfl.types.MPFLError` for any other line that cannot be read, and for a round
    that is missing: what is counted from the rest would be wrong.
    """
    if not path.exists():
        return []
    _require_file(path)
    try:
        texts = path.read_text().splitlines(keepends=True)
    except UnicodeDecodeError as error:
        raise MPFLError(f"{path}: damaged ({error}); run it again") from None
    lines: list[dict[str, Any]] = []
    for number, text in enumerate(texts, start=1):
        try:
            line = json.loads(text)
        except (ValueError, RecursionError) as error:
            if number == len(texts) and not text.endswith("\n"):
                break
            raise MPFLError(f"{path}: line {number} is damaged ({error}); run it again") from None
        if not isinstance(line, dict) or line.get("round") != number:
            raise MPFLError(f"{path}: line {number} is not that of round {number}; run it again")
        lines.append(line)
    return lines


def append_round(path: Path, line: Mapping[str, Any]) -> None:
    """Add a round to a log, in place of any line from that round on (after a kill)."""
    kept = [old for old in read_lines(path) if old["round"] < line["round"]]
    content = "".join(json.dumps(each) + "\n" for each in [*kept, line])
    write_atomically(path, content.encode())


def save_weights(path: Path, weights: Weights) -> None:
    """Weights as a safetensors file."""
    write_atomically(path, sealed(weights))


def save_mask(path: Path, mask: Mask) -> None:
    """A mask as a safetensors file, one bool tensor per layer."""
    write_atomically(path, sealed(mask))


SEAL = "sha256"
"""Under what name a safetensors file holds the hash of its content."""


def sealed(arrays: Mapping[str, np.ndarray], said: Mapping[str, str] | None = None) -> bytes:
    """A safetensors file of ``arrays`` and of what is ``said`` of them, with a hash of both."""
    words = dict(said or {})
    dense = {n: np.ascontiguousarray(array).reshape(array.shape) for n, array in arrays.items()}
    return safetensors.numpy.save(dense, words | {SEAL: _hash(dense, words)})


def unsealed(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """What :func:`sealed` wrote; a file without a hash is taken as it is.

    Raises :class:`~mpfl.types.MPFLError` if the hash is not that of the content.
    """
    with safe_open(path, "numpy") as file:
        said = file.metadata() or {}
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    seal = said.pop(SEAL, None)
    if seal not in (None, _hash(arrays, said)):
        raise MPFLError("damaged (its hash is not that of its content)")
    return arrays, said


def _hash(arrays: Mapping[str, np.ndarray], said: Mapping[str, str]) -> str:
    seen = hashlib.sha256(json.dumps(dict(sorted(said.items()))).encode())
    for name, array in sorted(arrays.items()):
        seen.update(f"{name} {array.dtype.str} {array.shape}".encode())
        seen.update(np.ascontiguousarray(array).data)
    return seen.hexdigest()


def load_mask(path: Path, layout: Layout) -> dict[str, np.ndarray]:
    """What :func:`save_mask` wrote, its layers in the model's order, which the file loses.

    Raises :class:`~mpfl.types.MPFLError` for the mask of another model.
    """
    stored = load_tensors(path)
    order = {name: place for place, name in enumerate(layout.sizes)}
    mask = {name: stored[name] for name in sorted(stored, key=lambda name: order.get(name, -1))}
    with located(str(path)):
        masks.check(mask, layout)
    return mask


def load_tensors(path: Path) -> dict[str, np.ndarray]:
    """What :func:`save_weights` or :func:`save_mask` wrote; raises if it is damaged."""
    try:
        return unsealed(path)[0]
    except FileNotFoundError:
        raise MPFLError(f"{path}: is not there; run it again") from None
    except MPFLError as error:
        raise MPFLError(f"{path}: {error}; run it again") from None
    except (SafetensorError, OSError) as error:
        raise MPFLError(f"{path}: damaged ({error}); run it again") from None
