"""A record is held against the same run again, and against itself: no edit of it goes unseen."""

import copy
import json
from dataclasses import replace
from pathlib import Path

import pytest

from mpfl.evidence.cells import Cell
from mpfl.evidence.recheck import record_differences, same_machine
from mpfl.runs.record import keep_record, read_run
from mpfl.runs.runner import run

CELL = Cell(
    "vote",
    "digits",
    3,
    ("images=120", "nodes=3", "rounds=2", "epochs=1", "width=0.25", "central_epochs=2",
     "federated_rounds=2"),
    "toy",
)  # fmt: skip
PUBLISHED = replace(CELL, changes=(*CELL.changes, "vote=published_percentile()"))


def recorded_run(cell, folder):
    run(cell.experiment, folder / "run")
    return json.loads(keep_record(read_run(folder / "run"), folder).read_text())


@pytest.fixture(scope="module")
def record(tmp_path_factory):
    return recorded_run(CELL, tmp_path_factory.mktemp("record"))


def lines_of(record, edit, tmp_path, *, cell=CELL):
    """What is said of a record after ``edit``, held against the record as it was."""
    edited = copy.deepcopy(record)
    edit(edited)
    runs = []
    for name, each in (("edited", edited), ("again", record)):
        (tmp_path / name).write_text(json.dumps(each))
        runs.append(read_run(tmp_path / name))
    return record_differences(cell, *runs, Path("data"))


def elsewhere(record):
    record["summary"]["provenance"]["machine"]["cpu"] = "another processor"


def swap_bits(record):
    """The last mask keeps another filter of a layer, and as many."""
    name, text = next(iter(record["rounds"][-1]["mask"].items()))
    bits = list(f"{int(text, 16):0{4 * len(text)}b}")
    one, other = bits.index("1"), bits.index("0")
    bits[one], bits[other] = "0", "1"
    record["rounds"][-1]["mask"][name] = f"{int(''.join(bits), 2):0{len(text)}x}"


def one_vote_less(record):
    counts = next(iter(record["rounds"][0]["votes"].values()))
    counts[counts.index(max(counts))] -= 1


def other_ballot(record):
    ballot = record["rounds"][0]["ballots"][0]
    record["rounds"][0]["ballots"][0] = f"{int(ballot[0], 16) ^ 1:x}{ballot[1:]}"


def fewer_kept(record):
    kept = record["summary"]["kept"]
    kept[next(iter(kept))] -= 1


def cut_off(record):
    del record["rounds"][-1]


def more_bytes(record):
    record["summary"]["bytes"]["mask_rounds_up"] += 1


def more_bytes_everywhere(record):
    record["rounds"][0]["payloads"][0] += 1
    record["rounds"][0]["bytes_up"] += 1
    record["summary"]["bytes"]["mask_rounds_up"] += 1


