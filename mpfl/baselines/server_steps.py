"""Federated averaging whose server takes a longer way: with momentum, or with Adam.

The nodes do as ever. The server looks at how far the mean of their weights lies from its own, as at
a gradient turned round, and steps by the rule of an optimiser (FedOpt: Reddi et al.,
arXiv 2003.00295). With momentum it is FedAvgM (Hsu et al., arXiv 1909.06335), with Adam FedAdam.

Nothing more crosses the wire. What the optimiser remembers stays at the server. Running statistics
become the nodes' mean, as in federated averaging, although the weights go elsewhere: while steps
are long, they are not those of the server's weights.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import numpy as np

from mpfl.types import MPFLError, Weights, at_least, is_number

ServerStep: TypeAlias = Callable[[Weights, Weights, Weights, int], tuple[Weights, Weights]]
"""``(weights, mean, kept, round_) -> (weights, kept)``: the server's weights, the mean of the
nodes', what the server kept of the round before, and the round, from 1. A pure function: what it
keeps is in the checkpoint. Where weights and mean are 0, as where filters are pruned, it stays 0.
"""

FIRST, SECOND = "first/", "second/"
"""Before the name of a tensor: under what name the server keeps what it remembers of its moves,
and of their squares."""


def mean_step(
    weights: Weights, mean: Weights, kept: Weights, round_: int
) -> tuple[Weights, Weights]:
    """All the way to the mean, and nothing kept: federated averaging.

    >>> mean_step({"w": np.array([1.0])}, {"w": np.array([3.0])}, {}, round_=1)
    ({'w': array([3.])}, {})
    """
    return mean, {}


def momentum_step(trained: Sequence[str], *, rate: float, momentum: float) -> ServerStep:
    """``rate`` times this round's move and those before it, which fade by ``momentum`` a round.

    For the tensors ``trained``, of any shape; all else becomes the mean. As in ``torch.optim.SGD``.
    Law: but for rounding, a rate of 1 and no momentum are federated averaging. The step raises
    :class:`~mpfl.types.MPFLError` if it ends in NaN or infinity, or if a tensor is not there.

    >>> step = momentum_step(["w"], rate=1.0, momentum=0.5)
    >>> weights, kept = step({"w": np.array([0.0])}, {"w": np.array([2.0])}, {}, 1)
    >>> step(weights, {"w": np.array([3.0])}, kept, 2)[0]
    {'w': array([4.])}
    """
    require_rate(rate)
    require_share("momentum", momentum)

    def way(moved: np.ndarray, past: Weights, round_: int) -> tuple[np.ndarray, Weights]:
        moves = momentum * past[FIRST] + moved if past else moved
        return rate * moves, {FIRST: moves}

    return _stepping(trained, way)


def adam_step(
    trained: Sequence[str],
    *,
    rate: Callable[[int], float],
    tau: float,
    momentum: float = 0.9,
    memory: float = 0.99,
) -> ServerStep:
    """Every number about ``rate(round_)`` far, if its moves agree and are well above ``tau``: Adam.

    For the tensors ``trained``, of any shape; all else becomes the mean. The mean move is divided
    by the root of the mean square and ``tau``, so moves far below ``tau`` lead to short steps. Both
    averages begin at 0 and are corrected for that, as in Adam (arXiv 1412.6980) and
    ``torch.optim.Adam``; Reddi et al. do not correct. The step raises
    :class:`~mpfl.types.MPFLError` if it ends in NaN or infinity, or if a tensor is not there.

    >>> step = adam_step(["w"], rate=lambda round_: 0.5, tau=0.0)
    >>> step({"w": np.array([0.0, 0.0])}, {"w": np.array([2.0, -9.0])}, {}, 1)[0]
    {'w': array([ 0.5, -0.5])}
    """
    require_share("momentum", momentum)
    require_share("memory", memory)
    require_tau(tau)

    def way(moved: np.ndarray, past: Weights, round_: int) -> tuple[np.ndarray, Weights]:
        first = (1 - momentum) * moved + momentum * past.get(FIRST, 0 * moved)
        second = (1 - memory) * moved**2 + memory * past.get(SECOND, 0 * moved)
        size = np.sqrt(second / (1 - memory**round_)) + tau
        step = first / (1 - momentum**round_) / np.where(size > 0, size, 1)
        return rate(round_) * step, {FIRST: first, SECOND: second}

    return _stepping(trained, way)


_Way: TypeAlias = Callable[[np.ndarray, Weights, int], tuple[np.ndarray, Weights]]
"""``(moved, past, round_) -> (way, past)`` of one tensor: where it goes, and what is remembered."""


def _stepping(trained: Sequence[str], way: _Way) -> ServerStep:
    """The server's step that goes the ``way`` in each of ``trained``."""
    names = tuple(trained)

    def step(
        weights: Weights, mean: Weights, kept: Weights, round_: int
    ) -> tuple[Weights, Weights]:
        at_least("round", round_, 1)
        now: dict[str, np.ndarray] = dict(mean)
        then: dict[str, np.ndarray] = {}
        for name in names:
            held = _floats(weights, name)
            with np.errstate(all="ignore"):  # what overflows is refused below
                moved = np.atleast_1d(mean[name] - held)  # a tensor may have no axis
                far, past = way(moved, _past(kept, name), round_)
                now[name] = (held + far).astype(held.dtype).reshape(held.shape)
            then |= {kind + name: array for kind, array in past.items()}
            if not all(np.isfinite(array).all() for array in (now[name], *past.values())):
                raise MPFLError(
                    f"round {round_}: the server's step leaves {name!r} with NaN or infinity; "
                    "lower the rate of the server's step"
                )
        return now, then

    return step


def _past(kept: Weights, name: str) -> Mapping[str, np.ndarray]:
    """What the server remembers of one tensor."""
    return {kind: kept[kind + name] for kind in (FIRST, SECOND) if kind + name in kept}


def _floats(weights: Weights, name: str) -> np.ndarray:
    if name not in weights or weights[name].dtype.kind != "f":
        raise MPFLError(f"trained names {name!r}, which is no tensor of floats; leave it out")
    return weights[name]


def require_rate(rate: float) -> None:
    """Refuse a rate that is no positive number."""
    if not (is_number(rate) and 0 < rate < np.inf):
        raise MPFLError(f"rate is {rate!r}; give a positive number, such as 1.0")


def require_share(name: str, share: float) -> None:
    """Refuse a share of the past that would never fade, or is none."""
    if not (is_number(share) and 0 <= share < 1):
        raise MPFLError(f"{name} is {share!r}; give a number from 0 to below 1, such as 0.9")


def require_tau(tau: float) -> None:
    """Refuse a tau that is no number from 0."""
    if not (is_number(tau) and 0 <= tau < np.inf):
        raise MPFLError(f"tau is {tau!r}; give a number from 0, such as 0.001")
