"""Intervals, p-values and the seeds that they ask for, beside statsmodels and by simulation."""

import itertools
import math
import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from mpfl.evidence.exact import PicturesApart, Place, p_of_ranks, pictures_apart, rank_among
from mpfl.evidence.inference import (
    conclude,
    holm,
    interval,
    p_above,
    p_below,
    p_differs,
    p_equivalent,
)
from mpfl.evidence.power import MOST_SEEDS, chance_beyond, seeds_beyond, seeds_needed
from mpfl.evidence.samples import Sample
from mpfl.types import MPFLError

with warnings.catch_warnings():  # those of other packages, as they are loaded
    warnings.simplefilter("ignore")
    from statsmodels.stats.contingency_tables import mcnemar
    from statsmodels.stats.multitest import multipletests
    from statsmodels.stats.power import TTestPower
    from statsmodels.stats.weightstats import DescrStatsW, ttost_paired

SAMPLES = st.lists(
    st.floats(-10, 10).map(lambda value: round(value, 3)), min_size=2, max_size=12
).map(lambda values: Sample(tuple(values)))
SPREAD = SAMPLES.filter(lambda sample: len(set(sample.values)) > 1)
MARGINS = st.floats(0.1, 5)


# --- intervals and p-values ------------------------------------------------------------------


@given(SPREAD, MARGINS)
def test_p_values_are_those_of_statsmodels(sample: Sample, margin: float) -> None:
    oracle = DescrStatsW(sample.values)
    assert p_above(sample, margin) == pytest.approx(oracle.ttest_mean(margin, "larger")[1])
    assert p_below(sample, margin) == pytest.approx(oracle.ttest_mean(margin, "smaller")[1])
    assert p_differs(sample) == pytest.approx(oracle.ttest_mean(0)[1])
    zeros = np.zeros(sample.n)
    tost = ttost_paired(np.array(sample.values), zeros, -margin, margin)[0]
    assert p_equivalent(sample, margin) == pytest.approx(tost)


@given(SPREAD, st.sampled_from([0.8, 0.9, 0.95, 0.99]))
def test_an_interval_is_that_of_statsmodels(sample: Sample, level: float) -> None:
    assert interval(sample, level) == pytest.approx(
        DescrStatsW(sample.values).tconfint_mean(1 - level)
    )
    assert interval(sample) == pytest.approx((sample.low, sample.high))


@pytest.mark.parametrize(
    ("values", "answer"),
    [
        ((0.5, 0.4, 0.6), "equivalent"),  # above 0, and too small to matter
        ((-0.5, -0.4, -0.6), "equivalent"),
        ((3.0, 3.1, 2.9), "better"),
        ((2.0, 1.5, 2.5), "better"),  # 0.8 to 3.2
        ((-2.0, -1.5, -2.5), "worse"),
        ((1.0, 2.0, 0.0), "no worse"),  # -1.5 to 3.5
        ((-1.0, -2.0, 0.0), "undecided"),  # -3.5 to 1.5: no gain that matters, perhaps a loss
        ((-5.0, 5.0, 0.0), "undecided"),
        ((9.0,), "undecided"),
        ((), "undecided"),
    ],
)
def test_a_conclusion_by_hand(values: tuple[float, ...], answer: str) -> None:
    assert conclude(Sample(values), margin=2) == answer


@given(SAMPLES, MARGINS)
def test_a_conclusion_says_what_the_p_values_say(sample: Sample, margin: float) -> None:
    answer = conclude(sample, margin)
    low, high = interval(sample)
    assume(all(abs(end - bar) > 1e-6 for end in (low, high) for bar in (0, margin, -margin)))
    assert (answer == "equivalent") == (p_equivalent(sample, margin) < 0.025)
    if answer == "better":
        assert p_above(sample) < 0.025 and high >= margin
    if answer == "worse":
        assert p_below(sample) < 0.025 and low <= -margin
    if answer in ("better", "no worse", "equivalent"):
        assert p_above(sample, -margin) < 0.025
    if answer == "undecided":
        assert p_above(sample, -margin) >= 0.025 and p_below(sample) >= 0.025


