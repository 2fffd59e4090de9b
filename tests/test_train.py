"""The training loop: what is pruned stays exactly zero, and nothing but ``rng`` decides."""

import math

import numpy as np
import pytest
import torch
from nets import TanhChain
from torch import nn
from torch.optim.optimizer import register_optimizer_step_pre_hook
from toys import random_mask

from mpfl import filters, masks
from mpfl.nets import trainer as trainer_module
from mpfl.nets.augment import shift_and_mirror
from mpfl.nets.networks import DigitsCNN, build
from mpfl.nets.settings import Settings
from mpfl.nets.shard import Shard
from mpfl.nets.start import initial_weights
from mpfl.nets.tensors import load_weights, to_numpy
from mpfl.nets.tracing import layout_of
from mpfl.nets.trainer import Trainer
from mpfl.seeds import rng_for
from mpfl.types import MPFLError

MODULES = {
    "digits-cnn": lambda: DigitsCNN([4, 6, 5], 3),
    "tanh": TanhChain,
    "resnet18": lambda: build("resnet18", 3, width=1 / 32),
}


def inputs_of(layout):
    return layout.shapes[layout.layers[0].weight][1]


def trainer_of(module, **how):
    layout = layout_of(module)
    channels = inputs_of(layout)
    return Trainer(module, layout, (0.4,) * channels, (0.2,) * channels, "float32", **how)


def shard(count, channels=1, pixels=8, classes=3, seed=0):
    rng = rng_for(seed, "shard")
    labels = np.arange(count, dtype=np.int64) % classes
    brightest = 255 * (labels + 1) // classes  # so that there is something to learn
    shape = (count, channels, pixels, pixels)
    images = rng.integers(0, brightest[:, None, None, None] + 1, shape).astype(np.uint8)
    return Shard(torch.from_numpy(images), torch.from_numpy(labels))


def dirty(weights, rng):
    """Weights without a single zero."""
    return {
        name: (rng.uniform(0.5, 2, array.shape) * (1 if "var" in name else 0.3)).astype("f4")
        for name, array in weights.items()
    }


def equal(one, other):
    return one.keys() == other.keys() and all(np.array_equal(one[k], other[k]) for k in one)


@pytest.fixture
def tanh():
    return trainer_of(TanhChain())


@pytest.fixture
def digits():
    return trainer_of(MODULES["digits-cnn"]())


# --- the mask is an invariant ------------------------------------------------------------


@pytest.mark.parametrize("trial", range(3))
@pytest.mark.parametrize(
    "settings",
    [
        Settings("sgd", lr=0.1, momentum=0.9, weight_decay=0.1, batch=8),
        Settings("adam", lr=0.01, weight_decay=0.1, batch=8, augment=True, decay="cosine"),
    ],
    ids=["sgd", "adam"],
)
@pytest.mark.parametrize("compact", [True, False], ids=["compact", "twin"])
@pytest.mark.parametrize("name", MODULES)
def test_what_is_pruned_is_exactly_zero_at_every_step(name, compact, settings, trial):
    trainer = trainer_of(MODULES[name](), compact=compact)
    layout = trainer.layout
    rng = rng_for(trial, "invariant", name)
    mask = random_mask(layout, rng)
    weights = dirty(to_numpy(trainer.module), rng)
    network, passes = trainer.network(mask), []
    assert (network is not trainer.module) == compact

    def check(*_):
        held = to_numpy(network)
        held = filters.expand(held, mask, layout) if compact else held
        assert equal(held, filters.apply(held, mask, layout)), f"after {len(passes)} steps"
        passes.append(held)

    network.register_forward_pre_hook(check)
    data = shard(20, inputs_of(layout))
    update = trainer.fit(weights, mask, data, rng, settings, epochs=2, gradients=True)
    check()
    assert len(passes) >= 7  # six steps, and the end
    assert equal(update.weights, passes[-1])
    kept = filters.apply({n: np.ones_like(a) for n, a in weights.items()}, mask, layout)
    for tensor, factor in kept.items():
        assert (update.weights[tensor][factor == 1] != 0).all(), tensor
        if "running" not in tensor:
            assert (passes[0][tensor] != update.weights[tensor])[factor == 1].any(), tensor


