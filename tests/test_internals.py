"""Internals and the package's pages say where things are, and in which order: held to the code."""

import ast
import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
INTERNALS = (ROOT / "book" / "internals.md").read_text()
PLACES = re.findall(r"`(mpfl/[\w/]+\.py):(\d+)`\s+`([^`]+)`", INTERNALS)


def test_internals_names_places() -> None:
    assert len(PLACES) == 9


@pytest.mark.parametrize(("file", "line", "text"), PLACES)
def test_a_place_that_internals_names_is_there(file: str, line: str, text: str) -> None:
    lines = (ROOT / file).read_text().splitlines()
    there = [number for number, code in enumerate(lines, start=1) if text in code]
    assert there == [int(line)], f"{file}: {text!r} stands in line {there}; say so in internals.md"


def pages() -> list[Path]:
    """The package's pages in the order of the book."""
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text())
    chapters = [chapter for part in toc["parts"] for chapter in part["chapters"]]
    [api] = [chapter for chapter in chapters if chapter["file"] == "book/api/index"]
    return [ROOT / f"{section['file']}.md" for section in api["sections"]]


def listed() -> list[str]:
    """Every module of the package's pages, in their order."""
    return [
        module
        for page in pages()
        for module in re.findall(r"^\.\. automodule:: (\S+)$", page.read_text(), re.M)
    ]


def file_of(module: str) -> Path:
    path = ROOT / Path(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def imported(module: str) -> set[str]:
    """The modules of the package that a module imports, wherever it does."""
    names = set()
    for node in ast.walk(ast.parse(file_of(module).read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return names


def test_the_pages_list_every_module_once() -> None:
    files = sorted((ROOT / "mpfl").rglob("*.py"))
    modules = {".".join(f.relative_to(ROOT).with_suffix("").parts) for f in files} - {
        "mpfl.__init__"
    }
    assert sorted(listed()) == sorted(module.removesuffix(".__init__") for module in modules)


def test_the_pages_are_in_the_order_of_dependency() -> None:
    """A folder's own line stands at its head, whatever it offers of what is in it."""
    place = {module: number for number, module in enumerate(listed())}
    above = {
        f"{module} -> {other}"
        for module in place
        for other in imported(module) & place.keys()
        if place[other] > place[module] and not other.startswith(f"{module}.")
    }
    assert above == set()
