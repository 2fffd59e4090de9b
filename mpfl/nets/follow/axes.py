"""Axes along which units vary, and what an operation may ask of them."""

from __future__ import annotations

import torch

from mpfl.nets.follow.owners import kept, varies
from mpfl.nets.follow.walk import Step


def one_along(step: Step, labels: torch.Tensor, axis: int) -> torch.Tensor:
    """The labels of the first index of ``axis``, with which all others are tied."""
    first = labels.narrow(axis, 0, 1)
    if varies(labels, axis):
        step.owners.tie(labels, first.expand(labels.shape), step.name)
    return first


def together(step: Step, labels: torch.Tensor, axis: int) -> torch.Tensor:
    """The same labels, where all that lies along ``axis`` goes as a whole, or must all be there.

    As a whole if there are several of them, as there are heads; if it is all channels, it stays.
    """
    if not varies(labels, axis):
        return labels
    if any(varies(labels, other) for other in range(labels.dim()) if other != axis):
        return one_along(step, labels, axis).expand(labels.shape)
    step.owners.fix(labels, f"{step.name} mixes channels")
    return kept(labels.shape)
