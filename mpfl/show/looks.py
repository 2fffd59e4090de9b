"""How a method looks: its colour and its marker, the same in every figure and widget."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from mpfl.runs.methods import Method
from mpfl.runs.record import Run
from mpfl.types import MPFLError

# The palette of Okabe & Ito (2008), told apart by colour-blind readers too.
BLUE = "#0072B2"
SKY_BLUE = "#56B4E9"
GREEN = "#009E73"
ORANGE = "#E69F00"
VERMILLION = "#D55E00"
PURPLE = "#CC79A7"

LOOKS: Mapping[str, tuple[str, str]] = {
    "mpfl": (BLUE, "o"),
    "lottery": (ORANGE, "X"),
    "w0-norms": (PURPLE, "D"),
    "iterated-norms": ("#882255", "d"),
    "pruning-fl": (GREEN, "s"),
    "released-fl": ("#117733", "H"),
    "lth": (VERMILLION, "^"),
    "fedavg": ("#555555", "P"),
    "central": ("#111111", "*"),
    "one-bit": (SKY_BLUE, "h"),
}


LINES = [
    (BLUE, "o"),
    (ORANGE, "X"),
    (PURPLE, "D"),
    (GREEN, "s"),
    (VERMILLION, "^"),
    (SKY_BLUE, "h"),
    ("#555555", "P"),
]
"""Looks of lines that stand for no method, in their order; told apart in both themes."""


def looks_of(names: Iterable[str]) -> dict[str, tuple[str, str]]:
    """A colour and a marker per name, for lines that stand for no method.

    Raises :class:`~mpfl.types.MPFLError` for more names than can be told apart.

    >>> looks_of(["votes", "averages"])
    {'votes': ('#0072B2', 'o'), 'averages': ('#E69F00', 'X')}
    """
    each = list(dict.fromkeys(names))
    if len(each) > len(LINES):
        raise MPFLError(
            f"a figure can tell {len(LINES)} lines apart, not {len(each)}: leave out some of "
            f"{', '.join(each)}"
        )
    return dict(zip(each, LINES, strict=False))


def look(run: Run) -> tuple[str, str]:
    """A run's colour and marker: those of its method, but a vote's marker is its rule's."""
    colour, marker = look_of(run.method)
    if run.method.votes:
        rule = run.config["vote"].partition("(")[0]
        marker = {"most_votes": "o", "relaxed": "v", "published_threshold": "<"}.get(rule, "p")
    return colour, marker


def look_of(method: Method) -> tuple[str, str]:
    """A method's colour and marker; one of a reader's own looks like no other."""
    return LOOKS.get(method.name, ("#888888", "p"))


def spoken(method: str) -> str:
    """A method's name as a legend has it.

    >>> spoken("mpfl"), spoken("iterated-norms"), spoken("lth")
    ('vote', 'iterated norms', 'LTH')
    """
    names = {"mpfl": "vote", "lth": "LTH", "pruning-fl": "pruning-FL", "fedavg": "FedAvg"}
    return names.get(method, method.replace("-", " "))