@pytest.mark.parametrize("optimiser", ["sgd", "adam"])
@pytest.mark.parametrize("name", MODULES)
def test_the_small_network_trains_as_its_slow_twin(name, optimiser):
    rate = {"sgd": 0.05, "adam": 0.01}[optimiser]
    settings = Settings(optimiser, lr=rate, weight_decay=0.01, batch=16, augment=True)
    near, compared = {"rtol": 1e-2, "atol": 1e-3}, 0
    for trial in range(6):
        module = MODULES[name]()
        if name == "tanh":
            module.dropout.p = 0.0  # it draws for every channel, and the twin has more of them
        fast, slow = trainer_of(module), trainer_of(module, compact=False)
        mask = random_mask(fast.layout, rng_for(trial, "compact"))
        w0, data = initial_weights(module, trial), shard(64, inputs_of(fast.layout))

        def fit(trainer, w0=w0, mask=mask, data=data, trial=trial):
            rng = rng_for(trial, "steps")
            return trainer.fit(w0, mask, data, rng, settings, epochs=2, gradients=True)

        # Under batch norm a conv's bias has no slope but rounding, which Adam makes steps of.
        idle = {
            tensor for layer in fast.layout.layers if layer.scale and optimiser == "adam"
            for tensor in layer.own if tensor.endswith(".bias") and tensor != layer.shift
        }  # fmt: skip

        def held(update, layout=fast.layout, mask=mask, idle=idle):
            """Its weights and slopes; a pruned filter of the twin has a slope still."""
            slopes = filters.apply(update.gradients, mask, layout)
            pairs = (update.weights.items(), slopes.items())
            return [(n, a) for each in pairs for n, a in each if n not in idle]

        one, two = fit(fast), fit(slow)
        # Rounding may take a ReLU to its other side. Then the twin parts from itself as well, if it
        # starts a millionth away, and the trial says nothing of the small network.
        nudged = fit(slow, {n: (a * (1 + 1e-6)).astype(a.dtype) for n, a in w0.items()})
        if not all(
            np.allclose(ours, theirs, **near)
            for (_, ours), (_, theirs) in zip(held(nudged), held(two), strict=True)
        ):
            continue
        compared += 1
        assert one.metrics["loss"] == pytest.approx(two.metrics["loss"], rel=1e-3)
        for (tensor, ours), (_, theirs) in zip(held(one), held(two), strict=True):
            np.testing.assert_allclose(ours, theirs, err_msg=tensor, **near)
        start = filters.apply(w0, mask, fast.layout)
        moved = max(np.abs(one.weights[n] - start[n]).max() for n in one.gradients)
        assert moved > 0.02, "the steps were too small to compare"
        score = fast.accuracy(one.weights, mask, data)
        assert score == slow.accuracy(one.weights, mask, data) > 0
        if compared == 3:
            return
    raise AssertionError(f"only {compared} of six trials say anything")


def test_the_network_of_a_mask_is_made_once(digits):
    """And whose weights it held before does not matter."""
    one, two = (random_mask(digits.layout, rng_for(i, "made once")) for i in range(2))
    assert digits.network(masks.full(digits.layout)) is digits.module
    small = digits.network(one)
    assert small is digits.network(one) is not digits.network(two)
    assert digits.network(one) is not digits.module
    w0, data = initial_weights(digits.module, 0), shard(32)

    def fit(mask):
        return digits.fit(w0, mask, data, rng_for(0, "turn"), Settings(batch=8), epochs=1).weights

    first = fit(one)
    assert not equal(first, fit(two))
    assert equal(first, fit(one)) and equal(first, fit(one))


def test_with_nothing_pruned_it_is_plain_training(digits):
    data, settings = shard(64), Settings(batch=16, weight_decay=0.01)
    w0 = initial_weights(digits.module, 0)
    full = masks.full(digits.layout)
    ours = digits.fit(w0, full, data, rng_for(0, "plain"), settings, epochs=2)

    module, rng = digits.module, rng_for(0, "plain")
    load_weights(module, w0)
    rng.integers(2**62)  # what fit takes for dropout
    sgd = torch.optim.SGD(module.parameters(), lr=0.05, momentum=0.9, weight_decay=0.01)
    module.train()
    for _ in range(2):
        losses = []
        for index in torch.from_numpy(rng.permutation(64)).split(16):
            pixels = (data.images[index] / 255 - 0.4) / 0.2
            loss = nn.functional.cross_entropy(module(pixels), data.labels[index])
            sgd.zero_grad()
            loss.backward()
            sgd.step()
            losses.append(loss.item())
    for name, array in to_numpy(module).items():
        np.testing.assert_allclose(ours.weights[name], array, rtol=1e-3, atol=1e-4, err_msg=name)
    assert ours.metrics["loss"] == pytest.approx(np.mean(losses), rel=1e-3)
    assert ours.gradients is None


