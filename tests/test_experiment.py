"""An experiment: its name, what it refuses, and the parts it builds."""

import dataclasses
import json
import math
from dataclasses import dataclass, field

import numpy as np
import pytest
import safetensors.numpy
import torch
from toys import random_mask as drawn_mask
from toys import same as equal

from mpfl import masks
from mpfl.analysis.faults import colluding_veto, inverted_mask, random_mask
from mpfl.data.noise import (
    first_classes,
    gaussian,
    label_noise,
    permuted_labels,
    shuffled_pixels,
)
from mpfl.data.partition import dirichlet
from mpfl.filters import apply, rescaled
from mpfl.nets.settings import Settings
from mpfl.nets.start import initial_weights
from mpfl.prune import random, taylor
from mpfl.runs import experiment as experiment_module
from mpfl.runs.experiment import Experiment, changes, config_of, identity
from mpfl.runs.methods import (
    CENTRAL,
    FEDAVG,
    ITERATED_NORMS,
    LOTTERY,
    LTH,
    METHODS,
    MPFL,
    PRUNING_FL,
    W0_NORMS,
)
from mpfl.runs.recipes import BUDGETS, RECIPES, recipe
from mpfl.runs.workbench import Workbench
from mpfl.schedules import geometric, one_shot
from mpfl.seeds import rng_for
from mpfl.simulation import simulate
from mpfl.types import MPFLError
from mpfl.vote import relaxed, share, weighted

# --- the name ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("made", "name"),
    [
        (Experiment(), "3833238a"),
        (Experiment(vote=share(0.5), seed=1), "310d756a"),
        (
            Experiment(
                method=LOTTERY,
                schedule=geometric(0.1, 1),
                partition=dirichlet(0.3),
                data_noise=gaussian(0.1),
                local=Settings(batch=64, augment=True),
            ),
            "1157a8d4",
        ),
    ],
)
def test_names_of_old_runs_stand(made, name):
    """Where this fails, recorded runs have lost their names: give a new field its no-op default."""
    assert identity(made) == name


def test_only_what_differs_from_the_default_enters_the_name():
    assert changes(config_of(Experiment())) == {}
    made = Experiment(seed=3, vote=share(0.5), local=Settings(batch=32, lr=0.1), match=None)
    assert changes(config_of(made)) == {
        "seed": 3,
        "vote": "share(tau=0.5)",
        "local.batch": 32,
        "local.lr": 0.1,
    }


def test_a_field_added_later_renames_nothing(monkeypatch):
    @dataclass(frozen=True)
    class LaterSettings(Settings):
        clip: float = 0.0

    @dataclass(frozen=True)
    class Later(Experiment):
        colour: str = "blue"
        local: Settings = field(default_factory=LaterSettings)

    old = [Experiment(), Experiment(seed=3, local=Settings(batch=32))]
    names = [identity(each) for each in old]
    configs = [config_of(each) for each in old]
    monkeypatch.setattr(experiment_module, "Experiment", Later)
    new = [Later(), Later(seed=3, local=LaterSettings(batch=32))]
    assert [identity(each) for each in new] == names
    assert [changes(each) for each in configs] == [changes(config_of(each)) for each in new]
    assert identity(Later(colour="red")) not in names
    assert identity(Later(local=LaterSettings(clip=1.0))) not in names


def test_every_recipe_at_every_budget_has_a_name_of_its_own_and_a_configuration_in_json():
    names = set()
    for name in RECIPES:
        for budget in BUDGETS:
            made = recipe(name, budget, seed=5)
            assert (made.recipe, made.budget, made.seed) == (name, budget, 5)
            assert name == made.recipe and name.endswith(made.method.name) == (made.method != MPFL)
            config = config_of(made)
            assert json.loads(json.dumps(config)) == config
            assert list(config) == [f.name for f in dataclasses.fields(Experiment)]
            names.add(identity(made))
    assert len(names) == len(RECIPES) * len(BUDGETS) == 243


def test_functions_and_rules_are_described_by_how_they_are_written():
    made = Experiment(score=taylor, vote=relaxed(0.5), data_noise=gaussian(0.1), nodes=3)
    config = config_of(made)
    assert config["score"] == "taylor"
    assert config["vote"] == "relaxed(target=0.5)"
    assert config["data_noise"] == "gaussian(sigma=0.1)"
    assert config["partition"] == "iid()"
    assert config["local"]["lr"] == 0.05


