"""Training pictures varied at random: shifted, cropped, mirrored."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import nn


def shift_and_mirror(
    images: torch.Tensor, rng: np.random.Generator, reach: int = 4
) -> torch.Tensor:
    """Shift each picture by up to ``reach`` pixels (black comes in), and mirror half of them.

    ``images`` are ``[n, channels, height, width]``. How far down and across, and whether to
    mirror, is drawn for each picture by itself.
    """
    count, _, height, width = images.shape
    top, left = (torch.from_numpy(rng.integers(0, 2 * reach + 1, count)) for _ in range(2))
    mirror = torch.from_numpy(rng.random(count) < 0.5)
    # A picture's window onto its padded self: which rows, and which columns, maybe backwards.
    padded = nn.functional.pad(images, (reach,) * 4)
    rows = top[:, None] + torch.arange(height)
    columns = left[:, None] + torch.arange(width)
    columns = torch.where(mirror[:, None], columns.flip(1), columns)
    # All windows at once: indices [n, 1, 1], [n, height, 1] and [n, 1, width] broadcast.
    device = images.device
    which = torch.arange(count, device=device)[:, None, None]
    moved = padded[which, :, rows[:, :, None].to(device), columns[:, None, :].to(device)]
    return moved.permute(0, 3, 1, 2)  # from [n, height, width, channels]: channels-last memory


def crop_and_mirror(images: torch.Tensor, rng: np.random.Generator, size: int) -> torch.Tensor:
    """A random part of each picture, resized to ``size`` pixels; half of them are mirrored.

    ``images`` are ``[n, channels, height, width]``. The part holds 8 to 100 % of the picture, and
    its width is 3/4 to 4/3 of its height, as in torchvision's ``RandomResizedCrop``. It is resized
    as torch does with ``mode="bilinear", antialias=True``, all pictures at once.
    """
    count, _, height, width = images.shape
    top, left, tall, wide = _boxes(count, height, width, rng)
    mirror = torch.from_numpy(rng.random(count) < 0.5)
    down, across = _resizing(top, tall, height, size), _resizing(left, wide, width, size)
    across = torch.where(mirror[:, None, None], across.flip(1), across)
    # Each picture between two matrices of its own: one mixes its rows, the other its columns.
    down, across = (each.to(images.device)[:, None] for each in (down, across))
    return down @ images.float() @ across.mT


def _boxes(count: int, height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """Where the parts are: top, left, height and width, ``[4, count]``.

    Of ten tries for each picture the first that fits is taken; if none does, the largest part
    in the middle that does.
    """
    area = height * width * rng.uniform(0.08, 1, (10, count))
    shape = np.exp(rng.uniform(math.log(3 / 4), math.log(4 / 3), (10, count)))
    tall, wide = np.rint(np.sqrt(area / shape)), np.rint(np.sqrt(area * shape))
    middle = min(height, width * 4 / 3), min(width, height * 4 / 3)
    tall, wide = (
        np.vstack([tries, np.full(count, np.rint(last))])
        for tries, last in zip((tall, wide), middle, strict=True)
    )
    fits = (tall >= 1) & (tall <= height) & (wide >= 1) & (wide <= width)
    first = np.argmax(fits, axis=0), np.arange(count)
    tall, wide = tall[first], wide[first]
    place = rng.random((2, count))
    place[:, first[0] == 10] = 0.5
    top, left = (place * (np.array([[height], [width]]) - [tall, wide] + 1)).astype(int)
    return np.array([top, left, tall, wide]).astype(int)


def _resizing(start: np.ndarray, length: np.ndarray, whole: int, size: int) -> torch.Tensor:
    """Matrices ``[n, size, whole]`` that resize ``length`` pixels from ``start`` on to ``size``.

    Each new pixel is a mean of those around its centre, by a triangle as wide as a new pixel is,
    and never narrower than two old ones.
    """
    scale = (length / size)[:, None, None]
    centres = (np.arange(size)[:, None] + 0.5) * scale
    places = np.arange(whole)[None, None, :] - start[:, None, None]
    near = np.maximum(0, 1 - np.abs(places + 0.5 - centres) / np.maximum(scale, 1))
    near *= (places >= 0) & (places < length[:, None, None])
    return torch.from_numpy((near / near.sum(axis=2, keepdims=True)).astype(np.float32))
