"""Every table of the evidence as Markdown: what it asks, what it takes, and how to make its runs.

The page *Reproduce* of the book is this text, written anew whenever the book is built.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from mpfl.evidence.cells import Cell, once
from mpfl.evidence.claims import CLAIMS
from mpfl.evidence.explore import EXPLORATORY_TABLES
from mpfl.evidence.order import core_minutes, missing
from mpfl.evidence.protocol import PRIMARY, PROTOCOL_TABLES
from mpfl.evidence.tables import TABLES, cells_of

_WIDTH = 84  # columns of a line of code in the book


def anchor(table: str) -> str:
    """Where the page *Reproduce* has a table: what follows ``reproduce.html#``.

    >>> anchor("one_shot")
    'table-one-shot'
    """
    return "table-" + table.replace("_", "-")


def tables_overview(results: Path = Path("data/results"), budget: str = "laptop") -> str:
    """How many runs there are, how many are recorded, what is left; then a line for each table.

    ``results`` is the folder of recorded runs; ``budget`` one of toy, laptop and paper.
    """
    tables = _tables(budget)
    cells = once(cell for mine in tables.values() for cell in mine)
    minutes, left = core_minutes(cells, results), missing(cells, results)
    took = [minutes[cell.file] for cell in cells if (results / cell.file).exists()]
    said = f"{len(cells):,} runs stand behind these tables, each counted once. "
    if took:
        said += f"{len(took):,} are recorded. They took {_hours(took)} of one core, "
        said += f"and none of them more than {max(took):.0f} minutes. "
    if left:
        rest = _hours([minutes[cell.file] for cell in left])
        said += f"{len(left):,} are not recorded yet. They would take about {rest}."
    lines = [
        said + "\n",
        "| table | what it asks | recorded | core-minutes | still to run |",
        "|---|---|---:|---:|---:|",
    ]
    for name, mine in tables.items():
        gone = missing(mine, results)
        still = sum(minutes[cell.file] for cell in gone)
        spent = sum(minutes[cell.file] for cell in mine) - still
        asks = inspect.cleandoc(TABLES[name].__doc__ or "").partition("\n")[0]
        lines.append(
            f"| [{name}](#{anchor(name)}) | {asks} | {len(mine) - len(gone)} of {len(mine)} "
            f"| {f'{spent:,.0f}' if spent else '-'} | {f'{still:,.0f}' if gone else '-'} |"
        )
    return "\n".join(lines)


def tables_in_full(results: Path = Path("data/results"), budget: str = "laptop") -> str:
    """A part for each table: its question, its one command, and folded away its rows.

    A row has its command and its records. ``results`` and ``budget`` are as in
    :func:`tables_overview`.
    """
    tables = _tables(budget)
    minutes = core_minutes(once(cell for mine in tables.values() for cell in mine), results)
    groups = {
        "The tables of the protocol": [_name(each) for each in PROTOCOL_TABLES],
        "The exploratory tables": [_name(each) for each in EXPLORATORY_TABLES],
    }
    later = {name for names in groups.values() for name in names}
    groups = {"The tables of the first claims": [n for n in tables if n not in later]} | groups
    lines = []
    for title, names in groups.items():
        lines.append(f"## {title}\n")
        lines += [_part(name, tables[name], minutes, results) for name in names]
    return "\n".join(lines)


def _tables(budget: str) -> dict[str, list[Cell]]:
    """The cells of every table but the one that is there to be tried first."""
    return {name: cells_of(name, budget) for name in TABLES if name != "digits"}


def _name(table: Callable[[str], Iterator[Cell]]) -> str:
    return table.__name__.removesuffix("_table")


def _part(name: str, cells: Sequence[Cell], minutes: dict[str, float], results: Path) -> str:
    """One table: its question, what it takes, its command, and its rows in a fold."""
    rows: dict[str, list[Cell]] = {}
    for cell in cells:
        rows.setdefault(cell.label, []).append(cell)
    left = missing(cells, results)
    still = sum(minutes[cell.file] for cell in left)
    said = "all recorded" if not left else f"{len(cells) - len(left)} recorded"
    takes = f"; the rest takes about {still:,.0f} core-minutes" if left else ""
    return "\n".join(
        [
            f"({anchor(name)})=\n### {name}\n",
            inspect.cleandoc(TABLES[name].__doc__ or "") + "\n",
            f"*{len(cells)} runs in {len(rows)} rows, {said}{takes}.* {_decides(name)}\n",
            _bash(f"python -m mpfl reproduce {name}"),
            "::::{dropdown} The rows, each with its command and its records",
            *(_row(label, mine, results) for label, mine in rows.items()),
            "::::\n",
        ]
    )


def _row(label: str, cells: Sequence[Cell], results: Path) -> str:
    """One row: the command of its first seed, and the file of each seed that is recorded."""
    there = [cell for cell in cells if (results / cell.file).exists()]
    seeds = _seeds([cell.seed for cell in cells])
    found = [f"- seed {cell.seed}: `{cell.file}`" for cell in there]
    state = "" if len(there) == len(cells) else f", {len(there) or 'none'} recorded"
    # A control takes its counts over from the record of the same seed.
    other = " `match` differs for each seed: `--list` has them all." if cells[0].match else ""
    head = f"**{label}** ({seeds}{state}).{other}\n"
    return "\n".join([head, _bash(_wrapped(cells[0])), *found, ""])


def _decides(name: str) -> str:
    """Which claims rest on a table."""
    held = [str(n) for n, claim in enumerate(CLAIMS, start=1) if claim.table == name]
    first = [str(n) for n, contrast in enumerate(PRIMARY, start=1) if contrast.table == name]
    said = []
    if held:
        said.append(f"{_claims(held)} of [what holds](../notebooks/what-holds.md)")
    if first:
        page = "[the vote, a lottery, or nobody at all](../notebooks/vote-or-lottery.md)"
        said.append(f"primary {_claims(first)} of {page}")
    return f"Behind {' and '.join(said)}." if said else ""


def _claims(numbers: Sequence[str]) -> str:
    return f"claim{'s' if len(numbers) > 1 else ''} {', '.join(numbers)}"


def _wrapped(cell: Cell) -> str:
    """Its command over several lines, as a shell takes it."""
    lines, *changes = cell.command.split(" --set ")
    for change in changes:
        last = lines.rpartition("\n")[2]
        here = len(last) + len(change) + len(" --set  \\") <= _WIDTH
        lines += f" --set {change}" if here else f" \\\n  --set {change}"
    return lines


def _bash(command: str) -> str:
    return f"```bash\n{command}\n```\n"


def _seeds(seeds: Sequence[int]) -> str:
    """Several seeds in words; those of a row follow each other."""
    return f"seed {seeds[0]}" if len(seeds) == 1 else f"seeds {min(seeds)} to {max(seeds)}"


def _hours(minutes: Sequence[float]) -> str:
    return f"{sum(minutes) / 60:,.0f} hours"
