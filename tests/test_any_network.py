"""The law of every network that is followed: masked and cut, it is the same one."""

import functools
import math

import numpy as np
import pytest
import torch
from any_networks import SMALL
from odd_networks import ANY_SIZE, ODD, nano
from torch import nn
from torchvision import models
from toys import random_mask, same
from twins import arrays, assert_near, gradients, masked
from zoo import FULL, OWN, TORCHVISION

from mpfl import masks
from mpfl.filters import apply, cut, cut_shapes, expand
from mpfl.nets.cutting import compact, skeleton
from mpfl.nets.held import held_tensors, hold
from mpfl.nets.onnx import exported
from mpfl.nets.tensors import float_state
from mpfl.nets.tracing import layout_of
from mpfl.seeds import rng_for

NETWORKS = {
    **{f"small: {name}": made for name, made in SMALL.items()},
    **{f"odd: {name}": made for name, made in ODD.items()},
    **{f"mpfl: {name}": made for name, made in OWN.items()},
    **{f"torchvision: {name}": made for name, made in TORCHVISION.items()},
}
THOROUGH = [name for name in NETWORKS if not name.startswith("torchvision")]
SHARES = {"half": (0.5, 0.5), "one per layer": (0.0, 0.0), "uneven": (0.1, 1.0)}

SENSITIVE = {"mpfl: resnet50": 1e-6, "mpfl: mobilenet": 1e-6}
"""Deep, with batch norm: where a mask leaves hardly a channel, and one that hardly varies, the last
bit of a weight alone moves gradients by as much."""

in_both_modes = pytest.mark.parametrize("train", [False, True], ids=["eval", "train"])
every_network = pytest.mark.parametrize("name", NETWORKS)


# --- what is compared --------------------------------------------------------------------


@functools.cache
def original(name):
    """A network in float64 with random weights, without dropout; its layout, checked by trial."""
    make, shape = NETWORKS[name]
    module, rng = make().double(), rng_for(0, "any network", name)
    with torch.no_grad():
        for tensor_name, tensor in float_state(module).items():
            draw = rng.standard_normal(tensor.shape) / np.sqrt(
                max(1, math.prod(tensor.shape[1:])) / 2
            )
            if tensor_name.endswith("running_var"):
                draw = rng.uniform(0.5, 2, tensor.shape)
            tensor.copy_(torch.from_numpy(np.asarray(draw)))
    for part in module.modules():
        for rate in ("p", "dropout"):
            if part.__module__.startswith("torch") and isinstance(getattr(part, rate, None), float):
                setattr(part, rate, 0.0)
    shown = torch.zeros(2, *shape)
    return module, layout_of(module, inputs=shown, verify=name in THOROUGH)


def draws(name):
    """A network, its layout, and masks: half of the units, one per layer, many and few."""
    module, layout = original(name)
    for kind, (low, high) in SHARES.items() if name in THOROUGH else [("half", (0.5, 0.5))]:
        rng = rng_for(0, "masks", name, kind)
        mask = {}
        for layer, size in layout.sizes.items():
            bits = rng.random(size) < rng.uniform(low, high)
            one, other = rng.permutation(size)[[0, -1]]
            bits[one] = True
            bits[other] &= size == 1
            mask[layer] = bits
        if name == "small: slices":
            mask["a"][[0, 4]] = True  # each slice keeps a channel
        yield module, layout, mask, rng


def inputs_of(name, rng, count=5):
    return torch.from_numpy(rng.standard_normal((count, *NETWORKS[name][1])))


# --- the laws ----------------------------------------------------------------------------


@in_both_modes
@every_network
def test_outputs_and_gradients_of_what_is_kept_are_equal(name, train):
    for module, layout, mask, rng in draws(name):
        assert 0 < masks.sparsity(mask) < 1
        x, results = inputs_of(name, rng), []
        for each in (masked(module, mask, layout), compact(module, mask, layout)):
            out = each.train(train)(x)
            (out * torch.from_numpy(rng_for(1, name).standard_normal(out.shape))).sum().backward()
            results.append((out.detach().numpy(), gradients(each), arrays(each)))
        (out, gradient, state), (small_out, small_gradient, small_state) = results
        assert out.std() > 1e-6, "nothing comes through: the test compares zeros"
        assert_near({"out": small_out}, {"out": out})
        near = SENSITIVE.get(name, 1e-10) if train else 1e-10
        assert_near(small_gradient, cut(gradient, mask, layout), near)
        assert_near(small_state, cut(state, mask, layout))  # batch norm has moved, alike
        assert max(np.abs(array).max() for array in small_gradient.values()) > 1e-6


