"""Laws of every vote rule, each against a slow twin, by hand, and as the authors ran theirs."""

import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toys import Election, elections, written

from mpfl.types import MPFLError
from mpfl.vote import (
    RULES,
    Rule,
    Tally,
    most_votes,
    published_percentile,
    published_threshold,
    relaxed,
    share,
    tally,
    weighted,
)

few = settings(max_examples=20)


def ballot_of(rule: Rule, election: Election) -> Tally:
    """The masks added up, as the server does it for this rule."""
    weights = np.array(rule.weights) if isinstance(rule, weighted) else None
    nodes = len(election.masks)
    return Tally(
        votes=tally(election.masks) if weights is None else weights @ election.masks,
        voters=float(nodes if weights is None else weights.sum()),
        alive=election.alive,
        keep=election.keep,
        norms=election.norms,
    )


# --- slow twins: one filter at a time, from the nodes' masks ---------------------------------


def counts_of(election):
    return [sum(bool(row[f]) for row in election.masks) for f in range(len(election.alive))]


def slow_share(rule, election):
    return [count / len(election.masks) >= rule.tau for count in counts_of(election)]


def slow_weighted(rule, election):
    """In whole numbers: the weights of the tests are, and tau is a number of eighths."""
    total, result = sum(rule.weights), []
    for f in range(len(election.alive)):
        own = sum(w for w, row in zip(rule.weights, election.masks, strict=True) if row[f])
        result.append(own * 8 >= round(rule.tau * 8) * total)
    return result


def slow_budget(rule, election):
    """Sorted by votes, then by the filter of w0, then by place."""
    counts = counts_of(election)
    alive = [f for f in range(len(counts)) if election.alive[f]]
    ranked = sorted(alive, key=lambda f: (-counts[f], -election.norms[f], f))
    best = ranked[: election.keep if rule.k is None else rule.k]
    return [f in best for f in range(len(counts))]


def slow_relaxed(rule, election):
    """The thresholds from nobody to everybody; the first that prunes enough stands."""
    counts, filters = counts_of(election), len(election.alive)
    target = 1 - election.keep / filters if rule.target is None else rule.target
    for needed in range(len(election.masks) + 1):
        kept = [c >= needed and bool(a) for c, a in zip(counts, election.alive, strict=True)]
        if kept.count(False) >= target * filters - 1e-9:
            break
    return kept


def slow_published_threshold(rule, election):
    """The thresholds from everybody down to one; the first that prunes enough stands."""
    counts, filters = counts_of(election), len(election.alive)
    required = 1 - election.keep / filters if rule.required is None else rule.required
    for needed in range(len(election.masks), 0, -1):
        kept = [count >= needed for count in counts]
        if kept.count(False) >= required * filters - 1e-9:
            break
    return kept


def slow_published_percentile(rule, election):
    """The vote at place p among all votes of the layer in order, the next one in between."""
    flat = sorted(float(vote) for vote in election.masks.ravel())
    threshold = flat[math.ceil(rule.p * (len(flat) - 1))]
    return [count / len(election.masks) >= threshold for count in counts_of(election)]


# --- the table -------------------------------------------------------------------------------

eighths = st.integers(1, 8).map(lambda n: n / 8)
eighths_from_0 = st.integers(0, 8).map(lambda n: n / 8)


def whole(nodes):
    """The taus that ask for a whole number of nodes."""
    return st.integers(1, nodes).map(lambda n: n / nodes)


def weights_of(nodes):
    row = st.lists(st.integers(0, 3), min_size=nodes, max_size=nodes)
    return row.filter(any).map(lambda w: tuple(map(float, w)))


@dataclass(frozen=True)
class Row:
    """A rule, and the laws that it obeys.

    ``holds_all``: what every node keeps stays. ``drops_none``: what no node keeps goes.
    ``dial``: the field which, turned up, never keeps more (``-1``: never fewer).
    """

    draw: Callable[[int], st.SearchStrategy[Rule]]
    slow: Callable[[Any, Election], list[bool]]
    holds_all: bool
    drops_none: bool
    dial: tuple[str, st.SearchStrategy[Any], int] | None


