"""Averages in a few bits per weight: against torch, against loops, and to the byte."""

import numpy as np
import pytest
import torch
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

from mpfl import wire
from mpfl.baselines.quantised import (
    brought_up_by_levels,
    dequantise,
    quantise,
    quantised_average,
)
from mpfl.filters import apply, cut, expand
from mpfl.runs.experiment import Experiment
from mpfl.runs.folder import load_tensors
from mpfl.runs.runner import run as run_experiment
from mpfl.runs.text import changed
from mpfl.seeds import rng_for
from mpfl.sign_votes import LOST, channel_sizes
from mpfl.simulation import take_turn
from mpfl.types import BehindError, MPFLError, Reply, Update


def method(mask=HALF, train=None, **how):
    given = {"sent": TRAINED, "bits": 4, "feedback": False, "averages": averages, **how}
    return quantised_average(NORMED, initialise(NORMED), train or drift(NORMED), mask=mask, **given)


# --- the quantiser --------------------------------------------------------------------------------


@given(st.integers(2, 8), st.lists(st.integers(1, 9), min_size=1, max_size=5), st.integers(0, 99))
def test_the_quantiser_is_that_of_torch(bits, sizes, seed):
    """Torch multiplies by the scale's inverse, so a tie may fall to the level beside ours."""
    numbers = rng_for(seed, "numbers").standard_normal(sum(sizes)).astype(np.float32)
    levels, scales = quantise(numbers, sizes, bits)
    top = wire.highest_level(bits)
    ours = dequantise(levels, scales, sizes)
    begin_ = 0
    for size, scale in zip(sizes, scales, strict=True):
        part = slice(begin_, begin_ + size)
        theirs = torch.fake_quantize_per_channel_affine(
            torch.tensor(numbers[part])[None],
            torch.tensor([scale]),
            torch.zeros(1, dtype=torch.int32),
            0,
            -top,
            top,
        )[0].numpy()
        tie = np.abs(np.abs(numbers[part] / scale) % 1 - 0.5) < 1e-4
        np.testing.assert_allclose(ours[part][~tie], theirs[~tie], rtol=1e-6)
        assert (np.abs(ours[part] - numbers[part]) <= scale * 0.5001).all()
        assert np.abs(levels[part]).max() == top
        begin_ += size


def test_a_channel_that_does_not_move_or_hardly_does_stays_finite():
    tiny = np.float32(1e-45)  # the smallest float there is: its scale is 0
    levels, scales = quantise(np.array([0, 0, tiny, 3], np.float32), [2, 1, 1], 8)
    assert scales[:2].tolist() == [0, 0]
    assert dequantise(levels, scales, [2, 1, 1]).tolist() == [0, 0, 0, 3]
    assert [len(each) for each in quantise(np.zeros(0, np.float32), [], 8)] == [0, 0]


@pytest.mark.parametrize(
    ("numbers", "sizes", "message"),
    [
        ([1, 2, 3], [2], "channels of 2 numbers, each of at least one, for 3"),
        ([1, 2, 3], [2, 0, 1], "channels of 3 numbers, each of at least one, for 3"),
        ([1, np.nan], [2], "NaN or infinite"),
        ([1, -np.inf], [1, 1], "NaN or infinite"),
    ],
)
def test_what_has_no_levels_is_refused(numbers, sizes, message):
    with pytest.raises(MPFLError, match=message):
        quantise(np.array(numbers, np.float32), sizes, 4)


def test_a_channel_is_a_row_and_a_vector_is_one():
    assert channel_sizes([(3, 2, 2), (5,), (), (0, 4)]) == [4, 4, 4, 5, 1]


# --- the algorithm --------------------------------------------------------------------------------


