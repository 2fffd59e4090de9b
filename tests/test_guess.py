"""Predict, then check: the page judges a guess as Python does."""

import json
import re
from importlib.resources import files
from typing import Any

import numpy as np
import pytest
from widget_pages import Page, state_in

from mpfl.show.widgets.guess import Guess
from mpfl.show.widgets.playable import module
from mpfl.types import MPFLError

AXE = (files("axe_playwright_python") / "axe.min.js").read_text(encoding="utf-8")
WCAG = [f"wcag{version}" for version in ("2a", "2aa", "21a", "21aa", "22aa")]
BECAUSE = "One stubborn node is enough."


def share(**changes: Any) -> Guess:
    asked = {"answer": 0.34, "within": 0.05, "unit": "of the filters", "because": BECAUSE}
    return Guess("How much stays?", **(asked | changes))


def rule(**changes: Any) -> Guess:
    asked = {"answer": "any", "choices": ("unanimity", "majority", "any"), "because": BECAUSE}
    return Guess("Which rule keeps most?", **(asked | changes))


def test_the_guess_holds_plain_state_and_escapes_it():
    widget = share(because="For a <b>.", answer=np.float32(0.5))
    html = widget.html()
    assert "a <b>" not in html
    assert state_in(html) == {"label": widget.label} | json.loads(json.dumps(widget.state()))
    assert "</script" not in module("guess.js")


@pytest.mark.parametrize(
    ("answer", "shown"),
    [
        (0.341782, "0.3418"),
        (np.int64(1234567), "1,234,567"),
        (3, "3"),
        (12345.6, "12,346"),
        (-0.25, "-0.25"),
        (0, "0"),
    ],
)
def test_the_answer_is_shown_in_four_digits_or_whole(answer, shown):
    assert share(answer=answer).shown == shown


@pytest.mark.parametrize(
    ("answer", "within", "guess", "right"),
    [
        (0.34, 0.05, 0.39, True),  # 0.39 - 0.34 and 0.34 - 0.29 are not both 0.05 in floating point
        (0.34, 0.05, 0.29, True),
        (0.34, 0.05, 0.3901, False),
        (0.34, 0.05, 0.2899, False),
        (0.341782, 0.0, 0.3418, True),  # what the page shows
        (0.341782, 0.0, 0.341782, True),
        (0.341782, 0.0, 0.342, False),
        (7, 0, 7, True),
        (7, 0, 8, False),
        (12345.6, 0, 12346, True),
        (-2, 1, -3, True),
    ],
)
@pytest.mark.browser
def test_a_guess_within_is_right(opened, answer, within, guess, right):
    widget = share(answer=answer, within=within)
    assert widget.right() is None
    widget.guess = guess
    assert widget.right() is right
    page = opened(share(answer=answer, within=within))
    page.control("How much stays?").fill(str(guess))
    page.box.get_by_role("button").click()
    assert page.data("right") == json.dumps(right)
    assert verdict(page).startswith("Yes" if right else "No, too ")


def test_a_choice_is_right_or_not():
    widget = rule()
    for guess in widget.choices:
        widget.guess = guess
        assert widget.right() is (guess == "any")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"answer": float("nan")}, "answer is nan; give a finite number"),
        ({"answer": np.inf}, "answer is inf; give a finite number"),
        ({"answer": "any"}, "answer is 'any'; give a number, or choices too"),
        ({"answer": True}, "answer is True; give a number, or choices too"),
        ({"because": "  "}, "because is empty; give a sentence"),
        ({"within": -0.1}, "within is -0.1; give a finite number from 0"),
        ({"within": float("nan")}, "within is nan; give a finite number from 0"),
        ({"choices": ("a", "b"), "answer": "c"}, "answer is 'c'; it must be one of a, b"),
        ({"choices": ("a", "b"), "answer": 0.5}, "answer is 0.5; it must be one of a, b"),
        ({"choices": ("a",), "answer": "a"}, "give two or more, no two equal"),
        ({"choices": ("a", "a"), "answer": "a"}, "give two or more, no two equal"),
        ({"choices": "ab", "answer": "a"}, "give two or more, no two equal"),
    ],
)
def test_a_guess_refuses(changes, says):
    with pytest.raises(MPFLError, match=re.escape(f"guess: {says}" if "two" not in says else says)):
        share(**changes)


def test_a_guess_refuses_no_question():
    with pytest.raises(MPFLError, match="guess: question is empty"):
        Guess("", answer=1, because=BECAUSE)


def verdict(page: Page) -> str:
    return page.box.locator(".mpfl-verdict").inner_text()


