"""From counted bytes to the table: what is payload, message, transport and polling; break-even.

An *exchange* is one message to a node and its answer, in one round. Its bytes are those of the
``payload``, which the run's log has; of the engine's ``message``, the objects that carry it; and
of the ``transport``, all else that went through TCP for it: calls, signatures, HTTP/2 and TLS.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.engine.proxy import Passed, bursts


@dataclass(frozen=True)
class Exchange:
    """Bytes of one exchange, both ways. ``polling`` went through meanwhile and is no part of it."""

    payload: int
    message: int
    wire: int
    polling: int

    @property
    def transport(self) -> int:
        """What went over the wire beside the message."""
        return self.wire - self.message


def messages_and_polling(
    passed: Iterable[Passed], begin: float, end: float, poll: float
) -> tuple[int, int]:
    """Bytes on the wire from ``begin`` on and before ``end``: of messages, and of polling.

    An idle node speaks in bursts of ``poll`` bytes. One of up to four times that (on a busy
    machine some polls run together) is polling; a message and its calls make a larger one.
    """
    inside = bursts(each for each in passed if begin <= each.when < end)
    sizes = [burst.up + burst.down for burst in inside]
    carrying = [size for size in sizes if size > 4 * poll]
    return sum(carrying), sum(sizes) - sum(carrying)


@dataclass(frozen=True)
class Overhead:
    """What an exchange costs beside its payload: ``wrap`` bytes of message round it, ``calls``
    bytes of transport, and ``rate`` more for each byte of the message."""

    wrap: float
    calls: float
    rate: float

    def wire(self, payload: float, exchanges: float = 1) -> float:
        """Bytes on the wire of exchanges with so much payload in all; polling is not in it."""
        return payload + self.wrap * exchanges + self._transport(payload, exchanges)

    def _transport(self, payload: float, exchanges: float) -> float:
        return self.calls * exchanges + self.rate * (payload + self.wrap * exchanges)

    @property
    def break_even(self) -> float:
        """The payload of an exchange, in bytes, from which on it is more than what carries it."""
        return (self.wrap * (1 + self.rate) + self.calls) / (1 - self.rate)

    def filters(self, frames: float) -> int:
        """How many filters make that payload, one bit each way each, beside ``frames`` bytes."""
        return math.ceil(8 * max(0, self.break_even - frames) / 2)


def overhead(small: Sequence[Exchange], large: Sequence[Exchange]) -> Overhead:
    """Of exchanges of two sizes: a line through their medians."""

    def middle(which: str, of: Sequence[Exchange]) -> float:
        return statistics.median(getattr(each, which) for each in of)

    wrap = middle("message", small) - middle("payload", small)
    apart = middle("message", large) - middle("message", small)
    rate = (middle("transport", large) - middle("transport", small)) / apart
    return Overhead(wrap, middle("transport", small) - rate * middle("message", small), rate)


def message_bytes(down: Mapping[str, Any], up: Mapping[str, Any], group: str) -> int:
    """The objects of a request with content ``down`` and of its answer ``up``, as sent."""
    from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects
    from flwr.supercore.task_identity import TaskIdentity

    from mpfl.flower import messages

    large = 2**63  # Flower's numbers are drawn from 64 bits
    TaskIdentity.run_id = TaskIdentity.node_id = TaskIdentity.task_id = large
    request = messages.request(messages.TURN, large, group, 600.0, down)
    request.metadata.__dict__["_message_id"] = "0" * 64
    both = request, messages.answer(request, up)
    return sum(len(o.deflate()) for m in both for o in get_all_nested_objects(m).values())