# --- a function of its arguments ---------------------------------------------------------


def test_equal_arguments_give_equal_bits(tanh):
    data, settings = shard(40), Settings(batch=16, augment=True)
    w0, full = initial_weights(tanh.module, 0), masks.full(tanh.layout)
    given = {name: array.copy() for name, array in w0.items()}

    def fit(seed):
        rng = rng_for(seed, "bits")
        return tanh.fit(w0, full, data, rng, settings, epochs=2, gradients=True)

    torch.manual_seed(1)
    first = fit(0)
    torch.manual_seed(2)
    again = fit(0)
    assert equal(first.weights, again.weights)
    assert equal(first.gradients, again.gradients)
    assert first.metrics == again.metrics
    assert not equal(first.weights, fit(1).weights)
    assert equal(w0, given), "fit changed the weights it was given"


def test_dropout_depends_on_the_generator_given(tanh):
    """One batch of all data in any order is one and the same, but for dropout."""
    data, settings = shard(32), Settings(batch=32)
    w0, full = initial_weights(tanh.module, 0), masks.full(tanh.layout)
    tanh.module.dropout.p = 0.9
    losses = {
        tanh.fit(w0, full, data, rng_for(s, "drop"), settings, epochs=1).metrics["loss"]
        for s in range(3)
    }
    tanh.module.dropout.p = 0.0
    same = {
        round(tanh.fit(w0, full, data, rng_for(s), settings, epochs=1).metrics["loss"], 5)
        for s in range(3)
    }
    assert len(losses) == 3 and len(same) == 1


def test_the_global_generator_is_left_alone(tanh):
    before = torch.get_rng_state()
    tanh.fit(
        initial_weights(tanh.module, 0),
        masks.full(tanh.layout),
        shard(20),
        rng_for(0, "global"),
        Settings(batch=8, augment=True),
        epochs=1,
    )
    assert torch.equal(torch.get_rng_state(), before)


def test_weights_that_come_out_are_a_copy(digits):
    w0, full = initial_weights(digits.module, 0), masks.full(digits.layout)
    first = digits.fit(w0, full, shard(20), rng_for(0, "copy"), Settings(batch=8), epochs=1)
    before = {name: array.copy() for name, array in first.weights.items()}
    digits.fit(w0, full, shard(20), rng_for(1, "copy"), Settings(batch=8), epochs=1)
    assert equal(first.weights, before)


@pytest.mark.parametrize("outside", [1, 2, 3])
def test_a_result_does_not_depend_on_the_threads_of_the_process(outside):
    trainer = trainer_of(DigitsCNN([16, 32, 64], 3))
    w0, data = initial_weights(trainer.module, 0), shard(64)
    mask, settings = masks.full(trainer.layout), Settings(batch=32)
    inside = []
    trainer.module.register_forward_hook(lambda *_: inside.append(torch.get_num_threads()))

    def fit(settings=settings):
        rng = rng_for(0, "threads")
        return trainer.fit(w0, mask, data, rng, settings, epochs=2, gradients=True)

    alone, before = fit(), torch.get_num_threads()
    torch.set_num_threads(outside)
    try:
        update = fit()
        trainer.accuracy(w0, mask, data)
        assert torch.get_num_threads() == outside
        with pytest.raises(MPFLError, match="loss is nan"):
            fit(Settings(lr=1e30, batch=8))
        assert torch.get_num_threads() == outside, "not given back after an error"
    finally:
        torch.set_num_threads(before)
    assert set(inside) == {1}
    assert equal(update.weights, alone.weights) and equal(update.gradients, alone.gradients)


def test_a_trainer_may_be_told_to_use_more_threads():
    trainer = trainer_of(DigitsCNN([4, 6, 5], 3), threads=2)
    inside, before = [], torch.get_num_threads()
    trainer.module.register_forward_hook(lambda *_: inside.append(torch.get_num_threads()))
    trainer.accuracy(initial_weights(trainer.module, 0), masks.full(trainer.layout), shard(8))
    assert inside == [2] and torch.get_num_threads() == before


