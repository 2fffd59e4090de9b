"""A network as its parts and an example of what it reads, without its numbers."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import fx, nn

from mpfl.types import MPFLError

Inputs = torch.Tensor | tuple[Any, ...]
"""An example batch, or all arguments of ``forward``."""

PIXELS = tuple(dict.fromkeys((32, 64, 224, 28, 96, 128, 299, *range(1, 65))))
"""How wide the example pictures are that are tried in turn, if nobody gives any."""


DEPTH = "StochasticDepth"
"""torchvision's dropout of whole branches, which differs in its two modes; its name, as torchvision
takes a second to import."""


NORMS = (nn.BatchNorm2d.forward, nn.InstanceNorm2d.forward)
"""They change no shape; without numbers, torch would load its compiler for them, in two seconds."""


def first_line(error: Exception) -> str:
    """What an error says, in one line."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


@contextmanager
def in_mode(module: nn.Module, training: bool) -> Iterator[None]:
    """``module`` in training or in evaluation, then as it was, part by part."""
    before = [(part, part.training) for part in module.modules()]
    module.train(training)
    try:
        yield
    finally:
        for part, was in before:
            part.training = was


def without_numbers(module: nn.Module) -> nn.Module:
    """A copy of the structure on the meta device: the numbers can be hundreds of megabytes."""
    tensors = [*module.parameters(), *module.buffers()]
    return copy.deepcopy(module, {id(t): _empty(t) for t in tensors})


def _empty(tensor: torch.Tensor) -> torch.Tensor:
    empty = torch.empty_like(tensor, device="meta")
    if isinstance(tensor, nn.Parameter):
        return nn.Parameter(empty, tensor.requires_grad)
    return empty


_REGISTER = "register tensors that are no parameters with register_buffer"


def example(module: nn.Module, inputs: Inputs | None) -> tuple[Any, ...]:
    """What ``module`` is shown while it is followed, on the meta device.

    ``inputs``, or pictures if it begins with a conv. Raises :class:`~mpfl.types.MPFLError` if it
    takes neither.
    """
    name = type(module).__name__
    if inputs is not None:
        shown = inputs if isinstance(inputs, tuple) else (inputs,)
        shown = tuple(_on_meta(each) for each in shown)
        try:
            _run(module, shown)
        except Exception as error:
            what, remedy = first_line(error), "give an example batch of two that it takes"
            if "nested_tensor" in what:  # the fast path of torch's encoder
                what, remedy = what[:60], "make its encoder with enable_nested_tensor=False"
            if "on device cpu" in what:
                remedy = _REGISTER
            raise MPFLError(
                f"{name}: forward fails on the inputs given ({what}); {remedy}"
            ) from error
        return shown
    choices = channels_read(module)
    reasons = [] if choices else ["it has no Conv2d"]
    for channels in choices:
        for pixels in PIXELS:
            pictures = torch.empty(2, channels, pixels, pixels, device="meta")
            try:
                _run(module, (pictures,))
            except Exception as error:
                reasons.append(first_line(error))
            else:
                return (pictures,)
    remedy = "give inputs=, an example batch of two"
    if "on device cpu" in reasons[0]:
        remedy = _REGISTER
    raise MPFLError(f"{name}: what it reads is not known ({reasons[0]}); {remedy}")


def channels_read(module: nn.Module) -> list[int]:
    """How many channels its pictures may have, the likeliest first; none if it has no Conv2d."""
    own = [part.in_channels for part in module.modules() if isinstance(part, nn.Conv2d)]
    return list(dict.fromkeys([*own[:1], 3, 1, *own])) if own else []


def _on_meta(value: Any) -> Any:
    if not isinstance(value, torch.Tensor):
        return value
    kind = torch.float32 if value.is_floating_point() else value.dtype
    return torch.empty_like(value, device="meta", dtype=kind)


def _run(module: nn.Module, inputs: tuple[Any, ...]) -> None:
    # A tensor that forward makes itself is without numbers, too.
    with torch.no_grad(), in_mode(module, False), torch.device("meta"):
        without_numbers(module).float().eval()(*inputs)


def part_of(node: fx.Node, root: nn.Module) -> nn.Module | None:
    """The module that a step calls, if it calls one."""
    return root.get_submodule(str(node.target)) if node.op == "call_module" else None


def operation(node: fx.Node, part: nn.Module | None) -> str:
    """What a step does: the kind of its module, or the name of its method or function."""
    if part is not None:
        return type(part).__name__
    return str(getattr(node.target, "__name__", node.target))
