"""Recipes of CIFAR-10 with other kinds of networks: blocks, attention, recurrent layers.

They are chosen to be small. ``laptop`` has them at a part of their width, ``paper`` at all of it,
on pictures of their own 32 px and from a random w0: nobody has published these runs.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from mpfl.nets.settings import Settings
from mpfl.runs.budgets import Budget, of_family
from mpfl.runs.experiment import Experiment
from mpfl.runs.methods import Method
from mpfl.schedules import geometric

# Adam's rates were tried on 8,000 training pictures and judged by 2,000 others of them.
_SGD = Settings(augment=True)
_ADAM = Settings(optimiser="adam", weight_decay=0.0, augment=True)


def cifar10_vit(method: Method, budget: Budget, seed: int) -> Experiment:
    """CIFAR-10 and a small Vision Transformer: attention heads and hidden units are voted on."""
    local = dataclasses.replace(_ADAM, lr=1e-3, batch=64)
    width: dict[Budget, float] = {"toy": 1 / 3, "laptop": 0.5, "paper": 1.0}
    return _cifar10("vit", width[budget], local, method, budget, seed)


def cifar10_gru(method: Method, budget: Budget, seed: int) -> Experiment:
    """CIFAR-10 and two GRU layers that read it row by row: their units are voted on."""
    local = dataclasses.replace(_ADAM, lr=3e-3)
    width: dict[Budget, float] = {"toy": 0.125, "laptop": 0.5, "paper": 1.0}
    return _cifar10("gru", width[budget], local, method, budget, seed)


def cifar10_mobilenet(method: Method, budget: Budget, seed: int) -> Experiment:
    """CIFAR-10 and a small MobileNetV2: inverted residuals with depthwise convs."""
    width: dict[Budget, float] = {"toy": 0.35, "laptop": 0.5, "paper": 1.0}
    return _cifar10("mobilenet", width[budget], _SGD, method, budget, seed)


def cifar10_resnet50(method: Method, budget: Budget, seed: int) -> Experiment:
    """CIFAR-10 and a small ResNet50: residual blocks with bottlenecks."""
    width: dict[Budget, float] = {"toy": 0.125, "laptop": 0.125, "paper": 1.0}
    return _cifar10("resnet50", width[budget], _SGD, method, budget, seed)


def _cifar10(
    model: str, width: float, local: Settings, method: Method, budget: Budget, seed: int
) -> Experiment:
    common = {
        "dataset": "cifar10",
        "model": model,
        "width": width,
        "local": local,
        "final": dataclasses.replace(local, decay="cosine"),
    }
    sizes: dict[Budget, dict[str, Any]] = {
        "toy": {
            "images": 300,
            "nodes": 2,
            "rounds": 2,
            "schedule": geometric(amount=0.3),
            "central_epochs": 2,
            "federated_rounds": 2,
        },
        "laptop": {
            "nodes": 10,
            "rounds": 10,
            "schedule": geometric(amount=0.15),
            "central_epochs": 10,
            "federated_rounds": 10,
        },
        "paper": {
            "nodes": 10,
            "rounds": 10,
            "epochs": 10,
            "schedule": geometric(amount=0.15),
            "central_epochs": 50,
            "federated_rounds": 50,
        },
    }
    return of_family(f"cifar10-{model}", method, budget, seed, common | sizes[budget])
