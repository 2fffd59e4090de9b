"""What a data set is: images and labels, split into training and test."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from mpfl.types import MPFLError

ARRAYS = ("train_images", "train_labels", "test_images", "test_labels")


@dataclass(frozen=True)
class Dataset:
    """Images and labels, split into training and test.

    Images are uint8 ``[n, channels, height, width]``, as high as they are wide; labels int64
    ``[n]`` that index ``classes``; ``mean`` and ``std`` are per channel, of the training images,
    in 0-1 units. Raises :class:`MPFLError` if these do not fit together.
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
        if not isinstance(self.classes, tuple | list) or not self.classes:
            raise MPFLError(f"{self.name}: classes are {self.classes!r}; give the name of each")
        for split in ("train", "test"):
            images, labels = getattr(self, f"{split}_images"), getattr(self, f"{split}_labels")
            _check_images(f"{self.name}: {split} images", images)
            _check_labels(f"{self.name}: {split} labels", labels, len(images), len(self.classes))
        if self.train_images.shape[1:] != self.test_images.shape[1:]:
            raise MPFLError(f"{self.name}: training and test images differ in shape; make one size")
        check_statistics(self.name, self.mean, self.std, self.train_images.shape[1])


def _check_images(what: str, images: Any) -> None:
    """Refuse what is not pictures as networks here read them, and say how to make them so."""
    if not isinstance(images, np.ndarray):
        raise MPFLError(f"{what} are a {type(images).__name__}; give a numpy array")
    given = f"{images.dtype} {images.shape}"
    if images.dtype != np.uint8:
        raise MPFLError(
            f"{what} are {given}; give uint8 [n, c, h, w]: scale them to 0-255, round, and convert"
        )
    if images.ndim != 4 or not images.size:
        raise MPFLError(f"{what} are {given}; give uint8 [n, c, h, w], at least one pixel of each")
    _, channels, height, width = images.shape
    if width <= 4 < channels:
        raise MPFLError(
            f"{what} are {given}, with the channels last; give [n, c, h, w], as "
            "images.transpose(0, 3, 1, 2) is"
        )
    if height != width:
        raise MPFLError(f"{what} are {height} x {width} pixels; cut or pad them to squares")


def _check_labels(what: str, labels: Any, images: int, classes: int) -> None:
    """Refuse what is not one class for each picture."""
    if not isinstance(labels, np.ndarray):
        raise MPFLError(f"{what} are a {type(labels).__name__}; give a numpy array")
    if labels.dtype != np.int64 or labels.shape != (images,):
        how = "; of one-hot rows take argmax(1)" if labels.ndim == 2 else ""
        raise MPFLError(f"{what} are {labels.dtype} {labels.shape}; give int64 [{images}]{how}")
    if labels.min() < 0 or labels.max() >= classes:
        raise MPFLError(
            f"{what} must be 0..{classes - 1}, one per image, but go from {labels.min()} to "
            f"{labels.max()}; number the classes from 0"
        )


def check_statistics(name: str, mean: Any, std: Any, channels: int) -> None:
    """Refuse a mean and a deviation, of ``channels``, by which pixels cannot be made normal."""
    if not np.shape(mean) == np.shape(std) == (channels,):
        raise MPFLError(f"{name}: give one mean and one std per channel, {channels} of each")
    for channel, (centre, spread) in enumerate(zip(mean, std, strict=True)):
        if spread == 0:
            raise MPFLError(
                f"{name}: channel {channel} of the training images is constant (its std is 0); "
                "leave the channel out, or give 1 as its std"
            )
        if not (0 <= centre <= 1 and 0 < spread <= 1):
            raise MPFLError(
                f"{name}: channel {channel} has mean {centre:g} and std {spread:g}; give them in "
                "units in which black is 0 and white is 1, as channel_stats does"
            )


def channel_stats(images: np.ndarray) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel, in 0-1 units.

    They are computed from counts of the 256 levels, so nothing is lost to rounding on the way.
    The deviation of a constant channel is 0. Raises :class:`MPFLError` for other than uint8
    ``[n, channels, height, width]``.

    >>> channel_stats(np.array([[[[0, 255]]]], np.uint8))  # one image, half black, half white
    ((0.5,), (0.5,))
    """
    if images.dtype != np.uint8 or images.ndim != 4 or not images.size:
        raise MPFLError(f"statistics of {images.dtype} {images.shape}; give uint8 [n, c, h, w]")
    counts = np.zeros((images.shape[1], 256), dtype=np.int64)
    for start in range(0, len(images), 1000):  # a mapped file need not fit in memory
        for channel, values in enumerate(images[start : start + 1000].swapaxes(0, 1)):
            counts[channel] += np.bincount(values.ravel(), minlength=256)
    levels, share = np.arange(256) / 255, counts / counts.sum(axis=1, keepdims=True)
    mean = share @ levels
    # Of a channel that is nearly constant, rounding alone can make the difference negative.
    std = np.sqrt(np.maximum(share @ levels**2 - mean**2, 0))
    return tuple(mean.tolist()), tuple(std.tolist())
