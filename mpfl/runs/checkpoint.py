"""Where an unfinished phase of a run goes on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import safetensors.numpy
from safetensors import SafetensorError, safe_open

from mpfl.algorithm import State
from mpfl.filters import Layout
from mpfl.runs.folder import write_atomically
from mpfl.simulation import Resume, RoundLog
from mpfl.types import MPFLError, Weights


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
    """Where a phase goes on, or None if it has not begun; raises for a damaged file."""
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
