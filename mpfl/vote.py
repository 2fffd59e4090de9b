"""Vote rules: from how often each filter was voted for to which filters stay.

A rule decides about all layers at once (:meth:`Rule.decide`); most go layer by layer
(:class:`LayerRule`). It sees the sums of the masks alone, never a single node's. Each rule is a
frozen dataclass, so that its ``repr`` says exactly which rule a run used.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Bool, Float, Shaped

from mpfl import prune
from mpfl.filters import rounded_up
from mpfl.masks import Keep
from mpfl.types import MPFLError, is_number, is_whole


@dataclass(frozen=True)
class Tally:
    """One layer's votes, added up, and what the server knows beside them.

    ``votes``: for each filter the number of nodes (or their total weight) that keep it;
    ``voters``: the number of nodes that voted (or their total weight); ``alive``: the
    current consensus; ``keep``: how many filters the quota asks the layer to hold;
    ``norms``: of each filter in w0, which every party can compute, to break ties;
    ``filter_size``: how many weights a filter of the layer has.

    >>> Tally(np.array([4, 1]), 4, np.ones(2, bool), keep=1, norms=np.ones(2)).fraction
    array([1.  , 0.25])
    """

    votes: Shaped[np.ndarray, " filters"]
    voters: float
    alive: Bool[np.ndarray, " filters"]
    keep: int
    norms: Float[np.ndarray, " filters"]
    filter_size: int = 1

    def __post_init__(self) -> None:
        if not (is_number(self.voters) and 0 < self.voters < math.inf):
            raise MPFLError("vote: no node voted; wait for at least one reply")
        arrays = self.votes, self.alive, self.norms
        shapes = {getattr(each, "shape", None) for each in arrays}
        one = len(shapes) == 1 and None not in shapes and self.votes.ndim == 1
        if not (one and self.alive.dtype == bool):
            raise MPFLError("vote: give votes, alive (bool) and norms of one layer, per filter")
        if self.votes.dtype.kind not in "biuf" or self.norms.dtype.kind not in "iuf":
            kinds = f"{self.votes.dtype} and {self.norms.dtype}"
            raise MPFLError(f"vote: votes and norms are {kinds}; give real numbers")
        for name, value, least in (("keep", self.keep, 0), ("filter_size", self.filter_size, 1)):
            if not (is_whole(value) and value >= least):
                raise MPFLError(f"vote: {name} is {value!r}; give a whole number from {least} on")
        if np.isnan(self.norms).any():
            raise MPFLError("vote: norms of w0 that are NaN; is w0 damaged?")
        if not np.isfinite(self.votes).all():
            raise MPFLError("vote: counts that are not finite; were the masks added up rightly?")
        if (self.votes < 0).any() or (self.votes > self.voters * (1 + 1e-9)).any():
            raise MPFLError(
                f"vote: counts must lie between 0 and the {self.voters:g} voters, but go from "
                f"{self.votes.min():g} to {self.votes.max():g}; were the masks added up twice?"
            )

    @property
    def fraction(self) -> Float[np.ndarray, " filters"]:
        """Share of the voters that keep each filter, 0-1."""
        return np.asarray(self.votes, dtype=np.float64) / self.voters


class Rule(ABC):
    """How a consensus follows from the votes.

    ``weights`` are the nodes', if they count differently; None: all alike. ``exact``: it keeps
    as many filters as the quota asks, however the votes fall. ``takes_estimates``: it may be
    asked about votes that were estimated, not counted.
    ``expects`` is the fault by which every node has to answer; None: by its honest mask.
    """

    weights: tuple[float, ...] | None = None
    exact: bool = False
    takes_estimates: ClassVar[bool] = True
    expects: ClassVar[Callable[..., Any] | None] = None

    @abstractmethod
    def decide(self, tallies: Mapping[str, Tally], keep: Keep) -> dict[str, np.ndarray]:
        """The filters that stay, for each layer ``bool [filters]``.

        ``keep`` is how many the quota asks for, group by group. The server drops what the last
        consensus had dropped, whatever the rule says.
        """


class LayerRule(Rule):
    """A rule that decides about every layer by itself: ``tally -> bool [filters]``."""

    @abstractmethod
    def __call__(self, tally: Tally) -> Bool[np.ndarray, " filters"]:
        """The filters of one layer that stay."""

    def decide(self, tallies: Mapping[str, Tally], keep: Keep) -> dict[str, np.ndarray]:
        return {name: self(tally) for name, tally in tallies.items()}


def _said(value: Any) -> str:
    return f"{value:g}" if is_number(value) else repr(value)


def _check_tau(rule: str, tau: float) -> None:
    if not (is_number(tau) and 0 < tau <= 1):
        raise MPFLError(f"vote rule {rule}: tau is {_said(tau)}, but must be above 0 and at most 1")


def _check_within(rule: str, field: str, value: float | None) -> None:
    if value is not None and not (is_number(value) and 0 <= value <= 1):
        raise MPFLError(f"vote rule {rule}: {field} is {_said(value)}, but must be within 0-1")


@dataclass(frozen=True)
class share(LayerRule):
    """Keep a filter if its share of the votes is at least ``tau``.

    ``tau=1`` is unanimity, ``tau=0.5`` majority, any ``tau <= 1/N`` keeps what anyone keeps.
    Law: monotone, a larger ``tau`` never keeps more.

    >>> tally = Tally(np.array([4, 2, 1]), 4, np.ones(3, bool), keep=1, norms=np.ones(3))
    >>> share(0.5)(tally), share(1.0)(tally)
    (array([ True,  True, False]), array([ True, False, False]))
    """

    tau: float = 0.5

    def __post_init__(self) -> None:
        _check_tau("share", self.tau)

    def __call__(self, tally: Tally) -> Bool[np.ndarray, " filters"]:
        return tally.fraction >= self.tau


@dataclass(frozen=True)
class weighted(LayerRule):
    """As :class:`share`, with each node's vote counting with its own weight.

    ``weights[i]`` belongs to node ``i``, for example its number of images; the server adds the
    masks up with them. Law: equal weights give :class:`share`.

    >>> rule = weighted((3.0, 1.0, 1.0), tau=0.5)  # three nodes, of which the first counts thrice
    >>> tally = Tally(np.array([3.0, 2.0]), 5.0, np.ones(2, bool), keep=1, norms=np.ones(2))
    >>> rule(tally)
    array([ True, False])
    """

    weights: tuple[float, ...]
    tau: float = 0.5
    takes_estimates: ClassVar[bool] = False

    def __post_init__(self) -> None:
        _check_tau("weighted", self.tau)
        if not isinstance(self.weights, tuple | list):
            raise MPFLError(f"vote rule weighted: weights are {self.weights!r}; give one per node")
        finite = all(is_number(weight) and 0 <= weight < math.inf for weight in self.weights)
        if not (finite and 0 < sum(self.weights) < math.inf):
            raise MPFLError(
                f"vote rule weighted: weights {self.weights} must be finite, at least 0, not all "
                "0, and of a finite sum"
            )

    def __call__(self, tally: Tally) -> Bool[np.ndarray, " filters"]:
        # Sums of floats depend on their order in the last digits: forgive exactly that.
        return tally.fraction >= self.tau - 1e-9


@dataclass(frozen=True)
class most_votes(Rule):
    """Keep the most-voted filters: as many as the quota asks of each group, or ``k`` of it.

    Ties go to the larger filter of w0, then to the lower index. Exact sparsity, whatever
    the nodes say. Law: a group holds ``min(k, filters alive)``.

    >>> votes, norms = np.array([2, 4, 2, 0]), np.array([1.0, 1.0, 3.0, 9.0])
    >>> tally = Tally(votes, 4, np.ones(4, bool), keep=2, norms=norms)
    >>> most_votes().decide({"conv": tally}, Keep.by_layer({"conv": 2}))
    {'conv': array([False,  True,  True, False])}
    """

    k: int | None = None
    takes_estimates: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.k is not None and not (is_whole(self.k) and self.k >= 1):
            raise MPFLError(
                f"vote rule most_votes: k is {self.k}, but a layer needs at least 1 filter, whole"
            )

    @property
    def exact(self) -> bool:  # type: ignore[override]
        """Whether the quota sets the number, not ``k``."""
        return self.k is None

    def decide(self, tallies: Mapping[str, Tally], keep: Keep) -> dict[str, np.ndarray]:
        # A filter's place among all: by votes, then by norm. It ranks as a score does.
        shares = np.concatenate([tally.fraction for tally in tallies.values()])
        norms = np.concatenate([tally.norms for tally in tallies.values()])
        order = np.lexsort((-norms, -shares))
        place = np.empty(order.size)
        place[order] = np.arange(order.size, 0, -1)
        ends = np.cumsum([tally.votes.size for tally in tallies.values()])[:-1]
        scores = dict(zip(tallies, np.split(place, ends), strict=True))
        alive = {name: tally.alive for name, tally in tallies.items()}
        return prune.select(scores, alive, keep if self.k is None else keep.of(self.k))


@dataclass(frozen=True)
class relaxed(LayerRule):
    """The smallest threshold whose mask prunes at least ``target`` of the layer.

    Our reading of the paper's dynamic threshold: as many filters as possible stay.
    ``target=None`` takes it from the quota. Only 0 and the shares that occur, up to 1,
    can be thresholds, so the sparsity reached is the first level at or above the target; if
    even unanimity prunes too little, unanimity stands.

    >>> tally = Tally(np.array([4, 3, 1, 0]), 4, np.ones(4, bool), keep=2, norms=np.ones(4))
    >>> relaxed()(tally), relaxed(target=0.25)(tally)
    (array([ True,  True, False, False]), array([ True,  True,  True, False]))
    """

    target: float | None = None

    def __post_init__(self) -> None:
        _check_within("relaxed", "target", self.target)

    def __call__(self, tally: Tally) -> Bool[np.ndarray, " filters"]:
        required = tally.alive.size - tally.keep
        if self.target is not None:
            required = rounded_up(self.target, tally.alive.size)
        for tau in (0.0, *np.unique(tally.fraction[tally.fraction > 0]), 1.0):
            kept = (tally.fraction >= tau) & tally.alive
            if (~kept).sum() >= required:
                break
        return kept


@dataclass(frozen=True)
class published_threshold(LayerRule):
    """The dynamic threshold exactly as in the authors' released code.

    tau = 1, then (N-1)/N and so on down to 1/N, stopping at the first that prunes at least
    ``required`` of the layer; the last one tried stands. Pruning only falls on the way down,
    so the first step decides: either unanimity prunes enough and wins, or nothing does and
    the rule ends at 1/N, keeping what anyone keeps. No level in between can ever win.
    ``required=None`` takes it from the quota.

    >>> tally = Tally(np.array([4, 4, 3, 0]), 4, np.ones(4, bool), keep=2, norms=np.ones(4))
    >>> published_threshold()(tally)  # unanimity prunes two of four, which is enough
    array([ True,  True, False, False])
    >>> published_threshold(required=0.75)(tally)  # it is not: what anyone keeps, stays
    array([ True,  True,  True, False])
    """

    required: float | None = None

    def __post_init__(self) -> None:
        _check_within("published_threshold", "required", self.required)

    def __call__(self, tally: Tally) -> Bool[np.ndarray, " filters"]:
        required = 1 - tally.keep / tally.alive.size if self.required is None else self.required
        nodes = int(tally.voters)
        unanimous = tally.fraction >= 1
        if 1 - unanimous.mean() >= required - 1e-12:
            return unanimous
        return tally.fraction >= 1 / nodes


@dataclass(frozen=True)
class published_percentile(LayerRule):
    """Keep a share of votes at or above the ``p``-th percentile of the layer's 0/1 votes.

    As the authors' released code decides: the percentile ``p`` (0-1) of all votes of the layer,
    each repeated once for every weight of its filter, with linear interpolation. Votes are 0 or
    1, so the percentile is 0 (everything stays) or 1 (unanimity); but if it falls between the
    last 0 and the first 1, it lies strictly between them, and is a threshold like any other.

    >>> tally = Tally(np.array([4, 3, 1, 0]), 4, np.ones(4, bool), keep=2, norms=np.ones(4))
    >>> published_percentile(0.4)(tally)  # 8 of 16 votes are 0, so the percentile is 0
    array([ True,  True,  True,  True])
    >>> published_percentile(0.6)(tally)
    array([ True, False, False, False])
    >>> published_percentile(0.5)(tally)  # halfway between the last 0 and the first 1
    array([ True,  True, False, False])
    """

    p: float = 0.5

    def __post_init__(self) -> None:
        _check_within("published_percentile", "p", math.nan if self.p is None else self.p)

    def __call__(self, tally: Tally) -> Bool[np.ndarray, " filters"]:
        return tally.fraction >= self._threshold(tally)

    def _threshold(self, tally: Tally) -> float:
        """``numpy.percentile(votes, 100 * p)`` of all the repeated votes, without making them."""
        every = int(tally.voters) * tally.votes.size * tally.filter_size
        zeros = every - int(tally.votes.sum()) * tally.filter_size
        # The percentile's place among all votes in order: first the zeros, then the ones. It is
        # written as numpy writes it, so that it is the same to the last bit.
        place = (every - 1) * (100 * self.p / 100)
        before = math.floor(place)
        if before != zeros - 1 or zeros == every:
            return float(before >= zeros)
        step = place - before
        return step if step < 0.5 else 1 - (1 - step)


RULES = {
    rule.__name__: rule
    for rule in (share, weighted, most_votes, relaxed, published_threshold, published_percentile)
}
