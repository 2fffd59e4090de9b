"""A round's votes, opened once: equal in any coding, added up as by a loop, measured, recorded."""

from dataclasses import replace
from itertools import cycle, islice

import numpy as np
import pytest
from federation import DATA as THREE
from federation import WIDE, begin, drift, fresh, method, recorded, sent_by_all
from hypothesis import given, settings
from hypothesis import strategies as st
from rule_table import counts_of
from toys import BY_HISTOGRAM, TOY, elections, layouts, mask_of, masks_for, same

from mpfl import masks, wire
from mpfl.allocate import even, over_network
from mpfl.analysis.faults import colluding_veto, inverted_mask, random_mask
from mpfl.filters import Layer, Layout
from mpfl.masks import Keep
from mpfl.node import Plan, Voter
from mpfl.runs.record import hex_of
from mpfl.schedules import linear
from mpfl.seeds import rng_for
from mpfl.server import count_votes
from mpfl.simulation import simulate
from mpfl.types import MPFLError, Reply
from mpfl.vote import most_votes, relaxed, share, weighted
from mpfl.wire import BLOCK, Ballots, Kind, tally_stream

few = settings(max_examples=40)
ALL = masks.full(TOY)
DATA = [*THREE, np.full(4, 1.5)]
every_rule = pytest.mark.parametrize(
    "rule", [*BY_HISTOGRAM, weighted((1.0, 2.0, 0.0, 3.0))], ids=str
)


@st.composite
def rounds(draw):
    """What is alive, and the ballots of up to five nodes of any numbers."""
    layout = draw(layouts())
    alive = draw(masks_for(layout).filter(lambda mask: any(b.any() for b in mask.values())))
    nodes = draw(st.lists(st.integers(0, 99), unique=True, max_size=5))
    return layout, alive, {n: masks.intersect(draw(masks_for(layout)), alive) for n in nodes}


def opened(layout, alive, cast, *, keep=None, coding="shortest"):
    """Sent, and opened at the door."""
    inside = {"keep": keep, "coding": coding}
    sent = [
        (node, wire.encode_mask(mask, layout, 2, reference=alive, **inside))
        for node, mask in cast.items()
    ]
    return Ballots.open(iter(sent), layout, 2, alive=alive, **inside)


def equal(one, other):
    return one.nodes == other.nodes and same({"": one.rows}, {"": other.rows})


# --- by hand ---------------------------------------------------------------------------------

SAID = {
    7: mask_of(TOY, "##..", "#..", "##..."),
    2: mask_of(TOY, "#.#.", "#..", "#.#.."),
    4: mask_of(TOY, "##..", ".#.", "#..#."),
}


def test_ballots_by_hand():
    ballots = Ballots.of(SAID, TOY, alive=ALL)
    assert ballots.nodes == (7, 2, 4)
    # ##..#..##... from the lowest bit: 1100 1001, 1000
    assert ballots.rows[0].tolist() == [0b10010011, 0b0001]
    assert ballots.hex()[0] == "9301"
    votes, voters = ballots.tally()
    assert voters == 3 and {name: counts.tolist() for name, counts in votes.items()} == {
        "conv1": [3, 2, 1, 0],
        "conv2": [2, 1, 0],
        "fc": [3, 1, 1, 1, 0],
    }
    weights = [0.0] * 8
    weights[7], weights[2], weights[4] = 1.0, 0.5, 2.0
    votes, voters = ballots.tally(weights)
    assert voters == 3.5 and votes["conv1"].tolist() == [3.5, 3.0, 0.5, 0.0]
    consensus = mask_of(TOY, "##..", "#..", "#....")
    assert ballots.agreement(consensus) == pytest.approx({7: 11 / 12, 2: 9 / 12, 4: 9 / 12})


def test_no_ballots():
    for ballots in (Ballots.of({}, TOY, alive=ALL), Ballots.open([], TOY, 2, alive=ALL)):
        assert ballots.nodes == () and ballots.rows.shape == (0, 2)
        assert ballots.bits().shape == (0, 12)
        votes, voters = ballots.tally()
        assert voters == 0 and all(not counts.any() for counts in votes.values())
        assert ballots.agreement(ALL) == {} and ballots.hex() == []
    packed = Ballots.open([], TOY, 2, alive=ALL, coding="packed")
    assert packed.rows.shape == (0, 2) and packed.tally()[1] == 0


# --- laws ------------------------------------------------------------------------------------


