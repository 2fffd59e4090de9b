"""What MPFL is measured against: averaging by hand and against loops, and the controls."""

import re
from itertools import pairwise

import numpy as np
import pytest
from federation import DATA, WIDE, begin, drift, half, recorded, run
from hypothesis import given, settings
from hypothesis import strategies as st
from toys import TOY, chain, draw_weights, inside, mask_of, same, written

from mpfl import masks, wire
from mpfl.algorithm import Algorithm, Start, State
from mpfl.allocate import even, over_network, power
from mpfl.baselines.controls import iterated_norms, lottery, w0_norms, without_messages
from mpfl.baselines.fedavg import average, fedavg
from mpfl.baselines.pruning_fl import implied_mask, pruning_fl
from mpfl.baselines.released_fl import released_fl
from mpfl.filters import apply, cut, cut_shapes
from mpfl.masks import Keep
from mpfl.node import Plan
from mpfl.prune import l1, l2, random, rms_weight, select
from mpfl.schedules import cubic, geometric, linear, one_shot
from mpfl.seeds import rng_for
from mpfl.server import masked_pruning
from mpfl.simulation import Resume, simulate, take_turn
from mpfl.types import MPFLError, Reply, Update
from mpfl.vote import share

IMAGES = [5, 8, 3]
PLAN = Plan(WIDE, linear(0.6), rounds=3)
HALF = half(WIDE)
TRAIN = drift(WIDE)


def initialise(seed):
    return draw_weights(WIDE, seed)


def at_the_centre(weights, mask, rng):
    return TRAIN(weights, mask, np.full(16, 1.0), rng)


# One row a method. The controls send no message but w0.
TABLE: dict[str, Algorithm] = {
    "mpfl": masked_pruning(PLAN, initialise, TRAIN),
    "fedavg": fedavg(WIDE, initialise, TRAIN),
    "fedavg of a mask": fedavg(WIDE, initialise, TRAIN, mask=HALF),
    "pruning-fl": pruning_fl(PLAN, initialise, TRAIN),
    "pruning-fl at random": pruning_fl(PLAN, initialise, TRAIN, score=random),
    "released-fl": released_fl(PLAN, initialise, TRAIN, at_the_centre, draw_weights(WIDE)),
    "lottery": lottery(PLAN, initialise, seed=1),
    "w0-norms": w0_norms(PLAN, initialise),
    "iterated-norms": iterated_norms(PLAN, initialise),
}
CONTROLS = ("lottery", "w0-norms")
every_method = pytest.mark.parametrize("name", TABLE)
every_control = pytest.mark.parametrize("name", CONTROLS)
averaging = pytest.mark.parametrize("name", ["fedavg", "fedavg of a mask", "pruning-fl"])


def run3(algorithm, data=DATA, rounds=3, **how):
    """A run of three rounds."""
    return run(algorithm, data, rounds, **how)


def close(one, other):
    return list(one) == list(other) and all(
        one[name].dtype == other[name].dtype
        and np.allclose(one[name], other[name], rtol=1e-6, atol=1e-6)
        for name in one
    )


# --- laws of every method --------------------------------------------------------------------


@every_method
def test_masks_only_lose_filters_and_no_layer_is_empty(name):
    consensus = [masks.full(WIDE), *(log.state.mask for log in run3(TABLE[name]))]
    assert all(inside(later, earlier) for earlier, later in pairwise(consensus))
    assert all(bits.any() for mask in consensus for bits in mask.values())


@every_method
def test_every_byte_is_counted(name):
    algorithm, messages = recorded(TABLE[name])
    logs = run3(algorithm)
    assert [(what, round_) for what, round_, _ in messages if what == "start"] == [("start", 0)]
    assert [log.start_bytes for log in logs] == [3 * len(messages[0][2]), 0, 0]
    for log in logs:
        up = [len(m) for what, round_, m in messages if (what, round_) == ("up", log.round)]
        down = [len(m) for what, round_, m in messages if (what, round_) == ("down", log.round)]
        assert log.payloads == tuple(up) and log.bytes_up == sum(up)
        assert log.bytes_down == 3 * sum(down) and len(down) == 1


@every_method
def test_a_run_that_goes_on_equals_one_that_was_never_cut_off(name):
    whole, messages = recorded(TABLE[name])
    logs = run3(whole)
    for log in logs:
        later, rest = recorded(TABLE[name])
        again = run3(later, resume=Resume(log.round, log.state, log.memories))
        assert rest == [message for message in messages if message[1] > log.round]
        for one, other in zip(again, logs[log.round :], strict=True):
            assert same(one.state.mask, other.state.mask)
            assert same(one.state.weights, other.state.weights)


