"""Which thresholds a rule can reach, and the released rules as their authors ran them."""

import json
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from toys import kept_by

from mpfl.vote import (
    Tally,
    most_votes,
    published_percentile,
    published_threshold,
    relaxed,
    share,
    weighted,
)

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
            kept = tuple(kept_by(rule, counted(counts)))
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
        # Everything or unanimity; where the percentile falls between a 0 and a 1, any level.
        ([published_percentile(t) for t in GRID], {0, 1, 2, UNANIMOUS}),
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
        if rule is published_percentile and between_0_and_1(counts, value):
            continue
        kept = rule(value)(counted(counts)).tolist()
        assert kept in ((counts >= UNANIMOUS).tolist(), (counts >= other).tolist())


def between_0_and_1(counts, p):
    """Whether the percentile falls strictly between the last 0 and the first 1 of the votes."""
    ones = np.repeat([0.0, 1.0], [NODES * FILTERS - counts.sum(), counts.sum()])
    return 0 < np.percentile(ones, 100 * p) < 1


@given(
    filters=st.integers(1, 12),
    nodes=st.integers(1, 7),
    filter_size=st.integers(1, 30),
    p=st.floats(0, 1) | st.sampled_from(GRID),
    aim=st.floats(0, 1),
    data=st.data(),
)
def test_the_percentile_is_numpys_of_every_repeated_vote(filters, nodes, filter_size, p, aim, data):
    row = st.lists(st.booleans(), min_size=filters, max_size=filters)
    masks = np.array(data.draw(st.lists(row, min_size=nodes, max_size=nodes)))
    every, zeros = masks.size * filter_size, int((~masks).sum()) * filter_size
    if 0 < zeros < every and data.draw(st.booleans()):  # aim between the last 0 and the first 1
        p = min(1.0, (zeros - 1 + aim) / (every - 1))
    counts, alive = masks.sum(axis=0), np.ones(filters, bool)
    tally = Tally(counts, float(nodes), alive, filters, np.zeros(filters), filter_size)
    rule = published_percentile(p)
    expected = np.percentile(np.repeat(masks.astype(float).ravel(), filter_size), 100 * p)
    assert rule._threshold(tally) == expected
    assert np.array_equal(rule(tally), counts / nodes >= expected)


def test_most_votes_give_any_number_and_so_masks_that_are_no_level():
    assert levels_reached([most_votes(k) for k in range(1, FILTERS + 1)]) == ({0, 1, 2, 3}, True)
    for counts, k in product(EVERY_COUNT, range(1, FILTERS + 1)):
        assert kept_by(most_votes(k), counted(counts)).sum() == k
        assert kept_by(most_votes(), counted(counts, keep=k)).sum() == k


# --- the authors' released code, run unchanged ------------------------------------------------

VECTORS = Path(__file__).parent / "vectors"
REFERENCE = json.loads((VECTORS / "consensus_reference.json").read_text())
EDGES = json.loads((VECTORS / "percentile_edges.json").read_text())["cases"]
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
        votes, alive, norms = masks.sum(axis=0), np.ones(filters, bool), np.zeros(filters)
        # The cases do not say how many weights a filter had; any number above 2 does for all.
        tally = Tally(votes, float(len(masks)), alive, filters, norms, filter_size=9)
        kept[layer] = kept_by(rule, tally)
        assert kept[layer].astype(int).tolist() == expected, layer
    every = np.concatenate(list(kept.values()))
    assert 100 * (1 - every.mean()) == pytest.approx(case["pruned_percent"], abs=1e-9)


@pytest.mark.parametrize("case", EDGES, ids=map(str, range(60)))
def test_the_percentile_between_the_last_0_and_the_first_1(case):
    masks = np.array(case["votes"])
    filters = masks.shape[1]
    tally = Tally(
        votes=masks.sum(axis=0),
        voters=float(len(masks)),
        alive=np.ones(filters, bool),
        keep=filters,
        norms=np.zeros(filters),
        filter_size=case["weights_a_filter"],
    )
    kept = kept_by(published_percentile(case["percentile"]), tally)
    assert kept.astype(int).tolist() == case["kept"]
