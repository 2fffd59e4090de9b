"""Recipes: functions that return an experiment, with one dial, the budget.

``toy`` finishes in seconds, ``laptop`` in minutes on two cores, ``paper`` follows the
authors' protocol at full size and wants a GPU. The budget sets rounds, nodes, data and
model together. Every recipe has a variant for each baseline and control.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, cast

from mpfl.allocate import of_what_is_left
from mpfl.nets.settings import Settings
from mpfl.runs.budgets import BUDGETS, Budget, of_family, recipe_name
from mpfl.runs.cifar10 import cifar10_gru, cifar10_mobilenet, cifar10_resnet50, cifar10_vit
from mpfl.runs.experiment import Experiment
from mpfl.runs.former import current_recipe
from mpfl.runs.methods import METHODS, Method
from mpfl.schedules import arithmetic, geometric
from mpfl.types import one_of
from mpfl.vote import published_threshold


def digits_cnn(method: Method, budget: Budget, seed: int) -> Experiment:
    """8x8 digits and a three-layer CNN: needs no download, finishes in seconds."""
    common = Experiment(
        recipe=recipe_name("digits", method),
        budget=budget,
        method=method,
        seed=seed,
        dataset="digits",
        model="digits-cnn",
        nodes=5,
        rounds=5,
        epochs=2,
        schedule=geometric(amount=0.25),
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
        schedule=geometric(amount=0.15),
        central_epochs=30,
        federated_rounds=20,
    )


def cifar10_vgg11(method: Method, budget: Budget, seed: int) -> Experiment:
    """CIFAR-10 and VGG11 with batch norm, the paper's small data set."""
    few = {"images": 1000, "nodes": 3, "rounds": 3, "central_epochs": 2, "federated_rounds": 2}
    own: dict[Budget, dict[str, Any]] = {
        "toy": {"model": "vgg11-bn", **few},
        "laptop": {"model": "vgg11-bn"},
        "paper": {"model": "torchvision-vgg11"},
    }
    fields = {"dataset": "cifar10"} | _photographs(budget) | own[budget]
    return of_family("cifar10-vgg11", method, budget, seed, fields)


def imagenet100_resnet18(method: Method, budget: Budget, seed: int) -> Experiment:
    """ImageNet100 and ResNet18, the paper's large data set.

    Below ``paper`` the photographs are the small ones, 64 px wide. ``laptop`` shows them at
    40 px, which takes little more than half the time; ``pixels=64`` is as they are.
    """
    few = {"images": 500, "nodes": 2, "rounds": 2, "central_epochs": 1, "federated_rounds": 1}
    own: dict[Budget, dict[str, Any]] = {
        "toy": {"dataset": "imagenet100-64", "model": "resnet18", **few},
        "laptop": {"dataset": "imagenet100-64", "model": "resnet18", "pixels": 40},
        "paper": {"dataset": "imagenet100", "model": "torchvision-resnet18"},
    }
    return of_family(
        "imagenet100-resnet18", method, budget, seed, _photographs(budget) | own[budget]
    )


def published_cifar10_vgg11(method: Method, budget: Budget, seed: int) -> Experiment:
    """CIFAR-10 and torchvision's VGG11 as the authors' released code has it, like for like.

    The network is torchvision's, untouched, in float32; its head is drawn anew for every
    training. Training pictures are random crops, mirrored by chance; test pictures are shown by
    their centre; ImageNet's mean and deviation make both normal. Every node holds a tenth of
    its training pictures out, and the central party has what the nodes have, spoilt or not. An
    epoch is kept if it beats all earlier trainings of its node on what is held out, else the
    last one.

    Nodes rewind to w0 every round. The first round prunes nothing, each later one asks a node
    for a tenth of the filters that are left in every layer, rounded to the nearest, and the vote
    requires ``(round - 1) / 10`` of the full layer. The rounds end once more than nine tenths of
    the conv weights are gone. The result is the accuracy of what is left, trained on the pooled
    data (the method ``fedavg`` alone is trained federated). The page *The released code, read
    closely* says which field is which, and what a laptop changes.

    ``paper`` starts from torchvision's ImageNet weights, at 224 px. They are a download, so the
    smaller budgets start from random weights, and see the pictures at their own size. VGG11
    has 129 million parameters: ``toy`` takes half a minute, ``laptop`` some tens of minutes.
    """
    own: dict[Budget, dict[str, Any]] = {
        "toy": {"images": 64},
        "laptop": {"images": 2000},
        "paper": {},
    }
    fields = {"dataset": "cifar10", "model": "torchvision-vgg11"}
    fields |= _published(method, budget, crop=True) | own[budget]
    return of_family("published-cifar10-vgg11", method, budget, seed, fields)


