"""The built pages are well made: light, their point on the first screen, and nothing cut off.

Each page is opened once, and everything is measured there: at 1440 pixels, with its folds closed
and then open, and at 390 pixels, as wide as a telephone.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from test_book import HTML, SITE, built

pytestmark = [pytest.mark.browser, built]

WEIGHT = 1_000_000  # bytes that a page loads, nothing compressed
INDEX = 500_000  # more, if it is the one that loads the index of all words
FIRST_HEADING = 450  # pixels from the top, 1440 wide
CODE_LINES = 60  # that are not folded
SQUEEZED = 12  # lines of a cell below 150 pixels, in a table that scrolls
SMALLEST_TEXT = 9  # pixels, in a figure, 390 wide

# Pages of source code are alike, and as wide as the source.
PAGES = [page for page in HTML if not page.startswith("_modules/")]
WIDE = ("book/api/", "genindex", "py-modindex")

CLOSED = """() => {
    const lines = (each) => each.textContent.trimEnd().split("\\n").length;
    const where = ".cell_input pre, .output.text_html .highlight pre";
    const code = [...document.querySelectorAll(where)].filter((each) => each.checkVisibility());
    const pictures = [...document.querySelectorAll(".plot, .cell_output img")];
    return {
        heading: document.querySelector(".bd-article h2")?.getBoundingClientRect().top ?? 0,
        lines: code.reduce((sum, each) => sum + lines(each), 0),
        unnumbered: pictures.filter(
            (each) => !each.closest("figure")?.querySelector(".caption-number")).length,
    };
}"""
OPEN = """() => {
    for (const each of document.querySelectorAll("details")) each.open = true;
    return [...document.querySelectorAll(".bd-article pre")]
        .filter((each) => each.scrollWidth > each.clientWidth + 1
            || each.parentElement.scrollWidth > each.parentElement.clientWidth + 1)
        .map((each) => each.textContent.split("\\n").reduce((a, b) => a.length > b.length ? a : b));
}"""
NARROW = """async () => {
    // What watches for a change of size has answered once two frames have been drawn.
    await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
    const cut = [...document.querySelectorAll(".bd-article table")].filter((table) => {
        for (let box = table.parentElement; box.matches(".bd-article *"); box = box.parentElement) {
            if (box.scrollWidth <= box.clientWidth + 1) continue;
            const scrolls = ["auto", "scroll"].includes(getComputedStyle(box).overflowX);
            return !(scrolls && box.classList.contains("more-right") && box.tabIndex === 0);
        }
        return table.getBoundingClientRect().right > document.documentElement.clientWidth + 1;
    });
    const sizes = [...document.querySelectorAll(".plot svg")].flatMap((svg) => {
        const scale = svg.getBoundingClientRect().width / svg.viewBox.baseVal.width;
        return [...svg.querySelectorAll("text")]
            .map((text) => [parseFloat(getComputedStyle(text).fontSize) * scale, text.textContent]);
    });
    const wide = [...document.querySelectorAll(".plot, .bd-article caption")]
        .filter((each) => each.checkVisibility() && (each.matches("caption")
            ? each.getBoundingClientRect().right > document.documentElement.clientWidth
            : each.scrollWidth > each.clientWidth + 1));
    const thin = [...document.querySelectorAll(".bd-article :is(.scrolls, .tag_sentences) td")]
        .filter((cell) => cell.checkVisibility() && cell.clientWidth < 150 && cell.clientHeight
            > SQUEEZED * parseFloat(getComputedStyle(cell).lineHeight));
    const page = document.documentElement;
    return {sideways: page.scrollWidth - page.clientWidth,
            thin: thin.map((each) => each.textContent.trim().slice(0, 60)),
            cut: cut.map((each) => each.textContent.trim().slice(0, 60)),
            wide: wide.map((each) => (each.querySelector("svg")?.getAttribute("aria-label")
                ?? each.textContent).trim().slice(0, 60)),
            small: sizes.filter(([size]) => size < SMALLEST)};
}""".replace("SMALLEST", str(SMALLEST_TEXT)).replace("SQUEEZED", str(SQUEEZED))


@pytest.fixture(scope="module")
def tab(browser: Any) -> Any:
    return browser.new_page(viewport={"width": 1440, "height": 900}, reduced_motion="reduce")


def opened(tab: Any, page: str) -> int:
    """Open a page; the bytes of it and of every file that it loads."""
    paths: set[str] = set()

    def note(request: Any) -> None:
        if request.url.startswith("file:"):
            paths.add(unquote(urlsplit(request.url).path))

    tab.on("request", note)
    tab.goto((SITE / page).as_uri())
    tab.remove_listener("request", note)
    assert len(paths) > 5, "no file was loaded: are the style sheets there?"
    return sum(Path(path).stat().st_size for path in paths)


@pytest.mark.parametrize("page", PAGES)
def test_page_is_well_made(tab: Any, page: str) -> None:
    faults = []
    tab.set_viewport_size({"width": 1440, "height": 900})
    most = WEIGHT + INDEX * (page == "search.html")
    if (weight := opened(tab, page)) > most:
        faults.append(f"it loads {weight:,} bytes; at most {most:,}")
    closed = tab.evaluate(CLOSED)
    if page.startswith("notebooks/"):
        if closed["heading"] > FIRST_HEADING:
            faults.append(
                f"its first section begins at {closed['heading']:.0f}; at most {FIRST_HEADING}"
            )
        if closed["lines"] > CODE_LINES:
            faults.append(f"{closed['lines']} lines of code are not folded; at most {CODE_LINES}")
        if closed["unnumbered"]:
            faults.append(
                f"{closed['unnumbered']} figures have no number: mystnb: figure: {{name: ...}}"
            )
    wide = tab.evaluate(OPEN)
    if not page.startswith(WIDE):
        faults += [f"too wide at 1440, {len(line)} columns: {line}" for line in wide]
    tab.set_viewport_size({"width": 390, "height": 800})
    narrow = tab.evaluate(NARROW)
    faults += [f"a table is cut off at 390: {text}" for text in narrow["cut"]]
    if narrow["sideways"] > 0:
        faults.append(f"it is {narrow['sideways']} pixels wider than 390")
    faults += [f"a column is too narrow to read at 390: {text}" for text in narrow["thin"]]
    faults += [f"a figure or a caption is wider than 390: {text}" for text in narrow["wide"]]
    faults += [f"text of {size:.1f} pixels at 390: {text}" for size, text in narrow["small"]]
    assert not faults, "\n" + "\n".join(faults)


def test_icons_are_drawn(tab: Any) -> None:
    """Every icon that a page names has its shape in icons.css."""
    tab.set_viewport_size({"width": 1440, "height": 900})
    for page in ("index.html", "search.html", "notebooks/the-vote.html", "book/api/method.html"):
        tab.goto((SITE / page).as_uri())
        shapes = tab.evaluate("""() => [...document.querySelectorAll("[class*='fa-']")]
            .map((each) => [each.className, getComputedStyle(each).maskImage])""")
        assert shapes and [name for name, mask in shapes if not mask.startswith("url(")] == []


def test_a_word_of_the_glossary_says_what_it_means(tab: Any) -> None:
    page = next((p for p in PAGES if 'class="term"' in (SITE / p).read_text()), None)
    if page is None:
        pytest.skip("no page links a word with {term}")
    for width in (1440, 390):
        tab.set_viewport_size({"width": width, "height": 800})
        tab.goto((SITE / page).as_uri())
        link = tab.locator(".bd-article .term a").first
        tip = tab.locator(".bd-article .term .tip").first
        assert not tip.is_visible()
        link.focus()
        assert tip.is_visible()
        box = tip.bounding_box()
        assert box["x"] >= 0 and box["x"] + box["width"] <= width
        assert tip.get_attribute("id") == link.get_attribute("aria-describedby")
        tab.keyboard.press("Escape")
        assert not tip.is_visible()
        tab.mouse.move(0, 0)
        link.hover()
        assert tip.is_visible()


def test_a_touch_on_a_word_shows_what_it_means_and_covers_no_neighbour(browser: Any) -> None:
    page = next((p for p in PAGES if 'class="term"' in (SITE / p).read_text()), None)
    if page is None:
        pytest.skip("no page links a word with {term}")
    tab = browser.new_page(viewport={"width": 390, "height": 800}, has_touch=True)
    tab.goto((SITE / page).as_uri())
    link = tab.locator(".bd-article .term > a").first
    tip = tab.locator(".bd-article .term .tip").first
    link.tap()
    assert tip.is_visible() and tab.url.endswith(page)
    box, word = tip.bounding_box(), link.bounding_box()
    assert box["x"] >= 0 and box["x"] + box["width"] <= 390
    assert box["y"] >= 0 and box["y"] + box["height"] <= 800
    gap = max(word["y"] - box["y"] - box["height"], box["y"] - word["y"] - word["height"])
    assert gap > 100  # pixels: the lines above and below are to be seen
    assert tip.locator("a").get_attribute("href") == link.get_attribute("href")
    link.tap()
    assert not tip.is_visible()
    link.tap()
    tab.touchscreen.tap(195, max(100, word["y"] - 40))
    assert not tip.is_visible()
    link.tap()
    tab.keyboard.press("Escape")
    assert not tip.is_visible()
    tab.close()


def test_on_paper_code_is_whole_and_the_contents_stay_away(tab: Any) -> None:
    tab.set_viewport_size({"width": 700, "height": 900})
    tab.goto((SITE / "notebooks/the-vote.html").as_uri())
    tab.emulate_media(media="print")
    wide = tab.evaluate("""() => [...document.querySelectorAll(".bd-article pre")].filter((each) =>
        each.checkVisibility() && each.scrollWidth > each.clientWidth + 1).length""")
    opened = tab.evaluate("document.querySelectorAll('.bd-article details[open]').length")
    contents = tab.locator("#jb-print-toc").is_visible()
    tab.emulate_media(media="screen")
    assert (wide, opened, contents) == (0, 0, False)
