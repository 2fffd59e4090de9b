"""Cut the units of a mask out of a network: a smaller dense one, the same function.

Every layer gets the weights that are left to it. If nothing else is needed, the smaller network is
the same torch modules with less in them. Where terms of a sum keep different channels, or forward
names a size that has changed, its steps are written anew (:mod:`mpfl.nets.repair`).
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase as NormBase

from mpfl import masks
from mpfl.filters import Layout, cut, cut_shapes
from mpfl.nets.follow.network import channels_read, first_line, without_numbers
from mpfl.nets.layouts import followed, untried_layout
from mpfl.nets.placing import FewerHeads, UnevenRecurrent
from mpfl.nets.refusals import refuse_other_kinds
from mpfl.nets.repair import repaired
from mpfl.nets.tensors import as_they_are, float_state, load_weights
from mpfl.types import Mask, MPFLError


def skeleton(module: nn.Module, mask: Mask, layout: Layout | None = None) -> nn.Module:
    """The small network, its parameters named as in ``module``.

    Its weights are not set: :func:`~mpfl.filters.cut` gives those that belong in it. Raises
    :class:`~mpfl.types.MPFLError` if the mask is another model's or empties a layer.
    """
    refuse_other_kinds(module)
    layout = layout or _usual_layout(module, mask)
    masks.check(mask, layout)
    if any(layer.grid for layer in layout.layers):
        raise MPFLError(
            "a mask of kernels or single weights leaves no smaller network; apply it to the "
            "weights (mpfl.filters.apply), or vote on filters"
        )
    if empty := [name for name, bits in mask.items() if not bits.any()]:
        raise MPFLError(
            f"the mask leaves layer {empty[0]!r} without a filter, so nothing comes through it; "
            "raise the floor, or ask for less sparsity"
        )
    # The structure alone, each part with the shapes that are left to it; then memory for it.
    shapes = cut_shapes(layout, mask)
    small = without_numbers(module)
    for path, part in list(small.named_modules()):
        _resize(small, path, part, shapes)
    walk = followed(module, layout.example or None)
    small = repaired(small, walk, layout, mask)
    placed = {name: b for name, b in small.named_buffers() if b.device.type != "meta"}
    small = small.to_empty(device=next(module.parameters()).device)
    _fill_constants(small, dict(module.named_buffers()) | placed)
    return small


def _usual_layout(module: nn.Module, mask: Mask) -> Layout:
    """The layout of a network that is asked for nothing in particular, if the mask is of it."""
    try:
        layout = untried_layout(module)
        masks.check(mask, layout)
    except MPFLError as error:
        raise MPFLError(f"{error}; or give the layout= that the mask was made for") from error
    return layout


def _fill_constants(small: nn.Module, constants: dict[str, torch.Tensor]) -> None:
    """Give ``small`` the numbers that are not weights, such as tables of positions.

    Batch norm's counters begin at 0.
    """
    weights = float_state(small)
    for name, buffer in small.named_buffers():
        if name.endswith("num_batches_tracked"):
            buffer.zero_()
        elif name not in weights and name in constants:
            buffer.copy_(constants[name])


def compact(module: nn.Module, mask: Mask, layout: Layout | None = None) -> nn.Module:
    """A smaller dense network that computes what ``module`` computes with ``mask`` applied.

    In evaluation and in training: on the same pictures both give the same outputs and the
    same gradients of what is kept. Law: ``expand(weights of compact(module, m), m) ==
    apply(weights of module, m)``. ``layout`` is that of ``module``, if it is known
    already. Raises what :func:`skeleton` raises.
    """
    layout = layout or _usual_layout(module, mask)
    small = skeleton(module, mask, layout)
    if empty := [name for name, each in float_state(module).items() if each.is_meta]:
        raise MPFLError(f"{empty[0]}: has no numbers to cut (it is on the meta device); load them")
    load_weights(small, cut(as_they_are(module), mask, layout))
    # Unlike w0 in a skeleton, this network has a past: its batch norms have counted batches.
    counted = dict(module.named_buffers())
    for name, buffer in small.named_buffers():
        if name.endswith("num_batches_tracked"):
            buffer.copy_(counted[name])
    return small


def macs(
    module: nn.Module,
    pixels: int,
    mask: Mask | None = None,
    *,
    channels: int | None = None,
    layout: Layout | None = None,
) -> int:
    """Multiply-accumulates per picture, after cutting.

    ``pixels`` is the height and width of the picture, ``channels`` what the network reads, if no
    conv of it says so, ``layout`` that of the mask, if it is not the usual one. Layers that place
    channels in a sum count too, since they are computed.
    """
    from torch.utils.flop_counter import FlopCounterMode  # brings triton, which nothing else needs

    small = module if mask is None else skeleton(module, mask, layout)
    meta = without_numbers(small).eval()
    reasons = []
    for count in [channels] if channels else channels_read(meta):
        picture = torch.empty(1, count, pixels, pixels, device="meta")
        picture = picture.to(next(meta.parameters()).dtype)
        try:
            with FlopCounterMode(display=False) as counter, torch.no_grad():
                meta(picture)
        except Exception as error:  # whatever a forward may raise
            reasons.append(first_line(error))
        else:
            return counter.get_total_flops() // 2
    raise MPFLError(
        f"macs: {type(module).__name__} does not read pictures of {pixels} x {pixels} pixels "
        f"({(reasons or ['it has no Conv2d'])[0]}); give channels=, or pixels that it takes"
    )


def _resize(
    root: nn.Module, path: str, part: nn.Module, shapes: dict[str, tuple[int, ...]]
) -> None:
    """Give ``part`` the tensors that are left to it, without numbers, and what goes with them."""
    changed = False
    for name, old in [*part.named_parameters(recurse=False), *part.named_buffers(recurse=False)]:
        shape = shapes.get(f"{path}.{name}".lstrip("."))
        if shape is not None and tuple(old.shape) != shape:
            new, changed = torch.empty(shape, device="meta", dtype=old.dtype), True
            is_parameter = isinstance(old, nn.Parameter)
            setattr(part, name, nn.Parameter(new, old.requires_grad) if is_parameter else new)
    if isinstance(part, nn.MultiheadAttention):
        if changed:
            root.set_submodule(path, FewerHeads(part))
    elif isinstance(part, nn.RNNBase):
        if changed:
            _resize_recurrent(root, path, part)
    elif isinstance(part, nn.Linear):
        part.out_features, part.in_features = part.weight.shape
    elif isinstance(part, nn.Conv1d | nn.Conv2d | nn.Conv3d):
        depthwise = part.in_channels == part.groups > 1
        multiple = part.out_channels // part.in_channels
        part.out_channels, per_group = part.weight.shape[:2]
        if depthwise:  # as many groups as channels are left
            part.groups = part.out_channels // multiple
        part.in_channels = per_group * part.groups
    elif isinstance(part, nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d):
        part.in_channels, part.out_channels = part.weight.shape[:2]
    elif isinstance(part, NormBase):
        numbers = part.running_mean if part.weight is None else part.weight
        part.num_features = part.num_features if numbers is None else len(numbers)
    elif isinstance(part, nn.PReLU):
        part.num_parameters = part.weight.numel()


def _resize_recurrent(root: nn.Module, path: str, part: nn.RNNBase) -> None:
    """torch's own, if all its layers and directions are left with one size."""
    weights = {name: weight for name, weight in part.named_parameters() if weight.dim() > 1}
    sizes = {weight.shape[1] for name, weight in weights.items() if "_hh_" in name}
    if len(sizes) > 1:
        root.set_submodule(path, UnevenRecurrent(part))
        return
    part.hidden_size, part.input_size = sizes.pop(), weights["weight_ih_l0"].shape[1]
    part._init_flat_weights()