def slow_quantised_average(bits, feedback, mask=HALF):
    """The same by loops over nodes, channels and numbers."""

    def rounded(way):
        out = {}
        for name, array in way.items():
            rows = array.reshape(array.shape[0], -1) if array.ndim > 1 else array.reshape(1, -1)
            scales = np.abs(rows).max(axis=1) / np.float32(2 ** (bits - 1) - 1)
            out[name] = np.array(
                [
                    [np.rint(x / scale) * scale if scale else 0 for x in row]
                    for row, scale in zip(rows, scales, strict=True)
                ],
                np.float32,
            ).reshape(array.shape)
        return out

    weights = apply(draw_weights(NORMED), mask, NORMED)
    own = [weights] * len(DATA)  # each node's statistics are its own
    lost = [{}] * (len(DATA) + 1)  # the server's is the last
    shares = np.array([len(data) for data in DATA]) / sum(map(len, DATA))
    for round_ in range(1, ROUNDS + 1):
        small = cut({name: weights[name] for name in TRAINED}, mask, NORMED)
        sent, trained = [], []
        for node, data in enumerate(DATA):
            begun = {**weights, **{n: own[node][n] for n in weights if n.endswith(".mean")}}
            ended = drift(NORMED)(begun, mask, data, rng_for(0, "node", round_, node)).weights
            moved = cut({n: ended[n] for n in TRAINED}, mask, NORMED)
            way = {n: moved[n] - small[n] + lost[node].get(n, np.float32(0)) for n in TRAINED}
            step = rounded(way)
            lost[node] = {n: way[n] - step[n] for n in TRAINED} if feedback else {}
            sent.append(step)
            trained.append(ended)
        mean = {
            n: sum(s * step[n].astype(float) for s, step in zip(shares, sent, strict=True)).astype(
                np.float32
            )
            + lost[-1].get(n, np.float32(0))
            for n in TRAINED
        }
        step = rounded(mean)
        lost[-1] = {n: mean[n] - step[n] for n in TRAINED} if feedback else {}
        stepped = {n: small[n] + step[n] for n in TRAINED}
        if averages(round_):
            for name in (n for n in weights if n.endswith(".mean")):
                rows = [cut(each, mask, NORMED)[name].astype(float) for each in trained]
                stepped[name] = sum(s * row for s, row in zip(shares, rows, strict=True)).astype(
                    np.float32
                )
        weights = {**weights, **expand(stepped, mask, NORMED)}
        own = trained
    return weights


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("feedback", [False, True])
def test_quantised_averaging_is_its_slow_twin_to_the_bit(bits, feedback):
    logs = logs_of(method(bits=bits, feedback=feedback))
    assert same(logs[-1].state.weights, slow_quantised_average(bits, feedback))


def test_with_feedback_what_rounding_lost_comes_back():
    """Two bits send a small number never; what is remembered sends it when it has grown."""

    def crawl(weights, mask, data, rng):
        moved = {n: a + np.float32(0.1) if n in TRAINED else a for n, a in weights.items()}
        first = {n: moved[n].copy() for n in TRAINED}
        for array in first.values():
            array.reshape(-1)[0] += np.float32(0.9)  # the one that sets the scale of its channel
        return Update(apply(moved | first, mask, NORMED))

    begun = apply(draw_weights(NORMED), HALF, NORMED)
    far = {}
    for feedback in (False, True):
        last = logs_of(method(bits=2, feedback=feedback, train=crawl))[-1].state.weights
        far[feedback] = last["layer1.bias"][2] - begun["layer1.bias"][2]
    assert far[False] == 0 and far[True] >= 0.5


def test_every_node_holds_the_servers_weights_after_its_next_message():
    algorithm = method(feedback=True)
    for log in logs_of(algorithm):
        down = algorithm.broadcast(log.state, log.round + 1)
        for memory in log.memories:
            held = brought_up_by_levels(memory, down, them(), 4)
            assert all(np.array_equal(held[n], log.state.weights[n]) for n in TRAINED)


def test_what_crosses_is_levels_and_at_times_statistics():
    algorithm, messages = recorded(method())
    logs = logs_of(algorithm)
    channels = len(channel_sizes(them().shapes[n] for n in TRAINED))
    means = sum(int(bits.sum()) for bits in HALF.values())
    for what, round_, message in messages:
        more = means if what == "up" and averages(round_) else 0
        length = wire.levels_length(them().numbers, channels, bits=4, statistics=more)
        if what != "start":
            assert len(message) == (14 if (what, round_) == ("down", 1) else length)
    assert [log.state.testable for log in logs] == [False, False, False, True, False, True]


