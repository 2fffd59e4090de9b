"""A run folder: what is written comes back, a kill leaves the old file or the new one."""

import json
import os
from dataclasses import replace

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st

from mpfl import masks
from mpfl.algorithm import Outcome, State
from mpfl.filters import Layer, Layout
from mpfl.runs.checkpoint import load_checkpoint, save_checkpoint
from mpfl.runs.folder import (
    SEAL,
    append_round,
    read_json,
    read_lines,
    save_mask,
    save_weights,
    write_atomically,
    write_json,
)
from mpfl.runs.provenance import provenance
from mpfl.runs.record import (
    ballots_of,
    bits_of,
    filters_of,
    hex_of,
    keep_record,
    kept_counts,
    line_of,
    read_run,
)
from mpfl.seeds import rng_for
from mpfl.simulation import RoundLog
from mpfl.types import MPFLError
from mpfl.wire import Ballots

LAYOUT = Layout(
    (Layer("a", 5, "a.weight", ("a.weight",)), Layer("b", 9, "b.weight", ("b.weight",))),
    {"a.weight": (5, 2), "b.weight": (9, 5)},
)


def weights(seed):
    rng = rng_for(seed, "weights")
    return {n: rng.standard_normal(s).astype("f4") for n, s in LAYOUT.shapes.items()}


def log(round_=3, seed=7, memories=(), **changes):
    rng = rng_for(round_, "log")
    mask = {name: rng.random(bits.size) < 0.5 for name, bits in masks.full(LAYOUT).items()}
    votes = {name: rng.integers(0, 4, bits.size) for name, bits in mask.items()}
    cast = {
        node: {
            name: bits & (counts > node)
            for (name, bits), counts in zip(mask.items(), votes.values(), strict=True)
        }
        for node in (0, 1)
    }
    ballots = Ballots.of(cast, LAYOUT, alive=masks.full(LAYOUT))
    outcome = Outcome(votes, ballots, {0: 0.5, 1: 1.0}, ("a",))
    state = State(weights(0), mask, seed, outcome)
    sizes = {"start_bytes": 0, "bytes_down": 20, "bytes_up": 33, "payloads": (16, 17)}
    metrics = ({"loss": 0.5}, {"loss": 0.25})
    made = RoundLog(round_, state, memories, **sizes, metrics=metrics, accuracy=None, seconds=1.23)
    return replace(made, **changes)


def unpacked(ballots):
    """Every ballot by layer, read the slow way."""
    return [masks.unflatten(bits, LAYOUT) for bits in ballots.bits()]


def equal(one, other):
    return one.keys() == other.keys() and all(np.array_equal(one[k], other[k]) for k in one)


# --- files -------------------------------------------------------------------------------


