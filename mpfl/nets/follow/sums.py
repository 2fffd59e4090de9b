"""What sums and products of tensors do to labels, attention included."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from mpfl.nets.follow.axes import together
from mpfl.nets.follow.elements import not_zero, same, steep
from mpfl.nets.follow.owners import KEPT, kept, thin, varies
from mpfl.nets.follow.walk import Step
from mpfl.types import MPFLError


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
        return kept(step.result.shape)
    return step.labels(one).expand(step.result.shape)


def powered(step: Step) -> Any:
    """A power: zero stays zero, with a finite slope if the exponent is 1 or more."""
    base, exponent = step.first, step.argument(1, "exponent")
    if isinstance(base, torch.Tensor) and isinstance(exponent, int | float):
        if exponent == 0:
            return not_zero(step)
        return same(step) if exponent >= 1 else steep(step)
    for tensor in step.tensors():
        step.owners.fix(step.labels(tensor), f"{step.name} is a power of tensors")
    return kept(step.result.shape)


def filled(step: Step) -> Any:
    """A constant put in some places, the same for all channels."""
    labels, mask = step.labels(step.first), step.argument(1, "mask")
    if not _is_uniform(step, step.labels(mask), labels):
        step.owners.fix(labels, f"{step.name} fills channels")
        return kept(step.result.shape)
    return step.owners.constant(labels.expand(step.result.shape))


def _is_broadcast(few: torch.Tensor, many: torch.Tensor) -> bool:
    """Whether ``few`` has one element where ``many`` has several units."""
    for back in range(1, min(few.dim(), many.dim()) + 1):
        if few.shape[-back] == 1 and varies(many, -back):
            return True
    return any(varies(many, -back) for back in range(few.dim() + 1, many.dim() + 1))


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
        one = together(step, one, one.dim() + axis)
    other = together(step, other, other.dim() - 2)[..., :1, :]
    one = one[..., :1, :1]
    if not (one == KEPT).all() and not (other == KEPT).all():
        _name_heads(step, one)  # queries times keys, or attention times values
        _name_heads(step, other)
    if _is_broadcast(one, other):
        other = together(step, other, other.dim() - 1)
    if _is_broadcast(one, other):
        step.owners.fix(one, f"{step.name} multiplies many channels with it")
        one = torch.zeros_like(one)
    return step.owners.multiplied(one, other, step.name).expand(step.result.shape)


def attended(step: Step) -> Any:
    """``scaled_dot_product_attention``: a head goes as a whole, from query, key and value."""
    names = ("query", "key", "value")
    heads = [step.labels(step.argument(place, name)) for place, name in enumerate(names)]
    for axis in (-1, -2):
        heads = [together(step, each, each.dim() + axis) for each in heads]
    heads = [each[..., :1, :1] for each in heads]
    for other in heads[1:]:
        step.owners.tie(heads[0], other, step.name)
    _name_heads(step, heads[0])
    return step.owners.zero(heads[0]).expand(step.result.shape)


def _name_heads(step: Step, labels: torch.Tensor) -> None:
    """Hidden units that attention multiplies with each other are heads."""
    for label in thin(labels).unique():
        for unit in step.owners.writers_of(int(label)):
            if unit != -1 and step.owners.writer(unit).kind == "hidden":
                step.owners.writer(unit).kind = "heads"
