"""Small networks of every kind that mpfl has to follow exactly, or refuse by name."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

PICTURES = (3, 8, 8)
WORDS = (7, 12)
NUMBERS = (12,)


class Net(nn.Module):
    """Named parts, and what forward makes of them."""

    def __init__(self, compute: Callable[[Any, torch.Tensor], torch.Tensor], **parts: Any) -> None:
        super().__init__()
        for name, part in parts.items():
            setattr(self, name, part)
        self.compute = compute

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.compute(self, x)


def conv(inputs: int, outputs: int, kernel: int = 3, **settings: Any) -> nn.Conv2d:
    """A conv that keeps the size of the picture."""
    return nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, **settings)


def mean(x: torch.Tensor) -> torch.Tensor:
    """Over all pixels."""
    return x.mean((2, 3))


def then(first: Callable[[Any, torch.Tensor], torch.Tensor], inputs: int = 8, **parts: Any) -> Net:
    """``first``, one more conv, and a head."""
    return Net(
        lambda net, x: net.head(mean(torch.relu(net.last(first(net, x))))),
        **parts,
        last=conv(inputs, 6),
        head=nn.Linear(6, 5),
    )


# --- pictures ----------------------------------------------------------------------------


def own_residual() -> nn.Module:
    def compute(net: Any, x: torch.Tensor) -> torch.Tensor:
        x = net.stem(x)
        return net.head(mean(x + net.b(torch.relu(net.a(x)))))

    return Net(compute, stem=conv(3, 8), a=conv(8, 12), b=conv(12, 8), head=nn.Linear(8, 5))


def preactivation() -> nn.Module:
    def compute(net: Any, x: torch.Tensor) -> torch.Tensor:
        x = net.stem(x)
        return net.head(mean(torch.relu(net.norm(x + net.a(torch.relu(net.first(x)))))))

    first, norm = nn.BatchNorm2d(8), nn.BatchNorm2d(8)
    return Net(compute, stem=conv(3, 8), first=first, a=conv(8, 8), norm=norm, head=nn.Linear(8, 5))


def used_twice() -> nn.Module:
    return Net(
        lambda net, x: net.head(mean(torch.relu(net.c(torch.relu(net.c(torch.relu(net.a(x)))))))),
        a=conv(3, 8),
        c=conv(8, 8),
        head=nn.Linear(8, 5),
    )


def squeeze_and_excite() -> nn.Module:
    def compute(net: Any, x: torch.Tensor) -> torch.Tensor:
        x = net.stem(x)
        return net.head(mean(x * torch.sigmoid(net.gate(x.mean((2, 3), keepdim=True)))))

    return Net(compute, stem=conv(3, 8), gate=conv(8, 8, 1), head=nn.Linear(8, 5))


def linear_squeeze_and_excite() -> nn.Module:
    def compute(net: Any, x: torch.Tensor) -> torch.Tensor:
        x = net.stem(x)
        batch, channels, _, _ = x.shape
        gate = torch.sigmoid(net.up(torch.relu(net.down(mean(x)))))
        return net.head(mean(x * gate.view(batch, channels, 1, 1)))

    down, up = nn.Linear(8, 4), nn.Linear(4, 8)
    return Net(compute, stem=conv(3, 8), down=down, up=up, head=nn.Linear(8, 5))


def defined_out_of_order() -> nn.Module:
    return Net(
        lambda net, x: net.head(mean(torch.relu(net.b(torch.relu(net.a(x)))))),
        head=nn.Linear(6, 5),
        b=conv(8, 6),
        a=conv(3, 8),
    )


def permuted_and_flattened() -> nn.Module:
    return Net(
        lambda net, x: net.head(F.adaptive_avg_pool2d(net.a(x), 2).permute(0, 2, 3, 1).flatten(1)),
        a=conv(3, 8),
        head=nn.Linear(32, 5),
    )


def viewed_with_literal_sizes() -> nn.Module:
    return Net(
        lambda net, x: net.head(F.adaptive_avg_pool2d(net.a(x), 1).view(-1, 8)),
        a=conv(3, 8),
        head=nn.Linear(8, 5),
    )


def concatenated_skip() -> nn.Module:
    def compute(net: Any, x: torch.Tensor) -> torch.Tensor:
        x = net.a(x)
        return torch.cat([x, torch.relu(net.b(x))], 1)

    return then(compute, 16, a=conv(3, 8), b=conv(8, 8))


def glu_by_hand() -> nn.Module:
    def compute(net: Any, x: torch.Tensor) -> torch.Tensor:
        values, gates = net.a(x).chunk(2, 1)
        return values * torch.sigmoid(gates)

    return then(compute, a=conv(3, 16))


def spatial_gate() -> nn.Module:
    def compute(net: Any, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(net.a(x))
        return x * torch.sigmoid(net.gate(x))

    return then(compute, a=conv(3, 8), gate=conv(8, 1))


def hard_swish_by_hand() -> nn.Module:
    def compute(net: Any, x: torch.Tensor) -> torch.Tensor:
        x = net.a(x)
        return x * F.relu6(x + 3) / 6

    return then(compute, a=conv(3, 8))


def shortcut_padded_with_zeros() -> nn.Module:
    def compute(net: Any, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(net.a(x))
        return net.head(mean(torch.relu(F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 4, 4)) + net.b(x))))

    return Net(compute, a=conv(3, 8), b=conv(8, 16, stride=2), head=nn.Linear(16, 5))


def summed_with(change: Callable[[torch.Tensor], torch.Tensor]) -> nn.Module:
    """A sum of two convs, of which one is changed first, so that what is pruned is not zero."""

    def compute(net: Any, x: torch.Tensor) -> torch.Tensor:
        return change(net.a(x)) + net.b(x)

    return then(compute, a=conv(3, 8), b=conv(3, 8))


def bounded_above_zero(x: torch.Tensor) -> torch.Tensor:
    return F.hardtanh(x, min_val=0.5, max_val=2.0)


def framed_with_ones(x: torch.Tensor) -> torch.Tensor:
    return F.pad(x[:, :, 1:-1, 1:-1], (1, 1, 1, 1), value=1.0)


def slices() -> nn.Module:
    def compute(net: Any, x: torch.Tensor) -> torch.Tensor:
        x = net.a(x)
        return net.head(mean(torch.relu(net.b(x[:, :4]) + net.c(x[:, 4:]))))

    return Net(compute, a=conv(3, 8), b=conv(4, 6), c=conv(4, 6), head=nn.Linear(6, 5))


def layer_scale() -> nn.Module:
    return then(
        lambda net, x: torch.relu(net.a(x)) * net.scale + net.shift[None, :, None, None],
        a=conv(3, 8),
        scale=nn.Parameter(torch.ones(8, 1, 1)),
        shift=nn.Parameter(torch.zeros(8)),
    )


def after(*parts: nn.Module, inputs: int) -> nn.Module:
    """A conv of 16 filters, ``parts``, and the rest."""
    return then(
        lambda net, x: net.parts(net.a(x)), inputs, a=conv(3, 16), parts=nn.Sequential(*parts)
    )


def constants_in_its_text() -> nn.Module:
    def compute(net: Any, x: torch.Tensor) -> torch.Tensor:
        colours = torch.tensor([1.0, 2.0, 4.0])
        return net.a(x) + net.b(x * colours.view(1, 3, 1, 1))

    return then(compute, a=conv(3, 8), b=conv(3, 8))


# --- sequences ---------------------------------------------------------------------------


def attention_by_hand(*, fused: bool, kernel: bool) -> nn.Module:
    """A transformer block: one matrix for query, key and value, or three; torch's kernel or not."""

    def compute(net: Any, x: torch.Tensor) -> torch.Tensor:
        x = net.embed(x)
        y = net.norm(x)
        batch, length, _ = y.shape
        if fused:
            joined = net.qkv(y).reshape(batch, length, 3, 4, 4)
            q, k, v = joined.permute(2, 0, 3, 1, 4).unbind(0)
        else:
            q, k, v = (
                each(y).view(batch, length, 4, 4).transpose(1, 2) for each in (net.q, net.k, net.v)
            )
        if kernel:
            out = F.scaled_dot_product_attention(q, k, v)
        else:
            out = torch.softmax(q @ k.transpose(-2, -1) * 0.5, -1) @ v
        x = x + net.proj(out.transpose(1, 2).reshape(batch, length, 16))
        x = x + net.down(F.gelu(net.up(net.norm2(x))))
        return net.head(x.mean(1))

    parts = {"qkv": nn.Linear(16, 48)} if fused else {n: nn.Linear(16, 16) for n in "qkv"}
    return Net(
        compute,
        embed=nn.Linear(12, 16),
        **parts,
        proj=nn.Linear(16, 16),
        norm=nn.LayerNorm(16),
        up=nn.Linear(16, 32),
        down=nn.Linear(32, 16),
        norm2=nn.LayerNorm(16),
        head=nn.Linear(16, 5),
    )


