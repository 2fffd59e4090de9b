"""On what recorded runs were made: a seed pairs the rows of a claim, but not their machines.

Two machines add numbers in different orders. So the same experiment ends with other last digits,
and after ten epochs with another accuracy, as another seed would. Pass one of these functions to
:func:`mpfl.evidence.primary.decide_primary` as ``alike``, and only seeds count whose rows agree
in it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

from mpfl.evidence.samples import Row, Sample, mean_by_seed
from mpfl.runs.record import Run

Machine = Literal["CPU", "GPU"]

_FORMER_BATCH_NORM = frozenset({"0c844d729f08"})
"""The one commit of the protocol's runs before batch norm of few channels was summed otherwise."""


def machine_of(run: Run) -> Machine:
    """Whether a run was trained on a GPU: only a record of such a run names one."""
    return "GPU" if "gpu" in run.summary["provenance"].get("machine", {}) else "CPU"


def computes_of(run: Run) -> str:
    """On what and in which format of numbers a run was trained, such as ``cpu, torch.bfloat16``.

    Early records name no format; of these it is said only whether a GPU was there.
    """
    return run.summary["provenance"].get("machine", {}).get("computes", machine_of(run))


def arithmetic_of(run: Run) -> str:
    """The machine and, of runs on a CPU, whether batch norm was summed as it is since then.

    It tells the protocol's runs apart. Records of other tables may be older.
    """
    former = run.summary["provenance"]["commit"] in _FORMER_BATCH_NORM
    return machine_of(run) + (", former batch norm" if former else "")


def by_machine(rows: Sequence[Row], figure: Callable[[Run], float | None]) -> dict[Machine, Sample]:
    """The mean of ``figure`` over rows, seed by seed, apart for the machines that made them.

    A seed whose rows were made on both is left out.
    """
    values: dict[Machine, list[float]] = {"CPU": [], "GPU": []}
    for seed, mean in mean_by_seed(rows, figure).items():
        made = {machine_of(row.runs[seed]) for row in rows}
        if len(made) == 1:
            values[made.pop()].append(mean)
    return {machine: Sample(tuple(each)) for machine, each in values.items()}
