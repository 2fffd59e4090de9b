"""Which machine made a run, and what is left of a claim if its seeds are not mixed."""

from pathlib import Path

import pytest
from scipy import stats

from mpfl.evidence.alike import bits_apart, mask_of
from mpfl.evidence.inference import gap_between
from mpfl.evidence.machines import arithmetic_of, by_machine, machine_of
from mpfl.evidence.primary import decide_primary, differences
from mpfl.evidence.protocol import PRIMARY
from mpfl.evidence.samples import Row, Sample, points, rows_of
from mpfl.runs.record import Run
from mpfl.types import MPFLError

RECORDED = Path(__file__).parent.parent / "data" / "results"


def made(accuracy: float, commit: str = "new", **machine: str) -> Run:
    made = {"commit": commit, "machine": {"cpu": "a processor", **machine}}
    return Run(Path(), {}, {"accuracy_central": accuracy, "provenance": made}, [], [])


def test_a_run_on_a_gpu_names_it():
    assert machine_of(made(0.5, gpu="a card")) == "GPU" and machine_of(made(0.5)) == "CPU"
    former = made(0.5, "0c844d729f08")
    assert machine_of(former) == "CPU" and arithmetic_of(former) == "CPU, former batch norm"
    assert arithmetic_of(made(0.5)) == "CPU"


def test_seeds_that_mix_machines_are_in_neither_mean():
    one = Row("one", (), {3: made(0.5), 4: made(0.6, gpu="a card"), 5: made(0.1, gpu="a card")})
    other = Row("other", (), {3: made(0.7), 4: made(0.8, gpu="a card"), 5: made(0.1)})
    found = by_machine([one, other], points("central"))
    assert found["CPU"].values == (pytest.approx(60),)
    assert found["GPU"].values == (pytest.approx(70),)


def test_the_gap_between_two_samples_is_that_of_scipy():
    one, other = Sample((72.1, 73.4, 71.9)), Sample((73.0, 72.2, 74.1, 73.3, 72.8))
    expected = stats.ttest_ind(one.values, other.values, equal_var=False).confidence_interval()
    assert gap_between(one, other) == pytest.approx((expected.low, expected.high))
    low, high = gap_between(one, Sample((1.0,)))
    assert (low, high) == (-float("inf"), float("inf"))
    assert gap_between(Sample((2.0, 2.0)), Sample((1.0, 1.0))) == (1, 1)
    with pytest.raises(MPFLError, match="level is 1"):
        gap_between(one, other, 1)


def test_a_claim_without_its_mixed_seeds_has_only_those_that_agree():
    for contrast in PRIMARY:
        rows = rows_of(contrast.table, results=RECORDED)
        everything = differences(contrast, rows)
        left = differences(contrast, rows, machine_of)
        labels = (contrast.one, *contrast.others)
        mixed = {
            seed
            for seed in everything
            if len({machine_of(rows[label].runs[seed]) for label in labels}) > 1
        }
        assert left == {seed: gap for seed, gap in everything.items() if seed not in mixed}
        assert differences(contrast, rows, lambda run: "the same") == everything


def test_no_verdict_depends_on_seeds_of_two_machines():
    """What the page says of mixed seeds: what is shown without them is what is shown with them."""
    shown = {name for name, each in decide_primary(RECORDED).items() if each.holds}
    assert {"vote-lth", "trained-lottery", "trained-taylor-lottery"} <= shown
    for alike in (machine_of, arithmetic_of):
        left = decide_primary(RECORDED, alike)
        assert {name for name, each in left.items() if each.holds} == shown


def test_the_pages_say_what_the_recorded_claims_say():
    """Figures that prose repeats, beside the verdicts that it draws from them."""
    decided = decide_primary(RECORDED)
    root = RECORDED.parent.parent
    page, readme, index = (
        " ".join((root / name).read_text().split())
        for name in ("notebooks/vote-or-lottery.md", "README.md", "book/index.md")
    )
    said = {
        name: f"{each.sample.mean:+.2f} ± {each.sample.half:.2f}" for name, each in decided.items()
    }
    for name in ("vote-lottery", "trained-lottery", "trained-taylor-lottery"):
        assert said[name] in page and said[name] in readme
    assert said["trained-taylor-lottery"].removeprefix("+") in index
    answers = {name: (each.answer, each.holds) for name, each in list(decided.items())[:6]}
    assert answers == {
        "vote-lottery": ("no worse", False),
        "lth-lottery": ("equivalent", False),
        "vote-lth": ("equivalent", True),
        "published-lottery": ("equivalent", False),
        "trained-lottery": ("better", True),
        "trained-taylor-lottery": ("better", True),
    }


def test_from_a_trained_start_one_vote_by_size_is_the_norms_of_w0():
    """And two runs of that one mask agree to the last picture if they were made in one way."""
    rows = rows_of("one_shot_trained", results=RECORDED)
    for one, other in (("vote", "w0 norms"), ("least votes", "smallest")):
        for seed, run in rows[one].runs.items():
            same = rows[other].runs[seed]
            assert bits_apart(mask_of(run), mask_of(same)) == 0
            if arithmetic_of(run) == arithmetic_of(same):
                assert run.summary["accuracy_central"] == same.summary["accuracy_central"]
            else:
                assert (one, seed) in {("vote", 3), ("vote", 6)}
