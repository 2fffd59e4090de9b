"""The numbers behind a message's body, four bytes each, and how many a message has of what."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Float32

from mpfl.types import MPFLError, at_least


def pack_statistics(statistics: Float[np.ndarray, " more"] | None) -> bytes:
    """Four bytes each, nothing for ``None``; the inverse of :func:`read_statistics`.

    >>> pack_statistics(np.array([1, -2], np.float32)).hex()
    '0000803f000000c0'

    Raises :class:`~mpfl.types.MPFLError` for numbers that are not finite in four bytes.
    """
    if statistics is None:
        return b""
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


def require_finite(what: str, numbers: Float[np.ndarray, " numbers"]) -> None:
    """Refuse NaN and infinity."""
    if not np.isfinite(numbers).all():
        raise MPFLError(f"{what} hold NaN or infinity; did the training diverge?")


def require_counts(**counts: int) -> None:
    """Refuse a count below 0, by its name."""
    for name, count in counts.items():
        at_least(name, count, 0)
