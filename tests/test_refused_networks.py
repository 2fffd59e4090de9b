"""What cannot be followed is refused in one line: what, where, and what to do about it."""

import random
import warnings

import numpy as np
import pytest
import torch
from any_networks import (
    PICTURES,
    SMALL,
    Net,
    conv,
    last_state,
    mean,
    mlp,
    own_residual,
    recurrent,
    slices,
    squeeze_and_excite,
)
from torch import nn
from torch.nn import functional as F

from mpfl import masks
from mpfl.nets.cutting import compact, skeleton
from mpfl.nets.tracing import layout_of
from mpfl.types import MPFLError

WORDS = torch.zeros(2, 7, 12)


def picture_net(compute, **parts):
    """What follows a stem of 8 filters, and a head."""
    return Net(
        lambda net, x: net.head(mean(compute(net, net.a(x)))),
        a=conv(3, 8),
        **parts,
        head=nn.Linear(8, 5),
    )


def decides(net, x):
    return x + 1 if x.sum() > 0 else x


def calls_and_forgets(net, x):
    net.lost(x)
    return x


def first_state_given(net, x):
    return net.head(net.cells(x, torch.zeros(1, 2, 8))[0].mean(1))


NOT_STORED = r"^a\.weight: is not stored but worked out, .*remove_parametrizations"


def normed(weight_norm):
    """A head behind a conv whose weight is worked out from two others."""
    return Net(
        lambda net, x: net.head(mean(net.a(x))), a=weight_norm(conv(3, 8)), head=nn.Linear(8, 5)
    )


def hooked_weight_norm(part):
    with warnings.catch_warnings():  # torch has a newer one, and says so
        warnings.simplefilter("ignore")
        return nn.utils.weight_norm(part)


def one_norm_twice():
    net = picture_net(lambda net, x: net.other(net.b(net.norm(x))), b=conv(8, 8))
    net.norm = net.other = nn.BatchNorm2d(8, affine=False)
    return net


def listened_to():
    net = picture_net(lambda net, x: net.norm(x), norm=nn.BatchNorm2d(8))
    net.norm.register_forward_hook(lambda part, given, out: out + 1)
    return net


def without_gradients(net, x):
    with torch.no_grad():
        y = net.b(x)
    return y + net.c(x)


def halved_in_training(net, x):
    y = net.b(x)
    return (y * 0.5 if net.training else y) + net.c(x)


