"""Predict, then check: a question whose answer the page computes, asked before it is shown."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import Any, SupportsFloat

import traitlets

from mpfl.show.widgets.playable import Playable, module
from mpfl.types import MPFLError


class Guess(Playable):
    """A question that a reader answers before the page does.

    ``answer`` is the page's own number, or one of ``choices``. A number counts as right if it
    is at most ``within`` away from the answer, or from the answer as it is shown: whole numbers
    are shown whole, others with four digits. ``unit`` follows the number; ``because`` is the
    sentence that follows the verdict. Read ``guess`` for what the reader said (``None`` before)
    and :meth:`right` for whether it is so.

    >>> guess = Guess("How much stays?", answer=0.34, within=0.05, because="The vote is strict.")
    >>> guess.guess = 0.3
    >>> guess.right()
    True

    Raises :class:`~mpfl.types.MPFLError` for an empty question or ``because``, an answer that is
    neither a finite number nor one of the choices, choices that are fewer than two or equal, and
    a ``within`` that is not a finite number from 0.
    """

    kind = "guess"
    label = "Predict, then check"
    _esm = module("guess.js")

    question = traitlets.Unicode().tag(sync=True)
    answer = traitlets.Any().tag(sync=True)
    shown = traitlets.Unicode().tag(sync=True)
    because = traitlets.Unicode().tag(sync=True)
    within = traitlets.Float(0.0).tag(sync=True)
    unit = traitlets.Unicode("").tag(sync=True)
    choices: traitlets.List[Any] = traitlets.List().tag(sync=True)
    guess = traitlets.Any(None).tag(sync=True)

    def __init__(
        self,
        question: str,
        *,
        answer: SupportsFloat | str,
        because: str,
        within: float = 0.0,
        unit: str = "",
        choices: Sequence[str] = (),
    ) -> None:
        for name, sentence in {"question": question, "because": because}.items():
            if not sentence.strip():
                raise MPFLError(f"{self.kind}: {name} is empty; give a sentence")
        if not (math.isfinite(within) and within >= 0):
            raise MPFLError(f"{self.kind}: within is {within}; give a finite number from 0")
        known = self._choice(answer, choices) if choices else self._number(answer)
        super().__init__(
            question=question,
            answer=known,
            shown=known if isinstance(known, str) else _shown(known),
            because=because,
            within=float(within),
            unit=unit,
            choices=list(choices),
        )

    def _choice(self, answer: SupportsFloat | str, choices: Sequence[str]) -> str:
        """The answer, which is one of at least two different choices."""
        if isinstance(choices, str) or len(set(choices)) != len(choices) or len(choices) < 2:
            raise MPFLError(f"{self.kind}: choices are {choices!r}; give two or more, no two equal")
        if answer not in choices:
            there = ", ".join(choices)
            raise MPFLError(f"{self.kind}: answer is {answer!r}; it must be one of {there}")
        return str(answer)

    def _number(self, answer: SupportsFloat | str) -> float:
        """The answer as a finite number."""
        if isinstance(answer, bool | str):
            raise MPFLError(f"{self.kind}: answer is {answer!r}; give a number, or choices too")
        if not math.isfinite(number := float(answer)):
            raise MPFLError(f"{self.kind}: answer is {number}; give a finite number")
        return number

    def without_script(self) -> str:
        unit = f" {self.unit}" if self.unit else ""
        among = f" ({', '.join(self.choices)})" if self.choices else ""
        return (
            f"<p><strong>{escape(self.question)}</strong>{escape(among)}</p><details><summary>The "
            f"answer</summary><p>{escape(self.shown + unit)}. {escape(self.because)}</p></details>"
        )

    def right(self) -> bool | None:
        """Whether the reader's guess is right; ``None`` before there is one."""
        if self.guess is None:
            return None
        if self.choices:
            return bool(self.guess == self.answer)
        seen = float(self.shown.replace(",", ""))
        return min(abs(self.guess - self.answer), abs(self.guess - seen)) <= _forgiving(self.within)


def _forgiving(within: float) -> float:
    """0.39 - 0.34 is not 0.05 in floating point: a billionth more than asked is near enough."""
    return within * (1 + 1e-9)


def _shown(number: float) -> str:
    """A number as the page writes it: whole numbers and large ones whole, others in four digits."""
    whole = number.is_integer() or abs(number) >= 1000
    return f"{number:,.0f}" if whole else f"{number:.4g}"
