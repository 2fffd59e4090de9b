"""One party's data, and the settings of its training."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Shard:
    """One party's data: uint8 images ``[n, channels, height, width]``, int64 labels ``[n]``."""

    images: torch.Tensor
    labels: torch.Tensor

    def __len__(self) -> int:
        return len(self.labels)
