"""The node's side of MPFL: train what the consensus left, score, select, send a bit per filter."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias, get_args

import numpy as np

from mpfl import filters, masks, prune, wire
from mpfl.algorithm import Data, LocalTrain
from mpfl.allocate import Quota, even
from mpfl.filters import Layout
from mpfl.masks import Keep
from mpfl.prune import Score, l2
from mpfl.schedules import Schedule
from mpfl.seeds import Rng
from mpfl.types import Answer, Mask, MPFLError, Update, Weights, at_least, located, one_of

Fault: TypeAlias = Callable[[Mask, Mask, Rng], Mask]
"""``(mask, alive, rng) -> mask``: what a node does with its vote just before it sends it."""


@dataclass(frozen=True)
class Plan:
    """What every party knows before the first round: when how much is pruned, and where.

    ``schedule`` says when, ``quota`` where. ``coding`` is how votes are written: in the fewest
    bytes, or all equally long (:func:`mpfl.wire.masks.encode_mask`), so that a server adds
    millions of them up. Raises :class:`~mpfl.types.MPFLError` for a schedule that falls or
    reaches 1, and for a plan that would leave a layer empty.
    """

    layout: Layout
    schedule: Schedule
    rounds: int
    quota: Quota = even()
    coding: wire.Coding = "shortest"

    def __post_init__(self) -> None:
        if not isinstance(self.rounds, int | np.integer):
            raise MPFLError(f"rounds is {self.rounds!r}; give a whole number")
        at_least("rounds", self.rounds, 1)
        if isinstance(self.schedule, type) or not callable(self.schedule):
            raise MPFLError(f"schedule is {self.schedule!r}; give a value, such as geometric(0.15)")
        if not isinstance(self.quota, Quota):
            raise MPFLError(f"quota is {self.quota!r}; give a value, such as even()")
        one_of("coding", self.coding, get_args(wire.Coding))
        if (warmup := getattr(self.schedule, "warmup", 0)) > self.rounds:
            raise MPFLError(
                f"schedule: warmup is {warmup} rounds, but the run has {self.rounds}, so nothing "
                "would be pruned; give fewer"
            )
        everything, before = masks.full(self.layout), 0.0
        for round_ in range(1, self.rounds + 1):  # refuse now what would be refused late
            now = self.sparsity(round_)
            if not (isinstance(now, int | float) and before <= now < 1):
                raise MPFLError(
                    f"schedule: round {round_} asks for a sparsity of {now!r} after {before!r}; "
                    "it lies within 0-1, below 1, and never falls"
                )
            before = now
            self.keep(round_, everything)
            self.asked(round_, everything)

    def sparsity(self, round_: int) -> float:
        """The share of filters that the schedule asks to be gone after ``round_``."""
        return self.schedule(round_, self.rounds)

    def keep(self, round_: int, alive: Mask) -> Keep:
        """How many filters a node's mask holds in ``round_``: known to both ends of the wire."""
        keep = self.quota.keep(self.layout, self.schedule, round_, self.rounds, alive)
        return self._checked(keep, round_)

    def asked(self, round_: int, alive: Mask) -> Keep:
        """How many filters the server's rule is asked to leave in ``round_``."""
        asked = self.quota.asked(self.layout, self.schedule, round_, self.rounds, alive)
        return self._checked(asked, round_)

    def _checked(self, keep: Keep, round_: int) -> Keep:
        """What a quota says, if it makes sense; anybody may have written the quota."""
        keep.require_layers(self.layout)
        for group, count in keep.counts.items():
            if not isinstance(count, int | np.integer) or count < 0:
                raise MPFLError(
                    f"quota {self.quota}: round {round_} keeps {count!r} of {', '.join(group)}; "
                    "give a whole number of filters"
                )
        return keep


@dataclass(frozen=True)
class Voter:
    """What an MPFL node does in a round: the paper's Algorithm 1, node side.

    With ``rewind=False`` it goes on from its own trained weights instead of w0. A ``fault``
    changes the mask just before it is sent.
    """

    plan: Plan
    train: LocalTrain
    score: Score = l2
    rewind: bool = True
    fault: Fault | None = None

    def __call__(self, memory: Weights, message: bytes, data: Data, rng: Rng) -> Answer:
        plan, layout = self.plan, self.plan.layout
        # 1. What is left: the consensus, and w0 (or its own weights) without what was pruned.
        with located("read the broadcast"):
            round_, alive = wire.decode_consensus(message, layout)
        begin = filters.apply(memory, alive, layout)
        # 2. Train it on the node's own data, the mask held.
        update = self.train(begin, alive, data, rng)
        if not isinstance(update, Update):
            raise MPFLError(f"training gave a {type(update).__name__}; let it return an Update")
        # 3. Rank the filters that are left and drop the lowest, until the quota is met.
        keep = plan.keep(round_, alive)
        scores = prune.score_layers(self.score, update, layout, rng)
        mask: Mask = prune.select(scores, alive, keep)
        if self.fault is not None:
            mask = self.fault(mask, alive, rng)
        # 4. Send one bit per filter, in fewer bytes where both ends know something of them.
        payload = wire.encode_mask(
            mask, layout, round_, reference=alive, keep=keep, coding=plan.coding
        )
        metrics = {
            **update.metrics,
            "body_bytes": wire.body_length(payload),
            "limit_bits": wire.limit_bits(mask, alive, keep),
        }
        kept = memory if self.rewind else update.weights
        return Answer(payload, update.remembered_in(kept), metrics)
