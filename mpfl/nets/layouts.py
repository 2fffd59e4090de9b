"""From a network to its layout: followed once, then written down as who owns and who reads what."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any, get_args

import torch
from torch import nn

from mpfl.filters import Layer, Layout, Reader, Slices
from mpfl.nets.follow.layers import LAYERS, rule_of_layer
from mpfl.nets.follow.network import Inputs, example, graphs, without_hooks, without_numbers
from mpfl.nets.follow.owners import ALWAYS, NEVER, Owners, UnitKind, Writer
from mpfl.nets.follow.rules import rule_of
from mpfl.nets.follow.walk import CutAxis, Step, StepRule, Walk, Walker
from mpfl.nets.placing import FewerHeads, Picked, Placed, UnevenRecurrent
from mpfl.nets.settings import Units
from mpfl.nets.tensors import float_state, tensors_in
from mpfl.types import MPFLError, one_of


def untried_layout(
    module: nn.Module,
    inputs: Inputs | None = None,
    units: Units | Sequence[Units] | None = None,
) -> Layout:
    """:func:`~mpfl.nets.tracing.layout_of` without its trial, which cuts and so stands above."""
    walk = followed(module, inputs)
    return layout_from(module, walk, _chosen(module, walk, units))


# --- following a network, once -----------------------------------------------------------

MOST_REASONS = 4
"""How many reasons an error names."""

_WALKS: weakref.WeakKeyDictionary[nn.Module, tuple[Any, Walk]] = weakref.WeakKeyDictionary()


def followed(module: nn.Module, inputs: Inputs | None = None) -> Walk:
    """The walk through a network; a second one of the same network costs nothing."""
    structure = [(path, type(part)) for path, part in module.named_modules()]
    shapes = [(name, tensor.shape) for name, tensor in module.state_dict(keep_vars=True).items()]
    shown = [tuple(x.shape) for x in tensors_in(inputs)]
    key = (structure, shapes, shown)
    if module in _WALKS and _WALKS[module][0] == key:
        return _WALKS[module][1]
    _refuse_two_names(module)
    _refuse_hooked_weights(module)
    for path, part in module.named_modules():
        if isinstance(part, Placed | Picked | FewerHeads | UnevenRecurrent):
            raise MPFLError(
                f"{path}: units have been cut out of this network, and what is left cannot be "
                "followed again; cut the whole network, with a mask that keeps what both keep"
            )
    with torch.device("cpu"):  # labels are numbers, whatever device new tensors go to by default
        walk = _walked(module, inputs)
    _refuse_the_unused(module, walk)
    _refuse_the_unstored(module, walk)
    _WALKS[module] = key, walk
    return walk


def _walked(module: nn.Module, inputs: Inputs | None) -> Walk:
    walk = Walk()
    bare = without_numbers(module).float()
    without_hooks(bare)
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
    _WALKS[twin] = _WALKS[module]


def _rule(step: Step) -> StepRule | None:
    return rule_of_layer(step) or rule_of(step.node, step.module)


def _refuse_two_names(module: nn.Module) -> None:
    """One tensor under two names would be cut by two masks."""
    names: dict[int, str] = {}
    every = [
        *module.named_parameters(remove_duplicate=False),
        *module.named_buffers(remove_duplicate=False),
    ]
    for name, tensor in every:
        if (first := names.setdefault(id(tensor), name)) != name:
            raise MPFLError(
                f"{name}: is the same tensor as {first}, so two masks would cut it; give the layer "
                "one name, which forward may use as often as it likes"
            )


def _refuse_the_unused(module: nn.Module, walk: Walk) -> None:
    for name, _ in module.named_parameters():
        parents = {name.rsplit(".", cut)[0] for cut in range(name.count(".") + 1)}
        if not parents & walk.used:
            raise MPFLError(
                f"{name.rpartition('.')[0] or name}: forward never uses it, so no unit of it is "
                "read; remove it from the network"
            )


def _refuse_hooked_weights(module: nn.Module) -> None:
    """A weight that a hook works out before every forward, as the old weight norm does."""
    for path, part in module.named_modules():
        for name, value in vars(part).items():
            if isinstance(value, torch.Tensor) and value.grad_fn is not None:
                raise _worked_out(f"{path}.{name}".lstrip("."))


def _refuse_the_unstored(module: nn.Module, walk: Walk) -> None:
    """A weight that is worked out from others is nothing to cut."""
    stored = module.state_dict()
    for place in walk.places.values():
        if place.tensor not in stored:
            raise _worked_out(place.tensor)


def _worked_out(tensor: str) -> MPFLError:
    return MPFLError(
        f"{tensor}: is not stored but worked out, by a parametrization or a hook; make it a "
        "parameter first, with torch.nn.utils.parametrize.remove_parametrizations or "
        "torch.nn.utils.remove_weight_norm"
    )


# --- from a walk to a layout -------------------------------------------------------------


def _chosen(module: nn.Module, walk: Walk, units: Units | Sequence[Units] | None) -> Owners:
    """The owners of a walk, where what is not voted on is fixed."""
    asked: list[set[UnitKind]] = [{"filters"}, {"filters", "hidden", "heads", "recurrent"}]
    if units is not None:
        asked = [{units} if isinstance(units, str) else set(units)]
        for unit in asked[0]:
            one_of("units", unit, get_args(Units))
    for wanted in asked:
        owners = walk.owners.copy()
        kinds = {writer.kind for writer, _ in owners.roots()}
        owners.fix_kinds(kinds - wanted, f"units are {' and '.join(sorted(wanted))} here")
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
    read: set[int] = set()
    for place in walk.places.values():
        if not place.owned:
            read.update(*(owners.writers_of(int(label)) for label in place.labels.unique()))
    for writer, units in list(owners.roots()):
        if read.isdisjoint(units):
            if not writer.joins:
                raise MPFLError(
                    f"{writer.path}: nothing reads its units; remove it, or end the network with a "
                    "Linear"
                )
            owners.fix_units(units, "it adds to channels that always stay")


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
            units = tuple(each[0][1] if each else -1 for each in writers)
            if place.axis == 0 and units == tuple(range(sizes[name])):
                own[name].append(place.tensor)
            else:
                more[name].append(Slices(place.tensor, place.axis, units))
        else:
            readers.append(_reader(place, names, writers, sizes))
    layers = [
        _layer(name, sizes[name], own[name], more[name], walk.norms.get(name)) for name in sizes
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


def _layer(name: str, filters: int, own: list[str], more: list[Slices], norm: str | None) -> Layer:
    weight = (own or [more[0].tensor])[0]
    scale = f"{norm}.weight" if f"{norm}.weight" in own else None
    shift = f"{norm}.bias" if f"{norm}.bias" in own else None
    return Layer(name, filters, weight, tuple(own), scale, shift, tuple(more))


def _goes_with(owners: Owners, writer: Writer) -> str:
    leads = owners.writers_of(owners.label((writer.first,)))
    if leads == ALWAYS:
        return "goes with channels that always stay"
    return f"goes with {' and '.join(dict.fromkeys(owners.writer(unit).path for unit in leads))}"
