"""The vote lab: two rules on the same ballots, decided as the server does; a link that holds it."""

import json
import re
from importlib.resources import files
from typing import Any
from urllib.parse import urlencode

import numpy as np
import pytest
from toys import chain
from widget_pages import Page, state_in

from mpfl.runs.record import hex_of
from mpfl.seeds import rng_for
from mpfl.show.widgets.lab import BY_HAND, VoteLab
from mpfl.show.widgets.playable import module
from mpfl.types import MPFLError

AXE = (files("axe_playwright_python") / "axe.min.js").read_text(encoding="utf-8")
WCAG = [f"wcag{version}" for version in ("2a", "2aa", "21a", "21aa", "22aa")]
VOTED = chain([30, 24, 8], kernel=(3, 3))


def vote_lab(**setting: Any) -> VoteLab:
    rng = rng_for(0, "lab")
    drawn = rng.random((2, 6, VOTED.filters)) < 0.4 + 0.5 * rng.random(VOTED.filters)
    norms = {layer.name: rng.integers(1, 5, layer.filters) / 2 for layer in VOTED.layers}
    return VoteLab(VOTED, {"honest": drawn[0], "noisy <b>": drawn[1][:4]}, norms, **setting)


def compare(widget: VoteLab, page: Page) -> None:
    for side in ("one", "two"):
        assert page.data(side) == hex_of(widget.kept_by(side))


def test_the_lab_holds_plain_state_and_escapes_it():
    widget = vote_lab()
    html = widget.html()
    assert "noisy <b>" not in html
    assert state_in(html) == {"label": widget.label} | json.loads(json.dumps(widget.state()))
    assert "</script" not in module("tally.js", "written.js", "lab.js")


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ({"one": "majority"}, "one is 'majority'; choose one of most_votes, share"),
        ({"two_level": 0.0}, "two_level is 0.0; give 0.05 to 1"),
        ({"ballots": "mine"}, "ballots is 'mine'; choose one of drawn by hand, honest"),
        ({"two_text": "votes > M"}, 'written rule, place 9: there is no "M"'),
        ({"colour": 1}, "no setting 'colour'; there are ballots"),
    ],
)
def test_the_lab_refuses(setting, says):
    with pytest.raises(MPFLError, match=re.escape(says)):
        vote_lab(**setting)


def test_the_lab_refuses_other_ballots():
    norms = {layer.name: np.ones(layer.filters) for layer in VOTED.layers}
    with pytest.raises(MPFLError, match=r"ballots 'a' are int64\[2, 62\]; give bool \[nodes, 62\]"):
        VoteLab(VOTED, {"a": np.ones((2, 62), np.int64)}, norms)
    with pytest.raises(MPFLError, match=r"ballots 'a' are bool\[2, 61\]"):
        VoteLab(VOTED, {"a": np.ones((2, 61), bool)}, norms)
    with pytest.raises(MPFLError, match="recorded ballots alone; give layout and norms"):
        VoteLab(recorded={"a": np.ones((2, 62), bool)})


def test_the_lessons_show_what_they_say():
    found = {}
    for lesson in VoteLab().lessons:
        setting = {name: value for name, value in lesson.items() if name not in ("name", "says")}
        table = setting.pop("table")
        widget = VoteLab(**setting)
        widget.table = table
        votes = widget.shown_ballots().sum(axis=0)
        found[lesson["name"]] = votes, *(int(widget.kept_by(side).sum()) for side in ("one", "two"))
    assert found["Unanimity overshoots"][1:] == (1, 6)
    votes, one, two = found["A tie"]
    assert (one, two) == (4, 6) and (votes > 3).sum() == 4 == (votes == 3).sum()
    votes, one, two = found["One stubborn node"]
    assert one == 12 > two and votes.min() == 1
    assert found["A rule of your own"][1] > found["A rule of your own"][2]
    sums = {name: sorted(each[0].tolist()) for name, each in found.items()}
    assert sum(sums["A tie"]) == sum(sums["Unanimity overshoots"]) == 5 * 6  # six of twelve each


