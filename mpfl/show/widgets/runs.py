"""The run explorer: recorded runs side by side, and what made each of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import traitlets

from mpfl.evidence.samples import TRAININGS, Row, Sample, Training, points
from mpfl.runs.record import Run
from mpfl.show.looks import look
from mpfl.show.widgets.playable import Playable, module
from mpfl.types import MPFLError

AXES: Mapping[str, str] = {
    "sparsity": "sparsity (share of filters removed)",
    "parameters": "parameters of the network that is left",
    "macs": "multiply-accumulates per picture",
    "bytes_rounds": "bytes of the rounds alone",
    "bytes_all": "all bytes",
    "minutes": "minutes, rounds and final training",
}


def axes_of(training: Training) -> tuple[str, ...]:
    """The axes that go with a training.

    All bytes have those of the final federated training in them: set against the accuracy of
    another training they would mix two measurements.
    """
    return tuple(axis for axis in AXES if training == "federated" or axis != "bytes_all")


def measured(run: Run, axis: str, training: Training) -> float:
    """Where a run stands on an axis."""
    if axis == "minutes":
        seconds = run.summary["seconds"]
        return (seconds["mask_rounds"] + (seconds[training] or 0)) / 60
    if axis in ("bytes_rounds", "bytes_all"):
        return float(getattr(run, axis))
    return float(run.summary[axis])


class RunExplorer(Playable):
    """The recorded runs of evidence tables; a mark is a run.

    ``tables`` is ``{table: rows}``, as :func:`mpfl.evidence.samples.rows_of` reads the rows; a
    row has its mean and standard deviation. The two final trainings are different measurements
    and never share a picture.

    Read :meth:`points` and :meth:`means` for what is shown, :meth:`chosen_run` for the run that
    the reader looks at. Raises :class:`~mpfl.types.MPFLError` if nothing was recorded, and for a
    setting that the controls do not have.
    """

    kind = "run explorer"
    label = "Run explorer: choose a table, an axis and an evaluation, look at a run"
    _esm = module("runs.js")

    tables: traitlets.List[Any] = traitlets.List().tag(sync=True)
    axes: traitlets.List[Any] = traitlets.List().tag(sync=True)
    table = traitlets.Unicode().tag(sync=True)
    x = traitlets.Unicode("sparsity").tag(sync=True)
    training = traitlets.Unicode("central").tag(sync=True)
    hidden: traitlets.List[Any] = traitlets.List().tag(sync=True)
    chosen = traitlets.Unicode("").tag(sync=True)

    def __init__(self, tables: Mapping[str, Mapping[str, Row]], **setting: Any) -> None:
        self._tables = {
            name: recorded
            for name, rows in tables.items()
            if (recorded := {label: row for label, row in rows.items() if row.runs})
        }
        if not self._tables:
            raise MPFLError(
                f"{self.kind}: no run is recorded in {', '.join(tables) or 'no table'}; "
                "python -m mpfl reproduce makes them"
            )
        controls = {
            "table": tuple(self._tables),
            "training": TRAININGS,
            "x": axes_of("federated" if setting.get("training") == "federated" else "central"),
            "chosen": ("", *(run.folder.name for run in self._runs())),
            "hidden": tuple({label: 0 for rows in self._tables.values() for label in rows}),
        }
        self.check(setting, controls)
        super().__init__(
            tables=[
                [name, [_row(row) for row in rows.values()]] for name, rows in self._tables.items()
            ],
            axes=[
                [axis, title, [each for each in TRAININGS if axis in axes_of(each)]]
                for axis, title in AXES.items()
            ],
            **{"table": next(iter(self._tables))} | setting,
        )

    def points(self) -> list[tuple[str, int, float, float]]:
        """Row, seed, place on the axis and accuracy in per cent of every run that is shown."""
        training = cast(Training, self.training)
        accuracy = points(training)
        return [
            (label, seed, measured(run, self.x, training), found)
            for label, row in self._shown().items()
            for seed, run in row.runs.items()
            if (found := accuracy(run)) is not None
        ]

    def means(self) -> dict[str, tuple[Sample, Sample]]:
        """For each row that is shown: its place on the axis, and its accuracy."""
        training = cast(Training, self.training)
        return {
            label: (_places(row, self.x, training), row.accuracy(training))
            for label, row in self._shown().items()
            if row.accuracy(training).n
        }

    def chosen_run(self) -> Run | None:
        """The run that the reader looks at."""
        return next((run for run in self._runs() if run.folder.name == self.chosen), None)

    def _shown(self) -> dict[str, Row]:
        """The rows of the reader's table, without those that are hidden."""
        rows = self._tables[self.table]
        return {label: row for label, row in rows.items() if label not in self.hidden}

    def _runs(self) -> list[Run]:
        rows = [row for table in self._tables.values() for row in table.values()]
        return [run for row in rows for run in row.runs.values()]


def _places(row: Row, axis: str, training: Training) -> Sample:
    """Where the runs of a row stand that have been trained so."""
    accuracy = points(training)
    return row.sample(lambda run: None if accuracy(run) is None else measured(run, axis, training))


def _row(row: Row) -> dict[str, Any]:
    """A row as plain values: its look, its means and its runs, by training."""
    first = next(iter(row.runs.values()))
    colour, shape = look(first)
    return {
        "label": row.label,
        "method": first.name,
        "colour": colour,
        "shape": shape,
        "means": {each: _mean(row, each) for each in TRAININGS if row.accuracy(each).n},
        "runs": [_run(run, seed) for seed, run in row.runs.items()],
    }


def _mean(row: Row, training: Training) -> dict[str, Any]:
    accuracy = row.accuracy(training)
    return {
        "n": accuracy.n,
        "accuracy": accuracy.mean,
        "deviation": accuracy.deviation if accuracy.n > 1 else None,
        "said": str(accuracy),
        **{axis: _places(row, axis, training).mean for axis in axes_of(training)},
    }


def _run(run: Run, seed: int) -> dict[str, Any]:
    at = {}
    for training in TRAININGS:
        if (accuracy := points(training)(run)) is not None:
            places = {axis: measured(run, axis, training) for axis in axes_of(training)}
            at[training] = {"accuracy": accuracy, **places}
    return {"name": run.folder.name, "seed": seed, "at": at, "made": _made(run)}


def _made(run: Run) -> list[list[str]]:
    """What made a run, as words to show."""
    provenance = run.summary.get("provenance", {})
    machine = provenance.get("machine", {})
    versions = {"python": provenance.get("python"), **provenance.get("versions", {})}
    parts = {
        "command": provenance.get("command"),
        "commit": provenance.get("commit"),
        "machine": ", ".join(
            f"{machine[key]}{unit}"
            for key, unit in {"cpu": "", "cores": " cores", "system": ""}.items()
            if machine.get(key)
        ),
        "versions": ", ".join(f"{name} {number}" for name, number in versions.items() if number),
        "file": run.folder.name,
    }
    return [[what, str(text) if text else "not recorded"] for what, text in parts.items()]
