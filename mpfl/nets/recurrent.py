"""Recurrent networks that read a picture row by row, from top to bottom."""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn

from mpfl.nets.widths import scaled

_HIDDEN = 256


class RowReader(nn.Module):
    """Two recurrent layers, GRU or LSTM; the head reads what the second says at the last row.

    A step reads one row of pixels, all channels of it. ``width`` 1 is 256 hidden units per layer.
    """

    def __init__(
        self, kind: Literal["gru", "lstm"], width: float, classes: int, pixels: int
    ) -> None:
        super().__init__()
        cell = nn.GRU if kind == "gru" else nn.LSTM
        hidden = scaled(_HIDDEN, width)
        self.first = cell(3 * pixels, hidden, batch_first=True)
        self.second = cell(hidden, hidden, batch_first=True)
        self.head = nn.Linear(hidden, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        # [n, channels, rows, columns] -> [n, rows, channels * columns]
        rows = x.transpose(1, 2).flatten(2)
        steps, _ = self.first(rows)
        steps, _ = self.second(steps)
        return self.head(steps[:, -1])
