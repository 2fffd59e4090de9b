"""The parts of an experiment, built: data, model, training, algorithm, nodes."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mpfl import data as datasets
from mpfl import masks, models, records
from mpfl.algorithm import Algorithm, Initialise, Local, Start
from mpfl.baselines.controls import random_masks, w0_norms
from mpfl.baselines.fedavg import fedavg
from mpfl.baselines.pruning_fl import pruning_fl
from mpfl.experiment import Experiment
from mpfl.filters import cut, expand
from mpfl.node import Plan, voter
from mpfl.prune import taylor
from mpfl.seeds import rng_for
from mpfl.server import masked_pruning
from mpfl.train import Settings, Shard, Trainer
from mpfl.types import Mask, MPFLError, Update, Weights


class Workbench:
    """The parts of an experiment, built once: data, model, layout, algorithm, nodes.

    ``on_epoch`` is told of every local epoch, for whoever shows progress.
    """

    def __init__(self, experiment: Experiment, root: Path = Path("data")) -> None:
        self.experiment = experiment
        self.on_epoch: Callable[[int, int], None] = lambda epoch, epochs: None
        size = {} if experiment.pixels is None else {"pixels": experiment.pixels}
        self.dataset = datasets.load(experiment.dataset, root, **size)
        self._small: dict[tuple[int, ...], Trainer] = {}
        self.layout = self.trainer.layout
        needs = self.layout.shapes[self.layout.layers[0].weight][1]
        if needs != (has := self.dataset.train_images.shape[1]):
            raise MPFLError(
                f"model {experiment.model!r} reads pictures of {needs} channels, but those of "
                f"{experiment.dataset!r} have {has}; choose another model or data set"
            )

    def _module(self, channels: list[int] | None = None) -> torch.nn.Module:
        e = self.experiment
        classes = len(self.dataset.classes)
        pixels = e.pixels or self.dataset.train_images.shape[-1]
        return models.build(e.model, classes, width=e.width, pixels=pixels, channels=channels)

    def _trainer(self, channels: list[int] | None = None) -> Trainer:
        module = self._module(channels)
        mean, std = self.dataset.mean, self.dataset.std
        e = self.experiment
        return Trainer(module, models.layout_of(module), mean, std, e.precision, e.pixels)

    @cached_property
    def trainer(self) -> Trainer:
        """Trains the model at full shapes with the mask held."""
        return self._trainer()

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
        images, labels = self.pooled.images.numpy(), self.pooled.labels.numpy()
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
    def start(self) -> Start:
        """w0, and the seed that carries it where it is a random initialisation."""
        e = self.experiment
        w0 = self.initialise(e.seed)
        if e.w0 == "random":
            return Start(w0, e.seed)
        module = self._module()
        models.load_weights(module, w0)
        return Start(models.pretrained_weights(e.model, module, e.w0))

    @property
    def initialise(self) -> Initialise:
        return lambda seed: models.initial_weights(self.trainer.module, seed)

    def local_train(
        self, weights: Weights, mask: Mask, data: Shard, rng: np.random.Generator
    ) -> Update:
        """A node's training in a mask round: full shapes, the mask held."""
        e = self.experiment
        return self.trainer.fit(
            weights,
            mask,
            data,
            rng,
            e.local,
            epochs=e.epochs,
            gradients=e.score is taylor,
            on_epoch=lambda epoch: self.on_epoch(epoch, e.epochs),
        )

    def train_small(
        self,
        weights: Weights,
        mask: Mask,
        data: Shard,
        rng: np.random.Generator,
        *,
        settings: Settings | None = None,
        epochs: int | None = None,
    ) -> Update:
        """Train the network that the mask leaves, cut out; weights go in and out at full shapes.

        A residual network is trained at full shapes with the mask held: the same function.
        """
        settings, epochs = settings or self.experiment.local, epochs or self.experiment.epochs

        def fit(trainer: Trainer, weights: Weights, mask: Mask) -> Update:
            notify = self.on_epoch
            return trainer.fit(
                weights,
                mask,
                data,
                rng,
                settings,
                epochs=epochs,
                on_epoch=lambda epoch: notify(epoch, epochs),
            )

        if not models.can_shrink(self.experiment.model):
            return fit(self.trainer, weights, mask)
        small = self._cut_trainer(mask)
        update = fit(small, cut(weights, mask, self.layout), masks.full(small.layout))
        return Update(expand(update.weights, mask, self.layout), metrics=update.metrics)

    def accuracy(self, weights: Weights, mask: Mask) -> float:
        """Share of the test data that the network left by ``mask`` classifies right."""
        if not models.can_shrink(self.experiment.model):
            return self.trainer.accuracy(weights, self.test)
        return self._cut_trainer(mask).accuracy(cut(weights, mask, self.layout), self.test)

    def _cut_trainer(self, mask: Mask) -> Trainer:
        channels = tuple(masks.kept(mask).values())
        if channels not in self._small:
            self._small = {channels: self._trainer(list(channels))}
        return self._small[channels]

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
        faulty = voter(self.plan, self.local_train, e.score, rewind=e.rewind, fault=e.voter_fault)
        return dict.fromkeys(range(e.noisy_nodes), faulty)

    @cached_property
    def plan(self) -> Plan:
        e = self.experiment
        return Plan(self.layout, e.schedule, e.rounds, e.scope, e.floor)

    def algorithm(self) -> Algorithm:
        """The method of the mask rounds. LTH is MPFL with one node that holds all the data."""
        e, plan, initialise = self.experiment, self.plan, self.initialise
        if e.method in ("random-masks", "w0-norms"):
            counts = None
            if e.match is not None:
                counts = records.kept_counts(Path(e.match), self.layout)
                counts(e.rounds)  # refuse a run that is too short now, not when it ends
            if e.method == "random-masks":
                return random_masks(plan, initialise, seed=e.seed, counts=counts)
            return w0_norms(plan, initialise, score=e.score, counts=counts)
        if e.method == "pruning-fl":
            return pruning_fl(plan, initialise, self.local_train, score=e.score)
        return masked_pruning(
            plan, initialise, self.local_train, score=e.score, vote=e.vote, rewind=e.rewind
        )

    def final_algorithm(self, mask: Mask, **how: Any) -> Algorithm:
        """Federated training of the network that ``mask`` leaves."""
        return fedavg(self.layout, self.initialise, self.train_small, mask=mask, **how)


def _shard(images: np.ndarray, labels: np.ndarray) -> Shard:
    return Shard(
        torch.from_numpy(np.ascontiguousarray(images)),
        torch.from_numpy(np.ascontiguousarray(labels)),
    )
