"""Where training starts: w0, drawn from a seed or trained before."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import safetensors.numpy
from safetensors import SafetensorError
from torch import nn

from mpfl.nets.draws import ZERO, draw_of, is_conv_net
from mpfl.nets.tensors import float_state, to_numpy
from mpfl.seeds import rng_for
from mpfl.types import MPFLError, Weights


def initial_weights(module: nn.Module, seed: int, *, strict: bool = True) -> dict[str, np.ndarray]:
    """w0, distributed as torch and torchvision draw it, but by NumPy from ``seed`` alone.

    - Conv: normal, variance 2 / fan-out (He et al. 2015); variance 1 / fan-in for the patches of a
      transformer.
    - Linear: normal, standard deviation 0.01, in a network of Conv2d, BatchNorm2d and Linear, as in
      torchvision's VGG and ResNet; in any other uniform, variance 2 / (fan-in + fan-out) (Glorot &
      Bengio 2010), as in its ViT.
    - Attention: queries, keys and values uniform like that, the projection behind them uniform
      within 1 / sqrt(fan-in) of 0.
    - GRU, LSTM, RNN: all uniform within 1 / sqrt(hidden units) of 0.
    - Norms: scale 1, shift 0. Embedding: standard normal. PReLU: its ``init``.
    - Parameters of a module of no known kind, such as positions: normal, standard deviation 0.02.
    - Biases 0.

    Each part has a stream of its own. Raises :class:`~mpfl.types.MPFLError`, naming the part, for
    weights that none of this covers; with ``strict=False`` they are zero.
    """
    conv_net = is_conv_net(module.modules())
    weights = {k: np.zeros(tuple(v.shape), np.float32) for k, v in float_state(module).items()}
    for path, part in module.named_modules():
        dot = f"{path}." if path else ""
        own = [name for name in weights if name.rpartition(".")[0] == path]
        draw = draw_of(part, conv_net=conv_net)
        drawn = draw(rng_for(seed, "w0", path)) if own and draw is not None else {}
        for tensor in own:
            name = tensor.removeprefix(dot)
            if name in drawn:
                weights[tensor] = drawn[name].astype(np.float32)
            elif strict and (draw is None or name not in ZERO):
                raise MPFLError(
                    f"{path or 'the network'} ({type(part).__name__}): how its {name!r} is drawn "
                    "at random is not known; give the weights to start from, as a safetensors "
                    "file, by w0=FILE"
                )
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
