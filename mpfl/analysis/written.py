"""A vote rule in one written line, such as ``votes >= 0.7*N or norm > median``.

A small grammar, read by hand and never evaluated as code; the vote lab of the book reads the
same one. From weak to strong::

    rule        condition that holds of the filters that stay
    condition   a or b     a and b     not a     a >= b   a > b   a <= b   a < b   a == b   a != b
    number      a + b   a - b     a * b   a / b     -a     ( a )     0.7     a name

The names are those of :data:`FACTS`. Numbers are 64-bit floats; a division by zero is an
infinity or no number, and no comparison but ``!=`` holds of no number.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple, NoReturn, TypeAlias

import numpy as np
from jaxtyping import Bool

from mpfl.types import MPFLError
from mpfl.vote import LayerRule, Tally

FACTS: Mapping[str, str] = {
    "votes": "how many nodes keep the filter",
    "N": "how many nodes voted",
    "share": "votes / N",
    "norm": "the size of the filter in w0, its L2 norm",
    "median": "the median of the norms of the layer",
    "rank": "the filter's place in its layer, 1 for the most votes; ties go to the larger norm",
    "keep": "how many filters of the layer the schedule asks to keep",
    "filters": "how many filters the layer has",
}
LONGEST_LINE = 200  # characters
DEEPEST = 20  # brackets, minus signs and nots inside each other

_TOKEN = re.compile(r"[0-9]+(?:\.[0-9]+)?|\.[0-9]+|[A-Za-z_][A-Za-z_0-9]*|[<>=!]=|[<>()+*/≥≤-]")
_SAME = {"≥": ">=", "≤": "<="}
_OPERATIONS: Mapping[str, Callable[[Any, Any], Any]] = {
    "or": np.logical_or, "and": np.logical_and,
    ">=": np.greater_equal, ">": np.greater, "<=": np.less_equal, "<": np.less,
    "==": np.equal, "!=": np.not_equal,
    "+": np.add, "-": np.subtract, "*": np.multiply, "/": np.divide,
}  # fmt: skip

_Facts: TypeAlias = Mapping[str, Any]


class _Part(NamedTuple):
    """A part of a rule: where it begins, whether it is a condition, and its value."""

    place: int
    holds: bool
    value: Callable[[_Facts], Any]


@dataclass(frozen=True)
class written_rule(LayerRule):
    """Keep a filter if a written condition holds of it, layer by layer.

    >>> tally = Tally(np.array([5, 3, 0]), 5, np.ones(3, bool), 1, np.array([1.0, 2.0, 3.0]))
    >>> written_rule("votes >= 0.7*N or norm > median")(tally)
    array([ True, False,  True])
    >>> written_rule("votes >= 0.7*M")
    Traceback (most recent call last):
    mpfl.types.MPFLError: written rule, place 14: there is no "M"; the names are votes, N, \
