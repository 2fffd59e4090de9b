"""The node's side of MPFL: train what the consensus left, score, select, send one bit a filter."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from mpfl import masks, wire
from mpfl.algorithm import Data, Local, LocalTrain
from mpfl.allocate import Allocation, even
from mpfl.analysis.faults import Fault
from mpfl.filters import Layout, apply
from mpfl.prune import Score, score_layers, select_by_layer, select_over_network
from mpfl.schedules import Schedule
from mpfl.types import Mask, MPFLError, Reply, Scores, Weights, located

Scope = Literal["layer", "network"]
ShareOf = Literal["full", "kept"]


@dataclass(frozen=True)
class Plan:
    """What every party knows before the first round: when how much is pruned, and where.

    ``scope="layer"`` asks of every layer what the ``allocation`` says (published: the same
    share); ``"network"`` ranks all filters together and leaves each layer at least ``floor``,
    so that the votes allocate. ``coding`` is how votes are
    written (:func:`mpfl.wire.masks.encode_mask`): in the fewest bytes, or all equally long, so
    that a server adds millions of them up.

    ``share_of="kept"``: what the schedule takes off in a round is taken of what the last vote
    left of each layer, not of the full model, and at least one filter stays. ``required`` is
    the schedule that the server's rule goes by, where it is not the nodes' own. Both are as
    in the authors' released code.
    """

    layout: Layout
    schedule: Schedule
    rounds: int
    scope: Scope = "layer"
    allocation: Allocation = even()
    floor: int = 1
    coding: wire.Coding = "shortest"
    share_of: ShareOf = "full"
    required: Schedule | None = None

    def __post_init__(self) -> None:
        if self.rounds < 1:
            raise MPFLError(f"rounds is {self.rounds}, but a run needs at least 1")
        if self.scope not in ("layer", "network"):
            raise MPFLError(f"scope is {self.scope!r}; choose 'layer' or 'network'")
        if self.coding not in ("shortest", "packed"):
            raise MPFLError(f"coding is {self.coding!r}; choose 'shortest' or 'packed'")
        if self.share_of not in ("full", "kept"):
            raise MPFLError(f"share_of is {self.share_of!r}; choose 'full' or 'kept'")
        if self.scope == "network" and (self.share_of == "kept" or self.required is not None):
            raise MPFLError("share_of 'kept' and required are said layer by layer; use scope layer")
        if self.allocation != even() and (
            self.scope == "network" or self.share_of == "kept" or self.required is not None
        ):
            raise MPFLError(
                f"allocation {self.allocation} sets each layer's count of the full model; use it "
                "with scope layer, share_of full and no required"
            )
        if self.floor < 1:
            raise MPFLError(f"floor is {self.floor}, but every layer needs at least 1 filter")
        if self.required is not None:
            every = range(1, self.rounds + 1)
            self.layout.keep_counts(max(self.required(round_, self.rounds) for round_ in every))
        deepest = max(range(1, self.rounds + 1), key=self.sparsity)
        kept = self.keep(deepest, masks.full(self.layout))
        floors = sum(min(self.floor, layer.filters) for layer in self.layout.layers)
        if isinstance(kept, int) and kept < floors:
            raise MPFLError(
                f"round {deepest} keeps {kept} filters, but a floor of {self.floor} takes "
                f"{floors}; ask for less sparsity or a lower floor"
            )

    def sparsity(self, round_: int) -> float:
        """The share of filters that the schedule asks to be gone after ``round_``."""
        return self.schedule(round_, self.rounds)

    def keep(self, round_: int, alive: Mask) -> dict[str, int] | int:
        """How many filters a node's mask holds in ``round_``: known to both ends of the wire.

        A count a layer, or one for the whole network; never more than are alive.
        """
        if self.share_of == "kept":
            before = self.sparsity(round_ - 1) if round_ > 1 else 0.0
            share = (self.sparsity(round_) - before) / (1 - before)
            return {
                name: max(min(count, 1), count - int(np.ceil(share * count - 1e-9)))
                for name, count in masks.kept(alive).items()
            }
        if self.scope == "layer":
            counts = self.allocation(self.layout, self.sparsity(round_))
            return {name: min(k, int(alive[name].sum())) for name, k in counts.items()}
        removed = int(np.ceil(self.sparsity(round_) * self.layout.filters - 1e-9))
        return min(self.layout.filters - removed, sum(masks.kept(alive).values()))

    def asked(self, round_: int, alive: Mask) -> dict[str, int]:
        """How many filters the server's rule is asked to leave each layer in ``round_``."""
        if self.required is not None:
            return self.layout.keep_counts(self.required(round_, self.rounds))
        keep = self.keep(round_, alive)
        return self.layout.keep_counts(self.sparsity(round_)) if isinstance(keep, int) else keep

    def select(self, scores: Scores, alive: Mask, keep: Mapping[str, int] | int) -> Mask:
        """The best filters by ``scores``: by layer or over the network, within ``alive``."""
        if isinstance(keep, int):
            return select_over_network(scores, alive, keep, self.floor)
        return select_by_layer(scores, alive, keep)


def read_consensus(message: bytes, layout: Layout) -> tuple[int, Mask]:
    """The round that a server's broadcast begins, and the consensus in it.

    Raises :class:`~mpfl.types.MPFLError` where it is damaged or another model's.
    """
    round_ = wire.round_of(message)
    return round_, wire.decode_mask(message, layout, round_, reference=masks.full(layout))


def voter(
    plan: Plan,
    local_train: LocalTrain,
    score: Score,
    *,
    rewind: bool = True,
    fault: Fault | None = None,
) -> Local:
    """What an MPFL node does in a round (the paper's Algorithm 1, node side).

    ``w <- w0 * C`` (or the node's own trained weights, ``rewind=False``), local training
    with the mask held, scores of the kept filters, the lowest dropped, one bit a filter
    sent. A ``fault`` changes the mask just before it is sent.
    """
    layout = plan.layout

    def local(memory: Weights, message: bytes, data: Data, rng: np.random.Generator) -> Reply:
        with located("read the broadcast"):
            round_, alive = read_consensus(message, layout)
        update = local_train(apply(memory, alive, layout), alive, data, rng)
        keep = plan.keep(round_, alive)
        mask = plan.select(score_layers(score, update, layout, rng), alive, keep)
        if fault is not None:
            mask = fault(mask, alive, rng)
        payload = wire.encode_mask(
            mask, layout, round_, reference=alive, keep=keep, coding=plan.coding
        )
        told = {
            "body_bytes": wire.body_length(payload),
            "limit_bits": wire.limit_bits(mask, alive, keep),
        }
        metrics = {**update.metrics, **told}
        return Reply(0, payload, memory if rewind else update.weights, metrics)

    return local
