"""On Flower: the same masks and bytes as in one process, and a round that survives bad nodes.

The quick tests carry messages in this process, by a grid that misbehaves as it is told. The
others start the engine itself.
"""

from __future__ import annotations

import dataclasses
import errno
import itertools
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

pytest.importorskip("flwr", reason="the engine is not installed")

from flwr.app import ConfigRecord, Context, Error, Message, RecordDict
from flwr.common.constant import ErrorCode
from flwr.serverapp import Grid
from flwr.supercore.task_identity import TaskIdentity
from test_data import arrays, store

from mpfl import masks, wire
from mpfl.filters import expand
from mpfl.flower import answers, launch, messages, node, server
from mpfl.flower.__main__ import main as flower
from mpfl.flower.answers import read_answers
from mpfl.flower.config import experiment_of
from mpfl.flower.engine import Engine, command
from mpfl.flower.environment import QUIET
from mpfl.flower.keys import make_node_key
from mpfl.flower.machines import prepare
from mpfl.flower.nodes import FlowerNodes
from mpfl.flower.restart import Broken
from mpfl.flower.values import as_toml
from mpfl.nets.networks import build
from mpfl.nets.start import initial_weights
from mpfl.runs.folder import load_mask, load_tensors, read_json, read_lines, save_weights
from mpfl.runs.record import read_run
from mpfl.runs.runner import run
from mpfl.runs.workbench import Workbench
from mpfl.types import MPFLError

CONFIG = {
    "recipe": "digits",
    "budget": "toy",
    "seed": 3,
    "set": "nodes=3;rounds=2;images=150;width=0.25;central_epochs=1;federated_rounds=1",
    "root": "data",
    "deadline": 60.0,
}
EXPERIMENT = experiment_of(CONFIG)

Fault = Callable[["Loopback", Message, Message], Message | None]
"""``(grid, request, honest answer) -> what arrives``, if anything does."""


class Loopback(Grid):
    """Flower's grid in one process: answers at once, or as ``faults`` of a node and round say.

    ``faults[(node, group)]`` is used once; a node in ``away`` is not connected.
    """

    def __init__(self, nodes: int, config: Mapping[str, Any] = CONFIG) -> None:
        TaskIdentity.run_id = TaskIdentity.node_id = TaskIdentity.task_id = 1
        self.faults: dict[tuple[int, str], Fault] = {}
        self.away: set[int] = set()
        self.sent: list[tuple[int, Message]] = []
        self.contexts = {
            100 + n: Context(1, 100 + n, {"partition-id": n}, RecordDict(), dict(config))
            for n in range(nodes)
        }
        self.arrived: list[Message] = []
        self._ids = itertools.count()

    def set_run(self, run: Any) -> None: ...

    def run(self) -> None: ...

    def create_message(self, *arguments: Any) -> None: ...

    def send_and_receive(self, *arguments: Any) -> None: ...

    def get_node_ids(self) -> list[int]:
        return [n for n in self.contexts if n - 100 not in self.away]

    def push_messages(self, messages: list[Message]) -> list[str]:
        return [self._deliver(message) for message in messages]

    def pull_messages(self, ids: list[str]) -> list[Message]:
        found = [m for m in self.arrived if m.metadata.reply_to_message_id in ids]
        self.arrived = [m for m in self.arrived if m not in found]
        return found

    def _deliver(self, message: Message) -> str:
        made = f"m{next(self._ids)}"
        message.metadata.__dict__["_message_id"] = made
        to = message.metadata.dst_node_id
        self.sent.append((to - 100, message))
        answer: Message | None = node.client_app(message, self.contexts[to])
        fault = self.faults.pop((to - 100, message.metadata.group_id), None)
        answer = fault(self, message, answer) if fault else answer
        self.arrived += [answer] if answer is not None else []
        return made


def told(request: Message, **content: Any) -> Message:
    return Message(RecordDict({messages.RECORD: ConfigRecord(content)}), reply_to=request)


def run_on(
    grid: Loopback, folder: Path, *, quorum: int = 0, deadline: float = 60.0, **how: Any
) -> Any:
    def machines(bench: Any) -> FlowerNodes:
        return FlowerNodes(grid, bench, deadline=deadline, patience=0.0, quorum=quorum)

    experiment = how.pop("experiment", EXPERIMENT)
    run(experiment, folder, machines=machines, **how)
    return read_run(folder)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plain") / "run"
    run(EXPERIMENT, folder)
    return folder


