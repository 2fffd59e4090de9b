"""Whole runs: what they leave on disk, and that a kill at any moment changes nothing."""

import ast
import json
import math
import multiprocessing
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Timer

import numpy as np
import pytest
import safetensors.numpy
import torch
from toys import result_of

import mpfl
from mpfl import masks
from mpfl.allocate import over_network
from mpfl.analysis.faults import random_mask
from mpfl.data.noise import gaussian
from mpfl.data.partition import dirichlet
from mpfl.prune import bn_scale
from mpfl.runs import folder as folder_module
from mpfl.runs import runner
from mpfl.runs.experiment import config_of
from mpfl.runs.folder import read_json, read_lines, write_json
from mpfl.runs.methods import LOTTERY, METHODS, PRUNING_FL
from mpfl.runs.record import bits_of
from mpfl.runs.runner import LOCK, run
from mpfl.runs.workbench import Workbench
from mpfl.schedules import one_shot
from mpfl.types import MPFLError
from mpfl.vote import share, weighted

PACKAGE = Path(mpfl.__file__).parent


class Killed(BaseException):
    """Not an Exception: nothing in a run may catch it."""


def on_disk(folder):
    """Every file with its content and the time it was written."""
    return {p.name: (p.read_bytes(), p.stat().st_mtime_ns) for p in folder.iterdir()}


