"""How a run is doing, as numbers for Prometheus: for its node exporter's folder of text files."""

from __future__ import annotations

from pathlib import Path

from prometheus_client import CollectorRegistry, Gauge, write_to_textfile

from mpfl.flower.answers import read_answers
from mpfl.flower.overview import PHASES, RUNNING, by_node, config_in, state_of
from mpfl.runs.folder import read_lines
from mpfl.types import one_line


def metrics_of(folder: Path) -> CollectorRegistry:
    """The run in ``folder``: its rounds, its bytes, and of each node when it last counted.

    All of them are gauges, because each is read from the folder anew. Raises
    :class:`~mpfl.types.MPFLError` if there is no run.
    """
    config = config_in(folder)
    registry = CollectorRegistry()
    run = one_line(str(folder))

    def gauge(name: str, what: str, *labels: str) -> Gauge:
        return Gauge(f"mpfl_{name}", what, ["run", *labels], registry=registry)

    gauge("run_running", "1 while a server works on the run").labels(run).set(
        state_of(folder) == RUNNING
    )
    gauge("run_finished", "1 when the run has its result").labels(run).set(
        (folder / "summary.json").exists()
    )
    closed = gauge("rounds_closed", "rounds that have closed", "phase")
    due = gauge("rounds_due", "rounds that the run has", "phase")
    sent = gauge("payload_bytes", "payload of closed rounds", "phase", "direction")
    for name, field, phase, _ in PHASES:
        lines = read_lines(folder / f"{name}.jsonl")
        closed.labels(run, phase).set(len(lines))
        due.labels(run, phase).set(config[field])
        for direction in ("down", "up"):
            total = sum(line[f"bytes_{direction}"] for line in lines)
            sent.labels(run, phase, direction).set(total)

    last = gauge("node_last_counted_seconds", "when it last counted, since 1970", "node")
    left = gauge("node_left_out", "answers of it that did not count", "node")
    for node, own in by_node(config["nodes"], read_answers(folder)).items():
        last.labels(run, str(node)).set(max((each.at for each in own if not each.why), default=0))
        left.labels(run, str(node)).set(sum(bool(each.why) for each in own))
    return registry


def write_metrics(folder: Path, to: Path) -> None:
    """Write them into the file ``to``, whole or not at all."""
    write_to_textfile(str(to), metrics_of(folder))
