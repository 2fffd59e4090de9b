"""What a page loads, kept small: the theme's icons, search and styles are cut to what is used.

The theme loads 1.5 MB of icons and the whole search index on every page, and a rule for each of
two thousand icons. book/assets/icons.css has those that the pages name. Of the theme's own styles
those stay whose classes a page has, or a script may give it.
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


STYLES = ["styles/*.css", "mystnb.*.css", "sphinx-design.min.css"]
HEAVY = {"fontawesome.js", "searchtexts.js"}  # scripts whose words are no classes
MADE_UP = (
    "bs-tooltip",
    "tooltip",
    "modal",
    "collaps",
    "dropdown",
)  # names that Bootstrap puts together


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
    used = names_in(out)
    for style in STYLES:
        for file in (out / "_static").glob(style):
            css = without_icons(file.read_text(encoding="utf-8"))
            file.write_text(only_used(css, used), encoding="utf-8")


def without_icons(css: str) -> str:
    """The theme's style without the rules and fonts of Font Awesome."""
    while (shorter := RULES.sub("", css)) != css:  # a rule is found once the one before it is gone
        css = shorter
    return css


def names_in(out: Path) -> set[str]:
    """Every class of the pages, and every word of the scripts, which may be one."""
    names: set[str] = set()
    for page in out.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        for found in re.findall(r'class="([^"]*)"', text):
            names.update(found.split())
        for widget in re.findall(r'<script type="module">(.*?)</script>', text, re.S):
            names.update(re.findall(r"[A-Za-z][\w-]*", widget))
    for script in [*(out / "_static").glob("*.js"), *(out / "_static" / "scripts").glob("*.js")]:
        if script.name not in HEAVY:
            names.update(re.findall(r"[A-Za-z][\w-]*", script.read_text(encoding="utf-8")))
    return names


def only_used(css: str, used: set[str]) -> str:
    """The rules that can apply: each class that one of their selectors asks for is used."""

    def applies(selector: str) -> bool:
        asked = re.findall(r"\.(-?[A-Za-z_][\w-]*)", re.sub(r":(?:not|is|where)\(.*", "", selector))
        return all(name in used or name.startswith(MADE_UP) for name in asked)

    def shorter(rule: re.Match[str]) -> str:
        selectors, body = rule.groups()
        if selectors.lstrip().startswith(("@", ":root")) or "\\" in selectors:
            return rule[0]
        kept = [each for each in split_selectors(selectors) if applies(each)]
        return f"{','.join(kept)}{{{body}}}" if kept else ""

    css = re.sub(r"/\*.*?\*/", "", css, flags=re.S)
    css = re.sub(r"(?<![^{};])([^{};@]+)\{([^{}]*)\}", shorter, css)
    return re.sub(r"@media[^{}]*\{\s*\}", "", css)


def split_selectors(selectors: str) -> list[str]:
    """At the commas that stand in no bracket."""
    return re.split(r",(?![^()]*\))", selectors)


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("build-finished", lighten, priority=900)
    app.add_css_file("icons.css")
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
