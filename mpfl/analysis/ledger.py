"""What a run sends, to the byte, before anything is trained.

The length of a message follows from counts: the filters that each layer keeps, the sizes of
the tensors, the images behind an average. Under ``most_votes`` the schedule alone sets
the filters. Masks are encoded as in a run; weights, which may be half a gigabyte per
message, are not made: their length is worked out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass
from typing import Literal, TypeAlias, get_args

import numpy as np

from mpfl import masks, wire
from mpfl.filters import Layout, cut_shapes
from mpfl.masks import Keep
from mpfl.node import Plan
from mpfl.sign_votes import Per, channel_sizes, require_whole_channels, statistics_due
from mpfl.types import Mask, MPFLError, at_least, one_of
from mpfl.wire import frame

Way: TypeAlias = Literal[
    "mpfl", "lottery", "w0-norms", "iterated-norms", "pruning-fl", "fedavg", "one-bit"
]
"""A way to learn a model between nodes: the federated methods of mpfl, and ``one-bit``."""


@dataclass(frozen=True)
class Bill:
    """The bytes of a run's messages by phase, over all nodes; named as in a run's summary.

    ``start`` carries w0, ``final_start`` what the final training begins from.
    """

    start: int = 0
    mask_rounds_down: int = 0
    mask_rounds_up: int = 0
    final_start: int = 0
    final_down: int = 0
    final_up: int = 0

    @property
    def rounds(self) -> int:
        """The method's own rounds, both ways, without w0."""
        return self.mask_rounds_down + self.mask_rounds_up

    @property
    def final(self) -> int:
        """The final federated training, both ways, and what it begins from."""
        return self.final_start + self.final_down + self.final_up

    @property
    def total(self) -> int:
        """Everything that is sent."""
        return sum(astuple(self))


