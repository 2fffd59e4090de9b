"""Every random draw of mpfl comes from here, so a run is a function of its seed."""

from __future__ import annotations

import hashlib
from typing import TypeAlias

import numpy as np

Rng: TypeAlias = np.random.Generator


def rng_for(seed: int, *path: str | int) -> Rng:
    """A generator of its own for each ``path``: here node 3 in round 7.

    >>> rng_for(0, "node", 3, 7).integers(100, size=4).tolist()
    [78, 66, 31, 14]
    >>> rng_for(0, "node", 3, 8).integers(100, size=4).tolist()
    [71, 12, 33, 55]

    Law: equal arguments give equal streams, on every machine and in every order of
    calls; different paths give independent streams. There is no global generator.
    """
    label = "/".join(f"{type(part).__name__}:{part}" for part in path)
    digest = hashlib.blake2b(label.encode(), digest_size=16).digest()
    entropy = [seed, *np.frombuffer(digest, dtype="<u4").tolist()]
    return np.random.default_rng(np.random.SeedSequence(entropy))
