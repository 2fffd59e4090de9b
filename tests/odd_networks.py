"""More small networks that mpfl has to follow: what people write who have never heard of it."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from any_networks import PICTURES, WORDS, Net, conv, mean, then
from torch import nn
from torch.nn import functional as F

VIDEO = (4, 3, 8, 8)


def squeezed(how: str) -> nn.Module:
    """A gate for each channel, brought to the size of the picture in one of torch's ways."""

    def compute(net: Any, x: torch.Tensor) -> torch.Tensor:
        x = net.a(x)
        gate = torch.sigmoid(net.gate(mean(x))).view(x.size(0), -1, 1, 1)
        if how == "expand_as":
            return x * gate.expand_as(x)
        if how == "view_as":
            return (x * gate).view_as(x)
        return (x * gate.expand(-1, -1, x.shape[2], x.shape[3])).reshape_as(x)

    return then(compute, a=conv(3, 8), gate=nn.Linear(8, 8))


def over_time(take: Callable[[torch.Tensor], torch.Tensor]) -> nn.Module:
    """What a recurrent layer puts out, ``[batch, time, units]``, made one row."""
    return Net(
        lambda net, x: net.head(take(net.cells(x)[0])),
        cells=nn.GRU(12, 8, batch_first=True),
        head=nn.Linear(8, 5),
    )


def unpacked(x: torch.Tensor) -> torch.Tensor:
    values, _ = x.max(dim=1)
    return values


OVER_TIME: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "max, values": lambda x: x.max(1).values,
    "max, first": lambda x: x.max(1)[0],
    "max, unpacked": unpacked,
    "min of torch": lambda x: torch.min(x, dim=1).values,
    "median": lambda x: x.median(1).values,
    "largest two": lambda x: x.topk(2, dim=1).values.mean(1),
    "sorted": lambda x: x.sort(1).values[:, 0],
    "running sum": lambda x: x.cumsum(1)[:, -1],
    "spread": lambda x: x.std(1) + x.var(1),
    "length": lambda x: x.norm(dim=1),
    "logarithm of a sum": lambda x: x.logsumexp(1),
    "axis": lambda x: x.mean(axis=1) + x.sum(axis=1),  # type: ignore[call-overload]
    "above zero": lambda x: (x * (x > 0)).mean(1),
}