def contents(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def stop_after(calls):
    """A ``watch`` that ends the run at a call."""
    left = iter(range(calls))

    def watch(_):
        if next(left, None) is None:
            raise Killed

    return watch


def interrupted(experiment, folder, calls):
    with pytest.raises(Killed):
        run(experiment, folder, watch=stop_after(calls))


# --- what a run leaves -------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_every_method_runs_and_its_bytes_are_those_of_its_log(quick, tmp_path, method):
    folder, experiment = tmp_path / "run", quick(method)
    summary = run(experiment, folder)
    assert summary == read_json(folder / "summary.json")
    assert read_json(folder / "config.json") == config_of(experiment)
    rounds = read_lines(folder / "rounds.jsonl")
    final = read_lines(folder / "federated.jsonl")
    sums = {
        "start": sum(line["start_bytes"] for line in rounds),
        "mask_rounds_down": sum(line["bytes_down"] for line in rounds),
        "mask_rounds_up": sum(sum(line["payloads"]) for line in rounds),
        "final_start": sum(line["start_bytes"] for line in final),
        "final_down": sum(line["bytes_down"] for line in final),
        "final_up": sum(sum(line["payloads"]) for line in final),
    }
    assert summary["bytes"] == sums
    talks = {
        "mpfl": (True, True),
        "pruning-fl": (True, True),
        "released-fl": (True, True),
        "fedavg": (False, True),
        "lottery": (False, True),
        "w0-norms": (False, True),
        "iterated-norms": (False, True),
    }
    sent = (sums["mask_rounds_down"] + sums["mask_rounds_up"], sums["final_up"])
    assert tuple(count > 0 for count in sent) == talks.get(method, (False, False))

    assert len(rounds) == (0 if method in ("fedavg", "central") else 2)
    assert len(final) == (0 if method in ("lth", "central") else 2)
    assert (folder / "model.safetensors").exists() == bool(final)
    assert (summary["accuracy_federated"] is None) == (not final)
    assert (summary["accuracy_central"] is None) == (method == "fedavg")
    for accuracy in (summary["accuracy_central"], summary["accuracy_federated"]):
        assert accuracy is None or 0 < accuracy <= 1

    mask = safetensors.numpy.load_file(folder / "mask.safetensors")
    assert summary["kept"] == masks.counts(mask)
    assert summary["sparsity"] == pytest.approx(masks.sparsity(mask))
    assert (summary["sparsity"] == 0) == (not rounds)
    for size in ("parameters", "macs"):
        assert 0 < summary[size] <= summary[f"{size}_dense"]
        assert (summary[size] == summary[f"{size}_dense"]) == (not rounds)
    assert summary["workers"] == 1
    made = summary["provenance"]
    assert made["machine"]["computes"] == Workbench(experiment).trainer.computes
    assert made["resumed"] is False
    for name in ("central.safetensors", "model.safetensors") if rounds else ():
        if (folder / name).exists():
            assert_zero_where_pruned(safetensors.numpy.load_file(folder / name), mask, experiment)
    assert not list(folder.glob("checkpoint-*")) and not list(folder.glob("*.part"))


def assert_zero_where_pruned(weights, mask, experiment):
    from mpfl.filters import apply

    held = apply(weights, mask, Workbench(experiment).layout)
    for name, array in weights.items():
        np.testing.assert_array_equal(array, held[name], err_msg=name)


@pytest.mark.parametrize("pixels", [None, 12])
def test_the_macs_of_a_summary_by_hand(quick, tmp_path, pixels):
    only = {"central_epochs": 0, "federated_rounds": 0}
    summary = run(quick(pixels=pixels, **only), tmp_path / "run")

    def count(first, second, third):  # 3x3 convs, a pool before the last, ten classes
        area = (pixels or 8) ** 2
        return 9 * (area * (first + first * second) + area // 4 * second * third) + 10 * third

    assert summary["macs_dense"] == count(4, 8, 16)
    assert summary["macs"] == count(*summary["kept"].values()) < summary["macs_dense"]


def test_a_run_in_double_precision_ends_with_a_summary(quick, tmp_path):
    only = {"central_epochs": 0, "federated_rounds": 0}
    double = run(quick(precision="float64", **only), tmp_path / "double")
    assert double["macs_dense"] == run(quick(**only), tmp_path / "single")["macs_dense"]


def test_the_bodies_of_the_masks_are_set_against_the_fewest_bytes_there_could_be(quick, tmp_path):
    only = {"central_epochs": 0, "federated_rounds": 0}
    experiment = quick(width=1.0, nodes=3, **only)
    found = run(experiment, tmp_path / "run")["mask_bodies"]
    lines = read_lines(tmp_path / "run" / "rounds.jsonl")
    sent = [payload for line in lines for payload in line["payloads"]]
    assert len(sent) == 6
    # A frame is 14 bytes, as long as a body has fewer than 128.
    assert found["bytes"] == sum(payload - 14 for payload in sent) and max(sent) < 14 + 128

    plan = Workbench(experiment).plan
    limit, alive = 0.0, masks.full(plan.layout)
    for line in lines:
        for (name,), keep in plan.keep(line["round"], alive).counts.items():
            limit += 3 * math.log2(math.comb(int(alive[name].sum()), keep))
        alive = {n: bits_of(text, alive[n].size) for n, text in line["mask"].items()}
    assert found["limit_bytes"] == pytest.approx(limit / 8, abs=0.05)
    assert found["limit_bytes"] <= found["bytes"] <= found["limit_bytes"] + len(sent)


@pytest.mark.parametrize("method", ["pruning-fl", "fedavg", "lottery"])
def test_where_no_node_sends_a_mask_there_are_no_bodies(quick, tmp_path, method):
    only = {"central_epochs": 0, "federated_rounds": 1 if method == "fedavg" else 0}
    assert run(quick(method, **only), tmp_path / "run")["mask_bodies"] is None


def test_the_result_is_a_function_of_the_experiment(quick, tmp_path):
    experiment = quick(data_noise=gaussian(0.2), partition=dirichlet(1.0))
    torch.manual_seed(1)
    run(experiment, tmp_path / "a")
    torch.manual_seed(2)
    run(experiment, tmp_path / "b")
    run(quick(data_noise=gaussian(0.2), partition=dirichlet(1.0), seed=1), tmp_path / "c")
    first, second, other = (result_of(tmp_path / name) for name in "abc")
    assert first == second
    assert first["model.safetensors"] != other["model.safetensors"]


def test_a_final_training_may_be_left_out(quick, tmp_path):
    summary = run(quick(central_epochs=0, federated_rounds=0), tmp_path / "run")
    assert summary["accuracy_central"] is summary["accuracy_federated"] is None
    assert {path.name for path in (tmp_path / "run").iterdir()} == {
        "config.json",
        "rounds.jsonl",
        "mask.safetensors",
        "summary.json",
    }


def test_progress_goes_through_every_epoch_once(quick, tmp_path):
    seen = []
    run(quick(epochs=2), tmp_path / "run", watch=seen.append)
    phases = {"mask rounds": 8, "federated training": 8, "central training": 1}
    assert [(step.phase, step.done, step.total) for step in seen] == [
        (phase, done, total) for phase, total in phases.items() for done in range(total)
    ]
    assert seen[7].text == "round 2/2, node 2/2, epoch 2/2"
    assert seen[16].text == "epoch 1/1"


def test_weights_of_votes_count(quick, tmp_path):
    one = run(quick(vote=weighted((1.0, 0.0), tau=1.0)), tmp_path / "one")
    both = run(quick(vote=share(1.0)), tmp_path / "both")
    assert one["sparsity"] == pytest.approx(1 - 0.75**2, abs=0.05)
    assert both["sparsity"] >= one["sparsity"]
    votes = read_lines(tmp_path / "one" / "rounds.jsonl")[0]["votes"]
    assert {count for counts in votes.values() for count in counts} == {0.0, 1.0}


# --- killed and started again ------------------------------------------------------------

many_runs = pytest.mark.usefixtures("types_unchecked")  # twice as fast

KILLABLE = {
    "mpfl": {},
    "carry": {"rewind": False},
    "pruning-fl": {"method": PRUNING_FL},
    "faulty": {"fault": random_mask(), "score": bn_scale},
}


@many_runs
@pytest.mark.parametrize("name", KILLABLE)
def test_stopped_at_any_epoch_a_run_ends_the_same(quick, tmp_path, name):
    experiment = quick(**KILLABLE[name])
    calls = []
    run(experiment, tmp_path / "whole", watch=calls.append)
    whole = result_of(tmp_path / "whole")
    assert len(calls) == 9
    for stop in (1, 3, 7):
        folder = tmp_path / str(stop)
        interrupted(experiment, folder, stop)
        assert not (folder / "summary.json").exists()
        left = []
        run(experiment, folder, resume=True, watch=left.append)
        assert len(calls) - stop <= len(left) <= len(calls)
        assert result_of(folder) == whole, f"stopped at epoch {stop}"


@many_runs
def test_stopped_at_any_write_a_run_ends_the_same(quick, tmp_path, monkeypatch):
    """The last moment before a file is renamed into place: its scratch file stays behind."""
    experiment = quick(rewind=False)
    replace, names = folder_module.os.replace, []

    def count(scratch, path):
        names.append(Path(path).name)
        replace(scratch, path)

    monkeypatch.setattr(folder_module.os, "replace", count)
    run(experiment, tmp_path / "whole")
    whole, writes = result_of(tmp_path / "whole"), list(names)
    assert writes[0] == "config.json" and writes[-1] == "summary.json" and len(writes) >= 14

    for stop in range(len(writes)):
        names.clear()

        def die(scratch, path, stop=stop):
            if len(names) == stop:
                raise Killed
            count(scratch, path)

        folder = tmp_path / str(stop)
        monkeypatch.setattr(folder_module.os, "replace", die)
        with pytest.raises(Killed):
            run(experiment, folder)
        monkeypatch.setattr(folder_module.os, "replace", count)
        run(experiment, folder, resume=True)
        assert result_of(folder) == whole, f"stopped at write {stop}, {writes[stop]}"


@many_runs
def test_killed_by_the_system_a_run_ends_the_same(quick, tmp_path):
    """A real process, SIGKILL, several times over in one folder."""
    experiment = quick(rewind=False, nodes=3, rounds=3, federated_rounds=3)
    run(experiment, tmp_path / "whole")
    folder = tmp_path / "killed"
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["mpfl.runs.runner", "sklearn.datasets"])

    def lines(name):
        return len(read_lines(folder / name))

    moments = {
        "it has a configuration": lambda: (folder / "config.json").exists(),
        "one round is done": lambda: lines("rounds.jsonl") >= 1,
        "two rounds are done": lambda: lines("rounds.jsonl") >= 2,
        "the mask is there": lambda: (folder / "mask.safetensors").exists(),
        "one final round is done": lambda: lines("federated.jsonl") >= 1,
        "two final rounds are done": lambda: lines("federated.jsonl") >= 2,
    }
    killed = []
    for moment, reached in moments.items():
        process = context.Process(target=run, args=(experiment, folder), kwargs={"resume": True})
        process.start()
        while process.is_alive() and not reached():
            time.sleep(0.001)
        process.kill()
        process.join()
        if process.exitcode == -signal.SIGKILL:
            killed.append(moment)
        else:
            assert process.exitcode == 0
    assert len(killed) >= 3, f"too fast to be killed, but when {killed}"
    run(experiment, folder, resume=True)
    assert result_of(folder) == result_of(tmp_path / "whole")


def test_a_damaged_checkpoint_is_refused(quick, tmp_path):
    interrupted(quick(), tmp_path / "run", 3)
    path = tmp_path / "run" / "checkpoint-rounds.safetensors"
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(MPFLError, match=r"checkpoint-rounds\.safetensors: damaged"):
        run(quick(), tmp_path / "run", resume=True)


@pytest.mark.parametrize("name", ["rounds", "federated"])
def test_a_run_whose_log_lost_a_line_is_not_gone_on_with(quick, tmp_path, name):
    calls = 0

    def enough(progress):
        nonlocal calls
        calls += len(log.read_text().splitlines()) >= 2 if log.exists() else 0
        if calls > 1:
            raise Killed

    log = tmp_path / "run" / f"{name}.jsonl"
    experiment = quick(rounds=3, federated_rounds=3)
    with pytest.raises(Killed):
        run(experiment, tmp_path / "run", watch=enough)
    lines = log.read_text().splitlines(keepends=True)
    for kept in (lines[:-1], lines[1:], []):
        log.write_text("".join(kept))
        before = contents(tmp_path / "run")
        with pytest.raises(MPFLError, match=rf"{name}\.jsonl: (holds|line 1 is not)"):
            run(experiment, tmp_path / "run", resume=True)
        assert contents(tmp_path / "run") == before
    log.write_text("".join(lines))
    run(experiment, tmp_path / "run", resume=True)
    run(experiment, tmp_path / "whole")
    assert result_of(tmp_path / "run") == result_of(tmp_path / "whole")


# --- folders in use ----------------------------------------------------------------------


@pytest.mark.parametrize("done", [True, False], ids=["finished", "unfinished"])
@pytest.mark.parametrize("resume", [True, False])
def test_a_run_of_another_configuration_is_left_alone(quick, tmp_path, resume, done):
    folder = tmp_path / "run"
    if done:
        run(quick(), folder)
    else:
        interrupted(quick(), folder, 3)
    before = on_disk(folder)
    says = r"another configuration \(vote: the default there, share\(tau=0\.5\) now\)"
    with pytest.raises(MPFLError, match=says):
        run(quick(vote=share(0.5)), folder, resume=resume)
    assert on_disk(folder) == before


def test_the_same_run_again_needs_resume(quick, tmp_path):
    interrupted(quick(), tmp_path / "run", 3)
    before = on_disk(tmp_path / "run")
    with pytest.raises(MPFLError, match="holds this run already; add --resume"):
        run(quick(), tmp_path / "run")
    assert on_disk(tmp_path / "run") == before


@contextmanager
def held(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """``folder`` as it is while another process runs it."""
    hold = "import sys, filelock; lock = filelock.FileLock(sys.argv[1]); lock.acquire(); "
    hold += "print(flush=True); sys.stdin.read()"
    words = [sys.executable, "-c", hold, str(folder / LOCK)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        other.stdout.readline()
        yield other
        other.kill()


def test_a_folder_that_another_process_runs_is_left_alone_until_it_ends(quick, tmp_path):
    folder = tmp_path / "run"
    interrupted(quick(), folder, 3)
    before = on_disk(folder)
    with held(folder):
        with pytest.raises(MPFLError, match="another process is running it; wait"):
            run(quick(), folder, resume=True)
        now = on_disk(folder)
        now.pop(LOCK)
        assert now == before
    assert run(quick(), folder, resume=True)["provenance"]["resumed"]
    assert not (folder / LOCK).exists()


def test_a_run_that_goes_on_at_another_commit_says_so(quick, tmp_path):
    folder = tmp_path / "run"
    interrupted(quick(), folder, 3)
    begun = read_json(folder / "checkpoint-code.json")
    write_json(folder / "checkpoint-code.json", begun | {"commit": "0123456789ab"})
    assert run(quick(), folder, resume=True)["provenance"]["begun"] == "0123456789ab"
    assert not (folder / "checkpoint-code.json").exists()

    interrupted(quick(), tmp_path / "same", 3)
    assert "begun" not in run(quick(), tmp_path / "same", resume=True)["provenance"]
    interrupted(quick(), tmp_path / "older", 3)
    (tmp_path / "older" / "checkpoint-code.json").unlink()
    older = run(quick(), tmp_path / "older", resume=True)["provenance"]
    assert older["begun"] == "unknown"


@pytest.mark.parametrize(("name", "other"), [("edition", 1), ("torch", "2.0.0")])
def test_a_run_does_not_go_on_with_other_digits(name, other, quick, tmp_path):
    folder = tmp_path / "run"
    interrupted(quick(), folder, 3)
    begun = read_json(folder / "checkpoint-code.json")
    write_json(folder / "checkpoint-code.json", begun | {name: other})
    before = on_disk(folder)
    with pytest.raises(MPFLError, match=rf"begun by {name} {other}, and this is {name} "):
        run(quick(), folder, resume=True)
    assert on_disk(folder) == before


def while_waiting(monkeypatch, what) -> None:
    """Do ``what`` when a run has checked everything and waits for its folder."""
    monkeypatch.setattr(runner, "_rehearse", lambda *_, **__: Timer(1, what).start())


def test_a_run_goes_on_as_soon_as_the_other_process_ends(quick, tmp_path, monkeypatch):
    folder = tmp_path / "run"
    interrupted(quick(), folder, 3)
    with held(folder) as other:
        while_waiting(monkeypatch, other.kill)
        assert run(quick(), folder, resume=True, wait=60)["provenance"]["resumed"]


def test_what_the_other_process_finished_meanwhile_is_not_run_again(quick, tmp_path, monkeypatch):
    folder = tmp_path / "run"
    run(quick(), folder)
    finished, aside = on_disk(folder), folder / "summary.json"
    aside.rename(tmp_path / "aside")

    def finish() -> None:
        (tmp_path / "aside").rename(aside)
        other.kill()

    with held(folder) as other:
        while_waiting(monkeypatch, finish)
        run(quick(), folder, resume=True, wait=60, command="another")
    assert on_disk(folder) == finished


def test_a_folder_that_another_run_took_meanwhile_is_left_alone(quick, tmp_path, monkeypatch):
    """Both begin in an empty folder; the other is first."""
    folder = tmp_path / "run"
    folder.mkdir()
    other_config = json.dumps(config_of(quick(seed=7)))

    def take() -> None:
        (folder / "config.json").write_text(other_config)
        other.kill()

    with held(folder) as other:
        while_waiting(monkeypatch, take)
        with pytest.raises(MPFLError, match=r"another configuration \(seed: 7 there"):
            run(quick(), folder, wait=60)
    assert (folder / "config.json").read_text() == other_config


def test_a_finished_run_is_not_run_again(quick, tmp_path):
    summary = run(quick(), tmp_path / "run")
    before = on_disk(tmp_path / "run")
    (tmp_path / "run" / "checkpoint-rounds.safetensors").write_bytes(b"left by a kill")
    assert run(quick(), tmp_path / "run", resume=True, watch=stop_after(0)) == summary
    assert on_disk(tmp_path / "run") == before


def test_a_run_from_before_a_field_was_added_goes_on(quick, tmp_path):
    interrupted(quick(), tmp_path / "run", 3)
    path = tmp_path / "run" / "config.json"
    config = read_json(path)
    del config["coding"], config["local"]["momentum"]
    write_json(path, config)
    run(quick(), tmp_path / "run", resume=True)
    assert read_json(path) == config_of(quick())


def test_a_folder_of_other_files_is_left_alone(quick, tmp_path):
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(MPFLError, match="is not empty and holds no run; choose another --out"):
        run(quick(), tmp_path, resume=True)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_file_is_no_folder(quick, tmp_path):
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(MPFLError, match="is a file; choose another --out"):
        run(quick(), tmp_path / "thesis.tex")


def test_an_empty_folder_will_do(quick, tmp_path):
    run(quick(), tmp_path)
    assert (tmp_path / "summary.json").exists()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"schedule": one_shot(0.99)}, "leaves layer 'features.0' with none of its 4 filters"),
        ({"quota": over_network(9)}, "a floor of 9 takes 21"),
        ({"w0": "nowhere.safetensors"}, "no file 'nowhere.safetensors'"),
        ({"partition": dirichlet(0.01), "images": 20, "nodes": 20}, "is left with no data"),
        ({"method": LOTTERY, "match": "nowhere"}, "nowhere holds no rounds"),
        ({"dataset": "digit"}, "did you mean 'digits'"),
        ({"model": "digits-cn"}, "did you mean 'digits-cnn'"),
    ],
)
def test_what_cannot_run_leaves_no_folder(quick, tmp_path, changes, says):
    with pytest.raises(MPFLError, match=says):
        run(quick(**changes), tmp_path / "run")
    assert not (tmp_path / "run").exists()


