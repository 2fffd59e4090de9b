"""The parts of an experiment, built: data, model, training, algorithm, nodes."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool

from mpfl import data as datasets
from mpfl import wire
from mpfl.algorithm import Algorithm, Initialise, Local, LocalTrain, Start
from mpfl.baselines.controls import Counts
from mpfl.baselines.fedavg import fedavg
from mpfl.filters import apply
from mpfl.nets.networks import build
from mpfl.nets.settings import Settings
from mpfl.nets.shard import Shard
from mpfl.nets.start import initial_weights, pretrained_weights
from mpfl.nets.tensors import load_weights
from mpfl.nets.tracing import layout_of
from mpfl.nets.trainer import Trainer
from mpfl.node import Plan, Voter
from mpfl.prune import needs_gradients
from mpfl.runs.experiment import Experiment
from mpfl.runs.final_start import Parts
from mpfl.runs.naming import describe
from mpfl.runs.parties import Parties
from mpfl.runs.record import kept_counts
from mpfl.seeds import Rng, rng_for
from mpfl.simulation import take_turn
from mpfl.types import Answer, Mask, MPFLError, Reply, Weights

OnEpoch = Callable[[int], None]


class Trained(NamedTuple):
    """What a central training came to.

    ``right`` says of each test picture whether the network classifies it correctly, and
    ``accuracies``, 0-1, how many it did after each epoch.
    """

    weights: Weights
    right: Bool[np.ndarray, " pictures"]
    accuracies: tuple[float, ...]
    seconds: float

    @property
    def accuracy(self) -> float:
        """Share of the test pictures that it classifies correctly, 0-1."""
        return float(self.right.mean())


class Workbench(Parts):
    """The parts of an experiment, built once; ``on_epoch`` is called before every local epoch."""

    def __init__(
        self,
        experiment: Experiment,
        root: Path = Path("data"),
        *,
        on_epoch: OnEpoch = lambda epoch: None,
    ) -> None:
        self.experiment, self.on_epoch = experiment, on_epoch
        size = {} if experiment.pixels is None else {"pixels": experiment.pixels}
        self.dataset = datasets.load(experiment.dataset, root, **size)
        self.parties = Parties(experiment, self.dataset)
        self.layout = self.trainer.layout
        needs = self.layout.shapes[self.layout.layers[0].weight][1]
        if needs != (has := self.dataset.train_images.shape[1]):
            raise MPFLError(
                f"model {describe(experiment.model)!r} reads pictures of {needs} channels, but "
                f"those of {experiment.dataset!r} have {has}; choose another model or data set"
            )

    def _module(self) -> torch.nn.Module:
        e = self.experiment
        classes, pixels = len(self.dataset.classes), self.dataset.train_images.shape[-1]
        if not isinstance(e.model, str):
            return e.model(classes)
        return build(e.model, classes, width=e.width, pixels=e.pixels or pixels)

    @cached_property
    def trainer(self) -> Trainer:
        """Trains and evaluates the network that a mask leaves."""
        module, e = self._module(), self.experiment
        mean, std = self.dataset.mean, self.dataset.std
        layout, cuttable = layout_of(module, e.prunes), e.prunes == "filter"
        return Trainer(module, layout, mean, std, e.precision, e.pixels, compact=cuttable)

    @cached_property
    def start(self) -> Start:
        """w0, and the seed that carries it if it is a random initialisation."""
        e = self.experiment
        w0 = self.initialise(e.seed)
        if e.w0 == "random":
            return Start(w0, e.seed)
        module = self._module()
        load_weights(module, w0)
        return Start(pretrained_weights(describe(e.model), module, e.w0))

    @cached_property
    def initialise(self) -> Initialise:
        """How w0 is drawn; the last one is kept, as all who take part in a run ask for it."""
        return lru_cache(maxsize=1)(partial(initial_weights, self.trainer.module))

    def right(self, weights: Weights, mask: Mask) -> Bool[np.ndarray, " pictures"]:
        """Which test pictures the network left by ``mask`` classifies correctly."""
        return self.trainer.right(weights, mask, self.parties.test)

    def accuracy(self, weights: Weights, mask: Mask) -> float:
        """The share of them, 0-1."""
        return float(self.right(weights, mask).mean())

    def local_training(
        self,
        *,
        settings: Settings | None = None,
        epochs: int | None = None,
        fresh_head: bool = False,
        gradients: bool = False,
        on_epoch: OnEpoch | None = None,
        after_epoch: Callable[[torch.nn.Module], None] = lambda module: None,
    ) -> LocalTrain:
        """What a node does with its data in a round, unless told otherwise.

        It is :meth:`mpfl.nets.trainer.Trainer.fit` with the experiment's settings filled in.
        """
        settings = settings or self.experiment.local
        return partial(
            self.trainer.fit,
            settings=settings,
            epochs=epochs or self.experiment.epochs,
            validation=self.parties.test if settings.keep == "best" else None,
            fresh_head=fresh_head,
            gradients=gradients,
            on_epoch=on_epoch or self.on_epoch,
            after_epoch=after_epoch,
        )

    def scored_training(self) -> LocalTrain:
        """Local training from w0 whose result is scored: with gradients, if the score asks."""
        e = self.experiment
        return self.local_training(fresh_head=e.head == "fresh", gradients=needs_gradients(e.score))

    def train_centrally(self, mask: Mask, on_epoch: OnEpoch | None = None) -> Trained:
        """What ``mask`` leaves, trained from w0 on all data in one place."""
        e, began = self.experiment, time.perf_counter()
        accuracies: list[float] = []

        def test(module: torch.nn.Module) -> None:
            accuracies.append(float(self.trainer.classified(module, self.parties.test).mean()))

        train = self.local_training(
            settings=e.final,
            epochs=e.central_epochs,
            fresh_head=e.head == "fresh",
            on_epoch=on_epoch,
            after_epoch=test,
        )
        begin = apply(self.start.w0, mask, self.layout)
        update = train(begin, mask, self.parties.pooled, rng_for(e.seed, "central"))
        right = self.right(update.weights, mask)
        return Trained(update.weights, right, tuple(accuracies), time.perf_counter() - began)

    @property
    def final_seed(self) -> int:
        """The seed of the final federated training: the run's, or one of its own."""
        e = self.experiment
        if e.final_draws == "repeated":
            return e.seed
        return int(rng_for(e.seed, "final").integers(2**31))

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

    def behaviour(self) -> dict[int, Local]:
        """The nodes that vote otherwise than the method says."""
        e = self.experiment
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

        Raises now for a run that is too short, not when its last round is asked for.
        """
        e = self.experiment
        if e.match is None:
            return None
        counts = kept_counts(Path(e.match), self.layout)
        counts(e.rounds)
        return counts

    def final_algorithm(self, mask: Mask, **messages: Callable[..., Any]) -> Algorithm:
        """Federated training of the network that ``mask`` leaves."""
        e = self.experiment

        def averaged(train: LocalTrain) -> Algorithm:
            return fedavg(self.layout, self.initialise, train, mask=mask, **messages)

        constant = averaged(self.local_training())
        if e.federated_decay == "constant":
            return constant
        falling = replace(e.local, decay="cosine")

        def local(memory: Weights, message: bytes, data: Shard, rng: Rng) -> Answer:
            lr = falling.rate(wire.round_of(message) - 1, e.federated_rounds)
            train = self.local_training(settings=replace(e.local, lr=lr))
            return averaged(train).local(memory, message, data, rng)

        return replace(constant, local=local)

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
        if mask is None:
            data, seed = data or self.parties.trainers[node], self.experiment.seed
            local = self.behaviour().get(node, self.algorithm().local)
        else:
            data, seed = data or self.parties.nodes[node], self.final_seed
            local = self.final_algorithm(mask).local
        return take_turn(local, data, seed, round_, node, memory, message)
