"""Votes that are noisy on purpose: what one tells, what many still say, and what is spent."""

import math
import re
from dataclasses import replace
from itertools import combinations, pairwise, product

import numpy as np
import pytest
from federation import begin, drift, initialise, recorded
from hypothesis import given
from hypothesis import strategies as st
from toys import TOY, Election, elections, inside, kept_by, layouts, masks_for

from mpfl import masks, wire
from mpfl.analysis.privacy import (
    bits_told,
    chance_kept,
    chance_true,
    debiased,
    epsilon_total,
    randomised_response,
    standard_error,
    unbiased,
)
from mpfl.masks import Keep
from mpfl.node import Plan, Voter
from mpfl.runs.experiment import Experiment, changes, config_of, identity
from mpfl.runs.text import changed
from mpfl.schedules import linear
from mpfl.seeds import rng_for
from mpfl.server import masked_pruning
from mpfl.simulation import simulate
from mpfl.types import MPFLError
from mpfl.vote import (
    Tally,
    most_votes,
    published_percentile,
    published_threshold,
    relaxed,
    share,
    weighted,
)

THREE = math.log(3)  # the epsilon at which three of four answers are true
epsilons = st.floats(0.01, 12)
BY_SHARE = [
    share(0.5), share(1.0), relaxed(), published_threshold(), published_percentile(0.3)
]  # fmt: skip


# --- one bit ---------------------------------------------------------------------------------


def test_three_of_four_answers_are_true_by_hand():
    assert chance_true(THREE) == pytest.approx(0.75)


@given(epsilons)
def test_an_answer_is_e_to_the_epsilon_times_as_likely_and_no_more(epsilon):
    p = chance_true(epsilon)
    assert 0.5 < p < 1 and p / (1 - p) == pytest.approx(math.exp(epsilon))


@given(st.data(), layouts(), epsilons, st.integers(0, 99))
def test_laws_of_an_answer(data, layout, epsilon, seed):
    alive = data.draw(masks_for(layout))
    mask = masks.intersect(data.draw(masks_for(layout)), alive)
    before = {name: bits.copy() for name, bits in mask.items()}
    method = randomised_response(epsilon)
    sent = method(mask, alive, rng_for(seed))
    assert inside(sent, alive) and list(sent) == list(alive)
    assert all((before[name] == bits).all() for name, bits in mask.items())
    again = method(mask, alive, rng_for(seed))
    assert all((sent[name] == again[name]).all() for name in sent)
    certain = randomised_response(700.0)(mask, alive, rng_for(seed))
    assert all((certain[name] == bits).all() for name, bits in mask.items())


def test_each_bit_is_turned_round_on_its_own_as_often_as_it_should_be():
    alive = {"a": np.ones(2, bool), "b": np.array([True, False])}
    mask = {"a": np.array([True, False]), "b": np.array([True, False])}
    rng, method, n = rng_for(0, "often"), randomised_response(THREE), 20_000
    turned = {each: 0 for each in product([False, True], repeat=3)}
    for _ in range(n):
        sent = method(mask, alive, rng)
        flips = np.concatenate([sent[name] ^ mask[name] for name in mask])
        assert not flips[3]
        turned[tuple(flips[:3].tolist())] += 1
    for each, count in turned.items():
        chance = 0.25 ** sum(each) * 0.75 ** (3 - sum(each))
        assert abs(count - n * chance) < 5 * math.sqrt(n * chance * (1 - chance))


@pytest.mark.parametrize("epsilon", [0.0, -1.0, math.inf, math.nan])
def test_an_epsilon_that_is_none_is_refused(epsilon):
    for call in (
        lambda: randomised_response(epsilon),
        lambda: debiased(share(), epsilon),
        lambda: unbiased(np.ones(1), 2, epsilon),
        lambda: epsilon_total(epsilon, [1]),
    ):
        with pytest.raises(MPFLError, match=r"epsilon is .*; give a positive number"):
            call()


def test_a_mask_that_is_not_honest_is_refused():
    with pytest.raises(MPFLError, match=r"^randomised_response: .* brings back pruned filters"):
        randomised_response(1.0)({"a": np.ones(1, bool)}, {"a": np.zeros(1, bool)}, rng_for(0))


# --- the sum of many -------------------------------------------------------------------------


def test_debiasing_by_hand():
    # Eight voters, three of four tell the truth: if nobody keeps a filter two say so, if all do
    # six say so.
    assert unbiased(np.array([2, 4, 6, 1]), 8, THREE).tolist() == pytest.approx([0, 4, 8, -2])
    # Each answer's variance is 3/16; eight of them, stretched by two: sqrt(8 * 3/16) * 2.
    assert standard_error(8, THREE) == pytest.approx(math.sqrt(6))


