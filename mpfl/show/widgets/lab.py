"""The vote lab: two rules on the same ballots, drawn by hand or recorded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import traitlets

from mpfl.analysis.replay import consensus
from mpfl.analysis.written import written_rule
from mpfl.filters import Layer, Layout
from mpfl.node import Plan
from mpfl.runs.record import bits_of, hex_of
from mpfl.schedules import one_shot
from mpfl.show.widgets.playable import Between, Playable, module
from mpfl.show.widgets.vote import at_least_one, rules_at
from mpfl.types import MPFLError
from mpfl.vote import Rule

BY_HAND = "drawn by hand"
_NODES, _FILTERS = 5, 12
_NORMS = np.array([2.4, 0.6, 1.9, 1.1, 2.8, 0.9, 1.5, 2.1, 0.4, 1.3, 3.0, 0.7])
_HAND = Layout((Layer("hand", _FILTERS, "hand.weight", ("hand.weight",)),),
               {"hand.weight": (_FILTERS, 1)})  # fmt: skip
_OWN = "written"  # the rule that the reader writes
_WRITTEN = "votes >= 0.7*N or norm > median"


def _table(*rows: str) -> str:
    """Ballots by hand as hex digits: a row is a node's ballot, 1 keeps the filter."""
    return hex_of(np.array([[bit == "1" for bit in row] for row in rows]).ravel())


_COMMON = _table("101110000101", "100011011100", "011010010101", "110010010101", "101011010010")
_SPLIT = _table("101110000101", "111010011000", "010011010101", "100010011101", "101011010010")
_LESSONS: tuple[Mapping[str, Any], ...] = (
    {
        "name": "Unanimity overshoots",
        "says": "Every node drops six of twelve filters. If all five must agree, one is left.",
        "table": _SPLIT,
        "one": "share", "one_level": 1.0, "two": "most_votes",
    },
    {
        "name": "A tie",
        "says": "Four filters have three votes each, and two places are left for them. A threshold "
        "keeps all four or none; the most-voted rule takes the two that are larger in w0.",
        "table": _table("101010001101", "110011010100", "001011010101", "110010010101",
                        "111011010000"),
        "one": "relaxed", "two": "most_votes",
    },
    {
        "name": "One stubborn node",
        "says": "Node 1 keeps everything. If one vote is enough, nothing goes.",
        "table": _table("111111111111", "100011011100", "011010010101", "110010010101",
                        "101011010010"),
        "one": "share", "one_level": 0.2, "two": "share", "two_level": 0.5,
    },
    {
        "name": "A rule of your own",
        "says": "The written rule keeps what seven tenths want, and every filter that is larger in "
        "w0 than the median. Write another one.",
        "table": _COMMON,
        "one": "written", "one_text": _WRITTEN, "two": "share", "two_level": 0.7,
    },
)  # fmt: skip


