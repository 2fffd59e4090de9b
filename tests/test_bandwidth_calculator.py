"""The bandwidth calculator: what its page counts is what the ledger counts."""

import dataclasses
import itertools
import json
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from toys import chain
from widget_pages import state_in

from mpfl.analysis.ledger import bill
from mpfl.nets.networks import blueprint, build
from mpfl.node import Plan
from mpfl.schedules import geometric
from mpfl.show.widgets.bytes import OWN, BandwidthCalculator, networks
from mpfl.show.widgets.network import Network
from mpfl.show.widgets.playable import module
from mpfl.types import MPFLError

FIELDS = ("start", "mask_rounds_down", "mask_rounds_up", "final_start", "final_down", "final_up")
TOYS = {
    "a <chain>": Network(chain([40, 24, 33], kernel=(3, 3)), 1000),
    "joined": Network(chain([16, 16], join=True, skip=True), 77),
}


def rows_of_bills(widget: BandwidthCalculator) -> dict[str, list[int]]:
    return {way: list(dataclasses.astuple(each)) for way, each in widget.bills().items()}


def test_the_calculator_holds_plain_state_and_escapes_it():
    widget = BandwidthCalculator(TOYS)
    html = widget.html()
    assert "<chain>" not in html and state_in(html) == {"label": widget.label} | json.loads(
        json.dumps(widget.state())
    )
    assert widget.network == "a <chain>"
    assert "</script" not in module("network.js", "ledger.js", "bytes.js")


def test_the_calculators_bills_are_the_ledgers():
    widget = BandwidthCalculator(TOYS, nodes=3, rounds=4, share=0.2, final_rounds=2, w0="weights")
    plan = Plan(TOYS["a <chain>"].layout, geometric(0.2), 4)
    assert widget.samples() == [334, 333, 333]
    for way, found in widget.bills().items():
        assert found == bill(way, plan, [334, 333, 333], w0="weights", final_rounds=2)
    widget.final_rounds = 0
    found = widget.bills()
    assert tuple(found) == ("mpfl", "lottery", "one-bit", "pruning-fl", "fedavg")
    for way in ("fedavg", "one-bit"):  # as many rounds as there are mask rounds
        assert found[way] == bill(way, plan, [334, 333, 333], w0="weights", final_rounds=4)
    assert found["lottery"].total == 0


@pytest.mark.parametrize("by", ["votes", "lengths", "channels"])
def test_the_final_training_may_go_by_votes_on_directions(by: str):
    digits = {"digits": Network(blueprint("digits-cnn", 10), 1438)}
    widget = BandwidthCalculator(digits, nodes=4, rounds=3, final_rounds=23, final_by=by)
    network, samples = widget.chosen(), widget.samples()
    trained = [name for name, _ in build("digits-cnn", 10).named_parameters()]
    assert sorted(network.voted) == sorted(trained)
    plan = Plan(network.layout, geometric(0.15), 3)
    for way in ("mpfl", "lottery", "pruning-fl"):
        by_votes = bill(way, plan, samples, final_rounds=23, voted=trained, every=10,
                        lengths={"lengths": "tensor", "channels": "channel"}.get(by))  # fmt: skip
        assert widget.bills()[way] == by_votes
        assert by_votes.total < bill(way, plan, samples, final_rounds=23).total
    for way in ("fedavg", "one-bit"):  # stay what they are
        assert widget.bills()[way] == bill(way, plan, samples, final_rounds=23)


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        (
            {"final_by": "signs"},
            "final_by is 'signs'; choose one of weights, votes, lengths, channels",
        ),
        ({"network": OWN, "own": "input 3"}, "network, line 1: give at least two layers"),
        ({"network": "none"}, "network is 'none'; choose one of a <chain>, joined"),
        ({"nodes": 0}, "nodes is 0; give 1 to 1000"),
        ({"rounds": 31}, "rounds is 31"),
        ({"share": 0.6}, "share is 0.6; give 0 to 0.5"),
        ({"coding": "short"}, "coding is 'short'"),
        ({"colour": 1}, "no setting 'colour'"),
        ({"share": 0.5, "rounds": 30}, "leaves layer 'layer1' with none of its 24"),
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
     "w0": w0, "final_rounds": final, "final_by": by}
    for network, share in itertools.product([0, 1, 2, 3], [0.01, 0.15, 0.33])
    for nodes, rounds, coding, w0, final, by in [
        (1, 1, "shortest", "seed", 0, "weights"),
        (7, 9, "packed", "weights", 1, "weights"),
        (13, 30, "shortest", "seed", 50, "weights"),
        (11, 2, "shortest", "weights", 1, "votes"),
        (2, 3, "shortest", "seed", 27, "votes"),
        (7, 3, "packed", "weights", 12, "lengths"),
        (5, 4, "shortest", "seed", 21, "channels"),
    ]
]  # fmt: skip


