"""Who holds which data in an experiment: the nodes, one party with all of it, and the test set."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
import torch

from mpfl.data import Dataset
from mpfl.data.noise import DataNoise
from mpfl.data.partition import dealt_alike
from mpfl.nets.hardware import default_device
from mpfl.nets.shard import Shard
from mpfl.runs.experiment import Experiment
from mpfl.seeds import rng_for
from mpfl.types import MPFLError


class Parties:
    """The data of an experiment, dealt out; each part is made when it is first asked for."""

    def __init__(self, experiment: Experiment, dataset: Dataset) -> None:
        self.experiment, self.dataset = experiment, dataset
        there = len(dataset.train_labels)
        if (experiment.images or 0) > there:
            raise MPFLError(
                f"images is {experiment.images}, but {dataset.name!r} has {there} training images; "
                "ask for fewer, or leave images at None"
            )

    @cached_property
    def whole(self) -> Shard:
        """All training data as it came."""
        return self._some("train", self.dataset.train_images, self.dataset.train_labels)

    @cached_property
    def alone(self) -> Shard:
        """All training data, as a party has it that holds no other: a part held out, maybe."""
        return self._held_out(self.whole, 0)

    @cached_property
    def pooled(self) -> Shard:
        """What one party trains on for all: clean data, or the nodes' own, put together."""
        e = self.experiment
        if e.pooled == "clean" and not e.validation:
            return self.whole
        return _joined(self.nodes if e.pooled == "nodes" else self._dealt(None))

    @cached_property
    def test(self) -> Shard:
        """The test data; a run on fewer images is tested on as many at most."""
        return self._some("test", self.dataset.test_images, self.dataset.test_labels)

    @cached_property
    def nodes(self) -> list[Shard]:
        """Each node's own data, spoilt if the experiment says so; what it holds out as well."""
        return self._dealt(self.experiment.data_noise)

    @cached_property
    def _parts(self) -> list[np.ndarray]:
        """Which of the training pictures each node holds, as places."""
        e, labels = self.experiment, self.whole.labels.cpu().numpy()
        parts = e.partition(labels, e.nodes, rng_for(e.seed, "partition"))
        every = np.sort(np.concatenate(parts)) if len(parts) == e.nodes else np.zeros(0)
        if not np.array_equal(every, np.arange(len(labels))):
            raise MPFLError(
                f"partition {e.partition}: give {e.nodes} lists of places in which each of the "
                f"{len(labels)} images stands once"
            )
        return parts

    def _dealt(self, noise: DataNoise | None) -> list[Shard]:
        e = self.experiment
        images, labels = self.whole.images.cpu().numpy(), self.whole.labels.cpu().numpy()
        shards = []
        for node, part in enumerate(self._parts):
            own = self._held_out(_shard(images[part], labels[part]), node)
            if noise is not None and node < e.noisy_nodes:
                # Apart: a noise may repeat pictures, and what is held out is not trained on.
                held = own.validation and self._spoilt(own.validation, noise, node)
                own = replace(self._spoilt(own, noise, node), validation=held)
            shards.append(own)
        return shards

    def _spoilt(self, own: Shard, noise: DataNoise, node: int) -> Shard:
        """A node's pictures under a noise, which draws alike for all that it holds."""
        images, labels = own.images.cpu().numpy(), own.labels.cpu().numpy()
        rng, classes = rng_for(self.experiment.seed, "noise", node), len(self.dataset.classes)
        spoilt = noise(images.copy(), labels.copy(), classes, rng)
        _check_spoilt(noise, spoilt, images, labels, classes)
        return _shard(*spoilt)

    def _held_out(self, own: Shard, node: int) -> Shard:
        """A party's data without the share that it holds out, which is beside it."""
        if not (share := self.experiment.validation):
            return own
        count = max(1, round(share * len(own)))
        if len(own) - count < 2:
            raise MPFLError(
                f"node {node}: of {len(own)} images {count} are held out for validation, and too "
                "few are left to train on; use fewer nodes, or a smaller validation"
            )
        order = rng_for(self.experiment.seed, "validation", node).permutation(len(own))
        held, left = (torch.from_numpy(np.sort(part)) for part in np.split(order, [count]))
        return replace(own.take(left), validation=own.take(held))

    @cached_property
    def node_tests(self) -> list[Shard]:
        """The test data, dealt so that a node is judged on what it holds, class by class.

        Small data sets may leave a node with nothing.
        """
        test = self.test
        images, labels = test.images.cpu().numpy(), test.labels.cpu().numpy()
        held, rng = self.whole.labels.cpu().numpy(), rng_for(self.experiment.seed, "test")
        parts = dealt_alike(self._parts, held, labels, rng)
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


def _check_spoilt(
    noise: DataNoise, spoilt: Any, images: np.ndarray, labels: np.ndarray, classes: int
) -> None:
    """Refuse what is not data of this node any more: anybody may have written the noise."""
    new_images, new_labels = (np.asarray(part) for part in spoilt)
    alike = new_images.shape == images.shape and new_images.dtype == images.dtype
    alike &= new_labels.shape == labels.shape and new_labels.dtype.kind in "iu"
    if not alike or (new_labels.size and not 0 <= new_labels.min() <= new_labels.max() < classes):
        raise MPFLError(
            f"data noise {noise}: it gave images {new_images.dtype}{list(new_images.shape)} and "
            f"labels {new_labels.dtype}{list(new_labels.shape)}; shapes, the type of the images "
            f"and labels within 0..{classes - 1} must stay"
        )


def _joined(shards: list[Shard]) -> Shard:
    """All parties' data in one place, and all that they hold out in another."""
    held = [shard.validation for shard in shards if shard.validation is not None]
    return Shard(
        torch.cat([shard.images for shard in shards]),
        torch.cat([shard.labels for shard in shards]),
        _joined(held) if held else None,
    )


def _shard(images: np.ndarray, labels: np.ndarray) -> Shard:
    """Data where it is trained on: if there is a GPU, it is copied there once."""
    device = default_device()
    return Shard(
        torch.from_numpy(np.ascontiguousarray(images)).to(device),
        torch.from_numpy(np.ascontiguousarray(labels)).to(device),
    )
