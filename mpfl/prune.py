"""Which filters a node would drop: scoring and selecting, two separate functions.

A *score* is a function ``(update, layer, rng) -> float[filters]``; larger means worth
keeping. Selecting keeps the best-scored filters among those still alive and never
brings one back.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

import numpy as np
from jaxtyping import Bool, Float

from mpfl.filters import Layer, Layout
from mpfl.types import Mask, MPFLError, Scores, Update

Score: TypeAlias = Callable[[Update, Layer, np.random.Generator], np.ndarray]


def _rows(update: Update, layer: Layer) -> Float[np.ndarray, "filters weights"]:
    weight = np.asarray(update.weights[layer.weight], dtype=np.float64)
    return weight.reshape(layer.filters, -1)


def l1(update: Update, layer: Layer, rng: np.random.Generator) -> Float[np.ndarray, " filters"]:
    """Sum of absolute weights of each filter (Li et al. 2017)."""
    return np.abs(_rows(update, layer)).sum(axis=1)


def l2(update: Update, layer: Layer, rng: np.random.Generator) -> Float[np.ndarray, " filters"]:
    """Euclidean norm of each filter: the published score."""
    return np.sqrt(np.square(_rows(update, layer)).sum(axis=1))


def rms_weight(
    update: Update, layer: Layer, rng: np.random.Generator
) -> Float[np.ndarray, " filters"]:
    """L2 norm over the square root of the fan-in, so that layers of any size compare.

    The fan-in counts the weights that some filter of the layer still uses: inputs whose
    channel is pruned do not count.
    """
    rows = _rows(update, layer)
    fan_in = max(1, int(np.any(rows != 0, axis=0).sum()))
    return l2(update, layer, rng) / np.sqrt(fan_in)


def bn_scale(
    update: Update, layer: Layer, rng: np.random.Generator
) -> Float[np.ndarray, " filters"]:
    """Size of the batch-norm scale (Liu et al. 2017, network slimming)."""
    if layer.scale is None:
        raise MPFLError(
            f"score 'bn_scale': layer {layer.name!r} has no batch norm; "
            "choose another score, or a model with batch norm"
        )
    return np.abs(np.asarray(update.weights[layer.scale], dtype=np.float64))


def taylor(update: Update, layer: Layer, rng: np.random.Generator) -> Float[np.ndarray, " filters"]:
    """First-order estimate of how much the loss changes without the filter, squared.

    ``(sum of gradient x value)^2`` over what gates the filter (Molchanov et al. 2019):
    batch-norm scale and shift where there are any, else weight and bias. Under batch norm
    the conv weight itself would not do: its scale does not matter to the loss, so the sum
    over a filter is zero.
    """
    if update.gradients is None:
        raise MPFLError("score 'taylor' needs gradients; train with gradients=True")
    gates = [name for name in (layer.scale, layer.shift) if name is not None]
    gates = gates or [name for name in layer.own if name in update.gradients]
    total = np.zeros(layer.filters)
    for name in gates:
        product = np.asarray(update.gradients[name], np.float64) * update.weights[name]
        total += product.reshape(layer.filters, -1).sum(axis=1)
    return np.square(total)


def random(update: Update, layer: Layer, rng: np.random.Generator) -> Float[np.ndarray, " filters"]:
    """Uniform noise: what any other score must beat."""
    return rng.random(layer.filters)


SCORES: Mapping[str, Score] = {
    score.__name__: score for score in (l1, l2, rms_weight, bn_scale, taylor, random)
}


def score_layers(
    score: Score, update: Update, layout: Layout, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """Scores of every filter of every layer; refuses a score that is not a finite number."""
    scores = {layer.name: score(update, layer, rng) for layer in layout.layers}
    for name, values in scores.items():
        if not np.isfinite(values).all():
            raise MPFLError(
                f"score: layer {name!r} has {int((~np.isfinite(values)).sum())} scores that are "
                "not finite; training diverged: lower the learning rate"
            )
    return scores


def keep_best(
    scores: Float[np.ndarray, " filters"], alive: Bool[np.ndarray, " filters"], keep: int
) -> Bool[np.ndarray, " filters"]:
    """Keep the ``keep`` best-scored filters among those alive; all of them if there are fewer.

    Ties go to the lower index. Laws: the result lies within ``alive`` and holds
    ``min(keep, alive.sum())`` filters.
    """
    order = np.flatnonzero(alive)
    order = order[np.argsort(-scores[order], kind="stable")]
    kept = np.zeros_like(alive)
    kept[order[:keep]] = True
    return kept


def select_by_layer(scores: Scores, alive: Mask, keep: Mapping[str, int]) -> dict[str, np.ndarray]:
    """Drop the lowest of each layer until it holds what the schedule asks (published)."""
    return {name: keep_best(scores[name], alive[name], keep[name]) for name in alive}


def select_over_network(
    scores: Scores, alive: Mask, keep: int, floor: int = 1
) -> dict[str, np.ndarray]:
    """Drop the lowest of the whole network, but leave every layer its ``floor`` best.

    The score must mean the same in every layer (``rms_weight``, ``taylor``, ``bn_scale``).
    Laws: the result lies within ``alive`` and holds ``min(keep, filters alive)`` filters.
    """
    safe = {name: keep_best(scores[name], alive[name], floor) for name in alive}
    rest = keep - sum(int(bits.sum()) for bits in safe.values())
    if rest < 0:
        raise MPFLError(
            f"selection over the network: {keep} filters cannot give each of {len(alive)} layers "
            f"its floor of {floor}; ask for less sparsity or a lower floor"
        )
    flat_safe = np.concatenate(list(safe.values()))
    flat_scores = np.concatenate([scores[name] for name in alive])
    flat_alive = np.concatenate(list(alive.values()))
    flat = flat_safe | keep_best(flat_scores, flat_alive & ~flat_safe, rest)
    ends = np.cumsum([bits.size for bits in alive.values()])[:-1]
    return dict(zip(alive, np.split(flat, ends), strict=True))
