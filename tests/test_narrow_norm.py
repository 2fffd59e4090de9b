"""Batch norm of few channels: the same function, a channel at a time."""

import pytest
import torch
from torch import nn

from mpfl import masks
from mpfl.nets.narrow_norm import NarrowNorm, mend_narrow_norms
from mpfl.nets.networks import build
from mpfl.nets.tracing import layout_of
from mpfl.nets.trainer import Trainer
from mpfl.seeds import rng_for


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("channels", [1, 6, 13])
def test_it_is_the_plain_batch_norm(channels, training):
    torch.manual_seed(0)
    plain, mended = nn.BatchNorm2d(channels), nn.BatchNorm2d(channels)
    mend_narrow_norms(mended)
    assert type(mended) is NarrowNorm
    found = []
    for norm in (plain, mended):
        nn.init.constant_(norm.weight, 1.5)
        norm.train(training)
        pictures = torch.from_numpy(rng_for(0, "x").standard_normal((8, channels, 5, 7))).float()
        pictures = pictures.contiguous(memory_format=torch.channels_last).requires_grad_()
        out = norm(pictures)
        (out * torch.arange(out.numel()).view(out.shape).cos()).sum().backward()
        found.append([out.detach(), pictures.grad, norm.weight.grad, norm.bias.grad,
                      norm.running_mean, norm.running_var])  # fmt: skip
        assert out.is_contiguous(memory_format=torch.channels_last)
        assert int(norm.num_batches_tracked) == int(training)
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_only_few_channels_that_are_no_multiple_of_a_vector_are_turned():
    parts = nn.ModuleList(nn.BatchNorm2d(size) for size in (6, 8, 13, 16, 25))
    parts.append(nn.BatchNorm1d(6))
    mend_narrow_norms(parts)
    assert [type(part) is NarrowNorm for part in parts] == [True, False, True, False, False, False]


def test_other_precisions_are_left_to_torch():
    norm = nn.BatchNorm2d(6).double()
    mend_narrow_norms(norm)
    plain = nn.BatchNorm2d(6).double()
    pictures = torch.ones(2, 6, 3, 3, dtype=torch.float64).cumsum(3)
    assert torch.equal(norm(pictures), plain(pictures))


def test_a_pruned_network_trains_with_it():
    module = build("vgg11-bn", 10, width=0.5)
    layout = layout_of(module)
    trainer = Trainer(module, layout, (0.5,) * 3, (0.25,) * 3)
    small = trainer.network(masks.drawn(layout, 0.8, rng_for(0, "mask")))
    narrow = [part.num_features for part in small.modules() if type(part) is NarrowNorm]
    assert narrow == [6, 12]
