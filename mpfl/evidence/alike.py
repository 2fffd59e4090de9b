"""How alike the masks of recorded runs are: bits apart, and the share of filters that both keep."""

from __future__ import annotations

import numpy as np

from mpfl.granularity import finer
from mpfl.nets.networks import blueprint
from mpfl.runs.record import Run, consensus_of, filters_of
from mpfl.types import MPFLError


def mask_of(run: Run, round_: int | None = None) -> np.ndarray:
    """The consensus of a run after a round (None: its last), ``bool [filters]``.

    A control's mask counts as a consensus. Raises :class:`~mpfl.types.MPFLError` for a run without
    mask rounds, or without that one.
    """
    lines = [line for line in run.rounds if round_ is None or line["round"] == round_]
    if not lines:
        wanted = "any mask round" if round_ is None else f"a round {round_}"
        raise MPFLError(f"{run.folder}: has not {wanted}; ask for one of {len(run.rounds)}")
    return consensus_of(lines[-1], sizes_of(run))


def sizes_of(run: Run) -> dict[str, int]:
    """How many filters each layer of a run's network had before pruning.

    A run with votes has recorded them; for other runs the network is looked up by its name.
    """
    if run.rounds and run.rounds[0]["votes"] is not None:
        return filters_of(run)
    config = run.config
    width, units = float(config["width"]), config.get("units")
    layout = blueprint(str(config["model"]), 10, width=width, units=units)
    return finer(layout, config.get("granularity", "filter")).sizes


def bits_apart(one: np.ndarray, other: np.ndarray) -> int:
    """On how many filters two masks differ.

    >>> bits_apart(np.array([True, True, False]), np.array([True, False, True]))
    2
    """
    _require_two(one, other)
    return int((one != other).sum())


def share_kept(one: np.ndarray, other: np.ndarray) -> float:
    """The share of the filters of ``one`` that ``other`` keeps as well, 0-1.

    Two lotteries that keep a fifth of each layer share a fifth.

    >>> share_kept(np.array([True, True, False]), np.array([True, False, True]))
    0.5
    """
    _require_two(one, other)
    if not one.any():
        raise MPFLError("a mask that keeps no filter has no share of them; give another")
    return float((one & other).sum() / one.sum())


def _require_two(one: np.ndarray, other: np.ndarray) -> None:
    """Refuse what are not the bits of two masks of one model: NumPy would compare one with all."""
    if not one.dtype == other.dtype == bool or one.shape != other.shape:
        raise MPFLError(
            f"masks are {one.dtype}{list(one.shape)} and {other.dtype}{list(other.shape)}; give "
            "the bits of two of one model"
        )
