"""``python -m mpfl.flower``: a run on Flower on this machine, or the keys for several."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mpfl.flower.guard import first_signal_ends
from mpfl.flower.restart import RESTARTS, restarting, restarts
from mpfl.show.one_line import UNHEARD, OneLineParser, mended, path, said_whole
from mpfl.types import MPFLError, at_least, extras_named, require_surroundings

if TYPE_CHECKING:
    from mpfl.runs.experiment import Experiment


def _parser() -> argparse.ArgumentParser:
    """What the command line takes."""
    top = OneLineParser(prog="python -m mpfl.flower", description=__doc__)
    kinds = top.add_subparsers(dest="kind", required=True)
    for kind, what in (
        ("simulation", "run with virtual nodes in one place (Ray)"),
        ("deployment", "run with a process per node, TLS and keys, on this machine"),
    ):
        run = kinds.add_parser(kind, help=what)
        run.add_argument("recipe", nargs="?", default="cifar10-vgg11")
        run.add_argument("--budget", default="toy", help="toy (default), laptop or paper")
        run.add_argument("--seed", type=int, default=0)
        run.add_argument("--set", action="append", default=[], dest="changes",
                         metavar="FIELD=VALUE", help="change a field of the recipe")  # fmt: skip
        run.add_argument("--quorum", type=int, default=0, help="valid replies that close a "
                         "round; default: a majority of the nodes")  # fmt: skip
        run.add_argument("--deadline", type=float, default=600, help="seconds a round may take")
        run.add_argument("--restart", type=restarts, default=RESTARTS, metavar="N",
                         help=f"how often to start again by itself if parts of it were killed "
                         f"(default {RESTARTS}), or never")  # fmt: skip
        run.add_argument("--root", type=path, default=Path("data"), help="where data sets are")
        run.add_argument("--out", type=path, help="the run folder; one that is there goes on")
    check = kinds.add_parser("check", help="whether this machine is ready for a run")
    check.add_argument("recipe", nargs="?", default="cifar10-vgg11")
    check.add_argument("--budget", default="toy", help="toy (default), laptop or paper")
    check.add_argument("--set", action="append", default=[], dest="changes",
                       metavar="FIELD=VALUE", help="change a field of the recipe")  # fmt: skip
    check.add_argument("--root", type=path, default=Path("data"), help="where data sets are")
    check.add_argument("--keys", type=path, help="the folder with ca.crt: look at what is in it")
    check.add_argument("--server", metavar="HOST:PORT", help="look whether nodes can reach it")
    status = kinds.add_parser("status", help="how a run is: rounds, nodes, bytes, who is left out")
    status.add_argument("folder", type=path, help="the run folder")
    metrics = kinds.add_parser("metrics", help="the same as a file that Prometheus can read")
    metrics.add_argument("folder", type=path, help="the run folder")
    metrics.add_argument("--to", type=path, required=True, help="the file, such as mpfl.prom")
    keys = kinds.add_parser("keys", help="make certificates and keys for several machines")
    keys.add_argument("folder", type=path)
    keys.add_argument("--host", action="append", required=True, dest="hosts",
                      help="a name or IP address by which nodes reach the server")  # fmt: skip
    keys.add_argument("--nodes", type=int, required=True)
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it; 0 when it worked, 2 with one line on standard error when it did not."""
    return said_whole(lambda: _main(arguments))


def _main(arguments: Sequence[str] | None) -> int:
    words = sys.argv[1:] if arguments is None else list(arguments)
    with first_signal_ends("stopped; the same command goes on"):
        try:
            require_surroundings()
            options = _parser().parse_args(words)
            with extras_named():
                if options.kind == "keys":
                    _keys(options)
                elif options.kind == "check":
                    _check(options)
                elif options.kind == "status":
                    _status(options)
                elif options.kind == "metrics":
                    _metrics(options)
                else:
                    _run(options, words)
        except BrokenPipeError:
            return UNHEARD
        except (MPFLError, OSError) as error:
            print(f"mpfl: {mended(error)}", file=sys.stderr)
            return 2
    return 0


def _keys(options: argparse.Namespace) -> None:
    from mpfl.flower.launch import resolved
    from mpfl.flower.machines import prepare

    folder = resolved(options.folder)
    prepare(folder, options.hosts, options.nodes)
    print(f"{folder}: certificates, {options.nodes} node keys, settings for the shell")