share, norm, median, rank, keep, filters

    ``rank <= keep`` is :class:`~mpfl.vote.most_votes` in every layer of a quota by layer. Raises
    :class:`~mpfl.types.MPFLError` for a line that does not follow the grammar, and says where.
    """

    text: str

    def __post_init__(self) -> None:
        _read(self.text)

    def __call__(self, tally: Tally) -> Bool[np.ndarray, " filters"]:
        votes, norms = (np.asarray(each, dtype=np.float64) for each in (tally.votes, tally.norms))
        middle = np.sort(norms)[[(votes.size - 1) // 2, votes.size // 2]]
        rank = np.empty(votes.size)
        rank[np.lexsort((-norms, -votes))] = np.arange(1, votes.size + 1)
        facts = {"votes": votes, "N": float(tally.voters), "share": votes / tally.voters,
                 "norm": norms, "median": (middle[0] + middle[1]) / 2, "rank": rank,
                 "keep": float(tally.keep), "filters": float(votes.size)}  # fmt: skip
        with np.errstate(all="ignore"):
            return np.array(np.broadcast_to(_read(self.text)(facts), votes.shape))


@lru_cache(maxsize=256)
def _read(text: str) -> Callable[[_Facts], Any]:
    """The condition that a line says."""
    return _Reader(text).rule()


class _Reader:
    """Reads a line from the left; each method reads one rung of the grammar."""

    def __init__(self, text: str) -> None:
        self.words: list[tuple[int, str]] = []
        self.at = self.depth = 0
        if len(text) > LONGEST_LINE:
            self.fail(LONGEST_LINE + 1, f"a rule has at most {LONGEST_LINE} characters")
        place = 0
        while place < len(text):
            if text[place] in " \t":
                place += 1
            elif found := _TOKEN.match(text, place):
                self.words.append((place + 1, _SAME.get(found[0], found[0])))
                place = found.end()
            else:
                self.fail(place + 1, f'"{text[place]}" is not part of a rule')
        self.words.append((len(text) + 1, ""))

    def fail(self, place: int, what: str) -> NoReturn:
        raise MPFLError(f"written rule, place {place}: {what}")

    def take(self, *words: str) -> tuple[int, str] | None:
        """The next word, if it is one of these."""
        if self.words[self.at][1] not in words:
            return None
        self.at += 1
        return self.words[self.at - 1]

    def rule(self) -> Callable[[_Facts], Any]:
        whole = self.either()
        place, word = self.words[self.at]
        if word:
            self.fail(place, f'"{word}" is one too many here; join conditions by and, or')
        if not whole.holds:
            self.fail(whole.place, "this is a number; compare it, as in votes >= 0.7*N")
        return whole.value

    def both(self, word: str, parts: tuple[_Part, _Part], take: bool, give: bool) -> _Part:
        """Two parts joined by a word, which takes conditions or numbers and gives either."""
        for part in parts:
            if part.holds != take:
                what, needed = (
                    ("a condition", "numbers") if part.holds else ("a number", "conditions")
                )
                self.fail(part.place, f'{what} stands here, but "{word}" takes {needed}')
        operation, (one, other) = _OPERATIONS[word], parts
        return _Part(one.place, give, lambda facts: operation(one.value(facts), other.value(facts)))

    def either(self) -> _Part:
        part = self.every()
        while self.take("or"):
            part = self.both("or", (part, self.every()), True, True)
        return part

    def every(self) -> _Part:
        part = self.negated()
        while self.take("and"):
            part = self.both("and", (part, self.negated()), True, True)
        return part

    def negated(self) -> _Part:
        if not (found := self.take("not")):
            return self.compared()
        part = self.deeper(found[0], self.negated)
        if not part.holds:
            self.fail(part.place, 'a number stands here, but "not" takes conditions')
        return _Part(found[0], True, lambda facts: np.logical_not(part.value(facts)))

    def compared(self) -> _Part:
        part = self.sum()
        if found := self.take(">=", ">", "<=", "<", "==", "!="):
            part = self.both(found[1], (part, self.sum()), False, True)
        return part

    def sum(self) -> _Part:
        part = self.product()
        while found := self.take("+", "-"):
            part = self.both(found[1], (part, self.product()), False, False)
        return part

    def product(self) -> _Part:
        part = self.single()
        while found := self.take("*", "/"):
            part = self.both(found[1], (part, self.single()), False, False)
        return part

    def single(self) -> _Part:
        place, word = self.words[self.at]
        if self.take("-"):
            part = self.deeper(place, self.single)
            if part.holds:
                self.fail(part.place, 'a condition stands here, but "-" takes numbers')
            return _Part(place, False, lambda facts: np.negative(part.value(facts)))
        if self.take("("):
            part = self.deeper(place, self.either)
            if not self.take(")"):
                self.fail(self.words[self.at][0], f"the bracket of place {place} is not closed")
            return part._replace(place=place)
        if word and (word[0].isdigit() or word[0] == "."):
            number = float(word)
            self.at += 1
            return _Part(place, False, lambda facts: number)
        if word in FACTS:
            self.at += 1
            return _Part(place, False, lambda facts: facts[word])
        if word and word[0].isalpha() and word not in ("and", "or", "not"):
            self.fail(place, f'there is no "{word}"; the names are {", ".join(FACTS)}')
        here = f'not "{word}"' if word else "not the end"
        self.fail(place, f"a name, a number or a bracket must stand here, {here}")

    def deeper(self, place: int, part: Callable[[], _Part]) -> _Part:
        self.depth += 1
        if self.depth > DEEPEST:
            self.fail(place, f"this is nested more than {DEEPEST} deep")
        found = part()
        self.depth -= 1
        return found
