"""What numbers a message may hold, and those behind its body, four bytes each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from jaxtyping import Float, Float32

from mpfl.types import MPFLError, Weights, at_least, is_whole


def pack_statistics(statistics: Float[np.ndarray, " more"] | None) -> bytes:
    """Four bytes each, nothing for ``None``; the inverse of :func:`read_statistics`.

    >>> pack_statistics(np.array([1, -2], np.float32)).hex()
    '0000803f000000c0'

    Raises :class:`~mpfl.types.MPFLError` for numbers that are not finite in four bytes.
    """
    if statistics is None:
        return b""
    if (kind := np.asarray(statistics).dtype).kind not in "fiu":
        raise MPFLError(f"statistics are {kind}; give floats")
    with np.errstate(over="ignore"):  # it is infinite then, and refused
        sent = np.asarray(statistics).astype("<f4")
    require_finite("statistics", sent)
    return sent.tobytes()


def read_statistics(body: bytes, begin: int) -> Float32[np.ndarray, " more"]:
    """All numbers of ``body`` from byte ``begin`` on; refuses those that are not finite.

    >>> read_statistics(bytes.fromhex("ff0000803f000000c0"), 1)
    array([ 1., -2.], dtype=float32)
    """
    read = np.frombuffer(body, "<f4", offset=begin).astype(np.float32)
    require_finite("statistics", read)
    return read


def require_finite(what: str, numbers: Float[np.ndarray, "..."]) -> None:
    """Refuse NaN and infinity."""
    if not np.isfinite(numbers).all():
        raise MPFLError(f"{what} hold NaN or infinity; did the training diverge?")


def require_row(what: str, numbers: np.ndarray, kind: Literal["b", "f", "i"] = "f") -> None:
    """Refuse what is no array of one axis, or of another kind of numbers."""
    if not (isinstance(numbers, np.ndarray) and numbers.ndim == 1 and numbers.dtype.kind == kind):
        due = {"b": "bools", "f": "floats", "i": "whole numbers"}[kind]
        raise MPFLError(f"{what} are no {due} in a row; give a numpy array of such")


def require_parts(
    what: str, numbers: np.ndarray, sizes: Sequence[int], kind: Literal["b", "f", "i"] = "f"
) -> None:
    """As :func:`require_row`; and refuse ``sizes`` that are not those of its parts.

    >>> require_parts("moves", np.array([1, 2, 3], np.float32), [2, 1])
    >>> require_parts("moves", np.array([1, 2, 3], np.float32), [2, 2])
    Traceback (most recent call last):
    mpfl.types.MPFLError: moves: 3 numbers for parts of [2, 2]; give how many each part has
    """
    require_row(what, numbers, kind)
    counts = list(sizes) if isinstance(sizes, Sequence | np.ndarray) else sizes
    whole = isinstance(counts, list) and all(is_whole(count) and count >= 0 for count in counts)
    if not whole or sum(map(int, counts)) != numbers.size:
        said = f"{counts[:8]!r} and so on" if isinstance(counts, list) and counts[8:] else counts
        raise MPFLError(
            f"{what}: {numbers.size} numbers for parts of {said}; give how many each part has"
        )


def require_counts(**counts: int) -> None:
    """Refuse a count below 0, by its name."""
    for name, count in counts.items():
        at_least(name, count, 0)


def require_weights(weights: Weights, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Refuse what are not finite numbers in tensors of these names and ``shapes``."""
    if not isinstance(weights, Mapping):
        raise MPFLError(f"weights are a {type(weights).__name__}; give an array by tensor's name")
    if missing := sorted(shapes.keys() - weights.keys()):
        raise MPFLError(f"weights lack tensors {missing[:3]}; are they of another model?")
    if extra := sorted(weights.keys() - shapes.keys()):
        raise MPFLError(f"weights hold unknown tensors {extra[:3]}; are they of another model?")
    for name, shape in shapes.items():
        array = weights[name]
        if not isinstance(array, np.ndarray):
            raise MPFLError(f"tensor {name!r} is a {type(array).__name__}; send numpy arrays")
        if array.shape != tuple(shape):
            raise MPFLError(
                f"tensor {name!r} is of shape {list(array.shape)}, not {list(shape)}; "
                "do both sides hold the same mask?"
            )
        if array.dtype.kind not in "fiu" or array.dtype.itemsize > 8:
            raise MPFLError(f"tensor {name!r} is of type {array.dtype}; send floats or integers")
        if not np.isfinite(array).all():
            raise MPFLError(f"tensor {name!r} holds NaN or infinity; did the training diverge?")