@given(SAMPLES, MARGINS)
def test_a_difference_turned_round_turns_better_into_worse(sample: Sample, margin: float) -> None:
    turned = Sample(tuple(-value for value in sample.values))
    other = {"better": "worse", "worse": "better", "equivalent": "equivalent"}
    one, two = conclude(sample, margin), conclude(turned, margin)
    assert other.get(one) == (two if two in other else None)


@pytest.mark.parametrize("values", [(), (3.0,)])
def test_below_two_values_nothing_is_known(values: tuple[float, ...]) -> None:
    sample = Sample(values)
    assert interval(sample) == (-math.inf, math.inf)
    ps = p_above(sample), p_below(sample), p_differs(sample), p_equivalent(sample, 1)
    assert ps == (1, 1, 1, 1)
    assert seeds_needed(sample, 1, "better") is None


def test_equal_values_are_a_point() -> None:
    sample = Sample((0.1, 0.1, 0.1))  # whose mean is not 0.1, and whose deviation is not 0
    assert interval(sample) == (0.1, 0.1)
    assert (p_above(sample, 0), p_above(sample, 0.1), p_below(sample, 0.1)) == (0, 1, 1)
    assert (p_differs(sample), p_differs(sample, 0.1), p_equivalent(sample, 1)) == (0, 1, 0)
    assert conclude(sample, 0.05) == "better" and conclude(sample, 1) == "equivalent"


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_value_that_is_no_number_is_refused(value: float) -> None:
    for function in (interval, p_above, p_below, p_differs):
        with pytest.raises(MPFLError, match=r"a sample holds .*; give finite numbers"):
            function(Sample((1.0, value)))


@pytest.mark.usefixtures("types_unchecked")
@pytest.mark.parametrize("values", [[1.0, 2.0], "12", (1.0, "2"), (1.0, None), 3.0])
def test_a_sample_of_what_is_no_tuple_of_numbers_is_refused(values: Any) -> None:
    with pytest.raises(MPFLError, match="give a tuple of numbers, one per seed"):
        Sample(values)


@pytest.mark.parametrize("test", [p_above, p_below, p_differs])
def test_a_bar_that_is_no_number_is_refused(test: Any) -> None:
    with pytest.raises(MPFLError, match="bar is nan; give a number"):
        test(Sample((1.0, 2.0, 3.0)), math.nan)


@pytest.mark.parametrize("wrong", [0, -1, math.nan, math.inf])
def test_a_margin_or_a_level_that_is_none_is_refused(wrong: float) -> None:
    sample = Sample((1.0, 2.0))
    for function in (conclude, p_equivalent):
        with pytest.raises(MPFLError, match=r"margin is .*; give a number"):
            function(sample, wrong)
    with pytest.raises(MPFLError, match=r"margin is .*; give a number"):
        seeds_needed(sample, wrong, "better")
    with pytest.raises(MPFLError, match=r"level is .*; give a number between 0 and 1"):
        interval(sample, wrong)
    with pytest.raises(MPFLError, match=r"power is .*; give a number between 0 and 1"):
        seeds_beyond(1, 1, wrong)


# --- many tests at once ----------------------------------------------------------------------


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
@settings(max_examples=15)  # the oracle takes a fifth of a second
def test_holm_is_that_of_statsmodels(ps: list[float]) -> None:
    names = {str(place): p for place, p in enumerate(ps)}
    adjusted = holm(names)
    assert list(adjusted) == list(names)
    assert list(adjusted.values()) == pytest.approx(multipletests(ps, method="holm")[1])


