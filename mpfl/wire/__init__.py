"""What crosses the wire: every message as bytes, and back.

A message is a body in a frame (:mod:`mpfl.wire.frame`) of 14 or 15 bytes. Each kind of body has
its file, where encoding and decoding stand side by side.
"""

from mpfl.wire.ballots import Ballots, tally_stream
from mpfl.wire.counts import decode_counts, encode_counts, pack_counts, unpack_counts
from mpfl.wire.frame import Kind, body_length, kind_of, round_of
from mpfl.wire.levels import decode_levels, encode_levels, highest_level, levels_length
from mpfl.wire.masks import (
    Coding,
    decode_consensus,
    decode_mask,
    encode_consensus,
    encode_mask,
    limit_bits,
)
from mpfl.wire.packed import BLOCK, add_packed, packed_rows
from mpfl.wire.rounding import encode_rounded, round_weights, rounded_length
from mpfl.wire.signs import decode_signs, encode_signs, signs_length
from mpfl.wire.weights import (
    decode_empty,
    decode_start,
    decode_weights,
    encode_empty,
    encode_seed,
    encode_weights,
    weights_length,
)

__all__ = [
    "BLOCK",
    "Ballots",
    "Coding",
    "Kind",
    "add_packed",
    "body_length",
    "decode_consensus",
    "decode_counts",
    "decode_empty",
    "decode_levels",
    "decode_mask",
    "decode_signs",
    "decode_start",
    "decode_weights",
    "encode_consensus",
    "encode_counts",
    "encode_empty",
    "encode_levels",
    "encode_mask",
    "encode_rounded",
    "encode_seed",
    "encode_signs",
    "encode_weights",
    "highest_level",
    "kind_of",
    "levels_length",
    "limit_bits",
    "pack_counts",
    "packed_rows",
    "round_of",
    "round_weights",
    "rounded_length",
    "signs_length",
    "tally_stream",
    "unpack_counts",
    "weights_length",
]
