"""Nodes side by side: the same result to the last bit, and no process left behind."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from toys import result_of

from mpfl.allocate import of_what_is_left
from mpfl.analysis.faults import random_mask
from mpfl.data.noise import gaussian
from mpfl.nets.settings import Settings
from mpfl.runs.folder import read_lines
from mpfl.runs.methods import LTH, PRUNING_FL
from mpfl.runs.progress import Progress
from mpfl.runs.runner import run
from mpfl.runs.workbench import Workbench
from mpfl.runs.workers import Workers, default_workers
from mpfl.types import MPFLError

slow = pytest.mark.slow  # each process imports torch for itself

RUNS = {
    "faulty": {"nodes": 3, "fault": random_mask()},  # and more nodes than workers
    "carry": {"rewind": False, "data_noise": gaussian(0.2)},
    "pruning-fl": {"method": PRUNING_FL},
    "lth": {"method": LTH},
    "published": {"head": "fresh", "prunes": "weight", "quota": of_what_is_left()},
}


def children():
    return set(multiprocessing.active_children())


def kill_the_workers():
    for child in children():
        child.kill()


@pytest.fixture
def quick_start(monkeypatch):
    """Workers are forked by a fresh process that has imported torch: seconds less for each.

    For tests that are not about how they start; others spawn them, as users do.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["mpfl.runs.workers"])
    monkeypatch.setattr(multiprocessing, "get_context", lambda method: context)


@pytest.fixture(autouse=True)
def nothing_is_left_behind():
    before = children()
    yield
    assert children() <= before


# --- the same result ---------------------------------------------------------------------


@slow
@pytest.mark.parametrize("name", RUNS)
def test_how_many_workers_there_are_changes_the_time_and_nothing_else(
    quick, tmp_path, name, request
):
    if name != "faulty":
        request.getfixturevalue("quick_start")
    experiment = quick(**RUNS[name])
    alone = run(experiment, tmp_path / "alone")
    beside, seen = set(), []

    def watch(step):
        beside.update(child.pid for child in children())
        seen.append(step)

    together = run(experiment, tmp_path / "together", workers=2, watch=watch)
    one, two = (result_of(tmp_path / name) for name in ("alone", "together"))
    assert {"mask.safetensors", "central.safetensors", "rounds.jsonl"} < set(one)
    assert one == two
    assert (alone["workers"], together["workers"]) == (1, 2)

    nodes = len(Workbench(experiment).parties.trainers)
    assert 1 <= len(beside) <= 2
    rounds = [(r, n) for r in (1, 2) for n in range(nodes)]
    assert seen[: len(rounds)] == [
        Progress(
            "mask rounds",
            done,
            2 * nodes,
            f"round {round_}/2, node {node + 1}/{nodes}, epoch 1/1",
        )
        for done, (round_, node) in enumerate(rounds)
    ]


def test_one_worker_is_this_process(quick, tmp_path):
    beside = []
    run(quick(), tmp_path / "run", workers=1, watch=lambda step: beside.append(children()))
    assert beside and not any(beside)


# --- when something goes wrong -----------------------------------------------------------


@slow
@pytest.mark.usefixtures("quick_start")
def test_what_is_wrong_on_a_worker_is_said_here(quick, tmp_path):
    experiment = quick(local=Settings(lr=1e30, batch=8))
    said = []
    for count in (1, 2):
        with pytest.raises(MPFLError, match=r"^node 0, round 1: the training loss is nan") as error:
            run(experiment, tmp_path / str(count), workers=count)
        said.append(str(error.value))
    assert said[0] == said[1]


