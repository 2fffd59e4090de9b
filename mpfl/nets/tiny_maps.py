"""Convolutions of maps of a few pixels, trained on a CPU as one matrix product.

oneDNN's gradients of a 3x3 convolution with many channels are slow where a map has 4 or 16
pixels, as the last ones of VGG have of small pictures: the weights are most of the work, and they
are reordered for every batch. A product of all windows with all weights takes half to a quarter
of the time, and is the same function but for the last digits.
"""

from __future__ import annotations

import torch
from torch import nn

MOST_PIXELS = 16


class WindowedConv(nn.Conv2d):
    """A 3x3 convolution that multiplies its windows at once, if they are few."""

    def _conv_forward(
        self, input: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None
    ) -> torch.Tensor:
        height, width = input.shape[-2:]
        if not self.training or height * width > MOST_PIXELS or input.device.type != "cpu":
            return super()._conv_forward(input, weight, bias)
        # Channels last, as memory has them; then the nine neighbours of each pixel in a row.
        padded = nn.functional.pad(input.permute(0, 2, 3, 1), (0, 0, 1, 1, 1, 1))
        moved = [padded[:, i : i + height, j : j + width] for i in range(3) for j in range(3)]
        windows = torch.cat(moved, 3)
        rows = weight.permute(0, 2, 3, 1).reshape(self.out_channels, -1)
        return nn.functional.linear(windows, rows, bias).permute(0, 3, 1, 2)


def mend_tiny_maps(module: nn.Module) -> None:
    """Turn the 3x3 convolutions of torchvision's VGG, if ``module`` is one, into windowed ones.

    In place, and by their class alone, as in :mod:`mpfl.nets.pointwise`. Other networks keep
    their bits; evaluation computes as before.
    """
    if type(module).__module__ != "torchvision.models.vgg":
        return
    for part in module.modules():
        if (
            type(part) is nn.Conv2d
            and (part.kernel_size, part.stride, part.padding) == ((3, 3), (1, 1), (1, 1))
            and (part.dilation, part.groups) == ((1, 1), 1)
        ):
            part.__class__ = WindowedConv
