"""The notebooks run at the smallest budget, and keep to the form that the book promises."""

from __future__ import annotations

import ast
import subprocess
import warnings
from pathlib import Path

import jupytext
import pytest
from nbformat import NotebookNode

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.md"))
LONGEST_TWIN = 15

each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def tags(cell: NotebookNode) -> list[str]:
    return list(cell.metadata.get("tags", []))


def code_cells(path: Path) -> list[NotebookNode]:
    return [cell for cell in jupytext.read(path).cells if cell.cell_type == "code"]


def test_there_are_notebooks() -> None:
    assert NOTEBOOKS


def test_no_outputs_in_git() -> None:
    """A notebook in git is text: an .ipynb would bring outputs, and with them stale numbers."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.ipynb"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if listed.returncode:
        pytest.skip("not a git checkout")
    assert listed.stdout.split() == []


@each_notebook
def test_starts_with_a_heading(path: Path) -> None:
    first = jupytext.read(path).cells[0]
    assert first.cell_type == "markdown"
    assert first.source.startswith("# ")


@each_notebook
def test_has_one_parameters_cell(path: Path) -> None:
    tagged = [cell for cell in code_cells(path) if "parameters" in tags(cell)]
    assert len(tagged) == 1
    assert "budget" in tagged[0].source, "papermill sets `budget`: declare it there"


@each_notebook
def test_defines_nothing_but_twins(path: Path) -> None:
    """What a reader should reuse lives in mpfl; a notebook may only hold a slow, obvious twin."""
    for cell in code_cells(path):
        kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
        defined = [
            node.name for node in ast.walk(ast.parse(cell.source)) if isinstance(node, kinds)
        ]
        if "twin" in tags(cell):
            lines = len(cell.source.splitlines())
            assert lines <= LONGEST_TWIN, f"twin {defined} has {lines} lines"
        else:
            assert not defined, f"{defined}: move into mpfl, or tag the cell `twin`"


@each_notebook
def test_runs(path: Path, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # those of the notebook tools; the book checks a cell's own
        import papermill

        source, result = tmp_path / f"{path.stem}.ipynb", tmp_path / "run.ipynb"
        jupytext.write(jupytext.read(path), source)
        papermill.execute_notebook(
            source,
            result,
            parameters={"budget": "toy"},
            cwd=path.parent,
            progress_bar=False,
            kernel_name="python3",
        )
    ran = jupytext.read(result)
    assert any(cell.get("outputs") for cell in ran.cells if cell.cell_type == "code")
