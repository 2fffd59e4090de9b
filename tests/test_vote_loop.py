"""The loop, alive: what its page decides, sends and votes is what the package makes of it."""

import itertools
import json
import re
import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from docutils.core import publish_parts
from docutils.parsers.rst import directives
from toys import chain
from widget_pages import Page, state_in

from mpfl import masks, wire
from mpfl.node import Plan
from mpfl.runs.record import hex_of
from mpfl.schedules import linear
from mpfl.show.widgets.loop import TWELVE, VoteLoop
from mpfl.show.widgets.playable import module
from mpfl.types import MPFLError

ROOT = Path(__file__).resolve().parent.parent
RULES = ("majority", "unanimity", "most votes")
# Two layers of two filters: small enough for every ballot of three nodes.
FOUR = Plan(chain([2, 2]), linear(0.5), 2, coding="packed")


def test_the_loop_holds_plain_state():
    widget = VoteLoop()
    assert state_in(widget.html()) == {"label": widget.label} | json.loads(
        json.dumps(widget.state())
    )
    assert "</script" not in module("tally.js", "loop.js")


def test_the_loop_refuses():
    with pytest.raises(MPFLError, match="rule is 'plurality'; choose one of majority, unanimity"):
        VoteLoop(rule="plurality")
    with pytest.raises(MPFLError, match="no setting 'round'"):
        VoteLoop(round="2")
    with pytest.raises(MPFLError, match=re.escape("coded 'shortest'; give coding='packed'")):
        VoteLoop(Plan(TWELVE, linear(0.75), 3))


def test_the_numbers_are_lengths_of_messages():
    widget = VoteLoop()
    weights = {name: np.ones(shape, np.float32) for name, shape in TWELVE.shapes.items()}
    assert widget.dense == len(wire.encode_weights(weights, TWELVE, 1))
    rng = np.random.default_rng(0)
    for seed in range(20):  # whichever filters stay, and in whichever round
        mask = masks.drawn(TWELVE, 0.1 + 0.03 * seed, rng)
        small = wire.decode_weights(
            wire.encode_weights(weights, TWELVE, 1, mask=mask), TWELVE, 1, mask=mask
        )[0]
        key = ",".join(str(bits.sum()) for bits in mask.values())
        assert widget.by_counts[key] == [
            len(wire.encode_consensus(mask, TWELVE, 1 + seed % 3)),
            sum(array.size for array in small.values()),
        ]


def test_the_nodes_disagree_and_the_rules_differ():
    widget = VoteLoop()
    assert len(set(widget.ballots)) == 3
    found = set()
    for rule in RULES:
        widget.rule = rule
        found.add(hex_of(masks.flatten(widget.consensus(), TWELVE)))
    assert len(found) == 3


def test_on_a_page_the_picture_stands_in_for_the_loop_without_javascript():
    directive = runpy.run_path(str(ROOT / "book" / "_ext" / "vote_loop.py"))["LoopOrPicture"]
    directives.register_directive("vote-loop", directive)
    source = ".. vote-loop:: assets/loop.svg\n   :alt: Three nodes\n"
    body = publish_parts(source, writer_name="html5")["html_body"]
    assert 'class="mpfl-play"' in body and '"dense": 2439' in body
    box, fallback = re.findall(r"<noscript>(.*?)</noscript>", body, re.S)
    assert "JavaScript, which is off here" in box
    assert "assets/loop.svg" in fallback and "Three nodes" in fallback


# --- in a browser ------------------------------------------------------------------------

EVERY_BALLOT = """([state, rule, round, alive]) => {
    const found = {};
    const inside = [...Array(16).keys()].filter((ballot) => (ballot & ~alive) === 0);
    const bits = (number) => [0, 1, 2, 3].map((i) => (number >> i) & 1);
    for (const a of inside) for (const b of inside) for (const c of inside) {
        const cast = [a, b, c].map(bits);
        const { votes, kept } = countBallots(state, rule, round, bits(alive), cast);
        (found[votes] ??= new Set()).add(hexOf(kept));
    }
    return [
        Object.entries(found).map(([votes, kept]) => [votes, [...kept]]),
        honestBallots(state, round, bits(alive)).map(hexOf),
    ];
}"""


@pytest.mark.browser
def test_every_ballot_of_a_small_case_makes_the_consensus_of_the_server(browser: Any) -> None:
    widget = VoteLoop(FOUR, seed=3)
    tab = browser.new_page()
    tab.add_script_tag(
        content=module("tally.js", "loop.js").replace("export default", "const widget =")
    )
    alive = (0b1111, 0b0111, 0b1110, 0b1001)
    settings = [("majority", 1), ("unanimity", 1), ("most votes", 1), ("most votes", 2)]
    seen = 0
    for (rule, round_), left in itertools.product(settings, alive):
        widget.rule, widget.round, widget.alive = rule, round_, f"{left:02x}"
        by_votes, honest = tab.evaluate(
            EVERY_BALLOT, [json.loads(json.dumps(widget.state())), rule, round_, left]
        )
        assert honest == [hex_of(masks.flatten(vote, FOUR.layout)) for vote in widget.honest()]
        for text, kept in by_votes:
            votes = np.array([int(count) for count in text.split(",")])
            widget.ballots = [hex_of(votes > node) for node in range(3)]
            assert kept == [hex_of(masks.flatten(widget.consensus(), FOUR.layout))]
            seen += 1
    tab.close()
    assert seen == 4 * sum(4 ** left.bit_count() for left in alive)  # 0 to 3 votes a filter left


