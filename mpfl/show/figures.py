"""The figures of the evidence, by name.

What draws a figure is loaded when it is drawn: the names alone need neither matplotlib nor scipy.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mpfl.evidence.cells import Cell, once
from mpfl.evidence.order import cheapest_decision_first, missing
from mpfl.evidence.tables import TABLES, cells_of
from mpfl.types import MPFLError, one_of


@dataclass(frozen=True)
class Drawing:
    """A figure: the tables whose cells it needs, and how it is drawn from recorded results."""

    needs: Callable[[], tuple[str, ...]]
    draw: Callable[[Path], Any]

    @property
    def tables(self) -> tuple[str, ...]:
        """The tables whose cells it needs."""
        return self.needs()


def _claimed() -> tuple[str, ...]:
    from mpfl.evidence.claims import CLAIMS, COMPUTED

    return tuple(dict.fromkeys(["cifar10", *(c.table for c in CLAIMS if c.table != COMPUTED)]))


def _verdicts(results: Path) -> Any:
    from mpfl.evidence.claims import judge_claims
    from mpfl.show.plots.evidence import verdicts

    return verdicts(judge_claims(results))


def _improvement(results: Path) -> Any:
    from mpfl.evidence.samples import rows_of
    from mpfl.show.plots.evidence import trade_off

    return trade_off([row for row in rows_of("improvement", results=results).values() if row.runs])


def _curves(results: Path) -> Any:
    from mpfl.show.plots.evidence import by_sparsity, sparsity_curves

    return sparsity_curves(by_sparsity(results))


FIGURES: Mapping[str, Drawing] = {
    "verdicts": Drawing(_claimed, _verdicts),
    "improvement": Drawing(lambda: ("improvement",), _improvement),
    "curves": Drawing(lambda: ("cifar10", "sparsity"), _curves),
}


def cells_behind(what: str, budget: str, results: Path) -> list[Cell]:
    """The cells of a figure or of a table; raises naming the nearest of either.

    Those of ``all`` come in the order in which to run what is missing in ``results``.
    """
    if what not in FIGURES:
        one_of("table or figure", what, ["all", *TABLES, *FIGURES])
    if what == "all":
        return cheapest_decision_first(budget, results)
    tables = FIGURES[what].tables if what in FIGURES else (what,)
    return once(cell for table in tables for cell in cells_of(table, budget))


def draw(what: str, results: Path, to: Path) -> None:
    """Draw a figure from what is recorded into a file; the suffix says its format.

    Raises :class:`~mpfl.types.MPFLError` if nothing is recorded, or if there is no such figure
    or format.
    """
    drawing = FIGURES[one_of("figure", what, FIGURES)]
    cells = cells_behind(what, "laptop", results)
    if len(missing(cells, results)) == len(cells):
        raise MPFLError(f"{results}: holds no cell of figure {what!r}; reproduce it first")
    from mpfl.show.plots.appearance import save_figure

    save_figure(drawing.draw(results), to)
