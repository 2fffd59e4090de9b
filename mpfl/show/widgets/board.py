"""The verdict board: a row a claim, its interval against its bar, its verdict in words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any, get_args

import traitlets

from mpfl.evidence.claims import CLAIMS, COMPUTED, Claim, Whose
from mpfl.evidence.power import MOST_SEEDS, seeds_needed
from mpfl.evidence.verdicts import MARGIN, Finding, Verdict
from mpfl.show.widgets.intervals import drawn_interval, drawn_traffic, shared_scale
from mpfl.show.widgets.playable import Playable, module, stylesheet
from mpfl.types import MPFLError

_SIGNS: Mapping[Verdict, str] = {
    "reproduced": "✓",
    "partly": "◐",
    "undecided": "?",
    "refuted here": "✕",
    "untestable here": "–",
    "not run yet": "○",
}
_HEADS: Mapping[Whose, str] = {
    "paper": "Said by the paper",
    "taken for granted": "Taken for granted by the paper",
    "ours": "Said by this book",
}
# The page of the book about a table's runs, and about claims that another page is about.
_PAGES = {
    "cifar10": "cifar10",
    "sparsity": "cifar10",
    "network": "vote-or-lottery",
    "fair": "vote-or-lottery",
    "pretrained": "vote-or-lottery",
    "robustness": "bad-data",
    "schedules": "little-by-little",
    "imagenet100": "imagenet100",
    "improvement": "better-for-the-same-bytes",
    COMPUTED: "what-it-costs",
}
_TOLD = {
    "traffic": "what-it-costs",
    "lottery": "vote-or-lottery",
    "lottery-federated": "vote-or-lottery",
}


class VerdictBoard(Playable):
    """Claims with their findings, as :func:`mpfl.evidence.claims.judge_claims` makes them.

    Every row has the anchor ``claim-NAME`` and stands in the page's own HTML. ``explorer`` is where
    the runs are to be seen; ``{table}`` in it is the claim's table, with dashes. ``verdict``
    and ``whose`` choose rows, all if empty; read :meth:`shown` for their names. Raises
    :class:`~mpfl.types.MPFLError` for no findings, for one of a claim that is not in ``CLAIMS``,
    and for a setting that the controls do not have.
    """

    kind = "verdict board"
    label = "Verdict board: every claim, what was found, and its verdict"
    _esm = module("board.js")
    _css = stylesheet("board.css")

    markup = traitlets.Unicode().tag(sync=True)
    verdicts: traitlets.List[Any] = traitlets.List().tag(sync=True)
    groups: traitlets.List[Any] = traitlets.List().tag(sync=True)
    verdict = traitlets.Unicode("").tag(sync=True)
    whose = traitlets.Unicode("").tag(sync=True)

    def __init__(
        self,
        findings: Mapping[str, Finding],
        explorer: str = "#look-for-yourself",
        **setting: str,
    ) -> None:
        strangers = findings.keys() - {claim.name for claim in CLAIMS}
        if strangers or not findings:
            what = f"there is no claim {min(strangers)!r}" if strangers else "there are no findings"
            raise MPFLError(f"{self.kind}: {what}; give what judge_claims returns")
        self._rows = [
            (number, claim, findings[claim.name])
            for number, claim in enumerate(CLAIMS, start=1)
            if claim.name in findings
        ]
        tally = Counter(finding.verdict for _, _, finding in self._rows)
        verdicts = [verdict for verdict in _SIGNS if verdict in tally]
        groups = [
            whose for whose in get_args(Whose) if any(c.whose == whose for _, c, _ in self._rows)
        ]
        self.check(setting, {"verdict": ("", *verdicts), "whose": ("", *groups)})
        super().__init__(
            markup=_board(self._rows, explorer),
            verdicts=[[verdict, _SIGNS[verdict], tally[verdict]] for verdict in verdicts],
            groups=[[whose, _HEADS[whose]] for whose in groups],
            **setting,
        )

    def shown(self) -> list[str]:
        """The names of the claims that are shown, group by group."""
        return [
            claim.name
            for whose, _ in self.groups
            for _, claim, finding in self._rows
            if claim.whose == whose
            and self.verdict in ("", finding.verdict)
            and self.whose in ("", whose)
        ]

    def inside(self) -> str:
        return self.markup

    def state(self) -> dict[str, Any]:
        """As of every widget, but for the rows, which the page has already."""
        return {name: value for name, value in super().state().items() if name != "markup"}


def _board(rows: Sequence[tuple[int, Claim, Finding]], explorer: str) -> str:
    """All rows as HTML, in groups."""
    scales = {
        unit: shared_scale([f for _, _, f in rows if f.unit == unit])
        for unit in ("points", "epochs")
    }
    parts = []
    for whose, head in _HEADS.items():
        mine = [row for row in rows if row[1].whose == whose]
        if mine:
            items = "\n".join(_row(*row, scales, explorer) for row in mine)
            parts.append(
                f'<section data-whose="{whose}"><h3 class="mpfl-claims-head">{head}</h3>\n'
                f'<ol class="mpfl-claims">\n{items}\n</ol></section>'
            )
    return "\n".join(parts) + (
        '<p class="mpfl-notes">n seeds at budget laptop, and the table of runs; ± is half of the '
        "95 % interval, which the line shows with its seeds; for epochs plus one, as a run has one "
        "accuracy per epoch. The dashed line is the bar: a claim "
        f"holds to its right, one about traffic to its left. comparable: at most {MARGIN:g} points "
        "worse; better filters: worth a point or more.</p>"
    )


def _row(
    number: int, claim: Claim, finding: Finding, scales: Mapping[str, Any], explorer: str
) -> str:
    traffic = finding.unit == "per cent"
    bar = f"&lt; {finding.holds_from:g} %" if traffic else f"≥ {finding.holds_from:g}"
    source = escape(claim.source) + (f"; reported: {claim.reported}" if claim.reported else "")
    verdict, _, more = finding.in_words.partition("; ")
    anchor, page = f"claim-{claim.name}", _TOLD.get(claim.name, _PAGES[claim.table])
    drawing = drawn_traffic(finding) if traffic else drawn_interval(finding, scales[finding.unit])
    at = explorer.replace("{table}", claim.table.replace("_", "-"))
    runs = "" if claim.table == COMPUTED else f' <a href="{at}">the runs ({claim.table})</a>'
    seeds = f"n = {finding.sample.n}, " if finding.sample.n else ""
    more = f"<p>{more}</p>" if more else ""
    decide = "".join(f"<p>{line}</p>" for line in _what_would_decide(claim, finding))
    return (
        f'<li id="{anchor}" class="mpfl-claim" data-verdict="{verdict}">'
        f'<a class="mpfl-claim-number" href="#{anchor}" aria-label="Link to claim {number}">'
        f'{number}</a><div class="mpfl-claim-text"><p>{escape(claim.text)}</p>'
        f'<p class="mpfl-claim-source">{source}</p></div>'
        f'<div class="mpfl-claim-found">{drawing}<p>{escape(finding.figure)} '
        f"<span>({seeds}{claim.table})</span><br>holds if {bar}</p></div>"
        f'<div class="mpfl-claim-verdict"><p class="mpfl-badge" data-verdict="{verdict}">'
        f'<span aria-hidden="true">{_SIGNS[finding.verdict]}</span> {verdict}</p>{more}</div>'
        f"<details><summary>What would change our mind</summary><p>{escape(claim.change)}</p>"
        f'{decide}<p><a href="{page}.html">the page: {page.replace("-", " ")}</a>'
        f"{runs}</p></details></li>"
    )


def _what_would_decide(claim: Claim, finding: Finding) -> list[str]:
    """How many seeds, where they can be worked out; which command, where there are none."""
    sample, lines = finding.sample, []
    if finding.verdict == "not run yet":
        return [f"<code>python -m mpfl reproduce {claim.table}</code> makes the runs."]
    if finding.unit != "points" or sample.n < 2:
        return []
    lines.append(
        f"Mean minus bar: {sample.mean - finding.holds_from:+.1f} points; deviation from seed to "
        f"seed: {sample.deviation:.1f}."
    )
    if finding.verdict == "undecided":
        decided = finding.decided_by
        many = f"n = {decided:,}" if decided else f"not even n = {MOST_SEEDS:,}"
        lines.append(f"If both stay as they are, {many} would decide it four times in five.")
    needed = seeds_needed(sample, 1, "better")
    many = f"n = {needed:,}" if needed else f"not even n = {MOST_SEEDS:,}"
    lines.append(
        f"If the true value were one point from the bar, {many} would detect it four times in five."
    )
    return lines
