"""The primary claims: fixed before their runs, and judged when all of them are there."""

import json
from pathlib import Path
from zlib import crc32

import numpy as np
import pytest

from mpfl import masks
from mpfl.algorithm import Start
from mpfl.baselines.controls import iterated_norms
from mpfl.evidence import primary
from mpfl.evidence.alike import bits_apart, mask_of, share_kept, sizes_of
from mpfl.evidence.cells import PRETRAINED
from mpfl.evidence.exact import Place
from mpfl.evidence.explore import EXPLORATORY_TABLES
from mpfl.evidence.inference import holm, p_above
from mpfl.evidence.order import cheapest_decision_first, core_minutes, waits_for
from mpfl.evidence.primary import decide_primary
from mpfl.evidence.protocol import FIVE, LOTS, PRIMARY, PROTOCOL_TABLES, TEN
from mpfl.evidence.samples import Sample, points, rows_of
from mpfl.evidence.tables import TABLES, cells_of
from mpfl.nets.networks import blueprint, build
from mpfl.nets.start import pretrained_weights
from mpfl.nets.tracing import layout_of
from mpfl.node import Plan
from mpfl.runs.experiment import config_of
from mpfl.runs.record import Run, kept_counts, read_run
from mpfl.schedules import geometric
from mpfl.simulation import simulate
from mpfl.types import MPFLError

RECORDED = Path(__file__).parent.parent / "data" / "results"
LATER = [table.__name__.removesuffix("_table") for table in (*PROTOCOL_TABLES, *EXPLORATORY_TABLES)]
EARLIER = [name for name in TABLES if name not in LATER]


def test_the_seeds_are_new():
    assert not set(TEN) & {0, 1, 2} and set(FIVE) <= set(TEN)
    earlier = {cell.seed for name in EARLIER for cell in cells_of(name, "laptop")}
    assert not earlier & set(TEN), "a table that was recorded before uses a seed of the protocol"


def test_the_family_is_small_and_every_claim_has_its_rows():
    assert 1 <= len(PRIMARY) <= 8 and len({c.name for c in PRIMARY}) == len(PRIMARY)
    for contrast in PRIMARY:
        seeds = {
            label: {cell.seed for cell in cells_of(contrast.table, "laptop") if cell.label == label}
            for label in (contrast.one, *contrast.others)
        }
        assert all(each == set(contrast.seeds) for each in seeds.values()), contrast.name
        assert contrast.one not in contrast.others


def test_rows_of_one_seed_share_everything_but_the_mask():
    """w0, data, order of the pictures, final training: what is not about the mask is equal."""
    about_the_mask = {"method", "recipe", "score", "vote", "lot", "match"}
    for name in ("one_shot", "one_shot_trained", "fair"):
        cells = cells_of(name, "laptop")
        first = vars(cells[0].experiment)
        for cell in cells:
            own = vars(cell.experiment)
            differ = {key for key in own if own[key] != first[key]}
            assert differ <= about_the_mask | {"seed"}, cell.command


def test_several_lotteries_of_a_seed_are_several_masks():
    cells = [c for c in cells_of("one_shot", "laptop") if c.label.startswith("lottery ")]
    lots = {(cell.seed, cell.experiment.lot) for cell in cells}
    assert len(lots) == len(TEN) * LOTS
    nineteen = {c.experiment.lot for c in cells_of("ranks", "laptop") if c.label != "vote"}
    assert nineteen == set(range(19))


def a_run(accuracy: float, **summary: object) -> Run:
    values = {"accuracy_central": accuracy, "accuracy_federated": None, **summary}
    return Run(Path(), {}, values, [], [])


def records(folder: Path, accuracy, seeds=None) -> None:
    """Fake records of every cell of the protocol: ``accuracy(cell)`` in per cent."""
    template = json.loads(sorted(RECORDED.glob("*.json"))[0].read_text())
    for table in {c.table for c in PRIMARY}:
        for cell in cells_of(table, "laptop"):
            if seeds is not None and cell.seed not in seeds:
                continue
            value = accuracy(cell) / 100
            template["summary"] |= {"accuracy_central": value, "accuracy_federated": value}
            template["config"] = config_of(cell.experiment)
            template["federated"] = [{"round": n, "accuracy": value} for n in range(1, 41)]
            (folder / cell.file).write_text(json.dumps(template))


@pytest.mark.usefixtures("made_up_records")
def test_a_claim_is_judged_when_all_its_seeds_are_there(tmp_path):
    def accuracy(cell):
        noise = np.random.default_rng(crc32(cell.file.encode())).normal(0, 0.3)
        return 70 + noise + (3 if cell.label == "vote" else 0)

    records(tmp_path, accuracy, seeds=range(3, 12))
    early = decide_primary(tmp_path)
    assert early["vote-lottery"].answer == "not run yet"
    assert early["vote-lottery"].adjusted == 1 and not early["vote-lottery"].holds
    assert early["vote-lottery"].sample.n == 9
    assert early["fair-lottery"].answer == "better", "five seeds are all of this one"

    records(tmp_path, accuracy)
    late = decide_primary(tmp_path)
    vote = late["vote-lottery"]
    assert vote.answer == "better" and vote.holds and vote.sample.n == 10
    assert vote.places == (Place(1, 5),) * 10 and vote.p_of_places == pytest.approx(5.0**-10)
    assert late["lth-lottery"].answer in ("equivalent", "undecided", "no worse")
    alone = {
        name: p_above(each.sample, 0.0 if each.contrast.asks == "better" else -each.contrast.margin)
        for name, each in late.items()
    }
    assert {name: each.adjusted for name, each in late.items()} == holm(alone)


