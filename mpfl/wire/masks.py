"""A mask as bytes, and back, in the shortest of three ways (:class:`mpfl.wire.frame.Kind`).

What it costs is close to :func:`limit_bits`, the logarithm of the number of masks that it could
have been. Law: decode(encode(x)) == x, and decoding refuses all bytes that encoding would not
write.

The places in a list mean nothing without the list. So a mask's frame names what it is written
inside, at no extra byte: its fingerprint is that of the model, its ``reference`` and what both
ends know of its counts. A reader who holds another one refuses it.
"""

from __future__ import annotations

import json
import math
import zlib
from typing import Literal, get_args

import numpy as np

from mpfl import masks
from mpfl.filters import Layout
from mpfl.masks import Keep
from mpfl.types import Mask, MPFLError, one_of
from mpfl.wire import enumerative, frame
from mpfl.wire.frame import Kind, kind_of, round_of
from mpfl.wire.range_coder import MOST_EXACT

Coding = Literal["shortest", "packed"]
"""How masks are written, which both sides know: in the fewest bytes, or all equally long."""


def fingerprint_of(layout: Layout, reference: Mask, keep: Keep | None = None) -> bytes:
    """Four bytes that name what a mask or counts are written inside.

    The model's fingerprint if that is all: nothing pruned, no counts known. Else a CRC-32,
    which tells references apart that differ in up to three filters, or within 32 neighbours,
    for certain, and any others but for one chance in 2**32.
    """
    bits = masks.flatten(reference, layout)
    if keep is None and bits.all():
        return layout.fingerprint
    known = None if keep is None else [int(count) for count in _by_group(layout, keep).values()]
    text = json.dumps(known).encode()
    return frame.CRC.pack(zlib.crc32(layout.fingerprint + text + np.packbits(bits).tobytes()))


def _by_group(layout: Layout, keep: Keep) -> dict[tuple[str, ...], int]:
    """The counts, groups and the layers of each in the order of the layout."""
    place = {name: number for number, name in enumerate(layout.sizes)}
    counts = {
        tuple(sorted(group, key=place.__getitem__)): count for group, count in keep.counts.items()
    }
    return dict(sorted(counts.items(), key=lambda item: place[item[0][0]]))


def _alive_places(layout: Layout, reference: Mask, keep: Keep | None = None) -> list[np.ndarray]:
    """Where the filters alive stand among all, an array per group; without ``keep`` per layer."""
    starts = dict(zip(layout.sizes, [0, *layout.ends.tolist()], strict=True))
    groups = [(name,) for name in layout.sizes] if keep is None else _by_group(layout, keep)
    return [
        np.concatenate([starts[name] + np.flatnonzero(reference[name]) for name in group])
        for group in groups
    ]


