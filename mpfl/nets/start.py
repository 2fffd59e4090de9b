"""Where training starts: w0, drawn from a seed or trained before."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import safetensors.numpy
from safetensors import SafetensorError
from torch import nn

from mpfl.nets.tensors import float_state, to_numpy
from mpfl.seeds import rng_for
from mpfl.types import MPFLError, Weights


def initial_weights(module: nn.Module, seed: int) -> dict[str, np.ndarray]:
    """w0, distributed as torchvision draws it for VGG and ResNet, but by numpy from ``seed`` alone.

    Conv: normal, variance 2 / fan-out (He et al. 2015); batch norm: scale 1, shift 0;
    linear: normal, standard deviation 0.01; biases 0. Each layer has a stream of its own.
    """
    weights = {k: np.zeros(tuple(v.shape), np.float32) for k, v in float_state(module).items()}
    for path, part in module.named_modules():
        if isinstance(part, nn.Conv2d):
            fan_out = part.out_channels * part.kernel_size[0] * part.kernel_size[1]
            deviation = np.sqrt(2 / fan_out)
        elif isinstance(part, nn.Linear):
            deviation = 0.01
        elif isinstance(part, nn.BatchNorm2d):
            weights[f"{path}.weight"][:] = weights[f"{path}.running_var"][:] = 1
            continue
        else:
            continue
        rng = rng_for(seed, "w0", path)
        shape = weights[f"{path}.weight"].shape
        weights[f"{path}.weight"] = (deviation * rng.standard_normal(shape)).astype(np.float32)
    return weights


def _head(module: nn.Module) -> tuple[str, nn.Linear]:
    """The path of the last linear layer, whose outputs are the classes, and the layer."""
    return [(p, m) for p, m in module.named_modules() if isinstance(m, nn.Linear)][-1]


def fresh_head(module: nn.Module, weights: Weights, rng: np.random.Generator) -> Weights:
    """``weights`` with the last linear layer drawn anew, as torch draws a new ``nn.Linear``.

    Weight and bias are uniform within ``1 / sqrt(fan-in)`` of 0. Every other tensor is the
    one given, not a copy.
    """
    path, head = _head(module)
    bound = 1 / np.sqrt(weights[f"{path}.weight"].shape[1])
    drawn = {
        f"{path}.{name}": rng.uniform(-bound, bound, tuple(tensor.shape)).astype(np.float32)
        for name, tensor in head.named_parameters()
    }
    return {**weights, **drawn}


def pretrained_weights(name: str, module: nn.Module, source: str) -> dict[str, np.ndarray]:
    """w0 from elsewhere: ``"torchvision"`` (its ImageNet weights) or a safetensors file.

    If the head, the last linear layer, has another shape there (another number of classes), it
    keeps the weights in ``module``. Raises :class:`~mpfl.types.MPFLError` if the weights cannot
    be had or belong to another model.
    """
    weights = to_numpy(module)
    if source == "torchvision":
        if not name.startswith("torchvision-"):
            raise MPFLError(f"torchvision has no weights for {name!r}; use torchvision-vgg11")
        import torchvision  # here alone: it takes a second

        try:
            pretrained = torchvision.models.get_model(
                name.removeprefix("torchvision-"), weights="DEFAULT"
            )
        except (OSError, RuntimeError) as error:  # no network; a file damaged on the way
            raise MPFLError(
                f"torchvision's weights for {name!r} could not be downloaded ({error}); "
                "set w0 to a safetensors file that holds them, or to 'random'"
            ) from error
        loaded = to_numpy(pretrained)
    else:
        path = Path(source)
        if not path.is_file():
            raise MPFLError(f"w0: no file {source!r}; give 'random', 'torchvision' or a file")
        try:
            loaded = safetensors.numpy.load_file(path)
        except SafetensorError as error:
            raise MPFLError(f"w0: {source!r} is no safetensors file ({error})") from None
    # Take what fits; of what does not, only the head may be missing.
    fitting = {k: v for k, v in loaded.items() if k in weights and v.shape == weights[k].shape}
    head, _ = _head(module)
    for tensor, array in weights.items():
        if tensor not in fitting and tensor.rpartition(".")[0] != head:
            there = list(loaded[tensor].shape) if tensor in loaded else "missing"
            raise MPFLError(
                f"w0: {tensor!r} is {there} in {source!r} and {list(array.shape)} in {name!r}; "
                "were they of another model, or of another width?"
            )
    return weights | {name: array.astype(np.float32) for name, array in fitting.items()}
