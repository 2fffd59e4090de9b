"""The vote explorer: its page decides as the server does, at every setting that was tried."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from toys import chain
from widget_pages import Page, state_in

from mpfl import masks
from mpfl.evidence.samples import rows_of
from mpfl.nets.networks import build
from mpfl.nets.start import initial_weights
from mpfl.nets.tracing import layout_of
from mpfl.runs.record import ballots_of, bits_of, hex_of
from mpfl.seeds import rng_for
from mpfl.server import filter_norms
from mpfl.show.widgets.vote import VoteExplorer
from mpfl.types import MPFLError

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


def test_the_vote_explorer_refuses_ballots_that_are_not_bool():
    ballots = np.ones((3, VOTED.filters), bool)
    norms = {layer.name: np.ones(layer.filters) for layer in VOTED.layers}
    with pytest.raises(MPFLError, match="ballots 'honest' are int64; give bool"):
        VoteExplorer(VOTED, ballots.astype(np.int64), norms)
    with pytest.raises(MPFLError, match="ballots 'shuffled' are uint8; give bool"):
        VoteExplorer(VOTED, ballots, norms, {"shuffled": ballots.astype(np.uint8)})
    with pytest.raises(MPFLError, match=r"ballots 'shuffled' are \[2, 62\].* 3 nodes vote"):
        VoteExplorer(VOTED, ballots, norms, {"shuffled": ballots[:2]})


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ({"rule": "majority"}, "rule is 'majority'; choose one of most_votes, share"),
        ({"faulty": 4}, "faulty is 4; give 0 to 3"),
        ({"bad": "honest"}, "bad is 'honest'; choose one of vote at random"),
        ({"layer": "layer9"}, "layer is 'layer9'"),
        ({"colour": 1}, "no setting 'colour'; there are rule, tau"),
    ],
)
def test_the_vote_explorer_refuses(setting, says):
    norms = {layer.name: np.ones(layer.filters) for layer in VOTED.layers}
    with pytest.raises(MPFLError, match=re.escape(says)):
        VoteExplorer(VOTED, np.ones((3, VOTED.filters), bool), norms, **setting)


@pytest.mark.parametrize("rule", ["most_votes", "relaxed", "published_threshold"])
def test_of_a_layer_too_small_for_what_is_asked_one_filter_stays(rule):
    widget = vote_explorer()
    widget.sparsity, widget.rule = 0.95, rule
    left = masks.counts(masks.unflatten(widget.consensus(), VOTED))
    assert min(left.values()) >= 1
    if rule == "most_votes":
        assert list(left.values()) == [1, 1, 1]


@pytest.mark.browser
def test_the_vote_explorer_decides_as_the_server_does(opened):
    widget = vote_explorer()
    page = opened(widget)
    nodes = len(widget.ballots["honest"])
    tuned = {
        "most_votes": ("sparsity", (0.0, 0.35, 0.8, 0.95)),
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
    assert widget.rule == "most_votes"
    compare(sparsity=page.drag("Asked to remove", 0.4))
    compare(sparsity=page.press("Asked to remove", "ArrowLeft"))
    compare(rule=page.press("Rule", "End"))
    compare(percentile=page.press("Percentile", "PageUp", "ArrowUp"))
    page.press("Histogram of", "ArrowDown")
    compare()
    assert page.keys_outside() == []


@pytest.mark.browser
def test_a_square_and_a_bar_say_what_they_are(opened):
    widget = vote_explorer()
    page = opened(widget)
    page.box.locator(".mpfl-map svg").nth(1).focus()
    for key in ("End", "ArrowLeft"):
        page.tab.keyboard.press(key)
    cell = 30 + 22
    votes = sum(int(bits_of(ballot, VOTED.filters)[cell]) for ballot in widget.ballots["honest"])
    stays = "stays" if widget.consensus()[cell] else "goes"
    told = page.box.locator(".mpfl-told").inner_text()
    assert told.startswith(f"Layer {VOTED.layers[1].name}, filter 22: {votes} of 6 votes; number ")
    assert told.endswith(f"; {stays}.")
    # A bar is as high as the square root of its number.
    counts = np.array([bits_of(ballot, VOTED.filters) for ballot in widget.ballots["honest"]])
    numbers = np.bincount(counts.sum(axis=0), minlength=7)
    parts = page.box.locator("svg[role=img][width] > rect").evaluate_all(
        "(bars) => bars.map((bar) => [bar.getAttribute('x'), Number(bar.getAttribute('height'))])"
    )
    heights = {x: sum(high for at, high in parts if at == x) for x, _ in parts}
    expected = 140 * np.sqrt(numbers[numbers > 0] / numbers.max())
    assert list(heights.values()) == pytest.approx(expected.tolist())
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
    move_votes(widget, page, [{"rule": "most_votes", "sparsity": 0.8, "faulty": 0}])
    found = [bits_of(line["mask"][layer.name], layer.filters) for layer in layout.layers]
    assert page.data("mask") == hex_of(np.concatenate(found))
    move_votes(widget, page, [
        {"rule": rule, name: value, "faulty": faulty}
        for rule, name, value in [("relaxed", "sparsity", 0.8), ("share", "tau", 0.5),
                                  ("published_threshold", "sparsity", 0.8),
                                  ("published_percentile", "percentile", 0.5)]
        for faulty in (0, 3, 10)
    ])  # fmt: skip


@pytest.mark.browser
def test_the_last_move_is_the_readers(opened):
    """Not a page that is drawn anew, nor another histogram."""
    widget = vote_explorer()
    page = opened(widget)

    def told() -> str | None:
        found = re.search(r"Your last move flipped (\d+)\.", said.inner_text())
        return found and found[1]

    said = page.box.locator(".mpfl-said")
    assert told() is None
    before = bits_of(page.data("mask"), VOTED.filters)
    page.set({"How many are bad": 5})
    moved = int((bits_of(page.data("mask"), VOTED.filters) != before).sum())
    assert moved and told() == str(moved)
    page.set({"Histogram of": VOTED.layers[1].name})
    page.tab.set_viewport_size({"width": 500, "height": 800})
    page.tab.wait_for_timeout(100)
    assert told() == str(moved)
    page.set({"How many are bad": 6})
    assert "All nodes are bad, and agree with the consensus on" in said.inner_text()