# --- steps and epochs --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("count", "sizes"), [(2, [2]), (8, [8]), (9, [9]), (10, [8, 2]), (16, [8, 8]), (17, [8, 9])]
)
def test_a_last_batch_of_one_joins_the_one_before_it(digits, count, sizes):
    seen, epochs = [], []
    hook = digits.module.register_forward_pre_hook(lambda _, x: seen.append(len(x[0])))
    rates = []
    steps = register_optimizer_step_pre_hook(
        lambda optimiser, *_: rates.append(optimiser.param_groups[0]["lr"])
    )
    try:
        digits.fit(
            initial_weights(digits.module, 0),
            masks.full(digits.layout),
            shard(count),
            rng_for(0, "batches"),
            Settings(batch=8, lr=0.01, decay="cosine"),
            epochs=3,
            on_epoch=epochs.append,
        )
    finally:
        hook.remove(), steps.remove()
    assert seen == sizes * 3
    assert epochs == [0, 1, 2]
    total = len(seen)
    assert rates == [0.01 * 0.5 * (1 + math.cos(math.pi * step / total)) for step in range(total)]


def test_every_picture_is_seen_once_an_epoch(digits):
    count, seen = 21, []
    images = torch.arange(count, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 1, 8, 8)
    data = Shard(images.contiguous(), torch.zeros(count, dtype=torch.int64))
    digits.module.register_forward_pre_hook(lambda _, x: seen.extend(x[0][:, 0, 0, 0].tolist()))
    w0, full = initial_weights(digits.module, 0), masks.full(digits.layout)
    digits.fit(w0, full, data, rng_for(0, "once"), Settings(batch=4), epochs=2)
    numbers = [round((pixel * 0.2 + 0.4) * 255) for pixel in seen]
    assert sorted(numbers[:count]) == sorted(numbers[count:]) == list(range(count))
    assert numbers[:count] != numbers[count:] != list(range(count))


@pytest.mark.parametrize("count", [0, 1])
def test_too_little_data_is_refused(digits, count):
    w0, full = initial_weights(digits.module, 0), masks.full(digits.layout)
    with pytest.raises(MPFLError, match=f"{count} images .* fewer nodes or another partition"):
        digits.fit(w0, full, shard(count), rng_for(0, "none"), Settings(), epochs=1)


def test_a_loss_that_is_no_number_is_refused(digits):
    w0, full = initial_weights(digits.module, 0), masks.full(digits.layout)
    with pytest.raises(MPFLError, match=r"loss is nan; lower the learning rate 1e\+30"):
        digits.fit(w0, full, shard(32), rng_for(0), Settings(lr=1e30, batch=8), epochs=2)


def test_a_weight_that_is_no_number_is_refused(digits, monkeypatch):
    """The last loss is of before the last step, and batch norm's statistics are in no loss."""
    w0, full = initial_weights(digits.module, 0), masks.full(digits.layout)

    def overflow(held):
        for name, statistic in digits.module.named_buffers():
            if name.endswith("running_var"):
                statistic.fill_(math.inf)

    monkeypatch.setattr(trainer_module, "hold", overflow)
    with pytest.raises(MPFLError, match=r"diverged, '.*running_var' holds NaN or infinity; lower"):
        digits.fit(w0, full, shard(32), rng_for(0), Settings(), epochs=1)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"optimiser": "sdg"}, "no optimiser 'sdg'; .*there are sgd, adam"),
        ({"decay": "linear"}, "no decay 'linear'; .*there are constant, cosine"),
        ({"lr": 0.0}, "lr is 0.0"),
        ({"lr": math.nan}, "lr is nan"),
        ({"momentum": 1.0}, "momentum is 1.0"),
        ({"weight_decay": -0.1}, "weight_decay -0.1"),
        ({"batch": 1}, "batch is 1"),
    ],
)
@pytest.mark.usefixtures("types_unchecked")
def test_settings_refuse_nonsense(change, says):
    with pytest.raises(MPFLError, match=says):
        Settings(**change)


# --- augmentation ------------------------------------------------------------------------


class Fixed(np.random.Generator):
    """A generator that draws what it is told: how far to shift, and who is mirrored."""

    def __init__(self, shift, mirror):
        super().__init__(np.random.PCG64(0))
        self.shift, self.mirror = shift, mirror

    def integers(self, low, high, count):
        assert (low, high) == (0, 9)
        return np.full(count, self.shift + 4)

    def random(self, count):
        return np.full(count, 0.0 if self.mirror else 0.9)


def test_augmentation_by_nothing_changes_nothing():
    images = shard(6, 3, 10).images
    assert torch.equal(shift_and_mirror(images, Fixed(0, False)), images)


def test_augmentation_mirrors_left_to_right():
    images = shard(6, 3, 10).images
    assert torch.equal(shift_and_mirror(images, Fixed(0, True)), images.flip(3))


