"""The published recipes: each thing that the released code does its own way, and whole runs."""

import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
import torch
import torchvision
from nets import FlattenedChain
from torch import nn
from torch.nn.utils.prune import custom_from_mask
from toys import chain, draw_weights, mask_of, random_mask, result_of, same

from mpfl import filters, masks, wire
from mpfl.algorithm import State
from mpfl.allocate import even, of_what_is_left
from mpfl.evidence.tables import cells_of
from mpfl.filters import Layer, Layout
from mpfl.masks import Keep
from mpfl.nets.hardware import keep_freed_memory
from mpfl.nets.networks import DigitsCNN, build
from mpfl.nets.settings import Settings
from mpfl.nets.shard import Shard
from mpfl.nets.start import fresh_head, initial_weights
from mpfl.nets.tensors import load_weights
from mpfl.nets.tracing import layout_of
from mpfl.nets.trainer import Trainer, _optimiser
from mpfl.node import Plan
from mpfl.prune import l2, select
from mpfl.runs.experiment import Experiment, changes, config_of, identity
from mpfl.runs.folder import read_lines
from mpfl.runs.recipes import BUDGETS, recipe
from mpfl.runs.record import read_run
from mpfl.runs.runner import run
from mpfl.runs.workbench import Workbench
from mpfl.schedules import arithmetic, geometric
from mpfl.seeds import rng_for
from mpfl.server import count_votes
from mpfl.simulation import simulate
from mpfl.types import MPFLError, Reply, Update
from mpfl.vote import published_percentile, published_threshold

RESULTS = Path(__file__).parents[1] / "data" / "results"
ADAM = Settings("adam", lr=1e-3, weight_decay=5e-5, batch=16)
MODULES = {
    "digits-cnn": lambda: DigitsCNN([4, 6, 5], 3),
    "flattened": FlattenedChain,
    "resnet18": lambda: build("resnet18", 3, width=1 / 32),
}
every_module = pytest.mark.parametrize("name", MODULES)


class Thumbnail(nn.Module):
    """torchvision's VGG at the size of a digit: no batch norm, and pixels that the pool repeats."""

    def __init__(self, num_classes):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 10, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(10, 20, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
        )
        self.avgpool = nn.AdaptiveAvgPool2d(3)
        self.classifier = nn.Sequential(
            nn.Linear(180, 16), nn.ReLU(), nn.Dropout(), nn.Linear(16, num_classes)
        )

    def forward(self, x):
        return self.classifier(self.avgpool(self.features(x)).flatten(1))


@pytest.fixture
def thumbnail(monkeypatch):
    """``thumbnail(method, **changes)``: a published recipe on digits, in a fraction of a second."""
    monkeypatch.setattr(torchvision.models, "vgg11", Thumbnail)

    def make(method="mpfl", **changes):
        name = "published-cifar10-vgg11" + ("" if method == "mpfl" else f"-{method}")
        small = {"dataset": "digits", "images": 96, "nodes": 3, "rounds": 3}
        small["statistics"] = "dataset"  # digits are grey
        return recipe(name, "toy", **(small | changes))

    return make


def trainer_of(module, prunes="weight"):
    layout = layout_of(module, prunes)
    channels = layout.shapes[layout.layers[0].weight][1]
    statistics = (0.4,) * channels, (0.2,) * channels
    return Trainer(module, layout, *statistics, "float32", compact=prunes == "filter")


def shard_of(module, count=40, seed=0):
    channels = next(part for part in module.modules() if isinstance(part, nn.Conv2d)).in_channels
    pixels = 6 if isinstance(module, FlattenedChain) else 8
    rng = rng_for(seed, "shard")
    labels = np.arange(count, dtype=np.int64) % 3
    brightest = 255 * (labels + 1) // 3  # so that there is something to learn
    shape = (count, channels, pixels, pixels)
    images = rng.integers(0, brightest[:, None, None, None] + 1, shape).astype(np.uint8)
    return Shard(torch.from_numpy(images), torch.from_numpy(labels))


