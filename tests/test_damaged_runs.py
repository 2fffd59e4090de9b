"""A run folder of which something is damaged: one line that names it, and nothing is made of it."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from safetensors import safe_open

from mpfl.__main__ import main
from mpfl.evidence import reproduce, samples
from mpfl.evidence.cells import Cell
from mpfl.evidence.order import core_minutes
from mpfl.runs import phases
from mpfl.runs.experiment import slug_of
from mpfl.runs.folder import SEAL
from mpfl.runs.record import keep_record, read_run
from mpfl.runs.runner import run
from mpfl.show.listing import print_cells
from mpfl.types import MPFLError

Damage = Callable[[Path], None]


def holds(name: str, content: bytes) -> Damage:
    return lambda folder: (folder / name).write_bytes(content) and None


def cut(name: str) -> Damage:
    def half(folder: Path) -> None:
        whole = (folder / name).read_bytes()
        (folder / name).write_bytes(whole[: len(whole) // 2])

    return half


def turned(name: str, place: int) -> Damage:
    """One bit of a file is another, ``place`` bytes from its end."""

    def one_bit(folder: Path) -> None:
        content = bytearray((folder / name).read_bytes())
        content[-place] ^= 1
        (folder / name).write_bytes(content)

    return one_bit


def edited(name: str, edit: Callable[[dict[str, Any]], Any]) -> Damage:
    """A JSON file, or every line of a log, after ``edit``."""

    def apply(folder: Path) -> None:
        path = folder / name
        texts = path.read_text().splitlines() if path.suffix == ".jsonl" else [path.read_text()]
        values = [json.loads(text) for text in texts]
        for value in values:
            edit(value)
        path.write_text("".join(json.dumps(value) + "\n" for value in values))

    return apply


def pipe(name: str) -> Damage:
    """A pipe that nobody writes into: who opens it waits for ever."""

    def apply(folder: Path) -> None:
        (folder / name).unlink()
        os.mkfifo(folder / name)

    return apply


def fewer_lines(folder: Path) -> None:
    path = folder / "rounds.jsonl"
    path.write_text(path.read_text().splitlines(keepends=True)[0])


def tensors(name: str, edit: Callable[[str, np.ndarray], np.ndarray | None], **meta: str) -> Damage:
    """A safetensors file after ``edit`` of each tensor, where None leaves it out."""

    def apply(folder: Path) -> None:
        with safe_open(folder / name, "numpy") as file:
            said = (file.metadata() or {}) | meta
            said.pop(SEAL, None)  # as if another program had written it
            arrays = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        new = {
            key: after for key, array in arrays.items() if (after := edit(key, array)) is not None
        }
        (folder / name).write_bytes(safetensors.numpy.save(new, said))

    return apply


# What is damaged, and what the line says, to `compare`, `record` and `export`.
FINISHED: dict[str, tuple[Damage, str]] = {
    "a configuration of nothing": (holds("config.json", b"null"), "damaged .*holds no fields"),
    "a configuration in a list": (holds("config.json", b"[[]]"), "damaged .*holds no fields"),
    "a configuration in no UTF-8": (holds("config.json", b"\xff\xfe"), "config.json: damaged"),
    "a configuration too deep": (holds("config.json", b"[" * 100_000), "config.json: damaged"),
    **{
        f"no {name}": (
            edited("config.json", lambda config, name=name: config.pop(name)),
            f"its configuration has no '{name}'",
        )
        for name in ("recipe", "budget", "method", "seed", "vote")
    },
    "another setting": (
        edited("config.json", lambda config: config["local"].update(lr=9)),
        "its configuration is that of .*, but its summary that of",
    ),
    "no settings": (edited("config.json", lambda c: c.pop("local")), "its configuration is that"),
    "a summary of nothing": (holds("summary.json", b"null"), "damaged .*no results"),
    "half a summary": (cut("summary.json"), "summary.json: damaged"),
    "an empty summary": (holds("summary.json", b"{}"), "but its summary that of None"),
    **{
        f"a summary without {name}": (
            edited("summary.json", lambda summary, name=name: summary.pop(name)),
            f"its summary is damaged \\({name} is None\\)",
        )
        for name in ("sparsity", "parameters", "parameters_dense")
    },
    "no accuracy": (
        edited("summary.json", lambda summary: summary.pop("accuracy_central")),
        "accuracy_central is None",
    ),
    "an accuracy in words": (
        edited("summary.json", lambda summary: summary.update(accuracy_federated="high")),
        "accuracy_federated is 'high'",
    ),
    "an accuracy in percent": (
        edited("summary.json", lambda summary: summary.update(accuracy_central=97.5)),
        "accuracy_central is 97.5",
    ),
    "no bytes": (edited("summary.json", lambda summary: summary.pop("bytes")), "other bytes than"),
    "no provenance": (
        edited("summary.json", lambda summary: summary.pop("provenance")),
        "provenance is None",
    ),
    "rounds lost": (fewer_lines, "counts other bytes than its rounds"),
    "no rounds": (lambda folder: (folder / "rounds.jsonl").unlink(), "other bytes than its rounds"),
    "a pipe for a summary": (pipe("summary.json"), "summary.json: is no file"),
    "a pipe for a log": (pipe("rounds.jsonl"), "rounds.jsonl: is no file"),
    "a line of nothing": (holds("rounds.jsonl", b"null\n"), "line 1 is not that of round 1"),
    "a log in no UTF-8": (holds("federated.jsonl", b"\xff\n"), "federated.jsonl: damaged"),
    "a line without bytes": (
        edited("rounds.jsonl", lambda line: line.pop("bytes_up")),
        "rounds 1: is damaged .*no bytes_up",
    ),
}


def refusal(words: str, says: str, capsys: pytest.CaptureFixture[str]) -> str:
    """What the command says on standard error, in one line and nowhere else; it ends with 2."""
    assert main(words.split()) == 2
    out, err = capsys.readouterr()
    assert out == "" and re.fullmatch(r"mpfl: [^\n]+\n", err), err
    assert re.search(says, err), err
    return err


@pytest.mark.parametrize("kind", FINISHED)
def test_a_damaged_run_is_neither_compared_nor_kept_nor_exported(
    kind: str,
    finished: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    damage, says = FINISHED[kind]
    monkeypatch.chdir(tmp_path)
    shutil.copytree(finished, "run")
    damage(Path("run"))
    for words in ("compare run", "record run --to kept", "export run --onnx new.onnx"):
        assert refusal(words, says, capsys).startswith("mpfl: run")
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


CELL = Cell(
    "vote", "digits", 0, budget="toy",
    changes=("images=120", "nodes=2", "rounds=2", "epochs=1", "width=0.25", "central_epochs=1",
             "federated_rounds=2"),
)  # fmt: skip
"""The run of ``finished``, as a table of the evidence would have it."""


def summary(**values: Any) -> Damage:
    return edited(CELL.file, lambda record: record["summary"].update(values))


RECORDS: dict[str, tuple[Damage, str]] = {
    "another accuracy": (
        summary(accuracy_federated=0.99),
        "its summary says accuracy_federated is 0.99, but its last round",
    ),
    "another sparsity": (summary(sparsity=0.1), "its summary says sparsity is 0.1, but its last"),
    "half a record": (cut(CELL.file), "damaged"),
    "no record": (holds(CELL.file, b"null"), "is no recorded run"),
    "an accuracy in words": (summary(accuracy_central="high"), "accuracy_central is 'high'"),
    "an accuracy in percent": (summary(accuracy_federated=97.5), "accuracy_federated is 97.5"),
    "an accuracy that is none": (summary(accuracy_central=math.nan), "accuracy_central is nan"),
    "a sparsity of 7": (summary(sparsity=7), "sparsity is 7"),
    "a sparsity of nothing": (summary(sparsity=None), "sparsity is None"),
    "seconds in words": (summary(seconds={"central": "long"}), "seconds is {'central': 'long'}"),
    "seconds below 0": (summary(seconds={"central": -1}), "seconds is"),
    "seconds that are none": (summary(seconds={"central": math.nan}), "seconds is"),
    "seconds in a list": (summary(seconds=[1]), r"seconds is \[1\]"),
    "no provenance": (summary(provenance=None), "provenance is None"),
    "no machine": (summary(provenance={"commit": "a", "machine": None}), "provenance is"),
    "no commit": (summary(provenance={}), "provenance is"),
    "another configuration": (
        edited(CELL.file, lambda record: record["config"].update(seed=9)),
        "its configuration is that of",
    ),
    "another cell": (
        edited(
            CELL.file,
            lambda record: (
                record["config"].update(seed=9),
                record["summary"].update(identity=slug_of(record["config"])[-8:]),
            ),
        ),
        "is the record of digits-toy-[0-9a-f]{8}; move it to",
    ),
}


@pytest.mark.parametrize("kind", RECORDS)
def test_a_damaged_record_is_neither_listed_nor_checked_nor_taken_as_evidence(
    kind: str, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    damage, says = RECORDS[kind]
    assert keep_record(read_run(finished), tmp_path).name == CELL.file
    assert CELL.recorded_in(tmp_path).folder == tmp_path / CELL.file
    damage(tmp_path)
    monkeypatch.setattr(samples, "cells_of", lambda table, budget: [CELL])
    monkeypatch.setattr(reproduce, "_run", None)  # it is refused before the run
    places = {"results": tmp_path, "runs": tmp_path / "runs", "root": Path("data")}
    for ask in (
        lambda: print_cells([CELL], tmp_path),
        lambda: core_minutes([CELL], tmp_path),
        lambda: samples.rows_of("a table", results=tmp_path),
        lambda: reproduce.repeat(CELL, **places),
    ):
        with pytest.raises(MPFLError, match=says) as refused:
            ask()
        assert "\n" not in str(refused.value)


WEIGHTS: dict[str, tuple[Damage, str]] = {
    "half a mask": (cut("mask.safetensors"), "mask.safetensors: damaged"),
    "a mask of another model": (
        holds("mask.safetensors", safetensors.numpy.save({"x": np.ones(3, bool)})),
        r"run/mask.safetensors: mask names layers \['x'\]",
    ),
    "another mask": (
        tensors("mask.safetensors", lambda name, bits: bits | True),
        "mask.safetensors is not that of its summary",
    ),
    "no mask": (
        lambda folder: (folder / "mask.safetensors").unlink(),
        "is not there; run it again",
    ),
    "half the weights": (cut("model.safetensors"), "model.safetensors: damaged"),
    **{
        f"a bit of the {what}, {place} bytes from the end": (
            turned(f"{what}.safetensors", place),
            f"{what}.safetensors: damaged .its hash is not that of its content.; run it again",
        )
        for what, places in (("model", (1, 99, 999, 5555)), ("mask", (1, 20)))
        for place in places
    },
    "weights of a run with another mask": (
        tensors("model.safetensors", lambda name, array: np.ones_like(array)),
        "model.safetensors: has filters that its mask pruned, so it is of another run",
    ),
    "smaller weights": (
        tensors("model.safetensors", lambda name, array: array[:1]),
        "must be .*: it is of another model",
    ),
    "weights of whole numbers": (
        tensors("model.safetensors", lambda name, array: array.astype(np.int32)),
        "are int32; give floats",
    ),
}


@pytest.mark.parametrize("kind", WEIGHTS)
def test_damaged_weights_are_not_exported(
    kind: str,
    finished: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    damage, says = WEIGHTS[kind]
    monkeypatch.chdir(tmp_path)
    shutil.copytree(finished, "run")
    damage(Path("run"))
    refusal("export run --onnx new.onnx", says, capsys)
    assert not Path("new.onnx").exists()


class Stopped(Exception):
    pass


@pytest.fixture(scope="module")
def begun(quick: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that was stopped after its first round."""
    folder = tmp_path_factory.mktemp("begun") / "run"
    save = phases.save_checkpoint

    def save_and_stop(path: Path, log: Any) -> None:
        save(path, log)
        raise Stopped

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Stopped):
        patch.setattr(phases, "save_checkpoint", save_and_stop)
        run(quick(), folder)
    return folder


