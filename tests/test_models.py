"""Where filters are stored, that cutting them out changes nothing, and where w0 comes from."""

import subprocess
import sys
from urllib.error import URLError

import numpy as np
import pytest
import safetensors.numpy
import torch
import torchvision
from nets import FlattenedChain
from torch import nn
from torch.nn.utils.parametrizations import weight_norm
from torchvision.models.resnet import BasicBlock
from toys import random_mask

from mpfl import filters, masks
from mpfl.nets.networks import MODELS, DigitsCNN, SmallVGG, blueprint, build
from mpfl.nets.residual import SmallResNet
from mpfl.nets.start import initial_weights, pretrained_weights
from mpfl.nets.tensors import load_weights, to_numpy
from mpfl.nets.tracing import layout_of
from mpfl.seeds import rng_for
from mpfl.types import MPFLError


def random_weights(module, rng):
    """Weights without a zero in them; variances above 0."""
    return {
        name: (rng.uniform(0.5, 2, array.shape) if name.endswith("var") else draw).astype("f4")
        for name, array in to_numpy(module).items()
        for draw in [rng.standard_normal(array.shape) / np.sqrt(max(1, array[:1].size))]
    }


def pictures(rng, channels, pixels, count=4):
    return torch.from_numpy(rng.standard_normal((count, channels, pixels, pixels)))


# --- layouts -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("digits-cnn", 16 + 32 + 64),
        ("vgg11-bn", 2752),
        ("vgg11", 2752),
        ("resnet18", 4800),
        ("resnet50", 26560),
        ("torchvision-vgg11", 2752),
        ("torchvision-resnet18", 4800),
    ],
)
def test_every_conv_is_a_layer_and_every_slice_fits(name, count):
    with torch.device("meta"):
        module = build(name, 10)
    layout = layout_of(module)
    convs = {path: m for path, m in module.named_modules() if isinstance(m, nn.Conv2d)}
    assert [layer.name for layer in layout.layers] == list(convs)
    assert layout.filters == count
    for layer in layout.layers:
        assert layer.filters == convs[layer.name].out_channels
        for tensor in layer.own:
            assert layout.shapes[tensor][0] == layer.filters, tensor
    filters_of = {layer.name: layer.filters for layer in layout.layers}
    for reader in layout.readers:
        for layer in reader.layers:
            assert layout.shapes[reader.tensor][1] == filters_of[layer] * reader.block, reader
    read = [reader.tensor for reader in layout.readers]
    assert len(set(read)) == len(read), "one tensor is read twice"
    assert {f"{path}.weight" for path in list(convs)[1:]} < set(read), "a conv reads no layer"
    assert {layer for reader in layout.readers for layer in reader.layers} == set(convs)
    owned = [tensor for layer in layout.layers for tensor in layer.own]
    assert len(set(owned)) == len(owned), "two layers own one tensor"


def test_every_table_of_models_is_covered_here():
    assert set(MODELS) == {
        "digits-cnn",
        "vgg11-bn",
        "vgg11",
        "resnet18",
        "resnet50",
        "mobilenet",
        "vit",
        "gru",
        "lstm",
        "torchvision-vgg11",
        "torchvision-resnet18",
    }


