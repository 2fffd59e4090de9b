"""The loop, alive, on a page that is no notebook; its picture for readers without JavaScript.

A block ``{vote-loop} assets/loop.svg`` takes the options of ``{image}``, which say what the picture
shows. All numbers come from :class:`mpfl.show.widgets.loop.VoteLoop` while the book is built.
"""

from __future__ import annotations

from typing import Any

from docutils import nodes
from docutils.parsers.rst.directives.images import Image
from sphinx.application import Sphinx

from mpfl.show.widgets.loop import VoteLoop


class LoopOrPicture(Image):
    """The widget as HTML, then the picture inside ``noscript``."""

    def run(self) -> list[nodes.Node]:
        before, after = VoteLoop().html() + "<noscript>", "</noscript>"
        return [
            nodes.raw("", before, format="html"),
            *super().run(),
            nodes.raw("", after, format="html"),
        ]


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_directive("vote-loop", LoopOrPicture)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
