"""The search of the book: from disk and from a server, with a few words of what it found."""

from __future__ import annotations

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


def test_nothing_found_is_said(browser: Any, root: str) -> None:
    assert asked(browser, root, "qwertzuiop") == []