def test_nothing_recorded_is_not_run_yet(tmp_path):
    for decision in decide_primary(tmp_path).values():
        assert decision.answer == "not run yet" and decision.sample == Sample(())
        assert decision.seeds_needed is None and decision.places == ()


@pytest.mark.usefixtures("made_up_records")
def test_a_lottery_is_the_mean_of_its_draws(tmp_path):
    draws = {"vote": 72.0, "lottery 1": 70.0, "lottery 2": 71.0, "lottery 3": 72.0,
             "lottery 4": 73.0}  # fmt: skip
    records(tmp_path, lambda cell: draws.get(cell.label, 60.0), seeds=[3])
    contrast = PRIMARY[0]
    found = primary.differences(contrast, rows_of(contrast.table, results=tmp_path))
    assert found == {3: pytest.approx(0.5)}


def test_the_last_five_rounds_are_a_mean_of_five():
    def run(accuracies):
        lines = [{"accuracy": each} for each in accuracies]
        return Run(Path(), {}, {}, [], lines)

    figure = points("last five")
    assert figure(run([0.1, 0.5, 0.6, 0.7, 0.8, 0.9])) == pytest.approx(70)
    assert figure(run([0.5] * 4)) is None


def test_masks_of_recorded_runs_compare():
    rows = rows_of("pretrained", results=RECORDED)
    vote, other = (rows["vote, l2"].runs[seed] for seed in (0, 1))
    lottery = rows["lottery"].runs[0]
    assert sizes_of(lottery) == sizes_of(vote) and sum(sizes_of(vote).values()) == 1376
    assert bits_apart(mask_of(vote), mask_of(other)) == 2
    assert share_kept(mask_of(vote), mask_of(other)) > 0.99
    assert 0.1 < share_kept(mask_of(vote), mask_of(lottery)) < 0.35
    assert mask_of(vote, 1).sum() > mask_of(vote, 10).sum()
    with pytest.raises(MPFLError, match="has not a round 11; ask for one of 10"):
        mask_of(vote, 11)


def test_what_takes_least_for_a_decision_comes_first(tmp_path):
    order = [cell.file for cell in cheapest_decision_first("laptop", RECORDED)]
    assert sorted(order) == sorted({c.file for c in cells_of("all", "laptop")})
    minutes = core_minutes(cells_of("cifar10", "laptop"), RECORDED)
    cell = next(c for c in cells_of("cifar10", "laptop") if (RECORDED / c.file).exists())
    seconds = read_run(RECORDED / cell.file).summary["seconds"].values()
    assert minutes[cell.file] == pytest.approx(sum(each or 0 for each in seconds) / 60)
    assert all(each > 0 for each in minutes.values()), "an estimate for those that are missing"
    assert set(core_minutes(cells_of("cifar10", "laptop"), tmp_path).values()) == {0.0}


def test_from_a_trained_start_the_vote_is_iterated_norms():
    """What the first pages say, from the recorded votes and the w0 file alone."""
    root = RECORDED.parent.parent
    module = build("vgg11-bn", 10, width=0.5)
    layout = layout_of(module)
    w0 = pretrained_weights("vgg11-bn", module, str(root / PRETRAINED))
    control = iterated_norms(Plan(layout, geometric(0.15), 10), lambda seed: w0)
    *_, last = simulate(control, [], Start(w0), 10, seed=0)
    alone = masks.flatten(last.state.mask, layout)
    votes = [
        mask_of(run) for run in rows_of("pretrained", results=RECORDED)["vote, l2"].runs.values()
    ]
    shares = {f"{share_kept(vote, alone):.1%}" for vote in votes}
    assert len(votes) == 3 and shares == {"95.5%"}
    assert "give 95.5 % of the vote's filters" in " ".join((root / "README.md").read_text().split())
    said = " ".join((root / "book" / "index.md").read_text().split())
    assert "nineteen in twenty of the vote's filters are these" in said
    assert max(bits_apart(one, other) for one in votes for other in votes) == 2


def test_counts_of_a_model_of_another_width_are_refused():
    """Bits of other layers would be cut off, or filled up with zeros, without a word."""
    for label in ("vote", "lottery"):  # one with counts of votes, one with its mask alone
        run = rows_of("cifar10", results=RECORDED)[label].runs[0]
        for width in (0.25, 1.0):
            layout = blueprint("vgg11-bn", 10, width=width)
            with pytest.raises(MPFLError, match="holds no rounds of this model"):
                kept_counts(run.folder, layout)
        counts = kept_counts(run.folder, blueprint("vgg11-bn", 10, width=0.5))(10)
        assert counts == run.summary["kept"]


def test_every_cell_of_a_w0_waits_for_the_run_that_makes_it(tmp_path):
    for name in ("without_norm", "other_starts"):
        for budget in ("toy", "laptop", "paper"):
            cells = cells_of(name, budget)
            makers = [cell for cell in cells if cell.keeps]
            users = [cell for cell in cells if not cell.keeps]
            assert makers and {str(cell.w0_file) for cell in users} == {c.keeps for c in makers}
            assert all(waits_for(cell, cells, tmp_path) for cell in users)
    kept = [c.keeps for budget in ("toy", "laptop") for c in cells_of("without_norm", budget)]
    assert len({each for each in kept if each}) == 2, "two budgets would share a file"
