"""Dials turned at once: the curve of lotteries, and shares of variance against statsmodels."""

import itertools
from pathlib import Path

import numpy as np
import pandas
import pytest
from statsmodels.formula.api import ols
from statsmodels.stats.anova import anova_lm

from mpfl.evidence.factors import above_curve, shares_of_variance
from mpfl.evidence.samples import Row
from mpfl.runs.record import Run
from mpfl.types import MPFLError


def row(label: str, runs: dict[int, tuple[float, float]]) -> Row:
    return Row(label, (), {
        seed: Run(Path(), {}, {"sparsity": sparsity, "accuracy_central": accuracy / 100}, [], [])
        for seed, (sparsity, accuracy) in runs.items()
    })  # fmt: skip


CURVE = [
    row("lottery 1, 20%", {0: (0.2, 80.0), 1: (0.2, 70.0)}),
    row("lottery 2, 20%", {0: (0.2, 82.0), 1: (0.2, 70.0)}),
    row("lottery 1, 60%", {0: (0.6, 61.0), 1: (0.6, 50.0)}),
]


def test_a_row_is_held_against_the_lotteries_of_its_seed_and_size():
    found = above_curve(row("vote", {0: (0.4, 73.0), 1: (0.2, 70.5)}), CURVE)
    assert found == {0: pytest.approx(2.0), 1: pytest.approx(0.5)}  # 71 and 70 on the curve


def test_beyond_the_curve_nothing_is_said():
    assert above_curve(row("vote", {0: (0.7, 73.0), 2: (0.4, 70.0)}), CURVE) == {}


def test_shares_of_variance_are_those_of_an_analysis_of_variance():
    rng = np.random.default_rng(0)
    values = {
        (a, b, c): float(rng.normal() + 2 * (a == "p") + (b == "y"))
        for a, b, c in itertools.product("pqr", "xy", "kl")
    }
    rows = [(*key, value) for key, value in values.items()]
    data = pandas.DataFrame(rows, columns=["a", "b", "c", "value"])
    table = anova_lm(ols("value ~ C(a) + C(b) + C(c)", data).fit())
    sums = table["sum_sq"] / table["sum_sq"].sum()
    found = shares_of_variance(values, ["a", "b", "c"])
    for name in "abc":
        assert found[name] == pytest.approx(sums[f"C({name})"])
    assert found["together"] == pytest.approx(sums["Residual"])


def test_a_missing_combination_is_refused():
    with pytest.raises(MPFLError, match="3 combinations of first, second are there"):
        shares_of_variance({("a", "x"): 1.0, ("a", "y"): 1.0, ("b", "x"): 2.0}, ["first", "second"])


def test_equal_values_have_no_variance_to_share():
    values = {("a", "x"): 1.0, ("a", "y"): 1.0}
    assert shares_of_variance(values, ["one", "two"]) == {"one": 0.0, "two": 0.0, "together": 0.0}


def test_no_figure_and_one_that_is_not_finite_are_refused():
    with pytest.raises(MPFLError, match="none, or not all finite"):
        shares_of_variance({}, ["first"])
    with pytest.raises(MPFLError, match="none, or not all finite"):
        shares_of_variance({("a",): 1.0, ("b",): float("nan")}, ["first"])
