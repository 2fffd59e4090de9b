"""How the slow twin holds a mask: at full shapes, with zeros written back after every step."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from mpfl import masks
from mpfl.filters import Layout, apply
from mpfl.types import Mask

Held = list[tuple[torch.Tensor, torch.Tensor]]
"""Tensors of a network, each with its 0/1 factor."""


def held_tensors(module: nn.Module, mask: Mask, layout: Layout) -> Held:
    """Every tensor of ``module`` that ``mask`` touches, with its factor: 0 where pruned."""
    if masks.sparsity(mask) == 0:
        return []
    tensors = dict(module.named_parameters()) | dict(module.named_buffers())
    ones = {name: np.ones(shape, np.float32) for name, shape in layout.shapes.items()}
    return [
        (tensors[name], torch.from_numpy(factor).to(tensors[name].device))
        for name, factor in apply(ones, mask, layout).items()
        if not factor.all()
    ]


def hold(held: Held) -> None:
    """Set what is pruned to exactly zero, whatever the optimiser's memory did to it."""
    with torch.no_grad():
        for tensor, factor in held:
            tensor.mul_(factor)