@pytest.mark.parametrize("name", ["digits-cnn", "vgg11-bn", "vgg11", "torchvision-vgg11"])
def test_in_a_chain_each_layer_is_read_by_the_next(name):
    with torch.device("meta"):
        module = build(name, 10)
    parts = [p for p, m in module.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    layout = layout_of(module)
    count = len(layout.layers)
    last = 49 if name == "torchvision-vgg11" else 1
    assert [(r.tensor, r.layers, r.block) for r in layout.readers] == [
        (f"{after}.weight", (layer.name,), last if number == count else 1)
        for number, (layer, after) in enumerate(
            zip(layout.layers, parts[1 : count + 1], strict=True), start=1
        )
    ]


@pytest.mark.parametrize("name", ["resnet18", "torchvision-resnet18"])
def test_in_a_residual_network_a_sum_is_read_of_all_that_it_adds_up(name):
    with torch.device("meta"):
        layout = layout_of(build(name, 10))
    expected, sum_ = {}, ["conv1"]
    for stage in "1234":
        for block in "01":
            path = f"layer{stage}.{block}"
            expected[f"{path}.conv1"], expected[f"{path}.conv2"] = sum_, [f"{path}.conv1"]
            if stage != "1" and block == "0":  # the shortcut halves the picture
                expected[f"{path}.downsample.0"] = sum_
                sum_ = [f"{path}.downsample.0"]
            sum_ = [*sum_, f"{path}.conv2"]
    expected["fc"] = ["layer4.0.downsample.0", "layer4.0.conv2", "layer4.1.conv2"]
    assert {r.tensor.removesuffix(".weight"): [*r.layers] for r in layout.readers} == expected
    assert all(reader.block == 1 for reader in layout.readers)
    assert all(layer.scale and layer.shift for layer in layout.layers)


class Scaled(nn.Module):
    """A part with a parameter of its own."""

    def __init__(self):
        super().__init__()
        self.factor = nn.Parameter(torch.ones(1))

    def forward(self, x):
        return self.factor * x


HEAD = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))


@pytest.mark.parametrize(
    ("parts", "says"),
    [
        ([nn.Conv2d(1, 4, 3), nn.GroupNorm(2, 4), HEAD], r"\(0: 1 mixes channels"),
        ([nn.Conv2d(1, 4, 3), nn.GroupNorm(2, 4, affine=False), HEAD], r"\(0: 1 mixes channels"),
        ([nn.Conv2d(1, 4, 3), nn.LayerNorm([4, 30, 30]), HEAD], r"\(0: 1 mixes channels"),
        ([nn.Conv2d(1, 4, 3), nn.LocalResponseNorm(2), HEAD], r"\(0: 1 mixes channels"),
        (
            [nn.Conv2d(1, 4, 3), nn.Fold((30, 30), 1), HEAD],
            "^Sequential: what it reads is not known",
        ),
        ([nn.ConvTranspose2d(1, 4, 3), HEAD], r"^Sequential: what it reads is not known.*inputs="),
        ([nn.Conv2d(1, 4, 3), nn.Flatten()], r"\(0: it is what the network puts out"),
    ],
)
def test_what_filters_cannot_be_cut_out_of_is_refused_by_name(parts, says):
    with pytest.raises(MPFLError, match=says):
        layout_of(nn.Sequential(*parts))


@pytest.mark.parametrize(
    ("parts", "sizes"),
    [
        ([nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 3, groups=2), HEAD], {"0": 2, "1": 2}),
        ([nn.Conv2d(1, 4, 3), nn.LayerNorm([30, 30]), HEAD], {"0": 4}),
        ([nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4, affine=False), HEAD], {"0": 4}),
        ([nn.Conv2d(1, 4, 3), nn.PReLU(4), HEAD], {"0": 4}),
        ([nn.Conv2d(1, 4, 3), nn.Sequential(Scaled()), HEAD], {"0": 4}),
        ([nn.Conv2d(1, 4, 3), nn.Conv2d(4, 2, 6), nn.Flatten()], {"0": 4}),
    ],
)
def test_what_filters_can_be_cut_out_of_says_how_many(parts, sizes):
    """And a trial, which is part of it, has found the cut network to be the masked one."""
    assert layout_of(nn.Sequential(*parts)).sizes == sizes


@pytest.mark.parametrize(("name", "convs"), [("resnet50", 53), ("densenet121", 120)])
def test_networks_that_are_no_chains_and_have_other_joins_are_followed(name, convs):
    with torch.device("meta"):
        module = getattr(torchvision.models, name)()
    assert len(layout_of(module).layers) == convs


