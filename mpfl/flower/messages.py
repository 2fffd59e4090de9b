"""What MPFL puts into Flower's messages: one record of named bytes, the cheapest kind of record.

Down go ``down``, the algorithm's message, and what the node says that it lacks: ``w0``, and in
the final training ``mask``. Up comes ``up``, the reply, or ``lacks`` or ``failed``, with the
``node``'s own number, which lasts where Flower's changes from run to run.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flwr.app import ConfigRecord, Message, RecordDict

RECORD = "mpfl"
TURN = "query.turn"
EVALUATE = "query.evaluate"


def request(kind: str, to: int, group: str, seconds: float, content: Mapping[str, Any]) -> Message:
    """A message to a node that is void after ``seconds``."""
    record = RecordDict({RECORD: ConfigRecord(dict(content))})
    return Message(record, dst_node_id=to, message_type=kind, group_id=group, ttl=seconds)


def answer(message: Message, content: Mapping[str, Any]) -> Message:
    """The reply to ``message``."""
    return Message(RecordDict({RECORD: ConfigRecord(dict(content))}), reply_to=message)


def content(message: Message) -> dict[str, Any]:
    """What a message carries; empty if it is not one of ours: anybody may send anything."""
    record = message.content.get(RECORD) if message.has_content() else None
    return dict(record) if isinstance(record, ConfigRecord) else {}