def _check(options: argparse.Namespace) -> None:
    from mpfl.flower.check import findings
    from mpfl.flower.config import as_setting
    from mpfl.flower.launch import resolved

    config = {
        "recipe": options.recipe,
        "budget": options.budget,
        "seed": 0,
        "set": as_setting(options.changes),
        "root": str(resolved(options.root)),
    }
    bad = []
    for found in findings(config, options.keys, options.server, datetime.now(UTC)):
        print(found, flush=True)
        bad += [found.what] if not found.good else []
    if bad:
        raise MPFLError(f"not ready: {', '.join(bad)}")


def _status(options: argparse.Namespace) -> None:
    from mpfl.flower.overview import overview

    print("\n".join(overview(options.folder, time.time())))


def _metrics(options: argparse.Namespace) -> None:
    from mpfl.flower.metrics import write_metrics

    if options.to.suffix != ".prom":
        raise MPFLError(f"{options.to}: Prometheus reads files that end in .prom; name it so")
    write_metrics(options.folder, options.to)


def _run(options: argparse.Namespace, words: Sequence[str]) -> None:
    from mpfl.flower import launch
    from mpfl.flower.answers import read_answers
    from mpfl.flower.config import as_setting, experiment_of
    from mpfl.flower.environment import FLOWERS_OWN
    from mpfl.runs.folder import read_json
    from mpfl.runs.record import read_run
    from mpfl.show.terminal import print_summary

    config: dict[str, Any] = {
        "recipe": options.recipe,
        "budget": options.budget,
        "seed": options.seed,
        "set": as_setting(options.changes),
    }
    launch.require_engine()
    at_least("deadline", options.deadline, 1)
    experiment = experiment_of(config)
    folder = options.out or Path("runs") / f"{experiment.slug}-{options.kind}"
    folder, root = launch.resolved(folder), launch.resolved(options.root)
    config |= {
        "root": str(root),
        "out": str(folder),
        "quorum": options.quorum,
        "deadline": options.deadline,
        "command": launch.command_of(words),
    }
    engine_folder = folder.with_name(folder.name + "-engine")
    began = time.monotonic()
    virtual = options.kind == "simulation"
    launch.require_plain(folder, root)
    print(f"Logs and keys: {engine_folder}")
    rounds = _Rounds(folder, experiment, heard=len(read_answers(folder)))  # of earlier runs
    longest = FLOWERS_OWN if virtual else launch.longest_of(config)

    def attempt() -> None:
        with launch.superlink(engine_folder, simulation=virtual, longest=longest) as engine:
            if not virtual:
                for node in range(experiment.nodes):
                    launch.add_node(engine, node, root)
            run = launch.submit(engine, config, nodes=experiment.nodes if virtual else None)
            launch.wait(engine, run, seconds=float("inf"), look=rounds.show)

    restarting(attempt, options.restart)
    print_summary(read_run(folder))
    if (folder / "nodes.json").exists():  # not if only masks were asked for
        for node, told in read_json(folder / "nodes.json")["accuracy"].items():
            print(f"node {node}: {told['accuracy']:.1%} of its own {told['images']} test images")
    print(f"{time.monotonic() - began:.0f} s in all, engine included")


@dataclass
class _Rounds:
    """Prints each round as it closes, and before that each answer that does not count."""

    folder: Path
    experiment: Experiment
    told: int = 0
    heard: int = 0

    def show(self) -> None:
        from mpfl.flower.answers import read_answers
        from mpfl.runs.folder import read_lines

        answers = read_answers(self.folder)
        for answer in answers[self.heard :]:
            if answer.why:
                print(answer, flush=True)
        self.heard = len(answers)

        lines = [
            (name, line)
            for name in ("rounds", "federated")
            for line in read_lines(self.folder / f"{name}.jsonl")
        ]
        for name, line in lines[self.told :]:
            what = "mask round" if name == "rounds" else "final training, round"
            count = self.experiment.nodes - len(line.get("left_out", {}))
            print(
                f"{what} {line['round']}: {count} of {self.experiment.nodes} nodes, "
                f"{line['bytes_down'] + line['bytes_up']:,} bytes, {line['seconds']:.0f} s",
                flush=True,
            )
            for node, why in line.get("left_out", {}).items():
                print(f"  without node {node}: {why}", flush=True)
            for node in line.get("muted", []):
                print(
                    f"  muted node {node}: it contradicts the others more often than not",
                    flush=True,
                )
        self.told = len(lines)


if __name__ == "__main__":
    sys.exit(main())