@pytest.mark.parametrize("name", THOROUGH)
def test_steps_of_the_small_network_are_those_of_the_masked_one(name):
    for module, layout, mask, rng in draws(name):
        whole, small = masked(module, mask, layout), compact(module, mask, layout)
        held, start = held_tensors(whole, mask, layout), arrays(small)
        networks = [
            (each.train(), torch.optim.SGD(each.parameters(), lr=0.01, momentum=0.9))
            for each in (whole, small)
        ]
        for _ in range(3):
            x, labels = inputs_of(name, rng), torch.from_numpy(rng.integers(0, 5, 5))
            for each, optimiser in networks:
                optimiser.zero_grad()
                nn.functional.cross_entropy(each(x), labels).backward()
                optimiser.step()
            hold(held)
        assert_near(expand(arrays(small), mask, layout), arrays(whole), SENSITIVE.get(name, 1e-9))
        assert any(np.abs(array - start[n]).max() > 1e-4 for n, array in arrays(small).items())


@every_network
def test_expanded_the_small_weights_are_the_masked_ones(name):
    for module, layout, mask, _ in draws(name):
        weights = arrays(module)
        small = arrays(compact(module, mask, layout))
        assert same(small, cut(weights, mask, layout))
        assert {n: array.shape for n, array in small.items()} == cut_shapes(layout, mask)
        assert same(expand(small, mask, layout), apply(weights, mask, layout))


@every_network
def test_every_layer_has_a_vote_or_a_reason_why_not(name):
    module, layout = original(name)
    assert layout.layers and not set(layout.sizes) & set(layout.fixed)
    assert all(layout.fixed.values())
    voted = {*layout.sizes, *layout.fixed}
    for path, part in module.named_modules():
        if isinstance(part, nn.Conv2d | nn.Linear) and not path.endswith("out_proj"):
            depthwise = isinstance(part, nn.Conv2d) and part.in_channels == part.groups > 1
            assert depthwise or WITHIN.get(name, "?") in path or path in voted, path


WITHIN = {
    "small: torch's encoder": "encoder.",
    "odd: an encoder without biases": "0.",
    "torchvision: swin_t": ".attn.",
}
"""Linear layers that nobody calls: torch's encoder and Swin's attention read their weights."""


@pytest.mark.parametrize("made", ["nano", "torch's encoder"])
def test_several_kinds_of_units_are_said_in_one_text_or_a_list(made):
    module = nn.Sequential(nn.Linear(12, 12), nn.TransformerEncoderLayer(12, 4, 16, dropout=0))
    module = nano("stored") if made == "nano" else module
    shown = torch.zeros(2, 7, 12)
    sizes = [
        layout_of(module, inputs=shown, units=units).sizes
        for units in ("heads,hidden", ("hidden", "heads"), ["heads", "hidden"])
    ]
    assert sizes[0] == sizes[1] == sizes[2]
    heads = layout_of(module, inputs=shown, units="heads").sizes
    assert set(heads) <= set(sizes[0]) and set(heads.values()) == {4}


@pytest.mark.parametrize("name", ANY_SIZE)
def test_followed_on_one_size_it_is_cut_for_all(name):
    for module, layout, mask, rng in draws(f"odd: {name}"):
        small, whole = compact(module, mask, layout).eval(), masked(module, mask, layout).eval()
        for shape in larger(ANY_SIZE[name][1]):
            x = torch.from_numpy(rng.standard_normal(shape))
            assert_near({"out": small(x).detach().numpy()}, {"out": whole(x).detach().numpy()})


def larger(shape):
    """Another batch, another length or number of frames, larger pictures."""
    yield (1, *shape)
    yield (7, *shape)
    if len(shape) != 3:
        yield (3, 2 * shape[0] + 1, *shape[1:])
    if len(shape) > 2:
        yield (3, *shape[:-2], 12, 16)


@pytest.mark.parametrize("name", FULL)
def test_at_full_width_torchvisions_have_all_their_layers(name):
    shape, layers = FULL[name]
    with torch.device("meta"):
        sizes = {"image_size": 32} if name == "vit_b_16" else {}
        module = getattr(models, name)(num_classes=10, **sizes)
    shown = torch.empty(2, *shape, device="meta")
    layout = layout_of(module, inputs=shown)
    assert len(layout.layers) == layers
    mask = random_mask(layout, rng_for(0, "full", name))
    small = skeleton(module, mask, layout)
    assert {n: tuple(t.shape) for n, t in float_state(small).items()} == cut_shapes(layout, mask)
    assert small(shown).shape == (2, 10)


# --- as a file ---------------------------------------------------------------------------

FILES = [
    "small: own residual block",
    "small: squeeze and excite",
    "small: depthwise after a sigmoid",
    "small: attention by hand, one matrix, kernel",
    "small: torch's attention",
    "small: GRU, one way, 1 deep",
    "small: LSTM, both ways, 2 deep",
    "odd: causal, stored",
]


@pytest.mark.parametrize("name", FILES)
def test_as_an_onnx_file_it_computes_what_the_masked_one_does(name):
    module, layout, mask, rng = next(draws(name))
    file = exported(compact(module, mask, layout), NETWORKS[name][1])
    x = inputs_of(name, rng).float()
    with torch.no_grad():
        expected = masked(module, mask, layout).eval()(x.double()).numpy()
    assert_near({"out": file.in_ort(x.numpy())()}, {"out": expected}, 1e-5)
