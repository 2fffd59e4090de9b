"""The vote explorer: recorded ballots, a rule to choose, a threshold to move, nodes to spoil."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import traitlets

from mpfl import vote as rules
from mpfl.allocate import LayerQuota
from mpfl.analysis.faults import colluding_veto, inverted_mask, random_mask
from mpfl.analysis.replay import consensus, mixed, tampered
from mpfl.filters import Layout, rounded_up
from mpfl.node import Fault, Plan
from mpfl.runs.record import hex_of
from mpfl.schedules import one_shot
from mpfl.show.widgets.playable import Between, Playable, module
from mpfl.types import MPFLError
from mpfl.vote import Rule

_FAULTS: Mapping[str, Fault] = {
    "vote at random": random_mask(),
    "vote the opposite": inverted_mask(),
    "veto the same fifth": colluding_veto(0.2),
}


class at_least_one(LayerQuota):
    """The same share of every layer, but of a layer too small for that one filter stays."""

    def counts(self, layout: Layout, sparsity: float) -> dict[str, int]:
        return {
            name: max(1, size - rounded_up(sparsity, size)) for name, size in layout.sizes.items()
        }


def rules_at(tau: float, percentile: float) -> dict[str, Rule]:
    """The rules to choose from, by their names."""
    return {
        "most_votes": rules.most_votes(),
        "share": rules.share(tau),
        "relaxed": rules.relaxed(),
        "published_threshold": rules.published_threshold(),
        "published_percentile": rules.published_percentile(percentile),
    }


class VoteExplorer(Playable):
    """A first round's vote, decided again at every move.

    ``honest`` are recorded ballots, ``bool [nodes, filters]``; ``spoilt`` those of the same
    nodes on spoilt data, by what was done to it. Votes that lie are made of the honest ones.
    ``norms`` of the filters of w0 break ties. Read :meth:`consensus` for the mask at the
    reader's setting. Raises :class:`~mpfl.types.MPFLError` for ballots that are not bool, that
    do not fit the layout or that are not of as many nodes, and for a setting that the controls
    do not have.
    """

    kind = "vote explorer"
    label = "Vote explorer: choose a rule, move the threshold, add bad nodes"
    _esm = module("tally.js", "vote.js")

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
        for name, ballots in {"honest": honest, **(spoilt or {})}.items():
            self._refuse_other_ballots(name, ballots, len(honest), layout.filters)
        self._layout, self._norms = layout, norms
        lies = {name: tampered(fault, honest, layout, seed) for name, fault in _FAULTS.items()}
        self._cast = {"honest": honest, **(spoilt or {}), **lies}
        bad = [name for name in self._cast if name != "honest"]
        self.check(
            setting,
            {
                "rule": tuple(rules_at(0.5, 0.5)),
                "tau": Between(0, 1),
                "percentile": Between(0, 1),
                "sparsity": Between(0, 0.95),
                "bad": bad,
                "faulty": Between(0, len(honest)),
                "layer": ("", *(layer.name for layer in layout.layers)),
            },
        )
        ranks, filter_sizes = [], layout.filter_sizes
        for layer in layout.layers:  # 0 is the largest filter, which wins a tie
            order = np.argsort(-norms[layer.name], kind="stable")
            ranks += np.argsort(order, kind="stable").tolist()
        super().__init__(
            layers=[
                [layer.name, layer.filters, filter_sizes[layer.name]] for layer in layout.layers
            ],
            ballots={name: [hex_of(b) for b in cast] for name, cast in self._cast.items()},
            ranks=ranks,
            **{"bad": bad[0]} | setting,
        )

    def _refuse_other_ballots(
        self, name: str, ballots: np.ndarray, nodes: int, filters: int
    ) -> None:
        """Refuse what is no ``bool [nodes, filters]``: a page would show another vote's mask."""
        if ballots.dtype != bool:
            raise MPFLError(
                f"{self.kind}: ballots {name!r} are {ballots.dtype}; give bool, True = kept"
            )
        if ballots.shape != (nodes, filters):
            raise MPFLError(
                f"{self.kind}: ballots {name!r} are {list(ballots.shape)}, but the model has "
                f"{filters} filters and {nodes} nodes vote; give bool [nodes, filters]"
            )

    def chosen(self) -> Rule:
        """The rule at the reader's setting."""
        return rules_at(self.tau, self.percentile)[self.rule]

    def consensus(self) -> np.ndarray:
        """Which filters stay at the reader's setting, ``bool [filters]``; one a layer at least."""
        plan = Plan(self._layout, one_shot(self.sparsity), 1, at_least_one())
        ballots = mixed(self._cast["honest"], self._cast[self.bad], self.faulty)
        return consensus(plan, self.chosen(), ballots, self._norms)
