"""Training by votes: by hand, against loops, for nodes that were away, and to the byte."""

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
from mpfl.algorithm import State
from mpfl.filters import apply, cut, expand
from mpfl.runs.experiment import Experiment
from mpfl.runs.finishes import by_sign_votes
from mpfl.runs.runner import run as run_experiment
from mpfl.runs.text import changed
from mpfl.runs.workbench import Workbench
from mpfl.seeds import rng_for
from mpfl.sign_votes import (
    CATCH_UP,
    ROUND,
    catch_up,
    caught_up,
    majority,
    sign_votes,
    signs_of,
    undecided,
)
from mpfl.simulation import take_turn
from mpfl.types import MPFLError, Reply, Update


def length(round_):
    return 0.5 / round_


def method(mask=HALF, train=None, **how):
    given = {"voted": TRAINED, "length": length, "averages": averages, **how}
    return sign_votes(NORMED, initialise(NORMED), train or drift(NORMED), mask=mask, **given)


# --- a vote on directions ----------------------------------------------------------------------


def test_five_nodes_and_three_weights_by_hand():
    # A column per weight: four of five say up, two of five say up, nobody does.
    said = np.array([[1, 1, 0], [1, 1, 0], [1, 0, 0], [1, 0, 0], [0, 0, 0]], bool)
    assert majority(said, round_=1).tolist() == [True, False, False]
    # Without the last node two against two stand on the second: up in even rounds at odd places.
    assert majority(said[:4], round_=1).tolist() == [True, True, False]
    assert majority(said[:4], round_=2).tolist() == [True, False, False]


@given(st.integers(1, 9), st.integers(1, 70), st.integers(1, 5), st.integers(0, 99))
def test_a_majority_is_counted_as_a_loop_counts_it(nodes, numbers, round_, seed):
    said = rng_for(seed, "signs").random((nodes, numbers)) < 0.5
    for number, up in enumerate(majority(said, round_)):
        votes = sum(bool(node[number]) for node in said)
        tie = 2 * votes == nodes
        assert up == ((number + round_) % 2 == 0 if tie else votes > nodes - votes)


def test_who_does_not_move_says_up_and_down_in_turn():
    moved = np.array([0.5, -0.5, 0, -0.0, np.float32(1e-45)], np.float32)
    one, two = signs_of(moved, 1), signs_of(moved, 2)
    assert one.tolist() == [True, False, False, True, True]
    assert two.tolist() == [True, False, True, False, True]
    assert (undecided(9, 3) ^ undecided(9, 4)).all()


# --- the algorithm ------------------------------------------------------------------------------


def slow_sign_votes(mask, rounds=ROUNDS):
    """The same by loops over nodes and numbers: every party's weights, and the server's."""
    weights = apply(draw_weights(NORMED), mask, NORMED)
    own = [weights] * len(DATA)  # each node's statistics are its own
    for round_ in range(1, rounds + 1):
        begun = [{**weights, **{n: o[n] for n in weights if n.endswith(".mean")}} for o in own]
        trained = [
            drift(NORMED)(begun[node], mask, data, rng_for(0, "node", round_, node)).weights
            for node, data in enumerate(DATA)
        ]
        stepped = {}
        small = cut(weights, mask, NORMED)
        for name in TRAINED:
            flat = small[name].ravel().copy()
            moves = [(cut(t, mask, NORMED)[name] - small[name]).ravel() for t in trained]
            for number in range(flat.size):
                ups = sum(float(move[number]) > 0 for move in moves)
                flat[number] += np.float32(
                    length(round_) if 2 * ups > len(DATA) else -length(round_)
                )
            stepped[name] = flat.reshape(small[name].shape)
        if averages(round_):
            for name in weights:
                if name.endswith(".mean"):
                    rows = [cut(t, mask, NORMED)[name].astype(np.float64) for t in trained]
                    stepped[name] = np.mean(rows, axis=0).astype(np.float32)
        weights = {**weights, **expand(stepped, mask, NORMED)}
        own = trained
    return weights


@pytest.mark.parametrize("mask", [HALF, masks.full(NORMED)], ids=["mask", "dense"])
def test_training_by_votes_is_its_slow_twin_to_the_bit(mask):
    logs = logs_of(method(mask))
    assert same(logs[-1].state.weights, slow_sign_votes(mask))
    assert same(apply(logs[-1].state.weights, mask, NORMED), logs[-1].state.weights)


def test_every_node_holds_the_servers_weights_after_its_next_message():
    algorithm = method()
    for log in logs_of(algorithm):
        down = algorithm.broadcast(log.state, log.round + 1)
        for memory in log.memories:
            held = caught_up(memory, down, them(), length)
            assert all(np.array_equal(held[n], log.state.weights[n]) for n in TRAINED)
            assert held["steps"] == log.state.weights["steps"]


