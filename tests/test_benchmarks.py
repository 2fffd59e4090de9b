"""The benchmarks: figures judge themselves rightly, and what is recorded says where it is from."""

import dataclasses
import json
import math
import os
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path

import pytest

from benchmarks import __main__ as command
from benchmarks import wire
from benchmarks.engine import record
from benchmarks.engine.overhead import (
    Exchange,
    Overhead,
    message_bytes,
    messages_and_polling,
    overhead,
)
from benchmarks.engine.paper import KEPT, million
from benchmarks.engine.processes import Watch, processor_seconds, tree
from benchmarks.engine.proxy import Passed, Proxy, bursts
from benchmarks.timing import Figure, paired

RECORDED = Path(command.__file__).parent


@pytest.mark.parametrize(
    ("value", "bar", "reached"),
    [(0.8, "<=0.8", True), (0.81, "<=0.8", False), (5, ">=5", True), (4.9, ">=5", False)],
)
def test_a_figure_holds_itself_against_its_bar(value, bar, reached):
    assert Figure("x", value, bar).row()["reached"] is reached


def test_without_a_bar_nothing_is_claimed():
    assert Figure("x", 1, None).reached is None


def test_the_ratio_is_taken_pair_by_pair(monkeypatch):
    ticks = iter([0, 2, 10, 11, 20, 26, 30, 32, 40, 41, 50, 54])  # A 2, B 1; A 6, B 2; A 1, B 4
    monkeypatch.setattr("benchmarks.timing.time.perf_counter", lambda: next(ticks))
    calls = []
    figure = paired("x", lambda: calls.append("A"), lambda: calls.append("B"), None, n=3)
    assert "".join(calls) == "AB" + "ABABAB", "one of each is not counted"
    assert (figure.value, figure.low, figure.high, figure.n) == (2, 0.25, 3, 3)


def test_masks_on_the_wire_reach_their_bars(tmp_path):
    figures = list(wire.masks_on_the_wire(tmp_path))
    assert len(figures) == 3
    assert all(figure.reached for figure in figures), figures


def test_an_unknown_benchmark_is_refused(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["benchmarks", "speed"])
    with pytest.raises(SystemExit):
        command.main()
    assert "no benchmark 'speed'; there are shrinking" in capsys.readouterr().err


def test_every_benchmark_is_recorded_with_its_command_and_machine():
    found = json.loads((RECORDED / "results.json").read_text())
    assert set(found) == set(command.BENCHMARKS)
    found["scaling"] = json.loads((RECORDED / "scaling.json").read_text())
    for name, benchmark in found.items():
        made = benchmark["provenance"]
        assert made["command"] == f"python -m benchmarks {name}"
        assert made["machine"]["cores"] >= 1 and made["versions"]["torch"]
        assert benchmark["rows"]
        for row in benchmark["rows"]:
            assert row["n"] >= 1 if "n" in row else len(row["seconds"]) == 3


# ---- The engine: bytes counted, and what follows from them -----------------------------


def test_the_proxy_counts_the_bytes_that_pass_and_no_others():
    with socket.create_server(("127.0.0.1", 0)) as echo:

        def answer():
            near, _ = echo.accept()
            with near:
                while data := near.recv(1000):
                    near.sendall(data + data)

        server = threading.Thread(target=answer)
        server.start()
        proxy = Proxy(f"127.0.0.1:{echo.getsockname()[1]}")
        host, _, port = proxy.address.rpartition(":")
        content, back = bytes(range(256)) * 400, b""
        with socket.create_connection((host, int(port))) as near:
            near.sendall(content)
            near.shutdown(socket.SHUT_WR)
            while data := near.recv(1 << 16):
                back += data
        server.join()
        proxy.close()
    assert len(back) == 2 * len(content) and set(back) == set(content)
    (burst,) = bursts(proxy.passed)
    assert (burst.up, burst.down) == (len(content), 2 * len(content))


def test_silence_sets_bursts_apart():
    passed = [Passed(10.0, "up", 5), Passed(10.9, "down", 7), Passed(12.0, "up", 1)]
    found = bursts(reversed(passed), pause=1.0)
    assert [(b.begin, b.end, b.up, b.down) for b in found] == [(10, 10.9, 5, 7), (12, 12, 1, 0)]


def test_polling_and_messages_are_told_apart_by_size():
    passed = [Passed(t, "up", size) for t, size in [(0, 18), (3, 60), (3.5, 40), (6, 10), (9, 18)]]
    assert messages_and_polling(passed, 3, 9, poll=10) == (100, 10)
    assert messages_and_polling(passed, 0, 9.1, poll=10) == (100, 46)
    assert messages_and_polling(passed, 3.4, 9, poll=10) == (0, 50), (
        "what went before belongs to another"
    )


def test_what_an_exchange_costs_is_found_again():
    cost = Overhead(wrap=800, calls=7000, rate=0.01)
    made = [
        Exchange(payload, payload + 800, round(cost.wire(payload)), 0)
        for payload in (200, 1_000_000)
    ]
    assert made[0].transport == 7000 + 10
    found = overhead(made[:1], made[1:])
    assert dataclasses.astuple(found) == pytest.approx(dataclasses.astuple(cost), rel=1e-6)
    even = found.break_even
    assert found.wire(even) - even == pytest.approx(even), "half of it is payload"
    assert found.filters(frames=30) == math.ceil((even - 30) * 8 / 2)
    assert cost.wire(600, exchanges=3) == pytest.approx(3 * cost.wire(200))


def test_a_message_grows_by_its_payload_and_little_else():
    pytest.importorskip("flwr", reason="the engine is not installed")
    small, large = (
        message_bytes({"down": bytes(n), "final": False}, {"node": 1, "up": bytes(n)}, "masks 2")
        for n in (100, 10_100)
    )
    assert 20_000 <= large - small < 20_020
    assert 500 < small - 200 < 1500


def test_a_million_nodes_need_less_of_each_machine_in_a_tree():
    sums = ("a vote", "a relay reads 1,000 votes", "1,000 sums are added up")
    costs = dict.fromkeys([*KEPT, *sums], 0.001)
    found = {row["name"]: row["value"] for row in million(costs)}
    for what in ("connections", "wire of a round", "memory for connections"):
        flat, *tree = (
            found[f"a million nodes, {who}: {what}"]
            for who in ("flat, the server", "tree, a relay", "tree, the server")
        )
        assert all(each < flat / 50 for each in tree), what


def test_the_tree_of_processes_is_seen():
    with subprocess.Popen(["sh", "-c", "sleep 60 & wait"]) as process:
        with Watch(process.pid) as seen:
            while len(tree(process.pid)) < 2:
                time.sleep(0.05)
        assert seen.peak > 100_000 and processor_seconds(process.pid) >= 0
        for pid in reversed(tree(process.pid)):
            os.kill(pid, signal.SIGTERM)


def test_figures_of_the_engine_say_what_they_are():
    found = json.loads(record.FILE.read_text())
    assert set(found) == set(command.ENGINE)
    for name, benchmark in found.items():
        made = benchmark["provenance"]
        assert made["command"] == f"python -m benchmarks {name}"
        assert made["versions"]["flwr"] and made["versions"]["ray"] and made["load_before"] >= 0
        rows = benchmark["rows"]
        assert len({row["name"] for row in rows}) == len(rows), "each is found by its name"
        for row in rows:
            assert set(row) == {"name", "unit", "value", "low", "high", "n", "detail"}
            assert row["n"] >= 1 and (row["low"] is None) == (row["n"] == 1)
            assert row["low"] is None or row["low"] <= row["value"] <= row["high"]
