"""A command line that says what is wrong with it in one line."""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from mpfl.types import one_line

UNHEARD = 141
"""What a command returns if nobody reads its output any more, as after ``| head``: by SIGPIPE."""


def said_whole(command: Callable[[], int]) -> int:
    """What ``command`` returns, once all that it said is written.

    A character of a path that the output's encoding lacks is written by its number.
    """
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")
    return flushed(command())


def flushed(status: int) -> int:
    """What a command returns that ends with ``status``, once all that it said is written.

    If that fails it is said, once, and not again by Python as it ends.
    """
    if sys.stdout is None:  # closed by the shell
        return status
    try:
        sys.stdout.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if status:
            return status
        if isinstance(error, BrokenPipeError):
            return UNHEARD
        print(f"mpfl: {error}", file=sys.stderr)
        return 2
    return status


def path(text: str) -> Path:
    """A path of the command line. An empty one would be the current folder, by accident."""
    if not text:
        raise argparse.ArgumentTypeError("is empty; is a variable of the shell not set?")
    return Path(text)


class OneLineParser(argparse.ArgumentParser):
    """As :class:`argparse.ArgumentParser`, but an error is one line, without the usage."""

    def error(self, message: str) -> NoReturn:
        """Say it, and leave with exit code 2."""
        print(f"mpfl: {one_line(message)}; see {self.prog} --help", file=sys.stderr)
        sys.exit(2)

    def exit(self, status: int = 0, message: str | None = None) -> NoReturn:
        """Leave, after ``--help``."""
        super().exit(flushed(status), message)