# --- nothing that was there has another name ---------------------------------------------


def test_recorded_runs_keep_their_names():
    cells = {cell.file: cell for cell in cells_of("all", "laptop")}
    recorded = sorted(RESULTS.glob("*.json"))
    assert len(recorded) >= 12
    for path in recorded:
        experiment, run = cells[path.name].experiment, read_run(path)
        assert identity(experiment) == run.summary["identity"], path
        assert changes(config_of(experiment)) == changes(run.config), path


@pytest.mark.parametrize(
    ("name", "budget", "seed", "expected"),
    [
        ("digits", "toy", 0, "58019a66"),
        ("cifar10-vgg11", "toy", 0, "21d66901"),
        ("cifar10-vgg11", "paper", 0, "94ca6db8"),
        ("imagenet100-resnet18", "toy", 0, "a038b47a"),
        ("imagenet100-resnet18", "laptop", 0, "8df2d292"),
        ("imagenet100-resnet18-lth", "paper", 7, "ccfdeb58"),
    ],
)
def test_earlier_recipes_are_what_they_were(name, budget, seed, expected):
    assert identity(recipe(name, budget, seed)) == expected


# --- what a pruned filter loses ----------------------------------------------------------


@every_module
def test_pruning_by_weight_touches_conv_weights_alone(name):
    module = MODULES[name]()
    whole, layout = layout_of(module), layout_of(module, "weight")
    assert [layer.own for layer in layout.layers] == [(layer.weight,) for layer in whole.layers]
    assert layout.readers == () and layout.shapes == whole.shapes
    mask = random_mask(layout, rng_for(0, name))
    weights = {n: np.ones(shape, np.float32) for n, shape in layout.shapes.items()}
    pruned = filters.apply(weights, mask, layout)
    convs = {layer.weight: mask[layer.name] for layer in layout.layers}
    for tensor, array in pruned.items():
        if tensor in convs:
            assert np.array_equal(array.any(axis=(1, 2, 3)), convs[tensor])
            assert array[convs[tensor]].all()
        else:
            assert array is weights[tensor]


@pytest.mark.parametrize("settings", [ADAM, Settings(lr=0.05, batch=16)], ids=["adam", "sgd"])
@every_module
def test_what_is_pruned_is_zero_at_every_step_and_bias_and_norm_train(name, settings):
    module = MODULES[name]()
    trainer = trainer_of(module)
    layout = trainer.layout
    mask = random_mask(layout, rng_for(0, "by weight", name))
    for bits in mask.values():
        bits[:2] = False, True
    seen = []

    def check(*_):
        for layer in layout.layers:
            rows = module.get_parameter(layer.weight)[torch.from_numpy(~mask[layer.name])]
            assert not rows.any(), f"after {len(seen)} steps"
        seen.append(1)

    watching = module.register_forward_pre_hook(check)
    w0 = {n: a + np.float32(0.01) for n, a in initial_weights(module, 0).items()}
    update = trainer.fit(w0, mask, shard_of(module), rng_for(0), settings, epochs=2)
    check()
    assert len(seen) == 7  # six steps, and the end
    watching.remove()
    for layer, full in zip(layout.layers, layout_of(module).layers, strict=True):
        for tensor in set(full.own) - set(layer.own):
            gone = ~mask[layer.name]
            before, after = w0[tensor][gone], update.weights[tensor][gone]
            assert after.all() and (tensor.endswith("mean") or (before != after).any()), tensor


