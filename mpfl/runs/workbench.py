"""The parts of an experiment, built: data, model, training, algorithm, nodes."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mpfl.nets.networks import build
from mpfl.nets.start import fresh_head, initial_weights, pretrained_weights
from mpfl.nets.tensors import load_weights
from mpfl.nets.tracing import layout_of
from mpfl.runs.record import kept_counts
from mpfl.algorithm import Algorithm, Initialise, Local, LocalTrain, Start
from mpfl.baselines.controls import random_masks, w0_norms
from mpfl.baselines.fedavg import fedavg
from mpfl.baselines.pruning_fl import pruning_fl
from mpfl.data.catalogue import load
from mpfl.runs.experiment import Experiment
from mpfl.filters import apply
from mpfl.node import Plan, voter
from mpfl.prune import taylor
from mpfl.seeds import rng_for
from mpfl.server import masked_pruning
from mpfl.simulation import take_turn
from mpfl.nets.hardware import default_device
from mpfl.nets.settings import Settings
from mpfl.nets.shard import Shard
from mpfl.nets.trainer import Trainer
from mpfl.types import Mask, MPFLError, Reply, Update, Weights


class Workbench:
    """The parts of an experiment, built once: data, model, layout, algorithm, nodes.

    ``on_epoch`` is told of every local epoch, for whoever shows progress.
    """

    def __init__(self, experiment: Experiment, root: Path = Path("data")) -> None:
        self.experiment = experiment
        self.on_epoch: Callable[[int, int], None] = lambda epoch, epochs: None
        size = {} if experiment.pixels is None else {"pixels": experiment.pixels}
        self.dataset = load(experiment.dataset, root, **size)
        self.layout = self.trainer.layout
        needs = self.layout.shapes[self.layout.layers[0].weight][1]
        if needs != (has := self.dataset.train_images.shape[1]):
            raise MPFLError(
                f"model {experiment.model!r} reads pictures of {needs} channels, but those of "
                f"{experiment.dataset!r} have {has}; choose another model or data set"
            )

    def _module(self) -> torch.nn.Module:
        e = self.experiment
        classes = len(self.dataset.classes)
        pixels = e.pixels or self.dataset.train_images.shape[-1]
        return build(e.model, classes, width=e.width, pixels=pixels)

    @cached_property
    def trainer(self) -> Trainer:
        """Trains and evaluates the network that a mask leaves."""
        module, e = self._module(), self.experiment
        mean, std = self.dataset.mean, self.dataset.std
        layout, cuttable = layout_of(module, e.prunes), e.prunes == "filter"
        return Trainer(module, layout, mean, std, e.precision, e.pixels, compact=cuttable)

    @cached_property
    def pooled(self) -> Shard:
        """All training data in one place."""
        return self._some("train", self.dataset.train_images, self.dataset.train_labels)

    @cached_property
    def test(self) -> Shard:
        """The test data; a run on fewer images is tested on as many at most."""
        return self._some("test", self.dataset.test_images, self.dataset.test_labels)

    def _some(self, split: str, images: np.ndarray, labels: np.ndarray) -> Shard:
        if (count := self.experiment.images) is not None:
            rng = rng_for(self.experiment.seed, "images", split)
            chosen = rng.permutation(len(labels))[:count]
            images, labels = images[chosen], labels[chosen]
        return _shard(images, labels)

    @cached_property
    def nodes(self) -> list[Shard]:
        """Each node's own data, spoilt where the experiment says so."""
        e = self.experiment
        images, labels = self.pooled.images.cpu().numpy(), self.pooled.labels.cpu().numpy()
        parts = e.partition(labels, e.nodes, rng_for(e.seed, "partition"))
        shards = []
        for node, part in enumerate(parts):
            own = images[part], labels[part]
            if node < e.noisy_nodes and e.data_noise is not None:
                rng = rng_for(e.seed, "noise", node)
                own = e.data_noise(*own, len(self.dataset.classes), rng)
            shards.append(_shard(*own))
        return shards

    @cached_property
    def node_tests(self) -> list[Shard]:
        """The test data, dealt to the nodes as the training data is."""
        e, test = self.experiment, self.test
        images, labels = test.images.cpu().numpy(), test.labels.cpu().numpy()
        parts = e.partition(labels, e.nodes, rng_for(e.seed, "partition", "test"))
        return [_shard(images[part], labels[part]) for part in parts]

    @cached_property
    def start(self) -> Start:
        """w0, and the seed that carries it where it is a random initialisation."""
        e = self.experiment
        w0 = self.initialise(e.seed)
        if e.w0 == "random":
            return Start(w0, e.seed)
        module = self._module()
        load_weights(module, w0)
        return Start(pretrained_weights(e.model, module, e.w0))

    @cached_property
    def initialise(self) -> Initialise:
        """How w0 is drawn; the last one is kept, as all who take part in a run ask for it."""
        return lru_cache(maxsize=1)(partial(initial_weights, self.trainer.module))

    def local_train(
        self,
        weights: Weights,
        mask: Mask,
        data: Shard,
        rng: np.random.Generator,
        *,
        settings: Settings | None = None,
        epochs: int | None = None,
        gradients: bool = False,
    ) -> Update:
        """Train what ``mask`` leaves; as a node does in a round, unless told otherwise."""
        e = self.experiment
        epochs, settings = epochs or e.epochs, settings or e.local
        return self.trainer.fit(
            weights,
            mask,
            data,
            rng,
            settings,
            epochs=epochs,
            validation=self.test if settings.keep == "best" else None,
            gradients=gradients,
            on_epoch=lambda epoch: self.on_epoch(epoch, epochs),
        )

    def train_from_w0(
        self, weights: Weights, mask: Mask, data: Shard, rng: np.random.Generator, **how: Any
    ) -> Update:
        """:meth:`local_train` from w0, with a head of its own where the experiment says so."""
        if self.experiment.head == "fresh":
            weights = fresh_head(self.trainer.module, weights, rng)
        return self.local_train(weights, mask, data, rng, **how)

    def _scored(self, train: Callable[..., Update]) -> LocalTrain:
        """Training whose result is scored: with gradients, where the score looks at them."""
        return partial(train, gradients=self.experiment.score is taylor)

    def accuracy(self, weights: Weights, mask: Mask) -> float:
        """Share of the test data that the network left by ``mask`` classifies right."""
        return self.trainer.accuracy(weights, mask, self.test)

    def train_centrally(self, mask: Mask) -> tuple[Weights, float, float]:
        """What ``mask`` leaves, trained from w0 on all data in one place.

        Returns the weights, the accuracy and the seconds it took.
        """
        began = time.perf_counter()
        update = self.train_from_w0(
            apply(self.start.w0, mask, self.layout),
            mask,
            self.pooled,
            rng_for(self.experiment.seed, "central"),
            settings=self.experiment.final,
            epochs=self.experiment.central_epochs,
        )
        accuracy = self.accuracy(update.weights, mask)
        return update.weights, accuracy, time.perf_counter() - began

    def mask_nodes(self) -> list[Shard]:
        """Who takes part in the mask rounds: the nodes, one with all data, or nobody."""
        if self.experiment.method == "lth":
            return [self.pooled]
        if self.experiment.method in ("random-masks", "w0-norms"):
            return []
        return self.nodes

    def behaviour(self) -> dict[int, Local]:
        """The nodes that vote otherwise than the method says."""
        e = self.experiment
        if e.voter_fault is None:
            return {}
        train = self._scored(self.train_from_w0)
        faulty = voter(self.plan, train, e.score, rewind=e.rewind, fault=e.voter_fault)
        return dict.fromkeys(range(e.noisy_nodes), faulty)

    @cached_property
    def plan(self) -> Plan:
        e = self.experiment
        return Plan(
            self.layout,
            e.schedule,
            e.rounds,
            e.scope,
            e.allocation,
            e.floor,
            e.coding,
            e.share_of,
            e.required,
        )

    def algorithm(self) -> Algorithm:
        """The method of the mask rounds. LTH is MPFL with one node that holds all the data."""
        e, plan, initialise = self.experiment, self.plan, self.initialise
        if e.method in ("random-masks", "w0-norms"):
            counts = None
            if e.match is not None:
                counts = kept_counts(Path(e.match), self.layout)
                counts(e.rounds)  # refuse a run that is too short now, not when it ends
            if e.method == "random-masks":
                return random_masks(plan, initialise, seed=e.seed, counts=counts)
            return w0_norms(plan, initialise, score=e.score, counts=counts)
        if e.method == "pruning-fl":
            return pruning_fl(plan, initialise, self._scored(self.local_train), score=e.score)
        train = self._scored(self.train_from_w0)
        return masked_pruning(plan, initialise, train, score=e.score, vote=e.vote, rewind=e.rewind)

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

        ``data`` are the node's own, where they are not its part of the data set.
        """
        if mask is None:
            data = data or self.mask_nodes()[node]
            local = self.behaviour().get(node, self.algorithm().local)
        else:
            data, local = data or self.nodes[node], self.final_algorithm(mask).local
        return take_turn(local, data, self.experiment.seed, round_, node, memory, message)

    def final_algorithm(self, mask: Mask, **how: Any) -> Algorithm:
        """Federated training of the network that ``mask`` leaves."""
        return fedavg(self.layout, self.initialise, self.local_train, mask=mask, **how)


def _shard(images: np.ndarray, labels: np.ndarray) -> Shard:
    """Data where it is trained on: on the GPU, where there is one, it is copied once."""
    device = default_device()
    return Shard(
        torch.from_numpy(np.ascontiguousarray(images)).to(device),
        torch.from_numpy(np.ascontiguousarray(labels)).to(device),
    )
