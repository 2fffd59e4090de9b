"""The frame around a message: whose it is, of which round, how long, and whether it is whole.

It adds 14 bytes to the body, or 15 from 128 bytes on::

    "MP" | version, kind | round     | fingerprint | length   | body | CRC-32 of all before
    2    | 4 + 4 bits    | 2, little | 4           | 1-5 LEB128 | ... | 4, little

The fingerprint names what a reader must hold to understand the body: the model, and for a mask
or counts also the mask that they lie inside. A reader only compares it with its own, so kind and
round can be read without knowing it.
"""

from __future__ import annotations

import struct
import zlib
from enum import IntEnum

from mpfl.types import MPFLError, is_whole

MAGIC, VERSION = b"MP", 2
HEAD = struct.Struct("<2sBH4s")
CRC = struct.Struct("<I")
SEALED = 0x2144DF1C  # the CRC-32 of any message that ends in its own CRC-32, and of no other


class Kind(IntEnum):
    """What a body holds."""

    SEED = 1  # u64: w0 is the random initialisation of this seed
    WEIGHTS = 2  # safetensors, perhaps with the number of samples behind them
    EMPTY = 3  # nothing new: go on from what you have
    PACKED = 4  # a mask, one bit per filter, the first filter in the lowest bit
    NESTED = 5  # a mask, as the choice of new prunes among the reference's filters
    KNOWN = 6  # the same without the counts, which both sides know
    COUNTS = 7  # how many voters, and for each filter alive how many of them keep it
    SIGNS = 8  # for each number that is left, up or down; perhaps statistics behind them
    LEVELS = 9  # for each number that is left, a few bits; perhaps statistics behind them
    ROUNDED = 10  # w0 in a few bits per weight


_FIXED = {Kind.SEED: 8, Kind.EMPTY: 0}
_OF_THE_MODEL = (
    Kind.SEED,
    Kind.WEIGHTS,
    Kind.EMPTY,
    Kind.ROUNDED,
)  # their fingerprint is the model's own


def write_varint(number: int) -> bytes:
    r"""``number`` in LEB128: seven bits per byte, the lowest first; the top bit says "more".

    >>> write_varint(5), write_varint(300)  # 300 = 44 + 2 * 128, and 0xac = 44 + 128
    (b'\x05', b'\xac\x02')
    """
    if number >> 35:
        raise MPFLError(f"{number} is too much for five bytes of LEB128; send less at once")
    out = bytearray()
    while number >> 7:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])


