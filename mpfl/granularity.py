"""What one bit of a mask stands for: a filter, a kernel or a single weight.

A *kernel* is the slice of a conv weight from one input channel to one output channel; of a linear
layer it is a single weight. A finer mask has more bits: at half width VGG11 has 1,376 filters,
256,096 kernels and nine times as many weights. Only filters can be cut out. A network whose
kernels or single weights are masked keeps its shape, and computes with zeros.
"""

from __future__ import annotations

import math
from typing import Literal, TypeAlias, get_args

from mpfl.filters import Layer, Layout
from mpfl.types import MPFLError, one_of

Granularity: TypeAlias = Literal["filter", "kernel", "weight"]
"""What one bit of a mask stands for."""


def finer(layout: Layout, granularity: Granularity) -> Layout:
    """The same network, with one bit per kernel or per weight in place of one per filter.

    Biases, norms and layers without a vote (``layout.fixed``) are not masked, and nobody reads a
    kernel: so there are no readers. ``"filter"`` gives the layout itself. Raises
    :class:`~mpfl.types.MPFLError` for units that are not the filters of one weight, such as
    attention heads, or filters that a depthwise convolution goes with.

    >>> layout = Layout((Layer("conv", 4, "w", ("w", "b")),), {"w": (4, 2, 3, 3), "b": (4,)})
    >>> [finer(layout, granularity).filters for granularity in ("filter", "kernel", "weight")]
    [4, 8, 72]
    >>> finer(layout, "kernel").layers[0].grid
    (4, 2)
    """
    one_of("granularity", granularity, get_args(Granularity))
    if granularity == "filter":
        return layout
    layers = []
    for layer in layout.layers:
        matrices = [name for name in layer.own if len(layout.shapes[name]) > 1]
        if layer.more or layer.grid or matrices != [layer.weight]:
            raise MPFLError(
                f"granularity {granularity!r}: the units of layer {layer.name!r} are not the "
                "rows of one weight; vote on other units (units=hidden, or filters), or leave "
                "granularity at filter"
            )
        shape = layout.shapes[layer.weight]
        grid = shape if granularity == "weight" else shape[:2]
        layers.append(Layer(layer.name, math.prod(grid), layer.weight, (), grid=tuple(grid)))
    return Layout(tuple(layers), layout.shapes, fixed=layout.fixed)
