"""The round player: a recorded run, round by round, as its masks empty."""

from __future__ import annotations

from typing import Any

import numpy as np
import traitlets

from mpfl.runs.record import Run, ballots_of, consensus_of, filters_of, hex_of
from mpfl.show.widgets.playable import Between, Playable, module
from mpfl.types import MPFLError

NOBODY = -1


class RoundPlayer(Playable):
    """The mask of every layer after each round, what each node voted, and what it all sent.

    ``run`` was recorded with its ballots. ``round`` 0 is before the first one, when every
    filter is there; ``node`` is whose votes are set against the consensus, by its place among
    the nodes, or ``NOBODY``. Read :meth:`mask` and the others for what is shown. Raises
    :class:`~mpfl.types.MPFLError` for a run without votes or ballots, and for a round or a
    node that it has not.
    """

    kind = "round player"
    label = "Round player: play a recorded run, or move the slider"
    _esm = module("rounds.js")

    layers: traitlets.List[Any] = traitlets.List().tag(sync=True)
    nodes: traitlets.List[Any] = traitlets.List().tag(sync=True)
    lines: traitlets.List[Any] = traitlets.List().tag(sync=True)
    start = traitlets.Int(0).tag(sync=True)
    title = traitlets.Unicode().tag(sync=True)
    round = traitlets.Int(0).tag(sync=True)
    node = traitlets.Int(NOBODY).tag(sync=True)

    def __init__(self, run: Run, **setting: int) -> None:
        if not run.rounds or not run.rounds[0]["votes"]:
            raise MPFLError(f"{self.kind}: {run.folder} holds no votes; give a run of mpfl")
        sizes = filters_of(run)
        nodes = [int(node) for node in run.rounds[0]["agreement"]]
        lines: list[dict[str, Any]] = []
        self._ballots = [ballots_of(run, line["round"]) for line in run.rounds]
        self._masks = [np.ones(sum(sizes.values()), dtype=bool)]
        for line, ballots in zip(run.rounds, self._ballots, strict=True):
            agreement = [*line["agreement"].values()]
            if not len(ballots) == len(agreement) == len(nodes):
                raise MPFLError(
                    f"{self.kind}: {run.folder}: round {line['round']} has {len(ballots)} ballots "
                    f"of {len(nodes)} nodes; give a run in which every node voted in every round"
                )
            self._masks.append(consensus_of(line, sizes))
            lines.append(
                {
                    "mask": hex_of(self._masks[-1]),
                    "ballots": list(line["ballots"]),
                    "agreement": agreement,
                    "down": line["bytes_down"],
                    "up": line["bytes_up"],
                }
            )
        self.check(
            setting, {"round": Between(0, len(lines)), "node": Between(NOBODY, len(nodes) - 1)}
        )
        super().__init__(
            layers=[[name, size] for name, size in sizes.items()],
            nodes=nodes,
            lines=lines,
            start=sum(line["start_bytes"] for line in run.rounds),
            title=run.label,
            **setting,
        )

    def mask(self) -> np.ndarray:
        """Which filters the consensus holds after the round that is shown, ``bool [filters]``."""
        return self._masks[self.round]

    def sparsity(self) -> float:
        """The share of filters that are gone."""
        return 1.0 - int(self.mask().sum()) / self.mask().size

    def agreement(self) -> list[float]:
        """Of each node, the share of the filters alive before the vote on which it agreed."""
        return self.lines[self.round - 1]["agreement"] if self.round else []

    def outvoted(self) -> np.ndarray:
        """On which of the filters that were alive ``node`` and the consensus differ."""
        if not self.round or self.node == NOBODY:
            return np.zeros_like(self.mask())
        return self._ballots[self.round - 1][self.node] ^ self.mask()

    def sent(self) -> int:
        """The bytes of all messages so far, w0 among them."""
        return self.start + sum(line["down"] + line["up"] for line in self.lines[: self.round])