def same_run(one: Path, other: Path) -> None:
    """Masks, weights, votes and bytes of two run folders are equal, bit for bit."""
    for file in ("mask", "model", "central"):
        a, b = (load_tensors(f / f"{file}.safetensors") for f in (one, other))
        assert a.keys() == b.keys()
        assert all(np.array_equal(a[name], b[name]) for name in a), file
    a, b = read_run(one), read_run(other)
    assert a.summary["bytes"] == b.summary["bytes"]
    lines = zip([*a.rounds, *a.federated], [*b.rounds, *b.federated], strict=True)
    for x, y in lines:
        unlike = {"seconds", "metrics"}  # nodes keep their observations to themselves
        assert {k: v for k, v in x.items() if k not in unlike} == {
            k: v for k, v in y.items() if k not in unlike
        }


# ---- The same run ----------------------------------------------------------------------


def test_messages_carry_the_simulation_bit_for_bit(plain: Path, tmp_path: Path) -> None:
    grid = Loopback(3)
    run_on(grid, tmp_path / "run")
    same_run(plain, tmp_path / "run")


@pytest.mark.parametrize(
    "changes",
    [
        {"method": "fedavg"},
        {"rewind": False},
        {"coding": "packed"},
        {"granularity": "kernel"},
        {"granularity": "weight"},
        {"fault": "inverted_mask()"},
        {"data_noise": "permuted_labels()"},
        {"local.keep": "best-ever", "validation": 0.2, "epochs": 2, "stop_above": 0.2},
        {"federated": "by_sign_votes(eta=0.02, every=2)", "federated_rounds": 3},
        {"federated": "by_muting_scaled_votes(every=2)", "federated_rounds": 3},
        {"federated": "by_channel_scaled_votes(every=2)", "federated_rounds": 3},
        {"federated": "by_quantised_average(bits=4, feedback=True)", "federated_rounds": 3},
        {"federated": "by_average_with_adam()", "federated_rounds": 3},
        {"federated_fault": "inverted_update()"},
    ],
    ids=str,
)
def test_every_kind_of_run_is_the_same(changes: dict[str, Any], tmp_path: Path) -> None:
    config = dict(CONFIG)
    if changes.get("method") == "fedavg":
        config["recipe"] = "digits-fedavg"
    else:
        config["set"] += "".join(f";{k}={v}" for k, v in changes.items())
    experiment = dataclasses.replace(experiment_of(config), central_epochs=0)
    run(experiment, tmp_path / "plain")
    run_on(Loopback(3, config), tmp_path / "run", experiment=experiment)
    a, b = read_run(tmp_path / "plain"), read_run(tmp_path / "run")
    assert a.summary["bytes"] == b.summary["bytes"]
    for file in ("mask", "model"):
        one, other = (load_tensors(tmp_path / f / f"{file}.safetensors") for f in ("plain", "run"))
        assert all(np.array_equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("recipe", ["digits", "digits-fedavg"])
def test_a_rounded_w0_goes_out_in_few_bits(recipe: str, tmp_path: Path) -> None:
    module = build("digits-cnn", 10, width=0.25)
    save_weights(tmp_path / "w0.safetensors", initial_weights(module, 5))
    settings = f"{CONFIG['set']};w0={tmp_path / 'w0.safetensors'};w0_bits=4"
    config = CONFIG | {"recipe": recipe, "set": settings}
    experiment = dataclasses.replace(experiment_of(config), central_epochs=0)
    run(experiment, tmp_path / "plain")
    grid = Loopback(3, config)
    run_on(grid, tmp_path / "run", experiment=experiment)
    sent = [messages.content(m) for _, m in grid.sent]
    (w0,) = {each["w0"] for each in sent if "w0" in each}
    assert wire.kind_of(w0) is wire.Kind.ROUNDED
    a, b = read_run(tmp_path / "plain"), read_run(tmp_path / "run")
    assert a.summary["bytes"] == b.summary["bytes"]
    assert 3 * len(w0) in a.summary["bytes"].values()
    one, other = (load_tensors(tmp_path / f / "model.safetensors") for f in ("plain", "run"))
    assert all(np.array_equal(one[name], other[name]) for name in one)


def test_w0_goes_out_once_and_nothing_but_masks_after_it(tmp_path: Path) -> None:
    grid = Loopback(3)
    run_on(grid, tmp_path / "run")
    masks_sent = [m for _, m in grid.sent if m.metadata.group_id.startswith("masks")]
    assert ["w0" in messages.content(m) for m in masks_sent] == [True] * 3 + [False] * 3
    assert max(len(messages.content(m)["down"]) for m in masks_sent) < 100


def test_a_node_that_lost_its_state_is_sent_w0_again(plain: Path, tmp_path: Path) -> None:
    grid = Loopback(3)

    def forget(grid: Loopback, request: Message, answer: Message) -> Message:
        grid.contexts[101].state = RecordDict()
        return answer

    grid.faults[(1, "masks 1")] = forget
    run_on(grid, tmp_path / "run")
    same_run(plain, tmp_path / "run")
    assert [n for n, m in grid.sent if "w0" in messages.content(m)] == [0, 1, 2, 1]


def test_every_node_tests_the_network_that_is_left(tmp_path: Path) -> None:
    # VGG's layers are not in alphabetical order, so a mask read from its file has to be put in.
    root = tmp_path / "data"
    store(root / "cifar10", arrays(60))
    few = "dataset=cifar10;images=60;nodes=3;rounds=2;central_epochs=1;federated_rounds=1"
    config = {
        "set": few + ";model=vgg11-bn;width=0.06;pixels=32;schedule=linear(0.5)",
        "root": str(root),
    }
    server.serve(*served(tmp_path / "run", **config))

    bench = Workbench(experiment_of(CONFIG | config), root)
    mask = load_mask(tmp_path / "run" / "mask.safetensors", bench.layout)
    weights = load_tensors(tmp_path / "run" / "model.safetensors")
    told = read_json(tmp_path / "run" / "nodes.json")
    assert told["accuracy"] == {
        str(node): {"accuracy": bench.trainer.accuracy(weights, mask, own), "images": len(own)}
        for node, own in enumerate(bench.parties.node_tests)
    }
    assert told["left_out"] == {}


def test_a_node_is_judged_on_what_it_holds_or_left_out_by_name(tmp_path: Path) -> None:
    few = "nodes=3;rounds=2;images=20;width=0.25;central_epochs=1;federated_rounds=1"
    config = {"set": few + ";partition=dirichlet(0.1)", "seed": 12}
    server.serve(*served(tmp_path / "run", **config))
    parties = Workbench(experiment_of(CONFIG | config), Path("data")).parties
    for own, test in zip(parties.nodes, parties.node_tests, strict=True):
        assert set(test.labels.tolist()) <= set(own.labels.tolist())
    none = [node for node, test in enumerate(parties.node_tests) if not len(test)]
    told = read_json(tmp_path / "run" / "nodes.json")
    assert len(none) == 1
    assert {*told["accuracy"], *told["left_out"]} == set("012")
    assert set(told["left_out"]) == {str(node) for node in none}
    assert all("no test picture of its classes" in why for why in told["left_out"].values())


def test_a_node_uses_all_of_its_own_data(tmp_path: Path) -> None:
    grid, other = Loopback(3), Loopback(3)
    for each in grid.contexts.values():
        each.node_config["own-data"] = True
    run_on(grid, tmp_path / "own")
    run_on(other, tmp_path / "part")
    a, b = (load_tensors(tmp_path / n / "model.safetensors") for n in ("own", "part"))
    assert any(not np.array_equal(a[name], b[name]) for name in a)


# ---- Bad nodes -------------------------------------------------------------------------


def other_model(grid: Loopback, request: Message, answer: Message) -> Message:
    config = {**CONFIG, "set": CONFIG["set"].replace("width=0.25", "width=0.5")}
    context = Context(1, 101, {"partition-id": 1}, RecordDict(), config)
    strange = Loopback(3, config)
    run_on(strange, Path(grid.scratch) / "other", experiment=experiment_of(config))
    sent = next(m for n, m in strange.sent if n == 1)
    return told(request, node=1, up=messages.content(node.client_app(sent, context))["up"])


def earlier_round(grid: Loopback, request: Message, answer: Message) -> Message:
    return told(request, node=1, up=grid.first_reply)


def forgets(grid: Loopback, request: Message) -> Message:
    grid.faults[(1, request.metadata.group_id)] = lambda grid, request, answer: forgets(
        grid, request
    )
    return told(request, node=1, lacks=True)


def spoil(change: Callable[[bytes], Any]) -> Fault:
    return lambda grid, request, answer: told(
        request, node=1, up=change(messages.content(answer)["up"])
    )


FAULTS: dict[str, tuple[Fault, str]] = {
    "silent": (lambda grid, request, answer: None, "no answer within"),
    "raises": (
        lambda grid, request, answer: Message(Error(0, "it broke"), reply_to=request),
        "the engine: it broke",
    ),
    "says that it failed": (
        lambda grid, request, answer: told(request, node=1, failed="disk full"),
        "disk full",
    ),
    "damaged": (spoil(lambda b: b[:-6] + bytes([b[-6] ^ 1]) + b[-5:]), "checksum mismatch"),
    "cut short": (spoil(lambda b: b[:7]), "too short"),
    "oversized": (spoil(lambda b: b + bytes(10**6)), "such a one takes at most"),
    "empty": (spoil(lambda b: b""), "too short"),
    "no bytes": (spoil(lambda b: "keep them all"), "holds no payload"),
    "nothing in it": (
        lambda grid, request, answer: told(request, node=1),
        "holds no payload",
    ),
    "another model": (other_model, "another model"),
    "another reference": (
        spoil(
            lambda b: wire.encode_mask(
                masks.full(LAYOUT), LAYOUT, 2, reference=masks.full(LAYOUT), coding="packed"
            )
        ),
        "encoded for another model, reference",
    ),
    "loses what it is sent": (
        lambda grid, request, answer: forgets(grid, request),
        "keeps losing what it is sent",
    ),
}


@pytest.fixture(scope="module", autouse=True)
def layout() -> Iterator[None]:
    from mpfl.runs.workbench import Workbench

    global LAYOUT
    LAYOUT = Workbench(EXPERIMENT, Path("data")).layout
    yield


@pytest.mark.parametrize("name", FAULTS)
def test_a_bad_answer_is_left_out_and_the_round_closes(name: str, tmp_path: Path) -> None:
    fault, says = FAULTS[name]
    grid = Loopback(3)
    grid.scratch = tmp_path
    grid.faults[(1, "masks 2")] = fault
    patient = 60.0 if name != "silent" else 3.0
    found = run_on(grid, tmp_path / "run", deadline=patient)
    assert [line.get("left_out", {}).keys() for line in found.rounds] == [set(), {"1"}]
    assert says in found.rounds[1]["left_out"]["1"]
    assert len(found.rounds[1]["ballots"]) == 2
    assert max(max(votes) for votes in found.rounds[1]["votes"].values()) == 2
    assert "left_out" not in found.federated[0], "it is back"


def test_an_answer_for_another_round_does_not_count(tmp_path: Path) -> None:
    grid = Loopback(3)

    def keep(grid: Loopback, request: Message, answer: Message) -> Message:
        grid.first_reply = messages.content(answer)["up"]
        return answer

    grid.faults = {(1, "masks 1"): keep, (1, "masks 2"): earlier_round}
    found = run_on(grid, tmp_path / "run")
    assert "payload is of round 1, not 2" in found.rounds[1]["left_out"]["1"]


def test_an_answer_after_the_deadline_does_not_count(tmp_path: Path) -> None:
    """It is the reply to a request that nobody waits for any more."""
    grid = Loopback(3)
    late: list[Message] = []

    def hold(grid: Loopback, request: Message, answer: Message) -> None:
        late.append(answer)

    def deliver(grid: Loopback, request: Message, answer: Message) -> Message:
        grid.arrived += late
        return answer

    grid.faults = {(1, "masks 1"): hold, (0, "masks 2"): deliver}
    found = run_on(grid, tmp_path / "run", deadline=3.0)
    assert "no answer within 3 s" in found.rounds[0]["left_out"]["1"]
    assert "left_out" not in found.rounds[1]
    assert len(found.rounds[1]["ballots"]) == 3


def test_of_two_answers_of_a_node_the_first_counts(plain: Path, tmp_path: Path) -> None:
    grid = Loopback(3)
    impostor = Context(1, 103, {"partition-id": 1}, RecordDict(), dict(CONFIG))
    grid.contexts[103] = impostor
    everything = lambda: wire.encode_mask(  # noqa: E731
        masks.full(LAYOUT), LAYOUT, 1, reference=masks.full(LAYOUT), coding="packed"
    )
    grid.faults[(3, "masks 1")] = lambda g, request, answer: told(request, node=1, up=everything())
    run_on(grid, tmp_path / "run")
    same_run(plain, tmp_path / "run")


@pytest.mark.parametrize("number", [3, -1, 10**9, "1", None, 1.0])
def test_a_node_that_is_none_of_ours_is_not_heard(number: Any, plain: Path, tmp_path: Path) -> None:
    grid = Loopback(4)
    content = {} if number is None else {"node": number}
    for group in ("masks 1", "masks 2", "final 1"):
        grid.faults[(3, group)] = lambda g, request, answer: told(request, up=b"hello", **content)
    run_on(grid, tmp_path / "run")
    same_run(plain, tmp_path / "run")


def test_a_node_that_fails_before_it_says_its_number_leaves_a_reason(tmp_path: Path) -> None:
    grid = Loopback(3)
    grid.faults[(1, "masks 1")] = FAULTS["raises"][0]
    found = run_on(grid, tmp_path / "run")
    assert found.rounds[0]["left_out"] == {
        "1": "not connected, or one that failed: the engine: it broke"
    }


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda array: array.astype(np.int8), "is int8, not float32"),
        (lambda array: array.astype(np.float64), "such a one takes at most"),
    ],
)
def test_weights_of_another_type_are_left_out(change: Any, says: str, tmp_path: Path) -> None:
    grid = Loopback(3)

    def retype(grid: Loopback, request: Message, answer: Message) -> Message:
        mask = load_mask(tmp_path / "run" / "mask.safetensors", LAYOUT)
        payload = messages.content(answer)["up"]
        weights, samples = wire.decode_weights(payload, LAYOUT, 1, mask=mask)
        whole = {name: change(array) for name, array in expand(weights, mask, LAYOUT).items()}
        again = wire.encode_weights(whole, LAYOUT, 1, mask=mask, samples=samples)
        return told(request, node=1, up=again)

    grid.faults[(1, "final 1")] = retype
    found = run_on(grid, tmp_path / "run")
    assert says in found.federated[0]["left_out"]["1"]
    final = load_tensors(tmp_path / "run" / "model.safetensors")
    assert {array.dtype for array in final.values()} == {np.dtype(np.float32)}


