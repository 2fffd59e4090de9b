"""The networks by name: torchvision's, adapted to small pictures, and others of plain torch.

Any torch module will do in their place if :func:`~mpfl.nets.tracing.layout_of` can follow it.
torchvision takes a second to import, so that only a network that needs it does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import nn

from mpfl.filters import Layout
from mpfl.nets.mobile import SmallMobileNet
from mpfl.nets.pixels import noise_pictures
from mpfl.nets.recurrent import RowReader
from mpfl.nets.residual import SmallResNet
from mpfl.nets.tracing import layout_of
from mpfl.nets.vit import SmallViT
from mpfl.nets.widths import scaled
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


_FULL_WIDTH = {
    "digits-cnn": [16, 32, 64],
    "vgg11-bn": [step for step in _VGG11 if isinstance(step, int)],
    "vgg11": [step for step in _VGG11 if isinstance(step, int)],
}
# Each of width, classes, pixels.
_SCALED: Mapping[str, Callable[[float, int, int], nn.Module]] = {
    "resnet18": partial(SmallResNet, 18),
    "resnet50": partial(SmallResNet, 50),
    "mobilenet": SmallMobileNet,
    "vit": SmallViT,
    "gru": partial(RowReader, "gru"),
    "lstm": partial(RowReader, "lstm"),
}
MODELS = (*_FULL_WIDTH, *_SCALED, "torchvision-vgg11", "torchvision-resnet18")


def build(
    name: str,
    classes: int,
    *,
    width: float = 1.0,
    pixels: int = 32,
) -> nn.Module:
    """A new network; its weights are whatever torch drew.

    :func:`~mpfl.nets.start.initial_weights` draws w0 for it. ``width`` scales the filters of
    every layer, or its heads or hidden units; ``pixels`` is the height and width of the pictures.
    Raises :class:`~mpfl.types.MPFLError` for an unknown name, naming the nearest.
    """
    one_of("model", name, MODELS)
    if name in _FULL_WIDTH:
        channels = [scaled(size, width) for size in _FULL_WIDTH[name]]
        if name == "digits-cnn":
            return DigitsCNN(channels, classes)
        return SmallVGG(channels, classes, norm=name == "vgg11-bn")
    if name in _SCALED:
        return _SCALED[name](width, classes, pixels)
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
    units: str | None = None,
) -> Layout:
    """The layout of the network that :func:`build` would build, without building its weights.

    For whoever needs shapes alone, as a bill does; the weights could be half a gigabyte.
    """
    with torch.device("meta"):
        module = build(name, classes, width=width, pixels=pixels)
    pictures = noise_pictures(1 if name == "digits-cnn" else 3, pixels, pixels)
    return layout_of(module, inputs=pictures, units=units, verify=False)
