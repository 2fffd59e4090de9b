"""A vote with other ballots is the vote of the run that would have cast them, bit for bit."""

from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from toys import TOY, draw_weights

from mpfl import masks
from mpfl.allocate import over_network
from mpfl.analysis.faults import colluding_veto, inverted_mask, random_mask
from mpfl.analysis.replay import consensus, jaccard, lost, mixed, swing, tampered
from mpfl.data.noise import permuted_labels
from mpfl.nets.settings import Settings
from mpfl.prune import filter_norms
from mpfl.runs.experiment import Experiment
from mpfl.runs.record import Run, ballots_of, bits_of, filters_of, read_run
from mpfl.runs.runner import run
from mpfl.runs.workbench import Workbench
from mpfl.schedules import one_shot
from mpfl.types import MPFLError
from mpfl.vote import most_votes, relaxed, share, weighted

Recorded: TypeAlias = tuple[Experiment, Run]
FAULTY = 2
pairs = st.integers(1, 12).flatmap(lambda n: st.tuples(arrays(bool, n), arrays(bool, n)))


@pytest.fixture(scope="module")
def cast(quick, tmp_path_factory):
    """``cast(**changes)``: one round of five nodes on digits, run once and read back."""
    found: dict[str, Recorded] = {}

    def once(**changes) -> Recorded:
        # Enough steps that what a node learns moves its ballot.
        one = {"nodes": 5, "rounds": 1, "images": 300, "epochs": 3}
        one |= {"local": Settings(batch=8, lr=0.2), "schedule": one_shot(0.6)}
        only = {"central_epochs": 0, "federated_rounds": 0}
        experiment = quick(**one, **only, **changes)
        if repr(changes) not in found:
            folder: Path = tmp_path_factory.mktemp("cast") / "run"
            run(experiment, folder)
            found[repr(changes)] = experiment, read_run(folder)
        return found[repr(changes)]

    return once


def decided(found: Recorded) -> np.ndarray:
    """The consensus that a run recorded."""
    sizes = filters_of(found[1])
    mask = found[1].rounds[0]["mask"]
    return np.concatenate([bits_of(mask[name], size) for name, size in sizes.items()])


def replayed(found: Recorded, vote, ballots: np.ndarray) -> np.ndarray:
    bench = Workbench(found[0])
    return consensus(bench.plan, vote, ballots, filter_norms(bench.start.w0, bench.layout))


RULES = pytest.mark.parametrize(
    "vote", [most_votes(), share(1.0), share(0.5), relaxed(), weighted((3.0, 1.0, 2.0, 1.0, 1.0))]
)


@RULES
def test_the_recorded_ballots_give_the_recorded_consensus(cast, vote):
    found = cast(vote=vote)
    assert (replayed(found, vote, ballots_of(found[1], 1)) == decided(found)).all()


@RULES
def test_a_rule_asked_of_another_rules_run_says_what_its_own_run_says(cast, vote):
    ballots = ballots_of(cast(vote=most_votes())[1], 1)
    assert (replayed(cast(vote=vote), vote, ballots) == decided(cast(vote=vote))).all()


def test_spoilt_ballots_among_honest_ones_are_the_run_that_spoils_as_many(cast):
    """The run with two spoilt nodes, from the run with none and the run with five."""
    noise = permuted_labels()
    honest = ballots_of(cast()[1], 1)
    all_spoilt = ballots_of(cast(data_noise=noise, noisy_nodes=5)[1], 1)
    real = cast(data_noise=noise, noisy_nodes=FAULTY)
    ballots = mixed(honest, all_spoilt, FAULTY)
    assert (ballots == ballots_of(real[1], 1)).all()
    assert (ballots[:FAULTY] != honest[:FAULTY]).any()
    assert (ballots[FAULTY:] != all_spoilt[FAULTY:]).any()
    assert (replayed(real, most_votes(), ballots) == decided(real)).all()


@pytest.mark.parametrize("fault", [inverted_mask(), colluding_veto(0.3)])
def test_a_fault_that_draws_nothing_gives_the_ballots_of_a_run(cast, fault):
    honest = ballots_of(cast()[1], 1)
    real = cast(fault=fault, noisy_nodes=FAULTY)
    ballots = mixed(honest, tampered(fault, honest, Workbench(real[0]).layout, 0), FAULTY)
    assert (ballots == ballots_of(real[1], 1)).all()
    assert (replayed(real, most_votes(), ballots) == decided(real)).all()


def test_a_fault_that_draws_is_a_function_of_the_seed_and_the_node():
    honest = np.tile(masks.flatten(masks.full(TOY), TOY), (4, 1))
    honest[:, ::2] = False
    first, again, other = (tampered(random_mask(), honest, TOY, seed) for seed in (0, 0, 1))
    assert (first == again).all() and (first != other).any()
    assert len({ballot.tobytes() for ballot in first}) > 1
    counts = [masks.counts(masks.unflatten(ballot, TOY)) for ballot in (*first, honest[0])]
    assert all(count == counts[-1] for count in counts)


def test_nobody_faulty_changes_nothing_and_all_faulty_everything():
    honest, spoilt = np.zeros((3, 12), bool), np.ones((3, 12), bool)
    assert not mixed(honest, spoilt, 0).any() and mixed(honest, spoilt, 3).all()
    assert mixed(honest, spoilt, 1).sum(axis=1).tolist() == [12, 0, 0]
    for faulty in (-1, 4):
        with pytest.raises(MPFLError, match=f"{faulty} faulty nodes, but there are 3 nodes"):
            mixed(honest, spoilt, faulty)


def test_a_layer_that_the_rule_empties_keeps_its_floor(cast):
    found = cast()
    bench = Workbench(found[0])
    nothing = np.zeros((5, bench.layout.filters), bool)
    norms = filter_norms(bench.start.w0, bench.layout)
    plan = replace(bench.plan, quota=over_network(2))
    kept = masks.counts(masks.unflatten(consensus(plan, share(0.5), nothing, norms), bench.layout))
    assert set(kept.values()) == {2}


def test_a_node_without_a_weight_is_refused(cast):
    norms = filter_norms(draw_weights(TOY), TOY)
    plan = replace(Workbench(cast()[0]).plan, layout=TOY)
    with pytest.raises(MPFLError, match="node 2 has no weight"):
        consensus(plan, weighted((1.0, 2.0)), np.ones((3, TOY.filters), bool), norms)


def test_distances_by_hand():
    clean, now = (np.array([bit == "#" for bit in text]) for text in ("##..#...", "#.##...."))
    assert jaccard(clean, now) == 4 / 5  # five kept by either, one by both
    assert lost(clean, now) == 2 / 3  # two of three
    assert swing(clean, now) == 4 / 8  # two gone, two new


@given(pair=pairs)
def test_laws_of_the_distances(pair):
    one, other = pair
    apart = jaccard(one, other)
    assert 0 <= apart <= 1 and apart == jaccard(other, one) and jaccard(one, one) == 0
    assert (apart == 0) == (one == other).all()
    assert swing(one, other) == swing(other, one) <= 1
    if one.any():
        assert 0 <= lost(one, other) <= apart or not (one | other).any()
        if one.sum() == other.sum():  # as many new as gone, under `most_votes` always
            gone = lost(one, other)
            assert apart == pytest.approx(2 * gone / (1 + gone))


@given(st.integers(1, 12).flatmap(lambda n: st.tuples(*[arrays(bool, n)] * 3)))
def test_the_jaccard_distance_is_a_metric(three):
    a, b, c = three
    assert jaccard(a, c) <= jaccard(a, b) + jaccard(b, c) + 1e-12
