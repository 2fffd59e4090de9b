"""Movements that name a size: the same movement, said with the sizes of what is left.

Only a size along an axis that is cut changes. The others may be those of a batch, of a sequence or
of a picture, which a smaller network takes as they come.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import fx, nn

from mpfl.nets.follow.network import operation

Sizes = Sequence[int]


def resize(
    new: fx.Node,
    part: nn.Module | None,
    due: Sequence[Sizes],
    whole: Sequence[Sizes],
    values: Mapping[fx.Node, Any],
) -> bool:
    """Rewrite ``new``, a step of the smaller network, in place; whether it names sizes at all.

    ``part`` is the module that it calls, if it calls one; ``due`` the shapes that should come out,
    ``whole`` those that come out of the whole network, ``values`` what earlier steps give.
    """
    name = operation(new, part).rstrip("_")
    given: tuple[Any, ...] = new.args[1:]
    source: Any = new.args[0]
    if name in ("view", "reshape", "expand"):
        sizes: Any = given or (new.kwargs.get("size", new.kwargs.get("shape")),)
        if len(sizes) == 1 and isinstance(sizes[0], list | tuple):
            sizes = sizes[0]
        # In expand, -1 stands for the size that is there.
        left = _left(sizes, due[0], whole[0], values, infer=name != "expand")
        method = "expand" if name == "expand" else "reshape"
        new.op, new.target, new.args = "call_method", method, (source, *left)
    elif name in ("unflatten", "Unflatten"):
        dim, sizes = (part.dim, part.unflattened_size) if part is not None else given[:2]
        first = int(dim) if dim >= 0 else dim + len(whole[0]) - len(sizes) + 1
        axes = slice(first, first + len(sizes))
        left = _left(sizes, due[0][axes], whole[0][axes], values, infer=True)
        new.op, new.target, new.args = "call_method", "unflatten", (source, dim, left)
    elif name in ("chunk", "split", "split_with_sizes", "tensor_split"):
        axis: Any = new.kwargs.get("dim", given[1] if len(given) > 1 else 0)
        pieces = [shape[axis] for shape in due]
        new.op, new.target, new.args = "call_function", torch.split, (source, pieces, axis)
    else:
        return False
    new.kwargs = {}
    return True


def _left(
    sizes: Sequence[Any], due: Sizes, whole: Sizes, values: Mapping[fx.Node, Any], *, infer: bool
) -> list[Any]:
    """``sizes``, as many as ``due`` and ``whole``, for what is left.

    ``infer``: one of them may be -1, which torch works out from the others.
    """
    left: list[Any] = []
    for size, is_due, was in zip(sizes, due, whole, strict=True):
        computed = isinstance(size, fx.Node)
        now = values[size] if computed else size
        if now in (is_due, -1) or (is_due == was and not computed):
            left.append(size)
        elif computed and infer and -1 not in (*sizes, *left):
            left.append(-1)  # it may be the size of a batch, times something that is cut
        else:
            left.append(is_due)
    return left