def test_what_crosses_is_bits_and_at_times_statistics():
    algorithm, messages = recorded(method())
    logs = logs_of(algorithm)
    numbers = them().numbers
    means = sum(int(bits.sum()) for bits in HALF.values())
    for what, round_, message in messages:
        if what == "up":
            more = means if averages(round_) else 0
            assert len(message) == wire.signs_length(numbers, statistics=more)
        elif what == "down":
            first = round_ == 1
            assert len(message) == (14 if first else wire.signs_length(numbers))
    assert [log.state.testable for log in logs] == [False, False, False, True, False, True]


def test_only_whole_models_are_tested():
    logs = logs_of(method(), evaluate=lambda state: 0.5)
    assert [log.accuracy for log in logs] == [None, None, None, 0.5, None, 0.5]


@pytest.mark.parametrize("since", range(ROUNDS))
def test_a_node_that_was_away_takes_the_steps_it_missed(since):
    algorithm = method()
    logs = logs_of(algorithm)
    memory = logs[since - 1].memories[0] if since else draw_weights(NORMED)
    state, next_round = logs[-1].state, ROUNDS + 1
    message = catch_up(state, next_round, them(), since=since)
    rows = max(ROUNDS - max(since, 1) + 1, 1)
    assert len(message) == wire.signs_length(them().numbers, rounds=rows)
    held = caught_up(memory, message, them(), length)
    assert all(np.array_equal(held[n], state.weights[n]) for n in TRAINED)
    if since < ROUNDS - 1:
        with pytest.raises(MPFLError, match="ask for those in between"):
            algorithm.local(
                memory, algorithm.broadcast(state, next_round), DATA[0], rng_for(0, "x")
            )


def test_a_node_that_was_away_for_very_long_is_sent_the_weights():
    algorithm = method(averages=lambda round_: False)
    logs = logs_of(algorithm, rounds=CATCH_UP + 2)
    state, next_round = logs[-1].state, CATCH_UP + 3
    assert wire.kind_of(catch_up(state, next_round, them(), since=3)) == wire.Kind.SIGNS
    message = catch_up(state, next_round, them(), since=1)
    assert wire.kind_of(message) == wire.Kind.WEIGHTS
    held = caught_up({"carried/best": np.array(7), **draw_weights(NORMED)}, message, them(), length)
    assert all(np.array_equal(held[n], state.weights[n]) for n in TRAINED)
    assert held["carried/best"] == 7


def test_a_node_that_is_asked_twice_answers_the_same():
    algorithm = method()
    logs = logs_of(algorithm, rounds=3)
    down = algorithm.broadcast(logs[-1].state, 4)
    once = take_turn(algorithm.local, DATA[1], 0, 4, 1, logs[-1].memories[1], down)
    assert int(once.memory[ROUND]) == 4
    again = caught_up(once.memory, down, them(), length)
    assert all(np.array_equal(again[n], logs[-1].state.weights[n]) for n in TRAINED)


def test_a_message_of_a_round_that_is_over_is_refused():
    """Its directions lead to weights that this node has left behind."""
    algorithm = method()
    logs = logs_of(algorithm, rounds=3)
    early = algorithm.broadcast(logs[0].state, 2)
    with pytest.raises(MPFLError, match="took part in round 3, but the message is of round 2"):
        caught_up(logs[-1].memories[0], early, them(), length)


def test_a_run_that_goes_on_from_a_file_equals_one_that_was_never_cut_off(tmp_path):
    check_that_it_goes_on_from_a_file(method, tmp_path / "at")


def test_a_damaged_reply_names_its_node():
    algorithm = method()
    state = algorithm.init(begin(NORMED))
    down = algorithm.broadcast(state, 1)
    memory = algorithm.join(algorithm.start(state))
    good = algorithm.local(memory, down, DATA[0], rng_for(0, "node")).payload
    short = wire.encode_signs(np.ones((1, 8), bool), NORMED, 1, mask=HALF)
    with pytest.raises(MPFLError, match=r"node 7, round 1, decode: body holds 1 bytes"):
        algorithm.aggregate(state, 1, [Reply(3, good), Reply(7, short)])
    with pytest.raises(MPFLError, match="no node replied"):
        algorithm.aggregate(state, 1, [])


def test_a_buffer_that_training_leaves_alone_stays_as_it_was():
    """A table of positions is no weight: nobody votes on it, and its average is itself."""

    def still(weights, mask, data, rng):
        return Update(weights)

    start = apply(draw_weights(NORMED), HALF, NORMED)
    last = logs_of(method(train=still))[-1].state.weights
    for name in NORMED.shapes:
        assert np.array_equal(last[name], start[name]) == (name not in TRAINED)


@pytest.mark.parametrize("lie", [0.25, 1.0])
def test_a_lie_turns_as_many_directions_round_as_it_says(lie):
    honest, liar = method(), method(lie=lie)
    state = honest.init(begin(NORMED))
    down, memory = honest.broadcast(state, 1), honest.join(honest.start(state))
    turned = []
    for seed in range(40):
        one, other = (
            wire.decode_signs(
                each.local(memory, down, DATA[0], rng_for(seed, "node")).payload,
                them().numbers,
                NORMED,
                1,
                mask=HALF,
            )[0]
            for each in (honest, liar)
        )
        turned.append(one != other)
    share, spread = np.mean(turned), np.sqrt(lie * (1 - lie) / np.size(turned))
    assert abs(share - lie) <= 4 * spread


