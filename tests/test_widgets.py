"""The widgets: what a page shows is what mpfl computes, at every setting that was tried.

Without a browser their state and their Python twins are tested; in Chromium the published
HTML, opened from the disk, is moved by keyboard and by mouse.
"""

import dataclasses
import itertools
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from toys import chain

from mpfl import masks
from mpfl.analysis.ledger import bill
from mpfl.evidence.samples import Row, rows_of
from mpfl.nets.networks import build
from mpfl.nets.start import initial_weights
from mpfl.nets.tracing import layout_of
from mpfl.node import Plan
from mpfl.runs.record import Run, ballots_of, bits_of, filters_of, hex_of, keep_record, read_run
from mpfl.runs.runner import run
from mpfl.schedules import geometric
from mpfl.seeds import rng_for
from mpfl.prune import filter_norms
from mpfl.show.plots import look
from mpfl.show.widgets.bytes import WAYS, BandwidthCalculator, Network, networks
from mpfl.show.widgets.playable import Playable, module
from mpfl.show.widgets.rounds import RoundPlayer
from mpfl.show.widgets.runs import AXES, RunExplorer, axes_of
from mpfl.show.widgets.vote import VoteExplorer
from mpfl.types import MPFLError

FIELDS = ("start", "mask_rounds_down", "mask_rounds_up", "final_start", "final_down", "final_up")
TOYS = {
    "a <chain>": Network(chain([40, 24, 33], kernel=(3, 3)), 1000),
    "joined": Network(chain([16, 16], join=True, skip=True), 77),
}


class Page:
    """A widget's published HTML, opened from the disk in Chromium."""

    def __init__(self, tab: Any, widget: Playable, folder: Path) -> None:
        self.tab, self.faults = tab, list[str]()
        tab.on("console", lambda m: self.faults.append(m.text) if m.type == "error" else None)
        tab.on("pageerror", lambda error: self.faults.append(str(error)))
        tab.on(
            "request",
            lambda request: (
                None
                if request.url.startswith(("file:", "data:"))
                else self.faults.append(request.url)
            ),
        )
        path = folder / "page.html"
        path.write_text(
            '<!doctype html><html lang="en" data-theme="light"><meta charset="utf-8">'
            "<script>heard = []; onkeydown = (event) => heard.push(event.key)</script>"
            + widget.html(),
            encoding="utf-8",
        )
        tab.goto(path.as_uri())
        self.box = tab.locator(".mpfl-play")
        self.box.locator("summary").first.wait_for()

    def data(self, name: str) -> str:
        return self.box.evaluate("(box, name) => box.dataset[name]", name)

    def control(self, label: str) -> Any:
        return self.box.get_by_label(label, exact=True)

    def sweep(self, settings: Iterable[Mapping[str, Any]]) -> list[dict[str, str]]:
        """Set controls by their labels as a script does, setting by setting, and read each time
        what the page says that it shows."""
        return self.box.evaluate(
            """(box, settings) => settings.map((values) => {
                const labels = [...box.querySelectorAll("label")];
                for (const [text, value] of Object.entries(values)) {
                    const { control } = labels.find((label) => label.textContent === text);
                    if (control.value === value) continue;
                    control.value = value;
                    control.dispatchEvent(new Event("input", { bubbles: true }));
                }
                return { ...box.dataset };
            })""",
            [{label: str(value) for label, value in each.items()} for each in settings],
        )

    def set(self, values: Mapping[str, Any]) -> dict[str, str]:
        """One setting of :meth:`sweep`."""
        return self.sweep([values])[0]

    def press(self, label: str, *keys: str) -> str:
        control = self.control(label)
        control.focus()
        for key in keys:
            self.tab.keyboard.press(key)
        return control.input_value()

    def drag(self, label: str, share: float) -> str:
        """Click a slider at a share of its length."""
        control = self.control(label)
        control.scroll_into_view_if_needed()
        place = control.bounding_box()
        y = place["y"] + place["height"] / 2
        self.tab.mouse.click(place["x"] + share * place["width"], y)
        return control.input_value()

    def keys_outside(self) -> list[str]:
        return self.tab.evaluate("heard")


