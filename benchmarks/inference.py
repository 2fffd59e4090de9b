"""The small network in use: compact against dense, in torch and in onnxruntime."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from benchmarks.timing import Figure
from mpfl import masks
from mpfl.nets.cutting import compact
from mpfl.nets.networks import build
from mpfl.nets.onnx import exported
from mpfl.nets.start import initial_weights
from mpfl.nets.tensors import load_weights
from mpfl.nets.tracing import layout_of
from mpfl.runs.export import latency
from mpfl.seeds import rng_for


def compact_against_dense(root: Path) -> Iterator[Figure]:
    """VGG11-BN at full width, 90 % of the filters of every layer gone, one thread."""
    dense = build("vgg11-bn", 10)
    load_weights(dense, initial_weights(dense, 0))
    small = compact(dense, masks.drawn(layout_of(dense), 0.9, rng_for(0)))
    shape = (3, 32, 32)
    one, other = (exported(network.eval(), shape) for network in (dense, small))
    for row in latency(one, other, batches=(1, 64), n=50, limit=30):
        yield Figure(
            f"dense over compact inference at 90 %, {row['engine']}, batch {row['batch']}",
            row["ratio"],
            ">=5" if row["batch"] == 64 else None,
            row["n"],
            row["ratio_low"],
            row["ratio_high"],
            f"dense {row['dense']:.3g} ms, compact {row['compact']:.3g} ms; 10-90 % range",
        )
