"""What a smaller network needs besides plain torch modules: channels put in place, fewer heads.

A sum adds channels that several layers write. Each layer is voted on by itself, so its terms may
keep different channels; :class:`Placed` puts each term's channels in their places. (Pruning all
terms alike, as Torch-Pruning's dependency graph does, would be another mask.) The other two are
layers of torch whose own sizes cannot be uneven.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

WIDE = 128
"""Sums of more channels than this are faster copied into than multiplied."""


class Placed(nn.Module):
    """Puts the channels of one term in their places in a sum, zeros in all others.

    ``matrix`` is 0/1, ``[channels of the sum, channels of the term]``. Applied as a 1x1
    convolution, or as a linear layer, such a matrix copies exactly on a processor. In a wide sum
    that takes longer than copying the channels themselves to ``places``, and counts as much as a
    layer; on a GPU, which may shorten the factors of a product, it would round.
    """

    matrix: torch.Tensor
    places: torch.Tensor

    def __init__(self, axis: int, term: np.ndarray, total: np.ndarray) -> None:
        super().__init__()
        self.axis, self.channels = axis, int(total.sum())
        kept, among = np.flatnonzero(term), np.flatnonzero(total)
        places = torch.from_numpy(np.searchsorted(among, kept))
        self.register_buffer("places", places, persistent=False)
        if self.channels <= WIDE:
            # Row i, column j is 1 if channel i of the sum is the term's j-th.
            matrix = (among[:, None] == kept[None, :]).astype(np.float32)
            self.register_buffer("matrix", torch.from_numpy(matrix), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.channels > WIDE or x.is_cuda:
            last = x.movedim(self.axis, -1)
            zeros = last.new_zeros(*last.shape[:-1], self.channels)
            return zeros.index_copy(-1, self.places, last).movedim(-1, self.axis)
        matrix = self.matrix.to(x.dtype)
        if x.dim() == 4 and self.axis == 1:
            return F.conv2d(x, matrix[:, :, None, None])
        return F.linear(x.movedim(self.axis, -1), matrix).movedim(-1, self.axis)

    def extra_repr(self) -> str:
        return f"to {self.channels} channels, axis={self.axis}"


class Picked(nn.Module):
    """Some channels, in an order of their own."""

    places: torch.Tensor

    def __init__(self, axis: int, places: np.ndarray) -> None:
        super().__init__()
        self.axis = axis
        self.register_buffer("places", torch.from_numpy(places.astype(np.int64)), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.index_select(self.axis, self.places)

    def extra_repr(self) -> str:
        return f"{len(self.places)}, axis={self.axis}"


class FewerHeads(nn.Module):
    """Attention with fewer heads than torch's allows at this width; its weights have its names.

    ``in_proj_weight`` is ``[3 x heads x head size, width]``, and what a head computes is divided
    by the root of its size, as before. It is called as torch's is, and gives no attention weights.
    """

    def __init__(self, whole: nn.MultiheadAttention) -> None:
        super().__init__()
        self.head_dim, self.dropout = whole.head_dim, whole.dropout
        self.batch_first, self.embed_dim = whole.batch_first, whole.embed_dim
        self.in_proj_weight, self.in_proj_bias = whole.in_proj_weight, whole.in_proj_bias
        self.out_proj = whole.out_proj
        self.num_heads = len(whole.in_proj_weight) // (3 * whole.head_dim)
        self._qkv_same_embed_dim = False  # torch's encoder layer then calls this, not its kernel
        self.train(whole.training)

    def forward(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        key_padding_mask: torch.Tensor | None = None,
        need_weights: bool = True,
        attn_mask: torch.Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[torch.Tensor, None]:
        if not self.batch_first:
            query, key, value = (each.transpose(0, 1) for each in (query, key, value))
        weights = self.in_proj_weight.chunk(3)
        biases = (None,) * 3 if self.in_proj_bias is None else self.in_proj_bias.chunk(3)
        heads = [
            F.linear(x, weight, bias).unflatten(-1, (-1, self.head_dim)).transpose(-3, -2)
            for x, weight, bias in zip((query, key, value), weights, biases, strict=True)
        ]
        mask = F._canonical_mask(attn_mask, "attn_mask", None, "", query.dtype, check_other=False)
        padding = F._canonical_mask(
            key_padding_mask, "key_padding_mask", None, "", query.dtype, check_other=False
        )
        if mask is not None and mask.dim() == 3:
            mask = mask.unflatten(0, (len(query), -1))
        if padding is not None:
            padding = padding[:, None, None, :]
            mask = padding if mask is None else mask + padding
        queries, keys, values = heads
        attended = F.scaled_dot_product_attention(
            queries,
            keys,
            values,
            attn_mask=mask,
            dropout_p=self.dropout if self.training else 0.0,
            is_causal=is_causal and mask is None,
        )
        out = self.out_proj(attended.transpose(-3, -2).flatten(-2))
        return out if self.batch_first else out.transpose(0, 1), None


class UnevenRecurrent(nn.Module):
    """An LSTM, a GRU or a plain RNN whose layers have different sizes; its weights have its names.

    It begins at zero. The last states come in tuples of one per layer and direction, unless all
    are of one size.
    """

    def __init__(self, whole: nn.RNNBase) -> None:
        super().__init__()
        self.mode, self.num_layers, self.bias = whole.mode, whole.num_layers, whole.bias
        self.bidirectional, self.batch_first = whole.bidirectional, whole.batch_first
        self.dropout = whole.dropout
        for name, parameter in whole.named_parameters():
            self.register_parameter(name, parameter)
        self.train(whole.training)

    def forward(self, x: torch.Tensor, hx: None = None) -> tuple[torch.Tensor, object]:
        batched = x.dim() == 3
        x = x if batched else x.unsqueeze(1)
        x = x.transpose(0, 1) if self.batch_first and batched else x
        states = []
        for layer in range(self.num_layers):
            outputs = []
            for direction in ("", "_reverse")[: 1 + self.bidirectional]:
                out, last = self._one(x.flip(0) if direction else x, f"l{layer}{direction}")
                outputs.append(out.flip(0) if direction else out)
                states.append(last)
            x = torch.cat(outputs, -1)
            if layer < self.num_layers - 1 and self.dropout:
                x = F.dropout(x, self.dropout, self.training)
        last_states = tuple(self._together(each) for each in zip(*states, strict=True))
        x = x.transpose(0, 1) if self.batch_first and batched else x
        x = x if batched else x.squeeze(1)
        return x, last_states if self.mode == "LSTM" else last_states[0]

    def _one(self, x: torch.Tensor, suffix: str) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
        """One layer in one direction: what it puts out, and its last states."""
        names = ["weight_ih", "weight_hh", *(("bias_ih", "bias_hh") if self.bias else ())]
        weights = [getattr(self, f"{name}_{suffix}") for name in names]
        zero = x.new_zeros(1, x.shape[1], weights[1].shape[1])
        rest = (weights, self.bias, 1, 0.0, self.training, False, False)
        if self.mode == "LSTM":
            out, hidden, cell = torch.lstm(x, (zero, zero), *rest)
            return out, (hidden[0], cell[0])
        run = {"GRU": torch.gru, "RNN_TANH": torch.rnn_tanh, "RNN_RELU": torch.rnn_relu}
        out, hidden = run[self.mode](x, zero, *rest)
        return out, (hidden[0],)

    @staticmethod
    def _together(states: tuple[torch.Tensor, ...]) -> object:
        if len({state.shape[-1] for state in states}) == 1:  # the batch is the same
            return torch.stack(states)
        return states
