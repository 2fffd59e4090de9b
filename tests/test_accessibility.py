"""Every built page opens without an error or a request outside, and for every reader.

The pages are those of `_build/html`, which `make book` builds. axe-core looks for what breaks WCAG
2.2 at levels A and AA.
"""

from __future__ import annotations

from importlib.resources import files
from typing import Any

import pytest
from test_book import HTML, SITE, built

pytestmark = [pytest.mark.browser, built]

AXE = (files("axe_playwright_python") / "axe.min.js").read_text(encoding="utf-8")
WCAG = [f"wcag{version}" for version in ("2a", "2aa", "21a", "21aa", "22aa")]
LESS = {"preload": False, "resultTypes": ["violations"]}  # no style sheet anew, no list of all else
# Everything is unfolded. Of words of code that look alike one stays: thousands take minutes.
PREPARE = """() => {
    for (const each of document.querySelectorAll("details")) each.open = true;
    const seen = new Set();
    for (const each of document.querySelectorAll("pre span")) {
        const look = `${each.parentElement.className} ${each.className}`;
        if (seen.has(look)) each.replaceWith(each.textContent); else seen.add(look);
    }
}"""
# The theme looks 0.3 s after a change what scrolls, and lets it be reached by key. This waits until
# it has.
SETTLED = """(scheme) => {
    const scrolls = (each) =>
        each.scrollWidth > each.clientWidth || each.scrollHeight > each.clientHeight;
    const blocks = document.querySelectorAll("pre, .cell_output > .output, .jp-RenderedHTMLCommon,"
        + " .pst-scrollable-table-container");
    return document.documentElement.dataset.theme === scheme
        && document.getAnimations().every((each) => each.playState !== "running")
        && [...blocks].every((each) => each.tabIndex === 0 || !scrolls(each));
}"""
# Nine tenths of the time would go into the contrast of one text after the other. Texts in the same
# type and colours, on the same grounds, look alike: three of each look are marked, to be judged.
MARK = """() => {
    const grounds = new Map([[null, ""]]);
    const ground = (each) => {
        if (!grounds.has(each)) {
            const {backgroundColor, backgroundImage, opacity} = getComputedStyle(each);
            const own = [backgroundColor, backgroundImage, opacity].join(" ");
            const below = ground(each.parentElement);
            grounds.set(each, own === "rgba(0, 0, 0, 0) none 1" ? below : `${below}/${own}`);
        }
        return grounds.get(each);
    };
    const seen = new Map();
    for (const each of document.querySelectorAll("body *")) {
        delete each.dataset.judged;
        const texts = [...each.childNodes].filter((node) => node.nodeType === Node.TEXT_NODE);
        const own = texts.some((node) => node.data.trim()) || each.matches("input, select, button");
        if (!own || !each.checkVisibility()) continue;
        const style = getComputedStyle(each), around = each.parentElement;
        const type = [style.color, style.fill, style.fontSize, style.fontWeight, style.textShadow];
        const link = [style.textDecoration, getComputedStyle(around).color, around.tagName];
        const look = [each.tagName, ...type, ...link, ground(each)].join();
        seen.set(look, (seen.get(look) ?? 0) + 1);
        if (seen.get(look) <= 3) each.dataset.judged = "";
    }
}"""
# Dark, only colours differ; on a telephone everything but the colours may.
COLOURS = {"runOnly": ["color-contrast", "link-in-text-block"]}
OTHERS = {"runOnly": WCAG, "rules": {"color-contrast": {"enabled": False}}}
VIEWS = [
    ("light", 1280, [OTHERS, COLOURS]),
    ("dark", 1280, [COLOURS]),
    ("dark", 390, [OTHERS]),
]
# Pages of source code, one a module, are alike: axe looks at all of them in the first view, and at
# two in every view.
CODE = [page for page in HTML if page.startswith("_modules/")]
LOOKED_AT = {
    "_modules/index.html",
    max(CODE, key=lambda page: (SITE / page).stat().st_size, default=""),
}


@pytest.fixture(scope="module")
def tab(browser: Any) -> Any:
    """One tab for page after page: a tab of its own costs a page another second."""
    return browser.new_page(reduced_motion="reduce")


@pytest.mark.parametrize("page", HTML)
def test_page_opens_cleanly_for_everyone(tab: Any, page: str) -> None:
    faults: list[str] = []
    watched = {
        "console": lambda m: faults.append(f"console: {m.text}") if m.type == "error" else None,
        "pageerror": lambda error: faults.append(f"page error: {error}"),
        "requestfailed": lambda request: faults.append(f"failed: {request.url}"),
        "request": lambda request: (
            faults.append(f"outside: {request.url}")
            if not request.url.startswith(("file:", "data:", "blob:"))
            else None
        ),
    }
    tab.emulate_media(color_scheme="light")
    for event, note in watched.items():
        tab.on(event, note)
    tab.goto((SITE / page).as_uri())
    tab.evaluate(PREPARE)
    tab.evaluate(AXE)
    for view, (scheme, width, rules) in enumerate(VIEWS):
        tab.emulate_media(color_scheme=scheme)
        tab.set_viewport_size({"width": width, "height": 800})
        tab.wait_for_function(SETTLED, arg=scheme, timeout=20_000)
        assert tab.evaluate("document.documentElement.dataset.theme") == scheme
        wider = tab.evaluate("document.documentElement.scrollWidth - window.innerWidth")
        if wider > 0:
            faults.append(f"{width} wide: the page is {wider} pixels wider than the window")
        if view > 0 and page in CODE and page not in LOOKED_AT:
            continue
        tab.evaluate(MARK)
        for options in rules:
            where = "[data-judged]" if options is COLOURS else "html"
            found = tab.evaluate(
                "([where, options]) => axe.run(where, options)", [where, LESS | options]
            )
            faults += [
                f"{scheme}, {width} wide: {each['help']}: {node['html']}"
                for each in found["violations"]
                for node in each["nodes"]
            ]
    tab.goto("about:blank")  # what a page still has to say, it says now
    for event, note in watched.items():
        tab.remove_listener(event, note)
    assert faults == []


def test_formulas_are_drawn_without_a_script(browser: Any) -> None:
    tab = browser.new_page()
    pages = [page for page in HTML if 'class="math' in (SITE / page).read_text()]
    assert pages
    for page in pages:
        tab.goto((SITE / page).as_uri())
        heights = tab.evaluate("""() => [...document.querySelectorAll(".math > math")].map(
            (each) => each.getBoundingClientRect().height)""")
        assert heights and min(heights) > 5, page
    tab.close()
