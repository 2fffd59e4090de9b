"""How a run is, as its folder tells."""

from __future__ import annotations

import json
import math
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("flwr", reason="the engine is not installed")

from filelock import FileLock
from prometheus_client.parser import text_string_to_metric_families
from test_flower import FAULTS, served

from mpfl.flower import server
from mpfl.flower.__main__ import main as flower
from mpfl.flower.answers import read_answers, recorder
from mpfl.flower.overview import overview
from mpfl.runs.folder import read_lines
from mpfl.runs.runner import LOCK


def test_a_run_is_told_by_rounds_and_by_nodes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    grid, context = served(folder)
    grid.faults[(1, "masks 2")] = FAULTS["cut short"][0]
    server.serve(grid, context)
    assert flower(["status", str(folder)]) == 0
    head, masks_, final, *nodes = capsys.readouterr().out.splitlines()
    lines = read_lines(folder / "rounds.jsonl")
    up = sum(line["bytes_up"] for line in lines)
    assert head == f"{folder}: finished"
    assert masks_.startswith("mask rounds: 2 of 2 closed, ") and masks_.endswith(
        f" {up:,} bytes up"
    )
    assert final.startswith("final training: 1 of 1 closed, ")
    assert [line[:7] for line in nodes] == ["node 0:", "node 1:", "node 2:"]
    assert "left out of masks 2" in nodes[1] and "too short" in nodes[1]
    assert "left out" not in nodes[0] + nodes[2]


def test_the_round_that_is_open_is_told_while_the_run_is_there(tmp_path: Path) -> None:
    begun = {"rounds": 3, "federated_rounds": 0, "nodes": 2}
    (tmp_path / "config.json").write_text(json.dumps(begun))
    tell, now = recorder(tmp_path), time.time()
    tell("masks 1", None, 0, "")
    tell("masks 1", 0, 300, "")
    tell("masks 1", -1, 0, "partition-id is None")
    with FileLock(tmp_path / LOCK):
        said = overview(tmp_path, now + 5)
    assert said[0] == f"{tmp_path}: running"
    assert said[1:4] == [
        "mask rounds: 0 of 3 closed",
        "open: masks 1, asked 5 s ago, 1 of 2 nodes count",
        "node 0: 300 bytes for masks 1, 5 s ago",
    ]
    assert said[4:] == [
        "node 1: no answer yet",
        "node ?: left out of masks 1, 5 s ago: partition-id is None",
    ]
    stopped = overview(tmp_path, now)
    assert stopped[0].endswith("not running; the same command goes on")
    assert not any(line.startswith("open:") for line in stopped)


def test_a_run_that_claims_millions_of_nodes_is_told_at_once(tmp_path: Path) -> None:
    """And those that answered are all there."""
    begun = {"rounds": 3, "federated_rounds": 0, "nodes": 10_000_000}
    (tmp_path / "config.json").write_text(json.dumps(begun))
    tell, began = recorder(tmp_path), time.time()
    for node in (5_000_000, 0, 10_000_000):  # the last one is no node of this run
        tell("masks 1", node, 300, "")
    said = overview(tmp_path, began)
    assert [line for line in said if "300 bytes" in line] == [
        "node 0: 300 bytes for masks 1, 0 s ago",
        "node 5000000: 300 bytes for masks 1, 0 s ago",
    ]
    assert said[-1] == "the other 9,998,999 nodes: no answer yet" and len(said) < 1010
    file = tmp_path / "mpfl.prom"
    assert flower(["metrics", str(tmp_path), "--to", str(file)]) == 0
    counted = [line for line in file.read_text().splitlines() if "mpfl_node_last_counted" in line]
    assert sum('node="5000000"' in line for line in counted) == 1 and len(counted) < 1010
    assert time.time() - began < 10


