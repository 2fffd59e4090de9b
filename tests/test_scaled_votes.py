"""Votes on directions with lengths: by hand, against loops, with liars, and to the byte."""

import numpy as np
import pytest
from federation import DATA, begin, drift, initialise, recorded
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
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
from mpfl.granularity import finer
from mpfl.node import Plan
from mpfl.runs.experiment import Experiment
from mpfl.runs.finishes import by_channel_scaled_votes, by_scaled_votes
from mpfl.runs.record import read_run
from mpfl.runs.runner import run
from mpfl.runs.text import changed
from mpfl.runs.workbench import Workbench
from mpfl.scaled_votes import (
    brought_up_by_lengths,
    correlation_with_others,
    mean_lengths,
    scaled_step,
    scaled_votes,
    standings,
)
from mpfl.schedules import geometric
from mpfl.seeds import rng_for
from mpfl.sign_votes import CATCH_UP, LOST, MAJORITIES, Directions
from mpfl.simulation import simulate, take_turn
from mpfl.types import BehindError, MPFLError, Reply

PER = pytest.mark.parametrize("per", ["tensor", "channel"])


def method(mask=HALF, train=None, feedback=True, averages=averages, mute=False, per="tensor"):
    return scaled_votes(
        NORMED,
        initialise(NORMED),
        train or drift(NORMED),
        mask=mask,
        voted=TRAINED,
        feedback=feedback,
        averages=averages,
        per=per,
        mute=mute,
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


def slow_scaled_votes(mask, feedback, per, rounds=ROUNDS):
    """The same by loops over nodes, tensors, channels and numbers."""
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
            flat, shape = small[name].ravel().copy(), small[name].shape
            wanted = [(cut(after, mask, NORMED)[name] - small[name]).ravel() for after in trained]
            if feedback:
                wanted = [mine + lost[node][name] for node, mine in enumerate(wanted)]
            channels = shape[0] if per == "channel" and len(shape) > 1 else 1
            for channel in range(channels):
                numbers = range(*[flat.size // channels * end for end in (channel, channel + 1)])
                votes, said = dict.fromkeys(numbers, 0), []
                for node, mine in enumerate(wanted):
                    far = np.float32(np.abs(mine[list(numbers)]).mean(dtype=np.float64))
                    said.append(far)
                    for number in numbers:
                        votes[number] += 1 if mine[number] > 0 else -1
                        sent = far if mine[number] > 0 else -far
                        lost[node][name][number] = mine[number] - sent
                middle = np.float32(sorted(said)[len(said) // 2])  # of an odd number of nodes
                for number in numbers:
                    flat[number] += middle if votes[number] > 0 else -middle
            stepped[name] = flat.reshape(shape)
        if averages(round_):
            for name in weights:
                if name.endswith(".mean"):
                    rows = [cut(t, mask, NORMED)[name].astype(np.float64) for t in trained]
                    stepped[name] = np.mean(rows, axis=0).astype(np.float32)
        weights = {**weights, **expand(stepped, mask, NORMED)}
        own = trained
    return weights


@PER
@pytest.mark.parametrize("feedback", [True, False])
@pytest.mark.parametrize("mask", [HALF, masks.full(NORMED)], ids=["mask", "dense"])
def test_it_is_its_slow_twin_to_the_bit(mask, feedback, per):
    assert len(DATA) % 2
    logs = logs_of(method(mask, feedback=feedback, per=per))
    assert same(logs[-1].state.weights, slow_scaled_votes(mask, feedback, per))
    assert same(apply(logs[-1].state.weights, mask, NORMED), logs[-1].state.weights)


@PER
def test_every_node_holds_the_servers_weights_after_its_next_message(per):
    algorithm = method(per=per)
    for log in logs_of(algorithm):
        down = algorithm.broadcast(log.state, log.round + 1)
        for memory in log.memories:
            held = brought_up_by_lengths(memory, down, them(), per)
            assert all(np.array_equal(held[n], log.state.weights[n]) for n in TRAINED)


@PER
def test_what_crosses_is_bits_lengths_and_at_times_statistics(per):
    algorithm, messages = recorded(method(per=per))
    logs_of(algorithm)
    numbers, means = them().numbers, sum(int(bits.sum()) for bits in HALF.values())
    weights = cut(draw_weights(NORMED), HALF, NORMED)
    channels = sum(len(weights[n]) if weights[n].ndim > 1 else 1 for n in TRAINED)
    lengths = {"tensor": len(TRAINED), "channel": channels}[per]
    for what, round_, message in messages:
        if what == "up":
            more = means if averages(round_) else 0
            assert len(message) == wire.signs_length(numbers, statistics=lengths + more)
        elif what == "down":
            told = wire.signs_length(numbers, statistics=lengths)
            assert len(message) == (14 if round_ == 1 else told)


def test_fewer_than_half_of_the_nodes_make_no_step_longer_than_an_honest_one_says():
    algorithm, sizes = method(feedback=False), them().sizes("tensor")
    state, numbers = algorithm.init(begin(NORMED)), them().numbers
    honest = [np.full(len(sizes), far, np.float32) for far in (1, 2, 3)]
    liars = [np.full(len(sizes), far, np.float32) for far in (1e30, 0)]
    ups = np.ones((1, numbers), bool)
    replies = [
        Reply(node, wire.encode_signs(ups, NORMED, 1, mask=HALF, statistics=far))
        for node, far in enumerate([*honest, liars[0], liars[0]])
    ]
    one = algorithm.aggregate(state, 1, replies).kept["step_lengths"]
    assert one.tolist() == [[3] * len(sizes)]
    replies[3:] = [
        Reply(node, wire.encode_signs(ups, NORMED, 1, mask=HALF, statistics=liars[1]))
        for node in (3, 4)
    ]
    assert algorithm.aggregate(state, 1, replies).kept["step_lengths"].tolist() == [
        [1] * len(sizes)
    ]


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


@PER
@pytest.mark.parametrize("since", range(ROUNDS))
def test_a_node_that_was_away_takes_the_steps_it_missed(since, per):
    algorithm = method(per=per)
    logs = logs_of(algorithm)
    memory = logs[since - 1].memories[0] if since else draw_weights(NORMED)
    state, next_round = logs[-1].state, ROUNDS + 1
    message = algorithm.catch_up(state, next_round, since)
    rows = ROUNDS - max(since, 1) + 1
    told = {"rounds": rows, "statistics": len(them().sizes(per))}
    assert len(message) == wire.signs_length(them().numbers, **told)
    held = brought_up_by_lengths(memory, message, them(), per)
    assert all(np.array_equal(held[n], state.weights[n]) for n in TRAINED)
    if since:  # what it could not say, it still has to say
        assert np.array_equal(held[LOST], memory[LOST])
    if since < ROUNDS - 1:
        with pytest.raises(BehindError, match="ask for those in between"):
            brought_up_by_lengths(memory, algorithm.broadcast(state, next_round), them(), per)


@PER
def test_a_node_that_was_away_for_very_long_is_sent_the_weights(per):
    algorithm = method(averages=lambda round_: False, per=per)
    logs = logs_of(algorithm, rounds=CATCH_UP + 2)
    memory, state = logs[0].memories[0], logs[-1].state
    message = algorithm.catch_up(state, CATCH_UP + 3, 1)
    assert wire.kind_of(message) == wire.Kind.WEIGHTS
    held = brought_up_by_lengths(memory, message, them(), per)
    assert all(np.array_equal(held[n], state.weights[n]) for n in TRAINED)
    assert np.array_equal(held[LOST], memory[LOST])


def test_whichever_is_shorter_is_sent():
    """In so small a network, the steps of 31 rounds are longer than the weights."""
    algorithm = method(averages=lambda round_: False)
    state = logs_of(algorithm, rounds=CATCH_UP)[-1].state
    messages = [algorithm.catch_up(state, CATCH_UP + 1, since) for since in range(1, CATCH_UP + 1)]
    kinds = [wire.kind_of(message) for message in messages]
    assert (kinds[0], kinds[-1]) == (wire.Kind.WEIGHTS, wire.Kind.SIGNS)
    assert max(map(len, messages)) == len(messages[0])


def test_a_message_with_more_steps_than_there_were_is_refused():
    algorithm = method()
    logs = logs_of(algorithm, rounds=2)
    ups, far = np.ones((5, them().numbers), bool), np.ones(5 * len(TRAINED), np.float32)
    message = wire.encode_signs(ups, NORMED, 3, mask=HALF, statistics=far)
    with pytest.raises(MPFLError, match="message of round 3 holds 5 steps, but there were 2"):
        brought_up_by_lengths(logs[-1].memories[0], message, them(), "tensor")


def test_a_node_that_replies_twice_is_refused():
    algorithm, ups = method(mute=True), np.ones((1, them().numbers), bool)
    told = np.ones(len(TRAINED), np.float32)
    reply = Reply(3, wire.encode_signs(ups, NORMED, 1, mask=HALF, statistics=told))
    with pytest.raises(MPFLError, match="round 1: node 3 replied 2 times"):
        algorithm.aggregate(algorithm.init(begin(NORMED)), 1, [reply, reply])


def test_a_node_that_is_asked_twice_answers_the_same():
    algorithm = method()
    logs = logs_of(algorithm, rounds=3)
    down = algorithm.broadcast(logs[-1].state, 4)
    once = take_turn(algorithm.local, DATA[1], 0, 4, 1, logs[-1].memories[1], down)
    again = algorithm.local(once.memory, down, DATA[1], rng_for(0, "node", 4, 1))
    before = logs[-1].memories[1][LOST]
    assert np.array_equal(again.memory["carried/lost_before"], before)


@PER
@pytest.mark.parametrize("mute", [False, True])
def test_a_run_that_goes_on_from_a_file_equals_one_that_was_never_cut_off(mute, per, tmp_path):
    check_that_it_goes_on_from_a_file(lambda: method(mute=mute, per=per), tmp_path / "at")


# --- who contradicts is muted ---------------------------------------------------------------------


BITS = hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=2, max_side=9))


@given(BITS)
def test_the_correlation_with_others_by_hand(signs):
    found = correlation_with_others(signs)
    for node, mine in enumerate(signs):
        others = [row for other, row in enumerate(signs) if other != node]
        pairs = [(a, b) for row in others for a, b in zip(row, mine, strict=True)]
        by_hand = np.mean([1 if a == b else -1 for a, b in pairs]) if pairs else 0
        assert found[node] == pytest.approx(by_hand)


@pytest.mark.parametrize("bad", range(5))
def test_of_nodes_that_err_alone_exactly_the_inverted_are_below_0(bad):
    rng = rng_for(0, "heard", bad)
    signs = rng.random((10, 20_000)) < np.where(np.arange(10) < bad, 0.42, 0.58)[:, None]
    assert (correlation_with_others(signs) >= 0).tolist() == [node >= bad for node in range(10)]


def test_nodes_that_agree_to_send_the_same_wrong_bits_are_not_found():
    rng = rng_for(0, "heard")
    signs = rng.random((10, 20_000)) < 0.58
    signs[:3] = rng.random(20_000) < 0.42
    assert (correlation_with_others(signs) >= 0).all()


def test_a_standing_adds_up_and_waits_for_who_is_away():
    alike, against = np.ones((3, 4), bool), np.array([[1] * 4, [1] * 4, [0] * 4], bool)
    first = standings({}, [0, 1, 2], alike)
    assert first == {0: 1, 1: 1, 2: 1}
    second = standings(first, [0, 1, 5], against)
    assert second == {0: 1, 1: 1, 2: 1, 5: -1}
    assert standings(second, [0, 1, 2], against) == {0: 1, 1: 1, 2: 0, 5: -1}


def test_a_round_counts_nothing_of_a_node_that_contradicts_the_others():
    """Neither its directions nor its statistics; its length stays in the median. It is named."""
    algorithm = method(mute=True, averages=lambda round_: True)
    state, numbers, means = (
        algorithm.init(begin(NORMED)),
        them().numbers,
        them().others(draw_weights(NORMED)),
    )
    rng = rng_for(0, "ups")
    honest = [(node, rng.random(numbers) < 0.8, node, node) for node in (1, 3, 4, 6, 7)]
    against = [(node, rng.random(numbers) < 0.2, far, 1e6) for node, far in ((2, 0), (5, 1e6))]

    def after(said):
        replies = [
            Reply(
                node,
                wire.encode_signs(
                    up[None],
                    NORMED,
                    1,
                    mask=HALF,
                    statistics=np.array([far] * len(TRAINED) + [mean] * means, np.float32),
                ),
            )
            for node, up, far, mean in sorted(said, key=lambda each: each[0])
        ]
        return algorithm.aggregate(state, 1, replies)

    both, alone = after(honest + against), after(honest)
    assert dict(zip(both.kept["judged"], both.kept["standing"] < 0, strict=True)) == {
        node: node in (2, 5) for node in range(1, 8)
    }
    assert both.kept["muted"].tolist() == [2, 5] and alone.kept["muted"].tolist() == []
    assert same(both.weights, alone.weights)
    assert both.kept["step_lengths"].tolist() == [[4] * len(TRAINED)]
    assert np.array_equal(both.kept[MAJORITIES], alone.kept[MAJORITIES])


def test_a_minority_that_conspires_does_not_decide_alone():
    """Three of ten send the same wrong bits, and honest nodes, right in 58 %, are all below 0."""
    algorithm, numbers = method(mute=True, averages=lambda round_: False), them().numbers
    rng = rng_for(0, "conspiracy")
    ups = rng.random((10, numbers)) < 0.58
    ups[:3] = False
    assert (correlation_with_others(ups) >= 0).tolist() == [True] * 3 + [False] * 7
    replies = []
    for node, up in enumerate(ups):
        told = np.full(len(TRAINED), 1e6 if node < 3 else 1, np.float32)
        payload = wire.encode_signs(up[None], NORMED, 1, mask=HALF, statistics=told)
        replies.append(Reply(node, payload))
    state = algorithm.aggregate(algorithm.init(begin(NORMED)), 1, replies)
    assert state.kept["muted"].tolist() == []
    assert state.kept["step_lengths"].tolist() == [[1] * len(TRAINED)]


def test_muting_changes_nothing_where_nobody_contradicts():
    def alike(weights, mask, data, rng):
        return drift(NORMED)(weights, mask, DATA[0], rng_for(0, "alike"))

    muting, plain = (logs_of(method(train=alike, mute=mute)) for mute in (True, False))
    assert all(not log.state.kept["muted"].size for log in muting)
    assert same(muting[-1].state.weights, plain[-1].state.weights)


@pytest.mark.parametrize(
    "way", ["by_muting_scaled_votes(every=2)", "by_channel_scaled_votes(every=2, muting=True)"]
)
def test_a_run_writes_down_whom_a_round_muted(way, quick, tmp_path):
    bad = ("federated_fault=inverted_update()", "noisy_nodes=1", "nodes=5")
    lines = {}
    for name, changes in {"bad": bad, "honest": bad[2:]}.items():
        run(changed(quick("mpfl", central_epochs=0), [*short(way), *changes]), tmp_path / name)
        lines[name] = read_run(tmp_path / name).federated
    assert [line["muted"] for line in lines["bad"]] == [[0]] * 3
    assert [line["muted"] for line in lines["honest"]] == [[]] * 3


# --- an experiment --------------------------------------------------------------------------------

WAYS = {"tensor": "by_scaled_votes(every=2)", "channel": "by_channel_scaled_votes(every=2)"}


@PER
def test_a_run_sends_what_the_ledger_says(quick, per, tmp_path):
    names = ("mpfl", "lottery", "fedavg", "pruning-fl")
    way = WAYS[per]
    check_that_it_sends_what_its_bill_says(names, quick, way, tmp_path, every=2, lengths=per)


@pytest.mark.usefixtures("types_unchecked")
def test_lengths_go_with_votes(quick):
    bench = Workbench(quick("mpfl"))
    for how in ({}, {"voted": bench.trained, "bits": 4}):
        with pytest.raises(MPFLError, match="lengths go with votes on tensors"):
            bill("mpfl", bench.plan, [5, 5], final_rounds=2, lengths="channel", **how)
    with pytest.raises(MPFLError, match="no lengths per 'layer'; did you mean"):
        bill("mpfl", bench.plan, [5, 5], final_rounds=2, voted=bench.trained, lengths="layer")


@PER
def test_no_message_is_longer_than_it_says(quick, per):
    bench = Workbench(changed(quick("mpfl", nodes=3, central_epochs=0), short(WAYS[per])))
    mask, way = masks.full(bench.layout), bench.experiment.federated
    algorithm = bench.final_algorithm(mask)
    state = algorithm.init(bench.start)
    memory = algorithm.join(algorithm.start(state))
    down = algorithm.broadcast(state, 1)
    reply = bench.turn(mask, 1, 0, memory, down)
    way.read(bench, mask, 1, reply)
    assert len(reply.payload) <= way.longest(bench, mask)


@pytest.mark.usefixtures("types_unchecked")
def test_a_bad_way_is_refused():
    with pytest.raises(MPFLError, match="every is 0; give at least 1"):
        changed(Experiment(), ["federated=by_scaled_votes(every=0)"])
    with pytest.raises(MPFLError, match="muting is 1; give True or False"):
        by_channel_scaled_votes(muting=1)
    with pytest.raises(MPFLError, match="feedback is 1; give True or False"):
        by_channel_scaled_votes(feedback=1)
    for way in ("by_channel_scaled_votes()", "by_quantised_average()"):
        with pytest.raises(MPFLError, match="granularity 'kernel' leaves no whole channels"):
            changed(Experiment(), ["granularity=kernel", f"federated={way}"])
    with pytest.raises(MPFLError, match="no sizes per 'layer'; did you mean"):
        them().sizes("layer")
    assert by_scaled_votes() == by_scaled_votes(feedback=True, every=10)


@pytest.mark.parametrize("bit", ["kernel", "weight"])
def test_what_a_finer_mask_leaves_has_no_channels(bit):
    layout = finer(NORMED, bit)
    left = Directions(layout, masks.full(layout), TRAINED)
    assert sum(left.sizes("tensor")) == left.numbers
    says = "layer .* is masked by kernel or weight, which leaves no whole channels"
    with pytest.raises(MPFLError, match=says):
        left.sizes("channel")
    plan = Plan(layout, geometric(0.15), 2)
    for how in ({"lengths": "channel"}, {"bits": 4}):
        with pytest.raises(MPFLError, match=says):
            bill("mpfl", plan, [5, 5], final_rounds=2, voted=TRAINED, **how)
    with pytest.raises(MPFLError, match="name each tensor once"):
        bill("mpfl", plan, [5, 5], final_rounds=2, voted=TRAINED[:1] * 2)
