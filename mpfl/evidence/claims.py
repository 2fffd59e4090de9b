"""The paper's claims and ours, each with the test that decides it.

A claim names its source, the table of the runs behind it, and what would change our mind.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal, TypeAlias

from mpfl.evidence.samples import TRAININGS, rows_of
from mpfl.evidence.verdicts import (
    MARGIN,
    Finding,
    Tables,
    epochs_sooner,
    less_lost,
    no_common_measure,
    points_apart,
    traffic_at_full_size,
    traffic_share,
)

Whose: TypeAlias = Literal["paper", "taken for granted", "ours"]

PAPER = "Gez & Cohen 2023"
ABSTRACT = (
    "Gez & Cohen 2023, of which only the abstract was at hand; the third curve of the released "
    "code is a network pruned centrally, not a whole one"
)
GRANTED = "taken for granted by the paper"
COMPUTED = "computed"


@dataclass(frozen=True)
class Claim:
    """A claim, where it is said, what tests it, and what would change our mind.

    ``table`` is that of the runs behind it, or ``COMPUTED`` if it needs none. ``reported`` is the
    number that the source gives, if it is known.
    """

    name: str
    text: str
    source: str
    table: str
    test: Callable[[Tables], Finding]
    change: str
    reported: str = ""

    @property
    def whose(self) -> Whose:
        """Whether the paper says it, takes it for granted, or this book says it."""
        if self.source == GRANTED:
            return "taken for granted"
        return "ours" if self.source == "this book" else "paper"


def _after_both(
    name: str, text: str, source: str, table: str, rows: tuple[str, str], bar: float, change: str
) -> Iterator[Claim]:
    """A claim about two rows' accuracy, after each training: they are different measurements."""
    for training in TRAININGS:
        yield Claim(
            f"{name}-{training}",
            f"{text} ({training} training).",
            source,
            table,
            points_apart(table, *rows, training, bar),
            change,
        )


def _ours(name: str, text: str, other: str, bar: float, change: str) -> Iterator[Claim]:
    """A claim of this book about its own vote, after each training."""
    rows = ("root, taylor", other)
    return _after_both(name, text, "this book", "improvement", rows, bar, change)


