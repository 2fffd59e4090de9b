"""Who holds which data in an experiment: the nodes, one party with all of it, and the test set."""

from __future__ import annotations

from functools import cached_property

import numpy as np
import torch

from mpfl.data import Dataset
from mpfl.nets.hardware import default_device
from mpfl.nets.shard import Shard
from mpfl.runs.experiment import Experiment
from mpfl.seeds import rng_for


class Parties:
    """The data of an experiment, dealt out; each part is made when it is first asked for."""

    def __init__(self, experiment: Experiment, dataset: Dataset) -> None:
        self.experiment, self.dataset = experiment, dataset

    @cached_property
    def pooled(self) -> Shard:
        """All training data in one place."""
        return self._some("train", self.dataset.train_images, self.dataset.train_labels)

    @cached_property
    def test(self) -> Shard:
        """The test data; a run on fewer images is tested on as many at most."""
        return self._some("test", self.dataset.test_images, self.dataset.test_labels)

    @cached_property
    def nodes(self) -> list[Shard]:
        """Each node's own data, spoilt if the experiment says so."""
        e = self.experiment
        images, labels = self.pooled.images.cpu().numpy(), self.pooled.labels.cpu().numpy()
        parts = e.partition(labels, e.nodes, rng_for(e.seed, "partition"))
        shards = []
        for node, part in enumerate(parts):
            own = images[part], labels[part]
            if e.data_noise is not None and node < e.noisy_nodes:
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

    @property
    def trainers(self) -> list[Shard]:
        """The data of those who train in the mask rounds."""
        who = self.experiment.method.trainers
        if who == "nobody":
            return []
        return [self.pooled] if who == "pooled" else self.nodes

    def _some(self, split: str, images: np.ndarray, labels: np.ndarray) -> Shard:
        if (count := self.experiment.images) is not None:
            rng = rng_for(self.experiment.seed, "images", split)
            chosen = rng.permutation(len(labels))[:count]
            images, labels = images[chosen], labels[chosen]
        return _shard(images, labels)


def _shard(images: np.ndarray, labels: np.ndarray) -> Shard:
    """Data where it is trained on: if there is a GPU, it is copied there once."""
    device = default_device()
    return Shard(
        torch.from_numpy(np.ascontiguousarray(images)).to(device),
        torch.from_numpy(np.ascontiguousarray(labels)).to(device),
    )
