"""An experiment: everything that decides a run's outcome, described only by values."""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

from mpfl.allocate import Quota, even
from mpfl.analysis.faults import UpdateFault
from mpfl.data.noise import DataNoise
from mpfl.data.partition import Partition, iid
from mpfl.granularity import Granularity
from mpfl.nets.settings import Precision, Prunes, Settings, View, kinds_of_units
from mpfl.node import Fault
from mpfl.prune import Score, l2, needs_gradients
from mpfl.runs import former
from mpfl.runs.finishes import Finish, by_average
from mpfl.runs.methods import METHODS, MPFL, Method
from mpfl.runs.naming import describe
from mpfl.schedules import Schedule, geometric
from mpfl.types import MPFLError, at_least, one_of
from mpfl.vote import Rule, most_votes
from mpfl.wire import Coding

Head = Literal["w0", "fresh"]
Draws = Literal["repeated", "own"]
Decay = Literal["constant", "cosine"]
Pooled = Literal["clean", "nodes"]
Statistics = Literal["dataset", "imagenet"]

ModelMaker: TypeAlias = Callable[[int], Any]
"""``classes -> torch module``: a network of a reader's own, in place of a model's name."""


@dataclass(frozen=True)
class Experiment:
    """One run, described only by values: equal experiments give equal masks and weights.

    ``data_noise`` spoils the data of the first ``noisy_nodes`` nodes, ``fault`` their votes (or
    makes them private); who trains for all trains on clean data, or with ``pooled="nodes"`` on
    what the nodes hold, spoilt as it is. ``validation`` is the share of its training pictures that
    every party holds out to choose an epoch by; 0: the test pictures serve. ``w0`` is
    ``"random"``, ``"torchvision"`` or a safetensors file; ``w0_bits`` rounds such weights to so
    many bits each (:func:`mpfl.wire.rounding.round_weights`), and sends them in these. ``model`` is
    a name, or a function ``classes -> torch module``. ``pixels`` is the height and width that the
    network sees (None: the data set's own), ``view`` whether of the whole picture or of its centre.
    ``statistics`` says whose mean and deviation make pixels normal. ``match`` is the folder of a
    recorded run whose filter counts a control takes over, round by round. ``central_epochs`` and
    ``federated_rounds`` set the two final trainings; 0 leaves one out. ``stop_above``: the mask
    rounds end after the first in which more than this share of the weights that filters are made
    of is gone.

    ``lot`` draws another lottery under the same seed. ``final_draws="own"`` gives the final
    federated training its own order of pictures in every round; ``"repeated"``, that of the first
    runs, begins again with those of the mask rounds. ``federated_decay="cosine"`` lets its learning
    rate fall from round to round, by a cosine from its first towards 0. ``federated`` is
    how it trains (:mod:`mpfl.runs.finishes`): weights are averaged, or directions voted on.
    ``federated_steps`` is how many steps a node takes at most in each of the ``epochs`` passes of
    such a round, and ``federated_lr`` its learning rate at first; None: whole passes, and that of
    ``local``. ``federated_fault`` is
    what the first ``noisy_nodes`` pretend that their training came to.

    ``rescaled=True`` begins the final training in one place with weights that are as much larger as
    fewer channels are left to sum over (:func:`mpfl.filters.rescaled`).

    ``granularity`` is what a bit of a mask stands for (:mod:`mpfl.granularity`). A mask of kernels
    or single weights is held in training, and cuts nothing out. ``prunes`` and ``units`` are those
    of :func:`mpfl.nets.tracing.layout_of`. ``units`` is what is voted on: ``"filters"``,
    ``"hidden"`` units, attention ``"heads"``, ``"recurrent"`` units, or several, as in
    ``"heads,hidden"``; None: the filters, or all that can be cut in a network where no filter can.

    ``head="fresh"`` draws the last linear layer anew, as torch does, at the start of every training
    that begins from w0: each node's in each mask round, and the final central one. Where weights
    are averaged it is part of them.

    Any value of the right kind will do, a reader's own as well as one of this package. Raises
    :class:`~mpfl.types.MPFLError` for fields that cannot go together.
    """

    recipe: str = "custom"
    budget: str = "custom"
    method: Method = MPFL
    seed: int = 0
    dataset: str = "digits"
    images: int | None = None
    model: str | ModelMaker = "digits-cnn"
    width: float = 1.0
    pixels: int | None = None
    w0: str = "random"
    head: Head = "w0"
    nodes: int = 10
    rounds: int = 10
    epochs: int = 1
    partition: Partition = iid()
    schedule: Schedule = geometric(0.15)
    quota: Quota = even()
    score: Score = l2
    vote: Rule = most_votes()
    prunes: Prunes = "filter"
    units: str | None = None
    coding: Coding = "shortest"
    rewind: bool = True
    data_noise: DataNoise | None = None
    fault: Fault | None = None
    noisy_nodes: int = 1
    match: str | None = None
    precision: Precision = "auto"
    local: Settings = field(default_factory=Settings)
    final: Settings = field(default_factory=lambda: Settings(decay="cosine"))
    central_epochs: int = 10
    federated_rounds: int = 10
    federated_decay: Decay = "constant"
    federated: Finish = by_average()
    federated_steps: int | None = None
    federated_lr: float | None = None
    federated_fault: UpdateFault | None = None
    final_draws: Draws = "repeated"
    lot: int = 0
    validation: float = 0.0
    pooled: Pooled = "clean"
    view: View = "whole"
    statistics: Statistics = "dataset"
    stop_above: float | None = None
    granularity: Granularity = "filter"
    rescaled: bool = False
    w0_bits: int | None = None

    def __post_init__(self) -> None:
        self._check_kinds()
        for name in ("nodes", "rounds", "epochs", "pixels", "federated_steps"):
            if (value := getattr(self, name)) is not None:
                at_least(name, value, 1)
        for name in ("central_epochs", "federated_rounds", "seed", "lot"):
            at_least(name, getattr(self, name), 0)
        if self.seed >= 2**64:
            raise MPFLError(f"seed is {self.seed}; give less than 2**64, as a message carries it")
        if not 0 < self.width < math.inf:
            raise MPFLError(f"width is {self.width}; give a positive number, 1 for the full model")
        if self.federated_lr is not None and not 0 < self.federated_lr < math.inf:
            raise MPFLError(f"federated_lr is {self.federated_lr}; give a positive number")
        one_of("precision", self.precision, get_args(Precision))
        if self.w0_bits is not None:
            if self.w0_bits not in range(2, 9):
                raise MPFLError(f"w0_bits is {self.w0_bits}; give 2 to 8, or None: not rounded")
            if self.w0 == "random":
                raise MPFLError(
                    "w0_bits is about weights that are sent, and a random w0 is sent as its seed; "
                    "give w0 as a file, or leave w0_bits at None"
                )
        one_of("head", self.head, get_args(Head))
        one_of("final_draws", self.final_draws, get_args(Draws))
        one_of("federated_decay", self.federated_decay, get_args(Decay))
        one_of("prunes", self.prunes, get_args(Prunes))
        if self.units is not None:
            if not isinstance(self.units, str):
                raise MPFLError(
                    f"units is {self.units!r}; give text, several kinds as in 'heads,hidden'"
                )
            kinds_of_units(self.units)
        one_of("granularity", self.granularity, get_args(Granularity))
        one_of("pooled", self.pooled, get_args(Pooled))
        one_of("view", self.view, get_args(View))
        one_of("statistics", self.statistics, get_args(Statistics))
        for name in ("validation", "stop_above"):
            value = getattr(self, name)
            if value is not None and not (type(value) in (int, float) and 0 <= value < 1):
                raise MPFLError(f"{name} is {value!r}; give a share of 0 to below 1")
        if not 0 <= self.noisy_nodes <= self.nodes:
            raise MPFLError(f"noisy_nodes is {self.noisy_nodes}, but there are {self.nodes} nodes")
        if self.images is not None and self.images < self.nodes:
            raise MPFLError(
                f"{self.images} images cannot fill {self.nodes} nodes; give more images"
            )
        if self.granularity != "filter" and self.prunes != "filter":
            raise MPFLError(
                f"prunes is {self.prunes!r}, which is about whole filters, but granularity is "
                f"{self.granularity!r}; leave one of them at filter"
            )
        if self.granularity != "filter" and self.federated.per == "channel":
            raise MPFLError(
                f"federated {self.federated} has a number per channel, but granularity "
                f"{self.granularity!r} leaves no whole channels; take by_scaled_votes(), or leave "
                "granularity at filter"
            )
        self._check_vote()
        self._check_method()
        if self.rescaled:
            self._check_rescaled()

    def _check_kinds(self) -> None:
        """A name in place of a value would fail late, and far from here."""
        for name in (
            "seed",
            "lot",
            "nodes",
            "rounds",
            "epochs",
            "noisy_nodes",
            "images",
            "pixels",
            "federated_steps",
            "w0_bits",
        ):
            if (value := getattr(self, name)) is not None and type(value) is not int:
                raise MPFLError(f"{name} is {value!r}; give a whole number")
        for name in ("rewind", "rescaled"):
            if type(value := getattr(self, name)) is not bool:
                raise MPFLError(f"{name} is {value!r}; give True or False")
        for name in ("recipe", "budget"):  # the run's folder and its record are called by them
            value = getattr(self, name)
            plain = isinstance(value, str) and value.isprintable() and Path(value).name == value
            if not (plain and value):
                raise MPFLError(f"{name} is {value!r}; give a name that a file may have")
        for name in ("partition", "schedule", "score", "data_noise", "fault", "federated_fault"):
            value = getattr(self, name)
            if value is not None and (isinstance(value, type) or not callable(value)):
                raise MPFLError(f"{name} is {value!r}; give a value that can be called, not a name")
        for name, kind in (
            ("method", Method),
            ("vote", Rule),
            ("quota", Quota),
            ("federated", Finish),
        ):
            if not isinstance(value := getattr(self, name), kind):
                raise MPFLError(
                    f"{name} is {value!r}, but a {kind.__name__} is due; give a value, such as "
                    f"{getattr(Experiment, name)!r}, not its name"
                )

    def _check_vote(self) -> None:
        weights = self.vote.weights
        if weights is not None and len(weights) != self.nodes:
            raise MPFLError(
                f"vote rule {self.vote} has {len(weights)} weights for {self.nodes} nodes"
            )
        private = self.vote.expects
        if private is not None and (self.fault != private or self.noisy_nodes != self.nodes):
            raise MPFLError(
                f"vote rule {self.vote}: every node must answer by {private!r}; "
                f"set fault to it and noisy_nodes to {self.nodes}"
            )

    def _check_method(self) -> None:
        method = self.method
        if needs_gradients(self.score) and method.server_scores:
            raise MPFLError(
                f"score {describe(self.score)} needs data, but in {method.name!r} the server scores"
            )
        if self.fault is not None and not method.votes:
            raise MPFLError(
                f"fault {describe(self.fault)} spoils votes; nobody votes in {method.name!r}"
            )
        if self.data_noise is not None and not method.wire and self.pooled == "clean":
            raise MPFLError(
                f"noise {describe(self.data_noise)} spoils nodes, but {method.name!r} trains on "
                "clean pooled data; set pooled to nodes, or leave the noise out"
            )
        if self.match is not None and not method.copies_counts:
            able = ", ".join(each.name for each in METHODS.values() if each.copies_counts)
            raise MPFLError(f"match is for {able}, not for {method.name!r}")
        if self.stop_above is not None and not method.has_mask_rounds:
            raise MPFLError(f"stop_above ends mask rounds, and {method.name!r} has none")
        for name, plain in (
            ("federated_decay", "constant"),
            ("final_draws", "repeated"),
            ("federated", by_average()),
            ("federated_steps", None),
            ("federated_lr", None),
            ("federated_fault", None),
        ):
            if getattr(self, name) != plain and not method.wire:
                raise MPFLError(
                    f"{name} is about training between nodes, and {method.name!r} has none; leave "
                    f"it at {plain}"
                )
        if self.lot and not method.draws_lots:
            raise MPFLError(f"lot is {self.lot}, but {method.name!r} draws no lots; leave it at 0")

    def _check_rescaled(self) -> None:
        method = self.method
        if self.head == "fresh":
            raise MPFLError("rescaled would be lost on a head that is drawn anew; leave head at w0")
        if not (self.granularity == self.prunes == "filter"):
            raise MPFLError(
                "rescaled is about whole filters that are cut out; leave granularity and prunes at "
                "filter"
            )
        if not (method.central and method.has_mask_rounds):
            raise MPFLError(
                f"rescaled is about training in one place what a mask leaves, and {method.name!r} "
                "does not do that; leave it at False"
            )
        if self.central_epochs == 0:
            raise MPFLError("rescaled is about training in one place; set central_epochs above 0")
        if method.wire and self.federated_rounds > 0:
            raise MPFLError(
                "rescaled is about training in one place alone; set federated_rounds to 0"
            )

    @property
    def slug(self) -> str:
        """What its run folder and its record are called."""
        return slug_of(config_of(self))