def test_with_batch_norm_a_filter_owns_its_scale_shift_and_statistics():
    with torch.device("meta"):
        layer = layout_of(build("vgg11-bn", 10)).layers[1]
    norm = "features.5"
    assert layer.own == (
        "features.4.weight",
        "features.4.bias",
        *(f"{norm}.{part}" for part in ("weight", "bias", "running_mean", "running_var")),
    )
    assert (layer.scale, layer.shift) == (f"{norm}.weight", f"{norm}.bias")


@pytest.mark.parametrize(("name", "width"), [("digits-cnn", 1.0), ("resnet18", 0.25)])
def test_a_blueprint_is_the_layout_of_the_network(name, width):
    assert blueprint(name, 7, width=width) == layout_of(build(name, 7, width=width))


def test_width_scales_every_layer_and_leaves_none_empty():
    with torch.device("meta"):
        half = layout_of(build("vgg11-bn", 10, width=0.5))
        thin = layout_of(build("vgg11-bn", 10, width=0.001))
    assert half.filters == 1376
    assert [layer.filters for layer in thin.layers] == [1] * 8


# --- a masked network computes what the smaller one computes -----------------------------

CHAINS = {
    "digits-cnn": (lambda kept: DigitsCNN(kept, 5), [6, 7, 8], 1, 8),
    "vgg11-bn": (lambda kept: SmallVGG(kept, 5), [4, 5, 6, 7, 8, 7, 6, 5], 3, 32),
    "flattened": (FlattenedChain, [4, 5], 2, 6),
}


