"""Movements that cannot be cut by themselves, followed until their channels are in line again."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import fx, nn

from mpfl.nets.follow.network import operation, part_of


class Waiting:
    """Where each element came from: its index along the axis that is cut, and all its others."""

    def __init__(self, source: fx.Node, axis: int, index: Any, rest: Any) -> None:
        self.source, self.axis, self.index, self.rest = source, axis, index, rest

    @classmethod
    def at(cls, source: fx.Node, axis: int, shape: torch.Size) -> Waiting:
        """At the source itself."""
        index = torch.arange(shape[axis], dtype=torch.float64)
        index = index.view([-1 if each == axis else 1 for each in range(len(shape))]).expand(shape)
        others = [1 if each == axis else size for each, size in enumerate(shape)]
        rest = torch.arange(int(np.prod(others)), dtype=torch.float64).view(others).expand(shape)
        return cls(source, axis, index, rest)

    def moved(self, node: fx.Node, whole: nn.Module, before: dict[fx.Node, Any]) -> Waiting:
        """After one more movement, done as the whole network does it."""
        index = done_alike(node, whole, self.index, before)
        rest = done_alike(node, whole, self.rest, before)
        return Waiting(self.source, self.axis, index, rest)

    def choice(self) -> np.ndarray | None:
        """Which channels of the source these are, if all else is where it was."""
        if not isinstance(self.index, torch.Tensor) or self.index.dim() <= self.axis:
            return None
        places = self.index.movedim(self.axis, 0).flatten(1)[:, 0]
        shape = [1] * self.index.dim()
        shape[self.axis] = -1
        one = self.rest.narrow(self.axis, 0, 1)
        in_place = torch.arange(one.numel(), dtype=torch.float64).view(one.shape)
        if not torch.equal(self.index, places.view(shape).expand(self.index.shape)):
            return None
        if not torch.equal(self.rest, in_place.expand(self.rest.shape)):
            return None
        return places.numpy().astype(int)


_LIKE = {"expand_as": "expand", "view_as": "view", "reshape_as": "reshape"}
"""Movements that read the size of another tensor, and those that are given one."""


def done_alike(node: fx.Node, root: nn.Module, start: Any, values: dict[fx.Node, Any]) -> Any:
    """A movement of ``start``, with its other arguments taken from ``values``.

    Of tensors ``values`` may hold the sizes alone.
    """
    if (part := part_of(node, root)) is not None:
        return part(start)
    args, kwargs = fx.map_arg((node.args[1:], node.kwargs), values.__getitem__)
    if (name := operation(node, None)) in _LIKE:
        like = args[0] if args else kwargs["other"]
        shape = like.shape if isinstance(like, torch.Tensor) else like
        return getattr(start, _LIKE[name])(shape)
    if node.op == "call_method":
        return getattr(start, str(node.target))(*args, **kwargs)
    assert callable(node.target)
    return node.target(start, *args, **kwargs)
