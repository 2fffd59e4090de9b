"""From a network to its layout: followed once, then written down as who owns and who reads what."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from mpfl.filters import Layer, Layout, Reader, Slices
from mpfl.nets.follow.graphs import graphs
from mpfl.nets.follow.layers import LAYERS, rule_of_layer
from mpfl.nets.follow.network import Inputs, example, without_numbers
from mpfl.nets.follow.owners import ALWAYS, NEVER, Owners, UnitKind, Writer
from mpfl.nets.follow.rules import rule_of
from mpfl.nets.follow.walk import CutAxis, Step, StepRule, Walk, Walker
from mpfl.nets.refusals import refuse_after_a_walk, refuse_before_a_walk, refuse_other_kinds
from mpfl.nets.settings import Units, kinds_of_units
from mpfl.nets.tensors import float_state
from mpfl.types import MPFLError


def untried_layout(
    module: nn.Module,
    inputs: Inputs | None = None,
    units: str | Sequence[Units] | None = None,
) -> Layout:
    """:func:`~mpfl.nets.tracing.layout_of` without its trial, which cuts and so stands above."""
    walk = followed(module, inputs)
    return layout_from(module, walk, _chosen(module, walk, units))


# --- following a network, once -----------------------------------------------------------

MOST_REASONS = 4
"""How many reasons an error names."""

_WALKS: weakref.WeakKeyDictionary[nn.Module, tuple[Any, list[Any], Walk]] = (
    weakref.WeakKeyDictionary()
)
"""For each network what it was like, the inputs that it was shown, and what following it found."""


def followed(module: nn.Module, inputs: Inputs | None = None) -> Walk:
    """The walk through a network; a second one of the same network costs nothing."""
    refuse_other_kinds(module)
    now, shown = _identity(module), _plain(inputs if isinstance(inputs, tuple) else (inputs,))
    if module in _WALKS:
        before, inputs_before, walk = _WALKS[module]
        if now == before and shown in inputs_before:
            return walk
    refuse_before_a_walk(module)
    with torch.device("cpu"):  # labels are numbers, whatever device new tensors go to by default
        walk = _walked(module, inputs)
    refuse_after_a_walk(module, walk)
    _WALKS[module] = now, [shown, _plain(walk.example)], walk
    return walk


def _identity(module: nn.Module) -> Any:
    """Equal as long as no forward can tell the difference, but for numbers in tensors."""
    parts = [(path, type(part), _settings(part)) for path, part in module.named_modules()]
    tensors = [*module.named_parameters(remove_duplicate=False), *module.named_buffers()]
    return parts, [(name, id(tensor), tuple(tensor.shape)) for name, tensor in tensors]


def _settings(part: nn.Module) -> dict[str, Any]:
    """All that a forward may decide by, but for its mode."""
    return {
        name: _plain(value)
        for name, value in vars(part).items()
        if name != "training" and not name.startswith("_")
    }


def _plain(value: Any) -> Any:
    """A value as far as a forward can decide by it."""
    if isinstance(value, torch.Tensor):
        return tuple(value.shape), "float" if value.is_floating_point() else value.dtype
    if isinstance(value, list | tuple | set):
        return [_plain(each) for each in value]
    if isinstance(value, dict):
        return [(str(name), _plain(each)) for name, each in value.items()]
    return value if isinstance(value, int | float | str | None) else id(value)


def _walked(module: nn.Module, inputs: Inputs | None) -> Walk:
    walk = Walk()
    bare = without_numbers(module).float()
    count = len(inputs) if isinstance(inputs, tuple) else 1
    walk.graphs = graphs(bare, count, tuple(LAYERS))
    walk.example = example(bare, inputs)
    for training, graph in walk.graphs.items():
        with torch.no_grad():
            Walker(graph, walk, _rule, training).follow(walk.example)
    walk.place_parameters()
    return walk


def share_walk(twin: nn.Module, module: nn.Module) -> None:
    """``twin`` is a copy of ``module``, and what is known of one is known of the other."""
    _, shown, walk = _WALKS[module]
    _WALKS[twin] = _identity(twin), shown, walk


def _rule(step: Step) -> StepRule | None:
    return rule_of_layer(step) or rule_of(step.node, step.module)


# --- from a walk to a layout -------------------------------------------------------------


def _chosen(module: nn.Module, walk: Walk, units: str | Sequence[Units] | None) -> Owners:
    """The owners of a walk, where what is not voted on is fixed."""
    asked: list[set[UnitKind]] = [{"filters"}, {"filters", "hidden", "heads", "recurrent"}]
    if units is not None:
        asked = [{*kinds_of_units(units)}]
    for wanted in asked:
        owners = walk.owners.copy()
        for kind in {writer.kind for writer, _ in owners.roots()} - wanted:
            on = " and ".join(sorted(wanted))
            owners.fix_kinds({kind}, f"the vote is on {on}; to vote here, add {kind!r} to units=")
        _fix_unread(walk, owners)
        if any(True for _ in owners.roots()):
            return owners
    reasons = [f"{w.path}: {w.why}" for w in owners.writers.values() if w.why]
    what = " or ".join(sorted(wanted)) if units is not None else "units"
    some = "; ".join(reasons[:MOST_REASONS]) + ("; ..." if len(reasons) > MOST_REASONS else "")
    raise MPFLError(
        f"{type(module).__name__}: no {what} of it can be cut out "
        f"({some or 'it has no layers'}); choose other units=, or another network"
    )


def _fix_unread(walk: Walk, owners: Owners) -> None:
    """Layers that nothing reads for itself: their channels always stay, or nobody wants them."""
    read = _read(walk, owners)
    for writer, units in list(owners.roots()):
        if read.isdisjoint(units):
            if not writer.joins and _read(walk, walk.owners).isdisjoint(units):
                raise MPFLError(
                    f"{writer.path}: nothing reads its units; remove it, or end the network with a "
                    "Linear"
                )
            owners.fix_units(units, "it adds to channels that always stay")


def _read(walk: Walk, owners: Owners) -> set[int]:
    """The units that some layer reads, and that are not fixed."""
    read: set[int] = set()
    for place in walk.places.values():
        if not place.owned:
            read.update(*(owners.writers_of(int(label)) for label in place.labels.unique()))
    return read


def layout_from(module: nn.Module, walk: Walk, owners: Owners) -> Layout:
    """The layout that a walk found, of the units that ``owners`` leave free."""
    unit_of = {
        unit: (writer.path, index)
        for writer, units in owners.roots()
        for index, unit in enumerate(units)
    }
    sizes = {writer.path: len(units) for writer, units in owners.roots()}
    own: dict[str, list[str]] = {name: [] for name in sizes}
    more: dict[str, list[Slices]] = {name: [] for name in sizes}
    weights: dict[str, str] = {}  # the tensor that each layer is known by
    readers = []
    for place in walk.places.values():
        units_of = {
            label: () if found in (ALWAYS, NEVER) else tuple(unit_of[unit] for unit in found)
            for label in place.labels.unique().tolist()
            for found in [owners.writers_of(int(label))]
        }
        writers = [units_of[label] for label in place.labels.tolist()]
        names = list(dict.fromkeys(name for each in writers for name, _ in each))
        if not names:
            continue
        if place.owned and len(names) == 1 and all(len(each) <= 1 for each in writers):
            (name,) = names
            weights.setdefault(name, place.tensor)
            units = tuple(each[0][1] if each else -1 for each in writers)
            if place.axis == 0 and units == tuple(range(sizes[name])):
                own[name].append(place.tensor)
            else:
                more[name].append(Slices(place.tensor, place.axis, units))
            continue
        readers.append(_reader(place, names, writers, sizes))
        if place.owned and all(len(each) <= 1 for each in writers):  # some rows go with each
            for name in names:
                weights.setdefault(name, place.tensor)
                rows = tuple(dict(each).get(name, -1) for each in writers)
                more[name].append(Slices(place.tensor, place.axis, rows))
    layers = [
        _layer(name, sizes[name], weights[name], own[name], more[name], walk.norms.get(name))
        for name in sizes
    ]
    shapes = {name: tuple(tensor.shape) for name, tensor in float_state(module).items()}
    fixed = {
        writer.path: writer.why or _goes_with(owners, writer)
        for writer in owners.writers.values()
        if writer.kind != "parameter" and writer.path not in sizes
    }
    return Layout(tuple(layers), shapes, tuple(readers), fixed, walk.example)


def _reader(
    place: CutAxis,
    names: list[str],
    writers: list[tuple[tuple[str, int], ...]],
    sizes: dict[str, int],
) -> Reader:
    rows = []
    for name in names:
        units = [dict(each).get(name, -1) for each in writers]
        rows.append(tuple(units))
    # In order, as a rule: every layer writes all channels, each of them a block of indices.
    block, rest = divmod(len(writers), sizes[names[0]])
    in_order = tuple(index // block for index in range(len(writers))) if block else ()
    if rest == 0 and all(row == in_order for row in rows):
        return Reader(place.tensor, tuple(names), block, place.axis)
    return Reader(place.tensor, tuple(names), 1, place.axis, tuple(rows))


def _layer(
    name: str, filters: int, weight: str, own: list[str], more: list[Slices], norm: str | None
) -> Layer:
    scale = f"{norm}.weight" if f"{norm}.weight" in own else None
    shift = f"{norm}.bias" if f"{norm}.bias" in own else None
    return Layer(name, filters, weight, tuple(own), scale, shift, tuple(more))


def _goes_with(owners: Owners, writer: Writer) -> str:
    leads = owners.writers_of(owners.label((writer.first,)))
    if leads == ALWAYS:
        return "goes with channels that always stay"
    return f"goes with {' and '.join(dict.fromkeys(owners.writer(unit).path for unit in leads))}"