def test_training_is_that_of_torchs_own_pruning():
    """Against torch.nn.utils.prune, which masks a conv weight and leaves its bias alone."""
    module = FlattenedChain()
    trainer = trainer_of(module)
    layout, data = trainer.layout, shard_of(module, 64)
    mask, w0 = random_mask(layout, rng_for(3, "torch")), initial_weights(module, 0)
    ours = trainer.fit(w0, mask, data, rng_for(0, "torch"), ADAM, epochs=3)

    theirs, rng = FlattenedChain(), rng_for(0, "torch")
    load_weights(theirs, w0)
    rng.integers(2**62)  # what fit takes for dropout
    for layer in layout.layers:
        kept = torch.from_numpy(mask[layer.name]).float()[:, None, None, None]
        conv = theirs.get_submodule(layer.name)
        custom_from_mask(conv, "weight", kept.expand_as(conv.weight))
    adam = torch.optim.Adam(theirs.parameters(), lr=1e-3, weight_decay=5e-5)
    for _ in range(3):
        for index in torch.from_numpy(rng.permutation(64)).split(16):
            pixels = (data.images[index] / 255 - 0.4) / 0.2
            adam.zero_grad()
            nn.functional.cross_entropy(theirs(pixels), data.labels[index]).backward()
            adam.step()
    theirs.eval()(torch.zeros(1, 2, 6, 6))  # sets the masked weights once more
    for tensor, array in ours.weights.items():
        path, _, name = tensor.rpartition(".")
        expected = getattr(theirs.get_submodule(path), name).detach().numpy()
        np.testing.assert_allclose(array, expected, rtol=1e-3, atol=1e-5, err_msg=tensor)
        assert not np.allclose(array, w0[tensor], atol=1e-3), tensor


def test_adam_in_one_pass_is_adam_by_the_book():
    """Kingma & Ba 2015 in float64, the weight decay added to the gradient."""
    module = nn.Linear(50, 40)
    rng = rng_for(0, "adam")
    value = {n: p.detach().numpy().astype("f8") for n, p in module.named_parameters()}
    first = {n: np.zeros_like(v) for n, v in value.items()}
    second = {n: np.zeros_like(v) for n, v in value.items()}
    adam = _optimiser(module, ADAM)
    for step in range(1, 6):
        for name, parameter in module.named_parameters():
            drawn = rng.standard_normal(value[name].shape).astype("f4")
            parameter.grad = torch.from_numpy(drawn)
            slope = drawn + 5e-5 * value[name]
            first[name] = 0.9 * first[name] + 0.1 * slope
            second[name] = 0.999 * second[name] + 0.001 * slope**2
            size = np.sqrt(second[name] / (1 - 0.999**step)) + 1e-8
            value[name] = value[name] - 1e-3 * first[name] / (1 - 0.9**step) / size
        adam.step()
    for name, parameter in module.named_parameters():
        np.testing.assert_allclose(parameter.detach().numpy(), value[name], rtol=0, atol=1e-7)


def test_memory_that_is_kept_changes_no_bit():
    module = MODULES["digits-cnn"]()
    trainer, data = trainer_of(module), shard_of(module)
    w0, full = initial_weights(module, 0), masks.full(trainer.layout)
    before = trainer.fit(w0, full, data, rng_for(0), ADAM, epochs=1).weights
    keep_freed_memory()
    assert same(before, trainer.fit(w0, full, data, rng_for(0), ADAM, epochs=1).weights)


# --- the head ----------------------------------------------------------------------------


@every_module
def test_a_fresh_head_is_torchs_and_nothing_else_is_touched(name):
    module = MODULES[name]()
    w0 = initial_weights(module, 0)
    fresh = fresh_head(module, w0, rng_for(0, "head"))
    path, head = [(p, m) for p, m in module.named_modules() if isinstance(m, nn.Linear)][-1]
    for tensor, array in fresh.items():
        if tensor in (f"{path}.weight", f"{path}.bias"):
            assert array.dtype == np.float32 and array.shape == w0[tensor].shape
            assert 0 < np.abs(array).max() <= 1 / math.sqrt(head.in_features)
        else:
            assert array is w0[tensor]
    assert list(fresh) == list(w0)


def test_a_fresh_head_fills_its_bounds_evenly():
    module = nn.Sequential(nn.Linear(3, 400), nn.Linear(400, 50))
    weights = {name: tensor.detach().numpy() for name, tensor in module.named_parameters()}
    drawn = fresh_head(module, weights, rng_for(0, "head"))["1.weight"].ravel() * 20
    counts = np.histogram(drawn, 4, (-1, 1))[0]
    assert counts.sum() == 20_000 and counts.min() > 4800


