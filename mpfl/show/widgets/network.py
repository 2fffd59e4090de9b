"""A network as a bill needs it: where its filters are, and how many images train it.

A reader may write one down, one line per layer::

    images 50000
    input 3
    conv1 64 3x3 norm
    conv2 128 3x3 norm
    hidden 256 8x8
    classes 10

``input`` says how many channels the images have; ``images``, which may be left out, how many of
them all nodes hold together. A layer has a name, its filters, and how many weights a filter has
for each channel that it reads: ``3x3`` for a convolution, ``8x8`` for a fully connected layer
behind a flatten of 8 x 8 places, nothing for one weight. ``norm`` is a batch norm behind it. Every
layer reads the one above and has biases. The last one is the output, which is not pruned.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import NoReturn

from mpfl.filters import Layer, Layout, Reader
from mpfl.types import MPFLError

IMAGES = 50_000
MOST = {"images": 10_000_000, "channels": 4096, "filters": 4096, "weights": 65_536, "layers": 60}
LARGEST = 8_000_000_000  # weights: a message holds 32 GB at most, and a browser's sums stay exact
_STATISTICS = (".running_mean", ".running_var", ".num_batches_tracked")


@dataclass(frozen=True)
class Network:
    """What a bill needs to know: where a model's filters are, and how many images train it."""

    layout: Layout
    images: int

    @property
    def voted(self) -> tuple[str, ...]:
        """The tensors that training moves: all but the statistics of batch norm."""
        return tuple(name for name in self.layout.shapes if not name.endswith(_STATISTICS))


def written_network(text: str) -> Network:
    """The network that lines of text describe, as at the top of this page.

    >>> network = written_network("input 3\\nconv1 8 3x3\\nclasses 10 4x4")
    >>> network.layout.shapes["conv1.weight"], network.layout.shapes["classes.weight"]
    ((8, 3, 3, 3), (10, 8, 4, 4))
    >>> [layer.name for layer in network.layout.layers], network.images
    (['conv1'], 50000)

    Raises :class:`~mpfl.types.MPFLError` that names the line and says what it should hold.
    """
    images, reads = IMAGES, 0
    said: set[str] = set()
    rows: list[tuple[str, int, tuple[int, ...], bool]] = []
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    for place, line in enumerate(lines, start=1):
        words = re.sub("[\t\u00a0\ufeff]", " ", line).split(" ")  # as pasted from a page
        words = [word for word in words if word]
        if not words:
            continue
        if words[0] in ("images", "input"):
            what = "images" if words[0] == "images" else "channels"
            if rows:
                _fail(place, f"{words[0]} stands above the layers")
            if words[0] in said:
                _fail(place, f"{words[0]} stands above already; say it once")
            said.add(words[0])
            if len(words) != 2:
                _fail(place, f"give {words[0]} and one number, such as {words[0]} 3")
            number = _number(place, words[1], what)
            images, reads = (number, reads) if what == "images" else (images, number)
            continue
        if not reads:
            _fail(place, "say first how many channels the images have, such as input 3")
        rows.append(_row(place, words, {row[0] for row in rows}))
        if len(rows) > MOST["layers"]:
            _fail(place, f"a network has at most {MOST['layers']} layers here")
    if len(rows) < 2:
        _fail(len(lines), "give at least two layers; the last one is the output")
    layout = _layout(rows, reads)
    size = sum(map(math.prod, layout.shapes.values()))
    if size > LARGEST:
        many = f"a network has at most {LARGEST:,} weights here, and this has {size:,}"
        _fail(len(lines), many)
    return Network(layout, images)


def _short(word: str) -> str:
    return word if len(word) <= 30 else f"{word[:30]}…"


def _fail(place: int, what: str) -> NoReturn:
    raise MPFLError(f"network, line {place}: {what}")


def _number(place: int, word: str, what: str) -> int:
    """A whole number that is within what there can be."""
    if not re.fullmatch("[1-9][0-9]{0,7}", word) or int(word) > MOST[what]:
        needed = f"give a whole number from 1 to {MOST[what]}"
        _fail(place, f'"{_short(word)}" is no number of {what}; {needed}')
    return int(word)


def _row(place: int, words: list[str], there: set[str]) -> tuple[str, int, tuple[int, ...], bool]:
    """A layer's name, filters, kernel, and whether a batch norm follows."""
    name, *more = words
    if not re.fullmatch("[A-Za-z][A-Za-z0-9_-]{0,29}", name):
        _fail(place, f'"{_short(name)}" is no name; give letters, digits, - and _, a letter first')
    if name in there:
        _fail(place, f"there is a layer {name} above; give each a name of its own")
    if not more:
        _fail(place, f"give {name} a number of filters, such as {name} 64 3x3")
    filters, rest = _number(place, more[0], "filters"), more[1:]
    kernel: tuple[int, ...] = ()
    if rest and rest[0] != "norm":
        if not re.fullmatch("[1-9][0-9]{0,4}(x[1-9][0-9]{0,4}){0,2}", rest[0]):
            _fail(place, f'"{_short(rest[0])}" is no kernel; give a size such as 3x3, or norm')
        kernel = tuple(map(int, rest[0].split("x")))
        if math.prod(kernel) > MOST["weights"]:
            _fail(place, f"a kernel has at most {MOST['weights']} weights here")
        rest = rest[1:]
    if rest and rest != ["norm"]:
        wrong = _short(rest[1] if rest[0] == "norm" else rest[0])
        _fail(place, f'"{wrong}" is one word too many; a kernel and norm may follow the filters')
    return name, filters, kernel, bool(rest)


def _layout(rows: list[tuple[str, int, tuple[int, ...], bool]], channels: int) -> Layout:
    """The layout of layers that each read the one before."""
    shapes: dict[str, tuple[int, ...]] = {}
    layers, readers = [], []
    for place, (name, filters, kernel, norm) in enumerate(rows):
        own = {f"{name}.weight": (filters, channels, *kernel), f"{name}.bias": (filters,)}
        if norm:
            ends = ("weight", "bias", "running_mean", "running_var")
            own |= {f"{name}.norm.{end}": (filters,) for end in ends}
        shapes |= own
        if place:
            readers.append(Reader(f"{name}.weight", (rows[place - 1][0],)))
        if place < len(rows) - 1:
            layers.append(Layer(name, filters, f"{name}.weight", tuple(own)))
        channels = filters
    return Layout(tuple(layers), shapes, tuple(readers))