# --- what is refused ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"method": "mpfl"}, "method is 'mpfl', but a Method is due; give a value, such as mpfl"),
        ({"vote": share}, "vote is .*, but a Rule is due; give a value, such as most_votes"),
        ({"quota": "even"}, "quota is 'even', but a Quota is due"),
        ({"nodes": 0}, "nodes is 0; give at least 1"),
        ({"rounds": 0}, "rounds is 0"),
        ({"epochs": 0}, "epochs is 0"),
        ({"pixels": 0}, "pixels is 0"),
        ({"central_epochs": -1}, "central_epochs is -1; give at least 0"),
        ({"federated_rounds": -1}, "federated_rounds is -1"),
        ({"seed": -1}, "seed is -1"),
        ({"width": 0.0}, "width is 0.0"),
        ({"width": float("inf")}, "width is inf"),
        ({"precision": "float16"}, "no precision 'float16'; .*there are auto, float32"),
        ({"head": "new"}, "no head 'new'; .*there are w0, fresh"),
        ({"units": "neurons"}, "no units 'neurons'; .*there are filters, hidden"),
        ({"units": "heads,neurons"}, "no units 'neurons'; "),
        ({"units": ("heads", "hidden")}, "give text, several kinds as in 'heads,hidden'"),
        ({"units": ""}, "no units ''; "),
        ({"prunes": "bias"}, "no prunes 'bias'; .*there are filter, weight"),
        ({"noisy_nodes": 11}, "noisy_nodes is 11, but there are 10 nodes"),
        ({"noisy_nodes": -1}, "noisy_nodes is -1"),
        ({"images": 9}, "9 images cannot fill 10 nodes"),
        ({"method": LTH, "data_noise": gaussian(0.1)}, "trains on clean pooled data"),
        ({"vote": weighted((1.0, 2.0))}, "2 weights for 10 nodes"),
        ({"score": taylor, "method": PRUNING_FL}, "score taylor needs data"),
        ({"score": taylor, "method": W0_NORMS}, "score taylor needs data"),
        ({"fault": random_mask(), "method": FEDAVG}, "nobody votes in 'fedavg'"),
        ({"match": "runs/a"}, "match is for lottery, w0-norms, iterated-norms, not for 'mpfl'"),
    ],
)
@pytest.mark.usefixtures("types_unchecked")
def test_nonsense_is_refused(change, says):
    with pytest.raises(MPFLError, match=says):
        Experiment(**change)


def test_unknown_recipe_budget_and_field_name_the_nearest():
    with pytest.raises(MPFLError, match="did you mean 'cifar10-vgg11'"):
        recipe("cifar-vgg")
    with pytest.raises(MPFLError, match="did you mean 'laptop'"):
        recipe("digits", "labtop")
    with pytest.raises(MPFLError, match="did you mean 'rounds'"):
        recipe("digits", round=3)


def test_a_model_that_does_not_fit_the_pictures_is_refused(quick):
    with pytest.raises(MPFLError, match=r"'vgg11-bn' reads .* 3 channels.*'digits' have 1"):
        Workbench(quick(model="vgg11-bn"))


# --- the data ----------------------------------------------------------------------------


def same(one, other):
    return torch.equal(one.images, other.images) and torch.equal(one.labels, other.labels)


def test_nodes_share_the_pooled_data_out(quick):
    bench = Workbench(quick(nodes=3, partition=dirichlet(1.0)))
    assert len(bench.parties.pooled) == len(bench.parties.test) == 120
    assert sum(len(node) for node in bench.parties.nodes) == 120

    def rows(shards):
        return sorted(image.numpy().tobytes() for shard in shards for image in shard.images)

    assert rows(bench.parties.nodes) == rows([bench.parties.pooled])


def test_all_pictures_are_used_where_no_number_is_given(quick):
    bench = Workbench(quick(images=None))
    assert len(bench.parties.pooled) == len(bench.dataset.train_labels)
    assert len(bench.parties.test) == len(bench.dataset.test_labels)
    assert len(Workbench(quick(images=1438)).parties.pooled) == 1438
    with pytest.raises(MPFLError, match="images is 1439, but 'digits' has 1438 training images"):
        Workbench(quick(images=1439))


