"""Rounds: small against dense, engine against a bare loop, side by side against one by one."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from benchmarks.timing import Figure, paired
from mpfl import masks
from mpfl.algorithm import State
from mpfl.filters import apply, cut
from mpfl.nets.augment import crop_and_mirror, shift_and_mirror
from mpfl.nets.cutting import skeleton
from mpfl.nets.hardware import has_bfloat16, keep_freed_memory, on_threads
from mpfl.nets.repeated import SummingLinear, UnrepeatedPool
from mpfl.nets.tensors import load_weights
from mpfl.nets.tiny_maps import WindowedConv
from mpfl.nets.trainer import Trainer, _optimiser
from mpfl.runs.experiment import Experiment
from mpfl.runs.recipes import recipe
from mpfl.runs.workbench import Workbench
from mpfl.runs.workers import Workers
from mpfl.seeds import rng_for
from mpfl.simulation import Resume, RunNodes, simulate
from mpfl.types import Mask


def experiment(width: float, nodes: int, images: int) -> Experiment:
    """CIFAR-10 and VGG11-BN as the laptop recipe trains them, on fewer images."""
    made = recipe("cifar10-vgg11", "laptop")
    return replace(made, width=width, nodes=nodes, images=images * nodes)


def one_round(
    bench: Workbench, mask: Mask, run_nodes: RunNodes | None = None
) -> Callable[[], object]:
    """A whole round of MPFL from ``mask`` on: broadcast, every node's turn, vote."""
    e = bench.experiment
    nodes, algorithm = bench.parties.nodes, bench.algorithm()
    before = Resume(
        e.rounds - 1, State(bench.start.w0, mask, e.seed), [bench.start.w0] * len(nodes)
    )
    return lambda: next(
        simulate(
            algorithm, nodes, bench.start, e.rounds, e.seed, resume=before, run_nodes=run_nodes
        )
    )


def bare_loop(bench: Workbench, mask: Mask) -> Callable[[], object]:
    """The same nodes' training as plain torch: nothing but the steps, in the same order."""
    e, trainer = bench.experiment, bench.trainer
    small = skeleton(trainer.module, mask)
    small = small.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    weights = cut(apply(bench.start.w0, mask, bench.layout), mask, bench.layout)
    mean, std = (
        255 * torch.tensor(x).view(1, -1, 1, 1) for x in (bench.dataset.mean, bench.dataset.std)
    )
    bfloat16 = e.precision == "auto" and has_bfloat16(torch.device("cpu"))

    @on_threads(1)
    def run() -> None:
        for node, data in enumerate(bench.parties.nodes):
            load_weights(small, weights)
            small.train()
            optimiser = torch.optim.SGD(
                small.parameters(),
                lr=e.local.lr,
                momentum=e.local.momentum,
                weight_decay=e.local.weight_decay,
                foreach=True,
            )
            rng = rng_for(e.seed, "node", e.rounds, node)
            for index in torch.from_numpy(rng.permutation(len(data))).split(e.local.batch):
                images = shift_and_mirror(data.images[index], rng)
                pixels = ((images.float() - mean) / std).contiguous(
                    memory_format=torch.channels_last
                )
                with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
                    logits = small(pixels).float()
                loss = nn.functional.cross_entropy(logits, data.labels[index])
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()

    return run


def shrinking(root: Path) -> Iterator[Figure]:
    """A round of the small network against a round of the whole one."""
    bench = Workbench(experiment(width=1, nodes=2, images=1280), root)
    yield paired(
        "a round at 90 % sparsity over a dense round, full width",
        one_round(bench, masks.drawn(bench.layout, 0.9, rng_for(0))),
        one_round(bench, masks.full(bench.layout)),
        "<=0.15",
        n=3,
        names=("at 90 %", "dense"),
    )


def engine(root: Path) -> Iterator[Figure]:
    """What the engine adds to the training itself."""
    for width, sparsity in ((0.5, 0.0), (0.5, 0.8), (1, 0.9)):
        bench = Workbench(experiment(width, nodes=2, images=5000), root)
        mask = masks.drawn(bench.layout, sparsity, rng_for(0))
        yield paired(
            f"engine over a bare loop, width {width:g}, {sparsity:.0%} sparsity",
            one_round(bench, mask),
            bare_loop(bench, mask),
            "<=1.05",
            names=("engine", "bare"),
        )


