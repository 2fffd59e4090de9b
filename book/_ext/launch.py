"""The buttons above a notebook: its files to download, and places that run it.

Colab and Binder open a notebook from a repository, so their buttons appear where the build is told
which: ``MPFL_REPOSITORY=https://github.com/OWNER/NAME``. Neither opens the text form. They take the
``.ipynb`` from the branch ``notebooks``, for which this file, run as a script, prepares the copies:
``.github/workflows/book.yml`` pushes them.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import nbformat
from sphinx.application import Sphinx

BRANCH = "notebooks"
FOLDER = "notebooks_ipynb"
FETCH = """\
# Colab opens this notebook alone: fetch the project around it. Elsewhere it is there.
import os

if not os.path.isdir("../notebooks"):
    !git clone --quiet --depth 1 --branch {branch} {repository} book
    %pip install --quiet "./book[train,export]" anywidget
    %cd book/notebooks"""


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


def prepare(notebook: nbformat.NotebookNode, repository: str) -> None:
    """Let a notebook fetch the project where it stands alone."""
    first = nbformat.v4.new_code_cell(FETCH.format(branch=BRANCH, repository=repository))
    notebook.cells.insert(0, first)


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


def copy_notebooks(app: Sphinx, error: Exception | None) -> None:
    """Put the files behind the download buttons into the site."""
    if error is None:
        target = Path(app.outdir) / "_sources" / "notebooks"
        target.mkdir(parents=True, exist_ok=True)
        for source in (Path(app.srcdir) / "notebooks").glob("*.md"):
            shutil.copy(source, target)
            shutil.copy(Path(app.srcdir) / FOLDER / f"{source.stem}.ipynb", target)


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("html-page-context", add_buttons, priority=900)
    app.connect("build-finished", copy_notebooks)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}


if __name__ == "__main__":
    for path in Path(FOLDER).glob("*.ipynb"):
        notebook = nbformat.read(path, as_version=4)
        prepare(notebook, sys.argv[1])
        nbformat.write(notebook, path)
