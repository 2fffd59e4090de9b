"""The exported file: any runtime reads it, it computes what torch does, and it says what it is."""

import copy
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from mpfl import masks
from mpfl.__main__ import main
from mpfl.data.catalogue import load
from mpfl.filters import apply
from mpfl.nets.cutting import compact
from mpfl.nets.networks import build
from mpfl.nets.onnx import Classifier, exported, logit_difference
from mpfl.nets.placing import Placed
from mpfl.nets.start import initial_weights
from mpfl.nets.tensors import load_weights
from mpfl.nets.tracing import layout_of
from mpfl.runs import export as export_module
from mpfl.runs.export import CLOSE, export, latency
from mpfl.runs.record import keep_record, read_run
from mpfl.runs.runner import run
from mpfl.seeds import rng_for
from mpfl.show import terminal


@pytest.fixture(scope="module")
def written(finished, tmp_path_factory):
    """The file of the finished run, and what ``export`` returned."""
    to = tmp_path_factory.mktemp("export") / "small.onnx"
    return to, export(finished, to)


def in_any_runtime(file, pictures):
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    return session.run(None, {"pixels": pictures.astype(np.float32)})[0]


def refused(capsys, *words):
    """The one line on standard error with which a command is refused."""
    assert main([str(word) for word in words]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("mpfl: ") and err.endswith("\n") and err.count("\n") == 1, err
    return err


# --- the file of a run -------------------------------------------------------------------


@pytest.mark.parametrize("weights", ["federated", "central"])
def test_the_file_classifies_as_the_run_did(finished, written, tmp_path, weights):
    """Raw pixels in: whoever uses the file needs to know nothing of means and deviations."""
    file, pair = written
    if weights == "central":
        file = tmp_path / "central.onnx"
        pair = export(finished, file, weights=weights)
    assert list(file.parent.iterdir()) == [file]
    digits = load("digits")
    config, summary = read_run(finished).config, read_run(finished).summary
    # The run was tested on as many test pictures as it had training pictures.
    chosen = rng_for(config["seed"], "images", "test").permutation(len(digits.test_labels))
    pictures, labels = (each[chosen[: config["images"]]] for each in (
        digits.test_images, digits.test_labels
    ))  # fmt: skip
    logits = in_any_runtime(file.read_bytes(), pictures)
    assert np.mean(logits.argmax(1) == labels) == pytest.approx(summary[f"accuracy_{weights}"])
    dense = pair.dense.in_torch(pictures.astype(np.float32))()
    np.testing.assert_allclose(logits, dense, atol=1e-4 * np.abs(dense).max())
    assert (logits.argmax(1) == dense.argmax(1)).all()
    assert pair.difference < 1e-5


def test_it_takes_any_number_of_pictures(written):
    file = written[0].read_bytes()
    model = onnx.load_from_string(file)
    dims = [
        [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in (*model.graph.input, *model.graph.output)
    ]
    assert dims == [["batch", 1, 8, 8], ["batch", 10]]
    pictures = load("digits").test_images[:65]
    whole = in_any_runtime(file, pictures)
    for count in (1, 3, 65):
        np.testing.assert_allclose(in_any_runtime(file, pictures[:count]), whole[:count], atol=1e-4)


def test_it_says_what_it_is(finished, written):
    model = onnx.load(written[0])
    said = {prop.key: prop.value for prop in model.metadata_props}
    found = read_run(finished)
    assert json.loads(said["classes"]) == [str(digit) for digit in range(10)]
    assert said["recipe"] == "digits" and said["identity"] == found.summary["identity"]
    assert float(said["accuracy"]) == found.summary["accuracy_federated"]
    assert said["weights"] == "federated"
    assert said["commit"] == found.summary["provenance"]["commit"]


def test_it_says_nothing_of_the_machine(written):
    file = written[0].read_bytes()
    assert str(Path(export_module.__file__).parent).encode() not in file
    assert b".py" not in file


def test_sizes_are_those_of_the_summary(finished, written):
    dense, small = written[1].sizes
    summary = read_run(finished).summary
    assert (dense["parameters"], small["parameters"]) == (
        summary["parameters_dense"],
        summary["parameters"],
    )
    assert (dense["macs"], small["macs"]) == (summary["macs_dense"], summary["macs"])
    assert small["bytes"] == written[0].stat().st_size < dense["bytes"]


# --- any network -------------------------------------------------------------------------


def test_a_resnet_whose_joins_keep_different_channels_and_that_sees_a_resized_picture():
    rng, pixels = rng_for(0, "resnet"), 24
    module = build("resnet18", 7, width=0.125)
    layout = layout_of(module)
    mask = masks.drawn(layout, 0.6, rng)
    weights = {
        name: (array + rng.uniform(0.0, 0.2, array.shape)).astype(np.float32)
        for name, array in initial_weights(module, 0).items()
    }
    load_weights(module, apply(weights, mask, layout))
    small = compact(module, mask)
    assert any(isinstance(part, Placed) for part in small.modules())
    whole = Classifier(small, (0.5, 0.4, 0.3), (0.2, 0.2, 0.3), pixels)
    trained_on = whole.training
    made = exported(whole, (3, 32, 32), {"a": "b"})
    assert whole.training == trained_on, "the network given stays as it is"
    pictures = rng.integers(0, 256, (70, 3, 32, 32), np.uint8)
    assert logit_difference(made, pictures) < 1e-5
    dense = Classifier(module, (0.5, 0.4, 0.3), (0.2, 0.2, 0.3), pixels).eval()
    with torch.inference_mode():
        ours = dense(torch.from_numpy(pictures[:5]).float()).numpy()
    theirs = in_any_runtime(made.file, pictures[:5])
    np.testing.assert_allclose(theirs, ours, atol=1e-4 * np.abs(ours).max())


# --- refusals ----------------------------------------------------------------------------


def test_what_cannot_be_exported_is_refused_in_one_line(finished, tmp_path, capsys):
    to = tmp_path / "small.onnx"
    assert "no such run" in refused(capsys, "export", tmp_path / "nowhere", "--onnx", to)
    unfinished = tmp_path / "unfinished"
    unfinished.mkdir()
    (unfinished / "config.json").write_text((finished / "config.json").read_text())
    assert "is it a finished run folder?" in refused(capsys, "export", unfinished, "--onnx", to)
    record = keep_record(read_run(finished), tmp_path)
    error = refused(capsys, "export", record, "--onnx", to)
    assert "holds no federated weights; give a run folder that has them" in error
    for place in (tmp_path, tmp_path / "nowhere" / "a.onnx", record / "a.onnx"):
        error = refused(capsys, "export", finished, "--onnx", place)
        assert f"{place}: cannot be written; name a file" in error
    assert not to.exists()


def test_no_file_but_an_onnx_file_is_replaced(finished, written, tmp_path, capsys):
    for file in finished.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "notes.onnx").write_text("not a network")
    (tmp_path / "empty.onnx").write_bytes(b"")
    (tmp_path / "weights.onnx").write_bytes((tmp_path / "model.safetensors").read_bytes())
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    for name in before:
        error = refused(capsys, "export", tmp_path, "--onnx", tmp_path / name)
        assert name in error and ("and is no ONNX file" in error or "let it end in .onnx" in error)
    for name in ("new", "new.safetensors", "checkpoint-rounds.json"):
        assert "let it end in .onnx" in refused(
            capsys, "export", tmp_path, "--onnx", tmp_path / name
        )
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before
    older = tmp_path / "older.onnx"
    older.write_bytes(written[1].dense.file)
    assert main(["export", str(tmp_path), "--onnx", str(older), "--no-latency"]) == 0
    assert older.read_bytes() != written[1].dense.file


def test_weights_that_the_method_does_not_train(quick, tmp_path, capsys):
    run(quick("lth", rounds=1), tmp_path / "run")
    error = refused(capsys, "export", tmp_path / "run", "--onnx", tmp_path / "a.onnx")
    assert "holds no federated weights; add --weights central" in error


def test_a_damaged_file_of_weights(finished, tmp_path, capsys):
    for file in finished.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "model.safetensors").write_bytes(b"x" * 9)
    error = refused(capsys, "export", tmp_path, "--onnx", tmp_path / "a.onnx")
    assert "model.safetensors: damaged" in error and "run it again" in error