def trained(bench, monkeypatch):
    """What every training of a run starts from, in its order: the weights that it loads first."""
    seen, beginning = [], []
    fit, load = bench.trainer.fit, bench.trainer._load

    def spy_fit(*arguments, **how):
        beginning.append(True)
        return fit(*arguments, **how)

    def spy_load(weights, mask):
        if beginning:
            beginning.clear()
            seen.append(weights)
        return load(weights, mask)

    monkeypatch.setattr(bench.trainer, "fit", spy_fit)
    monkeypatch.setattr(bench.trainer, "_load", spy_load)
    e = bench.experiment
    logs = list(simulate(bench.algorithm(), bench.parties.trainers, bench.start, e.rounds, e.seed))
    bench.train_centrally(logs[-1].state.mask)
    return seen, [masks.full(bench.layout), *(log.state.mask for log in logs)]


HEAD = ("classifier.weight", "classifier.bias")


def test_every_node_in_every_round_has_a_head_of_its_own(quick, monkeypatch):
    bench = Workbench(quick(head="fresh"))
    seen, alive = trained(bench, monkeypatch)
    assert len(seen) == 5  # two nodes in two rounds, and the central training
    for tensor in HEAD:
        assert len({weights[tensor].tobytes() for weights in seen}) == 5
    for weights, mask in zip(seen, [alive[0]] * 2 + [alive[1]] * 2 + [alive[2]], strict=True):
        expected = filters.apply(bench.start.w0, mask, bench.layout)
        for tensor in set(weights) - set(HEAD):
            assert np.array_equal(weights[tensor], expected[tensor])

    again, _ = trained(Workbench(quick(head="fresh")), monkeypatch)
    assert all(same(one, other) for one, other in zip(seen, again, strict=True))
    other, _ = trained(Workbench(quick(head="fresh", seed=1)), monkeypatch)
    assert not np.array_equal(seen[0][HEAD[0]], other[0][HEAD[0]])


def test_without_a_fresh_head_all_start_from_that_of_w0(quick, monkeypatch):
    bench = Workbench(quick())
    seen, _ = trained(bench, monkeypatch)
    assert all(np.array_equal(each[HEAD[1]], bench.start.w0[HEAD[1]]) for each in seen)


def test_where_weights_are_averaged_the_head_is_one_of_them(quick, monkeypatch):
    bench = Workbench(quick("pruning-fl", head="fresh"))
    seen, _ = trained(bench, monkeypatch)
    for tensor in HEAD:
        assert np.array_equal(seen[0][tensor], bench.start.w0[tensor])
        assert np.array_equal(seen[2][tensor], seen[3][tensor])
        assert not np.array_equal(seen[0][tensor], seen[2][tensor])


# --- the best epoch ----------------------------------------------------------------------


@pytest.mark.parametrize("prunes", ["weight", "filter"])
def test_the_best_epoch_is_the_result_of_a_run_stopped_there(prunes):
    module = MODULES["digits-cnn"]()
    trainer, data, judge = trainer_of(module, prunes), shard_of(module), shard_of(module, 30, 1)
    mask = random_mask(trainer.layout, rng_for(1, "best"))
    w0, rough = initial_weights(module, 0), Settings(lr=0.3, batch=16)
    epochs, chosen = 5, []

    def fit(trial, epochs, settings=rough, **how):
        rng = rng_for(trial, "best")
        return trainer.fit(w0, mask, data, rng, settings, epochs=epochs, gradients=True, **how)

    for trial in range(3):
        stopped = [fit(trial, count) for count in range(1, epochs + 1)]
        reached = [trainer.accuracy(each.weights, mask, judge) for each in stopped]
        best = int(np.argmax(reached))  # the first of equal ones
        kept = fit(trial, epochs, dataclasses.replace(rough, keep="best"), validation=judge)
        assert same(kept.weights, stopped[best].weights)
        assert same(kept.gradients, stopped[best].gradients)
        assert kept.metrics == stopped[best].metrics
        chosen.append(best)
    assert min(chosen) < epochs - 1, "the last epoch was always the best: nothing was chosen"