@pytest.mark.browser
def test_a_number_by_keyboard_and_by_mouse(opened):
    page = opened(share())
    assert verdict(page) == ""
    field = page.control("How much stays?")
    button = page.box.get_by_role("button", name="Check")
    button.click()
    assert verdict(page) == "Type a number first."
    assert field.evaluate("(field) => field === document.activeElement")
    page.tab.keyboard.type("0.9")
    page.tab.keyboard.press("Enter")
    told = "The page finds 0.34 of the filters; you said"
    assert verdict(page) == f"No, too high. {told} 0.9. {BECAUSE}"
    field.fill("")
    button.click()
    assert verdict(page) == "Type a number first."
    assert page.data("right") is None
    field.fill("0.9")  # the same guess again, after a word about none
    page.tab.keyboard.press("Tab")
    page.tab.keyboard.press("Space")
    assert verdict(page) == f"No, too high. {told} 0.9. {BECAUSE}"
    field.fill("-1e-1")
    button.click()
    assert verdict(page) == f"No, too low. {told} -0.1. {BECAUSE}"
    field.fill(".3")
    button.click()
    assert verdict(page) == f"Yes, within 0.05. {told} 0.3. {BECAUSE}"
    field.fill("0.34")
    button.click()
    assert verdict(page) == f"Yes: 0.34 of the filters. {BECAUSE}"
    assert page.keys_outside() == []


@pytest.mark.browser
def test_a_choice_by_keyboard_and_by_mouse(opened):
    page = opened(rule())
    page.box.get_by_role("button", name="Check").click()
    assert verdict(page) == "Choose an answer first."
    assert page.box.get_by_role("group", name="Which rule keeps most?").is_visible()
    page.tab.keyboard.press("Space")
    page.tab.keyboard.press("Enter")
    assert (verdict(page), page.data("right")) == (f"No, it is any. {BECAUSE}", "false")
    page.tab.keyboard.press("ArrowUp")  # from the first to the last
    page.tab.keyboard.press("Enter")
    assert (verdict(page), page.data("right")) == (f"Yes: any. {BECAUSE}", "true")
    page.control("majority").check()
    assert (verdict(page), page.data("right")) == ("", None)  # it judged another answer
    page.box.get_by_role("button", name="Check").click()
    assert (verdict(page), page.data("right")) == (f"No, it is any. {BECAUSE}", "false")
    assert page.keys_outside() == []


@pytest.mark.browser
@pytest.mark.parametrize(("widget", "guess"), [(share(), 0.3), (rule(), "any")])
def test_a_guess_that_python_sets_is_shown(opened, widget, guess):
    widget.guess = guess
    page = opened(widget)
    assert page.data("right") == "true" and BECAUSE in verdict(page)


@pytest.mark.browser
@pytest.mark.parametrize(("widget", "guess"), [(share(), 0.9), (rule(), "any")])
def test_a_guess_is_for_every_reader(opened, widget, guess):
    widget.guess = guess
    page = opened(widget)
    page.tab.evaluate(AXE)
    found = page.tab.evaluate(
        "async (tags) => (await axe.run('.mpfl-play', { runOnly: tags })).violations", WCAG
    )
    assert found == []


@pytest.mark.browser
def test_a_number_is_read_as_it_was_written(opened):
    page = opened(share(answer=1376, within=0, unit="filters"))
    field = page.control("How much stays?")

    def said(text: str) -> str:
        field.fill("")
        field.focus()
        page.tab.keyboard.insert_text(text)
        page.tab.keyboard.press("Enter")
        return verdict(page)

    for text in ("1376", "1,376", "1 376", "1\u00a0376", " 1376.0 ", "1.376e3", "１３７６", "+1376",
                 "1376 filters"):  # fmt: skip
        assert said(text) == f"Yes: 1,376 filters. {BECAUSE}", text
    for text, number in {"\u22125": "-5", "0.5 filters": "0.5", ".0000001": "1e-7",
                         "1e308": "1e+308", "12,345": "12,345"}.items():  # fmt: skip
        assert f"you said {number}. " in said(text), text
    for text in ("0,5", "1,37", "1,3760", "1e309", "NaN", "Infinity", "0x10", "--5", "1.2.3", "e5",
                 ".", "٣", "a\nb", "34 %"):  # fmt: skip
        told = "That is no number here; write one such as 0.5 or 1,376."
        assert (said(text), page.data("right")) == (told, None), text
    assert page.keys_outside() == []


@pytest.mark.parametrize("widget", [share(), rule()])
def test_a_guess_can_be_read_without_a_script(widget):
    aside = re.search("<noscript>(.*?)</noscript>", widget.html(), re.S)[1]
    assert widget.question in aside and widget.shown in aside and BECAUSE in aside
