"""What a value is called in a configuration, so that equal names mean equal runs.

A rule of this package is called by its ``repr``, a function by its name. A reader's own may have
any name, also that of another one: so the name of a value from elsewhere ends in a fingerprint of
its code, as in ``spread@1f0c93aa``.
"""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections.abc import Iterator
from functools import partial
from types import CodeType, FunctionType, ModuleType
from typing import Any

import numpy as np

from mpfl.nets.settings import Settings
from mpfl.types import MPFLError


def describe(value: Any) -> Any:
    """``value`` as JSON can hold it.

    Raises :class:`~mpfl.types.MPFLError` for a value that cannot say what it is: one whose
    ``repr`` is an address in memory.

    >>> from mpfl.prune import l2
    >>> from mpfl.vote import share
    >>> describe(l2), describe(share(0.5)), describe(3)
    ('l2', 'share(tau=0.5)', 3)
    """
    if value is None or isinstance(value, str | int | float):
        return value
    if isinstance(value, Settings):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, partial):
        name = f"partial({describe(value.func)}, {value.args}, {sorted(value.keywords.items())})"
    else:
        name = getattr(value, "__name__", None) or repr(value)
    if re.search(r" at 0x[0-9a-f]+", name):
        raise MPFLError(
            f"{name} cannot be told from another run's; make its class a frozen dataclass, or "
            "use a function"
        )
    foreign = hashlib.blake2b(digest_size=4)
    parts = sorted(set(_foreign_code(value)))
    for part in parts:
        foreign.update(part.encode())
    return f"{name}@{foreign.hexdigest()}" if parts else name


def _foreign_code(value: Any) -> Iterator[str]:
    """The code behind a value that is not of this package, and behind the values inside it."""
    if isinstance(value, FunctionType):
        if not _is_ours(value.__module__):
            yield _text_of(value)
    elif isinstance(value, np.ndarray):
        yield _digest(value)  # a long array's repr leaves most of it out
    elif isinstance(value, partial):
        for part in (value.func, *value.args, *value.keywords.values()):
            yield from _foreign_code(part)
    else:
        for cls in type(value).__mro__:
            if not (_is_ours(cls.__module__) or cls.__module__ in ("builtins", "abc", "typing")):
                yield from _methods_of(cls)
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            for field in dataclasses.fields(value):
                yield from _foreign_code(getattr(value, field.name))


def _methods_of(cls: type) -> Iterator[str]:
    """The code of a class, but for what ``dataclass`` wrote: that follows from the fields."""
    for function in vars(cls).values():
        if isinstance(function, FunctionType) and function.__code__.co_filename != "<string>":
            yield f"{cls.__qualname__}.{_text_of(function)}"


def _is_ours(module: str | None) -> bool:
    return module is not None and module.partition(".")[0] == "mpfl"


def _digest(array: np.ndarray) -> str:
    content = hashlib.blake2b(np.ascontiguousarray(array).tobytes(), digest_size=8).hexdigest()
    return f"{array.dtype}{array.shape}{content}"


def _text_of(function: FunctionType) -> str:
    """What a function does: its code, its defaults, and what it closes over."""
    held = [cell.cell_contents for cell in function.__closure__ or ()]
    inside = [_content(value) for value in held if value is not function]
    return f"{function.__qualname__} {function.__defaults__} {inside} {_code(function.__code__)}"


def _content(value: Any) -> str:
    if isinstance(value, type):
        return f"{value.__qualname__} {sorted(_methods_of(value))}"
    if isinstance(value, ModuleType):
        return value.__name__
    return str(describe(value))


def _code(code: CodeType) -> str:
    """Instructions, constants and names, wherever the function stands in its file."""
    constants = [
        _code(each) if isinstance(each, CodeType) else repr(each) for each in code.co_consts
    ]
    return f"{code.co_code.hex()} {constants} {code.co_names}"