CHECKPOINT = "checkpoint-rounds.safetensors"


def made_a_folder(folder: Path) -> None:
    (folder / CHECKPOINT).unlink()
    (folder / CHECKPOINT).mkdir()


def same(name: str, array: np.ndarray) -> np.ndarray:
    return array


BEGUN: dict[str, tuple[Damage, str]] = {
    **{
        f"a bit of the checkpoint, {place} bytes from the end": (
            turned(CHECKPOINT, place),
            r"damaged \(its hash is not that of its content\); start the run again elsewhere",
        )
        for place in (1, 99, 999, 5555)
    },
    "half a checkpoint": (cut(CHECKPOINT), f"{CHECKPOINT}: damaged .*; start the run again"),
    "a folder": (
        made_a_folder,
        f"{CHECKPOINT}: damaged",
    ),
    "weights alone": (
        holds(CHECKPOINT, safetensors.numpy.save({"x": np.ones(3)})),
        f"{CHECKPOINT}: damaged",
    ),
    "a round in words": (tensors(CHECKPOINT, same, round="one"), "damaged .*'one'"),
    "no round yet": (tensors(CHECKPOINT, same, round="0"), "round is 0; give at least 1"),
    "memories cut off": (tensors(CHECKPOINT, same, memories="[{"), "damaged"),
    "no memories": (tensors(CHECKPOINT, same, memories="[]"), "has 0 nodes, but there are 2"),
    "memories of nothing": (tensors(CHECKPOINT, same, memories="[null, null]"), "damaged"),
    "a layer lost": (
        tensors(CHECKPOINT, lambda name, a: None if name == "mask/features.0" else a),
        "damaged .*mask/features.0",
    ),
    "a mask of another model": (
        tensors(CHECKPOINT, lambda name, a: a[:-1] if name.startswith("mask/") else a),
        f"{CHECKPOINT}: mask of layer 'features.0' is bool",
    ),
    "weights of another model": (
        tensors(CHECKPOINT, lambda name, a: a[:1] if name.startswith("weights/") else a),
        f"{CHECKPOINT}: '[^']+' is .*: it is of another",
    ),
    "a line of nothing": (holds("rounds.jsonl", b"null\n"), "line 1 is not that of round 1"),
    "a line with no more": (holds("rounds.jsonl", b'{"round": 1}\n'), "holds no start_bytes"),
    "a log in no UTF-8": (holds("rounds.jsonl", b"\xff\n"), "rounds.jsonl: damaged"),
    "a central training of nothing": (
        holds("central.json", b"null"),
        "central.json: damaged .*; remove it, and central training is done again",
    ),
    "half a central training": (holds("central.json", b'{"acc'), "central.json: damaged"),
    "a configuration of nothing": (holds("config.json", b"null"), "config.json: damaged"),
    "a configuration in no UTF-8": (holds("config.json", b"\xff"), "config.json: damaged"),
}


@pytest.mark.parametrize("kind", BEGUN)
@pytest.mark.usefixtures("types_unchecked")
def test_a_damaged_run_is_not_gone_on_with(
    kind: str, begun: Path, quick: Callable[..., Any], tmp_path: Path
) -> None:
    damage, says = BEGUN[kind]
    folder = tmp_path / "run"
    shutil.copytree(begun, folder)
    damage(folder)
    before = {path: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    with pytest.raises(MPFLError, match=says) as refused:
        run(quick(), folder, resume=True)
    assert "\n" not in str(refused.value)
    after = {path: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    assert {path.name for path in after} == {path.name for path in before}
    damaged = folder / "config.json"
    assert {p: c for p, c in after.items() if p != damaged} == {
        p: c for p, c in before.items() if p != damaged
    }
