"""What a smaller network's forward has to do differently, one step after the other.

The steps of the whole network are run on the layers that are left, without numbers. Where the terms
of a sum keep different channels, they are put in their places first. Where a step names a size that
has changed, it gets the new one. Every step must give the shape that the units left to it make.
"""

from __future__ import annotations

import copy
import operator
from typing import Any

import numpy as np
import torch
from torch import fx, nn

from mpfl.filters import Layout
from mpfl.nets.follow.elements import moved, taken
from mpfl.nets.follow.graphs import CONSTANT, CONTEXT
from mpfl.nets.follow.network import NORMS, part_of
from mpfl.nets.follow.rules import rule_of
from mpfl.nets.follow.sums import added, divided, multiplied
from mpfl.nets.follow.walk import Walk
from mpfl.nets.left import Left, Shape, left_of, shapes_in
from mpfl.nets.placing import Picked, Placed
from mpfl.nets.resized import resize
from mpfl.nets.suspects import BINARY, suspects_of
from mpfl.nets.tensors import tensors_in
from mpfl.nets.waiting import Waiting, done_alike
from mpfl.types import Mask, MPFLError


def repaired(small: nn.Module, walk: Walk, layout: Layout, mask: Mask) -> nn.Module:
    """``small``, or if its forward must do something else, a module of its steps.

    Raises :class:`~mpfl.types.MPFLError`, naming the step, if one cannot be repaired.
    """
    if walk.suspects is None:
        walk.suspects = frozenset().union(*(suspects_of(walk, mode) for mode in walk.graphs))
    if not walk.suspects:
        return small
    left = Left(walk, layout, mask)
    for training, graph in walk.graphs.items():
        repair = _Repair(small, graph, walk, left, training, careful=not walk.suspects <= BINARY)
        repair.run()
        if repair.changes:
            _refuse_what_steps_lose(walk, repair.changes[0])
            return repair.module()
    return small


def _refuse_what_steps_lose(walk: Walk, change: str) -> None:
    """Steps hold no mode, and nothing that a step runs under."""
    lost = ""
    if len(walk.graphs) > 1:
        lost = "forward differs between training and evaluation"
    for graph in walk.graphs.values():
        for node in graph.graph.nodes:
            if context := node.meta.get(CONTEXT):
                lost = f"forward runs {node.name} {context}"
    if lost:
        raise MPFLError(
            f"{change}: the smaller network needs another step here, but {lost}; write that as a "
            "module of torch's or torchvision's, such as nn.Dropout or StochasticDepth"
        )


