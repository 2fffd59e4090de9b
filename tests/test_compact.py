"""The small network and the masked one: equal functions, equal steps, equal weights."""

import copy

import numpy as np
import pytest
import torch
import torchvision
from nets import FlattenedChain, TanhChain
from torch import fx, nn
from toys import mask_of, random_mask, same

from mpfl import masks
from mpfl.filters import apply, cut, expand
from mpfl.nets.cutting import compact, macs, skeleton
from mpfl.nets.networks import DigitsCNN, SmallVGG, build
from mpfl.nets.placing import Placed
from mpfl.nets.tensors import float_state, load_weights
from mpfl.nets.tracing import layout_of
from mpfl.nets.trainer import Trainer
from mpfl.runs.workbench import Workbench
from mpfl.seeds import rng_for
from mpfl.simulation import simulate
from mpfl.types import MPFLError


def torchvision_vgg11():
    """As torchvision makes it, but for the width of its head: it has 100 million weights."""
    with torch.device("meta"):
        module = build("torchvision-vgg11", 4)
    pixels = 7 * 7
    module.classifier[0], module.classifier[3] = nn.Linear(512 * pixels, 8), nn.Linear(8, 8)
    module.classifier[6] = nn.Linear(8, 4)
    return module.to_empty(device="cpu")


# What makes it, and how large the pictures are.
MODELS = {
    "digits-cnn": (lambda: DigitsCNN([5, 6, 7], 4), 8),
    "vgg11-bn": (lambda: SmallVGG([4, 5, 6, 7, 8, 7, 6, 5], 4), 32),
    "resnet18": (lambda: build("resnet18", 4, width=1 / 16), 32),
    "resnet18 at 64 px": (lambda: build("resnet18", 4, width=1 / 16, pixels=64), 64),
    "torchvision-resnet18": (lambda: build("torchvision-resnet18", 4), 32),
    "torchvision-vgg11": (torchvision_vgg11, 32),
    "flattened": (FlattenedChain, 6),
    "tanh": (TanhChain, 8),
}
LARGE = ("torchvision-resnet18", "torchvision-vgg11")
every_model = pytest.mark.parametrize("name", MODELS)
in_both_modes = pytest.mark.parametrize("train", [False, True], ids=["eval", "train"])


def made(name, rng, dtype=torch.float64):
    """A module with weights of which none is zero, and layers that neither blow up nor fade."""
    module = MODELS[name][0]().to(dtype)
    with torch.no_grad():
        for tensor_name, tensor in float_state(module).items():
            draw = rng.standard_normal(tensor.shape) * np.sqrt(2 / max(2, tensor[:1].numel()))
            if tensor_name.endswith("running_var"):
                draw = rng.uniform(0.5, 2, tensor.shape)
            tensor.copy_(torch.from_numpy(draw))
    for part in module.modules():
        if isinstance(part, nn.Dropout):
            part.p = 0.0
    return module


def weights_of(module):
    """All of them, at full precision."""
    return {name: tensor.numpy().copy() for name, tensor in float_state(module).items()}


def masked(module, mask):
    """The slow twin: full shapes, zeros where pruned."""
    twin = copy.deepcopy(module)
    load_weights(twin, apply(weights_of(module), mask, layout_of(module)))
    return twin


def pictures(module, name, rng, count=6):
    inputs = next(part for part in module.modules() if isinstance(part, nn.Conv2d)).in_channels
    pixels = MODELS[name][1]
    return torch.from_numpy(rng.standard_normal((count, inputs, pixels, pixels)))


def draws(name):
    """A network and a mask, a few times over: many filters kept, few, and one per layer."""
    for trial, share in enumerate((0.5,) if name in LARGE else (0.7, 0.3, 0.0)):
        rng = rng_for(trial, "compact", name)
        module = made(name, rng)
        yield module, random_mask(layout_of(module), rng, share), rng


# --- equal functions ---------------------------------------------------------------------


