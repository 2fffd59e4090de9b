"""The first dense layer of torchvision's VGG, computed faster if its inputs repeat.

The pool before it makes 7 x 7 pixels of whatever comes. Of small pictures one pixel per channel
comes: it is repeated 49 times, and the layer multiplies each copy by a weight of its own. Summing
those weights first and multiplying once is the same function, with the same gradients but for
the last digits, as every copy's weight has the gradient of their sum.
"""

from __future__ import annotations

import torch
from torch import nn


class UnrepeatedPool(nn.AdaptiveAvgPool2d):
    """A pool that in training hands on a single pixel per channel as it is, instead of copies."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        if self.training and input.shape[-2:] == (1, 1):
            return input
        return super().forward(input)


class SummingLinear(nn.Linear):
    """A linear layer that takes one value where it has a run of weights, and sums these first."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        given = input.shape[-1]
        if given == self.in_features:
            return super().forward(input)
        summed = self.weight.unflatten(1, (given, -1)).sum(2)
        return nn.functional.linear(input, summed, self.bias)


def mend_repeated_pixels(module: nn.Module) -> None:
    """Let torchvision's VGG, if ``module`` is one, train without copies of a single pixel.

    In place, and by the parts' classes alone, as in :mod:`mpfl.nets.pointwise`. Only in this
    network is it known that nothing but a flattening lies between the pool and the layer.
    Evaluation computes as before.
    """
    if type(module).__module__ != "torchvision.models.vgg":
        return
    pool, first = module.get_submodule("avgpool"), module.get_submodule("classifier.0")
    if type(pool) is nn.AdaptiveAvgPool2d and type(first) is nn.Linear:
        pool.__class__, first.__class__ = UnrepeatedPool, SummingLinear
