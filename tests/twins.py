"""The masked network and the cut one, and what is compared of the two."""

import copy

import numpy as np

from mpfl.filters import apply
from mpfl.nets.layouts import share_walk
from mpfl.nets.tensors import float_state, load_weights


def arrays(module):
    return {name: tensor.numpy().copy() for name, tensor in float_state(module).items()}


def masked(module, mask, layout):
    """The slow twin: full shapes, zeros where pruned."""
    twin = copy.deepcopy(module)
    share_walk(twin, module)
    load_weights(twin, apply(arrays(module), mask, layout))
    return twin


def gradients(module):
    return {n: p.grad.numpy() for n, p in module.named_parameters() if p.grad is not None}


def assert_near(found, expected, close=1e-10):
    """Equal but for rounding, in units of the largest value of each tensor, or of one of all."""
    assert found.keys() == expected.keys()
    largest = max(np.abs(array).max(initial=0) for array in expected.values())
    for name, array in found.items():
        scale = max(np.abs(expected[name]).max(initial=0), 1e-3 * largest)
        apart = np.abs(array - expected[name]).max(initial=0)
        assert apart <= close * scale, f"{name}: {apart / scale:.1e}"
