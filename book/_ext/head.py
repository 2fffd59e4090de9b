"""What a page says of itself to tabs, search engines and whoever it is sent to.

Each page has a description, its first sentence below the card, and a picture, its first figure. The
landing page also stands at the root, so that the book's address opens it without a detour.
"""

from __future__ import annotations

import base64
import os
import re
from html import escape
from pathlib import Path
from typing import Any

import nbformat
from alone import site_of
from docutils import nodes
from sphinx.application import Sphinx

LANDING = "book/index"
ICONS = """
<link rel="icon" type="image/svg+xml" href="{svg}"/>
<link rel="alternate icon" type="image/png" href="{png}"/>"""
LINK = re.compile(r'(\s(?:href|src|action|data-content_root)=")(?![a-z][a-z+.-]*:|//|#)([^"]*)"')


def description(doctree: nodes.document) -> str:
    """The first sentence of a page that is no part of its card, a list, a table or a cell."""
    for each in doctree.findall(nodes.paragraph):
        if isinstance(each.parent, (nodes.section, nodes.document)):
            text = " ".join(each.astext().split())
            sentence = re.match(r"(.{20,}?[.!?])(?=\s+[A-Z]|$)", text)
            return (sentence[1] if sentence else text).removesuffix(":")
    return ""


def picture(source: Path) -> bytes | None:
    """The first figure that a notebook drew, as PNG."""
    if source.suffix != ".ipynb":
        return None
    for cell in nbformat.read(source, as_version=4).cells:
        for output in cell.get("outputs", []):
            if png := output.get("data", {}).get("image/png"):
                return base64.b64decode(png)
    return None


def describe(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: nodes.document | None
) -> None:
    """Write a page's icon, description and OpenGraph properties into its head."""
    here = context["pathto"]
    tags = [ICONS.format(svg=here("_static/icon.svg", 1), png=here("_static/icon.png", 1))]
    if doctree is not None:
        said = description(doctree) or app.config.project
        shown = "_static/shared.png"
        if png := picture(Path(app.env.doc2path(page))):
            shown = f"_images/{page.replace('/', '-')}.png"
            target = Path(app.outdir) / shown
            target.parent.mkdir(exist_ok=True)
            target.write_bytes(png)
        base = site_of(os.environ.get("MPFL_REPOSITORY", ""))
        properties = {
            "og:type": "article",
            "og:site_name": app.config.html_title,
            "og:title": re.sub("<[^>]*>", "", context["title"]),
            "og:description": said,
            "og:image": base + shown if base else here(shown, 1),
        }
        if base:
            properties["og:url"] = f"{base}{page}.html"
        tags.append(f'<meta name="description" content="{escape(said)}"/>')
        tags += [
            f'<meta property="{name}" content="{escape(str(value))}"/>'
            for name, value in properties.items()
        ]
    context["metatags"] = context.get("metatags", "") + "\n".join(tags)


def at_root(text: str) -> str:
    """A page of the folder ``book`` with its links as they are from the root."""

    def moved(found: re.Match[str]) -> str:
        before, link = found.groups()
        path = os.path.normpath(f"book/{link}") if link else "book/index.html"
        if before.strip().startswith("data-content_root"):
            path = "./"
        return f'{before}{path}"'

    return LINK.sub(moved, text).replace('content="../', 'content="')  # the picture


def write_root(app: Sphinx, error: Exception | None) -> None:
    """The landing page at the root of the site."""
    if error is None:
        out = Path(app.outdir)
        landing = (out / f"{LANDING}.html").read_text(encoding="utf-8")
        (out / "index.html").write_text(at_root(landing), encoding="utf-8")


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("html-page-context", describe)
    app.connect("build-finished", write_root, priority=950)  # after all that change a page
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
