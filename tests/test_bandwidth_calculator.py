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
from mpfl.node import Plan
from mpfl.schedules import geometric
from mpfl.show.widgets.bytes import BandwidthCalculator, Network, networks
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
    assert "</script" not in module("bytes.js")


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


@pytest.mark.parametrize(
    ("setting", "says"),
    [
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
