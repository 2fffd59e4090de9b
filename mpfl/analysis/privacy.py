"""Private votes: each bit is sometimes sent wrong, on purpose, so that it proves nothing.

A mask is no data, but it is made from data, and **a mask is not private by itself**: a filter
that only one kind of picture needs tells of that kind. *Randomised response* (Warner, JASA 60,
1965) sends each bit truthfully with probability ``p = e^eps / (1 + e^eps)`` and turned round
otherwise. Whatever a node holds, each answer is at most ``e^eps`` times as likely as it would
be from any other data: local differential privacy, which needs no trust in the server. One
voter is hidden; the sum of many is still known, to within noise that grows like a root.

What is spent adds up, over the bits of a ballot and over the rounds (:func:`epsilon_total`);
Dwork & Roth, *The Algorithmic Foundations of Differential Privacy*, 2014, sections 3.2 and 3.5.
The final training is not covered: where nodes average weights, the weights tell more.

The draws are those of the node's own generator, so that a run can be repeated. Whoever knows
its seed can take the noise off again: between real parties draw from the operating system.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Int64, Shaped

from mpfl.analysis.faults import check_vote
from mpfl.seeds import Rng, rng_for
from mpfl.types import Mask, MPFLError
from mpfl.vote import Ballot, Rule, budget, weighted


def _check_epsilon(where: str, epsilon: float) -> None:
    if not (epsilon > 0 and math.isfinite(epsilon)):
        raise MPFLError(f"{where}: epsilon is {epsilon:g}; give a positive number, such as 2.0")


def chance_true(epsilon: float) -> float:
    """The chance that a bit is sent as it is: ``e^eps / (1 + e^eps)``, from 1/2 up to 1."""
    _check_epsilon("chance_true", epsilon)
    return 1 / (1 + math.exp(-epsilon))


@dataclass(frozen=True)
class randomised_response:  # noqa: N801
    """Each bit of a filter alive is turned round with probability ``1 / (1 + e^eps)``.

    Called like a voter fault, ``(mask, alive, rng) -> mask``, just before a mask is sent.
    Bits of filters that are gone say nothing and stay. Laws: within ``alive``; two masks that
    differ in ``d`` bits give any one answer with chances at most ``e^(d eps)`` apart. The answer
    holds no set number of filters, so its counts are not known beforehand and it is longer.
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
class debiased:  # noqa: N801
    """``rule`` on the estimate of the true votes, clipped to what votes can be.

    For rules that hold a threshold against the share of votes, all nodes having answered by
    ``randomised_response(epsilon)``. Laws: ``share(0.5)`` decides as it does without; for a
    large epsilon every rule does. Raises for ``budget``, which goes by rank: no rank changes,
    but clipping would make equal what is not; and for ``weighted``.
    """

    rule: Rule
    epsilon: float

    def __post_init__(self) -> None:
        _check_epsilon("vote rule debiased", self.epsilon)
        if isinstance(self.rule, budget | weighted | debiased):
            why = {
                budget: "goes by rank, which does not change; use it as it is",
                weighted: "does not count voters alike; use share",
                debiased: "is debiased already; do it once",
            }[type(self.rule)]
            raise MPFLError(f"vote rule debiased: {self.rule} {why}")

    def __call__(self, ballot: Ballot) -> Bool[np.ndarray, " filters"]:
        votes = unbiased(ballot.votes, ballot.voters, self.epsilon)
        return self.rule(replace(ballot, votes=np.clip(votes, 0, ballot.voters)))


def chance_kept(votes: int, voters: int, epsilon: float, tau: float) -> float:
    """The chance that a filter with so many true votes passes ``debiased(share(tau), epsilon)``.

    The votes that arrive are ``Bin(v, p) + Bin(n - v, 1 - p)``: those who keep it and say so,
    and those who do not and say otherwise. Laws: rises with ``votes``; for a large epsilon it is
    0 or 1, as ``votes / voters >= tau`` says.
    """
    if not 0 <= votes <= voters:
        raise MPFLError(f"chance_kept: {votes} votes of {voters} nodes; give 0 to {voters}")
    truth = chance_true(epsilon)
    arrive = np.convolve(_binomial(votes, truth), _binomial(voters - votes, 1 - truth))
    estimate = np.clip(unbiased(np.arange(voters + 1), voters, epsilon), 0, voters)
    return float(arrive[estimate / voters >= tau].sum())


def _binomial(n: int, p: float) -> np.ndarray:
    """The chance of 0, 1, ..., n heads; by logarithms, as the binomials outgrow a float."""
    if p in (0.0, 1.0):  # in floats, at a large epsilon
        return np.eye(n + 1)[n if p else 0]
    steps = np.log(np.arange(n, 0, -1)) - np.log(np.arange(1, n + 1))
    ways = np.concatenate([[0.0], np.cumsum(steps)])
    k = np.arange(n + 1)
    return np.exp(ways + k * math.log(p) + (n - k) * math.log1p(-p))


def bits_told(alive: Mapping[str, int], keep: Mapping[str, int] | None = None) -> int:
    """In how many bits two ballots of a round can differ: what a round's epsilon is spent on.

    At most all filters alive. Where every honest mask holds the counts ``keep``, as a plan
    asks, at most ``2 min(k, a - k)`` of a layer's ``a``: one filter out for each one in.
    """
    if keep is None:
        return sum(alive.values())
    return sum(2 * min(keep[name], count - keep[name]) for name, count in alive.items())


def epsilon_total(epsilon: float, bits: Sequence[int], delta: float = 0.0) -> float:
    """What a node spends in rounds of so many ``bits`` each, at ``epsilon`` a bit.

    Basic composition adds up: ``m eps`` for ``m`` bits in all, for certain (``delta`` = 0).
    With a chance ``delta`` above 0 that the promise fails, advanced composition may be less,
    ``eps sqrt(2 m ln(1/delta)) + m eps (e^eps - 1)``, and the smaller of both is returned. Both
    hold where each round's answers depend on the rounds before. Dwork, Rothblum & Vadhan, FOCS
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


def masked_counts(
    ballot: Bool[np.ndarray, " filters"], node: int, shared: Mapping[int, int], round_: int
) -> Int64[np.ndarray, " filters"]:
    """A node's ballot under masks that cancel in the sum of all: nothing to see but the sum.

    ``shared[other]`` is the seed that this node and ``other`` hold and nobody else; of the two
    the one adds what it draws, the other takes it away, modulo ``2**b`` with
    ``b = ceil(log2(N + 1))``, enough for ``N`` votes. After Bonawitz et al., CCS 2017, and **a
    teaching version**: no keys are agreed on, the generator is no cipher, and where one node
    drops out its masks stay in the sum, which the real protocol mends by recovering seeds.
    """
    modulus = 1 << (len(shared) + 1).bit_length()
    total = ballot.astype(np.int64)
    for other, seed in shared.items():
        drawn = rng_for(seed, "pair", round_).integers(modulus, size=ballot.size)
        total += drawn if node < other else -drawn
    return total % modulus


def sum_of_masked(rows: Int64[np.ndarray, "nodes filters"]) -> Int64[np.ndarray, " filters"]:
    """The vote histogram, where every node's :func:`masked_counts` is there.

    Law: the sum of the ballots. With a row missing it is noise, and cannot tell so.
    """
    return rows.sum(axis=0) % (1 << len(rows).bit_length())


PRIVATE_VOTES = {randomised_response.__name__: randomised_response}
WRAPPERS = {debiased.__name__: debiased}
