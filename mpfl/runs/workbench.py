"""The parts of an experiment, built: on top of its trainings, the method and the nodes' turns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

from mpfl import wire
from mpfl.algorithm import Algorithm, Local, LocalTrain
from mpfl.analysis.faults import UpdateFault
from mpfl.baselines.controls import Counts
from mpfl.nets.shard import Shard
from mpfl.node import Plan, Voter
from mpfl.runs.record import kept_counts
from mpfl.runs.trainings import Trainings
from mpfl.seeds import Rng, rng_for
from mpfl.simulation import take_turn
from mpfl.types import Answer, Mask, MPFLError, Reply, Update, Weights


class Workbench(Trainings):
    """The parts of an experiment, built once."""

    @cached_property
    def plan(self) -> Plan:
        """What every party knows before the first round."""
        e = self.experiment
        return Plan(self.layout, e.schedule, e.rounds, e.quota, e.coding)

    def algorithm(self) -> Algorithm:
        """The algorithm of the mask rounds."""
        method = self.experiment.method
        if method.build is None:
            raise MPFLError(f"method {method.name!r} has no mask rounds; use final_algorithm")
        return method.build(self)

    def behaviour(self, mask: Mask | None = None) -> dict[int, Local]:
        """The nodes that vote, or train what ``mask`` leaves, otherwise than the method says."""
        e = self.experiment
        if mask is not None:
            if e.federated_fault is None:
                return {}
            spoilt = self.final_algorithm(mask, fault=e.federated_fault).local
            return dict.fromkeys(range(e.noisy_nodes), spoilt)
        if e.fault is None:
            return {}
        honest = self.algorithm().local
        if not isinstance(honest, Voter):
            raise MPFLError(
                f"method {e.method.name!r} has no Voter whose vote a fault could change"
            )
        return dict.fromkeys(range(e.noisy_nodes), replace(honest, fault=e.fault))

    def matched_counts(self) -> Counts | None:
        """``round -> filters each layer keeps`` of the run that ``match`` names, if it does.

        Raises now for a run that is too short, not when its last round is asked for; one that
        ``stop_above`` ended early is as long as its control will be.
        """
        e = self.experiment
        if e.match is None:
            return None
        counts = kept_counts(Path(e.match), self.layout)
        counts(e.rounds if e.stop_above is None else 1)
        return counts

    def seed_of(self, mask: Mask | None) -> int:
        """The seed of the mask rounds, or of training what ``mask`` leaves, maybe its own."""
        e = self.experiment
        if mask is None or e.final_draws == "repeated":
            return e.seed
        return int(rng_for(e.seed, "final").integers(2**31))

    def final_algorithm(
        self, mask: Mask, fault: UpdateFault | None = None, **messages: Callable[..., Any]
    ) -> Algorithm:
        """Federated training of the network that ``mask`` leaves, by nodes with a ``fault``."""
        e = self.experiment
        own = replace(
            e.local,
            lr=e.federated_lr or e.local.lr,
            steps=e.federated_steps or e.local.steps,
        )
        falling = replace(own, decay=e.federated_decay)

        def trained(lr: float) -> Algorithm:
            train = self.local_training(settings=replace(own, lr=lr))
            if fault is not None:
                train = self._spoilt(train, fault)
            return e.federated.algorithm(self, mask, train, messages)

        def local(memory: Weights, message: bytes, data: Shard, rng: Rng) -> Answer:
            lr = falling.rate(wire.round_of(message) - 1, e.federated_rounds)
            return trained(lr).local(memory, message, data, rng)

        return replace(trained(own.lr), local=local)

    def _spoilt(self, train: LocalTrain, fault: UpdateFault) -> LocalTrain:
        """Training whose result is another than it pretends; statistics stay honest."""

        def spoilt(weights: Weights, mask: Mask, data: Shard, rng: Rng) -> Update:
            update = train(weights, mask, data, rng)
            before, after = ({n: w[n] for n in self.trained} for w in (weights, update.weights))
            return replace(update, weights={**update.weights, **fault(before, after, rng)})

        return spoilt

    def turn(
        self,
        mask: Mask | None,
        round_: int,
        node: int,
        memory: Weights,
        message: bytes,
        data: Shard | None = None,
    ) -> Reply:
        """A node's turn, wherever it runs: in a mask round, or in training what ``mask`` leaves.

        ``data`` are the node's own, if they are not its part of the data set.
        """
        usual = self.algorithm() if mask is None else self.final_algorithm(mask)
        local = self.behaviour(mask).get(node, usual.local)
        if data is None:
            data = (self.parties.trainers if mask is None else self.parties.nodes)[node]
        return take_turn(local, data, self.seed_of(mask), round_, node, memory, message)
