"""What a run looks like in a terminal: live progress, and tables at the end."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from mpfl import prune, schedules, vote
from mpfl.allocate import QUOTAS
from mpfl.analysis import privacy
from mpfl.analysis.faults import FAULTS
from mpfl.data import partition
from mpfl.data.noise import DATA_NOISES
from mpfl.evidence.cells import TABLES, Cell
from mpfl.evidence.reproduce import CellDone as CellStep
from mpfl.evidence.reproduce import Repeat
from mpfl.runs.experiment import Experiment
from mpfl.runs.recipes import BUDGETS, RECIPES
from mpfl.runs.record import Run, read_run
from mpfl.runs.runner import Progress as Step

console = Console()


class LiveProgress:
    """A bar a phase, with round, node, epoch and the time left, or taken when it is done.

    Where the output is no terminal, a plain line at most every half a minute instead.
    """

    def __init__(self, title: str) -> None:
        self.title = title
        self._bar = Progress(
            TextColumn("{task.fields[phase]:<18}"),
            BarColumn(complete_style="cyan", finished_style="green"),
            TextColumn("{task.fields[text]}"),
            TimeRemainingColumn(elapsed_when_finished=True),
            console=console,
            disable=not console.is_terminal,
        )
        self._tasks: dict[str, Any] = {}
        self._last_line = 0.0

    def __enter__(self) -> LiveProgress:
        self._bar.start()
        return self

    def __exit__(self, failed: type[BaseException] | None, *details: object) -> None:
        if failed is None:
            self._finish()
        self._bar.stop()

    def _finish(self) -> None:
        for task in self._tasks.values():
            self._bar.update(task, completed=self._bar.tasks[task].total, text="done in")

    def show(self, step: Step) -> None:
        """Move the bar of the step's phase to where the step is."""
        if step.phase not in self._tasks:
            self._finish()
            self._tasks[step.phase] = self._bar.add_task(
                "", total=step.total, phase=step.phase, text="", completed=step.done
            )
        self._bar.update(self._tasks[step.phase], completed=step.done, text=f"{step.text}, left")
        if not console.is_terminal and time.monotonic() - self._last_line > 30:
            self._last_line = time.monotonic()
            print(f"{self.title}: {step.phase}: {step.text}", flush=True)


def percent(share: float | None) -> str:
    """A share as a reader's percentage; a dash where there is none."""
    return "-" if share is None else f"{100 * share:.2f} %"


def size(count: int | None) -> str:
    """Bytes with a unit, exact below 10 kB."""
    if count is None:
        return "-"
    if count < 10_000:
        return f"{count:,} B"
    power = next((p for p in (1, 2) if count < 1000 ** (p + 1)), 3)
    return f"{count / 1000**power:,.1f} {'kMG'[power - 1]}B"


def print_summary(run: Run) -> None:
    """The result of one run."""
    summary = run.summary
    table = Table(title=f"{summary['recipe']}, {summary['budget']}, seed {summary['seed']}")
    table.add_column("what")
    table.add_column("result", justify="right")
    rows = [
        ("sparsity (share of filters removed)", f"{summary['sparsity']:.3f}"),
        ("parameters", f"{summary['parameters']:,} of {summary['parameters_dense']:,}"),
        ("accuracy, trained centrally", percent(summary["accuracy_central"])),
        ("accuracy, trained by FedAvg", percent(summary["accuracy_federated"])),
        ("bytes for w0", size(summary["bytes"]["start"])),
        ("bytes in the rounds, down and up", size(run.bytes_rounds)),
        ("bytes in the final FedAvg", size(run.bytes_final)),
    ]
    for row in rows:
        table.add_row(*row)
    console.print(table)
    _print_line(f"run folder: {run.folder}")


def print_comparison(runs: Sequence[Run]) -> None:
    """Each run's name with its numbers below, aligned: the same on any screen and in a file."""

    def row(*cells: str) -> str:
        return "".join(cell.rjust(width) for cell, width in zip(cells, widths, strict=True))

    widths = (10, 14, 12, 12, 14, 16)
    _print_line(row("", "", "accuracy,", "trained", "bytes,", "both ways"), "bold")
    _print_line(
        row("sparsity", "parameters", "centrally", "by FedAvg", "rounds", "final FedAvg"), "bold"
    )
    for run in runs:
        s = run.summary
        _print_line(run.label, "cyan")
        _print_line(
            row(
                f"{s['sparsity']:.3f}",
                f"{s['parameters']:,}",
                percent(s["accuracy_central"]),
                percent(s["accuracy_federated"]),
                size(run.bytes_rounds),
                size(run.bytes_final),
            )
        )