def served(folder: Path, **changes: Any) -> tuple[Loopback, Context]:
    """A grid, and what the server's app is told of a run in ``folder``."""
    config = CONFIG | {"out": str(folder), "patience": 0.0, "quorum": 0, "command": "test"}
    config |= changes
    return Loopback(3, config), Context(1, 1, {}, RecordDict(), dict(config))


def test_a_test_result_without_its_images_is_left_out(tmp_path: Path) -> None:
    grid, context = served(tmp_path / "run")
    grid.faults[(1, "evaluation")] = lambda g, request, answer: told(request, node=1, accuracy=0.5)
    server.serve(grid, context)
    found = read_json(tmp_path / "run" / "nodes.json")
    assert found["left_out"] == {"1": "images is None, but a number of test images is due"}
    assert found["accuracy"].keys() == {"0", "2"}


def test_weights_that_nodes_carried_on_are_not_drawn_anew(tmp_path: Path) -> None:
    grid, context = served(tmp_path / "run", set=CONFIG["set"] + ";rewind=False", deadline=2.0)
    for number in (0, 2):
        grid.faults[(number, "masks 2")] = FAULTS["cut short"][0]
    with pytest.raises(MPFLError, match="round 2: 1 valid replies"):
        server.serve(grid, context)
    with pytest.raises(MPFLError, match="nodes carried their weights on"):
        server.serve(grid, context)


