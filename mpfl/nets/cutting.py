"""Cut the filters of a mask out of a network: a smaller dense one, the same function.

Every conv is voted on by itself, even if a residual join adds several of them up, so the two
sides of a join may keep different channels. :class:`JoinedBlock` puts each side's channels in
their places in the sum. (Torch-Pruning's dependency graph would prune joined layers in the
same places, which is another mask.)
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from mpfl import masks
from mpfl.filters import Layout, channels, cut, cut_shapes
from mpfl.nets.tensors import float_state, load_weights
from mpfl.nets.tracing import basic_blocks, layout_of
from mpfl.types import Mask, MPFLError

if TYPE_CHECKING:
    from torchvision.models.resnet import BasicBlock


class JoinedBlock(nn.Module):
    """A residual block whose two branches keep different channels.

    ``from_shortcut`` and ``from_main`` are 0/1 matrices ``[channels of the sum, channels of
    the branch]`` that put a branch's channels in their places. Applied as a 1x1 convolution,
    such a matrix copies exactly.
    """

    from_shortcut: torch.Tensor
    from_main: torch.Tensor

    def __init__(self, block: BasicBlock, shortcut: np.ndarray, main: np.ndarray) -> None:
        super().__init__()
        self.conv1, self.bn1, self.relu = block.conv1, block.bn1, block.relu
        self.conv2, self.bn2 = block.conv2, block.bn2
        self.downsample = block.downsample
        together = np.flatnonzero(shortcut | main)
        for name, side in (("from_shortcut", shortcut), ("from_main", main)):
            # Row i, column j is 1 if channel i of the sum is the branch's j-th.
            places = together[:, None] == np.flatnonzero(side)[None, :]
            matrix = torch.from_numpy(places[:, :, None, None].astype(np.float32))
            self.register_buffer(name, matrix, persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        main = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        shortcut = x if self.downsample is None else self.downsample(x)
        sides = ((shortcut, self.from_shortcut), (main, self.from_main))
        placed = [
            side
            if len(matrix) == matrix.shape[1]  # it has every channel of the sum already
            else nn.functional.conv2d(side, matrix.to(side.dtype))
            for side, matrix in sides
        ]
        return self.relu(placed[0] + placed[1])


def skeleton(module: nn.Module, mask: Mask, layout: Layout | None = None) -> nn.Module:
    """The small network of plain torch modules, its parameters named as in ``module``.

    Its weights are not set: :func:`~mpfl.filters.cut` gives those that belong in it. Raises
    :class:`~mpfl.types.MPFLError` if the mask is another model's or empties a layer.
    """
    layout = layout or layout_of(module)
    masks.check(mask, layout)
    if empty := [name for name, bits in mask.items() if not bits.any()]:
        raise MPFLError(
            f"the mask leaves layer {empty[0]!r} without a filter, so nothing comes through it; "
            "raise the floor, or ask for less sparsity"
        )
    # The structure alone, each part with the shapes that are left to it; then memory for it.
    shapes = cut_shapes(layout, mask)
    first = next(module.parameters())
    small = _emptied(module)
    for path, part in small.named_modules():
        if isinstance(part, nn.Conv2d | nn.BatchNorm2d | nn.Linear):
            _resize(part, shapes[f"{path}.weight"])
    small = small.to_empty(device=first.device)
    # Batch norm's counters are not among the weights: they begin at 0.
    for name, buffer in small.named_buffers():
        if name.endswith("num_batches_tracked"):
            buffer.zero_()
    # A residual block adds two branches, of which each may keep other channels by now.
    readers = {reader.tensor: reader for reader in layout.readers}
    for path, block in basic_blocks(small):
        # What comes through the shortcut: all that the block reads, or its own conv's filters.
        shortcut = channels(mask, readers[f"{path}.conv1.weight"])
        if block.downsample is not None:
            shortcut = mask[f"{path}.downsample.0"]
        joined = JoinedBlock(block, shortcut, mask[f"{path}.conv2"])
        joined.training = block.training
        small.set_submodule(path, joined.to(first.device))
    return small.to(first.dtype)


def compact(module: nn.Module, mask: Mask) -> nn.Module:
    """A smaller dense network that computes what ``module`` computes with ``mask`` applied.

    In evaluation and in training: on the same pictures both give the same outputs and the
    same gradients of what is kept. Law: ``expand(weights of compact(module, m), m) ==
    apply(weights of module, m)``. Raises what :func:`skeleton` raises.
    """
    layout = layout_of(module)
    small = skeleton(module, mask, layout)
    dense = {name: tensor.cpu().numpy() for name, tensor in float_state(module).items()}
    load_weights(small, cut(dense, mask, layout))
    # Unlike w0 in a skeleton, this network has a past: its batch norms have counted batches.
    counted = dict(module.named_buffers())
    for name, buffer in small.named_buffers():
        if name.endswith("num_batches_tracked"):
            buffer.copy_(counted[name])
    return small


def macs(module: nn.Module, pixels: int, mask: Mask | None = None) -> int:
    """Multiply-accumulates of convs and linear layers per picture, after cutting.

    ``pixels`` is the height and width of the picture. Those that place channels in the sums of
    a ResNet count too, since they are computed.
    """
    from torch.utils.flop_counter import FlopCounterMode  # brings triton, which nothing else needs

    small = module if mask is None else skeleton(module, mask)
    meta = _emptied(small).eval()
    inputs = next(part for part in meta.modules() if isinstance(part, nn.Conv2d)).in_channels
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        dtype = next(meta.parameters()).dtype
        meta(torch.empty(1, inputs, pixels, pixels, device="meta", dtype=dtype))
    return counter.get_total_flops() // 2


def _emptied(module: nn.Module) -> nn.Module:
    """A copy of the structure on the meta device: the numbers can be hundreds of megabytes."""
    tensors = [*module.parameters(), *module.buffers()]
    return copy.deepcopy(module, {id(t): _like(t) for t in tensors})


def _like(tensor: torch.Tensor) -> torch.Tensor:
    empty = torch.empty_like(tensor, device="meta")
    if isinstance(tensor, nn.Parameter):
        return nn.Parameter(empty, tensor.requires_grad)
    return empty


def _resize(part: nn.Module, shape: tuple[int, ...]) -> None:
    """Give ``part`` a weight of this shape, and what goes with it; no numbers yet."""
    if isinstance(part, nn.Conv2d):
        part.out_channels, part.in_channels = shape[:2]
    elif isinstance(part, nn.Linear):
        part.out_features, part.in_features = shape
    else:
        assert isinstance(part, nn.BatchNorm2d)
        part.num_features = shape[0]
    for name in ("weight", "bias", "running_mean", "running_var"):
        old = getattr(part, name, None)
        if old is not None:
            new = torch.empty(shape if name == "weight" else shape[:1], device="meta")
            is_parameter = isinstance(old, nn.Parameter)
            setattr(part, name, nn.Parameter(new, old.requires_grad) if is_parameter else new)
