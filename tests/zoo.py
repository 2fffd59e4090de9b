"""torchvision's networks, as they are or as narrow ones of the same class; the package's own."""

from collections.abc import Callable
from functools import partial

import torch
from any_networks import Made
from torch import nn
from torchvision import models
from torchvision.models.convnext import CNBlockConfig, ConvNeXt
from torchvision.models.densenet import DenseNet
from torchvision.models.regnet import BlockParams, RegNet
from torchvision.models.resnet import Bottleneck, ResNet
from torchvision.models.shufflenetv2 import ShuffleNetV2
from torchvision.models.swin_transformer import SwinTransformer
from torchvision.models.vision_transformer import VisionTransformer

from mpfl.nets.networks import build


def narrow_head(make: Callable[..., nn.Module], pixels: int, places: tuple[int, int]) -> nn.Module:
    """A VGG or an AlexNet whose head is 16 wide: as it is, it has 100 million weights."""
    with torch.device("meta"):
        module = make(num_classes=10)
    first, second = places
    module.classifier[first] = nn.Linear(module.classifier[first].in_features, 16)
    module.classifier[second] = nn.Linear(16, 16)
    module.classifier[6] = nn.Linear(16, 10)
    return module.to_empty(device="cpu")


def narrow_regnet() -> nn.Module:
    widths = BlockParams.from_init_params(depth=4, w_0=16, w_a=16, w_m=2.0, group_width=8)
    return RegNet(widths, num_classes=10, stem_width=8)


def narrow_convnext() -> nn.Module:
    blocks = [CNBlockConfig(8, 16, 1), CNBlockConfig(16, 24, 2), CNBlockConfig(24, None, 1)]
    return ConvNeXt(blocks, num_classes=10, stochastic_depth_prob=0.1)


def narrow_googlenet() -> nn.Module:
    return models.googlenet(num_classes=10, aux_logits=False, init_weights=False)


TORCHVISION: dict[str, Made] = {
    "alexnet": (partial(narrow_head, models.alexnet, 64, (1, 4)), (3, 64, 64)),
    "vgg16_bn": (partial(narrow_head, models.vgg16_bn, 32, (0, 3)), (3, 32, 32)),
    "resnet18": (partial(models.resnet18, num_classes=10), (3, 48, 48)),
    "resnet50": (partial(ResNet, Bottleneck, [1, 2, 1, 1], num_classes=10), (3, 48, 48)),
    "wide_resnet50_2": (
        partial(ResNet, Bottleneck, [2, 1, 1, 1], num_classes=10, width_per_group=128),
        (3, 48, 48),
    ),
    "mobilenet_v2": (partial(models.mobilenet_v2, num_classes=10, width_mult=0.35), (3, 48, 48)),
    "mobilenet_v3_small": (
        partial(models.mobilenet_v3_small, num_classes=10, width_mult=0.5),
        (3, 48, 48),
    ),
    "efficientnet_b0": (partial(models.efficientnet_b0, num_classes=10), (3, 48, 48)),
    "densenet121": (
        partial(DenseNet, 8, (3, 3, 2, 2), num_init_features=16, num_classes=10),
        (3, 48, 48),
    ),
    "squeezenet1_1": (partial(models.squeezenet1_1, num_classes=10), (3, 32, 32)),
    "googlenet": (narrow_googlenet, (3, 48, 48)),
    "shufflenet_v2_x1_0": (
        partial(ShuffleNetV2, [2, 3, 2], [12, 24, 32, 48, 64], num_classes=10),
        (3, 48, 48),
    ),
    "regnet_x_400mf": (narrow_regnet, (3, 48, 48)),
    "convnext_tiny": (narrow_convnext, (3, 32, 32)),
    "vit_b_16": (partial(VisionTransformer, 32, 8, 2, 4, 32, 48, num_classes=10), (3, 32, 32)),
    "swin_t": (
        partial(SwinTransformer, [4, 4], 12, [2, 2], [3, 6], [4, 4], num_classes=10),
        (3, 32, 32),
    ),
}

FULL = {
    "alexnet": ((3, 64, 64), 5),
    "vgg16_bn": ((3, 32, 32), 13),
    "wide_resnet50_2": ((3, 32, 32), 53),
    "convnext_tiny": ((3, 32, 32), 18),
    "vit_b_16": ((3, 32, 32), 24),
}
"""At full width: the shape of a picture, and how many layers have a vote."""

OWN: dict[str, Made] = {
    "digits-cnn": (partial(build, "digits-cnn", 5, width=0.5), (1, 8, 8)),
    "vgg11-bn": (partial(build, "vgg11-bn", 5, width=1 / 16), (3, 32, 32)),
    "resnet18": (partial(build, "resnet18", 5, width=1 / 16), (3, 16, 16)),
    "resnet50": (partial(build, "resnet50", 5, width=1 / 16), (3, 16, 16)),
    "mobilenet": (partial(build, "mobilenet", 5, width=0.25), (3, 32, 32)),
    "vit": (partial(build, "vit", 5, width=1 / 3), (3, 32, 32)),
    "gru": (partial(build, "gru", 5, width=1 / 16), (3, 32, 32)),
    "lstm": (partial(build, "lstm", 5, width=1 / 16), (3, 32, 32)),
}