@pytest.mark.browser
def test_the_lab_decides_as_the_server_does(opened):
    widget = vote_lab()
    page = opened(widget)
    rules = [("most_votes", 0.5), ("relaxed", 0.5), ("published_threshold", 0.5),
             *(("share", level) for level in (0.05, 0.35, 0.5, 0.7, 1.0)),
             *(("published_percentile", level) for level in (0.3, 0.5, 0.95))]  # fmt: skip
    texts = ["votes >= 0.7*N or norm > median", "rank <= keep", "votes < 0", "share*filters>keep/2"]
    moves = []
    for ballots in (BY_HAND, "honest", "noisy <b>"):
        for sparsity in (0.0, 0.35, 0.8, 0.95):
            moves += [{"ballots": ballots, "sparsity": sparsity, "one": rule, "one_level": level,
                       "two": "written", "two_text": texts[i % 4]}
                      for i, (rule, level) in enumerate(rules)]  # fmt: skip
    labels = {"ballots": "Ballots", "sparsity": "Asked to remove", "one": "First rule",
              "one_level": "First rule, level", "two": "Second rule",
              "two_text": "Second rule, in one line"}  # fmt: skip
    swept = page.sweep([{labels[name]: value for name, value in each.items()} for each in moves])
    for setting, shown in zip(moves, swept, strict=True):
        for name, value in setting.items():
            setattr(widget, name, value)
        assert (shown["one"], shown["two"]) == (
            hex_of(widget.kept_by("one")),
            hex_of(widget.kept_by("two")),
        ), setting
    assert page.box.locator(".mpfl-map rect").count() == VOTED.filters


@pytest.mark.browser
def test_the_lab_is_drawn_by_keyboard_and_by_mouse(opened):
    widget = vote_lab()
    page = opened(widget)
    cell = page.box.get_by_role("button", name="Node 1 keeps filter 1", exact=True)
    cell.click()
    bits = widget.shown_ballots().copy()
    bits[0, 0] ^= True
    page.tab.keyboard.press("ArrowRight")
    page.tab.keyboard.press("ArrowDown")
    page.tab.keyboard.press("ArrowUp")
    page.tab.keyboard.press("ArrowUp")  # there is no more
    page.tab.keyboard.press("ArrowDown")
    page.tab.keyboard.press("Space")  # node 2, filter 2
    bits[1, 1] ^= True
    widget.table = hex_of(bits.ravel())
    compare(widget, page)
    pressed = page.box.locator(".mpfl-ballot").evaluate_all(
        "(cells) => cells.map((cell) => cell.getAttribute('aria-pressed') === 'true')"
    )
    assert pressed == bits.T.ravel().tolist()
    assert page.box.locator(".mpfl-ballot[tabindex='0']").count() == 1
    for lesson in widget.lessons:
        page.box.get_by_role("button", name=lesson["name"]).click()
        for name in set(lesson) - {"name", "says"}:
            setattr(widget, name, lesson[name])
        compare(widget, page)
        assert page.box.get_by_text(lesson["says"]).is_visible()
    assert page.keys_outside() == []


@pytest.mark.browser
def test_a_line_that_cannot_be_read_is_said_with_its_place(opened):
    widget = vote_lab(one="written")
    page = opened(widget)
    line = page.control("First rule, in one line")
    line.fill("votes >= 0.7*M")
    error = page.box.locator(".mpfl-error:visible").inner_text()
    assert error.startswith('Place 14: there is no "M"; the names are votes, N')
    assert page.data("one") == "" != page.data("two")
    assert line.get_attribute("aria-invalid") == "true"
    caret = page.box.locator(".mpfl-caret:visible").evaluate("(each) => each.textContent")
    assert caret == f"votes >= 0.7*M\n{' ' * 13}^"
    page.set({"First rule": "relaxed"})  # a line that is not used disturbs nobody
    widget.one, widget.one_text = "relaxed", "votes >= 0.7*M"
    compare(widget, page)
    page.set({"First rule": "written"})
    line.fill("votes >= 0.7*N")
    assert page.box.locator(".mpfl-error:visible").count() == 0
    assert page.data("one") != ""


