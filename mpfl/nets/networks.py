"""The networks: torchvision's VGG11 and ResNet18, adapted to small pictures, and one for digits.

Any torch module will do in their place if :func:`~mpfl.nets.tracing.layout_of` knows its parts.
torchvision takes a second to import, so that only a network that needs it does.
"""

from __future__ import annotations

import torch
from torch import nn

from mpfl.filters import Layout
from mpfl.nets.tracing import layout_of
from mpfl.types import MPFLError, one_of

# torchvision's configuration A: the filters of each conv layer, and M for a max-pool.
_VGG11 = (64, "M", 128, "M", 256, 256, "M", 512, 512, "M", 512, 512, "M")


class SmallVGG(nn.Module):
    """torchvision's VGG11 features with one linear head, for 32 px pictures.

    ``channels[i]`` is the number of filters of the i-th conv layer; each has its batch norm, unless
    ``norm`` is False.
    """

    def __init__(self, channels: list[int], classes: int, *, norm: bool = True) -> None:
        super().__init__()
        left, inputs = iter(channels), 3
        parts: list[nn.Module] = []
        for step in _VGG11:
            if step == "M":
                parts.append(nn.MaxPool2d(2, 2))
            else:
                outputs = next(left)
                conv = nn.Conv2d(inputs, outputs, 3, padding=1)
                parts += [conv, nn.BatchNorm2d(outputs)] if norm else [conv]
                parts.append(nn.ReLU(inplace=True))
                inputs = outputs
        self.features = nn.Sequential(*parts)
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

    The stem's max-pool stays for pictures above 32 px, and goes for those of 32 px.
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
        from torchvision.models.resnet import BasicBlock

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
    "vgg11-bn": [step for step in _VGG11 if isinstance(step, int)],
    "vgg11": [step for step in _VGG11 if isinstance(step, int)],
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
    """A new network; its weights are whatever torch drew.

    :func:`~mpfl.nets.start.initial_weights` draws w0 for it. ``width`` scales the filters of
    every layer; ``pixels`` is the height and width of the pictures. Raises
    :class:`~mpfl.types.MPFLError` for an unknown name, naming the nearest.
    """
    one_of("model", name, MODELS)
    if name in _FULL_WIDTH:
        channels = [_scaled(size, width) for size in _FULL_WIDTH[name]]
        if name == "digits-cnn":
            return DigitsCNN(channels, classes)
        return SmallVGG(channels, classes, norm=name == "vgg11-bn")
    if name == "resnet18":
        return SmallResNet18(width, classes, pixels)
    if width != 1.0:
        raise MPFLError(f"model {name!r} is torchvision's own; its width is 1")
    import torchvision

    return getattr(torchvision.models, name.removeprefix("torchvision-"))(num_classes=classes)


def blueprint(
    name: str,
    classes: int,
    *,
    width: float = 1.0,
    pixels: int = 32,
) -> Layout:
    """The layout of the network that :func:`build` would build, without building its weights.

    For whoever needs shapes alone, as a bill does; the weights could be half a gigabyte.
    """
    with torch.device("meta"):
        return layout_of(build(name, classes, width=width, pixels=pixels))
