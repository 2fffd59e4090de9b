"""A search that shows what it found, also in a book opened from disk.

Sphinx fetches each page that it found, for a few words of it; from disk a browser refuses that.
Here the words of all pages are in one script, ``searchtexts.js``, which the search page loads, and
book/assets/search.js orders the results and shows them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx

LONGEST = 5_000  # characters of a page: a summary is looked for no further
SKIPPED = (nodes.literal_block, nodes.raw, nodes.comment, nodes.math_block, nodes.image)


def words(doctree: nodes.document) -> str:
    """The prose of a page, without its code and what the code printed."""
    found = []
    for each in doctree.findall(nodes.TextElement):
        inside = each
        while inside is not None and not isinstance(inside, SKIPPED):
            inside = inside.parent
        text = isinstance(each, (nodes.paragraph, nodes.term, nodes.caption))
        if text and inside is None:
            parts = [part.astext() for part in each.findall(nodes.Text) if not is_key(part)]
            found.append(" ".join("".join(parts).split()))
    return " ".join(found)[:LONGEST]


def is_key(text: nodes.Text) -> bool:
    """The key of a reference, for which its authors are written later."""
    around = text.parent
    while around is not None and not isinstance(around, addnodes.pending_xref):
        around = around.parent
    return around is not None and around["refdomain"] == "cite"


def load_on_search_page(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: object
) -> None:
    if page == "search":
        app.builder.add_js_file("searchtexts.js", defer="defer")
        app.builder.add_js_file("search.js", defer="defer")


def write_texts(app: Sphinx, error: Exception | None) -> None:
    """The words of every page, by its name."""
    if error is None:
        texts = {name: words(app.env.get_doctree(name)) for name in sorted(app.env.found_docs)}
        written = json.dumps(texts, ensure_ascii=False, separators=(",", ":"))
        target = Path(app.outdir) / "_static" / "searchtexts.js"
        target.write_text(f"const TEXTS = {written};\n", encoding="utf-8")


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("html-page-context", load_on_search_page)
    app.connect("build-finished", write_texts)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
