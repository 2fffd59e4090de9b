"""The weight player: what nodes said of a weight, and where it went."""

import json
import re
from typing import Any

import numpy as np
import pytest
from widget_pages import Page, state_in

from mpfl.show.widgets.playable import module
from mpfl.show.widgets.weights import WeightPlayer
from mpfl.types import MPFLError

NAMES = ["a.weight[0]", "a.weight[1]", "b.bias[0]"]
UPS = np.array([[4, 0, 2], [1, 4, 2]])
STEPS = np.where(UPS > 2, 0.25, -0.25) * [[1], [0.5]]
STEPS[0, 2] = 0.25  # a tie goes up and down in turn
VOTED = np.concatenate([[[0.0, 1.0, -1.0]], STEPS]).cumsum(axis=0)
AVERAGED = np.array([[0.0, 1.0, -1.0], [0.1, 0.9, -1.0], [0.15, 0.95, -1.0]])


def player(**setting: Any) -> WeightPlayer:
    return WeightPlayer(NAMES, {"votes": VOTED, "averages": AVERAGED}, UPS, 4, **setting)


def test_the_player_holds_plain_state_and_escapes_it():
    widget = WeightPlayer(["a <b>", *NAMES[1:]], {"votes": VOTED}, UPS, 4)
    html = widget.html()
    assert "a <b>" not in html
    assert state_in(html) == {"label": widget.label} | json.loads(json.dumps(widget.state()))
    assert "</script" not in module("turns.js", "weights.js")


def test_the_player_says_where_a_weight_is():
    widget = player(weight=1)
    assert (widget.up(), widget.value()) == (None, 1.0)
    widget.round = 2
    assert (widget.up(), widget.value()) == (4, 0.875)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"names": NAMES[:2]}, "2 names, 3 weights and 2 rounds; give a name per weight"),
        ({"ups": UPS[:0]}, "3 weights and 0 rounds"),
        ({"ways": {}}, "0 ways; give 1 to 3"),
        ({"ways": {"votes": VOTED[:2]}}, "way 'votes' is (2, 3); give finite numbers of shape (3,"),
        ({"ways": {"votes": VOTED * np.nan}}, "give finite numbers"),
        ({"nodes": 3}, "ups are 0 to 4; 3 nodes vote, so give 0 to 3"),
        ({"ups": UPS - 1}, "ups are -1 to 3; 4 nodes vote"),
        ({"round": 3}, "round is 3; give 0 to 2"),
        ({"weight": -1}, "weight is -1; give 0 to 2"),
        ({"speed": 2}, "no setting 'speed'"),
    ],
)
def test_the_player_refuses(changes, says):
    given = {"names": NAMES, "ways": {"votes": VOTED}, "ups": UPS, "nodes": 4} | changes
    with pytest.raises(MPFLError, match=re.escape(says)):
        WeightPlayer(**given)


@pytest.fixture
def page(opened: Any) -> Page:
    return opened(player())


@pytest.mark.browser
def test_the_page_shows_what_python_says(page):
    widget = player()
    for weight in range(3):
        for round_ in range(3):
            widget.weight, widget.round = weight, round_
            shown = page.set({"Weight": weight, "Round": round_})
            assert float(shown["value"]) == widget.value()
            assert shown["up"] == ("" if widget.up() is None else str(widget.up()))
    said = page.box.locator(".mpfl-said")
    assert "it is the turn of down" in said.inner_text()
    page.set({"Weight": 0, "Round": 1})
    assert said.inner_text() == "Round 1: 4 of 4 nodes say up: up by 0.250, from 0.000 to 0.250."
    assert page.box.get_by_label("4 up, 0 down").count() == 1
    page.box.get_by_text("The same as a table").click()
    cells = page.box.locator("tr[aria-current] td").all_inner_texts()
    assert cells == ["1", "4", "0.250", "0.100"]
    assert page.faults == []


@pytest.mark.browser
def test_by_keyboard_and_played_to_the_end(page):
    assert page.press("Round", "ArrowRight", "ArrowRight") == "2"
    step = page.box.get_by_role("button", name="Step")
    assert step.get_attribute("aria-disabled") == "true"
    page.box.get_by_role("button", name="Back").click()
    assert page.data("value") == "0.25"
    page.box.get_by_role("button", name="Play").click()
    page.box.get_by_role("button", name="Pause").wait_for()
    page.box.get_by_role("button", name="Play").wait_for()  # it stopped at the end
    assert page.data("value") == "0.125"
    assert page.faults == []
