"""A tiny model, the messages about it, and how a test takes one apart and forges another."""

import zlib
from dataclasses import replace

import numpy as np
from hypothesis import strategies as st

from mpfl import masks, wire
from mpfl.filters import Layer, Layout, Reader
from mpfl.masks import Keep
from mpfl.seeds import rng_for


def chain(*counts):
    """A chain of 1x1 convs with biases and batch-norm counters, then one output of all."""
    layers, readers, shapes = [], [], {}
    for i, (inputs, outputs) in enumerate(zip((3, *counts), counts, strict=False)):
        own = (f"c{i}.weight", f"c{i}.bias")
        after = f"c{i + 1}.weight" if i + 1 < len(counts) else "head.weight"
        layers.append(Layer(f"c{i}", outputs, own[0], own))
        readers.append(Reader(after, (f"c{i}",)))
        shapes |= {own[0]: (outputs, inputs), own[1]: (outputs,), f"c{i}.batches": ()}
    return Layout(tuple(layers), shapes | {"head.weight": (2, counts[-1])}, tuple(readers))


def mask_of(layout, *texts):
    """A mask written as one text a layer, ``#`` = kept."""
    rows = [np.array([bit == "#" for bit in text]) for text in texts]
    return {layer.name: row for layer, row in zip(layout.layers, rows, strict=True)}


def equal(one, other):
    return list(one) == list(other) and all(np.array_equal(one[k], other[k]) for k in one)


def draw_weights(layout, rng):
    return {
        name: np.array(rng.integers(9), dtype=np.int64)
        if name.endswith("batches")
        else rng.standard_normal(shape).astype(np.float32)
        for name, shape in layout.shapes.items()
    }


def reseal(payload, body, kind=None):
    """The payload with another body (and kind), its length and checksum put right."""
    tag = payload[2] if kind is None else 32 | kind
    length, rest = [], len(body)
    while True:
        length.append(rest % 128 + (128 if rest >= 128 else 0))
        rest //= 128
        if not rest:
            break
    message = payload[:2] + bytes([tag]) + payload[3:9] + bytes(length) + body
    return message + zlib.crc32(message).to_bytes(4, "little")


def body_of(payload):
    length = next(i for i, byte in enumerate(payload[9:], 1) if byte < 128)
    return payload[9 + length : -4]


def slow_crc(data):
    """CRC-32 as a division of polynomials, one bit at a time."""
    rest = 0xFFFFFFFF
    for byte in data:
        for place in range(8):
            odd = (rest ^ byte >> place) & 1
            rest = rest >> 1 ^ (0xEDB88320 if odd else 0)
    return rest ^ 0xFFFFFFFF


def by_layer(first: int, second: int) -> Keep:
    """What TINY keeps, layer by layer."""
    return Keep.by_layer({"c0": first, "c1": second})


def together_keep(layout: Layout, count: int) -> Keep:
    """One count for the whole network."""
    return Keep({tuple(layout.sizes): count})


def together(count: int) -> Keep:
    """What TINY keeps, both layers in one group."""
    return together_keep(TINY, count)


TINY = chain(4, 3)
ALL = masks.full(TINY)
ONE_EACH = mask_of(TINY, "#.##", "##.")
WEIGHTS = draw_weights(TINY, rng_for(0, "tiny"))
FLOATS = {name: array for name, array in WEIGHTS.items() if array.dtype.kind == "f"}
OF_FLOATS = replace(TINY, shapes={name: array.shape for name, array in FLOATS.items()})
OTHER = chain(4, 3, 2)
VOTES = {"c0": np.array([4, 0, 1, 3]), "c1": np.array([2, 0, 0])}


@st.composite
def cases(draw):
    """A layout, a reference, a mask inside it, and what both sides know of the counts."""
    layout = chain(*draw(st.lists(st.integers(1, 24), min_size=1, max_size=5)))
    bits = st.lists(st.booleans(), min_size=layout.filters, max_size=layout.filters)
    # A flipped share of the draws is dense, as real masks are; hypothesis prefers sparse ones.
    flip_reference, flip_mask = draw(st.booleans()), draw(st.booleans())
    reference = np.array(draw(bits)) ^ flip_reference
    mask = (np.array(draw(bits)) ^ flip_mask) & reference
    reference, mask = masks.unflatten(reference, layout), masks.unflatten(mask, layout)
    kept = masks.counts(mask)
    by_layer = [Keep.by_layer(kept), Keep.by_layer(dict.fromkeys(kept, 0))]
    together = [together_keep(layout, count) for count in (sum(kept.values()), 1)]
    keep = draw(st.sampled_from([None, *by_layer, *together]))
    return layout, reference, mask, keep


MESSAGES = {
    "seed": (wire.encode_seed(77, TINY), lambda p: wire.decode_start(p, TINY)),
    "empty": (wire.encode_empty(TINY, 3), lambda p: wire.decode_empty(p, TINY, 3)),
    "rounded": (
        wire.encode_rounded(wire.round_weights(FLOATS, OF_FLOATS, 4), OF_FLOATS, bits=4),
        lambda p: wire.decode_start(p, OF_FLOATS),
    ),
    "weights": (
        wire.encode_weights(WEIGHTS, TINY, 3, mask=ONE_EACH, samples=50),
        lambda p: wire.decode_weights(p, TINY, 3, mask=ONE_EACH),
    ),
    "packed": (
        wire.encode_mask(mask_of(TINY, "#.#.", "##."), TINY, 3, reference=ALL),
        lambda p: wire.decode_mask(p, TINY, 3, reference=ALL),
    ),
    "nested": (
        wire.encode_mask(ONE_EACH, TINY, 3, reference=ALL),
        lambda p: wire.decode_mask(p, TINY, 3, reference=ALL),
    ),
    "known": (
        wire.encode_mask(ONE_EACH, TINY, 3, reference=ALL, keep=together(5)),
        lambda p: wire.decode_mask(p, TINY, 3, reference=ALL, keep=together(5)),
    ),
    "counts": (
        wire.encode_counts(VOTES, 4, TINY, 3, reference=ONE_EACH),
        lambda p: wire.decode_counts(p, TINY, 3, reference=ONE_EACH),
    ),
}
