"""Votes on directions with lengths: by hand, against loops, with liars, and to the byte."""

import numpy as np
import pytest
from federation import DATA, begin, drift, initialise, recorded
from hypothesis import given
from hypothesis import strategies as st
from steps import (
    HALF,
    NORMED,
    ROUNDS,
    TRAINED,
    averages,
    check_that_it_goes_on_from_a_file,
    check_that_it_sends_what_its_bill_says,
    logs_of,
    short,
    them,
)
from toys import draw_weights, same

from mpfl import masks, wire
from mpfl.algorithm import Start
from mpfl.analysis.ledger import bill
from mpfl.filters import apply, cut, expand
from mpfl.runs.experiment import Experiment
from mpfl.runs.finishes import by_scaled_votes
from mpfl.runs.text import changed
from mpfl.runs.workbench import Workbench
from mpfl.scaled_votes import (
    brought_up_by_lengths,
    mean_lengths,
    scaled_step,
    scaled_votes,
    sizes_voted,
)
from mpfl.seeds import rng_for
from mpfl.sign_votes import LOST
from mpfl.simulation import simulate, take_turn
from mpfl.types import BehindError, MPFLError, Reply


def method(mask=HALF, train=None, feedback=True, averages=averages):
    return scaled_votes(
        NORMED,
        initialise(NORMED),
        train or drift(NORMED),
        mask=mask,
        voted=TRAINED,
        feedback=feedback,
        averages=averages,
    )


# --- lengths --------------------------------------------------------------------------------------


def test_three_numbers_of_two_tensors_by_hand():
    moved, sizes = np.array([0.5, -1.5, 0.25], np.float32), [2, 1]
    lengths = mean_lengths(moved, sizes)
    assert lengths.tolist() == [1.0, 0.25]
    assert scaled_step(moved > 0, lengths, sizes).tolist() == [1.0, -1.0, 0.25]


@given(st.lists(st.integers(0, 9), min_size=1, max_size=5), st.integers(0, 99))
def test_a_step_is_as_long_on_average_as_what_it_stands_for(sizes, seed):
    moved = rng_for(seed, "moved").standard_normal(sum(sizes)).astype(np.float32)
    step = scaled_step(moved > 0, mean_lengths(moved, sizes), sizes)
    begin_ = 0
    for size in sizes:
        part = slice(begin_, begin_ + size)
        assert np.abs(step[part]).sum() == pytest.approx(np.abs(moved[part]).sum(), rel=1e-5)
        begin_ += size


# --- the algorithm --------------------------------------------------------------------------------