@pytest.fixture
def opened(browser: Any, tmp_path: Path) -> Iterator[Any]:
    tab = browser.new_page()
    pages = []

    def open_(widget: Playable) -> Page:
        pages.append(Page(tab, widget, tmp_path))
        return pages[-1]

    yield open_
    wide = tab.evaluate("document.documentElement.scrollWidth - window.innerWidth")
    tab.set_viewport_size({"width": 360, "height": 800})
    tab.wait_for_timeout(50)
    narrow = tab.evaluate("document.documentElement.scrollWidth - window.innerWidth")
    tab.close()
    assert [page.faults for page in pages] == [[]]
    assert wide <= 0 and narrow <= 0, "the page moves sideways"


def state_in(html: str) -> dict[str, Any]:
    """The state that a widget's HTML brings with it."""
    found = re.search(r"model: still\((\{.*\})\), el: ", html)
    assert found is not None
    return json.loads(found[1])


# --- bandwidth -------------------------------------------------------------------------------


def rows_of_bills(widget: BandwidthCalculator) -> dict[str, list[int]]:
    return {way: list(dataclasses.astuple(each)) for way, each in widget.bills().items()}


def test_the_calculator_holds_plain_state_and_escapes_it():
    widget = BandwidthCalculator(TOYS)
    html = widget.html()
    assert "<chain>" not in html and state_in(html) == {"label": widget.label} | json.loads(
        json.dumps(widget.state())
    )
    assert widget.network == "a <chain>"
    assert "</script" not in module("bytes.js")


def test_the_calculators_bills_are_the_ledgers():
    widget = BandwidthCalculator(TOYS, nodes=3, rounds=4, share=0.2, final_rounds=2, w0="weights")
    plan = Plan(TOYS["a <chain>"].layout, geometric(0.2), 4)
    assert widget.samples() == [334, 333, 333]
    for way, found in widget.bills().items():
        assert found == bill(way, plan, [334, 333, 333], w0="weights", final_rounds=2)
    widget.final_rounds = 0
    found = widget.bills()
    assert tuple(found) == WAYS
    for way in ("fedavg", "one-bit"):  # as many rounds as there are mask rounds
        assert found[way] == bill(way, plan, [334, 333, 333], w0="weights", final_rounds=4)
    assert found["random-masks"].total == 0


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ({"network": "none"}, "network is 'none'; choose one of a <chain>, joined"),
        ({"nodes": 0}, "nodes is 0; give 1 to 1000"),
        ({"rounds": 31}, "rounds is 31"),
        ({"share": 0.6}, "share is 0.6; give 0 to 0.5"),
        ({"coding": "short"}, "coding is 'short'"),
        ({"colour": 1}, "no setting 'colour'"),
        ({"share": 0.5, "rounds": 30}, "leaves layer 'layer0' with none of its 40"),
    ],
)
def test_the_calculator_refuses(setting, says):
    with pytest.raises(MPFLError, match=re.escape(says)):
        BandwidthCalculator(TOYS, **setting)
    with pytest.raises(MPFLError, match="at least one"):
        BandwidthCalculator({})


# Every control at its ends and between; the networks with few filters and with many.
GRID = [
    {"network": network, "nodes": nodes, "rounds": rounds, "share": share, "coding": coding,
     "w0": w0, "final_rounds": final}
    for network, share in itertools.product([0, 1, 2, 3], [0.01, 0.15, 0.33])
    for nodes, rounds, coding, w0, final in [
        (1, 1, "shortest", "seed", 0),
        (7, 9, "packed", "weights", 1),
        (13, 30, "shortest", "seed", 50),
    ]
]  # fmt: skip


