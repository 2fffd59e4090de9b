"""``field=value`` on the command line, into values: the only place with strings.

Rules, schedules, partitions and noise are written as their ``repr``: ``share(0.5)``,
``geometric(amount=0.1, warmup=1)``, ``dirichlet(0.3)``, one inside another where it wraps one:
``debiased(share(0.5), 2.0)``. ``local.lr=0.1`` changes one setting of the local training.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from mpfl.allocate import ALLOCATIONS
from mpfl.analysis.faults import FAULTS
from mpfl.analysis.privacy import PRIVATE_VOTES, WRAPPERS
from mpfl.data.noise import DATA_NOISES
from mpfl.data.partition import PARTITIONS
from mpfl.runs.experiment import Experiment
from mpfl.prune import SCORES
from mpfl.runs.recipes import nearest
from mpfl.schedules import SCHEDULES
from mpfl.types import MPFLError, located
from mpfl.vote import RULES

_NAMED: Mapping[str, Mapping[str, Any]] = {
    "vote": {**RULES, **WRAPPERS},
    "schedule": SCHEDULES,
    "required": SCHEDULES,
    "allocation": ALLOCATIONS,
    "partition": PARTITIONS,
    "noise": {**DATA_NOISES, **FAULTS, **PRIVATE_VOTES},
}
_UNREADABLE = (ValueError, SyntaxError, TypeError, MemoryError, RecursionError)


def changed(experiment: Experiment, assignments: Sequence[str]) -> Experiment:
    """``experiment`` with every ``field=value`` applied.

    Raises :class:`~mpfl.types.MPFLError` naming the field, what was given and what fits.
    """
    changes: dict[str, Any] = {}
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        if not equals:
            raise MPFLError(f"--set {assignment!r}: write it as field=value")
        name, dot, part = name.strip().partition(".")
        with located(f"--set {assignment}"):
            kind = _kind_of(Experiment, "field", name)
            if not dot:
                changes[name] = _value(name, kind, text.strip())
                continue
            if kind != "Settings":
                raise MPFLError(f"{name!r} has no parts")
            whole = changes.get(name, getattr(experiment, name))
            value = _plain(_kind_of(type(whole), f"part of {name!r}", part), text.strip())
            changes[name] = dataclasses.replace(whole, **{part: value})
    return dataclasses.replace(experiment, **changes)


def _kind_of(owner: type, what: str, name: str) -> str:
    """How a field of a dataclass is annotated: ``int``, ``int | None``, ``Rule`` and so on."""
    kinds = {field.name: str(field.type) for field in dataclasses.fields(owner)}
    return kinds[nearest(what, name, kinds)]


def _value(name: str, kind: str, text: str) -> Any:
    if text == "None" and kind.endswith("| None"):
        return None
    if name in _NAMED:
        return _call(name, text, _NAMED[name])
    if name == "score":
        return SCORES[nearest("score", text, SCORES)]
    if kind == "Settings":
        raise MPFLError(f"change its parts one by one, such as {name}.lr=0.05")
    return _plain(kind, text)


def _plain(kind: str, text: str) -> Any:
    """Read a number, a bool, or a word that stands for itself."""
    if kind.removesuffix(" | None") not in ("int", "float", "bool"):
        return text
    try:
        return _fitting(kind, ast.literal_eval(text))
    except _UNREADABLE:
        raise MPFLError(f"cannot be read as {kind}") from None


def _fitting(kind: str, value: Any) -> Any:
    """``value`` where it is of ``kind``, whole numbers made floats; raises TypeError."""
    kind, optional, _ = kind.partition(" | None")
    if (value is None and optional) or type(value).__name__ == kind:
        return value
    if kind == "float" and type(value) is int:
        return float(value)
    if kind == "Rule" and type(value) in RULES.values():
        return value
    if kind == "tuple[float, ...]" and isinstance(value, tuple | list):
        return tuple(_fitting("float", each) for each in value)
    raise TypeError(f"{value!r} is not {kind}")


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
    call: Any = ast.Call(tree, [], []) if isinstance(tree, ast.Name) else tree
    make = known[nearest(what, call.func.id, known)]

    def value_of(tree: ast.expr) -> Any:
        inner = isinstance(tree, ast.Call) and _is_call(tree)
        return _build(what, tree, known) if inner else ast.literal_eval(tree)

    try:
        arguments = [value_of(each) for each in call.args]
        keywords = {str(each.arg): value_of(each.value) for each in call.keywords}
    except MPFLError:
        raise
    except _UNREADABLE:
        raise MPFLError("arguments must be plain numbers, such as 0.5") from None
    signature = inspect.signature(make)
    try:
        given = signature.bind(*arguments, **keywords).arguments
        kinds = {name: str(signature.parameters[name].annotation) for name in given}
        return make(**{name: _fitting(kinds[name], value) for name, value in given.items()})
    except TypeError as error:
        raise MPFLError(f"{make.__name__}: {error}") from None
