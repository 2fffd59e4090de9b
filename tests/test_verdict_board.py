"""The verdict board: every claim with what was found, to be linked at, filtered and unfolded."""

import html
import json
import re

import pytest
from widget_pages import state_in

from mpfl.evidence.claims import CLAIMS, judge_claims
from mpfl.evidence.power import seeds_needed
from mpfl.evidence.samples import Sample
from mpfl.evidence.verdicts import Finding, judged
from mpfl.show.widgets.board import VerdictBoard
from mpfl.show.widgets.intervals import drawn_interval
from mpfl.show.widgets.playable import module
from mpfl.types import MPFLError


def made_up(place: int) -> Finding:
    """A finding of each verdict, in turn; traffic as the first, an epoch and a hand-written one."""
    if place == 0:
        votes, everything = Sample((0.002,)), Sample((3.0,))
        return Finding("2 per mille < all", everything, "partly", 1.0, "per cent", votes=votes)
    if place == 1:
        return Finding("no measure", Sample(()), "untestable here", 0.0, "epochs")
    if place == 2:
        return Finding("-", Sample(()), "not run yet", 1.0)
    values = [(3.0, 3.2, 2.9), (-4.0, -5.0, -4.5), (-1.0, 1.4, 3.5)][place % 3]
    sample, bar = Sample(values), float(place % 2)
    unit = "epochs" if place == 3 else "points"
    return Finding(f"{sample.mean:+.1f} each", sample, judged(sample, bar), bar, unit)


FINDINGS = {claim.name: made_up(place) for place, claim in enumerate(CLAIMS)}


def words(text: str) -> str:
    """What a reader sees of a piece of HTML."""
    plain = re.sub(r"<svg.*?</svg>", "", text, flags=re.S)
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", plain)).split())


def rows(widget: VerdictBoard) -> dict[str, str]:
    """The HTML of every row, by its anchor, as it stands in the page itself."""
    page = widget.html().partition("<script")[0]
    return dict(re.findall(r'<li id="([^"]+)"(.*?)</li>', page, re.S))


def test_the_board_holds_plain_state_and_its_rows_once():
    widget = VerdictBoard(FINDINGS)
    page = widget.html()
    assert state_in(page) == {"label": widget.label} | json.loads(json.dumps(widget.state()))
    assert page.count(CLAIMS[0].text) == 1
    assert "</script" not in module("board.js")


def test_every_row_has_an_anchor_and_says_all():
    found = rows(VerdictBoard(FINDINGS))
    assert sorted(found) == sorted(f"claim-{claim.name}" for claim in CLAIMS)
    for number, claim in enumerate(CLAIMS, start=1):
        row, finding = found[f"claim-{claim.name}"], FINDINGS[claim.name]
        said = words(row)
        traffic = finding.unit == "per cent"
        for each in (
            f">{number}</a>",
            f'href="#claim-{claim.name}"',
            f'data-verdict="{finding.verdict}"',
        ):
            assert each in row
        for each in (
            claim.text,
            claim.source,
            claim.reported,
            finding.figure,
            f"(n = {finding.sample.n}, {claim.table})" if finding.sample.n else f"({claim.table})",
            f"holds if {'<' if traffic else '≥'} {finding.holds_from:g}",
            *finding.in_words.split("; "),
            claim.change,
        ):
            assert each in said


def test_what_would_decide_is_computed():
    found = rows(VerdictBoard(FINDINGS))
    seen = set()
    for name, finding in FINDINGS.items():
        said = words(found[f"claim-{name}"])
        seen.add(finding.verdict)
        if finding.verdict == "undecided":
            assert f"n = {finding.decided_by:,} would decide it four times in five" in said
        if finding.unit == "points" and finding.sample.n:
            assert f"n = {seeds_needed(finding.sample, 1, 'better')} would detect it" in said
    assert "python -m mpfl reproduce cifar10" in words(found[f"claim-{CLAIMS[2].name}"])
    assert seen == {"partly", "untestable here", "not run yet", "reproduced", "refuted here",
                    "undecided"}  # fmt: skip


def test_intervals_share_a_scale():
    """The bar and the mean of two claims stand as far apart as their numbers say."""
    found = rows(VerdictBoard(FINDINGS))
    place = re.compile(r'mpfl-bar" d="M([\d.]+) .*?mpfl-dot[^"]*" cx="([\d.]+)"', re.S)
    apart = {}  # in points, and in the drawing
    for name, finding in FINDINGS.items():
        if finding.unit == "points" and finding.sample.n:
            bar, mean = map(float, place.search(found[f"claim-{name}"]).groups())
            apart[finding.sample.mean - finding.holds_from] = mean - bar
    scale = (apart[max(apart)] - apart[min(apart)]) / (max(apart) - min(apart))
    assert len(apart) > 4 and scale > 0
    for points, drawn in apart.items():
        assert drawn == pytest.approx(scale * points, abs=0.2)
    bar, votes = place.search(found["claim-traffic"]).groups()
    assert float(votes) < float(bar)


