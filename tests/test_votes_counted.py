"""Whole rounds without any training: node, wire, server, and the loop round them."""

import math
import re
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toys import (
    BY_HISTOGRAM,
    TOY,
    begin,
    chain,
    draw_weights,
    drift,
    inside,
    layouts,
    mask_of,
    masks_for,
    recorded,
    same,
    written,
)

from mpfl import masks, wire
from mpfl.algorithm import Start, State, joiner, start_message
from mpfl.analysis.faults import FAULTS, colluding_veto, inverted_mask, random_mask
from mpfl.filters import apply
from mpfl.node import Plan, voter
from mpfl.prune import l2, random, rms_weight, select_by_layer
from mpfl.schedules import cubic, geometric, linear, one_shot
from mpfl.seeds import rng_for
from mpfl.prune import filter_norms
from mpfl.server import count_votes, masked_pruning
from mpfl.simulation import Resume, agreement_table, one_by_one, simulate, take_turn
from mpfl.types import MPFLError, Reply, Update
from mpfl.vote import RULES, most_votes, published_percentile, share, weighted

WIDE = chain([16, 12, 10], norm=False)
DATA = [np.full(5, 1.0), np.full(8, 2.0), np.full(3, 0.5)]
PLAN = Plan(WIDE, linear(0.6), rounds=4)
RULE_EXAMPLES = [weighted((5.0, 8.0, 3.0)), *BY_HISTOGRAM]
every_rule = pytest.mark.parametrize("rule", RULE_EXAMPLES, ids=str)


def initialise(layout):
    return lambda seed: draw_weights(layout, seed)


def method(plan=PLAN, **how):
    return masked_pruning(plan, initialise(plan.layout), drift(plan.layout), **how)


def run(algorithm, data=DATA, rounds=4, seed=0, **how):
    layout = how.pop("layout", WIDE)
    return list(simulate(algorithm, data, begin(layout), rounds, seed, **how))


def ballots(plan, round_, alive, *sent):
    """Replies of nodes 0, 1, ... that each send a mask, as the plan's nodes would."""
    keep = plan.keep(round_, alive)
    return [
        Reply(node, wire.encode_mask(mask, plan.layout, round_, reference=alive, keep=keep))
        for node, mask in enumerate(sent)
    ]


def fresh(layout):
    return State(draw_weights(layout), masks.full(layout), 0)


def test_the_examples_cover_every_rule():
    examples = {type(rule).__name__ for rule in RULE_EXAMPLES}
    assert examples == set(RULES), "BY_HISTOGRAM in tests/toys.py has an example of every rule"


# --- the plan --------------------------------------------------------------------------------


def test_what_a_plan_keeps_by_hand():
    # TOY has layers of 4, 3 and 5 filters; a third and two thirds are to go.
    full = masks.full(TOY)
    plan = Plan(TOY, linear(2 / 3), rounds=2)
    assert [plan.sparsity(r) for r in (1, 2)] == pytest.approx([1 / 3, 2 / 3])
    assert plan.keep(1, full) == {"conv1": 2, "conv2": 2, "fc": 3}
    assert plan.keep(2, full) == {"conv1": 1, "conv2": 1, "fc": 1}
    network = replace(plan, scope="network")
    assert [network.keep(r, full) for r in (1, 2)] == [8, 4]


