"""What a page loads, kept small: the theme's icons, search and style are cut to what is used.

The theme loads 1.5 MB of icons and the whole search index on every page, and a rule for each of
two thousand icons. book/assets/icons.css has those that the pages name.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

SCRIPT = r"<script[^>]*%s[^>]*></script>\n?"
ICONS = re.compile(SCRIPT % r"scripts/fontawesome\.js")
SEARCH = re.compile(SCRIPT % r"(?:searchtools|language_data|searchindex)\.js")
# The state of ipywidgets, which no script of the book reads: a widget brings its own.
STATE = re.compile(
    r'<script type="application/vnd\.jupyter\.widget-state\+json">.*?</script>', re.S
)
RULES = re.compile(
    r"(?<=[}/])\.fa[\w-]*[^{}]*\{[^{}]*\}|@font-face\{[^}]*Awesome[^}]*\}"
    r"|@(?:-webkit-)?keyframes fa-[\w-]+\{(?:[^{}]*\{[^{}]*\})*\}"
)


def lighten(app: Sphinx, error: Exception | None) -> None:
    """Take off every page what it does not use; the search page keeps its search."""
    if error is not None:
        return
    out = Path(app.outdir)
    for page in out.rglob("*.html"):
        text = STATE.sub("", ICONS.sub("", page.read_text(encoding="utf-8")))
        if page.name != "search.html":
            text = SEARCH.sub("", text)
        page.write_text(text, encoding="utf-8")
    style = out / "_static" / "styles" / "pydata-sphinx-theme.css"
    style.write_text(without_icons(style.read_text(encoding="utf-8")), encoding="utf-8")


def without_icons(css: str) -> str:
    """The theme's style without the rules and fonts of Font Awesome."""
    while (shorter := RULES.sub("", css)) != css:  # a rule is found once the one before it is gone
        css = shorter
    return css


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("build-finished", lighten, priority=900)
    app.add_css_file("icons.css")
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
