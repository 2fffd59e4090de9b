"""Training pictures shifted and mirrored at random."""

from __future__ import annotations

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
