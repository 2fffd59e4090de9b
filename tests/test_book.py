"""The book lists every module, and every built page opens without an error or a request outside.

The browser tests look at `_build/html`, which `make book` builds.
"""

from __future__ import annotations

import pkgutil
import re
import runpy
from pathlib import Path
from typing import Any

import pytest

import mpfl

ROOT = Path(__file__).resolve().parent.parent
SITE = ROOT / "_build" / "html"
PAGES: list[str] = runpy.run_path(str(ROOT / "book" / "check.py"))["pages"]()


def test_every_module_has_its_place_in_the_api_pages() -> None:
    text = "".join(page.read_text() for page in (ROOT / "book" / "api").glob("*.md"))
    listed = re.findall(r"automodule:: (\S+)", text)
    there = {module.name for module in pkgutil.walk_packages(mpfl.__path__, "mpfl.")}
    assert there - set(listed) == set(), "add these to a page in book/api/"
    assert set(listed) - there == set(), "these are gone: take them off their page in book/api/"
    assert len(listed) == len(set(listed)), "a module stands on two pages"


def test_every_page_is_in_the_table_of_contents() -> None:
    written = [*(ROOT / "book").rglob("*.md"), *(ROOT / "notebooks").glob("*.md")]
    assert sorted(PAGES) == sorted(str(p.relative_to(ROOT).with_suffix("")) for p in written)


@pytest.fixture(scope="module")
def browser(browser: Any) -> Any:
    if not SITE.exists():
        pytest.skip("the book is not built: run `make book` first")
    return browser


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("page", ["index", *PAGES, "search", "genindex"])
def test_page_opens_cleanly(browser: Any, page: str, scheme: str) -> None:
    tab = browser.new_page(color_scheme=scheme)
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
    tab.goto((SITE / f"{page}.html").as_uri(), wait_until="networkidle")
    wide = tab.evaluate("document.documentElement.scrollWidth - window.innerWidth")
    tab.close()
    assert faults == []
    assert wide <= 0, f"the page is {wide} pixels wider than the window"


@pytest.mark.browser
def test_search_and_formulas_work_offline(browser: Any) -> None:
    tab = browser.new_page()
    tab.goto((SITE / "search.html").as_uri() + "?q=consensus")
    tab.wait_for_selector("#search-results li", timeout=10_000)
    with_math = [p for p in PAGES if 'class="math' in (SITE / f"{p}.html").read_text()]
    for page in with_math[:1]:
        tab.goto((SITE / f"{page}.html").as_uri())
        tab.wait_for_selector("mjx-container svg", timeout=10_000)
    tab.close()
