"""A mask as bytes, and back, in the shortest of three ways (:class:`mpfl.wire.frame.Kind`).

What it costs is close to :func:`limit_bits`, the logarithm of the number of masks that it could
have been. Law: decode(encode(x)) == x, and decoding refuses all bytes that encoding would not
write.

The places in a list mean nothing without the list. So a mask's frame names what it is written
inside, at no byte more: its fingerprint is that of the model, its ``reference`` and what both
ends know of its counts. A reader who holds another one refuses it.
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Mapping
from typing import Literal

import numpy as np

from mpfl import masks
from mpfl.filters import Layout
from mpfl.types import Mask, MPFLError
from mpfl.wire import enumerative, frame
from mpfl.wire.frame import Kind, kind_of

Keep = Mapping[str, int] | int
"""Kept counts that both sides know: one a layer, or one number for the whole network."""

Coding = Literal["shortest", "packed"]
"""How masks are written, which both sides know: in the fewest bytes, or all equally long."""


def _inside(layout: Layout, reference: Mask, keep: Keep | None = None) -> bytes:
    """Four bytes that name what a mask or counts are written inside.

    The model's fingerprint where that is all: nothing pruned, no counts known. Else a CRC-32,
    which tells references apart that differ in up to three filters, or within 32 neighbours,
    for certain, and any others but for one chance in 2**32.
    """
    bits = masks.flatten(reference, layout)
    if keep is None and bits.all():
        return layout.fingerprint
    counts = [keep[name] for name in reference] if isinstance(keep, Mapping) else keep
    known = json.dumps(np.asarray(counts).tolist()).encode()
    return frame.CRC.pack(zlib.crc32(layout.fingerprint + known + np.packbits(bits).tobytes()))


def _groups(layout: Layout, reference: Mask, keep: Keep | None = None) -> list[np.ndarray]:
    """Where the alive filters are among all: a group a layer, but one in all for one count."""
    alive = np.flatnonzero(masks.flatten(reference, layout))
    ends = np.cumsum([layer.filters for layer in layout.layers])[:-1]
    by_layer = keep is None or isinstance(keep, Mapping)
    return np.split(alive, np.searchsorted(alive, ends)) if by_layer else [alive]


def _check(layout: Layout, reference: Mask, keep: Keep | None) -> None:
    masks.check(reference, layout)
    names = [layer.name for layer in layout.layers]
    if isinstance(keep, Mapping) and set(keep) != set(names):
        raise MPFLError(f"keep names layers {list(keep)}, but the model has {names}; name each")


def _prunes(layout: Layout, groups: list[np.ndarray], keep: Keep) -> list[int]:
    """How many filters of each group go when ``keep`` stay."""
    names = [layer.name for layer in layout.layers]
    stay = [keep[name] for name in names] if isinstance(keep, Mapping) else [keep]
    return [len(group) - int(count) for group, count in zip(groups, stay, strict=True)]


def encode_mask(
    mask: Mask,
    layout: Layout,
    round_: int,
    *,
    reference: Mask,
    keep: Keep | None = None,
    coding: Coding = "shortest",
) -> bytes:
    """A mask inside ``reference``, the shortest of PACKED, NESTED and KNOWN.

    KNOWN takes part where ``mask`` holds exactly the counts of ``keep``. Of equally short
    ones KNOWN goes first, then NESTED. ``coding="packed"`` always writes PACKED. Raises
    :class:`MPFLError` where the mask does not fit the layout or brings a filter back.
    """
    _check(layout, reference, keep)
    masks.check(mask, layout, within=reference)
    bits = masks.flatten(mask, layout)
    packed = np.packbits(bits, bitorder="little").tobytes()
    if coding == "packed":
        return frame.write(Kind.PACKED, _inside(layout, reference), round_, packed)
    bodies = {}
    if keep is not None:
        groups = _groups(layout, reference, keep)
        subsets = [(~bits[group]).tolist() for group in groups]
        if [sum(subset) for subset in subsets] == _prunes(layout, groups, keep):
            bodies[Kind.KNOWN] = enumerative.encode(subsets, known=True)
    subsets = [(~bits[group]).tolist() for group in _groups(layout, reference)]
    bodies[Kind.NESTED] = enumerative.encode(subsets, known=False)
    bodies[Kind.PACKED] = packed
    kind = min(bodies, key=lambda kind: len(bodies[kind]))
    return frame.write(kind, _inside(layout, reference, keep), round_, bodies[kind])


def decode_mask(
    payload: bytes,
    layout: Layout,
    round_: int,
    *,
    reference: Mask,
    keep: Keep | None = None,
    coding: Coding = "shortest",
) -> dict[str, np.ndarray]:
    """The inverse of :func:`encode_mask`, given the same ``reference``, ``keep`` and ``coding``.

    Raises :class:`MPFLError` where it was written inside another reference, for another
    ``keep`` (which a packed mask does not know) or another model, or in another round.
    """
    _check(layout, reference, keep)
    kind = kind_of(payload)
    if coding == "packed" and kind in (Kind.KNOWN, Kind.NESTED):
        raise MPFLError(
            f"{kind.name} payload is not canonical where the coding is 'packed'; "
            "do both sides hold the same coding?"
        )
    if kind is Kind.KNOWN and keep is None:
        raise MPFLError("KNOWN payload leaves the kept counts out; give them as keep")
    fingerprint = _inside(layout, reference, None if coding == "packed" else keep)
    kind, body = frame.read(payload, fingerprint, round_, Kind.KNOWN, Kind.NESTED, Kind.PACKED)
    if kind is Kind.PACKED:
        if len(body) != (needed := (layout.filters + 7) // 8):
            raise MPFLError(
                f"body holds {len(body)} bytes, but {layout.filters} filters take {needed}; "
                "was it encoded for another model?"
            )
        packed = np.frombuffer(body, dtype=np.uint8)
        bits = np.unpackbits(packed, count=layout.filters, bitorder="little").astype(bool)
    else:
        known = keep if kind is Kind.KNOWN else None
        groups = _groups(layout, reference, known)
        counts = None if known is None else _prunes(layout, groups, known)
        subsets = enumerative.decode(body, [len(group) for group in groups], counts)
        bits = np.zeros(layout.filters, dtype=bool)
        for group, subset in zip(groups, subsets, strict=True):
            bits[group] = ~np.array(subset, dtype=bool)
    mask = masks.unflatten(bits, layout)
    again = encode_mask(mask, layout, round_, reference=reference, keep=keep, coding=coding)
    if again != payload:
        raise MPFLError(
            f"{kind.name} payload is not canonical: encode_mask writes this mask otherwise; "
            "do both sides hold the same reference, keep and coding?"
        )
    return mask


def limit_bits(mask: Mask, reference: Mask, keep: Keep | None = None) -> float:
    """The combinatorial limit: sum over layers of log2 C(alive, pruned), in bits.

    Where ``keep`` is one count for the whole network all layers are one choice. It is what a
    mask takes on average where any other is as likely; a lucky one may take less.
    """
    alive, stay = masks.kept(reference), masks.kept(mask)
    if isinstance(keep, int):
        return math.log2(math.comb(sum(alive.values()), sum(stay.values())))
    return sum(math.log2(math.comb(alive[name], stay[name])) for name in alive)
