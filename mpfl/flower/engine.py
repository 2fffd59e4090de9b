"""The processes of Flower that a run has on this machine, and Flower's own commands."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mpfl.flower.environment import QUIET, short_sockets, without_proxy
from mpfl.flower.guard import MARK
from mpfl.types import MPFLError


@dataclass
class Engine:
    """The processes of one run. ``folder`` holds their logs, keys and settings.

    ``fleet`` is where nodes connect and ``control`` where runs are submitted. Both are on
    loopback; between machines only ``fleet`` is to be reachable. The guard of a run knows its
    processes by ``mark``.
    """

    folder: Path
    fleet: str
    control: str
    secure: bool
    mark: str = ""
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def start(self, name: str, words: Sequence[str]) -> subprocess.Popen[bytes]:
        """One process, its output in ``NAME.log``."""
        with open(self.folder / f"{name}.log", "ab") as log:
            self.processes[name] = subprocess.Popen(
                [str(command(words[0])), *words[1:]],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # it starts processes of its own: stop them together
            )
        return self.processes[name]

    def stop(self, name: str, how: signal.Signals = signal.SIGTERM) -> None:
        """End a process and all that it started."""
        process = self.processes.pop(name)
        for kind in (how, signal.SIGKILL):
            try:
                os.killpg(process.pid, kind)
                process.wait(timeout=10)
            except ProcessLookupError:
                break
            except subprocess.TimeoutExpired:
                continue
        process.wait()

    def flwr(self, *words: str) -> dict[str, Any]:
        """What one of Flower's own commands says, as JSON."""
        done = subprocess.run(
            [str(command("flwr")), *words, "--format", "json"],
            env=self.environment,
            capture_output=True,
            text=True,
            errors="replace",
        )
        try:
            start = done.stdout.index("{")
            told: dict[str, Any] = json.loads(done.stdout[start:])
        except ValueError:
            told = {"success": False, "error-message": done.stdout + done.stderr}
        if not told.get("success"):
            why = " ".join(str(told.get("error-message", told)).split())
            raise MPFLError(f"flwr {' '.join(words[:2])}: {why}")
        return told

    @property
    def environment(self) -> dict[str, str]:
        """What its processes see: Flower's own folder, nothing sent to anybody."""
        path = os.pathsep.join([str(command("")), os.environ.get("PATH", "")])
        own = {
            **QUIET,
            **without_proxy(),
            **short_sockets(),
            "FLWR_HOME": str(self.folder),
            MARK: self.mark,
            "PATH": path,
        }
        return {**os.environ, **own}


def command(name: str) -> Path:
    """Where one of them lies: beside the Python that runs."""
    return Path(sys.executable).parent / name
