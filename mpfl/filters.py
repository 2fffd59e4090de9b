"""What a filter is: which slices of which tensors belong to it.

A filter is one output slice of a conv layer. Its *own* tensors hold one slice per filter
on axis 0: the conv weight and bias, the batch-norm scale, shift and statistics. *Readers*
are the next layers' weights, which read its channel on axis 1. Pruning a filter removes
both, so the masked network computes what the smaller one computes. Where a residual join
adds the outputs of several layers, a channel is read until all of them have pruned it.

Other networks have other units: a hidden unit, an attention head. A unit may own several slices
of a tensor (:class:`Slices`), and a reader may say index by index whose channel it reads. In a
finer layout (:mod:`mpfl.granularity`) a unit is a kernel or a single weight.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from mpfl.types import Mask, MPFLError, Weights, is_number


def rounded_up(share: float, count: int) -> int:
    """``share`` of ``count`` things as a whole number of them, rounded up.

    In floats a product that is a whole number may come out a hair above it: 0.07 x 100 is
    7.000000000000001. Rounded up as it is, that would be one filter too many, and another on the
    other side of the wire. So a billionth is forgiven.

    >>> rounded_up(0.07, 100), rounded_up(0.071, 100)
    (7, 8)
    """
    return math.ceil(share * count - 1e-9)


@dataclass(frozen=True)
class Reader:
    """An axis of a tensor that follows the channels of ``layers``, ``block`` indices per channel.

    As a rule axis 1 of a weight, which reads them. Several layers if a residual join adds their
    outputs, channel by channel. ``block`` is 1 for a conv, and height x width if a linear layer
    follows a flatten. Where channels do not come in order, ``units[i][j]`` is the unit of
    ``layers[i]`` that index ``j`` follows, or -1 if it follows none; an index that follows no unit
    of any layer always stays.
    """

    tensor: str
    layers: tuple[str, ...]
    block: int = 1
    axis: int = 1
    units: tuple[tuple[int, ...], ...] = ()


@dataclass(frozen=True)
class Slices:
    """Slices of a tensor that a layer's units own, several per unit or in an order of their own.

    ``units[i]`` is the unit that index ``i`` of ``axis`` belongs to, or -1 if it is nobody's.
    """

    tensor: str
    axis: int
    units: tuple[int, ...]

    def by_unit(self, array: np.ndarray, count: int) -> np.ndarray:
        """What each of ``count`` units owns of ``array``, the tensor, in a row.

        If some own more than others, zeros fill the rows of these.
        """
        units, slices = np.array(self.units), np.moveaxis(array, self.axis, 0)
        owned = [slices[units == unit] for unit in range(count)]
        rows = np.zeros((count, max(map(len, owned)), *slices.shape[1:]), array.dtype)
        for row, mine in zip(rows, owned, strict=True):
            row[: len(mine)] = mine
        return rows.reshape(count, -1)


@dataclass(frozen=True)
class Layer:
    """One prunable layer: its name, how many filters it has, and where they are stored.

    Of a tensor in ``own`` filter ``i`` owns slice ``i`` of axis 0; ``more`` says what it owns
    besides. In a network of another kind, read *filter* as *unit*. If there is a ``grid``, units
    are finer than filters: they are arranged like the first axes of ``weight``, whose shape begins
    with ``grid``, and unit ``i`` owns row ``i`` of ``weight.reshape(filters, -1)``, nothing else.
    """

    name: str
    filters: int
    weight: str
    own: tuple[str, ...]
    scale: str | None = None
    shift: str | None = None
    more: tuple[Slices, ...] = ()
    grid: tuple[int, ...] = ()

    def rows(self, weights: Weights) -> np.ndarray:
        """All weights of each filter in a row, without biases and norms, ``[filters, weights]``.

        >>> layer = Layer("heads", 2, "w", (), more=(Slices("w", 0, (0, 0, 1, 1)),))
        >>> layer.rows({"w": np.arange(8).reshape(4, 2)})
        array([[0, 1, 2, 3],
               [4, 5, 6, 7]])
        """
        if self.grid:
            return np.asarray(weights[self.weight]).reshape(self.filters, -1)
        own = [np.asarray(weights[name]) for name in self.own]
        parts = [array.reshape(self.filters, -1) for array in own if array.ndim > 1]
        for slices in self.more:
            if (array := np.asarray(weights[slices.tensor])).ndim > 1:
                parts.append(slices.by_unit(array, self.filters))
        return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)


@dataclass(frozen=True)
class Layout:
    """Every prunable layer of a model, in order, who reads them, and the shape of every tensor.

    Two parties that hold equal layouts agree on what each bit of a mask means;
    :attr:`fingerprint` is how a message says which layout it was written for. ``fixed`` names the
    layers that have no filters to vote on, each with the reason; ``example`` is what the network
    was shown while it was followed.
    """

    layers: tuple[Layer, ...]
    shapes: Mapping[str, tuple[int, ...]]
    readers: tuple[Reader, ...] = ()
    fixed: Mapping[str, str] = field(default_factory=dict, compare=False)
    example: tuple[Any, ...] = field(default=(), compare=False, repr=False)

    @cached_property
    def fingerprint(self) -> bytes:
        """Four bytes that name this layout (BLAKE2b of layer names, counts and shapes).

        Where units own more than a slice of axis 0 each, or less, what they own counts too.
        """
        content: list[Any] = [
            [[layer.name, layer.filters] for layer in self.layers],
            sorted((name, list(shape)) for name, shape in self.shapes.items()),
        ]
        more = [
            [layer.name, s.tensor, s.axis, list(s.units)]
            for layer in self.layers
            for s in layer.more
        ]
        if more:
            content.append(more)
        if grids := [[layer.name, list(layer.grid)] for layer in self.layers if layer.grid]:
            content.append(grids)
        return hashlib.blake2b(json.dumps(content).encode(), digest_size=4).digest()

    @cached_property
    def sizes(self) -> dict[str, int]:
        """How many filters each layer has, by the layer's name, in order."""
        return {layer.name: layer.filters for layer in self.layers}

    @cached_property
    def filters(self) -> int:
        """How many filters the model has, over all layers."""
        return sum(self.sizes.values())

    @cached_property
    def filter_sizes(self) -> dict[str, int]:
        """How many weights a filter of each layer has, without its bias and batch norm."""
        empty = {name: np.empty(shape, np.bool_) for name, shape in self.shapes.items()}
        return {layer.name: layer.rows(empty).shape[1] for layer in self.layers}

    @cached_property
    def ends(self) -> np.ndarray:
        """Where each layer but the last ends in a flat array of all filters."""
        return np.cumsum(list(self.sizes.values()))[:-1]

    def keep_counts(self, sparsity: float) -> dict[str, int]:
        """How many filters each layer keeps when at least ``sparsity`` of it is removed.

        Raises :class:`MPFLError` if a layer would be left empty.
        """
        counts = {}
        if not (is_number(sparsity) and 0 <= sparsity <= 1):
            raise MPFLError(f"a sparsity of {sparsity!r} is no share; give 0 to below 1")
        for layer in self.layers:
            removed = rounded_up(sparsity, layer.filters)
            if removed >= layer.filters:
                raise MPFLError(
                    f"a sparsity of {sparsity:g} leaves layer {layer.name!r} with none of its "
                    f"{layer.filters} filters; ask for less than {1 - 1 / layer.filters:g}"
                )
            counts[layer.name] = layer.filters - removed
        return counts


