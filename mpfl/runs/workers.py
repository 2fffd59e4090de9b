"""Nodes side by side: worker processes that take the nodes' turns, one thread each.

Every worker builds the experiment's parts for itself, once, from the experiment's values; a
turn is a function of what it is given, so who takes it, and when, changes no bit.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import torch

from mpfl.nets.hardware import keep_freed_memory
from mpfl.runs.experiment import Experiment
from mpfl.runs.portable import require_portable
from mpfl.runs.trainings import Trained
from mpfl.runs.workbench import Workbench
from mpfl.simulation import OnTurn, RunNodes
from mpfl.types import Mask, MPFLError, Reply, Weights, at_least

_T = TypeVar("_T")


def default_workers(nodes: int) -> int:
    """One worker per processor core that this process may use, but no more than there are nodes.

    On a GPU at most four: they share its memory.
    """
    usable = getattr(os, "sched_getaffinity", None)
    cores = len(usable(0)) if usable else os.cpu_count() or 1
    return max(1, min(cores, nodes, 4 if torch.cuda.is_available() else cores))


class Workers:
    """``count`` processes that take turns of the nodes of one experiment.

    A context manager: leaving it by an error ends the processes at once.
    """

    def __init__(self, experiment: Experiment, root: Path, count: int) -> None:
        at_least("workers", count, 1)
        require_portable(experiment)
        self._before = set(multiprocessing.active_children())
        self._pool = ProcessPoolExecutor(
            count,
            # A fork would copy torch's threads half, and a GPU's state not at all.
            mp_context=multiprocessing.get_context("spawn"),
            initializer=_prepare,
            initargs=(experiment, root),
        )

    def __enter__(self) -> Workers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: object, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            for child in set(multiprocessing.active_children()) - self._before:
                child.terminate()
        self._pool.shutdown(cancel_futures=True)

    def run_nodes(
        self,
        mask: Mask | None,
        nodes: int,
        on_turn: OnTurn,
        missed: Callable[[int, int], bytes] | None = None,
    ) -> RunNodes:
        """How a simulation runs its nodes here: the mask rounds, or training under ``mask``.

        ``on_turn`` is told the round and how many of its turns are done. No worker is ever away,
        so that nobody asks what was ``missed``.
        """

        def run(round_: int, message: bytes, memories: Sequence[Weights]) -> Iterator[Reply]:
            turns = [
                self._begin(_turn, mask, round_, node, memories[node], message)
                for node in range(nodes)
            ]
            for done, turn in enumerate(turns):
                on_turn(round_, done)
                reply = turn()
                if isinstance(reply.memory, _Changed):
                    reply = replace(reply, memory=reply.memory.in_(memories[done]))
                yield reply

        return run

    def train_centrally(self, mask: Mask) -> Callable[[], Trained]:
        """Begin :meth:`~mpfl.runs.trainings.Trainings.train_centrally` on one of the workers.

        The call that is returned waits for it.
        """
        return self._begin(_train_centrally, mask)

    def _begin(self, function: Callable[..., _T], *arguments: Any) -> Callable[[], _T]:
        with _deaths_told(), _interrupts_held():
            begun = self._pool.submit(function, *arguments)

        def result() -> _T:
            with _deaths_told():
                return begun.result()

        return result


class _Changed(dict[str, Any]):
    """What a turn changed in a memory: what it left, w0 as a rule, need not travel back."""

    def in_(self, memory: Weights) -> Weights:
        """The memory after the turn; the very same if nothing changed."""
        return {**memory, **self} if self else memory


@contextmanager
def _deaths_told() -> Iterator[None]:
    try:
        yield
    except BrokenProcessPool:
        raise MPFLError(
            "a worker process died, perhaps for want of memory; go on with --resume and "
            "fewer --workers"
        ) from None


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Ctrl-C is for the parent: a process that starts in here never sees it."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


# ---- Inside a worker -------------------------------------------------------------------

_bench: Workbench


def _prepare(experiment: Experiment, root: Path) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # on Windows; see _interrupts_held
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(1)
    keep_freed_memory()
    global _bench
    _bench = Workbench(experiment, root)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _turn(mask: Mask | None, round_: int, node: int, memory: Weights, message: bytes) -> Reply:
    reply = _bench.turn(mask, round_, node, memory, message)
    kept = reply.memory
    if isinstance(kept, Mapping) and kept.keys() >= memory.keys():
        changed = {name: kept[name] for name in kept if kept[name] is not memory.get(name)}
        return replace(reply, memory=_Changed(changed))
    return reply


def _train_centrally(mask: Mask) -> Trained:
    return _bench.train_centrally(mask)
