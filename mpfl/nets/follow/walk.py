"""Walk through a traced network, and carry along the label of every element of every tensor.

Each step is run twice: on tensors without numbers, for the shapes, and on labels, by the rule of
its operation (:mod:`~mpfl.nets.follow.rules`, :mod:`~mpfl.nets.follow.layers`). An operation
without a rule is refused by name, unless nothing that it reads can be pruned.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import fx, nn
from torch.utils import _pytree as pytree

from mpfl.filters import Layer
from mpfl.nets.follow.network import operation, part_of
from mpfl.nets.follow.owners import KEPT, Owners, kept, thin, thinned, varies
from mpfl.nets.tensors import tensors_in
from mpfl.types import MPFLError

MOST_ELEMENTS = 20_000
"""A bare parameter with more elements than this always stays whole."""


INSTEAD = {"einsum": "write it with matmul"}
"""What to write in place of an operation without a rule."""


@dataclass
class Step:
    """One step of a network, as a rule sees it.

    ``args`` and ``kwargs`` are values without numbers, ``labels`` the labels of each tensor among
    them, by identity; ``result`` is what the step gives. ``module`` is the module, if it is one.
    """

    walk: Walk
    node: fx.Node
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    result: Any
    module: nn.Module | None = None

    @property
    def owners(self) -> Owners:
        """The units of the network."""
        return self.walk.owners

    @property
    def name(self) -> str:
        """What a reader finds it by: the module's path, or the name of the operation."""
        if self.module is not None:
            return str(self.node.target)
        return f"{operation(self.node, None)} ({self.node.name})"

    def labels(self, value: Any) -> torch.Tensor:
        """Those of one tensor among the arguments."""
        return self.walk.labels_of(value)

    def argument(self, place: int, name: str, default: Any = None) -> Any:
        """An argument by its place or its name."""
        if place < len(self.args):
            return self.args[place]
        other = {"dim": "axis", "input": "x"}.get(name, name)  # torch takes numpy's names too
        return self.kwargs.get(name, self.kwargs.get(other, default))

    @property
    def first(self) -> Any:
        """Its first argument."""
        return self.argument(0, "input")

    def tensors(self) -> list[torch.Tensor]:
        """All tensors among its arguments."""
        return tensors_in((self.args, self.kwargs))

    def along(self, labels: torch.Tensor, axis: int) -> torch.Tensor:
        """One label per index of ``axis``: all elements of an index are tied, if they differ."""
        flat = thin(labels.movedim(axis, 0)).flatten(1) if labels.dim() > 1 else labels[:, None]
        flat = flat.expand(labels.shape[axis], -1)
        constant = (flat % 2).amax(1)
        if not bool((flat == flat[:, :1]).all()):
            self.owners.tie(flat, flat[:, :1], self.name)
        first = flat[:, 0]
        return torch.where(first == KEPT, first, first - first % 2 + constant)

    def across(self, labels: torch.Tensor, axis: int) -> torch.Tensor:
        """Labels along ``axis`` alone, in the shape of the result."""
        shape = [1] * self.result.dim()
        shape[axis] = -1
        return labels.view(shape).expand(self.result.shape)


StepRule: TypeAlias = Callable[[Step], Any]
"""The labels of what a step gives: a tensor, or tuples and lists of them as in ``Step.result``."""


@dataclass
class CutAxis:
    """An axis of a tensor of weights, and the label of each of its indices.

    ``owned``: the units' own rows; else what reads their channels.
    """

    tensor: str
    axis: int
    labels: torch.Tensor
    owned: bool


@dataclass
class Walk:
    """All that a walk finds: owners, which axes of which weights follow them, labels by node."""

    owners: Owners = field(default_factory=Owners)
    places: dict[tuple[str, int], CutAxis] = field(default_factory=dict)
    norms: dict[str, str] = field(default_factory=dict)
    """The batch norms, each with the path of the layer whose units pass through it alone."""
    of_node: dict[bool, dict[fx.Node, Any]] = field(default_factory=dict)
    shapes: dict[bool, dict[fx.Node, Any]] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)
    parameters: dict[str, torch.Tensor] = field(default_factory=dict)
    graphs: dict[bool, fx.GraphModule] = field(default_factory=dict)
    example: tuple[Any, ...] = ()
    suspects: frozenset[str] | None = None
    """Operations that may need a repair in a smaller network, once they are known."""
    tried: set[tuple[Layer, ...]] = field(default_factory=set)
    """The layers of every layout of it that has stood a trial."""
    _labels: dict[int, tuple[Any, torch.Tensor]] = field(default_factory=dict)

    def labels_of(self, value: Any) -> torch.Tensor:
        """The labels of a tensor that the walk has seen."""
        return self._labels[id(value)][1]

    def follows(
        self, tensor: str, axis: int, labels: torch.Tensor, why: str, *, owned: bool = False
    ) -> None:
        """Index ``i`` of an axis of a weight goes with ``labels[i]``; if used twice, with both."""
        place = self.places.setdefault((tensor, axis), CutAxis(tensor, axis, labels, owned))
        if place.labels is not labels:
            self.owners.tie(place.labels, labels, f"{why} is used twice")

    def place_parameters(self) -> None:
        """Bare parameters follow units along one axis, or stay whole; once the walk is over."""
        self.owners.fix_kinds({"parameter"}, "it is a bare parameter")
        for path, labels in self.parameters.items():
            settled = torch.from_numpy(self.owners.settled(labels).astype(np.float64))
            axes = [axis for axis in range(settled.dim()) if varies(settled, axis)]
            if len(axes) == 1:
                (axis,) = axes
                along = settled.movedim(axis, 0).flatten(1)[:, 0] if settled.dim() > 1 else settled
                self.follows(path, axis, along, path, owned=True)
            else:
                self.owners.fix(settled, f"{path} has no axis of its own for it")

    def remember(self, value: Any, labels: Any) -> None:
        """Keep the labels of each tensor in ``value``."""
        flat, tree = pytree.tree_flatten(value)
        for one, its in zip(flat, tree.flatten_up_to(labels), strict=True):
            if isinstance(one, torch.Tensor):
                assert one.shape == its.shape, (one.shape, its.shape)
                self._labels[id(one)] = one, thinned(its)