TABLE: dict[str, Row] = {
    "share": Row(
        draw=lambda nodes: st.builds(
            share, eighths | st.integers(1, nodes).map(lambda n: n / nodes)
        ),
        slow=slow_share,
        holds_all=True,
        drops_none=True,
        dial=("tau", st.floats(0.01, 1), 1),
    ),
    "weighted": Row(
        draw=lambda nodes: st.builds(weighted, weights_of(nodes), eighths),
        slow=slow_weighted,
        holds_all=True,
        drops_none=True,
        dial=("tau", st.floats(0.01, 1), 1),
    ),
    # The count is all that matters to it: it drops what all keep, and keeps what nobody does.
    "budget": Row(
        draw=lambda nodes: st.builds(most_votes, st.none() | st.integers(1, 8)),
        slow=slow_budget,
        holds_all=False,
        drops_none=False,
        dial=("k", st.integers(1, 8), -1),
    ),
    # Where the target is met already, nobody needs to vote for a filter.
    "relaxed": Row(
        draw=lambda nodes: st.builds(relaxed, st.none() | eighths_from_0),
        slow=slow_relaxed,
        holds_all=True,
        drops_none=False,
        dial=("target", eighths_from_0, 1),
    ),
    # Turned up, it may keep more: see test_asking_the_published_threshold_for_more.
    "published_threshold": Row(
        draw=lambda nodes: st.builds(published_threshold, st.none() | eighths_from_0),
        slow=slow_published_threshold,
        holds_all=True,
        drops_none=True,
        dial=None,
    ),
    # A low percentile is 0, and every share is at least 0.
    "published_percentile": Row(
        draw=lambda nodes: st.builds(published_percentile, eighths_from_0),
        slow=slow_published_percentile,
        holds_all=True,
        drops_none=False,
        dial=("p", st.floats(0, 1), 1),
    ),
}
every_rule = pytest.mark.parametrize("name", TABLE)


def test_the_table_covers_every_rule():
    public = {
        name
        for name, value in vars(vote).items()
        if isinstance(value, type) and value.__module__ == vote.__name__
    }
    assert set(TABLE) == set(RULES) == public - {"Ballot"}


@every_rule
@few
@given(data=st.data(), election=elections())
def test_laws(name, data, election):
    row = TABLE[name]
    rule = data.draw(row.draw(len(election.masks)))
    ballot = ballot_of(rule, election)
    before = ballot.votes.copy(), ballot.alive.copy(), ballot.norms.copy()
    kept = rule(ballot)
    assert kept.shape == election.alive.shape and kept.dtype == bool
    assert kept.tolist() == row.slow(rule, election)
    assert (ballot.votes == before[0]).all() and (ballot.alive == before[1]).all()
    assert (ballot.norms == before[2]).all()
    assert eval(repr(rule), dict(RULES)) == rule

    inside = kept & election.alive  # as the server takes it
    if row.holds_all:
        assert not (election.masks.all(axis=0) & election.alive & ~inside).any()
    if row.drops_none:
        assert not (inside & ~election.masks.any(axis=0)).any()
        assert not (kept & ~election.alive).any()


@every_rule
@few
@given(data=st.data(), election=elections())
def test_the_order_of_the_nodes_changes_nothing(name, data, election):
    rule = data.draw(TABLE[name].draw(len(election.masks)))
    order = data.draw(st.permutations(range(len(election.masks))))
    turned = replace(election, masks=election.masks[order])
    rule_turned = rule
    if isinstance(rule, weighted):
        rule_turned = replace(rule, weights=tuple(rule.weights[i] for i in order))
    kept = rule(ballot_of(rule, election))
    assert np.array_equal(kept, rule_turned(ballot_of(rule_turned, turned)))


@every_rule
@few
@given(data=st.data(), election=elections(distinct_norms=True))
def test_the_place_of_a_filter_changes_nothing(name, data, election):
    rule = data.draw(TABLE[name].draw(len(election.masks)))
    order = data.draw(st.permutations(range(len(election.alive))))
    turned = replace(
        election,
        masks=election.masks[:, order],
        alive=election.alive[order],
        norms=election.norms[order],
    )
    kept = rule(ballot_of(rule, election))
    assert np.array_equal(kept[order], rule(ballot_of(rule, turned)))