@pytest.mark.browser
def test_the_calculator_counts_as_the_ledger_does(opened):
    widget = BandwidthCalculator()
    page = opened(widget)
    names = list(networks())
    controls = {"network": "Network", "nodes": "Nodes", "rounds": "Mask rounds",
                "share": "Pruned a round", "coding": "A vote is written", "w0": "w0 travels as",
                "final_rounds": "Final federated rounds"}  # fmt: skip

    def put(setting: Mapping[str, Any]) -> None:
        for name, value in setting.items():
            setattr(widget, name, value)

    def labelled(setting: Mapping[str, Any]) -> dict[str, Any]:
        return {controls[name]: value for name, value in setting.items()}

    grid = [setting | {"network": names[setting["network"]]} for setting in GRID]
    refused = 0
    for setting, shown in zip(grid, page.sweep(map(labelled, grid)), strict=True):
        put(setting)
        try:
            expected = rows_of_bills(widget)
        except MPFLError as error:
            refused += 1
            assert shown["bills"] == ""
            page.set(labelled(setting))
            layer = re.search("layer '(.*?)'", str(error))[1]
            assert f"layer {layer} with none" in page.box.locator(".mpfl-said").inner_text()
        else:
            assert json.loads(shown["bills"]) == expected, setting
    assert 0 < refused < len(GRID) / 3

    # What is written in the table is what was counted.
    setting = {"network": names[2], "nodes": 1000, "rounds": 10, "share": 0.0, "w0": "weights"}
    put(setting)
    expected = rows_of_bills(widget)
    assert json.loads(page.set(labelled(setting))["bills"]) == expected
    for way, numbers in expected.items():
        cells = page.box.locator(f"tr[data-way={way}] td").evaluate_all(
            "(cells) => Object.fromEntries(cells.map((c) => [c.dataset.field, c.textContent]))"
        )
        for name, number in zip((*FIELDS, "total"), (*numbers, sum(numbers)), strict=True):
            assert cells[name] == f"{number:,}"
        share = 100 * sum(numbers) / sum(expected["fedavg"])
        assert float(cells["share"].removesuffix(" %")) == pytest.approx(share, rel=5e-3)


@pytest.mark.browser
def test_the_calculator_by_keyboard_and_by_mouse(opened):
    widget = BandwidthCalculator(TOYS, rounds=3)
    page = opened(widget)

    def compare(**setting: Any) -> None:
        for name, value in setting.items():
            setattr(widget, name, type(getattr(widget, name))(value))
        assert json.loads(page.data("bills")) == rows_of_bills(widget)

    compare(rounds=page.press("Mask rounds", "ArrowRight", "ArrowUp"))
    assert widget.rounds == 5
    compare(share=page.press("Pruned a round", "Home", *["ArrowRight"] * 7))
    assert widget.share == 0.07
    compare(nodes=page.press("Nodes", "ArrowUp", "ArrowUp", "ArrowDown"))
    assert widget.nodes == 11
    compare(network=page.press("Network", "ArrowDown"))
    assert widget.network == "joined"
    compare(w0=page.press("w0 travels as", "ArrowDown"))
    compare(final_rounds=page.press("Final federated rounds", "End"))
    assert (widget.w0, widget.final_rounds) == ("weights", 50)
    for share in (0.1, 0.35, 0.6):
        compare(rounds=page.drag("Mask rounds", share))
        compare(share=page.drag("Pruned a round", share / 8))
        compare(final_rounds=page.drag("Final federated rounds", share))
    # A number that is none, or too large, does not break what is shown.
    page.control("Nodes").fill("")
    compare(nodes=11)
    page.control("Nodes").fill("5000")
    compare(nodes=1000)
    assert page.keys_outside() == []


@pytest.mark.browser
def test_the_calculator_leaves_as_many_filters_as_the_schedule(opened):
    """At every share and round that the controls reach; powers are not rounded alike everywhere."""
    page = opened(BandwidthCalculator(TOYS))
    shares, sizes = [i / 100 for i in range(51)], [16, 24, 32, 33, 40, 64, 128, 256, 512]
    found = page.tab.evaluate(
        """([source, shares, sizes]) => {
            const asked = new Function(`${source}; return asked`)();
            const rounds = [...Array(30).keys()].map((before) => before + 1);
            return shares.map((share) =>
                rounds.map((round) => sizes.map((filters) => asked(filters, share, round))));
        }""",
        [module("bytes.js").replace("export default", "const widget ="), shares, sizes],
    )
    for share, rounds in zip(shares, found, strict=True):
        for round_, counts in enumerate(rounds, start=1):
            sparsity = geometric(share)(round_, 30)
            assert counts == [n - int(np.ceil(sparsity * n - 1e-9)) for n in sizes]


# --- runs ------------------------------------------------------------------------------------


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
    config = {"method": method, "vote": "relaxed()" if number else "budget(k=None)"}
    return Run(Path(f"{label}-{seed}.json"), config, summary, [], [])


