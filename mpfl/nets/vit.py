"""A small Vision Transformer (Dosovitskiy et al. 2021), of plain torch modules."""

from __future__ import annotations

import torch
from torch import nn

from mpfl.nets.widths import scaled
from mpfl.types import MPFLError

_PATCH, _HEADS, _HEAD_SIZE, _BLOCKS = 8, 12, 16, 6


class TransformerBlock(nn.Module):
    """Attention over all tokens, then an MLP on each; both read a normalised copy of the sum."""

    def __init__(self, size: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(size)
        self.attention = nn.MultiheadAttention(size, heads, batch_first=True)
        self.norm2 = nn.LayerNorm(size)
        self.mlp = nn.Sequential(nn.Linear(size, 4 * size), nn.GELU(), nn.Linear(4 * size, size))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        seen = self.norm1(x)
        x = x + self.attention(seen, seen, seen, need_weights=False)[0]
        return x + self.mlp(self.norm2(x))


class SmallViT(nn.Module):
    """Six blocks on patches of 8 x 8 pixels; the head reads the mean over them.

    At ``width`` 1 a token has 192 numbers, and every block 12 attention heads of 16. A narrower
    network has fewer heads, of the same size. Raises :class:`~mpfl.types.MPFLError` if the
    pictures cannot be cut into patches.
    """

    def __init__(self, width: float, classes: int, pixels: int) -> None:
        super().__init__()
        if pixels % _PATCH:
            raise MPFLError(
                f"vit cuts pictures into patches of {_PATCH} pixels, and {pixels} is no multiple "
                f"of that; set pixels to {max(1, round(pixels / _PATCH)) * _PATCH}"
            )
        heads = scaled(_HEADS, width)
        size = heads * _HEAD_SIZE
        self.patches = nn.Conv2d(3, size, _PATCH, _PATCH)
        self.positions = nn.Parameter(torch.zeros(1, (pixels // _PATCH) ** 2, size))
        self.blocks = nn.Sequential(*(TransformerBlock(size, heads) for _ in range(_BLOCKS)))
        self.norm = nn.LayerNorm(size)
        self.head = nn.Linear(size, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        # [n, size, rows, columns] of patches -> [n, tokens, size]
        tokens = self.patches(x).flatten(2).transpose(1, 2) + self.positions
        return self.head(self.norm(self.blocks(tokens)).mean(1))
