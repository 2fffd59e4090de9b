"""Which networks cannot be followed whatever they compute, each refused by name."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter
from torch.optim.swa_utils import AveragedModel

from mpfl.nets.follow.walk import Walk
from mpfl.nets.placing import FewerHeads, Picked, Placed, UnevenRecurrent
from mpfl.nets.tensors import tensors_in
from mpfl.types import MPFLError

_WRAPPERS = (nn.DataParallel, nn.parallel.DistributedDataParallel, AveragedModel)
"""What holds a network as its ``module`` and adds nothing that is to be cut."""


COMPILED = "OptimizedModule"
"""What torch.compile makes of a module; its name, as its class takes seconds to import."""


def refuse_before_a_walk(module: nn.Module) -> None:
    """What torch.fx would not see."""
    _refuse_worked_out(module)
    _refuse_hooks(module)
    _refuse_two_names(module)
    for path, part in module.named_modules():
        if isinstance(part, Placed | Picked | FewerHeads | UnevenRecurrent):
            raise MPFLError(
                f"{path}: units have been cut out of this network, and what is left cannot be "
                "followed again; cut the whole network, with a mask that keeps what both keep"
            )


def refuse_after_a_walk(module: nn.Module, walk: Walk) -> None:
    """Weights that forward has not read, or that are not stored."""
    _refuse_the_unused(module, walk)
    _refuse_the_unstored(module, walk)


def refuse_other_kinds(module: Any) -> None:
    """Modules that are not of torch's own kinds, with all their parameters."""
    if not isinstance(module, nn.Module):
        what = repr(module) if isinstance(module, type) else type(module).__name__
        raise MPFLError(f"{what} is no network; give a torch module, an instance of its class")
    for path, part in module.named_modules():
        where = f"{path or 'the network'} is"
        if isinstance(part, torch.jit.ScriptModule):
            raise MPFLError(f"{where} compiled by torch.jit; give the module it was made of")
        if type(part).__name__ == COMPILED:
            raise MPFLError(f"{where} compiled by torch.compile; give the module it was made of")
        if isinstance(part, _WRAPPERS):
            raise MPFLError(f"{where} wrapped in {type(part).__name__}; give its .module")
    for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
        if isinstance(tensor, UninitializedParameter | UninitializedBuffer):
            raise MPFLError(f"{name}: has no shape yet; run one batch through the network first")


def _refuse_hooks(module: nn.Module) -> None:
    """What a hook does to a tensor stands in no graph."""
    for path, part in module.named_modules():
        if part._forward_hooks or part._forward_pre_hooks:
            raise MPFLError(
                f"{path or type(part).__name__}: has a forward hook, and what it does to channels "
                "cannot be followed; remove it, and register it again on the smaller network"
            )


def _refuse_worked_out(module: nn.Module) -> None:
    """A weight that a hook works out before every forward, or a result that was kept."""
    for path, part in module.named_modules():
        for name, value in vars(part).items():
            kept = (
                tensors_in(value) if isinstance(value, torch.Tensor | list | tuple | dict) else []
            )
            if name.startswith("_") or not any(each.grad_fn is not None for each in kept):
                continue
            place = f"{path}.{name}".lstrip(".")
            if any(own.startswith(f"{name}_") for own in part._parameters):
                raise _worked_out(place)
            raise MPFLError(
                f"{place}: holds what an earlier forward computed, which cannot be copied; delete "
                "it first"
            )


def _refuse_two_names(module: nn.Module) -> None:
    """One tensor under two names would be cut by two masks."""
    names: dict[int, str] = {}
    every = [
        *module.named_parameters(remove_duplicate=False),
        *module.named_buffers(remove_duplicate=False),
    ]
    for name, tensor in every:
        if (first := names.setdefault(id(tensor), name)) != name:
            raise MPFLError(
                f"{name}: is the same tensor as {first}, so two masks would cut it; give the layer "
                "one name, which forward may use as often as it likes"
            )


def _refuse_the_unused(module: nn.Module, walk: Walk) -> None:
    for name, _ in module.named_parameters():
        parents = {name.rsplit(".", cut)[0] for cut in range(name.count(".") + 1)}
        if not parents & walk.used:
            raise MPFLError(
                f"{name.rpartition('.')[0] or name}: forward never uses it, so no unit of it is "
                "read; remove it from the network"
            )


def _refuse_the_unstored(module: nn.Module, walk: Walk) -> None:
    """A weight that is worked out from others cannot be cut."""
    stored = module.state_dict()
    for place in walk.places.values():
        if place.tensor not in stored:
            raise _worked_out(place.tensor)


def _worked_out(tensor: str) -> MPFLError:
    return MPFLError(
        f"{tensor}: is not stored but worked out, by a parametrization or a hook; make it a "
        "parameter first, with torch.nn.utils.parametrize.remove_parametrizations, "
        "torch.nn.utils.remove_weight_norm or, after torch's own pruning, "
        "torch.nn.utils.prune.remove"
    )