@given(st.integers(1, 10_000), epsilons, st.data())
def test_debiasing_is_the_textbook_formula_and_rises(voters, epsilon, data):
    votes = np.array(sorted(data.draw(st.sets(st.integers(0, voters), min_size=1))))
    p = chance_true(epsilon)
    found = unbiased(votes, voters, epsilon)
    assert found == pytest.approx((votes - voters * (1 - p)) / (2 * p - 1), rel=1e-6, abs=1e-6)
    assert (np.diff(found) > 0).all()
    assert standard_error(voters, epsilon) == pytest.approx(
        math.sqrt(voters * p * (1 - p)) / (2 * p - 1), rel=1e-6
    )


def test_on_average_it_is_right_and_off_by_the_standard_error():
    alive, voters, trials, epsilon = {"a": np.ones(4, bool)}, 10, 4000, 1.5
    truth, rng = np.array([0, 3, 7, 10]), rng_for(0, "average")
    method, found = randomised_response(epsilon), []
    for _ in range(trials):
        sent = [method({"a": truth > node}, alive, rng)["a"] for node in range(voters)]
        found.append(unbiased(np.sum(sent, axis=0), voters, epsilon))
    error = standard_error(voters, epsilon)
    assert np.abs(np.mean(found, axis=0) - truth).max() < 5 * error / math.sqrt(trials)
    assert np.std(found, axis=0) == pytest.approx(error, rel=0.06)


def tally_of(case: Election) -> Tally:
    return Tally(case.masks.sum(axis=0), len(case.masks), case.alive, case.keep, case.norms)


@given(elections(), epsilons)
def test_a_rule_by_rank_is_unchanged_by_debiasing(case, epsilon):
    tally = tally_of(case)
    votes = unbiased(tally.votes, tally.voters, epsilon)
    lifted = votes - votes.min()  # a tally holds no negative counts; ranks do not mind
    other = replace(tally, votes=lifted, voters=float(lifted.max() + 1))
    assert (kept_by(most_votes(), other) == kept_by(most_votes(), tally)).all()


@given(elections(), epsilons)
def test_a_majority_is_unchanged_by_debiasing(case, epsilon):
    tally = tally_of(case)
    assert (kept_by(debiased(share(0.5), epsilon), tally) == share(0.5)(tally)).all()


@pytest.mark.parametrize("rule", BY_SHARE, ids=str)
@given(case=elections())
def test_where_everybody_tells_the_truth_every_rule_decides_as_it_does(rule, case):
    tally = tally_of(case)
    assert (kept_by(debiased(rule, 80.0), tally) == rule(tally)).all()


@given(elections(), epsilons)
def test_debiased_thresholds_are_monotone(case, epsilon):
    tally = tally_of(case)
    kept = [kept_by(debiased(share(tau), epsilon), tally) for tau in (0.2, 0.5, 0.8, 1.0)]
    assert all((more >= less).all() for more, less in pairwise(kept))


@pytest.mark.parametrize(
    ("rule", "why"),
    [
        (most_votes(), "goes by rank, which does not change"),
        (weighted((1.0, 2.0)), "does not count voters alike"),
        (debiased(share(), 1.0), "is debiased already"),
    ],
)
def test_rules_that_gain_nothing_are_refused(rule, why):
    with pytest.raises(MPFLError, match=f"^vote rule debiased: {re.escape(str(rule))} {why}"):
        debiased(rule, 1.0)


def chance_by_hand(votes, voters, epsilon, tau):
    """The slow twin: every way in which the voters may answer."""
    p, total = chance_true(epsilon), 0.0
    for true in product([True, False], repeat=voters):
        said = sum((node < votes) == truth for node, truth in enumerate(true))
        tally = Tally(np.array([said]), voters, np.ones(1, bool), 1, np.ones(1))
        if kept_by(debiased(share(tau), epsilon), tally)[0]:
            total += math.prod(p if truth else 1 - p for truth in true)
    return total


@given(st.integers(1, 6), epsilons, st.floats(0.05, 1), st.data())
def test_the_chance_that_a_filter_stays_equals_the_slow_twin(voters, epsilon, tau, data):
    votes = data.draw(st.integers(0, voters))
    expected = chance_by_hand(votes, voters, epsilon, tau)
    assert chance_kept(votes, voters, epsilon, tau) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("epsilon", [0.1, 1.0, 4.0])
def test_the_chance_that_a_filter_stays_rises_with_its_votes_up_to_a_thousand(epsilon):
    chances = [chance_kept(v, 1000, epsilon, 0.5) for v in range(0, 1001, 50)]
    assert all(b >= a - 1e-12 for a, b in pairwise(chances))
    assert 0 <= chances[0] < 0.5 < chances[-1] <= 1 + 1e-9
    # At a tie the votes are symmetric about it, and a tie stays.
    assert 0.5 < chances[10] < 0.6
    with pytest.raises(MPFLError, match="11 votes of 10 nodes"):
        chance_kept(11, 10, 1.0, 0.5)


def test_without_noise_the_votes_alone_decide():
    chances = [chance_kept(votes, 10, 40.0, 0.5) for votes in range(11)]
    assert chances == [0.0] * 5 + [1.0] * 6