def test_a_folder_without_a_run_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert flower(["status", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert said.startswith("mpfl: ") and said.count("\n") == 1 and "no run has begun" in said


@pytest.mark.parametrize("text", ['{"rounds": 2, "nodes": 3}', '{"rounds": "two"}', "no JSON"])
@pytest.mark.parametrize("words", [["status"], ["metrics", "--to", "mpfl.prom"]])
def test_a_damaged_configuration_is_named_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], text: str
) -> None:
    (tmp_path / "config.json").write_text(text)
    assert flower([words[0], str(tmp_path), *words[1:]]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and f"{tmp_path / 'config.json'}: damaged (" in said
    assert not Path("mpfl.prom").exists()


@pytest.mark.parametrize("value", [None, "much", "gone"])
@pytest.mark.parametrize("words", [["status"], ["metrics", "--to", "mpfl.prom"]])
def test_a_damaged_round_is_named_in_one_line(
    tmp_path: Path, finished: Path, capsys: pytest.CaptureFixture[str], words: list[str], value: Any
) -> None:
    shutil.copytree(finished, tmp_path / "run")
    path = tmp_path / "run" / "rounds.jsonl"
    lines = [{**line, "bytes_up": value} for line in read_lines(path)]
    for line in lines if value == "gone" else ():
        del line["bytes_up"]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert flower([words[0], str(tmp_path / "run"), *words[1:]]) == 2
    said = capsys.readouterr().err
    assert said == f"mpfl: {path}: line 1: is damaged (it holds no bytes_up); run it again\n"
    assert not Path("mpfl.prom").exists()


def test_a_damaged_answer_is_left_out(tmp_path: Path, finished: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    good = {"at": 1.0, "group": "masks 1", "node": 0, "length": 5, "why": "a\nb"}
    damaged = [
        {**good, key: value}
        for key, values in {
            "at": ("now", None, math.nan), "group": (None,), "node": ("0", [0]),
            "length": ("5", None), "why": (["late"],), "more": (1,),
        }.items()
        for value in values
    ]  # fmt: skip
    lines = ["null", "[" * 100_000, *map(json.dumps, [*damaged, good])]
    (folder / "answers.jsonl").write_text("".join(line + "\n" for line in lines))
    [heard] = read_answers(folder)
    assert str(heard) == r"masks 1, node 0: a\nb"
    assert overview(folder, 2.0)[3].startswith("node 0: left out of masks 1, 1 s ago")
    assert flower(["metrics", str(folder), "--to", str(tmp_path / "mpfl.prom")]) == 0


def test_the_metrics_are_those_of_the_status(tmp_path: Path) -> None:
    folder, file = tmp_path / "run", tmp_path / "mpfl.prom"
    grid, context = served(folder)
    grid.faults[(1, "masks 2")] = FAULTS["cut short"][0]
    server.serve(grid, context)
    assert flower(["metrics", str(folder), "--to", str(file)]) == 0
    read = {
        (each.name, *(value for key, value in each.labels.items() if key != "run")): each.value
        for family in text_string_to_metric_families(file.read_text())
        for each in family.samples
    }
    lines = read_lines(folder / "rounds.jsonl")
    assert read["mpfl_run_finished",] == 1 and read["mpfl_run_running",] == 0
    assert read["mpfl_rounds_closed", "masks"] == read["mpfl_rounds_due", "masks"] == 2
    assert read["mpfl_payload_bytes", "up", "masks"] == sum(line["bytes_up"] for line in lines)
    assert [read["mpfl_node_left_out", node] for node in "012"] == [0, 1, 0]
    assert 0 < time.time() - read["mpfl_node_last_counted_seconds", "0"] < 600
    assert [*tmp_path.glob("*.prom*")] == [file]


def test_metrics_of_a_folder_whose_name_is_no_text(tmp_path: Path, finished: Path) -> None:
    folder, file = tmp_path / "naïve \udcff", tmp_path / "mpfl.prom"
    shutil.copytree(finished, folder)
    assert flower(["metrics", str(folder), "--to", str(file)]) == 0
    families = text_string_to_metric_families(file.read_text())
    runs = {each.labels["run"] for family in families for each in family.samples}
    assert runs == {f"{tmp_path}/naïve \\udcff"}


def test_a_file_that_prometheus_does_not_read_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "config.json").write_text("{}")
    assert flower(["metrics", str(tmp_path), "--to", str(tmp_path / "out.txt")]) == 2
    said = capsys.readouterr().err
    assert "end in .prom" in said and said.count("\n") == 1
    assert not (tmp_path / "out.txt").exists()
