"""Networks that nobody wrote: composed at random, each is exact or refused, and never different."""

import numpy as np
import torch
from any_networks import conv
from hypothesis import event, given, settings
from hypothesis import strategies as st
from torch import nn
from toys import random_mask
from twins import arrays, assert_near, gradients, masked

from mpfl.filters import apply, cut, expand
from mpfl.nets.cutting import compact
from mpfl.nets.tensors import float_state
from mpfl.nets.tracing import layout_of
from mpfl.seeds import rng_for
from mpfl.types import MPFLError

PIECES = (
    "conv", "norm", "relu", "tanh", "sigmoid", "residual", "sum", "cat", "gate", "depthwise",
    "grouped", "shuffle", "pool", "again",
)  # fmt: skip


class Drawn(nn.Module):
    """One piece after the other, and a head that reads pixels or their mean."""

    def __init__(self, pieces, width, *, flat):
        super().__init__()
        self.pieces, self.flat = pieces, flat
        self.first, channels, pixels = conv(3, width), width, 8
        parts = []
        for piece in pieces:
            part = nn.ModuleList()
            if piece in ("conv", "sum"):
                part.extend(conv(channels, width, 3) for _ in range(1 + (piece == "sum")))
                channels = width
            elif piece in ("residual", "cat"):
                part.append(conv(channels, channels, 3))
                channels *= 1 + (piece == "cat")
            elif piece == "again":
                part.append(conv(channels, channels, 1))
            elif piece == "gate":
                part.append(nn.Linear(channels, channels))
            elif piece == "depthwise":
                part.append(conv(channels, channels, 3, groups=channels))
            elif piece == "grouped":
                part.append(conv(channels, channels, 3, groups=2))
            elif piece == "norm":
                part.append(nn.BatchNorm2d(channels))
            elif piece == "shuffle":
                part.append(nn.ChannelShuffle(2))
            elif piece == "pool" and pixels > 1:
                part.append(nn.MaxPool2d(2))
                pixels //= 2
            parts.append(part)
        self.parts = nn.ModuleList(parts)
        self.head = nn.Linear(channels * pixels**2 if flat else channels, 3)

    def forward(self, x):
        x = self.first(x)
        for piece, part in zip(self.pieces, self.parts, strict=True):
            if piece in ("relu", "tanh", "sigmoid"):
                x = getattr(torch, piece)(x)
            elif piece == "sum":
                x = part[0](x) + part[1](torch.tanh(x))
            elif piece == "residual":
                x = x + part[0](torch.tanh(x))
            elif piece == "cat":
                x = torch.cat([x, part[0](x)], 1)
            elif piece == "again":
                x = part[0](torch.tanh(part[0](x)))
            elif piece == "gate":
                x = x * torch.sigmoid(part[0](x.mean((2, 3))))[:, :, None, None]
            elif len(part):
                x = part[0](x)
        return self.head(x.flatten(1) if self.flat else x.mean((2, 3)))


@settings(max_examples=40)
@given(
    pieces=st.lists(st.sampled_from(PIECES), min_size=1, max_size=7),
    width=st.sampled_from([4, 6]),
    flat=st.booleans(),
    share=st.sampled_from([0.0, 0.3, 0.7]),
    seed=st.integers(0, 2**16),
)
def test_a_drawn_network_is_exact_or_refused(pieces, width, flat, share, seed):
    rng = rng_for(seed, "drawn")
    module = Drawn(pieces, width, flat=flat).double()
    with torch.no_grad():
        for name, tensor in float_state(module).items():
            drawn = rng.standard_normal(tensor.shape) / np.sqrt(max(1, tensor[:1].numel()))
            drawn = rng.uniform(0.5, 2, tensor.shape) if name.endswith("var") else drawn
            tensor.copy_(torch.from_numpy(drawn))
    try:
        layout = layout_of(module, verify=False)
        mask = random_mask(layout, rng, share)
        compact(module, mask, layout)
    except MPFLError as error:
        assert ": " in str(error) and ("; " in str(error)), "it says where, and what to do"
        event(f"refused: {str(error).partition(': ')[2][:40]}")
        return
    event("followed")
    x = torch.from_numpy(rng.standard_normal((4, 3, 8, 8)))
    for train in (False, True):
        results = []
        for each in (masked(module, mask, layout), compact(module, mask, layout)):
            out = each.train(train)(x)
            out.square().sum().backward()
            results.append((out.detach().numpy(), gradients(each), arrays(each)))
        (out, gradient, state), (small_out, small_gradient, small_state) = results
        assert_near({"out": small_out}, {"out": out}, 1e-8)
        assert_near(small_gradient, cut(gradient, mask, layout), 1e-8)
        assert_near(small_state, cut(state, mask, layout), 1e-8)
        assert_near(expand(small_state, mask, layout), apply(state, mask, layout), 1e-8)