# --- controls ----------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["lottery", "w0-norms"])
def test_a_control_takes_over_the_counts_of_a_run(quick, tmp_path, method):
    only = {"central_epochs": 0, "federated_rounds": 0}
    spoilt = {"fault": random_mask(), "vote": share(1.0)}  # more goes than was planned
    run(quick(**spoilt, **only), tmp_path / "run")
    matched = quick(method, match=str(tmp_path / "run"), **only)
    run(matched, tmp_path / "control")
    run(quick(method, **only), tmp_path / "planned")
    lines = [
        [line["mask"] for line in read_lines(tmp_path / name / "rounds.jsonl")]
        for name in ("run", "control", "planned")
    ]

    def counts(rounds):
        return [
            [sum(bin(byte).count("1") for byte in bytes.fromhex(text)) for text in mask.values()]
            for mask in rounds
        ]

    assert counts(lines[0]) == counts(lines[1]) != counts(lines[2])
    assert lines[0] != lines[1]


def test_a_control_longer_than_the_run_it_matches_is_refused(quick, finished, tmp_path):
    control = quick("lottery", match=str(finished), rounds=3)
    with pytest.raises(MPFLError, match="has no round 3; ask for at most 2"):
        run(control, tmp_path / "control")
    assert not (tmp_path / "control").exists()


# --- no pickle ---------------------------------------------------------------------------


def test_no_file_of_a_run_is_a_pickle(quick, tmp_path):
    interrupted(quick(rewind=False), tmp_path / "run", 8)
    files = list((tmp_path / "run").iterdir())
    assert {"checkpoint-rounds.safetensors", "checkpoint-federated.safetensors"} < {
        path.name for path in files
    }
    for path in files:
        assert not path.read_bytes().startswith((b"\x80", b"PK")), path
        if path.suffix == ".json":
            json.loads(path.read_text())


def test_the_package_never_unpickles():
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            elif isinstance(node, ast.Attribute):
                names = [ast.unparse(node)]
            elif isinstance(node, ast.keyword) and node.arg == "allow_pickle":
                names = [] if ast.unparse(node.value) == "False" else ["allow_pickle"]
            refused = {"pickle", "cPickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}
            refused |= {"torch.load", "torch.save", "allow_pickle"}
            found += [f"{path.name}: {name}" for name in names if name in refused]
    assert found == []
