"""The evidence: every cell says a command, and what is missing is run, kept and repeated."""

import json
from pathlib import Path

import numpy as np
import pytest

from mpfl import masks
from mpfl.__main__ import main, parser
from mpfl.evidence import reproduce as module
from mpfl.evidence.cells import Cell
from mpfl.evidence.explore import EXPLORATORY_TABLES
from mpfl.evidence.order import missing, waits_for
from mpfl.evidence.protocol import PROTOCOL_TABLES, TEN
from mpfl.evidence.reproduce import Repeat, chosen, repeat, reproduce
from mpfl.evidence.tables import TABLES, cells_of
from mpfl.nets.networks import blueprint
from mpfl.node import Plan
from mpfl.runs.folder import load_tensors
from mpfl.runs.recipes import recipe
from mpfl.runs.text import changed
from mpfl.types import MPFLError

RECORDED = Path(__file__).parent.parent / "data" / "results"
SMALL = ("images=120", "nodes=2", "rounds=2", "epochs=1", "width=0.25", "central_epochs=1",
         "federated_rounds=1")  # fmt: skip
VOTE = Cell("vote", "digits", 0, (*SMALL, "vote=share(0.5)"), "toy")
FIRST = Cell("random masks", "digits-random-masks", 0, SMALL, "toy")
LATER = [table.__name__.removesuffix("_table") for table in (*PROTOCOL_TABLES, *EXPLORATORY_TABLES)]
BROKEN = Cell("vote", "digits", 0, (*SMALL, "lr=1"), "toy")


@pytest.fixture
def places(tmp_path):
    return {"results": tmp_path / "results", "runs": tmp_path / "runs", "root": Path("data")}