@every_method
def test_aggregating_leaves_the_state_before_as_it_was(name):
    algorithm = TABLE[name]
    state = algorithm.init(begin(WIDE))
    down = algorithm.broadcast(state, 1)
    memory = algorithm.join(algorithm.start(state))
    reply = take_turn(algorithm.local, DATA[0], 0, 1, 0, memory, down)
    algorithm.aggregate(state, 1, [reply])
    before = algorithm.init(begin(WIDE))
    assert same(state.weights, before.weights) and same(memory, draw_weights(WIDE))
    assert same(state.mask, before.mask)


@every_method
def test_the_order_of_the_replies_changes_nothing(name):
    algorithm = TABLE[name]
    state = algorithm.init(begin(WIDE))
    down = algorithm.broadcast(state, 1)
    replies = [
        take_turn(algorithm.local, data, 0, 1, node, state.weights, down)
        for node, data in enumerate(DATA)
    ]
    one, other = (algorithm.aggregate(state, 1, each) for each in (replies, replies[::-1]))
    assert same(one.mask, other.mask) and close(one.weights, other.weights)


# --- averaging -------------------------------------------------------------------------------


def test_an_average_by_hand():
    # One image and three: a quarter of the first, three quarters of the second.
    one = {"w": np.array([[4.0, 0], [8, 2]], np.float32), "n": np.array(1)}
    other = {"w": np.array([[0.0, 4], [8, 6]], np.float32), "n": np.array(2)}
    mean = average([one, other], [1, 3])
    assert mean["w"].tolist() == [[1, 3], [8, 5]] and mean["w"].dtype == np.float32
    assert mean["n"] == 2 and mean["n"].dtype == one["n"].dtype  # 1.75, rounded
    assert average([one, other], [1, 0])["w"].tolist() == one["w"].tolist()


@settings(max_examples=30)
@given(st.lists(st.integers(0, 50), min_size=1, max_size=4).filter(any), st.integers(0, 9))
def test_averages(images, seed):
    states = [draw_weights(TOY, seed + i) for i in range(len(images))]
    mean = average(states, images)
    for name in TOY.shapes:
        slow = sum(n * state[name].astype(float) for n, state in zip(images, states, strict=True))
        slow = slow / sum(images)
        if name == "steps":
            assert abs(mean[name] - slow) <= 0.5 + 1e-9
        else:
            assert np.allclose(mean[name], slow, rtol=1e-6)
    # Equal weights average to themselves, to the last bit.
    assert same(average([states[0]] * len(images), images), states[0])
    assert close(average(states[::-1], images[::-1]), mean)


def test_integers_that_are_equal_stay_what_they_are():
    # 5/22 + 8/22 + 9/22 of 49 is 48.99999999999999 in floating point.
    for images in ([5, 8, 9], [1, 3, 6], [3, 7, 11]):
        for value in range(1, 60):
            assert average([{"n": np.array(value)}] * 3, images)["n"] == value


def test_nodes_without_images_have_no_average():
    with pytest.raises(MPFLError, match="the nodes hold no data between them"):
        average([draw_weights(TOY)], [0])


def slow_fedavg(rounds, mask):
    """McMahan et al. 2017, algorithm 1, with every node in every round."""
    weights = apply(draw_weights(WIDE), mask, WIDE)
    for round_ in range(1, rounds + 1):
        trained = [
            TRAIN(weights, mask, data, rng_for(0, "node", round_, node)).weights
            for node, data in enumerate(DATA)
        ]
        for name in weights:
            mean = sum(n / 16 * t[name].astype(float) for n, t in zip(IMAGES, trained, strict=True))
            mean = np.rint(mean) if name == "steps" else mean
            weights = weights | {name: np.asarray(mean, dtype=weights[name].dtype)}
    return weights


@pytest.mark.parametrize("mask", [None, HALF], ids=["dense", "mask"])
def test_fedavg_is_its_slow_twin(mask):
    logs = run3(fedavg(WIDE, initialise, TRAIN, mask=mask))
    held = masks.full(WIDE) if mask is None else mask
    assert close(logs[-1].state.weights, slow_fedavg(3, held))
    assert all(same(log.state.mask, held) for log in logs)
    assert all(same(memory, draw_weights(WIDE)) for memory in logs[-1].memories)