def test_an_app_whose_server_is_killed_ends_though_it_waits() -> None:
    waits = "import os, threading; from mpfl.flower.server import end_with_parent; "
    waits += "end_with_parent(); print(os.getpid(), flush=True); threading.Event().wait()"
    starts = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {waits!r}])"
    with subprocess.Popen([sys.executable, "-c", starts], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        app = int(parent.stdout.readline())
        parent.kill()
        gone, _, _ = select.select([parent.stdout], [], [], 60)  # its output is closed with it
        if not gone:
            os.kill(app, signal.SIGKILL)
        assert gone


def test_a_node_that_is_away_is_named_and_may_come_back(tmp_path: Path) -> None:
    grid = Loopback(3)
    grid.away = {2}

    def come_back(grid: Loopback, request: Message, answer: Message) -> Message:
        grid.away = set()
        return answer

    grid.faults[(0, "masks 2")] = come_back
    found = run_on(grid, tmp_path / "run")
    assert found.rounds[0]["left_out"] == {"2": "not connected"}
    assert "left_out" not in found.rounds[1], "it connected while the round was open"


@pytest.mark.parametrize("way", ["by_sign_votes(eta=0.02, every=2)", "by_scaled_votes(every=2)"])
def test_a_node_that_was_away_takes_the_steps_it_missed(way: str, tmp_path: Path) -> None:
    """Trained by votes: it says since when, and is sent the directions of all rounds since."""
    more = f";federated={way};federated_rounds=5;federated_steps=1"
    config = {**CONFIG, "set": CONFIG["set"] + more}
    experiment = dataclasses.replace(experiment_of(config), central_epochs=0)
    grid = Loopback(3, config)

    def leave(grid: Loopback, request: Message, answer: Message) -> Message:
        grid.away = {1}
        return answer

    def come_back(grid: Loopback, request: Message, answer: Message) -> Message:
        grid.away = set()
        return answer

    grid.faults |= {(2, "final 1"): leave, (0, "final 4"): come_back}
    found = run_on(grid, tmp_path / "run", experiment=experiment)
    gone = {"1": "not connected"}
    assert [line.get("left_out") for line in found.federated] == [None, gone, gone, None, None]
    # Beside the fourth round's message, which goes back one round, it got one that goes back three.
    down = [
        wire.body_length(messages.content(m)["down"])
        for n, m in grid.sent
        if n == 1 and m.metadata.group_id == "final 4"
    ]
    assert len(down) == 2 and down[1] == 3 * down[0]
    held = [
        safetensors.numpy.load(context.state[messages.RECORD]["final memory"])
        for context in grid.contexts.values()
    ]
    for name in Workbench(experiment).trained:
        assert np.array_equal(held[0][name], held[1][name]), name


def test_too_few_answers_stop_the_run_which_goes_on_from_its_last_round(
    plain: Path, tmp_path: Path
) -> None:
    grid = Loopback(3)
    grid.faults[(0, "masks 2")] = FAULTS["cut short"][0]
    grid.faults[(2, "masks 2")] = FAULTS["raises"][0]
    with pytest.raises(MPFLError, match=r"round 2: 1 valid replies, the quorum is 2.*it broke"):
        run_on(grid, tmp_path / "run", deadline=2.0)
    assert len(read_lines(tmp_path / "run" / "rounds.jsonl")) == 1
    run_on(grid, tmp_path / "run", resume=True)
    same_run(plain, tmp_path / "run")


def test_a_round_closes_once_nobody_can_answer_any_more(tmp_path: Path) -> None:
    """Not at its deadline: with the reason of each, told as it came."""
    grid, context = served(tmp_path / "run", deadline=60.0)
    for number in range(3):
        grid.faults[(number, "masks 1")] = lambda g, request, answer: told(
            request, node=messages.content(answer)["node"], failed="disk full"
        )
    began = time.monotonic()
    with pytest.raises(MPFLError, match=r"node 0: disk full; node 1: disk full; node 2: disk full"):
        server.serve(grid, context)
    assert time.monotonic() - began < 30
    asked, *said = read_answers(tmp_path / "run")
    assert (asked.group, asked.node) == ("masks 1", None)
    assert [str(each) for each in said] == [f"masks 1, node {n}: disk full" for n in range(3)]


@pytest.mark.parametrize("node_config", [{}, {"partition-id": 3}])
def test_nodes_without_a_number_of_the_run_say_so(
    node_config: dict[str, Any], tmp_path: Path
) -> None:
    grid, context = served(tmp_path / "run", deadline=60.0)
    for each in grid.contexts.values():
        each.node_config = dict(node_config)
    with pytest.raises(MPFLError, match=r"partition-id is .*, but the run's nodes are 0 to 2"):
        server.serve(grid, context)
    assert [each.node for each in read_answers(tmp_path / "run")] == [None, -1, -1, -1]


def test_a_round_stays_open_for_a_node_that_the_engine_lost(plain: Path, tmp_path: Path) -> None:
    """It is asked again if it comes back, under the number that its key gives it."""
    grid = Loopback(3)
    lost = Error(ErrorCode.NODE_UNAVAILABLE, "no heartbeat")
    for number in (1, 2):
        grid.faults[(number, "masks 2")] = lambda g, request, answer: Message(
            lost, reply_to=request
        )
    run_on(grid, tmp_path / "run")
    same_run(plain, tmp_path / "run")


def test_what_was_heard_is_read_without_a_line_that_a_kill_cut_off(tmp_path: Path) -> None:
    tell = answers.recorder(tmp_path)
    tell("masks 1", None, 0, "")
    tell("masks 1", 2, 300, "")
    log = tmp_path / answers.FILE
    log.write_text(log.read_text() + '{"at": 1.0, "gr')
    assert [(each.node, each.length) for each in read_answers(tmp_path)] == [(None, 0), (2, 300)]
    assert read_answers(tmp_path / "nowhere") == []


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)