@pytest.mark.parametrize("train", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("name", CHAINS)
def test_masked_chain_equals_the_chain_with_filters_cut_out(name, train):
    make, channels, inputs, pixels = CHAINS[name]
    whole = make(channels)
    layout = layout_of(whole)
    for trial in range(3):
        rng = rng_for(trial, "cut", name)
        mask, weights = random_mask(layout, rng), random_weights(whole, rng)
        assert 0 < masks.sparsity(mask) < 1
        small = make(list(masks.counts(mask).values()))
        load_weights(whole, filters.apply(weights, mask, layout))
        load_weights(small, filters.cut(weights, mask, layout))
        whole.double().train(train)
        small.double().train(train)
        x = pictures(rng, inputs, pixels)
        with torch.no_grad():
            out = whole(x)
            assert out.std() > 1e-6, "nothing comes through: the test compares zeros"
            torch.testing.assert_close(out, small(x), rtol=0, atol=1e-10)
        after = filters.cut(to_numpy(whole), mask, layout)  # batch norm has moved, alike
        for tensor, array in to_numpy(small).items():
            np.testing.assert_allclose(after[tensor], array, rtol=0, atol=1e-7, err_msg=tensor)
        whole.float()


@pytest.mark.parametrize("train", [False, True], ids=["eval", "train"])
def test_pruned_channel_of_a_resnet_is_exactly_zero_after_its_norm(train):
    module = build("resnet18", 5, width=1 / 16, pixels=64)
    layout = layout_of(module)
    rng = rng_for(0, "resnet zero")
    mask = random_mask(layout, rng)
    load_weights(module, filters.apply(random_weights(module, rng), mask, layout))
    module.train(train)
    seen = []

    def check(bits):
        def hook(_, inputs, output):
            channels = output.abs().amax((0, 2, 3)).numpy()
            assert (channels[~bits] == 0).all()
            assert (channels[bits] > 0).all()
            seen.append(int((~bits).sum()))

        return hook

    for layer in layout.layers:
        norm = layer.scale.removesuffix(".weight")
        module.get_submodule(norm).register_forward_hook(check(mask[layer.name]))
    with torch.no_grad():
        module(pictures(rng, 3, 64).float())
    assert len(seen) == len(layout.layers) and sum(seen) > 0


# --- against torchvision -----------------------------------------------------------------


def test_small_vgg_has_the_features_of_torchvisions_vgg11_bn():
    with torch.device("meta"):
        ours = build("vgg11-bn", 10).features.state_dict()
        theirs = torchvision.models.vgg11_bn().features.state_dict()
    assert {k: v.shape for k, v in ours.items()} == {k: v.shape for k, v in theirs.items()}


def test_small_resnet_is_torchvisions_but_for_the_stem():
    ours, theirs = SmallResNet(18, 1, 10, 64), torchvision.models.resnet18(num_classes=10)

    def count(module):
        return sum(p.numel() for p in module.parameters())

    assert count(ours) - 64 * 3 * 3 * 3 == count(theirs) - 64 * 3 * 7 * 7
    state = theirs.state_dict()
    del state["conv1.weight"]
    missing = ours.load_state_dict(state, strict=False)
    assert missing.missing_keys == ["conv1.weight"] and not missing.unexpected_keys
    ours.eval(), theirs.eval()
    x = torch.relu(pictures(rng_for(0, "blocks"), 64, 8, 2).float())
    with torch.no_grad():
        for stage in ("layer1", "layer2", "layer3", "layer4"):
            y = getattr(theirs, stage)(x)
            assert torch.equal(getattr(ours, stage)(x), y), stage
            x = y
        head = theirs.fc(theirs.avgpool(x).flatten(1))
        torch.testing.assert_close(ours.fc(x.mean((2, 3))), head)


@pytest.mark.parametrize(("pixels", "pool"), [(32, nn.Identity), (64, nn.MaxPool2d)])
def test_stem_pools_large_pictures_only(pixels, pool):
    module = build("resnet18", 5, width=1 / 16, pixels=pixels)
    assert isinstance(module.maxpool, pool)
    assert module(torch.zeros(2, 3, pixels, pixels)).shape == (2, 5)
    assert sum(isinstance(part, BasicBlock) for part in module.modules()) == 8


LIGHT = """
import sys
import mpfl.runs.recipes
assert "torch" not in sys.modules, "recipes are values"
import mpfl.nets.cutting, mpfl.nets.start, mpfl.nets.trainer
from mpfl.nets.networks import blueprint
assert not {"torchvision", "triton"} & set(sys.modules)
blueprint("digits-cnn", 10), blueprint("vgg11-bn", 10)  # torch loads its compiler for shapes alone
assert "torchvision" not in sys.modules
blueprint("resnet18", 10)
assert "torchvision" in sys.modules
"""


def test_torchvision_is_imported_by_the_networks_that_need_it_alone():
    done = subprocess.run([sys.executable, "-c", LIGHT], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


# --- names -------------------------------------------------------------------------------


def test_unknown_model_names_the_nearest():
    with pytest.raises(MPFLError, match=r"'vgg12'; did you mean '\S*vgg11\S*'"):
        build("vgg12", 10)


def test_torchvisions_own_models_have_one_width():
    with pytest.raises(MPFLError, match="its width is 1"):
        build("torchvision-resnet18", 10, width=0.5)


# --- w0 ----------------------------------------------------------------------------------


def test_initial_weights_are_a_function_of_the_seed_alone():
    torch.manual_seed(1)
    module = build("digits-cnn", 10)
    before = torch.get_rng_state()
    first = initial_weights(module, 7)
    assert torch.equal(torch.get_rng_state(), before), "torch's global generator was used"
    torch.manual_seed(2)
    load_weights(module, random_weights(module, rng_for(0, "other")))
    again = initial_weights(module, 7)
    other = initial_weights(module, 8)
    assert first.keys() == again.keys() == to_numpy(module).keys()
    for name in first:
        assert first[name].dtype == np.float32
        np.testing.assert_array_equal(first[name], again[name])
    drawn = [name for name in first if first[name].ndim > 1]
    assert len(drawn) == 4
    assert all((first[name] != other[name]).any() for name in drawn)


def test_initial_weights_are_distributed_as_torchvision_draws_them():
    module = build("resnet18", 10, width=0.5)
    weights = initial_weights(module, 0)
    for path, part in module.named_modules():
        if isinstance(part, nn.Conv2d | nn.Linear):
            drawn = weights[f"{path}.weight"]
            fan_out = part.weight[:, 0].numel() if isinstance(part, nn.Conv2d) else None
            expected = np.sqrt(2 / fan_out) if fan_out else 0.01
            assert drawn.std() == pytest.approx(expected, rel=4 / np.sqrt(drawn.size))
            assert abs(drawn.mean()) < 5 * expected / np.sqrt(drawn.size)
        elif isinstance(part, nn.BatchNorm2d):
            for name, value in (
                ("weight", 1),
                ("bias", 0),
                ("running_mean", 0),
                ("running_var", 1),
            ):
                assert (weights[f"{path}.{name}"] == value).all()
    assert (weights["fc.bias"] == 0).all()
    same_shape = [weights[f"layer1.{i}.conv1.weight"] for i in (0, 1)]
    assert (same_shape[0] != same_shape[1]).any(), "two tensors share one stream"


# --- weights in and out ------------------------------------------------------------------


def test_weights_come_back_as_they_went_in():
    module = DigitsCNN([2, 3, 4], 4)
    weights = random_weights(module, rng_for(0, "there and back"))
    load_weights(module, dict(reversed(weights.items())))
    for name, array in to_numpy(module).items():
        np.testing.assert_array_equal(array, weights[name])


def test_weights_read_from_a_module_are_a_copy():
    module = DigitsCNN([2, 3, 4], 4)
    weights = to_numpy(module)
    before = {name: array.copy() for name, array in weights.items()}
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(1)
    for name, array in before.items():
        np.testing.assert_array_equal(weights[name], array)


@pytest.mark.parametrize("channels", [[2, 3, 5], [1, 3, 4]])
def test_weights_of_another_shape_are_refused(channels):
    other = to_numpy(DigitsCNN(channels, 4))
    with pytest.raises(MPFLError, match=r"another model.*must be"):
        load_weights(DigitsCNN([2, 3, 4], 4), other)


def test_weights_with_other_names_are_refused():
    module = DigitsCNN([2, 3, 4], 4)
    weights = to_numpy(module)
    del weights["classifier.bias"]
    with pytest.raises(MPFLError, match="other names"):
        load_weights(module, weights)


# --- pretrained --------------------------------------------------------------------------


@pytest.fixture
def pretrained():
    return DigitsCNN([2, 3, 4], 7)


def assert_all_but_head(found, module, source):
    ours, theirs = to_numpy(module), to_numpy(source)
    for name, array in found.items():
        head = name.startswith("classifier")
        assert array.dtype == np.float32
        np.testing.assert_array_equal(array, ours[name] if head else theirs[name], err_msg=name)


def test_pretrained_file_keeps_the_head_that_differs(pretrained, tmp_path):
    module, path = DigitsCNN([2, 3, 4], 5), tmp_path / "w0.safetensors"
    safetensors.numpy.save_file(to_numpy(pretrained) | {"unknown": np.zeros(3)}, path)
    found = pretrained_weights("digits-cnn", module, str(path))
    assert found.keys() == to_numpy(module).keys()
    assert_all_but_head(found, module, pretrained)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"features.0.weight": np.zeros((3, 1, 3, 3))}, r"is \[3, 1, .* and \[2, 1, .* width"),
        ({"features.0.weight": None}, "is missing in"),
    ],
)
def test_pretrained_weights_that_fit_in_part_are_refused(change, says, pretrained, tmp_path):
    path = tmp_path / "w0.safetensors"
    changed = {k: v for k, v in (to_numpy(pretrained) | change).items() if v is not None}
    safetensors.numpy.save_file(changed, path)
    with pytest.raises(MPFLError, match=says):
        pretrained_weights("digits-cnn", DigitsCNN([2, 3, 4], 5), str(path))


