"""What each operation without weights does to labels.

Five kinds cover nearly all of them: operations that only move elements about, those that look at
one element at a time, those that pool over pixels, sums, and products.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

from mpfl.nets.follow.network import DEPTH
from mpfl.nets.follow.owners import KEPT, NEVER, thin
from mpfl.nets.follow.walk import Step, StepRule
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
    """``x[i]``: of a tuple one of its tensors, of a tensor some of its elements."""
    if isinstance(step.args[0], torch.Tensor):
        if any(isinstance(leaf, torch.Tensor) for leaf in pytree.tree_leaves(step.args[1])):
            step.owners.fix(step.labels(step.args[0]), f"{step.name} picks elements by a tensor")
            return torch.zeros((), dtype=torch.float64).expand(step.result.shape)
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
        if _varies(labels, axis):
            before, after = _padding(step, labels.dim() - 1 - axis)
            zeros = torch.tensor(float(step.owners.label(NEVER)), dtype=torch.float64)
            around = [
                zeros.expand(*wide[:axis], count, *wide[axis + 1 :]) for count in (before, after)
            ]
            labels = torch.cat([around[0], labels, around[1]], axis)
        else:
            labels = labels.narrow(axis, 0, 1).expand(wide)
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


def clamped(step: Step) -> Any:
    """Zero stays zero if it lies between the bounds."""
    low, high = step.argument(1, "min", None), step.argument(2, "max", None)
    if isinstance(step.module, nn.Hardtanh):
        low, high = step.module.min_val, step.module.max_val
    inside = (low is None or low <= 0) and (high is None or high >= 0)
    return same(step) if inside else not_zero(step)


def mixing(step: Step) -> Any:
    """What mixes elements along some axes: these must all be there."""
    labels = step.labels(step.first)
    # Of a softmax, and of a norm inside heads, heads may go; any other norm needs all channels.
    softmax = "softmax" in step.name or isinstance(step.module, nn.Softmax | nn.LogSoftmax)
    if softmax or labels.dim() > 3:
        for axis in _normalised_axes(step):
            labels = _together(step, labels, axis % labels.dim())
    else:
        step.owners.fix(labels, f"{step.name} mixes channels")
    if isinstance(step.module, nn.GroupNorm) or "group_norm" in step.name:
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
    name = getattr(step.node.target, "__name__", str(step.node.target))
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
        labels = _one_along(step, labels, axis)
    labels = labels.expand((result[0] if several else result).shape)
    return (labels, labels) if several else labels


def reduced(step: Step) -> Any:
    """A mean, a sum or a maximum over some axes, along which a unit may not vary."""
    labels = step.labels(step.first)
    dims = step.argument(1, "dim", None)
    if isinstance(dims, torch.Tensor):  # the larger one of two
        step.owners.tie(labels, step.labels(dims), step.name)
        return labels.expand(step.result.shape)
    dims = [dims] if isinstance(dims, int) else dims
    axes = sorted({axis % labels.dim() for axis in (dims or range(labels.dim()))})
    for axis in axes:
        if not bool((labels == labels.narrow(axis, 0, 1)).all()):
            step.owners.fix(labels, f"{step.name} adds up channels")
            labels = torch.zeros((), dtype=torch.float64).expand(labels.shape)
        labels = labels.narrow(axis, 0, 1).expand(labels.shape)
    result = step.result[0] if isinstance(step.result, tuple) else step.result
    for axis in reversed(axes):
        if result.dim() < labels.dim():
            labels = labels.select(axis, 0)
        else:
            labels = labels.narrow(axis, 0, 1)
    return (labels, labels) if isinstance(step.result, tuple) else labels


def _one_along(step: Step, labels: torch.Tensor, axis: int) -> torch.Tensor:
    """The labels of the first index of ``axis``, with which all others are tied."""
    first = labels.narrow(axis, 0, 1)
    if not bool((labels == first).all()):
        step.owners.tie(labels, first.expand(labels.shape), step.name)
    return first


def _together(step: Step, labels: torch.Tensor, axis: int) -> torch.Tensor:
    """The same labels, where all that lies along ``axis`` goes as a whole, or must all be there.

    As a whole if there are several of them, as there are heads; if it is all channels, it stays.
    """
    if not _varies(labels, axis):
        return labels
    if any(_varies(labels, other) for other in range(labels.dim()) if other != axis):
        return _one_along(step, labels, axis).expand(labels.shape)
    step.owners.fix(labels, f"{step.name} mixes channels")
    return torch.zeros((), dtype=torch.float64).expand(labels.shape)


def _varies(labels: torch.Tensor, axis: int) -> bool:
    return not bool((labels == labels.narrow(axis, 0, 1)).all())


# --- sums and products -------------------------------------------------------------------


def added(step: Step) -> Any:
    """A sum or a difference."""
    one, other = step.first, step.argument(1, "other")
    if not isinstance(one, torch.Tensor) or not isinstance(other, torch.Tensor):
        tensor, number = (one, other) if isinstance(one, torch.Tensor) else (other, one)
        labels = step.labels(tensor)
        return labels if number == 0 else step.owners.constant(labels)
    first, second = step.labels(one), step.labels(other)
    for labels, constant in ((first, second), (second, first)):
        if _is_uniform(step, constant, labels):
            return step.owners.constant(labels.expand(step.result.shape))
    return step.owners.added(first, second, step.name)


def multiplied(step: Step) -> Any:
    """A product. A number, or a factor that is the same for all channels, changes nothing."""
    one, other = step.first, step.argument(1, "other")
    if not isinstance(one, torch.Tensor) or not isinstance(other, torch.Tensor):
        return step.labels(one if isinstance(one, torch.Tensor) else other)
    first, second = step.labels(one), step.labels(other)
    for many, few in ((first, second), (second, first)):
        if _is_broadcast(few, many):
            step.owners.fix(few, f"{step.name} multiplies many channels with it")
            return many.expand(step.result.shape)
    return step.owners.multiplied(first, second, step.name)


def gated(step: Step) -> Any:
    """A gated linear unit: the second half of the channels decides what passes of the first."""
    dim = step.module.dim if isinstance(step.module, nn.GLU) else step.argument(1, "dim", -1)
    first, second = step.labels(step.first).chunk(2, dim)
    return step.owners.multiplied(first, step.owners.constant(second), step.name)


def divided(step: Step) -> Any:
    """A quotient: what stands below the line must be there."""
    one, other = step.first, step.argument(1, "other")
    if isinstance(other, torch.Tensor):
        step.owners.fix(step.labels(other), f"{step.name} divides by it")
    if not isinstance(one, torch.Tensor):
        return torch.zeros((), dtype=torch.float64).expand(step.result.shape)
    return step.labels(one).expand(step.result.shape)


def powered(step: Step) -> Any:
    """A power: zero stays zero if the exponent is above 0."""
    base, exponent = step.first, step.argument(1, "exponent")
    if isinstance(base, torch.Tensor) and isinstance(exponent, int | float):
        return same(step) if exponent > 0 else not_zero(step)
    for tensor in step.tensors():
        step.owners.fix(step.labels(tensor), f"{step.name} is a power of tensors")
    return torch.zeros((), dtype=torch.float64).expand(step.result.shape)


def filled(step: Step) -> Any:
    """A constant put in some places, the same for all channels."""
    labels, mask = step.labels(step.first), step.argument(1, "mask")
    if not _is_uniform(step, step.labels(mask), labels):
        step.owners.fix(labels, f"{step.name} fills channels")
        return torch.zeros((), dtype=torch.float64).expand(step.result.shape)
    return step.owners.constant(labels.expand(step.result.shape))


def _is_broadcast(few: torch.Tensor, many: torch.Tensor) -> bool:
    """Whether ``few`` has one element where ``many`` has several units."""
    for back in range(1, min(few.dim(), many.dim()) + 1):
        varies = not bool((many == many.narrow(-back, 0, 1)).all())
        if few.shape[-back] == 1 and many.shape[-back] > 1 and varies:
            return True
    missing = range(few.dim() + 1, many.dim() + 1)
    return any(not bool((many == many.narrow(-back, 0, 1)).all()) for back in missing)


def _is_uniform(step: Step, constant: torch.Tensor, labels: torch.Tensor) -> bool:
    """Whether ``constant`` is always there, and one number for all units of ``labels``."""
    return (
        bool((constant == KEPT).all())
        and not bool((labels == KEPT).all())
        and _is_broadcast(constant, labels)
    )


def contracted(step: Step) -> Any:
    """A matrix product: what it sums over must all be there, or go as a whole."""
    one, other = step.labels(step.first), step.labels(step.argument(1, "other"))
    if one.dim() < 2 or other.dim() < 2:
        raise MPFLError(f"{step.name}: a product with a vector; write it as a Linear")
    # Of [..., i, k] times [..., k, j] it sums over k; rows i of the first go with it, too.
    for axis in (-1, -2):
        one = _together(step, one, one.dim() + axis)
    other = _together(step, other, other.dim() - 2)[..., :1, :]
    one = one[..., :1, :1]
    if _is_broadcast(one, other):
        other = _together(step, other, other.dim() - 1)
    if _is_broadcast(one, other):
        step.owners.fix(one, f"{step.name} multiplies many channels with it")
        one = torch.zeros_like(one)
    return step.owners.multiplied(one, other, step.name).expand(step.result.shape)


def attended(step: Step) -> Any:
    """``scaled_dot_product_attention``: a head goes as a whole, from query, key and value."""
    names = ("query", "key", "value")
    heads = [step.labels(step.argument(place, name)) for place, name in enumerate(names)]
    for axis in (-1, -2):
        heads = [_together(step, each, each.dim() + axis) for each in heads]
    heads = [each[..., :1, :1] for each in heads]
    for other in heads[1:]:
        step.owners.tie(heads[0], other, step.name)
    for label in thin(heads[0]).unique():
        for unit in step.owners.writers_of(int(label)):
            if unit != -1:
                step.owners.writer(unit).kind = "heads"
    return step.owners.zero(heads[0]).expand(step.result.shape)


def gathered(step: Step) -> Any:
    """A tuple with names, made of tensors."""
    assert callable(step.node.target)
    return step.node.target(*pytree.tree_map_only(torch.Tensor, step.labels, step.args))


# --- which operation has which rule ------------------------------------------------------

_MOVES = """flatten reshape view permute transpose unsqueeze squeeze cat concat concatenate stack
split split_with_sizes chunk unbind expand expand_as repeat repeat_interleave flip roll narrow
select movedim swapaxes swapdims pixel_shuffle pixel_unshuffle unflatten tile
tensor_split broadcast_to view_as reshape_as t moveaxis hstack vstack dstack contiguous clone
detach channel_shuffle"""
_SAME = """relu relu_ relu6 leaky_relu leaky_relu_ elu elu_ selu celu gelu silu hardswish mish tanh
softsign tanhshrink hardshrink softshrink dropout dropout_ dropout1d dropout2d dropout3d
alpha_dropout feature_alpha_dropout stochastic_depth drop_path abs neg sqrt square sin sinh asin
atan erf expm1 log1p sign float double half to type type_as bfloat16 requires_grad_ rrelu trunc
relu6_ silu_"""
_NOT_ZERO = """sigmoid sigmoid_ hardsigmoid softplus exp cos cosh log logsigmoid rsqrt reciprocal
threshold rad2deg erfc"""
_POOLS = """max_pool1d max_pool2d max_pool3d avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d
adaptive_avg_pool2d adaptive_avg_pool3d adaptive_max_pool1d adaptive_max_pool2d interpolate
upsample lp_pool2d"""
_MIXES = "softmax log_softmax layer_norm rms_norm group_norm local_response_norm"
BY_NAME: dict[str, StepRule] = {
    **dict.fromkeys(_MOVES.split(), moved),
    **dict.fromkeys(_SAME.split(), same),
    **dict.fromkeys(_NOT_ZERO.split(), not_zero),
    **dict.fromkeys(_POOLS.split(), pooled),
    **dict.fromkeys(_MIXES.split(), mixing),
    **dict.fromkeys(("mean", "sum", "amax", "amin", "max", "min"), reduced),
    **dict.fromkeys(("add", "add_", "iadd", "sub", "sub_", "isub", "subtract"), added),
    **dict.fromkeys(("mul", "mul_", "imul", "multiply"), multiplied),
    **dict.fromkeys(("div", "div_", "truediv", "itruediv", "divide"), divided),
    **dict.fromkeys(("pow", "pow_", "ipow"), powered),
    **dict.fromkeys(("matmul", "bmm", "mm"), contracted),
    **dict.fromkeys(("clamp", "clip", "clamp_", "hardtanh"), clamped),
    **dict.fromkeys(("masked_fill", "masked_fill_"), filled),
    "glu": gated,
    "getitem": taken,
    "pad": padded,
    "scaled_dot_product_attention": attended,
}
_BY_MODULE: dict[type, StepRule] = {
    **dict.fromkeys(
        (nn.Flatten, nn.Unflatten, nn.PixelShuffle, nn.PixelUnshuffle, nn.ChannelShuffle), moved
    ),
    **dict.fromkeys(
        (nn.Identity, nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.SELU, nn.CELU, nn.GELU, nn.SiLU,
         nn.Hardswish, nn.Mish, nn.Tanh, nn.Softsign, nn.Tanhshrink, nn.Hardshrink, nn.Softshrink,
         nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.RReLU),
        same,
    ),
    **dict.fromkeys((nn.Sigmoid, nn.Hardsigmoid, nn.Softplus, nn.LogSigmoid), not_zero),
    **dict.fromkeys(
        (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d,
         nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d, nn.AdaptiveMaxPool1d,
         nn.AdaptiveMaxPool2d, nn.LPPool2d, nn.Upsample, nn.UpsamplingNearest2d,
         nn.UpsamplingBilinear2d),
        pooled,
    ),
    **dict.fromkeys(
        (nn.ZeroPad2d, nn.ReflectionPad2d, nn.ReplicationPad2d, nn.CircularPad2d, nn.ZeroPad1d),
        padded,
    ),
    **dict.fromkeys(
        (nn.Softmax, nn.LogSoftmax, nn.Softmin, nn.Softmax2d, nn.LocalResponseNorm, nn.GroupNorm,
         nn.LayerNorm, nn.RMSNorm),
        mixing,
    ),
    nn.Hardtanh: clamped,
    nn.GLU: gated,
}  # fmt: skip


def rule_of(step: Step) -> StepRule | None:
    """The rule of an operation without weights, if there is one."""
    if step.module is not None:
        if type(step.module).__name__ == DEPTH:
            return same
        kinds = [kind for kind in _BY_MODULE if isinstance(step.module, kind)]
        # The nearest one: ReLU6 is a Hardtanh, too.
        return _BY_MODULE[max(kinds, key=lambda kind: len(kind.__mro__))] if kinds else None
    if step.node.op == "call_method":
        return BY_NAME.get(str(step.node.target))
    if isinstance(step.node.target, type) and issubclass(step.node.target, tuple):
        return gathered
    name = getattr(step.node.target, "__name__", "")
    module = getattr(step.node.target, "__module__", None) or ""
    known = module.partition(".")[0] in ("", "torch", "torchvision", "_operator", "builtins")
    return BY_NAME.get(name) if known else None
