"""Whether a node's answer counts: its round, its model, its length, and that it is whole."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from mpfl import wire
from mpfl.node import Plan
from mpfl.runs.workbench import Workbench
from mpfl.types import Mask, MPFLError, Reply
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


def training_check(bench: Workbench, mask: Mask, round_: int) -> Check:
    """A reply of a round of training what ``mask`` leaves, by averages or by votes."""
    finish = bench.experiment.federated
    longest = finish.longest(bench, mask)

    def check(node: int, told: Mapping[str, Any]) -> None:
        finish.read(bench, mask, round_, Reply(node, _payload(told, longest)))

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
