"""The node's side: what an MPFL node does in a round, against the paper, by hand, and spoilt."""

import math
from dataclasses import replace

import numpy as np
import pytest
from federation import DATA, PLAN, WIDE, answer, drift, half, method, recorded, run
from toys import TOY, draw_weights, inside, mask_of, same

from mpfl import masks, wire
from mpfl.allocate import over_network
from mpfl.analysis.faults import FAULTS, colluding_veto
from mpfl.filters import apply
from mpfl.masks import Keep
from mpfl.node import Voter
from mpfl.prune import l2, random, rms_weight
from mpfl.seeds import rng_for
from mpfl.types import Answer, MPFLError


@pytest.mark.parametrize("rewind", [True, False])
def test_a_node_by_the_paper(rewind):
    # The slow twin, step by step: apply, train, score, drop the lowest, send.
    alive, w0 = half(WIDE), draw_weights(WIDE)
    given = answer(Voter(PLAN, drift(WIDE), l2, rewind=rewind), alive, w0, round_=4)
    update = drift(WIDE)(apply(w0, alive, WIDE), alive, DATA[0], rng_for(0, "node"))
    expected = {}
    for layer in WIDE.layers:
        norms = np.sqrt((update.weights[layer.weight].astype(float) ** 2).sum(axis=1))
        keep = layer.filters - int(np.ceil(0.6 * layer.filters))
        ranked = sorted(np.flatnonzero(alive[layer.name]), key=lambda f: -norms[f])
        expected[layer.name] = np.isin(np.arange(layer.filters), ranked[:keep])
        assert keep < len(ranked)
    keep = PLAN.keep(4, alive)
    sent = wire.decode_mask(given.payload, WIDE, 4, reference=alive, keep=keep)
    assert same(sent, expected)
    limit = sum(np.log2(math.comb(int(alive[n].sum()), k)) for (n,), k in keep.counts.items())
    noted = {"loss": 1.0, "body_bytes": wire.body_length(given.payload), "limit_bits": limit}
    assert given.metrics == pytest.approx(noted)
    assert same(given.memory, w0 if rewind else update.weights)


def test_a_node_keeps_what_the_schedule_asks_and_brings_nothing_back():
    alive = mask_of(WIDE, "#" * 9 + "." * 7, "#" * 3 + "." * 9, "." * 9 + "#")
    given = answer(Voter(PLAN, drift(WIDE), random), alive, draw_weights(WIDE), round_=3)
    counts = {"layer0": 8, "layer1": 3, "layer2": 1}  # 16 - 7.2, and what is left
    assert PLAN.keep(3, alive) == Keep.by_layer(counts)
    sent = wire.decode_mask(given.payload, WIDE, 3, reference=alive, keep=PLAN.keep(3, alive))
    assert masks.counts(sent) == counts and inside(sent, alive)


def test_the_same_node_says_the_same_and_another_draw_another():
    local, alive, w0 = Voter(PLAN, drift(WIDE)), masks.full(WIDE), draw_weights(WIDE)
    first, again = answer(local, alive, w0), answer(local, alive, w0)
    assert first.payload == again.payload
    assert first.payload != answer(local, alive, w0, seed=1).payload


@pytest.mark.parametrize("name", FAULTS)
def test_a_faulty_node_changes_its_vote_and_nothing_else(name):
    fault = {"colluding_veto": colluding_veto(0.4)}.get(name) or FAULTS[name]()
    alive, w0 = half(WIDE), draw_weights(WIDE)
    local = Voter(PLAN, drift(WIDE), l2, rewind=False)
    honest = answer(local, alive, w0, round_=4)
    faulty = answer(replace(local, fault=fault), alive, w0, round_=4)
    assert faulty.payload != honest.payload
    assert same(faulty.memory, honest.memory)
    assert faulty.metrics["loss"] == honest.metrics["loss"]
    assert faulty.metrics["body_bytes"] == wire.body_length(faulty.payload)
    keep = PLAN.keep(4, alive)
    one, other = (
        wire.decode_mask(given.payload, WIDE, 4, reference=alive, keep=keep)
        for given in (honest, faulty)
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


# --- alone, and in a run ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("plan", "how"),
    [
        (PLAN, {}),
        (PLAN, {"rewind": False}),
        (PLAN, {"score": random}),
        (replace(PLAN, coding="packed"), {}),
        (replace(PLAN, quota=over_network()), {"score": rms_weight}),
    ],
    ids=["rewind", "carry on", "random", "packed", "network"],
)
def test_called_by_hand_it_is_the_turn_of_a_simulation(plan, how):
    algorithm, messages = recorded(method(plan, **how))
    logs = run(algorithm, rounds=3, seed=5)
    local = Voter(plan, drift(WIDE), **how)
    alive, memories = masks.full(WIDE), [draw_weights(WIDE)] * len(DATA)
    for log in logs:
        broadcast = wire.encode_consensus(alive, WIDE, log.round)
        given = [
            local(memory, broadcast, data, rng_for(5, "node", log.round, node))
            for node, (data, memory) in enumerate(zip(DATA, memories, strict=True))
        ]
        assert all(type(each) is Answer for each in given)
        sent = [
            message for what, round_, message in messages if (what, round_) == ("up", log.round)
        ]
        assert [each.payload for each in given] == sent
        assert tuple(each.metrics for each in given) == log.metrics
        memories = [each.memory for each in given]
        assert all(map(same, memories, log.memories))
        alive = log.state.mask


def test_a_voter_is_a_value():
    one, other = (Voter(PLAN, train, l2, fault=colluding_veto(0.4)) for train in [drift(WIDE)] * 2)
    assert one == other and one != replace(other, rewind=False)
