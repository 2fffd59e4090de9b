"""What the released code does with pictures, validation and epochs, field by field."""

import dataclasses
import math

import numpy as np
import pytest
import safetensors.numpy
import torch
from nets import FlattenedChain
from torch.nn.functional import interpolate
from torchvision.transforms import v2
from toys import result_of, same

from mpfl import masks
from mpfl.baselines.fedavg import read_weights
from mpfl.data import load
from mpfl.data.noise import permuted_labels, shuffled_pixels
from mpfl.data.partition import dirichlet
from mpfl.filters import Layer, Layout
from mpfl.nets.augment import _boxes, crop_and_mirror
from mpfl.nets.epochs import Epochs
from mpfl.nets.networks import DigitsCNN
from mpfl.nets.pixels import IMAGENET, centre, uncut
from mpfl.nets.settings import Settings
from mpfl.nets.shard import Shard
from mpfl.nets.start import initial_weights
from mpfl.nets.tracing import layout_of
from mpfl.nets.trainer import Trainer
from mpfl.runs.experiment import Experiment
from mpfl.runs.folder import read_lines
from mpfl.runs.methods import METHODS
from mpfl.runs.parties import Parties
from mpfl.runs.runner import run
from mpfl.runs.workbench import Workbench
from mpfl.seeds import rng_for
from mpfl.types import CARRIED, MPFLError, Update
from mpfl.wire import encode_weights

DIGITS = load("digits")
EVER = Settings(lr=0.3, batch=16, keep="best-ever")
SMALL = Experiment(
    images=120, nodes=3, rounds=2, epochs=3, local=EVER, final=EVER, validation=0.2, pooled="nodes",
    central_epochs=2, federated_rounds=2,
)  # fmt: skip


def photographs(count, size, seed=0):
    shape = (count, 3, size, size)
    return torch.from_numpy(rng_for(seed, "photographs").integers(0, 256, shape, dtype=np.uint8))


# --- what is seen of a picture -----------------------------------------------------------


@pytest.mark.parametrize(("size", "to"), [(32, 32), (32, 48), (40, 12)])
def test_a_crop_is_torchs_resize_of_a_part_of_the_picture(size, to):
    images = photographs(20, size)
    crops = crop_and_mirror(images, rng_for(0, "crop"), to)
    rng = rng_for(0, "crop")  # drawn once more, in the same order
    boxes, mirror = _boxes(20, size, size, rng), rng.random(20) < 0.5
    assert 0 < mirror.sum() < 20
    for image, (top, left, tall, wide), turned, crop in zip(
        images.float(), boxes.T.tolist(), mirror, crops, strict=True
    ):
        part = image[None, :, top : top + tall, left : left + wide]
        slow = interpolate(part, (to, to), mode="bilinear", antialias=True)[0]
        torch.testing.assert_close(crop, slow.flip(2) if turned else slow, rtol=0, atol=2e-3)


@pytest.mark.parametrize(("height", "width"), [(32, 32), (224, 224), (20, 60), (60, 20)])
def test_the_parts_are_those_of_random_resized_crop(height, width):
    top, left, tall, wide = _boxes(4000, height, width, rng_for(0, "boxes"))
    assert min(top.min(), left.min()) >= 0 and tall.min() >= 1 and wide.min() >= 1
    assert (top + tall).max() <= height and (left + wide).max() <= width
    torch.manual_seed(0)
    theirs = np.array(
        [
            v2.RandomResizedCrop.make_params(
                v2.RandomResizedCrop(8, antialias=True), [torch.zeros(3, height, width)]
            )[key]
            for _ in range(2000)
            for key in ("top", "left", "height", "width")
        ]
    ).reshape(-1, 4)
    for ours, other in zip((top, left, tall, wide), theirs.T, strict=True):
        error = math.hypot(ours.std() / 4000**0.5, other.std() / 2000**0.5)
        assert abs(ours.mean() - other.mean()) <= 4 * error + 0.02
        assert abs(ours.std() - other.std()) <= 0.1 * other.std() + 0.02