def slow_scaled_votes(mask, feedback, rounds=ROUNDS):
    """The same by loops over nodes, tensors and numbers."""
    weights = apply(draw_weights(NORMED), mask, NORMED)
    own = [weights] * len(DATA)  # each node's statistics are its own
    small = cut(weights, mask, NORMED)
    lost = [{name: np.zeros(small[name].size, np.float32) for name in TRAINED} for _ in DATA]
    for round_ in range(1, rounds + 1):
        begun = [{**weights, **{n: o[n] for n in weights if n.endswith(".mean")}} for o in own]
        trained = [
            drift(NORMED)(begun[node], mask, data, rng_for(0, "node", round_, node)).weights
            for node, data in enumerate(DATA)
        ]
        small = cut(weights, mask, NORMED)
        stepped = {}
        for name in TRAINED:
            flat = small[name].ravel().copy()
            votes, said = np.zeros(flat.size, int), []
            for node, after in enumerate(trained):
                wanted = (cut(after, mask, NORMED)[name] - small[name]).ravel()
                if feedback:
                    wanted = wanted + lost[node][name]
                far = np.float32(np.abs(wanted).mean(dtype=np.float64))
                said.append(far)
                for number in range(flat.size):
                    votes[number] += 1 if wanted[number] > 0 else -1
                    sent = far if wanted[number] > 0 else -far
                    lost[node][name][number] = wanted[number] - sent
            middle = np.float32(sorted(said)[len(said) // 2])  # of an odd number of nodes
            for number in range(flat.size):
                flat[number] += middle if votes[number] > 0 else -middle
            stepped[name] = flat.reshape(small[name].shape)
        if averages(round_):
            for name in weights:
                if name.endswith(".mean"):
                    rows = [cut(t, mask, NORMED)[name].astype(np.float64) for t in trained]
                    stepped[name] = np.mean(rows, axis=0).astype(np.float32)
        weights = {**weights, **expand(stepped, mask, NORMED)}
        own = trained
    return weights


@pytest.mark.parametrize("feedback", [True, False])
@pytest.mark.parametrize("mask", [HALF, masks.full(NORMED)], ids=["mask", "dense"])
def test_it_is_its_slow_twin_to_the_bit(mask, feedback):
    assert len(DATA) % 2
    logs = logs_of(method(mask, feedback=feedback))
    assert same(logs[-1].state.weights, slow_scaled_votes(mask, feedback))
    assert same(apply(logs[-1].state.weights, mask, NORMED), logs[-1].state.weights)


def test_every_node_holds_the_servers_weights_after_its_next_message():
    algorithm = method()
    for log in logs_of(algorithm):
        down = algorithm.broadcast(log.state, log.round + 1)
        for memory in log.memories:
            held = brought_up_by_lengths(memory, down, them())
            assert all(np.array_equal(held[n], log.state.weights[n]) for n in TRAINED)


def test_what_crosses_is_bits_a_length_per_tensor_and_at_times_statistics():
    algorithm, messages = recorded(method())
    logs_of(algorithm)
    numbers, means = them().numbers, sum(int(bits.sum()) for bits in HALF.values())
    for what, round_, message in messages:
        if what == "up":
            more = means if averages(round_) else 0
            assert len(message) == wire.signs_length(numbers, statistics=len(TRAINED) + more)
        elif what == "down":
            told = wire.signs_length(numbers, statistics=len(TRAINED))
            assert len(message) == (14 if round_ == 1 else told)


def test_fewer_than_half_of_the_nodes_make_no_step_longer_than_an_honest_one_says():
    algorithm, sizes = method(feedback=False), sizes_voted(them())
    state, numbers = algorithm.init(begin(NORMED)), them().numbers
    honest = [np.full(len(sizes), far, np.float32) for far in (1, 2, 3)]
    liars = [np.full(len(sizes), far, np.float32) for far in (1e30, 0)]
    ups = np.ones((1, numbers), bool)
    replies = [
        Reply(node, wire.encode_signs(ups, NORMED, 1, mask=HALF, statistics=far))
        for node, far in enumerate([*honest, liars[0], liars[0]])
    ]
    one = algorithm.aggregate(state, 1, replies).kept["lengths"]
    assert one.tolist() == [3] * len(sizes)
    replies[3:] = [
        Reply(node, wire.encode_signs(ups, NORMED, 1, mask=HALF, statistics=liars[1]))
        for node in (3, 4)
    ]
    assert algorithm.aggregate(state, 1, replies).kept["lengths"].tolist() == [1] * len(sizes)


@pytest.mark.parametrize(
    ("lengths", "says"),
    [
        (np.full(len(TRAINED), -1, np.float32), "node 7, round 1, decode: a length is negative"),
        (np.zeros(len(TRAINED) + 1, np.float32), "node 7, round 1, decode: body holds"),
    ],
)
def test_a_bad_length_names_its_node(lengths, says):
    algorithm = method()
    state, ups = algorithm.init(begin(NORMED)), np.ones((1, them().numbers), bool)
    bad = wire.encode_signs(ups, NORMED, 1, mask=HALF, statistics=lengths)
    with pytest.raises(MPFLError, match=says):
        algorithm.aggregate(state, 1, [Reply(7, bad)])


def test_a_start_whose_seed_draws_other_weights_is_refused():
    """Nodes would draw what the seed says, and take steps from weights that nobody else holds."""
    strange = Start(apply(draw_weights(NORMED, 8), HALF, NORMED), 0)
    with pytest.raises(MPFLError, match="the seed 0 does not draw this w0"):
        list(simulate(method(), DATA, strange, 1, 0))
    logs = list(simulate(method(), DATA, Start(strange.w0), 1, 0))
    assert logs[0].start_bytes > 100 * len(DATA)  # the weights themselves


def test_a_node_that_was_away_is_sent_the_weights_and_keeps_what_it_could_not_say():
    algorithm = method()
    logs = logs_of(algorithm)
    memory, state = logs[1].memories[0], logs[-1].state
    with pytest.raises(BehindError, match="ask for those in between"):
        brought_up_by_lengths(memory, algorithm.broadcast(state, ROUNDS + 1), them())
    message = algorithm.catch_up(state, ROUNDS + 1, 2)
    assert wire.kind_of(message) == wire.Kind.WEIGHTS
    held = brought_up_by_lengths(memory, message, them())
    assert all(np.array_equal(held[n], state.weights[n]) for n in TRAINED)
    assert np.array_equal(held[LOST], memory[LOST])


def test_a_node_that_is_asked_twice_answers_the_same():
    algorithm = method()
    logs = logs_of(algorithm, rounds=3)
    down = algorithm.broadcast(logs[-1].state, 4)
    once = take_turn(algorithm.local, DATA[1], 0, 4, 1, logs[-1].memories[1], down)
    again = algorithm.local(once.memory, down, DATA[1], rng_for(0, "node", 4, 1))
    before = logs[-1].memories[1][LOST]
    assert np.array_equal(again.memory["carried/lost_before"], before)


def test_a_run_that_goes_on_from_a_file_equals_one_that_was_never_cut_off(tmp_path):
    check_that_it_goes_on_from_a_file(method, tmp_path / "at")


# --- an experiment --------------------------------------------------------------------------------

WAY = "by_scaled_votes(every=2)"


def test_a_run_sends_what_the_ledger_says(quick, tmp_path):
    names = ("mpfl", "lottery", "fedavg", "pruning-fl")
    check_that_it_sends_what_its_bill_says(names, quick, WAY, tmp_path, every=2, lengths=True)


def test_lengths_go_with_votes(quick):
    bench = Workbench(quick("mpfl"))
    for how in ({}, {"voted": bench.trained, "bits": 4}):
        with pytest.raises(MPFLError, match="lengths go with votes on tensors"):
            bill("mpfl", bench.plan, [5, 5], final_rounds=2, lengths=True, **how)


def test_no_message_is_longer_than_it_says(quick):
    bench = Workbench(changed(quick("mpfl", nodes=3, central_epochs=0), short(WAY)))
    mask, way = masks.full(bench.layout), bench.experiment.federated
    algorithm = bench.final_algorithm(mask)
    state = algorithm.init(bench.start)
    memory = algorithm.join(algorithm.start(state))
    down = algorithm.broadcast(state, 1)
    reply = bench.turn(mask, 1, 0, memory, down)
    way.read(bench, mask, 1, reply)
    assert len(reply.payload) <= way.longest(bench, mask)


def test_a_bad_way_is_refused():
    with pytest.raises(MPFLError, match="every is 0; give at least 1"):
        changed(Experiment(), ["federated=by_scaled_votes(every=0)"])
    assert by_scaled_votes() == by_scaled_votes(feedback=True, every=10)
