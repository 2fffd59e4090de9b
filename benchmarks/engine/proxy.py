"""A TCP proxy that counts: plain bytes go through unchanged, both ways, and are noted."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

Way = Literal["up", "down"]


@dataclass(frozen=True)
class Passed:
    """Some bytes that went through: when (seconds, ``time.time``), which way, how many."""

    when: float
    way: Way
    bytes: int


class Proxy:
    """Listens on ``address`` and hands every connection on to ``target``; up is towards it.

    It counts what is inside TCP: not the headers of TCP and IP, nor what those send again.
    """

    def __init__(self, target: str) -> None:
        host, _, port = target.rpartition(":")
        self._target = host, int(port)
        self._server = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._server.getsockname()[1]}"
        self.passed: list[Passed] = []
        self._start(self._accept)

    def close(self) -> None:
        """Take no more connections; those there are last until one of their ends closes."""
        self._server.shutdown(socket.SHUT_RDWR)  # wakes who waits for one
        self._server.close()

    def _start(self, work: Callable[..., None], *arguments: object) -> threading.Thread:
        thread = threading.Thread(target=work, args=arguments, daemon=True)
        thread.start()
        return thread

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._server.accept()
                far = socket.create_connection(self._target)
            except OSError:
                return
            self._start(self._connect, near, far)

    def _connect(self, near: socket.socket, far: socket.socket) -> None:
        with near, far:
            up = self._start(self._carry, near, far, "up")
            self._carry(far, near, "down")
            up.join()

    def _carry(self, source: socket.socket, sink: socket.socket, way: Way) -> None:
        with suppress(OSError):  # an end that breaks off
            while data := source.recv(1 << 16):
                self.passed.append(Passed(time.time(), way, len(data)))
                sink.sendall(data)
        with suppress(OSError):
            sink.shutdown(socket.SHUT_WR)


@dataclass
class Burst:
    """Bytes without a pause between them, since ``begin``."""

    begin: float
    end: float
    up: int = 0
    down: int = 0


def bursts(passed: Iterable[Passed], pause: float = 1.0) -> list[Burst]:
    """What went through, in pieces that ``pause`` seconds of silence set apart."""
    found: list[Burst] = []
    for each in sorted(passed, key=lambda each: each.when):
        if not found or each.when - found[-1].end > pause:
            found.append(Burst(each.when, each.when))
        last = found[-1]
        last.end = each.when
        if each.way == "up":
            last.up += each.bytes
        else:
            last.down += each.bytes
    return found
