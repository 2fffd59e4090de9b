"""The evidence: which runs are behind each table of the book, as plain lists of cells.

The tables here were recorded first, with seeds 0 to 2. Those that decide the primary claims have
seeds of their own, and are in :mod:`mpfl.evidence.protocol`; those around them in
:mod:`mpfl.evidence.explore` and :mod:`mpfl.evidence.networks`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cache

from mpfl.evidence.cells import PRETRAINED, Cell, once
from mpfl.evidence.explore import EXPLORATORY_TABLES
from mpfl.evidence.protocol import PROTOCOL_TABLES
from mpfl.runs.budgets import BUDGETS
from mpfl.runs.recipes import recipe
from mpfl.types import one_of

SEEDS = (0, 1, 2)
# How the rows are called, and what they add to the name of a recipe family.
VOTE = {"vote": ""}
CONTROLS = {"lottery": "-lottery", "w0 norms": "-w0-norms"}
OTHERS = {
    "pruning-FL": "-pruning-fl",
    "LTH": "-lth",
    "dense FedAvg": "-fedavg",
    "dense, central": "-central",
}
OTHER_RULES = {  # than budget, which the recipes have
    "relaxed": "relaxed()",
    "published threshold": "published_threshold()",
    "published percentile": "published_percentile(0.5)",
    "majority": "share(0.5)",
}
SPOILT_DATA = {
    "permuted labels": "permuted_labels()",
    "shuffled pixels": "shuffled_pixels()",
    "gaussian": "gaussian(0.5)",
}


def digits_table(budget: str) -> Iterator[Cell]:
    """Every method on the small digits: the table that runs in a minute at ``toy``."""
    for seed in SEEDS:
        for label, method in (VOTE | CONTROLS | OTHERS).items():
            yield Cell(label, f"digits{method}", seed, budget=budget)


def cifar10_table(budget: str) -> Iterator[Cell]:
    """CIFAR-10 and VGG11-BN from a random w0: the vote, its controls, what it is held against."""
    for seed in SEEDS:
        for label, method in (VOTE | CONTROLS).items():
            yield Cell(label, f"cifar10-vgg11{method}", seed, budget=budget)
    for seed in SEEDS:
        for label, method in OTHERS.items():
            yield Cell(label, f"cifar10-vgg11{method}", seed, budget=budget)
        for label, rule in OTHER_RULES.items():
            yield Cell(label, "cifar10-vgg11", seed, (f"vote={rule}",), budget)


def sparsity_table(budget: str) -> Iterator[Cell]:
    """The vote and its controls stopped earlier and later: 56, 90 and 95 % of the filters gone."""
    for seed in SEEDS:
        for rounds in (5, 14, 19):
            for label, method in (VOTE | CONTROLS).items():
                name = f"{label}, {rounds} rounds"
                yield Cell(name, f"cifar10-vgg11{method}", seed, (f"rounds={rounds}",), budget)


def network_table(budget: str) -> Iterator[Cell]:
    """The vote ranks all filters together, so that it also sets how many a layer keeps."""
    for seed in SEEDS:
        changes = ("quota=over_network()", "score=rms_weight")
        vote = Cell("vote over the network", "cifar10-vgg11", seed, changes, budget)
        yield vote
        for label, method in CONTROLS.items():
            recipe = f"cifar10-vgg11{method}"
            yield Cell(f"{label}, its counts", recipe, seed, changes[1:], budget, match=vote)


def pretrained_table(budget: str) -> Iterator[Cell]:
    """From a w0 that was trained on photographs before, with three scores.

    The first cell is that training. Its weights, in half precision, are ``PRETRAINED``.
    """
    photographs = ("dataset=imagenet100-64", "pixels=32", "central_epochs=15")
    yield Cell("the w0 itself", "cifar10-vgg11-central", 0, photographs, budget)
    w0 = (f"w0={PRETRAINED}", "local.lr=0.01")
    for seed in SEEDS:
        for label, method in ({"vote, l2": ""} | CONTROLS).items():
            yield Cell(label, f"cifar10-vgg11{method}", seed, w0, budget)
        for score in ("taylor", "bn_scale"):
            changes = (*w0, f"score={score}")
            yield Cell(f"vote, {score}", "cifar10-vgg11", seed, changes, budget)
        for label, method in OTHERS.items():
            if method != "-lth":
                yield Cell(label, f"cifar10-vgg11{method}", seed, w0, budget)


def improvement_table(budget: str) -> Iterator[Cell]:
    """Votes that leave a better network of the same size, and what they are compared with.

    All start from ``PRETRAINED`` and are finished at the same, small learning rate.
    """
    start = (f"w0={PRETRAINED}", "local.lr=0.02", "final.lr=0.02")
    root = ("quota=power(0.5)",)
    for seed in SEEDS:
        for label, changes in {
            "published": ("vote=published_threshold()",),
            "published counts": (),
            "published counts, equal MACs": ("schedule=geometric(0.125)",),
            "root, l2": root,
            "root, taylor": (*root, "score=taylor"),
        }.items():
            yield Cell(label, "cifar10-vgg11", seed, (*start, *changes), budget)
        for label, method in CONTROLS.items():
            for name, changes in {"published counts": (), "root": root}.items():
                recipe = f"cifar10-vgg11{method}"
                yield Cell(f"{label}, {name}", recipe, seed, (*start, *changes), budget)


def schedules_table(budget: str) -> Iterator[Cell]:
    """Little by little or at once, rewinding or going on, all to the counts of the vote's row."""
    usual = recipe("cifar10-vgg11", budget, 0)
    final = usual.schedule(usual.rounds, usual.rounds)
    for seed in SEEDS:
        for schedule, changes in {"one shot": ("rounds=1",), "linear": (), "cubic": ()}.items():
            shape = f"schedule={schedule.replace(' ', '_')}({final:.4f})"
            yield Cell(schedule, "cifar10-vgg11", seed, (shape, *changes), budget)
        yield Cell(
            "geometric, weights carried on", "cifar10-vgg11", seed, ("rewind=False",), budget
        )


