"""Flower's server with a cap on what a node may send: ``python -m mpfl.flower.superlink``.

Takes what ``flower-superlink`` takes, and ``--longest BYTES``. Flower itself takes messages of
up to 2 GB and keeps them in memory. One longer than ``BYTES`` is refused from its length alone,
before it is read. A run whose own messages are longer says so and does not begin.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from typing import Any

from mpfl.flower.environment import FLOWERS_OWN
from mpfl.show.one_line import OneLineParser
from mpfl.types import MPFLError, at_least

LONGEST = "MPFL_LONGEST"
"""The variable of the environment by which a run's app knows the cap, in bytes."""

OBJECTS = 3
"""Objects that the engine makes of one of our answers: message, records, record."""

ENVELOPE = 1 << 16
"""Bytes, and more than the engine puts round a payload."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run Flower's server under the cap until it is stopped."""
    parser = OneLineParser(prog="python -m mpfl.flower.superlink", description=__doc__)
    parser.add_argument("--longest", type=int, required=True, metavar="BYTES")
    options, rest = parser.parse_known_args(arguments)
    try:
        at_least("longest", options.longest, ENVELOPE)
        if options.longest > FLOWERS_OWN:
            raise MPFLError(f"longest is {options.longest}; Flower takes at most {FLOWERS_OWN}")
    except MPFLError as error:
        parser.error(str(error))
    cap(options.longest)
    os.environ[LONGEST] = str(options.longest)
    sys.argv = ["flower-superlink", *rest]
    # What Flower refuses of its own is one line, too, in place of all of its usage.
    argparse.ArgumentParser.error = OneLineParser.error  # type: ignore
    importlib.import_module("flwr.superlink.cli").flower_superlink()


def cap(longest: int) -> None:
    """From now on the port for nodes takes calls of up to ``longest`` bytes.

    And messages of few objects, because each object is sent by a call of its own.
    """
    server: Any = importlib.import_module("flwr.superlink.cli.flower_superlink")
    fleet = "flwr.server.superlink.fleet.message_handler.message_handler"
    handler: Any = importlib.import_module(fleet)
    listen, push = server.generic_create_grpc_server, handler.push_messages

    def listen_capped(*given: Any, **named: Any) -> Any:
        return listen(*given, **{**named, "max_message_length": longest})

    def push_capped(request: Any, state: Any) -> Any:
        if any(_objects(tree) > OBJECTS for tree in request.message_object_trees):
            raise ValueError(f"a message has more than {OBJECTS} objects")
        return push(request=request, state=state)

    server.generic_create_grpc_server = listen_capped
    handler.push_messages = push_capped


def _objects(tree: Any) -> int:
    return 1 + sum(_objects(child) for child in tree.children)


if __name__ == "__main__":
    main()
