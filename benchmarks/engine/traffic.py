"""Bytes on the wire of a real deployment: what Flower adds to the payload, counted by proxies.

SuperLink and three SuperNodes on loopback, with TLS and keys, and a counting proxy between each
node and the server. First they idle, then they vote, then they average weights.
"""

from __future__ import annotations

import dataclasses
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.engine import record
from benchmarks.engine.overhead import (
    Exchange,
    Overhead,
    message_bytes,
    messages_and_polling,
    overhead,
)
from benchmarks.engine.proxy import Passed, Proxy, bursts
from benchmarks.engine.record import row
from benchmarks.engine.sizes import worked_out
from mpfl.flower import launch
from mpfl.flower.engine import Engine
from mpfl.runs.folder import read_lines

NODES = 3
IDLE = 90.0
"""Seconds of polling that are counted."""

VOTE, AVERAGE = "cifar10-vgg11", "cifar10-vgg11-fedavg"
RUNS = {  # name: recipe, changes to its toy budget
    "mpfl": (VOTE, "rounds=6;schedule=linear(0.6);federated_rounds=2;central_epochs=0;images=300"),
    "fedavg": (AVERAGE, "federated_rounds=4;images=300"),
    "fedavg, half width": (AVERAGE, "federated_rounds=2;images=48;width=0.5"),
}


@dataclass
class Counted:
    """A run as the proxies saw it: when it was submitted, when its rounds closed, its end."""

    folder: Path
    began: float
    closed: list[tuple[float, str, dict[str, Any]]] = field(default_factory=list)
    ended: float = 0.0

    def look(self) -> None:
        """Note the rounds that have closed: each rewrites its log, whose time is theirs."""
        for phase in ("rounds", "federated"):
            path = self.folder / f"{phase}.jsonl"
            known = sum(name == phase for _, name, _ in self.closed)
            for line in read_lines(path)[known:]:
                self.closed.append((path.stat().st_mtime, phase, line))

    def exchanges(self, passed: Sequence[Passed], node: int, poll: float) -> Iterator[Any]:
        """``(phase, round, Exchange)`` of a node, round by round."""
        begin = self.began
        for end, phase, line in self.closed:
            payload, message = sent(line, phase, node)
            wire, polling = messages_and_polling(passed, begin, end, poll)
            yield phase, line["round"], Exchange(payload, message, wire, polling)
            begin = end


def sent(line: Mapping[str, Any], phase: str, node: int) -> tuple[int, int]:
    """Bytes of payload and of messages to and from ``node`` in the round of this line."""
    down, up = line["bytes_down"] // NODES, line["payloads"][node]
    once = line["start_bytes"] // NODES
    content = {"down": bytes(down), "final": phase == "federated"}
    content |= {"w0": bytes(once)} if once else {}
    group = f"{'masks' if phase == 'rounds' else 'final'} {line['round']}"
    return down + up + once, message_bytes(content, {"node": node, "up": bytes(up)}, group)


def counted_run(served: Engine, name: str, folder: Path, root: Path) -> Counted:
    """Submit a run and wait for its end, watching its rounds meanwhile."""
    which, changes = RUNS[name]
    config = {"recipe": which, "budget": "toy", "seed": 0, "set": changes}
    config |= {"root": str(root), "out": str(folder), "command": "benchmark", "patience": 300}
    found, over = Counted(folder, time.time()), threading.Event()

    def watch() -> None:
        while not over.wait(0.05):
            found.look()

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        launch.wait(served, launch.submit(served, config), seconds=1800)
    finally:
        over.set()
        watcher.join()
    found.look()
    found.ended = time.time()
    return found


