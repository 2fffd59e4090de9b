"""Masks of filters, kernels and single weights: one code path, the same laws."""

import time
from dataclasses import replace

import numpy as np
import pytest
import safetensors.numpy
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from toys import TOY, draw_weights, random_mask, result_of, same

from mpfl import masks, wire
from mpfl.allocate import even, over_network, power
from mpfl.evidence.alike import mask_of
from mpfl.filters import Layer, Layout, Slices, apply, cut, cut_shapes, expand
from mpfl.granularity import finer
from mpfl.masks import Keep
from mpfl.nets.networks import blueprint, build
from mpfl.nets.settings import Settings
from mpfl.nets.shard import Shard
from mpfl.nets.start import initial_weights
from mpfl.nets.tracing import layout_of
from mpfl.nets.trainer import Trainer
from mpfl.node import Plan
from mpfl.prune import SCORES, rms_weight, score_layers, taylor
from mpfl.runs.experiment import Experiment, identity
from mpfl.runs.export import export
from mpfl.runs.folder import read_lines
from mpfl.runs.record import MOST_RECORDED, ballots_of, keep_record, kept_counts, read_run
from mpfl.runs.runner import run
from mpfl.runs.workbench import Workbench
from mpfl.schedules import one_shot
from mpfl.seeds import rng_for
from mpfl.server import decide
from mpfl.simulation import simulate
from mpfl.types import MPFLError, Update
from mpfl.vote import RULES, most_votes, published_percentile, share
from mpfl.wire import Ballots
from mpfl.wire.range_coder import MOST_EXACT

BITS = ("filter", "kernel", "weight")
FINER = BITS[1:]
each_bit = pytest.mark.parametrize("bit", BITS)
each_finer = pytest.mark.parametrize("bit", FINER)
WEIGHTS = {"conv1": 4 * 1 * 2 * 2, "conv2": 3 * 4 * 1 * 2, "fc": 5 * 6}


# --- the layout ------------------------------------------------------------------------------


def test_bits_by_hand():
    assert finer(TOY, "filter") is TOY
    assert finer(TOY, "kernel").sizes == {"conv1": 4, "conv2": 12, "fc": 30}
    assert finer(TOY, "weight").sizes == WEIGHTS
    assert [layer.grid for layer in finer(TOY, "kernel").layers] == [(4, 1), (3, 4), (5, 6)]
    assert finer(TOY, "weight").filter_sizes == dict.fromkeys(WEIGHTS, 1)
    assert finer(TOY, "kernel").filter_sizes == {"conv1": 4, "conv2": 2, "fc": 1}


@pytest.mark.parametrize(
    ("width", "bits"),
    [(1.0, (2752, 1_024_192, 9_217_728)), (0.5, (1376, 256_096, 2_304_864))],
)
def test_bits_of_vgg11(width, bits):
    layout = blueprint("vgg11-bn", 10, width=width)
    assert tuple(finer(layout, bit).filters for bit in BITS) == bits


def test_layouts_of_equal_counts_have_names_of_their_own():
    # One input channel: as many kernels as filters, yet a kernel has no bias.
    one = Layout((Layer("a", 3, "w", ("w", "b")),), {"w": (3, 1, 2, 2), "b": (3,)})
    dots = Layout((Layer("a", 3, "w", ("w",)),), {"w": (3, 1, 1, 1)})
    assert one.fingerprint != finer(one, "kernel").fingerprint
    assert len({finer(dots, bit).fingerprint for bit in BITS}) == 3


@pytest.mark.usefixtures("types_unchecked")
def test_units_that_are_no_filters_are_refused():
    heads = Layer("heads", 2, "w", (), more=(Slices("w", 0, (0, 0, 1, 1)),))
    with pytest.raises(MPFLError, match="layer 'heads' are not the rows of one"):
        finer(Layout((heads,), {"w": (4, 2)}), "kernel")
    with pytest.raises(MPFLError, match="not the rows of one weight"):
        finer(finer(TOY, "kernel"), "weight")
    with pytest.raises(MPFLError, match="did you mean 'kernel'"):
        finer(TOY, "kernels")


# --- laws ------------------------------------------------------------------------------------


