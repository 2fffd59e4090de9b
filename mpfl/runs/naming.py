"""What a value is called in a configuration, so that equal names mean equal runs.

A rule of this package is called by its ``repr``, a function by its name. A reader's own may have
any name, even that of another: so the name of a value from elsewhere ends in a fingerprint of
what it does and holds, as in ``spread@1f0c93aa``.
"""

from __future__ import annotations

import dataclasses
import dis
import hashlib
import re
import sys
import sysconfig
from functools import partial
from pathlib import Path
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np

from mpfl.nets.settings import Settings
from mpfl.runs.methods import METHODS, Method
from mpfl.types import MPFLError

_LIBRARIES = tuple(sysconfig.get_paths()[key] for key in ("stdlib", "purelib", "platlib"))
_WRITTEN_BY_DATACLASS = {"__init__", "__repr__", "__eq__", "__hash__", "__setattr__", "__delattr__"}
_READS = ("LOAD_GLOBAL", "LOAD_NAME")


def describe(value: Any) -> Any:
    """``value`` as JSON can hold it.

    Raises :class:`~mpfl.types.MPFLError` for a value that holds something nobody can tell apart,
    such as a lock or an object without fields.

    >>> from mpfl.prune import l2
    >>> from mpfl.vote import share
    >>> describe(l2), describe(share(0.5)), describe(3)
    ('l2', 'share(tau=0.5)', 3)
    """
    if isinstance(value, np.generic):  # equal to Python's own number, but printed otherwise
        value = value.item()
    if value is None or isinstance(value, str | int | float):
        return value
    if isinstance(value, Settings):
        return {
            field.name: describe(getattr(value, field.name)) for field in dataclasses.fields(value)
        }
    reading = _Reading()
    text = reading.of(value)
    foreign = reading.foreign
    if isinstance(value, Method):  # its repr is its name alone
        foreign = METHODS.get(value.name) != value
    if not foreign:
        with np.printoptions(legacy="1.25"):  # its fields are alike
            return getattr(value, "__name__", None) or repr(value)
    digest = hashlib.blake2b(text.encode(), digest_size=4).hexdigest()
    return f"{_short(value)}@{digest}"


def _short(value: Any) -> str:
    """A readable name, which need not tell anything apart."""
    if isinstance(value, partial):
        return f"partial({_short(value.func)})"
    name = getattr(value, "__name__", None) or repr(value)
    return type(value).__name__ if re.search(r" at 0x[0-9a-f]+", name) else name


class _Reading:
    """Everything that a value does and holds, as text that is the same in every process.

    ``foreign``: something in it is neither this package's nor a library's.
    """

    def __init__(self) -> None:
        self.foreign = False
        self._open: set[int] = set()  # what is being read further out: it ends a circle

    def of(self, value: Any) -> str:
        """The text of one value, and of what is inside it."""
        if isinstance(value, np.ndarray | np.generic) or hasattr(value, "__array__"):
            return _digest(np.asarray(value))
        if value is None or isinstance(value, str | bytes | int | float | complex):
            return repr(value)
        if isinstance(value, ModuleType):
            return value.__name__
        if id(value) in self._open:
            return "..."
        self._open.add(id(value))
        try:
            return self._inside(value)
        finally:
            self._open.discard(id(value))

    def _inside(self, value: Any) -> str:
        if isinstance(value, tuple | list):
            return f"[{','.join(map(self.of, value))}]"
        if isinstance(value, set | frozenset):
            return f"{{{','.join(sorted(map(self.of, value)))}}}"
        if isinstance(value, dict):
            return f"{{{','.join(sorted(f'{self.of(k)}:{self.of(v)}' for k, v in value.items()))}}}"
        if isinstance(value, partial):
            return f"partial{self.of([value.func, value.args, value.keywords])}"
        if isinstance(value, MethodType):
            return self.of([value.__self__, value.__func__])
        if isinstance(value, CodeType):
            return f"{value.co_code.hex()}{self.of(value.co_consts)}{value.co_names}"
        if isinstance(value, staticmethod | classmethod):
            return self.of(value.__func__)
        if isinstance(value, property):
            return self.of([value.fget, value.fset])
        if isinstance(value, FunctionType):
            return self._function(value)
        if isinstance(value, type):
            return self._class(value)
        if hasattr(value, "__wrapped__"):  # a cached function
            return self.of(value.__wrapped__)
        if isinstance(value, BuiltinFunctionType | np.ufunc):
            return value.__name__
        return self._object(value)

    def _function(self, function: FunctionType) -> str:
        name = f"{function.__globals__.get('__name__')}.{function.__qualname__}"
        if not self._is_foreign(function.__code__.co_filename):
            return name
        self.foreign = True
        closed = [cell.cell_contents for cell in function.__closure__ or ()]
        used = {
            name: function.__globals__[name]
            for name in sorted(_names_in(function.__code__))
            if name in function.__globals__
        }
        held = [function.__defaults__, function.__kwdefaults__, closed, used]
        return f"{function.__qualname__}{self.of(function.__code__)}{self.of(held)}"

    def _class(self, cls: type) -> str:
        name = f"{cls.__module__}.{cls.__qualname__}"
        file = getattr(sys.modules.get(cls.__module__), "__file__", None)
        library = cls.__module__ != "__main__" and (file is None or not self._is_foreign(file))
        if library:
            return name
        self.foreign = True
        own = {
            key: part
            for key, part in vars(cls).items()
            if not (key.startswith("__") and not isinstance(part, FunctionType))
            and not (key in _WRITTEN_BY_DATACLASS and dataclasses.is_dataclass(cls))
            and not type(part).__name__.endswith(("_descriptor", "_abc_data"))
        }
        return f"{cls.__qualname__}{self.of(own)}{self.of(list(cls.__bases__))}"

    def _object(self, value: Any) -> str:
        if dataclasses.is_dataclass(value):
            fields = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
            return f"{self.of(type(value))}{self.of(fields)}"
        if hasattr(value, "__dict__") and not hasattr(value, "state_dict"):
            return f"{self.of(type(value))}{self.of(vars(value))}"
        text = repr(value)
        if re.search(r" at 0x[0-9a-f]+", text) or hasattr(value, "state_dict"):
            raise MPFLError(
                f"{text.splitlines()[0]} cannot be told from another run's; hold numbers, arrays "
                "or functions instead, in a frozen dataclass"
            )
        return text

    @staticmethod
    def _is_foreign(file: str) -> bool:
        """Whether a file is neither this package's, nor a library's."""
        package = str(Path(__file__).resolve().parents[1])
        return not file.startswith((package, *_LIBRARIES, "<frozen", "<__array_function__"))


def _names_in(code: CodeType) -> set[str]:
    """The global names that a function may use, those of the functions inside it too.

    Names of attributes are not among them, even if there is a global of that name.
    """
    inside = (part for part in code.co_consts if isinstance(part, CodeType))
    read = {step.argval for step in dis.get_instructions(code) if step.opname in _READS}
    return read.union(*map(_names_in, inside))


def _digest(array: np.ndarray) -> str:
    content = hashlib.blake2b(np.ascontiguousarray(array).tobytes(), digest_size=8).hexdigest()
    return f"{array.dtype}{array.shape}{content}"
