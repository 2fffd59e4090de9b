"""A run is a function of its seed: cut off and gone on with, or run elsewhere, it is the same."""

from dataclasses import replace

import numpy as np
import pytest
from federation import DATA, PLAN, WIDE, drift, method, recorded, run
from toys import same

from mpfl import masks
from mpfl.allocate import over_network
from mpfl.node import Voter
from mpfl.prune import random, rms_weight
from mpfl.seeds import rng_for
from mpfl.simulation import Resume, take_turn
from mpfl.types import Absent, Answer, MPFLError
from mpfl.vote import share, weighted


@pytest.mark.parametrize(
    "algorithm",
    [
        method(),
        method(rewind=False),
        method(score=random, vote=share(0.5)),
        method(vote=weighted((5.0, 8.0, 3.0)), rewind=False),
        method(replace(PLAN, quota=over_network()), score=rms_weight),
    ],
    ids=["rewind", "carry on", "random", "weighted", "network"],
)
def test_a_run_that_goes_on_equals_one_that_was_never_cut_off(algorithm):
    whole, messages = recorded(algorithm)
    logs = run(whole, rounds=3)
    for log in logs:
        later, rest = recorded(algorithm)
        resume = Resume(log.round, log.state, log.memories)
        again = run(later, rounds=3, resume=resume)
        assert rest == [message for message in messages if message[1] > log.round]
        for one, other in zip(again, logs[log.round :], strict=True):
            assert same(one.state.mask, other.state.mask)
            assert all(map(same, one.memories, other.memories))
            assert (one.start_bytes, one.payloads) == (0, other.payloads)


def test_a_run_is_a_function_of_its_seed():
    def messages(**how):
        algorithm, sent = recorded(method())
        run(algorithm, rounds=2, **how)
        return sent

    assert messages() == messages()
    assert messages() != messages(seed=1)


def test_who_takes_the_turns_and_in_which_order_changes_nothing():
    """As on several machines: the last node first, each reply put in its node's place."""
    algorithm, behaviour = method(rewind=False), {1: Voter(PLAN, drift(WIDE), random)}
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
        assert one.outcome.agreement == two.outcome.agreement
    assert not same(run(algorithm)[-1].state.mask, usual[-1].state.mask)


def test_a_node_that_is_absent_is_left_out_and_its_memory_stays():
    algorithm = method(rewind=False)

    def without_node_1(round_, message, memories):
        local = algorithm.local
        return [
            Absent(node, "the machine is off")
            if node == 1
            else take_turn(local, DATA[node], 0, round_, node, memories[node], message)
            for node in range(len(DATA))
        ]

    before = None
    for log in run(algorithm, run_nodes=without_node_1):
        assert log.replied == (0, 2) and log.left_out == {1: "the machine is off"}
        assert len(log.payloads) == 2 and set(log.outcome.agreement) == {0, 2}
        assert before is None or same(log.memories[1], before)
        before = log.memories[1]
    assert masks.sparsity(log.state.mask) > 0.5


def test_a_turn_says_whose_it_is():
    def local(memory, message, data, rng):
        if message == b"bad":
            raise MPFLError("the disk is full; free some space")
        return Answer(message, memory, {"draw": float(rng.random())})

    reply = take_turn(local, DATA[0], 5, 3, 2, {"a": np.ones(1)}, b"down")
    assert (reply.node, reply.payload) == (2, b"down")
    assert reply.metrics == {"draw": float(rng_for(5, "node", 3, 2).random())}
    with pytest.raises(MPFLError, match=r"^node 2, round 3: the disk is full; free some space$"):
        take_turn(local, DATA[0], 5, 3, 2, {}, b"bad")