def made_up_rows(**labels: tuple[str, int]) -> dict[str, Row]:
    """Rows of made-up runs: the method, and how many seeds were run."""
    return {
        label: Row(label, (), {seed: made_up(label, seed, method, number) for seed in range(seeds)})
        for number, (label, (method, seeds)) in enumerate(labels.items())
    }


TABLES = {
    "first": made_up_rows(vote=("mpfl", 3), lottery=("random-masks", 3), lth=("lth", 2),
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


# --- rounds ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def recording(quick: Any, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run of five rounds between three nodes, read back from what it recorded."""
    few = {"nodes": 3, "rounds": 5, "width": 0.5, "central_epochs": 0, "federated_rounds": 0}
    run(quick(**few), folder := tmp_path_factory.mktemp("recording") / "run")
    return read_run(keep_record(read_run(folder), folder))


def test_the_player_holds_plain_state_and_escapes_it(recording):
    config = {**recording.config, "recipe": "a <b>"}
    widget = RoundPlayer(dataclasses.replace(recording, config=config))
    html = widget.html()
    assert "a <b>" not in html
    assert state_in(html) == {"label": widget.label} | json.loads(json.dumps(widget.state()))
    assert "</script" not in module("rounds.js")


def test_the_player_reads_what_was_recorded(recording):
    widget = RoundPlayer(recording)
    assert widget.mask().all() and widget.sparsity() == 0 and widget.agreement() == []
    alive = widget.mask()
    for line in recording.rounds:
        widget.round = line["round"]
        mask = widget.mask()
        flat = [bits_of(line["mask"][name], size) for name, size in filters_of(recording).items()]
        assert (mask == np.concatenate(flat)).all()
        assert widget.sparsity() == line["sparsity"]
        for node, ballot in enumerate(ballots_of(recording, line["round"])):
            widget.node = node
            outvoted = widget.outvoted()
            assert (outvoted == (ballot ^ mask)).all() and not (outvoted & ~alive).any()
            share = 1 - outvoted.sum() / alive.sum()
            assert widget.agreement()[node] == pytest.approx(share) == line["agreement"][str(node)]
        alive = mask
    assert widget.sent() == recording.bytes_all
    widget.node = -1
    assert not widget.outvoted().any()


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ({"round": 6}, "round is 6; give 0 to 5"),
        ({"node": 3}, "node is 3; give -1 to 2"),
        ({"speed": 2}, "no setting 'speed'"),
    ],
)
def test_the_player_refuses(recording, setting, says):
    with pytest.raises(MPFLError, match=re.escape(says)):
        RoundPlayer(recording, **setting)


def test_the_player_refuses_a_run_without_ballots(recording):
    for changes, says in {
        (("ballots", ()),): "holds no ballots of round 1",
        (("votes", None),): "holds no votes; give a run of mpfl",
        (("ballots", tuple(recording.rounds[0]["ballots"][:2])),): "2 ballots of 3 nodes",
    }.items():
        lines = [{**line, **dict(changes)} for line in recording.rounds]
        with pytest.raises(MPFLError, match=says):
            RoundPlayer(dataclasses.replace(recording, rounds=lines))
    with pytest.raises(MPFLError, match="holds no votes"):
        RoundPlayer(dataclasses.replace(recording, rounds=[]))


def compare_round(widget: RoundPlayer, page: Page, shown: Mapping[str, str]) -> None:
    assert shown["mask"] == hex_of(widget.mask())
    assert float(shown["sparsity"]) == widget.sparsity()
    assert int(shown["sent"]) == widget.sent()
    assert json.loads(shown["agreement"]) == widget.agreement()
    assert int(shown["outvoted"]) == widget.outvoted().sum()
    # The squares say the same as the data.
    looks = page.box.locator(".mpfl-map rect").evaluate_all(
        "(cells) => cells.map((cell) => cell.getAttribute('class'))"
    )
    stays = [look in ("mpfl-stay", "mpfl-won") for look in looks]
    assert stays == widget.mask().tolist()
    if widget.node >= 0:
        assert [look in ("mpfl-won", "mpfl-lost") for look in looks] == widget.outvoted().tolist()


