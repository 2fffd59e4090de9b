"""A network as an ONNX file: written, run in onnxruntime, and compared with torch."""

from __future__ import annotations

import copy
import importlib
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from torch import nn

from mpfl.nets.pixels import normalised
from mpfl.types import MPFLError

Call: TypeAlias = Callable[[], np.ndarray]
"""Runs a network once on pictures fixed before; returns its logits."""


class Classifier(nn.Module):
    """A network with its preparation: float32 pixels of 0-255 in, logits out.

    ``mean`` and ``std`` are per channel, in units of 0-1. ``pixels`` is the height and width
    that the network sees (None: those of the picture).
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(
        self,
        network: nn.Module,
        mean: Sequence[float],
        std: Sequence[float],
        pixels: int | None = None,
    ) -> None:
        super().__init__()
        self.network, self.size = network, pixels
        for name, values in (("mean", mean), ("std", std)):
            self.register_buffer(name, torch.tensor(values).view(1, -1, 1, 1) * 255)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.network(normalised(pixels, self.mean, self.std, self.size))


@dataclass(frozen=True)
class Exported:
    """A network as torch runs it, and as the bytes of an ONNX file.

    ``shape`` is that of one input, as a rule of a picture: channels, height, width.
    """

    network: nn.Module
    shape: tuple[int, ...]
    file: bytes

    def in_torch(self, pictures: np.ndarray) -> Call:
        """Runs the network on float32 ``pictures``, in the memory format that torch is fast at."""
        fast = torch.channels_last
        network = copy.deepcopy(self.network).to(memory_format=fast)  # type: ignore[call-overload]
        inputs = torch.from_numpy(pictures).contiguous(memory_format=fast)

        def run() -> np.ndarray:
            with torch.inference_mode():
                return network(inputs).numpy()

        return run

    def in_ort(self, pictures: np.ndarray) -> Call:
        """Runs the file on float32 ``pictures``, on one processor thread."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(self.file, options, ["CPUExecutionProvider"])
        return lambda: session.run(["logits"], {"pixels": pictures})[0]


def _require_packages() -> None:
    for package in ("onnx", "onnxscript", "onnxruntime"):
        try:
            importlib.import_module(package)
        except ImportError:
            raise MPFLError(
                f"export needs the package {package!r}; "
                "get it with: pip install onnx onnxscript onnxruntime"
            ) from None


def is_onnx(path: Path) -> bool:
    """Whether a file holds an ONNX model. Raises if a package is missing."""
    _require_packages()
    import onnx

    try:
        model = onnx.load_model_from_string(path.read_bytes())
    except Exception:  # whatever keeps it from being read, it is none
        return False
    return bool(model.ir_version and model.graph.node)


def exported(
    network: nn.Module, shape: tuple[int, ...], facts: Mapping[str, str] | None = None
) -> Exported:
    """``network`` in evaluation mode and its ONNX form: ``pixels [batch, *shape]`` to ``logits``.

    ``facts`` become the file's metadata. The network given stays as it is. Raises
    :class:`~mpfl.types.MPFLError` if a package is missing.
    """
    _require_packages()
    import onnx

    network = copy.deepcopy(network).to("cpu", torch.float32).eval()
    with warnings.catch_warnings():  # torch warns of its own internals
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            network,
            (torch.zeros(2, *shape),),
            input_names=["pixels"],
            output_names=["logits"],
            dynamic_shapes=({0: "batch"},),
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    graph = model.graph
    parts = (*graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer)
    for part in (graph, *parts):
        del part.metadata_props[:]  # torch's notes: lines of code and paths of this machine
    onnx.helper.set_model_props(model, dict(facts or {}))
    onnx.checker.check_model(model, full_check=True)
    return Exported(network, shape, model.SerializeToString(deterministic=True))


def logit_difference(one: Exported, pictures: np.ndarray) -> float:
    """The largest difference between onnxruntime's logits and torch's, over the largest logit.

    If it is small, both name the same class, unless the two highest logits are just as close.
    """
    apart, scale = [], [1e-30]
    for start in range(0, len(pictures), 64):
        some = pictures[start : start + 64].astype(np.float32)
        ours, theirs = one.in_torch(some)(), one.in_ort(some)()
        apart.append(np.abs(theirs - ours).max())
        scale.append(np.abs(ours).max())
    return float(np.max(apart) / np.max(scale))
