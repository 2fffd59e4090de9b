"""Bytes against the limit, and a million votes added up."""

from __future__ import annotations

import math
import statistics
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.timing import Figure, seconds
from mpfl import masks, wire
from mpfl.filters import Layer, Layout
from mpfl.masks import Keep
from mpfl.nets.networks import blueprint
from mpfl.prune import select
from mpfl.seeds import rng_for
from mpfl.wire.range_coder import first_interval


def masks_on_the_wire(root: Path) -> Iterator[Figure]:
    """Nine steps of VGG11, 10 to 90 %, a random choice in every step; ten times."""
    layout = blueprint("vgg11-bn", 10)
    bodies, limits, frames, totals = [], [], [], []
    for seed in range(10):
        alive, total = masks.full(layout), 0
        for step in range(1, 10):
            rng = rng_for(seed, "wire", step)
            keep = Keep.by_layer(layout.keep_counts(step / 10))
            scores = {layer.name: rng.random(layer.filters) for layer in layout.layers}
            mask = select(scores, alive, keep)
            payload = wire.encode_mask(mask, layout, step, reference=alive, keep=keep)
            body = wire.body_length(payload)
            bodies.append(body)
            limits.append(math.ceil(wire.limit_bits(mask, alive) / 8))
            frames.append(len(payload) - body)
            total += len(payload)
            alive = mask
        totals.append(total)
    ratios = [body / limit for body, limit in zip(bodies, limits, strict=True)]
    n = len(bodies)
    yield Figure(
        "mask body over its limit, rounded up to a byte a message",
        statistics.median(ratios), "<=1.02", n, min(ratios), max(ratios),
        f"{sum(bodies)} B in bodies, {sum(limits)} B at the limit",
    )  # fmt: skip
    yield Figure(
        "bytes of frame round a mask",
        statistics.median(frames), "<=16", n, min(frames), max(frames),
    )  # fmt: skip
    raw = 9 * math.ceil(layout.filters / 8)
    yield Figure(
        "nine steps of VGG11, 10-90 %, bytes a node with frames",
        statistics.median(totals), "<=1300", len(totals), min(totals), max(totals),
        f"one bit a filter: {raw:,} B without frames",
    )  # fmt: skip


def a_hundred_thousand_filters(root: Path) -> Iterator[Figure]:
    """Processor time to write a mask and to read it; each counts the choices anew."""
    for many in ([100_000], [8192] * 12 + [1696], [333] * 300 + [100]):
        shapes = {f"w{i}": (filters, 1) for i, filters in enumerate(many)}
        layers = [Layer(f"layer{i}", n, f"w{i}", (f"w{i}",)) for i, n in enumerate(many)]
        layout = Layout(tuple(layers), shapes)
        everything = masks.full(layout)
        for sparsity in (0.8, 0.5):
            mask = masks.drawn(layout, sparsity, rng_for(0, "coder"))
            keep = Keep.by_layer(masks.counts(mask))
            times = []
            for _ in range(15):
                first_interval.cache_clear()
                began = time.process_time()
                sent = wire.encode_mask(mask, layout, 1, reference=everything, keep=keep)
                written = time.process_time()
                first_interval.cache_clear()
                wire.decode_mask(sent, layout, 1, reference=everything, keep=keep)
                times.append((time.process_time() - began, written - began))
            times.sort()
            both, write = times[len(times) // 2]
            limit = math.ceil(wire.limit_bits(mask, everything, keep) / 8)
            yield Figure(
                f"100,000 filters in {len(many)} groups, {1 - sparsity:.0%} kept, both ways, ms",
                1000 * both, "<=50", len(times), 1000 * times[0][0], 1000 * times[-1][0],
                f"write {1000 * write:.3g} ms; {wire.body_length(sent)} B, the limit {limit} B",
            )  # fmt: skip


def a_million_votes(root: Path) -> Iterator[Figure]:
    """10^6 payloads, every frame checked; made from 20,000 different masks beforehand."""
    layout = blueprint("vgg11-bn", 10)
    everything = masks.full(layout)
    rng = rng_for(0, "million")
    different = []
    for _ in range(20_000):
        mask = masks.unflatten(rng.random(layout.filters) < 0.8, layout)
        different.append(wire.encode_mask(mask, layout, 1, reference=everything, coding="packed"))
    payloads = different * 50

    def run() -> dict[str, np.ndarray]:
        return wire.tally_stream(enumerate(payloads), layout, 1, alive=everything)[0]

    run()
    times = sorted(seconds(run) for _ in range(5))
    yield Figure(
        f"a million votes of {layout.filters:,} filters added up, seconds",
        statistics.median(times), "<=2", 5, times[0], times[-1],
    )  # fmt: skip
    tracemalloc.start()
    run()
    peak = tracemalloc.get_traced_memory()[1] / 1e6
    tracemalloc.stop()
    yield Figure("... extra memory, MB", peak, "<=64")