@pytest.mark.browser
def test_a_square_says_what_it_is(opened):
    widget = vote_lab(ballots="honest", one="share", one_level=1.0, two="share", two_level=0.05)
    page = opened(widget)
    told = page.box.locator(".mpfl-told")
    layer = page.box.locator(".mpfl-map svg").nth(1)
    layer.focus()
    first = VOTED.layers[1].name

    def expected(i: int) -> str:
        votes = int(widget.shown_ballots()[:, 30 + i].sum())
        one, two = (widget.kept_by(side)[30 + i] for side in ("one", "two"))
        by = {(True, True): "both rules keep it", (False, True): "only the second rule keeps it",
              (False, False): "neither rule keeps it"}[bool(one), bool(two)]  # fmt: skip
        norm = widget.norms[30 + i]
        return f"Layer {first}, filter {i}: {votes} of 6 votes, norm {norm:#.3g}; {by}."

    assert told.inner_text() == expected(0)
    page.tab.keyboard.press("ArrowRight")
    page.tab.keyboard.press("ArrowRight")
    assert told.inner_text() == expected(2)
    page.tab.keyboard.press("End")
    assert told.inner_text() == expected(23)
    page.box.locator(".mpfl-map rect").nth(35).hover()
    assert told.inner_text() == expected(5)
    assert page.keys_outside() == []


@pytest.mark.browser
def test_the_map_has_as_many_columns_as_fit(opened):
    page = opened(vote_lab(ballots="honest"))
    box = page.box.locator(".mpfl-map svg").first
    assert box.get_attribute("viewBox") == "0 0 576 9"
    page.tab.set_viewport_size({"width": 390, "height": 800})
    page.tab.wait_for_timeout(100)
    assert box.get_attribute("viewBox") == "0 0 288 9"
    last = page.box.locator(".mpfl-map rect").nth(29)
    assert (last.get_attribute("x"), last.get_attribute("y")) == (str(9 * 29), "0")


@pytest.mark.browser
def test_a_link_holds_the_setting(opened):
    widget = vote_lab()
    page = opened(widget)
    assert "#" not in page.tab.url  # until the reader moves something
    page.set({"Ballots": "noisy <b>", "First rule": "written",
              "Second rule": "published_percentile",
              "Second rule, level": 0.35, "Asked to remove": 0.8,
              "First rule, in one line": "votes > 1 or norm/2 >= median & 1"})  # fmt: skip
    page.set({"First rule, in one line": "votes > 1 or norm/2 >= median"})
    page.tab.wait_for_timeout(400)
    address, masks = page.tab.url, (page.data("one"), page.data("two"))
    assert "#vote-lab?ballots=noisy" in address
    page.tab.goto("about:blank")
    page.tab.goto(address)
    page.box.locator("summary").first.wait_for()
    assert (page.data("one"), page.data("two")) == masks
    assert page.control("First rule, in one line").input_value() == "votes > 1 or norm/2 >= median"

    # A link that nobody's controls could make changes nothing of that; one that follows is taken.
    odd = {"one": "majority", "ballots": "mine", "sparsity": "2", "two_level": "", "table": "zz",
           "one_text": "v" * 201, "two": "most_votes"}  # fmt: skip
    page.tab.evaluate("(hash) => { location.hash = hash }", f"vote-lab?{urlencode(odd)}")
    page.tab.wait_for_timeout(400)
    assert page.control("Second rule").input_value() == "most_votes"
    assert page.data("one") == masks[0]


