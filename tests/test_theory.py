"""The chance that a filter is pruned: against every outcome, against draws, and its laws."""

from itertools import product
from math import prod

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from mpfl.analysis.theory import chance_pruned, chance_pruned_of, chance_right, votes_needed
from mpfl.seeds import rng_for
from mpfl.types import MPFLError
from mpfl.vote import Tally, share

chances = st.sampled_from([0.0, 0.2, 0.5, 0.9, 1.0])
taus = st.floats(0.01, 1)


@st.composite
def electorates(draw: st.DrawFn) -> tuple[int, int]:
    """Up to seven nodes, and how many of them are faulty."""
    nodes = draw(st.integers(1, 7))
    return nodes, draw(st.integers(0, nodes))


def one(p: float, q: float, nodes: int, faulty: int, tau: float) -> float:
    return float(chance_pruned(np.array([p]), q, nodes, faulty, tau)[0])


def kept_by(tau: float, votes: np.ndarray, nodes: int) -> np.ndarray:
    """What the rule itself says of counts of votes."""
    size = votes.size
    return share(tau)(Tally(votes, nodes, np.ones(size, bool), size, np.zeros(size)))


def test_by_hand():
    # Three nodes, two of them honest with p = 1/2, one against. A majority needs two votes.
    assert one(0.5, 0, 3, 1, 0.5) == 3 / 4 and one(0.5, 0, 3, 0, 0.5) == 1 / 2
    assert one(0.5, 0, 3, 1, 1.0) == 1 and one(0.5, 0, 3, 0, 1.0) == 7 / 8
    # Of 2 honest votes among 3 nodes one is the faulty node's with chance 2/3.
    assert chance_pruned_of(2, 0, 3, 1, 0.5) == pytest.approx(2 / 3)


@given(tau=taus, nodes=st.integers(1, 40))
def test_the_votes_needed_are_those_of_the_rule(tau, nodes):
    every = np.arange(nodes + 1)
    assert (kept_by(tau, every, nodes) == (every >= votes_needed(tau, nodes))).all()


@given(nodes=st.integers(1, 60), votes=st.integers(1, 60))
def test_a_tau_that_is_a_share_needs_that_share(nodes, votes):
    assert votes_needed(min(votes, nodes) / nodes, nodes) == min(votes, nodes)


@given(size=electorates(), p=chances, q=chances, tau=taus)
def test_it_is_the_sum_over_every_way_to_vote(size, p, q, tau):
    nodes, faulty = size
    each = [q] * faulty + [p] * (nodes - faulty)
    slow = sum(
        prod(c if vote else 1 - c for c, vote in zip(each, votes, strict=True))
        for votes in product([0, 1], repeat=nodes)
        if sum(votes) / nodes < tau
    )
    assert one(p, q, nodes, faulty, tau) == pytest.approx(slow, abs=1e-12)


@given(size=electorates(), q=chances, tau=taus, data=st.data())
def test_of_known_votes_it_is_the_mean_over_every_place_of_the_faulty(size, q, tau, data):
    nodes, faulty = size
    votes = data.draw(st.integers(0, nodes))
    rest = [votes - held for held in range(faulty + 1)]
    drawn = stats.hypergeom.pmf(range(faulty + 1), nodes, votes, faulty)
    slow = sum(
        chance * stats.binom.cdf(votes_needed(tau, nodes) - 1 - left, faulty, q)
        for chance, left in zip(drawn, rest, strict=True)
        if chance > 0
    )
    assert chance_pruned_of(votes, q, nodes, faulty, tau) == pytest.approx(slow, abs=1e-9)


@given(size=electorates(), p=chances, q=chances, tau=taus)
def test_known_votes_average_to_unknown_ones(size, p, q, tau):
    nodes, faulty = size
    mean = sum(
        stats.binom.pmf(votes, nodes, p) * chance_pruned_of(votes, q, nodes, faulty, tau)
        for votes in range(nodes + 1)
    )
    assert mean == pytest.approx(one(p, q, nodes, faulty, tau), abs=1e-9)


