"""Recipes: functions that return an experiment, with one dial, the budget.

``toy`` finishes in seconds, ``laptop`` in minutes on two cores, ``paper`` follows the
authors' protocol at full size and wants a GPU. The budget sets rounds, nodes, data and
model together. Every recipe has a variant for each baseline and control.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Literal, cast, get_args

from mpfl.experiment import Experiment, Method
from mpfl.schedules import geometric
from mpfl.train import Settings
from mpfl.types import MPFLError

Budget = Literal["toy", "laptop", "paper"]
BUDGETS: tuple[Budget, ...] = get_args(Budget)


def digits(method: Method, budget: Budget, seed: int) -> Experiment:
    """8x8 digits and a three-layer CNN: needs no download, finishes in seconds."""
    common = Experiment(
        recipe=_name("digits", method),
        budget=budget,
        method=method,
        seed=seed,
        dataset="digits",
        model="digits-cnn",
        nodes=5,
        rounds=5,
        epochs=2,
        schedule=geometric(share=0.25),
        precision="float32",
        local=Settings(batch=64, lr=0.2),
        final=Settings(batch=64, lr=0.1, decay="cosine"),
        central_epochs=10,
        federated_rounds=8,
    )
    if budget == "toy":
        return common
    return dataclasses.replace(
        common,
        nodes=10,
        rounds=10,
        schedule=geometric(share=0.15),
        central_epochs=30,
        federated_rounds=20,
    )


def cifar10_vgg11(method: Method, budget: Budget, seed: int) -> Experiment:
    """CIFAR-10 and VGG11 with batch norm, the paper's small data set."""
    common = Experiment(
        recipe=_name("cifar10-vgg11", method),
        budget=budget,
        method=method,
        seed=seed,
        dataset="cifar10",
        model="vgg11-bn",
        width=0.5,
        nodes=10,
        rounds=10,
        epochs=1,
        schedule=geometric(share=0.15),
        local=Settings(augment=True),
        final=Settings(augment=True, decay="cosine"),
        central_epochs=10,
        federated_rounds=10,
    )
    if budget == "laptop":
        return common
    if budget == "toy":
        return dataclasses.replace(
            common,
            width=0.125,
            images=1000,
            nodes=3,
            rounds=3,
            schedule=geometric(share=0.3),
            local=Settings(augment=True, batch=32),
            final=Settings(augment=True, batch=32, decay="cosine"),
            central_epochs=2,
            federated_rounds=2,
        )
    return dataclasses.replace(
        common,
        model="torchvision-vgg11",
        pixels=224,
        width=1.0,
        w0="torchvision",
        rounds=10,
        epochs=10,
        schedule=geometric(share=0.1, warmup=1),
        local=_PAPER,
        final=_PAPER,
        central_epochs=50,
        federated_rounds=50,
    )


def imagenet100_resnet18(method: Method, budget: Budget, seed: int) -> Experiment:
    """ImageNet100 and ResNet18, the paper's large data set; 64 px below ``paper``."""
    common = Experiment(
        recipe=_name("imagenet100-resnet18", method),
        budget=budget,
        method=method,
        seed=seed,
        dataset="imagenet100-64",
        model="resnet18",
        width=0.5,
        nodes=10,
        rounds=10,
        epochs=1,
        schedule=geometric(share=0.15),
        local=Settings(augment=True),
        final=Settings(augment=True, decay="cosine"),
        central_epochs=10,
        federated_rounds=10,
    )
    if budget == "laptop":
        return common
    if budget == "toy":
        return dataclasses.replace(
            common,
            width=0.125,
            images=500,
            nodes=2,
            rounds=2,
            schedule=geometric(share=0.3),
            local=Settings(augment=True, batch=32),
            final=Settings(augment=True, batch=32, decay="cosine"),
            central_epochs=1,
            federated_rounds=1,
        )
    return dataclasses.replace(
        common,
        dataset="imagenet100",
        model="torchvision-resnet18",
        pixels=224,
        width=1.0,
        w0="torchvision",
        epochs=10,
        schedule=geometric(share=0.1, warmup=1),
        local=_PAPER,
        final=_PAPER,
        central_epochs=50,
        federated_rounds=50,
    )


# The authors' optimiser: Adam 1e-5, weight decay 5e-5, batch 16 (released code).
_PAPER = Settings(optimiser="adam", lr=1e-5, weight_decay=5e-5, batch=16)

Recipe = Callable[[Budget, int], Experiment]
_FAMILIES: Mapping[str, Callable[[Method, Budget, int], Experiment]] = {
    "digits": digits,
    "cifar10-vgg11": cifar10_vgg11,
    "imagenet100-resnet18": imagenet100_resnet18,
}


def _name(family: str, method: str) -> str:
    return family if method == "mpfl" else f"{family}-{method}"


RECIPES: Mapping[str, Recipe] = {
    _name(family, method): partial(make, method)
    for family, make in _FAMILIES.items()
    for method in get_args(Method)
}


def recipe(name: str, budget: str = "laptop", seed: int = 0, **changes: Any) -> Experiment:
    """The experiment of a named recipe, with fields changed.

    Raises :class:`~mpfl.types.MPFLError` naming the nearest recipe, budget or field.
    """
    make = RECIPES[nearest("recipe", name, RECIPES)]
    made = make(cast(Budget, nearest("budget", budget, BUDGETS)), seed)
    fields = [field.name for field in dataclasses.fields(Experiment)]
    for key in changes:
        nearest("field", key, fields)
    return dataclasses.replace(made, **changes)


def nearest(what: str, name: str, known: Any) -> str:
    """``name`` itself where it is known; else an error that names the nearest."""
    if name in known:
        return name
    import difflib

    close = difflib.get_close_matches(name, list(known), 1, 0)[0]
    every = f"there are {', '.join(known)}" if len(known) < 9 else "see python -m mpfl list"
    raise MPFLError(f"no {what} {name!r}; did you mean {close!r}? ({every})")
