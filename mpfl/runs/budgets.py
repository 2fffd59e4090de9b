"""The budgets of recipes, and what all families of recipes share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, get_args

from mpfl.runs.experiment import Experiment
from mpfl.runs.methods import MPFL, Method

Budget = Literal["toy", "laptop", "paper"]
BUDGETS: tuple[Budget, ...] = get_args(Budget)


def recipe_name(family: str, method: Method) -> str:
    """The name of a family's recipe of a method: only the family's own name if it is the vote.

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
