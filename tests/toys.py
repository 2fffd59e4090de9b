"""What the tests of the core share: tiny models, masks, and what hypothesis draws."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mpfl.filters import Layer, Layout, Reader
from mpfl.masks import Keep
from mpfl.runs.folder import read_json, read_lines
from mpfl.seeds import rng_for
from mpfl.types import Mask
from mpfl.vote import (
    Rule,
    Tally,
    most_votes,
    published_percentile,
    published_threshold,
    relaxed,
    share,
)

# Every rule that needs the histogram alone: all but the weighted one, which a test sets up.
BY_HISTOGRAM = [
    share(0.5),
    share(1.0),
    most_votes(),
    relaxed(),
    published_threshold(),
    published_percentile(0.3),
]

# Two convs and a linear layer behind a flatten of two pixels a channel. The first conv has
# a batch norm, the last layer has no readers, and two tensors belong to no filter.
TOY = Layout(
    layers=(
        Layer(
            name="conv1",
            filters=4,
            weight="conv1.weight",
            own=("conv1.weight", "conv1.bias", "bn1.weight", "bn1.bias", "bn1.mean", "bn1.var"),
            scale="bn1.weight",
            shift="bn1.bias",
        ),
        Layer(
            name="conv2",
            filters=3,
            weight="conv2.weight",
            own=("conv2.weight", "conv2.bias"),
        ),
        Layer(name="fc", filters=5, weight="fc.weight", own=("fc.weight", "fc.bias")),
    ),
    shapes={
        "conv1.weight": (4, 1, 2, 2),
        "conv1.bias": (4,),
        "bn1.weight": (4,),
        "bn1.bias": (4,),
        "bn1.mean": (4,),
        "bn1.var": (4,),
        "conv2.weight": (3, 4, 1, 2),
        "conv2.bias": (3,),
        "fc.weight": (5, 6),
        "fc.bias": (5,),
        "temperature": (2,),
        "steps": (),
    },
    readers=(Reader("conv2.weight", ("conv1",)), Reader("fc.weight", ("conv2",), block=2)),
)


def chain(
    counts: Sequence[int],
    *,
    blocks: Sequence[int] | None = None,
    kernel: tuple[int, ...] = (),
    norm: bool = True,
    head: bool = True,
    skip: bool = False,
    join: bool = False,
) -> Layout:
    """Layers one behind the other: ``counts`` filters each, ``blocks`` inputs a channel.

    With ``head`` the last layer is read by one output that is no layer; with ``skip`` the
    first layer is read by a second tensor as well; with ``join`` a layer beside the chain is
    added to the last one.
    """
    blocks = blocks or [1] * len(counts)
    names = [f"layer{i}" for i in range(len(counts))]
    per_filter = ["bias", "scale", "shift", "mean"] if norm else ["bias"]
    layers: list[Layer] = []
    readers: list[Reader] = []
    shapes: dict[str, tuple[int, ...]] = {"steps": ()}

    def add_layer(name: str, filters: int, inputs: int) -> None:
        shapes[f"{name}.weight"] = (filters, inputs, *kernel)
        shapes.update({f"{name}.{part}": (filters,) for part in per_filter})
        layers.append(
            Layer(
                name=name,
                filters=filters,
                weight=f"{name}.weight",
                own=tuple(f"{name}.{part}" for part in ("weight", *per_filter)),
                scale=f"{name}.scale" if norm else None,
                shift=f"{name}.shift" if norm else None,
            )
        )

    inputs = 3
    for name, filters, block, after in zip(names, counts, blocks, [*names[1:], None], strict=True):
        add_layer(name, filters, inputs)
        inputs = filters * block
        if after is not None:
            readers.append(Reader(f"{after}.weight", (name,), block))
    if head:
        readers.append(Reader("head.weight", (names[-1], "side")[: 1 + join], blocks[-1]))
        shapes["head.weight"] = (2, inputs)
    if skip:
        readers.append(Reader("skip.weight", (names[0],)))
        shapes["skip.weight"] = (2, counts[0])
    if join:
        add_layer("side", counts[-1], 3)
    return Layout(tuple(layers), shapes, tuple(readers))


def draw_weights(layout: Layout, seed: int = 0) -> dict[str, np.ndarray]:
    """Weights without a single zero, so that every zero found later was put there."""
    rng = rng_for(seed, "toy weights")
    return {
        name: (rng.integers(1, 9, shape) * rng.choice([-1, 1], shape)).astype(np.float32)
        if shape
        else np.array(rng.integers(1, 9))
        for name, shape in layout.shapes.items()
    }


def mask_of(layout: Layout, *texts: str) -> dict[str, np.ndarray]:
    """A mask written as one text a layer, ``#`` = kept."""
    rows = [np.array([bit == "#" for bit in text]) for text in texts]
    return {layer.name: row for layer, row in zip(layout.layers, rows, strict=True)}


