"""What a measured overhead means for other sizes of network: break-even, and ratios."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from benchmarks.engine.overhead import Overhead
from benchmarks.engine.record import row
from mpfl import masks, wire
from mpfl.analysis import ledger
from mpfl.filters import Layout
from mpfl.nets.networks import blueprint
from mpfl.node import Plan
from mpfl.runs.recipes import recipe

SIZES = {"toy": ("toy", 0.125), "half width": ("laptop", 0.5), "full width": ("laptop", 1.0)}
"""Of VGG11 on CIFAR-10: the budget whose nodes and rounds are taken, and the width."""

WAYS: Mapping[str, ledger.Way] = {
    "one bit a filter": "mpfl",
    "one bit a weight": "one-bit",
    "float32 weights": "fedavg",
}


def frames(layout: Layout) -> int:
    """Bytes round the masks of an exchange: of one message down, one up."""
    everything = masks.full(layout)
    mask = wire.encode_mask(everything, layout, 2, reference=everything, coding="packed")
    return 2 * (len(mask) - wire.body_length(mask))


def worked_out(cost: Overhead, rows: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """Break-even of the measured ``cost`` of an exchange, and what it means for SIZES."""
    value = {each["name"]: each["value"] for each in rows}
    yield row("an exchange: message round the payload", "bytes", cost.wrap, "both ways")
    yield row("an exchange: calls", "bytes", cost.calls, "transport that does not grow")
    yield row("an exchange: transport a byte of message", "bytes/byte", cost.rate)
    yield row("break-even: payload of an exchange", "bytes", cost.break_even, "worked out")
    filters = cost.filters(frames(blueprint("vgg11-bn", 10)))
    yield row("break-even: filters", "filters", filters, "worked out; one bit each way for each")
    exchange = value["mpfl, a mask round: wire"]
    weighs = "weighs as much as an exchange of masks"
    polling = exchange / value["idle polling of a node"]
    yield row(f"break-even: idle polling that {weighs}", "s", polling, "worked out")
    starts = value["mpfl: start"] / exchange
    yield row("break-even: mask rounds that weigh as much as the start", "rounds", starts)
    for size in SIZES:
        yield from _of_size(size, cost)


def _of_size(size: str, cost: Overhead) -> Iterator[dict[str, Any]]:
    """An exchange and a whole run, as payload and on the wire, and the ratios of both."""
    budget, width = SIZES[size]
    made = recipe("cifar10-vgg11", budget, width=width)
    layout, final = blueprint("vgg11-bn", 10, width=width), made.federated_rounds
    plan = Plan(layout, made.schedule, made.rounds)
    samples = [(made.images or 50_000) // made.nodes] * made.nodes
    votes = made.nodes * made.rounds
    detail = f"{layout.filters:,} filters, {made.nodes} nodes, {made.rounds} mask rounds, "
    detail += f"{final} of averaging; worked out"
    each: dict[str, tuple[float, float]] = {}
    run: dict[str, tuple[float, float]] = {}
    for name, way in WAYS.items():
        bill = ledger.bill(way, plan, samples, final_rounds=final)
        averages = made.nodes * final
        payload = bill.rounds / votes if way == "mpfl" else _later(bill, averages, made.nodes)
        exchanges = averages + (votes if way == "mpfl" else 0)
        each[name] = payload, cost.wire(payload)
        run[name] = bill.total, cost.wire(bill.total, exchanges)
    for what, found in (("an exchange", each), ("a run", run)):
        for kind, i in (("payload", 0), ("wire", 1)):
            base = found["one bit a filter"][i]
            for name, pair in found.items():
                yield row(f"{size}, {what}, {name}: {kind}", "bytes", pair[i], detail)
                if name != "one bit a filter":
                    named = f"{size}, {what}, {name} over one bit a filter: {kind}"
                    yield row(named, "ratio", pair[i] / base, detail)


def _later(bill: ledger.Bill, exchanges: int, nodes: int) -> float:
    """Payload of an exchange of the dense network: the first round sends nothing down."""
    return bill.final_down / (exchanges - nodes) + bill.final_up / exchanges
