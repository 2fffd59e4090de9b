"""Partitions: which node holds which images.

A partition maps (``labels [images]``, the number of nodes, a generator) to one sorted array of
image indices per node.

Laws, for every partition: it is complete (every image has a node) and disjoint (no image
has two); every node has at least one image; equal generators give equal partitions. Every
partition raises :class:`~mpfl.types.MPFLError` for fewer than one node, for more nodes than
images, and for labels that are not one whole number per image.

Each one is a frozen dataclass that is called like a function: equal parameters make equal
partitions, and the ``repr`` is what a run's configuration records.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from mpfl.types import MPFLError

Partition: TypeAlias = Callable[[np.ndarray, int, np.random.Generator], list[np.ndarray]]


def _check(where: str, labels: np.ndarray, nodes: int) -> None:
    if not isinstance(labels, np.ndarray):
        raise MPFLError(f"{where}: labels are a {type(labels).__name__}; give a numpy array")
    if labels.ndim != 1:
        raise MPFLError(f"{where}: labels have shape {list(labels.shape)}; give one per image")
    if labels.dtype.kind not in "iu":
        raise MPFLError(f"{where}: labels are {labels.dtype}; give whole numbers, one per image")
    if not isinstance(nodes, int | np.integer):
        raise MPFLError(f"{where}: nodes is {nodes!r}; give a whole number")
    if nodes < 1:
        raise MPFLError(f"{where}: cannot divide images among {nodes} nodes; ask for at least 1")
    if nodes > len(labels):
        raise MPFLError(
            f"{where}: {nodes} nodes are more than the {len(labels)} images; ask for fewer nodes"
        )


def _cut(members: np.ndarray, ends: np.ndarray, rng: np.random.Generator) -> list[np.ndarray]:
    """``members`` in runs that end at these places, which may lie between two of them."""
    # One random offset for all of them, and rounding favours no node.
    return np.split(members, np.floor(ends[:-1] + rng.random()).astype(int))


@dataclass(frozen=True)
class iid:
    """Every node draws from the same distribution: shuffle all images and cut evenly.

    >>> from mpfl.seeds import rng_for
    >>> labels = np.array([0, 0, 0, 0, 1, 1, 1])
    >>> [part.tolist() for part in iid()(labels, 3, rng_for(0))]
    [[1, 3, 4], [0, 6], [2, 5]]

    Law: the sizes differ by at most one, and the larger parts come first.
    Source: Gez & Cohen, arXiv 2312.03889 (their released code gives the whole remainder
    to the last node).
    """

    def __call__(
        self, labels: np.ndarray, nodes: int, rng: np.random.Generator
    ) -> list[np.ndarray]:
        _check("iid", labels, nodes)
        return [np.sort(part) for part in np.array_split(rng.permutation(len(labels)), nodes)]


@dataclass(frozen=True)
class dirichlet:
    """Every node has its own mix of classes, and its own number of images.

    >>> from mpfl.seeds import rng_for
    >>> labels = np.repeat([0, 1, 2], 100)
    >>> uneven, even = (dirichlet(alpha)(labels, 2, rng_for(0)) for alpha in (0.1, 100))
    >>> [np.bincount(labels[part], minlength=3).tolist() for part in uneven]  # one row per node
    [[0, 83, 100], [100, 17, 0]]
    >>> [np.bincount(labels[part], minlength=3).tolist() for part in even]
    [[54, 50, 53], [46, 50, 47]]

    For each class, the nodes' shares of it are drawn from a symmetric Dirichlet distribution.
    A small ``alpha`` gives most of a class to one node; a large ``alpha`` gives nearly equal
    shares.

    Law: a node's expected number of images of a class is its share of that class.
    Raises :class:`MPFLError` for an ``alpha`` that is not a positive number, and for a draw that
    leaves a node with no data.
    Source: Hsu et al., arXiv 1909.06335, for ``alpha`` as the dial; the draw per class is
    that of Yurochkin et al., arXiv 1905.12022 (Hsu et al. draw per node, at equal sizes).
    """

    alpha: float

    def __post_init__(self) -> None:
        number = isinstance(self.alpha, int | float)
        if not (number and self.alpha > 0 and math.isfinite(self.alpha)):
            raise MPFLError(
                f"dirichlet: alpha={self.alpha!r} is not a positive number; "
                "give e.g. 0.1 (very uneven) to 100 (nearly even)"
            )

    def __call__(
        self, labels: np.ndarray, nodes: int, rng: np.random.Generator
    ) -> list[np.ndarray]:
        _check("dirichlet", labels, nodes)
        held: list[list[np.ndarray]] = [[] for _ in range(nodes)]
        for label in np.unique(labels):
            # The images of this class in random order, and the share of them that each node gets.
            members = rng.permutation(np.flatnonzero(labels == label))
            shares = rng.dirichlet(np.full(nodes, self.alpha))
            for node, part in enumerate(_cut(members, np.cumsum(shares) * len(members), rng)):
                held[node].append(part)
        # A node's part is what it got of every class.
        parts = [np.sort(np.concatenate(own)) for own in held]
        if empty := [node for node, part in enumerate(parts) if not len(part)]:
            raise MPFLError(
                f"dirichlet: node {empty[0]} is left with no data ({len(empty)} of {nodes} nodes "
                f"are, at alpha={self.alpha:g} over {len(labels)} images); "
                "take another seed, a larger alpha or fewer nodes"
            )
        return parts


@dataclass(frozen=True)
class shards:
    """Every node holds few classes: sort by label, cut into shards, deal ``per_node`` each.

    >>> from mpfl.seeds import rng_for
    >>> labels = np.array([7, 7, 0, 0, 3, 3, 5, 5])
    >>> parts = shards(per_node=2)(labels, 2, rng_for(0))
    >>> [labels[part].tolist() for part in parts]
    [[7, 7, 0, 0], [3, 3, 5, 5]]

    The images are sorted by label (images of one label stay in order) and cut into
    ``nodes * per_node`` runs of equal length, which are dealt out at random. If no shard spans
    two classes, a node holds at most ``per_node`` classes.

    Law: the sizes of two nodes differ by at most ``per_node``.
    Raises :class:`MPFLError` for ``per_node`` below one, and for more shards than images.
    Source: McMahan et al., arXiv 1602.05629, section 3.
    """

    per_node: int = 2

    def __post_init__(self) -> None:
        if not (isinstance(self.per_node, int) and self.per_node >= 1):
            raise MPFLError(
                f"shards: per_node={self.per_node!r} deals nothing; give a whole number"
            )

    def __call__(
        self, labels: np.ndarray, nodes: int, rng: np.random.Generator
    ) -> list[np.ndarray]:
        _check("shards", labels, nodes)
        count = nodes * self.per_node
        if count > len(labels):
            raise MPFLError(
                f"shards: {nodes} nodes x {self.per_node} shards are more than the "
                f"{len(labels)} images; ask for fewer nodes or a smaller per_node"
            )
        cut = np.array_split(np.argsort(labels, kind="stable"), count)
        hands = rng.permutation(count).reshape(nodes, self.per_node)
        return [np.sort(np.concatenate([cut[shard] for shard in hand])) for hand in hands]


def dealt_alike(
    parts: Sequence[np.ndarray], labels: np.ndarray, others: np.ndarray, rng: np.random.Generator
) -> list[np.ndarray]:
    """Other images, dealt so that each node gets of every class the share that it holds already.

    >>> from mpfl.seeds import rng_for
    >>> labels, others = np.array([0, 0, 0, 0, 1, 1]), np.array([0, 1, 0, 1])
    >>> parts = [np.array([0, 1]), np.array([2, 3, 4, 5])]
    >>> [others[own].tolist() for own in dealt_alike(parts, labels, others, rng_for(0))]
    [[0], [0, 1, 1]]

    ``parts`` are places in ``labels``, the result is places in ``others``. A class that no node
    holds is dealt to none. Law: the number of images of a class is the node's share of the
    class, rounded up or down; a node gets none of a class that it does not hold.
    """
    held: list[list[np.ndarray]] = [[np.zeros(0, np.int64)] for _ in parts]
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(others == label))
        counts = np.array([int((labels[part] == label).sum()) for part in parts])
        ends = np.cumsum(counts) * len(members) / counts.sum()
        for node, part in enumerate(_cut(members, ends, rng)):
            held[node].append(part)
    return [np.sort(np.concatenate(own)) for own in held]


PARTITIONS = {partition.__name__: partition for partition in (iid, dirichlet, shards)}
