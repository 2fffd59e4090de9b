"""The command line: ``python -m mpfl COMMAND``; ``--help`` lists the commands."""

from __future__ import annotations

import argparse
import math
import os
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from mpfl.data.catalogue import NAMES
from mpfl.show.one_line import UNHEARD, OneLineParser, mended, path, said_whole
from mpfl.types import MPFLError, extras_named, require_surroundings


def parser() -> argparse.ArgumentParser:
    """Every command and option, with its help."""
    top = OneLineParser(
        prog="python -m mpfl", description="Masked Pruning over Federated Learning."
    )
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    data = commands.add_parser("data", help="get a data set, checked by hash")
    data.add_argument("name", help=", ".join(NAMES))
    data.add_argument("--from", dest="source", type=path, help="files you have already")
    data.add_argument("--root", type=path, default=Path("data"), help="default: data")
    data.add_argument("--force", action="store_true", help="get it again over a damaged copy")

    run = commands.add_parser("run", help="run a recipe into a folder")
    run.add_argument("recipe", help="see: python -m mpfl list")
    run.add_argument("--budget", default="laptop", help="toy, laptop (default) or paper")
    run.add_argument("--seed", type=int, default=0)
    run.add_argument(
        "--set", dest="changes", action="append", default=[], metavar="FIELD=VALUE",
        help="change a field of the experiment, e.g. --set 'vote=share(0.5)'; may be repeated",
    )  # fmt: skip
    run.add_argument("--out", type=path, help="run folder; default: runs/RECIPE-...")
    run.add_argument("--resume", action="store_true", help="go on with an unfinished run")
    run.add_argument("--root", type=path, default=Path("data"), help="where data sets are")
    run.add_argument(
        "--workers", type=int, help="nodes side by side; default: one per core, at toy 1"
    )

    commands.add_parser("list", help="recipes, budgets and what may be set")

    record = commands.add_parser("record", help="keep finished runs as small JSON files")
    record.add_argument("runs", nargs="+", type=path, metavar="RUN")
    record.add_argument("--to", type=path, default=Path("data/results"))

    compare = commands.add_parser("compare", help="runs side by side: table and figure")
    compare.add_argument("runs", nargs="+", type=path, metavar="RUN")
    compare.add_argument("--figure", type=path, help="also draw accuracy, sparsity and bytes")

    again = commands.add_parser(
        "reproduce", help="run what a table or figure of the evidence still misses"
    )
    again.add_argument("what", help="a table or a figure, see: python -m mpfl list; or all")
    again.add_argument("--budget", default="laptop", help="toy, laptop (default) or paper")
    again.add_argument("--workers", type=int, help="runs side by side; default: one per core")
    again.add_argument("--hours", type=float, metavar="H", help="begin no run after so long")
    other = again.add_mutually_exclusive_group()
    other.add_argument("--list", action="store_true", help="only show what is there and what not")
    other.add_argument(
        "--check", type=int, metavar="N", help="run N recorded ones again and compare"
    )
    again.add_argument("--seed", type=int, default=0, help="chooses those that --check runs")
    other.add_argument(
        "--draw", type=path, metavar="FILE",
        help="of a figure: only draw it, from what is recorded, into FILE",
    )  # fmt: skip
    again.add_argument("--results", type=path, default=Path("data/results"))
    again.add_argument("--runs", type=path, default=Path("runs"), help="where runs are meanwhile")
    again.add_argument("--root", type=path, default=Path("data"), help="where data sets are")

    export = commands.add_parser("export", help="a finished run's small network as one ONNX file")
    export.add_argument("folder", type=path, metavar="RUN")
    export.add_argument("--onnx", type=path, required=True, metavar="FILE", help="what to write")
    export.add_argument(
        "--weights", choices=["federated", "central"], default="federated",
        help="of which final training; default: federated",
    )  # fmt: skip
    export.add_argument("--no-latency", action="store_true", help="leave the timing out")
    export.add_argument("--root", type=path, default=Path("data"), help="where data sets are")
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 0 when it worked, 2 with one line on standard error when it did not."""
    return said_whole(lambda: _main(arguments))


def _main(arguments: Sequence[str] | None) -> int:
    commands = {
        "data": _data,
        "run": _run,
        "list": _list,
        "record": _record,
        "compare": _compare,
        "export": _export,
        "reproduce": _reproduce,
    }
    options = argparse.Namespace(command=None)
    try:
        require_surroundings()
        options = parser().parse_args(arguments)
        with extras_named(), _memory_named():
            commands[options.command](options)
    except BrokenPipeError:
        return UNHEARD
    except (MPFLError, OSError) as error:
        print(f"mpfl: {mended(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        again = {
            "run": "; add --resume to the same command to go on",
            "reproduce": "; the same command goes on",
        }
        print(f"mpfl: stopped{again.get(options.command, '')}", file=sys.stderr)
        return 130
    return 0


@contextmanager
def _memory_named() -> Iterator[None]:
    """Say in one line that memory is too small; torch has no error of its own for it on a CPU."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        said = " ".join(str(error).split())
        full = ("can't allocate memory", "not enough memory", "out of memory")
        if not isinstance(error, MemoryError) and not any(each in said for each in full):
            raise
        remedy = "choose a smaller width, batch, images or pixels"
        raise MPFLError(
            f"memory is too small for this ({said or 'no message'}); {remedy}"
        ) from None


