"""A notebook that is downloaded alone reads as its page does, and runs where mpfl is installed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import nbformat
import pytest
from test_book import NOTEBOOKS, ROOT, SITE, built

FILES = SITE / "_sources" / "notebooks"
# What Jupyter would show as it is written: a role, a directive, a label.
RAW = re.compile(r"\{[a-z:]+\}`|^(?:```|:::)\{|^\([\w-]+\)=", re.M)


def notebook(name: str) -> Any:
    return nbformat.read(FILES / f"{name}.ipynb", as_version=4)


@built
@pytest.mark.parametrize("name", NOTEBOOKS)
def test_it_reads_as_its_page_does(name: str) -> None:
    cells = notebook(name).cells
    raw = [
        found[0]
        for cell in cells
        if cell.cell_type == "markdown"
        for found in RAW.finditer(cell.source)
    ]
    assert raw == []
    assert any(cell.get("outputs") for cell in cells)
    for cell in cells:
        tags = set(cell.metadata.get("tags", []))
        assert "injected-parameters" not in tags
        hidden = cell.metadata.get("jupyter", {})
        if tags & {"hide-input", "hide-cell", "remove-input"}:
            assert hidden["source_hidden"]
        if "hide-cell" in tags:
            assert hidden["outputs_hidden"]


@built
@pytest.mark.parametrize("name", NOTEBOOKS)
def test_its_figures_are_numbered_as_on_the_page(name: str) -> None:
    text = (SITE / "notebooks" / f"{name}.html").read_text(encoding="utf-8")
    numbers = re.findall(r'class="caption-number">(Fig\. \d+)', text)
    cells = [cell.source for cell in notebook(name).cells if cell.cell_type == "markdown"]
    captions = re.findall(r"^\*\*(Fig\. \d+)\*\*", "\n".join(cells), re.M)
    assert captions == numbers


@built
@pytest.mark.parametrize("name", NOTEBOOKS)
def test_its_first_cell_says_what_is_missing(name: str) -> None:
    first, *others = (cell for cell in notebook(name).cells if cell.cell_type == "code")
    assert 'find_spec("mpfl")' in first.source
    read = "\n".join(
        cell.source for cell in others if "parameters" not in cell.metadata.get("tags", [])
    )
    asks = "Recorded results" in first.source or "git clone" in first.source
    assert asks == bool(re.search(r"\brecorded\b|\bPRETRAINED\b|data/results", read))


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which mpfl is installed from its wheel, without the project around it.

    pip fetches what builds a wheel: the environment of the tests may hold an older one.
    """
    base = tmp_path_factory.mktemp("wheel")
    source = base / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    shutil.copytree(ROOT / "mpfl", source / "mpfl", ignore=shutil.ignore_patterns("__pycache__"))
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    wheel = ["wheel", "--no-deps", "--wheel-dir", str(base), str(source)]
    made = subprocess.run([*pip, *wheel], capture_output=True, text=True, timeout=300)
    if "No matching distribution found for setuptools" in made.stderr:
        pytest.skip("pip reaches no index, from which it would take setuptools to build with")
    assert made.returncode == 0, made.stderr
    install = ["install", "--no-deps", "--target", str(base / "site")]
    subprocess.run([*pip, *install, *map(str, base.glob("*.whl"))], check=True, timeout=300)
    return base / "site"


@built
@pytest.mark.slow
@pytest.mark.parametrize("name", ["foundations", "masks-instead-of-weights"])
def test_it_runs_in_an_empty_folder(name: str, installed: Path, tmp_path: Path) -> None:
    shutil.copy(FILES / f"{name}.ipynb", tmp_path)
    code = "import papermill, sys; papermill.execute_notebook(*2 * sys.argv[1:])"
    ran = subprocess.run(
        [sys.executable, "-c", code, f"{name}.ipynb"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(installed), "PYDEVD_DISABLE_FILE_VALIDATION": "1"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
    used = nbformat.read(tmp_path / f"{name}.ipynb", as_version=4)
    assert all(cell.execution_count for cell in used.cells if cell.cell_type == "code")


def test_its_package_has_the_version_of_the_project(installed: Path) -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert (installed / f"mpfl-{version}.dist-info").is_dir()
