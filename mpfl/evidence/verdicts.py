"""From recorded runs to a verdict, by a figure and a margin.

A verdict is a function of recorded runs and of a margin: none is written by hand except *untestable
here*, with its reason. ``MARGIN`` points of accuracy count as comparable. The interval is
Student's 95 % interval of the mean over seeds; below ``LEAST_SEEDS`` of them nothing is decided.
An *undecided* finding says how many seeds would decide it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from mpfl import masks
from mpfl.analysis.ledger import bill
from mpfl.evidence.curves import learning_curve, reached
from mpfl.evidence.power import MOST_SEEDS, seeds_beyond
from mpfl.evidence.samples import Endpoint, Row, Sample, difference, paired, points
from mpfl.nets.networks import blueprint
from mpfl.node import Plan
from mpfl.runs.recipes import recipe
from mpfl.runs.record import Run
from mpfl.seeds import rng_for

Verdict = Literal[
    "reproduced", "partly", "undecided", "refuted here", "untestable here", "not run yet"
]
Rows: TypeAlias = Mapping[str, Row]
Tables: TypeAlias = Callable[[str], Rows]

MARGIN = 2.0
LEAST_SEEDS = 3
NOTHING = "not run yet"


@dataclass(frozen=True)
class Finding:
    """What was measured, and the verdict: points of accuracy, per cent of traffic or epochs.

    ``holds_from`` is the value from which on the claim would hold; for traffic, the share below
    which it would; in a figure it is a line. ``resolution`` is as in :func:`judged`. Of traffic
    ``sample`` is that of all messages, and ``votes`` that of the votes alone.
    """

    figure: str
    sample: Sample
    verdict: Verdict
    holds_from: float
    unit: Literal["points", "per cent", "epochs"] = "points"
    resolution: float = 0.0
    votes: Sample = Sample(())

    @property
    def low(self) -> float:
        """The lower end of the interval that the verdict is about, ``resolution`` included."""
        return self.sample.low - self.resolution

    @property
    def high(self) -> float:
        """Its upper end, in the same way."""
        return self.sample.high + self.resolution

    @property
    def decided_by(self) -> int | None:
        """How many seeds in all would decide it, four times in five, if mean and spread stay.

        Always more than there are. None if the verdict is not *undecided*, or if even
        ``MOST_SEEDS`` would not: the mean is at the bar.
        """
        if self.verdict != "undecided":
            return None
        gap = abs(self.sample.mean - self.holds_from) - self.resolution
        return seeds_beyond(gap, self.sample.deviation)

    @property
    def in_words(self) -> str:
        """The verdict; if it is *undecided*, with the number of seeds that would decide it."""
        if self.verdict != "undecided":
            return self.verdict
        if self.decided_by is None:
            return f"undecided; not even n = {MOST_SEEDS:,} would decide it"
        return f"undecided; n = {self.decided_by:,} would decide it"


def judged(sample: Sample, holds_from: float, resolution: float = 0.0) -> Verdict:
    """A verdict on "the true value is at least ``holds_from``".

    *Reproduced* if the whole interval says so, *refuted here* if none of it does, *undecided*
    if it reaches to both sides. Values that come in steps of ``resolution`` widen the interval
    by one, as equal ones would leave it no width.
    """
    if sample.n < LEAST_SEEDS:
        return "not run yet"
    if sample.low - resolution >= holds_from:
        return "reproduced"
    return "refuted here" if sample.high + resolution < holds_from else "undecided"


def _known(sample: Sample, said: str) -> str:
    """What is said of a sample that has an interval; of a smaller one, how much of it there is."""
    return said if sample.n > 1 else "one seed, no interval" if sample.n else NOTHING


def points_apart(
    table: str, one: str, other: str, training: Endpoint, holds_from: float, beside: str = ""
) -> Callable[[Tables], Finding]:
    """The difference of two rows in accuracy; ``beside`` is another table that has the second."""

    def test(tables: Tables) -> Finding:
        second = tables(beside or table)[other]
        sample = difference(tables(table)[one], second, points(training))
        after = "federated, last five rounds" if training == "last five" else training
        said = f"{sample.mean:+.1f} ± {sample.half:.1f} points {after}"
        return Finding(_known(sample, said), sample, judged(sample, holds_from), holds_from)

    return test


def less_lost(method: str, noise: str, against: str) -> Callable[[Tables], Finding]:
    """How much less of its federated accuracy ``method`` loses to a bad node than ``against``."""

    def test(tables: Tables) -> Finding:
        clean, spoilt = tables("cifar10"), tables("robustness")
        figure = points("federated")
        less, more = (
            paired(clean[name].each(figure), spoilt[f"{name}, {noise}"].each(figure))
            for name in (method, against)
        )
        sample = Sample(tuple(paired(more, less).values()))
        said = f"loss smaller by {sample.mean:+.1f} ± {sample.half:.1f} points"
        return Finding(_known(sample, said), sample, judged(sample, 0.0), 0.0)

    return test


def epochs_sooner(table: str, one: str, other: str) -> Callable[[Tables], Finding]:
    """How many local epochs before ``other`` does ``one`` reach what the worse of them ends at?

    An accuracy counts from when the network is as small as it gets.
    """
    resolution = 1.0  # a log has a line per epoch

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
        said = f"{sample.mean:+.1f} ± {sample.half + resolution:.1f} epochs sooner"
        verdict = judged(sample, 0.0, resolution)
        return Finding(_known(sample, said), sample, verdict, 0.0, "epochs", resolution)

    return test


def no_common_measure(tables: Tables) -> Finding:
    """A hand-written verdict: of training in one place a run records the end, not the way."""
    said = "no rounds between nodes; for central training only the final accuracy is recorded"
    return Finding(said, Sample(()), "untestable here", 0.0, "epochs")


def _shares(votes: Sample, everything: Sample, limit: float, seeds: int = LEAST_SEEDS) -> Finding:
    """The verdict on "less than ``limit`` per cent", of the votes alone and of all that is sent.

    *Partly* if only the votes are. What is computed needs no ``seeds``.
    """
    if votes.n < seeds:
        return Finding(NOTHING, everything, "not run yet", limit, "per cent")
    within = [sample.mean < limit for sample in (votes, everything)]
    verdict: Verdict = "partly" if any(within) else "refuted here"
    if all(within):
        verdict = "reproduced"
    said = f"{votes.mean:.2g} % for the votes, {everything.mean:.2g} % with the final training"
    return Finding(said, everything, verdict, limit, "per cent", votes=votes)


def traffic_share(limit: float) -> Callable[[Tables], Finding]:
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


def traffic_at_full_size(family: str, classes: int, images: int, limit: float) -> Finding:
    """Bytes over those of dense FedAvg, computed for the paper's network and rounds."""
    e = recipe(family, "paper")
    layout = blueprint(str(e.model), classes, units=e.units)
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