def test_pretrained_weights_of_torchvision_keep_the_head_that_differs(pretrained, monkeypatch):
    asked = []

    def get_model(name, weights):
        asked.append((name, weights))
        return pretrained

    monkeypatch.setattr(torchvision.models, "get_model", get_model)
    module = DigitsCNN([2, 3, 4], 5)
    found = pretrained_weights("torchvision-vgg11", module, "torchvision")
    assert asked == [("vgg11", "DEFAULT")]
    assert_all_but_head(found, module, pretrained)


def test_pretrained_file_of_half_precision_is_read_as_float32(pretrained, tmp_path):
    path = tmp_path / "half.safetensors"
    half = {name: array.astype(np.float16) for name, array in to_numpy(pretrained).items()}
    safetensors.numpy.save_file(half, path)
    found = pretrained_weights("digits-cnn", DigitsCNN([2, 3, 4], 7), str(path))
    for name, array in found.items():
        assert array.dtype == np.float32
        np.testing.assert_array_equal(array, half[name].astype(np.float32))


def test_pretrained_file_that_is_missing(pretrained):
    with pytest.raises(MPFLError, match=r"no file 'nowhere\.safetensors'"):
        pretrained_weights("digits-cnn", pretrained, "nowhere.safetensors")


def test_pretrained_file_that_is_something_else(pretrained, tmp_path):
    path = tmp_path / "text"
    path.write_text("hello")
    with pytest.raises(MPFLError, match="no safetensors file"):
        pretrained_weights("digits-cnn", pretrained, str(path))


