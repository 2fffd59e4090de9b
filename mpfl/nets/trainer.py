"""One training loop, in which the mask is an invariant.

What trains is the small network that the mask leaves, so a pruned weight has nowhere to
live. The slow twin trains at full shapes and sets what is pruned to zero after every step.
Data stays in memory as uint8; augmentation works on tensors.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from jaxtyping import Bool
from torch import nn

from mpfl import masks
from mpfl.data.dataset import check_statistics
from mpfl.filters import Layout, apply, cut, expand
from mpfl.nets import start
from mpfl.nets.augment import crop_and_mirror, shift_and_mirror
from mpfl.nets.cutting import skeleton
from mpfl.nets.epochs import Epochs
from mpfl.nets.hardware import default_device, has_bfloat16, on_threads
from mpfl.nets.held import held_tensors, hold
from mpfl.nets.narrow_norm import mend_narrow_norms
from mpfl.nets.pixels import centre, normalised
from mpfl.nets.pointwise import mend_strided_pointwise
from mpfl.nets.reading import failed, logits_of, reading, require_channels
from mpfl.nets.repeated import mend_repeated_pixels
from mpfl.nets.settings import Precision, Settings, View
from mpfl.nets.shard import Shard
from mpfl.nets.tensors import load_weights, to_numpy
from mpfl.nets.tiny_maps import mend_tiny_maps
from mpfl.types import CARRIED, Mask, MPFLError, Update, Weights

_Shown = Callable[[torch.Tensor], torch.Tensor]
_BEST = f"{CARRIED}best"


class Trainer:
    """Trains and evaluates one network; weights go in and come out as NumPy arrays.

    They are at full shapes, whatever the mask. ``module`` is scratch space: every call loads the
    weights it is given. ``mean`` and ``std`` normalise the pixels, per channel, in units of 0-1.
    ``compact=False`` is the slow twin, which trains at full shapes. ``view`` is what the network
    sees of a picture, at ``pixels``. Sums have the ``precision`` that is named, and weights come
    out in float32. ``computes`` says on which device and in which precision, for the record.

    One processor thread by default: sums depend on how many threads share them, and a result
    must not depend on the machine's cores. Several nodes train side by side instead.
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
        view: View = "whole",
    ) -> None:
        check_statistics("trainer", mean, std, len(mean))
        self.device = device or default_device()
        self._type = torch.float64 if precision == "float64" else torch.float32
        self.module = self._placed(module.to(self._type))
        self.layout, self._size = layout, pixels
        self._mean, self._std = (
            torch.tensor(values, dtype=self._type, device=self.device).view(1, -1, 1, 1) * 255
            for values in (mean, std)
        )
        self._bfloat16 = precision == "auto" and has_bfloat16(self.device)
        self.computes = f"{self.device}, {torch.bfloat16 if self._bfloat16 else self._type}"
        self._compact, self.threads, self._view = compact, threads, view
        self._small: tuple[bytes, nn.Module] = (b"", self.module)

    def _placed(self, module: nn.Module) -> nn.Module:
        mend_strided_pointwise(module)
        mend_repeated_pixels(module)
        mend_tiny_maps(module)
        mend_narrow_norms(module)
        return module.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    def network(self, mask: Mask) -> nn.Module:
        """The network that computes with ``mask``; whoever uses it sets its weights.

        The small network of the last mask is kept, because a node asks for it again and again.
        """
        if not self._compact or masks.sparsity(mask) == 0:
            return self.module
        key = masks.flatten(mask, self.layout).tobytes()
        if key != self._small[0]:
            self._small = (key, self._placed(skeleton(self.module, mask, self.layout)))
        return self._small[1]

    def _load(self, weights: Weights, mask: Mask) -> nn.Module:
        """The network of ``mask`` with these weights in it."""
        module = self.network(mask)
        weights = {name: array for name, array in weights.items() if not name.startswith(CARRIED)}
        fitting = apply if module is self.module else cut
        load_weights(module, fitting(weights, mask, self.layout))
        return module

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
        fresh_head: bool = False,
        gradients: bool = False,
        on_epoch: Callable[[int], None] = lambda epoch: None,
        after_epoch: Callable[[nn.Module], None] = lambda module: None,
    ) -> Update:
        """Train ``weights`` on ``data`` for ``epochs``, with the mask held throughout.

        If ``settings`` keep the best epoch, the accuracy on what ``data`` hold out chooses it,
        varied like the training pictures; on ``validation``, as it is, if they hold nothing out.
        At a constant rate the update is that of a training stopped there. A single epoch leaves
        no choice, and nothing is evaluated. The best accuracy ever is carried on from training to
        training, if it matters. ``fresh_head`` draws the last linear layer anew first.
        ``gradients`` adds the mean gradient over ``data``. ``on_epoch`` is called before each
        epoch, ``after_epoch`` with the network as it is then, which it may evaluate.

        A function of its arguments alone: every draw comes from ``rng``. Raises
        :class:`~mpfl.types.MPFLError` for fewer than two images (batch norm needs two), if the
        loss or a weight is no longer a number, if there is no validation data to choose by, and if
        the network does not read these pictures or has no output for a label.
        """
        if len(data) < 2:
            raise MPFLError(
                f"{len(data)} images to train on are too few; use fewer nodes or another partition"
            )
        choosing, ever = settings.keep != "last" and epochs > 1, settings.keep == "best-ever"
        judge = (data.validation or validation) if choosing else None
        if choosing and not judge:
            raise MPFLError(
                f"keep is {settings.keep!r}, but there is no validation data; set keep to last"
            )
        best = int(weights[_BEST]) if ever and _BEST in weights else -1
        if fresh_head:
            weights = start.fresh_head(self.module, weights, rng)
        gpus = [self.device] if self.device.type == "cuda" else []
        with on_threads(self.threads), torch.random.fork_rng(devices=gpus):
            # Dropout draws from torch's own generator: seeded here, given back afterwards.
            torch.manual_seed(int(rng.integers(2**62)))
            module = self._load(weights, mask)
            # The small network has no pruned weights to hold.
            held = held_tensors(module, mask, self.layout) if module is self.module else []
            optimiser = _optimiser(module, settings)
            varied = partial(self._varied, settings=settings, rng=rng)
            shown = varied if data.validation else self._seen
            judging = partial(self._right, module, judge, shown) if judge else None
            passes = Epochs(epochs, module, judging, best)
            means: list[float] = []  # the mean loss of each epoch
            first = None  # the loss before any step
            for epoch in passes:
                on_epoch(epoch)
                module.train()  # judging it has set it to evaluation
                batches, losses = data.batches(settings.batch, rng)[: settings.steps], []
                for step, places in enumerate(batches, start=epoch * len(batches)):
                    # 1. The learning rate of this step.
                    optimiser.param_groups[0]["lr"] = settings.rate(step, epochs * len(batches))
                    # 2. The loss of this batch.
                    batch = data.take(places)
                    logits = self._logits(module, varied(batch.images))
                    data.require_classes(logits.shape[1])
                    loss = nn.functional.cross_entropy(logits, batch.labels.to(self.device))
                    first = loss.detach() if first is None else first
                    # 3. A step against its gradient; what is pruned stays zero.
                    optimiser.zero_grad()
                    loss.backward()
                    optimiser.step()
                    hold(held)
                    losses.append(loss.detach())
                means.append(torch.stack(losses).mean().item())
                after_epoch(module)
            if first is not None and not math.isfinite(means[-1]):
                raise failed(weights, first.item(), means[-1], settings.lr)
            trained: Weights = to_numpy(module)
            if wrong := [name for name, each in trained.items() if not np.isfinite(each).all()]:
                raise MPFLError(
                    f"training diverged, {wrong[0]!r} holds NaN or infinity; lower the learning "
                    f"rate {settings.lr}"
                )
            slopes: Weights | None = self._mean_gradients(module, data) if gradients else None
        if module is not self.module:  # back to full shapes, with zeros where it was cut
            trained = expand(trained, mask, self.layout)
            slopes = None if slopes is None else expand(slopes, mask, self.layout)
        carry = {_BEST: np.array(passes.best)} if ever and judge else {}
        return Update(trained, slopes, {"loss": means[passes.kept]}, carry)

    def right(self, weights: Weights, mask: Mask, data: Shard) -> Bool[np.ndarray, " pictures"]:
        """Which pictures of ``data`` the network left by ``mask`` classifies correctly."""
        with on_threads(self.threads):
            return self.classified(self._load(weights, mask), data)

    def accuracy(self, weights: Weights, mask: Mask, data: Shard) -> float:
        """The share of them, 0-1."""
        return float(self.right(weights, mask, data).mean())

    def _seen(self, images: torch.Tensor) -> torch.Tensor:
        """Pictures as evaluation shows them."""
        size = self._size or images.shape[-1]
        return centre(images, size) if self._view == "centre" else images

    def _varied(
        self, images: torch.Tensor, settings: Settings, rng: np.random.Generator
    ) -> torch.Tensor:
        """Pictures as training shows them."""
        if settings.crop:
            return crop_and_mirror(images, rng, self._size or images.shape[-1])
        return self._seen(shift_and_mirror(images, rng) if settings.augment else images)

    def classified(
        self, module: nn.Module, data: Shard, shown: _Shown | None = None
    ) -> Bool[np.ndarray, " pictures"]:
        """Which pictures ``module`` classifies correctly, as it is; it is left in evaluation.

        They are ``shown`` as evaluation shows them, unless told otherwise.
        """
        shown = shown or self._seen
        module.eval()
        right = []
        with torch.inference_mode():
            for images, labels in zip(data.images.split(512), data.labels.split(512), strict=True):
                guess = self._logits(module, shown(images)).argmax(1)
                right.append(guess == labels.to(self.device))
        return torch.cat(right).cpu().numpy()

    def _right(self, module: nn.Module, data: Shard, shown: _Shown) -> int:
        return int(self.classified(module, data, shown).sum())

    def _logits(self, module: nn.Module, images: torch.Tensor) -> torch.Tensor:
        """What ``module`` says about pictures, 0 to 255."""
        pixels = images.to(self.device, self._type)
        require_channels(pixels, self._mean)
        pixels = normalised(pixels, self._mean, self._std, self._size)
        pixels = pixels.contiguous(memory_format=torch.channels_last)
        narrow = torch.autocast(self.device.type, torch.bfloat16, enabled=self._bfloat16)
        with reading(module, pixels), narrow:
            return logits_of(module(pixels)).to(self._type)

    def _mean_gradients(self, module: nn.Module, data: Shard) -> dict[str, np.ndarray]:
        """Mean gradient of the loss over ``data``, with the statistics that evaluation uses."""
        module.eval()
        module.zero_grad()
        for places in torch.arange(len(data)).split(512):
            batch = data.take(places)
            logits = self._logits(module, self._seen(batch.images))
            loss = nn.functional.cross_entropy(logits, batch.labels.to(self.device))
            (loss * (len(batch) / len(data))).backward()
        slopes = {}
        for name, parameter in module.named_parameters():
            assert parameter.grad is not None
            slopes[name] = parameter.grad.cpu().contiguous().numpy()
        module.zero_grad()
        return slopes


def _optimiser(module: nn.Module, settings: Settings) -> torch.optim.Optimizer:
    lr, decay = settings.lr, settings.weight_decay
    if settings.optimiser == "adam":
        # In one pass over the numbers: several times as fast with a hundred million of them.
        return torch.optim.Adam(module.parameters(), lr=lr, weight_decay=decay, fused=True)
    momentum = settings.momentum
    return torch.optim.SGD(
        module.parameters(), lr=lr, momentum=momentum, weight_decay=decay, foreach=True
    )
