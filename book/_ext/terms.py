"""A word of the glossary says what it means where it stands: on hover, on focus, on a first tap.

``{term}`` makes a link to the glossary. The first sentence that stands there goes into the page.
"""

from __future__ import annotations

import re
from functools import cache
from html import escape
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment

GLOSSARY = "book/glossary"
WORD = re.compile(
    r'<a class="reference internal" href="[^"]*#(term-[^"]+)">'
    r'<span class="xref std std-term">(.*?)</span></a>',
    re.S,
)


@cache  # of the build: every page asks
def meanings(env: BuildEnvironment) -> dict[str, str]:
    """The first sentence of each explanation, by the anchor of its word."""
    found = {}
    for item in env.get_doctree(GLOSSARY).findall(nodes.definition_list_item):
        explained = next(iter(item.findall(nodes.paragraph)), None)
        if explained is not None:
            text = " ".join(explained.astext().split())
            sentence = re.match(r".+?[.!?](?=\s|$)", text)
            for term in item.findall(nodes.term):
                for anchor in term["ids"]:
                    found[anchor] = sentence[0] if sentence else text
    return found


def explain(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: object
) -> None:
    """Put its meaning beside every linked word of a page."""
    body = context.get("body", "")
    if page == GLOSSARY or "std-term" not in body:
        return
    known = meanings(app.env)
    count = 0

    def put(found: re.Match[str]) -> str:
        nonlocal count
        if not (meaning := known.get(found[1])):
            return found[0]
        count += 1
        link = found[0].replace("<a ", f'<a aria-describedby="tip-{count}" ', 1)
        tip = f'<span class="tip" role="tooltip" id="tip-{count}">{escape(meaning)}</span>'
        return f'<span class="term">{link}{tip}</span>'

    context["body"] = WORD.sub(put, body)


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("html-page-context", explain)
    app.add_js_file("terms.js", defer="defer")
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
