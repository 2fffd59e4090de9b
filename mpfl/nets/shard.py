"""One party's pictures and labels, and shuffled passes over them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch


@dataclass(frozen=True)
class Shard:
    """One party's data: uint8 images ``[n, channels, height, width]``, int64 labels ``[n]``.

    ``validation`` is what the party holds out to choose an epoch by; it is never trained on.
    """

    images: torch.Tensor
    labels: torch.Tensor
    validation: Shard | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, index: torch.Tensor) -> Shard:
        """The pictures at these places, with their labels."""
        index = index.to(self.images.device)
        return Shard(self.images[index], self.labels[index])

    def batches(self, size: int, rng: np.random.Generator) -> list[torch.Tensor]:
        """One shuffled pass over the data, as the places in each batch of ``size`` pictures.

        Batch norm needs two pictures, so a last batch of one joins the batch before it.
        """
        order = torch.from_numpy(rng.permutation(len(self)))
        parts = list(order.split(size))
        if len(parts) > 1 and len(parts[-1]) == 1:
            parts[-2:] = [torch.cat(parts[-2:])]
        return parts
