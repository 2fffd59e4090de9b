"""What the benchmarks of the engine share: rows that say what they are, kept in one file."""

from __future__ import annotations

import json
import os
import statistics
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from mpfl.runs.folder import write_json
from mpfl.runs.provenance import provenance

FILE = Path(__file__).parent / "results.json"


def row(name: str, unit: str, values: float | Sequence[float], detail: str = "") -> dict[str, Any]:
    """One figure: the median of ``values``, the least and the largest, and how many there are.

    ``low`` and ``high`` are None for a single value, or one that is worked out from others.
    """
    ordered = sorted(values) if isinstance(values, Sequence) else [values]
    several = len(ordered) > 1
    return {
        "name": name,
        "unit": unit,
        "value": statistics.median(ordered),
        "low": ordered[0] if several else None,
        "high": ordered[-1] if several else None,
        "n": len(ordered),
        "detail": detail,
    }


def value_of(benchmark: str, name: str) -> float:
    """A figure that was kept before; raises ``KeyError`` if it was not."""
    rows = json.loads(FILE.read_text())[benchmark]["rows"] if FILE.exists() else []
    return float({each["name"]: each["value"] for each in rows}[name])


def made_by(benchmark: str) -> dict[str, Any]:
    """Provenance, with the engine's versions and how busy the machine is."""
    made = provenance(f"python -m benchmarks {benchmark}")
    made["versions"] |= {name: version(name) for name in ("flwr", "ray", "grpcio")}
    return made | {"load_before": os.getloadavg()[0]}


def keep(benchmark: str, rows: Sequence[dict[str, Any]], made: dict[str, Any]) -> None:
    """Print the rows and write them to ``FILE``, in place of those of before."""
    kept = json.loads(FILE.read_text()) if FILE.exists() else {}
    made["load_after"] = os.getloadavg()[0]
    kept[benchmark] = {"rows": list(rows), "provenance": made}
    write_json(FILE, kept)
    table = Table("figure", "value", "unit", "range (n)", "detail")
    for each in rows:
        spread = "" if each["low"] is None else f"{each['low']:,.4g} to {each['high']:,.4g}"
        value = f"{each['value']:,.5g}" if each["value"] < 1e5 else f"{each['value']:,.0f}"
        spread = f"{spread} ({each['n']})"
        table.add_row(each["name"], value, each["unit"], spread, each["detail"])
    Console(width=None if sys.stdout.isatty() else 180).print(table)