def test_augmentation_shifts_black_in():
    images = shard(6, 3, 10).images
    moved = shift_and_mirror(images, Fixed(3, False))
    assert torch.equal(moved[:, :, :-3, :-3], images[:, :, 3:, 3:])
    assert not moved[:, :, -3:].any() and not moved[..., -3:].any()


def test_augmentation_equals_a_slow_loop():
    images = shard(50, 3, 10).images
    moved = shift_and_mirror(images, rng_for(0, "augment"))
    assert moved.dtype == torch.uint8 and moved.shape == images.shape
    assert moved.is_contiguous(memory_format=torch.channels_last)
    rng = rng_for(0, "augment")
    top, left, mirror = rng.integers(0, 9, 50), rng.integers(0, 9, 50), rng.random(50) < 0.5
    assert 10 < mirror.sum() < 40 and len(set(top)) == len(set(left)) == 9
    for i, image in enumerate(images.numpy()):
        padded = np.pad(image, [(0, 0), (4, 4), (4, 4)])
        window = padded[:, top[i] : top[i] + 10, left[i] : left[i] + 10]
        window = window[:, :, ::-1] if mirror[i] else window
        np.testing.assert_array_equal(moved[i].numpy(), window)


def test_pictures_are_resized_to_what_the_model_reads():
    module = MODULES["digits-cnn"]()
    trainer = Trainer(module, layout_of(module), (0.4,), (0.2,), "float32", pixels=12)
    seen = []
    module.register_forward_pre_hook(lambda _, x: seen.append(x[0]))
    data = shard(8)
    trainer.accuracy(initial_weights(module, 0), masks.full(trainer.layout), data)
    assert seen[0].shape == (8, 1, 12, 12)
    small = (data.images / 255 - 0.4) / 0.2
    torch.testing.assert_close(seen[0].mean((2, 3)), small.mean((2, 3)), rtol=0, atol=0.1)
    assert seen[0].is_contiguous(memory_format=torch.channels_last)


# --- gradients and accuracy --------------------------------------------------------------


def test_mean_gradients_equal_the_slope_of_the_mean_loss(digits):
    """More pictures than fit in one pass, against autograd and finite differences in float64."""
    data = shard(600)
    rng = rng_for(0, "slope")
    mask = random_mask(digits.layout, rng)
    w0 = initial_weights(digits.module, 0)
    settings = Settings(batch=64, lr=0.01)
    update = digits.fit(w0, mask, data, rng, settings, epochs=1, gradients=True)

    module = MODULES["digits-cnn"]()
    load_weights(module, update.weights)
    module.double().eval()

    def loss():
        pixels = (data.images.double() / 255 - 0.4) / 0.2
        return nn.functional.cross_entropy(module(pixels), data.labels)

    loss().backward()
    parameters = dict(module.named_parameters())
    assert update.gradients.keys() == parameters.keys()
    for name, parameter in parameters.items():
        expected = parameter.grad.numpy()
        np.testing.assert_allclose(update.gradients[name], expected, rtol=1e-3, atol=1e-5)
        where = np.unravel_index(np.abs(expected).argmax(), expected.shape)
        with torch.no_grad():
            parameter[where] += 1e-5
            above = loss().item()
            parameter[where] -= 2e-5
            below = loss().item()
            parameter[where] += 1e-5
        assert (above - below) / 2e-5 == pytest.approx(update.gradients[name][where], rel=1e-2)


def test_accuracy_equals_counting(digits):
    data, rng = shard(600), rng_for(0, "accuracy")
    mask = random_mask(digits.layout, rng)
    weights = dirty(initial_weights(digits.module, 0), rng)
    found = digits.accuracy(weights, mask, data)
    load_weights(digits.module, filters.apply(weights, mask, digits.layout))
    digits.module.eval()
    right = 0
    with torch.no_grad():
        for image, label in zip(data.images, data.labels, strict=True):
            logits = digits.module(((image / 255 - 0.4) / 0.2)[None])[0]
            right += int(logits.argmax() == label)
    assert found == right / 600
    assert 0 < found < 1


def test_training_learns(digits):
    data = shard(200)
    w0, full = initial_weights(digits.module, 0), masks.full(digits.layout)
    update = digits.fit(w0, full, data, rng_for(0, "learn"), Settings(batch=32), epochs=8)
    assert digits.accuracy(update.weights, full, shard(200, seed=1)) > 0.7
