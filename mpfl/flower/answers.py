"""What nodes answered, one line per answer as it comes: ``answers.jsonl`` in the run folder.

It says how a run is doing, and why a node did not count. Nothing is computed from it.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from mpfl.types import one_line

FILE = "answers.jsonl"


class Heard(NamedTuple):
    """An answer to ``group``, such as ``masks 3``, or that its question went out: no node.

    ``at`` is in seconds since 1970, ``length`` in bytes of payload. ``why`` says why it does
    not count, and is empty if it does. ``node`` is -1 for one that did not say which it is.
    """

    at: float
    group: str
    node: int | None
    length: int
    why: str

    def __str__(self) -> str:
        """What is wrong with it, in a line."""
        return f"{self.group}, node {'?' if self.node == -1 else self.node}: {self.why}"


def recorder(folder: Path) -> Callable[[str, int | None, int, str], None]:
    """Writes an answer into ``folder`` as it comes."""

    def record(group: str, node: int | None, length: int, why: str) -> None:
        line = Heard(round(time.time(), 3), group, node, length, why)._asdict()
        try:
            with open(folder / FILE, "a", encoding="utf-8") as log:
                log.write(json.dumps(line) + "\n")
        except OSError as error:  # as of a full disk, which does not say where
            raise OSError(error.errno, error.strerror, str(folder / FILE)) from error

    return record


def read_answers(folder: Path) -> list[Heard]:
    """All answers so far; a line that is damaged, or that a kill cut off, is left out."""
    found = []
    if (folder / FILE).exists():
        for line in (folder / FILE).read_text(encoding="utf-8", errors="replace").splitlines():
            with suppress(ValueError, TypeError, RecursionError):
                heard = Heard(**json.loads(line))
                if all(map(isinstance, heard, _KINDS)) and math.isfinite(heard.at):
                    found.append(heard._replace(why=one_line(heard.why)))
    return found


_KINDS = (int | float, str, int | None, int, str)
"""Of what kind each part of :class:`Heard` is."""
