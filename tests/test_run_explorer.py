"""The run explorer: what its page shows is what was recorded."""

import json
import re
from collections.abc import Mapping
from pathlib import Path

import pytest
from widget_pages import state_in

from mpfl.evidence.samples import Row
from mpfl.runs.record import Run
from mpfl.show.looks import look
from mpfl.show.widgets.playable import module
from mpfl.show.widgets.runs import AXES, RunExplorer, axes_of
from mpfl.types import MPFLError


def made_up(label: str, seed: int, method: str, number: int) -> Run:
    """A recorded run, as far as the explorer reads it; ``number`` moves all its figures."""
    central = None if method == "fedavg" else 0.7 + 0.01 * number + 0.003 * seed
    federated = None if method == "lth" else 0.6 + 0.007 * number - 0.002 * seed
    masks = method == "mpfl"
    summary = {
        "sparsity": 0.0 if method == "fedavg" else 0.8 + 0.01 * seed,
        "parameters": 90_000 + 1000 * number,
        "macs": 1_500_000 * 10**number,
        "bytes": {"start": 0, "mask_rounds_down": 700 * masks + seed, "mask_rounds_up": 0,
                  "final_start": 220, "final_down": 10**6 * (1 + number), "final_up": 7},
        "accuracy_central": central,
        "accuracy_federated": federated,
        "seconds": {"mask_rounds": 60.5, "central": central and 30 + seed,
                    "federated": federated and 90 * (1 + number)},
        "provenance": {"command": f"run <{method}> --seed {seed}", "commit": "abc123",
                       "python": "3", "versions": {"torch": "2"},
                       "machine": {"cpu": "a CPU", "cores": 2}},
    }  # fmt: skip
    config = {"method": method, "vote": "relaxed()" if number else "most_votes(k=None)"}
    return Run(Path(f"{label}-{seed}.json"), config, summary, [], [])


def made_up_rows(**labels: tuple[str, int]) -> dict[str, Row]:
    """Rows of made-up runs: the method, and how many seeds were run."""
    return {
        label: Row(label, (), {seed: made_up(label, seed, method, number) for seed in range(seeds)})
        for number, (label, (method, seeds)) in enumerate(labels.items())
    }


TABLES = {
    "first": made_up_rows(vote=("mpfl", 3), lottery=("lottery", 3), lth=("lth", 2),
                          dense=("fedavg", 1), later=("mpfl", 0)),
    "second": made_up_rows(one=("mpfl", 1), relaxed=("mpfl", 2)),
    "alone": made_up_rows(trained=("lth", 2)),
    "not run": made_up_rows(nothing=("mpfl", 0)),
}  # fmt: skip


def test_the_explorer_holds_plain_state_and_escapes_it():
    widget = RunExplorer(TABLES)
    html = widget.html()
    assert "run <mpfl>" not in html
    state = state_in(html)
    assert state == {"label": widget.label} | json.loads(json.dumps(widget.state()))
    assert "NaN" not in json.dumps(state)
    assert [name for name, _ in state["tables"]] == ["first", "second", "alone"]
    shown = {row["label"]: row for row in state["tables"][0][1]}
    assert "later" not in shown
    for label, row in shown.items():
        assert (row["colour"], row["shape"]) == look(TABLES["first"][label].runs[0])
    assert "</script" not in module("runs.js")


def test_the_explorers_points_and_means_are_those_of_the_rows():
    widget = RunExplorer(TABLES, training="federated", x="bytes_all", hidden=[])
    rows = TABLES["first"]
    assert {label for label, *_ in widget.points()} == {"vote", "lottery", "dense"}
    for label, seed, x, y in widget.points():
        run = rows[label].runs[seed]
        assert (x, y) == (run.bytes_all, 100 * run.summary["accuracy_federated"])
    for label, (_, accuracy) in widget.means().items():
        assert accuracy == rows[label].accuracy("federated")
    widget.x = "minutes"
    assert widget.points()[0][2] == (60.5 + 90) / 60
    widget.hidden = ["vote"]
    assert set(widget.means()) == {"lottery", "dense"}
    assert widget.chosen_run() is None
    widget.chosen = "lottery-1.json"
    assert widget.chosen_run() is rows["lottery"].runs[1]


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ({"table": "third"}, "table is 'third'; choose one of first, second, alone"),
        ({"training": "both"}, "training is 'both'; choose one of central, federated"),
        ({"x": "colour"}, "x is 'colour'"),
        ({"x": "bytes_all"}, "x is 'bytes_all'"),  # has another training's bytes
        ({"chosen": "no.json"}, "chosen is 'no.json'"),
        ({"hidden": ["nobody"]}, "hidden is 'nobody'"),
        ({"size": 3}, "no setting 'size'"),
    ],
)
def test_the_explorer_refuses(setting, says):
    with pytest.raises(MPFLError, match=re.escape(says)):
        RunExplorer(TABLES, **setting)
    with pytest.raises(MPFLError, match="no run is recorded in not run"):
        RunExplorer({"not run": TABLES["not run"]})
    with pytest.raises(MPFLError, match="no run is recorded in no table"):
        RunExplorer({})


def compare_runs(widget: RunExplorer, shown: Mapping[str, str]) -> None:
    assert [tuple(point) for point in json.loads(shown["points"])] == widget.points()
    means = {label: values for label, *values in json.loads(shown["means"])}
    assert list(means) == list(widget.means())
    for label, (place, accuracy) in widget.means().items():
        deviation = accuracy.deviation if accuracy.n > 1 else None
        assert means[label] == [place.mean, accuracy.mean, deviation, accuracy.n]