def test_pretrained_file_of_another_model(pretrained, tmp_path):
    path = tmp_path / "other.safetensors"
    safetensors.numpy.save_file({"weights": np.zeros(3)}, path)
    with pytest.raises(MPFLError, match=r"'features.0.weight' is missing in .* another model"):
        pretrained_weights("digits-cnn", pretrained, str(path))


def test_torchvision_has_no_weights_for_our_own_models(pretrained):
    with pytest.raises(MPFLError, match="use torchvision-vgg11"):
        pretrained_weights("digits-cnn", pretrained, "torchvision")


@pytest.mark.parametrize("failure", [URLError("no network"), RuntimeError("invalid hash value")])
def test_a_download_that_fails_says_what_to_do(pretrained, monkeypatch, failure):
    def get_model(name, weights):
        raise failure

    monkeypatch.setattr(torchvision.models, "get_model", get_model)
    with pytest.raises(MPFLError, match=r"could not be downloaded .* safetensors file"):
        pretrained_weights("torchvision-vgg11", pretrained, "torchvision")


# --- other kinds of networks -------------------------------------------------------------

OTHERS = {"resnet50": 0.125, "mobilenet": 0.35, "vit": 1 / 3, "gru": 0.125, "lstm": 0.125}


@pytest.mark.parametrize("name", OTHERS)
def test_another_network_reads_pictures_and_every_weight_of_it_matters(name):
    module = build(name, 7, width=OTHERS[name])
    load_weights(module, initial_weights(module, 0))
    x = pictures(rng_for(0, "others"), 3, 32).float()
    out = module(x)
    assert out.shape == (4, 7)
    torch.nn.functional.cross_entropy(out, torch.arange(4)).backward()
    for path, parameter in module.named_parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), path
        if not path.endswith("in_proj_bias"):  # a shift of all keys changes nothing
            assert parameter.grad.abs().max() > 0, path


def test_width_scales_heads_and_hidden_units_and_leaves_at_least_one():
    with torch.device("meta"):
        vits = [build("vit", 10, width=width) for width in (1, 0.5, 0.001)]
        grus = [build("gru", 10, width=width) for width in (1, 0.5, 0.001)]
    attentions = [vit.blocks[0].attention for vit in vits]
    assert [a.num_heads for a in attentions] == [12, 6, 1]
    assert {a.head_dim for a in attentions} == {16}
    assert [gru.second.hidden_size for gru in grus] == [256, 128, 1]


def test_a_transformer_refuses_pictures_that_patches_do_not_fill():
    with pytest.raises(MPFLError, match="36 is no multiple of that; set pixels to 32"):
        build("vit", 10, pixels=36)