@pytest.mark.parametrize("budget", ["toy", "laptop", "paper"])
@pytest.mark.parametrize("table", TABLES)
def test_every_cell_is_the_experiment_that_its_command_says(table, budget):
    cells = cells_of(table, budget)
    assert len({cell.file for cell in cells}) == len(cells), "two cells are one run"
    for cell in cells:
        options = parser().parse_args(cell.words)
        made = changed(recipe(options.recipe, options.budget, options.seed), options.changes)
        assert made == cell.experiment
        assert cell.match is None or cell.match in cells
        images = -(-(made.images or 50_000) // made.nodes)  # of the largest node, dealt evenly
        assert (made.federated_steps or 0) <= -(-images // made.local.batch), "refused in a run"
    assert {cell.seed for cell in cells} <= ({*TEN, 0, 1, 2} if table in LATER else {0, 1, 2})
    by_label: dict[str, list[int]] = {}
    for cell in cells:
        by_label.setdefault(cell.label, []).append(cell.seed)
    for seeds in by_label.values():
        assert len(set(seeds)) == len(seeds), "a row has a seed twice"


@pytest.mark.parametrize("budget", ["toy", "laptop", "paper"])
def test_schedules_end_with_as_many_filters_as_the_vote_they_are_held_against(budget):
    def kept(cell):
        e = cell.experiment
        layout = blueprint(e.model, 10, width=e.width)
        return Plan(layout, e.schedule, e.rounds).keep(e.rounds, masks.full(layout))

    vote = next(cell for cell in cells_of("cifar10", budget) if cell.label == "vote")
    cells = cells_of("schedules", budget)
    assert [kept(cell) for cell in cells] == [kept(vote)] * len(cells)
    assert {cell.experiment.rounds for cell in cells if cell.label == "one shot"} == {1}


def test_all_is_every_table_but_the_small_one():
    files = [cell.file for cell in cells_of("all", "laptop")]
    assert len(set(files)) == len(files), "a run that two tables share stands twice"
    assert set(files) == {
        cell.file for name in TABLES if name != "digits" for cell in cells_of(name, "laptop")
    }


def test_every_recorded_result_is_a_cell_of_a_table():
    known = {cell.file for cell in cells_of("all", "laptop")}
    assert {path.name for path in RECORDED.glob("*.json")} <= known


def test_unknown_tables_and_budgets_name_the_nearest():
    with pytest.raises(MPFLError, match="no table 'cifar'; did you mean 'cifar10'"):
        cells_of("cifar", "laptop")
    with pytest.raises(MPFLError, match="no budget 'laptops'; did you mean 'laptop'"):
        cells_of("cifar10", "laptops")


@pytest.mark.slow
def test_what_is_missing_is_run_once_kept_and_repeated(places, monkeypatch):
    steps = []
    reproduce([FIRST, VOTE], **places, workers=2, on_step=steps.append)
    assert sorted(step.done for step in steps) == [1, 2]
    assert {step.cell for step in steps} == {FIRST, VOTE}
    assert {path.name for path in places["results"].iterdir()} == {FIRST.file, VOTE.file}
    assert not list(places["runs"].iterdir()), "run folders are left"
    assert missing([FIRST, VOTE], places["results"]) == []
    reproduce([FIRST, VOTE], **places, on_step=steps.append)
    assert len(steps) == 2, "a finished cell was run again"

    again = repeat(VOTE, **places)
    assert again.holds and again.bits == 0 and again.filters > 0
    assert again.points == {"central": 0, "federated": 0}
    path = places["results"] / VOTE.file
    as_it_ends = path.read_text()
    record = json.loads(as_it_ends)
    record["summary"]["accuracy_central"] += 0.2
    path.write_text(json.dumps(record))
    fake(monkeypatch, [], as_it_ends)  # it just ran: it would end so again
    other = repeat(VOTE, **places)
    assert not other.holds and other.points["central"] == pytest.approx(-20)


def fake(monkeypatch, ran, result="{}"):
    def run(cell, results, runs, root):
        ran.append(cell)
        if cell is BROKEN:
            return f"{cell.command}: failed (mpfl: no field 'lr')"
        results.mkdir(parents=True, exist_ok=True)
        (results / cell.file).write_text(result)
        return ""

    monkeypatch.setattr(module, "_run", run)
    monkeypatch.setattr(  # the fake result is no record
        module, "core_minutes", lambda cells, results: dict.fromkeys((c.file for c in cells), 0.0)
    )


def test_a_control_waits_for_the_run_whose_counts_it_takes_over(places, monkeypatch):
    ran = []
    fake(monkeypatch, ran)
    control = Cell("random masks", "digits-random-masks", 1, SMALL, "toy", match=VOTE)
    assert f"match=data/results/{VOTE.file}" in control.command
    reproduce([control, VOTE, FIRST], **places, workers=2)
    assert ran.index(VOTE) < ran.index(control)
    assert len(ran) == 3


def test_a_control_without_its_run_says_which_one_to_make(places, monkeypatch):
    ran = []
    fake(monkeypatch, ran)
    control = Cell("random masks", "digits-random-masks", 1, SMALL, "toy", match=VOTE)
    with pytest.raises(MPFLError, match=r"needs another result first: .*vote=share\(0.5\)"):
        reproduce([control, FIRST], **places)
    assert ran == [FIRST]


def test_a_cell_that_fails_is_named_and_no_other_begun(places, monkeypatch):
    ran = []
    fake(monkeypatch, ran)
    monkeypatch.setattr(Cell, "file", property(lambda self: f"{id(self)}.json"))
    with pytest.raises(MPFLError, match=r"lr=1: failed \(mpfl: no field 'lr'\)"):
        reproduce([BROKEN, FIRST, VOTE], **places)
    assert ran == [BROKEN]


@pytest.mark.slow
def test_a_failing_run_gives_its_last_line(places):
    cell = Cell("vote", "digits", 0, (*SMALL, "vote=published_threshold(0.999)"), "toy")
    broken = Cell("vote", "digits", 0, (*SMALL, "w0=nowhere"), "toy")
    with pytest.raises(MPFLError, match=r"w0=nowhere: failed \(mpfl: w0: no file 'nowhere'"):
        reproduce([broken, cell], **places)


def test_which_cells_are_checked_follows_from_the_seed(tmp_path):
    cells = cells_of("cifar10", "laptop")[:6]
    for cell in cells[:5]:
        (tmp_path / cell.file).touch()
    first = chosen(cells, 3, 0, tmp_path)
    assert first == chosen(cells, 3, 0, tmp_path) and len(set(first)) == 3
    assert any(chosen(cells, 3, seed, tmp_path) != first for seed in range(1, 5))
    assert set(chosen(cells, 99, 0, tmp_path)) == set(cells[:5])


def test_more_checks_than_records_are_refused(capsys):
    there = sum((RECORDED / cell.file).exists() for cell in cells_of("cifar10", "laptop"))
    assert main(["reproduce", "cifar10", "--check", str(there + 1)]) == 2
    says = f"data/results records {there}, not {there + 1}; ask for at most {there}"
    assert capsys.readouterr().err == f"mpfl: --check: of 'cifar10' {says}\n"


def test_the_list_shows_what_is_there_and_what_is_not(capsys):
    assert main(["reproduce", "cifar10", "--list"]) == 0
    shown = capsys.readouterr().out
    there = [(RECORDED / cell.file).exists() for cell in cells_of("cifar10", "laptop")]
    assert f"{sum(there)} of {len(there)} recorded" in shown
    assert shown.count("not run yet") == there.count(False)


def test_a_check_of_nothing_is_refused(places, capsys):
    options = [f"--{name}={place}" for name, place in places.items()]
    assert main(["reproduce", "digits", "--budget", "toy", "--check", "1", *options]) == 2
    assert "--check: no run of 'digits' is recorded in" in capsys.readouterr().err


def test_a_check_that_fails_is_an_error(monkeypatch, places, capsys):
    repeats = iter([(), ("summary, seed: 4 recorded, 3 now",)])

    def again(cell, **where):
        return Repeat(cell, 3, 112, {"central": -9.0}, next(repeats))

    monkeypatch.setattr(module, "repeat", again)
    monkeypatch.setattr(module, "chosen", lambda *_: [FIRST, VOTE])
    options = [f"--{name}={place}" for name, place in places.items()]
    assert main(["reproduce", "digits", "--budget", "toy", "--check", "2", *options]) == 2
    said = capsys.readouterr()
    assert "central -9.00 points, 3 of 112 filters differ, not as recorded" in said.out
    assert "    summary, seed: 4 recorded, 3 now" in said.out
    assert "1 of 2 runs ended otherwise than recorded" in said.err


def test_no_workers_are_refused(places):
    with pytest.raises(MPFLError, match="workers is 0; give at least 1"):
        reproduce([FIRST], **places, workers=0)


def test_a_w0_that_another_cell_trains_is_waited_for_and_kept(places, monkeypatch, tmp_path):
    file = tmp_path / "w0.safetensors"
    maker = Cell(
        "the w0 itself", "digits-central", 0, ("central_epochs=1",), "toy", keeps=str(file)
    )
    user = Cell("vote", "digits", 0, (f"w0={file}",), "toy")
    ran = []
    fake(monkeypatch, ran)
    with pytest.raises(MPFLError, match=r"w0=.*: needs another result first: .*digits-central"):
        reproduce([user, maker], **places)  # the fake run keeps nothing
    assert ran == [maker]
    assert waits_for(user, [user, maker], places["results"]) == maker.command
    assert waits_for(user, [user], places["results"]) == "", "nobody makes it: the run says so"


@pytest.mark.slow
def test_a_kept_w0_is_what_was_trained_in_half_precision(places, tmp_path):
    file = tmp_path / "w0.safetensors"
    maker = Cell("the w0 itself", "digits-central", 0, (*SMALL,), "toy", keeps=str(file))
    user = Cell("vote", "digits", 0, (*SMALL, f"w0={file}"), "toy")
    reproduce([user, maker], **places)
    assert {path.name for path in places["results"].iterdir()} == {maker.file, user.file}
    kept = load_tensors(file)
    assert {array.dtype for array in kept.values()} == {np.dtype(np.float16)}


def test_what_may_not_end_in_time_is_not_begun(places, monkeypatch):
    ran = []
    fake(monkeypatch, ran)
    monkeypatch.setattr(module, "core_minutes", lambda cells, results: {
        FIRST.file: 90.0, VOTE.file: 10.0})  # fmt: skip
    reproduce([FIRST, VOTE], **places, hours=1)
    assert ran == [VOTE]
