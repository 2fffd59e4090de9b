"""A million nodes on paper: what one server needs, flat and behind a tree of relays.

Worked out from what a vote, a byte and a connection cost where they were measured, by the
benchmarks ``votes``, ``engine-bytes`` and ``engine-connections``: they come first. Nothing here
was run with a million nodes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.engine import record
from benchmarks.engine.overhead import Overhead
from benchmarks.engine.record import row
from benchmarks.timing import seconds
from mpfl import masks, wire
from mpfl.analysis.relay import gather, link_bytes, relay
from mpfl.nets.networks import blueprint
from mpfl.node import Plan
from mpfl.prune import select
from mpfl.schedules import geometric
from mpfl.seeds import rng_for

NODES, FAN = 1_000_000, 1000
PLAN = Plan(blueprint("vgg11-bn", 10), geometric(0.15), 10, coding="packed")
"""VGG11 at full width. Packed votes are equally long, so that a server adds them up fast."""

KEPT = {
    "idle polling of a node": "engine-bytes",
    "an exchange: message round the payload": "engine-bytes",
    "an exchange: calls": "engine-bytes",
    "an exchange: transport a byte of message": "engine-bytes",
    "a bare connection: memory of the SuperLink": "engine-connections",
    "a connected SuperNode: processor of the SuperLink": "engine-connections",
}
"""Measured figures that it is worked out from, and by which benchmark."""


def main(root: Path) -> None:
    """Take what was measured, add up some sums, and keep what follows: some seconds."""
    made = record.made_by("engine-paper")
    measured = list(seconds_of_counts())
    costs = {each["name"]: each["value"] for each in measured}
    costs |= {name: record.value_of(benchmark, name) for name, benchmark in KEPT.items()}
    votes = json.loads((record.FILE.parents[1] / "results.json").read_text())["votes"]["rows"][0]
    costs["a vote"] = votes["value"] / NODES
    record.keep("engine-paper", [*measured, *million(costs)], made)


def seconds_of_counts(n: int = 5) -> Iterator[dict[str, Any]]:
    """What a relay and a server behind relays take: 1,000 messages read and added up."""
    layout, everything = PLAN.layout, masks.full(PLAN.layout)
    keep, rng = PLAN.keep(1, everything), rng_for(0, "relays")
    ballots = []
    for node in range(FAN):
        scores = {layer.name: rng.random(layer.filters) for layer in layout.layers}
        mask = select(scores, everything, keep)
        ballot = wire.encode_mask(mask, layout, 1, reference=everything, coding="packed")
        ballots.append((node, ballot))
    summed = relay(PLAN, everything, 1, ballots)
    sums = [(number, summed) for number in range(FAN)]
    votes, voters = gather(PLAN, everything, 1, sums)
    plain, _ = wire.tally_stream(ballots, layout, 1, alive=everything)
    assert voters == FAN * FAN and all((votes[k] == FAN * plain[k]).all() for k in votes)
    detail = f"{layout.filters:,} filters"
    for name, sent in (("a relay reads 1,000 votes", ballots), ("1,000 sums are added up", sums)):
        times = [seconds(partial(gather, PLAN, everything, 1, sent)) for _ in range(n)]
        yield row(name, "s", times, detail)


def million(costs: Mapping[str, float]) -> Iterator[dict[str, Any]]:
    """Rows of what each machine needs in the second round, from measured ``costs`` by name.

    Flat, all nodes reach the server. In the tree each of 1,000 relays has 1,000 nodes.
    """
    exchange = Overhead(
        costs["an exchange: message round the payload"],
        costs["an exchange: calls"],
        costs["an exchange: transport a byte of message"],
    )
    alive = masks.drawn(PLAN.layout, PLAN.sparsity(1), rng_for(0, "million"))
    flat = link_bytes(PLAN, alive, 2, [NODES])
    tree = link_bytes(PLAN, alive, 2, [FAN, FAN])
    machines = {
        "flat, the server": (NODES, flat[0], NODES * costs["a vote"]),
        "tree, a relay": (FAN, tree[0], costs["a relay reads 1,000 votes"]),
        "tree, the server": (FAN, tree[-1], costs["1,000 sums are added up"]),
    }
    for name, (links, level, adding) in machines.items():
        name, link = f"a million nodes, {name}", level.bytes_up + level.bytes_down
        detail = "worked out"
        yield row(f"{name}: connections", "connections", links, detail)
        yield row(f"{name}: payload up on a link", "bytes", level.bytes_up, detail)
        yield row(f"{name}: payload down on a link", "bytes", level.bytes_down, detail)
        yield row(f"{name}: payload of a round", "MB", links * link / 1e6, detail)
        wire = exchange.wire(links * link, links) / 1e6
        yield row(f"{name}: wire of a round", "MB", wire, detail)
        polling = links * costs["idle polling of a node"] / 1e6
        yield row(f"{name}: idle polling", "MB/s", polling, detail)
        held = links * costs["a bare connection: memory of the SuperLink"] / 1e3
        yield row(f"{name}: memory for connections", "GB", held, detail)
        cores = links * costs["a connected SuperNode: processor of the SuperLink"]
        yield row(f"{name}: processor for idle polling", "cores", cores, detail)
        yield row(f"{name}: adding up", "s", adding, "worked out from measured votes and sums")