def published_imagenet100_resnet18(method: Method, budget: Budget, seed: int) -> Experiment:
    """ImageNet100 and torchvision's ResNet18, otherwise as :func:`published_cifar10_vgg11`.

    Training pictures are also shown by their centre, and nothing is varied.
    """
    own: dict[Budget, dict[str, Any]] = {
        "toy": {"dataset": "imagenet100-64", "images": 128},
        "laptop": {"dataset": "imagenet100-64", "images": 5000},
        "paper": {"dataset": "imagenet100"},
    }
    protocol = _published(method, budget, crop=False)
    fields = {"model": "torchvision-resnet18"} | protocol | own[budget]
    return of_family("published-imagenet100-resnet18", method, budget, seed, fields)


# The authors' optimiser: Adam 1e-5, weight decay 5e-5, batch 16 (released code).
_PAPER = Settings(optimiser="adam", lr=1e-5, weight_decay=5e-5, batch=16)


def _photographs(budget: Budget) -> dict[str, Any]:
    """What the families of photographs share."""
    laptop = {
        "width": 0.5,
        "nodes": 10,
        "rounds": 10,
        "epochs": 1,
        "schedule": geometric(amount=0.15),
        "local": Settings(augment=True),
        "final": Settings(augment=True, decay="cosine"),
        "central_epochs": 10,
        "federated_rounds": 10,
    }
    toy = {
        "width": 0.125,
        "schedule": geometric(amount=0.3),
        "local": Settings(augment=True, batch=32),
        "final": Settings(augment=True, batch=32, decay="cosine"),
    }
    paper = {
        "pixels": 224,
        "width": 1.0,
        "w0": "torchvision",
        "epochs": 10,
        "schedule": geometric(amount=0.1, warmup=1),
        "local": _PAPER,
        "final": _PAPER,
        "central_epochs": 50,
        "federated_rounds": 50,
    }
    return laptop | {"toy": toy, "laptop": {}, "paper": paper}[budget]


def _published(method: Method, budget: Budget, *, crop: bool) -> dict[str, Any]:
    """What the published families share: the protocol, and its sizes at a budget."""
    settings = dataclasses.replace(_PAPER, keep="best-ever", crop=crop)
    protocol = {
        "head": "fresh",
        "prunes": "weight",
        "schedule": geometric(amount=0.1, warmup=1),
        "quota": of_what_is_left(required=arithmetic(amount=0.1, warmup=1)),
        "vote": published_threshold(),
        "precision": "float32",
        "local": settings,
        "final": settings,
        "validation": 0.1,
        "pooled": "nodes",
        "view": "centre",
        "statistics": "imagenet",
        "stop_above": 0.9 if method.has_mask_rounds else None,
    }
    sizes: dict[Budget, dict[str, Any]] = {
        "toy": {"nodes": 2, "rounds": 2, "epochs": 1, "central_epochs": 1},
        "laptop": {"nodes": 10, "rounds": 10, "epochs": 1, "central_epochs": 10},
        "paper": {
            "pixels": 224,
            "w0": "torchvision",
            "nodes": 10,
            "rounds": 10,
            "epochs": 10,
            "central_epochs": 10,
        },
    }
    rounds = sizes[budget]["rounds"]
    federated = {"federated_rounds": 0 if method.central else rounds}
    return protocol | sizes[budget] | federated


Recipe = Callable[[Budget, int], Experiment]
_FAMILIES: Mapping[str, Callable[[Method, Budget, int], Experiment]] = {
    "digits": digits_cnn,
    "cifar10-vgg11": cifar10_vgg11,
    "imagenet100-resnet18": imagenet100_resnet18,
    "cifar10-vit": cifar10_vit,
    "cifar10-gru": cifar10_gru,
    "cifar10-mobilenet": cifar10_mobilenet,
    "cifar10-resnet50": cifar10_resnet50,
    "published-cifar10-vgg11": published_cifar10_vgg11,
    "published-imagenet100-resnet18": published_imagenet100_resnet18,
}


RECIPES: Mapping[str, Recipe] = {
    recipe_name(family, method): partial(make, method)
    for family, make in _FAMILIES.items()
    for method in METHODS.values()
}


def recipe(name: str, budget: str = "laptop", seed: int = 0, **changes: Any) -> Experiment:
    """The experiment of a named recipe, with fields changed.

    Raises :class:`~mpfl.types.MPFLError` naming the nearest recipe, budget or field.

    >>> recipe("digits", "toy", rounds=3).rounds
    3
    """
    make = RECIPES[one_of("recipe", current_recipe(name), RECIPES)]
    experiment = make(cast(Budget, one_of("budget", budget, BUDGETS)), seed)
    for field in changes:
        one_of("field", field, [each.name for each in dataclasses.fields(Experiment)])
    return dataclasses.replace(experiment, **changes)
