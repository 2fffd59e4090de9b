"""The chance that a filter falls below a threshold when some of the voters are faulty.

A filter is kept when at least ``ceil(tau N)`` of ``N`` nodes vote for it, as under
``share(tau)``. Each honest node votes for it with probability ``p``, each of ``f`` faulty
ones with probability ``q``, all on their own: ``q = 0`` votes against, ``q = 1`` for, and ``q``
the share of filters that a ballot keeps votes without looking. Under ``budget`` there is no
such threshold: it moves with what the nodes say of the other filters.
"""

from __future__ import annotations

from math import comb

import numpy as np
from jaxtyping import Float

from mpfl.types import MPFLError


def votes_needed(tau: float, nodes: int) -> int:
    """The fewest votes of ``nodes`` whose share is at least ``tau``: ``ceil(tau N)``.

    Found by the division that :class:`mpfl.vote.share` does, so that rounding agrees too.
    """
    if not (0 < tau <= 1 and nodes >= 1):
        raise MPFLError(f"theory: tau {tau:g} of {nodes} nodes; give tau in 0-1 and a node")
    return next(votes for votes in range(nodes + 1) if votes / nodes >= tau)


def chance_pruned(
    p: Float[np.ndarray, " points"], q: float, nodes: int, faulty: int, tau: float
) -> Float[np.ndarray, " points"]:
    """The chance that a filter is pruned, ``P(Bin(N - f, p) + Bin(f, q) < ceil(tau N))``.

    Laws: a larger ``p`` or ``q`` never makes it larger, a larger ``tau`` never smaller; for
    ``q <= p`` another faulty node never makes it smaller. Raises for a probability outside 0-1
    and for more faulty nodes than nodes.
    """
    _check(q, nodes, faulty)
    if not ((p >= 0) & (p <= 1)).all():
        raise MPFLError("theory: p is a probability; give 0 to 1")
    rest = nodes - faulty
    honest = np.array([_binomial(votes, rest, p) for votes in range(rest + 1)])
    return _below(honest, q, nodes, faulty, tau)


def chance_pruned_of(votes: int, q: float, nodes: int, faulty: int, tau: float) -> float:
    """The same for a filter that ``votes`` of all ``N`` nodes keep when they are honest.

    The faulty ones are any ``f`` of them, so what is left of its votes is drawn without
    replacement. Law: its mean over ``votes`` from ``Bin(N, p)`` is :func:`chance_pruned`.
    """
    _check(q, nodes, faulty)
    if not 0 <= votes <= nodes:
        raise MPFLError(f"theory: {votes} votes of {nodes} nodes; give 0 to {nodes}")
    rest, ways = nodes - faulty, comb(nodes, votes)
    honest = [comb(rest, n) * comb(faulty, votes - n) / ways for n in range(min(rest, votes) + 1)]
    return float(_below(np.array(honest), q, nodes, faulty, tau))


def _below(
    honest: Float[np.ndarray, "votes *points"], q: float, nodes: int, faulty: int, tau: float
) -> Float[np.ndarray, "*points"]:
    """The chance that honest votes, ``honest[n]`` that there are ``n``, and faulty ones are few."""
    needed = votes_needed(tau, nodes)
    total = np.zeros(honest.shape[1:])
    for votes, chance in enumerate(honest):
        for more in range(min(faulty + 1, needed - votes)):
            total += chance * _binomial(more, faulty, np.asarray(q))
    return total


def _binomial(votes: int, nodes: int, p: np.ndarray) -> np.ndarray:
    return np.asarray(float(comb(nodes, votes)) * p**votes * (1 - p) ** (nodes - votes))


def _check(q: float, nodes: int, faulty: int) -> None:
    if not 0 <= q <= 1:
        raise MPFLError(f"theory: q is {q:g}, but a probability is 0 to 1")
    if not 0 <= faulty <= nodes:
        raise MPFLError(f"theory: {faulty} faulty nodes, but there are {nodes} nodes")