@pytest.mark.browser
def test_the_calculator_counts_as_the_ledger_does(opened):
    widget = BandwidthCalculator()
    page = opened(widget)
    names = list(networks())
    controls = {"network": "Network", "nodes": "Nodes", "rounds": "Mask rounds",
                "share": "Pruned per round", "coding": "A vote is written", "w0": "w0 travels as",
                "final_rounds": "Final federated rounds",
                "final_by": "They train by"}  # fmt: skip

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
    setting = {"network": names[2], "nodes": 1000, "rounds": 10, "share": 0.0, "coding": "packed",
               "w0": "weights", "final_rounds": 50, "final_by": "weights"}  # fmt: skip
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
    compare(share=page.press("Pruned per round", "Home", *["ArrowRight"] * 7))
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
        compare(share=page.drag("Pruned per round", share / 8))
        compare(final_rounds=page.drag("Final federated rounds", share))
    # A number that is none, or too large, does not break what is shown.
    page.control("Nodes").fill("")
    compare(nodes=11)
    page.control("Nodes").fill("5000")
    compare(nodes=1000)
    assert page.keys_outside() == []


@pytest.mark.browser
def test_every_phase_has_a_dot_where_the_axis_says(opened):
    """Dots lie on the axis that the lines of the decades make, not from some first byte on."""
    widget = BandwidthCalculator(TOYS, final_rounds=3)
    page = opened(widget)
    svg = page.box.locator("svg[role=img]")
    lines = svg.locator("line").evaluate_all("(all) => all.map((each) => +each.getAttribute('x1'))")
    labels = svg.locator("line + text").all_text_contents()
    units = {"B": 1, "kB": 1000, "MB": 10**6}
    first = int(labels[0].split()[0]) * units[labels[0].split()[1]]
    step = lines[1] - lines[0]
    dots = svg.locator("circle").evaluate_all(
        "(all) => all.map((each) => +each.getAttribute('cx'))"
    )
    found = [first * 10 ** ((dot - lines[0]) / step) for dot in dots]
    expected = []
    for each in widget.bills().values():
        w0 = each.start or each.final_start  # a seed, whenever it goes out
        parts = (w0, each.rounds, each.final - (0 if each.start else w0))
        expected += [part for part in parts if part]
    assert found == pytest.approx(expected, rel=1e-6)
    assert page.box.locator("svg rect").count() == 0