def test_the_seed_decides_which_pictures_and_who_gets_them(quick):
    first, again, other = Workbench(quick()), Workbench(quick()), Workbench(quick(seed=1))
    assert all(same(a, b) for a, b in zip(first.parties.nodes, again.parties.nodes, strict=True))
    assert not same(first.parties.pooled, other.parties.pooled)


@pytest.mark.parametrize(
    "spoilt",
    [
        permuted_labels(),
        shuffled_pixels(),
        gaussian(0.5),
        label_noise(0.9),
    ],
    ids=repr,
)
def test_noise_reaches_the_data_of_the_noisy_nodes_only(quick, spoilt):
    clean = Workbench(quick(nodes=4))
    noisy = Workbench(quick(nodes=4, data_noise=spoilt, noisy_nodes=2))
    reached = [
        not same(a, b) for a, b in zip(clean.parties.nodes, noisy.parties.nodes, strict=True)
    ]
    assert reached == [True, True, False, False]
    assert same(clean.parties.pooled, noisy.parties.pooled) and same(
        clean.parties.test, noisy.parties.test
    )
    assert noisy.behaviour() == {}
    one, other = (torch.sort(bench.parties.nodes[0].labels).values for bench in (clean, noisy))
    if isinstance(spoilt, shuffled_pixels | gaussian):
        assert torch.equal(one, other)


def test_two_noisy_nodes_have_noise_of_their_own(quick):
    bench = Workbench(quick(nodes=2, images=40, data_noise=gaussian(0.5), noisy_nodes=2))
    clean = Workbench(quick(nodes=2, images=40))
    added = [
        bench.parties.nodes[i].images.int() - clean.parties.nodes[i].images.int() for i in range(2)
    ]
    assert not torch.equal(*added)


# --- the votes ---------------------------------------------------------------------------


@pytest.mark.parametrize("fault", [random_mask(), inverted_mask(), colluding_veto(0.2)], ids=repr)
def test_voter_faults_change_the_votes_of_the_faulty_nodes_only(quick, fault):
    clean = Workbench(quick(nodes=3))
    bench = Workbench(quick(nodes=3, fault=fault, noisy_nodes=2))
    assert all(same(a, b) for a, b in zip(clean.parties.nodes, bench.parties.nodes, strict=True))
    assert sorted(bench.behaviour()) == [0, 1]
    algorithm = bench.algorithm()
    state = algorithm.init(bench.start)
    memory, message = algorithm.join(algorithm.start(state)), algorithm.broadcast(state, 1)

    def payload(local):
        return local(memory, message, bench.parties.nodes[0], rng_for(0, "turn")).payload

    honest, faulty = payload(algorithm.local), payload(bench.behaviour()[0])
    assert honest != faulty
    assert honest == payload(clean.algorithm().local)


# --- the methods -------------------------------------------------------------------------


def test_who_takes_part_in_the_mask_rounds(quick):
    parties = {name: Workbench(quick(name)).parties for name in METHODS}
    assert [len(node) for node in parties["lth"].trainers] == [120]
    for name in ("lottery", "w0-norms"):
        assert parties[name].trainers == []
    for name in ("mpfl", "pruning-fl", "released-fl"):
        assert [len(node) for node in parties[name].trainers] == [60, 60]
    assert [n for n, m in METHODS.items() if not m.has_mask_rounds] == ["fedavg", "central"]
    assert [n for n, m in METHODS.items() if not m.wire] == ["lth", "central"]


def test_w0_is_a_seed_or_a_file(quick, tmp_path):
    bench = Workbench(quick(seed=4))
    assert bench.start.seed == 4
    drawn = bench.start.w0
    for name, array in initial_weights(bench.trainer.module, 4).items():
        np.testing.assert_array_equal(drawn[name], array)
    shifted = {
        name: array + 1 for name, array in drawn.items() if not name.startswith("classifier")
    }
    path = tmp_path / "w0.safetensors"
    safetensors.numpy.save_file(shifted, path)
    start = Workbench(quick(seed=4, w0=str(path))).start
    assert start.seed is None
    for name, array in start.w0.items():
        np.testing.assert_array_equal(array, shifted.get(name, drawn[name]))


