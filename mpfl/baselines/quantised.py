"""Federated averaging in a few bits per weight, both ways: the rival of votes on directions.

A node trains from the weights that all hold and sends by how much each of them moved, rounded to
a few levels per channel. The server averages, rounds alike, and sends that back. Everybody
takes the same step, so no weight ever crosses the wire, as in :mod:`mpfl.sign_votes`.

After QSGD (Alistarh et al., arXiv 1610.02132), but rounded to the nearest level instead of at
random, and with a step size per channel. *Error feedback* (Seide et al. 2014; Karimireddy et al.,
arXiv 1901.09847) adds to a round what rounding lost in the round before, at the nodes and at the
server.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Float32, Int8

from mpfl import wire
from mpfl.algorithm import Algorithm, Data, Initialise, LocalTrain, State, require_replies
from mpfl.baselines.fedavg import average
from mpfl.filters import Layout
from mpfl.seeds import Rng
from mpfl.sign_votes import (
    LOST,
    LOST_BEFORE,
    Directions,
    brought_up,
    by_steps,
    lost_in,
    steps_or_weights,
)
from mpfl.types import Answer, Mask, MPFLError, Reply, Weights, as_update, located, require_bool
from mpfl.wire.numbers import require_finite, require_parts, require_row


def quantise(
    numbers: Float32[np.ndarray, " numbers"], sizes: Sequence[int], bits: int
) -> tuple[Int8[np.ndarray, " numbers"], Float32[np.ndarray, " channels"]]:
    """The nearest level of each number, and how long a level is in each channel.

    ``sizes`` are how many numbers each channel has, one after the other. The largest of a channel
    is the highest level of it. A tie goes to the even level. Raises
    :class:`~mpfl.types.MPFLError` for sizes that are not those of ``numbers``, and for NaN.

    >>> levels, scales = quantise(np.array([1, -0.4, 0.3, 0, 0, 6], np.float32), [4, 2], bits=2)
    >>> levels, scales
    (array([1, 0, 0, 0, 0, 1], dtype=int8), array([1., 6.], dtype=float32))
    """
    require_row("numbers", numbers)
    if min(sizes, default=1) < 1 or sum(sizes) != numbers.size:
        raise MPFLError(
            f"quantise: channels of {sum(sizes)} numbers, each of at least one, for "
            f"{numbers.size}; give how many numbers each channel has"
        )
    if not np.isfinite(numbers).all():
        raise MPFLError("quantise: a number is NaN or infinite; did the training diverge?")
    top = np.float32(wire.highest_level(bits))
    begins = np.cumsum([0, *sizes], dtype=np.int64)[:-1]
    largest = np.maximum.reduceat(np.abs(numbers), begins) if len(sizes) else numbers[:0]
    with np.errstate(over="ignore"):  # it is infinite then, and refused
        scales = (largest / top).astype(np.float32)
    require_finite("scales", scales)
    # A channel that did not move is of level 0, and so is one too small for a float to divide.
    divisor = np.repeat(np.where(scales > 0, scales, np.float32(1)), sizes)
    levels = np.clip(np.rint(numbers / divisor), -top, top)
    return levels.astype(np.int8), scales


def dequantise(
    levels: Int8[np.ndarray, " numbers"],
    scales: Float32[np.ndarray, " channels"],
    sizes: Sequence[int],
) -> Float32[np.ndarray, " numbers"]:
    """What levels stand for; law: at most half a level from what was quantised.

    >>> dequantise(np.array([1, 0, -1], np.int8), np.array([0.5, 6], np.float32), [2, 1])
    array([ 0.5,  0. , -6. ], dtype=float32)
    """
    require_parts("levels", levels, sizes, "i")
    require_parts("scales", scales, [1] * len(sizes))
    return levels.astype(np.float32) * np.repeat(scales, sizes)


def quantised_average(
    layout: Layout,
    initialise: Initialise,
    local_train: LocalTrain,
    *,
    mask: Mask,
    sent: Sequence[str],
    bits: int,
    feedback: bool,
    averages: Callable[[int], bool],
    start: Callable[[State], bytes] | None = None,
    join: Callable[[bytes], Weights] | None = None,
) -> Algorithm:
    """Train what ``mask`` leaves by averaging steps of tensors ``sent``, in ``bits`` per number.

    A node's step counts by its number of images. With ``feedback`` what rounding loses is added in
    the next round. ``averages``, ``start`` and ``join`` are as in
    :func:`~mpfl.sign_votes.sign_votes`. A node that missed a round is sent the weights.
    """
    require_bool("feedback", feedback)
    them = Directions(layout, mask, tuple(sent))
    sizes = them.sizes("channel")

    def local(memory: Weights, message: bytes, data: Data, rng: Rng) -> Answer:
        # 1. The weights that all hold: the node's own, after the step that the server sends.
        weights = brought_up_by_levels(memory, message, them, bits)
        round_ = wire.round_of(message)
        # 2. How far this node would go.
        update = as_update(local_train(weights, mask, data, rng))
        way = them.flat(update.weights, them.voted) - them.flat(weights, them.voted)
        before = lost_in(memory, round_, them.numbers)
        wanted = way + before if feedback else way
        levels, scales = quantise(wanted, sizes, bits)
        # 3. That in a few bits, and the statistics if they are due.
        others = them.averaged(weights)
        payload = wire.encode_levels(
            levels,
            scales,
            layout,
            round_,
            bits=bits,
            mask=mask,
            samples=len(data),
            statistics=them.flat(update.weights, others) if averages(round_) else None,
        )
        kept = them.remembered(weights, update, round_)
        if feedback:
            kept |= {LOST: wanted - dequantise(levels, scales, sizes), LOST_BEFORE: before}
        return Answer(payload, kept, update.metrics)

    def aggregate(state: State, round_: int, replies: Sequence[Reply]) -> State:
        told = decode_steps(replies, state.weights, them, round_, bits, averages)
        mean = average(*told)
        way = mean["step"]
        if feedback and "lost" in state.kept:
            way = way + state.kept["lost"]
        levels, scales = quantise(way, sizes, bits)
        step = dequantise(levels, scales, sizes)
        weights = them.moved(state.weights, step)
        if averages(round_):
            weights |= them.full(mean["statistics"], them.averaged(weights), weights)
        kept = {"levels": levels, "scales": scales} | ({"lost": way - step} if feedback else {})
        return replace(state, weights=weights, kept=kept, testable=averages(round_))

    def catch_up(state: State, round_: int, since: int) -> bytes:
        def the_last(_: int) -> bytes:
            levels, scales = state.kept["levels"], state.kept["scales"]
            return wire.encode_levels(levels, scales, layout, round_, bits=bits, mask=mask)

        return steps_or_weights(state, round_, them, since, 1, the_last)

    return by_steps(
        "quantised_average",
        them,
        initialise,
        local=local,
        aggregate=aggregate,
        catch_up=catch_up,
        start=start,
        join=join,
    )


def brought_up_by_levels(
    memory: Weights, message: bytes, them: Directions, bits: int
) -> dict[str, np.ndarray]:
    """The weights that all hold at the beginning of a message's round, and what a node carries."""
    sizes = them.sizes("channel")

    def ways(round_: int) -> list[np.ndarray]:
        levels, scales, _, _ = wire.decode_levels(
            message, them.numbers, len(sizes), them.layout, round_, bits=bits, mask=them.mask
        )
        return [dequantise(levels, scales, sizes)]

    return brought_up(memory, message, them, ways)


def decode_steps(
    replies: Sequence[Reply],
    weights: Weights,
    them: Directions,
    round_: int,
    bits: int,
    averages: Callable[[int], bool],
) -> tuple[list[Weights], list[int]]:
    """Every node's step and statistics, and number of images; names the node that sent bad ones."""
    require_replies(replies, round_)
    sizes = them.sizes("channel")
    more = them.others(weights) if averages(round_) else 0
    told: list[Weights] = []
    samples: list[int] = []
    for reply in replies:
        with located(f"node {reply.node}", f"round {round_}", "decode"):
            levels, scales, count, statistics = wire.decode_levels(
                reply.payload,
                them.numbers,
                len(sizes),
                them.layout,
                round_,
                bits=bits,
                mask=them.mask,
                statistics=more,
            )
            if count == 0:
                raise MPFLError("a step came without its number of images")
        told.append({"step": dequantise(levels, scales, sizes), "statistics": statistics})
        samples.append(count)
    return told, samples