def channels(mask: Mask, reader: Reader) -> np.ndarray:
    """Which channels reach a reader: those that any of its layers still writes, ``[channels]``.

    >>> mask = {"a": np.array([True, False]), "b": np.array([False, False])}
    >>> channels(mask, Reader("sum", ("a", "b")))
    array([ True, False])
    >>> channels(mask, Reader("joined", ("a", "b"), units=((0, 1, -1, -1), (-1, -1, 1, -1))))
    array([ True, False, False,  True])
    """
    if not reader.units:
        return np.logical_or.reduce([mask[name] for name in reader.layers])
    places = np.array(reader.units)
    written = [
        (units >= 0) & mask[name][units] for name, units in zip(reader.layers, places, strict=True)
    ]
    return np.logical_or.reduce(written) | (places < 0).all(axis=0)


def _kept_indices(layout: Layout, mask: Mask) -> dict[str, list[np.ndarray]]:
    """For each tensor that a mask touches: the kept indices of every axis."""
    kept: dict[str, list[np.ndarray]] = {}

    def narrow(tensor: str, axis: int, keep: np.ndarray) -> None:
        axes = kept.setdefault(tensor, [np.arange(size) for size in layout.shapes[tensor]])
        axes[axis] = np.flatnonzero(keep)

    if not isinstance(mask, Mapping):
        raise MPFLError(f"a mask is a bool array by layer, not a {type(mask).__name__}")
    if extra := mask.keys() - layout.sizes.keys():
        raise MPFLError(f"mask of layer {min(extra)!r}, which the model does not have")
    for layer in layout.layers:
        bits = mask.get(layer.name)
        if (
            not isinstance(bits, np.ndarray)
            or bits.dtype != np.bool_
            or bits.shape != (layer.filters,)
        ):
            raise MPFLError(f"mask of layer {layer.name!r} must be bool[{layer.filters}]")
        for tensor in layer.own:
            narrow(tensor, 0, mask[layer.name])
        for slices in layer.more:
            units = np.array(slices.units)
            narrow(slices.tensor, slices.axis, (units < 0) | mask[layer.name][units])
    for reader in layout.readers:
        narrow(reader.tensor, reader.axis, np.repeat(channels(mask, reader), reader.block))
    return kept


