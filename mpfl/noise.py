"""Noise: what goes wrong at a node, in its data or in its vote.

*Data noise* spoils one node's own data: ``(images, labels, classes, rng) -> (images,
labels)`` with images ``uint8 [n, c, h, w]`` and labels ``int [n]`` in ``0..classes-1``.
Laws: the inputs are never changed in place (what a noise leaves alone comes back as it
is); shapes and dtypes stay; equal generators give equal noise.

A *voter fault* replaces the mask that a node is about to send: ``(mask, alive, rng) ->
mask``, with ``mask`` the honest one and ``alive`` the consensus it must stay within.
Laws: the result stays within ``alive``, so it is a legal vote even where it leaves a
layer with nothing; the inputs are never changed. None of the faults is in the paper.

Each one is a frozen dataclass that is called like a function: equal parameters make equal
noise, and the ``repr`` is what a run's configuration records.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from mpfl.prune import keep_best
from mpfl.seeds import rng_for
from mpfl.types import Mask, MPFLError

Array: TypeAlias = np.ndarray
Pair: TypeAlias = tuple[np.ndarray, np.ndarray]
Rng: TypeAlias = np.random.Generator
DataNoise: TypeAlias = Callable[[Array, Array, int, Rng], Pair]
VoterFault: TypeAlias = Callable[[Mask, Mask, Rng], Mask]


def _check_data(where: str, images: Array, labels: Array, classes: int, least: int = 1) -> None:
    if images.dtype != np.uint8 or images.ndim != 4:
        raise MPFLError(
            f"{where}: images are {images.dtype}{list(images.shape)}, not uint8[n, c, h, w]; "
            "add the noise before the images are scaled"
        )
    if labels.shape != images.shape[:1] or labels.dtype.kind not in "iu":
        raise MPFLError(
            f"{where}: labels are {labels.dtype}{list(labels.shape)} for {len(images)} images; "
            "give one whole number an image"
        )
    if classes < least or (labels.size and not 0 <= labels.min() <= labels.max() < classes):
        raise MPFLError(
            f"{where}: {classes} classes do not do for labels {np.unique(labels)[:9].tolist()}; "
            f"give at least {least} classes, and labels in 0..classes-1"
        )


def check_vote(where: str, mask: Mask, alive: Mask) -> None:
    """Refuse, naming ``where``, a mask that is not within ``alive``, layer by layer."""
    for name in {**alive, **mask}:
        if name not in mask or name not in alive or mask[name].shape != alive[name].shape:
            raise MPFLError(
                f"{where}: mask and consensus differ in layer {name!r}; take both from one model"
            )
        if (mask[name] & ~alive[name]).any():
            raise MPFLError(
                f"{where}: the honest mask of layer {name!r} brings back pruned filters; "
                "hand over the mask that the node would send"
            )


@dataclass(frozen=True)
class permuted_labels:  # noqa: N801
    """The node has its classes mixed up, consistently: all its cats are called ships.

    One permutation of the classes without a fixed point is drawn, uniformly, and every
    label goes through it. Source: Gez & Cohen, arXiv 2312.03889; their released code also
    allows fixed points (one class on average stays right). Raises below two classes.
    """

    def __call__(self, images: Array, labels: Array, classes: int, rng: Rng) -> Pair:
        _check_data("permuted_labels", images, labels, classes, least=2)
        # About one permutation in e = 2.7 has no fixed point: draw until one comes.
        while ((mapped := rng.permutation(classes)) == np.arange(classes)).any():
            pass
        return images, mapped.astype(labels.dtype)[labels]


@dataclass(frozen=True)
class shuffled_pixels:  # noqa: N801
    """The node's images show nothing: each channel of each image is shuffled on its own.

    Every channel keeps its pixel values, so its histogram, but no shape survives.
    Source: Gez & Cohen, arXiv 2312.03889, and their released code.
    """

    def __call__(self, images: Array, labels: Array, classes: int, rng: Rng) -> Pair:
        _check_data("shuffled_pixels", images, labels, classes)
        n, c, h, w = images.shape
        return rng.permuted(images.reshape(n, c, h * w), axis=2).reshape(images.shape), labels


@dataclass(frozen=True)
class gaussian:  # noqa: N801
    """The node's camera is bad: every pixel gets normal noise of its own.

    ``sigma`` is the standard deviation, 0-1 from black to white; the result is rounded and
    clipped. Source: Hendrycks & Dietterich, arXiv 1903.12261. Raises for a negative sigma.
    """

    sigma: float

    def __post_init__(self) -> None:
        if not (self.sigma >= 0 and math.isfinite(self.sigma)):
            raise MPFLError(f"gaussian: sigma={self.sigma!r} is no deviation; give 0 or more")

    def __call__(self, images: Array, labels: Array, classes: int, rng: Rng) -> Pair:
        _check_data("gaussian", images, labels, classes)
        noisy = rng.standard_normal(images.shape, np.float32) * (255 * self.sigma) + images
        return np.clip(np.rint(noisy), 0, 255).astype(np.uint8), labels


@dataclass(frozen=True)
class label_noise:  # noqa: N801
    """The node labels carelessly: each label is wrong with probability ``rate``.

    A wrong label is any of the other classes, uniformly. Source: symmetric label noise, van
    Rooyen et al., NeurIPS 2015. Raises for a rate outside 0-1 and below two classes.
    """

    rate: float

    def __post_init__(self) -> None:
        if not 0 <= self.rate <= 1:
            raise MPFLError(f"label_noise: rate={self.rate!r} is no probability; give 0 to 1")

    def __call__(self, images: Array, labels: Array, classes: int, rng: Rng) -> Pair:
        _check_data("label_noise", images, labels, classes, least=2)
        wrong = rng.random(len(labels)) < self.rate
        other = (labels + rng.integers(1, classes, len(labels))) % classes
        return images, np.where(wrong, other, labels).astype(labels.dtype)


@dataclass(frozen=True)
class random_mask:  # noqa: N801
    """The node votes without looking: in each layer as many filters as it honestly keeps.

    They are drawn uniformly among those alive, so no count gives the node away.
    """

    def __call__(self, mask: Mask, alive: Mask, rng: Rng) -> Mask:
        check_vote("random_mask", mask, alive)
        return {
            name: keep_best(rng.random(bits.size), bits, int(mask[name].sum()))
            for name, bits in alive.items()
        }


@dataclass(frozen=True)
class inverted_mask:  # noqa: N801
    """The node votes against itself: for what it would drop, against what it would keep.

    Its count gives it away: where the honest mask drops nothing, this one keeps nothing.
    """

    def __call__(self, mask: Mask, alive: Mask, rng: Rng) -> Mask:
        check_vote("inverted_mask", mask, alive)
        return {name: bits & ~mask[name] for name, bits in alive.items()}


@dataclass(frozen=True)
class colluding_veto:  # noqa: N801
    """All colluders drop the same chosen filters and keep everything else alive.

    The choice is a ``share`` of each full layer, fixed by the ``seed`` that the colluders
    share: it depends neither on the round, nor on what any of them found honestly, nor on
    ``rng``. Law: with one seed, a larger share drops a superset. Raises for a share
    outside 0-1 and a negative seed.
    """

    share: float
    seed: int = 0

    def __post_init__(self) -> None:
        if not (0 <= self.share <= 1 and self.seed >= 0):
            raise MPFLError(f"{self!r}: give a share of 0 to 1 and a seed of 0 or more")

    def chosen(self, layer: str, filters: int) -> Array:
        """Which of a layer's filters are to go, ``bool [filters]``, rounded up."""
        count = math.ceil(self.share * filters - 1e-9)
        return rng_for(self.seed, "veto", layer).permutation(filters) < count

    def __call__(self, mask: Mask, alive: Mask, rng: Rng) -> Mask:
        check_vote("colluding_veto", mask, alive)
        return {name: bits & ~self.chosen(name, bits.size) for name, bits in alive.items()}


DATA_NOISES = {
    noise.__name__: noise for noise in (permuted_labels, shuffled_pixels, gaussian, label_noise)
}
VOTER_FAULTS = {fault.__name__: fault for fault in (random_mask, inverted_mask, colluding_veto)}
