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
# Dark, only colours differ; on a telephone everything but the colours may.
VIEWS = [
    ("light", 1280, {"runOnly": WCAG}),
    ("dark", 1280, {"runOnly": ["color-contrast", "link-in-text-block"]}),
    ("dark", 390, {"runOnly": WCAG, "rules": {"color-contrast": {"enabled": False}}}),
]


@pytest.mark.parametrize("page", [each for each in HTML if each != "index.html"])  # it leads on
def test_page_opens_cleanly_for_everyone(browser: Any, page: str) -> None:
    tab = browser.new_page(color_scheme="light", reduced_motion="reduce")
    faults: list[str] = []
    tab.on("console", lambda m: faults.append(f"console: {m.text}") if m.type == "error" else None)
    tab.on("pageerror", lambda error: faults.append(f"page error: {error}"))
    tab.on("requestfailed", lambda request: faults.append(f"failed: {request.url}"))
    tab.on(
        "request",
        lambda request: (
            faults.append(f"outside: {request.url}")
            if not request.url.startswith(("file:", "data:", "blob:"))
            else None
        ),
    )
    tab.goto((SITE / page).as_uri())
    tab.evaluate(PREPARE)
    tab.evaluate(AXE)
    for scheme, width, options in VIEWS:
        tab.emulate_media(color_scheme=scheme)
        tab.set_viewport_size({"width": width, "height": 800})
        tab.wait_for_timeout(400)  # the theme waits too, before it looks at a new size
        assert tab.evaluate("document.documentElement.dataset.theme") == scheme
        found = tab.evaluate("(options) => axe.run(options)", LESS | options)
        faults += [
            f"{scheme}, {width} wide: {each['help']}: {node['html']}"
            for each in found["violations"]
            for node in each["nodes"]
        ]
        wider = tab.evaluate("document.documentElement.scrollWidth - window.innerWidth")
        if wider > 0:
            faults.append(f"{width} wide: the page is {wider} pixels wider than the window")
    tab.close()
    assert faults == []


def test_search_and_formulas_work_offline(browser: Any) -> None:
    tab = browser.new_page()
    tab.goto((SITE / "search.html").as_uri() + "?q=consensus")
    tab.wait_for_selector("#search-results li", timeout=10_000)
    with_math = [page for page in HTML if 'class="math' in (SITE / page).read_text()]
    for page in with_math[:1]:
        tab.goto((SITE / page).as_uri())
        tab.wait_for_selector("mjx-container svg", timeout=10_000)
    tab.close()
