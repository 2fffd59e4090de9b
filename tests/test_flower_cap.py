"""What a node may send at most: Flower's server refuses more before it reads it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("flwr", reason="the engine is not installed")

import grpc
from flwr.proto.fleet_pb2 import PushMessagesRequest
from flwr.proto.fleet_pb2_grpc import FleetStub
from flwr.proto.message_pb2 import ObjectTree, PushObjectRequest
from test_flower import CONFIG, EXPERIMENT, Loopback, run_on, served

from mpfl.flower import launch, messages, server, superlink
from mpfl.flower.config import experiment_of
from mpfl.flower.longest import longest_message
from mpfl.runs.workbench import Workbench
from mpfl.types import MPFLError

MB = 2**20


def memory(pid: int) -> int:
    """Bytes that a process has in memory."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="looks into /proc")
def test_a_server_refuses_what_is_too_long_by_its_length_alone(tmp_path: Path) -> None:
    with launch.superlink(tmp_path, simulation=False, longest=MB) as engine:
        before = memory(engine.processes["superlink"].pid)
        trusted = grpc.ssl_channel_credentials((tmp_path / "ca.crt").read_bytes())
        big = [("grpc.max_send_message_length", -1)]
        with grpc.secure_channel(engine.fleet, trusted, options=big) as channel:
            push = FleetStub(channel).PushObject
            for packed in (grpc.Compression.NoCompression, grpc.Compression.Gzip):
                request = PushObjectRequest(object_content=bytes(300 * MB))
                with pytest.raises(grpc.RpcError) as refused:
                    push(request, compression=packed)
                assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            with pytest.raises(grpc.RpcError) as refused:
                push(PushObjectRequest(object_content=bytes(MB // 2)))
            assert refused.value.code() is not grpc.StatusCode.RESOURCE_EXHAUSTED, "it was read"
        assert memory(engine.processes["superlink"].pid) < before + 64 * MB


def test_what_flower_does_not_take_is_one_line() -> None:
    words = [sys.executable, "-m", "mpfl.flower.superlink", "--longest", str(MB)]
    for more, says in (
        (["--nosuch"], "unrecognized arguments: --nosuch"),
        (["--port", "many"], "argument --port: invalid"),
    ):
        done = subprocess.run([*words, *more], capture_output=True, text=True)
        assert (done.returncode, done.stdout) == (2, ""), done.stderr
        assert done.stderr.startswith(f"mpfl: {says}") and done.stderr.count("\n") == 1
        assert done.stderr.endswith("; see flower-superlink --help\n")


def test_a_message_of_many_objects_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from flwr.server.superlink.fleet.message_handler import message_handler
    from flwr.superlink.cli import flower_superlink as command

    module = sys.modules[command.__module__]
    heard = []
    monkeypatch.setattr(module, "generic_create_grpc_server", lambda **named: named)
    monkeypatch.setattr(message_handler, "push_messages", lambda **named: heard.append(named))
    superlink.cap(MB)
    assert module.generic_create_grpc_server(max_message_length=2**31 - 1) == {
        "max_message_length": MB
    }
    ours = ObjectTree(children=[ObjectTree(children=[ObjectTree()])])
    message_handler.push_messages(PushMessagesRequest(message_object_trees=[ours]), None)
    assert len(heard) == 1
    many = ObjectTree(children=[ObjectTree() for _ in range(3)])
    with pytest.raises(ValueError, match="more than 3 objects"):
        message_handler.push_messages(PushMessagesRequest(message_object_trees=[many]), None)


@pytest.mark.parametrize("recipe", ["digits", "digits-fedavg"])
def test_no_message_of_a_run_is_longer_than_it_says(recipe: str, tmp_path: Path) -> None:
    config = {**CONFIG, "recipe": recipe}
    experiment = experiment_of(config)
    bench = Workbench(experiment, Path("data"))
    grid = Loopback(3, config)
    run_on(grid, tmp_path / "run", experiment=experiment)
    longest = max(
        sum(len(part) for part in messages.content(sent).values() if isinstance(part, bytes))
        for _, sent in grid.sent
    )
    assert longest + superlink.ENVELOPE <= longest_message(bench)
    assert launch.longest_of(config) == longest_message(bench)


def test_what_a_run_would_refuse_is_said_before_anything_starts(tmp_path: Path) -> None:
    config = {**CONFIG, "recipe": "cifar10-vgg11", "set": "", "root": str(tmp_path)}
    with pytest.raises(MPFLError, match="python -m mpfl data cifar10"):
        launch.longest_of(config)


def test_a_run_under_too_low_a_cap_does_not_begin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    need = longest_message(Workbench(EXPERIMENT, Path("data")))
    monkeypatch.setenv(superlink.LONGEST, str(need - 1))
    grid, context = served(tmp_path / "run")
    with pytest.raises(MPFLError, match=f"again with --longest {need}"):
        server.serve(grid, context)
    monkeypatch.setenv(superlink.LONGEST, str(need))
    server.serve(grid, context)


def test_an_answer_of_ours_has_as_many_objects_as_are_let_in(tmp_path: Path) -> None:
    from flwr.supercore.inflatable.inflatable_object import get_object_tree, iterate_object_tree

    grid = Loopback(3)
    run_on(grid, tmp_path / "run")
    _, sent = grid.sent[0]
    answer = messages.answer(sent, {"node": 0, "up": b"payload"})
    assert len(list(iterate_object_tree(get_object_tree(answer)))) == superlink.OBJECTS


@pytest.mark.parametrize(
    "words", [[], ["--longest", "none"], ["--longest", "10"], ["--longest", str(2**31)]]
)
def test_the_cap_is_a_number_of_bytes(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        superlink.main(words)
    assert capsys.readouterr().err.count("\n") == 1
