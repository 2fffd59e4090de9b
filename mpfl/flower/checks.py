"""Whether a node's answer counts: of its round, its model, its length, and whole.

And how long a message of a run may be at all.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

from mpfl import masks, wire
from mpfl.baselines.fedavg import decode_replies
from mpfl.filters import Layout, cut_shapes
from mpfl.flower.superlink import ENVELOPE, LONGEST
from mpfl.node import Plan
from mpfl.runs.workbench import Workbench
from mpfl.types import Mask, MPFLError, Reply, Weights
from mpfl.wire import Ballots, decode_consensus

Check = Callable[[int, Mapping[str, Any]], None]
"""Raises :class:`~mpfl.types.MPFLError` if a node's answer does not count."""


def ballot_check(plan: Plan, down: bytes) -> Check:
    """A vote of the round that ``down`` opens, inside the consensus that it carries."""
    round_, alive = decode_consensus(down, plan.layout)
    longest = len(wire.encode_mask(alive, plan.layout, round_, reference=alive, coding="packed"))

    def check(node: int, told: Mapping[str, Any]) -> None:
        sent, keep = [(node, _payload(told, longest))], plan.keep(round_, alive)
        Ballots.open(sent, plan.layout, round_, alive=alive, keep=keep, coding=plan.coding)

    return check


def weights_check(w0: Weights, layout: Layout, round_: int, mask: Mask) -> Check:
    """Weights of a round of training, of the network that ``mask`` leaves."""
    longest = wire.weights_length(cut_shapes(layout, mask), samples=2**63 - 1)

    def check(node: int, told: Mapping[str, Any]) -> None:
        decode_replies([Reply(node, _payload(told, longest))], w0, layout, round_, mask)

    return check


def _payload(told: Mapping[str, Any], longest: int) -> bytes:
    payload = told.get("up")
    if not isinstance(payload, bytes):
        raise MPFLError("the answer holds no payload; do both sides run equal mpfl versions?")
    if len(payload) > longest:
        raise MPFLError(
            f"payload holds {len(payload):,} bytes, but such a one takes at most {longest:,}; was "
            "it encoded for another model?"
        )
    return payload


def longest_message(bench: Workbench) -> int:
    """No message of this run is longer, up or down, in bytes.

    The longest goes down: weights of the whole network, w0 and a mask in one.
    """
    layout, full = bench.layout, masks.full(bench.layout)
    weights = wire.weights_length(cut_shapes(layout, full), samples=2**63 - 1)
    mask = len(wire.encode_mask(full, layout, 0, reference=full, coding="packed"))
    return 2 * weights + mask + ENVELOPE


def require_room(bench: Workbench) -> None:
    """Refuse to begin under a cap that the run's own messages do not pass."""
    longest, need = int(os.environ.get(LONGEST, 2**31 - 1)), longest_message(bench)
    if need > longest:
        raise MPFLError(
            f"the server takes messages of up to {longest:,} bytes, and this run's may have "
            f"{need:,}; start the server again with --longest {need}"
        )