def test_with_a_mask_only_kept_slices_travel_and_zeros_stay_zeros():
    dense, small = (recorded(TABLE[name]) for name in ("fedavg", "fedavg of a mask"))
    for algorithm, _ in (dense, small):
        logs = run3(algorithm)
    assert same(logs[-1].state.weights, apply(logs[-1].state.weights, HALF, WIDE))
    assert np.count_nonzero(logs[-1].state.weights["layer1.weight"]) == 6 * 8
    sizes = []
    for layout_shapes, (_, sent) in zip(
        (WIDE.shapes, cut_shapes(WIDE, HALF)), (dense, small), strict=True
    ):
        ways = {what: [m for w, r, m in sent if (w, r) == (what, 2)] for what in ("down", "up")}
        floats = sum(int(np.prod(shape)) for name, shape in layout_shapes.items() if shape)
        for message in (*ways["down"], *ways["up"]):
            # Four bytes a float, eight for the one counter, and what safetensors and the
            # frame write round them.
            assert 0 < len(message) - 4 * floats - 8 < 1600
        sizes.append(len(ways["up"][0]))
    assert sizes[1] < sizes[0]


def test_the_first_round_of_averaging_sends_no_weights_down():
    for name in ("fedavg", "pruning-fl"):
        _, messages = run_recorded(TABLE[name])
        down = [wire.kind_of(message) for what, _, message in messages if what == "down"]
        assert down == [wire.Kind.EMPTY, wire.Kind.WEIGHTS, wire.Kind.WEIGHTS]


def run_recorded(algorithm):
    algorithm, messages = recorded(algorithm)
    return run3(algorithm), messages


def test_the_final_training_can_start_from_a_consensus_that_is_sent():
    message = wire.encode_mask(HALF, WIDE, 9, reference=masks.full(WIDE))
    algorithm = fedavg(
        WIDE,
        initialise,
        TRAIN,
        mask=HALF,
        start=lambda state: message,
        join=lambda sent: draw_weights(WIDE) if sent == message else {},
    )
    logs = run3(algorithm)
    assert logs[0].start_bytes == 3 * len(message)
    assert close(logs[-1].state.weights, slow_fedavg(3, HALF))


@averaging
@pytest.mark.parametrize(
    ("payload", "message"),
    [
        (b"", "payload is too short"),
        (wire.encode_empty(WIDE, 2), "payload is of kind EMPTY"),
        (wire.encode_weights(draw_weights(TOY), TOY, 2, samples=1), "for another model?"),
        (wire.encode_weights(draw_weights(WIDE), WIDE, 1, samples=1), "of round 1, not 2"),
        (None, "weights came without their number of images"),
    ],
)
def test_bad_weights_name_their_node_and_the_round(name, payload, message):
    held = HALF if name == "fedavg of a mask" else None
    good = wire.encode_weights(draw_weights(WIDE), WIDE, 2, mask=held, samples=1)
    if payload is None:
        payload = wire.encode_weights(draw_weights(WIDE), WIDE, 2, mask=held)
    state = State(draw_weights(WIDE), masks.full(WIDE))
    with pytest.raises(MPFLError, match=f"^node 4, round 2, decode: .*{re.escape(message)}"):
        TABLE[name].aggregate(state, 2, [Reply(0, good), Reply(4, payload)])


@averaging
def test_a_round_without_replies_is_refused(name):
    with pytest.raises(MPFLError, match="round 1: no node replied"):
        run3(TABLE[name], data=[])


@averaging
def test_a_node_refuses_a_broadcast_of_another_model(name):
    for message in (
        wire.encode_empty(TOY, 1),
        wire.encode_weights(draw_weights(TOY), TOY, 2),
        wire.encode_mask(masks.full(WIDE), WIDE, 1, reference=masks.full(WIDE)),
    ):
        with pytest.raises(MPFLError, match=r"payload is (for (model )?[0-9a-f]{8}|of kind)"):
            TABLE[name].local(draw_weights(WIDE), message, DATA[0], rng_for(0))


# --- The released code's federated curve -----------------------------------------------------


def test_the_mask_is_that_of_the_centres_own_weights_and_not_of_the_average():
    logs, w0, mask = run3(TABLE["released-fl"]), draw_weights(WIDE), masks.full(WIDE)
    others = 0
    for log in logs:
        trained = [
            TRAIN(apply(w0, mask, WIDE), mask, data, rng_for(0, "node", log.round, node)).weights
            for node, data in enumerate(DATA)
        ]
        mean, keep = average(trained, IMAGES), PLAN.keep(log.round, mask)
        stale = at_the_centre(apply(w0, mask, WIDE), mask, rng_for(0, "centre", log.round))
        by = [
            select({layer.name: l2(update, layer, rng_for(0)) for layer in WIDE.layers}, mask, keep)
            for update in (stale, Update(mean))
        ]
        mask = by[0]
        others += not same(*by)
        assert same(log.state.mask, mask)
        assert same(log.state.weights, apply(mean, mask, WIDE))
        assert log.bytes_up == sum(
            len(wire.encode_weights(each, WIDE, log.round, samples=n))
            for each, n in zip(trained, IMAGES, strict=True)
        )
    assert others, "the average would have given the same masks"


