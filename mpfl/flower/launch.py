"""Every process of a Flower run on this machine: started, watched, stopped.

A *simulation* is one server process with virtual nodes (Ray). A *deployment* is what runs
between machines too: a SuperLink and SuperNodes, with TLS and a key for each node.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from mpfl.flower.engine import Engine, command
from mpfl.flower.environment import FLOWERS_OWN
from mpfl.flower.guard import MARK, guarded
from mpfl.flower.keys import make_certificates, make_node_key
from mpfl.flower.restart import Broken
from mpfl.flower.values import as_toml
from mpfl.types import MPFLError

APP = Path(__file__).resolve().parents[2]
"""The folder whose ``pyproject.toml`` tells Flower what the app is: the checkout."""

CONTROL = "127.0.0.1:8000"
"""Where runs are submitted, unless said otherwise; never to be reachable from outside."""

STARTED = 60.0
"""Seconds that a server may take to listen."""


def require_engine() -> None:
    """Refuse to begin if Flower, or the folder that tells it what the app is, is not here."""
    import flwr  # noqa: F401  its commands are started as processes, which would say less

    about = APP / "pyproject.toml"
    if not about.is_file() or "[tool.flwr.app" not in about.read_text(encoding="utf-8"):
        raise MPFLError(
            f"{APP}: is no checkout of mpfl, and Flower reads its pyproject.toml; install it from "
            "a checkout, as editable (pip install --editable)"
        )


def require_plain(*folders: Path) -> None:
    """Refuse a path that no setting can carry, because its bytes are not text."""
    for folder in folders:
        try:
            str(folder).encode()
        except UnicodeEncodeError:
            raise MPFLError(
                f"{str(folder)!a}: is not UTF-8; choose a folder whose path is"
            ) from None


def resolved(path: Path) -> Path:
    """The absolute path of a file or folder; refuses a link that leads back to itself."""
    try:
        return path.resolve()
    except RuntimeError:  # newer Pythons leave it to whoever opens the path
        raise MPFLError(f"{path}: is a link that leads back to itself; choose another") from None


@contextmanager
def superlink(folder: Path, *, simulation: bool, longest: int = FLOWERS_OWN) -> Iterator[Engine]:
    """A running server; with everything else that was started, ended at the end.

    It takes messages of up to ``longest`` bytes from nodes. Raises
    :class:`~mpfl.flower.restart.Broken` for what goes wrong once it was ended from outside.
    """
    folder.mkdir(parents=True, exist_ok=True)
    fleet, control = (f"127.0.0.1:{_free_port()}" for _ in range(2))
    words = [Path(sys.executable).name, "-m", "mpfl.flower.superlink", "--longest", str(longest)]
    words += ["--disable-runtime-dependency-installation"]
    host, _, number = control.rpartition(":")
    words += ["--host", host, "--port", number, "--fleet-api-address", fleet]
    if simulation:
        words += ["--insecure", "--simulation"]
    else:
        if not (folder / "server.crt").exists():
            make_certificates(folder, ["localhost", "127.0.0.1"])
        for part in ("ssl-ca-certfile=ca.crt", "ssl-certfile=server.crt", "ssl-keyfile=server.key"):
            option, _, file = part.partition("=")
            words += [f"--{option}", str(folder / file)]
        words += ["--enable-supernode-auth"]
    engine = Engine(folder, fleet, control, secure=not simulation)
    write_connection(engine)
    try:
        with guarded() as engine.mark:
            server = engine.start("superlink", words)
            _wait_until_it_listens(engine, server)
            try:
                yield engine
            except MPFLError:
                if (ended := server.poll()) is None:
                    raise
                how = f"by signal {-ended}" if ended < 0 else f"with status {ended}"
                raise Broken(
                    f"the server was ended {how}; see {folder / 'superlink.log'}"
                ) from None
    finally:
        for process in engine.processes.values():
            process.wait()


def write_connection(engine: Engine) -> None:
    """Tell Flower's own commands where ``here`` is."""
    certificate = as_toml(str(engine.folder / "ca.crt"))
    how = f"root-certificates = {certificate}" if engine.secure else "insecure = true"
    lines = ["[superlink]", 'default = "here"', "[superlink.here]", f'address = "{engine.control}"']
    (engine.folder / "config.toml").write_text("\n".join([*lines, how]) + "\n")


def longest_of(config: Mapping[str, Any]) -> int:
    """The longest message of a run with these settings, in bytes.

    Another process works it out, as that loads torch, which stays in memory.

    Raises :class:`~mpfl.types.MPFLError` for what the run itself would refuse, such as data
    that are not there.
    """
    words = [sys.executable, "-m", "mpfl.flower.longest", json.dumps(dict(config))]
    with guarded() as mark:
        done = subprocess.run(
            words, env={**os.environ, MARK: mark}, capture_output=True, text=True, errors="replace"
        )
    if done.returncode:
        raise MPFLError(done.stderr.strip().splitlines()[-1].removeprefix("mpfl: "))
    return int(done.stdout)