def written(mask: Mask) -> list[str]:
    """The inverse of :func:`mask_of`."""
    return ["".join(".#"[int(bit)] for bit in bits) for bits in mask.values()]


def same(one: Mapping[str, np.ndarray], other: Mapping[str, np.ndarray]) -> bool:
    """Equal names in equal order, equal types and equal values."""
    return list(one) == list(other) and all(
        one[name].dtype == other[name].dtype and np.array_equal(one[name], other[name])
        for name in one
    )


def inside(mask: Mask, other: Mask) -> bool:
    """Whether every filter that ``mask`` keeps is kept by ``other``."""
    return all(not (mask[name] & ~other[name]).any() for name in mask)


# --- what hypothesis draws -------------------------------------------------------------------


@st.composite
def layouts(draw: st.DrawFn, largest: int = 6) -> Layout:
    """Chains of one to three layers of every kind, some with a layer beside them."""
    counts = draw(st.lists(st.integers(1, largest), min_size=1, max_size=3))
    return chain(
        counts,
        blocks=draw(st.lists(st.integers(1, 3), min_size=len(counts), max_size=len(counts))),
        kernel=draw(st.sampled_from([(), (1, 2)])),
        norm=draw(st.booleans()),
        head=draw(st.booleans()),
        skip=draw(st.booleans()),
        join=draw(st.booleans()),
    )


def masks_for(layout: Layout) -> st.SearchStrategy[dict[str, np.ndarray]]:
    """Any mask of a layout, empty layers too."""
    names = [layer.name for layer in layout.layers]
    rows = st.tuples(*(arrays(bool, layer.filters) for layer in layout.layers))
    return rows.map(lambda bits: dict(zip(names, bits, strict=True)))


@dataclass(frozen=True)
class Election:
    """One layer's masks, one row per node, before anything is added up."""

    masks: np.ndarray  # bool [nodes, filters]
    alive: np.ndarray  # bool [filters]
    keep: int
    norms: np.ndarray  # float [filters]


def kept_by(rule: Rule, tally: Tally) -> np.ndarray:
    """What a rule keeps of a network of one layer."""
    return rule.decide({"layer": tally}, Keep.by_layer({"layer": tally.keep}))["layer"]


@st.composite
def elections(draw: st.DrawFn, *, distinct_norms: bool = False, largest: int = 6) -> Election:
    """Up to six nodes that vote within what is alive; few norms, so that many are equal."""
    nodes, filters = draw(st.integers(1, largest)), draw(st.integers(1, 7))
    alive = draw(arrays(bool, filters)) | draw(st.booleans())
    norms = draw(st.permutations(range(filters))) if distinct_norms else None
    norms = norms or draw(st.lists(st.integers(0, 2), min_size=filters, max_size=filters))
    return Election(
        masks=draw(arrays(bool, (nodes, filters))) & alive,
        alive=alive,
        keep=draw(st.integers(1, filters)),
        norms=np.array(norms, dtype=np.float64),
    )


def random_mask(
    layout: Layout, rng: np.random.Generator, share: float = 0.5
) -> dict[str, np.ndarray]:
    """Half of each layer's filters on average, at least one."""
    mask = {layer.name: rng.random(layer.filters) < share for layer in layout.layers}
    for bits in mask.values():
        bits[rng.integers(bits.size)] = True
    return mask


# --- what a run leaves -----------------------------------------------------------------------


def result_of(folder: Path) -> dict[str, Any]:
    """All that a run leaves behind but the time it took: bytes of tensors, logs, summary."""
    found: dict[str, Any] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix == ".safetensors":
            found[path.name] = path.read_bytes()
        elif path.suffix == ".jsonl":
            found[path.name] = [{**line, "seconds": 0} for line in read_lines(path)]
        else:
            content = read_json(path)
            for key in ("seconds", "provenance", "workers"):
                content.pop(key, None)
            found[path.name] = content
    return found
