"""The weights that a part of a network starts from, by its kind, drawn by NumPy.

Each has the distribution that torch draws for it, or torchvision for the network it stands in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

import numpy as np
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear

from mpfl.seeds import Rng

Drawn = dict[str, np.ndarray]
"""Tensors of one part, by their names in it."""

ZERO = ("bias", "in_proj_bias", "running_mean")
"""What is zero unless a part draws it."""

_Norm = _BatchNorm | _InstanceNorm | nn.LayerNorm | nn.GroupNorm | nn.RMSNorm
_CONV_NET = nn.Conv2d | nn.BatchNorm2d | nn.Linear


def is_conv_net(parts: Iterable[nn.Module]) -> bool:
    """Whether what has weights is Conv2d, BatchNorm2d and Linear, with one Conv2d at least."""
    weighted = [part for part in parts if next(part.parameters(recurse=False), None) is not None]
    known = all(isinstance(part, _CONV_NET) for part in weighted)
    return known and any(isinstance(part, nn.Conv2d) for part in weighted)


def _conv(part: nn.Conv1d | nn.Conv2d | nn.Conv3d, rng: Rng) -> Drawn:
    """Normal, variance 2 / fan-out (He et al. 2015)."""
    fan_out = part.out_channels * int(np.prod(part.kernel_size))
    return {"weight": np.sqrt(2 / fan_out) * rng.standard_normal(part.weight.shape)}


def _patches(part: nn.Conv2d, rng: Rng) -> Drawn:
    """A conv that cuts a picture into patches: normal, variance 1 / fan-in: torchvision's ViT."""
    fan_in = part.weight[0].numel()
    return {"weight": np.sqrt(1 / fan_in) * rng.standard_normal(part.weight.shape)}


def _small_linear(part: nn.Linear, rng: Rng) -> Drawn:
    """Normal, standard deviation 0.01: torchvision's heads of VGG and MobileNet."""
    return {"weight": 0.01 * rng.standard_normal(part.weight.shape)}


def _linear(part: nn.Linear, rng: Rng) -> Drawn:
    """Uniform, variance 2 / (fan-in + fan-out) (Glorot & Bengio 2010): torchvision's ViT."""
    bound = np.sqrt(6 / (part.in_features + part.out_features))
    return {"weight": rng.uniform(-bound, bound, part.weight.shape)}


def _projection(part: nn.Linear, rng: Rng) -> Drawn:
    """The last layer of ``nn.MultiheadAttention``: uniform within 1 / sqrt(fan-in) of 0."""
    bound = 1 / np.sqrt(part.in_features)
    return {"weight": rng.uniform(-bound, bound, part.weight.shape)}


def _attention(part: nn.MultiheadAttention, rng: Rng) -> Drawn:
    """Queries, keys and values: uniform, variance 2 / (fan-in + fan-out); ``bias_k`` normal."""
    drawn = {}
    for name, tensor in part.named_parameters(recurse=False):
        rows, columns = tensor.shape[0], tensor.shape[-1]
        if name in ("bias_k", "bias_v"):  # [1, 1, size]: torch takes both fans to be the size
            drawn[name] = np.sqrt(1 / columns) * rng.standard_normal(tensor.shape)
        elif name != "in_proj_bias":
            bound = np.sqrt(6 / (rows + columns))
            drawn[name] = rng.uniform(-bound, bound, tensor.shape)
    return drawn


def _recurrent(part: nn.RNNBase, rng: Rng) -> Drawn:
    """Weights and biases: uniform within 1 / sqrt(hidden units) of 0."""
    bound = 1 / np.sqrt(part.hidden_size)
    shapes = {name: tensor.shape for name, tensor in part.named_parameters(recurse=False)}
    return {name: rng.uniform(-bound, bound, shape) for name, shape in shapes.items()}


def _norm(part: _Norm, rng: Rng) -> Drawn:
    """Scale 1, shift 0; the statistics of a batch norm: mean 0, variance 1."""
    tensors = part.state_dict(keep_vars=True)
    return {
        name: np.ones(tensors[name].shape) for name in ("weight", "running_var") if name in tensors
    }


def _embedding(part: nn.Embedding, rng: Rng) -> Drawn:
    """Standard normal; zeros for padding."""
    drawn = rng.standard_normal(part.weight.shape)
    if part.padding_idx is not None:
        drawn[part.padding_idx] = 0
    return {"weight": drawn}


def _prelu(part: nn.PReLU, rng: Rng) -> Drawn:
    """A slope of ``init``, 0.25 unless it was said otherwise."""
    return {"weight": np.full(part.weight.shape, part.init)}


def _bare(part: nn.Module, rng: Rng) -> Drawn:
    """Parameters of a module of no known kind, such as positions: normal, deviation 0.02.

    Those of one axis are left out: they could be scales or shifts.
    """
    return {
        name: 0.02 * rng.standard_normal(tensor.shape)
        for name, tensor in part.named_parameters(recurse=False)
        if tensor.ndim > 1
    }


def draw_of(part: nn.Module, *, conv_net: bool) -> Callable[[Rng], Drawn] | None:
    """How ``part`` draws its own weights; None for a kind of torch's that is not known here."""
    if isinstance(part, nn.Conv2d) and not conv_net and part.kernel_size == part.stride != (1, 1):
        return partial(_patches, part)
    if isinstance(part, nn.Conv1d | nn.Conv2d | nn.Conv3d):
        return partial(_conv, part)
    if isinstance(part, NonDynamicallyQuantizableLinear):
        return partial(_projection, part)
    if isinstance(part, nn.Linear):
        return partial(_small_linear if conv_net else _linear, part)
    if isinstance(part, nn.MultiheadAttention):
        return partial(_attention, part)
    if isinstance(part, nn.RNNBase):
        return partial(_recurrent, part)
    if isinstance(part, _Norm):
        return partial(_norm, part)
    if isinstance(part, nn.Embedding):
        return partial(_embedding, part)
    if isinstance(part, nn.PReLU):
        return partial(_prelu, part)
    if type(part).__module__.startswith("torch.nn") and not isinstance(part, nn.ParameterList):
        return None
    return partial(_bare, part)
