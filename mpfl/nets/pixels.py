"""Pictures as a network reads them: cut, normalised, and resized if needed."""

from __future__ import annotations

import numpy as np
from torch import Tensor, from_numpy
from torch.nn.functional import interpolate

from mpfl.seeds import rng_for

IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Mean and deviation of ImageNet's pixels, as everybody uses them with its weights."""


def normalised(pixels: Tensor, mean: Tensor, std: Tensor, size: int | None = None) -> Tensor:
    """``(pixels - mean) / std``, at ``size`` pixels in height and width (None: as they are).

    ``pixels`` are ``[n, channels, height, width]``; ``mean`` and ``std``, of the same units,
    are ``[1, channels, 1, 1]``.
    """
    x = (pixels - mean) / std
    return x if size is None else _resized(x, size)


def noise_pictures(channels: int, height: int, width: int) -> Tensor:
    """Two pictures of noise, always the same, as an example of what a network reads.

    >>> noise_pictures(3, 8, 8).shape
    torch.Size([2, 3, 8, 8])
    """
    noise = rng_for(0, "example pictures").standard_normal((2, channels, height, width))
    return from_numpy(noise.astype(np.float32))


def uncut(size: int) -> int:
    """How wide a picture is whose centre will be cut to ``size`` pixels.

    >>> uncut(224), uncut(32)
    (256, 37)
    """
    return round(size * 256 / 224)


def centre(images: Tensor, size: int) -> Tensor:
    """The centres of square pictures, ``size`` pixels wide: resized to :func:`uncut`, then cut."""
    whole = uncut(size)
    start = round((whole - size) / 2)
    return _resized(images.float(), whole)[..., start : start + size, start : start + size]


def _resized(images: Tensor, size: int) -> Tensor:
    if images.shape[-1] == size:
        return images
    return interpolate(images, (size, size), mode="bilinear", antialias=True)
