"""Every vote rule with its slow twin and the laws that it obeys; a new rule is a new row."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st
from toys import Election

from mpfl.vote import (
    Rule,
    Tally,
    most_votes,
    published_percentile,
    published_threshold,
    relaxed,
    share,
    weighted,
)


def tally_of(rule: Rule, election: Election) -> Tally:
    """The masks added up, as the server does it for this rule."""
    weights = np.array(rule.weights) if isinstance(rule, weighted) else None
    nodes = len(election.masks)
    return Tally(
        votes=election.masks.sum(axis=0) if weights is None else weights @ election.masks,
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


def slow_most_votes(rule, election):
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
    """The vote at place p among all votes of the layer in order, on a line in between."""
    flat = sorted(float(vote) for vote in election.masks.ravel())
    place = rule.p * (len(flat) - 1)
    below, above = flat[math.floor(place)], flat[math.ceil(place)]
    threshold = below + (above - below) * (place % 1)
    return [count / len(election.masks) >= threshold for count in counts_of(election)]


# --- the table -------------------------------------------------------------------------------

eighths = st.integers(1, 8).map(lambda n: n / 8)
eighths_from_0 = st.integers(0, 8).map(lambda n: n / 8)


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
    "most_votes": Row(
        draw=lambda nodes: st.builds(most_votes, st.none() | st.integers(1, 8)),
        slow=slow_most_votes,
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
