"""What a page says of itself in its head, and the landing page at the root."""

from __future__ import annotations

import re
from html import unescape
from pathlib import Path

import pytest
from test_book import PAGES, SITE, built

pytestmark = built


def head(page: str) -> str:
    return (SITE / f"{page}.html").read_text(encoding="utf-8").partition("</head>")[0]


def said(page: str, name: str) -> str:
    found = re.findall(rf'<meta (?:name|property)="{name}" content="([^"]*)"', head(page))
    assert len(found) == 1, f"{page}: {name} stands there {len(found)} times"
    return unescape(found[0])


@pytest.mark.parametrize("page", ["index", *PAGES])
def test_a_page_has_an_icon_a_description_and_a_picture(page: str) -> None:
    assert len(said(page, "description")) >= 15
    assert said(page, "og:description") == said(page, "description")
    assert said(page, "og:title") and "<" not in said(page, "og:title")
    here = (SITE / f"{page}.html").parent
    picture = here / said(page, "og:image")
    assert picture.read_bytes().startswith(b"\x89PNG")
    icons = re.findall(r'<link rel="[a-z ]*icon"[^>]*href="([^"]*)"', head(page))
    assert {Path(icon).suffix for icon in icons} == {".svg", ".png"}
    assert all((here / icon).is_file() for icon in icons)


def test_no_two_chapters_have_the_same_description() -> None:
    chapters = [page for page in PAGES if page.startswith("notebooks/")]
    assert len({said(page, "description") for page in chapters}) == len(chapters)


def test_the_root_is_the_landing_page() -> None:
    """Its links are tested with all others, in test_book.py."""
    root, landing = ((SITE / page).read_text() for page in ("index.html", "book/index.html"))
    assert "http-equiv" not in root
    assert (
        re.findall("<h1>.*?</h1>", root, re.S)[:1] == re.findall("<h1>.*?</h1>", landing, re.S)[:1]
    )
    assert 'data-content_root="./"' in root