def read_varint(data: bytes, what: str) -> tuple[int, int]:
    r"""The number that ``data`` begins with, and how many bytes it takes.

    >>> read_varint(b"\xac\x02, and more", "length")
    (300, 2)

    Raises :class:`MPFLError` that names the field ``what`` if :func:`write_varint` would write the
    number in other bytes.
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
    """A whole message: head, length, body, checksum.

    >>> write(Kind.EMPTY, fingerprint=b"abcd", round_=3, body=b"").hex(" ")
    '4d 50 23 03 00 61 62 63 64 00 97 60 f0 c2'

    Raises :class:`MPFLError` if the round or the body does not fit the frame.
    """
    if not (is_whole(round_) and 0 <= round_ < 1 << 16):
        raise MPFLError(f"round {round_!r} does not fit the frame; rounds go from 0 to 65535")
    head = HEAD.pack(MAGIC, VERSION << 4 | kind, round_, fingerprint)
    message = b"".join((head, write_varint(len(body)), body))
    return message + CRC.pack(zlib.crc32(message))


def parse(payload: bytes) -> tuple[Kind, int, bytes, bytes]:
    """Kind, round, fingerprint and body of a message.

    >>> kind, round_, fingerprint, body = parse(write(Kind.SEED, b"abcd", 0, bytes(8)))
    >>> kind.name, round_, fingerprint, len(body)
    ('SEED', 0, b'abcd', 8)

    Raises :class:`MPFLError` if ``payload`` is not a whole, undamaged message.
    """
    if not isinstance(payload, bytes | bytearray | memoryview):
        raise MPFLError(f"payload is a {type(payload).__name__}; give the bytes that were sent")
    # The head: is it ours, and of a version that we read?
    if len(payload) < HEAD.size + 1 + CRC.size:
        raise MPFLError(f"payload is too short: {len(payload)} bytes; was it sent whole?")
    magic, tag, round_, fingerprint = HEAD.unpack_from(payload)
    if magic != MAGIC:
        raise MPFLError(f"payload begins with {magic!r}, not {MAGIC!r}; it is no mpfl message")
    if tag >> 4 != VERSION:
        wrote, stale = ("an older", "sender") if tag >> 4 < VERSION else ("a newer", "reader")
        raise MPFLError(
            f"payload is of version {tag >> 4}, not {VERSION}: {wrote} mpfl wrote it; "
            f"update the {stale}, as both run equal mpfl versions"
        )
    # The length, which takes `size` bytes: it must agree with that of the whole payload.
    length, size = read_varint(payload[HEAD.size : HEAD.size + 5], "length")
    start = HEAD.size + size
    if len(payload) != (whole := start + length + CRC.size):
        what = "is cut short" if len(payload) < whole else "has trailing bytes"
        raise MPFLError(f"payload {what}: {len(payload)} bytes, the frame says {whole}; send again")
    # The checksum, of everything before it.
    if CRC.unpack_from(payload, start + length)[0] != zlib.crc32(payload[: start + length]):
        raise MPFLError("checksum mismatch: the payload was damaged on its way; send again")
    # The body: of a kind that we know, and as long as that kind is.
    if tag & 15 not in Kind.__members__.values():
        raise MPFLError(f"payload is of unknown kind {tag & 15}; use equal mpfl versions")
    kind, body = Kind(tag & 15), payload[start : start + length]
    if len(body) != (needed := _FIXED.get(kind, len(body))):
        raise MPFLError(f"{kind.name} body holds {len(body)} bytes, not {needed}; send again")
    return kind, round_, fingerprint, body


def read(payload: bytes, fingerprint: bytes, round_: int, *kinds: Kind) -> tuple[Kind, bytes]:
    r"""Kind and body of a message that must be of one of these kinds, this model and this round.

    >>> message = write(Kind.SEED, b"abcd", 0, bytes(8))
    >>> read(message, b"abcd", 0, Kind.SEED, Kind.WEIGHTS)
    (<Kind.SEED: 1>, b'\x00\x00\x00\x00\x00\x00\x00\x00')
    >>> read(message, b"abcd", 1, Kind.SEED)
    Traceback (most recent call last):
    mpfl.types.MPFLError: payload is of round 0, not 1; is it late or out of turn?

    Raises :class:`MPFLError` for any other message.
    """
    kind, sent_round, sent_fingerprint, body = parse(payload)
    if kind not in kinds:
        names = " or ".join(due.name for due in kinds)
        raise MPFLError(f"payload is of kind {kind.name}, but {names} is due; is it out of turn?")
    if sent_round != round_:
        raise MPFLError(
            f"payload is of round {sent_round}, not {round_}; is it late or out of turn?"
        )
    if sent_fingerprint != fingerprint:
        if kind in _OF_THE_MODEL:
            prefix, could_differ = "model ", "model"
        else:
            prefix, could_differ = "", "model, reference, keep or coding"
        raise MPFLError(
            f"payload is for {prefix}{sent_fingerprint.hex()}, not {fingerprint.hex()}; was it "
            f"encoded for another {could_differ}?"
        )
    return kind, body


def kind_of(payload: bytes) -> Kind:
    """What a message holds. Raises :class:`MPFLError` if the frame is not whole.

    >>> kind_of(write(Kind.EMPTY, b"abcd", 3, b""))
    <Kind.EMPTY: 3>
    """
    return parse(payload)[0]


def round_of(payload: bytes) -> int:
    """Which round a message belongs to. Raises :class:`MPFLError` if the frame is not whole.

    >>> round_of(write(Kind.EMPTY, b"abcd", 3, b""))
    3
    """
    return parse(payload)[1]


def body_length(payload: bytes) -> int:
    """How many bytes of a message are its body; the others are the frame.

    >>> message = write(Kind.SEED, b"abcd", 0, bytes(8))
    >>> body_length(message), len(message)
    (8, 22)
    """
    return len(parse(payload)[3])


def length(body: int) -> int:
    """How long a message with a body of so many bytes is.

    >>> length(2), length(128)
    (16, 143)
    """
    return HEAD.size + len(write_varint(body)) + body + CRC.size
