"""The server's side of MPFL: add the masks up, let the rule decide, keep within the consensus."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from mpfl import wire
from mpfl.algorithm import (
    Algorithm,
    Initialise,
    LocalTrain,
    Outcome,
    State,
    require_replies,
)
from mpfl.masks import Keep
from mpfl.node import Plan, Voter
from mpfl.prune import Score, filter_norms, l2
from mpfl.types import Mask, MPFLError, Reply
from mpfl.vote import Rule, Tally, most_votes
from mpfl.wire import Ballots


def masked_pruning(
    plan: Plan,
    initialise: Initialise,
    local_train: LocalTrain,
    *,
    score: Score = l2,
    vote: Rule = most_votes(),
    rewind: bool = True,
) -> Algorithm:
    """Masked Pruning over Federated Learning (Gez & Cohen, arXiv 2312.03889).

    Law: the consensus of a round lies within the one before, and no layer is ever empty.
    """
    if not isinstance(vote, Rule):
        raise MPFLError(f"vote is {vote!r}; give a value, such as most_votes(), not its name")
    if not callable(score):
        raise MPFLError(f"score is {score!r}; give a function, such as l2, not its name")
    return Algorithm.from_w0(
        "mpfl",
        plan.layout,
        initialise,
        broadcast=lambda state, round_: wire.encode_consensus(state.mask, plan.layout, round_),
        local=Voter(plan, local_train, score, rewind),
        aggregate=partial(count_votes, plan, vote),
    )


def count_votes(
    plan: Plan, vote: Rule, state: State, round_: int, replies: Sequence[Reply]
) -> State:
    """One round of the server: payloads -> votes -> rule -> next consensus.

    Law: the plan's ``coding`` changes the bytes, never the next state. Raises
    :class:`~mpfl.types.MPFLError` without replies, or naming the node whose payload is bad.
    """
    require_replies(replies, round_)
    alive = state.mask
    # Every payload is opened here, once: all that is asked about it later is asked of `ballots`.
    ballots = Ballots.open(
        [(reply.node, reply.payload) for reply in replies],
        plan.layout,
        round_,
        alive=alive,
        keep=plan.keep(round_, alive),
        coding=plan.coding,
    )
    votes, voters = ballots.tally(vote.weights)
    norms = filter_norms(state.weights, plan.layout)
    mask, rescued = decide(plan, vote, alive, round_, votes, voters, norms)
    outcome = Outcome(votes, ballots, ballots.agreement(mask), rescued)
    return replace(state, mask=mask, outcome=outcome)


def decide(
    plan: Plan,
    vote: Rule,
    alive: Mask,
    round_: int,
    votes: Mapping[str, np.ndarray],
    voters: float,
    norms: Mapping[str, np.ndarray],
) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """The consensus that the votes make, and the layers that the rule had emptied.

    ``votes`` are by layer, ``[filters]``; ``norms`` those of the filters of w0. Whatever the rule
    says, the result lies within ``alive``.
    """
    asked = plan.asked(round_, alive)
    counts = asked.for_layers(plan.layout.sizes)
    sizes = plan.layout.filter_sizes
    tallies = {
        name: Tally(votes[name], voters, alive[name], counts[name], norms[name], sizes[name])
        for name in alive
    }
    answer = vote.decide(tallies, asked)
    _check_answer(vote, answer, alive)
    mask = {name: answer[name] & alive[name] for name in alive}
    # A network with an empty layer computes nothing: there the most-voted filters stay.
    rescued = tuple(name for name, bits in mask.items() if not bits.any())
    for name in rescued:
        floor = Keep.by_layer({name: asked.floor})
        mask |= most_votes().decide({name: tallies[name]}, floor)
    return mask, rescued


def _check_answer(vote: Rule, answer: Mask, alive: Mask) -> None:
    """Refuse what is not a mask of this model: anybody may have written the rule."""
    if set(answer) != set(alive):
        raise MPFLError(
            f"vote rule {vote} answers for layers {list(answer)}, but the model has {list(alive)}"
        )
    for name, bits in alive.items():
        found = np.asarray(answer[name])
        if found.dtype != np.bool_ or found.shape != bits.shape:
            raise MPFLError(
                f"vote rule {vote}: its answer for layer {name!r} is "
                f"{found.dtype}{list(found.shape)}; give bool[{bits.size}], True = kept"
            )
