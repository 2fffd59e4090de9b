"""Figures of the evidence: a mark is a run or a row, names stand beside marks, and apart."""

from dataclasses import fields, replace
from itertools import combinations, pairwise
from pathlib import Path

import numpy as np
import pytest

from mpfl.analysis.ledger import Bill
from mpfl.evidence.samples import Row
from mpfl.evidence.tables import cells_of
from mpfl.runs.record import Run
from mpfl.show.looks import looks_of
from mpfl.show.plots.appearance import SPAN, save_figure
from mpfl.show.plots.evidence import accuracies, sparsity_curves, trade_off
from mpfl.show.plots.runs import accuracy_by_bytes, convergence
from mpfl.types import MPFLError

CELLS = {cell.label: cell for cell in cells_of("digits", "toy")}


def row(label: str, accuracy: list[float], size: int = 1000, federated: bool = False) -> Row:
    cell = CELLS[label]
    config = {"method": cell.experiment.method.name, "vote": "most_votes(k=None)", "epochs": 1}
    runs = {
        seed: Run(
            Path(cell.file),
            config,
            {
                "accuracy_central": value,
                "accuracy_federated": value if federated else None,
                "parameters": size,
                "macs": 1_000_000 + size,
            },
            [],
            [line(1, 0.1), line(2, 0.2 + seed / 10)],
        )
        for seed, value in enumerate(accuracy)
    }
    return Row(label, (cell,), runs)


def line(round_: int, accuracy: float) -> dict[str, object]:
    sent = {"start_bytes": 0, "bytes_down": 40, "bytes_up": 60}
    return {"round": round_, "accuracy": accuracy, "sparsity": 0.5, "seconds": 1.0} | sent


def test_accuracies_have_a_mark_per_seed_and_a_bar_at_the_mean():
    central, federated = accuracies([row("vote", [0.7, 0.8]), row("lottery", [0.6])]).axes
    marks = [each for each in central.lines if each.get_linestyle() == "None"]
    drawn = [(each.get_marker(), each.get_xydata().round(9).tolist()) for each in marks]
    assert drawn == [
        ("o", [[70, 0], [80, 0]]), ("|", [[75, 0]]), ("X", [[60, 1]]), ("|", [[60, 1]])
    ]  # fmt: skip
    [dashed] = [each for each in central.lines if each.get_linestyle() == "--"]
    assert list(dashed.get_xdata()) == pytest.approx([75, 75])  # the mean of the first row
    assert [text.get_text() for text in central.get_yticklabels()] == ["vote", "lottery"]
    assert central.get_ylim() == (1.5, -0.5)  # the first row on top
    assert [axes.get_title() for axes in (central, federated)] == [
        "central training", "federated training"
    ]  # fmt: skip


def test_a_trade_off_names_its_marks_once_and_keeps_the_names_apart():
    rows = [
        row(label, [accuracy], size, federated=True)
        for label, accuracy, size in (
            ("vote", 0.7, 900), ("lottery", 0.701, 900), ("w0 norms", 0.5, 90)
        )
    ]  # fmt: skip
    left, right, *_ = trade_off(rows).axes
    named = {text.get_text(): text for text in left.texts}
    assert set(named) == {"vote", "lottery", "w0 norms"} and not right.texts
    assert {name: text.xy for name, text in named.items()} == {
        "vote": (0.9, 70.0), "lottery": (0.9, pytest.approx(70.1)), "w0 norms": (0.09, 50.0)
    }  # fmt: skip
    # Above one another, no two nearer than a line of text; on the side with more room.
    low, high = left.get_ylim()
    heights = sorted(text.xyann[1] for text in named.values())
    assert all(above - below > 0.05 * (high - low) for below, above in pairwise(heights))
    assert high > heights[-1]
    assert [named[name].get_ha() for name in ("vote", "w0 norms")] == ["right", "left"]


def test_a_line_of_a_convergence_has_its_name_at_its_end():
    runs = {label: list(row(label, [0.5, 0.5]).runs.values()) for label in ("vote", "lottery")}
    left, right = convergence(runs).axes
    assert {text.get_text(): text.xy for text in left.texts} == {
        "vote": (2, pytest.approx(25)), "lottery": (2, pytest.approx(25))
    }  # fmt: skip
    assert not right.texts
    assert [each.get_xdata().tolist() for each in right.lines] == [[1e-4, 2e-4]] * 2


