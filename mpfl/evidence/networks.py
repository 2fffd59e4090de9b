"""Exploratory tables on other networks: is a vote better than a lottery where no filter is?

One vote on heads, hidden units or recurrent units, each beside iterated norms and two lotteries of
the same counts. The seeds are the protocol's. The networks start from a random w0. At ``laptop``
the slow ones learn from a part of the pictures, so that a vote takes four minutes of one core.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from mpfl.evidence.cells import Cell
from mpfl.evidence.protocol import FIVE, ONE_SHOT, TEN, lots, with_lot

_HALF = ("schedule=one_shot(0.5)", *ONE_SHOT[1:])


def transformer_table(budget: str) -> Iterator[Cell]:
    """A Vision Transformer: one vote on half of its heads, one on 80 % of its hidden units."""
    few = _few(budget, 20_000)
    heads, hidden = (*_HALF, "units=heads", *few), (*ONE_SHOT, "units=hidden", *few)
    yield from _one_vote("cifar10-vit", TEN, heads, budget, ", heads")
    yield from _one_vote("cifar10-vit", TEN, hidden, budget, ", hidden units")


def recurrent_table(budget: str) -> Iterator[Cell]:
    """A GRU that reads pictures row by row: one vote on 80 % of its units."""
    changes = (*ONE_SHOT, "units=recurrent")
    yield from _one_vote("cifar10-gru", TEN, changes, budget)


def blocks_table(budget: str) -> Iterator[Cell]:
    """MobileNetV2 and ResNet50: one vote on 80 % of the filters of every layer."""
    changes = (*ONE_SHOT, *_few(budget, 10_000))
    for family, name in (("cifar10-mobilenet", "MobileNet"), ("cifar10-resnet50", "ResNet50")):
        yield from _one_vote(family, FIVE, changes, budget, f", {name}")


def _few(budget: str, images: int) -> tuple[str, ...]:
    return (f"images={images}",) if budget == "laptop" else ()


def _one_vote(
    family: str, seeds: Sequence[int], changes: tuple[str, ...], budget: str, suffix: str = ""
) -> Iterator[Cell]:
    for seed in seeds:
        yield Cell(f"vote{suffix}", family, seed, changes, budget)
        norms = f"{family}-iterated-norms"
        yield Cell(f"iterated norms{suffix}", norms, seed, changes, budget)
        for lot, label in enumerate(lots("lottery", 2)):
            drawn = with_lot(lot, changes)
            yield Cell(f"{label}{suffix}", f"{family}-lottery", seed, drawn, budget)


NETWORK_TABLES: tuple[Callable[[str], Iterator[Cell]], ...] = (
    transformer_table,
    recurrent_table,
    blocks_table,
)
