"""``field=value`` from the command line, turned into values: the only place with strings.

Rules, schedules, partitions and noise are written as their ``repr``: ``share(0.5)``,
``geometric(share=0.1, warmup=1)``, ``dirichlet(0.3)``. ``local.lr=0.1`` changes one
setting of the local training.
"""

from __future__ import annotations

import ast
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from mpfl.experiment import Experiment
from mpfl.noise import DATA_NOISES, VOTER_FAULTS
from mpfl.partition import PARTITIONS
from mpfl.prune import SCORES
from mpfl.recipes import nearest
from mpfl.schedules import SCHEDULES
from mpfl.types import MPFLError
from mpfl.vote import RULES

_NAMED: Mapping[str, Mapping[str, Any]] = {
    "vote": RULES,
    "schedule": SCHEDULES,
    "partition": PARTITIONS,
    "noise": {**DATA_NOISES, **VOTER_FAULTS},
}


def changed(experiment: Experiment, assignments: Sequence[str]) -> Experiment:
    """``experiment`` with every ``field=value`` applied.

    Raises :class:`~mpfl.types.MPFLError` naming the field, what was given and what fits.
    """
    fields = [field.name for field in dataclasses.fields(Experiment)]
    changes: dict[str, Any] = {}
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        if not equals:
            raise MPFLError(f"--set {assignment!r}: write it as field=value")
        name, dot, part = name.strip().partition(".")
        nearest("field", name, fields)
        old = changes.get(name, getattr(experiment, name))
        if dot:
            changes[name] = _with_part(name, old, part, text)
        else:
            changes[name] = _value(name, old, text.strip())
    return dataclasses.replace(experiment, **changes)


def _with_part(name: str, old: Any, part: str, text: str) -> Any:
    if not dataclasses.is_dataclass(old) or isinstance(old, type):
        raise MPFLError(f"--set {name}.{part}: {name!r} has no parts")
    nearest(f"part of {name!r}", part, [field.name for field in dataclasses.fields(old)])
    return dataclasses.replace(
        old, **{part: _value(f"{name}.{part}", getattr(old, part), text.strip())}
    )


def _value(name: str, old: Any, text: str) -> Any:
    """Read ``text`` as a value of the same kind as ``old``."""
    if name in _NAMED:
        return None if text == "None" else _call(name, text, _NAMED[name])
    if name == "score":
        return SCORES[nearest("score", text, SCORES)]
    if isinstance(old, str):
        return text
    value = _literal(name, text)
    if isinstance(old, float) and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if name == "match":
        return text
    fits = isinstance(value, type(old)) or (name == "images" and isinstance(value, int))
    if not fits or isinstance(value, bool) != isinstance(old, bool):
        kind = "int" if old is None else type(old).__name__
        raise MPFLError(f"--set {name}={text}: needs a value of type {kind}, such as {old!r}")
    return value


def _literal(name: str, text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        if name == "match":
            return text
        raise MPFLError(f"--set {name}={text}: cannot be read as a value") from None


def _call(name: str, text: str, known: Mapping[str, Any]) -> Any:
    """Build ``rule(1, key=2)`` from its text: a known name and literal arguments, no code."""
    try:
        tree = ast.parse(text, mode="eval").body
    except SyntaxError:
        raise MPFLError(f"--set {name}={text}: write it as {next(iter(known))}(...)") from None
    call = tree if isinstance(tree, ast.Call) else ast.Call(tree, [], [])
    if not isinstance(call.func, ast.Name):
        raise MPFLError(f"--set {name}={text}: write it as {next(iter(known))}(...)")
    make = known[nearest(name, call.func.id, known)]
    try:
        arguments = [ast.literal_eval(each) for each in call.args]
        keywords = {str(each.arg): ast.literal_eval(each.value) for each in call.keywords}
        return make(*arguments, **keywords)
    except (TypeError, ValueError) as error:
        raise MPFLError(f"--set {name}={text}: {error}") from None
