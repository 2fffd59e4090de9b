"""Small ResNets: torchvision's blocks behind a 3x3 stem, at any width."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from mpfl.nets.widths import scaled

if TYPE_CHECKING:
    from torchvision.models.resnet import BasicBlock, Bottleneck

_COUNTS = {18: (2, 2, 2, 2), 50: (3, 4, 6, 3)}


class SmallResNet(nn.Module):
    """ResNet of ``depth`` 18 (basic blocks) or 50 (bottlenecks), for pictures of 32 px and more.

    The stem's max-pool stays for pictures above 32 px, and goes for those of 32 px.
    """

    def __init__(self, depth: int, width: float, classes: int, pixels: int) -> None:
        from torchvision.models.resnet import BasicBlock, Bottleneck

        super().__init__()
        block = BasicBlock if depth == 18 else Bottleneck
        sizes = [scaled(size, width) for size in (64, 128, 256, 512)]
        inputs = sizes[0]
        self.conv1 = nn.Conv2d(3, inputs, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(inputs)
        self.maxpool = nn.MaxPool2d(3, 2, 1) if pixels > 32 else nn.Identity()
        for number, (size, count) in enumerate(zip(sizes, _COUNTS[depth], strict=True), start=1):
            stage = _stage(block, count, inputs, size, 1 if number == 1 else 2)
            self.add_module(f"layer{number}", stage)
            inputs = size * block.expansion
        self.fc = nn.Linear(inputs, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.maxpool(torch.relu(self.bn1(self.conv1(x))))
        for number in range(1, 5):
            x = self.get_submodule(f"layer{number}")(x)
        return self.fc(x.mean((2, 3)))


def _stage(
    block: type[BasicBlock] | type[Bottleneck], count: int, inputs: int, size: int, stride: int
) -> nn.Sequential:
    """``count`` blocks; the first has a conv in its shortcut if the shapes differ."""
    outputs, shortcut = size * block.expansion, None
    if stride != 1 or inputs != outputs:
        conv = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
        shortcut = nn.Sequential(conv, nn.BatchNorm2d(outputs))
    first = block(inputs, size, stride, shortcut)
    return nn.Sequential(first, *(block(outputs, size) for _ in range(count - 1)))
