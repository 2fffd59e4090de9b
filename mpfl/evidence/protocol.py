"""The protocol: what the primary claims are, fixed before the runs that decide them.

The runs have seeds that no earlier run had. Each claim is a difference of two rows, paired by
seed: w0 (where it is drawn), the partition of the data and the order of the pictures are the same
in both. The figure is an estimate with Student's 95 % interval over the seeds.

- **n** is fixed here. Nothing is judged before all its seeds are recorded, and no seed is added.
- **Margins** are fixed here: one point of accuracy for the quality of a mask, two for
  "comparable".
- **Endpoints.** ``central`` is the test accuracy after the last epoch of training in one place.
  ``last five`` is the mean of the test accuracy after each of the last five rounds of training
  between the nodes, whose learning rate falls by a cosine.
- **Lotteries.** A claim about a lottery takes the mean of several draws per seed.
- **Family.** Eight primary claims, adjusted by Holm. Everything else in the book is exploratory,
  and says so.

The tables whose runs decide nothing primary (``ranks``, ``dose``) are here because they use the
same seeds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from mpfl.evidence.cells import PRETRAINED, Cell

TEN = range(3, 13)
"""The seeds of claims about masks."""

FIVE = range(3, 8)
"""The seeds of claims about training between the nodes, which takes four times as long."""

LOTS = 4
ONE_SHOT = ("schedule=one_shot(0.8)", "rounds=1", "federated_rounds=0")
FAIR = ("federated_rounds=40", "federated_decay=cosine", "final_draws=own")
TRAINED = (f"w0={PRETRAINED}", "local.lr=0.01")


@dataclass(frozen=True)
class Contrast:
    """One primary claim: the difference of row ``one`` and the mean of ``others``, paired by seed.

    ``asks="better"`` is the claim that it is above 0, ``"no worse"`` that it is above ``-margin``.
    ``margin`` is in points of accuracy; within it two masks are equivalent.
    """

    name: str
    text: str
    table: str
    one: str
    others: tuple[str, ...]
    asks: Literal["better", "no worse"]
    margin: float
    seeds: Sequence[int]
    endpoint: Literal["central", "last five"] = "central"


def lots(name: str, count: int) -> tuple[str, ...]:
    """The labels of several draws.

    >>> lots("lottery", 2)
    ('lottery 1', 'lottery 2')
    """
    return tuple(f"{name} {lot + 1}" for lot in range(count))


PRIMARY: tuple[Contrast, ...] = (
    Contrast(
        "vote-lottery",
        "From a random w0, one vote keeps better filters than a lottery.",
        "one_shot",
        "vote",
        lots("lottery", LOTS),
        "better",
        1.0,
        TEN,
    ),
    Contrast(
        "lth-lottery",
        "From a random w0, the norms after training on all data in one place keep better filters "
        "than a lottery.",
        "one_shot",
        "LTH",
        lots("lottery", LOTS),
        "better",
        1.0,
        TEN,
    ),
    Contrast(
        "vote-lth",
        "From a random w0, one vote is as good as the norms after training in one place.",
        "one_shot",
        "vote",
        ("LTH",),
        "no worse",
        2.0,
        TEN,
    ),
    Contrast(
        "published-lottery",
        "From a random w0, the published rule keeps better filters than a lottery with its counts.",
        "one_shot",
        "published threshold",
        lots("lottery, published counts", 2),
        "better",
        1.0,
        TEN,
    ),
    Contrast(
        "trained-lottery",
        "From a trained w0, one vote by norms keeps better filters than a lottery.",
        "one_shot_trained",
        "vote",
        lots("lottery", LOTS),
        "better",
        1.0,
        TEN,
    ),
    Contrast(
        "trained-taylor-lottery",
        "From a trained w0, one vote by Taylor keeps better filters than a lottery.",
        "one_shot_trained",
        "vote, taylor",
        lots("lottery", LOTS),
        "better",
        1.0,
        TEN,
    ),
    Contrast(
        "fair-pruning-fl",
        "Trained between the nodes for 40 rounds, the network of ten votes is as good as that of "
        "pruning-FL.",
        "fair",
        "vote",
        ("pruning-FL",),
        "no worse",
        2.0,
        FIVE,
        "last five",
    ),
    Contrast(
        "fair-lottery",
        "Trained between the nodes for 40 rounds, the network of ten votes is better than that of "
        "a lottery.",
        "fair",
        "vote",
        lots("lottery", 2),
        "better",
        1.0,
        FIVE,
        "last five",
    ),
)


def one_shot_table(budget: str) -> Iterator[Cell]:
    """One vote on four fifths of the filters from a random w0, and what it is compared with.

    ``least votes`` and ``smallest`` are the positive controls, which must come out bad.
    """
    family = "cifar10-vgg11"
    for seed in TEN:
        yield Cell("vote", family, seed, ONE_SHOT, budget)
        for lot, label in enumerate(lots("lottery", LOTS)):
            yield Cell(label, f"{family}-lottery", seed, with_lot(lot, ONE_SHOT), budget)
        yield Cell("LTH", f"{family}-lth", seed, ONE_SHOT, budget)
        yield Cell("w0 norms", f"{family}-w0-norms", seed, ONE_SHOT, budget)
        published = (*ONE_SHOT, "vote=published_threshold()")
        rule = Cell("published threshold", family, seed, published, budget)
        yield rule
        for lot, label in enumerate(lots("lottery, published counts", 2)):
            changes = with_lot(lot, ONE_SHOT)
            yield Cell(label, f"{family}-lottery", seed, changes, budget, match=rule)
    for seed in FIVE:
        yield Cell("least votes", family, seed, (*ONE_SHOT, "vote=least_votes()"), budget)
        yield Cell("smallest", f"{family}-w0-norms", seed, (*ONE_SHOT, "score=smallest"), budget)


def one_shot_trained_table(budget: str) -> Iterator[Cell]:
    """The same from a w0 that was trained on photographs, with two scores.

    By norms all seeds may end in one mask; then the seeds differ only in the final training.
    """
    family, changes = "cifar10-vgg11", (*TRAINED, *ONE_SHOT)
    for seed in TEN:
        yield Cell("vote", family, seed, changes, budget)
        for lot, label in enumerate(lots("lottery", LOTS)):
            yield Cell(label, f"{family}-lottery", seed, with_lot(lot, changes), budget)
        yield Cell("vote, taylor", family, seed, (*changes, "score=taylor"), budget)
        yield Cell("w0 norms", f"{family}-w0-norms", seed, changes, budget)
    for seed in FIVE:
        yield Cell("least votes", family, seed, (*changes, "vote=least_votes()"), budget)
        yield Cell("smallest", f"{family}-w0-norms", seed, (*changes, "score=smallest"), budget)


def ranks_table(budget: str) -> Iterator[Cell]:
    """The vote among nineteen lotteries of one seed: an exact test, and a picture."""
    yield Cell("vote", "cifar10-vgg11", TEN[0], ONE_SHOT, budget)
    for lot, label in enumerate(lots("lottery", 19)):
        yield Cell(label, "cifar10-vgg11-lottery", TEN[0], with_lot(lot, ONE_SHOT), budget)


def fair_table(budget: str) -> Iterator[Cell]:
    """Ten votes, and then 40 rounds between the nodes with a rate that falls by a cosine.

    All rows draw the pictures of their final training anew.
    """
    family = "cifar10-vgg11"
    for seed in FIVE:
        yield Cell("vote", family, seed, FAIR, budget)
        yield Cell("pruning-FL", f"{family}-pruning-fl", seed, FAIR, budget)
        for lot, label in enumerate(lots("lottery", 2)):
            yield Cell(label, f"{family}-lottery", seed, with_lot(lot, FAIR), budget)
        yield Cell("iterated norms", f"{family}-iterated-norms", seed, FAIR, budget)
    for seed in FIVE:
        yield Cell("dense FedAvg", f"{family}-fedavg", seed, FAIR, budget)


def dose_table(budget: str) -> Iterator[Cell]:
    """How much local training until a vote says something: 1, 3, 10, 30 epochs before one vote.

    ``Adam`` is the published local training: ten epochs in batches of 16, at a rate of 1e-5.
    """
    adam = ("optimiser=adam", "lr=1e-5", "weight_decay=5e-5", "batch=16")
    published = ("epochs=10", *(f"local.{setting}" for setting in adam))
    for seed in FIVE[:3]:
        for epochs in (1, 3, 10, 30):
            changes = (*ONE_SHOT, f"epochs={epochs}")
            label = f"vote, {epochs} epoch{'s' if epochs > 1 else ''}"
            yield Cell(label, "cifar10-vgg11", seed, changes, budget)
        if budget == "paper":  # whose local training this is already
            continue
        for start, first in (("random", ()), ("trained", (TRAINED[0],))):
            changes = (*first, *ONE_SHOT, *published)
            yield Cell(f"vote, Adam, {start} w0", "cifar10-vgg11", seed, changes, budget)


def with_lot(lot: int, changes: Sequence[str]) -> tuple[str, ...]:
    """What one of several draws changes; the first is the one that everybody has."""
    return (*changes, f"lot={lot}") if lot else tuple(changes)


PROTOCOL_TABLES: tuple[Callable[[str], Iterator[Cell]], ...] = (
    one_shot_table,
    one_shot_trained_table,
    ranks_table,
    fair_table,
    dose_table,
)
