"""Which filters a node would drop: scoring and selecting, two separate functions.

A *score* is a function ``(update, layer, rng) -> float[filters]``; larger means worth
keeping. One that looks at gradients says so (:func:`uses_gradients`). Selecting keeps the
best-scored filters among those still alive and never brings one back.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

import numpy as np
from jaxtyping import Bool, Float

from mpfl.filters import Layer, Layout
from mpfl.masks import Keep
from mpfl.seeds import Rng
from mpfl.types import Mask, MPFLError, Scores, Update, Weights, is_whole

Score: TypeAlias = Callable[[Update, Layer, Rng], np.ndarray]


def uses_gradients(score: Score) -> Score:
    """Mark a score that looks at ``update.gradients``: training then hands them over.

    They cost a second pass over the node's data, so no other score gets them.

    >>> @uses_gradients
    ... def steepness(update, layer, rng):
    ...     return np.abs(update.gradients[layer.weight]).reshape(layer.filters, -1).sum(axis=1)
    >>> needs_gradients(steepness), needs_gradients(l2)
    (True, False)
    """
    score.needs_gradients = True  # type: ignore[attr-defined]
    return score


def needs_gradients(score: Score) -> bool:
    """Whether a score was marked by :func:`uses_gradients`."""
    return getattr(score, "needs_gradients", False)


def _rows(weights: Weights, layer: Layer) -> Float[np.ndarray, "filters weights"]:
    return layer.rows(weights).astype(np.float64)


def _l2(rows: Float[np.ndarray, "filters weights"]) -> Float[np.ndarray, " filters"]:
    return np.sqrt(np.square(rows).sum(axis=1))


def l1(update: Update, layer: Layer, rng: Rng) -> Float[np.ndarray, " filters"]:
    """Sum of absolute weights of each filter (Li et al. 2017).

    >>> layer = Layer("conv", 2, "conv.weight", ("conv.weight",))
    >>> update = Update({"conv.weight": np.array([[3.0, -4.0], [1.0, 1.0]])})
    >>> l1(update, layer, np.random.default_rng(0))
    array([7., 2.])
    """
    return np.abs(_rows(update.weights, layer)).sum(axis=1)


def l2(update: Update, layer: Layer, rng: Rng) -> Float[np.ndarray, " filters"]:
    """Euclidean norm of each filter: the published score.

    >>> layer = Layer("conv", 2, "conv.weight", ("conv.weight",))
    >>> update = Update({"conv.weight": np.array([[3.0, -4.0], [1.0, 1.0]])})
    >>> l2(update, layer, np.random.default_rng(0)).round(2)
    array([5.  , 1.41])
    """
    return _l2(_rows(update.weights, layer))


def rms_weight(update: Update, layer: Layer, rng: Rng) -> Float[np.ndarray, " filters"]:
    """L2 norm over the square root of the fan-in, so that layers of any size compare.

    The fan-in counts the weights that some filter of the layer still uses: inputs whose
    channel is pruned do not count. Of a kernel it is the weights in it.

    >>> layer = Layer("conv", 2, "conv.weight", ("conv.weight",))
    >>> update = Update({"conv.weight": np.array([[3.0, -4.0, 0.0], [1.0, 1.0, 0.0]])})
    >>> rms_weight(update, layer, np.random.default_rng(0)).round(2)  # a fan-in of 2, not 3
    array([3.54, 1.  ])
    """
    rows = _rows(update.weights, layer)
    fan_in = max(1, int(np.any(rows != 0, axis=0).sum()))
    return _l2(rows) / np.sqrt(fan_in)


def bn_scale(update: Update, layer: Layer, rng: Rng) -> Float[np.ndarray, " filters"]:
    """Size of the batch-norm scale (Liu et al. 2017, network slimming).

    >>> layer = Layer("conv", 2, "conv.weight", ("conv.weight", "bn.weight"), scale="bn.weight")
    >>> bn_scale(Update({"bn.weight": np.array([-2.0, 0.5])}), layer, np.random.default_rng(0))
    array([2. , 0.5])
    """
    if layer.grid:
        raise MPFLError(
            f"score 'bn_scale': batch norm scales a whole filter, but a bit of layer "
            f"{layer.name!r} stands for less; choose l2 or taylor, or set granularity to filter"
        )
    if layer.scale is None:
        raise MPFLError(
            f"score 'bn_scale': layer {layer.name!r} has no batch norm; "
            "choose another score, or a model with batch norm"
        )
    return np.abs(np.asarray(update.weights[layer.scale], dtype=np.float64))


def smallest(update: Update, layer: Layer, rng: Rng) -> Float[np.ndarray, " filters"]:
    """The published score upside down, so that the smallest filters stay: a positive control.

    A comparison that cannot tell these from the largest ones cannot tell good masks from bad.

    >>> layer = Layer("conv", 2, "conv.weight", ("conv.weight",))
    >>> update = Update({"conv.weight": np.array([[3.0, -4.0], [1.0, 1.0]])})
    >>> smallest(update, layer, np.random.default_rng(0)).round(2)
    array([-5.  , -1.41])
    """
    return -l2(update, layer, rng)


@uses_gradients
def taylor(update: Update, layer: Layer, rng: Rng) -> Float[np.ndarray, " filters"]:
    """First-order estimate of how much the loss changes without the filter, squared.

    ``(sum of gradient x value)^2`` over what gates the filter (Molchanov et al. 2019):
    batch-norm scale and shift if there are any, else weight and bias. Under batch norm
    the conv weight itself would not do: its scale does not matter to the loss, so the sum
    over a filter is zero. Kernels and single weights are gated by nothing else, so theirs is
    taken over their own weights.

    >>> layer = Layer("conv", 2, "conv.weight", ("conv.weight",))
    >>> weights = {"conv.weight": np.array([[3.0, -4.0], [1.0, 1.0]])}
    >>> gradients = {"conv.weight": np.array([[0.5, 0.25], [1.0, 1.0]])}
    >>> taylor(Update(weights, gradients), layer, np.random.default_rng(0))
    array([0.25, 4.  ])
    """
    if update.gradients is None:
        raise MPFLError("score 'taylor' needs gradients; train with gradients=True")
    if layer.grid:
        product = _rows(update.gradients, layer) * _rows(update.weights, layer)
        return np.square(product.sum(axis=1))
    gates = [name for name in (layer.scale, layer.shift) if name is not None]
    gates = gates or [name for name in layer.own if name in update.gradients]
    total = np.zeros(layer.filters)
    for name in gates:
        product = np.asarray(update.gradients[name], np.float64) * update.weights[name]
        total += product.reshape(layer.filters, -1).sum(axis=1)
    for slices in layer.more if layer.scale is None else ():
        if (name := slices.tensor) in update.gradients:
            product = np.asarray(update.gradients[name], np.float64) * update.weights[name]
            total += slices.by_unit(product, layer.filters).sum(axis=1)
    return np.square(total)


def random(update: Update, layer: Layer, rng: Rng) -> Float[np.ndarray, " filters"]:
    """Uniform noise: what any other score must beat.

    >>> layer = Layer("conv", 3, "conv.weight", ("conv.weight",))
    >>> random(Update({}), layer, np.random.default_rng(0)).round(2)
    array([0.64, 0.27, 0.04])
    """
    return rng.random(layer.filters)


SCORES: Mapping[str, Score] = {
    score.__name__: score for score in (l1, l2, rms_weight, bn_scale, taylor, random, smallest)
}


def score_layers(score: Score, update: Update, layout: Layout, rng: Rng) -> dict[str, np.ndarray]:
    """Scores of every filter of every layer; refuses what is not one finite number per filter."""
    scores = {layer.name: np.asarray(score(update, layer, rng)) for layer in layout.layers}
    for name, values in scores.items():
        if values.shape != (layout.sizes[name],) or values.dtype.kind not in "fi":
            raise MPFLError(
                f"score: layer {name!r} got {values.dtype}{list(values.shape)}; give one number "
                f"per filter, float[{layout.sizes[name]}]"
            )
        if not np.isfinite(values).all():
            raise MPFLError(
                f"score: layer {name!r} has {int((~np.isfinite(values)).sum())} scores that are "
                "not finite; training diverged: lower the learning rate"
            )
    return scores


def filter_norms(weights: Weights, layout: Layout) -> dict[str, np.ndarray]:
    """L2 norm of each filter, ``{layer: float[filters]}``.

    Of w0 every party can compute it without a message: a vote breaks its ties by it.
    """
    return {layer.name: _l2(_rows(weights, layer)) for layer in layout.layers}


def keep_best(
    scores: Float[np.ndarray, " filters"], alive: Bool[np.ndarray, " filters"], keep: int
) -> Bool[np.ndarray, " filters"]:
    """Keep the ``keep`` best-scored filters among those alive; all of them if there are fewer.

    Ties go to the lower index. Laws: the result lies within ``alive`` and holds
    ``min(keep, alive.sum())`` filters.

    >>> keep_best(np.array([0.5, 0.9, 0.7, 0.8]), np.array([True, False, True, True]), 2)
    array([False, False,  True,  True])
    """
    if not (is_whole(keep) and keep >= 0):
        raise MPFLError(f"selection: keep is {keep!r}; give a whole number of filters, 0 or more")
    order = np.flatnonzero(alive)
    order = order[np.argsort(-scores[order], kind="stable")]
    kept = np.zeros_like(alive)
    kept[order[:keep]] = True
    return kept


def select(scores: Scores, alive: Mask, keep: Keep) -> dict[str, np.ndarray]:
    """Drop the lowest filters of each group until it holds what ``keep`` says.

    Published: one group per layer. In a group of several layers the filters compete, so the score
    must mean the same in all of them (``rms_weight``, ``taylor``, ``bn_scale``); each layer's
    ``floor`` best are safe. Laws: the result lies within ``alive``, and a group holds
    ``min(count, filters alive)``. Raises :class:`~mpfl.types.MPFLError` if a count is below the
    group's floors, or a score is not a number.

    >>> scores = {"conv1": np.array([1.0, 2.0, 3.0]), "conv2": np.array([7.0, 8.0, 9.0])}
    >>> alive = {name: np.ones(3, bool) for name in scores}
    >>> select(scores, alive, Keep.by_layer({"conv1": 2, "conv2": 1}))["conv1"]
    array([False,  True,  True])
    >>> select(scores, alive, Keep({("conv1", "conv2"): 4}))["conv1"]  # one network-wide group
    array([False, False,  True])
    """
    if not isinstance(keep, Keep):
        raise MPFLError(f"keep is {keep!r}; give a Keep, such as Keep.by_layer(counts)")
    named = [name for group in keep.counts for name in group]
    if sorted(named) != sorted(alive):
        raise MPFLError(f"keep names layers {named}, but alive are {list(alive)}; name each once")
    for name in alive:
        if np.isnan(scores[name]).any():
            raise MPFLError(f"layer {name!r} has scores that are NaN; did the training diverge?")
    kept: dict[str, np.ndarray] = {}
    for group, count in keep.counts.items():
        # First the filters that nobody else may push out ...
        floor = keep.floor if len(group) > 1 else 0
        safe = np.concatenate([keep_best(scores[name], alive[name], floor) for name in group])
        if (rest := count - int(safe.sum())) < 0:
            raise MPFLError(
                f"selection over the network: {count} filters cannot give each of {len(group)} "
                f"layers its floor of {keep.floor}; ask for less sparsity or a lower floor"
            )
        # ... then the best of all others, whatever their layer.
        others = np.concatenate([alive[name] for name in group]) & ~safe
        best = safe | keep_best(np.concatenate([scores[name] for name in group]), others, rest)
        ends = np.cumsum([alive[name].size for name in group])[:-1]
        kept |= zip(group, np.split(best, ends), strict=True)
    return {name: kept[name] for name in alive}
