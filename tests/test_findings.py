"""What the recorded cells say: rows by label, their spread, differences seed by seed."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from mpfl.evidence import Cell, cells_of
from mpfl.findings import Row, Sample, difference, points, rows_of
from mpfl.types import MPFLError

DIGITS = cells_of("digits", "toy")


def write(folder: Path, cell: Cell, central: float | None, federated: float | None = None) -> None:
    summary = {"accuracy_central": central, "accuracy_federated": federated}
    record = {"config": {}, "summary": summary, "rounds": [], "federated": []}
    (folder / cell.file).write_text(json.dumps(record))


def rows(tmp_path: Path, accuracies: dict[tuple[str, int], float | None]) -> dict[str, Row]:
    for cell in DIGITS:
        if (cell.label, cell.seed) in accuracies:
            write(tmp_path, cell, accuracies[cell.label, cell.seed])
    return rows_of("digits", "toy", tmp_path)


def test_a_sample_by_hand():
    sample = Sample((1.0, 2.0, 3.0))
    assert (sample.n, sample.mean, sample.deviation) == (3, 2.0, 1.0)
    assert sample.half == pytest.approx(4.303 / math.sqrt(3), rel=1e-3)  # t of two degrees
    assert (sample.low, sample.high) == (2 - sample.half, 2 + sample.half)
    assert str(sample) == "2.00 ± 1.00"


def test_the_interval_is_that_of_scipy():
    values = np.random.default_rng(0).normal(size=7)
    sample = Sample(tuple(values))
    low, high = stats.t.interval(0.95, 6, values.mean(), stats.sem(values))
    assert (sample.low, sample.high) == pytest.approx((low, high))


@pytest.mark.parametrize(("values", "text"), [((), "-"), ((2.5,), "2.50")])
def test_too_few_values_have_no_spread(values, text):
    sample = Sample(values)
    assert math.isnan(sample.deviation) and sample.half == math.inf and str(sample) == text


def test_rows_hold_every_cell_and_what_is_recorded(tmp_path):
    found = rows(tmp_path, {("vote", 0): 0.5, ("vote", 2): 0.75})
    assert list(found) == list(dict.fromkeys(cell.label for cell in DIGITS))
    assert sum(len(row.cells) for row in found.values()) == len(DIGITS)
    vote = found["vote"]
    assert list(vote.runs) == [0, 2] and [cell.seed for cell in vote.missing] == [1]
    assert vote.accuracy("central").values == (50, 75)
    assert vote.accuracy("federated").n == 0
    assert not found["LTH"].runs and str(found["LTH"].accuracy("central")) == "-"


def test_a_difference_pairs_equal_seeds(tmp_path):
    given = {("vote", 0): 0.5, ("vote", 1): 0.6, ("LTH", 1): 0.4, ("LTH", 2): 0.1}
    found = rows(tmp_path, given)
    assert difference(found["vote"], found["LTH"], points("central")).values == (pytest.approx(20),)
    assert difference(found["vote"], found["w0 norms"], points("central")).n == 0
    with pytest.raises(MPFLError, match="row 'vote' cannot be compared with itself"):
        difference(found["vote"], found["vote"], points("central"))


def test_a_run_without_a_figure_is_left_out(tmp_path):
    found = rows(tmp_path, {("vote", 0): None, ("vote", 1): 0.5})
    assert found["vote"].accuracy("central").values == (50,)