@pytest.mark.parametrize(("size", "to"), [(32, 32), (64, 64), (50, 28), (256, 224)])
def test_the_centre_is_torchvisions(size, to):
    images = photographs(2, size).float()
    slow = v2.CenterCrop(to)(v2.Resize(uncut(to), antialias=True)(images))
    torch.testing.assert_close(centre(images, to), slow, rtol=0, atol=1e-3)


def trainer_of(module, **how):
    return Trainer(module, layout_of(module), (0.4, 0.4), (0.2, 0.2), "float32", **how)


def test_training_sees_crops_and_judging_sees_its_own_validation_as_training_does():
    module = FlattenedChain()
    trainer = trainer_of(module, view="centre", pixels=6)
    pictures = rng_for(0, "seen").integers(0, 256, (20, 2, 6, 6), dtype=np.uint8)
    data = Shard(torch.from_numpy(pictures), torch.arange(20) % 3)
    own = dataclasses.replace(data, validation=data)
    full, w0 = masks.full(trainer.layout), initial_weights(module, 0)
    calls = []
    for name in ("_varied", "_seen"):
        before = getattr(trainer, name)

        def counted(*given, before=before, name=name, **how):
            calls.append(name)
            return before(*given, **how)

        setattr(trainer, name, counted)
    crop = Settings(lr=0.01, batch=20, crop=True, keep="best")
    trainer.fit(w0, full, own, rng_for(0), crop, epochs=2)
    assert calls == ["_varied"] * 4
    calls.clear()
    trainer.fit(w0, full, data, rng_for(0), crop, epochs=2, validation=data)
    assert calls == ["_varied", "_seen"] * 2
    calls.clear()
    trainer.accuracy(w0, full, data)
    assert calls == ["_seen"]


def test_the_view_is_what_the_network_reads():
    module = FlattenedChain()
    seen = []
    trainer = trainer_of(module, view="centre", pixels=6)
    module.register_forward_pre_hook(lambda _, x: seen.append(x[0].clone()))
    images = photographs(4, 12)[:, :2]
    trainer.accuracy(
        initial_weights(module, 0), masks.full(trainer.layout), Shard(images, torch.zeros(4).long())
    )
    expected = (centre(images, 6) - 255 * 0.4) / (255 * 0.2)
    torch.testing.assert_close(seen[0], expected, rtol=1e-5, atol=1e-5)


def test_crop_and_augment_are_two_ways():
    with pytest.raises(MPFLError, match="augment and crop are two ways to vary pictures"):
        Settings(augment=True, crop=True)


def test_statistics_of_imagenet_need_three_channels():
    with pytest.raises(MPFLError, match=r"statistics 'imagenet' are of 3 .*'digits' have 1"):
        Workbench(Experiment(statistics="imagenet"))
    assert len(IMAGENET[0]) == len(IMAGENET[1]) == 3


# --- who holds what out ------------------------------------------------------------------


def parties(**changes):
    return Parties(dataclasses.replace(SMALL, **changes), DIGITS)


def pictures(*shards):
    """Every picture as bytes, with its label, sorted."""
    pairs = [
        (image.numpy().tobytes(), int(label))
        for shard in shards
        for image, label in zip(shard.images, shard.labels, strict=True)
    ]
    return sorted(pairs)


@pytest.mark.parametrize("partition", [SMALL.partition, dirichlet(1.0)], ids=str)
def test_every_node_holds_its_share_out_of_what_it_has(partition):
    dealt, before = parties(partition=partition), parties(partition=partition, validation=0.0)
    for own, whole in zip(dealt.nodes, before.nodes, strict=True):
        assert len(own.validation) == max(1, round(0.2 * len(whole)))
        assert pictures(own, own.validation) == pictures(whole)
    assert pictures(dealt.pooled, dealt.pooled.validation) == pictures(dealt.whole)
    assert pictures(dealt.pooled.validation) == pictures(*(own.validation for own in dealt.nodes))
    assert before.nodes[0].validation is None and before.whole.validation is None
    alone = dealt.alone
    assert len(alone.validation) == 24 and pictures(alone, alone.validation) == pictures(alone_of())


