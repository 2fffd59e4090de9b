"""The controls that can refute the vote: masks that nobody trained for, at 0 bytes.

Both keep exactly as many filters in every layer as the plan (or a recorded run) does. If
one of them ends as accurate as the consensus, the vote chose nothing that mattered.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeAlias

from mpfl import prune
from mpfl.algorithm import Algorithm, Data, Initialise, State
from mpfl.masks import Keep
from mpfl.node import Plan
from mpfl.prune import Score, l2, random
from mpfl.seeds import Rng, rng_for
from mpfl.types import Answer, Reply, Update, Weights

Counts: TypeAlias = Callable[[int], dict[str, int]]
"""``round -> filters each layer keeps``, as in another run's consensus."""


def without_messages(
    name: str,
    plan: Plan,
    initialise: Initialise,
    *,
    score: Score,
    seed: int = 0,
    counts: Counts | None = None,
) -> Algorithm:
    """Prune by ``score`` of w0 alone: every party can compute the mask without a message.

    How many filters stay is the plan's to say, or that of ``counts`` if it is given.
    """

    def local(memory: Weights, message: bytes, data: Data, rng: Rng) -> Answer:
        return Answer(b"", memory)

    def aggregate(state: State, round_: int, replies: Sequence[Reply]) -> State:
        rng = rng_for(seed, "control")
        scores = prune.score_layers(score, Update(state.weights), plan.layout, rng)
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
    plan: Plan, initialise: Initialise, *, seed: int, counts: Counts | None = None
) -> Algorithm:
    """Random masks with the counts of the plan: what a choice that knows nothing is worth."""
    return without_messages("lottery", plan, initialise, score=random, seed=seed, counts=counts)


def w0_norms(
    plan: Plan, initialise: Initialise, *, score: Score = l2, counts: Counts | None = None
) -> Algorithm:
    """The largest filters of w0 itself: what the server knows before anybody trains."""
    return without_messages("w0-norms", plan, initialise, score=score, counts=counts)
