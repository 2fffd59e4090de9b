"""Laws of every vote rule, each against a slow twin, by hand, and of several layers at once."""

import math
import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rule_table import TABLE, counts_of, eighths, eighths_from_0, tally_of
from toys import Election, elections, kept_by, written

from mpfl import vote
from mpfl.masks import Keep
from mpfl.types import MPFLError
from mpfl.vote import (
    RULES,
    LayerRule,
    Tally,
    most_votes,
    published_percentile,
    published_threshold,
    relaxed,
    share,
    weighted,
)

few = settings(max_examples=20)
every_rule = pytest.mark.parametrize("name", TABLE)


def test_the_table_covers_every_rule():
    public = {
        name
        for name, value in vars(vote).items()
        if isinstance(value, type) and value.__module__ == vote.__name__
    }
    assert set(TABLE) == set(RULES) == public - {"Tally", "Rule", "LayerRule"}


@every_rule
@few
@given(data=st.data(), election=elections())
def test_laws(name, data, election):
    row = TABLE[name]
    rule = data.draw(row.draw(len(election.masks)))
    tally = tally_of(rule, election)
    before = tally.votes.copy(), tally.alive.copy(), tally.norms.copy()
    kept = kept_by(rule, tally)
    assert kept.shape == election.alive.shape and kept.dtype == bool
    assert kept.tolist() == row.slow(rule, election)
    assert (tally.votes == before[0]).all() and (tally.alive == before[1]).all()
    assert (tally.norms == before[2]).all()
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
    kept = kept_by(rule, tally_of(rule, election))
    assert np.array_equal(kept, kept_by(rule_turned, tally_of(rule_turned, turned)))


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
    kept = kept_by(rule, tally_of(rule, election))
    assert np.array_equal(kept[order], kept_by(rule, tally_of(rule, turned)))


@pytest.mark.parametrize("name", [name for name, row in TABLE.items() if row.dial is not None])
@few
@given(data=st.data(), election=elections())
def test_monotone_in_the_dial(name, data, election):
    field, values, sign = TABLE[name].dial
    rule = data.draw(TABLE[name].draw(len(election.masks)))
    low, high = sorted([data.draw(values), data.draw(values)])
    low, high = (replace(rule, **{field: value}) for value in (low, high))
    looser, stricter = (low, high) if sign > 0 else (high, low)
    tally = tally_of(rule, election)
    assert not (kept_by(stricter, tally) & ~kept_by(looser, tally)).any()


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
        (published_percentile(p=10.4 / 23), "####.."),
        (published_percentile(p=10.6 / 23), "###..."),
        (published_percentile(p=11 / 23), "#....."),
        (published_percentile(p=0.5), "#....."),
        (published_percentile(p=0), "######"),
    ],
    ids=str,
)
def test_by_hand(rule, kept):
    assert written({"": kept_by(rule, tally_of(rule, HAND))}) == [kept]


def test_ties_go_to_the_larger_filter_of_w0_and_then_to_the_first():
    tied = replace(HAND, masks=np.ones((2, 6), bool), norms=np.array([1.0, 3, 2, 3, 1, 0]))
    ranked = [1, 3, 2, 0, 4, 5]
    for k in range(1, 7):
        kept = kept_by(most_votes(k=k), tally_of(most_votes(), tied))
        assert np.flatnonzero(kept).tolist() == sorted(ranked[:k])


@few
@given(elections(), st.integers(1, 9))
def test_most_votes_meet_their_number_exactly(election, k):
    alive = int(election.alive.sum())
    tally = tally_of(most_votes(), election)
    assert kept_by(most_votes(k=k), tally).sum() == min(k, alive)
    assert kept_by(most_votes(), tally).sum() == min(election.keep, alive)


@few
@given(elections(), eighths, st.integers(1, 5))
def test_equal_weights_give_share(election, tau, weight):
    nodes = len(election.masks)
    for each in (float(weight), weight / 10, 1 / 3):
        rule = weighted((each,) * nodes, tau)
        assert np.array_equal(
            rule(tally_of(rule, election)), share(tau)(tally_of(share(), election))
        )


@few
@given(elections(), eighths_from_0)
def test_relaxed_prunes_enough_and_keeps_what_it_can(election, target):
    tally = tally_of(relaxed(), election)
    kept, filters = relaxed(target)(tally), election.alive.size
    unanimous = share(1.0)(tally)
    if (~unanimous).sum() >= target * filters:
        assert (~kept).sum() >= target * filters
    else:
        assert np.array_equal(kept, unanimous)
    # Any looser threshold that keeps more would prune too little.
    levels = [election.alive, *(tally.votes >= n for n in range(1, len(election.masks) + 1))]
    looser = [level for level in levels if level.sum() > kept.sum()]
    assert all((~level).sum() < target * filters for level in looser)


def test_a_tenth_of_ten_filters_is_one():
    # 1 - 0.9 is a little less than 0.1 in floating point, and yet enough.
    masks = np.ones((2, 10), bool)
    masks[0, 7] = False
    tally = tally_of(share(), Election(masks, np.ones(10, bool), 9, np.zeros(10)))
    for rule in (published_threshold(0.1), published_threshold(), relaxed(0.1), relaxed()):
        assert np.flatnonzero(~rule(tally)).tolist() == [7]


