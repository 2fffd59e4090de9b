"""Three mends to the built site.

It draws its formulas itself: MathJax comes as one file from the package
``sphinx-mathjax-offline`` (which would copy all its 24 MB), so a page opened from disk
asks nothing of the network. No page raises an error: sphinx-thebe adds its constants once
a builder, which a browser refuses the second time. And dataclass signatures read well.
"""

from __future__ import annotations

import importlib.util
import shutil
from enum import Enum
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

MATHJAX = "mathjax/tex-svg.js"


def copy_mathjax(app: Sphinx, error: Exception | None) -> None:
    """Put MathJax where ``mathjax_path`` looks for it."""
    spec = importlib.util.find_spec("sphinx-mathjax-offline")
    if error is None and spec is not None and spec.submodule_search_locations:
        source = Path(spec.submodule_search_locations[0]) / "static" / MATHJAX
        target = Path(app.outdir) / "_static" / MATHJAX
        target.parent.mkdir(exist_ok=True)
        shutil.copyfile(source, target)


def drop_repeated_scripts(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: object
) -> None:
    """Keep the first of any two inline scripts with the same text."""
    seen = set()
    scripts = []
    for script in context.get("script_files", []):
        body = getattr(script, "attributes", {}).get("body")
        if body is None or body not in seen:
            scripts.append(script)
            seen.add(body)
    context["script_files"] = scripts


def plain_signature(
    app: Sphinx,
    what: str,
    name: str,
    obj: object,
    options: object,
    args: str | None,
    out: str | None,
) -> tuple[str | None, str | None]:
    """Leave out what no reader calls: an enum's constructor, a dataclass's ``<factory>``."""
    if isinstance(obj, type) and issubclass(obj, Enum):
        return "", None
    return (args.replace("<factory>", "...") if args else args), out


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("html-page-context", drop_repeated_scripts, priority=900)
    app.connect("autodoc-process-signature", plain_signature)
    app.connect("build-finished", copy_mathjax)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