def _pruned_counts(layout: Layout, places: list[np.ndarray], keep: Keep) -> list[int]:
    """How many filters of each group go if ``keep`` stay."""
    stay = _by_group(layout, keep).values()
    return [len(group) - int(count) for group, count in zip(places, stay, strict=True)]


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

    KNOWN takes part if ``mask`` holds exactly the counts of ``keep``. Of equally short
    ones KNOWN goes first, then NESTED. ``coding="packed"`` always writes PACKED. Raises
    :class:`MPFLError` if the mask does not fit the layout or brings a filter back.

    >>> from mpfl.filters import Layer, Layout
    >>> layout = Layout((Layer("conv", 40, "w", ("w",)),), {"w": (40, 1, 3, 3)})
    >>> everything = masks.full(layout)
    >>> mask = {"conv": np.arange(40) < 38}
    >>> keep = Keep.by_layer({"conv": 38})
    >>> message = encode_mask(mask, layout, 1, reference=everything, keep=keep)
    >>> len(message), kind_of(message).name  # 2 of 40 filters go: 780 ways, 2 bytes in a frame
    (16, 'KNOWN')
    """
    one_of("coding", coding, get_args(Coding))
    _check(layout, reference, keep)
    masks.check(mask, layout, within=reference)
    bits = masks.flatten(mask, layout)
    packed = np.packbits(bits, bitorder="little").tobytes()
    if coding == "packed":
        return frame.write(Kind.PACKED, fingerprint_of(layout, reference), round_, packed)
    kind, places = _shortest(bits, layout, reference, keep)
    body = packed
    if kind is not Kind.PACKED:
        subsets = [~bits[group] for group in places]
        body = enumerative.encode(subsets, known=kind is Kind.KNOWN)
    return frame.write(kind, fingerprint_of(layout, reference, keep), round_, body)


def _shortest(
    bits: np.ndarray, layout: Layout, reference: Mask, keep: Keep | None
) -> tuple[Kind, list[np.ndarray]]:
    """The kind that a mask of these bits is written as, and where the filters of its groups stand.

    How long each would be follows from the counts: only one of them is written.
    """
    choices = {}
    # KNOWN: if the mask keeps just what both ends expect, its counts need not be sent.
    if keep is not None:
        places = _alive_places(layout, reference, keep)
        if _pruned(bits, places) == _pruned_counts(layout, places, keep):
            choices[Kind.KNOWN] = places
    # NESTED: which of the filters alive go, layer by layer, with how many. It is never shorter than
    # KNOWN with layers for groups, which is the same without the counts.
    if not choices or keep is None or any(len(group) > 1 for group in keep.counts):
        choices[Kind.NESTED] = _alive_places(layout, reference)
    lengths = {
        kind: enumerative.width(
            [len(group) for group in places], _pruned(bits, places), known=kind is Kind.KNOWN
        )
        for kind, places in choices.items()
    }
    lengths[Kind.PACKED] = (layout.filters + 7) // 8
    # The first of the shortest, in this order: so there is one way to write a mask.
    shortest = min(lengths, key=lengths.__getitem__)
    return shortest, choices.get(shortest, [])


def _pruned(bits: np.ndarray, places: list[np.ndarray]) -> list[int]:
    """How many filters of each group go in a mask of these bits."""
    return [len(group) - int(np.count_nonzero(bits[group])) for group in places]


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

    Raises :class:`MPFLError` if it was written inside another reference, for another
    ``keep`` (which a packed mask does not know) or another model, or in another round.

    >>> from mpfl.filters import Layer, Layout
    >>> layout = Layout((Layer("conv", 4, "w", ("w",)),), {"w": (4, 1, 3, 3)})
    >>> mask = {"conv": np.array([True, False, True, True])}
    >>> message = encode_mask(mask, layout, 1, reference=masks.full(layout))
    >>> decode_mask(message, layout, 1, reference=masks.full(layout))
    {'conv': array([ True, False,  True,  True])}
    >>> decode_mask(message, layout, 2, reference=masks.full(layout))
    Traceback (most recent call last):
    mpfl.types.MPFLError: payload is of round 1, not 2; is it late or out of turn?
    """
    one_of("coding", coding, get_args(Coding))
    _check(layout, reference, keep)
    kind = kind_of(payload)
    if coding == "packed" and kind in (Kind.KNOWN, Kind.NESTED):
        raise MPFLError(
            f"{kind.name} payload is not canonical if the coding is 'packed'; "
            "do both sides hold the same coding?"
        )
    if kind is Kind.KNOWN and keep is None:
        raise MPFLError("KNOWN payload leaves the kept counts out; give them as keep")
    fingerprint = fingerprint_of(layout, reference, None if coding == "packed" else keep)
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
        places = _alive_places(layout, reference, known)
        pruned = None if known is None else _pruned_counts(layout, places, known)
        subsets = enumerative.decode(body, [len(group) for group in places], pruned)
        bits = np.zeros(layout.filters, dtype=bool)
        for group, subset in zip(places, subsets, strict=True):
            bits[group] = ~subset
    mask = masks.unflatten(bits, layout)
    masks.check(mask, layout, within=reference)
    # Every mask has one message: of one kind, whose body says nothing but the mask.
    due = Kind.PACKED if coding == "packed" else _shortest(bits, layout, reference, keep)[0]
    padded = kind is Kind.PACKED and body != np.packbits(bits, bitorder="little").tobytes()
    if kind is not due or padded:
        raise MPFLError(
            f"{kind.name} payload is not canonical: encode_mask writes this mask otherwise; "
            "do both sides hold the same reference, keep and coding?"
        )
    return mask


def _check(layout: Layout, reference: Mask, keep: Keep | None) -> None:
    masks.check(reference, layout)
    if keep is not None:
        if not isinstance(keep, Keep):
            raise MPFLError(f"keep is {keep!r}; give a Keep, such as Keep.by_layer(counts)")
        keep.require_layers(layout)


def encode_consensus(mask: Mask, layout: Layout, round_: int) -> bytes:
    """The server's broadcast that begins ``round_``, readable by a node that missed all before.

    >>> from mpfl.filters import Layer, Layout
    >>> layout = Layout((Layer("conv", 4, "w", ("w",)),), {"w": (4, 1, 3, 3)})
    >>> message = encode_consensus({"conv": np.array([True, False, True, True])}, layout, 7)
    >>> decode_consensus(message, layout)
    (7, {'conv': array([ True, False,  True,  True])})
    """
    return encode_mask(mask, layout, round_, reference=masks.full(layout))


def decode_consensus(message: bytes, layout: Layout) -> tuple[int, dict[str, np.ndarray]]:
    """The round that a broadcast begins, and the consensus in it.

    Raises :class:`~mpfl.types.MPFLError` if it is damaged or another model's.
    """
    round_ = round_of(message)
    return round_, decode_mask(message, layout, round_, reference=masks.full(layout))


def limit_bits(mask: Mask, reference: Mask, keep: Keep | None = None) -> float:
    """The combinatorial limit: the sum over groups of log2 C(alive, pruned), in bits.

    Without ``keep`` every layer is a group. This is the average length if all masks were equally
    likely; a single mask may be shorter.

    >>> alive = {"conv": np.ones(40, bool)}
    >>> round(limit_bits({"conv": np.arange(40) < 38}, alive), 2)  # log2 of 780
    9.61
    """
    alive, stay = masks.counts(reference), masks.counts(mask)
    if masks.counts(masks.intersect(mask, reference)) != stay:
        raise MPFLError("a mask that keeps what its reference has not; give one inside it")
    groups = [(name,) for name in alive] if keep is None else keep.counts
    return sum(
        _log2_ways(sum(alive[n] for n in group), sum(stay[n] for n in group)) for group in groups
    )


def _log2_ways(size: int, count: int) -> float:
    """log2 C(size, count); of very many by logarithms, as the number has millions of digits."""
    if size <= MOST_EXACT or count in (0, size):
        return math.log2(math.comb(size, count))
    factorials = math.lgamma(size + 1) - math.lgamma(count + 1) - math.lgamma(size - count + 1)
    return factorials / math.log(2)
