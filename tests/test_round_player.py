"""The round player: every round of a recorded run, as its masks empty."""

import dataclasses
import itertools
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from widget_pages import Page, state_in

from mpfl.evidence.played import runs_to_play
from mpfl.evidence.samples import rows_of
from mpfl.prune import l1
from mpfl.runs.record import Run, ballots_of, bits_of, filters_of, hex_of, keep_record, read_run
from mpfl.runs.runner import run
from mpfl.show.widgets.playable import module
from mpfl.show.widgets.rounds import RoundPlayer
from mpfl.types import MPFLError


@pytest.fixture(scope="module")
def recording(quick: Any, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run of five rounds between three nodes, read back from what it recorded."""
    few = {"nodes": 3, "rounds": 5, "width": 0.5, "central_epochs": 0, "federated_rounds": 0}
    run(quick(**few), folder := tmp_path_factory.mktemp("recording") / "run")
    return read_run(keep_record(read_run(folder), folder))


def test_the_player_holds_plain_state_and_escapes_it(recording):
    config = {**recording.config, "recipe": "a <b>"}
    widget = RoundPlayer(dataclasses.replace(recording, config=config))
    html = widget.html()
    assert "a <b>" not in html
    assert state_in(html) == {"label": widget.label} | json.loads(json.dumps(widget.state()))
    assert "</script" not in module("rounds.js")


def test_the_player_reads_what_was_recorded(recording):
    widget = RoundPlayer(recording)
    assert widget.mask().all() and widget.sparsity() == 0 and widget.agreement() == []
    alive = widget.mask()
    for line in recording.rounds:
        widget.round = line["round"]
        mask = widget.mask()
        flat = [bits_of(line["mask"][name], size) for name, size in filters_of(recording).items()]
        assert (mask == np.concatenate(flat)).all()
        assert widget.sparsity() == line["sparsity"]
        for node, ballot in enumerate(ballots_of(recording, line["round"])):
            widget.node = node
            outvoted = widget.outvoted()
            assert (outvoted == (ballot ^ mask)).all() and not (outvoted & ~alive).any()
            share = 1 - outvoted.sum() / alive.sum()
            assert widget.agreement()[node] == pytest.approx(share) == line["agreement"][str(node)]
        alive = mask
    assert widget.sent() == recording.bytes_all
    widget.node = -1
    assert not widget.outvoted().any()


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ({"round": 6}, "round is 6; give 0 to 5"),
        ({"node": 3}, "node is 3; give -1 to 2"),
        ({"speed": 2}, "no setting 'speed'"),
    ],
)
def test_the_player_refuses(recording, setting, says):
    with pytest.raises(MPFLError, match=re.escape(says)):
        RoundPlayer(recording, **setting)


def test_the_player_refuses_no_runs_and_a_run_that_there_is_not(recording):
    with pytest.raises(MPFLError, match="there are no runs; give one, or several by their names"):
        RoundPlayer({})
    with pytest.raises(MPFLError, match="run is 'mine'; choose one of one, other"):
        RoundPlayer({"one": recording, "other": recording}, run="mine")


def test_the_player_refuses_a_run_without_ballots(recording):
    for changes, says in {
        (("ballots", ()),): "holds no ballots of round 1",
        (("votes", None),): "holds no votes; give a run of mpfl",
        (("ballots", tuple(recording.rounds[0]["ballots"][:2])),): "2 ballots of 3 nodes",
    }.items():
        lines = [{**line, **dict(changes)} for line in recording.rounds]
        with pytest.raises(MPFLError, match=says):
            RoundPlayer(dataclasses.replace(recording, rounds=lines))
    with pytest.raises(MPFLError, match="holds no votes"):
        RoundPlayer(dataclasses.replace(recording, rounds=[]))


def compare_round(widget: RoundPlayer, page: Page, shown: Mapping[str, str]) -> None:
    assert shown["mask"] == hex_of(widget.mask())
    assert float(shown["sparsity"]) == widget.sparsity()
    assert int(shown["sent"]) == widget.sent()
    assert json.loads(shown["agreement"]) == widget.agreement()
    assert int(shown["outvoted"]) == widget.outvoted().sum()
    # The squares say the same as the data.
    looks = page.box.locator(".mpfl-map rect").evaluate_all(
        "(cells) => cells.map((cell) => cell.getAttribute('class'))"
    )
    stays = [look in ("mpfl-stay", "mpfl-won") for look in looks]
    assert stays == widget.mask().tolist()
    if widget.node >= 0:
        assert [look in ("mpfl-won", "mpfl-lost") for look in looks] == widget.outvoted().tolist()


@pytest.mark.browser
def test_the_player_shows_every_round(opened, recording):
    widget = RoundPlayer(recording)
    page = opened(widget)
    for round_, node in itertools.product(range(6), range(-1, 3)):
        widget.round, widget.node = round_, node
        shown = page.set({"Round": round_, "Set against the votes of": node})
        compare_round(widget, page, shown)
    for round_, row in enumerate(page.box.locator("tbody tr").all()):
        widget.round = round_
        cells = row.locator("td").all_text_contents()
        kept = int(widget.mask().sum())
        assert cells[:2] == [str(round_), f"{kept:,}"]
        assert cells[3:] == [f"{widget.sent():,}"] + (
            [f"{each:.3f}" for each in widget.agreement()] or ["", "", ""]
        )


@pytest.fixture(scope="module")
def shorter(quick: Any, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Two rounds between two nodes, of a narrower network."""
    few = {"nodes": 2, "rounds": 2, "width": 0.25, "central_epochs": 0, "federated_rounds": 0}
    run(quick(**few, score=l1), folder := tmp_path_factory.mktemp("shorter") / "run")
    return read_run(folder)


def test_titles_say_in_what_the_runs_differ(recording, shorter):
    titles = [state["title"] for _, state in RoundPlayer({"a": recording, "b": shorter}).runs]
    assert titles == [f"digits, toy, most_votes, seed 0, score {each}" for each in ("l2", "l1")]
    assert recording.label == "digits, toy, most_votes(k=None), seed 0"
    assert RoundPlayer(recording).runs[0][1]["title"] == "digits, toy, most_votes, seed 0"


@pytest.mark.browser
def test_the_player_goes_from_run_to_run(opened, recording, shorter):
    widget = RoundPlayer({"five rounds": recording, "two rounds": shorter})
    page = opened(widget)
    widget.round, widget.node = 4, 2
    page.set({"Round": 4, "Set against the votes of": 2})
    compare_round(widget, page, page.set({}))
    # The other run has fewer rounds and nodes: what it has not is its last.
    assert page.press("Recorded run", "ArrowDown") == "two rounds"
    widget.run, widget.round, widget.node = "two rounds", 2, 1
    compare_round(widget, page, page.set({}))
    assert page.control("Round").input_value() == page.control("Round").get_attribute("max") == "2"
    assert page.control("Set against the votes of").locator("option").count() == 3
    assert page.box.locator("tbody tr").count() == 3
    page.press("Round", "ArrowLeft")
    widget.round = 1
    compare_round(widget, page, page.set({}))
    assert page.press("Recorded run", "ArrowUp") == "five rounds"
    widget.run = "five rounds"
    compare_round(widget, page, page.set({}))
    least = min(min(line["agreement"].values()) for each in (recording, shorter)
                for line in each.rounds)  # fmt: skip
    axis = re.search(r"agreement, from (\S+) to 1", page.box.locator("svg").first.text_content())
    assert axis is not None and float(axis[1]) <= least + 1e-9


@pytest.mark.browser
def test_one_run_has_no_menu(opened, recording):
    page = opened(RoundPlayer(recording))
    assert page.control("Recorded run").is_hidden()


RESULTS = Path(__file__).parent.parent / "data" / "results"


def test_the_recorded_runs_to_play_are_small_and_differ():
    runs = runs_to_play(RESULTS)
    assert [*runs] == ["random start", "trained start, by size", "trained start, by Taylor"]
    means = [
        [np.mean([*line["agreement"].values()]) for line in each.rounds] for each in runs.values()
    ]
    assert [len(each) for each in means] == [10, 10, 10]
    assert [(round(each[0], 2), round(each[-1], 2)) for each in means] == [
        (0.98, 0.91), (1.0, 1.0), (0.84, 0.81)]  # fmt: skip
    assert len(RoundPlayer(runs).html()) < 350_000
    # What the first one shows is the vote of the table cifar10.
    vote = rows_of("cifar10", results=RESULTS)["vote"].runs[2]
    for shown, line in zip(runs["random start"].rounds, vote.rounds, strict=True):
        assert (shown["mask"], shown["agreement"]) == (line["mask"], line["agreement"])


def test_a_run_to_play_that_is_not_recorded_says_how_to_make_it(tmp_path):
    with pytest.raises(MPFLError, match=r"random start: seed 2 of .* reproduce sparsity makes it"):
        runs_to_play(tmp_path)


@pytest.mark.browser
def test_the_player_by_keyboard_and_by_mouse(opened, recording):
    widget = RoundPlayer(recording)
    page = opened(widget)

    def compare(round_: int) -> None:
        widget.round = round_
        compare_round(widget, page, page.set({}))

    button = {name: page.box.get_by_role("button", name=name) for name in ("Play", "Back", "Step")}
    assert button["Back"].is_disabled()
    button["Step"].click()
    button["Step"].click()
    compare(2)
    button["Back"].click()
    compare(1)
    page.press("Round", "ArrowRight", "ArrowRight")
    compare(3)
    page.drag("Round", 0.99)
    compare(5)
    assert button["Step"].is_disabled()
    page.press("Round", "Home")
    page.tab.clock.install()
    button["Play"].focus()
    page.tab.keyboard.press("Enter")
    page.tab.clock.run_for(2000)
    compare(2)
    page.box.get_by_role("button", name="Pause").click()
    page.tab.clock.run_for(5000)
    compare(2)
    button["Play"].click()
    page.tab.clock.run_for(5000)
    compare(5)
    assert button["Play"].is_visible()
    button["Play"].click()  # again from the start
    page.tab.clock.run_for(1000)
    compare(1)
    page.press("Round", "ArrowRight")  # a move of the reader's stops it
    page.tab.clock.run_for(5000)
    compare(2)
    page.tab.emulate_media(reduced_motion="reduce")
    button["Play"].wait_for(state="hidden")
    assert button["Step"].is_visible()
    assert page.press("Set against the votes of", "ArrowDown", "ArrowDown") == "1"
    widget.node = 1
    compare(2)
    assert page.keys_outside() == []


@pytest.mark.browser
@pytest.mark.parametrize(("name", "last"), [("Step", 5), ("Back", 0)])
def test_who_plays_by_keyboard_keeps_their_place_at_the_end(opened, recording, name, last):
    page = opened(RoundPlayer(recording, round=3))
    button = page.box.get_by_role("button", name=name)
    button.focus()
    for _ in range(9):
        page.tab.keyboard.press("Enter")
    assert page.control("Round").input_value() == str(last)
    assert button.get_attribute("aria-disabled") == "true"
    assert button.evaluate("(button) => button === document.activeElement")