@pytest.mark.browser
def test_the_player_shows_every_round(opened, recording):
    widget = RoundPlayer(recording)
    page = opened(widget)
    for round_, node in itertools.product(range(6), range(-1, 3)):
        widget.round, widget.node = round_, node
        shown = page.set({"Round": round_, "Set against the votes of": node})
        compare_round(widget, page, shown)
    for round_, row in enumerate(page.box.locator("tbody tr").all()):
        widget.round = round_
        cells = row.locator("td").all_text_contents()
        kept = int(widget.mask().sum())
        assert cells[:2] == [str(round_), f"{kept:,}"]
        assert cells[3:] == [f"{widget.sent():,}"] + (
            [f"{each:.3f}" for each in widget.agreement()] or ["", "", ""]
        )


@pytest.mark.browser
def test_the_player_by_keyboard_and_by_mouse(opened, recording):
    widget = RoundPlayer(recording)
    page = opened(widget)

    def compare(round_: int) -> None:
        widget.round = round_
        compare_round(widget, page, page.set({}))

    button = {name: page.box.get_by_role("button", name=name) for name in ("Play", "Back", "Step")}
    assert button["Back"].is_disabled()
    button["Step"].click()
    button["Step"].click()
    compare(2)
    button["Back"].click()
    compare(1)
    page.press("Round", "ArrowRight", "ArrowRight")
    compare(3)
    page.drag("Round", 0.99)
    compare(5)
    assert button["Step"].is_disabled()
    page.press("Round", "Home")
    page.tab.clock.install()
    button["Play"].focus()
    page.tab.keyboard.press("Enter")
    page.tab.clock.run_for(2000)
    compare(2)
    page.box.get_by_role("button", name="Pause").click()
    page.tab.clock.run_for(5000)
    compare(2)
    button["Play"].click()
    page.tab.clock.run_for(5000)
    compare(5)
    assert button["Play"].is_visible()
    button["Play"].click()  # again from the start
    page.tab.clock.run_for(1000)
    compare(1)
    page.press("Round", "ArrowRight")  # a move of the reader's stops it
    page.tab.clock.run_for(5000)
    compare(2)
    page.tab.emulate_media(reduced_motion="reduce")
    page.tab.wait_for_timeout(50)
    assert button["Play"].is_hidden() and button["Step"].is_visible()
    assert page.press("Set against the votes of", "ArrowDown", "ArrowDown") == "1"
    widget.node = 1
    compare(2)
    assert page.keys_outside() == []


# --- the vote --------------------------------------------------------------------------------


VOTED = chain([30, 24, 8], kernel=(3, 3))  # of the last layer 95 % is all


def vote_explorer(nodes: int = 6) -> VoteExplorer:
    layout = VOTED
    rng = rng_for(0, "ballots")
    honest, spoilt = rng.random((2, nodes, layout.filters)) < 0.4 + 0.5 * rng.random(layout.filters)
    norms = {layer.name: rng.integers(1, 5, layer.filters) / 2 for layer in layout.layers}
    return VoteExplorer(layout, honest, norms, {"shuffled <pixels>": spoilt})


def move_votes(widget: VoteExplorer, page: Page, settings: Sequence[Mapping[str, Any]]) -> None:
    """Set the controls, and compare every mask that is shown with the server's."""
    labels = {"rule": "Rule", "tau": "Threshold tau", "percentile": "Percentile",
              "sparsity": "Asked to remove", "bad": "Bad nodes do this",
              "faulty": "How many are bad"}  # fmt: skip
    moves = [{labels[name]: value for name, value in each.items()} for each in settings]
    for setting, shown in zip(settings, page.sweep(moves), strict=True):
        for name, value in setting.items():
            setattr(widget, name, value)
        assert shown["mask"] == hex_of(widget.consensus()), setting


def test_the_vote_explorer_holds_plain_state_and_escapes_it():
    widget = vote_explorer()
    html = widget.html()
    assert "<pixels>" not in html
    assert state_in(html) == {"label": widget.label} | json.loads(json.dumps(widget.state()))
    with pytest.raises(MPFLError, match="but the model has 75 filters"):
        VoteExplorer(chain([30, 24, 21]), np.ones((2, 74), bool), {})