def test_a_plan_never_keeps_more_than_is_alive():
    alive = mask_of(TOY, "#...", "###", "##...")
    plan = Plan(TOY, linear(0.5), rounds=2)
    assert plan.keep(1, alive) == {"conv1": 1, "conv2": 2, "fc": 2}
    assert replace(plan, scope="network").keep(1, alive) == 6


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rounds": 0}, "rounds is 0, but a run needs at least 1"),
        ({"floor": 0}, "floor is 0, but every layer needs at least 1 filter"),
        ({"floor": -1}, "floor is -1"),
        # conv2 is the smallest layer: of its three filters none would be left.
        ({"schedule": linear(0.7)}, "leaves layer 'conv2' with none of its 3 filters"),
        ({"schedule": one_shot(0.9)}, "leaves layer 'conv1' with none of its 4 filters"),
        ({"schedule": lambda r, rounds: 0.9 if r == 1 else 0.0}, "leaves layer 'conv1'"),
        ({"schedule": lambda r, rounds: 30.0}, "a sparsity of 30 leaves layer 'conv1'"),
        # Six filters stay, but two a layer and all three of conv2 would be eight.
        ({"scope": "network", "floor": 3}, "round 2 keeps 6 filters, but a floor of 3 takes 9"),
    ],
)
def test_a_plan_that_cannot_be_kept_is_refused_before_the_first_round(change, message):
    with pytest.raises(MPFLError, match=re.escape(message)):
        replace(Plan(TOY, linear(0.5), rounds=2), **change)


def test_a_floor_takes_no_more_than_a_layer_has():
    Plan(TOY, linear(0.0), rounds=1, scope="network", floor=9)


# --- how w0 travels --------------------------------------------------------------------------


def test_a_random_w0_travels_as_its_seed():
    state = method().init(begin(WIDE, seed=7))
    message = start_message(state, WIDE)
    assert wire.kind_of(message) is wire.Kind.SEED and len(message) == 22
    assert same(joiner(WIDE, initialise(WIDE))(message), draw_weights(WIDE, 7))


def test_any_other_w0_travels_as_weights():
    w0 = draw_weights(WIDE, 3)
    message = start_message(method().init(Start(w0)), WIDE)
    assert wire.kind_of(message) is wire.Kind.WEIGHTS
    assert len(message) > 4 * sum(array.size for array in w0.values())
    assert same(joiner(WIDE, initialise(TOY))(message), w0)


# --- the node --------------------------------------------------------------------------------


def answer(local, alive, memory, *, round_=2, layout=WIDE, seed=0):
    message = wire.encode_mask(alive, layout, round_, reference=masks.full(layout))
    return local(memory, message, DATA[0], rng_for(seed, "node"))


def half(layout):
    """Every second filter of each layer."""
    return {layer.name: np.arange(layer.filters) % 2 == 0 for layer in layout.layers}


@pytest.mark.parametrize("rewind", [True, False])
def test_a_node_by_the_paper(rewind):
    # The slow twin, step by step: apply, train, score, drop the lowest, send.
    alive, w0 = half(WIDE), draw_weights(WIDE)
    reply = answer(voter(PLAN, drift(WIDE), l2, rewind=rewind), alive, w0, round_=4)
    update = drift(WIDE)(apply(w0, alive, WIDE), alive, DATA[0], rng_for(0, "node"))
    expected = {}
    for layer in WIDE.layers:
        norms = np.sqrt((update.weights[layer.weight].astype(float) ** 2).sum(axis=1))
        keep = layer.filters - int(np.ceil(0.6 * layer.filters))
        ranked = sorted(np.flatnonzero(alive[layer.name]), key=lambda f: -norms[f])
        expected[layer.name] = np.isin(np.arange(layer.filters), ranked[:keep])
        assert keep < len(ranked)
    keep = PLAN.keep(4, alive)
    sent = wire.decode_mask(reply.payload, WIDE, 4, reference=alive, keep=keep)
    assert same(sent, expected)
    limit = sum(np.log2(math.comb(int(alive[n].sum()), k)) for n, k in keep.items())
    told = {"loss": 1.0, "body_bytes": wire.body_length(reply.payload), "limit_bits": limit}
    assert reply.metrics == pytest.approx(told)
    assert same(reply.memory, w0 if rewind else update.weights)