def cut_at_half(compute, device="cpu"):
    """Half of each layer's filters, of two layers that are added the other halves."""
    net = picture_net(compute, b=conv(8, 8), c=conv(8, 8)).to(device)
    layout = layout_of(net, verify=False)
    half = {name: np.arange(size) < size // 2 for name, size in layout.sizes.items()}
    return compact(net, half | {"c": ~half["b"]}, layout)


def after_a_forward():
    def remembers(net, x):
        net.seen = [x]
        return x

    net = picture_net(remembers)
    net(torch.zeros(2, *PICTURES))
    return net


def with_a_plain_tensor():
    net = picture_net(lambda net, x: x + net.shift)
    net.shift = torch.ones(1, 8, 1, 1)
    return net


def padded_words():
    layer = nn.TransformerEncoderLayer(12, 4, 16, batch_first=True)
    return Net(
        lambda net, x: net.head(net.words(net.table(x), src_key_padding_mask=x == 0).mean(1)),
        table=nn.Embedding(20, 12),
        words=nn.TransformerEncoder(layer, 1),
        head=nn.Linear(12, 5),
    )


def weighing():
    def compute(net, x):
        mixed, weights = net.a(x, x, x)
        return net.head((x + mixed * weights.mean()).mean(1))

    return Net(compute, a=nn.MultiheadAttention(12, 4, batch_first=True), head=nn.Linear(12, 5))


REFUSED = {
    "dropout that puts out no zeros": (
        lambda: layout_of(picture_net(lambda net, x: F.alpha_dropout(x, 0.5, net.training))),
        r"^alpha_dropout \(alpha_dropout\): there is no rule for what this does to channels; write",
    ),
    "weight norm, as a parametrization": (
        lambda: layout_of(normed(nn.utils.parametrizations.weight_norm)),
        NOT_STORED,
    ),
    "weight norm, as a hook": (lambda: layout_of(normed(hooked_weight_norm)), NOT_STORED),
    "statistics under two names": (
        lambda: layout_of(one_norm_twice()),
        r"^other\.running_mean: is the same tensor as norm\.running_mean, .*one name",
    ),
    "it decides by numbers": (
        lambda: layout_of(picture_net(decides)),
        r"^Net: forward cannot be traced \(.*control flow\); it may not decide by the numbers or "
        r"the sizes of a tensor, .*: move such a decision out of forward$",
    ),
    "tracing fails": (
        lambda: layout_of(picture_net(lambda net, x: torch.from_numpy(x.numpy()))),
        r"^Net: forward cannot be traced \(.*\); .* move such a decision out of forward$",
    ),
    "an operation that mixes channels": (
        lambda: layout_of(picture_net(lambda net, x: x.prod(1, keepdim=True) + x)),
        r"^prod \(prod\): there is no rule for what this does to channels; write it with "
        r"operations that keep channels apart$",
    ),
    "an operation that has another name": (
        lambda: layout_of(picture_net(lambda net, x: torch.einsum("bchw,bdhw->bchw", x, x))),
        r"^einsum \(einsum\): there is no rule .*; write it with matmul$",
    ),
    "a layer without a rule": (
        lambda: layout_of(picture_net(lambda net, x: net.up(x), up=nn.FractionalMaxPool2d(2, 6))),
        r"^up \(FractionalMaxPool2d\): there is no rule for what this does to channels; write it",
    ),
    "a transposed conv in groups": (
        lambda: layout_of(
            picture_net(lambda net, x: net.up(x), up=nn.ConvTranspose2d(8, 8, 3, groups=2))
        ),
        r"^up: filters cannot be cut out of a transposed conv with groups; leave groups at 1$",
    ),
    "a hook": (
        lambda: layout_of(listened_to()),
        r"^norm: has a forward hook, and what it does to channels cannot be followed; remove it, ",
    ),
    "a draw of its own": (
        lambda: layout_of(picture_net(lambda net, x: x * torch.rand(1))),
        r"^Net: forward draws a random number by itself, .*; draw with a module, such as nn\.",
    ),
    "a draw of Python's": (
        lambda: layout_of(picture_net(lambda net, x: x * random.random())),
        r"^Net: forward draws a random number by itself, ",
    ),
    "no gradients at all": (
        lambda: layout_of(picture_net(lambda net, x: torch.sigmoid(x).mul_(x))),
        r"^Net: has no gradients \(one of the variables .*\), so it cannot be trained; mend its ",
    ),
    "no gradients": (
        lambda: cut_at_half(without_gradients),
        r"^add: .* but forward runs b without gradients; write that as a module of torch's or ",
    ),
    "another step in training": (
        lambda: cut_at_half(halved_in_training),
        r"^add: .* but forward differs between training and evaluation; write that as a module",
    ),
    "a kept result": (
        lambda: layout_of(after_a_forward()),
        r"^seen: holds what an earlier forward computed, which cannot be copied; delete it first$",
    ),
    "a lazy layer": (
        lambda: layout_of(nn.Sequential(nn.LazyConv2d(4, 3), nn.Flatten(), nn.LazyLinear(3))),
        r"^0\.weight: has no shape yet; run one batch through the network first$",
    ),
    "a wrapped network": (
        lambda: layout_of(nn.DataParallel(own_residual())),
        r"^the network is wrapped in DataParallel; give its \.module$",
    ),
    "weights without numbers": (
        lambda: cut_at_half(lambda net, x: net.b(x) + net.c(x), device="meta"),
        r"^a\.weight: has no numbers to cut \(it is on the meta device\); load them$",
    ),
    "a tensor that is no buffer": (
        lambda: layout_of(with_a_plain_tensor()),
        r"^Net: what it reads is not known \(.*device.*\); register tensors .* with register_buf",
    ),
    "nested tensors": (
        lambda: layout_of(padded_words(), inputs=torch.ones(2, 7, dtype=torch.long)),
        r"^Net: forward fails .*nested_tensor.*; make its encoder with enable_nested_tensor=False$",
    ),
    "weights of attention": (
        lambda: layout_of(weighing(), inputs=WORDS, units="heads"),
        r"forward uses the attention weights of a, a mean over heads; call it with need_weights",
    ),
    "no inputs": (
        lambda: layout_of(mlp()),
        r"^Sequential: what it reads is not known \(it has no Conv2d\); give inputs=, an example "
        r"batch of two$",
    ),
    "no pictures fit": (
        lambda: layout_of(nn.Sequential(conv(3, 8), nn.Flatten(), nn.Linear(7, 5))),
        r"^Sequential: what it reads is not known \(.*8192.*\); give inputs=",
    ),
    "inputs on which forward fails": (
        lambda: layout_of(mlp(), inputs=torch.zeros(2, 13)),
        r"^Sequential: forward fails on the inputs given \(.*\); give an example batch of two that "
        r"it takes$",
    ),
    "a layer whose outputs nobody reads": (
        lambda: layout_of(picture_net(calls_and_forgets, lost=conv(8, 4))),
        r"^lost: nothing reads its units; remove it, or end the network with a Linear$",
    ),
    "a layer that is never used": (
        lambda: layout_of(picture_net(lambda net, x: x, spare=conv(8, 4))),
        r"^spare: forward never uses it, so no unit of it is read; remove it from the network$",
    ),
    "nothing but a head": (
        lambda: layout_of(nn.Sequential(nn.Linear(12, 5)), inputs=torch.zeros(2, 12)),
        r"^Sequential: no units of it can be cut out \(0: it is what the network puts out\); "
        r"choose other units=, or another network$",
    ),
    "units that the network has not": (
        lambda: layout_of(own_residual(), units="recurrent"),
        r"^Net: no recurrent of it can be cut out \(.*to vote here, add 'filters' to units=.*\); "
        r"choose other units=, or another network$",
    ),
    "an LSTM with a projection": (
        lambda: layout_of(nn.Sequential(nn.LSTM(12, 8, proj_size=4)), inputs=WORDS),
        r"^0: units cannot be cut out of an LSTM with proj_size; leave it at 0$",
    ),
    "a first state": (
        lambda: layout_of(
            Net(first_state_given, cells=nn.GRU(12, 8, batch_first=True), head=nn.Linear(8, 5)),
            inputs=WORDS,
        ),
        r"^cells: units cannot be cut out if forward gives the first state, .*; let it begin at "
        r"zero$",
    ),
    "attention with other widths": (
        lambda: layout_of(
            Net(
                lambda net, x: net.head(net.attention(x, x, x, need_weights=False)[0].mean(1)),
                attention=nn.MultiheadAttention(12, 3, add_zero_attn=True, batch_first=True),
                head=nn.Linear(12, 5),
            ),
            inputs=WORDS,
        ),
        r"^attention: heads cannot be cut out of attention with kdim, .*; leave them at their "
        r"defaults$",
    ),
    "functional dropout before a sum": (
        lambda: layout_of(
            picture_net(
                lambda net, x: x + F.dropout(net.b(torch.relu(x)), 0.3, net.training), b=conv(8, 8)
            )
        ),
        r"^add: the smaller network needs another step here, but forward differs between training "
        r"and evaluation; write that as a module of torch's or torchvision's, such as nn.Dropout",
    ),
}


@pytest.mark.parametrize("why", REFUSED)
def test_refused_in_one_line(why):
    asked, says = REFUSED[why]
    with pytest.raises(MPFLError, match=says) as refused:
        asked()
    assert "\n" not in str(refused.value)


def test_an_unknown_kind_of_units(types_unchecked):
    with pytest.raises(MPFLError, match=r"units.*'filter'; did you mean 'filters'"):
        layout_of(own_residual(), units="filter")


@pytest.mark.parametrize("name", ["own residual block", "grouped", "torch's attention"])
@pytest.mark.parametrize("cut_out", [skeleton, compact], ids=["skeleton", "compact"])
def test_a_mask_that_empties_a_layer(name, cut_out):
    make, shape = SMALL[name]
    module = make()
    layout = layout_of(module, inputs=torch.zeros(2, *shape), verify=False)
    for layer in layout.sizes:
        mask = masks.full(layout)
        mask[layer] = np.zeros_like(mask[layer])
        says = f"leaves layer '{layer}' without a filter, so nothing comes .*; raise the floor"
        with pytest.raises(MPFLError, match=says):
            cut_out(module, mask, layout)


def test_a_mask_that_leaves_nothing_of_a_slice():
    module = slices()
    layout = layout_of(module, verify=False)
    mask = masks.full(layout)
    mask["a"][:4] = False
    with pytest.raises(MPFLError, match=r"^getitem .*leaves none of the channels.*; keep one"):
        compact(module, mask, layout)


def test_a_mask_for_a_layer_that_goes_with_another_one():
    """Its units are tied to those of the layer that leads, which has the one mask of both."""
    module = squeeze_and_excite()
    layout = layout_of(module)
    assert layout.sizes == {"stem": 8} and layout.fixed["gate"] == "goes with stem"
    both = masks.full(layout) | {"gate": np.ones(8, bool)}
    with pytest.raises(MPFLError, match="was it made for another model"):
        compact(module, both, layout)


def test_last_states_that_are_taken_together():
    module = last_state()
    module.compute = lambda net, x: net.head(net.cells(x)[1].flip(0)[0])
    layout = layout_of(module, inputs=WORDS, verify=False)
    mask = masks.full(layout)
    mask["cells.l0"][0] = False
    with pytest.raises(MPFLError, match=r"last states of recurrent layers together; .* h\[-1\]"):
        compact(module, mask, layout)


def test_what_is_refused_stays_as_it_was():
    module = recurrent(nn.GRU, both_ways=False, layers=1).train()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    with pytest.raises(MPFLError):
        layout_of(module, inputs=torch.zeros(2, *PICTURES))
    assert module.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())
