"""One party's pictures and labels, and shuffled passes over them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from mpfl.types import MPFLError


@dataclass(frozen=True)
class Shard:
    """One party's data: uint8 images ``[n, channels, height, width]``, int64 labels ``[n]``.

    ``validation`` is what the party holds out to choose an epoch by; it is never trained on.
    Raises :class:`~mpfl.types.MPFLError` for tensors of another form.
    """

    images: torch.Tensor
    labels: torch.Tensor
    validation: Shard | None = None

    def __post_init__(self) -> None:
        for what, value, kind, form in (
            ("images", self.images, torch.uint8, "[n, channels, height, width]"),
            ("labels", self.labels, torch.int64, "[n]"),
        ):
            if not isinstance(value, torch.Tensor):
                raise MPFLError(f"{what} are a {type(value).__name__}; give a torch tensor")
            if value.dtype != kind or value.dim() != form.count(",") + 1:
                given = f"{str(value.dtype).removeprefix('torch.')} {list(value.shape)}"
                raise MPFLError(
                    f"{what} are {given}; give {str(kind).removeprefix('torch.')} {form}"
                )
        if len(self.images) != len(self.labels):
            raise MPFLError(
                f"{len(self.images)} images have {len(self.labels)} labels; give one per image"
            )

    def require_classes(self, outputs: int) -> None:
        """Refuse labels that are not among the ``outputs`` of a network."""
        least, largest = self._labels_from_to
        if least < 0 or largest >= outputs:
            raise MPFLError(
                f"labels go from {least} to {largest}, but the network tells {outputs} classes "
                f"apart; number them 0..{outputs - 1}, or give it more outputs"
            )

    @cached_property
    def _labels_from_to(self) -> tuple[int, int]:
        """The lowest and the highest label: looked up once, as that makes a GPU wait."""
        return int(self.labels.min()), int(self.labels.max())

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