@pytest.mark.usefixtures("full_disk")
def test_a_full_disk_is_said_with_its_place(tmp_path: Path) -> None:
    (tmp_path / answers.FILE).symlink_to("/dev/full")
    says = r"/answers\.jsonl: no space left on device; free some space"
    with pytest.raises(MPFLError, match=says), server.refused_files_named():
        answers.recorder(tmp_path)("masks 1", 0, 9, "")
    out = tmp_path / "run"
    with pytest.raises(MPFLError, match=r"run/config\.json: no space left on device; free some"):
        server.serve(*served(out))


def test_an_error_of_the_engine_is_not_taken_for_one_of_a_disk() -> None:
    with pytest.raises(ConnectionResetError), server.refused_files_named():
        raise ConnectionResetError(errno.ECONNRESET, "Connection reset by peer")


def test_why_a_run_ended_is_said_though_its_log_cannot_be_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Engine(tmp_path, "fleet", "control", secure=False)
    (tmp_path / "server.log").symlink_to("/dev/full")
    monkeypatch.setattr(launch, "status", lambda engine, run: "finished:failed")
    for log, error, says in (
        (
            "x\nmpfl.types.MPFLError: run/a: no space left",
            MPFLError,
            "failed: run/a: no space left",
        ),
        (
            "Traceback\nMemoryError: 9 bytes\nExit: 7",
            Broken,
            r"failed \(MemoryError: 9 bytes\); see",
        ),
        ("Exit Code: 7", Broken, "failed; see"),
    ):
        logged = subprocess.CompletedProcess([], 0, log, "")
        monkeypatch.setattr(subprocess, "run", lambda *words, logged=logged, **how: logged)
        with pytest.raises(error, match=says):
            launch.wait(engine, "7", 1)