class VoteLab(Playable):
    """Two rules side by side on the same ballots, and the filters that they disagree on.

    ``recorded`` are ballots of a model with this ``layout``, each ``bool [nodes, filters]``, by
    what they are called; ``norms`` those of its filters in w0. Without them there is the small
    table alone, five nodes and twelve filters, which the reader draws. A rule is one of
    :mod:`mpfl.vote`, or one that the reader writes (:mod:`mpfl.analysis.written`). On a published
    page a link holds the reader's setting.

    Read :meth:`shown_ballots`, :meth:`rule_of` and :meth:`kept_by` for what is shown. Raises
    :class:`~mpfl.types.MPFLError` for ballots that do not fit the layout or are not bool, a
    written rule that cannot be read, and a setting that the controls do not have.
    """

    kind = "vote lab"
    label = "Vote lab: draw ballots or choose recorded ones, and set two rules against each other"
    _esm = module("tally.js", "written.js", "lab.js")

    layers: traitlets.List[Any] = traitlets.List().tag(sync=True)
    recorded = traitlets.Dict().tag(sync=True)
    norms: traitlets.List[Any] = traitlets.List().tag(sync=True)
    hand = traitlets.Dict().tag(sync=True)
    lessons: traitlets.List[Any] = traitlets.List().tag(sync=True)
    ballots = traitlets.Unicode(BY_HAND).tag(sync=True)
    table = traitlets.Unicode(_SPLIT).tag(sync=True)
    sparsity = traitlets.Float(0.5).tag(sync=True)
    one = traitlets.Unicode("share").tag(sync=True)
    one_level = traitlets.Float(1.0).tag(sync=True)
    one_text = traitlets.Unicode(_WRITTEN).tag(sync=True)
    two = traitlets.Unicode("most_votes").tag(sync=True)
    two_level = traitlets.Float(0.5).tag(sync=True)
    two_text = traitlets.Unicode("rank <= keep").tag(sync=True)

    def __init__(
        self,
        layout: Layout | None = None,
        recorded: Mapping[str, np.ndarray] | None = None,
        norms: Mapping[str, np.ndarray] | None = None,
        **setting: Any,
    ) -> None:
        self._layout, self._recorded = _HAND if layout is None else layout, dict(recorded or {})
        self._norms = {} if norms is None else dict(norms)
        if self._recorded and not self._norms:
            raise MPFLError(f"{self.kind}: recorded ballots alone; give layout and norms with them")
        for name, cast in self._recorded.items():
            if cast.dtype != bool or cast.ndim != 2 or cast.shape[1] != self._layout.filters:
                raise MPFLError(
                    f"{self.kind}: ballots {name!r} are {cast.dtype}{list(cast.shape)}; give bool "
                    f"[nodes, {self._layout.filters}]"
                )
        texts = {name: setting[name] for name in ("one_text", "two_text") if name in setting}
        for text in texts.values():
            written_rule(text)
        names, level = (*rules_at(0.5, 0.5), _OWN), Between(0.05, 1)
        self.check(
            {name: value for name, value in setting.items() if name not in texts},
            {"ballots": (BY_HAND, *self._recorded), "sparsity": Between(0, 0.95), "one": names,
             "one_level": level, "two": names, "two_level": level},
        )  # fmt: skip
        layers = self._layout.layers if self._recorded else ()
        sizes = self._layout.filter_sizes
        super().__init__(
            layers=[[each.name, each.filters, sizes[each.name]] for each in layers],
            recorded={name: [hex_of(b) for b in cast] for name, cast in self._recorded.items()},
            norms=[float(norm) for each in layers for norm in self._norms[each.name]],
            hand={"name": BY_HAND, "nodes": _NODES, "norms": _NORMS.tolist()},
            lessons=[{"sparsity": 0.5} | dict(lesson) for lesson in _LESSONS],
            **setting,
        )

    def shown_ballots(self) -> np.ndarray:
        """The ballots that are shown, ``bool [nodes, filters]``."""
        if self.ballots == BY_HAND:
            return bits_of(self.table, _NODES * _FILTERS).reshape(_NODES, _FILTERS)
        return self._recorded[self.ballots]

    def rule_of(self, side: str) -> Rule:
        """The rule at the reader's setting; ``side`` is ``"one"`` or ``"two"``."""
        chosen, level = getattr(self, side), getattr(self, f"{side}_level")
        if chosen == _OWN:  # the line of another rule may be half written
            return written_rule(getattr(self, f"{side}_text"))
        return rules_at(level, level)[chosen]

    def kept_by(self, side: str) -> np.ndarray:
        """The filters that a side's rule keeps, ``bool [filters]``; one a layer at least."""
        by_hand = self.ballots == BY_HAND
        layout, norms = (_HAND, {"hand": _NORMS}) if by_hand else (self._layout, self._norms)
        plan = Plan(layout, one_shot(self.sparsity), 1, at_least_one())
        return consensus(plan, self.rule_of(side), self.shown_ballots(), norms)
