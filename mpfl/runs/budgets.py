"""The budgets of recipes, and what every family of recipes does alike."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, get_args

from mpfl.runs.experiment import Experiment
from mpfl.runs.methods import MPFL, Method

Budget = Literal["toy", "laptop", "paper"]
BUDGETS: tuple[Budget, ...] = get_args(Budget)


def recipe_name(family: str, method: Method) -> str:
    """What a family's recipe of a method is called: after the family alone if it is the vote.

    >>> recipe_name("digits", MPFL)
    'digits'
    """
    return family if method == MPFL else f"{family}-{method.name}"


def of_family(
    family: str, method: Method, budget: Budget, seed: int, fields: Mapping[str, Any]
) -> Experiment:
    """An experiment of a family, with these fields."""
    name = recipe_name(family, method)
    return Experiment(recipe=name, budget=budget, method=method, seed=seed, **fields)
