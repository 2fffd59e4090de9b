"""The paper's claims, each with the figure that tests it and a verdict that follows from it.

A verdict is a function of recorded runs and of a margin said here, before the runs: none is
written by hand but *untestable here*, with its reason. ``MARGIN`` points of accuracy count as
comparable. The interval is Student's 95 % interval of the mean over seeds; below ``LEAST_SEEDS`` of
them nothing is decided.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal, TypeAlias

from mpfl import masks
from mpfl.analysis.ledger import bill
from mpfl.evidence.samples import (
    TRAININGS,
    Row,
    Sample,
    Training,
    difference,
    learning_curve,
    paired,
    points,
    reached,
    rows_of,
)
from mpfl.nets.networks import blueprint
from mpfl.node import Plan
from mpfl.runs.recipes import recipe
from mpfl.runs.record import Run
from mpfl.seeds import rng_for

Verdict = Literal[
    "reproduced", "partly", "not reproduced", "refuted here", "untestable here", "not run yet"
]
Rows: TypeAlias = Mapping[str, Row]
Tables: TypeAlias = Callable[[str], Rows]

MARGIN = 2.0
LEAST_SEEDS = 3


@dataclass(frozen=True)
class Finding:
    """What was measured, and the verdict: points of accuracy, per cent of traffic or epochs.

    ``holds_from`` is the value from which on the claim would hold, of traffic the share below
    which it would; in a figure it is a line.
    """

    figure: str
    sample: Sample
    verdict: Verdict
    holds_from: float
    unit: Literal["points", "per cent", "epochs"] = "points"


@dataclass(frozen=True)
class Claim:
    """A claim, where it is said, what tests it, and what would change our mind.

    ``table`` is that of the runs behind it, or ``COMPUTED`` where it takes none.
    """

    name: str
    text: str
    source: str
    table: str
    test: Callable[[Tables], Finding]
    change: str


def judged(sample: Sample, holds_from: float, resolution: float = 0.0) -> Verdict:
    """A verdict on "the true value is at least ``holds_from``".

    *Reproduced* where the whole interval says so, *refuted here* where none of it does, *not
    reproduced* where it reaches to both sides: more seeds may move it. Values that come in
    steps of ``resolution`` widen the interval by one, as equal ones would leave it no width.
    """
    if sample.n < LEAST_SEEDS:
        return "not run yet"
    if sample.low - resolution >= holds_from:
        return "reproduced"
    return "refuted here" if sample.high + resolution < holds_from else "not reproduced"


def _apart(
    table: str, one: str, other: str, training: Training, holds_from: float, beside: str = ""
) -> Callable[[Tables], Finding]:
    """The difference of two rows in accuracy; ``beside`` is another table that has the second."""

    def test(tables: Tables) -> Finding:
        second = tables(beside or table)[other]
        sample = difference(tables(table)[one], second, points(training))
        said = f"{sample.mean:+.1f} ± {sample.half:.1f} points {training}" if sample.n > 1 else "-"
        return Finding(said, sample, judged(sample, holds_from), holds_from)

    return test


def _drop(method: str, noise: str, against: str) -> Callable[[Tables], Finding]:
    """How much less of its federated accuracy ``method`` loses to a bad node than ``against``."""

    def test(tables: Tables) -> Finding:
        clean, spoilt = tables("cifar10"), tables("robustness")
        figure = points("federated")
        less, more = (
            paired(clean[name].each(figure), spoilt[f"{name}, {noise}"].each(figure))
            for name in (method, against)
        )
        sample = Sample(tuple(paired(more, less).values()))
        said = f"{sample.mean:+.1f} ± {sample.half:.1f} points less lost" if sample.n > 1 else "-"
        return Finding(said, sample, judged(sample, 0.0), 0.0)

    return test


def _sooner(table: str, one: str, other: str) -> Callable[[Tables], Finding]:
    """How many local epochs before ``other`` is ``one`` where the worse of them ends?

    An accuracy counts from when the network is as small as it gets.
    """
    resolution = 1.0  # a log has a line an epoch

    def test(tables: Tables) -> Finding:
        rows = tables(table)
        values = []
        for seed in sorted(rows[one].runs.keys() & rows[other].runs.keys()):
            runs = [rows[name].runs[seed] for name in (one, other)]
            level = min(learning_curve(run)[-1].accuracy for run in runs)
            mine, theirs = (reached(run, level) for run in runs)
            assert mine is not None and theirs is not None  # both end there or above
            values.append(float(theirs.epochs - mine.epochs))
        sample = Sample(tuple(values))
        half = sample.half + resolution
        said = f"{sample.mean:+.1f} ± {half:.1f} epochs sooner" if sample.n > 1 else "-"
        return Finding(said, sample, judged(sample, 0.0, resolution), 0.0, "epochs")

    return test


def _no_common_measure(tables: Tables) -> Finding:
    """Said by hand: the ticket trains in one place, where a run records the end, not the way."""
    said = "the ticket has no rounds between nodes; of central training the end alone is recorded"
    return Finding(said, Sample(()), "untestable here", 0.0, "epochs")


def _shares(votes: Sample, everything: Sample, limit: float, seeds: int = LEAST_SEEDS) -> Finding:
    """The verdict on "less than ``limit`` per cent", of the votes alone and of all that is sent.

    *Partly* where the votes alone are. What is computed needs no ``seeds``.
    """
    if votes.n < seeds:
        return Finding("-", everything, "not run yet", limit, "per cent")
    within = [sample.mean < limit for sample in (votes, everything)]
    verdict: Verdict = "partly" if any(within) else "refuted here"
    if all(within):
        verdict = "reproduced"
    said = f"{votes.mean:.2g} % for the votes, {everything.mean:.2g} % with the final training"
    return Finding(said, everything, verdict, limit, "per cent")


def _traffic(limit: float) -> Callable[[Tables], Finding]:
    """Bytes over those of dense FedAvg, as recorded.

    Dense runs of any seed serve: the length of their messages does not depend on what is in them.
    """

    def test(tables: Tables) -> Finding:
        rows = tables("cifar10")
        dense = rows["dense FedAvg"].sample(lambda run: run.bytes_all)

        def share(figure: Callable[[Run], int]) -> Sample:
            sent = rows["vote"].sample(figure).values if dense.n else ()
            return Sample(tuple(100 * each / dense.mean for each in sent))

        votes, everything = share(lambda run: run.bytes_rounds), share(lambda run: run.bytes_all)
        return _shares(votes, everything, limit)

    return test


def _traffic_at_full_size(family: str, classes: int, images: int, limit: float) -> Finding:
    """Bytes over those of dense FedAvg, computed for the paper's network and rounds."""
    e = recipe(family, "paper")
    layout = blueprint(e.model, classes)
    plan, samples = Plan(layout, e.schedule, e.rounds), [images // e.nodes] * e.nodes
    rounds = e.federated_rounds
    # A random mask: how much of a ResNet's sums travels depends on which filters it keeps.
    last = masks.drawn(layout, plan.sparsity(e.rounds), rng_for(0, "traffic"))
    votes = bill("mpfl", plan, samples)
    votes_of = bill("fedavg", plan, samples, final_rounds=e.rounds)
    everything = bill("mpfl", plan, samples, w0="weights", final_rounds=rounds, mask=last)
    dense = bill("fedavg", plan, samples, w0="weights", final_rounds=rounds)
    return _shares(
        Sample((100 * votes.total / votes_of.total,)),
        Sample((100 * everything.total / dense.total,)),
        limit,
        seeds=1,
    )


PAPER = "Gez & Cohen 2023"
COMPUTED = "computed"

CLAIMS: tuple[Claim, ...] = (
    Claim(
        "traffic",
        "Less than 1 % of the traffic of traditional methods on a small data set.",
        PAPER,
        "cifar10",
        _traffic(1.0),
        "An accounting that leaves the final weights out, with a reason to.",
    ),
    Claim(
        "traffic-large",
        "Less than 0.001 % of the traffic on a large data set (ImageNet100 and ResNet18).",
        PAPER,
        COMPUTED,
        lambda tables: _traffic_at_full_size("imagenet100-resnet18", 100, 130_000, 1e-3),
        "As above.",
    ),
    Claim(
        "accuracy-lth",
        "Accuracy comparable to the lottery ticket, which sees all data in one place.",
        PAPER,
        "cifar10",
        _apart("cifar10", "vote", "LTH", "central", -MARGIN),
        f"More seeds or longer training: an interval that lies on one side of -{MARGIN:g}.",
    ),
    Claim(
        "accuracy-pruning-fl",
        "Accuracy comparable to federated pruning by averaged weights.",
        PAPER,
        "cifar10",
        _apart("cifar10", "vote", "pruning-FL", "federated", -MARGIN),
        "A final training long enough for both to level out: pruning-FL carries its weights on.",
    ),
    Claim(
        "accuracy-central",
        "Accuracy comparable to centralised learning of the whole network.",
        PAPER,
        "cifar10",
        _apart("cifar10", "vote", "dense, central", "central", -MARGIN),
        "A sparsity at which the gap closes; the table sparsity looks for it.",
    ),
    Claim(
        "lottery",
        "The vote keeps better filters than a lottery with the same counts (random w0).",
        "taken for granted by the paper",
        "cifar10",
        _apart("cifar10", "vote", "lottery", "central", 1.0),
        "A score or a local training after which the interval lies above one point.",
    ),
    Claim(
        "lottery-federated",
        "The same, when the network that is left is trained between the nodes.",
        "taken for granted by the paper",
        "cifar10",
        _apart("cifar10", "vote", "lottery", "federated", 1.0),
        "As above.",
    ),
    Claim(
        "lottery-sparse",
        "The vote keeps better filters than a lottery when 95 % of them go (random w0).",
        "taken for granted by the paper",
        "sparsity",
        _apart("sparsity", "vote, 19 rounds", "lottery, 19 rounds", "central", 1.0),
        "As above.",
    ),
    Claim(
        "lottery-network",
        "The vote keeps better filters than a lottery with its counts, where it ranks all layers "
        "together (random w0).",
        "taken for granted by the paper",
        "network",
        _apart("network", "vote over the network", "lottery, its counts", "central", 1.0),
        "As above.",
    ),
    Claim(
        "lottery-trained",
        "The vote keeps better filters than a lottery, from a trained w0.",
        "taken for granted by the paper",
        "pretrained",
        _apart("pretrained", "vote, l2", "lottery", "central", 1.0),
        "As above.",
    ),
    Claim(
        "messages",
        "The vote keeps better filters than the norms of w0, which need no message (trained w0).",
        "taken for granted by the paper",
        "pretrained",
        _apart("pretrained", "vote, l2", "w0 norms", "central", 1.0),
        "Nodes whose data differ so much that their votes do.",
    ),
    *(
        Claim(
            f"robust-{noise.split()[-1]}-{against.split()[-1].lower()}",
            f"A node with {noise} costs MPFL less than it costs {against}.",
            PAPER,
            "robustness",
            _drop("vote", noise, against),
            "More bad nodes, or a final training that leaves the bad node out.",
        )
        for noise in ("permuted labels", "shuffled pixels")
        for against in ("pruning-FL", "lottery")
    ),
    Claim(
        "little-by-little",
        "Pruning little by little with feedback does better than pruning at once.",
        PAPER,
        "schedules",
        _apart("cifar10", "vote", "one shot", "central", 0.0, beside="schedules"),
        "A schedule under which the interval lies on one side.",
    ),
    Claim(
        "imagenet100",
        "On ImageNet100 and ResNet18, accuracy comparable to pruning-FL.",
        PAPER,
        "imagenet100",
        _apart("imagenet100", "vote", "pruning-FL", "federated", -MARGIN),
        "The full-size set at the paper budget.",
    ),
    Claim(
        "imagenet100-lth",
        "On ImageNet100 and ResNet18, accuracy comparable to the lottery ticket.",
        PAPER,
        "imagenet100",
        _apart("imagenet100", "vote", "LTH", "central", -MARGIN),
        "As above.",
    ),
    Claim(
        "imagenet100-lottery",
        "On ImageNet100 and ResNet18, the vote keeps better filters than a lottery (random w0).",
        "taken for granted by the paper",
        "imagenet100",
        _apart("imagenet100", "vote", "lottery", "federated", 1.0),
        "As above.",
    ),
    Claim(
        "imagenet100-convergence",
        "On ImageNet100 and ResNet18, it takes no more local epochs than pruning-FL does to the "
        "accuracy that both reach.",
        PAPER,
        "imagenet100",
        _sooner("imagenet100", "vote", "pruning-FL"),
        "Nodes that send weights seldom, or a start that is trained.",
    ),
    Claim(
        "imagenet100-convergence-lth",
        "On ImageNet100 and ResNet18, it converges as fast as the lottery ticket.",
        PAPER,
        "imagenet100",
        _no_common_measure,
        "A log of central training, an accuracy an epoch, in every recorded run.",
    ),
    *(
        Claim(
            f"{name}-{training}",
            f"{text} ({training} training).",
            "this book",
            "improvement",
            _apart("improvement", "root, taylor", other, training, holds_from),
            change,
        )
        for training in TRAININGS
        for name, text, other, holds_from, change in (
            (
                "ours",
                "Ours: with fewer parameters and bytes, from one trained w0, counts by the root of "
                "a layer's width and a Taylor vote gain five points over the published method",
                "published",
                5.0,
                "Another network or data set, where equal shares are the better allocation.",
            ),
            (
                "ours-macs",
                "Ours: it beats the published counts at equal multiply-accumulates, too",
                "published counts, equal MACs",
                0.0,
                "As above.",
            ),
            (
                "ours-lottery",
                "Ours: its vote is worth a point over a lottery with the same counts",
                "lottery, root",
                1.0,
                "A longer final training, after which the start is forgotten.",
            ),
            (
                "ours-messages",
                "Ours: its vote is worth a point over the norms of w0, which need no message",
                "w0 norms, root",
                1.0,
                "A score that sees more of the nodes' data than one round of Taylor does.",
            ),
        )
    ),
)


def tested(results: Path = Path("data/results")) -> dict[str, Finding]:
    """Every claim tested on what is recorded, by its name."""
    tables = lru_cache(lambda table: rows_of(table, "laptop", results))
    return {claim.name: claim.test(tables) for claim in CLAIMS}
