"""Seven mends to the built site.

No page raises an error: sphinx-thebe adds its constants once
a builder, which a browser refuses the second time. Dataclass signatures read well. The index
of modules lists those whose source is there, and a field of a named tuple has no line that only
counts it. The names of tables break on a telephone. A page says all it has to say to those who
hear it, or have no mouse. And where a browser lets no page keep anything, search and the choice
of light or dark work all the same.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment

# A default that is no Python: a factory, a function with a name, one without.
DEFAULT = r"<(?:factory|(?:built-in )?function (?:[\w.]*<lambda>|(\w+)))>"

# The theme asks what scrolls, and must be reached by key, when the window changes its size.
# What a reader unfolds was hidden then.
ASK_AGAIN = """document.addEventListener(
    "toggle", () => window.dispatchEvent(new Event("resize")), true);"""

# Before all other scripts, which expect a store: one that forgets with the page.
STORE = """<script>for (const name of ["localStorage", "sessionStorage"]) {
  try { window[name].getItem(""); } catch {
    const kept = new Map();
    Object.defineProperty(window, name, { value: {
      getItem: (key) => kept.get(String(key)) ?? null,
      setItem: (key, value) => kept.set(String(key), String(value)),
      removeItem: (key) => kept.delete(String(key)) } });
  }
}</script>"""

MENDS: list[tuple[str, str | Callable[[re.Match[str]], str]]] = [
    (r"<head>(?!<script>for)", f"<head>{STORE}"),
    # The arrow that unfolds a part of the contents says which.
    (r"(>([^<]+)</a><details[^>]*><summary)>", r'\1 aria-label="Pages under \2">'),
    # A role that browsers no longer know.
    (r'role="doc-biblioentry"', 'role="listitem"'),
    # What is to be downloaded is saved, not shown; a page opened from disk may only show it.
    (r'(href="[^"]*_sources/[^"]*")(?! download)', r"\1 download"),
    # The name of a table breaks after a dash below, so that a column of them is narrow.
    (
        r'(href="#table-[^"]*">)([^<]*_[^<]*)(?=</a>)',
        lambda found: found[1] + found[2].replace("_", "_<wbr>"),
    ),
]


def mend_pages(app: Sphinx, error: Exception | None) -> None:
    """Replace in every page what :data:`MENDS` lists; a second time changes nothing."""
    for page in Path(app.outdir).rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        for pattern, better in MENDS:
            text = re.sub(pattern, better, text)
        page.write_text(text, encoding="utf-8")


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
    """Leave out what no reader calls: an enum's constructor, a dataclass's ``<factory>``.

    A default that is a function says its name; as ``<function l2>`` nobody could read the rest.
    """
    if isinstance(obj, type) and issubclass(obj, Enum):
        return "", None
    return (re.sub(DEFAULT, lambda found: found[1] or "...", args) if args else args), out


def no_alias(
    app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]
) -> None:
    """Leave out what Python writes for a field of a named tuple, "Alias for field number 0"."""
    if lines and lines[0].startswith("Alias for field number"):
        lines.clear()


def only_modules_with_source(app: Sphinx, env: BuildEnvironment) -> list[str]:
    """Take a module without a source, as ``builtins``, off the index that viewcode writes.

    A documented alias of ``list[...]`` brings it there, with a link to a page that nobody writes.
    """
    modules = getattr(env, "_viewcode_modules", {})
    for name in [name for name, entry in modules.items() if entry is False]:
        del modules[name]
    return []


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("html-page-context", drop_repeated_scripts, priority=900)
    app.connect("autodoc-process-signature", plain_signature)
    app.connect("autodoc-process-docstring", no_alias)
    app.connect("env-updated", only_modules_with_source)
    app.connect("build-finished", mend_pages)
    app.add_js_file(None, body=ASK_AGAIN)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
