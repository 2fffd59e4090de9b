"""What operations on one tensor do to labels: they move elements, change each, or pool some."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

from mpfl.nets.follow.axes import one_along, together
from mpfl.nets.follow.network import operation
from mpfl.nets.follow.owners import KEPT, NEVER, kept, varies
from mpfl.nets.follow.walk import Step
from mpfl.nets.tensors import tensors_in
from mpfl.types import MPFLError

# --- elements that move ------------------------------------------------------------------


def moved(step: Step) -> Any:
    """A movement of elements is done to their labels too."""

    def labels(value: Any) -> Any:
        return step.labels(value).clone() if isinstance(value, torch.Tensor) else value

    args, kwargs = pytree.tree_map(labels, (step.args, step.kwargs))
    if step.module is not None:
        return step.module(*args, **kwargs)
    if step.node.op == "call_method":
        return getattr(args[0], str(step.node.target))(*args[1:], **kwargs)
    assert callable(step.node.target)
    return step.node.target(*args, **kwargs)


def taken(step: Step) -> Any:
    """``x[i]`` or ``x.name``: of a tuple one of its tensors, of a tensor some of its elements."""
    if isinstance(name := step.args[1], str):  # x.values of a maximum; x.T, x.mT
        if isinstance(step.args[0], torch.Tensor):
            return getattr(step.labels(step.args[0]).clone(), name)
        return step.labels(getattr(step.args[0], name))
    if isinstance(step.args[0], torch.Tensor):
        if tensors_in(step.args[1]):
            step.owners.fix(step.labels(step.args[0]), f"{step.name} picks elements by a tensor")
            return kept(step.result.shape)
        return moved(step)
    return pytree.tree_map_only(torch.Tensor, step.labels, step.args[0][step.args[1]])


def same(step: Step) -> Any:
    """Element by element, and what was zero stays zero."""
    return step.labels(step.first)


def padded(step: Step) -> Any:
    """What is added around pixels goes with their channel; channels that are added are zero."""
    labels, result = step.labels(step.first), step.result
    for axis, size in enumerate(result.shape):
        if size == labels.shape[axis]:
            continue
        wide = (*labels.shape[:axis], size, *labels.shape[axis + 1 :])
        if varies(labels, axis):
            before, after = _padding(step, labels.dim() - 1 - axis)
            zeros = torch.tensor(float(step.owners.label(NEVER)), dtype=torch.float64)
            around = [
                zeros.expand(*wide[:axis], count, *wide[axis + 1 :]) for count in (before, after)
            ]
            labels = torch.cat([around[0], labels, around[1]], axis)
        else:
            labels = labels.narrow(axis, 0, 1).expand(wide)
    if step.module is None and (step.argument(3, "value") or 0) != 0:
        return step.owners.constant(labels)
    return labels


def _padding(step: Step, back: int) -> tuple[int, int]:
    """How many zeros stand before and after along an axis, counted from the last one."""
    pad, mode = step.argument(1, "pad"), step.argument(2, "mode", "constant")
    value = step.argument(3, "value", 0) or 0
    if step.module is not None or mode != "constant" or value != 0 or min(pad) < 0:
        raise MPFLError(f"{step.name}: channels may be padded with zeros alone")
    return int(pad[2 * back]), int(pad[2 * back + 1])


# --- one element at a time ---------------------------------------------------------------


def not_zero(step: Step) -> Any:
    """Element by element, and what was zero need not be zero any more."""
    return step.owners.constant(step.labels(step.first))


def compared(step: Step) -> Any:
    """True or False for each element."""
    if any(isinstance(other, torch.Tensor) for other in step.args[1:]):
        for tensor in step.tensors():
            step.owners.fix(step.labels(tensor), f"{step.name} compares two tensors")
        return kept(step.result.shape)
    return not_zero(step)


def steep(step: Step) -> Any:
    """A root, a logarithm, a reciprocal: at zero its value or its slope is infinite."""
    labels = step.labels(step.first)
    # Those of what is exactly zero once it is pruned; what is another constant may be pruned.
    zeros = torch.where(labels % 2 == 0, labels, KEPT)
    step.owners.fix(zeros, f"{step.name} has no finite slope at zero")
    return step.owners.constant(labels)


def fresh(step: Step) -> Any:
    """A new tensor of a size given, whatever stood in the one that is asked for it."""
    return kept(step.result.shape)


def clamped(step: Step) -> Any:
    """Zero stays zero if it lies between the bounds."""
    if isinstance(step.module, nn.Hardtanh):
        low, high = step.module.min_val, step.module.max_val
    else:  # clamp(x, min, max), hardtanh(x, min_val, max_val)
        low = step.argument(1, "min", step.kwargs.get("min_val"))
        high = step.argument(2, "max", step.kwargs.get("max_val"))
    inside = (low is None or low <= 0) and (high is None or high >= 0)
    return same(step) if inside else not_zero(step)


def mixing(step: Step) -> Any:
    """What mixes elements along some axes: these must all be there."""
    labels = step.labels(step.first)
    # Of a softmax, and of a norm inside heads, heads may go; any other norm needs all channels.
    what = operation(step.node, step.module).lower()
    if "softmax" in what or labels.dim() > 3:
        for axis in _normalised_axes(step):
            labels = together(step, labels, axis % labels.dim())
    else:
        step.owners.fix(labels, f"{step.name} mixes channels")
    if what in ("groupnorm", "group_norm"):
        step.owners.fix(labels, f"{step.name} mixes channels")
    return step.owners.constant(labels)


def _normalised_axes(step: Step) -> list[int]:
    module, dims = step.module, step.first.dim()
    if isinstance(module, nn.Softmax | nn.LogSoftmax | nn.Softmin):
        return [1 if module.dim is None else module.dim]
    if isinstance(module, nn.Softmax2d | nn.LocalResponseNorm | nn.GroupNorm | nn.CrossMapLRN2d):
        return [-3 if isinstance(module, nn.Softmax2d) else 1]
    if isinstance(module, nn.LayerNorm | nn.RMSNorm):
        return list(range(dims - len(module.normalized_shape), dims))
    name = operation(step.node, None)
    if name in ("layer_norm", "rms_norm"):
        return list(range(dims - len(step.argument(1, "normalized_shape")), dims))
    if name in ("group_norm", "local_response_norm"):
        return [1]
    dim = step.argument(1, "dim", 1)  # softmax, log_softmax
    return [dim if isinstance(dim, int) else 1]


# --- pixels that are pooled --------------------------------------------------------------


def pooled(step: Step) -> Any:
    """Each channel by itself: the result has its label, whatever the number of pixels."""
    labels, result = step.labels(step.first), step.result
    several = isinstance(result, tuple)
    for axis in range(2, labels.dim()):
        labels = one_along(step, labels, axis)
    labels = labels.expand((result[0] if several else result).shape)
    return (labels, labels) if several else labels


def reduced(step: Step) -> Any:
    """A mean, a sum, a maximum and the like over some axes, along which a unit may not vary."""
    labels, what = step.labels(step.first), operation(step.node, None)
    dims = step.argument(2 if what == "norm" else 1, "dim", None)
    if isinstance(dims, torch.Tensor):  # the larger one of two
        step.owners.tie(labels, step.labels(dims), step.name)
        return labels.expand(step.result.shape)
    dims = [dims] if isinstance(dims, int) else dims
    axes = sorted({axis % labels.dim() for axis in (dims or range(labels.dim()))})
    for axis in axes:
        labels = _same_along(step, labels, axis)
    several = isinstance(step.result, tuple)
    result = step.result[0] if several else step.result
    for axis in reversed(axes):
        if result.dim() < labels.dim():
            labels = labels.select(axis, 0)
        else:
            labels = labels.narrow(axis, 0, 1)
    if what == "logsumexp":
        labels = step.owners.constant(labels)
    return _with_places(step, labels) if several else labels


def scanned(step: Step) -> Any:
    """A running sum, a sorting or the largest few along one axis, along which no unit varies."""
    labels = step.labels(step.first)
    place = 2 if operation(step.node, None) == "topk" else 1
    axis = step.argument(place, "dim", -1) % labels.dim()
    labels = _same_along(step, labels, axis)
    if isinstance(step.result, tuple):
        return _with_places(step, labels.narrow(axis, 0, 1).expand(step.result[0].shape))
    return labels


def _same_along(step: Step, labels: torch.Tensor, axis: int) -> torch.Tensor:
    """Labels that are one along ``axis``: units that vary there must stay."""
    if varies(labels, axis):
        step.owners.fix(labels, f"{step.name} mixes channels")
        labels = kept(labels.shape)
    return labels.narrow(axis, 0, 1).expand(labels.shape)


def _with_places(step: Step, labels: torch.Tensor) -> Any:
    """Labels of values and of where they stood, a number that pruning need not make 0."""
    return type(step.result)((labels, step.owners.constant(labels)))


def gathered(step: Step) -> Any:
    """A tuple with names, made of tensors."""
    assert callable(step.node.target)
    return step.node.target(*pytree.tree_map_only(torch.Tensor, step.labels, step.args))
