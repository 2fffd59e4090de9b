"""Which thresholds a rule can reach, and the released rules as their authors ran them."""

import json
from itertools import product
from pathlib import Path

import numpy as np
import pytest
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


def test_most_votes_give_any_number_and_so_masks_that_are_no_level():
    assert levels_reached([most_votes(k) for k in range(1, FILTERS + 1)]) == ({0, 1, 2, 3}, True)
    for counts, k in product(EVERY_COUNT, range(1, FILTERS + 1)):
        assert kept_by(most_votes(k), counted(counts)).sum() == k
        assert kept_by(most_votes(), counted(counts, keep=k)).sum() == k


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
        votes, alive, norms = masks.sum(axis=0), np.ones(filters, bool), np.zeros(filters)
        kept[layer] = kept_by(rule, Tally(votes, float(len(masks)), alive, filters, norms))
        assert kept[layer].astype(int).tolist() == expected, layer
    every = np.concatenate(list(kept.values()))
    assert 100 * (1 - every.mean()) == pytest.approx(case["pruned_percent"], abs=1e-9)