@slow
@pytest.mark.usefixtures("quick_start")
def test_a_worker_that_dies_is_told_and_the_run_goes_on_later(quick, tmp_path):
    experiment = quick()
    run(experiment, tmp_path / "whole")

    def die(step):
        if step.text.startswith("round 2"):
            kill_the_workers()

    with pytest.raises(MPFLError, match=r"a worker process died, .* --resume and fewer --workers"):
        run(experiment, tmp_path / "run", workers=2, watch=die)
    assert len(read_lines(tmp_path / "run" / "rounds.jsonl")) == 1
    run(experiment, tmp_path / "run", resume=True)
    assert result_of(tmp_path / "run") == result_of(tmp_path / "whole")


@slow
@pytest.mark.usefixtures("quick_start")
def test_a_worker_that_dies_in_the_central_training_is_told(quick, tmp_path, monkeypatch):
    begin = Workers.train_centrally

    def begin_and_die(self, mask):
        trained = begin(self, mask)
        kill_the_workers()
        return trained

    monkeypatch.setattr(Workers, "train_centrally", begin_and_die)
    with pytest.raises(MPFLError, match="a worker process died"):
        run(quick(federated_rounds=0), tmp_path / "run", workers=2)


@slow
def test_leaving_by_an_error_ends_the_processes_at_once(quick):
    experiment = quick(central_epochs=3_000)
    bench = Workbench(experiment)
    algorithm = bench.algorithm()
    state = algorithm.init(bench.start)
    w0, message = algorithm.join(algorithm.start(state)), algorithm.broadcast(state, 1)
    with pytest.raises(ZeroDivisionError), Workers(experiment, Path("data"), 1) as pool:
        (reply,) = pool.run_nodes(None, 1, lambda *_: None)(1, message, [w0])
        assert reply.memory is w0, "what did not change has travelled"
        pool.train_centrally(state.mask)
        time.sleep(0.5)
        assert len(children()) == 1
        began = time.monotonic()
        raise ZeroDivisionError
    assert time.monotonic() - began < 5
    assert not children()


def processes_of(parent):
    """The process numbers of a process's children, from /proc."""
    found = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            _, _, rest = stat.read_text().rpartition(")")
        except OSError:  # it has just ended
            continue
        state, its_parent = rest.split()[:2]
        if int(its_parent) == parent and state != "Z":
            found.add(int(stat.parent.name))
    return found


def alive(pids):
    """Those that still run; one that nobody has buried yet does not."""
    found = set()
    for pid in pids:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if state != "Z":
            found.add(pid)
    return found


@slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for processes in /proc")
@pytest.mark.parametrize("how", ["SIGKILL", "Ctrl-C"])
def test_no_worker_outlives_the_run(tmp_path, how):
    """One worker is busy with the central training, the other has nothing to do."""
    folder = tmp_path / "run"
    words = ["run", "digits", "--budget", "toy", "--out", folder, "--workers", "2"]
    small = {"images": 120, "nodes": 2, "rounds": 2, "epochs": 1, "width": 0.25}
    small |= {"central_epochs": 100_000, "federated_rounds": 0}
    words += [f"--set={name}={value}" for name, value in small.items()]

    def allow_interrupts():  # a shell that runs the tests in the background turns them off
        signal.signal(signal.SIGINT, signal.default_int_handler)

    process = subprocess.Popen(
        [sys.executable, "-m", "mpfl", *words],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=allow_interrupts,
    )
    while process.poll() is None and not (folder / "mask.safetensors").exists():
        time.sleep(0.01)
    time.sleep(0.5)
    left = processes_of(process.pid)
    try:
        assert len(left) >= 2, "there are no workers to look at"
        if how == "SIGKILL":
            process.kill()
            process.wait()
        else:  # a terminal tells every process at once
            os.killpg(process.pid, signal.SIGINT)
            assert process.wait(30) == 130
            said = process.stderr.read()
            assert said == "mpfl: stopped; add --resume to the same command to go on\n"
        deadline = time.monotonic() + 10
        while alive(left) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert not alive(left)
    finally:
        process.stderr.close()
        for pid in alive(left | {process.pid}):
            os.kill(pid, signal.SIGKILL)


# --- how many ----------------------------------------------------------------------------


