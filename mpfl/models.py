"""The networks, by torchvision's own definitions, adapted to small pictures where needed.

A model gives mpfl three things: a torch module, the :class:`~mpfl.filters.Layout` that
says where its filters are stored, and its random initialisation as a function of a seed.
"""

from __future__ import annotations

import difflib
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import safetensors.numpy
import torch
import torchvision
from safetensors import SafetensorError
from torch import nn
from torchvision.models.resnet import BasicBlock
from torchvision.models.vgg import cfgs, make_layers

from mpfl.filters import Layer, Layout, Reader
from mpfl.seeds import rng_for
from mpfl.types import MPFLError, Weights


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


def float_state(module: nn.Module) -> dict[str, torch.Tensor]:
    """The tensors that travel: parameters and batch-norm statistics, no integer counters."""
    return {k: v for k, v in module.state_dict().items() if v.is_floating_point()}


def to_numpy(module: nn.Module) -> dict[str, np.ndarray]:
    """A copy of a module's weights as contiguous float32 arrays."""
    return {
        name: tensor.detach().to("cpu", torch.float32, copy=True).contiguous().numpy()
        for name, tensor in float_state(module).items()
    }


def load_weights(module: nn.Module, weights: Weights) -> None:
    """Copy weights into a module of the same shapes, in place; raises where they do not fit."""
    state = float_state(module)
    if set(state) != set(weights):
        raise MPFLError("weights are of another model: their tensors have other names")
    for name, tensor in state.items():
        if tensor.shape != weights[name].shape:
            raise MPFLError(
                f"weights are of another model: {name!r} is {list(weights[name].shape)}, "
                f"but must be {list(tensor.shape)}"
            )
    with torch.no_grad():
        for name, tensor in state.items():
            tensor.copy_(torch.from_numpy(np.ascontiguousarray(weights[name])))


def initial_weights(module: nn.Module, seed: int) -> dict[str, np.ndarray]:
    """w0 as torchvision draws it for VGG and ResNet, but from ``seed`` alone, by numpy.

    Conv: normal, variance 2 / fan-out (He et al. 2015); batch norm: scale 1, shift 0;
    linear: normal with standard deviation 0.01; biases 0. Each tensor has a stream of its own.
    """
    weights = {k: np.zeros(tuple(v.shape), np.float32) for k, v in float_state(module).items()}
    for path, part in module.named_modules():
        if isinstance(part, nn.Conv2d):
            fan_out = part.out_channels * part.kernel_size[0] * part.kernel_size[1]
            deviation = np.sqrt(2 / fan_out)
        elif isinstance(part, nn.Linear):
            deviation = 0.01
        elif isinstance(part, nn.BatchNorm2d):
            weights[f"{path}.weight"][:] = weights[f"{path}.running_var"][:] = 1
            continue
        else:
            continue
        rng = rng_for(seed, "w0", path)
        shape = weights[f"{path}.weight"].shape
        weights[f"{path}.weight"] = (deviation * rng.standard_normal(shape)).astype(np.float32)
    return weights


def _head(module: nn.Module) -> tuple[str, nn.Linear]:
    """The last linear layer, which says the class, and its path."""
    return [(p, m) for p, m in module.named_modules() if isinstance(m, nn.Linear)][-1]


def fresh_head(module: nn.Module, weights: Weights, rng: np.random.Generator) -> Weights:
    """``weights`` with the last linear layer drawn anew, as torch draws a new ``nn.Linear``.

    Weight and bias are uniform within ``1 / sqrt(fan-in)`` of 0; every other tensor is the
    one given, not a copy.
    """
    path, head = _head(module)
    bound = 1 / np.sqrt(weights[f"{path}.weight"].shape[1])
    drawn = {
        f"{path}.{name}": rng.uniform(-bound, bound, tuple(tensor.shape)).astype(np.float32)
        for name, tensor in head.named_parameters()
    }
    return {**weights, **drawn}


def pretrained_weights(name: str, module: nn.Module, source: str) -> dict[str, np.ndarray]:
    """w0 from somewhere else: ``"torchvision"`` (ImageNet weights) or a safetensors file.

    Where the head, the last linear layer, is of another shape (another number of classes), it
    keeps what ``module`` holds. Raises :class:`~mpfl.types.MPFLError` where the weights cannot be
    had or are of another model.
    """
    weights = to_numpy(module)
    if source == "torchvision":
        if not name.startswith("torchvision-"):
            raise MPFLError(f"torchvision has no weights for {name!r}; use torchvision-vgg11")
        try:
            found = torchvision.models.get_model(
                name.removeprefix("torchvision-"), weights="DEFAULT"
            )
        except (OSError, RuntimeError) as error:  # no network; a file damaged on the way
            raise MPFLError(
                f"torchvision's weights for {name!r} could not be downloaded ({error}); "
                "set w0 to a safetensors file that holds them, or to 'random'"
            ) from error
        loaded = to_numpy(found)
    else:
        path = Path(source)
        if not path.is_file():
            raise MPFLError(f"w0: no file {source!r}; give 'random', 'torchvision' or a file")
        try:
            loaded = safetensors.numpy.load_file(path)
        except SafetensorError as error:
            raise MPFLError(f"w0: {source!r} is no safetensors file ({error})") from None
    fitting = {k: v for k, v in loaded.items() if k in weights and v.shape == weights[k].shape}
    head, _ = _head(module)
    for tensor, array in weights.items():
        if tensor not in fitting and tensor.rpartition(".")[0] != head:
            there = list(loaded[tensor].shape) if tensor in loaded else "missing"
            raise MPFLError(
                f"w0: {tensor!r} is {there} in {source!r} and {list(array.shape)} in {name!r}; "
                "were they of another model, or of another width?"
            )
    return weights | {name: array.astype(np.float32) for name, array in fitting.items()}