@pytest.mark.parametrize("name", [name for name, row in TABLE.items() if row.dial is not None])
@few
@given(data=st.data(), election=elections())
def test_monotone_in_the_dial(name, data, election):
    field, values, sign = TABLE[name].dial
    rule = data.draw(TABLE[name].draw(len(election.masks)))
    low, high = sorted([data.draw(values), data.draw(values)])
    low, high = (replace(rule, **{field: value}) for value in (low, high))
    looser, stricter = (low, high) if sign > 0 else (high, low)
    ballot = ballot_of(rule, election)
    assert not (stricter(ballot) & ~looser(ballot)).any()


# --- by hand ---------------------------------------------------------------------------------

# Four nodes, six filters:        votes 4, 3, 3, 2, 1, 0
HAND = Election(
    masks=np.array(
        [
            [1, 1, 1, 1, 1, 0],
            [1, 1, 1, 1, 0, 0],
            [1, 1, 1, 0, 0, 0],
            [1, 0, 0, 0, 0, 0],
        ],
        dtype=bool,
    ),
    alive=np.ones(6, dtype=bool),
    keep=4,
    norms=np.array([1.0, 1, 2, 1, 1, 1]),
)


@pytest.mark.parametrize(
    ("rule", "kept"),
    [
        (share(tau=1), "#....."),
        (share(tau=0.75), "###..."),
        (share(tau=0.5), "####.."),
        (share(tau=0.51), "###..."),
        (share(tau=0.01), "#####."),
        (share(), "####.."),
        # The first node counts as three: votes 6, 5, 5, 4, 3, 0 of 6.
        (weighted((3.0, 1, 1, 1), tau=1), "#....."),
        (weighted((3.0, 1, 1, 1), tau=0.8), "###..."),
        (weighted((3.0, 1, 1, 1), tau=0.5), "#####."),
        (weighted((0.0, 0, 0, 1), tau=0.5), "#....."),
        # The second and the third tie; the third is larger in w0.
        (most_votes(k=1), "#....."),
        (most_votes(k=2), "#.#..."),
        (most_votes(k=3), "###..."),
        (most_votes(k=6), "######"),
        (most_votes(k=9), "######"),
        (most_votes(), "####.."),
        # Two of six are to go, at least: 0.5 keeps four and prunes two.
        (relaxed(), "####.."),
        (relaxed(target=0), "######"),
        (relaxed(target=0.1), "#####."),
        (relaxed(target=0.4), "###..."),
        (relaxed(target=0.5), "###..."),
        (relaxed(target=0.51), "#....."),
        (relaxed(target=0.9), "#....."),  # out of reach: unanimity stands
        # Unanimity prunes 5 of 6.
        (published_threshold(), "#....."),
        (published_threshold(required=0.1), "#....."),
        (published_threshold(required=0.83), "#....."),
        (published_threshold(required=5 / 6), "#....."),
        (published_threshold(required=0.84), "#####."),
        # 13 ones and 11 zeros: the votes at places 10 and 11 of 0..23 are 0 and 1.
        (published_percentile(p=10 / 23), "######"),
        (published_percentile(p=10.5 / 23), "#....."),
        (published_percentile(p=0.5), "#....."),
        (published_percentile(p=0), "######"),
    ],
    ids=str,
)
def test_by_hand(rule, kept):
    assert written({"": rule(ballot_of(rule, HAND))}) == [kept]


def test_tally_by_hand():
    assert tally(HAND.masks).tolist() == [4, 3, 3, 2, 1, 0]


@given(elections())
def test_tally_counts(election):
    assert tally(election.masks).tolist() == counts_of(election)


def test_ties_go_to_the_larger_filter_of_w0_and_then_to_the_first():
    tied = replace(HAND, masks=np.ones((2, 6), bool), norms=np.array([1.0, 3, 2, 3, 1, 0]))
    ranked = [1, 3, 2, 0, 4, 5]
    for k in range(1, 7):
        kept = most_votes(k=k)(ballot_of(most_votes(), tied))
        assert np.flatnonzero(kept).tolist() == sorted(ranked[:k])


@few
@given(elections(), st.integers(1, 9))
def test_a_budget_is_met_exactly(election, k):
    alive = int(election.alive.sum())
    ballot = ballot_of(most_votes(), election)
    assert most_votes(k=k)(ballot).sum() == min(k, alive)
    assert most_votes()(ballot).sum() == min(election.keep, alive)


