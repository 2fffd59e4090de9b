"""What README.md, CONTRIBUTING.md and the book tell a reader to type works.

Short commands run. Long ones are read by the same parser and built up to the point where the
work would begin.
"""

from __future__ import annotations

import importlib
import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from mpfl import masks, wire
from mpfl.__main__ import main, parser
from mpfl.data.catalogue import NAMES
from mpfl.evidence.cells import PRETRAINED
from mpfl.evidence.claims import judge_claims
from mpfl.evidence.gains import gains_of
from mpfl.evidence.primary import decide_primary
from mpfl.evidence.samples import TRAININGS, Row, difference, points, rows_of
from mpfl.evidence.tables import TABLES
from mpfl.evidence.verdicts import Finding
from mpfl.nets.networks import blueprint, build
from mpfl.nets.start import pretrained_weights
from mpfl.nets.tracing import layout_of
from mpfl.node import Plan
from mpfl.prune import filter_norms, select
from mpfl.runs.recipes import recipe
from mpfl.runs.record import ballots_of
from mpfl.runs.text import changed
from mpfl.runs.workbench import Workbench
from mpfl.show.figures import FIGURES, cells_behind
from mpfl.show.terminal import size

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "data" / "README.md",
    *sorted((ROOT / "book").rglob("*.md")),
    *sorted((ROOT / "notebooks").glob("*.md")),
]
# What a reader fills in, and what stands for it here.
BLANKS = {"RUN": "runs/a", "FILE": "file", "FOLDER": "folder", "TABLE": "cifar10", "N": "1"}


def commands() -> Iterator[tuple[str, str]]:
    """Every command in a bash block or between backticks: ``(page, command)``."""
    for page in PAGES:
        text, name = page.read_text(), str(page.relative_to(ROOT))
        for block in re.findall(r"^```bash\n(.*?)^```", text, re.M | re.S):
            for line in re.split(r"\n| && ", block.replace("\\\n", " ")):
                if words := shlex.split(line, comments=True):
                    yield name, shlex.join(words) if "*" not in line else " ".join(words)
        for line in re.findall(r"`((?:make|python -m mpfl)(?: [^`]*)?)`", text):
            yield name, line


COMMANDS = sorted(set(commands()))


def arguments(command: str) -> list[str]:
    """The words after ``python -m mpfl``, with the blanks filled in."""
    return [BLANKS.get(word, word) for word in shlex.split(command)[3:]]


def test_there_are_commands() -> None:
    assert {page for page, _ in COMMANDS} >= {"README.md", "CONTRIBUTING.md", "book/index.md"}
    assert len(COMMANDS) > 20