@pytest.mark.usefixtures("types_unchecked")
@pytest.mark.parametrize("wrong", [-0.1, 1.1, math.nan, "0.5", None])
def test_what_is_no_p_value_is_refused(wrong: Any) -> None:
    assert holm({}) == {}
    with pytest.raises(MPFLError, match=r"lottery: .* is no p-value; give one from 0 to 1"):
        holm({"messages": 0.5, "lottery": wrong})


def test_a_family_under_holm_errs_one_time_in_twenty() -> None:
    """Six contrasts with one vote, so they depend on each other; five of them are nothing."""
    rng, errors, blind, families = np.random.default_rng(0), 0, 0, 600
    for _ in range(families):
        vote = rng.normal(size=5)
        ps = {str(k): p_differs(Sample(tuple(vote - rng.normal(size=5)))) for k in range(5)}
        ps["real"] = p_differs(Sample(tuple(vote - rng.normal(loc=-9, size=5))))
        adjusted = holm(ps)
        errors += min(p for name, p in adjusted.items() if name != "real") < 0.05
        blind += min(p for name, p in ps.items() if name != "real") < 0.05
    slack = 3 * math.sqrt(0.05 * 0.95 / families)
    assert errors / families < 0.05 + slack
    assert blind / families > 0.12  # what five tests do without it


def test_equivalence_is_claimed_of_a_difference_at_the_margin_one_time_in_forty() -> None:
    rng, runs = np.random.default_rng(1), 2000
    samples = [Sample(tuple(rng.normal(2.0, 0.5, size=4))) for _ in range(runs)]
    claimed = sum(conclude(sample, margin=2) == "equivalent" for sample in samples) / runs
    assert claimed == pytest.approx(0.025, abs=3 * math.sqrt(0.025 * 0.975 / runs))


# --- a vote among lotteries --------------------------------------------------------------------


def test_a_rank_counts_ties_against_the_vote() -> None:
    assert rank_among(3, [1, 2]) == Place(1, 3)
    assert rank_among(2, [1, 2, 3]) == Place(3, 4)
    assert rank_among(2, []) == Place(1, 1)
    assert p_of_ranks([rank_among(3, range(19))]) == 17 / 20
    with pytest.raises(MPFLError, match="not a finite number"):
        rank_among(2, [math.nan])
    with pytest.raises(MPFLError, match="rank 4 of 3"):
        Place(4, 3)


@given(st.lists(st.integers(1, 5).flatmap(lambda of: st.tuples(st.integers(1, of), st.just(of)))))
@settings(max_examples=60)
def test_the_chance_of_a_sum_of_ranks_is_counted(pairs: list[tuple[int, int]]) -> None:
    pairs = pairs[:4]
    every = list(itertools.product(*(range(1, of + 1) for _, of in pairs)))
    as_high = sum(sum(ranks) <= sum(rank for rank, _ in pairs) for ranks in every)
    assert p_of_ranks([Place(*pair) for pair in pairs]) == as_high / len(every)


def test_ten_seeds_at_the_top_are_as_unlikely_as_they_are() -> None:
    assert p_of_ranks([Place(1, 20)] * 10) == pytest.approx(20.0**-10, rel=1e-12)
    assert p_of_ranks([Place(20, 20)] * 10) == p_of_ranks([]) == 1


@pytest.mark.parametrize("steps", [0, 4])  # ties make it err more seldom
def test_one_more_lottery_passes_for_a_vote_one_time_in_twenty(steps: int) -> None:
    rng, runs, passed = np.random.default_rng(2), 2000, 0
    for _ in range(runs):
        figures = rng.normal(size=(3, 20))  # three seeds, each with lotteries of its own
        figures = np.round(figures * steps) / steps if steps else figures
        passed += p_of_ranks([rank_among(vote, lots) for vote, *lots in figures]) <= 0.05
    assert passed / runs < 0.05 + 3 * math.sqrt(0.05 * 0.95 / runs)
    assert passed / runs > (0.01 if steps else 0.035)


# --- pictures --------------------------------------------------------------------------------