@few
@given(rounds(), st.data())
def test_every_coding_gives_the_ballots_that_were_cast(case, data):
    layout, alive, cast = case
    ballots = Ballots.of(cast, layout, alive=alive)
    counts = {name: data.draw(st.integers(0, size)) for name, size in layout.sizes.items()}
    for keep in (None, Keep.by_layer(counts), Keep({tuple(layout.sizes): sum(counts.values())})):
        for coding in ("shortest", "packed"):
            assert equal(opened(layout, alive, cast, keep=keep, coding=coding), ballots)
    flat = [masks.flatten(mask, layout) for mask in cast.values()]
    assert ballots.bits().tolist() == [row.tolist() for row in flat]
    assert ballots.bits().dtype == bool


@few
@given(rounds())
def test_a_tally_is_a_loop_over_the_ballots(case):
    layout, alive, cast = case
    votes, voters = Ballots.of(cast, layout, alive=alive).tally()
    assert voters == len(cast) and list(votes) == list(layout.sizes)
    for name, size in layout.sizes.items():
        slow = [sum(bool(mask[name][f]) for mask in cast.values()) for f in range(size)]
        assert votes[name].tolist() == slow and votes[name].dtype == np.int64


@few
@given(rounds(), st.data())
def test_a_weighted_tally_is_a_loop_in_the_order_of_the_ballots(case, data):
    layout, alive, cast = case
    weights = data.draw(st.lists(st.floats(0, 9), min_size=100, max_size=100))
    votes, voters = Ballots.of(cast, layout, alive=alive).tally(weights)
    slow = 0.0
    for node in cast:
        slow += weights[node]
    assert voters == slow
    for name, size in layout.sizes.items():
        for f in range(size):
            slow = 0.0
            for node, mask in cast.items():
                slow += weights[node] * bool(mask[name][f])
            assert votes[name][f] == slow


@few
@given(rounds(), st.data())
def test_agreement_is_that_of_each_mask(case, data):
    layout, alive, cast = case
    consensus = masks.intersect(data.draw(masks_for(layout)), alive)
    agreement = Ballots.of(cast, layout, alive=alive).agreement(consensus)
    assert agreement == {
        node: masks.agreement(mask, consensus, alive) for node, mask in cast.items()
    }
    assert all(type(share) is float for share in agreement.values())


@few
@given(rounds())
def test_ballots_are_recorded_as_a_run_records_a_mask(case):
    layout, alive, cast = case
    ballots = Ballots.of(cast, layout, alive=alive)
    assert ballots.hex() == [hex_of(masks.flatten(mask, layout)) for mask in cast.values()]


@few
@given(rounds())
def test_a_stream_gives_the_tally_of_its_ballots(case):
    layout, alive, cast = case
    inside = {"reference": alive, "coding": "packed"}
    stream = ((node, wire.encode_mask(m, layout, 2, **inside)) for node, m in cast.items())
    votes, voters = tally_stream(stream, layout, 2, alive=alive)
    expected, count = Ballots.of(cast, layout, alive=alive).tally()
    assert same(votes, expected) and voters == count


def one_layer(election):
    """The ballots of an election among the filters of one layer."""
    layout = Layout((Layer("layer", election.alive.size, "w", ("w",)),), {})
    cast = {node: {"layer": row} for node, row in enumerate(election.masks)}
    return Ballots.of(cast, layout, alive={"layer": election.alive})


@given(elections())
def test_tally_counts(election):
    votes, voters = one_layer(election).tally()
    assert votes["layer"].tolist() == counts_of(election) and voters == len(election.masks)


# --- what is refused -------------------------------------------------------------------------


@pytest.mark.parametrize("coding", ["shortest", "packed"])
def test_a_bad_payload_names_its_node_wherever_it_stands(coding):
    sent = [
        (node, wire.encode_mask(mask, TOY, 2, reference=ALL, coding=coding))
        for node, mask in SAID.items()
    ]
    for place, (node, payload) in enumerate(sent):
        bad = [*sent]
        bad[place] = node, payload[:-1]
        message = f"^node {node}, round 2, decode: payload is cut short"
        with pytest.raises(MPFLError, match=message):
            Ballots.open(bad, TOY, 2, alive=ALL, coding=coding)


