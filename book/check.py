"""Look at the built book: a build that says it went well may still have left pages out."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent
SITE = ROOT / "_build" / "html"


def pages() -> list[str]:
    """Every page that _toc.yml names, without its ending."""
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text())

    def files(entry: dict[str, Any]) -> list[str]:
        below = [part for key in ("parts", "chapters", "sections") for part in entry.get(key, [])]
        own = [entry["file"]] if "file" in entry else []
        return own + [file for part in below for file in files(part)]

    return [toc["root"], *files(toc)]


def faults() -> list[str]:
    """What is wrong with the built book, one line each; empty when all is well."""
    found = []
    for page in pages():
        html = SITE / f"{page}.html"
        if not html.exists():
            found.append(f"{page}: {html} was not built")
            continue
        text = html.read_text(encoding="utf-8")
        if page.startswith("notebooks/") and "cell_output" not in text:
            found.append(f"{page}: no cell has an output; was the notebook run?")
        if re.search(r'class="[^"]*\b(traceback|stderr)\b', text):
            found.append(f"{page}: a cell shows an error or a warning")
    if not (SITE / "index.html").exists():
        found.append("index.html is missing")
    return found


if __name__ == "__main__":
    if problems := faults():
        sys.exit("The book is not well:\n  " + "\n  ".join(problems))
    print(f"{len(pages())} pages built, every notebook with its outputs.")