def _kept_rows(layout: Layout, mask: Mask) -> dict[str, np.ndarray]:
    """For each tensor whose units are finer than filters: which of its rows stay."""
    return {layer.weight: mask[layer.name] for layer in layout.layers if layer.grid}


def _check_shapes(weights: Weights, due: Mapping[str, tuple[int, ...]]) -> None:
    """Refuse tensors of other shapes than those due; what is not there is left out."""
    if not isinstance(weights, Mapping):
        raise MPFLError(f"weights are a {type(weights).__name__}; give an array by tensor's name")
    for name in due.keys() & weights.keys():
        if not hasattr(weights[name], "dtype"):
            raise MPFLError(f"{name!r} is a {type(weights[name]).__name__}; give an array")
        if (found := tuple(weights[name].shape)) != tuple(due[name]):
            raise MPFLError(
                f"{name!r} is {list(found)}, but must be {list(due[name])}: it is of another model "
                "or mask"
            )


def cut(weights: Weights, mask: Mask, layout: Layout) -> dict[str, np.ndarray]:
    """The weights of the small dense network: every pruned slice left out.

    Kernels and single weights leave no dense network behind: of their tensors the values that
    are kept come in one row, in order. Raises :class:`~mpfl.types.MPFLError` for a tensor of
    another shape than the layout's.
    """
    kept, rows = _kept_indices(layout, mask), _kept_rows(layout, mask)
    # A larger array would lose the rest of it without a word.
    _check_shapes(weights, {name: layout.shapes[name] for name in [*kept, *rows]})

    def left(name: str, array: np.ndarray) -> np.ndarray:
        if name in rows:
            return array.reshape(rows[name].size, -1)[rows[name]].ravel()
        return np.ascontiguousarray(array[np.ix_(*kept[name])]) if name in kept else array

    return {name: left(name, array) for name, array in weights.items()}