def torch_attention(*, batch_first: bool) -> nn.Module:
    def compute(net: Any, x: torch.Tensor) -> torch.Tensor:
        x = net.embed(x)
        return net.head((x + net.attention(x, x, x, need_weights=False)[0]).mean(1))

    attention = nn.MultiheadAttention(16, 4, batch_first=batch_first)
    return Net(compute, embed=nn.Linear(12, 16), attention=attention, head=nn.Linear(16, 5))


def torch_encoder() -> nn.Module:
    layer = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True)
    return Net(
        lambda net, x: net.head(net.encoder(net.embed(x)).mean(1)),
        embed=nn.Linear(12, 16),
        encoder=nn.TransformerEncoder(layer, 2),
        head=nn.Linear(16, 5),
    )


def recurrent(kind: type[nn.RNNBase], *, both_ways: bool, layers: int) -> nn.Module:
    return Net(
        lambda net, x: net.head(net.cells(x)[0][:, -1] if layers == 1 else net.cells(x)[0].mean(1)),
        cells=kind(12, 8, layers, batch_first=True, bidirectional=both_ways),
        head=nn.Linear(8 * (1 + both_ways), 5),
    )


def last_state() -> nn.Module:
    return Net(
        lambda net, x: net.head(net.cells(x)[1][-1]),
        cells=nn.GRU(12, 8, 2, batch_first=True),
        head=nn.Linear(8, 5),
    )


