"""Several dials turned at once: what a setting gains over lotteries of its size, and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from mpfl.evidence.samples import Row, points
from mpfl.types import MPFLError


def above_curve(row: Row, curve: Sequence[Row]) -> dict[int, float]:
    """How many points a row lies above the lotteries of its own size, seed by seed (central).

    The curve runs straight from the mean of one sparsity's lotteries to that of the next; beyond
    its ends nothing is known, and a run that lies there is left out.
    """
    figure = points("central")
    found = {}
    for seed, run in row.runs.items():
        drawn: dict[float, list[float]] = {}
        for lottery in curve:
            if seed in lottery.runs and (value := figure(lottery.runs[seed])) is not None:
                drawn.setdefault(lottery.runs[seed].summary["sparsity"], []).append(value)
        sparsity, value = run.summary["sparsity"], figure(run)
        at = sorted(drawn)
        if value is not None and at and at[0] <= sparsity <= at[-1]:
            means = [float(np.mean(drawn[each])) for each in at]
            found[seed] = value - float(np.interp(sparsity, at, means))
    return found


def shares_of_variance(
    values: Mapping[tuple[str, ...], float], dials: Sequence[str]
) -> dict[str, float]:
    """The share of the variance that each dial explains by itself, 0-1; the rest is ``"together"``.

    ``values`` has one figure for every combination of the dials' settings, so that the dials do
    not mix. Together is what no dial explains alone: how the dials act on one another, and chance.
    Raises :class:`~mpfl.types.MPFLError` if a combination is missing, if there is none, and for a
    figure that is not finite.

    >>> values = {("a", "x"): 1.0, ("a", "y"): 1.0, ("b", "x"): 3.0, ("b", "y"): 3.0}
    >>> shares_of_variance(values, ["first", "second"])
    {'first': 1.0, 'second': 0.0, 'together': 0.0}
    """
    levels = [sorted({key[place] for key in values}) for place in range(len(dials))]
    if len(values) != np.prod([len(each) for each in levels]):
        raise MPFLError(
            f"{len(values)} combinations of {', '.join(dials)} are there, but all are needed; "
            "run the rest of them"
        )
    if not values or not np.isfinite([*values.values()]).all():
        raise MPFLError("the figures are none, or not all finite; leave unfinished runs out")
    cube = np.array([values[key] for key in sorted(values)]).reshape([len(each) for each in levels])
    total = float(np.var(cube))
    if total == 0:
        return dict.fromkeys([*dials, "together"], 0.0)
    alone = {}
    for place, dial in enumerate(dials):
        others = tuple(axis for axis in range(len(dials)) if axis != place)
        alone[dial] = float(np.var(cube.mean(axis=others))) / total
    return {**alone, "together": max(0.0, 1 - sum(alone.values()))}