def alone_of():
    return parties(validation=0.0).alone


@pytest.mark.parametrize("noise", [permuted_labels(), shuffled_pixels()], ids=str)
def test_what_a_spoilt_node_holds_out_is_spoilt_too_and_so_is_what_is_pooled(noise):
    spoilt, clean = parties(data_noise=noise), parties()
    one, other = spoilt.nodes[0], clean.nodes[0]
    for bad, good in ((one, other), (one.validation, other.validation)):
        assert pictures(bad) != pictures(good)
    if noise == permuted_labels():  # the same permutation on both sides
        pairs = {
            (int(good), int(bad))
            for bads, goods in ((one, other), (one.validation, other.validation))
            for bad, good in zip(bads.labels, goods.labels, strict=True)
        }
        assert len(pairs) == len({good for good, _ in pairs}) == len({bad for _, bad in pairs})
    assert pictures(spoilt.pooled) == pictures(*spoilt.nodes) != pictures(*clean.nodes)
    cleaned = parties(data_noise=noise, pooled="clean").pooled
    assert pictures(cleaned) == pictures(*clean.nodes)
    assert pictures(cleaned.validation) == pictures(clean.pooled.validation)


def test_too_little_to_hold_out_is_refused():
    with pytest.raises(MPFLError, match="node 0: of 2 images 1 are held out for validation"):
        _ = parties(images=6).nodes
    for wrong in ({"validation": 1.0}, {"validation": -0.1}, {"stop_above": 1.5}):
        with pytest.raises(MPFLError, match="give a share of 0 to below 1"):
            Experiment(**wrong)


def test_noise_reaches_who_trains_alone_if_pooled_says_so():
    spoilt = {"method": METHODS["lth"], "data_noise": shuffled_pixels()}
    with pytest.raises(MPFLError, match="clean pooled data; set pooled to nodes"):
        Experiment(**spoilt)
    assert Experiment(**spoilt, pooled="nodes").data_noise


# --- the best epoch ever -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("best", "scores", "kept", "after"),
    [(-1, [3, 5, 5, 2], 1, 5), (4, [3, 5, 6, 2], 2, 6), (6, [3, 5, 6, 2], 3, 6), (0, [0], 0, 0)],
)
def test_an_epoch_has_to_beat_what_was_reached_before(best, scores, kept, after):
    module = torch.nn.Linear(1, 1)
    left = iter(scores)
    passes = Epochs(len(scores), module, lambda: next(left), best)
    for epoch in passes:
        torch.nn.init.constant_(module.weight, epoch)
    assert (passes.kept, passes.best, module.weight.item()) == (kept, after, kept)


def test_what_is_to_be_beaten_is_carried_from_training_to_training():
    module = DigitsCNN([4, 6, 5], 10)
    trainer = Trainer(module, layout_of(module), (0.3,), (0.3,), "float32")
    data, full = parties().nodes[0], masks.full(trainer.layout)
    w0 = initial_weights(module, 0)
    first = trainer.fit(w0, full, data, rng_for(0), EVER, epochs=3)
    [(name, best)] = first.carry.items()
    assert name.startswith(CARRIED) and 0 <= best <= len(data.validation)
    # Nothing can beat what nobody reaches: the last epoch stands.
    unbeaten = {**w0, name: np.array(len(data.validation))}
    stood = trainer.fit(unbeaten, full, data, rng_for(0), EVER, epochs=3)
    best_of = dataclasses.replace(EVER, keep="best")
    assert same(first.weights, trainer.fit(w0, full, data, rng_for(0), best_of, epochs=3).weights)
    assert same(stood.carry, {name: unbeaten[name]}) and set(stood.weights) == set(w0)
    assert not trainer.fit(w0, full, data, rng_for(0), EVER, epochs=1).carry
    assert not trainer.fit(w0, full, data, rng_for(0), best_of, epochs=3).carry