def numbered_places() -> nn.Module:
    def compute(net: Any, x: torch.Tensor) -> torch.Tensor:
        x = x + net.places(torch.arange(x.shape[1]))
        return net.down(torch.relu(net.up(x))).mean(1)

    return Net(compute, places=nn.Embedding(7, 12), up=nn.Linear(12, 20), down=nn.Linear(20, 5))


def mlp() -> nn.Module:
    return nn.Sequential(
        nn.Linear(12, 20), nn.BatchNorm1d(20), nn.Tanh(), nn.Linear(20, 10), nn.ReLU(),
        nn.Linear(10, 5),
    )  # fmt: skip


def swiglu() -> nn.Module:
    return Net(
        lambda net, x: net.down(F.silu(net.gate(x)) * net.up(x)),
        gate=nn.Linear(12, 20),
        up=nn.Linear(12, 20),
        down=nn.Linear(20, 5),
    )


# --- all of them -------------------------------------------------------------------------

Made = tuple[Callable[[], nn.Module], tuple[int, ...]]
"""What makes a network, and the shape of one input."""

SMALL: dict[str, Made] = {
    "own residual block": (own_residual, PICTURES),
    "pre-activation": (preactivation, PICTURES),
    "a conv used twice": (used_twice, PICTURES),
    "squeeze and excite": (squeeze_and_excite, PICTURES),
    "squeeze and excite, linear": (linear_squeeze_and_excite, PICTURES),
    "defined out of order": (defined_out_of_order, PICTURES),
    "permuted and flattened": (permuted_and_flattened, PICTURES),
    "view with literal sizes": (viewed_with_literal_sizes, PICTURES),
    "concatenated skip": (concatenated_skip, PICTURES),
    "GLU": (partial(after, nn.GLU(1), inputs=8), PICTURES),
    "GLU by hand": (glu_by_hand, PICTURES),
    "Softmax2d": (partial(after, nn.Softmax2d(), inputs=16), PICTURES),
    "ChannelShuffle": (partial(after, nn.ChannelShuffle(2), inputs=16), PICTURES),
    "PixelShuffle": (partial(after, nn.PixelShuffle(2), inputs=4), PICTURES),
    "GroupNorm": (partial(after, nn.GroupNorm(4, 16), nn.ReLU(), inputs=16), PICTURES),
    "norms without scale and over pixels": (
        partial(
            after,
            nn.PReLU(16),
            nn.BatchNorm2d(16, affine=False),
            nn.LayerNorm([8, 8]),
            inputs=16,
        ),
        PICTURES,
    ),
    "grouped": (
        partial(after, conv(16, 24, groups=4), nn.BatchNorm2d(24), nn.ReLU(), inputs=24),
        PICTURES,
    ),
    "depthwise after a sigmoid": (
        partial(
            after,
            nn.Sigmoid(),
            conv(16, 32, groups=16),
            nn.BatchNorm2d(32),
            nn.ReLU(),
            inputs=32,
        ),
        PICTURES,
    ),
    "spatial gate": (spatial_gate, PICTURES),
    "hard swish by hand": (hard_swish_by_hand, PICTURES),
    "layer scale": (layer_scale, PICTURES),
    "shortcut padded with zeros": (shortcut_padded_with_zeros, PICTURES),
    "slices": (slices, PICTURES),
    "a sum with what lies above zero": (partial(summed_with, bounded_above_zero), PICTURES),
    "a sum with what is framed with ones": (partial(summed_with, framed_with_ones), PICTURES),
    "constants in its text": (constants_in_its_text, PICTURES),
    **{
        f"attention by hand, {how}": (partial(attention_by_hand, **settings), WORDS)
        for how, settings in {
            "three, softmax": {"fused": False, "kernel": False},
            "three, kernel": {"fused": False, "kernel": True},
            "one matrix, softmax": {"fused": True, "kernel": False},
            "one matrix, kernel": {"fused": True, "kernel": True},
        }.items()
    },
    "torch's attention": (partial(torch_attention, batch_first=True), WORDS),
    "torch's attention, batch second": (partial(torch_attention, batch_first=False), WORDS),
    "torch's encoder": (torch_encoder, WORDS),
    **{
        f"{kind.__name__}, {'both ways' if both else 'one way'}, {layers} deep": (
            partial(recurrent, kind, both_ways=both, layers=layers),
            WORDS,
        )
        for kind in (nn.LSTM, nn.GRU, nn.RNN)
        for both in (False, True)
        for layers in (1, 2)
    },
    "last state of a GRU": (last_state, WORDS),
    "numbered places": (numbered_places, WORDS),
    "MLP with batch norm": (mlp, NUMBERS),
    "SwiGLU": (swiglu, NUMBERS),
}
