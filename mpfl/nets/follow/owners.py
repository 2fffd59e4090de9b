"""Who keeps an element alive: a small algebra of units, and which of them must go together.

Every element of every tensor in a network carries a *label*. It names the units that write the
element, and says what the element is once they are pruned. Three facts are enough:

- an element is alive as long as *one* of its units is: a sum of several layers stays until all of
  them have pruned it;
- with all of them pruned, it is exactly zero, or it is some other constant (``sigmoid(0)`` is 0.5);
- an element that no unit writes is always alive.

Where two elements must live and die together because nothing else is exact, their units are
*tied*: they become one unit, with one bit. Where an element may not die at all, its units are
*fixed*: they get no bit.

Labels are whole numbers, so that torch can move them about: what a permutation or a concatenation
does to a tensor, it does to the tensor's labels.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import numpy as np
import torch

UnitKind: TypeAlias = Literal["filters", "hidden", "heads", "recurrent", "parameter"]
Writers: TypeAlias = tuple[int, ...]
"""Units, by number, in the order in which a sum names them; ``ALWAYS`` if nobody can prune it."""

ALWAYS: Writers = (-1,)
NEVER: Writers = ()
"""Of a constant zero, as padding is: nobody writes it."""
KEPT = 0
"""The label of an element that is always alive."""


@dataclass
class Writer:
    """A layer that has units: its path, what kind they are, the numbers of its units."""

    path: str
    kind: UnitKind
    first: int
    count: int
    why: str = ""
    """Why its units may not be pruned, if they may not."""
    joins: bool = False
    """Whether it adds to channels that always stay."""


@dataclass
class Owners:
    """All labels of a network, and what its operations have found out about them."""

    writers: dict[str, Writer] = field(default_factory=dict)
    _writer_of: list[Writer] = field(default_factory=list)
    _becomes: dict[int, Writers] = field(default_factory=dict)
    _sets: list[Writers] = field(default_factory=lambda: [ALWAYS])
    _found: dict[int, Writers] = field(default_factory=dict)
    _number: dict[Writers, int] = field(default_factory=lambda: {ALWAYS: 0})

    # --- units and labels ----------------------------------------------------------------

    def units(self, path: str, kind: UnitKind, count: int) -> torch.Tensor:
        """Labels of a layer's units, ``[count]``: new ones, or those that it has already."""
        writer = self.writers.get(path)
        if writer is None:
            writer = Writer(path, kind, len(self._writer_of), count)
            self.writers[path] = writer
            self._writer_of += [writer] * count
        return torch.tensor(
            [self.label((writer.first + i,)) for i in range(count)], dtype=torch.float64
        )

    def label(self, writers: Writers, *, constant: bool = False) -> int:
        """The label of what ``writers`` write; ``constant`` if it is not zero without them."""
        number = self._number.setdefault(writers, len(self._sets))
        if number == len(self._sets):
            self._sets.append(writers)
        return KEPT if number == 0 else 2 * number + constant

    def writers_of(self, label: int) -> Writers:
        """Whose the label is by now: what was tied has one name, what was fixed is ``ALWAYS``."""
        number = int(label) // 2
        found = self._found.get(number)
        if found is None:
            found = self._found[number] = self._resolved(self._sets[number])
        return found

    def by_number(self) -> list[Writers]:
        """Whose every label is: those of labels ``2 * i`` and ``2 * i + 1`` are the ``i``-th."""
        return [self.writers_of(2 * number) for number in range(len(self._sets))]

    def _turn(self, unit: int, into: Writers) -> None:
        """From now on ``unit`` is another name for ``into``."""
        self._becomes[unit] = into
        self._found.clear()

    def _resolved(self, writers: Writers) -> Writers:
        found: list[int] = []
        for unit in writers:
            into = self._becomes.get(unit)
            if into is not None:
                into = self._resolved(into)
                self._becomes[unit] = into  # next time it is one step
            for root in into if into is not None else (unit,):
                if root == -1:
                    return ALWAYS
                if root not in found:
                    found.append(root)
        return tuple(found)

    def writer(self, unit: int) -> Writer:
        """The layer that a unit is of."""
        return self._writer_of[unit]

    def settled(self, labels: torch.Tensor) -> np.ndarray:
        """Labels as they are by now, equal numbers for equal writers."""
        small = thin(labels)
        unique, places = np.unique(small.numpy(), return_inverse=True)
        now = [
            self.label(self.writers_of(int(label)), constant=bool(int(label) % 2))
            for label in unique
        ]
        settled = np.array(now, np.int64)[places].reshape(small.shape)
        return np.broadcast_to(settled, labels.shape)

    def is_kept(self, labels: torch.Tensor) -> bool:
        """Whether all elements are always alive."""
        return bool((self.settled(labels) == KEPT).all())

    # --- what operations ask for ---------------------------------------------------------

    def fix(self, labels: torch.Tensor, why: str) -> None:
        """No unit that writes one of these elements may be pruned; ``why`` is told to readers."""
        for label in np.unique(thin(labels).numpy()):
            self._fix(self.writers_of(int(label)), why)

    def fix_parameters(self, labels: torch.Tensor, why: str) -> None:
        """As :meth:`fix`, for the elements of bare parameters alone."""
        if any(writer.kind == "parameter" for writer in self.writers.values()):
            for label in np.unique(thin(labels).numpy()):
                writers = self.writers_of(int(label))
                if all(self._is_parameter(unit) for unit in writers):
                    self._fix(writers, why)

    def _fix(self, writers: Writers, why: str) -> None:
        for unit in writers:
            if unit != -1:
                writer = self.writer(unit)
                writer.why = writer.why or why
                self._turn(unit, ALWAYS)

    def tie(self, one: torch.Tensor, other: torch.Tensor, why: str) -> None:
        """The elements of both, pair by pair, live and die together."""
        pairs = np.stack(np.broadcast_arrays(thin(one).numpy(), thin(other).numpy()))
        for first, second in np.unique(pairs.reshape(2, -1), axis=1).T:
            self._tie(self.writers_of(int(first)), self.writers_of(int(second)), why)

    def _tie(self, one: Writers, other: Writers, why: str) -> None:
        if one == other:
            return
        for first, second in ((one, other), (other, one)):
            if first in (ALWAYS, NEVER):
                self._fix(second, why)
                return
        # A single unit follows what the other element's units do; of two the older one leads,
        # and a bare parameter never does.
        if len(one) == 1 and (len(other) > 1 or self._age(one[0]) > self._age(other[0])):
            one, other = other, one
        if len(other) == 1 and other[0] not in one:
            self._turn(other[0], one)
            return
        # Two sums that are not the same: all that write them become one unit.
        oldest, *rest = sorted({*one, *other})
        for unit in rest:
            self._turn(unit, (oldest,))

    # --- what operations do to labels ----------------------------------------------------

    def added(self, one: torch.Tensor, other: torch.Tensor, why: str) -> torch.Tensor:
        """The labels of a sum: each element stays as long as one of its terms does."""

        def term(a: int, b: int) -> int:
            first, second = self.writers_of(a), self.writers_of(b)
            if first == second:
                return self.label(first, constant=bool(a % 2 or b % 2))
            if NEVER in (first, second):
                writers = second if first == NEVER else first
                return self.label(writers, constant=bool(a % 2 or b % 2))
            for follows, leads in ((first, second), (second, first)):
                if len(follows) == 1 and self._is_parameter(follows[0]):
                    self._tie(leads, follows, why)
                    return self.label(self._resolved(leads), constant=bool(a % 2 or b % 2))
            if a % 2 or b % 2:  # what is left of a pruned term would be added to the other one
                self._tie(first, second, why)
                return self.label(self._resolved(first), constant=True)
            if ALWAYS in (first, second):
                for unit in {*first, *second} - {-1}:
                    self.writer(unit).joins = True
                return KEPT
            # torchvision's blocks add the shortcut on the right; it is named first.
            return self.label(self._resolved((*second, *first)))

        return _pairwise(term, one, other)

    def multiplied(self, one: torch.Tensor, other: torch.Tensor, why: str) -> torch.Tensor:
        """The labels of a product: one factor leads, and the other lives and dies with it."""

        def factor(a: int, b: int) -> int:
            first, second = self.writers_of(a), self.writers_of(b)
            constant = bool(a % 2 and b % 2)
            for one, other in ((a, second), (b, first)):
                if self.writers_of(one) == NEVER:  # nothing, or a constant that is no unit's
                    return self.label(other if one % 2 else NEVER, constant=constant)
            if second == ALWAYS:
                return self.label(first, constant=bool(a % 2))
            if first == ALWAYS:
                return self.label(second, constant=bool(b % 2))
            self._tie(first, second, why)
            return self.label(self._resolved(first), constant=constant)

        return _pairwise(factor, one, other)

    def _age(self, unit: int) -> tuple[bool, int]:
        return self._is_parameter(unit), unit

    def _is_parameter(self, unit: int) -> bool:
        return unit != -1 and self.writer(unit).kind == "parameter"

    def constant(self, labels: torch.Tensor) -> torch.Tensor:
        """The same elements, which need not be zero any more once they are pruned."""
        return labels + ((labels % 2 == 0) & (labels != KEPT))

    def zero(self, labels: torch.Tensor) -> torch.Tensor:
        """The same elements, now zero once they are pruned."""
        return labels - labels % 2

    def roots(self) -> Iterator[tuple[Writer, list[int]]]:
        """The layers that still have units of their own, each with these, in order."""
        for writer in self.writers.values():
            numbers = range(writer.first, writer.first + writer.count)
            if own := [unit for unit in numbers if unit not in self._becomes]:
                yield writer, own

    def fix_kinds(self, kinds: Collection[UnitKind], why: str) -> None:
        """As :meth:`fix`, for all units of some kinds."""
        for writer, units in list(self.roots()):
            if writer.kind in kinds:
                self.fix_units(units, why)

    def fix_units(self, units: Collection[int], why: str) -> None:
        """As :meth:`fix`, for units by number."""
        for unit in units:
            self._fix((unit,), why)

    def copy(self) -> Owners:
        """The same units, which can be fixed without a change to these."""
        twin = copy.copy(self)
        twin.writers = {path: copy.copy(writer) for path, writer in self.writers.items()}
        twin._writer_of = [twin.writers[writer.path] for writer in self._writer_of]
        twin._becomes, twin._found = dict(self._becomes), {}
        twin._sets, twin._number = list(self._sets), dict(self._number)
        return twin