def assert_equal_outputs(module, mask, x):
    whole, small = masked(module, mask), compact(module, mask)
    with torch.no_grad():
        out = whole(x)
        assert out.std() > 1e-4, "nothing comes through: the test compares zeros"
        torch.testing.assert_close(small(x), out, rtol=1e-10, atol=1e-10)
    after = cut(weights_of(whole), mask, layout_of(module))  # batch norm has moved, alike
    for tensor, array in weights_of(small).items():
        near = {"rtol": 1e-10, "atol": 1e-10, "err_msg": tensor}
        np.testing.assert_allclose(array, after[tensor], **near)


@in_both_modes
@every_model
def test_the_small_network_computes_what_the_masked_one_computes(name, train):
    for module, mask, rng in draws(name):
        assert 0 < masks.sparsity(mask) < 1
        assert_equal_outputs(module.train(train), mask, pictures(module, name, rng))


# What the two sides of a join keep of its channels; there are four, and eight.
JOINS = {
    "different": ("##..", ".##."),
    "nothing in common": ("#.#.", ".#.#"),
    "one of them gone": ("#...", "..#."),
    "equal": (".##.", ".##."),
    "the shortcut covers the sum": ("###.", ".#.."),
    "the main branch covers the sum": ("..#.", "#.##"),
}


@in_both_modes
@pytest.mark.parametrize("join", JOINS)
@pytest.mark.parametrize(
    ("path", "shortcut"),
    [("layer1.0", "conv1"), ("layer2.0", "layer2.0.downsample.0")],
    ids=["identity", "downsample"],
)
def test_the_two_sides_of_a_join_may_keep_different_channels(path, shortcut, join, train):
    rng = rng_for(0, "join", join)
    module = made("resnet18", rng).train(train)
    mask = masks.full(layout_of(module))
    times = mask[shortcut].size // 4
    for layer, text in zip((shortcut, f"{path}.conv2"), JOINS[join], strict=True):
        mask[layer] = np.array([bit == "#" for bit in text * times])
    assert_equal_outputs(module, mask, pictures(module, "resnet18", rng))
    small, together = compact(module, mask), mask[shortcut] | mask[layer]
    placed = iter([part for part in small.modules() if isinstance(part, Placed)])
    for bits in (mask[f"{path}.conv2"], mask[shortcut]):  # in the order in which they are added
        if not np.array_equal(bits, together):
            channels = next(placed).matrix.numpy() @ np.flatnonzero(bits)
            assert np.array_equal(channels, np.where(bits, np.arange(bits.size), 0)[together])
    # What is left over puts the sum in its place in a later one, which keeps all channels.
    for part in placed:
        assert np.array_equal(part.matrix.sum(1).numpy(), together) and not together.all()


def test_a_sum_that_is_one_channel_longer_than_a_side_adds_nothing_to_it():
    """The channel that only the shortcut keeps is exactly the shortcut's."""
    rng = rng_for(0, "longer")
    module = made("resnet18", rng).eval()
    mask = masks.full(layout_of(module))
    mask["layer1.0.conv2"][1] = False
    small, seen = compact(module, mask), {}
    for name in ("conv1", "relu"):  # the block begins with the one and ends with the other
        small.get_submodule(f"layer1.0.{name}").register_forward_hook(
            lambda _, x, out, name=name: seen.update({name: (x[0].clone(), out.clone())})
        )
    with torch.no_grad():
        small(pictures(module, "resnet18", rng))
    shortcut, total = seen["conv1"][0], seen["relu"][1]
    assert torch.equal(total[:, 1], shortcut[:, 1].relu())
    assert not torch.equal(total[:, 0], shortcut[:, 0].relu())


@in_both_modes
@every_model
def test_with_nothing_pruned_it_is_the_same_network(name, train):
    rng = rng_for(0, "full", name)
    module = made(name, rng).train(train)
    small = compact(module, masks.full(layout_of(module)))
    assert same(weights_of(small), weights_of(module))
    x = pictures(module, name, rng)
    with torch.no_grad():
        assert torch.equal(small(x), module(x))


def test_cut_twice_is_cut_once():
    for module, first, rng in draws("digits-cnn"):
        layout = layout_of(module)
        both = masks.intersect(first, random_mask(layout, rng, 0.9))
        if not all(bits.any() for bits in both.values()):
            continue
        inner = {name: both[name][first[name]] for name in first}
        again = compact(compact(module, first), inner)
        assert same(weights_of(again), weights_of(compact(module, both)))
        assert masks.sparsity(inner) > 0
        return
    pytest.fail("no two masks to cut by")