def test_one_epoch_leaves_no_choice_and_nothing_is_evaluated():
    module = MODULES["digits-cnn"]()
    trainer, data = trainer_of(module), shard_of(module)
    best = dataclasses.replace(ADAM, keep="best")
    given = initial_weights(module, 0), masks.full(trainer.layout), data, rng_for(0), best
    sizes = []
    module.register_forward_pre_hook(lambda _, x: sizes.append(len(x[0])))
    trainer.fit(*given, epochs=1, validation=shard_of(module, 30, 1))
    assert sizes == [16, 16, 8]
    trainer.fit(*given, epochs=1)
    with pytest.raises(MPFLError, match="keep is 'best', but there is no validation data"):
        trainer.fit(*given, epochs=2)


def test_the_last_epoch_needs_no_validation():
    module = MODULES["digits-cnn"]()
    trainer, data = trainer_of(module), shard_of(module)
    sizes = []
    module.register_forward_pre_hook(lambda _, x: sizes.append(len(x[0])))
    given = initial_weights(module, 0), masks.full(trainer.layout), data, rng_for(0), ADAM
    trainer.fit(*given, epochs=2, validation=shard_of(module, 30, 1))
    assert sizes == [16, 16, 8] * 2


@pytest.mark.usefixtures("types_unchecked")
def test_what_else_may_be_kept_is_refused():
    with pytest.raises(MPFLError, match=r"no keep 'all'; .*there are last, best"):
        Settings(keep="all")


# --- what goes by when -------------------------------------------------------------------

LAYOUT = chain([20, 10], norm=False)
PLAN = Plan(
    LAYOUT,
    geometric(0.1, warmup=1),
    rounds=9,
    quota=of_what_is_left(required=arithmetic(0.1, warmup=1)),
)
OWN = dataclasses.replace(PLAN, quota=of_what_is_left())


def test_nothing_goes_in_the_first_round_and_then_a_tenth_of_what_is_kept():
    alive, counts = masks.full(LAYOUT), []
    for round_ in range(1, 10):
        keep = PLAN.keep(round_, alive).for_layers(LAYOUT.sizes)
        counts.append(list(keep.values()))
        alive = {name: np.arange(bits.size) < keep[name] for name, bits in alive.items()}
    # A tenth, rounded to the nearest: 2 of 20, 2 of 18 ... 1 of 10, and none of 5.
    assert [first for first, _ in counts] == [20, 18, 16, 14, 13, 12, 11, 10, 9]
    assert [second for _, second in counts] == [10, 9, 8, 7, 6, 5, 5, 5, 5]


NODE = json.loads((Path(__file__).parent / "vectors/node_reference.json").read_text())


@pytest.mark.parametrize("case", NODE["cases"], ids=map(str, range(60)))
def test_a_node_keeps_what_it_keeps_in_the_released_code(case):
    weight, alive = np.array(case["weight"]), {"layer": np.array(case["alive"], bool)}
    layer = Layer("layer", len(weight), "w", ("w",))
    layout = Layout((layer,), {"w": weight.shape})
    schedule = geometric(case["amount"])
    keep = of_what_is_left().keep(layout, schedule, 1, 10, alive)
    kept = select({"layer": l2(Update({"w": weight}), layer, rng_for(0))}, alive, keep)
    assert kept["layer"].astype(int).tolist() == case["kept"]


@pytest.mark.parametrize("filters", NODE["counts_after_each_round_at_0.1"])
def test_the_counts_of_ten_rounds_are_those_of_the_released_code(filters):
    layout = chain([int(filters)], norm=False)
    plan = dataclasses.replace(PLAN, layout=layout, rounds=10, quota=of_what_is_left())
    alive, counts = masks.full(layout), []
    for round_ in range(1, 11):
        counts.append(plan.keep(round_, alive).counts["layer0",])
        alive = {"layer0": np.arange(int(filters)) < counts[-1]}
    assert counts == NODE["counts_after_each_round_at_0.1"][filters]


