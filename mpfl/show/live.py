"""What a terminal shows while work goes on: the phases of a run, the cells of a table."""

from __future__ import annotations

import time
from typing import Any

import rich.progress

from mpfl.evidence.reproduce import CellDone, Repeat
from mpfl.runs.progress import Progress
from mpfl.show.terminal import console, print_line


class LiveProgress:
    """A bar per phase, with round, node, epoch and the time left, or taken when it is done.

    If the output is no terminal, a plain line at most every half a minute instead.
    """

    def __init__(self, title: str) -> None:
        self.title = title
        self._bar = rich.progress.Progress(
            rich.progress.TextColumn("{task.fields[phase]:<18}"),
            rich.progress.BarColumn(complete_style="cyan", finished_style="green"),
            rich.progress.TextColumn("{task.fields[text]}"),
            rich.progress.TimeRemainingColumn(elapsed_when_finished=True),
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

    def show(self, step: Progress) -> None:
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


def print_step(step: CellDone) -> None:
    """That a cell has ended, what was spent, and what the others may take."""
    spent, left = f"{step.minutes_spent:.0f}", f"{step.minutes_left:.0f}"
    minutes = f"{spent} core-minutes spent, about {left} left"
    print_line(f"{step.done}/{step.total}, {minutes}: {step.cell.command}")


def print_repeat(repeat: Repeat) -> None:
    """How far a repeated run is from its record."""
    parts = [f"{kind} {points:+.2f} points" for kind, points in repeat.points.items()]
    if repeat.bits is not None:
        parts.append(f"{repeat.bits} of {repeat.filters} filters differ")
    print_line(repeat.cell.command)
    verdict = "as recorded" if repeat.holds else "not as recorded"
    print_line(f"    {', '.join([*parts, verdict])}", "green" if repeat.holds else "red")
    for line in repeat.differences:
        print_line(f"    {line}", "red")