def test_training_is_that_of_a_node_unless_told_otherwise(quick):
    turns: list[int] = []
    bench = Workbench(quick(epochs=2), on_epoch=turns.append)
    mask = drawn_mask(bench.layout, rng_for(0, "mask"), 0.6)
    w0 = apply(bench.start.w0, mask, bench.layout)

    def fit(settings, epochs, gradients=False):
        rng = rng_for(0, "turn")
        return bench.trainer.fit(
            w0, mask, bench.parties.pooled, rng, settings, epochs=epochs, gradients=gradients
        )

    def train(**how):
        train = bench.local_training(**how)
        return train(w0, mask, bench.parties.pooled, rng_for(0, "turn"))

    e = bench.experiment
    node, final = train(), train(settings=e.final, epochs=3, gradients=True)
    assert turns == [0, 1, 0, 1, 2]
    assert equal(node.weights, fit(e.local, 2).weights) and node.gradients is None
    expected = fit(e.final, 3, gradients=True)
    assert equal(final.weights, expected.weights)
    assert equal(final.gradients, expected.gradients)
    assert not equal(node.weights, final.weights)
    held = apply(node.weights, mask, bench.layout)
    assert equal(node.weights, held), "what is pruned came back"


def test_central_training_is_of_w0_on_all_the_data(quick):
    bench = Workbench(quick(central_epochs=2))
    mask = drawn_mask(bench.layout, rng_for(0, "mask"), 0.6)
    trained = bench.train_centrally(mask)
    e = bench.experiment
    w0, rng = apply(bench.start.w0, mask, bench.layout), rng_for(e.seed, "central")
    fitted = bench.trainer.fit(w0, mask, bench.parties.pooled, rng, e.final, epochs=2)
    assert equal(trained.weights, fitted.weights)
    assert trained.accuracy == bench.accuracy(fitted.weights, mask) > 0 and trained.seconds > 0
    again = Workbench(quick(central_epochs=2, federated_rounds=0, rescaled=True))
    larger = apply(rescaled(bench.start.w0, mask, bench.layout), mask, bench.layout)
    fitted = bench.trainer.fit(larger, mask, bench.parties.pooled, rng_for(e.seed, "central"),
                               e.final, epochs=2)  # fmt: skip
    assert equal(again.train_centrally(mask).weights, fitted.weights)
    # Its accuracy is known after each epoch, and which test pictures it got right in the end.
    assert len(trained.accuracies) == 2 and trained.accuracies[-1] == trained.accuracy
    assert trained.right.shape == (len(bench.parties.test),)


def test_only_taylor_asks_for_gradients(quick):
    for score, asked in ((taylor, True), (quick().score, False)):
        bench = Workbench(quick(score=score))
        fit, seen = bench.trainer.fit, []

        def spy(*given, fit=fit, seen=seen, **how):
            seen.append(how["gradients"])
            return fit(*given, **how)

        bench.trainer.fit = spy
        algorithm = bench.algorithm()
        state = algorithm.init(bench.start)
        memory, message = algorithm.join(algorithm.start(state)), algorithm.broadcast(state, 1)
        algorithm.local(memory, message, bench.parties.nodes[0], rng_for(0, "turn"))
        final = bench.final_algorithm(masks.full(bench.layout))
        state = final.init(bench.start)
        memory, message = final.join(final.start(state)), final.broadcast(state, 1)
        final.local(memory, message, bench.parties.nodes[0], rng_for(0, "turn"))
        assert seen == [asked, False]


def test_the_plan_refuses_a_schedule_that_empties_a_layer(quick):
    assert Workbench(quick(schedule=geometric(0.1))).plan.sparsity(1) == pytest.approx(0.1)
    with pytest.raises(MPFLError, match=r"0\.99 leaves layer .* with none of its 4 filters"):
        _ = Workbench(quick(schedule=one_shot(0.99))).plan


