"""A vote through relays is the vote of all nodes at once, bit for bit, whatever the tree."""

import math
import re
import tracemalloc
from itertools import cycle, islice

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toys import BY_HISTOGRAM, TOY, chain, draw_weights, layouts, mask_of, masks_for, same

from mpfl import masks, wire
from mpfl.algorithm import State
from mpfl.analysis.relay import Level, count_relayed, gather, link_bytes, relay
from mpfl.node import Plan
from mpfl.prune import select
from mpfl.schedules import linear
from mpfl.seeds import rng_for
from mpfl.server import count_votes
from mpfl.types import MPFLError, Reply
from mpfl.vote import RULES, weighted
from mpfl.wire import encode_consensus

PLAN = Plan(TOY, linear(0.5), rounds=4)
ALIVE = mask_of(TOY, "###.", "###", "##.##")
SAID = [
    mask_of(TOY, "##..", "#..", "#..#."),
    mask_of(TOY, "#.#.", "##.", "##..."),
    mask_of(TOY, "##..", "..#", "...##"),
]


def ballot(plan, alive, mask, round_=2):
    keep = plan.keep(round_, alive)
    return wire.encode_mask(
        mask, plan.layout, round_, reference=alive, keep=keep, coding=plan.coding
    )


def numbered(payloads):
    return list(enumerate(payloads))


SENT = [ballot(PLAN, ALIVE, mask) for mask in SAID]


def test_every_rule_is_here_or_refused():
    examples = {type(rule).__name__ for rule in BY_HISTOGRAM}
    assert examples | {"weighted"} == set(RULES), "add an example to BY_HISTOGRAM in tests/toys.py"


# --- by hand ---------------------------------------------------------------------------------


def test_a_relay_by_hand():
    message = relay(PLAN, ALIVE, 2, numbered(SENT))
    votes, voters = wire.decode_counts(message, TOY, 2, reference=ALIVE)
    assert voters == 3
    assert {name: counts.tolist() for name, counts in votes.items()} == {
        "conv1": [3, 2, 1, 0],
        "conv2": [2, 1, 1],
        "fc": [2, 1, 0, 2, 1],
    }
    # Ten filters are alive, and 3 voters take two bits: 20 bits behind the byte that says 3.
    assert wire.body_length(message) == 1 + 3


def test_a_relay_of_one_node_says_its_mask():
    votes, voters = gather(PLAN, ALIVE, 2, [(7, relay(PLAN, ALIVE, 2, [(0, SENT[1])]))])
    assert voters == 1 and same(votes, {n: b.astype(np.int64) for n, b in SAID[1].items()})


# --- any tree --------------------------------------------------------------------------------


def up(plan, alive, tree, leaves):
    """What the root of ``tree`` sends: a leaf its ballot, a tuple the sum of what is in it."""
    if isinstance(tree, int):
        return leaves[tree]
    return relay(plan, alive, 2, numbered(up(plan, alive, each, leaves) for each in tree))


def trees(leaves):
    """Every way to hang these leaves up, in any order, relays of one among them."""
    if len(leaves) == 1:
        return st.just(leaves[0]) | st.just((leaves[0],))
    cut = st.integers(1, len(leaves) - 1)
    halves = cut.flatmap(lambda at: st.tuples(trees(leaves[:at]), trees(leaves[at:])))
    return st.just(tuple(leaves)) | halves


@st.composite
def elections(draw):
    """A plan of any coding, what is alive, up to seven ballots, and two trees of them."""
    layout = draw(layouts())
    alive = draw(masks_for(layout))
    alive = {n: b | (np.arange(b.size) == 0) for n, b in alive.items()}
    said = draw(st.lists(masks_for(layout), min_size=1, max_size=7))
    plan = Plan(layout, linear(0.0), 4, coding=draw(st.sampled_from(["shortest", "packed"])))
    order = draw(st.permutations(range(len(said))))
    return plan, alive, [masks.intersect(mask, alive) for mask in said], draw(trees(order))


@settings(max_examples=60, deadline=None)
@given(elections(), st.sampled_from(BY_HISTOGRAM))
def test_any_tree_gives_the_state_of_all_nodes_at_once(case, rule):
    plan, alive, said, tree = case
    leaves = [ballot(plan, alive, mask) for mask in said]
    state = State(draw_weights(plan.layout), alive, 5)
    flat = count_votes(plan, rule, state, 2, [Reply(n, p) for n, p in enumerate(leaves)])
    top = tree if isinstance(tree, tuple) else (tree,)
    arrived = numbered(up(plan, alive, each, leaves) for each in top)
    found = count_relayed(plan, rule, state, 2, arrived)
    assert same(found.mask, flat.mask) and same(found.outcome.votes, flat.outcome.votes)
    assert (found.outcome.rescued, found.seed) == (flat.outcome.rescued, flat.seed)
    assert found.outcome.agreement == {} and found.outcome.ballots is None
    assert found.weights is state.weights


@settings(max_examples=60, deadline=None)
@given(elections())
def test_who_adds_up_first_does_not_change_a_byte(case):
    plan, alive, said, tree = case
    leaves = [ballot(plan, alive, mask) for mask in said]
    whole = relay(plan, alive, 2, numbered(leaves))
    top = tree if isinstance(tree, tuple) else (tree,)
    assert up(plan, alive, top, leaves) == whole


# --- bad messages ----------------------------------------------------------------------------