@pytest.mark.browser
def test_the_link_is_copied(opened):
    page = opened(vote_lab())
    page.tab.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.box.get_by_role("button", name="Copy link").click()
    page.box.get_by_text("Copied.").or_(page.box.get_by_text("Copy it from the field.")).wait_for()


@pytest.mark.browser
@pytest.mark.parametrize("setting", [{}, {"ballots": "honest", "one": "written"}])
def test_the_lab_is_for_every_reader(opened, setting):
    page = opened(vote_lab(**setting))
    page.tab.evaluate(AXE)
    found = page.tab.evaluate(
        "async (tags) => (await axe.run('.mpfl-play', { runOnly: tags })).violations", WCAG
    )
    assert [(each["id"], each["nodes"][0]["html"]) for each in found] == []


@pytest.mark.browser
@pytest.mark.parametrize(
    "odd",
    [
        {"sparsity": "0.123"},  # between two steps of the slider
        {"sparsity": "0x0"},
        {"sparsity": " .5"},
        {"one_level": "0.051"},
        {"one_text": "votes\n> 3"},  # a field has one line
    ],
)
def test_a_link_makes_nothing_that_the_controls_could_not(opened, odd):
    page = opened(vote_lab(sparsity=0.8, one="written", one_level=0.7))
    masks = page.data("one"), page.data("two")
    page.tab.evaluate("(hash) => { location.hash = hash }", f"vote-lab?{urlencode(odd)}")
    page.tab.wait_for_timeout(50)
    page.tab.evaluate("(hash) => { location.hash = hash }", "vote-lab?two_level=0.35")
    page.tab.wait_for_timeout(50)
    assert page.control("Second rule, level").input_value() == "0.35"
    assert page.control("Asked to remove").input_value() == "0.8"
    assert page.control("First rule, level").input_value() == "0.7"
    assert (page.data("one"), page.data("two")) == masks


@pytest.mark.browser
def test_a_long_line_is_refused_not_cut_off(opened):
    page = opened(vote_lab(one="written"))
    line = page.control("First rule, in one line")
    line.focus()
    line.press("Control+a")
    start = "votes >= 3" + " or votes >= 3" * 14  # a rule, by itself
    page.tab.keyboard.insert_text(start[:200] + " and norm > 100" * 700)
    error = page.box.locator(".mpfl-error:visible")
    assert error.inner_text() == "Place 201: a rule has at most 200 characters."
    assert page.data("one") == ""


@pytest.mark.browser
def test_of_a_link_that_cannot_be_read_nothing_is_decided(opened):
    page = opened(vote_lab())
    address = f"{page.tab.url}#vote-lab?{urlencode({'one': 'written', 'one_text': 'foo'})}"
    page.tab.goto("about:blank")
    page.tab.goto(address)
    page.box.locator("button").first.wait_for()
    said = page.box.locator(".mpfl-said")
    assert said.inner_text() == "The first rule cannot be read. Mend it to see what it keeps."
    assert not page.box.locator(".mpfl-hand").is_visible()
    page.control("First rule, in one line").fill("votes >= 2")
    assert page.box.locator(".mpfl-hand").is_visible() and page.data("one")
    page.control("First rule, in one line").fill("votes >= ")
    assert said.inner_text().endswith("Below is what the last rule did that could.")
    assert page.box.locator(".mpfl-hand").is_visible()


@pytest.mark.browser
def test_a_link_that_was_copied_is_told_of_until_the_picture_changes(opened):
    page = opened(vote_lab())
    page.tab.evaluate("() => { navigator.clipboard.writeText = () => Promise.reject(); }")
    page.box.get_by_role("button", name="Copy link").click()
    page.box.get_by_text("Copy it from the field.").wait_for()
    page.set({"Asked to remove": 0.2})
    assert page.box.get_by_text("Copy it from the field.").count() == 0
    assert "sparsity=0.2&" in page.box.get_by_label("Link to this picture").input_value()