ALONE = {"rescaled": True, "federated_rounds": 0}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"method": FEDAVG, "stop_above": 0.5}, "stop_above ends mask rounds, and 'fedavg' has"),
        ({"method": LTH, "final_draws": "own"}, "final_draws is about training between nodes"),
        ({"method": CENTRAL, "federated_decay": "cosine"}, "federated_decay is about training"),
        ({"method": W0_NORMS, "lot": 1}, "lot is 1, but 'w0-norms' draws no lots"),
        ({"validation": "0.1"}, "validation is '0.1'; give a share of 0 to below 1"),
        ({"stop_above": 1.0}, "stop_above is 1.0; give a share of 0 to below 1"),
        ({"final_draws": "new"}, "no final_draws 'new'"),
        ({"rescaled": 1}, "rescaled is 1; give True or False"),
        ({"rewind": "no"}, "rewind is 'no'; give True or False"),
        ({"rescaled": True}, "rescaled is about training in one place alone; set federated_rounds"),
        ({**ALONE, "central_epochs": 0}, "rescaled .* one place; set central_epochs above 0"),
        ({**ALONE, "method": FEDAVG, "federated_rounds": 2}, "and 'fedavg' does not do that"),
        ({**ALONE, "method": CENTRAL}, "and 'central' does not do that"),
        ({**ALONE, "head": "fresh"}, "rescaled would be lost on a head that is drawn anew"),
        ({**ALONE, "granularity": "kernel"}, "rescaled is about whole filters that are cut out"),
        ({**ALONE, "prunes": "weight"}, "rescaled is about whole filters that are cut out"),
    ],
)
@pytest.mark.usefixtures("types_unchecked")
def test_a_field_without_effect_is_refused(quick, changes, said):
    with pytest.raises(MPFLError, match=said):
        quick(**changes)


class Sum(torch.nn.Module):
    """Two layers whose channels are added up."""

    def __init__(self, classes: int):
        super().__init__()
        self.one, self.two = (torch.nn.Conv2d(n, 4, 3, padding=1) for n in (1, 4))
        self.head = torch.nn.Linear(4, classes)

    def forward(self, x):
        first = self.one(x)
        return self.head((first + self.two(first.relu())).mean((2, 3)))


def test_what_is_no_chain_is_refused_before_anything_is_trained(quick):
    Workbench(quick(model=Sum))
    with pytest.raises(MPFLError, match=r"'head.weight' follows axis 1 of two, one; only"):
        Workbench(quick(**ALONE, model=Sum))


def test_a_method_without_nodes_may_be_rescaled(quick):
    assert quick(rescaled=True, method=LTH).federated_rounds > 0  # it has none, so it ignores them


def test_the_final_rate_falls_by_a_cosine_and_the_draws_are_its_own(quick):
    usual = Workbench(quick(federated_rounds=4))
    bench = Workbench(quick(federated_rounds=4, federated_decay="cosine", final_draws="own"))
    everything = masks.full(bench.layout)
    assert usual.seed_of(everything) == usual.experiment.seed != bench.seed_of(everything)
    assert bench.seed_of(None) == bench.experiment.seed
    seen = []
    plain = bench.trainer.fit

    def fit(*given, settings, **others):
        seen.append(settings.lr)
        return plain(*given, settings=settings, **others)

    bench.trainer.fit = fit
    algorithm = bench.final_algorithm(everything)
    nodes = bench.parties.nodes[:1]
    list(simulate(algorithm, nodes, bench.start, 4, bench.seed_of(everything)))
    lr = bench.experiment.local.lr
    assert seen == pytest.approx([lr * (1 + math.cos(math.pi * r / 4)) / 2 for r in range(4)])


def test_what_is_held_out_is_not_trained_on_whatever_the_noise(quick):
    e = quick(validation=0.2, data_noise=first_classes(5), noisy_nodes=1)
    noisy = Workbench(e).parties.nodes[0]
    own = {image.numpy().tobytes() for image in noisy.images}
    held = [image.numpy().tobytes() for image in noisy.validation.images]
    clean = Workbench(quick(validation=0.2)).parties.nodes[0]
    both = {i.numpy().tobytes() for i in clean.images} & {
        i.numpy().tobytes() for i in clean.validation.images
    }
    assert held and not {each for each in held if each in own} - both


@pytest.mark.parametrize("method", [W0_NORMS, ITERATED_NORMS])
def test_a_control_whose_score_draws_follows_the_seed(quick, method):
    drawn = []
    for seed in (0, 1):
        bench = Workbench(quick(method=method, score=random, seed=seed))
        *_, last = simulate(bench.algorithm(), [], bench.start, 1, seed)
        drawn.append(masks.flatten(last.state.mask, bench.layout))
    assert (drawn[0] != drawn[1]).any()
