"""Training by votes: one bit per weight, up or down, both ways.

A node trains a few steps from the weights that all hold, and sends for each of them whether it
grew. The server counts, and sends back what most said. Everybody takes one step of the same length
in those directions: so all weights stay equal, and none ever crosses the wire.

After signSGD with majority vote (Bernstein et al., arXiv 1802.04434 and 1810.05291). There a node
sends the sign of one gradient; here that of what several local steps came to, on the network
that a mask leaves.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from jaxtyping import Bool, Float32, Int64

from mpfl import wire
from mpfl.algorithm import (
    Algorithm,
    Data,
    Initialise,
    Local,
    LocalTrain,
    State,
    require_replies,
    state_under,
)
from mpfl.filters import Layout, apply, cut, cut_shapes, expand
from mpfl.seeds import Rng
from mpfl.types import (
    CARRIED,
    Answer,
    BehindError,
    Mask,
    MPFLError,
    Reply,
    Update,
    Weights,
    as_update,
    at_least,
    carried_in,
    is_number,
    is_whole,
    located,
    one_of,
)
from mpfl.wire.numbers import require_finite, require_parts, require_row

Per: TypeAlias = Literal["tensor", "channel"]
"""Which numbers share a scale or a length: those of a tensor, or of one of its channels."""

ROUND = f"{CARRIED}round"
"""Under what name a node remembers up to which round it has taken all steps."""

LOST, LOST_BEFORE = f"{CARRIED}lost", f"{CARRIED}lost_before"
"""Under what names a node remembers what its message could not say, in its last round and in the
one before (error feedback)."""

MAJORITIES = "majorities"
"""Under what name the server keeps the last directions, packed, a row per round."""

CATCH_UP = 31
"""How many rounds back steps are kept: a weight takes 32 bits, so further back it is cheaper to
send weights."""


@dataclass(frozen=True)
class Directions:
    """The weights that are voted on: tensors ``voted`` of what ``mask`` leaves, one bit a number.

    All else of floating point that training changes (the running statistics of batch norm) is
    averaged at times; whole numbers stay as they are.
    """

    layout: Layout
    mask: Mask
    voted: tuple[str, ...]

    def __post_init__(self) -> None:
        """Refuse tensors that are none of the layout's, or are named twice."""
        if not (isinstance(self.voted, tuple) and len(set(self.voted)) == len(self.voted)):
            raise MPFLError(f"voted is {self.voted!r}; give a tuple, each tensor once")
        for name in self.voted:
            one_of("tensor", name, self.layout.shapes)

    @cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """What is left of every tensor."""
        return cut_shapes(self.layout, self.mask)

    @cached_property
    def numbers(self) -> int:
        """How many numbers are voted on."""
        return sum(math.prod(self.shapes[name]) for name in self.voted)

    def sizes(self, per: Per) -> list[int]:
        """How many numbers each voted tensor has, or each of its channels, in their order.

        Raises :class:`~mpfl.types.MPFLError` for channels where single kernels or weights are
        masked: what is left of a channel is no row then.
        """
        one_of("sizes per", per, get_args(Per))
        if per == "channel":
            require_whole_channels(self.layout)
        shapes = [self.shapes[name] for name in self.voted]
        return channel_sizes(shapes) if per == "channel" else [math.prod(s) for s in shapes]

    def averaged(self, weights: Weights) -> tuple[str, ...]:
        """The tensors that are averaged at times."""
        return tuple(
            name
            for name in self.layout.shapes
            if name not in self.voted and weights[name].dtype.kind == "f"
        )

    def others(self, weights: Weights) -> int:
        """How many numbers are averaged at times."""
        return sum(math.prod(self.shapes[name]) for name in self.averaged(weights))

    def flat(self, weights: Weights, names: Sequence[str]) -> Float32[np.ndarray, " numbers"]:
        """What is left of some tensors, in one row."""
        if missing := [name for name in names if name not in weights]:
            raise MPFLError(f"weights lack tensor {missing[0]!r}; give all of the network's")
        left = cut({name: weights[name] for name in names}, self.mask, self.layout)
        rows = [array.ravel().astype(np.float32) for array in left.values()]
        return np.concatenate(rows) if rows else np.zeros(0, np.float32)

    def full(
        self, row: Float32[np.ndarray, " numbers"], names: Sequence[str], like: Weights
    ) -> dict[str, np.ndarray]:
        """The inverse of :meth:`flat`, in full shapes and in the types of ``like``."""
        ends = np.cumsum([math.prod(self.shapes[name]) for name in names])
        parts = np.split(row, ends[:-1]) if names else []
        small = {
            name: part.reshape(self.shapes[name]).astype(like[name].dtype)
            for name, part in zip(names, parts, strict=True)
        }
        return expand(small, self.mask, self.layout)

    def step(
        self, weights: Weights, up: Bool[np.ndarray, " numbers"], length: float
    ) -> dict[str, np.ndarray]:
        """``weights`` after a step of ``length`` in these directions, the same to the bit for all.

        >>> from mpfl.filters import Layer
        >>> layout = Layout((Layer("conv", 2, "w", own=("w",)),), shapes={"w": (2, 2)})
        >>> mask = {"conv": np.array([False, True])}
        >>> two = Directions(layout, mask, ("w",))
        >>> two.step({"w": np.array([[0, 0], [1, 1]], np.float32)}, np.array([True, False]), 0.5)
        {'w': array([[0. , 0. ],
               [1.5, 0.5]], dtype=float32)}
        """
        require_parts("directions", up, [self.numbers], "b")
        if not (is_number(length) and 0 <= length < math.inf):
            raise MPFLError(f"length is {length!r}; give a number from 0, such as 0.004")
        return self.moved(weights, np.where(up, np.float32(length), np.float32(-length)))

    def moved(
        self, weights: Weights, way: Float32[np.ndarray, " numbers"]
    ) -> dict[str, np.ndarray]:
        """``weights`` with ``way`` added to the numbers that are voted on."""
        require_parts("moves", way, [self.numbers])
        return {**weights, **self.full(self.flat(weights, self.voted) + way, self.voted, weights)}

    def with_statistics(
        self, weights: Weights, told: Float32[np.ndarray, "nodes more"]
    ) -> dict[str, np.ndarray]:
        """``weights`` with the means of the statistics that the nodes sent."""
        mean = told.mean(axis=0, dtype=np.float64).astype(np.float32)
        return {**weights, **self.full(mean, self.averaged(weights), weights)}

    def remembered(self, weights: Weights, update: Update, round_: int) -> dict[str, np.ndarray]:
        """What a node keeps of a round: the weights that all hold, and what is its own.

        Its own are the statistics, and whatever its training carries on.
        """
        own = {name: update.weights[name] for name in self.averaged(weights)}
        return {**weights, **own, ROUND: np.array(round_), **update.carry}