@pytest.mark.parametrize("since", range(ROUNDS + 1))
def test_a_node_that_was_away_is_sent_the_weights(since):
    algorithm = method()
    logs = logs_of(algorithm)
    memory = logs[since - 1].memories[0] if since else draw_weights(NORMED)
    state, next_round = logs[-1].state, ROUNDS + 1
    message = algorithm.catch_up(state, next_round, since)
    near = since == ROUNDS
    assert (wire.kind_of(message) == wire.Kind.LEVELS) == near
    held = brought_up_by_levels(memory, message, them(), 4)
    assert all(np.array_equal(held[n], state.weights[n]) for n in TRAINED)
    if not near:
        with pytest.raises(BehindError, match="ask for those in between"):
            algorithm.local(
                memory, algorithm.broadcast(state, next_round), DATA[0], rng_for(0, "x")
            )


def test_a_node_that_is_asked_twice_answers_the_same():
    """Though it remembers already what its first answer lost."""
    algorithm = method(feedback=True)
    logs = logs_of(algorithm, rounds=3)
    down = algorithm.broadcast(logs[-1].state, 4)
    once = take_turn(algorithm.local, DATA[1], 0, 4, 1, logs[-1].memories[1], down)
    again = take_turn(algorithm.local, DATA[1], 0, 4, 1, once.memory, down)
    # Its statistics have moved on by one training, as they do where nothing is quantised.
    assert np.array_equal(once.memory[LOST], again.memory[LOST])
    assert once.payload[:-4] == again.payload[:-4] or averages(4)


def test_a_run_that_goes_on_from_a_file_equals_one_that_was_never_cut_off(tmp_path):
    check_that_it_goes_on_from_a_file(lambda: method(feedback=True), tmp_path / "at")


def test_a_damaged_reply_names_its_node():
    algorithm = method()
    state = algorithm.init(begin(NORMED))
    down = algorithm.broadcast(state, 1)
    memory = algorithm.join(algorithm.start(state))
    good = algorithm.local(memory, down, DATA[0], rng_for(0, "node")).payload
    sizes = channel_sizes(them().shapes[n] for n in TRAINED)
    how = {"bits": 4, "mask": HALF}
    levels = np.full(sum(sizes), 7, np.int8)
    none = wire.encode_levels(levels, np.ones(len(sizes), np.float32), NORMED, 1, **how)
    short = wire.encode_levels(levels[:8], np.ones(1, np.float32), NORMED, 1, **how, samples=1)
    for bad, message in [
        (none, "a step came without its number of images"),
        (short, "body holds 12 bytes"),
    ]:
        with pytest.raises(MPFLError, match=f"node 7, round 1, decode: {message}"):
            algorithm.aggregate(state, 1, [Reply(3, good), Reply(7, bad)])


# --- an experiment --------------------------------------------------------------------------------

WAY = "by_quantised_average(bits=4, feedback=True, every=2)"


def test_a_run_sends_what_the_ledger_says(quick, tmp_path):
    names = ("mpfl", "fedavg")
    check_that_it_sends_what_its_bill_says(names, quick, WAY, tmp_path, every=2, bits=4)


def test_workers_change_no_bit_and_eight_bits_are_near_floats(quick, tmp_path):
    experiment = changed(quick("lottery", nodes=3, central_epochs=0), short(WAY))
    for folder, workers in (("one", 1), ("two", 2)):
        run_experiment(experiment, tmp_path / folder, workers=workers)
    files = [(tmp_path / folder / "model.safetensors").read_bytes() for folder in ("one", "two")]
    assert files[0] == files[1]
    ends = {}
    for way in ("by_average()", "by_quantised_average(bits=8)", "by_quantised_average(bits=2)"):
        other = changed(experiment, [f"federated={way}"])
        run_experiment(other, tmp_path / str(len(ends)))
        ends[way] = load_tensors(tmp_path / str(len(ends)) / "model.safetensors")
    floats, eight, two = ends.values()
    name = next(n for n in floats if n.endswith("weight"))
    off = [np.abs(each[name] - floats[name]).max() for each in (eight, two)]
    assert 0 < off[0] < off[1] / 10


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("by_quantised_average(bits=1)", "bits is 1; give 2 to 8"),
        ("by_quantised_average(bits=9)", "bits is 9; give 2 to 8"),
        ("by_quantised_average(every=0)", "every is 0; give at least 1"),
    ],
)
def test_a_bad_setting_is_refused(text, message):
    with pytest.raises(MPFLError, match=message):
        changed(Experiment(), [f"federated={text}"])