def config_of(experiment: Experiment) -> dict[str, Any]:
    """Every field of an experiment, ready for ``config.json``."""
    return {f.name: describe(getattr(experiment, f.name)) for f in dataclasses.fields(experiment)}


def changes(config: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a configuration that are not at their default, settings one by one.

    In the words of the first records (:mod:`mpfl.runs.former`). Equal changes mean the same run,
    even if one was written before a field was added or renamed.
    """
    default, missing = _defaults(Experiment), object()
    own = _flat(former.original(config))
    return {name: value for name, value in own.items() if value != default.get(name, missing)}


@cache
def _defaults(kind: type[Experiment]) -> dict[str, Any]:
    return _flat(former.original(config_of(kind())))


def _flat(config: Mapping[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in config.items():
        parts = value if isinstance(value, dict) else None
        flat |= {name: value} if parts is None else {f"{name}.{k}": v for k, v in parts.items()}
    return flat


def identity(experiment: Experiment) -> str:
    """Eight hex digits that name an experiment.

    Fields at their default do not enter: a field added later does not rename old runs.
    """
    return _identity_of(config_of(experiment))


def slug_of(config: Mapping[str, Any]) -> str:
    """What the run of a configuration is called: recipe, budget, identity."""
    return f"{config['recipe']}-{config['budget']}-{_identity_of(config)}"


def _identity_of(config: Mapping[str, Any]) -> str:
    text = repr(sorted(changes(config).items()))
    return hashlib.blake2b(text.encode(), digest_size=4).hexdigest()
