"""What faulty voters do to a vote: chances that a filter is pruned, or a direction is right.

A filter is kept if at least ``ceil(tau N)`` of ``N`` nodes vote for it, as under ``share(tau)``.
Each honest node votes for it with probability ``p`` and each of ``f`` faulty nodes with
probability ``q``, all independently. A faulty node with ``q = 0`` votes against every filter, with
``q = 1`` for every filter; if ``q`` is the fraction of filters that a ballot keeps, it votes at
random. A rule that keeps the most-voted filters has no such threshold: there it depends on the
votes for the other filters.
"""

from __future__ import annotations

from math import comb

import numpy as np
from jaxtyping import Float

from mpfl.types import MPFLError


def votes_needed(tau: float, nodes: int) -> int:
    """The fewest votes of ``nodes`` whose share is at least ``tau``: ``ceil(tau N)``.

    >>> votes_needed(0.5, nodes=5)
    3

    Computed by the same division as in :class:`mpfl.vote.share`, so that both round alike.
    """
    if not (0 < tau <= 1 and nodes >= 1):
        raise MPFLError(f"theory: tau {tau:g} of {nodes} nodes; give tau in 0-1 and a node")
    return next(votes for votes in range(nodes + 1) if votes / nodes >= tau)


def chance_pruned(
    p: Float[np.ndarray, " points"], q: float, nodes: int, faulty: int, tau: float
) -> Float[np.ndarray, " points"]:
    """The chance that a filter is pruned, ``P(Bin(N - f, p) + Bin(f, q) < ceil(tau N))``.

    A majority of three nodes, of which one votes against: it needs both honest votes.

    >>> chance_pruned(np.array([0.5, 1.0]), q=0.0, nodes=3, faulty=1, tau=0.5).tolist()
    [0.75, 0.0]

    Laws: a larger ``p`` or ``q`` never makes it larger, a larger ``tau`` never smaller; for
    ``q <= p`` another faulty node never makes it smaller. Raises :class:`MPFLError` for a
    probability outside 0-1 and for more faulty nodes than nodes.
    """
    _check(q, nodes, faulty)
    if not ((p >= 0) & (p <= 1)).all():
        raise MPFLError("theory: p is a probability; give 0 to 1")
    others = nodes - faulty
    honest = np.array([_binomial(votes, others, p) for votes in range(others + 1)])
    return _below(honest, q, nodes, faulty, tau)


def chance_pruned_of(votes: int, q: float, nodes: int, faulty: int, tau: float) -> float:
    """The same for a filter that ``votes`` of all ``N`` nodes would keep if all were honest.

    Two votes among three nodes are a majority, unless the faulty node holds one of them:

    >>> round(chance_pruned_of(2, q=0.0, nodes=3, faulty=1, tau=0.5), 6)
    0.666667

    The faulty nodes are any ``f`` of the ``N``, so the honest votes that remain are drawn without
    replacement. Law: its mean over ``votes`` from ``Bin(N, p)`` is :func:`chance_pruned`.
    """
    _check(q, nodes, faulty)
    if not 0 <= votes <= nodes:
        raise MPFLError(f"theory: {votes} votes of {nodes} nodes; give 0 to {nodes}")
    others, ways = nodes - faulty, comb(nodes, votes)
    honest = [
        comb(others, kept) * comb(faulty, votes - kept) / ways
        for kept in range(min(others, votes) + 1)
    ]
    return float(_below(np.array(honest), q, nodes, faulty, tau))


def chance_right(
    p: Float[np.ndarray, " points"], nodes: int, inverted: int
) -> Float[np.ndarray, " points"]:
    """The chance that a majority on a direction is right.

    Each honest node is right with probability ``p``. Each of ``inverted`` nodes sends the opposite
    of what an honest one would. A tie is right half of the time, as it goes up and down in turn
    (:func:`mpfl.sign_votes.undecided`).

    >>> chance_right(np.array([0.5, 0.9, 1.0]), nodes=3, inverted=1).round(3).tolist()
    [0.5, 0.828, 1.0]

    Laws: with nobody inverted and ``p`` above 1/2 more nodes are never worse; half of the nodes
    inverted makes it 1/2, whatever ``p`` is. Raises :class:`MPFLError` for a probability outside
    0-1 and for more inverted nodes than nodes.
    """
    _check(0, nodes, inverted)
    if not ((p >= 0) & (p <= 1)).all():
        raise MPFLError("theory: p is a probability; give 0 to 1")
    honest = nodes - inverted
    total = np.zeros(np.shape(p))
    for one in range(honest + 1):
        for other in range(inverted + 1):
            weight = 1.0 if 2 * (one + other) > nodes else 0.5 * (2 * (one + other) == nodes)
            total += weight * _binomial(one, honest, p) * _binomial(other, inverted, 1 - p)
    return total


def _below(
    honest: Float[np.ndarray, "votes *points"], q: float, nodes: int, faulty: int, tau: float
) -> Float[np.ndarray, "*points"]:
    """The chance that all votes together are fewer than needed.

    ``honest[n]`` is the chance of ``n`` honest votes; the faulty nodes add ``Bin(faulty, q)``.
    """
    needed = votes_needed(tau, nodes)
    total = np.zeros(honest.shape[1:])
    for votes, chance in enumerate(honest):
        for more in range(min(faulty + 1, needed - votes)):
            total += chance * _binomial(more, faulty, np.asarray(q))
    return total


def _binomial(votes: int, nodes: int, p: np.ndarray) -> np.ndarray:
    """``P(Bin(nodes, p) = votes)``."""
    return np.asarray(float(comb(nodes, votes)) * p**votes * (1 - p) ** (nodes - votes))


def _check(q: float, nodes: int, faulty: int) -> None:
    if not 0 <= q <= 1:
        raise MPFLError(f"theory: q is {q:g}, but a probability is 0 to 1")
    if not 0 <= faulty <= nodes:
        raise MPFLError(f"theory: {faulty} faulty nodes, but there are {nodes} nodes")
