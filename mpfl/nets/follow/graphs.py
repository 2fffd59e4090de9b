"""Trace a network with ``torch.fx``: what its forward does, one step after the other.

``torch.fx`` and ``torch.export`` both give a graph. ``fx`` keeps the modules as they are: their
names, which say where weights are stored, and their two modes, which ``export`` decides once and
for all. So a smaller network can be the same modules with less in them. ``export`` writes a
network down as some sixty operations on tensors, with the sizes of the example, in ten to twenty
times the time. All sixteen networks of torchvision that tests follow can be traced by both.
"""

from __future__ import annotations

import functools
import inspect
import operator
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import fx, nn
from torch.utils import _pytree as pytree

from mpfl.nets.follow.network import DEPTH, NORMS, first_line, in_mode, operation, part_of
from mpfl.types import MPFLError

NEW = ("arange", "empty", "eye", "full", "linspace", "ones", "rand", "randn", "zeros")
"""Functions that make a tensor of a size given."""

CONSTANT = "_tensor_constant"
"""How torch.fx names a tensor that forward makes of numbers in its text."""

CONTEXT = "context"
"""Of a step's ``meta``: what it runs under that a graph does not hold, such as ``no_grad``."""


class _Tracer(fx.Tracer):
    """Takes a module as one step if there is a rule for it; looks inside every other one."""

    proxy_buffer_attributes = True

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

    def create_node(self, *args: Any, **kwargs: Any) -> fx.Node:
        node = super().create_node(*args, **kwargs)
        if not torch.is_grad_enabled():
            node.meta[CONTEXT] = "without gradients"
        elif any(map(torch.is_autocast_enabled, ("cpu", "cuda"))):
            node.meta[CONTEXT] = "under autocast"
        return node


def graphs(module: nn.Module, count: int, steps: tuple[type, ...]) -> dict[bool, fx.GraphModule]:
    """What forward does, ``{in training: graph}``; one graph if it does the same in both modes.

    ``module`` is a copy that may be changed. ``count`` arguments are given to it; the others are
    what they are by default. Raises :class:`~mpfl.types.MPFLError` if what it does depends on the
    data, or on random numbers outside of tensors.
    """
    traced: dict[bool, fx.GraphModule] = {}
    for training in (False, True):
        with in_mode(module, training), torch.enable_grad():
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
        with _new_tensors_traced(tracer), _no_draws(module):
            graph = tracer.trace(module, concrete_args=rest)
    except MPFLError:
        raise
    except Exception as error:  # whatever a forward may raise
        raise MPFLError(
            f"{type(module).__name__}: forward cannot be traced ({first_line(error)}); it may not "
            "decide by the numbers or the sizes of a tensor, nor hand them to functions that are "
            "not torch's: move such a decision out of forward"
        ) from error
    _drop_arguments(graph, count)
    _ask_for_no_weights(module, graph)
    _follow_changes_in_place(module, graph)
    traced = fx.GraphModule(tracer.root, graph)
    for name in [name for name in vars(module) | module._buffers if name.startswith(CONSTANT)]:
        delattr(module, name)  # the next trace gives it the same name
    return traced


def _unwrap(part: nn.Module) -> None:
    """Take away what looks at the types of forward's arguments: there are none while tracing."""
    forward = type(part).forward
    while hasattr(forward, "__wrapped__") and "torch" not in forward.__code__.co_filename:
        forward = forward.__wrapped__
    if forward is not type(part).forward:
        own = {"forward": forward, "__module__": type(part).__module__}
        part.__class__ = type(type(part).__name__, (type(part),), own)


def _unchanged(x: torch.Tensor) -> torch.Tensor:
    return x


@contextmanager
def _new_tensors_traced(tracer: fx.Tracer) -> Iterator[None]:
    """Calls such as ``torch.ones(x.shape[1])`` become steps: torch takes no size still unknown."""

    def traced(make: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(make)
        def step(*args: Any, **kwargs: Any) -> Any:
            if any(isinstance(each, fx.Proxy) for each in pytree.tree_leaves((args, kwargs))):
                return tracer.create_proxy("call_function", make, args, kwargs)
            return make(*args, **kwargs)

        return step

    makers = {name: getattr(torch, name) for name in NEW}
    for name, make in makers.items():
        setattr(torch, name, traced(make))
    try:
        yield
    finally:
        for name, make in makers.items():
            setattr(torch, name, make)


@contextmanager
def _no_draws(module: nn.Module) -> Iterator[None]:
    """Refuse a forward that draws a number while it is traced: it would be drawn once for all."""
    numpys = np.random.mtrand._rand  # the generator behind np.random.rand
    python, numpy, torchs = random.getstate(), numpys.get_state(), torch.get_rng_state()
    try:
        yield
        drawn = (
            random.getstate() != python
            or str(numpys.get_state()) != str(numpy)
            or not torch.equal(torch.get_rng_state(), torchs)
        )
    finally:
        random.setstate(python)
        numpys.set_state(numpy)
        torch.set_rng_state(torchs)
    if drawn:
        raise MPFLError(
            f"{type(module).__name__}: forward draws a random number by itself, which would be "
            "drawn once for all; draw with a module, such as nn.Dropout or "
            "torchvision.ops.StochasticDepth, or a tensor as large as the batch"
        )


# ---- What is said otherwise than fx says it ------------------------------------------------


def _drop_arguments(graph: fx.Graph, count: int) -> None:
    """Arguments that are not given stand in no graph: another value would be ignored."""
    for argument in graph.find_nodes(op="placeholder")[count:]:
        checks = [argument]
        for node in checks:
            checks += [user for user in node.users if user not in checks]
        for node in reversed(checks):
            graph.erase_node(node)


def _ask_for_no_weights(module: nn.Module, graph: fx.Graph) -> None:
    """Attention puts out its weights, a mean over heads, too; not where nobody looks at them."""
    for node in graph.nodes:
        if isinstance(part_of(node, module), nn.MultiheadAttention) and len(node.args) < 5:
            picks = {user: user.args[1:] for user in node.users if user.target is operator.getitem}
            unread = [user for user, place in picks.items() if place == (1,) and not user.users]
            if len(picks) == len(node.users) and all(
                place == (0,) or user in unread for user, place in picks.items()
            ):
                for user in unread:
                    graph.erase_node(user)
                node.update_kwarg("need_weights", False)


def _follow_changes_in_place(module: nn.Module, graph: fx.Graph) -> None:
    """Who reads a tensor after it was changed in place reads what the change gave."""
    for node in graph.nodes:
        part = part_of(node, module)
        name = operation(node, part)
        changes = (
            getattr(part, "inplace", False) is True
            or node.kwargs.get("inplace") is True
            or (part is None and name.endswith("_") and not name.endswith("__"))
        )
        source = node.args[0] if node.args else None
        if not changes or not isinstance(source, fx.Node):
            continue
        later = {user for user in source.users if user > node}
        source.replace_all_uses_with(node, delete_user_cb=later.__contains__)