def test_a_node_keeps_what_the_schedule_asks_and_brings_nothing_back():
    alive = mask_of(WIDE, "#" * 9 + "." * 7, "#" * 3 + "." * 9, "." * 9 + "#")
    reply = answer(voter(PLAN, drift(WIDE), random), alive, draw_weights(WIDE), round_=3)
    keep = PLAN.keep(3, alive)
    assert keep == {"layer0": 8, "layer1": 3, "layer2": 1}  # 16 - 7.2, and what is left
    sent = wire.decode_mask(reply.payload, WIDE, 3, reference=alive, keep=keep)
    assert masks.counts(sent) == keep and inside(sent, alive)


def test_the_same_node_says_the_same_and_another_draw_another():
    local, alive, w0 = voter(PLAN, drift(WIDE), l2), masks.full(WIDE), draw_weights(WIDE)
    first, again = answer(local, alive, w0), answer(local, alive, w0)
    assert first.payload == again.payload
    assert first.payload != answer(local, alive, w0, seed=1).payload


@pytest.mark.parametrize("name", FAULTS)
def test_a_faulty_node_changes_its_vote_and_nothing_else(name):
    fault = {"colluding_veto": colluding_veto(0.4)}.get(name) or FAULTS[name]()
    alive, w0 = half(WIDE), draw_weights(WIDE)
    honest = answer(voter(PLAN, drift(WIDE), l2, rewind=False), alive, w0, round_=4)
    faulty = answer(voter(PLAN, drift(WIDE), l2, rewind=False, fault=fault), alive, w0, round_=4)
    assert faulty.payload != honest.payload
    assert same(faulty.memory, honest.memory)
    assert faulty.metrics["loss"] == honest.metrics["loss"]
    assert faulty.metrics["body_bytes"] == wire.body_length(faulty.payload)
    keep = PLAN.keep(4, alive)
    one, other = (
        wire.decode_mask(reply.payload, WIDE, 4, reference=alive, keep=keep)
        for reply in (honest, faulty)
    )
    assert inside(other, alive)
    if name == "inverted_mask":
        assert same(other, {n: alive[n] & ~one[n] for n in alive})


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (b"", "read the broadcast: payload is too short"),
        (wire.encode_empty(WIDE, 1), "read the broadcast: payload is of kind EMPTY"),
        (
            wire.encode_mask(masks.full(TOY), TOY, 1, reference=masks.full(TOY)),
            "read the broadcast: payload is for .* was it encoded for another model",
        ),
    ],
)
def test_a_node_refuses_a_broadcast_that_it_cannot_read(message, expected):
    with pytest.raises(MPFLError, match=expected):
        method().local(draw_weights(WIDE), message, DATA[0], rng_for(0))


# --- the server ------------------------------------------------------------------------------

ALL = masks.full(TOY)
TOY_PLAN = Plan(TOY, one_shot(0.5), rounds=3)
SAID = [
    mask_of(TOY, "##..", "#..", "##..."),
    mask_of(TOY, "#.#.", "#..", "#.#.."),
    mask_of(TOY, "##..", ".#.", "#..#."),
]


def decided(rule, *sent, plan=TOY_PLAN, state=None, round_=1):
    state = state or fresh(plan.layout)
    return count_votes(plan, rule, state, round_, ballots(plan, round_, state.mask, *sent))


@pytest.mark.parametrize(
    ("rule", "consensus"),
    [
        (share(0.5), ["##..", "#..", "#...."]),
        (share(0.01), ["###.", "##.", "####."]),
        (weighted((1.0, 1, 5)), ["##..", ".#.", "#..#."]),
        (weighted((1.0, 1, 0), tau=0.6), ["#...", "#..", "#...."]),
        # 0.3 of 0.1 + 0.2 + 0.3 is half, though not in the last digit of floating point.
        (weighted((0.1, 0.2, 0.3)), ["##..", "##.", "#..#."]),
        (most_votes(1), ["#...", "#..", "#...."]),
    ],
    ids=str,
)
def test_a_vote_by_hand(rule, consensus):
    assert written(decided(rule, *SAID).mask) == consensus


