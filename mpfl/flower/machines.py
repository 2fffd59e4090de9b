"""What a deployment on several machines begins with: certificates, keys, settings for the shell."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Sequence
from pathlib import Path

from mpfl.flower.engine import Engine
from mpfl.flower.environment import DIRECT, QUIET
from mpfl.flower.keys import make_certificates, make_node_key
from mpfl.flower.launch import CONTROL, require_plain, write_connection
from mpfl.types import MPFLError, at_least


def prepare(folder: Path, hosts: Sequence[str], nodes: int) -> None:
    """What a deployment on several machines begins with, all in ``folder``.

    The server's certificate for these ``hosts``, a key for each of ``nodes``, and a file
    ``environment`` for the shell. Raises if the folder holds anything: a key that is in use could
    be lost. If not all of it can be written, none of it stays.
    """
    at_least("nodes", nodes, 1)
    require_plain(folder)
    if folder.exists() and any(folder.iterdir()):
        raise MPFLError(f"{folder}: is not empty; choose another folder")
    try:
        _write(folder, hosts, nodes)
    except (MPFLError, OSError):
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _write(folder: Path, hosts: Sequence[str], nodes: int) -> None:
    make_certificates(folder, [*hosts, "localhost", "127.0.0.1"])
    for node in range(nodes):
        make_node_key(folder, f"node{node}")
    write_connection(Engine(folder, "", CONTROL, secure=True))
    lines = [f"export {name}={shlex.quote(value)}" for name, value in QUIET.items()]
    # What the shell names already stays: on another machine that is not what it is here.
    named = "${no_proxy:+,$no_proxy}${NO_PROXY:+,$NO_PROXY}"
    lines += [f'export no_proxy="{",".join(DIRECT)}{named}"', 'export NO_PROXY="$no_proxy"']
    # Wherever the file is copied to: on another machine the folder's name may be another.
    here = 'export FLWR_HOME="$(cd "$(dirname "${BASH_SOURCE[0]:-$0}")" && pwd)"'
    (folder / "environment").write_text("\n".join([*lines, here]) + "\n")
