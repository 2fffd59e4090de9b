"""A run's network as one ONNX file, and what the smaller network saves in use.

The file needs neither torch nor this package: it takes pixels as a picture file holds them
and does the normalisation, and a resize if the run has one, inside.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from mpfl import masks
from mpfl.data.catalogue import load
from mpfl.filters import Layout, apply
from mpfl.nets.cutting import compact, macs
from mpfl.nets.hardware import on_threads
from mpfl.nets.networks import build
from mpfl.nets.onnx import Call, Classifier, Exported, exported, is_onnx, logit_difference
from mpfl.nets.pixels import noise_pictures
from mpfl.nets.tensors import float_state, load_weights
from mpfl.nets.tracing import layout_of
from mpfl.runs.folder import load_mask, load_tensors, write_atomically
from mpfl.runs.record import Run, read_run
from mpfl.runs.whole import require_whole
from mpfl.seeds import rng_for
from mpfl.types import Mask, MPFLError, Weights

FILES = {"federated": "model.safetensors", "central": "central.safetensors"}
CLOSE = 1e-4
_FIELDS = ("recipe", "budget", "method", "vote", "seed", "dataset", "model")


@dataclass(frozen=True)
class ExportedPair:
    """A run's network twice, at full shapes with the mask applied, and cut.

    ``difference`` is the largest one between torch and onnxruntime, of either network.
    """

    dense: Exported
    compact: Exported
    difference: float
    sizes: list[dict[str, Any]]


def export(
    folder: Path,
    to: Path,
    *,
    weights: Literal["federated", "central"] = "federated",
    root: Path = Path("data"),
) -> ExportedPair:
    """Write the network of a finished run to ``to``, after comparing it with torch.

    Random pictures and 256 of the test set go through both. Raises
    :class:`~mpfl.types.MPFLError` for a run that is not finished or has no such weights, a
    place that cannot be written to, and if the logits differ by more than ``CLOSE``.
    """
    run = require_whole(read_run(folder))
    there = [kind for kind, name in FILES.items() if (folder / name).is_file()]
    if weights not in there:
        remedy = f"add --weights {there[0]}" if there else "give a run folder that has them"
        raise MPFLError(f"{folder}: holds no {weights} weights; {remedy}")
    if to.is_dir() or not (to.parent.is_dir() and os.access(to.parent, os.W_OK)):
        raise MPFLError(f"{to}: cannot be written; name a file in a folder that is there")
    _refuse_to_overwrite(to)
    config = run.config
    if config.get("prunes", "filter") != "filter":
        raise MPFLError(
            f"{folder}: a pruned filter still puts out its bias there, so that no smaller network "
            "computes the same; export a run with prunes=filter"
        )
    if (finer := config.get("granularity", "filter")) != "filter":
        raise MPFLError(
            f"{folder}: its mask has a bit per {finer}, and no smaller dense network computes with "
            "such a mask; export a run with granularity=filter"
        )
    for name, plain in (("view", "whole"), ("statistics", "dataset")):
        if config.get(name, plain) != plain:
            raise MPFLError(
                f"{folder}: its network is shown pictures with {name}={config[name]}, which the "
                f"file could not do; export a run with {name}={plain}"
            )
    size = {} if config["pixels"] is None else {"pixels": config["pixels"]}
    dataset = load(config["dataset"], root, **size)
    shape = dataset.test_images.shape[1:]
    seen = config["pixels"] or shape[-1]
    full = build(config["model"], len(dataset.classes), width=config["width"], pixels=seen)
    layout = layout_of(
        full,
        inputs=noise_pictures(shape[0], seen, seen),
        units=config.get("units"),
        verify=False,
    )
    mask = load_mask(folder / "mask.safetensors", layout)
    if masks.counts(mask) != run.summary.get("kept", masks.counts(mask)):
        raise MPFLError(f"{folder}: mask.safetensors is not that of its summary; run it again")
    trained = load_tensors(folder / FILES[weights])
    _refuse_another_mask(folder / FILES[weights], trained, mask, layout)
    load_weights(full, apply(trained, mask, layout))
    noise = rng_for(0, "export").integers(0, 256, (64, *shape), np.uint8)
    pictures = np.concatenate([noise, dataset.test_images[:256]])
    facts = _facts(run, weights, dataset.classes)
    made, apart, sizes = [], [], []
    for name, network in (("dense", full), ("compact", compact(full, mask, layout))):
        whole = Classifier(network, dataset.mean, dataset.std, config["pixels"])
        made.append(exported(whole, shape, facts))
        apart.append(logit_difference(made[-1], pictures))
        sizes.append(
            {
                "network": name,
                "parameters": sum(t.numel() for t in float_state(network).values()),
                "macs": macs(network, seen, channels=shape[0]),
                "bytes": len(made[-1].file),
            }
        )
    if not (worst := float(np.max(apart))) <= CLOSE:
        raise MPFLError(
            f"{to}: not written, as onnxruntime's logits differ from torch's by {worst:.1g} "
            "of the largest; try other versions of the two"
        )
    write_atomically(to, made[1].file)
    return ExportedPair(made[0], made[1], worst, sizes)


def _refuse_another_mask(path: Path, trained: Weights, mask: Mask, layout: Layout) -> None:
    """Weights of another run are not 0 wherever the mask of this one pruned."""
    for layer in layout.layers:
        held = trained.get(layer.weight)
        if held is not None and len(held) == layer.filters and held[~mask[layer.name]].any():
            raise MPFLError(
                f"{path}: has filters that its mask pruned, so it is of another run; run it again"
            )


def _refuse_to_overwrite(to: Path) -> None:
    """Files that this would replace are ONNX files, so never a run's own."""
    if to.suffix.lower() != ".onnx":
        raise MPFLError(f"{to}: is no name of an ONNX file; let it end in .onnx")
    if to.is_file() and not is_onnx(to):
        raise MPFLError(f"{to}: is there, and is no ONNX file; name another")