def test_it_holds_for_more_nodes_than_a_count_of_ways_fits_a_machine_number():
    p = np.array([0.2, 0.49, 0.9])
    expected = stats.binom.cdf(99, 200, p)
    assert chance_pruned(p, 0.5, 200, 0, 0.5) == pytest.approx(expected, abs=1e-12)
    both = sum(stats.binom.pmf(k, 50, 0.5) * stats.binom.cdf(99 - k, 150, p) for k in range(51))
    assert chance_pruned(p, 0.5, 200, 50, 0.5) == pytest.approx(both, abs=1e-12)


@pytest.mark.parametrize("tau", [0.5, 0.7, 1.0])
@pytest.mark.parametrize("q", [0.0, 0.2, 1.0])
@pytest.mark.parametrize("faulty", [0, 3])
def test_it_is_what_the_rule_does_to_drawn_votes(tau, q, faulty):
    rng, nodes, draws, p = rng_for(0, "theory"), 10, 40_000, 0.85
    votes = rng.binomial(nodes - faulty, p, draws) + rng.binomial(faulty, q, draws)
    expected = one(p, q, nodes, faulty, tau)
    within = 4.5 * np.sqrt(expected * (1 - expected) / draws) + 1e-9
    assert abs((~kept_by(tau, votes, nodes)).mean() - expected) <= within


@given(size=electorates(), tau=st.tuples(taus, taus), q=chances)
def test_laws(size, tau, q):
    nodes, faulty = size
    p = np.linspace(0, 1, 11)
    low, high = (chance_pruned(p, q, nodes, faulty, each) for each in sorted(tau))
    assert ((low >= 0) & (low <= 1 + 1e-12)).all()
    assert (low <= high + 1e-12).all()  # a larger tau never prunes less
    assert (np.diff(low) <= 1e-12).all()  # nor does a lower p
    assert (low <= chance_pruned(p, q / 2, nodes, faulty, min(tau)) + 1e-12).all()  # nor a lower q
    if faulty < nodes:  # nor, where q <= p, another faulty node
        more = chance_pruned(p, q, nodes, faulty + 1, min(tau))
        assert (low <= more + 1e-12)[p >= q].all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: one(0.5, 1.5, 3, 1, 0.5), "q is 1.5"),
        (lambda: one(1.5, 0.5, 3, 1, 0.5), "p is a probability"),
        (lambda: one(0.5, 0.5, 3, 4, 0.5), "4 faulty nodes, but there are 3"),
        (lambda: one(0.5, 0.5, 3, 1, 0.0), "tau 0 of 3 nodes"),
        (lambda: chance_pruned_of(4, 0.5, 3, 1, 0.5), "4 votes of 3 nodes"),
    ],
)
def test_nonsense_is_refused(call, message):
    with pytest.raises(MPFLError, match=message):
        call()


@given(st.integers(1, 8), st.data())
def test_the_chance_that_a_majority_is_right_is_that_of_all_answers(nodes, data):
    """Every way in which the nodes can answer, one after the other."""
    inverted = data.draw(st.integers(0, nodes))
    p = data.draw(st.floats(0, 1))
    right = [p] * (nodes - inverted) + [1 - p] * inverted
    total = 0.0
    for said in product((0, 1), repeat=nodes):
        chance = prod(q if bit else 1 - q for q, bit in zip(right, said, strict=True))
        total += chance * (2 * sum(said) > nodes or (2 * sum(said) == nodes) / 2)
    assert chance_right(np.array([p]), nodes, inverted)[0] == pytest.approx(total)


def test_half_of_the_nodes_inverted_decide_nothing_and_more_decide_against():
    p = np.array([0.6, 0.9, 1.0])
    np.testing.assert_allclose(chance_right(p, 10, 5), 0.5)
    assert (chance_right(p, 10, 6) < 0.5).all()
    assert (np.diff([chance_right(p[:2], n, 0) for n in (1, 3, 5, 7)], axis=0) > 0).all()


@pytest.mark.parametrize(("p", "inverted"), [(1.1, 0), (-0.1, 0), (0.5, 4), (0.5, -1)])
def test_no_chance_of_what_cannot_be(p, inverted):
    with pytest.raises(MPFLError, match="theory"):
        chance_right(np.array([p]), 3, inverted)