def test_weights_that_came_by_wire_join_what_is_carried():
    layout = Layout((Layer("l", 2, "w", ("w",)),), {"w": (2, 1)})
    weights, memory = {"w": np.ones((2, 1), "f4")}, {"w": np.zeros((2, 1), "f4")}
    memory[f"{CARRIED}best"] = np.array(3)
    message = encode_weights(weights, layout, 2)
    assert same(read_weights(memory, message, layout)[0], {**memory, **weights})
    assert Update(weights).remembered_in(memory) is memory


@pytest.mark.parametrize("method", ["mpfl", "pruning-fl", "released-fl"])
def test_a_killed_run_goes_on_with_what_its_nodes_carry(tmp_path, method):
    experiment = dataclasses.replace(SMALL, method=METHODS[method])
    run(experiment, tmp_path / "whole")

    class Killed(BaseException):
        """Not an Exception: nothing in a run may catch it."""

    for stop in (4, 15):

        def watch(_, left=iter(range(stop))):
            if next(left, None) is None:
                raise Killed

        folder = tmp_path / f"run-{stop}"
        try:
            run(experiment, folder, watch=watch)
        except Killed:
            run(experiment, folder, resume=True)
        assert result_of(folder) == result_of(tmp_path / "whole")


def test_the_nodes_carry_different_numbers_and_it_matters(tmp_path):
    """Else the tests above would pass without it."""
    run(SMALL, tmp_path / "ever")
    reset = dataclasses.replace(EVER, keep="best")
    run(dataclasses.replace(SMALL, local=reset), tmp_path / "best")
    one, other = (read_lines(tmp_path / name / "rounds.jsonl") for name in ("ever", "best"))
    assert one[0]["metrics"] == other[0]["metrics"] and one[1]["metrics"] != other[1]["metrics"]


def test_worker_processes_carry_it_too(tmp_path):
    run(SMALL, tmp_path / "one")
    run(SMALL, tmp_path / "two", workers=2)
    assert result_of(tmp_path / "one") == result_of(tmp_path / "two")


# --- when the mask rounds end ------------------------------------------------------------


def test_the_mask_rounds_end_once_enough_is_gone(tmp_path):
    quick = dataclasses.replace(
        SMALL, rounds=6, epochs=1, central_epochs=0, federated_rounds=0, local=Settings()
    )
    run(quick, tmp_path / "all")
    layout = Workbench(quick).layout
    sizes = layout.filter_sizes
    every = sum(layer.filters * sizes[layer.name] for layer in layout.layers)
    gone = []
    for line in read_lines(tmp_path / "all/rounds.jsonl"):
        bits = {n: bytes.fromhex(text) for n, text in line["mask"].items()}
        left = {n: sum(int(byte).bit_count() for byte in raw) for n, raw in bits.items()}
        gone.append(1 - sum(count * sizes[n] for n, count in left.items()) / every)
    limit = (gone[2] + gone[3]) / 2
    early = dataclasses.replace(quick, stop_above=limit)
    run(early, tmp_path / "early")
    assert len(read_lines(tmp_path / "early/rounds.jsonl")) == 4
    # Killed after its last round, it does not go on to another.
    whole = safetensors.numpy.load_file(tmp_path / "early/mask.safetensors")

    class Killed(BaseException):
        """Not an Exception: nothing in a run may catch it."""

    def watch(_, left=iter(range(11))):
        if next(left, None) is None:
            raise Killed

    with pytest.raises(Killed):
        run(early, tmp_path / "killed", watch=watch)
    run(early, tmp_path / "killed", resume=True)
    assert len(read_lines(tmp_path / "killed/rounds.jsonl")) == 4
    assert same(safetensors.numpy.load_file(tmp_path / "killed/mask.safetensors"), whole)
    # A control that matches it ends with it.
    lottery = dataclasses.replace(
        early, method=METHODS["lottery"], match=str(tmp_path / "early"), local=Settings()
    )
    run(lottery, tmp_path / "lottery")
    assert len(read_lines(tmp_path / "lottery/rounds.jsonl")) == 4
