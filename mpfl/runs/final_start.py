"""What a final federated training begins from, and how that reaches the nodes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

from mpfl import masks, wire
from mpfl.algorithm import Initialise, LocalTrain, Start, State
from mpfl.baselines.controls import Counts
from mpfl.baselines.released_fl import CentreTrain
from mpfl.filters import Layout, apply, expand
from mpfl.node import Plan
from mpfl.types import Weights


class Parts(ABC):
    """The parts of an experiment that a method is built from.

    A :class:`~mpfl.runs.workbench.Workbench` has them.
    """

    experiment: Any
    layout: Layout

    @property
    @abstractmethod
    def plan(self) -> Plan:
        """What every party knows before the first round."""

    @property
    @abstractmethod
    def start(self) -> Start:
        """w0, and the seed that carries it."""

    @property
    @abstractmethod
    def initialise(self) -> Initialise:
        """How w0 is drawn."""

    @property
    @abstractmethod
    def trained(self) -> tuple[str, ...]:
        """The tensors that training changes step by step, by name."""

    @abstractmethod
    def local_training(self) -> LocalTrain:
        """What a node does with its data in a round, from the weights that it is given."""

    @abstractmethod
    def scored_training(self) -> LocalTrain:
        """The same from w0, with the gradients that the experiment's score asks for."""

    @abstractmethod
    def centre_training(self) -> CentreTrain:
        """The same at the party that has the data of all."""

    @abstractmethod
    def matched_counts(self) -> Counts | None:
        """The counts of the run that ``match`` names."""


class FinalStart(NamedTuple):
    """What the final federated training begins from, and how that reaches the nodes.

    ``messages`` are ``start`` and ``join`` of :func:`mpfl.baselines.fedavg.fedavg`; empty: as w0
    always does.
    """

    weights: Weights
    messages: Mapping[str, Callable[..., Any]]


def from_w0(bench: Parts, state: State) -> FinalStart:
    """Nodes that were not needed before are sent w0."""
    layout, begin = bench.layout, bench.start
    if begin.bits is None:
        return FinalStart(begin.w0, {})
    # All of it, as what a mask leaves is not what rounding leaves.
    message = wire.encode_rounded(begin.w0, layout, bits=begin.bits)
    return FinalStart(begin.w0, {"start": lambda state: message})


def from_consensus(bench: Parts, state: State) -> FinalStart:
    """Nodes hold w0 already, and wait for the last consensus."""
    layout, w0 = bench.layout, bench.start.w0
    last = bench.experiment.rounds + 1
    everything = masks.full(layout)

    def join(message: bytes) -> Weights:
        mask = wire.decode_mask(message, layout, last, reference=everything)
        return apply(w0, mask, layout)

    start = partial(_consensus_of, layout=layout, round_=last)
    return FinalStart(w0, {"start": start, "join": join})


def _consensus_of(state: State, *, layout: Any, round_: int) -> bytes:
    return wire.encode_consensus(state.mask, layout, round_)


def from_average(bench: Parts, state: State) -> FinalStart:
    """Nodes go on from the weights that the mask rounds averaged."""
    layout, mask = bench.layout, state.mask

    def start(state: State) -> bytes:
        return wire.encode_weights(state.weights, layout, 0, mask=mask)

    def join(message: bytes) -> Weights:
        return expand(wire.decode_weights(message, layout, 0, mask=mask)[0], mask, layout)

    return FinalStart(state.weights, {"start": start, "join": join})