def test_what_the_server_notes_of_a_vote():
    state = decided(share(0.5), *SAID)
    assert {name: counts.tolist() for name, counts in state.votes.items()} == {
        "conv1": [3, 2, 1, 0],
        "conv2": [2, 1, 0],
        "fc": [3, 1, 1, 1, 0],
    }
    # Of twelve filters the first node differs from ##../#../#.... on one, the second on
    # three, the third on three.
    assert state.agreement == pytest.approx({0: 11 / 12, 1: 9 / 12, 2: 9 / 12})
    assert state.rescued == ()
    assert same(state.weights, draw_weights(TOY)) and state.seed == 0


@every_rule
@settings(max_examples=5)
@given(data=st.data())
def test_the_order_of_the_replies_changes_nothing(rule, data):
    replies = ballots(TOY_PLAN, 1, ALL, *(data.draw(masks_for(TOY)) for _ in range(3)))
    turned = data.draw(st.permutations(replies))
    one, other = (count_votes(TOY_PLAN, rule, fresh(TOY), 1, each) for each in (replies, turned))
    assert same(one.mask, other.mask)
    assert one.agreement == other.agreement and one.rescued == other.rescued


@every_rule
@settings(max_examples=8)
@given(data=st.data(), scope=st.sampled_from(["layer", "network"]), floor=st.integers(1, 2))
def test_the_consensus_lies_within_the_last_and_no_layer_is_empty(rule, data, scope, floor):
    plan = replace(TOY_PLAN, scope=scope, floor=floor)
    alive = data.draw(masks_for(TOY).filter(lambda mask: all(b.any() for b in mask.values())))
    sent = [masks.intersect(data.draw(masks_for(TOY)), alive) for _ in range(3)]
    state = decided(rule, *sent, plan=plan, state=replace(fresh(TOY), mask=alive))
    masks.check(state.mask, TOY, within=alive)
    kept = masks.counts(state.mask)
    assert min(kept.values()) >= 1
    for name in state.rescued:
        assert kept[name] == min(floor, alive[name].sum())
    if rule == most_votes():
        asked = plan.keep(1, alive)
        assert (sum(kept.values()) if scope == "network" else kept) == asked


def test_a_budget_over_the_network_by_hand():
    # Six of twelve stay. Votes: 3 2 1 0 / 2 1 0 / 3 1 1 1 0. Those of 3 and 2 are four; then
    # the largest filters of w0 among those with one vote.
    plan = replace(TOY_PLAN, scope="network")
    w0 = draw_weights(TOY)
    w0["conv1.weight"][3] *= 1000  # nobody wants it, however large it is
    state, norms = replace(fresh(TOY), weights=w0), filter_norms(w0, TOY)
    single = [("conv1", 2), ("conv2", 1), ("fc", 1), ("fc", 2), ("fc", 3)]
    single.sort(key=lambda place: -norms[place[0]][place[1]])
    expected = mask_of(TOY, "##..", "#..", "#....")
    for name, f in single[:2]:
        expected[name][f] = True
    assert same(decided(most_votes(), *SAID, plan=plan, state=state).mask, expected)
    assert masks.counts(decided(most_votes(3), *SAID, plan=plan).mask) == dict.fromkeys(expected, 1)


def test_norms_are_those_of_w0():
    weights = draw_weights(TOY)
    norms = filter_norms(weights, TOY)
    for layer in TOY.layers:
        for f in range(layer.filters):
            slow = sum(float(x) ** 2 for x in weights[layer.weight][f].ravel()) ** 0.5
            assert norms[layer.name][f] == pytest.approx(slow)


