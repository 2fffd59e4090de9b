"""Masks: one bool per filter, ``True`` = kept; and what is known of one beforehand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from mpfl.filters import Layout, rounded_up
from mpfl.seeds import Rng
from mpfl.types import Mask, MPFLError, is_whole


@dataclass(frozen=True)
class Keep:
    """How many filters a mask keeps, as both ends of the wire know it: one number per group.

    A *group* is a tuple of layer names. As a rule every layer is a group by itself; where filters
    of several layers compete, these layers are one group, and each keeps at least ``floor``.

    >>> Keep.by_layer({"conv1": 3, "conv2": 5}).counts
    {('conv1',): 3, ('conv2',): 5}
    >>> Keep({("conv1", "conv2"): 8}).total
    8
    """

    counts: Mapping[tuple[str, ...], int]
    floor: int = 1

    def __post_init__(self) -> None:
        for group, count in {**self.counts, ("the floor",): self.floor}.items():
            if not isinstance(group, tuple):
                raise MPFLError(f"keep: {group!r} is no group; give a tuple of layer names")
            if not (is_whole(count) and count >= 0):
                raise MPFLError(
                    f"keep: {count!r} of {', '.join(group)}; give a whole number of filters"
                )

    @classmethod
    def by_layer(cls, counts: Mapping[str, int]) -> Keep:
        """A number for each layer by itself."""
        return cls({(name,): count for name, count in counts.items()})

    @property
    def total(self) -> int:
        """How many filters stay in all."""
        return sum(self.counts.values())

    def of(self, count: int) -> Keep:
        """The same groups, each of which keeps ``count``."""
        return replace(self, counts=dict.fromkeys(self.counts, count))

    def for_layers(self, sizes: Mapping[str, int]) -> dict[str, int]:
        """A number for each layer: its own, or its part of the group's, by size, rounded down.

        Where layers of ``sizes`` compete, that is what an even split would leave each of them; at
        least one filter.
        """
        counts = {}
        for group, count in self.counts.items():
            gone = 1 - count / max(1, sum(sizes[name] for name in group))
            for name in group:
                even = max(1, sizes[name] - rounded_up(gone, sizes[name]))
                counts[name] = count if len(group) == 1 else even
        return {name: counts[name] for name in sizes}

    def require_layers(self, layout: Layout) -> None:
        """Refuse groups that do not name each layer of ``layout`` once."""
        named = [name for group in self.counts for name in group]
        if sorted(named) != sorted(layout.sizes):
            raise MPFLError(
                f"keep names layers {named}, but the model has {list(layout.sizes)}; name each once"
            )


def full(layout: Layout) -> dict[str, np.ndarray]:
    """The mask that keeps everything: where every run begins."""
    return {name: np.ones(size, dtype=bool) for name, size in layout.sizes.items()}


def drawn(layout: Layout, sparsity: float, rng: Rng) -> dict[str, np.ndarray]:
    """A random mask, the same share of every layer removed; raises if a layer would be empty."""
    counts = layout.keep_counts(sparsity)
    return {name: rng.permutation(size) < counts[name] for name, size in layout.sizes.items()}


def flatten(mask: Mask, layout: Layout) -> np.ndarray:
    """All bits of a mask in the layout's order, ``[filters]``; raises for other layers."""
    _by_layer(mask)
    if mask.keys() != layout.sizes.keys():
        raise MPFLError(
            f"layers {list(mask)}, but the model has {list(layout.sizes)}; "
            "was it made for another model?"
        )
    for name, size in layout.sizes.items():
        if np.shape(mask[name]) != (size,):
            raise MPFLError(
                f"layer {name!r} has {list(np.shape(mask[name]))} values, but the model has "
                f"{size} filters there; give one per filter"
            )
    return np.concatenate([mask[name] for name in layout.sizes])


def unflatten(bits: np.ndarray, layout: Layout) -> dict[str, np.ndarray]:
    """The inverse of :func:`flatten`: cut a flat array up into the layout's layers.

    Raises :class:`MPFLError` for an array of another length.
    """
    if np.shape(bits) != (layout.filters,):
        found = " x ".join(map(str, np.shape(bits))) or "no"
        raise MPFLError(
            f"{found} values, but the model has {layout.filters} filters; give one per filter"
        )
    return dict(zip(layout.sizes, np.split(bits, layout.ends), strict=True))


def counts(mask: Mask) -> dict[str, int]:
    """How many filters each layer keeps; raises for what is not a mask of bools.

    >>> counts({"conv1": np.array([True, False, True])})
    {'conv1': 2}
    """
    for name, bits in _by_layer(mask).items():
        if not (isinstance(bits, np.ndarray) and bits.dtype == np.bool_):
            kind = bits.dtype if isinstance(bits, np.ndarray) else type(bits).__name__
            raise MPFLError(f"mask of layer {name!r} is {kind}; give a bool array, True = kept")
    return {name: int(bits.sum()) for name, bits in mask.items()}


def _by_layer(mask: Mask) -> Mask:
    """``mask``, if it has layers; a single array is the mask of none."""
    if not isinstance(mask, Mapping):
        raise MPFLError(f"a mask is a bool array by layer, not a {type(mask).__name__}")
    return mask


def sparsity(mask: Mask) -> float:
    """Share of all filters removed, 0-1."""
    total = sum(np.size(bits) for bits in _by_layer(mask).values())
    if not total:
        raise MPFLError("a mask without filters has no sparsity; give one bool per filter")
    return 1.0 - sum(counts(mask).values()) / total


def intersect(first: Mask, second: Mask) -> dict[str, np.ndarray]:
    """Keep what both masks keep; raises if they are not masks of the same layers."""
    if counts(first).keys() != counts(second).keys():
        raise MPFLError(f"masks of layers {list(first)} and {list(second)}; give two of one model")
    for name in first:
        if first[name].shape != second[name].shape:
            shapes = f"{list(first[name].shape)} and {list(second[name].shape)}"
            raise MPFLError(f"masks of layer {name!r} are {shapes}; give two of one model")
    return {name: first[name] & second[name] for name in first}


def agreement(mask: Mask, consensus: Mask, alive: Mask) -> float:
    """Share of the filters alive before the vote on which a node's mask equals the consensus."""
    intersect(intersect(mask, consensus), alive)  # refuses masks of different models
    if not (asked := sum(counts(alive).values())):
        raise MPFLError("no filter is alive, so there is nothing to agree on; prune less")
    same = sum(int(((mask[n] == consensus[n]) & alive[n]).sum()) for n in alive)
    return same / asked


def check(mask: Mask, layout: Layout, within: Mask | None = None) -> None:
    """Refuse a mask that does not fit ``layout``, or brings back a filter that ``within`` lost."""
    if list(_by_layer(mask)) != list(layout.sizes):
        raise MPFLError(
            f"mask names layers {list(mask)}, but the model has {list(layout.sizes)}; "
            "was it made for another model?"
        )
    for name, size in layout.sizes.items():
        bits = mask[name]
        if not isinstance(bits, np.ndarray):
            raise MPFLError(f"mask of layer {name!r} is a {type(bits).__name__}; give a bool array")
        if bits.dtype != np.bool_ or bits.shape != (size,):
            raise MPFLError(
                f"mask of layer {name!r} is {bits.dtype}{list(bits.shape)}, but the layer "
                f"needs bool[{size}]; was it made for another model, or for another granularity?"
            )
        if within is not None and (back := bits & ~within[name]).any():
            raise MPFLError(
                f"mask of layer {name!r} brings back {int(back.sum())} pruned filters; "
                "a mask may only take filters away from the current consensus"
            )
