"""Quotas: how many filters stay in a round, and where. Known to every party without a message.

A *quota* turns the schedule's sparsity into numbers of filters (:class:`~mpfl.masks.Keep`): of
each layer the same share, by a power of its width, of what is left, or over the network. Nodes and
server compute it alone. Each quota is a frozen dataclass whose ``repr`` a run records.

Laws, for every quota: no layer is asked to be empty, and what a node keeps is never above what is
alive. (What the server's rule is asked for may be, if ``required`` goes slower than the votes.)
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from mpfl import masks, prune
from mpfl.filters import Layout, rounded_up
from mpfl.masks import Keep
from mpfl.schedules import Schedule
from mpfl.types import Mask, MPFLError


class Quota(ABC):
    """How many filters stay after round ``round_`` of ``rounds``, if ``alive`` came into it.

    ``by_schedule``: under a rule that is exact, the schedule alone sets each layer's number.
    """

    by_schedule: ClassVar[bool] = True

    @abstractmethod
    def keep(
        self, layout: Layout, schedule: Schedule, round_: int, rounds: int, alive: Mask
    ) -> Keep:
        """How many filters a node's mask holds."""

    def asked(
        self, layout: Layout, schedule: Schedule, round_: int, rounds: int, alive: Mask
    ) -> Keep:
        """How many the server's rule is asked to leave: as many, unless a quota says otherwise."""
        return self.keep(layout, schedule, round_, rounds, alive)


class LayerQuota(Quota):
    """A quota that gives every layer a number of its own, whatever the votes were before."""

    @abstractmethod
    def counts(self, layout: Layout, sparsity: float) -> dict[str, int]:
        """How many filters each layer keeps at a sparsity of the full model, 0-1."""

    def keep(
        self, layout: Layout, schedule: Schedule, round_: int, rounds: int, alive: Mask
    ) -> Keep:
        counts = self.counts(layout, schedule(round_, rounds))
        left = masks.counts(alive)
        return Keep.by_layer({name: min(count, left[name]) for name, count in counts.items()})


def _rounded(share: float, count: int) -> int:
    """``share`` of ``count`` to the nearest whole number, half to even, as Python rounds.

    A share that was worked out from two sparsities may miss its half by the last digits.
    """
    return round(round(share, 12) * count)


def _required(required: Schedule, layout: Layout, round_: int, rounds: int) -> Keep:
    return Keep.by_layer(layout.keep_counts(required(round_, rounds)))


@dataclass(frozen=True)
class even(LayerQuota):
    """The same share of every layer, rounded up: the published quota.

    ``required`` is the schedule that the server's rule goes by, if it is not the nodes' own.

    >>> from mpfl.filters import Layer
    >>> layers = (Layer("conv1", 4, "v", ("v",)), Layer("conv2", 16, "w", ("w",)))
    >>> even().counts(Layout(layers, {}), 0.5)
    {'conv1': 2, 'conv2': 8}
    """

    required: Schedule | None = None

    def counts(self, layout: Layout, sparsity: float) -> dict[str, int]:
        return layout.keep_counts(sparsity)

    def asked(
        self, layout: Layout, schedule: Schedule, round_: int, rounds: int, alive: Mask
    ) -> Keep:
        if self.required is not None:
            return _required(self.required, layout, round_, rounds)
        return self.keep(layout, schedule, round_, rounds, alive)


