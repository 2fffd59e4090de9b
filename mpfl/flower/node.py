"""A node: Flower's ClientApp, which takes the algorithm's turn on the node's own data.

Its ``--node-config`` says which node it is (``partition-id``) and, if that is not as in the
run's settings, where its data sets are (``root``). With ``own-data=true`` all of their images
are its own; else it takes its part of them, as in the simulation.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import safetensors.numpy
from flwr.app import ConfigRecord, Context, Message
from flwr.clientapp import ClientApp

from mpfl import masks, wire
from mpfl.algorithm import joiner
from mpfl.filters import apply, expand
from mpfl.flower import messages
from mpfl.flower.config import experiment_of
from mpfl.nets.hardware import keep_freed_memory
from mpfl.runs.experiment import Experiment
from mpfl.runs.workbench import Workbench
from mpfl.types import BehindError, Mask, MPFLError
from mpfl.wire import decode_consensus

client_app = ClientApp()


@client_app.query("turn")
def turn(message: Message, context: Context) -> Message:
    """One turn, in a mask round or of the final training.

    What comes once, w0 and the last consensus, is kept in the node's state. A node that lost
    it says so and is sent it again.
    """
    sent, kept = messages.content(message), _kept(context)
    for name in ("w0", "mask"):
        if name in sent:
            kept[name] = sent[name]
    pruned = experiment_of(context.run_config).method.has_mask_rounds
    if "w0" not in kept or (sent["final"] and pruned and "mask" not in kept):
        return _guarded(message, context, lambda: {"lacks": True})
    return _guarded(message, context, lambda: {"up": _payload(context, sent, kept)})


@client_app.query("evaluate")
def evaluate(message: Message, context: Context) -> Message:
    """How the network that is left does on this node's own test images."""
    sent = messages.content(message)

    def told() -> dict[str, Any]:
        bench = _bench(context)
        _, mask = decode_consensus(sent["mask"], bench.layout)
        weights, _ = wire.decode_weights(sent["weights"], bench.layout, 0, mask=mask)
        own = bench.parties.test if _owns(context) else bench.parties.node_tests[_number(context)]
        if not len(own):
            raise MPFLError("no test picture of its classes falls to this node; it is not judged")
        accuracy = bench.trainer.accuracy(expand(weights, mask, bench.layout), mask, own)
        return {"accuracy": accuracy, "images": len(own)}

    return _guarded(message, context, told)


def _payload(context: Context, sent: Mapping[str, Any], kept: ConfigRecord) -> bytes:
    """The algorithm's reply to its message."""
    bench = _bench(context)
    w0 = joiner(bench.layout, bench.initialise)(_bytes(kept, "w0"))
    mask: Mask | None = None
    memory = w0
    if sent["final"]:
        mask = masks.full(bench.layout)
        if bench.experiment.method.has_mask_rounds:
            _, mask = decode_consensus(_bytes(kept, "mask"), bench.layout)
        memory = apply(w0, mask, bench.layout)
    phase = "final memory" if sent["final"] else "memory"
    if phase in kept:
        memory = safetensors.numpy.load(_bytes(kept, phase))
    number, round_ = _number(context), wire.round_of(sent["down"])
    own = bench.parties.alone if _owns(context) else None
    reply = bench.turn(mask, round_, number, memory, sent["down"], own)
    if reply.memory is not memory:  # something is carried on
        kept[phase] = safetensors.numpy.save(dict(reply.memory))
    return reply.payload


def _guarded(message: Message, context: Context, work: Callable[[], Mapping[str, Any]]) -> Message:
    """The answer that ``work`` makes, or why it made none; never a node that hangs for good.

    The engine sends no more to a node whose process does not come back.
    """
    told: dict[str, Any] = {}
    with _watchdog(2 * float(context.run_config["deadline"])):
        try:
            told["node"] = _number(context)
            told |= work()
        except BehindError as error:
            told |= {"lacks": True, "since": error.since}
        except MPFLError as error:
            told["failed"] = str(error)
    return messages.answer(message, told)


@contextmanager
def _watchdog(seconds: float) -> Iterator[None]:
    timer = threading.Timer(seconds, os._exit, [1])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _kept(context: Context) -> ConfigRecord:
    if messages.RECORD not in context.state:
        context.state[messages.RECORD] = ConfigRecord()
    found = context.state[messages.RECORD]
    assert isinstance(found, ConfigRecord)
    return found


def _bytes(kept: ConfigRecord, name: str) -> bytes:
    found = kept[name]
    assert isinstance(found, bytes)
    return found


def _number(context: Context) -> int:
    number, count = context.node_config.get("partition-id"), experiment_of(context.run_config).nodes
    if type(number) is not int or not 0 <= number < count:
        raise MPFLError(f"partition-id is {number!r}, but the run's nodes are 0 to {count - 1}")
    return number


def _owns(context: Context) -> bool:
    return bool(context.node_config.get("own-data", False))


def _bench(context: Context) -> Workbench:
    root = context.node_config.get("root", context.run_config["root"])
    return _built(experiment_of(context.run_config), Path(str(root)))


@lru_cache(maxsize=1)
def _built(experiment: Experiment, root: Path) -> Workbench:
    keep_freed_memory()
    return Workbench(experiment, root)
