"""A round's votes, opened once: checked, added up, measured, recorded.

A *ballot* is the mask that a node sent. :meth:`Ballots.open` is the only place where the server
reads one; whatever else is asked about a round is asked of the value that it returns.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
from jaxtyping import Bool, UInt8

from mpfl import masks
from mpfl.filters import Layout
from mpfl.masks import Keep
from mpfl.types import Mask, MPFLError, is_number, located
from mpfl.wire.masks import Coding, decode_mask
from mpfl.wire.packed import BLOCK, add_packed, packed_rows


@dataclass(frozen=True)
class Ballots:
    """The masks of ``nodes`` inside ``alive``: row ``i`` has the bits of node ``nodes[i]``, packed.

    The first filter is the lowest bit of byte 0, layers in the layout's order.

    >>> from mpfl.filters import Layer
    >>> layout = Layout((Layer("conv", 3, "w", ("w",)),), {"w": (3, 1, 3, 3)})
    >>> votes = [{"conv": np.array(bits, bool)} for bits in ([1, 0, 1], [1, 1, 0])]
    >>> ballots = Ballots.of(dict(enumerate(votes)), layout, alive=masks.full(layout))
    >>> ballots.tally()
    ({'conv': array([2, 1, 1])}, 2)
    >>> ballots.agreement({"conv": np.array([True, False, True])})
    {0: 1.0, 1: 0.3333333333333333}
    """

    layout: Layout
    alive: Mask
    nodes: tuple[int, ...]
    rows: UInt8[np.ndarray, "nodes bytes"]

    @classmethod
    def open(
        cls,
        payloads: Iterable[tuple[int, bytes]],
        layout: Layout,
        round_: int,
        *,
        alive: Mask,
        keep: Keep | None = None,
        coding: Coding = "shortest",
    ) -> Ballots:
        """Read the ``(node, payload)`` pairs of a round; raises naming the first bad one's node.

        Law: ``coding`` changes the bytes and how fast they are read, never the ballots.
        """
        pairs = list(payloads)
        nodes = tuple(node for node, _ in pairs)
        if coding == "packed":  # all equally long: checked at once, and packed already
            sent = [payload for _, payload in pairs]
            rows = packed_rows(sent, layout, round_, reference=alive, nodes=nodes)
            return cls(layout, alive, nodes, rows)
        ballots = {}
        for place, (node, payload) in enumerate(pairs):
            with located(f"node {node}", f"round {round_}", "decode"):
                ballots[place] = decode_mask(
                    payload, layout, round_, reference=alive, keep=keep, coding=coding
                )
        return cls(layout, alive, nodes, cls.of(ballots, layout, alive=alive).rows)

    @classmethod
    def of(cls, ballots: Mapping[int, Mask], layout: Layout, *, alive: Mask) -> Ballots:
        """Masks that were never sent, by node."""
        rows = [_packed(mask, layout) for mask in ballots.values()]
        packed = np.array(rows or np.zeros((0, (layout.filters + 7) // 8)), np.uint8)
        if (packed & ~_packed(alive, layout)).any():
            raise MPFLError("a ballot brings back pruned filters; give masks inside alive")
        return cls(layout, alive, tuple(ballots), packed)

    def bits(self) -> Bool[np.ndarray, "nodes filters"]:
        """Every ballot as a row of bools."""
        filters = self.layout.filters
        return np.unpackbits(self.rows, axis=1, count=filters, bitorder="little").astype(bool)

    def tally(self, weights: Sequence[float] | None = None) -> tuple[dict[str, np.ndarray], float]:
        """For each layer how many nodes keep each filter, ``int [filters]``, and how many voted.

        With ``weights`` node ``i`` counts ``weights[i]`` times, and both are floats. Raises
        :class:`~mpfl.types.MPFLError` for a node without a weight.
        """
        if weights is None:
            votes = add_packed(self.rows, self.layout.filters)
            return masks.unflatten(votes, self.layout), len(self.nodes)
        if missing := [node for node in self.nodes if not 0 <= node < len(weights)]:
            raise MPFLError(
                f"vote: node {missing[0]} has no weight, there are {len(weights)}; "
                "give one weight per node"
            )
        if bad := [each for each in weights if not (is_number(each) and 0 <= each < math.inf)]:
            raise MPFLError(f"vote: a node's weight is {bad[0]!r}; give finite numbers, 0 or more")
        total, voters = np.zeros(self.layout.filters), 0.0
        for node, ballot in zip(self.nodes, self.bits(), strict=True):
            total[ballot] += weights[node]
            voters += weights[node]
        return masks.unflatten(total, self.layout), voters

    def agreement(self, consensus: Mask) -> dict[int, float]:
        """Each node's :func:`mpfl.masks.agreement` with the consensus, 0-1."""
        asked = sum(masks.counts(self.alive).values())
        if not asked:
            raise MPFLError("no filter is alive, so there is nothing to agree on; prune less")
        packed = _packed(consensus, self.layout)
        # Votes and consensus lie within what was alive: if they differ, they differ in there.
        differ = [
            np.bitwise_count(self.rows[first : first + BLOCK] ^ packed).sum(axis=1, dtype=np.int64)
            for first in range(0, len(self.nodes), BLOCK)
        ]
        equal = (asked - np.concatenate([*differ, np.zeros(0, np.int64)])) / asked
        return dict(zip(self.nodes, equal.tolist(), strict=True))

    def hex(self) -> list[str]:
        """Every ballot as hex digits, as a run records it."""
        return [row.tobytes().hex() for row in self.rows]


def _packed(mask: Mask, layout: Layout) -> UInt8[np.ndarray, " bytes"]:
    bits = masks.flatten(mask, layout)
    if bits.dtype != np.bool_:
        raise MPFLError(f"a ballot is of type {bits.dtype}; give bool, True = kept")
    return np.packbits(bits, bitorder="little")


def tally_stream(
    payloads: Iterable[tuple[int, bytes]], layout: Layout, round_: int, *, alive: Mask
) -> tuple[dict[str, np.ndarray], int]:
    """:meth:`Ballots.tally` of packed masks as they come, ``BLOCK`` at a time, none of them kept.

    Memory is a matter of the filters, not of the nodes: a million nodes take no more than ten.
    """
    stream, total, voters = iter(payloads), np.zeros(layout.filters, np.int64), 0
    while block := list(islice(stream, BLOCK)):
        ballots = Ballots.open(block, layout, round_, alive=alive, coding="packed")
        total += add_packed(ballots.rows, layout.filters)
        voters += len(block)
    return masks.unflatten(total, layout), voters
