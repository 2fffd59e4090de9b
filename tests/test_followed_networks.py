"""What following and cutting a network leaves as it was, and what it notices."""

import copy
import random

import numpy as np
import pytest
import torch
from any_networks import Net, conv, mean, own_residual
from odd_networks import encoder_without_biases
from torch import nn
from twins import masked

from mpfl.filters import Layout
from mpfl.granularity import finer
from mpfl.nets.cutting import compact, macs
from mpfl.nets.placing import WIDE, Placed
from mpfl.nets.tensors import float_state, load_weights, to_numpy
from mpfl.nets.tracing import layout_of
from mpfl.runs.folder import load_tensors, save_weights
from mpfl.types import MPFLError


def halves(layout: Layout):
    return {name: np.arange(size) < max(1, size // 2) for name, size in layout.sizes.items()}


def switched():
    def compute(net, x):
        x = torch.relu(net.a(x))
        y = net.b(x)
        return net.head(mean(torch.relu(x + y if net.skip else y)))

    net = Net(compute, a=conv(3, 8), b=conv(8, 8), head=nn.Linear(8, 5))
    net.skip = False
    return net.double().eval()


def test_a_network_that_does_something_else_now_is_followed_again():
    net, x = switched(), torch.randn(2, 3, 8, 8).double()
    layout_of(net)
    net.skip = True
    layout = layout_of(net)
    mask = halves(layout) | {"b": ~halves(layout)["b"]}
    assert torch.allclose(compact(net, mask, layout)(x), masked(net, mask, layout)(x))


def test_weights_that_are_tied_later_are_refused():
    net = nn.Sequential(conv(3, 3), nn.ReLU(), conv(3, 3), nn.Flatten(), nn.Linear(192, 5))
    layout_of(net, inputs=torch.zeros(2, 3, 8, 8))
    net[2].weight = net[0].weight
    with pytest.raises(MPFLError, match=r"2\.weight: is the same tensor as 0\.weight"):
        layout_of(net, inputs=torch.zeros(2, 3, 8, 8))


def test_what_is_made_smaller_keeps_its_mode():
    """Attention with fewer heads is a module of its own, and has a dropout."""
    net, x = encoder_without_biases().eval(), torch.randn(2, 7, 12)
    layout = layout_of(net, inputs=x)
    small, mask = compact(net, halves(layout), layout), halves(layout)
    assert not any(part.training for part in small.modules())
    with torch.no_grad():
        assert torch.allclose(small(x), masked(net, mask, layout)(x), atol=1e-6)
    assert all(part.training for part in compact(net.train(), mask, layout).modules())


def test_no_generator_is_touched():
    net = own_residual()
    before = random.getstate(), str(np.random.mtrand._rand.get_state()), torch.get_rng_state()
    layout = layout_of(net)
    compact(net, halves(layout), layout)
    after = random.getstate(), str(np.random.mtrand._rand.get_state()), torch.get_rng_state()
    assert before[1] == after[1] and torch.equal(before[2], after[2])


def test_a_network_in_bfloat16_is_cut_bit_by_bit():
    net = own_residual().bfloat16()
    layout = layout_of(net)
    small = compact(net, halves(layout), layout)
    assert {tensor.dtype for tensor in float_state(small).values()} == {torch.bfloat16}
    kept = torch.from_numpy(halves(layout)["a"])
    assert torch.equal(small.a.weight, net.a.weight[kept][:, : small.a.weight.shape[1]])


def test_parts_of_two_precisions_keep_them():
    def compute(net, x):
        return net.head(mean(net.norm((net.a(x) + net.b(x)).double())))

    parts = {"norm": nn.BatchNorm2d(8).double(), "head": nn.Linear(8, 5).double()}
    net = Net(compute, a=conv(3, 8), b=conv(3, 8), **parts)
    layout = layout_of(net)
    mask = halves(layout) | {"b": ~halves(layout)["b"]}
    small = compact(net, mask, layout)
    kinds = {name: tensor.dtype for name, tensor in net.state_dict().items()}
    assert {name: tensor.dtype for name, tensor in small.state_dict().items()} == kinds


def test_a_tensor_of_no_axis_is_one_number_in_a_file_and_in_a_network(tmp_path):
    net = Net(lambda net, x: x * net.heat, heat=nn.Parameter(torch.tensor(2.0)))
    save_weights(tmp_path / "weights", to_numpy(net))
    weights = load_tensors(tmp_path / "weights")
    assert weights["heat"].shape == ()
    other = copy.deepcopy(net)
    load_weights(other, {"heat": np.array(3.0, np.float32)})
    assert other.heat.item() == 3


def test_a_network_without_a_first_conv_counts_with_its_layout():
    net = nn.Sequential(nn.Flatten(), nn.Linear(192, 8), nn.ReLU(), nn.Linear(8, 5))
    layout = layout_of(net, inputs=torch.zeros(2, 3, 8, 8))
    mask = halves(layout)
    assert macs(net, 8, mask, channels=3, layout=layout) == 192 * 4 + 4 * 5
    with pytest.raises(MPFLError, match="or give the layout= that the mask was made for"):
        macs(net, 8, mask, channels=3)
    with pytest.raises(MPFLError, match="or give the layout= that the mask was made for"):
        compact(net, mask)


def test_a_conv_that_is_defined_before_the_first_one_does_not_mislead():
    def compute(net, x):
        return net.head(mean(net.second(torch.relu(net.first(x)))))

    net = Net(compute, second=conv(8, 6), first=conv(3, 8), head=nn.Linear(6, 5))
    assert macs(net, 8) == 64 * 9 * (3 * 8 + 8 * 6) + 30


@pytest.mark.parametrize("channels", [5, WIDE + 1])
def test_channels_are_placed_exactly(channels):
    rng = np.random.default_rng(0)
    total = np.ones(channels, bool)
    term = rng.random(channels) < 0.5
    placed, x = Placed(1, term, total), torch.randn(2, int(term.sum()), 4, 4)
    out = placed(x)
    assert torch.equal(out[:, torch.from_numpy(term)], x)
    assert not out[:, torch.from_numpy(~term)].any()
    if torch.cuda.is_available():
        assert torch.equal(placed.cuda()(x.cuda()).cpu(), out)


def test_another_argument_than_those_followed_is_refused_by_the_smaller_network():
    def compute(net, x, scale=None):
        x = net.a(x) + net.b(x)
        return net.head(mean(x if scale is None else x * scale))

    class Scaled(Net):
        def forward(self, x, scale=None):
            return compute(self, x, scale)

    net = Scaled(compute, a=conv(3, 8), b=conv(3, 8), head=nn.Linear(8, 5))
    x, scale = torch.randn(2, 3, 8, 8), torch.full((2, 1, 1, 1), 3.0)
    layout = layout_of(net)
    mask = halves(layout) | {"b": ~halves(layout)["b"]}
    with pytest.raises(TypeError):
        compact(net, mask, layout)(x, scale)
    layout = layout_of(net, inputs=(x, scale))
    small = compact(net, mask, layout)
    assert torch.allclose(small(x, scale), masked(net, mask, layout)(x, scale), atol=1e-6)


def test_a_mask_of_single_weights_cuts_nothing():
    layout = finer(layout_of(own_residual()), "kernel")
    with pytest.raises(MPFLError, match="kernels or single weights leaves no smaller network"):
        compact(own_residual(), {n: np.ones(s, bool) for n, s in layout.sizes.items()}, layout)
