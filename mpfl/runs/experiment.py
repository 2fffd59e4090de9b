"""An experiment: everything that decides a run's outcome, described by values alone."""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, cast

from mpfl import vote as rules
from mpfl.allocate import Allocation, even
from mpfl.analysis.faults import FAULTS, Fault
from mpfl.analysis.privacy import PRIVATE_VOTES, debiased, randomised_response
from mpfl.data.noise import DATA_NOISES, DataNoise
from mpfl.data.partition import Partition, iid
from mpfl.nets.settings import Precision, Prunes, Settings
from mpfl.node import Scope, ShareOf
from mpfl.prune import Score, l2, taylor
from mpfl.schedules import Schedule, geometric
from mpfl.types import MPFLError
from mpfl.vote import Rule, weighted

Method = Literal["mpfl", "pruning-fl", "lth", "fedavg", "central", "random-masks", "w0-norms"]
METHODS: tuple[str, ...] = Method.__args__  # type: ignore[attr-defined]

FEDERATED_METHODS = ("mpfl", "pruning-fl", "fedavg", "random-masks", "w0-norms")
"""Methods whose traffic is real; ``lth`` and ``central`` pool the data and send nothing."""


@dataclass(frozen=True)
class Experiment:
    """One run, described by values alone: equal experiments give equal masks and weights.

    ``noise`` spoils the data, or the votes, of the first ``noisy_nodes`` nodes, or makes their
    votes private; the final central training is always on clean data. ``w0`` is
    ``"random"``, ``"torchvision"`` or a safetensors file. ``pixels`` is the height and width
    that the network sees (None: the data set's own). ``match`` is the folder of a recorded
    run whose filter counts a control takes over, round by round.
    ``central_epochs`` and ``federated_rounds`` set the two final trainings; 0 leaves one out.

    ``allocation``, ``share_of`` and ``required`` are those of :class:`~mpfl.node.Plan`,
    ``prunes`` is that of :func:`~mpfl.nets.tracing.layout_of`. ``head="fresh"`` draws the last linear
    layer anew, as torch does, at the start of every training that begins from w0: each node's
    in each mask round, and the final central one. Where weights are averaged it is part of
    them.
    """

    recipe: str = "custom"
    budget: str = "custom"
    method: Method = "mpfl"
    seed: int = 0
    dataset: str = "digits"
    images: int | None = None
    model: str = "digits-cnn"
    width: float = 1.0
    pixels: int | None = None
    w0: str = "random"
    head: Literal["w0", "fresh"] = "w0"
    nodes: int = 10
    rounds: int = 10
    epochs: int = 1
    partition: Partition = iid()
    schedule: Schedule = geometric(0.15)
    share_of: ShareOf = "full"
    required: Schedule | None = None
    score: Score = l2
    vote: Rule = rules.budget()
    scope: Scope = "layer"
    allocation: Allocation = even()
    floor: int = 1
    prunes: Prunes = "filter"
    coding: Literal["shortest", "packed"] = "shortest"
    rewind: bool = True
    noise: DataNoise | Fault | None = None
    noisy_nodes: int = 1
    match: str | None = None
    precision: Precision = "auto"
    local: Settings = field(default_factory=Settings)
    final: Settings = field(default_factory=lambda: Settings(decay="cosine"))
    central_epochs: int = 10
    federated_rounds: int = 10

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise MPFLError(f"method is {self.method!r}; choose one of {', '.join(METHODS)}")
        for name in ("nodes", "rounds", "epochs", "pixels"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise MPFLError(f"{name} is {value}, but a run needs at least 1")
        for name in ("central_epochs", "federated_rounds"):
            if getattr(self, name) < 0:
                raise MPFLError(f"{name} is {getattr(self, name)}; give 0 to leave it out")
        if self.seed < 0:
            raise MPFLError(f"seed is {self.seed}; give 0 or more")
        if not 0 < self.width < math.inf:
            raise MPFLError(f"width is {self.width}; give a positive number, 1 for the full model")
        for name, known in (
            ("precision", ("auto", "float32", "float64")),
            ("head", ("w0", "fresh")),
            ("prunes", ("filter", "weight")),
        ):
            if getattr(self, name) not in known:
                raise MPFLError(f"{name} is {getattr(self, name)!r}; choose {' or '.join(known)}")
        if not 0 <= self.noisy_nodes <= self.nodes:
            raise MPFLError(f"noisy_nodes is {self.noisy_nodes}, but there are {self.nodes} nodes")
        if self.images is not None and self.images < self.nodes:
            raise MPFLError(
                f"{self.images} images cannot fill {self.nodes} nodes; give more images"
            )
        if isinstance(self.vote, weighted) and len(self.vote.weights) != self.nodes:
            raise MPFLError(
                f"vote rule weighted has {len(self.vote.weights)} weights for {self.nodes} nodes"
            )
        if self.score is taylor and self.method in ("pruning-fl", "w0-norms"):
            raise MPFLError(f"score taylor needs data, but in {self.method!r} the server scores")
        if self.voter_fault is not None and self.method != "mpfl":
            raise MPFLError(f"noise {self.noise!r} spoils votes; nobody votes in {self.method!r}")
        if self.noise is not None and self.method in ("lth", "central"):
            raise MPFLError(f"noise spoils nodes, but {self.method!r} trains on clean pooled data")
        if self.noise is not None and not (self.data_noise or self.voter_fault):
            raise MPFLError(
                f"noise {self.noise!r} is in no table of mpfl.noise or mpfl.analysis.privacy"
            )
        if isinstance(self.vote, debiased):
            private = randomised_response(self.vote.epsilon)
            if self.noise != private or self.noisy_nodes != self.nodes:
                raise MPFLError(
                    f"vote rule debiased: every node must answer by {private!r}; "
                    f"set noise to it and noisy_nodes to {self.nodes}"
                )
        if self.match is not None and self.method not in ("random-masks", "w0-norms"):
            raise MPFLError(f"match is for random-masks and w0-norms, not for {self.method!r}")

    @property
    def federated(self) -> bool:
        """Whether anything crosses a wire."""
        return self.method in FEDERATED_METHODS

    @property
    def data_noise(self) -> DataNoise | None:
        """The noise, where it spoils data."""
        known = isinstance(self.noise, tuple(DATA_NOISES.values()))
        return cast(DataNoise, self.noise) if known else None

    @property
    def voter_fault(self) -> Fault | None:
        """The noise, where it spoils votes, or hides them."""
        known = isinstance(self.noise, (*FAULTS.values(), *PRIVATE_VOTES.values()))
        return cast(Fault, self.noise) if known else None

    @property
    def votes(self) -> bool:
        """Whether there are mask rounds at all (dense methods have none)."""
        return self.method not in ("fedavg", "central")


def describe(value: Any) -> Any:
    """A value as JSON can hold it: functions by name, rules by how they are written."""
    if callable(value):
        return value.__name__ if hasattr(value, "__name__") else repr(value)
    if isinstance(value, Settings):
        return {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    return value


def config_of(experiment: Experiment) -> dict[str, Any]:
    """Every field of an experiment, ready for ``config.json``."""
    return {f.name: describe(getattr(experiment, f.name)) for f in dataclasses.fields(experiment)}


def changes(config: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a configuration that are not at their default, settings one by one.

    Equal changes mean the same run, also where one was written before a field was added.
    """
    default = _flat(config_of(Experiment()))
    missing = object()
    return {k: v for k, v in _flat(config).items() if v != default.get(k, missing)}


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
    text = repr(sorted(changes(config_of(experiment)).items()))
    return hashlib.blake2b(text.encode(), digest_size=4).hexdigest()
