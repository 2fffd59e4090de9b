"""The evidence: which runs stand behind each table of the book, as plain lists of cells.

A cell is one run, said exactly as a command line says it. Its result is one JSON file in
``data/results/``, named by the experiment's identity, so a cell that two tables share is run
once, and a file says which cell it is.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from mpfl import vote as rules
from mpfl.experiment import Experiment, identity
from mpfl.recipes import BUDGETS, nearest, recipe
from mpfl.settings import changed

SEEDS = (0, 1, 2)
OTHER_VOTES = (  # than budget, which the recipes have
    "relaxed()",
    "published_threshold()",
    "published_percentile(0.5)",
    "share(1.0)",
    "share(0.5)",
)
PRETRAINED = "data/w0/vgg11-bn-half-imagenet100.safetensors"


@dataclass(frozen=True)
class Cell:
    """One run: a recipe, its seed and budget, and what ``--set`` changes.

    ``match`` is another cell whose filter counts this control takes over, so that it must be
    recorded before.
    """

    recipe: str
    seed: int
    changes: tuple[str, ...] = ()
    budget: str = "laptop"
    match: Cell | None = None

    @cached_property
    def experiment(self) -> Experiment:
        """What is run."""
        return changed(recipe(self.recipe, self.budget, self.seed), self._all)

    @cached_property
    def file(self) -> str:
        """The name of its result."""
        return f"{self.recipe}-{self.budget}-{identity(self.experiment)}.json"

    @property
    def keeps_its_counts(self) -> bool:
        """Whether the schedule alone says how many filters each layer keeps."""
        e = self.experiment
        by_schedule = isinstance(e.vote, rules.budget) or e.method != "mpfl"
        return by_schedule and e.scope == "layer" and e.match is None

    @property
    def words(self) -> list[str]:
        """Its command line, after ``python -m mpfl``."""
        words = ["run", self.recipe, "--budget", self.budget, "--seed", str(self.seed)]
        return words + [word for change in self._all for word in ("--set", change)]

    @property
    def command(self) -> str:
        """The command that a reader gives for the same run."""
        return shlex.join(["python", "-m", "mpfl", *self.words])

    @property
    def _all(self) -> tuple[str, ...]:
        match = () if self.match is None else (f"match=data/results/{self.match.file}",)
        return self.changes + match


def digits(budget: str) -> Iterator[Cell]:
    """Every method on the small digits: the table that runs in a minute at ``toy``."""
    for method in ("", "-random-masks", "-w0-norms", "-pruning-fl", "-lth", "-fedavg", "-central"):
        for seed in SEEDS:
            yield Cell(f"digits{method}", seed, budget=budget)


def cifar10(budget: str) -> Iterator[Cell]:
    """CIFAR-10 and VGG11-BN from a random w0: the vote, its controls, what it is held against."""
    for seed in SEEDS:
        for method in ("", "-random-masks", "-w0-norms"):
            yield Cell(f"cifar10-vgg11{method}", seed, budget=budget)
    for seed in SEEDS:
        for method in ("-pruning-fl", "-lth", "-fedavg", "-central"):
            yield Cell(f"cifar10-vgg11{method}", seed, budget=budget)
        for vote in OTHER_VOTES:
            yield Cell("cifar10-vgg11", seed, (f"vote={vote}",), budget)


def _with_controls(cell: Cell) -> Iterator[Cell]:
    """A vote over the network, and the controls that take over its filter counts."""
    yield cell
    score = tuple(change for change in cell.changes if change.startswith(("w0=", "local.")))
    for method in ("-random-masks", "-w0-norms"):
        yield Cell(f"{cell.recipe}{method}", cell.seed, score, cell.budget, match=cell)


def network(budget: str) -> Iterator[Cell]:
    """The vote ranks all filters together, so that it also sets how many a layer keeps."""
    for seed in SEEDS:
        changes = ("scope=network", "score=rms_weight")
        yield from _with_controls(Cell("cifar10-vgg11", seed, changes, budget))


def pretrained(budget: str) -> Iterator[Cell]:
    """From a w0 that was trained on photographs before, with three scores.

    The first cell is that training. Its weights, in half precision, are ``PRETRAINED``.
    """
    photographs = ("dataset=imagenet100-64", "pixels=32", "central_epochs=15")
    yield Cell("cifar10-vgg11-central", 0, photographs, budget)
    for seed in SEEDS:
        w0 = (f"w0={PRETRAINED}", "local.lr=0.01")
        for score in ("l2", "taylor", "bn_scale"):
            yield Cell("cifar10-vgg11", seed, (*w0, f"score={score}"), budget)
        for method in ("-random-masks", "-w0-norms", "-pruning-fl", "-fedavg", "-central"):
            yield Cell(f"cifar10-vgg11{method}", seed, w0, budget)


def schedules(budget: str) -> Iterator[Cell]:
    """Little by little or at once, rewinding or going on."""
    for seed in SEEDS:
        for schedule in ("one_shot(0.8)", "linear(0.8)", "cubic(0.8)"):
            yield Cell("cifar10-vgg11", seed, (f"schedule={schedule}",), budget)
        yield Cell("cifar10-vgg11", seed, ("rewind=False",), budget)


def robustness(budget: str) -> Iterator[Cell]:
    """One spoilt node, as published, then more of them and other faults."""
    only_central = ("federated_rounds=0",)
    for seed in SEEDS:
        for noise in ("permuted_labels()", "shuffled_pixels()"):
            for vote in ("budget()", "published_threshold()"):
                yield Cell("cifar10-vgg11", seed, (f"noise={noise}", f"vote={vote}"), budget)
            yield Cell("cifar10-vgg11-pruning-fl", seed, (f"noise={noise}",), budget)
    for seed in SEEDS:
        for nodes in (1, 3, 5):
            for noise in ("random_mask()", "inverted_mask()", "colluding_veto(0.2)"):
                for vote in ("budget()", "share(0.5)", "published_threshold()"):
                    changes = (f"noise={noise}", f"noisy_nodes={nodes}", f"vote={vote}")
                    yield Cell("cifar10-vgg11", seed, changes + only_central, budget)


def imagenet100(budget: str) -> Iterator[Cell]:
    """100 classes and ResNet18: 64 px at ``laptop``, the full-size set at ``paper``."""
    for seed in SEEDS:
        for method in ("", "-random-masks", "-w0-norms", "-pruning-fl", "-lth", "-central"):
            yield Cell(f"imagenet100-resnet18{method}", seed, budget=budget)


TABLES: Mapping[str, Callable[[str], Iterator[Cell]]] = {
    table.__name__: table
    for table in (
        digits,
        cifar10,
        network,
        pretrained,
        schedules,
        robustness,
        imagenet100,
    )
}


def cells_of(table: str, budget: str) -> list[Cell]:
    """The cells of a table, or of ``all`` but digits; raises naming the nearest table."""
    if table == "all":
        return [cell for name in TABLES if name != "digits" for cell in TABLES[name](budget)]
    return list(TABLES[nearest("table", table, TABLES)](nearest("budget", budget, BUDGETS)))
