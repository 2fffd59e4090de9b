"""Vote rules: from how often each filter was voted for to which filters stay.

A rule is a function ``ballot -> bool[filters]``, one layer at a time, written as a frozen
dataclass so that its ``repr`` says exactly which rule a run used. It sees only the sum of
the masks (the *vote histogram*), never a single node's mask.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from jaxtyping import Bool, Float, Integer, Shaped

from mpfl.prune import keep_best
from mpfl.types import MPFLError


@dataclass(frozen=True)
class Ballot:
    """One layer's votes, and what the server knows beside them.

    ``votes``: for each filter the number of nodes (or their total weight) that keep it;
    ``voters``: the number of nodes that voted (or their total weight); ``alive``: the
    current consensus; ``keep``: how many filters the schedule asks the layer to hold;
    ``norms``: of each filter in w0, which every party can compute, to break ties.
    """

    votes: Shaped[np.ndarray, " filters"]
    voters: float
    alive: Bool[np.ndarray, " filters"]
    keep: int
    norms: Float[np.ndarray, " filters"]

    def __post_init__(self) -> None:
        if self.voters <= 0:
            raise MPFLError("vote: no node voted; wait for at least one reply")
        if (self.votes < 0).any() or (self.votes > self.voters * (1 + 1e-9)).any():
            raise MPFLError(
                f"vote: counts must lie between 0 and the {self.voters:g} voters, but go from "
                f"{self.votes.min():g} to {self.votes.max():g}; were the masks added up twice?"
            )

    @property
    def share(self) -> Float[np.ndarray, " filters"]:
        """Share of the voters that keep each filter, 0-1."""
        return np.asarray(self.votes, dtype=np.float64) / self.voters


Rule: TypeAlias = Callable[[Ballot], np.ndarray]


def tally(masks: Bool[np.ndarray, "nodes filters"]) -> Integer[np.ndarray, " filters"]:
    """The vote histogram: for each filter, how many nodes keep it.

    :func:`mpfl.wire.packed.add_packed` gives the same from masks packed eight filters to the byte.
    """
    return masks.sum(axis=0)


def _check_tau(rule: str, tau: float) -> None:
    if not 0 < tau <= 1:
        raise MPFLError(f"vote rule {rule}: tau is {tau:g}, but must be above 0 and at most 1")


def _check_within(rule: str, field: str, value: float | None) -> None:
    if value is not None and not 0 <= value <= 1:
        raise MPFLError(f"vote rule {rule}: {field} is {value:g}, but must be within 0-1")


@dataclass(frozen=True)
class share:  # noqa: N801
    """Keep a filter when its share of votes is at least ``tau``.

    ``tau=1`` is unanimity, ``tau=0.5`` majority, any ``tau <= 1/N`` keeps what anyone keeps.
    Law: monotone, a larger ``tau`` never keeps more.
    """

    tau: float = 0.5

    def __post_init__(self) -> None:
        _check_tau("share", self.tau)

    def __call__(self, ballot: Ballot) -> Bool[np.ndarray, " filters"]:
        return ballot.share >= self.tau


@dataclass(frozen=True)
class weighted:  # noqa: N801
    """As :class:`share`, each node's vote counting with its own weight.

    ``weights[i]`` belongs to node ``i``, e.g. its number of images; the server adds the
    masks up with them. Law: equal weights give :class:`share`.
    """

    weights: tuple[float, ...]
    tau: float = 0.5

    def __post_init__(self) -> None:
        _check_tau("weighted", self.tau)
        if not self.weights or min(self.weights) < 0 or sum(self.weights) <= 0:
            raise MPFLError(
                f"vote rule weighted: weights {self.weights} must be at least 0 and not all 0"
            )

    def __call__(self, ballot: Ballot) -> Bool[np.ndarray, " filters"]:
        # Sums of floats depend on their order in the last digits: forgive exactly that.
        return ballot.share >= self.tau - 1e-9


@dataclass(frozen=True)
class budget:  # noqa: N801
    """Keep the ``k`` most-voted filters (``None``: as many as the schedule asks).

    Ties go to the larger filter of w0, then to the lower index. Exact sparsity, whatever
    the nodes say: no overshoot. Law: the result holds ``min(k, alive)`` filters.
    """

    k: int | None = None

    def __post_init__(self) -> None:
        if self.k is not None and self.k < 1:
            raise MPFLError(f"vote rule budget: k is {self.k}, but a layer needs at least 1 filter")

    def __call__(self, ballot: Ballot) -> Bool[np.ndarray, " filters"]:
        by_norm = np.lexsort((-ballot.norms, -ballot.share))
        rank = np.empty(by_norm.size)
        rank[by_norm] = -np.arange(by_norm.size, dtype=np.float64)
        return keep_best(rank, ballot.alive, ballot.keep if self.k is None else self.k)


@dataclass(frozen=True)
class relaxed:  # noqa: N801
    """The smallest threshold whose mask prunes at least ``target`` of the layer.

    Our reading of the paper's dynamic threshold: as many filters as possible stay.
    ``target=None`` takes it from the schedule. Only 0 and the shares that occur, up to 1,
    can be thresholds, so the sparsity reached is the first level at or above the target; if
    even unanimity prunes too little, unanimity stands.
    """

    target: float | None = None

    def __post_init__(self) -> None:
        _check_within("relaxed", "target", self.target)

    def __call__(self, ballot: Ballot) -> Bool[np.ndarray, " filters"]:
        required = ballot.alive.size - ballot.keep
        if self.target is not None:
            required = int(np.ceil(self.target * ballot.alive.size - 1e-9))
        for tau in (0.0, *np.unique(ballot.share[ballot.share > 0]), 1.0):
            kept = (ballot.share >= tau) & ballot.alive
            if (~kept).sum() >= required:
                break
        return kept


@dataclass(frozen=True)
class published_threshold:  # noqa: N801
    """The dynamic threshold exactly as in the authors' released code.

    tau = 1, then (N-1)/N and so on down to 1/N, stopping at the first that prunes at least
    ``required`` of the layer; the last one tried stands. Pruning only falls on the way down,
    so the first step decides: either unanimity prunes enough and wins, or nothing does and
    the rule ends at 1/N, keeping what anyone keeps. No level in between can ever win.
    ``required=None`` takes it from the schedule.
    """

    required: float | None = None

    def __post_init__(self) -> None:
        _check_within("published_threshold", "required", self.required)

    def __call__(self, ballot: Ballot) -> Bool[np.ndarray, " filters"]:
        required = 1 - ballot.keep / ballot.alive.size if self.required is None else self.required
        nodes = int(ballot.voters)
        unanimous = ballot.share >= 1
        if 1 - unanimous.mean() >= required - 1e-12:
            return unanimous
        return ballot.share >= 1 / nodes


@dataclass(frozen=True)
class published_percentile:  # noqa: N801
    """Keep a share of votes at or above the ``p``-th percentile of the layer's 0/1 votes.

    As the authors' released code decides: the percentile ``p`` (0-1) of all votes of the
    layer, flattened. Votes are 0 or 1, so the percentile is 0 (everything stays) or 1
    (unanimity). Where it falls between a 0 and a 1 the released code prunes as at 1, so the
    next higher value is taken here.
    """

    p: float = 0.5

    def __post_init__(self) -> None:
        _check_within("published_percentile", "p", self.p)

    def __call__(self, ballot: Ballot) -> Bool[np.ndarray, " filters"]:
        every, ones = int(ballot.voters) * ballot.votes.size, int(ballot.votes.sum())
        place = math.ceil(self.p * (every - 1))  # among all votes in order: zeros, then ones
        return ballot.share >= (1 if place >= every - ones else 0)


RULES = {
    rule.__name__: rule
    for rule in (share, weighted, budget, relaxed, published_threshold, published_percentile)
}
