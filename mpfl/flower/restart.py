"""A run that starts again by itself if parts of it were killed, a few times at most."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

from mpfl.types import MPFLError

RESTARTS = 3
"""How often a run is started again unless said otherwise."""


class Broken(MPFLError):
    """Parts of a run were ended, by a kill or a fault: another start may go on with it."""


def restarting(attempt: Callable[[], None], times: int) -> None:
    """Do ``attempt``, and again if it was :class:`Broken`, with the reason.

    What the run itself refuses is not tried again: it would be refused in the same way.

    >>> tries = iter([Broken("the server was ended by signal 9"), None])
    >>> def attempt():
    ...     if (how := next(tries)) is not None:
    ...         raise how
    >>> restarting(attempt, times=3)
    """
    for done in range(times + 1):
        try:
            return attempt()
        except Broken as why:
            if done == times:
                spent = f" (started again {times} times)" if times else ""
                raise Broken(f"{why}{spent}; the same command goes on") from None
            print(
                f"mpfl: {why}; starting again from the last closed round ({done + 1} of {times})",
                file=sys.stderr,
                flush=True,
            )


def restarts(text: str) -> int:
    """What ``--restart`` takes: a number of times, or ``never``."""
    if text == "never":
        return 0
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is no number of times; give one, or never")
    return int(text)
