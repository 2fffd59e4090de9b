"""A process beside a run that ends all that the run started, however the run itself ends.

The run's process holds a pipe to its guard. The pipe closes if that process ends well, raises,
is killed, or loses its terminal. The guard then ends every process that bears the run's mark in
its environment, and their children. It has a session of its own: no signal to the run reaches it.
"""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import NamedTuple, NoReturn

MARK = "MPFL_RUN"
"""The variable of the environment that says which run a process belongs to."""

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

GENTLE = 5.0
"""Seconds between asking processes to end and killing them."""

_guards: list[subprocess.Popen[bytes]] = []


@contextmanager
def guarded() -> Iterator[str]:
    """A mark for the processes of a run; at the end all that bear it are gone."""
    mark = secrets.token_hex(8)
    guard = subprocess.Popen(
        [sys.executable, "-m", "mpfl.flower.guard", mark],
        bufsize=0,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    _guards.append(guard)
    try:
        yield mark
    finally:
        assert guard.stdin is not None
        guard.stdin.close()
        guard.wait()
        _guards.remove(guard)


@contextmanager
def first_signal_ends(said: str) -> Iterator[None]:
    """At the first Ctrl-C, SIGTERM or lost terminal, print ``said`` and end; ignore the next.

    This process ends from within the signal's handler. An exception would come up in whatever
    is being imported or started just then, and could be lost there.
    """

    def end(number: int, frame: FrameType | None) -> NoReturn:
        for each in SIGNALS:
            signal.signal(each, signal.SIG_IGN)
        with suppress(OSError):  # the terminal may be gone
            os.write(2, f"mpfl: {said}\n".encode())
        for guard in _guards:
            assert guard.stdin is not None
            guard.stdin.close()
            with suppress(ChildProcessError):  # not guard.wait(): it may be what was interrupted
                os.waitpid(guard.pid, 0)
        os._exit(128 + number)

    # What is ignored already stays so: nohup, or a shell's job in the background.
    before = {each: signal.getsignal(each) for each in SIGNALS}
    heeded = [each for each, handler in before.items() if handler is not signal.SIG_IGN]
    for each in heeded:
        signal.signal(each, end)
    try:
        yield
    finally:
        for each in heeded:
            signal.signal(each, before[each])


class Process(NamedTuple):
    """A process, the one that started it, and whether it bears the mark that is looked for."""

    pid: int
    parent: int
    marked: bool


def processes(mark: str) -> list[Process]:
    """Every process of this machine that has not ended."""
    if not Path("/proc/self/environ").exists():
        return _listed(mark)
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has just ended
            state, parent, *_ = (folder / "stat").read_bytes().rpartition(b")")[2].split()
            if state != b"Z":
                found.append(Process(int(folder.name), int(parent), _marked(folder, mark)))
    return found


def _marked(folder: Path, mark: str) -> bool:
    with suppress(OSError):  # another user's, or one that lets nobody look into it
        return f"{MARK}={mark}".encode() in (folder / "environ").read_bytes().split(b"\0")
    return False


def _listed(mark: str) -> list[Process]:
    words = ["ps", "axeww", "-o", "pid=,ppid=,stat=,command="]  # "e": with the environment
    listed = subprocess.run(words, capture_output=True, text=True, errors="replace").stdout
    rows = [[*row.split(maxsplit=3), ""][:4] for row in listed.splitlines()]
    return [
        Process(int(pid), int(parent), f"{MARK}={mark}" in command)
        for pid, parent, state, command in rows
        if not state.startswith("Z")
    ]


def end_all(mark: str) -> None:
    """Ask all that belong to the run to end, and kill what is left after :data:`GENTLE`."""
    began = time.monotonic()
    ours: set[int] = set()
    while True:
        every = processes(mark)
        left = {each.pid for each in every if each.marked or each.pid in ours}
        while started := {each.pid for each in every if each.parent in left} - left:
            left |= started
        if not left:
            return
        late = time.monotonic() - began > GENTLE
        for pid in left if late else left - ours:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL if late else signal.SIGTERM)
        ours = left
        time.sleep(0.1)


if __name__ == "__main__":
    sys.stdin.buffer.read()
    end_all(sys.argv[1])