@few
@given(elections(), eighths, st.integers(1, 5))
def test_equal_weights_give_share(election, tau, weight):
    nodes = len(election.masks)
    for each in (float(weight), weight / 10, 1 / 3):
        rule = weighted((each,) * nodes, tau)
        assert np.array_equal(
            rule(ballot_of(rule, election)), share(tau)(ballot_of(share(), election))
        )


@few
@given(elections(), eighths_from_0)
def test_relaxed_prunes_enough_and_keeps_what_it_can(election, target):
    ballot = ballot_of(relaxed(), election)
    kept, filters = relaxed(target)(ballot), election.alive.size
    unanimous = share(1.0)(ballot)
    if (~unanimous).sum() >= target * filters:
        assert (~kept).sum() >= target * filters
    else:
        assert np.array_equal(kept, unanimous)
    # Any looser threshold that keeps more would prune too little.
    levels = [election.alive, *(ballot.votes >= n for n in range(1, len(election.masks) + 1))]
    looser = [level for level in levels if level.sum() > kept.sum()]
    assert all((~level).sum() < target * filters for level in looser)


def test_a_tenth_of_ten_filters_is_one():
    # 1 - 0.9 is a little less than 0.1 in floating point, and yet enough.
    masks = np.ones((2, 10), bool)
    masks[0, 7] = False
    ballot = ballot_of(share(), Election(masks, np.ones(10, bool), 9, np.zeros(10)))
    for rule in (published_threshold(0.1), published_threshold(), relaxed(0.1), relaxed()):
        assert np.flatnonzero(~rule(ballot)).tolist() == [7]


def test_asking_the_published_threshold_for_more_may_prune_less():
    ballot = ballot_of(share(), HAND)
    pruned = [(~published_threshold(r)(ballot)).sum() for r in (0.1, 0.5, 0.8, 0.9)]
    assert pruned == [5, 5, 5, 1]


@pytest.mark.parametrize(
    ("rule", "masks", "kept"),
    [
        # Drops what all keep, and keeps what nobody does.
        (most_votes(k=1), [[1, 1]], "#."),
        (most_votes(k=2), [[1, 0]], "##"),
        (relaxed(target=0), [[1, 0]], "##"),
        (published_percentile(p=0), [[1, 0]], "##"),
    ],
    ids=str,
)
def test_rules_that_leave_the_bounds_of_what_the_nodes_said(rule, masks, kept):
    row = TABLE[type(rule).__name__]
    assert not (row.holds_all and row.drops_none)
    election = Election(np.array(masks, bool), np.ones(2, bool), 1, np.zeros(2))
    assert written({"": rule(ballot_of(rule, election))}) == [kept]


# --- which levels a rule can reach -----------------------------------------------------------

NODES, FILTERS = 3, 3
# A rule sees counts alone, so all counts are all elections.
EVERY_COUNT = [np.array(counts) for counts in product(range(NODES + 1), repeat=FILTERS)]
UNANIMOUS, ANYONE = NODES, 1


def counted(counts, keep=1):
    return Tally(counts, float(NODES), np.ones(FILTERS, bool), keep, np.zeros(FILTERS))


def levels_reached(rules):
    """Which levels n ("kept by n nodes at least") the rules ever give, told apart from others.

    Returns the levels, and whether some result was no level at all.
    """
    reached, strange = set(), False
    for counts in EVERY_COUNT:
        levels = {n: tuple(counts >= n) for n in range(NODES + 1)}
        for rule in rules:
            kept = tuple(rule(counted(counts)))
            fits = [n for n, level in levels.items() if level == kept]
            strange |= not fits
            reached |= set(fits) if len(fits) == 1 else set()
    return reached, strange


GRID = [n / 12 for n in range(13)]


@pytest.mark.parametrize(
    ("rules", "reached"),
    [
        # Every level but "keep all, voted for or not".
        ([share(t) for t in GRID[1:]], {1, 2, 3}),
        ([weighted((1.0,) * NODES, t) for t in GRID[1:]], {1, 2, 3}),
        # Every level.
        ([relaxed(t) for t in GRID], {0, 1, 2, 3}),
        # All or nothing: unanimity or whatever anyone keeps, never anything in between.
        ([published_threshold(t) for t in GRID], {ANYONE, UNANIMOUS}),
        # Everything, voted for or not, or unanimity.
        ([published_percentile(t) for t in GRID], {0, UNANIMOUS}),
    ],
    ids=lambda value: type(value[0]).__name__ if isinstance(value, list) else None,
)
def test_levels_that_a_threshold_reaches(rules, reached):
    assert levels_reached(rules) == (reached, False)


