"""The loop over the rounds: whole runs, and what those who follow one see of it."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from federation import (
    DATA,
    PLAN,
    RULE_EXAMPLES,
    WIDE,
    begin,
    drift,
    initialise,
    method,
    recorded,
    run,
    still,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from toys import chain, draw_weights, inside, layouts, same

from mpfl import masks, wire
from mpfl.allocate import even, of_what_is_left, over_network, power
from mpfl.analysis.faults import colluding_veto, inverted_mask, random_mask
from mpfl.filters import apply
from mpfl.node import Plan, Voter
from mpfl.prune import l2, rms_weight, select
from mpfl.schedules import cubic, geometric, linear, one_shot
from mpfl.seeds import rng_for
from mpfl.server import masked_pruning
from mpfl.simulation import agreement_table, simulate
from mpfl.types import Answer, MPFLError, Update
from mpfl.vote import most_votes, published_percentile, share, weighted

every_rule = pytest.mark.parametrize("rule", RULE_EXAMPLES, ids=str)


@every_rule
def test_a_run_keeps_its_laws(rule):
    algorithm, messages = recorded(method(vote=rule))
    logs = run(algorithm)
    assert [log.round for log in logs] == [1, 2, 3, 4]
    consensus = [masks.full(WIDE), *(log.state.mask for log in logs)]
    assert all(inside(later, earlier) for earlier, later in pairwise(consensus))
    assert all(bits.any() for mask in consensus for bits in mask.values())
    for alive, log in zip(consensus, logs, strict=False):
        sent = [m for what, round_, m in messages if (what, round_) == ("up", log.round)]
        keep = PLAN.keep(log.round, alive)
        said = [wire.decode_mask(p, WIDE, log.round, reference=alive, keep=keep) for p in sent]
        assert [masks.counts(mask) for mask in said] == [keep.for_layers(WIDE.sizes)] * len(DATA)
        for name, counts in log.outcome.votes.items():
            weights = rule.weights if isinstance(rule, weighted) else (1, 1, 1)
            slow = sum(w * mask[name] for w, mask in zip(weights, said, strict=True))
            assert np.array_equal(counts, slow)
        assert log.sparsity == masks.sparsity(log.state.mask)
        assert same(log.state.weights, draw_weights(WIDE))
        for node, value in log.outcome.agreement.items():
            assert value == masks.agreement(said[node], log.state.mask, alive)
        flat = [masks.flatten(mask, WIDE) for mask in said]
        assert np.array_equal(log.outcome.ballots.bits(), flat)
        assert log.outcome is log.state.outcome


def test_most_votes_follow_the_schedule_exactly():
    kept = [masks.counts(log.state.mask) for log in run(method(vote=most_votes()))]
    # 16, 12 and 10 filters; 15, 30, 45 and 60 percent go, rounded up.
    assert [list(counts.values()) for counts in kept] == [
        [13, 10, 8],
        [11, 8, 7],
        [8, 6, 5],
        [6, 4, 4],
    ]


@pytest.mark.parametrize(
    ("schedule", "kept"),
    [
        (linear(0.5), [14, 12, 10, 8]),
        (one_shot(0.5), [8, 8, 8, 8]),
        (geometric(0.5, warmup=1), [16, 8, 4, 2]),
        (cubic(0.5), [11, 9, 8, 8]),  # 4.6, 7, 7.9 and 8 of 16 go
    ],
    ids=str,
)
def test_every_schedule_by_hand(schedule, kept):
    layout = chain([16])
    logs = run(method(Plan(layout, schedule, rounds=4)), layout=layout)
    assert [masks.counts(log.state.mask)["layer0"] for log in logs] == kept


def test_a_quota_over_the_network_is_exact_in_total_and_leaves_the_floor():
    plan = replace(PLAN, schedule=linear(0.8), quota=over_network(2))
    logs = run(method(plan, score=rms_weight))
    kept = [masks.counts(log.state.mask) for log in logs]
    # Of 38 filters 20, 40, 60 and 80 percent go: 7.6, 15.2, 22.8 and 30.4, rounded up.
    assert [sum(counts.values()) for counts in kept] == [30, 22, 15, 7]
    assert all(min(counts.values()) >= 2 for counts in kept)
    by_layer = Plan(WIDE, linear(0.8), 4).keep(4, masks.full(WIDE)).for_layers(WIDE.sizes)
    assert kept[-1] != by_layer, "every layer lost the same share: nothing was ranked together"


def test_every_byte_is_counted():
    algorithm, messages = recorded(method(vote=share(0.5)))
    logs = run(algorithm)
    start = [message for what, _, message in messages if what == "start"]
    assert len(start) == 1 and len(start[0]) == 22
    assert [log.start_bytes for log in logs] == [3 * 22, 0, 0, 0]
    for log in logs:
        sent = {
            way: [len(m) for what, round_, m in messages if (what, round_) == (way, log.round)]
            for way in ("down", "up")
        }
        assert log.payloads == tuple(sent["up"])
        assert log.bytes_up == sum(sent["up"])
        assert len(sent["down"]) == 1 and log.bytes_down == 3 * sent["down"][0]
        # A bit per filter, 38 in all, and a frame; fewer once there is less to say.
        assert all(size <= 14 + 5 for size in log.payloads)


@pytest.mark.parametrize("rewind", [True, False])
def test_carrying_weights_on_changes_memory_and_rewinding_does_not(rewind):
    logs = run(method(rewind=rewind))
    w0 = draw_weights(WIDE)
    for earlier, log in pairwise([None, *logs]):
        for node, memory in enumerate(log.memories):
            assert same(memory, w0) == rewind
            if earlier is not None and not rewind:
                assert not same(memory, earlier.memories[node])
                # What was pruned before this round is zero in what the node carries on.
                assert same(memory, apply(memory, earlier.state.mask, WIDE))


def test_lth_is_one_node_and_unanimity():
    """With one node nobody is asked: train, prune, rewind, as in the lottery ticket papers."""
    logs = run(method(vote=share(1)), DATA[:1], seed=5)
    w0, mask = draw_weights(WIDE), masks.full(WIDE)
    for log in logs:
        weights = drift(WIDE)(
            apply(w0, mask, WIDE), mask, DATA[0], rng_for(5, "node", log.round, 0)
        ).weights
        scores = {layer.name: l2(Update(weights), layer, rng_for(0)) for layer in WIDE.layers}
        mask = select(scores, mask, PLAN.keep(log.round, mask))
        assert same(log.state.mask, mask)
        assert log.outcome.agreement == {0: 1.0}


# --- equal nodes, and faulty ones among them -------------------------------------------------


def test_equal_nodes_agree_whatever_the_rule():
    expected = None
    # A low percentile keeps everything, whoever says so.
    for rule in (rule for rule in RULE_EXAMPLES if not isinstance(rule, published_percentile)):
        algorithm = masked_pruning(PLAN, initialise(WIDE), still, vote=rule)
        logs = run(algorithm, rounds=2)
        assert all(set(log.outcome.agreement.values()) == {1.0} for log in logs)
        expected = expected or logs[-1].state.mask
        assert same(logs[-1].state.mask, expected)


@pytest.mark.parametrize(
    ("rule", "fault", "harmed"),
    [
        (share(1), inverted_mask(), True),  # one node has a veto
        (share(0.5), inverted_mask(), False),  # two of three decide
        (share(1), random_mask(), True),
        (share(0.5), colluding_veto(0.5), False),
    ],
    ids=str,
)
def test_a_faulty_voter_among_equal_ones(rule, fault, harmed):
    algorithm = masked_pruning(PLAN, initialise(WIDE), still, vote=rule)
    faulty = Voter(PLAN, still, fault=fault)
    honest, logs = run(algorithm), run(algorithm, behaviour={1: faulty})
    assert same(logs[-1].state.mask, honest[-1].state.mask) == (not harmed)
    assert logs[0].outcome.agreement[1] < 1
    if not harmed:
        assert all(log.outcome.agreement[0] == log.outcome.agreement[2] == 1 for log in logs)


def test_colluders_that_would_empty_every_layer_do_not():
    plan = replace(PLAN, quota=over_network(2))
    algorithm = masked_pruning(plan, initialise(WIDE), still, vote=share(1))
    faulty = Voter(plan, still, fault=inverted_mask())
    logs = run(algorithm, behaviour={0: faulty, 2: faulty})
    assert logs[0].outcome.rescued == ("layer0", "layer1", "layer2")
    assert masks.counts(logs[0].state.mask) == {"layer0": 2, "layer1": 2, "layer2": 2}
    assert all(min(masks.counts(log.state.mask).values()) >= 1 for log in logs)


# --- what is refused -------------------------------------------------------------------------


def test_a_node_that_fails_is_named():
    def broken(memory, message, data, rng):
        raise MPFLError("the disk is full; free some space")

    with pytest.raises(MPFLError, match=r"^node 2, round 1: the disk is full; free some space$"):
        run(method(), behaviour={2: broken})
    with pytest.raises(MPFLError, match=r"^node 0, round 1, decode: payload is too short"):
        run(method(), behaviour={0: lambda *_: Answer(b"hello")})


def test_a_node_without_data_is_refused():
    with pytest.raises(MPFLError, match="node 1 has no data; use fewer nodes"):
        run(method(), [DATA[0], np.array([])])


def test_no_nodes_at_all_are_refused():
    with pytest.raises(MPFLError, match="round 1: no node replied"):
        run(method(), [])


# --- those who follow a run ------------------------------------------------------------------


def test_what_the_consumers_of_a_run_see():
    logs = run(method(), rounds=2, evaluate=lambda state: masks.sparsity(state.mask))
    assert [log.accuracy for log in logs] == [log.sparsity for log in logs]
    assert [m["loss"] for m in logs[0].metrics] == [1.0, 2.0, 0.5]
    assert all(log.seconds > 0 for log in logs)
    assert run(method(), rounds=1)[0].accuracy is None
    table = agreement_table(logs)
    assert table.shape == (2, 3)
    assert table[1].tolist() == list(logs[1].outcome.agreement.values())


def test_nothing_runs_before_it_is_asked_for():
    turns = []

    def on_turn(round_, node):
        turns.append((round_, node))

    rounds = simulate(method(), DATA, begin(WIDE), 4, 0, on_turn=on_turn)
    assert turns == []
    next(rounds)
    assert turns == [(1, 0), (1, 1), (1, 2)]
    next(rounds)
    assert turns[3:] == [(2, 0), (2, 1), (2, 2)]


# --- any federation --------------------------------------------------------------------------


@st.composite
def federations(draw):
    """Any layout, rule, schedule and quota, and up to four nodes, one of them faulty."""
    layout = draw(layouts(largest=8))
    nodes = draw(st.integers(1, 4))
    deepest = 1 - 1 / min(layer.filters for layer in layout.layers)
    final = draw(st.floats(0, deepest)) if deepest else 0.0
    schedule = draw(st.sampled_from([linear, one_shot, cubic]))(final)
    quota = draw(st.sampled_from([even(), over_network(), power(0.5), of_what_is_left()]))
    rule = draw(
        st.sampled_from([r for r in RULE_EXAMPLES if not isinstance(r, weighted)])
        | st.just(weighted((1.0, 2.0, 0.0, 3.0)))
    )
    fault = draw(st.none() | st.sampled_from([random_mask(), inverted_mask(), colluding_veto(0.3)]))
    return Plan(layout, schedule, 3, quota), nodes, rule, fault, draw(st.booleans())


@settings(max_examples=10)
@given(federations())
def test_laws_of_any_federation(case):
    plan, nodes, rule, fault, rewind = case
    layout = plan.layout
    algorithm = method(plan, vote=rule, rewind=rewind, score=rms_weight)
    faulty = Voter(plan, drift(layout), rms_weight, rewind=rewind, fault=fault)
    behaviour = {0: faulty} if fault else {}
    alive = masks.full(layout)
    for log in run(algorithm, [DATA[0]] * nodes, 3, layout=layout, behaviour=behaviour):
        masks.check(log.state.mask, layout, within=alive)
        assert all(bits.any() for bits in log.state.mask.values())
        assert all(0 <= value <= 1 for value in log.outcome.agreement.values())
        assert log.bytes_up == sum(log.payloads)
        if rule.exact:
            assert not log.outcome.rescued
            kept = masks.counts(log.state.mask)
            for group, count in plan.asked(log.round, alive).counts.items():
                assert sum(kept[name] for name in group) == count
        alive = log.state.mask