def empty_shortcut() -> nn.Module:
    def compute(net: Any, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(net.a(x))
        return torch.relu(net.b(x) + net.shortcut(x))

    return then(compute, a=conv(3, 8), b=conv(8, 8), shortcut=nn.Sequential())


def up_again() -> nn.Module:
    def compute(net: Any, x: torch.Tensor) -> torch.Tensor:
        down = torch.relu(net.down(x))
        return torch.cat([torch.relu(net.up(down)), x], 1)

    down, up = nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.ConvTranspose2d(8, 6, 2, stride=2)
    return then(compute, inputs=9, down=down, up=up)


def nano(how: str) -> nn.Module:
    """Attention written by hand, causal, with places from a table."""

    def compute(net: Any, x: torch.Tensor) -> torch.Tensor:
        batch, length, width = x.size()
        x = x + net.places[:, :length]
        queries, keys, values = (
            part(x).view(batch, length, 4, width // 4).transpose(1, 2)
            for part in (net.q, net.k, net.v)
        )
        seen = net.seen[:, :, :length, :length] == 0
        if how == "made":
            seen = torch.ones(length, length, dtype=torch.bool, device=x.device).triu(1)
        weights = (queries @ keys.transpose(-2, -1)).masked_fill(seen, float("-inf")).softmax(-1)
        mixed = (weights @ values).transpose(1, 2).contiguous().view(batch, length, width)
        return net.head((x + net.project(mixed)).mean(1))

    net = Net(compute, **{name: nn.Linear(12, 12) for name in ("q", "k", "v", "project")})
    net.head = nn.Linear(12, 5)
    net.register_buffer("places", torch.linspace(-1, 1, 480).view(1, 40, 12))
    net.register_buffer("seen", torch.ones(1, 1, 40, 40).tril(), persistent=False)
    return net


def sequence_first() -> nn.Module:
    """Heads and batch in one axis, whose size is worked out."""

    def compute(net: Any, x: torch.Tensor) -> torch.Tensor:
        x = x.transpose(0, 1)
        length, batch, _ = x.shape
        queries, keys, values = (
            part(x).view(length, batch * 4, 4).transpose(0, 1) for part in (net.q, net.k, net.v)
        )
        mixed = torch.softmax(queries @ keys.transpose(1, 2), -1) @ values
        return net.head((x + net.p(mixed.transpose(0, 1).reshape(length, batch, 16))).mean(0))

    parts = {name: nn.Linear(12, 16) for name in ("q", "k", "v")}
    return Net(compute, **parts, p=nn.Linear(16, 12), head=nn.Linear(12, 5))


def attention_without_weights(how: str) -> nn.Module:
    def compute(net: Any, x: torch.Tensor) -> torch.Tensor:
        if how == "unpacked":
            mixed, _ = net.attention(x, x, x)
        else:
            mixed = net.attention(x, x, x)[0]
        return net.head((x + mixed).mean(1))

    return Net(
        compute, attention=nn.MultiheadAttention(12, 4, batch_first=True), head=nn.Linear(12, 5)
    )


def encoder_without_biases() -> nn.Module:
    layer = nn.TransformerEncoderLayer(12, 4, 16, batch_first=True, bias=False)
    return nn.Sequential(layer, nn.Flatten(1, 2), nn.Linear(84, 5))


def film(halves: bool) -> nn.Module:
    """A shift, and maybe a scale, for every channel, worked out from the picture."""

    def compute(net: Any, x: torch.Tensor) -> torch.Tensor:
        rows = net.rows(mean(x))[:, :, None, None]
        if not halves:
            return torch.relu(net.a(x) + rows)
        scale, shift = rows.chunk(2, 1)
        return torch.relu(net.a(x) * scale + shift)

    return then(compute, a=conv(3, 8), rows=nn.Linear(3, 16 if halves else 8))


def one_number() -> nn.Module:
    """A temperature: a parameter, and a buffer, of no axis."""
    net = Net(
        lambda net, x: net.head(mean(torch.relu(net.a(x)) * net.unit)) * net.heat.exp(),
        a=conv(3, 8),
        head=nn.Linear(8, 5),
    )
    net.heat = nn.Parameter(torch.tensor(0.5))
    net.register_buffer("unit", torch.tensor(2.0))
    return net


def generalised_mean() -> nn.Module:
    def compute(net: Any, x: torch.Tensor) -> torch.Tensor:
        return net.head(mean(net.a(x).clamp(min=1e-3) ** net.p) ** (1 / net.p))

    net = Net(compute, a=conv(3, 8), head=nn.Linear(8, 5))
    net.p = 3.0
    return net


def changed_in_place(net: Any, x: torch.Tensor) -> torch.Tensor:
    x, y = net.a(x), net.b(x)
    net.relu(y)
    x.add_(y)
    torch.relu_(x)
    return F.dropout(x, 0.0, inplace=True)


def framed() -> nn.Module:
    """Channels that are half another layer's, half their own."""

    def compute(net: Any, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(torch.sigmoid(F.pad(net.a(x), (0, 0, 0, 0, 4, 4))) + net.b(x))

    return then(compute, inputs=16, a=conv(3, 8), b=conv(3, 16))


def known_mean() -> nn.Module:
    def compute(net: Any, x: torch.Tensor) -> torch.Tensor:
        x = x - net.mean.view(1, 3, 1, 1)
        return torch.relu(net.a(x) + net.b(x))

    net = then(compute, a=conv(3, 8), b=conv(3, 8))
    net.register_buffer("mean", torch.tensor([1.0, 2.0, 3.0]))
    net.register_buffer("unread", torch.ones(3))
    return net


def frame_by_frame() -> nn.Module:
    def compute(net: Any, x: torch.Tensor) -> torch.Tensor:
        frames = mean(torch.relu(net.b(torch.relu(net.a(x.flatten(0, 1))))))
        return net.head(frames.view(x.shape[0], x.shape[1], 6).mean(1))

    return Net(compute, a=conv(3, 8), b=conv(8, 6), head=nn.Linear(6, 5))


def of_a_logarithm() -> nn.Module:
    return then(lambda net, x: torch.relu(net.a(torch.log1p(x.abs()))), a=conv(3, 8))


ODD: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    **{f"a gate, {how}": (partial(squeezed, how), PICTURES)
       for how in ("expand_as", "view_as", "reshape_as")},
    **{f"over time, {how}": (partial(over_time, take), WORDS) for how, take in OVER_TIME.items()},
    "an empty shortcut": (empty_shortcut, PICTURES),
    "up again": (up_again, PICTURES),
    "causal, stored": (partial(nano, "stored"), WORDS),
    "causal, made": (partial(nano, "made"), WORDS),
    "heads beside the batch": (sequence_first, WORDS),
    "attention, unpacked": (partial(attention_without_weights, "unpacked"), WORDS),
    "attention, first": (partial(attention_without_weights, "first"), WORDS),
    "an encoder without biases": (encoder_without_biases, WORDS),
    "shifted": (partial(film, False), PICTURES),
    "scaled and shifted": (partial(film, True), PICTURES),
    "one number": (one_number, PICTURES),
    "a generalised mean": (generalised_mean, PICTURES),
    "changed in place": (
        lambda: then(changed_in_place, a=conv(3, 8), b=conv(3, 8), relu=nn.ReLU(inplace=True)),
        PICTURES,
    ),
    "framed": (framed, PICTURES),
    "a known mean": (known_mean, PICTURES),
    "frame by frame": (frame_by_frame, VIDEO),
    "of a logarithm": (of_a_logarithm, PICTURES),
}  # fmt: skip

ANY_SIZE = {
    **{name: ODD[name] for name in ("causal, stored", "causal, made", "heads beside the batch")},
    **{name: ODD[name] for name in ("attention, unpacked", "over time, largest two")},
    **{name: ODD[name] for name in ("a gate, expand_as", "a gate, reshape_as", "frame by frame")},
    **{name: ODD[name] for name in ("up again", "changed in place", "a known mean", "shifted")},
}
"""Those that read longer sequences, larger pictures and other batches than they are followed on."""
