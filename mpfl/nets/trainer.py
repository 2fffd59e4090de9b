"""One training loop, in which the mask is an invariant.

What trains is the small network that the mask leaves, so a pruned weight has nowhere to
live. The slow twin trains at full shapes and sets what is pruned to zero after every step.
Data stays in memory as uint8; augmentation works on tensors.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import wraps
from typing import Concatenate, ParamSpec, TypeVar

import numpy as np
import torch
from torch import nn

from mpfl import masks
from mpfl.filters import Layout, apply, cut, expand
from mpfl.nets.augment import shift_and_mirror
from mpfl.nets.cutting import skeleton
from mpfl.nets.hardware import default_device, has_bfloat16, on_threads
from mpfl.nets.pointwise import mend_strided_pointwise
from mpfl.nets.settings import Precision, Settings
from mpfl.nets.shard import Shard
from mpfl.nets.tensors import load_weights, to_numpy
from mpfl.types import Mask, MPFLError, Update, Weights

P = ParamSpec("P")
R = TypeVar("R")


def _on_its_threads(
    method: Callable[Concatenate[Trainer, P], R],
) -> Callable[Concatenate[Trainer, P], R]:
    """Run a method of a trainer on as many threads as that has."""

    @wraps(method)
    def run(trainer: Trainer, /, *args: P.args, **kwargs: P.kwargs) -> R:
        with on_threads(trainer.threads):
            return method(trainer, *args, **kwargs)

    return run


class Trainer:
    """Trains and evaluates one network; weights go in and come out as numpy arrays.

    They are at full shapes, whatever the mask. ``module`` is scratch space: every call loads
    the weights it is given. ``mean`` and ``std`` normalise the pixels, per channel, in 0-1
    units. ``compact=False`` is the slow twin, which trains at full shapes. ``precision`` is
    that of the sums: bfloat16 where it is fast (``auto``), or one that is named; weights
    come out in float32. ``computes`` says what came of it, and where, for the record.

    One processor thread unless told otherwise: sums depend on how many share them, and a
    result shall not depend on the machine's cores. Several nodes train side by side instead.
    """

    def __init__(
        self,
        module: nn.Module,
        layout: Layout,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        precision: Precision = "auto",
        pixels: int | None = None,
        device: torch.device | None = None,
        *,
        compact: bool = True,
        threads: int = 1,
    ) -> None:
        self.device = device or default_device()
        self._type = torch.float64 if precision == "float64" else torch.float32
        self.module = self._placed(module.to(self._type))
        self.layout, self._size = layout, pixels
        self._mean, self._std = (
            torch.tensor(each, dtype=self._type, device=self.device).view(1, -1, 1, 1) * 255
            for each in (mean, std)
        )
        self._bfloat16 = precision == "auto" and has_bfloat16(self.device)
        self.computes = f"{self.device}, {torch.bfloat16 if self._bfloat16 else self._type}"
        self._compact, self.threads = compact, threads
        self._small: tuple[bytes, nn.Module] = (b"", self.module)

    def _placed(self, module: nn.Module) -> nn.Module:
        mend_strided_pointwise(module)
        return module.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    def network(self, mask: Mask) -> nn.Module:
        """The network that computes with ``mask``; its weights are set by whoever uses it."""
        if not self._compact or masks.sparsity(mask) == 0:
            return self.module
        key = masks.flatten(mask, self.layout).tobytes()
        if key != self._small[0]:
            self._small = (key, self._placed(skeleton(self.module, mask, self.layout)))
        return self._small[1]

    def _load(self, weights: Weights, mask: Mask) -> tuple[nn.Module, bool]:
        """The network with these weights, and whether it is the small one."""
        module = self.network(mask)
        small = module is not self.module
        load_weights(module, (cut if small else apply)(weights, mask, self.layout))
        return module, small

    @_on_its_threads
    def fit(
        self,
        weights: Weights,
        mask: Mask,
        data: Shard,
        rng: np.random.Generator,
        settings: Settings,
        *,
        epochs: int,
        validation: Shard | None = None,
        gradients: bool = False,
        on_epoch: Callable[[int], None] = lambda epoch: None,
    ) -> Update:
        """Train ``weights`` on ``data`` for ``epochs``, the mask held all along.

        Where ``settings`` keep the best epoch, the accuracy on ``validation`` chooses it, and at
        a constant rate the update is that of a training stopped there. One epoch leaves no
        choice, and nothing is evaluated.

        A function of its arguments alone: every draw comes from ``rng``. Raises
        :class:`~mpfl.types.MPFLError` for fewer than two images (batch norm needs two), when
        the loss is no longer a number, and without the validation data that a choice needs.
        """
        if len(data) < 2:
            raise MPFLError(
                f"{len(data)} images to train on are too few; use fewer nodes or another partition"
            )
        judge = validation if settings.keep == "best" and epochs > 1 else None
        if settings.keep == "best" and epochs > 1 and not judge:
            raise MPFLError("keep is 'best', but there is no validation data; set keep to last")
        module, small = self._load(weights, mask)
        held = [] if small else self._held(mask)
        optimiser = _optimiser(module, settings)
        steps_an_epoch = math.ceil((len(data) - 1) / settings.batch)  # see _batches
        steps = epochs * steps_an_epoch
        step, losses = 0, []
        best, kept = -1, epochs - 1
        gpus = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices=gpus):  # dropout draws from torch's own generator
            torch.manual_seed(int(rng.integers(2**62)))
            for epoch in range(epochs):
                on_epoch(epoch)
                module.train()
                for index in _batches(len(data), settings.batch, rng):
                    if settings.decay == "cosine":
                        factor = 0.5 * (1 + math.cos(math.pi * step / steps))
                        optimiser.param_groups[0]["lr"] = settings.lr * factor
                    loss = self._loss(module, data, index, rng if settings.augment else None)
                    optimiser.zero_grad()
                    loss.backward()
                    optimiser.step()
                    hold(held)
                    losses.append(loss.detach())
                    step += 1
                if judge is not None and (right := self._right(module, judge)) > best:
                    best, kept, chosen = right, epoch, to_numpy(module)
        last = torch.stack(losses[-steps_an_epoch:]).mean().item()
        if not math.isfinite(last):
            raise MPFLError(f"the training loss is {last}; lower the learning rate {settings.lr}")
        if kept < epochs - 1:
            load_weights(module, chosen)
            last = torch.stack(losses[kept * steps_an_epoch :][:steps_an_epoch]).mean().item()
        trained: Weights = to_numpy(module)
        found: Weights | None = self._mean_gradients(module, data) if gradients else None
        if small:
            trained = expand(trained, mask, self.layout)
            found = None if found is None else expand(found, mask, self.layout)
        return Update(trained, found, {"loss": last})

    @_on_its_threads
    def accuracy(self, weights: Weights, mask: Mask, data: Shard) -> float:
        """Share of ``data`` that the network left by ``mask`` classifies right, 0-1."""
        module, _ = self._load(weights, mask)
        return self._right(module, data) / len(data)

    def _right(self, module: nn.Module, data: Shard) -> int:
        """How many pictures ``module`` classifies right, as it is."""
        module.eval()
        right = 0
        with torch.inference_mode():
            for images, labels in zip(data.images.split(512), data.labels.split(512), strict=True):
                guess = self._logits(module, self._pixels(images)).argmax(1)
                right += int((guess == labels.to(self.device)).sum())
        return right

    def _logits(self, module: nn.Module, pixels: torch.Tensor) -> torch.Tensor:
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self._bfloat16):
            return module(pixels).to(self._type)

    def _pixels(self, images: torch.Tensor) -> torch.Tensor:
        pixels = (images.to(self.device, self._type) - self._mean) / self._std
        if self._size is not None and pixels.shape[-1] != self._size:
            size = (self._size, self._size)
            pixels = nn.functional.interpolate(pixels, size, mode="bilinear", antialias=True)
        return pixels.contiguous(memory_format=torch.channels_last)

    def _loss(
        self,
        module: nn.Module,
        data: Shard,
        index: torch.Tensor,
        rng: np.random.Generator | None,
    ) -> torch.Tensor:
        index = index.to(data.images.device)
        images, labels = data.images[index], data.labels[index].to(self.device)
        if rng is not None:
            images = shift_and_mirror(images, rng)
        return nn.functional.cross_entropy(self._logits(module, self._pixels(images)), labels)

    def _held(self, mask: Mask) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Each tensor that the mask touches, with its 0/1 factor."""
        if masks.sparsity(mask) == 0:
            return []
        tensors = dict(self.module.named_parameters()) | dict(self.module.named_buffers())
        touched = {t for layer in self.layout.layers for t in layer.own}
        touched |= {reader.tensor for reader in self.layout.readers}
        ones = {name: np.ones(self.layout.shapes[name], np.float32) for name in touched}
        factors = apply(ones, mask, self.layout)
        return [
            (tensors[name], torch.from_numpy(factor).to(self.device))
            for name, factor in factors.items()
        ]

    def _mean_gradients(self, module: nn.Module, data: Shard) -> dict[str, np.ndarray]:
        """Mean gradient of the loss over ``data``, with the statistics that evaluation uses."""
        module.eval()
        module.zero_grad()
        for index in torch.arange(len(data)).split(512):
            (self._loss(module, data, index, None) * (len(index) / len(data))).backward()
        found = {}
        for name, parameter in module.named_parameters():
            assert parameter.grad is not None
            found[name] = parameter.grad.cpu().contiguous().numpy()
        module.zero_grad()
        return found


def _optimiser(module: nn.Module, settings: Settings) -> torch.optim.Optimizer:
    lr, decay = settings.lr, settings.weight_decay
    if settings.optimiser == "adam":
        # In one pass over the numbers: several times as fast where there are a hundred million.
        return torch.optim.Adam(module.parameters(), lr=lr, weight_decay=decay, fused=True)
    momentum = settings.momentum
    return torch.optim.SGD(
        module.parameters(), lr=lr, momentum=momentum, weight_decay=decay, foreach=True
    )


def hold(held: list[tuple[torch.Tensor, torch.Tensor]]) -> None:
    """Set what is pruned to exactly zero, whatever the optimiser's memory did to it."""
    with torch.no_grad():
        for tensor, factor in held:
            tensor.mul_(factor)


def _batches(size: int, batch: int, rng: np.random.Generator) -> list[torch.Tensor]:
    """A shuffled pass over the data; a last batch of one picture joins the one before it."""
    order = torch.from_numpy(rng.permutation(size))
    parts = list(order.split(batch))
    if len(parts) > 1 and len(parts[-1]) == 1:  # batch norm needs two pictures
        parts[-2:] = [torch.cat(parts[-2:])]
    return parts
