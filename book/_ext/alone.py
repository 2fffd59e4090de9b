"""Notebooks that are read alone: the ``.ipynb`` beside each page, which a reader downloads.

Jupyter and GitHub know nothing of this book's roles and directives, numbers or folds. Here each
notebook gets what the page has: outputs, plain Markdown with the page's numbers and links,
captions and closed folds; and a first cell that finds what is needed where only the package is
installed.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import nbformat
from nbformat import NotebookNode
from pybtex.database import BibliographyData, parse_file
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment

BRANCH = "notebooks"
BOOK = "the book *Masked pruning by vote*"
NEEDS = """\
# What this notebook needs, wherever it is opened. In the project's own folder it is all there.
import os
from importlib.util import find_spec

if find_spec("mpfl") is None:
    {package}{records}"""
RECORDS = """
if not os.path.isdir("../data/results"):
    {fetch}"""
FETCH = """\
!git clone --quiet --depth 1 --branch {branch} {repository} mpfl-book
    %cd mpfl-book/notebooks"""
NO_PACKAGE = """\
raise SystemExit('mpfl is missing: pip install "mpfl[train,export]" from its wheel or folder')"""
NO_RECORDS = """\
print("Recorded results are missing: put the project's folder data beside this file's folder")"""

FENCE = re.compile(r"^(`{3,}|:{3,})\{([\w-]+)\} *([^\n]*)\n(.*?)^\1 *$", re.S | re.M)
OPTION = re.compile(r"^:([\w-]+): *(.*)\n", re.M)
BLOCK = re.compile(r"^(`{3,}|:{3,})[^\n]*\n.*?^\1 *$", re.S | re.M)
ROLE = re.compile(r"\{([\w:-]+)\}`([^`]+)`")
LABEL = re.compile(r"^\([\w-]+\)=\n?", re.M)
LINK = re.compile(r"(?<!!)\[([^\]]*)\]\((?!https?:|mailto:)([^)\s]*)\)")


class Words:
    """What the book's roles and directives say on the published page ``page``."""

    def __init__(
        self, env: BuildEnvironment, page: str, site: str, references: BibliographyData
    ) -> None:
        self.env, self.page, self.site, self.references = env, page, site, references
        self.std, self.math = env.get_domain("std"), env.get_domain("math")

    def plain(self, text: str) -> str:
        """Markdown that says the same without a role or a directive."""
        said, end = [], 0
        for block in BLOCK.finditer(text):
            said += [self.prose(text[end : block.start()]), self.block(block)]
            end = block.end()
        return "".join([*said, self.prose(text[end:])])

    def prose(self, text: str) -> str:
        return LINK.sub(self.link, ROLE.sub(self.role, LABEL.sub("", text)))

    def block(self, found: re.Match[str]) -> str:
        """What stands between two fences: a directive, or code, which stays as it is."""
        directive = FENCE.fullmatch(found[0])
        return self.prose(self.directive(directive)) if directive else found[0]

    def directive(self, found: re.Match[str]) -> str:
        _, name, argument, body = found.groups()
        options = dict(OPTION.findall(body))
        body = OPTION.sub("", body).strip()
        if name == "math":
            tag = f" \\tag{{{self.equation(options['label'])}}}" if "label" in options else ""
            return f"$$\n{body}{tag}\n$$"
        if name in ("figure", "image"):
            return f"*{body or options.get('alt', '')}*"
        title = argument or name.capitalize()
        return "\n".join(f"> {line}" for line in [f"**{title}.**", "", *body.splitlines()])

    def role(self, found: re.Match[str]) -> str:
        name, content = found.groups()
        titled = re.fullmatch(r"(.*?)\s*<(.+)>", content, re.S)
        title, target = titled.groups() if titled else ("", content)
        if name == "numref":
            number = self.number(target)
            return (
                title.replace("%s", number).replace("{number}", number)
                if title
                else f"Fig. {number}"
            )
        if name == "eq":
            return f"({self.equation(target)})"
        if name.startswith("cite"):
            return self.cited(name, target)
        if name in ("doc", "ref"):
            return self.place(name, title, target)
        if name in ("term", "abbr"):
            return title or target
        return f"`{title or target.removeprefix('~').split('.')[-1]}`"

    def number(self, label: str) -> str:
        page, anchor = self.std.anonlabels[label]
        return ".".join(map(str, self.env.toc_fignumbers[page]["figure"][anchor]))

    def equation(self, label: str) -> str:
        page, number = self.math.equations[label]
        numbers = self.env.toc_fignumbers.get(page, {}).get("displaymath", {})
        return ".".join(map(str, numbers.get(f"equation-{label}", (number,))))

    def cited(self, role: str, keys: str) -> str:
        found = []
        for key in keys.split(","):
            entry = self.references.entries[key.strip()]
            names = [" ".join(each.last_names).strip("{}") for each in entry.persons["author"]]
            who = names[0] + (f" and {names[1]}" if names[1:] and not names[2:] else "")
            who += " et al." if names[2:] else ""
            year = entry.fields["year"]
            found.append(f"{who} ({year})" if role == "cite:t" else f"{who}, {year}")
        said = "; ".join(found)
        return said if role == "cite:t" else f"({said})"

    def place(self, role: str, title: str, target: str) -> str:
        """A link to a page or to a place in one."""
        if role == "ref":
            page, anchor, name = self.std.labels[target]
            return self.linked(title or name, f"{page}.html#{anchor}")
        page = os.path.normpath(os.path.join(os.path.dirname(self.page), target))
        if page not in self.env.titles:
            return title or target
        return self.linked(title or self.env.titles[page].astext(), f"{page}.html")

    def link(self, found: re.Match[str]) -> str:
        text, target = found.groups()
        path, _, anchor = target.partition("#")
        if not path and anchor in self.std.labels:
            return self.place("ref", text, anchor)
        where = (
            os.path.normpath(os.path.join(os.path.dirname(self.page), path)) if path else self.page
        )
        page = where.removesuffix(".md")
        if page not in self.env.titles:
            return text
        return self.linked(
            text or self.env.titles[page].astext(),
            f"{page}.html" + (f"#{anchor}" if anchor else ""),
        )

    def linked(self, text: str, where: str) -> str:
        """A link where the book is published; its text where nobody said where that is."""
        return f"[{text}]({self.site}{where})" if self.site else text