@pytest.mark.parametrize("package", ["onnx", "onnxscript", "onnxruntime"])
def test_a_missing_package(finished, tmp_path, capsys, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    error = refused(capsys, "export", finished, "--onnx", tmp_path / "a.onnx")
    assert f"needs the package {package!r}; get it with: pip install" in error


@pytest.mark.parametrize("apart", [2e-4, float("nan")])
def test_a_file_that_computes_something_else_is_not_written(
    finished, written, tmp_path, capsys, monkeypatch, apart
):
    found = iter((0.0, apart))  # of the dense network, of the compact one
    monkeypatch.setattr(export_module, "exported", lambda *parts: written[1].compact)
    monkeypatch.setattr(export_module, "logit_difference", lambda one, pictures: next(found))
    error = refused(capsys, "export", finished, "--onnx", tmp_path / "a.onnx")
    assert "not written, as onnxruntime's logits differ from torch's" in error
    assert list(tmp_path.iterdir()) == []


def test_the_difference_is_seen(written):
    made = written[1].compact
    pictures = load("digits").test_images[:70]
    other = replace(made, network=written[1].dense.network)
    assert logit_difference(other, pictures) < 1e-5
    with torch.no_grad():
        wrong = copy.deepcopy(made.network)
        wrong.network.classifier.bias += 1
    assert logit_difference(replace(made, network=wrong), pictures) > CLOSE


# --- latency -----------------------------------------------------------------------------


def test_latency_has_every_row_and_leaves_the_threads_alone(written):
    pair, before = written[1], torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        rows = latency(pair.dense, pair.compact, (1, 8), n=4)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert [(row["engine"], row["batch"]) for row in rows] == [
        ("torch", 1),
        ("onnxruntime", 1),
        ("torch", 8),
        ("onnxruntime", 8),
    ]
    for row in rows:
        assert row["n"] == 4
        for name in ("dense", "compact", "ratio"):
            assert 0 < row[f"{name}_low"] <= row[name] <= row[f"{name}_high"]
    assert json.loads(json.dumps(rows)) == rows


def test_latency_of_what_is_slow_ends_soon(written):
    pair = written[1]
    rows = latency(pair.dense, pair.compact, (1,), n=10**9, limit=0.0)
    assert [row["n"] for row in rows] == [3, 3]


def test_the_command_shows_sizes_and_times_and_nothing_else(finished, written, tmp_path, capfd):
    to = tmp_path / "a[red]b.onnx"
    assert main(["export", str(finished), "--onnx", str(to)]) == 0
    out, err = capfd.readouterr()
    assert err == ""
    lines = out.splitlines()
    assert sum(f"{to}: the compact network; its logits equal torch's to " in x for x in lines) == 1
    assert [out.count(name) for name in ("dense", "torch ", "onnxruntime")] == [2, 2, 2]
    assert all(len(line) <= 80 for line in lines if "onnx:" not in line)
    assert lines[0].strip() == "the network in use", "an exporter talks of itself"
    assert to.read_bytes() == written[0].read_bytes(), "the same run, the same file"


def test_no_latency_leaves_the_times_out(finished, written, capsys, monkeypatch):
    monkeypatch.setattr(export_module, "export", lambda *parts, **options: written[1])
    assert main(["export", str(finished), "--onnx", "a.onnx", "--no-latency"]) == 0
    out = capsys.readouterr().out
    assert "the network in use" in out and "milliseconds" not in out


def test_long_times_are_written_out(capsys):
    row = {"engine": "torch", "batch": 64, "n": 3}
    times = {"dense": 12345.6, "compact": 1.5, "ratio": 8230.4}
    spread = {f"{k}_{end}": v for k, v in times.items() for end in ("low", "high")}
    terminal.print_latency([{**row, **times, **spread}])
    shown = capsys.readouterr().out
    assert "12,346 - 12,346" in shown and "1.5 - 1.5" in shown
