"""Whether a machine is ready for a run: what is said of it, good and bad."""

from __future__ import annotations

import datetime
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Thread

import pytest

pytest.importorskip("flwr", reason="the engine is not installed")

from test_flower import CONFIG

from mpfl.flower import check, machines
from mpfl.flower.__main__ import main as flower
from mpfl.flower.check import findings
from mpfl.flower.machines import prepare
from mpfl.types import MPFLError


def today() -> datetime.datetime:
    """Not the moment this file was imported: certificates are made later."""
    return datetime.datetime.now(datetime.UTC)


@pytest.fixture
def keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(check, "longest_of", lambda config: 1000)
    prepare(tmp_path / "keys", ["server.example"], 1)
    return tmp_path / "keys"


@contextmanager
def serving(keys: Path) -> Iterator[str]:
    """A server with these certificates, for one connection."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(keys / "server.crt", keys / "server.key")

    def serve(plain: socket.socket) -> None:
        with plain.accept()[0] as one, suppress(OSError):
            context.wrap_socket(one, server_side=True).close()

    with socket.create_server(("127.0.0.1", 0)) as plain:
        thread = Thread(target=serve, args=[plain])
        thread.start()
        yield f"127.0.0.1:{plain.getsockname()[1]}"
        thread.join(10)


def test_a_machine_that_is_ready(keys: Path) -> None:
    with serving(keys) as server:
        found = list(findings(CONFIG, keys, server, today()))
    assert [each.what for each in found] == [
        "versions", "data", "ca.crt", "clock", "server.crt", "server.key", "private keys", "port"
    ]  # fmt: skip
    assert all(each.good for each in found), "\n".join(map(str, found))
    assert "server.example, localhost, 127.0.0.1" in found[4].seen


def test_another_server_is_not_ours(keys: Path, tmp_path: Path) -> None:
    prepare(tmp_path / "others", ["server.example"], 1)
    with serving(tmp_path / "others") as server:
        *_, port = findings(CONFIG, keys, server, today())
    assert not port.good and "certificate" in port.seen


SERVERS = ["127.0.0.1:1", "127.0.0.1", ":9092", "a:b", "127.0.0.1:99999", "a\nb:1", "\udcff:1"]
SERVERS += [f"{'a' * 70}.example:1", "a..b:1", ".a:1", f"127.0.0.1:{'9' * 5000}"]


@pytest.mark.parametrize("server", SERVERS)
def test_where_nobody_answers_is_said(server: str, keys: Path) -> None:
    *_, port = findings(CONFIG, keys, server, today())
    assert (port.what, port.good) == ("port", False)
    assert "\n" not in str(port)
    if server == "127.0.0.1:1":
        says = "connection refused; start the server there and open its port"
        assert port.seen == f"{server}: {says}"


def test_a_certificate_that_is_not_the_servers(keys: Path, tmp_path: Path) -> None:
    prepare(tmp_path / "others", ["server.example"], 1)
    for other, says in (
        (keys / "ca.crt", "names no host"),
        (tmp_path / "others" / "server.crt", f"was not signed by {keys / 'ca.crt'}"),
    ):
        (keys / "server.crt").write_bytes(other.read_bytes())
        bad = [each for each in findings(CONFIG, keys, None, today()) if not each.good]
        assert [each.what for each in bad] == ["server.crt", "server.key"]
        assert says in bad[0].seen


def bad_ones(keys: Path) -> dict[str, str]:
    """What is to be mended here, and why."""
    return {each.what: each.seen for each in findings(CONFIG, keys, None, today()) if not each.good}


def test_a_server_key_that_is_not_the_certificates(keys: Path, tmp_path: Path) -> None:
    prepare(tmp_path / "others", ["server.example"], 1)
    key, whole = keys / "server.key", (keys / "server.key").read_bytes()
    key.write_bytes((tmp_path / "others" / "server.key").read_bytes())
    assert bad_ones(keys) == {
        "server.key": f"{key}: is not the key of {keys / 'server.crt'}; copy both from one folder"
    }
    for damaged in (whole[:100], b"", b"\xff"):
        key.write_bytes(damaged)
        assert bad_ones(keys)["server.key"].startswith(f"{key}: cannot be read (")
    key.unlink()
    assert list(bad_ones(keys)) == ["server.key"]
    key.write_bytes(whole)
    key.chmod(0o600)
    assert bad_ones(keys) == {}


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o602])
def test_a_private_key_that_others_can_read(mode: int, keys: Path) -> None:
    (keys / "node0.key").chmod(mode)
    says = f"{keys / 'node0.key'}: others can read it or write to it (mode {mode:04o})"
    assert bad_ones(keys) == {"private keys": f"{says}; chmod 600 {keys}/*.key"}
    (keys / "server.key").chmod(mode)
    assert ", and 1 more; chmod 600" in bad_ones(keys)["private keys"]


def test_a_node_has_no_key_of_the_server(keys: Path) -> None:
    for name in ("server.crt", "server.key"):
        (keys / name).unlink()
    found = list(findings(CONFIG, keys, None, today()))
    assert [each.what for each in found][-2:] == ["clock", "private keys"]
    assert found[-1].seen == "1, for their owner alone" and all(each.good for each in found)


@pytest.mark.parametrize("name", ["node0.key", "server.key", "environment", "ca.crt"])
def test_keys_are_not_written_over(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / name).write_text("precious")
    assert flower(["keys", str(tmp_path), "--host", "server.example", "--nodes", "1"]) == 2
    assert capsys.readouterr().err == f"mpfl: {tmp_path}: is not empty; choose another folder\n"
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {name: "precious"}


def test_half_a_set_of_keys_does_not_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(engine: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(machines, "write_connection", full)
    with pytest.raises(OSError, match="no space"):
        prepare(tmp_path / "keys", ["server.example"], 2)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "words",
    [
        ["keys", "loop", "--host", "server.example", "--nodes", "1"],
        ["check", "digits", "--root", "loop"],
        ["simulation", "digits", "--out", "loop"],
        ["deployment", "digits", "--root", "loop"],
    ],
)
def test_a_link_to_itself_is_refused(
    words: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("loop").symlink_to("loop")
    assert flower(words) == 2
    told = capsys.readouterr()
    assert told == ("", "mpfl: loop: is a link that leads back to itself; choose another\n")
    assert [path.name for path in tmp_path.iterdir()] == ["loop"]


@pytest.mark.parametrize(
    ("days", "bad"),
    [(340, {"ca.crt", "server.crt"}), (400, {"ca.crt", "server.crt"}), (-1, {"clock"})],
)
def test_the_time_of_the_certificates(days: int, bad: set[str], keys: Path) -> None:
    found = findings(CONFIG, keys, None, today() + datetime.timedelta(days=days))
    assert {each.what for each in found if not each.good} == bad


def test_what_cannot_be_read_is_named(keys: Path) -> None:
    (keys / "ca.crt").write_text("no certificate")
    bad = [each for each in findings(CONFIG, keys, None, today()) if not each.good]
    assert [each.what for each in bad] == ["ca.crt"] and str(keys / "ca.crt") in bad[0].seen


def test_the_command_says_it_a_line_each(
    keys: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["check", "digits", "--keys", str(keys)]
    assert flower(words) == 0
    assert [line[:4] for line in capsys.readouterr().out.splitlines()] == ["ok  "] * 7

    def missing(config: object) -> int:
        raise MPFLError("data: no data set cifar10; get it")

    monkeypatch.setattr(check, "longest_of", missing)
    assert flower(words) == 2
    told = capsys.readouterr()
    assert "MEND  data: data: no data set cifar10; get it" in told.out
    assert told.err == "mpfl: not ready: data\n"
