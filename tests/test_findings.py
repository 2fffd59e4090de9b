"""What the recorded cells say: rows by label, their spread, differences seed by seed."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from mpfl.evidence.cells import Cell
from mpfl.evidence.claims import judge_claims
from mpfl.evidence.curves import CurvePoint, learning_curve, reached
from mpfl.evidence.gains import gains_of
from mpfl.evidence.primary import decide_primary
from mpfl.evidence.samples import Row, Sample, difference, points, rounds_alike, rows_of
from mpfl.evidence.tables import cells_of
from mpfl.nets.settings import Settings
from mpfl.prune import filter_norms
from mpfl.runs.experiment import config_of
from mpfl.runs.record import Run, read_run
from mpfl.runs.runner import run
from mpfl.runs.workbench import Workbench
from mpfl.show.plots.evidence import by_sparsity
from mpfl.types import MPFLError
from mpfl.vote import published_percentile, published_threshold, relaxed, share

pytestmark = pytest.mark.usefixtures("made_up_records")

DIGITS = cells_of("digits", "toy")


def write(folder: Path, cell: Cell, central: float | None, federated: float | None = None) -> None:
    summary = {"accuracy_central": central, "accuracy_federated": federated}
    config = config_of(cell.experiment)
    record = {"config": config, "summary": summary, "rounds": [], "federated": []}
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


# --- the way of a run --------------------------------------------------------------------------


def way(method: str, pruned: float = 0.8) -> Run:
    mask = {"mask": {}, "start_bytes": 7, "bytes_down": 2, "bytes_up": 1, "seconds": 0.5}
    final = {"start_bytes": 0, "bytes_down": 20, "bytes_up": 10, "seconds": 2.0, "sparsity": 0.8}
    return Run(
        Path(),
        {"method": method, "epochs": 3},
        {},
        [
            mask | {"accuracy": None, "sparsity": 0.4},
            mask | {"accuracy": 0.125 if method == "pruning-fl" else None, "sparsity": pruned},
        ],
        [final | {"accuracy": 0.5}, final | {"accuracy": 0.25}],
    )


@pytest.mark.parametrize(
    ("method", "epochs"), [("mpfl", 6), ("pruning-fl", 6), ("lottery", 0), ("w0-norms", 0)]
)
def test_the_way_of_a_run_counts_what_its_mask_rounds_spent(method, epochs):
    final = [CurvePoint(50.0, 0.8, epochs + 3, 50, 3.0), CurvePoint(25.0, 0.8, epochs + 6, 80, 5.0)]
    tested = [CurvePoint(12.5, 0.8, 6, 20, 1.0)] if method == "pruning-fl" else []
    assert learning_curve(way(method)) == tested + final


def test_the_first_step_that_is_as_good():
    run = way("pruning-fl")
    pruned, trained, _ = learning_curve(run)
    found = [reached(run, level) for level in (10, 20, 50, 51)]
    assert found == [pruned, trained, trained, None]
    assert reached(way("pruning-fl", pruned=0.7), 10) == trained, "not as small yet"


def test_the_way_of_a_recorded_run_ends_at_its_summary():
    recorded = sorted((Path(__file__).parent.parent / "data" / "results").glob("*.json"))
    assert recorded
    for path in recorded:
        run = read_run(path)
        if way := learning_curve(run):
            assert way[-1].accuracy == pytest.approx(100 * run.summary["accuracy_federated"])
            assert way[-1].sent == run.bytes_all, path


@pytest.fixture(scope="module")
def ruled(quick, tmp_path_factory):
    """``ruled(rule)``: three rounds of five nodes whose ballots differ, and what replays them."""

    def once(rule):
        local = Settings(batch=8, lr=0.2)  # enough steps that what a node learns moves its ballot
        many = {"nodes": 5, "rounds": 3, "images": 300, "epochs": 3}
        experiment = quick(**many, local=local, vote=rule, central_epochs=0, federated_rounds=0)
        folder = tmp_path_factory.mktemp("ruled") / "run"
        run(experiment, folder)
        bench = Workbench(experiment)
        return read_run(folder), bench.plan, filter_norms(bench.start.w0, bench.layout)

    return once


def test_a_rule_that_answers_every_vote_alike_makes_the_same_run(ruled):
    found, plan, norms = ruled(published_threshold())
    masks = [line["mask"] for line in found.rounds]
    for rule in (share(1.0), share(0.5), relaxed(), published_percentile(0.5)):
        own = [line["mask"] for line in ruled(rule)[0].rounds]
        alike = rounds_alike(found, plan, rule, norms)
        first_other = next((i for i in range(3) if own[i] != masks[i]), 3)
        assert alike == first_other, rule
    assert rounds_alike(found, plan, share(1.0), norms) == 3
    assert rounds_alike(found, plan, share(0.5), norms) == 0
    assert rounds_alike(found, plan, published_threshold(), norms) == 3


@pytest.mark.parametrize(
    "reader",
    [
        lambda folder: rows_of("digits", "toy", folder),
        lambda folder: gains_of("granularity", results=folder),
        judge_claims,
        decide_primary,
        by_sparsity,
    ],
)
def test_results_that_are_not_there_are_refused_with_the_working_folder(
    tmp_path, monkeypatch, reader
):
    """A page that runs in another folder fails here, not where a row turns out empty."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(MPFLError) as refused:
        reader(Path("data/results"))
    assert str(refused.value).startswith(
        f"data/results: no such folder of results, seen from {tmp_path}; "
    )


def test_a_run_that_is_not_there_is_refused_with_the_working_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(MPFLError, match=r"runs/mine: no such run, seen from .*; python"):
        read_run(Path("runs/mine"))
    with pytest.raises(MPFLError, match="mine: no such run; python -m mpfl run"):
        read_run(tmp_path / "mine")