def looks_of(mask: np.ndarray, alive: np.ndarray) -> list[str]:
    both = zip(mask, alive, strict=True)
    return ["keep" if bit else "drop" if left else "gone" for bit, left in both]


def compare(widget: VoteLoop, page: Page) -> None:
    """What the page shows is what the widget says at its own setting."""
    mask = masks.flatten(widget.consensus(), TWELVE)
    shown = page.set({})
    assert shown["mask"] == hex_of(mask)
    assert shown["sent"] == ",".join(map(str, widget.sent()))
    ballots, alive = widget.ballots, masks.flatten(widget._mask(widget.alive), TWELVE)
    votes = np.zeros(TWELVE.filters, int)
    for node, text in enumerate(ballots):
        ballot = masks.flatten(widget._mask(text), TWELVE)
        votes += ballot
        looks = looks_of(ballot, alive)
        row = page.box.get_by_role("group", name=f"The ballot of node {node + 1}")
        squares = row.locator("button")
        assert squares.evaluate_all("(all) => all.map((each) => each.dataset.bit)") == looks
        pressed = "(all) => all.map((each) => each.ariaPressed === 'true')"
        assert squares.evaluate_all(pressed) == ballot.tolist()
    assert shown["votes"] == ",".join(map(str, votes))
    cells = page.box.locator(".mpfl-loop-consensus i").evaluate_all(
        "(all) => all.map((each) => each.dataset.bit)"
    )
    assert cells == looks_of(mask, alive)


def turn(widget: VoteLoop, node: int, place: int) -> None:
    """Change one vote, as a press of its square does."""
    ballot = masks.flatten(widget._mask(widget.ballots[node]), TWELVE)
    ballot[place] ^= True
    widget.ballots = [hex_of(ballot) if i == node else b for i, b in enumerate(widget.ballots)]


@pytest.mark.browser
@pytest.mark.parametrize("rule", RULES)
def test_the_loop_by_mouse(opened, rule):
    widget = VoteLoop(rule=rule)
    page = opened(widget)
    forward = page.box.get_by_role("button", name="Next round")
    for _ in (1, 2):
        compare(widget, page)
        for node, place in ((0, 2), (2, 7)):
            alive = masks.flatten(widget._mask(widget.alive), TWELVE)
            if alive[place]:
                square = page.box.locator(".mpfl-loop-ballot").nth(node).locator("button")
                square.nth(place).click()
                turn(widget, node, place)
                compare(widget, page)
        forward.click()
        widget.next_round()
    compare(widget, page)
    assert forward.count() == 0
    left = ",".join(map(str, masks.counts(widget.consensus()).values()))
    assert f"has {widget.by_counts[left][1]} of 498 weights" in page.box.inner_text()
    page.box.get_by_role("button", name="Start again").click()
    compare(VoteLoop(rule=rule), page)


@pytest.mark.browser
def test_the_loop_by_keyboard(opened):
    widget = VoteLoop()
    page = opened(widget)
    # One tab stop a node: its row of squares.
    stops = page.box.locator(".mpfl-loop-ballot button[tabindex='0']")
    assert stops.count() == 3
    stops.first.focus()
    keys = page.tab.keyboard
    keys.press("ArrowRight")
    keys.press("ArrowDown")
    keys.press("Space")
    turn(widget, 1, 1)
    compare(widget, page)
    assert "You changed 1 vote, which decides the fate of 1 filter" in page.box.inner_text()
    assert stops.count() == 3
    assert page.press("Rule", "ArrowDown") == "unanimity"
    widget.rule = "unanimity"
    compare(widget, page)
    page.box.get_by_role("button", name="Next round").focus()
    keys.press("Enter")
    widget.next_round()
    compare(widget, page)
    # Squares of filters that are gone are passed over.
    alive = np.flatnonzero(masks.flatten(widget._mask(widget.alive), TWELVE))
    stops.first.focus()
    for _ in range(20):
        keys.press("ArrowRight")
    keys.press("Enter")
    turn(widget, 0, int(alive[-1]))
    compare(widget, page)
    page.box.get_by_role("button", name="Reset").click()
    compare(VoteLoop(rule="unanimity"), page)
    assert page.keys_outside() == []


@pytest.mark.browser
@pytest.mark.parametrize("media", [{"forced_colors": "active"}, {"media": "print"}])
def test_kept_and_dropped_differ_on_paper_and_in_a_readers_colours(opened, media):
    """Both take a page's backgrounds away, unless it says that they are needed."""
    page = opened(VoteLoop())
    page.tab.emulate_media(**media)
    looks = {
        bit: page.box.locator(f".mpfl-loop-ballot .mpfl-bit[data-bit={bit}]").first.evaluate(
            """(bit) => [getComputedStyle(bit).backgroundColor,
                getComputedStyle(bit).printColorAdjust, getComputedStyle(bit).forcedColorAdjust]"""
        )
        for bit in ("keep", "drop")
    }
    assert looks["keep"][0] != looks["drop"][0]
    assert looks["keep"][1:] == looks["drop"][1:] == ["exact", "none"]