@pytest.mark.parametrize("rule", ["budget", "relaxed", "published_threshold"])
def test_of_a_layer_too_small_for_what_is_asked_one_filter_stays(rule):
    widget = vote_explorer()
    widget.sparsity, widget.rule = 0.95, rule
    left = masks.counts(masks.unflatten(widget.consensus(), VOTED))
    assert min(left.values()) >= 1
    if rule == "budget":
        assert list(left.values()) == [1, 1, 1]


@pytest.mark.browser
def test_the_vote_explorer_decides_as_the_server_does(opened):
    widget = vote_explorer()
    page = opened(widget)
    nodes = len(widget.ballots["honest"])
    tuned = {
        "budget": ("sparsity", (0.0, 0.35, 0.8, 0.95)),
        "relaxed": ("sparsity", (0.0, 0.35, 0.8, 0.95)),
        "published_threshold": ("sparsity", (0.0, 0.1, 0.35, 0.8, 0.95)),
        "share": ("tau", [votes / nodes for votes in (1, 2, nodes // 2, nodes)]),
        "published_percentile": ("percentile", (0.0, 0.3, 0.5, 1.0)),
    }
    move_votes(widget, page, [
        {"bad": kind, "faulty": faulty, "rule": rule, name: value}
        for kind in widget.ballots if kind != "honest"
        for faulty in (0, 1, nodes // 2, nodes)
        for rule, (name, values) in tuned.items()
        for value in values
    ])  # fmt: skip
    mask = masks.unflatten(widget.consensus(), VOTED)
    for layer, bits in mask.items():
        shown = page.box.locator(f"tr[data-layer={layer}]").get_attribute("data-kept")
        assert int(shown) == bits.sum()


@pytest.mark.browser
def test_the_vote_explorer_by_keyboard_and_by_mouse(opened):
    widget = vote_explorer()
    page = opened(widget)

    def compare(**setting: str) -> None:
        for name, value in setting.items():
            setattr(widget, name, type(getattr(widget, name))(value))
        assert page.data("mask") == hex_of(widget.consensus())

    assert page.press("Threshold tau", "ArrowRight")
    compare(tau=4 / 6)
    compare(faulty=page.press("How many are bad", "ArrowRight", "ArrowRight"))
    assert widget.faulty == 2
    compare(bad=page.press("Bad nodes do this", "ArrowDown"))
    compare(faulty=page.drag("How many are bad", 0.9))
    compare(rule=page.press("Rule", "Home"))
    assert widget.rule == "budget"
    compare(sparsity=page.drag("Asked to remove", 0.4))
    compare(sparsity=page.press("Asked to remove", "ArrowLeft"))
    compare(rule=page.press("Rule", "End"))
    compare(percentile=page.press("Percentile", "PageUp", "ArrowUp"))
    page.press("Histogram of", "ArrowDown")
    compare()
    assert page.keys_outside() == []


BALLOTS = rows_of("ballots", results=Path(__file__).parent.parent / "data" / "results")
HONEST = BALLOTS["honest, random w0"].runs


@pytest.mark.browser
@pytest.mark.skipif(not HONEST, reason="no ballots are recorded: python -m mpfl reproduce")
def test_the_vote_explorer_on_recorded_ballots(opened):
    recorded = HONEST[min(HONEST)]
    seed = recorded.config["seed"]
    module_ = build(recorded.config["model"], 10, width=recorded.config["width"])
    layout = layout_of(module_)
    norms = filter_norms(initial_weights(module_, seed), layout)
    widget = VoteExplorer(layout, ballots_of(recorded, 1), norms)
    page = opened(widget)
    line = recorded.rounds[0]
    move_votes(widget, page, [{"rule": "budget", "sparsity": 0.8, "faulty": 0}])
    found = [bits_of(line["mask"][layer.name], layer.filters) for layer in layout.layers]
    assert page.data("mask") == hex_of(np.concatenate(found))
    move_votes(widget, page, [
        {"rule": rule, name: value, "faulty": faulty}
        for rule, name, value in [("relaxed", "sparsity", 0.8), ("share", "tau", 0.5),
                                  ("published_threshold", "sparsity", 0.8),
                                  ("published_percentile", "percentile", 0.5)]
        for faulty in (0, 3, 10)
    ])  # fmt: skip
