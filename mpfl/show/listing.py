"""What there is to run, as a terminal lists it: recipes and their fields, tables and figures."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from mpfl import allocate, prune, schedules, vote
from mpfl.analysis import privacy
from mpfl.analysis.faults import FAULTS
from mpfl.data import partition
from mpfl.data.noise import DATA_NOISES
from mpfl.evidence.cells import TABLES, Cell
from mpfl.runs.experiment import Experiment
from mpfl.runs.recipes import BUDGETS, RECIPES
from mpfl.runs.record import read_run
from mpfl.show.figures import FIGURES
from mpfl.show.terminal import console, percent, print_line


def print_recipes() -> None:
    """Recipes, budgets, what ``--set`` takes, tables and figures of the evidence."""
    console.print("recipes:")
    for name in RECIPES:
        console.print(f"  {name}")
    console.print(f"budgets: {', '.join(BUDGETS)}")
    console.print("fields for --set (with their defaults, where a recipe sets no other):")
    for field in dataclasses.fields(Experiment):
        default = getattr(Experiment(), field.name)
        shown = default.__name__ if hasattr(default, "__name__") else default
        console.print(f"  {field.name} = {shown}", soft_wrap=True)
    for what, known in (
        ("vote", {**vote.RULES, **privacy.WRAPPERS}),
        ("schedule, required", schedules.SCHEDULES),
        ("score", prune.SCORES),
        ("allocation", allocate.ALLOCATIONS),
        ("partition", partition.PARTITIONS),
        ("noise", {**DATA_NOISES, **FAULTS, **privacy.PRIVATE_VOTES}),
    ):
        console.print(f"{what}: {', '.join(known)}", soft_wrap=True)
    console.print(f"tables for reproduce: {', '.join(TABLES)}", soft_wrap=True)
    console.print(f"figures for reproduce: {', '.join(FIGURES)}", soft_wrap=True)


def print_cells(cells: Sequence[Cell], results: Path) -> None:
    """Each cell of a table: its result, or that it has not been run, with its command."""
    there = [cell for cell in cells if (results / cell.file).exists()]
    for cell in cells:
        if cell in there:
            s = read_run(results / cell.file).summary
            central, federated = s["accuracy_central"], s["accuracy_federated"]
            result = f"sparsity {s['sparsity']:.3f}, central {percent(central)}, "
            result += f"federated {percent(federated)}"
        else:
            result = "not run yet"
        print_line(cell.command)
        print_line(f"    {result}", "green" if cell in there else "yellow")
    print_line(f"{len(there)} of {len(cells)} recorded in {results}")
