"""Whatever is trained in an experiment, and on what: its data, network, w0 and settings."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool

from mpfl import data as datasets
from mpfl.algorithm import Initialise, LocalTrain, Start
from mpfl.baselines.released_fl import CentreTrain
from mpfl.filters import Layout, apply, require_chain, rescaled
from mpfl.granularity import finer
from mpfl.nets.networks import build
from mpfl.nets.pixels import IMAGENET, noise_pictures, uncut
from mpfl.nets.reading import logits_of
from mpfl.nets.refusals import refuse_other_kinds
from mpfl.nets.settings import Settings
from mpfl.nets.start import initial_weights, pretrained_weights
from mpfl.nets.tensors import load_weights
from mpfl.nets.tracing import layout_of
from mpfl.nets.trainer import Trainer
from mpfl.prune import needs_gradients
from mpfl.runs.experiment import Experiment
from mpfl.runs.final_start import Parts
from mpfl.runs.naming import describe
from mpfl.runs.parties import Parties
from mpfl.seeds import Rng, rng_for
from mpfl.types import Mask, MPFLError, Update, Weights
from mpfl.wire import round_weights

OnEpoch = Callable[[int], None]


class Trained(NamedTuple):
    """What a central training came to.

    ``right`` says of each test picture whether the network classifies it correctly, and
    ``accuracies``, 0-1, how many it did after each epoch.
    """

    weights: Weights
    right: Bool[np.ndarray, " pictures"]
    accuracies: tuple[float, ...]
    seconds: float

    @property
    def accuracy(self) -> float:
        """Share of the test pictures that it classifies correctly, 0-1."""
        return float(self.right.mean())


class Trainings(Parts):
    """The trainings of an experiment; ``on_epoch`` is called before every local epoch."""

    def __init__(
        self,
        experiment: Experiment,
        root: Path = Path("data"),
        *,
        on_epoch: OnEpoch = lambda epoch: None,
    ) -> None:
        self.experiment, self.on_epoch = experiment, on_epoch
        size = {}
        if (pixels := experiment.pixels) is not None:
            size = {"pixels": uncut(pixels) if experiment.view == "centre" else pixels}
        self.dataset = datasets.load(experiment.dataset, root, **size)
        self.parties = Parties(experiment, self.dataset)
        self.layout = self.trainer.layout
        if experiment.rescaled:
            require_chain(self.layout)

    def _module(self) -> torch.nn.Module:
        e, classes = self.experiment, len(self.dataset.classes)
        if not isinstance(e.model, str):
            return e.model(classes)
        return build(e.model, classes, width=e.width, pixels=self._seen[-1])

    @property
    def _seen(self) -> tuple[int, int, int]:
        """Channels, height and width of a picture as the network sees it."""
        channels, _, own = self.dataset.train_images.shape[1:]
        pixels = self.experiment.pixels or own
        return channels, pixels, pixels

    def _layout(self, module: torch.nn.Module) -> Layout:
        """Where the units of ``module`` are; refuses it if it cannot read the pictures."""
        e = self.experiment
        refuse_other_kinds(module)
        pictures = noise_pictures(*self._seen)
        try:
            with torch.no_grad():
                answer = module.eval()(pictures)
        except (RuntimeError, ValueError, IndexError) as error:
            channels, _, pixels = self._seen
            raise MPFLError(
                f"model {describe(e.model)!r} reads other pictures ({str(error).splitlines()[0]}); "
                f"those of {e.dataset!r} have {channels} channels of {pixels} x {pixels} pixels; "
                "choose another model or data set, or set pixels"
            ) from error
        logits_of(answer, len(self.dataset.classes))
        own = not isinstance(e.model, str)
        return layout_of(module, e.prunes, inputs=pictures, units=e.units, verify=own)

    @cached_property
    def trainer(self) -> Trainer:
        """Trains and evaluates the network that a mask leaves."""
        module, e = self._module(), self.experiment
        layout = finer(self._layout(module), e.granularity)
        cuttable = e.prunes == e.granularity == "filter"
        return Trainer(
            module,
            layout,
            *self._statistics(),
            e.precision,
            e.pixels,
            compact=cuttable,
            view=e.view,
        )

    def _statistics(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and deviation of the pixels, for each channel."""
        mean, std = self.dataset.mean, self.dataset.std
        if self.experiment.statistics == "dataset":
            return mean, std
        if len(mean) != len(IMAGENET[0]):
            raise MPFLError(
                f"statistics 'imagenet' are of {len(IMAGENET[0])} channels, but the pictures of "
                f"{self.experiment.dataset!r} have {len(mean)}; set statistics to dataset"
            )
        return IMAGENET

    @cached_property
    def start(self) -> Start:
        """w0, and the seed that carries it if it is a random initialisation."""
        e = self.experiment
        if e.w0 == "random":
            return Start(self.initialise(e.seed), e.seed)
        module = self._module()
        # The file may bring all but the head, also what nobody knows how to draw.
        load_weights(module, initial_weights(module, e.seed, strict=False))
        w0 = _from_elsewhere(describe(e.model), module, e.w0)
        if e.w0_bits is not None:
            w0 = round_weights(w0, self.layout, e.w0_bits)
        return Start(w0, bits=e.w0_bits)

    @cached_property
    def initialise(self) -> Initialise:
        """How w0 is drawn; the last one is kept, as all who take part in a run ask for it."""
        return lru_cache(maxsize=1)(partial(initial_weights, self.trainer.module))

    @cached_property
    def trained(self) -> tuple[str, ...]:
        """The tensors that training changes step by step; one that has two names has both."""
        every = self.trainer.module.named_parameters(remove_duplicate=False)
        return tuple(name for name, parameter in every if parameter.requires_grad)

    def right(self, weights: Weights, mask: Mask) -> Bool[np.ndarray, " pictures"]:
        """Which test pictures the network left by ``mask`` classifies correctly."""
        return self.trainer.right(weights, mask, self.parties.test)

    def accuracy(self, weights: Weights, mask: Mask) -> float:
        """The share of them, 0-1."""
        return float(self.right(weights, mask).mean())

    def local_training(
        self,
        *,
        settings: Settings | None = None,
        epochs: int | None = None,
        fresh_head: bool = False,
        gradients: bool = False,
        on_epoch: OnEpoch | None = None,
        after_epoch: Callable[[torch.nn.Module], None] = lambda module: None,
    ) -> LocalTrain:
        """What a node does with its data in a round, unless told otherwise.

        It is :meth:`mpfl.nets.trainer.Trainer.fit` with the experiment's settings filled in.
        """
        settings = settings or self.experiment.local
        return partial(
            self.trainer.fit,
            settings=settings,
            epochs=epochs or self.experiment.epochs,
            validation=None if settings.keep == "last" else self.parties.test,
            fresh_head=fresh_head,
            gradients=gradients,
            on_epoch=on_epoch or self.on_epoch,
            after_epoch=after_epoch,
        )

    def scored_training(self) -> LocalTrain:
        """Local training from w0 whose result is scored: with gradients, if the score asks."""
        e = self.experiment
        return self.local_training(fresh_head=e.head == "fresh", gradients=needs_gradients(e.score))

    def centre_training(self) -> CentreTrain:
        """The same at the party that has the data of all; nobody is told of its epochs."""
        e = self.experiment
        train = self.local_training(
            fresh_head=e.head == "fresh",
            gradients=needs_gradients(e.score),
            on_epoch=lambda epoch: None,
        )

        def at_the_centre(weights: Weights, mask: Mask, rng: Rng) -> Update:
            return train(weights, mask, self.parties.pooled, rng)

        return at_the_centre

    def train_centrally(self, mask: Mask, on_epoch: OnEpoch | None = None) -> Trained:
        """What ``mask`` leaves, trained from w0 on all data in one place."""
        e, began = self.experiment, time.perf_counter()
        accuracies: list[float] = []

        def test(module: torch.nn.Module) -> None:
            accuracies.append(float(self.trainer.classified(module, self.parties.test).mean()))

        train = self.local_training(
            settings=e.final,
            epochs=e.central_epochs,
            fresh_head=e.head == "fresh",
            on_epoch=on_epoch,
            after_epoch=test,
        )
        w0 = self.start.w0
        if e.rescaled:
            w0 = rescaled(w0, mask, self.layout)
        begin = apply(w0, mask, self.layout)
        update = train(begin, mask, self.parties.pooled, rng_for(e.seed, "central"))
        right = self.right(update.weights, mask)
        return Trained(update.weights, right, tuple(accuracies), time.perf_counter() - began)


def _from_elsewhere(model: str, module: torch.nn.Module, source: str) -> Weights:
    """w0 as ``source`` has it; raises for numbers that no training could start from."""
    try:
        with np.errstate(over="ignore"):  # it is infinite then, and refused below
            weights = pretrained_weights(model, module, source)
    except (AttributeError, KeyError, TypeError) as error:  # of safetensors, for a foreign type
        raise MPFLError(
            f"w0: {source!r} holds numbers of a type that is not read ({error}); save them as "
            "float32 or float16"
        ) from error
    for name, array in weights.items():
        if not np.isfinite(array).all():
            raise MPFLError(f"w0: {name!r} in {source!r} is not finite; give other weights")
    return weights