def test_an_interval_is_drawn_as_wide_as_its_text_says():
    """Epochs come in steps of one, which widens the interval of the verdict: so does the line."""
    drawn = []
    for resolution in (0.0, 1.0):
        sample = Sample((1.0, 2.0, 4.0))
        finding = Finding("", sample, judged(sample, 0.0, resolution), 0.0, "epochs", resolution)
        picture = drawn_interval(finding, lambda value: 10 * value + 120)
        low, high = map(float, re.search(r'whisker" d="M([\d.]+) 17H([\d.]+)', picture).groups())
        assert f"interval {finding.low:+.1f} to {finding.high:+.1f} epochs" in picture
        drawn.append(high - low)
    assert drawn[1] - drawn[0] == pytest.approx(2 * 10, abs=0.2)
    assert drawn[0] == pytest.approx(20 * sample.half, abs=0.2)


def test_what_is_not_run_says_so_and_counts_no_seeds(tmp_path):
    """Judged on an empty folder of records: no dash, no n = 0."""
    for said in rows(VerdictBoard(judge_claims(tmp_path))).values():
        assert "n = 0" not in said
        assert ">- " not in said
        assert 'data-verdict="not run yet"' not in said or "<p>not run yet " in said


def test_the_board_refuses():
    with pytest.raises(MPFLError, match="there are no findings; give what judge_claims returns"):
        VerdictBoard({})
    with pytest.raises(MPFLError, match="there is no claim 'mine'"):
        VerdictBoard({"mine": FINDINGS["traffic"]})
    with pytest.raises(MPFLError, match="verdict is 'false'; choose one of , reproduced"):
        VerdictBoard(FINDINGS, verdict="false")


def test_a_board_of_some_claims_keeps_their_numbers():
    some = {claim.name: FINDINGS[claim.name] for claim in CLAIMS if claim.whose == "ours"}
    widget = VerdictBoard(some)
    assert [whose for whose, _ in widget.groups] == ["ours"]
    first = next(number for number, claim in enumerate(CLAIMS, 1) if claim.whose == "ours")
    assert f">{first}</a>" in next(iter(rows(widget).values()))


@pytest.mark.browser
def test_the_board_filters(opened):
    widget = VerdictBoard(FINDINGS)
    page = opened(widget)
    row = page.box.locator(".mpfl-claim")
    assert json.loads(page.data("shown")) == widget.shown()
    for verdict, _, count in widget.verdicts:
        page.box.get_by_role("button", name=f"{verdict}: {count}").click()
        widget.verdict = verdict
        assert json.loads(page.data("shown")) == widget.shown()
        assert row.filter(visible=True).count() == count == len(widget.shown())
    for whose, _ in widget.groups:
        page.set({"Whose claim": whose})
        widget.whose = whose
        assert json.loads(page.data("shown")) == widget.shown()
    widget.whose = ""
    page.set({"Whose claim": ""})
    # By keyboard: the first button shows all again.
    page.box.get_by_role("button", name=f"all: {len(CLAIMS)}").focus()
    page.tab.keyboard.press("Enter")
    assert row.filter(visible=True).count() == len(CLAIMS)
    summary = page.box.locator("summary").nth(4)
    summary.focus()
    page.tab.keyboard.press("Enter")
    assert page.box.locator("details[open]").count() == 1
    assert page.keys_outside() == []


@pytest.mark.browser
def test_a_link_finds_its_row_though_it_is_filtered_out(opened):
    page = opened(VerdictBoard(FINDINGS))
    page.box.get_by_role("button", name="partly: 1").click()
    last = page.box.locator(f"#claim-{CLAIMS[-1].name}")
    assert last.is_hidden()
    page.tab.evaluate("(name) => { location.hash = name }", f"claim-{CLAIMS[-1].name}")
    last.wait_for(state="visible")
    assert last.evaluate("(row) => row.matches(':target')")


@pytest.mark.browser
def test_one_claim_is_shown_and_two_are(opened):
    page = opened(VerdictBoard(FINDINGS))
    page.box.get_by_role("button", name="partly: 1").click()
    assert page.box.get_by_text(f"1 of {len(CLAIMS)} claims is shown.").is_visible()
    page.box.get_by_role("button", name="all:").click()
    assert page.box.get_by_text(f"{len(CLAIMS)} of {len(CLAIMS)} claims are shown.").is_visible()


@pytest.mark.browser
def test_a_verdict_fits_its_column(opened):
    page = opened(VerdictBoard(FINDINGS))
    for width in (1280, 800, 390):
        page.tab.set_viewport_size({"width": width, "height": 800})
        page.tab.wait_for_timeout(50)
        wide = page.box.locator(".mpfl-claim .mpfl-badge").evaluate_all(
            """(badges) => badges.filter((badge) => badge.getBoundingClientRect().right
                > badge.closest("li").getBoundingClientRect().right).map((b) => b.textContent)"""
        )
        assert wide == [], width
