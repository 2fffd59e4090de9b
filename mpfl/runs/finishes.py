"""How the network that the votes leave is trained between the nodes: by averages, or by votes."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from mpfl import wire
from mpfl.algorithm import Algorithm, LocalTrain
from mpfl.analysis.privacy import chance_true
from mpfl.baselines.fedavg import decode_replies, fedavg
from mpfl.baselines.quantised import decode_steps, quantised_average
from mpfl.baselines.server_steps import (
    ServerStep,
    adam_step,
    mean_step,
    momentum_step,
    require_rate,
    require_share,
    require_tau,
)
from mpfl.filters import cut_shapes
from mpfl.nets.settings import LARGEST_FLOAT32
from mpfl.runs.final_start import Parts
from mpfl.scaled_votes import decode_lengths, scaled_votes
from mpfl.sign_votes import Directions, Per, decode_directions, sign_votes, statistics_due
from mpfl.types import Mask, MPFLError, Reply, at_least, require_bool

Messages: TypeAlias = Mapping[str, Callable[..., Any]]
"""``start`` and ``join``, where the start of a training reaches the nodes in its own way."""


class Finish(ABC):
    """A way to train between the nodes what a mask leaves."""

    @abstractmethod
    def algorithm(
        self, parts: Parts, mask: Mask, local_train: LocalTrain, messages: Messages
    ) -> Algorithm:
        """The algorithm; ``messages`` replace how its start reaches the nodes."""

    @abstractmethod
    def read(self, parts: Parts, mask: Mask, round_: int, reply: Reply) -> None:
        """Raise :class:`~mpfl.types.MPFLError` for a reply that the algorithm would not take."""

    @abstractmethod
    def longest(self, parts: Parts, mask: Mask) -> int:
        """How many bytes a reply takes at most."""

    @property
    def per(self) -> Per | None:
        """What has a length or a scale of its own in every message, if anything has."""
        return None


@dataclass(frozen=True)
class by_average(Finish):
    """Weights are sent, and averaged: federated averaging (McMahan et al. 2017)."""

    def algorithm(
        self, parts: Parts, mask: Mask, local_train: LocalTrain, messages: Messages
    ) -> Algorithm:
        """:func:`~mpfl.baselines.fedavg.fedavg` of the network that ``mask`` leaves."""
        server = self.server(parts)
        return fedavg(
            parts.layout, parts.initialise, local_train, mask=mask, server=server, **messages
        )

    def server(self, parts: Parts) -> ServerStep:
        """What the server makes of the mean: it takes it."""
        return mean_step

    def read(self, parts: Parts, mask: Mask, round_: int, reply: Reply) -> None:
        """Weights of the small network, and how many samples are behind them."""
        decode_replies([reply], parts.start.w0, parts.layout, round_, mask)

    def longest(self, parts: Parts, mask: Mask) -> int:
        """Its weights, and the longest number of samples."""
        return wire.weights_length(cut_shapes(parts.layout, mask), samples=2**63 - 1)


@dataclass(frozen=True)
class by_average_with_momentum(by_average):
    """The same messages, and a server with momentum: FedAvgM (Hsu et al., arXiv 1909.06335)."""

    rate: float = 1.0
    momentum: float = 0.9

    def __post_init__(self) -> None:
        require_rate(self.rate)
        require_share("momentum", self.momentum)

    def server(self, parts: Parts) -> ServerStep:
        """:func:`~mpfl.baselines.server_steps.momentum_step` on all that training changes."""
        return momentum_step(parts.trained, rate=self.rate, momentum=self.momentum)


@dataclass(frozen=True)
class by_average_with_adam(by_average):
    """The same messages, and a server with Adam: FedAdam (Reddi et al., arXiv 2003.00295).

    With a momentum of 0.9 and a memory of 0.99. The rate falls by a cosine to 0 over all rounds if
    ``falling``, which is not in the paper.
    """

    rate: float = 0.004
    tau: float = 0.001
    falling: bool = True

    def __post_init__(self) -> None:
        require_rate(self.rate)
        require_tau(self.tau)
        require_bool("falling", self.falling)

    def server(self, parts: Parts) -> ServerStep:
        """:func:`~mpfl.baselines.server_steps.adam_step` on all that training changes."""
        rounds = parts.experiment.federated_rounds
        return adam_step(
            parts.trained,
            rate=lambda round_: cosine(self.rate, round_, rounds) if self.falling else self.rate,
            tau=self.tau,
        )


def cosine(first: float, round_: int, rounds: int) -> float:
    """``first`` in round 1, and then by a cosine to 0, rounded to be the same on every machine.

    >>> [cosine(0.004, round_, 4) for round_ in (1, 2, 3, 4)]
    [0.004, 0.00341421, 0.002, 0.000585786]
    """
    share = 0.5 * (1 + math.cos(math.pi * (round_ - 1) / rounds))
    return float(f"{first * share:.6g}")


@dataclass(frozen=True)
class by_sign_votes(Finish):
    """One bit per weight is sent, both ways: votes on directions (:mod:`mpfl.sign_votes`).

    The first step is ``eta`` long, and the others fall by a cosine to 0 over all rounds. Running
    statistics are averaged in each ``every``-th round, and in the last.
    """

    eta: float = 0.004
    every: int = 10

    def __post_init__(self) -> None:
        if not 0 < self.eta <= LARGEST_FLOAT32:
            raise MPFLError(f"eta is {self.eta}; give a positive number, such as 0.004")
        at_least("every", self.every, 1)

    @property
    def lie(self) -> float:
        """With which chance a node turns a direction round before it sends it."""
        return 0.0

    def length(self, round_: int, rounds: int) -> float:
        """How long the step of a round is."""
        return cosine(self.eta, round_, rounds)

    def algorithm(
        self, parts: Parts, mask: Mask, local_train: LocalTrain, messages: Messages
    ) -> Algorithm:
        """:func:`~mpfl.sign_votes.sign_votes` on every weight that training changes."""
        rounds = parts.experiment.federated_rounds
        return sign_votes(
            parts.layout,
            parts.initialise,
            local_train,
            mask=mask,
            voted=parts.trained,
            length=lambda round_: self.length(round_, rounds),
            averages=_averages(parts, self.every),
            lie=self.lie,
            **messages,
        )

    def read(self, parts: Parts, mask: Mask, round_: int, reply: Reply) -> None:
        """A bit for each weight of the small network, and statistics if they are due."""
        them = Directions(parts.layout, mask, parts.trained)
        decode_directions([reply], parts.start.w0, them, round_, _averages(parts, self.every))

    def longest(self, parts: Parts, mask: Mask) -> int:
        """The bits, with statistics behind them."""
        them = Directions(parts.layout, mask, parts.trained)
        return wire.signs_length(them.numbers, statistics=them.others(parts.start.w0))


@dataclass(frozen=True)
class by_private_sign_votes(by_sign_votes):
    """The same, but each bit is turned round with chance ``1 / (1 + e^epsilon)``.

    Randomised response (:mod:`mpfl.analysis.privacy`). What it promises is per bit: over the
    weights and rounds of a training it adds up to far more
    (:func:`~mpfl.analysis.privacy.epsilon_total`), and the statistics are sent as they are.
    """

    epsilon: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        chance_true(self.epsilon)

    @property
    def lie(self) -> float:
        """As :func:`~mpfl.analysis.privacy.chance_true` leaves."""
        return 1 - chance_true(self.epsilon)


@dataclass(frozen=True)
class by_scaled_votes(Finish):
    """One bit per weight, and a length per tensor, both ways (:mod:`mpfl.scaled_votes`).

    A step is as long as the median node says. With ``feedback`` a node adds to a round what the
    round before could not say. Running statistics are averaged as in :class:`by_sign_votes`.
    """

    feedback: bool = True
    every: int = 10

    def __post_init__(self) -> None:
        require_bool("feedback", self.feedback)
        at_least("every", self.every, 1)

    @property
    def muting(self) -> bool:
        """Whether nodes that contradict the others do not count."""
        return False

    @property
    def per(self) -> Per:
        """Each tensor has a length."""
        return "tensor"

    def algorithm(
        self, parts: Parts, mask: Mask, local_train: LocalTrain, messages: Messages
    ) -> Algorithm:
        """:func:`~mpfl.scaled_votes.scaled_votes` on every weight that training changes."""
        return scaled_votes(
            parts.layout,
            parts.initialise,
            local_train,
            mask=mask,
            voted=parts.trained,
            feedback=self.feedback,
            averages=_averages(parts, self.every),
            per=self.per,
            mute=self.muting,
            **messages,
        )

    def read(self, parts: Parts, mask: Mask, round_: int, reply: Reply) -> None:
        """A bit for each weight, the lengths, and statistics if they are due."""
        them, averages = Directions(parts.layout, mask, parts.trained), _averages(parts, self.every)
        decode_lengths([reply], parts.start.w0, them, self.per, round_, averages)

    def longest(self, parts: Parts, mask: Mask) -> int:
        """The bits and lengths, with statistics behind them."""
        them = Directions(parts.layout, mask, parts.trained)
        more = len(them.sizes(self.per)) + them.others(parts.start.w0)
        return wire.signs_length(them.numbers, statistics=more)


@dataclass(frozen=True)
class by_muting_scaled_votes(by_scaled_votes):
    """The same, but nodes that contradict the others more often than not do not count.

    How often is added up over all rounds (:func:`mpfl.scaled_votes.standings`). Bad nodes have to
    be at least two fewer than the others, and each to make its own mistakes: nodes that conspire
    can have honest ones muted. Those that count are always more than half.
    """

    @property
    def muting(self) -> bool:
        """They do not."""
        return True


@dataclass(frozen=True)
class by_channel_scaled_votes(by_scaled_votes):
    """The same, but with a length per channel: a row of a matrix or conv, or a whole vector.

    So a filter that has learnt moves less than its neighbours. With ``muting``, nodes that
    contradict the others do not count, as in :class:`by_muting_scaled_votes`.
    """

    muting: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        require_bool("muting", self.muting)

    @property
    def per(self) -> Per:
        """Each channel has a length."""
        return "channel"


@dataclass(frozen=True)
class by_quantised_average(Finish):
    """The nodes' steps are averaged in a few bits per weight, both ways.

    See :mod:`mpfl.baselines.quantised`. ``bits`` are 2 to 8. With ``feedback`` what rounding loses
    is added in the next round. Running statistics are averaged as in :class:`by_sign_votes`.
    """

    bits: int = 8
    feedback: bool = False
    every: int = 10

    def __post_init__(self) -> None:
        wire.highest_level(self.bits)
        require_bool("feedback", self.feedback)
        at_least("every", self.every, 1)

    @property
    def per(self) -> Per:
        """Each channel has a scale."""
        return "channel"

    def algorithm(
        self, parts: Parts, mask: Mask, local_train: LocalTrain, messages: Messages
    ) -> Algorithm:
        """:func:`~mpfl.baselines.quantised.quantised_average` of all that training changes."""
        return quantised_average(
            parts.layout,
            parts.initialise,
            local_train,
            mask=mask,
            sent=parts.trained,
            bits=self.bits,
            feedback=self.feedback,
            averages=_averages(parts, self.every),
            **messages,
        )

    def read(self, parts: Parts, mask: Mask, round_: int, reply: Reply) -> None:
        """A level for each weight of the small network, and statistics if they are due."""
        them, averages = Directions(parts.layout, mask, parts.trained), _averages(parts, self.every)
        decode_steps([reply], parts.start.w0, them, round_, self.bits, averages)

    def longest(self, parts: Parts, mask: Mask) -> int:
        """The levels, with statistics behind them."""
        them = Directions(parts.layout, mask, parts.trained)
        channels = len(them.sizes("channel"))
        more = them.others(parts.start.w0)
        return wire.levels_length(them.numbers, channels, bits=self.bits, statistics=more)


def _averages(parts: Parts, every: int) -> Callable[[int], bool]:
    """In which rounds running statistics are averaged."""
    rounds = parts.experiment.federated_rounds
    return lambda round_: statistics_due(round_, rounds, every)


FINISHES = {
    "by_average": by_average,
    "by_average_with_momentum": by_average_with_momentum,
    "by_average_with_adam": by_average_with_adam,
    "by_sign_votes": by_sign_votes,
    "by_private_sign_votes": by_private_sign_votes,
    "by_scaled_votes": by_scaled_votes,
    "by_muting_scaled_votes": by_muting_scaled_votes,
    "by_channel_scaled_votes": by_channel_scaled_votes,
    "by_quantised_average": by_quantised_average,
}
