"""A federation without any training: three nodes, a tiny model, and a fake local training."""

from dataclasses import replace
from typing import Any

import numpy as np
from toys import BY_HISTOGRAM, chain, draw_weights, same

from mpfl import masks, wire
from mpfl.algorithm import Algorithm, Initialise, LocalTrain, Start, State
from mpfl.filters import Layout, apply
from mpfl.node import Plan
from mpfl.schedules import linear
from mpfl.seeds import rng_for
from mpfl.server import masked_pruning
from mpfl.simulation import RoundLog, simulate
from mpfl.types import Answer, Mask, Reply, Update, Weights
from mpfl.vote import weighted

WIDE = chain([16, 12, 10], norm=False)
DATA = [np.full(5, 1.0), np.full(8, 2.0), np.full(3, 0.5)]
PLAN = Plan(WIDE, linear(0.6), rounds=4)
RULE_EXAMPLES = [weighted((5.0, 8.0, 3.0)), *BY_HISTOGRAM]


# --- trainings -------------------------------------------------------------------------------


def drift(layout: Layout) -> LocalTrain:
    """A training in three lines: each weight drifts, further where the data's mean is larger."""

    def train(weights: Weights, mask: Mask, data: np.ndarray, rng: np.random.Generator) -> Update:
        assert same(weights, apply(weights, mask, layout)), "training starts from unmasked weights"
        moved = {name: _drifted(array, data, rng) for name, array in weights.items()}
        return Update(apply(moved, mask, layout), metrics={"loss": float(data.mean())})

    return train


def _drifted(array: np.ndarray, data: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return np.asarray(array + data.mean() * rng.standard_normal(array.shape), dtype=array.dtype)


def still(weights: Weights, mask: Mask, data: np.ndarray, rng: np.random.Generator) -> Update:
    """A training that learns nothing, so that all nodes say the same."""
    return Update(weights)


# --- a run -----------------------------------------------------------------------------------


def begin(layout: Layout, seed: int = 0) -> Start:
    """w0 as :func:`draw_weights` draws it, to travel as its seed."""
    return Start(draw_weights(layout, seed), seed)


def initialise(layout: Layout) -> Initialise:
    """How the seed of :func:`begin` becomes w0 again."""
    return lambda seed: draw_weights(layout, seed)


def method(plan: Plan = PLAN, **how: Any) -> Algorithm:
    """Masked pruning with the fake training."""
    return masked_pruning(plan, initialise(plan.layout), drift(plan.layout), **how)


def run(
    algorithm: Algorithm,
    data: list[np.ndarray] = DATA,
    rounds: int = 4,
    seed: int = 0,
    *,
    layout: Layout = WIDE,
    **how: Any,
) -> list[RoundLog]:
    """Every round of a simulation."""
    return list(simulate(algorithm, data, begin(layout), rounds, seed, **how))


def recorded(algorithm: Algorithm) -> tuple[Algorithm, list[tuple[str, int, bytes]]]:
    """The same algorithm, and the list of every message: (what, round, bytes)."""
    messages: list[tuple[str, int, bytes]] = []

    def noted(what: str, round_: int, message: bytes) -> bytes:
        messages.append((what, round_, message))
        return message

    def aggregate(state, round_, replies):
        for reply in replies:
            noted("up", round_, reply.payload)
        return algorithm.aggregate(state, round_, replies)

    spied = replace(
        algorithm,
        start=lambda state: noted("start", 0, algorithm.start(state)),
        broadcast=lambda state, round_: noted("down", round_, algorithm.broadcast(state, round_)),
        aggregate=aggregate,
    )
    return spied, messages


# --- a single round --------------------------------------------------------------------------


def fresh(layout: Layout, alive: Mask | None = None) -> State:
    """What the server holds before a round: w0, and the consensus ``alive`` (None: all)."""
    return State(draw_weights(layout), masks.full(layout) if alive is None else alive, 0)


def half(layout: Layout) -> Mask:
    """Every second filter of each layer."""
    return {name: np.arange(size) % 2 == 0 for name, size in layout.sizes.items()}


def answer(local, alive, memory, *, round_=2, layout=WIDE, seed=0) -> Answer:
    """What a node answers if ``alive`` is broadcast to it."""
    message = wire.encode_consensus(alive, layout, round_)
    return local(memory, message, DATA[0], rng_for(seed, "node"))


def sent_by_all(plan: Plan, round_: int, alive: Mask, *sent: Mask) -> list[Reply]:
    """Replies of nodes 0, 1, ... that each send a mask, as the plan's nodes would."""
    inside = {"reference": alive, "keep": plan.keep(round_, alive), "coding": plan.coding}
    return [
        Reply(node, wire.encode_mask(mask, plan.layout, round_, **inside))
        for node, mask in enumerate(sent)
    ]