def test_share_gives_each_level_with_its_own_tau():
    for counts, n in product(EVERY_COUNT, range(1, NODES + 1)):
        assert np.array_equal(share(n / NODES)(counted(counts)), counts >= n)


@pytest.mark.parametrize("rule", [published_threshold, published_percentile])
def test_the_published_rules_give_one_of_two_masks(rule):
    other = ANYONE if rule is published_threshold else 0
    for counts, value in product(EVERY_COUNT, GRID):
        kept = rule(value)(counted(counts)).tolist()
        assert kept in ((counts >= UNANIMOUS).tolist(), (counts >= other).tolist())


def test_budget_gives_any_number_and_so_masks_that_are_no_level():
    assert levels_reached([most_votes(k) for k in range(1, FILTERS + 1)]) == ({0, 1, 2, 3}, True)
    for counts, k in product(EVERY_COUNT, range(1, FILTERS + 1)):
        assert (
            most_votes(k)(counted(counts)).sum() == most_votes()(counted(counts, keep=k)).sum() == k
        )


# --- the authors' released code, run unchanged ------------------------------------------------

REFERENCE = json.loads((Path(__file__).parent / "vectors/consensus_reference.json").read_text())
PUBLISHED = {
    "dynamic_threshold": lambda case: published_threshold(case["required_prune"]),
    "histogram_percentile": lambda case: published_percentile(case["percentile"]),
}


def test_the_reference_is_whole():
    assert len(REFERENCE["cases"]) == 120
    assert {case["rule"] for case in REFERENCE["cases"]} == set(PUBLISHED)


@pytest.mark.parametrize("case", REFERENCE["cases"], ids=map(str, range(120)))
def test_published_rules_as_the_authors_ran_them(case):
    rule = PUBLISHED[case["rule"]](case)
    kept = {}
    for layer, expected in case["mask"].items():
        masks = np.array([votes[layer] for votes in case["votes"]], dtype=bool)
        assert len(masks) == case["nodes"]
        filters = masks.shape[1]
        election = Election(masks, np.ones(filters, bool), filters, np.zeros(filters))
        kept[layer] = rule(ballot_of(rule, election))
        assert kept[layer].astype(int).tolist() == expected, layer
    every = np.concatenate(list(kept.values()))
    assert 100 * (1 - every.mean()) == pytest.approx(case["pruned_percent"], abs=1e-9)


# --- what is refused -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: share(0), "vote rule share: tau is 0, but must be above 0 and at most 1"),
        (lambda: share(1.01), "vote rule share: tau is 1.01"),
        (lambda: share(math.nan), "vote rule share: tau is nan"),
        (lambda: weighted((1.0,), -1), "vote rule weighted: tau is -1"),
        (lambda: weighted(()), "weights () must be at least 0 and not all 0"),
        (lambda: weighted((1.0, -1.0, 1.0)), "must be at least 0 and not all 0"),
        (lambda: weighted((0.0, 0.0)), "must be at least 0 and not all 0"),
        (lambda: most_votes(0), "vote rule budget: k is 0, but a layer needs at least 1 filter"),
        (lambda: most_votes(-1), "k is -1"),
        (lambda: relaxed(30), "vote rule relaxed: target is 30, but must be within 0-1"),
        (lambda: published_threshold(-0.1), "published_threshold: required is -0.1"),
        (lambda: published_percentile(50), "published_percentile: p is 50"),
        (lambda: counted(np.array([0, 4, 1])), "between 0 and the 3 voters, but go from 0 to 4"),
        (lambda: counted(np.array([0, -1, 1])), "but go from -1 to 1"),
        (
            lambda: replace(counted(np.zeros(FILTERS)), voters=0),
            "no node voted; wait for at least one reply",
        ),
    ],
)
def test_what_is_refused(call, message):
    with pytest.raises(MPFLError, match=re.escape(message)):
        call()


def test_votes_of_a_small_type_are_ranked_like_any_other():
    # An unsigned zero must not turn into the largest number on the way.
    votes = np.array([0, 3, 1], dtype=np.uint8)
    assert written({"": most_votes(2)(counted(votes))}) == [".##"]
