"""What each layer that has weights does to labels, and which axes of its weights follow them."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase as NormBase

from mpfl.nets.follow.owners import UnitKind, kept
from mpfl.nets.follow.walk import Step, StepRule
from mpfl.types import MPFLError

_Conv = nn.Conv1d | nn.Conv2d | nn.Conv3d
_Transposed = nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d
_Recurrent = nn.LSTM | nn.GRU | nn.RNN


def _weights(step: Step, names: str, axis: int, labels: torch.Tensor, *, owned: bool) -> None:
    """Each of these tensors of the layer, if it has it, follows ``labels`` along ``axis``."""
    for name in names.split():
        if getattr(step.module, name, None) is not None:
            step.walk.follows(
                f"{step.node.target}.{name}", axis, labels, str(step.node.target), owned=owned
            )


def _written(step: Step, kind: UnitKind, count: int, names: str = "weight bias") -> torch.Tensor:
    """New units, which own the rows of the tensors named."""
    labels = step.owners.units(str(step.node.target), kind, count)
    _weights(step, names, 0, labels, owned=True)
    return labels


def conv(step: Step) -> Any:
    """Filters. In groups their places in the group are units; depthwise they follow the input."""
    part = step.module
    assert isinstance(part, _Conv)
    labels = step.along(step.labels(step.first), 1)
    per_group = part.in_channels // part.groups
    if per_group == 1 and part.groups > 1:
        # A filter reads one channel, and without it would put out a constant: so it goes with it.
        own = step.owners.zero(labels.repeat_interleave(part.out_channels // part.in_channels))
        _weights(step, "weight bias", 0, own, owned=True)
        return step.across(own, 1)
    groups = labels.view(part.groups, per_group)
    filters = _written(step, "filters", part.out_channels)
    if part.groups > 1:
        # Every group must keep as many channels as every other, so the same ones.
        step.owners.tie(groups, groups[:1].expand(groups.shape), str(step.node.target))
        rows = filters.view(part.groups, -1)
        step.owners.tie(rows, rows[:1].expand(rows.shape), str(step.node.target))
    _weights(step, "weight", 1, groups[0], owned=False)
    return step.across(filters, 1)


def transposed_conv(step: Step) -> Any:
    """Filters, which are stored along axis 1 of the weight."""
    part = step.module
    assert isinstance(part, _Transposed)
    labels = step.along(step.labels(step.first), 1)
    path = str(step.node.target)
    if part.groups > 1:
        raise MPFLError(
            f"{path}: filters cannot be cut out of a transposed conv with groups; leave groups at 1"
        )
    filters = step.owners.units(path, "filters", part.out_channels)
    _weights(step, "weight", 1, filters, owned=True)
    _weights(step, "bias", 0, filters, owned=True)
    _weights(step, "weight", 0, labels, owned=False)
    return step.across(filters, 1)


def linear_layer(step: Step) -> Any:
    """Hidden units."""
    part = step.module
    assert isinstance(part, nn.Linear)
    inputs = step.labels(step.first)
    _weights(step, "weight", 1, step.along(inputs, inputs.dim() - 1), owned=False)
    return step.across(_written(step, "hidden", part.out_features), step.result.dim() - 1)


def batch_norm(step: Step) -> Any:
    """A scale, a shift and statistics for each channel, which go with it."""
    part = step.module
    assert isinstance(part, NormBase)
    labels = step.along(step.labels(step.first), 1)
    _weights(step, "weight bias running_mean running_var", 0, step.owners.zero(labels), owned=True)
    if part.affine:
        writers = {
            step.owners.writer(unit).path
            for label in labels.unique()
            for unit in step.owners.writers_of(int(label))
            if unit != -1
        }
        if len(writers) == 1:
            step.walk.norms.setdefault(writers.pop(), str(step.node.target))
        labels = step.owners.zero(labels)
    return step.across(labels, 1)


def one_scale(step: Step) -> Any:
    """A parametric ReLU: a slope for each channel, or one for all."""
    part = step.module
    assert isinstance(part, nn.PReLU)
    if part.num_parameters > 1:
        labels = step.along(step.labels(step.first), 1)
        _weights(step, "weight", 0, labels, owned=True)
    return step.labels(step.first)


def embedding(step: Step) -> Any:
    """A table of numbers by index: none of its columns is a unit."""
    return kept(step.result.shape)


def attention(step: Step) -> Any:
    """Heads: rows of query, key and value, and the columns of the projection that read them."""
    part, path = step.module, str(step.node.target)
    assert isinstance(part, nn.MultiheadAttention)
    if part.in_proj_weight is None or part.bias_k is not None or part.add_zero_attn:
        raise MPFLError(
            f"{path}: heads cannot be cut out of attention with kdim, vdim, add_bias_kv or "
            "add_zero_attn; leave them at their defaults"
        )
    inputs = [step.argument(place, name) for place, name in enumerate(("query", "key", "value"))]
    axes = [step.along(step.labels(each), each.dim() - 1) for each in inputs]
    for labels in axes[1:]:
        step.owners.tie(axes[0], labels, path)
    heads = step.owners.units(path, "heads", part.num_heads)
    rows = heads.repeat_interleave(part.head_dim)
    _weights(step, "in_proj_weight", 1, axes[0], owned=False)
    _weights(step, "in_proj_weight in_proj_bias", 0, rows.repeat(3), owned=True)
    step.walk.follows(f"{path}.out_proj.weight", 1, rows, path)
    width = step.owners.units(f"{path}.out_proj", "hidden", part.embed_dim)
    step.walk.follows(f"{path}.out_proj.weight", 0, width, path, owned=True)
    if part.out_proj.bias is not None:
        step.walk.follows(f"{path}.out_proj.bias", 0, width, path, owned=True)
    # The weights of attention are a mean over heads, so all of them must be there.
    result, weights = step.result
    if weights is None:
        return step.owners.zero(width).expand(result.shape), None
    step.owners.fix(
        heads,
        f"forward uses the attention weights of {path}, a mean over heads; call it with "
        "need_weights=False",
    )
    return step.owners.zero(width).expand(result.shape), kept(weights.shape)


def encoder(step: Step) -> Any:
    """torch's encoder layers: heads and hidden units; what flows between is normed, and stays."""
    part, path = step.module, str(step.node.target)
    step.owners.fix(step.labels(step.argument(0, "src")), f"{path} mixes channels")
    layers = {path: part}
    if isinstance(part, nn.TransformerEncoder):
        layers = {f"{path}.layers.{i}": layer for i, layer in enumerate(part.layers)}
    for name, layer in layers.items():
        if not isinstance(layer, nn.TransformerEncoderLayer):
            raise MPFLError(f"{name}: an encoder of layers that are not torch's own")
        there = dict(layer.named_parameters())  # some are missing if it has no biases
        heads = step.owners.units(f"{name}.self_attn", "heads", layer.self_attn.num_heads)
        rows = heads.repeat_interleave(layer.self_attn.head_dim)
        hidden = step.owners.units(f"{name}.linear1", "hidden", layer.linear1.out_features)
        for tensor, axis, labels, owned in (
            ("self_attn.in_proj_weight", 0, rows.repeat(3), True),
            ("self_attn.in_proj_bias", 0, rows.repeat(3), True),
            ("self_attn.out_proj.weight", 1, rows, False),
            ("linear1.weight", 0, hidden, True),
            ("linear1.bias", 0, hidden, True),
            ("linear2.weight", 1, hidden, False),
        ):
            if tensor in there:
                step.walk.follows(f"{name}.{tensor}", axis, labels, name, owned=owned)
        zero = torch.zeros(1)
        if layer.activation(zero) != 0:
            step.owners.fix(hidden, f"{name}: its activation makes something of zero")
    return kept(step.result.shape)