# --- equal steps -------------------------------------------------------------------------

OPTIMISERS = {
    "sgd": lambda module: torch.optim.SGD(
        module.parameters(), lr=0.02, momentum=0.9, weight_decay=0.01
    ),
    # By a smaller epsilon, where a gradient is almost none, it would divide rounding errors.
    "adam": lambda module: torch.optim.Adam(
        module.parameters(), lr=0.003, eps=1e-4, weight_decay=0.01
    ),
}


def step(module, optimiser, x, labels):
    loss = nn.functional.cross_entropy(module(x), labels)
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()


@pytest.mark.parametrize("optimiser", OPTIMISERS)
@every_model
def test_steps_of_the_small_network_are_those_of_the_masked_one(name, optimiser):
    for module, mask, rng in draws(name):
        layout = layout_of(module)
        whole, small = masked(module, mask), compact(module, mask)
        start = weights_of(small)
        each = [(net, OPTIMISERS[optimiser](net.train())) for net in (whole, small)]
        for _ in range(3):
            x = pictures(module, name, rng)
            labels = torch.from_numpy(rng.integers(0, 3, len(x)))
            for net, with_ in each:
                step(net, with_, x, labels)
            load_weights(whole, apply(weights_of(whole), mask, layout))
        expected, found = cut(weights_of(whole), mask, layout), weights_of(small)
        for tensor, array in found.items():
            near = {"rtol": 1e-9, "atol": 1e-9, "err_msg": tensor}
            np.testing.assert_allclose(array, expected[tensor], **near)
        moved = max(np.abs(found[n] - start[n]).max() for n, _ in small.named_parameters())
        assert moved > 0.005, "the steps were too small to compare"


# --- equal weights -----------------------------------------------------------------------


@every_model
def test_expanded_the_small_weights_are_the_masked_ones(name):
    for module, mask, _ in draws(name):
        layout = layout_of(module)
        small = weights_of(compact(module, mask))
        assert same(expand(small, mask, layout), apply(weights_of(module), mask, layout))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@in_both_modes
@every_model
def test_the_small_network_is_another_one_of_the_same_kind(name, train, dtype):
    rng = rng_for(0, "kind", name)
    module = made(name, rng, dtype).train(train)
    before = {key: tensor.clone() for key, tensor in module.state_dict().items()}
    parts = {path: type(part) for path, part in module.named_modules()}
    mask = random_mask(layout_of(module), rng)
    small = compact(module, mask)

    assert list(small.state_dict()) == list(before)
    assert [n for n, _ in small.named_parameters()] == [n for n, _ in module.named_parameters()]
    assert all(type(each) is nn.Parameter for each in small.parameters())
    rewritten = isinstance(small, fx.GraphModule)  # its steps are written down, not its blocks
    assert rewritten == any(isinstance(part, Placed) for part in small.modules())
    assert rewritten == ("resnet" in name) and type(small).__name__ == type(module).__name__
    for path, part in small.named_modules():
        assert part.training == train, path
        if not isinstance(part, Placed) and not (rewritten and any(part.children())):
            assert type(part) is parts[path], path
    for tensor in (*small.parameters(), *small.buffers()):
        assert tensor.dtype in (dtype, torch.int64) and tensor.device.type == "cpu"

    with torch.no_grad():
        for tensor in (*small.parameters(), *small.buffers()):
            tensor.add_(1)
    for key, tensor in module.state_dict().items():
        assert torch.equal(tensor, before[key]), f"{key} is shared"
    assert all(type(part) is parts[path] for path, part in module.named_modules())
    assert all(part.training == train for part in module.modules())


# --- refused -----------------------------------------------------------------------------