@pytest.mark.parametrize("quorum", [-1, 4])
def test_a_quorum_that_cannot_be_is_refused(quorum: int, tmp_path: Path) -> None:
    with pytest.raises(MPFLError, match="there are 3 nodes"):
        run_on(Loopback(3), tmp_path / "run", quorum=quorum)


def test_the_settings_of_the_shell_hold_wherever_they_are_copied(tmp_path: Path) -> None:
    prepare(tmp_path / "keys", ["server.example"], 2)
    copy = tmp_path / "another machine" / "keys"
    copy.mkdir(parents=True)
    shutil.copy(tmp_path / "keys" / "environment", copy)
    script = 'source "$1/environment" && echo "$FLWR_HOME" "$FLWR_TELEMETRY_ENABLED"'
    words = ["bash", "-c", script, "bash", str(copy)]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[0] == f"{copy} 0"


@pytest.mark.parametrize(
    "value",
    [
        "plain",
        "it's",
        'a "run"',
        "C:\\Users\\new",
        "a b=c d",
        "🙂 é",
        "a\n\tb",
        0.5,
        3,
        True,
        1e999,
    ],
)
def test_flower_reads_a_setting_as_it_was(value: str | float) -> None:
    from flwr.common.config import parse_config_args

    line = f"first=1 key={as_toml(value)} last=2"
    assert parse_config_args([line]) == {"first": 1, "key": value, "last": 2}


