"""Where a network's units are stored, and who reads them: its layout, found by following the data.

The network is traced (:mod:`mpfl.nets.follow.network`), and every channel of every tensor followed
to the units that write it (:mod:`mpfl.nets.follow.walk`). What cannot be followed exactly is
refused by name. Of a network that nobody has seen before, one random trial checks the result: the
network with its units masked, and the one with these units cut out, must compute the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import get_args

from torch import nn

from mpfl.filters import Layer, Layout
from mpfl.nets.follow.network import Inputs
from mpfl.nets.layouts import followed, untried_layout
from mpfl.nets.settings import Prunes, Units
from mpfl.nets.trial import check_by_trial
from mpfl.types import one_of


def layout_of(
    module: nn.Module,
    prunes: Prunes = "filter",
    *,
    inputs: Inputs | None = None,
    units: str | Sequence[Units] | None = None,
    verify: bool = True,
) -> Layout:
    """Where a model's units are stored: the layers of a mask, in the order in which they compute.

    ``units`` says which are voted on; as a rule the filters of conv layers, or in a network where
    none can be cut out, all that can. ``inputs`` is an example batch of two, or all arguments of
    ``forward`` in a tuple; without it a network that begins with a Conv2d is shown pictures.
    ``Layout.fixed`` names the layers without a vote, each with the reason.

    ``prunes="weight"`` is what the authors' released code does: a pruned filter keeps its bias
    and its batch norm, which go on training. It then puts out a constant, not nothing, so what
    reads it stays too, and no smaller network computes the same.

    ``verify=False`` leaves out the trial. Raises :class:`~mpfl.types.MPFLError`, naming the part,
    if units cannot be followed through it, if nothing reads one, or if there are none.

    >>> class Block(nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.stem, self.a = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 8, 3, padding=1)
    ...         self.b, self.head = nn.Conv2d(8, 4, 3, padding=1), nn.Linear(4, 10)
    ...     def forward(self, x):
    ...         x = self.stem(x)
    ...         x = x + self.b(self.a(x).relu())
    ...         return self.head(x.mean((2, 3)))
    >>> layout = layout_of(Block())
    >>> layout.sizes
    {'stem': 4, 'a': 8, 'b': 4}
    >>> layout.readers[-1].layers  # the head reads a sum, which stays until both have pruned it
    ('b', 'stem')
    """
    one_of("prunes", prunes, get_args(Prunes))
    layout = untried_layout(module, inputs, units)
    # A trial draws weights of its own, so that what has stood one needs no second.
    tried = followed(module, inputs).tried
    numbers = all(tensor.device.type != "meta" for tensor in module.state_dict().values())
    if verify and numbers and layout.layers not in tried:
        check_by_trial(module, layout, inputs)
        tried.add(layout.layers)
    if prunes == "weight":
        alone = [_weight_alone(layer) for layer in layout.layers]
        layout = replace(layout, layers=tuple(alone), readers=())
    return layout


def _weight_alone(layer: Layer) -> Layer:
    own = tuple(name for name in layer.own if name == layer.weight)
    return replace(layer, own=own, more=tuple(s for s in layer.more if s.tensor == layer.weight))
