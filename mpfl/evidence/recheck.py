"""Does a record agree with itself, and does the same run, repeated, end as it says?

Every difference is one line. What no processor changes must be equal: the configuration, the
rounds, which accuracies there are, bytes, kept filters. Masks and accuracies are equal as well if
both runs were made on one kind of processor, with one version of torch and one edition of this
code; elsewhere sums are rounded differently, and an accuracy may be :data:`TOLERANCE` points away.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mpfl import masks
from mpfl.evidence.cells import Cell
from mpfl.prune import filter_norms
from mpfl.runs.experiment import changes, config_of
from mpfl.runs.record import Run, ballots_of, bits_of, hex_of
from mpfl.runs.summary import left_by
from mpfl.runs.whole import bytes_in
from mpfl.runs.workbench import Workbench
from mpfl.server import decide
from mpfl.wire import Ballots

TOLERANCE = 3.0
"""How far an accuracy may be from the recorded one on another machine, in percentage points."""

_OF_A_MACHINE = {"seconds", "workers", "threads", "seconds_last_start", "provenance"}
_OF_AN_EDITION = {"accuracies_central", "right", "tested", "mask_bodies", "ballots"}
"""What records lack that were made before they said their edition."""
_TRAINED = {
    *("accuracy", "agreement", "metrics", "mask", "votes", "ballots", "mask_bodies", "right"),
    *("accuracy_central", "accuracy_federated", "accuracies_central"),
}
"""What training decides: its last digits, and so these, are a machine's own."""
_OF_WHICH_FILTERS = {"parameters", "macs", "bytes", "payloads", "bytes_down", "bytes_up"}
"""What depends on which filters stay if layers are joined, or if the votes say how many stay."""


def record_differences(cell: Cell, recorded: Run, again: Run, root: Path) -> list[str]:
    """What is wrong with the record of a cell, given a second run of it; nothing if it is right.

    ``root`` is where data sets are.
    """
    found = list(_configuration(cell, recorded))
    if not found:  # of another experiment, the rest would differ as well
        bench = Workbench(cell.experiment, root)
        try:
            found += _inner(recorded, bench)
        except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
            found.append(f"what is recorded does not fit together ({error!r})")
        found += _against(recorded, again, bench, cell)
    return found


def same_machine(one: Run, other: Run) -> bool:
    """Whether two runs were made where they must agree to the last bit."""
    return None not in (a := _made_on(one)) and a == _made_on(other)


def _made_on(run: Run) -> tuple[Any, ...]:
    made = run.summary.get("provenance", {})
    machine = made.get("machine", {})
    where = (machine.get(key) for key in ("cpu", "instructions", "computes"))
    gpu = machine.get("gpu", "none")  # only a run on one names it
    return (made.get("edition"), made.get("versions", {}).get("torch"), gpu, *where)


# ---- A record by itself --------------------------------------------------------------------


def _configuration(cell: Cell, recorded: Run) -> Iterator[str]:
    """The configuration is the cell's, and the summary's."""
    there, now = changes(recorded.config), changes(config_of(cell.experiment))
    for name in sorted(there.keys() | now.keys()):
        if there.get(name) != now.get(name):
            values = (str(each.get(name, "the default")) for each in (there, now))
            yield "configuration, {}: {} recorded, {} in the cell".format(name, *values)
    identity = cell.experiment.slug.rpartition("-")[2]
    said: dict[str, Any] = {"recipe": cell.experiment.recipe, "budget": cell.experiment.budget}
    said |= {"method": cell.experiment.method.name, "seed": cell.experiment.seed}
    for name, value in (said | {"identity": identity}).items():
        yield from _line(f"summary, {name}", recorded.summary.get(name), value)


def _inner(run: Run, bench: Workbench) -> Iterator[str]:
    """What follows from other parts of the same record."""
    for key, lines in (("rounds", run.rounds), ("federated", run.federated)):
        numbers = [line.get("round") for line in lines]
        yield from _line(f"{key}, numbers", numbers, list(range(1, len(lines) + 1)))
        for line in lines:
            sent = sum(line.get("payloads", []))
            yield from _line(f"{key} {line.get('round')}, bytes_up", line.get("bytes_up"), sent)
    sent = bytes_in(run.rounds, run.federated)
    yield from _line("summary, bytes", run.summary.get("bytes"), sent)
    yield from _masks(run, bench)