class Walker(fx.Interpreter):
    """Runs a traced network on tensors without numbers, and its labels beside them."""

    def __init__(
        self,
        graph: fx.GraphModule,
        walk: Walk,
        rules: Callable[[Step], StepRule | None],
        mode: bool,
    ) -> None:
        super().__init__(graph, garbage_collect_values=False)
        self.extra_traceback = False
        self.walk, self.rules = walk, rules
        self.labels = walk.of_node.setdefault(mode, {})
        self.shapes = walk.shapes.setdefault(mode, {})

    def follow(self, inputs: Sequence[Any]) -> None:
        """Take every step. ``run`` would make a tqdm, whose lock a killed worker leaves behind."""
        self.env, self.args_iter = {}, iter(inputs)
        for node in self.graph.nodes:
            self.env[node] = self.run_node(node)

    def run_node(self, n: fx.Node) -> Any:
        args, kwargs = self.fetch_args_kwargs_from_env(n)
        if n.op == "output":
            self._keep_outputs(args)
            return args[0]
        try:
            with torch.device("meta"):  # a tensor that forward makes itself is without numbers, too
                result = pytree.tree_map_only(torch.Tensor, _on_meta, super().run_node(n))
            # Some operations give back the very tensor that they read: it gets a name of its own.
            result = _renamed(result, args, kwargs)
        except Exception as error:
            raise MPFLError(f"{n.name}: {n.target} fails in forward ({error})") from error
        module = part_of(n, self.module)
        step = Step(self.walk, n, args, dict(kwargs), result, module)
        if module is not None:
            self.walk.used.add(str(n.target))
        labels = self._labels(step)
        if labels is not None:
            self.walk.remember(result, labels)
        self.labels[n] = pytree.tree_map_only(torch.Tensor, self.walk.labels_of, result)
        self.shapes[n] = pytree.tree_map_only(torch.Tensor, lambda t: t.shape, result)
        return result

    def _labels(self, step: Step) -> Any:
        if step.node.op == "get_attr":
            return self._attribute(step)
        if not tensors_in(step.result):
            return None
        if step.node.op == "placeholder":
            return _kept(step.result)
        rule = self.rules(step)
        if rule is not None:
            try:
                labels = rule(step)
                pytree.tree_structure(step.result).flatten_up_to(labels)
                return labels
            except MPFLError:
                raise
            except Exception as error:  # a rule knows the calls that are usual
                raise MPFLError(
                    f"{step.name}: units cannot be followed through this call of it ({error}); "
                    "call it as its documentation does first, with tensors"
                ) from error
        for tensor in step.tensors():
            self.walk.owners.fix_parameters(step.labels(tensor), step.name)
        if all(self.walk.owners.is_kept(step.labels(tensor)) for tensor in step.tensors()):
            return _kept(step.result)
        what = operation(step.node, step.module)
        remedy = INSTEAD.get(what, "write it with operations that keep channels apart")
        where = step.name if step.module is None else f"{step.name} ({what})"
        raise MPFLError(f"{where}: there is no rule for what this does to channels; {remedy}")

    def _attribute(self, step: Step) -> Any:
        """A bare parameter: each element goes with whatever it is added to, or multiplied with."""
        value, path = step.result, str(step.node.target)
        if not isinstance(value, torch.Tensor):
            return None
        self.walk.used.add(path)
        if not isinstance(value, nn.Parameter) or value.numel() > MOST_ELEMENTS:
            return _kept(value)
        labels = self.walk.owners.units(path, "parameter", value.numel()).view(value.shape)
        self.walk.parameters[path] = labels
        return labels

    def _keep_outputs(self, args: Any) -> None:
        for tensor in tensors_in(args):
            self.walk.owners.fix(self.walk.labels_of(tensor), "it is what the network puts out")


def _kept(value: Any) -> Any:
    return pytree.tree_map_only(torch.Tensor, lambda tensor: kept(tensor.shape), value)


def _on_meta(tensor: torch.Tensor) -> torch.Tensor:
    return tensor if tensor.device.type == "meta" else tensor.to("meta")


def _renamed(result: Any, args: Any, kwargs: Any) -> Any:
    """``result``, each tensor of which is none of the arguments' but a view of it."""
    given = {id(leaf) for leaf in pytree.tree_leaves((args, kwargs))}

    def view(tensor: torch.Tensor) -> torch.Tensor:
        return tensor.view_as(tensor) if id(tensor) in given else tensor

    return pytree.tree_map_only(torch.Tensor, view, result)
