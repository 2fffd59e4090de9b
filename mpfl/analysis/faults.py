"""Faults: what a node does wrong, on purpose or not, with its vote or its training.

A *fault* replaces the mask that a node is about to send: ``(mask, alive, rng) -> mask``, with
``mask`` the honest one and ``alive`` the consensus that it must stay within. None is in the paper.

Laws: the result stays within ``alive``, so that it is a legal vote even if it leaves a layer
with nothing; the inputs are never changed; equal generators give equal faults.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from mpfl.filters import rounded_up
from mpfl.prune import keep_best
from mpfl.seeds import Rng, rng_for
from mpfl.types import Mask, MPFLError, Weights


def check_vote(where: str, mask: Mask, alive: Mask) -> None:
    """Refuse, naming ``where``, a mask that is not within ``alive``, layer by layer."""
    for name in {**alive, **mask}:
        if name not in mask or name not in alive or mask[name].shape != alive[name].shape:
            raise MPFLError(
                f"{where}: mask and consensus differ in layer {name!r}; take both from one model"
            )
        if (mask[name] & ~alive[name]).any():
            raise MPFLError(
                f"{where}: the honest mask of layer {name!r} brings back pruned filters; "
                "hand over the mask that the node would send"
            )


@dataclass(frozen=True)
class random_mask:
    """The node votes without looking: in each layer as many filters as it honestly keeps.

    They are drawn uniformly among those alive, so no count gives the node away.

    >>> alive = {"conv": np.array([True, True, True, False])}
    >>> mask = {"conv": np.array([True, True, False, False])}
    >>> random_mask()(mask, alive, rng_for(0, "example"))["conv"].sum()
    np.int64(2)
    """

    def __call__(self, mask: Mask, alive: Mask, rng: Rng) -> Mask:
        check_vote("random_mask", mask, alive)
        return {
            name: keep_best(rng.random(bits.size), bits, int(mask[name].sum()))
            for name, bits in alive.items()
        }


@dataclass(frozen=True)
class inverted_mask:
    """The node votes against itself: for what it would drop, against what it would keep.

    Its count gives it away: if the honest mask drops nothing, this one keeps nothing.

    >>> alive = {"conv": np.array([True, True, True, False])}
    >>> mask = {"conv": np.array([True, True, False, False])}
    >>> inverted_mask()(mask, alive, rng_for(0, "example"))
    {'conv': array([False, False,  True, False])}
    """

    def __call__(self, mask: Mask, alive: Mask, rng: Rng) -> Mask:
        check_vote("inverted_mask", mask, alive)
        return {name: bits & ~mask[name] for name, bits in alive.items()}


@dataclass(frozen=True)
class colluding_veto:
    """All colluders drop the same chosen filters and keep everything else alive.

    The choice is an ``amount`` of each full layer, fixed by the ``seed`` that the colluders
    share: it depends neither on the round, nor on what any of them found honestly, nor on
    ``rng``. Law: with one seed, a larger amount drops a superset. Raises for an
    amount outside 0-1 and a negative seed.

    >>> alive = {"conv": np.ones(4, bool)}
    >>> votes = [colluding_veto(0.5)(alive, alive, rng_for(0, node)) for node in range(2)]
    >>> votes[0]["conv"].sum(), (votes[0]["conv"] == votes[1]["conv"]).all()
    (np.int64(2), np.True_)
    """

    amount: float
    seed: int = 0

    def __post_init__(self) -> None:
        if not (0 <= self.amount <= 1 and self.seed >= 0):
            raise MPFLError(f"{self!r}: give an amount of 0 to 1 and a seed of 0 or more")

    def chosen(self, layer: str, filters: int) -> np.ndarray:
        """Which of a layer's filters are to go, ``bool [filters]``, rounded up."""
        count = rounded_up(self.amount, filters)
        return rng_for(self.seed, "veto", layer).permutation(filters) < count

    def __call__(self, mask: Mask, alive: Mask, rng: Rng) -> Mask:
        check_vote("colluding_veto", mask, alive)
        return {name: bits & ~self.chosen(name, bits.size) for name, bits in alive.items()}


UpdateFault: TypeAlias = Callable[[Weights, Weights, Rng], dict[str, np.ndarray]]
"""``(before, after, rng) -> after``: what a node pretends that its training came to.

It is given what training changes step by step, and leaves its arguments as they are.
"""


def _moved(
    before: Weights, after: Weights, factor: Callable[[tuple[int, ...]], Any]
) -> dict[str, np.ndarray]:
    """``before``, moved by what training moved it, times ``factor(shape)``; types stay."""
    return {
        name: (before[name] + factor(array.shape) * (array - before[name])).astype(array.dtype)
        for name, array in after.items()
    }


@dataclass(frozen=True)
class inverted_update:
    """The node goes as far as its training did, the other way: uphill.

    >>> before, after = {"w": np.array([1.0, 1.0])}, {"w": np.array([1.5, 1.0])}
    >>> inverted_update()(before, after, rng_for(0, "example"))
    {'w': array([0.5, 1. ])}
    """

    def __call__(self, before: Weights, after: Weights, rng: Rng) -> dict[str, np.ndarray]:
        return {name: 2 * before[name] - array for name, array in after.items()}


@dataclass(frozen=True)
class random_update:
    """The node goes as far as its training did with every weight, up or down by a coin.

    >>> before, after = {"w": np.array([1.0, 1.0])}, {"w": np.array([1.5, 1.0])}
    >>> abs(random_update()(before, after, rng_for(0, "example"))["w"] - 1)
    array([0.5, 0. ])
    """

    def __call__(self, before: Weights, after: Weights, rng: Rng) -> dict[str, np.ndarray]:
        return _moved(before, after, lambda shape: rng.choice([-1, 1], shape))


@dataclass(frozen=True)
class scaled_update:
    """The node goes ``factor`` times as far as its training did; it wants to be heard.

    >>> before, after = {"w": np.array([1.0, 1.0])}, {"w": np.array([1.5, 1.0])}
    >>> scaled_update(100)(before, after, rng_for(0, "example"))
    {'w': array([51.,  1.])}
    """

    factor: float

    def __post_init__(self) -> None:
        if not math.isfinite(self.factor):
            raise MPFLError(f"factor is {self.factor}; give a finite number")

    def __call__(self, before: Weights, after: Weights, rng: Rng) -> dict[str, np.ndarray]:
        return _moved(before, after, lambda shape: self.factor)


UPDATE_FAULTS = {fault.__name__: fault for fault in (inverted_update, random_update, scaled_update)}
FAULTS = {fault.__name__: fault for fault in (random_mask, inverted_mask, colluding_veto)}