def test_after_a_vote_that_took_more_than_asked_a_node_goes_on_from_what_is_left():
    alive = mask_of(LAYOUT, "#" * 6 + "." * 14, "#" + "." * 9)
    assert PLAN.keep(2, alive) == Keep.by_layer({"layer0": 5, "layer1": 1})
    assert PLAN.keep(1, alive) == Keep.by_layer({"layer0": 6, "layer1": 1})
    full = dataclasses.replace(PLAN, quota=even())
    assert full.keep(2, alive) == Keep.by_layer({"layer0": 6, "layer1": 1})
    half = dataclasses.replace(PLAN, schedule=geometric(0.9))
    assert half.keep(1, alive) == Keep.by_layer({"layer0": 1, "layer1": 1})  # one always stays


def test_the_server_asks_for_a_tenth_of_the_full_model_a_round():
    alive = masks.full(LAYOUT)
    asked = [PLAN.asked(round_, alive).counts["layer0",] for round_ in (1, 2, 3, 9)]
    assert asked == [20, 18, 16, 4]
    own = Keep.by_layer({"layer0": 18, "layer1": 9})
    assert OWN.asked(3, alive) == OWN.keep(3, alive) == own


def test_unanimity_that_prunes_less_than_is_required_prunes_nothing():
    """Ten of twenty are left in round 7 or 8; two nodes drop one each, and not the same."""
    layout = chain([20], norm=False)
    plan = dataclasses.replace(PLAN, layout=layout)
    alive = mask_of(layout, "#" * 10 + "." * 10)
    said = [mask_of(layout, bits + "." * 10) for bits in (".#########", "#.########")]

    def left(plan, round_):
        keep = plan.keep(round_, alive)
        assert keep == Keep.by_layer({"layer0": 9})
        replies = [
            Reply(n, wire.encode_mask(mask, layout, round_, reference=alive, keep=keep))
            for n, mask in enumerate(said)
        ]
        state = State(draw_weights(layout), alive)
        voted = count_votes(plan, published_threshold(), state, round_, replies)
        return masks.counts(voted.mask)["layer0"]

    assert left(plan, 7) == 8  # twelve of twenty are to be gone, and are
    assert left(plan, 8) == 10  # fourteen are: unanimity will not do, and anyone may keep
    assert left(dataclasses.replace(plan, quota=OWN.quota), 8) == 8


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"rounds": 11}, "a sparsity of 1 leaves layer 'layer0' with none of its 20"),
    ],
)
@pytest.mark.usefixtures("types_unchecked")
def test_a_plan_that_cannot_be_kept_is_refused(change, says):
    with pytest.raises(MPFLError, match=says):
        dataclasses.replace(PLAN, **change)


# --- the recipes, whole ------------------------------------------------------------------


def test_the_protocol_is_the_same_at_every_budget():
    for family in ("cifar10-vgg11", "imagenet100-resnet18"):
        for budget in BUDGETS:
            made = recipe(f"published-{family}", budget)
            assert made.model == "torchvision-" + family.split("-")[1]
            assert (
                made.local
                == made.final
                == dataclasses.replace(
                    Settings("adam", lr=1e-5, weight_decay=5e-5, batch=16, keep="best-ever"),
                    crop=family == "cifar10-vgg11",
                )
            )
            assert (made.validation, made.pooled, made.stop_above) == (0.1, "nodes", 0.9)
            assert (made.view, made.statistics) == ("centre", "imagenet")
            assert (made.head, made.prunes) == ("fresh", "weight")
            assert made.schedule == geometric(0.1, warmup=1)
            assert made.quota == of_what_is_left(required=arithmetic(0.1, warmup=1))
            assert made.vote == published_threshold() and made.rewind
            assert made.federated_rounds == 0 and made.precision == "float32"
            assert made.w0 == ("torchvision" if budget == "paper" else "random")
        assert (made.nodes, made.rounds, made.epochs, made.pixels) == (10, 10, 10, 224)
        assert made.central_epochs == 10
        assert recipe(f"published-{family}-fedavg", "paper").federated_rounds == 10


