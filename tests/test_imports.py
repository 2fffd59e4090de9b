"""What `import mpfl` costs: the core must run where torch is not installed."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
CONTRACTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"][
    "contracts"
]
CORE = next(contract for contract in CONTRACTS if contract["type"] == "forbidden")


@pytest.mark.parametrize("module", ["mpfl", *CORE["source_modules"]])
def test_core_module_loads_alone(module: str) -> None:
    heavy = CORE["forbidden_modules"]
    program = f"import sys, {module}; print(*sorted(set({heavy}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [], f"import {module} also loads {done.stdout.strip()}"
