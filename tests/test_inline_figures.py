"""A figure in a page: its paper is gone, its ink is the page's, its numbers are what they were."""

from __future__ import annotations

import io
import re
import runpy
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pytest

EXTENSION = runpy.run_path(str(Path(__file__).parent.parent / "book" / "_ext" / "figures.py"))


@pytest.fixture(scope="module")
def drawn() -> str:
    from mpfl.show.plots.lines import lines_with_range

    figure = lines_with_range([1, 2, 3], {"a < b": [0.1, 0.2, 0.3]}, "round", "share")
    written = io.StringIO()
    with plt.rc_context({"svg.fonttype": "none", "svg.hashsalt": "test"}):
        figure.savefig(written, format="svg", bbox_inches="tight")
    return written.getvalue()


def test_it_is_a_picture_with_words_in_the_colours_of_the_page(drawn: str) -> None:
    inline: str = EXTENSION["inline"](drawn, "A line &amp; a dot", "p1-")
    root = ET.fromstring(inline)
    (svg,) = root
    assert svg.attrib["role"] == "img" and svg.attrib["aria-label"] == "A line & a dot"
    words = {each.text for each in svg.iter("text")}
    assert {"round", "share", "a < b", "1", "2", "3"} <= words
    assert "#ffffff" not in inline and "#262626" not in inline and "#cccccc" not in inline
    assert "var(--plot-ink)" in inline and "var(--plot-line)" in inline
    assert len(inline) < len(drawn) / 2


def test_what_it_refers_to_is_in_it(drawn: str) -> None:
    inline = EXTENSION["inline"](drawn, "", "p7-")
    used = set(re.findall(r'(?:url\(#|href="#)([\w.-]+)', inline))
    there = set(re.findall(r'id="([^"]*)"', inline))
    assert used and used == there and all(each.startswith("p7-") for each in used)


def test_its_lines_are_where_they_were(drawn: str) -> None:
    def points(svg: str) -> list[float]:
        paths = re.findall(r' d="([^"]*)"', svg)
        return [float(n) for path in paths for n in re.findall(r"-?\d+(?:\.\d+)?", path)]

    before, after = points(drawn), points(EXTENSION["inline"](drawn, "", "p1-"))
    paper = len(before) - len(after)
    assert paper == 16  # two rectangles of four corners
    assert after[-40:] == pytest.approx(before[-40:], abs=0.006)


@pytest.mark.parametrize(
    ("colour", "meant"),
    [
        ("#000000", "var(--plot-ink)"),
        ("#262626", "var(--plot-ink)"),
        ("#999999", "var(--plot-soft)"),
        ("#cccccc", "var(--plot-line)"),
        ("#e4e4e4", "var(--plot-faint)"),
        ("#ffffff", "var(--plot-paper)"),
        ("#0072b2", "color-mix(in oklab,#0072b2 var(--plot-pure),white)"),
        ("#e69f00", "#e69f00"),
    ],
)
def test_greys_turn_round_with_the_theme_and_hues_stay(colour: str, meant: str) -> None:
    assert EXTENSION["ink"](colour) == meant


def test_each_colour_of_the_page_is_defined() -> None:
    style = (Path(__file__).parent.parent / "book" / "assets" / "mpfl.css").read_text()
    names: Any = {name for _, name in EXTENSION["INKS"]} | {"pure"}
    assert {name for name in names if f"--plot-{name}:" not in style} == set()


def test_a_picture_of_pixels_is_still_there() -> None:
    """Photographs and maps are pictures inside the SVG, named by another namespace's href."""
    figure, axes = plt.subplots()
    axes.imshow([[0, 1], [1, 0]])
    written = io.StringIO()
    figure.savefig(written, format="svg")
    (svg,) = ET.fromstring(EXTENSION["inline"](written.getvalue(), "", "p1-"))
    pictures = list(svg.iter("image"))
    assert pictures
    assert all(each.get("href", "").startswith("data:image/png;base64,") for each in pictures)


def test_white_words_on_a_filled_cell_stay_white() -> None:
    """A cell's colour is the same in both themes, so what is written on it must be, too."""
    figure, axes = plt.subplots()
    axes.imshow([[1.0]])
    axes.text(0, 0, "96.1", color="white")
    written = io.StringIO()
    with plt.rc_context({"svg.fonttype": "none"}):
        figure.savefig(written, format="svg")
    (svg,) = ET.fromstring(EXTENSION["inline"](written.getvalue(), "", "p1-"))
    (words,) = [each for each in svg.iter("text") if each.text == "96.1"]
    rules = next(svg.iter("style")).text or ""
    assert "fill:white" in rules.split(f".{words.get('class')}{{")[1].split("}")[0]
