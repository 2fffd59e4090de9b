"""The processes of a run on Flower: where they listen, and that nothing of them is left.

A run is told to end once, twice or often, at any moment.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from ipaddress import IPv6Address, ip_address
from pathlib import Path

import pytest

pytest.importorskip("flwr", reason="the engine is not installed")

from test_flower import wait_until

from mpfl.flower.__main__ import main as flower
from mpfl.flower.guard import GENTLE, MARK, guarded, processes
from mpfl.flower.restart import Broken, restarting, restarts
from mpfl.types import MPFLError

SMALL = ["nodes=2", "rounds=30", "images=150", "width=0.25", "schedule=linear(0.6)"]
SAID = "mpfl: stopped; the same command goes on\n"


def as_in_a_terminal() -> None:
    """A job in the background ignores Ctrl-C, and under nohup a closed terminal too.

    What it starts would as well.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def begin(kind: str, out: Path, *more: str) -> subprocess.Popen[bytes]:
    """The command in a session of its own, as in a terminal; what it says goes to ``said``."""
    words = [sys.executable, "-m", "mpfl.flower", kind, "digits", "--out", str(out)]
    words += [word for change in SMALL for word in ("--set", change)] + list(more)
    with open(out.with_name("said"), "wb") as said:
        return subprocess.Popen(
            words,
            stdout=subprocess.DEVNULL,
            stderr=said,
            start_new_session=True,
            preexec_fn=as_in_a_terminal,
        )


def of_folder(engine: Path) -> list[int]:
    """The processes that keep their files there, and those that they have started."""
    parents, ours = {}, set[int]()
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            state, parent, *_ = (folder / "stat").read_text().rpartition(")")[2].split()
            parents[int(folder.name)] = int(parent)
            if state != "Z" and f"FLWR_HOME={engine}" in (folder / "environ").read_text():
                ours.add(int(folder.name))
    while more := {pid for pid, parent in parents.items() if parent in ours} - ours:
        ours |= more
    return sorted(ours)


def listening(pids: Sequence[int]) -> dict[str, int]:
    """Addresses at which these processes take connections, and which of them does."""
    owners = {}
    for pid in pids:
        with suppress(OSError):
            for handle in Path(f"/proc/{pid}/fd").iterdir():
                with suppress(OSError):
                    owners[str(handle.readlink())] = pid
    found = {}
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            _, local, _, state, *_, inode = line.split()[:10]
            if state == "0A" and f"socket:[{inode}]" in owners:
                found[where(local)] = owners[f"socket:[{inode}]"]
    return found