@pytest.mark.parametrize("cut_out", [skeleton, compact], ids=["skeleton", "compact"])
@pytest.mark.parametrize("name", ["digits-cnn", "resnet18", "flattened"])
def test_a_mask_that_empties_a_layer_is_refused_by_its_name(name, cut_out):
    module = made(name, rng_for(0, "empty"))
    for layer in layout_of(module).layers:
        mask = masks.full(layout_of(module))
        mask[layer.name][:] = False
        with pytest.raises(MPFLError, match=f"leaves layer '{layer.name}' without a filter"):
            cut_out(module, mask)


def test_a_mask_of_another_model_is_refused():
    module = made("digits-cnn", rng_for(0, "another"))
    for other in (DigitsCNN([5, 6, 8], 4), FlattenedChain(), build("resnet18", 4, width=1 / 16)):
        with pytest.raises(MPFLError, match="was it made for another model"):
            compact(module, masks.full(layout_of(other)))


def test_what_cannot_be_cut_out_exactly_is_refused_by_name():
    head = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    normed = nn.Sequential(nn.Conv2d(2, 4, 3), nn.GroupNorm(2, 4), *head)
    with pytest.raises(MPFLError, match=r"^Sequential: no units .* \(0: 1 mixes channels"):
        compact(normed, {"0": np.array([True, False, True, True])})
    module = made("resnet18", rng_for(0, "again"))
    mask = random_mask(layout_of(module), rng_for(0, "again"))
    with pytest.raises(MPFLError, match=r"^placed_0: units have been cut out .*; cut the whole"):
        compact(compact(module, mask), mask)


# --- multiply-accumulates ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("kept", "expected"),
    [
        # 3x3 convs: 64 places of 8x8 pixels, of which the pool leaves 16; then a linear layer.
        (("####", "######", "#####"), 9 * (64 * 4 + 64 * 4 * 6 + 16 * 6 * 5) + 5 * 10),
        (("#..#", ".####.", "#.##."), 9 * (64 * 2 + 64 * 2 * 4 + 16 * 4 * 3) + 3 * 10),
        (("#...", ".....#", "..#.."), 9 * (64 * 1 + 64 * 1 * 1 + 16 * 1 * 1) + 1 * 10),
    ],
)
def test_macs_by_hand(kept, expected):
    module = DigitsCNN([4, 6, 5], 10)
    mask = mask_of(layout_of(module), *kept)
    assert macs(module, 8, mask) == macs(compact(module, mask), 8) == expected
    assert macs(module, 8) == macs(module, 8, masks.full(layout_of(module)))


@pytest.mark.parametrize("name", ["resnet18", "vgg11"])
def test_macs_are_those_that_torchvision_tells(name):
    with torch.device("meta"):
        module = build(f"torchvision-{name}", 1000)
    told = torchvision.models.get_model_weights(name).DEFAULT.meta["_ops"]
    assert macs(module, 224) / 1e9 == pytest.approx(told, abs=5e-4)


@every_model
def test_counting_macs_leaves_the_network_alone(name):
    module = made(name, rng_for(0, "macs"), torch.float32).train()
    before = weights_of(module)
    fewer = random_mask(layout_of(module), rng_for(0, "macs"), 0.3)
    pixels = MODELS[name][1]
    assert 0 < macs(module, pixels, fewer) < macs(module, pixels)
    assert same(weights_of(module), before) and module.training


# --- a whole run -------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["mpfl", "pruning-fl"])
def test_a_run_of_the_small_network_ends_with_the_masks_of_its_slow_twin(method, quick):
    """In double precision, where the order of a sum decides nothing."""
    runs = []
    for small in (True, False):
        bench = Workbench(quick(method, precision="float64", images=400, rounds=4, width=1))
        mean, std = bench.dataset.mean, bench.dataset.std
        bench.trainer = Trainer(
            bench.trainer.module, bench.layout, mean, std, "float64", compact=small
        )
        e = bench.experiment
        logs = simulate(bench.algorithm(), bench.parties.nodes, bench.start, e.rounds, e.seed)
        runs.append([log.state for log in logs])
    for ours, twin in zip(*runs, strict=True):
        assert same(ours.mask, twin.mask)
        agreed = [state.outcome and state.outcome.agreement for state in (ours, twin)]
        assert agreed[0] == agreed[1]
    assert masks.sparsity(runs[0][-1].mask) > 0.5