def require_whole_channels(layout: Layout) -> None:
    """Refuse a layout whose masks do not keep or drop whole channels."""
    if finer := [layer.name for layer in layout.layers if layer.grid]:
        raise MPFLError(
            f"layer {finer[0]!r} is masked by kernel or weight, which leaves no whole channels; "
            "take votes with a length per tensor, or a mask of filters"
        )


def channel_sizes(shapes: Iterable[tuple[int, ...]]) -> list[int]:
    """How many numbers each channel of tensors has: a row of a matrix or conv, or a whole vector.

    A tensor without numbers has no channels.

    >>> channel_sizes([(2, 3, 3, 3), (4,)])
    [27, 27, 4]
    """
    sizes: list[int] = []
    for shape in shapes:
        rows = shape[0] if len(shape) > 1 else 1
        sizes += [math.prod(shape) // rows] * rows if math.prod(shape) else []
    return sizes


def statistics_due(round_: int, rounds: int, every: int) -> bool:
    """Whether statistics are sent in a round: each ``every``-th one, and the last.

    >>> [round_ for round_ in range(1, 8) if statistics_due(round_, 7, every=3)]
    [3, 6, 7]
    """
    at_least("every", every, 1)
    return round_ % every == 0 or round_ == rounds


def undecided(numbers: int, round_: int) -> Bool[np.ndarray, " numbers"]:
    """Which way the numbers go that nobody moves, and those with equal votes.

    Up and down in turn, from number to number and from round to round: two rounds undo each other.

    >>> undecided(4, round_=1), undecided(4, round_=2)
    (array([False,  True, False,  True]), array([ True, False,  True, False]))
    """
    if not is_whole(round_):
        raise MPFLError(f"round is {round_!r}; give a whole number")
    return (np.arange(numbers) + int(round_) % 2) % 2 == 0


def signs_of(moved: Float32[np.ndarray, " numbers"], round_: int) -> Bool[np.ndarray, " numbers"]:
    """Whether each number grew; of those that did not move, as :func:`undecided` says.

    >>> signs_of(np.array([0.1, -0.2, 0, 0], np.float32), round_=1)
    array([ True, False, False,  True])
    """
    require_row("moves", moved)
    require_finite("moves", moved)  # NaN would be down
    return np.where(moved == 0, undecided(moved.size, round_), moved > 0)


def _check_signs(signs: Any) -> None:
    """Refuse what would count as other votes: of numbers all but 0 would be up."""
    if not (isinstance(signs, np.ndarray) and signs.dtype == np.bool_ and signs.ndim == 2):
        raise MPFLError("signs are bool[nodes, numbers], True is up; give such an array")
    if not len(signs):
        raise MPFLError("signs of no node; wait for at least one reply")


def count_up(signs: Bool[np.ndarray, "nodes numbers"]) -> Int64[np.ndarray, " numbers"]:
    """How many nodes say up, of each number.

    >>> count_up(np.array([[True, True], [True, False]]))
    array([2, 1])
    """
    _check_signs(signs)
    rows = np.packbits(signs, axis=1, bitorder="little")
    return wire.add_packed(rows, signs.shape[1]).astype(np.int64)


def majority(signs: Bool[np.ndarray, "nodes numbers"], round_: int) -> Bool[np.ndarray, " numbers"]:
    """What most nodes say of each number; where the votes are equal, as :func:`undecided` says.

    >>> majority(np.array([[True, True], [True, False]]), round_=2)
    array([ True, False])
    """
    counts = count_up(signs)
    nodes, numbers = signs.shape
    return np.where(2 * counts == nodes, undecided(numbers, round_), 2 * counts > nodes)


def sign_votes(
    layout: Layout,
    initialise: Initialise,
    local_train: LocalTrain,
    *,
    mask: Mask,
    voted: Sequence[str],
    length: Callable[[int], float],
    averages: Callable[[int], bool],
    lie: float = 0.0,
    start: Callable[[State], bytes] | None = None,
    join: Callable[[bytes], Weights] | None = None,
) -> Algorithm:
    """Train what ``mask`` leaves by votes on the direction of every weight of ``voted``.

    ``length`` is how far a round's step goes, known to every party; ``averages`` says in which
    rounds the other numbers are sent up, in four bytes each, and averaged at the server. With
    chance ``lie`` a node sends a direction turned round, so that no bit proves anything. ``start``
    and ``join`` are as in :func:`~mpfl.baselines.fedavg.fedavg`. A message down holds the
    directions of the round before, or of several rounds (:func:`catch_up`): a node that missed
    some takes the steps that it has not taken. Raises :class:`~mpfl.types.BehindError` in a node
    that is further behind than its message goes back.
    """
    if not (is_number(lie) and 0 <= lie <= 1):
        raise MPFLError(f"lie is {lie!r}; give a chance from 0 to 1")
    them = Directions(layout, mask, tuple(voted))

    def local(memory: Weights, message: bytes, data: Data, rng: Rng) -> Answer:
        # 1. The weights that all hold: the node's own, after the steps that others took with it.
        weights = caught_up(memory, message, them, length)
        round_ = wire.round_of(message)
        # 2. Where this node would go.
        update = as_update(local_train(weights, mask, data, rng))
        moved = them.flat(update.weights, them.voted) - them.flat(weights, them.voted)
        # 3. The directions, and the statistics if they are due.
        others = them.averaged(weights)
        told = them.flat(update.weights, others) if averages(round_) else None
        signs = signs_of(moved, round_)
        if lie:
            signs = signs ^ (rng.random(signs.size) < lie)
        payload = wire.encode_signs(signs[None], layout, round_, mask=mask, statistics=told)
        return Answer(payload, them.remembered(weights, update, round_), update.metrics)

    def aggregate(state: State, round_: int, replies: Sequence[Reply]) -> State:
        signs, told = decode_directions(replies, state.weights, them, round_, averages)
        up = majority(signs, round_)
        weights = them.step(state.weights, up, length(round_))
        if averages(round_):
            weights = them.with_statistics(weights, told)
        return replace(state, weights=weights, kept=kept_ups(state, up), testable=averages(round_))

    return by_steps(
        "sign_votes",
        them,
        initialise,
        local=local,
        aggregate=aggregate,
        catch_up=lambda state, round_, since: catch_up(state, round_, them, since),
        start=start,
        join=join,
    )


def by_steps(
    name: str,
    them: Directions,
    initialise: Initialise,
    *,
    local: Local,
    aggregate: Callable[[State, int, Sequence[Reply]], State],
    catch_up: Callable[[State, int, int], bytes],
    start: Callable[[State], bytes] | None,
    join: Callable[[bytes], Weights] | None,
) -> Algorithm:
    """A training in which all take the same steps, so that nobody is sent weights.

    ``catch_up(state, round_, since)`` is also what those are told who missed nothing.
    """
    algorithm = Algorithm.from_w0(
        name,
        them.layout,
        initialise,
        broadcast=lambda state, round_: catch_up(state, round_, round_ - 1),
        local=local,
        aggregate=aggregate,
    )
    return replace(
        algorithm,
        init=partial(state_under, them.mask, them.layout),
        start=start or algorithm.start,
        join=join or algorithm.join,
        catch_up=catch_up,
    )


def catch_up(state: State, round_: int, them: Directions, since: int) -> bytes:
    """What round ``round_`` tells a node that last took part in round ``since``; 0: in none.

    The directions of all rounds since then, if the server still keeps them, else the weights.
    """

    def directions(rows: int) -> bytes:
        return wire.encode_signs(last_ups(state, rows, them), them.layout, round_, mask=them.mask)

    return steps_or_weights(state, round_, them, since, rounds_kept(state), directions)


def kept_ups(state: State, up: Bool[np.ndarray, " numbers"]) -> dict[str, np.ndarray]:
    """The directions of the last rounds, with those of one more."""
    return {MAJORITIES: with_row(state, MAJORITIES, np.packbits(up, bitorder="little"))}


def with_row(state: State, name: str, row: np.ndarray) -> np.ndarray:
    """What the server keeps of its last rounds under ``name``, with one row more."""
    past = state.kept.get(name, row[None][:0])
    return np.concatenate([past, row[None]])[-CATCH_UP:]


def rounds_kept(state: State) -> int:
    """Of how many of the last rounds the server keeps the directions."""
    return len(state.kept.get(MAJORITIES, ()))


def last_ups(state: State, rows: int, them: Directions) -> Bool[np.ndarray, "rows numbers"]:
    """The directions of the last ``rows`` rounds, the latest last."""
    packed = state.kept[MAJORITIES][-rows:]
    return np.unpackbits(packed, axis=1, count=them.numbers, bitorder="little").astype(bool)


def steps_or_weights(
    state: State,
    round_: int,
    them: Directions,
    since: int,
    kept: int,
    steps: Callable[[int], bytes],
) -> bytes:
    """What round ``round_`` tells a node that last took part in round ``since``; 0: in none.

    ``steps(rows)`` is the message of the last ``rows`` rounds, of which the server keeps ``kept``.
    A node that missed more is sent the weights, and so is one whose steps take more bytes; in the
    first round there is nothing to tell.
    """
    if round_ == 1:
        return wire.encode_empty(them.layout, round_)
    rows = min(max(round_ - since, 1), round_ - 1)
    if rows == 1 <= kept:
        return steps(rows)
    weights = wire.encode_weights(state.weights, them.layout, round_, mask=them.mask)
    return min(steps(rows), weights, key=len) if rows <= kept else weights


def caught_up(
    memory: Weights, message: bytes, them: Directions, length: Callable[[int], float]
) -> dict[str, np.ndarray]:
    """The weights that all hold at the beginning of a message's round, and what a node carries."""

    def ways(round_: int) -> list[np.ndarray]:
        signs, _ = wire.decode_signs(
            message, them.numbers, them.layout, round_, mask=them.mask, rounds=None
        )
        first = round_ - len(signs)
        lengths = [np.float32(length(taken)) for taken in range(first, round_)]
        return [np.where(up, far, -far) for up, far in zip(signs, lengths, strict=True)]

    return brought_up(memory, message, them, ways)


def brought_up(
    memory: Weights,
    message: bytes,
    them: Directions,
    ways: Callable[[int], Sequence[Float32[np.ndarray, " numbers"]]],
) -> dict[str, np.ndarray]:
    """What a node holds after the steps in a message, whatever a step is made of.

    ``ways(round_)`` reads the message of that round: what each of the rounds before it adds to the
    numbers, the latest last. Steps that the node has taken already are left out. Raises
    :class:`~mpfl.types.BehindError` if the message does not go back far enough.
    """
    layout, round_ = them.layout, wire.round_of(message)
    done = int(memory.get(ROUND, 0))
    if wire.kind_of(message) == wire.Kind.EMPTY:
        wire.decode_empty(message, layout, round_)
        steps: Sequence[np.ndarray] = ()
    elif wire.kind_of(message) == wire.Kind.WEIGHTS:
        small, _ = wire.decode_weights(message, layout, round_, mask=them.mask)
        return {**expand(small, them.mask, layout), **carried_in(memory)}
    else:
        steps = ways(round_)
    if done > round_:
        raise MPFLError(
            f"this node took part in round {done}, but the message is of round {round_}; was it "
            "held up?"
        )
    first = round_ - len(steps)  # the first round whose step is here
    if first < 1:
        raise MPFLError(
            f"the message of round {round_} holds {len(steps)} steps, but there were {round_ - 1}"
        )
    if (known := max(done, 1)) < first:
        raise BehindError(
            f"this node holds the weights of round {known}, but the message begins with the "
            f"directions of round {first}; ask for those in between",
            since=done,
        )
    carried = carried_in(memory)
    weights = apply({n: memory[n] for n in memory if n not in carried}, them.mask, layout)
    for taken, way in enumerate(steps, start=first):
        if taken >= known:
            weights = them.moved(weights, way)
    return {**weights, **carried}


def lost_in(memory: Weights, round_: int, numbers: int) -> Float32[np.ndarray, " numbers"]:
    """What a node's messages before ``round_`` could not say; asked again, it is the same."""
    asked_again = int(memory.get(ROUND, 0)) == round_
    return memory.get(LOST_BEFORE if asked_again else LOST, np.zeros(numbers, np.float32))


def decode_directions(
    replies: Sequence[Reply],
    weights: Weights,
    them: Directions,
    round_: int,
    averages: Callable[[int], bool],
    lengths: int = 0,
) -> tuple[Bool[np.ndarray, "nodes numbers"], Float32[np.ndarray, "nodes more"]]:
    """Every node's directions and statistics; raises naming the node whose payload is bad.

    So many ``lengths`` stand before the statistics.
    """
    require_replies(replies, round_)
    more = lengths + (them.others(weights) if averages(round_) else 0)
    signs, told = [], []
    for reply in replies:
        with located(f"node {reply.node}", f"round {round_}", "decode"):
            rows, statistics = wire.decode_signs(
                reply.payload, them.numbers, them.layout, round_, mask=them.mask, statistics=more
            )
        signs.append(rows[0])
        told.append(statistics)
    return np.stack(signs), np.stack(told)