def where(local: str) -> str:
    """An address and port as /proc writes it: words of four bytes, the last byte first."""
    written, _, port = local.partition(":")
    words = [bytes.fromhex(written[at : at + 8])[::-1] for at in range(0, len(written), 8)]
    address = ip_address(b"".join(words))
    if isinstance(address, IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    return f"{address} {int(port, 16)}"


def test_an_address_is_read_as_the_kernel_writes_it() -> None:
    with socket.socket(socket.AF_INET) as one, socket.socket(socket.AF_INET) as all_:
        one.bind(("127.0.0.1", 0)), all_.bind(("0.0.0.0", 0))
        one.listen(), all_.listen()
        due = {f"127.0.0.1 {one.getsockname()[1]}", f"0.0.0.0 {all_.getsockname()[1]}"}
        assert due <= listening([os.getpid()]).keys()
    assert where("0000000000000000FFFF00000100007F:1F90") == "127.0.0.1 8080"


@pytest.mark.endurance
@pytest.mark.parametrize("kind", ["deployment", "simulation"])
def test_every_port_is_on_loopback_only(kind: str, tmp_path: Path) -> None:
    """From the start to the first closed round, by which time all of them are open."""
    out, found = tmp_path / "run", {}
    process = begin(kind, out)

    def a_round() -> bool:
        found.update(listening(of_folder(tmp_path / "run-engine")))
        return (out / "rounds.jsonl").exists()

    try:
        wait_until(a_round, 200)
    finally:
        process.terminate()
        process.wait(PATIENCE)
    assert len(found) >= 3
    assert {place.split()[0] for place in found} == {"127.0.0.1"}


def told_to_end(
    kind: str, out: Path, signals: Sequence[signal.Signals], apart: float
) -> tuple[int, str]:
    """Its exit status and what it said, when it was sent these, and nothing was left."""
    engine = out.with_name(out.name + "-engine")
    process = begin(kind, out)
    try:
        wait_until(lambda: len(of_folder(engine)) >= 8, 200)  # apps and Ray's are among them
        for each in signals:
            os.killpg(process.pid, each)
            time.sleep(apart)
        status = process.wait(PATIENCE)
        wait_until(lambda: not of_folder(engine), PATIENCE)
    finally:
        process.kill()
        process.wait()
    return status, out.with_name("said").read_text()


STUBBORN = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
for _ in range(2):  # a grandchild of whom nobody knows, in a session of its own
    if os.fork():
        break
    os.setsid()
open(sys.argv[1] + str(os.getpid()), "w").close()
time.sleep(600)
"""


def test_what_will_not_end_and_what_was_let_go_are_ended(tmp_path: Path) -> None:
    def pids() -> list[int]:
        return [int(path.name) for path in tmp_path.glob("[0-9]*")]

    with guarded() as mark:
        words = [sys.executable, "-c", STUBBORN, f"{tmp_path}/"]
        begun = subprocess.Popen(words, env={**os.environ, MARK: mark})
        wait_until(lambda: len(pids()) == 3, 20)
        before = time.monotonic()
    assert GENTLE < time.monotonic() - before < 15
    assert begun.wait(1) == -signal.SIGKILL
    assert not {each.pid for each in processes(mark)} & set(pids())


PATIENCE = 60
"""Seconds: that it ends is tested here, and not how fast the machine is."""

AGAIN = {
    "once": ([signal.SIGINT], 0.0),
    "half a second apart": ([signal.SIGINT] * 2, 0.5),
    "two seconds apart": ([signal.SIGINT] * 2, 2.0),
    "many": ([signal.SIGINT] * 20, 0.05),
    "another, and killed": ([signal.SIGTERM, signal.SIGINT, signal.SIGKILL], 0.5),
    "its terminal is closed": ([signal.SIGHUP, signal.SIGHUP], 0.5),
    "killed": ([signal.SIGKILL], 0.0),
}


@pytest.mark.endurance
@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="looks into /proc")
@pytest.mark.parametrize(
    ("kind", "how"),
    [*(("deployment", how) for how in AGAIN), ("simulation", "half a second apart"),
     ("simulation", "killed")],
)  # fmt: skip
def test_nothing_is_left_of_a_run(kind: str, how: str, tmp_path: Path) -> None:
    signals, apart = AGAIN[how]
    status, said = told_to_end(kind, tmp_path / "run", signals, apart)
    if signals == [signal.SIGKILL]:
        assert (status, said) == (-signal.SIGKILL, "")
    else:
        assert said == SAID
        assert status in (128 + signals[0], -signal.SIGKILL)


@pytest.mark.endurance
@pytest.mark.parametrize(
    "after",
    [
        pytest.param(0.4, marks=pytest.mark.overnight),
        1.0,
        pytest.param(2.5, marks=pytest.mark.overnight),
    ],
)
def test_a_run_that_begins_ends_in_one_line(after: float, tmp_path: Path) -> None:
    """Before the engine is there: from within whatever is being imported."""
    process = begin("deployment", tmp_path / "run")
    time.sleep(after)
    for _ in range(2):
        os.killpg(process.pid, signal.SIGINT)
        time.sleep(0.5)
    status = process.wait(PATIENCE)
    assert (status, (tmp_path / "said").read_text()) == (130, SAID)
    assert not of_folder(tmp_path / "run-engine")


def command(pid: int) -> str:
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    return ""


PARTS = {
    "the server": "mpfl.flower.superlink",
    "what starts the apps": "flower-superexec",
    "the server's app": "flwr-serverapp",
    "the simulation's app": "flwr-simulation",
}


@pytest.mark.endurance
@pytest.mark.parametrize(
    "part",
    # The engine takes its time to notice the others.
    [p if p == "the server" else pytest.param(p, marks=pytest.mark.overnight) for p in PARTS],
)
def test_a_run_whose_parts_are_killed_goes_on_by_itself(part: str, tmp_path: Path) -> None:
    out, engine = tmp_path / "run", tmp_path / "run-engine"
    kind = "simulation" if "simulation" in part else "deployment"
    short = ["--set", "rounds=3", "--set", "federated_rounds=1", "--set", "central_epochs=0"]
    process = begin(kind, out, *short, "--restart", "1")
    try:
        wait_until((out / "rounds.jsonl").exists, 400)
        before = (out / "rounds.jsonl").read_text().splitlines()[0]
        for pid in of_folder(engine):
            if PARTS[part] in command(pid):
                os.kill(pid, signal.SIGKILL)
        assert process.wait(600) == 0
    finally:
        process.kill()
        process.wait()
    said = (tmp_path / "said").read_text()
    assert said.count("starting again from the last closed round (1 of 1)") == 1
    lines = (out / "rounds.jsonl").read_text().splitlines()
    assert len(lines) == 3 and lines[0] == before
    assert (out / "nodes.json").exists()


def test_a_run_is_started_again_a_number_of_times(capsys: pytest.CaptureFixture[str]) -> None:
    tries: list[int] = []

    def breaks() -> None:
        tries.append(len(tries))
        raise Broken("the server was ended by signal 9")

    with pytest.raises(Broken, match=r"signal 9 \(started again 2 times\); the same command"):
        restarting(breaks, 2)
    assert len(tries) == 3
    said = capsys.readouterr().err.splitlines()
    assert [line[-8:] for line in said] == ["(1 of 2)", "(2 of 2)"]
    with pytest.raises(Broken, match="signal 9; the same command goes on"):
        restarting(breaks, 0)
    assert len(tries) == 4


def test_what_a_run_refuses_is_not_tried_again() -> None:
    tries: list[int] = []

    def refuses() -> None:
        tries.append(0)
        raise MPFLError("partition-id is 7")

    with pytest.raises(MPFLError, match="partition-id is 7"):
        restarting(refuses, 3)
    assert len(tries) == 1


@pytest.mark.parametrize(("text", "times"), [("never", 0), ("0", 0), ("5", 5)])
def test_how_often_is_a_number_or_never(text: str, times: int) -> None:
    assert restarts(text) == times


@pytest.mark.parametrize("text", ["-1", "1.5", "always", ""])
def test_how_often_is_nothing_else(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        flower(["simulation", "digits", f"--restart={text}"])
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "is no number of times" in said
