"""The controls that can refute the vote, and one that must come out bad.

The first three are masks that nobody trained for, at 0 bytes. They keep exactly as many filters
in every layer as the plan (or a recorded run) does. If one of them ends as accurate as the
consensus, the vote chose nothing that mattered.

A comparison that cannot see a bad mask says nothing about a good one. So there are positive
controls, too: the filters with the fewest votes (:class:`least_votes`), and the smallest ones (the
score :func:`mpfl.prune.smallest`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, TypeAlias

import numpy as np

from mpfl import prune
from mpfl.algorithm import Algorithm, Data, Initialise, State
from mpfl.filters import apply
from mpfl.masks import Keep
from mpfl.node import Plan
from mpfl.prune import Score, l2, random
from mpfl.seeds import Rng, rng_for
from mpfl.types import Answer, Reply, Update, Weights
from mpfl.vote import Rule, Tally, most_votes

Counts: TypeAlias = Callable[[int], dict[str, int]]
"""``round -> filters each layer keeps``, as in another run's consensus."""


def without_messages(
    name: str,
    plan: Plan,
    initialise: Initialise,
    *,
    score: Score,
    seed: int = 0,
    lot: int = 0,
    masked: bool = False,
    counts: Counts | None = None,
) -> Algorithm:
    """Prune by ``score`` of w0 alone: every party can compute the mask without a message.

    ``masked`` scores what the last round left of w0, else all of it, every round. ``seed`` and
    ``lot`` are for a score that draws. The plan says how many filters stay, or
    ``counts`` if it is given.
    """

    def local(memory: Weights, message: bytes, data: Data, rng: Rng) -> Answer:
        return Answer(b"", memory)

    def aggregate(state: State, round_: int, replies: Sequence[Reply]) -> State:
        rng = rng_for(seed, "control", lot) if lot else rng_for(seed, "control")
        w0 = apply(state.weights, state.mask, plan.layout) if masked else state.weights
        scores = prune.score_layers(score, Update(w0), plan.layout, rng)
        keep = plan.keep(round_, state.mask)
        if counts is not None:
            keep = Keep.by_layer(counts(round_))
        return replace(state, mask=prune.select(scores, state.mask, keep))

    return Algorithm.from_w0(
        name,
        plan.layout,
        initialise,
        broadcast=lambda state, round_: b"",
        local=local,
        aggregate=aggregate,
    )


def lottery(
    plan: Plan, initialise: Initialise, *, seed: int, lot: int = 0, counts: Counts | None = None
) -> Algorithm:
    """Random masks with the counts of the plan: what a choice that knows nothing is worth.

    ``lot`` draws another mask under the same seed, which also sets w0 and the data's partition.
    """
    return without_messages(
        "lottery", plan, initialise, score=random, seed=seed, lot=lot, counts=counts
    )


def w0_norms(
    plan: Plan,
    initialise: Initialise,
    *,
    score: Score = l2,
    seed: int = 0,
    counts: Counts | None = None,
) -> Algorithm:
    """The largest filters of w0 itself: what the server knows before anybody trains.

    ``seed`` is for a score that draws.
    """
    return without_messages("w0-norms", plan, initialise, score=score, seed=seed, counts=counts)


def iterated_norms(
    plan: Plan,
    initialise: Initialise,
    *,
    score: Score = l2,
    seed: int = 0,
    counts: Counts | None = None,
) -> Algorithm:
    """In each round the largest filters of what is left of w0: a vote without its training.

    A filter's norm counts the inputs that are left alone, as in a node that rewinds to w0. So
    this mask differs from the vote's only where local training changed the order of the norms.
    If a pruned filter loses its weight alone, inputs stay, and so does the order: then it is
    :func:`w0_norms`. So it is for kernels and single weights, which lose nothing with others.
    ``seed`` is for a score that draws.
    """
    return without_messages(
        "iterated-norms", plan, initialise, score=score, seed=seed, masked=True, counts=counts
    )


@dataclass(frozen=True)
class least_votes(Rule):
    """Keep the filters with the fewest votes: a positive control, which must come out bad.

    As many as the quota asks of each group; ties go to the smaller filter of w0.

    >>> votes, norms = np.array([2, 4, 2, 0]), np.array([1.0, 1.0, 3.0, 9.0])
    >>> tally = Tally(votes, 4, np.ones(4, bool), keep=2, norms=norms)
    >>> least_votes().decide({"conv": tally}, Keep.by_layer({"conv": 2}))
    {'conv': array([ True, False, False,  True])}
    """

    exact = True
    takes_estimates: ClassVar[bool] = False

    def decide(self, tallies: Mapping[str, Tally], keep: Keep) -> dict[str, np.ndarray]:
        against = {
            name: replace(tally, votes=tally.voters - tally.votes, norms=-tally.norms)
            for name, tally in tallies.items()
        }
        return most_votes().decide(against, keep)


CONTROL_RULES = {least_votes.__name__: least_votes}
