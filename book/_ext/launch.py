"""The buttons above a notebook: its files to download, and places that run it.

Colab and Binder open a notebook from a repository, so their buttons appear where the build is told
which: ``MPFL_REPOSITORY=https://github.com/OWNER/NAME``. Neither opens the text form. They take
the ``.ipynb`` from the branch ``notebooks``, into which ``.github/workflows/book.yml`` pushes those
of the site, once this file, run as a script, has laid them ready. There is a button for readers who
found a mistake, too.
"""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from sphinx.application import Sphinx

BRANCH = "notebooks"
FOLDER = "notebooks_ipynb"
SITE = Path("_build/html/_sources/notebooks")


def places(repository: str, name: str) -> dict[str, str]:
    """Where a notebook can be opened and run; nowhere unless the repository is on GitHub."""
    found = re.fullmatch(r"https://github\.com/([\w.-]+/[\w.-]+?)(\.git)?/?", repository)
    if not found:
        return {}
    colab = f"https://colab.research.google.com/github/{found[1]}/blob/{BRANCH}"
    binder = f"https://mybinder.org/v2/gh/{found[1]}/{BRANCH}?urlpath=lab/tree"
    return {
        "Colab": f"{colab}/{FOLDER}/{name}.ipynb",
        "Binder": f"{binder}/{FOLDER}/{name}.ipynb",
    }


def group(what: str, icon: str, links: list[dict[str, str]]) -> dict[str, Any]:
    """A button that unfolds into links, as the theme draws it."""
    buttons = [{"type": "link", **link} for link in links]
    return {"type": "group", "tooltip": what, "icon": icon, "buttons": buttons}


def add_buttons(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: object
) -> None:
    """Above a notebook, put its buttons in front of the theme's."""
    folder, _, name = page.rpartition("/")
    if folder != "notebooks":
        return
    files = {".ipynb": "To run in Jupyter", ".md": "The text that it is written in"}
    groups = [
        group(
            "Download this notebook",
            "fas fa-download",
            [
                {"text": end, "tooltip": what, "url": context["pathto"](f"_sources/{page}{end}", 1)}
                for end, what in files.items()
            ],
        )
    ]
    if there := places(os.environ.get("MPFL_REPOSITORY", ""), name):
        icons = {"Colab": "logo_colab.png", "Binder": "logo_binder.svg"}
        groups.append(
            group(
                "Run this notebook",
                "fas fa-rocket",
                [
                    {"text": place, "url": url, "icon": f"_static/images/{icons[place]}"}
                    for place, url in there.items()
                ],
            )
        )
    context["header_buttons"][:0] = groups


def add_report(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: object
) -> None:
    """On every page that was written, a button to report a mistake on it."""
    repository = os.environ.get("MPFL_REPOSITORY", "")
    if doctree is not None and places(repository, ""):
        asked = urlencode(
            {"title": f"A mistake on {page}", "body": "What it says:\n\nWhat is right:\n"}
        )
        context["header_buttons"].append(
            {
                "type": "link",
                "text": "",
                "tooltip": "Report a mistake",
                "icon": "fas fa-circle-exclamation",
                "url": f"{repository.removesuffix('/').removesuffix('.git')}/issues/new?{asked}",
            }
        )


def copy_texts(app: Sphinx, error: Exception | None) -> None:
    """Put the text of each notebook behind its button; book/_ext/alone.py writes the ``.ipynb``."""
    if error is None:
        target = Path(app.outdir) / "_sources" / "notebooks"
        target.mkdir(parents=True, exist_ok=True)
        for source in (Path(app.srcdir) / "notebooks").glob("*.md"):
            shutil.copy(source, target)


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("html-page-context", add_buttons, priority=900)
    app.connect("html-page-context", add_report, priority=901)
    app.connect("build-finished", copy_texts)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}


if __name__ == "__main__":
    for path in SITE.glob("*.ipynb"):
        shutil.copy(path, FOLDER)
