"""Certificates and keys for a run on one machine or between several.

One certificate authority signs the server's certificate; nodes trust it and prove who they are
by keys of their own, which are registered at the server.
"""

from __future__ import annotations

import datetime
import ipaddress
import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from mpfl.types import MPFLError

DAYS = 365


def make_certificates(folder: Path, hosts: Sequence[str]) -> None:
    """``ca.crt``, and ``server.crt`` with ``server.key`` for these names and IP addresses.

    The authority's own key is not kept: nobody can sign another certificate with it.
    """
    authority, server = (
        ec.generate_private_key(ec.SECP256R1()),
        ec.generate_private_key(ec.SECP256R1()),
    )
    root = _certificate("mpfl authority", authority, "mpfl authority", authority.public_key(), [])
    own = _certificate("mpfl authority", authority, "mpfl server", server.public_key(), hosts)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "ca.crt").write_bytes(root.public_bytes(serialization.Encoding.PEM))
    _write_key(folder / "server.key", server, serialization.PrivateFormat.PKCS8)
    # The last of the three: where it is, so are the others.
    (folder / "server.crt").write_bytes(own.public_bytes(serialization.Encoding.PEM))


def make_node_key(folder: Path, name: str) -> Path:
    """``NAME.key`` for the node and ``NAME.pub`` for the server; returns the public one."""
    folder.mkdir(parents=True, exist_ok=True)
    key = ec.generate_private_key(ec.SECP384R1())
    _write_key(folder / f"{name}.key", key, serialization.PrivateFormat.OpenSSH)
    public = folder / f"{name}.pub"
    public.write_bytes(
        key.public_key().public_bytes(
            serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
        )
    )
    return public


def _certificate(
    issuer: str,
    signer: ec.EllipticCurvePrivateKey,
    subject: str,
    public: ec.EllipticCurvePublicKey,
    hosts: Sequence[str],
) -> x509.Certificate:
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .issuer_name(_name(issuer))
        .subject_name(_name(subject))
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))  # clocks differ
        .not_valid_after(now + datetime.timedelta(days=DAYS))
        .add_extension(x509.BasicConstraints(ca=not hosts, path_length=None), critical=True)
    )
    if hosts:
        names = x509.SubjectAlternativeName([_host(host) for host in hosts])
        made = made.add_extension(names, critical=False)
    return made.sign(signer, hashes.SHA256())


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


# One part of a host's name; the last one has a letter, else it would be a part of a number.
_PART = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_NAME = re.compile(rf"(?:\*\.)?(?:{_PART}\.)*(?=[^.]*[A-Za-z]){_PART}")


def _host(text: str) -> x509.GeneralName:
    """A name or an address as a certificate holds it.

    Raises :class:`~mpfl.types.MPFLError` for a name by which no node could reach the server.
    """
    with suppress(ValueError):
        return x509.IPAddress(ipaddress.ip_address(text))
    if len(text) <= 253 and _NAME.fullmatch(text):
        return x509.DNSName(text)
    remedy = "give a name or an IP address alone, such as server.example or 10.0.0.7"
    if not text.isascii():
        with suppress(UnicodeError):
            remedy = f"give its ASCII form, {text.encode('idna').decode()}"
    raise MPFLError(f"host {text!r} is no name that a node could ask for; {remedy}")


def _write_key(
    path: Path, key: ec.EllipticCurvePrivateKey, form: serialization.PrivateFormat
) -> None:
    content = key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
    path.touch(mode=0o600)
    path.write_bytes(content)
