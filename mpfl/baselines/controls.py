"""The controls that can refute the vote: masks that nobody trained for, at 0 bytes.

Both keep exactly as many filters in every layer as the plan (or a recorded mask) does. If
one of them ends as accurate as the consensus, the vote chose nothing that mattered.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from mpfl import masks
from mpfl.algorithm import Algorithm, Data, Initialise, State, joiner, start_message
from mpfl.node import Plan
from mpfl.prune import Score, l2, random, score_layers
from mpfl.seeds import rng_for
from mpfl.types import Mask, Reply, Update, Weights


def control(
    plan: Plan,
    initialise: Initialise,
    *,
    name: str,
    score: Score,
    seed: int = 0,
    counts: Callable[[int], dict[str, int]] | None = None,
) -> Algorithm:
    """Prune by ``score`` of w0 alone: every party can compute the mask without a message.

    ``counts(round)`` gives the filters each layer keeps where they are those of another
    run's consensus; without it the plan's schedule does.
    """
    layout = plan.layout

    def choose(state: State, round_: int) -> Mask:
        scores = score_layers(score, Update(state.weights), layout, rng_for(seed, "control"))
        keep = counts(round_) if counts is not None else plan.keep(round_, state.mask)
        return plan.select(scores, state.mask, keep)

    def local(memory: Weights, message: bytes, data: Data, rng: np.random.Generator) -> Reply:
        return Reply(0, b"", memory)

    def aggregate(state: State, round_: int, replies: Sequence[Reply]) -> State:
        return replace(state, mask=choose(state, round_))

    return Algorithm(
        name=name,
        init=lambda start: State(start.w0, masks.full(layout), start.seed),
        start=lambda state: start_message(state, layout),
        join=joiner(layout, initialise),
        broadcast=lambda state, round_: b"",
        local=local,
        aggregate=aggregate,
    )


def random_masks(
    plan: Plan,
    initialise: Initialise,
    *,
    seed: int,
    counts: Callable[[int], dict[str, int]] | None = None,
) -> Algorithm:
    """Filters drawn at random, as many in every layer as the plan asks: knows nothing."""
    return control(plan, initialise, name="random-masks", score=random, seed=seed, counts=counts)


def w0_norms(
    plan: Plan,
    initialise: Initialise,
    *,
    score: Score = l2,
    counts: Callable[[int], dict[str, int]] | None = None,
) -> Algorithm:
    """The largest filters of w0 itself: what the server knows before anybody trains."""
    return control(plan, initialise, name="w0-norms", score=score, counts=counts)
