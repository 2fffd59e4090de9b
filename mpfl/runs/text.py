"""``field=value`` on the command line, into values: the only place with strings.

Rules, schedules, quotas, partitions, noise and faults are written as their ``repr``:
``share(0.5)``,
``geometric(amount=0.1, warmup=1)``, ``dirichlet(0.3)``, one inside another if it wraps one:
``debiased(share(0.5), 2.0)``. ``local.lr=0.1`` changes one setting of the local training.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import types
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Union, get_args, get_origin, get_type_hints

from mpfl.allocate import QUOTAS
from mpfl.analysis.faults import FAULTS, UPDATE_FAULTS
from mpfl.analysis.privacy import PRIVATE_VOTES, WRAPPERS
from mpfl.baselines.controls import CONTROL_RULES
from mpfl.data.noise import DATA_NOISES
from mpfl.data.partition import PARTITIONS
from mpfl.nets.settings import Settings
from mpfl.prune import SCORES
from mpfl.runs.experiment import Experiment
from mpfl.runs.finishes import FINISHES
from mpfl.runs.former import current_assignments
from mpfl.runs.methods import METHODS
from mpfl.runs.naming import describe
from mpfl.schedules import SCHEDULES
from mpfl.types import MPFLError, located, one_of
from mpfl.vote import RULES

NAMED: Mapping[str, Mapping[str, Any]] = {
    "vote": {**RULES, **WRAPPERS, **CONTROL_RULES},
    "schedule": SCHEDULES,
    "quota": QUOTAS,
    "partition": PARTITIONS,
    "data_noise": DATA_NOISES,
    "fault": {**FAULTS, **PRIVATE_VOTES},
    "federated": FINISHES,
    "federated_fault": UPDATE_FAULTS,
}
"""What may be called by name on the command line, by field. Values in code need no table."""

_PARTS: Mapping[str, Any] = {name: make for table in NAMED.values() for name, make in table.items()}
"""What may stand inside another: ``of_what_is_left(required=arithmetic(0.1))``."""

_UNREADABLE = (ValueError, SyntaxError, TypeError, MemoryError, RecursionError)


def changed(experiment: Experiment, assignments: Sequence[str]) -> Experiment:
    """``experiment`` with every ``field=value`` applied.

    Words of older records are understood (:mod:`mpfl.runs.former`). Raises
    :class:`~mpfl.types.MPFLError` naming the field, what was given and what fits.

    >>> changed(Experiment(), ["vote=share(0.5)", "rounds=3", "local.lr=0.1"]).vote
    share(tau=0.5)
    """
    kinds = _kinds_of(Experiment)
    changes: dict[str, Any] = {}
    settings: dict[str, dict[str, Any]] = {}  # put together at the end: parts may need one another
    for assignment in current_assignments(assignments, str(describe(experiment.quota))):
        name, equals, text = assignment.partition("=")
        if not equals:
            raise MPFLError(f"--set {assignment!r}: write it as field=value")
        name, dot, part = name.strip().partition(".")
        with located(f"--set {assignment}"):
            kind = kinds[one_of("field", name, kinds)]
            if not dot:
                changes[name] = _value(name, kind, text.strip())
                continue
            if kind is not Settings:
                raise MPFLError(f"{name!r} has no parts")
            parts = _kinds_of(Settings)
            value = _plain(parts[one_of(f"part of {name!r}", part, parts)], text.strip())
            settings.setdefault(name, {})[part] = value
    for name, parts in settings.items():
        with located(f"--set {', '.join(f'{name}.{part}' for part in parts)}"):
            changes[name] = dataclasses.replace(getattr(experiment, name), **parts)
    return dataclasses.replace(experiment, **changes)


@lru_cache
def _kinds_of(owner: Callable[..., Any]) -> dict[str, Any]:
    """How each field of a dataclass is annotated, worked out once."""
    return get_type_hints(owner)


def _value(name: str, kind: Any, text: str) -> Any:
    """The value of a field, from the text behind its ``=``."""
    if text == "None" and types.NoneType in get_args(kind):
        return None
    if name in NAMED:
        return _call(name, text, NAMED[name])
    for field, table in (("score", SCORES), ("method", METHODS)):
        if name == field:
            return table[one_of(field, text, table)]
    if kind is Settings:
        raise MPFLError(f"change its parts one by one, such as {name}.lr=0.05")
    return _plain(kind, text)


def _plain(kind: Any, text: str) -> Any:
    """Read a number, a bool, or a word that stands for itself."""
    if not {int, float, bool} & {kind, *get_args(kind)}:
        return text
    try:
        return _fitting(kind, ast.literal_eval(text))
    except _UNREADABLE:
        raise MPFLError(f"cannot be read as {_said(kind)}") from None


def _said(kind: Any) -> str:
    return kind.__name__ if isinstance(kind, type) else str(kind)


def _fitting(kind: Any, value: Any) -> Any:
    """``value`` if it is of ``kind``, whole numbers made floats; raises TypeError."""
    if get_origin(kind) in (Union, types.UnionType):
        if value is None and types.NoneType in get_args(kind):
            return None
        kind = next(each for each in get_args(kind) if each is not types.NoneType)
    if kind is float and type(value) is int:
        return float(value)
    if get_origin(kind) is tuple and isinstance(value, tuple | list):
        return tuple(_fitting(get_args(kind)[0], each) for each in value)
    if kind in (int, float, bool, str):
        fits = type(value) is kind  # True is no number here
    elif isinstance(kind, type):
        fits = isinstance(value, kind)
    else:
        fits = callable(value)
    if not fits:
        raise TypeError(f"{value!r} is not {_said(kind)}")
    return value


def _call(what: str, text: str, known: Mapping[str, Any]) -> Any:
    """Build ``rule(1, key=2)`` from its text: known names and literal arguments, no code."""
    try:
        tree = ast.parse(text, mode="eval").body
        if not _is_call(tree):
            raise ValueError
    except _UNREADABLE:
        raise MPFLError(f"write it as a call of one of {', '.join(known)}") from None
    return _build(what, tree, known)


def _is_call(tree: ast.expr) -> bool:
    return isinstance(tree.func if isinstance(tree, ast.Call) else tree, ast.Name)


def _build(what: str, tree: ast.expr, known: Mapping[str, Any]) -> Any:
    """What a call says; ``known`` are the names that may be called."""
    call: Any = ast.Call(tree, [], []) if isinstance(tree, ast.Name) else tree
    make = known[one_of(what, call.func.id, known)]

    def value_of(tree: ast.expr) -> Any:
        inner = isinstance(tree, ast.Call) and _is_call(tree)
        return _build(what, tree, _PARTS) if inner else ast.literal_eval(tree)

    try:
        arguments = [value_of(argument) for argument in call.args]
        keywords = {str(keyword.arg): value_of(keyword.value) for keyword in call.keywords}
        if len(keywords) < len(call.keywords):
            raise MPFLError(f"{make.__name__}: an argument is given twice")
    except MPFLError:
        raise
    except _UNREADABLE:
        raise MPFLError("arguments must be plain numbers, such as 0.5") from None
    kinds = _kinds_of(make)
    try:
        given = inspect.signature(make).bind(*arguments, **keywords).arguments
        return make(**{name: _fitting(kinds[name], value) for name, value in given.items()})
    except TypeError as error:
        raise MPFLError(f"{make.__name__}: {error}") from None
