"""The vote explorer: recorded ballots, a rule to choose, a threshold to move, nodes to spoil."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import traitlets

from mpfl import vote
from mpfl.analysis.faults import colluding_veto, inverted_mask, random_mask
from mpfl.analysis.replay import consensus, mixed, tampered
from mpfl.filters import Layout
from mpfl.node import Fault, Plan
from mpfl.runs.record import hex_of
from mpfl.schedules import one_shot
from mpfl.show.widgets.playable import Playable, module
from mpfl.types import MPFLError
from mpfl.vote import Rule

FAULTS: Mapping[str, Fault] = {
    "vote at random": random_mask(),
    "vote the opposite": inverted_mask(),
    "veto the same fifth": colluding_veto(0.2),
}


def _asked(layout: Layout, sparsity: float) -> dict[str, int]:
    """The schedule's counts, but of a layer too small for them one filter stays."""
    return {
        layer.name: max(1, layer.filters - math.ceil(sparsity * layer.filters - 1e-9))
        for layer in layout.layers
    }


class VoteExplorer(Playable):
    """A first round's vote, decided again at every move.

    ``honest`` are recorded ballots, ``bool [nodes, filters]``; ``spoilt`` those of the same
    nodes on spoilt data, by what was done to it. Votes that lie are made of the honest ones.
    ``norms`` of the filters of w0 break ties. Read :meth:`consensus` for the mask at the
    reader's setting. Raises :class:`~mpfl.types.MPFLError` where ballots do not fit the layout.
    """

    label = "Vote explorer: choose a rule, move the threshold, add bad nodes"
    _esm = module("vote.js")

    layers: traitlets.List[Any] = traitlets.List().tag(sync=True)
    ballots = traitlets.Dict().tag(sync=True)
    ranks: traitlets.List[Any] = traitlets.List().tag(sync=True)
    rule = traitlets.Unicode("share").tag(sync=True)
    tau = traitlets.Float(0.5).tag(sync=True)
    percentile = traitlets.Float(0.5).tag(sync=True)
    sparsity = traitlets.Float(0.8).tag(sync=True)
    bad = traitlets.Unicode().tag(sync=True)
    faulty = traitlets.Int(0).tag(sync=True)
    layer = traitlets.Unicode("").tag(sync=True)

    def __init__(
        self,
        layout: Layout,
        honest: np.ndarray,
        norms: Mapping[str, np.ndarray],
        spoilt: Mapping[str, np.ndarray] | None = None,
        seed: int = 0,
        **setting: Any,
    ) -> None:
        if honest.ndim != 2 or honest.shape[1] != layout.filters:
            raise MPFLError(
                f"vote explorer: ballots are {list(honest.shape)}, but the model has "
                f"{layout.filters} filters; give bool [nodes, filters] of the same model"
            )
        self._layout, self._norms = layout, norms
        lies = {kind: tampered(fault, honest, layout, seed) for kind, fault in FAULTS.items()}
        self._cast = {"honest": honest, **(spoilt or {}), **lies}
        ranks = []
        for layer in layout.layers:  # 0 is the largest filter, which wins a tie
            order = np.argsort(-norms[layer.name], kind="stable")
            ranks += np.argsort(order, kind="stable").tolist()
        super().__init__(
            layers=[[layer.name, layer.filters] for layer in layout.layers],
            ballots={kind: [hex_of(b) for b in cast] for kind, cast in self._cast.items()},
            ranks=ranks,
            **{"bad": next(kind for kind in self._cast if kind != "honest")} | setting,
        )

    def chosen(self) -> Rule:
        """The rule at the reader's setting."""
        made: dict[str, Rule] = {
            "budget": vote.most_votes(),
            "share": vote.share(self.tau),
            "relaxed": vote.relaxed(),
            "published_threshold": vote.published_threshold(),
            "published_percentile": vote.published_percentile(self.percentile),
        }
        return made[self.rule]

    def consensus(self) -> np.ndarray:
        """Which filters stay at the reader's setting, ``bool [filters]``; one a layer at least."""
        plan = Plan(self._layout, one_shot(self.sparsity), 1, allocation=_asked)
        ballots = mixed(self._cast["honest"], self._cast[self.bad], self.faulty)
        return consensus(plan, self.chosen(), ballots, self._norms)
