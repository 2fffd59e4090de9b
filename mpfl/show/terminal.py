"""What a finished run looks like in a terminal: its results as tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from mpfl.nets.settings import WITHOUT_FILTERS
from mpfl.runs.experiment import changes
from mpfl.runs.record import Run


class _Console(Console):
    """As rich's, but where nobody reads on, its caller says how to end."""

    def on_broken_pipe(self) -> None:
        """Called while the error is handled, which goes on."""
        raise


console = _Console()


def percent(share: float | None) -> str:
    """A share as a reader's percentage; a dash if there is none."""
    return "-" if share is None else f"{100 * share:.2f} %"


def size(count: int | None) -> str:
    """Bytes with a unit, exact below 10 kB."""
    if count is None:
        return "-"
    if count < 10_000:
        return f"{count:,} B"
    power = next((p for p in (1, 2) if count < 1000 ** (p + 1)), 3)
    return f"{count / 1000**power:,.1f} {'kMG'[power - 1]}B"


def print_line(text: str, style: str | None = None) -> None:
    """A line as it is, in a style of rich's; only the screen breaks it."""
    # As it is: a path may hold what rich would read as markup.
    console.print(text, style=style, markup=False, highlight=False, soft_wrap=True)


def print_summary(run: Run) -> None:
    """The result of one run."""
    summary = run.summary
    table = Table(title=f"{summary['recipe']}, {summary['budget']}, seed {summary['seed']}")
    table.add_column("what")
    table.add_column("result", justify="right")
    rows = [
        (f"sparsity (of the {_voted_on(run)}, removed)", f"{summary['sparsity']:.3f}"),
        ("parameters", f"{summary['parameters']:,} of {summary['parameters_dense']:,}"),
        ("accuracy, trained centrally", percent(summary["accuracy_central"])),
        ("accuracy, trained between the nodes", percent(summary["accuracy_federated"])),
        ("bytes for w0", size(summary["bytes"]["start"])),
        ("bytes in the rounds, down and up", size(run.bytes_rounds)),
        ("bytes in the final training", size(run.bytes_final)),
    ]
    for row in rows:
        table.add_row(*row)
    console.print(table)
    print_line(f"run folder: {run.folder}")


def _voted_on(run: Run) -> str:
    """What has a bit: filters, as a rule."""
    granularity, units = run.config.get("granularity", "filter"), run.config.get("units")
    if granularity != "filter":
        return f"{granularity}s voted on"
    usual = "all" if run.config["model"] in WITHOUT_FILTERS else "filters"
    return "filters" if (units or usual) == "filters" else "units voted on"


def _apart(runs: Sequence[Run]) -> list[str]:
    """For each run the fields in which it differs from others of its recipe, budget and rule."""
    settings = [changes(run.config) for run in runs]
    texts = []
    for run, own in zip(runs, settings, strict=True):
        alike = [o for other, o in zip(runs, settings, strict=True) if other.label == run.label]
        names = dict.fromkeys(name for other in alike for name in other)
        differ = [name for name in names if any(o.get(name) != own.get(name) for o in alike)]
        texts.append("".join(f", {name}={own.get(name, 'as usual')}" for name in differ))
    return texts


def print_comparison(runs: Sequence[Run]) -> None:
    """Each run's name with its numbers below, aligned: the same on any screen and in a file."""

    def row(*cells: str) -> str:
        return "".join(cell.rjust(width) for cell, width in zip(cells, widths, strict=True))

    widths = (10, 14, 12, 12, 14, 16)
    print_line(row("", "", "accuracy,", "trained", "bytes,", "both ways"), "bold")
    print_line(
        row("sparsity", "parameters", "centrally", "by FedAvg", "rounds", "final FedAvg"), "bold"
    )
    for run, apart in zip(runs, _apart(runs), strict=True):
        s = run.summary
        print_line(run.label + apart, "cyan")
        print_line(
            row(
                f"{s['sparsity']:.3f}",
                f"{s['parameters']:,}",
                percent(s["accuracy_central"]),
                percent(s["accuracy_federated"]),
                size(run.bytes_rounds),
                size(run.bytes_final),
            )
        )


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
    print_line(f"{to}: the compact network; its logits equal torch's to {difference:.0e}")


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