def test_contradicting_votes_under_unanimity_leave_the_floor():
    # The second node votes for exactly what the first would drop: nothing is unanimous.
    said = mask_of(TOY, "##..", "#..", "##...")
    against = {name: ~bits for name, bits in said.items()}
    for floor in (1, 2):
        plan = replace(TOY_PLAN, floor=floor)
        state = decided(share(1), said, against, plan=plan)
        assert state.rescued == ("conv1", "conv2", "fc")
        # Every filter has one vote: the largest of w0 stay.
        norms = filter_norms(draw_weights(TOY), TOY)
        for name, bits in state.mask.items():
            ranked = sorted(range(bits.size), key=lambda f: -norms[name][f])
            assert np.flatnonzero(bits).tolist() == sorted(ranked[:floor])


def test_only_the_layer_that_was_emptied_is_rescued_and_by_votes():
    sent = [
        mask_of(TOY, "##..", "#..", "##..."),
        mask_of(TOY, "##..", ".#.", "##..."),
        mask_of(TOY, "##..", ".#.", "##..."),
    ]
    state = decided(share(1), *sent)
    assert written(state.mask) == ["##..", ".#.", "##..."] and state.rescued == ("conv2",)


# Sent for a model of other counts, for another round, cut short, and not a mask at all.
OTHER = chain([4, 3, 5])
GOOD = ballots(TOY_PLAN, 2, ALL, *SAID)


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        (GOOD[1].payload[:-1], "payload is cut short"),
        (GOOD[1].payload[:-1] + b"!", "checksum mismatch"),
        (b"", "payload is too short"),
        (
            wire.encode_mask(masks.full(OTHER), OTHER, 2, reference=masks.full(OTHER)),
            "was it encoded for another model, reference, keep or coding?",
        ),
        (ballots(TOY_PLAN, 1, ALL, *SAID)[1].payload, "payload is of round 1, not 2"),
        (wire.encode_empty(TOY, 2), "payload is of kind EMPTY"),
    ],
)
@every_rule
def test_a_bad_payload_names_its_node_and_the_round(rule, payload, message):
    replies = [GOOD[0], Reply(1, payload), GOOD[2]]
    with pytest.raises(MPFLError, match=f"^node 1, round 2, decode: .*{re.escape(message)}"):
        count_votes(TOY_PLAN, rule, fresh(TOY), 2, replies)


def test_a_vote_for_a_filter_that_is_gone_is_refused():
    state = replace(fresh(TOY), mask=mask_of(TOY, "##..", "###", "#####"))
    replies = ballots(TOY_PLAN, 1, ALL, mask_of(TOY, "..##", "#..", "##..."))
    with pytest.raises(MPFLError, match=r"^node 0, round 1, decode: "):
        count_votes(TOY_PLAN, share(), state, 1, replies)


@every_rule
def test_a_round_without_replies_is_refused(rule):
    with pytest.raises(MPFLError, match="round 2: no node replied"):
        count_votes(TOY_PLAN, rule, fresh(TOY), 2, [])


def test_a_node_without_a_weight_is_refused():
    with pytest.raises(MPFLError, match="node 2 has no weight, there are 2; give one weight"):
        decided(weighted((1.0, 2.0)), *SAID)


def test_nodes_that_weigh_nothing_are_no_voters():
    with pytest.raises(MPFLError, match="no node voted"):
        decided(weighted((0.0, 2.0)), SAID[0])


# --- the loop --------------------------------------------------------------------------------