BITS = st.integers(1, 60).flatmap(
    lambda size: st.tuples(*[st.lists(st.booleans(), min_size=size, max_size=size)] * 2)
)


@given(BITS)
def test_pictures_are_those_of_statsmodels(bits: tuple[list[bool], list[bool]]) -> None:
    one, other = map(np.array, bits)
    found = pictures_apart(one, other)
    cells = [
        [(one & other).sum(), (one & ~other).sum()],
        [(~one & other).sum(), (~one & ~other).sum()],
    ]
    if found.one_alone + found.other_alone:
        assert found.p == pytest.approx(mcnemar(np.array(cells), exact=True).pvalue)
    else:
        assert (found.p, found.error) == (1, 0)
    differences = 100 * (one.astype(float) - other)
    assert found.points == pytest.approx(differences.mean())
    assert found.error == pytest.approx(differences.std() / math.sqrt(one.size), abs=1e-9)


def test_pictures_at_the_edges() -> None:
    right, wrong = np.ones(4, dtype=bool), np.zeros(4, dtype=bool)
    assert pictures_apart(right, right) == PicturesApart(0.0, 0.0, 1.0, 0, 0)
    assert pictures_apart(right, wrong) == PicturesApart(100.0, 0.0, 0.125, 4, 0)
    for bad in (right[:3], right[:0]):
        with pytest.raises(MPFLError, match="give the same test pictures"):
            pictures_apart(bad, right)
    with pytest.raises(MPFLError, match="give the same test pictures"):
        pictures_apart(right[:0], right[:0])
    for bad in (np.ones(4), np.ones((2, 2), dtype=bool)):
        with pytest.raises(MPFLError, match="give a line of bools"):
            pictures_apart(right, bad)


# --- how many seeds --------------------------------------------------------------------------


@pytest.mark.parametrize("gap", [0.1, 0.7, 1.5, 3.0, 40.0])
@pytest.mark.parametrize("power", [0.5, 0.8, 0.95])
def test_seeds_are_those_of_statsmodels(gap: float, power: float) -> None:
    seeds = seeds_beyond(gap, 1.0, power)
    assert seeds is not None
    oracle = TTestPower()
    assert oracle.power(gap, seeds, 0.025, alternative="larger") >= power
    assert seeds == 2 or oracle.power(gap, seeds - 1, 0.025, alternative="larger") < power


def test_so_many_seeds_do_decide() -> None:
    sample, rng, runs = Sample((1.0, 2.0, 3.0)), np.random.default_rng(3), 3000
    for aim, truth in (("better", 1.0), ("no worse", 0.0), ("equivalent", 0.0), ("worse", -1.0)):
        seeds = seeds_needed(sample, 1.0, aim)
        draws = rng.normal(truth, 1.0, size=(runs, seeds))
        low, high = DescrStatsW(draws.T).tconfint_mean()
        decided = {
            "better": low > 0,
            "no worse": low > -1,
            "equivalent": (low > -1) & (high < 1),
            "worse": high < 0,
        }[aim].mean()
        assert decided == pytest.approx(0.8, abs=0.05), aim
        assert decided > 0.8 - 3 * math.sqrt(0.16 / runs), aim


def test_seeds_at_the_edges() -> None:
    assert seeds_beyond(0, 1) is seeds_beyond(-1, 1) is seeds_beyond(1, math.nan) is None
    assert seeds_beyond(1, 0) == seeds_needed(Sample((2.0, 2.0)), 1, "equivalent") == 2
    assert seeds_beyond(1e-3, 1) is None  # 7,848,888 would do
    assert chance_beyond(0.028, 1, MOST_SEEDS) < 0.8 < chance_beyond(0.0281, 1, MOST_SEEDS)
    with pytest.raises((MPFLError, TypeError), match="beter"):  # whoever looks first
        seeds_needed(Sample((1.0, 2.0)), 1, "beter")  # type: ignore[arg-type]