def recurrent(step: Step) -> Any:
    """Hidden units of an LSTM, a GRU or a plain RNN: rows of every gate, columns that read them."""
    part, path = step.module, str(step.node.target)
    assert isinstance(part, _Recurrent)
    if getattr(part, "proj_size", 0):
        raise MPFLError(f"{path}: units cannot be cut out of an LSTM with proj_size; leave it at 0")
    if step.argument(1, "hx") is not None:
        raise MPFLError(
            f"{path}: units cannot be cut out if forward gives the first state, as what is pruned "
            "would not be zero; let it begin at zero"
        )
    gates = {"LSTM": 4, "GRU": 3}.get(part.mode, 1)
    inputs = step.labels(step.first)
    reads = step.along(inputs, inputs.dim() - 1)
    states = []
    for layer in range(part.num_layers):
        outputs = []
        for direction in ("", "_reverse")[: 1 + part.bidirectional]:
            suffix = f"l{layer}{direction}"
            units = step.owners.units(f"{path}.{suffix}", "recurrent", part.hidden_size)
            names = f"weight_ih_{suffix} weight_hh_{suffix} bias_ih_{suffix} bias_hh_{suffix}"
            _weights(step, names, 0, units.repeat(gates), owned=True)
            _weights(step, f"weight_ih_{suffix}", 1, reads, owned=False)
            _weights(step, f"weight_hh_{suffix}", 1, units, owned=False)
            outputs.append(units)
        reads = torch.cat(outputs)
        states += outputs
    result, last = step.result
    several = last if isinstance(last, tuple) else (last,)
    state = torch.stack(states)[:, None, :] if several[0].dim() == 3 else torch.stack(states)
    labels = tuple(state.expand(each.shape) for each in several)
    return reads.expand(result.shape), labels if isinstance(last, tuple) else labels[0]


LAYERS: dict[type, StepRule] = {
    nn.Conv1d: conv,
    nn.Conv2d: conv,
    nn.Conv3d: conv,
    nn.ConvTranspose1d: transposed_conv,
    nn.ConvTranspose2d: transposed_conv,
    nn.ConvTranspose3d: transposed_conv,
    nn.Linear: linear_layer,
    **dict.fromkeys(
        (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.InstanceNorm1d, nn.InstanceNorm2d),
        batch_norm,
    ),
    nn.PReLU: one_scale,
    nn.Embedding: embedding,
    nn.MultiheadAttention: attention,
    nn.TransformerEncoder: encoder,
    nn.TransformerEncoderLayer: encoder,
    nn.LSTM: recurrent,
    nn.GRU: recurrent,
    nn.RNN: recurrent,
}
"""The rule of each layer with weights."""


def rule_of_layer(step: Step) -> StepRule | None:
    """The rule of a layer with weights, if it is one."""
    return next(
        (rule for kind, rule in LAYERS.items() if isinstance(step.module, kind)),
        None,
    )