@every_rule
def test_a_run_keeps_its_laws(rule):
    algorithm, wire = recorded(method(vote=rule))
    logs = run(algorithm)
    assert [log.round for log in logs] == [1, 2, 3, 4]
    consensus = [masks.full(WIDE), *(log.state.mask for log in logs)]
    assert all(inside(later, earlier) for earlier, later in pairwise(consensus))
    assert all(bits.any() for mask in consensus for bits in mask.values())
    for alive, log in zip(consensus, logs, strict=False):
        sent = [payload for what, round_, payload in wire if (what, round_) == ("up", log.round)]
        keep = PLAN.keep(log.round, alive)
        said = [wire.decode_mask(p, WIDE, log.round, reference=alive, keep=keep) for p in sent]
        assert [masks.counts(mask) for mask in said] == [keep] * len(DATA)
        for name, counts in log.state.votes.items():
            weights = rule.weights if isinstance(rule, weighted) else (1, 1, 1)
            slow = sum(w * mask[name] for w, mask in zip(weights, said, strict=True))
            assert np.array_equal(counts, slow)
        assert log.sparsity == masks.sparsity(log.state.mask)
        assert same(log.state.weights, draw_weights(WIDE))
        for node, value in log.state.agreement.items():
            assert value == masks.agreement(said[node], log.state.mask, alive)


def test_budget_follows_the_schedule_exactly():
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


def test_the_network_scope_is_exact_in_total_and_leaves_the_floor():
    plan = replace(PLAN, schedule=linear(0.8), scope="network", floor=2)
    logs = run(method(plan, score=rms_weight))
    kept = [masks.counts(log.state.mask) for log in logs]
    # Of 38 filters 20, 40, 60 and 80 percent go: 7.6, 15.2, 22.8 and 30.4, rounded up.
    assert [sum(counts.values()) for counts in kept] == [30, 22, 15, 7]
    assert all(min(counts.values()) >= 2 for counts in kept)
    by_layer = Plan(WIDE, linear(0.8), 4).keep(4, masks.full(WIDE))
    assert kept[-1] != by_layer, "every layer lost the same share: nothing was ranked together"


def test_every_byte_is_counted():
    algorithm, wire = recorded(method(vote=share(0.5)))
    logs = run(algorithm)
    start = [message for what, _, message in wire if what == "start"]
    assert len(start) == 1 and len(start[0]) == 22
    assert [log.start_bytes for log in logs] == [3 * 22, 0, 0, 0]
    for log in logs:
        sent = {
            way: [len(m) for what, round_, m in wire if (what, round_) == (way, log.round)]
            for way in ("down", "up")
        }
        assert log.payloads == tuple(sent["up"])
        assert log.bytes_up == sum(sent["up"])
        assert len(sent["down"]) == 1 and log.bytes_down == 3 * sent["down"][0]
        # A bit a filter, 38 in all, and a frame; fewer once there is less to say.
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


@pytest.mark.parametrize(
    "algorithm",
    [
        method(),
        method(rewind=False),
        method(score=random, vote=share(0.5)),
        method(vote=weighted((5.0, 8.0, 3.0)), rewind=False),
        method(replace(PLAN, scope="network"), score=rms_weight),
    ],
    ids=["rewind", "carry on", "random", "weighted", "network"],
)
def test_a_run_that_goes_on_equals_one_that_was_never_cut_off(algorithm):
    whole, wire = recorded(algorithm)
    logs = run(whole, rounds=3)
    for log in logs:
        later, rest = recorded(algorithm)
        resume = Resume(log.round, log.state, log.memories)
        again = run(later, rounds=3, resume=resume)
        assert rest == [message for message in wire if message[1] > log.round]
        for one, other in zip(again, logs[log.round :], strict=True):
            assert same(one.state.mask, other.state.mask)
            assert all(map(same, one.memories, other.memories))
            assert (one.start_bytes, one.payloads) == (0, other.payloads)


def test_a_run_is_a_function_of_its_seed():
    def messages(**how):
        algorithm, wire = recorded(method())
        run(algorithm, rounds=2, **how)
        return wire

    assert messages() == messages()
    assert messages() != messages(seed=1)