def _facts(run: Run, weights: str, classes: Sequence[str]) -> dict[str, str]:
    """What the file says about where its network comes from."""
    summary, config = run.summary, run.config
    return {
        "classes": json.dumps(classes),
        **{name: str(config[name]) for name in _FIELDS},
        "identity": summary["identity"],
        "weights": weights,
        "sparsity": str(summary["sparsity"]),
        "accuracy": str(summary[f"accuracy_{weights}"]),
        "commit": summary["provenance"]["commit"],
    }


def latency(
    dense: Exported,
    small: Exported,
    batches: Sequence[int] = (1, 64),
    *,
    n: int = 100,
    limit: float = 5.0,
) -> list[dict[str, Any]]:
    """Milliseconds per batch of both networks, in torch and onnxruntime, on one thread each.

    The two take turns, so that ``ratio``, the median of dense / compact pair by pair, holds
    on a machine that does other work as well. A row has ``n`` pairs, fewer (but at least 3)
    if they would take more than ``limit`` seconds; ``_low`` and ``_high`` are the 10 and
    90 % quantiles.
    """
    rows = []
    with on_threads(1):
        for batch in batches:
            drawn = rng_for(0, "latency").integers(0, 256, (batch, *dense.shape))
            pictures = drawn.astype(np.float32)
            for engine, make in (("torch", Exported.in_torch), ("onnxruntime", Exported.in_ort)):
                first, second = make(dense, pictures), make(small, pictures)
                rows.append({"engine": engine, "batch": batch, **_paired(first, second, n, limit)})
    return rows


def _paired(first: Call, second: Call, n: int, limit: float) -> dict[str, Any]:
    """Run both in turn: how many pairs, and the quantiles of milliseconds and of the ratio."""

    def milliseconds(run: Call) -> float:
        began = time.perf_counter()
        run()
        return 1000 * (time.perf_counter() - began)

    for _ in range(3):  # the first runs plan and allocate
        first(), second()
    pairs: list[tuple[float, float]] = []
    end = time.perf_counter() + limit
    while len(pairs) < n and (len(pairs) < 3 or time.perf_counter() < end):
        pairs.append((milliseconds(first), milliseconds(second)))
    dense, small = np.array(pairs).T
    row: dict[str, Any] = {"n": len(pairs)}
    for name, values in (("dense", dense), ("compact", small), ("ratio", dense / small)):
        low, middle, high = np.quantile(values, (0.1, 0.5, 0.9)).tolist()
        row |= {name: middle, f"{name}_low": low, f"{name}_high": high}
    return row
