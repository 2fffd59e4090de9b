"""Data and networks of one's own: taken as they are meant, or refused in one line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from mpfl import data as datasets
from mpfl import masks
from mpfl.data.dataset import Dataset, channel_stats
from mpfl.data.noise import gaussian, label_noise
from mpfl.data.partition import dirichlet, iid, shards
from mpfl.nets.networks import build
from mpfl.nets.settings import Settings
from mpfl.nets.shard import Shard
from mpfl.nets.tensors import to_numpy
from mpfl.nets.tracing import layout_of
from mpfl.nets.trainer import Trainer
from mpfl.runs.runner import run
from mpfl.seeds import rng_for
from mpfl.types import MPFLError

IMAGES = rng_for(0, "own data").integers(0, 256, (40, 3, 8, 8), dtype=np.uint8)
LABELS = np.arange(40) % 4


def dataset(images: Any = IMAGES, labels: Any = LABELS, **other: Any) -> Dataset:
    values = {"classes": tuple("abcd"), "mean": (0.5,) * 3, "std": (0.3,) * 3} | other
    return Dataset("mine", images, labels, images[:20], labels[:20], **values)


def network(channels: int = 3, classes: int = 4, *more: nn.Module) -> nn.Module:
    head = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, classes), *more
    return nn.Sequential(nn.Conv2d(channels, 8, 3, padding=1), nn.ReLU(), *head)


def trained(
    images: Any = IMAGES,
    labels: Any = LABELS,
    module: nn.Module | None = None,
    statistics: tuple[tuple[float, ...], ...] = ((0.5,) * 3, (0.3,) * 3),
    weights: Callable[[np.ndarray], np.ndarray] = lambda array: array,
    lr: float = 0.05,
) -> float:
    module = module or network()
    trainer = Trainer(module, layout_of(module), *statistics, "float32")
    data = Shard(torch.from_numpy(images), torch.from_numpy(labels))
    w0 = {name: weights(array) for name, array in to_numpy(module).items()}
    whole, settings = masks.full(trainer.layout), Settings(batch=8, lr=lr)
    return trainer.fit(w0, whole, data, rng_for(0), settings, epochs=2).metrics["loss"]


LAST = IMAGES.transpose(0, 2, 3, 1)
REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    # pictures of a data set
    "0 to 1": (lambda: dataset(IMAGES / 255), r"float64 .*uint8 \[n, c, h, w\]: scale them to 0-2"),
    "16 bits": (lambda: dataset(IMAGES.astype(np.uint16)), r"uint16 .*: scale them to 0-255"),
    "channels last": (lambda: dataset(LAST), r"channels last; give .*transpose\(0, 3, 1, 2\)"),
    "channels last, measured": (
        lambda: dataset(LAST, mean=channel_stats(LAST)[0], std=channel_stats(LAST)[1]),
        "channels last",
    ),
    "no axis for the channel": (lambda: dataset(IMAGES[:, 0]), r"\(40, 8, 8\); give uint8 \[n, c"),
    "not square": (lambda: dataset(IMAGES[:, :, :4]), "4 x 8 pixels; cut or pad them to squares"),
    "no pictures": (lambda: dataset(IMAGES[:0], LABELS[:0]), "at least one pixel of each"),
    "no pixels": (lambda: dataset(IMAGES[:, :, :0, :0]), "at least one pixel of each"),
    "a list": (lambda: dataset(IMAGES.tolist()), "images are a list; give a numpy array"),
    "tensors": (lambda: dataset(torch.from_numpy(IMAGES)), "are a Tensor; give a numpy array"),
    # its labels and classes
    "labels as floats": (lambda: dataset(labels=LABELS / 1), r"labels are float64 .*int64 \[40\]"),
    "labels below 0": (lambda: dataset(labels=LABELS - 1), "0..3.* but go from -1 to 2"),
    "labels from 1": (lambda: dataset(labels=LABELS + 1), "go from 1 to 4; number .* from 0"),
    "one-hot": (lambda: dataset(labels=np.eye(4, dtype=int)[LABELS]), r"take argmax\(1\)"),
    "too few labels": (lambda: dataset(labels=LABELS[:30]), r"int64 \(30,\); give int64 \[40\]"),
    "a number of classes": (lambda: dataset(classes=4), "classes are 4; give the name of each"),
    # its statistics
    "a constant channel": (
        lambda: dataset(std=(0.3, 0.0, 0.3)),
        r"channel 1 .* constant \(its std is 0\); leave the channel out, or give 1",
    ),
    "no deviation": (lambda: dataset(std=(np.nan,) * 3), "mean 0.5 and std nan; give them in unit"),
    "up to 255": (lambda: dataset(mean=(120.0,) * 3, std=(60.0,) * 3), "black is 0 and white is 1"),
    "one for all": (lambda: dataset(mean=0.5, std=0.3), "one std per channel, 3 of each"),
    "of floats": (lambda: channel_stats(IMAGES / 255), r"of float64 .*; give uint8 \[n, c, h, w\]"),
    # what a training is given
    "float pictures": (lambda: trained(IMAGES / 255), "images are float64 .*; give uint8"),
    "float labels": (lambda: trained(labels=LABELS / 1), r"labels are float64 \[40\]; give int64"),
    "other labels": (lambda: trained(labels=LABELS[:9]), "40 images have 9 labels"),
    "a label that torch skips": (
        lambda: trained(labels=np.where(LABELS == 0, -100, LABELS)),
        r"go from -100 to 3, but the network tells 4 classes apart; number them 0\.\.3",
    ),
    "a label too many": (lambda: trained(labels=LABELS + 1), "go from 1 to 4, but the network"),
    "too small": (
        lambda: trained(module=build("vgg11-bn", 4, width=0.1)),
        r"SmallVGG does not read pictures of 3 channels and 8 x 8 pixels \(.*too small\); give lar",
    ),
    "one channel": (lambda: trained(IMAGES[:, :1]), "1 channels, but mean and std are of 3"),
    "nothing to divide by": (
        lambda: trained(statistics=((0.5,) * 3, (0.3, 0.3, 0.0))),
        "trainer: channel 2 .* is constant",
    ),
    # whose fault it is that training fails
    "the rate": (lambda: trained(lr=1e30), r"loss is (nan|inf); lower the learning rate 1e\+30"),
    "w0": (
        lambda: trained(weights=lambda array: array * np.float32(np.nan)),
        "loss is nan from the start: '0.weight' of the weights .* holds NaN",
    ),
    "the size of w0": (
        lambda: trained(weights=lambda array: array * np.float32(1e30)),
        "before the first step, so no learning rate mends it",
    ),
    # who holds what, and what spoils it
    "a list to deal": (lambda: iid()(LABELS.tolist(), 2, rng_for(0)), "are a list; give a numpy"),
    "floats to deal": (
        lambda: dirichlet(1)(np.where(LABELS == 0, np.nan, LABELS), 2, rng_for(0)),
        "labels are float64; give whole numbers",
    ),
    "half a node": (lambda: iid()(LABELS, 2.5, rng_for(0)), "nodes is 2.5; give a whole number"),
    "half a shard": (lambda: shards(1.5), "per_node=1.5 deals nothing; give a whole number"),
    "no number": (lambda: dirichlet("0.1"), "alpha='0.1' is not a positive number"),
    "a list to spoil": (
        lambda: gaussian(0.1)(IMAGES.tolist(), LABELS, 4, rng_for(0)),
        "images are a list; give a numpy array",
    ),
    "labels to spoil": (
        lambda: label_noise(0.1)(IMAGES, LABELS.tolist(), 4, rng_for(0)),
        "labels are a list; give a numpy array",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
@pytest.mark.usefixtures("types_unchecked")
def test_refused_in_one_line(kind: str) -> None:
    asked, says = REFUSED[kind]
    with pytest.raises(MPFLError, match=says) as refused:
        asked()
    assert "\n" not in str(refused.value)


class Several(nn.Module):
    """Puts out more than logits."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.net = network(1, classes)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.net(x), x