def test_lth_is_one_node_and_unanimity():
    """With one node nobody is asked: train, prune, rewind, as in the lottery ticket papers."""
    logs = run(method(vote=share(1)), DATA[:1], seed=5)
    w0, mask = draw_weights(WIDE), masks.full(WIDE)
    for log in logs:
        weights = drift(WIDE)(
            apply(w0, mask, WIDE), mask, DATA[0], rng_for(5, "node", log.round, 0)
        ).weights
        scores = {layer.name: l2(Update(weights), layer, rng_for(0)) for layer in WIDE.layers}
        mask = select_by_layer(scores, mask, PLAN.keep(log.round, mask))
        assert same(log.state.mask, mask)
        assert log.state.agreement == {0: 1.0}


def test_equal_nodes_agree_whatever_the_rule():
    def still(weights, mask, data, rng):
        return Update(weights)

    expected = None
    # A low percentile keeps everything, whoever says so.
    for rule in (rule for rule in RULE_EXAMPLES if not isinstance(rule, published_percentile)):
        algorithm = masked_pruning(PLAN, initialise(WIDE), still, vote=rule)
        logs = run(algorithm, rounds=2)
        assert all(set(log.state.agreement.values()) == {1.0} for log in logs)
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
    def still(weights, mask, data, rng):
        return Update(weights)

    algorithm = masked_pruning(PLAN, initialise(WIDE), still, vote=rule)
    faulty = voter(PLAN, still, l2, fault=fault)
    honest, logs = run(algorithm), run(algorithm, behaviour={1: faulty})
    assert same(logs[-1].state.mask, honest[-1].state.mask) == (not harmed)
    assert logs[0].state.agreement[1] < 1
    if not harmed:
        assert all(log.state.agreement[0] == log.state.agreement[2] == 1 for log in logs)


def test_colluders_that_would_empty_every_layer_do_not():
    def still(weights, mask, data, rng):
        return Update(weights)

    plan = replace(PLAN, floor=2)
    algorithm = masked_pruning(plan, initialise(WIDE), still, vote=share(1))
    faulty = voter(plan, still, l2, fault=inverted_mask())
    logs = run(algorithm, behaviour={0: faulty, 2: faulty})
    assert logs[0].state.rescued == ("layer0", "layer1", "layer2")
    assert masks.counts(logs[0].state.mask) == {"layer0": 2, "layer1": 2, "layer2": 2}
    assert all(min(masks.counts(log.state.mask).values()) >= 1 for log in logs)


def test_a_node_that_fails_is_named():
    def broken(memory, message, data, rng):
        raise MPFLError("the disk is full; free some space")

    with pytest.raises(MPFLError, match=r"^node 2, round 1: the disk is full; free some space$"):
        run(method(), behaviour={2: broken})
    with pytest.raises(MPFLError, match=r"^node 0, round 1, decode: payload is too short"):
        run(method(), behaviour={0: lambda *_: Reply(0, b"hello")})


def test_a_node_without_data_is_refused():
    with pytest.raises(MPFLError, match="node 1 has no data; use fewer nodes"):
        run(method(), [DATA[0], np.array([])])


def test_no_nodes_at_all_are_refused():
    with pytest.raises(MPFLError, match="round 1: no node replied"):
        run(method(), [])


def test_what_the_consumers_of_a_run_see():
    logs = run(method(), rounds=2, evaluate=lambda state: masks.sparsity(state.mask))
    assert [log.accuracy for log in logs] == [log.sparsity for log in logs]
    assert [m["loss"] for m in logs[0].metrics] == [1.0, 2.0, 0.5]
    assert all(log.seconds > 0 for log in logs)
    assert run(method(), rounds=1)[0].accuracy is None
    table = agreement_table(logs)
    assert table.shape == (2, 3)
    assert table[1].tolist() == list(logs[1].state.agreement.values())


def test_nothing_runs_before_it_is_asked_for():
    turns = []

    def on_node(round_, node):
        turns.append((round_, node))

    rounds = simulate(
        method(), DATA, begin(WIDE), 4, 0, run_nodes=one_by_one(method(), DATA, 0, on_node=on_node)
    )
    assert turns == []
    next(rounds)
    assert turns == [(1, 0), (1, 1), (1, 2)]
    next(rounds)
    assert turns[3:] == [(2, 0), (2, 1), (2, 2)]


