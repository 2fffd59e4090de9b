"""The server's side: ballots in, the next consensus out, whatever the rule."""

import re
from dataclasses import dataclass, replace

import numpy as np
import pytest
from federation import DATA, RULE_EXAMPLES, WIDE, fresh, method, recorded, run, sent_by_all
from hypothesis import given, settings
from hypothesis import strategies as st
from toys import TOY, chain, draw_weights, inside, mask_of, masks_for, same, written

from mpfl import masks, wire
from mpfl.allocate import even, of_what_is_left, over_network, power
from mpfl.node import Plan
from mpfl.prune import filter_norms
from mpfl.schedules import one_shot
from mpfl.server import count_votes
from mpfl.types import MPFLError, Reply
from mpfl.vote import RULES, LayerRule, Rule, most_votes, share, weighted

every_rule = pytest.mark.parametrize("rule", RULE_EXAMPLES, ids=str)


def test_the_examples_cover_every_rule():
    examples = {type(rule).__name__ for rule in RULE_EXAMPLES}
    assert examples == set(RULES), "BY_HISTOGRAM in tests/toys.py has an example of every rule"


ALL = masks.full(TOY)
TOY_PLAN = Plan(TOY, one_shot(0.5), rounds=3)
QUOTAS = [even(), power(0.5), of_what_is_left(), over_network(), over_network(2)]
SAID = [
    mask_of(TOY, "##..", "#..", "##..."),
    mask_of(TOY, "#.#.", "#..", "#.#.."),
    mask_of(TOY, "##..", ".#.", "#..#."),
]


def decided(rule, *sent, plan=TOY_PLAN, state=None, round_=1):
    state = state or fresh(plan.layout)
    replies = sent_by_all(plan, round_, state.mask, *sent)
    return count_votes(plan, rule, state, round_, replies)


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
    assert {name: counts.tolist() for name, counts in state.outcome.votes.items()} == {
        "conv1": [3, 2, 1, 0],
        "conv2": [2, 1, 0],
        "fc": [3, 1, 1, 1, 0],
    }
    # Of twelve filters the first node differs from ##../#../#.... on one, the second on
    # three, the third on three.
    assert state.outcome.agreement == pytest.approx({0: 11 / 12, 1: 9 / 12, 2: 9 / 12})
    assert state.outcome.rescued == ()
    assert same(state.weights, draw_weights(TOY)) and state.seed == 0


@every_rule
@settings(max_examples=5)
@given(data=st.data())
def test_the_order_of_the_replies_changes_nothing(rule, data):
    replies = sent_by_all(TOY_PLAN, 1, ALL, *(data.draw(masks_for(TOY)) for _ in range(3)))
    turned = data.draw(st.permutations(replies))
    one, other = (count_votes(TOY_PLAN, rule, fresh(TOY), 1, each) for each in (replies, turned))
    assert same(one.mask, other.mask)
    assert (
        one.outcome.agreement == other.outcome.agreement
        and one.outcome.rescued == other.outcome.rescued
    )


@every_rule
@settings(max_examples=8)
@given(data=st.data(), quota=st.sampled_from(QUOTAS))
def test_the_consensus_lies_within_the_last_and_no_layer_is_empty(rule, data, quota):
    plan = replace(TOY_PLAN, quota=quota)
    alive = data.draw(masks_for(TOY).filter(lambda mask: all(b.any() for b in mask.values())))
    sent = [masks.intersect(data.draw(masks_for(TOY)), alive) for _ in range(3)]
    state = decided(rule, *sent, plan=plan, state=replace(fresh(TOY), mask=alive))
    masks.check(state.mask, TOY, within=alive)
    kept = masks.counts(state.mask)
    assert min(kept.values()) >= 1
    for name in state.outcome.rescued:
        assert kept[name] == min(plan.asked(1, alive).floor, alive[name].sum())
    if rule.exact:
        for group, count in plan.keep(1, alive).counts.items():
            assert sum(kept[name] for name in group) == count


def test_most_votes_over_the_network_by_hand():
    # Six of twelve stay. Votes: 3 2 1 0 / 2 1 0 / 3 1 1 1 0. Those of 3 and 2 are four; then
    # the largest filters of w0 among those with one vote.
    plan = replace(TOY_PLAN, quota=over_network())
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