def idle(seen: Sequence[Proxy], seconds: float) -> Iterator[dict[str, Any]]:
    """Rows of what a node that has nothing to do sends and is sent."""
    begin = time.time()
    time.sleep(seconds)
    passed = [[p for p in proxy.passed if begin <= p.when < begin + seconds] for proxy in seen]
    for way in ("up", "down"):
        rates = [sum(p.bytes for p in each if p.way == way) / seconds for each in passed]
        yield row(f"idle polling of a node, {way}", "bytes/s", rates, f"over {seconds:.0f} s")
    both = [sum(p.bytes for p in each) / seconds for each in passed]
    yield row("idle polling of a node", "bytes/s", both, f"over {seconds:.0f} s, both ways")
    polls = [burst.up + burst.down for each in passed for burst in bursts(each)]
    yield row("one poll", "bytes", polls, "a burst of an idle node, both ways")
    firsts = [bursts(proxy.passed)[0] for proxy in seen]
    connecting = [first.up + first.down for first in firsts]
    yield row("a node connects", "bytes", connecting, "TLS handshake, activation, the first poll")


def measured(root: Path, names: Sequence[str]) -> tuple[list[dict[str, Any]], Overhead]:
    """All of it on a deployment; rows, and what they say an exchange costs."""
    with tempfile.TemporaryDirectory() as scratch:
        at = Path(scratch)
        with launch.superlink(at / "engine", simulation=False) as served:
            seen = [Proxy(served.fleet) for _ in range(NODES)]
            for node, proxy in enumerate(seen):
                through = dataclasses.replace(served, fleet=proxy.address)
                launch.add_node(through, node, root)
            while min(len(bursts(proxy.passed)) for proxy in seen) < 4:  # it has polled thrice
                time.sleep(1)
            rows = list(idle(seen, IDLE))
            poll = next(each["value"] for each in rows if each["name"] == "one poll")
            runs = {}
            for number, name in enumerate(names):
                runs[name] = counted_run(served, name, at / f"run{number}", root)
                print(f"  {name}: {runs[name].ended - runs[name].began:.0f} s", flush=True)
                time.sleep(10)
        heard = [proxy.passed for proxy in seen]
        for proxy in seen:
            proxy.close()
    later: dict[str, list[Exchange]] = {}
    for name, run in runs.items():
        rows += rows_of(name, run, heard, poll, later)
    cost = overhead(later["mpfl, a mask round"], later["fedavg, a round of averaging"])
    return rows, cost


def rows_of(
    name: str,
    run: Counted,
    heard: Sequence[Sequence[Passed]],
    poll: float,
    later: dict[str, list[Exchange]],
) -> Iterator[dict[str, Any]]:
    """A run's rows: a round of each phase but its first, the start, the end, and the sum.

    The exchanges of the rounds are also put into ``later``, by name.
    """
    nodes = [list(run.exchanges(passed, node, poll)) for node, passed in enumerate(heard)]
    for phase, what in (("rounds", "a mask round"), ("federated", "a round of averaging")):
        some = [e for node in nodes for p, number, e in node if p == phase and number > 1]
        if some:
            later[f"{name}, {what}"] = some
        for part in ("payload", "message", "transport", "wire", "polling") if some else ():
            values = [getattr(exchange, part) for exchange in some]
            yield row(f"{name}, {what}: {part}", "bytes", values, "a node, both ways")
    if name == "mpfl":
        usual = statistics.median(e.transport for e in later["mpfl, a mask round"])
        starts = [node[0][2].transport - usual for node in nodes]
        yield row("mpfl: start", "bytes", starts, "a node: the run's settings, the app bundle")
        yield row("the app bundle", "bytes", _bundle(), "in the start; w0 is in a message")
    last = run.closed[-1][0]
    ends = [messages_and_polling(passed, last, run.ended, poll)[0] for passed in heard]
    yield row(f"{name}: end", "bytes", ends, "a node: the final network, to be evaluated")
    for part in ("payload", "message", "transport", "wire", "polling"):
        sums = sum(getattr(e, part) for node in nodes for _, _, e in node)
        yield row(f"{name}, all rounds and nodes: {part}", "bytes", sums, RUNS[name][1])


def _bundle() -> int:
    from flwr.cli.build import build_fab_from_disk

    return len(build_fab_from_disk(launch.APP))


def main(root: Path) -> None:
    """Measure, work out what follows, and keep it: about twenty minutes on two busy cores."""
    made = record.made_by("engine-bytes")
    rows, cost = measured(root.resolve(), list(RUNS))
    record.keep("engine-bytes", [*rows, *worked_out(cost, rows)], made)