@pytest.mark.browser
def test_the_explorer_shows_what_was_recorded(opened):
    widget = RunExplorer(TABLES)
    page = opened(widget)
    settings = [
        {"Table": table, "Final training": training, "Against": axis}
        for table in ("first", "second", "alone")
        for training in ("central", "federated")
        for axis in axes_of(training)
    ]
    for setting, shown in zip(settings, page.sweep(settings), strict=True):
        widget.table, widget.training, widget.x = setting.values()
        compare_runs(widget, shown)
    for setting in settings[::4]:
        page.set(setting)
        widget.table, widget.training, widget.x = setting.values()
        marks, text = page.box.evaluate(
            "(box) => [box.querySelectorAll('svg .mpfl-mark[tabindex]').length,"
            " box.querySelector('table').textContent]"
        )
        assert marks == len(widget.points())
        for label, (_, accuracy) in widget.means().items():
            assert label in text and str(accuracy) in text
    # All bytes have the final federated rounds in them: the axis goes with their accuracy only.
    page.set({"Table": "first", "Final training": "federated", "Against": "bytes_all"})
    shown = page.set({"Final training": "central"})
    widget.table, widget.training, widget.x = "first", "central", "bytes_rounds"
    compare_runs(widget, shown)
    assert page.control("Against").input_value() == "bytes_rounds"
    off = (
        page.control("Against")
        .locator("option:disabled")
        .evaluate_all("(o) => o.map((e) => e.value)")
    )
    assert off == ["bytes_all"]


@pytest.mark.browser
def test_no_mark_of_the_explorer_lies_outside_or_on_another(opened):
    page = opened(RunExplorer(TABLES, training="federated"))
    chart = page.box.locator("svg[role=group]")
    width, height = (float(part) for part in chart.get_attribute("viewBox").split()[2:])
    for axis in AXES:
        page.set({"Against": axis})
        places = chart.locator(".mpfl-mark").evaluate_all(
            "(all) => all.map((m) => m.getAttribute('transform').match(/[-.0-9]+/g).map(Number))"
        )
        assert len(places) == 7 == len({tuple(place) for place in places})
        assert all(40 < x < width and 15 < y < height - 30 for x, y in places), axis


@pytest.mark.browser
def test_the_explorer_by_keyboard_and_by_mouse(opened):
    widget = RunExplorer(TABLES)
    page = opened(widget)
    mark = page.box.locator("svg .mpfl-mark[tabindex='0']")
    panel = page.box.locator(".mpfl-panel")
    assert mark.count() == 1
    mark.focus()
    seen = [page.data("chosen")]
    for _ in range(7):
        page.tab.keyboard.press("ArrowRight")
        seen.append(page.data("chosen"))
    assert len(set(seen)) == 8 == len(widget.points())
    for key, place in {
        "ArrowRight": -1,
        "ArrowLeft": -2,
        "Home": 0,
        "ArrowDown": 1,
        "End": -1,
    }.items():
        page.tab.keyboard.press(key)
        assert page.data("chosen") == seen[place]
        widget.chosen = seen[place]
        run = widget.chosen_run()
        told = panel.inner_text()
        for text in (run.summary["provenance"]["command"], "abc123", "a CPU, 2 cores", "torch 2"):
            assert text in told
        assert f"{100 * run.summary['accuracy_central']:.2f} %" in told
    page.tab.keyboard.press("Escape")
    assert page.data("chosen") == ""
    page.box.locator("[data-row=lottery] .mpfl-mark").nth(1).hover()
    assert page.data("chosen") == "lottery-1.json"

    # A row that is hidden leaves the picture, and comes back.
    button = page.box.get_by_role("button", name="lottery")
    button.click()
    widget.hidden = ["lottery"]
    compare_runs(widget, {name: page.data(name) for name in ("points", "means")})
    page.tab.keyboard.press("Enter")  # the button has kept the focus
    widget.hidden = []
    compare_runs(widget, {name: page.data(name) for name in ("points", "means")})
    assert page.press("Table", "ArrowDown") == "second"
    assert page.press("Final training", "ArrowDown") == "federated"
    assert page.press("Against", "End") == "minutes"
    widget.table, widget.training, widget.x = "second", "federated", "minutes"
    compare_runs(widget, {name: page.data(name) for name in ("points", "means")})
    assert page.keys_outside() == []


@pytest.mark.browser
def test_no_number_stands_at_two_places_of_an_axis(opened):
    """Runs that differ by a few bytes of a hundred megabytes lie near one another."""
    rows = made_up_rows(one=("mpfl", 3), other=("mpfl", 3))
    for place, run in enumerate(run for row in rows.values() for run in row.runs.values()):
        run.summary["bytes"]["final_down"] = 161_600_000 + 7 * place
    page = opened(RunExplorer({"alike": rows}, training="federated"))
    for width in (1000, 390):
        page.tab.set_viewport_size({"width": width, "height": 800})
        for axis in AXES:
            page.set({"Against": axis})
            page.tab.wait_for_timeout(50)
            across, marks = page.box.locator("svg[role=group]").evaluate(
                """(svg) => [svg.getBoundingClientRect().right, [...svg.children]
                    .filter((each) => each.tagName === "text" && each.getAttribute("y") === "329")
                    .map((each) => [each.textContent, each.getBoundingClientRect().right])]"""
            )
            texts = [text for text, _ in marks]
            assert len(texts) == len(set(texts)) > 0, (axis, texts)
            assert max(right for _, right in marks) <= across + 1, (axis, marks)