def _data(options: argparse.Namespace) -> None:
    from mpfl.data.fetch import fetch

    found = fetch(options.name, options.root, options.source, force=options.force)
    height, width = found.train_images.shape[2:]
    print(
        f"{found.name}: {len(found.train_labels):,} training and {len(found.test_labels):,} test "
        f"images, {width}x{height}, {len(found.classes)} classes, in {options.root}"
    )


def _run(options: argparse.Namespace) -> None:
    from mpfl.runs.recipes import recipe
    from mpfl.runs.record import read_run
    from mpfl.runs.text import changed
    from mpfl.runs.whole import require_whole
    from mpfl.show.live import LiveProgress
    from mpfl.show.terminal import print_summary

    experiment = changed(recipe(options.recipe, options.budget, options.seed), options.changes)
    from mpfl.nets.hardware import keep_freed_memory
    from mpfl.runs.runner import run
    from mpfl.runs.workers import default_workers

    keep_freed_memory()

    workers = options.workers
    if workers is None:
        workers = 1 if options.budget == "toy" else default_workers(experiment.nodes)
    folder = options.out or Path("runs") / experiment.slug
    words = ["python", "-m", "mpfl", "run", options.recipe, "--budget", options.budget]
    words += ["--seed", str(options.seed)]
    words += [word for change in options.changes for word in ("--set", change)]
    with LiveProgress(experiment.recipe) as progress:
        run(
            experiment,
            folder,
            resume=options.resume,
            root=options.root,
            workers=workers,
            watch=progress.show,
            command=shlex.join(words),
        )
    print_summary(require_whole(read_run(folder)))


def _list(options: argparse.Namespace) -> None:
    from mpfl.show.listing import print_recipes

    print_recipes()


def _record(options: argparse.Namespace) -> None:
    from mpfl.runs.record import keep_record, read_run
    from mpfl.runs.whole import require_whole

    for run in [require_whole(read_run(folder)) for folder in options.runs]:
        print(keep_record(run, options.to))


def _compare(options: argparse.Namespace) -> None:
    from mpfl.runs.record import read_run
    from mpfl.runs.whole import require_whole
    from mpfl.show.terminal import print_comparison

    runs = [require_whole(read_run(folder)) for folder in options.runs]
    print_comparison(runs)
    if options.figure is not None:
        from mpfl.show.plots import comparison, save_figure

        save_figure(comparison(runs), options.figure)
        print(f"figure: {options.figure}")


def _export(options: argparse.Namespace) -> None:
    from mpfl.runs.export import export, latency
    from mpfl.show.terminal import print_export, print_latency

    pair = export(options.folder, options.onnx, weights=options.weights, root=options.root)
    print_export(pair.sizes, options.onnx, pair.difference)
    if not options.no_latency:
        print_latency(latency(pair.dense, pair.compact))


def _reproduce(options: argparse.Namespace) -> None:
    from mpfl.evidence.reproduce import chosen, repeat, reproduce
    from mpfl.runs.workers import default_workers
    from mpfl.show.figures import cells_behind, draw
    from mpfl.show.listing import print_cells
    from mpfl.show.live import print_repeat, print_step

    cells = cells_behind(options.what, options.budget, options.results)
    if options.draw is not None:
        draw(options.what, options.results, options.draw)
        print(f"figure: {options.draw}")
        return
    if options.list:
        print_cells(cells, options.results)
        return
    where = {"results": options.results, "runs": options.runs, "root": options.root}
    if options.check is not None:
        repeats = []
        if not (drawn := chosen(cells, options.check, options.seed, options.results)):
            raise MPFLError(f"--check: no run of {options.what!r} is recorded in {options.results}")
        if (count := len(drawn)) < options.check:
            raise MPFLError(
                f"--check: of {options.what!r} {options.results} records {count}, not "
                f"{options.check}; ask for at most {count}"
            )
        for cell in drawn:
            repeats.append(repeat(cell, **where))
            print_repeat(repeats[-1])
        if apart := [each for each in repeats if not each.holds]:
            raise MPFLError(f"{len(apart)} of {len(repeats)} runs ended otherwise than recorded")
        return
    workers = default_workers(len(cells)) if options.workers is None else options.workers
    hours = math.inf if options.hours is None else options.hours
    reproduce(cells, **where, workers=workers, hours=hours, on_step=print_step)
    print_cells(cells, options.results)


if __name__ == "__main__":
    os.environ["MPLBACKEND"] = "agg"  # figures go into files, whatever the shell shows them with
    sys.exit(main())