def _masks(run: Run, bench: Workbench) -> Iterator[str]:
    """Votes are those of the ballots, consensuses those of the votes, sizes those of the mask."""
    e, layout = bench.experiment, bench.layout
    alive = masks.full(layout)
    norms = filter_norms(bench.start.w0, layout) if run.rounds else {}
    for line in run.rounds:
        if line.get("mask") is None:  # too large to be kept
            return
        mask = {n: bits_of(line["mask"][n], size) for n, size in layout.sizes.items()}
        round_ = line["round"]
        where = f"rounds {round_}"
        yield from _line(f"{where}, sparsity", line.get("sparsity"), masks.sparsity(mask))
        if e.method.votes and line.get("ballots"):
            cast = {n: masks.unflatten(b, layout) for n, b in enumerate(ballots_of(run, round_))}
            ballots = Ballots.of(cast, layout, alive=alive)
            votes, voters = ballots.tally(e.vote.weights)
            right, rescued = decide(bench.plan, e.vote, alive, round_, votes, voters, norms)
            counts = {name: each.tolist() for name, each in votes.items()}
            agreement = {str(n): value for n, value in ballots.agreement(mask).items()}
            yield from _line(f"{where}, votes", line.get("votes"), counts)
            yield from _line(f"{where}, rescued", line.get("rescued"), list(rescued))
            yield from _line(f"{where}, agreement", line.get("agreement"), agreement)
            hexes = {name: hex_of(bits) for name, bits in right.items()}
            yield from _line(f"{where}, mask", line["mask"], hexes)
        alive = mask
    for name, value in left_by(alive, bench).items():
        yield from _line(f"summary, {name}", run.summary.get(name), value)


# ---- A record, and the same run again ------------------------------------------------------


def _against(recorded: Run, again: Run, bench: Workbench, cell: Cell) -> Iterator[str]:
    """What a second run of the same experiment must repeat."""
    exact = same_machine(recorded, again)
    own: set[str] = set()
    if not exact:
        own |= _TRAINED
        joined = any(len(reader.layers) > 1 for reader in bench.layout.readers)
        own |= _OF_WHICH_FILTERS if joined or not cell.keeps_its_counts else set()
        own |= set() if cell.keeps_its_counts else {"kept", "sparsity"}
    older = "edition" not in recorded.summary.get("provenance", {})
    gone = _OF_AN_EDITION if older else set()
    yield from _alike("summary", recorded.summary, again.summary, own, gone)
    for part in ("rounds", "federated"):
        old, new = getattr(recorded, part), getattr(again, part)
        yield from _line(f"{part}, how many", len(old), len(new))
        for line, other in zip(old, new, strict=False):
            yield from _alike(f"{part} {other['round']}", line, other, own, gone)
    for kind, apart in accuracies_apart(recorded, again).items():
        if abs(apart) > TOLERANCE:
            yield f"accuracy, {kind}: {apart:+.2f} points from the recorded one"


def accuracies_apart(recorded: Run, again: Run) -> dict[str, float]:
    """How many percentage points each final accuracy of a second run is from the recorded one."""
    found = {}
    for kind in ("central", "federated"):
        old, new = (run.summary.get(f"accuracy_{kind}") for run in (recorded, again))
        if old is not None and new is not None:
            found[kind] = 100 * (new - old)
    return found


def _alike(
    where: str, old: Mapping[str, Any], new: Mapping[str, Any], own: set[str], gone: set[str]
) -> Iterator[str]:
    """Equal keys and values; of those that are a machine's ``own``, whether they are there."""
    for name in sorted((old.keys() | new.keys()) - _OF_A_MACHINE):
        if name not in old:
            yield from () if name in gone else (f"{where}, {name}: is missing in the record",)
        elif name not in new:
            yield f"{where}, {name}: is recorded, and the same run has none"
        elif name in own:
            yield from _line(f"{where}, {name}", _outline(old[name]), _outline(new[name]))
        else:
            yield from _line(f"{where}, {name}", old[name], new[name])


def _outline(value: Any) -> Any:
    """A value without its numbers: what there is, and how much of it."""
    if isinstance(value, Mapping):
        return {name: _outline(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_outline(part) for part in value]
    return "nothing" if value is None else "something"


def _line(what: str, old: Any, new: Any) -> Iterator[str]:
    """One line if two values differ; long ones are cut."""
    if isinstance(old, Mapping) and isinstance(new, Mapping) and old.keys() == new.keys():
        for name in old:
            yield from _line(f"{what}, {name}", old[name], new[name])
    elif old != new:
        one, other = (textwrap.shorten(str(value), 60, placeholder=" ...") for value in (old, new))
        yield f"{what}: {one} recorded, {other} now"