@pytest.mark.parametrize("count", [0, -1])
def test_at_least_one_worker_is_asked_for(quick, count):
    with pytest.raises(MPFLError, match=f"^workers is {count}; give at least 1$"):
        Workers(quick(), Path("data"), count)


@pytest.mark.parametrize(
    ("cores", "nodes", "gpu", "count"),
    [
        (8, 3, False, 3),
        (2, 10, False, 2),
        (16, 10, False, 10),
        (1, 10, False, 1),
        (16, 10, True, 4),
        (2, 10, True, 2),
        (16, 3, True, 3),
    ],
)
def test_one_worker_a_core_but_no_more_than_nodes(monkeypatch, cores, nodes, gpu, count):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)), raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    assert default_workers(nodes) == count


def test_where_a_system_does_not_tell_which_cores_all_count(monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 5)
    assert default_workers(10) == 5
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert default_workers(10) == 1


def test_what_no_file_holds_is_refused_by_name(quick, tmp_path):
    def mine(round_, rounds):
        return 0.5

    with pytest.raises(MPFLError, match=r"cannot be sent this experiment.*workers=1"):
        run(quick(schedule=mine), tmp_path / "run", workers=2)
    assert run(quick(schedule=mine), tmp_path / "alone")["sparsity"] >= 0.5
    assert not (tmp_path / "run").exists()


SCRIPT = """
from pathlib import Path
import mpfl

def begin():
    experiment = mpfl.recipe("digits", "toy", nodes=2, rounds=1, epochs=1, images=80,
                             central_epochs=1, federated_rounds=1, width=0.25)
    try:
        mpfl.run(experiment, Path("run"), workers=2)
    except mpfl.MPFLError as error:
        raise SystemExit(str(error))

with open("begun", "a") as begun:
    begun.write("once ")
{call}
"""
GUARD = 'if __name__ == "__main__":'


def script(folder, call, *words, **how):
    """What a script said that starts a run by ``call``, and how often it began."""
    (folder / "script.py").write_text(SCRIPT.replace("{call}", call))
    done = subprocess.run(
        [sys.executable, *words], cwd=folder, capture_output=True, text=True, timeout=120, **how
    )
    return done, (folder / "begun").read_text().split()


@slow
@pytest.mark.parametrize("call", [f"{GUARD}\n    begin()", f"begin() {GUARD[:-1]} else None"])
def test_a_script_that_guards_its_run_is_run(tmp_path, call):
    done, begun = script(tmp_path, call, "script.py")
    assert (done.returncode, done.stderr) == (0, "")
    assert begun.count("once") == 3, "the workers import it, and start nothing"
    assert (tmp_path / "run" / "summary.json").exists()


@slow
@pytest.mark.parametrize("words", [["script.py"], ["-m", "script"]])
@pytest.mark.parametrize("call", ["begin()", "if True:\n    begin()"])
def test_a_script_that_would_run_again_in_its_workers_is_refused(tmp_path, words, call):
    done, begun = script(tmp_path, call, *words)
    assert done.returncode == 1 and begun == ["once"]
    assert len(done.stderr.splitlines()) == 1 and "Traceback" not in done.stderr
    assert f"would run this again; put it below {GUARD}, or run it with workers=1" in done.stderr
    line = len(SCRIPT.splitlines()) + call.count("\n")
    assert f"script.py, line {line}: " in done.stderr
    assert not (tmp_path / "run").exists()


@slow
def test_a_script_from_standard_input_is_refused(tmp_path):
    text = SCRIPT.replace("{call}", f"{GUARD}\n    begin()")
    done, begun = script(tmp_path, "pass", "-", input=text)
    assert done.returncode == 1 and begun == ["once"]
    assert done.stderr == (
        "worker processes cannot read a script from <stdin>; put it in a file, or run it with "
        "workers=1\n"
    )
    assert not (tmp_path / "run").exists()
