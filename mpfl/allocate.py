"""How many filters each layer keeps: known to every party, so that it costs no message.

An *allocation* is a function ``(layout, sparsity) -> {layer: filters kept}``. Laws: no layer
is left empty, and a higher sparsity never keeps more of any layer. Each one is a frozen
dataclass whose ``repr`` a run's configuration records.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from mpfl import masks
from mpfl.filters import Layout
from mpfl.prune import select_over_network
from mpfl.types import MPFLError

Allocation: TypeAlias = Callable[[Layout, float], dict[str, int]]


@dataclass(frozen=True)
class even:  # noqa: N801
    """The same share of every layer: the published allocation."""

    def __call__(self, layout: Layout, sparsity: float) -> dict[str, int]:
        return layout.keep_counts(sparsity)


@dataclass(frozen=True)
class power:  # noqa: N801
    """Layers keep filters in proportion to ``filters ** exponent``, none more than it has.

    1 is nearly :class:`even`; 0 gives all layers the same width. Wide layers hold most of the
    parameters, so at equal ``sparsity``, here the share of all filters of the network that
    are gone, a lower exponent leaves a smaller network. Filters are handed out one by one,
    each to the layer whose claim ``filters ** exponent / (2 k + 1)`` is largest, ``k`` being
    what it has (the rule of Sainte-Laguë for seats): so the sum is exact and the counts only
    ever fall. Raises for an exponent that is no finite number of at least 0.
    """

    exponent: float

    def __post_init__(self) -> None:
        if not (self.exponent >= 0 and math.isfinite(self.exponent)):
            raise MPFLError(f"allocation power: exponent is {self.exponent:g}; give 0 or more")

    def __call__(self, layout: Layout, sparsity: float) -> dict[str, int]:
        claims = {
            layer.name: layer.filters**self.exponent / (2 * np.arange(layer.filters) + 1)
            for layer in layout.layers
        }
        keep = layout.filters - math.ceil(sparsity * layout.filters - 1e-9)
        return masks.kept(select_over_network(claims, masks.full(layout), keep))


ALLOCATIONS = {allocation.__name__: allocation for allocation in (even, power)}
