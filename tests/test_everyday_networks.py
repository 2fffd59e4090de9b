"""Everyday variants of a network: cut rightly, checked in float64, or refused by name."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune
from torch.optim.swa_utils import AveragedModel
from torch.utils import _pytree as pytree

from mpfl import masks
from mpfl.filters import apply
from mpfl.nets.cutting import compact
from mpfl.nets.tensors import as_they_are, load_weights
from mpfl.nets.tracing import layout_of
from mpfl.seeds import rng_for
from mpfl.types import MPFLError

GAP = (nn.AdaptiveAvgPool2d(1), nn.Flatten())


def net(*head: nn.Module, norm: bool = True, bias: bool = True) -> nn.Sequential:
    parts: list[nn.Module] = []
    for inputs, outputs in ((3, 8), (8, 12)):
        parts += [nn.Conv2d(inputs, outputs, 3, padding=1, bias=bias)]
        parts += [nn.BatchNorm2d(outputs)] * norm
        parts += [nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*parts, *(copy.deepcopy(head) or (*GAP, nn.Linear(12, 5))))


class Wrapped(nn.Module):
    """A network in another, whose answer is ``of`` what it puts out."""

    def __init__(self, inner: Any, of: Callable[..., Any] = lambda out, x: out) -> None:
        super().__init__()
        self.inner, self.of = inner, of

    def forward(self, x: torch.Tensor) -> Any:
        return self.of(self.inner(x), x)


class TwoHeads(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body, self.one, self.other = net(*GAP), nn.Linear(12, 5), nn.Linear(12, 3)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = self.body(x)
        return self.one(x), self.other(x)


class InTraining(nn.Module):
    """A second head, which only training asks."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3)
        self.head, self.other = nn.Linear(8, 5), nn.Linear(8, 5)

    def forward(self, x: torch.Tensor) -> Any:
        early = self.a(x).relu()
        out = self.head(self.b(early).relu().mean((2, 3)))
        return (out, self.other(early.mean((2, 3)))) if self.training else out