def test_the_signs_of_masked_sums_are_the_majority():
    """The server needs the sum alone: what hides each node's bits leaves the majority as it is."""
    nodes, numbers, modulus = 5, 40, 8
    said = rng_for(0, "said").random((nodes, numbers)) < 0.5
    hidden = said.astype(np.int64)
    for one in range(nodes):
        for other in range(one):
            shared = rng_for(0, "pair", one, other).integers(modulus, size=numbers)
            hidden[one], hidden[other] = hidden[one] + shared, hidden[other] - shared
    counts = hidden.sum(axis=0) % modulus
    assert np.array_equal(2 * counts > nodes, majority(said, round_=1))


# --- an experiment ------------------------------------------------------------------------------

WAY = "by_sign_votes(eta=0.02, every=2)"


def test_a_run_sends_what_the_ledger_says(quick, tmp_path):
    names = ("mpfl", "lottery", "fedavg", "pruning-fl")
    check_that_it_sends_what_its_bill_says(names, quick, WAY, tmp_path, every=2)


def test_workers_and_resuming_change_no_bit(quick, tmp_path):
    experiment = changed(quick("mpfl", nodes=3, central_epochs=0), short(WAY))
    one = run_experiment(experiment, tmp_path / "one")
    two = run_experiment(experiment, tmp_path / "two", workers=2)
    for name in ("model.safetensors", "mask.safetensors"):
        files = [(tmp_path / folder / name).read_bytes() for folder in ("one", "two")]
        assert files[0] == files[1]
    assert one["bytes"] == two["bytes"]


def test_the_steps_fall_by_a_cosine_and_are_the_same_everywhere():
    way = by_sign_votes(eta=0.01)
    steps = [way.length(round_, 60) for round_ in range(1, 61)]
    assert steps[0] == 0.01 and sorted(steps, reverse=True) == steps and steps[-1] > 0
    assert all(step == float(f"{step:.6g}") for step in steps)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("by_sign_votes(eta=0)", "eta is 0.0; give a positive number"),
        ("by_sign_votes(eta=inf)", "plain numbers"),
        ("by_private_sign_votes(epsilon=0)", "epsilon is 0; give a positive number"),
        ("by_private_sign_votes(eta=0)", "eta is 0.0; give a positive number"),
        ("by_sign_votes(every=0)", "every is 0; give at least 1"),
        ("by_votes()", "did you mean 'by_sign_votes'"),
        ("sign", "did you mean 'by_sign_votes'"),
    ],
)
def test_a_bad_way_to_finish_is_refused(text, message):
    with pytest.raises(MPFLError, match=message):
        changed(Experiment(), [f"federated={text}"])


def test_where_nothing_is_trained_between_nodes_there_is_no_way_to():
    for change in ("federated=by_sign_votes()", "federated_steps=3"):
        with pytest.raises(MPFLError, match="is about training between nodes, and 'lth' has none"):
            changed(Experiment(), ["method=lth", change])


@pytest.mark.parametrize("way", ["by_average()", "by_sign_votes(eta=0.02, every=2)"])
def test_a_bad_node_sends_what_it_pretends_and_honest_ones_what_they_did(quick, tmp_path, way):
    """By either way to finish; statistics stay honest, and workers change no bit."""
    finish = [f"federated={way}", "federated_rounds=2", "federated_steps=2", "local.batch=16"]
    honest = changed(quick("lottery", nodes=3, central_epochs=0), finish)
    bad = changed(honest, ["federated_fault=inverted_update()", "noisy_nodes=1"])
    one, other = Workbench(honest), Workbench(bad)
    mask = masks.drawn(one.layout, 0.5, rng_for(0, "mask"))
    assert other.behaviour() == {} and list(other.behaviour(mask)) == [0]
    w0 = apply(one.start.w0, mask, one.layout)
    down = one.final_algorithm(mask).broadcast(State(w0, mask), 1)
    for node in range(3):
        sent = [bench.turn(mask, 1, node, w0, down).payload for bench in (one, other)]
        assert (sent[0] == sent[1]) == (node > 0)
    if way == "by_average()":
        good, pretended = (
            wire.decode_weights(bench.turn(mask, 1, 0, w0, down).payload, one.layout, 1, mask=mask)[
                0
            ]
            for bench in (one, other)
        )
        small = cut(w0, mask, one.layout)
        for name in small:
            mirrored = 2 * small[name] - good[name] if name in one.trained else good[name]
            assert np.array_equal(pretended[name], mirrored)
    run_experiment(bad, tmp_path / "one")
    run_experiment(bad, tmp_path / "two", workers=2)
    files = [(tmp_path / folder / "model.safetensors").read_bytes() for folder in ("one", "two")]
    assert files[0] == files[1]
