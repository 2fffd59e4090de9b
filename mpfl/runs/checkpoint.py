"""Where an unfinished phase of a run goes on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors import SafetensorError

from mpfl import masks
from mpfl.algorithm import State
from mpfl.filters import Layout
from mpfl.runs.folder import sealed, unsealed, write_atomically
from mpfl.simulation import Resume, RoundLog
from mpfl.types import MPFLError, at_least


def save_checkpoint(path: Path, log: RoundLog) -> None:
    """Everything that the next round needs; a tensor that several hold is written once.

    As a rule nodes hold w0 and little else. Of each tensor ``versions`` lists those that differ,
    the state's own first (None if it has none), and a memory is the number of each of its own.
    """
    state = log.state
    versions: dict[str, list[np.ndarray | None]] = {n: [a] for n, a in state.weights.items()}
    memories = [
        {name: _place(array, versions.setdefault(name, [None])) for name, array in memory.items()}
        for memory in log.memories
    ]
    arrays = {f"mask/{name}": bits for name, bits in state.mask.items()}
    arrays |= {f"kept/{name}": array for name, array in state.kept.items()}
    for name, held in versions.items():
        arrays |= {
            f"weights/{i}/{name}": array for i, array in enumerate(held) if array is not None
        }
    meta = {
        "round": str(log.round),
        "seed": "" if state.seed is None else str(state.seed),
        "memories": json.dumps(memories),
    }
    write_atomically(path, sealed(arrays, meta))


def _place(array: np.ndarray, held: list[np.ndarray | None]) -> int:
    """Where an array stands among those of its name, to which it is added if it is new."""
    for place, other in enumerate(held):
        if other is not None and (array is other or np.array_equal(array, other)):
            return place
    held.append(array)
    return len(held) - 1


def load_checkpoint(path: Path, layout: Layout) -> Resume | None:
    """Where a phase goes on, or None if it has not begun.

    Raises :class:`~mpfl.types.MPFLError` for a file that is damaged, or of another model.
    """
    if not path.exists():
        return None
    try:
        arrays, meta = unsealed(path)
        resume = _resumed(meta, arrays, layout)
    except MPFLError as error:
        raise MPFLError(f"{path}: {error}; start the run again elsewhere") from None
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise MPFLError(f"{path}: damaged ({error}); start the run again elsewhere") from None
    return resume


def _resumed(meta: Mapping[str, str], arrays: Mapping[str, np.ndarray], layout: Layout) -> Resume:
    """What the file says; raises any error that a file of other content leads to."""
    weights = _under(arrays, "weights/0/")
    memories = [
        {name: arrays[f"weights/{place}/{name}"] for name, place in memory.items()}
        for memory in _memories(meta["memories"], weights)
    ]
    mask = {layer.name: arrays[f"mask/{layer.name}"] for layer in layout.layers}
    masks.check(mask, layout)
    for held in (weights, *memories):
        _check_shapes(held, layout)
    at_least("round", round_ := int(meta["round"]), 1)
    seed = int(meta["seed"]) if meta["seed"] else None
    return Resume(round_, State(weights, mask, seed, kept=_under(arrays, "kept/")), memories)


def _check_shapes(weights: Mapping[str, np.ndarray], layout: Layout) -> None:
    """Refuse the weights of another model; of what is carried beside them nothing is known."""
    for name, array in weights.items():
        due = tuple(layout.shapes.get(name, array.shape))
        if array.shape != due:
            raise MPFLError(
                f"{name!r} is {list(array.shape)}, but the model has {list(due)}: it is of another"
            )


def _memories(text: str, weights: Mapping[str, np.ndarray]) -> list[dict[str, int]]:
    """For each node the version of each tensor; earlier, one number was that of all of them."""
    if not text.startswith("["):
        return [dict.fromkeys(weights, int(place)) for place in text.split()]
    memories: list[dict[str, int]] = json.loads(text)
    return memories


def _under(arrays: Mapping[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    return {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}