def add_node(engine: Engine, node: int, root: Path) -> None:
    """A SuperNode for node ``node`` of the run, with a key that the server is told of."""
    name, folder = f"node{node}", engine.folder
    public = folder / f"{name}.pub"
    if not public.exists():
        make_node_key(folder, name)
    engine.flwr("supernode", "register", str(public), "here")
    start_node(engine, name, folder / f"{name}.key", node, root)


def start_node(
    engine: Engine,
    name: str,
    key: Path,
    node: int,
    root: Path,
    *,
    retries: int | None = None,
) -> subprocess.Popen[bytes]:
    """The process of a node that holds ``key``, whether the server knows it or not.

    If it is not let in, it tries again, ``retries`` times or for ever.
    """
    config = f"partition-id={node} root={as_toml(str(root))}"
    words = ["flower-supernode", "--superlink", engine.fleet, "--node-config", config]
    words += ["--root-certificates", str(engine.folder / "ca.crt")]
    words += ["--auth-supernode-private-key", str(key), "--port", str(_free_port())]
    if retries is not None:
        words += ["--max-retries", str(retries)]
    return engine.start(name, words)


def submit(engine: Engine, config: Mapping[str, Any], *, nodes: int | None = None) -> str:
    """Start a run of the app and return Flower's number of it; ``nodes`` virtual ones."""
    words = ["run", str(APP), "here"]
    for key, value in config.items():
        words += ["--run-config", f"{key}={as_toml(value)}"]
    if nodes is not None:
        virtual = f"num-supernodes={nodes} client-resources-num-cpus=1"
        words += ["--federation-config", f"{virtual} init-args-num-cpus={os.cpu_count()}"]
    return str(engine.flwr(*words)["run-id"])


def status(engine: Engine, run: str) -> str:
    """The state of a run: ``pending``, ``starting``, ``running``, or ``finished:`` and how."""
    told = engine.flwr("list", "--run-id", run)
    return str(told["runs"][0]["status"])


def wait(engine: Engine, run: str, seconds: float, look: Callable[[], None] = lambda: None) -> None:
    """Until the run has ended well; raises with the server's last words if it did not.

    ``look`` is called now and then meanwhile. Raises
    :class:`~mpfl.flower.restart.Broken` if the run did not end by itself.
    """
    until = time.monotonic() + seconds
    while not (now := status(engine, run)).startswith("finished"):
        if time.monotonic() > until:
            raise MPFLError(f"the run is still {now} after {seconds:g} s; see {engine.folder}")
        for _ in range(5):  # asking Flower starts a process
            look()
            time.sleep(1)
    look()
    if now != "finished:completed":
        log = server_log(engine, run)
        if told := last_words(log):
            raise MPFLError(f"the run ended as {now}: {told}")
        raised = f" ({why})" if (why := last_error(log)) else ""
        raise Broken(f"the run ended as {now}{raised}; see {engine.folder / 'server.log'}")


def server_log(engine: Engine, run: str) -> str:
    """What the server's part of a run said, also kept in ``server.log`` if there is room."""
    logged = subprocess.run(
        [str(command("flwr")), "log", run, "here", "--show"],
        env=engine.environment,
        capture_output=True,
        text=True,
        errors="replace",
    )
    with suppress(OSError):  # why the run ended may be that the disk is full
        (engine.folder / "server.log").write_text(logged.stdout + logged.stderr)
    return logged.stdout


def last_words(log: str) -> str:
    """Why the server's part of a run ended, in our words; empty if its log has none.

    >>> last_words("Traceback\\nmpfl.types.MPFLError: out is 'a'; give an absolute path")
    "out is 'a'; give an absolute path"
    """
    lines = log.splitlines()
    told = [line.partition("MPFLError: ")[2] for line in lines if "MPFLError: " in line]
    return told[-1] if told else ""


def last_error(log: str) -> str:
    """The last error that a log shows, whoever raised it; empty if there is none.

    >>> last_error("Traceback\\n  import torch\\nImportError: failed to map\\nExit Code: 607")
    'ImportError: failed to map'
    """
    raised = re.findall(r"^[\w.]+(?:Error|Exception): .*", log, re.MULTILINE)
    return raised[-1].strip() if raised else ""


def command_of(words: Sequence[str]) -> str:
    """The command that a reader gives for the same run."""
    return shlex.join(["python", "-m", "mpfl.flower", *words])


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_until_it_listens(engine: Engine, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + STARTED
    for address in (engine.control, engine.fleet) if engine.secure else (engine.control,):
        host, _, port = address.rpartition(":")
        while True:
            if process.poll() is not None or time.monotonic() > until:
                raise MPFLError(f"the server did not start; see {engine.folder / 'superlink.log'}")
            try:
                socket.create_connection((host, int(port)), timeout=1).close()
                break
            except OSError:
                time.sleep(0.2)
