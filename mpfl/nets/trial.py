"""One random trial of a layout: masked and cut, a network must compute the same."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from torch import nn

from mpfl.filters import Layout, apply
from mpfl.nets.cutting import compact
from mpfl.nets.follow.network import Inputs, without_hooks
from mpfl.nets.layouts import share_walk
from mpfl.nets.tensors import float_state, load_weights, tensors_in
from mpfl.seeds import rng_for
from mpfl.types import MPFLError

ROUNDING = 1e-8
"""The largest difference that is rounding, in units of the largest output."""


def check_by_trial(module: nn.Module, layout: Layout, inputs: Inputs | None = None) -> None:
    """Mask half of every layer's units at random, cut them out, and compare, in float64.

    On random weights and inputs, in evaluation and in training; without dropout. Raises
    :class:`~mpfl.types.MPFLError` if the two networks differ.
    """
    rng = rng_for(0, "trial")
    shown = _inputs(layout, inputs, rng)
    mask = {name: rng.permutation(size) < max(1, size // 2) for name, size in layout.sizes.items()}
    whole = without_hooks(copy.deepcopy(module)).cpu().double()
    share_walk(whole, module)
    _randomise(whole, rng)
    small = compact(whole, mask, layout)
    dense = {name: tensor.numpy() for name, tensor in float_state(whole).items()}
    load_weights(whole, apply(dense, mask, layout))
    for training in (False, True):
        first, second = (_outputs(each.train(training), shown, 0) for each in (whole, small))
        if training and not _near(first, _outputs(whole, shown, 1)):
            continue  # it draws random numbers of its own, and no two runs of it are alike
        if not _near(first, second):
            mode = "training" if training else "evaluation"
            raise MPFLError(
                f"{type(module).__name__}: with half of its units masked and with these cut out it "
                f"computes different things in {mode}, so units cannot be cut out of it exactly; "
                "please report the network, and name other units to vote on with units="
            )


def _inputs(layout: Layout, inputs: Inputs | None, rng: np.random.Generator) -> tuple[Any, ...]:
    given = inputs if isinstance(inputs, tuple) else (inputs,)

    def numbers(place: int, shape: Any) -> Any:
        if not isinstance(shape, torch.Tensor):
            return shape
        if shape.is_floating_point():
            return torch.from_numpy(rng.standard_normal(tuple(shape.shape)))
        return given[place]

    return tuple(numbers(place, shape) for place, shape in enumerate(layout.example))


def _randomise(module: nn.Module, rng: np.random.Generator) -> None:
    drawn: np.ndarray
    with torch.no_grad():
        for name, tensor in float_state(module).items():
            shape = tuple(tensor.shape)
            drawn = rng.standard_normal(shape, np.float32)
            drawn /= np.sqrt(max(1, tensor[:1].numel()), dtype=np.float32)
            if name.endswith("running_var"):
                drawn = rng.uniform(0.5, 2, shape).astype(np.float32)
            tensor.copy_(torch.from_numpy(np.asarray(drawn)))
    for part in module.modules():
        # p of dropout and of torchvision's depth, dropout of attention and recurrent layers
        for name in ("p", "dropout"):
            if isinstance(getattr(part, name, None), float):
                setattr(part, name, 0.0)


def _outputs(module: nn.Module, shown: tuple[Any, ...], seed: int) -> list[torch.Tensor]:
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        # Batch norm moves in training; the weights, which do not, can be hundreds of megabytes.
        module = copy.deepcopy(module, {id(each): each for each in module.parameters()})
        return tensors_in(module(*shown))


def _near(one: list[torch.Tensor], other: list[torch.Tensor]) -> bool:
    return all(
        a.shape == b.shape and bool((a - b).abs().max() <= ROUNDING * (1e-30 + a.abs().max()))
        for a, b in zip(one, other, strict=True)
    )
