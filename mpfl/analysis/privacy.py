"""Private votes: each bit is sometimes sent wrong, on purpose, so that it proves nothing.

A mask is made from data, and **a mask is not private by itself**: a vote for a filter
that only one kind of picture needs gives that kind away. *Randomised response* (Warner, JASA 60,
1965) sends each bit truthfully with probability ``p = e^eps / (1 + e^eps)`` and turned round
otherwise. Whatever a node holds, each answer is at most ``e^eps`` times as likely as it would
be from any other data: local differential privacy, which needs no trust in the server. One
voter is hidden; the sum of many is still known, to within noise that grows like a root.

What is spent adds up, over the bits of a ballot and over the rounds (:func:`epsilon_total`);
Dwork & Roth, *The Algorithmic Foundations of Differential Privacy*, 2014, sections 3.2 and 3.5.
The final training is not covered: if nodes average weights, the weights tell more.

The draws are the node's own generator's, so that a run can be repeated. Whoever knows its seed can
take the noise off again: between real parties draw from the operating system.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from jaxtyping import Float, Shaped

from mpfl.analysis.faults import check_vote
from mpfl.masks import Keep
from mpfl.seeds import Rng
from mpfl.types import Mask, MPFLError
from mpfl.vote import Rule, Tally


def _check_epsilon(where: str, epsilon: float) -> None:
    if not (epsilon > 0 and math.isfinite(epsilon)):
        raise MPFLError(f"{where}: epsilon is {epsilon:g}; give a positive number, such as 2.0")


def chance_true(epsilon: float) -> float:
    """The chance that a bit is sent as it is: ``e^eps / (1 + e^eps)``, from 1/2 up to 1.

    >>> round(chance_true(1.0), 3)
    0.731
    """
    _check_epsilon("chance_true", epsilon)
    return 1 / (1 + math.exp(-epsilon))


@dataclass(frozen=True)
class randomised_response:
    """Each bit of a filter alive is turned round with probability ``1 / (1 + e^eps)``.

    Called like a voter fault, ``(mask, alive, rng) -> mask``, just before a mask is sent.
    Bits of filters that are gone stay as they are. Laws: within ``alive``; two masks that
    differ in ``d`` bits give any one answer with chances at most ``e^(d eps)`` apart. The answer
    holds no fixed number of filters, so its counts are not known beforehand and it is longer.

    >>> from mpfl.seeds import rng_for
    >>> alive = {"conv": np.array([True, True, True, False])}
    >>> mask = {"conv": np.array([True, False, False, False])}
    >>> randomised_response(100.0)(mask, alive, rng_for(0, "example"))  # hardly ever a lie
    {'conv': array([ True, False, False, False])}
    """

    epsilon: float

    def __post_init__(self) -> None:
        _check_epsilon("randomised_response", self.epsilon)

    def __call__(self, mask: Mask, alive: Mask, rng: Rng) -> Mask:
        check_vote("randomised_response", mask, alive)
        lie = 1 - chance_true(self.epsilon)
        return {n: bits & (mask[n] ^ (rng.random(bits.size) < lie)) for n, bits in alive.items()}


def unbiased(
    votes: Shaped[np.ndarray, " filters"], voters: float, epsilon: float
) -> Float[np.ndarray, " filters"]:
    """The true votes, estimated from randomised ones: ``(v - n (1-p)) / (2p - 1)``.

    Right on average, and off by :func:`standard_error`, so it may lie outside ``0..voters``.
    Written as distance from a tie, ``n/2 + (v - n/2) / tanh(eps/2)``, which keeps a tie a tie.
    Law: strictly increasing in the votes, so that no rank changes.
    """
    _check_epsilon("unbiased", epsilon)
    tie = voters / 2
    return tie + (np.asarray(votes, dtype=np.float64) - tie) / math.tanh(epsilon / 2)


def standard_error(voters: float, epsilon: float) -> float:
    """The standard deviation of :func:`unbiased`, in votes: ``sqrt(n) / (2 sinh(eps/2))``.

    The same for every filter: each of the ``n`` bits is turned round with the same chance,
    whatever it says. As a share of the voters it falls like ``1 / sqrt(n)``.
    """
    _check_epsilon("standard_error", epsilon)
    return math.sqrt(voters) / (2 * math.sinh(epsilon / 2))


@dataclass(frozen=True)
class debiased(Rule):
    """``rule`` on the estimate of the true votes, clipped to what votes can be.

    For rules that hold a threshold against the share of votes; every node has to answer by
    ``randomised_response(epsilon)``. Laws: ``share(0.5)`` decides as it does without; for a
    large epsilon every rule does. Raises for a rule that takes no estimates.

    >>> from mpfl.vote import share
    >>> tally = Tally(np.array([7, 6]), 10, np.ones(2, bool), keep=1, norms=np.ones(2))
    >>> rule = debiased(share(0.7), epsilon=2.0)
    >>> rule.decide({"conv": tally}, Keep.by_layer({"conv": 1}))  # 7 of 10 came from about 7.6
    {'conv': array([ True, False])}
    """

    rule: Rule
    epsilon: float
    takes_estimates: ClassVar[bool] = False

    def __post_init__(self) -> None:
        _check_epsilon("vote rule debiased", self.epsilon)
        if not self.rule.takes_estimates:
            why = "goes by rank, which does not change; use it as it is"
            if self.rule.weights is not None:
                why = "does not count voters alike; use share"
            elif self.rule.expects is not None:
                why = "is debiased already; do it once"
            raise MPFLError(f"vote rule debiased: {self.rule} {why}")

    @property
    def expects(self) -> randomised_response:  # type: ignore[override]
        """How every node has to answer."""
        return randomised_response(self.epsilon)

    def decide(self, tallies: Mapping[str, Tally], keep: Keep) -> dict[str, np.ndarray]:
        estimated = {}
        for name, tally in tallies.items():
            votes = unbiased(tally.votes, tally.voters, self.epsilon)
            estimated[name] = replace(tally, votes=np.clip(votes, 0, tally.voters))
        return self.rule.decide(estimated, keep)


def chance_kept(votes: int, voters: int, epsilon: float, tau: float) -> float:
    """The chance that a filter with so many true votes passes ``debiased(share(tau), epsilon)``.

    The votes that arrive are ``Bin(v, p) + Bin(n - v, 1 - p)``: those who keep it and say so,
    and those who do not and say otherwise. Laws: rises with ``votes``; for a large epsilon it is
    0 or 1, as ``votes / voters >= tau`` says.
    """
    if not 0 <= votes <= voters:
        raise MPFLError(f"chance_kept: {votes} votes of {voters} nodes; give 0 to {voters}")
    truth = chance_true(epsilon)
    arrive = np.convolve(_heads(votes, truth), _heads(voters - votes, 1 - truth))
    estimate = np.clip(unbiased(np.arange(voters + 1), voters, epsilon), 0, voters)
    return float(arrive[estimate / voters >= tau].sum())


def _heads(n: int, p: float) -> np.ndarray:
    """The chance of 0, 1, ..., n heads; by logarithms, as the binomials outgrow a float."""
    if p in (0.0, 1.0):  # in floats, at a large epsilon
        return np.eye(n + 1)[n if p else 0]
    steps = np.log(np.arange(n, 0, -1)) - np.log(np.arange(1, n + 1))
    ways = np.concatenate([[0.0], np.cumsum(steps)])
    k = np.arange(n + 1)
    return np.exp(ways + k * math.log(p) + (n - k) * math.log1p(-p))


def bits_told(alive: Mapping[str, int], keep: Mapping[str, int] | None = None) -> int:
    """In how many bits two ballots of a round can differ: what a round's epsilon is spent on.

    At most all filters alive. If every honest mask holds the counts ``keep``, as a plan
    asks, at most ``2 min(k, a - k)`` of a layer's ``a``: one filter out for each one in.
    """
    if keep is None:
        return sum(alive.values())
    for name, count in alive.items():
        if not 0 <= keep[name] <= count:
            raise MPFLError(
                f"bits_told: layer {name!r} has {count} filters alive and cannot keep "
                f"{keep[name]}; give 0 to {count}"
            )
    return sum(2 * min(keep[name], count - keep[name]) for name, count in alive.items())


def epsilon_total(epsilon: float, bits: Sequence[int], delta: float = 0.0) -> float:
    """What a node spends in rounds of so many ``bits`` each, at ``epsilon`` per bit.

    Basic composition adds up: ``m eps`` for ``m`` bits in all, for certain (``delta`` = 0).
    With a chance ``delta`` above 0 that the promise fails, advanced composition may be less,
    ``eps sqrt(2 m ln(1/delta)) + m eps (e^eps - 1)``, and the smaller of both is returned. Both
    hold if each round's answers depend on the rounds before. Dwork, Rothblum & Vadhan, FOCS
    2010. Law: never more than basic, and only less at a small epsilon.
    """
    _check_epsilon("epsilon_total", epsilon)
    if not 0 <= delta < 1 or min(bits, default=0) < 0:
        raise MPFLError(f"epsilon_total: delta {delta:g}, bits {list(bits)}; give 0-1 and counts")
    told = sum(bits)
    basic = told * epsilon
    if delta == 0:
        return basic
    spread = epsilon * math.sqrt(2 * told * math.log(1 / delta))
    return min(basic, spread + basic * math.expm1(epsilon))


PRIVATE_VOTES = {randomised_response.__name__: randomised_response}
WRAPPERS = {debiased.__name__: debiased}
