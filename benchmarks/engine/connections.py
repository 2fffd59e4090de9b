"""What connected nodes cost the SuperLink: memory and processor time.

SuperNodes, a few, and then bare connections, many: TLS and HTTP/2 with nobody behind them, whose
memory stands out of the noise.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks.engine import record
from benchmarks.engine.processes import memory, processor_seconds
from benchmarks.engine.record import row
from mpfl.flower import launch

NODES = (0, 1, 3, 10)
"""How many idle SuperNodes are connected when the SuperLink is looked at."""

BARE = (100, 300)
"""How many bare connections there are beside the SuperNodes."""


def looked_at(server: int) -> tuple[list[float], float]:
    """Megabytes that the server's processes hold, ten times in 30 s, and the cores they use."""
    time.sleep(20)  # who has just connected has settled
    before, began, held = processor_seconds(server), time.time(), []
    for _ in range(10):
        held.append(memory(server, "Anonymous") / 1e6)
        time.sleep(3)
    return held, (processor_seconds(server) - before) / (time.time() - began)


def connections(root: Path) -> Iterator[dict[str, Any]]:
    """Rows of the server alone, with idle SuperNodes, and with bare connections beside them."""
    import grpc

    found: dict[tuple[int, int], tuple[list[float], float]] = {}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "engine"
        served = stack.enter_context(launch.superlink(folder, simulation=False))
        server = served.processes["superlink"].pid
        for nodes in NODES:
            for node in range(len(served.processes) - 1, nodes):
                launch.add_node(served, node, root)
            found[nodes, 0] = looked_at(server)
        trusted = grpc.ssl_channel_credentials((folder / "ca.crt").read_bytes())
        own = [("grpc.use_local_subchannel_pool", 1)]  # a connection for each channel
        opened = 0
        for bare in BARE:
            for _ in range(opened, bare):
                channel = grpc.secure_channel(served.fleet, trusted, own)
                stack.callback(channel.close)
                grpc.channel_ready_future(channel).result(timeout=60)
            opened = bare
            found[nodes, bare] = looked_at(server)
    for (nodes, bare), (held, cores) in found.items():
        name = f"SuperLink with {nodes} idle SuperNodes"
        name += f" and {bare} bare connections" if bare else ""
        yield row(f"{name}: memory", "MB", held, "its own pages, looked at ten times in 30 s")
        yield row(f"{name}: processor", "cores", cores, "over 30 s")
    most, last = NODES[-1], BARE[-1]
    pairs = {
        "a connected SuperNode": ((0, 0), (most, 0), most),
        "a bare connection": ((most, 0), (most, last), last),
    }
    for what, (few, many, count) in pairs.items():
        before, after = (sorted(found[which][0]) for which in (few, many))
        each = [(b - a) / count for a, b in zip(before, after, strict=True)]
        detail = f"{count} more against {'none' if few == (0, 0) else few[0]}"
        yield row(f"{what}: memory of the SuperLink", "MB", each, detail)
        cores = (found[many][1] - found[few][1]) / count
        yield row(f"{what}: processor of the SuperLink", "cores", cores, detail)


def main(root: Path) -> None:
    """Measure and keep it: about six minutes on two busy cores."""
    made = record.made_by("engine-connections")
    record.keep("engine-connections", list(connections(root.resolve())), made)