@pytest.mark.parametrize(
    ("host", "says"),
    [
        ("a.example:9092", "an IP address alone"),
        ("https://a.example", "an IP address alone"),
        ("[::1]", "an IP address alone"),
        ("", "an IP address alone"),
        ("a b", "an IP address alone"),
        (".", "an IP address alone"),
        ("a..b", "an IP address alone"),
        ("-a", "an IP address alone"),
        ("1.2.3", "an IP address alone"),
        ("10.0.0.1/8", "an IP address alone"),
        ("a" * 64, "an IP address alone"),
        ("münchen.example", "give its ASCII form, xn--mnchen-3ya.example"),
    ],
)
def test_a_host_that_no_node_could_ask_for_is_refused(
    host: str, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "keys"
    assert flower(["keys", str(folder), f"--host={host}", "--nodes", "1"]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"mpfl: host {host!r} is no name")
    assert says in said and said.count("\n") == 1
    assert not folder.exists()


@pytest.mark.parametrize(
    "host",
    ["localhost", "a.example", "a_b-1.example", "*.example", "10.0.0.7", "::1", "3d.example"],
)
def test_a_host_by_its_name_or_address(host: str, tmp_path: Path) -> None:
    assert flower(["keys", str(tmp_path / "keys"), "--host", host, "--nodes", "1"]) == 0


@pytest.mark.parametrize("count", ["0", "-1", "x", "1.5"])
def test_keys_are_for_a_node_at_least(
    count: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "keys"
    try:
        status: object = flower(["keys", str(folder), "--host", "a.example", "--nodes", count])
    except SystemExit as stopped:
        status = stopped.code
    said = capsys.readouterr().err
    assert status == 2 and said.startswith("mpfl: ") and said.count("\n") == 1
    assert not folder.exists()


def test_a_folder_whose_name_is_no_text_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / os.fsdecode(b"\xff")
    assert flower(["keys", str(folder), "--host", "a.example", "--nodes", "1"]) == 2
    assert "is not UTF-8" in capsys.readouterr().err
    assert flower(["simulation", "digits", "--out", str(folder)]) == 2
    assert "is not UTF-8" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("w0=a;nodes=1", "--set w0=a;nodes=1: a ';' parts one setting from the next"),
        ("nodes=3;", "--set nodes=3;: a ';' parts"),
        (" ", "--set ' ': write it as field=value"),
    ],
)
@pytest.mark.parametrize("kind", ["simulation", "deployment", "check"])
def test_one_set_is_one_setting(
    kind: str, change: str, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert flower([kind, "digits", "--set", "rounds=2", "--set", change]) == 2
    told = capsys.readouterr()
    assert told.out == "" and told.err.startswith(f"mpfl: {says}") and told.err.count("\n") == 1


def test_sockets_have_short_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine(tmp_path, "", "", secure=False)
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    monkeypatch.setattr(tempfile, "gettempdir", lambda: "/tmp")
    assert "RAY_TMPDIR" not in engine.environment
    monkeypatch.setattr(tempfile, "gettempdir", lambda: "/tmp/" + "long/" * 20)
    assert engine.environment["RAY_TMPDIR"] == "/tmp"
    monkeypatch.setenv("RAY_TMPDIR", "/mine")
    assert engine.environment["RAY_TMPDIR"] == "/mine"


@pytest.mark.parametrize(
    ("shell", "direct"),
    [
        ({}, set()),
        ({"no_proxy": "a.example"}, {"a.example"}),
        ({"NO_PROXY": ".b.example, localhost"}, {".b.example"}),
        ({"no_proxy": "a.example", "NO_PROXY": ".b.example"}, {"a.example", ".b.example"}),
    ],
)
def test_no_proxy_stands_between_processes_of_one_machine(
    shell: dict[str, str], direct: set[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the shell named stays named, whichever name a program reads."""
    for name in ("no_proxy", "NO_PROXY", "no_grpc_proxy"):
        monkeypatch.delenv(name, raising=False)
    for name, hosts in shell.items():
        monkeypatch.setenv(name, hosts)
    wanted = sorted(direct | {"127.0.0.1", "localhost", "::1"})
    engine = Engine(tmp_path, "", "", secure=False)
    for name in ("no_proxy", "NO_PROXY"):
        assert sorted(engine.environment[name].split(",")) == wanted
    assert "no_grpc_proxy" not in engine.environment
    monkeypatch.setenv("no_grpc_proxy", "c.example")
    assert engine.environment["no_grpc_proxy"] == "c.example,127.0.0.1,localhost,::1"

    # And so in the shell of another machine.
    prepare(tmp_path / "keys", ["server.example"], 1)
    script = 'source "$1/environment" && echo "$no_proxy" && echo "$NO_PROXY"'
    words = ["bash", "-c", script, "bash", str(tmp_path / "keys")]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    for line in done.stdout.splitlines():
        assert {host.strip() for host in line.split(",")} == set(wanted)


@pytest.mark.parametrize("method", ["pruning-fl", "released-fl", "lth", "lottery"])
def test_a_method_that_does_not_run_between_machines_is_refused(method: str) -> None:
    with pytest.raises(MPFLError, match="does not run between machines"):
        experiment_of({**CONFIG, "recipe": f"digits-{method}"})


# ---- The engine itself -----------------------------------------------------------------


def submit(engine: Engine, out: Path, **changes: Any) -> str:
    config = {**CONFIG, "root": str(Path("data").resolve()), "out": str(out), **changes}
    return launch.submit(engine, config)


def log_of(engine: Engine, name: str) -> str:
    return (engine.folder / f"{name}.log").read_text(errors="replace")


def wait_until(happened: Callable[[], bool], seconds: float) -> None:
    until = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < until, "it did not happen"
        time.sleep(0.2)


def unpacked_bundle(folder: Path) -> Path:
    """What ``flwr build`` makes of the checkout, unpacked: all that Flower needs of the app."""
    folder.mkdir()
    build = [str(command("flwr")), "build", "--app", str(launch.APP)]
    subprocess.run(build, cwd=folder, env=os.environ | QUIET, check=True, capture_output=True)
    (packed,) = folder.glob("*.fab")
    with zipfile.ZipFile(packed) as archive:
        archive.extractall(folder / "app")
    assert not list((folder / "app").rglob("*.py"))  # nodes and server have mpfl installed
    return folder / "app"


@pytest.mark.slow
def test_a_deployment_is_the_simulation_bit_for_bit_and_refuses_a_stranger(
    plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And its app may come from a bundle, in a folder that is no checkout."""
    root = Path("data").resolve()
    monkeypatch.setattr(launch, "APP", unpacked_bundle(tmp_path / "bundle"))
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")  # nobody there: what asks it fails
    tmp_path /= 'it\'s a "folder" \\ 🙂'
    with launch.superlink(tmp_path / "engine", simulation=False) as engine:
        unknown = make_node_key(engine.folder, "stranger").with_suffix(".key")
        stranger = launch.start_node(engine, "stranger", unknown, 0, root, retries=2)
        for number in range(3):
            launch.add_node(engine, number, root)
        launch.wait(engine, submit(engine, tmp_path / "run"), 300)
        assert stranger.wait(120) != 0
        assert "Failed to activate SuperNode" in log_of(engine, "stranger")
        assert len(engine.flwr("supernode", "list", "here")["nodes"]) == 3
        processes = list(engine.processes.values())
    assert all(process.poll() is not None for process in processes), "none is left"
    same_run(plain, tmp_path / "run")
    told = read_json(tmp_path / "run" / "nodes.json")
    assert told["left_out"] == {}
    assert sum(each["images"] for each in told["accuracy"].values()) == 150
