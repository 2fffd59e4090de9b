"""The methods that an experiment can run, each a value that says what is true of it.

Nothing else in the package asks which method it runs: it asks the value. So a reader's
own method, written in a notebook cell, runs like those here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from mpfl.algorithm import Algorithm, State
from mpfl.baselines.controls import iterated_norms, lottery, w0_norms
from mpfl.baselines.pruning_fl import pruning_fl
from mpfl.baselines.released_fl import released_fl
from mpfl.runs.final_start import FinalStart, Parts, from_average, from_consensus, from_w0
from mpfl.server import masked_pruning
from mpfl.types import one_of

Trainers: TypeAlias = Literal["nodes", "pooled", "nobody"]
"""Who trains in the mask rounds: the nodes, one party with all the data, or nobody."""


@dataclass(frozen=True)
class Method:
    """A way to come to a network.

    ``build`` makes the algorithm of the mask rounds from the parts of an experiment
    (:class:`Parts`); None: there are no mask rounds. ``trainers`` says
    who trains in them. A method without a ``wire`` sends nothing, and its network is trained in
    one place only; ``central=False`` leaves that training out. ``votes``: its nodes send ballots.
    ``server_scores``: filters are scored where there is no data, so that no score may ask for
    gradients. ``averages``: the state's weights are a trained model, tested after every round.
    ``copies_counts``: it can keep as many filters as another run did (``match``). ``draws_lots``:
    its masks are drawn, and another ``lot`` draws others.
    ``between_machines``: it also runs on Flower. ``final_start`` is what the final federated
    training begins from.

    >>> METHODS["lottery"].trainers, METHODS["lottery"].votes
    ('nobody', False)
    """

    name: str
    build: Callable[[Parts], Algorithm] | None = None
    trainers: Trainers = "nodes"
    wire: bool = True
    central: bool = True
    votes: bool = False
    server_scores: bool = False
    averages: bool = False
    copies_counts: bool = False
    draws_lots: bool = False
    between_machines: bool = False
    final_start: Callable[[Parts, State], FinalStart] = from_w0

    def __post_init__(self) -> None:
        one_of("trainers", self.trainers, get_args(Trainers))

    @property
    def has_mask_rounds(self) -> bool:
        """Whether filters are pruned at all; dense methods prune none."""
        return self.build is not None

    def __repr__(self) -> str:
        return self.name


def _mpfl(bench: Parts) -> Algorithm:
    e = bench.experiment
    train = bench.scored_training()
    return masked_pruning(
        bench.plan, bench.initialise, train, score=e.score, vote=e.vote, rewind=e.rewind
    )


def _pruning_fl(bench: Parts) -> Algorithm:
    e = bench.experiment
    train = bench.local_training()  # from the average, not from w0
    return pruning_fl(bench.plan, bench.initialise, train, score=e.score, seed=e.seed)


def _released_fl(bench: Parts) -> Algorithm:
    e = bench.experiment
    train, centre, w0 = bench.scored_training(), bench.centre_training(), bench.start.w0
    return released_fl(bench.plan, bench.initialise, train, centre, w0, score=e.score, seed=e.seed)


def _lottery(bench: Parts) -> Algorithm:
    e, counts = bench.experiment, bench.matched_counts()
    return lottery(bench.plan, bench.initialise, seed=e.seed, lot=e.lot, counts=counts)


def _w0_norms(bench: Parts) -> Algorithm:
    e, counts = bench.experiment, bench.matched_counts()
    return w0_norms(bench.plan, bench.initialise, score=e.score, seed=e.seed, counts=counts)


def _iterated_norms(bench: Parts) -> Algorithm:
    e, counts = bench.experiment, bench.matched_counts()
    return iterated_norms(bench.plan, bench.initialise, score=e.score, seed=e.seed, counts=counts)


MPFL = Method("mpfl", _mpfl, votes=True, between_machines=True, final_start=from_consensus)
"""Masked pruning by vote."""

PRUNING_FL = Method(
    "pruning-fl", _pruning_fl, server_scores=True, averages=True, final_start=from_average
)
"""The paper's baseline: weights are averaged, and the average is pruned."""

RELEASED_FL = Method("released-fl", _released_fl, averages=True, final_start=from_consensus)
"""The federated curve of the released code: weights are averaged, the centre's own are pruned."""

LTH = Method("lth", _mpfl, trainers="pooled", wire=False)
"""The lottery ticket: masked pruning with one node that holds all the data."""

FEDAVG = Method("fedavg", central=False, between_machines=True)
"""Federated averaging of the whole network."""

CENTRAL = Method("central", wire=False)
"""The whole network, trained in one place."""

LOTTERY = Method("lottery", _lottery, trainers="nobody", copies_counts=True, draws_lots=True)
"""A control: random masks of the same counts."""

W0_NORMS = Method("w0-norms", _w0_norms, trainers="nobody", server_scores=True, copies_counts=True)
"""A control: the largest filters of w0."""

ITERATED_NORMS = Method(
    "iterated-norms", _iterated_norms, trainers="nobody", server_scores=True, copies_counts=True
)
"""A control: round by round the largest filters of what is left of w0."""

METHODS: Mapping[str, Method] = {
    method.name: method
    for method in (
        MPFL,
        PRUNING_FL,
        RELEASED_FL,
        LTH,
        FEDAVG,
        CENTRAL,
        LOTTERY,
        W0_NORMS,
        ITERATED_NORMS,
    )
}