@pytest.mark.parametrize("when", ["start", "final_start"])
def test_accuracy_by_bytes_counts_all_but_w0(when):
    mask_round = line(1, 0.1) | {"start_bytes": 5_000_000, "mask": "", "accuracy": None}
    sent = {"start": 0, "final_start": 0, when: 5_000_000}
    runs = {
        name: [
            replace(run, rounds=[mask_round], summary={**run.summary, "bytes": sent})
            for run in row(name, [0.5, 0.5]).runs.values()
        ]
        for name in ("vote", "lottery")
    }
    panels = {"one": runs, "other": {"lottery": runs["lottery"]}}
    axes, other, closer, beside = accuracy_by_bytes(panels, {"a limit": 3e6}).axes
    assert [each.get_title() for each in (axes, other)] == ["one", "other"]
    assert other.lines[0].get_color() == axes.lines[1].get_color() != axes.lines[0].get_color()
    *lines, limit = axes.lines
    assert [each.get_label() for each in lines] == ["vote", "lottery"]
    # 100 bytes of the mask round and 100 of each round after it, in MB; the means of two seeds.
    assert [each.get_xdata().tolist() for each in lines] == [pytest.approx([2e-4, 3e-4])] * 2
    assert [each.get_ydata().tolist() for each in lines] == [pytest.approx([10, 25])] * 2
    assert list(limit.get_xdata()) == [3, 3] and limit.get_label() == "a limit"
    # From the lowest end, 25, to the best seed, 30, and a point more.
    assert axes.get_ylim()[0] == 0
    assert closer.get_ylim() == beside.get_ylim() == pytest.approx((24, 31))
    for whole, end in ((axes, closer), (other, beside)):
        assert [each.get_xydata().tolist() for each in whole.lines] == [
            each.get_xydata().tolist() for each in end.lines
        ]


def test_a_figure_of_nothing_is_refused():
    for panels in ({}, {"one": {}}):
        with pytest.raises(MPFLError, match="no rows to draw"):
            accuracy_by_bytes(panels, {})


def test_a_figure_names_the_lines_that_it_cannot_tell_apart():
    assert len(set(looks_of(map(str, range(7))).values())) == 7
    with pytest.raises(MPFLError, match="7 lines apart, not 8: leave out some of 0, 1, 2"):
        looks_of(map(str, range(8)))


def test_curves_are_as_wide_as_a_page_with_a_column_per_training():
    series = {
        label: [row(label, [0.7, 0.8], size, federated=True) for size in (900, 90)]
        for label in ("vote", "lottery")
    }
    sent = {field.name: 100 for field in fields(Bill)}
    for rows in series.values():
        for each in rows:
            for run in each.runs.values():
                run.summary.update(sparsity=0.8, bytes=sent)
    figure = sparsity_curves(series)
    assert figure.get_figwidth() == SPAN
    panels = np.array(figure.axes).reshape(4, 2)
    assert [axes.get_title() for axes in panels[0]] == ["central training", "federated training"]
    for line in panels:
        assert line[0].get_xlabel() == line[1].get_xlabel() != ""
    figure.draw_without_rendering()
    boxes = [axes.get_tightbbox() for axes in figure.axes]  # their labels, too
    assert not any(one.overlaps(other) for one, other in combinations(boxes, 2))
    [legend] = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["vote", "lottery"]
    assert legend.get_window_extent().y1 <= min(box.y0 for box in boxes)


def test_the_name_of_a_mark_on_the_right_does_not_reach_those_on_the_left():
    rows = [
        row("vote", [0.7], 1600, federated=True),
        row("lottery", [0.6, 0.8], 800, federated=True),
    ]
    long = replace(rows[0], label="published counts, equal MACs")
    figure = trade_off([long, rows[1]])
    figure.draw_without_rendering()
    left = figure.axes[0]
    name = next(text for text in left.texts if text.get_ha() == "right")
    assert name.get_text() == "published\ncounts,\nequal MACs"
    bar = left.transData.transform((0.8, 70))[0]
    assert name.get_window_extent().x0 > bar


@pytest.mark.parametrize("when", ["abc", "-1", "", "1e9", "²"])
def test_a_date_that_is_none_is_refused_and_nothing_written(tmp_path, monkeypatch, when):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", when)
    to = tmp_path / "figure.svg"
    with pytest.raises(MPFLError, match=r"SOURCE_DATE_EPOCH is .*; give whole seconds"):
        save_figure(accuracies([row("vote", [0.7])]), to)
    assert not to.exists()
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    save_figure(accuracies([row("vote", [0.7])]), to)
    assert "2023-11-14" in to.read_text()
