"""The benchmarks: figures judge themselves rightly, and what is recorded says where it is from."""

import json
from pathlib import Path

import pytest

from benchmarks import __main__ as command
from benchmarks import wire
from benchmarks.timing import Figure, paired

RECORDED = Path(command.__file__).parent


@pytest.mark.parametrize(
    ("value", "bar", "reached"),
    [(0.8, "<=0.8", True), (0.81, "<=0.8", False), (5, ">=5", True), (4.9, ">=5", False)],
)
def test_a_figure_holds_itself_against_its_bar(value, bar, reached):
    assert Figure("x", value, bar).row()["reached"] is reached


def test_without_a_bar_nothing_is_claimed():
    assert Figure("x", 1, None).reached is None


def test_the_ratio_is_taken_pair_by_pair(monkeypatch):
    ticks = iter([0, 2, 10, 11, 20, 26, 30, 32, 40, 41, 50, 54])  # A 2, B 1; A 6, B 2; A 1, B 4
    monkeypatch.setattr("benchmarks.timing.time.perf_counter", lambda: next(ticks))
    calls = []
    figure = paired("x", lambda: calls.append("A"), lambda: calls.append("B"), None, n=3)
    assert "".join(calls) == "AB" + "ABABAB", "one of each is not counted"
    assert (figure.value, figure.low, figure.high, figure.n) == (2, 0.25, 3, 3)


def test_masks_on_the_wire_reach_their_bars(tmp_path):
    figures = list(wire.masks_on_the_wire(tmp_path))
    assert len(figures) == 3
    assert all(figure.reached for figure in figures), figures


def test_an_unknown_benchmark_is_refused(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["benchmarks", "speed"])
    with pytest.raises(SystemExit):
        command.main()
    assert "no benchmark 'speed'; there are shrinking" in capsys.readouterr().err


def test_every_benchmark_is_recorded_with_its_command_and_machine():
    found = json.loads((RECORDED / "results.json").read_text())
    assert set(found) == set(command.BENCHMARKS)
    found["scaling"] = json.loads((RECORDED / "scaling.json").read_text())
    for name, benchmark in found.items():
        made = benchmark["provenance"]
        assert made["command"] == f"python -m benchmarks {name}"
        assert made["machine"]["cores"] >= 1 and made["versions"]["torch"]
        assert benchmark["rows"]
        for row in benchmark["rows"]:
            assert row["n"] >= 1 if "n" in row else len(row["seconds"]) == 3