def test_a_small_mobilenet_is_torchvisions_but_for_the_head():
    ours = build("mobilenet", 10, pixels=64).state_dict()
    theirs = torchvision.models.mobilenet_v2(num_classes=10).state_dict()
    assert [v.shape for v in ours.values()] == [v.shape for v in theirs.values()]


def test_a_small_resnet50_is_torchvisions_but_for_the_stem():
    with torch.device("meta"):
        ours = build("resnet50", 10).state_dict()
        theirs = torchvision.models.resnet50(num_classes=10).state_dict()
    del ours["conv1.weight"], theirs["conv1.weight"]
    assert {k: v.shape for k, v in ours.items()} == {k: v.shape for k, v in theirs.items()}


class Parts(nn.Module):
    """One of each kind, with torch's own weights to compare with."""

    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(64, 4)
        self.other = nn.MultiheadAttention(64, 4, kdim=32, vdim=16, add_bias_kv=True)
        self.gru, self.lstm = nn.GRU(48, 64, 2), nn.LSTM(48, 64, bidirectional=True)
        self.layer, self.group = nn.LayerNorm(64), nn.GroupNorm(4, 64)
        self.batch = nn.BatchNorm1d(64)
        self.instance = nn.InstanceNorm2d(64, affine=True, track_running_stats=True)
        self.words = nn.Embedding(100, 64, padding_idx=3)
        self.slope = nn.PReLU(64, init=0.1)


def test_parts_are_drawn_as_torch_draws_them():
    torch.manual_seed(0)
    module = Parts()
    drawn = initial_weights(module, 0)
    for name, theirs in to_numpy(module).items():
        ours = drawn[name]
        if theirs.std() == 0:
            np.testing.assert_array_equal(ours, theirs, err_msg=name)
            continue
        n = theirs.size
        assert ours.std() == pytest.approx(theirs.std(), rel=5 / np.sqrt(n)), name
        assert abs(ours.mean() - theirs.mean()) < 7 * theirs.std() / np.sqrt(n), name
        if not name.startswith("words") and "bias_" not in name:  # uniform: it has bounds
            assert abs(ours).max() == pytest.approx(abs(theirs).max(), rel=0.1), name
    assert not drawn["words.weight"][3].any()


def test_linear_layers_of_other_networks_are_drawn_as_torchvisions_transformer_has_them():
    drawn = initial_weights(build("vit", 10), 0)
    for name in ("blocks.0.mlp.0", "blocks.3.mlp.2"):
        weight = drawn[f"{name}.weight"]
        bound = np.sqrt(6 / sum(weight.shape))
        assert bound * 0.99 < abs(weight).max() <= bound and not drawn[f"{name}.bias"].any()
        assert weight.std() == pytest.approx(bound / np.sqrt(3), rel=0.02)
    assert drawn["patches.weight"].std() == pytest.approx(1 / np.sqrt(3 * 8 * 8), rel=0.02)
    assert drawn["positions"].std() == pytest.approx(0.02, rel=0.05)


class Gain(nn.Module):
    """A parameter of which nobody can say what it should be."""

    def __init__(self):
        super().__init__()
        self.gain = nn.Parameter(torch.ones(4))


@pytest.mark.parametrize(
    ("part", "says"),
    [
        (Gain(), r"^1 \(Gain\): how its 'gain' is drawn"),
        (nn.ConvTranspose2d(4, 4, 3), r"^1 \(ConvTranspose2d\).*'weight'.*w0=FILE"),
        (
            weight_norm(nn.Linear(4, 4)),
            r"^1\.param\S+ \(Param.*original0",
        ),
    ],
)
def test_weights_that_nobody_knows_how_to_draw_are_refused_by_name(part, says):
    module = nn.Sequential(nn.Linear(4, 4), part)
    with pytest.raises(MPFLError, match=says):
        initial_weights(module, 0)
    assert initial_weights(module, 0, strict=False).keys() == to_numpy(module).keys()