def test_a_write_that_fails_leaves_nothing(tmp_path):
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match="directory"):
        write_atomically(tmp_path / "folder", b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_a_field_that_stands_twice_is_damage(tmp_path):
    (tmp_path / "x.json").write_text('{"a": {"b": 1, "c": 2, "b": 3}}')
    with pytest.raises(MPFLError, match=r"x\.json: damaged \('b' stands twice\)"):
        read_json(tmp_path / "x.json")


def test_another_run_of_an_experiment_is_not_recorded_over(finished, tmp_path):
    run = read_run(finished)
    path = keep_record(run, tmp_path)
    first = path.read_bytes()
    assert keep_record(run, tmp_path) == path, "the very same may be kept again"
    other = replace(run, summary={**run.summary, "accuracy_central": 0.0})
    with pytest.raises(MPFLError, match="holds another run of this experiment; remove it"):
        keep_record(other, tmp_path)
    assert path.read_bytes() == first
    keep_record(other, tmp_path, over=True)
    assert read_run(path).summary["accuracy_central"] == 0


def test_a_write_that_dies_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "file"
    write_atomically(path, b"old")

    def die(*_):
        raise RuntimeError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", die)
        with pytest.raises(RuntimeError):
            write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_json_there_and_back(tmp_path):
    value = {"a": [1, 2.5, None, True], "b": {"c": "ü"}}
    write_json(tmp_path / "x.json", value)
    assert read_json(tmp_path / "x.json") == value


def test_json_that_is_missing_or_damaged(tmp_path):
    with pytest.raises(MPFLError, match=r"no summary\.json; is it a finished run folder\?"):
        read_json(tmp_path / "summary.json")
    (tmp_path / "summary.json").write_text('{"a": ')
    with pytest.raises(MPFLError, match=r"summary\.json: damaged .* run it again"):
        read_json(tmp_path / "summary.json")


# --- a line per round ----------------------------------------------------------------------


@given(st.lists(st.booleans(), min_size=1, max_size=40))
def test_hex_there_and_back(bits):
    text = hex_of(np.array(bits))
    assert len(text) == 2 * -(-len(bits) // 8)
    assert bits_of(text, len(bits)).tolist() == bits


def test_hex_by_hand():
    assert hex_of(np.array([1, 0, 0, 0, 1, 1, 0, 0, 1], bool)) == "3101"


def test_a_line_holds_everything_observed():
    line = json.loads(json.dumps(line_of(log(), wire=True)))
    assert line["round"] == 3 and line["seconds"] == 1.23
    assert (line["bytes_down"], line["bytes_up"], line["payloads"]) == (20, 33, [16, 17])
    assert line["agreement"] == {"0": 0.5, "1": 1.0}
    assert line["rescued"] == ["a"]
    assert line["metrics"] == [{"loss": 0.5}, {"loss": 0.25}]
    assert line["sparsity"] == log().sparsity
    state = log().state
    assert line["votes"] == {name: counts.tolist() for name, counts in state.outcome.votes.items()}
    flat = [np.concatenate([*cast.values()]) for cast in unpacked(state.outcome.ballots)]
    assert line["ballots"] == [hex_of(bits) for bits in flat]
    for name, bits in state.mask.items():
        np.testing.assert_array_equal(bits_of(line["mask"][name], bits.size), bits)


def test_without_a_wire_nothing_was_sent():
    line = line_of(log(start_bytes=9), wire=False)
    assert [line[k] for k in ("start_bytes", "bytes_down", "bytes_up")] == [0, 0, 0]
    assert line["payloads"] == []


def test_a_line_cut_off_is_left_out(tmp_path):
    path = tmp_path / "rounds.jsonl"
    assert read_lines(path) == []
    path.write_text('{"round": 1}\n{"round": 2}\n{"rou')
    assert read_lines(path) == [{"round": 1}, {"round": 2}]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"round": 1}\n{"rou\n{"round": 3}\n', "line 2 is damaged"),
        ('{"round": 1}\n{"rou\n', "line 2 is damaged"),  # a whole line: no kill has cut it off
        ('{"round": 1}\n{"round": 3}\n', "line 2 is not that of round 2"),
        ('{"round": 1}\nnull\n', "line 2 is not that of round 2"),
        ('{"round": 1}\n\n{"round": 2}\n', "line 2 is damaged"),
        ('{"round": 1}\n{"round": 1}\n', "line 2 is not that of round 2"),
        ('[1]\n', "line 1 is not that of round 1"),
        ("{}\n", "line 1 is not that of round 1"),
        ("\udcff\n", "damaged"),
    ],
)  # fmt: skip
def test_a_log_with_a_hole_is_refused(tmp_path, text, says):
    path = tmp_path / "rounds.jsonl"
    path.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(MPFLError, match=says) as error:
        read_lines(path)
    assert str(path) in str(error.value) and "run it again" in str(error.value)


def test_a_round_repeated_replaces_its_line_and_those_after(tmp_path):
    path = tmp_path / "rounds.jsonl"
    for line in ({"round": 1}, {"round": 2}, {"round": 3}, {"round": 2, "again": True}):
        append_round(path, line)
    assert read_lines(path) == [{"round": 1}, {"round": 2, "again": True}]


# --- checkpoints -------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [7, None])
@pytest.mark.parametrize(
    "owners",
    [[], [0, 0, 0], [1, 1], [1, 0, 2, 1]],
    ids=["no nodes", "those of the state", "one of their own", "mixed"],
)
def test_checkpoint_there_and_back(tmp_path, seed, owners):
    """``owners``: which weights each node remembers; number 0 are the state's own."""
    path = tmp_path / "checkpoint"
    made = log(seed=seed, memories=tuple(weights(i) for i in owners))
    save_checkpoint(path, made)
    found = load_checkpoint(path, LAYOUT)
    assert found.round == 3
    assert found.state.seed == seed
    assert equal(found.state.weights, made.state.weights)
    assert equal(found.state.mask, made.state.mask)
    assert list(found.state.mask) == list(made.state.mask)
    assert len(found.memories) == len(owners)
    for memory, owner in zip(found.memories, owners, strict=True):
        assert equal(memory, weights(owner))
    with safetensors.safe_open(path, "numpy") as file:
        copies = sum(name.endswith("/a.weight") for name in file.keys())  # noqa: SIM118
    assert copies == len({0, *owners}), "equal weights are written once"


def test_a_memory_may_hold_what_the_state_does_not(tmp_path):
    path, best = tmp_path / "checkpoint", np.array(7)
    owners = {"best": best}, {}, {"best": np.array(8)}
    made = log(memories=tuple({**weights(0), **own} for own in owners))
    save_checkpoint(path, made)
    found = load_checkpoint(path, LAYOUT)
    assert list(found.state.weights) == list(made.state.weights)
    for memory, other in zip(found.memories, made.memories, strict=True):
        assert equal(memory, other)
        assert all(memory[name].shape == other[name].shape for name in other)
    with safetensors.safe_open(path, "numpy") as file:
        assert sum(name.endswith("/a.weight") for name in file.keys()) == 1  # noqa: SIM118