class _Repair:
    """Writes the steps of one mode anew for what is left, and runs each on it.

    A step may move elements so that no axis of the result can be cut by itself, as the first half
    of a channel shuffle does. It is left out, and *waits*: the step that brings the channels back
    in line becomes a choice of channels. ``careful``: a step may name a size, so each is run.
    """

    def __init__(
        self,
        small: nn.Module,
        graph: fx.GraphModule,
        walk: Walk,
        left: Left,
        training: bool,
        *,
        careful: bool,
    ) -> None:
        self.small, self.whole, self.careful = small, graph, careful
        self.labels, self.before = walk.of_node[training], walk.shapes[training]
        self.example, self.remains, self.axes = walk.example, left, left.axes
        self.steps = fx.Graph()
        self.new: dict[fx.Node, fx.Node] = {}
        self.values: dict[fx.Node, Any] = {}
        self.waiting: dict[fx.Node, Waiting] = {}
        self.states: set[fx.Node] = set()
        self.changes: list[str] = []
        self.parts: dict[str, nn.Module] = {}

    def run(self) -> None:
        inputs = iter(self.example)
        for node in self.whole.graph.nodes:
            if node.op == "placeholder":
                new = self.new[node] = self._copied(node)
                self.values[new] = self._in_precision(next(inputs, None))
            elif node.op == "output":
                self._demand(node)
                self.steps.output(fx.map_arg(node.args[0], self.new.__getitem__))
            else:
                self._refuse_the_empty(node)
                self._step(node)

    def module(self) -> nn.Module:
        """What is left, as a module of these steps."""
        for name, part in self.parts.items():
            self.small.add_module(name, part.train(self.small.training))
        constants = {str(n.target) for n in self.steps.nodes if str(n.target).startswith(CONSTANT)}
        for name in constants:
            self.small.register_buffer(name, getattr(self.whole, name), persistent=False)
        modes = {path: part.training for path, part in self.small.named_modules()}
        module = fx.GraphModule(self.small, self.steps, type(self.small).__name__)
        for path, part in module.named_modules():
            part.training = modes.get(path, part.training)
        self._give_buffers(module)
        module.graph.eliminate_dead_code()
        module.recompile()
        # It has its parts in the order of the steps; they keep that in which they were named.
        for path, part in module.named_modules():
            named = self.small.get_submodule(path)
            for own, order in (
                (part._modules, named._modules),
                (part._parameters, named._parameters),
                (part._buffers, named._buffers),
            ):
                for name in [name for name in order if name in own]:
                    own[name] = own.pop(name)
        return module

    def _give_buffers(self, module: fx.GraphModule) -> None:
        """All buffers, read by steps or not, as parts of its state or not, as they were."""
        there = {path for path, _ in module.named_modules()}
        for name, buffer in self.small.named_buffers():
            path, _, own = name.rpartition(".")
            if path not in there:
                module.add_submodule(path, nn.Module())
                there = {path for path, _ in module.named_modules()}
            lasting = own not in self.small.get_submodule(path)._non_persistent_buffers_set
            module.get_submodule(path).register_buffer(own, buffer, persistent=lasting)

    # --- one step ------------------------------------------------------------------------

    def _step(self, node: fx.Node) -> None:
        part = part_of(node, self.whole)
        rule, source = rule_of(node, part), self._source(node)
        movement = rule in (moved, taken)
        if movement and source is not None and source in self.waiting:
            self._wait(node, self.waiting[source])
            return
        self._demand(node)
        new = self._copied(node)
        if rule in (added, multiplied, divided) and isinstance(self.labels[node], torch.Tensor):
            self._place_terms(node, new)
        if not self.careful:  # only terms of sums need their places
            self.new[node] = new
            return
        self.new[node], self.values[new] = new, self._value(new)
        if isinstance(part, nn.RNNBase) or source in self.states:
            self._take_state(node, new, picks=part is not None or rule is taken)
        elif not self._fits(node, new, movement=movement):
            if movement:
                self._rename_sizes(node, new)
            if not self._fits(node, new, movement=movement):
                shapes = shapes_in(self.values.pop(new))
                self.steps.erase_node(self.new.pop(node))
                if not movement or not self._starts_to_wait(node):
                    raise MPFLError(
                        f"{node.name} ({node.target}): the smaller network cannot do this step, as "
                        f"{shapes} comes where {self._expected(node)} is due; write it without "
                        "fixed sizes"
                    )

    def _fits(self, node: fx.Node, new: fx.Node, *, movement: bool) -> bool:
        """Whether what comes has the shapes that are due and, if moved, the elements."""
        if not (expected := self._expected(node)):
            return True  # no tensor, but a size
        if shapes_in(self.values[new]) != expected:
            return False
        source = self._source(node)
        if not movement or source is None:
            return True
        kept = self.labels.get(source)
        kept = self.axes(kept) if isinstance(kept, torch.Tensor) else None
        if kept is None:
            return True
        # Every element has its number; the smaller network must move those that are left alike.
        shape = self.before[source]
        numbers = torch.arange(shape.numel()).view(shape)
        whole = done_alike(node, self.whole, numbers, self.before)
        small = done_alike(new, self.small, left_of(numbers, kept), self.values)
        pairs = zip(
            tensors_in(whole), tensors_in(small), tensors_in(self.labels[node]), strict=True
        )
        return all(
            (axes := self.axes(labels)) is not None and torch.equal(left_of(full, axes), mine)
            for full, mine, labels in pairs
        )

    def _take_state(self, node: fx.Node, new: fx.Node, *, picks: bool) -> None:
        """Last states of recurrent layers: one of them is taken, wherever they are kept.

        Layers may have different sizes, so no axis of all states together can be cut by itself.
        """
        expected = self._expected(node)
        if len(expected) == 1 and None not in expected:
            if shapes_in(self.values[new]) == expected:
                return
        elif picks:
            self.states.add(node)
            return
        raise MPFLError(
            f"{node.name} ({node.target}): takes the last states of recurrent layers together; "
            "take that of one layer, as in h[-1], or the outputs"
        )

    def _in_precision(self, value: Any) -> Any:
        """An input in the precision of the weights."""
        if isinstance(value, torch.Tensor) and value.is_floating_point():
            return value.to(next(self.small.parameters()).dtype)
        return value

    def _copied(self, node: fx.Node) -> fx.Node:
        return self.steps.node_copy(node, self.new.__getitem__)

    def _demand(self, node: fx.Node) -> None:
        for given in node.all_input_nodes:
            if given not in self.new:
                raise MPFLError(
                    f"{node.name} ({node.target}): reads channels that {given.name} has mixed up, "
                    "so they cannot be cut; bring them back in line first"
                )

    def _value(self, new: fx.Node) -> Any:
        """What a step gives, without numbers; None if it fails."""
        args, kwargs = fx.map_arg((new.args, new.kwargs), self.values.__getitem__)
        try:
            with torch.no_grad(), torch.device("meta"):
                if new.op == "get_attr":
                    root = self.whole if str(new.target).startswith(CONSTANT) else self.small
                    return operator.attrgetter(str(new.target))(root).to("meta")
                if new.op == "call_module":
                    name = str(new.target)
                    if name in self.parts:
                        return copy.deepcopy(self.parts[name]).to("meta")(*args, **kwargs)
                    part = self.small.get_submodule(name)
                    return args[0] if type(part).forward in NORMS else part(*args, **kwargs)
                if new.op == "call_method":
                    return getattr(args[0], str(new.target))(*args[1:], **kwargs)
                assert callable(new.target)
                return new.target(*args, **kwargs)
        except (RuntimeError, IndexError, ValueError, TypeError, AttributeError):
            return None

    def _refuse_the_empty(self, node: fx.Node) -> None:
        """A step that takes some channels of a layer may find none; torch's convs need one."""
        for labels in tensors_in(self.labels[node]):
            if labels.numel() and not self.remains.alive(labels).any():
                raise MPFLError(
                    f"{node.name} ({node.target}): the mask leaves none of the channels that this "
                    "step takes, so nothing comes through it; keep one of them, or take another "
                    "mask"
                )

    def _expected(self, node: fx.Node) -> list[Shape]:
        """The shape of every tensor that should come out."""
        return self.remains.shapes(self.labels[node])

    # --- sums and products ---------------------------------------------------------------

    def _place_terms(self, node: fx.Node, new: fx.Node) -> None:
        """Put each term's channels where the result has them."""
        total = self.axes(self.labels[node])
        if total is None:
            return
        for term in dict.fromkeys(node.all_input_nodes):
            labels = self.labels.get(term)
            kept = self.axes(labels) if isinstance(labels, torch.Tensor) else None
            if kept is None:
                continue
            for back in range(1, len(kept) + 1):
                axis = len(kept) - back
                if len(kept[axis]) == 1 or np.array_equal(kept[axis], total[-back]):
                    continue
                self._place(node, new, term, axis, kept[axis], total[-back])

    def _place(
        self,
        node: fx.Node,
        new: fx.Node,
        term: fx.Node,
        axis: int,
        kept: np.ndarray,
        total: np.ndarray,
    ) -> None:
        """Leave out what the result has not, as a product may; then put the rest in its places."""
        both, source = kept & total, self.new[term]
        steps: list[nn.Module] = []
        if not np.array_equal(both, kept):
            steps.append(Picked(axis, (np.cumsum(kept) - 1)[both]))
        if not np.array_equal(both, total):
            steps.append(Placed(axis, both, total))
        for step in steps:
            with self.steps.inserting_before(new):
                placed = self.steps.call_module(self._add(node, step), (source,))
            new.replace_input_with(source, placed)
            if self.careful:
                self.values[placed] = self._value(placed)
            source = placed

    def _add(self, node: fx.Node, part: nn.Module) -> str:
        name = f"placed_{len(self.parts)}"
        self.parts[name] = part.to(next(self.small.parameters()).dtype)
        self.changes.append(node.name)
        return name

    # --- movements -----------------------------------------------------------------------

    def _source(self, node: fx.Node) -> fx.Node | None:
        first = node.args[0] if node.args else None
        return first if isinstance(first, fx.Node) else None

    def _rename_sizes(self, node: fx.Node, new: fx.Node) -> None:
        """The same movement with the sizes of what is left, if that is how it is said."""
        due = [shape for shape in self._expected(node) if shape is not None]
        whole = [tuple(labels.shape) for labels in tensors_in(self.labels[node])]
        if len(due) == len(whole) and resize(
            new, part_of(node, self.whole), due, whole, self.values
        ):
            self.changes.append(node.name)
            self.values[new] = self._value(new)

    def _starts_to_wait(self, node: fx.Node) -> bool:
        source = self._source(node)
        if source is None or not isinstance(self.labels.get(source), torch.Tensor):
            return False
        kept = self.axes(self.labels[source])
        if kept is None:
            return False
        cut = [axis for axis, left in enumerate(kept) if not left.all()]
        if len(cut) != 1:
            return False
        self._wait(node, Waiting.at(source, cut[0], self.before[source]))
        return True

    def _wait(self, node: fx.Node, waiting: Waiting) -> None:
        """Follow a movement by positions; as soon as channels are in line, they are chosen."""
        waiting = waiting.moved(node, self.whole, self.before)
        places = waiting.choice()
        labels = self.labels[node]
        kept = self.axes(labels) if isinstance(labels, torch.Tensor) else None
        if places is None or kept is None:
            self.waiting[node] = waiting
            return
        whole = self.axes(self.labels[waiting.source])
        assert whole is not None
        left = whole[waiting.axis]
        rank = np.cumsum(left) - 1  # where a channel of the source is among those left
        chosen = places[kept[waiting.axis]]
        name = self._add(node, Picked(waiting.axis, rank[chosen]))
        new = self.new[node] = self.steps.call_module(name, (self.new[waiting.source],))
        self.values[new] = self._value(new)
        if not left[chosen].all() or shapes_in(self.values[new]) != self._expected(node):
            raise MPFLError(f"{node.name} ({node.target}): channels cannot be followed here")
