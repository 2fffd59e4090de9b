"""Masks: one bool a filter, ``True`` = kept."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from mpfl.filters import Layout
from mpfl.types import Mask, MPFLError


def full(layout: Layout) -> dict[str, np.ndarray]:
    """The mask that keeps everything: where every run begins."""
    return {layer.name: np.ones(layer.filters, dtype=bool) for layer in layout.layers}


def drawn(layout: Layout, sparsity: float, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """A mask drawn by lot, the same share of every layer removed; raises where one empties."""
    counts = layout.keep_counts(sparsity)
    return {
        layer.name: rng.permutation(layer.filters) < counts[layer.name] for layer in layout.layers
    }


def flatten(mask: Mask, layout: Layout) -> np.ndarray:
    """All bits of a mask in the layout's order, ``[filters]``."""
    return np.concatenate([mask[layer.name] for layer in layout.layers])


def unflatten(bits: np.ndarray, layout: Layout) -> dict[str, np.ndarray]:
    """The inverse of :func:`flatten`: cut a flat array up into the layout's layers."""
    ends = np.cumsum([layer.filters for layer in layout.layers])[:-1]
    return {
        layer.name: part for layer, part in zip(layout.layers, np.split(bits, ends), strict=True)
    }


def kept(mask: Mask) -> dict[str, int]:
    """How many filters each layer keeps."""
    return {name: int(bits.sum()) for name, bits in mask.items()}


def sparsity(mask: Mask) -> float:
    """Share of all filters removed, 0-1."""
    total = sum(bits.size for bits in mask.values())
    return 1.0 - sum(kept(mask).values()) / total


def intersect(first: Mask, second: Mask) -> dict[str, np.ndarray]:
    """Keep what both masks keep."""
    return {name: first[name] & second[name] for name in first}


def agreement(mask: Mask, consensus: Mask, alive: Mask) -> float:
    """Share of the filters alive before the vote on which a node's mask equals the consensus."""
    same = sum(int(((mask[n] == consensus[n]) & alive[n]).sum()) for n in alive)
    return same / sum(kept(alive).values())


def check(mask: Mask, layout: Layout, within: Mask | None = None) -> None:
    """Refuse a mask that does not fit ``layout``, or brings back a filter that ``within`` lost."""
    expected: Iterable[str] = [layer.name for layer in layout.layers]
    if list(mask) != list(expected):
        raise MPFLError(
            f"mask names layers {list(mask)}, but the model has {list(expected)}; "
            "was it made for another model?"
        )
    for layer in layout.layers:
        bits = mask[layer.name]
        if bits.dtype != np.bool_ or bits.shape != (layer.filters,):
            raise MPFLError(
                f"mask of layer {layer.name!r} is {bits.dtype}{list(bits.shape)}, but the layer "
                f"needs bool[{layer.filters}]; was it made for another model?"
            )
        if within is not None and (back := bits & ~within[layer.name]).any():
            raise MPFLError(
                f"mask of layer {layer.name!r} brings back {int(back.sum())} pruned filters; "
                "a mask may only take filters away from the current consensus"
            )
