"""Pictures as a network reads them: normalised, and resized if need be."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import interpolate


def normalised(pixels: Tensor, mean: Tensor, std: Tensor, size: int | None = None) -> Tensor:
    """``(pixels - mean) / std``, at ``size`` pixels in height and width (None: as they are).

    ``pixels`` are ``[n, channels, height, width]``; ``mean`` and ``std``, of the same units,
    are ``[1, channels, 1, 1]``.
    """
    x = (pixels - mean) / std
    if size is not None and x.shape[-1] != size:
        x = interpolate(x, (size, size), mode="bilinear", antialias=True)
    return x