Prunes = Literal["filter", "weight"]
"""What a pruned filter loses: all of it, or its conv weight alone."""


def layout_of(module: nn.Module, prunes: Prunes = "filter") -> Layout:
    """Where a model's filters are stored; filters are the outputs of its conv layers.

    ``prunes="weight"``, as the authors' released code: a pruned filter keeps its bias and its
    batch norm, which go on training. It then puts out a constant, not nothing, so what reads
    it stays too, and no smaller network computes the same.

    Raises :class:`~mpfl.types.MPFLError`, naming the part, for what a filter cannot be cut
    out of exactly: grouped convolutions, and norms that mix channels.
    """
    for path, part in module.named_modules():
        if not _is_known(part):
            raise MPFLError(
                f"{path} ({type(part).__name__}): filters cannot be cut out of this; use Conv2d "
                "without groups, BatchNorm2d with weights and statistics, Linear, and parts "
                "that have no weights"
            )
    shapes = {name: tuple(tensor.shape) for name, tensor in float_state(module).items()}
    residual = any(isinstance(part, BasicBlock) for part in module.modules())
    layers, readers = _residual(module) if residual else _chain(module)
    if prunes == "weight":
        layers, readers = [replace(layer, own=(layer.weight,)) for layer in layers], []
    return Layout(tuple(layers), shapes, tuple(readers))


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


_MIXES_CHANNELS = nn.LayerNorm | nn.GroupNorm | nn.LocalResponseNorm


def _is_known(part: nn.Module) -> bool:
    if isinstance(part, nn.Conv2d):
        return part.groups == 1
    if isinstance(part, nn.BatchNorm2d):
        return part.affine and part.track_running_stats
    if isinstance(part, nn.Linear):
        return True
    weights = [*part.parameters(recurse=False), *part.buffers(recurse=False)]
    return not weights and not isinstance(part, _MIXES_CHANNELS)


def _layer(path: str, conv: nn.Conv2d, norm: str | None) -> Layer:
    own = [f"{path}.weight"] + ([f"{path}.bias"] if conv.bias is not None else [])
    if norm is not None:
        own += [f"{norm}.{part}" for part in ("weight", "bias", "running_mean", "running_var")]
    return Layer(
        path,
        conv.out_channels,
        f"{path}.weight",
        tuple(own),
        None if norm is None else f"{norm}.weight",
        None if norm is None else f"{norm}.bias",
    )


def _chain(module: nn.Module) -> tuple[list[Layer], list[Reader]]:
    """A chain: each conv is read by the next conv or linear layer, and by nothing else."""
    parts = [
        (path, part)
        for path, part in module.named_modules()
        if isinstance(part, nn.Conv2d | nn.BatchNorm2d | nn.Linear)
    ]
    layers, readers = [], []
    for index, (path, part) in enumerate(parts):
        if not isinstance(part, nn.Conv2d):
            continue
        rest = parts[index + 1 :]
        norm = rest[0][0] if rest and isinstance(rest[0][1], nn.BatchNorm2d) else None
        after = next(((p, m) for p, m in rest if not isinstance(m, nn.BatchNorm2d)), None)
        if after is None:
            raise MPFLError(f"{path}: no layer reads its filters; end the chain with a Linear")
        name, reader = after
        inputs = int(reader.in_channels if isinstance(reader, nn.Conv2d) else reader.in_features)
        block, rest_of_it = divmod(inputs, part.out_channels)
        if rest_of_it or not block or (block > 1 and isinstance(reader, nn.Conv2d)):
            raise MPFLError(
                f"{name}: reads {inputs} channels where {path} before it has {part.out_channels}; "
                "cutting knows chains of layers, and ResNets of BasicBlocks"
            )
        layers.append(_layer(path, part, norm))
        readers.append(Reader(f"{name}.weight", (path,), block))
    return layers, readers


def _residual(module: nn.Module) -> tuple[list[Layer], list[Reader]]:
    """A ResNet: a stem, BasicBlocks, a linear head.

    Inside a block conv1 is read by conv2. What flows between blocks is a sum: ``stream``
    names the layers whose outputs it adds up.
    """
    stem = module.get_submodule("conv1")
    assert isinstance(stem, nn.Conv2d)
    layers, readers = [_layer("conv1", stem, "bn1")], []
    stream: tuple[str, ...] = ("conv1",)
    for path, block in module.named_modules():
        if not isinstance(block, BasicBlock):
            continue
        first, second, shortcut = f"{path}.conv1", f"{path}.conv2", f"{path}.downsample"
        layers.append(_layer(first, block.conv1, f"{path}.bn1"))
        layers.append(_layer(second, block.conv2, f"{path}.bn2"))
        readers += [Reader(f"{first}.weight", stream), Reader(f"{second}.weight", (first,))]
        if block.downsample is not None:
            layers.append(_layer(f"{shortcut}.0", block.downsample[0], f"{shortcut}.1"))
            readers.append(Reader(f"{shortcut}.0.weight", stream))
            stream = (f"{shortcut}.0",)
        stream = (*stream, second)
    return layers, [*readers, Reader("fc.weight", stream)]
