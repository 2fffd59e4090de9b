"""The result of a run: accuracy, size and bytes, each with where it comes from."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mpfl import masks
from mpfl.filters import cut_shapes
from mpfl.nets.cutting import macs
from mpfl.runs.experiment import identity
from mpfl.runs.folder import read_lines
from mpfl.runs.whole import bytes_in
from mpfl.runs.workbench import Workbench
from mpfl.types import Mask


def summarise(
    bench: Workbench,
    folder: Path,
    mask: Mask,
    central: Mapping[str, Any] | None,
    federated: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """What ``summary.json`` holds, but for the machine and the command.

    ``macs`` are multiply-accumulates per picture, of the network that computes: the whole one
    if no filter can be cut out, however many weights are pruned. ``right`` has a bit for each of
    the ``tested`` pictures, as :func:`mpfl.runs.record.hex_of` writes them: 1 if the trained
    network classifies it correctly. ``mask_bodies`` sets the
    bytes of the masks sent up, frames left out, against the fewest that could tell them apart.
    """
    experiment = bench.experiment
    rounds = read_lines(folder / "rounds.jsonl")
    final = read_lines(folder / "federated.jsonl")
    sent = rounds if experiment.method.wire else []
    told = [each for line in sent for each in line["metrics"] if "limit_bits" in each]
    return {
        "recipe": experiment.recipe,
        "budget": experiment.budget,
        "method": experiment.method.name,
        "seed": experiment.seed,
        "identity": identity(experiment),
        **left_by(mask, bench),
        "accuracy_central": None if central is None else central["accuracy"],
        "accuracy_federated": None if federated is None else federated["accuracy"],
        "accuracies_central": None if central is None else central.get("accuracies"),
        "tested": len(bench.parties.test),
        "right": {
            "central": None if central is None else central.get("right"),
            "federated": None if federated is None else federated.get("right"),
        },
        "bytes": bytes_in(rounds, final),
        "mask_bodies": {
            "bytes": sum(each["body_bytes"] for each in told),
            "limit_bytes": round(sum(each["limit_bits"] for each in told) / 8, 1),
        }
        if told
        else None,
        "seconds": {
            "mask_rounds": round(sum(line["seconds"] for line in rounds), 1),
            "central": None if central is None else central["seconds"],
            "federated": None if federated is None else federated["seconds"],
        },
    }


def left_by(mask: Mask, bench: Workbench) -> dict[str, Any]:
    """What a mask leaves of the network, and the whole of it: filters, parameters, MACs."""
    layout, trainer = bench.layout, bench.trainer
    channels, _, own = bench.dataset.train_images.shape[1:]
    pixels = bench.experiment.pixels or own
    return {
        "sparsity": masks.sparsity(mask),
        "kept": masks.counts(mask),
        "parameters": _numbers_in(cut_shapes(layout, mask)),
        "parameters_dense": _numbers_in(layout.shapes),
        "macs": macs(trainer.network(mask), pixels, channels=channels),
        "macs_dense": macs(trainer.module, pixels, channels=channels),
    }


def _numbers_in(shapes: Mapping[str, tuple[int, ...]]) -> int:
    """How many numbers tensors of these shapes hold."""
    return sum(math.prod(shape) for shape in shapes.values())
