"""Trace a network with ``torch.fx``: what its forward does, one step after the other.

``torch.fx`` and ``torch.export`` both give a graph. ``fx`` keeps the modules as they are: their
names, which say where weights are stored, and their two modes, which ``export`` decides once and
for all. So a smaller network can be the same modules with less in them. ``export`` writes a
network down as some sixty operations on tensors, with the sizes of the example, in ten to twenty
times the time. All sixteen networks of torchvision that tests follow can be traced by both.
"""

from __future__ import annotations

import copy
import inspect
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


CONSTANT = "_tensor_constant"
"""How torch.fx names a tensor that forward makes of numbers in its text."""


NORMS = (nn.BatchNorm2d.forward, nn.InstanceNorm2d.forward)
"""They change no shape; without numbers, torch would load its compiler for them, in two seconds."""


class _Tracer(fx.Tracer):
    """Takes a module as one step if there is a rule for it; looks inside every other one."""

    def __init__(self, steps: tuple[type, ...]) -> None:
        super().__init__()
        self.steps = steps

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        if isinstance(m, self.steps):
            # One that computes in its own way is looked into, unless this package wrote it.
            own = type(m).forward
            return any(getattr(step, "forward", None) is own for step in self.steps) or (
                type(m).__module__.startswith("mpfl.")
            )
        if type(m).__name__ == DEPTH and m.__module__.startswith("torchvision."):
            return True
        # A part of torch's, or one that this package mended, which computes the same.
        whose = next(kind for kind in type(m).__mro__ if not kind.__module__.startswith("mpfl."))
        torchs = whose.__module__.startswith("torch.nn") and whose is not nn.Module
        return torchs and not any(True for _ in m.children())


def graphs(module: nn.Module, count: int, steps: tuple[type, ...]) -> dict[bool, fx.GraphModule]:
    """What forward does, ``{in training: graph}``; one graph if it does the same in both modes.

    ``module`` is a copy that may be changed.
    ``count`` arguments are given to it; the others are what they are by default.
    Raises :class:`~mpfl.types.MPFLError` if what it does depends on the data.
    """
    traced: dict[bool, fx.GraphModule] = {}
    for training in (False, True):
        with _mode(module, training):
            graph = _trace(module, count, steps)
        if not traced or str(graph.graph) != str(traced[False].graph):
            traced[training] = graph
    return traced


def _trace(module: nn.Module, count: int, steps: tuple[type, ...]) -> fx.GraphModule:
    names = list(inspect.signature(module.forward).parameters.values())
    rest = {
        each.name: each.default
        for each in names[count:]
        if each.default is not inspect.Parameter.empty
    }
    tracer = _Tracer(steps)
    for part in module.modules():
        _unwrap(part)
        if type(part).forward in NORMS:
            part.forward = _unchanged
    try:
        graph = tracer.trace(module, concrete_args=rest)
    except Exception as error:  # whatever a forward may raise
        raise MPFLError(
            f"{type(module).__name__}: forward cannot be traced ({_first_line(error)}); it may not "
            "decide by the numbers in a tensor: move such a decision out of forward"
        ) from error
    traced = fx.GraphModule(tracer.root, graph)
    for name in [name for name in vars(module) | module._buffers if name.startswith(CONSTANT)]:
        delattr(module, name)  # the next trace gives it the same name
    return traced


def _unwrap(part: nn.Module) -> None:
    """Take away what looks at the types of forward's arguments: there are none while tracing."""
    forward = inspect.unwrap(type(part).forward)
    if forward is not type(part).forward:
        own = {"forward": forward, "__module__": type(part).__module__}
        part.__class__ = type(type(part).__name__, (type(part),), own)


def _unchanged(x: torch.Tensor) -> torch.Tensor:
    return x


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


@contextmanager
def _mode(module: nn.Module, training: bool) -> Iterator[None]:
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


def without_hooks(module: nn.Module) -> nn.Module:
    """``module``, a copy, to which nobody listens any more."""
    for part in module.modules():
        part._forward_hooks.clear()
        part._forward_pre_hooks.clear()
    return module


def _empty(tensor: torch.Tensor) -> torch.Tensor:
    empty = torch.empty_like(tensor, device="meta")
    if isinstance(tensor, nn.Parameter):
        return nn.Parameter(empty, tensor.requires_grad)
    return empty


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
            raise MPFLError(
                f"{name}: forward fails on the inputs given ({_first_line(error)}); give an "
                "example batch of two that it takes"
            ) from error
        return shown
    convs = [part for part in module.modules() if isinstance(part, nn.Conv2d)]
    reasons = [] if convs else ["it has no Conv2d"]
    for channels in dict.fromkeys(
        [*(conv.in_channels for conv in convs[:1]), 3, 1] if convs else ()
    ):
        for pixels in PIXELS:
            pictures = torch.empty(2, channels, pixels, pixels, device="meta")
            try:
                _run(module, (pictures,))
            except Exception as error:
                reasons.append(_first_line(error))
            else:
                return (pictures,)
    raise MPFLError(
        f"{name}: what it reads is not known ({reasons[0]}); give inputs=, an example batch of two"
    )


def _on_meta(value: Any) -> Any:
    if not isinstance(value, torch.Tensor):
        return value
    kind = torch.float32 if value.is_floating_point() else value.dtype
    return torch.empty_like(value, device="meta", dtype=kind)


def _run(module: nn.Module, inputs: tuple[Any, ...]) -> None:
    # A tensor that forward makes itself is without numbers, too.
    with torch.no_grad(), _mode(module, False), torch.device("meta"):
        without_numbers(module).float().eval()(*inputs)


def part_of(node: fx.Node, root: nn.Module) -> nn.Module | None:
    """The module that a step calls, if it calls one."""
    return root.get_submodule(str(node.target)) if node.op == "call_module" else None


def operation(node: fx.Node, part: nn.Module | None) -> str:
    """What a step does: the kind of its module, or the name of its method or function."""
    if part is not None:
        return type(part).__name__
    return str(getattr(node.target, "__name__", node.target))
