"""Where a network's filters are stored, and who reads them: its layout."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import TYPE_CHECKING

from torch import nn

from mpfl.filters import Layer, Layout, Reader
from mpfl.nets.settings import Prunes
from mpfl.nets.tensors import float_state
from mpfl.types import MPFLError

if TYPE_CHECKING:
    from torchvision.models.resnet import BasicBlock


def layout_of(module: nn.Module, prunes: Prunes = "filter") -> Layout:
    """Where a model's filters are stored; filters are the outputs of its conv layers.

    ``prunes="weight"`` is what the authors' released code does: a pruned filter keeps its bias
    and its batch norm, which go on training. It then puts out a constant, not nothing, so what
    reads it stays too, and no smaller network computes the same.

    Raises :class:`~mpfl.types.MPFLError`, naming the part, if filters cannot be cut out of it
    exactly: grouped convolutions, and norms that mix channels.
    """
    for path, part in module.named_modules():
        if not _is_known(part):
            raise MPFLError(
                f"{path} ({type(part).__name__}): filters cannot be cut out of this; use Conv2d "
                "without groups, BatchNorm2d with weights and statistics, Linear, and parts "
                "that have no weights"
            )
    shapes = {name: tuple(tensor.shape) for name, tensor in float_state(module).items()}
    layers, readers = _residual(module) if basic_blocks(module) else _chain(module)
    if prunes == "weight":
        layers, readers = [replace(layer, own=(layer.weight,)) for layer in layers], []
    return Layout(tuple(layers), shapes, tuple(readers))


def basic_blocks(module: nn.Module) -> list[tuple[str, BasicBlock]]:
    """torchvision's residual blocks in ``module``, with their paths, in order.

    torchvision takes a second to import. A network that has its blocks has imported it
    already; if nobody has, there are none.
    """
    resnet = sys.modules.get("torchvision.models.resnet")
    if resnet is None:
        return []
    parts = module.named_modules()
    return [(path, part) for path, part in parts if isinstance(part, resnet.BasicBlock)]


_MIXES_CHANNELS = nn.LayerNorm | nn.GroupNorm | nn.LocalResponseNorm


def _is_known(part: nn.Module) -> bool:
    """Whether a filter can be cut out of ``part``, or passes through it untouched."""
    if isinstance(part, nn.Conv2d):
        return part.groups == 1
    if isinstance(part, nn.BatchNorm2d):
        return part.affine and part.track_running_stats
    if isinstance(part, nn.Linear):
        return True
    weights = [*part.parameters(recurse=False), *part.buffers(recurse=False)]
    return not weights and not isinstance(part, _MIXES_CHANNELS)


def _layer(path: str, conv: nn.Conv2d, norm: str | None) -> Layer:
    """A conv as a layer: with the batch norm behind it, every tensor that its filters own."""
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
    # Parts that have weights, in the order in which the module lists them: that of the chain.
    parts = [
        (path, part)
        for path, part in module.named_modules()
        if isinstance(part, nn.Conv2d | nn.BatchNorm2d | nn.Linear)
    ]
    layers, readers = [], []
    for index, (path, part) in enumerate(parts):
        if not isinstance(part, nn.Conv2d):
            continue
        # A batch norm right behind the conv belongs to its filters.
        rest = parts[index + 1 :]
        norm = rest[0][0] if rest and isinstance(rest[0][1], nn.BatchNorm2d) else None
        # The next part that is no batch norm reads them.
        after = next(((p, m) for p, m in rest if not isinstance(m, nn.BatchNorm2d)), None)
        if after is None:
            raise MPFLError(f"{path}: no layer reads its filters; end the chain with a Linear")
        name, reader = after
        # A conv reads one input per filter. A linear layer behind a flattened picture reads a
        # block of them, one per pixel.
        inputs = int(reader.in_channels if isinstance(reader, nn.Conv2d) else reader.in_features)
        block, remainder = divmod(inputs, part.out_channels)
        if remainder or not block or (block > 1 and isinstance(reader, nn.Conv2d)):
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
    for path, block in basic_blocks(module):
        first, second, shortcut = f"{path}.conv1", f"{path}.conv2", f"{path}.downsample"
        layers.append(_layer(first, block.conv1, f"{path}.bn1"))
        layers.append(_layer(second, block.conv2, f"{path}.bn2"))
        # The main branch reads the stream, and its second conv reads its first.
        readers += [Reader(f"{first}.weight", stream), Reader(f"{second}.weight", (first,))]
        if block.downsample is not None:
            # The shortcut reads the stream too, and what it puts out takes the stream's place.
            layers.append(_layer(f"{shortcut}.0", block.downsample[0], f"{shortcut}.1"))
            readers.append(Reader(f"{shortcut}.0.weight", stream))
            stream = (f"{shortcut}.0",)
        # The join adds the main branch to it.
        stream = (*stream, second)
    return layers, [*readers, Reader("fc.weight", stream)]