def bill(
    way: Way,
    plan: Plan,
    samples: Sequence[int],
    *,
    w0: Literal["seed", "weights"] = "seed",
    w0_bits: int | None = None,
    final_rounds: int = 0,
    mask: Mask | None = None,
    voted: Sequence[str] = (),
    every: int = 10,
    bits: int = 1,
    lengths: Per | None = None,
) -> Bill:
    """The bytes of a run with ``samples[i]`` images on node ``i``; weights are float32.

    Law: equals ``summary["bytes"]`` of that run, if ``mpfl`` votes by ``most_votes``
    and every node sends the mask that the plan asks for.

    Weights in ``w0_bits`` are a w0 that was rounded (:func:`mpfl.wire.rounding.round_weights`).

    At the end ``final_rounds`` of federated averaging train the network that is left (0: none). If
    tensors are ``voted`` on, the training is by votes on their directions instead, with statistics
    in each ``every``-th round (:mod:`mpfl.sign_votes`). With ``bits`` above 1 their steps are
    averaged in so many bits per number, both ways (:mod:`mpfl.baselines.quantised`). In
    :mod:`mpfl.scaled_votes` ``lengths`` go with the directions, one per tensor or channel.
    ``fedavg`` and ``one-bit`` have these rounds only, of the dense network. Where ``fedavg``
    sends a float, ``one-bit`` sends a bit, down and up: as signSGD with majority vote does
    (Bernstein et al., arXiv 1802.04434). FedPM (Isik et al., arXiv 2209.15328) sends the bit
    up, but a probability down.

    ``mask`` is the last consensus. It matters if layers are joined, as in a ResNet: a
    channel of their sum travels as long as one of them keeps it. Without it joined layers keep
    the same channels, as far as they can: the least that the final training may cost.

    Raises :class:`~mpfl.types.MPFLError` for a plan whose counts the votes set
    (``over_network``), and for a mask of other counts than the plan's.
    """
    _check(way, samples, w0, final_rounds, every)
    for name in voted:
        one_of("tensor", name, plan.layout.shapes)
    if len(set(voted)) < len(voted):
        raise MPFLError(f"voted is {voted!r}; name each tensor once")
    if lengths is not None:
        one_of("lengths per", lengths, get_args(Per))
    if lengths and (bits != 1 or not voted):
        raise MPFLError("lengths go with votes on tensors; name them in voted, and leave bits at 1")
    if bits != 1 and not voted:
        raise MPFLError(f"bits is {bits}, but no tensor is voted on; name them in voted")
    if bits != 1 or lengths == "channel":
        require_whole_channels(plan.layout)
    layout, nodes = plan.layout, len(samples)
    seed = len(wire.encode_seed(0, layout))
    if w0_bits is not None and w0 == "seed":
        raise MPFLError(f"w0_bits is {w0_bits}, but w0 is sent as its seed; set w0 to weights")
    if w0_bits is not None and w0_bits not in range(2, 9):
        raise MPFLError(f"w0_bits is {w0_bits}; give 2 to 8, or None: not rounded")
    whole = (
        wire.weights_length(layout.shapes)
        if w0_bits is None
        else wire.rounded_length(layout.shapes, bits=w0_bits)
    )
    start = nodes * (seed if w0 == "seed" else whole)
    late_start = start if final_rounds else 0  # of nodes that nobody needs before

    def trained(shapes: Mapping[str, tuple[int, ...]]) -> tuple[int, int]:
        if voted:
            return _by_steps(final_rounds, shapes, nodes, voted, every, bits, lengths)
        return _averaging(final_rounds, shapes, samples)

    if way == "fedavg":
        return Bill(0, 0, 0, late_start, *trained(layout.shapes))
    if way == "one-bit":
        bits = frame.length(-(-sum(map(math.prod, layout.shapes.values())) // 8))
        return Bill(0, 0, 0, late_start, *_exchange(final_rounds, bits, [bits] * nodes))

    consensuses = _consensuses(plan, way)
    last = consensuses[-1] if mask is None else _checked(mask, consensuses[-1], layout)
    left = cut_shapes(layout, last)
    final = trained(left)
    if way == "mpfl":
        message = len(wire.encode_consensus(last, layout, plan.rounds + 1)) if final_rounds else 0
        return Bill(start, *_votes(plan, consensuses, nodes), nodes * message, *final)
    if way == "pruning-fl":
        message = wire.weights_length(left) if final_rounds else 0
        dense = _averaging(plan.rounds, layout.shapes, samples)
        return Bill(start, *dense, nodes * message, *final)
    return Bill(0, 0, 0, late_start, *final)


def _exchange(rounds: int, down: int, up: Sequence[int]) -> tuple[int, int]:
    """Bytes down and up of rounds that send one message each way to, and from, every node."""
    if not rounds:
        return 0, 0
    # In the first round nodes hold what they start from, and are told so.
    return len(up) * (frame.length(0) + (rounds - 1) * down), rounds * sum(up)


def _averaging(
    rounds: int, shapes: Mapping[str, tuple[int, ...]], samples: Sequence[int]
) -> tuple[int, int]:
    """Bytes down and up of federated averaging of tensors of these shapes."""
    up = [wire.weights_length(shapes, count) for count in samples]
    return _exchange(rounds, wire.weights_length(shapes), up)


def _by_steps(
    rounds: int,
    shapes: Mapping[str, tuple[int, ...]],
    nodes: int,
    voted: Sequence[str],
    every: int,
    bits: int,
    lengths: Per | None,
) -> tuple[int, int]:
    """Bytes down and up of training by votes on tensors of these shapes, or by quantised steps."""
    numbers = sum(math.prod(shapes[name]) for name in voted)
    statistics = sum(math.prod(shape) for name, shape in shapes.items() if name not in voted)
    channels = len(channel_sizes(shapes[name] for name in voted))
    told = {None: 0, "tensor": len(voted), "channel": channels}[lengths]

    def message(more: int) -> int:
        if bits == 1:
            return wire.signs_length(numbers, statistics=told + more)
        return wire.levels_length(numbers, channels, bits=bits, statistics=more)

    due = sum(statistics_due(round_, rounds, every) for round_ in range(1, rounds + 1))
    down, up = _exchange(rounds, message(0), [message(0)] * nodes)
    return down, up + nodes * due * (message(statistics) - message(0))


def _votes(plan: Plan, consensuses: Sequence[Mask], nodes: int) -> tuple[int, int]:
    """Bytes down and up of the mask rounds: how long a mask is depends on its counts alone."""
    down = up = 0
    for round_, alive in enumerate(consensuses[:-1], start=1):
        keep = plan.keep(round_, alive)
        vote = _first(alive, keep)
        down += len(wire.encode_consensus(alive, plan.layout, round_))
        up += len(
            wire.encode_mask(
                vote, plan.layout, round_, reference=alive, keep=keep, coding=plan.coding
            )
        )
    return nodes * down, nodes * up


def _consensuses(plan: Plan, way: Way) -> list[Mask]:
    """A consensus of the right counts before the first round and after each one."""
    found: list[Mask] = [masks.full(plan.layout)]
    for round_ in range(1, plan.rounds + 1):
        alive = found[-1]
        # The vote goes by what its rule is asked for; without a vote there is no rule.
        keep = plan.asked(round_, alive) if way == "mpfl" else plan.keep(round_, alive)
        found.append(_first(alive, keep))
    return found


def _first(alive: Mask, keep: Keep) -> Mask:
    """The first filters of each layer: those of a lower count lie within those of a higher."""
    if any(len(group) > 1 for group in keep.counts):
        raise MPFLError(
            "quota: the votes say how many filters each layer keeps, as layers compete; "
            "only a run can tell its bytes"
        )
    counts = keep.for_layers({name: bits.size for name, bits in alive.items()})
    return {name: bits & (np.arange(bits.size) < counts[name]) for name, bits in alive.items()}


def _checked(mask: Mask, expected: Mask, layout: Layout) -> Mask:
    """``mask``, if it keeps as many filters of every layer as ``expected``."""
    masks.check(mask, layout)
    has, needs = masks.counts(mask), masks.counts(expected)
    for name, count in needs.items():
        if has[name] != count:
            raise MPFLError(
                f"mask keeps {has[name]} filters of layer {name!r}, but the plan leaves {count}; "
                "give the last consensus of this plan"
            )
    return mask


def _check(way: str, samples: Sequence[int], w0: str, final_rounds: int, every: int) -> None:
    one_of("way", way, get_args(Way))
    if not samples:
        raise MPFLError("samples names no node; give the number of images of each")
    for value in (*samples, final_rounds):
        if not isinstance(value, int | np.integer):
            raise MPFLError(
                f"samples and final_rounds hold {value!r}; give whole numbers of images and rounds"
            )
    if min(samples) < 0:
        raise MPFLError(f"samples hold {min(samples)}; give whole numbers of images, 0 or more")
    one_of("w0", w0, ("seed", "weights"))
    at_least("final_rounds", final_rounds, 0)
    at_least("every", every, 1)