def test_a_checkpoint_of_earlier_days_is_read(tmp_path):
    path = tmp_path / "checkpoint"
    save_checkpoint(path, log(memories=(weights(1), weights(0))))
    with safetensors.safe_open(path, "numpy") as file:
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        meta = file.metadata() | {"memories": "1 0"}  # of all tensors at once
        del meta[SEAL]
    safetensors.numpy.save_file(arrays, path, meta)
    found = load_checkpoint(path, LAYOUT)
    assert equal(found.memories[0], weights(1)) and equal(found.memories[1], weights(0))


def test_no_checkpoint_is_no_error(tmp_path):
    assert load_checkpoint(tmp_path / "none", LAYOUT) is None


@pytest.mark.parametrize("keep", [0, 4, 100, -1])
def test_a_damaged_checkpoint_is_refused(tmp_path, keep):
    path = tmp_path / "checkpoint"
    save_checkpoint(path, log())
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(MPFLError, match=r"checkpoint: damaged .* start the run again elsewhere"):
        load_checkpoint(path, LAYOUT)


def test_weights_and_masks_there_and_back(tmp_path):
    turned = {name: array.T for name, array in weights(1).items()}  # not contiguous
    save_weights(tmp_path / "w", turned)
    assert equal(safetensors.numpy.load_file(tmp_path / "w"), turned)
    mask = log().state.mask
    save_mask(tmp_path / "m", mask)
    found = safetensors.numpy.load_file(tmp_path / "m")
    assert equal(found, mask) and all(bits.dtype == bool for bits in found.values())


# --- reading a run -----------------------------------------------------------------------


def test_counts_of_a_recorded_run(tmp_path):
    for round_ in (1, 2):
        line = line_of(log(round_), wire=True)
        append_round(tmp_path / "rounds.jsonl", line)
    counts = kept_counts(tmp_path, LAYOUT)
    for round_ in (1, 2):
        assert counts(round_) == masks.counts(log(round_).state.mask)
    with pytest.raises(MPFLError, match="has no round 3; ask for at most 2"):
        counts(3)


def test_counts_of_no_run_and_of_another_model(tmp_path):
    with pytest.raises(MPFLError, match="holds no rounds of this model"):
        kept_counts(tmp_path, LAYOUT)
    append_round(tmp_path / "rounds.jsonl", line_of(log(1), wire=True))
    other = Layout(LAYOUT.layers[:1], {"a.weight": (5, 2)})
    with pytest.raises(MPFLError, match="holds no rounds of this model"):
        kept_counts(tmp_path, other)


def test_a_finished_run_is_read_back(finished):
    run = read_run(finished)
    assert run.label == "digits, toy, most_votes(k=None), seed 0"
    assert [line["round"] for line in run.rounds] == [1, 2]
    assert [line["round"] for line in run.federated] == [1, 2]
    sent = run.summary["bytes"]
    assert run.bytes_rounds == sent["mask_rounds_down"] + sent["mask_rounds_up"]
    assert run.bytes_all == sent["start"] + run.bytes_rounds + run.bytes_final


def test_the_ballots_of_a_recorded_run_add_up_to_its_votes(finished, tmp_path):
    run = read_run(keep_record(read_run(finished), tmp_path))
    for line in run.rounds:
        ballots = ballots_of(run, line["round"])
        assert ballots.shape == (run.config["nodes"], sum(filters_of(run).values()))
        assert ballots.sum(axis=0).tolist() == np.concatenate([*line["votes"].values()]).tolist()


def test_a_run_recorded_without_ballots_says_so(finished):
    run = read_run(finished)
    old = replace(
        run, rounds=[{k: v for k, v in line.items() if k != "ballots"} for line in run.rounds]
    )
    with pytest.raises(MPFLError, match="holds no ballots of round 1"):
        ballots_of(old, 1)


def test_a_run_that_is_missing_or_unfinished(tmp_path):
    with pytest.raises(MPFLError, match="nowhere: no such run"):
        read_run(tmp_path / "nowhere")
    write_json(tmp_path / "config.json", {})
    with pytest.raises(MPFLError, match=r"no summary\.json"):
        read_run(tmp_path)


def test_a_recorded_run_equals_its_folder(finished, tmp_path):
    run = read_run(finished)
    path = keep_record(run, tmp_path)
    assert path.name == f"digits-toy-{run.summary['identity']}.json"
    assert replace(read_run(path), folder=run.folder) == run


def test_a_result_says_what_made_it():
    made = provenance("python -m mpfl run digits")
    assert made["command"] == "python -m mpfl run digits"
    assert made["versions"].keys() >= {"mpfl", "torch", "numpy", "safetensors"}
    assert made["machine"]["cores"] >= 1 and made["machine"]["cpu"]
    assert made["commit"] and made["python"]
    assert json.loads(json.dumps(made)) == made