def test_contradicting_votes_under_unanimity_leave_the_floor():
    # The second node votes for exactly what the first would drop: nothing is unanimous.
    said = mask_of(TOY, "##..", "#..", "##...")
    against = {name: ~bits for name, bits in said.items()}
    for quota, floor in ((even(), 1), (over_network(1), 1), (over_network(2), 2)):
        plan = replace(TOY_PLAN, quota=quota)
        state = decided(share(1), said, against, plan=plan)
        assert state.outcome.rescued == ("conv1", "conv2", "fc")
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
    assert written(state.mask) == ["##..", ".#.", "##..."] and state.outcome.rescued == ("conv2",)


# Sent for a model of other counts, for another round, cut short, and not a mask at all.
OTHER = chain([4, 3, 5])
GOOD = sent_by_all(TOY_PLAN, 2, ALL, *SAID)


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
        (sent_by_all(TOY_PLAN, 1, ALL, *SAID)[1].payload, "payload is of round 1, not 2"),
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
    replies = sent_by_all(TOY_PLAN, 1, ALL, mask_of(TOY, "..##", "#..", "##..."))
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


# --- a rule of a reader's own ----------------------------------------------------------------


@dataclass(frozen=True)
class above_average(Rule):
    """Over all layers at once: what has more votes than the network's filters on average."""

    def decide(self, tallies, keep):
        mean = np.mean(np.concatenate([tally.fraction for tally in tallies.values()]))
        return {name: tally.fraction > mean for name, tally in tallies.items()}


def test_a_rule_over_all_layers_runs_through_a_whole_simulation():
    algorithm, messages = recorded(method(vote=above_average()))
    alive = masks.full(WIDE)
    for log in run(algorithm):
        votes = log.outcome.votes
        assert log.outcome.rescued == ()
        mean = sum(int(v) for counts in votes.values() for v in counts) / 38
        for name, bits in log.state.mask.items():
            expected = [
                bool(old and v > mean) for old, v in zip(alive[name], votes[name], strict=True)
            ]
            assert bits.tolist() == expected
        assert inside(log.state.mask, alive)
        alive = log.state.mask
    assert 0 < masks.sparsity(alive) < 1
    assert [what for what, *_ in messages].count("up") == 4 * len(DATA)


@dataclass(frozen=True)
class wrong(LayerRule):
    """Answers as ``how`` says, of the layer ``conv2`` alone."""

    how: str

    def __call__(self, tally):
        kept = tally.fraction >= 0.5
        if kept.size != 3:
            return kept
        return {"ints": kept.astype(int), "short": kept[:2], "floats": tally.fraction}[self.how]

    def decide(self, tallies, keep):
        if self.how == "missing":
            return {name: tally.fraction > 0 for name, tally in tallies.items() if name != "conv2"}
        if self.how == "extra":
            return {name: tally.alive for name, tally in tallies.items()} | {
                "head": np.ones(2, bool)
            }
        return super().decide(tallies, keep)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("ints", "its answer for layer 'conv2' is int64[3]; give bool[3], True = kept"),
        ("floats", "its answer for layer 'conv2' is float64[3]; give bool[3], True = kept"),
        ("short", "its answer for layer 'conv2' is bool[2]; give bool[3], True = kept"),
        ("missing", "answers for layers ['conv1', 'fc'], but the model has ['conv1', 'conv2'"),
        ("extra", "answers for layers ['conv1', 'conv2', 'fc', 'head'], but the model has"),
    ],
)
def test_a_rule_that_answers_nonsense_is_refused_by_name(types_unchecked, how, message):
    with pytest.raises(MPFLError, match=rf"^vote rule wrong\(how='{how}'\).*{re.escape(message)}"):
        decided(wrong(how), *SAID)


def test_a_rule_brings_no_filter_back():
    @dataclass(frozen=True)
    class everything(LayerRule):
        def __call__(self, tally):
            return np.ones_like(tally.alive)

    alive = mask_of(TOY, "#.##", "##.", "#####")
    sent = [masks.intersect(mask, alive) for mask in SAID]
    assert same(decided(everything(), *sent, state=fresh(TOY, alive)).mask, alive)
