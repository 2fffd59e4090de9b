"""Between torch and NumPy: a network's weights as arrays, and back."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils import _pytree as pytree

from mpfl.types import MPFLError, Weights


def float_state(module: nn.Module) -> dict[str, torch.Tensor]:
    """The tensors that travel: parameters and batch-norm statistics, no integer counters."""
    return {k: v for k, v in module.state_dict().items() if v.is_floating_point()}


def to_numpy(module: nn.Module) -> dict[str, np.ndarray]:
    """A copy of a module's weights as contiguous float32 arrays."""
    return {
        name: tensor.detach().to("cpu", torch.float32, copy=True).contiguous().numpy()
        for name, tensor in float_state(module).items()
    }


def as_they_are(module: nn.Module) -> dict[str, np.ndarray]:
    """A module's weights as arrays of their own precision; bfloat16, which NumPy lacks, as float32.

    They may share the module's memory.
    """
    arrays = {}
    for name, tensor in float_state(module).items():
        tensor = tensor.detach().cpu()
        arrays[name] = (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()
    return arrays


def load_weights(module: nn.Module, weights: Weights) -> None:
    """Copy weights into a module of the same shapes, in place.

    Raises :class:`~mpfl.types.MPFLError` if a name or a shape differs.
    """
    state = float_state(module)
    if set(state) != set(weights):
        raise MPFLError("weights are of another model: their tensors have other names")
    for name, tensor in state.items():
        if weights[name].dtype.kind in "biu":
            raise MPFLError(f"weights {name!r} are {weights[name].dtype}; give floats")
        if tensor.shape != weights[name].shape:
            raise MPFLError(
                f"weights are of another model: {name!r} is {list(weights[name].shape)}, "
                f"but must be {list(tensor.shape)}"
            )
    with torch.no_grad():
        for name, tensor in state.items():
            array = np.ascontiguousarray(weights[name]).reshape(tensor.shape)  # () became (1,)
            tensor.copy_(torch.from_numpy(array))


def tensors_in(value: Any) -> list[torch.Tensor]:
    """Every tensor in tuples, lists and dicts of them, in order."""
    return [leaf for leaf in pytree.tree_leaves(value) if isinstance(leaf, torch.Tensor)]
