"""The epochs of one training, and which of them is kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from torch import nn

from mpfl.nets.tensors import load_weights, to_numpy
from mpfl.types import Weights


class Epochs:
    """Counts the epochs of a training of ``module``; when it ends, ``kept`` says which is kept.

    Without a ``judge`` that is the last one. ``judge()`` scores the module after each epoch, 0
    or more; then the epoch with the highest score is kept, the first one if several are equal,
    and ``module`` ends with that epoch's weights. If no epoch beats ``best``, a score that is to
    be beaten, the last one is kept. When it ends, ``best`` is the highest score of all.
    """

    def __init__(
        self,
        count: int,
        module: nn.Module,
        judge: Callable[[], int] | None = None,
        best: int = -1,
    ) -> None:
        self.count, self.module, self.judge, self.best = count, module, judge, best
        self.kept = count - 1

    def __iter__(self) -> Iterator[int]:
        weights: Weights = {}
        for epoch in range(self.count):
            yield epoch  # here the caller trains
            if self.judge is not None and (score := self.judge()) > self.best:
                self.best, self.kept, weights = score, epoch, to_numpy(self.module)
        if self.kept < self.count - 1:
            load_weights(self.module, weights)
