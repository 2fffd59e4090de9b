"""What a mask leaves of each tensor of a network, by the labels of its elements."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from mpfl.filters import Layout
from mpfl.nets.follow.owners import ALWAYS, NEVER, thin
from mpfl.nets.follow.walk import Walk
from mpfl.nets.tensors import tensors_in
from mpfl.types import Mask

Kept = list[np.ndarray]
"""For each axis of a tensor, which of its indices are left."""

Shape = tuple[int, ...] | None
"""The shape of a tensor; None if no axis of it can be cut by itself."""


class Left:
    """Which elements a mask leaves."""

    def __init__(self, walk: Walk, layout: Layout, mask: Mask) -> None:
        owners = walk.owners.copy()
        for writer, units in list(owners.roots()):
            if writer.path not in layout.sizes:
                owners.fix_units(units, "it has no bit in this layout")
        bit = {
            unit: bool(bits)
            for writer, units in owners.roots()
            for unit, bits in zip(units, mask[writer.path], strict=True)
        }
        self._alive = np.array(
            [
                writers in (ALWAYS, NEVER) or any(bit[unit] for unit in writers)
                for writers in owners.by_number()
            ]
        )

    def alive(self, labels: torch.Tensor) -> np.ndarray:
        """Which elements are left; size 1 along axes on which that is known not to vary."""
        return np.asarray(self._alive[thin(labels).numpy().astype(np.int64) // 2])

    def axes(self, labels: torch.Tensor) -> Kept | None:
        """What is left along each axis; None if no axis can be cut by itself."""
        alive = self.alive(labels)
        axes = []
        box = np.ones((), bool)
        for axis, size in enumerate(labels.shape):
            others = tuple(each for each in range(alive.ndim) if each != axis)
            left = alive.any(axis=others)
            box = np.multiply.outer(box, left)
            axes.append(np.broadcast_to(left, (size,)))
        return axes if np.array_equal(box, alive) else None

    def shapes(self, labels: Any) -> list[Shape]:
        """The shape of what is left of every tensor, given the labels of all."""
        kept = map(self.axes, tensors_in(labels))
        return [axes if axes is None else tuple(int(axis.sum()) for axis in axes) for axes in kept]


def left_of(numbers: torch.Tensor, kept: Kept) -> torch.Tensor:
    """What is left of a tensor."""
    for axis, left in enumerate(kept):
        numbers = numbers.index_select(axis, torch.from_numpy(np.flatnonzero(left)))
    return numbers


def shapes_in(value: Any) -> list[Shape]:
    """The shape of every tensor in it."""
    return [tuple(tensor.shape) for tensor in tensors_in(value)]
