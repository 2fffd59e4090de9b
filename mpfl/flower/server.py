"""The server: Flower's ServerApp, which runs an experiment whose nodes are elsewhere.

The run folder is the simulation's. A run goes on from its last closed round.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from threading import Thread
from typing import Any

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from mpfl import wire
from mpfl.flower import messages
from mpfl.flower.answers import recorder
from mpfl.flower.config import experiment_of
from mpfl.flower.longest import require_room
from mpfl.flower.nodes import FlowerNodes
from mpfl.runs.folder import load_mask, load_tensors, write_json
from mpfl.runs.runner import run
from mpfl.runs.workbench import Workbench
from mpfl.show.one_line import mended
from mpfl.types import MPFLError
from mpfl.wire import encode_consensus

server_app = ServerApp()


@server_app.main()
def serve(grid: Grid, context: Context) -> None:
    """Mask rounds, final training, and how the result does on every node."""
    if "--parent-pid" in sys.argv:  # Flower started this process for the one run
        end_with_parent()
    with refused_files_named():
        _serve(grid, context)


@contextmanager
def refused_files_named() -> Iterator[None]:
    """Say in a line that the system refuses a file, as if a disk is full.

    Who waits for the run reads lines of ours alone in its log (``launch.last_words``).
    """
    try:
        yield
    except OSError as error:
        if error.filename is None:  # as of a connection
            raise
        raise MPFLError(mended(error)) from error


def _serve(grid: Grid, context: Context) -> None:
    config = context.run_config
    experiment, folder = experiment_of(config), Path(str(config["out"]))
    if not folder.is_absolute():
        raise MPFLError(f"out is {str(folder)!r}; give the run folder as an absolute path")

    def machines(bench: Workbench) -> FlowerNodes:
        require_room(bench)
        return FlowerNodes(
            grid,
            bench,
            deadline=float(config["deadline"]),
            patience=float(config["patience"]),
            quorum=int(config["quorum"]),
            tell=recorder(folder),
        )

    run(
        experiment,
        folder,
        resume=(folder / "config.json").exists(),
        root=Path(str(config["root"])),
        machines=machines,
        command=str(config["command"]),
        # Where Flower's server was killed, the app that it had started ends some seconds later.
        wait=float(config["patience"]),
    )
    if (folder / "model.safetensors").exists() and not (folder / "nodes.json").exists():
        bench = Workbench(experiment, Path(str(config["root"])))
        write_json(folder / "nodes.json", _ask_nodes(machines(bench), bench, folder))


def end_with_parent() -> None:
    """From now on this process ends as soon as the one that started it is gone.

    Flower means to end it, too, by a signal. But a signal's handler waits for the main thread,
    and where that waits for a server that was killed, it waits forever and keeps the run's lock.
    """
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)  # nobody is left to be told, and what is on disk is whole at any moment

    Thread(target=watch, daemon=True).start()


def _ask_nodes(nodes: FlowerNodes, bench: Workbench, folder: Path) -> dict[str, Any]:
    """The accuracy of the final network on each node's own test images."""
    mask = load_mask(folder / "mask.safetensors", bench.layout)
    weights = load_tensors(folder / "model.safetensors")
    content = {
        "mask": encode_consensus(mask, bench.layout, 0),
        "weights": wire.encode_weights(weights, bench.layout, 0, mask=mask),
    }
    heard = nodes.ask(messages.EVALUATE, "evaluation", content, {}, _accuracy_check)
    return {
        "accuracy": {
            str(node): {"accuracy": told["accuracy"], "images": told["images"]}
            for node, told in sorted(heard.good.items())
        },
        "left_out": {str(node): why for node, why in sorted(heard.why.items())},
        "engine": {"flwr": version("flwr")},
    }


def _accuracy_check(node: int, told: Mapping[str, Any]) -> None:
    accuracy, images = told.get("accuracy"), told.get("images")
    if not isinstance(accuracy, float) or not 0 <= accuracy <= 1:
        raise MPFLError(f"accuracy is {accuracy!r}, but a share from 0 to 1 is due")
    if type(images) is not int or images < 1:
        raise MPFLError(f"images is {images!r}, but a number of test images is due")
