"""One random trial of a layout: masked and cut, a network must compute the same."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import fx, nn
from torch.nn.modules.dropout import _DropoutNd

from mpfl.filters import Layout, apply, cut
from mpfl.nets.cutting import compact
from mpfl.nets.follow.network import DEPTH, Inputs, first_line
from mpfl.nets.layouts import share_walk
from mpfl.nets.tensors import as_they_are, float_state, load_weights, tensors_in
from mpfl.seeds import rng_for
from mpfl.types import MPFLError, Weights

ROUNDING = 1e-8
"""The largest difference that is rounding, in units of the largest output."""
SLOPES = 1e-6
"""The same of a gradient, in units of the largest gradient."""


def check_by_trial(module: nn.Module, layout: Layout, inputs: Inputs | None = None) -> None:
    """Mask half of every layer's units at random, cut them out, and compare, in float64.

    On random weights and inputs, in evaluation and in training; without dropout. Gradients in
    evaluation, and if steps had to be written anew, inputs of other sizes as well. Raises
    :class:`~mpfl.types.MPFLError` if the two networks differ.
    """
    rng = rng_for(0, "trial")
    mask = {name: rng.permutation(size) < max(1, size // 2) for name, size in layout.sizes.items()}
    whole = copy.deepcopy(module).cpu().double()
    _randomise(whole, rng)
    share_walk(whole, module)
    shown = _inputs(layout, inputs, rng)
    if any(bool(each.isnan().any()) for each in _answers(whole.eval(), shown)):
        shown = tuple(each.abs() if isinstance(each, torch.Tensor) else each for each in shown)
    small = compact(whole, mask, layout)
    load_weights(whole, apply(as_they_are(whole), mask, layout))
    name = type(module).__name__
    _refuse_other_outputs(whole, small, shown, f"{name}: with half of its units masked")
    _refuse_other_slopes(cut(_slopes(whole.eval(), shown), mask, layout), small.eval(), shown, name)
    if isinstance(small, fx.GraphModule):  # steps written anew may name the sizes of the example
        for axis, wider in _wider(whole.eval(), shown):
            where = f"{name}: with twice as much along axis {axis} of its inputs, half masked"
            _refuse_other_outputs(whole, small, wider, where, modes=(False,))


_REMEDY = (
    "units cannot be cut out of it exactly; please report the network, and name other units to "
    "vote on with units="
)


def _refuse_other_outputs(
    whole: nn.Module,
    small: nn.Module,
    shown: tuple[Any, ...],
    where: str,
    modes: Sequence[bool] = (False, True),
) -> None:
    for training in modes:
        first = _answers(whole.train(training), shown)
        try:
            second = _outputs(small.train(training), shown, 0)
        except Exception as error:  # whatever a forward may raise
            raise MPFLError(f"{where}, the smaller network fails ({error}); {_REMEDY}") from error
        if _near(first, second):
            continue
        if training and not _near(first, _outputs(whole, shown, 1)):
            continue  # it draws random numbers of its own, and no two runs of it are alike
        mode = "training" if training else "evaluation"
        raise MPFLError(
            f"{where} and with these cut out it computes different things in {mode}, so {_REMEDY}"
        )


def _refuse_other_slopes(
    slopes: Weights, small: nn.Module, shown: tuple[Any, ...], name: str
) -> None:
    """Gradients in evaluation, compared in units of the largest of them."""
    largest = max(np.abs(slope).max(initial=0) for slope in slopes.values())
    for tensor, slope in _slopes(small, shown).items():
        apart = np.abs(slope - slopes[tensor]).max(initial=0)
        if not apart <= SLOPES * (1e-30 + largest):
            raise MPFLError(
                f"{name}: with half of its units masked and with these cut out the gradients of "
                f"{tensor} differ in evaluation; {_REMEDY}"
            )


def _wider(whole: nn.Module, shown: tuple[Any, ...]) -> Iterator[tuple[int, tuple[Any, ...]]]:
    """Inputs twice as long along one axis: a batch, a sequence, a picture, if it takes them."""
    for axis in range(max((each.dim() for each in tensors_in(shown)), default=0)):
        longest = max(each.shape[axis] for each in tensors_in(shown) if each.dim() > axis)
        wider = tuple(
            torch.cat([each, each.flip(axis)], axis)
            if isinstance(each, torch.Tensor) and each.dim() > axis and each.shape[axis] == longest
            else each
            for each in shown
        )
        try:
            _outputs(whole, wider, 0)
        except Exception:
            continue
        yield axis, wider


def _slopes(module: nn.Module, shown: tuple[Any, ...]) -> dict[str, np.ndarray]:
    """The gradients of one number made of all outputs, by parameter; zeros for other tensors."""
    slopes = {name: torch.zeros_like(tensor) for name, tensor in float_state(module).items()}
    trained = {name: each for name, each in module.named_parameters() if each.requires_grad}
    outputs = [each for each in tensors_in(module(*shown)) if each.requires_grad]
    loss = sum((out * torch.linspace(-1, 1, out.numel()).view_as(out)).sum() for out in outputs)
    if isinstance(loss, torch.Tensor):
        try:
            found = torch.autograd.grad(loss, list(trained.values()), allow_unused=True)
        except RuntimeError as error:
            raise MPFLError(
                f"{type(module).__name__}: has no gradients ({first_line(error)}), so it cannot be "
                "trained; mend its forward first"
            ) from error
        slopes |= {n: each for n, each in zip(trained, found, strict=True) if each is not None}
    return {name: slope.numpy() for name, slope in slopes.items()}


def _inputs(layout: Layout, inputs: Inputs | None, rng: np.random.Generator) -> tuple[Any, ...]:
    given = inputs if isinstance(inputs, tuple) else (inputs,)

    def numbers(place: int, shape: Any) -> Any:
        if not isinstance(shape, torch.Tensor):
            return shape
        if shape.is_floating_point():
            return torch.from_numpy(rng.standard_normal(tuple(shape.shape)))
        return given[place].cpu()

    return tuple(numbers(place, shape) for place, shape in enumerate(layout.example))


def _randomise(module: nn.Module, rng: np.random.Generator) -> None:
    drawn: np.ndarray
    with torch.no_grad():
        for name, tensor in float_state(module).items():
            shape = tuple(tensor.shape)
            drawn = rng.standard_normal(shape, np.float32)
            drawn /= np.sqrt(max(1, math.prod(shape[1:])), dtype=np.float32)
            if name.endswith("running_var"):
                drawn = rng.uniform(0.5, 2, shape).astype(np.float32)
            tensor.copy_(torch.from_numpy(np.asarray(drawn)))
    for part in module.modules():
        if isinstance(part, _DropoutNd) or type(part).__name__ == DEPTH:
            part.p = 0.0  # type: ignore[assignment]
        elif isinstance(part, nn.RNNBase | nn.MultiheadAttention):
            part.dropout = 0.0


def _outputs(module: nn.Module, shown: tuple[Any, ...], seed: int) -> list[torch.Tensor]:
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        # Batch norm moves in training; the weights, which do not, can be hundreds of megabytes.
        module = copy.deepcopy(module, {id(each): each for each in module.parameters()})
        return tensors_in(module(*shown))


def _answers(whole: nn.Module, shown: tuple[Any, ...]) -> list[torch.Tensor]:
    """What the network itself puts out, in float64 and on the CPU as the trial is."""
    try:
        return _outputs(whole, shown, 0)
    except Exception as error:  # whatever a forward may raise
        raise MPFLError(
            f"{type(whole).__name__}: forward fails in float64 on the CPU ({first_line(error)}); "
            "it may name no precision and no device: take those of its input, or of a weight"
        ) from error


def _near(one: list[torch.Tensor], other: list[torch.Tensor], rounding: float = ROUNDING) -> bool:
    return len(one) == len(other) and all(
        a.shape == b.shape
        and (not a.numel() or bool((a - b).abs().max() <= ROUNDING * (1e-30 + a.abs().max())))
        for a, b in zip(one, other, strict=True)
    )
