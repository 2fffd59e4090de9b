"""A verdict follows from recorded runs, whatever they say."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from mpfl.evidence.cells import Cell
from mpfl.evidence.claims import CLAIMS, COMPUTED, judge_claims
from mpfl.evidence.samples import TRAININGS, Sample, rows_of
from mpfl.evidence.tables import TABLES, cells_of
from mpfl.evidence.verdicts import LEAST_SEEDS, Finding, judged
from mpfl.runs.experiment import config_of
from mpfl.show.figures import FIGURES, cells_behind, draw
from mpfl.types import MPFLError

pytestmark = pytest.mark.usefixtures("made_up_records")

NAMES = [claim.name for claim in CLAIMS]
BYTES = ("start", "mask_rounds_down", "mask_rounds_up", "final_start", "final_down", "final_up")
SIZES = {"sparsity": 0.8, "parameters": 90_000, "macs": 1_500_000}


def records(to: Path, table: str, accuracy: dict[str, float], sent: dict[str, int] | None = None):
    """Made-up runs of some rows: the accuracy in per cent, a little apart from seed to seed."""
    to.mkdir(exist_ok=True)
    for cell in cells_of(table, "laptop"):
        if cell.label in accuracy:
            found = (accuracy[cell.label] + 0.1 * cell.seed) / 100
            summary = {"accuracy_central": found, "accuracy_federated": found, **SIZES}
            summary["bytes"] = dict.fromkeys(BYTES, 1) | {
                "final_up": (sent or {}).get(cell.label, 1)
            }
            write(to, cell, summary, [found])
    return to


def write(to: Path, cell: Cell, summary: dict[str, Any], *accuracies: Sequence[float]) -> None:
    """A record; ``accuracies`` of the final rounds, before them those of the mask rounds."""
    config = config_of(cell.experiment)
    *rounds, federated = [
        [
            {"start_bytes": 0, "bytes_down": 1, "bytes_up": 1, "seconds": 1, "sparsity": 0.8}
            | {"round": number, "accuracy": each}
            for number, each in enumerate(phase, start=1)
        ]
        for phase in accuracies
    ]
    rounds = [line | {"mask": {}} for phase in rounds for line in phase]
    record = {"config": config, "summary": summary, "rounds": rounds, "federated": federated}
    (to / cell.file).write_text(json.dumps(record))


@pytest.mark.parametrize(
    ("values", "holds_from", "verdict"),
    [
        ((3.0, 3.1, 2.9), 1.0, "reproduced"),
        ((0.0, 0.1, -0.1), 1.0, "refuted here"),
        ((1.0, 1.1, 0.9), 1.0, "undecided"),
        ((-5.0, 5.0, 0.0), 1.0, "undecided"),
        ((3.0, 3.1), 1.0, "not run yet"),
        ((), 1.0, "not run yet"),
    ],
)
def test_a_verdict_by_hand(values, holds_from, verdict):
    assert judged(Sample(values), holds_from) == verdict


UNDECIDED = st.tuples(st.lists(st.integers(-400, 400), min_size=3, max_size=12), st.integers(-5, 5))


@given(UNDECIDED)
def test_an_undecided_finding_asks_for_more_seeds_than_it_has(drawn):
    sample, bar = Sample(tuple(value / 100 for value in drawn[0])), float(drawn[1])
    finding = Finding("", sample, judged(sample, bar), bar)
    assume(min(abs(end - bar) for end in (sample.low, sample.high)) > 1e-6)
    if finding.verdict != "undecided":
        assert finding.decided_by is None and finding.in_words == finding.verdict
    elif finding.decided_by is None:
        assert abs(sample.mean - bar) < 0.03 * sample.deviation
        assert finding.in_words == "undecided; not even n = 10,000 would decide it"
    else:
        assert finding.decided_by > sample.n
        assert finding.in_words == f"undecided; n = {finding.decided_by:,} would decide it"


def test_so_many_more_seeds_decide_an_undecided_finding():
    """The same mean and deviation, seen as often as it asks for: mostly beyond the bar."""
    finding = Finding("", Sample((0.4, 2.1, 3.2)), "undecided", 1.0)
    assert finding.decided_by == 22
    draws = np.random.default_rng(0).normal(
        finding.sample.mean, finding.sample.deviation, (800, 22)
    )
    verdicts = [judged(Sample(tuple(values)), 1.0) for values in draws]
    assert verdicts.count("reproduced") / 800 == pytest.approx(0.8, abs=0.045)


def test_a_figure_in_steps_cannot_be_decided_within_one():
    near, far = Sample((0.0, 1.0, 2.0)), Sample((1.0, 2.0, 3.0))
    assert Finding("", near, judged(near, 0.0, 1.0), 0.0, "epochs", 1.0).decided_by is None
    assert Finding("", far, judged(far, 0.0, 1.0), 0.0, "epochs", 1.0).decided_by == 10


def test_every_claim_has_a_table_a_source_and_a_name_of_its_own(tmp_path):
    assert len(set(NAMES)) == len(NAMES)
    for claim in CLAIMS:
        assert claim.table in (*TABLES, COMPUTED) and claim.text and claim.source and claim.change
    found = judge_claims(tmp_path)
    assert list(found) == NAMES
    run = {c.name: found[c.name].verdict for c in CLAIMS if c.table != COMPUTED}
    assert run.pop("imagenet100-convergence-lth") == "untestable here"
    assert set(run.values()) == {"not run yet"}


@pytest.mark.parametrize(("vote", "verdict"), [(75, "reproduced"), (69, "refuted here")])
def test_a_verdict_follows_the_runs(tmp_path, vote, verdict):
    folder = records(tmp_path, "cifar10", {"vote": vote, "lottery": 72, "LTH": 71.5})
    found = judge_claims(folder)
    assert found["lottery"].verdict == found["accuracy-lth"].verdict == verdict
    assert found["lottery"].sample.n == LEAST_SEEDS
    assert found["lottery"].sample.mean == pytest.approx(vote - 72)
    assert found["accuracy-central"].verdict == "not run yet"


def test_a_claim_of_accuracy_is_judged_after_both_trainings(tmp_path):
    folder = records(tmp_path, "cifar10", {"vote": 75, "pruning-FL": 72})
    for cell in cells_of("cifar10", "laptop"):
        if cell.label == "pruning-FL":  # as good centrally, much better between the nodes
            record = json.loads((folder / cell.file).read_text())
            record["summary"]["accuracy_federated"] += 0.2
            (folder / cell.file).write_text(json.dumps(record))
    found = judge_claims(folder)
    assert found["accuracy-pruning-fl-central"].verdict == "reproduced"
    assert found["accuracy-pruning-fl-federated"].verdict == "refuted here"
    for name in ("imagenet100", "imagenet100-lottery", "ours", "ours-macs"):
        assert {f"{name}-{training}" for training in TRAININGS} <= found.keys()


def test_the_rule_as_released_has_claims_of_its_own(tmp_path):
    accuracies = {"published threshold": 70, "LTH": 71, "pruning-FL": 75, "vote": 80}
    found = judge_claims(records(tmp_path, "cifar10", accuracies))
    assert found["published-lth"].verdict == "reproduced"
    assert found["published-pruning-fl"].verdict == "refuted here"


def test_robustness_is_what_is_lost_less(tmp_path):
    records(tmp_path, "cifar10", {"vote": 57, "pruning-FL": 64})
    spoilt = {"vote, permuted labels": 55, "pruning-FL, permuted labels": 60}
    found = judge_claims(records(tmp_path, "robustness", spoilt))["robust-labels-pruning-fl"]
    assert found.sample.mean == pytest.approx(2)  # 2 points lost, where the other lost 4
    assert found.verdict == "reproduced"


@pytest.mark.parametrize(
    ("rival", "epochs", "verdict"),
    [
        ([0.1, 0.5, 0.6], 2 - 4, "refuted here"),  # there in its second epoch of training
        ([0.1, 0.2, 0.3], 3 - 3, "undecided"),  # ends at 30 %, which the vote has as soon
        ([0.0, 0.1, 0.2, 0.3, 0.5], 5 - 4, "reproduced"),
        ([0.1, 0.2, 0.5], 3 - 4, "undecided"),  # within an epoch
    ],
)
def test_convergence_counts_epochs_to_what_both_reach(tmp_path, rival, epochs, verdict):
    for cell in cells_of("imagenet100", "laptop"):
        if cell.label == "vote":  # two mask rounds, untested; then 30 and 50 %
            write(tmp_path, cell, {}, [None, None], [0.3, 0.5])
        if cell.label == "pruning-FL":
            write(tmp_path, cell, {}, rival[:1], rival[1:])
    claim = next(claim for claim in CLAIMS if claim.name == "imagenet100-convergence")
    found = claim.test(lambda table: rows_of(table, "laptop", tmp_path))
    assert found.sample.values == (epochs,) * LEAST_SEEDS
    assert (found.verdict, found.unit) == (verdict, "epochs")


def test_traffic_at_full_size_is_computed(tmp_path):
    finding = judge_claims(tmp_path)["traffic-large"]
    assert finding.verdict == "partly"
    # The votes on ResNet18's 4,800 filters, against 11.2 million floats, both ways.
    assert finding.figure.startswith("0.00073 % for the votes")


def test_traffic_of_two_seeds_decides_nothing(tmp_path):
    folder = records(tmp_path, "cifar10", {"vote": 50, "dense FedAvg": 50}, {"dense FedAvg": 10**6})
    vote = next(cell for cell in cells_of("cifar10", "laptop") if cell.label == "vote")
    assert judge_claims(folder)["traffic"].verdict == "reproduced"
    (folder / vote.file).unlink()
    assert judge_claims(folder)["traffic"].verdict == "not run yet"


@pytest.mark.parametrize(
    ("final", "verdict"), [(5, "reproduced"), (500_000, "partly"), (None, "not run yet")]
)
def test_traffic_is_counted_with_and_without_the_final_training(tmp_path, final, verdict):
    rows = {"vote": 50, "dense FedAvg": 50} if final is not None else {"vote": 50}
    folder = records(tmp_path, "cifar10", rows, {"vote": final or 0, "dense FedAvg": 1_000_000})
    assert judge_claims(folder)["traffic"].verdict == verdict


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_is_drawn_from_what_is_recorded(tmp_path, name):
    folder = tmp_path / "results"
    for table in FIGURES[name].tables:
        records(folder, table, {cell.label: 70.0 for cell in cells_of(table, "laptop")})
    draw(name, folder, tmp_path / "figure.svg")
    assert (tmp_path / "figure.svg").read_text().count("<path") > 10
    with pytest.raises(MPFLError, match="holds no cell of figure"):
        draw(name, tmp_path, tmp_path / "none.svg")
    with pytest.raises(MPFLError, match=r"figure\.nothing: its ending says no format"):
        draw(name, folder, tmp_path / "figure.nothing")


@pytest.mark.parametrize("name", FIGURES)
def test_the_cells_behind_a_figure_are_run_once(name):
    files = [cell.file for cell in cells_behind(name, "laptop", Path("data/results"))]
    assert len(set(files)) == len(files) > 0
    for table in FIGURES[name].tables:
        assert {cell.file for cell in cells_of(table, "laptop")} <= set(files)


def test_what_is_neither_table_nor_figure_names_the_nearest():
    with pytest.raises(MPFLError, match="no table or figure 'curve'; did you mean 'curves'"):
        cells_behind("curve", "laptop", Path("data/results"))
    with pytest.raises(MPFLError, match="no figure 'cifar10'"):
        draw("cifar10", Path(), Path())
