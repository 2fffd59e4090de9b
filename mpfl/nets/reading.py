"""Whether a network and what it is given go together, and what is wrong if training fails."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn

from mpfl.nets.follow.network import first_line
from mpfl.types import MPFLError, Weights


@contextmanager
def reading(module: nn.Module, pictures: torch.Tensor) -> Iterator[None]:
    """Say in one line that ``module`` does not read pictures of this shape.

    Memory that is too small is another matter, and goes through.
    """
    try:
        yield
    except (RuntimeError, ValueError, IndexError) as error:
        if isinstance(error, MPFLError) or "memory" in str(error):
            raise
        _, channels, height, width = pictures.shape
        raise MPFLError(
            f"{type(module).__name__} does not read pictures of {channels} channels and "
            f"{height} x {width} pixels ({first_line(error)}); give larger ones, or pixels= to the "
            "trainer, or another network"
        ) from error


def logits_of(answer: Any, classes: int = 1) -> torch.Tensor:
    """What a network says of pictures, if that is a number for each of at least ``classes``."""
    if not isinstance(answer, torch.Tensor):
        raise MPFLError(
            f"the network puts out a {type(answer).__name__}; give one that puts out logits alone"
        )
    if answer.dim() != 2 or answer.shape[1] < classes:
        raise MPFLError(
            f"the network puts out {list(answer.shape)} for {len(answer)} pictures; give one that "
            f"puts out a logit for each of {classes} classes"
        )
    return answer


def require_channels(pictures: torch.Tensor, statistics: torch.Tensor) -> None:
    """Refuse a mean and deviation of other channels, which torch would repeat without a word."""
    if pictures.shape[1] != statistics.shape[1]:
        raise MPFLError(
            f"pictures have {pictures.shape[1]} channels, but mean and std are of "
            f"{statistics.shape[1]}; give one of each per channel"
        )


def failed(weights: Weights, first: float, last: float, lr: float) -> MPFLError:
    """Why the loss of a training is not a number.

    ``weights`` are those that it began from, ``first`` the loss before any step.
    """
    if math.isfinite(first):
        return MPFLError(f"the training loss is {last}; lower the learning rate {lr}")
    if wrong := [name for name, each in weights.items() if not np.isfinite(each).all()]:
        return MPFLError(
            f"the training loss is {first} from the start: {wrong[0]!r} of the weights it begins "
            "with holds NaN or infinity; give other weights"
        )
    return MPFLError(
        f"the training loss is {first} before the first step, so no learning rate mends it; look "
        "at the network's forward, and at how large the weights are that it begins with"
    )