CLAIMS: tuple[Claim, ...] = (
    Claim(
        "traffic",
        "Less than 1 % of the traffic of traditional methods on a small data set.",
        PAPER,
        "cifar10",
        traffic_share(1.0),
        "A good reason to leave the weights of the final training out of the count.",
        reported="less than 1 %",
    ),
    Claim(
        "traffic-large",
        "Less than 0.001 % of the traffic on a large data set (ImageNet100 and ResNet18).",
        PAPER,
        COMPUTED,
        lambda tables: traffic_at_full_size("imagenet100-resnet18", 100, 130_000, 1e-3),
        "A good reason to leave the weights of the final training out of the count.",
        reported="less than 0.001 %",
    ),
    Claim(
        "accuracy-lth",
        "Accuracy comparable to the lottery ticket, which sees all data in one place.",
        PAPER,
        "cifar10",
        points_apart("cifar10", "vote", "LTH", "central", -MARGIN),
        f"More seeds or longer training, if the interval then lies on one side of -{MARGIN:g}.",
    ),
    *_after_both(
        "accuracy-pruning-fl",
        "Accuracy comparable to federated pruning by averaged weights",
        PAPER,
        "cifar10",
        ("vote", "pruning-FL"),
        -MARGIN,
        "A final training long enough for both to level out, as pruning-FL starts it from weights "
        "that are already trained.",
    ),
    Claim(
        "accuracy-pruning-fl-levelled",
        "Accuracy comparable to federated pruning by averaged weights, if both are trained between "
        "the nodes for 40 rounds at a rate that falls to zero.",
        PAPER,
        "fair",
        points_apart("fair", "vote", "pruning-FL", "last five", -MARGIN),
        "A final training in which pruning-FL starts from w0, too: its masks are not seen to be "
        "better, but its nodes keep the weights of their mask rounds.",
    ),
    *(
        Claim(
            f"published-{other.lower()}",
            f"The vote by the rule of the released code: accuracy comparable to {words}, if both "
            "are trained centrally in the end, as that code does.",
            PAPER,
            "cifar10",
            points_apart("cifar10", "published threshold", other, "central", -MARGIN),
            "The same comparison at equal counts: this rule removes more filters than it is asked "
            "to.",
        )
        for other, words in (("LTH", "the lottery ticket"), ("pruning-FL", "pruning-FL"))
    ),
    Claim(
        "accuracy-central",
        "Accuracy comparable to centralised learning of the whole network.",
        ABSTRACT,
        "cifar10",
        points_apart("cifar10", "vote", "dense, central", "central", -MARGIN),
        "A sparsity at which the gap closes. The table sparsity looks for one.",
    ),
    Claim(
        "lottery",
        "The vote is worth a point over a lottery with the same counts (random w0).",
        GRANTED,
        "cifar10",
        points_apart("cifar10", "vote", "lottery", "central", 1.0),
        "Another score or local training, if the interval then lies above one point.",
    ),
    Claim(
        "lottery-federated",
        "The vote is worth a point over a lottery with the same counts, if the network that is "
        "left is trained between the nodes (random w0).",
        GRANTED,
        "cifar10",
        points_apart("cifar10", "vote", "lottery", "federated", 1.0),
        "Another score or local training, if the interval then lies above one point.",
    ),
    Claim(
        "lottery-sparse",
        "The vote is worth a point over a lottery if 95 % of the filters are removed (random w0).",
        GRANTED,
        "sparsity",
        points_apart("sparsity", "vote, 19 rounds", "lottery, 19 rounds", "central", 1.0),
        "Another score or local training, if the interval then lies above one point.",
    ),
    Claim(
        "lottery-network",
        "The vote is worth a point over a lottery with its counts, if it ranks all layers "
        "together (random w0).",
        GRANTED,
        "network",
        points_apart("network", "vote over the network", "lottery, its counts", "central", 1.0),
        "Another score or local training, if the interval then lies above one point.",
    ),
    Claim(
        "lottery-trained",
        "The vote is worth a point over a lottery, from a trained w0.",
        GRANTED,
        "pretrained",
        points_apart("pretrained", "vote, l2", "lottery", "central", 1.0),
        "Another score or local training, if the interval then lies above one point.",
    ),
    Claim(
        "messages",
        "The vote is worth a point over the norms of w0, which need no message (trained w0).",
        GRANTED,
        "pretrained",
        points_apart("pretrained", "vote, l2", "w0 norms", "central", 1.0),
        "Nodes whose data differ so much that their votes differ, too.",
    ),
    *(
        Claim(
            f"robust-{noise.split()[-1]}-{against.split()[-1].lower()}",
            f"A node with {noise} costs MPFL less accuracy than it costs {words}.",
            PAPER,
            "robustness",
            less_lost("vote", noise, against),
            "More bad nodes, or a final training that leaves the bad node out.",
        )
        for noise in ("permuted labels", "shuffled pixels")
        for against, words in (("pruning-FL", "pruning-FL"), ("lottery", "a lottery"))
    ),
    Claim(
        "little-by-little",
        "Pruning little by little with feedback does better than pruning at once.",
        PAPER,
        "schedules",
        points_apart("cifar10", "vote", "one shot", "central", 0.0, beside="schedules"),
        "A schedule under which the interval lies on one side of zero.",
    ),
    *_after_both(
        "imagenet100",
        "On ImageNet100 and ResNet18, accuracy comparable to pruning-FL",
        PAPER,
        "imagenet100",
        ("vote", "pruning-FL"),
        -MARGIN,
        "Runs on the full-size data set, at budget paper.",
    ),
    Claim(
        "imagenet100-lth",
        "On ImageNet100 and ResNet18, accuracy comparable to the lottery ticket.",
        PAPER,
        "imagenet100",
        points_apart("imagenet100", "vote", "LTH", "central", -MARGIN),
        "Runs on the full-size data set, at budget paper.",
    ),
    *_after_both(
        "imagenet100-lottery",
        "On ImageNet100 and ResNet18, the vote is worth a point over a lottery, from a random w0",
        GRANTED,
        "imagenet100",
        ("vote", "lottery"),
        1.0,
        "Runs on the full-size data set, at budget paper.",
    ),
    Claim(
        "imagenet100-convergence",
        "On ImageNet100 and ResNet18, it takes no more local epochs than pruning-FL to get to "
        "the accuracy that both reach.",
        PAPER,
        "imagenet100",
        epochs_sooner("imagenet100", "vote", "pruning-FL"),
        "Nodes that seldom send weights, or a w0 that is trained.",
    ),
    Claim(
        "imagenet100-convergence-lth",
        "On ImageNet100 and ResNet18, it converges as fast as the lottery ticket.",
        PAPER,
        "imagenet100",
        no_common_measure,
        "A log of the central training in every recorded run, with the accuracy after each epoch.",
    ),
    *_ours(
        "ours",
        "Ours: from the same trained w0, with fewer parameters and bytes, counts by the root of "
        "a layer's width and a Taylor vote gain five points over the published method",
        "published",
        5.0,
        "A network or a data set for which equal shares are the better allocation.",
    ),
    *_ours(
        "ours-macs",
        "Ours: it beats the published counts at equal multiply-accumulates, too",
        "published counts, equal MACs",
        0.0,
        "A network or a data set for which equal shares are the better allocation.",
    ),
    *_ours(
        "ours-lottery",
        "Ours: its vote is worth a point over a lottery with the same counts",
        "lottery, root",
        1.0,
        "A longer final training, after which the start is forgotten.",
    ),
    *_ours(
        "ours-messages",
        "Ours: its vote is worth a point over the norms of w0, which need no message",
        "w0 norms, root",
        1.0,
        "A score that sees more of the nodes' data than one round of Taylor does.",
    ),
)


def judge_claims(results: Path = Path("data/results")) -> dict[str, Finding]:
    """Every claim tested on what is recorded, by its name."""
    tables = lru_cache(lambda table: rows_of(table, "laptop", results))
    return {claim.name: claim.test(tables) for claim in CLAIMS}
