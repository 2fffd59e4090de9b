"""A command line that says what is wrong with it in one line."""

from __future__ import annotations

import argparse
import errno
import io
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from mpfl.types import MPFLError, one_line

UNHEARD = 141
"""What a command returns if nobody reads its output any more, as after ``| head``: by SIGPIPE."""


REMEDIES = {
    "ENOSPC EDQUOT EFBIG": "free some space or raise its limit, or choose a place that has more",
    "EACCES EPERM EROFS": "choose another place, or have its permissions changed",
    "ENOENT": "check the name, and that its folder is there",
    "EISDIR": "give a file",
    "ENOTDIR EEXIST": "choose another name, as a file stands where a folder is due",
    "ENAMETOOLONG": "choose a shorter name",
    "ELOOP": "choose another, as its links lead back to themselves",
    "EMFILE ENFILE": "allow more open files (ulimit -n), or use fewer workers",
    "ENOMEM EAGAIN": "end other processes, or use fewer workers",
    "ECONNREFUSED EHOSTUNREACH ENETUNREACH ETIMEDOUT": "start the server there and open its port",
    "EIO": "look whether the disk is damaged, or choose another",
}
"""What to do about what a system refuses, by the names of its errors."""

_REMEDY_OF = {
    getattr(errno, name): remedy
    for names, remedy in REMEDIES.items()
    for name in names.split()
    if hasattr(errno, name)  # EDQUOT is not known everywhere
}


def mended(error: MPFLError | OSError) -> str:
    """What an error says, in one line, and what to do if it is one of the system's.

    >>> print(mended(IsADirectoryError(errno.EISDIR, "Is a directory", "runs")))
    runs: is a directory; give a file
    """
    # An error of TLS or of a host's name counts otherwise: its 1 is not the system's.
    systems = isinstance(error, OSError) and type(error) is type(OSError(error.errno, ""))
    if not (isinstance(error, OSError) and systems and error.errno in _REMEDY_OF):
        return one_line(str(error))
    remedy = _REMEDY_OF[error.errno]
    what, where = str(error.strerror), error.filename2 or error.filename  # of two the one aimed at
    said = f"{what[:1].lower()}{what[1:]}; {remedy}"
    return one_line(said if where is None else f"{where}: {said}")


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
        print(f"mpfl: {mended(error)}", file=sys.stderr)
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
