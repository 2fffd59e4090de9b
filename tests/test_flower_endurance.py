"""A deployment whose processes are killed, hang, or come back: `make test-slow`.

Real processes, with TLS and keys, on this machine. Each test takes minutes: the engine notices
a dead node after about 40 s.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("flwr", reason="the engine is not installed")

from test_flower import CONFIG, EXPERIMENT, same_run, submit, wait_until

from mpfl.flower import launch
from mpfl.flower.engine import Engine
from mpfl.runs.folder import read_json, read_lines
from mpfl.runs.runner import run
from mpfl.types import MPFLError

pytestmark = pytest.mark.endurance
ROOT = Path("data").resolve()


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    with launch.superlink(tmp_path / "engine", simulation=False) as engine:
        for node in range(3):
            launch.add_node(engine, node, ROOT)
        yield engine


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plain") / "run"
    run(EXPERIMENT, folder)
    return folder


def rounds(folder: Path) -> int:
    return len(read_lines(folder / "rounds.jsonl"))


def test_a_killed_node_is_left_out_and_counts_again_when_it_is_back(
    engine: Engine, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    longer = CONFIG["set"].replace("rounds=2", "rounds=5") + ";schedule=linear(0.6)"
    begun = submit(engine, out, set=longer, deadline=150.0)
    wait_until(lambda: rounds(out) >= 1, 300)
    engine.stop("node1", signal.SIGKILL)
    wait_until(lambda: any("left_out" in line for line in lines(out)), 240)
    launch.start_node(engine, "node1", engine.folder / "node1.key", 1, ROOT)
    launch.wait(engine, begun, 600)
    missing = [set(line.get("left_out", {})) for line in lines(out)]
    assert {"1"} in missing
    assert all(each <= {"1"} for each in missing)
    assert read_json(out / "nodes.json")["left_out"] == {}, "it is back by then"


def lines(folder: Path) -> list[dict[str, object]]:
    return read_lines(folder / "rounds.jsonl")


def test_a_killed_server_goes_on_from_its_last_closed_round(plain: Path, tmp_path: Path) -> None:
    out, folder = tmp_path / "run", tmp_path / "engine"
    with launch.superlink(folder, simulation=False) as engine:
        for node in range(3):
            launch.add_node(engine, node, ROOT)
        submit(engine, out)
        wait_until(lambda: rounds(out) >= 1, 300)
        engine.stop("superlink", signal.SIGKILL)
    assert not (out / "summary.json").exists()
    with launch.superlink(folder, simulation=False) as engine:
        for node in range(3):
            launch.add_node(engine, node, ROOT)
        launch.wait(engine, submit(engine, out), 400)
    same_run(plain, out)


def test_a_node_that_hangs_does_not_hold_the_round(engine: Engine, tmp_path: Path) -> None:
    """Its process is stopped, as if the machine had frozen; the round closes at its deadline."""
    out = tmp_path / "run"
    begun = submit(engine, out, deadline=60.0)
    wait_until(lambda: rounds(out) >= 1, 300)
    for process in family(engine.processes["node2"].pid):
        os.kill(process, signal.SIGSTOP)
    try:
        launch.wait(engine, begun, 400)
    finally:
        for process in family(engine.processes["node2"].pid):
            os.kill(process, signal.SIGCONT)
    assert "2" in lines(out)[1]["left_out"]


def family(leader: int) -> list[int]:
    """The processes of a group."""
    listed = subprocess.run(
        ["ps", "-eo", "pid=,pgid="], capture_output=True, text=True, check=True
    ).stdout.split()
    pairs = zip(listed[::2], listed[1::2], strict=True)
    return [int(pid) for pid, group in pairs if int(group) == leader]


@pytest.mark.overnight  # make test has it in one process
def test_too_few_nodes_end_the_run_with_the_reason(tmp_path: Path) -> None:
    with launch.superlink(tmp_path / "engine", simulation=False) as engine:
        launch.add_node(engine, 0, ROOT)
        begun = submit(engine, tmp_path / "run", deadline=60.0, patience=20.0)
        says = r"1 valid replies, the quorum is 2 \(node 1: not connected"
        with pytest.raises(MPFLError, match=says):
            launch.wait(engine, begun, 200)
