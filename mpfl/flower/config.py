"""A run's settings as Flower carries them: plain values, the same for every party.

The keys and their defaults are in ``pyproject.toml`` under ``tool.flwr.app.config``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mpfl.runs.experiment import Experiment
from mpfl.runs.methods import METHODS
from mpfl.runs.recipes import recipe
from mpfl.runs.text import changed
from mpfl.types import MPFLError


def as_setting(changes: Sequence[str]) -> str:
    """What ``--set`` was given, as the setting ``set``; refuses what would be read as two of them.

    >>> as_setting(["nodes=3", "vote=share(0.5)"])
    'nodes=3;vote=share(0.5)'
    """
    for change in changes:
        if not change.strip():
            raise MPFLError(f"--set {change!r}: write it as field=value")
        if ";" in change:
            raise MPFLError(
                f"--set {change}: a ';' parts one setting from the next between machines; give "
                "each by its own --set, and use no path or name that holds one"
            )
    return ";".join(changes)


def experiment_of(config: Mapping[str, Any]) -> Experiment:
    """What is run: ``recipe``, ``budget``, ``seed`` and the changes in ``set``, separated by ``;``.

    Raises :class:`~mpfl.types.MPFLError` for a method that does not run between machines.
    """
    changes = [change for change in str(config["set"]).split(";") if change.strip()]
    made = recipe(str(config["recipe"]), str(config["budget"]), int(config["seed"]))
    experiment = changed(made, changes)
    if not experiment.method.between_machines:
        able = " and ".join(each.name for each in METHODS.values() if each.between_machines)
        raise MPFLError(
            f"method {experiment.method.name!r} does not run between machines, only {able}; "
            "use python -m mpfl run"
        )
    return experiment
