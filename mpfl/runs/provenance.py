"""What made a result: command, commit, versions, machine."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

EDITION = 2
"""Raised whenever a run may end with other digits than before, or its record has other fields.

Runs of one edition repeat bit for bit on one kind of processor, with one version of torch. Records
made before there were editions do not say any.
"""

PACKAGE = Path(__file__).resolve().parents[1]
"""The folder of ``mpfl``: what is run."""


def provenance(command: str) -> dict[str, Any]:
    """What made a result: command, commit, versions, machine."""
    found = {}
    for package in ("mpfl", "torch", "torchvision", "numpy", "safetensors"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return {
        "command": command,
        "edition": EDITION,
        "commit": _commit(),
        "python": platform.python_version(),
        "versions": found,
        "machine": {
            "cpu": _cpu(),
            "instructions": torch.backends.cpu.get_cpu_capability(),
            "cores": os.cpu_count(),
            "system": platform.system(),
        },
    }


def _commit() -> str:
    """The checkout's commit, with ``+`` if tracked files of the package differ from it."""

    def ask(*words: str) -> str:
        git = ["git", "-C", str(PACKAGE), *words]
        return subprocess.run(
            git, capture_output=True, text=True, errors="replace", check=True
        ).stdout.strip()

    try:
        return ask("rev-parse", "--short=12", "HEAD") + ("+" if ask("diff", "HEAD", ".") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