@settings(max_examples=25)
@given(st.sampled_from(BITS), st.integers(0, 99))
def test_laws(bit, seed):
    layout, rng = finer(TOY, bit), rng_for(seed)
    weights, mask, other = draw_weights(TOY, seed), random_mask(layout, rng), {}
    other = masks.intersect(mask, random_mask(layout, rng))
    masked, small = apply(weights, mask, layout), cut(weights, mask, layout)
    assert same(expand(small, mask, layout), masked)
    assert same(apply(masked, mask, layout), masked)
    assert same(apply(masked, other, layout), apply(weights, other, layout))
    assert same(cut(masked, mask, layout), small)
    assert cut_shapes(layout, mask) == {name: array.shape for name, array in small.items()}
    assert same(apply(weights, masks.full(layout), layout), weights)


def test_a_weight_is_zero_just_where_its_bit_is():
    weights, rng = {n: np.asarray(a + 100) for n, a in draw_weights(TOY).items()}, rng_for(0)
    for bit, per_bit in (("kernel", (4, 2, 1)), ("weight", (1, 1, 1))):
        layout = finer(TOY, bit)
        mask = random_mask(layout, rng)
        masked = apply(weights, mask, layout)
        for layer, times in zip(layout.layers, per_bit, strict=True):
            alive = (masked.pop(layer.weight) != 0).ravel()
            assert (alive == np.repeat(mask[layer.name], times)).all()
        assert all((array != 0).all() for array in masked.values())  # biases and norms stay


@each_bit
@pytest.mark.parametrize("coding", ["shortest", "packed"])
def test_a_mask_and_weights_come_back_from_the_wire(bit, coding):
    layout, rng = finer(TOY, bit), rng_for(1)
    alive = masks.full(layout)
    keep = Keep.by_layer(layout.keep_counts(0.5))
    mask = masks.drawn(layout, 0.5, rng)
    how = {"reference": alive, "keep": keep, "coding": coding}
    sent = wire.encode_mask(mask, layout, 1, **how)
    assert same(wire.decode_mask(sent, layout, 1, **how), mask)
    weights = {name: array.astype(np.float32) for name, array in draw_weights(TOY).items()}
    message = wire.encode_weights(weights, layout, 1, mask=mask)
    small, _ = wire.decode_weights(message, layout, 1, mask=mask)
    assert same(expand(small, mask, layout), apply(weights, mask, layout))
    assert len(message) == wire.weights_length(cut_shapes(layout, mask))


@pytest.mark.parametrize(("bit", "other"), [(a, b) for a in BITS for b in BITS if a != b])
def test_a_mask_of_another_granularity_is_refused(bit, other):
    layout, wrong = finer(TOY, bit), masks.full(finer(TOY, other))
    with pytest.raises(MPFLError, match="another granularity"):
        masks.check(wrong, layout)
    sent = wire.encode_consensus(wrong, finer(TOY, other), 1)
    with pytest.raises(MPFLError, match="model"):
        wire.decode_consensus(sent, layout)


# --- large choices ---------------------------------------------------------------------------


def one_layer(size):
    return Layout((Layer("a", size, "w", (), grid=(size,)),), {"w": (size,)})


@pytest.mark.parametrize("size", [MOST_EXACT, MOST_EXACT + 1, 10 * MOST_EXACT, 10**6])
def test_a_choice_is_sent_in_as_many_bytes_as_its_number_however_large(size):
    layout = one_layer(size)
    alive, mask = masks.full(layout), masks.drawn(layout, 0.75, rng_for(0))
    for keep in (None, Keep.by_layer(masks.counts(mask))):
        sent = wire.encode_mask(mask, layout, 1, reference=alive, keep=keep)
        assert wire.kind_of(sent) is (wire.Kind.KNOWN if keep else wire.Kind.NESTED)
        assert same(wire.decode_mask(sent, layout, 1, reference=alive, keep=keep), mask)
        limit = wire.limit_bits(mask, alive, keep)
        assert limit == pytest.approx(0.8113 * size, rel=0.002)  # the entropy of a quarter
        bits = limit if keep else limit + np.log2(size + 1)
        assert bits / 8 - 1e-3 <= wire.body_length(sent) < bits / 8 + 1 + 1e-3
    # What is alive counts, not what there was.
    sent = wire.encode_mask(masks.intersect(mask, {"a": np.arange(size) % 2 == 0}), layout, 1,
                            reference=mask)  # fmt: skip
    assert wire.kind_of(sent) is wire.Kind.NESTED
    # Half of them take about a bit each: with the count that is no shorter than one bit each.
    half = wire.encode_mask(masks.drawn(layout, 0.5, rng_for(0)), layout, 1, reference=alive)
    assert wire.body_length(half) == (size + 7) // 8
    assert (wire.kind_of(half) is wire.Kind.PACKED) == (size % 8 == 0)