@dataclass(frozen=True)
class power(LayerQuota):
    """Layers keep filters in proportion to ``filters ** exponent``, none more than it has.

    1 is nearly :class:`even`; 0 gives all layers the same width. Wide layers hold most of the
    parameters, so at equal sparsity, here the share of all filters of the network that are gone,
    a lower exponent leaves a smaller network. Filters are handed out one by one, each to the
    layer whose claim ``filters ** exponent / (2 k + 1)`` is largest, ``k`` being what it has (the
    rule of Sainte-Laguë for seats): so the sum is exact and the counts only ever fall. Raises
    :class:`~mpfl.types.MPFLError` for an exponent that is not a finite number of at least 0.

    >>> from mpfl.filters import Layer
    >>> layers = (Layer("conv1", 4, "v", ("v",)), Layer("conv2", 16, "w", ("w",)))
    >>> power(0.5).counts(Layout(layers, {}), 0.5)  # the root: 2 to 4 instead of 4 to 16
    {'conv1': 3, 'conv2': 7}
    """

    exponent: float

    def __post_init__(self) -> None:
        if not (self.exponent >= 0 and math.isfinite(self.exponent)):
            raise MPFLError(f"quota power: exponent is {self.exponent:g}; give 0 or more")

    def counts(self, layout: Layout, sparsity: float) -> dict[str, int]:
        # The claims of a layer's first, second, ... filter: ranked like scores, they hand the
        # seats out all at once.
        try:
            claims = {
                name: size**self.exponent / (2 * np.arange(size) + 1)
                for name, size in layout.sizes.items()
            }
        except OverflowError:
            raise MPFLError(
                f"quota power: exponent is {self.exponent:g}, too much for a layer of "
                f"{max(layout.sizes.values())} filters; give less, such as 2"
            ) from None
        seats = layout.filters - rounded_up(sparsity, layout.filters)
        network = Keep({tuple(layout.sizes): seats})
        return masks.counts(prune.select(claims, masks.full(layout), network))


@dataclass(frozen=True)
class of_what_is_left(Quota):
    """What a round takes off is a share of what the last vote left of each layer.

    So a vote that removed more than asked is not made good later. As in the authors' released
    code, the share is rounded to the nearest whole filter, and half a filter to the even number:
    a layer of 5 filters or fewer loses none to a tenth. At least one filter stays. ``required``
    as in :class:`even`.

    >>> from mpfl.filters import Layer
    >>> from mpfl.schedules import geometric
    >>> layout = Layout((Layer("conv", 8, "w", ("w",)),), {})
    >>> alive = {"conv": np.arange(8) < 4}  # half is gone already
    >>> of_what_is_left().keep(layout, geometric(0.25), 1, 10, alive).counts
    {('conv',): 3}
    """

    required: Schedule | None = None

    def keep(
        self, layout: Layout, schedule: Schedule, round_: int, rounds: int, alive: Mask
    ) -> Keep:
        now = schedule(round_, rounds)
        before = schedule(round_ - 1, rounds) if round_ > 1 else 0.0
        amount = (now - before) / (1 - before)
        return Keep.by_layer(
            {
                name: max(min(count, 1), count - _rounded(amount, count))
                for name, count in masks.counts(alive).items()
            }
        )

    def asked(
        self, layout: Layout, schedule: Schedule, round_: int, rounds: int, alive: Mask
    ) -> Keep:
        if self.required is not None:
            return _required(self.required, layout, round_, rounds)
        return self.keep(layout, schedule, round_, rounds, alive)


@dataclass(frozen=True)
class over_network(Quota):
    """One number for the whole network: all filters compete, and the votes allocate.

    Each layer keeps at least ``floor`` filters. Raises :class:`~mpfl.types.MPFLError` for a floor
    below 1, or one that the number cannot give every layer.

    >>> from mpfl.filters import Layer
    >>> from mpfl.schedules import one_shot
    >>> layout = Layout((Layer("conv1", 4, "v", ("v",)), Layer("conv2", 16, "w", ("w",))), {})
    >>> over_network().keep(layout, one_shot(0.5), 1, 1, masks.full(layout)).counts
    {('conv1', 'conv2'): 10}
    """

    floor: int = 1
    by_schedule: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not (isinstance(self.floor, int) and self.floor >= 1):
            raise MPFLError(f"floor is {self.floor}, but every layer needs at least 1 filter")

    def keep(
        self, layout: Layout, schedule: Schedule, round_: int, rounds: int, alive: Mask
    ) -> Keep:
        removed = rounded_up(schedule(round_, rounds), layout.filters)
        left = masks.counts(alive)
        count = min(layout.filters - removed, sum(left.values()))
        if count < (floors := sum(min(self.floor, size) for size in left.values())):
            raise MPFLError(
                f"round {round_} keeps {count} filters, but a floor of {self.floor} takes "
                f"{floors}; ask for less sparsity or a lower floor"
            )
        return Keep({tuple(layout.sizes): count}, self.floor)


QUOTAS = {quota.__name__: quota for quota in (even, power, of_what_is_left, over_network)}