def expand(small: Weights, mask: Mask, layout: Layout) -> dict[str, np.ndarray]:
    """Put the small network's weights back in full shapes, zero where pruned.

    Law: ``expand(cut(w, m), m) == apply(w, m)``. Raises :class:`~mpfl.types.MPFLError` for a
    tensor of another shape than :func:`cut_shapes` says.
    """
    kept, rows = _kept_indices(layout, mask), _kept_rows(layout, mask)
    # A smaller array would be repeated without a word.
    due = _shapes_left(layout, kept, rows)
    _check_shapes(small, {name: due[name] for name in [*kept, *rows]})
    full = {}
    for name, array in small.items():
        if name in rows:
            full[name] = np.zeros(layout.shapes[name], dtype=array.dtype)
            by_unit = full[name].reshape(rows[name].size, -1)
            by_unit[rows[name]] = array.reshape(-1, by_unit.shape[1])
        elif name in kept:
            full[name] = np.zeros(layout.shapes[name], dtype=array.dtype)
            full[name][np.ix_(*kept[name])] = array
        else:
            full[name] = array
    return full


def apply(weights: Weights, mask: Mask, layout: Layout) -> dict[str, np.ndarray]:
    """The weights with every slice of every pruned filter set to exactly zero.

    Laws: idempotent, and ``apply(apply(w, a), b) == apply(w, b)`` for ``b`` within ``a``.
    """
    return expand(cut(weights, mask, layout), mask, layout)


def require_chain(layout: Layout) -> None:
    """Refuse a layout in which a reader does not simply sum the channels of one layer.

    Where several layers are added up, a channel may have lost some of its terms and not others.
    Raises :class:`~mpfl.types.MPFLError` with the tensor's name.
    """
    for reader in layout.readers:
        if len(reader.layers) > 1 or reader.axis != 1:
            raise MPFLError(
                f"{reader.tensor!r} follows axis {reader.axis} of {', '.join(reader.layers)}; only "
                "weights that each sum the channels of one layer can be rescaled, as in a chain of "
                "conv and linear layers; leave rescaled at False"
            )


def rescaled(weights: Weights, mask: Mask, layout: Layout) -> dict[str, np.ndarray]:
    """Weights with every reader as much larger as it has fewer channels left to sum over.

    A reader of ``n`` channels of which ``k`` are left is multiplied by the root of ``n / k``: what
    it sums up keeps its size on average, if the channels are independent and any ``k`` of them
    stay. A random initialisation follows the same rule (He et al., arXiv 1502.01852). Biases and
    norms stay as they are, and so does a reader of which no channel is left. Raises
    :class:`~mpfl.types.MPFLError` for networks that are no chain (:func:`require_chain`), and for a
    mask or a tensor of another one.

    >>> layer = Layer("a", 4, "a.weight", ("a.weight",))
    >>> shapes = {"a.weight": (4, 1), "b.weight": (1, 4)}
    >>> layout = Layout((layer,), shapes, (Reader("b.weight", ("a",)),))
    >>> weights = {name: np.ones(shape) for name, shape in shapes.items()}
    >>> rescaled(weights, {"a": np.array([True, False, False, False])}, layout)["b.weight"]
    array([[2., 2., 2., 2.]])
    """
    require_chain(layout)
    kept = _kept_indices(layout, mask)  # refuses a mask of another network
    _check_shapes(weights, {name: layout.shapes[name] for name in kept})
    larger = dict(weights)
    for reader in layout.readers:
        left = channels(mask, reader)
        if reader.tensor in weights and left.any():
            array = np.asarray(weights[reader.tensor])
            larger[reader.tensor] = array * np.sqrt(left.size / left.sum(), dtype=array.dtype)
    return larger


def cut_shapes(layout: Layout, mask: Mask) -> dict[str, tuple[int, ...]]:
    """The shape of every tensor of the small network, without touching any weights."""
    return _shapes_left(layout, _kept_indices(layout, mask), _kept_rows(layout, mask))


def _shapes_left(
    layout: Layout, kept: Mapping[str, list[np.ndarray]], rows: Mapping[str, np.ndarray]
) -> dict[str, tuple[int, ...]]:
    shapes = {}
    for name, shape in layout.shapes.items():
        shapes[name] = tuple(len(axis) for axis in kept[name]) if name in kept else tuple(shape)
        if name in rows:
            per_unit = math.prod(shape) // rows[name].size
            shapes[name] = (per_unit * int(rows[name].sum()),)
    return shapes