@pytest.mark.browser
def test_the_calculator_bills_a_network_of_the_readers(opened):
    widget = BandwidthCalculator(TOYS)
    page = opened(widget)
    line = "Your network, one line per layer"
    assert not page.control(line).is_visible()
    page.set({"Network": OWN})
    widget.network = OWN
    for text in (widget.own, "input 1\na 9 5\nb 30 norm\nc 4 3x3", "images 77\ninput 2\nx 16\ny 2"):
        widget.own = text
        for by in ("weights", "votes", "lengths", "channels"):
            widget.final_by = by
            shown = page.set({line: text, "They train by": by})
            assert json.loads(shown["bills"]) == rows_of_bills(widget)
    page.control(line).fill("input 3\nconv1 64 3x3\nconv2 none")
    said = page.box.locator(".mpfl-said").inner_text()
    assert said.startswith('Your network cannot be read: line 3: "none" is no number of filters;')
    assert page.data("bills") == ""
    page.control(line).press("Control+a")
    page.tab.keyboard.type("input 3\na 8\nb 2")
    widget.own = "input 3\na 8\nb 2"
    assert json.loads(page.data("bills")) == rows_of_bills(widget)
    assert page.keys_outside() in ([], ["Control"], ["a"], ["Control", "a"])  # a shortcut goes on


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
        [module("ledger.js"), shares, sizes],
    )
    for share, rounds in zip(shares, found, strict=True):
        for round_, counts in enumerate(rounds, start=1):
            sparsity = geometric(share)(round_, 30)
            assert counts == [n - int(np.ceil(sparsity * n - 1e-9)) for n in sizes]


@pytest.mark.browser
def test_nodes_are_taken_as_they_are_typed_or_not_at_all(opened):
    """A number is not rewritten under the reader's hands: of 0, then 5, became 15."""
    page = opened(BandwidthCalculator(TOYS, nodes=10))
    field = page.control("Nodes")

    def typed(text: str) -> tuple[str, int, str]:
        field.fill("10")
        field.focus()
        field.press("Control+a")
        page.tab.keyboard.type(text)
        hint = field.locator("xpath=following-sibling::output").inner_text()
        nodes = json.loads(page.data("bills"))["fedavg"][3] // ONE
        return field.input_value(), nodes, hint

    field.fill("1")
    ONE = json.loads(page.data("bills"))["fedavg"][3]
    hint = "1 to 1,000; shown for 10"
    assert typed("05") == ("05", 5, "")
    assert typed("37") == ("37", 37, "")
    assert typed("5000") == ("1000", 1000, "")
    assert typed("99999") == ("1000", 1000, "")
    assert typed("0") == ("0", 10, hint)
    assert typed("-5") == ("-5", 10, hint)
    assert typed(".5") == (".5", 10, hint)
    assert typed("1.5")[1:] == (1, "1 to 1,000; shown for 1")
    assert field.get_attribute("aria-invalid") == "true"
    page.tab.keyboard.press("Tab")
    assert (field.input_value(), field.get_attribute("aria-invalid")) == ("1", "false")


@pytest.mark.browser
def test_bytes_have_the_unit_that_they_round_to(opened):
    page = opened(BandwidthCalculator(TOYS))
    texts = {0: "0 B", 9999: "9,999 B", 10_000: "10.0 kB", 999_949: "999.9 kB", 999_950: "1.0 MB",
             999_960: "1.0 MB", 10**6: "1.0 MB", 999_949_999: "999.9 MB", 999_950_000: "1.0 GB",
             1_234_567 * 10**6: "1.2 TB", 10**15: "1.0 PB", 6 * 10**15: "6.0 PB"}  # fmt: skip
    found = page.tab.evaluate(
        "([source, sizes]) => sizes.map(new Function(`${source}; return sized`)())",
        [module(), list(texts)],
    )
    assert found == list(texts.values())


@pytest.mark.browser
def test_the_largest_bill_is_exact_and_its_axis_has_units(opened):
    text = "input 4096\na 4096 256\nb 4096 220\nc 4"
    most = {"nodes": 1000, "rounds": 30, "final_rounds": 50, "w0": "weights", "share": 0.0}
    widget = BandwidthCalculator(TOYS, network=OWN, own=text, **most)
    page = opened(widget)
    expected = rows_of_bills(widget)
    assert 10**15 < max(sum(numbers) for numbers in expected.values()) < 2**53
    assert json.loads(page.data("bills")) == expected
    assert "undefined" not in page.box.locator("svg[role=img]").text_content()
    page.control("Your network, one line per layer").fill(text.replace("220", "256"))
    assert page.data("bills") == ""
    assert "at most 8,000,000,000 weights here" in page.box.locator(".mpfl-said").inner_text()