def side_by_side(root: Path) -> Iterator[Figure]:
    """Two nodes at a time against one, on one thread and on all cores."""
    made = experiment(width=0.5, nodes=4, images=1280)
    bench, many = Workbench(made, root), _on_all_cores(made, root)
    with Workers(made, root, 2) as workers:
        run_nodes = workers.run_nodes(None, made.nodes, lambda round_, node: None)
        for sparsity in (0.0, 0.8):
            mask = masks.drawn(bench.layout, sparsity, rng_for(0))
            for name, other in (("one thread", bench), ("all cores", many)):
                yield paired(
                    f"two workers over one process on {name}, half width, {sparsity:.0%} sparsity",
                    one_round(bench, mask, run_nodes),
                    one_round(other, mask),
                    "<=0.8",
                    n=3,
                    names=("two workers", "one process"),
                )


def laptop_rounds(root: Path) -> Iterator[Figure]:
    """The ten mask rounds of the laptop recipe: small networks side by side, against before.

    Before, a node trained at full shapes with the mask held, on all cores, one by one.
    """
    made = experiment(width=0.5, nodes=4, images=1280)
    bench, before = Workbench(made, root), _on_all_cores(made, root, compact=False)
    drawn = [
        masks.drawn(bench.layout, bench.plan.sparsity(r) if r else 0.0, rng_for(0))
        for r in range(made.rounds)
    ]

    def all_rounds(of: Workbench, run_nodes: RunNodes | None = None) -> Callable[[], object]:
        rounds = [one_round(of, mask, run_nodes) for mask in drawn]
        return lambda: [round_() for round_ in rounds]

    with Workers(made, root, 2) as workers:
        run_nodes = workers.run_nodes(None, made.nodes, lambda round_, node: None)
        yield paired(
            "the laptop recipe's mask rounds over those of before",
            all_rounds(bench, run_nodes),
            all_rounds(before),
            "<=0.5",
            n=2,
            names=("now", "before"),
        )


_MENDED = {UnrepeatedPool: nn.AdaptiveAvgPool2d, SummingLinear: nn.Linear, WindowedConv: nn.Conv2d}


def small_pictures(root: Path) -> Iterator[Figure]:
    """Steps of the published VGG11 at 32 px: with the mends for small pictures, or without.

    The loading of the weights apart, which a long training does once.
    """
    keep_freed_memory()
    made = recipe("published-cifar10-vgg11", "laptop")
    bench = Workbench(replace(made, images=64, nodes=2), root)
    module, data, settings = bench.trainer.module, bench.parties.whole, made.local
    optimiser = _optimiser(module, settings)
    parts = [part for part in module.modules() if type(part) in _MENDED]
    kinds = [type(part) for part in parts]
    rates: dict[bool, list[float]] = {True: [], False: []}

    def steps(mended: bool) -> Callable[[], object]:
        @on_threads(1)
        def run() -> None:
            for part, kind in zip(parts, kinds, strict=True):
                part.__class__ = kind if mended else _MENDED[kind]
            module.train()
            began, rng = time.process_time(), rng_for(0, "repeated")
            for places in data.batches(settings.batch, rng):
                batch = data.take(places)
                images = crop_and_mirror(batch.images, rng, 32)
                logits = bench.trainer._logits(module, images)
                loss = nn.functional.cross_entropy(logits, batch.labels)
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
            rates[mended].append(len(data) / (time.process_time() - began))

        return run

    yield paired(
        "training VGG11 at 32 px, mended for small pictures, over plain",
        steps(True),
        steps(False),
        "<=0.67",
        names=("mended", "plain"),
    )
    own = sorted(rates[True][1:])
    yield Figure(
        "training VGG11 at 32 px, pictures a processor second",
        statistics.median(own),
        None,
        len(own),
        own[0],
        own[-1],
        f"plain {statistics.median(rates[False][1:]):.3g}",
    )


def _on_all_cores(made: Experiment, root: Path, *, compact: bool = True) -> Workbench:
    """A workbench whose trainer spreads each operation over the cores."""
    bench = Workbench(made, root)
    mean, std = bench.dataset.mean, bench.dataset.std
    bench.trainer = Trainer(
        bench.trainer.module,
        bench.layout,
        mean,
        std,
        made.precision,
        made.pixels,
        compact=compact,
        threads=torch.get_num_threads(),
    )
    return bench
