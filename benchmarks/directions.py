"""Which step helps votes on directions: measured on training pictures that no node holds.

The trained start and the mask of the table ``directions``, with seed 0, which that table does not
use. A tenth of the training pictures is held out, and every way is tested on these alone::

    python -m benchmarks.directions
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from mpfl.algorithm import Start, State
from mpfl.data import Dataset
from mpfl.evidence.tables import cells_of
from mpfl.filters import apply
from mpfl.runs.parties import Parties
from mpfl.runs.provenance import provenance
from mpfl.runs.text import changed
from mpfl.runs.workbench import Workbench
from mpfl.seeds import rng_for
from mpfl.simulation import simulate
from mpfl.types import Mask

ROUNDS = 30
SEED = 0
STEPS = (32, 8)
WAYS = (
    "by_scaled_votes(feedback=True)",
    "by_average()",
    "by_sign_votes(eta=0.004)",
    "by_scaled_votes(feedback=False)",
    *(f"by_sign_votes(eta={eta})" for eta in (0.008, 0.016, 0.032)),
    "by_channel_scaled_votes()",
    # The rival with a server that does more than average: these settings, and the best is taken.
    *(f"by_average_with_momentum(rate={rate})" for rate in (0.1, 0.2, 0.5, 1.0)),
    *(f"by_average_with_momentum(momentum={momentum})" for momentum in (0.3, 0.5, 0.7)),
    *(f"by_average_with_adam(rate={2**power / 1000})" for power in range(7)),
    *(f"by_average_with_adam(rate={rate}, tau=0.0001)" for rate in (0.001, 0.002, 0.004)),
    "by_average_with_adam(rate=0.002, falling=False)",
)


def held_out(real: Dataset) -> Dataset:
    """Nine tenths of the training pictures, and the last tenth to test on."""
    order = rng_for(SEED, "held out").permutation(len(real.train_labels))
    train, test = np.split(order, [len(order) * 9 // 10])
    images, labels = np.asarray(real.train_images), np.asarray(real.train_labels)
    return replace(
        real,
        train_images=images[train],
        train_labels=labels[train],
        test_images=images[test],
        test_labels=labels[test],
    )


def workbench(root: Path, *changes: str) -> Workbench:
    """The experiment of the table, with another seed and without the test pictures."""
    cell = next(c for c in cells_of("directions", "laptop") if c.label == "trained w0, averages")
    bench = Workbench(changed(replace(cell.experiment, seed=SEED), changes), root)
    bench.dataset = held_out(bench.dataset)
    bench.parties = Parties(bench.experiment, bench.dataset)
    return bench


def accuracy_of(bench: Workbench, state: State) -> float:
    """On what is held out."""
    return bench.accuracy(state.weights, state.mask)


def measured(root: Path, steps: int, way: str, mask: Mask, start: Start) -> dict[str, Any]:
    """Train the network of ``mask`` in one way: its accuracy by round, and what it took."""
    began = time.process_time()
    finish = (f"federated_rounds={ROUNDS}", f"federated_steps={steps}", f"federated={way}")
    bench = workbench(root, *finish)
    accuracies: dict[str, float] = {}
    sent = 0
    for log in simulate(
        bench.final_algorithm(mask),
        bench.parties.nodes,
        start,
        ROUNDS,
        bench.seed_of(mask),
        evaluate=partial(accuracy_of, bench),
    ):
        sent += log.bytes_down + log.bytes_up
        if log.accuracy is not None:
            accuracies[str(log.round)] = log.accuracy
    return {
        "steps": steps,
        "federated": way,
        "accuracy": accuracies,
        "bytes": sent,
        "cpu_seconds": round(time.process_time() - began),
        "computes": bench.trainer.computes,
        "provenance": provenance("python -m benchmarks.directions"),
    }


def voted(root: Path) -> tuple[Mask, Start]:
    """The mask of one vote, and the start of what it leaves."""
    bench = workbench(root)
    *_, last = simulate(
        bench.algorithm(), bench.parties.trainers, bench.start, bench.experiment.rounds, SEED
    )
    mask = last.state.mask
    return mask, Start(apply(bench.start.w0, mask, bench.layout), bench.start.seed)


def main(root: Path, to: Path) -> None:
    """Train in every way, and write each result as it comes; what is there is not repeated."""
    rows: list[dict[str, Any]] = json.loads(to.read_text())["rows"] if to.exists() else []
    done = {(row["steps"], row["federated"]) for row in rows}
    mask, start = voted(root)
    for steps in STEPS:
        for way in WAYS:
            if (steps, way) in done:
                continue
            rows.append(measured(root, steps, way, mask, start))
            content = {"seed": SEED, "rounds": ROUNDS, "rows": rows}
            to.write_text(json.dumps(content, indent=1) + "\n")
            print(steps, way, rows[-1]["accuracy"][str(ROUNDS)], flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "data"), Path("benchmarks/directions.json"))
