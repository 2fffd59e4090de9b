"""What there is to run, as a terminal lists it: recipes and their fields, tables and figures."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from mpfl.evidence.cells import Cell
from mpfl.evidence.order import core_minutes
from mpfl.evidence.tables import TABLES
from mpfl.prune import SCORES
from mpfl.runs.budgets import BUDGETS
from mpfl.runs.experiment import Experiment
from mpfl.runs.methods import METHODS
from mpfl.runs.naming import describe
from mpfl.runs.recipes import RECIPES
from mpfl.runs.text import NAMED
from mpfl.show.figures import FIGURES
from mpfl.show.terminal import console, percent, print_line


def print_recipes() -> None:
    """Recipes, budgets, what ``--set`` takes, tables and figures of the evidence."""
    console.print("recipes:")
    for name in RECIPES:
        console.print(f"  {name}")
    console.print(f"budgets: {', '.join(BUDGETS)}")
    console.print("fields for --set (with their defaults, if a recipe sets no other):")
    for field in dataclasses.fields(Experiment):
        default = getattr(Experiment(), field.name)
        console.print(f"  {field.name} = {describe(default)}", soft_wrap=True)
    for what, known in (*NAMED.items(), ("score", SCORES), ("method", METHODS)):
        console.print(f"{what}: {', '.join(known)}", soft_wrap=True)
    console.print(f"tables for reproduce: {', '.join(TABLES)}", soft_wrap=True)
    console.print(f"figures for reproduce: {', '.join(FIGURES)}", soft_wrap=True)


def print_cells(cells: Sequence[Cell], results: Path) -> None:
    """Each cell of a table with its command, its row and seed, and its result if it has one."""
    there = {cell: cell.recorded_in(results) for cell in cells if (results / cell.file).exists()}
    for cell in cells:
        if cell in there:
            s = there[cell].summary
            central, federated = s["accuracy_central"], s["accuracy_federated"]
            result = f"sparsity {s['sparsity']:.3f}, central {percent(central)}, "
            result += f"federated {percent(federated)}"
        else:
            result = "not run yet"
        print_line(cell.command)
        said = f"    {cell.label}, seed {cell.seed}: {result}"
        print_line(said, "green" if cell in there else "yellow")
    minutes = core_minutes(cells, results)
    spent = sum(minutes[cell.file] for cell in there)
    left = f"about {sum(minutes.values()) - spent:.0f} left" if there else "no run to go by yet"
    print_line(
        f"{len(there)} of {len(cells)} recorded in {results}: "
        f"{spent:.0f} core-minutes spent, {left}"
    )