@pytest.mark.parametrize(("page", "command"), COMMANDS, ids=lambda text: text)
def test_a_command_is_one(page: str, command: str, tmp_path: Path) -> None:
    program, *words = shlex.split(command)
    if program == "make":
        done = subprocess.run(["make", "-n", *words], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    elif program == "source":
        assert words in (
            [".venv/bin/activate"],
            ["~/mpfl-keys/environment"],
        )  # flower keys makes it
    elif words[:2] == ["-m", "mpfl"]:
        check(arguments(command), tmp_path)
    elif words[:2] == ["-m", "mpfl.flower"]:
        importlib.import_module("mpfl.flower.__main__")._parser().parse_args(words[2:])
    elif program == "cmp":  # of every Unix
        assert len(words) == 2
    else:  # a program of requirements.txt
        assert shutil.which(Path(program).name, path=Path(sys.executable).parent)
        for file in (word for word in words if word.startswith("tests/")):
            assert (ROOT / file).exists(), file


def check(words: list[str], folder: Path) -> None:
    """The parser takes it, and what it names is there or can be built."""
    if len(words) == 1 and words != ["list"]:  # no more than the name of a command
        words.append("--help")
        with pytest.raises(SystemExit, match=r"^0$"):
            parser().parse_args(words)
        return
    options = parser().parse_args(words)
    if options.command == "run":
        experiment = changed(recipe(options.recipe, options.budget, options.seed), options.changes)
        if experiment.dataset == "digits" and experiment.match is None:  # without other files
            assert Workbench(experiment, folder).algorithm().name == experiment.method.name
    elif options.command == "reproduce":
        assert cells_behind(options.what, options.budget, options.results)
    elif options.command == "data":
        assert options.name in NAMES
    else:
        assert options.command in ("list", "compare", "record", "export")


@pytest.fixture
def beside_the_readme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the recorded results, to type commands in."""
    shutil.copytree(ROOT / "data" / "results", tmp_path / "data" / "results")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.slow
def test_the_first_commands_run(
    beside_the_readme: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In the order of the README, all that take seconds and need no download."""
    ran = []
    for page, command in commands():
        if page != "README.md" or not command.startswith("python -m mpfl"):
            continue
        words = arguments(command)
        long = words[0] == "data" or (words[0] == "run" and words[1] != "digits")
        if long or "--hours" in words or words in ran:
            continue
        files = [str(file) for word in words for file in sorted(Path().glob(word)) if "*" in word]
        words = [word for word in words if "*" not in word] + files
        quick = ["--no-latency"] if words[0] == "export" else []
        assert main([*words, *quick]) == 0, command
        assert capsys.readouterr().out
        if words[0] == "run":
            [folder] = Path("runs").iterdir()
            folder.rename(BLANKS["RUN"])
        ran.append(words)
    assert {words[0] for words in ran} == {
        "run",
        "compare",
        "export",
        "reproduce",
        "list",
        "record",
    }
    assert Path("small.onnx").exists() and Path("v.svg").read_text().startswith("<?xml")


def test_the_options_of_run(capsys: pytest.CaptureFixture[str]) -> None:
    """The README's table has each option of ``run``, and no other."""
    told = set(re.findall(r"^\| `(--[a-z-]+)", README, re.M))
    with pytest.raises(SystemExit):
        main(["run", "--help"])
    assert told == set(re.findall(r"^  (--[a-z-]+)", capsys.readouterr().out, re.M))


def test_what_may_be_reproduced_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list"]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in (*TABLES, *FIGURES))


# --- the file tree ------------------------------------------------------------------------


def tree() -> list[str]:
    """Every path in the README's last block; the twelve files of the method by their names."""
    [block] = re.findall(r"^## What is where\n\n```\n(.*?)^```", README, re.M | re.S)
    paths, folder = [], ""
    for line in block.splitlines():
        names, inside = re.split(r"  +", line.strip())[0], line.startswith(" ")
        for name in re.split(r",? ", names):
            suffix = "" if "." in name or name.endswith("/") else ".py"
            paths.append((folder if inside else "") + name + suffix)
        if not inside:
            folder = names
    return paths


def test_the_file_tree_names_what_is_there() -> None:
    assert [path for path in tree() if path != "Makefile.py" and not (ROOT / path).exists()] == []
    modules = {
        f"mpfl/{path.name}{'/' * path.is_dir()}"
        for path in (ROOT / "mpfl").iterdir()
        if path.suffix == ".py" or (path / "__init__.py").exists()
    } - {"mpfl/__init__.py"}
    assert modules - set(tree()) == set(), "give these a line in the README's file tree"
    assert len(README.partition("## What is where")[2].partition("## Cite")[0].splitlines()) <= 35


FIRST_RESULTS = {  # how README.md calls a row, and which recorded one it is
    "the vote (the rule called `most_votes`)": ("cifar10", "vote"),
    "nobody: a lottery, random masks of the same counts": ("cifar10", "lottery"),
    "nobody: the largest filters of the first weights": ("cifar10", "w0 norms"),
    "pruning-FL, which averages weights": ("cifar10", "pruning-FL"),
    "one party with all the data (LTH)": ("cifar10", "LTH"),
    "no pruning at all": ("cifar10", {"central": "dense, central", "federated": "dense FedAvg"}),
    "published: the same share of every layer": ("improvement", "published"),
    "the same, pruned less, to as many multiply-accumulates as below": (
        "improvement",
        "published counts, equal MACs",
    ),
    "the root of a layer's width, Taylor vote": ("improvement", "root, taylor"),
    "the same counts, the largest filters of the first weights": ("improvement", "w0 norms, root"),
    "the same counts, a lottery": ("improvement", "lottery, root"),
}


@pytest.mark.parametrize("name", FIRST_RESULTS)
def test_a_first_result_is_what_was_recorded(name: str) -> None:
    table, label = FIRST_RESULTS[name]
    rows = rows_of(table, results=ROOT / "data" / "results")
    labels = dict.fromkeys(TRAININGS, label) if isinstance(label, str) else label
    line = next(line for line in README.splitlines() if line.startswith(f"| {name} |"))
    samples = [rows[labels[training]].accuracy(training) for training in TRAININGS]
    assert [cell.strip() for cell in line.split("|")[2:4]] == [
        f"{each.mean:.1f} ± {each.deviation:.1f} %" if each.n > 1 else f"{each.mean:.1f} %"
        if each.n else ""
        for each in samples
    ]  # fmt: skip
    if table == "cifar10":  # the other table has no bytes
        for run in rows[labels["federated"]].runs.values():
            sent = [size(count) if count else "0" for count in (run.bytes_rounds, run.bytes_final)]
            assert [cell.strip() or "0" for cell in line.split("|")[4:6]] == sent


NOT_SHOWN = ["undecided", "refuted here"]
HEADLINES = [  # what the book's first page says, and the claims that say whether it still may
    ("The votes' traffic is: about a thousandth of a per cent", "traffic", ["partly"]),
    ("With the weights of the final training it is {:.0f} % on CIFAR-10", "traffic", ["partly"]),
    ("and {:.0f} % at full size", "traffic-large", ["partly"]),
    (
        "Ten votes choose better than a lottery (*taken for granted*) | Undecided",
        "lottery",
        ["undecided"],
    ),
    (
        "Federated: no, {:.1f} points below",
        "accuracy-pruning-fl-federated",
        ["refuted here"],
    ),
    ("Central: comparable.", "accuracy-pruning-fl-central", ["reproduced"]),
    (
        "No: it loses {:.1f} points central, ten epochs each",
        "accuracy-central",
        ["refuted here"],
    ),
    ("photographs of 100 classes it is {:.1f} points", "imagenet100-federated", ["refuted here"]),
    (
        "Many small steps beat one large one (*the paper*) | Not shown",
        "little-by-little",
        NOT_SHOWN,
    ),
    ("That shows nothing about voting", "robust-labels-lottery", NOT_SHOWN),
    ("That shows nothing about voting", "robust-pixels-lottery", NOT_SHOWN),
    ("Yes: +{:.1f} points central", "ours-central", ["reproduced"]),
    ("and +{:.1f} federated over the published", "ours-federated", ["reproduced"]),
    ("at equal work +{:.1f} and", "ours-macs-central", ["reproduced"]),
    ("and +{:.1f}. The sizes of a trained w0", "ours-macs-federated", ["reproduced"]),
]


DIFFERENCES = {  # in README.md, with half of their intervals
    "lottery": "minus the lottery is {:+.1f} ± {:.1f} points central",
    "lottery-federated": "central and {:+.1f} ± {:.1f} federated (95 % intervals)",
    "accuracy-pruning-fl-federated": "ends {:.1f} ± {:.1f} points below pruning-FL",
    "accuracy-pruning-fl-central": "are comparable: the vote is at {:+.1f} ± {:.1f} points",
    "accuracy-central": "loses {:.1f} ± {:.1f} points central",
}


@pytest.mark.parametrize("claim", DIFFERENCES)
def test_a_difference_is_what_the_records_say(claim: str) -> None:
    sample, said = recorded()[claim].sample, DIFFERENCES[claim]
    mean = sample.mean if "+" in said else abs(sample.mean)
    assert said.format(mean, sample.half) in " ".join(README.split())


@cache
def recorded() -> dict[str, Finding]:
    return judge_claims(ROOT / "data" / "results")


@pytest.mark.parametrize(("said", "claim", "verdicts"), HEADLINES)
def test_a_headline_is_what_the_records_say(said: str, claim: str, verdicts: list[str]) -> None:
    found = recorded()[claim]
    text = " ".join((ROOT / "book" / "index.md").read_text().replace("**", "").split())
    assert said.format(abs(found.sample.mean)) in text
    assert found.verdict in verdicts


@pytest.mark.parametrize("page", ["README.md", "book/index.md", "notebooks/votes-that-train.md"])
def test_pages_say_what_is_recorded_of_votes_that_train(page: str) -> None:
    """Their share of ten rounds of dense averaging, and how far from the averages they end."""
    rows = rows_of("directions", results=ROOT / "data" / "results")
    told, bare, averages = (
        rows[f"trained w0, {way}"]
        for way in ("votes and lengths", "votes, longer steps", "averages")
    )
    dense = rows_of("cifar10", results=ROOT / "data" / "results")["dense FedAvg"]
    share = bytes_of(told) / bytes_of(dense)
    gain = difference(told, averages, points("federated"))
    assert gain.n == 5 and gain.low > 0  # else "above" is not shown
    loss = difference(bare, averages, points("federated"))
    assert loss.n == 3 and loss.low < -1 < loss.high < 0  # "not decided"
    rival = difference(told, rows["trained w0, averages, momentum"], points("federated"))
    assert rival.n == 5 and -1 < rival.low < 0 < rival.high  # else one of them is ahead
    finer = difference(rows["trained w0, votes, channel lengths"], told, points("federated"))
    assert finer.n == 5 and finer.low < 0 < finer.high < 0.5  # "adds little"
    far = difference(
        rows["random w0, votes and lengths"],
        rows["random w0, averages, momentum"],
        points("federated"),
    )
    assert far.n == 3 and far.low < -1 < 0 < far.high  # "undecided"
    few = rows_of("quantised", results=ROOT / "data" / "results")["trained w0, 2 bits, feedback"]
    one, two = (row.accuracy("federated") for row in (told, few))
    welch = stats.ttest_ind(one.values, two.values, equal_var=False).confidence_interval()
    drawn = difference(
        rows["random w0, votes and lengths"], rows["random w0, averages"], points("federated")
    )
    assert drawn.n == 5 and drawn.low > 0
    text = " ".join((ROOT / page).read_text().replace("**", "").split())
    assert f"{100 * share:.1f} % of what ten rounds of dense averaging send" in text
    assert f"{gain.mean:.1f} ± {gain.half:.1f} points above averages of weights" in text
    assert f"{drawn.mean:.1f} ± {drawn.half:.1f} points above" in text and "five seeds each" in text
    assert f"{rival.mean:.2f} ± {rival.half:.2f} points" in text.replace("−", "-")
    ahead = difference(rows["trained w0, averages, momentum"], averages, points("federated"))
    assert abs(ahead.mean - gain.mean) < 0.5 and ahead.low > 0  # "as much"
    if page != "notebooks/votes-that-train.md":
        middle, half = (welch.high + welch.low) / 2, (welch.high - welch.low) / 2
        assert f"{middle:.1f} ± {half:.1f} points below them" in text
        assert f"{far.mean:+.1f} ± {far.half:.1f}" in text and "three seeds" in text
        for row in (told, averages):
            assert re.search(
                rf"send (?:{size(round(bytes_of(row)))}|{bytes_of(row) / 1e6:.0f} MB)", text
            )
    if page == "README.md":
        assert f"end {-loss.mean:.1f} ± {loss.half:.1f} points below plain averages" in text
        e = told.cells[0].experiment
        shapes = blueprint(str(e.model), 10, width=e.width).shapes
        assert f"{10 * wire.weights_length(shapes) / 1e6:.0f} MB for ten nodes" in text


@pytest.mark.parametrize("page", ["README.md", "book/index.md"])
def test_pages_say_what_is_recorded_of_three_bad_nodes(page: str) -> None:
    bad, good = (
        rows_of(name, results=ROOT / "data" / "results")
        for name in ("bad_directions", "directions")
    )
    ways = ("averages", "votes and lengths", "votes and lengths, muting")
    averages, votes, muting = (
        difference(
            bad[f"3 inverted, {way}"],
            good[f"trained w0, {way.removesuffix(', muting')}"],
            points("federated"),
        )
        for way in ways
    )
    assert (averages.n, votes.n, muting.n) == (1, 3, 5)
    assert muting.low > -3  # the claim is met
    text = " ".join((ROOT / page).read_text().replace("**", "").split())
    said = (
        f"averages lose {-averages.mean:.1f} points (one seed) and votes {-votes.mean:.1f} (three"
    )
    assert said in text
    assert f"{-muting.mean:.1f} ± {muting.half:.1f} points (five seeds)" in text


def bytes_of(row: Row) -> float:
    """What the final training of a row's runs sends, on average."""
    return float(np.mean([run.bytes_final for run in row.runs.values()]))


def test_the_first_ballots_from_a_trained_start_are_its_largest_filters() -> None:
    rows = rows_of("ballots", results=ROOT / "data" / "results")
    e = rows["honest, trained w0"].cells[0].experiment
    module = build(e.model, 10, width=e.width, pixels=32)
    layout = layout_of(module)
    norms = filter_norms(pretrained_weights(e.model, module, str(ROOT / PRETRAINED)), layout)
    alive = masks.full(layout)
    keep = Plan(layout, e.schedule, e.rounds).keep(1, alive)
    largest = masks.flatten(select(norms, alive, keep), layout)
    found = [row for label, row in rows.items() if label.endswith("trained w0")]
    ballots = [ballots_of(run, 1) for row in found for run in row.runs.values()]
    assert len(ballots) == 12 and largest.sum() == 272
    assert max((each ^ largest).sum(axis=1).max() for each in ballots) <= 4


def test_what_forty_rounds_between_the_nodes_came_to() -> None:
    """Claims 7 and 8 of the protocol, in the README, on the first page and on theirs."""
    said = {name: (ROOT / name).read_text().replace("−", "-") for name in SAID_OF_FORTY_ROUNDS}
    decided = decide_primary(ROOT / "data" / "results")
    below, drawn = decided["fair-pruning-fl"], decided["fair-lottery"]
    assert below.answer == "worse" and below.sample.n == drawn.sample.n == 5
    assert drawn.answer == "undecided" and drawn.seeds_needed == 12
    far = f"{-below.sample.mean:.1f} ± {below.sample.half:.1f}"
    near = f"{drawn.sample.mean:.1f} ± {drawn.sample.half:.1f} points"
    assert f"{far} points below" in said["README.md"] and near in said["README.md"]
    assert f"{far} after forty" in said["book/index.md"] and near in said["book/index.md"]
    assert f"{far} points below" in said["notebooks/what-holds.md"]
    page = said["notebooks/vote-or-lottery.md"]
    assert f"{-below.sample.mean:.2f} ± {below.sample.half:.2f} points *below*" in page
    assert f"{drawn.sample.mean:.2f} ± {drawn.sample.half:.2f}" in page
    rows = rows_of("fair", results=ROOT / "data" / "results")
    masks = difference(rows["vote"], rows["pruning-FL"], points("central"))
    assert masks.low > -0.1, "the filters of pruning-FL are not better"


SAID_OF_FORTY_ROUNDS = (
    "README.md",
    "book/index.md",
    "notebooks/what-holds.md",
    "notebooks/vote-or-lottery.md",
)


def test_the_page_of_other_networks_says_what_votes_gained() -> None:
    page = (ROOT / "notebooks" / "other-networks.md").read_text().replace("−", "-")
    gains = {
        (table, gain.name): gain
        for table in ("transformer", "recurrent")
        for gain in gains_of(table, results=ROOT / "data" / "results")
    }
    heads, hidden = (gains["transformer", name] for name in ("heads", "hidden units"))
    for each in (heads.vote, heads.norms, hidden.vote, gains["recurrent", ""].vote):
        assert f"{each.mean:+.2f} ± {each.half:.2f}".lstrip("+-") in page
    assert heads.vote.n == hidden.vote.n == 4 and gains["recurrent", ""].vote.n == 10
    assert all(gain.vote.low < 0 < gain.vote.high for gain in gains.values())
    assert heads.norms.low > 0, "a hint"


def test_the_three_numbers_of_the_first_page() -> None:
    """Bytes of the votes and of dense averaging; one vote and lotteries; payload on the wire."""
    index = (ROOT / "book" / "index.md").read_text()
    rows = rows_of("cifar10", results=ROOT / "data" / "results")
    votes = {f"{run.bytes_rounds / 1e3:.0f} kB" for run in rows["vote"].runs.values()}
    dense = {f"{run.bytes_final / 1e9:.1f} GB" for run in rows["dense FedAvg"].runs.values()}
    assert (votes, dense) == ({"22 kB"}, {"1.8 GB"}) and "} 22 kB, not 1.8 GB\n" in index
    one = decide_primary(ROOT / "data" / "results")["vote-lottery"]
    assert not one.holds
    assert f"}} {one.sample.mean:+.1f} ± {one.sample.half:.1f} points\n" in index
    found = json.loads((ROOT / "benchmarks" / "engine" / "results.json").read_text())
    sizes = {row["name"]: row["value"] for row in found["engine-bytes"]["rows"]}
    kinds = [f"mpfl, a mask round: {kind}" for kind in ("payload", "wire")]
    payload, wire = (round(sizes[kind]) for kind in kinds)
    assert f"}} {payload} bytes in {wire:,}\n" in index
