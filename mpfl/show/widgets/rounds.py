"""The round player: recorded runs, round by round, as their masks empty."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import traitlets

from mpfl.runs.record import Run, ballots_of, consensus_of, filters_of, hex_of
from mpfl.show.widgets.playable import Between, Playable, module
from mpfl.types import MPFLError

NOBODY = -1
_UNSET = re.compile(r"\((?:\w+=None(?:, )?)+\)")  # a rule or a quota that is given nothing


class RoundPlayer(Playable):
    """The mask of every layer after each round, what each node voted, and what it all sent.

    ``runs`` is one run, or several by the name that a menu gives each; they were recorded with
    their ballots. ``run`` is the name of the one that is shown. ``round`` 0 is before the first
    one, when every filter is there; ``node`` is whose votes are set against the consensus, by its
    place among the nodes, or ``NOBODY``. Read :meth:`mask` and the others for what is shown. Raises
    :class:`~mpfl.types.MPFLError` for no runs, a run without votes or ballots, and for a run, a
    round or a node that there is not.
    """

    kind = "round player"
    label = "Round player: play a recorded run, or move the slider"
    _esm = module("turns.js", "rounds.js")

    runs: traitlets.List[Any] = traitlets.List().tag(sync=True)
    run = traitlets.Unicode().tag(sync=True)
    round = traitlets.Int(0).tag(sync=True)
    node = traitlets.Int(NOBODY).tag(sync=True)

    def __init__(self, runs: Run | Mapping[str, Run], **setting: Any) -> None:
        if isinstance(runs, Run):
            runs = {runs.label: runs}
        if not runs:
            raise MPFLError(f"{self.kind}: there are no runs; give one, or several by their names")
        self._masks: dict[str, list[np.ndarray]] = {}
        self._ballots: dict[str, list[np.ndarray]] = {}
        self._runs = {name: self._read(name, run) for name, run in runs.items()}
        for name, title in _titles(runs).items():
            self._runs[name]["title"] = title
        setting = {"run": next(iter(runs))} | setting
        shown = self._runs.get(setting["run"]) or next(iter(self._runs.values()))
        controls = {
            "run": tuple(runs),
            "round": Between(0, len(shown["lines"])),
            "node": Between(NOBODY, len(shown["nodes"]) - 1),
        }
        self.check(setting, controls)
        super().__init__(runs=[[name, state] for name, state in self._runs.items()], **setting)

    def _read(self, name: str, run: Run) -> dict[str, Any]:
        """A run as plain values; its masks and ballots are kept besides."""
        if not run.rounds or not run.rounds[0]["votes"]:
            raise MPFLError(f"{self.kind}: {run.folder} holds no votes; give a run of mpfl")
        sizes = filters_of(run)
        nodes = [int(node) for node in run.rounds[0]["agreement"]]
        lines: list[dict[str, Any]] = []
        self._ballots[name] = [ballots_of(run, line["round"]) for line in run.rounds]
        self._masks[name] = masks = [np.ones(sum(sizes.values()), dtype=bool)]
        for line, ballots in zip(run.rounds, self._ballots[name], strict=True):
            agreement = [*line["agreement"].values()]
            if not len(ballots) == len(agreement) == len(nodes):
                raise MPFLError(
                    f"{self.kind}: {run.folder}: round {line['round']} has {len(ballots)} ballots "
                    f"of {len(nodes)} nodes; give a run in which every node voted in every round"
                )
            masks.append(consensus_of(line, sizes))
            lines.append(
                {
                    "mask": hex_of(masks[-1]),
                    "ballots": list(line["ballots"]),
                    "agreement": agreement,
                    "down": line["bytes_down"],
                    "up": line["bytes_up"],
                }
            )
        return {
            "layers": [[layer, size] for layer, size in sizes.items()],
            "nodes": nodes,
            "lines": lines,
            "start": sum(line["start_bytes"] for line in run.rounds),
        }

    @property
    def _lines(self) -> list[dict[str, Any]]:
        lines: list[dict[str, Any]] = self._runs[self.run]["lines"]
        return lines

    def mask(self) -> np.ndarray:
        """Which filters the consensus holds after the round that is shown, ``bool [filters]``."""
        return self._masks[self.run][self.round]

    def sparsity(self) -> float:
        """The share of filters that are gone."""
        return 1.0 - int(self.mask().sum()) / self.mask().size

    def agreement(self) -> list[float]:
        """Of each node, the share of the filters alive before the vote on which it agreed."""
        return self._lines[self.round - 1]["agreement"] if self.round else []

    def outvoted(self) -> np.ndarray:
        """On which of the filters that were alive ``node`` and the consensus differ."""
        if not self.round or self.node == NOBODY:
            return np.zeros_like(self.mask())
        return self._ballots[self.run][self.round - 1][self.node] ^ self.mask()

    def sent(self) -> int:
        """The bytes of all messages so far, w0 among them."""
        rounds = self._lines[: self.round]
        return self._runs[self.run]["start"] + sum(line["down"] + line["up"] for line in rounds)


def _titles(runs: Mapping[str, Run]) -> dict[str, str]:
    """What to call each run: its label, and the settings in which it differs from another one."""
    settings = {
        name: {key: str(run.config.get(key)).rpartition("/")[2] for key in ("w0", "score", "quota")}
        for name, run in runs.items()
    }
    apart = [
        key for key in ("w0", "score", "quota") if len({s[key] for s in settings.values()}) > 1
    ]
    return {
        name: _UNSET.sub("", ", ".join([run.label, *(f"{k} {settings[name][k]}" for k in apart)]))
        for name, run in runs.items()
    }
