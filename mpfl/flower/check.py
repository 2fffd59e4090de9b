"""Whether a machine is ready for a run: versions, data, certificates, keys, port; one line each."""

from __future__ import annotations

import datetime
import os
import platform
import re
import socket
import ssl
import stat
from collections.abc import Iterator, Mapping
from contextlib import suppress
from importlib.metadata import requires, version
from pathlib import Path
from typing import Any, NamedTuple

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization

from mpfl.flower.config import experiment_of
from mpfl.flower.launch import longest_of
from mpfl.show.one_line import mended
from mpfl.types import MPFLError, one_line

SOON = 30
"""Days before its end from which a certificate is to be renewed."""


class Checked(NamedTuple):
    """One thing that was looked at, whether it is as it should be, and what was seen."""

    what: str
    good: bool
    seen: str

    def __str__(self) -> str:
        """In one line."""
        seen = one_line(self.seen)
        return f"{'ok  ' if self.good else 'MEND'}  {self.what}: {seen}"


def findings(
    config: Mapping[str, Any], keys: Path | None, server: str | None, now: datetime.datetime
) -> Iterator[Checked]:
    """What a run with ``config`` needs here, one after the other.

    With ``keys``, a folder that holds ``ca.crt``, its certificates and keys and the clock too; with
    ``server``, as HOST:PORT, whether that server answers and is the one that they name.
    """
    yield _versions()
    yield _data(config)
    if keys is not None:
        yield from _certificates(keys, now)
        yield from _private_keys(keys)
    if server is not None:
        yield _port(server, None if keys is None else keys / "ca.crt")


def _versions() -> Checked:
    here = version("flwr")
    pins = [re.search(r"flwr.*==([\d.]+)", line) for line in requires("mpfl") or []]
    due = next((pin[1] for pin in pins if pin), here)
    seen = f"mpfl {version('mpfl')}, flwr {here}, Python {platform.python_version()}"
    return Checked("versions", here == due, seen if here == due else f"{seen}; flwr {due} is due")


def _data(config: Mapping[str, Any]) -> Checked:
    try:
        dataset, longest = experiment_of(config).dataset, longest_of(config)
    except MPFLError as error:
        return Checked("data", False, str(error))
    return Checked("data", True, f"{dataset} is there; no message is longer than {longest} bytes")


def _certificates(keys: Path, now: datetime.datetime) -> Iterator[Checked]:
    clock = f"{now:%Y-%m-%d %H:%M} UTC"
    for name in ("ca.crt", "server.crt"):
        path = keys / name
        if name == "server.crt" and not path.exists():
            continue  # a node has none
        try:
            made = x509.load_pem_x509_certificate(path.read_bytes())
        except (OSError, ValueError) as error:
            yield Checked(name, False, f"{path}: cannot be read ({error})")
            continue
        left = (made.not_valid_after_utc - now).days
        good, seen = left >= SOON, f"until {made.not_valid_after_utc:%Y-%m-%d}, {left} days"
        if name == "server.crt":
            if wrong := _not_the_servers(made, keys):
                yield Checked(name, False, f"{path}: {wrong}; copy it again from the server's keys")
                continue
            names = made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
            seen += f", for {', '.join(str(each.value) for each in names)}"
        yield Checked(name, good, seen)
        if name == "ca.crt":
            early = now < made.not_valid_before_utc
            yield Checked("clock", not early, f"{clock}{', before the certificate' * early}")


def _not_the_servers(made: x509.Certificate, keys: Path) -> str:
    """Why this is not the certificate with which the server is believed; empty if it is."""
    try:
        made.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return "names no host, as a server's does"
    with suppress(OSError, ValueError):  # an authority that cannot be read was told of before
        authority = x509.load_pem_x509_certificate((keys / "ca.crt").read_bytes())
        try:
            made.verify_directly_issued_by(authority)
        except (InvalidSignature, TypeError, ValueError):
            return f"was not signed by {keys / 'ca.crt'}"
    return ""


def _private_keys(keys: Path) -> Iterator[Checked]:
    """The server's key, if its certificate is there, and who can read each key."""
    if (keys / "server.crt").exists():
        wrong = _not_the_certificates(keys / "server.key", keys / "server.crt")
        yield Checked("server.key", not wrong, wrong or "belongs to server.crt")
    found = sorted(keys.glob("*.key"))
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in found if path.exists()}
    if open_ := [path for path, mode in modes.items() if mode & 0o077 and os.name == "posix"]:
        seen = f"{open_[0]}: others can read it or write to it (mode {modes[open_[0]]:04o})"
        others = f", and {len(open_) - 1} more" if open_[1:] else ""
        yield Checked("private keys", False, f"{seen}{others}; chmod 600 {keys}/*.key")
    elif modes:
        yield Checked("private keys", True, f"{len(modes)}, for their owner alone")


def _not_the_certificates(path: Path, certificate: Path) -> str:
    """Why the server could not start with this key; empty if it can."""
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except (OSError, TypeError, ValueError, UnsupportedAlgorithm) as error:
        return f"{path}: cannot be read ({error}); copy it again from where the keys were made"
    with suppress(OSError, ValueError):  # a certificate that cannot be read was told of before
        due = x509.load_pem_x509_certificate(certificate.read_bytes()).public_key()
        if due != key.public_key():
            return f"{path}: is not the key of {certificate}; copy both from one folder"
    return ""


def _port(server: str, authority: Path | None) -> Checked:
    host, _, port = server.rpartition(":")
    if not (host and port.isdecimal()):
        return Checked("port", False, f"{server!r} is not HOST:PORT")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=10) as plain:
            if authority is None:
                return Checked("port", True, f"{server} takes connections")
            context = ssl.create_default_context(cafile=str(authority))
            context.set_alpn_protocols(["h2"])
            with context.wrap_socket(plain, server_hostname=host.strip("[]")):
                return Checked("port", True, f"{server} is the server of {authority}")
    except OSError as error:
        return Checked("port", False, f"{server}: {mended(error)}")
    except (OverflowError, ValueError) as error:  # no name, no number
        return Checked("port", False, f"{server}: {error}")