def test_what_the_nodes_send_decides_nothing():
    sent = [run3(TABLE["released-fl"], data=[part * scale for part in DATA]) for scale in (1, 9)]
    for one, other in zip(*sent, strict=True):
        assert same(one.state.mask, other.state.mask)
        assert not same(one.state.weights, other.state.weights)


# --- Pruning-FL ------------------------------------------------------------------------------


def test_a_mask_is_read_off_the_zeros():
    mask = mask_of(TOY, "#.##", ".##", "##.#.")
    assert same(implied_mask(apply(draw_weights(TOY), mask, TOY), TOY), mask)
    # One weight that is not zero is enough, and a bias alone is not.
    weights = {name: np.zeros_like(array) for name, array in draw_weights(TOY).items()}
    weights["conv1.weight"][2, 0, 1, 1] = -1e-30
    weights["conv2.bias"][0] = 1
    assert written(implied_mask(weights, TOY)) == ["..#.", "...", "....."]


@pytest.mark.parametrize("score", [l2, l1])
def test_pruning_fl_is_its_slow_twin(score):
    logs = run3(pruning_fl(PLAN, initialise, TRAIN, score=score))
    weights, mask = draw_weights(WIDE), masks.full(WIDE)
    for log in logs:
        trained = [
            TRAIN(weights, mask, data, rng_for(0, "node", log.round, node)).weights
            for node, data in enumerate(DATA)
        ]
        mean = average(trained, IMAGES)
        scores = {layer.name: score(Update(mean), layer, rng_for(0)) for layer in WIDE.layers}
        mask = select(scores, mask, PLAN.keep(log.round, mask))
        weights = apply(mean, mask, WIDE)
        assert same(log.state.mask, mask) and same(log.state.weights, weights)
        assert same(implied_mask(log.state.weights, WIDE), mask)


def test_pruning_fl_sends_its_zeros():
    logs = run3(TABLE["pruning-fl"])
    assert len({size for log in logs for size in log.payloads}) == 1
    assert logs[-1].sparsity > 0.55


@pytest.mark.parametrize("name", ["pruning-fl", *CONTROLS])
@pytest.mark.parametrize(
    "schedule", [linear(0.6), one_shot(0.6), cubic(0.6), geometric(0.3)], ids=str
)
@pytest.mark.parametrize("quota", [even(), power(0.5), over_network()], ids=str)
def test_counts_are_those_of_the_plan(name, schedule, quota):
    plan = Plan(WIDE, schedule, 3, quota)
    algorithm = {
        "pruning-fl": lambda: pruning_fl(plan, initialise, TRAIN, score=rms_weight),
        "lottery": lambda: lottery(plan, initialise, seed=2),
        "w0-norms": lambda: w0_norms(plan, initialise, score=rms_weight),
    }[name]()
    alive = masks.full(WIDE)
    for log in run3(algorithm, data=DATA[:1]):
        kept, asked = masks.counts(log.state.mask), plan.keep(log.round, alive)
        for group, count in asked.counts.items():
            assert sum(kept[name] for name in group) == count
        alive = log.state.mask


# --- controls --------------------------------------------------------------------------------


@every_control
@pytest.mark.parametrize("data", [DATA, []], ids=["nodes", "nobody"])
def test_controls_send_nothing_and_leave_the_weights_alone(name, data):
    logs = run3(TABLE[name], data=data)
    for log in logs:
        assert log.bytes_down == log.bytes_up == 0
        assert log.payloads == (0,) * len(data)
        assert same(log.state.weights, draw_weights(WIDE))
        keep = PLAN.keep(log.round, masks.full(WIDE))
        assert Keep.by_layer(masks.counts(log.state.mask)) == keep
        with pytest.raises(MPFLError, match=rf"^round {log.round}: nobody voted; ask a log of"):
            _ = log.outcome


def last_mask(algorithm, **how):
    return run3(algorithm, data=[], **how)[-1].state.mask