def test_asking_the_published_threshold_for_more_may_prune_less():
    tally = tally_of(share(), HAND)
    pruned = [(~published_threshold(r)(tally)).sum() for r in (0.1, 0.5, 0.8, 0.9)]
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
    assert written({"": kept_by(rule, tally_of(rule, election))}) == [kept]


# --- several layers --------------------------------------------------------------------------


def test_most_votes_alone_are_exact_and_only_where_the_quota_sets_the_number():
    examples = [share(), weighted((1.0, 2.0)), most_votes(), most_votes(3), relaxed()]
    examples += [published_threshold(), published_percentile()]
    assert {type(rule).__name__ for rule in examples} == set(RULES)
    assert [rule for rule in examples if rule.exact] == [most_votes()]


def test_what_a_rule_says_of_itself():
    assert weighted((1.0, 2.0)).weights == (1.0, 2.0) and share().weights is None
    takes = {name for name, rule in RULES.items() if rule.takes_estimates}
    assert takes == {"share", "relaxed", "published_threshold", "published_percentile"}
    assert all(rule.expects is None for rule in RULES.values())


@st.composite
def networks(draw):
    """Up to three layers that the same nodes voted on."""
    layers = draw(st.lists(elections(), min_size=1, max_size=3))
    nodes = min(len(layer.masks) for layer in layers)
    return {f"layer{i}": replace(e, masks=e.masks[:nodes]) for i, e in enumerate(layers)}


@every_rule
@few
@given(data=st.data(), layers=networks())
def test_of_several_layers_each_is_decided_as_if_it_were_alone(name, data, layers):
    nodes = len(layers["layer0"].masks)
    rule = data.draw(TABLE[name].draw(nodes))
    tallies = {layer: tally_of(rule, election) for layer, election in layers.items()}
    keep = Keep.by_layer({layer: tally.keep for layer, tally in tallies.items()})
    decided = rule.decide(tallies, keep)
    assert list(decided) == list(layers)
    for layer, kept in decided.items():
        assert kept.tolist() == TABLE[name].slow(rule, layers[layer])
        if isinstance(rule, LayerRule):
            assert np.array_equal(kept, rule(tallies[layer]))


@few
@given(networks(), st.integers(1, 2), st.integers(0, 12), st.booleans())
def test_most_votes_over_the_network_equal_the_slow_twin(layers, floor, more, as_k):
    """Every layer's best first, and then the best of all others, wherever they are."""
    tallies = {name: tally_of(most_votes(), election) for name, election in layers.items()}
    places = [(name, f) for name, e in layers.items() for f in np.flatnonzero(e.alive)]

    def place(where):
        name, f = where
        order = list(layers).index(name), f
        return -counts_of(layers[name])[f], -layers[name].norms[f], order

    ranked = sorted(places, key=place)
    chosen = {w for name in layers for w in [r for r in ranked if r[0] == name][:floor]}
    if len(layers) == 1:  # a layer by itself has no competitors, and needs no floor
        chosen = set()
    count = max(1, len(chosen) + more)
    chosen |= set([where for where in ranked if where not in chosen][: count - len(chosen)])
    rule = most_votes(count) if as_k else most_votes()
    decided = rule.decide(tallies, Keep({tuple(layers): 1 if as_k else count}, floor))
    assert {name: bits.tolist() for name, bits in decided.items()} == {
        name: [(name, f) in chosen for f in range(len(e.alive))] for name, e in layers.items()
    }


# --- what is refused -------------------------------------------------------------------------


def counted(votes) -> Tally:
    """Three voters, three filters."""
    return Tally(np.array(votes), 3.0, np.ones(3, bool), 1, np.zeros(3))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: share(0), "vote rule share: tau is 0, but must be above 0 and at most 1"),
        (lambda: share(1.01), "vote rule share: tau is 1.01"),
        (lambda: share(math.nan), "vote rule share: tau is nan"),
        (lambda: weighted((1.0,), -1), "vote rule weighted: tau is -1"),
        (lambda: weighted(()), "weights () must be finite, at least 0, not all 0"),
        (lambda: weighted((1.0, -1.0, 1.0)), "must be finite, at least 0, not all 0"),
        (lambda: weighted((0.0, 0.0)), "must be finite, at least 0, not all 0"),
        (lambda: weighted((1e308, 1e308)), "and of a finite sum"),
        (
            lambda: most_votes(0),
            "vote rule most_votes: k is 0, but a layer needs at least 1 filter",
        ),
        (lambda: most_votes(-1), "k is -1"),
        (lambda: relaxed(30), "vote rule relaxed: target is 30, but must be within 0-1"),
        (lambda: published_threshold(-0.1), "published_threshold: required is -0.1"),
        (lambda: published_percentile(50), "published_percentile: p is 50"),
        (lambda: counted([0, 4, 1]), "between 0 and the 3 voters, but go from 0 to 4"),
        (lambda: counted([0, -1, 1]), "but go from -1 to 1"),
        (
            lambda: replace(counted([0, 0, 0]), voters=0),
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
    assert written({"": kept_by(most_votes(2), replace(counted([0, 0, 0]), votes=votes))}) == [
        ".##"
    ]
