"""How a network is trained, as plain values; writing them down needs no torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from mpfl.types import MPFLError, at_least, one_of

Precision = Literal["auto", "float32", "float64"]
"""The precision of the sums: ``"auto"`` is bfloat16 if the machine is fast at it, else float32."""

Prunes = Literal["filter", "weight"]
"""What a pruned filter loses: all of it, or its conv weight alone."""

Units = Literal["filters", "hidden", "heads", "recurrent"]
"""What is voted on: conv filters, hidden units of MLPs, attention heads, units of GRU or LSTM."""


WITHOUT_FILTERS = ("vit", "gru", "lstm")
"""Models of this package in which no filter can be cut out: a vote is on their other units."""


def kinds_of_units(units: str | Sequence[str]) -> set[Units]:
    """What ``units`` names, of :data:`Units`: one kind, or several in a list or between commas.

    >>> sorted(kinds_of_units("heads, hidden"))
    ['heads', 'hidden']
    """
    names = units.split(",") if isinstance(units, str) else units
    if not (isinstance(names, Sequence) and all(isinstance(name, str) for name in names)):
        raise MPFLError(f"units is {units!r}; give text, several kinds as in 'heads,hidden'")
    kinds: dict[str, Units] = {kind: kind for kind in get_args(Units)}
    return {kinds[one_of("units", name.strip(), kinds)] for name in names or ("",)}


LARGEST_FLOAT32 = (2 - 2**-23) * 2.0**127
"""The largest number of four bytes, which is what weights take."""

View = Literal["whole", "centre"]
"""What a network sees of a picture: all of it, or its centre, seven eighths of each side."""


@dataclass(frozen=True)
class Settings:
    """How to train.

    ``lr`` is constant, or falls by a cosine to 0 over all steps. ``steps``, if it is given, is how
    many an epoch takes at most. ``augment`` shifts pictures by
    up to 4 pixels and mirrors half of them; ``crop`` shows a random part of each instead, 8 to
    100 % of it, and mirrors half of them. ``keep="best"`` returns the weights of the epoch with
    the highest accuracy on the validation data, the first one if several are equal. With
    ``"best-ever"`` it also has to beat every earlier training of the same node, or else the last
    epoch stands: so it is in the authors' released code.
    """

    optimiser: Literal["sgd", "adam"] = "sgd"
    lr: float = 0.05
    decay: Literal["constant", "cosine"] = "constant"
    momentum: float = 0.9
    weight_decay: float = 5e-4
    batch: int = 128
    augment: bool = False
    keep: Literal["last", "best", "best-ever"] = "last"
    crop: bool = False
    steps: int | None = None

    def __post_init__(self) -> None:
        one_of("optimiser", self.optimiser, ("sgd", "adam"))
        one_of("decay", self.decay, ("constant", "cosine"))
        one_of("keep", self.keep, ("last", "best", "best-ever"))
        if self.augment and self.crop:
            raise MPFLError("augment and crop are two ways to vary pictures; choose one of them")
        if not 0 < self.lr <= LARGEST_FLOAT32:
            raise MPFLError(f"lr is {self.lr}; give a positive number, such as 0.05")
        if not (0 <= self.momentum < 1 and 0 <= self.weight_decay <= LARGEST_FLOAT32):
            raise MPFLError(
                f"momentum is {self.momentum} and weight_decay {self.weight_decay}; "
                "give a momentum of 0 to below 1 and a weight decay of 0 or more"
            )
        if self.steps is not None:
            at_least("steps", self.steps, 1)
        if self.batch < 2:
            raise MPFLError(f"batch is {self.batch}, but batch norm needs at least 2")
        if self.batch >= 2**63:  # torch counts in eight bytes
            raise MPFLError(f"batch is {self.batch}; give less than 2**63")

    def rate(self, step: int, steps: int) -> float:
        """The learning rate of step ``step`` of ``steps``, counted from 0.

        >>> Settings(lr=0.5, decay="cosine").rate(2, 4)
        0.25
        """
        if self.decay == "constant":
            return self.lr
        return self.lr * (0.5 * (1 + math.cos(math.pi * step / steps)))
