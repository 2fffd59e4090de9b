"""What the vote would have been with other ballots or another rule, without training again.

A node's turn is a function of the seed, the round, the node and its data, and in the first round
every node is sent the same. So the ballot that node ``i`` casts in a run in which all nodes are
spoilt is, bit for bit, the one it casts if only some are: put among the honest ballots of
the others, it makes the very votes of that run. This holds only for the first round. After it
nodes train what the consensus left, and that differs.

Ballots are ``bool [nodes, filters]`` and a consensus is ``bool [filters]``, the layers in the
layout's order.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from jaxtyping import Bool

from mpfl import masks
from mpfl.filters import Layout
from mpfl.node import Fault, Plan
from mpfl.seeds import rng_for
from mpfl.server import decide
from mpfl.types import MPFLError
from mpfl.vote import Rule
from mpfl.wire import Ballots


def mixed(
    honest: Bool[np.ndarray, "nodes filters"],
    spoilt: Bool[np.ndarray, "nodes filters"],
    faulty: int,
) -> Bool[np.ndarray, "nodes filters"]:
    """The first ``faulty`` nodes' spoilt ballots, and the honest ones of all others.

    A run spoils its first nodes too. Raises for more faulty nodes than there are.
    """
    if honest.shape != spoilt.shape:
        raise MPFLError(
            f"replay: ballots are {list(honest.shape)} and {list(spoilt.shape)}; give those of the "
            "same nodes and filters"
        )
    if not (isinstance(faulty, int | np.integer) and 0 <= faulty <= len(honest)):
        raise MPFLError(f"replay: {faulty} faulty nodes, but there are {len(honest)} nodes")
    return np.concatenate([spoilt[:faulty], honest[faulty:]])


def tampered(
    fault: Fault, honest: Bool[np.ndarray, "nodes filters"], layout: Layout, seed: int
) -> Bool[np.ndarray, "nodes filters"]:
    """Every honest ballot of a first round after ``fault``.

    A fault that draws nothing gives the ballots of a run, bit for bit. One that draws gives
    others, equally likely: in a run the node's generator has trained before. Raises
    :class:`~mpfl.types.MPFLError` for ballots that are not bool.
    """
    if honest.dtype != bool:
        raise MPFLError(f"ballots are of type {honest.dtype}; give bool, True = kept")
    alive = masks.full(layout)
    return np.array(
        [
            masks.flatten(
                fault(masks.unflatten(ballot, layout), alive, rng_for(seed, "replay", node)), layout
            )
            for node, ballot in enumerate(honest)
        ]
    )


def consensus(
    plan: Plan,
    vote: Rule,
    ballots: Bool[np.ndarray, "nodes filters"],
    norms: Mapping[str, np.ndarray],
) -> Bool[np.ndarray, " filters"]:
    """The consensus of the first round, decided as the server of a run decides it.

    ``norms`` of the filters of w0, by layer, are those of :func:`mpfl.prune.filter_norms`.
    Raises :class:`~mpfl.types.MPFLError` under a rule that has no weight for a node.
    """
    if ballots.dtype != bool:
        raise MPFLError(f"ballots are of type {ballots.dtype}; give bool, True = kept")
    layout = plan.layout
    everything = masks.full(layout)
    cast = {node: masks.unflatten(ballot, layout) for node, ballot in enumerate(ballots)}
    votes, voters = Ballots.of(cast, layout, alive=everything).tally(vote.weights)
    mask, _ = decide(plan, vote, everything, 1, votes, voters, norms)
    return masks.flatten(mask, layout)


def jaccard(one: Bool[np.ndarray, " filters"], other: Bool[np.ndarray, " filters"]) -> float:
    """Jaccard distance: of the filters that either mask keeps, the share that only one keeps.

    ``1 - |A and B| / |A or B|``, from 0 (equal) to 1 (nothing in common); 0 if both are
    empty. It is a metric (Levandowsky & Winter, Nature 234, 1971). Raises for anything but bools.
    """
    if one.dtype != np.bool_ or other.dtype != np.bool_:
        raise MPFLError(f"Jaccard distance of {one.dtype} and {other.dtype}; give two bool arrays")
    either = int((one | other).sum())
    return float((one ^ other).sum() / either) if either else 0.0


def lost(clean: Bool[np.ndarray, " filters"], now: Bool[np.ndarray, " filters"]) -> float:
    """Share of the clean consensus that is gone, 0-1."""
    if not clean.any():
        raise MPFLError("replay: the clean consensus keeps nothing that could be lost")
    return float((clean & ~now).sum() / clean.sum())


def swing(clean: Bool[np.ndarray, " filters"], now: Bool[np.ndarray, " filters"]) -> float:
    """What the faulty nodes decided: share of all filters with another fate, 0-1.

    With ``clean`` the consensus of the same nodes when all are honest, these are the filters
    whose outcome flips when the faulty ballots are replaced by honest ones.
    """
    return float((clean ^ now).mean())
