"""The loop, alive: three nodes vote about twelve filters, and a server counts."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import product
from typing import Any

import numpy as np
import traitlets

from mpfl import masks, prune, wire
from mpfl import vote as rules
from mpfl.filters import Layer, Layout, Reader, cut_shapes
from mpfl.node import Plan
from mpfl.runs.record import bits_of, hex_of
from mpfl.schedules import linear
from mpfl.seeds import rng_for
from mpfl.server import decide
from mpfl.show.widgets.playable import Playable, module, stylesheet
from mpfl.types import Mask, MPFLError
from mpfl.vote import Rule

TWELVE = Layout(
    (
        Layer("layer 1", 4, "conv1.weight", ("conv1.weight", "conv1.bias")),
        Layer("layer 2", 8, "conv2.weight", ("conv2.weight", "conv2.bias")),
    ),
    {
        "conv1.weight": (4, 3, 3, 3),
        "conv1.bias": (4,),
        "conv2.weight": (8, 4, 3, 3),
        "conv2.bias": (8,),
        "head.weight": (10, 8),
        "head.bias": (10,),
    },
    (Reader("conv2.weight", ("layer 1",)), Reader("head.weight", ("layer 2",))),
)
"""Two small convolutions and a head for ten classes: twelve filters, 498 weights."""

_PLAN = Plan(TWELVE, linear(0.75), 3, coding="packed")
_NOISE = 0.35  # how far a node's data moves the weights, beside their own spread
_RULES: Mapping[str, tuple[str, Rule]] = {
    "majority": ("majority of the nodes", rules.share(0.5)),
    "unanimity": ("unanimity: all nodes", rules.share(1.0)),
    "most votes": ("most votes, as many as planned", rules.most_votes()),
}


class VoteLoop(Playable):
    """A round of masked pruning whose ballots the reader changes, square by square.

    The nodes' training is played by noise: ``nodes`` copies of one w0, each moved by its own
    draw from ``seed``, whose filters :func:`mpfl.prune.filter_norms` scores. All else is what
    the package does by ``plan``: quotas, rules and the lengths of messages. ``rule`` is
    ``majority``, ``unanimity`` or ``most votes``. Read :meth:`consensus` for what the vote that is
    shown makes. Raises :class:`~mpfl.types.MPFLError` for another rule, and for a plan whose votes
    are not all equally long.
    """

    kind = "vote loop"
    label = "The loop: change a vote, choose a rule, go on to the next round"
    _esm = module("tally.js", "loop.js")
    _css = stylesheet("loop.css")

    layers: traitlets.List[Any] = traitlets.List().tag(sync=True)
    rules: traitlets.List[Any] = traitlets.List().tag(sync=True)
    scores: traitlets.List[Any] = traitlets.List().tag(sync=True)
    ranks: traitlets.List[Any] = traitlets.List().tag(sync=True)
    quotas: traitlets.List[Any] = traitlets.List().tag(sync=True)
    up = traitlets.Int().tag(sync=True)
    dense = traitlets.Int().tag(sync=True)
    by_counts = traitlets.Dict().tag(sync=True)
    rule = traitlets.Unicode("majority").tag(sync=True)
    round = traitlets.Int(1).tag(sync=True)
    alive = traitlets.Unicode().tag(sync=True)
    ballots: traitlets.List[Any] = traitlets.List().tag(sync=True)

    def __init__(self, plan: Plan = _PLAN, nodes: int = 3, seed: int = 7, **setting: str) -> None:
        if plan.coding != "packed":
            raise MPFLError(f"{self.kind}: votes are coded {plan.coding!r}; give coding='packed'")
        self.check(setting, {"rule": tuple(_RULES)})
        layout, everything = plan.layout, masks.full(plan.layout)
        self._plan = plan
        rng = rng_for(seed, "vote loop")
        w0 = {
            name: np.asarray(rng.normal(size=shape) * math.sqrt(2 / math.prod(shape[1:])))
            for name, shape in layout.shapes.items()
        }
        self._norms = prune.filter_norms(w0, layout)
        moved = [
            {
                name: np.asarray(array + _NOISE * array.std() * rng.normal(size=array.shape))
                for name, array in w0.items()
            }
            for _ in range(nodes)
        ]
        self._scores = [prune.filter_norms(weights, layout) for weights in moved]
        orders = [np.argsort(-self._norms[layer.name], kind="stable") for layer in layout.layers]
        super().__init__(
            layers=[[layer.name, layer.filters] for layer in layout.layers],
            rules=[
                [name, text, getattr(rule, "tau", None)] for name, (text, rule) in _RULES.items()
            ],
            scores=[masks.flatten(scores, layout).tolist() for scores in self._scores],
            ranks=[rank for order in orders for rank in np.argsort(order).tolist()],
            quotas=[
                list(plan.keep(round_, everything).for_layers(layout.sizes).values())
                for round_ in range(1, plan.rounds + 1)
            ],
            up=len(wire.encode_mask(everything, layout, 1, reference=everything, coding="packed")),
            dense=wire.weights_length(layout.shapes),
            by_counts=_by_counts(layout),
            alive=hex_of(masks.flatten(everything, layout)),
            **setting,
        )
        self.ballots = self._hexes(self.honest())

    def _hexes(self, many: list[dict[str, np.ndarray]]) -> list[str]:
        return [hex_of(masks.flatten(mask, self._plan.layout)) for mask in many]

    def _mask(self, text: str) -> dict[str, np.ndarray]:
        layout = self._plan.layout
        return masks.unflatten(bits_of(text, layout.filters), layout)

    def honest(self) -> list[dict[str, np.ndarray]]:
        """What the nodes vote by their scores in the round that is shown."""
        alive = self._mask(self.alive)
        keep = self._plan.keep(self.round, alive)
        return [prune.select(scores, alive, keep) for scores in self._scores]

    def consensus(self) -> dict[str, np.ndarray]:
        """What the server makes of the votes that are shown."""
        ballots = [self._mask(text) for text in self.ballots]
        votes = {name: np.sum([each[name] for each in ballots], axis=0) for name in ballots[0]}
        alive, (_, rule) = self._mask(self.alive), _RULES[self.rule]
        found = decide(self._plan, rule, alive, self.round, votes, len(ballots), self._norms)
        return found[0]

    def next_round(self) -> None:
        """Make the consensus what is alive, and let the nodes vote on it by their scores."""
        self.alive = self._hexes([self.consensus()])[0]
        self.round += 1
        self.ballots = self._hexes(self.honest())

    def sent(self) -> tuple[int, int]:
        """The bytes of the vote that is shown, over all nodes: ballots up, the consensus down."""
        alive, layout = self._mask(self.alive), self._plan.layout
        up = [
            wire.encode_mask(self._mask(text), layout, self.round, reference=alive, coding="packed")
            for text in self.ballots
        ]
        down = wire.encode_consensus(self.consensus(), layout, self.round + 1)
        return sum(map(len, up)), len(down) * len(up)


def _by_counts(layout: Layout) -> dict[str, list[int]]:
    """For every number of filters that layers can keep: the bytes of a consensus, and the weights
    of the network that is left. Both follow from the numbers alone."""
    table = {}
    for counts in product(*(range(1, layer.filters + 1) for layer in layout.layers)):
        mask: Mask = {
            layer.name: np.arange(layer.filters) < count
            for layer, count in zip(layout.layers, counts, strict=True)
        }
        weights = sum(map(math.prod, cut_shapes(layout, mask).values()))
        key = ",".join(map(str, counts))
        table[key] = [len(wire.encode_consensus(mask, layout, 1)), weights]
    return table
