"""How good a run's network was after each round, and what had been spent until then."""

from __future__ import annotations

from dataclasses import dataclass

from mpfl.runs.record import Run


@dataclass(frozen=True)
class CurvePoint:
    """How good a run's federated network was after a round, and what had been spent until then.

    ``accuracy`` is on the test images, in per cent; ``sparsity`` 0-1; ``epochs`` are local
    ones, per node; ``sent`` is in bytes, both ways, over all nodes; ``seconds`` are those of the
    rounds.
    """

    accuracy: float
    sparsity: float
    epochs: int
    sent: int
    seconds: float


def learning_curve(run: Run) -> list[CurvePoint]:
    """The course of a run's federated network; mask rounds count, whether it is tested or not."""
    trains = run.method.wire and run.method.trainers == "nodes"  # a control's rounds train nobody
    found, epochs, sent, seconds = [], 0, 0, 0.0
    for line in (*run.rounds, *run.federated):
        epochs += run.config["epochs"] if trains or "mask" not in line else 0
        sent += line["start_bytes"] + line["bytes_down"] + line["bytes_up"]
        seconds += line["seconds"]
        if line["accuracy"] is not None:
            found.append(
                CurvePoint(100 * line["accuracy"], line["sparsity"], epochs, sent, seconds)
            )
    return found


def reached(run: Run, accuracy: float) -> CurvePoint | None:
    """The first step at least as accurate, in per cent, with a network as small as the last."""
    way = learning_curve(run)
    small = (step for step in way if step.sparsity >= way[-1].sparsity)
    return next((step for step in small if step.accuracy >= accuracy), None)
