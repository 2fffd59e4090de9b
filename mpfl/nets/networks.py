"""The networks, by torchvision's own definitions, adapted to small pictures where needed.

A model gives mpfl three things: a torch module, the :class:`~mpfl.filters.Layout` that
says where its filters are stored, and its random initialisation as a function of a seed.
"""

from __future__ import annotations

import difflib

import torch
import torchvision
from torch import nn
from torchvision.models.resnet import BasicBlock
from torchvision.models.vgg import cfgs, make_layers

from mpfl.filters import Layout
from mpfl.nets.tracing import layout_of
from mpfl.types import MPFLError


class SmallVGG(nn.Module):
    """torchvision's VGG11-BN features with one linear head, for 32 px pictures.

    ``channels[i]`` is the number of filters of the i-th conv layer.
    """

    def __init__(self, channels: list[int], classes: int) -> None:
        super().__init__()
        each = iter(channels)
        plan = [step if step == "M" else next(each) for step in cfgs["A"]]
        self.features = make_layers(plan, batch_norm=True)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(channels[-1], classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.avgpool(self.features(x)).flatten(1))


class DigitsCNN(nn.Module):
    """Three conv layers for 8x8 digits: trains in seconds, used by the notebooks and tests."""

    def __init__(self, channels: list[int], classes: int) -> None:
        super().__init__()
        first, second, third = channels
        self.features = nn.Sequential(
            *self._conv(1, first),
            *self._conv(first, second),
            nn.MaxPool2d(2),
            *self._conv(second, third),
        )
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(third, classes)

    @staticmethod
    def _conv(inputs: int, outputs: int) -> tuple[nn.Module, ...]:
        return nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.avgpool(self.features(x)).flatten(1))


class SmallResNet18(nn.Module):
    """torchvision's ResNet18 blocks behind a 3x3 stem, at any width.

    At 64 px the stem's max-pool stays, at 32 px it goes.
    """

    def __init__(self, width: float, classes: int, pixels: int) -> None:
        super().__init__()
        sizes = [_scaled(size, width) for size in (64, 128, 256, 512)]
        self.conv1 = nn.Conv2d(3, sizes[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(sizes[0])
        self.maxpool = nn.MaxPool2d(3, 2, 1) if pixels > 32 else nn.Identity()
        inputs = [sizes[0], *sizes[:-1]]
        for number, (before, size) in enumerate(zip(inputs, sizes, strict=True), start=1):
            self.add_module(f"layer{number}", self._stage(before, size, 1 if number == 1 else 2))
        self.fc = nn.Linear(sizes[-1], classes)

    @staticmethod
    def _stage(inputs: int, outputs: int, stride: int) -> nn.Sequential:
        shortcut = None
        if stride != 1:
            conv = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
            shortcut = nn.Sequential(conv, nn.BatchNorm2d(outputs))
        first = BasicBlock(inputs, outputs, stride, shortcut)
        return nn.Sequential(first, BasicBlock(outputs, outputs))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.maxpool(torch.relu(self.bn1(self.conv1(x))))
        for number in range(1, 5):
            x = self.get_submodule(f"layer{number}")(x)
        return self.fc(x.mean((2, 3)))


_FULL_WIDTH = {
    "digits-cnn": [16, 32, 64],
    "vgg11-bn": [step for step in cfgs["A"] if step != "M"],
}
MODELS = (*_FULL_WIDTH, "resnet18", "torchvision-vgg11", "torchvision-resnet18")


def _scaled(filters: int, width: float) -> int:
    return max(1, round(filters * width))


def build(
    name: str,
    classes: int,
    *,
    width: float = 1.0,
    pixels: int = 32,
) -> nn.Module:
    """A freshly made module; its weights are whatever torch drew (see :func:`initial_weights`).

    Raises :class:`~mpfl.types.MPFLError` for an unknown name, naming the nearest.
    """
    if name in _FULL_WIDTH:
        channels = [_scaled(size, width) for size in _FULL_WIDTH[name]]
        return (DigitsCNN if name == "digits-cnn" else SmallVGG)(channels, classes)
    if name == "resnet18":
        return SmallResNet18(width, classes, pixels)
    if name.startswith("torchvision-") and name in MODELS:
        if width != 1.0:
            raise MPFLError(f"model {name!r} is torchvision's own; its width is 1")
        return getattr(torchvision.models, name.removeprefix("torchvision-"))(num_classes=classes)
    nearest = difflib.get_close_matches(name, MODELS, 1, 0)[0]
    raise MPFLError(f"no model {name!r}; did you mean {nearest!r}? There are {', '.join(MODELS)}")


def blueprint(
    name: str,
    classes: int,
    *,
    width: float = 1.0,
    pixels: int = 32,
) -> Layout:
    """The layout of a network that is not made: :func:`build`'s, without any weights.

    For whoever needs shapes alone, as a bill does; the weights could be half a gigabyte.
    """
    with torch.device("meta"):
        return layout_of(build(name, classes, width=width, pixels=pixels))