def print_cells(cells: Sequence[Cell], results: Path) -> None:
    """Each cell of a table: its result, or that it has not been run, with its command."""
    there = [cell for cell in cells if (results / cell.file).exists()]
    for cell in cells:
        if cell in there:
            s = read_run(results / cell.file).summary
            central, federated = s["accuracy_central"], s["accuracy_federated"]
            said = f"sparsity {s['sparsity']:.3f}, central {percent(central)}, "
            said += f"federated {percent(federated)}"
        else:
            said = "not run yet"
        _print_line(cell.command)
        _print_line(f"    {said}", "green" if cell in there else "yellow")
    _print_line(f"{len(there)} of {len(cells)} recorded in {results}")


def print_step(step: CellStep) -> None:
    """That a cell has ended, and how long the others may take."""
    left = f", about {step.seconds_left / 60:.0f} min left" if step.done < step.total else ""
    _print_line(f"{step.done}/{step.total}{left}: {step.cell.command}")


def print_repeat(repeat: Repeat) -> None:
    """How far a repeated run is from its record."""
    said = [f"{kind} {points:+.2f} points" for kind, points in repeat.points.items()]
    if repeat.bits is not None:
        said.append(f"{repeat.bits} of {repeat.filters} filters differ")
    _print_line(repeat.cell.command)
    verdict = "as recorded" if repeat.holds else "not as recorded"
    _print_line(f"    {', '.join(said)}: {verdict}", "green" if repeat.holds else "red")


def _print_line(text: str, style: str | None = None) -> None:
    # As it is: a path may hold what rich would read as markup.
    console.print(text, style=style, markup=False, highlight=False, soft_wrap=True)


def print_export(sizes: Sequence[Mapping[str, Any]], to: Path, difference: float) -> None:
    """What was written, how close to torch it computes, and its size against the dense one."""
    table = Table(title="the network in use")
    table.add_column("network")
    for name in ("parameters", "MACs a picture", "ONNX file"):
        table.add_column(name, justify="right")
    for row in sizes:
        numbers = f"{row['parameters']:,}", f"{row['macs']:,}", size(row["bytes"])
        table.add_row(row["network"], *numbers)
    console.print(table)
    _print_line(f"{to}: the compact network; its logits equal torch's to {difference:.0e}")


def print_latency(rows: Sequence[Mapping[str, Any]]) -> None:
    """Dense against compact: milliseconds a batch, and their ratio, pair by pair."""

    def cell(row: Mapping[str, Any], name: str) -> str:
        middle, low, high = (
            f"{row[key]:.3g}" if row[key] < 1000 else f"{row[key]:,.0f}"
            for key in (name, f"{name}_low", f"{name}_high")
        )
        return f"{middle}\n{low} - {high}"

    table = Table(title="milliseconds a batch, one thread: median, 10 to 90 % of the runs")
    table.add_column("engine")
    for name in ("batch", "dense", "compact", "ratio", "runs"):
        table.add_column(name, justify="right")
    for row in rows:
        cells = (cell(row, name) for name in ("dense", "compact", "ratio"))
        table.add_row(row["engine"], str(row["batch"]), *cells, str(row["n"]))
    console.print(table)


def print_recipes(figures: Iterable[str]) -> None:
    """Recipes, budgets, what ``--set`` takes, tables and ``figures`` of the evidence."""
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
        ("allocation", QUOTAS),
        ("partition", partition.PARTITIONS),
        ("noise", {**DATA_NOISES, **FAULTS, **privacy.PRIVATE_VOTES}),
    ):
        console.print(f"{what}: {', '.join(known)}", soft_wrap=True)
    console.print(f"tables for reproduce: {', '.join(TABLES)}", soft_wrap=True)
    console.print(f"figures for reproduce: {', '.join(figures)}", soft_wrap=True)
