"""The values that travel through mpfl, the one error that a user sees, and who raises it.

A *weights* value maps a tensor's name to its array. A *mask* maps a layer's name to
one bool per filter, ``True`` = kept. *Scores* map a layer's name to one float per filter.
"""

from __future__ import annotations

import difflib
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np

Weights: TypeAlias = Mapping[str, np.ndarray]
Mask: TypeAlias = Mapping[str, np.ndarray]
Scores: TypeAlias = Mapping[str, np.ndarray]


CARRIED = "carried/"
"""How the name of a number begins that a node's training hands on to its next one."""


def one_line(text: str) -> str:
    r"""``text`` with what would break its line, or repaint the screen, as Python writes it.

    >>> print(one_line("a\nb"))
    a\nb
    """
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)


class MPFLError(ValueError):
    """Bad input, said in one line: what is wrong, where, and what to do.

    A path or a word in it may hold anything; the line stays one (:func:`one_line`).
    """

    def __init__(self, text: str) -> None:
        super().__init__(one_line(text))


class BehindError(MPFLError):
    """A node that missed rounds: it last took part in round ``since``, 0 if in none."""

    def __init__(self, text: str, since: int) -> None:
        super().__init__(text)
        self.since = since


@contextmanager
def located(*where: str) -> Iterator[None]:
    """Put ``where`` in front of an :class:`MPFLError` raised inside.

    >>> with located("node 'n3'", "round 4", "decode"):
    ...     raise MPFLError("payload is empty")
    Traceback (most recent call last):
    mpfl.types.MPFLError: node 'n3', round 4, decode: payload is empty
    """
    try:
        yield
    except BehindError as error:
        raise BehindError(f"{', '.join(where)}: {error}", error.since) from error
    except MPFLError as error:
        raise MPFLError(f"{', '.join(where)}: {error}") from error


_EXTRAS = {
    "train": "torch torchvision PIL sklearn scipy matplotlib seaborn rich filelock",
    "export": "onnx onnxruntime onnxscript",
    "flower": "flwr ray grpc cryptography prometheus_client",
    "book": "IPython ipywidgets anywidget traitlets",
}
_EXTRA_OF = {module: extra for extra, modules in _EXTRAS.items() for module in modules.split()}


@contextmanager
def extras_named() -> Iterator[None]:
    """Say which of the package's extras to install, if a module that is missing is in one.

    >>> with extras_named():
    ...     raise ModuleNotFoundError("No module named 'torch'", name="torch")
    Traceback (most recent call last):
    mpfl.types.MPFLError: torch is not installed; install mpfl with its extra: mpfl[train]
    """
    try:
        yield
    except ModuleNotFoundError as error:
        module = (error.name or "").partition(".")[0]
        if module not in _EXTRA_OF:
            raise
        extra = f"mpfl[{_EXTRA_OF[module]}]"
        raise MPFLError(
            f"{module} is not installed; install mpfl with its extra: {extra}"
        ) from error
    except ImportError as error:
        if "failed to map segment" not in str(error):
            raise
        raise MPFLError(
            f"{error}: memory is too small to load it; raise its limit (ulimit -v)"
        ) from error


def require_surroundings() -> None:
    """What a command needs where it runs, whatever it does.

    A stream that the shell has closed is opened on nothing: else the next file would get its
    number, and whatever a library says would go into that file. A terminal without columns, on
    which nothing would be shown, is taken for one that does not say how many it has. Raises
    :class:`MPFLError` if the current folder is gone.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    if sys.stderr is None:  # print would take standard output for it
        sys.stderr = os.fdopen(2, "w", closefd=False)
    if not os.environ.get("COLUMNS", "").strip("0"):
        os.environ.pop("COLUMNS", None)
    try:
        os.getcwd()
    except FileNotFoundError:
        raise MPFLError("the current folder is gone; change to one that is there") from None


def one_of(what: str, value: Any, choices: Iterable[Any]) -> Any:
    """``value``, if it is one of ``choices``; else an error that names the nearest.

    >>> one_of("vote rule", "share", ["share", "relaxed"])
    'share'
    >>> one_of("vote rule", "shares", ["share", "relaxed"])
    Traceback (most recent call last):
    mpfl.types.MPFLError: no vote rule 'shares'; did you mean 'share'? (there are share, relaxed)
    """
    known = list(choices)
    if value in known:
        return value
    names = [str(choice) for choice in known]
    near = difflib.get_close_matches(str(value).lower(), names, 1, 0)[0]
    every = f"there are {', '.join(names)}" if len(names) < 9 else "see python -m mpfl list"
    raise MPFLError(f"no {what} {value!r}; did you mean {near!r}? ({every})")


def at_least(what: str, value: float, least: float) -> None:
    """Refuse a number below ``least``, and what is not a number.

    >>> at_least("workers", 0, 1)
    Traceback (most recent call last):
    mpfl.types.MPFLError: workers is 0; give at least 1
    """
    if not (is_number(value) and value >= least):
        raise MPFLError(f"{what} is {value!r}; give at least {least:g}")


def is_number(value: Any) -> bool:
    """Whether a value is one real number, as parameters are; no text, no array and no bool is.

    >>> is_number(0.5), is_number("0.5"), is_number(True)
    (True, False, False)
    """
    return is_whole(value) or isinstance(value, float | np.floating)


def is_whole(value: Any) -> bool:
    """Whether a value is one whole number, as counts are; no bool is.

    >>> is_whole(3), is_whole(3.0), is_whole(True)
    (True, False, False)
    """
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def require_bool(what: str, value: Any) -> None:
    """Refuse what only counts as true or false, such as the text ``"no"``."""
    if not isinstance(value, bool):
        raise MPFLError(f"{what} is {value!r}; give True or False")


def carried_in(memory: Weights) -> Weights:
    """What a node's memory holds beside its weights (see :class:`Update`).

    >>> carried_in({"conv.weight": np.zeros(2), "carried/best": np.array(7)})
    {'carried/best': array(7)}
    """
    return {name: array for name, array in memory.items() if name.startswith(CARRIED)}


@dataclass(frozen=True)
class Update:
    """What a node holds after its local training.

    ``gradients`` is the mean gradient of the loss over the node's own data; only
    scores that look at it (Taylor) ask for it. ``carry`` is what the node's next training is to
    find beside its weights; it stays in the node's memory and is never sent.
    """

    weights: Weights
    gradients: Weights | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    carry: Weights = field(default_factory=dict)

    def remembered_in(self, memory: Weights) -> Weights:
        """``memory`` with what is carried in it; the very same if nothing is."""
        return {**memory, **self.carry} if self.carry else memory


def as_update(update: Any) -> Update:
    """What a training returned, if it is an :class:`Update`; anybody may have written it."""
    if not isinstance(update, Update):
        raise MPFLError(f"training gave a {type(update).__name__}; let it return an Update")
    return update


@dataclass(frozen=True)
class Answer:
    """What a node's turn comes to: only ``payload`` crosses the wire.

    ``memory`` is what the node keeps for the next round (its caller holds it);
    ``metrics`` are local observations for the log, never sent.
    """

    payload: bytes
    memory: Any = None
    metrics: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Reply:
    """An :class:`Answer`, and which node gave it."""

    node: int
    payload: bytes
    memory: Any = None
    metrics: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Absent:
    """A node whose reply does not count in this round, and why."""

    node: int
    why: str
