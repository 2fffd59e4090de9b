"""Memory and processor time of a process with all that it started, from Linux's ``/proc``."""

from __future__ import annotations

import os
import threading
from collections import defaultdict
from pathlib import Path
from types import TracebackType

PROC = Path("/proc")
TICKS = os.sysconf("SC_CLK_TCK")


def _fields(pid: int) -> list[str]:
    """What ``/proc/PID/stat`` says behind the name, which may hold blanks; empty if it is gone."""
    try:
        return (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def tree(pid: int) -> list[int]:
    """``pid`` and all that it started and that is left."""
    started = defaultdict(list)
    for each in PROC.iterdir():
        if each.name.isdigit() and (fields := _fields(int(each.name))):
            started[int(fields[1])].append(int(each.name))
    found = [pid]
    for parent in found:
        found += started[parent]
    return found


def memory(pid: int, which: str = "Pss") -> int:
    """Bytes of memory of the tree. A page that k processes share counts 1/k for each (``Pss``);
    ``Anonymous`` is what they hold of their own, without the files that they have mapped."""
    return sum(_memory(each, which) for each in tree(pid))


def _memory(pid: int, which: str) -> int:
    try:
        lines = (PROC / str(pid) / "smaps_rollup").read_text().splitlines()
    except OSError:  # it has just ended
        return 0
    return sum(1024 * int(line.split()[1]) for line in lines if line.startswith(f"{which}:"))


def processor_seconds(pid: int) -> float:
    """Seconds of processor time of the tree, with that of the processes that have ended in it."""
    return sum(sum(map(int, _fields(each)[11:15])) for each in tree(pid)) / TICKS


class Watch:
    """``with Watch(pid) as seen:`` looks each second: peak memory and processor time so far."""

    def __init__(self, pid: int) -> None:
        self.peak, self.seconds = 0, 0.0
        self._pid, self._over = pid, threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def _look(self) -> None:
        while True:
            self.peak = max(self.peak, memory(self._pid))
            self.seconds = max(self.seconds, processor_seconds(self._pid))
            if self._over.wait(1):
                return

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: object, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()
