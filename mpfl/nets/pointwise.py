"""Strided 1x1 convolutions, computed so that oneDNN cannot corrupt memory.

On a CPU, torch hands a float32 convolution in channels-last memory to oneDNN. Its kernel for
1x1 convolutions gets the gradient of the weights wrong if the stride is above 1 and there are
fewer input channels than the kernel takes at a time (8 with AVX2, 16 with AVX-512): it writes
past the end of its workspace. The process crashes or hangs, or the gradients are wrong without
a word. See https://github.com/uxlfoundation/oneDNN/issues/6035.

The shortcuts of a pruned ResNet are such convolutions. A 1x1 kernel with stride s reads every
s-th pixel and no other, so picking those pixels first and convolving with stride 1 is the same
function, and the kernel at fault never runs.
"""

from __future__ import annotations

import torch
from torch import nn


class StridedPointwise(nn.Conv2d):
    """A strided 1x1 convolution that picks its pixels first, then convolves with stride 1."""

    def _conv_forward(
        self, input: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None
    ) -> torch.Tensor:
        down, across = self.stride
        return nn.functional.conv2d(input[:, :, ::down, ::across], weight, bias)


def mend_strided_pointwise(module: nn.Module) -> None:
    """Turn every strided 1x1 convolution in ``module`` into a :class:`StridedPointwise`.

    In place, and by its class alone: parameters, names, hooks and settings stay, and it is an
    ``nn.Conv2d`` still. Convolutions with padding or groups are left as they are.
    """
    for part in module.modules():
        if (
            type(part) is nn.Conv2d
            and part.kernel_size == (1, 1)
            and part.stride != (1, 1)
            and part.padding in ((0, 0), "valid")
            and part.groups == 1
        ):
            part.__class__ = StridedPointwise
