"""Batch norm of a few channels, on a CPU, in the memory order that suits it.

A pruned network's first layers have six or thirteen channels. In channels-last memory torch's
float32 batch norm is slow if their number is not a multiple of 8, as each pixel's channels then end
amid a vector: 6 channels at 32 x 32 pixels take seven times as long as 8. One plane per
channel, copied there and back, takes a third of it: the same function, but for the last digits.
"""

from __future__ import annotations

import torch
from torch import nn

VECTOR = 8
FEW = 2 * VECTOR
"""From so many channels on, the copies cost more than they save."""


class NarrowNorm(nn.BatchNorm2d):
    """A batch norm that works one channel at a time, however its input lies in memory."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        if input.device.type != "cpu" or input.dtype != torch.float32:
            return super().forward(input)
        planes = super().forward(input.contiguous())
        return planes.contiguous(memory_format=torch.channels_last)


def mend_narrow_norms(module: nn.Module) -> None:
    """Turn every batch norm of few channels, not a multiple of 8, into a :class:`NarrowNorm`.

    In place, and by its class alone, as in :mod:`mpfl.nets.pointwise`.
    """
    for part in module.modules():
        if type(part) is nn.BatchNorm2d and part.num_features < FEW and part.num_features % VECTOR:
            part.__class__ = NarrowNorm