def test_nothing_new_costs_next_to_nothing_however_large_the_mask():
    layout = one_layer(10**6)
    sent = wire.encode_consensus(masks.full(layout), layout, 1)
    assert len(sent) < 20
    assert same(wire.decode_consensus(sent, layout)[1], masks.full(layout))


@pytest.mark.parametrize("kind", [wire.Kind.KNOWN, wire.Kind.NESTED])
@pytest.mark.parametrize("length", [100_000, 110_163, 110_164, 110_166, 110_167, 2_000_000])
def test_a_forged_choice_of_a_million_is_refused_soon(kind, length):
    layout = one_layer(10**6)
    alive, keep = masks.full(layout), Keep.by_layer({"a": 300_000})
    named = wire.masks.fingerprint_of(layout, alive, keep)
    head = (700_000).to_bytes(4, "little") if kind is wire.Kind.NESTED else b""
    forged = wire.frame.write(kind, named, 1, head + b"\xff" * (length - len(head)))
    began = time.process_time()
    with pytest.raises(MPFLError, match=r"holds \d+ bytes|too long|not canonical|out of range"):
        wire.decode_mask(forged, layout, 1, reference=alive, keep=keep)
    assert time.process_time() - began < 2


def test_the_limit_of_a_large_choice_is_that_of_the_exact_number():
    import math

    size, count = MOST_EXACT + 100, 1000
    told = wire.limit_bits({"a": np.arange(size) < count}, {"a": np.ones(size, bool)})
    assert told == pytest.approx(math.log2(math.comb(size, count)), rel=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("rule", [most_votes(), share(0.5), published_percentile(0.8)], ids=str)
def test_ten_ballots_of_a_million_bits_are_sent_and_counted(rule):
    """How long that takes is the benchmarks' business; that it ends, this test's."""
    layout = finer(blueprint("vgg11-bn", 10), "kernel")
    assert layout.filters > 10**6
    plan = Plan(layout, one_shot(0.8), 1)
    alive = masks.full(layout)
    keep, norms = plan.keep(1, alive), {n: rng_for(0).random(s) for n, s in layout.sizes.items()}
    cast = [masks.drawn(layout, 0.8, rng_for(node)) for node in range(10)]
    sent = [
        (node, wire.encode_mask(mask, layout, 1, reference=alive, keep=keep))
        for node, mask in enumerate(cast)
    ]
    ballots = Ballots.open(sent, layout, 1, alive=alive, keep=keep)
    votes, voters = ballots.tally()
    assert all(np.array_equal(votes[name], sum(mask[name] for mask in cast)) for name in votes)
    mask, _ = decide(plan, rule, alive, 1, votes, voters, norms)
    assert set(ballots.agreement(mask)) == set(range(10))


# --- quotas, scores, rules -------------------------------------------------------------------


@each_bit
@pytest.mark.parametrize("quota", [even(), power(0.5), over_network()], ids=str)
def test_a_quota_keeps_its_share(bit, quota):
    layout = finer(blueprint("digits-cnn", 10, width=0.5), bit)
    plan = Plan(layout, one_shot(0.8), 1, quota)
    total = plan.keep(1, masks.full(layout)).total
    assert total <= 0.2 * layout.filters < total + 1 + len(layout.layers)


@each_finer
@pytest.mark.parametrize("score", SCORES.values(), ids=SCORES)
def test_a_score_gives_a_number_a_bit_or_is_refused(bit, score):
    layout, weights = finer(TOY, bit), draw_weights(TOY)
    if score.__name__ == "bn_scale":
        with pytest.raises(MPFLError, match="scales a whole filter, but a bit of layer 'conv1'"):
            score_layers(score, Update(weights), layout, rng_for(0))
        return
    found = score_layers(score, Update(weights, weights), layout, rng_for(0))
    assert {name: values.size for name, values in found.items()} == layout.sizes


def test_scores_of_kernels_and_weights_by_hand():
    layout = Layout((Layer("a", 1, "w", ("w",)),), {"w": (1, 2, 1, 2)})
    weights = {"w": np.array([[[[3.0, 4.0]], [[1.0, -1.0]]]])}
    slopes = {"w": np.array([[[[1.0, 1.0]], [[2.0, 2.0]]]])}
    kernels, single = (finer(layout, bit).layers[0] for bit in FINER)
    rng, update = rng_for(0), Update(weights, slopes)
    assert SCORES["l2"](update, kernels, rng).round(3).tolist() == [5, 1.414]
    assert rms_weight(update, kernels, rng).round(3).tolist() == [3.536, 1]
    assert taylor(update, kernels, rng).tolist() == [49, 0]
    assert SCORES["l1"](update, single, rng).tolist() == [3, 4, 1, 1]
    assert taylor(update, single, rng).tolist() == [9, 16, 4, 4]


# --- training --------------------------------------------------------------------------------


@each_finer
@pytest.mark.parametrize("optimiser", ["sgd", "adam"])
def test_a_held_mask_stays_zero_whatever_the_optimiser_remembers(bit, optimiser):
    module = build("digits-cnn", 10, width=0.25)
    layout = finer(layout_of(module), bit)
    trainer = Trainer(module, layout, (0.5,), (0.5,), compact=False)
    rng = rng_for(0)
    images = torch.from_numpy(rng.integers(0, 256, (40, 1, 8, 8), np.uint8))
    data = Shard(images, torch.from_numpy(rng.integers(0, 10, 40)))
    mask, w0 = masks.drawn(layout, 0.7, rng), initial_weights(module, 0)
    how = Settings(optimiser=optimiser, lr=0.01, batch=10)
    # Dense first: then the optimiser of nobody remembers, and weights are not at 0.
    dense = trainer.fit(w0, masks.full(layout), data, rng, how, epochs=1).weights
    update = trainer.fit(dense, mask, data, rng, how, epochs=2)
    assert same(apply(update.weights, mask, layout), update.weights)
    for layer in layout.layers:
        moved = update.weights[layer.weight] != dense[layer.weight]
        assert moved.any() and (layer.rows(update.weights)[mask[layer.name]] != 0).all()
    assert not same(update.weights, apply(dense, mask, layout))


# --- runs ------------------------------------------------------------------------------------

METHODS_OF_MASKS = ("mpfl", "pruning-fl", "released-fl", "lth", "lottery", "w0-norms",
                    "iterated-norms")  # fmt: skip


@each_finer
@pytest.mark.parametrize("method", METHODS_OF_MASKS)
def test_every_method_runs(quick, tmp_path, bit, method):
    experiment = quick(method, granularity=bit)
    summary = run(experiment, tmp_path / "run")
    bench = Workbench(experiment)
    mask = safetensors.numpy.load_file(tmp_path / "run" / "mask.safetensors")
    plan, alive = bench.plan, masks.full(bench.layout)
    expected = plan.keep(2, plan_mask(plan.keep(1, alive), alive)).counts
    if method != "released-fl":
        assert {(name,): count for name, count in masks.counts(mask).items()} == expected
    assert summary["macs"] == summary["macs_dense"]
    fixed = sum(
        int(np.prod(shape))
        for name, shape in bench.layout.shapes.items()
        if name not in {layer.weight for layer in bench.layout.layers}
    )
    per_bit = bench.layout.filter_sizes
    kept = sum(count * per_bit[name] for name, count in masks.counts(mask).items())
    assert summary["parameters"] == fixed + kept
    for name in ("central", "model"):
        if (path := tmp_path / "run" / f"{name}.safetensors").exists():
            weights = safetensors.numpy.load_file(path)
            assert same(apply(weights, mask, bench.layout), weights)
    recorded = read_run(keep_record(read_run(tmp_path / "run"), tmp_path))
    everything = masks.flatten(mask, bench.layout)
    assert (mask_of(recorded) == everything).all()


def plan_mask(keep, alive):
    return {name: np.arange(alive[name].size) < keep.counts[(name,)] for name in alive}


@each_finer
def test_without_inputs_that_go_iterated_norms_are_the_norms_of_w0(quick, tmp_path, bit):
    found = []
    for method in ("iterated-norms", "w0-norms"):
        run(quick(method, granularity=bit, central_epochs=0, federated_rounds=0), tmp_path / method)
        found.append((tmp_path / method / "mask.safetensors").read_bytes())
    assert found[0] == found[1]


@each_finer
def test_stopped_and_gone_on_with_a_run_ends_the_same(quick, tmp_path, bit):
    class Stopped(BaseException):
        pass

    def stop_late(progress, calls=[]):  # noqa: B006
        calls.append(progress)
        if len(calls) == 6:
            raise Stopped

    experiment = quick(granularity=bit)
    run(experiment, tmp_path / "whole")
    with pytest.raises(Stopped):
        run(experiment, tmp_path / "cut", watch=stop_late)
    run(experiment, tmp_path / "cut", resume=True)
    assert result_of(tmp_path / "cut") == result_of(tmp_path / "whole")


@each_bit
def test_a_simulation_comes_to_the_masks_of_a_run(quick, tmp_path, bit):
    experiment = quick(granularity=bit, central_epochs=0, federated_rounds=0)
    run(experiment, tmp_path / "run")
    bench = Workbench(experiment)
    logs = simulate(
        bench.algorithm(), bench.parties.nodes, bench.start, experiment.rounds, experiment.seed
    )
    *_, last = logs
    ran = safetensors.numpy.load_file(tmp_path / "run" / "mask.safetensors")
    assert same(last.state.mask, {name: ran[name] for name in last.state.mask})


@each_finer
def test_a_control_takes_over_the_counts_of_a_vote(quick, tmp_path, bit):
    vote = quick(granularity=bit, vote=RULES["share"](1.0), central_epochs=0, federated_rounds=0)
    run(vote, tmp_path / "vote")
    control = quick("lottery", granularity=bit, match=str(tmp_path / "vote"), federated_rounds=0)
    summary = run(control, tmp_path / "lottery")
    last = read_lines(tmp_path / "vote" / "rounds.jsonl")[-1]["round"]
    layout = Workbench(vote).layout
    assert summary["kept"] == kept_counts(tmp_path / "vote", layout)(last)
    other = replace(control, granularity="filter")
    with pytest.raises(MPFLError, match="holds no rounds of this model"):
        run(other, tmp_path / "other")


def test_long_ballots_are_not_recorded_and_what_needs_them_says_so(quick, tmp_path):
    experiment = quick(granularity="weight", width=1.5, rounds=1, central_epochs=0,
                       federated_rounds=0)  # fmt: skip
    run(experiment, tmp_path / "run")
    layout = Workbench(experiment).layout
    assert layout.filters > MOST_RECORDED
    whole = read_run(tmp_path / "run")
    line = whole.rounds[0]
    assert line["votes"] is None and line["ballots"] == [] and len(line["agreement"]) == 2
    counts = kept_counts(tmp_path / "run", layout)(1)
    assert counts == whole.summary["kept"]
    path = keep_record(whole, tmp_path)
    record = read_run(path)
    assert record.rounds[0]["mask"] is None and record.summary == whole.summary
    assert path.stat().st_size < 10_000
    with pytest.raises(MPFLError, match="holds no ballots"):
        ballots_of(record, 1)
    with pytest.raises(MPFLError, match="was not kept"):
        mask_of(record)
    with pytest.raises(MPFLError, match="recorded without its masks"):
        kept_counts(path, layout)


# --- what is refused -------------------------------------------------------------------------


def test_the_field_renames_no_run():
    assert identity(Experiment()) == identity(Experiment(granularity="filter"))
    assert len({identity(Experiment(granularity=bit)) for bit in BITS}) == 3


@pytest.mark.usefixtures("types_unchecked")
def test_what_cannot_go_together_is_refused(quick, tmp_path):
    with pytest.raises(MPFLError, match="did you mean 'weight'"):
        Experiment(granularity="weights")
    with pytest.raises(MPFLError, match="prunes is 'weight', which is about whole filters"):
        Experiment(granularity="kernel", prunes="weight")
    with pytest.raises(MPFLError, match="bn_scale"):
        run(quick(granularity="kernel", score=SCORES["bn_scale"]), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_network_that_cannot_be_cut_is_not_exported(quick, tmp_path):
    run(quick(granularity="kernel"), tmp_path / "run")
    with pytest.raises(MPFLError, match="a bit per kernel"):
        export(tmp_path / "run", tmp_path / "network.onnx")