def _pairwise(
    combine: Callable[[int, int], int], one: torch.Tensor, other: torch.Tensor
) -> torch.Tensor:
    """``combine`` of every pair of labels, worked out once for pairs that are alike."""
    shape = torch.broadcast_shapes(one.shape, other.shape)
    pair = np.stack(np.broadcast_arrays(thin(one).numpy(), thin(other).numpy()))
    unique, places = np.unique(pair.reshape(2, -1), axis=1, return_inverse=True)
    combined = [combine(int(a), int(b)) for a, b in unique.T]
    found = torch.from_numpy(np.array(combined, np.float64)[places].reshape(pair.shape[1:]))
    return found.expand(shape)


def thin(labels: torch.Tensor) -> torch.Tensor:
    """The same labels, with size 1 along every axis on which they are known not to vary."""
    for axis, step in enumerate(labels.stride()):
        if step == 0 and labels.shape[axis] > 1:
            labels = labels.narrow(axis, 0, 1)
    return labels


def thinned(labels: torch.Tensor) -> torch.Tensor:
    """The same labels, kept once along every axis on which they do not vary."""
    small = labels
    for axis, size in enumerate(labels.shape):
        if size > 1 and not varies(small, axis):
            small = small.narrow(axis, 0, 1)
    return small.clone().expand(labels.shape)


def varies(labels: torch.Tensor, axis: int) -> bool:
    """Whether the label changes along ``axis``."""
    return not bool((labels == labels.narrow(axis, 0, 1)).all())


def kept(shape: Sequence[int]) -> torch.Tensor:
    """The labels of a tensor all of which is always alive."""
    return torch.full((), KEPT, dtype=torch.float64).expand(tuple(shape))