class Twice(nn.Module):
    """One conv and one norm, passed through twice."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.norm, self.head = nn.BatchNorm2d(8), nn.Linear(8, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.a(x).relu()
        for _ in range(2):
            x = self.norm(self.b(x)).relu()
        return self.head(x.mean((2, 3)))


def changed(change: Callable[[nn.Sequential], Any], **how: Any) -> nn.Module:
    module = net(**how)
    change(module)
    return module


def part_frozen(module: nn.Sequential) -> None:
    module[0].requires_grad_(False)


def norms_in_float32(module: nn.Sequential) -> None:
    module.half()
    for part in module:
        part.float() if isinstance(part, nn.BatchNorm2d) else None


def made_permanent(module: nn.Sequential) -> None:
    prune.ln_structured(module[0], "weight", 0.4, n=2, dim=0)
    prune.remove(module[0], "weight")


RIGHT: dict[str, Callable[[], nn.Module]] = {
    "as usual": net,
    "no norm": lambda: net(norm=False),
    "no bias": lambda: net(norm=False, bias=False),
    "a conv for a head": lambda: net(nn.Conv2d(12, 5, 1), *GAP),
    "an MLP for a head": lambda: net(*GAP, nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 5)),
    "a flattened map": lambda: net(nn.Flatten(), nn.Linear(12 * 16, 5)),
    "a norm before the head": lambda: net(*GAP, nn.BatchNorm1d(12), nn.Linear(12, 5)),
    "a layer norm before the head": lambda: net(*GAP, nn.LayerNorm(12), nn.Linear(12, 5)),
    "one output": lambda: net(*GAP, nn.Linear(12, 1)),
    "log-probabilities": lambda: net(*GAP, nn.Linear(12, 5), nn.LogSoftmax(1)),
    "two heads": TwoHeads,
    "a head of training": InTraining,
    "a wrapper": lambda: Wrapped(net()),
    "a wrapper with a dict": lambda: Wrapped(net(), lambda out, x: {"logits": out}),
    "twice through one part": Twice,
    "both views": lambda: Wrapped(net(), lambda out, x: out - out.flip(0)),
    "torch's pruning, removed": lambda: changed(made_permanent),
    "a part frozen": lambda: changed(part_frozen),
    "compiled in place": lambda: changed(nn.Module.compile),
    "channels last": lambda: net().to(memory_format=torch.channels_last),
    "bfloat16": lambda: net().bfloat16(),
    "float16": lambda: net().half(),
    "float16 without norm": lambda: net(norm=False).half(),
    "float16, norms in float32": lambda: changed(norms_in_float32),
    "float64": lambda: net().double(),
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch, by its own compiler
@pytest.mark.parametrize("training", [False, True], ids=["evaluation", "training"])
@pytest.mark.parametrize("name", RIGHT)
def test_masked_it_computes_what_is_left_when_cut(name: str, training: bool) -> None:
    torch.manual_seed(0)
    module = RIGHT[name]().train(training)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.normal_()
            part.running_var.uniform_(0.5, 2)
    layout = layout_of(module)
    mask = masks.drawn(layout, 0.5, rng_for(0, name))
    small = compact(module, mask)
    assert module.training == small.training == training
    for name_, parameter in small.named_parameters():
        assert parameter.dtype == module.get_parameter(name_).dtype
        assert parameter.requires_grad == module.get_parameter(name_).requires_grad
    whole, small = (copy.deepcopy(each).double() for each in (module, small))
    load_weights(whole, apply(as_they_are(whole), mask, layout))
    pictures = torch.randn(4, 3, 16, 16, dtype=torch.float64)
    with torch.no_grad():
        outputs = [pytree.tree_leaves(each(pictures)) for each in (whole, small)]
    assert outputs[0][0].std() > 1e-3, "nothing comes through: the test compares zeros"
    for one, other in zip(*outputs, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12)


def quietly(change: Callable[..., Any], *given: Any) -> Callable[[nn.Sequential], Any]:
    def of_the_first(module: nn.Sequential) -> None:
        with warnings.catch_warnings():  # torch has newer ones, and says so
            warnings.simplefilter("ignore")
            change(module[0], *given)

    return of_the_first


WORKED_OUT = (
    r"^0\.(weight|bias): is not stored but worked out, .*parametrizations, .*prune\.remove$"
)
REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "DataParallel": (lambda: nn.DataParallel(net()), r"wrapped in DataParallel; give its \.module"),
    "DataParallel inside": (
        lambda: Wrapped(nn.DataParallel(net())),
        r"^inner is wrapped in DataParallel; give its \.module",
    ),
    "an average of weights": (lambda: AveragedModel(net()), "wrapped in AveragedModel; give its"),
    "compiled": (lambda: torch.compile(net()), r"compiled by torch\.compile; give the module it"),
    "compiled inside": (lambda: Wrapped(torch.compile(net())), r"^inner is compiled by torch\.com"),
    "traced": (
        lambda: Wrapped(torch.jit.trace(net().eval(), torch.zeros(2, 3, 16, 16))),
        r"^inner is compiled by torch\.jit; give the module it was made of",
    ),
    "a class": (lambda: Wrapped, "Wrapped'> is no network; give a torch module, an instance"),
    "weights": (lambda: net().state_dict(), "^OrderedDict is no network; give a torch module"),
    "nothing": (lambda: None, "^NoneType is no network"),
    "torch's pruning": (
        lambda: changed(quietly(prune.l1_unstructured, "weight", 0.4)),
        WORKED_OUT,
    ),
    "torch's pruning of filters": (
        lambda: changed(quietly(prune.ln_structured, "weight", 0.4, 2, 0)),
        WORKED_OUT,
    ),
    "torch's pruning of a bias": (
        lambda: changed(quietly(prune.l1_unstructured, "bias", 2)),
        WORKED_OUT,
    ),
    "torch's pruning of nothing": (lambda: changed(quietly(prune.identity, "weight")), WORKED_OUT),
    "weight norm": (lambda: changed(quietly(parametrizations.weight_norm)), WORKED_OUT),
    "weight norm, as a hook": (lambda: changed(quietly(nn.utils.weight_norm)), WORKED_OUT),
    "spectral norm": (lambda: changed(quietly(parametrizations.spectral_norm)), WORKED_OUT),
    "orthogonal": (lambda: changed(quietly(parametrizations.orthogonal)), WORKED_OUT),
    "a lazy head": (lambda: net(*GAP, nn.LazyLinear(5)), r"has no shape yet; run one batch"),
    "its input in a precision": (
        lambda: nn.Sequential(Cast(), *net()),
        r"forward fails in float64 on the CPU .*; it may name no precision",
    ),
}


class Cast(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.float()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.usefixtures("types_unchecked")
def test_refused_by_name(name: str) -> None:
    make, says = REFUSED[name]
    module = make()
    with pytest.raises(MPFLError, match=says) as refused:
        layout_of(module)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("where", ["all", "a part"])
def test_weights_without_numbers_are_not_cut(where: str) -> None:
    module = net().to("meta") if where == "all" else changed(lambda made: made[0].to("meta"))
    layout = layout_of(module)
    half = masks.drawn(layout, 0.5, np.random.default_rng(0))
    with pytest.raises(MPFLError, match=r"^0\.weight: has no numbers to cut .*; load them"):
        compact(module, half, layout)
