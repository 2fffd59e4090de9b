"""The weight player: the way of a weight that nodes vote on, round by round."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import traitlets
from jaxtyping import Float, Integer

from mpfl.show.widgets.playable import Between, Playable, module
from mpfl.types import MPFLError

_MOST = 3  # lines that can be told apart


class WeightPlayer(Playable):
    """What the nodes said of a weight in each round, and where it went.

    ``names`` says which weights there are to choose from. ``ups`` is how many of ``nodes`` nodes
    said *up* of each weight in each round. ``ways`` holds up to three trainings by their names: the
    values of the weights before the first round and after each one. The first is the one that
    was voted on; the others are drawn beside it. ``weight`` and ``round`` are what is shown.

    >>> ways = {"votes": np.array([[0.0, 0.0], [0.1, -0.1], [0.0, -0.2]])}
    >>> player = WeightPlayer(["first", "second"], ways, np.array([[3, 0], [1, 1]]), nodes=3)
    >>> player.round = 2
    >>> player.up(), player.value()
    (1, 0.0)

    Raises :class:`~mpfl.types.MPFLError` for no weight or round, shapes that do not belong
    together, values that are not finite, more votes than nodes, and a weight or round that there
    is not.
    """

    kind = "weight player"
    label = "Weight player: choose a weight, and play the rounds or move the slider"
    _esm = module("turns.js", "weights.js")

    names: traitlets.List[Any] = traitlets.List().tag(sync=True)
    nodes = traitlets.Int().tag(sync=True)
    ups: traitlets.List[Any] = traitlets.List().tag(sync=True)
    ways: traitlets.List[Any] = traitlets.List().tag(sync=True)
    weight = traitlets.Int(0).tag(sync=True)
    round = traitlets.Int(0).tag(sync=True)

    def __init__(
        self,
        names: Sequence[str],
        ways: Mapping[str, Float[np.ndarray, "rounds_and_one weights"]],
        ups: Integer[np.ndarray, "rounds weights"],
        nodes: int,
        **setting: Any,
    ) -> None:
        rounds, weights = ups.shape
        if not rounds or not weights or len(names) != weights:
            raise MPFLError(
                f"{self.kind}: {len(names)} names, {weights} weights and {rounds} rounds; "
                "give a name per weight, and one round or more"
            )
        if not 1 <= len(ways) <= _MOST:
            raise MPFLError(f"{self.kind}: {len(ways)} ways; give 1 to {_MOST}")
        for name, values in ways.items():
            if values.shape != (rounds + 1, weights) or not np.isfinite(values).all():
                raise MPFLError(
                    f"{self.kind}: way {name!r} is {values.shape}; give finite numbers of shape "
                    f"{(rounds + 1, weights)}: before the first round, and after each one"
                )
        if ups.min() < 0 or ups.max() > nodes:
            raise MPFLError(
                f"{self.kind}: ups are {ups.min()} to {ups.max()}; {nodes} nodes vote, so give 0 "
                f"to {nodes}"
            )
        self.check(setting, {"weight": Between(0, weights - 1), "round": Between(0, rounds)})
        super().__init__(
            names=list(names),
            nodes=nodes,
            ups=ups.T.tolist(),
            ways=[[name, _short(values.T)] for name, values in ways.items()],
            **setting,
        )

    def up(self) -> int | None:
        """How many nodes said up in the round that is shown; ``None`` before the first one."""
        return self.ups[self.weight][self.round - 1] if self.round else None

    def value(self) -> float:
        """The weight after the round that is shown, in five digits."""
        return float(self.ways[0][1][self.weight][self.round])


def _short(values: Float[np.ndarray, "weights rounds_and_one"]) -> list[list[float]]:
    """The numbers in five digits: a page has thousands of them."""
    return [[float(f"{value:.5g}") for value in row] for row in values]