EDITS = {
    "seed": (lambda r: r["config"].update(seed=4), "configuration, seed: 4 recorded, 3 in the"),
    "learning rate": (lambda r: r["config"]["local"].update(lr=9.0), "configuration, local.lr: "),
    "summary's seed": (lambda r: r["summary"].update(seed=4), "summary, seed: 4 recorded, 3 now"),
    "identity": (lambda r: r["summary"].update(identity="0" * 8), "summary, identity: 00000000"),
    "bytes": (more_bytes, "summary, bytes, mask_rounds_up: "),
    "bytes, everywhere": (more_bytes_everywhere, "rounds 1, bytes_up: "),
    "bytes of w0": (lambda r: r["summary"]["bytes"].update(start=1), "summary, bytes, start"),
    "parameters": (lambda r: r["summary"].update(parameters=7), "summary, parameters: 7 recorded"),
    "dense": (lambda r: r["summary"].update(parameters_dense=7), "summary, parameters_dense"),
    "MACs": (lambda r: r["summary"].update(macs=7), "summary, macs: 7 recorded"),
    "kept": (fewer_kept, "summary, kept, "),
    "rounds": (cut_off, "rounds, how many: 1 recorded, 2 now"),
    "a round twice": (lambda r: r["rounds"][1].update(round=1), "rounds, numbers: [1, 1] recorded"),
    "training cut off": (lambda r: r["federated"].pop(), "federated, how many: 1 recorded, 2 now"),
    "ballots": (other_ballot, "rounds 1, votes"),
    "votes": (one_vote_less, "rounds 1, votes"),
    "last mask": (swap_bits, "rounds 2, mask"),
    "no mask": (lambda r: r["rounds"][1].pop("mask"), "rounds 2, mask: is missing in the record"),
    "no ballots": (lambda r: r["rounds"][1].pop("ballots"), "rounds 2, ballots: is missing"),
    "no accuracy": (
        lambda r: r["summary"].update(accuracy_federated=None),
        "summary, accuracy_federated: nothing recorded",
    ),
    "no key": (lambda r: r["summary"].pop("accuracy_central"), "summary, accuracy_central: "),
    "no bytes": (lambda r: r["summary"].pop("bytes"), "summary, bytes: is missing in the record"),
    "no curve": (lambda r: r["federated"][0].update(accuracy=None), "federated 1, accuracy: "),
    "accuracy": (
        lambda r: r["summary"].update(accuracy_central=r["summary"]["accuracy_central"] - 0.2),
        "accuracy, central: +20.00 points from the recorded one",
    ),
    "no hex": (lambda r: r["rounds"][0]["ballots"].__setitem__(0, "zz"), "does not fit together"),
    "another key": (lambda r: r["summary"].update(colour="red"), "summary, colour: is record"),
}  # fmt: skip


@pytest.mark.parametrize("edited", EDITS)
def test_every_edit_is_one_line_that_names_it(edited, record, tmp_path):
    """On whatever machine: one that must repeat every bit compares more."""
    edit, says = EDITS[edited]

    def change(record):
        edit(record)
        elsewhere(record)

    lines = lines_of(record, change, tmp_path)
    assert any(says in line for line in lines), lines
    assert all("\n" not in line and len(line) < 250 for line in lines)


@pytest.mark.parametrize("name", ["accuracy_central", "accuracy_federated"])
def test_a_small_change_of_an_accuracy_is_seen_where_runs_repeat(name, record, tmp_path):
    def better(record):
        record["summary"][name] += 0.001

    assert lines_of(record, better, tmp_path)

    def better_elsewhere(record):
        better(record)
        elsewhere(record)

    assert not lines_of(record, better_elsewhere, tmp_path), "rounding is no difference"


def test_as_it_was_a_record_has_no_differences(record, tmp_path):
    assert lines_of(record, lambda record: None, tmp_path) == []
    assert lines_of(record, elsewhere, tmp_path) == []


def test_a_record_from_before_editions_may_lack_what_was_not_recorded_then(record, tmp_path):
    def older(record):
        for name in ("tested", "right", "accuracies_central", "mask_bodies"):
            del record["summary"][name]
        del record["summary"]["provenance"]["edition"]

    assert lines_of(record, older, tmp_path) == []


def test_where_votes_say_how_many_stay_another_machine_may_keep_others(tmp_path):
    record = recorded_run(PUBLISHED, tmp_path)

    def others(record):
        elsewhere(record)
        record["rounds"][-1]["bytes_down"] += 1
        record["summary"]["bytes"]["mask_rounds_down"] += 1

    assert lines_of(record, elsewhere, tmp_path, cell=PUBLISHED) == []
    assert lines_of(record, others, tmp_path, cell=PUBLISHED) == []


def test_what_a_record_does_not_say_of_its_machine_is_no_ground_for_equal_bits(record, tmp_path):
    (tmp_path / "run").write_text(json.dumps(record))
    here = read_run(tmp_path / "run")
    assert same_machine(here, here)
    record = copy.deepcopy(record)
    del record["summary"]["provenance"]["machine"]["instructions"]
    (tmp_path / "older").write_text(json.dumps(record))
    older = read_run(tmp_path / "older")
    assert not same_machine(older, older)
