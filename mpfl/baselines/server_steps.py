"""Federated averaging whose server takes a longer way: with momentum, or with Adam.

The nodes do as ever. The server looks at how far the mean of their weights lies from its own, as at
a gradient turned round, and steps by the rule of an optimiser (FedOpt: Reddi et al.,
arXiv 2003.00295). With momentum it is FedAvgM (Hsu et al., arXiv 1909.06335), with Adam FedAdam.

Nothing more crosses the wire. What the optimiser remembers stays at the server.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np

from mpfl.types import MPFLError, Weights, is_number

ServerStep: TypeAlias = Callable[[Weights, Weights, Weights, int], tuple[Weights, Weights]]
"""``(weights, mean, kept, round_) -> (weights, kept)``: the server's weights, the mean of the
nodes', and what it kept of the round before."""

FIRST, SECOND = "first/", "second/"
"""Before the name of a tensor: under what name the server keeps the mean of its moves, and of
their squares."""


def mean_step(
    weights: Weights, mean: Weights, kept: Weights, round_: int
) -> tuple[Weights, Weights]:
    """All the way to the mean, and nothing kept: federated averaging.

    >>> mean_step({"w": np.array([1.0])}, {"w": np.array([3.0])}, {}, round_=1)
    ({'w': array([3.])}, {})
    """
    return mean, {}


def momentum_step(trained: Sequence[str], *, rate: float, momentum: float) -> ServerStep:
    """``rate`` times this round's move and all before it, each a ``momentum`` less than the next.

    For the tensors ``trained``; all else becomes the mean. ``torch.optim.SGD`` does the same. Law:
    with a rate of 1 and no momentum it is federated averaging.

    >>> step = momentum_step(["w"], rate=1.0, momentum=0.5)
    >>> weights, kept = step({"w": np.array([0.0])}, {"w": np.array([2.0])}, {}, 1)
    >>> step(weights, {"w": np.array([3.0])}, kept, 2)[0]
    {'w': array([4.])}
    """
    require_rate(rate)
    require_share("momentum", momentum)

    def step(
        weights: Weights, mean: Weights, kept: Weights, round_: int
    ) -> tuple[Weights, Weights]:
        now: dict[str, np.ndarray] = dict(mean)
        then: dict[str, np.ndarray] = {}
        for name in trained:
            moved = mean[name] - weights[name]
            moves = momentum * kept[FIRST + name] + moved if FIRST + name in kept else moved
            now[name] = (weights[name] + rate * moves).astype(weights[name].dtype)
            then[FIRST + name] = moves
        return now, then

    return step


def adam_step(
    trained: Sequence[str],
    *,
    rate: Callable[[int], float],
    tau: float,
    momentum: float = 0.9,
    memory: float = 0.99,
) -> ServerStep:
    """Every number about ``rate(round_)`` far, wherever its moves agree: Adam.

    For the tensors ``trained``; all else becomes the mean. The mean move is divided by the root of
    the mean square and ``tau``, so moves far below ``tau`` lead to short steps. Both averages begin
    at 0 and are corrected for that, as in Adam (Kingma and Ba, arXiv 1412.6980);
    ``torch.optim.Adam`` does the same.

    >>> step = adam_step(["w"], rate=lambda round_: 0.5, tau=0.0)
    >>> step({"w": np.array([0.0, 0.0])}, {"w": np.array([2.0, -9.0])}, {}, 1)[0]
    {'w': array([ 0.5, -0.5])}
    """
    require_share("momentum", momentum)
    require_share("memory", memory)
    require_tau(tau)

    def step(
        weights: Weights, mean: Weights, kept: Weights, round_: int
    ) -> tuple[Weights, Weights]:
        now: dict[str, np.ndarray] = dict(mean)
        then: dict[str, np.ndarray] = {}
        for name in trained:
            moved = mean[name] - weights[name]
            first = (1 - momentum) * moved + momentum * kept.get(FIRST + name, 0 * moved)
            second = (1 - memory) * moved**2 + memory * kept.get(SECOND + name, 0 * moved)
            size = np.sqrt(second / (1 - memory**round_)) + tau
            way = first / (1 - momentum**round_) / np.where(size > 0, size, 1)
            now[name] = (weights[name] + rate(round_) * way).astype(weights[name].dtype)
            then |= {FIRST + name: first, SECOND + name: second}
        return now, then

    return step


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