@pytest.mark.parametrize(
    "vote", [published_threshold(), published_percentile(0.5)], ids=lambda rule: type(rule).__name__
)
def test_both_published_rules_run_end_to_end(thumbnail, tmp_path, vote):
    # Random weights have biases of 0, where ReLU has no slope: a pruned filter's would stay.
    w0 = {n: a + np.float32(0.01) for n, a in initial_weights(Thumbnail(10), 0).items()}
    safetensors.numpy.save_file(w0, tmp_path / "w0.safetensors")
    rough = dataclasses.replace(ADAM, lr=0.02)  # so that the nodes do not all say the same
    experiment = thumbnail(
        vote=vote, w0=str(tmp_path / "w0.safetensors"), local=rough, central_epochs=2
    )
    summary = run(experiment, tmp_path / "run")
    first, *later = (line["sparsity"] for line in read_lines(tmp_path / "run/rounds.jsonl"))
    assert first == 0 and 0 < later[0] < later[1] == summary["sparsity"]
    assert summary["accuracy_federated"] is None and 0 < summary["accuracy_central"] < 1
    assert not (tmp_path / "run" / "federated.jsonl").exists()

    kept = summary["kept"]
    gone = (10 - kept["features.0"]) * 9 + (20 - kept["features.3"]) * 90
    assert summary["parameters"] == summary["parameters_dense"] - gone
    # Pictures of 8 x 8, then 4 x 4; the pool makes nine pixels of each channel.
    whole = 64 * 10 * 9 + 16 * 20 * 90 + 180 * 16 + 16 * 10
    assert summary["macs"] == summary["macs_dense"] == whole

    central = safetensors.numpy.load_file(tmp_path / "run" / "central.safetensors")
    for name, bits in safetensors.numpy.load_file(tmp_path / "run" / "mask.safetensors").items():
        assert np.array_equal(central[f"{name}.weight"].any(axis=(1, 2, 3)), bits)
        assert central[f"{name}.bias"].all()


@pytest.mark.parametrize("stop", [1, 4, 7, 10])
def test_a_run_that_was_killed_goes_on_to_the_same_bytes(thumbnail, tmp_path, stop):
    experiment = thumbnail(central_epochs=2, epochs=1)
    calls = []
    run(experiment, tmp_path / "whole", watch=calls.append)
    assert len(calls) == 11  # three nodes in three rounds, two central epochs

    class Killed(BaseException):
        """Not an Exception: nothing in a run may catch it."""

    def watch(_, left=iter(range(stop))):
        if next(left, None) is None:
            raise Killed

    with pytest.raises(Killed):
        run(experiment, tmp_path / "run", watch=watch)
    run(experiment, tmp_path / "run", resume=True)
    assert result_of(tmp_path / "run") == result_of(tmp_path / "whole")


@pytest.mark.parametrize("method", ["pruning-fl", "lth", "fedavg", "central", "lottery"])
def test_the_other_methods_run_too(thumbnail, tmp_path, method):
    summary = run(thumbnail(method, rounds=2), tmp_path / "run")
    assert (summary["accuracy_federated"] is not None) == (method == "fedavg")
    assert (summary["accuracy_central"] is not None) == (method != "fedavg")


def test_such_a_network_is_not_exported(thumbnail, tmp_path):
    from mpfl.runs.export import export

    run(thumbnail(rounds=2), tmp_path / "run")
    with pytest.raises(MPFLError, match="no smaller network computes the same"):
        export(tmp_path / "run", tmp_path / "small.onnx", weights="central")


def test_a_fields_default_changes_nothing():
    made = Experiment()
    assert (made.head, made.prunes, made.quota) == ("w0", "filter", even())
    assert Settings().keep == "last"
    assert Workbench(made).trainer.layout == layout_of(build("digits-cnn", 10))