# --- what is spent ---------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "keep"), [(1, 1), (4, 1), (4, 2), (5, 4), (5, 5)])
def test_bits_told_against_every_pair_of_ballots(size, keep):
    ballots = [np.isin(range(size), each) for each in combinations(range(size), keep)]
    most = max(int((a ^ b).sum()) for a, b in product(ballots, repeat=2))
    assert bits_told({"a": size, "b": 2}, {"a": keep, "b": 1}) == most + 2
    assert bits_told({"a": size, "b": 2}) == size + 2


def test_epsilon_by_hand():
    assert epsilon_total(2.0, [10, 8, 6]) == 48
    # sqrt(2 * 1000 * ln 1e5) / 100 + 1000 / 100 * (e^0.01 - 1)
    assert epsilon_total(0.01, [600, 400], 1e-5) == pytest.approx(1.5174 + 0.1005, abs=1e-4)
    assert epsilon_total(2.0, [600, 400], 1e-5) == 2000  # advanced is more here
    assert epsilon_total(1.0, []) == 0


@given(epsilons, st.lists(st.integers(0, 3000), max_size=5), st.floats(1e-9, 0.5))
def test_laws_of_the_total(epsilon, bits, delta):
    basic = epsilon_total(epsilon, bits)
    total = epsilon_total(epsilon, bits, delta)
    assert 0 <= total <= basic == pytest.approx(epsilon * sum(bits))
    assert epsilon_total(epsilon, [*bits, 5], delta) >= total
    assert epsilon_total(epsilon, [sum(bits)], delta) == total
    assert epsilon_total(epsilon, bits, delta / 2) >= total


@pytest.mark.parametrize(("bits", "delta"), [([1], -0.1), ([1], 1.0), ([-1], 0.0)])
def test_a_total_of_nonsense_is_refused(bits, delta):
    with pytest.raises(MPFLError, match="give 0-1 and counts"):
        epsilon_total(1.0, bits, delta)


# --- in a run --------------------------------------------------------------------------------


def test_private_votes_in_whole_rounds():
    plan, epsilon = Plan(TOY, linear(0.5), rounds=3), 1.0
    private = Voter(plan, drift(TOY), fault=randomised_response(epsilon))
    data, behaviour = [np.ones(3)] * 6, dict.fromkeys(range(6), private)
    for rule in (most_votes(), debiased(share(0.5), epsilon)):
        algorithm, messages = recorded(masked_pruning(plan, initialise(TOY), drift(TOY), vote=rule))
        logs = list(simulate(algorithm, data, begin(TOY), 3, 0, behaviour=behaviour))
        kinds = {wire.kind_of(message) for what, _, message in messages if what == "up"}
        assert wire.Kind.KNOWN not in kinds or len(kinds) > 1, "the counts were not noisy"
        if rule == most_votes():  # exact, whatever the noise
            kept = masks.counts(logs[-1].state.mask)
            assert Keep.by_layer(kept) == plan.keep(3, masks.full(TOY))


def test_from_the_command_line(quick):
    private = changed(quick(), ["noise=randomised_response(2)", f"noisy_nodes={quick().nodes}"])
    assert private.fault == randomised_response(2.0) and private.data_noise is None
    rule = changed(private, ["vote=debiased(share(0.5), 2)"]).vote
    assert rule == debiased(share(0.5), 2.0)
    assert changed(private, [f"vote={rule!r}"]).vote == rule
    assert changed(private, ["vote=debiased(rule=relaxed(), epsilon=2.0)"]).vote.rule == relaxed()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["vote=debiased(share(0.5), 2.0)"], "every node must answer by randomised_response"),
        (
            ["vote=debiased(share(0.5), 2.0)", "noise=randomised_response(1.0)", "noisy_nodes=10"],
            "set fault to it and noisy_nodes to 10",
        ),
        (
            ["vote=debiased(share(0.5), 2.0)", "noise=randomised_response(2.0)", "noisy_nodes=9"],
            "set fault to it and noisy_nodes to 10",
        ),
        (["vote=debiased(budget(), 2.0)"], "goes by rank, which does not change; use it"),
        (["vote=debiased(0.5, 2.0)"], "debiased: 0.5 is not Rule"),
        (["vote=share(share(0.5))"], "is not float"),
        (["vote=debiased(open('x'), 2.0)"], "no vote 'open'"),
        (["noise=randomised_response(0)"], "epsilon is 0; give a positive number"),
    ],
)
def test_what_cannot_be_set(settings, message):
    with pytest.raises(MPFLError, match=re.escape(message)):
        changed(Experiment(), settings)


def test_a_private_run_has_a_name_of_its_own_and_old_runs_keep_theirs():
    assert "noise" not in changes(config_of(Experiment()))
    private = [f"noise=randomised_response({epsilon})" for epsilon in (1.0, 2.0)]
    names = {identity(changed(Experiment(), [each])) for each in private}
    assert len(names | {identity(Experiment())}) == 3