def test_who_takes_the_turns_and_in_which_order_changes_nothing():
    """As on several machines: the last node first, each reply put in its node's place."""
    algorithm, behaviour = method(rewind=False), {1: voter(PLAN, drift(WIDE), random)}
    taken = []

    def backwards(round_, message, memories):
        replies = {}
        for node in reversed(range(len(DATA))):
            local = behaviour.get(node, algorithm.local)
            taken.append((round_, node))
            replies[node] = take_turn(local, DATA[node], 0, round_, node, memories[node], message)
        return [replies[node] for node in range(len(DATA))]

    usual = run(algorithm, behaviour=behaviour)
    other = run(algorithm, run_nodes=backwards)
    assert taken[:3] == [(1, 2), (1, 1), (1, 0)]
    for one, two in zip(usual, other, strict=True):
        assert same(one.state.mask, two.state.mask)
        assert one.payloads == two.payloads and one.metrics == two.metrics
        assert all(map(same, one.memories, two.memories))
        assert one.state.agreement == two.state.agreement
    assert not same(run(algorithm)[-1].state.mask, usual[-1].state.mask)


def test_a_turn_says_whose_it_is():
    def local(memory, message, data, rng):
        if message == b"bad":
            raise MPFLError("the disk is full; free some space")
        return Reply(0, message, memory, {"draw": float(rng.random())})

    reply = take_turn(local, DATA[0], 5, 3, 2, {"a": np.ones(1)}, b"down")
    assert (reply.node, reply.payload) == (2, b"down")
    assert reply.metrics == {"draw": float(rng_for(5, "node", 3, 2).random())}
    with pytest.raises(MPFLError, match=r"^node 2, round 3: the disk is full; free some space$"):
        take_turn(local, DATA[0], 5, 3, 2, {}, b"bad")


@st.composite
def federations(draw):
    """Any layout, rule, schedule and scope, and up to four nodes, one of them faulty."""
    layout = draw(layouts(largest=8))
    nodes = draw(st.integers(1, 4))
    deepest = 1 - 1 / min(layer.filters for layer in layout.layers)
    final = draw(st.floats(0, deepest)) if deepest else 0.0
    schedule = draw(st.sampled_from([linear, one_shot, cubic]))(final)
    scope = draw(st.sampled_from(["layer", "network"]))
    rule = draw(
        st.sampled_from([r for r in RULE_EXAMPLES if not isinstance(r, weighted)])
        | st.just(weighted((1.0, 2.0, 0.0, 3.0)))
    )
    fault = draw(st.none() | st.sampled_from([random_mask(), inverted_mask(), colluding_veto(0.3)]))
    return Plan(layout, schedule, 3, scope), nodes, rule, fault, draw(st.booleans())


@settings(max_examples=10)
@given(federations())
def test_laws_of_any_federation(case):
    plan, nodes, rule, fault, rewind = case
    layout = plan.layout
    algorithm = method(plan, vote=rule, rewind=rewind, score=rms_weight)
    faulty = voter(plan, drift(layout), rms_weight, rewind=rewind, fault=fault)
    behaviour = {0: faulty} if fault else {}
    alive = masks.full(layout)
    for log in run(algorithm, [DATA[0]] * nodes, 3, layout=layout, behaviour=behaviour):
        masks.check(log.state.mask, layout, within=alive)
        assert all(bits.any() for bits in log.state.mask.values())
        assert all(0 <= value <= 1 for value in log.state.agreement.values())
        assert log.bytes_up == sum(log.payloads)
        if rule == most_votes() and not log.state.rescued:
            kept = masks.counts(log.state.mask)
            asked = plan.keep(log.round, alive)
            assert (sum(kept.values()) if plan.scope == "network" else kept) == asked
        alive = log.state.mask
