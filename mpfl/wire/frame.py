"""The frame round every message: whose it is, of which round, how long, and whether it is whole.

14 bytes more than the body (15 from 128 bytes on)::

    "MP" | version, kind | round     | fingerprint | length   | body | CRC-32 of all before
    2    | 4 + 4 bits    | 2, little | 4           | 1-5 LEB128 | ... | 4, little

The fingerprint names what a reader must hold to understand the body: the model, and for a mask
or counts also the mask that they lie inside. It is compared, never decoded, so that kind and
round can be read without it.
"""

from __future__ import annotations

import struct
import zlib
from enum import IntEnum

from mpfl.types import MPFLError

MAGIC, VERSION = b"MP", 1
HEAD = struct.Struct("<2sBH4s")
CRC = struct.Struct("<I")
SEALED = 0x2144DF1C  # the CRC-32 of any message that ends in its own, and of no other


class Kind(IntEnum):
    """What a body holds."""

    SEED = 1  # u64: w0 is the random initialisation of this seed
    WEIGHTS = 2  # safetensors, perhaps with the number of samples behind them
    EMPTY = 3  # nothing new, go on from what you have
    PACKED = 4  # a mask, one bit a filter, the first filter in the lowest bit
    NESTED = 5  # a mask, as the choice of new prunes among the reference's filters
    KNOWN = 6  # the same, their counts left out: both sides know them
    COUNTS = 7  # how many voters, and for each filter alive how many of them keep it


_FIXED = {Kind.SEED: 8, Kind.EMPTY: 0}
_OF_A_MODEL = (Kind.SEED, Kind.WEIGHTS, Kind.EMPTY)


def write_varint(number: int) -> bytes:
    """``number`` in LEB128: seven bits a byte, the lowest first, the top bit for "more"."""
    if number >> 35:
        raise MPFLError(f"{number} is too much for five bytes of LEB128; send less at once")
    out = bytearray()
    while number >> 7:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])


def read_varint(data: bytes, what: str) -> tuple[int, int]:
    """The number that ``data`` begins with, and how many bytes it takes.

    Raises :class:`MPFLError` naming ``what`` where :func:`write_varint` would not write it so.
    """
    number = size = 0
    for byte in data[:5]:
        number |= (byte & 127) << 7 * size
        size += 1
        if byte < 128:
            break
    if data[:size] != write_varint(number):
        raise MPFLError(f"the {what} field is not canonical LEB128; is the payload damaged?")
    return number, size


def write(kind: Kind, fingerprint: bytes, round_: int, body: bytes) -> bytes:
    """A whole message. Raises :class:`MPFLError` where round or body do not fit the frame."""
    if not 0 <= round_ < 1 << 16:
        raise MPFLError(f"round {round_} does not fit the frame; rounds go from 0 to 65535")
    head = HEAD.pack(MAGIC, VERSION << 4 | kind, round_, fingerprint)
    message = b"".join((head, write_varint(len(body)), body))
    return message + CRC.pack(zlib.crc32(message))


def parse(payload: bytes) -> tuple[Kind, int, bytes, bytes]:
    """Kind, round, fingerprint and body; raises :class:`MPFLError` where it is not whole."""
    if len(payload) < HEAD.size + 1 + CRC.size:
        raise MPFLError(f"payload is too short: {len(payload)} bytes; was it sent whole?")
    magic, tag, round_, fingerprint = HEAD.unpack_from(payload)
    if magic != MAGIC:
        raise MPFLError(f"payload begins with {magic!r}, not {MAGIC!r}; it is no mpfl message")
    if tag >> 4 != VERSION:
        raise MPFLError(f"payload is of version {tag >> 4}, not {VERSION}; use equal mpfl versions")
    length, size = read_varint(payload[HEAD.size : HEAD.size + 5], "length")
    start = HEAD.size + size
    if len(payload) != (whole := start + length + CRC.size):
        what = "is cut short" if len(payload) < whole else "has trailing bytes"
        raise MPFLError(f"payload {what}: {len(payload)} bytes, the frame says {whole}; send again")
    if CRC.unpack_from(payload, start + length)[0] != zlib.crc32(payload[: start + length]):
        raise MPFLError("checksum mismatch: the payload was damaged on its way; send again")
    if tag & 15 not in Kind.__members__.values():
        raise MPFLError(f"payload is of unknown kind {tag & 15}; use equal mpfl versions")
    kind, body = Kind(tag & 15), payload[start : start + length]
    if len(body) != (needed := _FIXED.get(kind, len(body))):
        raise MPFLError(f"{kind.name} body holds {len(body)} bytes, not {needed}; send again")
    return kind, round_, fingerprint, body


def read(payload: bytes, fingerprint: bytes, round_: int, *kinds: Kind) -> tuple[Kind, bytes]:
    """Kind and body of a message of one of these kinds, this fingerprint and this round."""
    kind, sent, found, body = parse(payload)
    if kind not in kinds:
        names = " or ".join(each.name for each in kinds)
        raise MPFLError(f"payload is of kind {kind.name}, but {names} is due; is it out of turn?")
    if sent != round_:
        raise MPFLError(f"payload is of round {sent}, not {round_}; is it late or out of turn?")
    if found != fingerprint:
        alone = kind in _OF_A_MODEL
        raise MPFLError(
            f"payload is for {'model ' * alone}{found.hex()}, not {fingerprint.hex()}; was it "
            f"encoded for another model{'' if alone else ', reference, keep or coding'}?"
        )
    return kind, body


def kind_of(payload: bytes) -> Kind:
    """What a message holds. Raises :class:`MPFLError` where the frame is not whole."""
    return parse(payload)[0]


def round_of(payload: bytes) -> int:
    """Which round a message belongs to. Raises :class:`MPFLError` where it is not whole."""
    return parse(payload)[1]


def body_length(payload: bytes) -> int:
    """How many bytes of a message are its body; the others are the frame."""
    return len(parse(payload)[3])