def needs(notebook: NotebookNode, repository: str) -> NotebookNode:
    """The first cell: it fetches what is missing, or says in a line what that is."""
    code = [
        cell.source
        for cell in notebook.cells
        if cell.cell_type == "code" and "parameters" not in cell.metadata.get("tags", [])
    ]
    records = re.search(r"\brecorded\b|\bPRETRAINED\b|data/results", "\n".join(code))
    fetch = FETCH.format(branch=BRANCH, repository=repository) if repository else NO_RECORDS
    package = (
        f'%pip install --quiet "mpfl[train,export] @ git+{repository}" anywidget'
        if repository
        else NO_PACKAGE
    )
    source = NEEDS.format(package=package, records=RECORDS.format(fetch=fetch) if records else "")
    return nbformat.v4.new_code_cell(source, metadata={"jupyter": {"source_hidden": True}})


def fold(cell: NotebookNode) -> None:
    """Close in Jupyter what the page closes."""
    tags = set(cell.metadata.get("tags", []))
    hidden = cell.metadata.setdefault("jupyter", {})
    if tags & {"hide-input", "hide-cell", "remove-input"}:
        hidden["source_hidden"] = True
    if tags & {"hide-output", "hide-cell"}:
        hidden["outputs_hidden"] = True


def alone(notebook: NotebookNode, words: Words, repository: str) -> NotebookNode:
    """An executed notebook as it is read outside the book."""
    title = words.env.titles[words.page].astext()
    where = words.linked(title, f"{words.page}.html")
    cells = [
        nbformat.v4.new_markdown_cell(f"{where}, a page of {BOOK}."),
        needs(notebook, repository),
    ]
    for cell in notebook.cells:
        if "injected-parameters" in cell.metadata.get("tags", []):
            continue
        cells.append(cell)
        if cell.cell_type == "markdown":
            cell.source = words.plain(cell.source)
            continue
        fold(cell)
        for output in cell.get("outputs", []):
            if "image/png" in output.get("data", {}):  # GitHub shows an SVG's text in any type
                output.data.pop("image/svg+xml", None)
        figure = cell.metadata.get("mystnb", {}).get("figure", {})
        if "caption" in figure and "name" in figure and cell.get("outputs"):  # was drawn
            caption = f"**Fig. {words.number(figure['name'])}** {words.plain(figure['caption'])}"
            cells.append(nbformat.v4.new_markdown_cell(caption.strip()))
    for at, cell in enumerate(cells):
        cell["id"] = f"cell-{at}"
        cell.metadata.pop("papermill", None)
    notebook.metadata.pop("papermill", None)
    notebook.cells = cells
    return notebook


def site_of(repository: str) -> str:
    """Where GitHub Pages publishes a repository, ending in ``/``; ``""`` if it is not on GitHub."""
    found = re.fullmatch(r"https://github\.com/([\w.-]+)/([\w.-]+?)(\.git)?/?", repository)
    return f"https://{found[1].lower()}.github.io/{found[2]}/" if found else ""


def write(app: Sphinx, error: Exception | None) -> None:
    """Put each notebook where the page's download button looks for it."""
    if error is not None:
        return
    repository = os.environ.get("MPFL_REPOSITORY", "").rstrip("/")
    target = Path(app.outdir) / "_sources" / "notebooks"
    target.mkdir(parents=True, exist_ok=True)
    references = parse_file(str(Path(app.srcdir) / "book" / "references.bib"), "bibtex")
    for source in sorted((Path(app.srcdir) / "notebooks").glob("*.ipynb")):
        words = Words(app.env, f"notebooks/{source.stem}", site_of(repository), references)
        notebook = nbformat.read(source, as_version=4)
        nbformat.write(alone(notebook, words, repository), target / source.name)


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("build-finished", write)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
