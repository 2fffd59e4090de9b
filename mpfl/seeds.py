"""Every random draw of mpfl comes from here, so that a run is a function of its seed."""

from __future__ import annotations

import hashlib
from typing import TypeAlias

import numpy as np

Rng: TypeAlias = np.random.Generator


def rng_for(seed: int, *path: str | int) -> np.random.Generator:
    """A generator of its own for each ``path``, e.g. ``rng_for(seed, "node", 3, 7)``.

    Law: equal arguments give equal streams, on every machine and in every order of
    calls; different paths give independent streams. There is no global generator.
    """
    label = "/".join(f"{type(part).__name__}:{part}" for part in path)
    digest = hashlib.blake2b(label.encode(), digest_size=16).digest()
    entropy = [seed, *np.frombuffer(digest, dtype="<u4").tolist()]
    return np.random.default_rng(np.random.SeedSequence(entropy))
