"""Data noise: what spoils a node's own data.

A *noise* is ``(images, labels, classes, rng) -> (images, labels)`` with images
``uint8 [n, c, h, w]`` and labels ``int [n]`` in ``0..classes-1``. Each one is a frozen
dataclass that is called like a function.

Laws, for every noise: the inputs are never changed in place (what a noise leaves alone is
returned as it is); shapes and dtypes stay; equal generators give equal noise. Every noise raises
:class:`~mpfl.types.MPFLError` for images and labels that are not of this form.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from mpfl.seeds import Rng
from mpfl.types import MPFLError

Array: TypeAlias = np.ndarray
Pair: TypeAlias = tuple[np.ndarray, np.ndarray]
DataNoise: TypeAlias = Callable[[Array, Array, int, Rng], Pair]


def _check_data(where: str, images: Array, labels: Array, classes: int, least: int = 1) -> None:
    for what, value in (("images", images), ("labels", labels)):
        if not isinstance(value, np.ndarray):
            raise MPFLError(f"{where}: {what} are a {type(value).__name__}; give a numpy array")
    if images.dtype != np.uint8 or images.ndim != 4:
        raise MPFLError(
            f"{where}: images are {images.dtype}{list(images.shape)}, not uint8[n, c, h, w]; "
            "add the noise before the images are scaled"
        )
    if labels.shape != images.shape[:1] or labels.dtype.kind not in "iu":
        raise MPFLError(
            f"{where}: labels are {labels.dtype}{list(labels.shape)} for {len(images)} images; "
            "give one whole number per image"
        )
    if classes < least or (labels.size and not 0 <= labels.min() <= labels.max() < classes):
        raise MPFLError(
            f"{where}: {classes} classes do not do for labels {np.unique(labels)[:9].tolist()}; "
            f"give at least {least} classes, and labels in 0..classes-1"
        )


@dataclass(frozen=True)
class permuted_labels:
    """The node has its classes mixed up, consistently: it calls all its cats ships.

    >>> from mpfl.seeds import rng_for
    >>> images = np.zeros((4, 1, 2, 2), np.uint8)
    >>> _, labels = permuted_labels()(images, np.array([0, 1, 2, 0]), 3, rng_for(0))
    >>> labels.tolist()
    [1, 2, 0, 1]

    One permutation of the classes without a fixed point is drawn, uniformly, and applied to
    every label. Raises below two classes. Source: Gez & Cohen, arXiv 2312.03889; their released
    code also allows fixed points (one class on average stays right).
    """

    def __call__(self, images: Array, labels: Array, classes: int, rng: Rng) -> Pair:
        _check_data("permuted_labels", images, labels, classes, least=2)
        # About one permutation in e = 2.7 has no fixed point: draw until one comes.
        while ((mapped := rng.permutation(classes)) == np.arange(classes)).any():
            pass
        return images, mapped.astype(labels.dtype)[labels]


@dataclass(frozen=True)
class shuffled_pixels:
    """The node's images show nothing: each channel of each image is shuffled on its own.

    >>> from mpfl.seeds import rng_for
    >>> images = np.arange(8, dtype=np.uint8).reshape(1, 2, 2, 2)  # one image, two channels
    >>> shuffled, _ = shuffled_pixels()(images, np.array([3]), 10, rng_for(0))
    >>> shuffled.tolist()
    [[[[3, 0], [1, 2]], [[7, 5], [6, 4]]]]

    Every channel keeps its pixel values, so its histogram stays, but no shape survives.
    Source: Gez & Cohen, arXiv 2312.03889, and their released code.
    """

    def __call__(self, images: Array, labels: Array, classes: int, rng: Rng) -> Pair:
        _check_data("shuffled_pixels", images, labels, classes)
        n, c, h, w = images.shape
        return rng.permuted(images.reshape(n, c, h * w), axis=2).reshape(images.shape), labels


@dataclass(frozen=True)
class gaussian:
    """The node's camera is bad: normal noise is added to every pixel.

    >>> from mpfl.seeds import rng_for
    >>> grey = np.full((1, 1, 1, 5), 128, np.uint8)
    >>> noisy, _ = gaussian(sigma=0.1)(grey, np.array([3]), 10, rng_for(0))
    >>> noisy.ravel().tolist()
    [103, 135, 152, 156, 106]

    ``sigma`` is the standard deviation, in units in which black is 0 and white is 1; the result
    is rounded and clipped. Raises for a negative sigma.
    Source: Hendrycks & Dietterich, arXiv 1903.12261.
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
class label_noise:
    """The node labels carelessly: each label is wrong with probability ``rate``.

    >>> from mpfl.seeds import rng_for
    >>> images = np.zeros((6, 1, 2, 2), np.uint8)
    >>> _, labels = label_noise(rate=0.5)(images, np.full(6, 3), 10, rng_for(0))
    >>> labels.tolist()
    [4, 3, 0, 3, 3, 3]

    A wrong label is any of the other classes, uniformly. Raises for a rate outside 0-1 and below
    two classes. Source: symmetric label noise, van Rooyen et al., NeurIPS 2015.
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
class blurred:
    """The node's camera is out of focus: each pixel is the mean of those around it.

    >>> from mpfl.seeds import rng_for
    >>> point = np.zeros((1, 1, 3, 3), np.uint8)
    >>> point[0, 0, 1, 1] = 90
    >>> blurred(reach=1)(point, np.array([3]), 10, rng_for(0))[0][0, 0].tolist()
    [[10, 10, 10], [10, 10, 10], [10, 10, 10]]

    The mean is over a square that goes ``reach`` pixels each way; at the border the outermost
    pixels are repeated. Raises for a reach below 1.
    """

    reach: int

    def __post_init__(self) -> None:
        if self.reach < 1:
            raise MPFLError(f"blurred: reach is {self.reach}; give 1 or more pixels")

    def __call__(self, images: Array, labels: Array, classes: int, rng: Rng) -> Pair:
        _check_data("blurred", images, labels, classes)
        side = 2 * self.reach + 1
        border = ((0, 0), (0, 0), (self.reach, self.reach), (self.reach, self.reach))
        padded = np.pad(images, border, mode="edge")
        squares = np.lib.stride_tricks.sliding_window_view(padded, (side, side), axis=(2, 3))
        return np.rint(squares.mean(axis=(4, 5), dtype=np.float32)).astype(np.uint8), labels


@dataclass(frozen=True)
class first_classes:
    """The node has only met the first ``count`` classes: the others' pictures are not there yet.

    >>> from mpfl.seeds import rng_for
    >>> images = np.zeros((5, 1, 2, 2), np.uint8)
    >>> first_classes(2)(images, np.array([0, 1, 2, 3, 4]), 5, rng_for(0))[1].tolist()
    [0, 1, 1, 1, 1]

    In place of each other picture stands one of the first classes, drawn with repetition, so that
    there are as many as before. Raises if the node has none of those classes, and for more
    classes than there are.
    """

    count: int

    def __post_init__(self) -> None:
        if self.count < 1:
            raise MPFLError(f"first_classes: count is {self.count}; give 1 or more classes")

    def __call__(self, images: Array, labels: Array, classes: int, rng: Rng) -> Pair:
        _check_data("first_classes", images, labels, classes)
        if self.count > classes:
            raise MPFLError(
                f"first_classes: count is {self.count}, but there are {classes} classes; give fewer"
            )
        met = np.flatnonzero(labels < self.count)
        if not labels.size:
            return images, labels
        if not met.size:
            raise MPFLError(
                f"first_classes: the node has no picture of the first {self.count} classes; "
                "give more of them, or another partition"
            )
        place = np.where(labels < self.count, np.arange(len(labels)), rng.choice(met, len(labels)))
        return images[place], labels[place]


DATA_NOISES = {
    noise.__name__: noise
    for noise in (
        permuted_labels,
        shuffled_pixels,
        gaussian,
        label_noise,
        blurred,
        first_classes,
    )
}