def test_a_lottery_is_a_function_of_its_seed_alone():
    one = last_mask(lottery(PLAN, initialise, seed=1))
    assert same(one, last_mask(lottery(PLAN, initialise, seed=1), seed=7))
    others = [last_mask(lottery(PLAN, initialise, seed=seed)) for seed in range(2, 6)]
    assert not any(same(one, other) for other in others)
    # They do not look at the weights.
    start = Start(draw_weights(WIDE, 8))
    logs = list(simulate(lottery(PLAN, initialise, seed=1), [], start, 3, 0))
    assert same(one, logs[-1].state.mask)


@every_control
def test_a_control_ends_at_one_mask_however_many_rounds_lead_there(name):
    make = {
        "lottery": lambda plan: lottery(plan, initialise, seed=1),
        "w0-norms": lambda plan: w0_norms(plan, initialise),
    }[name]
    at_once = last_mask(make(Plan(WIDE, one_shot(0.6), 1)), rounds=1)
    assert same(at_once, last_mask(make(PLAN)))


def test_a_lottery_favours_no_filter():
    layout = chain([4])
    plan = Plan(layout, one_shot(0.5), 1)
    start = State(draw_weights(layout), masks.full(layout))
    kept = np.zeros(4)
    for seed in range(50):
        kept += lottery(plan, initialise, seed=seed).aggregate(start, 1, []).mask["layer0"]
    assert kept.sum() == 100 and kept == pytest.approx([25] * 4, abs=12)


def test_iterated_norms_rank_what_is_left_of_w0():
    """Round by round the largest of w0 under the last mask: a slow twin, from its definition."""
    alive = masks.full(WIDE)
    for log in run3(iterated_norms(PLAN, initialise), data=[]):
        left = apply(draw_weights(WIDE), alive, WIDE)
        for layer in WIDE.layers:
            sizes = np.linalg.norm(left[layer.weight].reshape(layer.filters, -1), axis=1)
            kept = log.state.mask[layer.name]
            gone = alive[layer.name] & ~kept
            assert not gone.any() or sizes[kept].min() >= sizes[gone].max()
        assert not any((log.state.mask[n] & ~alive[n]).any() for n in alive)
        alive = log.state.mask
    apart = last_mask(w0_norms(PLAN, initialise))
    assert not same(alive, apart), "on these weights the two controls differ"


def test_w0_norms_keep_the_largest_filters_of_w0():
    mask = last_mask(w0_norms(PLAN, initialise))
    for layer in WIDE.layers:
        norms = np.linalg.norm(draw_weights(WIDE)[layer.weight], axis=1)
        kept = mask[layer.name]
        assert norms[kept].min() >= norms[~kept].max()


@every_control
def test_a_control_can_take_over_the_counts_of_another_run(name):
    # A vote by unanimity overshoots the schedule; the control overshoots alike.
    recorded_run = run3(masked_pruning(PLAN, initialise, TRAIN, vote=share(1)))
    counts = [masks.counts(log.state.mask) for log in recorded_run]
    assert Keep.by_layer(counts[0]) != PLAN.keep(1, masks.full(WIDE))
    make = {"lottery": lottery, "w0-norms": w0_norms}[name]
    seed = {"seed": 3} if name == "lottery" else {}
    logs = run3(make(PLAN, initialise, counts=lambda round_: counts[round_ - 1], **seed), data=[])
    assert [masks.counts(log.state.mask) for log in logs] == counts
    assert all(inside(b.state.mask, a.state.mask) for a, b in pairwise(logs))


def test_any_score_of_w0_makes_a_control():
    algorithm = without_messages("w0-l1", PLAN, initialise, score=l1)
    assert algorithm.name == "w0-l1"
    weights = draw_weights(WIDE)
    scores = {layer.name: l1(Update(weights), layer, rng_for(0)) for layer in WIDE.layers}
    expected = select(scores, masks.full(WIDE), PLAN.keep(3, masks.full(WIDE)))
    assert same(last_mask(algorithm), expected)


def test_names_are_told_apart():
    names = {algorithm.name for algorithm in TABLE.values()}
    controls = {"lottery", "w0-norms", "iterated-norms"}
    assert names == {"mpfl", "fedavg", "pruning-fl", "released-fl"} | controls


def test_what_is_cut_is_what_is_sent():
    weights = draw_weights(WIDE)
    payload = wire.encode_weights(weights, WIDE, 2, mask=HALF, samples=5)
    back, images = wire.decode_weights(payload, WIDE, 2, mask=HALF)
    assert images == 5 and same(back, cut(weights, HALF, WIDE))
