"""The tables of the page *Reproduce*, written from the code and the records at each build."""

from __future__ import annotations

from typing import Any

from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment

PAGE = "book/reproduce"
OVERVIEW, IN_FULL = "% the tables, an overview", "% the tables in full"  # their places


def write_tables(app: Sphinx, page: str, source: list[str]) -> None:
    """Put the tables where the page has a comment for them. The build runs where ``data`` is."""
    if page == PAGE:
        from mpfl.show.reproducing import tables_in_full, tables_overview

        text = source[0].replace(OVERVIEW, tables_overview())
        source[0] = text.replace(IN_FULL, tables_in_full())


def read_again(app: Sphinx, env: BuildEnvironment, *pages: set[str]) -> list[str]:
    """Read the page at every build: its text is the same while the records change."""
    return [PAGE] if PAGE in env.found_docs else []


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("source-read", write_tables)
    app.connect("env-get-outdated", read_again)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