MODELS: dict[str, tuple[Callable[[int], Any], str]] = {
    "too few outputs": (lambda classes: network(1, 3), r"\[2, 3\] .* a logit for each of 10 class"),
    "several outputs": (Several, "puts out a tuple; give one that puts out logits alone"),
    "a map of outputs": (
        lambda classes: nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Conv2d(8, classes, 1)),
        r"puts out \[2, 10, 6, 6\] for 2 pictures",
    ),
    "all in one row": (lambda classes: network(1, classes, nn.Flatten(0)), r"puts out \[20\]"),
    "no network": (lambda classes: None, "NoneType is no network; give a torch module"),
    "too large": (
        lambda classes: nn.Sequential(nn.Conv2d(1, 8, 9), nn.Flatten(), nn.Linear(8, classes)),
        "reads other pictures .* 8 x 8 pixels; choose another model",
    ),
}


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.usefixtures("types_unchecked")
def test_a_model_that_tells_no_classes_apart(
    kind: str, quick: Callable[..., Any], tmp_path: Path
) -> None:
    model, says = MODELS[kind]
    with pytest.raises(MPFLError, match=says) as refused:
        run(quick(model=model), tmp_path / "run")
    assert "\n" not in str(refused.value)
    assert list(tmp_path.iterdir()) == []


def test_a_constant_channel_with_a_deviation_of_its_own_is_taken() -> None:
    images = IMAGES.copy()
    images[:, 1] = 100
    mean, std = channel_stats(images)
    assert std[1] == 0
    own = tuple(value or 1.0 for value in std)
    assert dataset(images, mean=mean, std=own).std == own
    assert np.isfinite(trained(images, statistics=(mean, own)))


def test_a_data_set_of_ones_own_is_run(
    quick: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datasets, "load", lambda *_, **__: dataset())
    summary = run(quick(model=lambda classes: network(), images=None), tmp_path / "run")
    assert 0 <= summary["accuracy_central"] <= 1
