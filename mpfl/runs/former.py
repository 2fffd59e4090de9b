"""Names in older records, and what they are called now.

Recorded runs keep the names of their day. On reading they become today's (:func:`current`); an
experiment's identity is worked out in the words of the first records (:func:`original`), so that
a new name gives no old run another identity. Commands of old records are understood as well
(:func:`current_assignments`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from mpfl.data.noise import DATA_NOISES
from mpfl.types import MPFLError, one_of

# (now, before), in any text of a configuration.
_TEXTS = (
    (r"\bmost_votes\(", "budget("),
    (r"\b(geometric|arithmetic|colluding_veto)\(amount=", r"\1(share="),
)
_TEXTS_BACK = (
    (r"\bbudget\(", "most_votes("),
    (r"\b(geometric|arithmetic|colluding_veto)\(share=", r"\1(amount="),
)
_LOTTERY, _RANDOM_MASKS = "lottery", "random-masks"
_QUOTA = {
    "scope": "layer",
    "allocation": "even()",
    "floor": 1,
    "share_of": "full",
    "required": None,
}


def _replaced(value: Any, pairs: Sequence[tuple[str, str]]) -> Any:
    if not isinstance(value, str):
        return value
    for pattern, text in pairs:
        value = re.sub(pattern, text, value)
    return value


def original(config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration in the words of the first records, whatever words it came in.

    >>> now = {"method": "lottery", "quota": "power(exponent=0.5)", "fault": "random_mask()"}
    >>> before = original({"data_noise": None, **now})
    >>> before["method"], before["allocation"], before["noise"]
    ('random-masks', 'power(exponent=0.5)', 'random_mask()')
    """
    old = {name: _replaced(value, _TEXTS) for name, value in config.items()}
    for name in ("recipe", "method"):
        if name in old:
            old[name] = re.sub(rf"{_LOTTERY}$", _RANDOM_MASKS, str(old[name]))
    if "quota" in old:
        old |= _QUOTA | _parts_of(str(old.pop("quota")))
    if "data_noise" in old:
        noise, fault = old.pop("data_noise"), old.pop("fault", None)
        old["noise"] = fault if noise is None else noise
        if None not in (noise, fault):  # never both, before
            old["fault"] = fault
    return old


def _parts_of(quota: str) -> dict[str, Any]:
    """A quota as the five fields that it was once."""
    if found := re.fullmatch(r"over_network\(floor=(\d+)\)", quota):
        return {"scope": "network", "floor": int(found[1])}
    if found := re.fullmatch(r"(even|of_what_is_left)\(required=(.*)\)", quota):
        required = None if found[2] == "None" else found[2]
        kept = {"share_of": "kept"} if found[1] == "of_what_is_left" else {}
        return {**kept, "required": required}
    return {"allocation": quota}


def current(config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration in today's words, whatever words it came in.

    >>> now = current({"method": "random-masks", "scope": "network", "floor": 2, "noise": None})
    >>> now["method"], now["quota"], now["data_noise"]
    ('lottery', 'over_network(floor=2)', None)
    """
    new = {name: _replaced(value, _TEXTS_BACK) for name, value in config.items()}
    for name in ("recipe", "method"):
        if name in new:
            new[name] = re.sub(rf"{_RANDOM_MASKS}$", _LOTTERY, str(new[name]))
    if "quota" not in new:
        new["quota"] = _quota_of(_QUOTA | {k: new.pop(k) for k in list(new) if k in _QUOTA})
    if "noise" in new:
        noise = new.pop("noise")
        spoils_data = noise is None or str(noise).partition("(")[0] in DATA_NOISES
        new["data_noise"], new["fault"] = (noise, None) if spoils_data else (None, noise)
    return new


def _quota_of(parts: Mapping[str, Any]) -> str:
    if parts["scope"] == "network":
        return f"over_network(floor={parts['floor']})"
    if parts["share_of"] == "kept":
        return f"of_what_is_left(required={parts['required']})"
    if parts["required"] is not None or parts["allocation"] == "even()":
        return f"even(required={parts['required']})"
    return str(parts["allocation"])


def current_assignments(assignments: Sequence[str], quota: str = "even()") -> list[str]:
    """``field=value`` assignments in today's words, as a recorded command has them.

    ``quota`` is the one that they change a part of. Raises :class:`~mpfl.types.MPFLError` for
    parts that never went together.

    >>> current_assignments(["scope=network", "vote=budget(4)", "noise=random_mask()"])
    ['vote=most_votes(4)', 'fault=random_mask()', 'quota=over_network(floor=1)']
    """
    pairs = [assignment.partition("=") for assignment in assignments]
    given = {name.strip(): text.strip() for name, _, text in pairs}
    now = []
    for name, equals, text in pairs:
        if name.strip() in _QUOTA:
            continue
        if name.strip() == "noise" and equals:
            spoils_data = text.strip().partition("(")[0] in (*DATA_NOISES, "None")
            name = "data_noise" if spoils_data else "fault"
        now.append(_replaced(f"{name}{equals}{text}", _TEXTS_BACK))
    if parts := {name: given[name] for name in _QUOTA if name in given}:
        whole = _QUOTA | _parts_of(quota) | parts
        _check_parts(whole)
        now.append(f"quota={_replaced(_quota_of(whole), _TEXTS_BACK)}")
    return now


def _check_parts(parts: Mapping[str, Any]) -> None:
    """Refuse what was refused when a quota was five fields."""
    one_of("scope", parts["scope"], ("layer", "network"))
    one_of("share_of", parts["share_of"], ("full", "kept"))
    by_layer = parts["share_of"] == "kept" or parts["required"] not in (None, "None")
    other = parts["allocation"] not in ("even()", "even")
    if (parts["scope"] == "network" and (by_layer or other)) or (other and by_layer):
        raise MPFLError(
            "scope network, an allocation, and share_of kept or required do not go together; "
            "set one quota, such as quota=over_network()"
        )


def current_recipe(name: str) -> str:
    """Today's name of a recipe: the control with random masks is called a lottery now."""
    return re.sub(rf"{_RANDOM_MASKS}$", _LOTTERY, name)