@pytest.mark.parametrize("node", [3, -1])
def test_a_node_without_a_weight_is_refused(node):
    ballots = Ballots.of({0: ALL, node: ALL}, TOY, alive=ALL)
    message = f"vote: node {node} has no weight, there are 3; give one weight per node"
    with pytest.raises(MPFLError, match=message):
        ballots.tally((1.0, 1.0, 1.0))


# --- each payload is opened once -------------------------------------------------------------


def test_a_round_decodes_each_ballot_once_and_the_broadcast_once_per_node(monkeypatch):
    calls = []

    def counted(module):
        decode = module.decode_mask

        def spy(payload, *given, **how):
            calls.append(module.__name__)
            return decode(payload, *given, **how)

        return spy

    from mpfl.wire import ballots as door
    from mpfl.wire import masks as messages

    for module in (door, messages):
        monkeypatch.setattr(module, "decode_mask", counted(module))
    next(simulate(method(), DATA, begin(WIDE), 4, 0))
    assert sorted(calls) == ["mpfl.wire.ballots"] * len(DATA) + ["mpfl.wire.masks"] * len(DATA)


# --- whole runs --------------------------------------------------------------------------------


def run(plan, rule, faults):
    layout = plan.layout
    spied, messages = recorded(method(plan, vote=rule))
    behaviour = {n: Voter(plan, drift(layout), fault=fault) for n, fault in faults.items()}
    logs = list(simulate(spied, DATA, begin(layout), plan.rounds, 0, behaviour=behaviour))
    return logs, [message for what, _, message in messages if what == "up"]


@every_rule
@pytest.mark.parametrize("quota", [even(), over_network(2)], ids=str)
@pytest.mark.parametrize(
    "faults",
    [{}, {0: random_mask(), 1: inverted_mask()}, {1: colluding_veto(0.4), 3: colluding_veto(0.4)}],
    ids=["honest", "random and inverted", "veto"],
)
def test_both_codings_give_the_same_states(rule, quota, faults):
    plan = Plan(WIDE, linear(0.6), 3, quota)
    shortest, _ = run(plan, rule, faults)
    whole, sent = run(replace(plan, coding="packed"), rule, faults)
    assert {wire.kind_of(payload) for payload in sent} == {Kind.PACKED}
    assert len(set(map(len, sent))) == 1
    for one, other in zip(shortest, whole, strict=True):
        assert same(one.state.mask, other.state.mask)
        assert same(one.outcome.votes, other.outcome.votes)
        assert np.array_equal(one.outcome.ballots.rows, other.outcome.ballots.rows)
        assert one.outcome.agreement == other.outcome.agreement
        assert one.outcome.rescued == other.outcome.rescued


@given(st.data(), layouts(), st.sampled_from([share(0.5), most_votes(), relaxed()]))
def test_both_codings_give_the_same_state_of_any_votes(data, layout, rule):
    alive = {n: b | data.draw(st.booleans()) for n, b in data.draw(masks_for(layout)).items()}
    for bits in alive.values():
        bits[0] = True
    sent = data.draw(st.lists(masks_for(layout), min_size=1, max_size=5))
    sent = [masks.intersect(mask, alive) for mask in sent]
    plan = Plan(layout, linear(0.0), rounds=3)
    decided = []
    for coding in ("shortest", "packed"):
        coded = replace(plan, coding=coding)
        replies = sent_by_all(coded, 2, alive, *sent)
        decided.append(count_votes(coded, rule, fresh(layout, alive), 2, replies))
    one, other = decided
    assert same(one.mask, other.mask) and same(one.outcome.votes, other.outcome.votes)
    assert (
        one.outcome.agreement == other.outcome.agreement
        and one.outcome.rescued == other.outcome.rescued
    )


def test_agreement_over_several_blocks():
    bits = rng_for(0, "votes").random((50, TOY.filters)) < 0.6
    said = [masks.unflatten(row, TOY) for row in bits]
    payloads = [wire.encode_mask(m, TOY, 2, reference=ALL, coding="packed") for m in said]
    replies = [Reply(n, p) for n, p in enumerate(islice(cycle(payloads), 2 * BLOCK + 3))]
    plan = Plan(TOY, linear(0.5), rounds=3, coding="packed")
    state = count_votes(plan, most_votes(), fresh(TOY), 2, replies)
    expected = [masks.agreement(masks.unflatten(row, TOY), state.mask, ALL) for row in bits]
    assert list(state.outcome.agreement) == list(range(len(replies)))
    assert list(state.outcome.agreement.values()) == list(islice(cycle(expected), len(replies)))
