"""What makes torchvision's VGG train faster on small pictures: the same function, it alone."""

import copy

import pytest
import torch
from torch import nn
from torchvision.models import VGG
from toys import random_mask

from mpfl.nets.cutting import macs, skeleton
from mpfl.nets.repeated import SummingLinear, UnrepeatedPool, mend_repeated_pixels
from mpfl.nets.tiny_maps import WindowedConv, mend_tiny_maps
from mpfl.nets.tracing import layout_of
from mpfl.seeds import rng_for


def small_vgg():
    """torchvision's VGG with few and narrow layers."""
    torch.manual_seed(0)
    convs = [
        nn.Conv2d(3, 6, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(4),
        nn.Conv2d(6, 5, 3, padding=1),
    ]
    module = VGG(nn.Sequential(*convs, nn.ReLU(), nn.MaxPool2d(2)), init_weights=False)
    module.avgpool = nn.AdaptiveAvgPool2d(3)
    module.classifier = nn.Sequential(nn.Linear(45, 8), nn.ReLU(), nn.Linear(8, 3))
    return module.double()


def mend(module):
    mend_repeated_pixels(module)
    mend_tiny_maps(module)


def answers(module, pictures):
    """Outputs, and the gradient of every parameter and of the pictures."""
    module.zero_grad()
    pictures = pictures.clone().requires_grad_()
    out = module(pictures)
    (out**2).sum().backward()
    return [out, pictures.grad, *(p.grad for p in module.parameters())]


@pytest.mark.parametrize("pixels", [8, 16, 40])
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_outputs_and_gradients_are_the_same(pixels, training):
    plain = small_vgg().train(training)
    mended = copy.deepcopy(plain)
    mend(mended)
    pictures = torch.randn(4, 3, pixels, pixels, dtype=torch.float64)
    for one, other in zip(answers(plain, pictures), answers(mended, pictures), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)


def test_the_layer_multiplies_once_where_pixels_repeat():
    module = small_vgg()
    mend(module)
    sizes = []
    module.classifier[0].register_forward_pre_hook(lambda _, x: sizes.append(x[0].shape[1]))
    for pixels, training in ((8, True), (8, False), (16, True)):
        module.train(training)(torch.randn(2, 3, pixels, pixels, dtype=torch.float64))
    assert sizes == [5, 45, 45]


def test_names_layout_work_and_cutting_stay():
    plain, mended = small_vgg(), small_vgg()
    mend(mended)
    assert list(plain.state_dict()) == list(mended.state_dict())
    assert layout_of(plain) == layout_of(mended) and macs(plain, 8) == macs(mended, 8)
    mask = random_mask(layout_of(plain), rng_for(0, "repeated"))
    for bits in mask.values():
        bits[0] = True
    one, other = (skeleton(module, mask).double().train() for module in (plain, mended))
    with torch.no_grad():
        for parameter in one.parameters():
            nn.init.normal_(parameter)
    other.load_state_dict(one.state_dict())
    pictures = torch.randn(4, 3, 8, 8, dtype=torch.float64)
    for mine, theirs in zip(answers(one, pictures), answers(other, pictures), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-10, atol=1e-12)


def test_a_network_of_another_make_is_left_as_it_is():
    class Alike(VGG):
        """A reader's own, which may do anything between the pool and the layer."""

    other = Alike(nn.Identity(), init_weights=False)
    mend(other)
    assert type(other.avgpool) is nn.AdaptiveAvgPool2d and type(other.classifier[0]) is nn.Linear
    own = small_vgg()
    mend(own)
    mend(own)  # twice is once
    assert (type(own.avgpool), type(own.classifier[0])) == (UnrepeatedPool, SummingLinear)
    assert type(own.features[0]) is type(own.features[3]) is WindowedConv
