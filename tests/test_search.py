"""The search of the book: from disk and from a server, with a few words of what it found."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from test_book import SITE, built

pytestmark = [pytest.mark.browser, built]


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@pytest.fixture(scope="module", params=["file", "http"])
def root(request: pytest.FixtureRequest) -> Iterator[str]:
    if request.param == "file":
        yield SITE.as_uri()
        return
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(SITE)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def asked(browser: Any, root: str, query: str) -> list[dict[str, str]]:
    """What the search page shows for a query, in its order."""
    faults: list[str] = []
    tab = browser.new_page()
    tab.on("console", lambda m: faults.append(m.text) if m.type == "error" else None)
    tab.on("pageerror", lambda error: faults.append(str(error)))
    tab.goto(f"{root}/search.html?q={query.replace(' ', '+')}")
    tab.wait_for_selector("#search-results .search-summary:not(:empty)", timeout=10_000)
    found: list[dict[str, str]] = tab.evaluate(
        """() => [...document.querySelectorAll("#search-results li")].map((each) => ({
            page: each.querySelector("a").getAttribute("href"),
            title: each.querySelector("a").textContent,
            about: each.querySelector("p")?.textContent ?? "",
            marked: each.querySelector("mark")?.textContent ?? ""}))"""
    )
    tab.close()
    assert faults == []
    return found


@pytest.mark.parametrize("query", ["lottery", "federated averaging", "how many bytes"])
def test_chapters_come_first_with_a_few_words(browser: Any, root: str, query: str) -> None:
    found = asked(browser, root, query)
    assert found
    pages = [each["page"] for each in found]
    reference = [page.startswith("book/api") for page in pages]
    assert not reference[0] and reference == sorted(reference)
    assert len(set(pages)) > 1
    chapters = [each for each in found if not each["page"].startswith("book/api")]
    assert all(len(each["about"]) > 40 for each in chapters)
    assert chapters[0]["marked"]


def test_a_name_of_the_package_finds_its_page(browser: Any, root: str) -> None:
    found = asked(browser, root, "published_threshold")
    assert found[0]["page"].startswith("book/api/")
    assert "published_threshold" in found[0]["page"]


def test_a_title_comes_before_text(browser: Any, root: str) -> None:
    assert asked(browser, root, "glossary")[0]["title"] == "Glossary"


def test_no_more_is_said_to_be_found_than_is(browser: Any, root: str) -> None:
    tab = browser.new_page()
    for query in ("mask", "released code", "leb128"):
        tab.goto(f"{root}/search.html?q={query.replace(' ', '+')}")
        tab.wait_for_selector("#search-results .search-summary:not(:empty)", timeout=10_000)
        said = tab.locator(".search-summary").inner_text()
        shown = tab.locator("#search-results li").count()
        many = re.fullmatch(r"The first 40 of (\d+) places that match:", said)
        if many:
            assert shown == 40 < int(many[1])
        else:
            assert said == (f"{shown} places match:" if shown > 1 else "One place matches:")
    tab.close()


def test_nothing_found_is_said(browser: Any, root: str) -> None:
    assert asked(browser, root, "qwertzuiop") == []


def test_where_nothing_can_be_stored_search_and_themes_work(browser: Any, root: str) -> None:
    """As from disk with cookies refused, or in a frame of another site."""
    denied = """for (const name of ["localStorage", "sessionStorage"])
        Object.defineProperty(window, name, { configurable: true,
            get() { throw new DOMException("denied", "SecurityError"); } })"""
    faults: list[str] = []
    tab = browser.new_page(color_scheme="light")
    tab.add_init_script(denied)
    tab.on("console", lambda m: faults.append(m.text) if m.type in ("error", "warning") else None)
    tab.on("pageerror", lambda error: faults.append(str(error)))
    tab.goto(f"{root}/search.html?q=lottery")
    tab.wait_for_selector("#search-results li", timeout=10_000)
    seen = set()
    for _ in range(3):
        seen.add(tab.evaluate("document.documentElement.dataset.mode"))
        tab.locator(".theme-switch-button").first.click()
    tab.close()
    assert (faults, seen) == ([], {"auto", "light", "dark"})