def ballots_table(budget: str) -> Iterator[Cell]:
    """One round of votes on four fifths of the filters, by honest nodes and by spoilt ones.

    No final training. Every node's ballot is recorded, so that any rule can be asked about any
    number of spoilt nodes among honest ones without training again.
    """
    only = ("schedule=one_shot(0.8)", "rounds=1", "central_epochs=0", "federated_rounds=0")
    nodes = recipe("cifar10-vgg11", budget, 0).nodes
    starts = {"random w0": (), "trained w0": (f"w0={PRETRAINED}", "local.lr=0.01")}
    for seed in SEEDS:
        for start, changes in starts.items():
            yield Cell(f"honest, {start}", "cifar10-vgg11", seed, (*changes, *only), budget)
            for label, noise in SPOILT_DATA.items():
                spoilt = (*changes, *only, f"data_noise={noise}", f"noisy_nodes={nodes}")
                yield Cell(f"{label}, {start}", "cifar10-vgg11", seed, spoilt, budget)


def robustness_table(budget: str) -> Iterator[Cell]:
    """One spoilt node, as published: the vote, a lottery, averaging; then liars, every second."""
    nodes = recipe("cifar10-vgg11", budget, 0).nodes
    rows = VOTE | CONTROLS | OTHERS
    without = ("w0 norms", "LTH", "dense, central")  # nobody's data decides, or nobody is spoilt
    for seed in SEEDS:
        for noise in ("permuted labels", "shuffled pixels"):
            spoilt = (f"data_noise={SPOILT_DATA[noise]}",)
            for label, method in rows.items():
                if label not in without:
                    name = f"{label}, {noise}"
                    yield Cell(name, f"cifar10-vgg11{method}", seed, spoilt, budget)
            changes = (*spoilt, "vote=published_threshold()")
            yield Cell(f"published threshold, {noise}", "cifar10-vgg11", seed, changes, budget)
    for seed in SEEDS:
        for fault in ("random_mask()", "inverted_mask()", "colluding_veto(0.2)"):
            label = fault.partition("(")[0].replace("_", " ")
            changes = (f"fault={fault}", f"noisy_nodes={nodes // 2}")
            yield Cell(
                f"vote, {nodes // 2} of {nodes} {label}", "cifar10-vgg11", seed, changes, budget
            )


def imagenet100_table(budget: str) -> Iterator[Cell]:
    """100 classes and ResNet18: small photographs at ``laptop``, the full-size set at ``paper``."""
    for seed in SEEDS:
        for label, method in (VOTE | CONTROLS | OTHERS).items():
            yield Cell(label, f"imagenet100-resnet18{method}", seed, budget=budget)


TABLES: Mapping[str, Callable[[str], Iterator[Cell]]] = {
    table.__name__.removesuffix("_table"): table
    for table in (
        digits_table,
        cifar10_table,
        sparsity_table,
        network_table,
        pretrained_table,
        improvement_table,
        schedules_table,
        ballots_table,
        robustness_table,
        imagenet100_table,
        *PROTOCOL_TABLES,
        *EXPLORATORY_TABLES,
    )
}


def cells_of(table: str, budget: str) -> list[Cell]:
    """The cells of a table, or of ``all`` but digits; raises naming the nearest table.

    A run that several tables share is one cell of ``all``.
    """
    one_of("budget", budget, BUDGETS)
    if table == "all":
        return once(cell for name in TABLES if name != "digits" for cell in _cells(name, budget))
    return list(_cells(one_of("table", table, TABLES), budget))


@cache
def _cells(table: str, budget: str) -> tuple[Cell, ...]:
    """Made once: a cell works its experiment out when it is first asked for it."""
    return tuple(TABLES[table](budget))
