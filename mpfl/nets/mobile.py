"""A small MobileNetV2 (Sandler et al. 2018): torchvision's inverted residuals, depthwise convs."""

from __future__ import annotations

import torch
from torch import nn

from mpfl.nets.widths import scaled

# torchvision's table: how many times wider a block is inside, its outputs, how many of them, the
# stride of the first.
_STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


class SmallMobileNet(nn.Module):
    """torchvision's MobileNetV2 at any width, behind a stem that keeps 32 px pictures' size."""

    def __init__(self, width: float, classes: int, pixels: int) -> None:
        from torchvision.models.mobilenetv2 import InvertedResidual

        super().__init__()
        channels, last = scaled(32, width), scaled(1280, width)
        parts = _conv(3, channels, 3, stride=2 if pixels > 32 else 1)
        for expansion, size, count, stride in _STAGES:
            outputs = scaled(size, width)
            for number in range(count):
                step = stride if number == 0 else 1
                parts.append(InvertedResidual(channels, outputs, step, expansion))
                channels = outputs
        self.features = nn.Sequential(*parts, *_conv(channels, last, 1))
        self.classifier = nn.Linear(last, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.features(x).mean((2, 3)))


def _conv(inputs: int, outputs: int, kernel: int, stride: int = 1) -> list[nn.Module]:
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
    return [conv, nn.BatchNorm2d(outputs), nn.ReLU6(inplace=True)]
