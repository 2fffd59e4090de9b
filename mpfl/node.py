"""The node's side of MPFL: train what the consensus left, score, select, send one bit a filter."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from mpfl import codec, masks
from mpfl.algorithm import Data, Local, LocalTrain
from mpfl.filters import Layout, apply
from mpfl.noise import VoterFault
from mpfl.prune import Score, score_layers, select_by_layer, select_over_network
from mpfl.schedules import Schedule
from mpfl.types import Mask, MPFLError, Reply, Scores, Weights, located

Scope = Literal["layer", "network"]


@dataclass(frozen=True)
class Plan:
    """What every party knows before the first round: when how much is pruned, and where.

    ``scope="layer"`` asks the same share of every layer (published); ``"network"`` ranks
    all filters together and leaves each layer at least ``floor``.
    """

    layout: Layout
    schedule: Schedule
    rounds: int
    scope: Scope = "layer"
    floor: int = 1

    def __post_init__(self) -> None:
        if self.rounds < 1:
            raise MPFLError(f"rounds is {self.rounds}, but a run needs at least 1")
        if self.scope not in ("layer", "network"):
            raise MPFLError(f"scope is {self.scope!r}; choose 'layer' or 'network'")
        if self.floor < 1:
            raise MPFLError(f"floor is {self.floor}, but every layer needs at least 1 filter")
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
        counts = self.layout.keep_counts(self.sparsity(round_))
        if self.scope == "layer":
            return {name: min(k, int(alive[name].sum())) for name, k in counts.items()}
        removed = int(np.ceil(self.sparsity(round_) * self.layout.filters - 1e-9))
        return min(self.layout.filters - removed, sum(masks.kept(alive).values()))

    def select(self, scores: Scores, alive: Mask, keep: Mapping[str, int] | int) -> Mask:
        """The best filters by ``scores``: by layer or over the network, within ``alive``."""
        if isinstance(keep, int):
            return select_over_network(scores, alive, keep, self.floor)
        return select_by_layer(scores, alive, keep)


def voter(
    plan: Plan,
    local_train: LocalTrain,
    score: Score,
    *,
    rewind: bool = True,
    fault: VoterFault | None = None,
) -> Local:
    """What an MPFL node does in a round (the paper's Algorithm 1, node side).

    ``w <- w0 * C`` (or the node's own trained weights, ``rewind=False``), local training
    with the mask held, scores of the kept filters, the lowest dropped, one bit a filter
    sent. A ``fault`` changes the mask just before it is sent.
    """
    layout = plan.layout

    def local(memory: Weights, message: bytes, data: Data, rng: np.random.Generator) -> Reply:
        with located("read the broadcast"):
            round_ = codec.round_of(message)
            alive = codec.decode_mask(message, layout, round_, reference=masks.full(layout))
        update = local_train(apply(memory, alive, layout), alive, data, rng)
        keep = plan.keep(round_, alive)
        mask = plan.select(score_layers(score, update, layout, rng), alive, keep)
        if fault is not None:
            mask = fault(mask, alive, rng)
        payload = codec.encode_mask(mask, layout, round_, reference=alive, keep=keep)
        return Reply(0, payload, memory if rewind else update.weights, update.metrics)

    return local
