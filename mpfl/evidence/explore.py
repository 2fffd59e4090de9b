"""Exploratory tables: questions around the primary claims, on the protocol's seeds.

They decide nothing by themselves, and the book says so. They share seeds and settings with the
protocol, so that their rows can be compared with its rows: a run that both have is run once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import cache
from typing import get_args

import numpy as np

from mpfl.evidence.cells import PRETRAINED, Cell
from mpfl.evidence.networks import NETWORK_TABLES
from mpfl.evidence.protocol import FIVE, LOTS, ONE_SHOT, TRAINED, lots, with_lot
from mpfl.filters import cut_shapes
from mpfl.granularity import Granularity
from mpfl.nets.networks import blueprint
from mpfl.runs.recipes import recipe
from mpfl.runs.text import changed

CIFAR10 = "cifar10-vgg11"
PLAIN = ("model=vgg11", "final.lr=0.03")  # without batch norm 0.05 is much, 0.01 too slow
PLAIN_W0 = "data/w0/vgg11-half-imagenet100.safetensors"
OTHER_W0 = tuple(f"data/w0/vgg11-bn-half-imagenet100-{seed}.safetensors" for seed in (1, 2))


def norms_table(budget: str) -> Iterator[Cell]:
    """Iterated norms beside the votes of the tables ``cifar10``, ``pretrained``, ``improvement``.

    With their seeds, 0 to 2. Where the mask is the same, the control needed no message.
    """
    root = (TRAINED[0], "local.lr=0.02", "final.lr=0.02", "quota=power(0.5)")
    starts = {"random w0": (), "trained w0": TRAINED, "root": root}
    for seed in range(3):
        for start, changes in starts.items():
            yield Cell(
                f"iterated norms, {start}", f"{CIFAR10}-iterated-norms", seed, changes, budget
            )


def contaminated_table(budget: str) -> Iterator[Cell]:
    """One vote by Taylor from a trained w0, with 1, 3, 5, 7 and all 10 nodes spoilt in four ways.

    The network is trained on clean data in one place: so what a bad node costs is what it did to
    the mask. The rows without a bad node, and the lotteries, are those of ``one_shot_trained``.
    """
    changes, nodes = (*TRAINED, *ONE_SHOT, "score=taylor"), recipe(CIFAR10, budget).nodes
    kinds = {
        "permuted labels": "data_noise=permuted_labels()",
        "shuffled pixels": "data_noise=shuffled_pixels()",
        "random ballots": "fault=random_mask()",
        "inverted ballots": "fault=inverted_mask()",
    }
    for seed in FIVE:
        for label, kind in kinds.items():
            for bad in dict.fromkeys(math.ceil(tenths * nodes / 10) for tenths in (1, 3, 5, 7, 10)):
                spoilt = (*changes, kind, f"noisy_nodes={bad}")
                yield Cell(f"{label}, {bad} of {nodes}", CIFAR10, seed, spoilt, budget)


def without_norm_table(budget: str) -> Iterator[Cell]:
    """VGG11 without batch norm, from a w0 of its own that was trained on photographs.

    Under batch norm the size of a filter's weights means little to what the network computes; the
    authors' network has none. Without it, what a layer sums up gets smaller with every filter that
    goes. The rows that are *rescaled* begin with weights that compensate for this.
    """
    photographs = ("dataset=imagenet100-64", "pixels=32", "central_epochs=15")
    yield Cell("the w0 itself", f"{CIFAR10}-central", 0, (*PLAIN, *photographs), budget,
               keeps=_of(budget, PLAIN_W0))  # fmt: skip
    changes = (*PLAIN, f"w0={_of(budget, PLAIN_W0)}", "local.lr=0.01", *ONE_SHOT)
    yield from _held_against_lotteries(changes, budget)
    yield from _held_against_lotteries((*changes, "rescaled=True"), budget, ", rescaled")


def without_norm_random_table(budget: str) -> Iterator[Cell]:
    """The same from a random w0, which is what the authors' network starts from.

    The rescaled rows come first: as it is, a lottery may learn nothing in ten epochs.
    """
    changes = (*PLAIN, "local.lr=0.03", *ONE_SHOT)
    yield from _held_against_lotteries((*changes, "rescaled=True"), budget, ", rescaled")
    yield from _held_against_lotteries(changes, budget)


def other_starts_table(budget: str) -> Iterator[Cell]:
    """Two more trained w0, like the first except for their seed."""
    photographs = ("dataset=imagenet100-64", "pixels=32", "central_epochs=15")
    for number, w0 in enumerate(OTHER_W0, start=1):
        recipe = f"{CIFAR10}-central"
        kept = _of(budget, w0)
        yield Cell(f"the w0 itself, {number}", recipe, number, photographs, budget, keeps=kept)
    for number, w0 in enumerate(OTHER_W0, start=1):
        changes = (f"w0={_of(budget, w0)}", "local.lr=0.01", *ONE_SHOT)
        yield from _held_against_lotteries(changes, budget, f", w0 {number}")


def _of(budget: str, w0: str) -> str:
    """The w0 of a budget; that of ``laptop`` has the plain name."""
    return w0 if budget == "laptop" else w0.replace(".safetensors", f"-{budget}.safetensors")


def _held_against_lotteries(
    changes: tuple[str, ...], budget: str, suffix: str = ""
) -> Iterator[Cell]:
    for seed in FIVE:
        yield Cell(f"vote{suffix}", CIFAR10, seed, changes, budget)
        yield Cell(f"w0 norms{suffix}", f"{CIFAR10}-w0-norms", seed, changes, budget)
        for lot, label in enumerate(lots("lottery", 2)):
            drawn = with_lot(lot, changes)
            yield Cell(f"{label}{suffix}", f"{CIFAR10}-lottery", seed, drawn, budget)
        smallest = (*changes, "score=smallest")
        yield Cell(f"smallest{suffix}", f"{CIFAR10}-w0-norms", seed, smallest, budget)


def start_bits_table(budget: str) -> Iterator[Cell]:
    """The trained w0 sent in 8, 4 or 2 bits per weight; whole ones are in ``one_shot_trained``.

    Those were made in float32: set MPFL_BFLOAT16=0 for these, too. The last row sends nothing but
    bits: w0 in four, then votes as in ``directions``.
    """
    for seed in FIVE:
        for bits in (8, 4, 2):
            changes = (*TRAINED, f"w0_bits={bits}", *ONE_SHOT)
            yield Cell(f"vote, {bits} bits", CIFAR10, seed, changes, budget)
            taylor = (*changes, "score=taylor")
            yield Cell(f"vote, taylor, {bits} bits", CIFAR10, seed, taylor, budget)
    by_votes = (*_BY_TAYLOR, "w0_bits=4", *_by_directions(budget), *_FINISHES["votes and lengths"])
    for seed in FIVE:
        yield Cell("votes and lengths, 4 bits", CIFAR10, seed, by_votes, budget)


def sparser_table(budget: str) -> Iterator[Cell]:
    """One vote on 56, 90 and 95 % of the filters; 80 % are in the table ``one_shot``."""
    # The layers of toy are too narrow to lose so much.
    shares = (0.3, 0.5, 0.7) if budget == "toy" else (0.56, 0.9, 0.95)
    for seed in FIVE:
        for share in shares:
            changes = (f"schedule=one_shot({share})", *ONE_SHOT[1:])
            suffix = f", {share:.0%}"
            yield Cell(f"vote{suffix}", CIFAR10, seed, changes, budget)
            yield Cell(f"LTH{suffix}", f"{CIFAR10}-lth", seed, changes, budget)
            yield Cell(f"w0 norms{suffix}", f"{CIFAR10}-w0-norms", seed, changes, budget)
            for lot, label in enumerate(lots("lottery", 2)):
                drawn = with_lot(lot, changes)
                yield Cell(f"{label}{suffix}", f"{CIFAR10}-lottery", seed, drawn, budget)


def network_taylor_table(budget: str) -> Iterator[Cell]:
    """One vote by Taylor ranks all layers together; two lotteries with the counts it came to."""
    for seed in FIVE:
        changes = (*TRAINED, *ONE_SHOT, "score=taylor", "quota=over_network()")
        vote = Cell("vote over the network, taylor", CIFAR10, seed, changes, budget)
        yield vote
        for lot, label in enumerate(lots("lottery, its counts", 2)):
            drawn = with_lot(lot, (*TRAINED, *ONE_SHOT))
            yield Cell(label, f"{CIFAR10}-lottery", seed, drawn, budget, match=vote)


def uneven_table(budget: str) -> Iterator[Cell]:
    """Nodes whose data differ: one vote, then 20 rounds between them; two lotteries beside it."""
    changes = ("schedule=one_shot(0.8)", "rounds=1", "federated_rounds=20",
               "federated_decay=cosine", "final_draws=own")  # fmt: skip
    partitions = {
        "IID": (),
        "Dirichlet 1": ("partition=dirichlet(1.0)",),
        "Dirichlet 0.3": ("partition=dirichlet(0.3)",),
        "two classes a node": ("partition=shards(2)",),
    }
    for seed in FIVE:
        for name, partition in partitions.items():
            dealt = (*changes, *partition)
            yield Cell(f"vote, {name}", CIFAR10, seed, dealt, budget)
            for lot, label in enumerate(lots("lottery", 2)):
                drawn = with_lot(lot, dealt)
                yield Cell(f"{label}, {name}", f"{CIFAR10}-lottery", seed, drawn, budget)


def drift_table(budget: str) -> Iterator[Cell]:
    """A vote taken on old data: blurred, noisy, or of half the classes; finished on today's.

    The vote on today's data, and the lotteries, are those of ``one_shot_trained``.
    """
    old = {"blurred": "blurred(2)", "noisy": "gaussian(0.2)", "five classes": "first_classes(5)"}
    nodes = recipe(CIFAR10, budget).nodes
    for seed in FIVE:
        for label, noise in old.items():
            changes = (*TRAINED, *ONE_SHOT, "score=taylor")
            data = (f"data_noise={noise}", f"noisy_nodes={nodes}")
            yield Cell(f"voted on {label} data", CIFAR10, seed, (*changes, *data), budget)


def tuning_table(budget: str) -> Iterator[Cell]:
    """Learning rate by share per round by rule, at a quarter of the width; and a lottery curve.

    The rules end at different sizes: so a row is judged by how far it lies above the curve that
    lotteries of six sizes draw.
    """
    width = () if budget == "paper" else ("width=0.25",)  # torchvision's has one width
    small = (*width, "federated_rounds=0")
    schedules: dict[str, tuple[str, ...]] = {
        "at once": ("schedule=one_shot(0.58)", "rounds=1"),
        "30 % a round": ("schedule=geometric(0.25)", "rounds=3"),
        "15 % a round": ("schedule=geometric(0.134)", "rounds=6"),
    }
    rules = {
        "anyone": "share(0.1)",
        "half": "share(0.5)",
        "all": "share(1.0)",
        "most votes": "most_votes()",
    }
    for seed in FIVE[:3]:
        for rate in (0.005, 0.02, 0.05, 0.2):
            for schedule, pruned in schedules.items():
                for rule, vote in rules.items():
                    changes = (*small, *pruned, f"local.lr={rate}", f"vote={vote}")
                    label = f"rate {rate}, {schedule}, {rule}"
                    yield Cell(label, CIFAR10, seed, changes, budget)
        for share in (0.1, 0.25, 0.4, 0.55, 0.7, 0.85):
            for lot, label in enumerate(lots("lottery", 2)):
                changes = with_lot(lot, (*small, f"schedule=one_shot({share})", "rounds=1"))
                yield Cell(f"{label}, {share:.0%}", f"{CIFAR10}-lottery", seed, changes, budget)


def granularity_table(budget: str) -> Iterator[Cell]:
    """One vote on filters, kernels or single weights: at an equal share, and at equal weights.

    At a quarter of the width. A mask that keeps a fifth of the kernels or weights is five times as
    dense as one of filters, which shrinks both sides of a layer. So there are rows that keep as
    many conv weights as that one does. Their layers keep by the root of their size: of an even
    share, one kernel of the first layer would be left.
    """
    width = () if budget == "paper" else ("width=0.25",)  # torchvision's has one width
    share = 1 - weights_left(0.8, budget, *width)
    few = (f"schedule=one_shot({share:.5f})", *ONE_SHOT[1:], "quota=power(0.5)")
    for seed in FIVE:
        for bit in get_args(Granularity):
            masked = (*width, f"granularity={bit}")
            yield from _beside_lotteries((*masked, *ONE_SHOT), bit, LOTS, seed, budget)
            if bit != "filter":
                name = f"{bit}, equal weights"
                yield from _beside_lotteries((*masked, *few), name, 2, seed, budget)


def _beside_lotteries(
    changes: tuple[str, ...], suffix: str, count: int, seed: int, budget: str
) -> Iterator[Cell]:
    yield Cell(f"vote, {suffix}", CIFAR10, seed, changes, budget)
    yield Cell(f"iterated norms, {suffix}", f"{CIFAR10}-iterated-norms", seed, changes, budget)
    for lot, label in enumerate(lots("lottery", count)):
        drawn = with_lot(lot, changes)
        yield Cell(f"{label}, {suffix}", f"{CIFAR10}-lottery", seed, drawn, budget)


@cache
def weights_left(sparsity: float, budget: str, *changes: str) -> float:
    """The share of conv weights that a mask leaves if it takes this share of every layer's filters.

    Of the CIFAR-10 network at ``budget``, with ``changes``. About the square of what it leaves of
    the filters, as it takes a layer's inputs as well.

    >>> round(weights_left(0.8, "laptop", "width=0.25"), 3)
    0.038
    """
    e = changed(recipe(CIFAR10, budget), changes)
    layout = blueprint(str(e.model), 10, width=e.width)
    kept = layout.keep_counts(sparsity)
    mask = {name: np.arange(size) < kept[name] for name, size in layout.sizes.items()}
    left, full = (
        sum(math.prod(shapes[layer.weight]) for layer in layout.layers)
        for shapes in (cut_shapes(layout, mask), layout.shapes)
    )
    return left / full


_FINISHES = {
    "averages": (),
    "votes": ("federated=by_sign_votes()",),
    "votes and lengths": ("federated=by_scaled_votes()",),
}

_BY_TAYLOR = (*TRAINED, "score=taylor")


_ONE_VOTE = ("schedule=one_shot(0.8)", "rounds=1", "central_epochs=0")
_FALLING = ("federated_lr=0.05", "federated_decay=cosine", "final_draws=own")


def _sixty_rounds(budget: str) -> tuple[str, ...]:
    """60 rounds in which a node takes 32 steps, at a rate that falls."""
    steps = 8 if budget == "toy" else 32  # at toy a node has no more than 11 batches
    return ("federated_rounds=60", f"federated_steps={steps}", *_FALLING)


def _by_directions(budget: str) -> tuple[str, ...]:
    """One vote on four fifths of the filters, then these rounds."""
    return (*_ONE_VOTE, *_sixty_rounds(budget))


_MOMENTUM = {
    "averages, momentum": ("federated=by_average_with_momentum(rate=1.0, momentum=0.5)",),
}
"""The best server of those that ``benchmarks/directions`` tries on pictures that no node holds."""


_OTHER_VOTES = {
    "votes, channel lengths": ("federated=by_channel_scaled_votes()",),
    "votes, longer steps": ("federated=by_sign_votes(eta=0.016)",),
}
"""Votes in other ways: with a length per channel, and with the best first length of the same trials
for votes of one length."""


def directions_table(budget: str) -> Iterator[Cell]:
    """The same small network trained between the nodes by averages and by votes on directions."""
    for seed in FIVE:
        for start, begun in {"random w0": (), "trained w0": _BY_TAYLOR}.items():
            for name, finish in (_FINISHES | _MOMENTUM | _OTHER_VOTES).items():
                changes = (*begun, *_by_directions(budget), *finish)
                yield Cell(f"{start}, {name}", CIFAR10, seed, changes, budget)


def bad_directions_table(budget: str) -> Iterator[Cell]:
    """The same from the trained start, with nodes that pretend another training than they had."""
    nodes = recipe(CIFAR10, budget).nodes
    tenths = {"inverted_update()": (1, 3, 5), "scaled_update(100.0)": (1,)}
    muting = {"votes and lengths, muting": ("federated=by_muting_scaled_votes()",)}
    for seed in FIVE:
        for fault, counts in tenths.items():
            for bad in dict.fromkeys(math.ceil(count * nodes / 10) for count in counts):
                for name, finish in (_FINISHES | muting).items():
                    spoilt = (f"federated_fault={fault}", f"noisy_nodes={bad}")
                    changes = (*_BY_TAYLOR, *_by_directions(budget), *finish, *spoilt)
                    kind = fault.partition("_")[0]
                    yield Cell(f"{bad} {kind}, {name}", CIFAR10, seed, changes, budget)


def dense_directions_table(budget: str) -> Iterator[Cell]:
    """The whole network, nothing pruned, by averages and by votes, from the trained start."""
    for seed in FIVE:
        for name in ("averages", "votes and lengths"):
            changes = (f"w0={PRETRAINED}", *_sixty_rounds(budget), *_FINISHES[name])
            yield Cell(f"dense, {name}", f"{CIFAR10}-fedavg", seed, changes, budget)


def imagenet100_directions_table(budget: str) -> Iterator[Cell]:
    """A small ResNet18 on ImageNet100 trained by averages and by votes, an epoch per round."""
    finish = (*_ONE_VOTE, "federated_rounds=60", *_FALLING)
    for seed in FIVE[:3]:
        for name, way in _FINISHES.items():
            yield Cell(name, "imagenet100-resnet18", seed, (*finish, *way), budget)


FEW_BITS = {
    "8 bits": "by_quantised_average(bits=8)",
    "4 bits": "by_quantised_average(bits=4)",
    "2 bits": "by_quantised_average(bits=2)",
    "2 bits, feedback": "by_quantised_average(bits=2, feedback=True)",
}


def quantised_table(budget: str) -> Iterator[Cell]:
    """The same from the trained start, by averages in a few bits per weight, both ways."""
    for seed in FIVE:
        for name, finish in FEW_BITS.items():
            changes = (*_BY_TAYLOR, *_by_directions(budget), f"federated={finish}")
            yield Cell(f"trained w0, {name}", CIFAR10, seed, changes, budget)


def imagenet100_norms_table(budget: str) -> Iterator[Cell]:
    """ImageNet100: iterated norms beside the rows of the table ``imagenet100``."""
    for seed in range(3):
        yield Cell("iterated norms", "imagenet100-resnet18-iterated-norms", seed, budget=budget)


EXPLORATORY_TABLES: tuple[Callable[[str], Iterator[Cell]], ...] = (
    directions_table,
    bad_directions_table,
    dense_directions_table,
    imagenet100_directions_table,
    quantised_table,
    norms_table,
    contaminated_table,
    without_norm_table,
    without_norm_random_table,
    other_starts_table,
    start_bits_table,
    sparser_table,
    network_taylor_table,
    uneven_table,
    drift_table,
    tuning_table,
    granularity_table,
    imagenet100_norms_table,
    *NETWORK_TABLES,
)
