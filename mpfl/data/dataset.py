"""What a data set is: images and labels, split into training and test."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mpfl.types import MPFLError

ARRAYS = ("train_images", "train_labels", "test_images", "test_labels")


@dataclass(frozen=True)
class Dataset:
    """Images and labels, split into training and test.

    Images are uint8 ``[n, channels, height, width]``, labels int64 ``[n]`` that index
    ``classes``; ``mean`` and ``std`` are per channel, of the training images, in 0-1 units.
    Raises :class:`MPFLError` if these do not fit together.
    """

    name: str
    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        for split in ("train", "test"):
            images, labels = getattr(self, f"{split}_images"), getattr(self, f"{split}_labels")
            if images.dtype != np.uint8 or images.ndim != 4:
                given = f"{images.dtype} {images.shape}"
                raise MPFLError(f"{self.name}: {split} images are {given}; give uint8 [n, c, h, w]")
            if labels.dtype != np.int64 or labels.shape != images.shape[:1]:
                given = f"{labels.dtype} {labels.shape}"
                raise MPFLError(f"{self.name}: {split} labels are {given}; give int64 [n]")
            if len(labels) == 0 or labels.min() < 0 or labels.max() >= len(self.classes):
                raise MPFLError(
                    f"{self.name}: {split} labels must be 0..{len(self.classes) - 1}, one per image"
                )
        if self.train_images.shape[1:] != self.test_images.shape[1:]:
            raise MPFLError(f"{self.name}: training and test images differ in shape; make one size")
        if not len(self.mean) == len(self.std) == self.train_images.shape[1]:
            raise MPFLError(f"{self.name}: give one mean and one std per channel")


def channel_stats(images: np.ndarray) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel, in 0-1 units.

    They are computed from counts of the 256 levels, so nothing is lost to rounding on the way.

    >>> channel_stats(np.array([[[[0, 255]]]], np.uint8))  # one image, half black, half white
    ((0.5,), (0.5,))
    """
    counts = np.zeros((images.shape[1], 256), dtype=np.int64)
    for start in range(0, len(images), 1000):  # a mapped file need not fit in memory
        for channel, values in enumerate(images[start : start + 1000].swapaxes(0, 1)):
            counts[channel] += np.bincount(values.ravel(), minlength=256)
    levels, share = np.arange(256) / 255, counts / counts.sum(axis=1, keepdims=True)
    mean = share @ levels
    std = np.sqrt(share @ levels**2 - mean**2)
    return tuple(mean.tolist()), tuple(std.tolist())