COUNTED = relay(PLAN, ALIVE, 2, numbered(SENT))
OTHER = chain([4, 3, 5])
STRANGE = mask_of(TOY, ".###", "###", "##.##")  # as many filters as are alive, others


def counted(votes, voters, layout=TOY, round_=2, reference=ALIVE):
    flat = np.array(votes, dtype=np.int64)
    mask = masks.unflatten(flat, layout)
    return wire.encode_counts(mask, voters, layout, round_, reference=reference)


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        (COUNTED[:-1], "payload is cut short"),
        (COUNTED[:12] + bytes([COUNTED[12] ^ 1]) + COUNTED[13:], "checksum mismatch"),
        (COUNTED + b"\0", "has trailing bytes"),
        (counted([0] * 12, 3, round_=1), "payload is of round 1, not 2"),
        (counted([0] * 12, 3, reference=STRANGE), "for another model, reference, keep or coding"),
        (
            counted([0] * 12, 3, OTHER, reference=masks.full(OTHER)),
            "for another model, reference, keep or coding",
        ),
        (wire.encode_empty(TOY, 2), "payload is of kind EMPTY"),
        (ballot(PLAN, masks.full(TOY), SAID[0]), "for another model, reference, keep or coding"),
    ],
)
def test_a_bad_payload_names_its_sender(payload, message):
    arrived = [(4, COUNTED), (9, payload), (2, SENT[0])]
    for take in (gather, relay):
        with pytest.raises(MPFLError, match=f"^sender 9, round 2, decode: .*{re.escape(message)}"):
            take(PLAN, ALIVE, 2, arrived)


@given(st.integers(0, 8 * len(COUNTED) - 1))
def test_no_flipped_bit_is_counted(bit):
    flipped = bytearray(COUNTED)
    flipped[bit // 8] ^= 1 << bit % 8
    with pytest.raises(MPFLError, match=r"^sender 1, round 2, decode: "):
        gather(PLAN, ALIVE, 2, [(0, SENT[0]), (1, bytes(flipped))])


def test_weights_of_nodes_are_refused_plainly():
    state = State(draw_weights(TOY), ALIVE)
    with pytest.raises(
        MPFLError, match=r"weighted\(.*\) needs every node's own ballot, but relays send"
    ):
        count_relayed(PLAN, weighted((1.0, 2.0)), state, 2, [(0, COUNTED)])


def test_nobody_is_no_vote():
    with pytest.raises(MPFLError, match=r"^round 2: nobody voted; check that nodes"):
        relay(PLAN, ALIVE, 2, [])


# --- what it costs ---------------------------------------------------------------------------

WIDE = chain([64, 128, 256], norm=False)


def test_memory_does_not_grow_with_the_nodes():
    plan = Plan(WIDE, linear(0.5), rounds=2, coding="packed")
    alive = masks.full(WIDE)
    rng = rng_for(0, "relay")
    few = [ballot(plan, alive, masks.drawn(WIDE, 0.25, rng)) for _ in range(10)]

    def peak(votes):
        stream = islice(cycle(few), votes)
        tracemalloc.start()
        try:
            gather(plan, alive, 2, enumerate(stream))
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(20)  # what is made once
    # 240 masks more, had they been held, would be 107 kB more.
    assert peak(300) < peak(60) + 40_000


@pytest.mark.parametrize("coding", ["shortest", "packed"])
def test_the_bytes_of_each_link_are_those_of_a_vote_that_takes_place(coding):
    plan, fans = Plan(WIDE, linear(0.5), rounds=2, coding=coding), [2, 3, 4]
    alive = masks.drawn(WIDE, 0.25, rng_for(0, "alive"))
    rng, keep = rng_for(0, "ballots"), plan.keep(2, alive)
    draws = [{n: rng.random(b.size) for n, b in alive.items()} for _ in range(24)]
    messages = [ballot(plan, alive, select(draw, alive, keep)) for draw in draws]
    lengths = [messages]
    for fan in (4, 3):
        groups = [messages[i : i + fan] for i in range(0, len(messages), fan)]
        messages = [relay(plan, alive, 2, numbered(group)) for group in groups]
        lengths.append(messages)
    down = len(encode_consensus(alive, WIDE, 2))
    assert link_bytes(plan, alive, 2, fans) == [
        Level(len(level), voters, *{len(m) for m in level}, down)
        for level, voters in zip(lengths, (1, 4, 12), strict=True)
    ]


@given(st.lists(st.integers(1, 30), min_size=1, max_size=4))
def test_bytes_of_a_link_by_the_formula(fans):
    plan = Plan(TOY, linear(0.5), rounds=2)
    levels = link_bytes(plan, ALIVE, 2, fans)
    assert [level.links for level in levels[::-1]] == np.cumprod(fans).tolist()
    assert levels[0].voters == 1 and levels[-1].voters * fans[0] == math.prod(fans)
    for level in levels[1:]:
        body = -(-level.voters.bit_length() // 7) + math.ceil(
            10 * math.ceil(math.log2(level.voters + 1)) / 8
        )
        assert level.bytes_up == 14 + body


@pytest.mark.parametrize("fans", [[], [3, 0], [-1]])
def test_a_tree_without_nodes_is_refused(fans):
    with pytest.raises(MPFLError, match="has no nodes; give at least 1 for each level"):
        link_bytes(PLAN, ALIVE, 2, fans)
