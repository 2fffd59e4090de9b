"""The page *Reproduce*: what it says of each table is what the code and the records say."""

from __future__ import annotations

import re
import runpy
import shlex
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mpfl.__main__ import parser
from mpfl.evidence.cells import once
from mpfl.evidence.claims import CLAIMS, COMPUTED
from mpfl.evidence.order import missing
from mpfl.evidence.protocol import PRIMARY
from mpfl.evidence.samples import Sample
from mpfl.evidence.tables import TABLES, cells_of
from mpfl.evidence.verdicts import Finding
from mpfl.runs.recipes import recipe
from mpfl.runs.text import changed
from mpfl.show.reproducing import anchor, tables_in_full, tables_overview
from mpfl.show.widgets.board import VerdictBoard

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "data" / "results"
NAMES = [name for name in TABLES if name != "digits"]


@pytest.fixture(scope="module")
def text() -> str:
    return tables_in_full(RESULTS)


@pytest.fixture(scope="module")
def parts(text: str) -> dict[str, str]:
    found = re.split(r"^\((table-[\w-]+)\)=$", text, flags=re.MULTILINE)[1:]
    return dict(zip(found[::2], found[1::2], strict=True))


def commands(part: str) -> list[str]:
    return re.findall(r"```bash\n(.*?)\n```", part, re.DOTALL)


def test_the_overview_counts_what_is_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)  # a trained w0 is named from there
    said = tables_overview(RESULTS)
    cells = once(cell for name in NAMES for cell in cells_of(name, "laptop"))
    there = sum((RESULTS / cell.file).exists() for cell in cells)
    assert f"{len(cells):,} runs stand" in said and f"{there:,} are recorded" in said
    for name in NAMES:
        mine = cells_of(name, "laptop")
        recorded = len(mine) - len(missing(mine, RESULTS))
        [line] = [line for line in said.splitlines() if line.startswith(f"| [{name}]")]
        assert f"(#{anchor(name)})" in line and f"| {recorded} of {len(mine)} |" in line
        assert line.endswith("| - |") == (recorded == len(mine))


def test_without_records_the_overview_claims_none(tmp_path: Path) -> None:
    said = tables_overview(tmp_path)
    assert "are recorded." not in said and "are not recorded yet" in said


def test_every_table_has_a_part_with_its_command(parts: dict[str, str]) -> None:
    assert list(parts) == [anchor(name) for name in NAMES]
    for name in NAMES:
        assert commands(parts[anchor(name)])[0] == f"python -m mpfl reproduce {name}"


def test_the_command_of_a_row_makes_its_first_run(parts: dict[str, str]) -> None:
    """Said over several lines, a command is still that of the cell, and leads to its file."""
    for name in NAMES:
        firsts = {cell.label: cell for cell in reversed(cells_of(name, "laptop"))}
        shown = commands(parts[anchor(name)])[1:]
        rows = re.findall(r"^\*\*(.+?)\*\* \(seed", parts[anchor(name)], re.MULTILINE)
        assert len(rows) == len(shown) == len(firsts)
        for row, command in zip(rows, shown, strict=True):
            assert max(map(len, command.splitlines())) <= 84
            words = shlex.split(command.replace("\\\n", " "))
            assert words == shlex.split(firsts[row].command)
        given = parser().parse_args(words[3:])
        made = changed(recipe(given.recipe, given.budget, given.seed), given.changes)
        assert f"{made.slug}.json" == firsts[row].file


def test_every_recorded_run_is_named(parts: dict[str, str]) -> None:
    for name in NAMES:
        named = re.findall(r"- seed \d+: `(.+?)`", parts[anchor(name)])
        there = [c.file for c in cells_of(name, "laptop") if (RESULTS / c.file).exists()]
        assert sorted(named) == sorted(there)


def test_a_claim_stands_with_the_table_of_its_runs(parts: dict[str, str]) -> None:
    for claims, words in ((CLAIMS, "claim"), (PRIMARY, "primary claim")):
        for number, claim in enumerate(claims, start=1):
            if claim.table != COMPUTED:
                [numbers] = re.findall(rf"(?:Behind|and) {words}s? ([\d, ]+) of",
                                       parts[anchor(claim.table)])  # fmt: skip
                assert str(number) in numbers.split(", ")


def test_the_page_has_places_for_both_and_nothing_else_is_touched() -> None:
    ext: dict[str, Any] = runpy.run_path(str(ROOT / "book" / "_ext" / "reproduce.py"))
    page = (ROOT / "book" / "reproduce.md").read_text()
    assert page.count(ext["OVERVIEW"]) == page.count(ext["IN_FULL"]) == 1
    other = [ext["OVERVIEW"]]
    ext["write_tables"](None, "book/index", other)
    assert other == [ext["OVERVIEW"]]
    assert ext["read_again"](None, SimpleNamespace(found_docs={ext["PAGE"]})) == [ext["PAGE"]]


def test_each_claim_on_the_board_leads_to_its_table(parts: dict[str, str]) -> None:
    """As the page *What holds* shows it: to a part that is there, for every claim with runs."""
    nothing = Finding("-", Sample(()), "not run yet", 0.0)
    board = VerdictBoard(
        {claim.name: nothing for claim in CLAIMS}, explorer="../book/reproduce.html#table-{table}"
    )
    page = (ROOT / "notebooks" / "what-holds.md").read_text()
    assert 'explorer="../book/reproduce.html#table-{table}"' in page
    linked = re.findall(r'href="\.\./book/reproduce\.html#([^"]+)"', board.markup)
    assert linked and set(linked) <= set(parts)
    with_runs = [claim for claim in CLAIMS if claim.table != COMPUTED]
    assert sorted(linked) == sorted(anchor(claim.table) for claim in with_runs)
