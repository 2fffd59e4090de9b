"""A strided 1x1 convolution: the same function, and no memory corrupted on the way."""

import copy
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

from mpfl import masks
from mpfl.filters import apply
from mpfl.nets.networks import build
from mpfl.nets.onnx import exported
from mpfl.nets.pointwise import StridedPointwise, mend_strided_pointwise
from mpfl.nets.shard import Shard
from mpfl.nets.start import initial_weights
from mpfl.nets.tensors import load_weights
from mpfl.nets.tracing import layout_of
from mpfl.nets.trainer import Trainer
from mpfl.seeds import rng_for


def outputs_and_gradients(conv, pictures):
    """What goes forward and what comes back, under a loss that weighs every output anew."""
    pictures = pictures.clone().requires_grad_()
    out = conv(pictures)
    weighing = torch.from_numpy(rng_for(0, "weighing").standard_normal(out.shape)).to(out.dtype)
    (out * weighing).sum().backward()
    return [out.detach(), pictures.grad, *(p.grad for p in conv.parameters())]


@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize("pixels", [(8, 8), (7, 10), (1, 5)])
@pytest.mark.parametrize("stride", [2, 3, (1, 2), (3, 1)])
@pytest.mark.parametrize(("inputs", "outputs"), [(6, 11), (1, 1), (16, 4)])
def test_it_is_the_plain_convolution(inputs, outputs, stride, pixels, bias):
    """In contiguous float64, where the plain one is right."""
    torch.manual_seed(0)
    plain = nn.Conv2d(inputs, outputs, 1, stride, bias=bias).double()
    mended = nn.Conv2d(inputs, outputs, 1, stride, bias=bias).double()
    mended.load_state_dict(plain.state_dict())
    mend_strided_pointwise(mended)
    assert type(mended) is StridedPointwise
    pictures = torch.from_numpy(rng_for(0, "pictures").standard_normal((3, inputs, *pixels)))
    ours, theirs = (outputs_and_gradients(conv, pictures) for conv in (mended, plain))
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


def test_only_strided_pointwise_convolutions_are_turned():
    left = [
        nn.Conv2d(4, 4, 1),  # no stride
        nn.Conv2d(4, 4, 3, 2),
        nn.Conv2d(4, 4, (1, 3), 2),
        nn.Conv2d(4, 4, 1, 2, padding=1),
        nn.Conv2d(4, 4, 1, 2, groups=2),
    ]
    turned = [nn.Conv2d(4, 4, 1, 2), nn.Conv2d(4, 4, 1, (1, 2), padding="valid")]
    module = nn.Sequential(*left, *turned)
    state = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    mend_strided_pointwise(module)
    mend_strided_pointwise(module)  # twice is once
    kinds = [type(part) for part in module]
    assert kinds == [nn.Conv2d] * len(left) + [StridedPointwise] * len(turned)
    assert all(torch.equal(tensor, state[name]) for name, tensor in module.state_dict().items())
    assert list(module.state_dict()) == list(state)


@pytest.mark.parametrize("sparsity", [0.0, 0.5])
@pytest.mark.parametrize("name", ["resnet18", "torchvision-resnet18"])
def test_a_trainer_turns_the_shortcuts_of_its_networks(name, sparsity):
    """The dense one and the cut one; the layout and the names stay."""
    module = build(name, 4, **({"width": 1 / 16} if name == "resnet18" else {}))
    before, names = layout_of(module), list(module.state_dict())
    trainer = Trainer(module, before, (0.4,) * 3, (0.2,) * 3, "float32")
    assert layout_of(module) == before and list(module.state_dict()) == names
    mask = masks.drawn(before, sparsity, rng_for(0)) if sparsity else masks.full(before)
    network = trainer.network(mask)
    assert (network is module) == (sparsity == 0)
    strided = [
        part
        for part in network.modules()
        if isinstance(part, nn.Conv2d) and part.kernel_size == (1, 1) and part.stride != (1, 1)
    ]
    assert [type(part) for part in strided] == [StridedPointwise] * 3


@pytest.mark.parametrize("sparsity", [0.0, 0.5])
def test_accuracy_is_that_of_the_plain_network(sparsity):
    module, plain = (build("resnet18", 4, width=1 / 16) for _ in range(2))
    layout, w0, rng = layout_of(module), initial_weights(module, 0), rng_for(0, "accuracy")
    mask = masks.drawn(layout, sparsity, rng) if sparsity else masks.full(layout)
    images = torch.from_numpy(rng.integers(0, 256, (64, 3, 32, 32)).astype(np.uint8))
    labels = torch.arange(64) % 4
    trainer = Trainer(module, layout, (0.4,) * 3, (0.2,) * 3, "float64")
    accuracy = trainer.accuracy(w0, mask, Shard(images, labels))
    load_weights(plain, apply(w0, mask, layout))
    pixels = (images.double() / 255 - 0.4) / 0.2
    with torch.no_grad():
        expected = plain.double().eval()(pixels)
        logits = trainer.network(mask)(pixels.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(logits, expected, rtol=1e-10, atol=1e-10)
    assert accuracy == (expected.argmax(1) == labels).double().mean().item() > 0


def test_it_is_exported_as_the_same_network():
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Conv2d(3, 5, 1, 2), nn.Flatten(), nn.Linear(5 * 16, 4))
    mended = copy.deepcopy(plain)
    mend_strided_pointwise(mended)
    file = exported(mended, (3, 8, 8))
    pictures = rng_for(0, "exported").standard_normal((4, 3, 8, 8)).astype(np.float32)
    with torch.no_grad():
        logits = plain(torch.from_numpy(pictures)).numpy()
    for run in (file.in_torch(pictures), file.in_ort(pictures)):
        np.testing.assert_allclose(run(), logits, rtol=1e-5, atol=1e-6)


TRAINS = """
import torch
from torch import nn
from mpfl.nets.pointwise import mend_strided_pointwise

torch.set_num_threads(1)
torch.manual_seed(0)
fast = torch.channels_last
for inputs, outputs in ((6, 11), (3, 8), (1, 5)):
    conv, truth = nn.Conv2d(inputs, outputs, 1, 2), nn.Conv2d(inputs, outputs, 1, 2).double()
    mend_strided_pointwise(conv)
    conv = conv.to(memory_format=fast)
    sgd = torch.optim.SGD(conv.parameters(), lr=0.01)
    for step in range(10):
        pictures, weighing = torch.randn(32, inputs, 32, 32), torch.randn(32, outputs, 16, 16)
        truth.load_state_dict(conv.state_dict())
        truth.zero_grad()
        (truth(pictures.double()) * weighing.double()).mean().backward()
        sgd.zero_grad()
        out = conv(pictures.contiguous(memory_format=fast))
        (out * weighing.contiguous(memory_format=fast)).mean().backward()
        for ours, theirs in zip(conv.parameters(), truth.parameters(), strict=True):
            torch.testing.assert_close(ours.grad.double(), theirs.grad, rtol=1e-4, atol=1e-6)
        sgd.step()
print("trained")
"""


def test_training_in_channels_last_memory_ends_well():
    """In a process of its own: with the plain convolution, some processors end it by a signal."""
    done = subprocess.run([sys.executable, "-c", TRAINS], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "trained\n"
