"""The book lists every module, and its built pages hold together: links, pictures, downloads.

The built book is `_build/html`, which `make book` makes; test_accessibility.py opens its pages.
"""

from __future__ import annotations

import pkgutil
import re
import runpy
import tomllib
from collections.abc import Mapping
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import nbformat
import pytest
import yaml

import mpfl

ROOT = Path(__file__).resolve().parent.parent
SITE = ROOT / "_build" / "html"
PAGES: list[str] = runpy.run_path(str(ROOT / "book" / "check.py"))["pages"]()
HTML = sorted(
    str(path.relative_to(SITE))
    for path in SITE.rglob("*.html")
    if path.relative_to(SITE).parts[0] != "_static"  # leftovers of the theme
)
NOTEBOOKS = [page.removeprefix("notebooks/") for page in PAGES if page.startswith("notebooks/")]
LAUNCH: dict[str, Any] = runpy.run_path(str(ROOT / "book" / "_ext" / "launch.py"))

built = pytest.mark.skipif(not SITE.exists(), reason="the book is not built: run `make book` first")


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


# --- the built pages -------------------------------------------------------------------------


class Page(HTMLParser):
    """What a page links to, shows, and can be linked at."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: set[str] = set()
        self.anchors: set[str] = set()
        self.images: list[Mapping[str, str | None]] = []
        self.drawings: list[Mapping[str, str | None]] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.anchors |= {value for key in ("id", "name") if (value := found.get(key))}
        self.links |= {value for key in ("href", "src") if (value := found.get(key))}
        if tag == "img":
            self.images.append(found)
        if tag == "svg":
            self.drawings.append(found)
        if (found.get("http-equiv") or "").lower() == "refresh":
            self.links.add((found["content"] or "").partition("url=")[2])


@cache
def site() -> dict[Path, Page]:
    return {SITE / page: Page(SITE / page) for page in HTML}


@built
def test_links_lead_somewhere() -> None:
    broken = []
    for path, page in site().items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if not target.is_file() or (
                parts.fragment
                and target in site()
                and unquote(parts.fragment) not in site()[target].anchors
            ):
                broken.append(f"{path.relative_to(SITE)}: {link}")
    assert broken == []


@built
def test_every_picture_says_what_it_shows() -> None:
    silent = [
        f"{path.relative_to(SITE)}: {image.get('src')}"
        for path, page in site().items()
        for image in page.images
        if not (alt := image.get("alt")) or re.search(r"\.(png|svg|jpe?g)$", alt.strip())
    ]
    silent += [
        f"{path.relative_to(SITE)}: a drawing"
        for path, page in site().items()
        for drawing in page.drawings
        if drawing.get("role") == "img"
        and ((alt := drawing.get("aria-label") or "").strip() == "" or alt.endswith(".svg"))
    ]
    assert silent == [], "give the cell `mystnb: {image: {alt: ...}}`"
    drawn = sum(each.get("role") == "img" for page in site().values() for each in page.drawings)
    assert drawn > 10, "figures are part of their pages"


# --- the notebooks as files ------------------------------------------------------------------


@built
@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_can_be_downloaded(name: str) -> None:
    path = SITE / "notebooks" / f"{name}.html"
    offered = {link for link in site()[path].links if "_sources/" in link}
    assert offered == {f"../_sources/notebooks/{name}{end}" for end in (".ipynb", ".md")}
    text, notebook = (path.parent / link for link in sorted(offered, key=len))
    assert "jupytext:" in text.read_text()
    nbformat.validate(nbformat.read(notebook, as_version=4))


def test_colab_and_binder_open_files_that_are_there() -> None:
    places = LAUNCH["places"]
    assert places("", "x") == places("https://example.org/someone/book", "x") == {}
    for repository in ("https://github.com/some-one/mpfl", "https://github.com/some-one/mpfl.git/"):
        found = places(repository, "the-vote")
        assert found == {
            "Colab": "https://colab.research.google.com/github/some-one/mpfl/blob/notebooks/"
            "notebooks_ipynb/the-vote.ipynb",
            "Binder": "https://mybinder.org/v2/gh/some-one/mpfl/notebooks"
            "?urlpath=lab/tree/notebooks_ipynb/the-vote.ipynb",
        }


def test_the_branch_gets_the_notebooks_of_the_site(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Colab and Binder open what a reader downloads; test_alone.py looks at those files."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / LAUNCH["SITE"]).mkdir(parents=True)
    (tmp_path / LAUNCH["SITE"] / "the-vote.ipynb").write_text("{}")
    (tmp_path / LAUNCH["FOLDER"]).mkdir()
    runpy.run_path(str(ROOT / "book" / "_ext" / "launch.py"), run_name="__main__")
    url = LAUNCH["places"]("https://github.com/some-one/mpfl", "the-vote")["Colab"]
    assert (tmp_path / url.partition("/blob/notebooks/")[2]).read_text() == "{}"


@pytest.mark.parametrize("repository", ["", "https://example.org/x", "https://github.com/a/b.git"])
def test_a_reader_can_report_a_mistake_where_there_is_a_tracker(
    repository: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MPFL_REPOSITORY", repository)
    context: dict[str, Any] = {"header_buttons": []}
    LAUNCH["add_report"](None, "notebooks/the-vote", "", context, object())
    urls = [button["url"] for button in context["header_buttons"]]
    if "github" not in repository:
        assert urls == []
        return
    (url,) = urls
    assert url.startswith("https://github.com/a/b/issues/new?title=")
    assert "notebooks/the-vote" in unquote(url)


def test_binder_installs_what_the_notebooks_need() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = project["dependencies"]
    for extra in ("train", "export"):
        needed += project["optional-dependencies"][extra]
    names = {re.split(r"[<>=]", each)[0] for each in needed}
    listed = yaml.safe_load((ROOT / ".binder" / "environment.yml").read_text())["dependencies"]
    assert (
        names - {each.removesuffix("-cpu").replace("pytorch", "torch") for each in listed} == set()
    )
