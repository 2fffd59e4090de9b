"""The notebooks run at the smallest budget, and keep to the form that the book promises."""

from __future__ import annotations

import ast
import importlib
import inspect
import runpy
import subprocess
import warnings
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

import jupytext
import nbformat
import pytest
from nbformat import NotebookNode

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.md"))
RUN: dict[str, Any] = runpy.run_path(str(ROOT / "book" / "run.py"))
LONGEST_TWIN = 15
LONGEST_OF_YOURS = 30  # what a reader would write, on the page that says how

# The method: what a reader can call without torch. Each public function and class of these
# modules is used or shown in a notebook.
CORE = (
    "masks", "filters", "prune", "vote", "schedules", "allocate", "node", "server", "simulation",
    "wire.masks", "wire.packed", "wire.counts", "wire.weights", "data.noise", "data.partition",
    "baselines.controls", "baselines.fedavg", "baselines.pruning_fl",
    "analysis.faults", "analysis.ledger", "analysis.privacy", "analysis.relay", "analysis.replay",
    "analysis.theory", "analysis.written",
)  # fmt: skip
PLUMBING = {  # but for these, which other modules share and no reader calls
    "masks.check": "the wire's door; notebooks meet what it says",
    "analysis.faults.check_vote": "the door of every fault, and of mpfl.analysis.privacy",
    "analysis.relay.Level": "what link_bytes returns: met as a value",
    "server.decide": "half of count_votes, for mpfl.analysis.replay and mpfl.analysis.relay",
    "simulation.RoundLog": "what simulate yields: met as a value",
    "baselines.fedavg.decode_replies": "shared with pruning-FL",
    "baselines.fedavg.broadcast_weights": "shared with pruning-FL",
    "baselines.fedavg.read_weights": "shared with pruning-FL",
    "data.partition.dealt_alike": "deals test pictures, for mpfl.runs.parties",
    "wire.masks.fingerprint_of": "what a frame names, shared by masks and counts",
}

each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def tags(cell: NotebookNode) -> list[str]:
    return list(cell.metadata.get("tags", []))


def code_cells(path: Path) -> list[NotebookNode]:
    return [cell for cell in jupytext.read(path).cells if cell.cell_type == "code"]


def core_names() -> set[str]:
    """The public functions and classes that the modules of CORE define: ``module.name``."""
    names = set()
    for module in CORE:
        there = importlib.import_module(f"mpfl.{module}")
        for name, value in vars(there).items():
            own = getattr(value, "__module__", None) == there.__name__
            if (
                own
                and not name.startswith("_")
                and (inspect.isfunction(value) or inspect.isclass(value))
            ):
                names.add(f"{module}.{name}")
    return names


@cache
def faces() -> dict[str, str]:
    """By which shorter names the packages offer what the modules of CORE define.

    ``wire.encode_mask`` is ``wire.masks.encode_mask``.
    """
    short = {}
    for name in core_names():
        *packages, _, last = name.split(".")
        for depth in range(len(packages) + 1):
            face = importlib.import_module(".".join(["mpfl", *packages[:depth]]))
            if last in vars(face).get("__all__", ()):
                short[".".join([*packages[:depth], last])] = name
    return short


def names_used(path: Path) -> set[str]:
    """What of mpfl the code cells use, as ``module.name``; an import alone is no use."""
    nodes = [node for cell in code_cells(path) for node in ast.walk(ast.parse(cell.source))]
    known = {
        each.asname or each.name: f"{node.module}.{each.name}".removeprefix("mpfl.")
        for node in nodes
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "mpfl"
        for each in node.names
    }
    used = {known[node.id] for node in nodes if isinstance(node, ast.Name) and node.id in known}
    used |= {
        f"{known[node.value.id]}.{node.attr}"
        for node in nodes
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id in known
    }
    return {faces().get(name, name) for name in used}


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
        lines = len(cell.source.splitlines())
        if "yours" in tags(cell):
            assert lines <= LONGEST_OF_YOURS, f"{defined} has {lines} lines"
        elif "twin" in tags(cell):
            assert lines <= LONGEST_TWIN, f"twin {defined} has {lines} lines"
        else:
            assert not defined, f"{defined}: move into mpfl, or tag the cell `twin`"


def test_every_public_function_of_the_core_is_in_a_notebook() -> None:
    names, used = core_names(), set().union(*map(names_used, NOTEBOOKS))
    missing = names - used - PLUMBING.keys()
    assert not missing, f"use or show in a notebook, make private, or delete: {sorted(missing)}"
    assert PLUMBING.keys() <= names - used, "no exception any more: take it off the list"


@cache
def changed() -> float:
    """When the code or a record that the notebooks read was last changed, in Unix time."""
    return max(
        path.stat().st_mtime
        for folder in (ROOT / "mpfl", ROOT / "data" / "results")
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    )


def executed(path: Path, folder: Path) -> NotebookNode:
    """The notebook as `make book` ran it or, if that is missing or too old, as it runs now."""
    left = ROOT / "_build" / "executed" / f"{path.stem}.ipynb"
    if left.exists():
        ran = nbformat.read(left, as_version=4)
        noted = ran.metadata.get("papermill", {})
        began, ended = noted.get("start_time"), noted.get("end_time")
        needed = max(changed(), path.stat().st_mtime)
        if ended and datetime.fromisoformat(began).timestamp() > needed:
            return ran
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # those of the notebook tools; the book checks a cell's own
        assert RUN["execute"](path, folder) == ""
    return nbformat.read(folder / left.name, as_version=4)


@each_notebook
def test_runs(path: Path, tmp_path: Path) -> None:
    ran = executed(path, tmp_path)
    cells = [cell for cell in ran.cells if cell.cell_type == "code"]
    outputs = [output for cell in cells for output in cell.outputs]
    assert outputs
    assert not [output for output in outputs if output.output_type == "error"]
    assert all(cell.execution_count for cell in cells if cell.source)
    assert ran.metadata.papermill.parameters == {"budget": "toy"}
    [budget] = [cell.source for cell in cells if "injected-parameters" in tags(cell)]
    assert 'budget = "toy"' in budget
    assert [cell.source for cell in cells if "injected-parameters" not in tags(cell)] == [
        cell.source for cell in code_cells(path)
    ], "not the notebook as it is written"


def test_a_notebook_that_fails_is_named_with_its_error(tmp_path: Path) -> None:
    cells = ['budget = "paper"', "1 / 0"]
    notebook = nbformat.v4.new_notebook(cells=list(map(nbformat.v4.new_code_cell, cells)))
    notebook.metadata = jupytext.read(NOTEBOOKS[0]).metadata
    notebook.cells[0].metadata.tags = ["parameters"]
    source = tmp_path / "broken.md"
    jupytext.write(notebook, source, fmt="md:myst")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        said = RUN["execute"](source, tmp_path)
    assert said.startswith(f"{source}: ") and "ZeroDivisionError: division by zero" in said
